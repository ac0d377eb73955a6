//! The heap checker: walks everything that the allocator knows and holds each part against the others.
//! For tests, and for programs that suspect their memory has been written over.
//!
//! All locks are held meanwhile, so threads that leave their magazines wait; those that do not, go on, so
//! what is counted of blocks in use is exact only while nobody allocates or frees.

use core::fmt;
use core::ptr::NonNull;
use core::sync::atomic::Ordering::Relaxed;

use super::super::os::OS_PAGE_BYTES;
use super::chunk::Chunk;
use super::extent::{self, Extent, State};
use super::pages::{
    self, CHUNK_BYTES, PAGES_PER_CHUNK, PAGES_PER_REGION, PLACES_PER_CHUNK, REGION_BYTES, Region,
};
use super::size_class::{CLASSES, LARGE, PLACE_BYTES, SIZES, are_few, blocks_in, state_shift};
use super::slice::Slice;
use super::state_byte::{allocated, at_home, of_none, on_its_way};
use super::{fork, large, shelf};

/// What the checker counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Regions that are cut into slices of small blocks, in bytes.
    pub chunks_bytes: usize,
    /// Small blocks in use, and their bytes.
    pub small: usize,
    /// Bytes of those.
    pub small_bytes: usize,
    /// Small blocks that are free: at home in their slices, in magazines, or on offer.
    pub small_free: usize,
    /// Medium and large blocks in use.
    pub large: usize,
    /// Bytes of those.
    pub large_bytes: usize,
}

/// A contradiction in what the allocator knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What does not hold.
    pub what: &'static str,
    /// Where: an address, or a size class.
    pub place: usize,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} at {:#x}", self.what, self.place)
    }
}

impl core::error::Error for Fault {}

fn ensure(holds: bool, what: &'static str, place: usize) -> Result<(), Fault> {
    if holds {
        Ok(())
    } else {
        Err(Fault { what, place })
    }
}

/// Checks the whole heap.
///
/// # Errors
/// The first contradiction.
pub fn check() -> Result<Census, Fault> {
    fork::holding_all_locks(|| {
        let mut walk = Walk::new();
        let fault = walk.everything().err();
        match fault {
            None => Ok(walk.census),
            Some(fault) => Err(fault),
        }
    })
}

/// The same for those who only count.
pub(super) fn census() -> Census {
    fork::holding_all_locks(|| {
        let mut walk = Walk::new();
        // What was counted up to a fault is as good as an answer can be.
        let _ = walk.everything();
        walk.census
    })
}

/// What was seen so far.
struct Walk {
    census: Census,
    /// OS pages in use, and free ones.
    used_pages: usize,
    free_pages: usize,
    dirty_pages: usize,
    free_extents: usize,
    chunks: usize,
    /// Where the extent before this one ends, and if it is free: whether it is dirty.
    last_end: usize,
    last_free: Option<bool>,
    slices: [usize; CLASSES],
}

/// Whether this place of a region belongs to a slice, if its entry is one of small blocks.
fn is_place_of_slice_if_small(place: usize, region: &Region) -> bool {
    if pages::entry_at(place).is_none_or(|entry| entry.class() >= LARGE) {
        return true;
    }
    let chunk_start = place / CHUNK_BYTES * CHUNK_BYTES;
    let extent = extent::at(chunk_start / OS_PAGE_BYTES);
    // SAFETY: records of an extent and of a chunk, which stay, under the locks that guard them.
    unsafe {
        let is_chunk = extent.is_some_and(|extent| extent.as_ref().state == State::Chunk);
        let chunk = region.chunks[place % REGION_BYTES / CHUNK_BYTES].as_ref();
        let bit = 1 << (place % CHUNK_BYTES / PLACE_BYTES);
        is_chunk && chunk.is_some_and(|chunk| (chunk.free | !chunk.usable) & bit == 0)
    }
}

