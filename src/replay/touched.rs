//! What compiling needs to know of blocks for the replay to touch them as the recorded program did: how
//! many pages of a large one, and which have no bytes at all.

#![forbid(unsafe_code)]

use rustc_hash::FxHashSet;

use crate::trace::wire::{TOUCHED_MIN_BYTES, touched_class};
use crate::trace::{BlockId, TouchedBlocks, Trace};

/// The recording does not tell of such blocks: all of their pages are touched.
pub(super) const ALL_PAGES: u32 = u32::MAX;
/// Bytes of an OS page, as far as touching is concerned.
const PAGE_BYTES: u64 = 4096;

/// Hands out pages so that the blocks of a class together have the share of touched ones that was
/// recorded.
#[derive(Clone, Debug, Default)]
pub(super) struct TouchedPages {
    classes: Vec<Class>,
    /// Blocks of no bytes.
    empty: FxHashSet<BlockId>,
}

#[derive(Clone, Copy, Debug)]
struct Class {
    recorded: TouchedBlocks,
    /// What the blocks so far have too little, in pages times `recorded.pages`.
    owed: u128,
}

impl TouchedPages {
    /// As the recording of a trace tells it.
    pub(super) fn of(trace: &Trace) -> Self {
        let recording = trace.origin().recording.as_ref();
        let recorded = recording.map_or(&[][..], |recording| &recording.touched);
        let sound = recorded
            .iter()
            .filter(|class| class.from_bytes >= TOUCHED_MIN_BYTES && (1..).contains(&class.pages));
        Self {
            classes: sound.map(|&recorded| Class { recorded, owed: 0 }).collect(),
            empty: FxHashSet::default(),
        }
    }

    /// A block of no bytes begins.
    pub(super) fn note_empty(&mut self, block: BlockId) {
        self.empty.insert(block);
    }

    /// Whether a block that ends was one of no bytes.
    pub(super) fn was_empty(&mut self, block: BlockId) -> bool {
        self.empty.remove(&block)
    }

    /// Pages to touch of the next block of this size.
    pub(super) fn take(&mut self, bytes: u64) -> u32 {
        if bytes < TOUCHED_MIN_BYTES {
            return ALL_PAGES;
        }
        let number = touched_class(bytes);
        let mut classes = self.classes.iter_mut();
        let Some(class) = classes.find(|class| touched_class(class.recorded.from_bytes) == number)
        else {
            return ALL_PAGES;
        };
        let pages = bytes.div_ceil(PAGE_BYTES);
        let (of, touched) = (class.recorded.pages, class.recorded.touched_pages);
        class.owed += u128::from(pages) * u128::from(touched.min(of));
        let taken = class.owed / u128::from(of);
        class.owed %= u128::from(of);
        u32::try_from(taken).unwrap_or(ALL_PAGES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replay::program::Program;
    use crate::trace::builder::TraceBuilder;
    use crate::trace::{Recording, ThreadIndex, testing};

    const ONE: ThreadIndex = ThreadIndex(0);

    fn builder(touched: Vec<TouchedBlocks>) -> TraceBuilder {
        let mut origin = testing::origin();
        origin.recording = Some(Recording {
            touched,
            ..Recording::default()
        });
        TraceBuilder::new(origin)
    }

    fn class(from_bytes: u64, pages: u64, touched_pages: u64) -> TouchedBlocks {
        TouchedBlocks {
            from_bytes,
            pages,
            touched_pages,
        }
    }

    #[test]
    fn blocks_of_a_class_have_its_share_together() {
        let recorded = vec![
            class(64 << 10, 1000, 270),
            class(1 << 20, 10, 0),
            // What no recorder writes: more than all, of none, of small blocks.
            class(2 << 20, 10, 11),
            class(4 << 20, 0, 5),
            class(8 << 10, 10, 0),
        ];
        let mut touched = TouchedPages::of(&builder(recorded).finish());
        let taken: Vec<u32> = (0..100).map(|_| touched.take(64 << 10)).collect();
        assert_eq!(taken.iter().sum::<u32>(), 432);
        assert!(
            taken.iter().all(|pages| (4..=5).contains(pages)),
            "{taken:?}"
        );
        // The class ends where the next begins, whether that was recorded or not.
        assert_eq!(touched.take((80 << 10) - 1), 5);
        assert_eq!(touched.take(80 << 10), ALL_PAGES);
        assert_eq!(touched.take(1 << 20), 0);
        assert_eq!(touched.take(2 << 20), 512);
        assert_eq!(touched.take(4 << 20), ALL_PAGES);
        assert_eq!(touched.take(8 << 10), ALL_PAGES);
        assert_eq!(touched.take(0), ALL_PAGES);
        // A block above 16 TiB has more pages than can be told.
        let mut huge = TouchedPages::of(&builder(vec![class(1 << 46, 1, 1)]).finish());
        assert_eq!(huge.take(1 << 46), ALL_PAGES);
    }

    #[test]
    fn programs_know_what_is_touched_and_what_is_empty() {
        let mut builder = builder(vec![class(64 << 10, 16, 4)]);
        let large = builder.malloc(ONE, 64 << 10);
        let empty = builder.malloc(ONE, 0);
        let small = builder.malloc(ONE, 8);
        for block in [large, empty, small] {
            builder.free(ONE, block, false);
        }
        builder.free_null(ONE);
        let program = Program::compile(&builder.finish()).expect("small");
        let [first, .., of_large, of_empty, of_small, of_null] = program.words[..] else {
            panic!("{program:?}")
        };
        assert_eq!(program.cold[first.operand()].touched_pages, 4);
        assert_eq!(program.call_text(0).expect("there"), "malloc(65536)");
        let frees = [of_large, of_empty, of_small, of_null];
        assert!(frees.iter().all(|word| word.is_free()));
        assert_eq!(
            frees.map(|word| word.has_bytes()),
            [true, false, true, true]
        );
        assert_eq!(of_null.slot(), 0);
    }
}
