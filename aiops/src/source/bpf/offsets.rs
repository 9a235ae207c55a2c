//! Where the running kernel keeps the fields that the BPF programs read.
//!
//! Structures come from BTF, the fields of classic tracepoints from their `format` files. A field
//! that is missing, or whose size is not what the programs read, is [`ABSENT`]; every such gap is
//! named in [`Discovered::notes`].

use aiops_common::layout::{ABSENT, Layout, RSS_LONGS, RSS_PERCPU};

use super::btf::Btf;
use super::tracefs::{Format, Tracefs};

/// What could be found out about the running kernel.
#[derive(Clone, Debug)]
pub struct Discovered {
    /// Offsets for the object's global `LAYOUT`.
    pub layout: Layout,
    /// Whether the kernel's BTF was there and could be read.
    pub btf: bool,
    /// Whether `signal_generate` hands over the victim as its third argument (index 2).
    pub signal_generate: bool,
    /// `cgroup_subsys_state.parent`, or [`ABSENT`].
    pub css_parent: u32,
    /// `mm_struct.owner`, or [`ABSENT`].
    pub mm_owner: u32,
    /// What is missing, in English, one line each.
    pub notes: Vec<String>,
}

/// Asks BTF (unless `use_btf` is false) and tracefs. Costs about 20 ms and, while it runs, the size of
/// the kernel's BTF file in memory.
#[must_use]
pub fn discover(tracefs: &Tracefs, use_btf: bool) -> Discovered {
    let mut notes = Vec::new();
    let btf = if use_btf {
        Btf::running()
            .map_err(|error| notes.push(format!("no BTF: {error}")))
            .ok()
    } else {
        notes.push("BTF not used".to_owned());
        None
    };
    let mut found = Discovered {
        layout: Layout::UNKNOWN,
        btf: btf.is_some(),
        signal_generate: false,
        css_parent: ABSENT,
        mm_owner: ABSENT,
        notes,
    };
    if let Ok(page_size) = u32::try_from(rustix::param::page_size()) {
        found.layout.page_size = page_size;
    }
    if let Some(btf) = &btf {
        from_btf(&mut found, btf);
    }
    drop(btf);
    from_tracefs(&mut found, tracefs);
    found
}

/// Fills what BTF says; also used on files of other kernels.
fn from_btf(found: &mut Discovered, btf: &Btf) {
    let mut ask = Structs {
        btf,
        notes: &mut found.notes,
    };
    let layout = &mut found.layout;
    layout.task_pid = ask.sized("task_struct", "pid", 4);
    layout.task_tgid = ask.sized("task_struct", "tgid", 4);
    layout.task_comm = ask.sized("task_struct", "comm", 16);
    let start = if btf.field("task_struct", "start_boottime").is_some() {
        "start_boottime"
    } else {
        "real_start_time"
    };
    layout.task_start = ask.sized("task_struct", start, 8);
    layout.task_mm = ask.pointer("task_struct", "mm");
    layout.task_signal = ask.pointer("task_struct", "signal");
    layout.task_leader = ask.pointer("task_struct", "group_leader");
    layout.task_cred = ask.pointer("task_struct", "cred");
    layout.task_cgroups = ask.pointer("task_struct", "cgroups");
    layout.signal_adj = ask.sized("signal_struct", "oom_score_adj", 2);
    layout.signal_live = ask.sized("signal_struct", "live", 4);
    layout.cred_uid = ask.sized("cred", "uid", 4);
    layout.css_set_memory = ask.memory_subsystem();
    layout.css_cgroup = ask.pointer("cgroup_subsys_state", "cgroup");
    layout.cgroup_kn = ask.pointer("cgroup", "kn");
    layout.kn_id = ask.sized("kernfs_node", "id", 8);
    layout.mm_total_vm = ask.sized("mm_struct", "total_vm", 8);
    layout.mm_pgtables = ask.sized("mm_struct", "pgtables_bytes", 8);
    layout.mm_file = ask.constant("MM_FILEPAGES");
    layout.mm_anon = ask.constant("MM_ANONPAGES");
    layout.mm_swap = ask.constant("MM_SWAPENTS");
    layout.mm_shmem = ask.constant("MM_SHMEMPAGES");
    found.css_parent = ask.pointer("cgroup_subsys_state", "parent");
    found.mm_owner = ask.pointer("mm_struct", "owner");
    if let Some((offset, stride, kind)) = rss_counters(btf) {
        (layout.mm_rss, layout.mm_rss_stride, layout.mm_rss_kind) = (offset, stride, kind);
    } else {
        found
            .notes
            .push("mm_struct.rss_stat has a form that is not known".to_owned());
    }
    found.signal_generate = btf
        .tracepoint("signal_generate")
        .is_some_and(|args| args.get(2).is_some_and(|arg| arg == "struct task_struct *"));
    if !found.signal_generate {
        found
            .notes
            .push("signal_generate does not hand over the victim's task".to_owned());
    }
}

