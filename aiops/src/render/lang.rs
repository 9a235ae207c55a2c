//! Every word of the reports, in both languages: labels ([`Word`]) and readable names of the stable ids
//! that JSON carries ([`term`]). Whole sentences with figures are `msg!`s where they are written.

use std::borrow::Cow;

use crate::report::Msg;

/// Language of texts for people.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lang {
    /// English.
    #[default]
    En,
    /// Chinese, simplified.
    Zh,
}

impl Lang {
    /// A message in this language.
    #[must_use]
    pub fn of(self, msg: &Msg) -> &str {
        self.pick(&msg.en, &msg.zh)
    }

    /// One of two texts.
    #[must_use]
    pub fn pick<'a>(self, en: &'a str, zh: &'a str) -> &'a str {
        match self {
            Self::En => en,
            Self::Zh => zh,
        }
    }

    /// What stands for a value that is not known.
    #[must_use]
    pub fn unknown(self) -> &'static str {
        match self {
            Self::En => "–",
            Self::Zh => "未知",
        }
    }
}

/// The language of a locale or language name: `zh_CN.UTF-8`, `zh`, `en`, `C`.
fn parse(name: &str) -> Lang {
    let language = name.split(['_', '.', '@', '-']).next().unwrap_or_default();
    let charset = name
        .split_once('.')
        .map(|(_, rest)| rest.split('@').next().unwrap_or_default());
    // Chinese in another encoding than UTF-8 would be shown as garbage.
    let readable = charset.is_none_or(is_utf8_name);
    if language.eq_ignore_ascii_case("zh") && readable {
        Lang::Zh
    } else {
        Lang::En
    }
}

/// The language: `--lang zh|en|auto`, then `AIOPS_LANG`, then the locale (`LC_ALL`, `LC_MESSAGES`, `LANG`).
/// `env` looks up environment variables.
pub fn choose(flag: Option<&str>, env: impl Fn(&str) -> Option<String>) -> Lang {
    let own = env("AIOPS_LANG");
    let named = [flag, own.as_deref()].into_iter().flatten();
    for name in named {
        if !name.is_empty() && !name.eq_ignore_ascii_case("auto") {
            return parse(name);
        }
    }
    locale(&env, "LC_MESSAGES").map_or(Lang::En, |name| parse(&name))
}

/// The locale of a category: the first of `LC_ALL`, the category's own variable and `LANG` that is set.
fn locale(env: impl Fn(&str) -> Option<String>, category: &str) -> Option<String> {
    let mut values = ["LC_ALL", category, "LANG"].into_iter().filter_map(env);
    values.find(|value| !value.is_empty())
}

fn is_utf8_name(charset: &str) -> bool {
    charset.eq_ignore_ascii_case("UTF-8") || charset.eq_ignore_ascii_case("utf8")
}

/// Whether the locale's characters are UTF-8 (`LC_ALL`, `LC_CTYPE`, `LANG`).
pub(super) fn is_utf8(env: impl Fn(&str) -> Option<String>) -> bool {
    let name = locale(env, "LC_CTYPE").unwrap_or_default();
    let charset = name
        .split_once('.')
        .map(|(_, rest)| rest.split('@').next().unwrap_or_default());
    charset.is_some_and(is_utf8_name)
}

macro_rules! words {
    ($($name:ident: $en:literal, $zh:literal;)*) => {
        /// A label.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[expect(missing_docs, reason = "the table below says what each is")]
        pub enum Word { $($name,)* }

        impl Word {
            /// Every word with its texts.
            pub const ALL: &'static [(Self, &'static str, &'static str)] = &[$((Self::$name, $en, $zh),)*];

            /// Its text.
            #[must_use]
            pub fn text(self, lang: Lang) -> &'static str {
                let (_, en, zh) = Self::ALL[self as usize];
                match lang {
                    Lang::En => en,
                    Lang::Zh => zh,
                }
            }
        }
    };
}

