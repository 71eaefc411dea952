//! Memory for a process that lives for a millisecond: taken from one block, piece after piece, and given back by ending.
//!
//! The system's allocator asks the kernel for pages as they are needed and returns them as they are not, some thirty calls in an ADD. The
//! block is part of the program's zeroed data: what is not touched costs nothing, and no call is made for the rest. What does not fit
//! (a huge input) is the system's again.
//!
//! Where the system has none either, the program says so as a plugin says what is wrong, and ends. That may only happen before anything was
//! done: the end of the block is a reserve that no input, however large, takes anything of, for all that comes after.

#![allow(unsafe_code, reason = "an allocator hands out memory, which no safe code can")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::UnsafeCell;
use std::ptr::null_mut;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A block of that many bytes, of which the last `RESERVE` wait until they are opened, and the system's allocator behind it.
pub(crate) struct Arena<const BYTES: usize, const RESERVE: usize = 0> {
    block: UnsafeCell<Block<BYTES>>,
    /// Where pieces must end.
    end: AtomicUsize,
    /// Where the next piece may begin. What lies behind has never been handed out, so it is still zero.
    next: AtomicUsize,
}

/// What a runtime reads when there is no memory: an error of the CNI specification, code 999 (internal).
const NO_MEMORY: &[u8] = br#"{
    "cniVersion": "1.1.0",
    "code": 999,
    "msg": "no memory is left to read the configuration on standard input: 8 MiB are enough for every one that Kubernetes allows; raise the limit of the container runtime's processes or shorten the input"
}
"#;

/// The piece, if there is one.
fn or_end(piece: *mut u8) -> *mut u8 {
    if piece.is_null() {
        // SAFETY: the bytes are there; what is not written is not told, and the exit code says it too.
        unsafe {
            libc::write(libc::STDOUT_FILENO, NO_MEMORY.as_ptr().cast(), NO_MEMORY.len());
            libc::_exit(1)
        }
    }
    piece
}

/// At the start of a page, so that every alignment up to that is one of offsets.
#[repr(align(4096))]
struct Block<const BYTES: usize>([u8; BYTES]);

// SAFETY: nobody reads or writes the block itself; its pieces are handed out once each, which `next` sees to.
unsafe impl<const BYTES: usize, const RESERVE: usize> Sync for Arena<BYTES, RESERVE> {}

impl<const BYTES: usize, const RESERVE: usize> Arena<BYTES, RESERVE> {
    pub(crate) const fn new() -> Self {
        Self {
            block: UnsafeCell::new(Block([0; BYTES])),
            end: AtomicUsize::new(BYTES - RESERVE),
            next: AtomicUsize::new(0),
        }
    }

    /// The rest of the block may be handed out, too.
    pub(crate) fn open_reserve(&self) {
        self.end.store(BYTES, Ordering::Relaxed);
    }

    fn start(&self) -> *mut u8 {
        self.block.get().cast()
    }

    /// How far into the block a pointer leads, if it leads there.
    fn offset(&self, pointer: *mut u8) -> Option<usize> {
        (pointer as usize).checked_sub(self.start() as usize).filter(|offset| *offset < BYTES)
    }

    /// A piece of the block; null if there is no room.
    fn piece(&self, layout: Layout) -> *mut u8 {
        if layout.align() > align_of::<Block<BYTES>>() {
            return null_mut();
        }
        let most = self.end.load(Ordering::Relaxed);
        let mut next = self.next.load(Ordering::Relaxed);
        loop {
            let begin = next.next_multiple_of(layout.align());
            let Some(end) = begin.checked_add(layout.size()).filter(|end| *end <= most) else { return null_mut() };
            match self.next.compare_exchange_weak(next, end, Ordering::Relaxed, Ordering::Relaxed) {
                // SAFETY: `begin` is within the block.
                Ok(_) => return unsafe { self.start().add(begin) },
                Err(now) => next = now,
            }
        }
    }
}

