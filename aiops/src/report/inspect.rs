//! One process or some together, by kind of region, file and mapping: the data of `inspect memory`.

use serde::Serialize;
use serde::Serializer;

use super::processes::Who;
use crate::model::MappingMetrics;
use crate::model::MappingSample;
use crate::model::RegionKind;

/// Data of `aiops.inspect-memory/1`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct InspectData {
    /// The process; `null` when there are several.
    pub process: Option<ProcessInfo>,
    /// Every process, children behind their parents.
    pub processes: Vec<ProcessRow>,
    /// Processes that were asked for and could not be read.
    pub failed: Vec<FailedProcess>,
    /// Sums over all mappings. Of several processes `rss_kb` counts shared pages once for each of them,
    /// `pss_kb` once in all.
    pub totals: Figures,
    /// The kernel's own sums (smaps_rollup, since 4.14); `null` where one process has none.
    pub rollup: Option<MappingMetrics>,
    /// Whether both are equal. Proportional figures may differ by the kernel's rounding, which is less
    /// than 1 KiB for each mapping. `null` without `rollup`.
    pub totals_equal_rollup: Option<bool>,
    /// Every figure in which they differ.
    pub differences: Vec<Difference>,
    /// By what it is for, largest first.
    pub by_kind: Vec<KindRow>,
    /// By file or name, largest first.
    pub modules: Vec<ModuleRow>,
    /// Pages by NUMA node, KiB, node 0 first; `null` where it is not known.
    pub node_kb: Option<Vec<u64>>,
    /// Only maps could be read: the figures are unknown.
    pub maps_only: bool,
    /// Most mappings that a process may have (vm.max_map_count).
    pub max_map_count: Option<u64>,
    /// What changed, under `--watch`.
    pub watch: Option<Reading>,
    /// The moment of the figures, RFC 3339 in the zone of the host.
    pub at: Option<String>,
    /// What else a reader has to know.
    pub notes: Vec<String>,
    /// All mappings, in the order of `--sort`.
    pub mappings: Vec<MappingRow>,
    /// How the text shows it.
    #[serde(skip)]
    pub view: View,
}

/// Options of the text.
#[derive(Clone, Copy, Debug, Default)]
pub struct View {
    /// List mappings.
    pub maps: bool,
    /// All figures of each.
    pub detail: bool,
    /// Rows of each list; 0: all.
    pub top: usize,
}

/// A process.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ProcessInfo {
    /// Who it is.
    #[serde(flatten)]
    pub who: Who,
    /// The program's path.
    pub exe: Option<String>,
    /// Real user id.
    pub uid: Option<u32>,
    /// Threads.
    pub threads: Option<u64>,
    /// Kernel's letter: R, S, D, T, …
    pub state: Option<char>,
    /// The kernel's badness.
    pub oom_score: Option<u64>,
    /// −1000 (never) to 1000.
    pub oom_score_adj: Option<i32>,
    /// How long it has been running, seconds.
    pub age_s: Option<f64>,
}

/// A process with its sums.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ProcessRow {
    /// The process.
    #[serde(flatten)]
    pub info: ProcessInfo,
    /// How many of its ancestors are in the list.
    pub depth: u64,
    /// How many mappings.
    pub mappings: u64,
    /// Only maps could be read.
    pub maps_only: bool,
    /// Sums over its mappings.
    pub totals: Figures,
    /// The kernel's own sums.
    pub rollup: Option<MappingMetrics>,
    /// Whether both are equal, but for rounding.
    pub totals_equal_rollup: Option<bool>,
}

/// A process that could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FailedProcess {
    /// Process id.
    pub pid: u32,
    /// Why.
    pub reason: FailReason,
}

/// Why a process could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FailReason {
    /// There is none with this id, or it ended meanwhile.
    Gone,
    /// No permission.
    Denied,
    /// A kernel thread, which has no memory of its own.
    KernelThread,
    /// It has ended and waits for its parent.
    Zombie,
    /// Its files were not understood.
    Failed,
}

/// Figures of some mappings together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Figures {
    /// As smaps has them.
    #[serde(flatten)]
    pub metrics: MappingMetrics,
    /// Memory of this process alone.
    pub uss_kb: Option<u64>,
    /// The same, by its name in smaps: `Private_Clean` and `Private_Dirty`.
    pub private_kb: Option<u64>,
    /// Memory that others map too.
    pub shared_kb: Option<u64>,
    /// Dirty memory.
    pub dirty_kb: Option<u64>,
}

impl From<MappingMetrics> for Figures {
    fn from(metrics: MappingMetrics) -> Self {
        Self {
            uss_kb: metrics.private_kb(),
            private_kb: metrics.private_kb(),
            shared_kb: metrics.shared_kb(),
            dirty_kb: metrics.dirty_kb(),
            metrics,
        }
    }
}

