//! The memory pass: the same operations, with RSS sampled by operation count, by time, and whenever
//! live bytes have grown to a new height; the kernel's high-water mark tells of the moments between
//! the samples, inside calls too. Nothing is timed.
//!
//! A second replay in a process of its own looks at the pages one by one at the operation at which
//! RSS was highest here: see [`super::parts`].

use core::ffi::c_void;
use std::time::{Duration, Instant};

use super::live_pages::LivePages;
use super::peak::Peak;
use super::resident::{Gauge, Reading, page_bytes};
use super::serial::{Failure, Fault, Observer, Replayer, Returned, warm_up};
use super::speed::touch;
use crate::measure::results::Touch;
use crate::subject::functions::Functions;

/// Regular samples over a trace, by operation count.
const REGULAR_SAMPLES: usize = 1000;
/// Live bytes that have grown past the highest sampled so far by this much, or by this part of it,
/// are sampled at once: what an allocator gives back soon must be seen as well as what it keeps.
const GROWTH_BYTES: u64 = 64 << 10;
const GROWTH_PART: u64 = 128;
/// The clock is read once in so many operations.
const CLOCK_OPERATIONS: usize = 64;
/// Without a sample for so long, one is taken: or for this part of the time since the start, so that
/// the number of such samples grows only with the logarithm of the time.
const SAMPLE_INTERVAL_NS: u64 = 10_000_000;
const SAMPLE_INTERVAL_PART: u64 = 200;

/// Whether the last sample is so long ago that RSS must be looked at now.
pub(in crate::replay) fn is_due(elapsed_ns: u64, sampled_ns: u64) -> bool {
    elapsed_ns - sampled_ns >= SAMPLE_INTERVAL_NS.max(elapsed_ns / SAMPLE_INTERVAL_PART)
}

/// Whether live bytes are so far above the highest ever sampled that RSS must be looked at now.
pub(in crate::replay) fn is_new_height(live_bytes: u64, sampled_live_bytes: u64) -> bool {
    live_bytes > sampled_live_bytes + GROWTH_BYTES.max(sampled_live_bytes / GROWTH_PART)
}

/// One moment: operations so far, live bytes, usable bytes, memory of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct CurvePoint {
    /// Operations performed so far.
    pub operation: u64,
    /// Requested and not yet freed.
    pub live_bytes: u64,
    /// The allocator's own word for the sizes of the live blocks, summed.
    pub usable_bytes: u64,
    /// Memory of the whole process.
    pub held_bytes: u64,
    /// Since the first operation.
    pub elapsed_ns: u64,
}

/// Live and usable bytes of the block in a slot.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct SlotBytes {
    live_bytes: u64,
    usable_bytes: u64,
}

/// What the pass found. `curve` is filled from its start up to `points`. Memory is that of the whole
/// process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct MemoryOutcome {
    /// Before the first operation.
    pub start: Reading,
    /// The same by the exact look, in bytes.
    pub exact_start_bytes: u64,
    /// The highest.
    pub peak: Peak,
    /// Highest sum of requested bytes.
    pub live_bytes_peak: u64,
    /// Sum of usable bytes at that moment.
    pub usable_bytes_at_live_peak: u64,
    /// Live bytes of each size class rounded up to OS pages, at that moment.
    pub live_page_bytes_at_live_peak: u64,
    /// Page faults from the allocator's first call to the end of the replay, draining not included.
    pub minor_faults: u64,
    /// Those with input or output.
    pub major_faults: u64,
    /// Both ways of reading at the end of the replay.
    pub check: Check,
    /// What is left after every block was freed.
    pub retained: Retained,
    /// Points in the curve.
    pub points: u64,
    /// Operations performed.
    pub operations: u64,
}

impl MemoryOutcome {
    /// Nothing was done yet.
    pub fn new(gauge: &Gauge) -> Self {
        Self {
            start: gauge.start(),
            exact_start_bytes: gauge.exact_start_bytes(),
            peak: Peak::new(gauge),
            ..Self::default()
        }
    }

    /// Takes in what only the end of the replay tells; to be called before draining. `before` is what
    /// `page_faults` said before the allocator's first call.
    pub fn finish(&mut self, gauge: &mut Gauge, before: [u64; 2]) {
        let after = page_faults();
        [self.minor_faults, self.major_faults] = [0, 1].map(|kind| after[kind] - before[kind]);
        self.check = Check::take(gauge);
    }
}

