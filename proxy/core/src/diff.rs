//! From one set of elements to another, in the order that never breaks a connection attempt.
//!
//! The kernel makes a transaction visible at once, but a packet that is under way may have taken its verdict before it and look up
//! its slot after it. Hence (measured, see ARCHITECTURE.md): chains are made one transaction earlier than the first verdict that
//! names them; every translating chain falls back to its first slot and then drops; fronts are the last to come and the first to go;
//! and where a front leaves all slots of a scope at once (another policy, the last endpoint), they go in a transaction after the
//! packets that were under way.

use std::collections::BTreeSet;

use crate::chain::Part;
use crate::ruleset::Element;

/// One change of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Deletes an element by its key.
    Delete(Element),
    /// Adds an element; its key is not there.
    Add(Element),
}

/// What to do to the table, in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Chains and sets that are missing: a transaction of their own, before.
    pub parts: BTreeSet<Part>,
    /// One transaction.
    pub ops: Vec<Op>,
    /// Slots that only packets under way still draw: a transaction of their own, after those.
    pub late: Vec<Op>,
}

impl Op {
    /// The element.
    #[must_use]
    pub fn element(&self) -> Element {
        match self {
            Self::Delete(element) | Self::Add(element) => *element,
        }
    }
}

impl Changes {
    /// All operations in order.
    pub fn iter(&self) -> impl Iterator<Item = &Op> {
        self.ops.iter().chain(&self.late)
    }

    /// How many operations there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ops.len() + self.late.len()
    }

    /// True if there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.parts.is_empty() && self.len() == 0
    }
}

/// What leads from `old` to `new`: deletions with fronts first, then additions with fronts last.
#[must_use]
pub fn diff(old: &BTreeSet<Element>, new: &BTreeSet<Element>) -> Vec<Op> {
    let mut ops: Vec<Op> = old.difference(new).copied().map(Op::Delete).collect();
    ops.reverse();
    ops.extend(new.difference(old).copied().map(Op::Add));
    ops
}
