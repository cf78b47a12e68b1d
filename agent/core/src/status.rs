//! What the API shows of a pod: phase, conditions and container statuses, computed anew each time from the spec, what
//! the runtime holds, what the probes say and the status before.
//!
//! Follows the kubelet's `generateAPIPodStatus`, `getPhase`, `status/generate.go` and `mergePodStatus`; the order of
//! conditions and the texts are the kubelet's. Pure.

mod conditions;
mod container;
mod phase;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{
        ContainerState, ContainerStateTerminated, ContainerStatus, HostIP, Pod, PodIP, PodStatus,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};

use crate::{
    machine::{Failure, Verdicts},
    observed::ObservedPod,
    pod::{self, Kind, Spec},
};

/// Everything that a status follows from.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// Spec, metadata and the status that the API has.
    pub pod: &'a Pod,
    /// The status computed before; at first the one of the API.
    pub old: &'a PodStatus,
    /// What the runtime holds.
    pub observed: &'a ObservedPod,
    /// There is a ready sandbox with a network.
    pub sandbox_good: bool,
    /// By container ID.
    pub verdicts: &'a BTreeMap<String, Verdicts>,
    /// Why containers that should run do not, by name.
    pub waiting: &'a BTreeMap<String, Waiting>,
    /// IDs (to names) of containers whose postStart hook has not ended.
    pub starting: &'a BTreeMap<String, String>,
    /// Nothing runs and nothing will: the phase becomes final.
    pub terminated: bool,
    /// The pod failed for this reason, whatever its containers say.
    pub failure: Option<&'a Failure>,
    /// It was never started here: there are no container statuses.
    pub rejected: bool,
    /// The node's addresses.
    pub host_ips: &'a [IpAddr],
    /// The time.
    pub now: Timestamp,
}

/// `state.waiting` of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// `CrashLoopBackOff`, `ErrImagePull`, ...
    pub reason: String,
    /// For people.
    pub message: String,
}

/// The API's time: whole seconds.
#[must_use]
pub fn time(at: Timestamp) -> Time {
    Time(Timestamp::from_second(at.as_second()).unwrap_or(at))
}

/// The container ID as the API shows it.
#[must_use]
pub fn container_id(id: &str) -> String {
    format!("containerd://{id}")
}

/// The status.
#[must_use]
pub fn compute(input: &Input<'_>) -> PodStatus {
    let mut status = input.old.clone();
    status.observed_generation = input.pod.metadata.generation;
    if let Some(from_api) = &input.pod.status {
        status.qos_class = from_api.qos_class.clone();
        status
            .nominated_node_name
            .clone_from(&from_api.nominated_node_name);
        status
            .resource_claim_statuses
            .clone_from(&from_api.resource_claim_statuses);
    }
    if !input.rejected {
        container_statuses(input, &mut status);
        addresses(input, &mut status);
    }
    set_phase(input, &mut status);
    status.conditions = Some(conditions::conditions(input, &status));
    status
}

fn container_statuses(input: &Input<'_>, status: &mut PodStatus) {
    let specs = pod::containers(input.pod);
    let old: Vec<ContainerStatus> = [
        &input.old.init_container_statuses,
        &input.old.container_statuses,
        &input.old.ephemeral_container_statuses,
    ]
    .into_iter()
    .flatten()
    .flatten()
    .cloned()
    .collect();
    let initializing = specs.iter().any(Spec::is_init);
    let of = |wanted: fn(&Spec<'_>) -> bool| -> Vec<ContainerStatus> {
        let wanted = specs.iter().filter(|spec| wanted(spec));
        wanted
            .map(|spec| container::status(input, spec, &old, initializing))
            .collect()
    };
    let some = |list: Vec<ContainerStatus>| (!list.is_empty()).then_some(list);
    let mut init = of(|s| s.is_init());
    let mut regular = of(|s| s.kind == Kind::Regular);
    if input.terminated {
        fail_unknown(input, &mut init, &mut regular);
    }
    regular.sort_by(|a, b| a.name.cmp(&b.name));
    let mut ephemeral = of(|s| s.kind == Kind::Ephemeral);
    ephemeral.sort_by(|a, b| a.name.cmp(&b.name));
    status.init_container_statuses = some(init);
    status.container_statuses = some(regular);
    status.ephemeral_container_statuses = some(ephemeral);
}

