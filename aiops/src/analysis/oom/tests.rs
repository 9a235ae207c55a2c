mod rare;

use proptest::prelude::*;

use super::*;
use crate::model::*;

const S: u64 = 1_000_000_000;
const MS: u64 = 1_000_000;

/// A stream of items, built step by step.
struct Stream(Vec<Item>);

fn task(pid: u32, comm: &str) -> TaskRef {
    TaskRef {
        pid,
        tid: pid,
        comm: comm.into(),
        start_ns: Some(u64::from(pid) * S),
        memcg_id: Some(7),
    }
}

fn metrics(rss_kb: u64) -> ProcessMetrics {
    ProcessMetrics {
        rss_kb: Some(rss_kb),
        swap_kb: Some(0),
        pgtables_kb: Some(4),
        ..Default::default()
    }
}

impl Stream {
    fn new(filter: Filter, count: Option<u64>) -> Self {
        let host = Host {
            boot_id: Some("0123456789abcdef".into()),
            mem_total_kb: Some(4_000_000),
            page_size: Some(4096),
            ticks_per_s: Some(100),
            memory_cgroup: Some(2),
            utc_offset_s: Some(28_800),
            ..Default::default()
        };
        let session = Session {
            command: "trace oom".into(),
            started_ns: S,
            host,
            filter,
            count,
            history_window_s: 300,
            ..Default::default()
        };
        let mut s = Self(vec![Item::Session(session)]);
        s.0.push(Item::Clock(ClockPair {
            mono_ns: S,
            boot_ns: S,
            real_ns: 1_700_000_000_000_000_000,
        }));
        s.counters(S, CountersAt::Start, 10);
        s
    }

    fn counters(&mut self, ts_ns: u64, at: CountersAt, oom_kill: u64) {
        self.0.push(Item::Counters(Counters {
            ts_ns,
            at,
            oom_kill: Some(oom_kill),
            cgroups: vec![],
        }));
    }

    fn sample(&mut self, ts_ns: u64, processes: &[(u32, &str, u64, i32)]) {
        let make = |(pid, comm, rss, adj): &(u32, &str, u64, i32)| ProcessSample {
            pid: *pid,
            start_ticks: u64::from(*pid) * 100,
            comm: (*comm).into(),
            oom_score_adj: Some(*adj),
            metrics: metrics(*rss),
            ..Default::default()
        };
        self.0.push(Item::Sample(Sample {
            ts_ns,
            system: Some(SystemMetrics {
                mem_total_kb: Some(4_000_000),
                mem_free_kb: Some(5),
                mem_available_kb: Some(900_000),
                swap_total_kb: Some(0),
                swap_free_kb: Some(0),
                ..Default::default()
            }),
            cgroups: vec![CgroupSample {
                path: "/box".into(),
                id: 7,
                oom_group: None,
                metrics: CgroupMetrics {
                    usage_kb: Some(1),
                    limit_kb: Some(400_000),
                    ..Default::default()
                },
            }],
            processes: processes.iter().map(make).collect(),
            all_processes: true,
            ..Default::default()
        }));
    }

    fn event(&mut self, ts_ns: u64, kind: EventKind) {
        self.0.push(Item::Event(Event {
            ts_ns,
            received_ns: Some(ts_ns + 50_000),
            cpu: 0,
            kind,
        }));
    }

    fn mark(&mut self, ts: u64, trigger: u32, victim: u32, reclaim: u64, source: MarkSource) {
        let memory = Memory {
            total_vm_kb: Some(9000),
            anon_rss_kb: Some(8000),
            file_rss_kb: Some(0),
            shmem_rss_kb: Some(0),
            swap_kb: Some(0),
            pgtables_kb: Some(40),
        };
        self.event(
            ts,
            EventKind::Mark(Box::new(Mark {
                trigger: task(trigger, "trig"),
                victim: task(victim, "vic"),
                source,
                signal_ns: Some(ts - 1000),
                reclaim_ns: Some(reclaim),
                memory,
                tracepoint: Memory::default(),
                rss_approximate: false,
                oom_score_adj: Some(0),
                uid: Some(0),
                gfp_mask: Some(0xcc0),
                order: Some(0),
                trigger_oom_score_adj: Some(0),
                trigger_kernel: vec![0xf1],
                trigger_user: vec![0x11],
                victim_kernel: vec![],
            })),
        );
    }

