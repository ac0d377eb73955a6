//! A thread's heap: two magazines of free blocks for each class, and the paths that nearly every
//! `malloc` and `free` takes.
//!
//! `malloc`: the thread's heap, the bin of the class, the top of its magazine; mark the block allocated.
//!
//! `free`: the slice map's word for the pointer, by one load; the block's state byte, which says whether
//! the pointer is the start of an allocated block and nothing else; mark it free; put it on top of the
//! magazine. Whose block it was does not matter: it is anybody's now. Neither path touches the block.

use core::mem::offset_of;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::super::FreeError;
use super::super::{c_abi, os};
use super::magazine::TURNS_BETWEEN_LOOKS;
use super::pages::Direct;
use super::size_class::{
    self, BINS, CLASSES, LARGE, MEDIUM_BYTES_MIN, SMALL_BYTES_MAX, STAND_INS, block_bytes,
    class_of, class_of_medium,
};
use super::slice::{self, NOT_HERE, Slice, allocated, is_allocated};
use super::tray::{Entry, KINDS, Stack, Tray, capacity};
use super::{Process, large, pages, shelf, thread, tick};

/// Whether pointers are checked. Compiled out for measuring what it costs.
pub(super) const IS_CHECKED: bool = !cfg!(feature = "unchecked");

/// Requests up to this size take the shortest path.
pub(super) const SHORT_BYTES_MAX: usize = 1024;

/// Bytes of a bin.
pub(super) const BIN_BYTES: usize = size_of::<Bin>();

/// What a heap has of one class. The magazine is an array; blocks are taken from its top.
#[repr(C)]
pub(super) struct Bin {
    /// Behind the magazine's last block.
    pub(super) top: *mut Entry,
    /// Behind the last place that may be used. Null, as the others, for those without a magazine.
    pub(super) limit: *mut Entry,
    pub(super) first: *mut Entry,
    /// What is added to a state byte's address: null. For slices without a class, the address of a
    /// byte that is the state of no block.
    bias: *const u8,
    /// See [`size_class::state_shift`]. For slices without a class: all of the address.
    shift: u32,
    /// Bytes of a block of the class.
    block_bytes: u32,
}

/// The state of no block.
static NO_STATE: u8 = NOT_HERE;

/// Blocks of a magazine before there is a tray for it.
pub(super) const FIRST_ENTRIES: usize = 8;
/// A magazine may have twice as many blocks each time that it was empty or full so often.
pub(super) const TURNS_PER_DOUBLING: u8 = 4;
/// From here on a class has a full magazine, a second one, and offers to others.
pub(super) const TURNS_MAX: u8 = 4 * TURNS_PER_DOUBLING;

/// What a heap carves of a class.
#[derive(Clone, Copy)]
pub(super) struct Carving {
    /// The slice. Null: none.
    pub(super) slice: *mut Slice,
    /// Slices that it got new so far. The next is as long as that says: a thread that needs a few blocks of a
    /// size that others need much of has a short one.
    pub(super) count: usize,
}

impl Carving {
    pub(super) const NONE: Self = Self {
        slice: ptr::null_mut(),
        count: 0,
    };
}

/// A thread's heap.
#[repr(C, align(64))]
pub(super) struct Heap {
    pub(super) bins: [Bin; BINS],
    direct: Direct,
    /// Bin of a request, by its size in units of 16 bytes, rounded up: as `serving` says.
    pub(super) offsets: [u16; SHORT_BYTES_MAX / 16 + 1],
    /// Which class serves each class: itself, or, as long as it is cold, a longer one.
    pub(super) serving: [u8; BINS],
    /// Classes that serve others, a bit each.
    pub(super) standing_in: u128,
    /// Where each magazine is. Null: in `first_magazines`.
    pub(super) trays: [*mut Tray; BINS],
    /// More magazines: full, or nearly.
    pub(super) spares: [Stack; BINS],
    /// Empty ones of each kind, for the next time.
    pub(super) empties: [Stack; KINDS],
    /// Classes that took blocks from, or gave blocks to, others since the last look, a bit each.
    pub(super) active: u128,
    /// How often each class turned to the slow paths, up to [`TURNS_MAX`]: magazines grow by use.
    pub(super) turns: [u8; BINS],
    /// What this thread carves of each class.
    pub(super) carving: [Carving; CLASSES],
    pub(super) looked_ms: u32,
    /// Growths of the process that this heap has seen.
    pub(super) growths: u32,
    /// Turns to the slow paths until the next look at the clock.
    pub(super) turns_left: u32,
    /// Classes that got blocks from home or from other threads within the present [`tick::THREAD_MS`] and within those
    /// before it, a bit each.
    pub(super) fetched: u128,
    pub(super) fetched_before: u128,
    /// Whether a thread has it. Others look, too.
    has_thread: AtomicBool,
    /// The next of the heaps without a thread.
    pub(super) next: *mut Heap,
    /// Magazines of programs that need a few blocks. Not touched before.
    pub(super) first_magazines: [[core::mem::MaybeUninit<Entry>; FIRST_ENTRIES]; BINS],
}

