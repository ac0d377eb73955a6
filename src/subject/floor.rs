//! The floor rows. `null` returns one fixed address: what is left of a replay with it is the
//! harness's own cost. `bump` counts addresses upwards and never uses memory again: no bookkeeping
//! at all, at the price of memory.
//!
//! Both have one arena, mapped by [`prepare`] before the replay. They serve several threads without a
//! lock: `null` returns each thread an address of its own, so far apart that no block reaches the next
//! thread's, so that threads that write there do not disturb each other; `bump`
//! gives each thread a chunk of the arena, taken from one atomic counter, to count upwards in. On one
//! thread the chunk is the whole arena.

use core::cell::Cell;
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

/// The functions of `null` for a replay on one thread, which need not look for the thread's address.
pub const NULL_ALONE: Functions = Functions {
    malloc: null_alone_malloc,
    calloc: null_alone_calloc,
    realloc: null_alone_realloc,
    ..NULL
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
/// Start of what no thread has taken yet.
static NEXT: AtomicUsize = AtomicUsize::new(0);
/// Highest address ever given out: below it, memory may hold old contents.
static HIGH: AtomicUsize = AtomicUsize::new(0);
/// End of the arena.
static END: AtomicUsize = AtomicUsize::new(0);
/// Between the addresses that `null` returns to different threads.
static STRIDE_BYTES: AtomicUsize = AtomicUsize::new(0);
/// Bytes that a thread takes at once.
static CHUNK_BYTES: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    /// What `null` returns to this thread.
    static FIXED: Cell<usize> = const { Cell::new(0) };
    /// What is left of this thread's chunk: from and to.
    static CHUNK: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

/// What a thread takes at once when there are several: large enough that taking is rare.
const SHARED_CHUNK_BYTES: usize = 64 << 10;
/// Blocks larger than this part of a chunk are taken from the arena itself, so that no chunk is left
/// half empty for them.
const CHUNK_BLOCKS: usize = 8;
/// An OS page: between the addresses that `null` returns to different threads, at least.
const PAGE_BYTES: usize = 4096;
/// What `null`'s threads may write to in all. Where blocks are so large that they would not fit beside
/// each other, the threads' addresses are an OS page apart, and large blocks of theirs overlap.
const FIXED_LIMIT_BYTES: usize = 1 << 30;

/// Alignment of every block, and bytes of the header in which `bump` keeps a block's size.
const HEADER_BYTES: usize = 16;

/// How many threads an arena is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Threads {
    /// Over a whole replay.
    pub all: u32,
    /// At once, at most.
    pub alive: u32,
}

impl Threads {
    /// The calling thread alone.
    pub const ONE: Self = Self { all: 1, alive: 1 };
}

/// Between the addresses that `null` returns to different threads.
fn stride_bytes(largest_bytes: usize, threads: Threads) -> usize {
    let stride = largest_bytes
        .checked_next_multiple_of(PAGE_BYTES)
        .unwrap_or(usize::MAX)
        .max(PAGE_BYTES);
    match stride.checked_mul(threads.alive as usize) {
        Some(total) if total <= FIXED_LIMIT_BYTES => stride,
        _ => PAGE_BYTES,
    }
}

/// Bytes that `null` needs for blocks of that size.
pub fn null_arena_bytes(largest_bytes: u64, threads: Threads) -> u64 {
    let largest = usize::try_from(largest_bytes).unwrap_or(usize::MAX);
    let others = threads.alive.saturating_sub(1) as usize;
    let extra = stride_bytes(largest, threads).saturating_mul(others);
    largest_bytes.saturating_add(extra as u64)
}

/// Maps the arena: reserved, not committed. `bytes` is what [`bump_arena_bytes`] or
/// [`null_arena_bytes`] told, `largest_bytes` the largest request. Returns whether the system gave it.
pub fn prepare(bytes: usize, largest_bytes: usize, threads: Threads) -> bool {
    let length = bytes
        .checked_next_multiple_of(1 << 21)
        .unwrap_or(usize::MAX)
        .max(1 << 21);
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
    let chunk_bytes = match threads {
        Threads::ONE => length,
        _ => SHARED_CHUNK_BYTES,
    };
    CHUNK_BYTES.store(chunk_bytes, Relaxed);
    STRIDE_BYTES.store(stride_bytes(largest_bytes, threads), Relaxed);
    CHUNK.set((0, 0));
    begin_thread(0);
    true
}

