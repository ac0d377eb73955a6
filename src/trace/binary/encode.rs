//! Events to the body of a chunk.

use rustc_hash::FxHashMap;

use super::layout::*;
use super::numbers::{Numbers, put_leb, zigzag};
use crate::trace::stream::Batch;
use crate::trace::{AlignedFunction, BlockId, Event, Operation};

/// What one thread did in the chunk.
struct Lane {
    thread: u32,
    kinds: Vec<u8>,
    sizes: Vec<u64>,
    victims: Numbers,
    counts: Numbers,
    alignments: Vec<u8>,
    sites: Vec<u32>,
    /// Blocks it has allocated in this chunk.
    own: u32,
    last_victim: u32,
}

/// A chunk in the making.
pub(super) struct Encoder {
    lanes: Vec<Lane>,
    /// Place of a thread in `lanes`.
    lane_of: FxHashMap<u32, usize>,
    run_lanes: Numbers,
    run_lengths: Numbers,
    run: (usize, u64),
    /// Who allocated each block of this chunk, and the how-many-th of its blocks it is.
    owners: Vec<(u32, u32)>,
    times_ns: Vec<u64>,
    events: usize,
    pub(super) first_event: u64,
    pub(super) first_block: u32,
    pub(super) live_before: u32,
    blocks: u32,
    live: u32,
    timed: bool,
    sited: bool,
}

impl Encoder {
    pub(super) fn new() -> Self {
        Self {
            lanes: Vec::new(),
            lane_of: FxHashMap::default(),
            run_lanes: Numbers::default(),
            run_lengths: Numbers::default(),
            run: (0, 0),
            owners: Vec::new(),
            times_ns: Vec::new(),
            events: 0,
            first_event: 0,
            first_block: 0,
            live_before: 0,
            blocks: 0,
            live: 0,
            timed: true,
            sited: true,
        }
    }

    /// Events in the chunk so far.
    pub(super) fn len(&self) -> usize {
        self.events
    }

    /// Events of the trace so far.
    pub(super) fn total_events(&self) -> u64 {
        self.first_event + self.events as u64
    }

    /// Blocks of the trace so far.
    pub(super) fn total_blocks(&self) -> u32 {
        self.blocks
    }

    /// Time of the chunk's first event, if it has times.
    pub(super) fn first_time_ns(&self) -> Option<u64> {
        self.times_ns.first().copied().filter(|_| self.timed)
    }

    /// Adds event number `index` of a batch.
    #[inline]
    pub(super) fn push(&mut self, batch: &Batch, index: usize) {
        let Event { thread, operation } = batch.events[index];
        let lane = match self.run {
            (lane, 1..) if self.lanes[lane].thread == thread.0 => lane,
            _ => self.switch(thread.0),
        };
        self.run = (lane, self.run.1 + 1);
        self.events += 1;
        match batch.times_ns.get(index) {
            Some(&time_ns) => self.times_ns.push(time_ns),
            None => self.timed = false,
        }
        match batch.sites.get(index) {
            Some(site) => self.lanes[lane].sites.push(site.0),
            None => self.sited = false,
        }
        self.operation(lane, operation);
    }

    #[inline]
    fn operation(&mut self, lane: usize, operation: Operation) {
        let kind = match operation {
            Operation::Malloc { size, .. } => self.allocate(lane, MALLOC, size),
            Operation::Free { block, sized } => {
                let base = if sized { FREE_SIZED } else { FREE };
                base + self.victim(lane, block)
            }
            Operation::Calloc { count, size, .. } => {
                self.lanes[lane].counts.push(u64::from(count));
                self.allocate(lane, CALLOC, size)
            }
            Operation::Aligned {
                alignment_log2,
                function,
                size,
                ..
            } => {
                let code = function_code(function) * ALIGNMENTS_PER_FUNCTION + alignment_log2;
                self.lanes[lane].alignments.push(code);
                self.allocate(lane, ALIGNED, size)
            }
            Operation::Realloc {
                old: None, size, ..
            } => self.allocate(lane, REALLOC_NULL, size),
            Operation::Realloc {
                old: Some(old),
                size,
                ..
            } => {
                let kind = REALLOC + self.victim(lane, old);
                self.allocate(lane, kind, size)
            }
            Operation::FreeNull => FREE_NULL,
            Operation::FreeUnseen => FREE_UNSEEN,
            Operation::ThreadStart => THREAD_START,
            Operation::ThreadEnd => THREAD_END,
            Operation::Mark => MARK,
            Operation::FailedAllocation => FAILED,
        };
        self.lanes[lane].kinds.push(kind);
    }

