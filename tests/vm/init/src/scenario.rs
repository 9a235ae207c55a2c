//! The scenarios: one OOM kill of each kind. What each expects is in `xtask/src/vm/check.rs`.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::child::{Eater, Order};
use crate::frames::Frames;
use crate::setup::{self, CGROUPS};
use crate::tracer::Tracer;

/// For the kernel to kill, emulated on a busy machine.
const KILL: Duration = Duration::from_secs(40);

/// What a scenario leaves: who had to die, first the one that ran out of memory or was chosen.
type Victims = Vec<Eater>;

/// Runs the scenario that the kernel's command line names, and sends all that was said.
pub(crate) fn run(frames: &mut Frames) -> anyhow::Result<()> {
    // Words of the kernel's command line that it does not know become the environment of process 1.
    let name = std::env::var("scenario").context("no scenario=NAME on the command line")?;
    let provoke: fn() -> anyhow::Result<Victims> = match name.as_str() {
        "global" => global,
        "group" => group,
        "other" => other,
        "v1" => v1,
        "nobtf" => one_in_cgroup2,
        "boot" => return frames.send("facts", b"booted\n"),
        "numa" | "plane" | "pressure" | "risk" | "stalls" | "capture" => {
            return crate::plane::run(&name, frames);
        }
        unknown => bail!("unknown scenario {unknown}"),
    };
    if name != "v1" {
        setup::cgroup2()?;
    } else if !setup::cgroup1_memory()? {
        let why = "this kernel has no cgroup v1 memory controller (CONFIG_MEMCG_V1)";
        return frames.send("skip", why.as_bytes());
    }
    // One scenario leaves tracefs to aiops, as a minimal container would.
    if name != "group" {
        setup::tracefs()?;
    }
    let environment: &[(&str, &str)] = match name.as_str() {
        "nobtf" => &[("AIOPS_NO_BTF", "1")],
        _ => &[],
    };
    let tracer = Tracer::start(environment)?;
    // The sampler is to have seen the machine before anything grows.
    std::thread::sleep(Duration::from_secs(2));
    let outcome = provoke();
    // Also without a kill: what aiops then says helps to find out why.
    let finished = tracer.finish(frames);
    let victims = outcome?;
    let mut list = String::new();
    for victim in &victims {
        list.push_str(&format!("{} {}\n", victim.child.id(), victim.name));
    }
    frames.send("victims", list.as_bytes())?;
    finished
}

/// The whole machine runs out; others are left, or the kernel would give up. More than one, for it may kill
/// again before the first victim's pages are free.
fn global() -> anyhow::Result<Victims> {
    let ballast = (0..6).map(|_| order("ballast", None, 0, 4).start());
    let _ballast: Vec<Eater> = ballast.collect::<anyhow::Result<_>>()?;
    let mut grower = order("grower", None, 0, 0).start()?;
    grower.wait_killed(KILL)?;
    Ok(vec![grower])
}

/// A group of three that dies as one.
fn group() -> anyhow::Result<Victims> {
    let procs = cgroup2("together", 96)?;
    write(&format!("{CGROUPS}/together/memory.oom.group"), "1")?;
    let mut victims = vec![
        order("keeper", Some(&procs), 0, 8).start()?,
        order("helper", Some(&procs), 0, 4).start()?,
    ];
    victims.insert(0, order("grower", Some(&procs), 0, 0).start()?);
    for victim in &mut victims {
        victim.wait_killed(KILL)?;
    }
    Ok(victims)
}

/// A large sleeper that is chosen (oom_score_adj 500) when a small process meets the limit.
fn other() -> anyhow::Result<Victims> {
    let procs = cgroup2("shared", 128)?;
    let mut sleeper = order("sleeper", Some(&procs), 500, 64).start()?;
    // 64 + 96 do not fit in 128, but 96 do once the sleeper is gone: one kill.
    let _grower = order("grower", Some(&procs), 0, 96).start()?;
    sleeper.wait_killed(KILL)?;
    Ok(vec![sleeper])
}

/// The limit of a group of the old hierarchy.
fn v1() -> anyhow::Result<Victims> {
    let group = format!("{CGROUPS}/memory/old");
    fs::create_dir(&group)?;
    write(&format!("{group}/memory.limit_in_bytes"), &bytes(64))?;
    let procs = format!("{group}/cgroup.procs");
    let mut grower = order("grower", Some(&procs), 0, 0).start()?;
    grower.wait_killed(KILL)?;
    Ok(vec![grower])
}

fn one_in_cgroup2() -> anyhow::Result<Victims> {
    let procs = cgroup2("single", 64)?;
    let mut grower = order("grower", Some(&procs), 0, 0).start()?;
    grower.wait_killed(KILL)?;
    Ok(vec![grower])
}

/// Makes a group with a limit; its cgroup.procs.
pub(crate) fn cgroup2(name: &str, limit_mib: u64) -> anyhow::Result<String> {
    let group = format!("{CGROUPS}/{name}");
    fs::create_dir(&group).with_context(|| format!("cannot create {group}"))?;
    write(&format!("{group}/memory.max"), &bytes(limit_mib))?;
    Ok(format!("{group}/cgroup.procs"))
}

pub(crate) fn order<'a>(name: &'a str, procs: Option<&'a str>, adj: i32, mib: u64) -> Order<'a> {
    Order {
        name,
        procs,
        adj,
        mib,
    }
}

pub(crate) fn bytes(mib: u64) -> String {
    (mib << 20).to_string()
}

pub(crate) fn write(path: &str, value: &str) -> anyhow::Result<()> {
    fs::write(path, value).with_context(|| format!("cannot write {path}"))
}
