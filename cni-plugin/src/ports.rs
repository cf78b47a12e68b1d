//! Host ports: what arrives at a port of this host goes to a port of a pod (`runtimeConfig.portMappings`).
//!
//! ```text
//! config::ports -> Mapping ┐
//! lease (address) ─────────┴> PodPorts (one family of one pod) -> entries ┐
//! kernel (elements with their holders) ───────────────────────────────────┴> plan (pure) -> table (one transaction)
//! ```
//!
//! All state is in the kernel: each element of the table names the attachment that it belongs to, so DEL, GC, CHECK and
//! the repair of what a killed ADD left find everything without a file. An element whose holder has no veth is dead:
//! ADD makes the veth first and the elements last.

use std::net::{IpAddr, SocketAddr};

use ipnetwork::IpNetwork;

use crate::fault;
use crate::netlink::Netlink;
use crate::owner::{Owner, digest};

mod entry;
mod flows;
mod plan;
pub(crate) mod table;

pub(crate) use entry::Entry;
pub(crate) use table::PortError;

/// What a port belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// On which addresses of the host a port is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum HostAddress {
    /// On all.
    Any,
    /// On all of one family.
    AnyOf {
        /// Which one.
        ipv4: bool,
    },
    /// On this one.
    Only(IpAddr),
}

/// A port of the host that leads to a port of the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mapping {
    /// Both ports' protocol.
    pub(crate) protocol: Protocol,
    /// The host's addresses.
    pub(crate) address: HostAddress,
    /// The host's port.
    pub(crate) host_port: u16,
    /// The pod's port.
    pub(crate) pod_port: u16,
}

/// Whose connections get an address of this host as source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Masqueraded {
    /// Those whose answers would not come back through this host: from the pod itself, from others of its subnet, from
    /// 127.0.0.1.
    #[default]
    Near,
    /// Everybody's (`masqAll`).
    All,
    /// Nobody's (`"snat": false`).
    None,
}

/// What a configuration asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct PortMappings {
    /// The ports.
    pub(crate) list: Vec<Mapping>,
    /// The sources.
    pub(crate) masqueraded: Masqueraded,
}

/// Whom an element belongs to; written into its comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Holder {
    /// The attachment.
    pub(crate) owner: Owner,
    /// A digest of the network's name: a GC is about one network.
    pub(crate) network: u64,
    /// The container's identifier, for people; cut when it is longer than [`Holder::LABEL_BYTES`].
    pub(crate) container: String,
}

/// The mapped ports of one pod in one address family.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PodPorts {
    /// The pod.
    pub(crate) holder: Holder,
    /// Its address, with the prefix of its subnet.
    pub(crate) address: IpNetwork,
    /// Its ports, those of this family.
    pub(crate) list: Vec<Mapping>,
    /// The sources.
    pub(crate) masqueraded: Masqueraded,
}

/// What a packet is addressed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Front {
    /// The host's address; `None` stands for all.
    pub(crate) address: Option<IpAddr>,
    /// The protocol.
    pub(crate) protocol: Protocol,
    /// The host's port.
    pub(crate) port: u16,
}

impl Protocol {
    const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Sctp];

    /// `IPPROTO_*`.
    pub(crate) fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
            Self::Sctp => 132,
        }
    }

    /// Its name as configurations have it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }

    /// The protocol of this name, in any case.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|protocol| protocol.name().eq_ignore_ascii_case(name))
    }

    fn numbered(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|protocol| protocol.number() == number)
    }
}

impl HostAddress {
    /// The address in the elements of one family, if there are any: `Some(None)` stands for all.
    fn in_family(self, ipv4: bool) -> Option<Option<IpAddr>> {
        match self {
            Self::Any => Some(None),
            Self::AnyOf { ipv4: wanted } => (wanted == ipv4).then_some(None),
            Self::Only(address) => (address.is_ipv4() == ipv4).then_some(Some(address)),
        }
    }
}

impl Mapping {
    /// What a packet of one family is addressed to, if it can be.
    pub(crate) fn front(&self, ipv4: bool) -> Option<Front> {
        Some(Front {
            address: self.address.in_family(ipv4)?,
            protocol: self.protocol,
            port: self.host_port,
        })
    }
}

impl Holder {
    /// As much of a container's identifier as is kept: those of containerd and CRI-O whole.
    const LABEL_BYTES: usize = 64;

    /// The holder of an attachment's elements.
    pub(crate) fn new(owner: Owner, network: &str, container: &str) -> Self {
        let end = (0..=container.len().min(Self::LABEL_BYTES))
            .rev()
            .find(|at| container.is_char_boundary(*at));
        Self {
            owner,
            network: Self::network(network),
            container: container[..end.unwrap_or(0)].to_owned(),
        }
    }

