//! The memory pass held against an allocator that maps exactly what it says: within 1 % or 64 KiB, on
//! one thread and on several, between calls and inside them, whatever kind of memory it takes.
//! Samples are taken in copies of this process, so the test has its own `main` (`harness = false`).

mod known;
mod suite;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use known::{
    METADATA_BYTES, PAGE_BYTES, Truth, kernel_can_count, known, linked, system, take,
    take_touching, trace, trace_of_threads, trace_with_realloc, truth,
};
use mymalloc::measure::memory::allowed_difference_bytes;
use mymalloc::measure::results::{MemorySample, Order, Pass, Touch};
use mymalloc::run::request::{Request, Work};
use mymalloc::run::session::Session;
use mymalloc::subject::Subject;
use mymalloc::trace::Trace;
use suite::folder;

const TESTS: [(&str, fn()); 10] = [
    ("known_memory_is_found", known_memory_is_found),
    (
        "known_memory_is_found_in_every_order",
        known_memory_is_found_in_every_order,
    ),
    (
        "what_is_copied_inside_a_call_is_in_the_peak",
        what_is_copied_inside_a_call_is_in_the_peak,
    ),
    (
        "what_comes_and_goes_inside_a_call_is_in_the_peak",
        what_comes_and_goes_inside_a_call_is_in_the_peak,
    ),
    (
        "shared_memory_is_the_allocators_too",
        shared_memory_is_the_allocators_too,
    ),
    (
        "memory_that_nobody_sees_is_not_called_lean",
        memory_that_nobody_sees_is_not_called_lean,
    ),
    ("known_waste_is_found", known_waste_is_found),
    ("what_is_kept_is_retained", what_is_kept_is_retained),
    (
        "parts_add_up_for_every_allocator",
        parts_add_up_for_every_allocator,
    ),
    (
        "kernels_have_faults_and_pages",
        kernels_have_faults_and_pages,
    ),
];

fn main() -> ExitCode {
    known::main(&TESTS)
}

/// Calls that warm an allocator up: malloc, realloc, calloc and posix_memalign, and as many frees.
const WARM_UP: u64 = 4;

/// A sample whose figures agree, of a replay that has the same peak each time.
fn memory(subject: &Subject, trace: &Trace, order: Order, settle: bool) -> MemorySample {
    let sample = consistent(subject, trace, order, settle);
    let parts = sample.parts.expect("checked before");
    let peak = sample.rss_peak_between_calls_bytes;
    assert_near(&format!("parts in {order:?}"), parts.rss_bytes, peak);
    sample
}

/// The same, where the peak depends on the order that the threads take.
fn consistent(subject: &Subject, trace: &Trace, order: Order, settle: bool) -> MemorySample {
    let sample = take(subject, trace, Pass::Memory, order, settle).memory;
    let sample = sample.expect("a memory sample");
    assert_eq!(sample.unmeasurable, None);
    assert!(
        sample.is_peak_of_every_moment,
        "clear_refs can be written to"
    );
    assert!(sample.rss_peak_bytes >= sample.rss_peak_between_calls_bytes);
    // Two ways of reading the same moment agree, and what it consisted of adds up.
    let difference = sample
        .counter_difference_bytes
        .expect("pagemap can be read");
    assert!(
        difference <= allowed_difference_bytes(sample.rss_peak_bytes),
        "{difference}"
    );
    let parts = sample.parts.expect("this kernel lets pages be looked at");
    let sum = parts.live_bytes + parts.internal_bytes + parts.external_bytes + parts.metadata_bytes;
    assert_eq!(sum, parts.rss_bytes, "{parts:?}");
    assert_near("counted", parts.counted_bytes, parts.rss_bytes);
    assert!(sample.live_page_bytes_peak >= sample.live_bytes_peak);
    assert!(sample.live_bytes_peak > 0 && sample.replay_minor_faults > 0);
    assert!(sample.curve.is_sorted_by_key(|point| point.elapsed_ns));
    assert!(sample.curve.is_sorted_by_key(|point| point.operation));
    assert_eq!(sample.system_calls.is_some(), kernel_can_count());
    sample
}

/// Within 1 % or 64 KiB.
fn assert_near(what: &str, found: u64, truth: u64) {
    assert!(
        found.abs_diff(truth) <= allowed_difference_bytes(truth),
        "{what}: {found} instead of {truth}"
    );
}

