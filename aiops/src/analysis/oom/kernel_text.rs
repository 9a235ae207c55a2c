//! The kernel's own words about OOM kills (mm/oom_kill.c, mm/memcontrol.c of Linux 4.19 to 6.18), line by line.
//!
//! Nothing is copied: a [`Line`] borrows from the text. Names (`comm`) and cgroup paths may hold any
//! bytes, so fields after a name are looked for from the end, and a line has to begin as the kernel
//! begins it. The text is what follows the log's own prefix (time stamp, caller).
//!
//! ```text
//! python invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0
//! memory: usage 32768kB, limit 32768kB, failcnt 12
//! [  pid  ]   uid  tgid total_vm      rss pgtables_bytes swapents oom_score_adj name
//! oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=a,mems_allowed=0,oom_memcg=/a,task_memcg=/a,task=python,pid=7,uid=0
//! Memory cgroup out of memory: Killed process 7 (python) total-vm:9kB, anon-rss:5kB, file-rss:1kB, shmem-rss:0kB, UID:0 pgtables:4kB oom_score_adj:0
//! Tasks in /a are going to be killed due to memory.oom.group set
//! oom_reaper: reaped process 7 (python), now anon-rss:0kB, file-rss:0kB, shmem-rss:0kB
//! ```

/// Longest `comm` (kernel: `TASK_COMM_LEN` less the NUL).
const COMM_MAX: usize = 15;

/// One line that means something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// A report begins.
    Invoked(Invoked<'a>),
    /// Use and limit of the cgroup whose limit was met.
    Usage(Usage),
    /// The task table's header.
    Header(TableForm),
    /// The summary of the decision (since 5.0).
    Decision(Decision<'a>),
    /// The same before 5.0: `Task in /a killed as a result of limit of /b`.
    TaskIn {
        /// Cgroup of the victim.
        task_memcg: &'a [u8],
        /// Cgroup whose limit was met.
        oom_memcg: &'a [u8],
    },
    /// A process was killed.
    Killed(Killed<'a>),
    /// The whole cgroup is killed (memory.oom.group, since 4.19).
    Group {
        /// Its path.
        cgroup: &'a [u8],
    },
    /// Nobody could be killed.
    NoKillable,
    /// The reaper took a victim's memory.
    Reaped {
        /// Process (kernel: thread) id.
        pid: u32,
        /// Its name.
        comm: &'a [u8],
    },
}

/// `X invoked oom-killer: …`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invoked<'a> {
    /// Name of the task that ran the OOM killer.
    pub comm: &'a [u8],
    /// The allocation's flags.
    pub gfp_mask: Option<u64>,
    /// Their names, joined by `|`.
    pub gfp_flags: Option<&'a [u8]>,
    /// 2^order pages; −1 for sysrq f.
    pub order: Option<i32>,
    /// Of the task that ran it.
    pub oom_score_adj: Option<i32>,
}

/// Which counter a [`Usage`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsageKind {
    /// `memory:`.
    Memory,
    /// `swap:` (v2).
    Swap,
    /// `memory+swap:` (v1).
    MemorySwap,
    /// `kmem:` (v1).
    Kernel,
}

/// `memory: usage 32768kB, limit 32768kB, failcnt 12`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// Of what.
    pub kind: UsageKind,
    /// In use, KiB.
    pub usage_kb: u64,
    /// Limit, KiB; an unset one is a number near 2^63 bytes.
    pub limit_kb: u64,
}

/// `oom-kill:constraint=…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision<'a> {
    /// The word after `CONSTRAINT_`.
    pub constraint: &'a [u8],
    /// Cgroup whose limit was met; none for the whole host.
    pub oom_memcg: Option<&'a [u8]>,
    /// Cgroup of the victim.
    pub task_memcg: Option<&'a [u8]>,
    /// Name of the victim.
    pub comm: &'a [u8],
    /// Process id of the victim.
    pub pid: u32,
    /// Its user id.
    pub uid: Option<u32>,
}

