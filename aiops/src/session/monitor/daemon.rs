//! The loop.

use std::collections::VecDeque;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::Instant;

use super::Options;
use super::Settings;
use super::catcher::Catcher;
use super::compact;
use super::compact::Compactor;
use super::detach;
use super::detach::Log;
use super::events;
use super::files;
use super::holder;
use super::latest::Latest;
use super::latest::Shared;
use super::metrics;
use super::own;
use super::own::Own;
use super::pace::Pace;
use super::signals::Asked;
use super::signals::Signals;
use super::summary;
use crate::diag;
use crate::model::ClockPair;
use crate::model::Filter;
use crate::model::Item;
use crate::model::Sample;
use crate::render::units;
use crate::report::monitor::MonitorState;
use crate::report::plural;
use crate::session::desk;
use crate::session::plane;
use crate::session::store_error;
use crate::session::wait;
use crate::source::guard;
use crate::source::plane::Plane;
use crate::source::plane::Rollup;
use crate::source::plane::Wants;
use crate::store::Event;
use crate::store::Recorder;
use crate::store::Store;
use crate::store::StoreError;
use crate::store::Tick;
use crate::time;

/// Least between two looks at the own cost, with which the state is written: with each sample that comes at its
/// usual interval. It is a file on a tmpfs.
const STATE_EVERY: Duration = Duration::from_millis(1500);
/// The same where there is no tmpfs, and each time is a write to the disk.
const STATE_EVERY_ON_DISK: Duration = Duration::from_secs(60);
/// A cgroup without a limit is read once in this time: a host has hundreds.
const CGROUP_TURN: Duration = Duration::from_secs(60);
/// Between two times that free memory is given back: a millisecond each.
const TRIM_EVERY: Duration = Duration::from_secs(10);
/// Events that wait for a store that cannot be written; the oldest give way.
const MOST_EVENTS: usize = 1024;
/// A sample that comes later than its interval by more than this is behind a gap.
const LATE: Duration = Duration::from_secs(2);

/// Reads the settings again.
pub type Reload<'a> = &'a dyn Fn() -> anyhow::Result<Settings>;

/// Runs the daemon until a signal or the duration ends it; how many samples and events could not be stored.
///
/// # Errors
/// There is no /proc, or the store cannot be written by us, at the start or at the end; each with its remedy.
pub fn run(options: Options, reload: Reload<'_>) -> anyhow::Result<u64> {
    if detach::is_child() {
        Log::leave()?;
    }
    // Before other threads: it is a setting of the allocator, too.
    let notes = guard::protect();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut signals = Signals::listen()?;
        let mut daemon = Daemon::start(options, notes, &mut signals).await?;
        daemon.watch(&mut signals, reload).await;
        daemon.close().await
    })
}

struct Daemon {
    options: Options,
    plane: Plane,
    recorder: Recorder,
    tails: PathBuf,
    log: Option<Log>,
    catcher: Option<Catcher>,
    pace: Pace,
    compactor: Compactor,
    /// Events that are not stored yet.
    events: VecDeque<Event>,
    /// Events that were given up.
    lost_events: u64,
    /// A sample was stored: there is a log that takes events.
    begun: bool,
    /// An OOM kill was seen with this tick: it is durable at once.
    urgent: bool,
    last: Option<ClockPair>,
    /// The kernel's count of OOM kills, as of the last sample.
    oom_kills: Option<u64>,
    own: Own,
    state: MonitorState,
    latest: Shared,
    bytes: files::StoreBytes,
    stated: Option<Instant>,
    trimmed: Instant,
}

