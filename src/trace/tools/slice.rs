//! `slice`: a piece of a trace, with the live set at its start.

#![forbid(unsafe_code)]

use super::output::{Extras, Numbers, Output, events};
use crate::error::{Error, Result};
use crate::trace::binary::Chunks;
use crate::trace::block_table::BlockTable;
use crate::trace::builder::TraceBuilder;
use crate::trace::stream::{Batch, Ending, EventSink, feed};
use crate::trace::{BlockId, Event, EventCounts, Operation, SiteId, ThreadIndex, Trace, plural};

/// Which events to keep.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Window {
    /// By number, from 0.
    Events {
        /// The first.
        first: u64,
        /// How many.
        count: u64,
    },
    /// By time since the first event.
    Times {
        /// From here on.
        from_ns: u64,
        /// Up to here, exclusive.
        until_ns: u64,
    },
}

/// What happens to blocks that were allocated before the piece and are live at its start.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LiveSet {
    /// They are allocated first, in the order of their birth and by the thread that did it, by the
    /// same call, those from a `realloc` by `malloc`. A thread that has ended by then ends again.
    Recreate,
    /// They are left out, and so are their frees; a `realloc` of one becomes one of null.
    Drop,
}

/// A live block before the piece begins.
struct Born {
    event: Event,
    site: Option<SiteId>,
}

/// Cuts a piece out of a trace that passes. Memory: an entry per live block, and one per thread.
pub struct Slice<'s> {
    output: Output<'s>,
    numbers: Numbers,
    window: Window,
    live_set: LiveSet,
    /// Events that have passed.
    seen: u64,
    /// Stamp of the first event.
    begin_ns: Option<u64>,
    before: BlockTable<Born>,
    /// Threads that ended before the piece.
    ended: Vec<bool>,
    /// Events of the whole that lie in the piece: the first, and the one after the last.
    piece: Option<(u64, u64)>,
    recreated_blocks: u64,
    recreated_bytes: u64,
}

impl<'s> Slice<'s> {
    /// A piece for `sink`.
    pub fn new(sink: &'s mut dyn EventSink, window: Window, live_set: LiveSet) -> Self {
        Self {
            output: Output::new(sink),
            numbers: Numbers::default(),
            window,
            live_set,
            seen: 0,
            begin_ns: None,
            before: BlockTable::default(),
            ended: Vec::new(),
            piece: None,
            recreated_blocks: 0,
            recreated_bytes: 0,
        }
    }

    /// Events handed on so far, by kind.
    pub fn counts(&self) -> &EventCounts {
        self.output.counts()
    }

    fn step(&mut self, event: Event, extras: Extras) -> Result<()> {
        let index = self.seen;
        self.seen += 1;
        match self.place(index, extras.time_ns)? {
            Place::Before => {
                if self.live_set == LiveSet::Recreate {
                    self.remember(event, extras.site);
                }
            }
            Place::Inside => {
                match &mut self.piece {
                    Some(piece) => piece.1 = index + 1,
                    None => {
                        self.piece = Some((index, index + 1));
                        self.recreate(extras)?;
                    }
                }
                self.output.pass(&mut self.numbers, event, extras)?;
            }
            Place::After => {}
        }
        Ok(())
    }

    fn place(&mut self, index: u64, time_ns: Option<u64>) -> Result<Place> {
        let (at, from, until) = match self.window {
            Window::Events { first, count } => (index, first, first.saturating_add(count)),
            Window::Times { from_ns, until_ns } => {
                let time_ns = time_ns.ok_or_else(|| {
                    Error::usage(
                        "this trace has no time stamps; choose the piece by the number of the event",
                    )
                })?;
                let begin_ns = *self.begin_ns.get_or_insert(time_ns);
                (time_ns.saturating_sub(begin_ns), from_ns, until_ns)
            }
        };
        // Once inside, always inside until the end: stamps of different threads may be out of order.
        Ok(match self.piece {
            None if at < from => Place::Before,
            _ if at >= until => Place::After,
            _ => Place::Inside,
        })
    }

    fn remember(&mut self, event: Event, site: Option<SiteId>) {
        if let Some(block) = event.operation.releases() {
            self.before.remove(block);
        }
        if let Some(block) = event.operation.allocates() {
            self.before.insert(block, Born { event, site });
        }
        let thread = event.thread.0 as usize;
        if thread >= self.ended.len() {
            self.ended.resize(thread + 1, false);
        }
        // Some destructors run after the mark; what counts is whether it came.
        self.ended[thread] |= event.operation == Operation::ThreadEnd;
    }

