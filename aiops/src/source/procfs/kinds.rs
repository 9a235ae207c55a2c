//! What a mapping is for, as its name, flags and neighbours tell.

use std::collections::HashSet;

use crate::model::MappingSample;
use crate::model::RawText;
use crate::model::RegionKind;

/// The C library's arenas begin at a multiple of this and fill it together with the reserved rest
/// (glibc malloc/arena.c, `HEAP_MAX_SIZE`).
const ARENA: u64 = 64 << 20;
/// Most that a guard area has.
const GUARD_MOST: u64 = 1 << 20;

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
            if mapping.path.is_empty() {
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

fn named(mapping: &MappingSample, exe: Option<&[u8]>, code: bool) -> RegionKind {
    let path = mapping.path.as_bytes();
    if mapping.vm_flags.iter().any(|flag| flag == "ht") || path.starts_with(b"/anon_hugepage") {
        return RegionKind::Hugetlb;
    }
    match path {
        b"[heap]" => return RegionKind::Heap,
        b"[stack]" => return RegionKind::Stack,
        b"/dev/zero" if !shared(mapping) => return RegionKind::Anon,
        b"/dev/zero" | b"/dev/zero (deleted)" => return RegionKind::SharedAnon,
        _ => {}
    }
    let begins = |names: &[&str]| names.iter().any(|name| path.starts_with(name.as_bytes()));
    if begins(&["[anon:"]) {
        RegionKind::NamedAnon
    } else if begins(&["[anon_shmem:"]) {
        RegionKind::SharedAnon
    } else if begins(&["[stack:"]) {
        RegionKind::ThreadStack
    } else if begins(&["["]) {
        RegionKind::Vdso
    } else if begins(&["/memfd:"]) {
        RegionKind::Memfd
    } else if begins(&["/SYSV", "/dev/shm/"]) {
        RegionKind::Shm
    } else if begins(&["/dev/", "anon_inode:", "socket:", "/drm mm object", "/i915"]) {
        RegionKind::Device
    } else if exe.is_some_and(|exe| exe == path) {
        RegionKind::Executable
    } else if code || path.windows(3).any(|part| part == b".so") {
        RegionKind::Library
    } else {
        RegionKind::File
    }
}

fn shared(mapping: &MappingSample) -> bool {
    mapping.perms.as_bytes().get(3) == Some(&b's')
}

fn nameless(mappings: &[MappingSample], at: usize) -> RegionKind {
    let mapping = &mappings[at];
    if shared(mapping) {
        return RegionKind::SharedAnon;
    }
    if mapping.vm_flags.iter().any(|flag| flag == "gd") {
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
    let small = guard.is_some_and(|guard| guard.end - guard.start <= GUARD_MOST);
    if mapping.perms.starts_with("rw") && small {
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
            ("r--p 0 fe:00 5 /var/data.bin", File),
            ("rw-s 0 00:00 0", SharedAnon),
        ];
        for (line, kind) in table {
            assert_eq!(kinds(&[&format!("1000-2000 {line}")]), [*kind], "{line}");
        }
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
