//! The newest figures as metrics.
//!
//! Names begin with `aiops_` and end with the unit, which is a base unit: bytes, seconds, a ratio. The host's
//! figures come from the table of [`SystemMetrics`], so a new line there is a new metric here; cgroups and processes
//! have a chosen few. What is unknown has no sample, never a 0. How many series there are is bounded whatever runs
//! on the host: see [`MOST_CGROUPS`] and [`render`].

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::collections::HashSet;

use crate::model::CgroupMetrics;
use crate::model::CgroupSample;
use crate::model::Host;
use crate::model::Metric;
use crate::model::ProcessSample;
use crate::model::RawText;
use crate::model::Sample;
use crate::model::SystemMetrics;
use crate::report::monitor::OwnCost;
use crate::session::monitor::latest::Latest;

use super::page::Family;
use super::page::Form;
use super::page::Kind;
use super::page::Labels;
use super::page::Number;
use super::page::Page;
use super::page::labels;

/// Most cgroups that are told: half of the places for those nearest to their limit, the rest for the largest.
pub(super) const MOST_CGROUPS: usize = 50;
/// Appends the whole page. Of processes the `top` largest groups are told.
pub(super) fn render(latest: &Latest, top: usize, form: Form, out: &mut String) {
    let mut page = Page { form, out };
    about(&mut page, &latest.host);
    if let Some(sample) = &latest.sample {
        if let Some(system) = &sample.system {
            for family in system_families(system, &latest.host) {
                page.add(&family);
            }
        }
        for family in cgroup_families(sample) {
            page.add(&family);
        }
        for family in process_families(latest, sample, top) {
            page.add(&family);
        }
        let real_ms = latest.clock.real_ns.div_euclid(1_000_000) as f64;
        page.one(
            "aiops_last_sample_timestamp_seconds",
            Kind::Gauge,
            "When the newest sample was taken, since 1970 UTC.",
            Some(Number::Part(real_ms / 1e3)),
        );
    }
    captured(&mut page, &latest.oom_kills.iter().collect());
    own(&mut page, &latest.own, latest.store_bytes);
    if form == Form::OpenMetrics {
        page.out.push_str("# EOF\n");
    }
}

fn about(page: &mut Page<'_>, host: &Host) {
    let cgroup = host.memory_cgroup.map(|version| version.to_string());
    let said = [
        (
            "aiops_build",
            "The program that is running.",
            labels(&[("version", env!("CARGO_PKG_VERSION"))]),
        ),
        (
            "aiops_host",
            "Who is observed; cgroup is the version of the memory controller.",
            labels(&[
                ("hostname", &host.hostname.lossy()),
                ("kernel", &host.kernel.lossy()),
                ("arch", &host.arch),
                ("cgroup", cgroup.as_deref().unwrap_or_default()),
            ]),
        ),
    ];
    for (name, help, labels) in said {
        page.add(&Family {
            name: name.into(),
            kind: Kind::Info,
            help: help.into(),
            samples: vec![(labels, Number::Whole(1))],
        });
    }
}

/// What is told of a figure: the name, its kind, its labels, and how the value becomes one of a base unit.
struct Shape {
    name: Cow<'static, str>,
    kind: Kind,
    help: Cow<'static, str>,
    labels: Labels,
    scale: Scale,
}

/// How a value becomes one of a base unit.
#[derive(Clone, Copy)]
enum Scale {
    Times(u64),
    Over(f64),
}

impl Scale {
    fn of(self, value: u64) -> Number {
        match self {
            Self::Times(factor) => Number::Whole(value.saturating_mul(factor)),
            Self::Over(divisor) => Number::Part(value as f64 / divisor),
        }
    }
}

