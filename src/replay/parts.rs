//! The second replay of the memory pass, in a process of its own: what RSS consists of at one chosen
//! operation, and which system calls the allocator makes.
//!
//! Every OS page that a block has ever lain on is remembered. At the chosen operation the pages that
//! are held are looked at one by one: those without a block ever are metadata, and what the allocator
//! got and never used (the rest of a span or of a huge page), which cannot be told apart from outside;
//! of the others, the bytes of live blocks are live or internal, and the rest, headers included, is
//! external. So the parts add up by construction; whether they are right, the counted RSS of the same
//! moment tells.

use core::ffi::c_void;

use super::anonymous::{AnonymousPages, Held};
use super::memory::Draining;
use super::page_set::PageSet;
use super::resident::Gauge;
use super::serial::{Failure, Fault, Observer, Replayer, Returned, warm_up};
use super::speed::touch;
use super::system_calls::{Counting, Counts};
use crate::measure::results::Touch;
use crate::subject::functions::Functions;

/// Place and sizes of the block in a slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SlotPlace {
    pub(super) address: usize,
    pub(super) live_bytes: usize,
    pub(super) usable_bytes: usize,
}

impl SlotPlace {
    /// Of a block that the allocator has just returned.
    ///
    /// # Safety
    /// It is one of these functions', or null.
    pub(super) unsafe fn of(returned: &Returned, functions: &Functions) -> Self {
        let usable_bytes = if returned.block.is_null() {
            0
        } else {
            // SAFETY: the caller's promise.
            unsafe { (functions.malloc_usable_size)(returned.block) }
        };
        Self {
            address: returned.block.addr(),
            live_bytes: returned.size,
            usable_bytes,
        }
    }
}

/// Bytes of resident OS pages, by what is on them; their sum is the pages' size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Split {
    /// Requested and not yet freed.
    pub live_bytes: u64,
    /// Usable beyond the requested.
    pub internal_bytes: u64,
    /// The rest of pages on which a block lies or has lain: free memory, headers, gaps.
    pub external_bytes: u64,
    /// Pages on which no block has ever lain: metadata, and what was never used.
    pub metadata_bytes: u64,
}

impl Split {
    /// Of pages whose sizes and blocks are known. An allocator that tells more usable bytes than the
    /// pages have is cut to what is there, so that the sum holds.
    fn of(covered_bytes: u64, uncovered_bytes: u64, live_bytes: u64, usable_bytes: u64) -> Self {
        let live_bytes = live_bytes.min(covered_bytes);
        let internal_bytes = usable_bytes
            .saturating_sub(live_bytes)
            .min(covered_bytes - live_bytes);
        Self {
            live_bytes,
            internal_bytes,
            external_bytes: covered_bytes - live_bytes - internal_bytes,
            metadata_bytes: uncovered_bytes,
        }
    }

    /// All of it.
    pub fn total_bytes(&self) -> u64 {
        self.live_bytes + self.internal_bytes + self.external_bytes + self.metadata_bytes
    }
}

/// What the replay found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct PartsOutcome {
    /// 1 if the pages could be looked at.
    pub is_known: u64,
    /// Operations performed when they were.
    pub operation: u64,
    /// All pages that were not there at the start, by what they are.
    pub held: Held,
    /// The same memory by the kernel's counters, at the same moment.
    pub counted_bytes: u64,
    /// Pages that were not there at the start, by what is on them.
    pub new: Split,
    /// Pages that were, and on which blocks of the replay have lain since: a preloaded allocator's or
    /// the C library's own, from the start of the process.
    pub start: Split,
    /// 1 if the system calls could be counted.
    pub are_system_calls_known: u64,
    /// System calls made inside the allocator's functions during the replay, by number.
    pub system_calls: Counts,
}

/// The harness's own memory for the look at the pages.
#[derive(Debug)]
pub struct Ground {
    /// Pages on which a block has ever lain.
    covered: PageSet,
    /// Resident pages that were not there at the start, and covered ones that were.
    new: PageSet,
    start: PageSet,
}

impl Ground {
    /// Reserves the memory, which the gauge will leave out.
    pub fn new(gauge: &mut Gauge) -> std::io::Result<Option<Self>> {
        let Some(exact) = gauge.exact() else {
            return Ok(None);
        };
        let page_bytes = exact.page_bytes();
        let ground = Self {
            covered: PageSet::new(page_bytes)?,
            new: PageSet::new(page_bytes)?,
            start: PageSet::new(page_bytes)?,
        };
        for set in [&ground.covered, &ground.new, &ground.start] {
            exact.exclude(set.own_memory());
        }
        Ok(Some(ground))
    }