/// A figure in which the sums and the kernel's own sums differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Whose.
    pub pid: u32,
    /// `pss_kb`.
    pub figure: &'static str,
    /// Sum over the mappings.
    pub sum_kb: u64,
    /// The kernel's own.
    pub rollup_kb: u64,
    /// No more than the kernel's rounding of a proportional figure.
    pub rounding: bool,
}

/// Mappings of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct KindRow {
    /// What they are for.
    pub kind: RegionKind,
    /// How many.
    pub mappings: u64,
    /// Their figures together.
    #[serde(flatten)]
    pub figures: Figures,
}

/// Mappings of one file, or of one name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ModuleRow {
    /// File, or a name such as `[heap]`.
    pub path: String,
    /// It is not on disk any more.
    pub deleted: bool,
    /// What its first mapping is for.
    pub kind: RegionKind,
    /// How many mappings.
    pub mappings: u64,
    /// How many processes map it.
    pub processes: u64,
    /// Resident code (executable mappings).
    pub text_kb: Option<u64>,
    /// Resident data (writable mappings).
    pub data_kb: Option<u64>,
    /// Resident constants: neither.
    pub rodata_kb: Option<u64>,
    /// Its figures together.
    #[serde(flatten)]
    pub figures: Figures,
}

/// What changed between readings.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Reading {
    /// Local time, RFC 3339.
    pub time: Option<String>,
    /// How many readings there were.
    pub readings: u64,
    /// Processes that were read this time.
    pub processes: u64,
    /// Since the first one, seconds.
    pub elapsed_s: f64,
    /// Every process has ended: these are the last figures.
    pub ended: bool,
    /// Figures now.
    pub totals: Figures,
    /// How many mappings now.
    pub mappings: u64,
    /// Since the last reading; `null` for the first.
    pub since_last: Option<Change>,
    /// Since the first reading; `null` for the first.
    pub since_start: Option<Change>,
}

impl Reading {
    /// Whether it is the same as the reading before.
    #[must_use]
    pub fn unchanged(&self) -> bool {
        self.since_last.as_ref().is_some_and(Change::is_none)
    }
}

impl Change {
    /// Whether nothing changed.
    #[must_use]
    pub fn is_none(&self) -> bool {
        let figures = [self.rss_kb, self.pss_kb, self.swap_kb, Some(self.mappings)];
        self.by_kind.is_empty()
            && self.grown.is_empty()
            && figures.into_iter().flatten().all(|figure| figure == 0)
    }
}

/// Growth, negative for less.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Change {
    /// Between both readings, seconds.
    pub seconds: f64,
    /// Resident.
    pub rss_kb: Option<i64>,
    /// Proportional share.
    pub pss_kb: Option<i64>,
    /// Swapped out.
    pub swap_kb: Option<i64>,
    /// Mappings.
    pub mappings: i64,
    /// By kind, largest change of resident and swapped memory first; kinds that did not change are left out.
    pub by_kind: Vec<KindChange>,
    /// The mappings that grew most, at most 20.
    pub grown: Vec<GrownMapping>,
}

/// Growth of a kind.
#[derive(Clone, Debug, Default, Serialize)]
pub struct KindChange {
    /// What it is for.
    pub kind: RegionKind,
    /// Resident.
    pub rss_kb: Option<i64>,
    /// Proportional share.
    pub pss_kb: Option<i64>,
    /// Swapped out.
    pub swap_kb: Option<i64>,
    /// Mappings.
    pub mappings: i64,
}

/// A mapping that grew.
#[derive(Clone, Debug, Default, Serialize)]
pub struct GrownMapping {
    /// Whose.
    pub pid: u32,
    /// First address, as smaps prints it.
    pub start: String,
    /// What it is for.
    pub kind: RegionKind,
    /// File or name.
    pub path: Option<String>,
    /// It was not there before.
    pub new: bool,
    /// Growth of resident and swapped memory together.
    pub grown_kb: i64,
    /// Resident now.
    pub rss_kb: Option<u64>,
    /// Swapped out now.
    pub swap_kb: Option<u64>,
}

/// A mapping, kept as it was read: 65,530 of them are the most that a process has by default.
#[derive(Clone, Debug, Default)]
pub struct MappingRow {
    /// Whose.
    pub pid: u32,
    /// As it was read.
    pub sample: MappingSample,
}

/// What the kernel puts behind the name of a file that was removed.
const DELETED: &str = " (deleted)";

impl MappingRow {
    /// File or name without the kernel's mark for removed files, and whether it has that mark.
    #[must_use]
    pub fn name(&self) -> (String, bool) {
        name(&self.sample)
    }

