//! A thread's heap: a magazine of free blocks for each class, which the [`paths`](super::paths) take blocks from and
//! put them into, and what the thread needs to fill and to empty it.

use core::mem::offset_of;
use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::magazine::TURNS_BETWEEN_LOOKS;
use super::pages::Direct;
use super::size_class::{
    self, BINS, CLASS_OF_UNITS, CLASSES, LARGE, STAND_INS, UNITS, block_bytes,
};
use super::slice::Slice;
use super::tray::{self, Entry, KINDS, Slot, Stack, Tray, capacity};
use super::{metadata, pages, tick};

/// Whether pointers are checked. Compiled out for measuring what it costs.
pub(super) const IS_CHECKED: bool = !cfg!(feature = "unchecked");

/// A class, doubled: an index in words into the arrays of a heap that have two words for each class. A processor scales
/// an index by eight on its way to an address, and no further.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(super) struct Doubled(usize);

impl Doubled {
    #[inline(always)]
    pub(super) const fn of(class: usize) -> Self {
        Self(2 * class)
    }

    #[inline(always)]
    pub(super) const fn from_byte(byte: u8) -> Self {
        Self(byte as usize)
    }

    #[inline(always)]
    pub(super) const fn to_byte(self) -> u8 {
        self.0 as u8
    }

    #[inline(always)]
    pub(super) const fn words(self) -> usize {
        self.0
    }

    #[inline(always)]
    pub(super) const fn class(self) -> usize {
        self.0 / 2
    }
}

const _: () = assert!(2 * BINS <= 1 << u8::BITS);
const _: () = assert!(size_of::<Bin>() == 16 && size_of::<Slot>() == 16);

/// What a heap has of one class. The magazine is an array; blocks are taken from its top.
#[repr(C)]
pub(super) struct Bin {
    /// Behind the magazine's last block.
    pub(super) top: *mut Entry,
    /// Behind the last place that may be used. Null, as the top, for those without a magazine.
    pub(super) limit: *mut Entry,
}

impl Bin {
    const NONE: Self = Self {
        top: ptr::null_mut(),
        limit: ptr::null_mut(),
    };
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
    /// Places of the slices that it got new so far. The next is as long as that says, or shorter: a thread that needs a
    /// few blocks of a size that others need much of has a short one.
    pub(super) places: usize,
}

impl Carving {
    pub(super) const NONE: Self = Self {
        slice: ptr::null_mut(),
        places: 0,
    };
}

/// A thread's heap.
#[repr(C, align(64))]
pub(super) struct Heap {
    pub(super) bins: [Bin; BINS],
    /// The last entry of each magazine once more; none if the magazine is empty. What a program writes into a new block
    /// holds up what comes behind it until the block's address is known, so `malloc` has that a load earlier. (Without
    /// checks nobody reads the states, and they are not kept.)
    pub(super) lasts: [Slot; BINS],
    pub(super) direct: Direct,
    /// Class of a small request, [`Doubled`], by its size in units of 16 bytes, rounded up: as `serving` says.
    pub(super) doubled: [u8; UNITS],
    /// Which class serves each class: itself, or, as long as it is cold, a longer one.
    pub(super) serving: [u8; BINS],
    /// Bytes of a block of each class.
    pub(super) block_bytes: [u32; BINS],
    /// Where each magazine begins: in a tray, or it is the first one of the class. Null: there is none yet, so the bin is
    /// empty and full at once.
    pub(super) firsts: [*mut Entry; BINS],
    /// Classes that serve others, a bit each.
    pub(super) standing_in: u128,
    /// The first magazines, for programs that need a few blocks, each behind what is no entry. Null: none yet. They stay
    /// with the heap.
    first_magazines: [*mut Entry; BINS],
    /// The classes that have one, a bit each. Of all others the heap has nothing for long.
    made: u128,
    /// First magazines that no class has yet, one behind the other, and how many those are.
    fresh_magazines: *mut FirstMagazine,
    fresh_count: usize,
    /// More magazines: full, or nearly.
    pub(super) spares: [Stack; BINS],
    /// Empty ones of each kind, for the next time.
    pub(super) empties: [Stack; KINDS],
    /// Classes that took blocks from, or gave blocks to, others since the last look, a bit each.
    pub(super) active: u128,
    /// How often each class turned to the slow paths, up to [`TURNS_MAX`]: magazines grow by use.
    pub(super) turns: [u8; BINS],
    /// Blocks that each magazine may have by now.
    pub(super) capacities: [u8; BINS],
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
}