/// `… Killed process 7 (python) total-vm:…`; sizes in KiB.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Killed<'a> {
    /// The message says that a memory cgroup was out of memory; `None` when there is no message (4.19).
    pub memcg: Option<bool>,
    /// Process id.
    pub pid: u32,
    /// Its name.
    pub comm: &'a [u8],
    /// total-vm.
    pub total_vm_kb: Option<u64>,
    /// anon-rss.
    pub anon_rss_kb: Option<u64>,
    /// file-rss.
    pub file_rss_kb: Option<u64>,
    /// shmem-rss.
    pub shmem_rss_kb: Option<u64>,
    /// pgtables (since 5.4).
    pub pgtables_kb: Option<u64>,
    /// UID (since 5.4).
    pub uid: Option<u32>,
    /// oom_score_adj (since 5.4).
    pub oom_score_adj: Option<i32>,
}

/// A column of the task table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Column {
    Uid,
    Tgid,
    TotalVm,
    Rss,
    RssAnon,
    RssFile,
    RssShmem,
    PgtablesBytes,
    NrPtes,
    Swapents,
    Adj,
    Other,
}

/// Most columns that a table may have before the name.
const COLUMNS_MAX: usize = 12;

/// Which columns the task table of this kernel has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableForm {
    columns: [Column; COLUMNS_MAX],
    len: usize,
}

/// A row of the task table; sizes in pages unless named otherwise.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Row<'a> {
    /// Thread id of a thread that still has memory.
    pub tid: u32,
    /// Process id.
    pub pid: u32,
    /// User id.
    pub uid: Option<u32>,
    /// Address space.
    pub total_vm: Option<u64>,
    /// Resident.
    pub rss: Option<u64>,
    /// Page tables, bytes.
    pub pgtables_bytes: Option<u64>,
    /// Page tables, pages (before 4.16).
    pub pgtables_pages: Option<u64>,
    /// Swap entries.
    pub swapents: Option<u64>,
    /// −1000 to 1000.
    pub oom_score_adj: Option<i32>,
    /// Its name.
    pub comm: &'a [u8],
}

/// Reads one line; `None` for lines that say nothing about the decision.
#[must_use]
pub fn line(text: &[u8]) -> Option<Line<'_>> {
    killed(text)
        .map(Line::Killed)
        .or_else(|| decision(text).map(Line::Decision))
        .or_else(|| usage(text).map(Line::Usage))
        .or_else(|| header(text).map(Line::Header))
        .or_else(|| group(text))
        .or_else(|| task_in(text))
        .or_else(|| reaped(text))
        .or_else(|| {
            text.starts_with(b"Out of memory and no killable processes")
                .then_some(Line::NoKillable)
        })
        .or_else(|| invoked(text).map(Line::Invoked))
}

/// Reads a row of the task table whose header was `form`.
#[must_use]
pub fn row<'a>(form: &TableForm, text: &'a [u8]) -> Option<Row<'a>> {
    let inner = text.strip_prefix(b"[")?;
    let close = inner.iter().position(|byte| *byte == b']')?;
    let mut row = Row {
        tid: number(inner[..close].trim_ascii())?,
        ..Row::default()
    };
    let mut rest = &inner[close + 1..];
    let (mut parts, mut has_rss) = (0_u64, false);
    for column in &form.columns[..form.len] {
        rest = rest.trim_ascii_start();
        let end = rest.iter().position(u8::is_ascii_whitespace)?;
        let word = &rest[..end];
        rest = &rest[end..];
        match column {
            Column::Uid => row.uid = number(word),
            Column::Tgid => row.pid = number(word)?,
            Column::TotalVm => row.total_vm = Some(number(word)?),
            Column::Rss => {
                row.rss = Some(number(word)?);
                has_rss = true;
            }
            Column::RssAnon | Column::RssFile | Column::RssShmem => {
                parts = parts.saturating_add(number(word)?);
            }
            Column::PgtablesBytes => row.pgtables_bytes = Some(number(word)?),
            Column::NrPtes => row.pgtables_pages = Some(number(word)?),
            Column::Swapents => row.swapents = Some(number(word)?),
            Column::Adj => row.oom_score_adj = Some(number(word)?),
            Column::Other => {}
        }
    }
    if !has_rss && parts > 0 {
        row.rss = Some(parts);
    }
    row.comm = rest.strip_prefix(b" ").unwrap_or(rest);
    Some(row)
}