/// Peak, parts and system calls are the truth's.
fn assert_true(sample: &MemorySample, truth: &Truth) {
    let peak = truth.pages_peak * PAGE_BYTES + METADATA_BYTES;
    let inside = truth.pages_peak_inside * PAGE_BYTES + METADATA_BYTES;
    assert_near("start", sample.rss_start_bytes, METADATA_BYTES);
    assert_near("between calls", sample.rss_peak_between_calls_bytes, peak);
    assert_near("at any moment", sample.rss_peak_bytes, inside);
    let parts = sample.parts.expect("checked before");
    assert_near("metadata", parts.metadata_bytes, METADATA_BYTES);
    assert_near("live", parts.live_bytes, truth.live_bytes_at_peak);
    assert_eq!(parts.internal_bytes, 0);
    let external = truth.pages_peak * PAGE_BYTES - truth.live_bytes_at_peak;
    assert_near("external", parts.external_bytes, external);
    assert!(sample.rss_mean_bytes > METADATA_BYTES && sample.rss_mean_bytes < peak);
    assert!(sample.replay_minor_faults >= truth.pages_peak);
    if kernel_can_count() {
        let expected = [("mmap", truth.allocations), ("munmap", truth.frees)];
        let expected = expected.map(|(name, count)| (name.to_owned(), count + WARM_UP));
        assert_eq!(sample.system_calls, Some(BTreeMap::from(expected)));
    }
}

fn known_memory_is_found() {
    let (folder, trace) = (folder(), trace_with_realloc());
    let sample = memory(&known(&[], folder.path()), &trace, Order::Serial, true);
    assert_true(&sample, &truth(&trace, 0));
    assert_near("retained", sample.rss_retained_bytes, METADATA_BYTES);
    for retained in [
        sample.rss_retained_100ms_bytes,
        sample.rss_retained_1s_bytes,
    ] {
        assert_near("retained", retained.expect("settled"), METADATA_BYTES);
    }
}

fn known_memory_is_found_in_every_order() {
    let folder = folder();
    let subject = known(&[], folder.path());
    // The recorded order on the recorded threads: the truth is that of one thread.
    let trace = trace_with_realloc();
    let strict = memory(&subject, &trace, Order::Strict, false);
    assert_true(&strict, &truth(&trace, 0));
    // Any order.
    let trace = trace_of_threads();
    for order in [Order::Serial, Order::Threads] {
        let sample = memory(&subject, &trace, order, false);
        assert_true(&sample, &truth(&trace, 0));
        assert_near("retained", sample.rss_retained_bytes, METADATA_BYTES);
        let live = truth(&trace, 0).live_bytes_at_peak;
        assert_near("live", sample.live_bytes_peak, live);
    }
}

fn what_is_copied_inside_a_call_is_in_the_peak() {
    let (folder, trace) = (folder(), trace_of_threads());
    let truth = truth(&trace, 0);
    let sample = memory(&known(&[], folder.path()), &trace, Order::Serial, false);
    // Both blocks of the last reallocation, of 24 and 25 MiB.
    let copied = truth.pages_peak_inside - truth.pages_peak;
    assert!(copied * PAGE_BYTES > 22 << 20);
    let found = sample.rss_peak_bytes - sample.rss_peak_between_calls_bytes;
    // The kernel counts the pages of each of the two to some tens: the difference is as exact as they are.
    let allowed = allowed_difference_bytes(sample.rss_peak_bytes);
    let expected = copied * PAGE_BYTES;
    assert!(
        found.abs_diff(expected) <= allowed,
        "copied: {found} instead of {expected}"
    );
}

fn what_comes_and_goes_inside_a_call_is_in_the_peak() {
    let (folder, trace) = (folder(), trace());
    let spike = 2 << 20;
    let defines = ["SPIKE_BYTES=2097152", "SPIKE_EVERY=1"];
    let subject = known(&defines, folder.path());
    let sample = memory(&subject, &trace, Order::Serial, false);
    let truth = truth(&trace, 0);
    let peak = truth.pages_peak * PAGE_BYTES + METADATA_BYTES;
    assert_near("between calls", sample.rss_peak_between_calls_bytes, peak);
    let inside = truth.pages_peak_before * PAGE_BYTES + METADATA_BYTES + spike;
    assert_near("at any moment", sample.rss_peak_bytes, inside);
}

fn shared_memory_is_the_allocators_too() {
    let trace = trace();
    let truth = truth(&trace, 0);
    for define in ["SHARED", "MEMFD"] {
        let folder = folder();
        let sample = memory(
            &known(&[define], folder.path()),
            &trace,
            Order::Serial,
            false,
        );
        let peak = truth.pages_peak * PAGE_BYTES + METADATA_BYTES;
        assert_near(define, sample.rss_peak_bytes, peak);
        // What the start took is no part of the growth.
        assert_near(define, sample.shared_bytes_at_peak, peak - METADATA_BYTES);
        assert_near(define, sample.rss_retained_bytes, METADATA_BYTES);
        let parts = sample.parts.expect("checked before");
        assert_near(define, parts.live_bytes, truth.live_bytes_at_peak);
    }
}

