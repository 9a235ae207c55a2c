//! Names of allocation flags. Their bits differ between kernels: a session records those of its own.

use std::fmt::Write as _;

/// Flags of one kernel: name and bit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GfpNames(Vec<(String, u32)>);

/// Sets that the kernel's sources have a name for, largest first.
const SETS: &[(&str, &[&str])] = &[
    (
        "GFP_HIGHUSER_MOVABLE",
        &[
            "IO",
            "FS",
            "DIRECT_RECLAIM",
            "KSWAPD_RECLAIM",
            "HARDWALL",
            "HIGHMEM",
            "MOVABLE",
        ],
    ),
    (
        "GFP_HIGHUSER",
        &[
            "IO",
            "FS",
            "DIRECT_RECLAIM",
            "KSWAPD_RECLAIM",
            "HARDWALL",
            "HIGHMEM",
        ],
    ),
    (
        "GFP_USER",
        &["IO", "FS", "DIRECT_RECLAIM", "KSWAPD_RECLAIM", "HARDWALL"],
    ),
    (
        "GFP_KERNEL_ACCOUNT",
        &["IO", "FS", "DIRECT_RECLAIM", "KSWAPD_RECLAIM", "ACCOUNT"],
    ),
    (
        "GFP_KERNEL",
        &["IO", "FS", "DIRECT_RECLAIM", "KSWAPD_RECLAIM"],
    ),
    ("GFP_NOFS", &["IO", "DIRECT_RECLAIM", "KSWAPD_RECLAIM"]),
    ("GFP_NOIO", &["DIRECT_RECLAIM", "KSWAPD_RECLAIM"]),
];

impl GfpNames {
    /// From `NAME:BIT,NAME:BIT`, as a session has it.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let one = |part: &str| {
            let (name, bit) = part.split_once(':')?;
            let bit: u32 = bit.parse().ok().filter(|bit| *bit < 32)?;
            Some((name.to_owned(), bit))
        };
        Self(text.split(',').filter_map(one).collect())
    }

    fn bits(&self, names: &[&str]) -> Option<u32> {
        let bit = |name: &&str| {
            let found = self.0.iter().find(|(known, _)| known == name);
            found.map(|(_, bit)| 1 << bit)
        };
        names.iter().map(bit).sum()
    }

    /// The flags of a mask, joined by `|`; `None` where this kernel's are not known.
    #[must_use]
    pub fn of(&self, mask: u32) -> Option<String> {
        if self.0.is_empty() {
            return None;
        }
        let mut left = mask;
        let mut parts: Vec<String> = Vec::new();
        let set = SETS.iter().find_map(|(name, names)| {
            let bits = self.bits(names)?;
            (mask & bits == bits).then_some((*name, bits))
        });
        if let Some((name, bits)) = set {
            left &= !bits;
            parts.push(name.to_owned());
        }
        for (name, bit) in &self.0 {
            if left & (1 << bit) != 0 {
                left &= !(1 << bit);
                parts.push(format!("__GFP_{name}"));
            }
        }
        if left != 0 {
            let mut rest = String::new();
            // A string takes any text.
            let _ = write!(rest, "{left:#x}");
            parts.push(rest);
        }
        Some(parts.join("|"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_are_named_as_the_kernel_prints_them() {
        let names = GfpNames::parse(
            "DMA:0,HIGHMEM:1,MOVABLE:3,IO:6,FS:7,DIRECT_RECLAIM:10,KSWAPD_RECLAIM:11,COMP:18,HARDWALL:20,ACCOUNT:22,bad,X:99",
        );
        assert_eq!(names.of(0xcc0).as_deref(), Some("GFP_KERNEL"));
        assert_eq!(
            names.of(0x0010_0cca).as_deref(),
            Some("GFP_HIGHUSER_MOVABLE")
        );
        assert_eq!(
            names.of(0x0004_0cc0).as_deref(),
            Some("GFP_KERNEL|__GFP_COMP")
        );
        assert_eq!(
            names.of(0x8000_0c40).as_deref(),
            Some("GFP_NOFS|0x80000000")
        );
        assert_eq!(names.of(0x1).as_deref(), Some("__GFP_DMA"));
        assert_eq!(GfpNames::default().of(0xcc0), None);
    }
}
