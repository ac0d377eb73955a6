//! Writes a trace as text, in each of the grammars that can be read.
//!
//! Blocks are named by slots, and the lowest free slot is taken first: names stay short, and the
//! text compresses far better than with the addresses of the recorded run. What a grammar cannot
//! tell is counted and handed back, so that the caller can say so.

#![forbid(unsafe_code)]

mod android;
mod native;
mod rep;
mod slots;

use std::io::{self, Write};
use std::path::Path;

pub use slots::Losses;

use super::{Operation, Trace};
use crate::error::Result;
use crate::files::{PLAIN_MODE, replace};

/// A grammar to write.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum TextFormat {
    /// Logalloc, munged: the native one.
    Native,
    /// Android `memory_replay`.
    Android,
    /// CMU `.rep`.
    Rep,
}

impl TextFormat {
    /// Whether the grammar has a line for this operation.
    fn tells(self, operation: &Operation) -> bool {
        match operation {
            Operation::FreeUnseen | Operation::ThreadStart => false,
            Operation::ThreadEnd => self == Self::Android,
            Operation::Mark => self == Self::Native,
            Operation::FailedAllocation => self != Self::Rep,
            _ => true,
        }
    }

    /// How many events of a trace a text in this grammar holds.
    pub fn events_told(self, trace: &Trace) -> u64 {
        let events = trace.events().iter();
        events.filter(|event| self.tells(&event.operation)).count() as u64
    }
}

/// Writes a trace to a file, compressed if its name ends in `.zst` or `.gz`. The file is written
/// beside its destination and renamed, so that nobody sees half of it.
///
/// # Errors
/// The folder or the file cannot be written.
pub fn write(trace: &Trace, path: &Path, format: TextFormat) -> Result<Losses> {
    /// Traces are written once and read often; bundled ones lie in the repository for good.
    const ZSTD_LEVEL: i32 = 19;
    let extension = path.extension().and_then(|extension| extension.to_str());
    let mut losses = Losses::default();
    replace(path, PLAIN_MODE, |mut file| {
        losses = match extension {
            Some("zst") => {
                let mut encoder = zstd::Encoder::new(&mut file, ZSTD_LEVEL)?;
                let losses = write_to(trace, &mut encoder, format)?;
                encoder.finish()?;
                losses
            }
            Some("gz") => {
                let level = flate2::Compression::best();
                let mut encoder = flate2::write::GzEncoder::new(&mut file, level);
                let losses = write_to(trace, &mut encoder, format)?;
                encoder.finish()?;
                losses
            }
            _ => write_to(trace, &mut file, format)?,
        };
        Ok(())
    })?;
    Ok(losses)
}

/// Writes a trace as text.
///
/// # Errors
/// Those of `out`.
pub fn write_to(trace: &Trace, mut out: impl Write, format: TextFormat) -> io::Result<Losses> {
    match format {
        TextFormat::Native => native::write(trace, &mut out),
        TextFormat::Android => android::write(trace, &mut out),
        TextFormat::Rep => rep::write(trace, &mut out),
    }
}
