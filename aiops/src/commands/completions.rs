//! `aiops completions`: what a shell needs to complete commands and options.

use crate::cli;
use crate::diag::Exit;

/// Options of `completions`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  aiops completions bash > /etc/bash_completion.d/aiops
  aiops completions zsh > /usr/local/share/zsh/site-functions/_aiops")]
pub struct Args {
    /// The shell.
    #[arg(value_enum)]
    shell: clap_complete::Shell,
}

/// Runs the command.
///
/// # Errors
/// stdout cannot be written.
pub(super) fn run(args: &Args) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut cli::definition(), "aiops", &mut script);
    super::out(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Done)
}
