//! Whose packets leave the cluster with the node's address: those of this node's pods that go to no pod.

use std::collections::{BTreeMap, BTreeSet};

use ipnetwork::IpNetwork;

use crate::facts::disjoint;
use crate::families::Family;
use crate::nodes::Node;

/// Multicast keeps its source: who joined a group is told by it.
const MULTICAST: [&str; 2] = ["224.0.0.0/4", "ff00::/8"];

/// The two sets that decide; in each, no range is inside another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outward {
    /// Where this node's pods are.
    pub own: BTreeSet<IpNetwork>,
    /// Destinations that see a pod's own address: pods of all nodes, and multicast.
    pub near: BTreeSet<IpNetwork>,
}

/// What leads from one [`Outward`] to another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Steps {
    /// Ranges to take out first.
    pub remove: Outward,
    /// Ranges to put in then.
    pub add: Outward,
}

impl Outward {
    /// For node `own`. `cluster` are the pod ranges of the whole cluster as far as they are configured: nodes that are not known yet
    /// have theirs in them.
    #[must_use]
    pub fn new(nodes: &BTreeMap<Box<str>, Node>, own: &str, cluster: &[IpNetwork]) -> Self {
        let me = nodes.get(own).map(|node| node.pod_ranges.as_slice());
        let multicast = MULTICAST.iter().filter_map(|range| range.parse().ok());
        let pods = nodes.values().flat_map(|node| &node.pod_ranges).chain(cluster);
        Self {
            own: disjoint(me.unwrap_or_default().iter().copied())
                .into_iter()
                .collect(),
            near: disjoint(pods.copied().chain(multicast)).into_iter().collect(),
        }
    }

    /// What of it a family's table holds.
    #[must_use]
    pub fn of(&self, family: Family) -> Self {
        let of = |ranges: &BTreeSet<IpNetwork>| {
            let fits = |range: &&IpNetwork| Family::of(range.ip()) == family;
            ranges.iter().filter(fits).copied().collect()
        };
        Self {
            own: of(&self.own),
            near: of(&self.near),
        }
    }

    /// What makes `self` of what was `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Steps {
        let less = |a: &Self, b: &Self| Self {
            own: a.own.difference(&b.own).copied().collect(),
            near: a.near.difference(&b.near).copied().collect(),
        };
        Steps {
            remove: less(before, self),
            add: less(self, before),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(list: &[&str]) -> Vec<IpNetwork> {
        list.iter().map(|range| range.parse().unwrap()).collect()
    }

    fn set(list: &[&str]) -> BTreeSet<IpNetwork> {
        ranges(list).into_iter().collect()
    }

    fn nodes(list: &[(&str, &[&str])]) -> BTreeMap<Box<str>, Node> {
        let node = |pods: &[&str]| Node {
            pod_ranges: ranges(pods),
            ..Node::default()
        };
        list.iter()
            .map(|(name, pods)| ((*name).into(), node(pods)))
            .collect()
    }

    #[test]
    fn pods_of_all_nodes_are_near() {
        let nodes = nodes(&[
            ("me", &["10.244.1.0/24", "fd00:1::/64"]),
            ("other", &["10.244.2.0/24"]),
            ("new", &[]),
        ]);
        let outward = Outward::new(&nodes, "me", &[]);
        let ipv4 = outward.of(Family::Ipv4);
        assert_eq!(ipv4.own, set(&["10.244.1.0/24"]));
        assert_eq!(ipv4.near, set(&["10.244.1.0/24", "10.244.2.0/24", "224.0.0.0/4"]));
        let ipv6 = outward.of(Family::Ipv6);
        assert_eq!(ipv6.own, set(&["fd00:1::/64"]));
        assert_eq!(ipv6.near, set(&["fd00:1::/64", "ff00::/8"]));
    }

    #[test]
    fn configured_ranges_take_in_those_of_nodes() {
        let nodes = nodes(&[("me", &["10.244.1.0/24"]), ("other", &["10.250.2.0/24"])]);
        let outward = Outward::new(&nodes, "me", &ranges(&["10.244.0.0/16"]));
        assert_eq!(outward.own, set(&["10.244.1.0/24"]));
        assert_eq!(
            outward.of(Family::Ipv4).near,
            set(&["10.244.0.0/16", "10.250.2.0/24", "224.0.0.0/4"])
        );
    }

    #[test]
    fn steps_are_the_difference_and_lead_there() {
        let before = Outward::new(
            &nodes(&[("a", &["10.1.0.0/24"]), ("b", &["10.2.0.0/24"])]),
            "a",
            &[],
        );
        let now = Outward::new(
            &nodes(&[("a", &["10.1.0.0/24"]), ("c", &["10.3.0.0/24"])]),
            "a",
            &[],
        );
        let steps = now.since(&before);
        assert_eq!(steps.remove.near, set(&["10.2.0.0/24"]));
        assert_eq!(steps.add.near, set(&["10.3.0.0/24"]));
        assert!(steps.remove.own.is_empty() && steps.add.own.is_empty());
        assert_eq!(now.since(&now), Steps::default());
    }
}
