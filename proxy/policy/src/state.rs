//! What is known, and the table that follows from it, kept up to date event by event: a pod costs a look at each
//! selector in use, a policy a look at the pods that its new selectors may mean.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use gantry_proxy_core::Protocol;

use crate::attachments::{Attachment, Attachments};
use crate::compile::{Fresh, Group, Sets};
use crate::diff::{self, Changes, Touched};
use crate::input::{Key, Pod, Policy};
use crate::intern::Interned;
use crate::selector::{Labels, Selector};
use crate::table::{Chain, Direction, Element, Id, Match, SetName, Table};

/// Something that is so from now on.
#[derive(Clone, Debug)]
pub enum Event {
    /// A pod, or that there is none of this name that is one here.
    Pod(Key, Option<Pod>),
    /// A namespace's labels, or that there is none of this name.
    Namespace(Box<str>, Option<Labels>),
    /// A policy, or that there is none of this name.
    Policy(Key, Option<Policy>),
}

/// Everything known, the table that follows, and the table as it was written.
#[derive(Debug, Default)]
pub struct State {
    pods: BTreeMap<Key, Pod>,
    /// Who has an address, who said so last is last: a new pod may be known before its predecessor's end is.
    holders: BTreeMap<IpAddr, Vec<Key>>,
    /// Who has an address before all of them, if it is known.
    attachments: Attachments,
    namespaces: BTreeMap<Box<str>, Labels>,
    policies: BTreeMap<Key, Effect>,
    sets: Sets,
    chains: Interned<Chain>,
    table: Table,
    written: Table,
    touched: Touched,
}

/// What a policy does.
#[derive(Debug)]
struct Effect {
    subjects: Selector,
    /// By direction, if it is of that type.
    allowed: BTreeMap<Direction, BTreeSet<Match>>,
    uses: Vec<SetName>,
}

impl State {
    /// Takes in an event.
    pub fn apply(&mut self, event: Event) {
        match event {
            Event::Pod(key, pod) => self.set_pod(&key, pod),
            Event::Namespace(name, labels) => self.set_namespace(name, labels),
            Event::Policy(key, policy) => self.set_policy(key, policy),
        }
    }

    /// An interface of a pod of this node is there, with addresses that are nobody else's from now on.
    pub fn attach(&mut self, interface: &str, attachment: Attachment) {
        let addresses = self.attachments.insert(interface, attachment);
        self.refresh(addresses);
    }

    /// An interface is gone.
    pub fn detach(&mut self, interface: &str) {
        let addresses = self.attachments.remove(interface);
        self.refresh(addresses);
    }

    /// True if the pod of an interface is known, so that the table is right for its addresses.
    #[must_use]
    pub fn knows(&self, attachment: &Attachment) -> bool {
        self.pods
            .get(&attachment.pod)
            .is_some_and(|pod| attachment.is_of(pod))
    }

    /// True if some policy may restrict pods of a namespace.
    #[must_use]
    pub fn has_policies_in(&self, namespace: &str) -> bool {
        of_namespace(&self.policies, namespace).next().is_some()
    }

    /// The table that follows from what is known.
    #[must_use]
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The table as it was when it was last said to be written.
    #[must_use]
    pub fn written(&self) -> &Table {
        &self.written
    }

    /// What has to be written.
    #[must_use]
    pub fn changes(&self) -> Changes {
        diff::diff(&self.written, &self.table, &self.touched)
    }

    /// The changes were written, these or as a part of the whole table. True if something is denied now that was allowed, so that
    /// connections have to be looked at.
    pub fn are_written(&mut self, changes: Changes) -> bool {
        let narrowed = self.narrows(&changes);
        changes.apply(&mut self.written);
        self.touched = Touched::default();
        narrowed
    }

    /// Subjects led elsewhere, and addresses that were taken out of a set; but where nobody has an address, nobody has connections.
    fn narrows(&self, changes: &Changes) -> bool {
        let mut led = changes.added.iter().flat_map(|(_, elements)| elements);
        let mut lost = changes.deleted.iter().flat_map(|(_, elements)| elements);
        led.any(|element| matches!(element, Element::Subject(..)))
            || lost.any(|element| match element {
                Element::Address(address) | Element::Port(address, _) => self.at(*address).next().is_some(),
                Element::Range(_) | Element::Subject(..) => false,
            })
    }

    /// True if some pod of this node is restricted.
    #[must_use]
    pub fn restricts(&self) -> bool {
        !self.table.chains.is_empty()
    }

