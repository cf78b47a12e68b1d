//! How long a broken watch waits before it tries again.

use std::time::Duration;

use kube::runtime::utils::Backoff;

/// The first pause.
const SHORTEST: Duration = Duration::from_millis(250);

/// The longest pause: what a node misses after an outage of the API server, so kept short. With the jitter a thousand
/// nodes still come back spread over as many seconds as this.
const LONGEST: Duration = Duration::from_secs(4);

/// Pauses that double from 0.25 s to 4 s, each between half and one and a half times as long; the first success starts
/// over.
#[derive(Debug, Clone)]
pub struct WatchBackoff {
    next: Duration,
}

impl Default for WatchBackoff {
    fn default() -> Self {
        Self { next: SHORTEST }
    }
}

impl Iterator for WatchBackoff {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        let pause = self.next.mul_f64(rand::random_range(0.5..1.5));
        self.next = (self.next * 2).min(LONGEST);
        Some(pause)
    }
}

impl Backoff for WatchBackoff {
    fn reset(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_few_seconds_and_start_over() {
        let mut backoff = WatchBackoff::default();
        let first = backoff.next().expect("never ends");
        assert!(first < SHORTEST * 2);
        let later: Vec<_> = backoff.by_ref().take(20).collect();
        assert!(
            later[10..]
                .iter()
                .all(|pause| *pause >= LONGEST / 2 && *pause <= LONGEST * 3 / 2)
        );
        backoff.reset();
        assert!(backoff.next().expect("never ends") < SHORTEST * 2);
    }
}
