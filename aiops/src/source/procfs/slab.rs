//! /proc/slabinfo, version 2.x (mm/slab_common.c, `slabinfo_show`).

use crate::model::RawText;
use crate::model::Slab;
use crate::model::UnreadReason;

use super::detail::Look;
use super::system::number;

const FILE: &str = "proc/slabinfo";

/// Every slab cache; `None` where the file cannot be read (root only).
pub(super) fn read(look: &mut Look<'_>) -> Option<Vec<Slab>> {
    let text = look.read(FILE)?;
    if !text.starts_with(b"slabinfo - version: 2") {
        look.note(FILE, UnreadReason::Malformed);
        return None;
    }
    let mut slabs = parse(&text);
    for slab in &mut slabs {
        // The name is a path's part: nothing that could leave the folder.
        let name = slab.name.lossy();
        if !name.contains('/') {
            let file = format!("sys/kernel/slab/{name}/reclaim_account");
            slab.reclaimable = look.number(&file).map(|flag| flag == 1);
        }
    }
    Some(slabs)
}

fn parse(text: &[u8]) -> Vec<Slab> {
    let lines = text.split(|byte| *byte == b'\n');
    lines.filter_map(line).collect()
}

/// `NAME ACTIVE OBJECTS SIZE PER_SLAB PAGES : tunables A B C : slabdata ACTIVE_SLABS SLABS SHARED`; a name
/// may hold blanks (`task group`), so figures are counted from the last ` : tunables ` back.
fn line(line: &[u8]) -> Option<Slab> {
    if line.starts_with(b"#") || line.starts_with(b"slabinfo") {
        return None;
    }
    let data = find(line, b" : slabdata ")?;
    let tunables = find(&line[..data], b" : tunables ")?;
    let words = |part: &[u8]| -> Vec<Vec<u8>> {
        let words = part.split(u8::is_ascii_whitespace);
        words
            .filter(|word| !word.is_empty())
            .map(<[u8]>::to_vec)
            .collect()
    };
    let head = words(&line[..tunables]);
    let tail = words(&line[data + b" : slabdata ".len()..]);
    let first = head.len().checked_sub(5)?;
    let figure = |index: usize| head.get(first + index).and_then(|word| number(word));
    Some(Slab {
        name: RawText::new(head[..first].join(&b' ')),
        active_objects: figure(0)?,
        objects: figure(1)?,
        object_bytes: figure(2)?,
        objects_per_slab: figure(3)?,
        pages_per_slab: figure(4)?,
        active_slabs: number(tail.first()?)?,
        slabs: number(tail.get(1)?)?,
        reclaimable: None,
    })
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).rposition(|window| window == part)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_may_hold_blanks_and_colons() {
        let text = b"slabinfo - version: 2.1\n# name            <active_objs> : tunables\n\
            dentry            105000 110880    192   21    1 : tunables    0    0    0 : slabdata   5280   5280      0\n\
            ext4 inode:x          10     20   1088   15    4 : tunables    0    0    0 : slabdata      1      2      0\n";
        let slabs = parse(text);
        assert_eq!(slabs.len(), 2);
        assert_eq!(slabs[0].name.as_bytes(), b"dentry");
        assert_eq!(
            (
                slabs[0].active_objects,
                slabs[0].objects,
                slabs[0].object_bytes,
                slabs[0].slabs
            ),
            (105_000, 110_880, 192, 5280)
        );
        assert_eq!(slabs[1].name.as_bytes(), b"ext4 inode:x");
        assert_eq!((slabs[1].active_slabs, slabs[1].pages_per_slab), (1, 4));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&text);
            let _ = line(&[&text[..], b" : tunables 0 0 0 : slabdata 1 2 3"].concat());
        }
    }
}