    fn kmsg(&mut self, ts_ns: u64, caller: Option<u32>, text: &str) {
        self.0.push(Item::Kmsg(KmsgLine {
            ts_ns,
            seq: 0,
            priority: 3,
            caller: caller.map(|tid| format!("T{tid}")),
            text: text.into(),
        }));
    }

    fn report(&mut self, ts: u64, trigger: u32, victim: u32, caller: Option<u32>, cgroup: &str) {
        self.kmsg(ts, caller, "trig invoked oom-killer: gfp_mask=0xdc0(GFP_KERNEL|__GFP_ZERO), order=0, oom_score_adj=0");
        self.kmsg(
            ts,
            caller,
            "memory: usage 400000kB, limit 400000kB, failcnt 12",
        );
        self.kmsg(ts, caller, &format!("oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg={cgroup},task_memcg={cgroup},task=vic,pid={victim},uid=0"));
        self.killed(ts, victim, caller);
        let _ = trigger;
    }

    fn killed(&mut self, ts: u64, victim: u32, caller: Option<u32>) {
        self.kmsg(ts, caller, &format!("Memory cgroup out of memory: Killed process {victim} (vic) total-vm:9000kB, anon-rss:8000kB, file-rss:0kB, shmem-rss:0kB, UID:0 pgtables:40kB oom_score_adj:0"));
    }

    fn end_of(&mut self, ts: u64, pid: u32) {
        self.event(
            ts,
            EventKind::Step(Step {
                step: StepKind::Exit,
                pid: Some(pid),
                tid: pid,
            }),
        );
        self.0.push(Item::Identity(Identity {
            ts_ns: ts,
            pid,
            start_ticks: Some(u64::from(pid) * 100),
            comm: "vic".into(),
            cmdline: vec!["vic".into(), "-x".into()],
            cgroup: Some("/box".into()),
            ..Default::default()
        }));
    }

    fn symbols(&mut self, pid: u32, kernel: &str) {
        let one = |ip, name: &str| {
            vec![Symbolized {
                ip,
                frames: vec![Frame {
                    function: Some(name.into()),
                    ..Default::default()
                }],
            }]
        };
        self.0.push(Item::Symbols(SymbolSet {
            space: SymbolSpace::Kernel,
            symbols: one(0xf1, kernel),
        }));
        self.0.push(Item::Symbols(SymbolSet {
            space: SymbolSpace::Process {
                pid,
                start_ticks: Some(u64::from(pid) * 100),
            },
            symbols: one(0x11, "grow"),
        }));
    }

    fn run(&self) -> (Outcome, Vec<usize>) {
        let mut a = Assembler::new();
        let closed = self
            .0
            .iter()
            .enumerate()
            .flat_map(|(at, item)| vec![at; a.push(item).len()])
            .collect();
        (a.finish(), closed)
    }
}

fn all() -> Stream {
    Stream::new(Filter::default(), None)
}

/// One ordinary kill of pid 20 by itself.
fn plain() -> Stream {
    let mut s = all();
    for n in 0..10 {
        s.sample(
            (n + 2) * S,
            &[
                (20, "vic", 1000 + n * 700, 0),
                (30, "big", 300_000, -999),
                (40, "small", 100, 0),
            ],
        );
        s.0.push(Item::Identity(Identity {
            ts_ns: S,
            pid: 30,
            start_ticks: Some(3000),
            cgroup: Some("/box".into()),
            ..Default::default()
        }));
    }
    s.mark(12 * S, 20, 20, 12 * S - 5 * MS, MarkSource::Signal);
    s.report(12 * S, 20, 20, None, "/box");
    s.end_of(12 * S + 10 * MS, 20);
    s.symbols(20, "mem_cgroup_out_of_memory");
    s
}

