//! `aiops monitor memory`: the daemon that keeps history.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use super::options::bytes;
use super::options::share;
use crate::cli;
use crate::cli::Context;
use crate::diag;
use crate::diag::Exit;
use crate::session::monitor;
use crate::session::monitor::Config;
use crate::session::monitor::Options;
use crate::session::monitor::Settings;

/// Shortest time that history is kept.
const LEAST_KEEP: Duration = Duration::from_secs(3600);
/// Shortest interval.
const LEAST: Duration = Duration::from_millis(100);

/// Options of `monitor memory`.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = "\
Settings:
  /etc/aiops/config.toml, read at the start and on SIGHUP; options of the command line go first:
      interval = \"5s\"  smaps_budget = \"0.2%\"  metrics = \"127.0.0.1:9464\"
      keep = \"30d\"  max_size = \"1GiB\"  bpf = true  top = 20
  a change of metrics, bpf and top counts from the next start

Examples:
  aiops monitor memory --daemon
      in the background; its process id is printed when it works
  aiops monitor memory --interval 10s --metrics 127.0.0.1:9464
      in the foreground, with a port for Prometheus
  aiops monitor memory --no-bpf --duration 1h --store ./history
      an hour without hooks, into another folder")]
pub struct Args {
    /// Detach, and log to STORE/monitor.log.
    #[arg(long)]
    daemon: bool,
    /// Between samples; down to 1s while memory is short [default: 5s].
    #[arg(long, value_name = "TIME", value_parser = interval)]
    interval: Option<Duration>,
    /// Most of one CPU that reading PSS may take; processes take turns [default: 0.2%].
    #[arg(long, value_name = "SHARE", value_parser = share)]
    smaps_budget: Option<f64>,
    /// Load no hooks: OOM kills are counted, not explained.
    #[arg(long)]
    no_bpf: bool,
    /// Serve OpenMetrics at this address.
    #[arg(long, value_name = "ADDR")]
    metrics: Option<String>,
    /// Serve them to other hosts, too: names of processes, users and cgroups, without a password.
    #[arg(long, requires = "metrics")]
    metrics_public: bool,
    /// End after this time.
    #[arg(long, value_name = "TIME", value_parser = cli::duration)]
    duration: Option<Duration>,
    /// Read settings from this file [default: /etc/aiops/config.toml].
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

fn interval(text: &str) -> Result<Duration, String> {
    let interval = cli::duration(text)?;
    if interval < LEAST {
        return Err("at least 100ms: shorter ones would only measure aiops".to_owned());
    }
    Ok(interval)
}

/// Runs the command.
///
/// # Errors
/// There is no /proc, the settings are wrong, or the store cannot be written; each with its remedy.
pub(super) fn run(args: &Args, context: &Context) -> anyhow::Result<Exit> {
    // Mistakes are told before anything is started.
    let settings = settings(args)?;
    if args.daemon && !monitor::is_child() {
        return detach();
    }
    // Detached, it stands at the root of the file system.
    let mut args = args.clone();
    if let Some(path) = &mut args.config {
        *path = std::path::absolute(&*path)?;
    }
    let usual = PathBuf::from(monitor::CONFIG);
    let options = Options {
        root: context.root.clone(),
        store: std::path::absolute(&context.store)?,
        config: args
            .config
            .clone()
            .or_else(|| usual.exists().then_some(usual)),
        duration: args.duration,
        settings,
    };
    let lost = monitor::run(options, &|| self::settings(&args))?;
    Ok(if lost > 0 && context.strict {
        Exit::Incomplete
    } else {
        Exit::Done
    })
}

fn detach() -> anyhow::Result<Exit> {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    match monitor::detach(&args)? {
        Some(pid) => {
            diag::note(&format!("running in the background as process {pid}"));
            super::out(&format!("{pid}\n"))?;
            Ok(Exit::Done)
        }
        // It has said why.
        None => Ok(Exit::Failed),
    }
}

/// The command line, then the file, then what is usual.
fn settings(args: &Args) -> anyhow::Result<Settings> {
    let path = args
        .config
        .clone()
        .unwrap_or_else(|| PathBuf::from(monitor::CONFIG));
    let file = Config::read(args.config.as_deref())?;
    let wrong = |key: &str, why: String| monitor::bad(&path, &format!("{key}: {why}"));
    let usual = Duration::from_secs(5);
    let interval = match (args.interval, &file.interval) {
        (Some(said), _) => said,
        (None, Some(text)) => interval(text).map_err(|why| wrong("interval", why))?,
        (None, None) => usual,
    };
    let smaps_budget = match (args.smaps_budget, &file.smaps_budget) {
        (Some(said), _) => said,
        (None, Some(text)) => share(text).map_err(|why| wrong("smaps_budget", why))?,
        (None, None) => 0.002,
    };
    let keep = file.keep.unwrap_or_else(|| "30d".to_owned());
    let kept = cli::duration(&keep).map_err(|why| wrong("keep", why))?;
    if kept < LEAST_KEEP {
        let why = "at least 1h: a segment holds an hour, and is removed whole";
        return Err(wrong("keep", why.to_owned()));
    }
    if let Some(text) = &file.max_size {
        bytes(text).map_err(|why| wrong("max_size", why))?;
    }
    let metrics = args.metrics.clone().or(file.metrics);
    let metrics_public = args.metrics_public || file.metrics_public.unwrap_or(false);
    if let Some(addr) = &metrics {
        monitor::address(addr, metrics_public)?;
    }
    Ok(Settings {
        interval,
        smaps_budget,
        bpf: !args.no_bpf && file.bpf.unwrap_or(true),
        metrics,
        metrics_public,
        top: file.top.unwrap_or(20),
        keep,
        max_size: file.max_size,
    })
}
