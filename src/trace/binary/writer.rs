//! Writes the binary format as events come; memory holds one chunk.

use super::encode::Encoder;
use super::layout::*;
use super::section;
use super::seek::ChunkPlace;
use crate::error::{Error, Result};
use crate::trace::provenance::Provenance;
use crate::trace::stream::{Batch, Ending};
use crate::trace::{Event, Operation, SIZE_BYTES_MAX};

/// Turns events into the bytes of a file, which the caller writes. `export` puts it into a file.
pub struct BinaryWriter {
    encoder: Encoder,
    zstd: zstd::bulk::Compressor<'static>,
    /// Bytes of the file so far.
    at: u64,
    index: Vec<u8>,
    body: Vec<u8>,
    threads: u64,
}

impl BinaryWriter {
    /// A writer that compresses with zstd's `level`, such as [`super::ZSTD_LEVEL`].
    ///
    /// # Errors
    /// zstd does not know the level, or has no memory.
    pub fn new(level: i32) -> Result<Self> {
        let failed = |error| Error::Failed(format!("zstd, level {level}: {error}"));
        Ok(Self {
            encoder: Encoder::new(),
            zstd: zstd::bulk::Compressor::new(level).map_err(failed)?,
            at: 0,
            index: Vec::new(),
            body: Vec::new(),
            threads: 0,
        })
    }

    /// Takes the next events and appends to `out` what is complete.
    ///
    /// # Errors
    /// An event that no file may hold: a size or alignment above 2^47, or a thread whose number is not
    /// the next one.
    pub fn take(&mut self, batch: &Batch, out: &mut Vec<u8>) -> Result<()> {
        self.begin(out);
        for (index, event) in batch.events.iter().enumerate() {
            self.check(event)?;
            self.encoder.push(batch, index);
            if self.encoder.len() == CHUNK_EVENTS {
                self.end_chunk(out)?;
            }
        }
        Ok(())
    }

    /// Ends the chunk if it has as many events, so that tests have small ones.
    #[cfg(test)]
    pub(in crate::trace) fn cut(&mut self, events: usize, out: &mut Vec<u8>) -> Result<()> {
        match self.encoder.len() >= events {
            true => self.end_chunk(out),
            false => Ok(()),
        }
    }

    /// Appends the rest of the file.
    ///
    /// # Errors
    /// What is known of the trace takes more than 256 MiB, or has more than 2^22 names.
    pub fn finish(&mut self, ending: &Ending, out: &mut Vec<u8>) -> Result<()> {
        self.begin(out);
        if self.encoder.len() > 0 {
            self.end_chunk(out)?;
        }
        let json = Provenance::of(ending).to_json()?;
        let length = u32::try_from(json.len())
            .ok()
            .filter(|&length| length as usize <= META_BYTES_MAX)
            .ok_or_else(|| Error::Failed("names and notes of a trace exceed 256 MiB".into()))?;
        let mut meta = length.to_le_bytes().to_vec();
        meta.extend(self.zstd.compress(json.as_bytes()).map_err(failed)?);
        if meta.len() > BODY_BYTES_MAX || self.index.len() > BODY_BYTES_MAX {
            return Err(Error::Failed(
                "names and notes of a trace exceed 64 MiB, compressed".into(),
            ));
        }
        self.put(TAG_META, &meta, out);
        let index_at = self.at;
        let index = std::mem::take(&mut self.index);
        self.put(TAG_INDEX, &index, out);
        let mut end = index_at.to_le_bytes().to_vec();
        end.extend_from_slice(&self.encoder.total_events().to_le_bytes());
        end.extend_from_slice(&self.encoder.total_blocks().to_le_bytes());
        end.extend_from_slice(&0_u32.to_le_bytes());
        self.put(TAG_END, &end, out);
        Ok(())
    }

    fn begin(&mut self, out: &mut Vec<u8>) {
        if self.at == 0 {
            out.extend_from_slice(&MAGIC);
            out.extend_from_slice(&VERSION.to_le_bytes());
            out.extend_from_slice(&0_u32.to_le_bytes());
            self.at = FILE_HEADER_BYTES as u64;
        }
    }

    /// What a reader would refuse is not written.
    #[inline]
    fn check(&mut self, event: &Event) -> Result<()> {
        let alignment_log2 = match event.operation {
            Operation::Aligned { alignment_log2, .. } => alignment_log2,
            _ => 0,
        };
        let bytes = event.operation.requested_bytes();
        let number = self.encoder.total_events();
        if bytes > SIZE_BYTES_MAX || alignment_log2 >= ALIGNMENTS_PER_FUNCTION {
            return Err(Error::Failed(format!(
                "event {number} asks for {bytes} bytes aligned to 2^{alignment_log2}: a trace's file \
                 holds requests of at most 2^47 bytes, aligned to at most 2^47"
            )));
        }
        let thread = u64::from(event.thread.0);
        if thread >= self.threads {
            if thread > self.threads {
                return Err(Error::Failed(format!(
                    "event {number} is of thread {thread}: threads are numbered in the order of \
                     appearance"
                )));
            }
            self.threads = thread + 1;
        }
        Ok(())
    }

    fn end_chunk(&mut self, out: &mut Vec<u8>) -> Result<()> {
        let first_time_ns = self.encoder.first_time_ns();
        let columns = self.encoder.columns();
        let header = columns.header;
        let place = ChunkPlace {
            offset: self.at,
            first_event: header.first_event,
            first_block: header.first_block,
            live_blocks: header.live_before,
            first_time_ns,
        };
        place.put(&mut self.index);
        let mut body = std::mem::take(&mut self.body);
        body.clear();
        columns
            .compress(&mut self.zstd, &mut body)
            .map_err(failed)?;
        self.put(TAG_CHUNK, &body, out);
        self.body = body;
        Ok(())
    }

    fn put(&mut self, tag: [u8; 4], body: &[u8], out: &mut Vec<u8>) {
        let before = out.len();
        section::put(tag, body, out);
        self.at += (out.len() - before) as u64;
    }
}

fn failed(error: std::io::Error) -> Error {
    Error::Failed(format!("cannot compress a trace: {error}"))
}
