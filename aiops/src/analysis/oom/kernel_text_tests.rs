use proptest::prelude::*;

use super::*;

fn kill(text: &str) -> Killed<'_> {
    let Some(Line::Killed(killed)) = line(text.as_bytes()) else {
        panic!("not a kill: {text}")
    };
    killed
}

#[test]
fn kills_of_every_form() {
    let new = kill(
        "Memory cgroup out of memory: Killed process 7 (python) total-vm:9kB, anon-rss:5kB, file-rss:1kB, shmem-rss:2kB, UID:3 pgtables:76kB oom_score_adj:-17",
    );
    assert_eq!(
        (new.pid, new.comm, new.memcg),
        (7, &b"python"[..], Some(true))
    );
    assert_eq!(new.anon_rss_kb.zip(new.shmem_rss_kb), Some((5, 2)));
    assert_eq!(
        (new.uid, new.pgtables_kb, new.oom_score_adj),
        (Some(3), Some(76), Some(-17))
    );
    let old =
        kill("Killed process 8 (a b) total-vm:9kB, anon-rss:5kB, file-rss:1kB, shmem-rss:0kB");
    assert_eq!(
        (old.pid, old.comm, old.memcg, old.uid),
        (8, &b"a b"[..], None, None)
    );
    assert_eq!(
        kill("Out of memory: Killed process 9 (x) total-vm:9kB").memcg,
        Some(false)
    );
    assert!(
        kill("Out of memory (oom_kill_allocating_task): Killed process 9 (x) total-vm:9kB").pid
            == 9
    );
}

#[test]
fn names_cannot_forge_fields() {
    let hostile = kill(
        "Out of memory: Killed process 7 (a) total-vm:1kB) total-vm:9kB, anon-rss:5kB, oom_score_adj:0",
    );
    assert_eq!(hostile.comm, b"a) total-vm:1kB");
    assert_eq!(hostile.total_vm_kb, Some(9));
    assert_eq!(
        kill("Out of memory: Killed process 7 (Killed process ) total-vm:9kB").pid,
        7
    );
    assert_eq!(
        kill("Out of memory: Killed process 7 (a\nb) total-vm:9kB").comm,
        b"a\nb"
    );
    assert_eq!(line(b"usb 1: Killed process 7 (x) total-vm:9kB"), None);
    let text = b"oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/a,b,task_memcg=/a,b/c,task=x,pid=9,task=y,pid=7,uid=5";
    let Some(Line::Decision(decision)) = line(text) else {
        panic!()
    };
    assert_eq!(
        (decision.pid, decision.uid, decision.comm),
        (7, Some(5), &b"x,pid=9,task=y"[..])
    );
    assert_eq!(decision.oom_memcg, Some(&b"/a,b"[..]));
    assert_eq!(decision.task_memcg, Some(&b"/a,b/c"[..]));
    let Some(Line::Invoked(invoked)) =
        line(b"] total_vm invoked oom-killer: gfp_mask=0x1(A|B), order=3, oom_score_adj=-5")
    else {
        panic!()
    };
    assert_eq!(
        (
            invoked.comm,
            invoked.gfp_mask,
            invoked.order,
            invoked.oom_score_adj
        ),
        (&b"] total_vm"[..], Some(1), Some(3), Some(-5))
    );
    assert_eq!(invoked.gfp_flags, Some(&b"A|B"[..]));
}

#[test]
fn other_lines() {
    let Some(Line::Decision(global)) = line(b"oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,task_memcg=/s,task=x,pid=7,uid=0") else { panic!() };
    assert_eq!((global.oom_memcg, global.constraint), (None, &b"NONE"[..]));
    assert_eq!(
        line(b"memory: usage 32768kB, limit 32769kB, failcnt 12"),
        Some(Line::Usage(Usage {
            kind: UsageKind::Memory,
            usage_kb: 32768,
            limit_kb: 32769
        }))
    );
    assert_eq!(
        line(b"Out of memory and no killable processes..."),
        Some(Line::NoKillable)
    );
    assert_eq!(
        line(b"Tasks in /x y are going to be killed due to memory.oom.group set"),
        Some(Line::Group { cgroup: b"/x y" })
    );
    assert_eq!(
        line(b"Task in /a killed as a result of limit of /b"),
        Some(Line::TaskIn {
            task_memcg: b"/a",
            oom_memcg: b"/b"
        })
    );
    assert_eq!(
        line(b"oom_reaper: reaped process 1 (x), now anon-rss:0kB, file-rss:0kB, shmem-rss:0kB"),
        Some(Line::Reaped { pid: 1, comm: b"x" })
    );
    let Some(Line::Invoked(none)) =
        line(b"x invoked oom-killer: gfp_mask=0x0(), nodemask=(null), order=-1, oom_score_adj=0")
    else {
        panic!()
    };
    assert_eq!(
        (none.gfp_mask, none.gfp_flags, none.order),
        (Some(0), None, Some(-1))
    );
}

#[test]
fn task_tables_of_every_form() {
    let headers: [(&str, &str, u64); 3] = [
        (
            "[  pid  ]   uid  tgid total_vm      rss pgtables_bytes swapents oom_score_adj name",
            "[     12]  1000    11     4096      300    45056        7          -250 a ] total_vm",
            45056,
        ),
        (
            "[  pid  ]   uid  tgid total_vm      rss rss_anon rss_file rss_shmem pgtables_bytes swapents oom_score_adj name",
            "[     12]  1000    11     4096      300  200  90  10    45056        7          -250 a ] total_vm",
            45056,
        ),
        (
            "[ pid ]   uid  tgid total_vm      rss nr_ptes swapents oom_score_adj name",
            "[   12]  1000    11     4096      300    11        7          -250 a ] total_vm",
            0,
        ),
    ];
    for (head, text, pgtables) in headers {
        let Some(Line::Header(form)) = line(head.as_bytes()) else {
            panic!("{head}")
        };
        let row = row(&form, text.as_bytes()).unwrap();
        assert_eq!(
            (row.tid, row.pid, row.rss, row.swapents),
            (12, 11, Some(300), Some(7))
        );
        assert_eq!(row.pgtables_bytes.unwrap_or(0), pgtables);
        assert_eq!(
            (row.oom_score_adj, row.comm),
            (Some(-250), &b"a ] total_vm"[..])
        );
    }
}

proptest! {
    #[test]
    fn any_text_is_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200), start in 0_usize..9) {
        let starts: [&[u8]; 9] = [b"", b"Out of memory: Killed process 7 (", b"oom-kill:constraint=CONSTRAINT_X,", b"x invoked oom-killer: ", b"memory: usage ", b"[  pid  ] tgid name", b"Tasks in ", b"oom_reaper: reaped process 1 (", b"[ 1 ] 5 6 "];
        let text = [starts[start], &bytes].concat();
        let _ = line(&text);
        if let Some(Line::Header(form)) = line(b"[  pid  ]   uid  tgid total_vm rss pgtables_bytes swapents oom_score_adj name") {
            let _ = row(&form, &text);
        }
    }
}
