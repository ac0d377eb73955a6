//! `merge`: several traces into one, such as those of a server's processes, to ask how an allocator
//! would do if they were threads of one. Threads, blocks and call sites stay apart.
//!
//! The traces pass at the same time, a chunk and a few batches of each in memory, or one after another if
//! that is the order: all that is kept are their live blocks and threads.

#![forbid(unsafe_code)]

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};

use rustc_hash::FxHashMap;

use super::output::{Extras, Numbers, Output};
use super::stat::site_name;
use super::survey::Survey;
use crate::error::{Error, Result};
use crate::trace::stream::{Batch, Ending, EventSink};
use crate::trace::{Origin, ReadOptions, SiteId, plural, read_into};

/// In which order the events of several traces follow each other. Those of each keep theirs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// By time stamp.
    Time,
    /// One event of each in turn, until each has ended.
    RoundRobin,
    /// One trace after another.
    Sequential,
}

/// Traces that are open at the same time.
pub const SOURCES_MAX: usize = 256;

/// Bytes of events that the readers of all traces hold at a time, at most.
const HELD_BYTES_MAX: u64 = 1 << 30;
/// Events of a trace that its reader holds, at most: a chunk of the binary format.
const HELD_EVENTS: u64 = 1 << 20;
/// Bytes of each of them, and of its time stamp and its call site. Measured: 7 for the first.
const HELD_BYTES_PER_PART: u64 = 8;

/// Batches of a trace that are read ahead.
const BATCHES_AHEAD: usize = 2;

/// How to merge, worked out from a first look at the traces.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    order: Order,
    /// Added to the time stamps of each.
    shifts_ns: Vec<u64>,
    /// Some trace has call sites.
    has_sites: bool,
    notes: Vec<String>,
}

impl Plan {
    /// Plans a merge. Without a wish, the order is by time if all traces have time stamps, otherwise
    /// one after another.
    ///
    /// # Errors
    /// Times wished for that are not there; more traces, events, threads or call sites than fit.
    pub fn of(surveys: &[Survey], wish: Option<Order>) -> Result<Self> {
        if surveys.len() > SOURCES_MAX {
            return Err(Error::usage(format!(
                "{} traces at once; at most {SOURCES_MAX} can be merged: merge the results of several \
                 merges",
                surveys.len()
            )));
        }
        let events: u64 = surveys.iter().map(|s| s.profile.counts.total()).sum();
        if events >= u64::from(u32::MAX) - 1 {
            return Err(Error::usage(format!(
                "together these traces have {events} events; one trace holds at most 2^32 - 2"
            )));
        }
        let timeless = surveys.iter().find(|survey| survey.times_ns.is_none());
        let order = match (wish, timeless) {
            (Some(Order::Time), Some(survey)) => {
                return Err(Error::usage(format!(
                    "{}: has no time stamps to merge by; choose another --order",
                    survey.ending.origin.source
                )));
            }
            (Some(order), _) => order,
            (None, None) => Order::Time,
            (None, Some(_)) => Order::Sequential,
        };
        let held_bytes: u64 = surveys.iter().map(held_bytes).sum();
        if order != Order::Sequential && held_bytes > HELD_BYTES_MAX {
            return Err(Error::usage(format!(
                "{} of this length, read at once, would take {} MiB; merge the results of several \
                 merges, or take --order sequential",
                plural(surveys.len() as u64, "trace"),
                held_bytes >> 20
            )));
        }
        let mut notes = vec![format!(
            "merged from {}, {}",
            plural(surveys.len() as u64, "trace"),
            match order {
                Order::Time => "by time stamp",
                Order::RoundRobin => "one event of each in turn",
                Order::Sequential => "one after another",
            }
        )];
        let mut shifts_ns = vec![0; surveys.len()];
        if order == Order::Time {
            match beginnings_ns(surveys) {
                Some(beginnings_ns) => shifts_ns = beginnings_ns,
                None if surveys.len() > 1 => notes.push(
                    "not all recordings tell when they began: their time stamps were taken as they \
                     stand"
                        .to_owned(),
                ),
                None => {}
            }
        }
        Ok(Self {
            order,
            shifts_ns,
            has_sites: surveys.iter().any(|survey| survey.has_sites),
            notes,
        })
    }

    /// The order that was chosen.
    pub fn order(&self) -> Order {
        self.order
    }

    /// The ending of the merged trace: the notes of all, each named once.
    fn ending(&self, endings: Vec<Ending>, sites: &Sites) -> Ending {
        let site_names = match self.has_sites {
            true => sites.names(&endings),
            false => Vec::new(),
        };
        let sources: Vec<&str> = endings.iter().map(|e| e.origin.source.as_str()).collect();
        let mut origin = Origin::generated(&sources.join(", "), self.notes.clone());
        for ending in endings {
            let Origin {
                source,
                dropped_lines,
                notes,
                warnings,
                ..
            } = ending.origin;
            origin.dropped_lines = origin.dropped_lines.saturating_add(dropped_lines);
            for (all, own) in [(&mut origin.notes, notes), (&mut origin.warnings, warnings)] {
                all.extend(own.into_iter().map(|text| format!("{source}: {text}")));
            }
        }
        Ending { origin, site_names }
    }
}

