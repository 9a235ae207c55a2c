//! Whole reports: read these before changing the layout.

use serde_json::Value;

use super::sample;
use super::*;
use crate::render;
use crate::render::Format;
use crate::render::escape;
use crate::report::oom::LoggedKill;

fn style(lang: Lang, width: usize) -> Style {
    Style {
        lang,
        color: false,
        width,
        unicode: true,
    }
}

fn text(report: &Report<OomData>, style: &Style) -> String {
    render::report(report, Format::Text, style).unwrap()
}

#[test]
fn show() {
    println!(
        "{}",
        text(
            &sample::report(vec![sample::incident()]),
            &style(Lang::En, 100)
        )
    );
    println!(
        "{}",
        text(
            &sample::report(vec![sample::incident()]),
            &style(Lang::Zh, 80)
        )
    );
    println!("{}", text(&group_report(), &style(Lang::En, 80)));
    println!(
        "{}",
        text(
            &sample::report(vec![]),
            &Style {
                unicode: false,
                ..style(Lang::En, 80)
            }
        )
    );
}

fn group_report() -> Report<OomData> {
    let mut group = sample::incident();
    group.group_kill = Some(true);
    group.kills = (0..3)
        .map(|i| Kill {
            pid: 4000 + i,
            comm: format!("worker-{i}"),
            cmdline: Some("/srv/app/worker --queue jobs".to_owned()),
            kernel: None,
            ..sample::kill()
        })
        .collect();
    let mut exiting = sample::incident();
    exiting.outcome = "already-exiting";
    sample::report(vec![sample::incident(), group, exiting])
}
