//! The body of a chunk to events.

use super::encode::Header;
use super::layout::*;
use super::numbers::{Cursor, take_leb, unzigzag};
use super::section::{u32_at, u64_at};
use crate::error::Error;
use crate::trace::stream::{BATCH_EVENTS, Batch, EventSink, LiveBlocks};
use crate::trace::{
    AlignedFunction, BlockId, Event, Operation, SIZE_BYTES_MAX, SiteId, ThreadIndex,
};

/// Why a chunk yields no further events.
#[derive(Debug)]
pub(super) enum Failure {
    /// It cannot have been written so; what is wrong.
    Damaged(&'static str),
    /// The events could not be handed on.
    Sink(Error),
}

type Decoded<T> = Result<T, Failure>;

fn damaged<T>(what: &'static str) -> Decoded<T> {
    Err(Failure::Damaged(what))
}

const ENDS_EARLY: Failure = Failure::Damaged("one of its columns ends early");

/// Decodes chunks. Keeps memory and tables from one to the next.
pub(super) struct Decoder {
    zstd: zstd::bulk::Decompressor<'static>,
    columns: [Vec<u8>; COLUMNS],
    lanes: Vec<Lane>,
    /// For each thread in turn, the blocks it has allocated in this chunk.
    own: Vec<u32>,
    sizes: Vec<u64>,
    sites: Vec<SiteId>,
    batch: Batch,
    times: Cursor,
    time_ns: u64,
}

/// Where one thread stands in the columns.
#[derive(Clone, Copy)]
struct Lane {
    thread: u32,
    /// Events to come.
    events: usize,
    kind: usize,
    size: Cursor,
    victim: Cursor,
    count: Cursor,
    alignment: usize,
    site: Cursor,
    /// Place of its first block in `own`, and how many there are so far and will be.
    own: usize,
    own_count: usize,
    own_end: usize,
    last_victim: u32,
}

/// What a reader knows when it comes to a chunk.
pub(super) struct Known {
    /// Blocks below this were allocated before reading began: whether they live is not known.
    pub(super) unseen_below: u32,
    pub(super) live: LiveBlocks,
}

impl Decoder {
    pub(super) fn new() -> std::io::Result<Self> {
        Ok(Self {
            zstd: zstd::bulk::Decompressor::new()?,
            columns: Default::default(),
            lanes: Vec::new(),
            own: Vec::new(),
            sizes: Vec::new(),
            sites: Vec::new(),
            batch: Batch::default(),
            times: Cursor::default(),
            time_ns: 0,
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
        self.lanes(&header, known)?;
        self.batch.clear();
        (self.times, self.time_ns) = (Cursor::default(), 0);
        let outcome = self.runs(&header, known, sink, handed_on);
        // What was decoded before a fault is right.
        let flushed = self.flush(sink, handed_on);
        outcome.and(flushed)
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
            if raw > events * COLUMN_BYTES_PER_EVENT_MAX {
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

    /// Where each thread begins in the columns.
    fn lanes(&mut self, header: &Header, known: &Known) -> Decoded<()> {
        let sited = !self.columns[SITES].is_empty();
        let most = header.first_event + u64::from(header.events) + THREADS_SLACK;
        let mut table = self.columns[THREADS].as_slice();
        self.lanes.clear();
        let mut next = Lane {
            thread: 0,
            events: 0,
            kind: 0,
            size: Cursor::default(),
            victim: Cursor::default(),
            count: Cursor::default(),
            alignment: 0,
            site: Cursor::default(),
            own: 0,
            own_count: 0,
            own_end: 0,
            last_victim: header.first_block,
        };
        while !table.is_empty() {
            let mut entry = [0; 10];
            for number in &mut entry[..9 + usize::from(sited)] {
                let taken = take_leb(&mut table).and_then(|number| u32::try_from(number).ok());
                *number = taken.ok_or(Failure::Damaged("its table of threads is not whole"))?;
            }
            let thread = entry[0];
            let [
                _,
                events,
                blocks,
                sizes,
                victims,
                victims_extra,
                counts,
                counts_extra,
                aligned,
                sites,
            ] = entry.map(|number| number as usize);
            if u64::from(thread) >= most || events == 0 {
                return damaged("its table of threads holds one that cannot be");
            }
            self.lanes.push(Lane {
                thread,
                events,
                own_end: next.own + blocks,
                ..next
            });
            next.kind += events;
            next.own += blocks;
            next.size.main += blocks;
            next.size.extra += sizes;
            next.victim.main += victims;
            next.victim.extra += victims_extra;
            next.count.main += counts;
            next.count.extra += counts_extra;
            next.alignment += aligned;
            next.site.main += events;
            next.site.extra += sites;
        }
        if next.kind != header.events as usize || next.kind != self.columns[KINDS].len() {
            return damaged("its threads have other numbers of events than it has itself");
        }
        if next.own != self.columns[SIZES].len()
            || known.live.allocated() as u64 + next.own as u64 >= u64::from(u32::MAX)
        {
            return damaged("it allocates other numbers of blocks than it can");
        }
        self.own.clear();
        self.own.resize(next.own, 0);
        Ok(())
    }

    /// Goes through the runs of events of one thread each.
    fn runs(
        &mut self,
        header: &Header,
        known: &mut Known,
        sink: &mut dyn EventSink,
        handed_on: &mut u64,
    ) -> Decoded<()> {
        let (mut lanes, mut lengths) = (Cursor::default(), Cursor::default());
        let mut left = header.events as usize;
        while left > 0 {
            let next = |cursor: &mut Cursor, columns: &[Vec<u8>], id: usize| {
                let number = cursor.next(&columns[id], &columns[id + 1]);
                number.map(|number| number as usize).ok_or(ENDS_EARLY)
            };
            let lane = next(&mut lanes, &self.columns, RUN_THREADS)?;
            let mut length = next(&mut lengths, &self.columns, RUN_LENGTHS)?;
            let events = self.lanes.get(lane).map_or(0, |lane| lane.events);
            if length == 0 || length > events {
                return damaged("a thread has more events than its table says");
            }
            left -= length;
            while length > 0 {
                let piece = length.min(BATCH_EVENTS - self.batch.events.len());
                self.piece(lane, piece, known)?;
                length -= piece;
                if self.batch.events.len() == BATCH_EVENTS {
                    self.flush(sink, handed_on)?;
                }
            }
        }
        Ok(())
    }

    /// Decodes consecutive events of one thread into the batch.
    #[inline]
    fn piece(&mut self, lane: usize, count: usize, known: &mut Known) -> Decoded<()> {
        let mut state = self.lanes[lane];
        let mut call = Call {
            columns: &self.columns,
            sizes: &self.sizes,
            own: &mut self.own[state.own..state.own_end],
            known,
            lane: &mut state,
        };
        let thread = ThreadIndex(call.lane.thread);
        let first = call.lane.kind;
        let kinds = &self.columns[KINDS][first..first + count];
        for &kind in kinds {
            let operation = call.next(kind)?;
            self.batch.events.push(Event { thread, operation });
        }
        if !self.columns[SITES].is_empty() {
            for _ in 0..count {
                let (main, extra) = (&self.columns[SITES], &self.columns[SITES + 1]);
                let rank = state.site.next(main, extra).ok_or(ENDS_EARLY)?;
                let site = self.sites.get(rank as usize).copied();
                let site = site.ok_or(Failure::Damaged("a call site is not in its table"))?;
                self.batch.sites.push(site);
            }
        }
        state.kind += count;
        state.events -= count;
        self.lanes[lane] = state;
        Ok(())
    }

    /// Hands on the batch.
    fn flush(&mut self, sink: &mut dyn EventSink, handed_on: &mut u64) -> Decoded<()> {
        let batch = &mut self.batch;
        // After a fault some events may lack their call site.
        if !self.columns[SITES].is_empty() {
            batch.events.truncate(batch.sites.len());
        }
        if !self.columns[TIMES].is_empty() {
            let (main, extra) = (&self.columns[TIMES], &self.columns[TIMES + 1]);
            for _ in 0..batch.events.len() {
                let difference = self.times.next(main, extra).ok_or(ENDS_EARLY)?;
                self.time_ns = self.time_ns.wrapping_add(unzigzag(difference) as u64);
                batch.times_ns.push(self.time_ns);
            }
        }
        if batch.events.is_empty() {
            return Ok(());
        }
        let taken = sink.take(batch);
        *handed_on += batch.events.len() as u64;
        batch.clear();
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

/// Decodes one event of a thread.
struct Call<'d> {
    columns: &'d [Vec<u8>; COLUMNS],
    sizes: &'d [u64],
    own: &'d mut [u32],
    known: &'d mut Known,
    lane: &'d mut Lane,
}

impl Call<'_> {
    // The usual ones first, by tests that predict better than a table of jumps.
    #[inline(always)]
    fn next(&mut self, kind: u8) -> Decoded<Operation> {
        if kind == MALLOC {
            let size = self.size()?;
            let block = self.allocate()?;
            return Ok(Operation::Malloc { block, size });
        }
        if kind < CALLOC {
            let sized = kind >= FREE_SIZED;
            let how = kind - if sized { FREE_SIZED } else { FREE };
            let block = self.victim(how)?;
            return Ok(Operation::Free { block, sized });
        }
        self.rare(kind)
    }

    #[inline]
    fn rare(&mut self, kind: u8) -> Decoded<Operation> {
        Ok(match kind {
            CALLOC => {
                let (main, extra) = (&self.columns[COUNTS], &self.columns[COUNTS + 1]);
                let count = self.lane.count.next(main, extra).ok_or(ENDS_EARLY)?;
                let size = self.size()?;
                let Ok(count) = u32::try_from(count) else {
                    return damaged("a count of calloc is above 2^32");
                };
                if u64::from(count).saturating_mul(size) > SIZE_BYTES_MAX {
                    return damaged("a calloc asks for more than 2^47 bytes");
                }
                let block = self.allocate()?;
                Operation::Calloc { block, count, size }
            }
            ALIGNED => {
                let code = self.columns[ALIGNMENTS].get(self.lane.alignment).copied();
                let code = code.ok_or(ENDS_EARLY)?;
                self.lane.alignment += 1;
                let Some(function) = function(code / ALIGNMENTS_PER_FUNCTION) else {
                    return damaged("an aligned allocation is of no known function");
                };
                let size = self.size()?;
                Operation::Aligned {
                    block: self.allocate()?,
                    alignment_log2: code % ALIGNMENTS_PER_FUNCTION,
                    function,
                    size,
                }
            }
            REALLOC_NULL => {
                let size = self.size()?;
                let (old, block) = (None, self.allocate()?);
                Operation::Realloc { old, block, size }
            }
            REALLOC..FREE_NULL => {
                let old = Some(self.victim(kind - REALLOC)?);
                let size = self.size()?;
                let block = self.allocate()?;
                Operation::Realloc { old, block, size }
            }
            FREE_NULL => Operation::FreeNull,
            FREE_UNSEEN => Operation::FreeUnseen,
            THREAD_START => Operation::ThreadStart,
            THREAD_END => Operation::ThreadEnd,
            MARK => Operation::Mark,
            FAILED => Operation::FailedAllocation,
            _ => return damaged("an event is of no known kind"),
        })
    }

    #[inline(always)]
    fn size(&mut self) -> Decoded<u64> {
        let (main, extra) = (&self.columns[SIZES], &self.columns[SIZES + 1]);
        let rank = self.lane.size.next(main, extra).ok_or(ENDS_EARLY)?;
        match self.sizes.get(rank as usize) {
            Some(&size) => Ok(size),
            None => damaged("a size is not in its table"),
        }
    }

    #[inline(always)]
    fn allocate(&mut self) -> Decoded<BlockId> {
        let Some(place) = self.own.get_mut(self.lane.own_count) else {
            return damaged("a thread allocates more blocks than its table says");
        };
        self.lane.own_count += 1;
        let block = self.known.live.allocate();
        *place = block.0;
        Ok(block)
    }

    #[inline(always)]
    fn victim(&mut self, how: u8) -> Decoded<BlockId> {
        let (main, extra) = (&self.columns[VICTIMS], &self.columns[VICTIMS + 1]);
        let number = self.lane.victim.next(main, extra).ok_or(ENDS_EARLY)?;
        let allocated = self.known.live.allocated();
        let block = match how {
            OWN => {
                let back = usize::try_from(number).ok();
                let place = back.and_then(|back| self.lane.own_count.checked_sub(back + 1));
                place.and_then(|place| self.own.get(place).copied())
            }
            NEAR => {
                let block = i64::from(self.lane.last_victim).checked_add(unzigzag(number));
                block.and_then(|block| u32::try_from(block).ok())
            }
            _ => u32::try_from(number)
                .ok()
                .and_then(|number| allocated.checked_sub(1)?.checked_sub(number)),
        };
        let Some(block) = block.map(BlockId) else {
            return damaged("it frees a block that was never allocated");
        };
        self.lane.last_victim = block.0;
        if !self.known.live.release(block) && block.0 >= self.known.unseen_below {
            return damaged("it frees a block that is not live");
        }
        Ok(block)
    }
}

fn function(code: u8) -> Option<AlignedFunction> {
    Some(match code {
        0 => AlignedFunction::Memalign,
        1 => AlignedFunction::PosixMemalign,
        2 => AlignedFunction::AlignedAlloc,
        3 => AlignedFunction::Valloc,
        4 => AlignedFunction::Pvalloc,
        _ => return None,
    })
}
