//! A naive model of an allocator that is easy to see to be right: a list of blocks with what was written
//! into each. Used by the property tests (`mymalloc_model.rs`) and by the fuzz target (`fuzz/`).

#![allow(dead_code, reason = "each user uses a part of it")]

use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::{Mutex, PoisonError};

use mymalloc::allocator::mymalloc::{c, check};

/// What a program may ask; blocks are chosen by numbers, as many as there are.
#[derive(Debug, Clone)]
pub(crate) enum Action {
    Allocate(usize),
    Zeroed(usize),
    Aligned(usize, u32),
    Reallocate(usize, usize),
    Free(usize),
    FreeSized(usize),
    FreeHalf(usize),
    /// Hands a block to whichever thread receives one next.
    Give(usize),
    Receive(usize),
    Trim,
    Check,
}

/// Bytes that one thread holds at most; before it holds more it frees what it has held for the longest.
const HELD_BYTES_MAX: usize = 48 << 20;

/// Every byte of short blocks is written and looked at; of longer ones the ends, and what is between in
/// steps that leave out no OS page.
const WHOLE_BYTES_MAX: usize = 1024;
const STEP_BYTES: usize = 509;

/// The places of a block that are written and looked at.
fn places(size: usize) -> impl Iterator<Item = usize> {
    let ends = WHOLE_BYTES_MAX / 2;
    let (head, tail) = (size.min(ends), size.saturating_sub(ends));
    (0..head)
        .chain((head..tail).step_by(STEP_BYTES))
        .chain(tail.max(head)..size)
}

/// What stands at a place of a block with this seed.
fn byte_at(place: usize, seed: u8) -> u8 {
    seed ^ (place as u8)
}

/// A block that is held.
#[derive(Debug)]
struct Block {
    start: NonNull<u8>,
    size: usize,
    seed: u8,
}

// SAFETY: a block belongs to whoever holds this value; nothing ties it to a thread.
unsafe impl Send for Block {}

impl Block {
    fn fill(&self) {
        for place in places(self.size) {
            // SAFETY: whoever has this value holds the block, and the place lies within the size asked for.
            unsafe { self.start.add(place).write(byte_at(place, self.seed)) };
        }
    }

    /// Whether the first `size` bytes are as they were written.
    fn holds(&self, size: usize) -> bool {
        places(self.size)
            .take_while(|place| *place < size)
            // SAFETY: as in `fill`; after a `realloc`, `size` is at most the new one.
            .all(|place| unsafe { self.start.add(place).read() } == byte_at(place, self.seed))
    }

    fn address(&self) -> *mut c_void {
        self.start.as_ptr().cast()
    }
}

/// Blocks on their way from one thread to another.
#[derive(Default)]
pub(crate) struct Exchange(Mutex<Vec<Block>>);

impl Exchange {
    fn give(&self, block: Block) {
        let mut blocks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        blocks.push(block);
    }

    fn receive(&self, which: usize) -> Option<Block> {
        let mut blocks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = blocks.len();
        (count > 0).then(|| blocks.swap_remove(which % count))
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        while let Some(block) = self.receive(0) {
            // SAFETY: nobody else has the block, and it is ended once.
            unsafe { c::free(block.address()) };
        }
    }
}

/// All that one thread holds.
pub(crate) struct Model<'a> {
    blocks: Vec<Block>,
    held_bytes: usize,
    made: usize,
    exchange: &'a Exchange,
}

impl<'a> Model<'a> {
    pub(crate) fn new(exchange: &'a Exchange) -> Self {
        Self {
            blocks: Vec::new(),
            held_bytes: 0,
            made: 0,
            exchange,
        }
    }

    fn add(&mut self, start: *mut c_void, size: usize, alignment: usize) {
        let start = NonNull::new(start.cast::<u8>()).expect("memory");
        let first = start.addr().get();
        assert_eq!(first % alignment, 0, "{size} bytes at {first:#x}");
        // SAFETY: a block of ours.
        let usable = unsafe { c::malloc_usable_size(start.as_ptr().cast()) };
        assert!(usable >= size, "{usable} of {size}");
        self.made += 1;
        let seed = self.made as u8;
        let block = Block { start, size, seed };
        block.fill();
        self.hold(block, usable);
    }

    /// Holds a block of which `bytes` may be used.
    fn hold(&mut self, block: Block, bytes: usize) {
        let first = block.start.addr().get();
        for other in &self.blocks {
            let other_first = other.start.addr().get();
            let is_apart = first + bytes <= other_first || other_first + other.size.max(1) <= first;
            assert!(is_apart, "{block:?} and {other:?}");
        }
        self.held_bytes += block.size;
        self.blocks.push(block);
    }

    /// Gives a block out, after a look at what it holds.
    fn take(&mut self, which: usize) -> Option<Block> {
        let count = self.blocks.len();
        let block = (count > 0).then(|| self.blocks.swap_remove(which % count))?;
        self.held_bytes -= block.size;
        assert!(block.holds(block.size), "{block:?}");
        Some(block)
    }

    fn free_one(&mut self, which: usize) {
        if let Some(block) = self.take(which) {
            // SAFETY: the block was held, and is ended once.
            unsafe { c::free(block.address()) };
        }
    }

    /// Frees blocks until there is room for another one.
    fn make_room(&mut self, size: usize) {
        while self.held_bytes + size > HELD_BYTES_MAX && !self.blocks.is_empty() {
            self.free_one(0);
        }
    }

