//! With `touched`: how much of its large blocks the program touches. When such a block begins, the pages
//! that lie in it are given back to the system, so that those that are there when it ends were touched
//! since. What a block holds is undefined when it begins, or zero, which is what a page given back holds.
//!
//! Counted by size, in the header (`wire::touched_class`). A block that is live at the end of the process
//! counts then; of a process that is killed or replaced by another image, those that had ended.

use core::sync::atomic::{AtomicUsize, Ordering};

use super::environment;
use super::event::{Event, Occasion};
use super::process::{self, Process};
use super::setup;
use super::system;
use super::wire;

/// Large blocks that are followed at once: further ones do not count.
const LIVE_MOST: usize = 4096;
/// Places that a block may have.
const PROBES: usize = 64;

/// Address and size of each; no address: free. No size: not followed (yet, or any more).
static LIVE: [(AtomicUsize, AtomicUsize); LIVE_MOST] =
    [const { (AtomicUsize::new(0), AtomicUsize::new(0)) }; LIVE_MOST];

/// Sees what an event does with a large block. A release is told before it is passed on, an allocation
/// after it has returned. A reallocation is told by [`reallocated`].
pub(crate) fn see(event: &Event) {
    match event.occasion() {
        Occasion::Begin { address, bytes } => begin(address, bytes, 0),
        Occasion::End { address } => {
            end(address);
        }
        Occasion::Other => {}
    }
}

/// Before a reallocation: the old block's size if it was followed.
pub(crate) fn reallocating(address: usize) -> Option<usize> {
    if setup::options().touched {
        end(address)
    } else {
        None
    }
}

/// After it: of the new block the part that the old one did not have begins. `old_bytes` is what
/// [`reallocating`] returned; `address` is 0 if it failed, and then the old block is not followed any more.
pub(crate) fn reallocated(old_bytes: Option<usize>, address: usize, bytes: usize) {
    if setup::options().touched {
        // An old block that was not followed was small, so there is little to give back that is not
        // wanted.
        let kept = old_bytes.unwrap_or(wire::TOUCHED_MIN_BYTES as usize);
        begin(address, bytes, kept);
    }
}

/// The process ends: what is live counts.
pub(crate) fn end_all() {
    for (address, _) in &LIVE {
        let address = address.load(Ordering::Relaxed);
        if address != 0 {
            end(address);
        }
    }
}

/// `kept` bytes of it hold what the program wrote.
fn begin(address: usize, bytes: usize, kept: usize) {
    if address == 0 || bytes < wire::TOUCHED_MIN_BYTES as usize {
        return;
    }
    let (first, last) = whole_pages(address.saturating_add(kept), address.saturating_add(bytes));
    // SAFETY: the pages lie in a block that the allocator has just returned, and nothing in them is
    // anybody's: behind `kept` it is undefined, or zero as it will be.
    if first < last && unsafe { system::give_back(first, last - first) }.is_err() {
        // Memory that is locked, for instance: all of it would be found.
        return;
    }
    let free = places(address).find(|(place, _)| {
        // The block is the caller's alone: only for the place it competes with others.
        place
            .compare_exchange(0, address, Ordering::Relaxed, Ordering::Relaxed)
            .is_ok()
    });
    if let Some((_, size)) = free {
        size.store(bytes, Ordering::Relaxed);
    }
}

/// Counts the block that begins at this address, if it is followed; its size.
fn end(address: usize) -> Option<usize> {
    let (place, size) = places(address)
        .find(|(place, _)| address != 0 && place.load(Ordering::Relaxed) == address)?;
    let bytes = size.swap(0, Ordering::Relaxed);
    place.store(0, Ordering::Relaxed);
    if bytes == 0 {
        return None;
    }
    let (first, last) = whole_pages(address, address + bytes);
    if let Some(header) = process::process().and_then(Process::header)
        && let Ok(resident) =
            system::resident_pages(first, last, environment::page_bytes() as usize)
    {
        let pages = (last - first) / environment::page_bytes() as usize;
        header.add_touched(
            wire::touched_class(bytes as u64),
            pages as u64,
            resident as u64,
        );
    }
    Some(bytes)
}

/// The places where a block of this address may stand.
fn places(address: usize) -> impl Iterator<Item = &'static (AtomicUsize, AtomicUsize)> {
    // Large blocks differ in their pages.
    let start = (address >> 12).wrapping_mul(0x9E37_79B9_7F4A_7C15_u64 as usize) >> 32;
    (start..start + PROBES).map(|place| &LIVE[place % LIVE_MOST])
}

/// From the first to behind the last of the pages that lie between these addresses; behind is not below
/// the first.
fn whole_pages(begin: usize, end: usize) -> (usize, usize) {
    let page = environment::page_bytes() as usize;
    let first = begin.next_multiple_of(page);
    (first, (end / page * page).max(first))
}
