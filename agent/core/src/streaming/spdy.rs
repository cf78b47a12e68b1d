//! As much of SPDY/3.1 as a client of the runtime's streaming server needs: it opens streams, sends and reads data.
//!
//! * Frames from the runtime are read as they come, data in whatever pieces there are: nothing of a frame is kept but
//!   how much of it is still to come.
//! * Headers are sent uncompressed, which zlib has a form for, and those that come back are passed over: nothing that
//!   they say is of use. So neither zlib nor SPDY's dictionary is needed.
//! * There is no flow control, because the servers (moby/spdystream) have none: TCP's is all there is.

use thiserror::Error;

/// The largest piece of data in a frame, in bytes, without its head: both in one buffer of 32 KiB.
pub const MAX_DATA: usize = 32 * 1024 - HEAD;
const HEAD: usize = 8;
/// The largest frame that is not data; headers of an answer are some hundred bytes.
const MAX_CONTROL: usize = 64 * 1024;

const VERSION: u16 = 3;
const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const FIN: u8 = 1;

/// What the other side said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A piece of what a stream carries.
    Data {
        /// Which.
        stream: u32,
        /// Not empty.
        bytes: &'a [u8],
    },
    /// No more comes on a stream.
    End {
        /// Which.
        stream: u32,
    },
    /// Whether we are there.
    Ping {
        /// To be sent back as it is.
        id: u32,
    },
    /// Something that needs no answer.
    Other,
}

/// What comes is no SPDY/3.1 that anybody would send us.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SpdyError {
    /// A control frame of another version.
    #[error("SPDY version {0}")]
    Version(u16),
    /// A control frame that is too large.
    #[error("a SPDY control frame of {0} bytes")]
    Long(usize),
    /// A control frame without what its kind must have.
    #[error("a SPDY control frame of kind {0} is too short")]
    Short(u16),
}

/// Reads frames from bytes.
#[derive(Debug, Default)]
pub struct Decoder {
    rest: Rest,
}

/// Where it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Rest {
    /// At the head of a frame.
    #[default]
    Head,
    /// Within data; `left` may be 0 when the end is yet to be told.
    Data { stream: u32, left: usize, last: bool },
    /// Within something to be passed over.
    Skip(usize),
}

impl Decoder {
    /// The next frame in `input` and how many bytes were used up for it; `None` when more is needed. The used bytes must
    /// not be given again.
    ///
    /// # Errors
    /// When it makes no sense; nothing after that does.
    pub fn next<'a>(&mut self, input: &'a [u8]) -> Result<(usize, Option<Frame<'a>>), SpdyError> {
        match self.rest {
            Rest::Head => self.head(input),
            Rest::Data { stream, left: 0, .. } => {
                self.rest = Rest::Head;
                Ok((0, Some(Frame::End { stream })))
            }
            Rest::Data { .. } | Rest::Skip(_) if input.is_empty() => Ok((0, None)),
            Rest::Data { stream, left, last } => {
                let bytes = &input[..left.min(input.len())];
                self.rest = data(stream, left - bytes.len(), last);
                Ok((bytes.len(), Some(Frame::Data { stream, bytes })))
            }
            Rest::Skip(left) => {
                let used = left.min(input.len());
                self.rest = skip(left - used);
                Ok((used, Some(Frame::Other)))
            }
        }
    }

    fn head<'a>(&mut self, input: &'a [u8]) -> Result<(usize, Option<Frame<'a>>), SpdyError> {
        let Some(head) = input.first_chunk::<HEAD>() else {
            return Ok((0, None));
        };
        let [a, b, c, d, flags, length @ ..] = *head;
        let length = u32::from_be_bytes([0, length[0], length[1], length[2]]) as usize;
        if a & 0x80 == 0 {
            let stream = u32::from_be_bytes([a, b, c, d]);
            self.rest = data(stream, length, flags & FIN != 0);
            return Ok((HEAD, Some(Frame::Other)));
        }
        let version = u16::from_be_bytes([a & 0x7f, b]);
        if version != VERSION {
            return Err(SpdyError::Version(version));
        }
        if length > MAX_CONTROL {
            return Err(SpdyError::Long(length));
        }
        self.control((u16::from_be_bytes([c, d]), flags, length), &input[HEAD..])
    }

    /// Each kind that means something begins with a number; the rest of it is passed over.
    fn control<'a>(
        &mut self,
        (kind, flags, length): (u16, u8, usize),
        body: &[u8],
    ) -> Result<(usize, Option<Frame<'a>>), SpdyError> {
        if !matches!(kind, SYN_REPLY | RST_STREAM | PING) {
            self.rest = skip(length);
            return Ok((HEAD, Some(Frame::Other)));
        }
        if length < 4 {
            return Err(SpdyError::Short(kind));
        }
        let Some(number) = body.first_chunk::<4>() else {
            return Ok((0, None));
        };
        let number = u32::from_be_bytes(*number);
        self.rest = skip(length - 4);
        let stream = number & 0x7fff_ffff;
        let frame = match kind {
            PING => Frame::Ping { id: number },
            RST_STREAM => Frame::End { stream },
            _ if flags & FIN != 0 => Frame::End { stream },
            _ => Frame::Other,
        };
        Ok((HEAD + 4, Some(frame)))
    }
}