fn memory_that_nobody_sees_is_not_called_lean() {
    let trace = trace();
    let folder = folder();
    // A file's pages are nobody's memory; in a folder that is memory itself they are found.
    let mut files = known(&["IN_FILES"], folder.path());
    let path = folder.path().to_str().expect("a plain path").to_owned();
    files.environment.insert("KNOWN_FOLDER".to_owned(), path);
    let sample = take(&files, &trace, Pass::Memory, Order::Serial, false).memory;
    let sample = sample.expect("a memory sample");
    let peak = truth(&trace, 0).pages_peak * PAGE_BYTES + METADATA_BYTES;
    if sample.unmeasurable.is_none() {
        assert_near("files", sample.rss_peak_bytes, peak);
    }
    // Hands out the same addresses again and again.
    for order in [Order::Serial, Order::Threads] {
        let null = take(&linked("null"), &trace, Pass::Memory, order, false).memory;
        let reason = null.expect("a memory sample").unmeasurable;
        assert!(reason.expect("there is no memory").contains("not counted"));
        // Who leaves pages alone as the program did needs less memory than the blocks' bytes.
        let null = linked("null");
        let used = take_touching(Touch::Used, &null, &trace, Pass::Memory, order, false).memory;
        assert_eq!(used.expect("a memory sample").unmeasurable, None);
    }
}

fn known_waste_is_found() {
    let (folder, trace) = (folder(), trace());
    let subject = known(&["PAD=2", "PAD_TOUCHED"], folder.path());
    let sample = memory(&subject, &trace, Order::Serial, false);
    let truth = truth(&trace, 2);
    let peak = truth.pages_peak * PAGE_BYTES + METADATA_BYTES;
    assert_near("peak", sample.rss_peak_bytes, peak);
    assert_eq!(sample.rss_retained_1s_bytes, None);
    let parts = sample.parts.expect("checked before");
    // No block lies on them; where one once lay, they are external.
    let padding = truth.blocks_at_peak * 2 * PAGE_BYTES;
    assert!(
        parts.metadata_bytes > METADATA_BYTES + padding / 4,
        "{parts:?}"
    );
    assert!(
        parts.metadata_bytes <= METADATA_BYTES + padding + (64 << 10),
        "{parts:?}"
    );
    let waste = peak - truth.live_bytes_at_peak;
    assert_near("waste", parts.metadata_bytes + parts.external_bytes, waste);
    // Mapped and not written is not resident.
    let subject = known(&["PAD=2"], folder.path());
    let untouched = memory(&subject, &trace, Order::Serial, false);
    assert_near("untouched", untouched.rss_peak_bytes, peak - padding);
}

fn what_is_kept_is_retained() {
    let (folder, trace) = (folder(), trace());
    let subject = known(&["RETAIN"], folder.path());
    let sample = memory(&subject, &trace, Order::Serial, false);
    let truth = truth(&trace, 0);
    let all = truth.pages_ever * PAGE_BYTES + METADATA_BYTES;
    assert_near("peak", sample.rss_peak_bytes, all);
    assert_near("retained", sample.rss_retained_bytes, all);
    // All of the peak is one height: it is looked at with everything still live.
    let parts = sample.parts.expect("checked before");
    assert!(parts.live_bytes > 0, "{parts:?}");
}

fn parts_add_up_for_every_allocator() {
    let trace = trace();
    let linked = ["mimalloc", "jemalloc", "bump"].map(linked);
    for subject in linked.into_iter().chain([system()]) {
        for order in [Order::Serial, Order::Threads] {
            let sample = match order {
                Order::Threads => consistent(&subject, &trace, order, false),
                _ => memory(&subject, &trace, order, false),
            };
            let parts = sample.parts.expect("checked before");
            // The parts are of a second replay, in which the threads take another order and come to
            // another peak.
            let peak = sample.rss_peak_between_calls_bytes;
            assert!(parts.rss_bytes.abs_diff(peak) < peak / 4, "{subject:?}");
            assert!(
                parts.live_bytes <= sample.live_bytes_peak * 11 / 10,
                "{subject:?}"
            );
            assert!(parts.live_bytes > sample.live_bytes_peak / 2, "{subject:?}");
            // The C library's heap has pages that the start of the process touched.
            let reuses = subject.name == "system";
            assert_eq!(sample.rss_start_bytes > 0, reuses, "{subject:?}");
        }
    }
}

fn kernels_have_faults_and_pages() {
    let kernel = "cross-free exchanges=2000 slots=500 smallest=16 largest=9000 seed=7";
    let session = Session::new().expect("a temporary folder");
    let subject = linked("mimalloc");
    let outcome = session.take(&Request {
        work: Work::Kernel(kernel.parse().expect("a kernel")),
        subject: &subject,
        pass: Pass::Memory,
        touch: Touch::Page,
        order: Order::Serial,
        passes: 1,
        timeout: Duration::from_secs(120),
        environment_bytes: 0,
        memory_limit_bytes: None,
        settle: false,
    });
    let sample = outcome.expect("a sample").memory.expect("a memory sample");
    assert_eq!(sample.unmeasurable, None);
    assert!(sample.replay_minor_faults > 0);
    assert!(sample.live_bytes_peak > 0 && sample.live_page_bytes_peak >= sample.live_bytes_peak);
    assert!(sample.rss_peak_bytes >= sample.live_bytes_peak);
    // Nobody can look between its operations: unknown, and not 0.
    assert_eq!((sample.parts, sample.system_calls), (None, None));
}
