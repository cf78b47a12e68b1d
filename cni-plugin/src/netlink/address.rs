//! Addresses of interfaces.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::IpNetwork;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::address::{AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{Netlink, NetlinkError};

impl Netlink {
    /// The addresses of one interface, both families.
    pub(crate) fn addresses(&mut self, index: u32) -> Result<Vec<IpNetwork>, NetlinkError> {
        let mut addresses = self.addresses_of(index, true)?;
        addresses.extend(self.addresses_of(index, false)?);
        Ok(addresses)
    }

    /// The addresses of one interface in one family. Unlike a question for both, it does not take the kernel's routing lock.
    pub(crate) fn addresses_of(&mut self, index: u32, ipv4: bool) -> Result<Vec<IpNetwork>, NetlinkError> {
        let mut message = AddressMessage::default();
        message.header.index = index;
        message.header.family = family(ipv4);
        let answers = self.dump(RouteNetlinkMessage::GetAddress(message), || {
            format!("list the addresses of the interface number {index}")
        })?;
        let addresses = answers.iter().filter_map(|answer| match answer {
            // The index is checked again for kernels that do not filter, the family for those that do not have it.
            RouteNetlinkMessage::NewAddress(address)
                if address.header.index == index && address.header.family == family(ipv4) =>
            {
                read(address)
            }
            _ => None,
        });
        Ok(addresses.collect())
    }

    /// All addresses of this host, of both families.
    pub(crate) fn host_addresses(&mut self) -> Result<HashSet<IpAddr>, NetlinkError> {
        let message = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let answers = self.dump(message, || "list the addresses of the host".to_owned())?;
        let addresses = answers.iter().filter_map(|answer| match answer {
            RouteNetlinkMessage::NewAddress(address) => read(address),
            _ => None,
        });
        Ok(addresses.map(|address| address.ip()).collect())
    }

    /// Adds an address. IPv6 addresses are ours by lease: no duplicate address detection, so no second of waiting.
    pub(crate) fn add_address(&mut self, index: u32, address: IpNetwork) -> Result<(), NetlinkError> {
        let mut message = AddressMessage::default();
        message.header.index = index;
        message.header.prefix_len = address.prefix();
        message.header.scope = AddressScope::Universe;
        message.attributes = vec![
            AddressAttribute::Local(address.ip()),
            AddressAttribute::Address(address.ip()),
        ];
        match address {
            IpNetwork::V4(v4) => {
                message.header.family = AddressFamily::Inet;
                if v4.prefix() < 31 {
                    let broadcast: Ipv4Addr = v4.broadcast();
                    message.attributes.push(AddressAttribute::Broadcast(broadcast));
                }
            }
            IpNetwork::V6(_) => {
                message.header.family = AddressFamily::Inet6;
                message.header.flags = AddressHeaderFlags::Nodad;
            }
        }
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        self.change(RouteNetlinkMessage::NewAddress(message), flags, || {
            format!("add the address {address} to the interface number {index}")
        })
    }
}

impl Netlink {
    /// Removes an address.
    pub(crate) fn remove_address(&mut self, index: u32, address: IpNetwork) -> Result<(), NetlinkError> {
        let mut message = AddressMessage::default();
        message.header.index = index;
        message.header.prefix_len = address.prefix();
        message.header.family = family(address.is_ipv4());
        message.attributes = vec![AddressAttribute::Local(address.ip())];
        self.change(RouteNetlinkMessage::DelAddress(message), 0, || {
            format!("remove the address {address} from the interface number {index}")
        })
    }
}

fn family(ipv4: bool) -> AddressFamily {
    if ipv4 {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    }
}

fn read(message: &AddressMessage) -> Option<IpNetwork> {
    let (mut local, mut address) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Address(ip) => address = Some(*ip),
            _ => {}
        }
    }
    let ip: IpAddr = local.or(address)?;
    IpNetwork::new(ip, message.header.prefix_len).ok()
}
