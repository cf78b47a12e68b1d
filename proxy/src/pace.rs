//! When a loop writes what it was told of: soon, but together with what follows closely; and when it tries again.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout_at};

/// Inputs that follow each other this closely are written together.
const QUIET: Duration = Duration::from_millis(2);
/// But the first of them waits no longer than this.
const LATEST: Duration = Duration::from_millis(10);
/// Pause after a failure to write; it doubles up to [`MAX_PAUSE`].
const MIN_PAUSE: Duration = Duration::from_millis(500);
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// Takes what follows an input closely.
#[derive(Debug)]
pub(crate) struct Gathering {
    latest: Instant,
}

impl Gathering {
    /// The first input was just taken.
    pub(crate) fn begin() -> Self {
        Self {
            latest: Instant::now() + LATEST,
        }
    }

    /// The next input that follows closely; `None` when it is time to write.
    pub(crate) async fn next<I>(&self, inputs: &mut mpsc::Receiver<I>) -> Option<I> {
        let until = self.latest.min(Instant::now() + QUIET);
        timeout_at(until, inputs.recv()).await.ok().flatten()
    }

    /// True once the first input has waited for long enough. There may be more, which [`Gathering::next`] still gives: a long list is
    /// taken as fast as it comes where nothing can be written before its end.
    pub(crate) fn is_late(&self) -> bool {
        Instant::now() >= self.latest
    }
}

/// Returns at a time, or never. Cancel safe.
pub(crate) async fn reached(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// When to try again what failed.
#[derive(Debug)]
pub(crate) struct Retry {
    at: Option<Instant>,
    pause: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            at: None,
            pause: MIN_PAUSE,
        }
    }
}

impl Retry {
    /// When that is, if it is.
    pub(crate) fn at(&self) -> Option<Instant> {
        self.at
    }

    /// Not later than then.
    pub(crate) fn not_after(&mut self, at: Instant) {
        self.at = Some(self.at.map_or(at, |before| before.min(at)));
    }

    /// It is being tried.
    pub(crate) fn begin(&mut self) {
        self.at = None;
    }

    /// It was tried: all is right, or it is tried again after a pause that grows.
    pub(crate) fn end(&mut self, right: bool) {
        if right {
            self.pause = MIN_PAUSE;
        } else {
            self.at = Some(Instant::now() + self.pause);
            self.pause = (self.pause * 2).min(MAX_PAUSE);
        }
    }
}
