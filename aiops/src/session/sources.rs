//! The sources of a live session: started in the order that loses nothing, stopped in reverse.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;

use crate::diag;
use crate::model::Counters;
use crate::model::CountersAt;
use crate::model::Losses;
use crate::model::Session;
use crate::source::Sink;
use crate::source::bpf;
use crate::source::bpf::Tracer;
use crate::source::cgroup::Controller;
use crate::source::clock;
use crate::source::counters;
use crate::source::guard;
use crate::source::host;
use crate::source::identity::IdentityTable;
use crate::source::kmsg::Kmsg;
use crate::source::sampler::Sampler;
use crate::source::sampler::SamplerOptions;
use crate::source::symbols::Resolver;

use super::Options;

/// Everything that runs.
pub(super) struct Sources {
    root: PathBuf,
    controller: Option<Arc<Controller>>,
    tracer: Tracer,
    kmsg: Option<Kmsg>,
    /// Who is who.
    pub(super) identities: IdentityTable,
    /// Names of addresses.
    pub(super) resolver: Resolver,
    /// Figures.
    pub(super) sampler: Sampler,
}

impl Sources {
    /// Starts everything and says who observes what. Hooks come before the table's first scan, so that
    /// no process can be born unseen between the two.
    ///
    /// # Errors
    /// The tracer cannot run here.
    pub(super) fn start(
        options: &Options,
        sampler: SamplerOptions,
        sink: &Sink,
    ) -> anyhow::Result<(Self, Session)> {
        let root = options.root.clone();
        let mut notes = guard::protect();
        let (life_sender, lives) = mpsc::channel();
        let bpf = bpf::Options {
            verbose: diag::verbosity() > 0,
            btf: std::env::var_os("AIOPS_NO_BTF").is_none(),
        };
        let kmsg = match Kmsg::spawn(sink.clone()) {
            Ok(kmsg) => Some(kmsg),
            Err(error) => {
                notes.push(format!(
                    "/dev/kmsg cannot be read ({error}): the kernel's own text is missing"
                ));
                None
            }
        };
        let tracer = Tracer::start(&bpf, sink.clone(), life_sender).map_err(|error| {
            let remedy = error.remedy();
            diag::hint(
                anyhow::Error::new(error).context("cannot trace OOM kills"),
                remedy,
            )
        })?;
        let controller = Controller::detect(&root).map(Arc::new);
        if controller.is_none() {
            notes.push("no memory cgroup controller: limits and cgroups are unknown".to_owned());
        }
        notes.extend_from_slice(tracer.notes());
        let identities = IdentityTable::spawn(root.clone(), lives, sink.clone());
        let resolver = Resolver::spawn(sink.clone());
        let sampler = Sampler::spawn(sampler, sink.clone(), controller.clone());
        notes.extend(guard::settle());
        let session = Session {
            unread: Vec::new(),
            command: "trace oom".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_ns: clock::mono_ns(),
            host: host::read(&root),
            filter: options.filter.clone(),
            count: options.count,
            history_window_s: options.history_window.as_secs(),
            hooks: tracer.hooks(),
            btf: Some(tracer.btf()),
            notes,
            options: std::collections::BTreeMap::new(),
        };
        let sources = Self {
            root,
            controller,
            tracer,
            kmsg,
            identities,
            resolver,
            sampler,
        };
        Ok((sources, session))
    }

    /// The kernel's own counts of OOM kills, of the host and of limited cgroups.
    pub(super) fn counters(&self, at: CountersAt) -> Counters {
        let controller = self.controller.as_deref();
        let cgroups = controller.map(Controller::limited).unwrap_or_default();
        counters::read(&self.root, controller, &cgroups, at)
    }

    /// Stops everything; what was in flight is in the sink afterwards.
    pub(super) fn stop(self) -> Losses {
        self.sampler.stop();
        let mut losses = self.tracer.stop();
        self.identities.stop();
        if let Some(kmsg) = self.kmsg {
            let overruns = kmsg.stop();
            losses.lost.push(crate::model::LossCount {
                name: "kmsg_overrun".to_owned(),
                count: overruns,
            });
        }
        self.resolver.stop();
        losses
    }
}