#[test]
fn one_kill_has_everything() {
    let mut s = plain();
    s.sample(13 * S, &[]);
    s.counters(14 * S, CountersAt::End, 11);
    let (out, closed) = s.run();
    assert_eq!(closed, [s.0.len() - 2], "it closes at the first later item");
    let i = &out.data.incidents[0];
    assert_eq!(i.missing, Vec::<&str>::new());
    assert_eq!(i.id, "01234567-12000-20");
    assert_eq!(i.at.as_deref(), Some("2023-11-15T06:13:31.000+08:00"));
    assert_eq!(
        (i.trigger.gfp_mask.as_deref(), i.trigger.gfp_source),
        (Some("0xdc0"), Some("kmsg"))
    );
    assert_eq!(
        (i.constraint.as_deref(), i.oom_memcg.as_deref()),
        (Some("memcg"), Some("/box"))
    );
    assert_eq!(
        (i.memcg_limit_kb, i.kills[0].kernel.as_ref()),
        (Some(400_000), None)
    );
    assert_eq!(i.kills[0].cmdline.as_deref(), Some("vic -x"));
    assert_eq!((i.cause.class, i.before.len()), ("cgroup-limit", 10));
    let growth = i.growth.as_ref().unwrap();
    assert_eq!(
        (growth.samples, growth.shape, growth.last_rss_kb),
        (10, "growing", 8000)
    );
    assert!((growth.rate_kb_per_s.unwrap() - 700.0).abs() < 1.0);
    assert_eq!(i.stacks.victim_user[0].function.as_deref(), Some("grow"));
    let steps: Vec<_> = i.timeline.iter().map(|one| one.step).collect();
    assert_eq!(
        steps,
        [
            "reclaim",
            "signal",
            "mark",
            "kernel-text",
            "kernel-report",
            "exit"
        ]
    );
    assert!(
        out.data.reconciliation.agrees,
        "{:?}",
        out.data.reconciliation
    );
    let ids: Vec<_> = out.findings.iter().map(|one| one.id).collect();
    assert_eq!(
        ids,
        [
            "oom-cgroup-limit",
            "oom-victim-grew",
            "oom-limit-low",
            "oom-larger-spared"
        ]
    );
}

#[test]
fn badness_is_the_kernels_arithmetic() {
    let (out, _) = plain().run();
    let why = &out.data.incidents[0].why;
    assert_eq!(why.total_pages, Some(100_000));
    let victim = &why.candidates[0];
    assert_eq!(
        (victim.pid, victim.badness_pages, victim.score),
        (20, Some(2010), Some(20))
    );
    let big = why.candidates.iter().find(|one| one.pid == 30).unwrap();
    assert_eq!(
        (big.badness_pages, big.from, big.age_ms),
        (Some(75_001 - 99_900), "sample", Some(1000.0))
    );
    // 75001 + adj*100 > 2010 from adj = -729 on.
    assert!(
        why.would_change
            .iter()
            .any(|one| one.en.contains("-729 or more for big")),
        "{why:?}"
    );
    assert!(
        why.would_change
            .iter()
            .any(|one| one.en.contains("at least 400004 KiB")),
        "{why:?}"
    );
    assert!(
        why.candidates.iter().all(|one| one.pid != 40),
        "not in that cgroup"
    );
}

#[test]
fn samples_after_the_mark_hide_no_candidate() {
    let mut s = plain();
    s.0.retain(|item| !matches!(item, Item::Kmsg(_)));
    for n in 1..30 {
        s.sample(12 * S + n * 100 * MS, &[(30, "big", 390_000, 0)]);
    }
    let (out, _) = s.run();
    let why = &out.data.incidents[0].why;
    let big = why.candidates.iter().find(|one| one.pid == 30);
    let seen = big.map(|one| (one.rss_kb, one.oom_score_adj, one.age_ms));
    assert_eq!(
        seen,
        Some((Some(300_000), Some(-999), Some(1000.0))),
        "as it was before the mark: {why:?}"
    );
}

