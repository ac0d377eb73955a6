//! The page list against a naive model that is easy to see to be right: pages are vectors of
//! (length, allocated) pairs. Every step must put the block exactly where the model does, which
//! holds first fit, splitting, merging and the return of empty pages all at once.

mod common;

use std::ptr::NonNull;

use common::{fill, holds};
use mymalloc::allocator::FreeError;
use mymalloc::allocator::pagelist::{
    AllocateError, Inconsistency, PageList, REQUEST_BYTES_MAX, ReallocateError,
};
use proptest::prelude::*;

const PAGE_HEADER_BYTES: usize = 16;
const BLOCK_HEADER_BYTES: usize = 16;
/// The largest request that fits into a page of 4096 bytes.
const ORDINARY_BYTES_MAX: usize = 4096 - PAGE_HEADER_BYTES - BLOCK_HEADER_BYTES;

/// What a page should look like.
#[derive(Debug)]
struct ModelPage {
    /// Told apart from the others by number; its address is learnt from the first block.
    number: usize,
    /// Length and whether it is allocated, from the first block to the last.
    blocks: Vec<(usize, bool)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    page_number: usize,
    /// From the page's start to the payload.
    offset: usize,
}

/// The whole list as it should be, newest page first.
#[derive(Debug, Default)]
struct Model {
    pages: Vec<ModelPage>,
    pages_made: usize,
}

impl Model {
    fn need(size: usize) -> usize {
        BLOCK_HEADER_BYTES + size.max(1).div_ceil(16) * 16
    }

    fn allocate(&mut self, size: usize) -> Place {
        let need = Self::need(size);
        for page in &mut self.pages {
            if let Some(index) = page
                .blocks
                .iter()
                .position(|&(bytes, used)| !used && bytes >= need)
            {
                return page.take(index, need);
            }
        }
        let page_bytes = (PAGE_HEADER_BYTES + need).div_ceil(4096) * 4096;
        self.pages_made += 1;
        let blocks = vec![(page_bytes - PAGE_HEADER_BYTES, false)];
        self.pages.insert(
            0,
            ModelPage {
                number: self.pages_made,
                blocks,
            },
        );
        self.pages[0].take(0, need)
    }

    fn free(&mut self, place: Place) {
        let (page_index, block_index) = self.find(place);
        let page = &mut self.pages[page_index];
        page.blocks[block_index].1 = false;
        page.merge();
        if page.blocks.len() == 1 && !page.blocks[0].1 {
            self.pages.remove(page_index);
        }
    }

    fn reallocate(&mut self, place: Place, size: usize) -> Place {
        let need = Self::need(size);
        let (page_index, block_index) = self.find(place);
        let page = &mut self.pages[page_index];
        let following = match page.blocks.get(block_index + 1) {
            Some(&(bytes, false)) => bytes,
            _ => 0,
        };
        if page.blocks[block_index].0 + following < need {
            let moved = self.allocate(size);
            self.free(place);
            return moved;
        }
        if following > 0 {
            page.blocks.remove(block_index + 1);
            page.blocks[block_index].0 += following;
        }
        page.take(block_index, need)
    }

    fn find(&self, place: Place) -> (usize, usize) {
        let page_index = self
            .pages
            .iter()
            .position(|page| page.number == place.page_number);
        let page_index = page_index.expect("the model knows the page");
        let mut offset = PAGE_HEADER_BYTES + BLOCK_HEADER_BYTES;
        for (index, &(bytes, _)) in self.pages[page_index].blocks.iter().enumerate() {
            if offset == place.offset {
                return (page_index, index);
            }
            offset += bytes;
        }
        panic!("the model knows the block {place:?}");
    }
}

impl ModelPage {
    /// Allocates `need` bytes of the block at `index`, leaving a free block if one fits.
    fn take(&mut self, index: usize, need: usize) -> Place {
        let rest = self.blocks[index].0 - need;
        self.blocks[index].1 = true;
        if rest >= 32 {
            self.blocks[index].0 = need;
            self.blocks.insert(index + 1, (rest, false));
        }
        let before: usize = self.blocks[..index].iter().map(|&(bytes, _)| bytes).sum();
        let offset = PAGE_HEADER_BYTES + before + BLOCK_HEADER_BYTES;
        Place {
            page_number: self.number,
            offset,
        }
    }

    fn merge(&mut self) {
        let mut merged: Vec<(usize, bool)> = Vec::new();
        for &(bytes, used) in &self.blocks {
            match merged.last_mut() {
                Some((last, false)) if !used => *last += bytes,
                _ => merged.push((bytes, used)),
            }
        }
        self.blocks = merged;
    }
}

#[derive(Debug, Clone)]
enum Action {
    Allocate(usize),
    Free(prop::sample::Index),
    Reallocate(prop::sample::Index, usize),
    /// A pointer that is none: that many bytes behind a block's start.
    FreeInside(prop::sample::Index, usize),
}

