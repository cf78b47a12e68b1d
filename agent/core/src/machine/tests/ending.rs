//! Pods that go: deletion, grace, order, deadline, rejection, orphans.

use std::time::Duration;

use serde_json::json;

use super::*;

fn keys(driver: &Driver) -> Vec<StepKey> {
    driver.pending.iter().map(Step::key).collect()
}

fn running(pod: &Pod) -> Driver {
    let mut d = Driver::new(pod.clone());
    d.settle();
    d
}

#[test]
fn a_deleted_pod_is_stopped_unmounted_and_deleted_and_only_then_removed() {
    let pod = simple("Always");
    let mut d = running(&pod);
    d.desire(deleted(&pod, 30));
    d.plan();
    assert!(
        matches!(&d.pending[..], [Step::StopContainer { grace_secs: 30, .. }]),
        "{:?}",
        d.pending
    );
    d.succeed(0);
    d.observe();
    d.plan();
    assert_eq!(keys(&d), [StepKey::StopSandbox("s1".into()), StepKey::Unmount]);
    assert_eq!(d.phase(), "Running", "not final before the sandbox is stopped");
    let before = d.machine.status(d.now).clone();
    d.runtime.pod.sandboxes[0].ready = false;
    d.observe();
    let stopping = d.machine.status(d.now);
    assert_eq!(
        *stopping, before,
        "no status of its own for a sandbox that is being stopped"
    );
    d.succeed(0);
    d.succeed(0);
    d.plan();
    assert_eq!(keys(&d), [StepKey::RemoveCgroup, StepKey::Delete]);
    d.settle();
    let last = d.final_status.clone().expect("a final status");
    assert_eq!(last.phase.as_deref(), Some("Failed"));
    assert_eq!(
        d.runtime.pod.containers.len(),
        1,
        "kept for the logs until the object is gone"
    );
    assert!(!d.machine.gone());
    d.event(Event::Removed);
    d.settle();
    assert!(d.machine.gone());
    assert_eq!(d.runtime.pod, ObservedPod::default());
}

#[test]
fn a_container_that_exits_by_itself_ends_the_wait_for_it() {
    let pod = simple("Always");
    let mut d = running(&pod);
    d.desire(deleted(&pod, 30));
    d.plan();
    d.runtime.exit("c", 0, d.now.wall);
    d.observe();
    d.plan();
    assert!(
        keys(&d).contains(&StepKey::StopSandbox("s1".into())),
        "{:?}",
        d.pending
    );
    d.settle();
    assert_eq!(
        d.final_status.clone().expect("a status").phase.as_deref(),
        Some("Succeeded")
    );
}

#[test]
fn the_grace_period_only_shrinks() {
    let pod = simple("Always");
    let mut d = running(&pod);
    d.desire(deleted(&pod, 30));
    d.plan();
    d.pass(Duration::from_secs(5));
    d.desire(deleted(&pod, 60));
    d.plan();
    assert_eq!(
        d.begun
            .iter()
            .filter(|s| matches!(s, Step::StopContainer { .. }))
            .count(),
        1
    );
    d.desire(deleted(&pod, 0));
    d.plan();
    assert!(
        matches!(&d.pending[..], [Step::StopContainer { grace_secs: 2, .. }]),
        "{:?}",
        d.pending
    );
}

#[test]
fn the_pre_stop_hook_counts_against_the_grace_period() {
    let pod = with_hooks(json!({"preStop": {"exec": {"command": ["x"]}}}));
    let mut d = running(&pod);
    d.desire(deleted(&pod, 30));
    d.plan();
    let hook = d.find(|s| matches!(s, Step::PreStop { budget, .. } if *budget == Duration::from_secs(30)));
    d.pass(Duration::from_secs(20));
    d.fail(hook, "FailedPreStopHook", Retry::Backoff);
    d.plan();
    d.find(|s| matches!(s, Step::StopContainer { grace_secs: 10, .. }));
    assert!(d.reasons().contains(&"FailedPreStopHook"));
}

#[test]
fn sidecars_stop_last_and_in_reverse_order() {
    let sidecar = |name: &str| json!({"name": name, "image": "i", "restartPolicy": "Always"});
    let pod = pod(json!({
        "terminationGracePeriodSeconds": 30,
        "initContainers": [sidecar("s1"), sidecar("s2")],
        "containers": [{"name": "a", "image": "i"}, {"name": "b", "image": "i"}],
    }));
    let mut d = running(&pod);
    d.desire(deleted(&pod, 30));
    let mut order = Vec::new();
    for _ in 0..3 {
        d.plan();
        let mut names: Vec<String> = d
            .pending
            .iter()
            .filter_map(|s| match s {
                Step::StopContainer { container, .. } => Some(container.clone()),
                _ => None,
            })
            .collect();
        names.sort();
        order.push(names.join(" "));
        while !d.pending.is_empty() {
            d.succeed(0);
        }
        d.observe();
    }
    assert_eq!(order, ["a b", "s2", "s1"]);
}

