//! The mappings of a process: as smaps lists them, and summed by what they are.

use serde::Deserialize;
use serde::Serialize;

use super::Nanos;
use super::RawText;
use super::sample::metrics;

metrics! {
    /// Figures of one mapping, or of several together. Keys are those of /proc/PID/smaps.
    MappingMetrics {
        /// Address space.
        size_kb: "smaps:Size",
        /// Resident.
        rss_kb: "smaps:Rss",
        /// Proportional share.
        pss_kb: "smaps:Pss",
        /// Proportional share of dirty pages (since 6.0).
        pss_dirty_kb: "smaps:Pss_Dirty",
        /// Clean pages that others map too.
        shared_clean_kb: "smaps:Shared_Clean",
        /// Dirty pages that others map too.
        shared_dirty_kb: "smaps:Shared_Dirty",
        /// Clean pages of this process alone.
        private_clean_kb: "smaps:Private_Clean",
        /// Dirty pages of this process alone.
        private_dirty_kb: "smaps:Private_Dirty",
        /// Used since the bits were last cleared.
        referenced_kb: "smaps:Referenced",
        /// Pages that belong to no file, also of private file mappings.
        anonymous_kb: "smaps:Anonymous",
        /// Merged with equal pages (since 6.7).
        ksm_kb: "smaps:KSM",
        /// Given up with `MADV_FREE`.
        lazy_free_kb: "smaps:LazyFree",
        /// Transparent huge pages.
        anon_huge_kb: "smaps:AnonHugePages",
        /// Shared memory mapped by huge entries.
        shmem_pmd_kb: "smaps:ShmemPmdMapped",
        /// Files mapped by huge entries.
        file_pmd_kb: "smaps:FilePmdMapped",
        /// hugetlb pages that others map too; not part of Rss.
        shared_hugetlb_kb: "smaps:Shared_Hugetlb",
        /// hugetlb pages of this process alone; not part of Rss.
        private_hugetlb_kb: "smaps:Private_Hugetlb",
        /// In swap.
        swap_kb: "smaps:Swap",
        /// Proportional share of what is in swap.
        swap_pss_kb: "smaps:SwapPss",
        /// Locked, proportional.
        locked_kb: "smaps:Locked",
    }
}

impl MappingMetrics {
    /// Adds another's figures; what only one of them knows stays known.
    pub fn add(&mut self, other: &Self) {
        for metric in Self::METRICS {
            if let Some(more) = (metric.get)(other) {
                let sum = (metric.get)(self).unwrap_or(0).saturating_add(more);
                (metric.set)(self, Some(sum));
            }
        }
    }

    /// Memory of this process alone, KiB.
    #[must_use]
    pub fn private_kb(&self) -> Option<u64> {
        Some(self.private_clean_kb? + self.private_dirty_kb?)
    }

    /// Memory that others map too, KiB.
    #[must_use]
    pub fn shared_kb(&self) -> Option<u64> {
        Some(self.shared_clean_kb? + self.shared_dirty_kb?)
    }

    /// Dirty memory, KiB.
    #[must_use]
    pub fn dirty_kb(&self) -> Option<u64> {
        Some(self.shared_dirty_kb? + self.private_dirty_kb?)
    }
}

/// One mapping, as /proc/PID/smaps (or only maps) says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MappingSample {
    /// First address.
    pub start: u64,
    /// One past the last address.
    pub end: u64,
    /// `rwxp` as the kernel prints it; the last letter is `s` for shared mappings.
    pub perms: String,
    /// Offset in the file, bytes.
    pub offset: u64,
    /// `major:minor` as the kernel prints it.
    pub device: String,
    /// Inode of the file; 0: none.
    pub inode: u64,
    /// File, or a name in brackets; empty for anonymous memory.
    pub path: RawText,
    /// Whether the file was removed, where that was looked up; `None`: only the mark behind its name tells.
    #[serde(default)]
    pub deleted: Option<bool>,
    /// Two-letter flags (`VmFlags`, since 3.8).
    pub vm_flags: Vec<String>,
    /// Size of its pages.
    pub page_kb: Option<u64>,
    /// What it is.
    pub kind: RegionKind,
    /// Its figures; all unknown where only maps could be read.
    pub metrics: MappingMetrics,
}

