//! `merge`: several traces into one, such as those of a server's processes, to ask how an allocator
//! would do if they were threads of one. Threads, blocks and call sites stay apart.
//!
//! The traces pass at the same time, a few batches of each in memory: all that is kept are their live
//! blocks and threads.

#![forbid(unsafe_code)]

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

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
        let mut extras = Extras {
            time_ns: merged.has_times.then(|| self.time_ns()),
            site: None,
        };
        if let Some(sites) = &mut merged.sites {
            let site = self.batch.sites.get(self.at).copied().unwrap_or_default();
            extras.site = Some(sites.of(self.place, site)?);
        }
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

/// Merges what the feeds bring.
fn merge(feeds: &mut [&mut dyn Feed], plan: &Plan, sink: &mut dyn EventSink) -> Result<Sites> {
    let mut merged = Merged {
        output: Output::new(sink),
        has_times: plan.order == Order::Time,
        sites: plan.has_sites.then(Sites::default),
    };
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
        let mut receivers = Vec::new();
        let mut readers = Vec::new();
        for path in paths {
            let (sender, receiver) = sync_channel(BATCHES_AHEAD);
            receivers.push(FromThread(receiver));
            readers.push(scope.spawn(move || {
                let mut sink = ToMerger(&sender);
                match read_into(path, options, &mut sink) {
                    Ok(ending) => Some(ending),
                    Err(error) => {
                        // Nobody listens any more if it was the merger that failed.
                        let _ = sender.send(Err(error));
                        None
                    }
                }
            }));
        }
        let mut feeds: Vec<&mut dyn Feed> = receivers
            .iter_mut()
            .map(|receiver| receiver as &mut dyn Feed)
            .collect();
        let merged = merge(&mut feeds, plan, sink);
        // A reader that waits for the merger to take its batch must not wait for ever.
        drop(receivers);
        let endings: Option<Vec<Ending>> = readers
            .into_iter()
            .map(|reader| {
                reader
                    .join()
                    .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            })
            .collect();
        let sites = merged?;
        let endings = endings.expect("a reader that failed has ended the merge");
        Ok(plan.ending(endings, &sites))
    })
}

struct FromThread(Receiver<Result<Batch>>);

