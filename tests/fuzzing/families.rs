//! The groups of parsers, as they are fuzzed: each a check that takes any bytes, and seeds to begin with.

use super::disguise::{recorded, sealed};
use super::reading::{self, LENIENT, Outcome};
use super::{inputs, seeds, tools};

/// A group of parsers.
pub(crate) struct Family {
    /// Name of its fuzz target and of its dictionary.
    pub(crate) name: &'static str,
    /// Panics where a property does not hold.
    pub(crate) check: fn(&[u8]),
    /// Files by name.
    pub(crate) seeds: fn() -> Vec<(String, Vec<u8>)>,
}

/// All of them.
pub(crate) static FAMILIES: [Family; 6] = [
    Family {
        name: "native",
        check: native,
        seeds: seeds::native,
    },
    Family {
        name: "heaptrack",
        check: files,
        seeds: seeds::heaptrack,
    },
    Family {
        name: "lines",
        check: files,
        seeds: seeds::lines,
    },
    Family {
        name: "bytes",
        check: files,
        seeds: seeds::bytes,
    },
    Family {
        name: "tools",
        check: through_the_tools,
        seeds: seeds::tools,
    },
    Family {
        name: "inputs",
        check: inputs::check,
        seeds: seeds::inputs,
    },
];

/// How a file of the native family stands behind its first byte, which is one of these.
pub(crate) const AS_IT_IS: u8 = b'0';
/// A binary trace whose checksums are made right.
pub(crate) const SEALED: u8 = b'1';
/// A recorder's file, made of what differs from one to the next.
pub(crate) const RECORDED: u8 = b'2';

/// The native formats: text, binary, what the recorder writes.
fn native(data: &[u8]) {
    let Some((&kind, rest)) = data.split_first() else {
        return;
    };
    match kind {
        SEALED => {
            let file = sealed(rest);
            files(&file);
            chunks(&file);
        }
        RECORDED => files(&recorded(rest)),
        _ => files(rest),
    }
}

/// A file of any format, told by its content.
fn files(bytes: &[u8]) {
    let (strict, lenient) = reading::check(bytes);
    // Packing takes far longer than reading, so that not all are packed.
    if let Some(trace) = strict.whole()
        && hash(bytes).is_multiple_of(8)
    {
        tools::packing(bytes, trace);
    }
    if let Some(trace) = lenient.whole()
        && hash(bytes) % 8 < 2
    {
        tools::round_trips(trace);
    }
}

/// The same file entered chunk by chunk.
fn chunks(bytes: &[u8]) {
    use mymalloc::trace::binary::Chunks;
    use mymalloc::trace::stream::{Batch, EventSink};

    struct Counter(u64);

    impl EventSink for Counter {
        fn take(&mut self, batch: &Batch) -> mymalloc::error::Result<()> {
            self.0 += batch.events.len() as u64;
            Ok(())
        }
    }

    let name = std::path::Path::new(reading::NAME);
    let clear = |error: mymalloc::error::Error| {
        let message = error.to_string();
        assert!(message.starts_with("t: "), "{message}");
    };
    match Chunks::of_bytes(name, bytes, &reading::STRICT) {
        Ok(mut chunks) => {
            for chunk in 0..chunks.places().len().min(64) {
                let read = chunks.read(chunk..chunk + 1, &mut Counter(0));
                read.unwrap_or_else(clear);
            }
            chunks.ending().map(drop).unwrap_or_else(clear);
            assert_eq!(chunks.of_event(u64::MAX), None);
        }
        Err(error) => clear(error),
    }
}

/// A file of any format, and what the tools make of it: the first eight bytes choose how.
fn through_the_tools(data: &[u8]) {
    let Some((choice, bytes)) = data.split_first_chunk::<8>() else {
        return;
    };
    if let Outcome::Whole(trace) = reading::read(bytes, &LENIENT)
        && trace.events().len() <= 5000
    {
        tools::round_trips(&trace);
        tools::tools(&trace, u64::from_le_bytes(*choice));
    }
}

/// FNV-1a: the same bytes are treated the same.
fn hash(bytes: &[u8]) -> u64 {
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, step) >> 8
}