/// Memory of a first magazine: what is no entry, and room for entries.
type FirstMagazine = [Slot; 1 + FIRST_ENTRIES];
/// So many are got at a time, in cache lines of their own: a KiB.
type FirstMagazines = [FirstMagazine; 7];

const _: () = assert!(BINS <= u128::BITS as usize);

/// The heap of a thread that has none: its magazines are empty and full at once, so every path turns to
/// the slow one. Never written to.
pub(super) static NO_HEAP: NoHeap = NoHeap::new();

/// The part of a heap that is read before a thread has one.
#[repr(C, align(64))]
pub(super) struct NoHeap {
    bins: [Bin; BINS],
    lasts: [Slot; BINS],
    direct: Direct,
    doubled: [u8; UNITS],
    serving: [u8; BINS],
    block_bytes: [u32; BINS],
}

// SAFETY: never written to.
unsafe impl Sync for NoHeap {}

// What is read of a heap, and what is copied to a fresh one, lies where `NO_HEAP` has it.
const _: () = {
    assert!(offset_of!(NoHeap, bins) == offset_of!(Heap, bins));
    assert!(offset_of!(NoHeap, direct) == offset_of!(Heap, direct));
    assert!(offset_of!(NoHeap, lasts) == offset_of!(Heap, lasts));
    assert!(offset_of!(NoHeap, doubled) == offset_of!(Heap, doubled));
    assert!(offset_of!(NoHeap, serving) == offset_of!(Heap, serving));
    assert!(offset_of!(NoHeap, block_bytes) == offset_of!(Heap, block_bytes));
};

