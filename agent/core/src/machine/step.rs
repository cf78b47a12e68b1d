//! What the machine asks the shell to do, and how the shell answers.
//!
//! Steps are values: all decisions are in them, the executor only matches on them. One step of a key is in flight at
//! a time; a failed one is planned again when its back-off has passed, the ones before it are not repeated.

use std::{sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::PodStatus;

use crate::{
    backoff::Backoff,
    observed::{Container, ObservedPod, Sandbox},
};

/// One piece of work for the shell.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// Wait until the node lets this pod start; held until [`Plan::release_turn`].
    TakeTurn,
    /// Make the directories and the cgroup of the pod and mount its volumes.
    SetUp,
    /// Bring the files of the volumes up to date with the pod's labels and annotations.
    RefreshVolumes,
    /// Make a sandbox.
    RunSandbox {
        /// How many sandboxes the pod had before.
        attempt: u32,
    },
    /// Have the image of a container on the node, by its pull policy.
    EnsureImage {
        /// The container's name.
        container: String,
    },
    /// Create a container and start it.
    StartContainer(Start),
    /// Run the postStart hook.
    PostStart {
        /// The container's name.
        container: String,
        /// Its instance.
        id: String,
    },
    /// Run the preStop hook.
    PreStop {
        /// The container's name.
        container: String,
        /// Its instance.
        id: String,
        /// What is left of the grace period: the hook is given up after it.
        budget: Duration,
    },
    /// Have the runtime stop a container: the stop signal, then SIGKILL after the grace period.
    StopContainer {
        /// The container's name.
        container: String,
        /// Its instance.
        id: String,
        /// Whole seconds, at least 2.
        grace_secs: i64,
    },
    /// Remove a dead container.
    RemoveContainer {
        /// Its instance.
        id: String,
    },
    /// Stop a sandbox: its network goes.
    StopSandbox {
        /// The runtime's identifier.
        id: String,
    },
    /// Unmount the volumes.
    Unmount,
    /// Remove the pod's cgroup.
    RemoveCgroup,
    /// Publish the final status, then DELETE with grace 0 and the UID as precondition.
    Delete {
        /// The final status.
        status: Box<PodStatus>,
    },
    /// Remove a stopped sandbox and what is in it.
    RemoveSandbox {
        /// The runtime's identifier.
        id: String,
    },
    /// Remove the pod's directories and logs.
    CleanUp,
    /// Ask the runtime again: what it was seen to do does not fit what the steps have done.
    Observe,
}

/// What [`Step::StartContainer`] needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Start {
    /// The container's name.
    pub container: String,
    /// Where it goes.
    pub sandbox: Sandbox,
    /// Its restart count.
    pub attempt: u32,
    /// What [`Outcome::Image`] said.
    pub image: Image,
}

/// An image on the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Image {
    /// The reference that the runtime creates containers from.
    pub reference: String,
    /// The user that it runs as when the pod names none.
    pub user: ImageUser,
}

/// The user that an image runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageUser {
    /// A number; 0 also when the image says nothing.
    Uid(i64),
    /// A name, which only the runtime can resolve.
    Name(String),
}

/// Names a step: at most one of a key is in flight.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StepKey {
    /// [`Step::TakeTurn`]
    TakeTurn,
    /// [`Step::SetUp`]
    SetUp,
    /// [`Step::RefreshVolumes`]
    RefreshVolumes,
    /// [`Step::RunSandbox`]
    RunSandbox,
    /// [`Step::EnsureImage`], by container name
    EnsureImage(String),
    /// [`Step::StartContainer`], by container name
    Start(String),
    /// [`Step::PostStart`], by container ID
    PostStart(String),
    /// [`Step::PreStop`], by container ID
    PreStop(String),
    /// [`Step::StopContainer`], by container ID
    Stop(String),
    /// [`Step::RemoveContainer`], by container ID
    RemoveContainer(String),
    /// [`Step::StopSandbox`], by sandbox ID
    StopSandbox(String),
    /// [`Step::Unmount`]
    Unmount,
    /// [`Step::RemoveCgroup`]
    RemoveCgroup,
    /// [`Step::Delete`]
    Delete,
    /// [`Step::RemoveSandbox`], by sandbox ID
    RemoveSandbox(String),
    /// [`Step::CleanUp`]
    CleanUp,
    /// [`Step::Observe`]
    Observe,
}

