//! /proc/PID/smaps and smaps_rollup (fs/proc/task_mmu.c, `show_smap`), and maps where smaps is refused.
//!
//! Own parser: names hold any bytes, 65,530 mappings are 50 MB of text that is read line by line, and a
//! key of a later kernel must not end the reading, as it does in the `procfs` crate.

use std::io;
use std::io::BufRead;
use std::io::BufReader;
use std::path::Path;
use std::sync::LazyLock;

use crate::model::MappingMetrics;
use crate::model::MappingSample;
use crate::model::ProcessMappings;
use crate::model::RawText;
use crate::source::clock;
use crate::source::host;
use crate::source::maps::path_bytes;
use crate::source::procdir::ProcDir;

use super::kinds;
use super::process::ProcessReader;
use super::process::Wanted;
use super::system::number;

/// Reads every mapping of a process.
///
/// # Errors
/// `NotFound` when it is gone, `PermissionDenied` when not even maps can be read.
pub fn read_mappings(root: &Path, pid: u32) -> io::Result<ProcessMappings> {
    let ts_ns = clock::mono_ns();
    let dir = ProcDir::open(root, pid)?;
    let process = one(root, pid)?;
    let exe = dir.link("exe").ok();
    // A process whose first thread has ended tells its memory through the others.
    let ended = matches!(process.state, Some('Z' | 'X' | 'x'));
    let thread = ended.then(|| dir.thread(pid)).flatten();
    let memory = thread.as_ref().unwrap_or(&dir);
    let (mut mappings, maps_only) = match memory
        .file(b"smaps")
        .and_then(|file| parse(&mut buffered(file)))
    {
        Ok(mappings) => (mappings, false),
        // A kernel or a captured tree may have no smaps.
        Err(error) if gone(&error) && dir.stat().is_err() => return Err(error),
        Err(_) => (parse(&mut buffered(memory.file(b"maps")?))?, true),
    };
    kinds::classify(&mut mappings, exe.as_deref());
    let rollup = memory.read("smaps_rollup", 64 << 10).ok();
    let node_kb = memory
        .file(b"numa_maps")
        .ok()
        .and_then(|file| numa(&mut buffered(file), page_kb(root)).ok())
        .filter(|nodes| !nodes.is_empty());
    // smaps of a process that ends while it is read just stops; and the pid may be another's by now.
    let now = dir.stat()?;
    if now.start_ticks != process.start_ticks || (now.exiting && !ended) {
        return Err(io::ErrorKind::NotFound.into());
    }
    Ok(ProcessMappings {
        ts_ns,
        process,
        rollup: rollup.as_deref().and_then(rollup_figures),
        maps_only,
        node_kb,
        mappings,
    })
}

/// KiB of a page of the host below `root`.
pub(super) fn page_kb(root: &Path) -> Option<u64> {
    host::page_size(root).map(|bytes| bytes / 1024)
}

/// The kernel fills at most a page a read, so a larger buffer would not save any.
fn buffered(file: std::fs::File) -> BufReader<std::fs::File> {
    BufReader::with_capacity(16 << 10, file)
}

/// Whether the process ended while it was read.
fn gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(libc::ESRCH)
}

/// The process' sample; kernel threads and zombies have nothing to map.
fn one(root: &Path, pid: u32) -> io::Result<crate::model::ProcessSample> {
    let (mut samples, skipped) = ProcessReader::open(root)?.read(&[pid], Wanted::All);
    match samples.pop() {
        Some(sample) => Ok(sample),
        None if skipped.denied > 0 => Err(io::ErrorKind::PermissionDenied.into()),
        None if skipped.kernel_threads + skipped.zombies > 0 => Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "a kernel thread or zombie has no memory of its own",
        )),
        None => Err(io::ErrorKind::NotFound.into()),
    }
}

/// The mappings in smaps or maps, in their order; what is damaged is left out.
pub(super) fn parse(text: &mut dyn BufRead) -> io::Result<Vec<MappingSample>> {
    let mut mappings: Vec<MappingSample> = Vec::new();
    // Whether the last heading was understood: the figures behind a damaged one are nobody's.
    let mut open = false;
    let mut next = 0;
    let mut line = Vec::with_capacity(256);
    while read_line(text, &mut line)? {
        let content = line.strip_suffix(b"\n").unwrap_or(&line);
        // A heading begins with an address, whose digits are lower case; keys begin with a capital.
        if content.first().is_some_and(u8::is_ascii_uppercase) {
            if let Some(mapping) = mappings.last_mut().filter(|_| open) {
                figure(content, mapping, &mut next);
            }
        } else {
            let mapping = heading(content);
            open = mapping.is_some();
            next = 0;
            mappings.extend(mapping);
        }
    }
    Ok(mappings)
}

