//! The paths that nearly every `malloc` and `free` takes, and those that they turn to.
//!
//! `malloc`: the thread's heap, the class, the last entry of its magazine, of which the heap has a copy; make the one
//! below the copy; mark the block allocated.
//!
//! `free`: the slice map's word for the pointer, by one load; whether the class's magazine has room; the block's state
//! byte, which says whether the pointer is the start of an allocated block and nothing else; mark it free; put it on top
//! of the magazine. Whose block it was does not matter: it is anybody's now. Neither path waits for what is in the block.
//!
//! What they turn to are C functions, which do not unwind: in a program where panics do, a short path would otherwise have to
//! be there still when such a call ends, and could not end in a jump to it.

use core::ptr::{self, NonNull};
use core::sync::atomic::{AtomicU8, Ordering::Relaxed};

use super::super::FreeError;
use super::super::{c_abi, os};
use super::heap::{Doubled, Heap, IS_CHECKED, is_none};
use super::size_class::{LARGE, MEDIUM_BYTES_MIN, SMALL_BYTES_MAX, block_bytes, class_of_medium};
use super::slice;
use super::state_byte::{allocated, is_allocated, on_its_way};
use super::tray::{Entry, Slot};
use super::{Process, cpu, large, options, pages, shelf, thread, tick};

/// A block of `size` bytes at least. Null, and `errno` is `ENOMEM`: no memory, or a size beyond
/// `PTRDIFF_MAX`. (The slow paths set `errno`, so that the short one ends in a jump to them.)
#[inline(always)]
pub(super) fn allocate(size: usize) -> *mut u8 {
    if size > SMALL_BYTES_MAX {
        return allocate_long(size);
    }
    let heap = thread::heap();
    // SAFETY: the thread's heap, or `NO_HEAP`, which begins as heaps do.
    unsafe { pop(heap, class_of_small(heap, size)) }
}

/// The same if the thread has such a block in its magazine. Null if not, and `errno` stays.
#[inline(always)]
pub(super) fn allocate_at_hand(size: usize) -> *mut u8 {
    if size > SMALL_BYTES_MAX {
        return ptr::null_mut();
    }
    let heap = thread::heap();
    // SAFETY: as in `allocate` and `pop`.
    unsafe {
        let class = class_of_small(heap, size);
        if (*Heap::last(heap, class)).block.is_null() {
            ptr::null_mut()
        } else {
            take_last(heap, class)
        }
    }
}

/// The class that serves a request in a heap.
///
/// # Safety
/// A heap or `NO_HEAP`; at most [`SMALL_BYTES_MAX`].
#[inline(always)]
unsafe fn class_of_small(heap: *mut Heap, size: usize) -> Doubled {
    // SAFETY: the index is in bounds.
    unsafe {
        let doubled = (&raw const (*heap).doubled).cast::<u8>();
        Doubled::from_byte(*doubled.add((size + 15) >> 4))
    }
}

#[inline(never)]
extern "C" fn allocate_long(size: usize) -> *mut u8 {
    match class_of_medium(size) {
        Some(class) => allocate_class(class),
        None => or_enomem(large::allocate(size, os::OS_PAGE_BYTES)),
    }
}

/// A medium block with `size` zero bytes.
pub(super) fn allocate_medium_zeroed(size: usize, class: usize) -> *mut u8 {
    let heap = thread::heap();
    // SAFETY: the thread's heap, or `NO_HEAP`, which begins as heaps do.
    let is_empty = unsafe { (*Heap::last(heap, Doubled::of(class))).block.is_null() };
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
    // SAFETY: the thread's heap, or `NO_HEAP`, which begins as heaps do.
    unsafe { pop(heap, Doubled::of(usize::from((*heap).serving[class]))) }
}

/// # Safety
/// The calling thread's heap or `NO_HEAP`.
#[inline(always)]
unsafe fn pop(heap: *mut Heap, class: Doubled) -> *mut u8 {
    // SAFETY: the caller says so.
    unsafe {
        if (*Heap::last(heap, class)).block.is_null() {
            return refill(class, heap);
        }
        take_last(heap, class)
    }
}

