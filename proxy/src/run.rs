//! The main loop: wait for changes, gather a few milliseconds, write the table; then routes and the CNI configuration.
//!
//! ```text
//! watches ─ Input ─> Cluster (nodes, ranges) ─ facts ─┐
//!                └─> Programmer (services, slices) <──┴─ sync ─> kernel
//! ```
//!
//! One task owns everything. Nothing is written before services, slices, nodes and service ranges were listed in full. Beside the API
//! server the kernel is listened to: changes of others to the table, and addresses that come and go.

mod host;
mod pod_ranges;

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use gantry_chassis::ready;
use gantry_proxy_core::{Event, Kind, Route};
use ipnetwork::IpNetwork;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::cluster::Cluster;
use crate::config::{DetectLocal, Settings};
use crate::health::Health;
use crate::metrics::Metrics;
use crate::node_checks::NodeChecks;
use crate::programmer::{Programmer, SyncError, with_cause};
use crate::routes::Routes;
use crate::watch::Input;
use pod_ranges::PodRanges;

/// Inputs that follow each other this closely are written together.
const QUIET: Duration = Duration::from_millis(2);
/// But the first of them waits no longer than this.
const LATEST: Duration = Duration::from_millis(10);
/// Pause after a failure to write; it doubles up to [`MAX_PAUSE`].
const MIN_PAUSE: Duration = Duration::from_millis(500);
const MAX_PAUSE: Duration = Duration::from_secs(30);
/// A program that keeps changing the table is not answered more often than this.
const REPAIR_PAUSE: Duration = Duration::from_secs(1);
/// Why the loop ended although nobody asked for it. All are final: the program is to be started again.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// As the reference: what pods there are was decided by these ranges.
    #[error("the node's pod ranges changed from {before:?} to {now:?}")]
    PodRangesChanged {
        /// Before.
        before: Vec<IpNetwork>,
        /// Now.
        now: Vec<IpNetwork>,
    },
    /// Without them mode `NodeCIDR` cannot tell pods.
    #[error("node {0} got no pod ranges within {limit:?}", limit = pod_ranges::TIMEOUT)]
    NoPodRanges(String),
    /// The kernel cannot be listened to.
    #[error("cannot listen to the kernel")]
    Kernel(#[from] io::Error),
}

/// Everything the loop works with.
#[derive(Debug)]
pub struct Proxy {
    /// The configuration.
    pub settings: Settings,
    /// Where the CNI configuration goes.
    pub cni_conf_dir: Option<PathBuf>,
    /// The table.
    pub programmer: Programmer,
    /// The routes.
    pub routes: Routes,
    /// What `/healthz` says.
    pub health: Health,
    /// The health checks of services.
    pub checks: NodeChecks,
    /// What `/metrics` says.
    pub metrics: Metrics,
}

/// What the loop remembers between two rounds.
#[derive(Debug)]
struct Memory {
    cluster: Cluster,
    listed: BTreeSet<Kind>,
    local: Vec<IpAddr>,
    /// Times of endpoint changes that are not in the table yet.
    triggers: Vec<SystemTime>,
    /// Routes that are set.
    routes: Option<BTreeSet<Route>>,
    /// For mode `NodeCIDR`.
    pod_ranges: PodRanges,
    started: Instant,
    /// Changes from before this are not this program's to be late with.
    since: SystemTime,
    /// When a change of somebody else was last put right.
    repaired: Option<Instant>,
    /// When to try again what failed.
    retry: Option<Instant>,
    pause: Duration,
}

