//! From the kernel's listing to the proxy's words; anything unknown makes the whole table foreign.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use gantry_nft::{Element as Raw, Family, Value, Verdict as RawVerdict};
use gantry_proxy_core::{Backend, Element, Front, Masquerade, Part, Protocol, Remembered, Verdict};
use ipnetwork::IpNetwork;

use super::NO_ENDPOINTS;
use crate::table::layout::names;

/// The elements of a listed set; `None` if something in it is not ours.
pub(in crate::table) fn decode<'a, C: FromIterator<Element>>(
    family: Family,
    set: &str,
    elements: impl Iterator<Item = Raw<'a>>,
) -> Option<C> {
    match set {
        names::POD_CIDRS => return ranges(family, elements, Element::PodRange).map(C::from_iter),
        names::SERVICE_CIDRS => return ranges(family, elements, Element::ServiceRange).map(C::from_iter),
        _ => {}
    }
    elements.map(|raw| one(family, set, raw)).collect()
}

fn one(family: Family, set: &str, raw: Raw<'_>) -> Option<Element> {
    let mut key = Reader {
        family,
        bytes: raw.key,
    };
    let element = match set {
        names::NODE_IPS => Element::NodeAddress(key.address()?),
        names::CLUSTER_IPS => Element::ClusterIp(key.address()?),
        names::HAIRPIN => Element::Hairpin(key.address().filter(|ip| key.address() == Some(*ip))?),
        names::ENDPOINTS => Element::Slot(key.front()?, key.number()?, backend(family, raw)?),
        names::NP_ENDPOINTS => Element::Slot(key.node_port()?, key.number()?, backend(family, raw)?),
        names::EXT_MASQ => Element::Masquerade(key.front()?, Masquerade::Everybody),
        names::EXT_LOCAL => Element::Masquerade(key.front()?, Masquerade::Host),
        names::NP_MASQ => Element::Masquerade(key.node_port()?, Masquerade::Everybody),
        names::NP_LOCAL => Element::Masquerade(key.node_port()?, Masquerade::Host),
        names::FW_SERVICES => Element::Restricted(key.front()?),
        names::LEARN => key.front().and_then(|front| learn(front, raw))?,
        names::NP_LEARN => key.node_port().and_then(|front| learn(front, raw))?,
        names::SERVICES_NEAR => Element::Near(key.front()?, verdict(raw)?),
        names::NODEPORTS_NEAR => Element::Near(key.node_port()?, verdict(raw)?),
        names::SERVICES => Element::Front(key.front()?, verdict(raw)?),
        names::NODEPORTS => Element::Front(key.node_port()?, verdict(raw)?),
        other => match other.parse() {
            Ok(Part::Sources(bits)) => Element::Source(bits, key.front()?, key.address()?),
            Ok(Part::Balancer(_) | Part::Learner(..)) | Err(()) => return None,
        },
    };
    key.bytes.is_empty().then_some(element)
}

/// What the kernel remembers of a client, from an element of `affinity` or `np-affinity`.
pub(in crate::table) fn remembered(family: Family, set: &str, raw: Raw<'_>) -> Option<Remembered> {
    let mut key = Reader {
        family,
        bytes: raw.key,
    };
    let client = key.address()?;
    let front = match set {
        names::AFFINITY => key.front()?,
        names::NP_AFFINITY => key.node_port()?,
        _ => return None,
    };
    let backend = backend(family, raw)?;
    Some(Remembered {
        client,
        front,
        backend,
    })
}

fn learn(front: Front, raw: Raw<'_>) -> Option<Element> {
    let Value::Verdict(RawVerdict::Goto(chain)) = raw.value else {
        return None;
    };
    match chain.parse() {
        Ok(Part::Learner(target, secs)) if target == front.target() => Some(Element::Learn(front, secs)),
        Ok(Part::Learner(..) | Part::Balancer(_) | Part::Sources(_)) | Err(()) => None,
    }
}

