//! What the container runtime says about a pod, in the agent's own words.
//!
//! The shell turns CRI answers and events into these values; after a restart of the agent they are all that it
//! knows, so everything that the agent must remember about a container is here, read back from CRI labels and
//! annotations.

use std::net::IpAddr;

use jiff::Timestamp;

/// Everything the runtime holds for one pod UID.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ObservedPod {
    /// `metadata.uid`; for a static pod the UID that the agent gave it.
    pub uid: String,
    /// `metadata.name`.
    pub name: String,
    /// `metadata.namespace`.
    pub namespace: String,
    /// Newest attempt first.
    pub sandboxes: Vec<Sandbox>,
    /// Newest first, all names and attempts, dead ones included.
    pub containers: Vec<Container>,
}

/// A pod sandbox: the namespaces, the address and the cgroup that a pod's containers share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sandbox {
    /// The runtime's identifier.
    pub id: String,
    /// How many sandboxes this pod had before.
    pub attempt: u32,
    /// SANDBOX_READY: its namespaces exist.
    pub ready: bool,
    /// When it was made.
    pub created_at: Timestamp,
    /// The pod's addresses, the primary one first; empty for host network pods and when the sandbox is not ready.
    pub ips: Vec<IpAddr>,
    /// The network namespace is the node's.
    pub host_network: bool,
}

/// One container instance.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// The runtime's identifier, without scheme.
    pub id: String,
    /// The sandbox it runs in.
    pub sandbox_id: String,
    /// The container's name in the pod's spec.
    pub name: String,
    /// The restart count that this instance was made with (CRI attempt).
    pub attempt: u32,
    /// The spec's hash when it was made: annotation `io.kubernetes.container.hash`.
    pub hash: String,
    /// The image as named in the spec (CRI `user_specified_image`, else `image`).
    pub image: String,
    /// The image that it runs, as `containerStatuses[].imageID` shows it (a repo digest when there is one).
    pub image_id: String,
    /// Created, running or exited.
    pub state: ContainerState,
    /// Where the container writes its termination message: annotation `io.kubernetes.container.terminationMessagePath`.
    pub termination_message_path: String,
    /// Annotation `io.kubernetes.container.terminationMessagePolicy`.
    pub termination_message_policy: String,
    /// The pod's grace period when it was made: annotation `io.kubernetes.pod.terminationGracePeriod`.
    pub grace_secs: Option<i64>,
}

/// What a container instance does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ContainerState {
    /// Made, not started.
    Created,
    /// Its first process runs.
    Running {
        /// When it was started.
        started_at: Timestamp,
    },
    /// Its first process ended.
    Exited(Exit),
    /// The runtime does not know; treated as running until it does.
    Unknown,
}

/// How a container ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exit {
    /// The exit code; 128 + signal for a signal.
    pub code: i32,
    /// The runtime's word: `Completed`, `Error`, `OOMKilled`, `StartError`, ...
    pub reason: String,
    /// The termination message when the shell has read one, else the runtime's message.
    pub message: String,
    /// When it was started; `None` when it never ran.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Timestamp,
}

impl ObservedPod {
    /// The newest sandbox, ready or not.
    #[must_use]
    pub fn sandbox(&self) -> Option<&Sandbox> {
        self.sandboxes.first()
    }

    /// The newest instance of the container named `name`.
    #[must_use]
    pub fn container(&self, name: &str) -> Option<&Container> {
        self.containers.iter().find(|c| c.name == name)
    }
}

impl Container {
    /// It runs or has run: anything but created.
    #[must_use]
    pub fn has_started(&self) -> bool {
        match &self.state {
            ContainerState::Created => false,
            ContainerState::Running { .. } | ContainerState::Unknown | ContainerState::Exited(_) => true,
        }
    }

    /// Its first process has ended.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.exit().is_some()
    }

    /// How it ended, if it has.
    #[must_use]
    pub fn exit(&self) -> Option<&Exit> {
        match &self.state {
            ContainerState::Exited(exit) => Some(exit),
            ContainerState::Created | ContainerState::Running { .. } | ContainerState::Unknown => None,
        }
    }
}
