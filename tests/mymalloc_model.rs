//! MyMalloc against a naive model that is easy to see to be right: a list of blocks with what was
//! written into each. Whatever is done, in any order: blocks lie apart, are aligned, keep what they
//! hold, and are zero when that was asked for; and the heap checker finds no contradiction.

#[path = "common/shadow.rs"]
mod shadow;

use proptest::prelude::*;
use shadow::{Action, Exchange, Model};

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
        2 => any::<usize>().prop_map(Action::Give),
        2 => any::<usize>().prop_map(Action::Receive),
        1 => (0_u32..8).prop_map(|one| if one == 0 { Action::Trim } else { Action::Check }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn blocks_are_apart_and_keep_what_they_hold(
        actions in prop::collection::vec(action(), 1..400)
    ) {
        let exchange = Exchange::default();
        let mut model = Model::new(&exchange);
        for action in &actions {
            model.perform(action);
        }
        model.perform(&Action::Check);
        drop(model);
        Model::new(&exchange).perform(&Action::Check);
    }

    /// Several threads at once, each with a model of its own; memory is theirs together, and they hand
    /// blocks to each other.
    #[test]
    fn threads_do_not_get_each_others_blocks(
        actions in prop::collection::vec(prop::collection::vec(action(), 1..150), 3)
    ) {
        let exchange = Exchange::default();
        std::thread::scope(|scope| {
            for actions in &actions {
                let exchange = &exchange;
                scope.spawn(move || {
                    let mut model = Model::new(exchange);
                    for action in actions {
                        model.perform(action);
                    }
                });
            }
        });
    }

    /// As the fuzz target does, which finds what is rarer.
    #[test]
    fn any_bytes_are_operations_that_go_well(bytes in prop::collection::vec(any::<u8>(), 0..3000)) {
        shadow::run(&bytes);
    }
}

/// A block of up to 256 KiB stays as long as it is when it is to have less, unless more than half of what it needs would be
/// too much. When it needs 55 % or less, it is shortened, or moves: with the length of its new class as well that is so.
#[test]
fn medium_blocks_stay_unless_much_of_them_is_too_long() {
    use mymalloc::allocator::mymalloc::c::{free, malloc, malloc_usable_size, realloc};
    const PAGE: usize = 4096;
    for pages in [8, 10, 16, 24, 40, 64] {
        for wanted in (1..=pages * PAGE).rev().step_by(1000) {
            // SAFETY: blocks of the C functions, each used by nobody else and freed once.
            unsafe {
                let block = malloc(pages * PAGE);
                let have = malloc_usable_size(block) / PAGE;
                let resized = realloc(block, wanted);
                let has = malloc_usable_size(resized);
                let needed = wanted.div_ceil(PAGE);
                if have - needed <= needed / 2 {
                    assert_eq!((resized, has), (block, have * PAGE), "{have} to {wanted}");
                } else if 20 * needed <= 11 * have {
                    assert!(wanted <= has && has < have * PAGE, "{have} to {wanted}");
                }
                free(resized);
            }
        }
    }
}
