//! STATUS: does the host have what every ADD needs?
//!
//! Whether an address is free is not asked, as by the stock plugins. To runtimes a failure means that the network is not ready: the
//! node would not be either, and after five minutes its pods, which lack nothing, would be evicted. ADD tells of a full range in
//! the events of the pod that gets no address.

use crate::config::Network;
use crate::error::{Failure, Unready};
use crate::lease::Leases;
use crate::sysctl::Settings;

/// Succeeds when ADD can work.
pub(crate) fn run(stdin: &[u8]) -> Result<(), Failure> {
    let network = Network::parse_without_wishes(stdin)?;
    Leases::open(&network.ipam.data_dir, &network.name).map_err(Unready::State)?;
    let mut sets = network.ipam.sets.into_iter();
    if let Some(range) = sets.find(|set| set.0.iter().any(|range| range.subnet.is_ipv6()))
        && Settings::open("net/ipv6".to_owned())?.is_none()
    {
        return Err(Unready::NoIpv6 { range }.into());
    }
    Ok(())
}
