//! Elements of the table: what they mean, and their bytes.
//!
//! ```text
//! ports       protocol . port            -> pod address . port
//! addresses   address . protocol . port  -> pod address . port
//! masqueraded sources (a range) . pod address
//! ```
//!
//! The comment of each is its [`Holder`]: owner, network, container, with spaces between them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use gantry_nft::{Element, Labelled, Value};
use ipnetwork::IpNetwork;

use super::{Front, Holder, Protocol};
use crate::owner::Owner;

/// A set of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SetName {
    /// Ports on all addresses.
    Ports,
    /// Ports on one address.
    Addresses,
    /// Whose connections are masqueraded.
    Masquerade,
}

/// What an element says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// What is addressed to `front` goes to `target`.
    Port {
        /// The host's side.
        front: Front,
        /// The pod's side.
        target: SocketAddr,
    },
    /// Connections from these sources to the pod are masqueraded.
    Masqueraded {
        /// The first source.
        first: IpAddr,
        /// The last source.
        last: IpAddr,
        /// The pod.
        pod: IpAddr,
    },
}

/// An element with its holder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Whom it belongs to.
    pub(crate) holder: Holder,
    /// What it says.
    pub(crate) meaning: Meaning,
}

/// An element's bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Encoded {
    key: Vec<u8>,
    last: Option<Vec<u8>>,
    data: Option<Vec<u8>>,
    comment: String,
}

impl SetName {
    pub(super) const ALL: [Self; 3] = [Self::Ports, Self::Addresses, Self::Masquerade];

    /// As the kernel knows it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ports => "ports",
            Self::Addresses => "addresses",
            Self::Masquerade => "masqueraded",
        }
    }
}

impl Entry {
    /// A port of the host that leads to the pod.
    pub(super) fn port(holder: &Holder, front: Front, target: SocketAddr) -> Self {
        Self {
            holder: holder.clone(),
            meaning: Meaning::Port { front, target },
        }
    }

    /// Sources that are masqueraded on their way to the pod.
    pub(super) fn masqueraded(holder: &Holder, sources: IpNetwork, pod: IpAddr) -> Self {
        Self {
            holder: holder.clone(),
            meaning: Meaning::Masqueraded {
                first: sources.network(),
                last: sources.broadcast(),
                pod,
            },
        }
    }

    /// The host's side, of a port.
    pub(crate) fn front(&self) -> Option<Front> {
        match self.meaning {
            Meaning::Port { front, .. } => Some(front),
            Meaning::Masqueraded { .. } => None,
        }
    }

    /// The pod's address.
    pub(super) fn pod(&self) -> IpAddr {
        match self.meaning {
            Meaning::Port { target, .. } => target.ip(),
            Meaning::Masqueraded { pod, .. } => pod,
        }
    }

    /// Where it belongs.
    pub(super) fn set(&self) -> SetName {
        match self.meaning {
            Meaning::Port { front, .. } => match front.address {
                None => SetName::Ports,
                Some(_) => SetName::Addresses,
            },
            Meaning::Masqueraded { .. } => SetName::Masquerade,
        }
    }

    /// Its bytes.
    pub(super) fn encode(&self) -> Encoded {
        let comment = format!(
            "{:032x} {:016x} {}",
            self.holder.owner.0, self.holder.network, self.holder.container
        );
        let (key, last, data) = match self.meaning {
            Meaning::Port { front, target } => {
                let mut key = front.address.map(octets).unwrap_or_default();
                key.extend([front.protocol.number(), 0, 0, 0]);
                key.extend(padded(front.port));
                let data = [octets(target.ip()), padded(target.port()).to_vec()].concat();
                (key, None, Some(data))
            }
            Meaning::Masqueraded { first, last, pod } => {
                let last = [octets(last), octets(pod)].concat();
                ([octets(first), octets(pod)].concat(), Some(last), None)
            }
        };
        Encoded {
            key,
            last,
            data,
            comment,
        }
    }

    /// Reads a listed element; `None` for one that this program did not make.
    pub(super) fn decode(set: SetName, ipv4: bool, listed: Labelled<'_>) -> Option<Self> {
        let (key, data) = (listed.element.key, listed.element.value);
        let meaning = match (set, data) {
            (SetName::Ports, Value::Data(data)) => port(None, key, split(data, ipv4)?)?,
            (SetName::Addresses, Value::Data(data)) => {
                let (address, key) = split(key, ipv4)?;
                port(Some(address), key, split(data, ipv4)?)?
            }
            (SetName::Masquerade, Value::Member) => {
                let (first, pod) = pair(key, ipv4)?;
                let (last, same_pod) = pair(listed.last?, ipv4)?;
                (pod == same_pod).then_some(Meaning::Masqueraded { first, last, pod })?
            }
            (SetName::Ports | SetName::Addresses | SetName::Masquerade, _) => return None,
        };
        let holder = Holder::parse(listed.comment)?;
        Some(Self { holder, meaning })
    }
}

