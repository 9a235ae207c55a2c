//! The page, read back by a strict parser and by promtool.

use std::collections::BTreeSet;
use std::collections::HashMap;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;
use std::process::Stdio;
use std::time::Duration;

use super::*;
use crate::model::ClockPair;
use crate::model::Container;
use crate::model::Identity;
use crate::model::ProcessMetrics;
use crate::source::plane::Plane;
use crate::source::plane::Rollup;
use crate::source::plane::Wants;

#[derive(Debug, Default)]
pub(in super::super) struct Read {
    kind: String,
    unit: String,
    help: String,
    samples: Vec<(BTreeMap<String, String>, f64)>,
}

/// Labels between braces, by the rules: `name="value"` with `\\`, `\"` and `\n` as the only escapes.
fn read_labels(text: &str) -> (BTreeMap<String, String>, &str) {
    let mut labels = BTreeMap::new();
    let mut rest = text;
    loop {
        let (name, tail) = rest.split_once("=\"").expect("a label");
        assert!(
            name.bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_'),
            "{name}"
        );
        let mut value = String::new();
        let mut chars = tail.char_indices();
        let end = loop {
            let (at, c) = chars.next().expect("an end of the value");
            match c {
                '"' => break at,
                '\\' => match chars.next().expect("an escaped character").1 {
                    'n' => value.push('\n'),
                    c @ ('\\' | '"') => value.push(c),
                    c => panic!("\\{c} is no escape"),
                },
                c => {
                    assert!(!c.is_control(), "{c:?}");
                    value.push(c);
                }
            }
        };
        assert!(
            labels.insert(name.to_owned(), value).is_none(),
            "{name} twice"
        );
        rest = &tail[end + 1..];
        if let Some(tail) = rest.strip_prefix("} ") {
            return (labels, tail);
        }
        rest = rest.strip_prefix(',').expect("a comma");
    }
}

/// Reads OpenMetrics; anything that its rules do not allow fails.
pub(in super::super) fn read(text: &str) -> BTreeMap<String, Read> {
    let body = text.strip_suffix("# EOF\n").expect("an end");
    let mut families: BTreeMap<String, Read> = BTreeMap::new();
    let mut now = String::new();
    let mut series = BTreeSet::new();
    for line in body.lines() {
        if let Some(rest) = line.strip_prefix("# ") {
            let mut words = rest.splitn(3, ' ');
            let (word, name, text) = (words.next(), words.next(), words.next());
            let (name, text) = (name.expect("a name"), text.expect("a text").to_owned());
            if word == Some("TYPE") {
                assert!(!families.contains_key(name), "{name} twice");
                name.clone_into(&mut now);
                families.entry(now.clone()).or_default().kind = text;
                continue;
            }
            assert_eq!(name, now, "metadata of another family");
            let family = families.get_mut(name).expect("its TYPE comes first");
            assert!(
                family.samples.is_empty(),
                "metadata behind samples of {name}"
            );
            match word {
                Some("UNIT") => {
                    assert!(name.ends_with(&format!("_{text}")), "{name} in {text}");
                    family.unit = text;
                }
                Some("HELP") => family.help = text,
                _ => panic!("{line}"),
            }
            continue;
        }
        assert!(
            series.insert(line.rsplit_once(' ').expect("a value").0.to_owned()),
            "{line} twice"
        );
        let family = families.get_mut(&now).expect("a TYPE");
        let end = match family.kind.as_str() {
            "gauge" => "",
            "counter" => "_total",
            "info" => "_info",
            kind => panic!("{kind}"),
        };
        let rest = line
            .strip_prefix(&format!("{now}{end}"))
            .expect("its family's name");
        let (labels, value) = match rest.strip_prefix('{') {
            Some(rest) => read_labels(rest),
            None => (BTreeMap::new(), rest.strip_prefix(' ').expect("a space")),
        };
        let value: f64 = value.parse().expect("a number");
        assert!(value.is_finite() && value >= 0.0, "{line}");
        family.samples.push((labels, value));
    }
    for (name, family) in &families {
        assert!(
            !family.samples.is_empty() && !family.help.is_empty(),
            "{name}"
        );
    }
    families
}

