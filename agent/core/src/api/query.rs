//! A URL's query, read as Go's `net/url` reads it.

use std::borrow::Cow;

/// The pairs of a query in their order, decoded.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    pairs: Vec<(String, String)>,
}

impl Query {
    /// Reads the part after `?`. A pair with a semicolon or a broken escape is left out, as in the reference.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let sound = |pair: &&str| !pair.is_empty() && !pair.contains(';') && escapes_are_sound(pair);
        let pairs = text.split('&').filter(sound).flat_map(|pair| {
            form_urlencoded::parse(pair.as_bytes())
                .map(|(name, value)| (Cow::into_owned(name), Cow::into_owned(value)))
        });
        Self {
            pairs: pairs.collect(),
        }
    }

    /// The first value of `name`.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.pairs.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    /// The first value of `name`, empty when there is none.
    #[must_use]
    pub fn text(&self, name: &str) -> &str {
        self.get(name).unwrap_or_default()
    }

    /// All values of `name` in their order.
    pub fn all<'a>(&'a self, name: &'a str) -> impl DoubleEndedIterator<Item = &'a str> {
        self.pairs
            .iter()
            .filter(move |(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    /// `name` is there, with or without a value.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// All pairs in their order.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
    }
}

/// Each `%` is followed by two hexadecimal digits.
pub(super) fn escapes_are_sound(text: &str) -> bool {
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|byte| *byte == b'%') {
        match rest.get(at + 1..at + 3) {
            Some(digits) if digits.iter().all(u8::is_ascii_hexdigit) => rest = &rest[at + 3..],
            _ => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn values_are_decoded_and_keep_their_order() {
        let query = Query::parse("command=sh&command=-c&command=echo+a%26b&tty&x=1;y=2&bad=%zz&input=1");
        assert_eq!(query.all("command").collect::<Vec<_>>(), ["sh", "-c", "echo a&b"]);
        assert_eq!(query.get("tty"), Some(""));
        assert_eq!(query.text("input"), "1");
        assert!(!query.has("x") && !query.has("bad") && query.text("bad").is_empty());
        assert_eq!(Query::parse(""), Query::default());
    }

    proptest! {
        #[test]
        fn never_panics(text in ".{0,80}") {
            let _ = Query::parse(&text);
        }

        #[test]
        fn what_is_written_is_read(pairs in prop::collection::vec(("[a-z]{1,4}", "\\PC{0,8}"), 0..6)) {
            let mut text = form_urlencoded::Serializer::new(String::new());
            text.extend_pairs(&pairs);
            let query = Query::parse(&text.finish());
            let read: Vec<_> = query.pairs().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
            prop_assert_eq!(read, pairs);
        }
    }
}
