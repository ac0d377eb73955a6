//! The passes held against what is known: memory against an allocator that maps exactly what it says,
//! latencies against the operations of the trace. Samples are taken in copies of this process, so the
//! test has its own `main` (`harness = false`).

mod suite;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use mymalloc::measure::latency::ALL_SIZES;
use mymalloc::measure::results::{LatencySample, MemorySample, Order, Pass, Status, Touch};
use mymalloc::replay::program::Program;
use mymalloc::run::request::Request;
use mymalloc::run::session::{Outcome, Session};
use mymalloc::subject::linked::Linked;
use mymalloc::subject::version::VersionSource;
use mymalloc::subject::{Access, Subject};
use mymalloc::trace::builder::TraceBuilder;
use mymalloc::trace::profile::Profile;
use mymalloc::trace::{AlignedFunction, Operation, Origin, ThreadIndex, Trace};
use suite::{folder, shared_object};

const TESTS: [(&str, fn()); 6] = [
    ("known_memory_is_found", known_memory_is_found),
    ("known_waste_is_found", known_waste_is_found),
    ("what_is_kept_is_retained", what_is_kept_is_retained),
    (
        "parts_add_up_for_every_allocator",
        parts_add_up_for_every_allocator,
    ),
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
    mymalloc::run::child::intercept();
    let words: Vec<String> = std::env::args().skip(1).collect();
    let filter = words.iter().find(|word| !word.starts_with('-'));
    let is_list = words.iter().any(|word| word == "--list");
    for (name, test) in TESTS {
        if filter.is_some_and(|filter| !name.contains(filter.as_str())) {
            continue;
        }
        if is_list {
            println!("{name}: test");
        } else {
            test();
            println!("test {name} ... ok");
        }
    }
    ExitCode::SUCCESS
}

const PAGE_BYTES: u64 = 4096;
const HEADER_BYTES: u64 = 16;
const METADATA_BYTES: u64 = 8 << 20;
const COUNT: u64 = 4000;

