//! Durations as Go writes them: `15m0s`, `1h`, `300ms`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

/// A duration in a configuration file (`metav1.Duration`). Negative ones count as zero: everywhere "off".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct GoDuration(pub Duration);

/// Why a text is not a duration.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a duration such as `15m`, `1h30m` or `250ms`")]
pub struct DurationError(String);

impl FromStr for GoDuration {
    type Err = DurationError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fail = || DurationError(text.to_owned());
        let (negative, mut rest) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix('+').unwrap_or(text)),
        };
        if rest == "0" {
            return Ok(Self::default());
        }
        let mut total = Duration::ZERO;
        if rest.is_empty() {
            return Err(fail());
        }
        while !rest.is_empty() {
            let digits = rest
                .find(|c: char| !c.is_ascii_digit() && c != '.')
                .ok_or_else(fail)?;
            let (number, tail) = rest.split_at(digits);
            let end = tail
                .find(|c: char| c.is_ascii_digit() || c == '.')
                .unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(end);
            let seconds = match unit {
                "ns" => 1e-9,
                "us" | "µs" | "μs" => 1e-6,
                "ms" => 1e-3,
                "s" => 1.0,
                "m" => 60.0,
                "h" => 3600.0,
                _ => return Err(fail()),
            };
            let number: f64 = number.parse().map_err(|_| fail())?;
            let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| fail())?;
            total = total.checked_add(part).ok_or_else(fail)?;
            rest = tail;
        }
        Ok(Self(if negative { Duration::ZERO } else { total }))
    }
}

impl fmt::Display for GoDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
        let fraction = self.0.subsec_millis();
        match (hours, minutes, seconds, fraction) {
            (0, 0, 0, 1..) => write!(f, "{fraction}ms"),
            (0, 0, _, 0) => write!(f, "{seconds}s"),
            (0, 0, _, _) => write!(f, "{seconds}.{fraction:03}s"),
            (0, _, _, _) => write!(f, "{minutes}m{seconds}s"),
            (_, _, _, _) => write!(f, "{hours}h{minutes}m{seconds}s"),
        }
    }
}

impl<'de> Deserialize<'de> for GoDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

impl Serialize for GoDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_go_reads_them() {
        let good = [
            ("0s", 0),
            ("0", 0),
            ("15m0s", 900_000),
            ("1h30m", 5_400_000),
            ("250ms", 250),
            ("1.5s", 1500),
            ("-5s", 0),
        ];
        for (text, millis) in good {
            assert_eq!(
                text.parse::<GoDuration>().unwrap().0,
                Duration::from_millis(millis),
                "{text}"
            );
        }
        for text in ["", "5", "s", "1x", "1h-5m", "..s", "-"] {
            assert!(text.parse::<GoDuration>().is_err(), "{text}");
        }
    }

    #[test]
    fn durations_print_as_go_prints_them() {
        for text in ["0s", "30s", "15m0s", "24h0m0s", "250ms", "1.500s"] {
            assert_eq!(text.parse::<GoDuration>().unwrap().to_string(), text);
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_duration_or_not(text in "[-+]?([0-9.]{0,25}(ns|us|µs|ms|s|m|h|x)?){0,4}|.{0,20}") {
            let _ = text.parse::<GoDuration>();
        }

        #[test]
        fn what_is_written_is_read(millis in 0..u64::MAX / 1000) {
            // A fraction of a second is not written beside minutes.
            let millis = if millis >= 60_000 { millis / 1000 * 1000 } else { millis };
            let duration = GoDuration(Duration::from_millis(millis));
            proptest::prop_assert_eq!(duration.to_string().parse(), Ok(duration));
        }
    }
}
