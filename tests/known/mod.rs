//! An allocator whose memory is known to the page (`tests/objects/known.c`), a trace for it, and what
//! it must hold. Samples are taken in copies of the test's process, which has its own `main`
//! therefore (`harness = false`).
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use mymalloc::measure::results::{Order, Pass, Status, Touch};
use mymalloc::replay::program::Program;
use mymalloc::replay::threaded::ThreadedProgram;
use mymalloc::run::request::Request;
use mymalloc::run::session::{Outcome, Session};
use mymalloc::subject::linked::Linked;
use mymalloc::subject::version::VersionSource;
use mymalloc::subject::{Access, Subject};
use mymalloc::trace::builder::TraceBuilder;
use mymalloc::trace::{AlignedFunction, Operation, Origin, ThreadIndex, Trace};

use crate::suite::shared_object;

/// Runs the tests that the command line selects, as the usual harness would.
pub(crate) fn main(tests: &[(&str, fn())]) -> ExitCode {
    mymalloc::run::child::intercept();
    let words: Vec<String> = std::env::args().skip(1).collect();
    let filter = words.iter().find(|word| !word.starts_with('-'));
    let is_list = words.iter().any(|word| word == "--list");
    for (name, test) in tests {
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

/// Whether the kernel must be able to count system calls: Linux has what it takes since 5.11, on
/// x86-64. A test that lets the count be missing there could not fail.
pub(crate) fn kernel_can_count() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("Linux has /proc");
    let mut numbers = release
        .split(|c: char| !c.is_ascii_digit())
        .map(|digits| digits.parse().unwrap_or(0u32));
    let version = (numbers.next(), numbers.next());
    cfg!(target_arch = "x86_64") && version >= (Some(5), Some(11))
}

pub(crate) const PAGE_BYTES: u64 = 4096;
pub(crate) const HEADER_BYTES: u64 = 16;
pub(crate) const METADATA_BYTES: u64 = 8 << 20;
const COUNT: u64 = 4000;

/// Blocks of 1 byte to 50 KB from two threads: a third of them freed while it grows, by the other
/// thread as often as not; some of the others after the peak, and some never.
pub(crate) fn trace() -> Trace {
    trace_with(false)
}

/// The same, where a tenth of the operations are reallocations.
pub(crate) fn trace_with_realloc() -> Trace {
    trace_with(true)
}

fn trace_with(realloc: bool) -> Trace {
    let mut builder = TraceBuilder::new(Origin::generated("known", Vec::new()));
    let threads = [ThreadIndex(0), ThreadIndex(1)];
    let mut blocks = Vec::new();
    for number in 0..COUNT {
        let size = number * 7919 % 50_000 + 1;
        let thread = threads[usize::from(number > 0 && number % 5 < 2)];
        let block = match number % 10 {
            3 => builder.calloc(thread, 4, size / 4 + 1),
            6 => builder.aligned(thread, AlignedFunction::PosixMemalign, 6, size),
            8 if realloc => {
                let old = blocks.swap_remove(number as usize % blocks.len());
                builder.realloc(thread, Some(old), size)
            }
            _ => builder.malloc(thread, size),
        };
        blocks.push(block);
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

/// Two threads whose peak is the same in whatever order they take: nothing is freed until both have
/// allocated everything, but a block that shows the first thread that the second one has. The last
/// growth is a reallocation of 24 MiB to 25 MiB, which copies.
pub(crate) fn trace_of_threads() -> Trace {
    let mut builder = TraceBuilder::new(Origin::generated("threads", Vec::new()));
    let [first, second] = [ThreadIndex(0), ThreadIndex(1)];
    let mut blocks = Vec::new();
    let large = builder.malloc(first, 24 << 20);
    for number in 0..600 {
        let size = number * 7919 % 30_000 + 1;
        let thread = if number % 2 == 0 { first } else { second };
        let block = builder.malloc(thread, size);
        blocks.push(match number % 7 {
            3 => builder.realloc(thread, Some(block), size * 2),
            _ => block,
        });
    }
    let last = builder.calloc(second, 1, 100);
    builder.free(first, last, false);
    blocks.push(builder.realloc(first, Some(large), 25 << 20));
    for block in blocks {
        builder.free(first, block, false);
    }
    builder.finish()
}

/// What an allocator must hold that gives each block pages of its own.
#[derive(Default)]
pub(crate) struct Truth {
    /// Pages of live blocks and live blocks, at the peak of the former.
    pub(crate) pages_peak: u64,
    pub(crate) blocks_at_peak: u64,
    pub(crate) live_bytes_at_peak: u64,
    /// The most pages at any moment: while a reallocation copies, both blocks are there.
    pub(crate) pages_peak_inside: u64,
    /// The most pages before an allocation.
    pub(crate) pages_peak_before: u64,
    /// Pages of all blocks that ever were.
    pub(crate) pages_ever: u64,
    pub(crate) allocations: u64,
    pub(crate) frees: u64,
}

pub(crate) fn truth(trace: &Trace, pad_pages: u64) -> Truth {
    let mut truth = Truth::default();
    let mut live = BTreeMap::new();
    let (mut pages, mut live_bytes) = (0, 0);
    for event in trace.events() {
        let pages_before = pages;
        let mut copied = None;
        if let Some(block) = event.operation.releases() {
            let (own, bytes): (u64, u64) = live.remove(&block).expect("a live block");
            pages -= own;
            live_bytes -= bytes;
            truth.frees += 1;
            copied = Some(bytes);
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
            // Its header is written, and what is copied.
            let written = (header + copied.unwrap_or(0).min(bytes)).div_ceil(PAGE_BYTES);
            truth.pages_peak_inside = truth.pages_peak_inside.max(pages_before + written);
            truth.pages_peak_before = truth.pages_peak_before.max(pages_before);
        }
        truth.pages_peak_inside = truth.pages_peak_inside.max(pages);
        if pages > truth.pages_peak {
            truth.pages_peak = pages;
            truth.blocks_at_peak = live.len() as u64;
            truth.live_bytes_at_peak = live_bytes;
        }
    }
    truth
}

pub(crate) fn known(defines: &[&str], folder: &Path) -> Subject {
    preloaded(shared_object(folder, "known.c", "known", defines))
}

pub(crate) fn preloaded(path: PathBuf) -> Subject {
    subject("known", Access::Preloaded(path))
}

pub(crate) fn linked(name: &str) -> Subject {
    let linked = Linked::from_name(name).expect("it is linked in");
    subject(name, Access::Linked(linked))
}

pub(crate) fn system() -> Subject {
    subject("system", Access::System)
}

fn subject(name: &str, access: Access) -> Subject {
    Subject {
        name: name.to_owned(),
        description: String::new(),
        access,
        environment: BTreeMap::new(),
        version: VersionSource::Probe,
    }
}

/// One sample, which must be good.
pub(crate) fn take(
    subject: &Subject,
    trace: &Trace,
    pass: Pass,
    order: Order,
    settle: bool,
) -> Outcome {
    take_touching(Touch::Page, subject, trace, pass, order, settle)
}

/// [`take`] under another touch policy than `page`.
pub(crate) fn take_touching(
    touch: Touch,
    subject: &Subject,
    trace: &Trace,
    pass: Pass,
    order: Order,
    settle: bool,
) -> Outcome {
    let session = Session::new().expect("a temporary folder");
    let (work, operations) = match order {
        Order::Serial => {
            let program = Program::compile(trace).expect("it compiles");
            let operations = program.operations();
            (session.save(program).expect("it is saved"), operations)
        }
        _ => {
            let program = ThreadedProgram::compile(trace, order).expect("it compiles");
            let operations = program.operations();
            (
                session.save_threaded(program).expect("it is saved"),
                operations,
            )
        }
    };
    let outcome = session
        .take(&Request {
            work,
            subject,
            pass,
            touch,
            order,
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
