//! GC: what belongs to none of the valid attachments is removed in DEL's order. A lease has only a digest of its attachment's name, so
//! the daemon is told the addresses.

use std::collections::HashSet;

use crate::announce;
use crate::config::{ConfigError, Network};
use crate::detach;
use crate::error::Failure;
use crate::fault;
use crate::lease::Leases;
use crate::netlink::Netlink;
use crate::owner::Owner;
use crate::ports::{self, Holder};

/// Cleans up after attachments that the runtime no longer knows.
pub(crate) fn run(stdin: &[u8]) -> Result<(), Failure> {
    let network = Network::parse_without_wishes(stdin)?;
    let valid = network
        .valid_attachments
        .as_ref()
        .ok_or_else(|| ConfigError::Invalid {
            field: "cni.dev/valid-attachments",
            why: "GC needs the list; without it every pod would lose its network".to_owned(),
        })?;
    let valid: HashSet<Owner> = valid
        .iter()
        .map(|(container, ifname)| Owner::new(container, ifname))
        .collect();
    let leases = Leases::open_existing(&network.ipam.data_dir, &network.name)?;
    let mut host = Netlink::open()?;
    let own = Holder::network(&network.name);
    ports::remove(|holder| {
        // Of other networks only what is dead.
        let invalid = holder.network == own && !valid.contains(&holder.owner);
        Ok::<_, Failure>(invalid || host.link(&holder.owner.host_ifname())?.is_none())
    })?;
    let Some(mut leases) = leases else {
        return Ok(());
    };
    let held = leases.held()?;
    let stale: Vec<_> = held
        .into_iter()
        .filter(|(holder, _)| !valid.contains(holder))
        .collect();
    for holder in stale.iter().map(|(holder, _)| *holder).collect::<HashSet<_>>() {
        detach::delete(&mut host, &holder.devices())?;
    }
    fault::kill_before("announcement");
    // While nobody else can have these addresses.
    announce::freed(&network, stale.iter().map(|(_, address)| *address));
    leases.retain(|holder| Ok(valid.contains(&holder)))
}
