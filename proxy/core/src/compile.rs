//! From one service and its slices to the programs of its fronts.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use ipnetwork::IpNetwork;

use crate::chain::{Chain, Scope, Target};
use crate::choose::{Choice, choose};
use crate::facts::NodeFacts;
use crate::model::{Policy, Service, ServicePort, Slice};
use crate::place::place;
use crate::ruleset::{Backend, Front, Masquerade, Program, Verdict};

/// What is known of earlier slots: the backends of a front's scope in slot order.
pub trait Slots {
    /// The backends of a front in slot order; empty if there are none.
    fn slots(&self, front: Front, scope: Scope) -> &[Backend];
}

/// Nothing is known: slots are given in order of address.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoSlots;

impl Slots for NoSlots {
    fn slots(&self, _: Front, _: Scope) -> &[Backend] {
        &[]
    }
}

/// Compiles a service: one program for each front. A front that two ports claim belongs to the first of them.
pub fn compile<'a>(
    service: &Service,
    slices: impl Iterator<Item = &'a Slice> + Clone,
    facts: &NodeFacts,
    previous: &impl Slots,
) -> Vec<(Front, Program)> {
    let zone = facts.zone.as_deref().unwrap_or_default();
    let mut programs: Vec<(Front, Program)> = Vec::new();
    for port in &service.ports {
        let choice = choose(port, slices.clone(), zone);
        let backends = Placed::new(service, port, &choice, previous);
        for (front, kind) in fronts(service, port) {
            if !programs.iter().any(|(taken, _)| *taken == front) {
                let sources = sources(front, service, facts.node_ip);
                let program = backends.program(front, kind, service);
                programs.push((front, Program { sources, ..program }));
            }
        }
    }
    programs
}

/// What kind of traffic a front takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Traffic {
    Internal,
    External,
}

/// The fronts of a port.
fn fronts(service: &Service, port: &ServicePort) -> impl Iterator<Item = (Front, Traffic)> {
    let at = move |address: &IpAddr| Front::Address(*address, port.protocol, port.port.get());
    let internal = service
        .cluster_ip
        .iter()
        .map(move |ip| (at(ip), Traffic::Internal));
    let external = service
        .external_ips
        .iter()
        .map(move |ip| (at(ip), Traffic::External));
    let node_port = port
        .node_port
        .map(|node_port| (Front::NodePort(port.protocol, node_port.get()), Traffic::External));
    internal.chain(external).chain(node_port)
}

/// Who may reach a front; empty is everybody.
fn sources(front: Front, service: &Service, node_ip: Option<IpAddr>) -> Arc<[IpNetwork]> {
    let (Front::Address(address, ..), Some(restriction)) = (front, &service.restriction) else {
        return Arc::default();
    };
    if !restriction.addresses.contains(&address) {
        return Arc::default();
    }
    let node_may = node_ip.is_some_and(|ip| restriction.ranges.iter().any(|range| range.contains(ip)));
    // Where the load balancer's address is one of this node's too, the node's own packets to it come from it.
    let vips = restriction.addresses.iter().filter(|_| node_may);
    let vips = vips.filter(|vip| !restriction.ranges.iter().any(|range| range.contains(**vip)));
    restriction
        .ranges
        .iter()
        .copied()
        .chain(vips.map(|vip| IpNetwork::from(*vip)))
        .collect()
}

/// A port's backends in their slots, shared by its fronts.
struct Placed {
    cluster: Arc<[Backend]>,
    local: Arc<[Backend]>,
    hairpins: Arc<[IpAddr]>,
    nowhere: bool,
}

impl Placed {
    fn new(service: &Service, port: &ServicePort, choice: &Choice, previous: &impl Slots) -> Self {
        let keep = |scope: Scope, wanted: &BTreeSet<Backend>| -> Arc<[Backend]> {
            let known = fronts(service, port)
                .map(|(front, _)| previous.slots(front, scope))
                .find(|slots| !slots.is_empty())
                .unwrap_or_default();
            place(known, wanted.clone()).into()
        };
        Self {
            cluster: keep(Scope::Cluster, &choice.cluster),
            local: keep(Scope::Local, &choice.local),
            hairpins: choice.on_this_node.iter().copied().collect(),
            nowhere: choice.is_empty(),
        }
    }

    fn program(&self, front: Front, traffic: Traffic, service: &Service) -> Program {
        let policy = match traffic {
            Traffic::Internal => service.internal,
            Traffic::External => service.external,
        };
        let verdict = |policy| self.verdict(front.target(), policy, service.affinity_secs.is_some());
        let (verdict, cluster) = (verdict(policy), verdict(Policy::Cluster));
        // Pods and the host reach an external address as if they came through the ClusterIP of a Cluster policy.
        let near = match (traffic, policy) {
            (Traffic::External, Policy::Local) => Some(cluster),
            (Traffic::External, Policy::Cluster) | (Traffic::Internal, _) => None,
        }
        .filter(|near| *near != verdict);
        let masquerade = match (traffic, policy) {
            (Traffic::Internal, _) => Masquerade::Nobody,
            (Traffic::External, Policy::Cluster) => Masquerade::Everybody,
            (Traffic::External, Policy::Local) => Masquerade::Host,
        };
        let used = |scope: Scope, backends: &Arc<[Backend]>| {
            let draws = |v: Verdict| v.chain().is_some_and(|chain| chain.scope == scope);
            if draws(verdict) || near.is_some_and(draws) {
                Arc::clone(backends)
            } else {
                Arc::default()
            }
        };
        let balances = verdict.chain().or_else(|| near?.chain()).is_some();
        Program {
            verdict,
            near,
            masquerade,
            cluster_ip: traffic == Traffic::Internal,
            cluster: used(Scope::Cluster, &self.cluster),
            local: used(Scope::Local, &self.local),
            hairpins: Arc::clone(&self.hairpins),
            sources: Arc::default(),
            learn: service.affinity_secs.filter(|_| balances),
        }
    }

    fn verdict(&self, target: Target, policy: Policy, sticky: bool) -> Verdict {
        let (scope, backends) = match policy {
            Policy::Cluster => (Scope::Cluster, &self.cluster),
            Policy::Local => (Scope::Local, &self.local),
        };
        match u32::try_from(backends.len()) {
            Ok(0) | Err(_) if self.nowhere => Verdict::Reject,
            Ok(0) | Err(_) => Verdict::Drop,
            Ok(count) => Verdict::Balance(Chain {
                target,
                scope,
                count,
                sticky,
            }),
        }
    }
}
