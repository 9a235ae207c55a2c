//! Replays: as another user, from damaged files.

use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::time::Duration;

use crate::support::Cgroup;
use crate::support::Scratch;
use crate::support::Tracer;
use crate::support::can_trace;
use crate::support::json;
use crate::support::run;
use crate::support::timeless;

#[test]
fn another_user_gets_the_same_report() {
    if !can_trace() {
        return;
    }
    let Some(cgroup) = Cgroup::new(16 << 20) else {
        return;
    };
    let place = Scratch::new();
    let file = place.path("oom.aiops");
    let tracer = Tracer::start(&[
        "trace",
        "oom",
        "--cgroup",
        &cgroup.path,
        "--count",
        "1",
        "--record",
        &file,
        "-o",
        "json",
    ]);
    let _ = cgroup.grow(64, 1024, Duration::from_millis(5)).wait();
    let (code, live, errors) = tracer.finish();
    assert_eq!(code, 0, "{errors}");
    let copy = place.path("aiops");
    crate::support::copy_program(&copy);
    for (path, mode) in [(place.0.to_str().expect("UTF-8"), 0o755), (&file, 0o644)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).expect("readable");
    }
    let output = std::process::Command::new(&copy)
        .args(["replay", &file, "-o", "json"])
        .env_clear()
        .env("LANG", "zh_CN.UTF-8")
        .uid(65534)
        .gid(65534)
        .output()
        .expect("the program starts");
    let replayed = String::from_utf8(output.stdout).expect("UTF-8");
    assert_eq!(timeless(json(&live)), timeless(json(&replayed)));
    damaged_copies(&place, &file);
}

/// Cuts and flips never panic, and always end in a report or in one error.
fn damaged_copies(place: &Scratch, file: &str) {
    let whole = std::fs::read(file).expect("the recording");
    let broken = place.path("broken.aiops");
    for step in 0..24 {
        let mut bytes = whole.clone();
        let at = (bytes.len() - 1) * step / 24;
        if step % 2 == 0 {
            bytes.truncate(at);
        } else {
            bytes[at] ^= 1 << (step % 8);
        }
        std::fs::write(&broken, &bytes).expect("a copy");
        let output = run(&["replay", &broken, "-o", "json"]);
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        match output.status.code() {
            Some(0) => {
                let report = json(&String::from_utf8_lossy(&output.stdout));
                assert_eq!(
                    report["accounting"]["complete"], false,
                    "byte {at}: {errors}"
                );
            }
            Some(1) => assert!(errors.starts_with("error: "), "byte {at}: {errors}"),
            other => panic!("byte {at}: {other:?} {errors}"),
        }
    }
}
