//! Trays: arrays of free blocks, in which they lie in magazines and pass from thread to thread. Apart
//! from the blocks: freeing a block and handing it out does not touch it, and what a program writes
//! into a freed block reaches nothing of ours.

use core::mem::MaybeUninit;
use core::ptr::{self, NonNull};

use super::super::lock::Lock;
use super::metadata;
use super::size_class::{BINS, LARGE, block_bytes};

/// A free block, and the byte that says whether it is allocated.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Entry {
    pub(super) block: NonNull<u8>,
    /// Without checks nobody reads it, and `free` does not write it.
    pub(super) state: *mut u8,
}

/// An entry or none, in the same form.
#[derive(Clone, Copy)]
#[repr(C)]
pub(super) struct Slot {
    /// Null: none.
    pub(super) block: *mut u8,
    pub(super) state: *mut u8,
}

impl Slot {
    pub(super) const NONE: Self = Self {
        block: ptr::null_mut(),
        state: ptr::null_mut(),
    };
}

const _: () = assert!(size_of::<Slot>() == size_of::<Entry>());

/// Kinds of trays, by the room that they have.
pub(super) const KINDS: usize = ROOMS.len();

/// The kind of tray that a class needs.
pub(super) fn kind_of(class: usize) -> usize {
    usize::from(KIND_OF[class])
}

static KIND_OF: [u8; BINS] = {
    let mut kinds = [0; BINS];
    let mut class = 1;
    while class < BINS {
        kinds[class] = kind_for(CAPACITIES[class] as usize) as u8;
        class += 1;
    }
    kinds
};

/// Entries that trays have room for: those of classes of long blocks, of which few lie in a magazine, are
/// short, too. With the header, whole cache lines, and parts of an OS page.
const ROOMS: [usize; 4] = [11, 31, 63, 127];

/// Blocks that a magazine, and a tray, of each class may have.
static CAPACITIES: [u8; BINS] = {
    let mut capacities = [0; BINS];
    let mut class = 1;
    while class < BINS {
        if class != LARGE {
            let wished = wished_capacity(class);
            let room = ROOMS[kind_for(wished)];
            capacities[class] = if wished < room { wished } else { room } as u8;
        }
        class += 1;
    }
    capacities
};

/// 16 KiB of blocks, and of those of which few are so much a short tray full; of medium ones 512 KiB and one, where
/// one thread has them all.
const fn wished_capacity(class: usize) -> usize {
    if class > LARGE {
        return (512 << 10) / block_bytes(class) + 1;
    }
    let usual = usual_capacity(class);
    if usual < LONG_ROOM { LONG_ROOM } else { usual }
}

/// Room of the trays of long blocks.
const LONG_ROOM: usize = ROOMS[1];

/// Small blocks that a magazine may have where the class has few slices: 16 KiB, four at least.
pub(super) const fn usual_capacity(class: usize) -> usize {
    let count = (16 << 10) / block_bytes(class);
    if count < 4 { 4 } else { count }
}

/// The shortest kind of tray that holds so many, or one less.
const fn kind_for(count: usize) -> usize {
    let mut kind = 0;
    while kind + 1 < ROOMS.len() && ROOMS[kind] + 1 < count {
        kind += 1;
    }
    kind
}

/// Blocks that a magazine of a class may have; its trays have room for them.
#[inline]
pub(super) fn capacity(class: usize) -> usize {
    usize::from(CAPACITIES[class])
}

/// An array of free blocks of one class: as many entries as the kind has room for follow the header. As long as the
/// tray is a magazine, the header is a [`Slot`] without an entry: zeroes.
#[repr(C)]
pub(super) struct Tray {
    pub(super) count: usize,
    /// The next in a [`Stack`], or of the trays that are not in use.
    next: *mut Tray,
}

/// Some trays of one owner, the last one on top.
#[derive(Clone, Copy)]
pub(super) struct Stack {
    top: *mut Tray,
    pub(super) count: usize,
}

impl Stack {
    pub(super) const EMPTY: Self = Self {
        top: ptr::null_mut(),
        count: 0,
    };

    /// # Safety
    /// The tray is the caller's, who leaves it here.
    pub(super) unsafe fn push(&mut self, tray: NonNull<Tray>) {
        // SAFETY: the caller's tray.
        unsafe { (*tray.as_ptr()).next = self.top };
        self.top = tray.as_ptr();
        self.count += 1;
    }

    pub(super) fn pop(&mut self) -> Option<NonNull<Tray>> {
        let tray = NonNull::new(self.top)?;
        // SAFETY: a tray that was pushed.
        self.top = unsafe { tray.as_ref() }.next;
        self.count -= 1;
        Some(tray)
    }

    /// Takes the one that was pushed first.
    pub(super) fn pop_first(&mut self) -> Option<NonNull<Tray>> {
        let last = self.pop()?;
        let Some(first) = self.pop_first() else {
            return Some(last);
        };
        // SAFETY: a tray that was pushed.
        unsafe { self.push(last) };
        Some(first)
    }
}

/// The memory of a tray.
#[repr(C)]
struct Room<const N: usize>(Tray, [MaybeUninit<Entry>; N]);

const _: () = assert!(size_of::<Tray>() == size_of::<Slot>());