fn sizes() -> impl Strategy<Value = usize> {
    prop_oneof![
        8 => 0..200_usize,
        3 => 0..=1500_usize,
        1 => 0..=REQUEST_BYTES_MAX,
        // Around the largest that fits into 4096 bytes, and the largest of all.
        1 => ORDINARY_BYTES_MAX - 32..=ORDINARY_BYTES_MAX + 32,
        1 => REQUEST_BYTES_MAX - 3..=REQUEST_BYTES_MAX,
    ]
}

fn actions() -> impl Strategy<Value = Action> {
    let index = any::<prop::sample::Index>;
    prop_oneof![
        5 => sizes().prop_map(Action::Allocate),
        4 => index().prop_map(Action::Free),
        2 => (index(), sizes()).prop_map(|(index, size)| Action::Reallocate(index, size)),
        1 => (index(), 1..REQUEST_BYTES_MAX).prop_map(|(index, by)| Action::FreeInside(index, by)),
    ]
}

/// A block that the program holds.
#[derive(Debug, Clone, Copy)]
struct Live {
    block: NonNull<u8>,
    size: usize,
    seed: u8,
    place: Place,
}

/// The list and its model, stepped together.
#[derive(Default)]
struct Pair {
    list: PageList,
    model: Model,
    live: Vec<Live>,
    /// Address of each page of the model that is still there.
    page_starts: std::collections::HashMap<usize, usize>,
    steps: u8,
}

impl Pair {
    fn step(&mut self, action: &Action) {
        self.steps = self.steps.wrapping_add(1);
        match *action {
            Action::Allocate(size) => {
                let block = self
                    .list
                    .allocate(size)
                    .expect("memory for a small request");
                let place = self.model.allocate(size);
                self.hold(Live {
                    block,
                    size,
                    seed: self.steps,
                    place,
                });
            }
            Action::Free(_) | Action::Reallocate(..) | Action::FreeInside(..)
                if self.live.is_empty() => {}
            Action::Free(index) => {
                let at = index.index(self.live.len());
                self.release(at);
            }
            Action::Reallocate(index, size) => {
                let old = self.live.swap_remove(index.index(self.live.len()));
                let block = self.list.reallocate(old.block, size).expect("memory");
                let place = self.model.reallocate(old.place, size);
                assert!(
                    holds(block, old.size.min(size), old.seed),
                    "reallocation keeps the content up to the smaller size"
                );
                self.hold(Live {
                    block,
                    size,
                    seed: self.steps,
                    place,
                });
            }
            Action::FreeInside(index, by) => {
                let live = self.live[index.index(self.live.len())];
                if by < live.size.max(1) {
                    let inside = live
                        .block
                        .map_addr(|address| address.checked_add(by).unwrap());
                    let expected = if by % 16 == 0 {
                        FreeError::Interior
                    } else {
                        FreeError::Misaligned
                    };
                    assert_eq!(self.list.free(inside), Err(expected));
                }
            }
        }
        self.compare();
    }

    fn hold(&mut self, live: Live) {
        let address = live.block.addr().get();
        assert_eq!(address % 16, 0, "aligned to 16 bytes");
        let usable_bytes = self
            .list
            .usable_bytes(live.block)
            .expect("an allocated block");
        assert!(usable_bytes >= live.size.max(1));
        for other in &self.live {
            let apart = address + live.size.max(1) <= other.block.addr().get()
                || other.block.addr().get() + other.size.max(1) <= address;
            assert!(apart, "{live:?} overlaps {other:?}");
        }
        let start = address - live.place.offset;
        assert_eq!(
            start % 4096,
            0,
            "the block is at the model's offset of a page: {live:?}"
        );
        let known = *self
            .page_starts
            .entry(live.place.page_number)
            .or_insert(start);
        assert_eq!(
            known, start,
            "the block is in the page that the model says: {live:?}"
        );
        fill(live.block, live.size, live.seed);
        self.live.push(live);
    }

    fn release(&mut self, at: usize) {
        let live = self.live.swap_remove(at);
        assert!(
            holds(live.block, live.size, live.seed),
            "content kept while held: {live:?}"
        );
        assert_eq!(self.list.free(live.block), Ok(()));
        self.model.free(live.place);
        let again = self.list.free(live.block);
        assert!(
            matches!(again, Err(FreeError::AlreadyFreed | FreeError::Foreign)),
            "freed twice: {again:?}"
        );
    }