    fn switch(&mut self, thread: u32) -> usize {
        self.end_run();
        let next = self.lanes.len();
        let lane = *self.lane_of.entry(thread).or_insert(next);
        if lane == next {
            self.lanes.push(Lane {
                thread,
                kinds: Vec::new(),
                sizes: Vec::new(),
                victims: Numbers::default(),
                counts: Numbers::default(),
                alignments: Vec::new(),
                sites: Vec::new(),
                own: 0,
                last_victim: self.first_block,
            });
        }
        lane
    }

    fn end_run(&mut self) {
        let (lane, length) = self.run;
        if length > 0 {
            self.run_lanes.push(lane as u64);
            self.run_lengths.push(length);
        }
        self.run = (0, 0);
    }

    #[inline]
    fn allocate(&mut self, lane: usize, kind: u8, size: u64) -> u8 {
        let owner = &mut self.lanes[lane];
        owner.sizes.push(size);
        self.owners.push((lane as u32, owner.own));
        owner.own += 1;
        self.blocks += 1;
        self.live += 1;
        kind
    }

    /// Writes which block ends, and returns how it is told.
    #[inline]
    fn victim(&mut self, lane: usize, block: BlockId) -> u8 {
        self.live -= 1;
        let here = block.0.checked_sub(self.first_block);
        let owner = here.map(|place| self.owners[place as usize]);
        let lane_number = lane as u32;
        let lane = &mut self.lanes[lane];
        let old = (OLD, u64::from(self.blocks - 1 - block.0));
        let near = i64::from(block.0) - i64::from(lane.last_victim);
        lane.last_victim = block.0;
        let near = (NEAR, zigzag(near));
        // Of equals the one that is used most, so that kinds repeat.
        let mut best = if near.1 < old.1 { near } else { old };
        if let Some((owner, place)) = owner
            && owner == lane_number
        {
            let own = u64::from(lane.own - 1 - place);
            if own <= best.1 {
                best = (OWN, own);
            }
        }
        lane.victims.push(best.1);
        best.0
    }

    /// The chunk's columns, uncompressed; the next chunk begins.
    pub(super) fn columns(&mut self) -> Columns {
        self.end_run();
        let mut columns: [Vec<u8>; COLUMNS] = Default::default();
        let size_ranks = Ranks::of(
            self.lanes
                .iter()
                .flat_map(|lane| lane.sizes.iter().copied()),
        );
        let mut sizes = Numbers::default();
        let sites = self
            .lanes
            .iter()
            .flat_map(|lane| lane.sites.iter().copied());
        let site_ranks = Ranks::of(sites.map(u64::from));
        let mut sites = Numbers::default();
        for lane in &self.lanes {
            let before = (sizes.extra.len(), sites.extra.len());
            for size in &lane.sizes {
                sizes.push(size_ranks.ranks[size]);
            }
            if self.sited {
                for &site in &lane.sites {
                    sites.push(site_ranks.ranks[&u64::from(site)]);
                }
            }
            let entries = [
                lane.thread as usize,
                lane.kinds.len(),
                lane.sizes.len(),
                sizes.extra.len() - before.0,
                lane.victims.main.len(),
                lane.victims.extra.len(),
                lane.counts.main.len(),
                lane.counts.extra.len(),
                lane.alignments.len(),
            ];
            for entry in entries {
                put_leb(entry as u64, &mut columns[THREADS]);
            }
            if self.sited {
                let extra = sites.extra.len() - before.1;
                put_leb(extra as u64, &mut columns[THREADS]);
            }
            columns[KINDS].extend_from_slice(&lane.kinds);
            columns[VICTIMS].extend_from_slice(&lane.victims.main);
            columns[VICTIMS + 1].extend_from_slice(&lane.victims.extra);
            columns[COUNTS].extend_from_slice(&lane.counts.main);
            columns[COUNTS + 1].extend_from_slice(&lane.counts.extra);
            columns[ALIGNMENTS].extend_from_slice(&lane.alignments);
        }
        columns[SIZE_TABLE] = size_ranks.table;
        (columns[SIZES], columns[SIZES + 1]) = (sizes.main, sizes.extra);
        if self.sited {
            columns[SITE_TABLE] = site_ranks.table;
            (columns[SITES], columns[SITES + 1]) = (sites.main, sites.extra);
        }
        if self.timed {
            let mut times = Numbers::default();
            let mut before = 0_u64;
            for &time_ns in &self.times_ns {
                times.push(zigzag(time_ns.wrapping_sub(before) as i64));
                before = time_ns;
            }
            (columns[TIMES], columns[TIMES + 1]) = (times.main, times.extra);
        }
        let (runs, lengths) = (&mut self.run_lanes, &mut self.run_lengths);
        columns[RUN_THREADS] = std::mem::take(&mut runs.main);
        columns[RUN_THREADS + 1] = std::mem::take(&mut runs.extra);
        columns[RUN_LENGTHS] = std::mem::take(&mut lengths.main);
        columns[RUN_LENGTHS + 1] = std::mem::take(&mut lengths.extra);
        let header = Header {
            first_event: self.first_event,
            first_block: self.first_block,
            events: self.events as u32,
            live_before: self.live_before,
        };
        self.begin();
        Columns { header, columns }
    }