    /// The digest of a network's name.
    pub(crate) fn network(name: &str) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = digest(&[name.as_bytes()]).to_be_bytes();
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }
}

impl PodPorts {
    /// The ports of the family of `address`; none if there are none.
    pub(crate) fn new(holder: Holder, address: IpNetwork, wanted: &PortMappings) -> Option<Self> {
        let ipv4 = address.is_ipv4();
        let of_family = wanted.list.iter().filter(|mapping| mapping.front(ipv4).is_some());
        let list: Vec<_> = of_family.copied().collect();
        (!list.is_empty()).then_some(Self {
            holder,
            address,
            list,
            masqueraded: wanted.masqueraded,
        })
    }

    /// The elements that make it so.
    pub(crate) fn entries(&self) -> Vec<Entry> {
        let pod = self.address.ip();
        let ports = self.list.iter().filter_map(|mapping| {
            let front = mapping.front(pod.is_ipv4())?;
            Some((front, SocketAddr::new(pod, mapping.pod_port)))
        });
        let mut entries: Vec<Entry> = Vec::new();
        for (front, target) in ports {
            // "All addresses" and "all of this family" may both be asked for.
            if entries.iter().all(|entry| entry.front() != Some(front)) {
                entries.push(Entry::port(&self.holder, front, target));
            }
        }
        for sources in self.sources() {
            entries.push(Entry::masqueraded(&self.holder, sources, pod));
        }
        entries
    }

    /// Whether connections from 127.0.0.1 leave this host.
    pub(crate) fn serves_loopback(&self) -> bool {
        self.address.is_ipv4() && self.masqueraded != Masqueraded::None
    }

    /// Who is masqueraded on the way to the pod.
    fn sources(&self) -> Vec<IpNetwork> {
        let parse = |text: &str| text.parse().into_iter();
        match (self.masqueraded, self.address.is_ipv4()) {
            (Masqueraded::None, _) => Vec::new(),
            (Masqueraded::All, true) => parse("0.0.0.0/0").collect(),
            (Masqueraded::All, false) => parse("::/0").collect(),
            (Masqueraded::Near, true) => parse("127.0.0.0/8").chain([self.address]).collect(),
            (Masqueraded::Near, false) => vec![self.address],
        }
    }
}

/// Leads the host's ports to the pod, and ends UDP flows that would go on elsewhere.
pub(crate) fn map(wanted: &PodPorts, host: &mut Netlink) -> Result<(), PortError> {
    let changed = table::map(wanted, host)?;
    let ipv4 = wanted.address.is_ipv4();
    tell(flows::end_of(&changed.removed, ipv4));
    let local = host.host_addresses()?;
    tell(flows::end_elsewhere(wanted, &changed.entries, &local));
    Ok(())
}

/// Leads no port to what this owner has in one address family.
pub(crate) fn unmap(ipv4: bool, owner: Owner) -> Result<(), PortError> {
    remove_in(ipv4, &mut |holder: &Holder| Ok(holder.owner == owner))
}

/// Removes what belongs to the holders that `gone` chooses, in both families. Before their addresses are freed: what is
/// in the table never leads to an address of somebody else.
pub(crate) fn remove<E: From<PortError>>(mut gone: impl FnMut(&Holder) -> Result<bool, E>) -> Result<(), E> {
    fault::kill_before("ports");
    remove_in(true, &mut gone)?;
    fault::kill_before("ports-ipv6");
    remove_in(false, &mut gone)
}

fn remove_in<E: From<PortError>>(
    ipv4: bool,
    gone: &mut impl FnMut(&Holder) -> Result<bool, E>,
) -> Result<(), E> {
    let changed = table::remove(ipv4, |entry| gone(&entry.holder))?;
    tell(flows::end_of(&changed.removed, ipv4));
    Ok(())
}

/// The ports are right whether or not old flows could be ended; those end by themselves.
fn tell(ended: Result<usize, flows::FlowError>) {
    if let Err(error) = ended {
        eprintln!(
            "gantry-cni: {error}: {}",
            std::error::Error::source(&error).map_or_else(String::new, ToString::to_string)
        );
    }
}

impl std::fmt::Display for Front {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.address {
            Some(address) => write!(f, "{}", SocketAddr::new(address, self.port))?,
            None => write!(f, "{}", self.port)?,
        }
        write!(f, "/{}", self.protocol.name())
    }
}

#[cfg(test)]
mod tests;
