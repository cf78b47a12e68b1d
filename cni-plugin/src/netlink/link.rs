//! Links: the bridge, the veth pair, the bridge's ports.

use std::os::fd::{AsRawFd, BorrowedFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoBridge, InfoBridgePort, InfoData, InfoKind, InfoPortData,
    InfoPortKind, InfoVeth, LinkAttribute, LinkExtentMask, LinkFlags, LinkInfo, LinkMessage, State,
};
use rustix::io::Errno;
use rustix::net::netdevice::name_to_index;

use super::{Netlink, NetlinkError};
use crate::owner::Mac;

/// What we want to know of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    /// The kernel's number in this namespace.
    pub(crate) index: u32,
    /// Hardware address.
    pub(crate) mac: Option<Mac>,
    /// MTU in bytes.
    pub(crate) mtu: u32,
    /// Administratively up.
    pub(crate) up: bool,
    /// Promiscuous by the administrator's wish.
    pub(crate) promiscuous: bool,
    /// The kind of device.
    pub(crate) kind: LinkKind,
    /// The bridge that it is a port of.
    pub(crate) controller: Option<u32>,
}

/// How a link shall be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LinkState {
    /// Administratively up.
    pub(crate) up: bool,
    /// Make it promiscuous; false leaves it as it is.
    pub(crate) promiscuous: bool,
    /// MTU in bytes; `None` leaves it. Set on a bridge after its creation, it stays when ports come and go.
    pub(crate) mtu: Option<u32>,
}

impl LinkState {
    /// Up.
    pub(crate) const UP: Self = Self {
        up: true,
        promiscuous: false,
        mtu: None,
    };
    /// Down.
    pub(crate) const DOWN: Self = Self {
        up: false,
        promiscuous: false,
        mtu: None,
    };
}

/// The kinds of device that matter here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LinkKind {
    Bridge,
    Veth,
    Other,
}

/// A veth pair: one end here, the other in a container's namespace, both down.
#[derive(Debug, Clone)]
pub(crate) struct VethPair<'a> {
    /// Name of the end here.
    pub(crate) host_name: &'a str,
    /// Its hardware address.
    pub(crate) host_mac: Mac,
    /// The bridge that it becomes a port of.
    pub(crate) bridge: u32,
    /// Name of the end inside.
    pub(crate) inner_name: &'a str,
    /// Its hardware address.
    pub(crate) inner_mac: Mac,
    /// The namespace of the inner end.
    pub(crate) netns: BorrowedFd<'a>,
    /// MTU of both ends, in bytes.
    pub(crate) mtu: u32,
}

