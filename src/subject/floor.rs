//! The floor rows. `null` returns one fixed address: what is left of a replay with it is the
//! harness's own cost. `bump` counts addresses upwards and never uses memory again: no bookkeeping
//! at all, at the price of memory.
//!
//! Both serve one thread and one arena, mapped by [`prepare`] before the replay.

use core::ffi::{c_int, c_void};
use core::ptr;
use core::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use super::functions::Functions;

/// The functions of `null`.
pub const NULL: Functions = Functions {
    malloc: null_malloc,
    free: null_free,
    calloc: null_calloc,
    realloc: null_realloc,
    posix_memalign: null_posix_memalign,
    aligned_alloc: null_aligned_alloc,
    malloc_usable_size: null_usable_size,
};

/// The functions of `bump`.
pub const BUMP: Functions = Functions {
    malloc: bump_malloc,
    free: bump_free,
    calloc: bump_calloc,
    realloc: bump_realloc,
    posix_memalign: bump_posix_memalign,
    aligned_alloc: bump_aligned_alloc,
    malloc_usable_size: bump_usable_size,
};

/// Start of the arena. Null until [`prepare`].
static ARENA: AtomicUsize = AtomicUsize::new(0);
/// Next free address of `bump`.
static NEXT: AtomicUsize = AtomicUsize::new(0);
/// Highest address ever given out: below it, memory may hold old contents.
static HIGH: AtomicUsize = AtomicUsize::new(0);
/// End of the arena.
static END: AtomicUsize = AtomicUsize::new(0);

/// Alignment of every block, and bytes of the header in which `bump` keeps a block's size.
const HEADER_BYTES: usize = 16;

/// Maps the arena: reserved, not committed. `bytes` is what the whole replay will ask for (`bump`),
/// or the largest request (`null`). Returns whether the system gave it.
pub fn prepare(bytes: usize) -> bool {
    let length = bytes.next_multiple_of(1 << 21).max(1 << 21);
    // SAFETY: a fresh anonymous mapping at an address of the kernel's choice.
    let arena = unsafe {
        libc::mmap(
            ptr::null_mut(),
            length,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
            -1,
            0,
        )
    };
    if arena == libc::MAP_FAILED {
        return false;
    }
    ARENA.store(arena as usize, Relaxed);
    NEXT.store(arena as usize, Relaxed);
    HIGH.store(arena as usize, Relaxed);
    END.store(arena as usize + length, Relaxed);
    true
}

/// Makes the whole arena resident, so that the page faults of writing into it are not taken for the
/// harness's own cost (`null`).
pub fn prefault() {
    let (start, end) = (ARENA.load(Relaxed), END.load(Relaxed));
    for address in (start..end).step_by(4096) {
        // SAFETY: inside the arena that `prepare` mapped.
        unsafe { ptr::with_exposed_provenance_mut::<u8>(address).write_volatile(0) };
    }
}

/// Forgets every block of `bump`, between replays: the next one finds its memory already faulted in.
pub fn reset() {
    HIGH.fetch_max(NEXT.load(Relaxed), Relaxed);
    NEXT.store(ARENA.load(Relaxed), Relaxed);
}

/// Room for the few blocks of the warm-up.
const WARM_UP_BYTES: u64 = 4096;

/// Upper bound of what `bump` needs for a program: its requests and, per operation, a header and
/// the loss to alignment.
pub fn bump_arena_bytes(requested_bytes: u64, operations: u64, aligned_slack_bytes: u64) -> u64 {
    requested_bytes
        .saturating_add(WARM_UP_BYTES)
        .saturating_add(operations.saturating_mul(2 * HEADER_BYTES as u64))
        .saturating_add(aligned_slack_bytes)
}

unsafe extern "C" fn null_malloc(_size: usize) -> *mut c_void {
    ptr::with_exposed_provenance_mut(ARENA.load(Relaxed))
}

unsafe extern "C" fn null_free(_block: *mut c_void) {}

