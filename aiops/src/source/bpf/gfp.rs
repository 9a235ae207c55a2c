//! Bits of allocation flags on the running kernel.

use super::btf::Btf;

/// Flags that are named, without `___GFP_` and `_BIT` (include/linux/gfp_types.h), and their bits before
/// Linux 6.10, from when on BTF names them.
const FLAGS: &[(&str, u32)] = &[
    ("DMA", 0),
    ("HIGHMEM", 1),
    ("DMA32", 2),
    ("MOVABLE", 3),
    ("RECLAIMABLE", 4),
    ("HIGH", 5),
    ("IO", 6),
    ("FS", 7),
    ("ZERO", 8),
    ("DIRECT_RECLAIM", 10),
    ("KSWAPD_RECLAIM", 11),
    ("WRITE", 12),
    ("NOWARN", 13),
    ("RETRY_MAYFAIL", 14),
    ("NOFAIL", 15),
    ("NORETRY", 16),
    ("MEMALLOC", 17),
    ("COMP", 18),
    ("NOMEMALLOC", 19),
    ("HARDWALL", 20),
    ("THISNODE", 21),
    ("ACCOUNT", 22),
];

/// `NAME:BIT,NAME:BIT` of the running kernel, as a session records it.
#[must_use]
pub fn names() -> String {
    let btf = Btf::running().ok();
    let told = |name: &str| btf.as_ref()?.enum_value(&format!("___GFP_{name}_BIT"));
    let by_btf = told("IO").is_some();
    let named = FLAGS.iter().filter_map(|(name, old)| {
        let bit = if by_btf {
            u32::try_from(told(name)?).ok()?
        } else {
            *old
        };
        Some(format!("{name}:{bit}"))
    });
    let named: Vec<String> = named.collect();
    named.join(",")
}
