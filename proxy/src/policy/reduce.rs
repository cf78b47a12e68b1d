//! From the API's objects to the core's words. The API server has validated them; what cannot be understood all the same allows
//! nothing, and a word in the log says so.

use std::collections::BTreeSet;

use gantry_kubeapi::slim;
use gantry_policy_core::{Key, Labels, NamedPort, Peer, Pod, Policy, PortMatch, Requirement, Rule, Selector};
use ipnetwork::IpNetwork;
use k8s_openapi::api::networking::v1::{
    NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer, NetworkPolicyPort,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::Resource;
use tracing::warn;

use crate::reduce::protocol;

/// An object's namespace and name.
pub(super) fn key(object: &impl Resource<DynamicType = ()>) -> Key {
    let meta = object.meta();
    let text = |part: &Option<String>| part.clone().unwrap_or_default();
    Key::new(&text(&meta.namespace), &text(&meta.name))
}

/// `None` for pods that have no address of their own: on the host's network, or ended, or not started on another node.
pub(super) fn pod(object: &slim::Pod, node_name: &str) -> Option<Pod> {
    let ended = matches!(object.phase.as_deref(), Some("Succeeded" | "Failed"));
    let addresses: BTreeSet<_> = object.pod_ips.iter().filter_map(|ip| ip.parse().ok()).collect();
    let local = object.node_name.as_deref() == Some(node_name);
    if object.host_network || ended || addresses.is_empty() && !local {
        return None;
    }
    Some(Pod {
        labels: labels(&object.labels),
        uid: object.uid.as_deref().filter(|_| local).unwrap_or_default().into(),
        addresses,
        local,
        ports: object.ports.iter().filter_map(named_port).collect(),
    })
}

fn named_port(port: &slim::ContainerPort) -> Option<NamedPort> {
    Some(NamedPort {
        name: port.name.as_deref()?.into(),
        protocol: protocol(port.protocol.as_deref())?,
        number: u16::try_from(port.container_port).ok()?,
    })
}

/// An object's labels.
pub(super) fn labels<'a, I>(pairs: I) -> Labels
where
    I: IntoIterator<Item = (&'a String, &'a String)>,
{
    pairs
        .into_iter()
        .map(|(key, value)| (key.as_str().into(), value.as_str().into()))
        .collect()
}

/// What a policy says.
pub(super) fn policy(object: &NetworkPolicy) -> Policy {
    let Some(spec) = &object.spec else {
        return Policy::default();
    };
    // Without types it is one of ingress, and of egress if it has such rules.
    let is_of = |name: &str, default: bool| match &spec.policy_types {
        Some(types) if !types.is_empty() => types.iter().any(|one| one == name),
        Some(_) | None => default,
    };
    let egress_rules = spec.egress.as_deref().unwrap_or_default();
    let ingress = is_of("Ingress", true).then(|| {
        let rules = spec.ingress.as_deref().unwrap_or_default().iter();
        rules
            .map(|rule: &NetworkPolicyIngressRule| self::rule(rule.from.as_deref(), rule.ports.as_deref()))
            .collect()
    });
    let egress = is_of("Egress", !egress_rules.is_empty()).then(|| {
        let rules = egress_rules.iter();
        rules
            .map(|rule: &NetworkPolicyEgressRule| self::rule(rule.to.as_deref(), rule.ports.as_deref()))
            .collect()
    });
    let all = LabelSelector::default();
    let subjects = selector(spec.pod_selector.as_ref().unwrap_or(&all));
    let meta = &object.metadata;
    match (subjects, flatten(ingress), flatten(egress)) {
        (Ok(subjects), Ok(ingress), Ok(egress)) => Policy {
            subjects,
            ingress,
            egress,
        },
        (subjects, ingress, egress) => {
            let what = [
                subjects.as_ref().err(),
                ingress.as_ref().err(),
                egress.as_ref().err(),
            ];
            let what = what
                .into_iter()
                .flatten()
                .map(|misfit| misfit.0.as_str())
                .collect::<Vec<_>>()
                .join(", ");
            warn!(namespace = ?meta.namespace, name = ?meta.name, what, "a network policy that is not understood allows nothing");
            Policy {
                subjects: subjects.unwrap_or_default(),
                ingress: Some(Vec::new()),
                egress: is_of("Egress", !egress_rules.is_empty()).then(Vec::new),
            }
        }
    }
}

/// Something that the API server does not take.
#[derive(Debug)]
struct Misfit(String);

fn flatten(rules: Option<Result<Vec<Rule>, Misfit>>) -> Result<Option<Vec<Rule>>, Misfit> {
    rules.transpose()
}

fn rule(peers: Option<&[NetworkPolicyPeer]>, ports: Option<&[NetworkPolicyPort]>) -> Result<Rule, Misfit> {
    Ok(Rule {
        peers: peers
            .unwrap_or_default()
            .iter()
            .map(peer)
            .collect::<Result<_, _>>()?,
        ports: ports
            .unwrap_or_default()
            .iter()
            .map(port)
            .collect::<Result<_, _>>()?,
    })
}

fn peer(peer: &NetworkPolicyPeer) -> Result<Peer, Misfit> {
    if let Some(block) = &peer.ip_block {
        let network = |text: &String| -> Result<IpNetwork, Misfit> {
            text.parse().map_err(|_| Misfit(format!("range {text:?}")))
        };
        return Ok(Peer::Block {
            cidr: network(&block.cidr)?,
            except: block
                .except
                .iter()
                .flatten()
                .map(network)
                .collect::<Result<_, _>>()?,
        });
    }
    let selected = |label_selector: &Option<LabelSelector>| label_selector.as_ref().map(selector).transpose();
    Ok(Peer::Pods {
        namespaces: selected(&peer.namespace_selector)?,
        pods: selected(&peer.pod_selector)?.unwrap_or_default(),
    })
}

fn port(port: &NetworkPolicyPort) -> Result<PortMatch, Misfit> {
    let misfit = || Misfit(format!("port {port:?}"));
    let protocol = protocol(port.protocol.as_deref()).ok_or_else(misfit)?;
    let number = |number: i32| u16::try_from(number).map_err(|_| misfit());
    Ok(match &port.port {
        None => PortMatch::All(protocol),
        Some(IntOrString::String(name)) => PortMatch::Named(protocol, name.as_str().into()),
        Some(IntOrString::Int(first)) => {
            let (first, last) = (number(*first)?, number(port.end_port.unwrap_or(*first))?);
            if last < first {
                return Err(misfit());
            }
            PortMatch::Range(protocol, first, last)
        }
    })
}

fn selector(object: &LabelSelector) -> Result<Selector, Misfit> {
    let equal = object.match_labels.iter().flatten();
    let equal = equal.map(|(key, value)| {
        Ok(Requirement::In(
            key.as_str().into(),
            [value.as_str().into()].into(),
        ))
    });
    let expressions = object.match_expressions.iter().flatten().map(requirement);
    equal
        .chain(expressions)
        .collect::<Result<Vec<_>, _>>()
        .map(Selector::from_iter)
}

fn requirement(object: &LabelSelectorRequirement) -> Result<Requirement, Misfit> {
    let key = object.key.as_str().into();
    let values = || {
        object
            .values
            .iter()
            .flatten()
            .map(|value| value.as_str().into())
            .collect()
    };
    match object.operator.as_str() {
        "In" => Ok(Requirement::In(key, values())),
        "NotIn" => Ok(Requirement::NotIn(key, values())),
        "Exists" => Ok(Requirement::Exists(key)),
        "DoesNotExist" => Ok(Requirement::Absent(key)),
        other => Err(Misfit(format!("operator {other:?}"))),
    }
}

#[cfg(test)]
mod tests;
