//! Where MyMalloc takes memory from: what is there already before new memory is touched. Alone in its
//! process, so that nobody else takes or frees.

use std::alloc::{GlobalAlloc, Layout};

use mymalloc::allocator::mymalloc::{MyMalloc, check};

fn layout(kib: usize) -> Layout {
    Layout::from_size_align(kib << 10, 16).expect("a layout")
}

#[test]
fn a_longer_block_takes_idle_memory_and_what_is_clean_beside_it() {
    // The first block beyond medium sizes is cut from a fresh MiB, so clean memory follows it.
    // SAFETY: each block is freed once, with its layout, and written within its length.
    unsafe {
        let first = MyMalloc.alloc(layout(300));
        assert!(!first.is_null());
        first.write_bytes(0xff, 300 << 10);
        MyMalloc.dealloc(first, layout(300));

        let longer = MyMalloc.alloc_zeroed(layout(400));
        assert_eq!(longer, first, "the idle pages are part of it");
        let bytes = std::slice::from_raw_parts(longer, 400 << 10);
        assert!(
            bytes.iter().all(|byte| *byte == 0),
            "zeroes, though it held others"
        );
        assert!(check().is_ok());

        MyMalloc.dealloc(longer, layout(400));
        let again = MyMalloc.alloc(layout(400));
        assert_eq!(again, first, "all of it is idle memory now");
        MyMalloc.dealloc(again, layout(400));
        assert!(check().is_ok());
    }
}
