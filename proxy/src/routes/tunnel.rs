//! The way to the pods of nodes that share no link with this one: VXLAN.
//!
//! A packet's destination is in the route itself (a lightweight tunnel), and the frames are of VXLAN-GPE, so they carry packets
//! without an Ethernet header: there are no hardware addresses to be told from node to node, and nothing is kept beside the routes.
//! Each family goes through the nodes' addresses of the same family. The device has an address of the node's own pod ranges, their
//! first one, which no pod gets: what the node itself sends has it as source, so that answers come back the same way.

use std::net::IpAddr;

use futures::TryStreamExt;
use gantry_proxy_core::Node;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::LinkAttribute;
use rtnetlink::packet_route::route::{
    RouteAttribute, RouteIp6Tunnel, RouteIp6TunnelFlags, RouteIpTunnel, RouteLwTunnelEncap, RouteMessage,
};
use rtnetlink::{Error, Handle, LinkMessageBuilder, LinkVxlan, RouteMessageBuilder};
use rustix::io::Errno;

/// The device.
const NAME: &str = "gantry-tunnel";
/// VXLAN-GPE's of IANA: nodes have to reach each other there over UDP.
const PORT: u16 = 4790;
/// The network's number in each packet; a node takes all.
const NETWORK: u64 = 117;
/// What a packet grows by: IPv6, UDP and VXLAN headers.
const OVERHEAD: u32 = 40 + 8 + 8;
/// Where the link's is not known.
const MTU: u32 = 1500;

/// True if the kernel refused a direct route because its gateway is on no link of this host.
pub(super) fn is_off_link(error: &Error) -> bool {
    is(error, Errno::NETUNREACH) || is(error, Errno::HOSTUNREACH)
}

fn is(error: &Error, errno: Errno) -> bool {
    matches!(error, Error::NetlinkError(message) if message.raw_code() == -errno.raw_os_error())
}

/// A device's number, if it is there.
pub(super) async fn find(handle: &Handle, name: &str) -> Result<Option<u32>, Error> {
    let mut links = handle.link().get().match_name(name).execute();
    match links.try_next().await {
        Ok(link) => Ok(link.map(|link| link.header.index)),
        Err(error) if is(&error, Errno::NODEV) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Makes the device if it is not there, and gives it the addresses of this node.
pub(super) async fn open(handle: &Handle, own: &Node) -> Result<u32, Error> {
    if find(handle, NAME).await?.is_none() {
        let mtu = link_mtu(handle, &own.addresses).await?.unwrap_or(MTU) - OVERHEAD;
        let device = LinkMessageBuilder::<LinkVxlan>::new(NAME)
            .collect_metadata(true)
            .learning(false)
            .gpe()
            .port(PORT)
            .mtu(mtu)
            .up();
        handle.link().add(device.build()).execute().await?;
    }
    let index = find(handle, NAME).await?.ok_or(Error::RequestFailed)?;
    for range in &own.pod_ranges {
        let bits = if range.is_ipv6() { 128 } else { 32 };
        let address = handle.address().add(index, range.network(), bits);
        address.replace().execute().await?;
    }
    Ok(index)
}

/// Deletes it if it is there: no route needs it any more.
pub(super) async fn close(handle: &Handle) -> Result<(), Error> {
    match find(handle, NAME).await? {
        Some(index) => handle.link().del(index).execute().await,
        None => Ok(()),
    }
}

/// The size of packets on the link that has the node's address.
async fn link_mtu(handle: &Handle, addresses: &[IpAddr]) -> Result<Option<u32>, Error> {
    let mut found = handle.address().get().execute();
    let mut index = None;
    while let Some(message) = found.try_next().await? {
        let is_own = |attribute: &AddressAttribute| matches!(attribute, AddressAttribute::Address(ip) if addresses.contains(ip));
        if message.attributes.iter().any(is_own) {
            index.get_or_insert(message.header.index);
        }
    }
    let Some(index) = index else { return Ok(None) };
    let link = handle
        .link()
        .get()
        .match_index(index)
        .execute()
        .try_next()
        .await?;
    let mtu = link
        .iter()
        .flat_map(|link| &link.attributes)
        .find_map(|attribute| match attribute {
            LinkAttribute::Mtu(mtu) => Some(*mtu),
            _ => None,
        });
    Ok(mtu.filter(|mtu| *mtu > OVERHEAD))
}

/// A route through the device to a node.
pub(super) fn through(
    route: RouteMessageBuilder<IpAddr>,
    node: IpAddr,
    device: u32,
) -> RouteMessageBuilder<IpAddr> {
    let route = route.output_interface(device);
    match node {
        IpAddr::V4(node) => {
            route.encap_ip(vec![RouteIpTunnel::Id(NETWORK), RouteIpTunnel::Destination(node)])
        }
        IpAddr::V6(node) => route.encap_ip6(vec![
            RouteIp6Tunnel::Id(NETWORK),
            RouteIp6Tunnel::Destination(node),
            // Without one, UDP over IPv6 is not taken (RFC 8200, section 8.1).
            RouteIp6Tunnel::Flags(RouteIp6TunnelFlags::Checksum),
        ]),
    }
}

/// The node that a route through the device leads to.
pub(super) fn destination(message: &RouteMessage) -> Option<IpAddr> {
    message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Encap(parts) => parts.iter().find_map(|part| match part {
            RouteLwTunnelEncap::Ip(RouteIpTunnel::Destination(ip)) => Some(IpAddr::V4(*ip)),
            RouteLwTunnelEncap::Ip6(RouteIp6Tunnel::Destination(ip)) => Some(IpAddr::V6(*ip)),
            _ => None,
        }),
        _ => None,
    })
}