/// What a mapping is for.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize,
)]
#[serde(rename_all = "snake_case")]
pub enum RegionKind {
    /// The heap (brk).
    Heap,
    /// Stack of the first thread.
    Stack,
    /// Stack of another thread: a private anonymous mapping right behind a guard page, of a usual size.
    ThreadStack,
    /// An arena of the C library's allocator: 64 MiB aligned.
    Arena,
    /// The program itself.
    Executable,
    /// A shared library.
    Library,
    /// Anonymous memory.
    #[default]
    Anon,
    /// Anonymous memory with a name (`[anon:NAME]`, prctl).
    NamedAnon,
    /// Anonymous memory that is shared (`/dev/zero (deleted)`, MAP_SHARED|MAP_ANONYMOUS).
    SharedAnon,
    /// Another file.
    File,
    /// tmpfs, `/dev/shm`, System V shared memory.
    Shm,
    /// memfd.
    Memfd,
    /// hugetlb pages.
    Hugetlb,
    /// The kernel's own pages: vdso, vvar, vsyscall.
    Vdso,
    /// A device, such as a GPU's.
    Device,
}

impl RegionKind {
    /// As JSON has it.
    #[must_use]
    pub fn id(self) -> &'static str {
        match self {
            Self::Heap => "heap",
            Self::Stack => "stack",
            Self::ThreadStack => "thread_stack",
            Self::Arena => "arena",
            Self::Executable => "executable",
            Self::Library => "library",
            Self::Anon => "anon",
            Self::NamedAnon => "named_anon",
            Self::SharedAnon => "shared_anon",
            Self::File => "file",
            Self::Shm => "shm",
            Self::Memfd => "memfd",
            Self::Hugetlb => "hugetlb",
            Self::Vdso => "vdso",
            Self::Device => "device",
        }
    }
}

/// Every mapping of one process.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProcessMappings {
    /// When reading began.
    pub ts_ns: Nanos,
    /// The process at that moment.
    pub process: super::ProcessSample,
    /// In the order of addresses.
    pub mappings: Vec<MappingSample>,
    /// Sums by the kernel itself, of the same moment or right after (since 4.14).
    pub rollup: Option<MappingMetrics>,
    /// Figures are unknown: smaps could not be read, only maps.
    pub maps_only: bool,
    /// Pages by NUMA node (/proc/PID/numa_maps), KiB, node 0 first; `None` where there is no such file.
    pub node_kb: Option<Vec<u64>>,
}

/// Mappings of one process, summed by kind and file: what a snapshot with `--smaps` keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Regions {
    /// When reading began.
    pub ts_ns: Nanos,
    /// Process id.
    pub pid: u32,
    /// Start in clock ticks since boot.
    pub start_ticks: u64,
    /// Sums.
    pub regions: Vec<RegionSum>,
}

/// Mappings of one kind and file together.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegionSum {
    /// What they are.
    pub kind: RegionKind,
    /// File or name; `None` for memory without a name.
    pub path: Option<RawText>,
    /// How many mappings.
    pub mappings: u64,
    /// Their figures together.
    pub metrics: MappingMetrics,
}

impl Regions {
    /// Sums the mappings of a process.
    #[must_use]
    pub fn of(all: &ProcessMappings) -> Self {
        let mut sums: std::collections::BTreeMap<(RegionKind, &RawText), RegionSum> =
            std::collections::BTreeMap::new();
        for mapping in &all.mappings {
            let sum = sums
                .entry((mapping.kind, &mapping.path))
                .or_insert_with(|| RegionSum {
                    kind: mapping.kind,
                    path: (!mapping.path.is_empty()).then(|| mapping.path.clone()),
                    ..RegionSum::default()
                });
            sum.mappings += 1;
            sum.metrics.add(&mapping.metrics);
        }
        Self {
            ts_ns: all.ts_ns,
            pid: all.process.pid,
            start_ticks: all.process.start_ticks,
            regions: sums.into_values().collect(),
        }
    }
}
