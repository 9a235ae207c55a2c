//! The kernel's report of one decision, gathered from the lines of its log.
//!
//! Reports of several CPUs may interleave: lines go together by who printed them (`T<tid>`), else by
//! order. The kernel leaves out the head of a report when many follow each other (`oom_rs`), so a
//! "Killed process" line may stand alone.

use crate::model::KmsgLine;
use crate::model::Nanos;

use super::kernel_text::Line;
use super::kernel_text::Row;
use super::kernel_text::TableForm;
use super::kernel_text::UsageKind;
use super::kernel_text::line;
use super::kernel_text::row;
use super::people::bytes;
use super::people::text;

/// Most lines kept of one report; a host with thousands of processes prints thousands of rows.
const LINES_MAX: usize = 400;

/// Most lines kept beyond those for what was decided and killed.
const KILLS_MAX: usize = 100;

/// A row of the task table, KiB.
#[derive(Clone, Debug)]
pub(super) struct TaskRow {
    pub(super) pid: u32,
    pub(super) comm: String,
    pub(super) rss_pages: u64,
    pub(super) swap_pages: u64,
    pub(super) pgtables_pages: u64,
    pub(super) adj: i32,
}

/// A "Killed process" line.
#[derive(Clone, Debug)]
pub(super) struct LoggedLine {
    pub(super) ts: Nanos,
    /// Time of the newest item before it: the log's own clock may drift away from the others by seconds.
    pub(super) heard: Nanos,
    pub(super) pid: u32,
    pub(super) comm: String,
    pub(super) uid: Option<u32>,
    pub(super) figures: crate::report::oom::KernelFigures,
    /// Its mark was captured.
    pub(super) captured: bool,
}

/// One report.
#[derive(Clone, Debug, Default)]
pub(super) struct KernelReport {
    pub(super) id: u64,
    pub(super) caller: Option<String>,
    pub(super) first: Nanos,
    /// Time of the newest item when the report began: when it has waited long enough.
    pub(super) heard: Nanos,
    pub(super) lines: Vec<String>,
    pub(super) comm: Option<String>,
    pub(super) gfp_mask: Option<u64>,
    pub(super) gfp_flags: Option<String>,
    pub(super) order: Option<i32>,
    pub(super) trigger_adj: Option<i32>,
    pub(super) constraint: Option<String>,
    pub(super) oom_memcg: Option<String>,
    pub(super) task_memcg: Option<String>,
    pub(super) usage_kb: Option<u64>,
    pub(super) limit_kb: Option<u64>,
    pub(super) swap_limit_kb: Option<u64>,
    pub(super) memsw_limit_kb: Option<u64>,
    form: Option<TableForm>,
    pub(super) rows: Vec<TaskRow>,
    pub(super) kills: Vec<LoggedLine>,
    pub(super) repeated: u64,
    pub(super) group: bool,
    pub(super) no_killable: bool,
    /// Incident that it belongs to.
    pub(super) key: Option<u64>,
    /// Cgroup of its first captured victim.
    pub(super) cgroup: Option<String>,
}

/// Reports that are being gathered or wait for their marks.
#[derive(Debug, Default)]
pub(super) struct Joiner {
    pub(super) reports: Vec<KernelReport>,
    next: u64,
    page: u64,
}

impl Joiner {
    pub(super) fn page_size(&mut self, bytes: u64) {
        self.page = bytes.max(1);
    }

    fn begin(&mut self, entry: &KmsgLine, now: Nanos) -> &mut KernelReport {
        self.next += 1;
        let at = self.reports.len();
        self.reports.push(KernelReport {
            id: self.next,
            caller: entry.caller.clone(),
            first: entry.ts_ns,
            heard: now,
            ..KernelReport::default()
        });
        &mut self.reports[at]
    }

    fn current(&mut self, entry: &KmsgLine) -> Option<&mut KernelReport> {
        let mut newest = self.reports.iter_mut().rev();
        newest.find(|report| report.caller == entry.caller)
    }

