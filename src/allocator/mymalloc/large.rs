//! Large blocks: beyond 16 KiB, and the chunks that small blocks are carved from. All come from the
//! [`store`](super::store) of extents, under one lock; medium ones are kept in magazines, so that most
//! of them are served without it.

use core::ptr::NonNull;

use super::super::lock::Lock;
use super::super::os::{self, OS_PAGE_BYTES};
use super::super::{FreeError, c_abi::ReallocFailure};
use super::extent::{self, State};
use super::heap::IS_CHECKED;
use super::pages::{self, PAGES_PER_CHUNK, PLACES_PER_CHUNK};
use super::size_class::{PLACE_BYTES, block_bytes, class_of_medium};
use super::state_byte::{is_allocated, on_its_way};
use super::store::{self, Store};
use super::tray::Entry;
use super::{thread, tick};

/// Blocks from here on move by changing the page table, not by copying.
const MOVE_BYTES_MIN: usize = 128 << 10;

static STORE: Lock<Store> = Lock::new(Store::new());

/// A block of `size` bytes at a multiple of `alignment`, a power of two. None: no memory, or a size
/// beyond `PTRDIFF_MAX`.
pub(super) fn allocate(size: usize, alignment: usize) -> Option<NonNull<u8>> {
    allocate_for_program(size, alignment, false).map(|(block, _)| block)
}

/// The same, with `size` zero bytes.
pub(super) fn allocate_zeroed(size: usize, alignment: usize) -> Option<NonNull<u8>> {
    let (block, is_dirty) = allocate_for_program(size, alignment, false)?;
    if is_dirty {
        // SAFETY: the fresh block has so many bytes.
        unsafe { block.write_bytes(0, size) };
    }
    Some(block)
}

/// As [`allocate_block`], for callers that hold nothing of the thread's heap: what lies idle in its magazines, and on
/// offer, is given back before there is said to be no memory.
fn allocate_for_program(
    size: usize,
    alignment: usize,
    to_grow: bool,
) -> Option<(NonNull<u8>, bool)> {
    // More than there are addresses is not asked for six times over.
    if size >> pages::ADDRESS_BITS != 0 || alignment >> pages::ADDRESS_BITS != 0 {
        return None;
    }
    allocate_block(size, alignment, to_grow).or_else(|| {
        tick::give_all_idle();
        allocate_block(size, alignment, to_grow)
    })
}

/// A block, and whether it may hold other bytes than zeroes. `to_grow`: where it may grow in place.
fn allocate_block(size: usize, alignment: usize, to_grow: bool) -> Option<(NonNull<u8>, bool)> {
    thread::make_process_ready();
    // A place at least, so that no two blocks start in one. What is not touched of it is no memory.
    let pages = size.max(PLACE_BYTES).div_ceil(OS_PAGE_BYTES);
    let alignment_pages = (alignment / OS_PAGE_BYTES).max(1);
    tick::work_if_due();
    let mut store = STORE.lock_spinning();
    let extent = store.take(pages, alignment_pages, State::Block, to_grow)?;
    // SAFETY: the store's record, under its lock, which has entered its region.
    let extent = unsafe {
        extent::declare(extent);
        extent.as_ref()
    };
    Some((NonNull::new(extent.start())?, extent.is_dirty))
}

/// A medium block, marked free. None: no memory.
pub(super) fn allocate_medium(class: usize) -> Option<Entry> {
    let (block, _) = allocate_block(block_bytes(class), OS_PAGE_BYTES, false)?;
    let extent = extent::at(block.addr().get() / OS_PAGE_BYTES)?;
    // SAFETY: the block's record, whose state is the caller's.
    unsafe {
        let state = extent::state_of(extent);
        state.write(on_its_way(block.addr().get()));
        Some(Entry {
            block,
            state: state.as_ptr(),
        })
    }
}

/// What became of a block that was given to [`free`].
pub(super) enum Freed {
    /// It is free.
    Done,
    /// It is marked free, and the caller's to keep for later.
    Medium(usize, Entry),
}

