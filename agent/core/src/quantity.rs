//! Kubernetes quantities: `250m`, `1.5Gi`, `3e6`.
//!
//! Text in, an exact number of nano units out, and back in the canonical form of apimachinery's
//! `pkg/api/resource`: no fraction, the largest suffix that keeps every digit.

use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;
use thiserror::Error;

/// One unit, in nano units.
const UNIT: i128 = 1_000_000_000;
/// The largest value that Kubernetes keeps, 2^63 - 1 units.
const MAX: i128 = i64::MAX as i128 * UNIT;

/// The family of suffixes that a quantity is written with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Format {
    /// `m`, `k`, `M`, ...: powers of 1000.
    #[default]
    DecimalSi,
    /// `Ki`, `Mi`, ...: powers of 1024.
    BinarySi,
    /// `e3`, `E6`: a decimal exponent.
    DecimalExponent,
}

/// An amount of some resource: CPUs, bytes, a count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Quantity {
    /// In nano units (10^-9).
    nanos: i128,
    format: Format,
}

/// The text is no quantity.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "{text:?} is not a quantity: expected a number with an optional suffix, such as 100m, 1.5, 64Mi or 2e3"
)]
pub struct QuantityError {
    text: String,
}

impl Quantity {
    /// No amount.
    pub const ZERO: Self = Self {
        nanos: 0,
        format: Format::DecimalSi,
    };

    /// `value` units.
    #[must_use]
    pub fn from_value(value: i64, format: Format) -> Self {
        Self {
            nanos: i128::from(value) * UNIT,
            format,
        }
    }

    /// `milli` thousandths of a unit.
    #[must_use]
    pub fn from_milli(milli: i64) -> Self {
        Self {
            nanos: i128::from(milli) * (UNIT / 1000),
            format: Format::DecimalSi,
        }
    }

    /// Units, rounded away from zero, at most what 64 bits hold.
    #[must_use]
    pub fn value(self) -> i64 {
        saturate(div_away(self.nanos, UNIT))
    }

    /// Thousandths of a unit, rounded away from zero, at most what 64 bits hold.
    #[must_use]
    pub fn milli_value(self) -> i64 {
        saturate(div_away(self.nanos, UNIT / 1000))
    }

    /// The family of suffixes.
    #[must_use]
    pub fn format(self) -> Format {
        self.format
    }

    /// Exactly nothing.
    #[must_use]
    pub fn is_zero(self) -> bool {
        self.nanos == 0
    }

    /// `self / divisor`, rounded up to a whole number: how the downward API shows a resource. A zero divisor counts
    /// as one.
    #[must_use]
    pub fn divided_by(self, divisor: Self) -> i64 {
        let divisor = if divisor.is_zero() { UNIT } else { divisor.nanos };
        saturate(div_ceil(self.nanos, divisor))
    }

    /// The larger of the two; `self` when equal.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        if other.nanos > self.nanos { other } else { self }
    }
}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        (self.nanos != other.nanos || self.format == other.format).then(|| self.nanos.cmp(&other.nanos))
    }
}

impl Add for Quantity {
    type Output = Self;

    /// Keeps the format of the left side, or takes the right one's when the left is zero.
    fn add(self, other: Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        Self {
            nanos: self.nanos.saturating_add(other.nanos),
            format,
        }
    }
}

impl Sub for Quantity {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        let format = if self.is_zero() { other.format } else { self.format };
        Self {
            nanos: self.nanos.saturating_sub(other.nanos),
            format,
        }
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        parse(text).ok_or_else(|| QuantityError {
            text: text.to_owned(),
        })
    }
}

impl TryFrom<&ApiQuantity> for Quantity {
    type Error = QuantityError;

    fn try_from(quantity: &ApiQuantity) -> Result<Self, QuantityError> {
        quantity.0.parse()
    }
}

impl From<Quantity> for ApiQuantity {
    fn from(quantity: Quantity) -> Self {
        Self(quantity.to_string())
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nanos == 0 {
            return f.write_str("0");
        }
        let small = self.nanos.abs() < 1024 * UNIT;
        if self.format == Format::BinarySi && !small && self.nanos % UNIT == 0 {
            return write_binary(f, self.nanos / UNIT);
        }
        write_decimal(f, self.nanos, self.format)
    }
}

const BINARY: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
/// From 10^-9 in steps of 1000.
const DECIMAL: [&str; 10] = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];

fn write_binary(f: &mut fmt::Formatter<'_>, mut number: i128) -> fmt::Result {
    let mut power = 0;
    while number % 1024 == 0 && power + 1 < BINARY.len() {
        number /= 1024;
        power += 1;
    }
    write!(f, "{number}{}", BINARY[power])
}

