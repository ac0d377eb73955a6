//! Threads that come and go: the next one begins with the few blocks that the last one left, and nothing is left for good.
//! Alone in its process, so that nobody else takes or frees.

use std::alloc::{GlobalAlloc, Layout};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use mymalloc::allocator::mymalloc::{MyMalloc, c, check, stats};

/// Takes blocks, writes them and frees them: the addresses, in the order in which they were taken.
fn take_and_free(count: usize, bytes: usize) -> Vec<usize> {
    let layout = Layout::from_size_align(bytes, 16).expect("a layout");
    // SAFETY: blocks are written within their length, and each is freed once, with its layout.
    unsafe {
        let blocks: Vec<*mut u8> = (0..count).map(|_| MyMalloc.alloc(layout)).collect();
        for block in &blocks {
            assert!(!block.is_null());
            block.write_bytes(0xff, bytes);
        }
        blocks.iter().for_each(|b| MyMalloc.dealloc(*b, layout));
        blocks.iter().map(|block| block.addr()).collect()
    }
}

fn in_a_thread(count: usize, bytes: usize) -> Vec<usize> {
    let work = move || take_and_free(count, bytes);
    thread::spawn(work).join().expect("it ends")
}

#[test]
fn threads_begin_with_what_others_left() {
    for bytes in [64, 500] {
        let mut last = in_a_thread(5, bytes);
        // (Once in 100 ms they go home meanwhile.)
        let follow = (0..100).filter(|_| {
            let next = in_a_thread(5, bytes);
            let is_same = next.first() == last.last();
            last = next;
            is_same
        });
        assert!(follow.count() > 90, "freed last, handed out first");
    }
    assert_eq!(stats().heaps, 1);

    // Such threads see to it that what others freed goes back to the system: it takes a second.
    in_a_thread(40, 1 << 20);
    assert!(stats().idle_bytes >= 1 << 20);
    let is_idle = |_: &usize| stats().idle_bytes >= 1 << 20;
    for _ in (0..30_000).take_while(is_idle) {
        in_a_thread(5, 64);
        thread::sleep(Duration::from_millis(2));
    }
    assert!(stats().idle_bytes < 1 << 20, "{:?}", stats());

    // More threads at once than may leave blocks, each with some of many sizes, of which little or much.
    for round in 0..20 {
        let barrier = Arc::new(Barrier::new(12));
        let work = |seed: usize| {
            let barrier = Arc::clone(&barrier);
            move || {
                for size in (16..3000).step_by(80 + seed) {
                    take_and_free(1 + (size * seed + round) % 150, size);
                }
                take_and_free(10, 20_000);
                // None ends, and leaves its heap to another, before all have one.
                barrier.wait();
            }
        };
        let threads: Vec<_> = (0..12).map(|seed| thread::spawn(work(seed))).collect();
        threads.into_iter().for_each(|t| t.join().expect("it ends"));
        let census = check().expect("sound");
        assert_eq!((census.small, census.large), (0, 0));
    }
    // One more if the blocks of a heap are on their way home when all the others begin.
    assert!((12..16).contains(&stats().heaps), "{:?}", stats());

    // SAFETY: any thread may.
    unsafe { c::malloc_trim(0) };
    let stats = stats();
    assert_eq!((stats.slices_bytes, stats.idle_bytes), (0, 0), "{stats:?}");
    assert!(check().is_ok());
}
