//! Netlink bytes: a writer for messages with nested attributes, and an attribute reader that never panics.
//!
//! Attribute layout (netlink(7)): u16 length with its 4-byte header, u16 type, payload, padding to 4 bytes. Netfilter's numbers
//! are big endian, the headers are host endian.

/// The type bit of an attribute that holds attributes.
const NESTED: u16 = 0x8000;
/// The bits of an attribute type that are not its number.
const TYPE_FLAGS: u16 = 0xc000;
/// Length of a netlink message header, in bytes.
pub(crate) const HEADER_LEN: usize = 16;
/// Length of the header that every netfilter message has behind the netlink header, in bytes.
pub(crate) const NFGEN_LEN: usize = 4;

/// Rounds up to the alignment of messages and attributes.
fn align(len: usize) -> usize {
    len.next_multiple_of(4)
}

/// What a netfilter message starts with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) seq: u32,
    pub(crate) family: u8,
    pub(crate) version: u8,
    /// Subsystem for batch messages, otherwise 0.
    pub(crate) res_id: u16,
}

/// A position in a [`Writer`] whose length is filled in later.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mark(usize);

/// A growing buffer of netlink messages.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    pub(crate) buf: Vec<u8>,
}

impl Writer {
    /// Starts a message; close it with [`Writer::end_message`].
    pub(crate) fn begin_message(&mut self, head: Head) -> Mark {
        let mark = Mark(self.buf.len());
        self.buf.extend_from_slice(&[0; 4]);
        self.buf.extend_from_slice(&head.kind.to_ne_bytes());
        self.buf.extend_from_slice(&head.flags.to_ne_bytes());
        self.buf.extend_from_slice(&head.seq.to_ne_bytes());
        self.buf.extend_from_slice(&[0; 4]);
        self.buf.extend_from_slice(&[head.family, head.version]);
        self.buf.extend_from_slice(&head.res_id.to_be_bytes());
        mark
    }

    /// Fills in the length of a message.
    pub(crate) fn end_message(&mut self, mark: Mark) {
        let len = u32::try_from(self.buf.len() - mark.0).unwrap_or(u32::MAX);
        self.buf[mark.0..mark.0 + 4].copy_from_slice(&len.to_ne_bytes());
    }

    /// Sets flags of a message that was written before.
    pub(crate) fn or_flags(&mut self, message_offset: usize, flags: u16) {
        let at = message_offset + 6;
        let old = u16::from_ne_bytes([self.buf[at], self.buf[at + 1]]);
        self.buf[at..at + 2].copy_from_slice(&(old | flags).to_ne_bytes());
    }

    /// Starts an attribute that holds attributes; close it with [`Writer::end`].
    pub(crate) fn begin(&mut self, kind: u16) -> Mark {
        let mark = Mark(self.buf.len());
        self.buf.extend_from_slice(&[0; 2]);
        self.buf.extend_from_slice(&(kind | NESTED).to_ne_bytes());
        mark
    }

    /// Fills in the length of a nested attribute.
    pub(crate) fn end(&mut self, mark: Mark) {
        let len = u16::try_from(self.buf.len() - mark.0).expect("nested attributes are kept below 64 KiB");
        self.buf[mark.0..mark.0 + 2].copy_from_slice(&len.to_ne_bytes());
    }

    /// Writes an attribute whose payload is what `fill` writes.
    pub(crate) fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) {
        let mark = self.begin(kind);
        fill(self);
        self.end(mark);
    }

    /// How many bytes were written since a mark.
    pub(crate) fn since(&self, mark: Mark) -> usize {
        self.buf.len() - mark.0
    }

    /// Writes an attribute.
    pub(crate) fn bytes(&mut self, kind: u16, payload: &[u8]) {
        let len = u16::try_from(payload.len() + 4).expect("one attribute's payload is below 64 KiB");
        self.buf.extend_from_slice(&len.to_ne_bytes());
        self.buf.extend_from_slice(&kind.to_ne_bytes());
        self.buf.extend_from_slice(payload);
        self.buf.resize(align(self.buf.len()), 0);
    }

    /// Writes a zero-terminated string.
    pub(crate) fn string(&mut self, kind: u16, text: &str) {
        let len = u16::try_from(text.len() + 5).expect("names are short");
        self.buf.extend_from_slice(&len.to_ne_bytes());
        self.buf.extend_from_slice(&kind.to_ne_bytes());
        self.buf.extend_from_slice(text.as_bytes());
        self.buf.push(0);
        self.buf.resize(align(self.buf.len()), 0);
    }

    /// Writes a big-endian 32-bit number.
    pub(crate) fn be32(&mut self, kind: u16, value: u32) {
        self.bytes(kind, &value.to_be_bytes());
    }
}

