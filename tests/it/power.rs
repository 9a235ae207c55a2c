//! Power cuts: what a writer really did to its disk, call by call, undone at every step in every way that a disk may.

use std::collections::BTreeMap;
use std::collections::HashSet;
use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::Hash as _;
use std::hash::Hasher as _;
use std::io::Write as _;
use std::path::Path;
use std::path::PathBuf;
use std::process::Command;

use aiops::model::Host;
use aiops::model::RawText;
use aiops::store::Ask;
use aiops::store::Damage;
use aiops::store::Event;
use aiops::store::Range;
use aiops::store::Recorder;
use aiops::store::Store;
use aiops::store::Tick;
use rustix::process::Signal;

use crate::disk;
use crate::disk::Dice;
use crate::disk::Disk;
use crate::disk::Left;
use crate::store::tick_at;
use crate::support::Scratch;

/// Seconds between two ticks, and at most between two syncs.
const STEP_S: u64 = 10;
const SYNC_S: u64 = 30;
/// Ticks of an hour, and of all; midnight comes in the third hour.
const HOUR: u64 = 12;
const LAST: u64 = 5 * HOUR;

fn host() -> Host {
    Host {
        hostname: RawText::from("power"),
        ..Host::default()
    }
}

fn real_ms(number: u64) -> i64 {
    let second = 1_700_000_000 + number * STEP_S + number / HOUR * (3600 - HOUR * STEP_S);
    i64::try_from(second * 1000).expect("a time")
}

fn tick(number: u64) -> Tick {
    let real_ns = real_ms(number) * 1_000_000;
    let mono_ns = u64::try_from(real_ns).expect("a time") - 1_699_000_000_000_000_000;
    tick_at(number, mono_ns, real_ns)
}

fn store(folder: &Path) -> Store {
    Store::at(&folder.join("store")).with_tails(&folder.join("tails"))
}

/// Not a test: the writer whose calls are logged. It says which ticks were taken, which are durable, and which may go.
#[test]
fn writing_child() {
    let Some(folder) = std::env::var_os("AIOPS_TEST_POWER") else {
        return;
    };
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL)).expect("a death signal");
    let folder = Path::new(&folder);
    let mut own = store(folder);
    let mut recorder = Recorder::open(own.clone(), host()).expect("a store");
    println!();
    for number in 1..=LAST {
        let urgent = number % 8 == 0;
        let pushed = recorder.push(&tick(number), urgent).expect("a tick");
        assert!(pushed.unsynced.is_none());
        println!("TAKEN {number}");
        if urgent {
            println!("DURABLE {number}");
        }
        if number % 20 == 0 {
            let event = Event {
                ts_ms: real_ms(number),
                id: format!("event-{number}"),
                ..Event::default()
            };
            recorder.event(&event).expect("an event");
            println!("DURABLE {number}");
        }
        if recorder.turned() {
            println!("DURABLE {}", number - 1);
            own.compact().expect("a segment");
        }
        if number == LAST / 2 {
            // Killed, with frames in its tail, and begun again with its tails elsewhere.
            drop(recorder);
            own = Store::at(own.folder()).with_tails(&folder.join("tails2"));
            recorder = Recorder::open(own.clone(), host()).expect("a store");
            own.compact().expect("a segment of what was left");
            println!("DURABLE {number}");
        }
    }
    recorder.close().expect("an end");
    println!("DURABLE {LAST}");
    // Something else writes into the last log: it is put aside.
    let wals = fs::read_dir(own.folder().join("wal")).expect("logs");
    let log = wals.map(|entry| entry.expect("a log").path()).max();
    let log = fs::File::options().append(true).open(log.expect("a log"));
    let mut log = log.expect("a log");
    println!("DAMAGED");
    log.write_all(&[0xff; 100]).expect("damage");
    log.sync_all().expect("damage");
    assert_eq!(own.compact().expect("a segment").len(), 1);
    println!("MAY GO {}", 2 * HOUR - 1);
    let removed = own.retain(real_ms(2 * HOUR - 1) + 1, u64::MAX);
    assert_eq!(removed.expect("an old day").segments.len(), 1);
    assert_eq!(
        own.segments().expect("segments").len(),
        1,
        "days were merged"
    );
    println!("END");
}

