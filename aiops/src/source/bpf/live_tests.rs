//! The real hooks on the running kernel: processes are killed in memory cgroups that the tests make.
//!
//! The program that eats memory is this test binary again ([`eater`]); it joins its cgroup before it
//! takes the first page, so no kill can happen outside.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;
use std::sync::Mutex;
use std::sync::MutexGuard;
use std::sync::PoisonError;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering;
use std::sync::mpsc;
use std::time::Duration;
use std::time::Instant;

use aya::Ebpf;
use tokio::sync::mpsc::UnboundedReceiver;

use super::Options;
use super::StartError;
use super::Tracer;
use super::load;
use super::offsets::skip_or_fail;
use crate::model::Event;
use crate::model::EventKind;
use crate::model::Item;
use crate::model::Losses;
use crate::model::Mark;
use crate::model::MarkSource;
use crate::model::Memory;
use crate::model::StepKind;
use crate::source::Life;
use crate::source::LifeKind;

/// Folder of the cgroup, KiB to take at first, oom_score_adj, and `grow` or `sleep` afterwards.
const ORDER: &str = "AIOPS_TEST_EATER";
const LIMIT: u64 = 32 << 20;
const PATIENCE: Duration = Duration::from_secs(20);

/// One test at a time: they count what they see.
static TURN: Mutex<()> = Mutex::new(());

/// Not a test of its own: the process that the others have killed.
#[test]
fn eater() {
    let Ok(order) = std::env::var(ORDER) else {
        return;
    };
    let parts: Vec<&str> = order.split(' ').collect();
    let [folder, kib, adj, then] = parts[..] else {
        panic!("{order}")
    };
    fs::write("/proc/self/oom_score_adj", adj).unwrap();
    fs::write(
        format!("{folder}/cgroup.procs"),
        std::process::id().to_string(),
    )
    .unwrap();
    let mut held = vec![vec![1_u8; kib.parse::<usize>().unwrap() << 10]];
    if then == "grow" {
        loop {
            let fill = u8::try_from(held.len() % 250).unwrap() + 1;
            held.push(vec![fill; 1 << 20]);
        }
    }
    std::thread::sleep(PATIENCE);
    assert!(held.iter().all(|part| part[0] != 0));
}

/// A memory cgroup of this test, removed with everything in it.
struct Cgroup(PathBuf);

impl Cgroup {
    fn new() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "aiops-test-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let (base, limit) = if PathBuf::from("/sys/fs/cgroup/cgroup.controllers").exists() {
            // Fails where the root may not delegate: then there is no memory.max below.
            let _ = fs::write("/sys/fs/cgroup/cgroup.subtree_control", "+memory");
            ("/sys/fs/cgroup", "memory.max")
        } else {
            ("/sys/fs/cgroup/memory", "memory.limit_in_bytes")
        };
        let folder = PathBuf::from(base).join(name);
        let made =
            fs::create_dir(&folder).and_then(|()| fs::write(folder.join(limit), LIMIT.to_string()));
        if let Err(error) = made {
            skip_or_fail(&format!("no memory cgroup: {error}"));
            return None;
        }
        // Where the host has swap, a group that may swap is not killed. Not every kernel has these.
        let _ = fs::write(folder.join("memory.swap.max"), "0");
        let _ = fs::write(folder.join("memory.swappiness"), "0");
        Some(Self(folder))
    }

    fn id(&self) -> u64 {
        fs::metadata(&self.0).unwrap().ino()
    }

    fn usage(&self) -> u64 {
        let files = ["memory.usage_in_bytes", "memory.current"];
        let text = files
            .iter()
            .find_map(|file| fs::read_to_string(self.0.join(file)).ok());
        text.and_then(|text| text.trim().parse().ok()).unwrap_or(0)
    }

    fn start(&self, kib: u64, adj: i32, then: &str) -> Child {
        Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "source::bpf::live_tests::eater",
                "--test-threads=1",
                "--nocapture",
            ])
            .env(ORDER, format!("{} {kib} {adj} {then}", self.0.display()))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// Starts an eater and waits for its end. Its process id.
    fn kill_one(&self) -> u32 {
        let mut child = self.start(64, 0, "grow");
        let status = child.wait().unwrap();
        assert!(!status.success());
        child.id()
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for pid in fs::read_to_string(self.0.join("cgroup.procs"))
            .unwrap_or_default()
            .lines()
        {
            let pid = pid.parse().ok().and_then(rustix::process::Pid::from_raw);
            let _ =
                pid.map(|pid| rustix::process::kill_process(pid, rustix::process::Signal::KILL));
        }
        let removed = |_: &u32| {
            std::thread::sleep(Duration::from_millis(20));
            fs::remove_dir(&self.0).is_ok()
        };
        let _ = (0..100).find(removed);
    }
}

