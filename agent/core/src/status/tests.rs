//! Statuses from tables of container states; the machine's tests cover how they come about.

use k8s_openapi::api::core::v1::Container;
use serde_json::{Value, json};

use super::*;
use crate::observed::{self, Exit, Sandbox};

fn at(secs: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + secs).expect("in range")
}

/// A pod whose containers are in `states`: `name=running`, `name=0` (an exit code) or just `name`.
fn world(spec: Value, states: &[&str]) -> (Pod, ObservedPod) {
    let metadata = json!({"name": "p", "namespace": "n", "uid": "u", "generation": 7});
    let pod = serde_json::from_value(json!({"metadata": metadata, "spec": spec})).expect("a pod");
    let sandbox = Sandbox {
        id: "s".into(),
        attempt: 0,
        ready: true,
        created_at: at(0),
        ips: vec!["fd00::7".parse().expect("v6"), "10.0.0.7".parse().expect("v4")],
        host_network: false,
    };
    let container = |state: &&str| {
        let (name, state) = state.split_once('=')?;
        let state = match state.parse::<i32>() {
            Err(_) => observed::ContainerState::Running { started_at: at(1) },
            Ok(code) => observed::ContainerState::Exited(Exit {
                code,
                reason: "Error".into(),
                message: String::new(),
                started_at: Some(at(1)),
                finished_at: at(2),
            }),
        };
        Some(observed::Container {
            id: format!("id-{name}"),
            sandbox_id: "s".into(),
            name: name.into(),
            attempt: 3,
            hash: String::new(),
            image: "i".into(),
            image_id: "i@sha256:1".into(),
            state,
            termination_message_path: String::new(),
            termination_message_policy: String::new(),
            grace_secs: None,
        })
    };
    let containers = states.iter().filter_map(container).collect();
    (
        pod,
        ObservedPod {
            sandboxes: vec![sandbox],
            containers,
            ..ObservedPod::default()
        },
    )
}

struct Case<'a> {
    pod: &'a Pod,
    observed: &'a ObservedPod,
    old: PodStatus,
    terminated: bool,
    now: Timestamp,
}

fn compute_case(case: &Case<'_>) -> PodStatus {
    let host: [IpAddr; 1] = ["192.0.2.1".parse().expect("an address")];
    compute(&Input {
        pod: case.pod,
        old: &case.old,
        observed: case.observed,
        sandbox_good: true,
        verdicts: &BTreeMap::new(),
        waiting: &BTreeMap::new(),
        starting: &BTreeMap::new(),
        terminated: case.terminated,
        failure: None,
        rejected: false,
        host_ips: &host,
        now: case.now,
    })
}

fn status_of(spec: Value, states: &[&str], terminated: bool) -> PodStatus {
    let (pod, observed) = world(spec, states);
    compute_case(&Case {
        pod: &pod,
        observed: &observed,
        old: PodStatus::default(),
        terminated,
        now: at(9),
    })
}

#[test]
fn the_phase_follows_the_containers() {
    let two = json!([{"name": "a", "image": "i"}, {"name": "b", "image": "i"}]);
    let regular = |policy: &str| json!({"restartPolicy": policy, "containers": two});
    let init = |policy: &str| json!({"restartPolicy": policy, "initContainers": [{"name": "i", "image": "i"}], "containers": two});
    let table: &[(Value, &[&str], bool, &str)] = &[
        (regular("Always"), &["a", "b"], false, "Pending"),
        (regular("Always"), &["a=running", "b"], false, "Pending"),
        (regular("Always"), &["a=running", "b=running"], false, "Running"),
        (regular("Always"), &["a=running", "b=1"], false, "Running"),
        (regular("Always"), &["a=0", "b=1"], false, "Running"),
        (regular("Always"), &["a=0", "b=1"], true, "Failed"),
        (regular("Always"), &["a=0", "b=0"], true, "Succeeded"),
        (regular("Always"), &["a=0", "b"], true, "Failed"),
        (regular("OnFailure"), &["a=0", "b=1"], false, "Running"),
        (regular("OnFailure"), &["a=0", "b=0"], true, "Succeeded"),
        (regular("Never"), &["a=0", "b=1"], true, "Failed"),
        (regular("Never"), &["a=0", "b=running"], false, "Running"),
        (init("Always"), &["i=running", "a", "b"], false, "Pending"),
        (init("Always"), &["i=1", "a", "b"], false, "Pending"),
        (
            init("Always"),
            &["i=0", "a=running", "b=running"],
            false,
            "Running",
        ),
        (init("Never"), &["i=1", "a", "b"], true, "Failed"),
    ];
    for (spec, states, terminated, phase) in table {
        let status = status_of(spec.clone(), states, *terminated);
        assert_eq!(
            status.phase.as_deref(),
            Some(*phase),
            "{spec} {states:?} terminated: {terminated}"
        );
    }
}

