//! The memory pass on several threads. Live and usable bytes are counted by all threads without a
//! lock; RSS is sampled by operation count, by new heights of live bytes, and by time: by one thread
//! of the harness, so that what happens while all others wait is seen too. Nothing is timed.
//!
//! Which blocks are live at once depends on the order that the threads take, so the peak of live
//! bytes is measured, and may differ from the recorded one.

use core::ffi::c_void;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::mapped::Stacks;
use super::run::{Crew, Ended, Watcher};
use crate::measure::results::Touch;
use crate::replay::live_pages::LivePages;
use crate::replay::memory::{
    CurvePoint, MemoryOutcome, Retained, is_new_height, nanoseconds_since, page_faults,
};
use crate::replay::program::NULL_SLOT;
use crate::replay::resident::{Gauge, Reading, page_bytes};
use crate::replay::serial::{Fault, Observer, Returned, warm_up};
use crate::replay::slots::SlotTable;
use crate::replay::speed::{TouchNone, touch};
use crate::subject::functions::Functions;

/// Regular samples over a trace.
pub(super) const REGULAR_SAMPLES: u64 = 1000;
/// Between samples by time.
const PERIOD: Duration = Duration::from_millis(1);
/// Of those, one becomes a point of the curve for each such part of the time since the start, so
/// that a long wait does not use up the curve.
const POINT_PART: u64 = 200;

/// Requested and usable bytes of the block in a slot.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Amounts {
    live_bytes: u64,
    usable_bytes: u64,
}

struct Ledger<'a> {
    gauge: &'a Gauge,
    functions: Functions,
    policy: Touch,
    slots: SlotTable<'a, Amounts>,
    stride: u64,
    operations: AtomicU64,
    live_bytes: AtomicU64,
    usable_bytes: AtomicU64,
    live_bytes_peak: AtomicU64,
    live_pages: LivePages,
    /// Highest live bytes at any sample.
    sampled_live_bytes: AtomicU64,
    /// Ends the sampling by time.
    finished: AtomicBool,
    start: Instant,
    curve: Mutex<Curve<'a>>,
}

struct Curve<'a> {
    points: &'a mut [CurvePoint],
    outcome: MemoryOutcome,
}