#[test]
fn without_kernel_text_the_stack_tells() {
    let mut s = plain();
    s.0.retain(|item| !matches!(item, Item::Kmsg(_)));
    s.sample(13 * S, &[]);
    s.sample(15 * S, &[]);
    let (out, closed) = s.run();
    assert_eq!(closed, [s.0.len() - 1], "two seconds later");
    let i = &out.data.incidents[0];
    assert_eq!(i.missing, ["kmsg"]);
    assert_eq!(
        (
            i.scope.as_deref(),
            i.constraint_source,
            i.oom_memcg.as_deref()
        ),
        (Some("memcg"), Some("stack"), Some("/box"))
    );
    assert_eq!(
        (
            i.trigger.gfp_mask.as_deref(),
            i.trigger.gfp_flags.as_deref(),
            i.trigger.gfp_source
        ),
        (Some("0xcc0"), None, Some("reclaim"))
    );
}

#[test]
fn a_group_is_one_incident_and_its_repeated_line_no_kill() {
    let mut s = all();
    for (n, pid) in [20, 21, 22].into_iter().enumerate() {
        s.mark(12 * S + n as u64 * MS, 20, pid, 11 * S, MarkSource::Signal);
    }
    s.report(12 * S, 20, 20, None, "/box");
    s.kmsg(
        12 * S,
        None,
        "Tasks in /box are going to be killed due to memory.oom.group set",
    );
    for pid in [20, 21, 22] {
        s.killed(12 * S + 5 * MS, pid, None);
        s.end_of(12 * S + 10 * MS, pid);
    }
    s.counters(14 * S, CountersAt::End, 14);
    let (out, _) = s.run();
    assert_eq!(out.data.incidents.len(), 1);
    let i = &out.data.incidents[0];
    assert_eq!((i.kills.len(), i.group_kill), (3, Some(true)));
    let r = &out.data.reconciliation;
    assert_eq!(
        (r.counted, r.captured, r.logged, r.repeated, r.missed),
        (Some(4), 3, Some(3), 1, 0)
    );
    assert!(r.agrees, "{r:?}");
}

#[test]
fn two_kills_of_one_trigger_are_two_incidents() {
    let mut s = all();
    s.mark(12 * S, 20, 21, 11 * S, MarkSource::Signal);
    s.report(12 * S, 20, 21, None, "/box");
    s.mark(12 * S + 30 * MS, 20, 22, 11 * S, MarkSource::Signal);
    s.report(12 * S + 30 * MS, 20, 22, None, "/box");
    let (out, _) = s.run();
    assert_eq!(out.data.incidents.len(), 2, "the kernel's text splits them");
    let mut s = all();
    s.mark(12 * S, 20, 21, 11 * S, MarkSource::Signal);
    s.mark(
        12 * S + 30 * MS,
        20,
        22,
        12 * S + 10 * MS,
        MarkSource::Signal,
    );
    assert_eq!(
        s.run().0.data.incidents.len(),
        2,
        "a reclaim in between splits them"
    );
}

#[test]
fn a_storm_is_joined_by_caller_and_pid() {
    let mut s = all();
    for pid in 20..24 {
        s.mark(12 * S, pid, pid, 11 * S, MarkSource::Signal);
    }
    for pid in 20..24_u32 {
        s.kmsg(
            12 * S,
            Some(pid),
            &format!("trig invoked oom-killer: gfp_mask=0x{pid}(G), order=0, oom_score_adj=0"),
        );
    }
    for pid in (20..24_u32).rev() {
        s.kmsg(12 * S, Some(pid), &format!("oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/c{pid},task_memcg=/c{pid},task=vic,pid={pid},uid=0"));
        s.killed(12 * S, pid, Some(pid));
    }
    let (out, _) = s.run();
    assert_eq!(out.data.incidents.len(), 4);
    for i in &out.data.incidents {
        let pid = i.kills[0].pid;
        assert_eq!(i.oom_memcg, Some(format!("/c{pid}")));
        assert_eq!(i.trigger.gfp_mask, Some(format!("0x{pid}")));
        assert_eq!(i.kernel_text.len(), 3);
    }
}

