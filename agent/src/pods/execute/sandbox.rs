//! Making a pod's sandbox.

use gantry_agent_core::{
    machine::{Outcome, Retry, StepError},
    pod,
};
use k8s_openapi::api::{core::v1::Pod, node::v1::RuntimeClass};
use kube::Api;

use super::{
    Tools,
    error::{failed, refused},
};
use crate::{
    events::EventType,
    metrics::Phase,
    pods::{
        spec::{PodSandboxConfig, SandboxInput, SpecError, sandbox_config},
        steps::StepResult,
    },
    runtime::{MadeSandbox, RuntimeError},
};

/// The reason of a sandbox that cannot be made.
const REASON: &str = "FailedCreatePodSandBox";

/// `hostUsers: false`.
fn has_own_users(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.host_users) == Some(false)
}

/// A runtime that is away comes back; whatever else it says takes longer to heal.
fn not_made(error: &RuntimeError) -> StepError {
    let retry = if error.is_unreachable() {
        Retry::Soon
    } else {
        Retry::Backoff
    };
    StepError {
        retry,
        ..refused(REASON, error.message())
    }
}

impl Tools {
    pub(super) async fn run_sandbox(&self, pod: &Pod, attempt: u32) -> StepResult {
        self.network_is_ready(pod)?;
        let handler = self.runtime_handler(pod).await?;
        let config = self
            .sandbox_config(pod, attempt, true)
            .map_err(|e| failed(REASON, &e))?;
        let own_users = u64::from(has_own_users(pod));
        self.metrics.pods.started.inc();
        self.metrics.pods.own_users.started.inc_by(own_users);
        let made = self.runtime.run_sandbox(config, &handler).await;
        let id = match made {
            Ok(made) => {
                self.count_start(&made);
                made.id
            }
            Err(error) => {
                self.metrics.pods.failed.inc();
                self.metrics.pods.own_users.failed.inc_by(own_users);
                return Err(not_made(&error));
            }
        };
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let sandbox = self.observed(uid).sandboxes.iter().find(|s| s.id == id).cloned();
        let sandbox = sandbox.ok_or_else(|| refused(REASON, format!("sandbox {id} is gone already")))?;
        Ok(Outcome::Sandbox(Box::new(sandbox)))
    }

    /// What took how long; the network's part is known when the runtime has told when it was done with it.
    fn count_start(&self, made: &MadeSandbox) {
        let starts = &self.metrics.starts;
        if let Some(network) = made.network {
            starts.phase(Phase::Network, network);
        }
        starts.phase(
            Phase::Sandbox,
            made.took.saturating_sub(made.network.unwrap_or_default()),
        );
    }

    /// The sandbox's configuration; `tell`: with events about names that cannot be honoured.
    pub(super) fn sandbox_config(
        &self,
        pod: &Pod,
        attempt: u32,
        tell: bool,
    ) -> Result<PodSandboxConfig, SpecError> {
        let cgroup_parent = &self.cgroups.pod_parent(pod);
        let input = SandboxInput {
            pod,
            node: &self.node,
            attempt,
            cgroup_parent,
        };
        let (config, warnings) = sandbox_config(input)?;
        for warning in warnings.iter().filter(|_| tell) {
            self.events
                .pod(pod, EventType::Warning, warning.reason, warning.message.clone());
        }
        Ok(config)
    }

    /// No sandbox is tried before the runtime says that its network is ready.
    fn network_is_ready(&self, pod: &Pod) -> Result<(), StepError> {
        let state = self.state.borrow();
        if pod::host_network(pod) || state.network_ready() {
            return Ok(());
        }
        let condition = state.status.as_ref().and_then(|s| s.condition("NetworkReady"));
        let detail = condition.map_or_else(
            || "network state unknown".to_owned(),
            |c| {
                let (reason, message) = (&c.reason, &c.message);
                format!("container runtime network not ready: NetworkReady=false reason:{reason} message:{message}")
            },
        );
        let (reason, message) = (
            "NetworkNotReady".to_owned(),
            format!("network is not ready: {detail}"),
        );
        Err(StepError {
            reason,
            message,
            retry: Retry::Soon,
        })
    }

    async fn runtime_handler(&self, pod: &Pod) -> Result<String, StepError> {
        let class = pod
            .spec
            .as_ref()
            .and_then(|s| s.runtime_class_name.as_deref())
            .unwrap_or_default();
        if class.is_empty() {
            return Ok(String::new());
        }
        let found = Api::<RuntimeClass>::all(self.client.clone()).get(class).await;
        found.map(|class| class.handler).map_err(|e| failed(REASON, &e))
    }
}
