//! The wrapped C functions. Each has a fast form, which is given the thread's state, marked busy, and
//! a slow one, which is given the call's return address (see `arch::entry`).
//!
//! `free` is recorded before it is passed on, an allocation after it has returned.

use core::ffi::{c_int, c_void};
use core::ptr;
use core::sync::atomic::Ordering;

use super::arch::{entry, malloc_and_free};
use super::bootstrap;
use super::event::{self, Event};
use super::gate::{self, Call};
use super::process;
use super::real::{self, real};
use super::state::State;
use super::system;
use super::touched;
use super::wire::{self, Kind};

type Block = *mut c_void;

entry! {
    cfree / 1 => free_fast, free_slow;
    free_sized / 2 => free_sized_fast, free_sized_slow;
    free_aligned_sized / 3 => free_aligned_sized_fast, free_aligned_sized_slow;
    calloc / 2 => calloc_fast, calloc_slow;
    realloc / 2 => realloc_fast, realloc_slow;
    reallocarray / 3 => reallocarray_fast, reallocarray_slow;
    posix_memalign / 3 => posix_memalign_fast, posix_memalign_slow;
    memalign / 2 => memalign_fast, memalign_slow;
    aligned_alloc / 2 => aligned_alloc_fast, aligned_alloc_slow;
    valloc / 1 => valloc_fast, valloc_slow;
    pvalloc / 1 => pvalloc_fast, pvalloc_slow;
}

malloc_and_free!(malloc_other, malloc_slow, free_other, free_slow);

/// Records an event in the state that the fast way was given.
///
/// # Safety
/// The state is the calling thread's and marked busy.
#[inline(never)]
pub(crate) unsafe fn record(state: &State, event: &Event) -> bool {
    // SAFETY: the caller's state. The fast way is never taken where sites are asked for.
    let is_written = unsafe { event::write(state, event, 0) };
    is_written || gate::record_closed(event, 0)
}

/// Records an allocation in the state that the fast way was given, and ends the event; the block.
///
/// # Safety
/// As [`record`].
#[inline(always)]
pub(crate) unsafe fn record_malloc(state: &State, size: usize, block: Block) -> Block {
    let word = wire::small(wire::TAG_MALLOC, size as u64, block as u64);
    // SAFETY: the caller's state.
    unsafe {
        if !wire::is_small(size as u64, block as u64) || !event::write_word(state, word) {
            return malloc_other(size, state, block);
        }
    }
    state.leave_fast();
    block
}

/// Apart, so that the fast way needs no space on the stack.
#[inline(never)]
unsafe extern "C" fn malloc_other(size: usize, state: &State, block: Block) -> Block {
    // SAFETY: the caller's state.
    unsafe { record(state, &Event::malloc(size, block as usize)) };
    state.leave_fast();
    block
}

#[allow(dead_code, reason = "not where `malloc` is written in assembly")]
unsafe extern "C" fn malloc_fast(size: usize, state: &State) -> Block {
    // SAFETY: the program's own call, passed on; the state is what the entry gave.
    unsafe {
        let block = (real().malloc)(size);
        record_malloc(state, size, block)
    }
}

/// `free`, with the state that the fast way was given.
///
/// # Safety
/// As [`record`]; the block is the caller's to free.
#[inline(always)]
pub(crate) unsafe fn free_in(state: &State, block: Block) {
    let word = wire::small(wire::TAG_FREE, 0, block as u64);
    // SAFETY: as above.
    unsafe {
        if !wire::is_small(0, block as u64) || !event::write_word(state, word) {
            return free_other(block, state);
        }
        state.leave_fast();
        (real().free)(block);
    }
}

#[inline(never)]
unsafe extern "C" fn free_other(block: Block, state: &State) {
    // SAFETY: the caller's state and block.
    unsafe {
        record(state, &Event::free(block as usize));
        state.leave_fast();
        (real().free)(block);
    }
}

unsafe extern "C" fn free_fast(block: Block, state: &State) {
    // SAFETY: the program's own call; the state is what the entry gave.
    unsafe { free_in(state, block) }
}

unsafe extern "C" fn realloc_fast(block: Block, size: usize, state: &State) -> Block {
    let address = block as u64;
    // SAFETY: as above.
    unsafe {
        let is_begun = wire::is_small(0, address)
            && event::write_word(state, wire::small(wire::TAG_REALLOC_BEGIN, 0, address))
            || record(state, &Event::realloc_begin(block as usize));
        let new = (real().realloc)(block, size);
        if is_begun {
            let address = new as u64;
            let is_written = wire::is_small(size as u64, address)
                && event::write_word(
                    state,
                    wire::small(wire::TAG_REALLOC_END, size as u64, address),
                );
            if !is_written {
                record(state, &Event::realloc_end(size, new as usize));
            }
        }
        state.leave_fast();
        new
    }
}

/// What the slow forms have in common: a call that is passed on, and recorded if `enter` says so.
macro_rules! slow {
    ($site:ident, $call:ident => $recorded:block, $passed_on:expr) => {
        match gate::enter($site) {
            Some($call) => {
                let result = $recorded;
                $call.leave();
                result
            }
            None => $passed_on,
        }
    };
}

