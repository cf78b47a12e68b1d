//! What is known, and the table that follows from it, kept up to date event by event: a pod costs a look at each
//! selector in use, a policy a look at the pods that its new selectors may mean.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use gantry_proxy_core::Protocol;

use crate::compile::{Fresh, Group, Sets};
use crate::diff::{self, Changes, Touched};
use crate::input::{Key, Pod, Policy};
use crate::intern::Interned;
use crate::selector::{Labels, Selector};
use crate::table::{Chain, Direction, Element, Id, Match, SetName, Table};

/// Something that is so from now on.
#[derive(Clone, Debug)]
pub enum Event {
    /// A pod, or that there is none of this name that has an address.
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
                Element::Address(address) | Element::Port(address, _) => self.holders.contains_key(address),
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
        self.refresh_members(&addresses);
        let ports: BTreeSet<_> = old
            .ports
            .union(&new.ports)
            .map(|port| (port.protocol, port.name.clone()))
            .collect();
        self.refresh_named(&addresses, &ports);
        self.refresh_subjects(addresses);
    }

    fn set_namespace(&mut self, name: Box<str>, labels: Option<Labels>) {
        if self.namespaces.get(&name) == labels.as_ref() {
            return;
        }
        let from = Key::new(&name, "");
        let pods = self
            .pods
            .range(from..)
            .take_while(|(key, _)| key.namespace == name);
        let addresses = pods.flat_map(|(_, pod)| pod.addresses.iter().copied()).collect();
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
        let from = Key::new(&namespace, "");
        let pods = self
            .pods
            .range(from..)
            .take_while(|(key, _)| key.namespace == namespace);
        let local = pods.filter(|(_, pod)| pod.local);
        let addresses: BTreeSet<IpAddr> = local.flat_map(|(_, pod)| pod.addresses.iter().copied()).collect();
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
                let pods = self.pods.iter().filter(|(key, pod)| self.is_in(&group, key, pod));
                let addresses = pods.flat_map(|(_, pod)| &pod.addresses);
                (
                    name,
                    addresses.map(|address| Element::Address(*address)).collect(),
                )
            }
            Fresh::Blocks(name, ranges) => (name, ranges.into_iter().map(Element::Range).collect()),
            Fresh::Name(name, protocol, port) => {
                let addresses = self.holders.keys();
                let ports = addresses.flat_map(|address| self.named(*address, protocol, &port));
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
            for address in addresses {
                let mut holders = self.holders.get(address).into_iter().flatten();
                let is_member =
                    holders.any(|key| self.pods.get(key).is_some_and(|pod| self.is_in(group, key, pod)));
                now.push((SetName::Pods(id), *address, is_member));
            }
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
    fn refresh_named(&mut self, addresses: &BTreeSet<IpAddr>, ports: &BTreeSet<(Protocol, Box<str>)>) {
        let names: Vec<(Id, Protocol, Box<str>)> = self
            .sets
            .names
            .iter()
            .filter(|(_, name)| ports.contains(name))
            .map(|(id, (protocol, port))| (id, *protocol, port.clone()))
            .collect();
        for (id, protocol, port) in names {
            let name = SetName::Named(id);
            for address in addresses {
                let now: BTreeSet<Element> = self.named(*address, protocol, &port).collect();
                let set = self.table.sets.entry(name).or_default();
                let bounds = Element::Port(*address, 0)..=Element::Port(*address, u16::MAX);
                let before: Vec<Element> = set.range(bounds).copied().collect();
                for element in before {
                    set.remove(&element);
                }
                set.extend(now);
            }
            self.touched.sets.insert(name);
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
        let key = self.holders.get(&address)?.last()?;
        let pod = self.pods.get(key).filter(|pod| pod.local)?;
        let from = Key::new(&key.namespace, "");
        let policies = self
            .policies
            .range(from..)
            .take_while(|(policy, _)| policy.namespace == key.namespace);
        let allowed: Vec<_> = policies
            .filter(|(_, effect)| effect.subjects.matches(&pod.labels))
            .filter_map(|(_, effect)| effect.allowed.get(&direction))
            .collect();
        (!allowed.is_empty()).then(|| Chain {
            direction,
            allowed: allowed.into_iter().flatten().copied().collect(),
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

    fn is_in(&self, group: &Group, key: &Key, pod: &Pod) -> bool {
        group.looks_into(&key.namespace, self.namespaces.get(&key.namespace))
            && group.pods.matches(&pod.labels)
    }

    /// The numbers that a port name has at an address.
    fn named(&self, address: IpAddr, protocol: Protocol, port: &str) -> impl Iterator<Item = Element> {
        let holders = self.holders.get(&address).into_iter().flatten();
        let ports = holders
            .filter_map(|key| self.pods.get(key))
            .flat_map(|pod| &pod.ports);
        ports
            .filter(move |one| one.protocol == protocol && *one.name == *port)
            .map(move |one| Element::Port(address, one.number))
    }
}
