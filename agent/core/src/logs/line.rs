//! One line of a log: whose it is, when it was written, what it says.

use std::borrow::Cow;

use jiff::Timestamp;
use memchr::memchr;
use serde::Deserialize;

/// Time, stream and tags of a line in CRI format are found within this many bytes or not at all.
pub const MAX_HEADER: usize = 256;
/// A whole number of seconds: `2026-01-02T03:04:05`.
const SECONDS: usize = 19;
/// Digits of a fraction that count.
const NANOSECONDS: usize = 9;

/// Which of the container's outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What stands before the text of a line in CRI format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// When it was written.
    pub stamp: Stamp<'a>,
    /// Whose output.
    pub stream: Stream,
    /// The text goes on in a later line.
    pub partial: bool,
    /// Bytes up to the text.
    pub length: usize,
}

/// An RFC 3339 time with a `T`, a `Z` or an offset, and any fraction of a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp<'a> {
    text: &'a str,
    /// The digits after the point.
    fraction: &'a str,
    zone: &'a str,
}

/// A line of Docker's JSON format.
#[derive(Debug, Deserialize)]
struct JsonLine<'a> {
    #[serde(default, borrow)]
    log: Cow<'a, str>,
    #[serde(borrow)]
    stream: Cow<'a, str>,
    #[serde(borrow)]
    time: Cow<'a, str>,
}

/// What a line of Docker's JSON format says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Json<'a> {
    /// When it was written.
    pub stamp: Cow<'a, str>,
    /// Whose output.
    pub stream: Stream,
    /// With its line end, when it has one.
    pub text: Cow<'a, str>,
}

// === impl Stream ===

impl Stream {
    fn parse(word: &[u8]) -> Option<Self> {
        match word {
            b"stdout" => Some(Self::Stdout),
            b"stderr" => Some(Self::Stderr),
            _ => None,
        }
    }
}

// === impl Header ===

impl<'a> Header<'a> {
    /// The header of a line that comes without its line end, whole or as far as it is known. `None` when it is no line
    /// in CRI format.
    #[must_use]
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let head = &line[..line.len().min(MAX_HEADER)];
        let time_end = memchr(b' ', head)?;
        let stamp = Stamp::parse(&head[..time_end])?;
        let rest = &head[time_end + 1..];
        let (stream, rest) = (Stream::parse(rest.get(..6)?)?, &rest[6..]);
        let tags = rest.strip_prefix(b" ")?;
        let tags_end = memchr(b' ', tags)?;
        let first = tags[..tags_end].split(|byte| *byte == b':').next();
        Some(Self {
            stamp,
            stream,
            partial: first == Some(b"P"),
            length: time_end + 1 + 6 + 1 + tags_end + 1,
        })
    }
}

// === impl Stamp ===

impl<'a> Stamp<'a> {
    /// Parses a time; `None` when it is not exactly one.
    #[must_use]
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        if !is_second(bytes.get(..SECONDS)?) {
            return None;
        }
        let rest = &bytes[SECONDS..];
        let digits = match rest.first()? {
            b'.' => rest[1..].iter().take_while(|byte| byte.is_ascii_digit()).count(),
            _ => 0,
        };
        let zone = if rest[0] == b'.' { digits + 1 } else { 0 };
        if zone == 1 || !is_zone(&rest[zone..]) {
            return None;
        }
        // All of it is ASCII by now.
        let text = std::str::from_utf8(bytes).ok()?;
        let (before, zone) = text.split_at(SECONDS + zone);
        Some(Self {
            text,
            fraction: &before[before.len() - digits..],
            zone,
        })
    }

    /// The time that it names; `None` when it is out of the range of times.
    #[must_use]
    pub fn instant(&self) -> Option<Timestamp> {
        match self.fraction.get(NANOSECONDS..) {
            None | Some("") => self.text.parse().ok(),
            Some(_) => {
                let kept = &self.text[..SECONDS + 1 + NANOSECONDS];
                format!("{kept}{}", self.zone).parse().ok()
            }
        }
    }

    /// Appends the time with nine digits for the fraction, in its own zone, and a space.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.text.as_bytes()[..SECONDS]);
        out.push(b'.');
        let digits = &self.fraction.as_bytes()[..self.fraction.len().min(NANOSECONDS)];
        out.extend_from_slice(digits);
        out.extend_from_slice(&b"000000000"[digits.len()..]);
        let zone = match self.zone {
            "+00:00" | "-00:00" => "Z",
            zone => zone,
        };
        out.extend_from_slice(zone.as_bytes());
        out.push(b' ');
    }
}

/// `YYYY-MM-DDTHH:MM:SS` of the calendar. Called for each line: no parsing beyond the check.
fn is_second(text: &[u8]) -> bool {
    let two = |at: usize| -> u8 {
        match (text[at], text[at + 1]) {
            (a @ b'0'..=b'9', b @ b'0'..=b'9') => (a - b'0') * 10 + (b - b'0'),
            _ => u8::MAX,
        }
    };
    let (century, year, month, day) = (two(0), two(2), two(5), two(8));
    let marks = [text[4], text[7], text[10], text[13], text[16]];
    marks == *b"--T::"
        && century < 100
        && year < 100
        && (1..=days(century, year, month)).contains(&day)
        && two(11) < 24
        && two(14) < 60
        && two(17) < 60
}

/// Days of a month, none for what is no month.
fn days(century: u8, year: u8, month: u8) -> u8 {
    let of_four = if year == 0 { century } else { year };
    match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 if of_four % 4 == 0 => 29,
        2 => 28,
        _ => 0,
    }
}

fn is_zone(zone: &[u8]) -> bool {
    let number = |tens: u8, ones: u8| -> u8 {
        if tens.is_ascii_digit() && ones.is_ascii_digit() {
            (tens - b'0') * 10 + (ones - b'0')
        } else {
            u8::MAX
        }
    };
    match zone {
        b"Z" => true,
        [b'+' | b'-', h1, h2, b':', m1, m2] => number(*h1, *h2) <= 24 && number(*m1, *m2) < 60,
        _ => false,
    }
}

// === impl Json ===

impl<'a> Json<'a> {
    /// Parses a line; `None` when it is none of Docker's.
    #[must_use]
    pub fn parse(line: &'a [u8]) -> Option<Self> {
        let found: JsonLine<'a> = serde_json::from_slice(line).ok()?;
        Stamp::parse(found.time.as_bytes())?;
        Some(Self {
            stream: Stream::parse(found.stream.as_bytes())?,
            stamp: found.time,
            text: found.log,
        })
    }
}
