//! The latency pass held against what is known: an allocator that stalls for a known time in known
//! calls, one whose calls take known page faults and system calls, and the operations of the trace.
//! Samples are taken in copies of this process, so the test has its own `main` (`harness = false`).

mod known;
mod suite;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;

use known::{kernel_can_count, linked, preloaded, system, take};
use mymalloc::measure::latency::ALL_SIZES;
use mymalloc::measure::results::{LatencyRow, LatencySample, Order, Pass};
use mymalloc::subject::Subject;
use mymalloc::trace::builder::TraceBuilder;
use mymalloc::trace::profile::Profile;
use mymalloc::trace::{AlignedFunction, Origin, ThreadIndex, Trace};
use suite::{folder, shared_object};

const TESTS: [(&str, fn()); 6] = [
    (
        "latencies_are_of_every_operation",
        latencies_are_of_every_operation,
    ),
    ("known_stalls_are_found", known_stalls_are_found),
    ("waiting_is_in_no_latency", waiting_is_in_no_latency),
    (
        "what_was_slow_by_chance_is_told",
        what_was_slow_by_chance_is_told,
    ),
    (
        "faults_and_system_calls_are_those_of_the_call",
        faults_and_system_calls_are_those_of_the_call,
    ),
    ("bounds_have_no_page_faults", bounds_have_no_page_faults),
];

fn main() -> ExitCode {
    known::main(&TESTS)
}

/// The size of which the test allocator's mallocs stall, and for how long.
const STALL_SIZE: u64 = 777;
const STALL_NS: u64 = 2_000_000;

fn object(folder: &Path, source: &str, defines: &[&str]) -> Subject {
    preloaded(shared_object(folder, source, "subject", defines))
}

fn latency(subject: &Subject, trace: &Trace, order: Order) -> LatencySample {
    let outcome = take(subject, trace, Pass::Latency, order, false);
    let sample = outcome.latency.expect("a latency sample");
    agrees_with_itself(&sample);
    sample
}

/// What holds of every sample.
fn agrees_with_itself(sample: &LatencySample) {
    assert!(sample.clock_hertz > 1e6 && sample.clock_cost_ns > 0.0);
    assert!(sample.clock_step_ns > 0.0 && sample.clock_step_ns < 1e4);
    for row in &sample.rows {
        let percentiles = [
            Some(row.p50_ns),
            row.p90_ns,
            row.p99_ns,
            row.p99_9_ns,
            row.p99_99_ns,
            Some(row.max_ns),
        ];
        let known: Vec<u64> = percentiles.into_iter().flatten().collect();
        assert!(row.count > 0 && known.is_sorted(), "{row:?}");
    }
    let times: Vec<u64> = sample.worst.iter().map(|worst| worst.latency_ns).collect();
    assert!(times.is_sorted_by(|one, two| one >= two), "{times:?}");
    // The slowest of the list is the slowest of all rows, to the nanosecond.
    let slowest = sample.rows.iter().map(|row| row.max_ns).max();
    assert_eq!(times.first().copied(), slowest);
    let calls: u64 = sample
        .rows
        .iter()
        .filter(over_all)
        .map(|row| row.count)
        .sum();
    assert_eq!(times.len() as u64, calls.min(10));
}

fn over_all(row: &&LatencyRow) -> bool {
    row.size_class_bytes == ALL_SIZES
}

fn all<'s>(sample: &'s LatencySample, operation: &str, other_thread: bool) -> &'s LatencyRow {
    let mut rows = sample.rows.iter().filter(over_all);
    rows.find(|row| row.operation == operation && row.other_thread == other_thread)
        .expect("a row")
}

/// Blocks of 1 byte to 50 KB from two threads, a third of them freed while it grows, by the other
/// thread as often as not.
fn mixed_trace() -> Trace {
    let mut builder = TraceBuilder::new(Origin::generated("mixed", Vec::new()));
    let threads = [ThreadIndex(0), ThreadIndex(1)];
    let mut blocks = Vec::new();
    for number in 0..2000 {
        let size = number * 7919 % 50_000 + 1;
        let thread = threads[usize::from(number > 0 && number % 5 < 2)];
        blocks.push(match number % 10 {
            3 => builder.calloc(thread, 4, size / 4 + 1),
            6 => builder.aligned(thread, AlignedFunction::PosixMemalign, 6, size),
            _ => builder.malloc(thread, size),
        });
        if number % 3 == 2 {
            let block = blocks.swap_remove(blocks.len() / 2);
            builder.free(threads[(number % 2) as usize], block, false);
        }
    }
    builder.finish()
}

