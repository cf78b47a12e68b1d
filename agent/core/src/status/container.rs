//! The status of one container (`convertToAPIContainerStatuses` and the probe manager's `UpdatePodStatus`).

use k8s_openapi::api::core::v1::{
    ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerStatus,
    VolumeMount, VolumeMountStatus,
};

use super::{Input, container_id, time};
use crate::{
    observed::{Container, ContainerState as Observed, Exit},
    pod::{Kind, Spec},
    probe::Verdict,
};

/// What the API shows of the container.
pub(super) fn status(
    input: &Input<'_>,
    spec: &Spec<'_>,
    old: &[ContainerStatus],
    initializing: bool,
) -> ContainerStatus {
    let old = old.iter().find(|s| s.name == spec.name);
    let default_reason = if initializing {
        "PodInitializing"
    } else {
        "ContainerCreating"
    };
    let mut instances = input.observed.containers.iter().filter(|c| c.name == spec.name);
    let mut status = match instances.next() {
        Some(newest) => {
            let mut status = seen(input, spec, newest, default_reason);
            status.last_state = last_state(instances.next(), old, &status);
            // The runtime may have lost instances; the API never counts back.
            let counted = old
                .filter(|o| o.container_id == status.container_id)
                .map_or(0, |o| o.restart_count);
            status.restart_count = status.restart_count.max(counted);
            status
        }
        None => unseen(input, spec, old, default_reason),
    };
    if let Some(waiting) = input.waiting.get(spec.name) {
        if status.state.as_ref().is_some_and(|s| s.terminated.is_some()) {
            status.last_state = status.state.take();
        }
        status.state = Some(waiting_state(&waiting.reason, Some(&waiting.message)));
    }
    status.volume_mounts = volume_mounts(spec.volume_mounts);
    probed(input, spec, old, &mut status);
    status
}

fn seen(input: &Input<'_>, spec: &Spec<'_>, instance: &Container, default_reason: &str) -> ContainerStatus {
    let hidden = input.starting.contains_key(&instance.id);
    let state = match &instance.state {
        Observed::Running { started_at } if !hidden => ContainerState {
            running: Some(ContainerStateRunning {
                started_at: Some(time(*started_at)),
            }),
            ..ContainerState::default()
        },
        Observed::Exited(exit) => terminated(&instance.id, exit),
        Observed::Created | Observed::Running { .. } | Observed::Unknown => {
            waiting_state(default_reason, None)
        }
    };
    ContainerStatus {
        name: spec.name.to_owned(),
        image: instance.image.clone(),
        image_id: instance.image_id.clone(),
        container_id: Some(container_id(&instance.id)),
        restart_count: i32::try_from(instance.attempt).unwrap_or(i32::MAX),
        state: Some(state),
        allocated_resources: spec.resources.and_then(|r| r.requests.clone()),
        resources: spec.resources.cloned(),
        ..ContainerStatus::default()
    }
}

/// The instance before; else what the API has about it.
fn last_state(
    before: Option<&Container>,
    old: Option<&ContainerStatus>,
    status: &ContainerStatus,
) -> Option<ContainerState> {
    if let Some(Container {
        id,
        state: Observed::Exited(exit),
        ..
    }) = before
    {
        return Some(terminated(id, exit));
    }
    let old = old?;
    let replaced = old.container_id != status.container_id;
    let ended = |state: &Option<ContainerState>| state.clone().filter(|s| s.terminated.is_some());
    let last = if replaced { ended(&old.state) } else { None };
    last.or_else(|| ended(&old.last_state))
}