pub(in super::super) const TOP: usize = 20;

fn page(latest: &Latest, form: Form) -> String {
    let mut out = String::new();
    render(latest, TOP, form, &mut out);
    out
}

fn process(pid: u32, comm: impl Into<Vec<u8>>, rss_kb: u64) -> ProcessSample {
    ProcessSample {
        pid,
        start_ticks: 1,
        comm: RawText::new(comm.into()),
        uid: Some(1000),
        metrics: ProcessMetrics {
            rss_kb: Some(rss_kb),
            swap_kb: Some(1),
            pss_kb: Some(rss_kb / 2),
            ..ProcessMetrics::default()
        },
        ..ProcessSample::default()
    }
}

fn cgroup(path: impl Into<Vec<u8>>, usage_kb: u64, limit_kb: Option<u64>) -> CgroupSample {
    CgroupSample {
        path: RawText::new(path.into()),
        metrics: CgroupMetrics {
            usage_kb: Some(usage_kb),
            limit_kb,
            ..CgroupMetrics::default()
        },
        ..CgroupSample::default()
    }
}

/// Everything is known, and there is more of everything than is told.
pub(in super::super) fn full() -> Latest {
    let mut system = SystemMetrics::default();
    for (metric, value) in SystemMetrics::METRICS.iter().zip(100..) {
        (metric.set)(&mut system, Some(value));
    }
    let cgroups = (0..300_u64).map(|number| {
        let mut cgroup = cgroup(format!("/c{number}"), 1000 + number, None);
        for (metric, value) in CgroupMetrics::METRICS.iter().zip(1000 + number..) {
            (metric.set)(&mut cgroup.metrics, Some(value));
        }
        cgroup
    });
    let processes = (1..2001_u32).map(|pid| process(pid, format!("p{pid}"), u64::from(pid)));
    Latest {
        host: Host {
            hostname: "db1".into(),
            kernel: "6.12".into(),
            arch: "x86_64".to_owned(),
            page_size: Some(4096),
            ticks_per_s: Some(100),
            memory_cgroup: Some(2),
            ..Host::default()
        },
        clock: ClockPair {
            mono_ns: 5_000_000_000,
            boot_ns: 5_000_000_000,
            real_ns: 1_700_000_000_250_000_000,
        },
        sample: Some(Sample {
            system: Some(system),
            cgroups: cgroups.collect(),
            processes: processes.collect(),
            all_processes: true,
            ..Sample::default()
        }),
        interval: Duration::from_secs(5),
        identities: HashMap::new(),
        oom_kills: [("memcg".to_owned(), 2), ("global".to_owned(), 0)].into(),
        store_bytes: Some(12_345),
        pages: [None, None],
        own: OwnCost {
            uptime_s: 60.5,
            cpu_s: 0.25,
            rss_kb: Some(9000),
            rss_peak_kb: Some(9500),
            written_bytes: Some(4096),
            ticks: 12,
            tick_ms: Some(7.5),
            tick_ms_max: Some(9.0),
            ..OwnCost::default()
        },
    }
}

fn value(families: &BTreeMap<String, Read>, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let wanted: BTreeMap<String, String> = labels
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect();
    let samples = &families.get(name)?.samples;
    samples
        .iter()
        .find(|(labels, _)| *labels == wanted)
        .map(|(_, value)| *value)
}

