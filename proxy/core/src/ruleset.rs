//! What the table holds: a program for each front, and the elements that they amount to.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use ipnetwork::IpNetwork;

use crate::chain::{Chain, Part, Scope, Target};
use crate::facts::NodeFacts;
use crate::model::{Key, Protocol};

/// Where a connection ends up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Backend {
    /// The endpoint's address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
}

/// What clients address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Front {
    /// A ClusterIP, external IP or load balancer IP.
    Address(IpAddr, Protocol, u16),
    /// A port on the node's addresses.
    NodePort(Protocol, u16),
}

/// What happens to a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// It goes to one of the slots that the chain draws from.
    Balance(Chain),
    /// It is refused: no endpoint exists anywhere.
    Reject,
    /// It is dropped: a Local policy, and no endpoint on this node.
    Drop,
}

/// Whose source address is rewritten, beyond the rules that hold for every ClusterIP and for hairpins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Masquerade {
    /// Nobody's.
    Nobody,
    /// Everybody's: external traffic under the Cluster policy.
    Everybody,
    /// This host's own: external traffic under the Local policy.
    Host,
}

/// What one front does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// For everybody, or for those that `near` does not concern.
    pub verdict: Verdict,
    /// For pods and the host itself, where it differs.
    pub near: Option<Verdict>,
    /// Source translation.
    pub masquerade: Masquerade,
    /// True if the address is a ClusterIP: other ports of it are refused.
    pub cluster_ip: bool,
    /// The slots of the cluster scope; empty if no verdict draws from it. Shared between fronts of one port.
    pub cluster: Arc<[Backend]>,
    /// The slots of the local scope; empty if no verdict draws from it.
    pub local: Arc<[Backend]>,
    /// Those of the backends that run on this node: they may reach themselves through the service.
    pub hairpins: Arc<[IpAddr]>,
    /// Who may reach it; empty is everybody.
    pub sources: Arc<[IpNetwork]>,
    /// For how many seconds clients stay with their backend, if they do.
    pub learn: Option<NonZeroU32>,
}

/// One element of a named set or map of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Element {
    /// `pod-cidrs`.
    PodRange(IpNetwork),
    /// `service-cidrs`.
    ServiceRange(IpNetwork),
    /// `node-ips`.
    NodeAddress(IpAddr),
    /// `cluster-ips`.
    ClusterIp(IpAddr),
    /// `hairpin`.
    Hairpin(IpAddr),
    /// `endpoints` or `np-endpoints`: a slot's backend.
    Slot(Front, u32, Backend),
    /// `ext-masq`, `ext-local`, `np-masq` or `np-local`.
    Masquerade(Front, Masquerade),
    /// `fw-N`: so many bits of a source, which may reach the front.
    Source(u8, Front, IpAddr),
    /// `fw-services`: only those sources may reach the front.
    Restricted(Front),
    /// `learn` or `np-learn`: clients are remembered for so many seconds.
    Learn(Front, NonZeroU32),
    /// `services-near` or `nodeports-near`.
    Near(Front, Verdict),
    /// `services` or `nodeports`: what makes a front exist for clients.
    Front(Front, Verdict),
}

impl Front {
    /// The map that its slots are in.
    #[must_use]
    pub fn target(self) -> Target {
        match self {
            Self::Address(..) => Target::Address,
            Self::NodePort(..) => Target::NodePort,
        }
    }

    /// The protocol.
    #[must_use]
    pub fn protocol(self) -> Protocol {
        match self {
            Self::Address(_, protocol, _) | Self::NodePort(protocol, _) => protocol,
        }
    }
}