    /// Notes where a block lies.
    fn cover(&mut self, page_bytes: usize, place: &SlotPlace) {
        let bytes = place.usable_bytes.max(place.live_bytes);
        if bytes > 0 {
            let last = place.address.saturating_add(bytes - 1) / page_bytes;
            self.covered.insert(place.address / page_bytes..last + 1);
        }
    }

    /// Looks at every page held: what the new ones are, what is on them, and what is on those of the
    /// start. `None` if the kernel does not let it or there are too many.
    fn look(
        &mut self,
        exact: &mut AnonymousPages,
        slots: impl Iterator<Item = SlotPlace>,
    ) -> Option<(Held, [Split; 2])> {
        self.new.clear()?;
        self.start.clear()?;
        let mut held = Held::default();
        let page_bytes = exact.page_bytes();
        let (covered, new, start) = (&self.covered, &mut self.new, &mut self.start);
        // Covered and uncovered, of the new pages and of those of the start.
        let (mut new_pages, mut start_pages) = ([0u64; 2], [0u64; 2]);
        exact
            .each_page(
                |page, kind, was_before| match (was_before, covered.contains(page)) {
                    (false, is_covered) => {
                        held.add(kind, page_bytes);
                        new.insert(page..page + 1);
                        new_pages[usize::from(!is_covered)] += 1;
                    }
                    (true, true) => {
                        start.insert(page..page + 1);
                        start_pages[0] += 1;
                    }
                    (true, false) => {}
                },
            )
            .ok()?;
        // Live and usable bytes on each of the two kinds of pages.
        let (mut on_new, mut on_start) = ([0u64; 2], [0u64; 2]);
        for slot in slots {
            for (kind, bytes) in [slot.live_bytes, slot.usable_bytes.max(slot.live_bytes)]
                .into_iter()
                .enumerate()
            {
                each_piece(slot.address, bytes, page_bytes, |page, piece| {
                    if new.contains(page) {
                        on_new[kind] += piece;
                    } else if start.contains(page) {
                        on_start[kind] += piece;
                    }
                });
            }
        }
        let split = |pages: [u64; 2], on: [u64; 2]| {
            let bytes = pages.map(|count| count * page_bytes as u64);
            Split::of(bytes[0], bytes[1], on[0], on[1])
        };
        let is_complete = ![&self.covered, &self.new, &self.start]
            .iter()
            .any(|set| set.is_overflowed());
        is_complete.then(|| {
            (
                held,
                [split(new_pages, on_new), split(start_pages, on_start)],
            )
        })
    }
}

/// Calls `visit` with the number of each OS page that `bytes` from `address` lie on, and how many.
fn each_piece(address: usize, bytes: usize, page_bytes: usize, mut visit: impl FnMut(usize, u64)) {
    let end = address.saturating_add(bytes);
    let mut at = address;
    while at < end {
        let page = at / page_bytes;
        let piece = ((page + 1) * page_bytes).min(end) - at;
        visit(page, piece as u64);
        at += piece;
    }
}

/// The ground, and the means to look at it.
pub(super) struct Survey<'a> {
    ground: Option<Ground>,
    gauge: &'a mut Gauge,
    outcome: &'a mut PartsOutcome,
}

impl<'a> Survey<'a> {
    /// Nothing was looked at yet.
    pub(super) fn new(
        ground: Option<Ground>,
        gauge: &'a mut Gauge,
        outcome: &'a mut PartsOutcome,
    ) -> Self {
        Self {
            ground,
            gauge,
            outcome,
        }
    }

    /// Notes where a block lies.
    pub(super) fn cover(&mut self, place: &SlotPlace) {
        if let (Some(ground), Some(exact)) = (&mut self.ground, self.gauge.exact()) {
            ground.cover(exact.page_bytes(), place);
        }
    }

    /// Memory that was not there at the start, by the quick reading, the sets of pages left out.
    pub(super) fn counted_bytes(&self) -> u64 {
        let start = self.gauge.start().held_bytes();
        let sets = self.ground.as_ref().map_or(0, |ground| {
            let sets = [&ground.covered, &ground.new, &ground.start];
            sets.map(PageSet::leaf_bytes).iter().sum()
        });
        let held = self.gauge.read().held_bytes();
        held.saturating_sub(start).saturating_sub(sets)
    }

    /// Looks at every page. What an earlier look found is replaced.
    pub(super) fn look(&mut self, operation: u64, slots: impl Iterator<Item = SlotPlace>) {
        let counted_bytes = self.counted_bytes();
        let (Some(ground), Some(exact)) = (&mut self.ground, self.gauge.exact()) else {
            return;
        };
        if let Some((held, [new, start])) = ground.look(exact, slots) {
            self.outcome.is_known = 1;
            self.outcome.operation = operation;
            self.outcome.held = held;
            self.outcome.counted_bytes = counted_bytes;
            self.outcome.new = new;
            self.outcome.start = start;
        }
    }

