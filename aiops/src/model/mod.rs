//! What aiops knows, as data: raw facts with their units, nothing derived.
//!
//! Everything that a source saw is an [`Item`]; a live session and a recording are both a stream of
//! items, and the analyses take nothing else. A fact that could not be had is `None`, never 0.
//! Times are nanoseconds of CLOCK_MONOTONIC of the observed host ([`Nanos`]) unless a name says
//! otherwise; [`ClockPair`] items relate them to the calendar.
//!
//! Recordings outlive versions: a new field is an `Option` or has `#[serde(default)]`.

mod alloc;
mod detail;
mod event;
mod history;
mod identity;
mod mapping;
mod sample;
mod session;
mod swaps;
mod text;

pub use alloc::AllocCount;
pub use alloc::AllocKind;
pub use alloc::AllocStack;
pub use alloc::Allocs;
pub use alloc::StackEnd;
pub use detail::Detail;
pub use detail::Node;
pub use detail::PageType;
pub use detail::Setting;
pub use detail::ShmSegment;
pub use detail::Slab;
pub use detail::SwapDevice;
pub use detail::Tmpfs;
pub use detail::Unread;
pub use detail::UnreadReason;
pub use detail::Zone;
pub use detail::Zram;
pub use detail::Zswap;
pub use event::Delivery;
pub use event::Event;
pub use event::EventKind;
pub use event::Mark;
pub use event::MarkSource;
pub use event::Memory;
pub use event::Reclaim;
pub use event::ReclaimKind;
pub use event::Stall;
pub use event::StallKind;
pub use event::Step;
pub use event::StepKind;
pub use event::TaskRef;
pub use history::CgroupRun;
pub use history::Hour;
pub use history::Name;
pub use history::Owner;
pub use history::Piece;
pub use history::Range;
pub use history::Run;
pub use history::Sums;
pub use identity::Container;
pub use identity::Frame;
pub use identity::Identity;
pub use identity::Mapping;
pub use identity::SymbolSet;
pub use identity::SymbolSpace;
pub use identity::Symbolized;
pub use mapping::MappingMetrics;
pub use mapping::MappingSample;
pub use mapping::ProcessMappings;
pub use mapping::RegionKind;
pub use mapping::RegionSum;
pub use mapping::Regions;
pub use sample::CgroupMetrics;
pub use sample::CgroupSample;
pub use sample::Metric;
pub use sample::ProcessMetrics;
pub use sample::ProcessSample;
pub use sample::Rlimits;
pub use sample::Sample;
pub use sample::Skipped;
pub use sample::SystemMetrics;
pub use session::CgroupCount;
pub use session::ClockPair;
pub use session::Counters;
pub use session::CountersAt;
pub use session::End;
pub use session::EndReason;
pub use session::Filter;
pub use session::HookState;
pub use session::Host;
pub use session::KmsgLine;
pub use session::LossCount;
pub use session::Losses;
pub(crate) use session::SHORT_ID;
pub use session::Session;
pub use swaps::SwapRow;
pub use swaps::SwapWays;
pub use swaps::Swaps;
pub use text::RawText;

use serde::Deserialize;
use serde::Serialize;

/// Nanoseconds of the observed host's CLOCK_MONOTONIC (time since boot without suspend).
pub type Nanos = u64;

/// One fact, in the order in which it was learnt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "item", rename_all = "snake_case")]
#[expect(
    clippy::large_enum_variant,
    reason = "items are moved once through a channel; a box per log line would cost more"
)]
pub enum Item {
    /// Who observes what, where: always the first item.
    Session(Session),
    /// A moment on every clock.
    Clock(ClockPair),
    /// Something that a kernel hook saw.
    Event(Event),
    /// Figures of one moment.
    Sample(Sample),
    /// The memory manager's inner state.
    Detail(Box<Detail>),
    /// The mappings of a process, summed.
    Regions(Regions),
    /// Who a process is.
    Identity(Identity),
    /// A line of the kernel's log.
    Kmsg(KmsgLine),
    /// Names of instruction pointers.
    Symbols(SymbolSet),
    /// Allocations, by where they were made.
    Allocs(Box<Allocs>),
    /// The kernel's own counts of OOM kills.
    Counters(Counters),
    /// What was lost on the way.
    Losses(Losses),
    /// Swap by process, drained from the kernel's maps.
    Swaps(Swaps),
    /// The observation ended: the last item, unless it was cut off.
    End(End),
}

impl Item {
    /// When it was learnt, where it says so.
    #[must_use]
    pub fn ts_ns(&self) -> Option<Nanos> {
        match self {
            Self::Session(session) => Some(session.started_ns),
            Self::Clock(clock) => Some(clock.mono_ns),
            Self::Event(event) => Some(event.ts_ns),
            Self::Sample(sample) => Some(sample.ts_ns),
            Self::Detail(detail) => Some(detail.ts_ns),
            Self::Regions(regions) => Some(regions.ts_ns),
            Self::Identity(identity) => Some(identity.ts_ns),
            Self::Kmsg(line) => Some(line.ts_ns),
            Self::Symbols(_) => None,
            Self::Allocs(allocs) => Some(allocs.ts_ns),
            Self::Counters(counters) => Some(counters.ts_ns),
            Self::Losses(losses) => Some(losses.ts_ns),
            Self::Swaps(swaps) => Some(swaps.ts_ns),
            Self::End(end) => Some(end.ts_ns),
        }
    }
}
