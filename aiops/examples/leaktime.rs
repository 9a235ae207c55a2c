//! Times the judgement of series, for `cargo xtask bench leak`: `leaktime ROUNDS FILE.csv...`, the files as
//! `cargo xtask leaklab` writes them (`ts,bytes,load,start`).
//!
//! A line for each file: its name, its samples, the verdict, and the least of the milliseconds that one call took,
//! on one core, without the start of the process and without reading: what else the machine does is not counted.
//! The judgement is the one of `aiops detect memory-leak`.

use std::time::Instant;

use aiops::analysis::leak;
use aiops::analysis::leak::Series;
use anyhow::Context as _;

fn series(text: &str) -> anyhow::Result<Series> {
    let mut series = Series::default();
    let (mut loads, mut starts) = (Vec::new(), Vec::new());
    for line in text.lines().skip(1) {
        let mut cells = line.split(',');
        let mut number = || -> anyhow::Result<Option<f64>> {
            let cell = cells.next().context("four columns")?;
            Ok(if cell.is_empty() {
                None
            } else {
                Some(cell.parse()?)
            })
        };
        series.time_s.push(number()?.context("a time")?);
        series.bytes.push(number()?.context("a size")?);
        loads.extend(number()?);
        starts.extend(number()?);
    }
    let n = series.bytes.len();
    series.load = (loads.len() == n).then_some(loads);
    series.start_s = (starts.len() == n).then_some(starts);
    Ok(series)
}

fn main() -> anyhow::Result<()> {
    let mut args = std::env::args().skip(1);
    let rounds: usize = args.next().context("how many rounds?")?.parse()?;
    let mut out = String::new();
    for path in args {
        let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
        let series = series(&text).with_context(|| path.clone())?;
        let (mut least, mut verdict) = (f64::INFINITY, None);
        for _ in 0..rounds.max(1) {
            let began = Instant::now();
            let found = leak::assess(&series, None);
            least = least.min(began.elapsed().as_secs_f64() * 1e3);
            verdict = Some(found.class);
        }
        let samples = series.bytes.len();
        let verdict = verdict.map_or_else(String::new, |class| format!("{class:?}"));
        out.push_str(&format!("{path},{samples},{verdict},{least:.4}\n"));
    }
    use std::io::Write as _;
    std::io::stdout().write_all(out.as_bytes())?;
    Ok(())
}
