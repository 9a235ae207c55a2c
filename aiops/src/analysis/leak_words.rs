//! Shapes of memory over time in words, in both languages.

use super::leak::Assessment;
use super::leak::Class;
use super::leak::posterior::Candidate;
use super::leak::shapes::Kind;
use super::leak_report::HOUR;
use super::leak_report::MIB;
use crate::msg;
use crate::report::Msg;

/// A length of time as people say it.
pub(super) fn length(seconds: f64) -> String {
    if seconds < 10.0 {
        format!("{seconds:.1} s")
    } else if seconds < 120.0 {
        format!("{seconds:.0} s")
    } else if seconds < 2.0 * HOUR {
        format!("{:.0} min", seconds / 60.0)
    } else if seconds < 48.0 * HOUR {
        format!("{:.1} h", seconds / HOUR)
    } else {
        format!("{:.1} d", seconds / 86_400.0)
    }
}

/// What a shape is, in words. `span` is the time that x = 1 stands for.
fn shape_words(kind: Kind, span: f64, rate: f64) -> Msg {
    let rate = rate * HOUR / MIB;
    let part = |share: f64| length(share * span);
    match kind {
        Kind::Constant => msg!("it stays level", "保持平稳"),
        Kind::Line => msg!(
            "it grows steadily by {rate:+.2} MiB/h",
            "以 {rate:+.2} MiB/h 持续增长"
        ),
        Kind::Quadratic => msg!(
            "it grows on a bend, now by {rate:+.2} MiB/h",
            "增速变化，目前 {rate:+.2} MiB/h"
        ),
        Kind::Root | Kind::Log { .. } => msg!("it grows ever more slowly", "增长逐渐放缓"),
        Kind::Ramp { to } | Kind::FlatEnd { at: to } | Kind::SaturationRamp { to } => {
            let flat = part(1.0 - to);
            msg!(
                "it rose and has been level for {flat}",
                "曾经上升，已平稳 {flat}"
            )
        }
        Kind::Rise { from, to } => {
            let (took, flat) = (part(to - from), part(1.0 - to));
            msg!(
                "it rose once, over {took}, and has been level for {flat}",
                "仅上升一次（历时 {took}），此后平稳 {flat}"
            )
        }
        Kind::Hinge { from } => {
            let since = part(1.0 - from);
            msg!(
                "after a level time it has grown by {rate:+.2} MiB/h for {since}",
                "先平稳，最近 {since} 以 {rate:+.2} MiB/h 增长"
            )
        }
        Kind::StepHinge { from } | Kind::StepsHinge { from, .. } => {
            let since = part(1.0 - from);
            msg!(
                "since a step {since} ago it grows by {rate:+.2} MiB/h",
                "{since}前出现阶跃，此后以 {rate:+.2} MiB/h 增长"
            )
        }
        Kind::Broken { at } | Kind::Polyline { at, .. } => {
            let since = part(1.0 - at);
            msg!(
                "it grows by {rate:+.2} MiB/h for {since}, at another pace than before",
                "最近 {since} 以 {rate:+.2} MiB/h 增长，与之前速度不同"
            )
        }
        Kind::Saturation { tau } | Kind::TwoSaturations { tau } => {
            let tau = part(tau);
            msg!(
                "it warms up with a time constant of {tau} and levels off",
                "预热 τ={tau}，趋于平稳"
            )
        }
        Kind::LateSaturation { from, tau } => {
            let (since, tau) = (part(1.0 - from), part(tau));
            msg!(
                "it began to warm up {since} ago, with a time constant of {tau}, and levels off",
                "{since}前开始预热（τ={tau}），趋于平稳"
            )
        }
        Kind::SaturationLine { tau } => {
            let tau = part(tau);
            msg!(
                "after a warm-up (time constant {tau}) it still grows by {rate:+.2} MiB/h",
                "预热 τ={tau} 后仍以 {rate:+.2} MiB/h 增长"
            )
        }
        Kind::LateSaturationLine { from } => {
            let since = part(1.0 - from);
            msg!(
                "after a change {since} ago and its warm-up it still grows by {rate:+.2} MiB/h",
                "{since}前发生变化，预热之后仍以 {rate:+.2} MiB/h 增长"
            )
        }
        Kind::SaturationSteps => msg!(
            "it warms up and steps, then stays level",
            "预热并有阶跃，之后平稳"
        ),
        Kind::Steps { .. } => msg!("it moves in steps", "呈阶梯状变化"),
        Kind::StepsLine { .. } => msg!(
            "between steps it grows by {rate:+.2} MiB/h",
            "阶跃之间以 {rate:+.2} MiB/h 增长"
        ),
        Kind::PerLoad { .. } | Kind::PerLoadLine { .. } => msg!(
            "it grows with each request, now by {rate:+.2} MiB/h",
            "随请求累计增长，目前 {rate:+.2} MiB/h"
        ),
        Kind::HalfDay => msg!("it may be half of a daily cycle", "可能只是日周期的一半"),
        Kind::OneDay => msg!("it follows a daily cycle, up and down", "随日周期升降"),
        Kind::OneDayLine => msg!(
            "it follows a daily cycle, and grows beside it",
            "除日周期外仍在增长"
        ),
    }
}

/// The words for a shape that was fitted, where those of its kind would mislead.
pub(super) fn fitted_words(shape: &Candidate, found: &Assessment) -> Msg {
    let fell = shape.fitted.last() < shape.fitted.first();
    // What is told beside it is the mean of all shapes that leak.
    let told = found.rate.filter(|_| found.class == Class::Leak);
    let rate = shape.rate * HOUR / MIB;
    match shape.kind {
        Kind::Line if rate < 0.0 => msg!(
            "it shrinks steadily by {:.2} MiB/h",
            "以 {:.2} MiB/h 持续减少",
            -rate
        ),
        Kind::Line if found.class == Class::NoLeak => msg!(
            "it grows by {rate:+.2} MiB/h, too little for this window to count",
            "以 {rate:+.2} MiB/h 增长，在该窗口内幅度过小，不计"
        ),
        Kind::Ramp { to } | Kind::FlatEnd { at: to } | Kind::Rise { to, .. } if fell => {
            let flat = length((1.0 - to) * found.grid_span_s);
            msg!(
                "it is lower than in the beginning, and has been level for {flat}",
                "低于窗口起点，已平稳 {flat}"
            )
        }
        kind => shape_words(kind, found.grid_span_s, told.unwrap_or(shape.rate)),
    }
}
