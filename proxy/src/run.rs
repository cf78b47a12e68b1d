//! The main loop: wait for changes, gather a few milliseconds, write the table; then routes and the CNI configuration.
//!
//! ```text
//! watches ─ Input ─> Cluster (nodes, ranges) ─ facts ─┐
//!                └─> Programmer (services, slices) <──┴─ sync ─> kernel
//! ```
//!
//! One task owns everything. Nothing is written before services, slices, nodes and service ranges were listed in full.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use gantry_proxy_core::{Event, Kind, Route};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::cluster::Cluster;
use crate::config::{NodePortRule, Settings};
use crate::health::Health;

use crate::metrics::Metrics;
use crate::programmer::{Programmer, SyncError, with_cause};
use crate::routes::Routes;
use crate::watch::Input;

/// Inputs that follow each other this closely are written together.
const QUIET: Duration = Duration::from_millis(2);
/// But the first of them waits no longer than this.
const LATEST: Duration = Duration::from_millis(10);
/// Pause after a failure to write; it doubles up to [`MAX_PAUSE`].
const MIN_PAUSE: Duration = Duration::from_millis(500);
const MAX_PAUSE: Duration = Duration::from_secs(30);

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
    /// When to try again what failed.
    retry: Option<Instant>,
    pause: Duration,
}

impl Proxy {
    /// Runs until `shutdown`; the table and the routes stay.
    pub async fn run(mut self, mut inputs: mpsc::Receiver<Input>, shutdown: CancellationToken) {
        let mut memory = Memory {
            cluster: Cluster::default(),
            listed: BTreeSet::new(),
            local: Vec::new(),
            triggers: Vec::new(),
            routes: None,
            retry: None,
            pause: MIN_PAUSE,
        };
        let mut tick = interval(self.settings.sync_period);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let retry = memory.retry;
            let due = self.programmer.due().map(Instant::from_std);
            tokio::select! {
                () = shutdown.cancelled() => return,
                // Cancel safe: a received input is handled at once.
                input = inputs.recv() => {
                    let Some(input) = input else { return };
                    self.take(&mut memory, input);
                    self.gather(&mut memory, &mut inputs).await;
                    self.work(&mut memory).await;
                }
                // Without anything to look at again this branch is off.
                () = async { if let Some(at) = due { tokio::time::sleep_until(at).await } }, if due.is_some() => {
                    self.programmer.look_again();
                }
                _ = tick.tick() => self.tidy(&mut memory).await,
                // Without a time to retry this branch is off.
                () = async { if let Some(at) = retry { tokio::time::sleep_until(at).await } }, if retry.is_some() => {
                    self.work(&mut memory).await;
                }
            }
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
            Some(Input::Triggered(time)) => memory.triggers.push(time),
            // The others are the cluster's own.
            Some(Input::Node(..) | Input::ServiceRanges(..) | Input::ListStart(_) | Input::ListEnd(_))
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
        self.programmer
            .set_facts(memory.cluster.facts(&self.settings, &memory.local, false));
        let mut right = self.program(memory);
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

    /// Sets the routes if they changed; false if that failed.
    async fn set_routes(&mut self, memory: &mut Memory) -> bool {
        let wanted = memory.cluster.routes(&self.settings);
        if memory.routes.as_ref() == Some(&wanted) {
            return true;
        }
        match self.routes.set(&wanted).await {
            Ok(()) => {
                memory.routes = Some(wanted);
                true
            }
            Err(error) => {
                warn!(
                    error = with_cause(&error),
                    "pods of other nodes are not all reachable"
                );
                memory.routes = Some(BTreeSet::new());
                wanted.is_empty()
            }
        }
    }

    /// The host's own addresses, where the configuration asks for them.
    async fn read_local(&self, memory: &mut Memory) {
        if !matches!(self.settings.node_ports, NodePortRule::Ranges(_)) {
            return;
        }
        match self.routes.local_addresses().await {
            Ok(addresses) => memory.local = addresses,
            Err(error) => warn!(
                error = with_cause(&error),
                "node ports stay on the addresses known so far"
            ),
        }
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
                SyncError::Find(_) | SyncError::Commit(_) => self.metrics.failures.inc(),
            }
            warn!(error = with_cause(&error), "the table cannot be looked after");
        }
        // Routes and addresses may have been changed by others.
        memory.routes = None;
        self.work(memory).await;
    }
}

/// True once everything was listed in full.
fn is_ready(memory: &Memory) -> bool {
    memory.listed.len() == 2 && memory.cluster.is_listed()
}
