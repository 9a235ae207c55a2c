//! Bytes of a ring buffer → what happened. Takes any bytes: a record of another version, a torn one
//! or garbage is an error with its reason, never a panic and never a guess.

use std::mem::offset_of;

use aiops_common::ABI_VERSION;
use aiops_common::COMM_LEN;
use aiops_common::EventKind as Wire;
use aiops_common::Header;
use aiops_common::MAX_FRAMES;
use aiops_common::NO_VALUE;
use aiops_common::NO_VALUE_32;
use aiops_common::Stack;
use aiops_common::Task;
use aiops_common::life;
use aiops_common::oom;
use aiops_common::reclaim;
use aiops_common::stall as wire;

use crate::model::Delivery;
use crate::model::Event;
use crate::model::EventKind;
use crate::model::Mark;
use crate::model::MarkSource;
use crate::model::Memory;
use crate::model::Nanos;
use crate::model::RawText;
use crate::model::Reclaim;
use crate::model::ReclaimKind;
use crate::model::Stall;
use crate::model::StallKind;
use crate::model::Step;
use crate::model::StepKind;
use crate::model::TaskRef;
use crate::source::Life;
use crate::source::LifeKind;

/// One record, decoded.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    /// For the session.
    Event(Event),
    /// For the table of identities.
    Life(Life),
}

/// Why bytes are not a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Shorter than its header, or than its kind.
    #[error("record of {0} bytes is too short")]
    Short(usize),
    /// Written by BPF programs of another version.
    #[error("record has ABI version {0}, not {ABI_VERSION}")]
    Version(u16),
    /// A kind that nobody knows.
    #[error("record of unknown kind {0}")]
    Kind(u16),
    /// Its header names another length than its kind has.
    #[error("record says {0} bytes")]
    Length(u32),
    /// A number that names nothing (a step, a reclaim, a life).
    #[error("record has the unknown number {0}")]
    Number(u32),
}

/// Decodes one record that was received at `received_ns`.
///
/// # Errors
/// See [`DecodeError`].
pub fn decode(bytes: &[u8], received_ns: Nanos) -> Result<Record, DecodeError> {
    let bytes = Bytes(bytes);
    let version = u16::from_ne_bytes(bytes.array(offset_of!(Header, version))?);
    if version != ABI_VERSION {
        return Err(DecodeError::Version(version));
    }
    let number = u16::from_ne_bytes(bytes.array(offset_of!(Header, kind))?);
    let kind = Wire::from_number(number).ok_or(DecodeError::Kind(number))?;
    let size = size_of_kind(kind);
    if bytes.0.len() < size {
        return Err(DecodeError::Short(bytes.0.len()));
    }
    let len = bytes.u32(offset_of!(Header, len))?;
    if len as usize != size {
        return Err(DecodeError::Length(len));
    }
    let kind = match kind {
        Wire::OomMark => EventKind::Mark(Box::new(mark(bytes)?)),
        Wire::OomDelivered => EventKind::Delivery(Box::new(delivery(bytes)?)),
        Wire::OomStep => EventKind::Step(step(bytes)?),
        Wire::ReclaimBegin => EventKind::Reclaim(begin(bytes)?),
        Wire::Life => return life(bytes).map(Record::Life),
        Wire::Stall => EventKind::Stall(Box::new(stall(bytes)?)),
    };
    Ok(Record::Event(Event {
        ts_ns: bytes.u64(offset_of!(Header, ts_ns))?,
        received_ns: Some(received_ns),
        cpu: bytes.u32(offset_of!(Header, cpu))?,
        kind,
    }))
}

fn size_of_kind(kind: Wire) -> usize {
    match kind {
        Wire::OomMark => size_of::<oom::Mark>(),
        Wire::OomDelivered => size_of::<oom::Delivered>(),
        Wire::OomStep => size_of::<oom::Step>(),
        Wire::ReclaimBegin => size_of::<reclaim::Begin>(),
        Wire::Life => size_of::<life::Life>(),
        Wire::Stall => size_of::<wire::Stall>(),
    }
}

