//! The second replay of the memory pass on several threads: what RSS consists of where it is highest,
//! and the system calls inside the allocator's functions on all replaying threads.
//!
//! Threads take another way each time, so the highest moment of the first replay need not come again.
//! This one looks for its own: whenever RSS is near the first replay's peak and above the last look.
//! For a look all threads stop between two operations: each holds a lock while it is inside one.

use core::ffi::c_void;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use super::memory::REGULAR_SAMPLES;
use super::run::{Crew, Ended, Watcher};
use crate::measure::results::Touch;
use crate::replay::parts::{Ground, PartsOutcome, SlotPlace, Survey, warm_up_counted};
use crate::replay::program::NULL_SLOT;
use crate::replay::resident::Gauge;
use crate::replay::serial::{Fault, Observer, Returned};
use crate::replay::slots::SlotTable;
use crate::replay::speed::{TouchNone, touch};
use crate::replay::system_calls::Counting;
use crate::subject::functions::Functions;

/// A look is taken from this part of the first replay's peak on, and again when RSS has grown by
/// such a part: so many looks at most that they take seconds.
const NEAR: f64 = 0.95;
const GROWTH: f64 = 1.002;
/// RSS is read when live bytes have grown by this part, which costs some microseconds only.
const READ_PART: u64 = 1024;
const READ_BYTES: u64 = 16 << 10;

/// Where the first replay's memory was highest.
#[derive(Clone, Copy, Debug)]
pub struct Highest {
    /// Operations performed then.
    pub operation: u64,
    /// Memory that was not there at the start, by the kernel's counters.
    pub held_bytes: u64,
}

struct Office<'a> {
    functions: Functions,
    policy: Touch,
    slots: SlotTable<'a, SlotPlace>,
    /// Held for reading while a thread is inside an operation, for writing during a look.
    gate: RwLock<()>,
    survey: Mutex<Survey<'a>>,
    /// Whether every thread could count its system calls.
    all_counted: AtomicBool,
    highest: Highest,
    /// RSS at the last look.
    looked_bytes: AtomicU64,
    stride: u64,
    operations: AtomicU64,
    live_bytes: AtomicU64,
    /// Highest live bytes at which RSS was read.
    sampled_live_bytes: AtomicU64,
}

