//! What a mapping is for, as its name, flags and neighbours tell.
//!
//! Stacks of threads have no name. Neither /proc/PID/task/TID/stat tells where a thread's stack is (its
//! `kstkesp` is 0 since 4.11 while the thread runs) nor would the stack pointer help for the stacks that
//! matter most, those of threads that ended and that nobody joined. So the mapping itself is looked at:
//!
//! - right above an inaccessible guard area of at most 1 MiB: glibc up to 2.41, musl, and the JVM make one;
//! - or not to be made of huge pages (`nh` in `VmFlags`), which `MAP_STACK` means since Linux 6.7: glibc since
//!   2.42 has its guard inside of the mapping (`MADV_GUARD_INSTALL`, since 6.13), where nothing shows it;
//!
//! and it is anonymous, private, readable, writable and no larger than stacks are. A program that puts a
//! guard below other memory, or that asks for small pages itself, is mistaken for one with stacks.

use std::collections::HashSet;

use crate::model::MappingSample;
use crate::model::RawText;
use crate::model::RegionKind;

/// The C library's arenas begin at a multiple of this and fill it together with the reserved rest
/// (glibc malloc/arena.c, `HEAP_MAX_SIZE`).
const ARENA: u64 = 64 << 20;
/// Most that a guard area has.
const GUARD_MOST: u64 = 1 << 20;
/// Most that a stack has: `ulimit -s` is 8 MiB nearly everywhere, and neighbours of the same kind are merged.
const STACK_MOST: u64 = 1 << 30;

/// Says of each mapping what it is. `exe` is where /proc/PID/exe points.
pub(super) fn classify(mappings: &mut [MappingSample], exe: Option<&[u8]>) {
    let code: HashSet<RawText> = mappings
        .iter()
        .filter(|mapping| mapping.perms.as_bytes().get(2) == Some(&b'x'))
        .map(|mapping| mapping.path.clone())
        .collect();
    let kinds: Vec<RegionKind> = (0..mappings.len())
        .map(|at| {
            let mapping = &mappings[at];
            if huge(mapping) {
                RegionKind::Hugetlb
            } else if mapping.path.is_empty() {
                nameless(mappings, at)
            } else {
                named(mapping, exe, code.contains(&mapping.path))
            }
        })
        .collect();
    for (mapping, kind) in mappings.iter_mut().zip(kinds) {
        mapping.kind = kind;
    }
}

fn flag(mapping: &MappingSample, name: &str) -> bool {
    mapping.vm_flags.iter().any(|flag| flag == name)
}

/// Of the pool of huge pages. Without flags (before 3.8) their size tells.
fn huge(mapping: &MappingSample) -> bool {
    let no_flags = mapping.vm_flags.is_empty();
    flag(mapping, "ht")
        || mapping.path.as_bytes().starts_with(b"/anon_hugepage")
        || (no_flags && mapping.page_kb.is_some_and(|kb| kb >= 1024))
}

/// Beginnings of names, in the order in which they are looked at.
const NAMES: &[(&str, RegionKind)] = &[
    // With the tunable glibc.mem.decorate_maps (2.39) the C library names its memory; so does Android's.
    ("[anon: glibc: pthread ", RegionKind::ThreadStack),
    ("[anon:stack_and_tls:", RegionKind::ThreadStack),
    ("[anon: glibc: malloc arena", RegionKind::Arena),
    ("[anon:", RegionKind::NamedAnon),
    ("[anon_shmem:", RegionKind::SharedAnon),
    // Kernels 3.4 to 4.4.
    ("[stack:", RegionKind::ThreadStack),
    ("[", RegionKind::Vdso),
    ("/memfd:", RegionKind::Memfd),
    ("/secretmem", RegionKind::Memfd),
    ("/SYSV", RegionKind::Shm),
    ("/dev/shm/", RegionKind::Shm),
    ("/dev/ashmem", RegionKind::Shm),
    ("/dev/", RegionKind::Device),
    ("anon_inode:", RegionKind::Device),
    ("socket:", RegionKind::Device),
    ("/dmabuf:", RegionKind::Device),
    ("/drm mm object", RegionKind::Device),
    ("/i915", RegionKind::Device),
    ("/[aio]", RegionKind::Device),
];

fn named(mapping: &MappingSample, exe: Option<&[u8]>, code: bool) -> RegionKind {
    let path = mapping.path.as_bytes();
    match path {
        b"[heap]" => return RegionKind::Heap,
        b"[stack]" => return RegionKind::Stack,
        b"/dev/zero" if !shared(mapping) => return RegionKind::Anon,
        b"/dev/zero" | b"/dev/zero (deleted)" => return RegionKind::SharedAnon,
        _ => {}
    }
    let mut names = NAMES.iter();
    if let Some((_, kind)) = names.find(|(name, _)| path.starts_with(name.as_bytes())) {
        *kind
    } else if exe.is_some_and(|exe| exe == path) {
        RegionKind::Executable
    } else if code || library(path) {
        RegionKind::Library
    } else {
        RegionKind::File
    }
}

/// `libm.so`, `libm.so.6`, also deleted; not `x.sorted`.
fn library(path: &[u8]) -> bool {
    let path = path.strip_suffix(b" (deleted)").unwrap_or(path);
    let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
    name.ends_with(b".so") || name.windows(4).any(|part| part == b".so.")
}

fn shared(mapping: &MappingSample) -> bool {
    mapping.perms.as_bytes().get(3) == Some(&b's')
}

