//! `PodLogOptions` as a query: what the user asks for.

use std::num::NonZeroU64;

use jiff::{SignedDuration, Timestamp};
use thiserror::Error;

use super::{Streams, line::Stamp, quote};

/// What the user asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Go on with what the container writes from now on.
    pub follow: bool,
    /// The log of the instance before this one.
    pub previous: bool,
    /// Each line begins with its time.
    pub timestamps: bool,
    /// The last lines only.
    pub tail_lines: Option<u64>,
    /// The first bytes only.
    pub limit_bytes: Option<NonZeroU64>,
    since: Since,
    stream: Stream,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Since {
    #[default]
    Always,
    Ago(SignedDuration),
    Time(Timestamp),
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Stream {
    #[default]
    All,
    Stdout,
    Stderr,
}

/// The query is refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OptionsError {
    /// A value is not of its type; status 400.
    #[error(r#"{{"message": "Unable to decode query."}}"#)]
    Undecodable,
    /// Values out of range or in contradiction; status 422.
    #[error(r#"{{"message": "Invalid request."}}"#)]
    Invalid,
    /// A single stream is asked for while feature gate PodLogsQuerySplitStreams is off; status 400.
    #[error(
        "unable to return the given log stream: {stream}. Please enable PodLogsQuerySplitStreams feature gate in kubelet"
    )]
    StreamGate {
        /// In quotes.
        stream: String,
    },
}

/// The values as they come, before they are looked at together.
#[derive(Default)]
struct Raw {
    tail_lines: Option<i64>,
    limit_bytes: Option<i64>,
    since_seconds: Option<i64>,
    since_time: Option<Timestamp>,
    stream: Option<String>,
}

impl LogOptions {
    /// Reads a query: `get` answers the first value of a name.
    ///
    /// # Errors
    /// [`OptionsError::Undecodable`] and [`OptionsError::Invalid`].
    pub fn parse<'q>(get: impl Fn(&'static str) -> Option<&'q str>) -> Result<Self, OptionsError> {
        // The older name of `tailLines`.
        let tail = match get("tail").filter(|tail| !tail.is_empty()) {
            Some("all") => None,
            Some(tail) => Some(tail),
            None => get("tailLines"),
        };
        let raw = Raw {
            tail_lines: tail.map(number).transpose()?,
            limit_bytes: get("limitBytes").map(number).transpose()?,
            since_seconds: get("sinceSeconds").map(number).transpose()?,
            since_time: get("sinceTime").map(time).transpose()?,
            stream: get("stream").map(str::to_owned),
        };
        let options = Self {
            follow: get("follow").is_some_and(flag),
            previous: get("previous").is_some_and(flag),
            timestamps: get("timestamps").is_some_and(flag),
            ..Self::default()
        };
        options.with(raw).ok_or(OptionsError::Invalid)
    }

    fn with(self, raw: Raw) -> Option<Self> {
        let stream = match raw.stream.as_deref() {
            None | Some("All") => Stream::All,
            Some("Stdout") => Stream::Stdout,
            Some("Stderr") => Stream::Stderr,
            Some(_) => return None,
        };
        if stream != Stream::All && raw.tail_lines.is_some() {
            return None;
        }
        let since = match (raw.since_seconds, raw.since_time) {
            (Some(_), Some(_)) => return None,
            (Some(seconds), None) if seconds < 1 => return None,
            (Some(seconds), None) => Since::Ago(SignedDuration::from_secs(seconds)),
            (None, Some(time)) => Since::Time(time),
            (None, None) => Since::Always,
        };
        let positive = |bytes: i64| u64::try_from(bytes).ok().and_then(NonZeroU64::new);
        Some(Self {
            tail_lines: raw.tail_lines.map(u64::try_from).transpose().ok()?,
            limit_bytes: match raw.limit_bytes {
                Some(bytes) => Some(positive(bytes)?),
                None => None,
            },
            since,
            stream,
            ..self
        })
    }

    /// From when on lines are wanted.
    #[must_use]
    pub fn since(&self, now: Timestamp) -> Option<Timestamp> {
        match self.since {
            Since::Always => None,
            Since::Ago(ago) => Some(now.checked_sub(ago).unwrap_or(Timestamp::MIN)),
            Since::Time(time) => Some(time),
        }
    }

    /// Whose lines are wanted.
    ///
    /// # Errors
    /// [`OptionsError::StreamGate`] when a single stream is asked for and `gate` is off.
    pub fn streams(&self, gate: bool) -> Result<Streams, OptionsError> {
        let (stdout, stderr, name) = match self.stream {
            Stream::All => return Ok(Streams::default()),
            Stream::Stdout => (true, false, "Stdout"),
            Stream::Stderr => (false, true, "Stderr"),
        };
        if gate {
            return Ok(Streams { stdout, stderr });
        }
        let stream = quote(name.as_bytes());
        Err(OptionsError::StreamGate { stream })
    }
}

/// Only `0` and `false` are false, the empty text is not.
fn flag(text: &str) -> bool {
    text != "0" && !text.eq_ignore_ascii_case("false")
}

fn number(text: &str) -> Result<i64, OptionsError> {
    text.parse().map_err(|_| OptionsError::Undecodable)
}

/// No time at all is the first one.
fn time(text: &str) -> Result<Timestamp, OptionsError> {
    if text.is_empty() || text == "null" {
        return Ok(Timestamp::MIN);
    }
    let stamp = Stamp::parse(text.as_bytes());
    stamp
        .and_then(|stamp| stamp.instant())
        .ok_or(OptionsError::Undecodable)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::api::Query;

    proptest! {
        #[test]
        fn any_query_is_understood_or_refused(
            text in "((tail|tailLines|limitBytes|sinceSeconds|sinceTime|stream|follow)=(-?[0-9]{0,20}|all|All|Stdout|null|[-0-9TZ:.]{0,30}|.{0,6})&){0,5}",
            now in any::<i32>(),
            gate: bool,
        ) {
            let query = Query::parse(&text);
            if let Ok(options) = LogOptions::parse(|name| query.get(name)) {
                let _ = options.since(Timestamp::from_second(now.into()).unwrap());
                let _ = options.streams(gate);
            }
        }
    }
}
