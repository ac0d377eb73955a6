//! The memory pass: the same operations, with RSS sampled by operation count and whenever live bytes
//! have grown to a new height. Nothing is timed.

use core::ffi::c_void;

use super::resident::ResidentReader;
use super::serial::{Failure, Fault, Observer, Replayer, Returned};
use super::speed::touch;
use crate::measure::results::Touch;
use crate::subject::functions::Functions;

/// Regular samples over a trace.
const REGULAR_SAMPLES: usize = 1000;
/// Live bytes that have grown past the highest sampled so far by this much, or by this part of it,
/// are sampled at once: what an allocator gives back soon must be seen as well as what it keeps.
const GROWTH_BYTES: u64 = 64 << 10;
const GROWTH_PART: u64 = 128;

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
    /// Highest at any sample.
    pub anonymous_peak_bytes: u64,
    /// After every block was freed.
    pub anonymous_drained_bytes: u64,
    /// Highest sum of requested bytes.
    pub live_bytes_peak: u64,
    /// Sum of usable bytes at that moment.
    pub usable_bytes_at_live_peak: u64,
    /// Points in the curve.
    pub points: u64,
    /// Operations performed.
    pub operations: u64,
}

struct Recorder<'a> {
    reader: &'a ResidentReader,
    functions: Functions,
    policy: Touch,
    slots: &'a mut [SlotBytes],
    curve: &'a mut [CurvePoint],
    outcome: MemoryOutcome,
    operation: usize,
    stride: usize,
    live_bytes: u64,
    usable_bytes: u64,
    /// Highest live bytes at any sample.
    sampled_live_bytes: u64,
}

impl Recorder<'_> {
    /// Samples RSS; `keep` demands a point of the curve, otherwise only the peak is sure to be kept.
    fn sample(&mut self, reserve: usize) {
        let anonymous_bytes = self.reader.anonymous_bytes().unwrap_or(0);
        self.outcome.anonymous_peak_bytes = self.outcome.anonymous_peak_bytes.max(anonymous_bytes);
        self.sampled_live_bytes = self.sampled_live_bytes.max(self.live_bytes);
        let index = self.outcome.points as usize;
        if index + reserve < self.curve.len() {
            self.curve[index] = CurvePoint {
                operation: self.operation as u64,
                live_bytes: self.live_bytes,
                usable_bytes: self.usable_bytes,
                anonymous_bytes,
            };
            self.outcome.points += 1;
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
        if self.live_bytes > self.outcome.live_bytes_peak {
            self.outcome.live_bytes_peak = self.live_bytes;
            self.outcome.usable_bytes_at_live_peak = self.usable_bytes;
        }
        // SAFETY: the allocator has just returned the block for `size` bytes.
        unsafe { touch(self.policy, returned) };
        if is_new_height(self.live_bytes, self.sampled_live_bytes) {
            self.sample(REGULAR_SAMPLES + 2);
        }
    }

    fn remove(&mut self, slot: usize) {
        let gone = std::mem::take(&mut self.slots[slot]);
        self.live_bytes -= gone.live_bytes;
        self.usable_bytes -= gone.usable_bytes;
    }
}

impl Observer for Recorder<'_> {
    fn step(&mut self, operation: usize) {
        self.operation = operation;
        if operation.is_multiple_of(self.stride) {
            self.sample(0);
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

/// Replays once and drains. `start` is the process's private memory before the subject was first
/// called. `slots` has an entry per slot of the program, `curve` room for at least
/// 1100 points; both are the harness's own memory and must be resident already.
pub fn record(
    replayer: &mut Replayer<'_>,
    policy: Touch,
    slots: &mut [SlotBytes],
    curve: &mut [CurvePoint],
    reader: &ResidentReader,
    start: u64,
) -> Result<MemoryOutcome, Failure> {
    let operations = replayer.program().words().len();
    let mut recorder = Recorder {
        reader,
        functions: *replayer.functions(),
        policy,
        slots,
        curve,
        outcome: MemoryOutcome {
            anonymous_start_bytes: start,
            anonymous_peak_bytes: start,
            ..MemoryOutcome::default()
        },
        operation: 0,
        stride: operations.div_ceil(REGULAR_SAMPLES).max(1),
        live_bytes: 0,
        usable_bytes: 0,
        sampled_live_bytes: 0,
    };
    recorder.outcome.operations = replayer.replay(&mut recorder)? as u64;
    recorder.operation = operations;
    recorder.sample(0);
    recorder.stride = usize::MAX;
    replayer.drain(&mut recorder)?;
    let drained = reader.anonymous_bytes().unwrap_or(0);
    recorder.outcome.anonymous_drained_bytes = drained;
    recorder.outcome.anonymous_peak_bytes = recorder.outcome.anonymous_peak_bytes.max(drained);
    Ok(recorder.outcome)
}