    fn compare(&mut self) {
        let census = self.list.check().expect("a consistent heap");
        let model = &self.model;
        let blocks = || model.pages.iter().flat_map(|page| &page.blocks);
        assert_eq!(census.pages, model.pages.len());
        assert_eq!(census.pages_empty, 0);
        let page_bytes = blocks().map(|&(bytes, _)| bytes).sum::<usize>()
            + PAGE_HEADER_BYTES * model.pages.len();
        assert_eq!(census.page_bytes, page_bytes);
        assert_eq!(
            census.blocks_allocated,
            blocks().filter(|&&(_, used)| used).count()
        );
        assert_eq!(
            census.blocks_free,
            blocks().filter(|&&(_, used)| !used).count()
        );
        self.page_starts
            .retain(|number, _| model.pages.iter().any(|page| page.number == *number));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    /// After every step the list is as the model says; after everything is freed no page remains.
    #[test]
    fn behaves_as_the_model(actions in prop::collection::vec(actions(), 1..200)) {
        let mut pair = Pair::default();
        for action in &actions {
            pair.step(action);
        }
        while !pair.live.is_empty() {
            pair.release(pair.live.len() / 2);
            pair.compare();
        }
        prop_assert_eq!(pair.list.page_count(), 0);
    }

    /// Any number taken as a pointer is recognised, and is not followed (most would fault).
    #[test]
    fn random_pointers_are_recognised(addresses in prop::collection::vec(1..usize::MAX, 50)) {
        let list = PageList::new();
        let block = list.allocate(100).expect("memory");
        let page = block.addr().get() / 4096;
        for address in addresses.into_iter().filter(|address| address / 4096 != page) {
            let pointer = NonNull::new(std::ptr::without_provenance_mut(address)).expect("not 0");
            let expected = if address % 16 == 0 { FreeError::Foreign } else { FreeError::Misaligned };
            prop_assert_eq!(list.free(pointer), Err(expected));
            prop_assert_eq!(list.usable_bytes(pointer), Err(expected));
            prop_assert_eq!(list.reallocate(pointer, 5), Err(ReallocateError::Pointer(expected)));
        }
        prop_assert_eq!(list.check().map(|census| census.blocks_allocated), Ok(1));
    }
}

#[test]
fn every_size_from_1_to_4096_is_served() {
    let list = PageList::new();
    for size in 1..=REQUEST_BYTES_MAX {
        let block = list.allocate(size).expect("memory");
        fill(block, size, size as u8);
        assert!(holds(block, size, size as u8));
        let pages_bytes = list.check().expect("consistent").page_bytes;
        assert_eq!(
            pages_bytes,
            if size <= ORDINARY_BYTES_MAX {
                4096
            } else {
                8192
            },
            "{size}"
        );
        assert_eq!(list.free(block), Ok(()));
        assert_eq!(list.page_count(), 0);
    }
}

#[test]
fn more_than_4096_bytes_is_refused() {
    let list = PageList::new();
    assert_eq!(
        list.allocate(REQUEST_BYTES_MAX + 1),
        Err(AllocateError::TooLarge)
    );
    assert_eq!(list.allocate(usize::MAX), Err(AllocateError::TooLarge));
    assert_eq!(list.page_count(), 0);
    let block = list.allocate(10).expect("memory");
    fill(block, 10, 3);
    let refused = ReallocateError::Size(AllocateError::TooLarge);
    assert_eq!(list.reallocate(block, REQUEST_BYTES_MAX + 1), Err(refused));
    assert!(
        holds(block, 10, 3),
        "a refused reallocation changes nothing"
    );
    assert_eq!(list.free(block), Ok(()));
}

#[test]
fn blocks_of_no_bytes_are_told_apart_and_freed() {
    let list = PageList::new();
    let blocks: Vec<_> = (0..300)
        .map(|_| list.allocate(0).expect("memory"))
        .collect();
    let mut distinct = blocks.clone();
    distinct.sort();
    distinct.dedup();
    assert_eq!(distinct.len(), 300);
    for block in blocks {
        assert_eq!(list.free(block), Ok(()));
    }
    assert_eq!(list.page_count(), 0);
}

#[test]
fn a_hole_merges_with_both_neighbours() {
    let list = PageList::new();
    let blocks: Vec<_> = (0..5)
        .map(|_| list.allocate(100).expect("memory"))
        .collect();
    let free_blocks = || list.check().expect("consistent").blocks_free;
    assert_eq!(free_blocks(), 1, "the rest of the page");
    assert_eq!(list.free(blocks[1]), Ok(()));
    assert_eq!(free_blocks(), 2, "no free neighbour");
    assert_eq!(list.free(blocks[3]), Ok(()));
    assert_eq!(free_blocks(), 3, "no free neighbour");
    assert_eq!(list.free(blocks[2]), Ok(()));
    assert_eq!(free_blocks(), 2, "both neighbours were free");
    let merged = list.allocate(3 * 112 + 2 * 16).expect("memory");
    assert_eq!(
        merged, blocks[1],
        "the merged hole serves a request of exactly its size"
    );
    assert_eq!(
        list.free(blocks[2]),
        Err(FreeError::Interior),
        "its old start is no block now"
    );
}

#[test]
fn pointers_that_are_none_of_ours_are_recognised() {
    let list = PageList::new();
    let other = PageList::new();
    let on_the_stack = std::hint::black_box([0_u128; 4]);
    let first = list.allocate(64).expect("memory");
    let second = list.allocate(64).expect("memory");
    let elsewhere = other.allocate(64).expect("memory");
    let boxed = Box::new([0_u128; 4]);
    assert_eq!(list.free(elsewhere), Err(FreeError::Foreign));
    assert_eq!(
        list.free(NonNull::from(&on_the_stack).cast()),
        Err(FreeError::Foreign)
    );
    assert_eq!(
        list.free(NonNull::from(&*boxed).cast()),
        Err(FreeError::Foreign)
    );

    let header = first.map_addr(|address| (address.get() - 16).try_into().unwrap());
    let page = first.map_addr(|address| (address.get() - 32).try_into().unwrap());
    assert_eq!(
        list.free(header),
        Err(FreeError::Interior),
        "a block's header"
    );
    assert_eq!(
        list.free(page),
        Err(FreeError::Interior),
        "the page's header"
    );

    assert_eq!(list.free(first), Ok(()));
    assert_eq!(list.free(first), Err(FreeError::AlreadyFreed));
    assert_eq!(
        list.reallocate(first, 10),
        Err(ReallocateError::Pointer(FreeError::AlreadyFreed))
    );
    assert_eq!(list.usable_bytes(first), Err(FreeError::AlreadyFreed));
    assert_eq!(list.free(second), Ok(()));
    assert_eq!(list.page_count(), 0);
    assert_eq!(
        list.free(second),
        Err(FreeError::Foreign),
        "its page was given back"
    );
    assert_eq!(other.free(elsewhere), Ok(()));
}

/// A program can write what looks like a header into its block; a walk never comes upon it.
#[test]
fn a_forged_header_inside_a_block_is_not_believed() {
    let list = PageList::new();
    let block = list.allocate(256).expect("memory");
    // SAFETY: within the block.
    let forged = unsafe {
        block.add(32).cast::<[usize; 2]>().write([64, 1]);
        block.add(48)
    };
    assert_eq!(list.free(forged), Err(FreeError::Interior));
    assert_eq!(list.free(block), Ok(()));
}

/// What check() is worth: a heap made inconsistent is found to be so.
#[test]
fn check_finds_an_overwritten_header_and_unmerged_blocks() {
    let list = PageList::new();
    let first = list.allocate(64).expect("memory");
    let second = list.allocate(64).expect("memory");
    // SAFETY: the header in front of a block, which this test destroys on purpose.
    let header = unsafe { second.sub(16) }.cast::<[usize; 2]>();
    // SAFETY: as above; mapped memory of the list, which no other thread uses.
    let (sound, address) = unsafe { (header.read(), header.addr().get()) };
    for garbage in [
        [0, 1],
        [24, 1],
        [usize::MAX & !15, 1],
        [sound[0], 2],
        [4096, 1],
    ] {
        // SAFETY: as above.
        unsafe { header.write(garbage) };
        match list.check() {
            Err(Inconsistency::Overwritten(at)) => assert_eq!(at.address, address),
            other => panic!("{garbage:x?} was taken for a header: {other:?}"),
        }
    }
    // SAFETY: as above: the block is made to look free beside the free rest of the page.
    unsafe { header.write([sound[0], 0]) };
    assert!(matches!(list.check(), Err(Inconsistency::NotMerged(_))));
    // SAFETY: as above.
    unsafe { header.write(sound) };
    assert_eq!((list.free(first), list.free(second)), (Ok(()), Ok(())));
    assert_eq!(list.page_count(), 0);
}

#[test]
fn a_block_that_shrinks_gives_room_and_one_that_grows_stays_where_it_can() {
    let list = PageList::new();
    let block = list.allocate(1000).expect("memory");
    let wall = list.allocate(16).expect("memory");
    fill(block, 1000, 9);
    assert_eq!(list.reallocate(block, 100), Ok(block), "shrinks in place");
    let filler = list.allocate(500).expect("memory");
    assert!(
        filler > block && filler < wall,
        "what it gave up serves another"
    );
    assert_eq!(list.free(filler), Ok(()));
    assert_eq!(
        list.reallocate(block, 1000),
        Ok(block),
        "grows back into the free neighbour"
    );
    assert!(holds(block, 100, 9));
    let moved = list.reallocate(block, 1100).expect("memory");
    assert_ne!(moved, block, "the wall is in the way");
    assert!(holds(moved, 100, 9));
    assert_eq!((list.free(moved), list.free(wall)), (Ok(()), Ok(())));
    assert_eq!(list.page_count(), 0);
}
