//! The conditions of a pod (`status/generate.go`): those of others first, then the agent's own in the kubelet's order.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{ContainerStatus, PodCondition, PodStatus};

use super::{Input, missing, time};
use crate::pod::{self, Kind, Spec};

/// The conditions that the agent owns.
const OWN: [&str; 5] = [
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
];

/// Status, reason and message of a condition.
#[derive(Debug, Clone, Default)]
struct Verdict {
    holds: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

/// All conditions; `status` has the phase and the container statuses already.
pub(super) fn conditions(input: &Input<'_>, status: &PodStatus) -> Vec<PodCondition> {
    let in_api = input
        .pod
        .status
        .as_ref()
        .and_then(|s| s.conditions.as_ref())
        .into_iter()
        .flatten();
    let mut all: Vec<PodCondition> = in_api
        .filter(|c| !OWN.contains(&c.type_.as_str()))
        .cloned()
        .collect();
    let phase = status.phase.as_deref().unwrap_or_default();
    let lists = [&status.init_container_statuses, &status.container_statuses];
    let statuses: Vec<&ContainerStatus> = lists.into_iter().flatten().flatten().collect();
    let specs = pod::containers(input.pod);
    let containers_ready = containers_ready(&specs, &statuses, phase);
    let ready = ready(input, &containers_ready, &all);
    if !input.rejected {
        all.push(condition(
            input,
            "PodReadyToStartContainers",
            plain(input.sandbox_good),
        ));
        all.push(condition(
            input,
            "Initialized",
            initialized(&specs, &statuses, phase),
        ));
    }
    all.push(condition(input, "Ready", ready));
    all.push(condition(input, "ContainersReady", containers_ready));
    all.push(condition(input, "PodScheduled", plain(true)));
    all
}

fn plain(holds: bool) -> Verdict {
    Verdict {
        holds,
        ..Verdict::default()
    }
}

fn containers_ready(specs: &[Spec<'_>], statuses: &[&ContainerStatus], phase: &str) -> Verdict {
    let counted: Vec<Spec<'_>> = specs
        .iter()
        .filter(|s| matches!(s.kind, Kind::Sidecar | Kind::Regular))
        .copied()
        .collect();
    let known: BTreeSet<&str> = statuses.iter().map(|s| s.name.as_str()).collect();
    let unknown = missing(&counted, &known);
    let unready = |spec: &&Spec<'_>| statuses.iter().any(|s| s.name == spec.name && !s.ready);
    let unready: Vec<&str> = counted.iter().filter(unready).map(|s| s.name).collect();
    let no = |reason| Verdict {
        holds: false,
        reason: Some(reason),
        message: None,
    };
    if phase == "Failed" {
        return no("PodFailed");
    }
    if phase == "Succeeded" && unknown.is_empty() {
        return no("PodCompleted");
    }
    match names("unready", &unknown, &unready) {
        Some(message) => Verdict {
            message: Some(message),
            ..no("ContainersNotReady")
        },
        None => plain(true),
    }
}

fn ready(input: &Input<'_>, containers_ready: &Verdict, others: &[PodCondition]) -> Verdict {
    if !containers_ready.holds {
        return containers_ready.clone();
    }
    let gates = input
        .pod
        .spec
        .iter()
        .flat_map(|s| s.readiness_gates.iter().flatten());
    let problem = |gate: &str| match others.iter().find(|c| c.type_ == gate) {
        None => Some(format!(
            "corresponding condition of pod readiness gate \"{gate}\" does not exist."
        )),
        Some(c) if c.status == "True" => None,
        Some(c) => Some(format!(
            "the status of pod readiness gate \"{gate}\" is not \"True\", but {}",
            c.status
        )),
    };
    let problems: Vec<String> = gates.filter_map(|g| problem(&g.condition_type)).collect();
    if problems.is_empty() {
        return plain(true);
    }
    Verdict {
        holds: false,
        reason: Some("ReadinessGatesNotReady"),
        message: Some(problems.join(", ")),
    }
}

fn initialized(specs: &[Spec<'_>], statuses: &[&ContainerStatus], phase: &str) -> Verdict {
    let init: Vec<Spec<'_>> = specs.iter().filter(|s| s.is_init()).copied().collect();
    let known: BTreeSet<&str> = statuses.iter().map(|s| s.name.as_str()).collect();
    let unknown = missing(&init, &known);
    if phase == "Succeeded" && unknown.is_empty() {
        return Verdict {
            holds: true,
            reason: Some("PodCompleted"),
            message: None,
        };
    }
    let is_regular = |name: &str| specs.iter().any(|s| s.kind == Kind::Regular && s.name == name);
    let has_run = |s: &&ContainerStatus| {
        s.state
            .as_ref()
            .is_some_and(|state| state.running.is_some() || state.terminated.is_some())
    };
    if statuses.iter().filter(|s| is_regular(&s.name)).any(has_run) {
        return plain(true);
    }
    let incomplete = |spec: &&Spec<'_>| {
        let done = |s: &&&ContainerStatus| {
            if spec.kind == Kind::Sidecar {
                s.started == Some(true)
            } else {
                s.ready
            }
        };
        statuses.iter().filter(|s| s.name == spec.name).any(|s| !done(&s))
    };
    let incomplete: Vec<&str> = init.iter().filter(incomplete).map(|s| s.name).collect();
    match names("incomplete", &unknown, &incomplete) {
        Some(message) => Verdict {
            holds: false,
            reason: Some("ContainersNotInitialized"),
            message: Some(message),
        },
        None => plain(true),
    }
}

/// `containers with unknown status: [a b], containers with unready status: [c]`
fn names(what: &str, unknown: &[&str], bad: &[&str]) -> Option<String> {
    let list = |what: &str, names: &[&str]| {
        (!names.is_empty()).then(|| format!("containers with {what} status: [{}]", names.join(" ")))
    };
    let texts: Vec<String> = [list("unknown", unknown), list(what, bad)]
        .into_iter()
        .flatten()
        .collect();
    (!texts.is_empty()).then(|| texts.join(", "))
}

/// The time of the last transition stays while the status does.
fn condition(input: &Input<'_>, kind: &str, verdict: Verdict) -> PodCondition {
    let status = if verdict.holds { "True" } else { "False" };
    let old = input.old.conditions.iter().flatten().find(|c| c.type_ == kind);
    let since = old
        .filter(|c| c.status == status)
        .and_then(|c| c.last_transition_time.clone());
    PodCondition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: verdict.reason.map(str::to_owned),
        message: verdict.message,
        last_probe_time: None,
        last_transition_time: Some(since.unwrap_or_else(|| time(input.now))),
        observed_generation: input.pod.metadata.generation,
    }
}
