//! The items of one block, in their order.

use bytes::BytesMut;

use crate::model::CgroupSample;
use crate::model::Event;
use crate::model::EventKind;
use crate::model::Item;
use crate::model::KmsgLine;
use crate::model::ProcessSample;
use crate::model::RawText;
use crate::model::Sample;
use crate::model::Skipped;
use crate::model::SystemMetrics;

use super::schema::Budget;
use super::schema::ROWS_MAX;
use super::schema::Rows;
use super::schema::Schema;
use super::schema::Table;
use super::tables;
use super::tables::SampleHead;
use super::wire::Cursor;
use super::wire::Malformed;

/// An item with more rows than this gets a block of its own.
const ROWS_SHARED: usize = 1 << 14;
/// Longest text or JSON of an item.
const TEXT_MAX: usize = 4 << 20;

/// Why an item cannot be recorded: it alone would break the limits of a block.
#[derive(Debug)]
pub(super) struct TooLarge;

/// Items on their way into a block.
pub(super) struct Batch {
    order: Table<RawText>,
    meta: Table<RawText>,
    mark: Table<Event>,
    delivery: Table<Event>,
    step: Table<Event>,
    reclaim: Table<Event>,
    stall: Table<Event>,
    kmsg: Table<KmsgLine>,
    sample: Table<SampleHead>,
    system: Table<SystemMetrics>,
    cgroup: Table<CgroupSample>,
    process: Table<ProcessSample>,
    bytes: usize,
    rows: usize,
    span: Option<(u64, u64)>,
    kinds: u64,
}

impl Batch {
    pub(super) fn new() -> Self {
        Self {
            order: Table::new(&tables::ORDER),
            meta: Table::new(&tables::META),
            mark: Table::new(&tables::MARK),
            delivery: Table::new(&tables::DELIVERY),
            step: Table::new(&tables::STEP),
            reclaim: Table::new(&tables::RECLAIM),
            stall: Table::new(&tables::STALL),
            kmsg: Table::new(&tables::KMSG),
            sample: Table::new(&tables::SAMPLE),
            system: Table::new(&tables::SYSTEM),
            cgroup: Table::new(&tables::CGROUP),
            process: Table::new(&tables::PROCESS),
            bytes: 0,
            rows: 0,
            span: None,
            kinds: 0,
        }
    }

    pub(super) fn items(&self) -> usize {
        self.order.rows()
    }

    /// About how many bytes the items take in memory.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// First and last time of the items; 0 where none has a time.
    pub(super) fn span(&self) -> (u64, u64) {
        self.span.unwrap_or_default()
    }

    /// Bit per kind of item, as in the index.
    pub(super) fn kinds(&self) -> u64 {
        self.kinds
    }

    /// Whether the item would take the block beyond its limits.
    pub(super) fn must_flush_before(&self, item: &Item) -> bool {
        let rows = rows_of(item);
        self.items() > 0 && (rows > ROWS_SHARED || self.rows + rows > ROWS_MAX / 2)
    }

    pub(super) fn push(&mut self, item: &Item) -> Result<(), TooLarge> {
        if rows_of(item) > ROWS_MAX - 8 {
            return Err(TooLarge);
        }
        let (table, kind, bytes) = match item {
            Item::Event(event) => self.push_event(event),
            Item::Kmsg(line) if line.text.as_bytes().len() > TEXT_MAX => return Err(TooLarge),
            Item::Kmsg(line) => ("kmsg", 2, self.kmsg.push(line)),
            Item::Sample(sample) if sample_text(sample) > TEXT_MAX => return Err(TooLarge),
            Item::Sample(sample) => ("sample", 1, self.push_sample(sample)),
            _ => ("meta", 3, self.push_meta(item)?),
        };
        self.order.push(&RawText::from(table));
        self.bytes += bytes + 9;
        self.rows += rows_of(item);
        self.kinds |= 1 << kind;
        if let Some(ts) = item.ts_ns() {
            let (first, last) = self.span.unwrap_or((ts, ts));
            self.span = Some((first.min(ts), last.max(ts)));
        }
        Ok(())
    }

    fn push_event(&mut self, event: &Event) -> (&'static str, u32, usize) {
        match event.kind {
            EventKind::Mark(_) => ("mark", 0, self.mark.push(event)),
            EventKind::Delivery(_) => ("delivery", 0, self.delivery.push(event)),
            EventKind::Step(_) => ("step", 0, self.step.push(event)),
            EventKind::Reclaim(_) => ("reclaim", 0, self.reclaim.push(event)),
            EventKind::Stall(_) => ("stall", 0, self.stall.push(event)),
        }
    }

    fn push_meta(&mut self, item: &Item) -> Result<usize, TooLarge> {
        let json = serde_json::to_vec(item).map_err(|_| TooLarge)?;
        if json.len() > TEXT_MAX {
            return Err(TooLarge);
        }
        Ok(self.meta.push(&RawText::new(json)))
    }

    fn push_sample(&mut self, sample: &Sample) -> usize {
        let mut bytes = self.sample.push(&SampleHead::from(sample));
        if let Some(system) = &sample.system {
            bytes += self.system.push(system);
        }
        for cgroup in &sample.cgroups {
            bytes += self.cgroup.push(cgroup);
        }
        for process in &sample.processes {
            bytes += self.process.push(process);
        }
        bytes
    }

    /// Appends every table to `out` and forgets the items.
    pub(super) fn encode(&mut self, out: &mut BytesMut) {
        macro_rules! each {
            ($($table:ident)*) => {$(
                self.$table.encode(out);
                self.$table.clear();
            )*};
        }
        each!(order meta mark delivery step reclaim stall kmsg sample system cgroup process);
        (self.bytes, self.rows, self.span, self.kinds) = (0, 0, None, 0);
    }
}

