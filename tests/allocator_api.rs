//! Collections of `allocator-api2` in MyMalloc.
#![cfg(feature = "allocator-api2")]

use core::alloc::Layout;

use allocator_api2::alloc::Allocator;
use allocator_api2::boxed::Box;
use allocator_api2::vec::Vec;
use mymalloc::allocator::mymalloc::MyMalloc;

#[test]
fn collections_grow_shrink_and_are_empty() {
    let mut words: Vec<u32, MyMalloc> = Vec::new_in(MyMalloc);
    words.extend(0..100_000);
    words.truncate(10);
    words.shrink_to_fit();
    assert!(words.iter().copied().eq(0..10));
    let nothing = Box::new_in((), MyMalloc);
    assert_eq!(*nothing, ());
}

#[test]
fn layouts_change_and_content_stays() {
    let layout = |size, align| Layout::from_size_align(size, align).expect("valid");
    // SAFETY: blocks are used within their layouts and ended once.
    unsafe {
        let empty = MyMalloc.allocate(layout(0, 64)).expect("no memory needed");
        assert!(empty.is_empty() && empty.cast::<u8>().addr().get().is_multiple_of(64));
        let first = MyMalloc
            .grow_zeroed(empty.cast(), layout(0, 64), layout(100, 64))
            .expect("memory");
        assert!(first.as_ref().iter().all(|byte| *byte == 0));
        first.cast::<u8>().write_bytes(7, 100);
        let second = MyMalloc
            .grow_zeroed(first.cast(), layout(100, 64), layout(5000, 4096))
            .expect("memory");
        assert!(second.cast::<u8>().addr().get().is_multiple_of(4096));
        let bytes = second.as_ref();
        assert!(bytes[..100].iter().all(|byte| *byte == 7));
        assert!(bytes[100..].iter().all(|byte| *byte == 0));
        let third = MyMalloc
            .shrink(second.cast(), layout(5000, 4096), layout(0, 1))
            .expect("no memory needed");
        MyMalloc.deallocate(third.cast(), layout(0, 1));
        assert!(
            MyMalloc
                .allocate(layout(isize::MAX as usize - 63, 64))
                .is_err()
        );
    }
}
