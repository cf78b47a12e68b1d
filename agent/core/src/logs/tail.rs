//! Where the last lines of a file begin, found by reading blocks from its end.

use memchr::memrchr_iter;

/// Counts line ends backwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tail {
    /// Line ends to pass: one more than the lines wanted, because the one before the first of them counts.
    ends: u64,
}

impl Tail {
    /// For the last `lines` lines. A last line without an end comes on top of them, as in the reference.
    #[must_use]
    pub fn new(lines: u64) -> Self {
        Self {
            ends: lines.saturating_add(1),
        }
    }

    /// Takes the block before those taken so far. Answers where in it the wanted lines begin, when they begin there.
    pub fn back(&mut self, block: &[u8]) -> Option<usize> {
        for end in memrchr_iter(b'\n', block) {
            self.ends -= 1;
            if self.ends == 0 {
                return Some(end + 1);
            }
        }
        None
    }

    /// Lines that are still missing, once a file has been taken whole.
    #[must_use]
    pub fn missing(&self) -> u64 {
        self.ends.saturating_sub(1)
    }
}
