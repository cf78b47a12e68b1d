//! When to try again: growing delays for failed steps, and the crash back-off of containers.
//!
//! Both are the kubelet's: failed syncs come again after 10 s, pulls after 10 s to 300 s, crashed containers after
//! 10 s x 2^n up to 300 s, forgotten when one ran for 600 s.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use jiff::{SignedDuration, Timestamp};

/// The first delay after a crash (`backOffPeriod`).
const CRASH_BASE: Duration = Duration::from_secs(10);
/// The longest delay after a crash (`MaxCrashLoopBackOff`).
pub const CRASH_CAP: Duration = Duration::from_secs(300);
/// A container that ran this long since its last start begins at no delay again.
const CRASH_RESET: SignedDuration = SignedDuration::from_secs(600);

/// A delay that doubles with each failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// After the first failure.
    pub base: Duration,
    /// Never longer than this.
    pub cap: Duration,
}

/// The crash back-off of one container of the spec.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Crash {
    /// Of the definition that crashed: a changed one begins afresh.
    hash: String,
    delay: Duration,
    updated: Timestamp,
}

/// The crash back-offs of a pod, by container name.
#[derive(Debug, Clone)]
pub struct Crashes {
    cap: Duration,
    by_name: BTreeMap<String, Crash>,
}

// === impl Backoff ===

impl Backoff {
    /// The same delay every time.
    #[must_use]
    pub const fn fixed(delay: Duration) -> Self {
        Self {
            base: delay,
            cap: delay,
        }
    }

    /// The delay after `failures` failures in a row; none before the first one.
    #[must_use]
    pub fn delay(&self, failures: u32) -> Duration {
        let Some(doublings) = failures.checked_sub(1) else {
            return Duration::ZERO;
        };
        let factor = 1_u32.checked_shl(doublings).unwrap_or(u32::MAX);
        self.base.saturating_mul(factor).min(self.cap)
    }
}

// === impl Crashes ===

impl Default for Crashes {
    fn default() -> Self {
        Self::new(CRASH_CAP)
    }
}

impl Crashes {
    /// No crash yet; delays never grow beyond `cap` (`crashLoopBackOff.maxContainerRestartPeriod`).
    #[must_use]
    pub fn new(cap: Duration) -> Self {
        Self {
            cap,
            by_name: BTreeMap::new(),
        }
    }

    /// The delay that the container has to wait out after the exit at `finished`, if any.
    #[must_use]
    pub fn delay(&self, name: &str, hash: &str, finished: Timestamp) -> Option<Duration> {
        self.current(name, hash, finished).map(|crash| crash.delay)
    }

    /// When the container that exited at `finished` may start again; `None` is at once.
    #[must_use]
    pub fn due(&self, name: &str, hash: &str, finished: Timestamp) -> Option<Timestamp> {
        let delay = self.delay(name, hash, finished)?;
        Some(finished.saturating_add(delay).unwrap_or(finished))
    }

    /// The container that exited at `finished` is started again: its next exit waits longer.
    pub fn restarted(&mut self, name: &str, hash: &str, finished: Timestamp, now: Timestamp) {
        let delay = match self.current(name, hash, finished) {
            Some(crash) => crash.delay.saturating_mul(2).min(self.cap),
            None => CRASH_BASE.min(self.cap),
        };
        self.by_name.insert(
            name.to_owned(),
            Crash {
                hash: hash.to_owned(),
                delay,
                updated: now,
            },
        );
    }

    fn current(&self, name: &str, hash: &str, finished: Timestamp) -> Option<&Crash> {
        let crash = self.by_name.get(name)?;
        (crash.hash == hash && finished.duration_since(crash.updated) <= CRASH_RESET).then_some(crash)
    }
}

/// Whole seconds in Go's notation, as the kubelet's messages have it: `10s`, `1m20s`, `5m0s`.
#[must_use]
pub fn go_seconds(duration: Duration) -> String {
    let (hours, minutes, seconds) = (
        duration.as_secs() / 3600,
        duration.as_secs() / 60 % 60,
        duration.as_secs() % 60,
    );
    let mut text = String::new();
    if hours > 0 {
        let _ = write!(text, "{hours}h");
    }
    if hours > 0 || minutes > 0 {
        let _ = write!(text, "{minutes}m");
    }
    let _ = write!(text, "{seconds}s");
    text
}

#[cfg(test)]
mod tests;
