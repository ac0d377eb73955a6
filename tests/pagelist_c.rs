//! The C functions over the page list: what the C standard, POSIX and glibc's manual say of each.

mod common;

use std::ffi::{c_int, c_void};
use std::ptr::{self, NonNull};
use std::sync::{Mutex, MutexGuard, PoisonError};

use common::{fill, holds};
use mymalloc::allocator::pagelist::c;
use proptest::prelude::*;

const PTRDIFF_MAX: usize = isize::MAX as usize;

/// The tests free some blocks twice on purpose. All use the process's one list, where such a block
/// could be another test's by then: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn errno() -> c_int {
    std::io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

fn set_errno(value: c_int) {
    // SAFETY: this thread's own errno.
    unsafe { *libc::__errno_location() = value }
}

/// What a call returns, and what it leaves in errno.
fn with_errno<T>(call: impl FnOnce() -> T) -> (T, c_int) {
    set_errno(0);
    let result = call();
    (result, errno())
}

fn bytes(block: *mut c_void) -> NonNull<u8> {
    NonNull::new(block.cast()).expect("a block")
}

fn malloc(size: usize) -> *mut c_void {
    // SAFETY: none is needed to ask.
    unsafe { c::malloc(size) }
}

fn free(block: *mut c_void) {
    // SAFETY: the tests free what they hold, or what is no block.
    unsafe { c::free(block) }
}

fn realloc(block: *mut c_void, size: usize) -> *mut c_void {
    // SAFETY: the tests use the result only.
    unsafe { c::realloc(block, size) }
}

fn usable(block: *mut c_void) -> usize {
    // SAFETY: any pointer is allowed.
    unsafe { c::malloc_usable_size(block) }
}

const NULL: *mut c_void = ptr::null_mut();

#[test]
fn sizes_beyond_ptrdiff_max_are_out_of_memory() {
    let _alone = alone();
    let held = malloc(10);
    for size in [PTRDIFF_MAX + 1, usize::MAX - 4096, usize::MAX] {
        // SAFETY: nothing is served.
        unsafe {
            assert_eq!(with_errno(|| c::malloc(size)), (NULL, libc::ENOMEM));
            assert_eq!(with_errno(|| c::calloc(1, size)), (NULL, libc::ENOMEM));
            assert_eq!(with_errno(|| c::realloc(held, size)), (NULL, libc::ENOMEM));
            assert_eq!(
                with_errno(|| c::aligned_alloc(64, size)),
                (NULL, libc::ENOMEM)
            );
            assert_eq!(with_errno(|| c::valloc(size)), (NULL, libc::ENOMEM));
            assert_eq!(with_errno(|| c::pvalloc(size)), (NULL, libc::ENOMEM));
            let mut result = NULL;
            let outcome = c::posix_memalign(&raw mut result, 64, size);
            assert_eq!((outcome, result), (libc::ENOMEM, NULL));
        }
    }
    // Representable, but nobody has it.
    for size in [PTRDIFF_MAX, PTRDIFF_MAX - 4096, 1 << 60] {
        assert_eq!(with_errno(|| malloc(size)), (NULL, libc::ENOMEM));
        // SAFETY: nothing is served.
        let aligned = with_errno(|| unsafe { c::memalign(1 << 62, size) });
        assert_eq!(aligned, (NULL, libc::ENOMEM));
    }
    assert!(
        usable(held) >= 10,
        "a refused realloc leaves the block alone"
    );
    free(held);
}

#[test]
fn calloc_zeroes_recycled_memory_and_refuses_overflow() {
    let _alone = alone();
    for size in [1, 100, 4000, 4096, 4097, 50_000] {
        let dirty = malloc(size);
        let wall = malloc(16);
        fill(bytes(dirty), size, 0xff);
        free(dirty);
        // SAFETY: the block is read within its size.
        unsafe {
            let zeroed = c::calloc(size, 1);
            if size <= 4000 {
                assert_eq!(
                    zeroed, dirty,
                    "the wall keeps the page, first fit finds the place"
                );
            }
            assert!(
                (0..size).all(|at| bytes(zeroed).add(at).read() == 0),
                "{size}"
            );
            free(zeroed);
        }
        free(wall);
    }
    // SAFETY: nothing is served.
    unsafe {
        assert_eq!(
            with_errno(|| c::calloc(1 << 33, 1 << 33)),
            (NULL, libc::ENOMEM)
        );
        assert_eq!(
            with_errno(|| c::calloc(usize::MAX, 2)),
            (NULL, libc::ENOMEM)
        );
        assert_eq!(
            with_errno(|| c::reallocarray(NULL, 1 << 33, 1 << 33)),
            (NULL, libc::ENOMEM)
        );
    }
}