/// Bytes with reads that cannot run over the end.
#[derive(Clone, Copy)]
pub(super) struct Bytes<'a>(pub(super) &'a [u8]);

impl Bytes<'_> {
    pub(super) fn array<const N: usize>(self, at: usize) -> Result<[u8; N], DecodeError> {
        let end = at.saturating_add(N);
        let found = self.0.get(at..end).and_then(|part| part.try_into().ok());
        found.ok_or(DecodeError::Short(self.0.len()))
    }

    pub(super) fn u32(self, at: usize) -> Result<u32, DecodeError> {
        self.array(at).map(u32::from_ne_bytes)
    }

    pub(super) fn i32(self, at: usize) -> Result<i32, DecodeError> {
        self.array(at).map(i32::from_ne_bytes)
    }

    pub(super) fn u64(self, at: usize) -> Result<u64, DecodeError> {
        self.array(at).map(u64::from_ne_bytes)
    }

    fn some_u32(self, at: usize) -> Result<Option<u32>, DecodeError> {
        Ok(Some(self.u32(at)?).filter(|value| *value != NO_VALUE_32))
    }

    fn some_i32(self, at: usize) -> Result<Option<i32>, DecodeError> {
        Ok(Some(self.i32(at)?).filter(|value| *value != i32::MIN))
    }

    fn some_u64(self, at: usize) -> Result<Option<u64>, DecodeError> {
        Ok(Some(self.u64(at)?).filter(|value| *value != NO_VALUE))
    }

    fn task(self, at: usize) -> Result<TaskRef, DecodeError> {
        let comm: [u8; COMM_LEN] = self.array(at + offset_of!(Task, comm))?;
        Ok(TaskRef {
            pid: self.u32(at + offset_of!(Task, pid))?,
            tid: self.u32(at + offset_of!(Task, tid))?,
            comm: RawText::from_c(&comm),
            start_ns: self.some_u64(at + offset_of!(Task, start_ns))?,
            memcg_id: self.some_u64(at + offset_of!(Task, memcg_id))?,
        })
    }

    fn stack(self, at: usize) -> Result<Vec<u64>, DecodeError> {
        let len = self.i32(at + offset_of!(Stack, len))?;
        let len = usize::try_from(len).unwrap_or(0).min(MAX_FRAMES);
        let frames = at + offset_of!(Stack, frames);
        (0..len).map(|frame| self.u64(frames + 8 * frame)).collect()
    }
}

fn mark(bytes: Bytes<'_>) -> Result<Mark, DecodeError> {
    let flags = bytes.u32(offset_of!(oom::Mark, flags))?;
    let mut victim = bytes.task(offset_of!(oom::Mark, victim))?;
    if victim.pid == 0 {
        // Nothing but the tracepoint's thread id is known; the marked thread is nearly always the leader.
        victim.pid = victim.tid;
    }
    Ok(Mark {
        trigger: bytes.task(offset_of!(oom::Mark, trigger))?,
        victim,
        source: mark_source(flags),
        signal_ns: bytes.some_u64(offset_of!(oom::Mark, signal_ns))?,
        reclaim_ns: bytes.some_u64(offset_of!(oom::Mark, reclaim_ns))?,
        memory: memory(bytes)?,
        tracepoint: tracepoint_memory(bytes)?,
        rss_approximate: flags & oom::MARK_RSS_APPROX != 0,
        oom_score_adj: bytes.some_i32(offset_of!(oom::Mark, oom_score_adj))?,
        uid: bytes.some_u32(offset_of!(oom::Mark, uid))?,
        gfp_mask: bytes.some_u32(offset_of!(oom::Mark, gfp_mask))?,
        order: bytes.some_i32(offset_of!(oom::Mark, order))?,
        trigger_oom_score_adj: bytes.some_i32(offset_of!(oom::Mark, trigger_oom_score_adj))?,
        trigger_kernel: bytes.stack(offset_of!(oom::Mark, trigger_kernel))?,
        trigger_user: bytes.stack(offset_of!(oom::Mark, trigger_user))?,
        victim_kernel: bytes.stack(offset_of!(oom::Mark, victim_kernel))?,
    })
}