impl Program {
    /// The elements of this front.
    pub fn elements(&self, front: Front) -> impl Iterator<Item = Element> + '_ {
        let slots = [Scope::Cluster, Scope::Local].into_iter().flat_map(move |scope| {
            let numbered = (scope.first_slot()..).zip(self.slots(scope));
            numbered.map(move |(slot, backend)| Element::Slot(front, slot, *backend))
        });
        let masquerade = match self.masquerade {
            Masquerade::Nobody => None,
            who @ (Masquerade::Everybody | Masquerade::Host) => Some(Element::Masquerade(front, who)),
        };
        let near = self.near.map(|verdict| Element::Near(front, verdict));
        let sources = self.sources.iter();
        let sources = sources.map(move |range| Element::Source(range.prefix(), front, range.ip()));
        let restricted = (!self.sources.is_empty()).then_some(Element::Restricted(front));
        let own = slots
            .chain(masquerade)
            .chain(sources)
            .chain(restricted)
            .chain(self.learn.map(|secs| Element::Learn(front, secs)))
            .chain(near)
            .chain([Element::Front(front, self.verdict)]);
        own.chain(self.shared(front))
    }

    /// Those of its elements that other fronts may contribute too.
    pub fn shared(&self, front: Front) -> impl Iterator<Item = Element> + '_ {
        let cluster_ip = match front {
            Front::Address(address, ..) if self.cluster_ip => Some(Element::ClusterIp(address)),
            Front::Address(..) | Front::NodePort(..) => None,
        };
        let hairpins = self.hairpins.iter().map(|address| Element::Hairpin(*address));
        hairpins.chain(cluster_ip)
    }

    /// The backends of a scope in slot order.
    #[must_use]
    pub fn slots(&self, scope: Scope) -> &[Backend] {
        match scope {
            Scope::Cluster => &self.cluster,
            Scope::Local => &self.local,
        }
    }

    /// The parts of the table that it needs.
    pub fn parts(&self, front: Front) -> impl Iterator<Item = Part> + '_ {
        let verdicts = [Some(self.verdict), self.near].into_iter().flatten();
        let chains = verdicts.filter_map(Verdict::chain).map(Part::Balancer);
        let sources = self.sources.iter().map(|range| Part::Sources(range.prefix()));
        let learner = self.learn.map(|secs| Part::Learner(front.target(), secs));
        chains.chain(sources).chain(learner)
    }

    /// What happens to connections of pods and of the host itself.
    #[must_use]
    pub fn near_verdict(&self) -> Verdict {
        self.near.unwrap_or(self.verdict)
    }
}

impl Verdict {
    /// The chain that it goes to, if that is one of those made when first needed.
    #[must_use]
    pub fn chain(self) -> Option<Chain> {
        match self {
            Self::Balance(chain) => Some(chain),
            Self::Reject | Self::Drop => None,
        }
    }
}

/// A program and the service that it came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owned {
    /// The service.
    pub owner: Key,
    /// What the front does.
    pub program: Program,
}

/// The content of the table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruleset {
    /// Addresses.
    pub facts: NodeFacts,
    /// What each front does.
    pub fronts: BTreeMap<Front, Owned>,
}

impl Ruleset {
    /// All elements, each once, in the order for a first load: nothing is visible to clients before the last kind.
    pub fn elements(&self) -> impl Iterator<Item = Element> + '_ {
        let shared: BTreeSet<Element> = self
            .fronts
            .iter()
            .flat_map(|(front, owned)| owned.program.shared(*front))
            .collect();
        let own = || {
            let all = self
                .fronts
                .iter()
                .flat_map(|(front, owned)| owned.program.elements(*front));
            all.filter(|element| !element.is_shared())
        };
        let hidden = own().filter(|element| !matches!(element, Element::Front(..)));
        let visible = own().filter(|element| matches!(element, Element::Front(..)));
        self.facts.elements().chain(shared).chain(hidden).chain(visible)
    }

    /// How many services drop internal and how many external traffic: their policy is Local, and no endpoint is on
    /// this node.
    #[must_use]
    pub fn without_local(&self) -> (usize, usize) {
        let dropping = |internal: bool| {
            let fronts = self.fronts.values().filter(move |owned| {
                owned.program.cluster_ip == internal && owned.program.verdict == Verdict::Drop
            });
            let owners: BTreeSet<&Key> = fronts.map(|owned| &owned.owner).collect();
            owners.len()
        };
        (dropping(true), dropping(false))
    }
}

impl NodeFacts {
    /// The elements that they are.
    pub fn elements(&self) -> impl Iterator<Item = Element> + '_ {
        let pods = self.pod_ranges.iter().map(|n| Element::PodRange(*n));
        let services = self.service_ranges.iter().map(|n| Element::ServiceRange(*n));
        let nodes = self.node_addresses.iter().map(|a| Element::NodeAddress(*a));
        pods.chain(services).chain(nodes)
    }
}

impl Element {
    /// True for elements to which several fronts may contribute.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        match self {
            Self::ClusterIp(_) | Self::Hairpin(_) => true,
            Self::PodRange(_)
            | Self::ServiceRange(_)
            | Self::NodeAddress(_)
            | Self::Slot(..)
            | Self::Masquerade(..)
            | Self::Source(..)
            | Self::Restricted(_)
            | Self::Learn(..)
            | Self::Near(..)
            | Self::Front(..) => false,
        }
    }
}
