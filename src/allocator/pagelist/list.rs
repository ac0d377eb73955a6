//! The list of pages: where a request is served, and where a pointer is looked up. One thread at a
//! time; the lock is around it.

use core::ptr::NonNull;

use super::super::{FreeError, os};
use super::page::{ALIGNMENT, PAGE_HEADER_BYTES, Page, block_bytes_for};
use super::{AllocateError, PAGE_BYTES, REQUEST_BYTES_MAX, ReallocateError};

/// The pages, newest first.
pub(super) struct Pages {
    first: Option<Page>,
}

// SAFETY: the pages belong to this list alone and to no thread.
unsafe impl Send for Pages {}

impl Pages {
    /// No page.
    pub(super) const fn new() -> Self {
        Self { first: None }
    }

    /// Serves a request of up to [`REQUEST_BYTES_MAX`] bytes from the first page that has room,
    /// otherwise from a new one.
    pub(super) fn allocate(&mut self, size: usize) -> Result<NonNull<u8>, AllocateError> {
        if size > REQUEST_BYTES_MAX {
            return Err(AllocateError::TooLarge);
        }
        let block_bytes = block_bytes_for(size);
        let mut page = self.first;
        while let Some(this) = page {
            if let Some(payload) = this.allocate(block_bytes) {
                return Ok(payload);
            }
            page = this.next();
        }
        self.allocate_new_page(block_bytes)
            .and_then(|page| page.allocate(block_bytes))
            .ok_or(AllocateError::OutOfMemory)
    }

    /// Frees a block; gives its page back if that was the last one in it.
    pub(super) fn free(&mut self, payload: NonNull<u8>) -> Result<(), FreeError> {
        let address = payload.addr().get();
        let (previous, page) = self.find(address)?;
        page.free(address)?;
        if page.is_empty() {
            self.release(previous, page);
        }
        Ok(())
    }

    /// Changes a block's size, in place where there is room, otherwise by moving it.
    pub(super) fn reallocate(
        &mut self,
        payload: NonNull<u8>,
        size: usize,
    ) -> Result<NonNull<u8>, ReallocateError> {
        let address = payload.addr().get();
        let (_, page) = self.find(address)?;
        let usable_bytes = page.usable_bytes(address)?;
        if size > REQUEST_BYTES_MAX {
            return Err(AllocateError::TooLarge.into());
        }
        if page.resize(address, block_bytes_for(size))? {
            return Ok(payload);
        }
        let moved = self.allocate(size)?;
        // SAFETY: both are allocated blocks of ours and therefore apart; each has this many bytes
        // (it did not fit in place, so the new one is the longer).
        unsafe { moved.copy_from_nonoverlapping(payload, usable_bytes.min(size)) };
        self.free(payload)?;
        Ok(moved)
    }

    /// Bytes usable of an allocated block.
    pub(super) fn usable_bytes(&self, payload: NonNull<u8>) -> Result<usize, FreeError> {
        let address = payload.addr().get();
        let (_, page) = self.find(address)?;
        page.usable_bytes(address)
    }

    /// The pages, newest first.
    pub(super) fn iter(&self) -> impl Iterator<Item = Page> {
        core::iter::successors(self.first, |page| page.next())
    }

    /// Gives every page back, whatever is in it.
    pub(super) fn release_all(&mut self) {
        while let Some(page) = self.first.take() {
            self.first = page.next();
            // SAFETY: the page has left the list, and the list is going.
            unsafe { os::unmap(page.memory(), page.bytes()) };
        }
    }

    /// Gets one page from the system and puts it first in the list.
    ///
    /// A page is 4096 bytes. A request that leaves no room in one for the page's and the block's
    /// headers (more than 4064 bytes) gets a page of twice that length: the seed promises requests
    /// up to 4096 bytes, and a block does not cross pages.
    fn allocate_new_page(&mut self, block_bytes: usize) -> Option<Page> {
        let bytes = (PAGE_HEADER_BYTES + block_bytes).next_multiple_of(PAGE_BYTES);
        let memory = os::map(bytes)?;
        // SAFETY: fresh from the system: ours alone, zeroed, page-aligned, `bytes` long.
        let page = unsafe { Page::format(memory, bytes) };
        page.set_next(self.first);
        self.first = Some(page);
        Some(page)
    }

    /// Takes an empty page out of the list and gives it back to the system. If the system refuses
    /// (it would have to split a mapping and the process has as many as it may), the page stays in
    /// the list, free, and serves later requests.
    fn release(&mut self, previous: Option<Page>, page: Page) {
        let next = page.next();
        let bytes = page.bytes();
        // SAFETY: the page is empty, and if the call succeeds it is unlinked before the lock opens;
        // nothing reads it in between.
        if unsafe { os::unmap(page.memory(), bytes) } {
            match previous {
                Some(previous) => previous.set_next(next),
                None => self.first = next,
            }
        }
    }

    /// The page that `address` lies in, and the page before it in the list. Pages are compared, the
    /// address is not followed: it may be anything.
    fn find(&self, address: usize) -> Result<(Option<Page>, Page), FreeError> {
        if !address.is_multiple_of(ALIGNMENT) {
            return Err(FreeError::Misaligned);
        }
        let mut previous = None;
        let mut page = self.first;
        while let Some(this) = page {
            if this.contains(address) {
                return Ok((previous, this));
            }
            previous = page;
            page = this.next();
        }
        Err(FreeError::Foreign)
    }
}