/// First counter's offset, the step to the next and the kind of `mm_struct.rss_stat`:
/// `struct mm_rss_stat { atomic_long_t count[4]; }` before Linux 6.2, `struct percpu_counter[4]` since.
fn rss_counters(btf: &Btf) -> Option<(u32, u32, u32)> {
    if let Some(longs) = btf.field("mm_struct", "rss_stat.count") {
        let (element, _) = btf.element(longs.type_id)?;
        return (btf.size(element)? == 8).then_some((longs.offset, 8, RSS_LONGS));
    }
    let counters = btf.field("mm_struct", "rss_stat")?;
    let (element, _) = btf.element(counters.type_id)?;
    let count = btf
        .field("percpu_counter", "count")
        .filter(|count| count.size == 8)?;
    let known = btf.type_name(element)? == "struct percpu_counter";
    known.then_some((
        counters.offset + count.offset,
        btf.size(element)?,
        RSS_PERCPU,
    ))
}

/// Questions to BTF that note what they do not find.
struct Structs<'a> {
    btf: &'a Btf,
    notes: &'a mut Vec<String>,
}

impl Structs<'_> {
    fn sized(&mut self, outer: &str, path: &str, size: u32) -> u32 {
        match self.btf.field(outer, path) {
            Some(field) if field.size == size => field.offset,
            Some(field) => {
                let got = field.size;
                self.notes
                    .push(format!("{outer}.{path} has {got} bytes instead of {size}"));
                ABSENT
            }
            None => self.missing(&format!("{outer}.{path}")),
        }
    }

    fn pointer(&mut self, outer: &str, path: &str) -> u32 {
        match self.btf.field(outer, path) {
            Some(field) if self.btf.is_pointer(field.type_id) => field.offset,
            Some(_) => {
                self.notes.push(format!("{outer}.{path} is no pointer"));
                ABSENT
            }
            None => self.missing(&format!("{outer}.{path}")),
        }
    }

    fn constant(&mut self, name: &str) -> u32 {
        match self
            .btf
            .enum_value(name)
            .and_then(|value| u32::try_from(value).ok())
        {
            Some(value) => value,
            None => self.missing(name),
        }
    }

    /// `css_set.subsys[memory_cgrp_id]`.
    fn memory_subsystem(&mut self) -> u32 {
        let index = self.constant("memory_cgrp_id");
        let Some(subsys) = self.btf.field("css_set", "subsys") else {
            return self.missing("css_set.subsys");
        };
        match index.checked_mul(8) {
            Some(within) if within < subsys.size => subsys.offset + within,
            _ => ABSENT,
        }
    }

    fn missing(&mut self, what: &str) -> u32 {
        self.notes
            .push(format!("{what} is not in this kernel's BTF"));
        ABSENT
    }
}

