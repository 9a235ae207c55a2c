//! `aiops man`: manual pages, made from the same definitions as `--help`.

use std::path::Path;
use std::path::PathBuf;

use anyhow::Context as _;
use clap_mangen::roff::Roff;
use clap_mangen::roff::bold;
use clap_mangen::roff::italic;
use clap_mangen::roff::roman;

use crate::cli;
use crate::diag::Exit;

/// Options of `man`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aiops man | man -l -
      the page of the program itself
  aiops man --out /usr/local/share/man/man1
      a page for every command")]
pub struct Args {
    /// Write one page for every command into this directory; without it, the program's own to stdout.
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

/// Exit codes of every command.
const EXIT: [(&str, &str); 6] = [
    ("0", "Done."),
    ("1", "Failed; stderr says why, and what to do."),
    ("2", "Wrong usage."),
    ("3", "Done, but the report is incomplete (--strict)."),
    (
        "10",
        "The worst finding is a warning (--exit-code, where a command has it).",
    ),
    (
        "20",
        "The worst finding is critical (--exit-code, where a command has it).",
    ),
];

/// Variables that every command reads.
const ENVIRONMENT: [(&str, &str); 5] = [
    (
        "AIOPS_LANG",
        "Language of texts, zh or en; before LC_ALL, LC_MESSAGES and LANG.",
    ),
    (
        "LC_ALL, LC_MESSAGES, LANG",
        "Language of texts when --lang is auto and AIOPS_LANG is not set. JSON is English unless --lang is given.",
    ),
    ("NO_COLOR", "No colours, when it is not empty."),
    (
        "COLUMNS",
        "Columns of text where the output is no terminal (100 without it).",
    ),
    (
        "TERM",
        "dumb: no colours, and lines of ASCII; linux: lines of ASCII.",
    ),
];

/// Runs the command.
///
/// # Errors
/// A page cannot be written.
pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let mut definition = cli::definition();
    definition.build();
    match &args.out {
        Some(folder) => pages(&definition, folder, &["aiops"])?,
        None => super::out(&String::from_utf8_lossy(&page(&definition, &["aiops"])?))?,
    }
    Ok(Exit::Done)
}

fn pages(command: &clap::Command, folder: &Path, words: &[&str]) -> anyhow::Result<()> {
    let file = folder.join(format!("{}.1", words.join("-")));
    std::fs::write(&file, page(command, words)?)
        .with_context(|| format!("cannot write {}", file.display()))?;
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        let mut words = words.to_vec();
        words.push(sub.get_name());
        pages(sub, folder, &words)?;
    }
    Ok(())
}

/// The page of one command, whose whole name is `words`.
fn page(command: &clap::Command, words: &[&str]) -> std::io::Result<Vec<u8>> {
    let version = concat!("aiops ", env!("CARGO_PKG_VERSION"));
    let man = clap_mangen::Man::new(command.clone())
        .title(words.join("-").to_uppercase())
        .section("1")
        .source(version)
        .manual("aiops manual");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    synopsis(command, words).to_writer(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.get_subcommands().any(|sub| !sub.is_hide_set()) {
        man.render_subcommands_section(&mut page)?;
    }
    if let Some(after) = command.get_after_help() {
        examples(&after.to_string()).to_writer(&mut page)?;
    }
    list("EXIT STATUS", &EXIT).to_writer(&mut page)?;
    list("ENVIRONMENT", &ENVIRONMENT).to_writer(&mut page)?;
    see_also(command, words).to_writer(&mut page)?;
    Ok(page)
}

/// Every option with the name of its value.
fn synopsis(command: &clap::Command, words: &[&str]) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["SYNOPSIS"]);
    let mut line = vec![bold(words.join(" "))];
    let mut positional = Vec::new();
    for option in command.get_arguments().filter(|one| !one.is_hide_set()) {
        let values = option.get_value_names().unwrap_or_default();
        let values: Vec<String> = values.iter().map(ToString::to_string).collect();
        let values = values.join(" ");
        let required = option.is_required_set();
        let (open, close) = if required { ("", "") } else { ("[", "]") };
        if option.is_positional() {
            positional.extend([roman(format!(" {open}")), italic(values), roman(close)]);
            continue;
        }
        let short = option.get_short().map(|short| format!("-{short}"));
        let long = option.get_long().map(|long| format!("--{long}"));
        let names: Vec<String> = [short, long].into_iter().flatten().collect();
        line.push(roman(format!(" {open}")));
        line.push(bold(names.join("|")));
        if option.get_action().takes_values() {
            line.extend([roman(" "), italic(values)]);
        }
        line.push(roman(close));
    }
    line.extend(positional);
    if command.has_subcommands() {
        line.extend([roman(" "), italic("COMMAND")]);
    }
    roff.text(line);
    roff
}

