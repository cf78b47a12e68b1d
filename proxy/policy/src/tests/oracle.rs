//! The policies' meaning, read from their documentation and nothing else: no sets, no chains, nothing remembered.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::{Attachment, Event, Key, Labels, Packet, Peer, Pod, Policy, PortMatch, Rule};

#[derive(Clone, Debug, Default)]
pub(super) struct Cluster {
    pods: BTreeMap<Key, Pod>,
    /// In the order in which the pods were last told of.
    order: Vec<Key>,
    /// Interfaces of this node.
    attachments: BTreeMap<String, Attachment>,
    namespaces: BTreeMap<Box<str>, Labels>,
    policies: BTreeMap<Key, Policy>,
}

impl Cluster {
    pub(super) fn apply(&mut self, event: Event) {
        match event {
            Event::Pod(key, Some(pod)) => {
                if self.pods.get(&key) != Some(&pod) {
                    self.order.retain(|other| *other != key);
                    self.order.push(key.clone());
                    self.pods.insert(key, pod);
                }
            }
            Event::Pod(key, None) => {
                self.order.retain(|other| *other != key);
                self.pods.remove(&key);
            }
            Event::Namespace(name, Some(labels)) => {
                self.namespaces.insert(name, labels);
            }
            Event::Namespace(name, None) => {
                self.namespaces.remove(&name);
            }
            Event::Policy(key, Some(policy)) => {
                self.policies.insert(key, policy);
            }
            Event::Policy(key, None) => {
                self.policies.remove(&key);
            }
        }
    }

    pub(super) fn attach(&mut self, interface: &str, attachment: Attachment) {
        self.attachments
            .retain(|_, other| other.addresses.is_disjoint(&attachment.addresses));
        self.attachments.insert(interface.into(), attachment);
    }

    pub(super) fn detach(&mut self, interface: &str) {
        self.attachments.remove(interface);
    }

    pub(super) fn allows(&self, packet: &Packet) -> bool {
        let sent = self.is_allowed(packet.from, packet.to, packet, |policy| policy.egress.as_ref());
        let taken = self.is_allowed(packet.to, packet.from, packet, |policy| policy.ingress.as_ref());
        packet.from == packet.to || sent && taken
    }

    pub(super) fn both_live(&self, packet: &Packet) -> bool {
        [packet.from, packet.to]
            .iter()
            .all(|address| self.pods_at(*address).next().is_some())
    }

    fn pods_at(&self, address: IpAddr) -> impl Iterator<Item = (&Key, &Pod)> {
        let attached = self.attachments.values().find_map(|one| {
            let pod = self.pods.get(&one.pod).filter(|pod| pod.local)?;
            let is_meant = one.uid.is_none() || one.uid.as_ref() == Some(&pod.uid);
            (one.addresses.contains(&address) && is_meant).then_some((&one.pod, pod))
        });
        let pods = self.order.iter().map(|key| (key, &self.pods[key]));
        let told = pods.filter(move |(_, pod)| attached.is_none() && pod.addresses.contains(&address));
        attached.into_iter().chain(told)
    }

    fn is_allowed(
        &self,
        subject: IpAddr,
        peer: IpAddr,
        packet: &Packet,
        rules: impl Fn(&Policy) -> Option<&Vec<Rule>>,
    ) -> bool {
        let Some((key, pod)) = self.pods_at(subject).last().filter(|(_, pod)| pod.local) else {
            return true;
        };
        let mut isolated = false;
        for (name, policy) in &self.policies {
            if name.namespace != key.namespace || !policy.subjects.matches(&pod.labels) {
                continue;
            }
            let Some(rules) = rules(policy) else { continue };
            isolated = true;
            for rule in rules {
                let from_here = rule.peers.is_empty()
                    || rule
                        .peers
                        .iter()
                        .any(|one| self.is_peer(&name.namespace, one, peer));
                let to_here =
                    rule.ports.is_empty() || rule.ports.iter().any(|port| self.is_port(port, packet));
                if from_here && to_here {
                    return true;
                }
            }
        }
        !isolated
    }

    fn is_peer(&self, namespace: &str, peer: &Peer, address: IpAddr) -> bool {
        match peer {
            Peer::Block { cidr, except } => {
                cidr.contains(address) && !except.iter().any(|hole| hole.contains(address))
            }
            Peer::Pods { namespaces, pods } => self.pods_at(address).any(|(key, pod)| {
                let in_scope = match namespaces {
                    None => *key.namespace == *namespace,
                    Some(selector) => self
                        .namespaces
                        .get(&key.namespace)
                        .is_some_and(|labels| selector.matches(labels)),
                };
                in_scope && pods.matches(&pod.labels)
            }),
        }
    }

    fn is_port(&self, port: &PortMatch, packet: &Packet) -> bool {
        let Some((protocol, number)) = packet.port else {
            return false;
        };
        match port {
            PortMatch::All(wanted) => *wanted == protocol,
            PortMatch::Range(wanted, first, last) => {
                *wanted == protocol && *first <= number && number <= *last
            }
            PortMatch::Named(wanted, name) => {
                *wanted == protocol
                    && self.pods_at(packet.to).any(|(_, pod)| {
                        pod.ports
                            .iter()
                            .any(|one| one.protocol == protocol && one.name == *name && one.number == number)
                    })
            }
        }
    }
}