    /// Where a kill line goes: to the report being printed, or of its group; none when it begins one.
    fn home(
        &self,
        entry: &KmsgLine,
        pid: u32,
        trigger_of: &dyn Fn(u32) -> Option<u32>,
    ) -> Option<usize> {
        let trigger = trigger_of(pid);
        let own = |report: &KernelReport| report.kills.iter().find_map(|kill| trigger_of(kill.pid));
        let same = |report: &KernelReport| report.caller == entry.caller;
        let current = self.reports.iter().rposition(same)?;
        let report = &self.reports[current];
        let other = trigger.zip(own(report)).is_some_and(|(a, b)| a != b);
        if !other {
            let fits = report.group
                || report.kills.is_empty()
                || report.kills.iter().any(|kill| kill.pid == pid);
            return fits.then_some(current);
        }
        // Reports of several groups may be printed through each other.
        let mine = |report: &KernelReport| same(report) && report.group && own(report) == trigger;
        self.reports.iter().rposition(mine)
    }

    /// Takes the first kill line whose mark has another trigger than the report's first out of its report.
    pub(super) fn split(&mut self, trigger_of: &dyn Fn(u32) -> Option<u32>) -> Option<(u64, u32)> {
        let (at, pid) = self.reports.iter().enumerate().find_map(|(at, report)| {
            if report.kills.len() < 2 {
                return None;
            }
            let first = report.kills.iter().find_map(|kill| trigger_of(kill.pid))?;
            let other = report
                .kills
                .iter()
                .find(|kill| trigger_of(kill.pid).is_some_and(|tid| tid != first))?;
            Some((at, other.pid))
        })?;
        let id = self.reports[at].id;
        self.take_out(at, pid);
        Some((id, pid))
    }

    /// Moves a kill line into a report of its own.
    fn take_out(&mut self, at: usize, pid: u32) {
        let report = &mut self.reports[at];
        let Some(kill) = report.kills.iter().position(|kill| kill.pid == pid) else {
            return;
        };
        let mut kill = report.kills.remove(kill);
        kill.captured = false;
        let is_its = |text: &String| matches!(line(text.as_bytes()), Some(Line::Killed(killed)) if killed.pid == pid);
        let text = report.lines.iter().position(is_its);
        let lines = text.map(|at| report.lines.remove(at)).into_iter().collect();
        let (caller, constraint) = (report.caller.clone(), report.constraint.clone());
        self.next += 1;
        self.reports.push(KernelReport {
            id: self.next,
            caller,
            constraint: constraint.filter(|name| name == "memcg"),
            first: kill.ts,
            heard: kill.heard,
            lines,
            kills: vec![kill],
            ..KernelReport::default()
        });
    }

    /// A group's line after another group's: the kill line before it is the new one's first.
    fn next_group(&mut self, entry: &KmsgLine) -> Option<(u64, u32)> {
        let same = |report: &KernelReport| report.caller == entry.caller;
        let at = self.reports.iter().rposition(same)?;
        let report = &self.reports[at];
        if !report.group || report.kills.len() < 2 {
            return None;
        }
        let pid = report.kills.last()?.pid;
        let id = report.id;
        self.take_out(at, pid);
        Some((id, pid))
    }

    /// Takes a line of the kernel (facility 0); `trigger_of` knows the triggering thread of captured
    /// victims. Returns the report that a line was taken out of, and the victim of that line.
    pub(super) fn push(
        &mut self,
        entry: &KmsgLine,
        now: Nanos,
        trigger_of: &dyn Fn(u32) -> Option<u32>,
    ) -> Option<(u64, u32)> {
        let page = self.page;
        let raw = entry.text.as_bytes();
        let meaning = line(raw);
        let mut moved = None;
        if let Some(Line::Group { .. }) = &meaning {
            moved = self.next_group(entry);
        }
        let report = match &meaning {
            Some(Line::Invoked(_)) => Some(self.begin(entry, now)),
            Some(Line::Killed(killed)) => match self.home(entry, killed.pid, trigger_of) {
                Some(at) => self.reports.get_mut(at),
                None => Some(self.begin(entry, now)),
            },
            Some(Line::Reaped { pid, .. }) => self
                .reports
                .iter_mut()
                .rev()
                .find(|report| report.kills.iter().any(|kill| kill.pid == *pid)),
            Some(_) => self.current(entry),
            // Anything else belongs to a report only while it is being printed.
            None => self
                .current(entry)
                .filter(|report| report.kills.is_empty() && !report.no_killable),
        };
        let Some(report) = report else { return moved };
        // What was decided comes after the rows and is always kept.
        if report.lines.len() < LINES_MAX
            || (meaning.is_some() && report.lines.len() < LINES_MAX + KILLS_MAX)
        {
            report.lines.push(text(&entry.text));
        }
        match meaning {
            Some(meaning) => report.take(meaning, entry.ts_ns, now),
            None => {
                if let Some(row) = report.form.and_then(|form| row(&form, raw)) {
                    report.rows.push(task_row(&row, page));
                }
            }
        }
        moved
    }
}

