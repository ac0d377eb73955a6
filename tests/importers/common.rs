//! What the tests of the importers share: reading content as a file, events in short, clear messages.

#![allow(dead_code, reason = "each test binary uses a part")]

use std::io::Write;

use mymalloc::trace::{
    AlignedFunction, BlockId, Event, Operation, ReadOptions, ThreadIndex, Trace, read,
};

pub(crate) const STRICT: ReadOptions = ReadOptions {
    lenient: false,
    process: None,
    progress: false,
    interrupted: None,
};

pub(crate) const LENIENT: ReadOptions = ReadOptions {
    lenient: true,
    ..STRICT
};

thread_local! {
    /// Of this thread's test; thousands of files are read one after the other.
    static FOLDER: tempfile::TempDir = tempfile::tempdir().unwrap();
}

/// Reads a file `t` of this content. A message comes back without the folder's name.
pub(crate) fn outcome(content: &[u8], options: &ReadOptions) -> Result<Trace, String> {
    FOLDER.with(|folder| {
        let path = folder.path().join("t");
        std::fs::write(&path, content).unwrap();
        read(&path, options).map_err(|error| {
            let prefix = format!("{}/", folder.path().display());
            error.to_string().replace(&prefix, "")
        })
    })
}

/// A message must be one short line that names the file.
pub(crate) fn assert_clear(message: &str) {
    assert!(message.starts_with("t:"), "{message:?}");
    assert!(!message.chars().any(char::is_control), "{message:?}");
    assert!(message.len() < 500, "{message:?}");
}

/// Whether all events of `part` are among those of `whole`, in order.
pub(crate) fn is_subsequence(part: &[Event], whole: &[Event]) -> bool {
    let mut rest = whole.iter();
    part.iter().all(|event| rest.any(|other| other == event))
}

pub(crate) fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn zstd(content: &[u8]) -> Vec<u8> {
    zstd::encode_all(content, 3).unwrap()
}

pub(crate) fn event(thread: u32, operation: Operation) -> Event {
    Event {
        thread: ThreadIndex(thread),
        operation,
    }
}

pub(crate) fn malloc(block: u32, size: u64) -> Operation {
    let block = BlockId(block);
    Operation::Malloc { block, size }
}

pub(crate) fn calloc(block: u32, count: u32, size: u64) -> Operation {
    let block = BlockId(block);
    Operation::Calloc { block, count, size }
}

pub(crate) fn aligned(
    function: AlignedFunction,
    block: u32,
    alignment_log2: u8,
    size: u64,
) -> Operation {
    Operation::Aligned {
        block: BlockId(block),
        alignment_log2,
        function,
        size,
    }
}

pub(crate) fn realloc(old: Option<u32>, block: u32, size: u64) -> Operation {
    Operation::Realloc {
        old: old.map(BlockId),
        block: BlockId(block),
        size,
    }
}

pub(crate) fn free(block: u32) -> Operation {
    Operation::Free {
        block: BlockId(block),
        sized: false,
    }
}

pub(crate) fn null() -> Operation {
    Operation::FreeNull
}

pub(crate) fn failed() -> Operation {
    Operation::FailedAllocation
}
