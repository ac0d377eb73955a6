//! Two threads that hand blocks to each other: through a ring, and through shared slots.

use core::ffi::c_void;
use core::ptr;
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use rand::{Rng as _, SeedableRng as _};
use rand_pcg::Pcg64Mcg;

use super::watch::Watch;
use super::{Block, Meeting, Patience, Timed};
use crate::replay::serial::Failure;
use crate::subject::functions::Functions;

/// Alone on its cache lines, the neighbour that processors prefetch included.
#[repr(align(128))]
struct Apart<T>(T);

/// A bounded queue of blocks for one producer and one consumer.
struct Ring {
    blocks: Box<[AtomicPtr<c_void>]>,
    /// Blocks ever put in; written by the producer only.
    tail: Apart<AtomicUsize>,
    /// Blocks ever taken out; written by the consumer only.
    head: Apart<AtomicUsize>,
}

impl Ring {
    fn new(capacity: usize) -> Self {
        Self {
            blocks: (0..capacity)
                .map(|_| AtomicPtr::new(ptr::null_mut()))
                .collect(),
            tail: Apart(AtomicUsize::new(0)),
            head: Apart(AtomicUsize::new(0)),
        }
    }

    fn slot(&self, number: usize) -> &AtomicPtr<c_void> {
        &self.blocks[number % self.blocks.len()]
    }
}

/// One end of the ring, with what it last saw of the other's counter, so that most operations do
/// not read the other thread's cache line.
struct End<'a> {
    ring: &'a Ring,
    own: usize,
    other: usize,
}

impl<'a> End<'a> {
    fn of(ring: &'a Ring) -> Self {
        Self {
            ring,
            own: 0,
            other: 0,
        }
    }

    /// Producer: waits for room, puts in. `false` if the other side gave up.
    #[inline(always)]
    fn push(&mut self, meeting: &Meeting, Block(block): Block) -> bool {
        let mut patience = Patience::default();
        while self.own - self.other == self.ring.blocks.len() {
            // Pairs with the consumer's release: its read of the slot is over.
            self.other = self.ring.head.0.load(Ordering::Acquire);
            if self.own - self.other == self.ring.blocks.len() {
                if meeting.is_given_up() {
                    return false;
                }
                patience.wait();
            }
        }
        self.ring.slot(self.own).store(block, Ordering::Relaxed);
        self.own += 1;
        // Pairs with the consumer's acquire: publishes the slot and the block's content.
        self.ring.tail.0.store(self.own, Ordering::Release);
        true
    }

    /// Consumer: waits for a block, takes it out. `None` if the other side gave up.
    #[inline(always)]
    fn pop(&mut self, meeting: &Meeting) -> Option<Block> {
        let mut patience = Patience::default();
        while self.own == self.other {
            // Pairs with the producer's release.
            self.other = self.ring.tail.0.load(Ordering::Acquire);
            if self.own == self.other {
                if meeting.is_given_up() {
                    return None;
                }
                patience.wait();
            }
        }
        let block = self.ring.slot(self.own).load(Ordering::Relaxed);
        self.own += 1;
        // Pairs with the producer's acquire: the slot may be used again.
        self.ring.head.0.store(self.own, Ordering::Release);
        Some(Block(block))
    }
}

/// The calling thread allocates, another frees.
pub(super) fn producer_consumer(
    functions: &Functions,
    watch: &impl Watch,
    blocks: u64,
    size: usize,
    capacity: usize,
) -> Result<Timed, Failure> {
    let ring = Ring::new(capacity);
    let meeting = Meeting::default();
    let (start, ends) = thread::scope(|scope| {
        // The consumer cannot begin before the producer: its start needs no reading.
        let consumer = scope.spawn(|| {
            meeting.begin();
            consume(functions, watch, &ring, &meeting, blocks)
        });
        let start = meeting.begin();
        let end = produce(functions, watch, &ring, &meeting, blocks, size);
        (
            start,
            [end, consumer.join().expect("the consumer does not panic")],
        )
    });
    meeting.outcome(start, ends)
}

fn produce(
    functions: &Functions,
    watch: &impl Watch,
    ring: &Ring,
    meeting: &Meeting,
    blocks: u64,
    size: usize,
) -> Instant {
    let mut end = End::of(ring);
    let mut operations = 0;
    for _ in 0..blocks {
        // SAFETY: malloc may be called with any size.
        let block = unsafe { (functions.malloc)(size) };
        if block.is_null() {
            meeting.give_up();
            break;
        }
        operations += 1;
        // SAFETY: just allocated with this size; nobody else has it.
        unsafe { watch.allocated(block, size) };
        if !end.push(meeting, Block(block)) {
            break;
        }
    }
    meeting.end(operations)
}

