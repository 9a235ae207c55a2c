//! `query memory` with several keys and with `--compare`, on stores that the test writes.

use crate::query::History;
use crate::query::rss;
use crate::query::time;

/// The totals of a group at each tick of a range.
#[cfg(feature = "frames")]
fn totals(pids: &[u32], from: u64, to: u64) -> Vec<u64> {
    let ticks = (0..10_800_u64)
        .step_by(10)
        .filter(|at| (from..to).contains(at));
    let total = |at| pids.iter().filter_map(|pid| rss(*pid, at)).sum();
    ticks.map(total).collect()
}

#[cfg(feature = "frames")]
fn average(totals: &[u64]) -> f64 {
    totals.iter().sum::<u64>() as f64 / totals.len() as f64
}

#[cfg(feature = "frames")]
fn near(value: &serde_json::Value, wanted: f64) {
    let value = value.as_f64().expect("a number");
    assert!(
        (value - wanted).abs() <= wanted.abs() * 1e-12,
        "{value} is not {wanted}"
    );
}

/// Rows of a report by the name in their group.
#[cfg(feature = "frames")]
fn row<'a>(report: &'a serde_json::Value, comm: &str) -> &'a serde_json::Value {
    let rows = report["data"]["rows"].as_array().expect("rows");
    let mut rows = rows.iter();
    rows.find(|row| row["group"]["comm"] == comm)
        .expect("a row")
}

#[cfg(feature = "frames")]
#[test]
fn groups_by_two_keys_are_exact_and_steps_are_a_wide_table() {
    let history = History::new("frames-keys", 3, 0..0);
    for (from, to) in [(0, 10_800), (5, 3606), (1795, 9005), (9000, 10_790)] {
        let (start, end) = (time(from), time(to));
        let args = ["--group-by", "comm,user", "--start", &start, "--end", &end];
        let report = history.report(&args);
        assert_eq!(report["schema"], "aiops.query-memory-groups/1");
        assert_eq!(report["accounting"]["complete"], true);
        for (comm, user, pids) in [("web", "www", &[10, 11][..]), ("db", "postgres", &[20][..])] {
            let row = row(&report, comm);
            let wanted = totals(pids, from, to);
            assert_eq!(row["group"]["user"], user);
            near(&row["avg"], average(&wanted));
            assert_eq!(row["max"].as_u64(), wanted.iter().max().copied());
            assert_eq!(row["first"].as_u64(), wanted.first().copied());
            assert_eq!(row["last"].as_u64(), wanted.last().copied());
        }
    }
    let (start, end) = (time(0), time(10_800));
    let mut args = vec!["--group-by", "user,comm", "--start", &start, "--end", &end];
    args.extend(["--step", "1h", "-o", "csv"]);
    let csv = history.text(&args);
    let lines: Vec<Vec<&str>> = csv.lines().map(|line| line.split(',').collect()).collect();
    assert_eq!(lines.len(), 3, "{csv}");
    assert_eq!(lines[0][..2], ["user", "comm"]);
    let web = lines.iter().find(|line| line[1] == "web").expect("web");
    let steps: Vec<f64> = web[11..]
        .iter()
        .map(|cell| cell.parse().expect("a number"))
        .collect();
    let wanted = [0, 3600, 7200].map(|from| average(&totals(&[10, 11], from, from + 3600)));
    assert_eq!(steps.len(), 3, "{csv}");
    for (step, wanted) in steps.iter().zip(wanted) {
        near(&(*step).into(), wanted);
    }
}

/// A key that is named twice goes to frames, one that is named once to the fast path: both answer the same.
#[cfg(feature = "frames")]
#[test]
fn frames_and_the_fast_path_are_of_one_mind() {
    let history = History::new("frames-same", 3, 0..0);
    for (from, to) in [(0, 10_800), (1795, 9005), (9000, 10_790)] {
        let (start, end) = (time(from), time(to));
        let range = ["--start", &start, "--end", &end, "--agg", "p95"];
        let ask =
            |keys: &'static str| history.report(&[&["--group-by", keys][..], &range].concat());
        let (fast, frames) = (ask("comm"), ask("comm,comm"));
        assert_eq!(fast["schema"], "aiops.query-memory/1");
        let rows = fast["data"]["rows"].as_array().expect("rows");
        assert_eq!(
            Some(rows.len()),
            frames["data"]["rows"].as_array().map(Vec::len)
        );
        for one in rows {
            let other = row(&frames, one["name"].as_str().expect("a name"));
            assert_eq!(one["processes"], other["processes"]);
            for name in ["avg", "max", "p95", "first", "last", "growth"] {
                let wanted = one[format!("{name}_kb")].as_f64().expect("a number");
                near(&other[name], wanted);
            }
        }
    }
    // Nor do they differ about a range of which nothing is known.
    let (start, end) = (time(36_000), time(39_600));
    let ask = |keys: &'static str| {
        history.report(&["--group-by", keys, "--start", &start, "--end", &end])
    };
    assert_eq!(ask("comm")["findings"], ask("comm,comm")["findings"]);
}

#[cfg(feature = "frames")]
#[test]
fn two_hours_beside_each_other_say_what_grew() {
    let history = History::new("frames-compare", 3, 0..0);
    let (start, end) = (time(7200), time(10_800));
    let mut args = vec!["--group-by", "comm", "--start", &start, "--end", &end];
    args.extend(["--compare", "2h"]);
    let report = history.report(&args);
    assert_eq!(report["schema"], "aiops.query-memory-compare/1");
    let growth =
        |pids: &[u32]| average(&totals(pids, 7200, 10_800)) - average(&totals(pids, 0, 3600));
    near(&row(&report, "web")["growth"], growth(&[10, 11]));
    assert_eq!(row(&report, "db")["growth"], 0.0);
    assert_eq!(row(&report, "web")["share_pct"], 100.0);
    let text = history.text(&args);
    assert!(text.contains("100.0%"), "{text}");
    // A range that nobody recorded: one error, with what is there.
    args.extend(["--lang", "en"]);
    let last = args
        .iter()
        .position(|arg| *arg == "2h")
        .expect("it is there");
    args[last] = "48h";
    let output = history.command(&args).output().expect("it starts");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(
        error.contains("no history from") && error.contains("the store knows"),
        "{error}"
    );
}

#[cfg(not(feature = "frames"))]
#[test]
fn a_build_without_frames_says_which_has_them() {
    let history = History::new("frames-none", 1, 0..0);
    let (start, end) = (time(0), time(3600));
    let args = ["--group-by", "comm,user", "--start", &start, "--end", &end];
    let output = history.command(&args).output().expect("it starts");
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("hint: group by one key"), "{error}");
    assert!(output.stdout.is_empty() && rss(10, 0).is_some());
    // Its help speaks of nothing that it cannot do.
    let help = crate::support::stdout(&["query", "memory", "--help"]);
    assert!(help.contains("--group-by <KEY>"), "{help}");
    assert!(
        !help.contains("--compare") && !help.contains(",user"),
        "{help}"
    );
}
