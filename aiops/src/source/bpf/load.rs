//! Loads the object into the kernel and attaches every program that this kernel takes.
//!
//! The order matters: `oom/mark_victim` comes last, so that no victim is marked before the hooks
//! that complete its record run.

use std::borrow::Cow;
use std::error::Error;
use std::io;
use std::path::Path;

use aiops_common::layout::Layout;
use aya::Btf;
use aya::Ebpf;
use aya::EbpfLoader;
use aya::Pod;
use aya::programs::BtfTracePoint;
use aya::programs::RawTracePoint;
use aya::programs::TracePoint;

use super::Options;
use super::StartError;
use super::hooks::Attach;
use super::hooks::Family;
use super::hooks::HOOKS;
use super::hooks::Hook;
use super::hooks::Object;
use super::offsets;
use super::offsets::Discovered;
use super::tracefs;
use super::tracefs::Tracefs;
use crate::model::HookState;

/// A committed object; `cargo xtask bpf` builds it from `aiops-ebpf`.
macro_rules! committed {
    ($file:literal) => {
        aya::include_bytes_aligned!(concat!(
            env!("CARGO_MANIFEST_DIR"),
            "/../aiops-ebpf/object/",
            $file
        ))
    };
}

static OOM_OBJECT: &[u8] = committed!("aiops.bpf.o");
static RECLAIM_OBJECT: &[u8] = committed!("reclaim.bpf.o");

/// Names a folder of objects to load in place of the embedded ones (tests of a fresh build).
const OBJECT_VARIABLE: &str = "AIOPS_BPF_OBJECT";
/// Turns BTF off, as on a kernel without it.
pub(super) const NO_BTF_VARIABLE: &str = "AIOPS_NO_BTF";

/// The hook without which there is nothing to see.
const MARK: &str = "mark_victim";
/// The program that fills records before the mark.
const SIGNAL: &str = "signal_generate";

/// `log::Level::Debug`, and silence, as the programs' `AYA_LOG_LEVEL`.
const LOG_DEBUG: u8 = 4;
const LOG_NOTHING: u8 = 0;

/// A [`Layout`] as a global of the object.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct LayoutGlobal(pub(super) Layout);

// SAFETY: a `repr(C)` structure of u32 alone: no padding, any bits are valid.
unsafe impl Pod for LayoutGlobal {}

/// Programs in the kernel.
pub(super) struct Loaded {
    pub(super) ebpf: Ebpf,
    pub(super) hooks: Vec<HookState>,
    pub(super) btf: bool,
    pub(super) notes: Vec<String>,
}

impl Loaded {
    fn is_attached(&self, program: &str) -> bool {
        let wanted = HOOKS.iter().filter(|hook| hook.program == program);
        let mut names = wanted.map(|hook| hook.name);
        names.any(|name| {
            self.hooks
                .iter()
                .any(|hook| hook.name == name && hook.attached)
        })
    }
}

/// Loads and attaches, on a thread that sees tracefs.
///
/// # Errors
/// See [`StartError`]; a missing hook is an error only when it is the mark's.
pub(super) fn load(options: &Options) -> Result<Loaded, StartError> {
    lift_memlock();
    let loaded = tracefs::with_tracefs(|tracefs| load_here(tracefs, options));
    loaded.map_err(StartError::from_tracefs)?
}

/// Before Linux 5.11 maps count as locked memory. Where it is not permitted, creating them says so.
pub(super) fn lift_memlock() {
    let unlimited = rustix::process::Rlimit {
        current: None,
        maximum: None,
    };
    let _ = rustix::process::setrlimit(rustix::process::Resource::Memlock, unlimited);
}

fn load_here(tracefs: &Tracefs, options: &Options) -> Result<Loaded, StartError> {
    if tracefs.event_id("oom", "mark_victim").is_none() {
        return Err(StartError::NoMarkVictim);
    }
    let wanted = options.btf && !btf_is_off();
    let found = offsets::discover(tracefs, wanted);
    let btf = if found.btf {
        Btf::from_sys_fs().ok()
    } else {
        None
    };
    let fills = btf.is_some() && found.signal_generate;
    let object = object(Object::Oom)?;
    let mut loaded = attach_all(&object, &found.layout, btf.as_ref(), fills, options.verbose)?;
    if fills && !loaded.is_attached(SIGNAL) {
        // A mark without a record must not pass for "was already exiting": once more, without it.
        loaded = attach_all(&object, &found.layout, btf.as_ref(), false, options.verbose)?;
    }
    loaded.notes = found.notes;
    Ok(loaded)
}

