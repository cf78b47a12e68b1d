//! The present services and endpoint slices, and which services changed since they were last asked for.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::{Key, Service, Slice};
use crate::unlisted::Unlisted;

/// Something happened to an object, as a watch tells it.
#[derive(Clone, Debug)]
pub enum Event {
    /// A service is there, with this content.
    Service(Key, Service),
    /// A service is gone, or of no interest any more.
    ServiceGone(Key),
    /// A slice is there.
    Slice {
        /// The slice.
        name: Key,
        /// The service it belongs to.
        service: Key,
        /// Its content.
        slice: Slice,
    },
    /// A slice is gone, or of no interest any more.
    SliceGone(Key),
    /// A list of all objects of a kind starts: what it does not mention is gone when it ends.
    ListStart(Kind),
    /// The list is complete.
    ListEnd(Kind),
}

/// A kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Services.
    Service,
    /// Endpoint slices.
    Slice,
}

/// All services and slices of one address family.
#[derive(Debug, Default)]
pub struct State {
    services: BTreeMap<Key, Service>,
    slices: BTreeMap<Key, BTreeMap<Key, Slice>>,
    slice_owners: BTreeMap<Key, Key>,
    changed: BTreeSet<Key>,
    /// Services that load balancers ask for.
    checked: BTreeSet<Key>,
    unlisted: Unlisted<Kind, Key>,
}

impl State {
    /// Takes an event in.
    pub fn apply(&mut self, event: Event) {
        match event {
            Event::Service(key, service) => {
                self.unlisted.mention(&Kind::Service, &key);
                if self.services.get(&key) != Some(&service) {
                    match service.health_check {
                        Some(_) => self.checked.insert(key.clone()),
                        None => self.checked.remove(&key),
                    };
                    self.services.insert(key.clone(), service);
                    self.changed.insert(key);
                }
            }
            Event::ServiceGone(key) => self.drop_service(&key),
            Event::Slice { name, service, slice } => self.set_slice(name, service, slice),
            Event::SliceGone(name) => self.drop_slice(&name),
            Event::ListStart(kind) => {
                let all = match kind {
                    Kind::Service => self.services.keys().cloned().collect(),
                    Kind::Slice => self.slice_owners.keys().cloned().collect(),
                };
                self.unlisted.start(kind, all);
            }
            Event::ListEnd(kind) => {
                for key in self.unlisted.end(&kind) {
                    match kind {
                        Kind::Service => self.drop_service(&key),
                        Kind::Slice => self.drop_slice(&key),
                    }
                }
            }
        }
    }

    /// A service.
    #[must_use]
    pub fn service(&self, key: &str) -> Option<&Service> {
        self.services.get(key)
    }

    /// The slices of a service, in order of their names.
    pub fn slices(&self, service: &str) -> impl Iterator<Item = &Slice> + Clone {
        self.slices.get(service).into_iter().flat_map(BTreeMap::values)
    }

    /// The services that have a health check port.
    pub fn checked(&self) -> impl Iterator<Item = (&Key, &Service)> {
        let known = |key| self.services.get(key).map(|service| (key, service));
        self.checked.iter().filter_map(known)
    }

    /// How many services there are.
    #[must_use]
    pub fn service_count(&self) -> usize {
        self.services.len()
    }

    /// The services that changed since the last call, by themselves or in their slices.
    pub fn take_changed(&mut self) -> BTreeSet<Key> {
        std::mem::take(&mut self.changed)
    }

    /// Has all services compiled again whose endpoints are chosen by zone.
    pub fn change_zone(&mut self) {
        let zoned = self
            .slices
            .iter()
            .filter(|(_, slices)| slices.values().any(Slice::depends_on_zone));
        self.changed.extend(zoned.map(|(service, _)| service.clone()));
    }

    /// Has all services compiled again that look at the node's own address.
    pub fn change_node_ip(&mut self) {
        let restricted = self
            .services
            .iter()
            .filter(|(_, service)| service.restriction.is_some());
        self.changed.extend(restricted.map(|(key, _)| key.clone()));
    }

    /// True if a service changed since they were last taken.
    #[must_use]
    pub fn has_changes(&self) -> bool {
        !self.changed.is_empty()
    }

    fn drop_service(&mut self, key: &Key) {
        self.unlisted.mention(&Kind::Service, key);
        if self.services.remove(key).is_some() {
            self.checked.remove(key);
            self.changed.insert(key.clone());
        }
    }

    fn set_slice(&mut self, name: Key, service: Key, slice: Slice) {
        self.unlisted.mention(&Kind::Slice, &name);
        if self
            .slice_owners
            .get(&name)
            .is_some_and(|owner| *owner != service)
        {
            self.drop_slice(&name);
        }
        self.slice_owners.insert(name.clone(), service.clone());
        let of_service = self.slices.entry(service.clone()).or_default();
        if of_service.get(&name) != Some(&slice) {
            of_service.insert(name, slice);
            self.changed.insert(service);
        }
    }

    fn drop_slice(&mut self, name: &Key) {
        self.unlisted.mention(&Kind::Slice, name);
        let Some(service) = self.slice_owners.remove(name) else {
            return;
        };
        if let Some(of_service) = self.slices.get_mut(&service) {
            of_service.remove(name);
            if of_service.is_empty() {
                self.slices.remove(&service);
            }
        }
        self.changed.insert(service);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(name: &str, service: &str) -> Event {
        Event::Slice {
            name: name.into(),
            service: service.into(),
            slice: Slice::default(),
        }
    }

    #[test]
    fn only_real_changes_are_reported() {
        let mut state = State::default();
        state.apply(Event::Service("a/x".into(), Service::default()));
        state.apply(slice("a/x-1", "a/x"));
        assert_eq!(state.take_changed(), BTreeSet::from(["a/x".into()]));
        state.apply(Event::Service("a/x".into(), Service::default()));
        state.apply(slice("a/x-1", "a/x"));
        state.apply(Event::SliceGone("a/unknown".into()));
        assert!(!state.has_changes());
    }

    #[test]
    fn what_a_new_list_does_not_mention_is_gone() {
        let mut state = State::default();
        for name in ["a/x", "a/y"] {
            state.apply(Event::Service(name.into(), Service::default()));
            state.apply(slice(&format!("{name}-1"), name));
        }
        state.take_changed();
        state.apply(Event::ListStart(Kind::Service));
        state.apply(Event::Service("a/x".into(), Service::default()));
        assert!(
            !state.has_changes(),
            "nothing is dropped before the end of the list"
        );
        state.apply(Event::ListEnd(Kind::Service));
        assert_eq!(state.take_changed(), BTreeSet::from(["a/y".into()]));
        assert_eq!(
            state.slices("a/y").count(),
            1,
            "its slices are another list's matter"
        );
    }

    #[test]
    fn a_slice_may_change_its_service() {
        let mut state = State::default();
        state.apply(slice("a/s", "a/x"));
        state.apply(slice("a/s", "a/y"));
        assert_eq!((state.slices("a/x").count(), state.slices("a/y").count()), (0, 1));
    }
}
