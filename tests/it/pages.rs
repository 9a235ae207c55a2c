//! Manual pages and completions: made from the definitions, complete, and readable by the real tools.

use std::path::Path;
use std::process::Command;

use crate::support::Scratch;
use crate::support::run;
use crate::support::stdout;

/// A command with its page.
const PAGES: &[(&str, &str)] = &[
    ("aiops", "aiops"),
    ("aiops-trace-oom", "aiops trace oom"),
    ("aiops-trace-alloc", "aiops trace alloc"),
    ("aiops-trace-leak", "aiops trace leak"),
    ("aiops-collect-memory", "aiops collect memory"),
    ("aiops-inspect-memory", "aiops inspect memory"),
    ("aiops-inspect-cache", "aiops inspect cache"),
    ("aiops-inspect-processes", "aiops inspect processes"),
    ("aiops-analyze-swap", "aiops analyze swap"),
    ("aiops-analyze-cache", "aiops analyze cache"),
    ("aiops-health-memory", "aiops health memory"),
    ("aiops-detect-memory-leak", "aiops detect memory-leak"),
    ("aiops-detect-oom-risk", "aiops detect oom-risk"),
    ("aiops-detect-anomaly", "aiops detect anomaly"),
    ("aiops-diff-memory", "aiops diff memory"),
    ("aiops-store-info", "aiops store info"),
    ("aiops-store-verify", "aiops store verify"),
    ("aiops-store-compact", "aiops store compact"),
    ("aiops-store-repair", "aiops store repair"),
    ("aiops-query-memory", "aiops query memory"),
    ("aiops-replay", "aiops replay"),
    ("aiops-doctor", "aiops doctor"),
];

/// Runs a tool that not every machine has; `None`, said aloud, where it is missing.
fn tool(name: &str, args: &[&str], file: &Path) -> Option<std::process::Output> {
    match Command::new(name).args(args).arg(file).output() {
        Ok(output) => Some(output),
        Err(_) => {
            println!("SKIPPED: {name} is not installed");
            None
        }
    }
}

#[test]
fn every_command_has_a_page_with_its_whole_name_and_examples() {
    let place = Scratch::new();
    let made = run(&["man", "--out", &place.path("")]);
    assert!(
        made.status.success(),
        "{}",
        String::from_utf8_lossy(&made.stderr)
    );
    for (file, name) in PAGES {
        let path = place.0.join(format!("{file}.1"));
        let source =
            std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(source.contains(".SH SYNOPSIS"), "{file}");
        let Some(page) = tool("groff", &["-man", "-Tutf8", "-P-cbou", "-ww"], &path) else {
            continue;
        };
        assert_eq!(String::from_utf8_lossy(&page.stderr), "", "{file}");
        let text = String::from_utf8_lossy(&page.stdout).into_owned();
        let words: Vec<&str> = text.split_whitespace().collect();
        let text = words.join(" ");
        assert!(
            text.contains(&format!("SYNOPSIS {name} ")),
            "{file}: {text}"
        );
        assert!(
            *name == "aiops" || text.contains("Examples:") || text.contains("EXAMPLES"),
            "{file}: {text}"
        );
    }
}

#[test]
fn completions_are_scripts_that_the_shells_take() {
    let place = Scratch::new();
    for (shell, check) in [
        ("bash", &["-n"][..]),
        ("zsh", &["-n"]),
        ("fish", &["--no-execute"]),
    ] {
        let script = stdout(&["completions", shell]);
        assert!(
            script.contains("collect") && script.contains("inspect"),
            "{shell}"
        );
        let file = place.0.join(shell);
        std::fs::write(&file, script).expect("a file");
        let Some(checked) = tool(shell, check, &file) else {
            continue;
        };
        let said = String::from_utf8_lossy(&checked.stderr);
        assert!(
            checked.status.success() && said.is_empty(),
            "{shell}: {said}"
        );
    }
    let output = run(&["completions", "abacus"]);
    assert_eq!(output.status.code(), Some(2));
}