/// Must be called first in each thread that the floor rows shall serve besides the one that called
/// [`prepare`]. Threads alive at once have different places, below the number prepared for. A thread
/// that has a chunk keeps it: the preparing one's may be the whole arena.
pub fn begin_thread(place: u32) {
    FIXED.set(ARENA.load(Relaxed) + place as usize * STRIDE_BYTES.load(Relaxed));
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

/// Makes resident what another replay of `bump` will need, after [`reset`]: also what the last one had
/// taken and not written, and some more, since several threads fill their chunks in another way each
/// time.
pub fn prefault_used(threads: Threads) {
    let (start, high) = (ARENA.load(Relaxed), HIGH.load(Relaxed));
    let further = (high - start) / 4 + threads.all as usize * SHARED_CHUNK_BYTES;
    let end = END.load(Relaxed).min(high.saturating_add(further));
    for address in (start..end).step_by(4096) {
        // SAFETY: inside the arena that `prepare` mapped, in which no block is live.
        unsafe { ptr::with_exposed_provenance_mut::<u8>(address).write_volatile(0) };
    }
}

/// Forgets every block of `bump`, between replays: the next one finds its memory already faulted in.
/// Called by the thread that called [`prepare`], when all others have ended.
pub fn reset() {
    let (next, end) = CHUNK.replace((0, 0));
    // A chunk that is the rest of the arena has been used up to here only.
    let used = if end == END.load(Relaxed) {
        next
    } else {
        NEXT.load(Relaxed)
    };
    HIGH.fetch_max(used, Relaxed);
    NEXT.store(ARENA.load(Relaxed), Relaxed);
}

/// Room for the few blocks of the warm-up.
const WARM_UP_BYTES: u64 = 4096;

/// Upper bound of what `bump` needs for a program: its requests and, per operation, a header and
/// the loss to alignment; and what is left over of chunks.
pub fn bump_arena_bytes(
    requested_bytes: u64,
    operations: u64,
    aligned_slack_bytes: u64,
    threads: Threads,
) -> u64 {
    let needed = bump_block_bytes(requested_bytes, operations, aligned_slack_bytes);
    if threads == Threads::ONE {
        return needed;
    }
    // The end of a chunk that a block did not fit into, and the last chunk of each thread.
    let ends = needed / (CHUNK_BLOCKS - 1) as u64;
    let last = u64::from(threads.all) * SHARED_CHUNK_BYTES as u64;
    needed
        .saturating_add(ends)
        .saturating_add(last)
        .saturating_add(SHARED_CHUNK_BYTES as u64)
}

fn bump_block_bytes(requested_bytes: u64, operations: u64, aligned_slack_bytes: u64) -> u64 {
    requested_bytes
        .saturating_add(WARM_UP_BYTES)
        .saturating_add(operations.saturating_mul(2 * HEADER_BYTES as u64))
        .saturating_add(aligned_slack_bytes)
}

unsafe extern "C" fn null_alone_malloc(_size: usize) -> *mut c_void {
    ptr::with_exposed_provenance_mut(ARENA.load(Relaxed))
}

unsafe extern "C" fn null_alone_calloc(_count: usize, _size: usize) -> *mut c_void {
    ptr::with_exposed_provenance_mut(ARENA.load(Relaxed))
}

unsafe extern "C" fn null_alone_realloc(_block: *mut c_void, _size: usize) -> *mut c_void {
    ptr::with_exposed_provenance_mut(ARENA.load(Relaxed))
}

unsafe extern "C" fn null_malloc(_size: usize) -> *mut c_void {
    ptr::with_exposed_provenance_mut(FIXED.get())
}

unsafe extern "C" fn null_free(_block: *mut c_void) {}

unsafe extern "C" fn null_calloc(_count: usize, _size: usize) -> *mut c_void {
    ptr::with_exposed_provenance_mut(FIXED.get())
}

unsafe extern "C" fn null_realloc(_block: *mut c_void, _size: usize) -> *mut c_void {
    ptr::with_exposed_provenance_mut(FIXED.get())
}

unsafe extern "C" fn null_posix_memalign(
    out: *mut *mut c_void,
    _alignment: usize,
    _size: usize,
) -> c_int {
    // SAFETY: the caller gives a valid place for the result, as posix_memalign demands.
    unsafe { *out = ptr::with_exposed_provenance_mut(FIXED.get()) };
    0
}

unsafe extern "C" fn null_aligned_alloc(_alignment: usize, _size: usize) -> *mut c_void {
    ptr::with_exposed_provenance_mut(FIXED.get())
}

unsafe extern "C" fn null_usable_size(_block: *mut c_void) -> usize {
    0
}

#[inline(always)]
fn bump(alignment: usize, size: usize) -> *mut c_void {
    let (start, end) = CHUNK.get();
    let block = (start + HEADER_BYTES).next_multiple_of(alignment);
    let Some(next) = size
        .checked_next_multiple_of(HEADER_BYTES)
        .and_then(|s| block.checked_add(s))
    else {
        return ptr::null_mut();
    };
    if next > end {
        return bump_elsewhere(alignment, size);
    }
    CHUNK.set((next, end));
    // SAFETY: `start .. next` is inside this thread's chunk of the arena that `prepare` mapped and
    // was never given out before, since chunks are used from start to end.
    unsafe { place(block, size) }
}

/// Writes the header of a new block.
///
/// # Safety
/// The block and its header are inside the arena, and nobody's.
#[inline(always)]
unsafe fn place(block: usize, size: usize) -> *mut c_void {
    let block: *mut c_void = ptr::with_exposed_provenance_mut(block);
    // SAFETY: the caller's promise.
    unsafe { block.byte_sub(HEADER_BYTES).cast::<usize>().write(size) };
    block
}

/// The chunk is used up, or the block too large for one.
#[cold]
#[inline(never)]
fn bump_elsewhere(alignment: usize, size: usize) -> *mut c_void {
    // The block with all that stands before it.
    let Some(bytes) = size
        .checked_next_multiple_of(HEADER_BYTES)
        .and_then(|size| size.checked_add(HEADER_BYTES + alignment))
    else {
        return ptr::null_mut();
    };
    let chunk_bytes = CHUNK_BYTES.load(Relaxed);
    let own = bytes > chunk_bytes / CHUNK_BLOCKS;
    let arena_end = END.load(Relaxed);
    let mut end = 0;
    let taken = NEXT.fetch_update(Relaxed, Relaxed, |next| {
        let left = arena_end - next;
        end = next + if own { bytes } else { chunk_bytes.min(left) };
        (bytes <= left).then_some(end)
    });
    let Ok(start) = taken else {
        return ptr::null_mut();
    };
    let block = (start + HEADER_BYTES).next_multiple_of(alignment);
    if !own {
        let next = block + size.next_multiple_of(HEADER_BYTES);
        CHUNK.set((next, end));
    }
    // SAFETY: `start .. end` has just become this thread's alone, and is long enough.
    unsafe { place(block, size) }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// The arena is the process's: tests of it take turns.
    static TURN: std::sync::Mutex<()> = std::sync::Mutex::new(());

    fn turn() -> std::sync::MutexGuard<'static, ()> {
        TURN.lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    #[test]
    fn null_gives_no_thread_a_block_that_reaches_another_s() {
        let _turn = turn();
        let threads = Threads { all: 3, alive: 3 };
        let largest = 100_000;
        let bytes = null_arena_bytes(largest as u64, threads) as usize;
        assert!(prepare(bytes, largest, threads));
        let addresses: Vec<usize> = (0..3)
            .map(|place| {
                begin_thread(place);
                // SAFETY: malloc may be called with any size.
                unsafe { null_malloc(largest) }.addr()
            })
            .collect();
        assert!(
            addresses
                .windows(2)
                .all(|pair| pair[0] + largest <= pair[1])
        );
        let end = addresses[2] + largest;
        assert!(end <= END.load(Relaxed), "inside the arena");
    }

    #[test]
    fn null_has_quicker_functions_for_one_thread_at_the_same_address() {
        let _turn = turn();
        let bytes = null_arena_bytes(64, Threads::ONE) as usize;
        assert!(prepare(bytes, 64, Threads::ONE));
        // SAFETY: malloc may be called with any size.
        unsafe { assert_eq!((NULL_ALONE.malloc)(64), (NULL.malloc)(64)) };
    }

    #[test]
    fn blocks_too_large_to_stand_side_by_side_share_the_arena() {
        let threads = Threads { all: 9, alive: 9 };
        let largest = 1 << 29;
        let bytes = null_arena_bytes(largest, threads);
        assert_eq!(bytes, largest + 8 * PAGE_BYTES as u64);
    }

    #[test]
    fn bump_serves_the_preparing_thread_after_it_began_a_replay() {
        let _turn = turn();
        let bytes = bump_arena_bytes(10_000, 10, 0, Threads::ONE) as usize;
        assert!(prepare(bytes, 1000, Threads::ONE));
        for _ in 0..3 {
            // The warm-up takes the whole arena for this thread's chunk.
            let warm = bump(HEADER_BYTES, 64);
            begin_thread(0);
            let block = bump(HEADER_BYTES, 48);
            assert!(!warm.is_null() && !block.is_null());
            reset();
        }
    }
}