#[test]
fn a_running_container_shows_all_that_clients_read() {
    let spec = json!({"containers": [{
        "name": "a", "image": "i",
        "resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "2"}},
        "volumeMounts": [{"name": "v", "mountPath": "/v", "readOnly": true}],
    }]});
    let status = status_of(spec, &["a=running"], false);
    assert_eq!(
        status.pod_ip.as_deref(),
        Some("10.0.0.7"),
        "the node's family first"
    );
    assert_eq!(status.pod_ips.as_ref().map(Vec::len), Some(2));
    assert_eq!(
        (status.host_ip.as_deref(), status.observed_generation),
        (Some("192.0.2.1"), Some(7))
    );
    let shown = serde_json::to_value(&status.container_statuses).expect("JSON");
    assert_eq!(
        shown,
        json!([{
            "name": "a", "image": "i", "imageID": "i@sha256:1", "containerID": "containerd://id-a",
            "state": {"running": {"startedAt": "2027-01-15T08:00:01Z"}},
            "ready": true, "started": true, "restartCount": 3,
            "allocatedResources": {"cpu": "1"},
            "resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "2"}},
            "volumeMounts": [
                {"name": "v", "mountPath": "/v", "readOnly": true, "recursiveReadOnly": "Disabled"},
            ],
        }])
    );
}

#[test]
fn conditions_come_in_order_after_those_of_others_and_keep_their_times() {
    let (mut pod, observed) = world(
        json!({"containers": [{"name": "a", "image": "i"}]}),
        &["a=running"],
    );
    let foreign = json!({"conditions": [{"type": "x.io/gate", "status": "False"}, {"type": "Ready", "status": "False"}]});
    pod.status = Some(serde_json::from_value(foreign).expect("a status"));
    let mut case = Case {
        pod: &pod,
        observed: &observed,
        old: PodStatus::default(),
        terminated: false,
        now: at(9),
    };
    let first = compute_case(&case);
    (case.old, case.now) = (first.clone(), at(100));
    assert_eq!(compute_case(&case), first, "the same input gives the same status");
    let conditions = first.conditions.unwrap_or_default();
    let kinds: Vec<&str> = conditions.iter().map(|c| c.type_.as_str()).collect();
    assert_eq!(
        kinds,
        [
            "x.io/gate",
            "PodReadyToStartContainers",
            "Initialized",
            "Ready",
            "ContainersReady",
            "PodScheduled"
        ]
    );
    assert!(
        conditions[1..]
            .iter()
            .all(|c| c.status == "True" && c.observed_generation == Some(7))
    );
    assert!(
        conditions[1..]
            .iter()
            .all(|c| c.last_transition_time == Some(time(at(9))))
    );
}

#[test]
fn readiness_gates_count_only_when_the_containers_are_ready() {
    let spec =
        json!({"containers": [{"name": "a", "image": "i"}], "readinessGates": [{"conditionType": "x.io/g"}]});
    let (mut pod, observed) = world(spec, &["a=running"]);
    let ready = |pod: &Pod| {
        let case = Case {
            pod,
            observed: &observed,
            old: PodStatus::default(),
            terminated: false,
            now: at(9),
        };
        let conditions = compute_case(&case).conditions.unwrap_or_default();
        let ready = conditions
            .into_iter()
            .find(|c| c.type_ == "Ready")
            .expect("Ready");
        (
            ready.status,
            ready.reason.unwrap_or_default(),
            ready.message.unwrap_or_default(),
        )
    };
    let (_, reason, message) = ready(&pod);
    assert_eq!(reason, "ReadinessGatesNotReady");
    assert_eq!(
        message,
        "corresponding condition of pod readiness gate \"x.io/g\" does not exist."
    );
    for (gate, status, text) in [
        (
            "False",
            "False",
            "the status of pod readiness gate \"x.io/g\" is not \"True\", but False",
        ),
        ("True", "True", ""),
    ] {
        let foreign = json!({"conditions": [{"type": "x.io/g", "status": gate}]});
        pod.status = Some(serde_json::from_value(foreign).expect("a status"));
        let (is, _, message) = ready(&pod);
        assert_eq!((is.as_str(), message.as_str()), (status, text));
    }
}

