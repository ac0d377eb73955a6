//! DJ Delorie's malloc workload (`.wl`), which his `trace2wl` makes of a trace: what each thread
//! does, in a stream of its own, with marks that tell where one waits for another.
//!
//! An operation is a byte; numbers behind it have seven bits a byte, the highest first, and all but
//! the last byte have the top bit set. The file begins with
//!
//! ```text
//! 8 BLOCKS    9 MARKS    10 THREADS    then for each thread 11 OFFSET    1
//! ```
//! and a thread's stream, at its offset, has
//!
//! ```text
//! 2 BLOCK SIZE (malloc)     3 BLOCK SIZE (calloc)       4 NEW OLD SIZE (realloc)   5 BLOCK (free)
//! 6 MARK (sets it)          7 MARK (waits for it)       12 BLOCK ALIGNMENT SIZE (memalign)
//! 13 BLOCK SIZE (valloc)    14 BLOCK SIZE (pvalloc)     0 (nothing)                1 (the end)
//! ```
//! Block 0 is null. [`schedule`] puts the streams into one order.

mod schedule;
mod streams;

use super::records::{Naming, Records};
use super::{ReadOptions, records};
use crate::error::{Error, Result};
use crate::trace::Format;
use crate::trace::input::Lines;
use crate::trace::stream::{Ending, EventSink};

pub(super) use streams::recognises;

use streams::Workload;

/// The streams of a file are read side by side, so all of it is held in memory. This is some two
/// hundred million operations.
const FILE_BYTES_MAX: usize = 1 << 30;

/// Reads the file.
pub(super) fn read(
    lines: &mut Lines,
    options: &ReadOptions,
    sink: &mut dyn EventSink,
) -> Result<Ending> {
    let mut bytes = records::Bytes::new(lines);
    let naming = Naming {
        numbered: false,
        pointer: |block| format!("block {block}"),
    };
    let mut records = Records::new(bytes.path(), options, Format::DjWorkload, naming, sink);
    records.note(
        "this format tells the order of calls within a thread; between threads it is known only \
         where one waits for another, and here the threads take turns",
    );
    records.note(
        "of a calloc it tells the product only; memalign stands for posix_memalign as well, and \
         alignments of valloc and pvalloc were taken as 4096 bytes",
    );
    let file = whole(&mut bytes, &mut records)?;
    let path = bytes.path().to_owned();
    let workload = Workload::new(&file).map_err(|message| Error::file(&path, message))?;
    schedule::run(&workload, options, &mut records)?;
    records.finish()
}

/// All bytes of the file. A lenient reader takes what stands before the damage.
fn whole(bytes: &mut records::Bytes, records: &mut Records) -> Result<Vec<u8>> {
    let mut file = Vec::new();
    let mut piece = vec![0; 1 << 16];
    loop {
        match bytes.fill(&mut piece) {
            Ok(0) => return Ok(file),
            Ok(count) => file.extend_from_slice(&piece[..count]),
            Err(Error::File { message, .. }) if records.lenient && !file.is_empty() => {
                records.warn(message);
                return Ok(file);
            }
            Err(error) => return Err(error),
        }
        if file.len() > FILE_BYTES_MAX {
            let message = "the workload is larger than 1 GiB: the streams of its threads must be \
                           held in memory together";
            return Err(Error::file(bytes.path(), message));
        }
    }
}
