//! What the child does: addresses of one request to frames. Runs once per batch, in a process that ends.

use std::collections::HashMap;
use std::fs::File;
use std::io::BufReader;
use std::os::fd::AsRawFd as _;
use std::path::Path;

use blazesym::symbolize::Input;
use blazesym::symbolize::Sym;
use blazesym::symbolize::Symbolizer;
use blazesym::symbolize::source::Elf;
use blazesym::symbolize::source::Source;
use serde::Deserialize;
use serde::Serialize;

use super::kallsyms;
use crate::model::Frame;
use crate::model::Mapping;
use crate::model::RawText;
use crate::model::SymbolSpace;
use crate::model::Symbolized;
use crate::source::mapped;
use crate::source::procdir::ProcDir;

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
    // Open files stay open, so that a descriptor's path means one file for the symbolizer's cache.
    let mut files: HashMap<usize, Option<File>> = HashMap::new();
    let symbolizer = Symbolizer::new();
    for symbol in symbols {
        let ip = symbol.ip;
        let found = request
            .mappings
            .iter()
            .position(|one| (one.start..one.end).contains(&ip));
        let Some(at) = found else { continue };
        let mapping = &request.mappings[at];
        let file = files
            .entry(at)
            .or_insert_with(|| mapped::open(dir, mapping));
        if let Some(file) = file
            && let Some(frames) = frames(&symbolizer, file, &module(mapping, ip))
        {
            symbol.frames = frames;
        }
    }
}

fn frames(symbolizer: &Symbolizer, file: &File, module: &Frame) -> Option<Vec<Frame>> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let source = Source::Elf(Elf::new(path));
    let input = Input::FileOffset(module.module_offset?);
    let found = symbolizer.symbolize_single(&source, input).ok()?;
    let frames = named(found.as_sym()?, module);
    Some(frames)
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
