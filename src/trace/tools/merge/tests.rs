//! Merged traces hold each of theirs, in order.

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
        Order::Time => {
            all.sort_by_key(|&(source, at)| traces[source].times_ns().expect("all have them")[at])
        }
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

#[test]
fn more_than_memory_holds_is_told_before_it_is_read() {
    let mut builder = TraceBuilder::new(testing::origin());
    builder.malloc(ThreadIndex(0), 64);
    let mut long = survey(&builder.finish());
    long.profile.counts.malloc = 5_000_000;
    // 8 MiB each.
    let fitting = vec![long.clone(); 128];
    assert!(Plan::of(&fitting, Some(Order::RoundRobin)).is_ok());
    let many = vec![long.clone(); 129];
    let error = Plan::of(&many, Some(Order::RoundRobin)).expect_err("too many");
    assert!(error.to_string().contains("would take 1032 MiB"), "{error}");
    assert!(Plan::of(&many, Some(Order::Sequential)).is_ok());
    long.times_ns = Some((0, 9));
    assert!(Plan::of(&vec![long; 65], None).is_err());
}

#[test]
fn a_limit_on_open_files_is_explained() {
    let told = |number| {
        let source = std::io::Error::from_raw_os_error(number);
        explained(Error::io("a.trace", "read", source)).to_string()
    };
    assert!(told(24).contains("ulimit -n"), "{}", told(24));
    assert!(!told(2).contains("ulimit"), "{}", told(2));
}
