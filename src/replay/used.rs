//! Touch policies that do with a block what a program does: [`TouchUsed`] fills small blocks, touches as
//! much of large ones as the recorded program did, and looks at each once more before it is freed;
//! [`TouchBusy`] also touches other memory between the calls, so that the allocator finds its own less
//! often in the caches than in a loop that does nothing but call it.

use core::ffi::c_void;
use core::sync::atomic::{AtomicU64, Ordering};

use super::serial::{Fault, Observer, Returned};
use super::speed::{PAGE_BYTES, touch_lines};
use super::touched::ALL_PAGES;

/// See the file's head.
#[derive(Default)]
pub(super) struct TouchUsed;

/// See the file's head.
#[derive(Default)]
pub(super) struct TouchBusy {
    /// The line that was touched last.
    at: usize,
}

/// Lines that are touched between two calls: a program that works for some 50 to 100 ns meets so many
/// that it has not just used.
const LINES_BETWEEN: usize = 8;
/// Lines of the other memory, 1 MiB in all: it pushes out of a second-level cache of today what has not
/// been used for some two thousand calls.
const LINES: usize = 1 << 14;

#[repr(align(64))]
struct Line(AtomicU64);

/// The other memory. Threads share it: each goes its own way through it.
static OTHER: [Line; LINES] = [const { Line(AtomicU64::new(0)) }; LINES];

impl TouchBusy {
    #[inline(always)]
    fn work(&mut self) {
        for _ in 0..LINES_BETWEEN {
            self.at = (self.at + 1) % LINES;
            let line = &OTHER[self.at].0;
            // Only the access itself is meant.
            line.store(line.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        }
    }
}

/// Has the other memory in place, so that its page faults are in nobody's time.
pub(super) fn prepare() {
    for line in &OTHER {
        line.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Observer for TouchUsed {
    #[inline(always)]
    unsafe fn allocated(&mut self, returned: &Returned) -> Result<(), Fault> {
        // SAFETY: the caller's promise.
        unsafe { touch_used(returned) };
        Ok(())
    }

    #[inline(always)]
    unsafe fn last_use(&mut self, block: *mut c_void) {
        // SAFETY: the caller's promise.
        unsafe { look(block) };
    }
}

impl Observer for TouchBusy {
    #[inline(always)]
    unsafe fn allocated(&mut self, returned: &Returned) -> Result<(), Fault> {
        // SAFETY: the caller's promise.
        unsafe { touch_used(returned) };
        self.work();
        Ok(())
    }

    #[inline(always)]
    unsafe fn releasing(&mut self, _slot: usize, _block: *mut c_void) -> Result<(), Fault> {
        self.work();
        Ok(())
    }

    #[inline(always)]
    unsafe fn last_use(&mut self, block: *mut c_void) {
        // SAFETY: the caller's promise.
        unsafe { look(block) };
    }
}

/// A block before it ends: programs read a count, a link or a length in it.
///
/// # Safety
/// `block` is null, or was returned for at least one byte and not given back.
#[inline(always)]
unsafe fn look(block: *mut c_void) {
    if !block.is_null() {
        // SAFETY: the block has a first byte. Volatile: the read is the purpose.
        unsafe { block.cast::<u8>().read_volatile() };
    }
}

/// Touches a new block as the program did.
///
/// # Safety
/// `returned.block` is valid for `returned.size` bytes.
#[inline(always)]
pub(super) unsafe fn touch_used(returned: &Returned) {
    if returned.touched_pages == ALL_PAGES {
        // SAFETY: the caller's promise.
        unsafe { touch_lines(returned) };
    } else {
        // By value, as in `touch_pages`.
        // SAFETY: the caller's promise.
        unsafe { touch_first_pages(returned.block.cast(), returned.size, returned.touched_pages) };
    }
}

/// The first pages of a block, or all if it has no more. Which ones does not matter to an allocator.
///
/// # Safety
/// `block` is valid for `size` bytes.
#[inline(never)]
unsafe fn touch_first_pages(block: *mut u8, size: usize, pages: u32) {
    for offset in (0..size).step_by(PAGE_BYTES).take(pages as usize) {
        // SAFETY: the offset is inside the block. Volatile: the write is the purpose.
        unsafe { block.add(offset).write_volatile(0xA5) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn returned(bytes: &mut [u8], touched_pages: u32) -> Returned {
        Returned {
            block: bytes.as_mut_ptr().cast(),
            slot: 1,
            size: bytes.len(),
            alignment: 0,
            zeroed: false,
            touched_pages,
        }
    }

    /// Offsets that were written to.
    fn written(bytes: usize, touched_pages: u32) -> Vec<usize> {
        let mut bytes = vec![0; bytes];
        // SAFETY: the block is as long as it says.
        unsafe { touch_used(&returned(&mut bytes, touched_pages)) };
        (0..bytes.len()).filter(|&at| bytes[at] != 0).collect()
    }

    #[test]
    fn blocks_are_touched_as_recorded() {
        assert!(written(0, ALL_PAGES).is_empty());
        assert_eq!(written(1, ALL_PAGES), [0]);
        assert_eq!(written(130, ALL_PAGES), [0, 64, 128, 129]);
        assert_eq!(written(10_000, ALL_PAGES), [0, 4096, 8192, 9999]);
        assert!(written(10_000, 0).is_empty());
        assert_eq!(written(10_000, 2), [0, 4096]);
        // Never beyond the block.
        assert_eq!(written(10_000, 9), [0, 4096, 8192]);
    }

    #[test]
    fn a_busy_program_meets_all_of_the_other_memory() {
        let mut busy = TouchBusy::default();
        prepare();
        let calls = LINES / LINES_BETWEEN;
        let count = |line: &Line| line.0.load(Ordering::Relaxed);
        let before: Vec<u64> = OTHER.iter().map(count).collect();
        for _ in 0..calls {
            // SAFETY: null may be released.
            unsafe { busy.releasing(0, core::ptr::null_mut()) }.expect("never fails");
        }
        // Other tests may do the same at the same time.
        let after = OTHER.iter().map(count);
        assert!(after.zip(before).all(|(after, before)| after > before));
        assert_eq!(busy.at, 0);
    }
}
