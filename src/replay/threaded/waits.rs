//! Which operation of a program for several threads waits for which: the edges, found in one walk over
//! the trace. What the edges are, and why they cannot deadlock, stands in `compile`.

#![forbid(unsafe_code)]

use rustc_hash::FxHashMap;

use super::lives::{Birth, Lives};
use crate::measure::results::{Order, Window};
use crate::trace::{Operation, Trace};

/// Most operations of an epoch.
const EPOCH_OPERATIONS: u32 = 1024;
/// An epoch allocates and frees no more than this, or one part in so many of the recording's peak of
/// live bytes if that is more; or it is a single operation.
const EPOCH_BYTES: u64 = 32 << 10;
const EPOCH_PEAK_PARTS: u64 = 64;

/// What is known before an operation, beyond what was before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Its thread waits for the event of another thread.
    Wait(u32),
    /// From here on its thread knows everything before that event to be done.
    Horizon(u32),
}

/// See the module text.
#[derive(Debug)]
pub(super) struct Waits {
    /// Before which event, in order.
    pub(super) steps: Vec<(u32, Step)>,
    /// For each event whether some thread waits for it.
    pub(super) awaited: Vec<bool>,
    /// Waits because a block changes hands, or because the order is strict.
    pub(super) edges: u64,
    /// Waits for the window alone.
    pub(super) window_edges: u64,
    pub(super) cross_thread_frees: u64,
    pub(super) window: Option<Window>,
}

impl Waits {
    pub(super) fn of(trace: &Trace, order: Order, lives: &Lives) -> Self {
        let mut finder = Finder::new(trace, order, lives);
        let mut births = lives.births.iter().peekable();
        for (index, event) in (0_u32..).zip(trace.events()) {
            if let Some((_, birth)) = births.next_if(|birth| birth.0 == index) {
                finder.knowledge.birth(birth, lives);
            }
            let thread = event.thread.0;
            if event.operation.is_replayed() {
                finder.operation(index, thread, &event.operation);
            }
            if lives.last[thread as usize] == Some(index) {
                finder.knowledge.end(thread, lives.first_thread);
            }
        }
        finder.finish()
    }
}

/// What each thread knows to be done.
struct Knowledge {
    is_strict: bool,
    threads: Vec<Known>,
}

/// One thread's knowledge.
#[derive(Default)]
struct Known {
    /// All operations before this event are done.
    horizon: u32,
    /// Up to which event of which other thread everything is done, as far as that is beyond the
    /// horizon.
    events: FxHashMap<u32, u32>,
    /// Its own last operation, and one more.
    next: u32,
}

impl Knowledge {
    /// The consumer must know the producer's event done. Returns whether it must wait for that.
    fn require(&mut self, consumer: u32, producer: u32, event: u32) -> bool {
        let known = &mut self.threads[consumer as usize];
        if consumer == producer || event < known.horizon {
            return false;
        }
        if self.is_strict {
            // What was before that is done as well.
            known.horizon = event + 1;
            return true;
        }
        let latest = known.events.entry(producer).or_insert(0);
        let is_new = *latest <= event;
        *latest = (*latest).max(event + 1);
        is_new
    }

    /// All operations before `horizon` are done. Returns whether that is news.
    fn advance(&mut self, thread: u32, horizon: u32) -> bool {
        let known = &mut self.threads[thread as usize];
        let is_new = horizon > known.horizon;
        if is_new {
            known.horizon = horizon;
            known.events.retain(|_, next| *next > horizon);
        }
        is_new
    }

    /// A new thread knows what its maker knows, and what that has done; the maker has joined the one
    /// that had the place, and knows what that knew.
    fn birth(&mut self, birth: &Birth, lives: &Lives) {
        let maker = birth.maker as usize;
        if let Some(predecessor) = birth.predecessor {
            let Known { horizon, next, .. } = self.threads[predecessor as usize];
            let horizon = if self.is_strict {
                horizon.max(next)
            } else {
                horizon
            };
            self.advance(birth.maker, horizon);
            let end = lives.end_of(predecessor) + 1;
            if !self.is_strict && predecessor != birth.maker && end > self.threads[maker].horizon {
                self.threads[maker].events.insert(predecessor, end);
            }
        }
        let maker = &self.threads[maker];
        let mut own = Known {
            horizon: maker.horizon,
            events: maker.events.clone(),
            next: 0,
        };
        if self.is_strict {
            own.horizon = own.horizon.max(maker.next);
        } else {
            own.events.insert(birth.maker, birth.maker_event + 1);
        }
        self.threads[birth.thread as usize] = own;
    }

    /// Forgets what nobody will ask for: only the process's first thread does anything after its end.
    fn end(&mut self, thread: u32, first_thread: u32) {
        if thread != first_thread {
            self.threads[thread as usize].events = FxHashMap::default();
        }
    }
}

/// The operations between two borders, by the threads that perform them.
#[derive(Clone, Debug, Default)]
struct Epoch {
    first_event: u32,
    operations: u32,
    bytes: u64,
    /// Last operation of each thread in it.
    last: FxHashMap<u32, u32>,
}

struct Finder<'t> {
    trace: &'t Trace,
    knowledge: Knowledge,
    waits: Waits,
    /// The event that allocated each block, and its bytes.
    births: Vec<(u32, u64)>,
    /// The last operation.
    previous: Option<u32>,
    /// This epoch and the two before it.
    epochs: [Epoch; 3],
    epoch_bytes: u64,
}

