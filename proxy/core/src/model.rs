//! Services and endpoint slices, reduced to what decides about packets.
//!
//! Built by the shell at the door; equal values mean that nothing has to be done.

use std::net::IpAddr;
use std::num::{NonZeroU16, NonZeroU32};
use std::sync::Arc;

use ipnetwork::IpNetwork;

/// `namespace/name` of an object. Shared: a service's slices hold the same text.
pub type Key = Arc<str>;

/// A transport protocol that services know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP, the default.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// The protocol's number in an IP header.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// The protocol with this number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            6 => Some(Self::Tcp),
            17 => Some(Self::Udp),
            132 => Some(Self::Sctp),
            _ => None,
        }
    }

    /// The protocol of this name in the API.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "TCP" => Some(Self::Tcp),
            "UDP" => Some(Self::Udp),
            "SCTP" => Some(Self::Sctp),
            _ => None,
        }
    }
}

/// Which endpoints serve a kind of traffic (`internalTrafficPolicy`, `externalTrafficPolicy`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Policy {
    /// Those of the whole cluster.
    #[default]
    Cluster,
    /// Those on this node only.
    Local,
}

/// A service of one address family that is not headless.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// Its ClusterIP in the table's family.
    pub cluster_ip: Option<IpAddr>,
    /// External IPs and the load balancer's IPs (in `VIP` mode) in the table's family.
    pub external_ips: Box<[IpAddr]>,
    /// Who may reach some of them; nothing is restricted without.
    pub restriction: Option<Box<Restriction>>,
    /// For traffic to the ClusterIP.
    pub internal: Policy,
    /// For traffic to node ports and external IPs.
    pub external: Policy,
    /// For how long after its last new connection a client stays with its endpoint, in seconds (`sessionAffinity: ClientIP`).
    pub affinity_secs: Option<NonZeroU32>,
    /// Where load balancers ask for it: `healthCheckNodePort`.
    pub health_check: Option<NonZeroU16>,
    /// What it offers.
    pub ports: Box<[ServicePort]>,
}

/// Source ranges of a load balancer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Restriction {
    /// Its addresses. Node ports and other external IPs are open to everybody.
    pub addresses: Box<[IpAddr]>,
    /// From where they are reached, in the table's family: at least one, disjoint.
    pub ranges: Box<[IpNetwork]>,
}

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name: endpoint slices carry the same, or empty if the service has one port only.
    pub name: Arc<str>,
    /// Its protocol.
    pub protocol: Protocol,
    /// The port on the ClusterIP and the external IPs.
    pub port: NonZeroU16,
    /// The port on node addresses.
    pub node_port: Option<NonZeroU16>,
}

/// A part of a service's endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slice {
    /// Which ports all of them serve.
    pub ports: Box<[Port]>,
    /// Where.
    pub endpoints: Box<[Endpoint]>,
    /// The distinct sets of zones that endpoints are hinted for: few, so that endpoints stay small.
    pub zone_sets: Box<[ZoneSet]>,
}

/// Names of zones.
pub type ZoneSet = Box<[Arc<str>]>;

impl Slice {
    /// The zones of a set, which are counted from 1.
    #[must_use]
    pub fn zone_set(&self, number: NonZeroU16) -> Option<&ZoneSet> {
        self.zone_sets.get(usize::from(number.get()) - 1)
    }

    /// True if what is chosen from it depends on the zone of this node.
    #[must_use]
    pub fn depends_on_zone(&self) -> bool {
        !self.zone_sets.is_empty()
    }
}

/// A port in a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// The name of the service's port that it belongs to.
    pub name: Arc<str>,
    /// Its protocol.
    pub protocol: Protocol,
    /// The port on the endpoint.
    pub port: NonZeroU16,
}

/// An endpoint that is ready, or serves while it terminates. Others never enter the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Its address.
    pub address: IpAddr,
    /// Whether new connections go there by preference.
    pub state: EndpointState,
    /// True if it runs on this node.
    pub local: bool,
    /// For which nodes it is meant.
    pub node_hint: NodeHint,
    /// For which zones it is meant: a set of the slice, see [`Slice::zone_set`].
    pub zones: Option<NonZeroU16>,
}

impl Endpoint {
    /// An endpoint without hints.
    #[must_use]
    pub fn new(address: IpAddr, state: EndpointState, local: bool) -> Self {
        Self {
            address,
            state,
            local,
            node_hint: NodeHint::Nobody,
            zones: None,
        }
    }
}

/// A hint for nodes (`hints.forNodes`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NodeHint {
    /// There is none.
    #[default]
    Nobody,
    /// For other nodes only.
    OtherNodes,
    /// For this node, and perhaps for others.
    ThisNode,
}

/// When an endpoint is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum EndpointState {
    /// Always (also when `publishNotReadyAddresses` makes a slice say so).
    Ready,
    /// Only when no endpoint is ready (KEP-1669).
    ServingTerminating,
}
