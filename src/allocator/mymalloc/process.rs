//! MyMalloc as the C functions and as a Rust program's global allocator see it.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{self, NonNull};

use super::super::FreeError;
use super::super::c_abi::{self, ProcessAllocator, ReallocFailure};
use super::super::os;
use super::large::{self, Resized};
use super::paths::{self, Found};
use super::size_class::{
    MEDIUM_BYTES_MAX, SIZES, SMALL_BYTES_MAX, class_of, class_of_aligned, class_of_medium,
    roomy_class_of,
};
use super::{options, pages};

/// The process's MyMalloc, for the functions of [`c_abi`].
pub struct Process;

impl Process {
    /// A block of `size` bytes if the calling thread has one at hand: null says nothing of memory. For
    /// those who have something to do when there is none, and want no frame for it while there is.
    #[inline(always)]
    pub fn allocate_at_hand(size: usize) -> *mut u8 {
        paths::allocate_at_hand(size)
    }
}

impl ProcessAllocator for Process {
    const NAME: &'static str = "mymalloc";
    const ENDS_PROCESS: bool = true;

    #[inline(always)]
    fn allocate(size: usize) -> Option<NonNull<u8>> {
        NonNull::new(paths::allocate(size))
    }

    #[inline(always)]
    fn allocate_or_enomem(size: usize) -> *mut u8 {
        paths::allocate(size)
    }

    #[inline]
    fn allocate_zeroed(size: usize) -> Option<NonNull<u8>> {
        if size > SMALL_BYTES_MAX {
            return match class_of_medium(size) {
                Some(class) => NonNull::new(paths::allocate_medium_zeroed(size, class)),
                None => large::allocate_zeroed(size, os::OS_PAGE_BYTES),
            };
        }
        let block = NonNull::new(paths::allocate(size))?;
        // SAFETY: the block is fresh, ours, and of `size` bytes at least.
        unsafe { block.write_bytes(0, size) };
        Some(block)
    }

    fn allocate_aligned(size: usize, alignment: usize) -> Option<NonNull<u8>> {
        if is_natural(size, alignment) {
            return Self::allocate(size);
        }
        match class_of_aligned(size, alignment) {
            Some(class) => NonNull::new(paths::allocate_class(class)),
            None => large::allocate(size, alignment),
        }
    }

    /// Never an error: a pointer that is no allocated block has ended the process.
    #[inline(always)]
    unsafe fn free(block: NonNull<u8>) -> Result<(), FreeError> {
        // SAFETY: the caller hands over the block.
        unsafe { paths::free(block.as_ptr()) };
        Ok(())
    }

    #[inline(always)]
    unsafe fn free_sized(block: *mut u8, size: usize) -> Result<(), FreeError> {
        // SAFETY: the caller hands over the block.
        unsafe { paths::free_sized(block, size) };
        Ok(())
    }

    #[inline(always)]
    unsafe fn free_or_null(block: *mut u8) -> Result<(), FreeError> {
        // SAFETY: the caller hands over the block.
        unsafe { paths::free(block) };
        Ok(())
    }

    #[inline(always)]
    fn may_stay(block: NonNull<u8>, size: usize) -> bool {
        paths::may_stay(block, size)
    }

