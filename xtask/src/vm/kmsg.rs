//! The kernel's own word on a kill: its "Killed process" line.
//!
//! Printed by `__oom_kill_process` in mm/oom_kill.c since 5.4:
//! `Memory cgroup out of memory: Killed process 71 (grower) total-vm:68604kB, anon-rss:64620kB,
//! file-rss:400kB, shmem-rss:0kB, UID:0 pgtables:172kB oom_score_adj:0`

/// One line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct KilledLine {
    /// Process id.
    pub pid: u64,
    /// Name; may hold any byte that is printable, `)` too.
    pub comm: String,
    /// Figures under the names that aiops has for them, in the line's order.
    pub figures: Vec<(&'static str, i64)>,
}

/// Name in the line, name in the report.
const FIGURES: &[(&str, &str)] = &[
    ("total-vm:", "total_vm_kb"),
    ("anon-rss:", "anon_rss_kb"),
    ("file-rss:", "file_rss_kb"),
    ("shmem-rss:", "shmem_rss_kb"),
    ("pgtables:", "pgtables_kb"),
    ("oom_score_adj:", "oom_score_adj"),
];

/// All such lines of a log. A group kill has two for its first victim.
pub(super) fn killed_lines(log: &str) -> Vec<KilledLine> {
    log.lines().filter_map(parse).collect()
}

fn parse(line: &str) -> Option<KilledLine> {
    let (_, rest) = line.split_once("Killed process ")?;
    let (pid, rest) = rest.split_once(" (")?;
    let (comm, rest) = rest.split_once(") total-vm:")?;
    let rest = format!("total-vm:{rest}");
    let mut figures = Vec::new();
    for (theirs, ours) in FIGURES {
        let (_, value) = rest.split_once(theirs)?;
        let end = value
            .find(|letter: char| !letter.is_ascii_digit() && letter != '-')
            .unwrap_or(value.len());
        figures.push((*ours, value[..end].parse().ok()?));
    }
    Some(KilledLine {
        pid: pid.parse().ok()?,
        comm: comm.to_owned(),
        figures,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read_whole() {
        let log = "6,412,5123456,-;oom_reaper: something\n\
                   3,413,5123999,-;Memory cgroup out of memory: Killed process 71 (a) b) \
                   total-vm:68604kB, anon-rss:64620kB, file-rss:400kB, shmem-rss:4kB, UID:0 \
                   pgtables:172kB oom_score_adj:-17\n";
        let lines = killed_lines(log);
        assert_eq!(lines.len(), 1);
        assert_eq!((lines[0].pid, lines[0].comm.as_str()), (71, "a) b"));
        let values: Vec<i64> = lines[0].figures.iter().map(|(_, value)| *value).collect();
        assert_eq!(values, [68604, 64620, 400, 4, 172, -17]);
    }
}