    fn set_pod(&mut self, key: &Key, pod: Option<Pod>) {
        let old = self.pods.get(key).cloned();
        if old == pod {
            return;
        }
        let old = old.unwrap_or_default();
        let new = pod.clone().unwrap_or_default();
        match pod {
            Some(pod) => self.pods.insert(key.clone(), pod),
            None => self.pods.remove(key),
        };
        let addresses: BTreeSet<IpAddr> = old.addresses.union(&new.addresses).copied().collect();
        for address in &addresses {
            let holders = self.holders.entry(*address).or_default();
            holders.retain(|holder| holder != key);
            if new.addresses.contains(address) {
                holders.push(key.clone());
            }
            if holders.is_empty() {
                self.holders.remove(address);
            }
        }
        let attached = self.attachments.addresses_of(|pod| pod == key);
        let addresses = addresses.into_iter().chain(attached).collect();
        self.refresh(addresses);
    }

    /// Who is at these addresses, or what they are, has changed.
    fn refresh(&mut self, addresses: BTreeSet<IpAddr>) {
        self.refresh_members(&addresses);
        self.refresh_named(&addresses);
        self.refresh_subjects(addresses);
    }

    /// The pods at an address: its interface's, if that and its pod are known; else all that say so, the subject of policies last.
    fn at(&self, address: IpAddr) -> impl Iterator<Item = (&Key, &Pod)> {
        let attached = self.attachments.at(address);
        let attached = attached.filter(|one| self.knows(one)).map(|one| &one.pod);
        let holders = self.holders.get(&address).filter(|_| attached.is_none());
        let keys = attached.into_iter().chain(holders.into_iter().flatten());
        keys.filter_map(|key| self.pods.get_key_value(key))
    }

    fn set_namespace(&mut self, name: Box<str>, labels: Option<Labels>) {
        if self.namespaces.get(&name) == labels.as_ref() {
            return;
        }
        let pods = of_namespace(&self.pods, &name);
        let addresses = pods.flat_map(|(_, pod)| pod.addresses.iter().copied());
        let attached = self.attachments.addresses_of(|pod| pod.namespace == name);
        let addresses = addresses.chain(attached).collect();
        match labels {
            Some(labels) => self.namespaces.insert(name, labels),
            None => self.namespaces.remove(&name),
        };
        self.refresh_members(&addresses);
    }

    fn set_policy(&mut self, key: Key, policy: Option<Policy>) {
        let effect = policy.map(|policy| self.effect(&key.namespace, policy));
        let namespace = key.namespace.clone();
        let old = match effect {
            Some(effect) => self.policies.insert(key, effect),
            None => self.policies.remove(&key),
        };
        let local = of_namespace(&self.pods, &namespace).filter(|(_, pod)| pod.local);
        let addresses = local.flat_map(|(_, pod)| pod.addresses.iter().copied());
        let attached = self.attachments.addresses_of(|pod| pod.namespace == namespace);
        let addresses = addresses.chain(attached).collect();
        self.refresh_subjects(addresses);
        for name in old.into_iter().flat_map(|old| old.uses) {
            if self.sets.release(name) {
                self.table.sets.remove(&name);
                self.touched.sets.insert(name);
            }
        }
    }

    fn effect(&mut self, namespace: &str, policy: Policy) -> Effect {
        let mut effect = Effect {
            subjects: policy.subjects,
            allowed: BTreeMap::new(),
            uses: Vec::new(),
        };
        let directions = [
            (Direction::Ingress, policy.ingress),
            (Direction::Egress, policy.egress),
        ];
        for (direction, rules) in directions {
            let Some(rules) = rules else { continue };
            let compiled = self.sets.compile(namespace, &rules);
            effect.allowed.insert(direction, compiled.allowed);
            effect.uses.extend(compiled.uses);
            for fresh in compiled.fresh {
                self.fill(fresh);
            }
        }
        effect
    }

    /// Makes a set.
    fn fill(&mut self, fresh: Fresh) {
        let (name, elements) = match fresh {
            Fresh::Group(name, group) => {
                let addresses = self.addresses();
                let members = addresses.filter(|address| self.is_member(&group, *address));
                (name, members.map(Element::Address).collect())
            }
            Fresh::Blocks(name, ranges) => (name, ranges.into_iter().map(Element::Range).collect()),
            Fresh::Name(name, protocol, port) => {
                let addresses = self.addresses();
                let ports = addresses.flat_map(|address| self.named(address, protocol, &port));
                (name, ports.collect())
            }
        };
        self.table.sets.insert(name, elements);
        self.touched.sets.insert(name);
    }

    /// Which selectors select the pods at these addresses.
    fn refresh_members(&mut self, addresses: &BTreeSet<IpAddr>) {
        let mut now: Vec<(SetName, IpAddr, bool)> = Vec::new();
        for (id, group) in self.sets.groups.iter() {
            let states = addresses
                .iter()
                .map(|address| (SetName::Pods(id), *address, self.is_member(group, *address)));
            now.extend(states);
        }
        for (name, address, is_member) in now {
            let set = self.table.sets.entry(name).or_default();
            let element = Element::Address(address);
            let changed = if is_member {
                set.insert(element)
            } else {
                set.remove(&element)
            };
            if changed {
                self.touched.sets.insert(name);
            }
        }
    }

