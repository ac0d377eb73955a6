//! The body of a chunk to events.

use super::encode::Header;
use super::lane::{ENDS_EARLY, Fault, Known, Lane, Parts, cut};
use super::layout::*;
use super::numbers::{Cursor, take_leb, unzigzag};
use super::section::{u32_at, u64_at};
use crate::error::Error;
use crate::trace::stream::{BATCH_EVENTS, Batch, EventSink};
use crate::trace::{Event, Operation, SIZE_BYTES_MAX, SiteId, ThreadIndex};

/// Why a chunk yields no further events.
#[derive(Debug)]
pub(super) enum Failure {
    /// It cannot have been written so; what is wrong.
    Damaged(Fault),
    /// The events could not be handed on.
    Sink(Error),
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        Self::Damaged(fault)
    }
}

type Decoded<T> = Result<T, Failure>;

fn damaged<T>(what: Fault) -> Decoded<T> {
    Err(Failure::Damaged(what))
}

/// Stands in places of a batch that no event was decoded into yet.
const NO_EVENT: Event = Event {
    thread: ThreadIndex(0),
    operation: Operation::Mark,
};

/// Decodes chunks. Keeps memory and tables from one to the next.
pub(super) struct Decoder {
    zstd: zstd::bulk::Decompressor<'static>,
    columns: [Vec<u8>; COLUMNS],
    /// For each thread in turn, the blocks it has allocated in this chunk.
    own: Vec<u32>,
    sizes: Vec<u64>,
    sites: Vec<SiteId>,
    batch: Batch,
}

impl Decoder {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self {
            zstd: zstd::bulk::Decompressor::new()?,
            columns: Default::default(),
            own: Vec::new(),
            sizes: Vec::new(),
            sites: Vec::new(),
            batch: Batch::default(),
        })
    }

    /// Hands the chunk's events on, those before a fault as well. `handed_on` counts them.
    pub(super) fn run(
        &mut self,
        body: &[u8],
        known: &mut Known,
        sink: &mut dyn EventSink,
        handed_on: &mut u64,
    ) -> Decoded<()> {
        let header = header(body)?;
        self.open(body, header.events as usize)?;
        self.tables()?;
        let blocks = self.columns[SIZES].len();
        let allocated = u64::from(known.live.allocated());
        if allocated + blocks as u64 >= u64::from(u32::MAX) {
            return damaged("it allocates more blocks than a trace can have");
        }
        if self.columns[KINDS].len() != header.events as usize {
            return damaged("it has other numbers of events in its head and its columns");
        }
        // What stood there is overwritten before it is looked at.
        self.own.resize(blocks, 0);
        let columns = &self.columns;
        let pair = |first: usize| [columns[first].as_slice(), columns[first + 1].as_slice()];
        let parts = Parts {
            kinds: &columns[KINDS],
            sizes: pair(SIZES),
            victims: pair(VICTIMS),
            counts: pair(COUNTS),
            alignments: &columns[ALIGNMENTS],
            sites: pair(SITES),
            own: &mut self.own,
        };
        let threads = header.first_event + u64::from(header.events) + THREADS_SLACK;
        let mut lanes = Vec::new();
        let table = &columns[THREADS];
        cut(table, parts, threads, header.first_block, &mut lanes)?;
        for lane in &lanes {
            known.meets(lane.thread)?;
        }
        let numbers = |first: usize| Cursor::new(&columns[first], &columns[first + 1]);
        self.batch.clear();
        let mut chunk = Chunk {
            lanes,
            run_threads: numbers(RUN_THREADS),
            run_lengths: numbers(RUN_LENGTHS),
            times: (!columns[TIMES].is_empty()).then(|| numbers(TIMES)),
            time_ns: 0,
            sizes: &self.sizes,
            sites: (!columns[SITES].is_empty()).then_some(self.sites.as_slice()),
            batch: &mut self.batch,
            filled: 0,
        };
        let outcome = chunk.runs(known, sink, handed_on);
        // What was decoded before a fault is right.
        let flushed = chunk.flush(sink, handed_on);
        let times = chunk.times.unwrap_or_default();
        outcome.and(flushed)?;
        match times.is_empty() {
            true => Ok(()),
            false => damaged("it has more times than events"),
        }
    }

    /// Time of the first event of the chunk that was run last, if it has times.
    pub(super) fn first_time_ns(&self) -> Option<u64> {
        let mut times = Cursor::new(&self.columns[TIMES], &self.columns[TIMES + 1]);
        times.next().map(|first| unzigzag(first) as u64)
    }

    /// Decompresses the columns.
    fn open(&mut self, body: &[u8], events: usize) -> Decoded<()> {
        self.columns.iter_mut().for_each(Vec::clear);
        let count = u32_at(body, CHUNK_HEADER_BYTES - 4);
        let mut rest = &body[CHUNK_HEADER_BYTES..];
        let mut next = 0;
        for _ in 0..count {
            let Some((head, behind)) = rest.split_at_checked(COLUMN_HEADER_BYTES) else {
                return damaged("it ends in the head of a column");
            };
            let [id, raw, stored] = [0, 4, 8].map(|at| u32_at(head, at) as usize);
            if !(next..COLUMNS).contains(&id) {
                return damaged("it holds a column that is not known, or out of order");
            }
            next = id + 1;
            if raw > events * bytes_per_event_max(id) {
                return damaged("one of its columns claims more bytes than its events can have");
            }
            let Some((stored, behind)) = behind.split_at_checked(stored) else {
                return damaged("it ends in a column");
            };
            rest = behind;
            let column = &mut self.columns[id];
            if stored.len() == raw {
                column.extend_from_slice(stored);
                continue;
            }
            column.reserve_exact(raw);
            // Writes no more than the capacity, whatever the frame says.
            let unpacked = self.zstd.decompress_to_buffer(stored, column);
            if unpacked.is_err() || column.len() != raw {
                return damaged("one of its columns cannot be decompressed");
            }
        }
        match rest {
            [] => Ok(()),
            _ => damaged("something stands behind its last column"),
        }
    }

    fn tables(&mut self) -> Decoded<()> {
        self.sizes.clear();
        let mut table = self.columns[SIZE_TABLE].as_slice();
        while !table.is_empty() {
            match take_leb(&mut table) {
                Some(size) if size <= SIZE_BYTES_MAX => self.sizes.push(size),
                _ => return damaged("a size is above 2^47 bytes"),
            }
        }
        self.sites.clear();
        let mut table = self.columns[SITE_TABLE].as_slice();
        while !table.is_empty() {
            match take_leb(&mut table).map(u32::try_from) {
                Some(Ok(site)) => self.sites.push(SiteId(site)),
                _ => return damaged("the number of a call site is above 2^32"),
            }
        }
        Ok(())
    }
}