#[test]
fn exiting_tasks_are_no_kills_and_filters_still_count() {
    let mut s = Stream::new(
        Filter {
            pids: vec![21],
            ..Default::default()
        },
        None,
    );
    s.mark(12 * S, 20, 20, 11 * S, MarkSource::Signal);
    s.mark(12 * S, 21, 21, 11 * S, MarkSource::AlreadyExiting);
    s.mark(12 * S, 22, 22, 11 * S, MarkSource::Signal);
    s.counters(15 * S, CountersAt::End, 12);
    let (out, _) = s.run();
    assert_eq!(out.data.incidents.len(), 1);
    assert_eq!(
        (
            out.data.incidents[0].outcome,
            out.data.incidents[0].kills.len()
        ),
        ("already-exiting", 0)
    );
    let r = &out.data.reconciliation;
    assert_eq!(
        (r.captured, r.filtered, r.already_exiting, r.missed),
        (2, 2, 1, 0)
    );
}

#[test]
fn a_kill_that_bpf_did_not_see_is_named() {
    let mut s = all();
    s.killed(S / 2, 19, None);
    // It stands before everything that has a time of the observation.
    let before = s.0.pop().unwrap();
    s.0.insert(0, before);
    s.sample(12 * S, &[]);
    // The log's clock is half a minute behind.
    s.killed(S / 2, 33, None);
    s.counters(15 * S, CountersAt::End, 11);
    let (out, _) = s.run();
    let r = &out.data.reconciliation;
    assert_eq!(
        (r.counted, r.logged, r.captured, r.missed, r.agrees),
        (Some(1), Some(1), 0, 1, false)
    );
    assert_eq!(
        r.not_captured[0].pid, 33,
        "the one before the start is not ours"
    );
    assert_eq!(out.findings[0].id, "oom-incomplete");
}

#[test]
fn incidents_beyond_the_count_are_only_counted() {
    let mut s = Stream::new(Filter::default(), Some(1));
    s.mark(12 * S, 20, 20, 11 * S, MarkSource::Signal);
    s.mark(12 * S + MS, 21, 21, 11 * S, MarkSource::Signal);
    let (out, _) = s.run();
    assert_eq!(
        (out.data.incidents.len(), out.data.reconciliation.captured),
        (1, 2)
    );
}

#[test]
fn dead_processes_are_no_candidates() {
    let mut s = all();
    s.sample(2 * S, &[(50, "gone", 390_000, 0)]);
    s.sample(3 * S, &[(20, "vic", 1000, 0)]);
    s.symbols(20, "out_of_memory");
    s.mark(12 * S, 20, 20, 11 * S, MarkSource::Signal);
    let (out, _) = s.run();
    let i = &out.data.incidents[0];
    assert_eq!(i.scope.as_deref(), Some("global"));
    assert!(
        i.why.candidates.iter().all(|one| one.pid == 20),
        "{:?}",
        i.why
    );
}

#[test]
fn the_window_is_thinned_but_keeps_the_end() {
    let mut s = all();
    for n in 0..400_u64 {
        s.sample(S + n * S / 2, &[(20, "vic", 1000, 0)]);
    }
    let end = S + 400 * S / 2;
    s.mark(end, 20, 20, end - S, MarkSource::Signal);
    let (out, _) = s.run();
    let before = &out.data.incidents[0].before;
    assert_eq!(before.len(), 120);
    assert_eq!(
        before.iter().filter(|row| row.t_ms >= -10_000.0).count(),
        20
    );
    assert!((before[0].t_ms + 200_000.0).abs() < 1.0);
}

#[test]
fn the_same_items_give_the_same_report() {
    let text = || {
        let out = plain().run().0;
        format!("{:?}{:?}{:?}", out.data, out.findings, out.accounting)
    };
    assert_eq!(text(), text());
}

proptest! {
    #[test]
    fn any_kernel_text_is_survived(lines in proptest::collection::vec((0..8_usize, ".{0,40}"), 0..30)) {
        let mut s = plain();
        let starts = ["", "x invoked oom-killer: ", "Out of memory: Killed process 20 (", "[  pid  ] uid tgid name", "[ 20 ] ", "Tasks in ", "oom-kill:constraint=CONSTRAINT_MEMCG,", "Out of memory: Killed process 99 (a) total-vm:"];
        for (start, tail) in lines {
            s.kmsg(12 * S, None, &format!("{}{tail}", starts[start]));
        }
        let (out, _) = s.run();
        prop_assert!(out.data.reconciliation.captured == 1);
    }
}
