//! What `MYMALLOC_SECURE` adds: pages that fault around what could overflow, and an order of blocks that
//! an attacker cannot foretell.
//!
//! * Of a chunk's slices every second one is a guard, so a run over the end of any slice faults.
//! * The page behind every medium and large block is a guard.
//! * A fresh chunk's slices are used in random order, and the blocks that a thread gets at a time are
//!   shuffled.
//!
//! A guard splits a mapping, and a process may have 65,530 of them, which its own mappings need as
//! well: there are at most [`GUARDS_MAX`] guards. What comes later goes without.

use core::ptr::NonNull;
use core::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use super::super::os;
use super::tray::Entry;

/// Two mappings each: half of what a process may have by default.
const GUARDS_MAX: usize = 16_000;

static GUARDS: AtomicUsize = AtomicUsize::new(0);

/// Makes pages fault that belong to nobody, and forgets what they hold. False: they do not.
///
/// # Safety
/// Whole OS pages that are the caller's, who lets nobody use them until [`unguard`].
pub(super) unsafe fn guard(start: NonNull<u8>, bytes: usize) -> bool {
    if GUARDS.load(Relaxed) >= GUARDS_MAX {
        return false;
    }
    // SAFETY: the caller says so.
    let is_guard = unsafe { os::discard(start, bytes) && os::make_inaccessible(start, bytes) };
    if is_guard {
        GUARDS.fetch_add(1, Relaxed);
    }
    is_guard
}

/// Makes guard pages usable again; they read as zeroes. False: the system refused, and they still fault.
///
/// # Safety
/// What [`guard`] was given, and made a guard.
pub(super) unsafe fn unguard(start: NonNull<u8>, bytes: usize) -> bool {
    // SAFETY: the caller says so.
    let is_usable = unsafe { os::make_writable(start, bytes) };
    if is_usable {
        GUARDS.fetch_sub(1, Relaxed);
    }
    is_usable
}

/// Where the next number comes from.
static STATE: AtomicU64 = AtomicU64::new(0);

/// Gives the numbers a start that differs from run to run.
pub(super) fn seed() {
    STATE.store(os::random(), Relaxed);
}

/// A number below `bound`, which is not 0. SplitMix64 (Steele, Lea, Flood 2014): good enough for an
/// order that shows nowhere but in addresses.
fn below(bound: usize) -> usize {
    let state = STATE.fetch_add(0x9e37_79b9_7f4a_7c15, Relaxed);
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((u128::from(mixed ^ (mixed >> 31)) * bound as u128) >> 64) as usize
}

/// Puts blocks into random order.
pub(super) fn shuffle(entries: &mut [Entry]) {
    for last in (1..entries.len()).rev() {
        entries.swap(last, below(last + 1));
    }
}

/// One of the bits that are set; there is one.
pub(super) fn pick(bits: u32) -> u32 {
    let skipped = below(bits.count_ones() as usize);
    let rest = (0..skipped).fold(bits, |rest, _| rest & (rest - 1));
    rest.trailing_zeros()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_bit_is_picked_and_no_other() {
        let mut seen = 0;
        for _ in 0..1000 {
            seen |= 1 << pick(0b1000_0110_0001);
        }
        assert_eq!(seen, 0b1000_0110_0001);
        assert_eq!(pick(1 << 31), 31);
    }

    #[test]
    fn a_shuffle_keeps_every_block_and_not_the_order() {
        let mut bytes = [0_u8; 100];
        let mut entries: Vec<Entry> = bytes
            .iter_mut()
            .map(|byte| Entry {
                block: NonNull::from(&mut *byte),
                state: byte,
            })
            .collect();
        let before: Vec<_> = entries.iter().map(|entry| entry.block).collect();
        seed();
        shuffle(&mut entries);
        let mut after: Vec<_> = entries.iter().map(|entry| entry.block).collect();
        assert_ne!(after, before);
        after.sort();
        assert_eq!(after, before);
    }
}