impl Encoded {
    /// As it is added.
    pub(super) fn whole(&self) -> Labelled<'_> {
        let value = self.data.as_deref().map_or(Value::Member, Value::Data);
        Labelled {
            element: Element {
                key: &self.key,
                value,
            },
            last: self.last.as_deref(),
            comment: &self.comment,
        }
    }

    /// As it is deleted: by its key.
    pub(super) fn key(&self) -> Labelled<'_> {
        let element = Element {
            key: &self.key,
            value: Value::Member,
        };
        Labelled {
            last: self.last.as_deref(),
            ..Labelled::from(element)
        }
    }
}

impl Holder {
    /// Reads the comment of an element.
    fn parse(comment: &str) -> Option<Self> {
        let mut words = comment.splitn(3, ' ');
        let (owner, network) = (hex(words.next()?, 32)?, hex(words.next()?, 16)?);
        Some(Self {
            owner: Owner(owner),
            network: u64::try_from(network).ok()?,
            container: words.next()?.to_owned(),
        })
    }
}

/// A number of exactly so many lower-case digits.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let lower = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if text.len() != digits || !text.bytes().all(lower) {
        return None;
    }
    u128::from_str_radix(text, 16).ok()
}

fn port(address: Option<IpAddr>, key: &[u8], (pod, pod_port): (IpAddr, &[u8])) -> Option<Meaning> {
    let [protocol, _, _, _, high, low, _, _] = *<&[u8; 8]>::try_from(key).ok()?;
    let [pod_high, pod_low, _, _] = *<&[u8; 4]>::try_from(pod_port).ok()?;
    let front = Front {
        address,
        protocol: Protocol::numbered(protocol)?,
        port: u16::from_be_bytes([high, low]),
    };
    let target = SocketAddr::new(pod, u16::from_be_bytes([pod_high, pod_low]));
    Some(Meaning::Port { front, target })
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

/// A port as a field of four bytes.
fn padded(port: u16) -> [u8; 4] {
    let [high, low] = port.to_be_bytes();
    [high, low, 0, 0]
}

/// The address at the beginning, and the rest.
fn split(bytes: &[u8], ipv4: bool) -> Option<(IpAddr, &[u8])> {
    if ipv4 {
        let (address, rest) = bytes.split_first_chunk::<4>()?;
        Some((Ipv4Addr::from(*address).into(), rest))
    } else {
        let (address, rest) = bytes.split_first_chunk::<16>()?;
        Some((Ipv6Addr::from(*address).into(), rest))
    }
}

/// Two addresses and nothing more.
fn pair(bytes: &[u8], ipv4: bool) -> Option<(IpAddr, IpAddr)> {
    let (first, rest) = split(bytes, ipv4)?;
    let (second, rest) = split(rest, ipv4)?;
    rest.is_empty().then_some((first, second))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn address(ipv4: bool, seed: u64) -> IpAddr {
        if ipv4 {
            IpAddr::from([10, 0, 0, seed.to_be_bytes()[7]])
        } else {
            IpAddr::from(u128::from(seed).to_be_bytes())
        }
    }

    proptest! {
        #[test]
        fn an_entry_reads_back(
            ipv4: bool, special: bool, seed: u64, port: u16, protocol in 0_usize..3, prefix in 8_u8..=32,
            container in "[a-z0-9]{1,100}",
        ) {
            let holder = Holder::new(Owner::new(&container, "eth0"), "net", &container);
            let pod = address(ipv4, seed);
            let front = Front {
                address: special.then(|| address(ipv4, seed / 3)),
                protocol: Protocol::ALL[protocol],
                port,
            };
            let entries = [
                Entry::port(&holder, front, SocketAddr::new(pod, port / 2)),
                Entry::masqueraded(&holder, IpNetwork::new(pod, prefix).unwrap(), pod),
            ];
            for entry in entries {
                let encoded = entry.encode();
                prop_assert!(encoded.comment.len() <= 127);
                prop_assert_eq!(Entry::decode(entry.set(), ipv4, encoded.whole()), Some(entry));
            }
        }

        #[test]
        fn no_bytes_make_the_reader_panic(
            ipv4: bool, set in 0_usize..3, key: Vec<u8>, last: Option<Vec<u8>>, data: Option<Vec<u8>>, comment: String,
        ) {
            let encoded = Encoded { key, last, data, comment };
            let _ = Entry::decode(SetName::ALL[set], ipv4, encoded.whole());
        }
    }

    #[test]
    fn comments_of_others_are_nobodys() {
        let holder = Holder::new(Owner::new("a", "eth0"), "net", "a");
        let front = Front {
            address: None,
            protocol: Protocol::Tcp,
            port: 80,
        };
        let mut encoded = Entry::port(&holder, front, "10.0.0.1:80".parse().unwrap()).encode();
        for comment in ["", "web server", "0123 4567 x"] {
            encoded.comment = comment.to_owned();
            assert_eq!(
                Entry::decode(SetName::Ports, true, encoded.whole()),
                None,
                "{comment}"
            );
        }
    }
}
