//! The daemon on the running host, with stores of its own: what it keeps, whom it refuses, how it ends.

use std::fs;
use std::io::BufRead as _;
use std::io::BufReader;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Child;
use std::process::Stdio;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use aiops::store::Entry;
use aiops::store::Event;
use aiops::store::Store;
use aiops::store::Tick;
use aiops::time;
use rustix::process::Pid;
use rustix::process::Signal;
use serde_json::Value;

use crate::support::Cgroup;
use crate::support::Scratch;
use crate::support::aiops;
use crate::support::can_trace;
use crate::support::run;
use crate::support::settle;
use crate::support::state;
use crate::support::until;
use crate::support::want;

/// A store, with the folder of its newest frames, both removed at the end.
struct History {
    scratch: Scratch,
}

impl History {
    fn new() -> Self {
        Self {
            scratch: Scratch::new(),
        }
    }

    fn folder(&self) -> String {
        self.scratch.path("store")
    }

    fn store(&self) -> Store {
        Store::at(&PathBuf::from(self.folder()))
    }

    /// Everything that is in no segment yet.
    fn entries(&self) -> (Vec<Tick>, Vec<Event>) {
        let (mut ticks, mut events) = (Vec::new(), Vec::new());
        // A log that is just becoming a segment, or is just being synced, is looked at again.
        until("a whole look at the logs", || {
            (ticks, events) = (Vec::new(), Vec::new());
            let damages = self.store().fresh(|entry| match entry {
                Entry::Tick(tick) => ticks.push(*tick),
                Entry::Event(event) => events.push(event),
            });
            damages.is_ok_and(|list| list.is_empty())
        });
        (ticks, events)
    }

    /// The report of `monitor status`, and the exit code.
    fn status(&self) -> (Value, i32) {
        let output = run(&["monitor", "status", "-o", "json", "--store", &self.folder()]);
        let report = serde_json::from_slice(&output.stdout).unwrap_or_default();
        (report, output.status.code().unwrap_or(-1))
    }

    fn tails(&self) -> Option<PathBuf> {
        Some(self.store().meta().ok()??.tails)
    }
}

impl Drop for History {
    fn drop(&mut self) {
        if let Some(tails) = self.tails() {
            let _ = fs::remove_dir_all(tails);
        }
    }
}

fn kill(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
    // It may have ended by itself.
    let _ = rustix::process::kill_process(pid.expect("a pid"), signal);
}

/// A daemon in the foreground; killed at the end if it still runs.
struct Daemon {
    child: Child,
    said: mpsc::Receiver<String>,
    /// What it said and what was taken from `said`.
    heard: Vec<String>,
}

impl Daemon {
    /// Starts it and waits until it works.
    fn start(history: &History, args: &[&str]) -> Self {
        Self::with(history, args, &[])
    }

    fn with(history: &History, args: &[&str], env: &[(&str, &str)]) -> Self {
        let store = history.folder();
        let mut command = aiops(&["monitor", "memory", "--store", &store]);
        let mut child = command
            .args(args)
            .envs(env.iter().copied())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program starts");
        let lines = BufReader::new(child.stderr.take().expect("stderr")).lines();
        let (sender, said) = mpsc::channel();
        thread::spawn(move || {
            lines
                .map_while(Result::ok)
                .for_each(|line| drop(sender.send(line)));
        });
        let mut daemon = Self {
            child,
            said,
            heard: Vec::new(),
        };
        daemon.hears("monitoring every");
        daemon
    }