    /// Range as smaps prints it: at least 8 digits.
    #[must_use]
    pub fn range(&self) -> (String, String) {
        (address(self.sample.start), address(self.sample.end))
    }

    /// What it is for, as in JSON.
    #[must_use]
    pub fn id(&self) -> &'static str {
        self.sample.kind.id()
    }

    /// Every known figure that is not 0, by its name in JSON.
    #[must_use]
    pub fn figures(&self) -> Vec<(&'static str, u64)> {
        let all = MappingMetrics::METRICS.iter();
        all.filter_map(|metric| Some((metric.name, (metric.get)(&self.sample.metrics)?)))
            .filter(|(_, value)| *value > 0)
            .collect()
    }
}

/// Whether a mapping's name ends as those of removed files do. A file may have such a name itself.
#[must_use]
pub fn marked(mapping: &MappingSample) -> bool {
    mapping.path.as_bytes().ends_with(DELETED.as_bytes())
}

/// File or name of a mapping, and whether the file is removed: as it was looked up, else by its name.
#[must_use]
pub fn name(mapping: &MappingSample) -> (String, bool) {
    let path = mapping.path.lossy();
    match path
        .strip_suffix(DELETED)
        .filter(|_| mapping.deleted != Some(false))
    {
        Some(path) => (path.to_owned(), true),
        None => (path.into_owned(), false),
    }
}

/// An address as smaps prints it (`%08lx`).
#[must_use]
pub fn address(address: u64) -> String {
    format!("{address:08x}")
}

/// Whether no file is behind it: private memory without a file, and what was mapped as shared and anonymous.
#[must_use]
pub fn anonymous(mapping: &MappingSample) -> bool {
    match mapping.kind {
        RegionKind::Vdso => false,
        RegionKind::SharedAnon => true,
        _ => mapping.inode == 0 || mapping.path.as_bytes().starts_with(b"/anon_hugepage"),
    }
}

/// Whether writes are seen by others that map it.
#[must_use]
pub fn shared(mapping: &MappingSample) -> bool {
    mapping.perms.as_bytes().get(3) == Some(&b's')
}

impl Serialize for MappingRow {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Row<'a> {
            pid: u32,
            start: String,
            end: String,
            perms: &'a str,
            shared: bool,
            offset: String,
            device: &'a str,
            inode: u64,
            path: Option<String>,
            deleted: bool,
            kind: RegionKind,
            anonymous: bool,
            page_kb: Option<u64>,
            #[serde(flatten)]
            metrics: &'a MappingMetrics,
            private_kb: Option<u64>,
            shared_kb: Option<u64>,
            dirty_kb: Option<u64>,
            vm_flags: Option<&'a [String]>,
        }
        let sample = &self.sample;
        let (path, deleted) = name(sample);
        let (start, end) = self.range();
        Row {
            pid: self.pid,
            start,
            end,
            perms: &sample.perms,
            shared: shared(sample),
            offset: address(sample.offset),
            device: &sample.device,
            inode: sample.inode,
            path: (!path.is_empty()).then_some(path),
            deleted,
            kind: sample.kind,
            anonymous: anonymous(sample),
            page_kb: sample.page_kb,
            metrics: &sample.metrics,
            private_kb: sample.metrics.private_kb(),
            shared_kb: sample.metrics.shared_kb(),
            dirty_kb: sample.metrics.dirty_kb(),
            // A mapping has flags (`mr`, at least) wherever the kernel tells them.
            vm_flags: (!sample.vm_flags.is_empty()).then_some(&sample.vm_flags[..]),
        }
        .serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::RawText;

    #[test]
    fn a_mapping_is_written_as_smaps_prints_it() {
        let row = MappingRow {
            pid: 7,
            sample: MappingSample {
                start: 0x40_0000,
                end: 0x40_1000,
                perms: "rw-s".to_owned(),
                inode: 9,
                path: RawText::from("/dev/zero (deleted)"),
                kind: RegionKind::SharedAnon,
                ..MappingSample::default()
            },
        };
        let value = serde_json::to_value(&row).unwrap();
        assert_eq!(value["start"], "00400000");
        assert_eq!(value["path"], "/dev/zero");
        assert_eq!(
            (&value["deleted"], &value["anonymous"], &value["shared"]),
            (&true.into(), &true.into(), &true.into())
        );
        assert_eq!(value["kind"], "shared_anon");
        assert!(value["rss_kb"].is_null() && value["vm_flags"].is_null());
        let mut real = row.sample;
        real.deleted = Some(false);
        assert_eq!(name(&real), ("/dev/zero (deleted)".to_owned(), false));
        real.deleted = Some(true);
        assert_eq!(name(&real), ("/dev/zero".to_owned(), true));
    }
}
