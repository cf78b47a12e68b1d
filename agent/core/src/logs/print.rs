//! What a reader sees of a log: lines without their headers, some left out, cut where the reader wants it.
//!
//! The bytes of the file come in any cut. A line is looked at when it is whole; one that is longer than [`LONG`] is
//! passed on piece by piece, so that no line is ever kept in memory. Nothing is allocated for a line.

use jiff::Timestamp;
use memchr::memchr;
use thiserror::Error;

use super::{
    line::{Header, Json, Stamp, Stream},
    quote,
};

/// A line that has this many bytes is passed on before its end is known. Runtimes cut lines at 16 KiB unless told
/// otherwise.
pub const LONG: usize = 64 * 1024;
/// Input of this length is never refused: [`Printer::feed`] takes some of it. A line of Docker's format must be
/// shorter (Docker cuts at 16 KiB, each byte of which may be written as six).
pub const BLOCK: usize = 128 * 1024;

/// What a reader wants to see.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Show {
    /// Lines before this time are left out.
    pub since: Option<Timestamp>,
    /// Each line begins with its time.
    pub timestamps: bool,
    /// Whose lines.
    pub streams: Streams,
    /// The output ends after so many bytes.
    pub limit_bytes: Option<u64>,
    /// The output ends after so many lines of the file, shown or not.
    pub lines: Option<u64>,
}

/// Whose lines are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Streams {
    /// Those of standard output.
    pub stdout: bool,
    /// Those of standard error.
    pub stderr: bool,
}

/// The first line is in none of the formats.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("failed to get parse function: unsupported log format: {line}")]
pub struct Unsupported {
    /// In quotes.
    line: String,
}

/// Turns the bytes of a log into what the reader sees.
#[derive(Debug, Clone)]
pub struct Printer {
    since: Option<Timestamp>,
    timestamps: bool,
    streams: Streams,
    /// Bytes that may still be written.
    left: u64,
    /// Lines that may still be read.
    lines: Option<u64>,
    format: Format,
    at: At,
    /// The next text begins a line of the container's.
    new_line: bool,
}

/// Found out from the first line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Unknown,
    Cri,
    Json,
}

/// Where the next byte of the file stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    /// At the beginning of a line.
    Line,
    /// In the text of a long line; left at its end.
    Text {
        /// Its text goes on in a later line.
        partial: bool,
        /// The reader sees it.
        shown: bool,
    },
    /// In a long line that is none; left at its end.
    Garbage,
}

// === impl Streams ===

impl Default for Streams {
    fn default() -> Self {
        Self {
            stdout: true,
            stderr: true,
        }
    }
}

impl Streams {
    fn has(self, stream: Stream) -> bool {
        match stream {
            Stream::Stdout => self.stdout,
            Stream::Stderr => self.stderr,
        }
    }
}

// === impl Printer ===

impl Printer {
    /// For a reader at the beginning of a line.
    #[must_use]
    pub fn new(show: &Show) -> Self {
        Self {
            since: show.since,
            timestamps: show.timestamps,
            streams: show.streams,
            left: show.limit_bytes.unwrap_or(u64::MAX),
            lines: show.lines,
            format: Format::Unknown,
            at: At::Line,
            new_line: true,
        }
    }

