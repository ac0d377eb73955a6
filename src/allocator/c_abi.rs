//! The C malloc API over any process-wide allocator: what C asks beyond "give me a block" (`errno`,
//! overflow, the rules of each function) is decided here, once, for all our allocators.
//!
//! Choices where C or POSIX leaves one:
//! * `malloc(0)`, `calloc(0, n)`: a block of its own that can be freed.
//! * `realloc(block, 0)`: frees and returns null, as glibc does, whose programs run under the shim.
//! * A size beyond `PTRDIFF_MAX`: null and `ENOMEM`.
//! * An alignment that is no power of two: `EINVAL`; `posix_memalign` wants a multiple of a pointer's
//!   size besides.
//! * `free` or `realloc` of a pointer that is no allocated block: one line on standard error. Then, as
//!   the allocator has it, the process ends, or nothing is done; `realloc` returns null and `EINVAL`.
//!   `malloc_usable_size` of one is the same, or 0.
//! * Success, and every `free`, keeps `errno`.

use core::ffi::{c_int, c_void};
use core::ptr::{self, NonNull};

use super::{FreeError, os};

/// An allocator that a whole process shares. Alignments are powers of two, and sizes at most
/// `PTRDIFF_MAX` but for [`allocate`](Self::allocate): the functions of this module see to it.
pub trait ProcessAllocator {
    /// The allocator's name in messages.
    const NAME: &'static str;
    /// Whether a pointer that is no allocated block ends the process.
    const ENDS_PROCESS: bool;

    /// A block of `size` bytes at least, aligned to 16. None: out of memory, or a size beyond
    /// `PTRDIFF_MAX`, which is the allocator's to test where it costs the least.
    fn allocate(size: usize) -> Option<NonNull<u8>>;

    /// The same in C's form: null, and `errno` is `ENOMEM`.
    #[inline(always)]
    fn allocate_or_enomem(size: usize) -> *mut u8 {
        or_enomem(Self::allocate(size)).cast()
    }

    /// As [`allocate`](Self::allocate), with `size` zero bytes.
    fn allocate_zeroed(size: usize) -> Option<NonNull<u8>>;

    /// A block at a multiple of `alignment`.
    fn allocate_aligned(size: usize, alignment: usize) -> Option<NonNull<u8>>;

    /// Ends a block. Keeps `errno`.
    ///
    /// # Errors
    /// If the pointer is no allocated block; nothing is done then.
    ///
    /// # Safety
    /// If `block` is an allocated block, it is the caller's, and is used no more.
    unsafe fn free(block: NonNull<u8>) -> Result<(), FreeError>;

    /// The same for a pointer that may be null, which is no block and no error.
    ///
    /// # Errors
    /// As [`free`](Self::free).
    ///
    /// # Safety
    /// As [`free`](Self::free).
    #[inline(always)]
    unsafe fn free_or_null(block: *mut u8) -> Result<(), FreeError> {
        match NonNull::new(block) {
            // SAFETY: the caller hands over the block.
            Some(block) => unsafe { Self::free(block) },
            None => Ok(()),
        }
    }

    /// The same by a caller who says how many bytes it has used of the block. Allocators that know
    /// better may check it.
    ///
    /// # Errors
    /// As [`free`](Self::free).
    ///
    /// # Safety
    /// As [`free`](Self::free).
    #[inline(always)]
    unsafe fn free_sized(block: *mut u8, _size: usize) -> Result<(), FreeError> {
        // SAFETY: the caller hands over the block.
        unsafe { Self::free_or_null(block) }
    }

    /// Whether this is an allocated block that is as it should be for a size, as far as that is known at once.
    #[inline(always)]
    fn may_stay(_block: NonNull<u8>, _size: usize) -> bool {
        false
    }

    /// Changes a block's size, moving it if need be.
    ///
    /// # Errors
    /// Out of memory, or no allocated block; nothing has changed then.
    ///
    /// # Safety
    /// As [`free`](Self::free); after success only the pointer returned is used.
    unsafe fn reallocate(block: NonNull<u8>, size: usize) -> Result<NonNull<u8>, ReallocFailure>;

