//! Where swapped pages go: /proc/swaps (mm/swapfile.c), zram (drivers/block/zram), zswap (mm/zswap.c).

use std::path::Path;

use crate::model::RawText;
use crate::model::SwapDevice;
use crate::model::Zram;
use crate::model::Zswap;

use crate::source::mounts::unescape;

use super::detail::Look;
use super::system;
use super::system::number;

/// Every swap device in use.
pub(super) fn devices(look: &mut Look<'_>) -> Option<Vec<SwapDevice>> {
    let mut devices = parse(&look.read("proc/swaps")?);
    for device in &mut devices {
        let path = device.path.lossy().into_owned();
        if device.kind == "partition" {
            let name = Path::new(&path).file_name().unwrap_or_default();
            device.rotational = rotational(look, &name.to_string_lossy());
        }
    }
    Some(devices)
}

/// A partition has its disk's queue one folder up.
fn rotational(look: &Look<'_>, name: &str) -> Option<bool> {
    let folder = format!("sys/class/block/{name}");
    let own = look.number(&format!("{folder}/queue/rotational"));
    own.or_else(|| look.number(&format!("{folder}/../queue/rotational")))
        .map(|flag| flag == 1)
}

/// `Filename Type Size Used Priority`; a path has its blanks as `\040`.
fn parse(text: &[u8]) -> Vec<SwapDevice> {
    let line = |line: &[u8]| {
        let words = line.split(u8::is_ascii_whitespace);
        let mut words = words.filter(|word| !word.is_empty());
        Some(SwapDevice {
            path: RawText::new(unescape(words.next()?)),
            kind: String::from_utf8_lossy(words.next()?).into_owned(),
            size_kb: number(words.next()?)?,
            used_kb: number(words.next()?)?,
            priority: std::str::from_utf8(words.next()?).ok()?.parse().ok()?,
            rotational: None,
        })
    };
    text.split(|byte| *byte == b'\n').filter_map(line).collect()
}

/// Every zram device; `None` where /sys/block is not there.
pub(super) fn zrams(look: &Look<'_>) -> Option<Vec<Zram>> {
    let entries = std::fs::read_dir(look.root.join("sys/block")).ok()?;
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = names.filter(|name| name.starts_with("zram")).collect();
    names.sort();
    Some(names.into_iter().map(|name| zram(look, name)).collect())
}

/// `mm_stat`: `orig_data_size` `compr_data_size` `mem_used_total` `mem_limit` `mem_used_max` `same_pages`
/// `pages_compacted` `huge_pages` (Documentation/admin-guide/blockdev/zram.rst).
fn zram(look: &Look<'_>, name: String) -> Zram {
    let file = |file: &str| look.maybe(&format!("sys/block/{name}/{file}"));
    let figures = |text: Option<String>| -> Vec<Option<u64>> {
        let text = text.unwrap_or_default();
        text.split_whitespace()
            .map(|word| word.parse().ok())
            .collect()
    };
    let memory = figures(file("mm_stat"));
    let backing = figures(file("bd_stat"));
    // Before 4.7 each figure may have a file of its own instead.
    let own = |name: &str| file(name).and_then(|text| text.parse().ok());
    let figure = |index: usize| memory.get(index).copied().flatten();
    Zram {
        disk_size_bytes: file("disksize").and_then(|text| text.parse().ok()),
        original_bytes: figure(0).or_else(|| own("orig_data_size")),
        compressed_bytes: figure(1).or_else(|| own("compr_data_size")),
        used_bytes: figure(2).or_else(|| own("mem_used_total")),
        limit_bytes: figure(3).filter(|limit| *limit > 0),
        same_pages: figure(5),
        huge_pages: figure(7),
        algorithm: file("comp_algorithm").map(|text| chosen(&text)),
        // bd_stat counts in units of 4 KiB.
        backing_bytes: backing
            .first()
            .copied()
            .flatten()
            .map(|units| units.saturating_mul(4096)),
        name,
    }
}

/// The chosen word of `lzo [lz4] zstd`; the whole text when none is marked.
pub(super) fn chosen(text: &str) -> String {
    let marked = text
        .split_whitespace()
        .find_map(|word| word.strip_prefix('[')?.strip_suffix(']'));
    marked.unwrap_or(text).to_owned()
}

/// zswap's state; `None` where the kernel has none.
pub(super) fn zswap(look: &Look<'_>) -> Option<Zswap> {
    let parameters = "sys/module/zswap/parameters";
    let enabled = look.maybe(&format!("{parameters}/enabled"))?;
    let debug = |name: &str| look.number(&format!("sys/kernel/debug/zswap/{name}"));
    // debugfs is for root alone and often not mounted; since 5.19 meminfo tells the sizes as well, and since
    // 6.8 vmstat what was written back.
    let known = system::read_system(look.root, system::Scope::Memory);
    let page_bytes = crate::source::host::page_size(look.root);
    let bytes = |kb: Option<u64>| kb.map(|kb| kb.saturating_mul(1024));
    Some(Zswap {
        enabled: match enabled.as_str() {
            "Y" | "1" => Some(true),
            "N" | "0" => Some(false),
            _ => None,
        },
        compressor: look.maybe(&format!("{parameters}/compressor")),
        max_pool_percent: look.number(&format!("{parameters}/max_pool_percent")),
        pool_bytes: debug("pool_total_size").or(bytes(known.zswap_kb)),
        stored_pages: debug("stored_pages")
            .or_else(|| bytes(known.zswapped_kb)?.checked_div(page_bytes?)),
        pool_limit_hit: debug("pool_limit_hit"),
        written_back_pages: debug("written_back_pages").or(known.zswpwb),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_with_blanks_and_negative_priority() {
        let text = b"Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n/dev/sda2                               partition\t2097148\t\t1024\t\t-2\n/my\\040swap file 8 4 5\n";
        let found = parse(text);
        assert_eq!(found.len(), 2);
        assert_eq!(
            (found[0].size_kb, found[0].used_kb, found[0].priority),
            (2_097_148, 1024, -2)
        );
        assert_eq!(found[1].path.as_bytes(), b"/my swap");
    }

    #[test]
    fn the_word_in_brackets() {
        assert_eq!(chosen("lzo [lz4] zstd"), "lz4");
        assert_eq!(chosen("always"), "always");
    }
}
