//! `filter`: keeps chosen blocks of a trace, with everything that happens to them.
//!
//! A block is chosen by the call that allocates it: its thread, its requested bytes, its call site,
//! which call it was. Its free comes with it, whoever frees. What a reallocation becomes depends on
//! both of its blocks:
//!
//! | old block | new block | becomes |
//! |---|---|---|
//! | kept | kept | the same |
//! | kept | not | `free` of the old one |
//! | not | kept | `realloc(NULL, size)` |
//! | not | not | nothing |
//!
//! Calls without a block (`free(NULL)`, frees of unseen blocks, allocations that failed, marks) are
//! chosen by their thread, call site and kind; they have no size and no lifetime, so a choice by one of
//! these leaves them out.
//! A thread's start and end are kept where the thread has anything else.

#![forbid(unsafe_code)]

mod choice;
mod lifetimes;

use rustc_hash::FxHashSet;

pub use choice::{Choice, Kind, SiteChoice};
pub use lifetimes::{Lifetime, LifetimeChoice, Lifetimes};

use super::output::{Extras, Numbers, Output, events};
use crate::error::{Error, Result};
use crate::trace::stream::{Batch, Ending, EventSink};
use crate::trace::{Event, EventCounts, Operation, ThreadIndex, plural};

/// Passes chosen blocks on. Memory: an entry per live block kept, and one per thread.
pub struct Filter<'s> {
    output: Output<'s>,
    numbers: Numbers,
    choice: Choice,
    /// Threads that started and had nothing kept since.
    starting: FxHashSet<u32>,
    seen: u64,
}

impl<'s> Filter<'s> {
    /// A filter in front of `sink`.
    pub fn new(sink: &'s mut dyn EventSink, choice: Choice) -> Self {
        Self {
            output: Output::new(sink),
            numbers: Numbers::default(),
            choice,
            starting: FxHashSet::default(),
            seen: 0,
        }
    }

    /// Events handed on so far, by kind.
    pub fn counts(&self) -> &EventCounts {
        self.output.counts()
    }

    fn step(&mut self, event: Event, extras: Extras) -> Result<()> {
        self.seen += 1;
        let site = extras.site.unwrap_or_default();
        let Some(kind) = Kind::of(&event.operation) else {
            return match event.operation {
                Operation::ThreadStart => {
                    self.starting.insert(event.thread.0);
                    Ok(())
                }
                Operation::ThreadEnd if !self.numbers.has_thread(event.thread) => {
                    self.starting.remove(&event.thread.0);
                    Ok(())
                }
                // Frees of blocks that were not kept fall away.
                _ => self.pass(event, extras),
            };
        };
        if self.choice.keeps(kind, &event, site) {
            return self.pass(event, extras);
        }
        match event.operation.releases() {
            Some(block) => self.pass(
                Event {
                    operation: Operation::Free {
                        block,
                        sized: false,
                    },
                    ..event
                },
                extras,
            ),
            None => Ok(()),
        }
    }

    fn pass(&mut self, event: Event, extras: Extras) -> Result<()> {
        let is_foreign_free = matches!(event.operation, Operation::Free { block, .. }
            if !self.numbers.has_block(block));
        if is_foreign_free {
            return Ok(());
        }
        if self.starting.remove(&event.thread.0) {
            let thread: ThreadIndex = event.thread;
            let operation = Operation::ThreadStart;
            self.output
                .pass(&mut self.numbers, Event { thread, operation }, extras)?;
        }
        self.output.pass(&mut self.numbers, event, extras)?;
        Ok(())
    }

    /// Ends the filtered trace.
    ///
    /// # Errors
    /// Those of the sink, and nothing kept that an allocator serves.
    pub fn finish(mut self, mut ending: Ending) -> Result<Ending> {
        self.output.flush()?;
        let kept = self.output.counts();
        if kept.operations() == 0 {
            return Err(Error::usage(format!(
                "nothing to write: of {}, none is left with: {}",
                plural(self.seen, "event"),
                self.choice.words()
            )));
        }
        ending.origin.notes.push(format!(
            "filtered: {} of {} kept ({}); reallocations across the limit became frees, or \
             reallocations of null",
            kept.total(),
            plural(self.seen, "event"),
            self.choice.words()
        ));
        Ok(ending)
    }
}

