//! From nothing to running: order, images, init containers, sidecars, hooks, turns, failures.

use std::time::Duration;

use serde_json::json;

use super::*;

fn keys(driver: &Driver) -> Vec<StepKey> {
    driver.pending.iter().map(Step::key).collect()
}

#[test]
fn a_pod_starts_in_its_turn_with_its_image_fetched_beside_the_sandbox() {
    let mut d = Driver::new(simple("Always"));
    d.plan();
    assert_eq!(keys(&d), [StepKey::TakeTurn]);
    assert_eq!(d.state("c"), "ContainerCreating");
    assert_eq!(d.phase(), "Pending");
    d.succeed(0);
    d.plan();
    assert_eq!(keys(&d), [StepKey::SetUp]);
    d.succeed(0);
    d.plan();
    assert_eq!(keys(&d), [StepKey::EnsureImage("c".into()), StepKey::RunSandbox]);
    d.succeed(0);
    d.succeed(0);
    d.plan();
    assert_eq!(keys(&d), [StepKey::Start("c".into())]);
    d.succeed(0);
    let plan = d.machine.plan(d.now);
    assert!(plan.release_turn && plan.start.is_empty());
    // Not a word from the runtime's events yet: what the steps have told is enough.
    assert_eq!((d.phase(), d.state("c")), ("Running".into(), "running".into()));
    assert_eq!(d.status().pod_ip.as_deref(), Some("10.0.0.7"));
    assert_eq!(d.condition("Ready").0, "True");
    d.plan();
    assert_eq!(d.reasons(), ["Created", "Started"]);
}

#[test]
fn a_stale_observation_makes_no_second_sandbox_and_a_lost_one_is_asked_for() {
    let mut d = Driver::new(simple("Always"));
    while !d.pending.iter().any(|s| matches!(s, Step::StartContainer(_))) {
        d.plan();
        if let Some(i) = d
            .pending
            .iter()
            .position(|s| !matches!(s, Step::StartContainer(_)))
        {
            d.succeed(i);
        }
        d.event(Event::Observed(Arc::new(ObservedPod::default())));
    }
    // Nothing confirms the sandbox: the runtime is asked, and its answer believed.
    d.pass(Duration::from_secs(2));
    d.plan();
    let observe = d.find(|s| *s == Step::Observe);
    d.succeed(observe);
    d.settle();
    assert_eq!(d.runtime.running(), ["c"]);
    assert_eq!(
        d.begun
            .iter()
            .filter(|s| matches!(s, Step::RunSandbox { .. }))
            .count(),
        1
    );
}

#[test]
fn init_containers_run_one_after_the_other_and_before_the_rest() {
    let mut d = Driver::new(pod(json!({
        "initContainers": [{"name": "i1", "image": "i"}, {"name": "i2", "image": "i"}],
        "containers": [{"name": "a", "image": "i"}, {"name": "b", "image": "i"}],
    })));
    d.settle();
    assert_eq!(d.runtime.running(), ["i1"]);
    assert_eq!(d.state("a"), "PodInitializing");
    let initialized = d.condition("Initialized");
    assert_eq!(initialized.1, "ContainersNotInitialized");
    assert_eq!(initialized.2, "containers with incomplete status: [i1 i2]");
    d.runtime.exit("i1", 0, d.now.wall);
    d.observe();
    d.settle();
    assert_eq!(d.runtime.running(), ["i2"]);
    assert_eq!(
        d.condition("Initialized").2,
        "containers with incomplete status: [i2]"
    );
    d.runtime.exit("i2", 0, d.now.wall);
    d.observe();
    d.settle();
    assert_eq!(d.runtime.running(), ["a", "b"]);
    assert_eq!(d.condition("Initialized").0, "True");
    assert_eq!(d.state("i1"), "exit 0");
}

