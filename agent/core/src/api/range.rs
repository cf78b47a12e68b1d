//! The `Range` header (RFC 9110, section 14) as far as one part of a file is asked for.

use std::ops::Range;

/// What to send of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// All of it: nothing else was asked for, or several parts, which a server may ignore.
    Whole,
    /// These bytes; not empty.
    Bytes(Range<u64>),
    /// Nothing in the file is asked for.
    Outside,
}

/// Reads the header's value for a file of `size` bytes.
#[must_use]
pub fn part(header: &str, size: u64) -> Part {
    let Some((first, last)) = header
        .strip_prefix("bytes=")
        .filter(|ranges| !ranges.contains(','))
        .and_then(|range| range.trim().split_once('-'))
    else {
        return Part::Whole;
    };
    let bytes = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last => first..last.saturating_add(1).min(size),
        (Ok(first), Err(_)) if last.is_empty() => first..size,
        // The last bytes.
        (Err(_), Ok(count)) if first.is_empty() => size.saturating_sub(count)..size,
        _ => return Part::Whole,
    };
    if bytes.is_empty() {
        Part::Outside
    } else {
        Part::Bytes(bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn one_part_or_the_whole() {
        assert_eq!(part("bytes=2-3", 7), Part::Bytes(2..4));
        assert_eq!(part("bytes=2-", 7), Part::Bytes(2..7));
        assert_eq!(part("bytes=-3", 7), Part::Bytes(4..7));
        assert_eq!(part("bytes=-9", 7), Part::Bytes(0..7));
        assert_eq!(part("bytes=2-99", 7), Part::Bytes(2..7));
        assert_eq!(part("bytes=7-", 7), Part::Outside);
        assert_eq!(part("bytes=-0", 7), Part::Outside);
        for text in [
            "",
            "bytes=",
            "bytes=3-2",
            "bytes=0-1,3-4",
            "lines=1-2",
            "bytes=a-b",
        ] {
            assert_eq!(part(text, 7), Part::Whole, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_part_is_never_empty_and_lies_within(text in "(bytes=)?[0-9]{0,20}-?[0-9]{0,20}", size: u64) {
            if let Part::Bytes(bytes) = part(&text, size) {
                prop_assert!(bytes.start < bytes.end && bytes.end <= size);
            }
        }
    }
}
