//! Our Node: registration, status, lease, and what the rest of the agent may know of it.
//!
//! ```text
//! runtime_state: CRI Status, polled --> watch<RuntimeState> --+--> sync: measure, compose, patch --> watch<Node>
//!                                                             +--> pod workers (network ready?)
//! lease: its own client, every 10 s
//! ```
//!
//! Only our own Node and Lease are ever written. The tasks live as long as the [`NodeAgent`]; all are abort safe,
//! because each pass starts from full state.

mod address;
mod compose;
mod conditions;
mod lease;
mod machine;
mod patch;
mod register;
mod resources;
mod runtime_state;
mod sync;
mod usage;

use std::sync::Arc;

use futures::StreamExt;
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, Client,
    runtime::{WatchStreamExt, watcher},
};
use tokio::{sync::watch, task::JoinSet};

pub(crate) use self::{machine::Machine, resources::reserved_for_system, runtime_state::RuntimeState};
use crate::{config::Config, events::Events, metrics::NodeMetrics, report::Chain, runtime::Runtime};

/// Our Node as the API server has it; `None` before it was registered or read.
pub(crate) type NodeRef = Option<Arc<Node>>;

/// The two connections to the API server.
#[derive(Clone)]
pub(crate) struct Clients {
    /// For everything.
    pub(crate) main: Client,
    /// For the lease alone.
    pub(crate) lease: Client,
}

/// The tasks of this module; dropping it ends them.
pub(crate) struct NodeAgent {
    runtime: watch::Receiver<RuntimeState>,
    node: watch::Receiver<NodeRef>,
    _tasks: JoinSet<()>,
}

impl NodeAgent {
    /// Start registration, status, lease and the watch of the runtime. Must be called inside a tokio runtime.
    pub(crate) fn start(
        config: &Arc<Config>,
        clients: Clients,
        runtime: &Runtime,
        events: &Events,
        metrics: NodeMetrics,
    ) -> Self {
        let mut tasks = JoinSet::new();
        let (state, runtime_receiver) = watch::channel(RuntimeState::default());
        tasks.spawn(runtime_state::watch_runtime(runtime.clone(), state));
        let (sync, node) = sync::Sync::new(
            config.clone(),
            clients.main.clone(),
            events.clone(),
            runtime.clone(),
            runtime_receiver.clone(),
        );
        tasks.spawn(follow(clients.main, config.node_name.clone(), sync.node_sender()));
        tasks.spawn(sync.counting(metrics).run());
        let seconds = config.kubelet.node_lease_duration_seconds;
        tasks.spawn(lease::keep(
            clients.lease,
            config.node_name.clone(),
            seconds,
            node.clone(),
        ));
        Self {
            runtime: runtime_receiver,
            node,
            _tasks: tasks,
        }
    }

    /// What the runtime says of itself; [`RuntimeState::network_ready`] gates pods with a network of their own.
    pub(crate) fn runtime_state(&self) -> watch::Receiver<RuntimeState> {
        self.runtime.clone()
    }

    /// Our Node.
    pub(crate) fn node(&self) -> watch::Receiver<NodeRef> {
        self.node.clone()
    }
}

/// Keep `node` what the API server has: labels, taints and resources that others change.
async fn follow(client: Client, name: String, node: watch::Sender<NodeRef>) {
    let config = watcher::Config::default()
        .fields(&format!("metadata.name={name}"))
        .streaming_lists();
    let mut stream = watcher(Api::<Node>::all(client), config)
        .backoff(gantry_kubeapi::WatchBackoff::default())
        .boxed();
    while let Some(event) = stream.next().await {
        match event {
            Ok(watcher::Event::Apply(found) | watcher::Event::InitApply(found)) => {
                node.send_if_modified(|known| take_newer(known, found));
            }
            Ok(watcher::Event::Init | watcher::Event::InitDone | watcher::Event::Delete(_)) => {}
            Err(error) => tracing::debug!(error = %Chain(&error), "watch of our node interrupted"),
        }
    }
}

/// Take `found` unless it is the one known, which the answer to our own patch has told already.
fn take_newer(known: &mut NodeRef, mut found: Node) -> bool {
    if known
        .as_ref()
        .is_some_and(|old| old.metadata.resource_version == found.metadata.resource_version)
    {
        return false;
    }
    found.metadata.managed_fields = None;
    *known = Some(Arc::new(found));
    true
}
