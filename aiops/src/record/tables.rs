//! The fields of each kind of item: what a recording's tables are made of.
//!
//! Names are part of the format: a renamed one is a new column. Metrics come from their own tables, so
//! a new metric is a new column without a change here. Rare items are rows of JSON in `meta`.

use std::sync::LazyLock;

use crate::model::CgroupMetrics;
use crate::model::CgroupSample;
use crate::model::Delivery;
use crate::model::Event;
use crate::model::EventKind;
use crate::model::KmsgLine;
use crate::model::Mark;
use crate::model::MarkSource;
use crate::model::Memory;
use crate::model::Metric;
use crate::model::ProcessMetrics;
use crate::model::ProcessSample;
use crate::model::RawText;
use crate::model::Reclaim;
use crate::model::ReclaimKind;
use crate::model::Sample;
use crate::model::Stall;
use crate::model::StallKind;
use crate::model::Step;
use crate::model::StepKind;
use crate::model::SystemMetrics;
use crate::model::TaskRef;

use super::schema::Access;
use super::schema::Cell;
use super::schema::Field;
use super::schema::Schema;
use super::schema::Text;
use super::schema::store;

/// A number: `int!(part, part_mut, "name", field.of.the.part)`.
macro_rules! int {
    ($part:expr, $part_mut:expr, $name:expr, $($path:tt)+) => {
        Field {
            name: $name,
            access: Access::Int(
                Box::new(|row| $part(row).and_then(|part| part.$($path)+.to_cell())),
                Box::new(|row, cell| {
                    $part_mut(row).is_some_and(|part| store(&mut part.$($path)+, Cell::from_cell(cell)))
                }),
            ),
        }
    };
}

/// A text, written like [`int`].
macro_rules! text {
    ($part:expr, $part_mut:expr, $name:expr, $($path:tt)+) => {
        Field {
            name: $name,
            access: Access::Text(
                |row| $part(row).and_then(|part| part.$($path)+.to_text()),
                |row, text| {
                    $part_mut(row).is_some_and(|part| store(&mut part.$($path)+, Text::from_text(text)))
                },
            ),
        }
    };
}

/// A stack, written like [`int`].
macro_rules! list {
    ($part:expr, $part_mut:expr, $name:expr, $($path:tt)+) => {
        Field {
            name: $name,
            access: Access::List(
                |row| $part(row).map_or(&[], |part| &part.$($path)+),
                |row, list| {
                    if let Some(part) = $part_mut(row) {
                        part.$($path)+ = list;
                    }
                },
            ),
        }
    };
}

/// A thread, its columns named after its role.
macro_rules! task {
    ($part:expr, $part_mut:expr, $role:literal, $($path:tt)+) => {
        [
            int!($part, $part_mut, concat!($role, ".pid"), $($path)+.pid),
            int!($part, $part_mut, concat!($role, ".tid"), $($path)+.tid),
            text!($part, $part_mut, concat!($role, ".comm"), $($path)+.comm),
            int!($part, $part_mut, concat!($role, ".start_ns"), $($path)+.start_ns),
            int!($part, $part_mut, concat!($role, ".memcg_id"), $($path)+.memcg_id),
        ]
    };
}

/// A process's memory, its columns named after where it was read.
macro_rules! memory {
    ($part:expr, $part_mut:expr, $from:literal, $($path:tt)+) => {
        [
            int!($part, $part_mut, concat!($from, ".total_vm_kb"), $($path)+.total_vm_kb),
            int!($part, $part_mut, concat!($from, ".anon_rss_kb"), $($path)+.anon_rss_kb),
            int!($part, $part_mut, concat!($from, ".file_rss_kb"), $($path)+.file_rss_kb),
            int!($part, $part_mut, concat!($from, ".shmem_rss_kb"), $($path)+.shmem_rss_kb),
            int!($part, $part_mut, concat!($from, ".swap_kb"), $($path)+.swap_kb),
            int!($part, $part_mut, concat!($from, ".pgtables_kb"), $($path)+.pgtables_kb),
        ]
    };
}

