//! talc, from the crate of that name, behind one lock, on memory that is mapped as needed and never
//! given back. It must be told the size of what it takes back, which C's `free` does not know: each
//! block has a header of 16 bytes.

use core::alloc::Layout;
use core::ffi::{c_int, c_void};
use core::ptr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use talc::DefaultBinning;
use talc::base::Talc;
use talc::base::binning::Binning;
use talc::source::Source;

use crate::subject::functions::Functions;

/// The crate and its version.
pub(super) const VERSION: &str = "crate talc 5.1.1";

/// Its functions.
pub(super) const FUNCTIONS: Functions = Functions {
    malloc,
    free,
    calloc,
    realloc,
    posix_memalign,
    aligned_alloc,
    malloc_usable_size: usable_size,
};

/// Address space that is mapped at a time; it becomes memory when it is written to.
const STEP_BYTES: usize = 256 << 20;

/// Maps memory when the heap has none left.
#[derive(Debug)]
struct Mapped;

// SAFETY: `acquire` touches nothing but the heap it is given, and allocates nothing itself.
unsafe impl Source for Mapped {
    fn acquire<B: Binning>(talc: &mut Talc<Self, B>, layout: Layout) -> Result<(), ()> {
        let needed = layout.size().checked_add(layout.align()).ok_or(())?;
        // The first region also holds the heap's own tables.
        let needed = needed
            .checked_add(2 * talc::min_first_heap_size::<B>())
            .ok_or(())?;
        let bytes = needed
            .max(STEP_BYTES)
            .checked_next_multiple_of(4096)
            .ok_or(())?;
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice.
        let region = unsafe {
            libc::mmap(
                ptr::null_mut(),
                bytes,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
                -1,
                0,
            )
        };
        if region == libc::MAP_FAILED {
            return Err(());
        }
        // SAFETY: the region was mapped for this heap alone and is never unmapped.
        unsafe { talc.claim(region.cast(), bytes) }
            .map(|_| ())
            .ok_or(())
    }
}

static HEAP: Mutex<Talc<Mapped, DefaultBinning>> = Mutex::new(Talc::new(Mapped));

fn heap() -> MutexGuard<'static, Talc<Mapped, DefaultBinning>> {
    HEAP.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Stands before each block.
#[derive(Clone, Copy)]
#[repr(C)]
struct Header {
    /// Bytes asked for.
    size: usize,
    /// Alignment of what talc gave out; the block lies that much further in.
    alignment: usize,
}

const HEADER_BYTES: usize = size_of::<Header>();

/// What talc is asked for on behalf of a block.
fn layout(size: usize, alignment: usize) -> Option<Layout> {
    Layout::from_size_align(size.checked_add(alignment)?, alignment).ok()
}

fn allocate(size: usize, alignment: usize) -> *mut c_void {
    let alignment = alignment.max(HEADER_BYTES);
    let Some(layout) = layout(size, alignment) else {
        return ptr::null_mut();
    };
    // SAFETY: the layout's size is at least that of a header.
    let Some(start) = (unsafe { heap().allocate(layout) }) else {
        return ptr::null_mut();
    };
    // SAFETY: `alignment` bytes and `size` more were given, and the header fits in the former.
    unsafe {
        let block = start.as_ptr().add(alignment);
        block
            .cast::<Header>()
            .sub(1)
            .write(Header { size, alignment });
        block.cast()
    }
}

/// # Safety
/// The block is one of this heap.
unsafe fn header(block: *mut c_void) -> Header {
    // SAFETY: `allocate` wrote it.
    unsafe { block.cast::<Header>().sub(1).read() }
}

unsafe extern "C" fn malloc(size: usize) -> *mut c_void {
    allocate(size, HEADER_BYTES)
}

unsafe extern "C" fn free(block: *mut c_void) {
    if block.is_null() {
        return;
    }
    // SAFETY: the caller gives a block of this heap.
    let header = unsafe { header(block) };
    if let Some(layout) = layout(header.size, header.alignment) {
        // SAFETY: `allocate` asked for this layout and went that far in.
        unsafe { heap().deallocate(block.cast::<u8>().sub(header.alignment), layout) };
    }
}

unsafe extern "C" fn calloc(count: usize, size: usize) -> *mut c_void {
    let Some(bytes) = count.checked_mul(size) else {
        return ptr::null_mut();
    };
    let block = allocate(bytes, HEADER_BYTES);
    if !block.is_null() {
        // SAFETY: so many bytes were given.
        unsafe { block.cast::<u8>().write_bytes(0, bytes) };
    }
    block
}

unsafe extern "C" fn realloc(old: *mut c_void, size: usize) -> *mut c_void {
    if old.is_null() {
        return allocate(size, HEADER_BYTES);
    }
    // SAFETY: the caller gives a block of this heap.
    let header = unsafe { header(old) };
    let resized = layout(header.size, header.alignment).zip(layout(size, header.alignment));
    let Some((before, after)) = resized else {
        return ptr::null_mut();
    };
    // SAFETY: as in `free`.
    let stayed = unsafe {
        let start = old.cast::<u8>().sub(header.alignment);
        heap().try_realloc_in_place(start, before, after.size())
    };
    if stayed {
        // SAFETY: the header is this block's.
        unsafe { (*old.cast::<Header>().sub(1)).size = size };
        return old;
    }
    let new = allocate(size, HEADER_BYTES);
    if !new.is_null() {
        // SAFETY: two blocks, each at least that long; the old one is the caller's to give up.
        unsafe {
            ptr::copy_nonoverlapping(old.cast::<u8>(), new.cast(), header.size.min(size));
            free(old);
        }
    }
    new
}

unsafe extern "C" fn posix_memalign(out: *mut *mut c_void, alignment: usize, size: usize) -> c_int {
    // SAFETY: as in `aligned_alloc`.
    let block = unsafe { aligned_alloc(alignment, size) };
    // SAFETY: the caller gives a valid place for the result, as posix_memalign demands.
    unsafe { super::store(out, block) }
}

unsafe extern "C" fn aligned_alloc(alignment: usize, size: usize) -> *mut c_void {
    if !alignment.is_power_of_two() {
        return ptr::null_mut();
    }
    allocate(size, alignment)
}

unsafe extern "C" fn usable_size(block: *mut c_void) -> usize {
    if block.is_null() {
        return 0;
    }
    // SAFETY: the caller gives a block of this heap.
    unsafe { header(block) }.size
}
