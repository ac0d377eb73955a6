//! The store of one class that all threads share, in two layers.
//!
//! * Slots for whole trays, a word each. Threads put a full magazine into a free slot by one
//!   compare-and-exchange and take one out by one swap: no lock, and no list that could be caught half
//!   changed. This is the path of a steady state: what one thread frees, another takes.
//! * Behind it, under a lock, for what no slot holds and for the excess: the slices of the class, or, for
//!   medium blocks, the large store.

use core::ptr::{self, NonNull};

use super::super::lock::Lock;
use super::exchange::{Exchange, SLOTS};
use super::size_class::{BINS, CLASSES, LARGE, SLICE_SHIFT, blocks_per_slice};
use super::slice::{self, Slice, Standing};
use super::tray::{self, Entry, Rack, Tray};
use super::{large, options, secure, tick};

static OFFERS: [Exchange; BINS] = [const { Exchange::new() }; BINS];

static SLICES: [Lock<Slices>; CLASSES] = [const {
    Lock::new(Slices {
        ready: ptr::null_mut(),
        sparse: ptr::null_mut(),
        sparse_blocks: 0,
        carving: ptr::null_mut(),
        count: 0,
    })
}; CLASSES];

/// The slices of a class.
struct Slices {
    /// With enough free blocks to be worth a visit.
    ready: *mut Slice,
    /// With few free blocks, and how many those are in all.
    sparse: *mut Slice,
    sparse_blocks: usize,
    /// The slice that is not carved up yet.
    carving: *mut Slice,
    /// Slices in all.
    count: usize,
}

// SAFETY: slices belong to no thread.
unsafe impl Send for Slices {}

/// Slots of a class. Medium blocks are few and long, so few of them are kept on offer.
fn slots_of(class: usize) -> usize {
    if class > LARGE { 2 } else { SLOTS }
}

/// A tray that another thread has filled.
pub(super) fn take_offer(class: usize) -> Option<NonNull<Tray>> {
    OFFERS[class].take()
}

/// Fills an empty rack with `wanted` blocks, or fewer. It stays empty if there is no memory.
///
/// # Safety
/// The rack has room for so many.
pub(super) unsafe fn fill(class: usize, rack: &mut Rack, wanted: usize) {
    if class < CLASSES {
        // SAFETY: the caller says so.
        unsafe { SLICES[class].lock_spinning().fill(class, rack, wanted) };
        if options::is_secure() {
            secure::shuffle(rack.entries_mut());
        }
    } else if let Some(entry) = large::allocate_medium(class) {
        // SAFETY: the rack is empty.
        unsafe { rack.push(entry) };
    }
}

/// Offers a tray to whoever needs it next, or takes its blocks home.
///
/// # Safety
/// The tray and its blocks, of this class and free, are the caller's.
pub(super) unsafe fn give(class: usize, tray: NonNull<Tray>) {
    if options::is_secure() {
        // SAFETY: the caller's tray.
        secure::shuffle(unsafe { tray::entries_of(tray) });
    }
    if !OFFERS[class].give(tray, slots_of(class)) {
        // SAFETY: the caller hands both over.
        unsafe {
            take_home(class, tray::entries_of(tray));
            tray::give(class, tray);
        }
    }
}

/// Takes those trays home that nobody has needed since the last time, and gives slices without a block
/// in use to the other classes.
pub(super) fn settle() {
    for class in 1..BINS {
        let offers = &OFFERS[class];
        if !offers.was_idle() {
            continue;
        }
        while let Some(tray) = offers.take_unseen() {
            // SAFETY: ours since it was taken.
            unsafe {
                take_home(class, tray::entries_of(tray));
                tray::give(class, tray);
            }
        }
        if class < CLASSES {
            SLICES[class].lock_spinning().release_idle();
        }
    }
}

/// Takes blocks back to their slices, or to the large store.
///
/// # Safety
/// The blocks are of this class, free, and the caller's.
pub(super) unsafe fn take_home(class: usize, entries: &[Entry]) {
    if class > LARGE {
        for entry in entries {
            // SAFETY: a medium block that the caller hands over.
            unsafe { large::take_home(entry.block) };
        }
        return;
    }
    let mut slices = SLICES[class].lock_spinning();
    let mut rest = entries;
    while let [first, ..] = rest {
        // Blocks that follow each other in a tray are often of one slice.
        let number = |entry: &Entry| entry.block.addr().get() >> SLICE_SHIFT;
        let count = rest
            .iter()
            .take_while(|entry| number(entry) == number(first))
            .count();
        // SAFETY: blocks of the class that the caller hands over.
        unsafe { slices.give(&rest[..count]) };
        rest = &rest[count..];
    }
}

impl Slices {
    /// # Safety
    /// The rack has room for what is wanted.
    unsafe fn fill(&mut self, class: usize, rack: &mut Rack, wanted: usize) {
        // SAFETY: the lock is held, as `self` is borrowed; slices in the lists have free blocks, and the
        // rack has room for what is wanted.
        unsafe {
            while !self.ready.is_null() && rack.count < wanted.div_ceil(2) {
                self.fill_from(self.ready, rack, wanted);
            }
            if rack.count > 0 {
                return;
            }
            if self.carving.is_null() {
                // A new slice only when the sparse ones would not fill half of one.
                if self.sparse_blocks >= blocks_per_slice(class).div_ceil(2) {
                    while !self.sparse.is_null() && rack.count < wanted {
                        self.fill_from(self.sparse, rack, wanted);
                    }
                    return;
                }
                let Some(slice) = slice::take(class) else {
                    // Anything is better than nothing.
                    if !self.sparse.is_null() {
                        self.fill_from(self.sparse, rack, wanted);
                    }
                    return;
                };
                self.carving = slice.as_ptr();
                self.count += 1;
            }
            (*self.carving).carve(rack, wanted);
            if (*self.carving).is_carved_up() {
                self.carving = ptr::null_mut();
            }
        }
    }