/// What a step that succeeded has to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing.
    Done,
    /// Of [`Step::RunSandbox`].
    Sandbox(Box<Sandbox>),
    /// Of [`Step::EnsureImage`].
    Image(Image),
    /// Of [`Step::StartContainer`].
    Container(Box<Container>),
    /// Of [`Step::Observe`].
    Observed(Arc<ObservedPod>),
}

/// Why a step failed, in the words that the status shows. The shell has logged the chain of causes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}: {message}")]
pub struct StepError {
    /// One word: `ErrImagePull`, `CreateContainerConfigError`, ...
    pub reason: String,
    /// For people.
    pub message: String,
    /// When to try again.
    pub retry: Retry,
}

/// When a failed step is tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// After the back-off of its kind.
    Backoff,
    /// In a second: what is missing is known to come soon (the network of the node).
    Soon,
}

/// What to begin, to give up and to release, in this order: release, cancel, start.
#[derive(Debug, Default, PartialEq)]
pub struct Plan {
    /// No step of this pod needs the turn any more.
    pub release_turn: bool,
    /// Steps to drop; they are not reported as done.
    pub cancel: Vec<StepKey>,
    /// Steps to begin, all at once.
    pub start: Vec<Step>,
}

/// An event for `kubectl describe pod`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// The container that it is about.
    pub container: Option<String>,
    /// Warning, else Normal.
    pub warning: bool,
    /// The kubelet's reason.
    pub reason: String,
    /// The kubelet's text.
    pub message: String,
}

// === impl Step ===

impl Step {
    /// Its key.
    #[must_use]
    pub fn key(&self) -> StepKey {
        match self {
            Self::TakeTurn => StepKey::TakeTurn,
            Self::SetUp => StepKey::SetUp,
            Self::RefreshVolumes => StepKey::RefreshVolumes,
            Self::RunSandbox { .. } => StepKey::RunSandbox,
            Self::EnsureImage { container } => StepKey::EnsureImage(container.clone()),
            Self::StartContainer(start) => StepKey::Start(start.container.clone()),
            Self::PostStart { id, .. } => StepKey::PostStart(id.clone()),
            Self::PreStop { id, .. } => StepKey::PreStop(id.clone()),
            Self::StopContainer { id, .. } => StepKey::Stop(id.clone()),
            Self::RemoveContainer { id } => StepKey::RemoveContainer(id.clone()),
            Self::StopSandbox { id } => StepKey::StopSandbox(id.clone()),
            Self::Unmount => StepKey::Unmount,
            Self::RemoveCgroup => StepKey::RemoveCgroup,
            Self::Delete { .. } => StepKey::Delete,
            Self::RemoveSandbox { id } => StepKey::RemoveSandbox(id.clone()),
            Self::CleanUp => StepKey::CleanUp,
            Self::Observe => StepKey::Observe,
        }
    }
}

impl StepKey {
    /// How long a failure of this kind waits for the next try (kubelet-surface.md, section 10.3).
    #[must_use]
    pub fn backoff(&self) -> Backoff {
        let secs = |base, cap| Backoff {
            base: Duration::from_secs(base),
            cap: Duration::from_secs(cap),
        };
        match self {
            Self::RunSandbox | Self::Start(_) => Backoff::fixed(Duration::from_secs(10)),
            Self::EnsureImage(_) => secs(10, 300),
            Self::SetUp | Self::RefreshVolumes | Self::Unmount => Backoff {
                base: Duration::from_millis(500),
                cap: Duration::from_secs(122),
            },
            Self::Stop(_) | Self::StopSandbox(_) | Self::Delete | Self::Observe => secs(1, 10),
            Self::RemoveContainer(_) | Self::RemoveSandbox(_) | Self::RemoveCgroup | Self::CleanUp => {
                secs(1, 60)
            }
            Self::TakeTurn | Self::PostStart(_) | Self::PreStop(_) => Backoff::fixed(Duration::from_secs(1)),
        }
    }

    /// It makes something: it holds the turn, and nothing is torn down before it has ended.
    #[must_use]
    pub fn makes(&self) -> bool {
        matches!(self, Self::SetUp | Self::RunSandbox | Self::Start(_))
    }

    /// It may be dropped when the pod has to go: nothing half done stays behind.
    #[must_use]
    pub fn droppable(&self) -> bool {
        matches!(self, Self::TakeTurn | Self::EnsureImage(_) | Self::PostStart(_))
    }
}
