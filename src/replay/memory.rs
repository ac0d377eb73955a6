//! The memory pass: the same operations, with RSS sampled by operation count, by time, and whenever
//! live bytes have grown to a new height. Nothing is timed.
//!
//! A second replay in a process of its own looks at the pages one by one at the operation at which
//! RSS was highest here: see [`super::parts`].

use core::ffi::c_void;
use std::time::{Duration, Instant};

use super::live_pages::LivePages;
use super::resident::{Gauge, page_bytes};
use super::serial::{Failure, Fault, Observer, Replayer, Returned};
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

/// One moment: operations so far, live bytes, usable bytes, private anonymous memory of the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct CurvePoint {
    /// Operations performed so far.
    pub operation: u64,
    /// Requested and not yet freed.
    pub live_bytes: u64,
    /// The allocator's own word for the sizes of the live blocks, summed.
    pub usable_bytes: u64,
    /// Private anonymous memory of the whole process.
    pub anonymous_bytes: u64,
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

/// What the pass found. `curve` is filled from its start up to `points`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct MemoryOutcome {
    /// Before the first operation.
    pub anonymous_start_bytes: u64,
    /// The same by the exact look.
    pub exact_start_bytes: u64,
    /// Highest at any sample.
    pub anonymous_peak_bytes: u64,
    /// Operations performed when that was.
    pub peak_operation: u64,
    /// Highest sum of requested bytes.
    pub live_bytes_peak: u64,
    /// Sum of usable bytes at that moment.
    pub usable_bytes_at_live_peak: u64,
    /// Live bytes of each size class rounded up to OS pages, at that moment.
    pub live_page_bytes_at_live_peak: u64,
    /// Page faults during the replay, draining not included.
    pub minor_faults: u64,
    /// Those with input or output.
    pub major_faults: u64,
    /// What is left after every block was freed.
    pub retained: Retained,
    /// Points in the curve.
    pub points: u64,
    /// Operations performed.
    pub operations: u64,
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
    live_pages: LivePages,
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

impl Recorder<'_> {
    fn elapsed_ns(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Samples RSS for the peak, and for the curve if `reserve` places are left in it.
    fn sample(&mut self, reserve: usize) {
        let anonymous_bytes = self.gauge.anonymous_bytes();
        if anonymous_bytes > self.outcome.anonymous_peak_bytes {
            self.outcome.anonymous_peak_bytes = anonymous_bytes;
            self.outcome.peak_operation = self.performed as u64;
        }
        self.sampled_live_bytes = self.sampled_live_bytes.max(self.live_bytes);
        self.sampled_ns = self.elapsed_ns();
        let mut index = self.outcome.points as usize;
        // One point for each operation.
        if index > 0 && self.curve[index - 1].operation == self.performed as u64 {
            index -= 1;
        }
        if index + reserve < self.curve.len() {
            self.curve[index] = CurvePoint {
                operation: self.performed as u64,
                live_bytes: self.live_bytes,
                usable_bytes: self.usable_bytes,
                anonymous_bytes,
                elapsed_ns: self.sampled_ns,
            };
            self.outcome.points = index as u64 + 1;
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
            && is_due(self.elapsed_ns(), self.sampled_ns)
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

/// Replays once, drains, and looks at what is retained, with waits of a second in all if `settle`.
/// The gauge must have begun before the subject was first called. `slots` has an entry per slot of
/// the program, `curve` room for at least 1100 points; both are the harness's own memory and must
/// be resident already.
pub fn record(
    replayer: &mut Replayer<'_>,
    policy: Touch,
    slots: &mut [SlotBytes],
    curve: &mut [CurvePoint],
    gauge: &mut Gauge,
    settle: bool,
) -> Result<MemoryOutcome, Failure> {
    let operations = replayer.program().words().len();
    let start = gauge.start_bytes();
    let mut recorder = Recorder {
        gauge,
        functions: *replayer.functions(),
        policy,
        slots,
        curve,
        outcome: MemoryOutcome {
            anonymous_start_bytes: start,
            exact_start_bytes: gauge.exact_start_bytes(),
            anonymous_peak_bytes: start,
            ..MemoryOutcome::default()
        },
        live_pages: LivePages::new(page_bytes() as u64),
        performed: 0,
        stride: operations.div_ceil(REGULAR_SAMPLES).max(1),
        live_bytes: 0,
        usable_bytes: 0,
        sampled_live_bytes: 0,
        start: Instant::now(),
        sampled_ns: 0,
    };
    let before = page_faults();
    recorder.outcome.operations = replayer.replay(&mut recorder)? as u64;
    let after = page_faults();
    recorder.performed = operations;
    recorder.sample(0);
    let mut outcome = recorder.outcome;
    [outcome.minor_faults, outcome.major_faults] = [after[0] - before[0], after[1] - before[1]];
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