/// Fills the fields of classic tracepoints.
fn from_tracefs(found: &mut Discovered, tracefs: &Tracefs) {
    let mut ask = Records {
        tracefs,
        notes: &mut found.notes,
    };
    let layout = &mut found.layout;
    let mark = ask.format("oom", "mark_victim");
    layout.tp_mark_pid = ask.sized(&mark, "pid", &[4]);
    layout.tp_mark_total_vm = ask.sized(&mark, "total_vm", &[8]);
    layout.tp_mark_anon_rss = ask.sized(&mark, "anon_rss", &[8]);
    layout.tp_mark_file_rss = ask.sized(&mark, "file_rss", &[8]);
    layout.tp_mark_shmem_rss = ask.sized(&mark, "shmem_rss", &[8]);
    layout.tp_mark_uid = ask.sized(&mark, "uid", &[4]);
    layout.tp_mark_pgtables = ask.sized(&mark, "pgtables", &[8]);
    layout.tp_mark_adj = ask.sized(&mark, "oom_score_adj", &[2]);
    layout.tp_reap_pid = ask.reaper_pid();
    let deliver = ask.format("signal", "signal_deliver");
    layout.tp_deliver_sig = ask.sized(&deliver, "sig", &[4]);
    // The mask is an `unsigned long` since Linux 5.19 and was a 4-byte `gfp_t`; its low half is read.
    let direct = ask.format("vmscan", "mm_vmscan_direct_reclaim_begin");
    layout.tp_direct_gfp = ask.sized(&direct, "gfp_flags", &[4, 8]);
    layout.tp_direct_order = ask.sized(&direct, "order", &[4]);
    let memcg = ask.format("vmscan", "mm_vmscan_memcg_reclaim_begin");
    layout.tp_memcg_gfp = ask.sized(&memcg, "gfp_flags", &[4, 8]);
    layout.tp_memcg_order = ask.sized(&memcg, "order", &[4]);
    let fork = ask.format("sched", "sched_process_fork");
    layout.tp_fork_child = ask.sized(&fork, "child_pid", &[4]);
    layout.tp_fork_parent = ask.sized(&fork, "parent_pid", &[4]);
}

/// Offsets of fields of classic tracepoints, [`ABSENT`] where this kernel has none of a size that can be read.
/// Whether the event itself is there is told when its hook is attached.
#[must_use]
pub fn tracepoint_fields(
    tracefs: &Tracefs,
    wanted: &[aiops_common::stall::TracepointField],
) -> Vec<u32> {
    let offset = |(category, event, field, sizes): &aiops_common::stall::TracepointField| {
        let format = tracefs.format(category, event)?;
        let found = format.field(field)?;
        sizes.contains(&found.size).then_some(found.offset)
    };
    let offsets = wanted.iter().map(|one| offset(one).unwrap_or(ABSENT));
    offsets.collect()
}

/// Questions to tracefs that note what they do not find.
struct Records<'a> {
    tracefs: &'a Tracefs,
    notes: &'a mut Vec<String>,
}

/// A tracepoint's fields, with its name for the notes; empty when the kernel lacks it.
struct Record {
    name: String,
    format: Option<Format>,
}

impl Records<'_> {
    fn format(&mut self, category: &str, name: &str) -> Record {
        let format = self.tracefs.format(category, name);
        let name = format!("{category}/{name}");
        if format.is_none() {
            self.notes
                .push(format!("{name} is not in this kernel's tracefs"));
        }
        Record { name, format }
    }

    fn sized(&mut self, record: &Record, field: &str, sizes: &[u32]) -> u32 {
        let Some(format) = &record.format else {
            return ABSENT;
        };
        match format.field(field) {
            Some(found) if sizes.contains(&found.size) => found.offset,
            found => {
                let why = found.map_or_else(
                    || "missing".to_owned(),
                    |found| format!("{} bytes instead of {sizes:?}", found.size),
                );
                self.notes
                    .push(format!("{}: field {field}: {why}", record.name));
                ABSENT
            }
        }
    }

    /// One offset serves the four reaper events, so they must agree.
    fn reaper_pid(&mut self) -> u32 {
        let events = [
            "wake_reaper",
            "start_task_reaping",
            "finish_task_reaping",
            "skip_task_reaping",
        ];
        let offsets = events.map(|name| {
            let record = self.format("oom", name);
            self.sized(&record, "pid", &[4])
        });
        if offsets.iter().all(|offset| *offset == offsets[0]) {
            return offsets[0];
        }
        self.notes
            .push("the events of the OOM reaper disagree about `pid`".to_owned());
        ABSENT
    }
}

/// For tests that need a privilege: says why nothing was tested, or fails where it must be tested.
#[cfg(test)]
pub(super) fn skip_or_fail(why: &str) {
    assert!(std::env::var_os("AIOPS_REQUIRE_BPF").is_none(), "{why}");
    eprintln!("SKIPPED: {why}");
}

#[cfg(test)]
#[path = "offsets_tests.rs"]
mod tests;
