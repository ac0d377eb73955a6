//! What one size has used serves the next, however fast they follow each other. Alone in its process, so that
//! nobody else takes or frees.

use std::alloc::{GlobalAlloc, Layout};

use mymalloc::allocator::mymalloc::{MyMalloc, check, stats};

/// The sizes, and how many bytes of blocks of each.
const SIZES: [usize; 10] = [48, 64, 80, 96, 112, 128, 160, 192, 224, 256];
const BYTES: usize = 4 << 20;
/// A prime, so that each block is visited once.
const STRIDE: usize = 7919;

#[test]
fn what_one_size_has_used_serves_the_next() {
    for size in SIZES {
        let layout = Layout::from_size_align(size, 16).expect("a layout");
        // SAFETY: blocks are written within their length, and each is freed once, with its layout.
        unsafe {
            let blocks: Vec<*mut u8> = (0..BYTES / size).map(|_| MyMalloc.alloc(layout)).collect();
            // Those that were freed last stay at hand, and lie all over the memory.
            for index in 0..blocks.len() {
                let block = blocks[index * STRIDE % blocks.len()];
                assert!(!block.is_null());
                block.write_bytes(0xff, size);
                MyMalloc.dealloc(block, layout);
            }
        }
    }
    // Without it each has address space of its own: 40 MiB.
    let mapped = stats().mapped_bytes;
    assert!(mapped <= 5 * BYTES, "{mapped} bytes are mapped");
    assert!(check().is_ok());
}
