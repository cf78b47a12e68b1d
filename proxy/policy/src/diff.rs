//! Differences between what the kernel has and what it is to have.

use std::collections::BTreeSet;

use crate::table::{Chain, Element, Id, SetName, Table};

/// One transaction's worth of differences, in the order in which they are written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Sets to be made.
    pub new_sets: Vec<SetName>,
    /// Elements to be deleted; before others are added, because a subject's chain is replaced so.
    pub deleted: Vec<(SetName, Vec<Element>)>,
    /// Chains to be made.
    pub new_chains: Vec<(Id, Chain)>,
    /// Elements to be added.
    pub added: Vec<(SetName, Vec<Element>)>,
    /// Chains that nobody is led to any more.
    pub old_chains: Vec<Id>,
    /// Sets that no chain looks at any more; their elements go with them.
    pub old_sets: Vec<SetName>,
}

impl Changes {
    /// True if there is nothing to write.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// What may differ.
#[derive(Clone, Debug, Default)]
pub(crate) struct Touched {
    pub(crate) sets: BTreeSet<SetName>,
    pub(crate) chains: BTreeSet<Id>,
}

pub(crate) fn diff(written: &Table, wanted: &Table, touched: &Touched) -> Changes {
    let mut changes = Changes::default();
    let nothing = BTreeSet::new();
    for name in &touched.sets {
        let (old, new) = (written.sets.get(name), wanted.sets.get(name));
        match (old, new) {
            (None, Some(_)) => changes.new_sets.push(*name),
            (Some(_), None) => {
                changes.old_sets.push(*name);
                continue;
            }
            _ => {}
        }
        let (old, new) = (old.unwrap_or(&nothing), new.unwrap_or(&nothing));
        let deleted: Vec<_> = old.difference(new).copied().collect();
        if !deleted.is_empty() {
            changes.deleted.push((*name, deleted));
        }
        let added: Vec<_> = new.difference(old).copied().collect();
        if !added.is_empty() {
            changes.added.push((*name, added));
        }
    }
    for id in &touched.chains {
        match (written.chains.get(id), wanted.chains.get(id)) {
            (None, Some(chain)) => changes.new_chains.push((*id, chain.clone())),
            (Some(_), None) => changes.old_chains.push(*id),
            _ => {}
        }
    }
    changes
}

impl Changes {
    /// Makes a table that they were computed for what it is to be.
    pub(crate) fn apply(self, table: &mut Table) {
        table
            .sets
            .extend(self.new_sets.into_iter().map(|name| (name, BTreeSet::new())));
        for (name, elements) in self.deleted {
            if let Some(set) = table.sets.get_mut(&name) {
                for element in &elements {
                    set.remove(element);
                }
            }
        }
        table.chains.extend(self.new_chains);
        for (name, elements) in self.added {
            table.sets.entry(name).or_default().extend(elements);
        }
        for id in self.old_chains {
            table.chains.remove(&id);
        }
        for name in self.old_sets {
            table.sets.remove(&name);
        }
    }
}