    /// Bytes that may be used of a block.
    ///
    /// # Errors
    /// If the pointer is no allocated block.
    fn usable_bytes(block: NonNull<u8>) -> Result<usize, FreeError>;

    /// How long the blocks are where this pointer points to, if that is known: for messages.
    fn class_bytes(_pointer: NonNull<u8>) -> Option<usize> {
        None
    }
}

/// Why a block's size was not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReallocFailure {
    /// No memory of the new size; the block is as it was.
    OutOfMemory,
    /// The pointer is no allocated block.
    Pointer(FreeError),
}

impl From<FreeError> for ReallocFailure {
    fn from(error: FreeError) -> Self {
        Self::Pointer(error)
    }
}

const SIZE_MAX: usize = isize::MAX as usize;

/// `malloc`.
#[inline(always)]
pub fn malloc<A: ProcessAllocator>(size: usize) -> *mut c_void {
    A::allocate_or_enomem(size).cast()
}

/// `calloc`.
pub fn calloc<A: ProcessAllocator>(count: usize, size: usize) -> *mut c_void {
    or_enomem(match count.checked_mul(size) {
        Some(bytes) if bytes <= SIZE_MAX => A::allocate_zeroed(bytes),
        _ => None,
    })
}

/// `free`.
///
/// # Safety
/// If `block` is an allocated block, it is the caller's, and is used no more. Any other pointer is
/// allowed.
#[inline(always)]
pub unsafe fn free<A: ProcessAllocator>(block: *mut c_void) {
    // SAFETY: the caller hands over the block.
    if let Err(error) = unsafe { A::free_or_null(block.cast()) } {
        report::<A>("free", block, error);
    }
}

/// The old `cfree`.
///
/// # Safety
/// As [`free`].
pub unsafe fn cfree<A: ProcessAllocator>(block: *mut c_void) {
    // SAFETY: the caller hands over the block.
    unsafe { free::<A>(block) }
}

/// C23's `free_sized`: `size` is what the block was asked for with.
///
/// # Safety
/// As [`free`].
#[inline(always)]
pub unsafe fn free_sized<A: ProcessAllocator>(block: *mut c_void, size: usize) {
    // SAFETY: the caller hands over the block.
    if let Err(error) = unsafe { A::free_sized(block.cast(), size) } {
        report::<A>("free_sized", block, error);
    }
}

/// C23's `free_aligned_sized`.
///
/// # Safety
/// As [`free`].
pub unsafe fn free_aligned_sized<A: ProcessAllocator>(
    block: *mut c_void,
    _alignment: usize,
    size: usize,
) {
    // SAFETY: the caller hands over the block.
    unsafe { free_sized::<A>(block, size) }
}

/// `realloc`.
///
/// # Safety
/// As [`free`]; after success only the pointer returned is used.
#[inline(always)]
pub unsafe fn realloc<A: ProcessAllocator>(block: *mut c_void, size: usize) -> *mut c_void {
    let Some(old) = NonNull::new(block.cast::<u8>()) else {
        return malloc::<A>(size);
    };
    if A::may_stay(old, size) {
        return block;
    }
    // SAFETY: the caller hands over the block.
    unsafe { realloc_elsewhere::<A>(old, size) }
}

/// [`realloc`] of a block that may not stay as it is, or of which that is not known. A C function, which does not unwind, so
/// that `realloc` can end in a jump to it.
///
/// # Safety
/// As [`realloc`].
#[inline(never)]
unsafe extern "C" fn realloc_elsewhere<A: ProcessAllocator>(
    old: NonNull<u8>,
    size: usize,
) -> *mut c_void {
    let block = old.as_ptr().cast();
    if size == 0 {
        // SAFETY: the caller hands over the block.
        unsafe { free::<A>(block) };
        return ptr::null_mut();
    }
    if size > SIZE_MAX {
        return or_enomem(None);
    }
    // SAFETY: the caller hands over the block.
    match unsafe { A::reallocate(old, size) } {
        Ok(block) => block.as_ptr().cast(),
        Err(ReallocFailure::OutOfMemory) => or_enomem(None),
        Err(ReallocFailure::Pointer(error)) => {
            report::<A>("realloc", block, error);
            os::set_errno(os::EINVAL);
            ptr::null_mut()
        }
    }
}

