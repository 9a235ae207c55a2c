//! Global options and the dispatch to commands: clap ends here and in `commands`.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::time::Duration;

use clap::CommandFactory as _;
use clap::FromArgMatches as _;
use clap::Parser;
use clap::ValueEnum;

use crate::commands::Command;
use crate::diag;
use crate::diag::Exit;
use crate::render::Color;
use crate::render::Format;
use crate::render::Lang;
use crate::render::Style;
use crate::render::lang;

/// The memory flight recorder for Linux: which process was killed, by which code, why, and what to do next.
#[derive(Debug, Parser)]
#[command(
    name = "aiops",
    version,
    propagate_version = true,
    disable_help_subcommand = true
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options that every command has.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Global options")]
struct Global {
    /// Form of the report on stdout.
    #[arg(short = 'o', long, value_enum, default_value = "text", global = true)]
    format: FormatArg,
    /// Language of texts; auto follows AIOPS_LANG, LC_ALL, LC_MESSAGES, LANG. JSON is English unless this is given.
    #[arg(long, value_enum, default_value = "auto", global = true)]
    lang: LangArg,
    /// Colours in text; auto: on a terminal, unless NO_COLOR is set.
    #[arg(long, value_enum, default_value = "auto", global = true)]
    color: ColorArg,
    /// Read DIR/proc and DIR/sys instead of /proc and /sys: a container's host mount or a captured tree.
    #[arg(long, value_name = "DIR", default_value = "/", global = true)]
    root: PathBuf,
    /// Folder of the history that `aiops monitor memory` keeps and that queries read.
    #[arg(
        long,
        value_name = "DIR",
        env = "AIOPS_STORE",
        default_value = "/var/lib/aiops",
        global = true
    )]
    store: PathBuf,
    /// Exit with 3 when the report is incomplete: events lost, permissions missing, recording damaged.
    #[arg(long, global = true)]
    strict: bool,
    /// Say nothing on stderr but warnings and errors.
    #[arg(short, long, global = true)]
    quiet: bool,
    /// Say more on stderr, the kernel side's messages too; twice: even more.
    #[arg(short, long, action = clap::ArgAction::Count, global = true)]
    verbose: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum FormatArg {
    Text,
    Json,
    Jsonl,
    /// Tables of `query`, for spreadsheets.
    Csv,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum LangArg {
    Auto,
    Zh,
    En,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ColorArg {
    Auto,
    Always,
    Never,
}

/// What the global options mean.
#[derive(Debug)]
pub struct Context {
    /// Form of the report.
    pub format: Format,
    /// Language, colours and width of texts.
    pub style: Style,
    /// Where `proc` and `sys` stand.
    pub root: PathBuf,
    /// The history.
    pub store: PathBuf,
    /// Exit 3 for an incomplete report.
    pub strict: bool,
}

impl Context {
    fn new(global: &Global) -> Self {
        let flag = match global.lang {
            LangArg::Auto => None,
            LangArg::Zh => Some(Lang::Zh),
            LangArg::En => Some(Lang::En),
        };
        let color = match global.color {
            ColorArg::Auto => Color::Auto,
            ColorArg::Always => Color::Always,
            ColorArg::Never => Color::Never,
        };
        let format = match global.format {
            FormatArg::Text => Format::Text,
            FormatArg::Json => Format::Json,
            FormatArg::Jsonl => Format::Jsonl,
            FormatArg::Csv => Format::Csv,
        };
        let env = |name: &str| std::env::var(name).ok();
        // JSON does not depend on who asks: English, unless a language is asked for.
        let lang = match (flag, format) {
            (Some(lang), _) => lang,
            (None, Format::Text) => lang::choose(None, env),
            (None, Format::Json | Format::Jsonl | Format::Csv) => Lang::En,
        };
        let stdout = std::io::stdout();
        let columns = rustix::termios::tcgetwinsize(&stdout)
            .ok()
            .map(|size| usize::from(size.ws_col));
        Self {
            format,
            style: Style::choose(lang, color, env, stdout.is_terminal(), columns),
            root: global.root.clone(),
            store: global.store.clone(),
            strict: global.strict,
        }
    }
}

/// The whole definition, for completions and manual pages.
#[must_use]
pub fn definition() -> clap::Command {
    Cli::command()
}

/// Runs the program: parse, run, print the error once.
#[must_use]
pub fn main() -> Exit {
    // The helper that names addresses is started by ourselves and has no options.
    if std::env::args_os()
        .nth(1)
        .is_some_and(|first| first == "symbolize")
    {
        return crate::commands::symbolize::run()
            .map_or_else(|error| diag::report_error(&error), |()| Exit::Done);
    }
    let cli = match Cli::command()
        .try_get_matches()
        .and_then(|matches| Cli::from_arg_matches(&matches))
    {
        Ok(cli) => cli,
        Err(error) => {
            // Nobody can be told when the output is gone.
            let _ = error.print();
            return if error.use_stderr() {
                Exit::Usage
            } else {
                Exit::Done
            };
        }
    };
    diag::set_verbosity(cli.global.quiet, cli.global.verbose);
    let context = Context::new(&cli.global);
    cli.command
        .run(&context)
        .unwrap_or_else(|error| diag::report_error(&error))
}

/// Reads a duration of the contract: `90s`, `5m`, `24h`, `7d`, `250ms`, or a bare `0`.
///
/// # Errors
/// Says what is wrong with the text.
pub fn duration(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let digits = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let seconds_per_unit = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86_400.0,
        "" => return Err("a unit is missing: 90s, 5m, 24h, 7d".to_owned()),
        other => return Err(format!("unknown unit '{other}': use ms, s, m, h, d")),
    };
    let number: f64 = number
        .parse()
        .map_err(|_| format!("'{number}' is not a number"))?;
    Duration::try_from_secs_f64(number * seconds_per_unit).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn each_command(
        command: &clap::Command,
        path: &str,
        check: &mut dyn FnMut(&clap::Command, &str),
    ) {
        for sub in command.get_subcommands() {
            let path = format!("{path} {}", sub.get_name());
            if sub.has_subcommands() {
                each_command(sub, &path, check);
            } else {
                check(sub, &path);
            }
        }
    }

    #[test]
    fn the_definition_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_help_with_an_example() {
        let mut seen = 0;
        each_command(&Cli::command(), "aiops", &mut |command, path| {
            seen += 1;
            let after = command
                .get_after_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            assert!(command.get_about().is_some(), "{path}");
            assert!(
                after.matches(path).count() >= 2,
                "{path} shows no two examples: {after}"
            );
        });
        assert!(seen >= 3);
    }

    /// Every Rust file below `folder`.
    fn sources(folder: &std::path::Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }

    #[test]
    fn texts_name_only_commands_that_exist() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut files = Vec::new();
        sources(&root, &mut files);
        let mut named = 0;
        // `aiops symbolize` is the program's own helper, and this file is the test itself.
        files.retain(|file| !file.ends_with("cli.rs"));
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap();
            for quoted in text.split("`aiops ").skip(1) {
                let words: Vec<&str> = quoted
                    .split('`')
                    .next()
                    .unwrap()
                    .split_whitespace()
                    .collect();
                let mut command = &Cli::command();
                for word in words {
                    match command.find_subcommand(word) {
                        // A leaked command in a test costs nothing.
                        Some(found) => command = Box::leak(Box::new(found.clone())),
                        None => {
                            assert!(
                                !command.has_subcommands()
                                    || word.starts_with('-')
                                    || word == "symbolize",
                                "{}: aiops {quoted:.40}",
                                file.display()
                            );
                            break;
                        }
                    }
                    named += 1;
                }
            }
        }
        assert!(named > 10, "{named}");
    }

    #[test]
    fn durations_of_the_contract() {
        for (text, seconds) in [
            ("90s", 90.0),
            ("5m", 300.0),
            ("24h", 86_400.0),
            ("7d", 604_800.0),
            ("0", 0.0),
            ("250ms", 0.25),
            ("1.5h", 5400.0),
        ] {
            assert_eq!(duration(text).unwrap().as_secs_f64(), seconds, "{text}");
        }
        for text in ["", "5", "s", "-1s", "5 m", "5w", "1e3s", "..s"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
