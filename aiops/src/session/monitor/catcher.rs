//! OOM kills as they happen: the desk of `trace oom` inside the daemon.
//!
//! One sampler, not two: the desk gets the daemon's samples, and its own sampler only works for the seconds
//! in which memory is short.

use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::mpsc::unbounded_channel;

use crate::model::CountersAt;
use crate::model::EndReason;
use crate::model::Filter;
use crate::model::Item;
use crate::report::oom::Incident;
use crate::session::Options;
use crate::session::desk::Desk;
use crate::session::sources::Sources;
use crate::session::wait::Signals;
use crate::source::clock;
use crate::source::sampler::SamplerOptions;

/// How far back the minutes before a kill are kept.
const WINDOW: Duration = Duration::from_secs(300);

/// The running capture.
pub(super) struct Catcher {
    desk: Desk<'static>,
    sources: Sources,
    items: UnboundedReceiver<Item>,
    closed: mpsc::Receiver<Incident>,
    /// Hooks that are attached, and all.
    pub(super) hooks: (u64, u64),
}

impl Catcher {
    /// Attaches the hooks.
    ///
    /// # Errors
    /// They cannot run here.
    pub(super) fn start(root: &Path) -> anyhow::Result<Self> {
        let (sink, items) = unbounded_channel();
        let options = Options {
            root: root.to_path_buf(),
            filter: Filter::default(),
            count: None,
            duration: None,
            history_window: WINDOW,
            record: None,
        };
        let sampler = SamplerOptions::hurried_only(root.to_path_buf());
        let (sources, session) = Sources::start(&options, sampler, &sink)?;
        let (sender, closed) = mpsc::channel();
        let hand = move |incident: &Incident| {
            // Who takes them lives as long as the desk.
            let _ = sender.send(incident.clone());
            Ok(())
        };
        let attached = session.hooks.iter().filter(|hook| hook.attached).count();
        let mut catcher = Self {
            desk: Desk::new(None, Box::new(hand)),
            hooks: (attached as u64, session.hooks.len() as u64),
            sources,
            items,
            closed,
        };
        catcher.take(&Item::Session(session));
        catcher.take(&Item::Clock(clock::now()));
        let counters = catcher.sources.counters(CountersAt::Start);
        catcher.take(&Item::Counters(counters));
        Ok(catcher)
    }

    /// The next thing that a source says; nothing comes without a catcher. `None`: the sources are gone.
    pub(super) async fn next(catcher: &mut Option<Self>) -> Option<Item> {
        match catcher {
            Some(catcher) => catcher.items.recv().await,
            None => std::future::pending().await,
        }
    }

    /// Takes what a source or the daemon says.
    pub(super) fn take(&mut self, item: &Item) {
        self.desk.take(item, &self.sources);
    }

    /// Whether an incident waits for something: then [`Self::tick`] is due every [`crate::session::desk::TICK`].
    pub(super) fn waits(&self) -> bool {
        self.desk.waits()
    }

    /// Lets time pass.
    pub(super) fn tick(&mut self) {
        self.desk.tick(&self.sources);
    }

    /// Incidents that were closed since the last call.
    pub(super) fn closed(&mut self) -> Vec<Incident> {
        self.closed.try_iter().collect()
    }

    /// Drops what no later incident needs.
    pub(super) fn forget(&mut self) {
        self.desk.forget();
    }

    /// Waits, bounded, for open incidents, detaches, and hands over what is left.
    pub(super) async fn stop(mut self) -> Vec<Incident> {
        if let Ok(mut signals) = Signals::listen() {
            self.desk
                .settle(&self.sources, &mut self.items, &mut signals)
                .await;
        }
        let _outcome = self
            .desk
            .close(self.sources, &mut self.items, EndReason::Signal);
        self.closed.try_iter().collect()
    }
}