/// `reallocarray`.
///
/// # Safety
/// As [`realloc`].
pub unsafe fn reallocarray<A: ProcessAllocator>(
    block: *mut c_void,
    count: usize,
    size: usize,
) -> *mut c_void {
    match count.checked_mul(size) {
        // SAFETY: the caller hands over the block.
        Some(bytes) => unsafe { realloc::<A>(block, bytes) },
        None => or_enomem(None),
    }
}

/// `memalign`, `aligned_alloc`.
pub fn memalign<A: ProcessAllocator>(alignment: usize, size: usize) -> *mut c_void {
    if !alignment.is_power_of_two() {
        os::set_errno(os::EINVAL);
        return ptr::null_mut();
    }
    or_enomem(aligned::<A>(size, alignment))
}

/// `posix_memalign`: the reason is the result. Without memory it is in `errno` as well, where some
/// programs look for it, as glibc has it.
///
/// # Safety
/// `result` can be written.
pub unsafe fn posix_memalign<A: ProcessAllocator>(
    result: *mut *mut c_void,
    alignment: usize,
    size: usize,
) -> c_int {
    if !alignment.is_power_of_two() || !alignment.is_multiple_of(size_of::<*mut c_void>()) {
        return os::EINVAL;
    }
    match aligned::<A>(size, alignment) {
        Some(block) => {
            // SAFETY: the caller's variable.
            unsafe { result.write(block.as_ptr().cast()) };
            0
        }
        None => {
            os::set_errno(os::ENOMEM);
            os::ENOMEM
        }
    }
}

/// `valloc`: aligned to an OS page.
pub fn valloc<A: ProcessAllocator>(size: usize) -> *mut c_void {
    or_enomem(aligned::<A>(size, os::OS_PAGE_BYTES))
}

/// `pvalloc`: whole OS pages.
pub fn pvalloc<A: ProcessAllocator>(size: usize) -> *mut c_void {
    let bytes = size.max(1).checked_next_multiple_of(os::OS_PAGE_BYTES);
    or_enomem(bytes.and_then(|bytes| aligned::<A>(bytes, os::OS_PAGE_BYTES)))
}

/// `malloc_usable_size`.
pub fn malloc_usable_size<A: ProcessAllocator>(block: *mut c_void) -> usize {
    let Some(start) = NonNull::new(block.cast()) else {
        return 0;
    };
    match A::usable_bytes(start) {
        Ok(bytes) => bytes,
        Err(error) => {
            if A::ENDS_PROCESS {
                report::<A>("malloc_usable_size", block, error);
            }
            0
        }
    }
}

/// A block's address for C, or null and `ENOMEM`.
#[inline(always)]
pub(super) fn or_enomem(block: Option<NonNull<u8>>) -> *mut c_void {
    match block {
        Some(block) => block.as_ptr().cast(),
        None => no_memory(),
    }
}

#[cold]
#[inline(never)]
fn no_memory() -> *mut c_void {
    os::set_errno(os::ENOMEM);
    ptr::null_mut()
}

fn aligned<A: ProcessAllocator>(size: usize, alignment: usize) -> Option<NonNull<u8>> {
    if size <= SIZE_MAX && alignment <= SIZE_MAX {
        A::allocate_aligned(size, alignment)
    } else {
        None
    }
}

