//! Whether the node takes a pod that it has not started yet (`pkg/kubelet/lifecycle/predicate.go`).
//!
//! In: the pod, the node, the pods that the node has taken. Out: yes, or the reason of the rejection: the pod fails
//! with it, and its controller makes another one. Pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm, Pod, Taint, Toleration};

use crate::{
    machine::Failure,
    pod,
    resources::{Amounts, pod_requests},
};

/// What admission looks at in a node.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NodeView {
    /// `metadata.name`.
    pub name: String,
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// `spec.taints`.
    pub taints: Vec<Taint>,
    /// `status.allocatable`, without `pods`.
    pub allocatable: Amounts,
    /// How many pods it takes.
    pub max_pods: u32,
}

/// A host port in use: protocol, address (`0.0.0.0` is all) and number.
type HostPort = (String, String, i32);

/// Says whether `node`, which has taken `others`, takes `pod`.
///
/// # Errors
/// The reason and the message of the pod's failure, the first in the reference's order.
pub fn admit(pod: &Pod, node: &NodeView, others: &[&Pod]) -> Result<(), Failure> {
    let os = pod
        .spec
        .as_ref()
        .and_then(|s| s.os.as_ref())
        .map_or("linux", |os| os.name.as_str());
    if os != "linux" {
        let message = "Failed to admit pod as the OS field doesn't match node OS".to_owned();
        return Err(Failure {
            reason: "PodOSNotSupported".to_owned(),
            message,
        });
    }
    fits(pod, node, others)?;
    if !matches_node(pod, node) {
        return Err(predicate(
            "NodeAffinity",
            "node(s) didn't match Pod's node affinity/selector",
        ));
    }
    let bound_to = pod
        .spec
        .as_ref()
        .and_then(|s| s.node_name.as_deref())
        .unwrap_or_default();
    if !bound_to.is_empty() && bound_to != node.name {
        return Err(predicate(
            "NodeName",
            "node(s) didn't match the requested node name",
        ));
    }
    let wanted = host_ports(pod);
    if others
        .iter()
        .flat_map(|other| host_ports(other))
        .any(|used| wanted.iter().any(|w| conflict(w, &used)))
    {
        return Err(predicate(
            "NodePorts",
            "node(s) didn't have free ports for the requested pod ports",
        ));
    }
    let tolerations = pod
        .spec
        .as_ref()
        .and_then(|s| s.tolerations.as_deref())
        .unwrap_or_default();
    let executes = node.taints.iter().filter(|t| t.effect == "NoExecute");
    if executes
        .into_iter()
        .any(|taint| !tolerations.iter().any(|t| tolerates(t, taint)))
    {
        return Err(predicate(
            "TaintToleration",
            "node(s) had taints that the pod didn't tolerate",
        ));
    }
    Ok(())
}

fn predicate(name: &str, problem: &str) -> Failure {
    Failure {
        reason: name.to_owned(),
        message: format!("Predicate {name} failed: {problem}"),
    }
}

fn fits(pod: &Pod, node: &NodeView, others: &[&Pod]) -> Result<(), Failure> {
    let too_little = |resource: &str, requested: i64, used: i64, capacity: i64| {
        let message = format!(
            "Node didn't have enough resource: {resource}, requested: {requested}, used: {used}, capacity: {capacity}"
        );
        Err(Failure {
            reason: format!("OutOf{resource}"),
            message,
        })
    };
    let taken = i64::try_from(others.len()).unwrap_or(i64::MAX);
    if taken + 1 > i64::from(node.max_pods) {
        return too_little("pods", 1, taken, i64::from(node.max_pods));
    }
    let requests = |pod: &Pod| pod.spec.as_ref().map(pod_requests).unwrap_or_default();
    let wanted = requests(pod);
    let in_use: Vec<Amounts> = others.iter().map(|other| requests(other)).collect();
    // Resources that the node does not know are the cluster's business.
    for (name, capacity) in &node.allocatable {
        let amount = |amounts: &Amounts| {
            let quantity = amounts.get(name);
            quantity.map_or(0, |q| if name == "cpu" { q.milli_value() } else { q.value() })
        };
        let (requested, used) = (amount(&wanted), in_use.iter().map(amount).sum::<i64>());
        let capacity = if name == "cpu" {
            capacity.milli_value()
        } else {
            capacity.value()
        };
        if requested > 0 && requested > capacity.saturating_sub(used) {
            return too_little(name, requested, used, capacity);
        }
    }
    Ok(())
}