unsafe extern "C" fn null_calloc(_count: usize, _size: usize) -> *mut c_void {
    ptr::with_exposed_provenance_mut(ARENA.load(Relaxed))
}

unsafe extern "C" fn null_realloc(_block: *mut c_void, _size: usize) -> *mut c_void {
    ptr::with_exposed_provenance_mut(ARENA.load(Relaxed))
}

unsafe extern "C" fn null_posix_memalign(
    out: *mut *mut c_void,
    _alignment: usize,
    _size: usize,
) -> c_int {
    // SAFETY: the caller gives a valid place for the result, as posix_memalign demands.
    unsafe { *out = ptr::with_exposed_provenance_mut(ARENA.load(Relaxed)) };
    0
}

unsafe extern "C" fn null_aligned_alloc(_alignment: usize, _size: usize) -> *mut c_void {
    ptr::with_exposed_provenance_mut(ARENA.load(Relaxed))
}

unsafe extern "C" fn null_usable_size(_block: *mut c_void) -> usize {
    0
}

#[inline(always)]
fn bump(alignment: usize, size: usize) -> *mut c_void {
    let block = (NEXT.load(Relaxed) + HEADER_BYTES).next_multiple_of(alignment);
    let Some(next) = size
        .checked_next_multiple_of(HEADER_BYTES)
        .and_then(|s| block.checked_add(s))
    else {
        return ptr::null_mut();
    };
    if next > END.load(Relaxed) {
        return ptr::null_mut();
    }
    NEXT.store(next, Relaxed);
    let block: *mut c_void = ptr::with_exposed_provenance_mut(block);
    // SAFETY: `block - HEADER_BYTES .. next` lies inside the arena that `prepare` mapped and was
    // never given out before, since NEXT only grows.
    unsafe { block.byte_sub(HEADER_BYTES).cast::<usize>().write(size) };
    block
}

unsafe extern "C" fn bump_malloc(size: usize) -> *mut c_void {
    bump(HEADER_BYTES, size)
}

unsafe extern "C" fn bump_free(_block: *mut c_void) {}

unsafe extern "C" fn bump_calloc(count: usize, size: usize) -> *mut c_void {
    let Some(bytes) = count.checked_mul(size) else {
        return ptr::null_mut();
    };
    let block = bump(HEADER_BYTES, bytes);
    // Above the highest address ever given out, pages of the kernel are zero already.
    if !block.is_null() && block.addr() < HIGH.load(Relaxed) {
        // SAFETY: the block is `bytes` long and has just been given out.
        unsafe { ptr::write_bytes(block.cast::<u8>(), 0, bytes) };
    }
    block
}

unsafe extern "C" fn bump_realloc(block: *mut c_void, size: usize) -> *mut c_void {
    let new = bump(HEADER_BYTES, size);
    if !block.is_null() && !new.is_null() {
        // SAFETY: `block` came from `bump`, which wrote its size in front; old and new do not
        // overlap, since addresses only grow.
        unsafe {
            let old_size = bump_usable_size(block);
            ptr::copy_nonoverlapping(block.cast::<u8>(), new.cast::<u8>(), old_size.min(size));
        }
    }
    new
}

unsafe extern "C" fn bump_posix_memalign(
    out: *mut *mut c_void,
    alignment: usize,
    size: usize,
) -> c_int {
    let block = bump(alignment.max(HEADER_BYTES), size);
    if block.is_null() {
        return libc::ENOMEM;
    }
    // SAFETY: the caller gives a valid place for the result, as posix_memalign demands.
    unsafe { *out = block };
    0
}

unsafe extern "C" fn bump_aligned_alloc(alignment: usize, size: usize) -> *mut c_void {
    bump(alignment.max(HEADER_BYTES), size)
}

unsafe extern "C" fn bump_usable_size(block: *mut c_void) -> usize {
    if block.is_null() {
        return 0;
    }
    // SAFETY: `block` came from `bump`, which wrote its size in front.
    unsafe { block.byte_sub(HEADER_BYTES).cast::<usize>().read() }
}
