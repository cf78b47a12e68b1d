//! Waiting for a condition, with a deadline.

use std::time::{Duration, Instant};

/// Between two looks at what cannot be watched.
const INTERVAL: Duration = Duration::from_millis(100);

/// `n` seconds.
pub const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Asks again and again until there is an answer.
#[track_caller]
pub fn poll<T>(deadline: Duration, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(start.elapsed() < deadline, "not after {deadline:?}: {what}");
        std::thread::sleep(INTERVAL);
    }
}

/// Asks again and again until the answer is Ok; a failure shows the last error.
#[track_caller]
pub fn poll_ok<T>(deadline: Duration, what: &str, mut ask: impl FnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    loop {
        match ask() {
            Ok(answer) => return answer,
            Err(error) => assert!(
                start.elapsed() < deadline,
                "not after {deadline:?}: {what}: {error}"
            ),
        }
        std::thread::sleep(INTERVAL);
    }
}

/// Looks again and again for as long as `duration`, and fails as soon as it does not hold.
#[track_caller]
pub fn holds(duration: Duration, what: &str, mut check: impl FnMut() -> Result<(), String>) {
    let start = Instant::now();
    while start.elapsed() < duration {
        if let Err(error) = check() {
            panic!("not any more after {:?}: {what}: {error}", start.elapsed());
        }
        std::thread::sleep(INTERVAL);
    }
}