impl Daemon {
    async fn start(
        options: Options,
        mut notes: Vec<String>,
        signals: &mut Signals,
    ) -> anyhow::Result<Self> {
        let mut plane = plane::open(&options.root)?;
        plane.take_turns(CGROUP_TURN);
        if !plane.live() {
            let error = anyhow::anyhow!(
                "{} is a captured tree: nothing in it changes",
                options.root.display()
            );
            return Err(diag::hint(
                error,
                "--root wants a host's root as mounted in a container",
            ));
        }
        let session = plane.session("monitor memory", Filter::default());
        notes.extend_from_slice(&session.notes);
        let store = Store::at(&options.store);
        let recorder = holder::open(&store, &session.host, signals.end()).await?;
        // Behind the store: who starts a second daemon learns that, not that its port is taken.
        let port = metrics::Port::open(&options.settings)?;
        let meta = store.meta().map_err(store_error)?;
        let tails = meta.map_or_else(|| options.store.clone(), |meta| meta.tails);
        files::write_pid(&tails)?;
        let (catcher, hooks_error) = catch(&options);
        let (attached, all) = catcher.as_ref().map_or((0, 0), |one| one.hooks);
        let config = options.config.as_deref();
        let state = MonitorState {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            boot_id: session.host.boot_id.clone(),
            start_ticks: own::start_ticks(std::process::id()),
            config: config.map(|path| path.display().to_string()),
            metrics: options.settings.metrics.clone(),
            hooks_attached: attached,
            hooks: all,
            hooks_error,
            ..MonitorState::default()
        };
        let latest = Arc::new(Mutex::new(Latest {
            host: session.host.clone(),
            ..Latest::default()
        }));
        if let Some(port) = port {
            port.start(&latest);
        }
        notes.extend(guard::settle());
        for note in &notes {
            diag::detail(note);
        }
        let mut compactor = Compactor::default();
        compactor.ask();
        let mut daemon = Self {
            plane,
            recorder,
            tails,
            log: None,
            catcher,
            pace: Pace::default(),
            compactor,
            events: VecDeque::new(),
            lost_events: 0,
            begun: false,
            urgent: false,
            last: None,
            oom_kills: None,
            own: Own::new(),
            state,
            latest,
            bytes: files::StoreBytes::default(),
            stated: None,
            trimmed: Instant::now(),
            options,
        };
        daemon.apply();
        daemon.ready()?;
        Ok(daemon)
    }

    /// Says that it works: to the terminal, to who started it, to systemd.
    fn ready(&mut self) -> anyhow::Result<()> {
        if let Some(why) = &self.state.hooks_error {
            diag::note(&format!("OOM kills are counted, not explained: {why}"));
        }
        let hooks = match self.state.hooks_attached {
            0 => String::new(),
            some => format!(", OOM kills with {some} of {} hooks", self.state.hooks),
        };
        self.own.measure();
        self.write_state();
        diag::note(&format!(
            "monitoring every {} into {}{hooks}",
            units::span(self.options.settings.interval.as_secs_f64()),
            self.options.store.display(),
        ));
        if detach::is_child() {
            let log = Log::begin(&self.options.store).map_err(|error| {
                let file = self.options.store.join("monitor.log");
                let error = anyhow::Error::new(error);
                let remedy = format!("remove it: rm {}", file.display());
                diag::hint(
                    error.context(format!("cannot write {}", file.display())),
                    remedy,
                )
            });
            self.log = Some(log?);
            self.say("started");
        }
        detach::notify("READY=1");
        let clock = self.plane.clock();
        let body = serde_json::json!({
            "version": self.state.version,
            "pid": self.own.cost.pid,
            "interval_s": self.state.interval_s,
            "hooks_attached": self.state.hooks_attached,
        });
        self.events
            .push_back(events::own("start", "monitoring started", &clock, &body));
        Ok(())
    }

    /// Tells what is going on; with the time where no journal adds it.
    fn say(&self, text: &str) {
        match &self.log {
            Some(_) => diag::note(&format!("{} {text}", stamp())),
            None => diag::note(text),
        }
    }

    fn warn(&self, text: &str) {
        match &self.log {
            Some(_) => diag::warn(&format!("{} {text}", stamp())),
            None => diag::warn(text),
        }
    }

    async fn watch(&mut self, signals: &mut Signals, reload: Reload<'_>) {
        let end = wait::after(self.options.duration);
        let mut next = Instant::now();
        let mut look = next;
        loop {
            let waits = self.catcher.as_ref().is_some_and(Catcher::waits);
            tokio::select! {
                biased;
                asked = signals.next() => match asked {
                    Asked::End => return,
                    Asked::Reload => {
                        // What was waited for so far is measured by the old interval, what comes by the new one.
                        self.tick();
                        self.reload(reload);
                        next = Instant::now() + self.pace.interval(self.options.settings.interval);
                    }
                },
                () = wait::until(end) => return,
                () = tokio::time::sleep_until(next) => {
                    let due = next;
                    self.tick();
                    // A sample that took longer than the interval is not made up for.
                    next = (due + self.pace.interval(self.options.settings.interval)).max(Instant::now());
                }
                () = tokio::time::sleep_until(look), if waits => {
                    look = Instant::now() + desk::TICK;
                    if let Some(catcher) = &mut self.catcher {
                        catcher.tick();
                    }
                    self.incidents();
                }
                item = Catcher::next(&mut self.catcher) => self.heard(item.as_ref()),
            }
        }
    }

