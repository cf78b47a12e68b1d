//! What is counted of a pod's life.

use std::sync::Arc;

use gantry_agent_core::{
    machine::{NodeFacts, Now},
    observed::ObservedPod,
};
use serde_json::{Value, json};

use super::*;
use crate::{config::testing, metrics::Metrics, metrics::Page};

fn pod(status: Value) -> Pod {
    serde_json::from_value(json!({
        "metadata": {"name": "p", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
        "status": status,
    }))
    .unwrap()
}

fn status(value: Value) -> PodStatus {
    serde_json::from_value(value).unwrap()
}

fn running() -> Value {
    json!({
        "phase": "Running",
        "startTime": "2026-01-01T00:00:00Z",
        "containerStatuses": [{"name": "c", "ready": true, "restartCount": 0, "image": "i", "imageID": "",
            "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}],
    })
}

struct World {
    metrics: Metrics,
    account: Account,
}

impl World {
    fn of(pod: &Pod) -> Self {
        let metrics = Metrics::new(&testing::config(""));
        let counters = PodCounters {
            pods: metrics.pods.clone(),
            starts: metrics.starts.clone(),
        };
        let account = Account::new(counters, pod, true, Instant::now());
        Self { metrics, account }
    }

    fn shows(&self, line: &str) -> bool {
        let text = String::from_utf8(self.metrics.page(Page::Main).unwrap()).unwrap();
        text.lines().any(|l| l == line)
    }
}

#[tokio::test]
async fn a_start_is_measured_when_it_runs_and_when_the_api_shows_it() {
    let mut world = World::of(&pod(json!({"phase": "Pending"})));
    let shown = pod(running());
    world.account.shown(&shown);
    assert!(
        world.shows("kubelet_pod_start_total_duration_seconds_count 0"),
        "not of this agent's status"
    );
    let (old, new) = (status(json!({"phase": "Pending"})), status(running()));
    world.account.status(&old, &new);
    world.account.status(&new, &new);
    assert!(world.shows("kubelet_pod_start_duration_seconds_count 1"));
    world.account.shown(&shown);
    world.account.shown(&shown);
    assert!(world.shows("kubelet_pod_start_total_duration_seconds_count 1"));
    assert!(world.shows("kubelet_pod_start_sli_duration_seconds_count 1"));
}

#[tokio::test]
async fn a_pod_from_before_is_no_start() {
    let mut world = World::of(&pod(running()));
    let (old, new) = (status(json!({"phase": "Pending"})), status(running()));
    world.account.status(&old, &new);
    world.account.shown(&pod(running()));
    assert!(world.shows("kubelet_pod_start_duration_seconds_count 0"));
    assert!(world.shows("kubelet_pod_start_total_duration_seconds_count 0"));
}

#[tokio::test]
async fn an_exit_counts_once() {
    let mut world = World::of(&pod(running()));
    let exit = status(
        json!({"containerStatuses": [{"name": "c", "ready": false, "restartCount": 0, "image": "i",
        "imageID": "", "state": {"terminated": {"exitCode": 3, "reason": "Error"}}}]}),
    );
    world.account.status(&status(running()), &exit);
    world.account.status(&exit, &exit);
    let line = "kubelet_terminated_containers_total{container_type=\"container\",exit_code=\"3\",reason=\"Error\"} 1";
    assert!(world.shows(line));
}

#[tokio::test]
async fn gauges_and_passes_follow_the_worker() {
    let pod = Arc::new(pod(json!({"phase": "Pending"})));
    let mut world = World::of(&pod);
    let now = Now {
        instant: Instant::now(),
        wall: Timestamp::now(),
    };
    let machine = PodMachine::new(
        pod.clone(),
        Arc::new(ObservedPod::default()),
        Arc::new(NodeFacts::default()),
        now,
    );
    world.account.begins(&pod);
    world.account.acted(&machine, true);
    assert!(world.shows("kubelet_working_pods{config=\"desired\",lifecycle=\"sync\",static=\"\"} 1"));
    assert!(!world.shows("kubelet_pod_worker_duration_seconds_count{operation_type=\"create\"} 1"));
    world.account.wakes(Pass::Sync);
    world.account.acted(&machine, false);
    assert!(world.shows("kubelet_pod_worker_duration_seconds_count{operation_type=\"create\"} 1"));
    world.account.wakes(Pass::Update);
    world.account.acted(&machine, false);
    assert!(world.shows("kubelet_pod_worker_duration_seconds_count{operation_type=\"update\"} 1"));
    let World { metrics, account } = world;
    drop(account);
    let text = String::from_utf8(metrics.page(Page::Main).unwrap()).unwrap();
    assert!(text.contains("kubelet_desired_pods{static=\"\"} 0"), "{text}");
}
