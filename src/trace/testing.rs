//! Random traces for property tests.

use proptest::prelude::*;
use rustc_hash::FxHashMap;

use super::binary::BinaryWriter;
use super::builder::TraceBuilder;
use super::stream::{self, Batch, EventSink};
use super::{AlignedFunction, BlockId, Origin, SiteId, ThreadIndex, Trace};
use crate::error::Result;

/// One step of a random trace; what it means depends on the blocks that are live.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Step {
    kind: u8,
    thread: u8,
    pick: u16,
    size: u64,
    small: u8,
}

/// An origin for traces made by tests.
pub(crate) fn origin() -> Origin {
    Origin::generated("test", Vec::new())
}

/// Any valid trace of at most `events` events and five threads, threads in order of appearance.
pub(crate) fn traces(events: usize) -> impl Strategy<Value = Trace> {
    proptest::collection::vec(steps(), 0..=events).prop_map(|steps| build(&steps, false, false))
}

/// The same, some with time stamps, some with call sites.
pub(crate) fn stamped_traces(events: usize) -> impl Strategy<Value = Trace> {
    let steps = proptest::collection::vec(steps(), 0..=events);
    (steps, any::<bool>(), any::<bool>())
        .prop_map(|(steps, times, sites)| build(&steps, times, sites))
}

fn steps() -> impl Strategy<Value = Step> {
    let size = prop_oneof![0_u64..64, 0_u64..5000, Just(1 << 20), Just(1 << 40)];
    (0_u8..21, 0_u8..5, any::<u16>(), size, any::<u8>()).prop_map(
        |(kind, thread, pick, size, small)| Step {
            kind,
            thread,
            pick,
            size,
            small,
        },
    )
}

fn build(steps: &[Step], times: bool, sites: bool) -> Trace {
    let mut builder = TraceBuilder::new(origin());
    let mut threads: FxHashMap<u8, ThreadIndex> = FxHashMap::default();
    let mut threads_seen = 0;
    let mut live: Vec<BlockId> = Vec::new();
    for step in steps {
        let thread = *threads.entry(step.thread).or_insert_with(|| {
            threads_seen += 1;
            ThreadIndex(threads_seen - 1)
        });
        let picked = (!live.is_empty()).then(|| usize::from(step.pick) % live.len().max(1));
        match (step.kind, picked) {
            (0..=3, _) => live.push(builder.malloc(thread, step.size)),
            (4, _) => live.push(builder.calloc(thread, u32::from(step.small), step.size % 4096)),
            (5, _) => live.push(aligned(&mut builder, thread, step)),
            (6, _) => live.push(builder.realloc(thread, None, step.size)),
            (7..=8, Some(at)) => live[at] = builder.realloc(thread, Some(live[at]), step.size + 1),
            (9..=14, Some(at)) => {
                let block = live.swap_remove(at);
                builder.free(thread, block, step.small == 0);
            }
            (15, _) => builder.free_null(thread),
            (16, _) => builder.mark(thread),
            (17, _) => builder.failed_allocation(thread),
            (18, _) => builder.thread_start(thread),
            (19, _) => {
                builder.thread_end(thread);
                threads.remove(&step.thread);
            }
            (20, _) => builder.free_unseen(thread),
            _ => builder.mark(thread),
        }
        if times {
            // Mostly rising, as in a recording; sometimes falling, sometimes far.
            let far = if step.small == 255 { u64::MAX } else { 0 };
            builder.stamp(far ^ (builder.len() as u64 * 1000 + u64::from(step.pick)));
        }
        if sites {
            builder.site(SiteId(u32::from(step.small) << (step.pick % 4 * 8)));
        }
    }
    if sites {
        let names = ["", "main.c:12", "a \"b\"\n\u{e4}", " blanks "];
        builder.name_sites(names.map(str::to_owned).to_vec());
    }
    builder.finish()
}

fn aligned(builder: &mut TraceBuilder, thread: ThreadIndex, step: &Step) -> BlockId {
    use AlignedFunction::*;
    let functions = [Memalign, PosixMemalign, AlignedAlloc, Valloc, Pvalloc];
    let function = functions[usize::from(step.small) % functions.len()];
    let alignment_log2 = match function {
        Valloc | Pvalloc => 12,
        _ => (step.pick % 20) as u8,
    };
    builder.aligned(thread, function, alignment_log2, step.size)
}

/// `count` events that allocate `period` blocks, free them again, and so on.
pub(crate) fn sawtooth(count: usize, period: usize) -> Trace {
    let mut builder = TraceBuilder::new(origin());
    let mut live = Vec::new();
    let mut growing = true;
    while builder.len() < count {
        if growing {
            live.push(builder.malloc(ThreadIndex(0), 10));
            growing = live.len() < period;
        } else {
            builder.free(
                ThreadIndex(0),
                live.pop().expect("it has grown before"),
                false,
            );
            growing = live.is_empty();
        }
    }
    builder.finish()
}

/// Hands a trace on in batches of `batch_events`.
pub(crate) fn feed(trace: &Trace, batch_events: usize, sink: &mut dyn EventSink) {
    let mut batch = Batch::default();
    for (index, event) in trace.events().iter().enumerate() {
        batch.events.push(*event);
        batch
            .times_ns
            .extend(trace.times_ns().map(|times| times[index]));
        batch.sites.extend(trace.sites().map(|sites| sites[index]));
        if batch.events.len() == batch_events || index + 1 == trace.events().len() {
            sink.take(&batch).expect("a sink of a test takes all");
            batch.clear();
        }
    }
}

/// Any valid trace as [`traces`] makes them, with or without time stamps and call sites. Stamps
/// ascend; some are equal.
pub(crate) fn rich_traces(events: usize) -> impl Strategy<Value = Trace> {
    let extras = proptest::collection::vec((0_u64..3, 0_u32..6), events);
    (traces(events), any::<bool>(), any::<bool>(), extras).prop_map(
        |(trace, timed, sited, extras)| {
            let mut builder = TraceBuilder::new(origin());
            feed(&trace, usize::MAX, &mut builder);
            let mut now_ns = 1000;
            for (step_ns, site) in &extras[..trace.events().len()] {
                now_ns += step_ns * 10;
                if timed {
                    builder.stamp(now_ns);
                }
                if sited {
                    builder.site(SiteId(*site));
                }
            }
            if sited {
                let names = (0..6).map(|n| format!("function_{n} (/home/secret/file.c:{n})"));
                builder.name_sites(names.collect());
            }
            builder.finish()
        },
    )
}

/// A file in the binary format, whose chunks have `chunk` events each.
pub(crate) fn in_chunks(trace: &Trace, chunk: usize) -> Vec<u8> {
    struct Sink {
        writer: BinaryWriter,
        chunk: usize,
        out: Vec<u8>,
    }
    impl EventSink for Sink {
        fn take(&mut self, batch: &Batch) -> Result<()> {
            for index in 0..batch.events.len() {
                let one = |times: &[u64]| times.get(index).copied().into_iter().collect();
                let piece = Batch {
                    events: vec![batch.events[index]],
                    times_ns: one(&batch.times_ns),
                    sites: batch.sites.get(index).copied().into_iter().collect(),
                };
                self.writer.take(&piece, &mut self.out)?;
                self.writer.cut(self.chunk, &mut self.out)?;
            }
            Ok(())
        }
    }
    let mut sink = Sink {
        writer: BinaryWriter::new(3).unwrap(),
        chunk,
        out: Vec::new(),
    };
    stream::feed(trace, &mut sink).unwrap();
    sink.writer.finish(&trace.ending(), &mut sink.out).unwrap();
    sink.out
}
