//! STATUS: could the next ADD have an address?

use crate::commands::reclaim;
use crate::config::Network;
use crate::error::Failure;
use crate::lease::{LeaseError, Leases};
use crate::netlink::Netlink;

/// Succeeds when ADD can work.
pub(crate) fn run(stdin: &[u8]) -> Result<(), Failure> {
    let network = Network::parse_without_wishes(stdin)?;
    let mut host = Netlink::open()?;
    let mut leases = Leases::open(&network.ipam.data_dir, &network.name)?;
    for set in &network.ipam.sets {
        if leases.has_free(set)? {
            continue;
        }
        reclaim(&mut host, &mut leases, None)?;
        if !leases.has_free(set)? {
            let (range, network) = (set.to_string(), network.name);
            return Err(Failure::Unavailable(LeaseError::Exhausted { range, network }));
        }
    }
    Ok(())
}
