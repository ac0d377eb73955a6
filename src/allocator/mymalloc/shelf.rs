//! The store of one class that all threads share, in two layers.
//!
//! * Slots for whole trays, a word each. Threads put a full magazine into a free slot by one
//!   compare-and-exchange and take one out by one swap: no lock, and no list that could be caught half
//!   changed. This is the path of a steady state: what one thread frees, another takes.
//! * Behind it, under a lock, for what no slot holds and for the excess: the slices of the class, or, for
//!   medium blocks, the large store.

use core::ptr::{self, NonNull};
use core::sync::atomic::{
    AtomicPtr, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};

use super::super::lock::Lock;
use super::exchange::{Exchange, SLOTS};
use super::heap::{Carving, Heap};
use super::size_class::{BINS, CLASSES, LARGE, PLACE_BYTES, blocks_in, places_of_next};
use super::slice::{Slice, Standing};
use super::tray::{self, Entry, Rack, Tray};
use super::{chunk, large, metadata, options, secure, thread, tick};

/// The slots of all classes.
type Exchanges = [Exchange; BINS];

/// Null: there never was a tray in any. Programs that need little do without.
static EXCHANGES: AtomicPtr<Exchanges> = AtomicPtr::new(ptr::null_mut());
/// Taken to make them.
static MAKING: Lock<()> = Lock::new(());

/// The slots of all classes, if any ever had a tray.
fn exchanges() -> Option<&'static Exchanges> {
    // Acquire pairs with the Release in `make_exchanges`.
    // SAFETY: once made they stay.
    unsafe { EXCHANGES.load(Acquire).as_ref() }
}

/// The slots of all classes. None: no memory.
#[cold]
fn make_exchanges() -> Option<&'static Exchanges> {
    let guard = MAKING.lock();
    if exchanges().is_none()
        // Zeroes are empty slots.
        && let Some(made) = metadata::allocate::<Exchanges>()
    {
        EXCHANGES.store(made.as_ptr(), Release);
    }
    drop(guard);
    exchanges()
}

static SLICES: [Lock<Slices>; CLASSES] = [const {
    Lock::new(Slices {
        ready: ptr::null_mut(),
        ready_blocks: 0,
        sparse: ptr::null_mut(),
        sparse_blocks: 0,
        open: ptr::null_mut(),
        count: 0,
    })
}; CLASSES];

/// Bytes of address space that the slices of each class take.
static BYTES: [AtomicUsize; CLASSES] = [const { AtomicUsize::new(0) }; CLASSES];

/// The slices of a class.
struct Slices {
    /// With enough free blocks to be worth a visit, and how many those are in all.
    ready: *mut Slice,
    ready_blocks: usize,
    /// With few free blocks, and how many those are in all.
    sparse: *mut Slice,
    sparse_blocks: usize,
    /// Those that are not carved up yet, and that no thread carves.
    open: *mut Slice,
    /// Slices in all.
    count: usize,
}

// SAFETY: slices belong to no thread.
unsafe impl Send for Slices {}

/// Slices that are looked at for free blocks of the thread's own.
const READY_LOOKS: usize = 8;

/// Slots of a class. Medium blocks are few and long, so few of them are kept on offer.
fn slots_of(class: usize) -> usize {
    if class > LARGE { 2 } else { SLOTS }
}

/// A tray that another thread has filled.
pub(super) fn take_offer(class: usize) -> Option<NonNull<Tray>> {
    exchanges()?[class].take()
}

/// Fills an empty rack with `wanted` blocks, or fewer, for a heap. It stays empty if there is no memory. `own`
/// is what the heap carves: so its blocks have OS pages of their own.
///
/// # Safety
/// The rack has room for so many. The slice is one of this class that an earlier call has set, or null.
pub(super) unsafe fn fill(
    class: usize,
    rack: &mut Rack,
    wanted: usize,
    heap: *const Heap,
    own: &mut Carving,
) {
    if class < CLASSES {
        // SAFETY: the caller says so.
        unsafe {
            SLICES[class]
                .lock_spinning()
                .fill(class, rack, wanted, heap, own)
        };
        if options::is_secure() {
            secure::shuffle(rack.entries_mut());
        }
    } else if let Some(entry) = large::allocate_medium(class) {
        // SAFETY: the rack is empty.
        unsafe { rack.push(entry) };
    }
}

