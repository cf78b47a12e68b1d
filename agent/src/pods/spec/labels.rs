//! The labels and annotations by which the agent, after a restart, and tools find out what an object is.

use std::collections::HashMap;

use gantry_agent_core::hash::container_hash;
use k8s_openapi::api::core::v1::{Container, Pod};

use crate::runtime::keys;

/// Labels of a sandbox: the pod's own and its identity.
pub(super) fn sandbox_labels(pod: &Pod) -> HashMap<String, String> {
    let own = pod
        .metadata
        .labels
        .iter()
        .flatten()
        .map(|(k, v)| (k.clone(), v.clone()));
    own.chain(identity(pod)).collect()
}

/// Annotations of a sandbox: the pod's own.
pub(super) fn sandbox_annotations(pod: &Pod) -> HashMap<String, String> {
    pod.metadata
        .annotations
        .iter()
        .flatten()
        .map(|(k, v)| (k.clone(), v.clone()))
        .collect()
}

/// Labels of a container.
pub(super) fn container_labels(pod: &Pod, container: &Container) -> HashMap<String, String> {
    let name = (keys::CONTAINER_NAME.to_owned(), container.name.clone());
    identity(pod).into_iter().chain([name]).collect()
}

fn identity(pod: &Pod) -> [(String, String); 3] {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    [
        (keys::POD_NAME.to_owned(), text(&pod.metadata.name)),
        (keys::POD_NAMESPACE.to_owned(), text(&pod.metadata.namespace)),
        (keys::POD_UID.to_owned(), text(&pod.metadata.uid)),
    ]
}

/// Annotations of a container: what the agent must know of it when the spec has changed or gone.
pub(super) fn container_annotations(
    pod: &Pod,
    container: &Container,
    attempt: u32,
) -> HashMap<String, String> {
    let text = |field: &Option<String>| field.clone().unwrap_or_default();
    let mut annotations = HashMap::from([
        (
            keys::HASH.to_owned(),
            container_hash(&container.name, &text(&container.image)),
        ),
        (keys::RESTART_COUNT.to_owned(), attempt.to_string()),
        (
            keys::MESSAGE_PATH.to_owned(),
            text(&container.termination_message_path),
        ),
        (
            keys::MESSAGE_POLICY.to_owned(),
            text(&container.termination_message_policy),
        ),
    ]);
    let mut set = |key: &str, value: Option<String>| {
        annotations.extend(value.map(|value| (key.to_owned(), value)));
    };
    let grace = pod.spec.as_ref().and_then(|s| s.termination_grace_period_seconds);
    set(
        keys::POD_DELETION_GRACE,
        pod.metadata.deletion_grace_period_seconds.map(|s| s.to_string()),
    );
    set(keys::POD_TERMINATION_GRACE, grace.map(|s| s.to_string()));
    let pre_stop = container.lifecycle.as_ref().and_then(|l| l.pre_stop.as_ref());
    set(
        keys::PRE_STOP,
        pre_stop.and_then(|handler| serde_json::to_string(handler).ok()),
    );
    let ports = container.ports.as_ref().filter(|ports| !ports.is_empty());
    set(
        keys::PORTS,
        ports.and_then(|ports| serde_json::to_string(ports).ok()),
    );
    annotations
}
