//! The command line: help, usage errors, privileges, refusals.

use std::os::unix::process::CommandExt as _;

use crate::support::Scratch;
use crate::support::aiops;
use crate::support::can_trace;
use crate::support::json;
use crate::support::run;
use crate::support::stdout;

fn stderr(output: &std::process::Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn help_is_on_stdout_and_usage_errors_are_not() {
    for args in [
        &["--help"][..],
        &["trace", "oom", "--help"],
        &["replay", "-h"],
        &["doctor", "--help"],
    ] {
        assert!(stdout(args).contains("Usage:"), "{args:?}");
    }
    for args in [
        &[][..],
        &["trace"],
        &["frobnicate"],
        &["trace", "oom", "--duration", "5"],
        &["replay"],
    ] {
        let output = run(args);
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(output.stdout.is_empty(), "{args:?}");
    }
}

#[test]
fn an_unprivileged_user_gets_one_error_and_the_remedy() {
    if !can_trace() {
        return;
    }
    let place = Scratch::new();
    let copy = place.path("aiops");
    crate::support::copy_program(&copy);
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(&place.0, std::fs::Permissions::from_mode(0o755)).expect("readable");
    let output = std::process::Command::new(&copy)
        .args(["trace", "oom", "--duration", "1s"])
        .env("LC_ALL", "C.UTF-8")
        .uid(65534)
        .gid(65534)
        .output()
        .expect("the program starts");
    let errors = stderr(&output);
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert_eq!(
        errors
            .lines()
            .filter(|line| line.starts_with("error: "))
            .count(),
        1,
        "{errors}"
    );
    assert_eq!(
        errors
            .lines()
            .filter(|line| line.starts_with("hint: "))
            .count(),
        1,
        "{errors}"
    );
}

#[test]
fn what_is_no_recording_is_one_error() {
    let place = Scratch::new();
    let text = place.path("text");
    std::fs::write(&text, "hello\u{1b}[31m").expect("a file");
    let hostile = place.path("no\u{1b}[2J\nfile");
    for file in [&text, &hostile] {
        let output = run(&["replay", file]);
        let errors = stderr(&output);
        assert_eq!(output.status.code(), Some(1), "{errors}");
        assert!(errors.starts_with("error: "), "{errors}");
        assert!(!errors.contains('\u{1b}'), "{errors:?}");
        assert!(errors.lines().count() <= 2, "{errors}");
    }
}

#[test]
fn recordings_are_never_written_over_or_through_a_link() {
    if !can_trace() {
        return;
    }
    let place = Scratch::new();
    let file = place.path("old.aiops");
    std::fs::write(&file, "precious").expect("a file");
    let link = place.path("link.aiops");
    std::os::unix::fs::symlink(&file, &link).expect("a link");
    // What is no recording is not replaced by force either.
    for (target, force) in [(&file, false), (&file, true), (&link, false), (&link, true)] {
        let mut args = vec!["trace", "oom", "--duration", "0", "--record", target];
        if force {
            args.push("--force");
        }
        let output = run(&args);
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        assert_eq!(std::fs::read(&file).expect("the file"), b"precious");
    }
    std::fs::remove_file(&file).expect("the file goes");
    for more in [None, Some("--force")] {
        let mut args = vec!["trace", "oom", "--duration", "0", "--record", &file];
        args.extend(more);
        let output = run(&args);
        assert!(output.status.success(), "{}", stderr(&output));
    }
    use std::os::unix::fs::PermissionsExt as _;
    assert_eq!(
        std::fs::metadata(&file)
            .expect("a recording")
            .permissions()
            .mode()
            & 0o777,
        0o600
    );
    assert!(stdout(&["replay", &file]).contains("0"));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut child = aiops(&["doctor", "-o", "json"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("the program starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stderr(&output), "");
}

#[test]
fn the_doctor_finds_every_hook_here() {
    if !can_trace() {
        return;
    }
    let report = json(&stdout(&["doctor", "-o", "json"]));
    assert_eq!(report["schema"], "aiops.doctor/1");
    let checks = report["data"]["checks"].as_array().expect("checks");
    let hooks: Vec<_> = checks
        .iter()
        .filter(|check| {
            check["id"]
                .as_str()
                .is_some_and(|id| id.starts_with("hook:"))
        })
        .collect();
    assert!(hooks.len() >= 10, "{report}");
    for hook in hooks {
        assert_eq!(hook["state"], "ok", "{hook}");
    }
    let chinese = stdout(&["doctor", "--lang", "zh"]);
    assert!(chinese.contains("内核挂钩"), "{chinese}");
}
