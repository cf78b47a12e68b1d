//! Interfaces of this node's pods, as the CNI plugin made them: known before a pod runs, while its status comes later.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::input::{Key, Pod};

/// An interface of a pod of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// The pod.
    pub pod: Key,
    /// Its [`Pod::uid`]; a pod of the same name and another one is not meant. `None` if the runtime did not say.
    pub uid: Option<Box<str>>,
    /// The interface's addresses.
    pub addresses: BTreeSet<IpAddr>,
}

impl Attachment {
    /// True if it is an interface of this pod.
    #[must_use]
    pub fn is_of(&self, pod: &Pod) -> bool {
        pod.local && self.uid.as_ref().is_none_or(|uid| *uid == pod.uid)
    }
}

/// All of them. An address belongs to one at most, to the latest that has it.
#[derive(Debug, Default)]
pub(crate) struct Attachments {
    all: BTreeMap<Box<str>, Attachment>,
    by_address: BTreeMap<IpAddr, Box<str>>,
}

impl Attachments {
    /// An interface is there. Answers whose owner may be another one now.
    pub(crate) fn insert(&mut self, interface: &str, attachment: Attachment) -> BTreeSet<IpAddr> {
        let mut addresses = self.remove(interface);
        let former: BTreeSet<Box<str>> = attachment
            .addresses
            .iter()
            .filter_map(|address| self.by_address.get(address).cloned())
            .collect();
        for other in former {
            addresses.append(&mut self.remove(&other));
        }
        addresses.extend(&attachment.addresses);
        let interface: Box<str> = interface.into();
        for address in &attachment.addresses {
            self.by_address.insert(*address, interface.clone());
        }
        self.all.insert(interface, attachment);
        addresses
    }

    /// An interface is gone. Answers whose owner may be another one now.
    pub(crate) fn remove(&mut self, interface: &str) -> BTreeSet<IpAddr> {
        let addresses = self
            .all
            .remove(interface)
            .map(|gone| gone.addresses)
            .unwrap_or_default();
        for address in &addresses {
            self.by_address.remove(address);
        }
        addresses
    }

    /// The interface that has an address.
    pub(crate) fn at(&self, address: IpAddr) -> Option<&Attachment> {
        self.all.get(self.by_address.get(&address)?)
    }

    /// All addresses.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = &IpAddr> {
        self.by_address.keys()
    }

    /// The addresses of pods whose name fits.
    pub(crate) fn addresses_of(&self, fits: impl Fn(&Key) -> bool) -> impl Iterator<Item = IpAddr> {
        let all = self.all.values().filter(move |one| fits(&one.pod));
        all.flat_map(|one| one.addresses.iter().copied())
    }
}
