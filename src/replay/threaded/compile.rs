//! Trace -> [`ThreadedProgram`].
//!
//! # Edges
//! A thread waits for another only
//! - before it frees or reallocates a block that another thread allocated, until that is done
//!   (`threads`, `paced`); or before each operation whose predecessor in the recorded total order is
//!   another thread's, until that is done (`strict`);
//! - before it makes a thread that takes the place of one that has ended, until that one's end.
//!
//! Recordings do not tell who made a thread. The rule here: the thread of the nearest event before
//! the new thread's first one, of those that are still alive; right after its own last operation
//! before that event. A thread lives from its first to its last event. The thread of the trace's
//! first event is played by the process's own first thread; when its operations are over, it stays to
//! make the threads that nobody else can have made, and to join those whose place nobody takes.
//! There are as many places as the recording has threads alive at once at most, and a thread is made
//! only when the one that had its place has been joined: so never more are alive than were recorded.
//! Of the vacant places the one that has been vacant longest is taken: it is waited for least.
//!
//! An edge is dropped if its consumer has waited for the same producer at this operation or a later
//! one, or was made after that: then nothing is left to wait for.
//!
//! # No deadlock
//! Give each operation the number of its event, the making of a thread and the joining before it a
//! number just below the new thread's first event, and the end of a thread one just above its last
//! event. Then in each thread's words the numbers ascend: the maker's last operation before the new
//! thread's first event stands before, its next one behind. And each edge leads from a lower to a
//! higher number: a block is allocated before it is freed; a place is vacated before it is taken; a
//! thread is made before its first operation. So the recorded total order is a topological order of
//! everything that waits. Whatever has been done, the one with the lowest number of what has not can
//! be done: no cycle, no deadlock. (`paced` also waits for time, which passes by itself.)
//!
//! # Slots
//! A slot may be used for another block when its last use is certainly over: by the thread that
//! freed the block, or by one that has waited for that thread at the free or later. So each thread
//! has a store of its own, takes from it what it freed last, and when that is empty what others freed
//! before it last waited for them; only then is the table enlarged, by a cache line at once, so that
//! threads do not share lines more than they share blocks. Under `strict` all is ordered, and one
//! store serves all.

#![forbid(unsafe_code)]

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use super::program::{Control, Part, THREAD_LIMIT, ThreadedProgram};
use crate::error::{Error, Result};
use crate::measure::results::{Order, ThreadedRecord};
use crate::replay::program::{NULL_SLOT, Program, Word};
use crate::trace::{Event, Operation, Trace};

/// Slots by which the table is enlarged: two cache lines of pointers, as processors fetch them.
const SLOTS_AT_ONCE: u32 = 16;

impl ThreadedProgram {
    /// Compiles a trace for [`Order::Threads`], [`Order::Strict`] or [`Order::Paced`]. Fails if the
    /// order is paced and the trace has no time stamps, or too many blocks are live at once.
    ///
    /// # Panics
    /// For [`Order::Serial`], which is no order of threads.
    pub fn compile(trace: &Trace, order: Order) -> Result<Self> {
        assert_ne!(order, Order::Serial, "a serial replay has no threads");
        if order == Order::Paced && trace.times_ns().is_none() {
            return Err(Error::usage(format!(
                "{}: the recording has no time stamps, which the order `paced` needs; use \
                 `--order threads`",
                trace.origin().source
            )));
        }
        if trace.thread_count() > THREAD_LIMIT {
            return Err(Error::Failed(format!(
                "the trace has more than {THREAD_LIMIT} threads; replay a slice of it"
            )));
        }
        let lives = Lives::of(trace);
        let awaited = awaited(trace, order, &lives);
        Compiler::new(trace, order, &lives).compile(&awaited)
    }
}

/// The making of a thread.
#[derive(Clone, Copy, Debug)]
struct Birth {
    thread: u32,
    maker: u32,
    /// Maker's last event before.
    maker_event: u32,
    place: u32,
    /// The thread that had the place.
    predecessor: Option<u32>,
}

/// When which thread is made and ends.
struct Lives {
    first_thread: u32,
    /// Last event of each thread.
    last: Vec<Option<u32>>,
    /// In order, by the new thread's first event.
    births: Vec<(u32, Birth)>,
    places: u32,
}

impl Lives {
    fn of(trace: &Trace) -> Self {
        let threads = trace.thread_count() as usize;
        let mut last = vec![None; threads];
        for (index, event) in trace.events().iter().enumerate() {
            last[event.thread.0 as usize] = Some(index as u32);
        }
        let places = alive_peak(trace.events(), &last);
        let first_thread = trace.events().first().map_or(0, |event| event.thread.0);
        let mut lives = Self {
            first_thread,
            last,
            births: Vec::new(),
            places,
        };
        lives.find_births(trace.events());
        lives
    }

