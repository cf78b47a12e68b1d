//! Containers and sandboxes that end, and an agent that does.

use std::time::Duration;

use serde_json::json;

use super::*;
use crate::probe::{ProbeKind, Verdict};

fn exit(d: &mut Driver, code: i32) {
    d.runtime.exit("c", code, d.now.wall);
    d.observe();
    d.settle();
}

fn probe(d: &mut Driver, kind: ProbeKind, verdict: Verdict) {
    let container_id = d.runtime.pod.containers[0].id.clone();
    d.event(Event::Probe {
        container_id,
        kind,
        verdict,
    });
    d.settle();
}

fn probed(probe: &str) -> Pod {
    let probe_spec = json!({"exec": {"command": ["x"]}});
    let mut container = json!({"name": "c", "image": "i"});
    container[probe] = probe_spec;
    pod(json!({"containers": [container]}))
}

#[test]
fn restart_policies_decide_by_exit_code() {
    for (policy, code, phase, restarts) in [
        ("Always", 0, "Running", 1),
        ("Always", 1, "Running", 1),
        ("OnFailure", 0, "Succeeded", 0),
        ("OnFailure", 1, "Running", 1),
        ("Never", 0, "Succeeded", 0),
        ("Never", 1, "Failed", 0),
    ] {
        let mut d = Driver::new(simple(policy));
        d.settle();
        exit(&mut d, code);
        assert_eq!(
            (d.phase().as_str(), d.restarts("c")),
            (phase, restarts),
            "{policy} {code}"
        );
        assert_eq!(d.machine.finished(), phase != "Running", "{policy} {code}");
    }
}

#[test]
fn a_crashing_container_waits_ten_seconds_and_twice_as_long_each_time() {
    let mut d = Driver::new(simple("Always"));
    d.settle();
    exit(&mut d, 1);
    assert_eq!(d.state("c"), "running");
    for (delay, text) in [
        (10, "10s"),
        (20, "20s"),
        (40, "40s"),
        (80, "1m20s"),
        (160, "2m40s"),
        (300, "5m0s"),
    ] {
        exit(&mut d, 1);
        assert_eq!(
            (d.state("c"), d.phase()),
            ("CrashLoopBackOff".into(), "Running".into())
        );
        let waiting = d.status().container_statuses.expect("statuses")[0].clone();
        let message = waiting
            .state
            .and_then(|s| s.waiting)
            .and_then(|w| w.message)
            .unwrap_or_default();
        assert_eq!(
            message,
            format!("back-off {text} restarting failed container=c pod=p_n(u)")
        );
        assert!(waiting.last_state.is_some_and(|s| s.terminated.is_some()));
        assert_eq!(
            d.machine.next_deadline(d.now),
            Some(d.now.instant + Duration::from_secs(delay))
        );
        d.pass(Duration::from_secs(delay));
        d.settle();
        assert_eq!(d.state("c"), "running");
    }
    assert!(
        d.notices
            .iter()
            .any(|n| n.message == "Back-off restarting failed container c in pod p_n(u)")
    );
    assert!(d.runtime.pod.containers.len() <= 2, "old instances are removed");
}

#[test]
fn a_failed_liveness_probe_kills_and_restarts_without_a_crash() {
    let mut d = Driver::new(probed("livenessProbe"));
    d.settle();
    probe(&mut d, ProbeKind::Liveness, Verdict::Failure);
    assert_eq!((d.state("c"), d.restarts("c")), ("running".into(), 1));
    assert!(
        d.notices
            .iter()
            .any(|n| n.message == "Container c failed liveness probe, will be restarted")
    );
}

#[test]
fn readiness_follows_its_probe_and_never_restarts() {
    let mut d = Driver::new(probed("readinessProbe"));
    d.settle();
    let unready = (
        "False".into(),
        "ContainersNotReady".into(),
        "containers with unready status: [c]".into(),
    );
    assert_eq!(d.condition("Ready"), unready);
    probe(&mut d, ProbeKind::Readiness, Verdict::Success);
    assert_eq!(d.condition("Ready").0, "True");
    probe(&mut d, ProbeKind::Readiness, Verdict::Failure);
    assert_eq!((d.condition("Ready"), d.restarts("c")), (unready, 0));
}

