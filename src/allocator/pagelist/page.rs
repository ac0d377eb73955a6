//! One page of the list, and the blocks in it.
//!
//! ```text
//!  0          16         32                      16 + b1    16 + b1 + 16
//! +----------+----------+-----------------------+----------+---------------- - -+
//! | next     | bytes b1 | payload of block 1    | bytes b2 | payload of block 2 |
//! | bytes    | state    | (handed to the user)  | state    |                    |
//! +----------+----------+-----------------------+----------+---------------- - -+
//!   page       header     16-byte aligned         header
//! ```
//!
//! Invariant: the blocks tile the page, from the page's own 16 bytes to its end.
//! Invariant: no two free blocks are neighbours; so an empty page is one free block.
//!
//! A program that writes beyond its block overwrites headers. Every walk therefore tests each header
//! before it follows it, and ends the process with one line rather than run on in garbage.

use core::ptr::NonNull;

use super::super::{FreeError, os};

/// Bytes in front of every payload: the block's length and its state.
pub(super) const BLOCK_HEADER_BYTES: usize = size_of::<BlockHeader>();
/// Bytes in front of the first block: the next page and this page's length.
pub(super) const PAGE_HEADER_BYTES: usize = size_of::<PageHeader>();
/// The smallest block: a header and 16 bytes of payload.
pub(super) const BLOCK_BYTES_MIN: usize = BLOCK_HEADER_BYTES + ALIGNMENT;
/// What every payload's address and every block's length is a multiple of.
pub(super) const ALIGNMENT: usize = 16;

const FREE: usize = 0;
const ALLOCATED: usize = 1;

#[repr(C)]
struct PageHeader {
    next: Option<Page>,
    bytes: usize,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct BlockHeader {
    /// Length of the block, header included.
    bytes: usize,
    state: usize,
}

/// The length of a block that serves a request of `size` bytes; `size` is at most a page.
pub(super) const fn block_bytes_for(size: usize) -> usize {
    let payload = if size == 0 {
        ALIGNMENT
    } else {
        size.next_multiple_of(ALIGNMENT)
    };
    BLOCK_HEADER_BYTES + payload
}

/// The address of a page that is mapped.
///
/// Every method relies on this: a `Page` is made by [`Page::format`] only, is dropped by its list
/// before the memory is given back, and the list is used by one thread at a time (its lock).
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub(super) struct Page(NonNull<PageHeader>);

/// A block in a page: its place, and its header as it was when it was reached.
#[derive(Clone, Copy)]
pub(super) struct Block {
    /// Bytes from the page's start to the block's header.
    offset: usize,
    header: BlockHeader,
}

impl Block {
    /// Length, header included.
    pub(super) fn bytes(self) -> usize {
        self.header.bytes
    }

    /// Whether it can be handed out.
    pub(super) fn is_free(self) -> bool {
        self.header.state == FREE
    }

    fn end(self) -> usize {
        self.offset + self.header.bytes
    }

    fn payload_offset(self) -> usize {
        self.offset + BLOCK_HEADER_BYTES
    }
}

/// A header that cannot be: the program wrote outside its blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overwritten {
    /// Where the header is.
    pub address: usize,
}

impl Page {
    /// Makes a page of fresh memory: no next page, one free block.
    ///
    /// # Safety
    /// `memory` is `bytes` writable bytes, 16-byte aligned, used by nobody else until the page is
    /// given back; `bytes` is a multiple of 16 and holds a header and a block at least.
    pub(super) unsafe fn format(memory: NonNull<u8>, bytes: usize) -> Self {
        let page = Self(memory.cast());
        // SAFETY: the caller gives us the memory, aligned and long enough.
        unsafe { page.0.write(PageHeader { next: None, bytes }) };
        page.set_header(PAGE_HEADER_BYTES, bytes - PAGE_HEADER_BYTES, FREE);
        page
    }

    /// The page's memory, to be given back.
    pub(super) fn memory(self) -> NonNull<u8> {
        self.0.cast()
    }

    /// Length of the page's mapping.
    pub(super) fn bytes(self) -> usize {
        // SAFETY: the page is mapped and formatted (see the type).
        unsafe { (*self.0.as_ptr()).bytes }
    }

    /// The page after this one in the list.
    pub(super) fn next(self) -> Option<Self> {
        // SAFETY: the page is mapped and formatted (see the type).
        unsafe { (*self.0.as_ptr()).next }
    }

    /// Links this page to the one that follows it.
    pub(super) fn set_next(self, next: Option<Self>) {
        // SAFETY: the page is mapped, and its list is used by one thread at a time (see the type).
        unsafe { (*self.0.as_ptr()).next = next }
    }

    /// Whether `address` lies in the page.
    pub(super) fn contains(self, address: usize) -> bool {
        address.wrapping_sub(self.0.addr().get()) < self.bytes()
    }

    /// Whether all of the page is free.
    pub(super) fn is_empty(self) -> bool {
        let first = self.header(PAGE_HEADER_BYTES);
        first.state == FREE && first.bytes == self.bytes() - PAGE_HEADER_BYTES
    }

    /// The blocks from the first to the last.
    pub(super) fn blocks(self) -> Blocks {
        Blocks {
            page: self,
            offset: PAGE_HEADER_BYTES,
            end: self.bytes(),
        }
    }

    /// First fit: takes the first free block of at least `bytes` and splits off what is left over.
    #[inline]
    pub(super) fn allocate(self, bytes: usize) -> Option<NonNull<u8>> {
        let block = self
            .blocks()
            .find(|block| block.is_free() && block.bytes() >= bytes)?;
        self.set_header(block.offset, block.bytes(), ALLOCATED);
        self.split(block, bytes);
        Some(self.payload(block))
    }

