//! The cluster's nodes and service ranges as they are now, and what the table and the routes make of them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use gantry_proxy_core::facts::disjoint;
use gantry_proxy_core::families::{self, Configured, Misfit};
use gantry_proxy_core::nodes::routes;
use gantry_proxy_core::{Families, Family, Node, NodeFacts, Outward, Route, Unlisted};
use ipnetwork::IpNetwork;

use tracing::{info, warn};

use crate::config::{DetectLocal, NodePortRule, Settings};
use crate::watch::{Input, Other};

/// Nodes and service ranges.
#[derive(Debug, Default)]
pub struct Cluster {
    nodes: BTreeMap<Box<str>, Node>,
    ranges: BTreeMap<Box<str>, Vec<IpNetwork>>,
    unlisted: Unlisted<Other, Box<str>>,
    listed: BTreeSet<Other>,
    /// Our addresses when they were last remarked on.
    remarked: Option<Option<Vec<IpAddr>>>,
}

impl Cluster {
    /// Takes an input in; those of other kinds are given back.
    pub fn apply(&mut self, input: Input) -> Option<Input> {
        match input {
            Input::Node(name, node) => {
                self.unlisted.mention(&Other::Node, &name);
                set(&mut self.nodes, name, node);
            }
            Input::ServiceRanges(name, ranges) => {
                self.unlisted.mention(&Other::ServiceRange, &name);
                set(&mut self.ranges, name, ranges);
            }
            Input::ListStart(kind) => {
                let all = match kind {
                    Other::Node => self.nodes.keys().cloned().collect(),
                    Other::ServiceRange => self.ranges.keys().cloned().collect(),
                };
                self.unlisted.start(kind, all);
            }
            Input::ListEnd(kind) => {
                for name in self.unlisted.end(&kind) {
                    match kind {
                        Other::Node => drop(self.nodes.remove(&name)),
                        Other::ServiceRange => drop(self.ranges.remove(&name)),
                    }
                }
                self.listed.insert(kind);
            }
            other @ (Input::Object(_) | Input::Triggered(..)) => return Some(other),
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
    pub fn facts(&self, settings: &Settings, local: &[IpAddr], family: Family) -> NodeFacts {
        let own = self.own(settings);
        let of_family = |network: &&IpNetwork| network.is_ipv6() == family.is_ipv6();
        let pods: Vec<IpNetwork> = match &settings.detect_local {
            DetectLocal::ClusterCidr(ranges) => ranges.clone(),
            DetectLocal::NodeCidr => own.map(|node| node.pod_ranges.clone()).unwrap_or_default(),
            DetectLocal::Bridge(_) | DetectLocal::InterfacePrefix(_) => Vec::new(),
        };
        NodeFacts {
            pod_ranges: disjoint(pods.iter().filter(of_family).copied()),
            service_ranges: disjoint(self.ranges.values().flatten().filter(of_family).copied()),
            node_addresses: self.node_addresses(settings, local, family),
            node_ip: self.primary(settings, family),
            zone: own.and_then(|node| node.zone.clone()),
        }
    }

    /// The node's address; `bindAddress`, when it is one, takes the place of what the Node says.
    fn primary(&self, settings: &Settings, family: Family) -> Option<IpAddr> {
        let bound = settings.bind_address.filter(|ip| Family::of(*ip) == family);
        bound.or_else(|| self.own(settings)?.primary(family))
    }

    /// Where node ports are served.
    fn node_addresses(&self, settings: &Settings, local: &[IpAddr], family: Family) -> Vec<IpAddr> {
        let here = local
            .iter()
            .filter(|ip| Family::of(**ip) == family && !ip.is_loopback());
        let primary = self.primary(settings, family);
        let mut addresses: Vec<IpAddr> = match (settings.node_ports.of(family), primary) {
            (NodePortRule::Primary, Some(primary)) => vec![primary],
            (NodePortRule::Any, _) | (NodePortRule::Primary, None) => here.copied().collect(),
            (NodePortRule::Ranges(ranges), _) => here
                .filter(|ip| ranges.iter().any(|range| range.contains(**ip)))
                .copied()
                .collect(),
        };
        addresses.sort();
        addresses.dedup();
        addresses
    }

    /// True if the host's own addresses decide where node ports of a family are served.
    #[must_use]
    pub fn looks_at_host(&self, settings: &Settings, family: Family) -> bool {
        *settings.node_ports.of(family) != NodePortRule::Primary || self.primary(settings, family).is_none()
    }

    /// Where servers for node ports listen.
    #[must_use]
    pub fn listen_addresses(&self, settings: &Settings, local: &[IpAddr], family: Family) -> Vec<IpAddr> {
        let everywhere = match family {
            Family::Ipv4 => Ipv4Addr::UNSPECIFIED.into(),
            Family::Ipv6 => Ipv6Addr::UNSPECIFIED.into(),
        };
        let primary = self.primary(settings, family);
        match (settings.node_ports.of(family), primary) {
            (NodePortRule::Any, _) | (NodePortRule::Primary, None) => vec![everywhere],
            (NodePortRule::Primary, Some(_)) | (NodePortRule::Ranges(_), _) => {
                self.node_addresses(settings, local, family)
            }
        }
    }

    /// Once this node's addresses are known: compares the configuration with the families that run. What is only worth a warning is
    /// in the answer.
    ///
    /// # Errors
    /// What cannot work.
    pub fn check_families(
        &self,
        settings: &Settings,
        families: Families,
    ) -> Option<Result<Vec<Misfit>, Misfit>> {
        let own = self.own(settings).filter(|node| !node.addresses.is_empty())?;
        let primary = families::primary(settings.bind_address, &own.addresses);
        let mut node_ports = Vec::new();
        for family in Family::ALL {
            match settings.node_ports.of(family) {
                NodePortRule::Primary => {
                    node_ports.extend(self.primary(settings, family).map(IpNetwork::from));
                }
                NodePortRule::Ranges(ranges) => node_ports.extend(ranges),
                NodePortRule::Any => {}
            }
        }
        let configured = Configured {
            cluster_ranges: settings.cluster_ranges(),
            by_cluster: matches!(settings.detect_local, DetectLocal::ClusterCidr(_)),
            node_ranges: (settings.detect_local == DetectLocal::NodeCidr)
                .then_some(own.pod_ranges.as_slice()),
            node_ports: &node_ports,
            healthz: settings.healthz,
            metrics: settings.metrics,
        };
        Some(families::check(families, primary, &configured))
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

    /// Whose packets leave with the node's address.
    #[must_use]
    pub fn outward(&self, settings: &Settings) -> Outward {
        Outward::new(&self.nodes, &settings.node_name, settings.cluster_ranges())
    }

    /// The routes to other nodes' pods, of the families that run.
    #[must_use]
    pub fn routes(&self, settings: &Settings, families: Families) -> BTreeSet<Route> {
        let mut routes = routes(&self.nodes, &settings.node_name);
        routes.retain(|route| families.has(Family::of(route.via)));
        routes
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
