//! What ADD has to do, as a list of steps, decided without touching anything.
//!
//! Input: the configuration, the leases, what is there on the host. Output: steps in order and the result to print. Steps
//! on what all pods share (bridge, forwarding, masquerade) happen only if needed, may meet another ADD that was faster,
//! and stay when a later step fails: they are as right then as before. Steps on what belongs to the pod carry their undo.

use std::path::Path;

use ipnetwork::IpNetwork;

use crate::bandwidth::Bucket;
use crate::config::{Bridge, Network};
use crate::error::BridgeMismatch;
use crate::lease::Lease;
use crate::masquerade::Masquerade;
use crate::netlink::link::{Link, LinkKind};
use crate::owner::{Mac, Owner};
use crate::ports::PodPorts;
use crate::result::{Interface, Ip, Outcome, Route};

mod ports;
mod routes;

/// The kernel's MTU for Ethernet, in bytes.
const DEFAULT_MTU: u32 = 1500;

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    /// Make the bridge.
    CreateBridge { mac: Mac },
    /// Keep hosts on the bridge from configuring ours (CVE-2020-10749); before the bridge is up.
    RefuseAdvertisements,
    /// Bring the bridge up; a new one gets its MTU (bytes).
    RaiseBridge { promiscuous: bool, mtu: Option<u32> },
    /// Take an address of somebody else from the bridge, because the configuration says so.
    RemoveAddress(IpNetwork),
    /// Give the bridge a gateway address.
    AddGateway(IpNetwork),
    /// Let the host forward.
    Forward { ipv4: bool },
    /// Hide pods behind the node's address.
    Masquerade(Masquerade),
    /// Make the veth pair: one end a port of the bridge, the other one in the pod.
    CreateVeth {
        host_name: String,
        host_mac: Mac,
        inner_mac: Mac,
        mtu: u32,
    },
    /// Set how the bridge treats the port.
    SetPort {
        host_name: String,
        hairpin: bool,
        isolated: bool,
    },
    /// Make the device that what the pod sends is queued in.
    CreateIfb { name: String, mac: Mac, mtu: u32 },
    /// Limit what leaves a device.
    Shape { device: String, bucket: Bucket },
    /// Send what arrives at one device through another.
    Redirect { from: String, to: String },
    /// Set up the pod's end; only from here on packets pass.
    ConfigurePod {
        addresses: Vec<IpNetwork>,
        routes: Vec<Route>,
    },
    /// Lead ports of the host to the pod, in one address family.
    MapPorts(PodPorts),
    /// Let the answers to 127.0.0.1 come back through the bridge; the table of ports guards it from others.
    RouteLoopback,
}

/// How a step is taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Undo {
    /// Delete this interface, and with it its peer and all that hangs on both.
    DeleteLink(String),
    /// Lead no port to the pod any more, in one address family.
    UnmapPorts { owner: Owner, ipv4: bool },
}

impl Step {
    /// How to take it back; `None` for what is shared and for what goes with the veth.
    pub(crate) fn undo(&self) -> Option<Undo> {
        match self {
            Self::CreateVeth { host_name: name, .. } | Self::CreateIfb { name, .. } => {
                Some(Undo::DeleteLink(name.clone()))
            }
            Self::MapPorts(ports) => Some(Undo::UnmapPorts {
                owner: ports.holder.owner,
                ipv4: ports.address.is_ipv4(),
            }),
            Self::CreateBridge { .. }
            | Self::RefuseAdvertisements
            | Self::RaiseBridge { .. }
            | Self::RemoveAddress(_)
            | Self::AddGateway(_)
            | Self::Forward { .. }
            | Self::Masquerade(_)
            | Self::SetPort { .. }
            | Self::Shape { .. }
            | Self::Redirect { .. }
            | Self::ConfigurePod { .. }
            | Self::RouteLoopback => None,
        }
    }
}

/// What is wanted: a valid configuration and an attachment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted<'a> {
    /// The configuration.
    pub(crate) network: &'a Network,
    /// The attachment's key.
    pub(crate) owner: Owner,
    /// The container's identifier.
    pub(crate) container: &'a str,
    /// The interface's name inside.
    pub(crate) ifname: &'a str,
    /// The namespace, for the result.
    pub(crate) netns: &'a Path,
}

/// What is there: the device with the bridge's name and its addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BridgeFacts {
    /// The device.
    pub(crate) link: Link,
    /// Its addresses.
    pub(crate) addresses: Vec<IpNetwork>,
}