    /// Takes what a source of the capture says.
    fn heard(&mut self, item: Option<&Item>) {
        match (item, &mut self.catcher) {
            (Some(item), Some(catcher)) => catcher.take(item),
            _ => {
                self.catcher = None;
                self.state.hooks_attached = 0;
                self.state.hooks_error = Some("the sources of events ended".to_owned());
                self.warn("OOM kills are counted only: the sources of events ended");
            }
        }
        self.incidents();
    }

    /// Stores incidents that were closed.
    fn incidents(&mut self) {
        let Some(catcher) = &mut self.catcher else {
            return;
        };
        let closed = catcher.closed();
        if closed.is_empty() {
            return;
        }
        catcher.forget();
        let clock = self.plane.clock();
        for incident in &closed {
            let killed = incident.kills.len() as u64;
            let scope = incident.scope.as_deref().unwrap_or("unknown");
            *self.state.oom_kills.entry(scope.to_owned()).or_default() += killed;
            let event = events::oom(incident, &clock);
            self.say(&event.title);
            self.events.push_back(event);
        }
        self.store_events();
    }

    /// One sample, and everything that belongs to it.
    fn tick(&mut self) {
        let began = Instant::now();
        let clock = self.plane.clock();
        let wants = Wants {
            rollup: Rollup::Budget(self.options.settings.smaps_budget),
            ..Wants::default()
        };
        let sample = self.plane.sample(&wants);
        let identities = self.plane.identities(&sample.processes);
        self.gap(&clock);
        let mut tick = Tick {
            clock,
            sample,
            identities,
        };
        self.feed(&mut tick);
        self.judge(&tick.sample, &clock);
        let urgent = std::mem::take(&mut self.urgent) || self.pace.pressed().is_some();
        self.store(&tick, urgent);
        self.state.processes = tick.sample.processes.len() as u64;
        self.state.cgroups = tick.sample.cgroups.len() as u64;
        self.state.last_tick_mono_ns = clock.mono_ns;
        self.last = Some(clock);
        self.own.ticked(began.elapsed());
        if diag::shows_progress() {
            let kills = self.state.oom_kills.values().sum();
            diag::progress(&summary::line(self.own.uptime_s(), &tick.sample, kills));
        }
        self.publish(tick);
        self.upkeep();
    }

    /// Hands the figures to the capture.
    fn feed(&mut self, tick: &mut Tick) {
        let Some(catcher) = &mut self.catcher else {
            return;
        };
        catcher.take(&Item::Clock(tick.clock));
        // Lent, not copied: two thousand processes are a megabyte.
        let item = Item::Sample(std::mem::take(&mut tick.sample));
        catcher.take(&item);
        if let Item::Sample(sample) = item {
            tick.sample = sample;
        }
        self.incidents();
    }

    /// Looks for pressure, and for kills that no hook told of.
    fn judge(&mut self, sample: &Sample, clock: &ClockPair) {
        let Some(system) = &sample.system else {
            return;
        };
        if self.pace.push(sample.ts_ns, system) {
            self.say(&match self.pace.pressed() {
                Some(sign) => format!("memory is short ({sign}): a sample every second"),
                None => "a calm minute: the interval is the ordinary one again".to_owned(),
            });
        }
        let before = std::mem::replace(&mut self.oom_kills, system.oom_kill);
        let kills = system
            .oom_kill
            .zip(before)
            .map_or(0, |(now, before)| now.saturating_sub(before));
        if kills > 0 {
            self.urgent = true;
            if self.catcher.is_none() {
                *self
                    .state
                    .oom_kills
                    .entry("unknown".to_owned())
                    .or_default() += kills;
                let event = events::counted(kills, &self.last.unwrap_or(*clock), clock);
                self.say(&event.title);
                self.events.push_back(event);
            }
        }
    }

