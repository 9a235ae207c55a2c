//! Any item, for property tests.

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::model::*;

fn text() -> BoxedStrategy<RawText> {
    prop_oneof![
        "[a-z]{0,6}".prop_map(RawText::from),
        vec(any::<u8>(), 0..12).prop_map(RawText::new),
    ]
    .boxed()
}

fn number() -> BoxedStrategy<u64> {
    prop_oneof![any::<u64>(), 0..10_u64, Just(u64::MAX)].boxed()
}

fn maybe() -> BoxedStrategy<Option<u64>> {
    option::of(number()).boxed()
}

fn stack() -> BoxedStrategy<Vec<u64>> {
    vec(number(), 0..8).boxed()
}

fn task() -> BoxedStrategy<TaskRef> {
    (any::<u32>(), any::<u32>(), text(), maybe(), maybe())
        .prop_map(|(pid, tid, comm, start_ns, memcg_id)| TaskRef {
            pid,
            tid,
            comm,
            start_ns,
            memcg_id,
        })
        .boxed()
}

fn memory() -> BoxedStrategy<Memory> {
    [maybe(), maybe(), maybe(), maybe(), maybe(), maybe()]
        .prop_map(
            |[
                total_vm_kb,
                anon_rss_kb,
                file_rss_kb,
                shmem_rss_kb,
                swap_kb,
                pgtables_kb,
            ]| Memory {
                total_vm_kb,
                anon_rss_kb,
                file_rss_kb,
                shmem_rss_kb,
                swap_kb,
                pgtables_kb,
            },
        )
        .boxed()
}

fn mark() -> BoxedStrategy<EventKind> {
    let source = prop_oneof![
        Just(MarkSource::Signal),
        Just(MarkSource::AlreadyExiting),
        Just(MarkSource::Tracepoint)
    ];
    let numbers = (
        maybe(),
        maybe(),
        any::<bool>(),
        any::<Option<u32>>(),
        any::<Option<u32>>(),
    );
    let signed = any::<[Option<i32>; 3]>();
    (
        task(),
        task(),
        source,
        memory(),
        memory(),
        numbers,
        signed,
        [stack(), stack(), stack()],
    )
        .prop_map(
            |(trigger, victim, source, memory, tracepoint, numbers, signed, stacks)| {
                let [trigger_kernel, trigger_user, victim_kernel] = stacks;
                EventKind::Mark(Box::new(Mark {
                    trigger,
                    victim,
                    source,
                    signal_ns: numbers.0,
                    reclaim_ns: numbers.1,
                    memory,
                    tracepoint,
                    rss_approximate: numbers.2,
                    oom_score_adj: signed[0],
                    uid: numbers.3,
                    gfp_mask: numbers.4,
                    order: signed[1],
                    trigger_oom_score_adj: signed[2],
                    trigger_kernel,
                    trigger_user,
                    victim_kernel,
                }))
            },
        )
        .boxed()
}

fn stall() -> BoxedStrategy<EventKind> {
    let kinds = prop_oneof![
        Just(StallKind::Direct),
        Just(StallKind::Memcg),
        Just(StallKind::Node),
        Just(StallKind::Kswapd),
        Just(StallKind::Compaction),
        Just(StallKind::Throttled)
    ];
    let counts = any::<(u64, Option<u64>, Option<u64>)>();
    let asked = any::<(Option<u32>, Option<i32>, Option<i32>, Option<u32>)>();
    (task(), kinds, counts, asked, stack())
        .prop_map(|(task, kind, counts, asked, stack)| {
            EventKind::Stall(Box::new(Stall {
                task,
                kind,
                begin_ns: counts.0,
                reclaimed: counts.1,
                scanned: counts.2,
                gfp_mask: asked.0,
                order: asked.1,
                status: asked.2,
                node: asked.3,
                stack,
            }))
        })
        .boxed()
}

fn kind() -> BoxedStrategy<EventKind> {
    let steps = prop_oneof![
        Just(StepKind::Exit),
        Just(StepKind::WakeReaper),
        Just(StepKind::StartReaping),
        Just(StepKind::FinishReaping),
        Just(StepKind::SkipReaping)
    ];
    let reclaims = prop_oneof![Just(ReclaimKind::Direct), Just(ReclaimKind::Memcg)];
    prop_oneof![
        mark(),
        (task(), stack())
            .prop_map(|(victim, user)| EventKind::Delivery(Box::new(Delivery { victim, user }))),
        (steps, any::<Option<u32>>(), any::<u32>())
            .prop_map(|(step, pid, tid)| EventKind::Step(Step { step, pid, tid })),
        (task(), reclaims, any::<Option<u32>>(), any::<Option<i32>>()).prop_map(
            |(task, kind, gfp_mask, order)| EventKind::Reclaim(Reclaim {
                task,
                kind,
                gfp_mask,
                order
            })
        ),
        stall(),
    ]
    .boxed()
}

