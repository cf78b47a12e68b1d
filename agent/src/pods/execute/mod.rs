//! Carries out the machine's steps. Nothing is decided here: one match, and calls of the parts that do the work.
//!
//! [`setup`]: cgroup, directories, volumes, and the way back; [`sandbox`]; [`container`]: image, configuration, start;
//! [`environment`]: the objects that variables come from; [`stop`]: hooks, stopping, the DELETE.

mod container;
mod environment;
mod error;
mod sandbox;
mod setup;
mod stop;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::future::BoxFuture;
use gantry_agent_core::{
    machine::{Notice, Outcome, Step, StepError},
    observed::ObservedPod,
    pod::{self, Kind},
};
use k8s_openapi::api::core::v1::{Container, Pod, PodStatus};
use tokio::sync::{mpsc, watch};

use super::{
    spec::{self, NodeFacts},
    steps::StepResult,
    turns::Turns,
    worker::{Hands, Job},
};
use crate::{
    cgroups::Cgroups,
    events::{EventType, Events},
    images::Images,
    metrics::Metrics,
    node::RuntimeState,
    objects::Objects,
    probes::{ContainerExec, ProbeEvent, ProbeSet, Probes, Target},
    runtime::Runtime,
    status::StatusWriter,
    volumes::{PodMounts, Volumes},
};
use error::failed;

/// What the node's pods share.
pub(crate) struct Tools {
    pub(crate) runtime: Runtime,
    pub(crate) images: Images,
    pub(crate) volumes: Volumes,
    pub(crate) objects: Objects,
    pub(crate) cgroups: Cgroups,
    pub(crate) status: StatusWriter,
    pub(crate) events: Events,
    pub(crate) probes: Probes,
    /// For RuntimeClasses.
    pub(crate) client: kube::Client,
    pub(crate) node: Arc<NodeFacts>,
    pub(crate) state: watch::Receiver<RuntimeState>,
    pub(crate) turns: Turns,
    pub(crate) metrics: Metrics,
}

/// The hands of one pod's worker.
#[derive(Clone)]
pub(crate) struct PodHands {
    tools: Arc<Tools>,
    /// The pod's volumes, once they are set up. Never held across an await.
    mounts: Arc<Mutex<Arc<PodMounts>>>,
}

impl PodHands {
    pub(crate) fn new(tools: Arc<Tools>) -> Self {
        Self {
            tools,
            mounts: Arc::default(),
        }
    }

    fn mounts(&self) -> MutexGuard<'_, Arc<PodMounts>> {
        self.mounts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn execute(self, job: Job) -> StepResult {
        let tools = &self.tools;
        let Job { step, pod, pod_ips } = job;
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let ip = pod_ips.first().copied();
        match step {
            // The worker itself waits for turns.
            Step::TakeTurn => Ok(Outcome::Done),
            Step::SetUp => self.set_up(&pod).await,
            Step::RefreshVolumes => done("FailedMount", tools.volumes.refresh(&pod).await),
            Step::RunSandbox { attempt } => tools.run_sandbox(&pod, attempt).await,
            Step::EnsureImage { container } => tools.ensure_image(&pod, &container).await,
            Step::StartContainer(start) => {
                let mounts = self.mounts().clone();
                tools.start_container(&pod, &start, &mounts).await
            }
            Step::PostStart { container, id } => tools.post_start(&pod, &container, &id, ip).await,
            Step::PreStop {
                container,
                id,
                budget,
            } => {
                tools
                    .pre_stop(
                        &pod,
                        stop::Hook {
                            container,
                            id,
                            budget,
                        },
                        ip,
                    )
                    .await
            }
            Step::StopContainer { id, grace_secs, .. } => tools.stop_container(&uid, &id, grace_secs).await,
            Step::RemoveContainer { id } => tools.remove_container(&pod, &id).await,
            Step::StopSandbox { id } => done(
                "FailedKillPod",
                tools.turns.stop_sandbox(tools.runtime.stop_sandbox(&id)).await,
            ),
            Step::Unmount => done("FailedUnmount", tools.volumes.tear_down(&uid).await),
            Step::RemoveCgroup => done("FailedRemove", tools.cgroups.remove_pod(&uid).await),
            Step::Delete { status } => tools.delete(&pod, *status).await,
            Step::RemoveSandbox { id } => done(
                "FailedRemove",
                tools.turns.remove(tools.runtime.remove_sandbox(&id)).await,
            ),
            Step::CleanUp => tools.clean_up(&pod).await,
            Step::Observe => {
                let observed = tools.runtime.refresh(&uid).await;
                observed
                    .map_err(|e| failed("FailedSync", &e))
                    .map(Outcome::Observed)
            }
        }
    }
}

fn done<E: std::error::Error + 'static>(reason: &str, result: Result<(), E>) -> Result<Outcome, StepError> {
    result.map_err(|e| failed(reason, &e)).map(|()| Outcome::Done)
}

impl Hands for PodHands {
    fn run(&self, job: Job) -> BoxFuture<'static, StepResult> {
        Box::pin(self.clone().execute(job))
    }

    fn publish(&self, pod: &Pod, status: PodStatus) {
        self.tools.status.publish(pod, status);
    }

    fn notice(&self, pod: &Pod, notice: Notice) {
        self.tools.tell(pod, &notice);
    }

    fn probe(&self, target: Target, events: &mpsc::Sender<ProbeEvent>) -> Option<ProbeSet> {
        self.tools.probes.start(target, events)
    }

    fn inputs_changed(&self, uid: String) -> BoxFuture<'static, ()> {
        let volumes = self.tools.volumes.clone();
        Box::pin(async move { volumes.inputs_changed(&uid).await })
    }

    fn forget(&self, uid: &str) {
        self.tools.status.forget(uid);
    }
}

impl Tools {
    fn tell(&self, pod: &Pod, notice: &Notice) {
        let kind = if notice.warning {
            EventType::Warning
        } else {
            EventType::Normal
        };
        let message = notice.message.clone();
        match &notice.container {
            Some(name) => self
                .events
                .container((pod, &field_path(pod, name)), kind, &notice.reason, message),
            None => self.events.pod(pod, kind, &notice.reason, message),
        }
    }

    /// The newest that is known of the pod.
    fn observed(&self, uid: &str) -> Arc<ObservedPod> {
        self.runtime.pods().get(uid).unwrap_or_default()
    }

    fn exec(&self) -> &dyn ContainerExec {
        &self.runtime
    }
}

/// The container of the spec, an ephemeral one in the shape of the others.
fn container_of(pod: &Pod, name: &str) -> Option<Container> {
    let spec = pod.spec.as_ref()?;
    let init = spec.init_containers.iter().flatten();
    let found = init.chain(&spec.containers).find(|c| c.name == name).cloned();
    let ephemeral = || {
        spec.ephemeral_containers
            .iter()
            .flatten()
            .find(|c| c.name == name)
    };
    found.or_else(|| ephemeral().map(spec::as_container))
}

/// What an event about a container is about: `spec.containers{name}`.
fn field_path(pod: &Pod, name: &str) -> String {
    let kind = pod::containers(pod)
        .into_iter()
        .find(|c| c.name == name)
        .map(|c| c.kind);
    let list = match kind {
        Some(Kind::Init | Kind::Sidecar) => "initContainers",
        Some(Kind::Ephemeral) => "ephemeralContainers",
        Some(Kind::Regular) | None => "containers",
    };
    format!("spec.{list}{{{name}}}")
}