impl<'t> Finder<'t> {
    fn new(trace: &'t Trace, order: Order, lives: &Lives) -> Self {
        let is_strict = order == Order::Strict;
        let window = Window {
            operations: 0,
            bytes: 0,
        };
        Self {
            trace,
            knowledge: Knowledge {
                is_strict,
                threads: lives.last.iter().map(|_| Known::default()).collect(),
            },
            waits: Waits {
                steps: Vec::new(),
                awaited: vec![false; trace.events().len()],
                edges: 0,
                window_edges: 0,
                cross_thread_frees: 0,
                window: (!is_strict).then_some(window),
            },
            births: vec![(0, 0); trace.block_count() as usize],
            previous: None,
            epochs: Default::default(),
            epoch_bytes: EPOCH_BYTES.max(live_bytes_peak(trace) / EPOCH_PEAK_PARTS),
        }
    }

    /// Takes the next operation in order.
    fn operation(&mut self, index: u32, thread: u32, operation: &Operation) {
        let released = operation
            .releases()
            .map(|block| self.births[block.0 as usize]);
        let birth = released
            .map(|(event, _)| event)
            .filter(|event| self.trace.events()[*event as usize].thread.0 != thread);
        self.waits.cross_thread_frees += u64::from(birth.is_some());
        let requested_bytes = operation.requested_bytes();
        if let Some(block) = operation.allocates() {
            self.births[block.0 as usize] = (index, requested_bytes);
        }
        let previous = self.previous.replace(index);
        if self.knowledge.is_strict {
            if let Some(previous) = previous {
                self.waits.edges += u64::from(self.wait(index, thread, previous));
            }
        } else {
            let bytes = requested_bytes.saturating_add(released.map_or(0, |(_, bytes)| bytes));
            self.keep_up(index, thread, bytes);
            if let Some(birth) = birth {
                self.waits.edges += u64::from(self.wait(index, thread, birth));
            }
        }
        self.knowledge.threads[thread as usize].next = index + 1;
    }

    /// Before event `index`, `thread` waits for the event `need`, unless it knows that done. Returns
    /// whether it must.
    fn wait(&mut self, index: u32, thread: u32, need: u32) -> bool {
        let producer = self.trace.events()[need as usize].thread.0;
        let must = self.knowledge.require(thread, producer, need);
        if must {
            self.waits.awaited[need as usize] = true;
            self.waits.steps.push((index, Step::Wait(need)));
        }
        must
    }

    /// No operation is performed before all of the epoch before the one before its own.
    fn keep_up(&mut self, index: u32, thread: u32, bytes: u64) {
        let current = &self.epochs[2];
        let is_full = current.operations == EPOCH_OPERATIONS
            || current.operations > 0 && current.bytes.saturating_add(bytes) > self.epoch_bytes;
        if is_full {
            self.epochs.rotate_left(1);
            self.epochs[2] = Epoch::default();
            self.open(index, thread);
        } else if !current.last.contains_key(&thread) {
            self.enter(index, thread);
        }
        let [_, before, current] = &mut self.epochs;
        if current.operations == 0 {
            current.first_event = index;
        }
        current.last.insert(thread, index);
        current.operations += 1;
        current.bytes = current.bytes.saturating_add(bytes);
        if let Some(window) = &mut self.waits.window {
            window.operations = window
                .operations
                .max(before.operations + current.operations);
            window.bytes = window.bytes.max(before.bytes.saturating_add(current.bytes));
        }
    }

    /// The first operation of an epoch waits for all of the epoch before the last, and for the first
    /// one of the last: by induction everything before the last epoch is done then.
    fn open(&mut self, index: u32, thread: u32) {
        let [older, last, _] = &mut self.epochs;
        let mut needs: Vec<u32> = std::mem::take(&mut older.last).into_values().collect();
        needs.push(last.first_event);
        let horizon = last.first_event;
        needs.sort_unstable();
        // The latest first: it may be by a thread that was waited for at an earlier one.
        for need in needs.into_iter().rev() {
            self.waits.window_edges += u64::from(self.wait(index, thread, need));
        }
        self.look_ahead(index, thread, horizon);
    }

    /// The first operation of another thread in an epoch waits for the epoch's first.
    fn enter(&mut self, index: u32, thread: u32) {
        let [_, last, current] = &self.epochs;
        let (horizon, first_event) = (last.first_event, current.first_event);
        if self.knowledge.threads[thread as usize].horizon >= horizon {
            return;
        }
        self.waits.window_edges += u64::from(self.wait(index, thread, first_event));
        self.look_ahead(index, thread, horizon);
    }

    fn look_ahead(&mut self, index: u32, thread: u32, horizon: u32) {
        if self.knowledge.advance(thread, horizon) {
            self.waits.steps.push((index, Step::Horizon(horizon)));
        }
    }

    fn finish(self) -> Waits {
        self.waits
    }
}

fn live_bytes_peak(trace: &Trace) -> u64 {
    let mut bytes_of = vec![0; trace.block_count() as usize];
    let (mut live, mut peak) = (0_u64, 0);
    for event in trace.events() {
        if let Some(block) = event.operation.releases() {
            live = live.saturating_sub(bytes_of[block.0 as usize]);
        }
        if let Some(block) = event.operation.allocates() {
            let bytes = event.operation.requested_bytes();
            bytes_of[block.0 as usize] = bytes;
            live = live.saturating_add(bytes);
            peak = peak.max(live);
        }
    }
    peak
}