/// Longest line that is kept whole: a path has at most 4,096 bytes, each up to four escaped.
const MOST_LINE: u64 = 32 << 10;

/// The next line, with its end; false behind the last one. What is longer than any line of the kernel's
/// comes in parts, so that a damaged file cannot take all memory.
fn read_line(text: &mut dyn BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    Ok(io::Read::take(text, MOST_LINE).read_until(b'\n', line)? > 0)
}

/// `7f2c8a400000-7f2c8a588000 r-xp 00028000 fe:00 1835   /usr/lib/libc.so.6`.
fn heading(line: &[u8]) -> Option<MappingSample> {
    let mut fields = line.splitn(6, |byte| *byte == b' ');
    let mut field = || fields.next();
    let (range, perms, offset) = (field()?, field()?, field()?);
    let (device, inode) = (field()?, field()?);
    let path = field().unwrap_or_default();
    let dash = range.iter().position(|byte| *byte == b'-')?;
    let hex = |text: &[u8]| u64::from_str_radix(std::str::from_utf8(text).ok()?, 16).ok();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (start, end) = (hex(&range[..dash])?, hex(&range[dash + 1..])?);
    (start < end).then_some(MappingSample {
        start,
        end,
        perms: text(perms),
        offset: hex(offset)?,
        device: text(device),
        inode: number(inode)?,
        path: RawText::new(path_bytes(path.trim_ascii_start())),
        // maps tells the size as well.
        metrics: MappingMetrics {
            size_kb: Some((end - start) / 1024),
            ..MappingMetrics::default()
        },
        ..MappingSample::default()
    })
}

/// `Rss:   123 kB`, `VmFlags: rd ex mr`.
fn figure(line: &[u8], mapping: &mut MappingSample, next: &mut usize) {
    let Some(colon) = line.iter().position(|byte| *byte == b':') else {
        return;
    };
    let (key, rest) = (&line[..colon], &line[colon + 1..]);
    match key {
        b"VmFlags" => {
            let words = rest.split(u8::is_ascii_whitespace);
            let words = words.filter(|word| !word.is_empty());
            mapping.vm_flags = words
                .map(|word| String::from_utf8_lossy(word).into_owned())
                .collect();
            // There may be 65,530 of them.
            mapping.vm_flags.shrink_to_fit();
        }
        b"KernelPageSize" => mapping.page_kb = kb(rest),
        _ => set(&mut mapping.metrics, key, rest, next),
    }
}

fn kb(rest: &[u8]) -> Option<u64> {
    let mut words = rest.split(u8::is_ascii_whitespace);
    number(words.find(|word| !word.is_empty())?)
}

/// The metrics by their keys.
static KEYS: LazyLock<Vec<&[u8]>> = LazyLock::new(|| {
    let metrics = MappingMetrics::METRICS.iter();
    let keys = metrics.map(|metric| metric.source.strip_prefix("smaps:").unwrap_or_default());
    keys.map(str::as_bytes).collect()
});

/// Sets the metric of a key. The kernel prints keys in the order of the table, so each is searched from
/// the place of the last one on.
fn set(metrics: &mut MappingMetrics, key: &[u8], rest: &[u8], next: &mut usize) {
    let keys = &*KEYS;
    let places = (*next..keys.len()).chain(0..(*next).min(keys.len()));
    for place in places {
        if keys[place] != key {
            continue;
        }
        if let (Some(metric), Some(value)) = (MappingMetrics::METRICS.get(place), kb(rest)) {
            (metric.set)(metrics, Some(value));
        }
        *next = place + 1;
        return;
    }
}