fn invoked(text: &[u8]) -> Option<Invoked<'_>> {
    const MIDDLE: &[u8] = b" invoked oom-killer: ";
    let at = find(text, MIDDLE).filter(|at| *at <= COMM_MAX)?;
    let tail = &text[at + MIDDLE.len()..];
    let mask = after(tail, b"gfp_mask=0x");
    let digits = mask.map(|mask| &mask[..count(mask, u8::is_ascii_hexdigit)]);
    let gfp_mask = digits
        .and_then(|hex| std::str::from_utf8(hex).ok())
        .and_then(|hex| u64::from_str_radix(hex, 16).ok());
    let names = mask
        .zip(digits)
        .and_then(|(mask, digits)| mask[digits.len()..].strip_prefix(b"("))
        .and_then(|names| Some(&names[..names.iter().position(|byte| *byte == b')')?]));
    Some(Invoked {
        comm: &text[..at],
        gfp_mask,
        gfp_flags: names.filter(|names| !names.is_empty()),
        order: after(tail, b" order=").and_then(leading),
        oom_score_adj: after(tail, b"oom_score_adj=").and_then(leading),
    })
}

fn usage(text: &[u8]) -> Option<Usage> {
    let kinds: [(&[u8], UsageKind); 4] = [
        (b"memory: usage ", UsageKind::Memory),
        (b"swap: usage ", UsageKind::Swap),
        (b"memory+swap: usage ", UsageKind::MemorySwap),
        (b"kmem: usage ", UsageKind::Kernel),
    ];
    let (tail, kind) = kinds
        .into_iter()
        .find_map(|(start, kind)| Some((text.strip_prefix(start)?, kind)))?;
    Some(Usage {
        kind,
        usage_kb: leading(tail)?,
        limit_kb: after(tail, b", limit ").and_then(leading)?,
    })
}

fn header(text: &[u8]) -> Option<TableForm> {
    let inner = text.strip_prefix(b"[")?;
    let close = inner.iter().position(|byte| *byte == b']')?;
    if inner[..close].trim_ascii() != b"pid" {
        return None;
    }
    let mut form = TableForm {
        columns: [Column::Other; COLUMNS_MAX],
        len: 0,
    };
    let words = inner[close + 1..].split(u8::is_ascii_whitespace);
    for word in words.filter(|word| !word.is_empty()) {
        if word == b"name" {
            return form.columns.contains(&Column::Tgid).then_some(form);
        }
        *form.columns.get_mut(form.len)? = match word {
            b"uid" => Column::Uid,
            b"tgid" => Column::Tgid,
            b"total_vm" => Column::TotalVm,
            b"rss" => Column::Rss,
            b"rss_anon" => Column::RssAnon,
            b"rss_file" => Column::RssFile,
            b"rss_shmem" => Column::RssShmem,
            b"pgtables_bytes" => Column::PgtablesBytes,
            b"nr_ptes" => Column::NrPtes,
            b"swapents" => Column::Swapents,
            b"oom_score_adj" => Column::Adj,
            _ => Column::Other,
        };
        form.len += 1;
    }
    None
}

fn decision(text: &[u8]) -> Option<Decision<'_>> {
    let tail = text.strip_prefix(b"oom-kill:constraint=CONSTRAINT_")?;
    let end = tail.iter().position(|byte| *byte == b',')?;
    let constraint = &tail[..end];
    let uid_at = rfind(tail, b",uid=")?;
    let pid_at = rfind(&tail[..uid_at], b",pid=")?;
    let before_pid = &tail[..pid_at];
    let comm_at = task_name(before_pid)?;
    let paths = &tail[end..comm_at - b",task=".len()];
    let (left, task_memcg) = match find(paths, b",task_memcg=") {
        Some(at) => (&paths[..at], Some(&paths[at + b",task_memcg=".len()..])),
        None => (paths, None),
    };
    Some(Decision {
        constraint,
        oom_memcg: after(left, b",oom_memcg="),
        task_memcg,
        comm: &before_pid[comm_at..],
        pid: number(&tail[pid_at + b",pid=".len()..uid_at])?,
        uid: leading(&tail[uid_at + b",uid=".len()..]),
    })
}