    fn find_births(&mut self, events: &[Event]) {
        // Vacant places and who had them, the longest vacant first.
        let mut vacant: VecDeque<(u32, Option<u32>)> =
            (0..self.places).map(|place| (place, None)).collect();
        // Alive threads: place and latest event.
        let mut alive: FxHashMap<u32, (u32, u32)> = FxHashMap::default();
        let mut latest_of_first = 0;
        for (index, event) in (0_u32..).zip(events) {
            let thread = event.thread.0;
            if let Some(life) = alive.get_mut(&thread) {
                life.1 = index;
            } else {
                let (place, predecessor) = vacant
                    .pop_front()
                    .expect("as many places as threads alive at once");
                if index > 0 {
                    let maker = alive
                        .iter()
                        .map(|(thread, (_, latest))| (*latest, *thread))
                        .max()
                        .unwrap_or((latest_of_first, self.first_thread));
                    let birth = Birth {
                        thread,
                        maker: maker.1,
                        maker_event: maker.0,
                        place,
                        predecessor,
                    };
                    self.births.push((index, birth));
                }
                alive.insert(thread, (place, index));
            }
            if thread == self.first_thread {
                latest_of_first = index;
            }
            if self.last[thread as usize] == Some(index)
                && let Some((place, _)) = alive.remove(&thread)
            {
                vacant.push_back((place, Some(thread)));
            }
        }
    }
}

/// Most threads between their first and last event at once.
fn alive_peak(events: &[Event], last: &[Option<u32>]) -> u32 {
    let mut seen = vec![false; last.len()];
    let (mut alive, mut peak) = (0, 0);
    for (index, event) in (0_u32..).zip(events) {
        let thread = event.thread.0 as usize;
        if !std::mem::replace(&mut seen[thread], true) {
            alive += 1;
            peak = peak.max(alive);
        }
        if last[thread] == Some(index) {
            alive -= 1;
        }
    }
    peak
}

/// Up to which event of which other thread each thread knows everything to be done.
struct Knowledge(Vec<FxHashMap<u32, u32>>);

impl Knowledge {
    fn new(threads: u32) -> Self {
        Self(vec![FxHashMap::default(); threads as usize])
    }

    /// The consumer must know the producer's event done. Returns whether it must wait for that.
    fn require(&mut self, consumer: u32, producer: u32, event: u32) -> bool {
        if consumer == producer {
            return false;
        }
        let known = self.0[consumer as usize].entry(producer);
        match known {
            std::collections::hash_map::Entry::Occupied(entry) if *entry.get() >= event => false,
            std::collections::hash_map::Entry::Occupied(mut entry) => {
                entry.insert(event);
                true
            }
            std::collections::hash_map::Entry::Vacant(entry) => {
                entry.insert(event);
                true
            }
        }
    }

    /// A new thread knows what its maker knows, and what that has done.
    fn birth(&mut self, birth: &Birth, end_of: impl Fn(u32) -> u32) {
        if let Some(predecessor) = birth.predecessor {
            self.require(birth.maker, predecessor, end_of(predecessor));
        }
        let mut inherited = self.0[birth.maker as usize].clone();
        inherited.insert(birth.maker, birth.maker_event);
        self.0[birth.thread as usize] = inherited;
    }
}

/// What the thread of an operation must wait for, if anything: an event before it.
struct Needs<'t> {
    events: &'t [Event],
    strict: bool,
    /// The event that allocated each block.
    births: Vec<u32>,
    /// The last operation.
    previous: Option<u32>,
    cross_thread_frees: u64,
}

impl<'t> Needs<'t> {
    fn new(trace: &'t Trace, order: Order) -> Self {
        Self {
            events: trace.events(),
            strict: order == Order::Strict,
            births: vec![0; trace.block_count() as usize],
            previous: None,
            cross_thread_frees: 0,
        }
    }

    /// Takes the next operation in order.
    fn next(&mut self, index: u32, event: &Event) -> Option<u32> {
        let birth = event
            .operation
            .releases()
            .map(|block| self.births[block.0 as usize])
            .filter(|birth| self.events[*birth as usize].thread != event.thread);
        self.cross_thread_frees += u64::from(birth.is_some());
        if let Some(block) = event.operation.allocates() {
            self.births[block.0 as usize] = index;
        }
        let previous = self.previous.replace(index);
        if self.strict { previous } else { birth }
    }
}