impl Feed for FromThread {
    fn next(&mut self) -> Result<Option<Batch>> {
        self.0.recv().ok().transpose()
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
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::trace::builder::TraceBuilder;
    use crate::trace::profile::Profile;
    use crate::trace::{Event, Operation, Recording, ThreadIndex, Trace, testing};

    /// A trace in memory, in batches of three.
    struct Memory(std::vec::IntoIter<Batch>);

    impl Memory {
        fn of(trace: &Trace) -> Self {
            #[derive(Default)]
            struct Keep(Vec<Batch>);
            impl EventSink for Keep {
                fn take(&mut self, batch: &Batch) -> Result<()> {
                    self.0.push(batch.clone());
                    Ok(())
                }
            }
            let mut keep = Keep::default();
            testing::feed(trace, 3, &mut keep);
            Self(keep.0.into_iter())
        }
    }

    impl Feed for Memory {
        fn next(&mut self) -> Result<Option<Batch>> {
            Ok(self.0.next())
        }
    }

    fn survey(trace: &Trace) -> Survey {
        let times = trace.times_ns();
        Survey {
            profile: Profile::of(trace),
            ending: Ending {
                origin: trace.origin().clone(),
                site_names: trace.site_names().to_vec(),
            },
            times_ns: times.map(|times| (times[0], times[times.len() - 1])),
            has_sites: trace.sites().is_some(),
        }
    }

    fn merged(traces: &[Trace], wish: Option<Order>) -> Result<(Plan, Trace)> {
        let surveys: Vec<Survey> = traces.iter().map(survey).collect();
        let plan = Plan::of(&surveys, wish)?;
        let mut memories: Vec<Memory> = traces.iter().map(Memory::of).collect();
        let mut feeds: Vec<&mut dyn Feed> = memories
            .iter_mut()
            .map(|memory| memory as &mut dyn Feed)
            .collect();
        let mut builder = TraceBuilder::new(testing::origin());
        let sites = merge(&mut feeds, &plan, &mut builder)?;
        let endings = surveys.into_iter().map(|survey| survey.ending).collect();
        let ending = plan.ending(endings, &sites);
        Ok((plan, builder.finish_as(ending)))
    }

    /// A call without its numbers, by which it is known again.
    fn call(event: &Event) -> (std::mem::Discriminant<Operation>, u64, bool) {
        let operation = &event.operation;
        (
            std::mem::discriminant(operation),
            operation.requested_bytes(),
            operation.releases().is_some(),
        )
    }

    /// The order as its definition has it: (source, place) of each event.
    fn expected(traces: &[Trace], order: Order) -> Vec<(usize, usize)> {
        let mut all: Vec<(usize, usize)> = traces
            .iter()
            .enumerate()
            .flat_map(|(source, trace)| (0..trace.events().len()).map(move |at| (source, at)))
            .collect();
        match order {
            Order::Sequential => {}
            Order::RoundRobin => all.sort_by_key(|&(source, at)| (at, source)),
            // The stamps of these traces ascend, so a stable sort keeps each one's order.
            Order::Time => all
                .sort_by_key(|&(source, at)| traces[source].times_ns().expect("all have them")[at]),
        }
        all
    }

    proptest! {
        #[test]
        fn each_trace_keeps_its_order_and_its_threads(
            traces in proptest::collection::vec(testing::rich_traces(40), 1..5),
            wish in proptest::option::of(0_u8..2),
        ) {
            let traces: Vec<Trace> =
                traces.into_iter().filter(|trace| !trace.events().is_empty()).collect();
            prop_assume!(!traces.is_empty());
            let wish = wish.map(|wish| [Order::RoundRobin, Order::Sequential][usize::from(wish)]);
            let (plan, result) = merged(&traces, wish).expect("memory takes all");
            let timed = traces.iter().all(|trace| trace.times_ns().is_some());
            let order = wish.unwrap_or(if timed { Order::Time } else { Order::Sequential });
            prop_assert_eq!(plan.order(), order);

            let expected = expected(&traces, order);
            prop_assert_eq!(result.events().len(), expected.len());
            let mut threads = std::collections::BTreeMap::new();
            for (at, (event, &(source, place))) in result.events().iter().zip(&expected).enumerate() {
                let original = &traces[source].events()[place];
                prop_assert_eq!(call(event), call(original));
                let thread = *threads.entry((source, original.thread)).or_insert(event.thread);
                prop_assert_eq!(event.thread, thread);
                if let Some(sites) = result.sites() {
                    let name = &result.site_names()[sites[at].0 as usize];
                    let own = traces[source].sites().map_or(0, |sites| sites[place].0 as usize);
                    match own {
                        0 => prop_assert_eq!(name, "unknown"),
                        own => prop_assert_eq!(name, &traces[source].site_names()[own]),
                    }
                }
                if let Some(times) = result.times_ns() {
                    prop_assert_eq!(times[at], traces[source].times_ns().unwrap()[place]);
                }
            }
            let different: std::collections::BTreeSet<ThreadIndex> = threads.values().copied().collect();
            prop_assert_eq!(different.len(), threads.len(), "threads stay apart");
            let cross = |trace: &Trace| Profile::of(trace).cross_thread_frees;
            prop_assert_eq!(cross(&result), traces.iter().map(cross).sum::<u64>());
            prop_assert_eq!(result.times_ns().is_some(), order == Order::Time);
            let any_sites = traces.iter().any(|trace| trace.sites().is_some());
            prop_assert_eq!(result.sites().is_some(), any_sites);
        }
    }

    #[test]
    fn recordings_are_placed_by_when_they_began() {
        let trace = |began: &str, times: [u64; 2], size| {
            let mut origin = testing::origin();
            origin.recording = Some(Recording {
                began: began.to_owned(),
                ..Recording::default()
            });
            let mut builder = TraceBuilder::new(origin);
            for time_ns in times {
                builder.malloc(ThreadIndex(0), size);
                builder.stamp(time_ns);
            }
            builder.finish()
        };
        let parent = trace("2026-01-01T10:00:00Z", [0, 3_000_000_000], 1);
        let child = trace("2026-01-01T10:00:02Z", [0, 500_000_000], 2);
        let (_, result) = merged(&[child, parent], None).expect("memory takes all");
        let sizes: Vec<u64> = result
            .events()
            .iter()
            .map(|event| event.operation.requested_bytes())
            .collect();
        assert_eq!(sizes, [1, 2, 2, 1]);
        let times = result.times_ns().expect("both have them");
        assert_eq!(times, [0, 2_000_000_000, 2_500_000_000, 3_000_000_000]);
    }

    #[test]
    fn times_that_are_not_there_cannot_be_merged_by() {
        let trace = testing::sawtooth(10, 5);
        let error = merged(&[trace.clone(), trace], Some(Order::Time)).expect_err("no stamps");
        assert!(error.to_string().contains("no time stamps"), "{error}");
    }
}