    /// Notes that no sample was taken for a while: the host slept, or we did not get to run.
    fn gap(&mut self, clock: &ClockPair) {
        let Some(last) = self.last else {
            return;
        };
        let interval = self.pace.interval(self.options.settings.interval);
        let awake = Duration::from_nanos(clock.mono_ns.saturating_sub(last.mono_ns));
        let asleep = |clock: &ClockPair| clock.boot_ns.saturating_sub(clock.mono_ns);
        let slept = Duration::from_nanos(asleep(clock).saturating_sub(asleep(&last)));
        let late = awake.saturating_sub(interval);
        if slept < LATE && late < LATE {
            return;
        }
        let missed = late.as_millis() / interval.as_millis().max(1);
        self.own.cost.missed_ticks += u64::try_from(missed).unwrap_or(u64::MAX);
        let (why, seconds) = if slept >= LATE {
            ("the host was suspended", slept + awake)
        } else {
            ("the daemon did not get to run", awake)
        };
        let title = format!(
            "no sample for {}: {why}",
            units::span(seconds.as_secs_f64())
        );
        let body = serde_json::json!({
            "seconds": seconds.as_secs_f64(),
            "suspended_s": slept.as_secs_f64(),
        });
        self.say(&title);
        self.events
            .push_back(events::own("gap", &title, clock, &body));
    }

    /// Stores a sample; a disk that is full is said once, and again when there is room.
    fn store(&mut self, tick: &Tick, urgent: bool) {
        match self.recorder.push(tick, urgent) {
            Ok(pushed) => {
                self.begun = true;
                match pushed.unsynced {
                    None => self.works(),
                    Some(error) => self.fails(&error),
                }
            }
            Err(error) => self.fails(&error),
        }
        // Also where the tick was not taken: on a full disk this is what makes room.
        if self.recorder.turned() {
            self.compactor.ask();
        }
        self.own.cost.lost_ticks = self.recorder.dropped();
        self.store_events();
    }

    fn works(&mut self) {
        if self.own.cost.store_error.take().is_some() {
            let lost = self.own.cost.lost_ticks;
            self.warn(&format!(
                "the store can be written again; {lost} samples could not since the start"
            ));
        }
    }

    fn fails(&mut self, error: &StoreError) {
        let text = match std::error::Error::source(error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        };
        if self.own.cost.store_error.replace(text.clone()).is_none() {
            self.warn(&format!(
                "{text}; it goes on, and tries again with every sample"
            ));
        }
    }

    fn store_events(&mut self) {
        if self.begun {
            let (lost, error) = events::store(&mut self.events, &mut self.recorder);
            self.lost_events += lost;
            if let Some(error) = error {
                self.fails(&error);
            }
        }
        let over = self.events.len().saturating_sub(MOST_EVENTS);
        self.lost_events += self.events.drain(..over).count() as u64;
    }

    /// Hands the figures to the metrics port, where there is one.
    fn publish(&mut self, tick: Tick) {
        if self.options.settings.metrics.is_none() {
            return;
        }
        let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
        latest.take(tick);
        latest.count(&self.state.oom_kills, self.catcher.is_some());
        latest.interval = self.options.settings.interval;
        latest.own = self.own.cost.clone();
        latest.changed();
    }

    /// What is due now and then: the state, the log, segments, free memory.
    fn upkeep(&mut self) {
        self.compact();
        let on_disk = self.tails.starts_with(&self.options.store);
        let every = if on_disk {
            STATE_EVERY_ON_DISK
        } else {
            STATE_EVERY
        };
        if self.stated.is_none_or(|at| at.elapsed() >= every) {
            self.stated = Some(Instant::now());
            self.own.measure();
            self.write_state();
            if let Some(log) = &self.log {
                log.rotate();
            }
        }
        if self.own.cost.ticks == 2 || self.trimmed.elapsed() >= TRIM_EVERY {
            self.trimmed = Instant::now();
            guard::trim();
        }
    }

    /// Looks after the child that makes segments.
    fn compact(&mut self) {
        let settings = &self.options.settings;
        let (keep, most) = (&settings.keep, settings.max_size.as_deref());
        let store = &self.options.store;
        let news = self.compactor.poll(Instant::now().into_std(), || {
            compact::spawn(store, keep, most)
        });
        match news {
            None => {}
            Some(Ok(())) => self.state.compaction_error = None,
            // Said once, not every few minutes.
            Some(Err(why)) if self.state.compaction_error.as_ref() == Some(&why) => {}
            Some(Err(why)) => {
                let after = units::span(compact::RETRY_AFTER.as_secs_f64());
                self.warn(&format!(
                    "{why}; logs stay, and it is tried again every {after}"
                ));
                self.state.compaction_error = Some(why);
            }
        }
    }

