//! The page list under threads and forks. This whole program, its test harness included, runs on
//! the page list as its global allocator.

mod common;

use std::ptr::NonNull;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread;

use common::{fill, holds};
use mymalloc::allocator::FreeError;
use mymalloc::allocator::pagelist::{PageList, PageListGlobal, c};

#[global_allocator]
static GLOBAL: PageListGlobal = PageListGlobal;

/// A block on its way to another thread.
struct Sent {
    block: NonNull<u8>,
    size: usize,
    seed: u8,
}

// SAFETY: a block belongs to whoever holds this value; nothing ties it to a thread.
unsafe impl Send for Sent {}

impl Sent {
    fn new(list: &PageList, number: usize) -> Self {
        let size = number * 37 % 600;
        let block = list.allocate(size).expect("memory");
        let seed = number as u8;
        fill(block, size, seed);
        Self { block, size, seed }
    }

    fn end(self, list: &PageList) {
        assert!(
            holds(self.block, self.size, self.seed),
            "nobody else wrote into the block"
        );
        assert_eq!(list.free(self.block), Ok(()));
    }
}

#[test]
fn this_program_runs_on_the_page_list() {
    let usable_bytes = |address: *const u8| {
        // SAFETY: any pointer is allowed.
        unsafe { c::malloc_usable_size(address.cast_mut().cast()) }
    };
    let small = Box::new(7_u64);
    // The smallest block, or one of 16 bytes more where the rest was too short for a block.
    let smallest = [16, 32];
    assert!(smallest.contains(&usable_bytes((&raw const *small).cast())));
    let mut large = vec![1_u8; 100_000];
    assert!(usable_bytes(large.as_ptr()) >= 100_000);
    large.resize(3_000_000, 2);
    assert!(large[..100_000].iter().all(|&byte| byte == 1));
    assert!(large[100_000..].iter().all(|&byte| byte == 2));
    large.truncate(10);
    large.shrink_to_fit();
    assert_eq!(large, [1; 10]);
    assert!(
        smallest.contains(&usable_bytes(large.as_ptr())),
        "it has moved from its mapping to a page"
    );
}

#[repr(align(128))]
#[derive(Clone)]
struct Aligned([u8; 200]);

#[repr(align(8192))]
#[derive(Clone)]
struct AlignedBeyondPages(u8);

#[test]
fn the_global_allocator_aligns_as_asked_also_when_it_moves() {
    let mut values = Vec::new();
    for number in 0..100_u8 {
        values.push(Aligned([number; 200]));
        assert_eq!(values.as_ptr().addr() % 128, 0);
    }
    assert!((0..100).all(|number| values[number].0 == [number as u8; 200]));
    let mut values = vec![AlignedBeyondPages(3); 2];
    for _ in 0..5 {
        values.extend_from_within(..);
        assert_eq!(values.as_ptr().addr() % 8192, 0);
    }
    assert!(values.iter().all(|value| value.0 == 3));
    // SAFETY: a layout of some bytes; freed with the same layout.
    unsafe {
        let layout = std::alloc::Layout::from_size_align(1000, 64).expect("a layout");
        let zeroed = std::alloc::alloc_zeroed(layout);
        assert_eq!(zeroed.addr() % 64, 0);
        assert!((0..1000).all(|at| zeroed.add(at).read() == 0));
        std::alloc::dealloc(zeroed, layout);
    }
}

#[test]
fn threads_that_share_a_list_get_blocks_apart() {
    let list = PageList::new();
    thread::scope(|scope| {
        for thread in 0..4 {
            let list = &list;
            scope.spawn(move || {
                let mut held = Vec::new();
                for round in 0..3000_usize {
                    held.push(Sent::new(list, round * 4 + thread));
                    if round % 3 != 0 {
                        let at = round * 7 % held.len();
                        held.swap_remove(at).end(list);
                    }
                    if round % 500 == 0 {
                        list.check().expect("consistent between any two operations");
                    }
                }
                held.into_iter().for_each(|sent| sent.end(list));
            });
        }
    });
    assert_eq!(list.page_count(), 0);
}

