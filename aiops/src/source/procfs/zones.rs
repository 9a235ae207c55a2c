//! Zones: /proc/zoneinfo (mm/vmstat.c, `zoneinfo_show_print`), /proc/buddyinfo and /proc/pagetypeinfo.

use crate::model::PageType;
use crate::model::Zone;

use super::detail::Look;
use super::system::number;

/// Every zone that has memory; `None` when neither file can be read.
pub(super) fn read(look: &mut Look<'_>) -> Option<Vec<Zone>> {
    let zoneinfo = look.read("proc/zoneinfo");
    let buddyinfo = look.read("proc/buddyinfo");
    if zoneinfo.is_none() && buddyinfo.is_none() {
        return None;
    }
    Some(zones(
        &zoneinfo.unwrap_or_default(),
        &buddyinfo.unwrap_or_default(),
    ))
}

/// Free blocks by migration type (root only).
pub(super) fn page_types(look: &mut Look<'_>) -> Option<Vec<PageType>> {
    Some(types(&look.read("proc/pagetypeinfo")?))
}

fn zones(zoneinfo: &[u8], buddyinfo: &[u8]) -> Vec<Zone> {
    let mut zones: Vec<Zone> = Vec::new();
    for line in String::from_utf8_lossy(zoneinfo).lines() {
        if let Some((node, name)) = heading(line) {
            zones.push(Zone {
                node,
                name: name.to_owned(),
                ..Zone::default()
            });
            continue;
        }
        let Some(zone) = zones.last_mut() else {
            continue;
        };
        let words: Vec<&str> = line.split_whitespace().collect();
        let (slot, value) = match words[..] {
            ["pages", "free", value] => (&mut zone.free, value),
            ["min", value] => (&mut zone.min, value),
            ["low", value] => (&mut zone.low, value),
            ["high", value] => (&mut zone.high, value),
            ["managed", value] => (&mut zone.managed, value),
            _ => continue,
        };
        // Per-CPU lists further down have a `high` too: the zone's own comes first.
        if slot.is_none() {
            *slot = value.parse().ok();
        }
    }
    for line in String::from_utf8_lossy(buddyinfo).lines() {
        let Some((node, rest)) = heading(line) else {
            continue;
        };
        let mut words = rest.split_whitespace();
        let name = words.next().unwrap_or_default();
        let blocks = words.filter_map(|word| number(word.as_bytes())).collect();
        match zones
            .iter_mut()
            .find(|zone| zone.node == node && zone.name == name)
        {
            Some(zone) => zone.free_blocks = blocks,
            None => zones.push(Zone {
                node,
                name: name.to_owned(),
                free_blocks: blocks,
                ..Zone::default()
            }),
        }
    }
    // zoneinfo lists zones without memory as well.
    zones.retain(|zone| zone.managed != Some(0) || !zone.free_blocks.is_empty());
    zones
}

/// `Node 0, zone   Normal…`: the node, and what follows `zone`.
fn heading(line: &str) -> Option<(u32, &str)> {
    let (node, rest) = line.strip_prefix("Node")?.split_once(',')?;
    let rest = rest.trim_start().strip_prefix("zone")?;
    Some((node.trim().parse().ok()?, rest.trim()))
}

/// `Node    0, zone   Normal, type    Unmovable   943   1589 …`; a count may be cut: `>100000`.
fn types(text: &[u8]) -> Vec<PageType> {
    let text = String::from_utf8_lossy(text);
    let line = |line: &str| {
        let (node, rest) = heading(line)?;
        let (zone, rest) = rest.split_once(',')?;
        let mut words = rest.trim_start().strip_prefix("type")?.split_whitespace();
        let name = words.next()?.to_owned();
        let counts = words.map(|word| number(word.trim_start_matches('>').as_bytes()));
        Some(PageType {
            node,
            zone: zone.trim().to_owned(),
            name,
            free_blocks: counts.collect::<Option<_>>()?,
        })
    };
    text.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ZONEINFO: &[u8] = b"Node 0, zone   Normal\n  per-node stats\n      nr_inactive_anon 442\n  pages free     3840\n        boost    0\n        min      25\n        low      31\n        high     37\n        spanned  4095\n        present  3998\n        managed  3840\n  pagesets\n    cpu: 0\n              count: 0\n              high:  0\n              high 99\nNode 0, zone  Movable\n  pages free     0\n        min      0\n        managed  0\n";

    #[test]
    fn watermarks_and_free_blocks_meet() {
        let found = zones(
            ZONEINFO,
            b"Node 0, zone   Normal   6048   3697   2867 \nNode 1, zone DMA32 1 2\n",
        );
        assert_eq!(found.len(), 2);
        let normal = &found[0];
        assert_eq!(
            (
                normal.free,
                normal.min,
                normal.low,
                normal.high,
                normal.managed
            ),
            (Some(3840), Some(25), Some(31), Some(37), Some(3840))
        );
        assert_eq!(normal.free_blocks, [6048, 3697, 2867]);
        assert_eq!((found[1].node, found[1].free), (1, None));
    }

    #[test]
    fn counts_that_the_kernel_cut() {
        let text = b"Page block order: 9\n\nFree pages count per migrate type at order 0 1\nNode    0, zone   Normal, type    Unmovable    943 >100000 \nNumber of blocks type     Unmovable\nNode 0, zone   Normal          159\n";
        let found = types(text);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].free_blocks, [943, 100_000]);
        assert_eq!(
            (found[0].zone.as_str(), found[0].name.as_str()),
            ("Normal", "Unmovable")
        );
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = zones(&text, &text);
            let _ = types(&[b"Node 0, zone ", &text[..]].concat());
        }
    }
}
