//! The main loop: wait for changes, gather a few milliseconds, write the table; then the pods' network and routes.
//!
//! ```text
//! watches ─ Input ─> Cluster (nodes, ranges) ─ facts ─┐
//!                └─> Stack of each address family (services, slices) <──┴─ sync ─> kernel
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
use std::sync::Arc;
use std::time::SystemTime;

use gantry_proxy_core::families::Misfit;
use gantry_proxy_core::{Event, Families, Kind, Route};
use ipnetwork::IpNetwork;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::cluster::Cluster;
use crate::config::{DetectLocal, Settings};
use crate::health::Health;
use crate::metrics::Metrics;
use crate::outward;
use crate::pace::{Gathering, Retry, reached};
use crate::routes::Routes;
use crate::stack::{Repair, Stack, any_touched};
use crate::watch::Input;
use pod_ranges::PodRanges;

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
    /// The configuration or the node names an address family that does not run.
    #[error("kube-proxy configuration is incorrect")]
    Families(#[source] Misfit),
    /// The kernel cannot be listened to.
    #[error("cannot listen to the kernel")]
    Kernel(#[from] io::Error),
}

/// What makes the network of this node's pods.
#[derive(Debug)]
pub struct Network {
    /// Where the CNI configuration goes.
    conf_dir: PathBuf,
    /// Where the CNI plugin goes, if it is to be installed.
    bin_dir: Option<PathBuf>,
    /// Where the plugin tells of pods, if policies are enforced.
    policy_socket: Option<PathBuf>,
    /// Their way to the outside.
    outward: outward::Tables,
    /// What the plugin itself did for that before is gone.
    cleared: bool,
}

impl Network {
    /// Nothing is made yet.
    #[must_use]
    pub fn new(
        conf_dir: PathBuf,
        bin_dir: Option<PathBuf>,
        policy_socket: Option<PathBuf>,
        outward: outward::Tables,
    ) -> Self {
        Self {
            conf_dir,
            bin_dir,
            policy_socket,
            outward,
            cleared: false,
        }
    }
}

/// Everything the loop works with.
#[derive(Debug)]
pub struct Proxy {
    /// The configuration.
    pub settings: Settings,
    /// The pods' network, if this program makes it.
    pub network: Option<Network>,
    /// The families that run.
    pub families: Families,
    /// Their tables.
    pub stacks: Vec<Stack>,
    /// The routes.
    pub routes: Routes,
    /// What `/healthz` says.
    pub health: Health,
    /// What `/metrics` says.
    pub metrics: Metrics,
    /// Told when somebody changed the table: others may be gone, too.
    pub touched: Arc<Notify>,
}

/// What the loop remembers between two rounds.
#[derive(Debug)]
struct Memory {
    cluster: Cluster,
    listed: BTreeSet<Kind>,
    /// The host's own addresses, as far as they are asked for.
    local: Vec<IpAddr>,
    /// They are up to date.
    local_read: bool,
    /// What follows from nodes beside the tables may be behind: it is walked through whole, which changes of services do not pay for.
    host_behind: bool,
    /// The CNI plugin is where the runtime looks for it.
    installed: bool,
    /// Routes that are set.
    routes: Option<BTreeSet<Route>>,
    /// For mode `NodeCIDR`.
    pod_ranges: PodRanges,
    started: Instant,
    /// Changes from before this are not this program's to be late with.
    since: SystemTime,
    /// The configuration was compared with the families.
    compared: bool,
    /// When to try again what failed.
    retry: Retry,
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
        let mut tick = interval(self.settings.sync_period);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let retry = memory.retry.at();
            let due = self.stacks.iter().filter_map(Stack::due).min();
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                // Cancel safe: a received input is handled at once.
                input = inputs.recv() => {
                    let Some(input) = input else { return Ok(()) };
                    self.take(&mut memory, input);
                    self.gather(&mut memory, &mut inputs).await;
                    self.work(&mut memory).await;
                }
                () = reached(due) => {
                    self.stacks.iter_mut().for_each(Stack::look_again);
                }
                // Cancel safe: readiness stays until it is answered.
                touched = any_touched(&self.stacks) => self.look(&mut memory, touched?).await,
                // Cancel safe: a notice that is not taken stays.
                () = self.routes.addresses_changed() => {
                    memory.local_read = false;
                    self.work(&mut memory).await;
                }
                _ = tick.tick() => self.tidy(&mut memory).await,
                () = reached(retry) => self.work(&mut memory).await,
            }
            self.compare_families(&mut memory)?;
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

    /// Once: what is configured against the families that run.
    fn compare_families(&self, memory: &mut Memory) -> Result<(), Ended> {
        if memory.compared || !memory.cluster.is_listed() {
            return Ok(());
        }
        if let Some(told) = memory.cluster.check_families(&self.settings, self.families) {
            memory.compared = true;
            for misfit in told.map_err(Ended::Families)? {
                warn!(%misfit, "kube-proxy configuration may be incomplete or incorrect");
            }
        }
        Ok(())
    }

    /// Did somebody change the table of a stack? Then it is put right: at once, but not again and again.
    async fn look(&mut self, memory: &mut Memory, index: usize) {
        let repair = self.stacks.get_mut(index).map_or(Repair::None, Stack::look);
        if !matches!(repair, Repair::None) {
            self.touched.notify_one();
            memory.host_behind = true;
            self.network
                .iter_mut()
                .for_each(|network| network.outward.forget());
        }
        match repair {
            Repair::None => {}
            Repair::Now => self.work(memory).await,
            Repair::At(at) => memory.retry.not_after(at),
        }
    }

    /// Takes what follows closely.
    async fn gather(&mut self, memory: &mut Memory, inputs: &mut mpsc::Receiver<Input>) {
        let gathering = Gathering::begin();
        while let Some(input) = gathering.next(inputs).await {
            self.take(memory, input);
            // A long list: nothing can be written before its end.
            if gathering.is_late() && is_ready(memory) {
                return;
            }
        }
    }

    fn take(&mut self, memory: &mut Memory, input: Input) {
        match memory.cluster.apply(input) {
            Some(Input::Object(mut events)) => {
                if let Some(event) = events.ipv4.as_ref().or(events.ipv6.as_ref()) {
                    self.note(memory, event);
                }
                for stack in &mut self.stacks {
                    if let Some(event) = events.of_mut(stack.family()).take() {
                        stack.apply(event);
                    }
                }
            }
            Some(Input::Triggered(family, time)) if time > memory.since => {
                let stack = self.stacks.iter_mut().find(|stack| stack.family() == family);
                stack.into_iter().for_each(|stack| stack.triggered(time));
            }
            // Old, or the cluster's own.
            Some(
                Input::Triggered(..)
                | Input::Node(..)
                | Input::ServiceRanges(..)
                | Input::ListStart(_)
                | Input::ListEnd(_),
            ) => {}
            None => memory.host_behind = true,
        }
    }

    /// Counts a change of an object, whatever its families, and lists that are complete.
    fn note(&self, memory: &mut Memory, event: &Event) {
        let changes = &self.metrics.changes;
        match event {
            Event::Service(..) | Event::ServiceGone(_) => {
                changes.services.inc();
                changes.services_pending.inc();
            }
            Event::Slice { .. } | Event::SliceGone(_) => {
                changes.endpoints.inc();
                changes.endpoints_pending.inc();
            }
            Event::ListEnd(kind) => drop(memory.listed.insert(*kind)),
            Event::ListStart(_) => {}
        }
    }

    /// Brings the table, the routes and the CNI configuration to the present state.
    async fn work(&mut self, memory: &mut Memory) {
        if !is_ready(memory) {
            return;
        }
        memory.retry.begin();
        self.read_local(memory).await;
        let mut right = self.program(memory).await;
        if memory.host_behind {
            memory.cluster.remark(&self.settings);
            let own = memory.cluster.own(&self.settings);
            self.health.set_eligible(own.is_some_and(|node| !node.leaving));
            let made = self.make_network(memory);
            memory.host_behind = !(self.set_routes(memory).await && made);
            right &= !memory.host_behind;
        }
        memory.retry.end(right);
    }

    /// Writes the tables that are behind, and what stands beside them; false if some of it failed.
    async fn program(&mut self, memory: &Memory) -> bool {
        let local = memory.local.as_slice();
        let (settings, cluster) = (&self.settings, &memory.cluster);
        let mut right = true;
        for stack in &mut self.stacks {
            stack.set_facts(cluster.facts(settings, local, stack.family()));
            right &= stack.program();
            let addresses = cluster.listen_addresses(settings, local, stack.family());
            right &= stack.set_checks(&addresses).await;
        }
        if !self.stacks.iter().any(Stack::is_behind) {
            self.metrics.changes.settled();
        }
        right
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
        self.stacks.iter_mut().for_each(Stack::tidy);
        // Routes and addresses may have been changed by others.
        memory.routes = None;
        memory.local_read = false;
        memory.installed = false;
        memory.host_behind = true;
        self.check_outward();
        self.work(memory).await;
    }
}

impl Memory {
    fn new() -> Self {
        Self {
            cluster: Cluster::default(),
            listed: BTreeSet::new(),
            local: Vec::new(),
            local_read: false,
            installed: false,
            routes: None,
            host_behind: true,
            pod_ranges: PodRanges::default(),
            started: Instant::now(),
            since: SystemTime::now(),
            compared: false,
            retry: Retry::default(),
        }
    }
}

/// True once everything was listed in full.
fn is_ready(memory: &Memory) -> bool {
    memory.listed.len() == 2 && memory.cluster.is_listed()
}
