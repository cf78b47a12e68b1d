//! What follows from the cluster's nodes: routes to their pods.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;

use crate::families::Family;

/// A node of the cluster, reduced.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Node {
    /// `spec.podCIDRs`.
    pub pod_ranges: Vec<IpNetwork>,
    /// Its addresses of type `InternalIP`, in order; `ExternalIP` ones behind them.
    pub addresses: Vec<IpAddr>,
    /// True if no load balancer should send traffic here any more.
    pub leaving: bool,
    /// Its zone.
    pub zone: Option<Arc<str>>,
}

/// A route to the pods of another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// The pods' range.
    pub to: IpNetwork,
    /// The node's address.
    pub via: IpAddr,
}

impl Node {
    /// The first address of a family.
    #[must_use]
    pub fn primary(&self, family: Family) -> Option<IpAddr> {
        let mut addresses = self.addresses.iter().copied();
        addresses.find(|address| Family::of(*address) == family)
    }
}

/// Routes from node `own` to all others. A range that two nodes claim goes to the first in order of names, and none that touches the
/// own node's ranges is routed away. A node that has addresses of one family only has no way to the other's.
#[must_use]
pub fn routes(nodes: &BTreeMap<Box<str>, Node>, own: &str) -> BTreeSet<Route> {
    let me = nodes.get(own);
    let own_ranges = me.map(|node| node.pod_ranges.as_slice()).unwrap_or_default();
    let has_way = |family| me.is_none_or(|me| me.addresses.is_empty() || me.primary(family).is_some());
    let mut by_range: BTreeMap<IpNetwork, IpAddr> = BTreeMap::new();
    for (_, node) in nodes.iter().filter(|(name, _)| name.as_ref() != own) {
        for range in &node.pod_ranges {
            let Some(via) = node.primary(Family::of(range.ip())) else {
                continue;
            };
            if has_way(Family::of(via)) && !own_ranges.iter().any(|own| overlap(own, range)) {
                by_range.entry(*range).or_insert(via);
            }
        }
    }
    by_range.into_iter().map(|(to, via)| Route { to, via }).collect()
}

fn overlap(a: &IpNetwork, b: &IpNetwork) -> bool {
    a.contains(b.network()) || b.contains(a.network())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(range: &str, address: &str) -> Node {
        Node {
            pod_ranges: vec![range.parse().unwrap()],
            addresses: vec![address.parse().unwrap()],
            ..Node::default()
        }
    }

    #[test]
    fn every_other_node_gets_a_route() {
        let nodes: BTreeMap<Box<str>, Node> = [
            ("me", node("10.244.0.0/24", "192.0.2.1")),
            ("n1", node("10.244.1.0/24", "192.0.2.2")),
            ("n2", node("10.244.1.0/24", "192.0.2.3")),
            ("n3", node("10.244.0.0/16", "192.0.2.4")),
            ("n4", node("fd00::/64", "192.0.2.5")),
            ("n5", Node::default()),
        ]
        .map(|(name, node)| (name.into(), node))
        .into();
        let wanted = Route {
            to: "10.244.1.0/24".parse().unwrap(),
            via: "192.0.2.2".parse().unwrap(),
        };
        assert_eq!(routes(&nodes, "me"), [wanted].into());
    }

    #[test]
    fn each_range_goes_to_the_nodes_address_of_its_family() {
        let dual = |number: u8| Node {
            pod_ranges: vec![
                format!("10.244.{number}.0/24").parse().unwrap(),
                format!("fd00:244:0:{number}::/64").parse().unwrap(),
            ],
            addresses: vec![
                format!("192.0.2.{number}").parse().unwrap(),
                format!("2001:db8::{number}").parse().unwrap(),
            ],
            ..Node::default()
        };
        let mut nodes: BTreeMap<Box<str>, Node> = [("me".into(), dual(1)), ("n2".into(), dual(2))].into();
        let route = |to: &str, via: &str| Route {
            to: to.parse().unwrap(),
            via: via.parse().unwrap(),
        };
        let both = [
            route("10.244.2.0/24", "192.0.2.2"),
            route("fd00:244:0:2::/64", "2001:db8::2"),
        ];
        assert_eq!(routes(&nodes, "me"), both.into());
        nodes.insert("me".into(), node("10.244.1.0/24", "192.0.2.1"));
        assert_eq!(routes(&nodes, "me"), [both[0]].into(), "no IPv6 here");
        nodes.remove("n2");
        assert_eq!(routes(&nodes, "me"), BTreeSet::new(), "the node is gone");
    }
}
