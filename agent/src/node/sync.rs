//! The loop that keeps our Node's status true.
//!
//! A pass measures, composes the status and patches what changed. There is a pass each `nodeStatusUpdateFrequency`,
//! and at once when the runtime's readiness changes. A patch is sent when something changed, else each
//! `nodeStatusReportFrequency` (the lease is the heartbeat).

use std::{
    net::IpAddr,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use k8s_openapi::{
    api::core::v1::{Node, NodeStatus},
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use super::{
    NodeRef, address,
    compose::{self, Composed, Facts},
    machine::Machine,
    patch, register,
    runtime_state::RuntimeState,
    usage::{self, Gauge},
};
use crate::{
    config::{Config, Threshold},
    events::{EventType, Events},
    metrics::NodeMetrics,
    report::Chain,
    runtime::{Image, Runtime},
};

/// Tries of one pass (`nodeStatusUpdateRetry`).
const TRIES: u32 = 5;

/// How long the first status waits for the runtime's first answer.
const FIRST_ANSWER: Duration = Duration::from_secs(3);

/// First and longest pause between two tries to register.
const REGISTER_MIN: Duration = Duration::from_millis(100);
const REGISTER_MAX: Duration = Duration::from_secs(7);

/// Everything that the loop owns.
pub(super) struct Sync {
    config: Arc<Config>,
    api: Api<Node>,
    events: Events,
    runtime: Runtime,
    /// What the runtime said last.
    state: watch::Receiver<RuntimeState>,
    /// Our Node as the API server has it.
    node: watch::Sender<NodeRef>,
    machine: Machine,
    addresses: Vec<IpAddr>,
    gauge: Gauge,
    /// When the last patch was sent, and how much later than usual the next unchanged one is due.
    reported: Option<(Instant, Duration)>,
    unschedulable: bool,
    rebooted: bool,
    metrics: NodeMetrics,
}

impl Sync {
    pub(super) fn new(
        config: Arc<Config>,
        client: Client,
        events: Events,
        runtime: Runtime,
        state: watch::Receiver<RuntimeState>,
    ) -> (Self, watch::Receiver<NodeRef>) {
        let (node, receiver) = watch::channel(None);
        let thresholds = config.kubelet.eviction_hard.iter().filter_map(|(signal, text)| {
            // Validation has refused bad ones.
            Some((signal.clone(), Threshold::parse(signal, text).ok().flatten()?))
        });
        let hold = config.kubelet.eviction_pressure_transition_period;
        let sync = Self {
            gauge: Gauge::new(thresholds.collect(), hold),
            machine: Machine::read(Path::new("/")),
            api: Api::all(client),
            config,
            events,
            runtime,
            state,
            node,
            addresses: Vec::new(),
            reported: None,
            unschedulable: false,
            rebooted: false,
            metrics: NodeMetrics::default(),
        };
        (sync, receiver)
    }

    /// The same loop, with the node's start measured here.
    pub(super) fn counting(self, metrics: NodeMetrics) -> Self {
        Self { metrics, ..self }
    }

    /// Where the watch of our Node puts what it sees.
    pub(super) fn node_sender(&self) -> watch::Sender<NodeRef> {
        self.node.clone()
    }

    /// Register, then keep the status true, for ever. Abort safe.
    pub(super) async fn run(mut self) {
        // A node that was Ready stays so over a restart of the agent: ask the runtime before saying anything.
        let heard = self.state.wait_for(RuntimeState::is_heard);
        let _ = tokio::time::timeout(FIRST_ANSWER, heard).await;
        if self.config.kubelet.register_node {
            self.register().await;
        }
        let mut state = self.state.clone();
        let period = self.config.kubelet.node_status_update_frequency;
        loop {
            let told = state.borrow_and_update().errors(Instant::now());
            self.pass().await;
            let next = tokio::time::Instant::now() + period;
            // Cancel safe: both arms only wait.
            loop {
                tokio::select! {
                    () = tokio::time::sleep_until(next) => break,
                    changed = state.changed() => {
                        if changed.is_err() {
                            return;
                        }
                        if state.borrow_and_update().errors(Instant::now()) != told {
                            break;
                        }
                    }
                }
            }
        }
    }

    /// Create our Node, or bring the one that is there up to date; as long as it takes.
    async fn register(&mut self) {
        self.events
            .node(EventType::Normal, "Starting", "Starting kubelet.");
        let name = self.config.node_name.clone();
        let mut step = REGISTER_MIN;
        loop {
            let images = self.images().await;
            let composed = self.compose(&NodeStatus::default(), images.as_deref()).await;
            let wanted = register::initial(&self.config, &self.machine, composed.status);
            self.metrics.registers();
            match register::once(&self.api, &wanted).await {
                Ok((node, is_new)) => {
                    if is_new {
                        self.metrics.registered();
                    }
                    info!(node = name, "node registered");
                    self.node.send_replace(Some(Arc::new(node)));
                    for reason in composed.events {
                        self.node_event(reason);
                    }
                    return;
                }
                Err(error) => {
                    warn!(error = %Chain(&error), node = name, "cannot register the node, will retry")
                }
            }
            tokio::time::sleep(step.mul_f64(rand::random_range(0.75..1.25))).await;
            step = (step * 2).min(REGISTER_MAX);
        }
    }

    /// Compose and, if need be, send; several tries.
    async fn pass(&mut self) {
        let images = self.images().await;
        for attempt in 0..TRIES {
            match self.attempt(images.as_deref(), attempt > 0).await {
                Ok(()) => return,
                Err(kube::Error::Api(status)) if status.code == 404 => {
                    warn!(
                        node = self.config.node_name,
                        "our Node was deleted from the API; it is made again at the next start"
                    );
                    return;
                }
                Err(error) => warn!(error = %Chain(&error), attempt, "cannot update the node's status"),
            }
        }
    }

    async fn attempt(&mut self, images: Option<&[Image]>, fresh: bool) -> Result<(), kube::Error> {
        let known = self.node.borrow().clone();
        let known = match known {
            Some(node) if !fresh => node,
            Some(_) | None => Arc::new(self.api.get(&self.config.node_name).await?),
        };
        let no_status = NodeStatus::default();
        let old = known.status.as_ref().unwrap_or(&no_status);
        let Composed { status, events } = self.compose(old, images).await;
        let changed = patch::differs(old, &status);
        self.tell(&known, &status, events);
        if !changed && !self.is_report_due() {
            self.node
                .send_if_modified(|node| node.is_none().then(|| *node = Some(known.clone())).is_some());
            return Ok(());
        }
        debug!(changed, "node status patch");
        let body = Patch::Strategic(patch::body(old, &status));
        let node = self
            .api
            .patch_status(&self.config.node_name, &PatchParams::default(), &body)
            .await?;
        if is_ready(&status) {
            self.metrics.ready();
        }
        self.node.send_replace(Some(Arc::new(node)));
        self.reported = Some((Instant::now(), self.spread(changed)));
        Ok(())
    }

    /// After a change the next unchanged report comes at a random time, so that nodes that changed together (a
    /// control plane that came back) do not report together for ever.
    fn spread(&self, changed: bool) -> Duration {
        let period = self.config.kubelet.node_status_report_frequency;
        if changed {
            period.mul_f64(rand::random_range(0.5..1.5))
        } else {
            period
        }
    }

    fn is_report_due(&self) -> bool {
        self.reported.is_none_or(|(last, pause)| last.elapsed() >= pause)
    }

    async fn images(&self) -> Option<Vec<Image>> {
        self.runtime.list_images().await.ok()
    }

    async fn compose(&mut self, known: &NodeStatus, images: Option<&[Image]>) -> Composed {
        match address::find(&self.config.node_ips, &self.config.node_name).await {
            Ok(addresses) => self.addresses = addresses,
            Err(error) => {
                warn!(error = %Chain(&error), "the node has no address");
            }
        }
        let usage = usage::measure(&self.config.root_dir);
        let now = (Timestamp::now(), Instant::now());
        self.gauge.observe(&usage, now.1);
        let runtime = self.state.borrow().clone();
        let facts = Facts {
            machine: &self.machine,
            addresses: &self.addresses,
            disk_bytes: usage.get("nodefs.available").map(|left| left.capacity),
            images,
            runtime: &runtime,
            gauge: &self.gauge,
            now,
        };
        compose::compose(&self.config, known, &facts)
    }

    fn node_event(&self, reason: &'static str) {
        let name = &self.config.node_name;
        info!(node = name, reason, "node state changed");
        self.events.node(
            EventType::Normal,
            reason,
            format!("Node {name} status is now: {reason}"),
        );
    }

    /// Events and log lines of a change.
    fn tell(&mut self, known: &Node, status: &NodeStatus, events: Vec<&'static str>) {
        let name = &self.config.node_name;
        for reason in events {
            self.node_event(reason);
        }
        let boot = |status: Option<&NodeStatus>| status?.node_info.as_ref().map(|info| info.boot_id.clone());
        let (old, new) = (
            boot(known.status.as_ref()).unwrap_or_default(),
            boot(Some(status)).unwrap_or_default(),
        );
        if !self.rebooted && !old.is_empty() && old != new {
            self.rebooted = true;
            let text = format!("Node {name} has been rebooted, boot id: {new}");
            self.events.node(EventType::Warning, "Rebooted", text);
        }
        let unschedulable = known
            .spec
            .as_ref()
            .and_then(|spec| spec.unschedulable)
            .unwrap_or(false);
        if std::mem::replace(&mut self.unschedulable, unschedulable) != unschedulable {
            self.node_event(if unschedulable {
                "NodeNotSchedulable"
            } else {
                "NodeSchedulable"
            });
        }
    }
}

fn is_ready(status: &NodeStatus) -> bool {
    let conditions = status.conditions.iter().flatten();
    conditions
        .into_iter()
        .any(|c| c.type_ == "Ready" && c.status == "True")
}

#[cfg(test)]
mod tests;
