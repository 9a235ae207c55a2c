//! Sizes, rows, plurals and notes for people, the same in findings and in text.

use super::Msg;
use crate::msg;

/// A size from KiB, in KiB, MiB, GiB or TiB, three digits: an exact one has no decimals (`64 MiB`), a
/// rounded one shows that it is (`64.0 MiB`).
#[must_use]
pub fn size_kb(kb: u64) -> String {
    const UNITS: [(&str, u32); 3] = [("TiB", 30), ("GiB", 20), ("MiB", 10)];
    for (unit, shift) in UNITS {
        let one = 1u64 << shift;
        if kb >= one {
            if kb.is_multiple_of(one) {
                return format!("{} {unit}", kb >> shift);
            }
            return format!("{} {unit}", three_digits(kb as f64 / one as f64));
        }
    }
    format!("{kb} KiB")
}

fn three_digits(value: f64) -> String {
    match value.abs() {
        v if v < 9.995 => format!("{value:.2}"),
        v if v < 99.95 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// Rows of `len` that `--top` shows: 0 means all.
#[must_use]
pub fn shown(top: usize, len: usize) -> usize {
    if top == 0 { len } else { top.min(len) }
}

/// The ending of an English noun after a count.
#[must_use]
pub fn plural(count: u64) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// A note of a session, which recordings keep in English, in both languages; an unknown one stays as it is.
#[must_use]
pub fn note(text: &str) -> Msg {
    let chinese = if let Some(path) = text.strip_suffix(CAPTURED) {
        format!("{path} 是采集的目录树：数值为采集时刻的数值，速率未知")
    } else if let Some(rest) = text.strip_prefix(HIDEPID) {
        let remedy = if rest.is_empty() {
            ""
        } else {
            "；请以 root 运行，或加入其 gid= 选项指定的组"
        };
        format!("/proc 以 hidepid 挂载：看不到其他用户的进程，也未计入{remedy}")
    } else if text.starts_with("no memory cgroup controller") {
        "没有内存 cgroup 控制器：限额与 cgroup 信息未知".to_owned()
    } else if let Some(rest) = text.strip_prefix("/dev/kmsg cannot be read (") {
        let error = rest.split(')').next().unwrap_or_default();
        format!("无法读取 /dev/kmsg（{error}）：缺少内核自身的日志文本")
    } else {
        text.to_owned()
    };
    msg!("{text}", "{chinese}")
}

/// How the note on a captured tree ends.
const CAPTURED: &str =
    " is a captured tree: figures are those of its moment, and rates are unknown";
/// How the note on hidden processes begins.
const HIDEPID: &str =
    "/proc is mounted with hidepid: processes of other users are not seen, and not counted";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_told_in_both_languages() {
        let captured =
            note("/x is a captured tree: figures are those of its moment, and rates are unknown");
        assert!(captured.zh.starts_with("/x 是采集的目录树"), "{captured:?}");
        let hidden = note(
            "/proc is mounted with hidepid: processes of other users are not seen, and not counted; run as root or in the group of its gid= option",
        );
        assert!(hidden.zh.contains("hidepid 挂载") && hidden.zh.contains("root"));
        assert!(
            note("/dev/kmsg cannot be read (EPERM): the kernel's own text is missing")
                .zh
                .contains("（EPERM）")
        );
        assert_eq!(note("anything").zh, "anything");
    }

    #[test]
    fn one_is_singular() {
        assert_eq!([plural(0), plural(1), plural(2)], ["s", "", "s"]);
    }

    #[test]
    fn top_0_is_all() {
        assert_eq!((shown(0, 7), shown(3, 7), shown(9, 7)), (7, 3, 7));
    }
}