fn mark_source(flags: u32) -> MarkSource {
    if flags & oom::MARK_FILLED != 0 {
        MarkSource::Signal
    } else if flags & oom::MARK_NO_SIGNAL != 0 {
        MarkSource::AlreadyExiting
    } else {
        MarkSource::Tracepoint
    }
}

fn memory(bytes: Bytes<'_>) -> Result<Memory, DecodeError> {
    Ok(Memory {
        total_vm_kb: bytes.some_u64(offset_of!(oom::Mark, total_vm_kb))?,
        anon_rss_kb: bytes.some_u64(offset_of!(oom::Mark, anon_rss_kb))?,
        file_rss_kb: bytes.some_u64(offset_of!(oom::Mark, file_rss_kb))?,
        shmem_rss_kb: bytes.some_u64(offset_of!(oom::Mark, shmem_rss_kb))?,
        swap_kb: bytes.some_u64(offset_of!(oom::Mark, swap_kb))?,
        pgtables_kb: bytes.some_u64(offset_of!(oom::Mark, pgtables_kb))?,
    })
}

fn tracepoint_memory(bytes: Bytes<'_>) -> Result<Memory, DecodeError> {
    Ok(Memory {
        total_vm_kb: bytes.some_u64(offset_of!(oom::Mark, tp_total_vm_kb))?,
        anon_rss_kb: bytes.some_u64(offset_of!(oom::Mark, tp_anon_rss_kb))?,
        file_rss_kb: bytes.some_u64(offset_of!(oom::Mark, tp_file_rss_kb))?,
        shmem_rss_kb: bytes.some_u64(offset_of!(oom::Mark, tp_shmem_rss_kb))?,
        swap_kb: None,
        pgtables_kb: bytes.some_u64(offset_of!(oom::Mark, tp_pgtables_kb))?,
    })
}

fn delivery(bytes: Bytes<'_>) -> Result<Delivery, DecodeError> {
    Ok(Delivery {
        victim: bytes.task(offset_of!(oom::Delivered, victim))?,
        user: bytes.stack(offset_of!(oom::Delivered, user))?,
    })
}

fn step(bytes: Bytes<'_>) -> Result<Step, DecodeError> {
    let step = match bytes.u32(offset_of!(oom::Step, step))? {
        oom::STEP_EXIT => StepKind::Exit,
        oom::STEP_WAKE_REAPER => StepKind::WakeReaper,
        oom::STEP_START_REAPING => StepKind::StartReaping,
        oom::STEP_FINISH_REAPING => StepKind::FinishReaping,
        oom::STEP_SKIP_REAPING => StepKind::SkipReaping,
        other => return Err(DecodeError::Number(other)),
    };
    let pid = bytes.u32(offset_of!(oom::Step, pid))?;
    Ok(Step {
        step,
        pid: Some(pid).filter(|pid| *pid != 0),
        tid: bytes.u32(offset_of!(oom::Step, tid))?,
    })
}

fn begin(bytes: Bytes<'_>) -> Result<Reclaim, DecodeError> {
    let kind = match bytes.u32(offset_of!(reclaim::Begin, reclaim))? {
        reclaim::RECLAIM_DIRECT => ReclaimKind::Direct,
        reclaim::RECLAIM_MEMCG => ReclaimKind::Memcg,
        other => return Err(DecodeError::Number(other)),
    };
    Ok(Reclaim {
        task: bytes.task(offset_of!(reclaim::Begin, task))?,
        kind,
        gfp_mask: bytes.some_u32(offset_of!(reclaim::Begin, gfp_mask))?,
        order: bytes.some_i32(offset_of!(reclaim::Begin, order))?,
    })
}