/// For each event whether some thread waits for it.
fn awaited(trace: &Trace, order: Order, lives: &Lives) -> Vec<bool> {
    let mut awaited = vec![false; trace.events().len()];
    let mut knowledge = Knowledge::new(trace.thread_count());
    let mut needs = Needs::new(trace, order);
    let mut births = lives.births.iter().peekable();
    for (index, event) in (0_u32..).zip(trace.events()) {
        if let Some((_, birth)) = births.next_if(|birth| birth.0 == index) {
            knowledge.birth(birth, |thread| lives.end_of(thread));
        }
        if event.operation.is_replayed()
            && let Some(need) = needs.next(index, event)
        {
            let producer = trace.events()[need as usize].thread.0;
            if knowledge.require(event.thread.0, producer, need) {
                awaited[need as usize] = true;
            }
        }
    }
    awaited
}

impl Lives {
    fn end_of(&self, thread: u32) -> u32 {
        self.last[thread as usize].expect("threads that are made have events")
    }
}

/// The words of one thread as they come.
#[derive(Default)]
struct Stream {
    words: Vec<Word>,
    numbers: Vec<u32>,
    /// How often it has counted up.
    count: u32,
    place: u32,
    ended: bool,
    /// Vacant slots, with the event that freed them, ascending.
    vacant: VecDeque<(u32, u32)>,
    /// Time stamp of the last operation.
    time_ns: u64,
}

struct Compiler<'t> {
    trace: &'t Trace,
    order: Order,
    lives: &'t Lives,
    program: Program,
    streams: Vec<Stream>,
    tail: Stream,
    knowledge: Knowledge,
    needs: Needs<'t>,
    slot_of_block: Vec<u32>,
    /// The count at which an awaited event is done.
    counts: FxHashMap<u32, u32>,
    joined: Vec<bool>,
    operations: u32,
    edges: u64,
}

impl<'t> Compiler<'t> {
    fn new(trace: &'t Trace, order: Order, lives: &'t Lives) -> Self {
        let threads = trace.thread_count();
        Self {
            trace,
            order,
            lives,
            program: Program {
                slots: 1,
                ..Program::default()
            },
            streams: (0..threads).map(|_| Stream::default()).collect(),
            tail: Stream::default(),
            knowledge: Knowledge::new(threads),
            needs: Needs::new(trace, order),
            slot_of_block: vec![NULL_SLOT; trace.block_count() as usize],
            counts: FxHashMap::default(),
            joined: vec![false; threads as usize],
            operations: 0,
            edges: 0,
        }
    }

    fn compile(mut self, awaited: &[bool]) -> Result<ThreadedProgram> {
        let mut births = self.lives.births.iter().peekable();
        let earliest_ns = self
            .trace
            .times_ns()
            .and_then(|times| times.iter().min().copied())
            .unwrap_or(0);
        for (index, event) in (0_u32..).zip(self.trace.events()) {
            if let Some((_, birth)) = births.next_if(|birth| birth.0 == index) {
                self.birth(birth);
            }
            if event.operation.is_replayed() {
                let thread = event.thread.0;
                if let Some(need) = self.needs.next(index, event) {
                    self.wait(thread, need);
                }
                if self.order == Order::Paced
                    && let Some(times_ns) = self.trace.times_ns()
                {
                    self.pace(thread, times_ns[index as usize] - earliest_ns);
                }
                self.operation(index, thread, &event.operation)?;
                if awaited[index as usize] {
                    let count = self.advance(thread);
                    self.counts.insert(index, count);
                }
            }
            if self.lives.last[event.thread.0 as usize] == Some(index) {
                self.advance(event.thread.0);
                self.streams[event.thread.0 as usize].ended = true;
            }
        }
        self.join_all();
        Ok(self.finish())
    }

    fn push(&mut self, thread: u32, control: Control) {
        let number = self.operations;
        let stream = &mut self.streams[thread as usize];
        // Only the process's first thread is asked for anything after its end.
        let stream = if stream.ended { &mut self.tail } else { stream };
        stream.words.push(control.word());
        stream.numbers.push(number);
    }

    fn advance(&mut self, thread: u32) -> u32 {
        self.push(thread, Control::Advance);
        let count = &mut self.streams[thread as usize].count;
        *count += 1;
        *count
    }

    fn birth(&mut self, birth: &Birth) {
        if let Some(predecessor) = birth.predecessor {
            self.join(birth.maker, predecessor);
            if self.order != Order::Strict {
                let vacant = std::mem::take(&mut self.streams[predecessor as usize].vacant);
                self.streams[birth.thread as usize].vacant = vacant;
            }
        }
        self.push(
            birth.maker,
            Control::Start {
                thread: birth.thread,
            },
        );
        self.edges += 1;
        self.streams[birth.thread as usize].place = birth.place;
        self.knowledge
            .birth(birth, |thread| self.lives.end_of(thread));
    }

