//! The latency pass held against the operations of the trace, and against an allocator whose system
//! calls and page faults are known. Samples are taken in copies of this process, so the test has its
//! own `main` (`harness = false`).

mod known;
mod suite;

use std::collections::BTreeMap;
use std::process::ExitCode;

use known::{kernel_can_count, known, system, take, trace};
use mymalloc::measure::latency::ALL_SIZES;
use mymalloc::measure::results::{LatencySample, Order, Pass};
use mymalloc::subject::Subject;
use mymalloc::trace::Trace;
use mymalloc::trace::profile::Profile;
use suite::folder;

const TESTS: [(&str, fn()); 2] = [
    (
        "latencies_are_of_every_operation",
        latencies_are_of_every_operation,
    ),
    (
        "the_slowest_operations_are_explained",
        the_slowest_operations_are_explained,
    ),
];

fn main() -> ExitCode {
    known::main(&TESTS)
}

fn latency(subject: &Subject, trace: &Trace) -> LatencySample {
    let outcome = take(subject, trace, Pass::Latency, Order::Serial, false);
    outcome.latency.expect("a latency sample")
}

fn latencies_are_of_every_operation() {
    let trace = trace();
    let subject = system();
    let sample = latency(&subject, &trace);
    assert!(sample.clock_hertz > 1e6 && sample.clock_cost_ns > 0.0);
    let count = |operation: &str, other_thread: Option<bool>, all: bool| -> u64 {
        sample
            .rows
            .iter()
            .filter(|row| row.operation == operation)
            .filter(|row| other_thread.is_none_or(|other| row.other_thread == other))
            .filter(|row| (row.size_class_bytes == ALL_SIZES) == all)
            .map(|row| row.count)
            .sum()
    };
    let counts = trace.counts();
    for (operation, expected) in [
        ("malloc", counts.malloc),
        ("calloc", counts.calloc),
        ("aligned", counts.aligned),
        ("free", counts.free),
        ("realloc", 0),
    ] {
        assert_eq!(count(operation, None, false), expected, "{operation}");
        assert_eq!(count(operation, None, true), expected, "{operation}");
    }
    let crossing = Profile::of(&trace).cross_thread_frees;
    assert!(crossing > 0);
    assert_eq!(count("free", Some(true), true), crossing);
    for row in &sample.rows {
        let percentiles = [
            row.p50_ns,
            row.p90_ns,
            row.p99_ns,
            row.p99_9_ns,
            row.p99_99_ns,
            row.max_ns,
        ];
        assert!(row.count > 0 && percentiles.is_sorted(), "{row:?}");
    }
    assert!(sample.worst.len() <= 10);
    assert!(
        sample
            .worst
            .is_sorted_by(|one, two| one.latency_ns >= two.latency_ns)
    );
}

fn the_slowest_operations_are_explained() {
    let (folder, trace) = (folder(), trace());
    let sample = latency(&known(&[], folder.path()), &trace);
    // Each operation maps or unmaps memory, so there are slow ones.
    assert_eq!(sample.worst.len(), 10);
    for worst in &sample.worst {
        assert!(worst.involuntary_switches.is_some() && worst.minor_faults.is_some());
        let call = if worst.call == "free" {
            "munmap"
        } else {
            "mmap"
        };
        let expected = BTreeMap::from([(call.to_owned(), 1)]);
        let expected = kernel_can_count().then_some(expected);
        assert_eq!(worst.system_calls, expected, "{worst:?}");
        // The header is written inside the call, the rest of the block outside it.
        let faults = u64::from(worst.call != "free");
        assert_eq!(worst.minor_faults, Some(faults), "{worst:?}");
    }
}
