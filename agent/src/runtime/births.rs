//! When containerd made the containers of the newest sandboxes.
//!
//! RunPodSandbox first makes the network namespace and has the CNI plugins set it up, and makes the sandbox's container
//! after that: the native event of the container's birth splits the call in two.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

/// More than sandboxes are ever made at a time; the births of other containers pass through as well.
const KEPT: usize = 128;

/// Births that nobody has asked for yet, oldest first. Clones share them.
#[derive(Debug, Clone, Default)]
pub(super) struct Births {
    shared: Arc<Mutex<VecDeque<(String, SystemTime)>>>,
}

impl Births {
    pub(super) fn note(&self, id: String, at: SystemTime) {
        let mut births = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        if births.len() == KEPT {
            births.pop_front();
        }
        births.push_back((id, at));
    }

    /// When it was made, asked once.
    pub(super) fn take(&self, id: &str) -> Option<SystemTime> {
        let mut births = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let place = births.iter().position(|(born, _)| born == id)?;
        births.remove(place).map(|(_, at)| at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_known_and_told_once() {
        let births = Births::default();
        for n in 0..=KEPT {
            births.note(n.to_string(), SystemTime::UNIX_EPOCH);
        }
        assert_eq!(births.take("0"), None);
        assert_eq!(births.take("1"), Some(SystemTime::UNIX_EPOCH));
        assert_eq!(births.take("1"), None);
    }
}
