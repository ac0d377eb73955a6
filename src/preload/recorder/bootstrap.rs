//! Blocks for whoever allocates while the real functions are being looked up: the C library's `dlsym`
//! may. They are never given back, and told as allocations once there is a file.

use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

const BYTES: usize = 256 * 1024;
/// Before each block: its size, then the distance to the next block's header.
const HEADER_BYTES: usize = 16;

#[repr(C, align(4096))]
struct Arena(core::cell::UnsafeCell<[u8; BYTES]>);

// SAFETY: parts are handed out by an atomic counter, each to one caller.
unsafe impl Sync for Arena {}

static ARENA: Arena = Arena(core::cell::UnsafeCell::new([0; BYTES]));
static USED: AtomicUsize = AtomicUsize::new(0);
static IS_USED: AtomicBool = AtomicBool::new(false);

fn base() -> usize {
    ARENA.0.get() as usize
}

/// A zeroed block; null when the arena is used up.
pub(crate) fn allocate(size: usize, alignment: usize) -> *mut u8 {
    let alignment = alignment.max(16);
    IS_USED.store(true, Ordering::Relaxed);
    let mut used = USED.load(Ordering::Relaxed);
    loop {
        let header = base() + used;
        let Some(block) = (header + HEADER_BYTES).checked_next_multiple_of(alignment) else {
            return ptr::null_mut();
        };
        let end = size
            .checked_add(block - base())
            .and_then(|end| end.checked_next_multiple_of(16));
        let Some(end) = end.filter(|&end| end <= BYTES) else {
            return ptr::null_mut();
        };
        match USED.compare_exchange_weak(used, end, Ordering::Relaxed, Ordering::Relaxed) {
            Ok(_) => {
                let block = block as *mut u8;
                // SAFETY: `used..end` is this caller's alone; the header lies right before the block.
                unsafe {
                    block.sub(16).cast::<usize>().write(size);
                    block.sub(8).cast::<usize>().write(end);
                }
                return block;
            }
            Err(now) => used = now,
        }
    }
}

/// Whether any block was handed out.
pub(crate) fn is_used() -> bool {
    IS_USED.load(Ordering::Relaxed)
}

/// Whether a block is of the arena.
pub(crate) fn owns(block: *const u8) -> bool {
    (block as usize).wrapping_sub(base()) < BYTES
}

/// Bytes that were asked for.
pub(crate) fn size_of(block: *const u8) -> usize {
    // SAFETY: `owns` was asked, so the header that `allocate` wrote is before the block.
    unsafe { block.sub(16).cast::<usize>().read() }
}

/// Address and size of every block, in the order of their allocation. Blocks of greater alignment than
/// 16, which `dlsym` does not ask for, are left out with all after them.
pub(crate) fn blocks() -> impl Iterator<Item = (usize, usize)> {
    let end = USED.load(Ordering::Relaxed);
    let mut at = 0;
    core::iter::from_fn(move || {
        if at >= end {
            return None;
        }
        let block = base() + at + HEADER_BYTES;
        // SAFETY: blocks follow each other; each tells where it ends.
        at = unsafe { (block as *const usize).sub(1).read() };
        (at != 0).then(|| (block, size_of(block as *const u8)))
    })
}