/// Memory that was not there at the start, at one moment and by both ways of reading: the kernel's
/// counters, which the curve and the peak are from, and the exact look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Check {
    /// 1 if the exact look was possible.
    pub is_known: u64,
    /// By the counters.
    pub counted_bytes: u64,
    /// By the exact look.
    pub exact_bytes: u64,
}

impl Check {
    /// Reads both.
    pub fn take(gauge: &mut Gauge) -> Self {
        let exact = gauge.exact_new();
        let counted = gauge.read().held_bytes();
        Self {
            is_known: u64::from(exact.is_some()),
            counted_bytes: counted.saturating_sub(gauge.start().held_bytes()),
            exact_bytes: exact.map_or(0, |held| held.total_bytes()),
        }
    }

    /// How far the counters were off; `None` if unknown.
    pub fn difference_bytes(&self) -> Option<u64> {
        (self.is_known != 0).then(|| self.counted_bytes.abs_diff(self.exact_bytes))
    }
}

/// Memory after every block was freed that was not there at the start, by the exact look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Retained {
    /// At once, after 0.1 s and after 1 s.
    pub bytes: [u64; 3],
    /// How many of them were taken.
    pub count: u64,
}

/// Waits before the memory that is retained is looked at.
const RETAINED_AFTER: [Duration; 3] = [
    Duration::ZERO,
    Duration::from_millis(100),
    Duration::from_secs(1),
];

impl Retained {
    /// To be called when every block was freed. After each wait a small block is allocated and freed:
    /// some allocators give memory back only when they are called. Without `settle` there is no wait,
    /// and only what is left at once is known.
    pub fn measure(functions: &Functions, gauge: &mut Gauge, settle: bool) -> Self {
        let (mut retained, start) = (Self::default(), Instant::now());
        let count = if settle { RETAINED_AFTER.len() } else { 1 };
        for (after, bytes) in RETAINED_AFTER.iter().zip(&mut retained.bytes).take(count) {
            if !after.is_zero() {
                std::thread::sleep(after.saturating_sub(start.elapsed()));
                // SAFETY: the block comes from these functions, is not accessed, and is freed once.
                unsafe { (functions.free)((functions.malloc)(64)) };
            }
            *bytes = gauge.new_bytes();
            retained.count += 1;
        }
        retained
    }
}

/// Page faults of this process so far: without and with input or output.
pub(in crate::replay) fn page_faults() -> [u64; 2] {
    // SAFETY: a structure of numbers, for which zeroes are valid; it has room for the result.
    let usage = unsafe {
        let mut usage: libc::rusage = core::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &raw mut usage);
        usage
    };
    [usage.ru_minflt, usage.ru_majflt].map(|count| u64::try_from(count).unwrap_or(0))
}

struct Recorder<'a> {
    gauge: &'a Gauge,
    functions: Functions,
    policy: Touch,
    slots: &'a mut [SlotBytes],
    curve: &'a mut [CurvePoint],
    outcome: MemoryOutcome,
    live_pages: &'a LivePages,
    /// Operations performed so far.
    performed: usize,
    stride: usize,
    live_bytes: u64,
    usable_bytes: u64,
    /// Highest live bytes at any sample.
    sampled_live_bytes: u64,
    start: Instant,
    sampled_ns: u64,
}

/// Since `start`.
pub(in crate::replay) fn nanoseconds_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
}