#[test]
fn a_failing_init_container_is_started_again_under_the_crash_back_off() {
    let mut d = Driver::new(pod(json!({
        "initContainers": [{"name": "i", "image": "i"}], "containers": [{"name": "c", "image": "i"}],
    })));
    d.settle();
    for restarts in 1..4 {
        d.runtime.exit("i", 1, d.now.wall);
        d.observe();
        d.settle_for(Duration::from_secs(60));
        assert_eq!(d.restarts("i"), restarts);
        assert_eq!(
            (d.phase(), d.state("c")),
            ("Pending".into(), "PodInitializing".into())
        );
    }
}

#[test]
fn with_policy_never_a_failing_init_container_fails_the_pod() {
    let mut d = Driver::new(pod(json!({
        "restartPolicy": "Never",
        "initContainers": [{"name": "i", "image": "i"}], "containers": [{"name": "c", "image": "i"}],
    })));
    d.settle();
    d.runtime.exit("i", 1, d.now.wall);
    d.observe();
    d.settle();
    assert!(d.machine.finished());
    assert_eq!(
        (d.phase(), d.state("c")),
        ("Failed".into(), "PodInitializing".into())
    );
    assert_eq!(d.condition("Initialized").1, "ContainersNotInitialized");
}

#[test]
fn a_sidecar_runs_on_and_holds_the_others_back_until_it_has_started() {
    let mut d = Driver::new(pod(json!({
        "initContainers": [
            {"name": "s", "image": "i", "restartPolicy": "Always", "startupProbe": {"exec": {"command": ["x"]}}},
            {"name": "i", "image": "i"},
        ],
        "containers": [{"name": "c", "image": "i"}],
    })));
    d.settle();
    assert_eq!(d.runtime.running(), ["s"]);
    let id = d.runtime.pod.containers[0].id.clone();
    d.event(Event::Probe {
        container_id: id,
        kind: crate::probe::ProbeKind::Startup,
        verdict: crate::probe::Verdict::Success,
    });
    d.settle();
    assert_eq!(d.runtime.running(), ["i", "s"]);
    d.runtime.exit("i", 0, d.now.wall);
    d.observe();
    d.settle();
    assert_eq!(d.runtime.running(), ["c", "s"]);
    d.runtime.exit("s", 0, d.now.wall);
    d.observe();
    d.settle();
    assert_eq!(d.runtime.running(), ["c", "s"]);
    assert_eq!(d.restarts("s"), 1);
    assert_eq!(d.phase(), "Running");
}

#[test]
fn a_post_start_hook_hides_its_container_and_holds_the_next_one_back() {
    let mut d = Driver::new(pod(json!({"containers": [
        {"name": "a", "image": "i", "lifecycle": {"postStart": {"exec": {"command": ["x"]}}}},
        {"name": "b", "image": "i"},
    ]})));
    while !d.pending.iter().any(|s| matches!(s, Step::PostStart { .. })) {
        d.plan();
        if let Some(i) = d
            .pending
            .iter()
            .position(|s| !matches!(s, Step::PostStart { .. }))
        {
            d.succeed(i);
        }
    }
    d.plan();
    assert_eq!(d.runtime.running(), ["a"]);
    assert_eq!(d.state("a"), "ContainerCreating");
    d.settle();
    assert_eq!(d.runtime.running(), ["a", "b"]);
    assert_eq!(d.state("a"), "running");
}

#[test]
fn a_failing_post_start_hook_kills_its_container() {
    let mut d = Driver::new(with_hooks(json!({"postStart": {"exec": {"command": ["x"]}}})));
    while !d.pending.iter().any(|s| matches!(s, Step::PostStart { .. })) {
        d.plan();
        if let Some(i) = d
            .pending
            .iter()
            .position(|s| !matches!(s, Step::PostStart { .. }))
        {
            d.succeed(i);
        }
    }
    let hook = d.find(|s| matches!(s, Step::PostStart { .. }));
    d.fail(hook, "PostStartHookError", Retry::Backoff);
    d.settle();
    assert_eq!(d.runtime.running(), Vec::<&str>::new());
    assert_eq!(d.state("c"), "PostStartHookError");
    assert_eq!(d.reasons()[2..], ["FailedPostStartHook", "Killing"]);
    d.pass(Duration::from_secs(10));
    d.plan();
    d.find(|s| matches!(s, Step::EnsureImage { .. }));
}

