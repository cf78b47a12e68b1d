//! Hooks, stopping, and the last word to the API server.

use std::{net::IpAddr, time::Duration};

use gantry_agent_core::machine::Outcome;
use k8s_openapi::api::core::v1::{LifecycleHandler, Pod, PodStatus};

use super::{Tools, container_of, done};
use crate::{
    hooks::{self, HookTarget},
    pods::steps::StepResult,
    status::Target,
};

/// A preStop hook to be run.
pub(super) struct Hook {
    pub(super) container: String,
    pub(super) id: String,
    pub(super) budget: Duration,
}

impl Tools {
    pub(super) async fn post_start(&self, pod: &Pod, name: &str, id: &str, ip: Option<IpAddr>) -> StepResult {
        let Some(container) = container_of(pod, name) else {
            return Ok(Outcome::Done);
        };
        let hook = container.lifecycle.as_ref().and_then(|l| l.post_start.as_ref());
        let Some(handler) = hook else {
            return Ok(Outcome::Done);
        };
        let target = HookTarget {
            container: &container,
            container_id: id,
            pod_ip: ip,
            metrics: &self.metrics.hooks,
        };
        self.hook("PostStartHookError", handler, target, None).await
    }

    pub(super) async fn pre_stop(&self, pod: &Pod, hook: Hook, ip: Option<IpAddr>) -> StepResult {
        let Some(container) = container_of(pod, &hook.container) else {
            return Ok(Outcome::Done);
        };
        let handler = container.lifecycle.as_ref().and_then(|l| l.pre_stop.as_ref());
        let Some(handler) = handler else {
            return Ok(Outcome::Done);
        };
        let target = HookTarget {
            container: &container,
            container_id: &hook.id,
            pod_ip: ip,
            metrics: &self.metrics.hooks,
        };
        self.hook("FailedPreStopHook", handler, target, Some(hook.budget))
            .await
    }

    async fn hook(
        &self,
        reason: &str,
        handler: &LifecycleHandler,
        target: HookTarget<'_>,
        budget: Option<Duration>,
    ) -> StepResult {
        done(reason, hooks::run(self.exec(), handler, target, budget).await)
    }

    pub(super) async fn stop_container(&self, uid: &str, id: &str, grace_secs: i64) -> StepResult {
        let grace = Duration::from_secs(u64::try_from(grace_secs).unwrap_or(0));
        let stop = self.runtime.stop_container(uid, id, grace);
        done("FailedKillPod", self.turns.stop_container(stop).await)
    }

    /// The final status first, so that whoever watches the pod sees how it ended.
    pub(super) async fn delete(&self, pod: &Pod, status: PodStatus) -> StepResult {
        let target = Target::of(pod);
        self.status.publish(pod, status);
        self.status.flush(&target.uid).await;
        self.status.delete_pod(&target).await;
        Ok(Outcome::Done)
    }
}
