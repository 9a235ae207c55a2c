//! Whole reports: read these before changing the layout.

use serde_json::Value;

use super::sample;
use super::*;
use crate::render;
use crate::render::Format;
use crate::render::escape;
use crate::report::oom::LoggedKill;

fn style(lang: Lang, width: usize) -> Style {
    Style {
        lang,
        color: false,
        width,
        unicode: true,
    }
}

fn text(report: &Report<OomData>, style: &Style) -> String {
    render::report(report, Format::Text, style).unwrap()
}

/// `AIOPS_ACCEPT=1` writes the file anew: read the difference before committing it.
fn expect(actual: &str, file: &str) {
    let path = format!(
        "{}/src/render/oom/expected/{file}",
        env!("CARGO_MANIFEST_DIR")
    );
    if std::env::var_os("AIOPS_ACCEPT").is_some() {
        std::fs::write(&path, actual).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    assert_eq!(actual, expected, "\n{actual}");
}

#[test]
fn one_incident_reads_well_in_both_languages() {
    let report = sample::report(vec![sample::incident()]);
    expect(&text(&report, &style(Lang::En, 100)), "one.en.txt");
    expect(&text(&report, &style(Lang::Zh, 80)), "one.zh.txt");
}

#[test]
fn many_incidents_are_a_table_and_the_last_kill() {
    let text = text(&group_report(), &style(Lang::En, 80));
    expect(&text, "many.en.txt");
    assert!(
        text.contains("Number 2 of 3 in full:") && text.contains("worker-2"),
        "{text}"
    );
}

#[test]
fn nothing_happened_is_a_short_report() {
    let ascii = Style {
        unicode: false,
        ..style(Lang::En, 80)
    };
    let text = text(&sample::report(vec![]), &ascii);
    expect(&text, "none.ascii.txt");
    assert!(
        text.contains("Watched for 5m 00s") && text.contains("all agree"),
        "{text}"
    );
}

#[test]
fn no_line_is_wider_than_the_terminal() {
    for report in [
        sample::report(vec![sample::incident()]),
        group_report(),
        hostile_report(),
        empty_report(),
    ] {
        for width in [40, 60, 80, 100] {
            for lang in [Lang::En, Lang::Zh] {
                for unicode in [true, false] {
                    let style = Style {
                        unicode,
                        ..style(lang, width)
                    };
                    for line in text(&report, &style).lines() {
                        assert_eq!(super::super::width::width(line), width, "{line}");
                    }
                    let live = live(&report.data.incidents[0], &style);
                    assert!(
                        live.lines()
                            .all(|line| super::super::width::width(line) <= width),
                        "{live}"
                    );
                }
            }
        }
    }
}

const EVIL: &str = "\x1b[31mevil\n\r\u{9b}2J\u{202e}gnp\u{2066}\u{200b}";

fn hostile_report() -> Report<OomData> {
    let mut incident = sample::incident();
    let evil = || Some(EVIL.to_owned());
    let kill = &mut incident.kills[0];
    kill.comm = EVIL.to_owned();
    (kill.cmdline, kill.exe, kill.cgroup) = (evil(), evil(), evil());
    incident.trigger.comm = evil();
    incident.trigger.is_victim = Some(false);
    (incident.trigger.cmdline, incident.trigger.cgroup) = (evil(), evil());
    (incident.oom_memcg, incident.task_memcg) = (evil(), evil());
    incident.why.candidates[0].comm = EVIL.to_owned();
    incident.why.summary = vec![msg!("{EVIL}", "{EVIL}")];
    incident.stacks.trigger_user[1].function = evil();
    incident.stacks.trigger_user[2].module = evil();
    incident.timeline[0].comm = evil();
    incident.kernel_text = vec![format!("Killed process 1 ({EVIL})")];
    let mut report = sample::report(vec![incident.clone(), incident]);
    report.host.hostname = EVIL.to_owned();
    report.data.notes = vec![EVIL.to_owned()];
    report.data.reconciliation.not_captured = vec![LoggedKill {
        pid: 7,
        comm: EVIL.to_owned(),
        at: None,
    }];
    report.accounting.missing_hooks = vec![EVIL.to_owned()];
    report
}

#[test]
fn hostile_names_never_reach_the_terminal() {
    let report = hostile_report();
    for format in [Format::Text, Format::Json, Format::Jsonl] {
        let text = render::report(&report, format, &style(Lang::En, 100)).unwrap();
        for line in text.lines() {
            assert!(!line.chars().any(escape::is_hostile), "{line:?}");
        }
    }
    let live = live(&report.data.incidents[0], &style(Lang::En, 100));
    assert!(
        !live
            .lines()
            .any(|line| line.chars().any(escape::is_hostile)),
        "{live:?}"
    );
    assert!(live.contains("\\x1b[31mevil\\n"), "{live}");
}

fn empty_report() -> Report<OomData> {
    let kills = vec![Kill {
        pid: 1234,
        comm: "x".to_owned(),
        ..Kill::default()
    }];
    sample::report(vec![Incident {
        killer: "kernel",
        outcome: "killed",
        kills,
        ..Incident::default()
    }])
}

#[test]
fn unknown_is_never_zero() {
    let text = text(&empty_report(), &style(Lang::En, 80));
    for line in [
        "OOM time: –",
        "Memory: – (RSS)",
        "oom_score: – (oom_score_adj –)",
        "Available: –",
        "Swap: – / –",
    ] {
        assert!(text.contains(line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("0 KiB"), "{text}");
}

#[test]
fn an_exiting_process_is_not_called_killed() {
    let incident = Incident {
        outcome: "already-exiting",
        ..sample::incident()
    };
    let said = live(&incident, &style(Lang::En, 100))
        + &text(&sample::report(vec![incident]), &style(Lang::En, 100));
    assert!(said.contains("was exiting already, not killed"), "{said}");
    assert!(!said.contains("Killed process:"), "{said}");
}

#[test]
fn ascii_is_ascii() {
    let style = Style {
        unicode: false,
        ..style(Lang::En, 80)
    };
    for report in [
        sample::report(vec![sample::incident()]),
        group_report(),
        empty_report(),
    ] {
        let text = text(&report, &style);
        assert!(
            text.is_ascii(),
            "{:?}",
            text.chars().filter(|c| !c.is_ascii()).collect::<String>()
        );
    }
}

#[test]
fn json_has_every_key_of_an_incident() {
    const KEYS: &str = "killer id time at at_source trigger constraint scope oom_memcg task_memcg memcg_limit_kb \
        memcg_usage_kb mem_total_kb mem_free_kb mem_available_kb cached_kb swap_total_kb swap_free_kb task_rows kills \
        group_kill killed_cgroup outcome cause stacks before timeline sources why";
    const KILL: &str = "pid comm uid total_vm_kb anon_rss_kb file_rss_kb shmem_rss_kb swap_kb pgtables_kb \
        oom_score_adj score cmdline container";
    const TRIGGER: &str = "comm pid gfp_mask gfp_flags order oom_score_adj";
    let has = |value: &Value, keys: &str| {
        for key in keys.split_whitespace() {
            assert!(value.get(key).is_some(), "{key}");
        }
    };
    let text = render::report(&empty_report(), Format::Json, &style(Lang::En, 80)).unwrap();
    let report: Value = serde_json::from_str(&text).unwrap();
    has(
        &report,
        "schema version generated_at host data findings accounting",
    );
    let incident = &report["data"]["incidents"][0];
    has(incident, KEYS);
    has(&incident["kills"][0], KILL);
    has(&incident["trigger"], TRIGGER);
    has(&incident["cause"], "class evidence");
    has(
        &incident["stacks"],
        "trigger_kernel trigger_user victim_user",
    );
    has(
        &report["accounting"],
        "seen lost map_full stack_truncated stack_collisions sampling complete",
    );
    assert_eq!(
        report["findings"][0]["title"],
        "mysqld grew until its cgroup reached the limit"
    );
}

#[test]
fn lines_of_json_are_records() {
    let report = group_report();
    let incident = render::incident_line(&report.data.incidents[1], Lang::Zh).unwrap();
    let last = render::report(&report, Format::Jsonl, &style(Lang::Zh, 80)).unwrap();
    for (text, kind) in [(&incident, "incident"), (&last, "report")] {
        assert_eq!(text.matches('\n').count(), 1);
        let value: Value = serde_json::from_str(text).unwrap();
        assert_eq!(value["type"], kind);
    }
    let value: Value = serde_json::from_str(&last).unwrap();
    assert_eq!(
        value["findings"][0]["title"],
        "mysqld 内存持续增长，直到其 cgroup 达到限额"
    );
}

fn group_report() -> Report<OomData> {
    let mut group = sample::incident();
    group.group_kill = Some(true);
    group.kills = (0..3)
        .map(|i| Kill {
            pid: 4000 + i,
            comm: format!("worker-{i}"),
            cmdline: Some("/srv/app/worker --queue jobs".to_owned()),
            kernel: None,
            ..sample::kill()
        })
        .collect();
    let mut exiting = sample::incident();
    exiting.outcome = "already-exiting";
    sample::report(vec![sample::incident(), group, exiting])
}
