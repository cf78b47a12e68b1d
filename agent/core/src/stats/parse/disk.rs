//! Disks and file systems: `/proc/diskstats`, `/proc/self/mountinfo`.

use super::io::numbers;
use super::{digits, lines, text, words};

/// A block device's work since boot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DiskStats {
    /// Device numbers.
    pub major: u64,
    /// Device numbers.
    pub minor: u64,
    /// Reads completed.
    pub reads: u64,
    /// Reads merged.
    pub reads_merged: u64,
    /// Sectors read.
    pub sectors_read: u64,
    /// Milliseconds.
    pub read_ms: u64,
    /// Writes completed.
    pub writes: u64,
    /// Writes merged.
    pub writes_merged: u64,
    /// Sectors written.
    pub sectors_written: u64,
    /// Milliseconds.
    pub write_ms: u64,
    /// Under way.
    pub in_progress: u64,
    /// Milliseconds with anything under way.
    pub io_ms: u64,
    /// Milliseconds, times what is under way.
    pub weighted_io_ms: u64,
}

/// `/proc/diskstats`; short and strange lines are left out.
#[must_use]
pub fn diskstats(file: &[u8]) -> Vec<DiskStats> {
    lines(file).filter_map(disk).collect()
}

fn disk(line: &[u8]) -> Option<DiskStats> {
    let mut words = words(line);
    let (major, minor) = (words.next().and_then(digits)?, words.next().and_then(digits)?);
    words.next()?;
    let mut n = [0_u64; 11];
    for number in &mut n {
        *number = digits(words.next()?)?;
    }
    Some(DiskStats {
        major,
        minor,
        reads: n[0],
        reads_merged: n[1],
        sectors_read: n[2],
        read_ms: n[3],
        writes: n[4],
        writes_merged: n[5],
        sectors_written: n[6],
        write_ms: n[7],
        in_progress: n[8],
        io_ms: n[9],
        weighted_io_ms: n[10],
    })
}

/// A mounted file system.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mount {
    /// Device numbers.
    pub major: u64,
    /// Device numbers.
    pub minor: u64,
    /// Where.
    pub point: String,
    /// `ext4`, `overlay`, ...
    pub kind: String,
    /// What is mounted: a device, or any word.
    pub source: String,
}

/// `/proc/self/mountinfo`, proc(5).
#[must_use]
pub fn mounts(file: &[u8]) -> Vec<Mount> {
    lines(file).filter_map(mount).collect()
}

fn mount(line: &[u8]) -> Option<Mount> {
    let mut left = words(line);
    let (major, minor) = numbers(left.nth(2)?)?;
    let point = unescape(left.nth(1)?);
    let mut right = left.skip_while(|word| *word != b"-").skip(1);
    Some(Mount {
        major,
        minor,
        point,
        kind: text(right.next()?),
        source: right.next().map(unescape).unwrap_or_default(),
    })
}

/// The kernel writes space, tab, newline and backslash as `\` and three octal digits.
fn unescape(word: &[u8]) -> String {
    let mut plain = Vec::with_capacity(word.len());
    let mut rest = word;
    while let Some((first, tail)) = rest.split_first() {
        rest = tail;
        let octal = tail.get(..3).filter(|_| *first == b'\\').and_then(octal);
        match octal {
            Some(byte) => {
                plain.push(byte);
                rest = &tail[3..];
            }
            None => plain.push(*first),
        }
    }
    text(&plain)
}

fn octal(digits: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(digits).ok()?;
    u8::from_str_radix(text, 8).ok()
}
