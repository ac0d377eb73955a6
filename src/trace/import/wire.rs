//! What our own recorder writes while a program runs: see [`crate::trace::wire`].
//!
//! The file is read twice: once to find the chunks and the last event of each thread, once to hand the
//! events on in the order of their numbers. It must be a plain file, since it is not read front to back.

#![forbid(unsafe_code)]

mod chunk;
mod header;
mod merge;
mod sites;
mod survey;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod window_tests;
#[cfg(test)]
mod writer;

use std::path::{Path, PathBuf};

pub(crate) use self::header::Header;

use self::chunk::Recorded;
use self::merge::Merge;
use self::sites::{Maps, Sites};
use self::survey::{Last, Survey};
use super::bytes::ByteFormat;
use super::fault::Fault;
use super::intake::{Intake, Rules};
use super::{ReadOptions, Record, Request};
use crate::error::{Error, Result};
use crate::trace::input::{Lines, ReadAt};
use crate::trace::stream::{Ending, EventSink};
use crate::trace::wire::{UNIT_BYTES, header as at};
use crate::trace::{Format, Origin, SiteId, plural};

/// The format, as the registry of formats knows it.
pub(super) const FORMAT: ByteFormat = ByteFormat {
    family: "mymalloc's own",
    recognises: header::recognises,
    read,
};

/// Events that could not be used are told one by one up to here.
const EXAMPLES: usize = 5;
/// Gaps in the numbers are looked at one by one up to here.
const GAPS_MAX: usize = 4096;

/// Why reading ends early.
enum Stop {
    Interrupted,
    Unreadable(std::io::Error),
}

impl From<std::io::Error> for Stop {
    fn from(error: std::io::Error) -> Self {
        Self::Unreadable(error)
    }
}

impl Stop {
    fn error(self, path: &Path) -> Error {
        match self {
            Self::Interrupted => Error::Interrupted,
            Self::Unreadable(source) => Error::io(path, "read", source),
        }
    }
}

fn read(lines: &mut Lines, options: &ReadOptions, sink: &mut dyn EventSink) -> Result<Ending> {
    let path = lines.path().to_owned();
    let file = lines.plain_file("a recorder's file (.wire)")?;
    let mut counted = Counted {
        sink,
        operations: 0,
    };
    let maps = (!lines.is_in_memory()).then(|| maps_path(&path));
    let writer = match lines.is_in_memory() {
        true => None,
        false => writing_process(&*file),
    };
    let ending = read_source(&*file, &path, maps, options, writer.is_some(), &mut counted);
    let ending = match writer {
        Some(process) => judge_live(ending, process)?,
        None => ending?,
    };
    if counted.operations == 0 {
        return Err(Error::file(path, "the trace holds no allocator operation"));
    }
    Ok(ending)
}

/// The process that is still writing a recorder's file, if there is one.
fn writing_process(file: &dyn ReadAt) -> Option<u32> {
    let header = read_header(file).ok()?.ok()?;
    header.is_process_alive().then_some(header.process)
}

/// What became of reading a file while a process wrote it. Its windows may have been used again
/// meanwhile, so that a part is missing: then it is not the file that is wrong.
fn judge_live(ending: Result<Ending>, process: u32) -> Result<Ending> {
    match ending {
        Ok(mut ending) => {
            ending.origin.warnings.push(format!(
                "process {process} was still writing it: this is what there was so far"
            ));
            Ok(ending)
        }
        Err(Error::File { path, message }) => {
            let advice =
                format!("process {process} is still writing it, so try when that has ended");
            Err(Error::file(path, format!("{advice} (now: {message})")))
        }
        Err(other) => Err(other),
    }
}

/// Counts what passes by.
struct Counted<'s> {
    sink: &'s mut dyn EventSink,
    operations: u64,
}

impl EventSink for Counted<'_> {
    fn take(&mut self, batch: &crate::trace::stream::Batch) -> Result<()> {
        let replayed = |event: &&crate::trace::Event| event.operation.is_replayed();
        self.operations += batch.events.iter().filter(replayed).count() as u64;
        self.sink.take(batch)
    }
}