    /// Allocates what was live when the piece begins.
    fn recreate(&mut self, at: Extras) -> Result<()> {
        let before = std::mem::take(&mut self.before);
        let mut live: Vec<(BlockId, &Born)> = before.iter().collect();
        live.sort_unstable_by_key(|(block, _)| *block);
        for (_, born) in live {
            let event = Event {
                operation: match born.event.operation {
                    Operation::Realloc { block, size, .. } => Operation::Malloc { block, size },
                    other => other,
                },
                ..born.event
            };
            self.recreated_blocks += 1;
            let bytes = event.operation.requested_bytes();
            self.recreated_bytes = self.recreated_bytes.saturating_add(bytes);
            let extras = Extras {
                time_ns: at.time_ns,
                site: born.site,
            };
            self.output.pass(&mut self.numbers, event, extras)?;
        }
        for (thread, _) in self.ended.iter().enumerate().filter(|(_, ended)| **ended) {
            let thread = ThreadIndex(u32::try_from(thread).expect("it was made from one"));
            if self.numbers.has_thread(thread) {
                let operation = Operation::ThreadEnd;
                let extras = Extras {
                    time_ns: at.time_ns,
                    site: at.site.map(|_| SiteId::default()),
                };
                self.output
                    .pass(&mut self.numbers, Event { thread, operation }, extras)?;
            }
        }
        Ok(())
    }

    /// Ends the piece.
    ///
    /// # Errors
    /// Those of the sink, and a piece without any operation that an allocator serves.
    pub fn finish(mut self, mut ending: Ending) -> Result<Ending> {
        self.output.flush()?;
        let Some((first, end)) = self.piece else {
            return Err(Error::usage(format!(
                "nothing to write: the trace has {}, and none lies in this piece",
                plural(self.seen, "event")
            )));
        };
        if self.output.counts().operations() == 0 {
            return Err(Error::usage(
                "nothing to write: this piece holds no allocator operation, or only frees of blocks \
                 from before it; choose another piece",
            ));
        }
        let last = end - 1;
        ending.origin.notes.push(format!(
            "a slice: events {first} to {last} (from 0) of a trace of {}",
            plural(self.seen, "event")
        ));
        if first > 0 {
            ending.origin.notes.push(match self.live_set {
                LiveSet::Recreate => format!(
                    "its first {} recreate what was live before event {first}: {} bytes",
                    plural(self.recreated_blocks, "allocation"),
                    self.recreated_bytes
                ),
                LiveSet::Drop => {
                    format!("blocks from before event {first} are missing, and so are their frees")
                }
            });
        }
        Ok(ending)
    }
}

enum Place {
    Before,
    Inside,
    After,
}

impl EventSink for Slice<'_> {
    fn take(&mut self, batch: &Batch) -> Result<()> {
        for (event, extras) in events(batch) {
            self.step(event, extras)?;
        }
        Ok(())
    }
}

/// A piece of a file in the binary format, of which only some chunks are read: none behind the piece,
/// and none before it where what is live at its start is left out.
///
/// # Errors
/// As [`Slice::finish`]; a chunk that is read is damaged.
pub fn slice_chunks(
    chunks: &mut Chunks,
    first: u64,
    count: u64,
    live_set: LiveSet,
    sink: &mut dyn EventSink,
) -> Result<Ending> {
    let ending = chunks.ending()?;
    let mut slice = Slice::new(sink, Window::Events { first, count }, live_set);
    let end = first.saturating_add(count).min(chunks.events());
    let last = end.checked_sub(1).filter(|&last| last >= first);
    if let (Some(begin), Some(last)) = (
        chunks.of_event(first),
        last.and_then(|e| chunks.of_event(e)),
    ) {
        let begin = match live_set {
            LiveSet::Recreate => 0,
            LiveSet::Drop => begin,
        };
        slice.seen = chunks.places()[begin].first_event;
        chunks.read(begin..last + 1, &mut slice)?;
    }
    slice.seen = chunks.events();
    slice.finish(ending)
}

