//! What the command line asks for.

use std::path::PathBuf;

use anyhow::Context as _;
use anyhow::bail;

#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) days: u64,
    pub(crate) processes: usize,
    pub(crate) interval_s: u64,
    pub(crate) seed: u64,
    pub(crate) out: PathBuf,
    pub(crate) end_ms: i64,
}

impl Options {
    pub(crate) fn parse() -> anyhow::Result<Self> {
        let mut options = Self {
            days: 30,
            processes: 300,
            interval_s: 10,
            seed: 1,
            out: PathBuf::new(),
            end_ms: jiff::Timestamp::now().as_millisecond(),
        };
        let mut args = std::env::args().skip(1);
        while let Some(name) = args.next() {
            let value = args.next().with_context(|| format!("{name}: no value"))?;
            let number = || value.parse().with_context(|| format!("{name} {value}"));
            match name.as_str() {
                "--days" => options.days = number()?,
                "--processes" => options.processes = usize::try_from(number()?)?,
                "--interval" => options.interval_s = number()?,
                "--seed" => options.seed = number()?,
                "--out" => options.out = PathBuf::from(value),
                "--end" if value == "now" => {}
                "--end" => {
                    let end: jiff::Timestamp = value.parse().context("--end")?;
                    options.end_ms = end.as_millisecond();
                }
                _ => bail!("unknown option {name}"),
            }
        }
        anyhow::ensure!(!options.out.as_os_str().is_empty(), "--out DIR is missing");
        anyhow::ensure!(options.interval_s > 0, "--interval must be at least 1");
        Ok(options)
    }
}
