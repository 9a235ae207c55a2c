//! `cargo xtask layers`: the rules of the tree that no compiler checks.
//!
//! - who may use whom: the table `| module | may use |` of `aiops/src/lib.rs`;
//! - each external crate has one home ([`HOMES`]), and polars one manifest ([`MANIFESTS`]);
//! - nothing that speaks TLS or HTTP is linked ([`NETWORK`]);
//! - `unsafe` stands in listed places only ([`UNSAFE_HOMES`]);
//! - files are short ([`MAX_LINES`], exceptions in [`LONG_FILES`]);
//! - no committed text names a path of somebody's machine.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::util;

/// An external crate of `aiops`, as code names it, and where code outside of tests may use it: prefixes
/// of paths below `aiops/src`. A single `""` is everywhere.
const HOMES: &[(&str, &[&str])] = &[
    ("aiops_common", &[""]),
    ("aiops_frames", &["commands"]),
    ("anyhow", &["cli", "commands", "diag", "session"]),
    ("aya", &["source/bpf"]),
    ("aya_log", &["source/bpf"]),
    ("blazesym", &["source/symbols"]),
    ("bytes", &["record", "source/bpf", "store"]),
    ("clap", &["cli", "commands"]),
    ("clap_complete", &["commands"]),
    ("clap_mangen", &["commands"]),
    ("crc32c", &["record", "store"]),
    ("framehop", &["source/unwind"]),
    ("hdrhistogram", &["analysis/latency"]),
    ("jiff", &["time"]),
    (
        "libc",
        &["commands", "diag", "record", "session", "source", "store"],
    ),
    ("log", &["diag", "source/bpf"]),
    ("parquet", &["store/table", "store/segments"]),
    ("procfs", &["source"]),
    (
        "rustix",
        &[
            "cli", "commands", "diag", "record", "session", "source", "store",
        ],
    ),
    ("serde", &[""]),
    (
        "serde_json",
        &["commands", "record", "render", "session/monitor", "store"],
    ),
    ("stlrs", &["analysis/anomaly"]),
    ("thiserror", &[""]),
    ("tokio", &["commands", "session", "source"]),
    ("toml", &["session/monitor"]),
    ("unicode_width", &["render"]),
    ("zstd", &["record"]),
];

/// External crates that one manifest alone may name.
const MANIFESTS: &[(&str, &str)] = &[("polars", "aiops/frames/Cargo.toml")];

/// Clients of TLS, HTTP and object stores: a program that runs as root has none, also not through a feature of
/// something else.
const NETWORK: &[&str] = &[
    "aws-lc-sys",
    "curl",
    "curl-sys",
    "h2",
    "hyper",
    "isahc",
    "native-tls",
    "object_store",
    "openssl",
    "openssl-sys",
    "quinn",
    "reqwest",
    "ring",
    "rustls",
    "ureq",
];

/// Where `unsafe` may stand, and why: prefixes of paths.
const UNSAFE_HOMES: &[(&str, &str)] = &[
    (
        "aiops-ebpf/src/",
        "BPF programs read kernel memory through pointers",
    ),
    (
        "aiops/src/source/bpf/",
        "records of the kernel side, mount namespaces of threads",
    ),
    (
        "aiops/src/source/priority.rs",
        "ioprio_set, which no library offers",
    ),
    (
        "aiops/src/source/guard.rs",
        "settings of the allocator, locked code",
    ),
    (
        "aiops/src/source/procfs/live_tests.rs",
        "mappings of every kind, made to be looked at",
    ),
    (
        "aiops/src/source/unwind/programs/",
        "programs that tests build and look at",
    ),
    (
        "tests/it/inspect.rs",
        "a process with known memory, mapped by hand",
    ),
    (
        "aiops/src/source/residency.rs",
        "cachestat and mincore, on mappings that nobody touches",
    ),
    (
        "aiops/src/source/residency/tests.rs",
        "a filter of system calls, on a thread of its own",
    ),
    ("tests/vm/", "process 1 of a virtual machine"),
    (
        "xtask/src/bench/interrupt.rs",
        "signal, with a handler that stores into an atomic",
    ),
    (
        "xtask/src/bench/proc.rs",
        "wait4: what a child process cost",
    ),
    (
        "xtask/src/demo.rs",
        "a signal handler, so that the cgroup is removed on Ctrl-C",
    ),
];

