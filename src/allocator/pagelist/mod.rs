//! The page list: the allocator this project began with, and the teaching row of every chart.
//!
//! Memory is a singly linked list of pages of 4096 bytes, each got from the system by a system call
//! when it is needed. A page is cut into blocks; each has its length and a free flag in front of it.
//!
//! * `allocate` walks the pages from the first (the newest), takes the first free block that is long
//!   enough, and splits off what is left over; without one it gets a new page.
//! * `free` finds the page by walking the list and the block by walking the page, so any pointer at
//!   all is recognised for what it is; marks the block free, merges it with free neighbours on both
//!   sides, and gives the page back as soon as all of it is free.
//!
//! Deliberately absent: size classes, free lists, caches, hints of any kind. Both operations cost
//! time in proportion to the number of pages; what each later idea buys is measured against that.
//!
//! | file | one idea |
//! |---|---|
//! | `page` | a page and its blocks: first fit, split, merge |
//! | `list` | the list of pages: serve, look up, get and give back |
//! | `check` | is everything as it should be |
//! | `mappings` | requests that no page holds: beyond 4096 bytes, or aligned beyond 16 |
//! | `process` | the instance that C programs and [`PageListGlobal`] share; fork |
//! | [`c`] | the C functions as plain function values |
//!
//! ```
//! use mymalloc::allocator::{FreeError, pagelist::PageList};
//!
//! let list = PageList::new();
//! let block = list.allocate(100)?;
//! assert_eq!(list.page_count(), 1);
//! assert_eq!(list.free(block), Ok(()));
//! assert_eq!(list.page_count(), 0);
//! assert_eq!(list.free(block), Err(FreeError::Foreign));
//! # Ok::<(), mymalloc::allocator::pagelist::AllocateError>(())
//! ```

pub mod c;
mod check;
mod list;
mod mappings;
mod page;
mod process;

use core::fmt;
use core::ptr::NonNull;

use super::FreeError;
use super::lock::Lock;

pub use check::{Census, Inconsistency};
pub use page::Overwritten;
pub use process::{PageListGlobal, Process};

/// Length of a page of the list.
pub const PAGE_BYTES: usize = 4096;
/// The largest request that a page list serves.
pub const REQUEST_BYTES_MAX: usize = 4096;

/// A list of pages and the blocks in them. May be shared by threads; one lock guards it.
///
/// Dropping it gives all its pages back: the blocks end with it.
///
/// A program that writes outside its blocks may overwrite headers. Every method that comes upon
/// such a header, except [`check`](Self::check), ends the process with one line on standard error.
pub struct PageList {
    pages: Lock<list::Pages>,
}

impl PageList {
    /// An empty list. Costs nothing; the first page comes with the first request.
    pub const fn new() -> Self {
        Self {
            pages: Lock::new(list::Pages::new()),
        }
    }

    /// A block of `size` bytes at least, aligned to 16 bytes; its content is arbitrary. A request
    /// of 0 bytes gets the smallest block.
    ///
    /// # Errors
    /// Beyond [`REQUEST_BYTES_MAX`], or if the system has no page left.
    pub fn allocate(&self, size: usize) -> Result<NonNull<u8>, AllocateError> {
        self.pages.lock().allocate(size)
    }

    /// Ends a block. Reading or writing it afterwards is an error (and takes `unsafe` already).
    ///
    /// # Errors
    /// Any pointer that is not an allocated block of this list is recognised without being followed,
    /// and nothing is done.
    pub fn free(&self, block: NonNull<u8>) -> Result<(), FreeError> {
        self.pages.lock().free(block)
    }

    /// Changes a block's size; content is kept up to the smaller of both sizes. The block stays
    /// where it is if there is room, otherwise it moves and the old pointer is freed.
    ///
    /// # Errors
    /// As [`allocate`](Self::allocate) and [`free`](Self::free); the block is then as it was.
    pub fn reallocate(
        &self,
        block: NonNull<u8>,
        size: usize,
    ) -> Result<NonNull<u8>, ReallocateError> {
        self.pages.lock().reallocate(block, size)
    }

    /// Bytes that may be used of an allocated block: what was asked for, rounded up.
    ///
    /// # Errors
    /// As [`free`](Self::free).
    pub fn usable_bytes(&self, block: NonNull<u8>) -> Result<usize, FreeError> {
        self.pages.lock().usable_bytes(block)
    }

    /// Pages in the list now.
    pub fn page_count(&self) -> usize {
        self.pages.lock().iter().count()
    }

    /// Walks everything and counts it.
    ///
    /// # Errors
    /// The first place where the blocks do not tile their page, or two free blocks are neighbours.
    pub fn check(&self) -> Result<Census, Inconsistency> {
        check::check(&self.pages.lock())
    }
}

impl Default for PageList {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for PageList {
    fn drop(&mut self) {
        self.pages.get_mut().release_all();
    }
}

/// Why a request was not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllocateError {
    /// Beyond [`REQUEST_BYTES_MAX`].
    TooLarge,
    /// The system has no memory left for a new page.
    OutOfMemory,
}

impl fmt::Display for AllocateError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::TooLarge => "the page list serves at most 4096 bytes per block",
            Self::OutOfMemory => "the system has no memory left",
        })
    }
}

impl core::error::Error for AllocateError {}

/// Why a block's size was not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReallocateError {
    /// The pointer is no allocated block.
    Pointer(FreeError),
    /// The new size was not served; the block is as it was.
    Size(AllocateError),
}

impl From<FreeError> for ReallocateError {
    fn from(error: FreeError) -> Self {
        Self::Pointer(error)
    }
}

impl From<AllocateError> for ReallocateError {
    fn from(error: AllocateError) -> Self {
        Self::Size(error)
    }
}

impl fmt::Display for ReallocateError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pointer(error) => error.fmt(formatter),
            Self::Size(error) => error.fmt(formatter),
        }
    }
}

impl core::error::Error for ReallocateError {}
