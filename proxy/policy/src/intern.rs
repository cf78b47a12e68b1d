//! Values that several users share, each under a number of its own.

use std::collections::BTreeMap;

use crate::table::Id;

/// Values and how many users each has.
#[derive(Debug)]
pub(crate) struct Interned<T> {
    values: BTreeMap<T, (Id, usize)>,
    by_id: BTreeMap<Id, T>,
    next: Id,
}

impl<T> Default for Interned<T> {
    fn default() -> Self {
        Self {
            values: BTreeMap::new(),
            by_id: BTreeMap::new(),
            next: 0,
        }
    }
}

impl<T: Ord + Clone> Interned<T> {
    /// One more user of a value: its number, and whether it is new.
    pub(crate) fn add(&mut self, value: T) -> (Id, bool) {
        if let Some((id, users)) = self.values.get_mut(&value) {
            *users += 1;
            return (*id, false);
        }
        let id = self.next;
        self.next += 1;
        self.by_id.insert(id, value.clone());
        self.values.insert(value, (id, 1));
        (id, true)
    }

    /// One user less; true if it was the last.
    pub(crate) fn release(&mut self, id: Id) -> bool {
        let Some(value) = self.by_id.get(&id) else {
            return false;
        };
        let Some((_, users)) = self.values.get_mut(value) else {
            return false;
        };
        *users -= 1;
        if *users > 0 {
            return false;
        }
        self.values.remove(value);
        self.by_id.remove(&id);
        true
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (Id, &T)> {
        self.by_id.iter().map(|(id, value)| (*id, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_lives_as_long_as_it_has_users() {
        let mut interned = Interned::default();
        assert_eq!(interned.add("a"), (0, true));
        assert_eq!(interned.add("b"), (1, true));
        assert_eq!(interned.add("a"), (0, false));
        assert!(!interned.release(0));
        assert!(interned.release(0));
        assert!(!interned.release(0), "it has gone");
        assert_eq!(interned.add("a"), (2, true), "no number is used again");
        assert_eq!(interned.iter().collect::<Vec<_>>(), [(1, &"b"), (2, &"a")]);
    }
}