/// Most lines of a Rust file.
const MAX_LINES: usize = 700;
/// Files that are longer, and why.
const LONG_FILES: &[(&str, &str)] = &[];

/// Beginnings of paths that only somebody's machine has.
const MACHINE_PATHS: &[&str] = &["/root/", "/home/", "/Users/"];
/// Files that may name them, and why.
const PATHS_ALLOWED: &[(&str, &str)] = &[
    ("xtask/src/layers.rs", "the list itself"),
    ("xtask/src/layers_tests.rs", "examples of what is found"),
];

/// Which top-level modules of `aiops` each of them may use.
type Table = BTreeMap<String, BTreeSet<String>>;

/// The chore.
pub(crate) fn run(args: &[String]) -> Result<()> {
    util::no_args(args)?;
    let root = util::root()?;
    let problems = check(&root)?;
    for problem in &problems {
        println!("{problem}");
    }
    if !problems.is_empty() {
        bail!(
            "{} violations of the rules in xtask/src/layers.rs",
            problems.len()
        );
    }
    Ok(())
}

/// All violations below `root`, as `path:line: what`.
fn check(root: &Path) -> Result<Vec<String>> {
    let map = std::fs::read_to_string(root.join("aiops/src/lib.rs")).context("aiops/src/lib.rs")?;
    let table = read_table(&map)?;
    let mut problems = check_table(&table, &modules(&root.join("aiops/src"))?);
    let manifest =
        std::fs::read_to_string(root.join("aiops/Cargo.toml")).context("its manifest")?;
    problems.extend(check_manifest(&manifest));
    for path in tracked(root)? {
        // A file that is listed but deleted, or that is no text, has nothing to check.
        let Ok(text) = std::fs::read_to_string(root.join(&path)) else {
            continue;
        };
        problems.extend(check_paths(&path, &text));
        problems.extend(check_only(&path, &text));
        problems.extend(check_network(&path, &text));
        if !path.ends_with(".rs") {
            continue;
        }
        problems.extend(check_length(&path, &text));
        let code = Code::new(&text);
        problems.extend(check_unsafe(&path, &code));
        if let Some(inside) = path.strip_prefix("aiops/src/")
            && !matches!(inside, "lib.rs" | "main.rs")
        {
            problems.extend(check_layers(&table, inside, &code));
            problems.extend(check_crates(inside, &code));
        }
    }
    Ok(problems)
}

/// Files of the repository, also new ones that are not committed yet.
fn tracked(root: &Path) -> Result<Vec<String>> {
    let mut git = Command::new("git");
    git.current_dir(root)
        .args(["-c", "safe.directory=*", "-c", "core.quotePath=false"])
        .args(["ls-files", "--cached", "--others", "--exclude-standard"]);
    Ok(util::output(&mut git)?.lines().map(str::to_owned).collect())
}

/// Top-level modules that exist as files.
fn modules(source: &Path) -> Result<BTreeSet<String>> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(source).context("aiops/src")? {
        let path = entry?.path();
        let Some(name) = path.file_stem().and_then(|name| name.to_str()) else {
            continue;
        };
        let is_file = path.extension().is_some_and(|end| end == "rs");
        if (is_file && !matches!(name, "lib" | "main")) || path.join("mod.rs").is_file() {
            found.insert(name.to_owned());
        }
    }
    Ok(found)
}

/// Reads the rows below `| module | may use |`.
fn read_table(map: &str) -> Result<Table> {
    let rows = map
        .lines()
        .filter_map(|line| line.strip_prefix("//! |"))
        .skip_while(|row| row.trim() != "module | may use |")
        .skip(2);
    let mut table = Table::new();
    for row in rows {
        let mut cells = row.split('|').map(str::trim);
        let (Some(module), Some(uses)) = (cells.next(), cells.next()) else {
            bail!("a row of the table of modules has no two cells: {row}");
        };
        let uses = uses
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty());
        table.insert(module.to_owned(), uses.map(str::to_owned).collect());
    }
    if table.is_empty() {
        bail!("aiops/src/lib.rs holds no table `| module | may use |`");
    }
    Ok(table)
}

