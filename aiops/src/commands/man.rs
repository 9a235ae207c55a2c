//! `aiops man`: manual pages, made from the same definitions as `--help`.

use std::path::Path;
use std::path::PathBuf;

use anyhow::Context as _;

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

/// Runs the command.
///
/// # Errors
/// A page cannot be written.
pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let mut definition = cli::definition();
    definition.build();
    match &args.out {
        Some(folder) => pages(&definition, folder, "aiops")?,
        None => super::out(&String::from_utf8_lossy(&page(&definition, "aiops")?))?,
    }
    Ok(Exit::Done)
}

fn page(command: &clap::Command, name: &str) -> std::io::Result<Vec<u8>> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command.clone())
        .title(name.to_owned())
        .render(&mut page)?;
    Ok(page)
}

fn pages(command: &clap::Command, folder: &Path, name: &str) -> anyhow::Result<()> {
    let file = folder.join(format!("{name}.1"));
    std::fs::write(&file, page(command, name)?)
        .with_context(|| format!("cannot write {}", file.display()))?;
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        pages(sub, folder, &format!("{name}-{}", sub.get_name()))?;
    }
    Ok(())
}
