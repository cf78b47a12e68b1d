//! What logs take on disk, as last measured: a container in which nothing runs writes nothing.
//!
//! The runtime writes a moment after the container does, so its figure is kept only when nothing has run since the look
//! before; and for a minute at most, because the agent rotates and compresses logs by itself.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use gantry_agent_core::stats::figures::Usage;

const LAST: Duration = Duration::from_secs(60);

#[derive(Debug)]
struct Measured {
    at: Instant,
    /// CPU time of the container then.
    cpu_ns: u64,
    /// It was the same at the look before.
    is_calm: bool,
    usage: Option<Usage>,
}

/// By container or pod.
#[derive(Debug, Default)]
pub(super) struct LogSizes(Mutex<HashMap<String, Measured>>);

impl LogSizes {
    /// What the logs of `key` take, which has used `cpu_ns` of CPU time so far.
    pub(super) fn of(
        &self,
        key: &str,
        cpu_ns: u64,
        measure: impl FnOnce() -> Option<Usage>,
    ) -> Option<Usage> {
        let mut all = self.lock();
        let known = all.get_mut(key).filter(|known| known.cpu_ns == cpu_ns);
        let is_calm = known.is_some();
        if let Some(known) = known
            && known.is_calm
            && known.at.elapsed() < LAST
        {
            return known.usage;
        }
        let usage = measure();
        let measured = Measured {
            at: Instant::now(),
            cpu_ns,
            is_calm,
            usage,
        };
        all.insert(key.to_owned(), measured);
        usage
    }

    /// Forgets the others.
    pub(super) fn keep(&self, wanted: impl Fn(&str) -> bool) {
        self.lock().retain(|key, _| wanted(key));
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Measured>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(bytes: u64) -> Option<Usage> {
        Some(Usage { bytes, inodes: 1 })
    }

    #[test]
    fn logs_are_measured_while_something_runs_and_once_more() {
        let sizes = LogSizes::default();
        for (cpu_ns, on_disk, found) in [(1, 10, 10), (2, 20, 20), (2, 30, 30), (2, 40, 30), (3, 50, 50)] {
            assert_eq!(sizes.of("c", cpu_ns, || bytes(on_disk)), bytes(found));
        }
        assert_eq!(sizes.of("other", 3, || None), None);
        sizes.keep(|key| key == "other");
        assert_eq!(sizes.of("c", 3, || bytes(60)), bytes(60));
    }
}