    /// Waits for a thread's end, and joins it unless it is the process's first.
    fn join(&mut self, joiner: u32, thread: u32) {
        if joiner != thread {
            let count = self.streams[thread as usize].count;
            self.push(joiner, Control::Wait { thread, count });
            self.edges += 1;
        }
        if thread != self.lives.first_thread {
            self.push(joiner, Control::Reap { thread });
        }
        self.joined[thread as usize] = true;
    }

    /// The process's first thread joins who was not joined by a successor's maker.
    fn join_all(&mut self) {
        let first = self.lives.first_thread;
        let mut left: Vec<(u32, u32)> = (0_u32..)
            .zip(&self.lives.last)
            .filter(|(thread, _)| *thread != first && !self.joined[*thread as usize])
            .filter_map(|(thread, last)| Some(((*last)?, thread)))
            .collect();
        left.sort_unstable();
        // They hold nobody up: no edges of the replay.
        let edges = self.edges;
        for (_, thread) in left {
            self.join(first, thread);
        }
        self.edges = edges;
    }

    fn wait(&mut self, thread: u32, need: u32) {
        let producer = self.trace.events()[need as usize].thread.0;
        if self.knowledge.require(thread, producer, need) {
            let count = self.counts[&need];
            self.push(
                thread,
                Control::Wait {
                    thread: producer,
                    count,
                },
            );
            self.edges += 1;
        }
    }

    fn pace(&mut self, thread: u32, time_ns: u64) {
        let last = &mut self.streams[thread as usize].time_ns;
        if time_ns > *last {
            *last = time_ns;
            self.push(thread, Control::Pace { time_ns });
        }
    }

    fn operation(&mut self, index: u32, thread: u32, operation: &Operation) -> Result<()> {
        let released = match operation.releases() {
            Some(block) => std::mem::replace(&mut self.slot_of_block[block.0 as usize], NULL_SLOT),
            None => NULL_SLOT,
        };
        if released != NULL_SLOT {
            let store = self.store(thread);
            self.streams[store].vacant.push_back((index, released));
        }
        let slot = match operation.allocates() {
            Some(block) => {
                let slot = self.take_slot(thread)?;
                self.slot_of_block[block.0 as usize] = slot;
                slot
            }
            None => NULL_SLOT,
        };
        let word = self.program.word(operation, released, slot);
        let number = self.operations;
        self.operations += 1;
        let stream = &mut self.streams[thread as usize];
        stream.words.push(word);
        stream.numbers.push(number);
        Ok(())
    }

    /// Whose vacant slots a thread uses.
    fn store(&self, thread: u32) -> usize {
        match self.order {
            Order::Strict => 0,
            _ => thread as usize,
        }
    }

    fn take_slot(&mut self, thread: u32) -> Result<u32> {
        let store = self.store(thread);
        if let Some((_, slot)) = self.streams[store].vacant.pop_back() {
            return Ok(slot);
        }
        for (other, event) in &self.knowledge.0[thread as usize] {
            let vacant = &mut self.streams[*other as usize].vacant;
            if let Some((_, slot)) = vacant.pop_front_if(|vacant| vacant.0 <= *event) {
                return Ok(slot);
            }
        }
        let first = self.program.new_slots(SLOTS_AT_ONCE)?;
        let rest = (first + 1..first + SLOTS_AT_ONCE).rev();
        self.streams[store]
            .vacant
            .extend(rest.map(|slot| (0, slot)));
        Ok(first)
    }

    fn finish(mut self) -> ThreadedProgram {
        let operations = u64::from(self.operations);
        let mut numbers = Vec::new();
        let mut append = |stream: Stream| {
            let part = Part {
                first: self.program.words.len() as u64,
                words: stream.words.len() as u64,
                place: stream.place,
            };
            self.program.words.extend(stream.words);
            numbers.extend(stream.numbers);
            part
        };
        let threads: Vec<Part> = self.streams.into_iter().map(&mut append).collect();
        let tail = append(self.tail);
        self.program.drain = self
            .slot_of_block
            .iter()
            .filter(|slot| **slot != NULL_SLOT)
            .map(|slot| Word::free(*slot))
            .collect();
        let alive = self.lives.last.iter().flatten().count();
        ThreadedProgram {
            record: ThreadedRecord {
                threads: alive as u32,
                threads_alive_peak: self.lives.places,
                edges: self.edges,
                cross_thread_frees: self.needs.cross_thread_frees,
            },
            program: self.program,
            threads,
            tail,
            numbers,
            first_thread: self.lives.first_thread,
            operations,
        }
    }
}
