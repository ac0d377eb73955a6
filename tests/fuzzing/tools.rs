//! The properties of what is done with a trace once it was read: writing it in the native formats and
//! reading it again changes nothing, and every tool makes a trace of a trace.

use std::path::Path;

use mymalloc::error::Result;
use mymalloc::trace::builder::TraceBuilder;
use mymalloc::trace::profile::Profile;
use mymalloc::trace::stream::{Batch, Ending, EventSink, feed};
use mymalloc::trace::tools::anonymise::{Anonymise, Sizes, Times};
use mymalloc::trace::tools::filter::{Choice, Filter};
use mymalloc::trace::tools::guarantees::Guarantees;
use mymalloc::trace::tools::scale::{Mode, Scale, check as scalable};
use mymalloc::trace::tools::slice::{LiveSet, Slice, Window};
use mymalloc::trace::tools::stat::Statistician;
use mymalloc::trace::tools::validate::validate_read;
use mymalloc::trace::{Format, Origin, OutputFormat, Trace, read_bytes, write_to};

use super::reading::{NAME, Outcome, STRICT, read, same_events};

/// Written and read again, in every format.
pub(crate) fn round_trips(trace: &Trace) {
    let binary = written(trace, OutputFormat::Binary);
    let text = written(trace, OutputFormat::Text);
    for (bytes, what) in [(&binary, "binary"), (&text, "text")] {
        let back = read_again(bytes, what);
        assert!(same_events(&back, trace), "{what} loses something");
        assert_eq!(back.block_count(), trace.block_count());
        assert_eq!(back.origin().recording, trace.origin().recording);
        assert_eq!(back.origin().warnings, trace.origin().warnings);
        // However often it passes from one to the other, the bytes stay the same.
        assert!(written(&back, OutputFormat::Binary) == binary, "{what}");
        assert!(written(&back, OutputFormat::Text) == text, "{what}");
        assert_valid(bytes, what);
    }
    for format in [
        OutputFormat::Logalloc,
        OutputFormat::Android,
        OutputFormat::Rep,
    ] {
        let bytes = written(trace, format);
        let back = read_again(&bytes, &format!("{format:?}"));
        assert_eq!(
            back.counts().operations(),
            trace.counts().operations(),
            "{format:?}"
        );
    }
    written(trace, OutputFormat::JsonLines);
}

/// The project's own validate has no more to say of a file than that warnings stand in it.
fn assert_valid(bytes: &[u8], what: &str) {
    let read = |sink: &mut dyn EventSink| read_bytes(Path::new(NAME), bytes, &STRICT, sink);
    let found = validate_read(read).expect("bytes in memory can be read");
    let ending = found.ending.expect("it was read before");
    let origin = &ending.origin;
    let allowed = |fault: &String| {
        origin.warnings.contains(fault)
            || origin.dropped_examples.contains(fault)
            || origin.dropped_lines > 0 && fault.ends_with("cannot be used")
            || fault.ends_with("of the recording lost")
    };
    let faults: Vec<_> = found
        .faults
        .iter()
        .filter(|fault| !allowed(fault))
        .collect();
    assert!(faults.is_empty(), "{what}: {faults:?}");
}

fn written(trace: &Trace, format: OutputFormat) -> Vec<u8> {
    let mut bytes = Vec::new();
    let written = write_to(trace, &mut bytes, format);
    written.unwrap_or_else(|error| panic!("{format:?} cannot be written: {error}"));
    bytes
}

fn read_again(bytes: &[u8], what: &str) -> Box<Trace> {
    match read(bytes, &STRICT) {
        Outcome::Whole(trace) => trace,
        Outcome::Long => panic!("{what} has become longer"),
        Outcome::Refused(message) => panic!("{what} that we wrote is refused: {message}"),
    }
}

/// Packed by any of the packers it is the same trace.
pub(crate) fn packing(bytes: &[u8], trace: &Trace) {
    if trace.origin().format == Format::Wire || !trace.origin().compression.is_empty() {
        return;
    }
    for (name, packed) in [
        ("gzip", gzip(bytes)),
        ("zstd", zstd::encode_all(bytes, 1).expect("into memory")),
        ("zip", zip(bytes)),
    ] {
        let unpacked = read_again(&packed, name);
        assert!(same_events(&unpacked, trace), "{name} changes it");
        assert_eq!(unpacked.origin().compression, [name]);
    }
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::Write::write_all(&mut encoder, bytes).expect("into memory");
    encoder.finish().expect("into memory")
}

pub(crate) fn zip(bytes: &[u8]) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    archive.start_file("trace", options).expect("into memory");
    std::io::Write::write_all(&mut archive, bytes).expect("into memory");
    archive.finish().expect("into memory").into_inner()
}

