//! Times the judgement of series, for `cargo xtask bench leak`: `leaktime ROUNDS FILE.csv...`, the files as
//! `cargo xtask leaklab` writes them (`ts,bytes,load,start`).
//!
//! A line for each file: its name, its samples, the verdict, and the middle of the milliseconds that one call took,
//! on one core, without the start of the process and without reading. The judgement is the one of
//! `aiops detect memory-leak`.

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
        let mut times = Vec::with_capacity(rounds);
        let mut verdict = String::new();
        for _ in 0..rounds.max(1) {
            let began = Instant::now();
            let found = leak::assess(&series, None);
            times.push(began.elapsed().as_secs_f64() * 1e3);
            verdict = format!("{:?}", found.class);
        }
        times.sort_unstable_by(f64::total_cmp);
        let middle = times[times.len() / 2];
        let samples = series.bytes.len();
        out.push_str(&format!("{path},{samples},{verdict},{middle:.4}\n"));
    }
    use std::io::Write as _;
    std::io::stdout().write_all(out.as_bytes())?;
    Ok(())
}
