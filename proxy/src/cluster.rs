//! The cluster's nodes and service ranges as they are now, and what the table and the routes make of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use gantry_proxy_core::facts::disjoint;
use gantry_proxy_core::nodes::routes;
use gantry_proxy_core::{Node, NodeFacts, Route};
use ipnetwork::IpNetwork;

use tracing::{info, warn};

use crate::config::{DetectLocal, NodePortRule, Settings};
use crate::watch::{Input, Other};

/// Nodes and service ranges.
#[derive(Debug, Default)]
pub struct Cluster {
    nodes: BTreeMap<Box<str>, Node>,
    ranges: BTreeMap<Box<str>, Vec<IpNetwork>>,
    /// Objects that a list in progress has not mentioned yet.
    unlisted: BTreeMap<Other, BTreeSet<Box<str>>>,
    listed: BTreeSet<Other>,
    /// Our addresses when they were last remarked on.
    remarked: Option<Option<Vec<IpAddr>>>,
}

impl Cluster {
    /// Takes an input in; those of other kinds are given back.
    pub fn apply(&mut self, input: Input) -> Option<Input> {
        match input {
            Input::Node(name, node) => {
                self.mention(Other::Node, &name);
                set(&mut self.nodes, name, node);
            }
            Input::ServiceRanges(name, ranges) => {
                self.mention(Other::ServiceRange, &name);
                set(&mut self.ranges, name, ranges);
            }
            Input::ListStart(kind) => {
                let all = match kind {
                    Other::Node => self.nodes.keys().cloned().collect(),
                    Other::ServiceRange => self.ranges.keys().cloned().collect(),
                };
                self.unlisted.insert(kind, all);
            }
            Input::ListEnd(kind) => {
                for name in self.unlisted.remove(&kind).unwrap_or_default() {
                    match kind {
                        Other::Node => drop(self.nodes.remove(&name)),
                        Other::ServiceRange => drop(self.ranges.remove(&name)),
                    }
                }
                self.listed.insert(kind);
            }
            other @ (Input::Object(_) | Input::Triggered(_)) => return Some(other),
        }
        None
    }

    /// True once nodes and service ranges were listed in full.
    #[must_use]
    pub fn is_listed(&self) -> bool {
        [Other::Node, Other::ServiceRange]
            .iter()
            .all(|kind| self.listed.contains(kind))
    }

    /// This node.
    #[must_use]
    pub fn own<'a>(&'a self, settings: &Settings) -> Option<&'a Node> {
        self.nodes.get(settings.node_name.as_str())
    }

    /// What the table of a family has to know. `local` are the addresses of the host's interfaces.
    #[must_use]
    pub fn facts(&self, settings: &Settings, local: &[IpAddr], ipv6: bool) -> NodeFacts {
        let own = self.own(settings);
        let of_family = |network: &&IpNetwork| network.is_ipv6() == ipv6;
        let pods: Vec<IpNetwork> = match &settings.detect_local {
            DetectLocal::ClusterCidr(ranges) => ranges.clone(),
            DetectLocal::NodeCidr => own.map(|node| node.pod_ranges.clone()).unwrap_or_default(),
            DetectLocal::Bridge(_) | DetectLocal::InterfacePrefix(_) => Vec::new(),
        };
        NodeFacts {
            pod_ranges: disjoint(pods.iter().filter(of_family).copied()),
            service_ranges: disjoint(self.ranges.values().flatten().filter(of_family).copied()),
            node_addresses: self.node_addresses(settings, local, ipv6),
            node_ip: self.primary(settings, ipv6),
            zone: own.and_then(|node| node.zone.clone()),
        }
    }

    /// The node's address; `bindAddress`, when it is one, takes the place of what the Node says.
    fn primary(&self, settings: &Settings, ipv6: bool) -> Option<IpAddr> {
        let bound = settings.bind_address.filter(|ip| ip.is_ipv6() == ipv6);
        bound.or_else(|| self.own(settings)?.primary(ipv6))
    }

    /// Where node ports are served.
    fn node_addresses(&self, settings: &Settings, local: &[IpAddr], ipv6: bool) -> Vec<IpAddr> {
        let here = local
            .iter()
            .filter(|ip| ip.is_ipv6() == ipv6 && !ip.is_loopback());
        let mut addresses: Vec<IpAddr> = match &settings.node_ports {
            NodePortRule::Primary => self.primary(settings, ipv6).into_iter().collect(),
            NodePortRule::Any => here.copied().collect(),
            NodePortRule::Ranges(ranges) => here
                .filter(|ip| ranges.iter().any(|range| range.contains(**ip)))
                .copied()
                .collect(),
        };
        addresses.sort();
        addresses.dedup();
        addresses
    }

    /// Where servers for node ports listen.
    #[must_use]
    pub fn listen_addresses(&self, settings: &Settings, local: &[IpAddr], ipv6: bool) -> Vec<IpAddr> {
        match (&settings.node_ports, ipv6) {
            (NodePortRule::Any, false) => vec![Ipv4Addr::UNSPECIFIED.into()],
            (NodePortRule::Any, true) => vec![Ipv6Addr::UNSPECIFIED.into()],
            (NodePortRule::Primary | NodePortRule::Ranges(_), _) => {
                self.node_addresses(settings, local, ipv6)
            }
        }
    }

    /// Says when the own node appears, changes its addresses or goes.
    pub fn remark(&mut self, settings: &Settings) {
        let node = &settings.node_name;
        let now = self.own(settings).map(|own| own.addresses.clone());
        if self.remarked.as_ref() == Some(&now) {
            return;
        }
        match &now {
            None => warn!(node, "the node is not there; its addresses are not known"),
            Some(addresses) if addresses.is_empty() => warn!(node, "the node has no addresses yet"),
            Some(addresses) => info!(node, ?addresses, "the node's addresses"),
        }
        self.remarked = Some(now);
    }

    /// The routes to other nodes' pods.
    #[must_use]
    pub fn routes(&self, settings: &Settings) -> BTreeSet<Route> {
        routes(&self.nodes, &settings.node_name)
    }

    fn mention(&mut self, kind: Other, name: &str) {
        if let Some(unlisted) = self.unlisted.get_mut(&kind) {
            unlisted.remove(name);
        }
    }
}

fn set<V>(map: &mut BTreeMap<Box<str>, V>, name: Box<str>, value: Option<V>) {
    match value {
        Some(value) => drop(map.insert(name, value)),
        None => drop(map.remove(&name)),
    }
}

#[cfg(test)]
mod tests;
