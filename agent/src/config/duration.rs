//! Go's duration notation (`time.ParseDuration`): `10s`, `1m30s`, `1.5h`, `-100ms`, `0`.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de::Error as _};

/// Why a text is not a duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ParseDurationError {
    /// No text, or only a sign.
    #[error("empty duration")]
    Empty,
    /// Something that is neither digits nor a dot where a number must be.
    #[error("expected a number at {0:?}")]
    Number(String),
    /// A number without a unit, or an unknown one.
    #[error("missing or unknown unit at {0:?}, allowed are h, m, s, ms, us, ns")]
    Unit(String),
    /// More than 2^63-1 nanoseconds (292 years).
    #[error("duration out of range")]
    Range,
}

/// Nanoseconds of a Go duration; the sign is kept. Range: that of `i64`.
pub(crate) fn parse_nanos(text: &str) -> Result<i64, ParseDurationError> {
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(ParseDurationError::Empty);
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let (nanos, tail) = parse_part(rest)?;
        total += nanos;
        if total > i128::from(i64::MAX) + i128::from(negative) {
            return Err(ParseDurationError::Range);
        }
        rest = tail;
    }
    i64::try_from(if negative { -total } else { total }).map_err(|_| ParseDurationError::Range)
}

/// One `<number><unit>`: its nanoseconds (never negative) and what follows.
fn parse_part(text: &str) -> Result<(i128, &str), ParseDurationError> {
    let number_end = text
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(text.len());
    let (number, tail) = text.split_at(number_end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return Err(ParseDurationError::Number(text.to_owned()));
    }
    let unit_end = tail
        .find(|c: char| c.is_ascii_digit() || c == '.')
        .unwrap_or(tail.len());
    let (unit, rest) = tail.split_at(unit_end);
    let scale: i128 = match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return Err(ParseDurationError::Unit(tail.to_owned())),
    };
    let whole: i128 = match whole {
        "" => 0,
        digits => digits
            .parse::<i64>()
            .map_err(|_| ParseDurationError::Range)?
            .into(),
    };
    // 15 digits: below a nanosecond of an hour; more are dropped, as the notation allows.
    let digits = &fraction[..fraction.len().min(15)];
    let fraction: i128 = if digits.is_empty() {
        0
    } else {
        digits.parse().unwrap_or(0)
    };
    let power = 10_i128.pow(u32::try_from(digits.len()).unwrap_or(15));
    Ok((whole * scale + fraction * scale / power, rest))
}

/// A duration as Go writes it: `1m0s`, `1h0m0s`, `100ms`, `0s`.
pub(super) fn format(nanos: i64) -> String {
    let (sign, all) = (if nanos < 0 { "-" } else { "" }, nanos.unsigned_abs());
    let part = |unit: u64, digits: usize| {
        let fraction = format!("{:0digits$}", all % unit);
        let fraction = fraction.trim_end_matches('0');
        let dot = if fraction.is_empty() { "" } else { "." };
        format!("{dot}{fraction}")
    };
    match all {
        0 => "0s".to_owned(),
        1..1_000 => format!("{sign}{all}ns"),
        1_000..1_000_000 => format!("{sign}{}{}µs", all / 1_000, part(1_000, 3)),
        1_000_000..1_000_000_000 => format!("{sign}{}{}ms", all / 1_000_000, part(1_000_000, 6)),
        _ => {
            let secs = all / 1_000_000_000;
            let rest = part(1_000_000_000, 9);
            let (hours, minutes) = (secs / 3600, secs / 60 % 60);
            match (hours, minutes) {
                (0, 0) => format!("{sign}{secs}{rest}s"),
                (0, _) => format!("{sign}{minutes}m{}{rest}s", secs % 60),
                _ => format!("{sign}{hours}h{minutes}m{}{rest}s", secs % 60),
            }
        }
    }
}

/// A Go duration that cannot be negative here: a negative one counts as zero, as "disabled" does.
pub(crate) fn parse(text: &str) -> Result<Duration, ParseDurationError> {
    Ok(Duration::from_nanos(
        u64::try_from(parse_nanos(text)?).unwrap_or(0),
    ))
}

/// serde: a Go duration in a string.
pub(crate) fn de_duration<'de, D: Deserializer<'de>>(de: D) -> Result<Duration, D::Error> {
    parse(&String::deserialize(de)?).map_err(D::Error::custom)
}

/// serde: a Go duration in a string, or nothing.
pub(crate) fn de_duration_opt<'de, D: Deserializer<'de>>(de: D) -> Result<Option<Duration>, D::Error> {
    Option::<String>::deserialize(de)?
        .map(|text| parse(&text).map_err(D::Error::custom))
        .transpose()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn accepts_go_notation() {
        for (text, nanos) in [
            ("0", 0),
            ("0s", 0),
            ("-0", 0),
            ("10s", 10_000_000_000),
            ("1m30s", 90_000_000_000),
            ("1.5h", 5_400_000_000_000),
            (".5s", 500_000_000),
            ("2.s", 2_000_000_000),
            ("100ms", 100_000_000),
            ("3us", 3_000),
            ("3µs", 3_000),
            ("-1s", -1_000_000_000),
            ("+7ns", 7),
            ("9223372036854775807ns", i64::MAX),
        ] {
            assert_eq!(parse_nanos(text), Ok(nanos), "{text}");
        }
    }

    #[test]
    fn refuses_the_rest() {
        for text in [
            "",
            "-",
            "10",
            "s",
            "1x",
            "1.2.3s",
            "1s ",
            " 1s",
            "١s",
            "9999999999h",
            "1d",
            ".",
        ] {
            assert!(parse_nanos(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn writes_as_go_does() {
        for (nanos, text) in [
            (0, "0s"),
            (1, "1ns"),
            (1_500, "1.5µs"),
            (100_000_000, "100ms"),
            (60_000_000_000, "1m0s"),
            (14_400_000_000_000, "4h0m0s"),
            (90_500_000_000, "1m30.5s"),
            (-2_000_000_000, "-2s"),
        ] {
            assert_eq!(format(nanos), text);
        }
    }

    proptest! {
        #[test]
        fn reads_what_it_writes(nanos in any::<i64>()) {
            prop_assume!(nanos != i64::MIN);
            prop_assert_eq!(parse_nanos(&format(nanos)), Ok(nanos));
        }

        #[test]
        fn never_panics(text in ".{0,40}") {
            let _ = parse_nanos(&text);
            let _ = parse(&text);
        }

        #[test]
        fn reads_back_what_it_is_told(hours in 0_u32..1000, minutes in 0_u32..60, seconds in 0_u32..60) {
            let text = format!("{hours}h{minutes}m{seconds}s");
            let expected = u64::from(hours) * 3600 + u64::from(minutes) * 60 + u64::from(seconds);
            prop_assert_eq!(parse(&text), Ok(Duration::from_secs(expected)));
        }
    }
}
