//! What the start latency of a pod is measured by (the pod startup latency SLI of sig-scalability, as kubelet's
//! `pod_startup_latency_tracker.go` reads it). Pure.

use std::time::Duration;

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, Volume};

/// The status shows every regular container running.
#[must_use]
pub fn all_running(pod: &Pod) -> bool {
    let statuses = pod.status.as_ref().and_then(|s| s.container_statuses.as_deref());
    let running = |status: &ContainerStatus| {
        let state = status.state.as_ref().and_then(|state| state.running.as_ref());
        state.is_some_and(|running| running.started_at.is_some())
    };
    statuses.is_some_and(|all| !all.is_empty() && all.iter().all(running))
}

/// It mounts a volume that is neither scratch space nor made from the API: its start waits for storage.
#[must_use]
pub fn is_stateful(pod: &Pod) -> bool {
    let stateless = |volume: &Volume| {
        volume.secret.is_some()
            || volume.config_map.is_some()
            || volume.downward_api.is_some()
            || volume.empty_dir.is_some()
            || volume.projected.is_some()
    };
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref());
    !volumes.unwrap_or_default().iter().all(stateless)
}

/// How long init containers ran, by the pod's status; sidecars, which go on running, do not count.
#[must_use]
pub fn init_time(pod: &Pod) -> Duration {
    let statuses = pod
        .status
        .as_ref()
        .and_then(|s| s.init_container_statuses.as_deref());
    let ran = |status: &ContainerStatus| {
        let exit = status.state.as_ref()?.terminated.as_ref()?;
        let (begun, ended) = (exit.started_at.as_ref()?, exit.finished_at.as_ref()?);
        Duration::try_from(ended.0.duration_since(begun.0)).ok()
    };
    statuses.unwrap_or_default().iter().filter_map(ran).sum()
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(spec: Value, status: Value) -> Pod {
        serde_json::from_value(json!({"metadata": {}, "spec": spec, "status": status})).expect("a pod")
    }

    #[test]
    fn runs_when_every_container_has_started() {
        let running = json!({"name": "a", "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}});
        let waiting = json!({"name": "b", "state": {"waiting": {}}});
        let of = |list: Value| {
            all_running(&pod(
                json!({"containers": []}),
                json!({"containerStatuses": list}),
            ))
        };
        assert!(of(json!([running])));
        assert!(!of(json!([running, waiting])));
        assert!(!of(json!([])));
    }

    #[test]
    fn storage_makes_it_stateful_and_init_containers_take_time() {
        let volumes = |list: Value| json!({"containers": [], "volumes": list});
        let none = json!({});
        let scratch = json!({"name": "a", "emptyDir": {}});
        assert!(!is_stateful(&pod(volumes(json!([scratch])), none.clone())));
        assert!(!is_stateful(&pod(json!({"containers": []}), none.clone())));
        let host = json!({"name": "b", "hostPath": {"path": "/"}});
        assert!(is_stateful(&pod(volumes(json!([scratch, host])), none)));
        let exit =
            json!({"exitCode": 0, "startedAt": "2026-01-01T00:00:00Z", "finishedAt": "2026-01-01T00:00:03Z"});
        let status = json!({"initContainerStatuses": [
            {"name": "i", "state": {"terminated": exit}},
            {"name": "s", "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}},
        ]});
        assert_eq!(
            init_time(&pod(json!({"containers": []}), status)),
            Duration::from_secs(3)
        );
    }
}