impl<'a> Ledger<'a> {
    fn curve(&self) -> MutexGuard<'_, Curve<'a>> {
        self.curve.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Samples RSS for the peak; a point is added to the curve unless fewer than `reserve` would be
    /// left. Between two points of one number of operations time has passed: a thread was inside a
    /// call, or all of them waited.
    fn sample(&self, reserve: u64) {
        let mut curve = self.curve();
        let elapsed_ns = nanoseconds_since(self.start);
        let (reading, point) = self.sample_into(&mut curve, elapsed_ns, reserve);
        self.sampled_live_bytes.fetch_max(point.live_bytes, Relaxed);
        let peak = &mut curve.outcome.peak;
        peak.note(self.gauge, &reading, point.operation, point.live_bytes);
    }

    /// The same by time, by a thread that does not replay: a moment inside a call as often as not.
    fn sample_when_due(&self) {
        let mut curve = self.curve();
        let elapsed_ns = nanoseconds_since(self.start);
        let Curve { points, outcome } = &*curve;
        let last_ns = (outcome.points as usize)
            .checked_sub(1)
            .map_or(0, |last| points[last].elapsed_ns);
        // Seldom enough for the curve; the others are for the peak.
        let is_point = elapsed_ns.saturating_sub(last_ns) >= elapsed_ns / POINT_PART;
        let reserve = if is_point {
            REGULAR_SAMPLES + 2
        } else {
            u64::MAX
        };
        let (reading, _) = self.sample_into(&mut curve, elapsed_ns, reserve);
        curve.outcome.peak.note_inside(self.gauge, &reading);
    }

    fn sample_into(
        &self,
        curve: &mut Curve<'a>,
        elapsed_ns: u64,
        reserve: u64,
    ) -> (Reading, CurvePoint) {
        let reading = self.gauge.read();
        let point = CurvePoint {
            operation: self.operations.load(Relaxed),
            elapsed_ns,
            live_bytes: self.live_bytes.load(Relaxed),
            usable_bytes: self.usable_bytes.load(Relaxed),
            held_bytes: reading.held_bytes(),
        };
        let Curve { points, outcome } = curve;
        if outcome.points.saturating_add(reserve) < points.len() as u64 {
            points[outcome.points as usize] = point;
            outcome.points += 1;
        }
        (reading, point)
    }

    fn add(&self, returned: &Returned) {
        let usable_bytes = if returned.block.is_null() {
            0
        } else {
            // SAFETY: the allocator has just returned the block.
            unsafe { (self.functions.malloc_usable_size)(returned.block) as u64 }
        };
        let live_bytes = returned.size as u64;
        // SAFETY: slots are those of the program, for each of which there is an entry; this one is
        // the calling thread's.
        unsafe {
            self.slots.set(
                returned.slot,
                Amounts {
                    live_bytes,
                    usable_bytes,
                },
            );
        }
        // SAFETY: the allocator has just returned the block for `size` bytes.
        unsafe { touch(self.policy, returned) };
        // Only now, so that live bytes are written ones and RSS is never below them.
        self.usable_bytes.fetch_add(usable_bytes, Relaxed);
        self.live_pages.add(live_bytes);
        let live = self.live_bytes.fetch_add(live_bytes, Relaxed) + live_bytes;
        if live > self.live_bytes_peak.load(Relaxed) {
            self.note_peak(live);
        }
        if is_new_height(live, self.sampled_live_bytes.load(Relaxed)) {
            self.sample(REGULAR_SAMPLES + 2);
        }
    }

    /// Of all the sums that additions came to, the highest is the peak; what other threads have done
    /// to the usable bytes and the pages since then is in those figures.
    #[cold]
    fn note_peak(&self, live_bytes: u64) {
        let mut curve = self.curve();
        if live_bytes > curve.outcome.live_bytes_peak {
            curve.outcome.live_bytes_peak = live_bytes;
            curve.outcome.usable_bytes_at_live_peak = self.usable_bytes.load(Relaxed);
            curve.outcome.live_page_bytes_at_live_peak = self.live_pages.bytes().max(live_bytes);
            self.live_bytes_peak.store(live_bytes, Relaxed);
        }
    }

    fn remove(&self, slot: usize) {
        // That of frees of null, on all threads.
        if slot == NULL_SLOT as usize {
            return;
        }
        // SAFETY: as in `add`.
        let gone = unsafe {
            let gone = self.slots.get(slot);
            self.slots.set(slot, Amounts::default());
            gone
        };
        self.live_bytes.fetch_sub(gone.live_bytes, Relaxed);
        self.usable_bytes.fetch_sub(gone.usable_bytes, Relaxed);
        self.live_pages.remove(gone.live_bytes);
    }

    /// Counts an operation that is done.
    fn count(&self) {
        let operations = self.operations.fetch_add(1, Relaxed) + 1;
        if operations.is_multiple_of(self.stride) {
            self.sample(1);
        }
    }
}

/// One thread's view of the ledger.
struct Clerk<'l, 'a>(&'l Ledger<'a>);

impl Observer for Clerk<'_, '_> {
    unsafe fn allocated(&mut self, returned: &Returned) -> Result<(), Fault> {
        self.0.add(returned);
        self.0.count();
        Ok(())
    }

    unsafe fn releasing(&mut self, slot: usize, _block: *mut c_void) -> Result<(), Fault> {
        self.0.remove(slot);
        self.0.count();
        Ok(())
    }

    unsafe fn reallocated(
        &mut self,
        old_slot: usize,
        _old: *mut c_void,
        returned: &Returned,
    ) -> Result<(), Fault> {
        self.0.remove(old_slot);
        self.0.add(returned);
        self.0.count();
        Ok(())
    }
}

impl<'a> Watcher for Ledger<'a> {
    const NUMBERED: bool = false;
    type Observer<'w>
        = Clerk<'w, 'a>
    where
        Self: 'w;