/// Reads a recorder's file that is open already; `path` is its name, beside which the list of mappings
/// lies. A recording without any operation is no error here. Of a file that is still being written
/// (`is_live`) it reads what is there when it begins.
///
/// # Errors
/// As [`super::read_into`].
pub(crate) fn read_file(
    file: &dyn ReadAt,
    path: &Path,
    options: &ReadOptions,
    is_live: bool,
    sink: &mut dyn EventSink,
) -> Result<Ending> {
    read_source(file, path, Some(maps_path(path)), options, is_live, sink)
}

/// The same; `maps` is the list of mappings, if there can be one.
fn read_source(
    file: &dyn ReadAt,
    path: &Path,
    maps: Option<PathBuf>,
    options: &ReadOptions,
    is_live: bool,
    sink: &mut dyn EventSink,
) -> Result<Ending> {
    let unreadable = |source| Error::io(path, "read", source);
    let header = read_header(file).map_err(unreadable)?;
    let header = header.map_err(|message| Error::file(path, message))?;
    let stop = || options.interrupted.is_some_and(|asked| asked());
    let survey = || -> Result<Survey> {
        let file_bytes = file.size_bytes().map_err(unreadable)?;
        Survey::make(file, &header, file_bytes, &stop).map_err(|stop| stop.error(path))
    };
    let mut found = survey()?;
    let mut until = u64::MAX;
    if is_live {
        // Whatever has a number up to the greatest one of the first walk, the second one finds.
        until = found.last_sequence;
        found = survey()?;
    }
    let mut reader = Reader::new(path, options, header.clone(), found, sink);
    reader.until = until;
    reader.maps = maps;
    reader.judge_survey()?;
    reader.run(file)?;
    reader.finish()
}

/// The header of an open file: outside what the system says, inside what the file is.
pub(crate) fn read_header(
    file: &dyn ReadAt,
) -> std::io::Result<std::result::Result<Header, String>> {
    let mut bytes = vec![0; UNIT_BYTES];
    let read = file.fill_at(&mut bytes, 0)?;
    bytes.truncate(read);
    Ok(Header::parse(&bytes))
}

/// Numbers that no event has.
#[derive(Clone, Copy)]
struct Gap {
    first: u64,
    count: u64,
}

struct Reader<'r> {
    path: &'r Path,
    options: &'r ReadOptions,
    header: Header,
    survey: Survey,
    intake: Intake<'r>,
    sites: Sites,
    origin: Origin,
    /// Where the list of mappings lies, if there can be one.
    maps: Option<PathBuf>,
    /// The last number that is read.
    until: u64,
    /// The number that the next event should have.
    expected: u64,
    missing: u64,
    gaps: Vec<Gap>,
    /// The thread of the event before, and its last event.
    current: Option<(u64, Last)>,
    /// Latest moment so far: threads write theirs a little out of order.
    time_ns: u64,
}

impl<'r> Reader<'r> {
    fn new(
        path: &'r Path,
        options: &'r ReadOptions,
        header: Header,
        survey: Survey,
        sink: &'r mut dyn EventSink,
    ) -> Self {
        let rules = Rules {
            unseen_calls: true,
            sited: header.has(at::FLAG_SITES),
            ..Rules::default()
        };
        let origin = Origin {
            source: path.display().to_string(),
            format: Format::Wire,
            compression: Vec::new(),
            sha256: String::new(),
            dropped_lines: 0,
            dropped_examples: Vec::new(),
            notes: Vec::new(),
            warnings: Vec::new(),
            recording: Some(header.recording()),
        };
        Self {
            path,
            options,
            header,
            survey,
            intake: Intake::new(sink, rules),
            sites: Sites::default(),
            origin,
            maps: None,
            until: u64::MAX,
            expected: 0,
            missing: 0,
            gaps: Vec::new(),
            current: None,
            time_ns: 0,
        }
    }

