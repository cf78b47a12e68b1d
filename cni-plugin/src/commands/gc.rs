//! GC: what belongs to none of the valid attachments is removed in DEL's order.

use std::collections::HashSet;

use crate::config::{ConfigError, Network};
use crate::detach;
use crate::error::Failure;
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
    leases.retain(|holder| {
        if valid.contains(&holder) {
            return Ok(true);
        }
        detach::delete(&mut host, &holder.devices())?;
        Ok::<_, Failure>(false)
    })
}
