//! Which elements come and which go: decided from what is wanted and what is there, without touching anything.

use std::collections::HashSet;
use std::net::IpAddr;

use super::entry::{Entry, Meaning};
use super::{Front, PodPorts, Protocol};
use crate::owner::Owner;

/// A change of the table's elements.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Change {
    /// What goes.
    pub(crate) remove: Vec<Entry>,
    /// What comes.
    pub(crate) add: Vec<Entry>,
}

/// Another live pod has the port.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Conflict {
    /// The port.
    pub(crate) front: Front,
    /// The other pod's container.
    pub(crate) container: String,
}

/// Other attachments that have what this pod wants: whether they live decides.
pub(crate) fn rivals(wanted: &PodPorts, found: &[Entry]) -> HashSet<Owner> {
    let fronts: HashSet<Front> = wanted.entries().iter().filter_map(Entry::front).collect();
    let in_the_way = |entry: &&Entry| entry.front().is_some_and(|front| fronts.contains(&front));
    let others = found.iter().filter(in_the_way).map(|entry| entry.holder.owner);
    others.filter(|owner| *owner != wanted.holder.owner).collect()
}

/// ADD: what makes the pod's ports lead to it.
///
/// Whatever else leads to its address is from an earlier pod with that address (the lease says whose it is now), and
/// whatever dead holders have goes too.
pub(crate) fn map(wanted: &PodPorts, found: &[Entry], dead: &HashSet<Owner>) -> Result<Change, Conflict> {
    let entries = wanted.entries();
    let mut change = Change::default();
    for entry in found {
        let holder = &entry.holder;
        if entries.contains(entry) {
            continue;
        }
        let leftover = holder.owner == wanted.holder.owner || entry.pod() == wanted.address.ip();
        if leftover || dead.contains(&holder.owner) {
            change.remove.push(entry.clone());
        } else if let Some(front) = entry.front()
            && entries.iter().any(|own| own.front() == Some(front))
        {
            return Err(Conflict {
                front,
                container: holder.container.clone(),
            });
        }
    }
    change.add = entries
        .into_iter()
        .filter(|entry| !found.contains(entry))
        .collect();
    Ok(change)
}

/// The first port of the pod that does not lead to it.
pub(crate) fn missing(wanted: &PodPorts, found: &[Entry]) -> Option<Entry> {
    wanted.entries().into_iter().find(|entry| !found.contains(entry))
}

/// What is there after a change.
pub(crate) fn after(mut found: Vec<Entry>, change: &Change) -> Vec<Entry> {
    found.retain(|entry| !change.remove.contains(entry));
    found.extend(change.add.iter().cloned());
    found
}

/// Where the table sends a UDP datagram: a port on one address comes before the same port on all.
pub(crate) fn resolve(entries: &[Entry], address: IpAddr, port: u16) -> Option<&Entry> {
    let at = |address| {
        let front = Front {
            address,
            protocol: Protocol::Udp,
            port,
        };
        entries.iter().find(|entry| entry.front() == Some(front))
    };
    at(Some(address)).or_else(|| at(None))
}

/// Whether an entry is what makes UDP flows to this address and port go to that pod and port. What is addressed to the pod
/// itself needs none.
pub(crate) fn leads(entry: &Entry, from: (IpAddr, u16), to: (IpAddr, u16)) -> bool {
    match entry.meaning {
        Meaning::Port { front, target } => {
            front.protocol == Protocol::Udp
                && front.port == from.1
                && front.address.is_none_or(|address| address == from.0)
                && (target.ip(), target.port()) == to
                && from.0 != to.0
        }
        Meaning::Masqueraded { .. } => false,
    }
}