impl<'a> Office<'a> {
    fn survey(&self) -> MutexGuard<'_, Survey<'a>> {
        self.survey.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An operation is done, and its thread has left the gate.
    fn count(&self) {
        let operations = self.operations.fetch_add(1, Relaxed) + 1;
        let live = self.live_bytes.load(Relaxed);
        if operations == self.highest.operation {
            self.look_if(|survey| !survey.has_looked());
        } else if operations.is_multiple_of(self.stride) || self.is_new_height(live) {
            self.sampled_live_bytes.fetch_max(live, Relaxed);
            let is_worth_it = |survey: &Survey<'_>| self.is_worth_a_look(survey.counted_bytes());
            if is_worth_it(&self.survey()) {
                // Asked again inside: another thread may have looked meanwhile.
                self.look_if(is_worth_it);
            }
        }
    }

    fn is_new_height(&self, live_bytes: u64) -> bool {
        let sampled = self.sampled_live_bytes.load(Relaxed);
        live_bytes > sampled + READ_BYTES.max(sampled / READ_PART)
    }

    fn is_worth_a_look(&self, counted_bytes: u64) -> bool {
        let looked = self.looked_bytes.load(Relaxed) as f64;
        counted_bytes as f64 > (self.highest.held_bytes as f64 * NEAR).max(looked * GROWTH)
    }

    /// Looks, if then `wanted`, while no thread is inside an operation.
    fn look_if(&self, wanted: impl FnOnce(&Survey<'_>) -> bool) {
        let _gate = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        let mut survey = self.survey();
        if !wanted(&survey) {
            return;
        }
        self.looked_bytes.store(survey.counted_bytes(), Relaxed);
        // SAFETY: every slot has an entry, and whoever changes one holds the gate for reading.
        let places = (0..self.slots.len()).map(|slot| unsafe { self.slots.get(slot) });
        survey.look(self.operations.load(Relaxed), places);
    }
}

/// One thread at its operations.
struct Clerk<'o, 'a> {
    office: &'o Office<'a>,
    counting: Option<Counting>,
    /// While inside an operation.
    gate: Option<RwLockReadGuard<'o, ()>>,
    /// The operation is a free: done when the allocator returns.
    is_free: bool,
}

impl Clerk<'_, '_> {
    fn enter(&mut self) {
        if self.gate.is_none() {
            let gate = self.office.gate.read();
            self.gate = Some(gate.unwrap_or_else(PoisonError::into_inner));
        }
    }

    fn leave(&mut self) {
        self.gate = None;
        self.office.count();
    }

    fn remove(&self, slot: usize) {
        // That of frees of null, on all threads.
        if slot == NULL_SLOT as usize {
            return;
        }
        // SAFETY: slots are those of the program, for each of which there is an entry; this one is
        // the calling thread's, which holds the gate.
        let gone = unsafe {
            let gone = self.office.slots.get(slot);
            self.office.slots.set(slot, SlotPlace::default());
            gone
        };
        let live_bytes = gone.live_bytes as u64;
        self.office.live_bytes.fetch_sub(live_bytes, Relaxed);
    }

    fn add(&self, returned: &Returned) {
        let office = self.office;
        // SAFETY: the allocator has just returned the block, for `size` bytes. The slot as in
        // `remove`.
        let place = unsafe {
            touch(office.policy, returned);
            let place = SlotPlace::of(returned, &office.functions);
            office.slots.set(returned.slot, place);
            place
        };
        office.live_bytes.fetch_add(returned.size as u64, Relaxed);
        office.survey().cover(&place);
    }
}

impl Observer for Clerk<'_, '_> {
    fn before_call(&mut self) {
        self.enter();
        if let Some(counting) = &self.counting {
            counting.enter();
        }
    }

    fn after_call(&mut self) {
        if let Some(counting) = &self.counting {
            counting.leave();
        }
        if std::mem::take(&mut self.is_free) {
            self.leave();
        }
    }

    unsafe fn allocated(&mut self, returned: &Returned) -> Result<(), Fault> {
        self.add(returned);
        self.leave();
        Ok(())
    }

    unsafe fn releasing(&mut self, slot: usize, _block: *mut c_void) -> Result<(), Fault> {
        self.enter();
        self.remove(slot);
        self.is_free = true;
        Ok(())
    }

    unsafe fn reallocated(
        &mut self,
        old_slot: usize,
        _old: *mut c_void,
        returned: &Returned,
    ) -> Result<(), Fault> {
        self.remove(old_slot);
        self.add(returned);
        self.leave();
        Ok(())
    }
}

impl<'a> Watcher for Office<'a> {
    const NUMBERED: bool = false;
    type Observer<'w>
        = Clerk<'w, 'a>
    where
        Self: 'w;

    fn observer(&self, _thread: u32) -> Clerk<'_, 'a> {
        let counting = Counting::join();
        if counting.is_none() {
            self.all_counted.store(false, Relaxed);
        }
        Clerk {
            office: self,
            counting,
            gate: None,
            is_free: false,
        }
    }
}

/// Begins with the gauge, warms up, replays once, looking at the pages, and drains. `slots` has an entry
/// per slot of the program, all zero, of the harness's own memory. Returns the operations performed.
pub fn record(
    crew: &mut Crew<'_>,
    policy: Touch,
    slots: &mut [SlotPlace],
    ground: Option<Ground>,
    gauge: &mut Gauge,
    highest: Highest,
    outcome: &mut PartsOutcome,
) -> Result<u64, Ended> {
    assert_eq!(
        slots.len(),
        crew.view().program().slots as usize,
        "one entry per slot"
    );
    gauge.begin();
    let counting = Counting::begin();
    warm_up_counted(crew.functions(), counting.as_ref());
    let all_counted = counting.is_some();
    // Each thread counts for itself, this one too.
    drop(counting);
    let office = Office {
        functions: *crew.functions(),
        policy,
        slots: SlotTable::new(slots),
        gate: RwLock::new(()),
        survey: Mutex::new(Survey::new(ground, gauge, outcome)),
        all_counted: AtomicBool::new(all_counted),
        highest,
        looked_bytes: AtomicU64::new(0),
        stride: crew.view().operations().div_ceil(REGULAR_SAMPLES).max(1),
        operations: AtomicU64::new(0),
        live_bytes: AtomicU64::new(0),
        sampled_live_bytes: AtomicU64::new(0),
    };
    let operations = crew.replay(&office)?.operations;
    // The peak of the first replay may have been at its end, or before its beginning.
    office.look_if(|survey| !survey.has_looked());
    let counts = office.all_counted.load(Relaxed).then(Counting::total);
    office.survey().set_system_calls(counts);
    drop(office);
    crew.drain(&mut TouchNone).map_err(Ended::Wrong)?;
    Ok(operations)
}