#[test]
fn a_final_phase_is_never_left_and_comes_only_when_nothing_runs() {
    let spec = json!({"restartPolicy": "Never", "containers": [{"name": "a", "image": "i"}]});
    let (mut pod, observed) = world(spec, &["a=1"]);
    let old = PodStatus {
        phase: Some("Running".into()),
        ..PodStatus::default()
    };
    let mut case = Case {
        pod: &pod,
        observed: &observed,
        old,
        terminated: false,
        now: at(9),
    };
    assert_eq!(compute_case(&case).phase.as_deref(), Some("Running"));
    case.terminated = true;
    assert_eq!(compute_case(&case).phase.as_deref(), Some("Failed"));
    let in_api = json!({"phase": "Succeeded", "reason": "R", "message": "M"});
    pod.status = Some(serde_json::from_value(in_api).expect("a status"));
    let old = pod.status.clone().expect("a status");
    let status = compute_case(&Case {
        pod: &pod,
        observed: &observed,
        old,
        terminated: true,
        now: at(9),
    });
    assert_eq!(
        (status.phase.as_deref(), status.reason.as_deref()),
        (Some("Succeeded"), Some("R"))
    );
}

#[test]
fn a_container_that_the_runtime_has_lost_counts_as_failed_and_restarted() {
    let (pod, observed) = world(json!({"containers": [{"name": "a", "image": "i"}]}), &["a"]);
    let old = json!({"phase": "Running", "containerStatuses": [{
        "name": "a", "image": "i", "imageID": "", "ready": true, "restartCount": 2,
        "containerID": "containerd://gone", "state": {"running": {"startedAt": "2027-01-15T08:00:01Z"}},
    }]});
    let old = serde_json::from_value(old).expect("a status");
    let status = compute_case(&Case {
        pod: &pod,
        observed: &observed,
        old,
        terminated: false,
        now: at(9),
    });
    let container = status.container_statuses.expect("statuses").remove(0);
    let last = container
        .last_state
        .and_then(|s| s.terminated)
        .expect("a last state");
    assert_eq!(
        (last.exit_code, last.reason.as_deref()),
        (137, Some("ContainerStatusUnknown"))
    );
    assert_eq!(
        (container.restart_count, status.phase.as_deref()),
        (3, Some("Running"))
    );
}

#[test]
fn host_network_pods_have_the_addresses_of_the_node() {
    let spec = json!({"hostNetwork": true, "containers": [{"name": "a", "image": "i"}]});
    let status = status_of(spec, &["a=running"], false);
    assert_eq!(status.pod_ip.as_deref(), Some("192.0.2.1"));
}

#[test]
fn the_containers_own_restart_policy_wins() {
    let mut container: Container = serde_json::from_value(json!({
        "name": "a", "restartPolicy": "Never",
        "restartPolicyRules": [{"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}],
    }))
    .expect("a container");
    let mut restarts = |own: Option<&str>, pod_policy: &str, code: i32| {
        container.restart_policy = own.map(str::to_owned);
        let spec = serde_json::json!({"containers": [container]});
        let (pod, _) = world(spec, &[]);
        pod::containers(&pod)[0].restarts_after(pod_policy, code)
    };
    assert!(!restarts(Some("Never"), "Always", 1));
    assert!(restarts(Some("Never"), "Always", 42));
    assert!(restarts(None, "OnFailure", 1));
    assert!(
        !restarts(None, "Never", 42),
        "rules need a policy of the container's own"
    );
}
