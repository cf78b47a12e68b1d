//! Which endpoints serve a port.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::model::{EndpointState, ServicePort, Slice};
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

/// Chooses the endpoints of a port from a service's slices.
///
/// Ready ones; if there is none, those that still serve while they terminate. Decided for the cluster and for this node separately
/// (KEP-1669; `CategorizeEndpoints` of the reference). An endpoint in two slices counts once, and ready if one of them says so.
pub fn choose<'a>(port: &ServicePort, slices: impl Iterator<Item = &'a Slice>) -> Choice {
    let mut known: BTreeMap<Backend, (EndpointState, bool)> = BTreeMap::new();
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
                let entry = (endpoint.state, endpoint.local);
                known
                    .entry(backend)
                    .and_modify(|old| {
                        if entry.0 < old.0 {
                            *old = entry;
                        }
                    })
                    .or_insert(entry);
            }
        }
    }
    let pick = |only_local: bool| {
        let here = known.iter().filter(|(_, (_, local))| *local || !only_local);
        let best = here.clone().map(|(_, (state, _))| *state).min();
        here.filter(|(_, (state, _))| Some(*state) == best)
            .map(|(b, _)| *b)
            .collect::<BTreeSet<_>>()
    };
    let (cluster, local) = (pick(false), pick(true));
    let on_this_node = known
        .iter()
        .filter(|(backend, (_, is_local))| {
            *is_local && (cluster.contains(backend) || local.contains(backend))
        })
        .map(|(backend, _)| backend.address)
        .collect();
    Choice {
        cluster,
        local,
        on_this_node,
    }
}