fn consume(
    functions: &Functions,
    watch: &impl Watch,
    ring: &Ring,
    meeting: &Meeting,
    blocks: u64,
) -> Instant {
    let mut end = End::of(ring);
    let mut operations = 0;
    for _ in 0..blocks {
        let Some(Block(block)) = end.pop(meeting) else {
            break;
        };
        // SAFETY: the producer allocated it, told the watch, and gave it away; it is freed once
        // since each block is taken out once.
        unsafe {
            watch.releasing(block);
            (functions.free)(block);
        }
        operations += 1;
    }
    meeting.end(operations)
}

/// What one thread of [`cross_free`] will do: which slots it visits, and the sizes it allocates.
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    /// Sizes for the half of the slots that it fills before the time.
    fill: Vec<u32>,
}

/// One exchange.
#[derive(Clone, Copy)]
pub(super) struct Step {
    pub(super) slot: u32,
    pub(super) size: u32,
}

impl Plan {
    /// The plan of thread 0 or 1. Both numbers of a step fit into 32 bits: `Kernel::check`.
    pub(super) fn new(
        seed: u64,
        thread: u64,
        exchanges: u64,
        slots: u64,
        sizes: RangeInclusive<u64>,
    ) -> Self {
        let mut random = Pcg64Mcg::seed_from_u64(seed ^ (thread << 63));
        let mut below =
            |limit: u64| ((u128::from(random.next_u64()) * u128::from(limit)) >> 64) as u32;
        let (smallest, count) = (*sizes.start() as u32, sizes.end() - sizes.start() + 1);
        let steps = (0..exchanges)
            .map(|_| Step {
                slot: below(slots),
                size: smallest + below(count),
            })
            .collect();
        let own_slots = (0..slots).skip(thread as usize).step_by(2);
        let fill = own_slots.map(|_| smallest + below(count)).collect();
        Self { steps, fill }
    }
}

/// Both threads exchange. Slots are filled before and emptied after the time.
pub(super) fn cross_free(
    functions: &Functions,
    watch: &impl Watch,
    plans: &[Plan; 2],
    slots: usize,
) -> Result<Timed, Failure> {
    let shared: Box<[AtomicPtr<c_void>]> = (0..slots)
        .map(|_| AtomicPtr::new(ptr::null_mut()))
        .collect();
    let meeting = Meeting::default();
    let side = |number: usize| {
        let plan = &plans[number];
        let own = shared.iter().skip(number).step_by(2);
        let filled = own.zip(&plan.fill).all(|(slot, size)| {
            let block = allocate(functions, watch, *size as usize);
            // Published by the meeting.
            slot.store(block, Ordering::Relaxed);
            !block.is_null()
        });
        if !filled {
            meeting.give_up();
        }
        let start = meeting.begin();
        // Both have filled their slots, or one has said that it could not.
        let end = exchange(functions, watch, &shared, &meeting, &plan.steps);
        (start, end)
    };
    let ((start, end), (other_start, other_end)) = thread::scope(|scope| {
        let other = scope.spawn(|| side(1));
        (
            side(0),
            other.join().expect("the other thread does not panic"),
        )
    });
    for slot in &shared {
        let block = slot.load(Ordering::Relaxed);
        if !block.is_null() {
            // SAFETY: what is left in a slot was put there by one thread and taken out by none, and
            // both have ended.
            unsafe {
                watch.releasing(block);
                (functions.free)(block);
            }
        }
    }
    // Whichever thread the scheduler let go first.
    meeting.outcome(start.min(other_start), [end, other_end])
}

/// Allocates and touches; may return null.
#[inline(always)]
fn allocate(functions: &Functions, watch: &impl Watch, size: usize) -> *mut c_void {
    // SAFETY: malloc may be called with any size; a block that is not null is ours alone.
    unsafe {
        let block = (functions.malloc)(size);
        if !block.is_null() {
            watch.allocated(block, size);
        }
        block
    }
}

fn exchange(
    functions: &Functions,
    watch: &impl Watch,
    shared: &[AtomicPtr<c_void>],
    meeting: &Meeting,
    steps: &[Step],
) -> Instant {
    let mut operations = 0;
    for step in steps {
        let block = allocate(functions, watch, step.size as usize);
        if block.is_null() || meeting.is_given_up() {
            meeting.give_up();
            break;
        }
        // Releases our block's content and acquires that of the block found.
        let found = shared[step.slot as usize].swap(block, Ordering::AcqRel);
        // SAFETY: whoever takes a block out of a slot has it alone; slots are full from the start.
        unsafe {
            watch.releasing(found);
            (functions.free)(found);
        }
        operations += 2;
    }
    meeting.end(operations)
}
