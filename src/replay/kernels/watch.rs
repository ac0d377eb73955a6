//! What is done around the allocator's calls of a kernel: the touch policy alone, or bookkeeping as
//! well while memory is measured.

use core::ffi::c_void;
use std::sync::Mutex;
use std::time::Instant;

use crate::measure::results::Touch;
use crate::replay::live_pages::LivePages;
use crate::replay::memory::{CurvePoint, MemoryOutcome, is_due, is_new_height, nanoseconds_since};
use crate::replay::resident::{Gauge, page_bytes};
use crate::replay::serial::Returned;
use crate::replay::speed;
use crate::subject::functions::Functions;

/// Regular samples over a run.
const REGULAR_SAMPLES: u64 = 1000;
/// The clock is read once in so many operations.
const CLOCK_OPERATIONS: u64 = 64;

/// Done around the allocator's calls, by all threads of a kernel.
pub(super) trait Watch: Sync {
    /// After each successful allocation.
    ///
    /// # Safety
    /// `block` is valid for `size` bytes, and the caller's alone.
    unsafe fn allocated(&self, block: *mut c_void, size: usize);

    /// Before each free.
    ///
    /// # Safety
    /// `block` came from `allocated` of the same watch, and is the caller's alone.
    unsafe fn releasing(&self, block: *mut c_void);
}

/// The touch policy, as the replay of traces follows it.
#[derive(Clone, Copy)]
pub(super) struct Touching(Touch);

impl Touching {
    pub(super) fn new(policy: Touch) -> Self {
        Self(policy)
    }
}

impl Watch for Touching {
    #[inline(always)]
    unsafe fn allocated(&self, block: *mut c_void, size: usize) {
        let returned = Returned {
            block,
            slot: 0,
            size,
            alignment: 0,
            zeroed: false,
            touched_pages: u32::MAX,
        };
        // SAFETY: the caller's promise.
        unsafe { speed::touch(self.0, &returned) };
    }

    #[inline(always)]
    unsafe fn releasing(&self, _block: *mut c_void) {}
}

/// Follows live bytes, usable bytes and RSS. A lock orders the threads: nothing is timed.
pub(super) struct Account<'a> {
    functions: Functions,
    touching: Touching,
    gauge: &'a Gauge,
    stride: u64,
    state: Mutex<State<'a>>,
}

struct State<'a> {
    curve: &'a mut [CurvePoint],
    outcome: MemoryOutcome,
    operations: u64,
    live_bytes: u64,
    usable_bytes: u64,
    /// Highest live bytes at any sample.
    sampled_live_bytes: u64,
    live_pages: LivePages,
    start: Instant,
    sampled_ns: u64,
}

impl<'a> Account<'a> {
    pub(super) fn new(
        functions: Functions,
        touching: Touching,
        operations: u64,
        curve: &'a mut [CurvePoint],
        gauge: &'a Gauge,
    ) -> Self {
        let stride = operations
            .div_ceil(REGULAR_SAMPLES.min(curve.len() as u64 / 2).max(1))
            .max(1);
        let state = State {
            curve,
            outcome: MemoryOutcome::new(gauge),
            operations: 0,
            live_bytes: 0,
            usable_bytes: 0,
            sampled_live_bytes: 0,
            live_pages: LivePages::new(page_bytes() as u64),
            start: Instant::now(),
            sampled_ns: 0,
        };
        Self {
            functions,
            touching,
            gauge,
            stride,
            state: Mutex::new(state),
        }
    }

    /// What was found; every block is freed by now.
    pub(super) fn finish(self) -> MemoryOutcome {
        let mut state = self
            .state
            .into_inner()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        // Whatever happened in the calls since the last sample.
        state.sample(self.gauge);
        state.outcome
    }

    fn usable(&self, block: *mut c_void) -> u64 {
        // SAFETY: both callers hold a live block of these functions.
        unsafe { (self.functions.malloc_usable_size)(block) as u64 }
    }

    /// One more operation: changes the books under the lock and samples when it is time.
    fn operation(&self, change: impl FnOnce(&mut State<'a>)) {
        let mut state = self
            .state
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        change(&mut state);
        state.operations += 1;
        if state.operations.is_multiple_of(self.stride)
            || is_new_height(state.live_bytes, state.sampled_live_bytes)
            || state.operations.is_multiple_of(CLOCK_OPERATIONS)
                && is_due(nanoseconds_since(state.start), state.sampled_ns)
        {
            state.sample(self.gauge);
        }
    }
}

impl State<'_> {
    fn sample(&mut self, gauge: &Gauge) {
        let reading = gauge.read();
        self.sampled_ns = nanoseconds_since(self.start);
        let peak = &mut self.outcome.peak;
        peak.note(gauge, &reading, self.operations, self.live_bytes);
        self.sampled_live_bytes = self.sampled_live_bytes.max(self.live_bytes);
        if let Some(point) = self.curve.get_mut(self.outcome.points as usize) {
            *point = CurvePoint {
                operation: self.operations,
                live_bytes: self.live_bytes,
                usable_bytes: self.usable_bytes,
                held_bytes: reading.held_bytes(),
                elapsed_ns: self.sampled_ns,
            };
            self.outcome.points += 1;
        }
    }
}

impl Watch for Account<'_> {
    unsafe fn allocated(&self, block: *mut c_void, size: usize) {
        // SAFETY: the caller's promise; a kernel's blocks have room for a `u64` (`Kernel::check`).
        unsafe {
            self.touching.allocated(block, size);
            block.cast::<u64>().write_unaligned(size as u64);
        }
        let usable_bytes = self.usable(block);
        self.operation(|state| {
            state.live_bytes += size as u64;
            state.usable_bytes += usable_bytes;
            state.live_pages.add(size as u64);
            if state.live_bytes > state.outcome.live_bytes_peak {
                state.outcome.live_bytes_peak = state.live_bytes;
                state.outcome.usable_bytes_at_live_peak = state.usable_bytes;
                state.outcome.live_page_bytes_at_live_peak = state.live_pages.bytes();
            }
        });
    }

    unsafe fn releasing(&self, block: *mut c_void) {
        // SAFETY: `allocated` wrote the size there, and nobody else has the block.
        let size = unsafe { block.cast::<u64>().read_unaligned() };
        let usable_bytes = self.usable(block);
        // Wrapping: an allocator that hands out one block twice must not end the measurement.
        self.operation(|state| {
            state.live_bytes = state.live_bytes.wrapping_sub(size);
            state.usable_bytes = state.usable_bytes.wrapping_sub(usable_bytes);
            state.live_pages.remove(size);
        });
    }
}
