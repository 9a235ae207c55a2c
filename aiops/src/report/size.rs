//! Sizes and rows for people, the same in findings and in text.

/// A size from KiB, in KiB, MiB, GiB or TiB, three digits: an exact one has no decimals (`64 MiB`), a
/// rounded one shows that it is (`64.0 MiB`).
#[must_use]
pub fn size_kb(kb: u64) -> String {
    const UNITS: [(&str, u32); 3] = [("TiB", 30), ("GiB", 20), ("MiB", 10)];
    for (unit, shift) in UNITS {
        let one = 1u64 << shift;
        if kb >= one {
            if kb.is_multiple_of(one) {
                return format!("{} {unit}", kb >> shift);
            }
            return format!("{} {unit}", three_digits(kb as f64 / one as f64));
        }
    }
    format!("{kb} KiB")
}

fn three_digits(value: f64) -> String {
    match value.abs() {
        v if v < 9.995 => format!("{value:.2}"),
        v if v < 99.95 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// Rows of `len` that `--top` shows: 0 means all.
#[must_use]
pub fn shown(top: usize, len: usize) -> usize {
    if top == 0 { len } else { top.min(len) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn top_0_is_all() {
        assert_eq!((shown(0, 7), shown(3, 7), shown(9, 7)), (7, 3, 7));
    }
}