/// Whether a medium block starts in this place whose class and state are those of the place's entry, if that is one of
/// medium blocks.
fn is_block_of_medium_entry(place: usize) -> bool {
    let Some(entry) = pages::entry_at(place).filter(|entry| entry.class() > LARGE) else {
        return true;
    };
    let mut pages = (place..place + PLACE_BYTES).step_by(OS_PAGE_BYTES);
    pages.any(|page| {
        extent::at(page / OS_PAGE_BYTES).is_some_and(|entered| {
            // SAFETY: the record of an extent, under the lock that guards it.
            let (extent, state) = unsafe { (entered.as_ref(), extent::state_of(entered)) };
            extent.first * OS_PAGE_BYTES == page
                && extent.state == State::Block
                && extent.medium_class() == Some(entry.class())
                && entry.state_of(page) == state.as_ptr()
        })
    })
}

impl Walk {
    fn new() -> Self {
        Self {
            census: Census::default(),
            used_pages: 0,
            free_pages: 0,
            dirty_pages: 0,
            free_extents: 0,
            chunks: 0,
            last_end: 0,
            last_free: None,
            slices: [0; CLASSES],
        }
    }

    fn everything(&mut self) -> Result<(), Fault> {
        pages::for_each_region(|address, region| self.region(address, region))?;
        // SAFETY: all locks are held.
        let store = unsafe { large::held() };
        let (mapped, used, dirty) = store.bytes();
        let pages = OS_PAGE_BYTES;
        ensure(used == self.used_pages * pages, "pages in use", used)?;
        ensure(dirty == self.dirty_pages * pages, "dirty pages", dirty)?;
        let tiled = (self.used_pages + self.free_pages) * pages;
        ensure(
            mapped == tiled,
            "extents do not tile what is mapped",
            mapped,
        )?;
        ensure(
            store.count_free() == Some(self.free_extents),
            "free extents and bins",
            self.free_extents,
        )?;
        // SAFETY: all locks are held.
        let chunks = unsafe { super::chunk::count_held() };
        ensure(chunks == self.chunks, "chunks", chunks)?;
        for class in 1..CLASSES {
            // SAFETY: all locks are held.
            let is_sound = unsafe { shelf::is_sound(class, self.slices[class]) };
            ensure(is_sound, "lists of slices of the class", class)?;
        }
        self.census.chunks_bytes = self.chunks * CHUNK_BYTES;
        Ok(())
    }

    fn region(&mut self, address: usize, region: &Region) -> Result<(), Fault> {
        let first_page = address / OS_PAGE_BYTES;
        for index in 0..PAGES_PER_REGION {
            if let Some(extent) = NonNull::new(region.extents[index].load(Relaxed)) {
                // SAFETY: records stay, and the lock that guards them is held.
                self.extent(first_page + index, extent, unsafe { extent.as_ref() })?;
            }
        }
        for place in (address..address + REGION_BYTES).step_by(PLACE_BYTES) {
            ensure(
                pages::window_agrees(place),
                "the window and the tree",
                place,
            )?;
            ensure(
                is_block_of_medium_entry(place),
                "the entry of no block",
                place,
            )?;
            ensure(
                is_place_of_slice_if_small(place, region),
                "the class of no slice",
                place,
            )?;
        }
        for (index, chunk) in region.chunks.iter().enumerate() {
            let extent = extent::at(first_page + index * PAGES_PER_CHUNK);
            // SAFETY: as above.
            let state = extent.map(|extent| unsafe { extent.as_ref() }.state);
            let is_chunk = state == Some(State::Chunk);
            if is_chunk && !chunk.is_null() {
                self.chunks += 1;
                // SAFETY: chunks stay, and the lock that guards them is held.
                self.chunk(address + index * CHUNK_BYTES, unsafe { &**chunk })?;
            }
        }
        Ok(())
    }