    /// Moves free blocks of a slice to a rack, until it has `wanted`.
    ///
    /// # Safety
    /// The slice is in a list of this shelf; the rack has room for `wanted`.
    unsafe fn fill_from(&mut self, slice: *mut Slice, rack: &mut Rack, wanted: usize) {
        // SAFETY: the slice is this shelf's, whose lock is held.
        unsafe {
            self.unlist(slice);
            (*slice).take_blocks(rack, wanted - rack.count);
            self.enlist(slice);
        }
    }

    /// Takes blocks back that are all of one slice.
    ///
    /// # Safety
    /// There are such blocks; they are of this class, free, and the caller's.
    unsafe fn give(&mut self, entries: &[Entry]) {
        // SAFETY: the slice of a block that was in use has a class, and the lock is held.
        unsafe {
            let slice = slice::slice_of(entries[0].block).as_ptr();
            for entry in entries {
                (*slice).give_block(*entry);
            }
            if (*slice).standing == Standing::Sparse {
                self.sparse_blocks += entries.len();
            }
            // The last slice of a class stays, so that a program at the edge does not take and give
            // it in turns.
            let is_last = self.ready.is_null() || (self.ready == slice && (*slice).next.is_null());
            if (*slice).is_idle() && slice != self.carving && !is_last {
                self.unlist(slice);
                self.count -= 1;
                slice::give_back(NonNull::new_unchecked(slice), tick::last_ms());
            } else if (*slice).standing != (*slice).standing_due() {
                self.unlist(slice);
                self.enlist(slice);
            }
        }
    }

    /// Gives all slices back of which no block is in use.
    fn release_idle(&mut self) {
        let mut slice = self.ready;
        // SAFETY: slices in the list are this shelf's, whose lock is held.
        unsafe {
            while !slice.is_null() {
                let next = (*slice).next;
                if (*slice).is_idle() {
                    self.unlist(slice);
                    if slice == self.carving {
                        self.carving = ptr::null_mut();
                    }
                    self.count -= 1;
                    slice::give_back(NonNull::new_unchecked(slice), tick::last_ms());
                }
                slice = next;
            }
        }
    }

    /// Puts a slice into the list that it belongs to.
    ///
    /// # Safety
    /// The slice is this shelf's and in no list.
    unsafe fn enlist(&mut self, slice: *mut Slice) {
        // SAFETY: the slice is this shelf's, whose lock is held.
        unsafe {
            (*slice).standing = (*slice).standing_due();
            let first = match (*slice).standing {
                Standing::Apart => return,
                Standing::Ready => &mut self.ready,
                Standing::Sparse => {
                    self.sparse_blocks += (*slice).free;
                    &mut self.sparse
                }
            };
            (*slice).previous = ptr::null_mut();
            (*slice).next = *first;
            if !(*first).is_null() {
                (**first).previous = slice;
            }
            *first = slice;
        }
    }

    /// Takes a slice out of the list that it is in, if any.
    ///
    /// # Safety
    /// The slice is this shelf's.
    unsafe fn unlist(&mut self, slice: *mut Slice) {
        // SAFETY: the slice is this shelf's, whose lock is held.
        unsafe {
            let first = match (*slice).standing {
                Standing::Apart => return,
                Standing::Ready => &mut self.ready,
                Standing::Sparse => {
                    self.sparse_blocks -= (*slice).free;
                    &mut self.sparse
                }
            };
            let (next, previous) = ((*slice).next, (*slice).previous);
            if previous.is_null() {
                *first = next;
            } else {
                (*previous).next = next;
            }
            if !next.is_null() {
                (*next).previous = previous;
            }
            (*slice).standing = Standing::Apart;
        }
    }
}

/// Whether the lists of a class hold what they should: for the checker, which saw `seen` slices of it.
///
/// # Safety
/// After [`acquire`], while the locks are held.
pub(super) unsafe fn is_sound(class: usize, seen: usize) -> bool {
    // SAFETY: the caller says so; slices in the lists are of this class.
    unsafe {
        let slices = SLICES[class].held();
        let mut sparse_blocks = 0;
        for (first, standing) in [
            (slices.ready, Standing::Ready),
            (slices.sparse, Standing::Sparse),
        ] {
            let (mut slice, mut previous, mut count) = (first, ptr::null_mut(), 0);
            while !slice.is_null() {
                let is_sound = (*slice).class == class
                    && (*slice).standing == standing
                    && (*slice).standing_due() == standing
                    && (*slice).previous == previous;
                count += 1;
                if !is_sound || count > seen {
                    return false;
                }
                if standing == Standing::Sparse {
                    sparse_blocks += (*slice).free;
                }
                (previous, slice) = (slice, (*slice).next);
            }
        }
        sparse_blocks == slices.sparse_blocks && seen == slices.count
    }
}

/// Slices of a class of small blocks.
pub(super) fn count_slices(class: usize) -> usize {
    SLICES[class].lock().count
}

/// Trays of a class on offer.
pub(super) fn count_offers(class: usize) -> usize {
    OFFERS[class].count()
}

/// Around `fork`.
pub(super) fn acquire() {
    SLICES.iter().for_each(Lock::acquire);
}

/// # Safety
/// After [`acquire`], as for `Lock::release`.
pub(super) unsafe fn release() {
    for slices in &SLICES {
        // SAFETY: the caller says so.
        unsafe { slices.release() }
    }
}
