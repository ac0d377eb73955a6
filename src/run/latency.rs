//! Times of the operations of a program -> [`LatencySample`].

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use super::request::Work;
use crate::measure::latency::{Kind, Latencies};
use crate::measure::results::{LatencyClock, LatencySample, WorstOperation};
use crate::replay::latency::{LatencyOutcome, Worst, ticks_of};
use crate::replay::program::{COLD_ALIGNED, COLD_CALLOC, COLD_MALLOC, Call, NULL_SLOT, Program};
use crate::replay::threaded::ThreadedProgram;

/// What was timed.
pub(super) enum Replayed<'a> {
    Serial(&'a Program),
    Threaded(&'a ThreadedProgram),
}

impl<'a> Replayed<'a> {
    /// `None` for a kernel, whose calls are not timed one by one.
    pub(super) fn of(work: &'a Work) -> Option<Self> {
        match work {
            Work::Program { program, .. } => Some(Self::Serial(program)),
            Work::Threaded { program, .. } => Some(Self::Threaded(program)),
            Work::Kernel(_) => None,
        }
    }

    /// In the recorded total order.
    fn calls(&self) -> Vec<Call> {
        match self {
            Self::Serial(program) => program.calls(),
            Self::Threaded(program) => program.calls(),
        }
    }

    fn program(&self) -> &'a Program {
        match self {
            Self::Serial(program) => program,
            Self::Threaded(program) => program.shared(),
        }
    }

    fn call_text(&self, operation: usize) -> Option<String> {
        match self {
            Self::Serial(program) => program.call_text(operation),
            Self::Threaded(program) => program.call_text(operation),
        }
    }
}

/// What the first child found, as a sample; `worst` are the slowest operations, explained as far as
/// the second child could.
pub(super) fn sample(
    timed: &Replayed<'_>,
    times: &[u64],
    found: &LatencyOutcome,
    worst: &[Worst],
) -> LatencySample {
    let mut latencies = Latencies::new(found.hertz, found.cost_ticks);
    each_call(timed, |place, kind, size, other_thread| {
        if let Some(ticks) = times.get(place).and_then(|time| ticks_of(*time)) {
            latencies.record(kind, size, other_thread, ticks);
        }
    });
    let mut worst: Vec<&Worst> = worst.iter().collect();
    worst.sort_by_key(|entry| (std::cmp::Reverse(entry.ticks), entry.operation));
    let clock = match found.is_time_stamp_counter {
        0 => LatencyClock::Monotonic,
        _ => LatencyClock::TimeStampCounter,
    };
    LatencySample {
        clock,
        clock_hertz: found.hertz,
        clock_cost_ns: found.cost_ticks as f64 * 1e9 / found.hertz,
        clock_step_ns: found.step_ticks as f64 * 1e9 / found.hertz,
        migrated: (clock == LatencyClock::TimeStampCounter).then_some(found.tally.migrated),
        backward: found.tally.backward,
        worst: worst
            .into_iter()
            .map(|entry| worst_operation(timed, &latencies, entry))
            .collect(),
        rows: latencies.rows(),
    }
}

fn worst_operation(timed: &Replayed<'_>, latencies: &Latencies, entry: &Worst) -> WorstOperation {
    let operation = usize::try_from(entry.operation).unwrap_or(usize::MAX);
    WorstOperation {
        operation: entry.operation,
        call: timed.call_text(operation).unwrap_or_default(),
        latency_ns: latencies.nanoseconds(entry.ticks),
        minor_faults: entry.usage.minor_faults,
        major_faults: entry.usage.major_faults,
        involuntary_switches: entry.usage.forced_switches,
        voluntary_switches: entry.usage.own_switches,
        second_latency_ns: (entry.is_second_known != 0).then_some(entry.second_ns),
        second_system_calls: (entry.are_system_calls_known != 0)
            .then(|| names(&entry.system_calls)),
    }
}

/// Counts by the names of the system calls; those that do not occur are left out.
pub(super) fn names(counts: &[[u64; 2]]) -> BTreeMap<String, u64> {
    counts
        .iter()
        .filter(|[_, count]| *count > 0)
        .map(|[number, count]| {
            let known = usize::try_from(*number).ok().and_then(syscalls::Sysno::new);
            let name =
                known.map_or_else(|| format!("number {number}"), |call| call.name().to_owned());
            (name, *count)
        })
        .collect()
}

/// What is known of the block in a slot.
#[derive(Clone, Copy, Default)]
struct Block {
    size: u64,
    thread: u32,
}

