//! Formats that are no lines of text: each is told by its first bytes and reads the rest itself.

use super::ReadOptions;
use crate::error::Result;
use crate::trace::input::Lines;
use crate::trace::stream::{Ending, EventSink};

/// A format of bytes.
pub(super) struct ByteFormat {
    /// Whether a file is of this format, by its first bytes: [`HEAD_BYTES`], or all there are.
    pub(super) recognises: fn(&[u8]) -> bool,
    /// Reads it from its first byte on. The origin's compression and hash are filled in later.
    pub(super) read: fn(&mut Lines, &ReadOptions, &mut dyn EventSink) -> Result<Ending>,
}

/// How much of a file is looked at to tell its format.
pub(super) const HEAD_BYTES: usize = 16 * 1024;

/// All of them; the first that recognises a file reads it.
const FORMATS: &[ByteFormat] = &[];

/// The format of a file that begins with `head`, if it is none of lines.
pub(super) fn of(head: &[u8]) -> Option<&'static ByteFormat> {
    FORMATS.iter().find(|format| (format.recognises)(head))
}