/// Access to the body of one kind of event.
macro_rules! body {
    ($get:ident, $get_mut:ident, $variant:ident, $body:ty) => {
        fn $get(event: &Event) -> Option<&$body> {
            match &event.kind {
                EventKind::$variant(body) => Some(body),
                _ => None,
            }
        }
        fn $get_mut(event: &mut Event) -> Option<&mut $body> {
            match &mut event.kind {
                EventKind::$variant(body) => Some(body),
                _ => None,
            }
        }
    };
}
body!(mark, mark_mut, Mark, Mark);
body!(delivery, delivery_mut, Delivery, Delivery);
body!(step, step_mut, Step, Step);
body!(reclaim, reclaim_mut, Reclaim, Reclaim);
body!(stall, stall_mut, Stall, Stall);

fn event(event: &Event) -> Option<&Event> {
    Some(event)
}
fn event_mut(event: &mut Event) -> Option<&mut Event> {
    Some(event)
}

/// The table of one kind of event: what all events have, then its own fields.
fn event_schema(
    name: &'static str,
    blank: fn() -> Event,
    own: impl IntoIterator<Item = Field<Event>>,
) -> Schema<Event> {
    let mut fields = vec![
        int!(event, event_mut, "ts_ns", ts_ns),
        int!(event, event_mut, "received_ns", received_ns),
        int!(event, event_mut, "cpu", cpu),
    ];
    fields.extend(own);
    Schema {
        name,
        fields,
        blank,
        key: None,
    }
}

fn blank_event(kind: EventKind) -> Event {
    Event {
        ts_ns: 0,
        received_ns: None,
        cpu: 0,
        kind,
    }
}

fn blank_mark() -> Event {
    blank_event(EventKind::Mark(Box::new(Mark {
        trigger: TaskRef::default(),
        victim: TaskRef::default(),
        source: MarkSource::Tracepoint,
        signal_ns: None,
        reclaim_ns: None,
        memory: Memory::default(),
        tracepoint: Memory::default(),
        rss_approximate: false,
        oom_score_adj: None,
        uid: None,
        gfp_mask: None,
        order: None,
        trigger_oom_score_adj: None,
        trigger_kernel: Vec::new(),
        trigger_user: Vec::new(),
        victim_kernel: Vec::new(),
    })))
}

/// OOM victims.
pub(super) static MARK: LazyLock<Schema<Event>> = LazyLock::new(|| {
    let mut fields = vec![
        text!(mark, mark_mut, "source", source),
        int!(mark, mark_mut, "signal_ns", signal_ns),
        int!(mark, mark_mut, "reclaim_ns", reclaim_ns),
        int!(mark, mark_mut, "rss_approximate", rss_approximate),
        int!(mark, mark_mut, "oom_score_adj", oom_score_adj),
        int!(mark, mark_mut, "uid", uid),
        int!(mark, mark_mut, "gfp_mask", gfp_mask),
        int!(mark, mark_mut, "order", order),
        int!(
            mark,
            mark_mut,
            "trigger_oom_score_adj",
            trigger_oom_score_adj
        ),
        list!(mark, mark_mut, "trigger_kernel", trigger_kernel),
        list!(mark, mark_mut, "trigger_user", trigger_user),
        list!(mark, mark_mut, "victim_kernel", victim_kernel),
    ];
    fields.extend(task!(mark, mark_mut, "trigger", trigger));
    fields.extend(task!(mark, mark_mut, "victim", victim));
    fields.extend(memory!(mark, mark_mut, "memory", memory));
    fields.extend(memory!(mark, mark_mut, "tracepoint", tracepoint));
    event_schema("mark", blank_mark, fields)
});

/// SIGKILLs delivered.
pub(super) static DELIVERY: LazyLock<Schema<Event>> = LazyLock::new(|| {
    let blank = || {
        let victim = TaskRef::default();
        blank_event(EventKind::Delivery(Box::new(Delivery {
            victim,
            user: Vec::new(),
        })))
    };
    let mut fields = vec![list!(delivery, delivery_mut, "user", user)];
    fields.extend(task!(delivery, delivery_mut, "victim", victim));
    event_schema("delivery", blank, fields)
});

/// Steps of a victim's end.
pub(super) static STEP: LazyLock<Schema<Event>> = LazyLock::new(|| {
    let blank = || {
        blank_event(EventKind::Step(Step {
            step: StepKind::Exit,
            pid: None,
            tid: 0,
        }))
    };
    let fields = [
        text!(step, step_mut, "step", step),
        int!(step, step_mut, "pid", pid),
        int!(step, step_mut, "tid", tid),
    ];
    event_schema("step", blank, fields)
});

