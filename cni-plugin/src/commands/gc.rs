//! GC: what belongs to none of the valid attachments is removed, the interface first, then its addresses.

use std::collections::HashSet;

use crate::config::{ConfigError, Network};
use crate::detach;
use crate::error::Failure;
use crate::lease::Leases;
use crate::netlink::Netlink;
use crate::owner::Owner;
use crate::request::CniArgs;

/// Cleans up after attachments that the runtime no longer knows.
pub(crate) fn run(stdin: &[u8]) -> Result<(), Failure> {
    let network = Network::parse(stdin, &CniArgs::default())?;
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
    let Some(mut leases) = Leases::open_existing(&network.ipam.data_dir, &network.name)? else {
        return Ok(());
    };
    let mut host = Netlink::open()?;
    leases.retain(|holder| {
        if valid.contains(&holder) {
            return Ok(true);
        }
        detach::delete(&mut host, &holder.devices())?;
        Ok::<_, Failure>(false)
    })
}
