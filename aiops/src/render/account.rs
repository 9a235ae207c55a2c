//! The last line of every report: what was seen and what was lost.

use super::lang::Word;
use super::text::Out;
use super::text::Paint;
use crate::msg;
use crate::report::Accounting;
use crate::report::Counts;
use crate::report::Msg;
use crate::report::plural;

/// Writes the accounting line.
pub(super) fn write(accounting: &Accounting, out: &mut Out) {
    let lang = out.lang();
    let parts: Vec<String> = parts(accounting)
        .iter()
        .map(|part| lang.of(part).to_owned())
        .collect();
    let paint = if accounting.complete {
        Paint::Good
    } else {
        Paint::Warn
    };
    let text = format!(
        "{}{}{}",
        Word::Accounting.text(lang),
        out.colon(),
        parts.join(lang.pick("; ", "；"))
    );
    out.hang(0, 4, paint, &text);
}

fn counts(counts: &Counts) -> (u64, String) {
    let named: Vec<String> = counts
        .iter()
        .filter(|(_, n)| **n > 0)
        .map(|(name, n)| format!("{name} {n}"))
        .collect();
    (counts.values().sum(), named.join(", "))
}

fn parts(accounting: &Accounting) -> Vec<Msg> {
    let (seen, seen_named) = counts(&accounting.seen);
    let mut parts = vec![if seen == 0 {
        msg!("0 records seen", "看到 0 条记录")
    } else {
        let s = plural(seen);
        msg!(
            "{seen} record{s} seen ({seen_named})",
            "看到 {seen} 条记录（{seen_named}）"
        )
    }];
    let (lost, lost_named) = counts(&accounting.lost);
    parts.push(if lost == 0 {
        msg!("0 lost", "丢失 0 条")
    } else {
        msg!(
            "{lost} LOST ({lost_named})",
            "丢失 {lost} 条（{lost_named}）"
        )
    });
    parts.extend(defects(accounting));
    if let Some(sampling) = accounting
        .sampling
        .as_ref()
        .filter(|sampling| sampling.mode != "none")
    {
        let (mode, scale) = (&sampling.mode, sampling.scale);
        parts.push(msg!(
            "sampled ({mode}, scale {scale})",
            "经采样（{mode}，倍率 {scale}）"
        ));
    }
    parts.push(if accounting.complete {
        msg!("complete", "完整")
    } else {
        msg!("NOT complete", "不完整")
    });
    parts
}

/// What went wrong, each only when it did.
fn defects(accounting: &Accounting) -> Vec<Msg> {
    let skipped = accounting.skipped_processes;
    let (full, truncated, failed) = (
        accounting.map_full,
        accounting.stack_truncated,
        accounting.stack_failed,
    );
    let (collisions, nameless, errors) = (
        accounting.stack_collisions,
        accounting.unresolved_frames,
        accounting.decode_errors,
    );
    let (vanished, denied, unread) = (skipped.vanished, skipped.denied, skipped.failed);
    let (zombies, threads) = (skipped.zombies, skipped.kernel_threads);
    let shares = skipped.denied_smaps;
    let counted = [
        (full, "insertion/s into full tables", "次写入已满的表"),
        (truncated, "stack/s cut", "个调用栈被截断"),
        (failed, "stack/s not taken", "个调用栈未取到"),
        (collisions, "stack/s overwritten", "个调用栈被覆盖"),
        (nameless, "frame/s without a name", "个栈帧无函数名"),
        (errors, "record/s not understood", "条记录无法解析"),
        (
            vanished,
            "process/es gone before reading",
            "个进程读取前已消失",
        ),
        (
            denied,
            "process/es not readable (permission)",
            "个进程无权读取",
        ),
        (unread, "process/es not understood", "个进程无法解析"),
        (
            shares,
            "process/es whose smaps may not be read (permission)",
            "个进程的 smaps 无权读取",
        ),
        (zombies, "zombie/s left out", "个僵尸进程被略过"),
        (threads, "kernel thread/s left out", "个内核线程被略过"),
    ];
    let mut parts: Vec<Msg> = counted
        .into_iter()
        .filter(|(n, ..)| *n > 0)
        .map(|(n, en, zh)| {
            // The ending after the slash is that of more than one.
            let (noun, rest) = en.split_once('/').unwrap_or((en, ""));
            let (ending, rest) = rest.split_once(' ').unwrap_or((rest, ""));
            let ending = if n == 1 { "" } else { ending };
            msg!("{n} {noun}{ending} {rest}", "{n} {zh}")
        })
        .collect();
    if !accounting.missing_hooks.is_empty() {
        let hooks = accounting.missing_hooks.join(", ");
        parts.push(msg!(
            "hooks that did not run: {hooks}",
            "未运行的钩子：{hooks}"
        ));
    }
    if !accounting.unread.is_empty() {
        let files = accounting.unread.join(", ");
        parts.push(msg!("not readable: {files}", "无法读取：{files}"));
    }
    if let Some(damage) = &accounting.damage {
        let (blocks, places, bytes) = (damage.blocks_read, damage.places, damage.lost_bytes);
        let [p, b, k] = [places, bytes, blocks].map(plural);
        parts.push(msg!(
            "recording damaged in {places} place{p}, {bytes} byte{b} lost, {blocks} block{k} read",
            "记录文件有 {places} 处损坏，丢失 {bytes} 字节，读出 {blocks} 块"
        ));
        if damage.truncated {
            parts.push(msg!(
                "recording ends early (cut off, or still being written)",
                "记录文件不完整（被截断或仍在写入）"
            ));
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::Lang;
    use crate::report::Damage;
    use crate::report::SkippedProcesses;

    fn texts(accounting: &Accounting, lang: Lang) -> Vec<String> {
        parts(accounting)
            .iter()
            .map(|part| lang.of(part).to_owned())
            .collect()
    }

    #[test]
    fn losses_are_said_in_words() {
        let accounting = Accounting {
            seen: Counts::from([("mark".to_owned(), 2), ("reclaim".to_owned(), 40)]),
            lost: Counts::from([("oom_ring".to_owned(), 3)]),
            map_full: 1,
            stack_truncated: 1,
            stack_failed: 1,
            stack_collisions: 1,
            unresolved_frames: 7,
            decode_errors: 1,
            skipped_processes: SkippedProcesses {
                vanished: 1,
                denied: 2,
                failed: 1,
                ..SkippedProcesses::default()
            },
            missing_hooks: vec!["oom/wake_reaper".to_owned()],
            damage: Some(Damage {
                blocks_read: 9,
                places: 1,
                lost_bytes: 512,
                truncated: true,
            }),
            ..Accounting::default()
        };
        let en = texts(&accounting, Lang::En);
        assert_eq!(en[0], "42 records seen (mark 2, reclaim 40)");
        assert_eq!(en[1], "3 LOST (oom_ring 3)");
        assert_eq!(en.last().unwrap(), "NOT complete");
        assert_eq!(en.len(), 15, "{en:#?}");
        assert_eq!(texts(&accounting, Lang::Zh).len(), en.len());
        assert!(en.contains(&"1 process gone before reading".to_owned()));
        assert!(en.contains(&"2 processes not readable (permission)".to_owned()));
        assert!(en.contains(&"7 frames without a name".to_owned()));
        let whole = Accounting {
            complete: true,
            ..Accounting::default()
        };
        assert_eq!(
            texts(&whole, Lang::Zh),
            ["看到 0 条记录", "丢失 0 条", "完整"]
        );
    }
}