/// Beginnings of reclaim.
pub(super) static RECLAIM: LazyLock<Schema<Event>> = LazyLock::new(|| {
    let blank = || {
        blank_event(EventKind::Reclaim(Reclaim {
            task: TaskRef::default(),
            kind: ReclaimKind::Direct,
            gfp_mask: None,
            order: None,
        }))
    };
    let mut fields = vec![
        text!(reclaim, reclaim_mut, "kind", kind),
        int!(reclaim, reclaim_mut, "gfp_mask", gfp_mask),
        int!(reclaim, reclaim_mut, "order", order),
    ];
    fields.extend(task!(reclaim, reclaim_mut, "task", task));
    event_schema("reclaim", blank, fields)
});

/// Waits for memory.
pub(super) static STALL: LazyLock<Schema<Event>> = LazyLock::new(|| {
    let blank = || {
        blank_event(EventKind::Stall(Box::new(Stall {
            task: TaskRef::default(),
            kind: StallKind::Direct,
            begin_ns: 0,
            reclaimed: None,
            scanned: None,
            gfp_mask: None,
            order: None,
            status: None,
            node: None,
            stack: Vec::new(),
        })))
    };
    let mut fields = vec![
        text!(stall, stall_mut, "kind", kind),
        int!(stall, stall_mut, "begin_ns", begin_ns),
        int!(stall, stall_mut, "reclaimed", reclaimed),
        int!(stall, stall_mut, "scanned", scanned),
        int!(stall, stall_mut, "gfp_mask", gfp_mask),
        int!(stall, stall_mut, "order", order),
        int!(stall, stall_mut, "status", status),
        int!(stall, stall_mut, "node", node),
        list!(stall, stall_mut, "stack", stack),
    ];
    fields.extend(task!(stall, stall_mut, "task", task));
    event_schema("stall", blank, fields)
});

/// Lines of the kernel's log.
pub(super) static KMSG: LazyLock<Schema<KmsgLine>> = LazyLock::new(|| Schema {
    name: "kmsg",
    fields: vec![
        int!(Some, Some, "ts_ns", ts_ns),
        int!(Some, Some, "seq", seq),
        int!(Some, Some, "priority", priority),
        text!(Some, Some, "caller", caller),
        text!(Some, Some, "text", text),
    ],
    blank: KmsgLine::default,
    key: None,
});

/// A sample without its parts: they are the next rows of `system`, `cgroup` and `process`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SampleHead {
    pub(super) ts_ns: u64,
    pub(super) all_processes: bool,
    pub(super) vanished: u32,
    pub(super) denied: u32,
    pub(super) failed: u32,
    pub(super) kernel_threads: u32,
    pub(super) zombies: u32,
    pub(super) denied_smaps: u32,
    pub(super) left_cgroups: u32,
    pub(super) systems: u32,
    pub(super) cgroups: u64,
    pub(super) processes: u64,
}

impl From<&Sample> for SampleHead {
    fn from(sample: &Sample) -> Self {
        Self {
            ts_ns: sample.ts_ns,
            all_processes: sample.all_processes,
            vanished: sample.skipped.vanished,
            denied: sample.skipped.denied,
            failed: sample.skipped.failed,
            kernel_threads: sample.skipped.kernel_threads,
            zombies: sample.skipped.zombies,
            denied_smaps: sample.skipped.denied_smaps,
            left_cgroups: sample.skipped.cgroups,
            systems: u32::from(sample.system.is_some()),
            cgroups: sample.cgroups.len() as u64,
            processes: sample.processes.len() as u64,
        }
    }
}

/// Samples.
pub(super) static SAMPLE: LazyLock<Schema<SampleHead>> = LazyLock::new(|| Schema {
    name: "sample",
    fields: vec![
        int!(Some, Some, "ts_ns", ts_ns),
        int!(Some, Some, "all_processes", all_processes),
        int!(Some, Some, "vanished", vanished),
        int!(Some, Some, "denied", denied),
        int!(Some, Some, "failed", failed),
        int!(Some, Some, "kernel_threads", kernel_threads),
        int!(Some, Some, "zombies", zombies),
        int!(Some, Some, "denied_smaps", denied_smaps),
        int!(Some, Some, "left_cgroups", left_cgroups),
        int!(Some, Some, "systems", systems),
        int!(Some, Some, "cgroups", cgroups),
        int!(Some, Some, "processes", processes),
    ],
    blank: SampleHead::default,
    key: None,
});