words! {
    OomTitle: "OOM event analysis", "OOM 事件分析";
    DoctorTitle: "What works on this host", "本机能力检查";
    OomTime: "OOM time", "OOM 发生时间";
    TriggerType: "Trigger type", "触发类型";
    TriggeredBy: "Triggered by", "触发进程";
    Constraint: "Constraint", "约束";
    Limit: "Limit", "限额";
    Host: "Host", "主机";
    Incident: "Incident", "事件编号";
    Incidents: "Incidents", "事件列表";
    Outcome: "Outcome", "结果";
    Killed: "Killed process", "被 Kill 进程";
    GroupKilled: "Killed processes", "被 Kill 的进程组";
    Marked: "Marked process (not killed)", "被标记进程（并非被杀）";
    Name: "Name", "进程名";
    Pid: "PID", "PID";
    Memory: "Memory", "内存占用";
    Swap: "Swap", "Swap";
    PageTables: "Page tables", "页表";
    Virtual: "Virtual", "虚拟内存";
    OomScore: "oom_score", "oom_score";
    User: "User", "用户";
    Command: "Command", "命令行";
    Program: "Program", "程序";
    Cgroup: "Cgroup", "Cgroup";
    Container: "Container", "容器";
    KernelSays: "Kernel's own figures", "内核日志中的数值";
    System: "System memory (at the OOM)", "系统内存状态 (OOM 时)";
    Pressure: "Pressure (PSI avg10)", "内存压力 (PSI avg10)";
    Growth: "Before the kill", "被杀之前";
    RootCause: "Root cause", "根因分析";
    Advice: "Advice", "预防建议";
    Why: "Why this process", "为什么选中它";
    Candidates: "Candidates", "候选进程";
    WouldChange: "What would have changed it", "怎样会改变结果";
    Timeline: "Timeline (ms from the mark)", "时间线（毫秒，以标记为 0）";
    Stacks: "Stacks", "调用栈";
    TriggerKernel: "Trigger, kernel", "触发者，内核";
    TriggerUser: "Trigger, user", "触发者，用户态";
    VictimUser: "Victim, user", "受害者，用户态";
    VictimKernel: "Victim, kernel", "受害者，内核";
    KernelLog: "Kernel log", "内核日志";
    Reconciliation: "Are all kills accounted for?", "是否无一遗漏";
    SeenBy: "Seen by", "观察来源";
    Missing: "Not in when the incident closed", "事件结束时仍缺";
    Accounting: "Accounting", "统计";
    Notes: "Notes", "说明";
    Commands: "Commands", "命令";
    Fallback: "stands in", "替代";
    Lost: "lost without it", "缺少它则";
    Remedy: "do", "处理";
    Needs: "needs", "需要";
    Time: "Time", "时间";
    Rss: "RSS", "RSS";
    Adj: "adj", "adj";
    Score: "Score", "得分";
    Note: "Note", "备注";
}

/// Families of stable ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// `cause.class`.
    Cause,
    /// `outcome`.
    Outcome,
    /// `growth.shape`.
    Shape,
    /// `timeline[].step`.
    Step,
    /// `constraint`.
    Constraint,
    /// `killer`.
    Killer,
    /// `missing[]`.
    Missing,
    /// `unkillable`.
    Unkillable,
    /// State of a check.
    State,
    /// Where a figure is from.
    From,
    /// Kind of a mapping.
    Region,
}