fn nameless(mappings: &[MappingSample], at: usize) -> RegionKind {
    let mapping = &mappings[at];
    if shared(mapping) {
        return RegionKind::SharedAnon;
    }
    if flag(mapping, "gd") {
        return RegionKind::Stack;
    }
    let before = at.checked_sub(1).and_then(|at| mappings.get(at));
    let after = mappings.get(at + 1);
    let none = |one: &&MappingSample| one.path.is_empty() && one.perms.starts_with("---");
    if mapping.perms.starts_with("rw") && mapping.start.is_multiple_of(ARENA) {
        let rest = after.filter(|next| next.start == mapping.end).filter(none);
        let filled = rest.is_some_and(|rest| rest.end == mapping.start + ARENA);
        if filled || mapping.end == mapping.start + ARENA {
            return RegionKind::Arena;
        }
    }
    let guard = before
        .filter(|guard| guard.end == mapping.start)
        .filter(none);
    let guarded = guard.is_some_and(|guard| guard.end - guard.start <= GUARD_MOST);
    let small = mapping.end - mapping.start <= STACK_MOST;
    if mapping.perms.starts_with("rw") && small && (guarded || flag(mapping, "nh")) {
        return RegionKind::ThreadStack;
    }
    RegionKind::Anon
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(lines: &[&str]) -> Vec<RegionKind> {
        let text = lines.join("\n");
        let mut mappings = super::super::smaps::parse(&mut text.as_bytes()).unwrap();
        classify(&mut mappings, Some(b"/usr/bin/prog"));
        mappings.iter().map(|mapping| mapping.kind).collect()
    }

    #[test]
    fn names_tell() {
        use RegionKind::*;
        let table: &[(&str, RegionKind)] = &[
            ("rw-p 0 00:00 0 [heap]", Heap),
            ("rw-p 0 00:00 0 [stack]", Stack),
            ("r-xp 0 00:00 0 [vdso]", Vdso),
            ("rw-p 0 00:00 0 [anon:glibc: malloc]", NamedAnon),
            ("rw-s 0 00:01 5 /dev/zero (deleted)", SharedAnon),
            ("rw-s 0 00:01 5 /memfd:x (deleted)", Memfd),
            ("rw-s 0 00:01 5 /SYSV00000000 (deleted)", Shm),
            ("rw-s 0 00:01 5 /dev/shm/a", Shm),
            ("rw-s 0 00:06 5 /dev/dri/renderD128", Device),
            ("rw-p 0 00:01 5 /anon_hugepage (deleted)", Hugetlb),
            ("r--p 0 fe:00 5 /usr/bin/prog", Executable),
            ("r--p 0 fe:00 5 /usr/lib/libm.so.6", Library),
            ("r--p 0 fe:00 5 /usr/lib/libm.so (deleted)", Library),
            ("r--p 0 fe:00 5 /var/data.bin", File),
            ("r--p 0 fe:00 5 /var/x.sorted", File),
            ("r-xp 0 fe:00 5 /var/code.bin", Library),
            ("rw-p 0 fe:00 5 /dev/zero", Anon),
            ("rw-s 0 00:01 5 /dmabuf:system", Device),
            ("rw-s 0 00:01 5 anon_inode:[io_uring]", Device),
            ("rw-s 0 00:01 5 /[aio] (deleted)", Device),
            ("rw-s 0 00:00 0 [anon_shmem:x]", SharedAnon),
            ("rw-p 0 00:00 0 [stack:77]", ThreadStack),
            (
                "rw-p 0 00:00 0 [anon: glibc: pthread stack: 77]",
                ThreadStack,
            ),
            ("rw-p 0 00:00 0 [anon: glibc: malloc arena]", Arena),
            ("rw-s 0 00:00 0", SharedAnon),
        ];
        for (line, kind) in table {
            assert_eq!(kinds(&[&format!("1000-2000 {line}")]), [*kind], "{line}");
        }
    }

    #[test]
    fn flags_tell() {
        use RegionKind::*;
        let flagged = |flags: &str| {
            let flags = format!("VmFlags: {flags} ");
            kinds(&["1000-2000 rw-p 0 00:00 0 ", "Size: 4 kB", &flags])
        };
        assert_eq!(flagged("rd wr mr mw me ac nh"), [ThreadStack]);
        assert_eq!(flagged("rd wr mr mw me ht"), [Hugetlb]);
        assert_eq!(flagged("rd wr gd"), [Stack]);
        let old = ["200000-400000 rw-p 0 00:00 0 ", "KernelPageSize: 2048 kB"];
        assert_eq!(kinds(&old), [Hugetlb]);
    }

    #[test]
    fn neighbours_tell() {
        use RegionKind::*;
        let stack = [
            "7f0000000000-7f0000001000 ---p 0 00:00 0 ",
            "7f0000001000-7f0000801000 rw-p 0 00:00 0 ",
        ];
        assert_eq!(kinds(&stack), [Anon, ThreadStack]);
        let arena = [
            "7f0004000000-7f0004021000 rw-p 0 00:00 0 ",
            "7f0004021000-7f0008000000 ---p 0 00:00 0 ",
        ];
        assert_eq!(kinds(&arena), [Arena, Anon]);
        assert_eq!(
            kinds(&["7f0004000000-7f0004021000 rw-p 0 00:00 0 "]),
            [Anon]
        );
    }
}
