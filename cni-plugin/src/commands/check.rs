//! CHECK: is everything still as ADD answered it?

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ipnetwork::IpNetwork;

use crate::bandwidth::Bandwidth;
use crate::config::{ConfigError, Network};
use crate::error::Failure;
use crate::lease::Leases;
use crate::netlink::Netlink;
use crate::netlink::link::{Link, LinkKind};
use crate::netns::Namespace;
use crate::owner::Owner;
use crate::ports::table;
use crate::ports::{Front, Holder, PodPorts, PortMappings};
use crate::request::Attachment;
use crate::result::PreviousResult;

/// What is not as it should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckError {
    /// The bridge is missing, or something else.
    #[error("there is no bridge {0:?} any more")]
    NoBridge(String),
    /// The bridge lost its gateway address.
    #[error("the bridge {bridge:?} has no address {address} any more")]
    NoGateway {
        /// The bridge.
        bridge: String,
        /// The address.
        address: IpAddr,
    },
    /// The host's end is missing.
    #[error("the host's end {0:?} of the veth pair is missing")]
    NoHostEnd(String),
    /// The host's end is no port of the bridge.
    #[error("the host's end {port:?} is not a port of the bridge {bridge:?}")]
    NotAPort {
        /// The host's end.
        port: String,
        /// The bridge.
        bridge: String,
    },
    /// `prevResult` does not speak of this interface.
    #[error("prevResult has no interface {ifname:?} in {netns}")]
    NotInResult {
        /// The interface.
        ifname: String,
        /// The namespace.
        netns: PathBuf,
    },
    /// The interface in the container is missing or no veth.
    #[error("the container has no veth {0:?} any more")]
    NoInterface(String),
    /// An interface is down.
    #[error("the interface {0:?} is down")]
    Down(String),
    /// The hardware address changed.
    #[error("the interface {ifname:?} has not the hardware address {mac} any more")]
    OtherMac {
        /// The interface.
        ifname: String,
        /// What it should be.
        mac: String,
    },
    /// An address is missing.
    #[error("the interface {ifname:?} has no address {address} any more")]
    NoAddress {
        /// The interface.
        ifname: String,
        /// The address.
        address: IpNetwork,
    },
    /// A limit of the bandwidth is missing or another one.
    #[error("what {device:?} sends is not limited as configured any more")]
    NotLimited {
        /// The host's end for what the container receives, its ifb for what it sends.
        device: String,
    },
    /// The address is not leased to this container.
    #[error("the address {0} is not leased to this container")]
    NoLease(IpAddr),
    /// A port of the host does not lead to the container.
    #[error("the host port {0} does not lead to this container any more")]
    NoPort(Front),
    /// Answers to some sources do not come back.
    #[error("connections to host ports of {0} are not masqueraded any more")]
    NoMasquerade(IpAddr),
    /// A route is missing.
    #[error("the container has no route to {0} any more")]
    NoRoute(IpNetwork),
}

/// Verifies an attachment.
pub(crate) fn run(stdin: &[u8], attachment: &Attachment, path: &Path) -> Result<(), Failure> {
    let network = Network::parse(stdin, &attachment.args)?;
    let previous = network.previous.as_ref().ok_or(ConfigError::Invalid {
        field: "prevResult",
        why: "CHECK needs the result of ADD".to_owned(),
    })?;
    let not_there = || CheckError::NotInResult {
        ifname: attachment.ifname.clone(),
        netns: path.to_owned(),
    };
    let (index, interface) = previous
        .container_interface(&attachment.ifname, path)
        .ok_or_else(not_there)?;
    let own = |ip: &&crate::result::PreviousIp| ip.interface.is_none_or(|number| number == index);
    let addresses: Vec<IpNetwork> = previous.ips.iter().filter(own).map(|ip| ip.address).collect();
    check_host(&network, attachment, &addresses)?;
    let netns = Namespace::open(path)?;
    netns.run(|| check_inside(attachment, &interface.mac, &addresses, previous))?
}