/// The runtime has no instance: it never had one, or has lost it.
fn unseen(
    input: &Input<'_>,
    spec: &Spec<'_>,
    old: Option<&ContainerStatus>,
    default_reason: &str,
) -> ContainerStatus {
    let fresh = ContainerStatus {
        name: spec.name.to_owned(),
        image: spec.image.to_owned(),
        state: Some(waiting_state(default_reason, None)),
        ..ContainerStatus::default()
    };
    let Some(old) = old else { return fresh };
    let old_state = old.state.clone().unwrap_or_default();
    if old_state.terminated.is_some() {
        return old.clone();
    }
    let mut status = ContainerStatus {
        restart_count: old.restart_count,
        last_state: old.last_state.clone(),
        ..fresh
    };
    let ended_before = status.last_state.as_ref().is_some_and(|s| s.terminated.is_some());
    if old_state.running.is_none() || ended_before {
        return status;
    }
    // It ran and nobody saw how it ended: it counts as failed, so that the pod does not seem never to have started.
    status.last_state = Some(ContainerState {
        terminated: Some(ContainerStateTerminated {
            exit_code: 137,
            reason: Some("ContainerStatusUnknown".to_owned()),
            message: Some(
                "The container could not be located when the pod was deleted.  The container used to be Running"
                    .to_owned(),
            ),
            ..ContainerStateTerminated::default()
        }),
        ..ContainerState::default()
    });
    status.restart_count += i32::from(!crate::pod::deleting(input.pod));
    status
}

/// `started` and `ready`: what the probes say; before they have said anything, what the API showed of the same
/// instance, so that a restart of the agent flips nothing.
fn probed(input: &Input<'_>, spec: &Spec<'_>, old: Option<&ContainerStatus>, status: &mut ContainerStatus) {
    let running = status.state.as_ref().is_some_and(|s| s.running.is_some());
    let same = old.filter(|o| o.container_id.is_some() && o.container_id == status.container_id);
    let id = status
        .container_id
        .as_deref()
        .and_then(|id| id.split_once("://"))
        .map_or("", |(_, id)| id);
    let verdicts = input.verdicts.get(id).copied().unwrap_or_default();
    let started = running
        && match (verdicts.startup, spec.startup_probe) {
            (Some(verdict), _) => verdict == Verdict::Success,
            (None, None) => true,
            (None, Some(_)) => same.is_some_and(|o| o.started == Some(true)),
        };
    status.started = (spec.kind != Kind::Ephemeral).then_some(started);
    let ended_well = || {
        status
            .state
            .as_ref()
            .and_then(|s| s.terminated.as_ref())
            .is_some_and(|t| t.exit_code == 0)
    };
    status.ready = match spec.kind {
        Kind::Init => ended_well(),
        Kind::Ephemeral => false,
        Kind::Sidecar | Kind::Regular => {
            started
                && match (verdicts.readiness, spec.readiness_probe) {
                    (_, None) => true,
                    (Some(verdict), Some(_)) => verdict == Verdict::Success,
                    (None, Some(_)) => same.is_some_and(|o| o.ready),
                }
        }
    };
}

fn terminated(id: &str, exit: &Exit) -> ContainerState {
    let text = |s: &String| Some(s.clone()).filter(|s| !s.is_empty());
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            container_id: Some(container_id(id)),
            exit_code: exit.code,
            reason: text(&exit.reason),
            message: text(&exit.message),
            signal: None,
            started_at: exit.started_at.map(time),
            finished_at: Some(time(exit.finished_at)),
        }),
        ..ContainerState::default()
    }
}

fn waiting_state(reason: &str, message: Option<&str>) -> ContainerState {
    let message = message.filter(|m| !m.is_empty()).map(str::to_owned);
    let waiting = ContainerStateWaiting {
        reason: Some(reason.to_owned()),
        message,
    };
    ContainerState {
        waiting: Some(waiting),
        ..ContainerState::default()
    }
}

/// KEP-3857: recursive read-only is reported for every read-only mount.
fn volume_mounts(mounts: &[VolumeMount]) -> Option<Vec<VolumeMountStatus>> {
    let status = |mount: &VolumeMount| {
        let read_only = mount.read_only == Some(true);
        let enabled = mount.recursive_read_only.as_deref() == Some("Enabled");
        let mode = if enabled { "Enabled" } else { "Disabled" };
        VolumeMountStatus {
            name: mount.name.clone(),
            mount_path: mount.mount_path.clone(),
            read_only: mount.read_only.filter(|r| *r),
            recursive_read_only: read_only.then(|| mode.to_owned()),
            ..VolumeMountStatus::default()
        }
    };
    (!mounts.is_empty()).then(|| mounts.iter().map(status).collect())
}
