//! How much CPU is used just now: the difference of two looks, as thousand-millionths of a CPU.
//!
//! The reference looks every 10 to 15 seconds by itself and shows the last difference. We look when somebody asks, so
//! the window is the time since the last look that is at least [`STEP`] old; between two looks that are closer than
//! that, the one before them is kept. At the first look the window is the cgroup's whole life.

use jiff::Timestamp;

/// The shortest window, in nanoseconds, once the cgroup is that old.
pub const STEP: i128 = 10_000_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Look {
    at: i128,
    usage_ns: u64,
}

/// The last looks at one cgroup.
#[derive(Debug, Clone)]
pub struct Rate {
    /// The base of the window while `last` is too young.
    base: Look,
    /// Becomes the base when it is old enough.
    last: Look,
}

impl Rate {
    /// A cgroup that has used nothing yet.
    #[must_use]
    pub fn since(created: Timestamp) -> Self {
        let birth = Look {
            at: created.as_nanosecond(),
            usage_ns: 0,
        };
        Self {
            base: birth,
            last: birth,
        }
    }

    /// Takes a look: so much CPU time in all, then. Zero when time or usage went backwards.
    pub fn look(&mut self, at: Timestamp, usage_ns: u64) -> u64 {
        let now = Look {
            at: at.as_nanosecond(),
            usage_ns,
        };
        if now.at - self.last.at >= STEP || now.usage_ns < self.last.usage_ns {
            self.base = self.last;
            self.last = now;
        }
        let (Ok(nanos), Some(used)) = (
            u128::try_from(now.at - self.base.at),
            now.usage_ns.checked_sub(self.base.usage_ns),
        ) else {
            return 0;
        };
        let cores = (u128::from(used) * 1_000_000_000).checked_div(nanos);
        cores.and_then(|cores| u64::try_from(cores).ok()).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(secs: i64) -> Timestamp {
        Timestamp::new(1_000_000 + secs, 0).unwrap()
    }

    const S: u64 = 1_000_000_000;

    #[test]
    fn the_first_window_is_the_whole_life_and_later_ones_last_ten_seconds_at_least() {
        let mut rate = Rate::since(at(0));
        // Half a CPU from the start.
        assert_eq!(rate.look(at(100), 50 * S), S / 2);
        // Idle since: five seconds later the window is still the life, ten seconds later it is the last look.
        assert_eq!(rate.look(at(105), 50 * S), 476_190_476);
        assert_eq!(rate.look(at(110), 50 * S), 0);
        // A whole CPU for the next four seconds, seen from the look before the last.
        assert_eq!(rate.look(at(114), 54 * S), 285_714_285);
        assert_eq!(rate.look(at(120), 60 * S), S);
    }

    #[test]
    fn a_counter_that_went_back_starts_anew() {
        let mut rate = Rate::since(at(0));
        rate.look(at(50), 50 * S);
        assert_eq!(rate.look(at(60), S), 0);
        assert_eq!(rate.look(at(70), 2 * S), S / 10);
        assert_eq!(rate.look(at(60), 2 * S), 0);
    }

    proptest! {
        #[test]
        fn never_panics(looks in prop::collection::vec((any::<i32>(), any::<u64>()), 0..20)) {
            let mut rate = Rate::since(at(0));
            for (secs, usage) in looks {
                rate.look(at(i64::from(secs)), usage);
            }
        }
    }
}