unsafe extern "C" fn malloc_slow(size: usize, site: usize) -> Block {
    if !real::is_ready() {
        return bootstrap::allocate(size, 16).cast();
    }
    // SAFETY: the program's own call, passed on.
    unsafe {
        slow!(site, call => {
            let block = (real().malloc)(size);
            call.record(&Event::malloc(size, block as usize));
            block
        }, (real().malloc)(size))
    }
}

unsafe extern "C" fn free_slow(block: Block, site: usize) {
    if !real::is_ready() {
        return;
    }
    if let Some(call) = gate::enter(site) {
        call.record(&Event::free(block as usize));
        call.leave();
    }
    // SAFETY: as above.
    unsafe { (real().free)(block) }
}

unsafe extern "C" fn free_sized_fast(block: Block, size: usize, state: &State) {
    // SAFETY: as above.
    unsafe {
        record_free_sized(state, block, size);
        (real().free)(block);
    }
}

/// Records the free of a block whose size the caller told, in the state that the fast way was given,
/// and ends the event.
///
/// # Safety
/// As [`record`].
#[inline(always)]
pub(crate) unsafe fn record_free_sized(state: &State, block: Block, size: usize) {
    let address = block as u64;
    // SAFETY: the caller's state.
    unsafe {
        let word = wire::small(wire::TAG_FREE_SIZED, size as u64, address);
        let is_written = wire::is_small(size as u64, address) && event::write_word(state, word);
        if !is_written {
            record(state, &Event::free_sized(block as usize, size));
        }
    }
    state.leave_fast();
}

unsafe extern "C" fn free_sized_slow(block: Block, size: usize, site: usize) {
    if !real::is_ready() {
        return;
    }
    if let Some(call) = gate::enter(site) {
        call.record(&Event::free_sized(block as usize, size));
        call.leave();
    }
    // SAFETY: as above.
    unsafe { (real().free)(block) }
}

unsafe extern "C" fn free_aligned_sized_fast(block: Block, _: usize, size: usize, state: &State) {
    // SAFETY: as above.
    unsafe { free_sized_fast(block, size, state) }
}

unsafe extern "C" fn free_aligned_sized_slow(block: Block, _: usize, size: usize, site: usize) {
    // SAFETY: as above.
    unsafe { free_sized_slow(block, size, site) }
}

unsafe extern "C" fn calloc_fast(count: usize, size: usize, state: &State) -> Block {
    // SAFETY: as above.
    unsafe {
        let block = (real().calloc)(count, size);
        record(state, &Event::calloc(count, size, block as usize));
        state.leave_fast();
        block
    }
}

unsafe extern "C" fn calloc_slow(count: usize, size: usize, site: usize) -> Block {
    if !real::is_ready() {
        let Some(bytes) = count.checked_mul(size) else {
            real::set_errno(system::ENOMEM);
            return ptr::null_mut();
        };
        return bootstrap::allocate(bytes, 16).cast();
    }
    // SAFETY: as above.
    unsafe {
        slow!(site, call => {
            let block = (real().calloc)(count, size);
            call.record(&Event::calloc(count, size, block as usize));
            block
        }, (real().calloc)(count, size))
    }
}

/// `realloc` while the real one is unknown.
fn realloc_early(block: Block, size: usize) -> Block {
    let new = bootstrap::allocate(size, 16);
    if !block.is_null() && !new.is_null() {
        let bytes = bootstrap::size_of(block.cast()).min(size);
        // SAFETY: both blocks are of the arena, as there are no others yet, and have so many bytes.
        unsafe { ptr::copy_nonoverlapping(block.cast(), new, bytes) };
    }
    new.cast()
}

unsafe fn realloc_in(call: &Call, block: Block, size: usize) -> Block {
    let is_begun = call.record(&Event::realloc_begin(block as usize));
    let old_bytes = touched::reallocating(block as usize);
    // SAFETY: the program's own call, passed on.
    let new = unsafe { (real().realloc)(block, size) };
    touched::reallocated(old_bytes, new as usize, size);
    if is_begun {
        call.record(&Event::realloc_end(size, new as usize));
    }
    new
}

unsafe extern "C" fn realloc_slow(block: Block, size: usize, site: usize) -> Block {
    if !real::is_ready() {
        return realloc_early(block, size);
    }
    // SAFETY: as above.
    unsafe {
        slow!(site, call => { realloc_in(&call, block, size) }, (real().realloc)(block, size))
    }
}

// `reallocarray` is `realloc` of the product: the C library's would call `realloc`, and be recorded
// twice; other allocators may not have it.

unsafe extern "C" fn reallocarray_fast(
    block: Block,
    count: usize,
    size: usize,
    state: &State,
) -> Block {
    match count.checked_mul(size) {
        // SAFETY: as above.
        Some(bytes) => unsafe { realloc_fast(block, bytes, state) },
        None => {
            // SAFETY: the state is what the entry gave.
            unsafe {
                let begin = Event::realloc_begin(block as usize);
                if record(state, &begin) {
                    record(state, &Event::realloc_end(usize::MAX, 0));
                }
            }
            state.leave_fast();
            real::set_errno(system::ENOMEM);
            ptr::null_mut()
        }
    }
}

