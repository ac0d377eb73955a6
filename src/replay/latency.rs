//! The latency pass: a clock is read right before and right after each call of the allocator. What
//! the touch policy writes comes after the second reading, so the page faults of first writes into a
//! block are not in these times, as they are the program's; nor is waiting for another thread, which
//! comes before the first one.
//!
//! One store per operation keeps the time; everything else is done by the parent. What happened
//! during the slowest operations is of this same replay: whenever an operation, or the time between
//! two, took longer than any page fault or context switch could be short, the kernel's counts for the
//! thread are read afterwards, outside the time taken. So what is new at the reading after a slow
//! operation happened in it. System calls cannot be counted without making them slow: they are of a
//! second replay, in a process of its own ([`explain`]), which also tells whether the same operations
//! are slow again.

mod explain;

use core::marker::PhantomData;

pub use explain::explain;
pub(super) use explain::{Explainer, Findings};

use super::clock::{self, Calibration, Clock, Monotonic, Reading, Tsc};
use super::memory::Draining;
use super::serial::{Failure, Fault, Observer, Replayer, Returned};
use super::slots::SlotTable;
use super::speed::touch;
use crate::measure::results::{LatencyClock, Touch};

/// Slowest operations that are told apart.
pub const WORST: usize = 10;
/// Kinds of system calls told of one operation.
pub const CALL_KINDS: usize = 8;
/// No switch away and back is shorter than this.
const SWITCH_NS: u64 = 1000;

/// One of the slowest operations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Worst {
    /// Its number in the recorded total order.
    pub operation: u64,
    /// Its time, the clock's cost included.
    pub ticks: u64,
    /// What the kernel counted of the thread meanwhile.
    pub usage: Usage,
    /// 1 if the second replay came to it.
    pub is_second_known: u64,
    /// Its time in the second replay, the clock's cost subtracted.
    pub second_ns: u64,
    /// 1 if the system calls are known.
    pub are_system_calls_known: u64,
    /// Number and count of each kind of system call in the second replay; a count of 0 is none.
    pub system_calls: [[u64; 2]; CALL_KINDS],
}

/// The kernel's counts for a thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Usage {
    /// Page faults without input or output.
    pub minor_faults: u64,
    /// Page faults with input or output.
    pub major_faults: u64,
    /// Context switches since it waited for something.
    pub own_switches: u64,
    /// Context switches since another thread was to run.
    pub forced_switches: u64,
}

impl Usage {
    /// Of the calling thread, until now.
    fn of_thread() -> Self {
        // SAFETY: a structure of numbers, for which zeroes are valid; it has room for the result.
        let usage = unsafe {
            let mut usage: libc::rusage = core::mem::zeroed();
            libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage);
            usage
        };
        let count = |number: libc::c_long| u64::try_from(number).unwrap_or(0);
        Self {
            minor_faults: count(usage.ru_minflt),
            major_faults: count(usage.ru_majflt),
            own_switches: count(usage.ru_nvcsw),
            forced_switches: count(usage.ru_nivcsw),
        }
    }

    fn since(self, before: Self) -> Self {
        Self {
            minor_faults: self.minor_faults.saturating_sub(before.minor_faults),
            major_faults: self.major_faults.saturating_sub(before.major_faults),
            own_switches: self.own_switches.saturating_sub(before.own_switches),
            forced_switches: self.forced_switches.saturating_sub(before.forced_switches),
        }
    }
}

/// What one thread notes beside the times. On cache lines of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(128))]
pub struct Tally {
    /// Calls that ended on another processor than they began on.
    pub migrated: u64,
    /// Calls whose second reading was below the first one: they have no time.
    pub backward: u64,
    /// Entries of `worst` in use.
    pub worst_count: u64,
    /// The slowest operations, in no order.
    pub worst: [Worst; WORST],
}

impl Tally {
    /// The entries in use.
    pub fn worst(&self) -> &[Worst] {
        &self.worst[..(self.worst_count as usize).min(WORST)]
    }