/// `nodeSelector` and required node affinity.
fn matches_node(pod: &Pod, node: &NodeView) -> bool {
    let Some(spec) = &pod.spec else { return true };
    let selector = spec
        .node_selector
        .iter()
        .flatten()
        .all(|(k, v)| node.labels.get(k) == Some(v));
    let affinity = spec.affinity.as_ref().and_then(|a| a.node_affinity.as_ref());
    let required = affinity.and_then(|a| a.required_during_scheduling_ignored_during_execution.as_ref());
    selector && required.is_none_or(|r| r.node_selector_terms.iter().any(|term| term_matches(term, node)))
}

/// A term without requirements matches nothing.
fn term_matches(term: &NodeSelectorTerm, node: &NodeView) -> bool {
    let fields = BTreeMap::from([("metadata.name".to_owned(), node.name.clone())]);
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let match_fields = term.match_fields.as_deref().unwrap_or_default();
    (!expressions.is_empty() || !match_fields.is_empty())
        && expressions.iter().all(|r| requirement_matches(r, &node.labels))
        && match_fields.iter().all(|r| requirement_matches(r, &fields))
}

fn requirement_matches(requirement: &NodeSelectorRequirement, labels: &BTreeMap<String, String>) -> bool {
    let value = labels.get(&requirement.key);
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = value.is_some_and(|v| values.contains(v));
    let compare = |holds: fn(i64, i64) -> bool| {
        let left = value.and_then(|v| v.parse().ok());
        let right = values.first().and_then(|v| v.parse().ok());
        left.zip(right).is_some_and(|(left, right)| holds(left, right))
    };
    match requirement.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compare(|left, right| left > right),
        "Lt" => compare(|left, right| left < right),
        _ => false,
    }
}

fn host_ports(pod: &Pod) -> BTreeSet<HostPort> {
    let spec = pod.spec.iter();
    let sidecars = spec.clone().flat_map(|s| s.init_containers.iter().flatten());
    let sidecars = sidecars.filter(|c| c.restart_policy.as_deref() == Some("Always"));
    let containers = spec.flat_map(|s| &s.containers).chain(sidecars);
    let ports = containers.flat_map(|c| c.ports.iter().flatten());
    let host_network = pod::host_network(pod);
    ports
        .filter_map(|p| {
            let number = p
                .host_port
                .or(host_network.then_some(p.container_port))
                .filter(|n| *n > 0)?;
            let protocol = p.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
            let address = p
                .host_ip
                .clone()
                .filter(|ip| !ip.is_empty())
                .unwrap_or_else(|| "0.0.0.0".to_owned());
            Some((protocol, address, number))
        })
        .collect()
}

fn conflict(a: &HostPort, b: &HostPort) -> bool {
    let all = |address: &str| address == "0.0.0.0";
    a.0 == b.0 && a.2 == b.2 && (a.1 == b.1 || all(&a.1) || all(&b.1))
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let same =
        |own: &Option<String>, other: &str| own.as_deref().is_none_or(|own| own.is_empty() || own == other);
    let value = taint.value.as_deref().unwrap_or_default();
    let by_value = match toleration.operator.as_deref().unwrap_or("Equal") {
        "Exists" => true,
        _ => toleration.value.as_deref().unwrap_or_default() == value,
    };
    same(&toleration.effect, &taint.effect) && same(&toleration.key, &taint.key) && by_value
}

#[cfg(test)]
mod tests;
