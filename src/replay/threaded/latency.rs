//! The latency pass on several threads: each times its own calls, into places of the table and a tally
//! that are its own. Waiting for a hand-over, and the making and joining of threads, come between two
//! calls and are in no time.

use super::program::ThreadedView;
use super::run::{Crew, Ended, Watcher};
use crate::measure::results::{LatencyClock, Touch};
use crate::replay::clock::{self, Clock, Monotonic, Tsc};
use crate::replay::latency::{Bench, Explainer, Findings, LatencyOutcome, Stopwatch, Tally, Worst};
use crate::replay::slots::SlotTable;
use crate::replay::speed::TouchNone;

/// Gives each thread its stopwatch.
struct Timekeeper<'a, C> {
    bench: &'a Bench<C>,
    policy: Touch,
    view: ThreadedView<'a>,
    times: SlotTable<'a, u64>,
    tallies: SlotTable<'a, Tally>,
}

impl<C: Clock> Watcher for Timekeeper<'_, C> {
    const NUMBERED: bool = true;
    type Observer<'w>
        = Stopwatch<'w, C>
    where
        Self: 'w;

    fn observer(&self, thread: u32) -> Self::Observer<'_> {
        let place = self.view.part(thread).first as usize;
        // SAFETY: `record_with` asserted that there is a tally for each thread and a place for each
        // word. The words of a thread are its own, and its operations are no more than those. The
        // thread that the process began with has no second observer before its first one is gone.
        unsafe {
            let tally = self.tallies.entry(thread as usize);
            Stopwatch::new(self.bench, self.policy, self.times, place, tally)
        }
    }
}

/// Replays once, timing each operation, and drains. `times` has a place for each word of the program
/// (see [`crate::replay::program::Call::place`]) and `tallies` one for each thread; both are zero, the
/// harness's own memory, and resident already. Returns the operations performed.
pub fn record(
    crew: &mut Crew<'_>,
    policy: Touch,
    times: &mut [u64],
    tallies: &mut [Tally],
    outcome: &mut LatencyOutcome,
) -> Result<u64, Ended> {
    match clock::choose() {
        LatencyClock::TimeStampCounter => record_with::<Tsc>(crew, policy, times, tallies, outcome),
        LatencyClock::Monotonic => record_with::<Monotonic>(crew, policy, times, tallies, outcome),
    }
}

fn record_with<C: Clock>(
    crew: &mut Crew<'_>,
    policy: Touch,
    times: &mut [u64],
    tallies: &mut [Tally],
    outcome: &mut LatencyOutcome,
) -> Result<u64, Ended> {
    let view = *crew.view();
    let words = view.program().words().len();
    assert_eq!(times.len(), words, "a place for each word");
    assert_eq!(
        tallies.len(),
        view.thread_count() as usize,
        "one per thread"
    );
    let bench = Bench::<C>::set_up();
    let done = crew.replay(&Timekeeper {
        bench: &bench,
        policy,
        view,
        times: SlotTable::new(times),
        tallies: SlotTable::new(&mut *tallies),
    })?;
    bench.tell(outcome);
    for tally in tallies {
        outcome.tally.add(tally);
    }
    crew.drain(&mut TouchNone).map_err(Ended::Wrong)?;
    Ok(done.operations)
}

struct Inquiry<'f, 'a, C> {
    findings: &'f Findings<'a>,
    clock: core::marker::PhantomData<fn() -> C>,
}

impl<'f, 'a, C: Clock> Watcher for Inquiry<'f, 'a, C> {
    const NUMBERED: bool = true;
    type Observer<'w>
        = Explainer<'f, 'a, C>
    where
        Self: 'w;

    fn observer(&self, _thread: u32) -> Self::Observer<'_> {
        Explainer::new(self.findings)
    }
}

/// Replays once and drains; time and system calls are noted of the operations that `worst` names.
/// Returns the operations performed.
pub fn explain(crew: &mut Crew<'_>, policy: Touch, worst: &mut [Worst]) -> Result<u64, Ended> {
    match clock::choose() {
        LatencyClock::TimeStampCounter => explain_with::<Tsc>(crew, policy, worst),
        LatencyClock::Monotonic => explain_with::<Monotonic>(crew, policy, worst),
    }
}

fn explain_with<C: Clock>(
    crew: &mut Crew<'_>,
    policy: Touch,
    worst: &mut [Worst],
) -> Result<u64, Ended> {
    let bench = Bench::<C>::set_up();
    let findings = Findings::new(policy, worst);
    let done = crew.replay(&Inquiry {
        findings: &findings,
        clock: core::marker::PhantomData::<fn() -> C>,
    })?;
    findings.finish(&bench);
    crew.drain(&mut TouchNone).map_err(Ended::Wrong)?;
    Ok(done.operations)
}