fn latencies_are_of_every_operation() {
    let trace = mixed_trace();
    let crossing = Profile::of(&trace).cross_thread_frees;
    assert!(crossing > 0);
    let counts = trace.counts();
    for (order, crossing) in [
        // One thread does everything: no block is another thread's.
        (Order::Serial, 0),
        (Order::Threads, crossing),
        (Order::Strict, crossing),
    ] {
        let sample = latency(&system(), &trace, order);
        let count = |operation: &str, wanted: &dyn Fn(&LatencyRow) -> bool| -> u64 {
            let rows = sample.rows.iter().filter(|row| row.operation == operation);
            rows.filter(|row| wanted(row)).map(|row| row.count).sum()
        };
        assert_eq!(sample.backward, 0, "{order:?}");
        for (operation, expected) in [
            ("malloc", counts.malloc),
            ("calloc", counts.calloc),
            ("aligned", counts.aligned),
            ("free", counts.free),
            ("realloc", 0),
        ] {
            let summed = count(operation, &|row| over_all(&row));
            let classed = count(operation, &|row| !over_all(&row));
            assert_eq!(
                (summed, classed),
                (expected, expected),
                "{operation} {order:?}"
            );
        }
        let others = count("free", &|row| over_all(&row) && row.other_thread);
        assert_eq!(others, crossing, "{order:?}");
    }
}

/// `count` times on each of `threads`: a malloc, and in between the frees of older blocks by the same
/// thread. Returns the numbers of the mallocs, from 0, which are each thread's every `every`-th.
fn stalling_trace(threads: u32, count: u32, every: u32) -> (Trace, Vec<u64>) {
    let mut builder = TraceBuilder::new(Origin::generated("stalling", Vec::new()));
    let (mut stalls, mut operation) = (Vec::new(), 0);
    let mut blocks = vec![Vec::new(); threads as usize];
    for number in 1..=count {
        for thread in 0..threads {
            if number % every == 0 {
                stalls.push(operation);
            }
            let own = &mut blocks[thread as usize];
            own.push(builder.malloc(ThreadIndex(thread), STALL_SIZE));
            operation += 1;
            if own.len() > 10 {
                builder.free(ThreadIndex(thread), own.remove(0), false);
                operation += 1;
            }
        }
    }
    (builder.finish(), stalls)
}

fn known_stalls_are_found() {
    let folder = folder();
    let subject = object(folder.path(), "stalling.c", &["EVERY=500"]);
    for (order, threads, count) in [(Order::Serial, 1, 10_000), (Order::Threads, 2, 5_000)] {
        let (trace, stalls) = stalling_trace(threads, count, 500);
        assert_eq!(stalls.len(), 20);
        let sample = latency(&subject, &trace, order);
        let mallocs = all(&sample, "malloc", false);
        // Of 10,000 mallocs 20 stall: 0.2 %.
        assert_eq!(mallocs.count, 10_000);
        assert!(mallocs.p50_ns < STALL_NS / 20, "{order:?}: {mallocs:?}");
        assert!(
            mallocs.p99_ns.expect("enough calls") < STALL_NS,
            "{order:?}: {mallocs:?}"
        );
        assert!(
            mallocs.p99_9_ns.expect("enough calls") >= STALL_NS,
            "{order:?}: {mallocs:?}"
        );
        assert_eq!(mallocs.p99_99_ns, None, "of 10,000 calls one lies beyond");
        assert!(mallocs.max_ns >= STALL_NS, "{order:?}: {mallocs:?}");
        let class = sample.rows.iter().find(|row| row.size_class_bytes == 1024);
        assert!(class.expect("the size's class").max_ns >= STALL_NS);
        // The ten slowest are stalls. On a busy machine another call may have been interrupted for
        // as long, but not one in two.
        assert!(
            sample
                .worst
                .iter()
                .all(|worst| worst.latency_ns >= STALL_NS)
        );
        let right = |operation: u64| stalls.contains(&operation);
        let named = sample.worst.iter().filter(|worst| right(worst.operation));
        let mut faultless = 0;
        for worst in named.clone() {
            assert!(worst.call.starts_with("malloc(777)"), "{worst:?}");
            // The memory of its blocks was written beforehand. Only the first stall may touch pages
            // that nobody did (the clock's, the table through which it is called), and the kernel
            // may take any page away and let it fault once more: most have no fault.
            let faults = worst.minor_faults + worst.major_faults;
            faultless += usize::from(faults == 0);
            // It stalls each time.
            assert!(
                worst.second_latency_ns.expect("replayed again") >= STALL_NS,
                "{worst:?}"
            );
            // It spins.
            let expected = kernel_can_count().then(BTreeMap::new);
            assert_eq!(worst.second_system_calls, expected, "{worst:?}");
        }
        let count = named.count();
        assert!(count >= 5, "{order:?}: {:?}", sample.worst);
        assert!(2 * faultless > count, "{order:?}: {:?}", sample.worst);
    }
}