/// What is there on the host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct HostFacts {
    /// The bridge, or what has its name.
    pub(crate) bridge: Option<BridgeFacts>,
    /// The MTU in bytes of the way to the outside; only known when there is no bridge yet.
    pub(crate) uplink_mtu: Option<u32>,
    /// All tables of the network are as they should be.
    pub(crate) masqueraded: bool,
}

/// Steps and result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    /// What to do, in order.
    pub(crate) steps: Vec<Step>,
    /// What to print when all is done.
    pub(crate) outcome: Outcome,
}

/// Plans an ADD.
pub(crate) fn plan(wanted: &Wanted<'_>, leases: &[Lease], facts: &HostFacts) -> Result<Plan, BridgeMismatch> {
    let bridge = facts.bridge.as_ref();
    let settings = &wanted.network.bridge;
    let gateways: Vec<IpNetwork> = leases
        .iter()
        .filter(|_| settings.gateway)
        .filter_map(gateway_of)
        .collect();
    let host_mac = wanted.owner.host_mac();
    let pod_mac = leases
        .first()
        .map_or(host_mac, |lease| Mac::for_ip(lease.address.ip()));
    let pod = Pod {
        host_name: wanted.owner.host_ifname(),
        host_mac,
        inner_mac: wanted.network.mac.unwrap_or(pod_mac),
        mtu: settings
            .mtu
            .or(bridge.map(|facts| facts.link.mtu))
            .or(facts.uplink_mtu)
            .unwrap_or(DEFAULT_MTU),
        routes: routes::all(wanted.network, leases),
    };
    // With a gateway the bridge's hardware address follows from it, so pods never see it change.
    let bridge_mac = gateways
        .first()
        .map_or(host_mac, |gateway| Mac::for_ip(gateway.ip()));
    let mut steps = match bridge {
        None => new_bridge(settings, &gateways, bridge_mac, pod.mtu),
        Some(facts) => fit_bridge(settings, &gateways, facts)?,
    };
    steps.extend(forwarding(&gateways));
    if !facts.masqueraded {
        steps.extend(masquerade(wanted.network).into_iter().map(Step::Masquerade));
    }
    steps.extend(pod_steps(wanted, &pod, leases));
    steps.extend(ports::steps(wanted, leases));
    let (bridge_mac, bridge_mtu) = bridge.map_or((Some(bridge_mac), pod.mtu), |facts| {
        (facts.link.mac, facts.link.mtu)
    });
    let mut interfaces = vec![
        interface(&settings.name, bridge_mac, bridge_mtu, None),
        interface(&pod.host_name, Some(pod.host_mac), pod.mtu, None),
        interface(wanted.ifname, Some(pod.inner_mac), pod.mtu, Some(wanted.netns)),
    ];
    if wanted.network.bandwidth.egress.is_some() {
        let (name, mac) = (wanted.owner.ifb_name(), wanted.owner.ifb_mac());
        interfaces.push(interface(&name, Some(mac), pod.mtu, None));
    }
    let ip = |lease: &Lease| Ip {
        interface: 2,
        address: lease.address,
        gateway: Some(lease.gateway),
    };
    let ips = leases.iter().map(ip).collect();
    let outcome = Outcome {
        interfaces,
        ips,
        routes: pod.routes,
        dns: wanted.network.dns.clone(),
    };
    Ok(Plan { steps, outcome })
}

/// The pod's own values, used in steps and result.
struct Pod {
    host_name: String,
    host_mac: Mac,
    inner_mac: Mac,
    /// Bytes.
    mtu: u32,
    routes: Vec<Route>,
}

fn forwarding(gateways: &[IpNetwork]) -> impl Iterator<Item = Step> {
    let uses = |ipv4: bool| gateways.iter().any(|gateway| gateway.is_ipv4() == ipv4);
    [true, false]
        .into_iter()
        .filter(move |ipv4| uses(*ipv4))
        .map(|ipv4| Step::Forward { ipv4 })
}

/// The tables of a network that hide its pods.
pub(crate) fn masquerade(network: &Network) -> Vec<Masquerade> {
    let Some(near) = &network.unmasqueraded else {
        return Vec::new();
    };
    let ranges = network.ipam.sets.iter().flat_map(|set| &set.0);
    let subnets: Vec<_> = ranges.map(|range| range.subnet).collect();
    Masquerade::tables(&network.name, &subnets, near)
}

