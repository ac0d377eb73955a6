//! Threads that only free a few blocks of others' get no heap for it, and what they free is used again and goes back to
//! the system like everybody's. Alone in its process, so that nobody else takes or frees.

use std::alloc::{GlobalAlloc, Layout};
use std::thread;
use std::time::Duration;

use mymalloc::allocator::mymalloc::{MyMalloc, check, stats};

/// Blocks to pass to another thread.
struct Blocks(Vec<*mut u8>);

// SAFETY: whoever has the list has the blocks.
unsafe impl Send for Blocks {}

fn take(count: usize, layout: Layout) -> Blocks {
    // SAFETY: blocks are written within their length.
    let take_one = || unsafe {
        let block = MyMalloc.alloc(layout);
        assert!(!block.is_null());
        block.write_bytes(0xff, layout.size());
        block
    };
    Blocks((0..count).map(|_| take_one()).collect())
}

/// Frees blocks in a thread of its own.
fn free_elsewhere(blocks: Blocks, layout: Layout) {
    let free_all = move || {
        // The whole, which may be sent.
        let Blocks(blocks) = { blocks };
        for block in blocks {
            // SAFETY: each is freed once, with its layout.
            unsafe { MyMalloc.dealloc(block, layout) };
        }
    };
    thread::spawn(free_all).join().expect("it ends");
}

#[test]
fn few_frees_make_no_heap_and_leave_no_idle_memory() {
    let layout = Layout::from_size_align(1000, 16).expect("a layout");
    // The first ones are freed one by one, as the others go back to the system, so that nobody allocates meanwhile.
    let mut one_by_one = take(1200, layout).0;
    let mut blocks = take(16_000, layout).0;
    assert_eq!(stats().heaps, 1);

    while !blocks.is_empty() {
        let rest = blocks.split_off(blocks.len().saturating_sub(16));
        free_elsewhere(Blocks(rest), layout);
    }
    assert_eq!(stats().heaps, 1, "nobody needed one");
    // It takes a second; without a look at the clock it would never be.
    while stats().slices_bytes + stats().idle_bytes > 4 << 20 {
        let block = one_by_one.pop().expect("within a minute");
        free_elsewhere(Blocks(vec![block]), layout);
        thread::sleep(Duration::from_millis(50));
    }
    assert!(check().is_ok());

    free_elsewhere(Blocks(one_by_one), layout);
    assert_eq!(stats().heaps, 2, "who frees many has one");
    assert!(check().is_ok());
}
