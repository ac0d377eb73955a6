//! A thread's heap: a magazine of free blocks for each class, which the [`paths`](super::paths) take blocks from and
//! put them into, and what the thread needs to fill and to empty it.

use core::mem::offset_of;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::magazine::TURNS_BETWEEN_LOOKS;
use super::pages::Direct;
use super::size_class::{self, BINS, CLASSES, LARGE, STAND_INS, block_bytes};
use super::slice::Slice;
use super::tray::{Entry, KINDS, Stack, Tray, capacity};
use super::{pages, tick};

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
    /// Bytes of a block of the class.
    pub(super) block_bytes: usize,
}

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
    pub(super) direct: Direct,
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
                block_bytes: 0,
            }
        }; BINS];
        let mut class = 1;
        while class < BINS {
            if class != LARGE {
                bins[class].block_bytes = block_bytes(class);
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
pub(super) fn is_none(heap: *mut Heap) -> bool {
    ptr::addr_eq(heap, &raw const NO_HEAP)
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