/// Every tool, with parameters that hang on `choice`.
pub(crate) fn tools(trace: &Trace, choice: u64) {
    let events = trace.events().len() as u64;
    let profile = Profile::of(trace);
    assert_eq!(profile.counts, *trace.counts());
    let mut statistician = Statistician::default();
    feed(trace, &mut statistician).expect("a statistic takes all");
    assert_eq!(
        statistician.finish(trace.ending()).profile.counts,
        profile.counts
    );

    let first = choice % events.max(1);
    let count = 1 + (choice >> 16) % events.max(1);
    for live_set in [LiveSet::Recreate, LiveSet::Drop] {
        let window = Window::Events { first, count };
        made(trace, |sink| {
            let mut slice = Slice::new(sink, window, live_set);
            feed(trace, &mut slice)?;
            slice.finish(trace.ending())
        });
    }
    if trace.times_ns().is_some() {
        let window = Window::Times {
            from_ns: choice % 1000,
            until_ns: choice,
        };
        made(trace, |sink| {
            let mut slice = Slice::new(sink, window, LiveSet::Recreate);
            feed(trace, &mut slice)?;
            slice.finish(trace.ending())
        });
    }
    let chosen = Choice {
        threads: (choice & 1 == 1).then(|| [(choice >> 8) as u32 % 3].into_iter().collect()),
        bytes_min: (choice & 2 == 2).then_some(choice >> 4 & 0xff),
        bytes_max: (choice & 4 == 4).then_some(choice >> 4 & 0xfff),
        invert: choice & 8 == 8,
        ..Choice::default()
    };
    made(trace, |sink| {
        let mut filter = Filter::new(sink, chosen);
        feed(trace, &mut filter)?;
        filter.finish(trace.ending())
    });
    let sizes = [
        Sizes::Exact,
        Sizes::Classes,
        Sizes::Multiple(1 + (choice >> 20)),
    ];
    let times = [
        Times::Drop,
        Times::Coarsen {
            step_ns: 1 + (choice >> 40),
        },
    ];
    let anonymous = made(trace, |sink| {
        let sizes = sizes[choice as usize % 3];
        let mut anonymise = Anonymise::new(sink, sizes, times[choice as usize / 3 % 2]);
        feed(trace, &mut anonymise)?;
        anonymise.finish(&trace.ending())
    });
    let anonymous = anonymous.expect("anonymising leaves nothing out");
    assert_eq!(anonymous.counts(), trace.counts());
    for mode in [Mode::Interleave, Mode::Stretch] {
        let copies = 1 + (choice >> 24) as u32 % 3;
        if scalable(&profile, copies, mode).is_err() {
            continue;
        }
        let scaled = made(trace, |sink| {
            let mut scale = Scale::new(sink, copies, mode);
            feed(trace, &mut scale)?;
            scale.finish(trace.ending())
        });
        let scaled = scaled.expect("a trace that may be scaled is");
        assert_eq!(
            scaled.counts().operations(),
            trace.counts().operations() * u64::from(copies)
        );
    }
}

/// What a tool makes of a trace, if it takes it: a trace that can be written and read again.
fn made(trace: &Trace, tool: impl FnOnce(&mut dyn EventSink) -> Result<Ending>) -> Option<Trace> {
    let mut builder = TraceBuilder::new(Origin::generated("", Vec::new()));
    let mut checked = Checked {
        builder: &mut builder,
        guarantees: Guarantees::new(),
    };
    let ending = match tool(&mut checked) {
        Ok(ending) => ending,
        Err(error) => {
            let message = error.to_string();
            assert!(message.len() < 600, "{message}");
            return None;
        }
    };
    let broken = checked.guarantees.incomplete();
    assert!(broken.is_empty(), "{broken:?}");
    let made = builder.finish_as(ending);
    let invented = made.times_ns().is_some() && trace.times_ns().is_none();
    assert!(!invented, "times came from nowhere");
    if made.counts().operations() > 0 {
        let back = read_again(&written(&made, OutputFormat::Binary), "what a tool made");
        assert!(same_events(&back, &made));
    }
    Some(made)
}

/// Holds a tool to what readers guarantee.
struct Checked<'b> {
    builder: &'b mut TraceBuilder,
    guarantees: Guarantees,
}

impl EventSink for Checked<'_> {
    fn take(&mut self, batch: &Batch) -> Result<()> {
        if let Err(broken) = self.guarantees.take(batch) {
            panic!("{broken}");
        }
        self.builder.take(batch)
    }
}