unsafe extern "C" fn reallocarray_slow(
    block: Block,
    count: usize,
    size: usize,
    site: usize,
) -> Block {
    match count.checked_mul(size) {
        // SAFETY: as above.
        Some(bytes) => unsafe { realloc_slow(block, bytes, site) },
        None => {
            if real::is_ready()
                && let Some(call) = gate::enter(site)
            {
                if call.record(&Event::realloc_begin(block as usize)) {
                    call.record(&Event::realloc_end(usize::MAX, 0));
                }
                call.leave();
            }
            real::set_errno(system::ENOMEM);
            ptr::null_mut()
        }
    }
}

unsafe extern "C" fn posix_memalign_fast(
    result: *mut Block,
    alignment: usize,
    size: usize,
    state: &State,
) -> c_int {
    // SAFETY: as above; `result` is the caller's variable, written on success.
    unsafe {
        let error = (real().posix_memalign)(result, alignment, size);
        let block = if error == 0 { *result as usize } else { 0 };
        record(
            state,
            &Event::aligned(Kind::PosixMemalign, alignment, size, block),
        );
        state.leave_fast();
        error
    }
}

unsafe extern "C" fn posix_memalign_slow(
    result: *mut Block,
    alignment: usize,
    size: usize,
    site: usize,
) -> c_int {
    if !real::is_ready() {
        let block = bootstrap::allocate(size, alignment);
        // SAFETY: the caller's variable.
        unsafe { *result = block.cast() };
        return if block.is_null() { system::ENOMEM } else { 0 };
    }
    // SAFETY: as above.
    unsafe {
        slow!(site, call => {
            let error = (real().posix_memalign)(result, alignment, size);
            let block = if error == 0 { *result as usize } else { 0 };
            call.record(&Event::aligned(Kind::PosixMemalign, alignment, size, block));
            error
        }, (real().posix_memalign)(result, alignment, size))
    }
}

macro_rules! aligned {
    ($real:ident, $kind:ident, $fast:ident, $slow:ident) => {
        unsafe extern "C" fn $fast(alignment: usize, size: usize, state: &State) -> Block {
            // SAFETY: the program's own call, passed on; the state is what the entry gave.
            unsafe {
                let block = (real().$real)(alignment, size);
                record(state, &Event::aligned(Kind::$kind, alignment, size, block as usize));
                state.leave_fast();
                block
            }
        }

        unsafe extern "C" fn $slow(alignment: usize, size: usize, site: usize) -> Block {
            if !real::is_ready() {
                return bootstrap::allocate(size, alignment).cast();
            }
            // SAFETY: as above.
            unsafe {
                slow!(site, call => {
                    let block = (real().$real)(alignment, size);
                    call.record(&Event::aligned(Kind::$kind, alignment, size, block as usize));
                    block
                }, (real().$real)(alignment, size))
            }
        }
    };
}

aligned!(memalign, Memalign, memalign_fast, memalign_slow);
aligned!(
    aligned_alloc,
    AlignedAlloc,
    aligned_alloc_fast,
    aligned_alloc_slow
);

macro_rules! page_aligned {
    ($real:ident, $kind:ident, $fast:ident, $slow:ident) => {
        unsafe extern "C" fn $fast(size: usize, state: &State) -> Block {
            // SAFETY: the program's own call, passed on; the state is what the entry gave.
            unsafe {
                let block = (real().$real)(size);
                record(state, &Event::aligned(Kind::$kind, 4096, size, block as usize));
                state.leave_fast();
                block
            }
        }

        unsafe extern "C" fn $slow(size: usize, site: usize) -> Block {
            if !real::is_ready() {
                return bootstrap::allocate(size, 4096).cast();
            }
            // SAFETY: as above.
            unsafe {
                slow!(site, call => {
                    let block = (real().$real)(size);
                    call.record(&Event::aligned(Kind::$kind, 4096, size, block as usize));
                    block
                }, (real().$real)(size))
            }
        }
    };
}

page_aligned!(valloc, Valloc, valloc_fast, valloc_slow);
page_aligned!(pvalloc, Pvalloc, pvalloc_fast, pvalloc_slow);

/// C's `malloc_usable_size`: passed on, and counted.
///
/// # Safety
/// As the C function.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn malloc_usable_size(block: Block) -> usize {
    if !real::is_ready() {
        return if bootstrap::owns(block.cast()) {
            bootstrap::size_of(block.cast())
        } else {
            0
        };
    }
    if let Some(process) = process::process()
        && process.status.load(Ordering::Relaxed) == process::RECORDING
        && let Some(header) = process.header()
    {
        header.add_usable_size_call();
    }
    // SAFETY: the program's own call, passed on.
    unsafe { (real().malloc_usable_size)(block) }
}
