//! `trace swap` beside the kernel's own counts, on a swap file of our own.

use std::thread;
use std::time::Duration;
use std::time::Instant;

use rustix::process::Signal;
use serde_json::Value;

use crate::support::Cgroup;
use crate::support::Scratch;
use crate::support::Tracer;
use crate::support::can_trace;
use crate::support::json;
use crate::support::same;
use crate::support::stdout;
use crate::support::swapping;
use crate::support::timeless;
use crate::support::want;
use crate::swap::LIMIT_MIB;
use crate::swap::Own;
use crate::swap::SwapFile;
use crate::swap::TOUCH_MIB;
use crate::swap::vmstat;

/// Pages that must go each way: 40 MiB of 4 KiB.
const PAGES: u64 = 10_000;

#[test]
fn pages_are_counted_for_their_owner_as_the_kernel_counts_them() {
    if !can_trace() {
        return;
    }
    let _alone = swapping();
    let Some(_swap) = SwapFile::new() else {
        return;
    };
    // Pages of others (the host's own reclaim, shared memory) may move once, not each time.
    let mut why = Vec::new();
    for _ in 0..4 {
        match attempt() {
            Ok(()) => return,
            Err(reason) => {
                println!("{reason}");
                why.push(reason);
            }
        }
    }
    panic!("{}", why.join("\n"));
}

fn attempt() -> Result<(), String> {
    let Some(cgroup) = Cgroup::with_swap(LIMIT_MIB << 20) else {
        return Ok(());
    };
    let place = Scratch::new();
    let file = place.path("swap.aiops");
    let tracer = Tracer::start(&["trace", "swap", "--record", &file, "-o", "json"]);
    let before = (vmstat("pswpin"), vmstat("pswpout"));
    let mut child = Own::start(&cgroup, &format!("anon {TOUCH_MIB}"));
    let pid = child.0.id();
    child.ready();
    let end = Instant::now() + Duration::from_secs(120);
    while vmstat("pswpin") - before.0 < PAGES || vmstat("pswpout") - before.1 < PAGES {
        assert!(Instant::now() < end, "{PAGES} pages in and out");
        thread::sleep(Duration::from_millis(50));
    }
    // Nothing moves while the counts are read, one after the other.
    child.stop();
    thread::sleep(Duration::from_millis(300));
    tracer.signal(Signal::INT);
    let (code, live, errors) = tracer.finish();
    assert_eq!(code, 0, "{errors}");
    drop(child);
    let report = json(&live);
    assert_eq!(report["schema"], "aiops.trace-swap/1");
    let totals = &report["data"]["totals"];
    println!("{totals}");
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    for key in ["out_difference", "in_difference"] {
        want!(number(&totals[key]).abs() <= 0.01, "{key}: {totals}");
    }
    let rows = report["data"]["processes"].as_array().expect("processes");
    let row = rows.iter().find(|row| row["pid"] == pid);
    let row = row.unwrap_or_else(|| panic!("{pid}: {report:#}"));
    want!(number(&row["share"]) > 0.95, "{row}");
    assert_eq!(row["cgroup"], cgroup.path.as_str(), "{row}");
    let regions = row["regions"].as_array().expect("regions");
    let last: u64 = regions
        .iter()
        .filter_map(|one| one["last_kb"].as_u64())
        .sum();
    // More than the limit holds was touched: what does not fit lies in swap, in memory without a file.
    want!(last > 50 << 10, "{row:#}");
    let sum = |key: &str| {
        rows.iter()
            .map(|row| row[key].as_u64().expect("pages"))
            .sum::<u64>()
    };
    same!(
        Some(sum("swap_out_pages")),
        totals["swap_out_pages"].as_u64(),
        "out"
    );
    same!(
        Some(sum("swap_in_pages")),
        totals["swap_in_pages"].as_u64(),
        "in"
    );
    assert_eq!(totals["other"], 0, "{totals}");
    let replayed = json(&stdout(&["replay", &file, "-o", "json"]));
    assert_eq!(timeless(report.clone()), timeless(replayed));
    let text = stdout(&["replay", &file, "--lang", "zh"]);
    assert!(
        text.contains("换出") && text.contains(&pid.to_string()),
        "{text}"
    );
    Ok(())
}
