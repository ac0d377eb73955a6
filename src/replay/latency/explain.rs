//! The second replay of the latency pass: the operations that were slowest in the first one are
//! timed again, with their system calls counted. Nothing else is looked at.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::{Bench, CALL_KINDS, WORST, Worst};
use crate::measure::results::{LatencyClock, Touch};
use crate::replay::clock::{self, Clock, Monotonic, Tsc};
use crate::replay::memory::Draining;
use crate::replay::serial::{Failure, Fault, Observer, Replayer, Returned};
use crate::replay::speed::touch;
use crate::replay::system_calls::{Counting, NUMBER_LIMIT};

/// What is found out about the operations that `worst` names, by all threads.
pub(in crate::replay) struct Findings<'a> {
    policy: Touch,
    /// The operations named, beside the list, so that it need not be locked for all the others.
    named: [Option<u64>; WORST],
    worst: Mutex<&'a mut [Worst]>,
}

impl<'a> Findings<'a> {
    pub(in crate::replay) fn new(policy: Touch, worst: &'a mut [Worst]) -> Self {
        Self {
            policy,
            named: core::array::from_fn(|index| Some(worst.get(index)?.operation)),
            worst: Mutex::new(worst),
        }
    }

    fn worst(&self) -> MutexGuard<'_, &'a mut [Worst]> {
        self.worst.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Times are noted in ticks; this makes nanoseconds of them, when the replay is over.
    pub(in crate::replay) fn finish<C: Clock>(self, bench: &Bench<C>) {
        let nanoseconds_per_tick = 1e9 / bench.hertz().max(1.0);
        for worst in self.worst().iter_mut() {
            let ticks = worst.second_ns.saturating_sub(bench.cost_ticks);
            worst.second_ns = (ticks as f64 * nanoseconds_per_tick).round() as u64;
        }
    }
}

/// The locked list, and the entry of the operation.
type UnderWay<'f, 'a> = (MutexGuard<'f, &'a mut [Worst]>, usize);

/// Looks at the named operations of one thread. The list of them is locked while one is under way, so
/// that two threads do not count each other's system calls; whoever holds it is inside the allocator,
/// and needs nothing of a thread that waits for it here.
pub(in crate::replay) struct Explainer<'f, 'a, C> {
    findings: &'f Findings<'a>,
    /// The operation that comes next.
    operation: u64,
    started: u64,
    under_way: Option<UnderWay<'f, 'a>>,
    calls_before: [u64; NUMBER_LIMIT],
    counting: Option<Counting>,
    clock: core::marker::PhantomData<fn() -> C>,
}

impl<'f, 'a, C: Clock> Explainer<'f, 'a, C> {
    /// For the calling thread.
    pub(in crate::replay) fn new(findings: &'f Findings<'a>) -> Self {
        let counting = Counting::join();
        if let Some(counting) = &counting {
            // Not while another thread counts.
            let _list = findings.worst();
            // The handler's own pages are there before it is first needed.
            counting.enter();
            // SAFETY: a call that only tells a number.
            unsafe { libc::syscall(libc::SYS_getppid) };
            counting.leave();
        }
        Self {
            findings,
            operation: 0,
            started: 0,
            under_way: None,
            calls_before: [0; NUMBER_LIMIT],
            counting,
            clock: core::marker::PhantomData,
        }
    }
}

impl<C: Clock> Observer for Explainer<'_, '_, C> {
    fn step(&mut self, operation: usize) {
        self.operation = operation as u64;
    }

    fn before_call(&mut self) {
        let mut named = self.findings.named.iter();
        let Some(index) = named.position(|named| *named == Some(self.operation)) else {
            return;
        };
        self.under_way = Some((self.findings.worst(), index));
        if let Some(counting) = &self.counting {
            self.calls_before = counting.counts();
        }
        self.started = C::read().ticks;
        if let Some(counting) = &self.counting {
            counting.enter();
        }
    }

    fn after_call(&mut self) {
        let Some((mut worst, index)) = self.under_way.take() else {
            return;
        };
        if let Some(counting) = &self.counting {
            counting.leave();
        }
        let ticks = C::read().ticks.saturating_sub(self.started);
        let worst = &mut worst[index];
        worst.is_second_known = 1;
        worst.second_ns = ticks;
        let Some(counting) = &self.counting else {
            return;
        };
        worst.are_system_calls_known = 1;
        worst.system_calls = [[0; 2]; CALL_KINDS];
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
        unsafe { touch(self.findings.policy, returned) };
        Ok(())
    }
}

/// Replays once and drains; time and system calls are noted of the operations that `worst` names.
/// Returns the operations performed.
pub fn explain(
    replayer: &mut Replayer<'_>,
    policy: Touch,
    worst: &mut [Worst],
) -> Result<usize, Failure> {
    match clock::choose() {
        LatencyClock::TimeStampCounter => explain_with::<Tsc>(replayer, policy, worst),
        LatencyClock::Monotonic => explain_with::<Monotonic>(replayer, policy, worst),
    }
}

fn explain_with<C: Clock>(
    replayer: &mut Replayer<'_>,
    policy: Touch,
    worst: &mut [Worst],
) -> Result<usize, Failure> {
    let bench = Bench::<C>::set_up();
    let findings = Findings::new(policy, worst);
    let operations = replayer.replay(&mut Explainer::<C>::new(&findings))?;
    findings.finish(&bench);
    replayer.drain(&mut Draining)?;
    Ok(operations)
}
