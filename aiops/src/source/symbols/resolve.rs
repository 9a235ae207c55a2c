//! What the child does: addresses of one request to frames. Runs once per batch, in a process that ends.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::io::BufReader;
use std::io::Write as _;
use std::os::fd::AsRawFd as _;
use std::os::fd::OwnedFd;
use std::path::Path;

use blazesym::symbolize::Input;
use blazesym::symbolize::Sym;
use blazesym::symbolize::Symbolizer;
use blazesym::symbolize::source::Elf;
use blazesym::symbolize::source::Source;
use serde::Deserialize;
use serde::Serialize;

use super::debugfile;
use super::kallsyms;
use super::perfmap;
use crate::model::Frame;
use crate::model::Mapping;
use crate::model::RawText;
use crate::model::SymbolSpace;
use crate::model::Symbolized;
use crate::source::elf;
use crate::source::elf::Image;
use crate::source::mapped;
use crate::source::procdir::ProcDir;

/// Name of the kernel's own code in a process.
const VDSO: &[u8] = b"[vdso]";

/// Addresses of one space, with the mappings that were recorded for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Whose addresses.
    pub space: SymbolSpace,
    /// Executable mappings as they were; none for the kernel.
    pub mappings: Vec<Mapping>,
    /// The addresses.
    pub ips: Vec<u64>,
}

/// The answer: one entry per address of the request, in its order.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reply {
    /// Addresses and frames.
    pub symbols: Vec<Symbolized>,
}

/// What is known without looking anywhere: module and offset.
#[must_use]
pub fn fallback(request: &Request) -> Vec<Symbolized> {
    let kernel = request.space == SymbolSpace::Kernel;
    let plain = |ip: u64| match kernel {
        true => kallsyms::unknown(),
        false => mapping_of(&request.mappings, ip).map_or_else(Frame::default, |it| module(it, ip)),
    };
    let ips = request.ips.iter();
    ips.map(|ip| Symbolized {
        ip: *ip,
        frames: vec![plain(*ip)],
    })
    .collect()
}

fn mapping_of(mappings: &[Mapping], ip: u64) -> Option<&Mapping> {
    mappings
        .iter()
        .find(|one| (one.start..one.end).contains(&ip))
}

fn module(mapping: &Mapping, ip: u64) -> Frame {
    Frame {
        module: (!mapping.path.is_empty()).then(|| mapping.path.clone()),
        module_offset: Some(
            ip.saturating_sub(mapping.start)
                .saturating_add(mapping.offset),
        ),
        build_id: mapping.build_id.clone(),
        ..Frame::default()
    }
}

/// Resolves a request; whatever cannot be had falls back to module and offset.
#[must_use]
pub fn resolve(request: &Request) -> Reply {
    let mut symbols = fallback(request);
    match request.space {
        SymbolSpace::Kernel => {
            if let Ok(file) = File::open("/proc/kallsyms") {
                let frames = kallsyms::resolve(BufReader::new(file), &request.ips);
                for (symbol, frame) in symbols.iter_mut().zip(frames) {
                    symbol.frames = vec![frame];
                }
            }
        }
        SymbolSpace::Process { pid, start_ticks } => {
            let dir = ProcDir::open(Path::new("/"), pid).ok();
            let dir = dir.filter(|dir| {
                let start = dir.stat().ok().map(|stat| stat.start_ticks);
                start_ticks.is_some() && start == start_ticks
            });
            user(request, dir.as_ref(), &mut symbols);
        }
    }
    Reply { symbols }
}

fn user(request: &Request, dir: Option<&ProcDir>, symbols: &mut [Symbolized]) {
    // Addresses of one mapping together: its files are opened and read once.
    let mut by_mapping: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    let mut homeless = Vec::new();
    for (index, symbol) in symbols.iter().enumerate() {
        let inside = |one: &Mapping| (one.start..one.end).contains(&symbol.ip);
        match request.mappings.iter().position(inside) {
            Some(at) if is_file(&request.mappings[at]) => {
                by_mapping.entry(at).or_default().push(index);
            }
            _ => homeless.push(index),
        }
    }
    // The files stay open, so that a descriptor's path means one file for the symbolizer's cache.
    let mut open = Vec::new();
    let symbolizer = Symbolizer::new();
    for (at, indexes) in by_mapping {
        let mapping = &request.mappings[at];
        let offsets: Vec<u64> = indexes
            .iter()
            .filter_map(|index| module(mapping, symbols[*index].ip).module_offset)
            .collect();
        let Some(names) = names(&symbolizer, mapping, dir, &offsets, &mut open) else {
            continue;
        };
        for (index, found) in indexes.into_iter().zip(names) {
            if let Some(sym) = found.as_sym() {
                symbols[index].frames = named(sym, &module(mapping, symbols[index].ip));
            }
        }
    }
    if !homeless.is_empty()
        && let (SymbolSpace::Process { pid, .. }, Some(dir)) = (&request.space, dir)
    {
        made_at_run_time(*pid, dir, symbols, &homeless);
    }
}