/// Ends a large block.
///
/// # Errors
/// If the pointer is not the start of one.
///
/// # Safety
/// If it is, the block is the caller's and is used no more.
pub(super) unsafe fn free(block: NonNull<u8>) -> Result<Freed, FreeError> {
    if let Some(medium) = keep_medium(block) {
        return Ok(medium);
    }
    let mut store = STORE.lock_spinning();
    let extent = store.find(block)?;
    // SAFETY: a block in use, which the caller hands over.
    unsafe { store.free_dirty(extent) };
    drop(store);
    tick::work_if_due();
    Ok(Freed::Done)
}

/// Marks a medium block free, without the lock: what is read of an allocated block's record does not
/// change until its owner frees it. None: it is none, or not for sure.
fn keep_medium(block: NonNull<u8>) -> Option<Freed> {
    let address = block.addr().get();
    let extent = extent::at(address / OS_PAGE_BYTES)?;
    // SAFETY: records stay mapped; of one that is not the block's own, the worst that can be read are
    // numbers that do not fit.
    unsafe {
        let record = extent.as_ptr();
        let state = extent::state_of(extent);
        let is_block = (is_allocated(state.read(), address) || !IS_CHECKED)
            && (*record).state == State::Block
            && (*record).first * OS_PAGE_BYTES == address;
        if !is_block {
            return None;
        }
        let class = (*record).medium_class()?;
        state.write(on_its_way(address));
        let state = state.as_ptr();
        Some(Freed::Medium(class, Entry { block, state }))
    }
}

/// Whether this is an allocated block with fewer bytes than `size`. Without the lock, as in
/// [`keep_medium`].
pub(super) fn is_too_small(block: NonNull<u8>, size: usize) -> bool {
    let address = block.addr().get();
    let Some(extent) = extent::at(address / OS_PAGE_BYTES) else {
        return false;
    };
    // SAFETY: as in `keep_medium`.
    unsafe {
        let record = extent.as_ptr();
        is_allocated(extent::state_of(extent).read(), address)
            && (*record).state == State::Block
            && (*record).first * OS_PAGE_BYTES == address
            && (*record).bytes() < size
    }
}

/// Takes medium blocks back that are marked free.
///
/// # Safety
/// They were got from here, and are the caller's.
pub(super) unsafe fn take_home(entries: &[Entry]) {
    let mut store = STORE.lock_spinning();
    let now_ms = os::now_ms();
    for entry in entries {
        if let Some(extent) = extent::at(entry.block.addr().get() / OS_PAGE_BYTES) {
            // SAFETY: the block's record; the caller hands over the block.
            unsafe { store.put(extent, true, now_ms) };
        }
    }
    store.limit_dirty();
}

/// Bytes of the large block that starts here.
///
/// # Errors
/// If none does.
pub(super) fn usable_bytes(block: NonNull<u8>) -> Result<usize, FreeError> {
    // SAFETY: the store's record, under its lock.
    Ok(unsafe { STORE.lock_spinning().find(block)?.as_ref() }.bytes())
}

/// Why this is the start of no block: of an address that no slice and no start of a large block is known at.
#[cold]
pub(super) fn reason(block: NonNull<u8>) -> FreeError {
    let found = STORE.lock_spinning().find(block);
    found.err().unwrap_or(FreeError::Foreign)
}

/// Whether this is an allocated block that is long enough, and not so long that it would be shortened. Without the
/// lock, as in [`keep_medium`].
fn is_enough(block: NonNull<u8>, size: usize) -> bool {
    let address = block.addr().get();
    let Some(extent) = extent::at(address / OS_PAGE_BYTES) else {
        return false;
    };
    // SAFETY: as in `keep_medium`.
    unsafe {
        let record = extent.as_ptr();
        let (have, pages) = ((*record).usable_pages(), size.div_ceil(OS_PAGE_BYTES));
        // A guard is to lie right behind the last page that is wanted.
        let is_tight = have == pages || !(*record).has_guard;
        (is_allocated(extent::state_of(extent).read(), address) || !IS_CHECKED)
            && (*record).state == State::Block
            && (*record).first * OS_PAGE_BYTES == address
            && is_tight
            && have >= pages
            && !store::is_too_long(have, pages)
    }
}

/// What became of a block that was given to [`resize`].
pub(super) enum Resized {
    /// It has the size, and may have moved.
    Done(NonNull<u8>),
    /// It has so many bytes as before, and its content is to be copied to another block.
    TooShort(usize),
}

