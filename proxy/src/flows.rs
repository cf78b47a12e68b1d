//! Deletes stale UDP flows from the kernel's connection tracking, and no others.

use std::collections::BTreeSet;
use std::net::IpAddr;

use gantry_nft::{Conntrack, Flow, FlowFilter, QueryError};
use gantry_proxy_core::stale::{UdpFlow, is_stale};
use gantry_proxy_core::{Backend, Front, Planner, Protocol, StaleFlows};

/// For each filter the kernel walks its whole table, milliseconds: for more than one, all UDP flows are listed in one walk.
const FEW: usize = 1;

/// Deletes flows; says how many there were.
///
/// # Errors
/// When the kernel cannot be asked; some flows may be deleted then.
pub fn delete(conntrack: &mut Conntrack, stale: &BTreeSet<StaleFlows>) -> Result<usize, QueryError> {
    let mut deleted = 0;
    if stale.len() <= FEW {
        for flows in stale {
            deleted += conntrack.delete_flows(&filter(flows))?;
        }
        return Ok(deleted);
    }
    let meant = |flow: &Flow| {
        let fronts = [
            Front::Address(flow.original_dst, Protocol::Udp, flow.original_port),
            Front::NodePort(Protocol::Udp, flow.original_port),
        ];
        flow.protocol == Protocol::Udp.number()
            && fronts.iter().any(|front| {
                [Some(flow.reply_port), None].iter().any(|port| {
                    stale.contains(&StaleFlows {
                        front: *front,
                        from: flow.reply_src,
                        port: *port,
                    })
                })
            })
    };
    for ipv6 in [false, true] {
        if stale.iter().any(|s| s.from.is_ipv6() == ipv6) {
            deleted += conntrack.delete_chosen_of(ipv6, Protocol::Udp.number(), meant)?;
        }
    }
    Ok(deleted)
}

/// Looks at all flows of a family and deletes the stale ones: for a table that was made anew or found. Says how many there were.
///
/// # Errors
/// When the kernel cannot be asked; some flows may be deleted then.
pub fn reconcile(conntrack: &mut Conntrack, planner: &Planner, ipv6: bool) -> Result<usize, QueryError> {
    let fronts = &planner.ruleset().fronts;
    if !fronts.keys().any(|front| front.protocol() == Protocol::Udp) {
        return Ok(0);
    }
    conntrack.delete_chosen_of(ipv6, Protocol::Udp.number(), |flow| {
        let judged = UdpFlow {
            to: flow.original_dst,
            to_port: flow.original_port,
            backend: Backend {
                address: flow.reply_src,
                port: flow.reply_port,
            },
        };
        flow.protocol == Protocol::Udp.number() && is_stale(&judged, planner)
    })
}

/// What the client addressed; a node port has no address of its own.
fn address(front: Front) -> (Option<IpAddr>, u16) {
    match front {
        Front::Address(address, _, port) => (Some(address), port),
        Front::NodePort(_, port) => (None, port),
    }
}

fn filter(stale: &StaleFlows) -> FlowFilter {
    let (original_dst, original_port) = address(stale.front);
    FlowFilter {
        protocol: Protocol::Udp.number(),
        original_dst,
        original_port,
        reply_src: Some(stale.from),
        reply_port: stale.port,
    }
}