/// Calls `visit` with the place of each operation's time, its kind, the size requested or of the block
/// freed, and whether another thread of the replay had allocated the block that it releases.
fn each_call(timed: &Replayed<'_>, mut visit: impl FnMut(usize, Kind, u64, bool)) {
    let program = timed.program();
    let mut blocks = vec![Block::default(); program.slots as usize];
    for Call {
        place,
        thread,
        word,
    } in timed.calls()
    {
        let null = NULL_SLOT as usize;
        let (kind, size, released, kept) = if word.is_free() {
            (Kind::Free, blocks[word.slot()].size, word.slot(), null)
        } else if word.is_malloc() {
            (Kind::Malloc, word.operand() as u64, null, word.slot())
        } else {
            let cold = &program.cold[word.operand()];
            let (kind, size) = match cold.kind {
                COLD_MALLOC => (Kind::Malloc, cold.size),
                COLD_CALLOC => (Kind::Calloc, cold.size.saturating_mul(cold.operand)),
                COLD_ALIGNED => (Kind::Aligned, cold.size),
                _ => (Kind::Realloc, cold.size),
            };
            (kind, size, cold.old_slot as usize, cold.slot as usize)
        };
        let other_thread = released != null && blocks[released].thread != thread;
        if kept != null {
            blocks[kept] = Block { size, thread };
        }
        visit(place, kind, size, other_thread);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::results::Order;
    use crate::trace::builder::TraceBuilder;
    use crate::trace::{AlignedFunction, ThreadIndex, Trace, testing};

    fn trace() -> Trace {
        let mut builder = TraceBuilder::new(testing::origin());
        let [here, there] = [ThreadIndex(0), ThreadIndex(1)];
        let one = builder.malloc(here, 100);
        let two = builder.calloc(there, 4, 8);
        builder.free(there, one, false);
        let two = builder.realloc(there, Some(two), 70);
        let three = builder.aligned(here, AlignedFunction::PosixMemalign, 6, 33);
        builder.free(here, two, false);
        builder.free(here, three, false);
        builder.free_null(here);
        builder.finish()
    }

    fn found(timed: &Replayed<'_>) -> (Vec<usize>, Vec<(Kind, u64, bool)>) {
        let mut calls = (Vec::new(), Vec::new());
        each_call(timed, |place, kind, size, other_thread| {
            calls.0.push(place);
            calls.1.push((kind, size, other_thread));
        });
        calls
    }

    const CALLS: [(Kind, u64, bool); 8] = [
        (Kind::Malloc, 100, false),
        (Kind::Calloc, 32, false),
        (Kind::Free, 100, true),
        (Kind::Realloc, 70, false),
        (Kind::Aligned, 33, false),
        (Kind::Free, 70, true),
        (Kind::Free, 33, false),
        (Kind::Free, 0, false),
    ];

    #[test]
    fn calls_have_their_sizes_and_threads() {
        let program = ThreadedProgram::compile(&trace(), Order::Threads).expect("it compiles");
        let (places, calls) = found(&Replayed::Threaded(&program));
        assert_eq!(calls, CALLS);
        // Each thread's times stand together, in its order.
        let of = |thread: &[usize]| thread.iter().map(|call| places[*call]).collect::<Vec<_>>();
        for thread in [[0, 4, 5, 6, 7].as_slice(), &[1, 2, 3]] {
            let places = of(thread);
            assert!(
                places.windows(2).all(|pair| pair[1] == pair[0] + 1),
                "{places:?}"
            );
        }
        assert!(places.iter().all(|place| *place < program.words()));
    }

    /// One thread performs everything, so no free is another thread's.
    #[test]
    fn a_serial_replay_has_one_thread() {
        let program = Program::compile(&trace()).expect("it compiles");
        let (places, calls) = found(&Replayed::Serial(&program));
        assert_eq!(calls, CALLS.map(|(kind, size, _)| (kind, size, false)));
        assert!(places.iter().copied().eq(0..CALLS.len()));
    }

    #[test]
    fn what_has_no_time_is_in_no_row() {
        let program = Program::compile(&trace()).expect("it compiles");
        let outcome = LatencyOutcome {
            is_time_stamp_counter: 0,
            hertz: 1e9,
            cost_ticks: 0,
            step_ticks: 1,
            tally: Default::default(),
        };
        // The first free went backwards.
        let times = [11, 11, 0, 11, 11, 11, 11, 11];
        let sample = sample(&Replayed::Serial(&program), &times, &outcome, &[]);
        let frees = sample.rows.iter().filter(|row| row.operation == "free");
        assert_eq!(frees.map(|row| row.count).sum::<u64>(), 2 * 3);
        assert!(sample.rows.iter().all(|row| row.max_ns == 10));
        assert_eq!(
            (sample.clock, sample.migrated),
            (LatencyClock::Monotonic, None)
        );
    }

    #[test]
    fn system_calls_have_names() {
        let mmap = libc::SYS_mmap as u64;
        let found = names(&[[mmap, 3], [0, 0], [100_000, 1]]);
        assert_eq!(found.get("mmap"), Some(&3));
        assert_eq!(found.get("number 100000"), Some(&1));
        assert_eq!(found.len(), 2);
    }
}