impl Recorder<'_> {
    /// Samples RSS for the peak, and for the curve if `reserve` places are left in it.
    fn sample(&mut self, reserve: usize) {
        let reading = self.gauge.read();
        let operation = self.performed as u64;
        let outcome = &mut self.outcome;
        let peak = &mut outcome.peak;
        peak.note(self.gauge, &reading, operation, self.live_bytes);
        self.sampled_live_bytes = self.sampled_live_bytes.max(self.live_bytes);
        self.sampled_ns = nanoseconds_since(self.start);
        let mut index = outcome.points as usize;
        // One point for each operation.
        if index > 0 && self.curve[index - 1].operation == operation {
            index -= 1;
        }
        if index + reserve < self.curve.len() {
            self.curve[index] = CurvePoint {
                operation,
                live_bytes: self.live_bytes,
                usable_bytes: self.usable_bytes,
                held_bytes: reading.held_bytes(),
                elapsed_ns: self.sampled_ns,
            };
            outcome.points = index as u64 + 1;
        }
    }

    fn add(&mut self, returned: &Returned) {
        let usable_bytes = if returned.block.is_null() {
            0
        } else {
            // SAFETY: the allocator has just returned the block.
            unsafe { (self.functions.malloc_usable_size)(returned.block) as u64 }
        };
        let live_bytes = returned.size as u64;
        self.slots[returned.slot] = SlotBytes {
            live_bytes,
            usable_bytes,
        };
        self.live_bytes += live_bytes;
        self.usable_bytes += usable_bytes;
        self.live_pages.add(live_bytes);
        if self.live_bytes > self.outcome.live_bytes_peak {
            self.outcome.live_bytes_peak = self.live_bytes;
            self.outcome.usable_bytes_at_live_peak = self.usable_bytes;
            self.outcome.live_page_bytes_at_live_peak = self.live_pages.bytes();
        }
        // SAFETY: the allocator has just returned the block for `size` bytes.
        unsafe { touch(self.policy, returned) };
        if is_new_height(self.live_bytes, self.sampled_live_bytes) {
            // The operation that allocated is done.
            self.performed += 1;
            self.sample(REGULAR_SAMPLES + 2);
        }
    }

    fn remove(&mut self, slot: usize) {
        let gone = std::mem::take(&mut self.slots[slot]);
        self.live_bytes -= gone.live_bytes;
        self.usable_bytes -= gone.usable_bytes;
        self.live_pages.remove(gone.live_bytes);
    }
}

impl Observer for Recorder<'_> {
    fn step(&mut self, operation: usize) {
        self.performed = operation;
        if operation.is_multiple_of(self.stride) {
            self.sample(0);
        } else if operation.is_multiple_of(CLOCK_OPERATIONS)
            && is_due(nanoseconds_since(self.start), self.sampled_ns)
        {
            self.sample(REGULAR_SAMPLES + 2);
        }
    }

    unsafe fn allocated(&mut self, returned: &Returned) -> Result<(), Fault> {
        self.add(returned);
        Ok(())
    }

    unsafe fn releasing(&mut self, slot: usize, _block: *mut c_void) -> Result<(), Fault> {
        self.remove(slot);
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
        Ok(())
    }
}

/// Warms up, replays once, drains, and looks at what is retained, with waits of a second in all if
/// `settle`. The gauge must have begun, and the subject not have been called since. `slots` has an
/// entry per slot of the program, `curve` room for at least 1100 points; both are the harness's own
/// memory and must be resident already.
pub fn record(
    replayer: &mut Replayer<'_>,
    policy: Touch,
    slots: &mut [SlotBytes],
    curve: &mut [CurvePoint],
    gauge: &mut Gauge,
    settle: bool,
) -> Result<MemoryOutcome, Failure> {
    let operations = replayer.program().words().len();
    let live_pages = LivePages::new(page_bytes() as u64);
    // What the first calls take is part of all that follows: memory, faults, system calls.
    let before = page_faults();
    warm_up(replayer.functions());
    let mut recorder = Recorder {
        outcome: MemoryOutcome::new(gauge),
        gauge,
        functions: *replayer.functions(),
        policy,
        slots,
        curve,
        live_pages: &live_pages,
        performed: 0,
        stride: operations.div_ceil(REGULAR_SAMPLES).max(1),
        live_bytes: 0,
        usable_bytes: 0,
        sampled_live_bytes: 0,
        start: Instant::now(),
        sampled_ns: 0,
    };
    recorder.outcome.operations = replayer.replay(&mut recorder)? as u64;
    recorder.performed = operations;
    recorder.sample(0);
    let mut outcome = recorder.outcome;
    outcome.finish(gauge, before);
    replayer.drain(&mut Draining)?;
    outcome.retained = Retained::measure(replayer.functions(), gauge, settle);
    Ok(outcome)
}

/// Draining, where nothing is looked at.
pub(in crate::replay) struct Draining;

impl Observer for Draining {
    unsafe fn allocated(&mut self, _returned: &Returned) -> Result<(), Fault> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use memmap2::MmapMut;

    use super::*;

    #[test]
    fn first_writes_are_page_faults() {
        const PAGES: usize = 64;
        let mut fresh = MmapMut::map_anon(PAGES * 4096).expect("memory");
        let before = page_faults();
        fresh.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
        let faults = page_faults()[0] - before[0];
        assert!(faults >= PAGES as u64 / 2, "{faults} of {PAGES}");
    }
}