fn stall(bytes: Bytes<'_>) -> Result<Stall, DecodeError> {
    let kind = match bytes.u32(offset_of!(wire::Stall, stall))? {
        wire::STALL_DIRECT => StallKind::Direct,
        wire::STALL_MEMCG => StallKind::Memcg,
        wire::STALL_NODE => StallKind::Node,
        wire::STALL_KSWAPD => StallKind::Kswapd,
        wire::STALL_COMPACTION => StallKind::Compaction,
        wire::STALL_THROTTLED => StallKind::Throttled,
        other => return Err(DecodeError::Number(other)),
    };
    let frames = bytes.i32(offset_of!(wire::Stall, frames_len))?;
    let frames = usize::try_from(frames).unwrap_or(0).min(wire::STALL_FRAMES);
    let first = offset_of!(wire::Stall, frames);
    let stack = (0..frames).map(|frame| bytes.u64(first + 8 * frame));
    Ok(Stall {
        task: bytes.task(offset_of!(wire::Stall, task))?,
        kind,
        begin_ns: bytes.u64(offset_of!(wire::Stall, begin_ns))?,
        reclaimed: bytes.some_u64(offset_of!(wire::Stall, reclaimed))?,
        scanned: bytes.some_u64(offset_of!(wire::Stall, scanned))?,
        gfp_mask: bytes.some_u32(offset_of!(wire::Stall, gfp_mask))?,
        order: bytes.some_i32(offset_of!(wire::Stall, order))?,
        status: bytes.some_i32(offset_of!(wire::Stall, status))?,
        node: bytes.some_u32(offset_of!(wire::Stall, node))?,
        stack: stack.collect::<Result<_, _>>()?,
    })
}

