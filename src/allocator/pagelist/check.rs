//! Is the heap what it should be? Walks every block of every page; for tests and for the curious.

use core::fmt;

use super::list::Pages;
use super::page::{BLOCK_HEADER_BYTES, Overwritten};

/// What a consistent page list holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Pages in the list.
    pub pages: usize,
    /// Pages without an allocated block. Only a page whose return the system refused is one.
    pub pages_empty: usize,
    /// Bytes of all pages, headers included.
    pub page_bytes: usize,
    /// Blocks handed out.
    pub blocks_allocated: usize,
    /// Blocks that can be handed out.
    pub blocks_free: usize,
    /// Payload bytes of the blocks handed out: what was asked for, rounded up.
    pub usable_bytes: usize,
}

/// Where a page list is not what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inconsistency {
    /// A header that cannot be: the blocks do not tile their page.
    Overwritten(Overwritten),
    /// Two free blocks stand side by side in the page at this address.
    NotMerged(usize),
}

impl fmt::Display for Inconsistency {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Overwritten(at) => {
                write!(
                    formatter,
                    "the block header at {:#x} was overwritten",
                    at.address
                )
            }
            Self::NotMerged(page) => {
                write!(
                    formatter,
                    "two free blocks stand side by side in the page at {page:#x}"
                )
            }
        }
    }
}

impl core::error::Error for Inconsistency {}

pub(super) fn check(pages: &Pages) -> Result<Census, Inconsistency> {
    let mut census = Census::default();
    for page in pages.iter() {
        census.pages += 1;
        census.page_bytes += page.bytes();
        census.pages_empty += usize::from(page.is_empty());
        let mut blocks = page.blocks();
        let mut previous_is_free = false;
        while let Some(block) = blocks.next_checked() {
            let block = block.map_err(Inconsistency::Overwritten)?;
            if block.is_free() {
                if previous_is_free {
                    return Err(Inconsistency::NotMerged(page.memory().addr().get()));
                }
                census.blocks_free += 1;
            } else {
                census.blocks_allocated += 1;
                census.usable_bytes += block.bytes() - BLOCK_HEADER_BYTES;
            }
            previous_is_free = block.is_free();
        }
    }
    Ok(census)
}
