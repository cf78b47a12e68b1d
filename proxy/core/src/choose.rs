//! Which endpoints serve a port.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::model::{Endpoint, EndpointState, NodeHint, ServicePort, Slice};
use crate::ruleset::Backend;

/// The usable endpoints of a port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// For the Cluster policy.
    pub cluster: BTreeSet<Backend>,
    /// For the Local policy: those on this node.
    pub local: BTreeSet<Backend>,
    /// Addresses of all chosen endpoints that run on this node.
    pub on_this_node: BTreeSet<IpAddr>,
}

impl Choice {
    /// True if there is no endpoint anywhere: connections are refused, not dropped.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cluster.is_empty() && self.local.is_empty()
    }
}

/// What is known of a backend.
#[derive(Clone, Copy, Debug)]
struct Known {
    state: EndpointState,
    local: bool,
    /// Hinted for nodes, and for this one.
    node: NodeHint,
    /// Hinted for zones (`None` if not), and for this node's.
    zone: Option<bool>,
}

/// Chooses the endpoints of a port from a service's slices. `zone` is this node's, or empty.
///
/// Ready ones, by hints if they are complete (see [`hinted`]); if there is none, those that still serve while they terminate.
/// Decided for the cluster and for this node separately (KEP-1669; `CategorizeEndpoints` of the reference). An endpoint in two slices
/// counts once, and ready if one of them says so.
pub fn choose<'a>(port: &ServicePort, slices: impl Iterator<Item = &'a Slice>, zone: &str) -> Choice {
    let mut known: BTreeMap<Backend, Known> = BTreeMap::new();
    for slice in slices {
        let matching = slice
            .ports
            .iter()
            .filter(|p| p.name == port.name && p.protocol == port.protocol);
        for target in matching {
            for endpoint in &slice.endpoints {
                let backend = Backend {
                    address: endpoint.address,
                    port: target.port.get(),
                };
                let entry = Known::new(endpoint, slice, zone);
                known
                    .entry(backend)
                    .and_modify(|old| {
                        if entry.state < old.state {
                            *old = entry;
                        }
                    })
                    .or_insert(entry);
            }
        }
    }
    let (cluster, local) = (hinted(best(&known, false)), best(&known, true));
    let names = |chosen: Vec<(&Backend, &Known)>| -> BTreeSet<Backend> {
        chosen.into_iter().map(|(backend, _)| *backend).collect()
    };
    let (cluster, local) = (names(cluster), names(local));
    let on_this_node = known
        .iter()
        .filter(|(backend, known)| known.local && (cluster.contains(backend) || local.contains(backend)))
        .map(|(backend, _)| backend.address)
        .collect();
    Choice {
        cluster,
        local,
        on_this_node,
    }
}

impl Known {
    fn new(endpoint: &Endpoint, slice: &Slice, zone: &str) -> Self {
        let zones = endpoint.zones.and_then(|set| slice.zone_set(set));
        Self {
            state: endpoint.state,
            local: endpoint.local,
            node: endpoint.node_hint,
            zone: zones.map(|zones| zones.iter().any(|name| name.as_ref() == zone)),
        }
    }
}

/// Those of the best state that there is.
fn best(known: &BTreeMap<Backend, Known>, only_local: bool) -> Vec<(&Backend, &Known)> {
    let here = known.iter().filter(|(_, known)| known.local || !only_local);
    let state = here.clone().map(|(_, known)| known.state).min();
    here.filter(|(_, known)| Some(known.state) == state).collect()
}

