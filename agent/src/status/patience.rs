//! How long a change of a pod's status may wait for the next one, so that both are one request.
//!
//! A write costs the API server, its store and every watcher more than the step that it tells of costs the node. What
//! users and controllers act on is written at once: phases, containers that wait for another reason, run or end,
//! readiness. The steps in between are not: a sandbox that is there, a container that is made and starts next, a
//! deletion that was seen, the last container's end when the pod's own follows.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ContainerStatus, PodStatus};

/// For what nobody acts on.
const LONG: Duration = Duration::from_secs(2);
/// For a deleted pod whose containers have all ended: it is about to go.
const SHORT: Duration = Duration::from_millis(500);

/// How long the API server may go on with `told` when `wanted` is the truth.
pub(super) fn patience(deleting: bool, told: &PodStatus, wanted: &PodStatus) -> Duration {
    let said = |status: &PodStatus| {
        (
            status.phase.clone(),
            status.reason.clone(),
            status.message.clone(),
        )
    };
    if told.phase.is_none() || told.container_statuses.is_none() || said(told) != said(wanted) {
        return Duration::ZERO;
    }
    let starting = wanted.phase.as_deref() == Some("Pending");
    if deleting || starting {
        if stages(told).eq(stages(wanted)) {
            return LONG;
        }
        if deleting && containers(wanted).all(|one| stage(one) == Stage::Ended) {
            return SHORT;
        }
    }
    Duration::ZERO
}

/// What others act on.
#[derive(Debug, PartialEq, Eq)]
enum Stage<'a> {
    Waits(Option<&'a str>),
    Runs { ready: bool, started: bool },
    Ended,
}

fn stage(container: &ContainerStatus) -> Stage<'_> {
    let state = container.state.as_ref();
    if state.is_some_and(|state| state.terminated.is_some()) {
        Stage::Ended
    } else if state.is_some_and(|state| state.running.is_some()) {
        Stage::Runs {
            ready: container.ready,
            started: container.started == Some(true),
        }
    } else {
        let waiting = state.and_then(|state| state.waiting.as_ref());
        Stage::Waits(waiting.and_then(|waiting| waiting.reason.as_deref()))
    }
}

fn stages(status: &PodStatus) -> impl Iterator<Item = (&str, i32, Stage<'_>)> {
    containers(status).map(|one| (one.name.as_str(), one.restart_count, stage(one)))
}

fn containers(status: &PodStatus) -> impl Iterator<Item = &ContainerStatus> {
    let kinds = [
        &status.init_container_statuses,
        &status.container_statuses,
        &status.ephemeral_container_statuses,
    ];
    kinds.into_iter().flatten().flatten()
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{
        ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
    };

    use super::*;

    fn pod(phase: &str, state: ContainerState) -> PodStatus {
        let ready = state.running.is_some();
        PodStatus {
            phase: Some(phase.into()),
            container_statuses: Some(vec![ContainerStatus {
                name: "c".into(),
                state: Some(state),
                ready,
                ..ContainerStatus::default()
            }]),
            ..PodStatus::default()
        }
    }

    fn waits(reason: &str) -> ContainerState {
        ContainerState {
            waiting: Some(ContainerStateWaiting {
                reason: Some(reason.into()),
                ..ContainerStateWaiting::default()
            }),
            ..ContainerState::default()
        }
    }

    fn runs() -> ContainerState {
        ContainerState {
            running: Some(ContainerStateRunning::default()),
            ..ContainerState::default()
        }
    }

    fn ended() -> ContainerState {
        ContainerState {
            terminated: Some(ContainerStateTerminated::default()),
            ..ContainerState::default()
        }
    }

    #[test]
    fn what_is_acted_on_is_told_at_once() {
        let creating = pod("Pending", waits("ContainerCreating"));
        for (deleting, told, wanted) in [
            (false, PodStatus::default(), creating.clone()),
            (false, creating.clone(), pod("Pending", waits("ImagePullBackOff"))),
            (false, creating, pod("Running", runs())),
            (false, pod("Running", runs()), pod("Running", ended())),
            (true, pod("Running", runs()), pod("Succeeded", ended())),
        ] {
            assert_eq!(
                patience(deleting, &told, &wanted),
                Duration::ZERO,
                "{told:?} {wanted:?}"
            );
        }
        let mut unready = pod("Running", runs());
        unready.container_statuses.as_mut().unwrap()[0].ready = false;
        assert_eq!(patience(true, &pod("Running", runs()), &unready), Duration::ZERO);
    }

    #[test]
    fn steps_on_the_way_wait() {
        let creating = pod("Pending", waits("ContainerCreating"));
        let mut addressed = creating.clone();
        addressed.pod_ip = Some("10.0.0.7".into());
        assert_eq!(patience(false, &creating, &addressed), LONG);
        let mut seen = pod("Running", runs());
        seen.observed_generation = Some(2);
        assert_eq!(patience(true, &pod("Running", runs()), &seen), LONG);
        assert_eq!(
            patience(false, &pod("Running", runs()), &seen),
            Duration::ZERO,
            "a running pod's news are rare"
        );
        assert_eq!(
            patience(true, &pod("Running", runs()), &pod("Running", ended())),
            SHORT
        );
    }
}