#[test]
fn units_are_base_units() {
    let latest = full();
    let read = read(&page(&latest, Form::OpenMetrics));
    let system = latest.sample.as_ref().unwrap().system.as_ref().unwrap();
    let known = |value: Option<u64>| value.unwrap() as f64;
    let told = |name, labels| value(&read, name, labels);
    assert_eq!(
        told("aiops_system_mem_available_bytes", &[]),
        Some(known(system.mem_available_kb) * 1024.0)
    );
    assert_eq!(
        told("aiops_system_swap_out_bytes", &[]),
        Some(known(system.pswpout) * 4096.0)
    );
    assert_eq!(
        told("aiops_system_cpu_seconds", &[("mode", "idle")]),
        Some(known(system.cpu_idle_ticks) / 100.0)
    );
    assert_eq!(
        told(
            "aiops_pressure_ratio",
            &[("resource", "io"), ("kind", "full"), ("window", "10s")]
        ),
        Some(known(system.psi_io_full_avg10) / 10_000.0)
    );
    assert_eq!(
        told(
            "aiops_pressure_stall_seconds",
            &[("resource", "memory"), ("kind", "some")]
        ),
        Some(known(system.psi_some_total_us) / 1e6)
    );
    assert_eq!(
        told("aiops_system_oom_kills", &[]),
        Some(known(system.oom_kill))
    );
    assert_eq!(
        told("aiops_oom_kills_captured", &[("scope", "memcg")]),
        Some(2.0)
    );
    assert_eq!(
        told("aiops_last_sample_timestamp_seconds", &[]),
        Some(1_700_000_000.25)
    );
    assert_eq!(
        told("aiops_self_sample_duration_seconds", &[]),
        Some(0.0075)
    );
    let all: usize = read
        .iter()
        .filter(|(name, _)| {
            name.starts_with("aiops_system_") || name.starts_with("aiops_pressure_")
        })
        .map(|(_, family)| family.samples.len())
        .sum();
    assert_eq!(
        all,
        SystemMetrics::METRICS.len(),
        "each figure of the host once"
    );
    for (name, family) in &read {
        let help = &family.help;
        assert!(
            help.ends_with('.') && !help.contains(['\\', '"', '\n']),
            "{name}: {help}"
        );
        for unit in ["KiB", "hundredths", "clock ticks", " ms", "µs"] {
            assert!(!help.contains(unit), "{name}: {help}");
        }
    }
}

