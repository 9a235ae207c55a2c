//! User stacks from registers and a copy of the stack, without frame pointers.
//!
//! The kernel copies the registers and the top of the stack of a thread at an event; the frames are found
//! here, after the fact, by the `.eh_frame` tables of the files that the process has mapped. Where a file
//! has none (code made at run time), the frame pointer is followed. Where the copy ends before the stack
//! does, the kernel's own walk by frame pointers goes on from the last frame that both know.
//!
//! Files are reached in the process' own mount namespace, also when they were removed; the recorded
//! mappings of a process that has died serve as well. Memory is bounded: tables by bytes, processes by
//! number, the least used give way.

mod arch;
mod tables;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::sync::Arc;

use framehop::FrameAddress;
use framehop::Module;
use framehop::Unwinder as _;

pub use self::arch::Registers;
use self::tables::FileKey;
use self::tables::Store;
use self::tables::Tables;
use crate::model::Mapping;

/// Most frames of a stack.
pub const MAX_FRAMES: usize = 256;
/// Processes whose modules are kept.
const MAX_PROCESSES: usize = 512;
/// Bytes of unwind tables kept.
const MAX_BYTES: u64 = 96 << 20;
/// The rules' cache tells modules apart by 16 bits: it is emptied before they repeat.
const MAX_ADDED: u32 = 60_000;

/// An address space: a process, and which of its programs (it may run another by exec).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Space {
    /// Process id.
    pub pid: u32,
    /// Anything that changes with the address space, such as its start.
    pub generation: u64,
}

/// Where a stack ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// At its root.
    Root,
    /// At the end of the copy: there may be more frames.
    Copy,
    /// At [`MAX_FRAMES`].
    Depth,
    /// Nothing sensible followed: code without tables and without frame pointers.
    Lost,
}

/// A stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stack {
    /// Addresses for looking up names, innermost first: the instruction itself, then inside of each call.
    pub ips: Vec<u64>,
    /// Where it ended.
    pub end: End,
    /// Frames at its outer end that came from the kernel's walk by frame pointers.
    pub by_frame_pointer: usize,
}

/// The top of a stack, as the kernel copied it.
#[derive(Clone, Copy, Debug)]
pub struct Copied<'a> {
    /// Where the thread stood.
    pub registers: Registers,
    /// Bytes from the stack pointer on.
    pub bytes: &'a [u8],
    /// The kernel's own walk by frame pointers, innermost first; may be empty.
    pub chain: &'a [u64],
}

struct Process {
    unwinder: arch::Unwinder,
    ranges: Vec<(u64, u64)>,
    used: u64,
}

/// Unwinds the stacks of many processes.
pub struct Unwinder {
    store: Store,
    processes: HashMap<Space, Process>,
    cache: arch::Cache,
    added: u32,
    clock: u64,
}

impl fmt::Debug for Unwinder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unwinder")
            .field("processes", &self.processes.len())
            .field("table_bytes", &self.store.bytes())
            .finish_non_exhaustive()
    }
}

impl Default for Unwinder {
    fn default() -> Self {
        Self::with_limit(MAX_BYTES)
    }
}

impl Unwinder {
    /// Keeps at most so many bytes of unwind tables.
    #[must_use]
    pub fn with_limit(most_bytes: u64) -> Self {
        Self {
            store: Store::new(most_bytes),
            processes: HashMap::new(),
            cache: arch::Cache::new(),
            added: 0,
            clock: 0,
        }
    }

    /// Bytes of unwind tables that it keeps now. Those of forgotten files that a process still uses are
    /// kept by that process.
    #[must_use]
    pub fn table_bytes(&self) -> u64 {
        self.store.bytes()
    }

    /// Whether the process' modules are known.
    #[must_use]
    pub fn knows(&self, space: Space) -> bool {
        self.processes.contains_key(&space)
    }

    /// Whether an address lies in a module that is known: if not, the process may have mapped a library
    /// since.
    #[must_use]
    pub fn covers(&self, space: Space, ip: u64) -> bool {
        let known = self.processes.get(&space);
        known.is_some_and(|process| {
            let after = process.ranges.partition_point(|(start, _)| *start <= ip);
            after > 0 && ip < process.ranges[after - 1].1
        })
    }

    /// Learns the modules of a process anew. `open` gives the file of a mapping.
    pub fn learn(
        &mut self,
        space: Space,
        mappings: &[Mapping],
        open: &dyn Fn(&Mapping) -> Option<File>,
    ) {
        let mut unwinder = arch::Unwinder::default();
        let mut ranges = Vec::with_capacity(mappings.len());
        for mapping in mappings {
            ranges.push((mapping.start, mapping.end));
            let Some(module) = self.module(mapping, open) else {
                continue;
            };
            self.added += 1;
            unwinder.add_module(module);
        }
        if self.added > MAX_ADDED {
            self.cache = arch::Cache::new();
            self.added = 0;
        }
        ranges.sort_unstable();
        self.clock += 1;
        let process = Process {
            unwinder,
            ranges,
            used: self.clock,
        };
        self.processes.insert(space, process);
        if self.processes.len() > MAX_PROCESSES {
            let oldest = self.processes.iter().min_by_key(|(_, one)| one.used);
            if let Some(oldest) = oldest.map(|(space, _)| *space) {
                self.processes.remove(&oldest);
            }
        }
    }