/// Readable names of ids.
const TERMS: &[(Group, &str, &str, &str)] = &[
    (Group::Region, "heap", "heap", "堆"),
    (Group::Region, "stack", "stack", "主线程栈"),
    (Group::Region, "thread_stack", "thread stacks", "线程栈"),
    (Group::Region, "arena", "malloc arenas", "malloc arena"),
    (Group::Region, "executable", "program", "程序文件"),
    (Group::Region, "library", "libraries", "共享库"),
    (Group::Region, "anon", "anonymous", "匿名内存"),
    (
        Group::Region,
        "named_anon",
        "named anonymous",
        "具名匿名内存",
    ),
    (
        Group::Region,
        "shared_anon",
        "shared anonymous",
        "共享匿名内存",
    ),
    (Group::Region, "file", "files", "文件映射"),
    (Group::Region, "shm", "shared memory", "共享内存"),
    (Group::Region, "memfd", "memfd", "memfd"),
    (Group::Region, "hugetlb", "hugetlb", "hugetlb 大页"),
    (Group::Region, "vdso", "vdso/vvar", "vdso/vvar"),
    (Group::Region, "device", "devices/GPU", "设备/GPU"),
    (
        Group::Cause,
        "cgroup-limit",
        "a memory cgroup reached its limit",
        "内存 cgroup 达到限额",
    ),
    (
        Group::Cause,
        "global-exhaustion",
        "the host ran out of memory",
        "整机内存耗尽",
    ),
    (
        Group::Cause,
        "swap-full",
        "memory and swap were both full",
        "内存与 Swap 均已用尽",
    ),
    (
        Group::Cause,
        "fragmentation",
        "free memory was too fragmented for the request",
        "空闲内存碎片化，无法满足连续页请求",
    ),
    (
        Group::Cause,
        "cpuset-policy",
        "the nodes that a cpuset allows ran out of memory",
        "cpuset 允许的节点内存耗尽",
    ),
    (
        Group::Cause,
        "memory-policy",
        "the nodes that the memory policy allows ran out of memory",
        "内存策略所允许的节点内存耗尽",
    ),
    (Group::Cause, "unknown", "cause not known", "原因未知"),
    (Group::Outcome, "killed", "killed", "已杀死"),
    (
        Group::Outcome,
        "already-exiting",
        "was exiting already, not killed",
        "本已在退出，并非被杀",
    ),
    (
        Group::Outcome,
        "no-killable-process",
        "no process could be killed",
        "没有可杀的进程",
    ),
    (Group::Outcome, "panic", "the kernel panicked", "内核崩溃"),
    (Group::Outcome, "unknown", "not known", "结果未知"),
    (Group::Shape, "growing", "growing", "持续增长"),
    (Group::Shape, "steady", "steady", "平稳"),
    (Group::Shape, "shrinking", "shrinking", "下降"),
    (Group::Shape, "stairs", "growing in steps", "阶梯式增长"),
    (Group::Shape, "burst", "sudden growth", "突然增长"),
    (Group::Step, "reclaim", "reclaim began", "开始回收内存"),
    (
        Group::Step,
        "kernel-report",
        "kernel began its report",
        "内核开始打印报告",
    ),
    (
        Group::Step,
        "reaping-skipped",
        "reaping skipped",
        "跳过内存收割",
    ),
    (Group::Step, "signal", "SIGKILL sent", "发出 SIGKILL"),
    (
        Group::Step,
        "mark",
        "chosen by the OOM killer",
        "被 OOM killer 选中",
    ),
    (
        Group::Step,
        "sigkill-delivered",
        "SIGKILL delivered",
        "SIGKILL 送达",
    ),
    (Group::Step, "exit", "process exited", "进程退出"),
    (
        Group::Step,
        "wake-reaper",
        "OOM reaper woken",
        "唤醒 OOM reaper",
    ),
    (Group::Step, "reaping", "reaping began", "开始收割内存"),
    (Group::Step, "reaped", "memory reaped", "内存收割完成"),
    (
        Group::Step,
        "skip-reaping",
        "reaping not needed",
        "无需收割",
    ),
    (
        Group::Step,
        "kernel-text",
        "line in the kernel log",
        "内核写入日志",
    ),
    (Group::Constraint, "none", "whole host", "整机"),
    (Group::Constraint, "memcg", "memory cgroup", "内存 cgroup"),
    (Group::Constraint, "cpuset", "cpuset", "cpuset 节点"),
    (
        Group::Constraint,
        "memory_policy",
        "memory policy",
        "内存策略",
    ),
    (Group::Killer, "kernel", "oom-killer", "oom-killer"),
    (Group::Missing, "kmsg", "the kernel's text", "内核日志文本"),
    (Group::Missing, "exit", "the victim's exit", "受害者退出"),
    (Group::Missing, "reaped", "the end of reaping", "收割完成"),
    (
        Group::Missing,
        "wake-reaper",
        "the waking of the OOM reaper",
        "唤醒 OOM reaper",
    ),
    (
        Group::Missing,
        "identity",
        "the victim's identity",
        "受害者身份信息",
    ),
    (
        Group::Missing,
        "sigkill-delivered",
        "delivery of SIGKILL",
        "SIGKILL 送达",
    ),
    (
        Group::Missing,
        "samples",
        "samples before the kill",
        "被杀之前的采样",
    ),
    (Group::Missing, "stacks", "stacks", "调用栈数据"),
    (Group::Missing, "symbols", "names of functions", "函数名"),
    (Group::Unkillable, "adj-minus-1000", "protected", "受保护"),
    (
        Group::Unkillable,
        "kernel-thread",
        "kernel thread",
        "内核线程",
    ),
    (Group::Unkillable, "init", "init", "init 进程"),
    (Group::State, "ok", "ok", "正常"),
    (Group::State, "degraded", "degraded", "降级"),
    (Group::State, "failed", "failed", "失败"),
    (Group::State, "absent", "absent", "没有"),
    (Group::From, "mark", "at the kill", "被杀时"),
    (
        Group::From,
        "signal",
        "from the process, at the kill",
        "被杀时读自进程",
    ),
    (
        Group::From,
        "tracepoint",
        "from the tracepoint",
        "来自 tracepoint",
    ),
    (Group::From, "kmsg", "kernel log", "内核日志"),
    (Group::From, "sample", "sample", "采样"),
    (
        Group::From,
        "stack",
        "inferred from the stack",
        "由调用栈推断",
    ),
    (
        Group::From,
        "reclaim",
        "of the last reclaim",
        "取自最近一次回收",
    ),
];