/// Where the first entry of a tray is. (No method: a reference to the header would not reach behind it.)
///
/// # Safety
/// A tray of [`take`].
pub(super) unsafe fn first_of(tray: NonNull<Tray>) -> *mut Entry {
    // SAFETY: entries follow the header.
    unsafe { tray.as_ptr().add(1).cast() }
}

/// The tray whose first entry is here.
///
/// # Safety
/// What [`first_of`] has said of a tray.
pub(super) unsafe fn of_first(first: *mut Entry) -> NonNull<Tray> {
    // SAFETY: the header lies before the first entry.
    unsafe { NonNull::new_unchecked(first.cast::<Tray>().sub(1)) }
}

/// Makes the header of a tray no entry. How many the tray has.
///
/// # Safety
/// A tray of [`take`], which is the caller's.
pub(super) unsafe fn open(mut tray: NonNull<Tray>) -> usize {
    // SAFETY: the caller's tray.
    let tray = unsafe { tray.as_mut() };
    tray.next = ptr::null_mut();
    core::mem::take(&mut tray.count)
}

/// The entries that a tray has.
///
/// # Safety
/// A tray of [`take`], whose first `count` entries were written, and which is the caller's while the
/// result is used.
pub(super) unsafe fn entries_of<'tray>(tray: NonNull<Tray>) -> &'tray mut [Entry] {
    // SAFETY: the caller says so.
    unsafe { core::slice::from_raw_parts_mut(first_of(tray), tray.as_ref().count) }
}

/// A part of an array that is being filled with blocks.
pub(super) struct Rack {
    first: *mut Entry,
    pub(super) count: usize,
}

impl Rack {
    /// # Safety
    /// There is room for `first..` as many entries as will be pushed.
    pub(super) unsafe fn new(first: *mut Entry) -> Self {
        Self { first, count: 0 }
    }

    /// # Safety
    /// There is room for another one.
    #[inline]
    pub(super) unsafe fn push(&mut self, entry: Entry) {
        // SAFETY: the caller says so.
        unsafe { self.first.add(self.count).write(entry) };
        self.count += 1;
    }

    /// Those that were pushed.
    pub(super) fn entries_mut(&mut self) -> &mut [Entry] {
        // SAFETY: so many entries were pushed.
        unsafe { core::slice::from_raw_parts_mut(self.first, self.count) }
    }

    /// Adds `count` places, which the caller fills: the first of them.
    ///
    /// # Safety
    /// There is room for so many.
    #[inline]
    pub(super) unsafe fn extend(&mut self, count: usize) -> *mut Entry {
        // SAFETY: the caller says so.
        let first = unsafe { self.first.add(self.count) };
        self.count += count;
        first
    }
}

/// The first of each kind.
struct Pool([*mut Tray; ROOMS.len()]);

// SAFETY: trays belong to no thread.
unsafe impl Send for Pool {}

/// Trays that are not in use.
static POOL: Lock<Pool> = Lock::new(Pool([ptr::null_mut(); ROOMS.len()]));

/// An empty tray with room for a class's [`capacity`]. None: no memory.
pub(super) fn take(class: usize) -> Option<NonNull<Tray>> {
    let kind = kind_of(class);
    let mut pool = POOL.lock_spinning();
    let Some(tray) = NonNull::new(pool.0[kind]) else {
        drop(pool);
        // Zeroes are an empty tray.
        return match kind {
            0 => metadata::allocate::<Room<{ ROOMS[0] }>>().map(NonNull::cast),
            1 => metadata::allocate::<Room<{ ROOMS[1] }>>().map(NonNull::cast),
            2 => metadata::allocate::<Room<{ ROOMS[2] }>>().map(NonNull::cast),
            _ => metadata::allocate::<Room<{ ROOMS[3] }>>().map(NonNull::cast),
        };
    };
    // SAFETY: a tray of the pool, under its lock.
    pool.0[kind] = unsafe { tray.as_ref().next };
    Some(tray)
}

/// Takes a tray back; what it held is the caller's.
///
/// # Safety
/// The tray, of this class, is the caller's, and is used no more.
pub(super) unsafe fn give(class: usize, tray: NonNull<Tray>) {
    // SAFETY: the caller says so.
    unsafe { give_kind(kind_of(class), tray) }
}

/// The same, for a tray of this kind.
///
/// # Safety
/// As for [`give`].
pub(super) unsafe fn give_kind(kind: usize, tray: NonNull<Tray>) {
    let mut pool = POOL.lock_spinning();
    // SAFETY: the caller's tray.
    unsafe {
        (*tray.as_ptr()).count = 0;
        (*tray.as_ptr()).next = pool.0[kind];
    }
    pool.0[kind] = tray.as_ptr();
}

/// Around `fork`.
pub(super) fn acquire() {
    POOL.acquire();
}

/// # Safety
/// After [`acquire`], as for `Lock::release`.
pub(super) unsafe fn release() {
    // SAFETY: the caller says so.
    unsafe { POOL.release() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trays_have_room_for_what_a_magazine_may_have() {
        for class in (1..BINS).filter(|class| *class != LARGE) {
            let room = ROOMS[kind_for(capacity(class))];
            assert!((1..=room).contains(&capacity(class)), "{class}");
            assert!(
                capacity(class) * 10 >= wished_capacity(class).min(127) * 9,
                "{class}"
            );
        }
    }
}
