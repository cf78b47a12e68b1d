//! What a list of all objects of a kind does not mention is gone when it ends.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};

/// Objects, by kind, that a list in progress has not mentioned yet.
#[derive(Clone, Debug)]
pub struct Unlisted<Kind, Key>(BTreeMap<Kind, BTreeSet<Key>>);

impl<Kind, Key> Default for Unlisted<Kind, Key> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<Kind: Ord, Key: Ord> Unlisted<Kind, Key> {
    /// A list starts; these are known from before.
    pub fn start(&mut self, kind: Kind, known: BTreeSet<Key>) {
        self.0.insert(kind, known);
    }

    /// An object is spoken of, in the list or beside it.
    pub fn mention<Q>(&mut self, kind: &Kind, key: &Q)
    where
        Key: Borrow<Q>,
        Q: Ord + ?Sized,
    {
        if let Some(unlisted) = self.0.get_mut(kind) {
            unlisted.remove(key);
        }
    }

    /// The list is complete: what is gone.
    pub fn end(&mut self, kind: &Kind) -> BTreeSet<Key> {
        self.0.remove(kind).unwrap_or_default()
    }
}
