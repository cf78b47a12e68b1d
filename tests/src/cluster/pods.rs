//! Questions about a pod's status.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus, Pod, PodCondition,
};
use kube::ResourceExt;

/// `Pending`, `Running`, ...
pub fn phase(pod: &Pod) -> &str {
    pod.status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .unwrap_or_default()
}

/// Condition of that type.
pub fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status
        .as_ref()?
        .conditions
        .as_ref()?
        .iter()
        .find(|condition| condition.type_ == kind)
}

/// Whether the condition of that type is `True`.
pub fn is(pod: &Pod, kind: &str) -> bool {
    condition(pod, kind).is_some_and(|condition| condition.status == "True")
}

/// Running and ready to serve.
pub fn ready(pod: &Pod) -> bool {
    phase(pod) == "Running" && is(pod, "Ready")
}

/// Status of a container of any kind, by name.
pub fn container<'a>(pod: &'a Pod, name: &str) -> Option<&'a ContainerStatus> {
    let status = pod.status.as_ref()?;
    [
        &status.container_statuses,
        &status.init_container_statuses,
        &status.ephemeral_container_statuses,
    ]
    .into_iter()
    .flatten()
    .flatten()
    .find(|container| container.name == name)
}

fn state<'a>(pod: &'a Pod, name: &str) -> Option<&'a ContainerState> {
    container(pod, name)?.state.as_ref()
}

/// Why the container waits, if it does.
pub fn waiting<'a>(pod: &'a Pod, name: &str) -> Option<&'a ContainerStateWaiting> {
    state(pod, name)?.waiting.as_ref()
}

/// Whether the container waits for that reason.
pub fn waits_for(pod: &Pod, name: &str, reason: &str) -> bool {
    waiting(pod, name).is_some_and(|waiting| waiting.reason.as_deref() == Some(reason))
}

/// Whether the container runs.
pub fn running(pod: &Pod, name: &str) -> bool {
    state(pod, name).is_some_and(|state| state.running.is_some())
}

/// How the container ended, if it did.
pub fn terminated<'a>(pod: &'a Pod, name: &str) -> Option<&'a ContainerStateTerminated> {
    state(pod, name)?.terminated.as_ref()
}

/// How the container ended the last time.
pub fn last_terminated<'a>(pod: &'a Pod, name: &str) -> Option<&'a ContainerStateTerminated> {
    container(pod, name)?.last_state.as_ref()?.terminated.as_ref()
}

/// The container's restart count; -1 while it has no status.
pub fn restarts(pod: &Pod, name: &str) -> i32 {
    container(pod, name).map_or(-1, |status| status.restart_count)
}

/// Container id without its `containerd://`.
pub fn container_id(pod: &Pod, name: &str) -> Option<String> {
    let id = container(pod, name)?.container_id.as_deref()?;
    Some(id.strip_prefix("containerd://").unwrap_or(id).to_owned())
}

/// Ids and restart counts of all containers: equal when nothing was restarted.
pub fn identities(pod: &Pod) -> Vec<(String, String, i32)> {
    let statuses = pod
        .status
        .as_ref()
        .and_then(|status| status.container_statuses.clone());
    let identity = |status: ContainerStatus| {
        (
            format!("{}/{}", pod.name_any(), status.name),
            status.container_id.unwrap_or_default(),
            status.restart_count,
        )
    };
    statuses.unwrap_or_default().into_iter().map(identity).collect()
}

/// The pod's address.
///
/// # Panics
/// When it has none yet.
#[track_caller]
pub fn ip(pod: &Pod) -> IpAddr {
    let text = pod.status.as_ref().and_then(|status| status.pod_ip.as_deref());
    text.and_then(|text| text.parse().ok())
        .unwrap_or_else(|| panic!("pod {} has no address", pod.name_any()))
}

/// The node that the pod is on.
///
/// # Panics
/// When it is on none yet.
#[track_caller]
pub fn node(pod: &Pod) -> &str {
    pod.spec
        .as_ref()
        .and_then(|spec| spec.node_name.as_deref())
        .unwrap_or_else(|| panic!("pod {} is on no node", pod.name_any()))
}