    /// The entries in use, to change.
    pub fn worst_mut(&mut self) -> &mut [Worst] {
        let used = (self.worst_count as usize).min(WORST);
        &mut self.worst[..used]
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

    /// Operations that took no longer need not be entered.
    fn least_ticks(&self) -> u64 {
        match self.worst() {
            all if all.len() < WORST => 0,
            all => all.iter().map(|entry| entry.ticks).min().unwrap_or(0),
        }
    }

    /// Adds what another thread noted.
    pub(super) fn add(&mut self, other: &Self) {
        self.migrated += other.migrated;
        self.backward += other.backward;
        for worst in other.worst() {
            self.note(*worst);
        }
    }
}

/// What the child tells beside the times.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C)]
pub struct LatencyOutcome {
    /// 1 if the clock is the time-stamp counter, 0 if it is CLOCK_MONOTONIC.
    pub is_time_stamp_counter: u64,
    /// Ticks per second.
    pub hertz: f64,
    /// Median of the time between two readings with nothing between them.
    pub cost_ticks: u64,
    /// The clock advances by so many at once.
    pub step_ticks: u64,
    /// Over all threads.
    pub tally: Tally,
}

/// How a time stands in the table: 0 is none.
pub fn ticks_of(time: u64) -> Option<u64> {
    time.checked_sub(1)
}

/// What stopwatches need to know before the replay.
#[derive(Debug)]
pub(super) struct Bench<C> {
    calibration: Calibration,
    pub(super) cost_ticks: u64,
    step_ticks: u64,
    /// No page fault and no context switch is shorter.
    slow_ticks: u64,
    clock: PhantomData<fn() -> C>,
}

impl<C: Clock> Bench<C> {
    pub(super) fn set_up() -> Self {
        let calibration = Calibration::now::<C>();
        let clock::Cost {
            ticks: cost_ticks,
            step_ticks,
        } = clock::cost::<C>();
        let hertz = calibration.hertz::<C>();
        let switch_ticks = (hertz * SWITCH_NS as f64 / 1e9) as u64 + cost_ticks;
        // Half of the shortest seen, since those seen are not all there are.
        let slow_ticks = clock::shortest_fault_ticks::<C>().map_or(switch_ticks, |fault| {
            (cost_ticks + fault.saturating_sub(cost_ticks) / 2).min(switch_ticks)
        });
        Self {
            calibration,
            cost_ticks,
            step_ticks,
            slow_ticks,
            clock: PhantomData,
        }
    }

    /// Ticks per second over all the time since it was set up.
    pub(super) fn hertz(&self) -> f64 {
        self.calibration.hertz::<C>()
    }

    /// After the replay.
    pub(super) fn tell(&self, outcome: &mut LatencyOutcome) {
        outcome.is_time_stamp_counter = u64::from(C::KIND == LatencyClock::TimeStampCounter);
        outcome.hertz = self.hertz();
        outcome.cost_ticks = self.cost_ticks;
        outcome.step_ticks = self.step_ticks;
    }
}

/// Times the calls of one thread.
pub(super) struct Stopwatch<'a, C> {
    policy: Touch,
    times: SlotTable<'a, u64>,
    /// Where the next time goes.
    place: usize,
    operation: usize,
    started: Reading,
    ended: u64,
    slow_ticks: u64,
    /// An operation that took longer is looked at: for the list of the slowest, or for the kernel's
    /// counts.
    bar_ticks: u64,
    /// At the last look.
    usage: Usage,
    tally: &'a mut Tally,
    clock: PhantomData<fn() -> C>,
}

impl<'a, C: Clock> Stopwatch<'a, C> {
    /// For the calling thread, whose times go to the table from `place` on.
    ///
    /// # Safety
    /// The table has a place for each operation of the thread from there on, which no other thread
    /// uses.
    pub(super) unsafe fn new(
        bench: &Bench<C>,
        policy: Touch,
        times: SlotTable<'a, u64>,
        place: usize,
        tally: &'a mut Tally,
    ) -> Self {
        Self {
            policy,
            times,
            place,
            operation: 0,
            started: Reading::default(),
            slow_ticks: bench.slow_ticks,
            bar_ticks: bench.slow_ticks.min(tally.least_ticks()),
            usage: Usage::of_thread(),
            tally,
            ended: C::read().ticks,
            clock: PhantomData,
        }
    }

