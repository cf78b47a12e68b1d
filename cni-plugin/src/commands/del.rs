//! DEL: host ports first, then the interface, then its addresses, so that none is given to another pod while it is in use
//! or something leads to it. Succeeds when there is nothing left to delete, as the specification demands. That the daemon
//! does not hear of it is no failure: it finds out when the address has another pod, or when the pod is gone for long.

use crate::announce;
use crate::config::Network;
use crate::detach;
use crate::error::Failure;
use crate::fault;
use crate::lease::Leases;
use crate::netlink::Netlink;
use crate::netlink::link::LinkKind;
use crate::netns::{Namespace, NamespaceError};
use crate::ports;
use crate::request::Attachment;

/// Detaches the container.
pub(crate) fn run(stdin: &[u8], attachment: &Attachment) -> Result<(), Failure> {
    let network = Network::parse_without_wishes(stdin)?;
    let owner = attachment.owner();
    ports::remove(|holder| Ok::<_, Failure>(holder.owner == owner))?;
    let mut host = Netlink::open()?;
    if !detach::delete(&mut host, &owner.devices())? {
        delete_inside(attachment)?;
    }
    fault::kill_before("announcement");
    announce::detached(&network, attachment);
    if let Some(mut leases) = Leases::open_existing(&network.ipam.data_dir, &network.name)? {
        leases.release(owner)?;
    }
    Ok(())
}

/// A veth of this name that ADD of another plugin made, before this one took the network over.
fn delete_inside(attachment: &Attachment) -> Result<(), Failure> {
    let Some(path) = &attachment.netns else {
        return Ok(());
    };
    let netns = match Namespace::open(path) {
        Ok(netns) => netns,
        // The namespace, or what was one, is gone; and with it the interface.
        Err(NamespaceError::Missing { .. } | NamespaceError::NotANamespace { .. }) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    netns.run(|| {
        let mut inside = Netlink::open()?;
        let link = inside.link(&attachment.ifname)?;
        if link.is_some_and(|link| link.kind == LinkKind::Veth) {
            inside.delete_link(&attachment.ifname)?;
        }
        Ok(())
    })?
}