/// A tracer with what it sends.
struct Trace {
    tracer: Tracer,
    items: UnboundedReceiver<Item>,
    lives: mpsc::Receiver<Life>,
    seen: Vec<Event>,
    _turn: MutexGuard<'static, ()>,
}

impl Trace {
    fn start(options: &Options) -> Option<Self> {
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let (sink, items) = tokio::sync::mpsc::unbounded_channel();
        let (born, lives) = mpsc::channel();
        match Tracer::start(options, sink, born) {
            Ok(tracer) => Some(Self {
                tracer,
                items,
                lives,
                seen: Vec::new(),
                _turn: turn,
            }),
            Err(
                error @ (StartError::Permission(_)
                | StartError::Blocked(_)
                | StartError::Tracefs(_)),
            ) => {
                skip_or_fail(&format!("{error}; {}", error.remedy()));
                None
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn collect(&mut self) {
        assert!(self.tracer.flush(), "a reader does not answer");
        while let Ok(item) = self.items.try_recv() {
            let Item::Event(event) = item else {
                panic!("{item:?}")
            };
            self.seen.push(event);
        }
    }

    /// The event of a mark of this process.
    fn mark(&self, pid: u32) -> Option<(&Event, &Mark)> {
        self.seen.iter().find_map(|event| match &event.kind {
            EventKind::Mark(mark) if mark.victim.pid == pid => Some((event, &**mark)),
            _ => None,
        })
    }

    fn has_exit(&self, pid: u32) -> bool {
        let mut steps = self.seen.iter().filter_map(|event| match &event.kind {
            EventKind::Step(step) => Some(step),
            _ => None,
        });
        steps.any(|step| step.step == StepKind::Exit && step.pid == Some(pid))
    }
}

fn lost(losses: &Losses) -> u64 {
    let rings = ["oom_ring", "life_ring", "pending_map", "undecodable"];
    let rows = losses
        .lost
        .iter()
        .filter(|row| rings.contains(&row.name.as_str()));
    rows.map(|row| row.count).sum()
}

/// The kernel's own words on a kill (mm/oom_kill.c, `__oom_kill_process`).
#[derive(Debug, Default)]
struct KernelLine {
    comm: String,
    memory: Memory,
    adj: i32,
    uid: u32,
}

/// Reads the kernel's log from now on.
struct Kmsg(fs::File);

impl Kmsg {
    fn open() -> Option<Self> {
        use std::io::Seek as _;
        let flags = rustix::fs::OFlags::NONBLOCK.bits();
        let file = fs::OpenOptions::new()
            .read(true)
            .custom_flags(i32::try_from(flags).unwrap())
            .open("/dev/kmsg");
        let mut file = file.ok()?;
        file.seek(std::io::SeekFrom::End(0)).ok()?;
        Some(Self(file))
    }

    /// The line on this process, when it comes in time.
    fn line(&mut self, pid: u32) -> Option<KernelLine> {
        let begin = Instant::now();
        let mark = format!("Killed process {pid} (");
        let mut buffer = [0_u8; 8192];
        while begin.elapsed() < PATIENCE {
            let Ok(len) = self.0.read(&mut buffer) else {
                std::thread::sleep(Duration::from_millis(10));
                continue;
            };
            let text = String::from_utf8_lossy(&buffer[..len]).into_owned();
            if let Some((_, rest)) = text.split_once(&mark) {
                return Some(parse_line(rest));
            }
        }
        None
    }
}

fn parse_line(rest: &str) -> KernelLine {
    let (comm, fields) = rest.split_once(") ").unwrap();
    let field = |name: &str| {
        let (_, value) = fields.split_once(name)?;
        let end = value
            .find(|c: char| !c.is_ascii_digit() && c != '-')
            .unwrap_or(value.len());
        value[..end].parse::<i64>().ok()
    };
    let size = |name: &str| field(name).and_then(|kb| u64::try_from(kb).ok());
    KernelLine {
        comm: comm.to_owned(),
        memory: Memory {
            total_vm_kb: size("total-vm:"),
            anon_rss_kb: size("anon-rss:"),
            file_rss_kb: size("file-rss:"),
            shmem_rss_kb: size("shmem-rss:"),
            swap_kb: None,
            pgtables_kb: size("pgtables:"),
        },
        adj: field("oom_score_adj:")
            .and_then(|adj| i32::try_from(adj).ok())
            .unwrap(),
        uid: field("UID:")
            .and_then(|uid| u32::try_from(uid).ok())
            .unwrap(),
    }
}

/// Whether both say the same; per-CPU parts of counters may differ by 64 pages of each CPU.
fn assert_close(ours: Option<u64>, kernel: Option<u64>, approximate: bool, what: &str) {
    let cpus = u64::try_from(aya::util::nr_cpus().unwrap()).unwrap();
    let slack = if approximate { 64 * cpus * 4 } else { 0 };
    let (ours, kernel) = (ours.unwrap(), kernel.unwrap());
    assert!(
        ours.abs_diff(kernel) <= slack,
        "{what}: {ours} kB, the kernel says {kernel} kB"
    );
}

#[test]
fn a_kill_is_captured_with_the_kernels_own_figures() {
    let Some(mut trace) = Trace::start(&Options::default()) else {
        return;
    };
    let (Some(cgroup), Some(mut kmsg)) = (Cgroup::new(), Kmsg::open()) else {
        return;
    };
    let pid = cgroup.kill_one();
    let line = kmsg.line(pid).expect("the kernel has logged the kill");
    trace.collect();
    let (event, mark) = trace.mark(pid).expect("the kill is captured");
    assert_eq!(mark.source, MarkSource::Signal);
    assert_eq!(mark.victim.comm.lossy(), line.comm);
    assert_eq!(mark.trigger.pid, pid);
    assert_eq!(
        (mark.oom_score_adj, mark.uid),
        (Some(line.adj), Some(line.uid))
    );
    assert_eq!(mark.victim.memcg_id, Some(cgroup.id()));
    let (ours, kernel, near) = (&mark.memory, &line.memory, mark.rss_approximate);
    assert_close(ours.total_vm_kb, kernel.total_vm_kb, false, "total-vm");
    assert_close(ours.anon_rss_kb, kernel.anon_rss_kb, near, "anon-rss");
    assert_close(ours.file_rss_kb, kernel.file_rss_kb, near, "file-rss");
    assert_close(ours.shmem_rss_kb, kernel.shmem_rss_kb, near, "shmem-rss");
    assert_close(ours.pgtables_kb, kernel.pgtables_kb, false, "pgtables");
    assert!(ours.swap_kb.is_some() && ours.anon_rss_kb > Some(16 << 10));
    if mark.tracepoint.anon_rss_kb.is_some() {
        assert_close(
            mark.tracepoint.anon_rss_kb,
            kernel.anon_rss_kb,
            near,
            "tracepoint",
        );
    }
    assert!(mark.trigger_kernel.len() > 5 && !mark.trigger_user.is_empty());
    assert!(
        mark.gfp_mask.is_some() && mark.order == Some(0) && mark.reclaim_ns < Some(event.ts_ns)
    );
    assert!(mark.signal_ns <= Some(event.ts_ns) && event.received_ns > Some(event.ts_ns));
    assert!(trace.has_exit(pid));
    let kinds: Vec<LifeKind> = trace
        .lives
        .try_iter()
        .filter(|life| life.pid == pid)
        .map(|life| life.kind)
        .collect();
    let parent = std::process::id();
    assert_eq!(
        kinds,
        [LifeKind::Fork { parent }, LifeKind::Exec, LifeKind::Exit]
    );
    assert_eq!(lost(&trace.tracer.stop()), 0);
}

#[test]
fn twenty_kills_in_a_row_are_twenty_records() {
    let Some(mut trace) = Trace::start(&Options::default()) else {
        return;
    };
    let Some(cgroup) = Cgroup::new() else { return };
    let pids: Vec<u32> = (0..20).map(|_| cgroup.kill_one()).collect();
    trace.collect();
    let mut delays: Vec<u64> = Vec::new();
    for pid in &pids {
        let (event, mark) = trace.mark(*pid).expect("every kill is captured");
        assert_eq!(mark.source, MarkSource::Signal);
        assert!(trace.has_exit(*pid), "{pid}");
        delays.push(event.received_ns.unwrap() - event.ts_ns);
    }
    let deliveries = |pid: u32| {
        let same = |event: &&Event| matches!(&event.kind, EventKind::Delivery(delivery) if delivery.victim.pid == pid);
        trace.seen.iter().filter(same).count()
    };
    assert!(pids.iter().all(|pid| deliveries(*pid) == 1));
    delays.sort_unstable();
    println!(
        "mark to receipt, us: median {}, max {}",
        delays[10] / 1000,
        delays[19] / 1000
    );
    let losses = trace.tracer.stop();
    assert_eq!(lost(&losses), 0, "{losses:?}");
    let marks = losses
        .seen
        .iter()
        .find(|row| row.name == "oom_mark")
        .unwrap();
    assert!(marks.count >= 20);
}

#[test]
fn the_victim_may_be_another_process_than_the_trigger() {
    // A victim that the signal has woken may run before its stack is taken: then it has none.
    let mut sleeping = false;
    for _ in 0..5 {
        let Some(found) = kill_a_sleeper() else {
            return;
        };
        sleeping |= found;
    }
    assert!(
        sleeping,
        "no kernel stack of a sleeping victim in five kills"
    );
}

/// Has a sleeping process killed on behalf of another one, and says whether its kernel stack is there.
fn kill_a_sleeper() -> Option<bool> {
    let mut trace = Trace::start(&Options::default())?;
    let cgroup = Cgroup::new()?;
    let mut sleeper = cgroup.start(20 << 10, 500, "sleep");
    let begin = Instant::now();
    while cgroup.usage() < 20 << 20 && begin.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut grower = cgroup.start(64, 0, "grow");
    assert!(!sleeper.wait().unwrap().success());
    assert!(!grower.wait().unwrap().success());
    trace.collect();
    let (event, mark) = trace.mark(sleeper.id()).expect("the sleeper is captured");
    assert_eq!(
        (mark.trigger.pid, mark.source),
        (grower.id(), MarkSource::Signal)
    );
    assert_eq!(
        (mark.oom_score_adj, mark.trigger_oom_score_adj),
        (Some(500), Some(0))
    );
    assert!(mark.memory.anon_rss_kb >= Some(20 << 10));
    let user = trace.seen.iter().find_map(|event| match &event.kind {
        EventKind::Delivery(delivery) if delivery.victim.pid == sleeper.id() => {
            Some(&delivery.user)
        }
        _ => None,
    });
    assert!(
        user.is_some_and(|user| !user.is_empty()),
        "no user stack of the victim"
    );
    let early = trace.seen.iter().any(|early| {
        matches!(&early.kind, EventKind::Reclaim(reclaim) if reclaim.task.pid == grower.id())
            && early.ts_ns < event.ts_ns
    });
    assert!(early, "reclaim precedes the kill");
    Some(!mark.victim_kernel.is_empty())
}

#[test]
fn without_btf_there_is_still_a_record() {
    let options = Options {
        btf: false,
        ..Options::default()
    };
    let Some(mut trace) = Trace::start(&options) else {
        return;
    };
    let Some(cgroup) = Cgroup::new() else { return };
    assert!(!trace.tracer.btf());
    let pid = cgroup.kill_one();
    trace.collect();
    let (_, mark) = trace.mark(pid).expect("the kill is captured");
    assert_eq!(mark.source, MarkSource::Tracepoint);
    assert_eq!(mark.memory, Memory::default());
    assert!(mark.trigger_kernel.len() > 5 && mark.trigger.pid == pid);
    // No exit is asked for: SIGKILL is sent before the mark, and without BTF only the mark makes a victim
    // known, so a first thread on another CPU may be gone by then.
    let hooks = trace.tracer.hooks();
    let signal = hooks
        .iter()
        .find(|hook| hook.name == "signal_generate")
        .unwrap();
    assert!(!signal.attached && signal.error.is_some());
}

/// Instructions of each program after the verifier has removed what cannot run.
fn sizes(ebpf: &Ebpf) -> Vec<(String, u32)> {
    let size = |(name, program): (&str, &aya::programs::Program)| {
        let size = program.info().ok()?.size_translated()?;
        Some((name.to_owned(), size))
    };
    let mut sizes: Vec<_> = ebpf.programs().filter_map(size).collect();
    sizes.sort();
    sizes
}

#[test]
fn messages_cost_nothing_unless_they_are_wanted() {
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let load = |verbose| load::load(&Options { verbose, btf: true });
    let (quiet, loud) = match (load(false), load(true)) {
        (Ok(quiet), Ok(loud)) => (quiet, loud),
        (Err(error), _) | (_, Err(error)) => return skip_or_fail(&error.to_string()),
    };
    let (quiet, loud) = (sizes(&quiet.ebpf), sizes(&loud.ebpf));
    drop(turn);
    for ((name, quiet), (_, loud)) in quiet.iter().zip(&loud) {
        println!("{name}: {quiet} bytes, with messages {loud}");
        let talks = ["mark_victim", "signal_generate"].contains(&name.as_str());
        assert_eq!(quiet < loud, talks, "{name}");
    }
    assert_eq!(quiet.len(), super::hooks::HOOKS.len());
}

/// Keeps what the programs say.
struct Heard(Mutex<Vec<String>>);

impl log::Log for Heard {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        let mut heard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        heard.push(record.args().to_string());
    }

    fn flush(&self) {}
}

#[test]
fn a_verbose_tracer_hears_the_programs() {
    static HEARD: Heard = Heard(Mutex::new(Vec::new()));
    log::set_logger(&HEARD).expect("no other test sets a logger");
    log::set_max_level(log::LevelFilter::Debug);
    let options = Options {
        verbose: true,
        ..Options::default()
    };
    let Some(mut trace) = Trace::start(&options) else {
        return;
    };
    let Some(cgroup) = Cgroup::new() else { return };
    let pid = cgroup.kill_one();
    trace.collect();
    assert!(trace.mark(pid).is_some());
    let heard = HEARD.0.lock().unwrap_or_else(PoisonError::into_inner);
    let wanted = format!("marked {pid} (task {pid})");
    assert!(heard.contains(&wanted), "{heard:?}");
}

#[test]
fn kills_at_once_are_all_captured() {
    let Some(mut trace) = Trace::start(&Options::default()) else {
        return;
    };
    let groups: Vec<Cgroup> = (0..4).filter_map(|_| Cgroup::new()).collect();
    let kill = |cgroup: &Cgroup| (0..8).map(|_| cgroup.kill_one()).collect::<Vec<u32>>();
    let pids: Vec<u32> = std::thread::scope(|scope| {
        let kills: Vec<_> = groups
            .iter()
            .map(|cgroup| scope.spawn(move || kill(cgroup)))
            .collect();
        let pids = kills.into_iter().map(|kill| kill.join().unwrap());
        pids.flatten().collect()
    });
    trace.collect();
    for pid in &pids {
        let (_, mark) = trace.mark(*pid).expect("every kill is captured");
        assert_eq!(mark.source, MarkSource::Signal, "{pid}");
        assert!(trace.has_exit(*pid), "{pid}");
    }
    let losses = trace.tracer.stop();
    assert_eq!(lost(&losses), 0, "{losses:?}");
}
