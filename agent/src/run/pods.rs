//! The parts that run pods: made in order, each waiting for what it needs.

use std::{path::Path, sync::Arc};

use k8s_openapi::api::core::v1::Node;
use kube::Client;
use tokio::sync::watch;
use tracing::{info, warn};

use super::facts;
use crate::{
    cgroups::{Cgroups, Layout},
    config::Config,
    events::{EventType, Events},
    images::Images,
    metrics::Metrics,
    node::{Machine, NodeAgent, NodeRef},
    objects::Objects,
    pods::{self, Directory, NodeParts, PodTasks, Tools, Turns},
    probes::Probes,
    report::Chain,
    runtime::{CgroupDriver, Runtime},
    stats::Stats,
    volumes::{Allocatable, Volumes},
};

/// What is there before the first pod.
pub(super) struct Base {
    pub(super) client: Client,
    pub(super) runtime: Runtime,
    pub(super) events: Events,
    pub(super) directory: Directory,
    pub(super) stats: Stats,
    pub(super) metrics: Metrics,
    /// Shared with what waits until the pods have had theirs.
    pub(super) turns: Turns,
}

/// Make them and let them run pods. Waits for the runtime's first answer and for our Node to have an address; both come
/// by themselves.
pub(super) async fn start(
    config: &Arc<Config>,
    base: Base,
    node_agent: &NodeAgent,
) -> std::io::Result<PodTasks> {
    let machine = Machine::read(Path::new("/"));
    let cgroups = cgroups(config, &base, &machine).await?;
    let Base {
        client,
        runtime,
        events,
        directory,
        stats,
        metrics,
        turns,
    } = base;
    stats.attach(&cgroups);
    let node = with_address(node_agent.node()).await;
    let objects = Objects::new(&client);
    let of_node = config.clone();
    let (allocatable, view) = (
        derived(node_agent.node(), &node, facts::allocatable),
        derived(node_agent.node(), &node, move |node| facts::view(&of_node, node)),
    );
    let allocatable: watch::Receiver<Allocatable> = allocatable;
    let cgroup_v2 = crate::process::is_cgroup_v2();
    let volumes = Volumes::new(
        &config.root_dir,
        objects.clone(),
        allocatable,
        metrics.volumes.clone(),
    );
    metrics.read_volumes(volumes.clone());
    let tools = Tools {
        cgroups,
        volumes,
        objects,
        images: Images::new(runtime.clone(), facts::images(config)).counting(metrics.images.clone()),
        probes: Probes::new(Arc::new(runtime.clone()), metrics.probes.clone()),
        status: directory.status_writer().clone(),
        events,
        client,
        node: Arc::new(facts::for_runtime(config, &machine, &node, cgroup_v2)),
        state: node_agent.runtime_state(),
        turns,
        runtime,
        metrics,
    };
    let facts = Arc::new(facts::for_status(config, &node));
    let node = NodeParts {
        name: config.node_name.clone(),
        facts,
        view,
        directory,
    };
    Ok(pods::start(tools, node))
}

/// The cgroups of pods, with the driver that the runtime uses.
async fn cgroups(config: &Config, base: &Base, machine: &Machine) -> std::io::Result<Cgroups> {
    let Base {
        runtime,
        events,
        metrics,
        ..
    } = base;
    let settings = facts::cgroups(config, machine, driver(runtime).await);
    info!(driver = ?settings.driver, root = settings.root, "cgroups");
    let cgroups = Cgroups::new(settings, Layout::detect()?).counting(metrics.cgroups.clone());
    let limit = facts::pods_limit(config, machine);
    while let Err(error) = cgroups.ensure_root(&limit).await {
        let error = Chain(&error).to_string();
        warn!(error, "cannot make the cgroup of pods, will retry");
        let text = format!("Failed to update Node Allocatable limits: {error}");
        events.node(EventType::Warning, "FailedNodeAllocatableEnforcement", text);
        tokio::time::sleep(facts::RETRY).await;
    }
    events.node(
        EventType::Normal,
        "NodeAllocatableEnforced",
        "Updated Node Allocatable limit across pods",
    );
    Ok(cgroups)
}

/// Asked until the runtime answers; `None` when it does not know the question.
async fn driver(runtime: &Runtime) -> Option<CgroupDriver> {
    let mut silent = false;
    loop {
        match runtime.cgroup_driver().await {
            Ok(driver) => return driver,
            Err(error) => {
                if !std::mem::replace(&mut silent, true) {
                    warn!(error = error.message(), "waiting for the container runtime");
                }
                tokio::time::sleep(facts::RETRY).await;
            }
        }
    }
}

/// Our Node, once it has an address.
async fn with_address(mut node: watch::Receiver<NodeRef>) -> Arc<Node> {
    let found = |node: &NodeRef| {
        node.as_ref()
            .is_some_and(|node| !facts::addresses(node).is_empty())
    };
    let node = node
        .wait_for(found)
        .await
        .map(|node| node.clone().unwrap_or_default());
    match node {
        Ok(node) => node,
        // The sender lives as long as the NodeAgent, which our caller holds.
        Err(_) => std::future::pending().await,
    }
}

/// A watch of something that follows from our Node. Its task ends with the node's watch or with its last reader.
fn derived<T>(
    mut node: watch::Receiver<NodeRef>,
    first: &Node,
    make: impl Fn(&Node) -> T + Send + 'static,
) -> watch::Receiver<T>
where
    T: PartialEq + Send + Sync + 'static,
{
    let (sender, receiver) = watch::channel(make(first));
    tokio::spawn(async move {
        loop {
            tokio::select! {
                // Cancel safe: both arms only wait.
                () = sender.closed() => return,
                changed = node.changed() => if changed.is_err() { return },
            }
            if let Some(node) = node.borrow_and_update().as_deref() {
                let next = make(node);
                sender.send_if_modified(|known| {
                    let changed = *known != next;
                    *known = next;
                    changed
                });
            }
        }
    });
    receiver
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::DEADLINE;

    fn node(address: Option<&str>, pods: &str) -> NodeRef {
        let addresses: Vec<_> = address
            .iter()
            .map(|ip| serde_json::json!({"type": "InternalIP", "address": ip}))
            .collect();
        let status = serde_json::json!({"addresses": addresses, "allocatable": {"pods": pods}});
        Some(Arc::new(
            serde_json::from_value(serde_json::json!({"metadata": {}, "status": status})).unwrap(),
        ))
    }

    #[tokio::test]
    async fn waits_for_an_address_and_follows_the_node() {
        let (sender, receiver) = watch::channel(None);
        let waiting = tokio::spawn(with_address(receiver.clone()));
        sender.send_replace(node(None, "1"));
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        sender.send_replace(node(Some("10.0.0.5"), "1"));
        let first = tokio::time::timeout(DEADLINE, waiting).await.unwrap().unwrap();
        let mut allocatable = derived(receiver, &first, facts::allocatable);
        assert_eq!(allocatable.borrow_and_update()["pods"].0, "1");
        sender.send_replace(node(Some("10.0.0.5"), "2"));
        tokio::time::timeout(DEADLINE, allocatable.wait_for(|all| all["pods"].0 == "2"))
            .await
            .unwrap()
            .unwrap();
    }
}