/// A help text without the unit that the figure had before it was scaled.
fn without_unit(what: &'static str) -> Cow<'static, str> {
    const CHANGES: &[(&str, &str)] = &[
        (", KiB in ", ", in "),
        (", KiB", ""),
        ("KiB ", "Bytes "),
        (", ms", ""),
        (", hundredths", ""),
    ];
    let mut text = what.trim().to_owned();
    for (from, to) in CHANGES {
        text = text.replace(from, to);
    }
    text.into()
}

/// Stall times and averages: one family each, by resource, kind and window.
fn pressure(file: &str, key: &str) -> Option<Shape> {
    let resource = match file {
        "psi" => "memory",
        "psi_io" => "io",
        "psi_cpu" => "cpu",
        _ => return None,
    };
    let (kind, field) = key.split_once(' ')?;
    let who = [("resource", resource), ("kind", kind)];
    if field == "total" {
        return Some(Shape {
            name: "aiops_pressure_stall_seconds".into(),
            kind: Kind::Counter,
            help: "Time since boot in which some or all (full) tasks waited for the resource."
                .into(),
            labels: labels(&who),
            scale: Scale::Over(1e6),
        });
    }
    let window = format!("{}s", field.strip_prefix("avg")?);
    Some(Shape {
        name: "aiops_pressure_ratio".into(),
        kind: Kind::Gauge,
        help: "Share of the time in which some or all (full) tasks waited for the resource, averaged over the window."
            .into(),
        labels: labels(&[who[0], who[1], ("window", &window)]),
        scale: Scale::Over(1e4),
    })
}

/// How a figure of the host is told; `None`: its unit is not known here.
fn shape(metric: &Metric<SystemMetrics>, host: &Host) -> Option<Shape> {
    let (file, key) = metric.source.split_once(':').unwrap_or((metric.source, ""));
    if file.starts_with("psi") {
        return pressure(file, key);
    }
    if let Some(mode) = metric
        .name
        .strip_prefix("cpu_")
        .and_then(|rest| rest.strip_suffix("_ticks"))
    {
        return Some(Shape {
            name: "aiops_system_cpu_seconds".into(),
            kind: Kind::Counter,
            help: "Time of all CPUs since boot, by what they did.".into(),
            labels: labels(&[("mode", mode)]),
            scale: Scale::Over(host.ticks_per_s? as f64),
        });
    }
    let swap = match metric.name {
        "pswpin" => Some(("aiops_system_swap_in_bytes", "Read from swap since boot.")),
        "pswpout" => Some(("aiops_system_swap_out_bytes", "Written to swap since boot.")),
        _ => None,
    };
    if let Some((name, help)) = swap {
        return Some(Shape {
            name: name.into(),
            kind: Kind::Counter,
            help: help.into(),
            labels: Labels::new(),
            scale: Scale::Times(host.page_size?),
        });
    }
    let counts = matches!(file, "vmstat" | "diskstats" | "net")
        && !metric.name.ends_with("_threshold")
        || metric.name == "forks";
    let name = metric.name;
    let (stem, unit, scale) = if let Some(stem) = name.strip_suffix("_kb") {
        (stem, "_bytes", Scale::Times(1024))
    } else if let Some(stem) = name.strip_suffix("_ms") {
        (stem, "_seconds", Scale::Over(1e3))
    } else if name == "load1" {
        (name, "", Scale::Over(1e2))
    } else if name == "oom_kill" {
        ("oom_kills", "", Scale::Times(1))
    } else {
        // A gauge must not end as counters do.
        (
            name.strip_suffix("_total").unwrap_or(name),
            "",
            Scale::Times(1),
        )
    };
    Some(Shape {
        name: format!("aiops_system_{stem}{unit}").into(),
        kind: if counts { Kind::Counter } else { Kind::Gauge },
        help: without_unit(metric.what),
        labels: Labels::new(),
        scale,
    })
}

/// Every known figure of the host, those of one name together.
fn system_families(system: &SystemMetrics, host: &Host) -> Vec<Family> {
    let mut families: Vec<Family> = Vec::new();
    for metric in SystemMetrics::METRICS {
        let Some((value, shape)) = (metric.get)(system).zip(shape(metric, host)) else {
            continue;
        };
        let sample = (shape.labels, shape.scale.of(value));
        if let Some(family) = families.iter_mut().find(|family| family.name == shape.name) {
            family.samples.push(sample);
            continue;
        }
        families.push(Family {
            name: shape.name,
            kind: shape.kind,
            help: shape.help,
            samples: vec![sample],
        });
    }
    families
}

/// Share of its limit that a cgroup uses, in millionths.
fn nearness(metrics: &CgroupMetrics) -> Option<u64> {
    let limit = metrics.limit_kb.filter(|limit| *limit > 0)?;
    Some(metrics.usage_kb?.saturating_mul(1_000_000) / limit)
}

/// The cgroups that are told, by path, each path once.
fn chosen(cgroups: &[CgroupSample]) -> BTreeMap<Labels, &CgroupMetrics> {
    let mut near: Vec<&CgroupSample> = cgroups.iter().collect();
    near.retain(|cgroup| nearness(&cgroup.metrics).is_some());
    near.sort_by_key(|cgroup| (Reverse(nearness(&cgroup.metrics)), &cgroup.path));
    near.truncate(MOST_CGROUPS / 2);
    let mut large: Vec<&CgroupSample> = cgroups.iter().collect();
    large.sort_by_key(|cgroup| (Reverse(cgroup.metrics.usage_kb), &cgroup.path));
    let mut chosen = BTreeMap::new();
    for cgroup in near.into_iter().chain(large) {
        if chosen.len() == MOST_CGROUPS {
            break;
        }
        let label = labels(&[("cgroup", &cgroup.path.lossy())]);
        chosen.entry(label).or_insert(&cgroup.metrics);
    }
    chosen
}

/// What is told of a cgroup.
struct CgroupFigure {
    name: &'static str,
    kind: Kind,
    help: &'static str,
    label: Labels,
    get: fn(&CgroupMetrics) -> Option<u64>,
    scale: Scale,
}

fn cgroup_figures() -> Vec<CgroupFigure> {
    let kb = |name, help, get| CgroupFigure {
        name,
        kind: Kind::Gauge,
        help,
        label: Labels::new(),
        get,
        scale: Scale::Times(1024),
    };
    let count = |name, help, get| CgroupFigure {
        kind: Kind::Counter,
        scale: Scale::Times(1),
        ..kb(name, help, get)
    };
    let stall = |kind, get| CgroupFigure {
        label: labels(&[("kind", kind)]),
        scale: Scale::Over(1e6),
        ..count(
            "aiops_cgroup_pressure_stall_seconds",
            "Time in which some or all (full) tasks of the cgroup waited for memory.",
            get,
        )
    };
    vec![
        kb(
            "aiops_cgroup_usage_bytes",
            "Memory in use, with that of cgroups below it.",
            |set| set.usage_kb,
        ),
        kb(
            "aiops_cgroup_limit_bytes",
            "Hard limit; no sample: none is set.",
            |set| set.limit_kb,
        ),
        kb(
            "aiops_cgroup_high_bytes",
            "Throttling limit (v2); no sample: none is set.",
            |set| set.high_kb,
        ),
        kb("aiops_cgroup_swap_bytes", "Swap in use.", |set| set.swap_kb),
        kb("aiops_cgroup_anon_bytes", "Anonymous memory.", |set| {
            set.anon_kb
        }),
        kb("aiops_cgroup_file_bytes", "Page cache.", |set| set.file_kb),
        count(
            "aiops_cgroup_oom_kills",
            "OOM kills of members since creation.",
            |set| set.oom_kill,
        ),
        count(
            "aiops_cgroup_limit_hits",
            "Times that the limit was hit since creation.",
            |set| set.failcnt,
        ),
        stall("some", |set| set.psi_some_total_us),
        stall("full", |set| set.psi_full_total_us),
    ]
}

fn cgroup_families(sample: &Sample) -> Vec<Family> {
    let chosen = chosen(&sample.cgroups);
    let mut families: Vec<Family> = Vec::new();
    for figure in cgroup_figures() {
        let comma = if figure.label.is_empty() { "" } else { "," };
        let samples = chosen.iter().filter_map(|(path, metrics)| {
            let value = (figure.get)(metrics)?;
            Some((
                format!("{path}{comma}{}", figure.label),
                figure.scale.of(value),
            ))
        });
        if let Some(family) = families
            .iter_mut()
            .find(|family| family.name == figure.name)
        {
            family.samples.extend(samples);
            continue;
        }
        families.push(Family {
            name: figure.name.into(),
            kind: figure.kind,
            help: figure.help.into(),
            samples: samples.collect(),
        });
    }
    let seen = u64::try_from(sample.cgroups.len()).unwrap_or(u64::MAX);
    families.push(Family {
        name: "aiops_cgroups".into(),
        kind: Kind::Gauge,
        help: "Memory cgroups in the newest sample, of which the others tell some.".into(),
        samples: vec![(Labels::new(), Number::Whole(seen))],
    });
    families
}

/// Processes of equal labels together.
#[derive(Clone, Debug, Default)]
struct Group {
    processes: u64,
    rss_kb: Option<u64>,
    swap_kb: Option<u64>,
    pss_kb: Option<u64>,
    /// Whether the share of one of them is unknown.
    pss_unknown: bool,
}

/// A sum of what is known.
fn plus(sum: Option<u64>, value: Option<u64>) -> Option<u64> {
    match (sum, value) {
        (Some(sum), Some(value)) => Some(sum.saturating_add(value)),
        (sum, value) => sum.or(value),
    }
}

fn process_labels(latest: &Latest, process: &ProcessSample) -> Labels {
    let identity = latest.identities.get(&(process.pid, process.start_ticks));
    let cgroup = identity.and_then(|identity| identity.cgroup.as_ref());
    let container = identity.and_then(|identity| identity.container.as_ref());
    let user = identity.and_then(|identity| identity.user.clone());
    let uid = process.uid.map(|uid| uid.to_string());
    labels(&[
        ("comm", &process.comm.lossy()),
        ("cgroup", &cgroup.map(RawText::lossy).unwrap_or_default()),
        ("container", container.map_or("", |container| &container.id)),
        ("user", &user.or(uid).unwrap_or_default()),
    ])
}

/// The largest groups, by their labels.
fn groups(latest: &Latest, sample: &Sample, top: usize) -> BTreeMap<Labels, Group> {
    let mut groups: BTreeMap<Labels, Group> = BTreeMap::new();
    for process in &sample.processes {
        let group = groups.entry(process_labels(latest, process)).or_default();
        let metrics = &process.metrics;
        group.processes += 1;
        group.rss_kb = plus(group.rss_kb, metrics.rss_kb);
        group.swap_kb = plus(group.swap_kb, metrics.swap_kb);
        group.pss_kb = plus(group.pss_kb, metrics.pss_kb);
        group.pss_unknown |= metrics.pss_kb.is_none();
    }
    let mut order: Vec<(Reverse<Option<u64>>, &Labels)> = groups
        .iter()
        .map(|(labels, group)| (Reverse(group.rss_kb), labels))
        .collect();
    order.sort();
    order.truncate(top);
    let told: HashSet<Labels> = order
        .into_iter()
        .map(|(_, labels)| labels.clone())
        .collect();
    groups.retain(|labels, _| told.contains(labels));
    groups
}

fn process_families(latest: &Latest, sample: &Sample, top: usize) -> Vec<Family> {
    let groups = groups(latest, sample, top);
    let family = |name: &'static str, help: &'static str, get: fn(&Group) -> Option<u64>| Family {
        name: name.into(),
        kind: Kind::Gauge,
        help: help.into(),
        samples: groups
            .iter()
            .filter_map(|(labels, group)| Some((labels.clone(), Number::Whole(get(group)?))))
            .collect(),
    };
    let skipped = &sample.skipped;
    let reasons = [
        ("vanished", skipped.vanished),
        ("denied", skipped.denied),
        ("failed", skipped.failed),
    ];
    vec![
        family(
            "aiops_process_rss_bytes",
            "Resident memory of the largest groups of processes with the same labels.",
            |group| group.rss_kb.map(bytes),
        ),
        family(
            "aiops_process_pss_bytes",
            "Proportional share of resident memory, where it is known of the whole group.",
            |group| group.pss_kb.filter(|_| !group.pss_unknown).map(bytes),
        ),
        family("aiops_process_swap_bytes", "Swapped out.", |group| {
            group.swap_kb.map(bytes)
        }),
        family(
            "aiops_process_members",
            "Processes in the group.",
            |group| Some(group.processes),
        ),
        Family {
            name: "aiops_processes".into(),
            kind: Kind::Gauge,
            help: "Processes in the newest sample.".into(),
            samples: vec![(
                Labels::new(),
                Number::Whole(u64::try_from(sample.processes.len()).unwrap_or(u64::MAX)),
            )],
        },
        Family {
            name: "aiops_processes_skipped".into(),
            kind: Kind::Gauge,
            help: "Processes that the newest sample could not read, by reason.".into(),
            samples: reasons
                .iter()
                .map(|(reason, count)| {
                    (
                        labels(&[("reason", reason)]),
                        Number::Whole(u64::from(*count)),
                    )
                })
                .collect(),
        },
    ]
}

fn bytes(kb: u64) -> u64 {
    kb.saturating_mul(1024)
}

/// OOM kills by what was short.
fn captured(page: &mut Page<'_>, kills: &BTreeMap<&String, &u64>) {
    let samples = kills
        .iter()
        .map(|(scope, count)| (labels(&[("scope", scope)]), Number::Whole(**count)));
    page.add(&Family {
        name: "aiops_oom_kills_captured".into(),
        kind: Kind::Counter,
        help: "OOM kills that aiops captured since its start, by whether a cgroup (memcg) or the host (global) was short."
            .into(),
        samples: samples.collect(),
    });
}

/// What the daemon itself costs.
fn own(page: &mut Page<'_>, own: &OwnCost, store_bytes: Option<u64>) {
    use Kind::Counter;
    use Kind::Gauge;
    let kb = |value: Option<u64>| value.map(|kb| Number::Whole(bytes(kb)));
    let ms = |value: Option<f64>| value.map(|ms| Number::Part(ms / 1e3));
    let whole = |value| Some(Number::Whole(value));
    let rows: [(&str, Kind, &str, Option<Number>); 11] = [
        (
            "aiops_self_uptime_seconds",
            Gauge,
            "For how long the daemon runs.",
            Some(Number::Part(own.uptime_s)),
        ),
        (
            "aiops_self_cpu_seconds",
            Counter,
            "CPU time of the daemon and its children since its start.",
            Some(Number::Part(own.cpu_s)),
        ),
        (
            "aiops_self_resident_memory_bytes",
            Gauge,
            "Resident memory of the daemon.",
            kb(own.rss_kb),
        ),
        (
            "aiops_self_resident_memory_peak_bytes",
            Gauge,
            "Highest resident memory of the daemon.",
            kb(own.rss_peak_kb),
        ),
        (
            "aiops_self_written_bytes",
            Counter,
            "What the daemon had written to devices.",
            own.written_bytes.map(Number::Whole),
        ),
        (
            "aiops_self_samples",
            Counter,
            "Samples taken.",
            whole(own.ticks),
        ),
        (
            "aiops_self_samples_missed",
            Counter,
            "Moments at which a sample was due and none was taken.",
            whole(own.missed_ticks),
        ),
        (
            "aiops_self_samples_lost",
            Counter,
            "Samples that could not be written.",
            whole(own.lost_ticks),
        ),
        (
            "aiops_self_sample_duration_seconds",
            Gauge,
            "How long the newest sample took.",
            ms(own.tick_ms),
        ),
        (
            "aiops_self_sample_duration_longest_seconds",
            Gauge,
            "How long the longest sample took.",
            ms(own.tick_ms_max),
        ),
        (
            "aiops_store_bytes",
            Gauge,
            "Size of the store.",
            store_bytes.map(Number::Whole),
        ),
    ];
    for (name, kind, help, value) in rows {
        page.one(name, kind, help, value);
    }
    let writable = u64::from(own.store_error.is_none());
    page.one(
        "aiops_store_writable",
        Gauge,
        "1 while the store takes samples, else 0.",
        whole(writable),
    );
}

#[cfg(test)]
#[path = "exposition_tests.rs"]
pub(super) mod tests;