/// What the writer promised up to a moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
struct Promise {
    /// Ticks that were handed over; the next one may be under way.
    taken: u64,
    durable: u64,
    may_go: u64,
    is_damaged: bool,
}

impl Promise {
    fn of(said: &str) -> Self {
        let most = |what: &str| {
            let numbers = said
                .lines()
                .filter_map(|line| line.strip_prefix(what)?.parse().ok());
            numbers.max().unwrap_or(0)
        };
        let taken = most("TAKEN ");
        Self {
            taken,
            // Nothing is older than a sync.
            durable: most("DURABLE ").max(taken.saturating_sub(SYNC_S / STEP_S)),
            may_go: most("MAY GO "),
            is_damaged: said.contains("DAMAGED"),
        }
    }
}

/// How often each tick is there, as a query reads it, and what was damaged.
fn numbers(store: &Store) -> Result<(BTreeMap<u64, usize>, Vec<Damage>), String> {
    let ask = Ask {
        range: Range {
            start_ms: 0,
            end_ms: i64::MAX,
        },
        fields: &["rss_kb"],
        pids: &[],
        programs: false,
    };
    let (mut found, mut strange) = (BTreeMap::new(), None);
    let coverage = store.runs(&ask, &mut |run| {
        let number = run.values[0].and_then(|number| u64::try_from(number).ok());
        let number = number.unwrap_or(0);
        if run.n != 1 || run.times[run.first] != real_ms(number) {
            strange = Some(format!("{} samples of {number} at {:?}", run.n, run.times));
        }
        *found.entry(number).or_insert(0) += run.n;
    });
    let coverage = coverage.map_err(|error| format!("{error}: {error:?}"))?;
    strange.map_or(Ok((found, coverage.damages)), Err)
}

/// Whether a store keeps what was promised; returns how many ticks are there.
fn kept(store: &Store, promise: Promise) -> Result<(usize, Vec<Damage>), String> {
    if promise.durable == 0 && !store.folder().exists() {
        return Ok((0, Vec::new()));
    }
    let (found, damages) = numbers(store)?;
    for number in promise.may_go + 1..=promise.durable {
        if !found.contains_key(&number) {
            return Err(format!("{number} was durable and is lost: {damages:?}"));
        }
    }
    match found
        .iter()
        .find(|(number, n)| **n != 1 || **number > promise.taken + 1)
    {
        Some((number, n)) => Err(format!("{number} is there {n} times")),
        None => Ok((found.len(), damages)),
    }
}

/// Opens what a power cut left, as the next boot does: reads, writes, compacts, verifies.
fn survives(folder: &Path, promise: Promise, left: Left) -> Result<(), String> {
    let store = store(folder);
    let (before, damages) = kept(&store, promise)?;
    // What is there in whole or not at all is no damage.
    let is_clean = matches!(left, Left::None | Left::All);
    if is_clean && !promise.is_damaged && !damages.is_empty() {
        return Err(format!("told without cause: {damages:?}"));
    }
    let told = |what: &str, error: &dyn std::fmt::Debug| format!("{what}: {error:?}");
    let mut recorder =
        Recorder::open(store.clone(), host()).map_err(|error| told("open", &error))?;
    let next = promise.taken + 2;
    let pushed = recorder.push(&tick(next), true);
    pushed.map_err(|error| told("push", &error))?;
    let next = Promise {
        taken: next,
        ..promise
    };
    store.compact().map_err(|error| told("compact", &error))?;
    let (after, _) = kept(&store, next)?;
    if after != before + 1 && promise.may_go == 0 {
        return Err(format!("{before} ticks, and {after} when compacted"));
    }
    let broken = store
        .verify()
        .map_err(|error| told("verify", &error))?
        .broken;
    // A log whose first block was being written cannot be read, and stays until it is repaired.
    if is_clean && !broken.is_empty() {
        return Err(format!("broken: {broken:?}"));
    }
    drop(recorder);
    Ok(())
}

