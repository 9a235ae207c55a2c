//! That each kind of violation is found, and that what is allowed is not.

use super::*;

const MAP: &str = "//! text\n//! | module | may use |\n//! |---|---|\n//! | model | |\n\
                   //! | report | model |\n//! | source | model, time |\n//! | time | |\n\npub mod model;\n";

fn layers(inside: &str, code: &str) -> Vec<String> {
    check_layers(
        &read_table(MAP).expect("it has a table"),
        inside,
        &Code::new(code),
    )
}

#[test]
fn the_table_is_read_and_must_be_complete() {
    let table = read_table(MAP).expect("it has a table");
    assert_eq!(table.len(), 4);
    assert_eq!(table["source"], ["model", "time"].map(str::to_owned).into());
    let there = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    assert!(check_table(&table, &there(&["model", "report", "source", "time"])).is_empty());
    let found = check_table(&table, &there(&["model", "report", "source", "extra"]));
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(read_table("//! nothing").is_err());
}

#[test]
fn a_use_that_the_table_does_not_list_is_found() {
    let found = layers(
        "report/oom.rs",
        "use crate::model::Item;\nfn f() { crate::time::now() }\n",
    );
    assert_eq!(
        found,
        ["aiops/src/report/oom.rs:2: report may not use time"]
    );
    let found = layers(
        "model/mod.rs",
        "use crate::{model::X, report::{Y, Z},\n source};\n",
    );
    assert_eq!(found.len(), 2, "{found:?}");
    let found = layers(
        "time.rs",
        "#[cfg(test)]\nmod tests { use crate::report::Report; }\n",
    );
    assert_eq!(found.len(), 1, "{found:?}");
    let found = layers(
        "source/bpf/btf.rs",
        "use super::super::super::report::Report;\n",
    );
    assert_eq!(found.len(), 1, "{found:?}");
}

#[test]
fn what_is_allowed_or_only_said_is_not_found() {
    assert!(
        layers(
            "source/bpf/btf.rs",
            "use crate::{model::X, source::Y, time};\n"
        )
        .is_empty()
    );
    assert!(layers("source/bpf/btf.rs", "use super::super::report::X;\n").is_empty());
    let said = "// crate::report\n/* crate::report /* */ crate::report */\n\
                /// [`crate::report`]\nconst A: &str = \"crate::report\";\n\
                const B: &str = r#\"\"crate::report\"#;\nconst C: char = '\"';\nfn f<'a>(_: &'a str) {}\n";
    assert!(layers("model/mod.rs", said).is_empty());
    let behind = "const C: char = '\"';\nfn f<'a>(_: &'a crate::report::Report) {}\n";
    assert_eq!(layers("model/mod.rs", behind).len(), 1);
}

#[test]
fn a_crate_outside_of_its_home_is_found() {
    let crates = |inside: &str, code: &str| check_crates(inside, &Code::new(code)).len();
    assert_eq!(crates("session/mod.rs", "use aya::Ebpf;\n"), 1);
    assert_eq!(crates("source/bpfx.rs", "fn f() { aya::load() }\n"), 1);
    assert_eq!(crates("model/mod.rs", "use zstd;\nuse rustix as r;\n"), 2);
    assert_eq!(crates("source/bpf/load.rs", "use aya::Ebpf;\n"), 0);
    assert_eq!(crates("time.rs", "use jiff::Zoned;\n"), 0);
    assert_eq!(
        crates(
            "model/mod.rs",
            "use crate::bytes::X;\nuse serde::Serialize;\n"
        ),
        0
    );
    assert_eq!(
        crates(
            "report/mod.rs",
            "#[cfg(test)]\nmod tests { use serde_json::Value; }\n"
        ),
        0
    );
    assert_eq!(
        crates(
            "report/mod.rs",
            "#[cfg(test)]\nfn f() {}\nuse serde_json::Value;\n"
        ),
        1
    );
}

#[test]
fn a_dependency_without_a_home_is_found() {
    let manifest = "[package]\nname = \"x\"\n\n[dependencies]\naya-log.workspace = true\n\
                    regex = \"1\"\n\n[dev-dependencies]\nproptest.workspace = true\n";
    let found = check_manifest(manifest);
    assert_eq!(
        found,
        ["aiops/Cargo.toml: regex has no home in xtask/src/layers.rs"]
    );
}

#[test]
fn unsafe_outside_of_its_homes_is_found() {
    let code = Code::new("fn f() {}\n// SAFETY: none\nfn g() { unsafe { f() } }\n");
    assert_eq!(
        check_unsafe("aiops/src/render/mod.rs", &code).as_deref(),
        Some("aiops/src/render/mod.rs:3: unsafe outside of its homes")
    );
    assert_eq!(check_unsafe("aiops-ebpf/src/main.rs", &code), None);
    let said = Code::new("#![deny(unsafe_op_in_unsafe_fn)]\n// unsafe\n");
    assert_eq!(check_unsafe("aiops/src/render/mod.rs", &said), None);
}

#[test]
fn a_long_file_is_found() {
    assert!(check_length("a.rs", &"\n".repeat(MAX_LINES)).is_none());
    assert!(check_length("a.rs", &"\n".repeat(MAX_LINES + 1)).is_some());
}

#[test]
fn a_path_of_a_machine_is_found() {
    let found = check_paths("README.md", "see\n`/home/somebody/x` and /root/y\n");
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("README.md:2:") || found[1].starts_with("README.md:2:"));
    assert!(check_paths("README.md", "target/home/x https://host/home/ /homework\n").is_empty());
}

#[test]
fn polars_stands_in_one_manifest() {
    let found = check_only(
        "aiops/Cargo.toml",
        "[dependencies]\n# polars is elsewhere\npolars-io.workspace = true\nbipolars = \"1\"\n",
    );
    assert_eq!(
        found,
        ["aiops/Cargo.toml:3: polars belongs in aiops/frames/Cargo.toml alone"]
    );
    let manifest = "[dependencies]\npolars.workspace = true\n";
    assert!(check_only("aiops/frames/Cargo.toml", manifest).is_empty());
    assert_eq!(check_only("tests/vm/init/Cargo.toml", manifest).len(), 1);
    assert!(check_only("Cargo.toml", manifest).is_empty());
    assert!(check_only("docs/x.md", manifest).is_empty());
}

#[test]
fn clients_of_the_network_are_found_among_what_is_locked() {
    let lock = "[[package]]\nname = \"rustls\"\nversion = \"1\"\n\n[[package]]\nname = \"tokio\"\n";
    let found = check_network("Cargo.lock", lock);
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("Cargo.lock:2: rustls"), "{found:?}");
    assert!(check_network("docs/x.md", lock).is_empty());
}