fn check_table(table: &Table, modules: &BTreeSet<String>) -> Vec<String> {
    let listed: BTreeSet<_> = table.keys().cloned().collect();
    let unlisted = modules
        .difference(&listed)
        .map(|name| format!("module {name} is not in the table"));
    let gone = listed
        .difference(modules)
        .map(|name| format!("the table lists {name}, which is no module"));
    let unknown = table
        .values()
        .flatten()
        .filter(|name| !listed.contains(*name));
    let unknown = unknown.map(|name| format!("the table lets {name} be used, which is no module"));
    let problems = unlisted.chain(gone).chain(unknown);
    problems
        .map(|what| format!("aiops/src/lib.rs: {what}"))
        .collect()
}

/// Every dependency of the program needs a home.
fn check_manifest(manifest: &str) -> Vec<String> {
    let dependencies = manifest
        .lines()
        .skip_while(|line| *line != "[dependencies]")
        .skip(1)
        .take_while(|line| !line.starts_with('['));
    let names = dependencies.filter_map(|line| {
        let name = line
            .split(['.', '=', ' '])
            .next()
            .filter(|name| !name.is_empty())?;
        Some(name.replace('-', "_"))
    });
    names
        .filter(|name| HOMES.iter().all(|(known, _)| known != name))
        .map(|name| format!("aiops/Cargo.toml: {name} has no home in xtask/src/layers.rs"))
        .collect()
}

/// Crates of [`MANIFESTS`] in other manifests. The root's names versions only.
fn check_only(path: &str, manifest: &str) -> Vec<String> {
    if path == "Cargo.toml" || !path.ends_with("Cargo.toml") {
        return Vec::new();
    }
    let mut problems = Vec::new();
    for (number, line) in (1..).zip(manifest.lines()) {
        let code = line.split('#').next().unwrap_or_default();
        let names = || code.split(|c: char| !c.is_alphanumeric() && !"-_".contains(c));
        for (name, home) in MANIFESTS.iter().filter(|(_, home)| *home != path) {
            // `polars-io` would bring the same.
            let part = |word: &str| {
                word.strip_prefix(name)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '_']))
            };
            if names().any(part) {
                problems.push(format!("{path}:{number}: {name} belongs in {home} alone"));
            }
        }
    }
    problems
}

/// Crates of [`NETWORK`] among what is locked.
fn check_network(path: &str, lock: &str) -> Vec<String> {
    if path != "Cargo.lock" {
        return Vec::new();
    }
    let names = (1..).zip(lock.lines()).filter_map(|(number, line)| {
        let name = line.strip_prefix("name = \"")?.strip_suffix('"')?;
        Some((number, name))
    });
    names
        .filter(|(_, name)| NETWORK.contains(name))
        .map(|(number, name): (usize, _)| {
            format!(
                "{path}:{number}: {name} speaks to the network: find the feature that brings it"
            )
        })
        .collect()
}

fn check_paths(path: &str, text: &str) -> Vec<String> {
    if PATHS_ALLOWED.iter().any(|(allowed, _)| *allowed == path) {
        return Vec::new();
    }
    let mut problems = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        for word in MACHINE_PATHS {
            // `target/home/x` and `https://host/home/x` are no absolute paths.
            let is_path = |at: usize| {
                line[..at]
                    .chars()
                    .next_back()
                    .is_none_or(|c| !c.is_alphanumeric() && !"._-/".contains(c))
            };
            if line.match_indices(word).any(|(at, _)| is_path(at)) {
                problems.push(format!(
                    "{path}:{number}: names a path of a machine ({word}…)"
                ));
            }
        }
    }
    problems
}