/// The object that is to be loaded.
fn object(object: Object) -> Result<Cow<'static, [u8]>, StartError> {
    let Some(folder) = std::env::var_os(OBJECT_VARIABLE) else {
        return Ok(Cow::Borrowed(match object {
            Object::Oom => OOM_OBJECT,
            Object::Reclaim => RECLAIM_OBJECT,
        }));
    };
    let path = Path::new(&folder).join(object.file());
    std::fs::read(&path)
        .map(Cow::Owned)
        .map_err(|error| StartError::Object(path.to_string_lossy().into_owned(), error))
}

/// What a family's object wants besides its layout.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    /// Globals by name, as the bytes that the object holds.
    pub(super) globals: Vec<(&'static str, Vec<u8>)>,
    /// Sizes of maps that differ from the object's.
    pub(super) sizes: Vec<(&'static str, u32)>,
}

/// Loads the object of a family other than `Oom`; `wishes` sees where the kernel's fields are, `ready` fills
/// maps before anything runs. A hook that is not there is told by name, unless it is required or none is left.
///
/// # Errors
/// See [`StartError`].
pub(super) fn load_family(
    family: Family,
    options: &Options,
    wishes: impl FnOnce(&Tracefs, &Discovered) -> Wishes + Send,
    ready: impl FnOnce(&mut Ebpf) -> Result<(), StartError> + Send,
) -> Result<Loaded, StartError> {
    lift_memlock();
    let loaded = tracefs::with_tracefs(|tracefs| {
        let wanted = options.btf && !btf_is_off();
        let found = offsets::discover(tracefs, wanted);
        let wishes = wishes(tracefs, &found);
        let layout = LayoutGlobal(found.layout);
        let object = object(family.object())?;
        let mut loader = EbpfLoader::new();
        let btf = found.btf.then(|| Btf::from_sys_fs().ok()).flatten();
        loader
            .btf(btf.as_ref())
            .override_global("LAYOUT", &layout, true);
        for (name, bytes) in &wishes.globals {
            loader.override_global(name, bytes.as_slice(), true);
        }
        for (name, size) in &wishes.sizes {
            loader.map_max_entries(name, *size);
        }
        let mut ebpf = loader
            .load(&object)
            .map_err(|error| StartError::from_load(&error))?;
        ready(&mut ebpf)?;
        let hooks = attach_family(&mut ebpf, family.hooks(), btf.as_ref())?;
        Ok(Loaded {
            ebpf,
            hooks,
            btf: found.btf,
            notes: found.notes,
        })
    });
    loaded.map_err(StartError::from_tracefs)?
}

fn attach_family(
    ebpf: &mut Ebpf,
    table: &'static [Hook],
    btf: Option<&Btf>,
) -> Result<Vec<HookState>, StartError> {
    let mut hooks = Vec::with_capacity(table.len());
    for hook in table {
        let attached = attach(ebpf, hook, btf);
        if let (Err(error), true) = (&attached, hook.required) {
            return Err(StartError::Hook(hook.name, error.clone()));
        }
        hooks.push(HookState {
            name: hook.name.to_owned(),
            attached: attached.is_ok(),
            error: attached.err(),
        });
    }
    match (hooks.iter().any(|hook| hook.attached), table.first()) {
        (false, Some(first)) => {
            let error = hooks.into_iter().find_map(|hook| hook.error);
            Err(StartError::Hook(first.name, error.unwrap_or_default()))
        }
        _ => Ok(hooks),
    }
}

fn btf_is_off() -> bool {
    std::env::var_os(NO_BTF_VARIABLE).is_some_and(|value| value == "1")
}

fn attach_all(
    object: &[u8],
    layout: &Layout,
    btf: Option<&Btf>,
    fills: bool,
    verbose: bool,
) -> Result<Loaded, StartError> {
    let mut ebpf = create(object, layout, btf, fills, verbose)?;
    let mut hooks = Vec::with_capacity(HOOKS.len());
    let (last, first): (Vec<&Hook>, Vec<&Hook>) =
        HOOKS.iter().partition(|hook| hook.program == MARK);
    for hook in first.into_iter().chain(last) {
        let skipped = hook.program == SIGNAL && !fills;
        let attached = if skipped {
            Err("no BTF, or not attachable".to_owned())
        } else {
            attach(&mut ebpf, hook, btf)
        };
        if let (Err(error), true) = (&attached, hook.required) {
            return Err(StartError::Hook(hook.name, error.clone()));
        }
        hooks.push(HookState {
            name: hook.name.to_owned(),
            attached: attached.is_ok(),
            error: attached.err(),
        });
    }
    Ok(Loaded {
        ebpf,
        hooks,
        btf: btf.is_some(),
        notes: Vec::new(),
    })
}

/// Creates the maps and sets the globals.
fn create(
    object: &[u8],
    layout: &Layout,
    btf: Option<&Btf>,
    fills: bool,
    verbose: bool,
) -> Result<Ebpf, StartError> {
    let layout = LayoutGlobal(*layout);
    let have_signal = u32::from(fills);
    let level = if verbose { LOG_DEBUG } else { LOG_NOTHING };
    let mut loader = EbpfLoader::new();
    loader
        .btf(btf)
        .override_global("LAYOUT", &layout, true)
        .override_global("HAVE_SIGNAL", &have_signal, true)
        .override_global(aya_log::LEVEL, &level, false);
    if !verbose {
        // Nobody writes messages: one page, the least that a ring may have.
        loader.map_max_entries("AYA_LOGS", 4096);
    }
    loader
        .load(object)
        .map_err(|error| StartError::from_load(&error))
}

/// Loads one program and attaches it; the error is a line for people.
fn attach(ebpf: &mut Ebpf, hook: &Hook, btf: Option<&Btf>) -> Result<(), String> {
    let program = ebpf
        .program_mut(hook.program)
        .ok_or_else(|| format!("the object has no program {}", hook.program))?;
    match hook.attach {
        Attach::Tracepoint { category, name } => {
            let program: &mut TracePoint = program.try_into().map_err(|error| brief(&error))?;
            program.load().map_err(|error| brief(&error))?;
            program
                .attach(category, name)
                .map_err(|error| brief(&error))?;
        }
        Attach::BtfTracepoint { name } => {
            let btf = btf.ok_or_else(|| "this kernel has no BTF".to_owned())?;
            let program: &mut BtfTracePoint = program.try_into().map_err(|error| brief(&error))?;
            program.load(name, btf).map_err(|error| brief(&error))?;
            program.attach().map_err(|error| brief(&error))?;
        }
        Attach::RawTracepoint { name } => {
            let program: &mut RawTracePoint = program.try_into().map_err(|error| brief(&error))?;
            program.load().map_err(|error| brief(&error))?;
            program.attach(name).map_err(|error| brief(&error))?;
        }
    }
    Ok(())
}

/// An error with its causes in one line. The verifier's log has thousands: its last says what is wrong.
pub(super) fn brief(error: &dyn Error) -> String {
    let mut text = String::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let message = error.to_string();
        let (first, log) = message
            .split_once("Verifier output:")
            .unwrap_or((&message, ""));
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(first.trim().trim_end_matches('.'));
        let mut said = log.lines().map(str::trim).rev();
        let figures = ["processed ", "stack depth ", "verification time "];
        let tells =
            |line: &&str| !line.is_empty() && !figures.iter().any(|one| line.starts_with(one));
        if let Some(line) = said.find(tells) {
            text.push_str(": ");
            text.push_str(line);
        }
        next = error.source();
    }
    text
}

/// The operating system's error at the bottom of a chain.
pub(super) fn os_error(error: &(dyn Error + 'static)) -> Option<i32> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(io) = error.downcast_ref::<io::Error>() {
            return io.raw_os_error();
        }
        next = error.source();
    }
    None
}