/// The pod has ended: a container of which nobody knows how it ended counts as failed (`TerminatePod`).
fn fail_unknown(input: &Input<'_>, init: &mut [ContainerStatus], regular: &mut [ContainerStatus]) {
    let waits = |s: &ContainerStatus| s.state.as_ref().is_none_or(|state| state.waiting.is_some());
    let ended_once = |s: &ContainerStatus| s.last_state.as_ref().is_some_and(|l| l.terminated.is_some());
    let evidence = |s: &ContainerStatus| ended_once(s) || !waits(s);
    let initialized = init.is_empty() || regular.iter().any(evidence) || init_completed(input, init);
    let unknown = || ContainerState {
        terminated: Some(ContainerStateTerminated {
            exit_code: 137,
            reason: Some("ContainerStatusUnknown".to_owned()),
            message: Some("The container could not be located when the pod was terminated".to_owned()),
            ..ContainerStateTerminated::default()
        }),
        ..ContainerState::default()
    };
    let fail = |s: &mut ContainerStatus| {
        if s.state.as_ref().is_none_or(|state| state.terminated.is_none()) {
            s.state = Some(unknown());
            (s.ready, s.started) = (false, Some(false));
        }
    };
    if initialized {
        regular.iter_mut().for_each(fail);
    }
    // All but those at the end that show no sign of a start.
    let started = init.iter().rposition(evidence).map_or(0, |last| last + 1);
    init.iter_mut().take(started).for_each(fail);
}

/// The last init container has once ended well, or is a sidecar that has started.
fn init_completed(input: &Input<'_>, init: &[ContainerStatus]) -> bool {
    let Some(last) = init.last() else { return true };
    let sidecar = pod::containers(input.pod)
        .iter()
        .any(|s| s.name == last.name && s.kind == Kind::Sidecar);
    if sidecar {
        return last.started == Some(true);
    }
    let ended_well = |state: &Option<ContainerState>| {
        state
            .as_ref()
            .and_then(|s| s.terminated.as_ref())
            .is_some_and(|t| t.exit_code == 0)
    };
    ended_well(&last.state) || ended_well(&last.last_state)
}

fn addresses(input: &Input<'_>, status: &mut PodStatus) {
    let host: Vec<String> = input.host_ips.iter().map(ToString::to_string).collect();
    if let Some(primary) = host.first() {
        status.host_ip = Some(primary.clone());
        status.host_ips = Some(host.iter().map(|ip| HostIP { ip: ip.clone() }).collect());
    }
    if pod::host_network(input.pod) && status.pod_ip.is_some() {
        return;
    }
    let sandbox = input.observed.sandbox().filter(|s| s.ready);
    let ips = pod_ips(input.pod, sandbox.map_or(&[], |s| &s.ips), input.host_ips);
    // A pod that has ended keeps showing the addresses it had.
    if !ips.is_empty() {
        set_pod_ips(status, ips.iter().map(ToString::to_string).collect());
    }
}

/// A pod's addresses: the node's when it shares the node's network, else those of its sandbox, at most one of each family and that
/// of the node's first address first (`sortPodIPs`).
#[must_use]
pub fn pod_ips(pod: &Pod, sandbox: &[IpAddr], host: &[IpAddr]) -> Vec<IpAddr> {
    if pod::host_network(pod) {
        host.to_vec()
    } else {
        primary_family_first(sandbox, host)
    }
}

fn primary_family_first(ips: &[IpAddr], host: &[IpAddr]) -> Vec<IpAddr> {
    let v4_first = host.first().is_none_or(IpAddr::is_ipv4);
    let of_family = |v4: bool| ips.iter().copied().find(|ip| ip.is_ipv4() == v4);
    [of_family(v4_first), of_family(!v4_first)]
        .into_iter()
        .flatten()
        .collect()
}

fn set_pod_ips(status: &mut PodStatus, ips: Vec<String>) {
    status.pod_ip = ips.first().cloned();
    status.pod_ips = Some(ips.into_iter().map(|ip| PodIP { ip }).collect());
}

fn set_phase(input: &Input<'_>, status: &mut PodStatus) {
    let old = input.old.phase.clone().unwrap_or_else(|| "Pending".to_owned());
    let in_api = input
        .pod
        .status
        .as_ref()
        .and_then(|s| s.phase.clone())
        .filter(|p| pod::is_terminal(p));
    let sticky = in_api.or_else(|| Some(old.clone()).filter(|p| pod::is_terminal(p)));
    let computed = match (sticky, input.failure) {
        (Some(phase), _) => phase,
        (None, Some(failure)) if input.terminated => {
            status.reason = Some(failure.reason.clone());
            status.message = Some(failure.message.clone());
            "Failed".to_owned()
        }
        (None, _) => phase::phase(input, status).to_owned(),
    };
    let phase = match (
        pod::is_terminal(&computed),
        input.terminated,
        pod::is_terminal(&old),
    ) {
        // Not final while something may still run.
        (true, false, false) => old,
        (false, true, _) => "Failed".to_owned(),
        (true | false, _, _) => computed,
    };
    status.phase = Some(phase);
}

/// The names of `specs` that are not in `known`, for messages.
fn missing<'a>(specs: &[Spec<'a>], known: &BTreeSet<&str>) -> Vec<&'a str> {
    specs
        .iter()
        .map(|s| s.name)
        .filter(|name| !known.contains(name))
        .collect()
}

#[cfg(test)]
mod tests;
