//! The page list and the system: pages go back at once, and refusals of either kind lose nothing.
//! Each test has a process of its own, for it uses up what a process may have.

mod common;

use std::ffi::c_int;
use std::ptr::{self, NonNull};

use common::{in_child, limit_address_space, unlimit_address_space};
use mymalloc::allocator::pagelist::{AllocateError, PageList, c};

/// Whether the page at this address is mapped.
fn is_mapped(address: usize) -> bool {
    let mut resident = 0_u8;
    let page = ptr::without_provenance_mut(address & !4095);
    // SAFETY: asks about one page; the answer goes to a local variable.
    unsafe { libc::mincore(page, 4096, &raw mut resident) == 0 }
}

#[test]
fn a_page_goes_back_to_the_system_with_its_last_block() {
    if !in_child("a_page_goes_back_to_the_system_with_its_last_block") {
        return;
    }
    let list = PageList::new();
    let first = list.allocate(100).expect("memory");
    let second = list.allocate(100).expect("memory");
    assert_eq!(list.free(first), Ok(()));
    assert!(is_mapped(first.addr().get()), "one block is left");
    assert_eq!(list.free(second), Ok(()));
    assert!(!is_mapped(first.addr().get()));

    let large = list.allocate(4096).expect("memory").addr().get();
    assert!(
        is_mapped(large) && is_mapped(large + 4096),
        "two pages of the system's"
    );
    drop(list);
    assert!(
        !is_mapped(large) && !is_mapped(large + 4096),
        "the list takes its pages with it"
    );
}

#[test]
fn out_of_memory_is_an_error_and_passes() {
    if !in_child("out_of_memory_is_an_error_and_passes") {
        return;
    }
    let list = PageList::new();
    let mut blocks = Vec::with_capacity(100_000);
    limit_address_space(8 << 20);
    let refused = loop {
        match list.allocate(1500) {
            Ok(block) => blocks.push(block),
            Err(error) => break error,
        }
    };
    assert_eq!(refused, AllocateError::OutOfMemory);
    assert!(blocks.len() > 1000, "{}", blocks.len());
    let kept = list.check().expect("consistent after the refusal");
    assert_eq!(kept.blocks_allocated, blocks.len());

    let count = blocks.len();
    for block in blocks.drain(..) {
        assert_eq!(list.free(block), Ok(()));
    }
    assert_eq!(list.page_count(), 0);
    for _ in 0..count {
        blocks.push(list.allocate(1500).expect("as much as before fits again"));
    }
    unlimit_address_space();
    blocks.push(list.allocate(1500).expect("more fits without the limit"));
}

fn errno() -> c_int {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

fn set_errno(value: c_int) {
    // SAFETY: this thread's own errno.
    unsafe { *libc::__errno_location() = value }
}

#[test]
fn the_c_functions_say_enomem_and_recover() {
    if !in_child("the_c_functions_say_enomem_and_recover") {
        return;
    }
    limit_address_space(8 << 20);
    // SAFETY: the C functions are used by their rules.
    unsafe {
        let held = c::malloc(1 << 20);
        assert!(!held.is_null());
        for attempt in [
            || c::malloc(64 << 20),
            || c::calloc(64, 1 << 20),
            || c::aligned_alloc(64, 64 << 20),
            || c::aligned_alloc(1 << 20, 64 << 20),
            || c::valloc(64 << 20),
        ] as [fn() -> *mut std::ffi::c_void; 5]
        {
            set_errno(0);
            assert!(attempt().is_null());
            assert_eq!(errno(), libc::ENOMEM);
        }
        set_errno(0);
        assert!(c::realloc(held, 64 << 20).is_null());
        assert_eq!(errno(), libc::ENOMEM);
        assert!(
            c::malloc_usable_size(held) >= 1 << 20,
            "the block is as it was"
        );
        set_errno(5);
        let mut result = ptr::null_mut();
        assert_eq!(
            c::posix_memalign(&raw mut result, 64, 64 << 20),
            libc::ENOMEM
        );
        assert_eq!((result, errno()), (ptr::null_mut(), libc::ENOMEM));

        unlimit_address_space();
        let grown = c::realloc(held, 64 << 20);
        assert!(!grown.is_null());
        c::free(grown);
    }
}

/// As many mappings as a process may have: a block of them whose pages differ in turn.
fn use_up_mappings() -> (*mut libc::c_void, usize) {
    let bytes = 4096 * 200_000;
    // SAFETY: a fresh mapping that this test alone uses; its protection is changed page by page.
    unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE;
        let start = libc::mmap(ptr::null_mut(), bytes, libc::PROT_NONE, flags, -1, 0);
        assert_ne!(start, libc::MAP_FAILED);
        for page in (1..200_000).step_by(2) {
            if libc::mprotect(start.byte_add(page * 4096), 4096, libc::PROT_READ) != 0 {
                assert_eq!(errno(), libc::ENOMEM);
                return (start, bytes);
            }
        }
    }
    panic!("this system lets a process have more mappings than the test makes");
}

#[test]
fn a_page_that_the_system_does_not_take_back_serves_again() {
    if !in_child("a_page_that_the_system_does_not_take_back_serves_again") {
        return;
    }
    let list = PageList::new();
    let mut blocks: Vec<NonNull<u8>> = (0..100)
        .map(|_| list.allocate(4000).expect("memory"))
        .collect();
    blocks.sort();
    let (start, bytes) = use_up_mappings();
    // Neighbouring pages are one mapping to the system: taking one out of the middle would make it
    // two, and there can be no more.
    let middle = blocks.remove(50);
    set_errno(5);
    assert_eq!(list.free(middle), Ok(()));
    assert_eq!(errno(), 5);
    let census = list.check().expect("consistent");
    assert_eq!(
        (census.pages, census.pages_empty),
        (100, 1),
        "it stays in the list, free"
    );
    let again = list.allocate(4000).expect("it is there to be used");
    assert_eq!(again, middle);

    // SAFETY: the mapping made above.
    assert_eq!(unsafe { libc::munmap(start, bytes) }, 0);
    for block in blocks.into_iter().chain([again]) {
        assert_eq!(list.free(block), Ok(()));
    }
    assert_eq!(list.page_count(), 0);
}