#[test]
fn a_sidecar_does_not_wait_beyond_the_grace_period() {
    let sidecar = json!({"name": "s", "image": "i", "restartPolicy": "Always"});
    let pod = pod(json!({"initContainers": [sidecar], "containers": [{"name": "a", "image": "i"}]}));
    let mut d = running(&pod);
    d.desire(deleted(&pod, 5));
    d.plan();
    assert_eq!(d.pending.len(), 1);
    let at = d
        .machine
        .next_deadline(d.now)
        .expect("the end of the grace period");
    d.pass(at - d.now.instant);
    d.plan();
    assert_eq!(d.pending.len(), 2);
}

#[test]
fn a_pod_deleted_while_it_starts_drops_the_pull_and_waits_for_the_sandbox() {
    let pod = simple("Always");
    let mut d = Driver::new(pod.clone());
    d.plan();
    d.succeed(0);
    d.plan();
    d.succeed(0);
    d.plan();
    d.desire(deleted(&pod, 30));
    d.plan();
    assert_eq!(keys(&d), [StepKey::RunSandbox]);
    d.settle();
    assert_eq!(
        d.final_status.clone().expect("a status").phase.as_deref(),
        Some("Failed")
    );
    assert!(!d.begun.iter().any(|s| matches!(s, Step::StartContainer(_))));
}

#[test]
fn a_pod_over_its_active_deadline_fails() {
    let mut pod = simple("Always");
    pod.spec.as_mut().expect("a spec").active_deadline_seconds = Some(60);
    let mut d = running(&pod);
    d.settle_for(Duration::from_secs(59));
    assert_eq!(d.phase(), "Running");
    d.settle_for(Duration::from_secs(2));
    let status = d.status();
    assert_eq!(
        (status.phase.as_deref(), status.reason.as_deref()),
        (Some("Failed"), Some("DeadlineExceeded"))
    );
    assert_eq!(d.condition("Ready").1, "PodFailed");
    assert!(d.final_status.is_none(), "nobody has deleted it");
}

#[test]
fn a_rejected_pod_fails_without_ever_starting() {
    let mut d = Driver::new(simple("Always"));
    let failure = Failure {
        reason: "NodePorts".into(),
        message: "no free port".into(),
    };
    d.event(Event::Reject(failure));
    d.settle();
    let status = d.status();
    assert_eq!(
        (status.phase.as_deref(), status.reason.as_deref()),
        (Some("Failed"), Some("NodePorts"))
    );
    assert_eq!(status.message.as_deref(), Some("Pod was rejected: no free port"));
    assert_eq!(d.reasons(), ["NodePorts"]);
    assert_eq!(d.runtime.pod, ObservedPod::default());
}

#[test]
fn a_phase_set_to_failed_by_others_stops_the_pod_for_good() {
    let pod = simple("Always");
    let mut d = running(&pod);
    let mut failed = pod.clone();
    failed.status = Some(PodStatus {
        phase: Some("Failed".into()),
        ..PodStatus::default()
    });
    d.desire(failed);
    d.settle();
    assert!(d.runtime.running().is_empty());
    assert_eq!(d.phase(), "Failed");
    d.desire(pod);
    d.settle();
    assert_eq!(d.phase(), "Failed");
}

#[test]
fn a_pod_that_only_the_runtime_knows_is_stopped_and_removed() {
    let mut d = running(&simple("Always"));
    d.runtime.pod.containers[0].grace_secs = Some(7);
    let observed = Arc::new(ObservedPod {
        uid: "u".into(),
        ..d.runtime.pod.clone()
    });
    let mut orphan = Driver::with(simple("Always"), d.runtime);
    orphan.machine = PodMachine::orphan(observed, Arc::new(NodeFacts::default()), orphan.now);
    orphan.plan();
    orphan.find(|s| matches!(s, Step::StopContainer { grace_secs: 7, .. }));
    orphan.settle();
    assert!(orphan.machine.gone());
    assert!(!orphan.begun.iter().any(|s| matches!(s, Step::Delete { .. })));
    assert_eq!(orphan.runtime.pod.sandboxes.len(), 0);
}

#[test]
fn failed_steps_of_the_end_are_tried_again() {
    let pod = simple("Always");
    let mut d = running(&pod);
    d.desire(deleted(&pod, 1));
    for _ in 0..3 {
        d.plan();
        while d.pending.is_empty() {
            let at = d.machine.next_deadline(d.now).expect("a retry");
            d.pass(at - d.now.instant);
            d.plan();
        }
        d.fail(0, "FailedKillPod", Retry::Backoff);
    }
    d.settle_for(Duration::from_secs(30));
    assert!(d.final_status.is_some());
}
