//! Damage of any kind is told with its place, and costs no more than what stands behind it.

use proptest::prelude::*;

use super::layout::*;
use super::*;
use crate::trace::builder::TraceBuilder;
use crate::trace::export::{OutputFormat, write_to};
use crate::trace::stream::{Batch, EventSink};
use crate::trace::testing::in_chunks;
use crate::trace::{Event, Origin, ReadOptions, ThreadIndex, Trace, read, testing};

const LENIENT: ReadOptions = ReadOptions {
    lenient: true,
    process: None,
    progress: false,
    interrupted: None,
};

fn outcome(bytes: &[u8], options: &ReadOptions) -> Result<Trace, String> {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    read(file.path(), options).map_err(|error| error.to_string())
}

/// Some of everything.
fn sample() -> Trace {
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    loop {
        let tree = testing::stamped_traces(60).new_tree(&mut runner).unwrap();
        let trace = proptest::strategy::ValueTree::current(&tree);
        let rich =
            trace.events().len() > 50 && trace.times_ns().is_some() && trace.sites().is_some();
        if rich
            && trace.events()[..10]
                .iter()
                .any(|event| event.operation.is_replayed())
        {
            return trace;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn chunks_of_any_length_hold_the_same(trace in testing::stamped_traces(300), chunk in 1_usize..40) {
        prop_assume!(trace.counts().operations() > 0);
        let back = outcome(&in_chunks(&trace, chunk), &ReadOptions::default()).unwrap();
        prop_assert_eq!(back.events(), trace.events());
        prop_assert_eq!(back.times_ns(), trace.times_ns());
        prop_assert_eq!(back.sites(), trace.sites());
    }

    /// Each chunk alone yields the events that the whole file has there.
    #[test]
    fn any_chunk_is_read_alone(trace in testing::stamped_traces(200), chunk in 1_usize..40) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), in_chunks(&trace, chunk)).unwrap();
        let mut chunks = Chunks::open(file.path(), &ReadOptions::default()).unwrap();
        prop_assert_eq!(chunks.events(), trace.events().len() as u64);
        prop_assert_eq!(chunks.of_event(chunks.events()), None);
        for event in (0..trace.events().len()).rev() {
            let number = chunks.of_event(event as u64).unwrap();
            let place = chunks.places()[number];
            let mut seen = Collected::default();
            chunks.read(number..number + 1, &mut seen).unwrap();
            let first = place.first_event as usize;
            prop_assert!((first..first + seen.0.len()).contains(&event));
            prop_assert_eq!(&seen.0[..], &trace.events()[first..first + seen.0.len()]);
            let before = &trace.events()[..first];
            let made = before.iter().filter(|e| e.operation.allocates().is_some()).count();
            let ended = before.iter().filter(|e| e.operation.releases().is_some()).count();
            prop_assert_eq!(place.first_block as usize, made);
            prop_assert_eq!(place.live_blocks as usize, made - ended);
            prop_assert_eq!(place.first_time_ns, trace.times_ns().map(|times| times[first]));
        }
    }
}

#[derive(Default)]
struct Collected(Vec<Event>);

impl EventSink for Collected {
    fn take(&mut self, batch: &Batch) -> crate::error::Result<()> {
        self.0.extend_from_slice(&batch.events);
        Ok(())
    }
}

/// Cut off anywhere, the whole chunks before are kept.
#[test]
fn truncated_at_every_byte() {
    let trace = sample();
    let bytes = in_chunks(&trace, 10);
    let ends = chunk_ends(&bytes);
    for length in MAGIC.len()..bytes.len() {
        let cut = &bytes[..length];
        let message = outcome(cut, &ReadOptions::default()).unwrap_err();
        assert!(message.contains("byte "), "{message}");
        let whole = 10 * ends.iter().filter(|&&end| end <= length).count();
        let whole = whole.min(trace.events().len());
        if whole == 0 {
            outcome(cut, &LENIENT).unwrap_err();
            continue;
        }
        assert!(
            message.contains(&format!("--lenient keeps the {whole} events")),
            "{message}"
        );
        let kept = outcome(cut, &LENIENT).unwrap();
        assert_eq!(kept.events(), &trace.events()[..whole]);
        assert!(!kept.origin().warnings.is_empty());
    }
}