#[test]
fn a_small_page_is_this_text() {
    let latest = Latest {
        host: Host {
            hostname: "db1".into(),
            kernel: "6.12".into(),
            arch: "x86_64".to_owned(),
            ..Host::default()
        },
        clock: ClockPair {
            real_ns: 1_700_000_000_000_000_000,
            ..ClockPair::default()
        },
        sample: Some(Sample {
            system: Some(SystemMetrics {
                mem_total_kb: Some(2),
                pgfault: Some(7),
                psi_some_avg10: Some(123),
                ..SystemMetrics::default()
            }),
            processes: vec![process(1, "a", 4), process(2, "a", 6)],
            ..Sample::default()
        }),
        ..Latest::default()
    };
    let text = page(&latest, Form::OpenMetrics);
    let (told, own) = text.split_at(text.find("# TYPE aiops_self_uptime").unwrap());
    let expected = format!(
        r#"# TYPE aiops_build info
# HELP aiops_build The program that is running.
aiops_build_info{{version="{}"}} 1
# TYPE aiops_host info
# HELP aiops_host Who is observed; cgroup is the version of the memory controller.
aiops_host_info{{hostname="db1",kernel="6.12",arch="x86_64",cgroup=""}} 1
# TYPE aiops_system_mem_total_bytes gauge
# UNIT aiops_system_mem_total_bytes bytes
# HELP aiops_system_mem_total_bytes Usable memory.
aiops_system_mem_total_bytes 2048
# TYPE aiops_system_pgfault counter
# HELP aiops_system_pgfault Page faults.
aiops_system_pgfault_total 7
# TYPE aiops_pressure_ratio gauge
# UNIT aiops_pressure_ratio ratio
# HELP aiops_pressure_ratio Share of the time in which some or all (full) tasks waited for the resource, averaged over the window.
aiops_pressure_ratio{{resource="memory",kind="some",window="10s"}} 0.0123
# TYPE aiops_cgroups gauge
# HELP aiops_cgroups Memory cgroups in the newest sample, of which the others tell some.
aiops_cgroups 0
# TYPE aiops_process_rss_bytes gauge
# UNIT aiops_process_rss_bytes bytes
# HELP aiops_process_rss_bytes Resident memory of the largest groups of processes with the same labels.
aiops_process_rss_bytes{{comm="a",cgroup="",container="",user="1000"}} 10240
# TYPE aiops_process_pss_bytes gauge
# UNIT aiops_process_pss_bytes bytes
# HELP aiops_process_pss_bytes Proportional share of resident memory, where it is known of the whole group.
aiops_process_pss_bytes{{comm="a",cgroup="",container="",user="1000"}} 5120
# TYPE aiops_process_swap_bytes gauge
# UNIT aiops_process_swap_bytes bytes
# HELP aiops_process_swap_bytes Swapped out.
aiops_process_swap_bytes{{comm="a",cgroup="",container="",user="1000"}} 2048
# TYPE aiops_process_members gauge
# HELP aiops_process_members Processes in the group.
aiops_process_members{{comm="a",cgroup="",container="",user="1000"}} 2
# TYPE aiops_processes gauge
# HELP aiops_processes Processes in the newest sample.
aiops_processes 2
# TYPE aiops_processes_skipped gauge
# HELP aiops_processes_skipped Processes that the newest sample could not read, by reason.
aiops_processes_skipped{{reason="vanished"}} 0
aiops_processes_skipped{{reason="denied"}} 0
aiops_processes_skipped{{reason="failed"}} 0
# TYPE aiops_last_sample_timestamp_seconds gauge
# UNIT aiops_last_sample_timestamp_seconds seconds
# HELP aiops_last_sample_timestamp_seconds When the newest sample was taken, since 1970 UTC.
aiops_last_sample_timestamp_seconds 1700000000
"#,
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(told, expected);
    assert!(own.ends_with("\naiops_store_writable 1\n# EOF\n"), "{own}");
    assert!(
        !own.contains("aiops_self_resident_memory_bytes"),
        "unknown is not told: {own}"
    );
}

#[test]
fn the_older_format_has_the_same_samples() {
    let latest = full();
    let lines = |form| -> Vec<String> {
        let text = page(&latest, form);
        let samples = text.lines().filter(|line| !line.starts_with('#'));
        samples.map(str::to_owned).collect()
    };
    assert_eq!(lines(Form::OpenMetrics), lines(Form::Text));
    let text = page(&latest, Form::Text);
    assert!(
        text.contains("# TYPE aiops_system_pgfault_total counter\n"),
        "{text}"
    );
    assert!(text.contains("# TYPE aiops_build_info gauge\n"));
    assert!(!text.contains("# UNIT") && !text.contains("# EOF"));
}

#[test]
fn hostile_names_stay_in_their_labels() {
    let names: [&[u8]; 7] = [
        b"a\"} 1\n# EOF\n",
        b"\x1b[31mred\x07",
        b"\xff\xfe\\",
        b"\\n",
        b"\n",
        "数据库\u{202e}".as_bytes(),
        b"",
    ];
    let mut latest = full();
    let sample = latest.sample.as_mut().unwrap();
    sample.processes = names
        .iter()
        .zip(1..)
        .map(|(name, pid)| process(pid, *name, 10))
        .collect();
    // Bytes that are shown alike are one cgroup for the reader, and must not be told twice.
    let twins: [&[u8]; 2] = [b"/\xff", b"/\\xff"];
    sample.cgroups = names
        .iter()
        .chain(&twins)
        .map(|name| cgroup(*name, 10, None))
        .collect();
    for (pid, name) in (1..).zip(names) {
        let identity = Identity {
            cgroup: Some(RawText::new(name)),
            container: Some(Container {
                id: String::from_utf8_lossy(name).into_owned(),
                ..Container::default()
            }),
            user: Some("a\"b\\c\nd".to_owned()),
            ..Identity::default()
        };
        latest.identities.insert((pid, 1), identity);
    }
    let read = read(&page(&latest, Form::OpenMetrics));
    let told = &read["aiops_process_rss_bytes"].samples;
    let comms: BTreeSet<&str> = told
        .iter()
        .map(|(labels, _)| labels["comm"].as_str())
        .collect();
    assert!(
        comms.contains("a\"} 1\\n# EOF\\n") && comms.contains(r"\x1b[31mred\x07"),
        "{comms:?}"
    );
    assert!(
        comms.contains(r"\xff\xfe\") && comms.contains(r"数据库\u{202e}"),
        "{comms:?}"
    );
    assert_eq!(told[0].0["user"], "a\"b\\c\\nd");
    assert!(told.iter().map(|(_, value)| value).sum::<f64>() >= 7.0 * 10.0 * 1024.0);
}

#[test]
fn cardinality_is_bounded() {
    let latest = full();
    let text = page(&latest, Form::OpenMetrics);
    let read = read(&text);
    assert_eq!(read["aiops_cgroup_usage_bytes"].samples.len(), MOST_CGROUPS);
    assert_eq!(read["aiops_process_rss_bytes"].samples.len(), TOP);
    let series: usize = read.values().map(|family| family.samples.len()).sum();
    assert!(series < 800, "{series}");
    let largest = ("comm", "p2000");
    assert_eq!(
        value(
            &read,
            "aiops_process_rss_bytes",
            &[largest, ("cgroup", ""), ("container", ""), ("user", "1000")]
        ),
        Some(2000.0 * 1024.0)
    );
    assert_eq!(
        text,
        page(&latest, Form::OpenMetrics),
        "the same figures make the same text"
    );
}

#[test]
fn a_small_cgroup_near_its_limit_is_told() {
    let mut latest = full();
    let sample = latest.sample.as_mut().unwrap();
    for cgroup in &mut sample.cgroups {
        cgroup.metrics.limit_kb = None;
    }
    sample.cgroups.push(cgroup("/small", 99, Some(100)));
    let read = read(&page(&latest, Form::OpenMetrics));
    let told = |name| value(&read, name, &[("cgroup", "/small")]);
    assert_eq!(told("aiops_cgroup_limit_bytes"), Some(102_400.0));
    assert_eq!(told("aiops_cgroup_usage_bytes"), Some(99.0 * 1024.0));
    assert_eq!(read["aiops_cgroup_usage_bytes"].samples.len(), MOST_CGROUPS);
}

#[test]
fn unknown_and_senseless_values_have_no_sample() {
    let mut latest = full();
    latest.own.cpu_s = f64::NAN;
    latest.own.tick_ms = Some(f64::INFINITY);
    latest.host.page_size = None;
    let processes = &mut latest.sample.as_mut().unwrap().processes;
    processes.truncate(2);
    processes[0].comm = processes[1].comm.clone();
    processes[0].metrics.pss_kb = None;
    let read = read(&page(&latest, Form::OpenMetrics));
    for name in [
        "aiops_self_cpu_seconds",
        "aiops_self_sample_duration_seconds",
        "aiops_system_swap_in_bytes",
        "aiops_process_pss_bytes",
    ] {
        assert!(!read.contains_key(name), "{name}");
    }
    let nothing = page(&Latest::default(), Form::OpenMetrics);
    let read = self::read(&nothing);
    assert!(
        !read.keys().any(|name| name.starts_with("aiops_system")),
        "{nothing}"
    );
}

/// What the daemon would have at this moment.
fn this_host() -> Latest {
    let mut plane = Plane::open(Path::new("/")).unwrap();
    let sample = plane.sample(&Wants {
        rollup: Rollup::Budget(0.5),
        cgroups: true,
        ..Wants::default()
    });
    let identities = plane.identities(&sample.processes);
    Latest {
        host: plane
            .session("monitor memory", crate::model::Filter::default())
            .host,
        clock: plane.clock(),
        sample: Some(sample),
        identities: identities
            .into_iter()
            .map(|identity| ((identity.pid, identity.start_ticks.unwrap_or(0)), identity))
            .collect(),
        ..full()
    }
}

#[test]
fn this_host_is_told() {
    let read = read(&page(&this_host(), Form::OpenMetrics));
    let total = value(&read, "aiops_system_mem_total_bytes", &[]).unwrap();
    let available = value(&read, "aiops_system_mem_available_bytes", &[]).unwrap();
    assert!(available > 0.0 && available <= total);
    assert!(!read["aiops_process_rss_bytes"].samples.is_empty());
}

#[test]
fn promtool_finds_nothing_to_mend() {
    for latest in [full(), this_host()] {
        let started = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let Ok(mut child) = started else {
            println!("SKIPPED: promtool is not installed");
            return;
        };
        let mut stdin = child.stdin.take().unwrap();
        stdin
            .write_all(page(&latest, Form::Text).as_bytes())
            .unwrap();
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert!(output.status.success() && said.is_empty(), "{said}");
    }
}

fn docs(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../docs")
        .join(name)
}

/// Names of ours in a text.
fn names(text: &str) -> BTreeSet<&str> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("aiops_"))
        .collect()
}

