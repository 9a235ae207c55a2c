//! What the programs below `tests/leaks` do, and so what the right verdict on each is.
//!
//! Times are seconds of the programs' own clock, which `LEAKS_SCALE` stretches.

/// In what a program is written: how it is built and started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Language {
    C,
    Rust,
    Python,
    Java,
}

impl Language {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::C => "C",
            Self::Rust => "Rust",
            Self::Python => "Python",
            Self::Java => "Java",
        }
    }

    /// Its folder below `tests/leaks`, and the ending of its files.
    pub(super) fn folder(self) -> (&'static str, &'static str) {
        match self {
            Self::C => ("c", "c"),
            Self::Rust => ("rust", "rs"),
            Self::Python => ("python", "py"),
            Self::Java => ("java", "java"),
        }
    }
}

/// A program and the truth about it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Program {
    /// Its file without the ending.
    pub(super) name: &'static str,
    pub(super) language: Language,
    /// What its memory does, for the table.
    pub(super) what: &'static str,
    /// What it loses, MiB/s; `None`: it does not leak.
    pub(super) leak: Option<f64>,
    /// The longest time constant or period of what it does besides, s.
    pub(super) time_constant: f64,
    /// Why nobody could tell, where that is so.
    pub(super) may_be_inconclusive: Option<&'static str>,
}

impl Program {
    /// How many of its time constants a span of its own clock is; `None`: it has none.
    pub(super) fn constants(&self, span: f64) -> Option<f64> {
        (self.time_constant > 0.0).then(|| span / self.time_constant)
    }
}

const fn leaks(
    name: &'static str,
    language: Language,
    leak: f64,
    time_constant: f64,
    what: &'static str,
) -> Program {
    Program {
        name,
        language,
        what,
        leak: Some(leak),
        time_constant,
        may_be_inconclusive: None,
    }
}

const fn healthy(
    name: &'static str,
    language: Language,
    time_constant: f64,
    what: &'static str,
) -> Program {
    Program {
        name,
        language,
        what,
        leak: None,
        time_constant,
        may_be_inconclusive: None,
    }
}

/// What nobody can tell in every run, for this reason.
const fn unclear(program: Program, why: &'static str) -> Program {
    Program {
        may_be_inconclusive: Some(why),
        ..program
    }
}

#[rustfmt::skip] // one program, one line
pub(super) const PROGRAMS: &[Program] = &[
    leaks("leak_const", Language::C, 0.4, 0.0, "a record of each request"),
    leaks("leak_burst", Language::C, 0.4, 1.5, "the results of each job"),
    leaks("leak_after_warmup", Language::C, 0.3, 6.0, "behind the warm-up of a cache"),
    healthy("warmup_cache", Language::C, 12.0, "a cache warms up"),
    unclear(healthy("fragmentation", Language::C, 9.0, "holes in the heap"), "the heap takes its last pieces late"),
    healthy("flat", Language::C, 0.0, "requests, nothing stays"),
    leaks("leak_vec", Language::Rust, 0.5, 0.0, "a list that is only pushed to"),
    leaks("leak_arena", Language::Rust, 0.4, 5.0, "an arena, in stairs of 2 MiB"),
    healthy("pool_load", Language::Rust, 18.0, "connections follow the load"),
    healthy("batch_jobs", Language::Rust, 5.0, "jobs take and give back"),
    leaks("leak_dict", Language::Python, 0.4, 0.0, "sessions that nobody removes"),
    unclear(healthy("lru_bounded", Language::Python, 18.2, "a bounded cache fills"), "memory is taken long after the cache is full"),
    healthy("gc_cycles", Language::Python, 4.0, "sawtooth of the collector"),
    // The list grows by 0.4 MiB/s, and the heap keeps a fifth of itself free.
    leaks("LeakStaticList", Language::Java, 0.5, 6.0, "a static list under a sawtooth"),
    healthy("CacheFill", Language::Java, 6.0, "a cache warms up"),
    healthy("FlatGc", Language::Java, 6.0, "sawtooth of the collector"),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    const LANGUAGES: [Language; 4] = [
        Language::C,
        Language::Rust,
        Language::Python,
        Language::Java,
    ];

    #[test]
    fn every_program_has_a_truth_and_every_truth_a_program() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/leaks");
        for language in LANGUAGES {
            let (folder, ending) = language.folder();
            let mut files = BTreeSet::new();
            for entry in std::fs::read_dir(root.join(folder)).expect("a folder") {
                let path = entry.expect("an entry").path();
                let name = path.file_stem().expect("a name").to_string_lossy();
                // The clock that all of them share.
                if path.extension().is_some_and(|end| end == ending)
                    && !name.eq_ignore_ascii_case("pace")
                {
                    files.insert(name.into_owned());
                }
            }
            let known = PROGRAMS.iter().filter(|one| one.language == language);
            let known: BTreeSet<String> = known.map(|one| one.name.to_owned()).collect();
            assert_eq!(files, known, "{folder}");
        }
    }

    #[test]
    fn all_are_looked_at_long_enough() {
        for one in PROGRAMS {
            let constants = one.constants(super::super::SPAN_S);
            assert!(
                constants.is_none_or(|constants| constants >= 2.5),
                "{}: {constants:?}",
                one.name
            );
        }
    }

    #[test]
    fn what_may_be_inconclusive_is_listed_for_people() {
        let list = include_str!("../../../tests/leaks/README.md");
        for one in PROGRAMS {
            let (folder, ending) = one.language.folder();
            let listed = list.contains(&format!("| `{folder}/{}.{ending}` |", one.name));
            assert_eq!(listed, one.may_be_inconclusive.is_some(), "{}", one.name);
        }
    }

    #[test]
    fn each_language_leaks_and_does_not() {
        for language in LANGUAGES {
            let ours = || PROGRAMS.iter().filter(|one| one.language == language);
            assert!(ours().any(|one| one.leak.is_some()), "{}", language.name());
            assert!(ours().any(|one| one.leak.is_none()), "{}", language.name());
        }
    }
}
