//! Elements of sets and maps, written straight into the message: the one encoding whose cost counts.

use crate::uapi::{data, element as attr, expr};
use crate::wire::{Attrs, Writer, comment_data, read_comment};

/// What happens to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict<'a> {
    /// Let it pass this hook.
    Accept,
    /// Throw it away.
    Drop,
    /// Back to the calling chain.
    Return,
    /// Go through a chain and come back.
    Jump(&'a str),
    /// Go on in a chain.
    Goto(&'a str),
}

/// What an element says about its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// A member of a set: nothing more.
    Member,
    /// The end (exclusive) of an interval in an interval set.
    IntervalEnd,
    /// Data of a map, each field padded to four bytes.
    Data(&'a [u8]),
    /// The verdict of a verdict map.
    Verdict(Verdict<'a>),
}

/// One element, as sent or as listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Element<'a> {
    /// The key, each field padded to four bytes.
    pub key: &'a [u8],
    /// What belongs to it.
    pub value: Value<'a>,
}

/// One element with all that can be said about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Labelled<'a> {
    /// The element.
    pub element: Element<'a>,
    /// In a set of ranges the last key, field by field, inclusive; `None` elsewhere.
    pub last: Option<&'a [u8]>,
    /// A comment that `nft list` shows, of which 127 bytes are kept; empty for none.
    pub comment: &'a str,
}

impl<'a> From<Element<'a>> for Labelled<'a> {
    fn from(element: Element<'a>) -> Self {
        Self {
            element,
            last: None,
            comment: "",
        }
    }
}

/// Writes one element of a list.
pub(crate) fn write_element(w: &mut Writer, item: Labelled<'_>) {
    let element = item.element;
    w.nest(expr::LIST_ELEM, |w| {
        w.nest(attr::KEY, |w| w.bytes(data::VALUE, element.key));
        if let Some(last) = item.last {
            w.nest(attr::KEY_END, |w| w.bytes(data::VALUE, last));
        }
        if !item.comment.is_empty() {
            w.bytes(attr::USERDATA, &comment_data(attr::UDATA_COMMENT, item.comment));
        }
        match element.value {
            Value::Member => {}
            Value::IntervalEnd => w.be32(attr::FLAGS, attr::FLAG_INTERVAL_END),
            Value::Data(bytes) => w.nest(attr::DATA, |w| w.bytes(data::VALUE, bytes)),
            Value::Verdict(verdict) => w.nest(attr::DATA, |w| write_verdict(w, verdict)),
        }
    });
}

/// Writes a verdict where data may stand.
pub(crate) fn write_verdict(w: &mut Writer, verdict: Verdict<'_>) {
    let (code, chain) = match verdict {
        Verdict::Accept => (data::CODE_ACCEPT, None),
        Verdict::Drop => (data::CODE_DROP, None),
        Verdict::Return => (data::CODE_RETURN, None),
        Verdict::Jump(chain) => (data::CODE_JUMP, Some(chain)),
        Verdict::Goto(chain) => (data::CODE_GOTO, Some(chain)),
    };
    w.nest(data::VERDICT, |w| {
        w.bytes(data::VERDICT_CODE, &code.to_be_bytes());
        if let Some(chain) = chain {
            w.string(data::VERDICT_CHAIN, chain);
        }
    });
}

/// Reads one listed element; `None` if it is of a kind this crate does not make.
pub(crate) fn read_element(attrs: Attrs<'_>) -> Option<Element<'_>> {
    let key = attrs.nested(attr::KEY)?.get(data::VALUE)?;
    let flags = attrs.be32(attr::FLAGS).unwrap_or(0);
    let value = match attrs.nested(attr::DATA) {
        Some(content) => match content.nested(data::VERDICT) {
            Some(verdict) => Value::Verdict(read_verdict(verdict)?),
            None => Value::Data(content.get(data::VALUE)?),
        },
        None if flags & attr::FLAG_INTERVAL_END != 0 => Value::IntervalEnd,
        None => Value::Member,
    };
    Some(Element { key, value })
}

/// The same with its label.
pub(crate) fn read_labelled(attrs: Attrs<'_>) -> Option<Labelled<'_>> {
    let last = match attrs.nested(attr::KEY_END) {
        Some(end) => Some(end.get(data::VALUE)?),
        None => None,
    };
    let user_data = attrs.get(attr::USERDATA);
    Some(Labelled {
        element: read_element(attrs)?,
        last,
        comment: user_data
            .and_then(|bytes| read_comment(bytes, attr::UDATA_COMMENT))
            .unwrap_or_default(),
    })
}

fn read_verdict(attrs: Attrs<'_>) -> Option<Verdict<'_>> {
    let code = i32::from_be_bytes(*attrs.get(data::VERDICT_CODE)?.first_chunk()?);
    let chain = attrs.string(data::VERDICT_CHAIN);
    Some(match code {
        data::CODE_ACCEPT => Verdict::Accept,
        data::CODE_DROP => Verdict::Drop,
        data::CODE_RETURN => Verdict::Return,
        data::CODE_JUMP => Verdict::Jump(chain?),
        data::CODE_GOTO => Verdict::Goto(chain?),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_element_reads_back() {
        let verdicts = [
            Verdict::Accept,
            Verdict::Drop,
            Verdict::Return,
            Verdict::Jump("a"),
            Verdict::Goto("lb-2"),
        ];
        let mut values: Vec<_> = verdicts.map(Value::Verdict).into();
        values.extend([Value::Member, Value::IntervalEnd, Value::Data(&[1, 2, 3, 4])]);
        for value in values {
            let element = Element { key: &[9; 12], value };
            let mut w = Writer::default();
            write_element(&mut w, element.into());
            let attrs = Attrs(&w.buf).nested(expr::LIST_ELEM).expect("list element");
            assert_eq!(read_element(attrs), Some(element));
            assert_eq!(read_labelled(attrs), Some(element.into()));
        }
    }

    #[test]
    fn labels_and_ranges_read_back() {
        let item = Labelled {
            element: Element {
                key: &[1; 8],
                value: Value::Member,
            },
            last: Some(&[2; 8]),
            comment: "who made it",
        };
        let mut w = Writer::default();
        write_element(&mut w, item);
        let attrs = Attrs(&w.buf).nested(expr::LIST_ELEM).expect("list element");
        assert_eq!(read_labelled(attrs), Some(item));
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes: Vec<u8>) {
            let _ = read_labelled(Attrs(&bytes));
        }
    }
}