fn check_host(network: &Network, attachment: &Attachment, addresses: &[IpNetwork]) -> Result<(), Failure> {
    let mut host = Netlink::open()?;
    let name = &network.bridge.name;
    let bridge = host.link(name)?.filter(|link| link.kind == LinkKind::Bridge);
    let bridge = bridge.ok_or_else(|| CheckError::NoBridge(name.clone()))?;
    up(&bridge, name)?;
    if network.bridge.gateway {
        let found = host.addresses(bridge.index)?;
        for range in network.ipam.sets.iter().flat_map(|set| &set.0) {
            let used = addresses
                .iter()
                .any(|address| range.subnet.contains(address.ip()));
            if used && !found.iter().any(|address| address.ip() == range.gateway) {
                return Err(CheckError::NoGateway {
                    bridge: name.clone(),
                    address: range.gateway,
                }
                .into());
            }
        }
    }
    let port = attachment.owner().host_ifname();
    let link = host
        .link(&port)?
        .ok_or_else(|| CheckError::NoHostEnd(port.clone()))?;
    up(&link, &port)?;
    if link.controller != Some(bridge.index) {
        return Err(CheckError::NotAPort {
            port,
            bridge: name.clone(),
        }
        .into());
    }
    check_limits(&mut host, &network.bandwidth, attachment.owner(), link.index)?;
    let mut leases = Leases::open(&network.ipam.data_dir, &network.name)?;
    for address in addresses {
        let mut leased = false;
        for set in &network.ipam.sets {
            leased |= leases.holds(set, attachment.owner(), address.ip())?;
        }
        if !leased {
            return Err(CheckError::NoLease(address.ip()).into());
        }
    }
    let holder = Holder::new(attachment.owner(), &network.name, &attachment.container);
    check_ports(&network.ports, &holder, addresses)
}

fn check_ports(wanted: &PortMappings, holder: &Holder, addresses: &[IpNetwork]) -> Result<(), Failure> {
    for address in addresses {
        let ports = PodPorts::new(holder.clone(), *address, wanted);
        let missing = ports.as_ref().map(table::missing).transpose()?.flatten();
        if let Some(missing) = missing {
            return Err(match missing.front() {
                Some(front) => CheckError::NoPort(front),
                None => CheckError::NoMasquerade(address.ip()),
            }
            .into());
        }
    }
    Ok(())
}

fn check_limits(
    host: &mut Netlink,
    bandwidth: &Bandwidth,
    owner: Owner,
    host_end: u32,
) -> Result<(), Failure> {
    let not_limited = |device: String| CheckError::NotLimited { device };
    if let Some(bucket) = bandwidth.ingress
        && !host.is_shaped(host_end, bucket)?
    {
        return Err(not_limited(owner.host_ifname()).into());
    }
    if let Some(bucket) = bandwidth.egress {
        let name = owner.ifb_name();
        let ifb = host.link(&name)?.ok_or_else(|| not_limited(name.clone()))?;
        up(&ifb, &name)?;
        if !host.is_shaped(ifb.index, bucket)? || !host.is_redirected(host_end, ifb.index)? {
            return Err(not_limited(name).into());
        }
    }
    Ok(())
}

fn check_inside(
    attachment: &Attachment,
    mac: &str,
    addresses: &[IpNetwork],
    previous: &PreviousResult,
) -> Result<(), Failure> {
    let mut inside = Netlink::open()?;
    let ifname = attachment.ifname.clone();
    let link = inside.link(&ifname)?.filter(|link| link.kind == LinkKind::Veth);
    let link = link.ok_or_else(|| CheckError::NoInterface(ifname.clone()))?;
    up(&link, &ifname)?;
    let found_mac = link.mac.map(|mac| mac.to_string()).unwrap_or_default();
    if !mac.is_empty() && !found_mac.eq_ignore_ascii_case(mac) {
        return Err(CheckError::OtherMac {
            ifname,
            mac: mac.to_owned(),
        }
        .into());
    }
    let found = inside.addresses(link.index)?;
    if let Some(address) = addresses.iter().find(|address| !found.contains(address)) {
        return Err(CheckError::NoAddress {
            ifname,
            address: *address,
        }
        .into());
    }
    for ipv4 in [true, false] {
        let mut wanted = previous
            .routes
            .iter()
            .filter(|route| route.dst.is_ipv4() == ipv4)
            .peekable();
        if wanted.peek().is_none() {
            continue;
        }
        let found = inside.routes(ipv4)?;
        let lost = wanted.find(|route| {
            !found
                .iter()
                .any(|(dst, gw)| *dst == route.dst && (route.gw.is_none() || *gw == route.gw))
        });
        if let Some(route) = lost {
            return Err(CheckError::NoRoute(route.dst).into());
        }
    }
    Ok(())
}

fn up(link: &Link, name: &str) -> Result<(), CheckError> {
    if link.up {
        Ok(())
    } else {
        Err(CheckError::Down(name.to_owned()))
    }
}
