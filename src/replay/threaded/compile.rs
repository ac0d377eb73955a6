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
//! An edge is dropped if its consumer knows already that nothing is left to wait for: it has waited
//! for the same producer at this operation or a later one, or was made after that.
//!
//! # Window
//! Where blocks go one way only, nothing in a recording holds the producer back: it would run ahead as
//! far as the scheduler lets it, with live bytes that the recorded program never had. So the recorded
//! total order is cut into epochs of [1024 operations](super::waits) or a 64th of the recorded peak of
//! live bytes (32 KiB if that is more), whichever is shorter, and no operation is performed before all
//! operations of the epoch before the last one are done (`threads`, `paced`). What has been performed at
//! any moment is then everything up to some border and a part of the two epochs after it, so live bytes
//! differ from recorded ones by no more than those two allocate and free. These edges are the harness's;
//! they are counted apart.
//!
//! # No deadlock
//! Give each operation the number of its event, the making of a thread and the joining before it a
//! number just below the new thread's first event, and the end of a thread one just above its last
//! event. Then in each thread's words the numbers ascend: the maker's last operation before the new
//! thread's first event stands before, its next one behind. And each edge leads from a lower to a
//! higher number: a block is allocated before it is freed; a place is vacated before it is taken; a
//! thread is made before its first operation; an epoch comes after those before it. So the recorded total order is a topological order of
//! everything that waits. Whatever has been done, the one with the lowest number of what has not can
//! be done: no cycle, no deadlock. (`paced` also waits for time, which passes by itself.)
//!
//! # Slots
//! A slot may be used for another block when its last use is certainly over: by the thread that freed
//! the block or its successor on the same place, or by one that knows, by the window, that everything
//! up to that operation is done (`vacancies`). Only where there is none the table is enlarged, by two
//! cache lines at once, so that threads do not share lines more than they share blocks. So it has
//! little more slots than blocks were live at once, and the window has operations. Under `strict` all
//! is ordered, and one store serves all.

#![forbid(unsafe_code)]

use rustc_hash::FxHashMap;

use super::lives::{Birth, Lives};
use super::program::{Control, Part, THREAD_LIMIT, ThreadedProgram};
use super::vacancies::{SLOTS_AT_ONCE, Vacancies};
use super::waits::{Step, Waits};
use crate::error::{Error, Result};
use crate::measure::results::{Order, ThreadedRecord};
use crate::replay::program::{NULL_SLOT, Program, Word};
use crate::replay::touched::TouchedPages;
use crate::trace::{Operation, Trace};

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
        let waits = Waits::of(trace, order, &lives);
        Compiler::new(trace, order, &lives).compile(&waits)
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
    /// Its thread knows all operations before this event to be done.
    horizon: u32,
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
    vacancies: Vacancies,
    slot_of_block: Vec<u32>,
    /// The count at which an awaited event is done.
    counts: FxHashMap<u32, u32>,
    joined: Vec<bool>,
    operations: u32,
    touched: TouchedPages,
    /// Of the making and ending of threads.
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
            vacancies: Vacancies::new(lives.places),
            slot_of_block: vec![NULL_SLOT; trace.block_count() as usize],
            counts: FxHashMap::default(),
            joined: vec![false; threads as usize],
            operations: 0,
            touched: TouchedPages::of(trace),
            edges: 0,
        }
    }

    fn compile(mut self, waits: &Waits) -> Result<ThreadedProgram> {
        let mut steps = waits.steps.iter().peekable();
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
                while let Some((_, step)) = steps.next_if(|step| step.0 == index) {
                    match *step {
                        Step::Wait(need) => self.wait(thread, need),
                        Step::Horizon(event) => {
                            self.streams[thread as usize].horizon = event;
                        }
                    }
                }
                if self.order == Order::Paced
                    && let Some(times_ns) = self.trace.times_ns()
                {
                    self.pace(thread, times_ns[index as usize] - earliest_ns);
                }
                self.operation(index, thread, &event.operation)?;
                if waits.awaited[index as usize] {
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
        Ok(self.finish(waits))
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
            let known = self.streams[predecessor as usize].horizon;
            let maker = &mut self.streams[birth.maker as usize];
            maker.horizon = maker.horizon.max(known);
        }
        self.push(
            birth.maker,
            Control::Start {
                thread: birth.thread,
            },
        );
        self.edges += 1;
        let horizon = self.streams[birth.maker as usize].horizon;
        let stream = &mut self.streams[birth.thread as usize];
        (stream.place, stream.horizon) = (birth.place, horizon);
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
        let count = self.counts[&need];
        let control = Control::Wait {
            thread: producer,
            count,
        };
        self.push(thread, control);
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
            let place = self.store(thread);
            self.vacancies.vacate(place, index, released);
        }
        let slot = match operation.allocates() {
            Some(block) => {
                let slot = self.take_slot(thread)?;
                self.slot_of_block[block.0 as usize] = slot;
                slot
            }
            None => NULL_SLOT,
        };
        let word = self
            .program
            .word(operation, released, slot, &mut self.touched);
        let number = self.operations;
        self.operations += 1;
        let stream = &mut self.streams[thread as usize];
        stream.words.push(word);
        stream.numbers.push(number);
        Ok(())
    }

    /// The place whose vacant slots a thread uses.
    fn store(&self, thread: u32) -> u32 {
        match self.order {
            Order::Strict => 0,
            _ => self.streams[thread as usize].place,
        }
    }

    fn take_slot(&mut self, thread: u32) -> Result<u32> {
        let (place, horizon) = (self.store(thread), self.streams[thread as usize].horizon);
        if let Some(slot) = self.vacancies.take(place, horizon) {
            return Ok(slot);
        }
        let first = self.program.new_slots(SLOTS_AT_ONCE)?;
        self.vacancies.enlarge(place, first);
        Ok(first)
    }

    fn finish(mut self, waits: &Waits) -> ThreadedProgram {
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
                edges: self.edges + waits.edges,
                cross_thread_frees: waits.cross_thread_frees,
                window: waits.window,
                window_edges: waits.window_edges,
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
