//! `v5.channel.k8s.io` on the client's side, SPDY streams of `v4.channel.k8s.io` on the runtime's: what a word of one
//! side means for the other.
//!
//! ```text
//! client ── message: its channel, bytes ──> Lanes::said ──> data or the end of a stream ── runtime
//! client <── message ── Output::take <── frames of streams ── runtime
//!        <── status, once all output has ended ── Output::status
//! ```

use serde_json::{Value, json};

use super::Streams;
use super::spdy::Frame;

/// The name of the protocol.
pub const PROTOCOL: &str = "v5.channel.k8s.io";

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
/// The channel that the status comes on.
pub const STATUS: u8 = 3;
const RESIZE: u8 = 4;
/// No channel: the one named by the next byte has ended.
const CLOSE: u8 = 255;

/// A status of the runtime is some hundred bytes.
const MAX_STATUS: usize = 64 * 1024;

/// The runtime's streams of a session, by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lanes {
    error: u32,
    stdin: Option<u32>,
    stdout: Option<u32>,
    stderr: Option<u32>,
    resize: Option<u32>,
}

/// What a client's message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said<'a> {
    /// For a stream.
    Data {
        /// Which.
        stream: u32,
        /// Perhaps empty.
        bytes: &'a [u8],
    },
    /// The last for a stream.
    End {
        /// Which.
        stream: u32,
    },
    /// For nobody.
    Nothing,
    /// Against the protocol: the reference ends the session.
    Nonsense,
}

/// What is to be done about a frame of the runtime.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard<'a> {
    /// The client gets it.
    Message {
        /// First byte of the message.
        channel: u8,
        /// The others.
        bytes: &'a [u8],
    },
    /// The runtime gets an answer.
    Ping(u32),
    /// Nothing.
    Nothing,
}

impl Lanes {
    /// Those that such a session has.
    #[must_use]
    pub fn new(streams: Streams) -> Self {
        let mut last = 1;
        let mut next = |wanted: bool| {
            wanted.then(|| {
                last += 2;
                last
            })
        };
        Self {
            error: 1,
            stdin: next(streams.stdin),
            stdout: next(streams.stdout),
            stderr: next(streams.stderr),
            resize: next(streams.tty),
        }
    }

    /// The streams to open, in this order, with their `streamType`.
    pub fn opened(self) -> impl Iterator<Item = (u32, &'static str)> {
        [
            (Some(self.error), "error"),
            (self.stdin, "stdin"),
            (self.stdout, "stdout"),
            (self.stderr, "stderr"),
            (self.resize, "resize"),
        ]
        .into_iter()
        .filter_map(|(stream, kind)| Some((stream?, kind)))
    }

    /// The stream that the client writes its input to.
    #[must_use]
    pub fn stdin(self) -> Option<u32> {
        self.stdin
    }

    /// The channel of the first, empty message, which tells the client that the session is open.
    #[must_use]
    pub fn greeting(self) -> u8 {
        match (self.stdout, self.stderr) {
            (Some(_), _) => STDOUT,
            (None, Some(_)) => STDERR,
            (None, None) => STATUS,
        }
    }

    /// What a message of the client is.
    #[must_use]
    pub fn said(self, message: &[u8]) -> Said<'_> {
        match message {
            [] => Said::Nothing,
            [CLOSE, channel @ ..=RESIZE] => {
                let stream = self.written(*channel);
                stream.map_or(Said::Nothing, |stream| Said::End { stream })
            }
            [CLOSE, ..] => Said::Nonsense,
            [channel, bytes @ ..] => {
                let stream = self.written(*channel);
                stream.map_or(Said::Nothing, |stream| Said::Data { stream, bytes })
            }
        }
    }

    fn written(self, channel: u8) -> Option<u32> {
        match channel {
            STDIN => self.stdin,
            RESIZE => self.resize,
            _ => None,
        }
    }

    /// The channel of a stream that the runtime writes, the status apart.
    fn channel(self, stream: u32) -> Option<u8> {
        match Some(stream) {
            out if out == self.stdout => Some(STDOUT),
            err if err == self.stderr => Some(STDERR),
            _ => None,
        }
    }
}

