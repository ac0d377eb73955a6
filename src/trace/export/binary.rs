//! The native binary format as one of the formats to write.

use super::super::binary::{BinaryWriter, ZSTD_LEVEL};
use super::super::stream::{Batch, Ending};
use super::Writer;
use super::slots::Losses;
use crate::error::Result;

/// Writes the binary format, which loses nothing.
pub(super) struct Binary {
    writer: BinaryWriter,
    losses: Losses,
}

impl Binary {
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            writer: BinaryWriter::new(ZSTD_LEVEL)?,
            losses: Losses::default(),
        })
    }
}

impl Writer for Binary {
    fn take(&mut self, batch: &Batch, out: &mut Vec<u8>) -> Result<()> {
        self.writer.take(batch, out)
    }

    fn end(&mut self, ending: &Ending, out: &mut Vec<u8>) -> Result<()> {
        self.writer.finish(ending, out)
    }

    fn losses(&self) -> &Losses {
        &self.losses
    }
}
