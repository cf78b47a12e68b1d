//! Memory for a process that lives for two milliseconds: handed out from one piece, in order.
//!
//! musl's allocator maps pages for each vector of some size and unmaps them again: fifty system calls and as many page faults
//! in an ADD, a tenth of its time. Here only what was handed out last is taken back, so a vector that grows stays where it
//! is. What does not fit, as in a GC with many leases, comes from the C library.

#![allow(unsafe_code, reason = "an allocator has no safe form")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Costs nothing until it is written to.
const PIECE_BYTES: usize = 1024 * 1024;
/// The piece's, in bytes, as malloc's; what needs a larger one comes from the C library.
const ALIGNMENT: usize = align_of::<u128>();

#[global_allocator]
static MEMORY: Memory = Memory::NEW;

struct Memory {
    piece: UnsafeCell<[u128; PIECE_BYTES / size_of::<u128>()]>,
    /// Bytes handed out so far, from the start of the piece.
    used: AtomicUsize,
}

// SAFETY: `used` hands each byte of the piece out to one owner at a time, and nobody else looks at it.
unsafe impl Sync for Memory {}

impl Memory {
    #[allow(
        clippy::declare_interior_mutable_const,
        reason = "each static is one of its own"
    )]
    const NEW: Self = Self {
        piece: UnsafeCell::new([0; PIECE_BYTES / size_of::<u128>()]),
        used: AtomicUsize::new(0),
    };

    fn start(&self) -> *mut u8 {
        self.piece.get().cast()
    }

    /// Where in the piece a pointer is, if it is one of it.
    fn place(&self, pointer: *mut u8) -> Option<usize> {
        let place = pointer.addr().checked_sub(self.start().addr())?;
        (place < PIECE_BYTES).then_some(place)
    }

    /// Moves the end of what is handed out, if it is there.
    fn move_end(&self, from: usize, to: usize) -> bool {
        let moved = self
            .used
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed);
        moved.is_ok()
    }
}

// SAFETY: memory that is handed out is within the piece, aligned as asked for, and not handed out again before it is taken back.
// What is not of the piece is the C library's.
unsafe impl GlobalAlloc for Memory {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.align() <= ALIGNMENT {
            let mut used = self.used.load(Ordering::Relaxed);
            while let Some(end) = end_of(used, layout.size()) {
                if self.move_end(used, end) {
                    // SAFETY: the end, and so the start, are within the piece.
                    return unsafe { self.start().add(used) };
                }
                used = self.used.load(Ordering::Relaxed);
            }
        }
        // SAFETY: the caller keeps the rules of `GlobalAlloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        match self.place(pointer) {
            // What was not handed out last stays used.
            Some(place) => {
                end_of(place, layout.size()).map(|end| self.move_end(end, place));
            }
            // SAFETY: not of the piece, so it came from there.
            None => unsafe { System.dealloc(pointer, layout) },
        }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let Some(place) = self.place(pointer) else {
            // SAFETY: not of the piece, so it came from there.
            return unsafe { System.realloc(pointer, layout, size) };
        };
        let ends = end_of(place, layout.size()).zip(end_of(place, size));
        if ends.is_some_and(|(from, to)| self.move_end(from, to)) {
            return pointer;
        }
        // SAFETY: the caller keeps the rules of `GlobalAlloc`, so the size is not zero and does not overflow when it is rounded up.
        let moved = unsafe { self.alloc(Layout::from_size_align_unchecked(size, layout.align())) };
        if !moved.is_null() {
            // SAFETY: both have that many bytes, and none is in both.
            unsafe { moved.copy_from_nonoverlapping(pointer, size.min(layout.size())) };
            // SAFETY: nobody uses it any more.
            unsafe { self.dealloc(pointer, layout) };
        }
        moved
    }
}

/// Where what begins here ends, so that what comes next is aligned; none if that is beyond the piece.
fn end_of(place: usize, size: usize) -> Option<usize> {
    let end = place.checked_add(size)?.checked_next_multiple_of(ALIGNMENT)?;
    (end <= PIECE_BYTES).then_some(end)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use proptest::prelude::*;

    use super::*;

    /// What one byte of a vector's content is, so that overlapping vectors are seen.
    fn filled(tag: u8, len: usize) -> Vec<u8> {
        let mut vector = Vec::new();
        for _ in 0..len {
            vector.push(tag);
        }
        vector
    }

    proptest! {
        #[test]
        fn nothing_is_handed_out_twice(lens in prop::collection::vec((0..40_000usize, any::<bool>()), 1..40)) {
            let mut kept: Vec<Vec<u8>> = Vec::new();
            for (number, (len, keep)) in lens.into_iter().enumerate() {
                let vector = filled(u8::try_from(number).unwrap_or(0), len);
                if keep {
                    kept.push(vector);
                } else if let Some(last) = kept.last_mut() {
                    last.extend_from_within(..);
                    last.shrink_to_fit();
                }
            }
            for vector in kept {
                prop_assert!(vector.iter().all(|byte| Some(byte) == vector.first()));
            }
        }
    }

    #[test]
    fn threads_do_not_share_memory() {
        let work = |tag: u8| {
            thread::spawn(move || {
                (0..200).all(|len| {
                    let (one, two) = (filled(tag, len), filled(tag, len * 7));
                    one.iter().chain(&two).all(|byte| *byte == tag)
                })
            })
        };
        let threads: Vec<_> = (0..8).map(work).collect();
        assert!(threads.into_iter().all(|thread| thread.join().unwrap_or(false)));
    }

    #[test]
    fn what_was_handed_out_last_grows_where_it_is_and_comes_back() {
        static OWN: Memory = Memory::NEW;
        let memory = &OWN;
        let layout = |size| Layout::from_size_align(size, 8).unwrap_or(Layout::new::<u8>());
        // SAFETY: each is used with the layout that it has, and given back once.
        unsafe {
            let first = memory.alloc(layout(3));
            let last = memory.alloc(layout(100));
            assert_eq!(memory.place(last), Some(16));
            assert_eq!(memory.realloc(last, layout(100), 5_000), last);
            let moved = memory.realloc(first, layout(3), 4);
            assert_ne!(moved, first);
            memory.dealloc(moved, layout(4));
            memory.dealloc(last, layout(5_000));
            assert_eq!(memory.used.load(Ordering::Relaxed), 16);
            let large = memory.alloc(layout(PIECE_BYTES));
            assert!(!large.is_null() && memory.place(large).is_none());
            memory.dealloc(large, layout(PIECE_BYTES));
        }
    }
}
