//! Where the time of a replay's threads goes: the allocator's calls, or the harness's hand-over.
//!
//! What a thread does for the harness only (waiting, waking, making and joining threads, pacing)
//! stands between two readings of its own CPU clock, so that what is left is the CPU time of the
//! allocator's calls, of the touching, and of the loop around them. The clock is read where a thread
//! enters the kernel anyway, never around an operation.
//!
//! Time that a thread waits for a lock inside the allocator is neither waiting here nor, if it
//! sleeps, CPU time: it shows in the wall time alone. Time that it spins there is CPU time.

use core::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// One thread's account.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Account {
    /// Time it waited for other threads: at an edge, or to join one.
    waiting_ns: u64,
    /// CPU time of everything that is done for the harness only.
    hand_over_cpu_ns: u64,
    /// Time it slept until the recorded time of an operation.
    pacing_ns: u64,
    lateness: Lateness,
}

/// How late operations with a recorded time began.
#[derive(Clone, Copy, Debug, Default)]
struct Lateness {
    operations: u64,
    sum_ns: u64,
    max_ns: u64,
}

impl Account {
    /// Performs what is done for the harness only.
    #[inline(never)]
    pub(super) fn apart<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let cpu_ns = thread_cpu_ns();
        let result = work();
        self.hand_over_cpu_ns += thread_cpu_ns().saturating_sub(cpu_ns);
        result
    }

    /// Likewise, while it waits for another thread.
    #[inline(never)]
    pub(super) fn waiting<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let start_ns = monotonic_ns();
        let result = self.apart(work);
        self.waiting_ns += monotonic_ns() - start_ns;
        result
    }

    /// Sleeps until `target_ns` of the monotonic clock, in steps after each of which it asks whether
    /// to go on. Returns whether it did to the end.
    pub(super) fn pace(&mut self, target_ns: u64, go_on: impl Fn() -> bool) -> bool {
        let mut now_ns = monotonic_ns();
        if now_ns < target_ns {
            let start_ns = now_ns;
            let is_done = self.apart(|| {
                while now_ns < target_ns && go_on() {
                    sleep_until(target_ns.min(now_ns + PACE_STEP_NS));
                    now_ns = monotonic_ns();
                }
                now_ns >= target_ns
            });
            self.pacing_ns += now_ns - start_ns;
            if !is_done {
                return false;
            }
        }
        let late_ns = now_ns - target_ns;
        self.lateness.operations += 1;
        self.lateness.sum_ns += late_ns;
        self.lateness.max_ns = self.lateness.max_ns.max(late_ns);
        true
    }
}

/// How long a thread sleeps at most before it looks whether the replay was given up.
const PACE_STEP_NS: u64 = 20_000_000;

/// The accounts of all threads, summed.
#[derive(Debug, Default)]
pub(super) struct Totals {
    operations: AtomicU64,
    cpu_ns: AtomicU64,
    hand_over_cpu_ns: AtomicU64,
    waiting_ns: AtomicU64,
    pacing_ns: AtomicU64,
    alive_ns: AtomicU64,
    paced_operations: AtomicU64,
    lateness_sum_ns: AtomicU64,
    lateness_max_ns: AtomicU64,
}

impl Totals {
    /// Adds a thread's account; `life` began when it did.
    pub(super) fn add(&self, account: &Account, life: &Life, operations: u64) {
        let cpu_ns = thread_cpu_ns().saturating_sub(life.cpu_start_ns);
        let own_ns = cpu_ns.saturating_sub(account.hand_over_cpu_ns);
        let alive_ns = monotonic_ns() - life.start_ns;
        let Lateness {
            operations: paced,
            sum_ns,
            max_ns,
        } = account.lateness;
        for (total, own) in [
            (&self.operations, operations),
            (&self.cpu_ns, own_ns),
            (&self.hand_over_cpu_ns, account.hand_over_cpu_ns),
            (&self.waiting_ns, account.waiting_ns),
            (&self.pacing_ns, account.pacing_ns),
            (&self.alive_ns, alive_ns),
            (&self.paced_operations, paced),
            (&self.lateness_sum_ns, sum_ns),
        ] {
            // Read after all threads were joined, which orders it.
            total.fetch_add(own, Relaxed);
        }
        self.lateness_max_ns.fetch_max(max_ns, Relaxed);
    }

    /// What the threads added.
    pub(super) fn timed(&self) -> Timed {
        let of = |total: &AtomicU64| total.load(Relaxed);
        let paced = of(&self.paced_operations).max(1);
        Timed {
            operations: of(&self.operations),
            cpu_ns: of(&self.cpu_ns),
            hand_over_cpu_ns: of(&self.hand_over_cpu_ns),
            waiting_ns: of(&self.waiting_ns),
            pacing_ns: of(&self.pacing_ns),
            alive_ns: of(&self.alive_ns),
            lateness_mean_ns: of(&self.lateness_sum_ns) / paced,
            lateness_max_ns: of(&self.lateness_max_ns),
            ..Timed::default()
        }
    }
}

