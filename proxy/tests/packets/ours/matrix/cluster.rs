//! Random pods and policies, and what their documentation says of a packet: nothing of the enforcing code is used but the words in
//! which it is told.

use std::net::IpAddr;

use gantry_policy_core as core;
use gantry_policy_core::{Event, Key, NamedPort, Pod, Policy, PortMatch, Protocol, Requirement};
use ipnetwork::IpNetwork;

/// The last numbers of the pods' addresses, those in IPv6 in hexadecimal digits.
pub(super) const PODS: [&str; 6] = ["2", "3", "4", "5", "8", "9"];
const NAMESPACES: [&str; 3] = ["x", "y", "z"];
const VALUES: [&str; 2] = ["1", "2"];
const PROTOCOLS: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];
const BLOCKS: [&str; 8] = [
    "10.244.1.0/24",
    "10.244.1.4/30",
    "192.0.2.0/24",
    "0.0.0.0/0",
    "fd00:244::/64",
    "fd00:244::8/126",
    "fd00:192::/64",
    "::/0",
];
const HOLES: [&str; 6] = [
    "10.244.1.2/32",
    "10.244.1.8/31",
    "192.0.2.100/32",
    "fd00:244::2/127",
    "fd00:244::4/126",
    "fd00:192::100/128",
];

/// Numbers that are the same with the same seed (`SplitMix64`).
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((word ^ word >> 31) >> 33).unwrap() % bound
    }

    fn one<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// Up to so many.
    fn some<T>(&mut self, most: usize, mut make: impl FnMut(&mut Self) -> T) -> Vec<T> {
        let count = self.below(most + 1);
        (0..count).map(|_| make(self)).collect()
    }
}

/// One label, `role`.
type Label = Option<&'static str>;