    /// Whether a damaged file is to be read at all.
    fn judge_survey(&mut self) -> Result<()> {
        let Some(damage) = self.survey.first_damage else {
            return Ok(());
        };
        let first = format!("byte {}: {}", damage.offset, damage.what);
        if !self.options.lenient {
            let message = format!("damaged at {first} (--lenient reads all the rest)");
            return Err(Error::file(self.path, message));
        }
        let places = plural(self.survey.damages, "damaged place");
        self.origin
            .warnings
            .push(format!("{places}; the first at {first}"));
        Ok(())
    }

    fn run(&mut self, file: &dyn ReadAt) -> Result<()> {
        let chunks = std::mem::take(&mut self.survey.chunks);
        let mut merge = Merge::new(file, chunks, self.header.page_log2());
        let mut unasked = 0_u32;
        loop {
            let next = merge.next();
            let Some(event) = next.map_err(|source| Error::io(self.path, "read", source))? else {
                return Ok(());
            };
            if event.sequence > self.until {
                return Ok(());
            }
            if event.sequence != self.expected && !self.follow(&event)? {
                continue;
            }
            self.expected = event.sequence + 1;
            if let Err(fault) = self.take(&event) {
                self.refuse(&event, fault)?;
                if fault == Fault::Full {
                    return Ok(());
                }
            }
            self.intake.events.flush_full()?;
            unasked += 1;
            if unasked == 1 << 16 {
                unasked = 0;
                if self.options.interrupted.is_some_and(|asked| asked()) {
                    return Err(Error::Interrupted);
                }
            }
        }
    }

    /// An event whose number is not the expected one: whether it can be used.
    #[cold]
    fn follow(&mut self, event: &Recorded) -> Result<bool> {
        if event.sequence < self.expected {
            self.drop_event(event, "its number was used before")?;
            return Ok(false);
        }
        let count = event.sequence - self.expected;
        self.missing = self.missing.saturating_add(count);
        if self.gaps.len() < GAPS_MAX {
            self.gaps.push(Gap {
                first: self.expected,
                count,
            });
        }
        Ok(true)
    }

    #[inline]
    fn take(&mut self, event: &Recorded) -> std::result::Result<(), Fault> {
        let thread = event.thread;
        let last = match self.current {
            Some((current, last)) if current == thread => last,
            _ => {
                let last = self.survey.threads.get(&thread).copied();
                let last = last.unwrap_or_default();
                self.current = Some((thread, last));
                last
            }
        };
        if event.is_switch {
            self.intake.pause();
        }
        // Its place is behind the thread's last event.
        let taken = match event.request {
            Request::ThreadEnd => Ok(()),
            request => self.hand_on(thread, request, event),
        };
        if last.has_ended && last.sequence == event.sequence {
            self.hand_on(thread, Request::ThreadEnd, event)?;
        }
        taken
    }

    #[inline]
    fn hand_on(
        &mut self,
        thread: u64,
        request: Request,
        event: &Recorded,
    ) -> std::result::Result<(), Fault> {
        let time_ns = self.header.has(at::FLAG_TIMES).then(|| {
            self.time_ns = self.time_ns.max(event.time_ns.unwrap_or(0));
            self.time_ns
        });
        let record = Record {
            thread: Some(thread),
            time_ns,
            site: match self.header.has(at::FLAG_SITES) {
                true => self.sites.number(event.site.unwrap_or(0)),
                false => SiteId(0),
            },
            ..Record::of(request)
        };
        self.intake.take(&record, event.sequence)
    }

    #[cold]
    fn refuse(&mut self, event: &Recorded, fault: Fault) -> Result<()> {
        let reason = fault.explain("an event", |pointer| format!("{pointer:#x}"));
        self.drop_event(event, &reason)
    }

    /// An event that cannot be used ends a strict reading.
    #[cold]
    fn drop_event(&mut self, event: &Recorded, reason: &str) -> Result<()> {
        let message = format!("event {}: {reason}", event.sequence);
        if !self.options.lenient {
            let message = format!("{message} (--lenient drops such events)");
            return Err(Error::file(self.path, message));
        }
        self.origin.dropped_lines += 1;
        if self.origin.dropped_examples.len() < EXAMPLES {
            self.origin.dropped_examples.push(message);
        }
        Ok(())
    }