#[test]
fn blocks_are_freed_on_another_thread_in_a_pipeline() {
    let list = PageList::new();
    thread::scope(|scope| {
        let list = &list;
        let (first, middle) = mpsc::sync_channel::<Sent>(64);
        let (second, last) = mpsc::sync_channel::<Sent>(64);
        scope.spawn(move || {
            for number in 0..5000 {
                first
                    .send(Sent::new(list, number))
                    .expect("the middle listens");
            }
        });
        scope.spawn(move || {
            for (number, sent) in middle.into_iter().enumerate() {
                // One is ended here, one goes on, and something new of this thread's goes with it.
                if number % 2 == 0 {
                    sent.end(list);
                } else {
                    second.send(sent).expect("the last listens");
                    second
                        .send(Sent::new(list, number))
                        .expect("the last listens");
                }
            }
        });
        scope.spawn(move || last.into_iter().for_each(|sent| sent.end(list)));
    });
    assert_eq!(list.page_count(), 0);
}

#[test]
fn all_threads_give_to_one_and_die_before_their_blocks() {
    let list = PageList::new();
    let (sender, receiver) = mpsc::channel::<Sent>();
    thread::scope(|scope| {
        for thread in 0..8_usize {
            let (list, sender) = (&list, sender.clone());
            scope.spawn(move || {
                for number in 0..500 {
                    sender
                        .send(Sent::new(list, thread * 500 + number))
                        .expect("somebody listens");
                }
            });
        }
    });
    drop(sender);
    assert!(list.page_count() > 0);
    assert_eq!(
        receiver.into_iter().map(|sent| sent.end(&list)).count(),
        4000
    );
    assert_eq!(list.page_count(), 0);
}

#[test]
fn of_two_threads_that_free_one_block_one_is_told() {
    let list = PageList::new();
    let wall = list.allocate(16).expect("memory");
    for _ in 0..2000 {
        let address = Sent::new(&list, 5).block.addr();
        let free = || list.free(NonNull::without_provenance(address));
        let results = thread::scope(|scope| {
            let other = scope.spawn(free);
            [free(), other.join().expect("no panic")]
        });
        assert!(results.contains(&Ok(())) && results.contains(&Err(FreeError::AlreadyFreed)));
    }
    assert_eq!(list.free(wall), Ok(()));
}

/// Allocates and frees in every way; false if anything was refused.
fn allocates() -> bool {
    // SAFETY: the C functions are used by their rules.
    unsafe {
        let small = c::malloc(100);
        let large = c::malloc(100_000);
        let aligned = c::aligned_alloc(256, 300);
        let small = c::realloc(small, 3000);
        let large = c::realloc(large, 200_000);
        let served = ![small, large, aligned].iter().any(|block| block.is_null());
        c::free(aligned);
        c::free(large);
        c::free(small);
        served
    }
}

/// One fork; the child allocates at once. Waits for it and returns its wait status.
fn fork_and_allocate() -> i32 {
    // SAFETY: the child calls nothing but the allocator, alarm and _exit, which may be called after
    // a fork beside running threads.
    unsafe {
        match libc::fork() {
            -1 => panic!("cannot fork: {}", std::io::Error::last_os_error()),
            0 => {
                // A child that hangs on a lock is ended by the alarm, and is seen to be.
                libc::alarm(20);
                libc::_exit(if allocates() { 0 } else { 3 });
            }
            child => {
                let mut status = -1;
                assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
                status
            }
        }
    }
}

#[test]
fn a_child_forked_beside_allocating_threads_allocates_at_once() {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    assert!(allocates());
                }
            });
        }
        // Ends with the first child that hung, and was ended by its alarm, or was refused memory.
        let failed = (0..100)
            .map(|_| fork_and_allocate())
            .find(|&status| status != 0);
        stop.store(true, Ordering::Relaxed);
        assert_eq!(failed, None, "the wait status of a child");
    });
}