fn life(bytes: Bytes<'_>) -> Result<Life, DecodeError> {
    let task = bytes.task(offset_of!(life::Life, task))?;
    let kind = match bytes.u32(offset_of!(life::Life, life))? {
        life::LIFE_FORK => LifeKind::Fork {
            parent: bytes.u32(offset_of!(life::Life, parent))?,
        },
        life::LIFE_EXEC => LifeKind::Exec,
        life::LIFE_EXIT => LifeKind::Exit,
        other => return Err(DecodeError::Number(other)),
    };
    Ok(Life {
        ts_ns: bytes.u64(offset_of!(Header, ts_ns))?,
        pid: task.pid,
        start_ns: task.start_ns,
        comm: task.comm,
        kind,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A record of `kind` whose every byte is `fill`, with a right header.
    fn record(kind: Wire, fill: u8) -> Vec<u8> {
        let mut bytes = vec![fill; size_of_kind(kind)];
        let len = u32::try_from(bytes.len()).unwrap();
        put(
            &mut bytes,
            offset_of!(Header, kind),
            &(kind as u16).to_ne_bytes(),
        );
        put(
            &mut bytes,
            offset_of!(Header, version),
            &ABI_VERSION.to_ne_bytes(),
        );
        put(&mut bytes, offset_of!(Header, len), &len.to_ne_bytes());
        put(&mut bytes, offset_of!(Header, ts_ns), &7_u64.to_ne_bytes());
        bytes
    }

    fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
        bytes[at..at + value.len()].copy_from_slice(value);
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_record_or_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..2200)) {
            let _ = decode(&bytes, 0);
        }

        #[test]
        fn a_right_header_with_any_body_never_panics(
            number in 1_u16..=6,
            body in proptest::collection::vec(any::<u8>(), 2000),
            cut in 0_usize..2000,
        ) {
            let kind = Wire::from_number(number).unwrap();
            let mut bytes = record(kind, 0);
            let from = size_of::<Header>();
            let len = bytes.len();
            bytes[from..].copy_from_slice(&body[..len - from]);
            let whole = decode(&bytes, 1);
            let marks = matches!(whole, Ok(Record::Event(Event { kind: EventKind::Mark(_), .. })));
            prop_assert_eq!(marks, kind == Wire::OomMark);
            if cut < len {
                prop_assert_eq!(decode(&bytes[..cut], 1).err().map(|_| ()), Some(()));
            }
        }
    }

    #[test]
    fn what_was_not_read_is_none() {
        let mut bytes = record(Wire::OomMark, 0xff);
        for at in [
            offset_of!(oom::Mark, oom_score_adj),
            offset_of!(oom::Mark, order),
        ] {
            put(&mut bytes, at, &i32::MIN.to_ne_bytes());
        }
        put(
            &mut bytes,
            offset_of!(oom::Mark, flags),
            &0_u32.to_ne_bytes(),
        );
        let Ok(Record::Event(Event {
            kind: EventKind::Mark(mark),
            ts_ns: 7,
            ..
        })) = decode(&bytes, 9)
        else {
            panic!("no mark");
        };
        assert_eq!(mark.memory, Memory::default());
        assert_eq!(mark.tracepoint, Memory::default());
        assert_eq!((mark.uid, mark.gfp_mask, mark.order), (None, None, None));
        assert_eq!((mark.signal_ns, mark.victim.start_ns), (None, None));
        assert_eq!(mark.source, MarkSource::Tracepoint);
        assert!(
            mark.trigger_kernel.is_empty(),
            "-1 is an errno, not a length"
        );
    }

    #[test]
    fn every_field_is_its_own() {
        let mut bytes = record(Wire::OomMark, 0);
        put(
            &mut bytes,
            offset_of!(oom::Mark, anon_rss_kb),
            &11_u64.to_ne_bytes(),
        );
        put(
            &mut bytes,
            offset_of!(oom::Mark, tp_anon_rss_kb),
            &12_u64.to_ne_bytes(),
        );
        put(
            &mut bytes,
            offset_of!(oom::Mark, swap_kb),
            &13_u64.to_ne_bytes(),
        );
        put(
            &mut bytes,
            offset_of!(oom::Mark, oom_score_adj),
            &(-1000_i32).to_ne_bytes(),
        );
        let flags = oom::MARK_FILLED | oom::MARK_RSS_APPROX;
        put(
            &mut bytes,
            offset_of!(oom::Mark, flags),
            &flags.to_ne_bytes(),
        );
        let victim = offset_of!(oom::Mark, victim);
        put(
            &mut bytes,
            victim + offset_of!(Task, tid),
            &43_u32.to_ne_bytes(),
        );
        put(
            &mut bytes,
            victim + offset_of!(Task, pid),
            &42_u32.to_ne_bytes(),
        );
        put(&mut bytes, victim + offset_of!(Task, comm), b"eater\0rest");
        let stack = offset_of!(oom::Mark, trigger_user);
        put(
            &mut bytes,
            stack + offset_of!(Stack, len),
            &2_i32.to_ne_bytes(),
        );
        put(
            &mut bytes,
            stack + offset_of!(Stack, frames) + 8,
            &99_u64.to_ne_bytes(),
        );
        let Ok(Record::Event(Event {
            kind: EventKind::Mark(mark),
            ..
        })) = decode(&bytes, 9)
        else {
            panic!("no mark");
        };
        assert_eq!(mark.memory.anon_rss_kb, Some(11));
        assert_eq!(mark.tracepoint.anon_rss_kb, Some(12));
        assert_eq!(mark.memory.swap_kb, Some(13));
        assert_eq!(mark.oom_score_adj, Some(-1000));
        assert_eq!(
            (mark.source, mark.rss_approximate),
            (MarkSource::Signal, true)
        );
        assert_eq!((mark.victim.pid, mark.victim.tid), (42, 43));
        assert_eq!(mark.victim.comm.as_bytes(), b"eater");
        assert_eq!(mark.trigger_user, [0, 99]);
    }

    #[test]
    fn another_version_and_unknown_numbers_are_refused() {
        let mut bytes = record(Wire::OomStep, 0);
        assert_eq!(decode(&bytes, 0), Err(DecodeError::Number(0)));
        put(&mut bytes, offset_of!(Header, len), &8_u32.to_ne_bytes());
        assert_eq!(decode(&bytes, 0), Err(DecodeError::Length(8)));
        put(
            &mut bytes,
            offset_of!(Header, version),
            &99_u16.to_ne_bytes(),
        );
        assert_eq!(decode(&bytes, 0), Err(DecodeError::Version(99)));
        assert_eq!(decode(&[], 0), Err(DecodeError::Short(0)));
    }
}