    /// Does it, and looks whether what must hold does.
    pub(crate) fn perform(&mut self, action: &Action) {
        match *action {
            Action::Allocate(size) => {
                self.make_room(size);
                // SAFETY: nothing to keep.
                let block = unsafe { c::malloc(size) };
                self.add(block, size, 16);
            }
            Action::Zeroed(size) => {
                self.make_room(size);
                // SAFETY: nothing to keep.
                let block = unsafe { c::calloc(1, size) };
                assert!(is_zero(block.cast(), size), "{size} zeroes");
                self.add(block, size, 16);
            }
            Action::Aligned(size, shift) => {
                self.make_room(size);
                // SAFETY: nothing to keep.
                let block = unsafe { c::aligned_alloc(1 << shift, size) };
                self.add(block, size, 1 << shift);
            }
            Action::Reallocate(which, size) => {
                self.make_room(size);
                self.reallocate(which, size.max(1));
            }
            Action::Free(which) => self.free_one(which),
            Action::FreeSized(which) => {
                if let Some(block) = self.take(which) {
                    // SAFETY: the block was held, and is ended once.
                    unsafe { c::free_sized(block.address(), block.size) };
                }
            }
            Action::FreeHalf(which) => {
                for _ in 0..self.blocks.len() / 2 {
                    self.free_one(which);
                }
            }
            Action::Give(which) => {
                if let Some(block) = self.take(which) {
                    self.exchange.give(block);
                }
            }
            Action::Receive(which) => {
                if let Some(block) = self.exchange.receive(which) {
                    assert!(block.holds(block.size), "received: {block:?}");
                    let bytes = block.size;
                    self.hold(block, bytes);
                }
            }
            Action::Trim => {
                // SAFETY: nothing to keep.
                unsafe { c::malloc_trim(0) };
            }
            Action::Check => {
                let census = check().expect("no contradiction");
                // Other threads of this process have blocks, too. Without checks nobody marks small ones.
                let known = census.small + census.large;
                assert!(cfg!(feature = "unchecked") || known >= self.blocks.len());
            }
        }
    }

    fn reallocate(&mut self, which: usize, size: usize) {
        let Some(old) = self.take(which) else { return };
        // SAFETY: the block was held; from now on only the new one is used.
        let start = unsafe { c::realloc(old.address(), size) };
        let moved = Block {
            start: NonNull::new(start.cast()).expect("memory"),
            ..old
        };
        assert!(moved.holds(size.min(old.size)), "{old:?} to {size} bytes");
        self.add(start, size, 16);
    }
}

impl Drop for Model<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        while !self.blocks.is_empty() {
            self.free_one(0);
        }
    }
}

/// Whether a fresh block's bytes are all zero.
fn is_zero(block: *const u8, size: usize) -> bool {
    assert!(!block.is_null(), "memory for {size} bytes");
    // SAFETY: the caller got a block of so many bytes, all of which `calloc` wrote.
    let bytes = unsafe { std::slice::from_raw_parts(block, size) };
    // By words: under a fuzzer, a byte at a time takes long.
    // SAFETY: any bytes are a number.
    let (head, words, tail) = unsafe { bytes.align_to::<u128>() };
    let is_empty = |bytes: &[u8]| bytes.iter().all(|byte| *byte == 0);
    is_empty(head) && is_empty(tail) && words.iter().all(|word| *word == 0)
}

/// Bytes of an action: what, and two numbers.
const ACTION_BYTES: usize = 5;

/// The actions that any bytes stand for.
pub(crate) fn actions(bytes: &[u8]) -> Vec<Action> {
    bytes.chunks_exact(ACTION_BYTES).map(action).collect()
}

fn action(bytes: &[u8]) -> Action {
    let first = usize::from(u16::from_le_bytes([bytes[1], bytes[2]]));
    let second = usize::from(u16::from_le_bytes([bytes[3], bytes[4]]));
    // Small most of the time: the high bits of the first byte say how long the second number counts.
    let size = match bytes[0] >> 4 {
        0..9 => second % 300,
        9..13 => second % 20_000,
        13..15 => second,
        _ => second * 16,
    };
    match bytes[0] & 15 {
        0..4 => Action::Allocate(size),
        4 => Action::Zeroed(size),
        5 => Action::Aligned(size, 4 + first as u32 % 14),
        6..8 => Action::Reallocate(first, size),
        8..10 => Action::Free(first),
        10 => Action::Give(first),
        11 => Action::Receive(first),
        12 => Action::FreeSized(first),
        13 => Action::FreeHalf(first),
        14 if first.is_multiple_of(16) => Action::Trim,
        14 => Action::Free(first),
        // A look at everything takes as long as hundreds of other actions.
        _ if first.is_multiple_of(8) => Action::Check,
        _ => Action::Free(first),
    }
}

/// Does what the bytes say, in up to three threads at once that hand blocks to each other: the first
/// byte says in how many.
pub(crate) fn run(bytes: &[u8]) {
    let Some((threads, bytes)) = bytes.split_first() else {
        return;
    };
    let exchange = Exchange::default();
    let perform = |bytes: &[u8]| {
        let mut model = Model::new(&exchange);
        for action in actions(bytes) {
            model.perform(&action);
        }
        model.perform(&Action::Check);
    };
    match usize::from(threads % 4) {
        0 | 1 => perform(bytes),
        threads => std::thread::scope(|scope| {
            let part = bytes.len().div_ceil(threads).max(1);
            for bytes in bytes.chunks(part) {
                let perform = &perform;
                scope.spawn(move || perform(bytes));
            }
        }),
    }
}