impl EventSink for Filter<'_> {
    fn take(&mut self, batch: &Batch) -> Result<()> {
        for (event, extras) in events(batch) {
            self.step(event, extras)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::trace::builder::TraceBuilder;
    use crate::trace::stream::feed;
    use crate::trace::{BlockId, SiteId, Trace, testing};

    fn filtered(trace: &Trace, choice: &Choice) -> Result<Trace> {
        let mut builder = TraceBuilder::new(testing::origin());
        let mut filter = Filter::new(&mut builder, choice.clone());
        feed(trace, &mut filter)?;
        let ending = filter.finish(Ending {
            origin: testing::origin(),
            site_names: trace.site_names().to_vec(),
        })?;
        Ok(builder.finish_as(ending))
    }

    fn chosen(trace: &Trace, min_events: u64, more: Option<u64>) -> LifetimeChoice {
        let mut lifetimes = Lifetimes::new(Lifetime {
            min_events,
            max_events: more.map(|more| min_events + more),
        });
        testing::feed(trace, 7, &mut lifetimes);
        lifetimes.finish()
    }

    /// The blocks that the definition keeps.
    fn kept_blocks(trace: &Trace, choice: &Choice) -> Vec<BlockId> {
        let sites = |index: usize| trace.sites().map_or(SiteId(0), |sites| sites[index]);
        let events = trace.events().iter().enumerate();
        events
            .filter_map(|(index, event)| {
                let block = event.operation.allocates()?;
                let bytes = event.operation.requested_bytes();
                let mut all = true;
                all &= choice
                    .threads
                    .as_ref()
                    .is_none_or(|t| t.contains(&event.thread.0));
                all &= choice.bytes_min.is_none_or(|min| bytes >= min);
                all &= choice.bytes_max.is_none_or(|max| bytes <= max);
                all &= choice
                    .site
                    .as_ref()
                    .is_none_or(|s| s.sites.contains(&sites(index).0));
                all &= choice.lifetimes.as_ref().is_none_or(|choice| {
                    let released = |event: &Event| event.operation.releases() == Some(block);
                    let end = trace.events().iter().position(released);
                    match (end, choice.lifetime) {
                        (None, Lifetime { max_events, .. }) => max_events.is_none(),
                        (
                            Some(end),
                            Lifetime {
                                min_events,
                                max_events,
                            },
                        ) => {
                            let lived = (end - index) as u64;
                            lived >= min_events && max_events.is_none_or(|max| lived <= max)
                        }
                    }
                });
                (all != choice.invert).then_some(block)
            })
            .collect()
    }

    /// What the table at the head of this file says of each event: a letter, and bytes.
    fn expected(trace: &Trace, kept: &[BlockId]) -> Vec<(char, u64)> {
        let has = |block: BlockId| kept.contains(&block);
        trace
            .events()
            .iter()
            .filter_map(|event| {
                let bytes = event.operation.requested_bytes();
                match event.operation {
                    Operation::Realloc { old, block, .. } => {
                        match (old.is_some_and(has), has(block)) {
                            (true, true) => Some(('r', bytes)),
                            (true, false) => Some(('f', 0)),
                            (false, true) => Some(('n', bytes)),
                            (false, false) => None,
                        }
                    }
                    Operation::Free { block, .. } => has(block).then_some(('f', 0)),
                    _ => event
                        .operation
                        .allocates()
                        .filter(|b| has(*b))
                        .map(|_| ('a', bytes)),
                }
            })
            .collect()
    }

    fn told(trace: &Trace) -> Vec<(char, u64)> {
        let letter = |operation: &Operation| match operation {
            Operation::Realloc { old: Some(_), .. } => Some('r'),
            Operation::Realloc { old: None, .. } => Some('n'),
            Operation::Free { .. } => Some('f'),
            _ => operation.allocates().map(|_| 'a'),
        };
        let events = trace.events().iter().map(|event| &event.operation);
        events
            .filter_map(|o| Some((letter(o)?, o.requested_bytes())))
            .collect()
    }

    proptest! {
        #[test]
        fn blocks_are_kept_as_the_table_says(
            trace in testing::rich_traces(100),
            thread in proptest::option::of(0_u32..4),
            sizes in proptest::option::of((0_u64..3000, 0_u64..3000)),
            site in proptest::option::of(0_u32..6),
            lifetime in proptest::option::of((0_u64..50, proptest::option::of(0_u64..50))),
            invert in any::<bool>(),
        ) {
            let choice = Choice {
                threads: thread.map(|thread| [thread].into_iter().collect()),
                bytes_min: sizes.map(|(low, _)| low),
                bytes_max: sizes.map(|(low, more)| low + more),
                site: site.map(|site| SiteChoice {
                    text: "x".to_owned(),
                    sites: [site].into_iter().collect(),
                }),
                kinds: None,
                lifetimes: lifetime.map(|(min, more)| chosen(&trace, min, more)),
                invert,
            };
            let kept = kept_blocks(&trace, &choice);
            match filtered(&trace, &choice) {
                Ok(result) => {
                    prop_assert_eq!(told(&result), expected(&trace, &kept));
                    prop_assert_eq!(result.block_count() as usize, kept.len());
                    prop_assert_eq!(result.times_ns().is_some(), trace.times_ns().is_some());
                    prop_assert_eq!(result.sites().is_some(), trace.sites().is_some());
                }
                Err(error) => {
                    prop_assert!(kept.is_empty(), "{error}");
                }
            }
        }

        #[test]
        fn what_a_filter_keeps_and_its_inverse_keeps_is_all(
            trace in testing::rich_traces(100),
            limit in 0_u64..5000,
        ) {
            let choice = |invert| Choice { bytes_max: Some(limit), invert, ..Choice::default() };
            let blocks = |invert| filtered(&trace, &choice(invert)).map_or(0, |t| t.block_count());
            prop_assert_eq!(blocks(false) + blocks(true), trace.block_count());
        }
    }

    #[test]
    fn reallocations_across_the_limit() {
        let mut builder = TraceBuilder::new(testing::origin());
        let thread = ThreadIndex(0);
        let small = builder.malloc(thread, 10);
        let large = builder.realloc(thread, Some(small), 100);
        let small = builder.realloc(thread, Some(large), 20);
        builder.free(thread, small, false);
        let trace = builder.finish();
        let choice = Choice {
            bytes_max: Some(50),
            ..Choice::default()
        };
        let result = filtered(&trace, &choice).expect("small blocks are left");
        assert_eq!(told(&result), [('a', 10), ('f', 0), ('n', 20), ('f', 0)]);
        assert!(result.origin().notes[0].contains("at most 50 bytes"));
    }

    #[test]
    fn kinds_choose_calls_without_blocks_too() {
        let mut builder = TraceBuilder::new(testing::origin());
        builder.thread_start(ThreadIndex(0));
        builder.malloc(ThreadIndex(0), 10);
        builder.thread_start(ThreadIndex(1));
        builder.free_null(ThreadIndex(1));
        builder.thread_end(ThreadIndex(1));
        builder.thread_end(ThreadIndex(0));
        let choice = Choice {
            kinds: Some([Kind::FreeNull].into_iter().collect()),
            ..Choice::default()
        };
        let result = filtered(&builder.finish(), &choice).expect("one is left");
        let operations: Vec<Operation> = result.events().iter().map(|e| e.operation).collect();
        let expected = [
            Operation::ThreadStart,
            Operation::FreeNull,
            Operation::ThreadEnd,
        ];
        assert_eq!(operations, expected);
        assert_eq!(result.thread_count(), 1);
    }

    #[test]
    fn call_sites_are_chosen_by_name_or_number() {
        let names: Vec<String> = ["unknown", "parse (a.c:1)", "lex (a.c:2)"]
            .map(String::from)
            .into();
        let of = |text: &str| {
            let mut sites: Vec<u32> = SiteChoice::of(text, &names)
                .unwrap()
                .sites
                .into_iter()
                .collect();
            sites.sort_unstable();
            sites
        };
        assert_eq!(of("a.c"), [1, 2]);
        assert_eq!(of("lex"), [2]);
        assert_eq!(of("0"), [0]);
        assert!(SiteChoice::of("nowhere", &names).is_err());
    }
}