    /// Something may have happened between two calls: it is not the next one's.
    #[cold]
    fn long_gap(&mut self) {
        self.usage = Usage::of_thread();
        self.started = C::read();
    }

    #[cold]
    fn unusual(&mut self, ended: Reading, ticks: u64) {
        self.tally.migrated += u64::from(ended.processor != self.started.processor);
        if ended.ticks < self.started.ticks {
            self.tally.backward += 1;
            // SAFETY: as in `after_call`, which has just set it.
            unsafe { self.times.set(self.place - 1, 0) };
            self.usage = Usage::of_thread();
        } else if ticks > self.bar_ticks {
            // In less time than that nothing of the kind fits.
            let is_slow = ticks > self.slow_ticks;
            let now = if is_slow {
                Usage::of_thread()
            } else {
                self.usage
            };
            self.tally.note(Worst {
                operation: self.operation as u64,
                ticks,
                usage: now.since(self.usage),
                ..Worst::default()
            });
            self.usage = now;
            self.bar_ticks = self.slow_ticks.min(self.tally.least_ticks());
        }
        self.ended = C::read().ticks;
    }
}

impl<C: Clock> Observer for Stopwatch<'_, C> {
    #[inline(always)]
    fn step(&mut self, operation: usize) {
        self.operation = operation;
    }

    #[inline(always)]
    fn before_call(&mut self) {
        self.started = C::read();
        if self.started.ticks.wrapping_sub(self.ended) > self.slow_ticks {
            self.long_gap();
        }
    }

    #[inline(always)]
    fn after_call(&mut self) {
        let ended = C::read();
        // Backwards is more than any bar.
        let ticks = ended.ticks.wrapping_sub(self.started.ticks);
        // SAFETY: whoever made the stopwatch vouched that there is a place for each operation, and
        // this is called once for each.
        unsafe { self.times.set(self.place, ticks.wrapping_add(1)) };
        self.place += 1;
        self.ended = ended.ticks;
        if ticks > self.bar_ticks || ended.processor != self.started.processor {
            self.unusual(ended, ticks);
        }
    }

    #[inline(always)]
    unsafe fn allocated(&mut self, returned: &Returned) -> Result<(), Fault> {
        // SAFETY: the caller's promise.
        unsafe { touch(self.policy, returned) };
        Ok(())
    }
}

/// Replays once, timing each operation, and drains. `times` has a place for each operation of the
/// program, all zero and resident already; see [`ticks_of`]. Returns the operations performed.
pub fn record(
    replayer: &mut Replayer<'_>,
    policy: Touch,
    times: &mut [u64],
    outcome: &mut LatencyOutcome,
) -> Result<usize, Failure> {
    match clock::choose() {
        LatencyClock::TimeStampCounter => record_with::<Tsc>(replayer, policy, times, outcome),
        LatencyClock::Monotonic => record_with::<Monotonic>(replayer, policy, times, outcome),
    }
}

fn record_with<C: Clock>(
    replayer: &mut Replayer<'_>,
    policy: Touch,
    times: &mut [u64],
    outcome: &mut LatencyOutcome,
) -> Result<usize, Failure> {
    let words = replayer.program().words().len();
    assert_eq!(times.len(), words, "a place for each operation");
    let bench = Bench::<C>::set_up();
    let table = SlotTable::new(times);
    // SAFETY: a place for each operation, as asserted, on the only thread.
    let mut stopwatch = unsafe { Stopwatch::new(&bench, policy, table, 0, &mut outcome.tally) };
    let operations = replayer.replay(&mut stopwatch)?;
    bench.tell(outcome);
    replayer.drain(&mut Draining)?;
    Ok(operations)
}

#[cfg(test)]
mod tests;