#[test]
fn a_startup_probe_keeps_the_container_from_being_started_and_ready() {
    let mut d = Driver::new(probed("startupProbe"));
    d.settle();
    let started = |d: &mut Driver| d.status().container_statuses.expect("statuses")[0].started;
    assert_eq!(
        (started(&mut d), d.condition("Ready").0),
        (Some(false), "False".into())
    );
    probe(&mut d, ProbeKind::Startup, Verdict::Success);
    assert_eq!(
        (started(&mut d), d.condition("Ready").0),
        (Some(true), "True".into())
    );
}

#[test]
fn a_changed_image_recreates_only_that_container() {
    let mut before = simple("Always");
    let two = json!([{"name": "c", "image": "i"}, {"name": "other", "image": "i"}]);
    before.spec.as_mut().expect("a spec").containers = serde_json::from_value(two).expect("containers");
    let mut d = Driver::new(before.clone());
    d.settle();
    let sandboxes = d.runtime.pod.sandboxes.clone();
    before.spec.as_mut().expect("a spec").containers[0].image = Some("j".into());
    before.metadata.generation = Some(2);
    d.desire(before);
    d.settle();
    assert_eq!((d.restarts("c"), d.restarts("other")), (1, 0));
    assert_eq!(d.runtime.pod.sandboxes, sandboxes);
    assert_eq!(d.status().observed_generation, Some(2));
    assert!(
        d.notices
            .iter()
            .any(|n| n.message == "Container c definition changed, will be restarted")
    );
}

#[test]
fn a_dead_sandbox_is_made_again_with_everything_in_it() {
    let mut d = Driver::new(pod(json!({
        "initContainers": [{"name": "i", "image": "i"}], "containers": [{"name": "c", "image": "i"}],
    })));
    d.settle();
    d.runtime.exit("i", 0, d.now.wall);
    d.observe();
    d.settle();
    d.runtime.exit("c", 137, d.now.wall);
    d.runtime.pod.sandboxes[0].ready = false;
    d.observe();
    assert_eq!(d.condition("PodReadyToStartContainers").0, "False");
    d.settle();
    assert_eq!(d.runtime.running(), ["i"], "init containers run again");
    assert_eq!(d.runtime.pod.sandboxes[0].attempt, 1);
    assert!(d.reasons().contains(&"SandboxChanged"));
    d.runtime.exit("i", 0, d.now.wall);
    d.observe();
    d.settle();
    assert_eq!(d.runtime.running(), ["c"]);
    assert_eq!((d.restarts("c"), d.restarts("i")), (1, 1));
}

#[test]
fn a_restarted_agent_adopts_what_runs_and_flips_nothing() {
    let mut d = Driver::new(probed("readinessProbe"));
    d.settle();
    probe(&mut d, ProbeKind::Readiness, Verdict::Success);
    let before = d.status();
    let containers = d.runtime.pod.clone();
    let mut d = d.restart_agent();
    d.settle();
    assert_eq!(d.runtime.pod, containers);
    assert_eq!(d.status(), before);
    assert!(d.begun.iter().all(|s| matches!(s, Step::SetUp)), "{:?}", d.begun);
}

#[test]
fn a_restarted_agent_starts_no_finished_pod_again() {
    let mut d = Driver::new(simple("Never"));
    d.settle();
    exit(&mut d, 0);
    let mut d = d.restart_agent();
    d.runtime.pod = ObservedPod::default();
    d.observe();
    d.settle();
    assert_eq!((d.phase(), d.state("c")), ("Succeeded".into(), "exit 0".into()));
    assert!(
        !d.begun
            .iter()
            .any(|s| matches!(s, Step::RunSandbox { .. } | Step::StartContainer(_)))
    );
}

#[test]
fn an_ephemeral_container_starts_beside_the_others_and_only_once() {
    let mut d = Driver::new(simple("Always"));
    d.settle();
    let mut with = simple("Always");
    let debug = json!([{"name": "debug", "image": "i"}]);
    with.spec.as_mut().expect("a spec").ephemeral_containers =
        serde_json::from_value(debug).expect("containers");
    d.desire(with);
    d.settle();
    assert_eq!(d.runtime.running(), ["c", "debug"]);
    d.runtime.exit("debug", 1, d.now.wall);
    d.observe();
    d.settle_for(Duration::from_secs(60));
    assert_eq!(d.runtime.running(), ["c"]);
    assert_eq!(d.condition("Ready").0, "True");
}