    /// The reader has got all that it wants.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.left == 0 || self.lines == Some(0)
    }

    /// Takes bytes of the file and appends what is to be seen of them. Answers how many were taken; the others are to
    /// be given again with more behind them. Of [`BLOCK`] bytes some are always taken unless the printer is done.
    ///
    /// # Errors
    /// When the file is no log.
    pub fn feed(&mut self, input: &[u8], out: &mut Vec<u8>) -> Result<usize, Unsupported> {
        let mut used = 0;
        while used < input.len() && !self.is_done() {
            let rest = &input[used..];
            used += match memchr(b'\n', rest) {
                Some(end) => {
                    self.ended(&rest[..end], out)?;
                    end + 1
                }
                None => match self.open(rest, out)? {
                    0 => break,
                    taken => taken,
                },
            };
        }
        Ok(used)
    }

    /// The file ends after `rest`, which [`Printer::feed`] has not taken: a line without an end.
    ///
    /// # Errors
    /// When the file is no log.
    pub fn finish(&mut self, rest: &[u8], out: &mut Vec<u8>) -> Result<(), Unsupported> {
        match std::mem::replace(&mut self.at, At::Line) {
            At::Line if rest.is_empty() || self.is_done() => Ok(()),
            At::Line => self.line(rest, false, out),
            At::Text { .. } => {
                self.new_line = false;
                self.count();
                Ok(())
            }
            At::Garbage => Ok(()),
        }
    }

    /// What is left of a line up to its end.
    fn ended(&mut self, rest: &[u8], out: &mut Vec<u8>) -> Result<(), Unsupported> {
        match std::mem::replace(&mut self.at, At::Line) {
            At::Line => self.line(rest, true, out),
            At::Text { partial, shown } => {
                if shown {
                    self.limited(out, |out| {
                        out.extend_from_slice(rest);
                        if !partial {
                            out.push(b'\n');
                        }
                    });
                }
                self.new_line = !partial;
                self.count();
                Ok(())
            }
            At::Garbage => Ok(()),
        }
    }

    /// A line whose end is not known; answers how much of it was taken.
    fn open(&mut self, rest: &[u8], out: &mut Vec<u8>) -> Result<usize, Unsupported> {
        match self.at {
            At::Line if rest.len() < LONG => return Ok(0),
            At::Line => {
                let header = match self.format {
                    Format::Unknown | Format::Cri => Header::parse(rest),
                    Format::Json => None,
                };
                match (header, self.format) {
                    (Some(header), _) => self.begin(&header, &rest[header.length..], out),
                    (None, Format::Cri) => self.at = At::Garbage,
                    (None, Format::Unknown | Format::Json) if rest.len() < BLOCK => return Ok(0),
                    (None, Format::Unknown) => return Err(Unsupported::new(rest, false)),
                    (None, Format::Json) => self.at = At::Garbage,
                }
            }
            At::Text { shown: true, .. } => self.limited(out, |out| out.extend_from_slice(rest)),
            At::Text { shown: false, .. } | At::Garbage => {}
        }
        Ok(rest.len())
    }

    /// The beginning of a long line.
    fn begin(&mut self, header: &Header<'_>, text: &[u8], out: &mut Vec<u8>) {
        self.format = Format::Cri;
        let shown = self.shows(header.stream, &header.stamp);
        if shown {
            self.write(&header.stamp, text, b"", out);
        }
        self.at = At::Text {
            partial: header.partial,
            shown,
        };
    }

    /// A whole line, without the byte that ends it.
    fn line(&mut self, line: &[u8], ended: bool, out: &mut Vec<u8>) -> Result<(), Unsupported> {
        match self.format {
            Format::Cri => {
                self.cri(line, ended, out);
            }
            Format::Json => {
                self.json(line, out);
            }
            Format::Unknown => {
                self.format = if self.cri(line, ended, out) {
                    Format::Cri
                } else if self.json(line, out) {
                    Format::Json
                } else {
                    return Err(Unsupported::new(line, ended));
                };
            }
        }
        Ok(())
    }

    /// Answers whether it was one of this format.
    fn cri(&mut self, line: &[u8], ended: bool, out: &mut Vec<u8>) -> bool {
        let Some(header) = Header::parse(line) else {
            return false;
        };
        let text = &line[header.length..];
        let end: &[u8] = if ended && !header.partial { b"\n" } else { b"" };
        if self.shows(header.stream, &header.stamp) {
            self.write(&header.stamp, text, end, out);
        }
        self.new_line = !end.is_empty() || text.is_empty();
        self.count();
        true
    }

    fn json(&mut self, line: &[u8], out: &mut Vec<u8>) -> bool {
        let Some(json) = (line.len() < BLOCK).then(|| Json::parse(line)).flatten() else {
            return false;
        };
        let text = json.text.as_bytes();
        if let Some(stamp) = Stamp::parse(json.stamp.as_bytes())
            && self.shows(json.stream, &stamp)
        {
            self.write(&stamp, text, b"", out);
        }
        self.new_line = text.last().is_none_or(|byte| *byte == b'\n');
        self.count();
        true
    }

    fn shows(&self, stream: Stream, stamp: &Stamp<'_>) -> bool {
        let late = |since| stamp.instant().is_some_and(|instant| instant >= since);
        self.streams.has(stream) && self.since.is_none_or(late)
    }

    fn write(&mut self, stamp: &Stamp<'_>, text: &[u8], end: &[u8], out: &mut Vec<u8>) {
        let stamped = self.timestamps && self.new_line;
        self.limited(out, |out| {
            if stamped {
                stamp.write(out);
            }
            out.extend_from_slice(text);
            out.extend_from_slice(end);
        });
    }

    /// Takes back what is more than may be written.
    fn limited(&mut self, out: &mut Vec<u8>, append: impl FnOnce(&mut Vec<u8>)) {
        let before = out.len();
        append(out);
        let written = (out.len() - before) as u64;
        if written > self.left {
            let room = usize::try_from(self.left).unwrap_or(usize::MAX);
            out.truncate(before + room);
        }
        self.left = self.left.saturating_sub(written);
    }

    fn count(&mut self) {
        self.lines = self.lines.map(|lines| lines.saturating_sub(1));
    }
}

// === impl Unsupported ===

impl Unsupported {
    fn new(line: &[u8], ended: bool) -> Self {
        let shown = &line[..line.len().min(BLOCK)];
        let mut line = quote(shown);
        if ended && shown.len() < BLOCK {
            line.insert_str(line.len() - 1, "\\n");
        }
        Self { line }
    }
}