/// One received message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Message<'a> {
    pub(crate) kind: u16,
    pub(crate) flags: u16,
    pub(crate) seq: u32,
    /// The socket on whose behalf the kernel sends it.
    pub(crate) port: u32,
    pub(crate) payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// The attributes of a netfilter message.
    pub(crate) fn attrs(&self) -> Attrs<'a> {
        Attrs(self.payload.get(NFGEN_LEN..).unwrap_or_default())
    }
}

/// The messages of one datagram; ends at the first one that is cut off.
#[derive(Clone, Debug)]
pub(crate) struct Messages<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Message<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let len = usize::try_from(u32::from_ne_bytes(*self.0.first_chunk()?)).ok()?;
        let (kind, flags, seq) = (u16_at(self.0, 4)?, u16_at(self.0, 6)?, u32_at(self.0, 8)?);
        let port = u32_at(self.0, 12)?;
        if len < HEADER_LEN {
            return None;
        }
        let payload = self.0.get(HEADER_LEN..len)?;
        self.0 = self.0.get(align(len)..).unwrap_or_default();
        Some(Message {
            kind,
            flags,
            seq,
            port,
            payload,
        })
    }
}

/// A list of attributes; iteration ends at the first malformed one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attrs<'a>(pub(crate) &'a [u8]);

impl<'a> Attrs<'a> {
    /// The payload of the first attribute of this type.
    pub(crate) fn get(self, kind: u16) -> Option<&'a [u8]> {
        { self }.find(|(k, _)| *k == kind).map(|(_, payload)| payload)
    }

    /// The attributes inside the first attribute of this type.
    pub(crate) fn nested(self, kind: u16) -> Option<Attrs<'a>> {
        self.get(kind).map(Attrs)
    }

    /// A big-endian number of 32 bits.
    pub(crate) fn be32(self, kind: u16) -> Option<u32> {
        self.get(kind)?.first_chunk().copied().map(u32::from_be_bytes)
    }

    /// A big-endian number of 16 bits.
    pub(crate) fn be16(self, kind: u16) -> Option<u16> {
        self.get(kind)?.first_chunk().copied().map(u16::from_be_bytes)
    }

    /// A string, without its terminating zero.
    pub(crate) fn string(self, kind: u16) -> Option<&'a str> {
        let raw = self.get(kind)?;
        std::str::from_utf8(raw.strip_suffix(&[0]).unwrap_or(raw)).ok()
    }
}

impl<'a> Iterator for Attrs<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let len = usize::from(u16_at(self.0, 0)?);
        let kind = u16_at(self.0, 2)? & !TYPE_FLAGS;
        let payload = self.0.get(4..len)?;
        self.0 = self.0.get(align(len)..).unwrap_or_default();
        Some((kind, payload))
    }
}

/// A host-endian number at an offset.
pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_ne_bytes)
}

/// A host-endian number at an offset.
pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes)
}

/// A comment in nft's own user data format: type, length, zero-terminated text.
pub(crate) fn comment_data(kind: u8, comment: &str) -> Vec<u8> {
    let text = &comment.as_bytes()[..comment.len().min(127)];
    let mut out = vec![kind, u8::try_from(text.len() + 1).expect("at most 128")];
    out.extend_from_slice(text);
    out.push(0);
    out
}

/// The comment in user data.
pub(crate) fn read_comment(mut bytes: &[u8], kind: u8) -> Option<&str> {
    while let [found, len, rest @ ..] = bytes {
        let text = rest.get(..usize::from(*len))?;
        if *found == kind {
            return std::str::from_utf8(text.strip_suffix(&[0]).unwrap_or(text)).ok();
        }
        bytes = &rest[usize::from(*len)..];
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_round_trip() {
        let mut w = Writer::default();
        w.nest(3, |w| {
            w.string(1, "abc");
            w.be32(2, 7);
        });
        let inner = Attrs(&w.buf).nested(3).expect("nested");
        assert_eq!(inner.string(1), Some("abc"));
        assert_eq!(inner.be32(2), Some(7));
        assert_eq!(inner.get(9), None);
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes: Vec<u8>) {
            let _ = read_comment(&bytes, 0);
            for message in Messages(&bytes) {
                for (_, payload) in message.attrs() {
                    Attrs(payload).for_each(drop);
                }
            }
        }
    }
}