impl KernelReport {
    fn take(&mut self, meaning: Line<'_>, ts: Nanos, now: Nanos) {
        match meaning {
            Line::Invoked(invoked) => {
                self.comm = Some(bytes(invoked.comm));
                self.gfp_mask = invoked.gfp_mask;
                self.gfp_flags = invoked.gfp_flags.map(bytes);
                self.order = invoked.order;
                self.trigger_adj = invoked.oom_score_adj;
            }
            Line::Usage(usage) => match usage.kind {
                UsageKind::Memory => {
                    self.usage_kb = Some(usage.usage_kb);
                    self.limit_kb = Some(usage.limit_kb);
                }
                UsageKind::Swap => self.swap_limit_kb = Some(usage.limit_kb),
                UsageKind::MemorySwap => self.memsw_limit_kb = Some(usage.limit_kb),
                UsageKind::Kernel => {}
            },
            Line::Header(form) => self.form = Some(form),
            Line::Decision(decision) => {
                self.constraint = Some(bytes(decision.constraint).to_ascii_lowercase());
                self.oom_memcg = decision.oom_memcg.map(bytes);
                self.task_memcg = decision.task_memcg.map(bytes);
                self.form = None;
            }
            Line::TaskIn {
                task_memcg,
                oom_memcg,
            } => {
                self.constraint = Some("memcg".to_owned());
                self.oom_memcg = Some(bytes(oom_memcg));
                self.task_memcg = Some(bytes(task_memcg));
            }
            Line::Group { .. } => self.group = true,
            Line::NoKillable => self.no_killable = true,
            Line::Reaped { .. } => {}
            Line::Killed(killed) => {
                self.form = None;
                if killed.memcg == Some(true) && self.constraint.is_none() {
                    self.constraint = Some("memcg".to_owned());
                }
                if self.kills.iter().any(|kill| kill.pid == killed.pid) {
                    self.repeated += 1;
                    return;
                }
                self.kills.push(LoggedLine {
                    ts,
                    heard: now,
                    pid: killed.pid,
                    comm: bytes(killed.comm),
                    uid: killed.uid,
                    figures: crate::report::oom::KernelFigures {
                        total_vm_kb: killed.total_vm_kb,
                        anon_rss_kb: killed.anon_rss_kb,
                        file_rss_kb: killed.file_rss_kb,
                        shmem_rss_kb: killed.shmem_rss_kb,
                        pgtables_kb: killed.pgtables_kb,
                        oom_score_adj: killed.oom_score_adj,
                    },
                    captured: false,
                });
            }
        }
    }
}

/// Whether this task may have printed a line: true when the log does not say who did.
pub(super) fn printed_by(caller: Option<&str>, tid: u32) -> bool {
    let tid_of = caller.and_then(|caller| caller.strip_prefix('T'));
    tid_of.is_none_or(|text| text.parse() == Ok(tid))
}

fn task_row(row: &Row<'_>, page: u64) -> TaskRow {
    // A damaged recording may say that a page has no bytes.
    let tables = row.pgtables_bytes.and_then(|bytes| bytes.checked_div(page));
    TaskRow {
        pid: row.pid,
        comm: bytes(row.comm),
        rss_pages: row.rss.unwrap_or(0),
        swap_pages: row.swapents.unwrap_or(0),
        pgtables_pages: tables.or(row.pgtables_pages).unwrap_or(0),
        adj: row.oom_score_adj.unwrap_or(0),
    }
}