/// A thread frees what another allocates. Each fiftieth malloc stalls, so the free of its block must
/// wait for it: 2 % of the frees, none of which takes long.
fn waiting_is_in_no_latency() {
    let (folder, mut builder) = (
        folder(),
        TraceBuilder::new(Origin::generated("handed over", Vec::new())),
    );
    for _ in 0..2000 {
        let block = builder.malloc(ThreadIndex(0), STALL_SIZE);
        builder.free(ThreadIndex(1), block, false);
    }
    let trace = builder.finish();
    let subject = object(folder.path(), "stalling.c", &["EVERY=50"]);
    let sample = latency(&subject, &trace, Order::Threads);
    let mallocs = all(&sample, "malloc", false);
    assert!(
        mallocs.p99_ns.expect("enough calls") >= STALL_NS,
        "{mallocs:?}"
    );
    let frees = all(&sample, "free", true);
    assert_eq!(frees.count, 2000);
    assert!(
        frees.p99_ns.expect("enough calls") < STALL_NS / 2,
        "{frees:?}"
    );
}

/// The allocator stalls in the replay that is timed, and not in the second one.
fn what_was_slow_by_chance_is_told() {
    let folder = folder();
    let marker = format!("MARKER=\"{}\"", folder.path().join("marker").display());
    let subject = object(folder.path(), "stalling.c", &["EVERY=500", &marker]);
    let (trace, stalls) = stalling_trace(1, 10_000, 500);
    let sample = latency(&subject, &trace, Order::Serial);
    let stalled = |operation: u64| stalls.contains(&operation);
    let named: Vec<_> = sample
        .worst
        .iter()
        .filter(|worst| stalled(worst.operation))
        .collect();
    assert!(named.len() >= 5, "{:?}", sample.worst);
    let again = |ns: Option<u64>| ns.expect("replayed again") >= STALL_NS / 2;
    let recurred = named.iter().filter(|worst| again(worst.second_latency_ns));
    assert!(recurred.count() < named.len() / 2, "{named:?}");
    assert!(folder.path().join("marker").exists());
}

/// Each allocation maps memory and writes its header, which is one page fault; the rest of the block
/// is written after the call.
fn faults_and_system_calls_are_those_of_the_call() {
    let (folder, trace) = (folder(), mixed_trace());
    let subject = object(folder.path(), "known.c", &[]);
    for order in [Order::Serial, Order::Threads] {
        let sample = latency(&subject, &trace, order);
        for worst in &sample.worst {
            let is_free = worst.call.starts_with("free");
            assert_eq!(worst.minor_faults, u64::from(!is_free), "{worst:?}");
            assert!(worst.second_latency_ns.is_some());
            let call = if is_free { "munmap" } else { "mmap" };
            let expected = BTreeMap::from([(call.to_owned(), 1)]);
            let expected = kernel_can_count().then_some(expected);
            assert_eq!(worst.second_system_calls, expected, "{worst:?}");
        }
    }
}

/// `bump` and `null` are bounds: their memory is resident before the replay.
fn bounds_have_no_page_faults() {
    let trace = mixed_trace();
    for name in ["bump", "null"] {
        for order in [Order::Serial, Order::Threads] {
            let sample = latency(&linked(name), &trace, order);
            for worst in &sample.worst {
                assert_eq!(worst.minor_faults, 0, "{name} {order:?}: {worst:?}");
            }
        }
    }
}