    /// Waits for a line on stderr that holds this.
    fn hears(&mut self, what: &str) {
        until(what, || {
            self.heard.extend(self.said.try_iter());
            self.heard.iter().any(|line| line.contains(what))
        });
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end: exit code, what it said.
    fn end(mut self, signal: Signal) -> (Option<i32>, String) {
        kill(self.pid(), signal);
        let status = self.child.wait().expect("it ends");
        self.heard.extend(self.said.iter());
        (status.code(), self.heard.join("\n"))
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn it_keeps_samples_says_how_it_is_doing_and_ends_in_good_order() {
    let history = History::new();
    let socket = history.scratch.path("notify");
    let systemd = UnixDatagram::bind(&socket).expect("a socket");
    systemd
        .set_read_timeout(Some(Duration::from_secs(60)))
        .expect("a timeout");
    let daemon = Daemon::with(
        &history,
        &["--interval", "200ms", "--no-bpf"],
        &[("NOTIFY_SOCKET", &socket)],
    );
    let mut word = [0; 64];
    let length = systemd.recv(&mut word).expect("a word for systemd");
    assert_eq!(&word[..length], b"READY=1");
    let (report, code) = history.status();
    assert_eq!(
        (code, &report["data"]["running"]),
        (0, &Value::Bool(true)),
        "{report:#}"
    );
    assert_eq!(report["data"]["state"]["own"]["pid"], daemon.pid());
    assert_eq!(report["data"]["state"]["interval_s"], 0.2);
    assert!(report["data"]["state"]["own"]["rss_kb"].as_u64() > Some(1000));
    let tails = history.tails().expect("the store says where");
    for file in ["status.json", "monitor.pid"] {
        let meta = fs::metadata(tails.join(file)).expect(file);
        assert_eq!(meta.permissions().mode() & 0o777, 0o600, "{file}");
    }
    until("three samples", || history.entries().0.len() >= 3);
    until("a state of its samples", || {
        let (report, _) = history.status();
        let (state, store) = (&report["data"]["state"], &report["data"]["store"]);
        let last = &state["last_tick_at"];
        state["own"]["ticks"].as_u64() > Some(0)
            && last.is_string()
            && store["to"] == *last
            && (&store["logs"], &store["segments"]) == (&1.into(), &0.into())
    });
    let pid = daemon.pid();
    let own = std::process::id();
    let (code, said) = daemon.end(Signal::TERM);
    assert_eq!(code, Some(0), "{said}");
    let (ticks, events) = history.entries();
    let first = &ticks[0];
    assert!(first.sample.system.is_some());
    for wanted in [pid, own] {
        let found = first.sample.processes.iter().find(|one| one.pid == wanted);
        assert!(
            found.is_some_and(|one| one.metrics.rss_kb > Some(0)),
            "{wanted}"
        );
    }
    assert!(first.identities.iter().any(|one| one.pid == own));
    let told: Vec<&str> = events.iter().map(|event| event.id.as_str()).collect();
    assert_eq!(
        (told.first(), told.last()),
        (Some(&"start"), Some(&"stop")),
        "{told:?}"
    );
    let (report, code) = history.status();
    assert_eq!((code, &report["data"]["running"]), (1, &Value::Bool(false)));
    assert_eq!(report["data"]["state"], Value::Null);
    let last = ticks.last().expect("a sample").clock.real_ns;
    assert_eq!(
        report["data"]["store"]["to"].as_str(),
        time::rfc3339(last, time::local_offset_s(last)).as_deref(),
        "without a daemon the log says"
    );
    assert!(!tails.join("monitor.pid").exists());
}

#[test]
fn a_second_one_is_refused_by_the_name_of_the_first() {
    let history = History::new();
    let daemon = Daemon::start(&history, &["--interval", "1s", "--no-bpf"]);
    let store = history.folder();
    for more in [&[][..], &["--daemon"]] {
        let mut args = vec!["monitor", "memory", "--no-bpf", "--store", &store];
        args.extend_from_slice(more);
        let output = run(&args);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        let pid = format!("process {} writes this store", daemon.pid());
        assert!(said.contains("error: ") && said.contains(&pid), "{said}");
        assert!(said.contains("hint: "), "{said}");
    }
    assert_eq!(history.status().1, 0, "the first one goes on");
}

#[test]
fn a_log_that_is_finished_becomes_a_segment_by_itself() {
    let history = History::new();
    let _daemon = Daemon::start(&history, &["--interval", "1s", "--no-bpf"]);
    let store = Store::at(&PathBuf::from(history.folder()));
    let tails = store.tails().expect("tails");
    let is_tail = |file: fs::DirEntry| file.path().extension().is_some_and(|end| end == "tail");
    until("a log and its tail", || {
        fs::read_dir(&tails).is_ok_and(|files| files.flatten().any(is_tail))
    });
    // Nobody waits for the end of the hour: a log whose tail is gone ends as well.
    fs::remove_dir_all(&tails).expect("they go");
    until("a segment", || {
        store.segments().is_ok_and(|segments| !segments.is_empty())
    });
}

#[test]
fn a_state_that_cannot_be_read_is_no_missing_daemon() {
    let history = History::new();
    let daemon = Daemon::start(&history, &["--interval", "1h", "--no-bpf"]);
    until("a state", || history.status().1 == 0);
    let state = history.tails().expect("tails").join("status.json");
    let status = || run(&["monitor", "status", "--store", &history.folder()]);
    // The daemon writes its state once more when its first sample is taken.
    let refused = |break_it: &dyn Fn(), why: &str| {
        settle(why, || {
            let _ = fs::remove_file(&state);
            break_it();
            let output = status();
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            let named = ["status.json", why, "hint: "];
            want!(named.iter().all(|word| said.contains(word)), "{said}");
            want!(output.status.code() == Some(1), "{}", output.status);
            want!(output.stdout.is_empty(), "a report");
            Ok(())
        });
    };
    let damage = || fs::write(&state, "{\"version\":").expect("damage");
    refused(&damage, "damaged, or of another version");
    let link = || std::os::unix::fs::symlink("/etc/hostname", &state).expect("a link");
    refused(&link, "not a regular file");
    fs::remove_file(&state).expect("it goes");
    let (report, code) = history.status();
    assert_eq!((code, &report["data"]["running"]), (1, &Value::Bool(false)));
    drop(daemon);
}

#[test]
fn settings_are_read_again_and_a_bad_file_changes_nothing() {
    let history = History::new();
    let file = history.scratch.path("config.toml");
    let write = |text: &str| fs::write(&file, text).expect("a file");
    write("interval = \"700ms\"\nbpf = false\n");
    let mut daemon = Daemon::start(&history, &["--config", &file]);
    let interval = || history.status().0["data"]["state"]["interval_s"].clone();
    assert_eq!(interval(), 0.7);
    write("interval = \"300ms\"\nbpf = false\nkeep = \"7d\"\n");
    kill(daemon.pid(), Signal::HUP);
    daemon.hears("settings read again");
    until("the new interval", || interval() == 0.3);
    assert_eq!(history.status().0["data"]["state"]["keep"], "7d");
    write("intervall = \"1s\"\n");
    kill(daemon.pid(), Signal::HUP);
    daemon.hears("unknown field `intervall`");
    daemon.hears("the settings stay as they were");
    for (text, what) in [
        ("keep = \"0s\"\n", "keep: at least 1h"),
        ("metrics = \"0.0.0.0:0\"\n", "other hosts could read it"),
    ] {
        write(text);
        kill(daemon.pid(), Signal::HUP);
        daemon.hears(what);
    }
    assert_eq!(interval(), 0.3);
    assert_eq!(history.status().0["data"]["state"]["keep"], "7d");
    let (code, said) = daemon.end(Signal::INT);
    assert_eq!(code, Some(0), "{said}");
    // At the start it is an error.
    let store = history.folder();
    for (text, what) in [
        ("intervall = \"1s\"", "unknown field `intervall`"),
        ("interval = \"5\"", "interval: a unit is missing"),
        ("max_size = \"much\"", "max_size:"),
    ] {
        write(text);
        let output = run(&["monitor", "memory", "--config", &file, "--store", &store]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(&file) && said.contains(what), "{said}");
    }
}

#[test]
fn a_kill_costs_one_sample_at_most_and_the_next_one_goes_on() {
    let history = History::new();
    let daemon = Daemon::start(&history, &["--interval", "100ms", "--no-bpf"]);
    until("samples", || history.entries().0.len() >= 5);
    let seen = history.entries().0.len();
    let (code, _) = daemon.end(Signal::KILL);
    assert_eq!(code, None);
    let (ticks, _) = history.entries();
    assert!(ticks.len() >= seen, "{} of {seen}", ticks.len());
    let (report, code) = history.status();
    assert_eq!((code, &report["data"]["running"]), (1, &Value::Bool(false)));
    assert!(
        report["data"]["state"].is_object(),
        "it ended without a word"
    );
    let last = ticks[ticks.len() - 1].clock.mono_ns;
    let daemon = Daemon::start(&history, &["--interval", "100ms", "--no-bpf"]);
    until("newer samples", || {
        let (ticks, _) = history.entries();
        ticks.last().is_some_and(|tick| tick.clock.mono_ns > last)
    });
    // What the killed one wrote becomes a segment.
    until("a segment", || {
        history
            .store()
            .segments()
            .is_ok_and(|list| !list.is_empty())
    });
    let (code, said) = daemon.end(Signal::TERM);
    assert_eq!(code, Some(0), "{said}");
}

/// Ends a process that is no child of ours.
struct Detached(u32);

impl Drop for Detached {
    fn drop(&mut self) {
        kill(self.0, Signal::KILL);
    }
}

#[test]
fn detached_it_has_a_session_of_its_own_and_a_log() {
    let history = History::new();
    let store = history.folder();
    let args = [
        "monitor",
        "memory",
        "--daemon",
        "--no-bpf",
        "--interval",
        "1s",
        "--store",
        &store,
    ];
    let output = run(&args);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("monitoring every 1 s"), "{said}");
    let pid: u32 = String::from_utf8_lossy(&output.stdout)
        .trim()
        .parse()
        .expect("a pid");
    let _guard = Detached(pid);
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let fields: Vec<&str> = stat
        .rsplit_once(") ")
        .expect("a stat")
        .1
        .split(' ')
        .collect();
    assert_eq!(fields[3], pid.to_string(), "a session of its own: {stat}");
    assert_eq!(history.status().0["data"]["state"]["own"]["pid"], pid);
    let log = PathBuf::from(&store).join("monitor.log");
    let meta = fs::metadata(&log).expect("a log");
    assert_eq!(meta.permissions().mode() & 0o777, 0o600);
    kill(pid, Signal::TERM);
    until("its end", || matches!(state(pid), None | Some('Z')));
    let text = fs::read_to_string(&log).expect("a log");
    assert!(
        text.contains("started") && text.contains("monitoring ended"),
        "{text}"
    );
}

#[test]
fn an_oom_kill_becomes_an_event_with_its_whole_story() {
    if !can_trace() {
        return;
    }
    let Some(cgroup) = Cgroup::new(32 << 20) else {
        return;
    };
    let history = History::new();
    let daemon = Daemon::start(&history, &["--interval", "1s"]);
    let mut child = cgroup.grow(64, 1024, Duration::from_millis(20));
    let victim = child.id();
    let _ = child.wait();
    let mut found = None;
    until("the event", || {
        let (_, events) = history.entries();
        found = events
            .into_iter()
            .find(|event| event.kind == "oom" && event.pid == Some(victim));
        found.is_some()
    });
    let event = found.expect("the event");
    assert_eq!(event.cgroup.as_deref(), Some(cgroup.path.as_str()));
    assert_eq!(event.severity, "critical");
    assert!(
        event.title.contains(&format!("({victim}) was killed")),
        "{}",
        event.title
    );
    let body: Value = serde_json::from_str(&event.body).expect("JSON");
    assert_eq!(body["kills"][0]["pid"], victim);
    assert_eq!(body["scope"], "memcg");
    assert!(
        body["before"]
            .as_array()
            .is_some_and(|rows| !rows.is_empty()),
        "samples before it"
    );
    until("the count", || {
        let kills = &history.status().0["data"]["state"]["oom_kills"];
        kills["memcg"].as_u64() >= Some(1)
    });
    let (code, said) = daemon.end(Signal::TERM);
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn a_tree_of_files_has_no_history() {
    let scratch = Scratch::new();
    let root = scratch.path("root");
    fs::create_dir_all(format!("{root}/proc")).expect("a folder");
    let store = scratch.path("store");
    let output = run(&["monitor", "memory", "--root", &root, "--store", &store]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("captured tree") && said.contains("hint: "),
        "{said}"
    );
    assert!(!PathBuf::from(store).exists());
    let output = run(&["monitor", "status", "--store", "/nonexistent"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("hint: "), "{said}");
}
