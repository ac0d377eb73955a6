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

#[cfg(test)]
mod tests {
    use allocator_api2::boxed::Box;
    use allocator_api2::vec::Vec;

    use super::*;

    #[test]
    fn collections_grow_shrink_and_are_empty() {
        let mut words: Vec<u32, MyMalloc> = Vec::new_in(MyMalloc);
        words.extend(0..100_000);
        words.truncate(10);
        words.shrink_to_fit();
        assert!(words.iter().copied().eq(0..10));
        let nothing = Box::new_in((), MyMalloc);
        assert_eq!(*nothing, ());
    }

    #[test]
    fn layouts_change_and_content_stays() {
        let layout = |size, align| Layout::from_size_align(size, align).expect("valid");
        // SAFETY: blocks are used within their layouts and ended once.
        unsafe {
            let empty = MyMalloc.allocate(layout(0, 64)).expect("no memory needed");
            assert!(empty.is_empty() && empty.cast::<u8>().addr().get().is_multiple_of(64));
            let first = MyMalloc
                .grow_zeroed(empty.cast(), layout(0, 64), layout(100, 64))
                .expect("memory");
            assert!(first.as_ref().iter().all(|byte| *byte == 0));
            first.cast::<u8>().write_bytes(7, 100);
            let second = MyMalloc
                .grow_zeroed(first.cast(), layout(100, 64), layout(5000, 4096))
                .expect("memory");
            assert!(second.cast::<u8>().addr().get().is_multiple_of(4096));
            let bytes = second.as_ref();
            assert!(bytes[..100].iter().all(|byte| *byte == 7));
            assert!(bytes[100..].iter().all(|byte| *byte == 0));
            let third = MyMalloc
                .shrink(second.cast(), layout(5000, 4096), layout(0, 1))
                .expect("no memory needed");
            MyMalloc.deallocate(third.cast(), layout(0, 1));
            assert!(
                MyMalloc
                    .allocate(layout(isize::MAX as usize - 63, 64))
                    .is_err()
            );
        }
    }
}