    /// Frees the allocated block whose payload starts at `address`, which is in this page, and
    /// merges it with free neighbours on both sides.
    pub(super) fn free(self, address: usize) -> Result<(), FreeError> {
        let found = self.locate(address)?;
        let start = match found.previous {
            Some(previous) if previous.is_free() => previous.offset,
            _ => found.block.offset,
        };
        let end = match self.block_at(found.block.end()) {
            Some(next) if next.is_free() => next.end(),
            _ => found.block.end(),
        };
        // The headers that are swallowed stay behind as bytes of a free payload: a later free of
        // the same pointer finds no block starting there.
        self.set_header(start, end - start, FREE);
        Ok(())
    }

    /// Makes the allocated block at `address` `bytes` long where it stands. False: there is no room
    /// behind it, and nothing has changed.
    pub(super) fn resize(self, address: usize, bytes: usize) -> Result<bool, FreeError> {
        let mut block = self.locate(address)?.block;
        if let Some(next) = self.block_at(block.end())
            && next.is_free()
            && block.bytes() + next.bytes() >= bytes
        {
            // Also when it shrinks: what is split off below is then merged with this free block.
            block.header.bytes += next.bytes();
            self.set_header(block.offset, block.bytes(), ALLOCATED);
        }
        if block.bytes() < bytes {
            return Ok(false);
        }
        self.split(block, bytes);
        Ok(true)
    }

    /// Bytes that the user may use of the allocated block at `address`.
    pub(super) fn usable_bytes(self, address: usize) -> Result<usize, FreeError> {
        self.locate(address)
            .map(|found| found.block.bytes() - BLOCK_HEADER_BYTES)
    }

    /// The allocated block whose payload starts at exactly `address`, and the block before it. Only
    /// headers that the walk from the page's start comes upon are read: what the user keeps in a
    /// block is never mistaken for one.
    fn locate(self, address: usize) -> Result<Found, FreeError> {
        let wanted = address - self.0.addr().get();
        let mut previous = None;
        for block in self.blocks() {
            if wanted < block.end() {
                return if block.is_free() && wanted >= block.payload_offset() {
                    Err(FreeError::AlreadyFreed)
                } else if wanted == block.payload_offset() {
                    Ok(Found { previous, block })
                } else {
                    Err(FreeError::Interior)
                };
            }
            previous = Some(block);
        }
        Err(FreeError::Interior)
    }

    /// Cuts an allocated block to `bytes`; the rest becomes a free block if it can be one. The
    /// block after it is not free.
    fn split(self, block: Block, bytes: usize) {
        debug_assert!(block.bytes() >= bytes, "a block is only ever cut");
        let rest = block.bytes() - bytes;
        if rest >= BLOCK_BYTES_MIN {
            self.set_header(block.offset, bytes, ALLOCATED);
            self.set_header(block.offset + bytes, rest, FREE);
        }
    }

    fn block_at(self, offset: usize) -> Option<Block> {
        Blocks {
            page: self,
            offset,
            end: self.bytes(),
        }
        .next()
    }

    fn payload(self, block: Block) -> NonNull<u8> {
        // SAFETY: a block lies inside its page (checked when it was reached).
        unsafe { self.0.cast::<u8>().add(block.payload_offset()) }
    }

    #[inline]
    fn header(self, offset: usize) -> BlockHeader {
        // SAFETY: `offset` is that of a block in this mapped page: 16-byte aligned, with room for a
        // header before the page's end.
        unsafe { self.0.cast::<u8>().add(offset).cast::<BlockHeader>().read() }
    }

    fn set_header(self, offset: usize, bytes: usize, state: usize) {
        debug_assert!(offset.is_multiple_of(ALIGNMENT) && offset + bytes <= self.bytes());
        // SAFETY: as in `header`; and the bytes are a header already, or of a block being split.
        unsafe {
            self.0
                .cast::<u8>()
                .add(offset)
                .cast::<BlockHeader>()
                .write(BlockHeader { bytes, state });
        }
    }
}

/// What [`Page::locate`] found.
struct Found {
    previous: Option<Block>,
    block: Block,
}

/// The walk over a page's blocks.
pub(super) struct Blocks {
    page: Page,
    offset: usize,
    end: usize,
}

impl Blocks {
    /// The next block, or the header that stops the walk.
    #[inline]
    pub(super) fn next_checked(&mut self) -> Option<Result<Block, Overwritten>> {
        let room = self.end - self.offset;
        if room == 0 {
            return None;
        }
        let header = self.page.header(self.offset);
        // Together these keep `offset` aligned and at least one smallest block before the end, so
        // that the next header lies in the page too.
        let rest = room.wrapping_sub(header.bytes);
        let sound = header.bytes >= BLOCK_BYTES_MIN
            && header.bytes.is_multiple_of(ALIGNMENT)
            && header.bytes <= room
            && (rest == 0 || rest >= BLOCK_BYTES_MIN)
            && header.state <= ALLOCATED;
        if !sound {
            let address = self.page.0.addr().get() + self.offset;
            return Some(Err(Overwritten { address }));
        }
        let block = Block {
            offset: self.offset,
            header,
        };
        self.offset = block.end();
        Some(Ok(block))
    }
}

impl Iterator for Blocks {
    type Item = Block;

    #[inline]
    fn next(&mut self) -> Option<Block> {
        self.next_checked()?
            .map_or_else(|overwritten| stop(overwritten), Some)
    }
}

#[cold]
#[inline(never)]
fn stop(overwritten: Overwritten) -> ! {
    os::abort(format_args!(
        "mymalloc: pagelist: the block header at {:#x} was overwritten: the program wrote outside \
         a block",
        overwritten.address
    ))
}
