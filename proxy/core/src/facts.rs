//! What the table has to know about the cluster's and the node's addresses.

use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;

/// Addresses that are not a service's. All of the table's family.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeFacts {
    /// Sources that keep their address: pods. Disjoint and sorted, see [`disjoint`].
    pub pod_ranges: Vec<IpNetwork>,
    /// Where ClusterIPs come from: unallocated ones are dropped. Disjoint and sorted.
    pub service_ranges: Vec<IpNetwork>,
    /// Addresses on which node ports are served; without effect in a layout that serves them on every local address. Sorted.
    pub node_addresses: Vec<IpAddr>,
    /// This node's own address: load balancers' source ranges that contain it let the node itself through.
    pub node_ip: Option<IpAddr>,
    /// This node's zone: endpoints that are hinted for it are preferred.
    pub zone: Option<Arc<str>>,
}

/// The same set of addresses without a network inside another.
#[must_use]
pub fn disjoint(networks: impl IntoIterator<Item = IpNetwork>) -> Vec<IpNetwork> {
    let mut sorted: Vec<IpNetwork> = networks.into_iter().filter_map(normal).collect();
    sorted.sort_by_key(|network| (network.prefix(), *network));
    let mut kept: Vec<IpNetwork> = Vec::new();
    for network in sorted {
        if !kept.iter().any(|wider| wider.contains(network.ip())) {
            kept.push(network);
        }
    }
    kept.sort();
    kept
}

/// The network with its host bits cleared.
fn normal(network: IpNetwork) -> Option<IpNetwork> {
    IpNetwork::new(network.network(), network.prefix()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nested_and_unclean_networks_are_merged() {
        let parse = |list: &[&str]| {
            list.iter()
                .map(|n| n.parse().unwrap())
                .collect::<Vec<IpNetwork>>()
        };
        let networks = parse(&["10.244.1.0/24", "10.244.0.7/16", "10.96.0.0/12", "10.244.0.0/16"]);
        assert_eq!(disjoint(networks), parse(&["10.96.0.0/12", "10.244.0.0/16"]));
    }
}
