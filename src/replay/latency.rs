//! The latency pass: the clock is read right before and right after each call of the allocator. What
//! the touch policy writes comes after the second reading, so the page faults of first writes into a
//! block are not in these times, as they are the program's.
//!
//! The clock is the time-stamp counter on x86-64, fenced so that the call lies between the readings,
//! and CLOCK_MONOTONIC elsewhere. One store per operation keeps the ticks; everything else is done by
//! the parent.
//!
//! What happened during the slowest operations comes from two sources. Forced context switches are of
//! this same replay: whenever an operation, or the time between two, took longer than
//! [`SLOW_NS`], which no switch away and back is shorter than, the kernel's count is read afterwards,
//! outside the time taken; so what is new at the reading after a slow operation happened in it. Page
//! faults and system calls are of a second replay in a process of its own, whose counts are read
//! around exactly those operations: [`explain`].

use std::time::{Duration, Instant};

use super::memory::Draining;
use super::serial::{Failure, Fault, Observer, Replayer, Returned};
use super::speed::touch;
use super::system_calls::{Counting, NUMBER_LIMIT};
use crate::measure::results::Touch;

/// Slowest operations that are told apart.
pub const WORST: usize = 10;
/// Kinds of system calls told of one operation.
pub const CALL_KINDS: usize = 8;
/// Longer than this is slow enough to have hidden a context switch.
pub const SLOW_NS: u64 = 1000;
/// Pairs of empty readings whose median is the clock's cost.
const COST_PAIRS: usize = 10_001;
/// The clock is calibrated over at least this time.
const CALIBRATION: Duration = Duration::from_millis(20);

/// One of the slowest operations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Worst {
    /// Its number.
    pub operation: u64,
    /// Its time, the clock's cost included.
    pub ticks: u64,
    /// Forced context switches during it.
    pub forced_switches: u64,
    /// 1 if the page faults are known.
    pub are_faults_known: u64,
    /// Page faults without input or output.
    pub minor_faults: u64,
    /// Page faults with input or output.
    pub major_faults: u64,
    /// 1 if the system calls are known.
    pub are_system_calls_known: u64,
    /// Number and count of each kind of system call; a count of 0 is none.
    pub system_calls: [[u64; 2]; CALL_KINDS],
}

/// What the child tells beside the ticks.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub struct LatencyOutcome {
    /// Ticks per second.
    pub hertz: f64,
    /// Median of the time between two readings with nothing between them.
    pub cost_ticks: u64,
    /// Entries of `worst` in use.
    pub worst_count: u64,
    /// The slowest operations, in no order.
    pub worst: [Worst; WORST],
}

impl LatencyOutcome {
    /// The entries in use.
    pub fn worst(&self) -> &[Worst] {
        &self.worst[..(self.worst_count as usize).min(WORST)]
    }

    /// Enters a slow operation if it is among the slowest.
    fn note(&mut self, worst: Worst) {
        let used = (self.worst_count as usize).min(WORST);
        if used < WORST {
            self.worst[used] = worst;
            self.worst_count += 1;
            return;
        }
        let least = self.worst.iter_mut().min_by_key(|entry| entry.ticks);
        if let Some(least) = least
            && least.ticks < worst.ticks
        {
            *least = worst;
        }
    }
}

/// The clock before a call: everything before it is done, nothing after it has begun.
#[inline(always)]
fn clock_before() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 processor has these instructions.
    unsafe {
        core::arch::x86_64::_mm_lfence();
        let ticks = core::arch::x86_64::_rdtsc();
        core::arch::x86_64::_mm_lfence();
        ticks
    }
    #[cfg(not(target_arch = "x86_64"))]
    nanoseconds(libc::CLOCK_MONOTONIC)
}

/// The clock after a call: `rdtscp` waits for what came before it.
#[inline(always)]
fn clock_after() -> u64 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: every x86-64 processor of the last fifteen years has these instructions.
    unsafe {
        let mut processor = 0;
        let ticks = core::arch::x86_64::__rdtscp(&raw mut processor);
        core::arch::x86_64::_mm_lfence();
        ticks
    }
    #[cfg(not(target_arch = "x86_64"))]
    nanoseconds(libc::CLOCK_MONOTONIC)
}