const _: () = assert!(BINS <= u128::BITS as usize);

/// The heap of a thread that has none: its magazines are empty and full at once, so every path turns to
/// the slow one. Never written to.
pub(super) static NO_HEAP: NoHeap = NoHeap::new();

/// The part of a heap that is read before a thread has one.
#[repr(C, align(64))]
pub(super) struct NoHeap {
    bins: [Bin; BINS],
    direct: Direct,
    offsets: [u16; SHORT_BYTES_MAX / 16 + 1],
    serving: [u8; BINS],
}

// SAFETY: never written to.
unsafe impl Sync for NoHeap {}

// What is read of a heap, and what is copied to a fresh one, lies where `NO_HEAP` has it.
const _: () = {
    assert!(offset_of!(NoHeap, bins) == offset_of!(Heap, bins));
    assert!(offset_of!(NoHeap, direct) == offset_of!(Heap, direct));
    assert!(offset_of!(NoHeap, offsets) == offset_of!(Heap, offsets));
    assert!(offset_of!(NoHeap, serving) == offset_of!(Heap, serving));
};

impl NoHeap {
    const fn new() -> Self {
        let mut offsets = [0; SHORT_BYTES_MAX / 16 + 1];
        let classes: [u8; SHORT_BYTES_MAX / 16 + 1] = size_class::first_classes();
        let mut units = 0;
        while units < offsets.len() {
            let class = STAND_INS[classes[units] as usize];
            offsets[units] = (class as usize * BIN_BYTES) as u16;
            units += 1;
        }
        let mut bins = [const {
            Bin {
                top: ptr::null_mut(),
                limit: ptr::null_mut(),
                first: ptr::null_mut(),
                bias: &raw const NO_STATE,
                shift: 63,
                block_bytes: 0,
            }
        }; BINS];
        let mut class = 1;
        while class < BINS {
            if class != LARGE {
                bins[class].bias = ptr::null();
                bins[class].shift = size_class::state_shift(class);
                bins[class].block_bytes = block_bytes(class) as u32;
            }
            class += 1;
        }
        Self {
            bins,
            direct: Direct::NONE,
            offsets,
            serving: STAND_INS,
        }
    }
}

/// Whether this is no thread's heap.
fn is_none(heap: *mut Heap) -> bool {
    ptr::addr_eq(heap, &raw const NO_HEAP)
}

/// A block of `size` bytes at least. Null, and `errno` is `ENOMEM`: no memory, or a size beyond
/// `PTRDIFF_MAX`. (The slow paths set `errno`, so that the short one ends in a jump to them.)
#[inline(always)]
pub(super) fn allocate(size: usize) -> *mut u8 {
    if size > SHORT_BYTES_MAX {
        return allocate_long(size);
    }
    let heap = thread::heap();
    // SAFETY: the thread's heap, or `NO_HEAP`, which begins as heaps do; the index is in bounds, and
    // the offsets are those of bins.
    unsafe {
        let offsets = (&raw const (*heap).offsets).cast::<u16>();
        let offset = *offsets.add((size + 15) >> 4);
        pop(heap, usize::from(offset))
    }
}

/// The same if the thread has such a block in its magazine. Null if not, and `errno` stays.
#[inline(always)]
pub(super) fn allocate_at_hand(size: usize) -> *mut u8 {
    if size > SHORT_BYTES_MAX {
        return ptr::null_mut();
    }
    let heap = thread::heap();
    // SAFETY: as in `allocate` and `pop`.
    unsafe {
        let offsets = (&raw const (*heap).offsets).cast::<u16>();
        let bin = heap
            .byte_add(usize::from(*offsets.add((size + 15) >> 4)))
            .cast::<Bin>();
        if (*bin).top == (*bin).first {
            ptr::null_mut()
        } else {
            take_top(bin)
        }
    }
}

#[inline(never)]
fn allocate_long(size: usize) -> *mut u8 {
    if size <= SMALL_BYTES_MAX {
        return allocate_class(class_of(size));
    }
    match class_of_medium(size) {
        Some(class) => allocate_class(class),
        None => or_enomem(large::allocate(size, os::OS_PAGE_BYTES)),
    }
}

