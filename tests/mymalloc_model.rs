//! MyMalloc against a naive model that is easy to see to be right: a list of blocks with what was
//! written into each. Whatever is done, in any order: blocks lie apart, are aligned, keep what they
//! hold, and are zero when that was asked for; and the heap checker finds no contradiction.

mod common;

use std::ffi::c_void;
use std::ptr::NonNull;

use common::{fill, holds};
use mymalloc::allocator::mymalloc::{c, check};
use proptest::prelude::*;

#[derive(Debug, Clone)]
enum Action {
    Allocate(usize),
    Zeroed(usize),
    Aligned(usize, u32),
    Reallocate(usize, usize),
    Free(usize),
    FreeSized(usize),
    FreeHalf(usize),
    Trim,
    Check,
}

/// Small sizes most of the time, some of every class, a few large ones.
fn size() -> impl Strategy<Value = usize> {
    prop_oneof![
        8 => 0_usize..200,
        4 => 200_usize..5000,
        2 => 5000_usize..70_000,
        1 => 70_000_usize..600_000,
    ]
}

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![
        6 => size().prop_map(Action::Allocate),
        2 => size().prop_map(Action::Zeroed),
        1 => (size(), 4_u32..18).prop_map(|(size, shift)| Action::Aligned(size, shift)),
        3 => (any::<usize>(), size()).prop_map(|(which, size)| Action::Reallocate(which, size)),
        6 => any::<usize>().prop_map(Action::Free),
        2 => any::<usize>().prop_map(Action::FreeSized),
        1 => any::<usize>().prop_map(Action::FreeHalf),
        1 => (0_u32..8).prop_map(|one| if one == 0 { Action::Trim } else { Action::Check }),
    ]
}

#[derive(Debug)]
struct Block {
    start: NonNull<u8>,
    size: usize,
    seed: u8,
}

#[derive(Default)]
struct Model {
    blocks: Vec<Block>,
    made: usize,
}

impl Model {
    fn add(&mut self, start: *mut c_void, size: usize, alignment: usize) {
        let start = NonNull::new(start.cast::<u8>()).expect("memory");
        let first = start.addr().get();
        assert_eq!(first % alignment, 0, "{size} bytes at {first:#x}");
        // SAFETY: a block of ours.
        let usable = unsafe { c::malloc_usable_size(start.as_ptr().cast()) };
        assert!(usable >= size, "{usable} of {size}");
        for other in &self.blocks {
            let other_first = other.start.addr().get();
            let is_apart =
                first + usable <= other_first || other_first + other.size.max(1) <= first;
            assert!(is_apart, "{size} bytes at {first:#x} and {other:?}");
        }
        self.made += 1;
        let seed = self.made as u8;
        fill(start, size, seed);
        self.blocks.push(Block { start, size, seed });
    }

    fn take(&mut self, which: usize) -> Option<Block> {
        let count = self.blocks.len();
        let block = (count > 0).then(|| self.blocks.swap_remove(which % count))?;
        assert!(holds(block.start, block.size, block.seed), "{block:?}");
        Some(block)
    }

    fn perform(&mut self, action: &Action) {
        // SAFETY: blocks are used within their sizes and ended once.
        unsafe {
            match *action {
                Action::Allocate(size) => self.add(c::malloc(size), size, 16),
                Action::Zeroed(size) => {
                    let block = c::calloc(1, size);
                    let bytes = core::slice::from_raw_parts(block.cast::<u8>(), size);
                    assert!(bytes.iter().all(|byte| *byte == 0), "{size} zeroes");
                    self.add(block, size, 16);
                }
                Action::Aligned(size, shift) => {
                    self.add(c::aligned_alloc(1 << shift, size), size, 1 << shift);
                }
                Action::Reallocate(which, size) => {
                    let Some(old) = self.take(which) else { return };
                    let size = size.max(1);
                    let block = c::realloc(old.start.as_ptr().cast(), size);
                    let kept = NonNull::new(block.cast::<u8>()).expect("memory");
                    assert!(
                        holds(kept, size.min(old.size), old.seed),
                        "{old:?} to {size}"
                    );
                    self.add(block, size, 16);
                }
                Action::Free(which) => {
                    if let Some(block) = self.take(which) {
                        c::free(block.start.as_ptr().cast());
                    }
                }
                Action::FreeSized(which) => {
                    if let Some(block) = self.take(which) {
                        c::free_sized(block.start.as_ptr().cast(), block.size);
                    }
                }
                Action::Trim => {
                    c::malloc_trim(0);
                }
                Action::Check => {
                    let census = check().expect("no contradiction");
                    // Other tests of this process have blocks, too.
                    assert!(census.small + census.large >= self.blocks.len());
                }
                Action::FreeHalf(which) => {
                    for _ in 0..self.blocks.len() / 2 {
                        self.perform(&Action::Free(which));
                    }
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn blocks_are_apart_and_keep_what_they_hold(
        actions in prop::collection::vec(action(), 1..400)
    ) {
        let mut model = Model::default();
        for action in &actions {
            model.perform(action);
        }
        model.perform(&Action::Check);
        while model.take(0).is_some_and(|block| {
            // SAFETY: ended once.
            unsafe { c::free(block.start.as_ptr().cast()) };
            true
        }) {}
        model.perform(&Action::Check);
    }

    /// Several threads at once, each with a model of its own; memory is theirs together.
    #[test]
    fn threads_do_not_get_each_others_blocks(
        actions in prop::collection::vec(prop::collection::vec(action(), 1..150), 3)
    ) {
        std::thread::scope(|scope| {
            for actions in &actions {
                scope.spawn(move || {
                    let mut model = Model::default();
                    for action in actions {
                        model.perform(action);
                    }
                    while let Some(block) = model.take(0) {
                        // SAFETY: ended once.
                        unsafe { c::free(block.start.as_ptr().cast()) };
                    }
                });
            }
        });
    }
}
