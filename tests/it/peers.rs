//! The system's own tools beside the reports: vmstat (8), slabtop, numastat, smem. `free`, `ps` and `pmap` are in
//! `collect`, `processes` and `inspect`; the swap rates of vmstat in `swap`.
//!
//! Other programs move the host's figures: what is compared is what the tool says before and after, again and
//! again until it fits. A wrong figure never fits.

use std::collections::HashMap;

use serde_json::Value;

use crate::collect::Holders;
use crate::collect::agrees;
use crate::support::json;
use crate::support::no_swap;
use crate::support::peer;
use crate::support::settle;
use crate::support::stdout;
use crate::support::want;

fn data(args: &[&str]) -> Value {
    json(&stdout(&[args, &["-q", "-o", "json"]].concat()))["data"].take()
}

/// Columns of the only row of `vmstat`.
fn vmstat() -> Option<HashMap<String, u64>> {
    let text = peer("vmstat", &["-n"])?;
    let mut lines = text.lines().skip(1);
    let names = lines.next()?.split_whitespace().map(str::to_owned);
    let values = lines.next()?.split_whitespace();
    Some(
        names
            .zip(values.filter_map(|word| word.parse().ok()))
            .collect(),
    )
}

#[test]
fn sizes_are_those_of_vmstat() {
    let _no_swap = no_swap();
    let Some(_) = vmstat() else { return };
    settle("vmstat (8)", || {
        let before = vmstat().expect("vmstat");
        let system = data(&["collect", "memory", "--duration", "0"])["system"].take();
        let after = vmstat().expect("vmstat");
        let kb = |key: &str| {
            system[key]
                .as_u64()
                .unwrap_or_else(|| panic!("{key}: {system}"))
        };
        for (column, ours) in [
            ("swpd", kb("swap_used_kb")),
            ("free", kb("mem_free_kb")),
            ("buff", kb("buffers_kb")),
            ("cache", kb("cached_kb") + kb("sreclaimable_kb")),
        ] {
            let (before, after) = (before[column], after[column]);
            want!(
                agrees(before, after, after, 0.01),
                "the host moves: {column} {before} {after}"
            );
            want!(
                agrees(ours, before, after, 0.005),
                "{column}: {ours}, vmstat {before} {after}"
            );
        }
        Ok(())
    });
}

/// Name, objects and KiB of the largest caches, as slabtop has them, largest first.
fn slabtop() -> Option<Vec<(String, u64, u64)>> {
    let text = peer("slabtop", &["-o", "-s", "c"])?;
    let rows = text.lines().filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        // OBJS ACTIVE USE OBJ-SIZE SLABS OBJ/SLAB CACHE-SIZE NAME
        let [objects, _, _, _, _, _, size, name] = words[..] else {
            return None;
        };
        let size = size.strip_suffix('K')?.parse().ok()?;
        Some((name.to_owned(), objects.parse().ok()?, size))
    });
    Some(rows.collect())
}

#[test]
fn the_largest_caches_are_those_of_slabtop() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: slabtop needs root");
        return;
    }
    let _no_swap = no_swap();
    let Some(_) = slabtop() else { return };
    settle("slabtop", || {
        let before = slabtop().expect("slabtop");
        let slab = data(&["inspect", "cache", "--interval", "0"])["slab"].take();
        let after = slabtop().expect("slabtop");
        let rows = slab.as_array().expect("slab");
        want!(before.len() >= 10, "slabtop lists {before:?}");
        for (name, objects, size) in &before[..5] {
            let row = rows.iter().find(|row| row["name"] == name.as_str());
            let row = row.unwrap_or_else(|| panic!("no cache {name}"));
            let then = after.iter().find(|row| row.0 == *name);
            let then = then.ok_or_else(|| format!("{name} is no longer among the first"))?;
            for (key, from, to) in [("objects", *objects, then.1), ("size_kb", *size, then.2)] {
                let ours = row[key].as_u64().expect(key);
                want!(
                    agrees(ours, from, to, 0.01),
                    "{key} of {name}: {ours}, slabtop {from} {to}"
                );
            }
            let place = rows.iter().position(|row| row["name"] == name.as_str());
            want!(place < Some(10), "{name} is not among our first: {place:?}");
        }
        Ok(())
    });
}

/// A counter of each node, as numastat has it.
fn numastat(counter: &str) -> Option<Vec<u64>> {
    let text = peer("numastat", &[])?;
    let line = text.lines().find_map(|line| line.strip_prefix(counter))?;
    Some(
        line.split_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect(),
    )
}

#[test]
fn nodes_are_those_of_numastat() {
    let Some(first) = numastat("numa_hit") else {
        return;
    };
    settle("numastat", || {
        for key in [
            "numa_hit",
            "numa_miss",
            "numa_foreign",
            "local_node",
            "other_node",
        ] {
            let before = numastat(key).expect("numastat");
            let data = data(&["inspect", "processes", "--budget", "0"]);
            let after = numastat(key).expect("numastat");
            let nodes = data["nodes"].as_array().expect("nodes");
            assert_eq!(nodes.len(), first.len());
            for ((node, before), after) in nodes.iter().zip(before).zip(after) {
                let ours = node[key].as_u64().expect(key);
                want!(
                    (before..=after).contains(&ours),
                    "{key}: {ours}, numastat {before} {after}"
                );
            }
        }
        Ok(())
    });
}

/// Columns of smem by process: PSS, USS, RSS, swap.
fn smem() -> Option<HashMap<u64, [u64; 4]>> {
    let text = peer("smem", &["-H", "-c", "pid pss uss rss swap"])?;
    let rows = text.lines().filter_map(|line| {
        let words: Vec<u64> = line
            .split_whitespace()
            .filter_map(|word| word.parse().ok())
            .collect();
        let [pid, pss, uss, rss, swap] = words[..] else {
            return None;
        };
        Some((pid, [pss, uss, rss, swap]))
    });
    Some(rows.collect())
}

#[test]
fn shares_are_those_of_smem() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: smem needs root to see all processes");
        return;
    }
    let _no_swap = no_swap();
    let Some(_) = smem() else { return };
    let holders = Holders::start(8, |index| (index + 1) * 3072, None);
    settle("smem", || {
        let before = smem().expect("smem");
        let ours = data(&["inspect", "processes", "--budget", "100%"]);
        let rows = ours["processes"].as_array().expect("rows");
        for (child, kb) in &holders.0 {
            let pid = u64::from(child.id());
            let row = rows.iter().find(|row| row["pid"].as_u64() == Some(pid));
            let row = row.unwrap_or_else(|| panic!("no process {pid}"));
            let theirs = before.get(&pid).expect("smem lists it");
            for (key, theirs) in ["pss_kb", "uss_kb", "rollup_rss_kb", "swap_kb"]
                .into_iter()
                .zip(*theirs)
            {
                // smem adds up what smaps rounds, a few KiB for each mapping of a kind.
                let ours = row[key]
                    .as_u64()
                    .ok_or_else(|| format!("no {key}: {row}"))?;
                want!(
                    ours.abs_diff(theirs) <= 64.max(theirs / 50),
                    "{key} of {pid}: {ours}, smem {theirs}"
                );
            }
            let uss = row["uss_kb"].as_u64().unwrap_or(0) + row["swap_kb"].as_u64().unwrap_or(0);
            want!(uss >= *kb, "{pid} holds {kb} of its own: {row}");
        }
        Ok(())
    });
}
