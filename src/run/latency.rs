//! Times of the operations of a program -> [`LatencySample`].

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use crate::measure::latency::{Call, Latencies};
use crate::measure::results::{LatencySample, WorstOperation};
use crate::replay::latency::{LatencyOutcome, Worst};
use crate::replay::program::{COLD_ALIGNED, COLD_CALLOC, COLD_MALLOC, Program};

/// What the first child found, as a sample; `worst` are the slowest operations, explained as far as
/// the second child could.
pub(super) fn sample(
    program: &Program,
    ticks: &[u32],
    found: &LatencyOutcome,
    worst: &[Worst],
) -> LatencySample {
    let mut latencies = Latencies::new(found.hertz, found.cost_ticks);
    each_call(program, |operation, call, size, other_thread| {
        if let Some(ticks) = ticks.get(operation) {
            latencies.record(call, size, other_thread, u64::from(*ticks));
        }
    });
    let mut worst: Vec<&Worst> = worst.iter().collect();
    worst.sort_by_key(|entry| (std::cmp::Reverse(entry.ticks), entry.operation));
    LatencySample {
        clock_hertz: found.hertz,
        clock_cost_ns: found.cost_ticks as f64 * 1e9 / found.hertz,
        worst: worst
            .into_iter()
            .map(|entry| worst_operation(program, &latencies, entry))
            .collect(),
        rows: latencies.rows(),
    }
}

fn worst_operation(program: &Program, latencies: &Latencies, entry: &Worst) -> WorstOperation {
    let faults = |count| (entry.are_faults_known != 0).then_some(count);
    let operation = usize::try_from(entry.operation).unwrap_or(usize::MAX);
    WorstOperation {
        operation: entry.operation,
        call: program.call_text(operation).unwrap_or_default(),
        latency_ns: latencies.nanoseconds(entry.ticks),
        minor_faults: faults(entry.minor_faults),
        major_faults: faults(entry.major_faults),
        involuntary_switches: Some(entry.forced_switches),
        system_calls: (entry.are_system_calls_known != 0).then(|| names(&entry.system_calls)),
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

/// Calls `visit` with each operation's number, its kind, the size requested or of the block freed, and
/// whether another thread had allocated the block that it releases.
fn each_call(program: &Program, mut visit: impl FnMut(usize, Call, u64, bool)) {
    let mut sizes = vec![0u64; program.slots as usize];
    for (operation, word) in program.words.iter().enumerate() {
        let (call, size) = if word.is_free() {
            (Call::Free, sizes[word.slot()])
        } else if word.is_malloc() {
            sizes[word.slot()] = word.operand() as u64;
            (Call::Malloc, word.operand() as u64)
        } else {
            let cold = &program.cold[word.operand()];
            let (call, size) = match cold.kind {
                COLD_MALLOC => (Call::Malloc, cold.size),
                COLD_CALLOC => (Call::Calloc, cold.size.saturating_mul(cold.operand)),
                COLD_ALIGNED => (Call::Aligned, cold.size),
                _ => (Call::Realloc, cold.size),
            };
            sizes[cold.slot as usize] = size;
            (call, size)
        };
        visit(operation, call, size, program.is_of_other_thread(*word));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::builder::TraceBuilder;
    use crate::trace::{AlignedFunction, ThreadIndex, testing};

    #[test]
    fn calls_have_their_sizes_and_threads() {
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
        let trace = builder.finish();
        let program = Program::compile(&trace).expect("it compiles");
        let mut calls = Vec::new();
        each_call(&program, |operation, call, size, other_thread| {
            assert_eq!(operation, calls.len());
            calls.push((call, size, other_thread));
        });
        let expected = [
            (Call::Malloc, 100, false),
            (Call::Calloc, 32, false),
            (Call::Free, 100, true),
            (Call::Realloc, 70, false),
            (Call::Aligned, 33, false),
            (Call::Free, 70, true),
            (Call::Free, 33, false),
            (Call::Free, 0, false),
        ];
        assert_eq!(calls, expected);
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