#[test]
fn dashboard_and_alerts_name_metrics_that_exist() {
    let text = page(&full(), Form::Text);
    let known = names(&text);
    for file in [
        "grafana/aiops.json",
        "prometheus/alerts.yml",
        "prometheus.md",
    ] {
        let text = std::fs::read_to_string(docs(file)).unwrap();
        let used = names(&text);
        assert!(used.len() > 5, "{file}");
        let unknown: Vec<_> = used.difference(&known).collect();
        assert!(unknown.is_empty(), "{file}: {unknown:?}");
    }
}

/// The table of docs/prometheus.md, from a page on which everything is known.
fn table() -> String {
    let mut table = String::from("| metric | type | labels | what it is |\n|---|---|---|---|\n");
    let text = page(&full(), Form::OpenMetrics);
    let families = read(&text);
    // In the order of the page.
    let order = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    for name in order {
        let family = &families[name];
        let end = match family.kind.as_str() {
            "counter" => "_total",
            "info" => "_info",
            _ => "",
        };
        let labels: Vec<String> = family.samples[0]
            .0
            .keys()
            .map(|label| format!("`{label}`"))
            .collect();
        table.push_str(&format!(
            "| `{name}{end}` | {} | {} | {} |\n",
            family.kind,
            labels.join(" "),
            family.help
        ));
    }
    table
}

#[test]
fn the_page_holds_the_table() {
    const BEGIN: &str = "<!-- made by a test with AIOPS_UPDATE_DOCS=1; do not edit -->\n\n";
    const END: &str = "\n<!-- end -->\n";
    let path = docs("prometheus.md");
    let stored = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = stored.split_once(BEGIN).expect("where the table begins");
    let (_, after) = rest.split_once(END).expect("where the table ends");
    let fresh = format!("{before}{BEGIN}{}{END}{after}", table());
    if std::env::var_os("AIOPS_UPDATE_DOCS").is_some() {
        std::fs::write(&path, &fresh).expect("docs/prometheus.md can be written");
    }
    let stored = std::fs::read_to_string(&path).unwrap();
    assert!(
        stored == fresh,
        "docs/prometheus.md is stale: run with AIOPS_UPDATE_DOCS=1"
    );
}
