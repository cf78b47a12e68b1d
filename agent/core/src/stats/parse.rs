//! The kernel's files, byte for byte: what the shell read goes in, small structs come out.
//!
//! Nothing here allocates but lists of devices and interfaces, and nothing panics or fails: the kernel adds lines
//! with each release, and a figure that is not there is better than an answer that is not.

pub mod cpu;
pub mod disk;
pub mod io;
pub mod memory;
pub mod net;
pub mod process;
pub mod psi;

#[cfg(test)]
mod tests;

/// One number in a file: surrounding white space is ignored, `max` is the largest number.
#[must_use]
pub fn number(text: &[u8]) -> Option<u64> {
    let text = text.trim_ascii();
    if text == b"max" {
        return Some(u64::MAX);
    }
    digits(text)
}

/// A number from decimal digits alone; `None` when it is none or too large.
pub(crate) fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |sum, byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        sum.checked_mul(10)?.checked_add(digit)
    })
}

/// The lines, without their ends.
pub(crate) fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}

/// The words of a line, which white space separates.
pub(crate) fn words(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty())
}

/// `key value` lines; those whose value is no number are left out.
pub(crate) fn pairs(text: &[u8]) -> impl Iterator<Item = (&[u8], u64)> {
    lines(text).filter_map(|line| {
        let space = line.iter().position(|byte| *byte == b' ')?;
        Some((&line[..space], digits(line[space + 1..].trim_ascii())?))
    })
}

/// Text that may be anything, as a string.
pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