/// The readable name of a stable id; the id itself when it has none.
#[must_use]
pub fn term(group: Group, id: &str, lang: Lang) -> Cow<'_, str> {
    let found = TERMS
        .iter()
        .find(|(of, name, ..)| *of == group && *name == id);
    match found {
        Some((_, _, en, zh)) => Cow::Borrowed(match lang {
            Lang::En => en,
            Lang::Zh => zh,
        }),
        None => Cow::Borrowed(id),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_text_exists_in_both_languages() {
        let words = Word::ALL.iter().map(|(_, en, zh)| (*en, *zh));
        let terms = TERMS.iter().map(|(_, _, en, zh)| (*en, *zh));
        for (en, zh) in words.chain(terms) {
            assert!(!en.is_empty() && !zh.is_empty(), "{en} / {zh}");
            assert!(
                !en.chars().any(|c| ('\u{2e80}'..).contains(&c)),
                "{en} is not English"
            );
        }
        for (index, (word, ..)) in Word::ALL.iter().enumerate() {
            assert_eq!(*word as usize, index);
        }
    }

    #[test]
    fn terms_are_unique() {
        let mut ids = BTreeSet::new();
        let mut texts = BTreeSet::new();
        for (group, id, en, zh) in TERMS {
            assert!(
                ids.insert((format!("{group:?}"), id)),
                "{group:?} {id} twice"
            );
            for text in [en, zh] {
                assert!(
                    texts.insert((format!("{group:?}"), text)) || en == zh,
                    "{text} twice in {group:?}"
                );
            }
        }
        assert_eq!(term(Group::Outcome, "panic", Lang::Zh), "内核崩溃");
        assert_eq!(term(Group::Outcome, "new-thing", Lang::Zh), "new-thing");
    }

    #[test]
    fn the_language_is_chosen_in_order() {
        let lang = |flag, pairs: &[(&str, &str)]| {
            choose(flag, |name| {
                let found = pairs.iter().find(|(key, _)| *key == name);
                found.map(|(_, value)| (*value).to_owned())
            })
        };
        assert_eq!(lang(Some("en"), &[("AIOPS_LANG", "zh")]), Lang::En);
        assert_eq!(
            lang(
                Some("auto"),
                &[("AIOPS_LANG", "zh"), ("LANG", "en_US.UTF-8")]
            ),
            Lang::Zh
        );
        assert_eq!(
            lang(None, &[("AIOPS_LANG", "auto"), ("LANG", "zh_CN.UTF-8")]),
            Lang::Zh
        );
        assert_eq!(
            lang(None, &[("LC_ALL", "C"), ("LANG", "zh_CN.UTF-8")]),
            Lang::En
        );
        assert_eq!(
            lang(
                None,
                &[("LC_ALL", ""), ("LC_MESSAGES", "zh_TW.utf8"), ("LANG", "C")]
            ),
            Lang::Zh
        );
        assert_eq!(lang(None, &[("LANG", "zh_CN")]), Lang::Zh);
        assert_eq!(lang(None, &[("LANG", "zh_CN.GBK")]), Lang::En);
        assert_eq!(lang(None, &[]), Lang::En);
    }
}
