//! The one page list of a process: what its C functions and its Rust global allocator share. Small
//! requests go to the list of pages, all others to mappings of their own.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::super::c_abi::{self, ProcessAllocator, ReallocFailure};
use super::super::lock::Lock;
use super::super::{FreeError, os};
use super::mappings::Mappings;
use super::page::ALIGNMENT;
use super::{AllocateError, PageList, REQUEST_BYTES_MAX, ReallocateError};

static PAGES: PageList = PageList::new();
/// Never locked while a thread holds the lock of `PAGES`, except around `fork`.
static MAPPINGS: Lock<Mappings> = Lock::new(Mappings::new());
static FORK_HANDLERS_SET: AtomicBool = AtomicBool::new(false);

/// The process's page list, for the functions of [`c_abi`].
pub struct Process;

impl ProcessAllocator for Process {
    const NAME: &'static str = "pagelist";
    const ENDS_PROCESS: bool = false;

    fn allocate(size: usize) -> Option<NonNull<u8>> {
        watch_forks();
        if size <= REQUEST_BYTES_MAX {
            PAGES.allocate(size).ok()
        } else if size > isize::MAX as usize {
            None
        } else {
            MAPPINGS.lock().allocate(size, ALIGNMENT)
        }
    }

    fn allocate_zeroed(size: usize) -> Option<NonNull<u8>> {
        let block = Self::allocate(size)?;
        // Mappings are zeroed by the system; a block of a page may have been used before.
        if size <= REQUEST_BYTES_MAX {
            // SAFETY: the block is fresh, ours, and of `size` bytes at least.
            unsafe { block.write_bytes(0, size) };
        }
        Some(block)
    }

    fn allocate_aligned(size: usize, alignment: usize) -> Option<NonNull<u8>> {
        if alignment <= ALIGNMENT {
            return Self::allocate(size);
        }
        watch_forks();
        MAPPINGS.lock().allocate(size, alignment)
    }

    unsafe fn free(block: NonNull<u8>) -> Result<(), FreeError> {
        match PAGES.free(block) {
            Err(FreeError::Foreign) => MAPPINGS.lock().free(block),
            result => result,
        }
    }

    unsafe fn reallocate(block: NonNull<u8>, size: usize) -> Result<NonNull<u8>, ReallocFailure> {
        match PAGES.reallocate(block, size) {
            Ok(block) => Ok(block),
            Err(ReallocateError::Size(AllocateError::OutOfMemory)) => {
                Err(ReallocFailure::OutOfMemory)
            }
            // SAFETY: the caller hands over the block.
            Err(ReallocateError::Size(AllocateError::TooLarge)) => unsafe {
                let usable_bytes = PAGES.usable_bytes(block)?;
                move_block(block, usable_bytes, size)
            },
            // SAFETY: the caller hands over the block.
            Err(ReallocateError::Pointer(FreeError::Foreign)) => unsafe {
                reallocate_mapping(block, size)
            },
            Err(ReallocateError::Pointer(error)) => Err(error.into()),
        }
    }

    fn usable_bytes(block: NonNull<u8>) -> Result<usize, FreeError> {
        match PAGES.usable_bytes(block) {
            Err(FreeError::Foreign) => MAPPINGS.lock().usable_bytes(block),
            result => result,
        }
    }
}

/// Moves a block into memory newly allocated.
///
/// # Safety
/// `block` is an allocated block of `usable_bytes`, and the caller hands it over.
unsafe fn move_block(
    block: NonNull<u8>,
    usable_bytes: usize,
    size: usize,
) -> Result<NonNull<u8>, ReallocFailure> {
    let moved = Process::allocate(size).ok_or(ReallocFailure::OutOfMemory)?;
    // SAFETY: two allocated blocks are apart; the old one has `usable_bytes`, the new one `size`.
    unsafe {
        moved.copy_from_nonoverlapping(block, usable_bytes.min(size));
        Process::free(block)?;
    }
    Ok(moved)
}

/// `reallocate` for what is in no page.
///
/// # Safety
/// If `block` is a mapping of ours, the caller hands it over.
unsafe fn reallocate_mapping(
    block: NonNull<u8>,
    size: usize,
) -> Result<NonNull<u8>, ReallocFailure> {
    if size > REQUEST_BYTES_MAX {
        return MAPPINGS
            .lock()
            .resize(block, size)?
            .ok_or(ReallocFailure::OutOfMemory);
    }
    let usable_bytes = MAPPINGS.lock().usable_bytes(block)?;
    // SAFETY: the caller hands over the block, which the line above found to be ours.
    match unsafe { move_block(block, usable_bytes, size) } {
        // Less than it has: it may stay as it is.
        Err(ReallocFailure::OutOfMemory) if size <= usable_bytes => Ok(block),
        result => result,
    }
}

/// A child of `fork` has a copy of every lock as it was, but only the one thread: had another
/// thread held a lock, the child could never allocate. So both are taken around every fork.
///
/// Called on every allocation; registers once. It holds no lock, since registering may allocate.
/// The first allocation of a process happens before it has a second thread (starting one allocates),
/// so no fork can slip in between.
#[inline]
fn watch_forks() {
    if !FORK_HANDLERS_SET.load(Relaxed) && !FORK_HANDLERS_SET.swap(true, Relaxed) {
        os::at_fork(before_fork, after_fork, after_fork);
    }
}

unsafe extern "C" fn before_fork() {
    PAGES.pages.acquire();
    MAPPINGS.acquire();
}

unsafe extern "C" fn after_fork() {
    // SAFETY: `before_fork` took both, on this thread or on the parent's that this one is a copy of.
    unsafe {
        MAPPINGS.release();
        PAGES.pages.release();
    }
}

/// The page list as a Rust program's global allocator. All values are the same: the process's list,
/// which the C functions of this copy of the library use too.
///
/// It serves any size and alignment. A pointer that is not its own is reported on standard error and
/// otherwise ignored, as by the C `free`.
#[derive(Clone, Copy, Debug, Default)]
pub struct PageListGlobal;

// SAFETY: blocks are apart, long enough, aligned as asked (16 bytes in pages, any power of two in
// mappings), stay valid until they are freed, and nothing here unwinds.
unsafe impl GlobalAlloc for PageListGlobal {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        address(Process::allocate_aligned(layout.size(), layout.align()))
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        address(if layout.align() <= ALIGNMENT {
            Process::allocate_zeroed(layout.size())
        } else {
            // A mapping, which is zeroed.
            Process::allocate_aligned(layout.size(), layout.align())
        })
    }

    unsafe fn dealloc(&self, block: *mut u8, _layout: Layout) {
        // SAFETY: the caller hands over the block.
        unsafe { c_abi::free::<Process>(block.cast()) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if layout.align() <= ALIGNMENT {
            // SAFETY: the caller hands over the block; `size` is not 0 (GlobalAlloc's rule).
            return unsafe { c_abi::realloc::<Process>(block.cast(), size).cast() };
        }
        // A block that grows by moving keeps an alignment of 16 only, so a new one is asked for.
        // SAFETY: the layout was valid and `size` rounded up to its alignment does not overflow
        // (GlobalAlloc's rule); both blocks have the bytes that are copied.
        unsafe {
            let moved = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !moved.is_null() {
                ptr::copy_nonoverlapping(block, moved, layout.size().min(size));
                self.dealloc(block, layout);
            }
            moved
        }
    }
}

fn address(block: Option<NonNull<u8>>) -> *mut u8 {
    block.map_or(ptr::null_mut(), NonNull::as_ptr)
}
