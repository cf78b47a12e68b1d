//! The steps that lead ports of the host to the pod.

use super::{Step, Wanted};
use crate::lease::Lease;
use crate::ports::{Holder, PodPorts};

/// Last, when the pod can be reached and its veth shows that it lives.
pub(super) fn steps(wanted: &Wanted<'_>, leases: &[Lease]) -> Vec<Step> {
    let holder = || Holder::new(wanted.owner, &wanted.network.name, wanted.container);
    let ports = |lease: &Lease| PodPorts::new(holder(), lease.address, &wanted.network.ports);
    let all: Vec<_> = leases.iter().filter_map(ports).collect();
    let loopback = all.iter().any(PodPorts::serves_loopback);
    let mut steps: Vec<_> = all.into_iter().map(Step::MapPorts).collect();
    // The guard is in the table that the steps before have made.
    steps.extend(loopback.then_some(Step::RouteLoopback));
    steps
}