impl Netlink {
    /// The link with this name, if there is one.
    pub(crate) fn link(&mut self, name: &str) -> Result<Option<Link>, NetlinkError> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        self.look_up(message, || format!("look up the interface {name}"))
    }

    /// The number of the link with this name, without the kernel's routing lock.
    pub(crate) fn index(&self, name: &str) -> Result<u32, NetlinkError> {
        name_to_index(&self.socket, name).map_err(|error| NetlinkError::Refused {
            operation: format!("find the interface {name}"),
            source: error.into(),
        })
    }

    /// Whether there is a link with this name, without the kernel's routing lock. A link that is being deleted is none.
    pub(crate) fn has_link(&self, name: &str) -> bool {
        name_to_index(&self.socket, name) != Err(Errno::NODEV)
    }

    /// The link with this number, if there is one.
    pub(crate) fn link_number(&mut self, index: u32) -> Result<Option<Link>, NetlinkError> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        self.look_up(message, || format!("look up the interface number {index}"))
    }

    fn look_up(
        &mut self,
        mut message: LinkMessage,
        operation: impl Fn() -> String,
    ) -> Result<Option<Link>, NetlinkError> {
        let without_counters = LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]);
        message.attributes.push(without_counters);
        match self.get(RouteNetlinkMessage::GetLink(message), operation) {
            Ok(answers) => Ok(answers.into_iter().find_map(|answer| match answer {
                RouteNetlinkMessage::NewLink(link) => Some(Link::read(&link)),
                _ => None,
            })),
            Err(error) if error.kernel_reason() == Some(Errno::NODEV) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes a bridge, down. Giving it an address of its own keeps it from taking over that of a port.
    ///
    /// It does not listen to who joins which multicast group. Without a querier, which a new bridge has not, it sends all to all
    /// ports anyway, but starts two timers of each port again whenever one comes: more with each pod.
    pub(crate) fn create_bridge(&mut self, name: &str, mac: Mac) -> Result<(), NetlinkError> {
        let mut message = LinkMessage::default();
        message.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::Address(mac.0.to_vec()),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Bridge),
                LinkInfo::Data(InfoData::Bridge(vec![InfoBridge::MulticastSnooping(false)])),
            ]),
        ];
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        self.change(RouteNetlinkMessage::NewLink(message), flags, || {
            format!("create the bridge {name}")
        })
    }

    /// Brings a link up or down, and changes what else is given.
    pub(crate) fn set_link(&mut self, index: u32, state: LinkState) -> Result<(), NetlinkError> {
        let LinkState { up, promiscuous, mtu } = state;
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.header.change_mask = LinkFlags::Up;
        message.header.flags = if up { LinkFlags::Up } else { LinkFlags::empty() };
        if promiscuous {
            message.header.change_mask |= LinkFlags::Promisc;
            message.header.flags |= LinkFlags::Promisc;
        }
        message.attributes.extend(mtu.map(LinkAttribute::Mtu));
        let direction = if up { "up" } else { "down" };
        self.change(RouteNetlinkMessage::NewLink(message), 0, || {
            format!("set the interface number {index} {direction}")
        })
    }

    /// Makes a veth pair across namespaces in one message.
    ///
    /// The end here is said to be dormant until the other one is up. Not knowing, the bridge would let it take part at once, and
    /// no more when it sees that it is down: each time it goes through all of its ports.
    pub(crate) fn create_veth(&mut self, pair: &VethPair<'_>) -> Result<(), NetlinkError> {
        let mut inner = LinkMessage::default();
        inner.attributes = vec![
            LinkAttribute::IfName(pair.inner_name.to_owned()),
            LinkAttribute::Address(pair.inner_mac.0.to_vec()),
            LinkAttribute::Mtu(pair.mtu),
            LinkAttribute::NetNsFd(pair.netns.as_raw_fd()),
        ];
        inner.attributes.extend(ONE_QUEUE);
        let mut outer = LinkMessage::default();
        outer.attributes = vec![
            LinkAttribute::IfName(pair.host_name.to_owned()),
            LinkAttribute::Address(pair.host_mac.0.to_vec()),
            LinkAttribute::Mtu(pair.mtu),
            LinkAttribute::OperState(State::Dormant),
            LinkAttribute::Controller(pair.bridge),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Veth),
                LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(inner))),
            ]),
        ];
        outer.attributes.extend(ONE_QUEUE);
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        self.change(RouteNetlinkMessage::NewLink(outer), flags, || {
            format!("create the veth pair {} and {}", pair.host_name, pair.inner_name)
        })
    }

    /// Sets how the bridge treats a port, spares the port addresses of its own, and brings it up. In this order: the kernel tells
    /// of every change of an interface that is up, and whoever listens goes through all routes.
    pub(crate) fn set_port(&mut self, name: &str, hairpin: bool, isolated: bool) -> Result<(), NetlinkError> {
        let mut message = LinkMessage::default();
        let port = vec![
            InfoBridgePort::HairpinMode(hairpin),
            InfoBridgePort::Isolated(isolated),
        ];
        message.attributes = vec![
            LinkAttribute::IfName(name.to_owned()),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::PortKind(InfoPortKind::Bridge),
                LinkInfo::PortData(InfoPortData::BridgePort(port)),
            ]),
        ];
        let mut change = |message| {
            self.change(RouteNetlinkMessage::NewLink(message), 0, || {
                format!("set up the bridge port {name}")
            })
        };
        let mut silent = message.clone();
        silent.attributes.push(no_own_address());
        match change(silent) {
            // The kernel, or an interface of this MTU, has no IPv6.
            Err(error) if error.kernel_reason() == Some(Errno::AFNOSUPPORT) => change(message)?,
            done => done?,
        }
        let mut raised = LinkMessage::default();
        (raised.header.flags, raised.header.change_mask) = (LinkFlags::Up, LinkFlags::Up);
        raised.attributes = vec![LinkAttribute::IfName(name.to_owned())];
        change(raised)
    }

    /// Keeps an interface that is down from making an IPv6 address by itself. Does nothing where there is no IPv6.
    pub(crate) fn no_own_address(&mut self, index: u32) -> Result<(), NetlinkError> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        message.attributes = vec![no_own_address()];
        let done = self.change(RouteNetlinkMessage::NewLink(message), 0, || {
            format!("keep the interface number {index} without addresses of its own")
        });
        match done {
            Err(error) if error.kernel_reason() == Some(Errno::AFNOSUPPORT) => Ok(()),
            done => done,
        }
    }

    /// Deletes a link; false when there is none with this name. Takes about 20 ms: see `detach`.
    pub(crate) fn delete_link(&mut self, name: &str) -> Result<bool, NetlinkError> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        let done = self.change(RouteNetlinkMessage::DelLink(message), 0, || {
            format!("delete the interface {name}")
        });
        match done {
            Ok(()) => Ok(true),
            Err(error) if error.kernel_reason() == Some(Errno::NODEV) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// One queue in each direction. A veth uses no more, but gets as many as there are processors unless told, and putting all but one
/// away is a wait for an RCU grace period, under the kernel's routing lock, for each end.
const ONE_QUEUE: [LinkAttribute; 2] = [LinkAttribute::NumTxQueues(1), LinkAttribute::NumRxQueues(1)];

/// No link-local address. A port of a bridge needs none, but gets one when its peer is up, announces it to all pods on the
/// bridge and keeps routes for it, which costs more with each port.
fn no_own_address() -> LinkAttribute {
    let mode = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
    LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![mode])])
}

impl Link {
    fn read(message: &LinkMessage) -> Self {
        let flags = message.header.flags;
        let mut link = Self {
            index: message.header.index,
            mac: None,
            mtu: 0,
            up: flags.contains(LinkFlags::Up),
            promiscuous: flags.contains(LinkFlags::Promisc),
            kind: LinkKind::Other,
            controller: None,
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::Address(bytes) => link.mac = bytes.as_slice().try_into().ok().map(Mac),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::Controller(index) => link.controller = Some(*index),
                LinkAttribute::LinkInfo(infos) => {
                    if let Some(kind) = infos.iter().find_map(LinkKind::read) {
                        link.kind = kind;
                    }
                }
                _ => {}
            }
        }
        link
    }
}

impl LinkKind {
    fn read(info: &LinkInfo) -> Option<Self> {
        match info {
            LinkInfo::Kind(InfoKind::Bridge) => Some(Self::Bridge),
            LinkInfo::Kind(InfoKind::Veth) => Some(Self::Veth),
            LinkInfo::Kind(_) => Some(Self::Other),
            _ => None,
        }
    }
}