    fn begin(&mut self) {
        self.first_event += self.events as u64;
        self.events = 0;
        self.first_block = self.blocks;
        self.live_before = self.live;
        self.lanes.clear();
        self.lane_of.clear();
        self.run_lanes.clear();
        self.run_lengths.clear();
        self.owners.clear();
        self.times_ns.clear();
        (self.timed, self.sited) = (true, true);
    }
}

/// What a chunk says of itself before its columns.
#[derive(Clone, Copy)]
pub(super) struct Header {
    pub(super) first_event: u64,
    pub(super) first_block: u32,
    pub(super) events: u32,
    pub(super) live_before: u32,
}

/// A chunk's columns, uncompressed.
pub(super) struct Columns {
    pub(super) header: Header,
    columns: [Vec<u8>; COLUMNS],
}

impl Columns {
    /// The body of the chunk.
    pub(super) fn compress(
        &self,
        zstd: &mut zstd::bulk::Compressor,
        body: &mut Vec<u8>,
    ) -> std::io::Result<()> {
        let header = self.header;
        body.extend_from_slice(&header.first_event.to_le_bytes());
        let used = self.columns.iter().filter(|raw| !raw.is_empty()).count() as u32;
        for number in [header.first_block, header.events, header.live_before, used] {
            body.extend_from_slice(&number.to_le_bytes());
        }
        for (id, raw) in self.columns.iter().enumerate() {
            if raw.is_empty() {
                continue;
            }
            let packed = zstd.compress(raw)?;
            let stored = if packed.len() < raw.len() {
                &packed
            } else {
                raw
            };
            for number in [id, raw.len(), stored.len()] {
                body.extend_from_slice(&(number as u32).to_le_bytes());
            }
            body.extend_from_slice(stored);
        }
        Ok(())
    }
}

/// Values by how often they occur.
struct Ranks {
    /// The values, LEB128, the most frequent first.
    table: Vec<u8>,
    ranks: FxHashMap<u64, u64>,
}

impl Ranks {
    fn of(values: impl Iterator<Item = u64>) -> Self {
        let mut counts: FxHashMap<u64, u64> = FxHashMap::default();
        for value in values {
            *counts.entry(value).or_default() += 1;
        }
        let mut order: Vec<(u64, u64)> = counts
            .iter()
            .map(|(&value, &count)| (value, count))
            .collect();
        order.sort_unstable_by_key(|&(value, count)| (std::cmp::Reverse(count), value));
        let mut table = Vec::new();
        for (rank, &(value, _)) in order.iter().enumerate() {
            put_leb(value, &mut table);
            counts.insert(value, rank as u64);
        }
        Self {
            table,
            ranks: counts,
        }
    }
}

fn function_code(function: AlignedFunction) -> u8 {
    match function {
        AlignedFunction::Memalign => 0,
        AlignedFunction::PosixMemalign => 1,
        AlignedFunction::AlignedAlloc => 2,
        AlignedFunction::Valloc => 3,
        AlignedFunction::Pvalloc => 4,
    }
}
