//! MyMalloc under threads. This whole program, its test harness included, runs on it as its global
//! allocator.

mod common;

use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc;
use std::thread;

use common::{fill, holds};
use mymalloc::allocator::mymalloc::{MyMalloc, c, check, stats};

#[global_allocator]
static GLOBAL: MyMalloc = MyMalloc;

/// A block on its way to another thread.
struct Sent {
    block: NonNull<u8>,
    size: usize,
    seed: u8,
}

// SAFETY: a block belongs to whoever holds this value; nothing ties it to a thread.
unsafe impl Send for Sent {}

impl Sent {
    fn new(number: usize) -> Self {
        let size = number * 37 % 3000 + usize::from(number.is_multiple_of(100)) * 40_000;
        // SAFETY: nothing to keep.
        let block = unsafe { c::malloc(size) };
        let block = NonNull::new(block.cast()).expect("memory");
        let seed = number as u8;
        fill(block, size, seed);
        Self { block, size, seed }
    }

    fn end(self) {
        assert!(
            holds(self.block, self.size, self.seed),
            "nobody else wrote into the block"
        );
        // SAFETY: the block is ours and ends here.
        unsafe { c::free(self.block.as_ptr().cast()) };
    }
}

#[test]
fn this_program_runs_on_mymalloc() {
    let boxed = Box::new([7_u64; 9]);
    let address: *const _ = &raw const *boxed;
    // SAFETY: a block of ours.
    let usable = unsafe { c::malloc_usable_size(address.cast_mut().cast()) };
    // A cold class is served by a longer one.
    assert!(
        [80, 128].contains(&usable),
        "72 bytes in a block of {usable}"
    );
}

/// Blocks of 100 KB are freed without a lock, which the checker must not take for a contradiction.
#[test]
fn the_checker_looks_while_others_free() {
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Relaxed) {
                // SAFETY: nothing to keep; each block ends once.
                unsafe { c::free(c::malloc(100_000)) };
            }
        });
        let found = (0..2000).find_map(|_| check().err());
        is_done.store(true, Relaxed);
        assert_eq!(found, None);
    });
}

#[test]
fn blocks_go_through_a_pipeline() {
    let (first, middle) = mpsc::sync_channel::<Sent>(100);
    let (second, last) = mpsc::sync_channel::<Sent>(100);
    thread::scope(|scope| {
        scope.spawn(move || (0..30_000).for_each(|n| first.send(Sent::new(n)).expect("taken")));
        scope.spawn(move || {
            for (number, sent) in middle.into_iter().enumerate() {
                sent.end();
                second.send(Sent::new(number)).expect("taken");
            }
        });
        scope.spawn(move || last.into_iter().for_each(Sent::end));
    });
}

#[test]
fn one_thread_ends_the_blocks_of_all() {
    let (sender, receiver) = mpsc::sync_channel::<Vec<Sent>>(8);
    thread::scope(|scope| {
        for seed in 0..4 {
            let sender = sender.clone();
            scope.spawn(move || {
                for round in 0..50 {
                    let blocks = (0..200).map(|n| Sent::new(seed + 7 * n + round)).collect();
                    sender.send(blocks).expect("taken");
                }
            });
        }
        drop(sender);
        receiver.into_iter().flatten().for_each(Sent::end);
    });
}

#[test]
fn two_threads_pass_blocks_to_and_fro() {
    let (to, from_me) = mpsc::sync_channel::<Sent>(1);
    let (back, to_me) = mpsc::sync_channel::<Sent>(1);
    thread::scope(|scope| {
        scope.spawn(move || {
            for (number, sent) in from_me.into_iter().enumerate() {
                sent.end();
                back.send(Sent::new(number)).expect("taken");
            }
        });
        for number in 0..5_000 {
            to.send(Sent::new(number)).expect("taken");
            to_me.recv().expect("sent").end();
        }
        drop(to);
    });
}

#[test]
fn blocks_outlive_their_threads_and_threads_leave_nothing() {
    let round = || {
        let threads: Vec<_> = (0..8)
            .map(|seed| thread::spawn(move || (0..300).map(|n| Sent::new(seed + n)).collect()))
            .collect();
        for thread in threads {
            let blocks: Vec<Sent> = thread.join().expect("it ends");
            blocks.into_iter().for_each(Sent::end);
        }
    };
    (0..20).for_each(|_| round());
    let before = stats();
    (0..150).for_each(|_| round());
    let after = stats();
    // The other tests run beside this one and hold some megabytes at most.
    assert!(
        after.mapped_bytes <= before.mapped_bytes + (32 << 20),
        "1200 threads: {before:?}, then {after:?}"
    );
    assert!(after.heaps <= before.heaps + 64, "{before:?}, {after:?}");
}