/// The figures of smaps_rollup; `None` without any, as of a process without memory.
pub(super) fn rollup_figures(text: &[u8]) -> Option<MappingMetrics> {
    let mut metrics = MappingMetrics::default();
    let mut next = 0;
    for line in text.split(|byte| *byte == b'\n') {
        if let Some(colon) = line.iter().position(|byte| *byte == b':') {
            set(&mut metrics, &line[..colon], &line[colon + 1..], &mut next);
        }
    }
    // The kernel tells no size here.
    metrics.size_kb = None;
    metrics.rss_kb.is_some().then_some(metrics)
}

/// Memory by node, KiB: `… N0=12 N1=3 kernelpagesize_kB=4` of /proc/PID/numa_maps (`show_numa_map`). Before
/// 3.17 the page size is not told: then it is the host's, and unknown for huge pages, which are left out.
pub(super) fn numa(text: &mut dyn BufRead, page_kb: Option<u64>) -> io::Result<Vec<u64>> {
    let mut nodes: Vec<u64> = Vec::new();
    let mut line = Vec::with_capacity(256);
    while read_line(text, &mut line)? {
        let words = || line.split(u8::is_ascii_whitespace);
        let told = words().find_map(|word| number(word.strip_prefix(b"kernelpagesize_kB=")?));
        let ordinary = || page_kb.filter(|_| !words().any(|word| word == b"huge"));
        let Some(page_kb) = told.or_else(ordinary) else {
            continue;
        };
        for word in words() {
            let Some((node, pages)) = word.strip_prefix(b"N").and_then(|word| {
                let equals = word.iter().position(|byte| *byte == b'=')?;
                Some((number(&word[..equals])?, number(&word[equals + 1..])?))
            }) else {
                continue;
            };
            // A kernel has at most 1,024 nodes (MAX_NUMNODES).
            if let Some(node) = usize::try_from(node).ok().filter(|node| *node < 1024) {
                if nodes.len() <= node {
                    nodes.resize(node + 1, 0);
                }
                nodes[node] = nodes[node].saturating_add(pages.saturating_mul(page_kb));
            }
        }
    }
    Ok(nodes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn this_process_adds_up() {
        let own = read_mappings(Path::new("/"), std::process::id()).unwrap();
        assert!(!own.maps_only && own.mappings.len() > 5);
        let mut sum = MappingMetrics::default();
        for mapping in &own.mappings {
            sum.add(&mapping.metrics);
        }
        let rollup = own.rollup.unwrap();
        let difference = sum.rss_kb.unwrap().abs_diff(rollup.rss_kb.unwrap());
        assert!(difference < 4096, "{difference} KiB apart");
        assert!(own.mappings.iter().any(|one| !one.vm_flags.is_empty()));
    }

    #[test]
    fn names_with_blanks_newlines_and_other_bytes() {
        let text = b"00400000-00452000 r-xp 00000000 08:02 173521      /a b\\012c\xff (deleted)\nSize: 328 kB\nRss: 4 kB\nNewKey: 9 kB\nVmFlags: rd ex \n";
        let found = parse(&mut &text[..]).unwrap();
        assert_eq!(found[0].path.as_bytes(), b"/a b\nc\xff (deleted)");
        assert_eq!(found[0].metrics.rss_kb, Some(4));
        assert_eq!(found[0].metrics.pss_kb, None);
        assert_eq!(found[0].vm_flags, ["rd", "ex"]);
    }

    #[test]
    fn memory_by_node() {
        let text = b"7f00 default anon=5 dirty=5 N0=2 N2=3 kernelpagesize_kB=4\n7f01 default file=/a N0=1 kernelpagesize_kB=2048\n";
        // A line's own page size counts, whatever the host's.
        assert_eq!(numa(&mut &text[..], Some(64)).unwrap(), [8 + 2048, 0, 12]);
        // Linux 3.10 does not tell it.
        let old = b"7f00 default anon=5 dirty=5 N0=5\n7f01 default file=/hugepages/a huge N0=1\n";
        assert_eq!(numa(&mut &old[..], Some(64)).unwrap(), [320]);
        assert!(numa(&mut &old[..], None).unwrap().is_empty());
    }

    #[test]
    fn who_is_gone_and_who_has_nothing() {
        let error = read_mappings(Path::new("/"), u32::MAX - 1).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(text in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&mut &text[..]);
            let _ = heading(&text);
            let _ = rollup_figures(&text);
            let _ = numa(&mut &text[..], Some(4));
        }
    }
}