    /// Forgets a process.
    pub fn forget(&mut self, space: Space) {
        self.processes.remove(&space);
    }

    fn module(
        &mut self,
        mapping: &Mapping,
        open: &dyn Fn(&Mapping) -> Option<File>,
    ) -> Option<Module<arch::Bytes>> {
        let tables = self.tables(mapping, open)?;
        let stated = tables.address(mapping.offset)?;
        // The file's addresses are this far from the process'.
        let bias = mapping.start.wrapping_sub(stated);
        Some(Module::new(
            String::new(),
            mapping.start..mapping.end,
            tables.base().wrapping_add(bias),
            tables.sections(),
        ))
    }

    fn tables(
        &mut self,
        mapping: &Mapping,
        open: &dyn Fn(&Mapping) -> Option<File>,
    ) -> Option<Arc<Tables>> {
        if mapping.path.as_bytes() == b"[vdso]" {
            return self.store.vdso();
        }
        // Also a process that has died has the tables that another one still has open.
        let by_id = mapping.build_id.clone().map(FileKey::BuildId);
        if let Some(known) = by_id.and_then(|key| self.store.known(&key)) {
            return known;
        }
        let file = open(mapping)?;
        let key = FileKey::of(&file, mapping.build_id.as_ref())?;
        if let Some(known) = self.store.known(&key) {
            return known;
        }
        self.store.file(key, &file)
    }

    /// Finds the frames of a stack. Without [`Unwinder::learn`] only frame pointers help.
    pub fn unwind(&mut self, space: Space, copied: &Copied<'_>) -> Stack {
        self.clock += 1;
        let nothing = arch::Unwinder::default();
        let unwinder = match self.processes.get_mut(&space) {
            Some(process) => {
                process.used = self.clock;
                &process.unwinder
            }
            None => &nothing,
        };
        let registers = copied.registers;
        let mut outside = false;
        let mut read = |address: u64| {
            let word = word_at(registers.sp, copied.bytes, address);
            // Above the copy, not some wild address: the frame would be there.
            outside = word.is_none() && address >= registers.sp;
            word.ok_or(())
        };
        let mut frames =
            unwinder.iter_frames(registers.ip, registers.native(), &mut self.cache, &mut read);
        let mut stack = Stack {
            ips: Vec::with_capacity(32),
            end: End::Depth,
            by_frame_pointer: 0,
        };
        while stack.ips.len() < MAX_FRAMES {
            match frames.next() {
                Ok(Some(frame)) => {
                    stack.ips.push(frame.address_for_lookup());
                }
                Ok(None) => {
                    stack.end = End::Root;
                    break;
                }
                // The root of a thread has a null return address.
                Err(framehop::Error::ReturnAddressIsNull) => {
                    stack.end = End::Root;
                    break;
                }
                Err(_) => {
                    stack.end = End::Lost;
                    break;
                }
            }
        }
        if stack.end == End::Lost && outside {
            stack.end = End::Copy;
        }
        if !matches!(stack.end, End::Root | End::Depth) {
            go_on(&mut stack, copied.chain);
        }
        stack
    }
}

/// The word at `address` of a stack whose copy begins at `sp`.
fn word_at(sp: u64, bytes: &[u8], address: u64) -> Option<u64> {
    let at = usize::try_from(address.checked_sub(sp)?).ok()?;
    let word = bytes.get(at..at.checked_add(8)?)?;
    Some(u64::from_le_bytes(word.try_into().ok()?))
}

/// Appends what the kernel's walk has beyond the last frame that both found. In a recursion that frame
/// stands there many times: the place with the most equal frames before it is meant.
fn go_on(stack: &mut Stack, chain: &[u64]) {
    let chain: Vec<u64> = chain
        .iter()
        .filter_map(|ip| FrameAddress::from_return_address(*ip))
        .map(FrameAddress::address_for_lookup)
        .collect();
    if stack.ips.len() == 1 {
        // Nothing but the instruction itself, with which the walk begins.
        stack.ips.extend(chain.iter().skip(1).take(MAX_FRAMES - 1));
        stack.by_frame_pointer = stack.ips.len() - 1;
        return;
    }
    let equal = |at: usize| {
        let walked = chain[..=at].iter().rev();
        let both = walked.zip(stack.ips[1..].iter().rev());
        both.take_while(|(one, other)| one == other).count()
    };
    // The first of equals: what comes after it is known to be there.
    let places = (0..chain.len()).map(|at| (equal(at), std::cmp::Reverse(at)));
    let Some((1.., std::cmp::Reverse(at))) = places.max() else {
        return;
    };
    let room = MAX_FRAMES.saturating_sub(stack.ips.len());
    let before = stack.ips.len();
    stack.ips.extend(chain[at + 1..].iter().take(room));
    stack.by_frame_pointer = stack.ips.len() - before;
}
