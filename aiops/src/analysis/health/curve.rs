//! Curves of the score: what a figure is worth, and how that is told.

use crate::msg;
use crate::report::Msg;

/// Points (value, score) of a falling curve, straight in between and level outside.
pub(super) type Curve = &'static [(f64, f64)];

pub(super) const SOME: Curve = &[(0.0, 1.0), (10.0, 0.6), (40.0, 0.1), (100.0, 0.01)];
pub(super) const FULL: Curve = &[(0.0, 1.0), (5.0, 0.5), (20.0, 0.05), (100.0, 0.005)];
pub(super) const USED: Curve = &[
    (50.0, 1.0),
    (70.0, 0.95),
    (90.0, 0.5),
    (99.0, 0.02),
    (100.0, 0.001),
];
/// Occupied swap that nobody reads is normal; a full one has no room left.
pub(super) const SWAP_USED: Curve = &[(0.0, 1.0), (90.0, 0.97), (98.0, 0.9), (100.0, 0.8)];
pub(super) const SWAP_RATE: Curve = &[
    (0.0, 1.0),
    (1.0, 0.8),
    (10.0, 0.5),
    (50.0, 0.2),
    (200.0, 0.05),
    (1000.0, 0.01),
];
pub(super) const REFAULT: Curve = &[
    (0.0, 1.0),
    (1.0, 0.9),
    (10.0, 0.6),
    (100.0, 0.2),
    (1000.0, 0.02),
];
pub(super) const MAJFAULT: Curve = &[
    (0.0, 1.0),
    (50.0, 0.9),
    (500.0, 0.6),
    (5000.0, 0.2),
    (50_000.0, 0.02),
];
pub(super) const IN_VAIN: Curve = &[
    (0.0, 1.0),
    (1000.0, 0.95),
    (10_000.0, 0.8),
    (100_000.0, 0.5),
    (1_000_000.0, 0.1),
];
pub(super) const ALLOCSTALL: Curve = &[(0.0, 1.0), (10.0, 0.8), (100.0, 0.5), (1000.0, 0.1)];
pub(super) const UNUSABLE: Curve = &[
    (0.0, 1.0),
    (50.0, 0.95),
    (80.0, 0.8),
    (95.0, 0.5),
    (100.0, 0.3),
];
pub(super) const COMPACT: Curve = &[(0.0, 1.0), (10.0, 0.8), (100.0, 0.5), (1000.0, 0.1)];

pub(super) fn curve(points: Curve, value: f64) -> f64 {
    let Some((first, last)) = points.first().zip(points.last()) else {
        return 1.0;
    };
    if value <= first.0 {
        return first.1;
    }
    for pair in points.windows(2) {
        if let [(x0, y0), (x1, y1)] = pair
            && value <= *x1
        {
            return y0 + (y1 - y0) * (value - x0) / (x1 - x0);
        }
    }
    last.1
}

/// `50% → 100, 70% → 95, …`; other units stand once, at the end.
pub(super) fn thresholds(points: Curve, unit: &str) -> Msg {
    let mark = if unit == "percent" { "%" } else { "" };
    let shown = points
        .iter()
        .map(|(value, score)| format!("{value}{mark} → {}", tenth(score * 100.0)));
    let shown = shown.collect::<Vec<_>>();
    let (en, zh) = (shown.join(", "), shown.join("，"));
    if mark.is_empty() {
        let (unit, chinese) = (unit, unit_zh(unit));
        return msg!("{en} ({unit})", "{zh}（{chinese}）");
    }
    Msg::new(en, zh)
}

/// A unit in Chinese.
#[must_use]
pub(super) fn unit_zh(unit: &str) -> &str {
    match unit {
        "pages/s" => "页/秒",
        "events/s" => "次/秒",
        "MiB/s" => "MiB/秒",
        other => other,
    }
}

/// One decimal; never −0.
pub(super) fn tenth(value: f64) -> f64 {
    (value * 10.0).round() / 10.0 + 0.0
}

pub(super) fn thousandth(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}