/// What the runtime has said so far.
#[derive(Debug)]
pub struct Output {
    lanes: Lanes,
    status: Vec<u8>,
    /// Streams that have not ended: error, standard output, standard error.
    open: [Option<u32>; 3],
}

impl Output {
    /// Nothing yet.
    #[must_use]
    pub fn new(lanes: Lanes) -> Self {
        Self {
            lanes,
            status: Vec::new(),
            open: [Some(lanes.error), lanes.stdout, lanes.stderr],
        }
    }

    /// What a frame is for.
    pub fn take<'a>(&mut self, frame: Frame<'a>) -> Heard<'a> {
        match frame {
            Frame::Data { stream, bytes } if stream == self.lanes.error => {
                let room = MAX_STATUS.saturating_sub(self.status.len());
                self.status.extend(&bytes[..room.min(bytes.len())]);
                Heard::Nothing
            }
            Frame::Data { stream, bytes } => {
                let channel = self.lanes.channel(stream);
                channel.map_or(Heard::Nothing, |channel| Heard::Message { channel, bytes })
            }
            Frame::End { stream } => {
                self.open
                    .iter_mut()
                    .filter(|open| **open == Some(stream))
                    .for_each(|open| *open = None);
                Heard::Nothing
            }
            Frame::Ping { id } => Heard::Ping(id),
            Frame::Other => Heard::Nothing,
        }
    }

    /// The runtime has said all that it will.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.open.iter().all(Option::is_none)
    }

    /// How the session ended, for the client. A runtime that broke off without a word did not succeed; the reference
    /// says that it did.
    #[must_use]
    pub fn status(&self) -> Value {
        match serde_json::from_slice(&self.status) {
            Ok(status) => of_runtime(&status),
            Err(_) if self.status.is_empty() && self.is_over() => success(),
            Err(_) if self.status.is_empty() => failure("the container runtime's streaming server broke off"),
            Err(error) => {
                let said = String::from_utf8_lossy(&self.status);
                failure(&format!("error stream protocol error: {error} in {said:?}"))
            }
        }
    }
}

fn success() -> Value {
    json!({"metadata": {}, "status": "Success"})
}

/// A session that could not be held; the reference's `NewInternalError`.
#[must_use]
pub fn failure(why: &str) -> Value {
    json!({
        "metadata": {},
        "status": "Failure",
        "message": format!("Internal error occurred: {why}"),
        "reason": "InternalError",
        "details": {"causes": [{"message": why}]},
        "code": 500,
    })
}

/// The runtime's status in the words that the reference's translator has for it.
fn of_runtime(status: &Value) -> Value {
    match (status["status"].as_str(), status["reason"].as_str()) {
        (Some("Success"), _) => success(),
        (Some("Failure"), Some("NonZeroExitCode")) => exit(&status["details"]),
        (Some("Failure"), _) => failure(status["message"].as_str().unwrap_or_default()),
        _ => failure("error stream protocol error: unknown error"),
    }
}

fn exit(details: &Value) -> Value {
    if details.is_null() {
        return failure("error stream protocol error: details must be set");
    }
    let causes = details["causes"].as_array();
    let cause = causes
        .into_iter()
        .flatten()
        .find(|cause| cause["reason"] == "ExitCode");
    let Some(cause) = cause else {
        return failure("error stream protocol error: no ExitCode cause given");
    };
    let text = cause["message"].as_str().unwrap_or_default();
    let Ok(code) = text.parse::<u8>() else {
        return failure(&format!(
            "error stream protocol error: invalid exit code value {text:?}"
        ));
    };
    json!({
        "metadata": {},
        "status": "Failure",
        "message": format!("command terminated with non-zero exit code: command terminated with exit code {code}"),
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
    })
}

#[cfg(test)]
mod tests;
