//! Elements in the proxy's words and in the kernel's bytes.

use std::borrow::Cow;
use std::net::IpAddr;

use gantry_nft::{Element as Raw, Transaction, Value, Verdict as RawVerdict};
use gantry_proxy_core::{Backend, Element, Front, Masquerade, Part, Protocol, Remembered, Verdict};
use ipnetwork::IpNetwork;

use super::layout::names;

mod decode;

pub(super) use decode::{decode, remembered};

/// The chain that refuses connections.
const NO_ENDPOINTS: &str = "no-endpoints";

/// One element of the kernel's, with its bytes.
struct Encoded {
    set: Cow<'static, str>,
    key: Bytes,
    value: Content,
}

enum Content {
    Member,
    IntervalEnd,
    Data(Bytes),
    Goto(String),
    Drop,
}

/// Up to ten 4-byte words: the longest key is an IPv6 address with protocol, port and another address.
#[derive(Clone, Copy)]
struct Bytes {
    bytes: [u8; 40],
    len: usize,
}

/// Adds elements; each kind's elements should stand together.
pub(super) fn add(tx: &mut Transaction, elements: &[Element]) {
    in_runs(elements, |set, run| {
        tx.add_elements(set, run.iter().map(Encoded::raw))
    });
}

/// Deletes elements.
pub(super) fn delete(tx: &mut Transaction, elements: &[Element]) {
    in_runs(elements, |set, run| {
        tx.delete_elements(set, run.iter().map(Encoded::key_only))
    });
}

/// Encodes elements piece by piece and hands them over in runs of one set.
fn in_runs(elements: &[Element], mut each: impl FnMut(&str, &[Encoded])) {
    for piece in elements.chunks(1024) {
        let mut encoded = Vec::with_capacity(piece.len());
        for element in piece {
            encode(element, &mut encoded);
        }
        for run in encoded.chunk_by(|a, b| a.set == b.set) {
            if let Some(first) = run.first() {
                each(&first.set, run);
            }
        }
    }
}

fn encode(element: &Element, out: &mut Vec<Encoded>) {
    let mut push = |set: &'static str, key, value| out.push(Encoded::new(set, key, value));
    match *element {
        Element::PodRange(range) => push_range(names::POD_CIDRS, range, out),
        Element::ServiceRange(range) => push_range(names::SERVICE_CIDRS, range, out),
        Element::NodeAddress(ip) => push(names::NODE_IPS, Bytes::new().address(ip), Content::Member),
        Element::ClusterIp(ip) => push(names::CLUSTER_IPS, Bytes::new().address(ip), Content::Member),
        Element::Hairpin(ip) => {
            push(
                names::HAIRPIN,
                Bytes::new().address(ip).address(ip),
                Content::Member,
            );
        }
        Element::Slot(front, slot, backend) => {
            let (set, key) = match front {
                Front::Address(..) => (names::ENDPOINTS, front_key(front)),
                Front::NodePort(..) => (names::NP_ENDPOINTS, front_key(front)),
            };
            push(set, key.number(slot), Content::Data(backend_data(backend)));
        }
        Element::Masquerade(front, who) => {
            if let Some(set) = masquerade_set(front, who) {
                push(set, front_key(front), Content::Member);
            }
        }
        Element::Source(bits, front, address) => {
            let key = front_key(front).address(address);
            out.push(Encoded::new(
                Part::Sources(bits).to_string(),
                key,
                Content::Member,
            ));
        }
        Element::Restricted(front) => push(names::FW_SERVICES, front_key(front), Content::Member),
        Element::Learn(front, secs) => {
            let set = match front {
                Front::Address(..) => names::LEARN,
                Front::NodePort(..) => names::NP_LEARN,
            };
            let learner = Part::Learner(front.target(), secs);
            push(set, front_key(front), Content::Goto(learner.to_string()));
        }
        Element::Near(front, verdict) => {
            let set = match front {
                Front::Address(..) => names::SERVICES_NEAR,
                Front::NodePort(..) => names::NODEPORTS_NEAR,
            };
            push(set, front_key(front), content(verdict));
        }
        Element::Front(front, verdict) => {
            let set = match front {
                Front::Address(..) => names::SERVICES,
                Front::NodePort(..) => names::NODEPORTS,
            };
            push(set, front_key(front), content(verdict));
        }
    }
}