/// Blocks of 1 byte to 50 KB from two threads: a third of them freed while it grows, by the other
/// thread as often as not; some of the others after the peak, and some never.
fn trace() -> Trace {
    let mut builder = TraceBuilder::new(Origin::generated("known", Vec::new()));
    let threads = [ThreadIndex(0), ThreadIndex(1)];
    let mut blocks = Vec::new();
    for number in 0..COUNT {
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
    for block in blocks.drain(..COUNT as usize / 3) {
        builder.free(threads[0], block, false);
    }
    builder.finish()
}

/// What an allocator must hold that gives each block pages of its own.
#[derive(Default)]
struct Truth {
    /// Pages of live blocks and live blocks, at the peak of the former.
    pages_peak: u64,
    blocks_at_peak: u64,
    live_bytes_at_peak: u64,
    /// Pages of all blocks that ever were.
    pages_ever: u64,
    allocations: u64,
    frees: u64,
}

fn truth(trace: &Trace, pad_pages: u64) -> Truth {
    let mut truth = Truth::default();
    let mut live = BTreeMap::new();
    let (mut pages, mut live_bytes) = (0, 0);
    for event in trace.events() {
        if let Some(block) = event.operation.releases() {
            let (own, bytes): (u64, u64) = live.remove(&block).expect("a live block");
            pages -= own;
            live_bytes -= bytes;
            truth.frees += 1;
        }
        if let Some(block) = event.operation.allocates() {
            let bytes = event.operation.requested_bytes();
            let header = match event.operation {
                Operation::Aligned { alignment_log2, .. } => HEADER_BYTES.max(1 << alignment_log2),
                _ => HEADER_BYTES,
            };
            let own = (header + bytes).div_ceil(PAGE_BYTES) + pad_pages;
            live.insert(block, (own, bytes));
            pages += own;
            live_bytes += bytes;
            truth.allocations += 1;
            truth.pages_ever += own;
        }
        if pages > truth.pages_peak {
            truth.pages_peak = pages;
            truth.blocks_at_peak = live.len() as u64;
            truth.live_bytes_at_peak = live_bytes;
        }
    }
    truth
}

fn known(defines: &[&str], folder: &std::path::Path) -> Subject {
    preloaded(shared_object(folder, "known.c", "known", defines))
}

fn preloaded(path: PathBuf) -> Subject {
    Subject {
        name: "known".to_owned(),
        description: String::new(),
        access: Access::Preloaded(path),
        environment: BTreeMap::new(),
        version: VersionSource::Probe,
    }
}

fn take(subject: &Subject, trace: &Trace, pass: Pass, settle: bool) -> Outcome {
    let session = Session::new().expect("a temporary folder");
    let program = Program::compile(trace).expect("it compiles");
    let operations = program.operations();
    let outcome = session
        .take(&Request {
            work: session.save(program).expect("it is saved"),
            subject,
            pass,
            touch: Touch::Page,
            order: Order::Serial,
            passes: 1,
            timeout: Duration::from_secs(120),
            environment_bytes: 0,
            memory_limit_bytes: None,
            settle,
        })
        .expect("a sample");
    assert_eq!(outcome.status, Status::Ok, "{:?}", outcome.reason);
    assert_eq!(outcome.operations, operations);
    outcome
}

fn memory(subject: &Subject, trace: &Trace, settle: bool) -> MemorySample {
    let sample = take(subject, trace, Pass::Memory, settle).memory;
    let sample = sample.expect("a memory sample");
    // What it consisted of is looked at where it was highest, and adds up.
    if let Some(parts) = sample.parts {
        let sum =
            parts.live_bytes + parts.internal_bytes + parts.external_bytes + parts.metadata_bytes;
        assert_eq!(sum, parts.rss_bytes, "{parts:?}");
        assert_near("parts", parts.rss_bytes, sample.rss_peak_bytes);
    }
    sample
}

/// Within 1 % or 64 KiB.
fn assert_near(what: &str, found: u64, truth: u64) {
    let allowed = (truth / 100).max(64 << 10);
    assert!(
        found.abs_diff(truth) <= allowed,
        "{what}: {found} instead of {truth}"
    );
}

fn known_memory_is_found() {
    let (folder, trace) = (folder(), trace());
    let sample = memory(&known(&[], folder.path()), &trace, true);
    let truth = truth(&trace, 0);
    let peak = truth.pages_peak * PAGE_BYTES + METADATA_BYTES;
    assert_near("start", sample.rss_start_bytes, METADATA_BYTES);
    assert_near("peak", sample.rss_peak_bytes, peak);
    assert_near("retained", sample.rss_retained_bytes, METADATA_BYTES);
    for retained in [
        sample.rss_retained_100ms_bytes,
        sample.rss_retained_1s_bytes,
    ] {
        assert_near("retained", retained.expect("settled"), METADATA_BYTES);
    }
    let parts = sample.parts.expect("this kernel lets pages be looked at");
    assert_near("metadata", parts.metadata_bytes, METADATA_BYTES);
    assert_near("live", parts.live_bytes, truth.live_bytes_at_peak);
    assert_eq!(parts.internal_bytes, 0);
    let external = truth.pages_peak * PAGE_BYTES - truth.live_bytes_at_peak;
    assert_near("external", parts.external_bytes, external);
    assert!(sample.rss_mean_bytes > METADATA_BYTES && sample.rss_mean_bytes < peak);
    assert!(sample.replay_minor_faults >= truth.pages_peak);
    assert!(sample.live_page_bytes_peak >= sample.live_bytes_peak);
    assert!(sample.curve.is_sorted_by_key(|point| point.elapsed_ns));
    if let Some(calls) = sample.system_calls {
        let expected = [("mmap", truth.allocations), ("munmap", truth.frees)];
        let expected = expected.map(|(name, count)| (name.to_owned(), count));
        assert_eq!(calls, BTreeMap::from(expected));
    }
}

fn known_waste_is_found() {
    let (folder, trace) = (folder(), trace());
    let subject = known(&["PAD=2", "PAD_TOUCHED"], folder.path());
    let sample = memory(&subject, &trace, false);
    let truth = truth(&trace, 2);
    let peak = truth.pages_peak * PAGE_BYTES + METADATA_BYTES;
    assert_near("peak", sample.rss_peak_bytes, peak);
    assert_eq!(sample.rss_retained_1s_bytes, None);
    let parts = sample.parts.expect("this kernel lets pages be looked at");
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
    let untouched = memory(&subject, &trace, false);
    assert_near("untouched", untouched.rss_peak_bytes, peak - padding);
}

fn what_is_kept_is_retained() {
    let (folder, trace) = (folder(), trace());
    let sample = memory(&known(&["RETAIN"], folder.path()), &trace, false);
    let truth = truth(&trace, 0);
    let all = truth.pages_ever * PAGE_BYTES + METADATA_BYTES;
    assert_near("peak", sample.rss_peak_bytes, all);
    assert_near("retained", sample.rss_retained_bytes, all);
}

fn parts_add_up_for_every_allocator() {
    let trace = trace();
    let linked = ["mimalloc", "jemalloc", "bump"]
        .into_iter()
        .filter_map(Linked::from_name)
        .map(Access::Linked);
    for access in linked.chain([Access::System]) {
        let subject = Subject {
            name: format!("{access:?}"),
            description: String::new(),
            access,
            environment: BTreeMap::new(),
            version: VersionSource::Probe,
        };
        let sample = memory(&subject, &trace, false);
        let parts = sample.parts.expect("this kernel lets pages be looked at");
        assert!(parts.live_bytes <= sample.live_bytes_peak, "{subject:?}");
        assert!(parts.live_bytes > sample.live_bytes_peak / 2, "{subject:?}");
    }
}

fn latency(subject: &Subject, trace: &Trace) -> LatencySample {
    let outcome = take(subject, trace, Pass::Latency, false);
    outcome.latency.expect("a latency sample")
}

fn latencies_are_of_every_operation() {
    let trace = trace();
    let subject = Subject {
        name: "system".to_owned(),
        description: String::new(),
        access: Access::System,
        environment: BTreeMap::new(),
        version: VersionSource::Probe,
    };
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
        if let Some(calls) = &worst.system_calls {
            let expected = BTreeMap::from([(call.to_owned(), 1)]);
            assert_eq!(calls, &expected, "{worst:?}");
        }
        // The header is written inside the call, the rest of the block outside it.
        let faults = u64::from(worst.call != "free");
        assert_eq!(worst.minor_faults, Some(faults), "{worst:?}");
    }
}
