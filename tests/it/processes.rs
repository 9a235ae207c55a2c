//! `inspect processes` against what ps and the kernel's own files say.

use std::collections::HashMap;
use std::os::unix::process::CommandExt as _;
use std::process::Child;
use std::process::Command;
use std::process::Stdio;

use serde_json::Value;

use crate::collect::Holders;
use crate::support::Cgroup;
use crate::support::aiops;
use crate::support::json;
use crate::support::no_swap;
use crate::support::run;
use crate::support::stdout;
use crate::support::until;

/// A child that ends with the test.
struct Kept(Child);

impl Drop for Kept {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn sleeper(name: &str) -> Kept {
    let child = Command::new("sleep")
        .arg0(name)
        .arg("300")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn();
    let child = Kept(child.expect("sleep starts"));
    // It grows no more when it sleeps.
    let file = |name: &str| {
        let path = format!("/proc/{}/{name}", child.0.id());
        std::fs::read_to_string(path).unwrap_or_default()
    };
    let mut before = String::new();
    until("it sleeps", || {
        let now = file("statm");
        let same = now == before && file("stat").contains("(sleep) S");
        before = now;
        same
    });
    child
}

fn data(args: &[&str]) -> Value {
    let all = [&["inspect", "processes", "-o", "json"], args].concat();
    json(&stdout(&all))["data"].take()
}

fn row(data: &Value, pid: u32) -> Option<&Value> {
    let rows = data["processes"].as_array().expect("rows");
    rows.iter().find(|row| row["pid"] == pid)
}

fn kb(value: &Value, key: &str) -> u64 {
    value[key]
        .as_u64()
        .unwrap_or_else(|| panic!("{key} of {value}"))
}

#[test]
fn resident_memory_is_that_of_ps_and_the_make_up_adds_up() {
    let kept = sleeper("sleep");
    let pid = kept.0.id();
    let data = data(&["--budget", "100%"]);
    let ps = Command::new("ps")
        .args(["-e", "-o", "pid=,rss=,nlwp="])
        .output();
    let own = row(&data, pid).expect("the child is listed");
    assert_eq!(own["comm"], "sleep");
    assert_eq!(own["processes"], 1);
    assert_eq!(own["cmdline"], "sleep 300");
    assert_eq!(
        own["node_kb"].is_null(),
        data["nodes"].as_array().map_or(0, Vec::len) < 2
    );
    let makeup = &own["makeup"];
    assert_eq!(makeup["source"], "status");
    let parts = kb(makeup, "anon_kb") + kb(makeup, "file_kb") + kb(makeup, "shmem_kb");
    assert_eq!(parts, kb(own, "rss_kb"));
    if rustix::process::geteuid().is_root() {
        assert!(
            kb(own, "pss_kb") <= kb(own, "rollup_rss_kb") && kb(own, "uss_kb") <= kb(own, "pss_kb")
        );
    }
    match ps {
        Ok(ps) => {
            let text = String::from_utf8_lossy(&ps.stdout).into_owned();
            let said: HashMap<u32, u64> = text
                .lines()
                .filter_map(|line| {
                    let mut words = line.split_whitespace();
                    Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
                })
                .collect();
            let theirs = said.get(&pid).copied().expect("ps lists it");
            let ours = kb(own, "rss_kb");
            assert!(
                ours.abs_diff(theirs) * 50 <= theirs.max(1),
                "{ours} and {theirs}"
            );
        }
        Err(error) => println!("SKIPPED: comparison with ps: {error}"),
    }
}

#[test]
fn the_parts_of_the_memory_are_the_whole() {
    let data = data(&["--budget", "0"]);
    let totals = &data["totals"];
    let parts = [
        "mem_free_kb",
        "file_cache_kb",
        "anon_kb",
        "shmem_kb",
        "swap_cache_kb",
        "slab_reclaimable_kb",
        "slab_unreclaimable_kb",
        "other_reclaimable_kb",
        "kernel_stack_kb",
        "page_tables_kb",
        "percpu_kb",
        "vmalloc_kb",
        "hugetlb_kb",
        "zswap_kb",
        "zram_kb",
        "unaccounted_kb",
    ];
    let sum: u64 = parts.iter().filter_map(|key| totals[*key].as_u64()).sum();
    let total = kb(totals, "mem_total_kb");
    assert_eq!(sum, total + kb(totals, "overcounted_kb"));
    assert!(kb(totals, "overcounted_kb") * 20 < total, "{totals}");
    assert_eq!(
        totals["processes_pss_kb"],
        Value::Null,
        "none was asked for"
    );
    let rows = data["processes"].as_array().expect("rows");
    let rss: u64 = rows.iter().filter_map(|row| row["rss_kb"].as_u64()).sum();
    assert_eq!(rss, kb(totals, "processes_rss_kb"));
    for node in data["nodes"].as_array().expect("nodes") {
        assert!(
            kb(node, "mem_total_kb") > 0 && kb(node, "mem_free_kb") <= kb(node, "mem_total_kb")
        );
        assert!(node["numa_hit"].is_u64() && node["numa_miss_per_s"].is_null());
    }
    let folders = std::fs::read_dir("/sys/devices/system/node").map_or(0, |entries| {
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        names
            .filter(|name| {
                name.strip_prefix("node")
                    .is_some_and(|id| id.parse::<u32>().is_ok())
            })
            .count()
    });
    assert_eq!(data["nodes"].as_array().map_or(0, Vec::len), folders);
}

#[test]
fn groups_have_the_limits_of_their_cgroup() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED: a memory cgroup needs root");
        return;
    }
    let Some(cgroup) = Cgroup::new(64 << 20) else {
        return;
    };
    let _no_swap = no_swap();
    // They end when their stdin does, and are in the group before they say that they are ready.
    let _children = Holders::start(2, |_| 4 << 10, Some(&cgroup));
    let path = cgroup.path.clone();
    let data = data(&["--by", "cgroup", "--cgroup", &path]);
    assert_eq!(data["groups"][0]["processes"], 2, "{data}");
    let group = &data["groups"][0];
    assert_eq!(group["name"], path.as_str());
    assert_eq!(group["pid"], Value::Null);
    assert_eq!(kb(&group["limits"], "limit_kb"), 64 << 10);
    assert_eq!(group["limits"]["path"], path.as_str());
    assert_eq!(group["bound_by"]["path"], path.as_str());
    assert!(kb(&group["limits"], "usage_kb") <= 64 << 10);
    let rows = data["processes"].as_array().expect("rows");
    let rss: u64 = rows.iter().map(|row| kb(row, "rss_kb")).sum();
    assert_eq!((rows.len(), rss), (2, kb(group, "rss_kb")));
    let cgroups = data["cgroups"].as_array().expect("cgroups");
    let own = cgroups
        .iter()
        .find(|row| row["path"] == path.as_str())
        .expect("listed");
    assert_eq!((kb(own, "processes"), kb(own, "processes_below")), (2, 2));
    assert!(own["limit_share"].as_f64() > Some(0.0));
    for args in [["--by", "user"], ["--group-by", "comm"]] {
        let text = stdout(&[&["inspect", "processes", "--cgroup", &path][..], &args].concat());
        assert!(text.contains("64 MiB"), "{text}");
    }
}

