//! A judge that cannot say no is none: each thing that may go wrong is tried.

use serde_json::json;

use super::*;

const LOG: &str = "3,1,2,-;Memory cgroup out of memory: Killed process 71 (sleeper) \
                   total-vm:70000kB, anon-rss:65000kB, file-rss:400kB, shmem-rss:0kB, UID:0 \
                   pgtables:172kB oom_score_adj:500\n";
const FACTS: &str = "live_exit exit status: 0\nreplay_exit exit status: 0\nvm_hwm_kb 9000\n\
                     recording_bytes 100\n";

fn report() -> Value {
    json!({
        "generated_at": "then",
        "data": {
            "incidents": [{
                "killer": "kernel", "outcome": "killed", "scope": "memcg", "constraint": "memcg",
                "group_kill": false,
                "trigger": {"pid": 72, "is_victim": false},
                "kills": [{
                    "pid": 71, "comm": "sleeper", "total_vm_kb": 70000, "anon_rss_kb": 65000,
                    "file_rss_kb": 400, "shmem_rss_kb": 0, "pgtables_kb": 172, "oom_score_adj": 500,
                }],
            }],
            "reconciliation": {"counted": 1, "captured": 1, "missed": 0, "agrees": true},
        },
    })
}

fn verdict(live: &Value, replay: &Value) -> anyhow::Result<String> {
    let mut frames = Frames::new();
    frames.insert("live".into(), live.to_string().into_bytes());
    frames.insert("replay".into(), replay.to_string().into_bytes());
    frames.insert("facts".into(), FACTS.into());
    frames.insert("victims".into(), b"71 sleeper\n".to_vec());
    frames.insert("kmsg".into(), LOG.into());
    check("other", &frames)
}

fn verdict_with(path: &str, value: Value) -> anyhow::Result<String> {
    let mut live = report();
    *live.pointer_mut(path).expect("a place of the report") = value;
    verdict(&live, &live)
}

#[test]
fn a_right_report_passes_whenever_it_was_generated() {
    let mut replay = report();
    replay["generated_at"] = json!("later");
    assert!(verdict(&report(), &replay).is_ok());
}

#[test]
fn every_wrong_value_is_found() {
    let incident = "/data/incidents/0";
    for (place, value) in [
        ("/kills/0/comm", json!("keeper")),
        ("/kills/0/pid", json!(70)),
        ("/kills/0/oom_score_adj", json!(499)),
        ("/kills/0/anon_rss_kb", json!(64000)),
        ("/kills/0/total_vm_kb", json!(null)),
        ("/kills", json!([])),
        ("/scope", json!("global")),
        ("/group_kill", json!(true)),
        ("/trigger/is_victim", json!(true)),
    ] {
        assert!(
            verdict_with(&format!("{incident}{place}"), value).is_err(),
            "{place}"
        );
    }
    for (name, value) in [
        ("counted", json!(2)),
        ("captured", json!(0)),
        ("missed", json!(1)),
        ("agrees", json!(false)),
    ] {
        assert!(
            verdict_with(&format!("/data/reconciliation/{name}"), value).is_err(),
            "{name}"
        );
    }
}

#[test]
fn a_running_victim_may_differ_a_little_when_both_values_are_kept() {
    let mut live = report();
    live["data"]["incidents"][0]["kills"][0]["anon_rss_kb"] = json!(65128);
    assert!(
        verdict(&live, &live).is_err(),
        "the kernel's value is not there"
    );
    live["data"]["incidents"][0]["kills"][0]["kernel"] = json!({"anon_rss_kb": 65000});
    assert!(verdict(&live, &live).is_ok());
}

#[test]
fn a_victim_that_is_the_trigger_must_be_exact() {
    let mut live = report();
    live["data"]["incidents"][0]["trigger"]["pid"] = json!(71);
    live["data"]["incidents"][0]["kills"][0]["anon_rss_kb"] = json!(65004);
    live["data"]["incidents"][0]["kills"][0]["kernel"] = json!({"anon_rss_kb": 65000});
    assert!(verdict(&live, &live).is_err());
}

#[test]
fn a_replay_that_differs_is_found_and_named() {
    let mut replay = report();
    replay["data"]["incidents"][0]["kills"][0]["uid"] = json!(0);
    let error = verdict(&report(), &replay).expect_err("one has more");
    assert!(format!("{error:#}").contains("/data/incidents/0/kills/0/uid"));
}

#[test]
fn a_group_kill_may_be_counted_as_often_as_it_is_logged_but_not_more() {
    let reconciliation =
        |counted: u64| json!({"counted": counted, "captured": 3, "missed": 0, "agrees": true});
    assert!(check_reconciliation(&reconciliation(3), 3, 4).is_ok());
    assert!(check_reconciliation(&reconciliation(4), 3, 4).is_ok());
    assert!(check_reconciliation(&reconciliation(5), 3, 4).is_err());
}
