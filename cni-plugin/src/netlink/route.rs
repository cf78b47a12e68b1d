//! Routes inside a container.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnetwork::IpNetwork;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::route::{
    RouteAttribute, RouteHeader, RouteMessage, RouteMetric, RouteProtocol, RouteScope, RouteType,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};

use super::{Netlink, NetlinkError};
use crate::result::Route;

/// Addresses that are certainly not near: of the documentation (RFC 5737, RFC 3849). Nothing is sent to them.
const OUTSIDE: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1)),
];

impl Netlink {
    /// Adds a route through an interface.
    pub(crate) fn add_route(&mut self, index: u32, route: &Route) -> Result<(), NetlinkError> {
        let mut message = RouteMessage::default();
        message.header = RouteHeader {
            address_family: if route.dst.is_ipv4() {
                AddressFamily::Inet
            } else {
                AddressFamily::Inet6
            },
            destination_prefix_length: route.dst.prefix(),
            table: RouteHeader::RT_TABLE_MAIN,
            protocol: RouteProtocol::Boot,
            scope: route.scope.map_or(RouteScope::Universe, RouteScope::from),
            kind: RouteType::Unicast,
            ..RouteHeader::default()
        };
        message.attributes = vec![RouteAttribute::Oif(index)];
        if route.dst.prefix() != 0 {
            message
                .attributes
                .push(RouteAttribute::Destination(route.dst.ip().into()));
        }
        message
            .attributes
            .extend(route.gw.map(|gateway| RouteAttribute::Gateway(gateway.into())));
        message
            .attributes
            .extend(route.priority.map(RouteAttribute::Priority));
        message.attributes.extend(route.table.map(RouteAttribute::Table));
        let metrics: Vec<_> = route
            .mtu
            .map(RouteMetric::Mtu)
            .into_iter()
            .chain(route.advmss.map(RouteMetric::Advmss))
            .collect();
        if !metrics.is_empty() {
            message.attributes.push(RouteAttribute::Metrics(metrics));
        }
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        self.change(RouteNetlinkMessage::NewRoute(message), flags, || match route.gw {
            Some(gateway) => format!("add the route to {} through {gateway}", route.dst),
            None => format!("add the route to {}", route.dst),
        })
    }

    /// The number of the interface that leads to the outside, if one does.
    pub(crate) fn uplink(&mut self) -> Result<Option<u32>, NetlinkError> {
        for outside in OUTSIDE {
            let mut message = RouteMessage::default();
            let (family, bits) = if outside.is_ipv4() {
                (AddressFamily::Inet, 32)
            } else {
                (AddressFamily::Inet6, 128)
            };
            message.header.address_family = family;
            message.header.destination_prefix_length = bits;
            message.attributes = vec![RouteAttribute::Destination(outside.into())];
            let answers = self.get(RouteNetlinkMessage::GetRoute(message), || {
                "find the way to the outside".to_owned()
            });
            match answers {
                Ok(answers) => {
                    let found = answers.iter().find_map(|answer| match answer {
                        // Where the host itself has such an address, lo is no way to the outside.
                        RouteNetlinkMessage::NewRoute(route) if route.header.kind != RouteType::Local => {
                            out_interface(route)
                        }
                        _ => None,
                    });
                    if found.is_some() {
                        return Ok(found);
                    }
                }
                // No route, or no such family in this kernel.
                Err(error) if error.kernel_reason().is_some() => {}
                Err(error) => return Err(error),
            }
        }
        Ok(None)
    }

    /// The destinations and next hops of all routes of this namespace.
    pub(crate) fn routes(&mut self, ipv4: bool) -> Result<Vec<(IpNetwork, Option<IpAddr>)>, NetlinkError> {
        let mut message = RouteMessage::default();
        message.header.address_family = if ipv4 {
            AddressFamily::Inet
        } else {
            AddressFamily::Inet6
        };
        let answers = self.dump(RouteNetlinkMessage::GetRoute(message), || {
            "list the routes".to_owned()
        })?;
        let routes = answers.iter().filter_map(|answer| match answer {
            RouteNetlinkMessage::NewRoute(route) => read(route, ipv4),
            _ => None,
        });
        Ok(routes.collect())
    }
}

fn out_interface(message: &RouteMessage) -> Option<u32> {
    message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    })
}

fn read(message: &RouteMessage, ipv4: bool) -> Option<(IpNetwork, Option<IpAddr>)> {
    let unspecified: IpAddr = if ipv4 {
        IpAddr::from([0; 4])
    } else {
        IpAddr::from([0; 16])
    };
    let (mut destination, mut gateway) = (unspecified, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => destination = ip_of(address)?,
            RouteAttribute::Gateway(address) => gateway = ip_of(address),
            _ => {}
        }
    }
    let destination = IpNetwork::new(destination, message.header.destination_prefix_length).ok()?;
    Some((destination, gateway))
}

fn ip_of(address: &netlink_packet_route::route::RouteAddress) -> Option<IpAddr> {
    use netlink_packet_route::route::RouteAddress;
    match address {
        RouteAddress::Inet(ip) => Some((*ip).into()),
        RouteAddress::Inet6(ip) => Some((*ip).into()),
        _ => None,
    }
}
