//! Pressure: `cpu.pressure`, `memory.pressure`, `io.pressure` (version 2), by the kernel's `accounting/psi.rst`.

use super::{digits, lines, words};
use crate::stats::figures::{Pressure, Stall};

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0` and a line that begins with `full`.
#[must_use]
pub fn pressure(text: &[u8]) -> Pressure {
    let mut pressure = Pressure::default();
    for line in lines(text) {
        let mut words = words(line);
        match words.next() {
            Some(b"some") => pressure.some = stall(words),
            Some(b"full") => pressure.full = stall(words),
            _ => {}
        }
    }
    pressure
}

fn stall<'a>(words: impl Iterator<Item = &'a [u8]>) -> Stall {
    let mut stall = Stall::default();
    for word in words {
        let Some(sign) = word.iter().position(|byte| *byte == b'=') else {
            continue;
        };
        let value = &word[sign + 1..];
        match &word[..sign] {
            b"avg10" => stall.avg10 = percent(value),
            b"avg60" => stall.avg60 = percent(value),
            b"avg300" => stall.avg300 = percent(value),
            b"total" => stall.total_us = digits(value).unwrap_or(0),
            _ => {}
        }
    }
    stall
}

/// A percentage with two decimals; zero when it is none.
fn percent(text: &[u8]) -> f64 {
    let text = std::str::from_utf8(text).unwrap_or_default();
    text.parse()
        .ok()
        .filter(|value: &f64| value.is_finite())
        .unwrap_or(0.0)
}