/// What a reader of a trace holds.
fn held_bytes(survey: &Survey) -> u64 {
    let parts = 1 + u64::from(survey.times_ns.is_some()) + u64::from(survey.has_sites);
    survey.profile.counts.total().min(HELD_EVENTS) * parts * HELD_BYTES_PER_PART
}

/// When each recording began, since the first of them did; none unless all tell.
fn beginnings_ns(surveys: &[Survey]) -> Option<Vec<u64>> {
    let began = surveys
        .iter()
        .map(|survey| {
            let recording = survey.ending.origin.recording.as_ref()?;
            let began: jiff::Timestamp = recording.began.parse().ok()?;
            Some(began.as_nanosecond())
        })
        .collect::<Option<Vec<i128>>>()?;
    let first = began.iter().copied().min()?;
    began
        .into_iter()
        .map(|began| u64::try_from(began - first).ok())
        .collect()
}

/// The call sites of all traces in one table; number 0 means unknown.
#[derive(Default)]
struct Sites {
    /// New number of each, by trace and number there.
    numbers: FxHashMap<(usize, u32), u32>,
    /// The other way round; the first is number 1.
    origins: Vec<(usize, u32)>,
}

impl Sites {
    fn of(&mut self, source: usize, site: SiteId) -> Result<SiteId> {
        if site == SiteId::default() {
            return Ok(site);
        }
        if let Some(&number) = self.numbers.get(&(source, site.0)) {
            return Ok(SiteId(number));
        }
        self.origins.push((source, site.0));
        let number = u32::try_from(self.origins.len())
            .map_err(|_| Error::Failed("together these traces have too many call sites".into()))?;
        self.numbers.insert((source, site.0), number);
        Ok(SiteId(number))
    }

    fn names(&self, endings: &[Ending]) -> Vec<String> {
        let names = self.origins.iter();
        let names = names.map(|&(source, site)| site_name(&endings[source].site_names, site));
        std::iter::once("unknown".to_owned()).chain(names).collect()
    }
}

/// Where the batches of one trace come from.
trait Feed {
    /// The next batch; none at the end.
    fn next(&mut self) -> Result<Option<Batch>>;
}

/// A trace that is being merged.
struct Source<'f> {
    feed: &'f mut dyn Feed,
    batch: Batch,
    at: usize,
    numbers: Numbers,
    /// Which of the traces it is.
    place: usize,
    shift_ns: u64,
    /// Latest moment so far: events of one trace keep their order even if their stamps do not.
    reached_ns: u64,
}

impl Source<'_> {
    /// Makes sure that there is an event at hand. False at the end.
    fn advance(&mut self) -> Result<bool> {
        while self.at >= self.batch.events.len() {
            let Some(batch) = self.feed.next()? else {
                return Ok(false);
            };
            self.batch = batch;
            self.at = 0;
        }
        Ok(true)
    }

    fn time_ns(&self) -> u64 {
        let time_ns = self.batch.times_ns.get(self.at).copied().unwrap_or(0);
        time_ns.saturating_add(self.shift_ns)
    }

    /// Hands on the event at hand.
    fn pass(&mut self, merged: &mut Merged<'_>) -> Result<()> {
        let site = self.batch.sites.get(self.at).copied();
        let extras = Extras {
            time_ns: merged.has_times.then(|| self.time_ns()),
            site: merged.site(self.place, site)?,
        };
        let event = self.batch.events[self.at];
        self.at += 1;
        merged.output.pass(&mut self.numbers, event, extras)?;
        Ok(())
    }
}

/// The trace that comes out.
struct Merged<'s> {
    output: Output<'s>,
    has_times: bool,
    sites: Option<Sites>,
}

impl<'s> Merged<'s> {
    fn new(plan: &Plan, sink: &'s mut dyn EventSink) -> Self {
        Self {
            output: Output::new(sink),
            has_times: plan.order == Order::Time,
            sites: plan.has_sites.then(Sites::default),
        }
    }

    /// The new number of an event's call site; none where no trace has any.
    fn site(&mut self, source: usize, site: Option<SiteId>) -> Result<Option<SiteId>> {
        let sites = self.sites.as_mut();
        sites
            .map(|sites| sites.of(source, site.unwrap_or_default()))
            .transpose()
    }
}

/// Merges what the feeds bring.
fn merge(feeds: &mut [&mut dyn Feed], plan: &Plan, sink: &mut dyn EventSink) -> Result<Sites> {
    let mut merged = Merged::new(plan, sink);
    let mut sources: Vec<Source> = feeds
        .iter_mut()
        .enumerate()
        .map(|(place, feed)| Source {
            feed: *feed,
            batch: Batch::default(),
            at: 0,
            numbers: Numbers::default(),
            shift_ns: plan.shifts_ns[place],
            reached_ns: 0,
            place,
        })
        .collect();
    match plan.order {
        Order::Time => by_time(&mut sources, &mut merged)?,
        Order::RoundRobin => in_turn(&mut sources, &mut merged)?,
        Order::Sequential => {
            for source in &mut sources {
                while source.advance()? {
                    source.pass(&mut merged)?;
                }
            }
        }
    }
    merged.output.flush()?;
    Ok(merged.sites.unwrap_or_default())
}