fn rows_of(item: &Item) -> usize {
    match item {
        Item::Sample(sample) => 3 + sample.cgroups.len() + sample.processes.len(),
        _ => 2,
    }
}

fn sample_text(sample: &Sample) -> usize {
    let paths = sample
        .cgroups
        .iter()
        .map(|cgroup| cgroup.path.as_bytes().len());
    let comms = sample
        .processes
        .iter()
        .map(|process| process.comm.as_bytes().len());
    paths.chain(comms).sum()
}

/// The items of a block as read.
#[derive(Debug, Default)]
pub(super) struct Unpacked {
    pub(super) items: Vec<Item>,
    /// Items of a kind or with a value that this version does not know.
    pub(super) unknown: u64,
}

/// A table's body by its name.
pub(super) struct Bodies<'a>(Vec<(&'a [u8], &'a [u8])>);

impl<'a> Bodies<'a> {
    pub(super) fn read(payload: &'a [u8]) -> Result<Self, Malformed> {
        let mut cursor = Cursor(payload);
        let mut bodies = Vec::new();
        while !cursor.0.is_empty() {
            bodies.push((cursor.counted()?, cursor.counted()?));
        }
        Ok(Self(bodies))
    }

    /// The rows of a table; none when it is not there.
    pub(super) fn rows<T>(
        &self,
        schema: &Schema<T>,
        budget: &mut Budget,
    ) -> Result<std::vec::IntoIter<Option<T>>, Malformed> {
        let name = schema.name.as_bytes();
        let body = self.0.iter().find(|(other, _)| *other == name);
        let rows: Rows<T> = match body {
            Some((_, body)) => schema.decode(body, budget)?,
            None => Vec::new(),
        };
        Ok(rows.into_iter())
    }
}

const TOO_FEW: Malformed = Malformed("a table has too few rows");

type Stream<T> = std::vec::IntoIter<Option<T>>;

/// The parts of samples.
struct Parts {
    system: Stream<SystemMetrics>,
    cgroup: Stream<CgroupSample>,
    process: Stream<ProcessSample>,
}

/// Reads the payload of a block of items.
pub(super) fn unpack(payload: &[u8]) -> Result<Unpacked, Malformed> {
    let bodies = Bodies::read(payload)?;
    let budget = &mut Budget::new();
    let order = bodies.rows(&tables::ORDER, budget)?;
    let mut meta = bodies.rows(&tables::META, budget)?;
    let mut mark = bodies.rows(&tables::MARK, budget)?;
    let mut delivery = bodies.rows(&tables::DELIVERY, budget)?;
    let mut step = bodies.rows(&tables::STEP, budget)?;
    let mut reclaim = bodies.rows(&tables::RECLAIM, budget)?;
    let mut stall = bodies.rows(&tables::STALL, budget)?;
    let mut kmsg = bodies.rows(&tables::KMSG, budget)?;
    let mut sample = bodies.rows(&tables::SAMPLE, budget)?;
    let mut parts = Parts {
        system: bodies.rows(&tables::SYSTEM, budget)?,
        cgroup: bodies.rows(&tables::CGROUP, budget)?,
        process: bodies.rows(&tables::PROCESS, budget)?,
    };
    let mut out = Unpacked::default();
    for table in order.flatten() {
        let item = match table.as_bytes() {
            b"meta" => {
                next(&mut meta)?.and_then(|json| serde_json::from_slice(json.as_bytes()).ok())
            }
            b"mark" => next(&mut mark)?.map(Item::Event),
            b"delivery" => next(&mut delivery)?.map(Item::Event),
            b"step" => next(&mut step)?.map(Item::Event),
            b"reclaim" => next(&mut reclaim)?.map(Item::Event),
            b"stall" => next(&mut stall)?.map(Item::Event),
            b"kmsg" => next(&mut kmsg)?.map(Item::Kmsg),
            // Without its counts a sample's parts cannot be told from the next sample's.
            b"sample" => Some(parts.sample(next(&mut sample)?.ok_or(TOO_FEW)?)?),
            _ => None,
        };
        out.unknown += u64::from(item.is_none());
        out.items.extend(item);
    }
    Ok(out)
}

fn next<T>(rows: &mut Stream<T>) -> Result<Option<T>, Malformed> {
    rows.next().ok_or(TOO_FEW)
}

/// The next `count` rows; those that are not understood are left out.
fn take<T>(rows: &mut Stream<T>, count: u64) -> Result<Vec<T>, Malformed> {
    let count = usize::try_from(count).map_err(|_| TOO_FEW)?;
    if rows.len() < count {
        return Err(TOO_FEW);
    }
    Ok(rows.take(count).flatten().collect())
}

impl Parts {
    fn sample(&mut self, head: SampleHead) -> Result<Item, Malformed> {
        Ok(Item::Sample(Sample {
            ts_ns: head.ts_ns,
            system: take(&mut self.system, u64::from(head.systems))?.pop(),
            cgroups: take(&mut self.cgroup, head.cgroups)?,
            processes: take(&mut self.process, head.processes)?,
            all_processes: head.all_processes,
            skipped: Skipped {
                vanished: head.vanished,
                denied: head.denied,
                failed: head.failed,
                kernel_threads: head.kernel_threads,
                zombies: head.zombies,
                denied_smaps: head.denied_smaps,
                cgroups: head.left_cgroups,
            },
        }))
    }
}