/// Any bit turned over is seen, and the chunks before it are kept.
#[test]
fn every_byte_altered() {
    let trace = sample();
    let bytes = in_chunks(&trace, 10);
    let ends = chunk_ends(&bytes);
    for place in MAGIC.len()..bytes.len() {
        for bit in [0, 3, 7] {
            let mut altered = bytes.clone();
            altered[place] ^= 1 << bit;
            let message = outcome(&altered, &ReadOptions::default()).unwrap_err();
            assert!(
                message.contains("byte ") || message.contains("version "),
                "{message}"
            );
            let whole = 10 * ends.iter().filter(|&&end| end <= place).count();
            let whole = whole.min(trace.events().len());
            match outcome(&altered, &LENIENT) {
                Ok(kept) => assert_eq!(kept.events(), &trace.events()[..whole], "byte {place}"),
                Err(_) => assert_eq!(whole, 0, "byte {place}"),
            }
        }
    }
}

/// Where the chunks end.
fn chunk_ends(bytes: &[u8]) -> Vec<usize> {
    let mut at = FILE_HEADER_BYTES;
    let mut ends = Vec::new();
    while bytes[at..].starts_with(&TAG_CHUNK) {
        at += section::HEADER_BYTES + section::u32_at(bytes, at + 4) as usize;
        ends.push(at);
    }
    ends
}

/// Whatever a chunk claims under a right checksum, it is refused or yields events that can be.
#[test]
fn chunks_that_lie() {
    let trace = sample();
    let bytes = in_chunks(&trace, usize::MAX);
    let start = FILE_HEADER_BYTES + section::HEADER_BYTES;
    let end = chunk_ends(&bytes)[0];
    let body = &bytes[start..end];
    for place in 0..body.len() {
        for value in [
            0,
            1,
            0x7f,
            0x80,
            0xff,
            body[place] ^ 1,
            body[place].wrapping_add(1),
        ] {
            let mut body = body.to_vec();
            body[place] = value;
            let mut file = bytes[..FILE_HEADER_BYTES].to_vec();
            section::put(TAG_CHUNK, &body, &mut file);
            file.extend_from_slice(&bytes[end..]);
            for options in [ReadOptions::default(), LENIENT] {
                if let Err(message) = outcome(&file, &options) {
                    let placed =
                        message.contains("byte ") || message.contains("no allocator operation");
                    assert!(placed, "{message}");
                }
            }
        }
    }
}

/// A frame that would unpack to more than its column may hold is not unpacked.
#[test]
fn a_bomb_in_a_column() {
    let bomb = zstd::bulk::compress(&vec![0; 512 << 20], 3).unwrap();
    for claimed in [1000, 50, u32::MAX] {
        let mut body = Vec::new();
        body.extend_from_slice(&0_u64.to_le_bytes());
        for number in [0_u32, 20, 0, 1, KINDS as u32, claimed, bomb.len() as u32] {
            body.extend_from_slice(&number.to_le_bytes());
        }
        body.extend_from_slice(&bomb);
        let mut file = MAGIC.to_vec();
        file.extend_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0]);
        section::put(TAG_CHUNK, &body, &mut file);
        let message = outcome(&file, &LENIENT).unwrap_err();
        assert!(
            message.contains("chunk 0 at byte 16: one of its columns"),
            "{message}"
        );
    }
}

#[test]
fn what_no_reader_takes_is_not_written() {
    let write = |size, alignment_log2| {
        let mut builder = TraceBuilder::new(Origin::generated("test", Vec::new()));
        let function = crate::trace::AlignedFunction::Memalign;
        builder.aligned(ThreadIndex(0), function, alignment_log2, size);
        write_to(&builder.finish(), std::io::sink(), OutputFormat::Binary)
    };
    write(1 << 47, 47).unwrap();
    let error = write((1 << 47) + 1, 0).unwrap_err().to_string();
    assert!(
        error.starts_with("event 0 asks for 140737488355329 bytes"),
        "{error}"
    );
    write(1, 48).unwrap_err();
}

/// A regular trace over several chunks takes next to nothing.
#[test]
fn regular_traces_are_small() {
    let trace = testing::sawtooth(3 << 20, 1000);
    let bytes = in_chunks(&trace, usize::MAX);
    assert_eq!(chunk_ends(&bytes).len(), 3);
    assert!(bytes.len() < 20_000, "{} bytes", bytes.len());
    let back = outcome(&bytes, &ReadOptions::default()).unwrap();
    assert_eq!(back.events(), trace.events());
}