/// Commands stand as they are typed, what they do below them.
fn examples(text: &str) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", ["EXAMPLES"]);
    for line in text.lines() {
        let words = line.trim();
        if words.is_empty() || words == "Examples:" {
            continue;
        }
        if line.starts_with("   ") {
            roff.control("RS", ["4"]);
            roff.text([roman(words)]);
            roff.control("RE", []);
        } else {
            roff.control("PP", []);
            roff.text([bold(words)]);
        }
    }
    roff
}

fn list(heading: &str, rows: &[(&str, &str)]) -> Roff {
    let mut roff = Roff::new();
    roff.control("SH", [heading]);
    for (name, what) in rows {
        roff.control("TP", []);
        roff.text([bold(*name)]);
        roff.text([roman(*what)]);
    }
    roff
}

/// The command above, the ones below, or the ones beside.
fn see_also(command: &clap::Command, words: &[&str]) -> Roff {
    let mut names: Vec<String> = command
        .get_subcommands()
        .filter(|sub| !sub.is_hide_set())
        .map(|sub| format!("{}-{}", words.join("-"), sub.get_name()))
        .collect();
    if let Some((_, above)) = words.split_last()
        && !above.is_empty()
    {
        names.insert(0, "aiops".to_owned());
        names.push("aiops-doctor".to_owned());
        names.push("aiops-replay".to_owned());
    }
    let own = words.join("-");
    names.retain(|name| *name != own);
    let mut line = Vec::new();
    for (at, name) in names.iter().enumerate() {
        if at > 0 {
            line.push(roman(", "));
        }
        line.extend([bold(name.as_str()), roman("(1)")]);
    }
    let mut roff = Roff::new();
    roff.control("SH", ["SEE ALSO"]);
    roff.text(line);
    roff
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(words: &[&str]) -> String {
        let mut definition = cli::definition();
        definition.build();
        let mut command = &definition;
        for word in &words[1..] {
            command = command.find_subcommand(word).unwrap();
        }
        String::from_utf8(page(command, words).unwrap()).unwrap()
    }

    #[test]
    fn a_page_has_every_section_once_and_its_version() {
        let page = text(&["aiops", "health", "memory"]);
        for section in [
            "NAME",
            "SYNOPSIS",
            "DESCRIPTION",
            "OPTIONS",
            "EXAMPLES",
            "\"EXIT STATUS\"",
            "ENVIRONMENT",
            "\"SEE ALSO\"",
        ] {
            let heading = format!(".SH {section}\n");
            assert_eq!(page.matches(&heading).count(), 1, "{section}: {page}");
        }
        let title = page.lines().find(|line| line.starts_with(".TH")).unwrap();
        let version = env!("CARGO_PKG_VERSION");
        assert!(
            title.contains(&format!("aiops {version}")) && title.contains("AIOPS"),
            "{title}"
        );
        assert!(!page.contains("EXTRA"), "{page}");
        let synopsis = page.split(".SH").nth(2).unwrap();
        assert!(
            synopsis.contains("\\-\\-interval") && synopsis.contains("TIME"),
            "{synopsis}"
        );
        for name in ["AIOPS_LANG", "LC_ALL", "NO_COLOR", "COLUMNS"] {
            assert!(page.contains(name), "{name}");
        }
    }

    #[test]
    fn the_first_page_names_the_commands() {
        let page = text(&["aiops"]);
        assert!(
            page.contains("aiops\\-doctor") && page.contains("COMMAND"),
            "{page}"
        );
        let page = text(&["aiops", "replay"]);
        let see = page.split("SEE ALSO").nth(1).unwrap();
        assert!(!see.contains("replay") && see.contains("doctor"), "{see}");
    }
}
