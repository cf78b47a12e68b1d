//! A model of the kernel's table: what it refuses, and where a packet goes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::chain::{Chain, Part, Scope};
use crate::{
    Backend, Changes, Element, Front, Masquerade, Op, Planner, Protocol, Remembered, Ruleset, Suspects,
    Verdict,
};

/// A key of a set or map: what the kernel compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Whole(Element),
    Slot(Front, u32),
    Learn(Front),
    Near(Front),
    Front(Front),
}

fn key(element: Element) -> Key {
    match element {
        Element::Slot(front, slot, _) => Key::Slot(front, slot),
        Element::Learn(front, _) => Key::Learn(front),
        Element::Near(front, _) => Key::Near(front),
        Element::Front(front, _) => Key::Front(front),
        other @ (Element::PodRange(_)
        | Element::ServiceRange(_)
        | Element::NodeAddress(_)
        | Element::ClusterIp(_)
        | Element::Hairpin(_)
        | Element::Source(..)
        | Element::Restricted(_)
        | Element::Masquerade(..)) => Key::Whole(other),
    }
}

/// The table's sets, maps and chains.
#[derive(Debug, Default)]
pub(super) struct Kernel {
    elements: BTreeMap<Key, Element>,
    parts: BTreeSet<Part>,
    /// Where clients went.
    remembered: BTreeMap<(IpAddr, Front), Backend>,
}

/// What may become of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It goes to one of these, masqueraded or not.
    Backends(BTreeSet<Backend>, bool),
    Rejected,
    Dropped,
    /// The table does not concern it.
    Passed,
}

/// A new connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet {
    pub(super) from: IpAddr,
    /// True if this host sends it.
    pub(super) from_host: bool,
    pub(super) to: IpAddr,
    pub(super) protocol: Protocol,
    pub(super) port: u16,
}

impl Kernel {
    pub(super) fn load(&mut self, parts: BTreeSet<Part>, ruleset: &Ruleset) {
        self.parts = parts;
        self.elements.clear();
        for element in ruleset.elements() {
            self.add(element);
        }
    }

    /// Applies changes; panics where the kernel would refuse.
    pub(super) fn apply(&mut self, changes: &Changes) {
        for part in &changes.parts {
            assert!(self.parts.insert(*part), "{part} exists");
        }
        for op in changes.iter() {
            match op {
                Op::Delete(element) => {
                    let found = self.elements.remove(&key(*element));
                    assert_eq!(found, Some(*element), "deleted what is not there");
                }
                Op::Add(element) => self.add(*element),
            }
        }
    }

    pub(super) fn delete_parts(&mut self, parts: &BTreeSet<Part>) {
        for part in parts {
            assert!(self.parts.remove(part), "{part} does not exist");
            let used = self.elements.values().any(|e| needed(*e) == Some(*part));
            assert!(!used, "{part} is in use");
        }
    }

    pub(super) fn elements(&self) -> BTreeSet<Element> {
        self.elements.values().copied().collect()
    }

    pub(super) fn parts(&self) -> BTreeSet<Part> {
        self.parts.clone()
    }

    /// The table is what the planner believes.
    pub(super) fn check(&self, planner: &Planner) {
        assert_eq!(self.elements(), planner.ruleset().elements().collect());
    }

    fn add(&mut self, element: Element) {
        if let Some(part) = needed(element) {
            assert!(self.parts.contains(&part), "{part} does not exist");
        }
        assert_eq!(
            self.elements.insert(key(element), element),
            None,
            "{element:?} exists"
        );
    }

    fn has(&self, element: Element) -> bool {
        self.elements.contains_key(&key(element))
    }

    fn verdict(&self, key: Key) -> Option<Verdict> {
        self.elements.get(&key).copied().and_then(verdict)
    }

    /// The client connects: if it may go to several backends, to the last of them.
    pub(super) fn connect(&mut self, packet: &Packet) {
        if let (Fate::Backends(backends, _), Some(front)) = self.route(packet)
            && self.elements.contains_key(&Key::Learn(front))
        {
            self.remembered
                .extend(backends.last().map(|backend| ((packet.from, front), *backend)));
        }
    }

    /// Forgets clients as the shell does after a change.
    pub(super) fn forget(&mut self, changes: &Changes, after: &Ruleset) {
        let suspects = Suspects::of(changes, after);
        self.remembered.retain(|(client, front), backend| {
            let entry = Remembered {
                client: *client,
                front: *front,
                backend: *backend,
            };
            !suspects.is_stale(&entry, after)
        });
    }

