//! Kernel addresses to names, by one pass over /proc/kallsyms that keeps nothing but the answers.
//!
//! ```text
//! ffffffff81000000 T _stext
//! ffffffffc0a01000 t ext4_readdir [ext4]
//! ```

use std::io::BufRead;

use crate::model::Frame;
use crate::model::RawText;

/// No function is larger: an address farther behind the last symbol belongs to none.
const MAX_FUNCTION: u64 = 1 << 20;

/// The module name of the kernel itself.
const KERNEL: &str = "[kernel]";

/// First address and one past the last of functions of the kernel, by name; a compiler's suffix (`.isra.0`,
/// `.cold`) belongs to the name. Where addresses are hidden, there are none.
pub(super) fn ranges(kallsyms: impl BufRead, names: &[&str]) -> Vec<(String, u64, u64)> {
    let mut found: Vec<(String, u64, u64)> = Vec::new();
    let mut open: Vec<usize> = Vec::new();
    // The kernel's own symbols come in the order of their addresses.
    for line in kallsyms.split(b'\n').map_while(Result::ok) {
        let Some(symbol) = symbol(&line) else {
            continue;
        };
        open.retain(|at| {
            let begin = found[*at].1;
            if symbol.addr > begin {
                found[*at].2 = symbol.addr.min(begin + MAX_FUNCTION);
            }
            symbol.addr <= begin
        });
        let plain = symbol.name.split('.').next().unwrap_or_default();
        if symbol.text && symbol.module.is_none() && names.contains(&plain) {
            open.push(found.len());
            found.push((plain.to_owned(), symbol.addr, symbol.addr + 1));
        }
    }
    found
}

#[derive(Clone, Debug)]
struct Found {
    addr: u64,
    text: bool,
    name: String,
    module: Option<String>,
}

/// One frame per address, in their order; without a name where none is known.
pub(super) fn resolve(kallsyms: impl BufRead, ips: &[u64]) -> Vec<Frame> {
    let mut sorted = ips.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let mut best: Vec<Option<Found>> = vec![None; sorted.len()];
    for line in kallsyms.split(b'\n').map_while(Result::ok) {
        let Some(found) = symbol(&line) else { continue };
        // The first address that is not before the symbol; later ones take over from it below.
        let at = sorted.partition_point(|ip| *ip < found.addr);
        let Some(slot) = best.get_mut(at) else {
            continue;
        };
        if slot.as_ref().is_none_or(|old| better(&found, old)) {
            *slot = Some(found);
        }
    }
    for at in 1..best.len() {
        if best[at].is_none() {
            best[at] = best[at - 1].clone();
        }
    }
    let frame_of = |ip: &u64| {
        let at = sorted.binary_search(ip).ok()?;
        frame(*ip, best[at].as_ref()?)
    };
    ips.iter()
        .map(|ip| frame_of(ip).unwrap_or_else(unknown))
        .collect()
}

/// What is said of a kernel address without a name.
pub(super) fn unknown() -> Frame {
    Frame {
        module: Some(RawText::from(KERNEL)),
        ..Frame::default()
    }
}

fn better(new: &Found, old: &Found) -> bool {
    new.addr > old.addr || (new.addr == old.addr && new.text && !old.text)
}

fn frame(ip: u64, found: &Found) -> Option<Frame> {
    let offset = ip - found.addr;
    (found.text && offset < MAX_FUNCTION).then(|| Frame {
        function: Some(RawText::from(found.name.as_str())),
        offset: Some(offset),
        module: Some(RawText::from(found.module.as_deref().unwrap_or(KERNEL))),
        ..Frame::default()
    })
}

/// Address 0 is what kernel.kptr_restrict shows.
fn symbol(line: &[u8]) -> Option<Found> {
    let line = std::str::from_utf8(line).ok()?;
    let mut fields = line.split_ascii_whitespace();
    let addr = u64::from_str_radix(fields.next()?, 16).ok()?;
    let text = matches!(fields.next()?, "T" | "t" | "W" | "w");
    (addr != 0).then_some(())?;
    Some(Found {
        addr,
        text,
        name: fields.next()?.to_owned(),
        module: fields.next().map(str::to_owned),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_end_where_the_next_symbol_begins() {
        let text = "ffffffff81000000 T do_swap_page\nffffffff81000000 t alias\n\
                    ffffffff81000100 t other\nffffffff81000200 t zap_pte_range.isra.0\n\
                    ffffffff81000280 D data\nffffffffc0000000 t do_swap_page [module]\n";
        let found = ranges(text.as_bytes(), &["do_swap_page", "zap_pte_range"]);
        let named = |name: &str, from: u64, to: u64| (name.to_owned(), from, to);
        assert_eq!(
            found,
            [
                named("do_swap_page", 0xffff_ffff_8100_0000, 0xffff_ffff_8100_0100),
                named(
                    "zap_pte_range",
                    0xffff_ffff_8100_0200,
                    0xffff_ffff_8100_0280
                ),
            ]
        );
        let hidden = "0000000000000000 T do_swap_page\n0000000000000000 t next\n";
        assert_eq!(ranges(hidden.as_bytes(), &["do_swap_page"]), []);
    }

    #[test]
    fn the_last_symbol_before_the_address_names_it() {
        let text = "1000 T first\n2000 t second\n2000 T alias\n3000 D data\n0 T hidden\nx\n9000 t far\t[mod]\n";
        let names: Vec<_> = resolve(
            text.as_bytes(),
            &[0x9004, 0x2fff, 0x3001, 0x10, 0x1000, 0xfff_ffff],
        )
        .into_iter()
        .map(|frame| {
            (
                frame.function.map(|it| it.lossy().into_owned()),
                frame.offset,
                frame.module.unwrap(),
            )
        })
        .collect();
        assert_eq!(
            names[0],
            (Some("far".to_owned()), Some(4), RawText::from("[mod]"))
        );
        assert_eq!(
            names[1],
            (
                Some("second".to_owned()),
                Some(0xfff),
                RawText::from("[kernel]")
            )
        );
        assert_eq!(
            (&names[2].0, &names[3].0, &names[5].0),
            (&None, &None, &None)
        );
        assert_eq!(
            (names[4].0.as_deref(), names[4].1),
            (Some("first"), Some(0))
        );
    }

    #[test]
    fn hidden_addresses_name_nothing() {
        let frames = resolve(&b"0000000000000000 T _text\n"[..], &[0xffff_ffff_8100_0000]);
        assert_eq!(frames, [unknown()]);
    }
}