/// Where the name begins: the first `,task=` after which no more than a name follows.
fn task_name(text: &[u8]) -> Option<usize> {
    const KEY: &[u8] = b",task=";
    let from = text.len().saturating_sub(COMM_MAX + KEY.len());
    find(&text[from..], KEY).map(|at| from + at + KEY.len())
}

fn killed(text: &[u8]) -> Option<Killed<'_>> {
    const MIDDLE: &[u8] = b"Killed process ";
    let (memcg, tail) = if let Some(tail) = text.strip_prefix(MIDDLE) {
        (None, tail)
    } else {
        let global = text.starts_with(b"Out of memory");
        if !global && !text.starts_with(b"Memory cgroup out of memory") {
            return None;
        }
        let at = find(text, b": Killed process ")?;
        (Some(!global), &text[at + 2 + MIDDLE.len()..])
    };
    let digits = count(tail, u8::is_ascii_digit);
    let named = tail[digits..].strip_prefix(b" (")?;
    let end = rfind(named, b") total-vm:").or_else(|| rfind(named, b"), UID "))?;
    let figures = &named[end..];
    Some(Killed {
        memcg,
        pid: number(&tail[..digits])?,
        comm: &named[..end],
        total_vm_kb: after(figures, b"total-vm:").and_then(leading),
        anon_rss_kb: after(figures, b"anon-rss:").and_then(leading),
        file_rss_kb: after(figures, b"file-rss:").and_then(leading),
        shmem_rss_kb: after(figures, b"shmem-rss:").and_then(leading),
        pgtables_kb: after(figures, b"pgtables:").and_then(leading),
        uid: after(figures, b"UID:")
            .or_else(|| after(figures, b"UID "))
            .and_then(leading),
        oom_score_adj: after(figures, b"oom_score_adj:").and_then(leading),
    })
}

fn group(text: &[u8]) -> Option<Line<'_>> {
    let tail = text.strip_prefix(b"Tasks in ")?;
    let end = rfind(tail, b" are going to be killed due to memory.oom.group set")?;
    Some(Line::Group {
        cgroup: &tail[..end],
    })
}

fn task_in(text: &[u8]) -> Option<Line<'_>> {
    const MIDDLE: &[u8] = b" killed as a result of limit of ";
    let tail = text.strip_prefix(b"Task in ")?;
    let at = rfind(tail, MIDDLE)?;
    Some(Line::TaskIn {
        task_memcg: &tail[..at],
        oom_memcg: &tail[at + MIDDLE.len()..],
    })
}

fn reaped(text: &[u8]) -> Option<Line<'_>> {
    let tail = text.strip_prefix(b"oom_reaper: reaped process ")?;
    let digits = count(tail, u8::is_ascii_digit);
    let named = tail[digits..].strip_prefix(b" (")?;
    let end = rfind(named, b"), now anon-rss:")?;
    Some(Line::Reaped {
        pid: number(&tail[..digits])?,
        comm: &named[..end],
    })
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

fn rfind(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).rposition(|window| window == what)
}

fn after<'a>(text: &'a [u8], what: &[u8]) -> Option<&'a [u8]> {
    find(text, what).map(|at| &text[at + what.len()..])
}

fn count(text: &[u8], is: fn(&u8) -> bool) -> usize {
    text.iter().take_while(|byte| is(byte)).count()
}

fn number<N: std::str::FromStr>(text: &[u8]) -> Option<N> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The number that the text begins with.
fn leading<N: std::str::FromStr>(text: &[u8]) -> Option<N> {
    let sign = usize::from(text.first() == Some(&b'-'));
    number(&text[..sign + count(&text[sign..], u8::is_ascii_digit)])
}

#[cfg(test)]
#[path = "kernel_text_tests.rs"]
mod tests;