fn verdict(raw: Raw<'_>) -> Option<Verdict> {
    match raw.value {
        Value::Verdict(RawVerdict::Goto(NO_ENDPOINTS)) => Some(Verdict::Reject),
        Value::Verdict(RawVerdict::Goto(chain)) => chain.parse().ok().map(Verdict::Balance),
        Value::Verdict(RawVerdict::Drop) => Some(Verdict::Drop),
        Value::Verdict(RawVerdict::Accept | RawVerdict::Return | RawVerdict::Jump(_))
        | Value::Member
        | Value::IntervalEnd
        | Value::Data(_) => None,
    }
}

fn backend(family: Family, raw: Raw<'_>) -> Option<Backend> {
    let Value::Data(bytes) = raw.value else {
        return None;
    };
    let mut data = Reader { family, bytes };
    Some(Backend {
        address: data.address()?,
        port: data.port()?,
    })
}

/// Intervals, from their starts and exclusive ends in whatever order they are listed.
fn ranges<'a>(
    family: Family,
    elements: impl Iterator<Item = Raw<'a>>,
    kind: impl Fn(IpNetwork) -> Element,
) -> Option<Vec<Element>> {
    let mut marks = Vec::new();
    for raw in elements {
        let address = Reader {
            family,
            bytes: raw.key,
        }
        .address()?;
        // At one address the end of one range comes before the start of the next.
        marks.push((bits(address), raw.value != Value::IntervalEnd, address));
    }
    marks.sort();
    let mut ranges = Vec::new();
    let mut marks = marks.into_iter().peekable();
    while let Some((first, is_start, address)) = marks.next() {
        if !is_start {
            // The kernel may mark the range before the first one as ending.
            continue;
        }
        let end = marks
            .peek()
            .filter(|(_, is_start, _)| !is_start)
            .map(|(end, ..)| *end);
        ranges.push(kind(network(family, address, first, end)?));
    }
    Some(ranges)
}

/// The prefix that reaches from `first` to just before `end`, or to the last address.
fn network(family: Family, address: IpAddr, first: u128, end: Option<u128>) -> Option<IpNetwork> {
    let width: u32 = match family {
        Family::Ipv4 => 32,
        Family::Ipv6 => 128,
    };
    let last = match end {
        Some(end) => end.checked_sub(1)?,
        None => u128::MAX >> (128 - width),
    };
    let host_bits = 128 - last.checked_sub(first)?.leading_zeros();
    let prefix = u8::try_from(width.checked_sub(host_bits)?).ok()?;
    let network = IpNetwork::new(address, prefix).ok()?;
    (bits(network.network()) == first && bits(network.broadcast()) == last).then_some(network)
}

fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(ip) => ip.to_bits().into(),
        IpAddr::V6(ip) => ip.to_bits(),
    }
}

/// Takes fields off a key.
struct Reader<'a> {
    family: Family,
    bytes: &'a [u8],
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.bytes.split_first_chunk::<N>()?;
        self.bytes = rest;
        Some(*head)
    }

    fn address(&mut self) -> Option<IpAddr> {
        match self.family {
            Family::Ipv4 => self.take::<4>().map(|b| Ipv4Addr::from(b).into()),
            Family::Ipv6 => self.take::<16>().map(|b| Ipv6Addr::from(b).into()),
        }
    }

    fn protocol(&mut self) -> Option<Protocol> {
        let [number, ..] = self.take::<4>()?;
        Protocol::from_number(number)
    }

    fn port(&mut self) -> Option<u16> {
        let [high, low, ..] = self.take::<4>()?;
        Some(u16::from_be_bytes([high, low]))
    }

    fn number(&mut self) -> Option<u32> {
        self.take().map(u32::from_ne_bytes)
    }

    fn front(&mut self) -> Option<Front> {
        Some(Front::Address(self.address()?, self.protocol()?, self.port()?))
    }

    fn node_port(&mut self) -> Option<Front> {
        Some(Front::NodePort(self.protocol()?, self.port()?))
    }
}