fn write_decimal(f: &mut fmt::Formatter<'_>, mut number: i128, format: Format) -> fmt::Result {
    let mut suffix = 0;
    let mut exponent = -9;
    while number % 1000 == 0 && suffix + 1 < DECIMAL.len() {
        number /= 1000;
        suffix += 1;
        exponent += 3;
    }
    match format {
        Format::DecimalSi | Format::BinarySi => write!(f, "{number}{}", DECIMAL[suffix]),
        Format::DecimalExponent if exponent == 0 => write!(f, "{number}"),
        Format::DecimalExponent => write!(f, "{number}e{exponent}"),
    }
}

fn parse(text: &str) -> Option<Quantity> {
    let (negative, unsigned) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let end = unsigned
        .find(|c: char| !c.is_ascii_digit() && c != '.')
        .unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let (scale, format) = suffix_scale(suffix)?;
    let magnitude = magnitude(whole, fraction, scale);
    let format = if format == Format::BinarySi && magnitude > 0 && magnitude < UNIT {
        Format::DecimalSi
    } else {
        format
    };
    Some(Quantity {
        nanos: if negative { -magnitude } else { magnitude },
        format,
    })
}

/// What a suffix multiplies with.
#[derive(Clone, Copy)]
enum Scale {
    /// A power of ten.
    Ten(i32),
    /// A power of two.
    Two(u32),
}

fn suffix_scale(suffix: &str) -> Option<(Scale, Format)> {
    if let Some(step) = DECIMAL.iter().position(|s| *s == suffix) {
        return Some((Scale::Ten(i32::try_from(step).ok()? * 3 - 9), Format::DecimalSi));
    }
    if let Some(step) = BINARY.iter().position(|s| *s == suffix) {
        return Some((Scale::Two(u32::try_from(step).ok()? * 10), Format::BinarySi));
    }
    let exponent = suffix.strip_prefix(['e', 'E'])?;
    let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    // Beyond this everything is the maximum or rounds to one nano.
    let exponent = exponent.parse::<i32>().ok()?.clamp(-100, 100);
    Some((Scale::Ten(exponent), Format::DecimalExponent))
}

/// `whole.fraction` times the scale in nano units: rounded up, capped at the maximum.
fn magnitude(whole: &str, fraction: &str, scale: Scale) -> i128 {
    let fraction = fraction.trim_end_matches('0');
    let (ten, two) = match scale {
        Scale::Ten(power) => (power, 0),
        Scale::Two(power) => (0, power),
    };
    // 29 digits keep every exact decimal value; what follows can only round.
    let mut mantissa: i128 = 0;
    let mut power = ten + 9 - i32::try_from(fraction.len()).unwrap_or(i32::MAX / 2);
    let mut inexact = false;
    for digit in whole
        .bytes()
        .chain(fraction.bytes())
        .map(|b| i128::from(b - b'0'))
    {
        if mantissa < 10_i128.pow(28) {
            mantissa = mantissa * 10 + digit;
        } else {
            power += 1;
            inexact |= digit != 0;
        }
    }
    // A binary suffix needs room for its factor; only a number of more than 20 digits loses any.
    while mantissa > i128::MAX >> two {
        inexact |= mantissa % 10 != 0;
        mantissa /= 10;
        power += 1;
    }
    let scaled = mantissa << two;
    let (exact, lost) = if power >= 0 {
        let factor = 10_i128.checked_pow(power.unsigned_abs()).unwrap_or(i128::MAX);
        (scaled.saturating_mul(factor), false)
    } else {
        match 10_i128.checked_pow(power.unsigned_abs()) {
            Some(divisor) => (scaled / divisor, scaled % divisor != 0),
            None => (0, scaled != 0),
        }
    };
    exact.saturating_add(i128::from(lost || inexact)).min(MAX)
}

fn div_away(number: i128, divisor: i128) -> i128 {
    let (quotient, rest) = (number / divisor, number % divisor);
    if rest == 0 {
        quotient
    } else {
        quotient + number.signum() * divisor.signum()
    }
}

fn div_ceil(number: i128, divisor: i128) -> i128 {
    let (quotient, rest) = (number / divisor, number % divisor);
    if rest != 0 && (rest > 0) == (divisor > 0) {
        quotient + 1
    } else {
        quotient
    }
}

fn saturate(number: i128) -> i64 {
    i64::try_from(number).unwrap_or(if number > 0 { i64::MAX } else { i64::MIN })
}

#[cfg(test)]
#[path = "quantity/tests.rs"]
mod tests;
