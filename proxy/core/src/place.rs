//! Slots of backends: a front's backends keep their slots while others come and go, so that a change costs few elements.

use std::collections::BTreeSet;

use crate::chain::MAX_BACKENDS;
use crate::ruleset::Backend;

/// Orders `wanted` so that as many backends as possible keep the slot that they have in `previous`.
///
/// New backends fill the holes that removed ones left; what holes remain are filled from the end. Without `previous` the order is
/// that of the set.
#[must_use]
pub fn place(previous: &[Backend], mut wanted: BTreeSet<Backend>) -> Vec<Backend> {
    while wanted.len() > MAX_BACKENDS {
        wanted.pop_last();
    }
    let mut slots: Vec<Option<Backend>> = previous.iter().map(|backend| wanted.take(backend)).collect();
    let mut new = wanted.into_iter();
    for hole in slots.iter_mut().filter(|slot| slot.is_none()) {
        *hole = new.next();
    }
    slots.extend(new.map(Some));
    let mut placed = Vec::with_capacity(slots.len());
    let mut slots = std::collections::VecDeque::from(slots);
    while let Some(slot) = slots.pop_front() {
        let filled = slot.or_else(|| std::iter::from_fn(|| slots.pop_back()).flatten().next());
        placed.extend(filled);
    }
    placed
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn backend(last: u8) -> Backend {
        Backend {
            address: [10, 0, 0, last].into(),
            port: 80,
        }
    }

    fn list(lasts: &[u8]) -> Vec<Backend> {
        lasts.iter().copied().map(backend).collect()
    }

    fn set(lasts: &[u8]) -> BTreeSet<Backend> {
        lasts.iter().copied().map(backend).collect()
    }

    #[test]
    fn the_last_moves_into_the_hole() {
        assert_eq!(place(&list(&[1, 2, 3, 4]), set(&[1, 3, 4])), list(&[1, 4, 3]));
        assert_eq!(
            place(&list(&[1, 2, 3]), set(&[1, 3, 9])),
            list(&[1, 9, 3]),
            "a new one replaces"
        );
        assert_eq!(
            place(&list(&[1, 2]), set(&[1, 2, 9])),
            list(&[1, 2, 9]),
            "a new one is appended"
        );
        assert_eq!(place(&list(&[1, 2, 3]), set(&[3])), list(&[3]));
        assert_eq!(place(&list(&[1, 2, 3]), set(&[])), list(&[]));
    }

    proptest! {
        #[test]
        fn placement_is_the_wanted_set_and_moves_little(previous: BTreeSet<u8>, wanted: BTreeSet<u8>) {
            let previous: Vec<_> = previous.into_iter().map(backend).collect();
            let wanted: BTreeSet<_> = wanted.into_iter().map(backend).collect();
            let placed = place(&previous, wanted.clone());
            prop_assert_eq!(placed.len(), wanted.len());
            prop_assert_eq!(placed.iter().copied().collect::<BTreeSet<_>>(), wanted.clone());
            let gone = previous.iter().filter(|b| !wanted.contains(b)).count();
            let moved = placed.iter().zip(&previous).filter(|(now, was)| now != was).count();
            prop_assert!(moved <= gone, "{} of {} moved", moved, gone);
            prop_assert_eq!(place(&placed, wanted), placed.clone());
        }
    }
}