// SAFETY: pieces do not overlap, since `next` only grows and each piece lies between two values of it; they are aligned, since the block is
// and their offsets are; and they stay where they are for as long as the process lives.
unsafe impl<const BYTES: usize, const RESERVE: usize> GlobalAlloc for Arena<BYTES, RESERVE> {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match self.piece(layout) {
            // SAFETY: the caller's promise, passed on.
            null if null.is_null() => or_end(unsafe { System.alloc(layout) }),
            piece => piece,
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match self.piece(layout) {
            // SAFETY: the caller's promise, passed on.
            null if null.is_null() => or_end(unsafe { System.alloc_zeroed(layout) }),
            // Never handed out before, so it is zero.
            piece => piece,
        }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        if self.offset(pointer).is_none() {
            // SAFETY: what is not of the block is the system's, with the layout the caller got it by.
            unsafe { System.dealloc(pointer, layout) }
        }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        let Some(offset) = self.offset(pointer) else {
            // SAFETY: what is not of the block is the system's, with the layout the caller got it by.
            return or_end(unsafe { System.realloc(pointer, layout, new_size) });
        };
        if new_size <= layout.size() {
            return pointer;
        }
        // The piece handed out last grows where it is.
        let (end, new_end) = (offset + layout.size(), offset.saturating_add(new_size));
        let grows = new_end <= self.end.load(Ordering::Relaxed)
            && self.next.compare_exchange(end, new_end, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if grows {
            return pointer;
        }
        // SAFETY: the alignment was one already, and the caller promises a size that does not overflow.
        let moved = unsafe { self.alloc(Layout::from_size_align_unchecked(new_size, layout.align())) };
        if !moved.is_null() {
            // SAFETY: both are at least as long as the old piece, and the new one is no part of it.
            unsafe { std::ptr::copy_nonoverlapping(pointer, moved, layout.size()) };
        }
        moved
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn of(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).unwrap()
    }

    #[test]
    fn pieces_are_aligned_and_apart_and_zero() {
        let arena = Arena::<4096>::new();
        let mut last = 0;
        for (size, align) in [(3, 1), (8, 8), (1, 1), (64, 64), (100, 16)] {
            // SAFETY: the layouts have sizes; the pieces are within the arena.
            let piece = unsafe { arena.alloc_zeroed(of(size, align)) };
            let offset = arena.offset(piece).unwrap();
            assert!(offset >= last && (piece as usize).is_multiple_of(align), "{size} {align}: {offset}");
            // SAFETY: the piece has that many bytes.
            let bytes = unsafe { std::slice::from_raw_parts_mut(piece, size) };
            assert!(bytes.iter().all(|byte| *byte == 0));
            bytes.fill(0xff);
            last = offset + size;
        }
    }

    #[test]
    fn the_last_piece_grows_in_place_and_another_one_moves_with_what_it_holds() {
        let arena = Arena::<4096>::new();
        // SAFETY: layouts are those the pieces were got by; all bytes written are within them.
        unsafe {
            let first = arena.alloc(of(4, 1));
            first.write_bytes(7, 4);
            assert_eq!(arena.realloc(first, of(4, 1), 10), first);
            let second = arena.alloc(of(4, 1));
            let moved = arena.realloc(first, of(10, 1), 20);
            assert!(moved != first && moved != second && arena.offset(moved).is_some());
            assert_eq!(std::slice::from_raw_parts(moved, 4), [7; 4]);
            assert_eq!(arena.realloc(moved, of(20, 1), 5), moved);
        }
    }

    #[test]
    fn the_reserve_is_for_what_comes_after_it_is_opened() {
        let arena = Arena::<8192, 4096>::new();
        // SAFETY: the layouts have sizes; what is the system's is given back with the layout it was got by.
        unsafe {
            assert!(arena.offset(arena.alloc(of(4000, 1))).is_some());
            let outside = arena.alloc(of(200, 1));
            assert!(arena.offset(outside).is_none());
            arena.dealloc(outside, of(200, 1));
            arena.open_reserve();
            assert!(arena.offset(arena.alloc(of(4096, 1))).is_some());
        }
    }

    #[test]
    fn what_does_not_fit_is_the_system_s() {
        let arena = Arena::<4096>::new();
        // SAFETY: layouts are those the pieces were got by.
        unsafe {
            let huge = arena.alloc_zeroed(of(5000, 8));
            assert!(!huge.is_null() && arena.offset(huge).is_none());
            let larger = arena.realloc(huge, of(5000, 8), 9000);
            arena.dealloc(larger, of(9000, 8));
            let small = arena.alloc(of(4000, 8));
            assert!(arena.offset(small).is_some());
            small.write_bytes(9, 4000);
            let out = arena.realloc(small, of(4000, 8), 4200);
            assert!(arena.offset(out).is_none());
            assert_eq!(*out.add(3999), 9);
            arena.dealloc(out, of(4200, 8));
            arena.dealloc(small, of(4000, 8));
        }
    }
}
