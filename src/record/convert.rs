//! From the recorder's files to traces.

#![forbid(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use super::system;
use super::wires::{Key, Wire};
use crate::error::Result;
use crate::subject::object_file;
use crate::trace::import::wire::read_file;
use crate::trace::stream::{Batch, Ending, EventSink};
use crate::trace::{self, EventCounts, OutputFormat, ReadOptions, Recording};

/// A trace that was written.
#[derive(Clone, Debug)]
pub struct Recorded {
    /// Its file.
    pub path: PathBuf,
    /// Bytes of it.
    pub file_bytes: u64,
    /// Its events by kind.
    pub counts: EventCounts,
    /// Threads that have events.
    pub threads: u32,
    /// What the trace says of its recording.
    pub recording: Recording,
    /// Signs that it is not whole.
    pub warnings: Vec<String>,
    /// Forked processes that should have been recorded and could not.
    pub lost_children: u32,
}

/// Counts what passes by; keeps what is to be said of it.
struct Tally<'s> {
    sink: &'s mut dyn EventSink,
    counts: EventCounts,
    threads: u32,
}

impl EventSink for Tally<'_> {
    fn take(&mut self, batch: &Batch) -> Result<()> {
        for event in &batch.events {
            self.counts.add(&event.operation);
            self.threads = self.threads.max(event.thread.0 + 1);
        }
        self.sink.take(batch)
    }
}

/// Writes a recording as a trace. None if the program never called its allocator, so that there is
/// nothing to write.
///
/// # Errors
/// The recording cannot be read or the trace not be written; a signal came.
pub(super) fn convert(
    wire: &Wire,
    path: &Path,
    is_live: bool,
    complete: impl FnOnce(&mut Recording),
) -> Result<Option<Recorded>> {
    let options = ReadOptions {
        // What can be kept is kept, and what is lost is told.
        lenient: true,
        interrupted: Some(system::is_end_pending),
        ..ReadOptions::default()
    };
    let format = match path.extension().and_then(|extension| extension.to_str()) {
        Some("txt") => OutputFormat::Text,
        _ => OutputFormat::of_name(path).unwrap_or(OutputFormat::Binary),
    };
    let mut out = trace::create(path, format)?;
    let mut tally = Tally {
        sink: &mut out,
        counts: EventCounts::default(),
        threads: 0,
    };
    let mut ending: Ending = read_file(&wire.file, &wire.path, &options, is_live, &mut tally)?;
    let (counts, threads) = (tally.counts, tally.threads);
    if counts.operations() == 0 {
        return Ok(None);
    }
    let origin = &mut ending.origin;
    let mut recording = origin.recording.take().unwrap_or_default();
    if let Some(build) = object_file::build(Path::new(&recording.allocator)) {
        recording.allocator.push_str(&format!(" (build {build})"));
    }
    complete(&mut recording);
    origin.recording = Some(recording.clone());
    let warnings = origin.warnings.clone();
    out.finish(&ending)?;
    Ok(Some(Recorded {
        path: path.to_owned(),
        file_bytes: std::fs::metadata(path).map_or(0, |found| found.len()),
        counts,
        threads,
        recording,
        warnings,
        lost_children: wire.header.lost_children,
    }))
}

/// The file of a process other than the program's, or of an image that it was before: the number goes
/// before the name's ending, `app.trace` to `app.1234.trace` or `app.1234.0.trace`.
pub(super) fn name_of_other(file: &Path, key: Key, is_last_image: bool) -> PathBuf {
    let name = file.file_name().unwrap_or_default();
    let (stem, ending) = split(name);
    let mut other = stem.to_owned();
    other.push(format!(".{}", key.process));
    if !is_last_image {
        other.push(format!(".{}", key.image));
    }
    other.push(ending);
    file.with_file_name(other)
}

/// A name and its ending, which may be a double one: `.log.zst`.
fn split(name: &OsStr) -> (OsString, OsString) {
    let path = Path::new(name);
    let Some(extension) = path.extension() else {
        return (name.to_owned(), OsString::new());
    };
    let stem = path.file_stem().unwrap_or_default();
    let mut ending = OsString::new();
    let mut stem = stem.to_owned();
    if ["zst", "gz"].iter().any(|packed| extension == *packed)
        && let Some(inner) = Path::new(&stem).extension().map(OsStr::to_owned)
    {
        ending.push(".");
        ending.push(inner);
        stem = Path::new(&stem).file_stem().unwrap_or_default().to_owned();
    }
    ending.push(".");
    ending.push(extension);
    (stem, ending)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_processes_have_their_number_in_the_name() {
        let key = Key {
            process: 77,
            image: 2,
        };
        for (file, last, earlier) in [
            ("d/app.trace", "d/app.77.trace", "d/app.77.2.trace"),
            ("app.log.zst", "app.77.log.zst", "app.77.2.log.zst"),
            ("app", "app.77", "app.77.2"),
            ("a.zst", "a.77.zst", "a.77.2.zst"),
        ] {
            assert_eq!(name_of_other(Path::new(file), key, true), Path::new(last));
            assert_eq!(
                name_of_other(Path::new(file), key, false),
                Path::new(earlier)
            );
        }
    }
}