/// A medium block with `size` zero bytes.
pub(super) fn allocate_medium_zeroed(size: usize, class: usize) -> *mut u8 {
    let heap = thread::heap();
    // SAFETY: the thread's heap, or `NO_HEAP`, which begins as heaps do.
    let is_empty = unsafe { (*heap).bins[class].top == (*heap).bins[class].first };
    if is_empty {
        // Fresh memory is zero already.
        return or_enomem(large::allocate_zeroed(
            block_bytes(class),
            os::OS_PAGE_BYTES,
        ));
    }
    let block = allocate_class(class);
    if !block.is_null() {
        // SAFETY: a fresh block of `size` bytes at least.
        unsafe { block.write_bytes(0, size) };
    }
    block
}

fn or_enomem(block: Option<NonNull<u8>>) -> *mut u8 {
    c_abi::or_enomem(block).cast()
}

/// A block of a class.
#[inline]
pub(super) fn allocate_class(class: usize) -> *mut u8 {
    let heap = thread::heap();
    // SAFETY: the thread's heap, or `NO_HEAP`, which begins as heaps do, and one of its bins.
    unsafe { pop(heap, usize::from((*heap).serving[class]) * BIN_BYTES) }
}

/// # Safety
/// The calling thread's heap or `NO_HEAP`, and the offset of one of its bins.
#[inline(always)]
unsafe fn pop(heap: *mut Heap, offset: usize) -> *mut u8 {
    // SAFETY: bins start at offset 0 of a heap; entries below the top are those of free blocks that
    // are this thread's.
    unsafe {
        let bin = heap.byte_add(offset).cast::<Bin>();
        if (*bin).top == (*bin).first {
            return refill(offset, heap);
        }
        take_top(bin)
    }
}

/// # Safety
/// A bin of the calling thread's heap whose magazine is not empty.
#[inline(always)]
unsafe fn take_top(bin: *mut Bin) -> *mut u8 {
    // SAFETY: the caller says so.
    unsafe {
        let last = (*bin).top.sub(1);
        (*bin).top = last;
        let block = (*last).block;
        if IS_CHECKED {
            (*last).state.write(allocated(block.addr().get()));
        }
        block.as_ptr()
    }
}

/// `malloc` of a class whose magazine is empty.
///
/// # Safety
/// As for [`pop`].
#[cold]
#[inline(never)]
unsafe fn refill(offset: usize, heap: *mut Heap) -> *mut u8 {
    let heap = match NonNull::new(heap) {
        Some(heap) if !is_none(heap.as_ptr()) => Some(heap),
        _ => thread::enter(),
    };
    let Some(heap) = heap else {
        return or_enomem(None);
    };
    // SAFETY: the calling thread's heap, which nobody else uses.
    unsafe {
        let class = offset / BIN_BYTES;
        let mut has_blocks = (*heap.as_ptr()).get_blocks(class);
        if !has_blocks {
            // The addresses of idle memory may be what records lack.
            large::trim();
            has_blocks = (*heap.as_ptr()).get_blocks(class);
        }
        if has_blocks {
            take_top(&raw mut (*heap.as_ptr()).bins[class])
        } else {
            or_enomem(None)
        }
    }
}

/// Takes a block back; null is no block and no error. A pointer that is no allocated block ends the
/// process.
///
/// # Safety
/// If the pointer is an allocated block, it is the caller's, and is used no more.
#[inline(always)]
pub(super) unsafe fn free(address: *mut u8) {
    // SAFETY: the caller hands over the block. No block is too small for 0 bytes.
    unsafe { free_sized(address, 0) }
}

/// [`free`] by a caller who says how many bytes it has used of the block. More than the block has end the
/// process.
///
/// # Safety
/// As for [`free`].
#[inline(always)]
pub(super) unsafe fn free_sized(address: *mut u8, size: usize) {
    let heap = thread::heap();
    // SAFETY: the thread's heap, or `NO_HEAP`, which begins as heaps do.
    let direct = unsafe { (*heap).direct };
    let Some(entry) = direct.entry(address.addr()) else {
        // SAFETY: the caller hands over the block.
        return unsafe { free_slowly(address, size, heap) };
    };
    // SAFETY: the map has offsets of bins, and where the state bytes of a slice or a medium block's place are.
    unsafe {
        let bin = heap.byte_add(entry.bin_offset()).cast::<Bin>();
        let mut state = address;
        if IS_CHECKED {
            state = state_at(bin, entry, address.addr());
            if !is_allocated(*state, address.addr()) || size > (*bin).block_bytes as usize {
                return free_slowly(address, size, heap);
            }
            *state = NOT_HERE;
        }
        will_be_used(address);
        let top = (*bin).top;
        if top == (*bin).limit {
            return overflow(address, heap, state, entry.bin_offset());
        }
        *top = Entry {
            block: NonNull::new_unchecked(address),
            state: NonNull::new_unchecked(state),
        };
        (*bin).top = top.add(1);
    }
}

