//! The tables of metrics, and the page made from them.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::Path;

use super::*;
use crate::model::MappingMetrics;

fn check<T: Default>(metrics: &[Metric<T>]) {
    let mut names = HashSet::new();
    for metric in metrics {
        assert!(names.insert(metric.name), "{metric:?}");
        assert!(!metric.source.is_empty() && metric.what.ends_with('.'));
        let mut set = T::default();
        assert_eq!((metric.get)(&set), None);
        (metric.set)(&mut set, Some(7));
        let hits = metrics.iter().filter(|other| (other.get)(&set).is_some());
        assert_eq!(hits.count(), 1, "{metric:?}");
    }
}

#[test]
fn each_metric_has_its_own_field_and_name() {
    check(SystemMetrics::METRICS);
    check(CgroupMetrics::METRICS);
    check(ProcessMetrics::METRICS);
    check(MappingMetrics::METRICS);
}

/// The unit that a name tells.
fn unit(name: &str, what: &str) -> &'static str {
    const ENDS: &[(&str, &str)] = &[
        ("_kb", "KiB"),
        ("_bytes", "bytes"),
        ("_us", "µs"),
        ("_ms", "ms"),
        ("_ticks", "clock ticks"),
        ("avg10", "0.01 %"),
        ("avg60", "0.01 %"),
        ("avg300", "0.01 %"),
        ("load1", "0.01"),
    ];
    let mut ends = ENDS.iter();
    match ends.find(|(end, _)| name.ends_with(end)) {
        Some((_, unit)) => unit,
        None if what.to_lowercase().contains("pages") => "pages",
        None => "number",
    }
}

fn table<T>(page: &mut String, title: &str, intro: &str, metrics: &[Metric<T>]) {
    let head = "| name | unit | source | what it is |\n|---|---|---|---|";
    writeln!(page, "\n## {title}\n\n{intro}\n\n{head}").expect("a string takes any text");
    for metric in metrics {
        let (name, source, what) = (metric.name, metric.source, metric.what.trim());
        let unit = unit(name, what);
        writeln!(page, "| `{name}` | {unit} | `{source}` | {what} |").expect("as above");
    }
}

/// Text of docs/metrics.md.
fn page() -> String {
    let mut page = String::from(
        "# Metrics\n\nMade from the tables in `aiops/src/model/sample.rs` and `mapping.rs` by their test with \
         `AIOPS_UPDATE_DOCS=1`; do not edit.\n\n\
         A name is the key in JSON and the column of a recording; its end is its unit. What this kernel, host or \
         user cannot tell is `null`, never 0.\n",
    );
    table(
        &mut page,
        "System",
        "`meminfo:` keys are those of /proc/meminfo, `vmstat:` those of /proc/vmstat, counted since boot (`*`: a sum over \
         all that begin so), `psi:`, `psi_io:` and `psi_cpu:` those of /proc/pressure/{memory,io,cpu} (since Linux 4.20), \
         `loadavg:`, `stat:` and `diskstats:` those files of /proc, `net:` /proc/net/dev without lo.",
        SystemMetrics::METRICS,
    );
    table(
        &mut page,
        "Memory cgroup",
        "`v1:` and `v2:` are files of the cgroup by version, `stat:` keys of its memory.stat; the first source that is \
         there counts. A limit that is not set is `null`.",
        CgroupMetrics::METRICS,
    );
    table(
        &mut page,
        "Process",
        "Files of /proc/PID. `smaps_rollup:` ones (since Linux 4.14) are read in turn within a budget; `rollup_age_ms` \
         says how old they are.",
        ProcessMetrics::METRICS,
    );
    table(
        &mut page,
        "Mapping",
        "Keys of /proc/PID/smaps, of one mapping or of several together.",
        MappingMetrics::METRICS,
    );
    page
}

#[test]
fn the_page_is_the_tables() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    if std::env::var_os("AIOPS_UPDATE_DOCS").is_some() {
        std::fs::write(&path, page()).expect("docs/metrics.md can be written");
    }
    let stored = std::fs::read_to_string(&path).expect("docs/metrics.md is there");
    assert!(
        stored == page(),
        "docs/metrics.md is stale: run with AIOPS_UPDATE_DOCS=1"
    );
}
