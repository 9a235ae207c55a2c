//! Frames back into ticks.

use super::*;

/// Makes ticks of frames, in their order. After damage it waits for the next key frame.
pub struct Decoder {
    system: Known<SystemMetrics>,
    cgroup: Known<CgroupMetrics>,
    process: Known<ProcessMetrics>,
    state: Option<State>,
}

impl std::fmt::Debug for Decoder {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Decoder").finish_non_exhaustive()
    }
}

impl Decoder {
    pub(in crate::store) fn new(layout: &Layout) -> Self {
        Self {
            system: known(&layout.system, SystemMetrics::METRICS),
            cgroup: known(&layout.cgroup, CgroupMetrics::METRICS),
            process: known(&layout.process, ProcessMetrics::METRICS),
            state: None,
        }
    }

    /// For frames of this version.
    #[must_use]
    pub fn own() -> Self {
        Self::new(&Layout::own())
    }

    /// Forgets everything: frames are missing.
    pub fn lost(&mut self) {
        self.state = None;
    }

    /// Reads a frame; `None`: it stands on frames that are missing.
    ///
    /// # Errors
    /// The frame makes no sense; the next key frame may.
    pub fn decode(&mut self, frame: &[u8]) -> Result<Option<Tick>, BadFrame> {
        self.frame(frame).map_err(|Malformed(why)| BadFrame(why))
    }

    fn frame(&mut self, frame: &[u8]) -> Result<Option<Tick>, Malformed> {
        let mut cursor = Cursor(frame);
        let key = match cursor.byte()? {
            0 => false,
            1 => true,
            _ => return Err(Malformed("a frame of an unknown kind")),
        };
        if key {
            self.state = Some(State {
                system: vec![None; self.system.len()],
                ..State::default()
            });
        }
        let Some(mut state) = self.state.take() else {
            return Ok(None);
        };
        let tick = self.read(&mut state, &mut cursor)?;
        self.state = Some(state);
        Ok(Some(tick))
    }

    fn read(&self, state: &mut State, cursor: &mut Cursor<'_>) -> Result<Tick, Malformed> {
        let since = unzigzag(cursor.varint()?);
        state.mono_ms = state.mono_ms.wrapping_add(since.cast_unsigned());
        let boot = unzigzag(cursor.varint()?).wrapping_add(since);
        state.boot_ms = state.boot_ms.wrapping_add(boot.cast_unsigned());
        let real = unzigzag(cursor.varint()?).wrapping_add(since);
        state.real_ms = state.real_ms.wrapping_add(real);
        take_changes(&mut state.system, cursor)?;
        let mut system = SystemMetrics::default();
        fill(&self.system, &state.system, &mut system);
        let cgroups = self.cgroups(state, cursor)?;
        let identities = self.births(state, cursor)?;
        let processes = self.processes(state, cursor)?;
        let mut tick = Tick {
            clock: ClockPair {
                mono_ns: state.mono_ms.saturating_mul(1_000_000),
                boot_ns: state.boot_ms.saturating_mul(1_000_000),
                real_ns: state.real_ms.saturating_mul(1_000_000),
            },
            sample: Sample {
                ts_ns: state.mono_ms.saturating_mul(1_000_000),
                system: Some(system),
                cgroups,
                processes,
                all_processes: true,
                ..Sample::default()
            },
            identities,
        };
        let skipped = &mut tick.sample.skipped;
        for count in [
            &mut skipped.vanished,
            &mut skipped.denied,
            &mut skipped.failed,
        ] {
            *count = u32::try_from(cursor.varint()?).unwrap_or(u32::MAX);
        }
        if cursor.0.is_empty() {
            Ok(tick)
        } else {
            Err(Malformed("bytes behind the frame"))
        }
    }

    fn cgroups(
        &self,
        state: &mut State,
        cursor: &mut Cursor<'_>,
    ) -> Result<Vec<CgroupSample>, Malformed> {
        let count = rows(cursor)?;
        if count > 0 {
            let blank: Values = vec![None; self.cgroup.len()];
            let mut list = Vec::new();
            for _ in 1..count {
                let path = RawText::new(state.texts.take(cursor)?.unwrap_or_default());
                list.push((path, cursor.varint()?, blank.clone()));
            }
            state.cgroups = list;
        }
        let mut samples = Vec::with_capacity(state.cgroups.len());
        for (path, id, values) in &mut state.cgroups {
            take_changes(values, cursor)?;
            let mut sample = CgroupSample {
                path: path.clone(),
                id: *id,
                ..CgroupSample::default()
            };
            fill(&self.cgroup, values, &mut sample.metrics);
            samples.push(sample);
        }
        Ok(samples)
    }