fn metrics<M: Default + std::fmt::Debug + 'static>(
    table: &'static [Metric<M>],
) -> BoxedStrategy<M> {
    vec(maybe(), table.len())
        .prop_map(move |values| {
            let mut set = M::default();
            for (metric, value) in table.iter().zip(values) {
                (metric.set)(&mut set, value);
            }
            set
        })
        .boxed()
}

fn process() -> BoxedStrategy<ProcessSample> {
    let who = (
        0..6_u32,
        0..3_u64,
        any::<u32>(),
        text(),
        any::<Option<char>>(),
    );
    (
        who,
        any::<Option<u32>>(),
        any::<Option<i32>>(),
        metrics(ProcessMetrics::METRICS),
    )
        .prop_map(|(who, uid, oom_score_adj, metrics)| {
            let (pid, start_ticks, ppid, comm, state) = who;
            ProcessSample {
                pid,
                start_ticks,
                ppid,
                comm,
                state,
                uid,
                oom_score_adj,
                metrics,
            }
        })
        .boxed()
}

fn sample() -> BoxedStrategy<Item> {
    let cgroup = (
        text(),
        number(),
        any::<Option<bool>>(),
        metrics(CgroupMetrics::METRICS),
    )
        .prop_map(|(path, id, oom_group, metrics)| CgroupSample {
            path,
            id,
            oom_group,
            metrics,
        });
    let skipped = any::<[u32; 7]>().prop_map(
        |[
            vanished,
            denied,
            failed,
            kernel_threads,
            zombies,
            denied_smaps,
            cgroups,
        ]| Skipped {
            vanished,
            denied,
            failed,
            kernel_threads,
            zombies,
            denied_smaps,
            cgroups,
        },
    );
    let system = option::of(metrics(SystemMetrics::METRICS));
    (
        number(),
        system,
        vec(cgroup, 0..3),
        vec(process(), 0..5),
        any::<bool>(),
        skipped,
    )
        .prop_map(
            |(ts_ns, system, cgroups, processes, all_processes, skipped)| {
                Item::Sample(Sample {
                    ts_ns,
                    system,
                    cgroups,
                    processes,
                    all_processes,
                    skipped,
                })
            },
        )
        .boxed()
}

fn session() -> BoxedStrategy<Item> {
    let host = (
        text(),
        text(),
        ".{0,5}",
        any::<Option<u64>>(),
        any::<Option<i32>>(),
        any::<Option<u8>>(),
    );
    let host = host.prop_map(
        |(hostname, kernel, arch, page_size, utc_offset_s, memory_cgroup)| Host {
            hostname,
            kernel,
            arch,
            boot_id: Some("01234567-89ab-cdef-0123-456789abcdef".to_owned()),
            page_size,
            utc_offset_s,
            memory_cgroup,
            ..Host::default()
        },
    );
    let filter = (
        vec(any::<u32>(), 0..3),
        vec(".{0,4}", 0..3),
        vec(".{0,4}", 0..3),
    )
        .prop_map(|(pids, comms, cgroups)| Filter {
            pids,
            comms,
            cgroups,
            ..Filter::default()
        });
    let hook =
        (".{0,6}", any::<bool>(), option::of(".{0,4}")).prop_map(|(name, attached, error)| {
            HookState {
                name,
                attached,
                error,
            }
        });
    (
        ".{0,6}",
        number(),
        host,
        filter,
        vec(hook, 0..3),
        any::<Option<bool>>(),
    )
        .prop_map(|(command, started_ns, host, filter, hooks, btf)| {
            Item::Session(Session {
                command,
                started_ns,
                host,
                filter,
                hooks,
                btf,
                ..Session::default()
            })
        })
        .boxed()
}

fn identity() -> BoxedStrategy<Item> {
    let mapping = (
        number(),
        number(),
        number(),
        text(),
        option::of("[0-9a-f]{8}"),
    )
        .prop_map(|(start, end, offset, path, build_id)| Mapping {
            start,
            end,
            offset,
            path,
            build_id,
        });
    let container = ("[a-z]{3}", "[0-9a-f]{6}", option::of("[a-z]{3}"))
        .prop_map(|(runtime, id, pod)| Container { runtime, id, pod });
    let who = (
        number(),
        any::<u32>(),
        maybe(),
        any::<Option<u32>>(),
        text(),
    );
    (
        who,
        vec(text(), 0..4),
        option::of(text()),
        option::of(text()),
        option::of(container),
        vec(mapping, 0..3),
    )
        .prop_map(|(who, cmdline, exe, cgroup, container, mappings)| {
            let (ts_ns, pid, start_ticks, ppid, comm) = who;
            let uid = ppid;
            Item::Identity(Identity {
                ts_ns,
                pid,
                start_ticks,
                ppid,
                comm,
                cmdline,
                exe,
                uid,
                user: ppid.map(|id| format!("user{id}")),
                unit: None,
                cgroup,
                container,
                mappings,
            })
        })
        .boxed()
}

