//! CRI statuses into the agent's own words.

use std::collections::HashMap;
use std::net::IpAddr;

use gantry_agent_core::observed::{Container, ContainerState, Exit, Sandbox};
use gantry_cri::v1;
use jiff::Timestamp;

use super::merge::Identity;

/// Labels and annotations that the agent puts on sandboxes and containers and reads back (kubelet surface, 6).
pub(crate) mod keys {
    pub(crate) const POD_NAME: &str = "io.kubernetes.pod.name";
    pub(crate) const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
    pub(crate) const POD_UID: &str = "io.kubernetes.pod.uid";
    pub(crate) const CONTAINER_NAME: &str = "io.kubernetes.container.name";
    pub(crate) const HASH: &str = "io.kubernetes.container.hash";
    pub(crate) const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
    pub(crate) const MESSAGE_PATH: &str = "io.kubernetes.container.terminationMessagePath";
    pub(crate) const MESSAGE_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
    pub(crate) const PRE_STOP: &str = "io.kubernetes.container.preStopHandler";
    pub(crate) const PORTS: &str = "io.kubernetes.container.ports";
    pub(crate) const POD_DELETION_GRACE: &str = "io.kubernetes.pod.deletionGracePeriod";
    pub(crate) const POD_TERMINATION_GRACE: &str = "io.kubernetes.pod.terminationGracePeriod";
}

type Labels = HashMap<String, String>;

/// Whose object this is; `None` for what no kubelet made.
pub(super) fn identity(labels: &Labels) -> Option<Identity> {
    let get = |key| {
        labels
            .get(key)
            .filter(|value: &&String| !value.is_empty())
            .cloned()
    };
    Some(Identity {
        uid: get(keys::POD_UID)?,
        name: get(keys::POD_NAME)?,
        namespace: get(keys::POD_NAMESPACE)?,
    })
}

/// A sandbox's status. Addresses that do not parse are left out.
pub(super) fn sandbox(status: &v1::PodSandboxStatus) -> Sandbox {
    let ready = status.state() == v1::PodSandboxState::SandboxReady;
    let namespaces = status
        .linux
        .as_ref()
        .and_then(|l| l.namespaces.as_ref())
        .and_then(|n| n.options.as_ref());
    Sandbox {
        id: status.id.clone(),
        attempt: status.metadata.as_ref().map_or(0, |m| m.attempt),
        ready,
        created_at: timestamp(status.created_at),
        ips: if ready {
            status.network.as_ref().map(addresses).unwrap_or_default()
        } else {
            Vec::new()
        },
        host_network: namespaces.is_some_and(|n| n.network() == v1::NamespaceMode::Node),
    }
}

fn addresses(network: &v1::PodSandboxNetworkStatus) -> Vec<IpAddr> {
    let additional = network.additional_ips.iter().map(|ip| ip.ip.as_str());
    std::iter::once(network.ip.as_str())
        .chain(additional)
        .filter_map(|ip| ip.parse().ok())
        .collect()
}

/// A container's status; `message` is the termination message when the shell has read one.
pub(super) fn container(status: &v1::ContainerStatus, sandbox_id: &str, message: &str) -> Container {
    let annotation = |key| status.annotations.get(key).cloned().unwrap_or_default();
    let metadata = status.metadata.clone().unwrap_or_default();
    let image = status.image.clone().unwrap_or_default();
    Container {
        id: status.id.clone(),
        sandbox_id: sandbox_id.to_owned(),
        name: metadata.name,
        attempt: annotation(keys::RESTART_COUNT)
            .parse()
            .unwrap_or(metadata.attempt),
        hash: annotation(keys::HASH),
        image: if image.user_specified_image.is_empty() {
            image.image
        } else {
            image.user_specified_image
        },
        // The reference shows the image ref, a repo digest when there is one, as imageID.
        image_id: if status.image_ref.is_empty() {
            status.image_id.clone()
        } else {
            status.image_ref.clone()
        },
        state: state(status, message),
        termination_message_path: annotation(keys::MESSAGE_PATH),
        termination_message_policy: annotation(keys::MESSAGE_POLICY),
        grace_secs: annotation(keys::POD_TERMINATION_GRACE).parse().ok(),
    }
}

fn state(status: &v1::ContainerStatus, message: &str) -> ContainerState {
    match status.state() {
        v1::ContainerState::ContainerCreated => ContainerState::Created,
        v1::ContainerState::ContainerRunning => ContainerState::Running {
            started_at: timestamp(status.started_at),
        },
        v1::ContainerState::ContainerExited => ContainerState::Exited(Exit {
            code: status.exit_code,
            reason: status.reason.clone(),
            message: join_messages(&status.message, message),
            started_at: (status.started_at > 0).then(|| timestamp(status.started_at)),
            finished_at: timestamp(status.finished_at),
        }),
        v1::ContainerState::ContainerUnknown => ContainerState::Unknown,
    }
}

/// As the reference: the runtime's message, then the container's own.
fn join_messages(runtime: &str, own: &str) -> String {
    match (runtime.is_empty(), own.is_empty()) {
        (_, true) => runtime.to_owned(),
        (true, false) => own.to_owned(),
        (false, false) => format!("{runtime}: {own}"),
    }
}

/// CRI times are nanoseconds since 1970; one out of range becomes the epoch.
fn timestamp(nanoseconds: i64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(nanoseconds)).unwrap_or(Timestamp::UNIX_EPOCH)
}