    /// Ends and births of processes; the identities of the born.
    fn births(
        &self,
        state: &mut State,
        cursor: &mut Cursor<'_>,
    ) -> Result<Vec<Identity>, Malformed> {
        let mut at = 0_usize;
        for _ in 0..rows(cursor)? {
            at = at.saturating_add(cursor.length()?);
            let slot = state.slots.get_mut(at);
            slot.and_then(Option::take)
                .ok_or(Malformed("an end of nobody"))?;
        }
        let mut free = 0;
        let mut born = Vec::new();
        for _ in 0..rows(cursor)? {
            let identity = self.birth(state, &mut free, cursor)?;
            born.push(identity);
        }
        Ok(born)
    }

    fn birth(
        &self,
        state: &mut State,
        free: &mut usize,
        cursor: &mut Cursor<'_>,
    ) -> Result<Identity, Malformed> {
        let pid = cursor
            .varint()?
            .try_into()
            .map_err(|_| Malformed("a pid out of range"))?;
        let start = cursor.varint()?;
        let head = Head::take(&mut state.texts, cursor)?;
        let mut text = || state.texts.take(cursor);
        let string = |bytes: Option<Vec<u8>>| {
            bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        };
        let cmdline = text()?;
        let (exe, cgroup) = (text()?.map(RawText::new), text()?.map(RawText::new));
        let (user, unit) = (string(text()?), string(text()?));
        let (runtime, id, pod) = (string(text()?), string(text()?), string(text()?));
        let arguments = cmdline
            .iter()
            .flat_map(|text| text.split(|byte| *byte == 0));
        let identity = Identity {
            ts_ns: state.mono_ms.saturating_mul(1_000_000),
            pid,
            start_ticks: Some(start),
            ppid: Some(head.ppid),
            comm: head.comm.clone(),
            cmdline: arguments.map(RawText::new).collect(),
            exe,
            uid: head.uid,
            user,
            unit,
            cgroup,
            container: runtime
                .zip(id)
                .map(|(runtime, id)| Container { runtime, id, pod }),
            mappings: Vec::new(),
        };
        let slot = Some(Slot {
            key: (pid, start),
            values: vec![None; self.process.len()],
            head,
        });
        while state.slots.get(*free).is_some_and(Option::is_some) {
            *free += 1;
        }
        match state.slots.get_mut(*free) {
            Some(place) => *place = slot,
            None => state.slots.push(slot),
        }
        Ok(identity)
    }

    fn processes(
        &self,
        state: &mut State,
        cursor: &mut Cursor<'_>,
    ) -> Result<Vec<ProcessSample>, Malformed> {
        let mut at = 0_usize;
        for _ in 0..rows(cursor)? {
            let word = cursor.length()?;
            at = at.saturating_add(word >> 1);
            let slot = state.slots.get_mut(at).and_then(Option::as_mut);
            let slot = slot.ok_or(Malformed("a change of nobody"))?;
            if word & 1 == 1 {
                slot.head = Head::take(&mut state.texts, cursor)?;
            }
            take_changes(&mut slot.values, cursor)?;
        }
        let mut samples: Vec<ProcessSample> = Vec::with_capacity(state.slots.len());
        for slot in state.slots.iter().flatten() {
            let mut sample = ProcessSample {
                pid: slot.key.0,
                start_ticks: slot.key.1,
                ppid: slot.head.ppid,
                comm: slot.head.comm.clone(),
                state: None,
                uid: slot.head.uid,
                oom_score_adj: slot.head.oom_score_adj,
                metrics: ProcessMetrics::default(),
            };
            fill(&self.process, &slot.values, &mut sample.metrics);
            samples.push(sample);
        }
        samples.sort_by_key(|sample| (sample.pid, sample.start_ticks));
        Ok(samples)
    }
}

fn rows(cursor: &mut Cursor<'_>) -> Result<usize, Malformed> {
    let rows = cursor.length()?;
    if rows > MOST_ROWS {
        return Err(Malformed("more rows than a host has"));
    }
    Ok(rows)
}