/// # Safety
/// The calling thread's heap, and a class whose magazine is not empty.
#[inline(always)]
unsafe fn take_last(heap: *mut Heap, class: Doubled) -> *mut u8 {
    // SAFETY: the caller says so; entries below the top are those of free blocks that are this thread's, and what lies
    // below the first is none.
    unsafe {
        let last = Heap::last(heap, class);
        let Slot { block, state } = *last;
        let next = (*Heap::bin(heap, class)).top.sub(2).cast::<Slot>();
        if IS_CHECKED {
            cpu::copy_slot(next, last);
        } else {
            (*last).block = (*next).block;
        }
        cpu::lower_top(heap, class);
        if IS_CHECKED {
            state.write(allocated(block.addr()));
        }
        block
    }
}

/// `malloc` of a class whose magazine is empty.
///
/// # Safety
/// As for [`pop`].
#[cold]
#[inline(never)]
unsafe extern "C" fn refill(doubled: Doubled, heap: *mut Heap) -> *mut u8 {
    let heap = match NonNull::new(heap) {
        Some(heap) if !is_none(heap.as_ptr()) => Some(heap),
        _ => thread::enter(),
    };
    let Some(heap) = heap else {
        return or_enomem(None);
    };
    // SAFETY: the calling thread's heap, which nobody else uses.
    unsafe {
        let class = doubled.class();
        // A heap that was got just now may have some, of the thread before.
        let has_left = !(*heap.as_ptr()).is_empty(class);
        let mut has_blocks = has_left || (*heap.as_ptr()).get_blocks(class);
        if !has_blocks {
            tick::give_all_idle();
            has_blocks = (*heap.as_ptr()).get_blocks(class);
        }
        if has_blocks {
            return take_last(heap.as_ptr(), doubled);
        }
        let Some(Entry { block, state }) = (*heap.as_ptr()).get_one(class) else {
            return or_enomem(None);
        };
        if IS_CHECKED {
            state.write(allocated(block.addr().get()));
        }
        block.as_ptr()
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
    let found = if IS_CHECKED {
        direct
            .entry(address.addr())
            .map(|entry| (entry, entry.doubled()))
    } else {
        direct
            .doubled(address.addr())
            .map(|class| (pages::Entry::NONE, class))
    };
    let Some((entry, class)) = found else {
        // SAFETY: the caller hands over the block.
        return unsafe { free_slowly(address, size, heap) };
    };
    // SAFETY: the map has classes, and, of those that ever have a magazine, where the state bytes of a slice or of a
    // medium block's place are.
    unsafe {
        // The step first: afterwards the word is no longer needed as a whole, and its register can become the address.
        let step = entry.step_of(address.addr());
        let bin = Heap::bin(heap, class);
        // Before the state byte is looked at: where there is none, there is no room for a block either.
        let top = (*bin).top;
        if top == (*bin).limit {
            return free_slowly(address, size, heap);
        }
        let mut state = address;
        if IS_CHECKED {
            state = entry.state_at(step);
            cpu::prefetch_to_write(state);
            if !is_allocated(*state, address.addr()) || size > 0 && size > has_bytes(heap, class) {
                return free_slowly(address, size, heap);
            }
        }
        // It is likely the next of its class to be handed out, and its page's address may be all that is not at hand.
        cpu::prefetch(address);
        let last = Heap::last(heap, class);
        (*last).block = address;
        (&raw mut (*top).block).write(NonNull::new_unchecked(address));
        if IS_CHECKED {
            (*last).state = state;
            (&raw mut (*top).state).write(state);
        }
        cpu::raise_top(heap, class);
        if IS_CHECKED {
            // Last, when the address is needed no more, whose register can become the byte.
            state.write(cpu::inverted_byte(address.addr()));
        }
    }
}

/// Blocks of so many bytes at most stay however little of them is kept.
pub(super) const ALWAYS_STAYS_BYTES: usize = 64;

/// Whether this is an allocated block that has the size and would not be half empty with it; of a medium one, not too long
/// for it in the sense of the large store. False also of those of which this is not known at once.
#[inline(always)]
pub(super) fn may_stay(block: NonNull<u8>, size: usize) -> bool {
    let (address, heap) = (block.addr().get(), thread::heap());
    // SAFETY: the thread's heap, or `NO_HEAP`, which begins as heaps do; the map as in `free_sized`.
    unsafe {
        let Some(entry) = (*heap).direct.entry(address) else {
            return false;
        };
        if IS_CHECKED && (!entry.has_states() || !is_allocated(*entry.state_of(address), address)) {
            return false;
        }
        let bytes = has_bytes(heap, entry.doubled());
        // (No bytes at all are no reason to stay.)
        if size.wrapping_sub(1) >= bytes {
            return false;
        }
        if bytes < MEDIUM_BYTES_MIN {
            return size > bytes / 2 || bytes <= ALWAYS_STAYS_BYTES;
        }
        // A little more than the two thirds from which on `store::is_too_long` lets them stay. Where blocks end at guards,
        // only the store knows how long they are to be.
        size > bytes - bytes / 4 - bytes / 16 && !options::is_secure()
    }
}

/// Bytes of a block of a class.
///
/// # Safety
/// A heap or `NO_HEAP`.
#[inline(always)]
unsafe fn has_bytes(heap: *mut Heap, class: Doubled) -> usize {
    // SAFETY: the caller says so, and `NO_HEAP` begins as heaps do; the index of an element.
    unsafe {
        *(&raw const (*heap).block_bytes)
            .cast::<u32>()
            .add(class.class()) as usize
    }
}

/// Puts a block that is marked free into a magazine, or, as long as the thread has freed few and has no heap, sends it home.
///
/// # Safety
/// The calling thread's heap or `NO_HEAP`, and a free block of the class that is the caller's.
unsafe fn put(entry: Entry, class: usize, heap: *mut Heap) {
    let heap = if is_none(heap) {
        thread::enter_to_free()
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
        if heap.bins[class].top == heap.bins[class].limit {
            return shelf::take_home(class, &[entry]);
        }
        heap.bins[class].top.write(entry);
        heap.set_count(class, heap.count(class) + 1);
    }
}

/// `free` of whatever the short path does not serve: among others, of a block for which the magazine has no room.
///
/// # Safety
/// As for [`free`].
#[cold]
#[inline(never)]
unsafe extern "C" fn free_slowly(address: *mut u8, size: usize, heap: *mut Heap) {
    let Some(block) = NonNull::new(address) else {
        return;
    };
    let freed = match find(block) {
        found if IS_CHECKED && size > 0 && is_too_small(block, found, size) => {
            Err(FreeError::TooSmall)
        }
        Ok(Found::Small(class, state)) => {
            let entry = Entry {
                block,
                state: state.as_ptr(),
            };
            // SAFETY: an allocated block, which the caller hands over.
            unsafe {
                if mark_free(block, state) {
                    put(entry, class, heap);
                    Ok(())
                } else {
                    Err(slice::reason(block))
                }
            }
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

/// Marks an allocated block free. False: somebody else has done so since it was looked at. In one step: a block that goes
/// home at once could be there already when its mark is overwritten by that of a second free, and would be counted twice.
///
/// # Safety
/// The state byte of a block that the caller has or believes to have.
unsafe fn mark_free(block: NonNull<u8>, state: NonNull<u8>) -> bool {
    let address = block.addr().get();
    // SAFETY: the caller says so. Other threads may look at the byte; the short paths take it for theirs, as here.
    unsafe {
        if !IS_CHECKED {
            state.write(on_its_way(address));
            return true;
        }
        AtomicU8::from_ptr(state.as_ptr())
            .compare_exchange(allocated(address), on_its_way(address), Relaxed, Relaxed)
            .is_ok()
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
