//! UDP flows that no longer go where the table says: a datagram of a known flow never asks the table again.

use std::collections::HashSet;
use std::net::IpAddr;

use gantry_nft::{Conntrack, Flow, OpenError, QueryError};

use super::{Entry, PodPorts, Protocol, plan};

/// Why flows could not be ended. Only new flows are right then; the old ones end when they are idle.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FlowError {
    /// No conntrack socket.
    #[error("cannot ask the kernel for tracked connections")]
    Open(#[source] OpenError),
    /// The kernel did not answer.
    #[error("cannot end UDP flows of host ports")]
    Query(#[source] QueryError),
}

/// Ends flows to the pod's ports on this host (`local` are its addresses) that go elsewhere. `entries` is all that is in
/// the table.
pub(crate) fn end_elsewhere(
    pod: &PodPorts,
    entries: &[Entry],
    local: &HashSet<IpAddr>,
) -> Result<usize, FlowError> {
    if !pod.list.iter().any(|mapping| mapping.protocol == Protocol::Udp) {
        return Ok(0);
    }
    end(pod.address.is_ipv4(), |flow| {
        let here = flow.original_dst.is_loopback() || local.contains(&flow.original_dst);
        here && plan::resolve(entries, flow.original_dst, flow.original_port)
            .is_some_and(|entry| entry.holder.owner == pod.holder.owner && !follows(entry, flow))
    })
}

/// Ends flows that entries sent to pods; they are no longer in the table.
pub(crate) fn end_of(removed: &[Entry], ipv4: bool) -> Result<usize, FlowError> {
    let udp = |entry: &Entry| entry.front().is_some_and(|front| front.protocol == Protocol::Udp);
    if !removed.iter().any(udp) {
        return Ok(0);
    }
    end(ipv4, |flow| removed.iter().any(|entry| follows(entry, flow)))
}

fn follows(entry: &Entry, flow: &Flow) -> bool {
    plan::leads(
        entry,
        (flow.original_dst, flow.original_port),
        (flow.reply_src, flow.reply_port),
    )
}

fn end(ipv4: bool, chosen: impl FnMut(&Flow) -> bool) -> Result<usize, FlowError> {
    let mut conntrack = Conntrack::open().map_err(FlowError::Open)?;
    conntrack
        .delete_chosen_of(!ipv4, Protocol::Udp.number(), chosen)
        .map_err(FlowError::Query)
}