/// Those that are hinted for this node, else for its zone, provided that each of them has such a hint and one matches; else all.
/// Only ready endpoints have hints that count (KEP-2433, KEP-3015; `topologyModeFromHints` of the reference).
fn hinted<'a>(mut chosen: Vec<(&'a Backend, &'a Known)>) -> Vec<(&'a Backend, &'a Known)> {
    let every = |has: fn(&Known) -> bool| chosen.iter().all(|(_, known)| has(known));
    let any = |has: fn(&Known) -> bool| chosen.iter().any(|(_, known)| has(known));
    let for_node: fn(&Known) -> bool = |known| known.node == NodeHint::ThisNode;
    let for_zone: fn(&Known) -> bool = |known| known.zone == Some(true);
    if !every(|known| known.state == EndpointState::Ready) {
        return chosen;
    }
    if every(|known| known.node != NodeHint::Nobody) && any(for_node) {
        chosen.retain(|(_, known)| for_node(known));
    } else if every(|known| known.zone.is_some()) && any(for_zone) {
        chosen.retain(|(_, known)| for_zone(known));
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Port, Protocol};
    use std::num::NonZeroU16;
    use std::sync::Arc;

    /// An endpoint 10.0.0.`last`, hinted for a node and zones.
    type Hinted<'a> = (u8, EndpointState, NodeHint, &'a [&'a str]);

    const READY: EndpointState = EndpointState::Ready;
    const LEAVING: EndpointState = EndpointState::ServingTerminating;

    fn chosen(zone: &str, endpoints: &[Hinted<'_>]) -> Vec<u8> {
        let number = |n| NonZeroU16::new(n).unwrap();
        let port = ServicePort {
            name: Arc::from(""),
            protocol: Protocol::Tcp,
            port: number(80),
            node_port: None,
        };
        let zones = endpoints
            .iter()
            .map(|(.., zones)| zones.iter().map(|z| (*z).into()).collect());
        let numbered = (1..).zip(endpoints);
        let endpoints = numbered.map(|(set, (last, state, node_hint, zones))| Endpoint {
            address: [10, 0, 0, *last].into(),
            state: *state,
            local: true,
            node_hint: *node_hint,
            zones: NonZeroU16::new(set).filter(|_| !zones.is_empty()),
        });
        let slice = Slice {
            ports: [Port {
                name: Arc::from(""),
                protocol: Protocol::Tcp,
                port: number(8080),
            }]
            .into(),
            endpoints: endpoints.collect(),
            zone_sets: zones.collect(),
        };
        let choice = choose(&port, [&slice].into_iter(), zone);
        assert!(
            choice.local.is_superset(&choice.cluster),
            "hints are for the Cluster policy only"
        );
        let last = |b: &Backend| match b.address {
            IpAddr::V4(ip) => ip.octets()[3],
            IpAddr::V6(_) => 0,
        };
        choice.cluster.iter().map(last).collect()
    }

    #[test]
    fn complete_hints_that_match_choose() {
        use NodeHint::{Nobody, OtherNodes, ThisNode};
        let (a, b, both): (&[&str], &[&str], &[&str]) = (&["a"], &["b"], &["a", "b"]);
        let all = [1, 2, 3];
        let zones = |third: &'static [&'static str]| {
            [
                (1, READY, Nobody, a),
                (2, READY, Nobody, both),
                (3, READY, Nobody, third),
            ]
        };
        assert_eq!(chosen("a", &zones(&["b"])), [1, 2]);
        assert_eq!(chosen("b", &zones(&["b"])), [2, 3]);
        assert_eq!(chosen("c", &zones(&["b"])), all, "none for this zone");
        assert_eq!(chosen("", &zones(&["b"])), all, "a node without a zone");
        assert_eq!(chosen("a", &zones(&[])), all, "one without hints");
        let nodes = |third| {
            [
                (1, READY, ThisNode, b),
                (2, READY, OtherNodes, a),
                (3, READY, third, a),
            ]
        };
        assert_eq!(chosen("a", &nodes(OtherNodes)), [1], "the node before the zone");
        assert_eq!(chosen("a", &nodes(Nobody)), [2, 3], "one without: then the zone");
        let elsewhere = [(1, READY, OtherNodes, b), (2, READY, OtherNodes, a)];
        assert_eq!(chosen("a", &elsewhere), [2], "none for this node: then the zone");
        let leaving = [
            (1, READY, Nobody, a),
            (2, READY, Nobody, b),
            (3, LEAVING, Nobody, &[][..]),
        ];
        assert_eq!(chosen("a", &leaving), [1], "only ready ones count");
        let only_leaving = [(1, LEAVING, Nobody, a), (2, LEAVING, Nobody, b)];
        assert_eq!(chosen("a", &only_leaving), [1, 2], "no hints without a ready one");
    }
}