/// The set whose fronts have their clients masqueraded; for `Nobody` there is none.
fn masquerade_set(front: Front, who: Masquerade) -> Option<&'static str> {
    match (front, who) {
        (_, Masquerade::Nobody) => None,
        (Front::Address(..), Masquerade::Everybody) => Some(names::EXT_MASQ),
        (Front::Address(..), Masquerade::Host) => Some(names::EXT_LOCAL),
        (Front::NodePort(..), Masquerade::Everybody) => Some(names::NP_MASQ),
        (Front::NodePort(..), Masquerade::Host) => Some(names::NP_LOCAL),
    }
}

/// Deletes what is remembered of clients.
pub(super) fn forget(tx: &mut Transaction, entries: &[Remembered]) {
    let encode = |entry: &Remembered| {
        let client = Bytes::new().address(entry.client);
        let (set, key) = match entry.front {
            Front::Address(ip, protocol, port) => {
                (names::AFFINITY, client.address(ip).protocol(protocol).port(port))
            }
            Front::NodePort(protocol, port) => (names::NP_AFFINITY, client.protocol(protocol).port(port)),
        };
        Encoded::new(set, key, Content::Member)
    };
    let encoded: Vec<Encoded> = entries.iter().map(encode).collect();
    for run in encoded.chunk_by(|a, b| a.set == b.set) {
        if let Some(first) = run.first() {
            tx.delete_elements(&first.set, run.iter().map(Encoded::key_only));
        }
    }
}

/// A range is two elements: its first address, and the first address behind it unless that is the end of all.
fn push_range(set: &'static str, range: IpNetwork, out: &mut Vec<Encoded>) {
    let start = Bytes::new().address(range.network());
    out.push(Encoded::new(set, start, Content::Member));
    if let Some(end) = successor(range.broadcast()) {
        out.push(Encoded::new(set, Bytes::new().address(end), Content::IntervalEnd));
    }
}

/// The next address; the last one of all has none.
pub(crate) fn successor(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(ip) => ip.to_bits().checked_add(1).map(|bits| IpAddr::V4(bits.into())),
        IpAddr::V6(ip) => ip.to_bits().checked_add(1).map(|bits| IpAddr::V6(bits.into())),
    }
}

/// An address as a key of its own.
pub(crate) fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(ip) => ip.octets().into(),
        IpAddr::V6(ip) => ip.octets().into(),
    }
}

fn front_key(front: Front) -> Bytes {
    match front {
        Front::Address(ip, protocol, port) => Bytes::new().address(ip).protocol(protocol).port(port),
        Front::NodePort(protocol, port) => Bytes::new().protocol(protocol).port(port),
    }
}

fn backend_data(backend: Backend) -> Bytes {
    Bytes::new().address(backend.address).port(backend.port)
}

fn content(verdict: Verdict) -> Content {
    match verdict {
        Verdict::Balance(chain) => Content::Goto(chain.to_string()),
        Verdict::Reject => Content::Goto(NO_ENDPOINTS.to_owned()),
        Verdict::Drop => Content::Drop,
    }
}

impl Encoded {
    fn new(set: impl Into<Cow<'static, str>>, key: Bytes, value: Content) -> Self {
        let set = set.into();
        Self { set, key, value }
    }

    fn raw(&self) -> Raw<'_> {
        let value = match &self.value {
            Content::Member => Value::Member,
            Content::IntervalEnd => Value::IntervalEnd,
            Content::Data(bytes) => Value::Data(bytes.get()),
            Content::Goto(chain) => Value::Verdict(RawVerdict::Goto(chain)),
            Content::Drop => Value::Verdict(RawVerdict::Drop),
        };
        Raw {
            key: self.key.get(),
            value,
        }
    }

    /// Without what belongs to the key: enough to delete it.
    fn key_only(&self) -> Raw<'_> {
        let value = match &self.value {
            Content::IntervalEnd => Value::IntervalEnd,
            Content::Member | Content::Data(_) | Content::Goto(_) | Content::Drop => Value::Member,
        };
        Raw {
            key: self.key.get(),
            value,
        }
    }
}

impl Bytes {
    fn new() -> Self {
        Self {
            bytes: [0; 40],
            len: 0,
        }
    }