fn pod_steps(wanted: &Wanted<'_>, pod: &Pod, leases: &[Lease]) -> Vec<Step> {
    let network = wanted.network;
    let Pod {
        host_name,
        host_mac,
        inner_mac,
        mtu,
        routes,
    } = pod;
    let (host_mac, inner_mac, mtu) = (*host_mac, *inner_mac, *mtu);
    let mut steps = vec![Step::CreateVeth {
        host_name: host_name.clone(),
        host_mac,
        inner_mac,
        mtu,
    }];
    let (hairpin, isolated) = (network.bridge.hairpin, network.bridge.isolated);
    steps.push(Step::SetPort {
        host_name: host_name.clone(),
        hairpin,
        isolated,
    });
    steps.extend(shaping_steps(network, wanted.owner, pod));
    let addresses = leases.iter().map(|lease| lease.address).collect();
    steps.push(Step::ConfigurePod {
        addresses,
        routes: routes.clone(),
    });
    steps
}

/// The pod's end is still down: no packet passes before its limit.
fn shaping_steps(network: &Network, owner: Owner, pod: &Pod) -> Vec<Step> {
    let mut steps = Vec::new();
    if let Some(bucket) = network.bandwidth.ingress {
        let device = pod.host_name.clone();
        steps.push(Step::Shape { device, bucket });
    }
    if let Some(bucket) = network.bandwidth.egress {
        let (name, mac, mtu) = (owner.ifb_name(), owner.ifb_mac(), pod.mtu);
        let (device, from, to) = (name.clone(), pod.host_name.clone(), name.clone());
        steps.push(Step::CreateIfb { name, mac, mtu });
        steps.push(Step::Shape { device, bucket });
        steps.push(Step::Redirect { from, to });
    }
    steps
}

fn new_bridge(settings: &Bridge, gateways: &[IpNetwork], mac: Mac, mtu: u32) -> Vec<Step> {
    let raise = Step::RaiseBridge {
        promiscuous: settings.promiscuous,
        mtu: Some(mtu),
    };
    let mut steps = vec![Step::CreateBridge { mac }, Step::RefuseAdvertisements, raise];
    steps.extend(gateways.iter().copied().map(Step::AddGateway));
    steps
}

/// Uses a bridge that is there, if it fits.
fn fit_bridge(
    settings: &Bridge,
    gateways: &[IpNetwork],
    facts: &BridgeFacts,
) -> Result<Vec<Step>, BridgeMismatch> {
    let promiscuous = settings.promiscuous;
    if facts.link.kind != LinkKind::Bridge {
        return Err(BridgeMismatch::NotABridge {
            name: settings.name.clone(),
        });
    }
    let mut steps = Vec::new();
    if !facts.link.up {
        steps.push(Step::RefuseAdvertisements);
    }
    if !facts.link.up || (promiscuous && !facts.link.promiscuous) {
        steps.push(Step::RaiseBridge {
            promiscuous,
            mtu: None,
        });
    }
    for wanted in gateways {
        if facts.addresses.contains(wanted) {
            continue;
        }
        let foreign = facts.addresses.iter();
        for found in foreign.filter(|found| conflicts(found, wanted, gateways)) {
            if !settings.force_address {
                return Err(BridgeMismatch::OtherAddress {
                    name: settings.name.clone(),
                    found: *found,
                    wanted: *wanted,
                });
            }
            steps.push(Step::RemoveAddress(*found));
        }
        steps.push(Step::AddGateway(*wanted));
    }
    Ok(steps)
}

/// As the stock plugin: one IPv4 subnet on a bridge, and IPv6 subnets that do not overlap.
fn conflicts(found: &IpNetwork, wanted: &IpNetwork, gateways: &[IpNetwork]) -> bool {
    if gateways.contains(found) || found.is_ipv4() != wanted.is_ipv4() {
        return false;
    }
    found.is_ipv4() || found.contains(wanted.ip()) || wanted.contains(found.ip())
}

fn gateway_of(lease: &Lease) -> Option<IpNetwork> {
    IpNetwork::new(lease.gateway, lease.address.prefix()).ok()
}

fn interface(name: &str, mac: Option<Mac>, mtu: u32, netns: Option<&Path>) -> Interface {
    Interface {
        name: name.to_owned(),
        mac: mac.map(|mac| mac.to_string()).unwrap_or_default(),
        mtu: Some(mtu),
        sandbox: netns.map(|path| path.to_string_lossy().into_owned()),
    }
}

#[cfg(test)]
mod tests;
