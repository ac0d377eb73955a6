//! Why a pointer handed to `free` was recognised as none that may be freed.

use core::fmt;

/// A pointer given to `free` that is not an allocated block of the allocator. Nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FreeError {
    /// Not a multiple of 16, as every block is.
    Misaligned,
    /// In no page of the allocator: another allocator's, the stack's, or given back long ago.
    Foreign,
    /// Inside a block or a header, not at a block's start.
    Interior,
    /// In a block that is free already.
    AlreadyFreed,
    /// Of an allocated block that has fewer bytes than its owner says.
    TooSmall,
}

impl FreeError {
    /// The reason in words, for a message that names the pointer.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Misaligned => "the pointer is not aligned to 16 bytes",
            Self::Foreign => "the pointer is not of this allocator, or its page was given back",
            Self::Interior => "the pointer lies inside a block, not at its start",
            Self::AlreadyFreed => "the block was freed already",
            Self::TooSmall => "the block has fewer bytes than the size given",
        }
    }
}

impl fmt::Display for FreeError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.reason())
    }
}

impl core::error::Error for FreeError {}
