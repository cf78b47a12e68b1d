//! UDP flows that must not go on: their backend is gone, or they went past a service that exists now.
//!
//! The kernel translates only the first packet of a flow; a UDP client that keeps sending keeps the flow alive, whatever the table
//! says. TCP ends by itself and is left alone (as the reference does).
//!
//! What ends a flow is that its backend no longer serves: neither a policy nor a better endpoint does (`CleanStaleEntries` of the
//! reference). So a backend that lost its slot but still serves, because it terminates slowly, is remembered until it is gone.

use std::collections::BTreeSet;
use std::net::IpAddr;

use crate::chain::Scope;
use crate::diff::{Changes, Op};
use crate::model::Protocol;
use crate::planner::Planner;
use crate::ruleset::{Backend, Element, Front};

/// Flows to be deleted: those to `front` whose replies come from `from`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StaleFlows {
    /// What the client addressed.
    pub front: Front,
    /// Where the flow really goes.
    pub from: IpAddr,
    /// At which port; `None` is any.
    pub port: Option<u16>,
}

/// A UDP flow that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpFlow {
    /// What the client addressed.
    pub to: IpAddr,
    /// At which port.
    pub to_port: u16,
    /// Where the flow really goes: where replies come from.
    pub backend: Backend,
}

/// What has to be remembered between two changes.
#[derive(Clone, Debug, Default)]
pub struct Flows {
    /// Backends that have no slot any more and still serve: flows that they have go on.
    lingering: BTreeSet<(Front, Backend)>,
}

impl Flows {
    /// The flows that `changes` make stale; they are applied, and `planner` has them.
    pub fn stale(&mut self, changes: &Changes, planner: &Planner) -> BTreeSet<StaleFlows> {
        let mut lost = std::mem::take(&mut self.lingering);
        let mut stale = BTreeSet::new();
        // A front that only changes its verdict was there before: nothing went past it.
        let deleted = |op: &Op| match op {
            Op::Delete(Element::Front(front, _)) => Some(*front),
            Op::Delete(_) | Op::Add(_) => None,
        };
        let there_before: BTreeSet<Front> = changes.iter().filter_map(deleted).collect();
        for op in changes.iter() {
            match *op {
                Op::Delete(Element::Slot(front, _, backend)) if front.protocol() == Protocol::Udp => {
                    lost.insert((front, backend));
                }
                Op::Add(Element::Front(front, _))
                    if front.protocol() == Protocol::Udp && !there_before.contains(&front) =>
                {
                    stale.extend(past(front, planner));
                }
                Op::Delete(_) | Op::Add(_) => {}
            }
        }
        for (front, backend) in lost {
            if has_slot(front, backend, planner) {
                continue;
            }
            if serves(front, backend, planner) {
                self.lingering.insert((front, backend));
            } else {
                stale.insert(StaleFlows {
                    front,
                    from: backend.address,
                    port: Some(backend.port),
                });
            }
        }
        stale
    }

    /// Forgets all: every flow is about to be judged by [`is_stale`].
    pub fn forget(&mut self) {
        self.lingering.clear();
    }
}

/// True if a flow is addressed to a service but goes where none of its endpoints serves.
#[must_use]
pub fn is_stale(flow: &UdpFlow, planner: &Planner) -> bool {
    let ruleset = planner.ruleset();
    let at_address = Front::Address(flow.to, Protocol::Udp, flow.to_port);
    let at_node = Front::NodePort(Protocol::Udp, flow.to_port);
    let to_node = ruleset.facts.node_addresses.contains(&flow.to);
    let front = [Some(at_address), to_node.then_some(at_node)]
        .into_iter()
        .flatten()
        .find(|front| ruleset.fronts.contains_key(front));
    front.is_some_and(|front| !serves(front, flow.backend, planner))
}

/// Flows from before a front existed: their packets went to the address itself.
fn past(front: Front, planner: &Planner) -> Vec<StaleFlows> {
    let addresses = match &front {
        Front::Address(address, ..) => std::slice::from_ref(address),
        Front::NodePort(..) => &planner.ruleset().facts.node_addresses,
    };
    let flows = |from: &IpAddr| StaleFlows {
        front,
        from: *from,
        port: None,
    };
    addresses.iter().map(flows).collect()
}

fn has_slot(front: Front, backend: Backend, planner: &Planner) -> bool {
    let owned = planner.ruleset().fronts.get(&front);
    owned.is_some_and(|owned| {
        [Scope::Cluster, Scope::Local]
            .iter()
            .any(|scope| owned.program.slots(*scope).contains(&backend))
    })
}

/// True if a backend is an endpoint of the front's service that takes traffic, chosen or not.
fn serves(front: Front, backend: Backend, planner: &Planner) -> bool {
    let Some(owned) = planner.ruleset().fronts.get(&front) else {
        return false;
    };
    let Some(service) = planner.state().service(&owned.owner) else {
        return false;
    };
    let mut ports = service.ports.iter().filter(|port| {
        port.protocol == front.protocol()
            && match front {
                Front::Address(_, _, number) => port.port.get() == number,
                Front::NodePort(_, number) => port.node_port.is_some_and(|port| port.get() == number),
            }
    });
    ports.any(|port| {
        planner.state().slices(&owned.owner).any(|slice| {
            let has_port = slice
                .ports
                .iter()
                .any(|p| p.name == port.name && p.protocol == port.protocol && p.port.get() == backend.port);
            has_port && slice.endpoints.iter().any(|e| e.address == backend.address)
        })
    })
}

#[cfg(test)]
mod tests;