    fn observer(&self, _thread: u32) -> Clerk<'_, 'a> {
        Clerk(self)
    }
}

extern "C" fn sample_by_time(argument: *mut c_void) -> *mut c_void {
    // SAFETY: `record` gave its ledger, and joins this thread before that goes.
    let ledger = unsafe { &*argument.cast::<Ledger<'_>>() };
    while !ledger.finished.load(Relaxed) {
        std::thread::sleep(PERIOD);
        ledger.sample_when_due();
    }
    ptr::null_mut()
}

/// Makes the thread that samples by time, on a stack of ours. `None` if the system refuses: then
/// there are fewer samples.
fn start_sampling(ledger: &Ledger<'_>, stacks: &Stacks) -> Option<libc::pthread_t> {
    let (stack, bytes) = stacks.of(0);
    let argument = ptr::from_ref(ledger).cast_mut().cast::<c_void>();
    let mut handle = core::mem::MaybeUninit::<libc::pthread_t>::uninit();
    let mut attributes = core::mem::MaybeUninit::<libc::pthread_attr_t>::uninit();
    // SAFETY: the attributes are initialised before they are used; the stack is mapped and nobody
    // else's; the ledger outlives the thread, which `record` joins. The handle is read only if the
    // call wrote it.
    unsafe {
        libc::pthread_attr_init(attributes.as_mut_ptr());
        libc::pthread_attr_setstack(attributes.as_mut_ptr(), stack, bytes);
        let refused = libc::pthread_create(
            handle.as_mut_ptr(),
            attributes.as_ptr(),
            sample_by_time,
            argument,
        );
        libc::pthread_attr_destroy(attributes.as_mut_ptr());
        (refused == 0).then(|| handle.assume_init())
    }
}

/// Begins with the gauge, warms up, replays once and drains. `slots` has an entry per slot of the program, `curve` room for at least
/// 1100 points; both are the harness's own memory and must be resident already.
pub fn record(
    crew: &mut Crew<'_>,
    policy: Touch,
    slots: &mut [Amounts],
    curve: &mut [CurvePoint],
    gauge: &mut Gauge,
    settle: bool,
) -> Result<MemoryOutcome, Ended> {
    assert_eq!(
        slots.len(),
        crew.view().program().slots as usize,
        "one entry per slot"
    );
    let stacks =
        Stacks::map(1).map_err(|error| Ended::NoThread(error.raw_os_error().unwrap_or(0)))?;
    gauge.begin();
    let before = page_faults();
    warm_up(crew.functions());
    let operations = crew.view().operations();
    let ledger = Ledger {
        gauge: &*gauge,
        functions: *crew.functions(),
        policy,
        slots: SlotTable::new(slots),
        stride: operations.div_ceil(REGULAR_SAMPLES).max(1),
        operations: AtomicU64::new(0),
        live_bytes: AtomicU64::new(0),
        usable_bytes: AtomicU64::new(0),
        live_bytes_peak: AtomicU64::new(0),
        live_pages: LivePages::new(page_bytes() as u64),
        sampled_live_bytes: AtomicU64::new(0),
        finished: AtomicBool::new(false),
        start: Instant::now(),
        curve: Mutex::new(Curve {
            points: curve,
            outcome: MemoryOutcome::new(gauge),
        }),
    };
    ledger.sample(1);
    let sampler = start_sampling(&ledger, &stacks);
    let done = crew.replay(&ledger);
    ledger.sample(0);
    ledger.finished.store(true, Relaxed);
    if let Some(sampler) = sampler {
        // SAFETY: made above, joined once.
        unsafe { libc::pthread_join(sampler, ptr::null_mut()) };
    }
    let mut outcome = ledger.curve().outcome;
    outcome.operations = done?.operations;
    outcome.finish(gauge, before);
    // The curve ends with the trace.
    crew.drain(&mut TouchNone).map_err(Ended::Wrong)?;
    outcome.retained = Retained::measure(crew.functions(), gauge, settle);
    Ok(outcome)
}
