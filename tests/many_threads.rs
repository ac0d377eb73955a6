//! A trace of very many threads compiles in bounded memory. The only test of its process, so that the
//! process's highest memory is that of compiling.

use mymalloc::measure::results::Order;
use mymalloc::replay::threaded::ThreadedProgram;
use mymalloc::trace::builder::TraceBuilder;
use mymalloc::trace::{Origin, ThreadIndex};

/// Highest resident memory of this process so far.
fn peak_bytes() -> u64 {
    let status = procfs::process::Process::myself().and_then(|own| own.status());
    let status = status.expect("Linux has /proc");
    status.vmhwm.expect("it is told") * 1024
}

#[test]
fn sixty_thousand_short_threads_take_little_memory() {
    let mut builder = TraceBuilder::new(Origin::generated("many threads", Vec::new()));
    for thread in 0..60_000 {
        let thread = ThreadIndex(thread);
        builder.thread_start(thread);
        let blocks: Vec<_> = (0..4).map(|_| builder.malloc(thread, 100)).collect();
        for block in blocks {
            builder.free(thread, block, false);
        }
        builder.thread_end(thread);
    }
    let trace = builder.finish();
    let before = peak_bytes();
    for order in [Order::Threads, Order::Strict] {
        let program = ThreadedProgram::compile(&trace, order).expect("not too large");
        let record = program.record();
        assert_eq!((record.threads, record.threads_alive_peak), (60_000, 1));
        assert!(program.slots() < 100, "{}", program.slots());
        let used = peak_bytes() - before;
        assert!(used < 300 << 20, "{order:?}: {} MiB", used >> 20);
    }
}