#[cold]
#[inline(never)]
pub(super) fn report<A: ProcessAllocator>(function: &str, block: *mut c_void, error: FreeError) {
    let (name, reason) = (A::NAME, error.reason());
    if A::ENDS_PROCESS {
        match NonNull::new(block.cast()).and_then(A::class_bytes) {
            Some(bytes) => os::abort(format_args!(
                "{name}: {function}({block:p}): {reason} (size class {bytes} bytes)"
            )),
            None => os::abort(format_args!("{name}: {function}({block:p}): {reason}")),
        }
    }
    os::error_line(format_args!(
        "mymalloc: {name}: {function}({block:p}): {reason}; ignored"
    ));
}

/// Defines the C malloc API as `pub unsafe extern "C"` functions over a [`ProcessAllocator`]. With
/// an attribute, each function gets it: `#[unsafe(no_mangle)]` exports the API under its C names,
/// which is for shims alone.
macro_rules! c_malloc_functions {
    ($allocator:path $(, #[$attribute:meta])?) => {
        $crate::allocator::c_abi::c_malloc_functions! {
            @define $allocator, [$(#[$attribute])?],
            /// C's `malloc`.
            malloc(size: usize) -> *mut core::ffi::c_void;
            /// C's `free`.
            free(block: *mut core::ffi::c_void) -> ();
            /// C's `calloc`.
            calloc(count: usize, size: usize) -> *mut core::ffi::c_void;
            /// C's `realloc`.
            realloc(block: *mut core::ffi::c_void, size: usize) -> *mut core::ffi::c_void;
            /// GNU's `reallocarray`.
            reallocarray(block: *mut core::ffi::c_void, count: usize, size: usize)
                -> *mut core::ffi::c_void;
            /// POSIX's `posix_memalign`.
            posix_memalign(result: *mut *mut core::ffi::c_void, alignment: usize, size: usize)
                -> core::ffi::c_int;
            /// The old `memalign`.
            memalign(alignment: usize, size: usize) -> *mut core::ffi::c_void;
            /// The old `valloc`.
            valloc(size: usize) -> *mut core::ffi::c_void;
            /// The old `pvalloc`.
            pvalloc(size: usize) -> *mut core::ffi::c_void;
            /// GNU's `malloc_usable_size`.
            malloc_usable_size(block: *mut core::ffi::c_void) -> usize;
            /// The old `cfree`.
            cfree(block: *mut core::ffi::c_void) -> ();
            /// C23's `free_sized`.
            free_sized(block: *mut core::ffi::c_void, size: usize) -> ();
            /// C23's `free_aligned_sized`.
            free_aligned_sized(block: *mut core::ffi::c_void, alignment: usize, size: usize) -> ();
        }

        /// C's `aligned_alloc`.
        ///
        /// # Safety
        /// As the C function.
        $(#[$attribute])?
        pub unsafe extern "C" fn aligned_alloc(
            alignment: usize,
            size: usize,
        ) -> *mut core::ffi::c_void {
            $crate::allocator::c_abi::memalign::<$allocator>(alignment, size)
        }
    };
    (@define $allocator:path, $attributes:tt, $(
        #[$doc:meta]
        $name:ident($($argument:ident: $type:ty),*) -> $result:ty;
    )*) => {
        $($crate::allocator::c_abi::c_malloc_functions! {
            @one $allocator, $attributes, #[$doc] $name($($argument: $type),*) -> $result
        })*
    };
    (@one $allocator:path, [$($attributes:tt)*], #[$doc:meta]
        $name:ident($($argument:ident: $type:ty),*) -> $result:ty
    ) => {
        #[$doc]
        ///
        /// # Safety
        /// As the C function.
        $($attributes)*
        pub unsafe extern "C" fn $name($($argument: $type),*) -> $result {
            #[allow(unused_unsafe, reason = "some of the functions are safe in themselves")]
            // SAFETY: the caller keeps the C function's rules, which are those of this one.
            unsafe { $crate::allocator::c_abi::$name::<$allocator>($($argument),*) }
        }
    };
}
pub(crate) use c_malloc_functions;