    fn get(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Appends a field, padded to whole words.
    fn field(mut self, bytes: &[u8]) -> Self {
        self.bytes[self.len..self.len + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len().next_multiple_of(4);
        self
    }

    fn address(self, ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => self.field(&ip.octets()),
            IpAddr::V6(ip) => self.field(&ip.octets()),
        }
    }

    fn protocol(self, protocol: Protocol) -> Self {
        self.field(&[protocol.number()])
    }

    fn port(self, port: u16) -> Self {
        self.field(&port.to_be_bytes())
    }

    /// Random numbers are host endian in the kernel.
    fn number(self, number: u32) -> Self {
        self.field(&number.to_ne_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use gantry_nft::Family;
    use gantry_proxy_core::chain::{Chain, Scope, Target};
    use proptest::prelude::*;
    use std::num::NonZeroU32;

    /// One of each kind, and what decodes from them.
    fn samples(family: Family) -> Vec<Element> {
        let (ip, range): (IpAddr, IpNetwork) = match family {
            Family::Ipv4 => ("10.96.0.10".parse().unwrap(), "10.244.0.0/16".parse().unwrap()),
            Family::Ipv6 => ("fd00::10".parse().unwrap(), "fd00:1::/64".parse().unwrap()),
        };
        let at = Front::Address(ip, Protocol::Tcp, 80);
        let np = Front::NodePort(Protocol::Udp, 30053);
        let backend = Backend {
            address: ip,
            port: 8080,
        };
        let lb = |target| {
            Verdict::Balance(Chain {
                target,
                scope: Scope::Cluster,
                count: 3,
                sticky: true,
            })
        };
        vec![
            Element::PodRange(range),
            Element::ServiceRange(range),
            Element::NodeAddress(ip),
            Element::ClusterIp(ip),
            Element::Hairpin(ip),
            Element::Slot(at, 65537, backend),
            Element::Slot(np, 2, backend),
            Element::Masquerade(at, Masquerade::Everybody),
            Element::Masquerade(at, Masquerade::Host),
            Element::Masquerade(np, Masquerade::Everybody),
            Element::Masquerade(np, Masquerade::Host),
            Element::Source(24, at, range.network()),
            Element::Restricted(at),
            Element::Learn(at, NonZeroU32::MAX),
            Element::Learn(np, NonZeroU32::MIN),
            Element::Near(at, lb(Target::Address)),
            Element::Near(np, lb(Target::NodePort)),
            Element::Front(at, Verdict::Reject),
            Element::Front(np, Verdict::Drop),
        ]
    }

    #[test]
    fn every_kind_of_element_reads_back() {
        for family in [Family::Ipv4, Family::Ipv6] {
            let mut decoded = Vec::new();
            in_runs(&samples(family), |set, run| {
                decoded.extend(decode::<Vec<_>>(family, set, run.iter().map(Encoded::raw)).expect("known"));
            });
            assert_eq!(decoded, samples(family));
        }
    }

    #[test]
    fn the_range_of_all_addresses_has_no_end() {
        let all = Element::PodRange("0.0.0.0/0".parse().unwrap());
        in_runs(&[all], |set, run| {
            assert_eq!(run.len(), 1);
            let back: Option<Vec<_>> = decode(Family::Ipv4, set, run.iter().map(Encoded::raw));
            assert_eq!(back, Some(vec![all]));
        });
    }

    proptest! {
        #[test]
        fn any_element_of_any_set_is_read_or_foreign(
            set in "(pod-cidrs|service-cidrs|node-ips|hairpin|(np-)?endpoints|ext-masq|np-local|fw-services|fw-[0-9]{1,3}|(np-)?learn|services(-near)?|nodeports|(np-)?affinity|.{0,8})",
            listed in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..44), 0..4_u8, any::<Vec<u8>>()), 0..6),
            chain in "(lb|learn|npaff)-[0-9]{0,11}|.{0,9}",
            ipv6: bool,
        ) {
            let family = if ipv6 { Family::Ipv6 } else { Family::Ipv4 };
            let raw: Vec<_> = listed.iter().map(|(key, kind, data)| Raw {
                key,
                value: match kind {
                    0 => Value::Member,
                    1 => Value::IntervalEnd,
                    2 => Value::Data(data),
                    _ => Value::Verdict(RawVerdict::Goto(&chain)),
                },
            }).collect();
            let _ = decode::<Vec<_>>(family, &set, raw.iter().copied());
            for element in raw {
                let _ = remembered(family, &set, element);
            }
        }
    }
}
