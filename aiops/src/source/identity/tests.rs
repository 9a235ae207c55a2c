//! The table against real processes.

use std::path::Path;
use std::process::Command;
use std::time::Duration;
use std::time::Instant;

use tokio::sync::mpsc::UnboundedReceiver;

use super::*;
use crate::model::RawText;
use crate::source::procdir::ProcDir;

fn start() -> (IdentityTable, mpsc::Sender<Life>, UnboundedReceiver<Item>) {
    let (lives, receiver) = mpsc::channel();
    let (sink, items) = tokio::sync::mpsc::unbounded_channel();
    (
        IdentityTable::spawn(PathBuf::from("/"), receiver, sink),
        lives,
        items,
    )
}

fn next(items: &mut UnboundedReceiver<Item>) -> Option<Identity> {
    let end = Instant::now() + Duration::from_secs(5);
    while Instant::now() < end {
        match items.try_recv() {
            Ok(Item::Identity(identity)) => return Some(identity),
            Ok(other) => panic!("{other:?}"),
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
    None
}

fn life(pid: u32, kind: LifeKind) -> Life {
    Life {
        ts_ns: mono_ns(),
        pid,
        start_ns: None,
        comm: RawText::from("child"),
        kind,
    }
}

fn sleeper() -> std::process::Child {
    Command::new("sleep").arg("600").spawn().unwrap()
}

#[test]
fn a_dead_process_is_known_as_it_was_alive() {
    let (table, lives, mut items) = start();
    let mut child = sleeper();
    let pid = child.id();
    // Until it runs its program it is a copy of this one.
    while std::fs::read(format!("/proc/{pid}/cmdline")).unwrap() != b"sleep\x00600\x00" {}
    let ticks = ProcDir::open(Path::new("/"), pid)
        .unwrap()
        .stat()
        .unwrap()
        .start_ticks;
    table.refresh(pid, None);
    let alive = next(&mut items).unwrap();
    assert_eq!(alive.start_ticks, Some(ticks));
    assert_eq!(
        alive.cmdline,
        [RawText::from("sleep"), RawText::from("600")]
    );
    assert!(alive.exe.is_some() && alive.cgroup.is_some() && !alive.mappings.is_empty());
    child.kill().unwrap();
    lives.send(life(pid, LifeKind::Exit)).unwrap();
    child.wait().unwrap();
    table.refresh(pid, None);
    table.request(pid, None);
    table.stop();
    // Nothing changed, so only the request is answered.
    let dead = next(&mut items).unwrap();
    assert_eq!(
        (dead.cmdline, dead.exe, dead.cgroup),
        (alive.cmdline, alive.exe, alive.cgroup)
    );
    assert_eq!(dead.mappings, alive.mappings);
    assert!(items.try_recv().is_err());
}

#[test]
fn a_process_that_nobody_asked_for_is_known_from_the_scan() {
    let mut child = sleeper();
    let pid = child.id();
    while std::fs::read(format!("/proc/{pid}/cmdline")).unwrap() != b"sleep\x00600\x00" {}
    let (table, lives, mut items) = start();
    std::thread::sleep(Duration::from_millis(500));
    child.kill().unwrap();
    child.wait().unwrap();
    lives.send(life(pid, LifeKind::Exit)).unwrap();
    table.request(pid, None);
    let dead = next(&mut items).unwrap();
    table.stop();
    let cmdline = [RawText::from("sleep"), RawText::from("600")];
    assert_eq!((dead.pid, dead.cmdline.as_slice()), (pid, &cmdline[..]));
    assert!(dead.exe.is_some() && dead.cgroup.is_some() && dead.mappings.is_empty());
}

#[test]
fn a_child_is_its_parent_until_it_runs_a_program() {
    let mut table = Table::default();
    let own = std::process::id();
    let facts = read::facts(Path::new("/"), own, None).unwrap();
    table.learn(own, facts, 1);
    table.fork(4_000_001, own, Some(77), b"worker", 2);
    table.end(4_000_001, 3);
    let parent = table.find(own, None).unwrap().identity(9);
    let child = table.find(4_000_001, Some(80)).unwrap().identity(9);
    assert_eq!(
        (child.ppid, child.comm.as_bytes()),
        (Some(own), &b"worker"[..])
    );
    assert_eq!((&child.cmdline, &child.exe), (&parent.cmdline, &parent.exe));
    assert!(table.find(4_000_001, Some(76)).is_none(), "started before");
    table.fork(4_000_001, own, Some(90), b"again", 4);
    table.exec(4_000_001, Some(90), b"program");
    let second = table.find(4_000_001, Some(90)).unwrap().identity(9);
    assert_eq!(
        (second.comm.as_bytes(), second.exe),
        (&b"program"[..], None)
    );
    assert_eq!(
        table
            .find(4_000_001, Some(80))
            .unwrap()
            .identity(9)
            .start_ticks,
        Some(77)
    );
}

#[test]
fn the_dead_are_forgotten_by_age_and_by_number() {
    let mut table = Table::default();
    for pid in 1..6000 {
        table.fork(pid, 0, Some(1), b"x", 1);
        table.end(pid, u64::from(pid));
    }
    assert_eq!(table.len(), (0, table::MAX_DEAD));
    table.sweep(5000 + table::KEEP_DEAD_NS, None);
    assert_eq!(table.len(), (0, 999));
    table.fork(7, 0, Some(1), b"x", 1);
    table.sweep(5000, Some(&HashSet::new()));
    assert_eq!(table.len(), (0, 1000));
}

#[test]
fn four_requests_are_answered_at_once() {
    let (table, _lives, mut items) = start();
    let mut children: Vec<_> = (0..4).map(|_| sleeper()).collect();
    std::thread::sleep(Duration::from_millis(100));
    let begin = Instant::now();
    for child in &children {
        table.request(child.id(), None);
    }
    let found: Vec<_> = (0..4)
        .filter_map(|_| next(&mut items))
        .map(|one| one.pid)
        .collect();
    println!("4 identities with mappings: {:?}", begin.elapsed());
    for child in &mut children {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    table.stop();
    assert_eq!(
        found,
        children
            .iter()
            .map(std::process::Child::id)
            .collect::<Vec<_>>()
    );
}

#[test]
fn ticks_are_rounded_down() {
    let per_tick = 1_000_000_000 / rustix::param::clock_ticks_per_second();
    assert_eq!(start_ticks(per_tick * 5 - 1), 4);
    assert_eq!(start_ticks(per_tick * 5), 5);
}

#[test]
fn many_processes_cost_little() {
    let resident = || {
        let text = std::fs::read_to_string("/proc/self/statm").unwrap();
        text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4
    };
    let mut table = Table::default();
    let before = resident();
    for pid in 1..=4000 {
        let facts = read::facts(Path::new("/"), std::process::id(), None).unwrap();
        let cmdline = Some(format!("/usr/bin/worker\0--number\0{pid}\0").into_bytes());
        table.learn(pid, read::Facts { cmdline, ..facts }, 1);
    }
    let cost = resident().saturating_sub(before);
    println!("4000 processes: {cost} KiB");
    assert_eq!(table.len(), (4000, 0));
    // Other tests of this program run at the same time: a generous bound.
    assert!(cost < 64 << 10, "{cost} KiB");
}