/// What the label has to be.
#[derive(Clone, Copy, Debug)]
enum Selects {
    All,
    Is(&'static str),
    IsNot(&'static str),
    Labelled,
    Unlabelled,
}

impl Selects {
    fn any(dice: &mut Dice) -> Self {
        match dice.below(8) {
            0 | 1 => Self::All,
            2..=4 => Self::Is(dice.one(&VALUES)),
            5 => Self::IsNot(dice.one(&VALUES)),
            6 => Self::Labelled,
            _ => Self::Unlabelled,
        }
    }

    fn fits(self, label: Label) -> bool {
        match self {
            Self::All => true,
            Self::Is(value) => label == Some(value),
            Self::IsNot(value) => label != Some(value),
            Self::Labelled => label.is_some(),
            Self::Unlabelled => label.is_none(),
        }
    }

    fn told(self) -> core::Selector {
        let key = || Box::from("role");
        let requirement = match self {
            Self::All => return core::Selector::default(),
            Self::Is(value) => Requirement::In(key(), [value.into()].into()),
            Self::IsNot(value) => Requirement::NotIn(key(), [value.into()].into()),
            Self::Labelled => Requirement::Exists(key()),
            Self::Unlabelled => Requirement::Absent(key()),
        };
        [requirement].into_iter().collect()
    }
}

#[derive(Clone, Copy, Debug)]
struct OnePod {
    last: &'static str,
    namespace: &'static str,
    label: Label,
    /// What it calls `web`.
    web: (Protocol, u16),
}

#[derive(Clone, Debug)]
enum Peer {
    Pods(Option<Selects>, Selects),
    Block(IpNetwork, Vec<IpNetwork>),
}

#[derive(Clone, Debug)]
struct Rule {
    peers: Vec<Peer>,
    ports: Vec<PortMatch>,
}

#[derive(Clone, Debug)]
struct OnePolicy {
    namespace: &'static str,
    subjects: Selects,
    ingress: Option<Vec<Rule>>,
    egress: Option<Vec<Rule>>,
}

/// Everything that decides.
#[derive(Debug)]
pub(super) struct Cluster {
    pods: Vec<OnePod>,
    namespaces: [Label; 3],
    /// Each under its place as a name.
    policies: [Option<OnePolicy>; 5],
}

impl Cluster {
    pub(super) fn new() -> Self {
        let pods = PODS.iter().enumerate().map(|(number, last)| OnePod {
            last,
            namespace: NAMESPACES[number % 3],
            label: VALUES.get(number % 4).copied(),
            web: (PROTOCOLS[number % 2], [80, 443][number / 3]),
        });
        Self {
            pods: pods.collect(),
            namespaces: [Some(VALUES[0]), Some(VALUES[1]), None],
            policies: Default::default(),
        }
    }

    /// That everything is there.
    pub(super) fn events(&self) -> Vec<Event> {
        let pods = self.pods.iter().map(OnePod::told);
        pods.chain((0..3).map(|number| self.namespace_told(number)))
            .collect()
    }

    fn namespace_told(&self, number: usize) -> Event {
        let labels = self.namespaces[number].map(|value| ("role".into(), value.into()));
        Event::Namespace(NAMESPACES[number].into(), Some(labels.into_iter().collect()))
    }

    /// A few things change.
    pub(super) fn change(&mut self, dice: &mut Dice) -> Vec<Event> {
        let count = 1 + dice.below(4);
        (0..count).map(|_| self.change_one(dice)).collect()
    }

    fn change_one(&mut self, dice: &mut Dice) -> Event {
        let label = |dice: &mut Dice| dice.one(&[None, Some(VALUES[0]), Some(VALUES[1])]);
        match dice.below(8) {
            0 => {
                let number = dice.below(PODS.len());
                self.pods[number].label = label(dice);
                self.pods[number].told()
            }
            1 => {
                let number = dice.below(3);
                self.namespaces[number] = label(dice);
                self.namespace_told(number)
            }
            _ => {
                let number = dice.below(self.policies.len());
                // A policy does not move to another namespace.
                let namespace = NAMESPACES[number % 3];
                let policy = (dice.below(4) > 0).then(|| OnePolicy::any(namespace, dice));
                let told = policy.as_ref().map(OnePolicy::told);
                self.policies[number] = policy;
                Event::Policy(Key::new(namespace, &number.to_string()), told)
            }
        }
    }

    /// What the documentation says.
    pub(super) fn allows(&self, from: IpAddr, to: IpAddr, protocol: Protocol, port: u16) -> bool {
        let packet = (to, protocol, port);
        self.allows_side(to, from, packet, |policy| policy.ingress.as_ref())
            && self.allows_side(from, to, packet, |policy| policy.egress.as_ref())
    }

    fn allows_side(
        &self,
        subject: IpAddr,
        peer: IpAddr,
        packet: (IpAddr, Protocol, u16),
        rules: impl Fn(&OnePolicy) -> Option<&Vec<Rule>>,
    ) -> bool {
        let Some(subject) = self.pod_at(subject) else {
            return true;
        };
        let of_subject = |policy: &&OnePolicy| {
            policy.namespace == subject.namespace && policy.subjects.fits(subject.label)
        };
        let policies = self.policies.iter().flatten().filter(of_subject);
        let isolating: Vec<_> = policies
            .filter_map(|policy| Some((policy.namespace, rules(policy)?)))
            .collect();
        isolating.is_empty()
            || isolating.iter().any(|(namespace, rules)| {
                rules.iter().any(|rule| {
                    let from_it = rule.peers.is_empty()
                        || rule.peers.iter().any(|one| self.is_peer(namespace, one, peer));
                    let to_it =
                        rule.ports.is_empty() || rule.ports.iter().any(|one| self.is_port(one, packet));
                    from_it && to_it
                })
            })
    }

    fn is_peer(&self, namespace: &str, peer: &Peer, address: IpAddr) -> bool {
        match peer {
            Peer::Block(cidr, holes) => {
                cidr.contains(address) && !holes.iter().any(|hole| hole.contains(address))
            }
            Peer::Pods(namespaces, pods) => self.pod_at(address).is_some_and(|pod| {
                let number = NAMESPACES.iter().position(|name| *name == pod.namespace).unwrap();
                let looks_there = match namespaces {
                    None => pod.namespace == namespace,
                    Some(selects) => selects.fits(self.namespaces[number]),
                };
                looks_there && pods.fits(pod.label)
            }),
        }
    }

    fn is_port(&self, port: &PortMatch, (to, protocol, number): (IpAddr, Protocol, u16)) -> bool {
        match port {
            PortMatch::All(wanted) => *wanted == protocol,
            PortMatch::Range(wanted, first, last) => {
                *wanted == protocol && *first <= number && number <= *last
            }
            PortMatch::Named(wanted, _) => {
                *wanted == protocol && self.pod_at(to).is_some_and(|pod| pod.web == (protocol, number))
            }
        }
    }

    fn pod_at(&self, address: IpAddr) -> Option<&OnePod> {
        self.pods.iter().find(|pod| pod.addresses().contains(&address))
    }
}

impl OnePod {
    fn addresses(&self) -> [IpAddr; 2] {
        ["10.244.1.", "fd00:244::"].map(|net| format!("{net}{}", self.last).parse().unwrap())
    }

    fn told(&self) -> Event {
        let pod = Pod {
            labels: self
                .label
                .map(|value| ("role".into(), value.into()))
                .into_iter()
                .collect(),
            addresses: self.addresses().into(),
            local: true,
            ports: [NamedPort {
                name: "web".into(),
                protocol: self.web.0,
                number: self.web.1,
            }]
            .into(),
            ..Pod::default()
        };
        Event::Pod(Key::new(self.namespace, self.last), Some(pod))
    }
}

impl OnePolicy {
    fn any(namespace: &'static str, dice: &mut Dice) -> Self {
        let rules = |dice: &mut Dice| (dice.below(3) > 0).then(|| dice.some(2, Rule::any));
        Self {
            namespace,
            subjects: Selects::any(dice),
            ingress: rules(dice),
            egress: rules(dice),
        }
    }

    fn told(&self) -> Policy {
        let rules = |rules: &Option<Vec<Rule>>| {
            let rules = rules.as_ref()?;
            Some(rules.iter().map(Rule::told).collect())
        };
        Policy {
            subjects: self.subjects.told(),
            ingress: rules(&self.ingress),
            egress: rules(&self.egress),
        }
    }
}

impl Rule {
    fn any(dice: &mut Dice) -> Self {
        Self {
            peers: dice.some(2, Peer::any),
            ports: dice.some(2, |dice| {
                let protocol = dice.one(&PROTOCOLS);
                match dice.below(4) {
                    0 => PortMatch::All(protocol),
                    1 => PortMatch::Named(protocol, "web".into()),
                    2 => PortMatch::Range(protocol, 80, 80),
                    _ => PortMatch::Range(protocol, dice.one(&[1, 53, 80]), dice.one(&[80, 81, 500])),
                }
            }),
        }
    }

    fn told(&self) -> core::Rule {
        let peers = self.peers.iter().map(|peer| match peer.clone() {
            Peer::Block(cidr, except) => core::Peer::Block { cidr, except },
            Peer::Pods(namespaces, pods) => core::Peer::Pods {
                namespaces: namespaces.map(Selects::told),
                pods: pods.told(),
            },
        });
        core::Rule {
            peers: peers.collect(),
            ports: self.ports.clone(),
        }
    }
}

impl Peer {
    fn any(dice: &mut Dice) -> Self {
        let network = |text: &str| -> IpNetwork { text.parse().unwrap() };
        match dice.below(4) {
            0 => Self::Block(network(dice.one(&BLOCKS)), {
                dice.some(2, |dice| network(dice.one(&HOLES)))
            }),
            1 => Self::Pods(None, Selects::any(dice)),
            _ => Self::Pods(Some(Selects::any(dice)), Selects::any(dice)),
        }
    }
}