#[test]
fn requests_of_no_bytes_get_blocks_of_their_own() {
    let _alone = alone();
    // SAFETY: none is needed to ask.
    let blocks = unsafe { [c::malloc(0), c::malloc(0), c::calloc(0, 5), c::calloc(5, 0)] };
    for (at, block) in blocks.iter().enumerate() {
        assert!(!block.is_null());
        assert!(!blocks[..at].contains(block));
    }
    blocks.into_iter().for_each(free);
}

#[test]
fn realloc_of_null_allocates_and_to_nothing_frees() {
    let _alone = alone();
    let block = realloc(NULL, 100);
    fill(bytes(block), 100, 1);
    let (result, errno) = with_errno(|| realloc(block, 0));
    assert_eq!((result, errno), (NULL, 0));
    assert_eq!(usable(block), 0, "it is free");
}

#[test]
fn realloc_keeps_the_content_between_pages_and_mappings() {
    let _alone = alone();
    let sizes = [
        10, 10, 500, 4064, 4096, 4097, 100_000, 100_000, 3_000_000, 9000, 4096, 60, 1,
    ];
    let mut block = malloc(10);
    let mut size = 10;
    fill(bytes(block), size, 42);
    for size_new in sizes {
        block = realloc(block, size_new);
        assert!(
            holds(bytes(block), size.min(size_new), 42),
            "{size} to {size_new}"
        );
        assert!(usable(block) >= size_new);
        size = size_new;
        fill(bytes(block), size, 42);
    }
    free(block);
}

#[test]
fn aligned_blocks_are_aligned_resized_and_freed() {
    let _alone = alone();
    for power in 0..24 {
        let alignment = 1_usize << power;
        for size in [0, 1, 100, 4096, 4097, 70_000] {
            // SAFETY: the block is used within its size.
            let block = unsafe { c::aligned_alloc(alignment, size) };
            assert_eq!(block.addr() % alignment.max(16), 0, "{alignment} {size}");
            assert!(usable(block) >= size.max(1));
            fill(bytes(block), size, 7);
            let resized = realloc(block, size + 5000);
            assert!(holds(bytes(resized), size, 7));
            free(resized);
        }
    }
}

#[test]
fn alignments_that_are_none_are_invalid() {
    let _alone = alone();
    for alignment in [0, 3, 24, 4097, usize::MAX] {
        // SAFETY: nothing is served.
        unsafe {
            assert_eq!(
                with_errno(|| c::aligned_alloc(alignment, 8)),
                (NULL, libc::EINVAL)
            );
            assert_eq!(
                with_errno(|| c::memalign(alignment, 8)),
                (NULL, libc::EINVAL)
            );
        }
    }
    let untouched = ptr::without_provenance_mut(64);
    // POSIX: a power of two that is a multiple of a pointer's size; errno is not set.
    for alignment in [0, 1, 2, 4, 3, 24, usize::MAX] {
        let mut result = untouched;
        // SAFETY: `result` can be written.
        let call = || unsafe { c::posix_memalign(&raw mut result, alignment, 8) };
        assert_eq!(with_errno(call), (libc::EINVAL, 0), "{alignment}");
        assert_eq!(result, untouched);
    }
    for alignment in [8, 16, 64, 4096, 1 << 16] {
        let mut result = untouched;
        // SAFETY: `result` can be written.
        let call = || unsafe { c::posix_memalign(&raw mut result, alignment, 8) };
        assert_eq!(with_errno(call), (0, 0));
        assert_eq!(result.addr() % alignment, 0);
        free(result);
    }
}

#[test]
fn valloc_and_pvalloc_give_whole_pages() {
    let _alone = alone();
    // SAFETY: the blocks are used within their sizes.
    unsafe {
        for size in [0, 1, 4096, 5000] {
            let block = c::valloc(size);
            assert_eq!(block.addr() % 4096, 0);
            free(block);
            let block = c::pvalloc(size);
            assert_eq!(block.addr() % 4096, 0);
            assert!(usable(block) >= size.max(1).next_multiple_of(4096));
            free(block);
        }
    }
}

