//! Deletes stale UDP flows from the kernel's connection tracking, and no others.

use std::collections::BTreeSet;
use std::net::IpAddr;

use gantry_nft::{Conntrack, FlowFilter, QueryError};
use gantry_proxy_core::{Front, Protocol, StaleFlows};

/// Each deletion walks the kernel's whole table. For more than this many it is listed once instead, and only what is there deleted.
const FEW: usize = 16;

/// Deletes flows.
///
/// # Errors
/// When the kernel cannot be asked; some flows may be deleted then.
pub fn delete(conntrack: &mut Conntrack, mut stale: BTreeSet<StaleFlows>) -> Result<(), QueryError> {
    if stale.len() > FEW {
        let udp = Protocol::Udp.number();
        for ipv6 in [false, true] {
            if !stale.iter().any(|s| s.from.is_ipv6() == ipv6) {
                continue;
            }
            let present: BTreeSet<(u16, IpAddr)> = conntrack
                .flows(ipv6)?
                .iter()
                .filter(|flow| flow.protocol == udp)
                .map(|flow| (flow.original_port, flow.reply_src))
                .collect();
            stale.retain(|s| s.from.is_ipv6() != ipv6 || present.contains(&(address(s.front).1, s.from)));
        }
    }
    stale
        .iter()
        .try_for_each(|flows| conntrack.delete_flows(&filter(flows)))
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