    /// Whether a look was taken.
    pub(super) fn has_looked(&self) -> bool {
        self.outcome.is_known != 0
    }

    /// Sets the system calls; `None` where they could not be counted.
    pub(super) fn set_system_calls(&mut self, counts: Option<Counts>) {
        if let Some(counts) = counts {
            self.outcome.system_calls = counts;
            self.outcome.are_system_calls_known = 1;
        }
    }
}

/// Warms up, with the system calls counted.
pub(super) fn warm_up_counted(functions: &Functions, counting: Option<&Counting>) {
    if let Some(counting) = counting {
        counting.enter();
    }
    warm_up(functions);
    if let Some(counting) = counting {
        counting.leave();
    }
}

struct Surveyor<'a> {
    functions: Functions,
    policy: Touch,
    slots: &'a mut [SlotPlace],
    survey: Survey<'a>,
    counting: Option<Counting>,
    look_at: usize,
}

impl Surveyor<'_> {
    fn add(&mut self, returned: &Returned) {
        // SAFETY: the allocator has just returned the block, for `size` bytes.
        let place = unsafe {
            touch(self.policy, returned);
            SlotPlace::of(returned, &self.functions)
        };
        self.slots[returned.slot] = place;
        self.survey.cover(&place);
    }

    fn look(&mut self, operation: usize) {
        self.survey
            .look(operation as u64, self.slots.iter().copied());
    }
}

impl Observer for Surveyor<'_> {
    fn step(&mut self, operation: usize) {
        if operation == self.look_at {
            self.look(operation);
        }
    }

    #[inline(always)]
    fn before_call(&mut self) {
        if let Some(counting) = &self.counting {
            counting.enter();
        }
    }

    #[inline(always)]
    fn after_call(&mut self) {
        if let Some(counting) = &self.counting {
            counting.leave();
        }
    }

    unsafe fn allocated(&mut self, returned: &Returned) -> Result<(), Fault> {
        self.add(returned);
        Ok(())
    }

    unsafe fn releasing(&mut self, slot: usize, _block: *mut c_void) -> Result<(), Fault> {
        self.slots[slot] = SlotPlace::default();
        Ok(())
    }

    unsafe fn reallocated(
        &mut self,
        old_slot: usize,
        _old: *mut c_void,
        returned: &Returned,
    ) -> Result<(), Fault> {
        self.slots[old_slot] = SlotPlace::default();
        self.add(returned);
        Ok(())
    }
}

/// Warms up, replays once, looks at the pages when `look_at` operations are done, and drains. The gauge
/// must have begun, and the subject not have been called since; `slots` has an entry per slot of the
/// program, all zero, of the harness's own memory. Returns the operations performed.
pub fn record(
    replayer: &mut Replayer<'_>,
    policy: Touch,
    slots: &mut [SlotPlace],
    ground: Option<Ground>,
    gauge: &mut Gauge,
    look_at: usize,
    outcome: &mut PartsOutcome,
) -> Result<usize, Failure> {
    let counting = Counting::begin();
    warm_up_counted(replayer.functions(), counting.as_ref());
    let mut surveyor = Surveyor {
        functions: *replayer.functions(),
        policy,
        slots,
        survey: Survey::new(ground, gauge, outcome),
        counting,
        look_at,
    };
    let operations = replayer.replay(&mut surveyor)?;
    if operations == look_at {
        surveyor.look(operations);
    }
    let counts = surveyor.counting.take().map(|counting| counting.counts());
    surveyor.survey.set_system_calls(counts);
    replayer.drain(&mut Draining)?;
    Ok(operations)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn parts_add_up_whatever_the_allocator_tells(
            covered in 0u64..1 << 40,
            uncovered in 0u64..1 << 40,
            live in 0u64..1 << 41,
            usable in 0u64..1 << 41,
        ) {
            let split = Split::of(covered, uncovered, live, usable);
            prop_assert_eq!(split.total_bytes(), covered + uncovered);
            prop_assert_eq!(split.metadata_bytes, uncovered);
            if live <= usable && usable <= covered {
                prop_assert_eq!(split.live_bytes, live);
                prop_assert_eq!(split.live_bytes + split.internal_bytes, usable);
            }
        }

        #[test]
        fn pieces_cover_a_block_once(address in 0usize..1 << 40, bytes in 0usize..50_000) {
            let mut total = 0;
            let mut pages = Vec::new();
            each_piece(address, bytes, 4096, |page, piece| {
                total += piece;
                pages.push(page);
            });
            prop_assert_eq!(total, bytes as u64);
            prop_assert!(pages.windows(2).all(|pair| pair[0] + 1 == pair[1]));
            prop_assert_eq!(pages.first().copied(), (bytes > 0).then_some(address / 4096));
        }
    }
}