fn data(stream: u32, left: usize, last: bool) -> Rest {
    if left == 0 && !last {
        Rest::Head
    } else {
        Rest::Data { stream, left, last }
    }
}

fn skip(left: usize) -> Rest {
    if left == 0 { Rest::Head } else { Rest::Skip(left) }
}

/// Writes the frames of a client that opens streams. Headers of a connection are one compressed text.
#[derive(Debug, Default)]
pub struct Encoder {
    begun: bool,
}

impl Encoder {
    /// Opens a stream with these headers: names in lower case, all together shorter than 64 KiB. `stream` is odd and
    /// larger than the ones before.
    #[must_use]
    pub fn open(&mut self, stream: u32, headers: &[(&str, &str)]) -> Vec<u8> {
        let number = |count: usize| u32::try_from(count).unwrap_or(u32::MAX).to_be_bytes();
        let mut text = number(headers.len()).to_vec();
        for part in headers.iter().flat_map(|(name, value)| [name, value]) {
            text.extend(number(part.len()));
            text.extend(part.as_bytes());
        }
        // Which stream it belongs to (none), priority, slot.
        let mut body = stream.to_be_bytes().to_vec();
        body.extend([0; 6]);
        if !std::mem::replace(&mut self.begun, true) {
            body.extend([0x78, 0x01]);
        }
        stored(&text, &mut body);
        // Flushes, as the other side's decompressor expects it.
        stored(&[], &mut body);
        control(SYN_STREAM, &body)
    }
}

/// The head of a frame of data. `length` is at most [`MAX_DATA`]; `last`: no more will come on this stream.
#[must_use]
pub fn data_head(stream: u32, length: usize, last: bool) -> [u8; HEAD] {
    let [a, b, c, d] = (stream & 0x7fff_ffff).to_be_bytes();
    let [_, e, f, g] = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    [a, b, c, d, if last { FIN } else { 0 }, e, f, g]
}

/// The answer to a ping.
#[must_use]
pub fn pong(id: u32) -> Vec<u8> {
    control(PING, &id.to_be_bytes())
}

/// A block of zlib that holds its text as it is.
fn stored(text: &[u8], to: &mut Vec<u8>) {
    let length = u16::try_from(text.len()).unwrap_or(u16::MAX);
    to.push(0);
    to.extend(length.to_le_bytes());
    to.extend((!length).to_le_bytes());
    to.extend(&text[..usize::from(length)]);
}

fn control(kind: u16, body: &[u8]) -> Vec<u8> {
    let [_, e, f, g] = u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes();
    let mut frame = (0x8000 | VERSION).to_be_bytes().to_vec();
    frame.extend(kind.to_be_bytes());
    frame.extend([0, e, f, g]);
    frame.extend(body);
    frame
}

#[cfg(test)]
mod tests;