    fn extent(
        &mut self,
        page: usize,
        entered: NonNull<Extent>,
        extent: &Extent,
    ) -> Result<(), Fault> {
        let address = page * OS_PAGE_BYTES;
        if extent.first != page {
            return ensure(
                extent.end == page + 1,
                "an extent is entered where it neither begins nor ends",
                address,
            );
        }
        ensure(
            extent.end > page && extent::at(extent.end - 1) == Some(entered),
            "an extent is not entered at its end",
            address,
        )?;
        ensure(page >= self.last_end, "extents overlap", address)?;
        let is_free = extent.state == State::Free;
        let kind = is_free.then_some(extent.is_dirty);
        ensure(
            page > self.last_end || kind.is_none() || kind != self.last_free,
            "free extents side by side",
            address,
        )?;
        (self.last_end, self.last_free) = (extent.end, kind);
        if is_free {
            self.free_extents += 1;
            self.free_pages += extent.pages();
            self.dirty_pages += if extent.is_dirty { extent.pages() } else { 0 };
        } else {
            self.used_pages += extent.pages();
        }
        if extent.state == State::Block {
            let class = extent.medium_class().unwrap_or(LARGE);
            let entry = pages::entry_at(address).map(|entry| entry.class());
            ensure(entry == Some(class), "a block's class", address)?;
            ensure(extent.has_sound_states(), "a block's states", address)?;
        }
        if extent.state == State::Block && extent.is_allocated() {
            self.census.large += 1;
            self.census.large_bytes += extent.bytes();
        }
        Ok(())
    }

    fn chunk(&mut self, address: usize, chunk: &Chunk) -> Result<(), Fault> {
        ensure(
            chunk.start.addr().get() == address,
            "a chunk's start",
            address,
        )?;
        ensure(chunk.free & !chunk.usable == 0, "a guard is free", address)?;
        ensure(
            chunk.dirty & !chunk.free == 0,
            "a slice in use is idle",
            address,
        )?;
        for index in 0..PLACES_PER_CHUNK {
            let (start, bit) = (address + index * PLACE_BYTES, 1_u32 << index);
            let entry = pages::entry_at(start);
            if (chunk.free | !chunk.usable) & bit != 0 {
                ensure(entry.is_none(), "a slice without a class has one", start)?;
                continue;
            }
            let first = usize::from(chunk.firsts[index]);
            let slice = &chunk.slices[first];
            let slice_start = address + first * PLACE_BYTES;
            let is_known = entry.is_some_and(|entry| {
                entry.class() == slice.class()
                    && entry.state_of(slice_start) == slice.states.as_ptr()
            });
            let is_within = (first..first + slice.places()).contains(&index);
            ensure(
                is_known && is_within && slice.start.addr().get() == slice_start,
                "a slice's entry",
                start,
            )?;
            if index == first {
                self.slice(start, slice)?;
            }
        }
        Ok(())
    }

    fn slice(&mut self, start: usize, slice: &Slice) -> Result<(), Fault> {
        let (class, size) = (slice.class(), SIZES[slice.class()]);
        ensure(
            slice.blocks() == blocks_in(class, slice.places()) && slice.carved() <= slice.blocks(),
            "too many blocks",
            start,
        )?;
        ensure(
            slice.free() <= slice.carved(),
            "more free blocks than blocks",
            start,
        )?;
        self.slices[class] += 1;
        let (mut next, mut home_count, mut used_count) = (0, 0, 0);
        for place in 0..slice.states_count() {
            // SAFETY: the slice has so many state bytes. Whoever has a block may change its byte now.
            let state = unsafe { slice.states.add(place).as_ptr().read_volatile() };
            let is_start = next < slice.carved() && place == (next * size) >> state_shift(class);
            // Of a block that has not been anywhere yet as well.
            let is_of_none = state == of_none(class, place);
            if !is_start {
                ensure(is_of_none, "a state where no block starts", start + place)?;
                continue;
            }
            let block = start + next * size;
            let (is_allocated, is_home) = (state == allocated(block), state == at_home(block));
            ensure(
                is_allocated || is_home || is_of_none || state == on_its_way(block),
                "a block's state",
                block,
            )?;
            ensure(
                !is_home || place >= slice.first_free(),
                "a free block before the first",
                block,
            )?;
            let has_bit = are_few(class) && slice.home & (1 << next) != 0;
            ensure(
                !are_few(class) || is_home == has_bit,
                "a free block's bit",
                block,
            )?;
            home_count += usize::from(is_home);
            used_count += usize::from(is_allocated);
            next += 1;
        }
        ensure(home_count == slice.free(), "free blocks of a slice", start)?;
        self.census.small += used_count;
        self.census.small_bytes += used_count * size;
        self.census.small_free += slice.carved() - used_count;
        Ok(())
    }
}