fn check_length(path: &str, text: &str) -> Option<String> {
    let lines = text.lines().count();
    let listed = LONG_FILES.iter().any(|(long, _)| *long == path);
    (lines > MAX_LINES && !listed)
        .then(|| format!("{path}:{lines}: longer than {MAX_LINES} lines: split it by concept"))
}

fn check_unsafe(path: &str, code: &Code) -> Option<String> {
    if UNSAFE_HOMES.iter().any(|(home, _)| path.starts_with(home)) {
        return None;
    }
    let token = code.tokens.iter().find(|token| token.text == "unsafe")?;
    Some(format!(
        "{path}:{}: unsafe outside of its homes",
        token.line
    ))
}

fn check_layers(table: &Table, inside: &str, code: &Code) -> Vec<String> {
    let own = inside
        .split('/')
        .next()
        .unwrap_or(inside)
        .trim_end_matches(".rs");
    let depth = inside.trim_end_matches("/mod.rs").split('/').count();
    let nothing = BTreeSet::new();
    let allowed = table.get(own).unwrap_or(&nothing);
    code.own_modules(depth)
        .into_iter()
        .filter(|(_, used)| table.contains_key(*used) && *used != own && !allowed.contains(*used))
        .map(|(line, used)| format!("aiops/src/{inside}:{line}: {own} may not use {used}"))
        .collect()
}

fn check_crates(inside: &str, code: &Code) -> Vec<String> {
    if inside.ends_with("tests.rs") || inside.contains("/tests/") {
        return Vec::new();
    }
    let uses = code.crates().into_iter().filter(|(_, name)| {
        let homes = HOMES
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, homes)| *homes);
        homes.is_some_and(|homes| !homes.iter().any(|home| is_home(home, inside)))
    });
    uses.map(|(line, name)| {
        format!("aiops/src/{inside}:{line}: {name} is used outside of its home")
    })
    .collect()
}

/// `source/bpf` is the home of `source/bpf.rs` and of `source/bpf/…`, not of `source/bpfx.rs`.
fn is_home(home: &str, inside: &str) -> bool {
    home.is_empty()
        || inside
            .strip_prefix(home)
            .is_some_and(|rest| rest == ".rs" || rest.starts_with('/'))
}

/// A word or a mark of the code.
struct Token {
    line: usize,
    text: String,
}

/// A Rust file without comments and literals.
struct Code {
    tokens: Vec<Token>,
}

impl Code {
    fn new(text: &str) -> Self {
        let mut tokens: Vec<Token> = Vec::new();
        for (number, line) in (1..).zip(blank(text).lines()) {
            let mut rest = line.trim_start();
            while let Some(first) = rest.chars().next() {
                let is_word = |c: char| c.is_alphanumeric() || c == '_';
                let len = if is_word(first) {
                    rest.find(|c| !is_word(c)).unwrap_or(rest.len())
                } else if rest.starts_with("::") {
                    2
                } else {
                    first.len_utf8()
                };
                tokens.push(Token {
                    line: number,
                    text: rest[..len].to_owned(),
                });
                rest = rest[len..].trim_start();
            }
        }
        Self { tokens }
    }