    #[inline(always)]
    unsafe fn reallocate(block: NonNull<u8>, size: usize) -> Result<NonNull<u8>, ReallocFailure> {
        let (old_bytes, moved) = match paths::find(block)? {
            Found::Large if size > SMALL_BYTES_MAX => {
                // SAFETY: the caller hands over the block.
                match unsafe { large::resize(block, size)? } {
                    Resized::Done(resized) => return Ok(resized),
                    Resized::TooShort(bytes) => (bytes, allocate_with_room(size, bytes)),
                }
            }
            Found::Large => {
                let bytes = large::usable_bytes(block)?;
                (bytes, allocate_with_room(size, bytes))
            }
            Found::Small(class, _) => {
                // It stays unless it is too small, or another class would save half of it.
                let is_enough = size <= SIZES[class];
                let wanted = class_of(size.min(SMALL_BYTES_MAX));
                if is_enough
                    && (SIZES[class] <= paths::ALWAYS_STAYS_BYTES
                        || SIZES[wanted] > SIZES[class] / 2)
                {
                    return Ok(block);
                }
                let moved = if !is_enough && size <= SMALL_BYTES_MAX {
                    NonNull::new(paths::allocate_class(roomy_class_of(size)))
                } else {
                    allocate_with_room(size, SIZES[class])
                };
                (SIZES[class], moved)
            }
        };
        match moved {
            // SAFETY: two allocated blocks are apart; both have the bytes that are copied. The caller
            // hands over the old one.
            Some(moved) => unsafe {
                moved.copy_from_nonoverlapping(block, old_bytes.min(size));
                paths::free(block.as_ptr());
                Ok(moved)
            },
            // Less than it has: it may stay as it is.
            None if size <= old_bytes => Ok(block),
            None => Err(ReallocFailure::OutOfMemory),
        }
    }

    fn usable_bytes(block: NonNull<u8>) -> Result<usize, FreeError> {
        match paths::find(block)? {
            Found::Small(class, _) => Ok(SIZES[class]),
            Found::Large => large::usable_bytes(block),
        }
    }

    fn class_bytes(pointer: NonNull<u8>) -> Option<usize> {
        let class = pages::entry_at(pointer.addr().get())?.class();
        SIZES.get(class).copied()
    }
}

/// MyMalloc as a Rust program's global allocator. All values are the same: the process's MyMalloc,
/// which the C functions of this copy of the library use too.
///
/// A pointer that is no allocated block ends the process, as by the C `free`.
#[derive(Clone, Copy, Debug, Default)]
pub struct MyMalloc;

// SAFETY: blocks are apart, long enough, aligned as asked, stay valid until they are freed, and
// nothing here unwinds.
unsafe impl GlobalAlloc for MyMalloc {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if layout.align() <= 16 {
            return paths::allocate(layout.size());
        }
        address(Process::allocate_aligned(layout.size(), layout.align()))
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_natural(layout.size(), layout.align()) {
            return address(Process::allocate_zeroed(layout.size()));
        }
        if class_of_aligned(layout.size(), layout.align()).is_none() {
            return address(large::allocate_zeroed(layout.size(), layout.align()));
        }
        let block = Process::allocate_aligned(layout.size(), layout.align());
        if let Some(block) = block {
            // SAFETY: the block is fresh, ours, and of that many bytes at least.
            unsafe { block.write_bytes(0, layout.size()) };
        }
        address(block)
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller hands over the block.
        unsafe { paths::free_sized(block, layout.size()) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if layout.align() <= 16 {
            // SAFETY: the caller hands over the block; `size` is not 0 (GlobalAlloc's rule).
            return unsafe { c_abi::realloc::<Process>(block.cast(), size).cast() };
        }
        // A block that moves keeps an alignment of 16 only, so a new one is asked for.
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

/// A block of `size` bytes for one of so many that grows to it: if it is to be a medium one, with three eighths more
/// than that had. What is not touched of it is no memory, unless it was before.
fn allocate_with_room(size: usize, bytes: usize) -> Option<NonNull<u8>> {
    if size <= bytes {
        // Without memory for it the block stays as it is, and that is no error.
        return os::keeping_errno(|| Process::allocate(size));
    }
    if size > MEDIUM_BYTES_MAX || options::is_secure() {
        return Process::allocate(size);
    }
    let roomy = size.max(bytes + bytes / 8 * 3).min(MEDIUM_BYTES_MAX);
    let block = os::keeping_errno(|| Process::allocate(roomy));
    block.or_else(|| Process::allocate(size))
}

/// Whether every block of this size has the alignment: those beyond the small ones are whole OS pages.
fn is_natural(size: usize, alignment: usize) -> bool {
    alignment <= 16 || (size > SMALL_BYTES_MAX && alignment <= os::OS_PAGE_BYTES)
}

fn address(block: Option<NonNull<u8>>) -> *mut u8 {
    block.map_or(ptr::null_mut(), NonNull::as_ptr)
}