#[test]
fn a_failing_pull_shows_its_error_then_backs_off_and_does_not_hold_other_containers() {
    let mut d = Driver::new(pod(json!({"containers": [
        {"name": "bad", "image": "nowhere"}, {"name": "good", "image": "i"},
    ]})));
    d.plan();
    d.succeed(0);
    d.plan();
    d.succeed(0);
    d.plan();
    let pull = d.find(|s| matches!(s, Step::EnsureImage { container } if container == "bad"));
    d.fail(pull, "ErrImagePull", Retry::Backoff);
    d.settle();
    assert_eq!(
        (d.state("bad"), d.state("good")),
        ("ErrImagePull".into(), "running".into())
    );
    assert_eq!(d.phase(), "Pending");
    d.pass(Duration::from_secs(1));
    d.settle();
    assert_eq!(d.state("bad"), "ImagePullBackOff");
    assert!(
        d.notices
            .iter()
            .any(|n| n.message == "Back-off pulling image \"nowhere\""),
        "{:?}",
        d.notices
    );
    let mut waits = Vec::new();
    for _ in 0..6 {
        let from = d.now.instant;
        while !d.pending.iter().any(|s| matches!(s, Step::EnsureImage { .. })) {
            let at = d.machine.next_deadline(d.now).expect("a retry");
            d.pass(at - d.now.instant);
            d.plan();
        }
        waits.push((d.now.instant - from).as_secs());
        d.fail(0, "ErrImagePull", Retry::Backoff);
    }
    assert_eq!(waits, [9, 20, 40, 80, 160, 300]);
}

#[test]
fn a_sandbox_that_cannot_be_made_is_tried_again_and_gives_its_turn_back() {
    let mut d = Driver::new(simple("Always"));
    while !d.pending.iter().any(|s| matches!(s, Step::RunSandbox { .. })) {
        d.plan();
        if let Some(i) = d
            .pending
            .iter()
            .position(|s| !matches!(s, Step::RunSandbox { .. }))
        {
            d.succeed(i);
        }
    }
    let run = d.find(|s| matches!(s, Step::RunSandbox { .. }));
    d.fail(run, "FailedCreatePodSandBox", Retry::Backoff);
    while !d.pending.is_empty() {
        d.succeed(0);
    }
    let plan = d.machine.plan(d.now);
    assert!(plan.release_turn && plan.start.is_empty());
    d.notices.extend(d.machine.take_notices());
    assert_eq!(d.notices[0].message, "Failed to create pod sandbox: no luck");
    d.settle_for(Duration::from_secs(9));
    assert!(d.runtime.pod.sandboxes.is_empty());
    d.settle_for(Duration::from_secs(1));
    assert_eq!(d.runtime.running(), ["c"]);
}

#[test]
fn a_stuck_start_gives_its_turn_back_after_a_while() {
    let mut d = Driver::new(simple("Always"));
    d.plan();
    d.succeed(0);
    d.plan();
    let at = d.machine.next_deadline(d.now).expect("the limit of a turn");
    d.pass(at - d.now.instant);
    assert!(d.machine.plan(d.now).release_turn);
    assert_eq!(keys(&d), [StepKey::SetUp]);
    assert!(!d.machine.plan(d.now).release_turn);
}

#[test]
fn a_config_error_is_shown_and_a_changed_annotation_tries_again_at_once() {
    let mut d = Driver::new(simple("Always"));
    while !d.pending.iter().any(|s| matches!(s, Step::StartContainer(_))) {
        d.plan();
        if let Some(i) = d
            .pending
            .iter()
            .position(|s| !matches!(s, Step::StartContainer(_)))
        {
            d.succeed(i);
        }
    }
    d.fail(0, "CreateContainerConfigError", Retry::Backoff);
    d.settle();
    assert_eq!(
        (d.state("c"), d.phase()),
        ("CreateContainerConfigError".into(), "Pending".into())
    );
    let mut changed = simple("Always");
    changed.metadata.annotations = Some([("k".to_owned(), "v".to_owned())].into());
    d.desire(changed);
    d.settle();
    assert_eq!(d.state("c"), "running");
}