/// A column per metric; `part` leads from the row to its metrics.
fn metric_fields<T: 'static, M>(
    metrics: &'static [Metric<M>],
    part: fn(&T) -> &M,
    part_mut: fn(&mut T) -> &mut M,
) -> impl Iterator<Item = Field<T>> {
    metrics.iter().map(move |metric| Field {
        name: metric.name,
        access: Access::Int(
            Box::new(move |row| (metric.get)(part(row))),
            Box::new(move |row, value| {
                (metric.set)(part_mut(row), Some(value));
                true
            }),
        ),
    })
}

/// The host's figures.
pub(super) static SYSTEM: LazyLock<Schema<SystemMetrics>> = LazyLock::new(|| Schema {
    name: "system",
    fields: metric_fields(SystemMetrics::METRICS, |row| row, |row| row).collect(),
    blank: SystemMetrics::default,
    key: None,
});

/// Memory cgroups.
pub(super) static CGROUP: LazyLock<Schema<CgroupSample>> = LazyLock::new(|| {
    let mut fields: Vec<Field<CgroupSample>> = vec![
        text!(Some, Some, "path", path),
        int!(Some, Some, "id", id),
        int!(Some, Some, "oom_group", oom_group),
    ];
    let metrics = CgroupMetrics::METRICS;
    fields.extend(metric_fields(
        metrics,
        |row: &CgroupSample| &row.metrics,
        |row| &mut row.metrics,
    ));
    let key = |row: &CgroupSample| (row.id, 0);
    Schema {
        name: "cgroup",
        fields,
        blank: CgroupSample::default,
        key: Some(key),
    }
});

/// Processes.
pub(super) static PROCESS: LazyLock<Schema<ProcessSample>> = LazyLock::new(|| {
    let mut fields: Vec<Field<ProcessSample>> = vec![
        int!(Some, Some, "pid", pid),
        int!(Some, Some, "start_ticks", start_ticks),
        int!(Some, Some, "ppid", ppid),
        text!(Some, Some, "comm", comm),
        int!(Some, Some, "state", state),
        int!(Some, Some, "uid", uid),
        int!(Some, Some, "oom_score_adj", oom_score_adj),
    ];
    let metrics = ProcessMetrics::METRICS;
    fields.extend(metric_fields(
        metrics,
        |row: &ProcessSample| &row.metrics,
        |row| &mut row.metrics,
    ));
    let key = |row: &ProcessSample| (u64::from(row.pid), row.start_ticks);
    Schema {
        name: "process",
        fields,
        blank: ProcessSample::default,
        key: Some(key),
    }
});

fn text_schema(name: &'static str, column: &'static str) -> Schema<RawText> {
    Schema {
        name,
        fields: vec![Field {
            name: column,
            access: Access::Text(
                |row| Some(row.as_bytes()),
                |row, text| {
                    *row = RawText::new(text);
                    true
                },
            ),
        }],
        blank: RawText::default,
        key: None,
    }
}

/// Names of the tables that the items are rows of, in the order of the items.
pub(super) static ORDER: LazyLock<Schema<RawText>> =
    LazyLock::new(|| text_schema("order", "table"));

/// Items that are rare, as JSON.
pub(super) static META: LazyLock<Schema<RawText>> = LazyLock::new(|| text_schema("meta", "json"));

/// A row of the index: some blocks that follow each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct IndexRow {
    pub(super) offset: u64,
    pub(super) blocks: u64,
    pub(super) first_ts: u64,
    pub(super) last_ts: u64,
    pub(super) items: u64,
    pub(super) kinds: u64,
}

/// Where the blocks are.
pub(super) static INDEX: LazyLock<Schema<IndexRow>> = LazyLock::new(|| Schema {
    name: "index",
    fields: vec![
        int!(Some, Some, "offset", offset),
        int!(Some, Some, "blocks", blocks),
        int!(Some, Some, "first_ts", first_ts),
        int!(Some, Some, "last_ts", last_ts),
        int!(Some, Some, "items", items),
        int!(Some, Some, "kinds", kinds),
    ],
    blank: IndexRow::default,
    key: None,
});

/// What the writer says about itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) items: u64,
    pub(super) dropped: u64,
}

/// The writer's totals: one row.
pub(super) static TOTALS: LazyLock<Schema<Totals>> = LazyLock::new(|| Schema {
    name: "totals",
    fields: vec![
        int!(Some, Some, "items", items),
        int!(Some, Some, "dropped", dropped),
    ],
    blank: Totals::default,
    key: None,
});