/// The log of the calls of a writer, and what it left.
fn logged(place: &Scratch) -> Option<(String, PathBuf)> {
    let (log, root) = (place.0.join("log"), place.0.join("disk"));
    fs::create_dir(&root).expect("a folder");
    let output = Command::new("strace")
        .args([
            "-f",
            "-qq",
            "-xx",
            "-s",
            "1000000",
            "-e",
            "signal=none",
            "-e",
            disk::CALLS,
        ])
        .arg("-o")
        .arg(&log)
        .arg(std::env::current_exe().expect("the test binary"))
        .args(["--exact", "power::writing_child", "--nocapture"])
        .env("AIOPS_TEST_POWER", &root)
        .output();
    let said = match output {
        Ok(output) if output.status.success() => {
            let said = String::from_utf8_lossy(&output.stdout);
            assert!(said.contains("\nEND\n"), "{said}");
            return Some((fs::read_to_string(&log).expect("a log"), root));
        }
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => format!("strace: {error}"),
    };
    assert!(!said.contains("panicked"), "{said}");
    let required = std::env::var_os("AIOPS_REQUIRE_BPF").is_some_and(|value| value == "1");
    assert!(!required, "{said}");
    println!("SKIPPED: strace does not run: {said}");
    None
}

#[test]
fn a_power_cut_at_any_step_loses_nothing_that_was_durable() {
    let place = Scratch::new();
    let Some((log, root)) = logged(&place) else {
        return;
    };
    let shm = Path::new("/dev/shm");
    // States are many and small: they are not for a disk.
    let states = Scratch::at(shm, "it").unwrap_or_else(|_| Scratch::new());
    let folder = states.0.join("state");
    let is_long = std::env::var_os("AIOPS_LONG").is_some();
    let (mut dice, mut seen) = (Dice(7), HashSet::new());
    let (mut steps, mut failures) = (0, Vec::new());
    let end = Disk::replay(&log, &root, |said, disk| {
        steps += 1;
        let promise = Promise::of(said);
        let mut ways = vec![Left::None, Left::All];
        if is_long {
            ways.extend([Left::Names, Left::Zeros]);
            ways.extend([Left::Some, Left::Any].repeat(8));
        } else {
            let by_turns = [Left::Names, Left::Some, Left::Zeros, Left::Any];
            ways.push(by_turns[steps % 4]);
        }
        for left in ways {
            let mut tree = disk.left(left, &mut dice);
            // A tmpfs is empty after a power cut; tails may also stand on a disk, where there is none.
            if matches!(left, Left::None | Left::Names | Left::Zeros) || dice.roll(2) == 0 {
                tree.retain(|path, _| !path.starts_with("tails") && !path.starts_with("tails2"));
            }
            let mut hasher = DefaultHasher::new();
            (&tree, promise).hash(&mut hasher);
            if !seen.insert(hasher.finish()) {
                continue;
            }
            disk::write(&tree, &folder);
            if let Err(why) = survives(&folder, promise, left) {
                let failure = format!("step {steps}, {left:?}, {promise:?}: {why}");
                println!("{failure}");
                failures.push(failure);
            }
            fs::remove_dir_all(&folder).expect("it goes");
        }
    });
    // The model is true: it has what the disk has.
    let now = end.left(Left::All, &mut dice);
    assert!(now == disk::read(&root), "the model is another disk");
    println!(
        "{} states of {steps} steps, {} failures",
        seen.len(),
        failures.len()
    );
    let shown = failures.len().min(30);
    assert!(failures.is_empty(), "{}", failures[..shown].join("\n"));
    assert!(seen.len() > 500, "{} states", seen.len());
}