    /// Where named ports of these addresses lead.
    fn refresh_named(&mut self, addresses: &BTreeSet<IpAddr>) {
        let names: Vec<(Id, Protocol, Box<str>)> = self
            .sets
            .names
            .iter()
            .map(|(id, (protocol, port))| (id, *protocol, port.clone()))
            .collect();
        for (id, protocol, port) in names {
            let name = SetName::Named(id);
            for address in addresses {
                let now: BTreeSet<Element> = self.named(*address, protocol, &port).collect();
                let set = self.table.sets.entry(name).or_default();
                let bounds = Element::Port(*address, 0)..=Element::Port(*address, u16::MAX);
                let before: BTreeSet<Element> = set.range(bounds).copied().collect();
                if before == now {
                    continue;
                }
                for element in before {
                    set.remove(&element);
                }
                set.extend(now);
                self.touched.sets.insert(name);
            }
        }
    }

    /// To which chains the pods of this node at these addresses are led.
    fn refresh_subjects(&mut self, addresses: BTreeSet<IpAddr>) {
        for address in addresses {
            let mut is_restricted = false;
            for direction in Direction::BOTH {
                let chain = self.chain_at(address, direction);
                is_restricted |= chain.is_some();
                self.lead(address, direction, chain);
            }
            let own = self.table.sets.entry(SetName::Own).or_default();
            let element = Element::Address(address);
            let changed = if is_restricted {
                own.insert(element)
            } else {
                own.remove(&element)
            };
            if changed {
                self.touched.sets.insert(SetName::Own);
            }
        }
    }

    /// What is allowed to the pod of this node at an address; `None` if everything is.
    fn chain_at(&self, address: IpAddr, direction: Direction) -> Option<Chain> {
        let (key, pod) = self.at(address).last().filter(|(_, pod)| pod.local)?;
        let said: Vec<_> = of_namespace(&self.policies, &key.namespace)
            .filter(|(_, effect)| effect.subjects.matches(&pod.labels))
            .filter_map(|(policy, effect)| Some((policy, effect.allowed.get(&direction)?)))
            .collect();
        (!said.is_empty()).then(|| Chain {
            direction,
            allowed: said.iter().flat_map(|(_, allowed)| *allowed).copied().collect(),
            policies: said.iter().map(|(policy, _)| (*policy).clone()).collect(),
        })
    }

    fn lead(&mut self, address: IpAddr, direction: Direction, chain: Option<Chain>) {
        let name = SetName::Subjects(direction);
        let subjects = self.table.sets.entry(name).or_default();
        let bounds = Element::Subject(address, Id::MIN)..=Element::Subject(address, Id::MAX);
        let before = subjects.range(bounds).next().copied();
        let now = chain.map(|chain| {
            let (id, is_new) = self.chains.add(chain.clone());
            if is_new {
                self.table.chains.insert(id, chain);
                self.touched.chains.insert(id);
            }
            id
        });
        let now_led = now.map(|id| Element::Subject(address, id));
        if before != now_led {
            self.touched.sets.insert(name);
        }
        if let Some(Element::Subject(_, id)) = before {
            subjects.remove(&Element::Subject(address, id));
            if self.chains.release(id) {
                self.table.chains.remove(&id);
                self.touched.chains.insert(id);
            }
        }
        subjects.extend(now_led);
    }

    /// Addresses that somebody has.
    fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.holders.keys().chain(self.attachments.addresses()).copied()
    }

    fn is_member(&self, group: &Group, address: IpAddr) -> bool {
        self.at(address).any(|(key, pod)| self.is_in(group, key, pod))
    }

    fn is_in(&self, group: &Group, key: &Key, pod: &Pod) -> bool {
        group.looks_into(&key.namespace, self.namespaces.get(&key.namespace))
            && group.pods.matches(&pod.labels)
    }

    /// The numbers that a port name has at an address.
    fn named(&self, address: IpAddr, protocol: Protocol, port: &str) -> impl Iterator<Item = Element> {
        let ports = self.at(address).flat_map(|(_, pod)| &pod.ports);
        ports
            .filter(move |one| one.protocol == protocol && *one.name == *port)
            .map(move |one| Element::Port(address, one.number))
    }
}

/// A namespace's objects.
fn of_namespace<'a, T>(
    objects: &'a BTreeMap<Key, T>,
    namespace: &'a str,
) -> impl Iterator<Item = (&'a Key, &'a T)> {
    let from = objects.range(Key::new(namespace, "")..);
    from.take_while(move |(key, _)| *key.namespace == *namespace)
}
