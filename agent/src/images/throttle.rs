//! A token bucket, and durations as Go prints them.

use std::time::{Duration, Instant};

/// `registryPullQPS` and `registryBurst`.
#[derive(Debug)]
pub(super) struct Bucket {
    per_second: f64,
    burst: f64,
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    pub(super) fn new(per_second: f64, burst: u32, now: Instant) -> Self {
        let burst = f64::from(burst.max(1));
        Self {
            per_second,
            burst,
            tokens: burst,
            filled: now,
        }
    }

    /// Takes a token if there is one. A rate of zero does not limit.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        if self.per_second <= 0.0 {
            return true;
        }
        let gained = now.saturating_duration_since(self.filled).as_secs_f64() * self.per_second;
        self.tokens = (self.tokens + gained).min(self.burst);
        self.filled = now;
        if self.tokens < 1.0 {
            return false;
        }
        self.tokens -= 1.0;
        true
    }
}

/// As Go prints a duration cut to milliseconds: `850ms`, `1.2s`, `1m2.003s`.
pub(super) fn go_duration(duration: Duration) -> String {
    let millis = duration.as_millis();
    if millis == 0 {
        return "0s".to_owned();
    }
    if millis < 1000 {
        return format!("{millis}ms");
    }
    let (hours, minutes) = (millis / 3_600_000, millis / 60_000 % 60);
    let (seconds, fraction) = (millis / 1000 % 60, millis % 1000);
    let fraction = if fraction == 0 {
        String::new()
    } else {
        format!(".{fraction:03}")
    };
    let seconds = format!("{seconds}{}s", fraction.trim_end_matches('0'));
    match (hours, minutes) {
        (0, 0) => seconds,
        (0, minutes) => format!("{minutes}m{seconds}"),
        (hours, minutes) => format!("{hours}h{minutes}m{seconds}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_the_rate() {
        let start = Instant::now();
        let mut bucket = Bucket::new(5.0, 2, start);
        assert_eq!([(); 3].map(|()| bucket.take(start)), [true, true, false]);
        assert!(bucket.take(start + Duration::from_millis(200)));
        assert!(!bucket.take(start + Duration::from_millis(250)));
        let mut unlimited = Bucket::new(0.0, 0, start);
        assert!((0..100).all(|_| unlimited.take(start)));
    }

    #[test]
    fn durations_as_go_prints_them() {
        let of = |millis| go_duration(Duration::from_millis(millis));
        let printed = [0, 850, 1000, 1200, 1003, 62_500, 3_600_000].map(of);
        assert_eq!(
            printed,
            ["0s", "850ms", "1s", "1.2s", "1.003s", "1m2.5s", "1h0m0s"]
        );
    }
}