#[test]
fn text_fits_in_both_languages_and_names_do_no_harm() {
    let hostile = "evil\u{1b}[2J\nPID 内存 \u{202e}";
    let kept = sleeper(hostile);
    let pid = kept.0.id().to_string();
    for (lang, words) in [("en", "Where the memory went"), ("zh", "内存去向")] {
        for extra in [
            &["--pid", &pid][..],
            &["--by", "comm"],
            &["--by", "container"],
            &["--sort", "swap", "--top", "3"],
        ] {
            let mut command = aiops(&["--lang", lang, "inspect", "processes"]);
            let output = command
                .args(extra)
                .env("COLUMNS", "80")
                .env("LC_ALL", "C.UTF-8")
                .output();
            let output = output.expect("the program starts");
            assert!(output.status.success(), "{extra:?}");
            let text = String::from_utf8(output.stdout).expect("UTF-8");
            assert!(text.contains(words), "{text}");
            assert!(
                !text.contains('\u{1b}') && !text.contains('\u{202e}'),
                "{text}"
            );
            for line in text.lines() {
                assert_eq!(aiops::render::width::width(line), 80, "{line}");
            }
        }
    }
    let own = data(&["--pid", &pid]);
    assert_eq!(own["processes"].as_array().map(Vec::len), Some(1));
    assert!(
        own["processes"][0]["cmdline"]
            .as_str()
            .expect("text")
            .contains("evil")
    );
}

#[test]
fn wrong_choices_are_usage_errors_and_nobody_is_an_empty_list() {
    for args in [["--by", "colour"], ["--sort", "age"], ["--budget", "200%"]] {
        let output = run(&[&["inspect", "processes"][..], &args].concat());
        assert_eq!(output.status.code(), Some(2), "{args:?}");
    }
    let none = data(&["--comm", "no-such-name-xy"]);
    assert_eq!(none["processes"], Value::Array(Vec::new()));
    assert!(none["totals"]["processes_rss_kb"].is_null());
    assert!(stdout(&["inspect", "processes", "--comm", "no-such-name-xy"]).contains("memory"));
}

#[test]
fn two_readings_have_growth() {
    let kept = sleeper("sleep");
    let pid = kept.0.id();
    let data = data(&["--interval", "100ms", "--pid", &pid.to_string()]);
    assert!(row(&data, pid).expect("listed")["rss_change_kb"].is_i64());
    for node in data["nodes"].as_array().expect("nodes") {
        assert!(node["numa_hit_per_s"].is_f64(), "{node}");
    }
}