fn nanoseconds(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` has room for the result.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The two clocks at one moment.
#[derive(Clone, Copy, Debug)]
pub struct Calibration {
    ticks: u64,
    raw_ns: u64,
}

impl Calibration {
    /// Now; the reading of the two that was disturbed least of several.
    pub fn now() -> Self {
        let read = || {
            let before = clock_before();
            let raw_ns = nanoseconds(libc::CLOCK_MONOTONIC_RAW);
            let after = clock_after();
            let width = after.saturating_sub(before);
            let ticks = before + width / 2;
            (width, Self { ticks, raw_ns })
        };
        let mut best = read();
        for _ in 0..16 {
            let next = read();
            if next.0 < best.0 {
                best = next;
            }
        }
        best.1
    }

    /// Ticks per second from then until now, or a little later if that was too short a time.
    pub fn hertz(self) -> f64 {
        let start = Instant::now();
        loop {
            let now = Self::now();
            let elapsed_ns = now.raw_ns.saturating_sub(self.raw_ns);
            if u128::from(elapsed_ns) >= CALIBRATION.as_nanos() || start.elapsed() > CALIBRATION * 4
            {
                let ticks = now.ticks.saturating_sub(self.ticks);
                return ticks as f64 * 1e9 / elapsed_ns.max(1) as f64;
            }
        }
    }
}

/// Median of the time between two readings with nothing between them, in ticks.
pub fn clock_cost_ticks() -> u64 {
    let mut costs = [0u64; COST_PAIRS];
    for cost in &mut costs {
        let before = clock_before();
        *cost = clock_after().saturating_sub(before);
    }
    costs.sort_unstable();
    costs[COST_PAIRS / 2]
}

/// Page faults of this thread without and with input or output, and forced context switches.
fn thread_usage() -> [u64; 3] {
    // SAFETY: a structure of numbers, for which zeroes are valid; it has room for the result.
    let usage = unsafe {
        let mut usage: libc::rusage = core::mem::zeroed();
        libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage);
        usage
    };
    [usage.ru_minflt, usage.ru_majflt, usage.ru_nivcsw]
        .map(|count| u64::try_from(count).unwrap_or(0))
}

struct Stopwatch<'a> {
    policy: Touch,
    ticks: &'a mut [u32],
    operation: usize,
    started: u64,
    ended: u64,
    slow_ticks: u64,
    /// Forced context switches at the last reading.
    switches: u64,
    outcome: &'a mut LatencyOutcome,
}

impl Stopwatch<'_> {
    #[cold]
    fn slow_operation(&mut self, ticks: u64) {
        let [.., switches] = thread_usage();
        self.outcome.note(Worst {
            operation: self.operation as u64,
            ticks,
            forced_switches: switches - self.switches,
            ..Worst::default()
        });
        self.switches = switches;
        self.ended = clock_after();
    }

    #[cold]
    fn slow_gap(&mut self) {
        let [.., switches] = thread_usage();
        self.switches = switches;
    }
}

impl Observer for Stopwatch<'_> {
    #[inline(always)]
    fn step(&mut self, operation: usize) {
        self.operation = operation;
        if clock_after().saturating_sub(self.ended) > self.slow_ticks {
            self.slow_gap();
        }
    }

    #[inline(always)]
    fn before_call(&mut self) {
        self.started = clock_before();
    }

    #[inline(always)]
    fn after_call(&mut self) {
        self.ended = clock_after();
        let ticks = self.ended.saturating_sub(self.started);
        self.ticks[self.operation] = u32::try_from(ticks).unwrap_or(u32::MAX);
        if ticks > self.slow_ticks {
            self.slow_operation(ticks);
        }
    }

    #[inline(always)]
    unsafe fn allocated(&mut self, returned: &Returned) -> Result<(), Fault> {
        // SAFETY: the caller's promise.
        unsafe { touch(self.policy, returned) };
        Ok(())
    }
}

/// Replays once, timing each operation, and drains. `ticks` has a place for each operation of the
/// program, resident already. Returns the operations performed.
pub fn record(
    replayer: &mut Replayer<'_>,
    policy: Touch,
    ticks: &mut [u32],
    outcome: &mut LatencyOutcome,
) -> Result<usize, Failure> {
    let calibration = Calibration::now();
    outcome.cost_ticks = clock_cost_ticks();
    let slow_ticks = (calibration.hertz() * SLOW_NS as f64 / 1e9) as u64;
    let [.., switches] = thread_usage();
    let operations = replayer.replay(&mut Stopwatch {
        policy,
        ticks,
        operation: 0,
        started: 0,
        ended: clock_after(),
        slow_ticks,
        switches,
        outcome,
    })?;
    outcome.hertz = calibration.hertz();
    replayer.drain(&mut Draining)?;
    Ok(operations)
}

struct Explainer<'a> {
    policy: Touch,
    worst: &'a mut [Worst],
    /// The entry whose operation comes next.
    next: usize,
    is_next_now: bool,
    before: [u64; 3],
    calls_before: [u64; NUMBER_LIMIT],
    counting: Option<Counting>,
}

impl Observer for Explainer<'_> {
    fn step(&mut self, operation: usize) {
        self.is_next_now = self
            .worst
            .get(self.next)
            .is_some_and(|worst| worst.operation == operation as u64);
    }

    fn before_call(&mut self) {
        if self.is_next_now {
            if let Some(counting) = &self.counting {
                self.calls_before = counting.counts();
            }
            self.before = thread_usage();
            if let Some(counting) = &self.counting {
                counting.enter();
            }
        }
    }

    fn after_call(&mut self) {
        if !self.is_next_now {
            return;
        }
        if let Some(counting) = &self.counting {
            counting.leave();
        }
        let after = thread_usage();
        let worst = &mut self.worst[self.next];
        self.next += 1;
        worst.are_faults_known = 1;
        worst.minor_faults = after[0] - self.before[0];
        worst.major_faults = after[1] - self.before[1];
        let Some(counting) = &self.counting else {
            return;
        };
        worst.are_system_calls_known = 1;
        let calls = counting.counts();
        let kinds = calls
            .iter()
            .zip(&self.calls_before)
            .enumerate()
            .filter(|(_, (now, before))| now > before)
            .map(|(number, (now, before))| [number as u64, now - before]);
        for (place, kind) in worst.system_calls.iter_mut().zip(kinds) {
            *place = kind;
        }
    }

    unsafe fn allocated(&mut self, returned: &Returned) -> Result<(), Fault> {
        // SAFETY: the caller's promise.
        unsafe { touch(self.policy, returned) };
        Ok(())
    }
}

/// Replays once and drains; page faults and system calls are counted during the operations that
/// `worst` names, ascending. Nothing is timed. Returns the operations performed.
pub fn explain(
    replayer: &mut Replayer<'_>,
    policy: Touch,
    worst: &mut [Worst],
) -> Result<usize, Failure> {
    let counting = Counting::begin();
    if let Some(counting) = &counting {
        // The handler's own pages are there before it is first needed.
        counting.enter();
        // SAFETY: a call that only tells a number.
        unsafe { libc::syscall(libc::SYS_getppid) };
        counting.leave();
    }
    let mut explainer = Explainer {
        policy,
        worst,
        next: 0,
        is_next_now: false,
        before: [0; 3],
        calls_before: [0; NUMBER_LIMIT],
        counting,
    };
    let operations = replayer.replay(&mut explainer)?;
    drop(explainer);
    replayer.drain(&mut Draining)?;
    Ok(operations)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_keeps_pace_with_the_kernels() {
        let calibration = Calibration::now();
        let hertz = calibration.hertz();
        let (ticks, start) = (clock_before(), Instant::now());
        while start.elapsed() < Duration::from_millis(50) {
            std::hint::spin_loop();
        }
        let (elapsed, ticks) = (start.elapsed(), clock_after() - ticks);
        let seconds = ticks as f64 / hertz;
        // Two readings of different clocks with other load present: a tenth is enough to tell a wrong
        // unit.
        assert!(
            (seconds / elapsed.as_secs_f64() - 1.0).abs() < 0.1,
            "{hertz} Hz"
        );
        assert!((clock_cost_ticks() as f64) < hertz / 1e5, "less than 10 µs");
    }

    #[test]
    fn the_slowest_are_kept() {
        let mut outcome = LatencyOutcome {
            hertz: 1e9,
            cost_ticks: 0,
            worst_count: 0,
            worst: [Worst::default(); WORST],
        };
        for operation in 0..100 {
            let ticks = operation * 37 % 101;
            outcome.note(Worst {
                operation,
                ticks,
                ..Worst::default()
            });
        }
        let mut kept: Vec<u64> = outcome.worst().iter().map(|worst| worst.ticks).collect();
        kept.sort_unstable();
        let mut all: Vec<u64> = (0..100).map(|operation| operation * 37 % 101).collect();
        all.sort_unstable();
        assert_eq!(kept, all[90..]);
    }
}