/// Has the processor get what a block begins with: it is likely the next of its class to be handed out, and its page's
/// address may be all that is not at hand. Nothing waits for it.
#[inline(always)]
fn will_be_used(block: *mut u8) {
    #[cfg(target_arch = "x86_64")]
    {
        use core::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: no address is wrong for it.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(block.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = block;
}

/// The state byte for an address whose slice has this entry; where no slice is, one that is the state of no block.
///
/// # Safety
/// The entry's bin, of a heap or of `NO_HEAP`.
#[inline(always)]
unsafe fn state_at(bin: *mut Bin, entry: pages::Entry, address: usize) -> *mut u8 {
    // SAFETY: the caller's bin.
    let (bias, shift) = unsafe { ((*bin).bias, (*bin).shift) };
    let states = bias.cast_mut().wrapping_add(entry.states());
    states.wrapping_add(address >> (shift & 63))
}

/// Whether this is an allocated small block that has the size and would not be half empty with it. False also of
/// those of which this is not known at once.
#[inline(always)]
pub(super) fn may_stay(block: NonNull<u8>, size: usize) -> bool {
    let (address, heap) = (block.addr().get(), thread::heap());
    // SAFETY: the thread's heap, or `NO_HEAP`, which begins as heaps do; the map as in `free_sized`.
    unsafe {
        let Some(entry) = (*heap).direct.entry(address) else {
            return false;
        };
        let bin = heap.byte_add(entry.bin_offset()).cast::<Bin>();
        if IS_CHECKED {
            let state = state_at(bin, entry, address);
            if !is_allocated(*state, address) {
                return false;
            }
        }
        let bytes = (*bin).block_bytes as usize;
        size <= bytes && size > bytes / 2 && bytes < MEDIUM_BYTES_MIN
    }
}

/// `free` of a block that is marked free already, but for which the magazine has no room.
///
/// # Safety
/// The calling thread's heap or `NO_HEAP`, the offset of a bin, and a block of its class that is the
/// caller's.
#[cold]
#[inline(never)]
unsafe fn overflow(address: *mut u8, heap: *mut Heap, state: *mut u8, offset: usize) {
    let class = offset / BIN_BYTES;
    // SAFETY: the caller's block, and its state byte.
    unsafe {
        if !IS_CHECKED && (class == 0 || class == LARGE) {
            return free_slowly(address, 0, heap);
        }
        let entry = Entry {
            block: NonNull::new_unchecked(address),
            state: NonNull::new_unchecked(state),
        };
        put(entry, class, heap);
    }
}

/// Puts a block that is marked free into a magazine.
///
/// # Safety
/// The calling thread's heap or `NO_HEAP`, and a free block of the class that is the caller's.
unsafe fn put(entry: Entry, class: usize, heap: *mut Heap) {
    let heap = if is_none(heap) {
        thread::enter()
    } else {
        NonNull::new(heap)
    };
    let Some(heap) = heap else {
        // SAFETY: the caller hands over the block.
        return unsafe { shelf::take_home(class, &[entry]) };
    };
    // SAFETY: the calling thread's heap; `make_room` makes room.
    unsafe {
        let heap = &mut *heap.as_ptr();
        if heap.bins[class].top == heap.bins[class].limit {
            heap.make_room(class);
        }
        let bin = &mut heap.bins[class];
        if bin.top == bin.limit {
            return shelf::take_home(class, &[entry]);
        }
        bin.top.write(entry);
        bin.top = bin.top.add(1);
    }
}

/// `free` of whatever the short path does not serve.
///
/// # Safety
/// As for [`free`].
#[cold]
#[inline(never)]
unsafe fn free_slowly(address: *mut u8, size: usize, heap: *mut Heap) {
    let Some(block) = NonNull::new(address) else {
        return;
    };
    let freed = match find(block) {
        found if IS_CHECKED && size > 0 && is_too_small(block, found, size) => {
            Err(FreeError::TooSmall)
        }
        Ok(Found::Small(class, state)) => {
            let entry = Entry { block, state };
            // SAFETY: an allocated block, which the caller hands over.
            unsafe {
                state.write(NOT_HERE);
                put(entry, class, heap);
            }
            Ok(())
        }
        // SAFETY: the caller hands over the block.
        Ok(Found::Large) => match unsafe { large::free(block) } {
            Ok(large::Freed::Done) => Ok(()),
            Ok(large::Freed::Medium(class, entry)) => {
                // SAFETY: a medium block that the large store lets us keep.
                unsafe { put(entry, class, heap) };
                Ok(())
            }
            Err(error) => Err(error),
        },
        Err(error) => Err(error),
    };
    if let Err(error) = freed {
        c_abi::report::<Process>("free", address.cast(), error);
    }
}

/// Whether an allocated block has fewer bytes than `size`.
fn is_too_small(block: NonNull<u8>, found: Result<Found, FreeError>, size: usize) -> bool {
    match found {
        Ok(Found::Small(class, _)) => size > block_bytes(class),
        Ok(Found::Large) => large::is_too_small(block, size),
        Err(_) => false,
    }
}

/// What an allocated block is.
#[derive(Clone, Copy)]
pub(super) enum Found {
    /// A block of this class, and its state byte.
    Small(usize, NonNull<u8>),
    /// A medium or large one, if it is one at all: the large store knows.
    Large,
}

/// What the block is whose start this pointer is.
///
/// # Errors
/// If it is the start of no allocated block; of large ones, only [`large`] knows.
#[inline]
pub(super) fn find(block: NonNull<u8>) -> Result<Found, FreeError> {
    let address = block.addr().get();
    // SAFETY: the thread's heap, or `NO_HEAP`, which begins as heaps do.
    let direct = unsafe { (*thread::heap()).direct };
    let known = direct.entry(address).filter(|entry| entry.is_known());
    let Some(entry) = known.or_else(|| pages::entry_at(address)) else {
        return Err(large::reason(block));
    };
    if entry.class() >= LARGE {
        return Ok(Found::Large);
    }
    // SAFETY: state bytes of a slice that has a class can be read.
    unsafe {
        let state = NonNull::new_unchecked(entry.state_of(address));
        if !IS_CHECKED || is_allocated(state.read(), address) {
            return Ok(Found::Small(entry.class(), state));
        }
        Err(slice::reason(block))
    }
}

impl Heap {
    /// Whether a thread has it now. Anyone may ask: no more of the heap is looked at.
    ///
    /// # Safety
    /// A heap that was made.
    pub(super) unsafe fn has_thread(heap: *const Self) -> bool {
        // SAFETY: heaps stay, and the flag is atomic.
        unsafe { &(*heap).has_thread }.load(Relaxed)
    }

    /// Says that no thread has it any more.
    pub(super) fn leave(&self) {
        self.has_thread.store(false, Relaxed);
    }

    /// Makes the memory at `place` an empty heap. The first one of a process does not look at the clock at once: a
    /// program that allocates little need not touch its code.
    ///
    /// # Safety
    /// The memory is the caller's, and of no thread.
    pub(super) unsafe fn initialize(place: NonNull<Self>, is_first: bool) {
        // SAFETY: the caller's memory, which begins as `NO_HEAP` does. The magazines are not touched.
        unsafe {
            let heap = place.as_ptr();
            heap.cast::<NoHeap>()
                .copy_from_nonoverlapping(&raw const NO_HEAP, 1);
            (&raw mut (*heap).direct).write(pages::direct());
            (*heap).standing_in = size_class::STAND_IN_CLASSES;
            (&raw mut (*heap).trays).write([ptr::null_mut(); BINS]);
            (&raw mut (*heap).spares).write([Stack::EMPTY; BINS]);
            (&raw mut (*heap).empties).write([Stack::EMPTY; KINDS]);
            (&raw mut (*heap).turns).write([0; BINS]);
            (&raw mut (*heap).carving).write([Carving::NONE; CLASSES]);
            ((*heap).active, (*heap).fetched, (*heap).fetched_before) = (0, 0, 0);
            (*heap).turns_left = if is_first { TURNS_BETWEEN_LOOKS } else { 0 };
            ((*heap).looked_ms, (*heap).growths) = (tick::last_ms(), tick::growths());
            (&raw mut (*heap).has_thread).write(AtomicBool::new(true));
            for class in (1..BINS).filter(|class| *class != LARGE) {
                let first = (&raw mut (*heap).first_magazines[class]).cast::<Entry>();
                let bin = &mut (*heap).bins[class];
                (bin.top, bin.first) = (first, first);
                // Medium ones: none at first.
                let is_small = class < LARGE;
                let count = if is_small {
                    capacity(class).min(FIRST_ENTRIES)
                } else {
                    0
                };
                bin.limit = first.add(count);
            }
        }
    }
}