fn symbols() -> BoxedStrategy<Item> {
    let frame = (
        option::of(text()),
        maybe(),
        option::of(text()),
        maybe(),
        any::<Option<u32>>(),
        any::<bool>(),
    )
        .prop_map(
            |(function, offset, module, module_offset, line, inlined)| Frame {
                file: module.clone(),
                build_id: line.map(|line| line.to_string()),
                function,
                offset,
                module,
                module_offset,
                line,
                inlined,
            },
        );
    let symbol = (number(), vec(frame, 0..3)).prop_map(|(ip, frames)| Symbolized { ip, frames });
    let space = prop_oneof![
        Just(SymbolSpace::Kernel),
        (any::<u32>(), maybe())
            .prop_map(|(pid, start_ticks)| SymbolSpace::Process { pid, start_ticks }),
    ];
    (space, vec(symbol, 0..4))
        .prop_map(|(space, symbols)| Item::Symbols(SymbolSet { space, symbols }))
        .boxed()
}

fn small() -> BoxedStrategy<Item> {
    let count = || ("[a-z_]{0,8}", number()).prop_map(|(name, count)| LossCount { name, count });
    let cgroup = (number(), text(), number()).prop_map(|(id, path, oom_kill)| CgroupCount {
        id,
        path,
        oom_kill,
    });
    let at = prop_oneof![
        Just(CountersAt::Start),
        Just(CountersAt::Tick),
        Just(CountersAt::End)
    ];
    let reason = prop_oneof![
        Just(EndReason::Signal),
        Just(EndReason::Duration),
        Just(EndReason::Count),
        Just(EndReason::Failure)
    ];
    prop_oneof![
        (number(), number(), any::<i64>()).prop_map(|(mono_ns, boot_ns, real_ns)| Item::Clock(
            ClockPair {
                mono_ns,
                boot_ns,
                real_ns
            }
        )),
        (
            number(),
            number(),
            any::<u8>(),
            option::of(".{0,5}"),
            text()
        )
            .prop_map(|(ts_ns, seq, priority, caller, text)| Item::Kmsg(KmsgLine {
                ts_ns,
                seq,
                priority,
                caller,
                text
            })),
        (number(), at, maybe(), vec(cgroup, 0..3)).prop_map(|(ts_ns, at, oom_kill, cgroups)| {
            Item::Counters(Counters {
                ts_ns,
                at,
                oom_kill,
                cgroups,
            })
        }),
        (number(), vec(count(), 0..4), vec(count(), 0..4))
            .prop_map(|(ts_ns, seen, lost)| Item::Losses(Losses { ts_ns, seen, lost })),
        (number(), reason).prop_map(|(ts_ns, reason)| Item::End(End { ts_ns, reason })),
        (number(), option::of(vec(text(), 0..3)), number()).prop_map(|(ts_ns, names, size)| {
            let slab = |name| Slab {
                name,
                object_bytes: size,
                ..Slab::default()
            };
            let slabs = names.map(|names| names.into_iter().map(slab).collect());
            Item::Detail(Box::new(Detail {
                ts_ns,
                slabs,
                ..Detail::default()
            }))
        }),
        (number(), any::<u32>(), option::of(text()), maybe()).prop_map(
            |(ts_ns, pid, path, rss_kb)| {
                let metrics = MappingMetrics {
                    rss_kb,
                    ..MappingMetrics::default()
                };
                let sum = RegionSum {
                    path,
                    metrics,
                    ..RegionSum::default()
                };
                Item::Regions(Regions {
                    ts_ns,
                    pid,
                    start_ticks: ts_ns,
                    regions: vec![sum],
                })
            }
        ),
    ]
    .boxed()
}

/// Any item of any kind.
pub(super) fn item() -> BoxedStrategy<Item> {
    let event =
        (number(), maybe(), any::<u32>(), kind()).prop_map(|(ts_ns, received_ns, cpu, kind)| {
            Item::Event(Event {
                ts_ns,
                received_ns,
                cpu,
                kind,
            })
        });
    prop_oneof![4 => event, 3 => sample(), 3 => small(), 1 => session(), 1 => identity(), 1 => symbols()]
        .boxed()
}
