//! Starts the tasks that run pods.

use std::sync::Arc;

use gantry_agent_core::{admission::NodeView, machine::NodeFacts};
use k8s_openapi::api::core::v1::Pod;
use tokio::{sync::watch, task::JoinSet};

use super::{
    account::PodCounters,
    directory::Directory,
    execute::{PodHands, Tools},
    leftovers::Leftovers,
    manager::{Manager, Parts},
    source,
    spec::files::LOG_LINKS,
};
use crate::{cgroups::Cgroups, logs::LogFolders, report::Chain};

/// The tasks that run pods; when dropped they end and the pods go on running.
pub(crate) struct PodTasks {
    _tasks: JoinSet<()>,
}

/// What the manager knows of the node.
pub(crate) struct NodeParts {
    /// `spec.nodeName` of the pods to run.
    pub(crate) name: String,
    /// For the status of pods.
    pub(crate) facts: Arc<NodeFacts>,
    /// For admission.
    pub(crate) view: watch::Receiver<NodeView>,
    /// Told which pods there are.
    pub(crate) directory: Directory,
}

/// Takes care of the pods of this node from now on. Must be called inside a runtime.
pub(crate) fn start(tools: Tools, node: NodeParts) -> PodTasks {
    let mut tasks = JoinSet::new();
    let tools = Arc::new(tools);
    let (active, active_pods) = watch::channel(Vec::new());
    tasks.spawn(follow_active(tools.cgroups.clone(), active_pods));
    let parts = Parts {
        cache: tools.runtime.pods().clone(),
        leftovers: Leftovers {
            volumes: tools.volumes.clone(),
            cgroups: tools.cgroups.clone(),
            logs: LogFolders {
                pods: tools.node.pod_logs_dir.clone(),
                links: LOG_LINKS.into(),
            },
        },
        directory: node.directory,
        facts: node.facts,
        node: node.view,
        turns: tools.turns.clone(),
        active,
        counters: PodCounters {
            pods: tools.metrics.pods.clone(),
            starts: tools.metrics.starts.clone(),
        },
    };
    let updates = source::watch_api(tools.client.clone(), &node.name);
    let manager = Manager::new(parts, move || PodHands::new(tools.clone()));
    tasks.spawn(manager.run(updates));
    PodTasks { _tasks: tasks }
}

/// The weight of the burstable tier follows the requests of the pods in it. Several changes at once are one.
async fn follow_active(cgroups: Cgroups, mut active: watch::Receiver<Vec<Arc<Pod>>>) {
    while active.changed().await.is_ok() {
        let pods = active.borrow_and_update().clone();
        if let Err(error) = cgroups.update_qos(pods.iter().map(Arc::as_ref)).await {
            tracing::warn!(error = %Chain(&error), "cannot set the weight of the burstable pods");
        }
    }
}
