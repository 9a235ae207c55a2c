//! Names of code that a runtime made, as Java, Node or Python tell them in /tmp/perf-PID.map:
//!
//! ```text
//! 7f2c8a400000 1a0 LazyCompile:~handleRequest /srv/app.js:12
//! ```

use std::io::BufRead;

use crate::model::RawText;

/// Bytes of a map read; a JVM with 100,000 methods writes 10 MB.
const MAX_BYTES: u64 = 256 << 20;

/// What stands at an address: name and offset into it. The last line about an address counts, for a runtime
/// uses its memory again.
pub(super) fn resolve(map: impl BufRead, ips: &[u64]) -> Vec<Option<(RawText, u64)>> {
    let mut sorted = ips.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let mut found: Vec<Option<(RawText, u64)>> = vec![None; sorted.len()];
    let lines = map.take(MAX_BYTES).split(b'\n').map_while(Result::ok);
    for (start, end, name) in lines.filter_map(|line| entry(&line)) {
        let from = sorted.partition_point(|ip| *ip < start);
        let to = sorted.partition_point(|ip| *ip < end);
        for at in from..to {
            found[at] = Some((name.clone(), sorted[at] - start));
        }
    }
    let answer = |ip: &u64| found[sorted.binary_search(ip).ok()?].clone();
    ips.iter().map(answer).collect()
}

fn entry(line: &[u8]) -> Option<(u64, u64, RawText)> {
    let mut fields = line.splitn(3, |byte| *byte == b' ');
    let mut number = || {
        let text = std::str::from_utf8(fields.next()?).ok()?;
        u64::from_str_radix(text.trim_start_matches("0x"), 16).ok()
    };
    let (start, size) = (number()?, number()?);
    let name = fields.next()?.trim_ascii();
    let end = start.checked_add(size)?;
    (!name.is_empty() && start < end).then(|| (start, end, RawText::new(name)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_line_about_an_address_counts() {
        let text = b"1000 100 first one\n0x1040 20 second\ngarbage\n2000 0 empty\nffffffffffffffff 2 x\n3000 10\n";
        let found = resolve(&text[..], &[0x1050, 0x1000, 0x10ff, 0x1100, 0x2000, 0x3000]);
        let name = |at: usize| {
            found[at]
                .as_ref()
                .map(|(name, offset)| (name.lossy().into_owned(), *offset))
        };
        assert_eq!(name(0), Some(("second".to_owned(), 0x10)));
        assert_eq!(name(1), Some(("first one".to_owned(), 0)));
        assert_eq!(name(2), Some(("first one".to_owned(), 0xff)));
        assert!(found[3..].iter().all(Option::is_none));
    }
}