impl NoHeap {
    const fn new() -> Self {
        let mut doubled = [0; UNITS];
        let mut units = 0;
        while units < doubled.len() {
            let class = STAND_INS[CLASS_OF_UNITS[units] as usize];
            doubled[units] = Doubled::of(class as usize).to_byte();
            units += 1;
        }
        let mut bytes = [0; BINS];
        let mut class = 1;
        while class < BINS {
            bytes[class] = block_bytes(class) as u32;
            class += 1;
        }
        Self {
            bins: [const { Bin::NONE }; BINS],
            lasts: [Slot::NONE; BINS],
            direct: Direct::NONE,
            doubled,
            serving: STAND_INS,
            block_bytes: bytes,
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

    /// # Safety
    /// A heap, or `NO_HEAP` that is only read, which begins as heaps do.
    #[inline(always)]
    pub(super) unsafe fn bin(heap: *mut Self, doubled: Doubled) -> *mut Bin {
        // SAFETY: the index of an element.
        unsafe {
            (&raw mut (*heap).bins)
                .cast::<u64>()
                .add(doubled.words())
                .cast()
        }
    }

    /// # Safety
    /// As for [`bin`](Self::bin).
    #[inline(always)]
    pub(super) unsafe fn last(heap: *mut Self, doubled: Doubled) -> *mut Slot {
        // SAFETY: the index of an element.
        unsafe {
            (&raw mut (*heap).lasts)
                .cast::<u64>()
                .add(doubled.words())
                .cast()
        }
    }

    /// Says how many entries a magazine has.
    ///
    /// # Safety
    /// They were written, and what lies before the first is no entry.
    pub(super) unsafe fn set_count(&mut self, class: usize, count: usize) {
        // SAFETY: the caller says so.
        unsafe {
            let top = self.firsts[class].add(count);
            self.bins[class].top = top;
            self.lasts[class] = top.sub(1).cast::<Slot>().read();
        }
    }

    /// Says that a magazine has no entry.
    pub(super) fn set_empty(&mut self, class: usize) {
        (self.bins[class].top, self.lasts[class]) = (self.firsts[class], Slot::NONE);
    }

    /// Whether a magazine has no entry.
    pub(super) fn is_empty(&self, class: usize) -> bool {
        self.lasts[class].block.is_null()
    }

    /// Makes sure that a class has a magazine. False: no memory.
    #[inline]
    pub(super) fn has_magazine(&mut self, class: usize) -> bool {
        !self.firsts[class].is_null() || self.make_first_magazine(class)
    }

    #[cold]
    fn make_first_magazine(&mut self, class: usize) -> bool {
        if self.fresh_count == 0 {
            // Zeroes are no entries.
            let Some(magazines) = metadata::allocate::<FirstMagazines>() else {
                return false;
            };
            self.fresh_magazines = magazines.as_ptr().cast();
            self.fresh_count = size_of::<FirstMagazines>() / size_of::<FirstMagazine>();
        }
        let magazine = self.fresh_magazines;
        // SAFETY: there is this one, and its first slot is no entry.
        unsafe {
            self.first_magazines[class] = magazine.cast::<Entry>().add(1);
            self.fresh_magazines = magazine.add(1);
        }
        self.fresh_count -= 1;
        self.made |= 1 << class;
        self.begin_first_magazine(class);
        true
    }

    /// Makes the first magazine of a class, which is empty, its magazine, with as much room as there is at first.
    fn begin_first_magazine(&mut self, class: usize) {
        let first = self.first_magazines[class];
        // Medium ones: none at first.
        let count = if class < LARGE {
            capacity(class).min(FIRST_ENTRIES)
        } else {
            0
        };
        self.firsts[class] = first;
        self.capacities[class] = count as u8;
        // SAFETY: there is room for so many.
        self.bins[class].limit = unsafe { first.add(count) };
        self.set_empty(class);
    }

    /// Where the first magazine of a class begins. Null: there is none yet.
    pub(super) fn first_magazine(&self, class: usize) -> *mut Entry {
        self.first_magazines[class]
    }

    /// The classes that the heap ever had a magazine of.
    pub(super) fn classes(&self) -> impl Iterator<Item = usize> + use<> {
        let mut left = self.made;
        core::iter::from_fn(move || {
            let class = left.trailing_zeros() as usize;
            left &= left.checked_sub(1)?;
            Some(class)
        })
    }

    /// The tray that the magazine of a class is in, if it is in one.
    pub(super) fn tray(&self, class: usize) -> Option<NonNull<Tray>> {
        let first = self.firsts[class];
        if first == self.first_magazines[class] {
            return None;
        }
        // SAFETY: a magazine that is not the first one of its class is in a tray.
        Some(unsafe { tray::of_first(first) })
    }

    /// Makes the memory at `place` an empty heap. The first one of a process does not look at the clock at once: a
    /// program that allocates little need not touch its code.
    ///
    /// # Safety
    /// The memory, zeroes or a heap's once, is the caller's, and of no thread.
    pub(super) unsafe fn initialize(place: NonNull<Self>, is_first: bool) {
        // SAFETY: the caller's memory, which begins as `NO_HEAP` does. The magazines are not touched.
        unsafe {
            let heap = place.as_ptr();
            heap.cast::<NoHeap>()
                .copy_from_nonoverlapping(&raw const NO_HEAP, 1);
            (&raw mut (*heap).direct).write(pages::direct());
            (*heap).standing_in = size_class::STAND_IN_CLASSES;
            (&raw mut (*heap).spares).write([Stack::EMPTY; BINS]);
            (&raw mut (*heap).empties).write([Stack::EMPTY; KINDS]);
            (&raw mut (*heap).turns).write([0; BINS]);
            (&raw mut (*heap).carving).write([Carving::NONE; CLASSES]);
            (&raw mut (*heap).firsts).write([ptr::null_mut(); BINS]);
            let heap = &mut *heap;
            for class in heap.classes() {
                heap.begin_first_magazine(class);
            }
            (heap.active, heap.fetched, heap.fetched_before) = (0, 0, 0);
            (heap.looked_ms, heap.growths) = (tick::last_ms(), tick::growths());
            heap.begin();
            heap.turns_left = if is_first { TURNS_BETWEEN_LOOKS } else { 0 };
        }
    }

    /// Begins to serve a thread, as it is: when it last looked around, too, else what a line of short threads does not
    /// need would stay.
    pub(super) fn begin(&mut self) {
        self.turns_left = 0;
        self.has_thread.store(true, Relaxed);
    }
}