fn by_time(sources: &mut [Source<'_>], merged: &mut Merged<'_>) -> Result<()> {
    // Earliest first; of equal moments, the earlier named trace first.
    let mut next = BinaryHeap::new();
    for (place, source) in sources.iter_mut().enumerate() {
        if source.advance()? {
            source.reached_ns = source.time_ns();
            next.push(Reverse((source.reached_ns, place)));
        }
    }
    while let Some(Reverse((_, place))) = next.pop() {
        let source = &mut sources[place];
        source.pass(merged)?;
        if source.advance()? {
            source.reached_ns = source.reached_ns.max(source.time_ns());
            next.push(Reverse((source.reached_ns, place)));
        }
    }
    Ok(())
}

fn in_turn(sources: &mut [Source<'_>], merged: &mut Merged<'_>) -> Result<()> {
    let mut left: Vec<&mut Source> = sources.iter_mut().collect();
    while !left.is_empty() {
        let mut still = Vec::with_capacity(left.len());
        for source in left {
            if source.advance()? {
                source.pass(merged)?;
                still.push(source);
            }
        }
        left = still;
    }
    Ok(())
}

/// Merges the traces of several files into `sink`, each read by a thread of its own.
///
/// # Errors
/// Those of reading, with the file's name, and of the sink.
pub fn merge_files(
    paths: &[PathBuf],
    options: &ReadOptions,
    plan: &Plan,
    sink: &mut dyn EventSink,
) -> Result<Ending> {
    std::thread::scope(|scope| {
        let threads = paths.iter().map(|path| FromThread {
            scope,
            path,
            options,
            reader: None,
        });
        let mut threads: Vec<FromThread> = threads.collect();
        let mut feeds: Vec<&mut dyn Feed> = threads
            .iter_mut()
            .map(|thread| thread as &mut dyn Feed)
            .collect();
        let merged = merge(&mut feeds, plan, sink);
        let endings: Option<Vec<Ending>> = threads.into_iter().map(FromThread::join).collect();
        let sites = merged?;
        let endings = endings.expect("a reader that failed has ended the merge");
        Ok(plan.ending(endings, &sites))
    })
}

/// A file that is read by a thread, which begins when the first batch is asked for: of traces that
/// follow one another, one is open at a time.
struct FromThread<'s, 'e> {
    scope: &'s Scope<'s, 'e>,
    path: &'e Path,
    options: &'e ReadOptions,
    reader: Option<Reader<'s>>,
}

struct Reader<'s> {
    batches: Receiver<Result<Batch>>,
    thread: ScopedJoinHandle<'s, Option<Ending>>,
}

impl<'s> FromThread<'s, '_> {
    fn start(&self) -> Reader<'s> {
        let (path, options) = (self.path, self.options);
        let (sender, batches) = sync_channel(BATCHES_AHEAD);
        let thread = self.scope.spawn(move || {
            let mut sink = ToMerger(&sender);
            match read_into(path, options, &mut sink) {
                Ok(ending) => Some(ending),
                Err(error) => {
                    // Nobody listens any more if it was the merger that failed.
                    let _ = sender.send(Err(explained(error)));
                    None
                }
            }
        });
        Reader { batches, thread }
    }

    /// What is known of the trace, if it was read to its end.
    fn join(self) -> Option<Ending> {
        let Reader { batches, thread } = self.reader?;
        // A reader that waits for the merger to take its batch must not wait for ever.
        drop(batches);
        thread
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Feed for FromThread<'_, '_> {
    fn next(&mut self) -> Result<Option<Batch>> {
        if self.reader.is_none() {
            self.reader = Some(self.start());
        }
        let reader = self.reader.as_ref().expect("it was begun");
        reader.batches.recv().ok().transpose()
    }
}

/// A process may have few files open, and this one has one for each trace.
fn explained(error: Error) -> Error {
    const TOO_MANY_OPEN_FILES: i32 = 24;
    match error {
        Error::Io { path, source, .. } if source.raw_os_error() == Some(TOO_MANY_OPEN_FILES) => {
            Error::file(
                path,
                "the system lets this process open no more files: allow more (ulimit -n), or merge \
                 the results of several merges",
            )
        }
        other => other,
    }
}

struct ToMerger<'c>(&'c SyncSender<Result<Batch>>);

impl EventSink for ToMerger<'_> {
    fn take(&mut self, batch: &Batch) -> Result<()> {
        self.0
            .send(Ok(batch.clone()))
            .map_err(|_| Error::Failed("the merge has ended".to_owned()))
    }
}

#[cfg(test)]
mod tests;