    fn finish(mut self) -> Result<Ending> {
        self.judge_missing()?;
        self.intake.events.flush()?;
        self.tell();
        let mut site_names = Vec::new();
        if self.header.has(at::FLAG_SITES) {
            let maps = self.maps.as_deref().map(Maps::read).unwrap_or_default();
            if maps.is_empty() {
                let note = "call sites are addresses: the list of mappings is not beside the file";
                self.origin.notes.push(note.to_owned());
            }
            site_names = self.sites.names(&maps);
        }
        Ok(Ending {
            origin: self.origin,
            site_names,
        })
    }

    /// Numbers without an event: of a process that was killed each thread may have taken one and not
    /// come to write it. Anything else is a damaged file.
    fn judge_missing(&mut self) -> Result<()> {
        if self.missing == 0 {
            return Ok(());
        }
        if self.is_explained() {
            self.origin.warnings.push(format!(
                "{} begun when the process ended, and not written",
                match self.missing {
                    1 => "1 event was".to_owned(),
                    count => format!("{count} events were"),
                }
            ));
            return Ok(());
        }
        let first = self.gaps.first().map_or(0, |gap| gap.first);
        let why = match self.survey.is_cut_off {
            true => "the file is cut off",
            false => "the file is damaged",
        };
        let message = format!(
            "{} missing, the first of them number {first}: {why}",
            match self.missing {
                1 => "1 event is".to_owned(),
                count => format!("{count} events are"),
            }
        );
        if !self.options.lenient {
            let message = format!("{message} (--lenient reads the rest)");
            return Err(Error::file(self.path, message));
        }
        self.origin.warnings.push(message);
        if let Some(recording) = &mut self.origin.recording {
            recording.lost_events = self.missing;
        }
        Ok(())
    }

    /// Whether for each missing number there is a thread of its own that has written nothing later.
    fn is_explained(&self) -> bool {
        if self.gaps.len() == GAPS_MAX || self.survey.first_damage.is_some() {
            return false;
        }
        let threads = &self.survey.threads;
        if self.until < u64::MAX {
            // They write on, so what they wrote last says nothing.
            return self.missing <= threads.len() as u64;
        }
        let going = threads.values().filter(|last| !last.has_ended);
        let mut lasts: Vec<u64> = going.map(|last| last.sequence).collect();
        lasts.sort_unstable();
        // Threads that came to write nothing at all.
        let silent = self.header.threads.saturating_sub(threads.len() as u64);
        let silent = silent.min(1 << 16);
        let mut explained = 0;
        self.gaps.iter().all(|gap| {
            // Within a gap nobody writes, so one look is enough for all of it.
            let before = lasts.partition_point(|&sequence| sequence < gap.first) as u64;
            explained = u64::saturating_add(explained, gap.count);
            explained <= before + silent
        })
    }

    /// What whoever reads the results must know.
    fn tell(&mut self) {
        let header = &self.header;
        let (notes, warnings) = (&mut self.origin.notes, &mut self.origin.warnings);
        let counts = self.intake.events.counts();
        if let Some(why) = header.stopped() {
            warnings.push(format!(
                "recording stopped before the program ended: {why}; these are its first {}, {} not \
                 recorded",
                plural(counts.operations(), "operation"),
                match header.unrecorded_calls {
                    1 => "1 call was".to_owned(),
                    calls => format!("{calls} calls were"),
                }
            ));
        }
        if header.lost_children > 0 {
            warnings.push(format!(
                "{} forked that should have been recorded and could not: {}",
                match header.lost_children {
                    1 => "1 process was".to_owned(),
                    count => format!("{count} processes were"),
                },
                std::io::Error::from_raw_os_error(header.lost_children_errno.cast_signed())
            ));
        }
        if header.has(at::FLAG_ATTACHED) {
            notes.push("recording was switched on in the middle of the program's life".to_owned());
        }
        if header.has(at::FLAG_FORKED) {
            notes.push(
                "a forked process: it began with its parent's blocks, which are not in this trace"
                    .to_owned(),
            );
        }
        self.intake.tell(warnings);
    }
}

/// Where the list of mappings lies.
fn maps_path(path: &Path) -> PathBuf {
    path.with_extension("maps")
}
