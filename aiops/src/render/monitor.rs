//! `monitor status` for people: one fact a line.

use super::TextReport;
use super::findings;
use super::lang::Lang;
use super::text::Out;
use super::text::clock;
use super::units;
use crate::msg;
use crate::report::Msg;
use crate::report::Report;
use crate::report::monitor::MonitorData;
use crate::report::monitor::MonitorState;
use crate::report::monitor::StoreState;
use crate::report::plural;

impl TextReport for MonitorData {
    fn text(report: &Report<Self>, out: &mut Out) {
        let data = &report.data;
        let lang = out.lang();
        out.title(
            &text(&msg!("memory monitor", "内存监控"), lang),
            &clock(&report.generated_at),
        );
        match (&data.state, data.running) {
            (Some(state), true) => running(state, data.last_tick_age_s, out),
            (Some(state), false) => {
                let pid = state.own.pid;
                let last = state.last_tick_at.as_deref().unwrap_or("?");
                pair(
                    out,
                    &msg!("state", "状态"),
                    &msg!(
                        "not running: process {pid} ended without a word, last sample {last}",
                        "未运行：进程 {pid} 已意外结束，最后一次采样 {last}"
                    ),
                );
            }
            (None, _) => pair(out, &msg!("state", "状态"), &msg!("not running", "未运行")),
        }
        if let Some(store) = &data.store {
            stored(store, out);
        }
        findings::write(&report.findings, out);
    }
}

fn text(msg: &Msg, lang: Lang) -> String {
    match lang {
        Lang::En => msg.en.clone(),
        Lang::Zh => msg.zh.clone(),
    }
}

fn pair(out: &mut Out, name: &Msg, value: &Msg) {
    let lang = out.lang();
    out.pair(0, &text(name, lang), &text(value, lang));
}

fn running(state: &MonitorState, age_s: Option<f64>, out: &mut Out) {
    let own = &state.own;
    let (pid, version) = (own.pid, &state.version);
    let up = units::span(own.uptime_s);
    pair(
        out,
        &msg!("state", "状态"),
        &msg!(
            "running as process {pid} for {up}, aiops {version}",
            "运行中，进程 {pid}，已运行 {up}，aiops {version}"
        ),
    );
    let now = units::span(state.interval_now_s);
    let age = age_s.map_or_else(|| "?".to_owned(), units::span);
    let why = state
        .pressure
        .as_deref()
        .map_or_else(String::new, |sign| format!(" ({sign})"));
    pair(
        out,
        &msg!("samples", "采样"),
        &msg!(
            "every {now}{why}, the last {age} ago: {} processes, {} cgroups",
            "每 {now}{why}，最近一次在 {age} 前：{} 个进程，{} 个 cgroup",
            state.processes,
            state.cgroups
        ),
    );
    cost(state, out);
    let kills: u64 = state.oom_kills.values().sum();
    let hooks = match &state.hooks_error {
        None => msg!(
            "{kills} since the start; {} of {} hooks",
            "启动以来 {kills} 次；{}/{} 个钩子",
            state.hooks_attached,
            state.hooks
        ),
        Some(why) => msg!(
            "{kills} since the start, counted only: {why}",
            "启动以来 {kills} 次，仅计数：{why}"
        ),
    };
    pair(out, &msg!("OOM kills", "OOM 终止"), &hooks);
    if let Some(metrics) = &state.metrics {
        pair(out, &msg!("metrics", "指标"), &Msg::new(metrics, metrics));
    }
    let size = state.max_size.as_deref();
    let size = size.map_or_else(String::new, |size| format!(", {size}"));
    let config = state.config.as_deref().unwrap_or("-");
    pair(
        out,
        &msg!("settings", "设置"),
        &msg!(
            "{config}; history for {}{size}",
            "{config}；历史保留 {}{size}",
            state.keep
        ),
    );
    for error in own.store_error.iter().chain(&state.compaction_error) {
        pair(out, &msg!("error", "错误"), &Msg::new(error, error));
    }
}

fn cost(state: &MonitorState, out: &mut Out) {
    let own = &state.own;
    let lang = out.lang();
    let percent = |value: Option<f64>| {
        value.map_or_else(|| lang.unknown().to_owned(), |value| format!("{value:.2}%"))
    };
    let (all, recent) = (percent(own.cpu_percent), percent(own.cpu_percent_10m));
    pair(
        out,
        &msg!("CPU", "CPU"),
        &msg!(
            "{all} of a core since the start, {recent} in the last 10 minutes",
            "启动以来占一个核的 {all}，近 10 分钟 {recent}"
        ),
    );
    let (rss, peak) = (
        units::size(own.rss_kb, lang),
        units::size(own.rss_peak_kb, lang),
    );
    pair(
        out,
        &msg!("memory", "内存"),
        &msg!("{rss}, at most {peak}", "{rss}，峰值 {peak}"),
    );
    let written = units::size(own.written_bytes.map(|bytes| bytes / 1024), lang);
    let seconds = std::time::Duration::try_from_secs_f64(own.uptime_s)
        .map_or(0, |uptime| uptime.as_secs())
        .max(1);
    let rate = own
        .written_bytes
        .filter(|_| seconds >= 60)
        .map(|bytes| units::size_kb(bytes.saturating_mul(3600) / 1024 / seconds));
    let rate = rate.unwrap_or_else(|| lang.unknown().to_owned());
    pair(
        out,
        &msg!("written", "写盘"),
        &msg!(
            "{written} in all, {rate} per hour",
            "共 {written}，每小时 {rate}"
        ),
    );
    let ms = |value: Option<f64>| {
        value.map_or_else(|| lang.unknown().to_owned(), |ms| units::span(ms / 1e3))
    };
    let (last, most) = (ms(own.tick_ms), ms(own.tick_ms_max));
    pair(
        out,
        &msg!("each sample", "每次采样"),
        &msg!(
            "{last}, at most {most}; {} taken, {} missed, {} not stored",
            "{last}，最长 {most}；已采 {}，错过 {}，未存 {}",
            own.ticks,
            own.missed_ticks,
            own.lost_ticks
        ),
    );
}

fn stored(store: &StoreState, out: &mut Out) {
    let (es, zs) = store.from.as_deref().map_or_else(Default::default, |from| {
        let from = clock(from);
        (format!(" since {from}"), format!("自 {from} 起 "))
    });
    let size = units::size_kb(store.bytes / 1024);
    let (folder, segments, logs) = (&store.folder, store.segments, store.logs);
    let (ss, ls) = (plural(segments), plural(logs));
    pair(
        out,
        &msg!("store", "存储"),
        &msg!(
            "{folder}: {size}{es}, {segments} segment{ss}, {logs} log{ls}",
            "{folder}：{zs}{size}，{segments} 个段，{logs} 个日志"
        ),
    );
}