/// Whether code there comes from a file, or from the kernel as one.
fn is_file(mapping: &Mapping) -> bool {
    let path = mapping.path.as_bytes();
    // `/memfd:` and the like are code of a runtime.
    let is_memory = path.starts_with(b"/memfd:") || path.starts_with(b"/dev/zero");
    path == VDSO || (path.starts_with(b"/") && !is_memory)
}

/// Looks up offsets of one mapping's file: in its debug file when there is one, else in itself.
fn names<'sym>(
    symbolizer: &'sym Symbolizer,
    mapping: &Mapping,
    dir: Option<&ProcDir>,
    offsets: &[u64],
    open: &mut Vec<OwnedFd>,
) -> Option<Vec<blazesym::symbolize::Symbolized<'sym>>> {
    let mut source = |file: OwnedFd| {
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        open.push(file);
        Source::Elf(Elf::new(path))
    };
    if mapping.path.as_bytes() == VDSO {
        let source = source(vdso().ok()?);
        return symbolizer
            .symbolize(&source, Input::FileOffset(offsets))
            .ok();
    }
    let file = mapped::open(dir, mapping);
    let image = file
        .as_ref()
        .and_then(|file| Image::parse(&elf::reader(file)));
    let debug = mapping.build_id.as_deref();
    let debug = debug.and_then(|id| debugfile::open(id, dir));
    if let (Some(image), Some(debug)) = (image, debug) {
        // A debug file has the addresses of its program, not its offsets.
        let stated: Option<Vec<u64>> = offsets.iter().map(|at| image.address(*at)).collect();
        let source = source(debug.into());
        let found = stated.and_then(|stated| {
            symbolizer
                .symbolize(&source, Input::VirtOffset(&stated))
                .ok()
        });
        if let Some(found) = found.filter(|all| all.iter().any(|one| one.as_sym().is_some())) {
            return Some(found);
        }
    }
    let path = format!("/proc/self/fd/{}", file.as_ref()?.as_raw_fd());
    open.push(file?.into());
    let mut own = Elf::new(path);
    let whole = symbolizer.symbolize(&Source::Elf(own.clone()), Input::FileOffset(offsets));
    // Debug information that is damaged, or packed in a way that is not known, must not hide plain names.
    whole.ok().or_else(|| {
        own.debug_syms = false;
        let plain = symbolizer.symbolize(&Source::Elf(own), Input::FileOffset(offsets));
        plain.ok()
    })
}

/// The kernel's own code in every process, as a file that the symbolizer can open.
fn vdso() -> io::Result<OwnedFd> {
    let file = rustix::fs::memfd_create("vdso", rustix::fs::MemfdFlags::CLOEXEC)?;
    let bytes = elf::vdso().ok_or(io::ErrorKind::NotFound)?;
    let mut file = File::from(file);
    file.write_all(&bytes)?;
    Ok(file.into())
}

/// Code of a just-in-time compiler, when the runtime says what it is.
fn made_at_run_time(pid: u32, dir: &ProcDir, symbols: &mut [Symbolized], indexes: &[usize]) {
    let status = dir.read("status", 16 << 10).unwrap_or_default();
    let own_pid = innermost_pid(&status).unwrap_or(pid);
    let path = format!("root/tmp/perf-{own_pid}.map");
    let Some(file) = dir.file(path.as_bytes()).ok() else {
        return;
    };
    if !file.metadata().is_ok_and(|meta| meta.is_file()) {
        return;
    }
    let ips: Vec<u64> = indexes.iter().map(|index| symbols[*index].ip).collect();
    let found = perfmap::resolve(BufReader::new(file), &ips);
    for (index, (name, offset)) in indexes
        .iter()
        .zip(found)
        .filter_map(|(index, found)| Some((*index, found?)))
    {
        for frame in &mut symbols[index].frames {
            frame.function = Some(name.clone());
            frame.offset = Some(offset);
        }
    }
}

/// The process id in its own namespace: the last of `NSpid:`.
fn innermost_pid(status: &[u8]) -> Option<u32> {
    let mut lines = status.split(|byte| *byte == b'\n');
    let rest = lines.find_map(|line| line.strip_prefix(b"NSpid:"))?;
    let last = std::str::from_utf8(rest)
        .ok()?
        .split_ascii_whitespace()
        .next_back();
    last?.parse().ok()
}

/// Innermost inlined function first, the function itself last.
fn named(sym: &Sym<'_>, module: &Frame) -> Vec<Frame> {
    let frame = |name: &str, code: Option<&blazesym::symbolize::CodeInfo<'_>>| Frame {
        function: Some(RawText::from(name)),
        file: code.map(|code| RawText::new(code.to_path().as_os_str().as_encoded_bytes())),
        line: code.and_then(|code| code.line),
        ..module.clone()
    };
    let inlined = sym.inlined.iter().rev().map(|inner| Frame {
        inlined: true,
        ..frame(&inner.name, inner.code_info.as_ref())
    });
    let mut frames: Vec<Frame> = inlined.collect();
    frames.push(Frame {
        offset: u64::try_from(sym.offset).ok(),
        ..frame(&sym.name, sym.code_info.as_deref())
    });
    frames
}
