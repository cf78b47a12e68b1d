//! Failed steps and when they are tried again.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use super::step::{Retry, StepError, StepKey};

/// What is known soon is tried again after this.
const SOON: Duration = Duration::from_secs(1);
/// A failed pull shows its own reason for this long, then that it is backing off.
const FRESH: Duration = Duration::from_secs(1);

/// The failed steps of a pod; a success forgets the failures of its step.
#[derive(Debug, Default)]
pub(super) struct Retries(BTreeMap<StepKey, Failed>);

/// The last failure of a step.
#[derive(Debug)]
pub(super) struct Failed {
    failures: u32,
    pub(super) due: Instant,
    fresh_until: Instant,
    pub(super) error: StepError,
    /// The back-off was announced in an event.
    pub(super) told: bool,
}

impl Retries {
    pub(super) fn failed(&mut self, key: &StepKey, error: StepError, now: Instant) {
        let failures = self.0.get(key).map_or(0, |f| f.failures).saturating_add(1);
        let delay = match error.retry {
            Retry::Backoff => key.backoff().delay(failures),
            Retry::Soon => SOON,
        };
        let failed = Failed {
            failures,
            due: now + delay,
            fresh_until: now + FRESH,
            error,
            told: false,
        };
        self.0.insert(key.clone(), failed);
    }

    pub(super) fn succeeded(&mut self, key: &StepKey) {
        self.0.remove(key);
    }

    /// The step may begin: it has not failed, or its back-off has passed.
    pub(super) fn ready(&self, key: &StepKey, now: Instant) -> bool {
        self.0.get(key).is_none_or(|f| f.due <= now)
    }

    pub(super) fn get(&self, key: &StepKey) -> Option<&Failed> {
        self.0.get(key)
    }

    pub(super) fn get_mut(&mut self, key: &StepKey) -> Option<&mut Failed> {
        self.0.get_mut(key)
    }

    /// What failed may work now: the pod's spec or metadata has changed. Pulls keep their back-off, which is the
    /// image's.
    pub(super) fn hurry(&mut self, now: Instant) {
        for (key, failed) in &mut self.0 {
            if key.makes() {
                failed.due = failed.due.min(now);
            }
        }
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&StepKey) -> bool) {
        self.0.retain(|key, _| keep(key));
    }

    pub(super) fn deadlines(&self) -> impl Iterator<Item = Instant> {
        self.0.values().flat_map(|f| [f.due, f.fresh_until])
    }
}

impl Failed {
    pub(super) fn fresh(&self, now: Instant) -> bool {
        now < self.fresh_until
    }
}