    fn write_state(&mut self) {
        let settings = &self.options.settings;
        self.state.interval_now_s = self.pace.interval(settings.interval).as_secs_f64();
        self.state.pressure = self.pace.pressed().map(str::to_owned);
        self.state.last_tick_at = self
            .last
            .and_then(|clock| time::rfc3339(clock.real_ns, time::local_offset_s(clock.real_ns)));
        self.state.own = self.own.cost.clone();
        // A state that cannot be written is missed by nobody but who asks for it, and shows as an old one.
        let _ = files::write_state(&self.tails, &self.state);
        if settings.metrics.is_some() {
            let store = Store::at(&self.options.store);
            let bytes = self.bytes.at(&store, Instant::now().into_std());
            let mut latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner);
            latest.store_bytes = bytes;
        }
    }

    /// Takes over the settings, where they are said in the state.
    fn apply(&mut self) {
        let settings = &self.options.settings;
        self.state.interval_s = settings.interval.as_secs_f64();
        self.state.smaps_budget_percent = settings.smaps_budget * 100.0;
        self.state.keep.clone_from(&settings.keep);
        self.state.max_size.clone_from(&settings.max_size);
    }

    fn reload(&mut self, reload: Reload<'_>) {
        match reload() {
            Ok(mut settings) => {
                let old = &self.options.settings;
                let fixed = |settings: &Settings| {
                    let metrics = (settings.metrics.clone(), settings.metrics_public);
                    (settings.bpf, metrics, settings.top)
                };
                if fixed(&settings) != fixed(old) {
                    self.warn("bpf, metrics and top count from the next start");
                    let (bpf, (metrics, public), top) = fixed(old);
                    settings.bpf = bpf;
                    settings.metrics = metrics;
                    settings.metrics_public = public;
                    settings.top = top;
                }
                self.options.settings = settings;
                self.apply();
                self.say(&format!(
                    "settings read again: a sample every {}",
                    units::span(self.state.interval_s)
                ));
            }
            Err(error) => self.warn(&format!("{error:#}; the settings stay as they were")),
        }
        self.write_state();
    }

    /// Ends; how many samples and events could not be stored.
    ///
    /// # Errors
    /// The store cannot be written now.
    async fn close(mut self) -> anyhow::Result<u64> {
        diag::progress("");
        detach::notify("STOPPING=1");
        if let Some(catcher) = self.catcher.take() {
            let clock = self.plane.clock();
            for incident in catcher.stop().await {
                self.events.push_back(events::oom(&incident, &clock));
            }
        }
        self.own.measure();
        let clock = self.plane.clock();
        let cost = serde_json::to_value(&self.own.cost).unwrap_or_default();
        self.events
            .push_back(events::own("stop", "monitoring ended", &clock, &cost));
        self.store_events();
        self.compactor.stop();
        let ticks = self.own.cost.ticks;
        let lost = self.recorder.dropped() + self.lost_events + self.events.len() as u64;
        let mut text = format!("monitoring ended after {ticks} sample{}", plural(ticks));
        if lost > 0 {
            text += &format!("; {lost} samples and events could not be stored");
        }
        self.say(&text);
        files::remove(&self.tails);
        let closed = self.recorder.close().map_err(store_error);
        // What no log could take is no error of the closing.
        match (closed, self.own.cost.store_error) {
            (Err(error), _) => Err(error.context("the newest samples are not on the disk")),
            (Ok(()), Some(text)) if lost > 0 => Err(diag::hint(
                anyhow::anyhow!("{text}; {lost} samples and events are lost"),
                "make room, or name another store: --store DIR",
            )),
            _ => Ok(lost),
        }
    }
}

fn stamp() -> String {
    let now = time::now_ns();
    time::rfc3339(now, time::local_offset_s(now)).unwrap_or_default()
}

/// Starts the capture where it can run; else why not.
fn catch(options: &Options) -> (Option<Catcher>, Option<String>) {
    if !options.settings.bpf {
        return (None, Some("--no-bpf".to_owned()));
    }
    if options.root != Path::new("/") {
        return (
            None,
            Some("--root is not the running kernel's own".to_owned()),
        );
    }
    match Catcher::start(&options.root) {
        Ok(catcher) => (Some(catcher), None),
        Err(error) => (None, Some(format!("{error:#}"))),
    }
}
