//! From one set of elements to another, in the order that never breaks a connection attempt.
//!
//! The kernel makes a transaction visible at once, but a packet that is under way may have taken its verdict before it and look up
//! its slot after it. Hence (measured, see ARCHITECTURE.md): chains are made one transaction earlier than the first verdict that
//! names them; every translating chain falls back to its first slot and then drops; fronts are the last to come and the first to go.

use std::collections::BTreeSet;

use crate::chain::Chain;
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
    /// Chains that are missing: a transaction of their own, before.
    pub chains: BTreeSet<Chain>,
    /// One transaction.
    pub ops: Vec<Op>,
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
    /// True if there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.chains.is_empty() && self.ops.is_empty()
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