/// A piece of a trace in memory.
///
/// # Errors
/// As [`Slice::finish`]; times asked for and not recorded.
pub fn slice(trace: &Trace, window: Window, live_set: LiveSet) -> Result<Trace> {
    let mut builder = TraceBuilder::new(trace.origin().clone());
    let mut slice = Slice::new(&mut builder, window, live_set);
    feed(trace, &mut slice)?;
    let ending = slice.finish(trace.ending())?;
    Ok(builder.finish_as(ending))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::trace::{ReadOptions, testing};

    /// Live blocks after each event, oldest first: thread, bytes, and number in the whole.
    fn live(events: &[Event]) -> Vec<(ThreadIndex, u64, BlockId)> {
        let mut live = Vec::new();
        for event in events {
            let released = event.operation.releases();
            live.retain(|&(_, _, block)| Some(block) != released);
            if let Some(block) = event.operation.allocates() {
                live.push((event.thread, event.operation.requested_bytes(), block));
            }
        }
        live
    }

    fn shape(live: &[(ThreadIndex, u64, BlockId)]) -> Vec<u64> {
        live.iter().map(|block| block.1).collect()
    }

    proptest! {
        #[test]
        fn a_piece_begins_with_the_live_set_and_ends_like_the_whole(
            trace in testing::rich_traces(100),
            first in 0_usize..110,
            count in 1_usize..110,
        ) {
            let window = Window::Events { first: first as u64, count: count as u64 };
            let piece = slice(&trace, window, LiveSet::Recreate);
            let events = trace.events();
            let end = (first + count).min(events.len());
            if first >= events.len() {
                prop_assert!(piece.is_err());
                return Ok(());
            }
            let before = live(&events[..first]);
            let Ok(piece) = piece else {
                let operations = events[first..end].iter().filter(|e| e.operation.is_replayed());
                prop_assert!(before.is_empty() && operations.count() == 0);
                return Ok(());
            };
            prop_assert_eq!(piece.times_ns().is_some(), trace.times_ns().is_some());
            prop_assert_eq!(piece.sites().is_some(), trace.sites().is_some());
            // The recreated blocks, then ends of threads, then the events themselves.
            let own = end - first;
            let ends = piece.events().len() - own - before.len();
            let recreated = &piece.events()[..before.len()];
            prop_assert_eq!(shape(&live(recreated)), shape(&before));
            for event in &piece.events()[before.len()..][..ends] {
                prop_assert_eq!(event.operation, Operation::ThreadEnd);
            }
            for (new, old) in piece.events()[before.len() + ends..].iter().zip(&events[first..end]) {
                prop_assert_eq!(
                    std::mem::discriminant(&new.operation),
                    std::mem::discriminant(&old.operation)
                );
                prop_assert_eq!(new.operation.requested_bytes(), old.operation.requested_bytes());
            }
            if let (Some(new), Some(old)) = (piece.times_ns(), trace.times_ns()) {
                prop_assert_eq!(&new[before.len() + ends..], &old[first..end]);
                prop_assert!(new.is_sorted());
            }
            prop_assert_eq!(shape(&live(piece.events())), shape(&live(&events[..end])));
            // Same threads, though numbered anew: whoever frees a recreated block of another's, does
            // so in the piece too.
            let cross = |all: &[Event], own: &[Event]| own.iter().filter(|event| {
                let released = event.operation.releases();
                all.iter().any(|birth| {
                    released.is_some() && birth.operation.allocates() == released
                        && birth.thread != event.thread
                })
            }).count();
            prop_assert_eq!(
                cross(piece.events(), &piece.events()[before.len() + ends..]),
                cross(&events[..end], &events[first..end])
            );
        }

        #[test]
        fn without_the_live_set_only_frees_of_foreign_blocks_are_dropped(
            trace in testing::traces(100),
            first in 0_usize..110,
            count in 0_usize..110,
        ) {
            let window = Window::Events { first: first as u64, count: count as u64 };
            let Ok(piece) = slice(&trace, window, LiveSet::Drop) else {
                return Ok(());
            };
            let events: Vec<_> = trace.events().iter().skip(first).take(count).collect();
            let own: Vec<_> = events.iter().filter_map(|e| e.operation.allocates()).collect();
            let foreign = |e: &&&Event| match e.operation {
                Operation::Free { block, .. } => !own.contains(&block),
                _ => false,
            };
            let dropped = events.iter().filter(foreign).count();
            prop_assert_eq!(piece.events().len(), events.len() - dropped);
            prop_assert_eq!(piece.block_count() as usize, own.len());
        }

        #[test]
        fn the_whole_is_a_piece_too(trace in testing::rich_traces(100)) {
            prop_assume!(trace.counts().operations() > 0);
            let window = Window::Events { first: 0, count: u64::MAX };
            let piece = slice(&trace, window, LiveSet::Recreate).expect("it is not empty");
            prop_assert_eq!(piece.events(), trace.events());
            prop_assert_eq!(piece.times_ns(), trace.times_ns());
            prop_assert_eq!(piece.sites(), trace.sites());
        }

        #[test]
        fn a_piece_by_time_is_one_by_number(
            trace in testing::rich_traces(60),
            from_ns in 0_u64..500,
            length_ns in 1_u64..500,
        ) {
            let window = Window::Times { from_ns, until_ns: from_ns + length_ns };
            let by_time = slice(&trace, window, LiveSet::Recreate);
            let Some(times) = trace.times_ns() else {
                prop_assert!(by_time.is_err() || trace.events().is_empty());
                return Ok(());
            };
            let inside = |limit: u64| times.partition_point(|t| t - times[0] < limit) as u64;
            let first = inside(from_ns);
            let count = inside(from_ns + length_ns) - first;
            let by_number = slice(&trace, Window::Events { first, count }, LiveSet::Recreate);
            match (by_time, by_number) {
                (Ok(a), Ok(b)) => prop_assert_eq!(a.events(), b.events()),
                (a, b) => prop_assert_eq!(a.is_err(), b.is_err()),
            }
        }
    }

    proptest! {
        /// The same piece as reading from the beginning gives, of the chunks that matter alone.
        #[test]
        fn a_piece_of_an_indexed_file(
            trace in testing::rich_traces(100),
            chunk in 1_usize..30,
            first in 0_usize..110,
            count in 0_usize..110,
            recreates in any::<bool>(),
        ) {
            prop_assume!(trace.counts().operations() > 0);
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), testing::in_chunks(&trace, chunk)).unwrap();
            let mut chunks = Chunks::open(file.path(), &ReadOptions::default()).unwrap();
            let live_set = if recreates { LiveSet::Recreate } else { LiveSet::Drop };
            let window = Window::Events { first: first as u64, count: count as u64 };
            let mut builder = TraceBuilder::new(testing::origin());
            let (from, events) = (first as u64, count as u64);
            let ending = slice_chunks(&mut chunks, from, events, live_set, &mut builder);
            match (ending, slice(&trace, window, live_set)) {
                (Ok(ending), Ok(expected)) => {
                    let piece = builder.finish_as(ending);
                    prop_assert_eq!(piece.events(), expected.events());
                    prop_assert_eq!(piece.times_ns(), expected.times_ns());
                    prop_assert_eq!(piece.sites(), expected.sites());
                    prop_assert_eq!(piece.site_names(), expected.site_names());
                    let notes = &piece.origin().notes;
                    prop_assert!(notes.ends_with(&expected.origin().notes), "{notes:?}");
                }
                (ending, expected) => {
                    let told = |error: Error| error.to_string();
                    prop_assert_eq!(ending.map(|_| ()).map_err(told), expected.map(|_| ()).map_err(told));
                }
            }
            let end = (first + count).min(trace.events().len());
            let of_chunk = |event: usize| event / chunk;
            let needed = match first < end {
                false => 0,
                true if recreates => of_chunk(end - 1) + 1,
                true => of_chunk(end - 1) - of_chunk(first) + 1,
            };
            prop_assert_eq!(chunks.chunks_read(), needed as u64);
        }
    }

    #[test]
    fn damage_outside_of_the_piece_is_not_even_seen() {
        let trace = testing::sawtooth(100, 10);
        let mut bytes = testing::in_chunks(&trace, 10);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), &bytes).unwrap();
        let chunks = Chunks::open(file.path(), &ReadOptions::default()).unwrap();
        let offsets: Vec<usize> = chunks
            .places()
            .iter()
            .map(|place| place.offset as usize)
            .collect();
        for outside in [0, 3, 6, 9] {
            bytes[offsets[outside] + 40] ^= 1;
        }
        std::fs::write(file.path(), &bytes).unwrap();
        let piece = |first, count, live_set| {
            let mut chunks = Chunks::open(file.path(), &ReadOptions::default())?;
            let mut builder = TraceBuilder::new(testing::origin());
            slice_chunks(&mut chunks, first, count, live_set, &mut builder)?;
            Ok::<_, Error>(chunks.chunks_read())
        };
        assert_eq!(piece(45, 10, LiveSet::Drop).expect("whole"), 2);
        let error = piece(45, 10, LiveSet::Recreate)
            .expect_err("damaged")
            .to_string();
        assert!(
            error.contains("chunk 0 at byte 16: its checksum"),
            "{error}"
        );
        let error = piece(55, 10, LiveSet::Drop)
            .expect_err("damaged")
            .to_string();
        assert!(error.contains("chunk 6 at byte "), "{error}");
    }
}
