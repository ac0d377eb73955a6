//! Memory for the allocator's own records. Apart from blocks, and never given back: records are used
//! again by whoever keeps them.

use core::ptr::NonNull;

use super::super::lock::Lock;
use super::super::os;

/// What is got from the system at a time.
const STEP_BYTES: usize = 256 << 10;
/// Alignment of every record: a cache line.
pub(super) const ALIGNMENT: usize = 64;

struct Store {
    /// The next free byte, and how many follow.
    next: Option<NonNull<u8>>,
    left_bytes: usize,
    mapped_bytes: usize,
}

// SAFETY: the memory belongs to the store and to no thread.
unsafe impl Send for Store {}

static STORE: Lock<Store> = Lock::new(Store {
    next: None,
    left_bytes: 0,
    mapped_bytes: 0,
});

impl Store {
    /// Whether there is room for so many bytes, from the system if need be.
    fn has(&mut self, bytes: usize) -> bool {
        if self.left_bytes < bytes {
            let Some(step) = os::map(STEP_BYTES) else {
                return false;
            };
            self.next = Some(step);
            self.left_bytes = STEP_BYTES;
            self.mapped_bytes += STEP_BYTES;
        }
        true
    }
}

/// Makes sure that records of so many bytes in all, alignment included, are to be had. False: no memory.
pub(super) fn make_sure_of(bytes: usize) -> bool {
    STORE.lock_spinning().has(bytes)
}

/// Room for a `T`, zeroed. None: the system has no memory left.
pub(super) fn allocate<T>() -> Option<NonNull<T>> {
    const { assert!(align_of::<T>() <= ALIGNMENT && size_of::<T>() <= STEP_BYTES) }
    allocate_bytes(size_of::<T>().next_multiple_of(ALIGNMENT)).map(NonNull::cast)
}

#[inline(never)]
fn allocate_bytes(bytes: usize) -> Option<NonNull<u8>> {
    let mut store = STORE.lock_spinning();
    if !store.has(bytes) {
        return None;
    }
    let record = store.next?;
    // SAFETY: `left_bytes`, at least `bytes`, are mapped from `next` on.
    store.next = Some(unsafe { record.add(bytes) });
    store.left_bytes -= bytes;
    Some(record)
}

/// Bytes of records, used or not yet.
pub(super) fn mapped_bytes() -> usize {
    STORE.lock().mapped_bytes
}

/// Around `fork`.
pub(super) fn acquire() {
    STORE.acquire();
}

/// # Safety
/// After [`acquire`], as for `Lock::release`.
pub(super) unsafe fn release() {
    // SAFETY: the caller says so.
    unsafe { STORE.release() }
}