impl Proxy {
    /// Runs until `shutdown`; the table and the routes stay.
    ///
    /// # Errors
    /// When it cannot go on: see [`Ended`].
    pub async fn run(
        mut self,
        mut inputs: mpsc::Receiver<Input>,
        shutdown: CancellationToken,
    ) -> Result<(), Ended> {
        let mut memory = Memory::new();
        let table = ready::readable(self.programmer.notifications().try_clone_to_owned()?)?;
        let mut tick = interval(self.settings.sync_period);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let retry = memory.retry;
            let due = self.programmer.due().map(Instant::from_std);
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                // Cancel safe: a received input is handled at once.
                input = inputs.recv() => {
                    let Some(input) = input else { return Ok(()) };
                    self.take(&mut memory, input);
                    self.gather(&mut memory, &mut inputs).await;
                    self.work(&mut memory).await;
                }
                // Without anything to look at again this branch is off.
                () = async { if let Some(at) = due { tokio::time::sleep_until(at).await } }, if due.is_some() => {
                    self.programmer.look_again();
                }
                // Cancel safe: readiness stays until it is cleared.
                ready = table.readable() => {
                    ready?.clear_ready();
                    self.look(&mut memory).await;
                }
                // Cancel safe: a notice that is not taken stays.
                () = self.routes.addresses_changed() => {
                    self.read_local(&mut memory).await;
                    self.work(&mut memory).await;
                }
                _ = tick.tick() => self.tidy(&mut memory).await,
                // Without a time to retry this branch is off.
                () = async { if let Some(at) = retry { tokio::time::sleep_until(at).await } }, if retry.is_some() => {
                    self.work(&mut memory).await;
                }
            }
            self.check_pod_ranges(&mut memory)?;
        }
    }

    fn check_pod_ranges(&self, memory: &mut Memory) -> Result<(), Ended> {
        if self.settings.detect_local != DetectLocal::NodeCidr || !memory.cluster.is_listed() {
            return Ok(());
        }
        let own = memory.cluster.own(&self.settings);
        memory
            .pod_ranges
            .check(&self.settings.node_name, own, memory.started.elapsed())
    }

    /// Did somebody change the table? Then it is put right: at once, but not again and again.
    async fn look(&mut self, memory: &mut Memory) {
        match self.programmer.look() {
            Ok(false) => {}
            Ok(true) => {
                self.metrics.repairs.inc();
                let now = Instant::now();
                match memory.repaired.map(|at| at + REPAIR_PAUSE) {
                    Some(at) if at > now => memory.retry = Some(memory.retry.map_or(at, |r| r.min(at))),
                    Some(_) | None => {
                        memory.repaired = Some(now);
                        self.work(memory).await;
                    }
                }
            }
            Err(error) => warn!(
                error = with_cause(&error),
                "changes of others are not noticed now"
            ),
        }
    }

    /// Takes what follows closely.
    async fn gather(&mut self, memory: &mut Memory, inputs: &mut mpsc::Receiver<Input>) {
        let latest = Instant::now() + LATEST;
        loop {
            let until = latest.min(Instant::now() + QUIET);
            match timeout_at(until, inputs.recv()).await {
                Ok(Some(input)) => self.take(memory, input),
                Ok(None) | Err(_) => return,
            }
            // A long list: nothing can be written before its end, so it is taken as fast as it comes.
            if Instant::now() >= latest && is_ready(memory) {
                return;
            }
        }
    }

    fn take(&mut self, memory: &mut Memory, input: Input) {
        match memory.cluster.apply(input) {
            Some(Input::Object(event)) => {
                match &event {
                    Event::Service(..) | Event::ServiceGone(_) => {
                        self.metrics.changes.services.inc();
                        self.metrics.changes.services_pending.inc();
                    }
                    Event::Slice { .. } | Event::SliceGone(_) => {
                        self.metrics.changes.endpoints.inc();
                        self.metrics.changes.endpoints_pending.inc();
                    }
                    Event::ListEnd(kind) => drop(memory.listed.insert(*kind)),
                    Event::ListStart(_) => {}
                }
                self.programmer.apply(event);
            }
            Some(Input::Triggered(time)) if time > memory.since => memory.triggers.push(time),
            // The others are the cluster's own, or old.
            Some(
                Input::Triggered(_)
                | Input::Node(..)
                | Input::ServiceRanges(..)
                | Input::ListStart(_)
                | Input::ListEnd(_),
            )
            | None => {}
        }
    }

    /// Brings the table, the routes and the CNI configuration to the present state.
    async fn work(&mut self, memory: &mut Memory) {
        if !is_ready(memory) {
            return;
        }
        memory.retry = None;
        if memory.routes.is_none() {
            self.read_local(memory).await;
        }
        memory.cluster.remark(&self.settings);
        self.programmer
            .set_facts(memory.cluster.facts(&self.settings, &memory.local, false));
        let mut right = self.program(memory);
        right &= self.set_checks(memory).await;
        let own = memory.cluster.own(&self.settings);
        self.health.set_eligible(own.is_some_and(|node| !node.leaving));
        if let (Some(dir), Some(own)) = (&self.cni_conf_dir, own)
            && !own.pod_ranges.is_empty()
        {
            let cluster = self.settings.cluster_ranges();
            if let Err(error) = crate::cni::write(dir, &own.pod_ranges, cluster) {
                warn!(error = with_cause(&error), "the node's network is not ready");
                right = false;
            }
        }
        right &= self.set_routes(memory).await;
        if right {
            memory.pause = MIN_PAUSE;
        } else {
            memory.retry = Some(Instant::now() + memory.pause);
            memory.pause = (memory.pause * 2).min(MAX_PAUSE);
        }
    }

    /// Writes the table if it is behind; false if that failed.
    fn program(&mut self, memory: &mut Memory) -> bool {
        if !self.programmer.is_behind() {
            memory.triggers.clear();
            self.metrics.changes.settled();
            return true;
        }
        self.health.queued();
        self.metrics.queued();
        match self.programmer.sync() {
            Ok(done) => {
                debug!(elements = done.elements, planning = ?done.planning, writing = ?done.writing, "synced");
                self.metrics.synced(&done);
                for time in memory.triggers.drain(..) {
                    self.metrics.programmed(time);
                }
                self.health.updated();
                if done.full {
                    self.count();
                    crate::memory::trim();
                }
                true
            }
            Err(error) => {
                self.metrics.failures.inc();
                warn!(
                    error = with_cause(&error),
                    "services are not programmed; trying again"
                );
                false
            }
        }
    }

    /// Walks the whole ruleset: once in a while, not at each change.
    fn count(&self) {
        self.metrics.counted(self.programmer.planner().ruleset());
    }

    /// Looks after everything once in a while.
    async fn tidy(&mut self, memory: &mut Memory) {
        if !is_ready(memory) {
            info!(
                services = memory.listed.contains(&Kind::Service),
                slices = memory.listed.contains(&Kind::Slice),
                cluster = memory.cluster.is_listed(),
                "waiting for the API server's lists"
            );
            return;
        }
        self.count();
        if let Err(error) = self.programmer.tidy() {
            match error {
                SyncError::Tidy(_) => self.metrics.cleanup_failures.inc(),
                SyncError::Find(_) | SyncError::Commit(_) | SyncError::Watch(_) => {
                    self.metrics.failures.inc();
                }
            }
            warn!(error = with_cause(&error), "the table cannot be looked after");
        }
        // Routes and addresses may have been changed by others.
        memory.routes = None;
        self.work(memory).await;
    }
}

impl Memory {
    fn new() -> Self {
        Self {
            cluster: Cluster::default(),
            listed: BTreeSet::new(),
            local: Vec::new(),
            triggers: Vec::new(),
            routes: None,
            pod_ranges: PodRanges::default(),
            started: Instant::now(),
            since: SystemTime::now(),
            repaired: None,
            retry: None,
            pause: MIN_PAUSE,
        }
    }
}

/// True once everything was listed in full.
fn is_ready(memory: &Memory) -> bool {
    memory.listed.len() == 2 && memory.cluster.is_listed()
}