/// One replay of the whole trace. Plain numbers, since it travels between processes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(C)]
pub struct Timed {
    /// From before the first operation until the last thread was joined.
    pub elapsed_ns: u64,
    /// CPU time of the threads at their operations, summed: the hand-over is not in it, nor what
    /// happens before a thread's first and after its last operation.
    pub cpu_ns: u64,
    /// CPU time of the threads at the hand-over, summed: waiting, waking, making and joining
    /// threads, pacing.
    pub hand_over_cpu_ns: u64,
    /// CPU time of the whole process: both of the above, what allocators and the system do when
    /// threads begin and end, and threads that an allocator has of its own.
    pub process_cpu_ns: u64,
    /// Time the threads waited for one another, summed. What one look settles is not counted.
    pub waiting_ns: u64,
    /// Time the threads slept until the recorded time of an operation, summed.
    pub pacing_ns: u64,
    /// How much later than recorded operations began, on the average; 0 unless paced.
    pub lateness_mean_ns: u64,
    /// The latest of them.
    pub lateness_max_ns: u64,
    /// Time that the threads were alive, summed.
    pub alive_ns: u64,
    /// Most threads alive at once.
    pub threads_alive_peak: u32,
    /// Threads that performed something.
    pub threads: u32,
    /// Operations performed.
    pub operations: u64,
}

/// The beginning of a thread.
#[derive(Clone, Copy, Debug)]
pub(super) struct Life {
    start_ns: u64,
    cpu_start_ns: u64,
}

impl Life {
    /// Now, of the calling thread.
    pub(super) fn begin() -> Self {
        Self {
            start_ns: monotonic_ns(),
            cpu_start_ns: thread_cpu_ns(),
        }
    }
}

/// Nanoseconds of CLOCK_MONOTONIC.
pub(super) fn monotonic_ns() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC)
}

/// CPU time of the process.
pub(in crate::replay) fn process_cpu_ns() -> u64 {
    clock_ns(libc::CLOCK_PROCESS_CPUTIME_ID)
}

fn thread_cpu_ns() -> u64 {
    clock_ns(libc::CLOCK_THREAD_CPUTIME_ID)
}

fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` has room for the answer.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Sleeps until then; may return earlier, for a signal.
fn sleep_until(monotonic_ns: u64) {
    let time = libc::timespec {
        tv_sec: (monotonic_ns / 1_000_000_000) as libc::time_t,
        tv_nsec: (monotonic_ns % 1_000_000_000) as libc::c_long,
    };
    // SAFETY: a valid time, and no place for what is left of it.
    unsafe {
        libc::clock_nanosleep(
            libc::CLOCK_MONOTONIC,
            libc::TIMER_ABSTIME,
            &raw const time,
            core::ptr::null_mut(),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spin(ns: u64) {
        let start = thread_cpu_ns();
        while thread_cpu_ns() - start < ns {
            core::hint::spin_loop();
        }
    }

    #[test]
    fn what_is_done_for_the_harness_is_no_time_of_the_operations() {
        let life = Life::begin();
        let mut account = Account::default();
        account.waiting(|| spin(20_000_000));
        let until = monotonic_ns() + 100_000_000;
        assert!(account.pace(until, || true));
        let totals = Totals::default();
        totals.add(&account, &life, 7);
        let timed = totals.timed();
        assert_eq!(timed.operations, 7);
        assert!(timed.hand_over_cpu_ns >= 20_000_000, "{timed:?}");
        assert!(timed.waiting_ns >= 20_000_000, "{timed:?}");
        assert!(timed.pacing_ns > 0, "{timed:?}");
        assert!(
            timed.alive_ns >= timed.waiting_ns + timed.pacing_ns,
            "{timed:?}"
        );
        // Nothing else was done but to read clocks.
        assert!(timed.cpu_ns < 10_000_000, "{timed:?}");
        assert_eq!(timed.lateness_mean_ns, timed.lateness_max_ns);
    }

    #[test]
    fn what_is_late_already_does_not_sleep() {
        let mut account = Account::default();
        let now = monotonic_ns();
        assert!(account.pace(now - 1_000, || panic!("nothing to wait for")));
        assert!(account.pacing_ns == 0 && account.lateness.max_ns >= 1_000);
        assert!(!account.pace(now + 3_600_000_000_000, || false), "given up");
    }
}