/// A chunk on its way.
struct Chunk<'c> {
    lanes: Vec<Lane<'c>>,
    run_threads: Cursor<'c>,
    run_lengths: Cursor<'c>,
    times: Option<Cursor<'c>>,
    time_ns: u64,
    sizes: &'c [u64],
    sites: Option<&'c [SiteId]>,
    /// Its events are as many as fit, so that none is pushed; `filled` of them are decoded.
    batch: &'c mut Batch,
    filled: usize,
}

impl Chunk<'_> {
    /// Goes through the runs of events of one thread each.
    fn runs(
        &mut self,
        known: &mut Known,
        sink: &mut dyn EventSink,
        handed_on: &mut u64,
    ) -> Decoded<()> {
        self.batch.events.resize(BATCH_EVENTS, NO_EVENT);
        let mut begun = 0;
        while let Some(number) = self.run_threads.next() {
            let length = self.run_lengths.next().ok_or(ENDS_EARLY)?;
            let number = number as usize;
            let Some(lane) = self.lanes.get_mut(number) else {
                return damaged("a run is of a thread that is not in its table");
            };
            if number > begun {
                return damaged("its table of threads is not in the order of their first events");
            }
            begun = begun.max(number + 1);
            let mut run = lane.run(length as usize)?;
            while !run.is_empty() {
                let room = BATCH_EVENTS - self.filled;
                let (piece, rest) = run.split_at(run.len().min(room));
                self.piece(number, piece, known)?;
                run = rest;
                if self.filled == BATCH_EVENTS {
                    self.flush(sink, handed_on)?;
                }
            }
        }
        let all = self.lanes.iter().all(Lane::is_empty) && self.run_lengths.is_empty();
        match all {
            true => Ok(()),
            false => damaged("one of its columns holds more than its events need"),
        }
    }

    /// Decodes consecutive events of one thread into the batch, which has room for them.
    #[inline]
    fn piece(&mut self, lane: usize, kinds: &[u8], known: &mut Known) -> Decoded<()> {
        let lane = &mut self.lanes[lane];
        let out = &mut self.batch.events[self.filled..self.filled + kinds.len()];
        match lane.decode(kinds, self.sizes, known, out) {
            Ok(()) => self.filled += kinds.len(),
            Err((decoded, fault)) => {
                self.filled += decoded;
                return damaged(fault);
            }
        }
        let Some(sites) = self.sites else {
            return Ok(());
        };
        for _ in kinds {
            let rank = lane.sites.next().ok_or(ENDS_EARLY)?;
            let site = sites.get(rank as usize).copied();
            let site = site.ok_or("a call site is not in its table")?;
            self.batch.sites.push(site);
        }
        Ok(())
    }

    /// Hands on the events decoded.
    fn flush(&mut self, sink: &mut dyn EventSink, handed_on: &mut u64) -> Decoded<()> {
        let batch = &mut *self.batch;
        // After a fault some events may lack their call site.
        if self.sites.is_some() {
            self.filled = self.filled.min(batch.sites.len());
        }
        if self.filled == 0 {
            return Ok(());
        }
        if let Some(times) = &mut self.times {
            for _ in 0..self.filled {
                let difference = times.next().ok_or(ENDS_EARLY)?;
                self.time_ns = self.time_ns.wrapping_add(unzigzag(difference) as u64);
                batch.times_ns.push(self.time_ns);
            }
        }
        batch.events.truncate(self.filled);
        let taken = sink.take(batch);
        *handed_on += self.filled as u64;
        self.filled = 0;
        batch.times_ns.clear();
        batch.sites.clear();
        batch.events.resize(BATCH_EVENTS, NO_EVENT);
        taken.map_err(Failure::Sink)
    }
}

/// What a chunk says of itself.
pub(super) fn header(body: &[u8]) -> Decoded<Header> {
    if body.len() < CHUNK_HEADER_BYTES {
        return damaged("it is shorter than its head");
    }
    let header = Header {
        first_event: u64_at(body, 0),
        first_block: u32_at(body, 8),
        events: u32_at(body, 12),
        live_before: u32_at(body, 16),
    };
    if header.events == 0 || header.events as usize > CHUNK_EVENTS {
        return damaged("it claims to hold no event, or more than 2^20");
    }
    if header.first_event > u64::MAX / 2 {
        return damaged("it claims to begin behind the end of any trace");
    }
    Ok(header)
}