    /// What becomes of a packet.
    pub(super) fn fate(&self, packet: &Packet) -> Fate {
        self.route(packet).0
    }

    /// Sends a packet through the rules of the layout: also says which front took it.
    fn route(&self, packet: &Packet) -> (Fate, Option<Front>) {
        let ranges = |pods: bool| {
            self.elements.values().filter_map(move |e| match e {
                Element::PodRange(range) if pods => Some(*range),
                Element::ServiceRange(range) if !pods => Some(*range),
                _ => None,
            })
        };
        let from_pod = ranges(true).any(|range| range.contains(packet.from));
        let front = Front::Address(packet.to, packet.protocol, packet.port);
        let node_port = Front::NodePort(packet.protocol, packet.port);
        if self.has(Element::Restricted(front)) && !self.is_allowed(front, packet.from) {
            return (Fate::Dropped, None);
        }
        let to_node = self.has(Element::NodeAddress(packet.to));
        let near = from_pod || packet.from_host;
        let is_cluster_ip = self.has(Element::ClusterIp(packet.to));
        let steps = [
            near.then(|| self.verdict(Key::Near(front)))
                .flatten()
                .map(|v| (front, v)),
            (near && to_node)
                .then(|| self.verdict(Key::Near(node_port)))
                .flatten()
                .map(|v| (node_port, v)),
            self.verdict(Key::Front(front)).map(|v| (front, v)),
            is_cluster_ip.then_some((front, Verdict::Reject)),
            ranges(false)
                .any(|range| range.contains(packet.to))
                .then_some((front, Verdict::Drop)),
            to_node
                .then(|| self.verdict(Key::Front(node_port)))
                .flatten()
                .map(|v| (node_port, v)),
        ];
        match steps.into_iter().flatten().next() {
            None => (Fate::Passed, None),
            Some((_, Verdict::Reject)) => (Fate::Rejected, None),
            Some((_, Verdict::Drop)) => (Fate::Dropped, None),
            Some((front, Verdict::Balance(chain))) => {
                let masqueraded = (is_cluster_ip && !from_pod) || self.masquerades(front, packet.from_host);
                let drawn = self.drawn(front, chain);
                let before = self
                    .remembered
                    .get(&(packet.from, front))
                    .filter(|_| chain.sticky);
                let backends = before.map_or(drawn, |backend| [*backend].into());
                (Fate::Backends(backends, masqueraded), Some(front))
            }
        }
    }

    /// True if one of the sets of sources has the source, cut to the set's number of bits.
    fn is_allowed(&self, front: Front, from: IpAddr) -> bool {
        self.parts.iter().any(|part| {
            let Part::Sources(bits) = part else { return false };
            let range = IpNetwork::new(from, *bits).expect("a valid length");
            self.has(Element::Source(*bits, front, range.network()))
        })
    }

    fn masquerades(&self, front: Front, from_host: bool) -> bool {
        self.has(Element::Masquerade(front, Masquerade::Everybody))
            || (from_host && self.has(Element::Masquerade(front, Masquerade::Host)))
    }

    /// Every slot that the chain may draw; all of them have to be there.
    fn drawn(&self, front: Front, chain: Chain) -> BTreeSet<Backend> {
        assert_eq!(chain.target, front.target(), "wrong map");
        let first = match chain.scope {
            Scope::Cluster => 0,
            Scope::Local => 65536,
        };
        (first..first + chain.count)
            .map(|slot| match self.elements.get(&Key::Slot(front, slot)) {
                Some(Element::Slot(_, _, backend)) => *backend,
                other => panic!("slot {slot} of {front:?} is {other:?}"),
            })
            .collect()
    }
}

/// The part without which the kernel refuses an element.
fn needed(element: Element) -> Option<Part> {
    match element {
        Element::Source(bits, ..) => Some(Part::Sources(bits)),
        Element::Learn(front, secs) => Some(Part::Learner(front.target(), secs)),
        other => verdict(other).and_then(Verdict::chain).map(Part::Balancer),
    }
}

fn verdict(element: Element) -> Option<Verdict> {
    match element {
        Element::Near(_, verdict) | Element::Front(_, verdict) => Some(verdict),
        _ => None,
    }
}
