//! One file for each command of the specification.

use crate::error::Failure;
use crate::lease::Leases;
use crate::netlink::Netlink;
use crate::owner::Owner;
use crate::ports;

pub(crate) mod add;
pub(crate) mod check;
pub(crate) mod del;
pub(crate) mod gc;
pub(crate) mod loopback;
pub(crate) mod status;
pub(crate) mod version;

/// Frees the leases whose veth is gone: of killed ADDs, and of namespaces that vanished without DEL. `own` is kept.
fn reclaim(host: &mut Netlink, leases: &mut Leases, own: Option<Owner>) -> Result<(), Failure> {
    leases.retain(|holder| {
        if Some(holder) == own || host.link(&holder.host_ifname())?.is_some() {
            return Ok(true);
        }
        // Unlike the veth these do not go with the namespace.
        ports::remove(|port| Ok::<_, Failure>(port.owner == holder))?;
        host.delete_link(&holder.ifb_name())?;
        Ok(false)
    })
}