    fn text(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |token| token.text.as_str())
    }

    /// Names directly below the crate's root that the code says: `crate::X`, `crate::{X, Y::Z}`, and
    /// `super::…::X` with enough `super` to get there from a file `depth` modules deep.
    fn own_modules(&self, depth: usize) -> Vec<(usize, &str)> {
        let mut found = Vec::new();
        for at in 0..self.tokens.len() {
            let start = match self.text(at) {
                "crate" if self.text(at + 1) == "::" => at + 2,
                "super" if at == 0 || self.text(at - 1) != "::" => {
                    let mut next = at;
                    while self.text(next) == "super" && self.text(next + 1) == "::" {
                        next += 2;
                    }
                    if (next - at) / 2 < depth {
                        continue;
                    }
                    next
                }
                _ => continue,
            };
            if self.text(start) == "{" {
                found.extend(self.group(start));
            } else if let Some(token) = self.tokens.get(start) {
                found.push((token.line, token.text.as_str()));
            }
        }
        found
    }

    /// First words of the members of `{a, b::{c, d}}`, which opens at `open`.
    fn group(&self, open: usize) -> Vec<(usize, &str)> {
        let mut found = Vec::new();
        let mut depth = 0;
        for at in open..self.tokens.len() {
            match self.text(at) {
                "{" => depth += 1,
                "}" => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                break;
            }
            if depth == 1 && matches!(self.text(at), "{" | ",") {
                found.extend(
                    self.tokens
                        .get(at + 1)
                        .map(|next| (next.line, next.text.as_str())),
                );
            }
        }
        found
    }

    /// Words that begin a path (`aya::…`) or are imported whole (`use aya;`), up to the tests.
    fn crates(&self) -> Vec<(usize, &str)> {
        let end = self.tests().unwrap_or(self.tokens.len());
        let begins = (0..end).filter(|at| {
            let from_outside = *at == 0 || self.text(at - 1) != "::";
            let imported = *at > 0 && self.text(at - 1) == "use";
            let whole = imported && matches!(self.text(at + 1), ";" | "as");
            from_outside && (self.text(at + 1) == "::" || whole)
        });
        begins
            .map(|at| (self.tokens[at].line, self.text(at)))
            .collect()
    }

    /// Where `#[cfg(test)] mod …` begins; by our habit nothing follows it.
    fn tests(&self) -> Option<usize> {
        let words = ["#", "[", "cfg", "(", "test", ")", "]"];
        let is_cfg = |at: usize| {
            (0..)
                .zip(words)
                .all(|(next, word)| self.text(at + next) == word)
        };
        (0..self.tokens.len())
            .find(|at| is_cfg(*at) && matches!(self.text(at + words.len()), "mod" | "#"))
    }
}

/// The text with comments and the insides of literals blanked, line for line.
fn blank(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut before = ' ';
    while let Some(first) = rest.chars().next() {
        let word = before.is_alphanumeric() || before == '_';
        let len = literal_or_comment(rest, word);
        if len > 0 {
            out.extend(
                rest[..len]
                    .chars()
                    .map(|c| if c == '\n' { '\n' } else { ' ' }),
            );
            before = ' ';
        } else {
            out.push(first);
            before = first;
        }
        rest = &rest[len.max(first.len_utf8())..];
    }
    out
}

/// Bytes of the comment or literal that begins here; 0 when none does. `word`: a word goes on here,
/// so that an `r` is not the prefix of a raw string.
fn literal_or_comment(rest: &str, word: bool) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return block_comment(rest);
    }
    if rest.starts_with('"') {
        return quoted(rest, '"');
    }
    if rest.starts_with('\'') {
        return character(rest);
    }
    if word {
        return 0;
    }
    let after = rest.trim_start_matches(['b', 'c']);
    let Some(hashed) = after.strip_prefix('r') else {
        return 0;
    };
    let opened = hashed.trim_start_matches('#');
    let hashes = hashed.len() - opened.len();
    let prefix = rest.len() - opened.len();
    if prefix > hashes + 2 || !opened.starts_with('"') {
        return 0;
    }
    let close = format!("\"{}", "#".repeat(hashes));
    opened[1..]
        .find(&close)
        .map_or(rest.len(), |at| prefix + 1 + at + close.len())
}

fn block_comment(rest: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        if rest[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
        } else {
            at += rest[at..].chars().next().map_or(1, char::len_utf8);
        }
        if depth == 0 {
            break;
        }
    }
    at
}

/// Bytes of a literal in `mark`s, whose insides may hold escaped marks.
fn quoted(rest: &str, mark: char) -> usize {
    let mut escaped = false;
    for (at, c) in rest.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            _ if c == mark => return at + 1,
            _ => {}
        }
    }
    rest.len()
}

/// Bytes of `'x'` or `'\n'`; 0 for a lifetime.
fn character(rest: &str) -> usize {
    let mut chars = rest.chars().skip(1);
    match (chars.next(), chars.next()) {
        (Some('\\'), _) | (Some(_), Some('\'')) => quoted(rest, '\''),
        _ => 0,
    }
}

#[cfg(test)]
#[path = "layers_tests.rs"]
mod tests;
