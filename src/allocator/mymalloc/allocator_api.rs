//! MyMalloc for collections that take an allocator of their own, by the trait of the crate
//! `allocator-api2` (a mirror, for stable Rust, of the one that the standard library is to have).
//!
//! ```
//! use allocator_api2::vec::Vec;
//! use mymalloc::allocator::mymalloc::MyMalloc;
//!
//! let mut squares = Vec::new_in(MyMalloc);
//! squares.extend((0..1000_u64).map(|n| n * n));
//! assert_eq!(squares[999], 998_001);
//! ```

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::{self, NonNull};

use allocator_api2::alloc::{AllocError, Allocator};

use super::MyMalloc;

// SAFETY: blocks stay valid until they are freed, and every value is the same allocator.
unsafe impl Allocator for MyMalloc {
    #[inline]
    fn allocate(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if layout.size() == 0 {
            return Ok(empty(layout));
        }
        // SAFETY: the size is not 0.
        block(unsafe { self.alloc(layout) }, layout.size())
    }

    #[inline]
    fn allocate_zeroed(&self, layout: Layout) -> Result<NonNull<[u8]>, AllocError> {
        if layout.size() == 0 {
            return Ok(empty(layout));
        }
        // SAFETY: the size is not 0.
        block(unsafe { self.alloc_zeroed(layout) }, layout.size())
    }

    #[inline]
    unsafe fn deallocate(&self, start: NonNull<u8>, layout: Layout) {
        if layout.size() != 0 {
            // SAFETY: the caller hands over a block of this layout.
            unsafe { self.dealloc(start.as_ptr(), layout) }
        }
    }

    unsafe fn grow(
        &self,
        start: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: the caller hands over a block of the old layout.
        unsafe { change(*self, start, old, new) }
    }

    unsafe fn grow_zeroed(
        &self,
        start: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: the caller hands over a block of the old layout; the new block is longer, and what
        // was not part of the old one is the caller's without a value yet.
        unsafe {
            let grown = change(*self, start, old, new)?;
            let rest = grown.cast::<u8>().add(old.size());
            rest.write_bytes(0, new.size() - old.size());
            Ok(grown)
        }
    }

    unsafe fn shrink(
        &self,
        start: NonNull<u8>,
        old: Layout,
        new: Layout,
    ) -> Result<NonNull<[u8]>, AllocError> {
        // SAFETY: the caller hands over a block of the old layout.
        unsafe { change(*self, start, old, new) }
    }
}

/// A block of no bytes: an aligned address that nobody allocated.
fn empty(layout: Layout) -> NonNull<[u8]> {
    let start = ptr::without_provenance_mut(layout.align());
    // SAFETY: an alignment is not 0.
    NonNull::slice_from_raw_parts(unsafe { NonNull::new_unchecked(start) }, 0)
}

fn block(start: *mut u8, size: usize) -> Result<NonNull<[u8]>, AllocError> {
    let start = NonNull::new(start).ok_or(AllocError)?;
    Ok(NonNull::slice_from_raw_parts(start, size))
}

/// A block of another size or alignment that begins with what the old one held.
///
/// # Safety
/// A block of the old layout that the caller hands over, unless the result is an error.
unsafe fn change(
    allocator: MyMalloc,
    start: NonNull<u8>,
    old: Layout,
    new: Layout,
) -> Result<NonNull<[u8]>, AllocError> {
    // SAFETY: the caller's block; sizes of 0 never reach `GlobalAlloc`.
    unsafe {
        if old.size() != 0 && new.size() != 0 && old.align() == new.align() {
            return block(
                allocator.realloc(start.as_ptr(), old, new.size()),
                new.size(),
            );
        }
        let moved = allocator.allocate(new)?;
        let bytes = old.size().min(new.size());
        moved.cast::<u8>().copy_from_nonoverlapping(start, bytes);
        allocator.deallocate(start, old);
        Ok(moved)
    }
}