#[test]
fn free_keeps_errno_and_null_is_nothing() {
    let _alone = alone();
    let blocks = [malloc(10), malloc(4096), malloc(100_000), NULL];
    for block in blocks {
        set_errno(77);
        free(block);
        assert_eq!(errno(), 77);
    }
    assert_eq!(usable(NULL), 0);
    assert_eq!(with_errno(|| malloc(5000)).1, 0);
}

#[test]
fn pointers_that_are_no_blocks_do_nothing() {
    let _alone = alone();
    let local = std::hint::black_box([0_u128; 8]);
    for size in [100, 100_000] {
        let block = malloc(size);
        fill(bytes(block), size, 5);
        for wrong in [
            block.wrapping_byte_add(1),
            block.wrapping_byte_add(16),
            block.wrapping_byte_sub(16),
            block.wrapping_byte_add(96),
            (&raw const local).cast_mut().cast(),
            ptr::without_provenance_mut(0x10),
            ptr::without_provenance_mut(usize::MAX - 15),
        ] {
            free(wrong);
            assert_eq!(usable(wrong), 0);
            assert_eq!(with_errno(|| realloc(wrong, 50)), (NULL, libc::EINVAL));
        }
        assert!(holds(bytes(block), size, 5));
        free(block);
        free(block);
        assert_eq!(with_errno(|| realloc(block, 50)), (NULL, libc::EINVAL));
    }
}

#[test]
fn the_seeds_names_serve_up_to_4096_bytes() {
    let _alone = alone();
    // SAFETY: the blocks are used within their sizes.
    unsafe {
        for size in [0, 1, 4000, 4096] {
            let block = c::mymalloc(size);
            fill(bytes(block), size, 1);
            c::myfree(block);
            assert_eq!(usable(block), 0, "freed");
            c::myfree(block);
        }
        assert_eq!(with_errno(|| c::mymalloc(4097)), (NULL, libc::ENOMEM));
        c::myfree(NULL);
        c::myfree(ptr::without_provenance_mut(0x1234_5670));
        let larger = malloc(5000);
        c::myfree(larger);
        assert_eq!(usable(larger), 0, "whatever malloc gave, myfree takes");
    }
}

#[derive(Debug, Clone)]
enum Action {
    Malloc(usize),
    Aligned(u32, usize),
    Free(prop::sample::Index),
    Realloc(prop::sample::Index, usize),
}

fn actions() -> impl Strategy<Value = Action> {
    let sizes = || prop_oneof![3 => 0..5000_usize, 1 => 0..200_000_usize];
    let index = any::<prop::sample::Index>;
    prop_oneof![
        3 => sizes().prop_map(Action::Malloc),
        1 => (4..15_u32, sizes()).prop_map(|(power, size)| Action::Aligned(power, size)),
        3 => index().prop_map(Action::Free),
        2 => (index(), 1..200_000_usize).prop_map(|(index, size)| Action::Realloc(index, size)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(60) })]

    /// Sizes and alignments of every kind at once: apart, aligned, content kept.
    #[test]
    fn any_mix_of_sizes_keeps_blocks_apart(actions in prop::collection::vec(actions(), 1..100)) {
        let _alone = alone();
        let mut live: Vec<(*mut c_void, usize, u8)> = Vec::new();
        for (step, action) in actions.iter().enumerate() {
            let seed = step as u8;
            let (block, size) = match *action {
                Action::Malloc(size) => (malloc(size), size),
                Action::Aligned(power, size) => {
                    // SAFETY: the block is used within its size.
                    let block = unsafe { c::memalign(1 << power, size) };
                    prop_assert_eq!(block.addr() % (1 << power), 0);
                    (block, size)
                }
                _ if live.is_empty() => continue,
                Action::Free(index) => {
                    let (block, size, seed) = live.swap_remove(index.index(live.len()));
                    prop_assert!(holds(bytes(block), size, seed));
                    free(block);
                    continue;
                }
                Action::Realloc(index, size) => {
                    let (old, size_old, seed) = live.swap_remove(index.index(live.len()));
                    let block = realloc(old, size);
                    prop_assert!(holds(bytes(block), size.min(size_old), seed));
                    (block, size)
                }
            };
            prop_assert_eq!(block.addr() % 16, 0);
            prop_assert!(usable(block) >= size.max(1));
            fill(bytes(block), size, seed);
            live.push((block, size, seed));
        }
        for (block, size, seed) in live {
            prop_assert!(holds(bytes(block), size, seed), "no other block was in the way");
            free(block);
        }
    }
}
