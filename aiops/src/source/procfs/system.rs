//! /proc/meminfo, vmstat, pressure/memory and loadavg, by the keys of [`SystemMetrics::METRICS`].

use std::path::Path;

use crate::model::SystemMetrics;
use crate::source::files;

use super::load;

/// How much of the host is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Memory alone: what is read ten times a second under pressure.
    Memory,
    /// CPU, disks and network as well.
    All,
}

/// Reads the host's figures. A file or key that is not there leaves its metric unknown.
#[must_use]
pub fn read_system(root: &Path, scope: Scope) -> SystemMetrics {
    let proc = root.join("proc");
    let read = |name: &str| files::read(&proc.join(name)).unwrap_or_default();
    let more = |name: &str| match scope {
        Scope::Memory => Vec::new(),
        Scope::All => read(name),
    };
    let mut set = parse(&Texts {
        meminfo: &read("meminfo"),
        vmstat: &read("vmstat"),
        psi: &read("pressure/memory"),
        psi_io: &more("pressure/io"),
        psi_cpu: &more("pressure/cpu"),
        loadavg: &read("loadavg"),
    });
    if scope == Scope::All {
        load::read(&proc, root, &mut set);
    }
    set
}

/// The files as they are.
#[derive(Default)]
struct Texts<'a> {
    meminfo: &'a [u8],
    vmstat: &'a [u8],
    psi: &'a [u8],
    psi_io: &'a [u8],
    psi_cpu: &'a [u8],
    loadavg: &'a [u8],
}

fn parse(texts: &Texts<'_>) -> SystemMetrics {
    let meminfo = pairs(texts.meminfo);
    let vmstat = pairs(texts.vmstat);
    let mut set = SystemMetrics::default();
    for metric in SystemMetrics::METRICS {
        let value = match metric.source.split_once(':') {
            Some(("meminfo", key)) => find(&meminfo, key),
            Some(("vmstat", key)) => key
                .strip_suffix('*')
                .map_or_else(|| find(&vmstat, key), |head| sum(&vmstat, head)),
            Some(("psi", key)) => pressure(texts.psi, key),
            Some(("psi_io", key)) => pressure(texts.psi_io, key),
            Some(("psi_cpu", key)) => pressure(texts.psi_cpu, key),
            Some(("loadavg", _)) => hundredths(
                texts
                    .loadavg
                    .split(|byte| *byte == b' ')
                    .next()
                    .unwrap_or_default(),
            ),
            _ => None,
        };
        (metric.set)(&mut set, value);
    }
    set
}

/// `Key:   123 kB` and `key 123` lines.
fn pairs(text: &[u8]) -> Vec<(&[u8], u64)> {
    text.split(|byte| *byte == b'\n').filter_map(pair).collect()
}

fn pair(line: &[u8]) -> Option<(&[u8], u64)> {
    let mut words = line
        .split(|byte| *byte == b' ')
        .filter(|word| !word.is_empty());
    let key = words.next()?;
    let value = number(words.next()?)?;
    Some((key.strip_suffix(b":").unwrap_or(key), value))
}

fn find(pairs: &[(&[u8], u64)], key: &str) -> Option<u64> {
    pairs
        .iter()
        .find(|(name, _)| *name == key.as_bytes())
        .map(|(_, value)| *value)
}

/// Older kernels count per zone (`pgscan_direct_normal`): a sum over everything that begins with `head`.
/// `pgscan_direct_throttle` counts something else.
fn sum(pairs: &[(&[u8], u64)], head: &str) -> Option<u64> {
    let wanted = |name: &[u8]| name.starts_with(head.as_bytes()) && !name.ends_with(b"_throttle");
    let mut values = pairs
        .iter()
        .filter(|(name, _)| wanted(name))
        .map(|(_, value)| *value)
        .peekable();
    values.peek()?;
    Some(values.fold(0, u64::saturating_add))
}

/// `some avg10=0.12 avg60=… total=123`: an average in hundredths, a total as it is.
pub(crate) fn pressure(text: &[u8], key: &str) -> Option<u64> {
    let (kind, field) = key.split_once(' ')?;
    let line = text
        .split(|byte| *byte == b'\n')
        .find(|line| line.starts_with(kind.as_bytes()))?;
    let words = line.split(|byte| *byte == b' ');
    let value = words
        .filter_map(|word| word.strip_prefix(field.as_bytes())?.strip_prefix(b"="))
        .next()?;
    if field == "total" {
        number(value)
    } else {
        hundredths(value)
    }
}

/// `12.34` as 1234.
fn hundredths(text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, part) = text.trim().split_once('.')?;
    let part: u64 = part.get(..2)?.parse().ok()?;
    whole
        .parse::<u64>()
        .ok()?
        .checked_mul(100)?
        .checked_add(part)
}

/// A decimal number: digits and nothing else.
pub(crate) fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |value, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        value.checked_mul(10)?.checked_add(digit)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_modern_kernel() {
        let set = parse(&Texts {
            meminfo: b"MemTotal:       16330000 kB\nMemAvailable:   123 kB\nActive(anon):   7 kB\nHugePages_Total:       0\n",
            vmstat: b"pswpin 5\noom_kill 3\npgscan_direct 10\npgscan_direct_throttle 99\nworkingset_refault_anon 1\nworkingset_refault_file 2\n",
            psi: b"some avg10=1.25 avg60=0.00 avg300=0.00 total=77\nfull avg10=0.50 avg60=0.00 avg300=0.00 total=33\n",
            loadavg: b"0.42 0.30 0.20 1/234 567\n",
            ..Texts::default()
        });
        assert_eq!(
            (set.mem_total_kb, set.mem_available_kb, set.active_anon_kb),
            (Some(16_330_000), Some(123), Some(7))
        );
        assert_eq!(
            (
                set.pswpin,
                set.oom_kill,
                set.pgscan_direct,
                set.workingset_refault
            ),
            (Some(5), Some(3), Some(10), Some(3))
        );
        assert_eq!(
            (
                set.psi_some_avg10,
                set.psi_full_avg10,
                set.psi_full_total_us
            ),
            (Some(125), Some(50), Some(33))
        );
        assert_eq!(set.load1, Some(42));
    }

    #[test]
    fn an_old_kernel_leaves_gaps_not_zeros() {
        let set = parse(&Texts {
            meminfo: b"MemTotal: 100 kB\nMemFree: 50 kB\n",
            vmstat: b"pgscan_direct_dma 1\npgscan_direct_normal 2\n",
            ..Texts::default()
        });
        assert_eq!((set.mem_free_kb, set.pgscan_direct), (Some(50), Some(3)));
        assert_eq!(
            (
                set.mem_available_kb,
                set.psi_some_avg10,
                set.oom_kill,
                set.load1
            ),
            (None, None, None, None)
        );
    }

    #[test]
    fn this_host() {
        let set = read_system(Path::new("/"), Scope::All);
        assert!(set.mem_total_kb > set.mem_free_kb && set.mem_free_kb > Some(0));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&Texts {
                meminfo: &text,
                vmstat: &text,
                psi: &text,
                psi_io: &text,
                psi_cpu: &text,
                loadavg: &text,
            });
        }
    }
}