/// Changes the size of a large block to another large size: in place, or, of blocks from [`MOVE_BYTES_MIN`] on, by
/// moving it.
///
/// # Errors
/// If no large block starts here, or there is no memory; nothing has changed then.
///
/// # Safety
/// As for [`free`]; after success only the pointer returned is used.
pub(super) unsafe fn resize(block: NonNull<u8>, size: usize) -> Result<Resized, ReallocFailure> {
    if size > isize::MAX as usize {
        return Err(ReallocFailure::OutOfMemory);
    }
    if is_enough(block, size) {
        return Ok(Resized::Done(block));
    }
    let size = class_of_medium(size).map_or(size, block_bytes);
    let pages = size.div_ceil(OS_PAGE_BYTES);
    let mut store = STORE.lock_spinning();
    let extent = store.find(block)?;
    // SAFETY: a block in use, which is the caller's.
    let old_bytes = unsafe { extent.as_ref().bytes() };
    // SAFETY: as above.
    if unsafe { store.resize_in_place(extent, pages) } {
        // SAFETY: still the block's record, under the lock.
        unsafe { extent::declare(extent) };
        store.limit_dirty();
        return Ok(Resized::Done(block));
    }
    drop(store);
    if old_bytes < MOVE_BYTES_MIN {
        return Ok(Resized::TooShort(old_bytes));
    }
    // A block that grew once will grow again.
    let (moved, is_dirty) =
        allocate_for_program(size, OS_PAGE_BYTES, true).ok_or(ReallocFailure::OutOfMemory)?;
    // Blocks that end at a guard move when they become shorter, too.
    let kept_bytes = old_bytes.min(pages * OS_PAGE_BYTES);
    // Moving pages loses what memory is there already, which copying would use.
    let is_to_move = kept_bytes == old_bytes && !is_dirty;
    // SAFETY: two blocks of the caller's, apart, that both have the bytes; both are whole pages.
    unsafe {
        let is_moved = is_to_move && os::move_pages(block, moved, old_bytes);
        if !is_moved {
            moved.copy_from_nonoverlapping(block, kept_bytes);
        }
        let mut store = STORE.lock_spinning();
        let extent = store.find(block)?;
        store.put(extent, !is_moved, os::now_ms());
        store.limit_dirty();
    }
    Ok(Resized::Done(moved))
}

/// Memory for a chunk, and which of its slices hold memory, a bit each. None: no memory.
pub(super) fn allocate_chunk() -> Option<(NonNull<u8>, u32)> {
    let mut store = STORE.lock_spinning();
    let extent = store.take(PAGES_PER_CHUNK, PAGES_PER_CHUNK, State::Chunk, false)?;
    // SAFETY: the store's record, under its lock.
    let extent = unsafe { extent.as_ref() };
    let address = extent.first * OS_PAGE_BYTES;
    // No large block starts here any more.
    for place in 0..PLACES_PER_CHUNK {
        pages::clear(address + place * PLACE_BYTES);
    }
    let dirty = if extent.is_dirty {
        u32::MAX >> (32 - PLACES_PER_CHUNK)
    } else {
        0
    };
    Some((NonNull::new(extent.start())?, dirty))
}

/// Takes a chunk back, and which of its slices hold memory.
pub(super) fn free_chunk(start: NonNull<u8>, dirty: u32, now_ms: u32) {
    let mut store = STORE.lock_spinning();
    let first = start.addr().get() / OS_PAGE_BYTES;
    let Some(extent) = extent::at(first) else {
        return;
    };
    // SAFETY: the caller's chunk, which nobody uses.
    unsafe {
        store.put(extent, dirty != 0, now_ms);
    }
    store.limit_dirty();
}

/// Gives everything that is idle back to the system, addresses and all.
pub(super) fn trim() {
    let mut store = STORE.lock_spinning();
    store.purge_all();
}

/// Gives the memory of extents back to the system that have been free for `delay_ms`.
pub(super) fn purge(now_ms: u32, delay_ms: u32) {
    STORE.lock_spinning().purge(now_ms, delay_ms);
}

/// Bytes of memory: mapped, in use by blocks and chunks, and idle but still there.
pub(super) fn bytes() -> (usize, usize, usize) {
    STORE.lock().bytes()
}

/// The store, for the checker.
///
/// # Safety
/// After [`acquire`], while the lock is held.
pub(super) unsafe fn held() -> &'static Store {
    // SAFETY: the caller says so.
    unsafe { STORE.held() }
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