/// Lets other threads carve a slice.
///
/// # Safety
/// [`fill`] has set it, and the caller carves it no more.
pub(super) unsafe fn open(class: usize, slice: NonNull<Slice>) {
    let mut slices = SLICES[class].lock_spinning();
    // SAFETY: a slice of this class, whose lock is held, and which is in no such list.
    unsafe { ((*slice.as_ptr()).next_open, (*slice.as_ptr()).owner) = (slices.open, ptr::null()) };
    slices.open = slice.as_ptr();
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
    let exchanges = exchanges().or_else(make_exchanges);
    if !exchanges.is_some_and(|exchanges| exchanges[class].give(tray, slots_of(class))) {
        // SAFETY: the caller hands both over.
        unsafe {
            take_home(class, tray::entries_of(tray));
            tray::give(class, tray);
        }
    }
}

/// Takes those trays home that nobody has needed since the last time, or all of them, and gives slices without
/// a block in use to the other classes.
pub(super) fn settle(all: bool) {
    thread::settle();
    let exchanges = exchanges();
    for class in 1..BINS {
        if let Some(offers) = exchanges.map(|exchanges| &exchanges[class])
            && (all || offers.was_idle())
        {
            // Others may offer more meanwhile.
            for _ in 0..SLOTS {
                let Some(tray) = offers.take_unseen() else {
                    break;
                };
                // SAFETY: ours since it was taken.
                unsafe {
                    take_home(class, tray::entries_of(tray));
                    tray::give(class, tray);
                }
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
        // SAFETY: medium blocks that the caller hands over.
        return unsafe { large::take_home(entries) };
    }
    let mut slices = SLICES[class].lock_spinning();
    let mut rest = entries;
    while !rest.is_empty() {
        // SAFETY: blocks of the class that the caller hands over.
        let count = unsafe { slices.give(rest) };
        rest = &rest[count..];
    }
}

impl Slices {
    /// # Safety
    /// As for [`fill`].
    unsafe fn fill(
        &mut self,
        class: usize,
        rack: &mut Rack,
        wanted: usize,
        heap: *const Heap,
        own: &mut Carving,
    ) {
        // SAFETY: the lock is held, as `self` is borrowed; slices in the lists have free blocks, and the
        // rack has room for what is wanted.
        unsafe {
            let (mut slice, mut looks) = (self.ready, 0);
            while !slice.is_null() && rack.count < wanted.div_ceil(2) && looks < READY_LOOKS {
                let next = (*slice).next;
                if !(*slice).is_of_another(heap) {
                    self.fill_from(slice, rack, wanted);
                }
                (slice, looks) = (next, looks + 1);
            }
            if rack.count > 0 {
                return;
            }
            if own.slice.is_null()
                && let Some(open) = NonNull::new(self.open)
            {
                self.open = open.as_ref().next_open;
                own.slice = open.as_ptr();
                (*own.slice).owner = heap;
            }
            if own.slice.is_null() {
                // A new slice only when the sparse ones would not fill half of one that is as long as is wished, nor
                // those and what else is free, of other threads' mostly, a whole one.
                let had = own.places.min(slices_bytes(class) / PLACE_BYTES);
                let next_blocks = blocks_in(class, places_of_next(class, had));
                if self.sparse_blocks >= next_blocks.div_ceil(2)
                    || self.sparse_blocks + self.ready_blocks >= next_blocks
                {
                    return self.fill_from_any(rack, wanted);
                }
                let Some(slice) = chunk::take(class, had) else {
                    // Anything is better than nothing.
                    return self.fill_from_any(rack, wanted);
                };
                own.slice = slice.as_ptr();
                (*own.slice).owner = heap;
                self.count += 1;
                own.places += slice.as_ref().places();
                BYTES[class].fetch_add(slice.as_ref().bytes(), Relaxed);
            }
            (*own.slice).carve(rack, wanted);
            if (*own.slice).is_carved_up() {
                own.slice = ptr::null_mut();
            }
        }
    }

    /// Moves free blocks of whatever slices have some to a rack, until it has `wanted` or there are none.
    ///
    /// # Safety
    /// The rack has room for `wanted`.
    unsafe fn fill_from_any(&mut self, rack: &mut Rack, wanted: usize) {
        while rack.count < wanted {
            let slice = if self.sparse.is_null() {
                self.ready
            } else {
                self.sparse
            };
            if slice.is_null() {
                return;
            }
            // SAFETY: the slice is in a list of this shelf; the caller says the rest.
            unsafe { self.fill_from(slice, rack, wanted) };
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

    /// Takes those blocks back, from the first on, that are of the first one's slice: blocks that follow
    /// each other in a tray often are. How many those are.
    ///
    /// # Safety
    /// There are blocks; they are of this class, free, and the caller's.
    unsafe fn give(&mut self, entries: &[Entry]) -> usize {
        // SAFETY: the slice of a block that was in use has a class, and the lock is held.
        unsafe {
            let slice = chunk::slice_of(entries[0].block).as_ptr();
            let count = (*slice).give_blocks(entries);
            match (*slice).standing {
                Standing::Sparse => self.sparse_blocks += count,
                Standing::Ready => self.ready_blocks += count,
                Standing::Apart => {}
            }
            // The last slice of a class stays, so that a program at the edge does not take and give
            // it in turns.
            let is_last =
                || self.ready.is_null() || (self.ready == slice && (*slice).next.is_null());
            if (*slice).is_idle() && (*slice).is_carved_up() && !is_last() {
                self.release(NonNull::new_unchecked(slice));
            } else if (*slice).standing != (*slice).standing_due() {
                self.unlist(slice);
                self.enlist(slice);
            }
            count
        }
    }

    /// Gives all slices back of which no block is in use, but for those that threads carve.
    fn release_idle(&mut self) {
        // SAFETY: slices in the lists are this shelf's, whose lock is held.
        unsafe {
            let mut slice = self.ready;
            while let Some(found) = NonNull::new(slice) {
                slice = found.as_ref().next;
                if found.as_ref().is_idle() && found.as_ref().is_carved_up() {
                    self.release(found);
                }
            }
            let mut link = &raw mut self.open;
            while let Some(found) = NonNull::new(*link) {
                if found.as_ref().is_idle() {
                    *link = found.as_ref().next_open;
                    self.release(found);
                } else {
                    link = &raw mut (*found.as_ptr()).next_open;
                }
            }
        }
    }

    /// Gives a slice back.
    ///
    /// # Safety
    /// The slice is this shelf's and idle, and no thread carves it, nor may.
    unsafe fn release(&mut self, slice: NonNull<Slice>) {
        // SAFETY: the caller says so.
        unsafe {
            self.unlist(slice.as_ptr());
            self.count -= 1;
            let record = slice.as_ref();
            BYTES[record.class()].fetch_sub(record.bytes(), Relaxed);
            chunk::give_back(slice, tick::recent_ms());
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
                Standing::Ready => {
                    self.ready_blocks += (*slice).free();
                    &mut self.ready
                }
                Standing::Sparse => {
                    self.sparse_blocks += (*slice).free();
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
                Standing::Ready => {
                    self.ready_blocks -= (*slice).free();
                    &mut self.ready
                }
                Standing::Sparse => {
                    self.sparse_blocks -= (*slice).free();
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
        let mut blocks = [0; 2];
        for (first, standing) in [
            (slices.ready, Standing::Ready),
            (slices.sparse, Standing::Sparse),
        ] {
            let (mut slice, mut previous, mut count) = (first, ptr::null_mut(), 0);
            while !slice.is_null() {
                let is_sound = (*slice).class() == class
                    && (*slice).standing == standing
                    && (*slice).standing_due() == standing
                    && (*slice).previous == previous;
                count += 1;
                if !is_sound || count > seen {
                    return false;
                }
                blocks[usize::from(standing == Standing::Sparse)] += (*slice).free();
                (previous, slice) = (slice, (*slice).next);
            }
        }
        blocks == [slices.ready_blocks, slices.sparse_blocks] && seen == slices.count
    }
}

/// Slices of a class of small blocks, and the bytes of address space that they take.
pub(super) fn slices(class: usize) -> (usize, usize) {
    (SLICES[class].lock().count, slices_bytes(class))
}

/// Bytes of address space that the slices of a class take. Anyone may ask, without the lock.
pub(super) fn slices_bytes(class: usize) -> usize {
    BYTES[class].load(Relaxed)
}

/// Trays of a class on offer.
pub(super) fn count_offers(class: usize) -> usize {
    exchanges().map_or(0, |exchanges| exchanges[class].count())
}

/// Around `fork`.
pub(super) fn acquire() {
    MAKING.acquire();
    SLICES.iter().for_each(Lock::acquire);
}

/// # Safety
/// After [`acquire`], as for `Lock::release`.
pub(super) unsafe fn release() {
    // SAFETY: the caller says so.
    unsafe {
        SLICES.iter().for_each(|slices| slices.release());
        MAKING.release();
    }
}
