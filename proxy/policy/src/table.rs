//! What the kernel is to have: sets, and a chain for each distinct combination of policies.
//!
//! Sets and chains never change their meaning: a policy that is edited gets other chains, and its subjects are led
//! there. What changes with pods are elements only.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use gantry_proxy_core::Protocol;

use crate::blocks::Range;
use crate::input::Key;

/// Numbers sets and chains; never used again while the process lives.
pub type Id = u32;

/// Seen from the pod that a policy restricts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Direction {
    /// To the pod.
    Ingress,
    /// From the pod.
    Egress,
}

impl Direction {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::Ingress, Self::Egress];
}

/// A set or map.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SetName {
    /// Pods of this node whose traffic of a direction is restricted, and their chains: [`Element::Subject`].
    Subjects(Direction),
    /// Restricted pods, which always reach themselves: [`Element::Address`].
    Own,
    /// The pods that a selector selects: [`Element::Address`].
    Pods(Id),
    /// Address blocks: [`Element::Range`].
    Blocks(Id),
    /// Where a named port leads: [`Element::Port`].
    Named(Id),
}

impl SetName {
    /// Sets that are there whatever the policies say.
    pub const FIXED: [Self; 3] = [
        Self::Subjects(Direction::Ingress),
        Self::Subjects(Direction::Egress),
        Self::Own,
    ];
}

/// An element of a set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Element {
    /// An address.
    Address(IpAddr),
    /// A range of addresses.
    Range(Range),
    /// A port of an address.
    Port(IpAddr, u16),
    /// A restricted pod's address and its chain.
    Subject(IpAddr, Id),
}

impl Element {
    /// True if it belongs into the table of IPv6.
    #[must_use]
    pub fn is_ipv6(&self) -> bool {
        match self {
            Self::Address(ip) | Self::Port(ip, _) | Self::Subject(ip, _) => ip.is_ipv6(),
            Self::Range(range) => range.first.is_ipv6(),
        }
    }
}

/// What is allowed; everything else is dropped.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Chain {
    /// Whose address the peer's is.
    pub direction: Direction,
    /// One of these has to hold.
    pub allowed: BTreeSet<Match>,
    /// The policies that say so, all of one namespace.
    pub policies: BTreeSet<Key>,
}

impl Chain {
    /// The policies in words, for people: their namespace, and as many names as fit into so many bytes.
    #[must_use]
    pub fn origin(&self, max_bytes: usize) -> String {
        let mut text = match self.policies.first() {
            Some(first) => format!("{}:", first.namespace),
            None => String::new(),
        };
        for (number, policy) in self.policies.iter().enumerate() {
            let rest = format!(" and {} more", self.policies.len() - number);
            let is_last = number + 1 == self.policies.len();
            let room = if is_last { 0 } else { rest.len() };
            if text.len() + 2 + policy.name.len() + room > max_bytes {
                text += &rest;
                break;
            }
            text += if number == 0 { " " } else { ", " };
            text += &policy.name;
        }
        text
    }
}

/// Something that is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Match {
    /// The set in which the other side's address is; without one, everybody.
    pub peer: Option<SetName>,
    /// The destination port; without one, every packet.
    pub port: Option<PortTest>,
}

/// A test of the destination port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PortTest {
    /// The protocol is this one.
    All(Protocol),
    /// The protocol is this one and the port within bounds, both included.
    Range(Protocol, u16, u16),
    /// The protocol is this one, and destination address and port are in the set.
    Named(Protocol, SetName),
}

/// All sets and chains. The default restricts nobody; it has the sets that are always there ([`SetName::FIXED`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The sets.
    pub sets: BTreeMap<SetName, BTreeSet<Element>>,
    /// The chains.
    pub chains: BTreeMap<Id, Chain>,
}

impl Default for Table {
    fn default() -> Self {
        Self {
            sets: SetName::FIXED
                .iter()
                .map(|name| (*name, BTreeSet::new()))
                .collect(),
            chains: BTreeMap::new(),
        }
    }
}

/// The first packet of a connection, behind destination translation and before source translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Where it comes from.
    pub from: IpAddr,
    /// Where it goes.
    pub to: IpAddr,
    /// Its protocol and destination port; `None` for protocols without ports.
    pub port: Option<(Protocol, u16)>,
}

impl Table {
    /// True if the table lets a packet through.
    #[must_use]
    pub fn allows(&self, packet: &Packet) -> bool {
        let own = Element::Address(packet.from);
        if packet.from == packet.to && self.has(SetName::Own, &own) {
            return true;
        }
        Direction::BOTH.iter().all(|direction| {
            let chain = self.chain_of(*direction, packet);
            chain.is_none_or(|chain| {
                chain
                    .allowed
                    .iter()
                    .any(|one| self.holds(*direction, one, packet))
            })
        })
    }

    fn chain_of(&self, direction: Direction, packet: &Packet) -> Option<&Chain> {
        let (subject, _) = sides(direction, packet);
        let subjects = self.sets.get(&SetName::Subjects(direction))?;
        let bounds = Element::Subject(subject, Id::MIN)..=Element::Subject(subject, Id::MAX);
        match subjects.range(bounds).next()? {
            Element::Subject(_, chain) => self.chains.get(chain),
            _ => None,
        }
    }

    fn holds(&self, direction: Direction, one: &Match, packet: &Packet) -> bool {
        let (_, peer) = sides(direction, packet);
        let peer_fits = match one.peer {
            None => true,
            Some(set @ SetName::Blocks(_)) => self.in_range(set, peer),
            Some(set) => self.has(set, &Element::Address(peer)),
        };
        let port_fits = match (one.port, packet.port) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(PortTest::All(protocol)), Some((actual, _))) => protocol == actual,
            (Some(PortTest::Range(protocol, first, last)), Some((actual, port))) => {
                protocol == actual && (first..=last).contains(&port)
            }
            (Some(PortTest::Named(protocol, set)), Some((actual, port))) => {
                protocol == actual && self.has(set, &Element::Port(packet.to, port))
            }
        };
        peer_fits && port_fits
    }

    fn has(&self, set: SetName, element: &Element) -> bool {
        self.sets.get(&set).is_some_and(|set| set.contains(element))
    }

    fn in_range(&self, set: SetName, address: IpAddr) -> bool {
        self.sets.get(&set).is_some_and(|set| {
            set.iter()
                .any(|element| matches!(element, Element::Range(range) if range.contains(address)))
        })
    }
}

/// The restricted pod and the other side.
fn sides(direction: Direction, packet: &Packet) -> (IpAddr, IpAddr) {
    match direction {
        Direction::Ingress => (packet.to, packet.from),
        Direction::Egress => (packet.from, packet.to),
    }
}
