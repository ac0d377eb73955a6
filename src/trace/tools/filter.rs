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
//! chosen by their thread, call site and kind; they have no size, so a choice by size leaves them out.
//! A thread's start and end are kept where the thread has anything else.

#![forbid(unsafe_code)]

use rustc_hash::FxHashSet;

use super::output::{Extras, Numbers, Output, events};
use crate::error::{Error, Result};
use crate::trace::stream::{Batch, Ending, EventSink};
use crate::trace::{Event, EventCounts, Operation, SiteId, ThreadIndex, plural};

/// Kinds of calls to choose by.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// `malloc`
    Malloc,
    /// `calloc`
    Calloc,
    /// `realloc`
    Realloc,
    /// `memalign` and its relatives
    Aligned,
    /// `free(NULL)`
    FreeNull,
    /// `free` of a block from before the recording
    FreeUnseen,
    /// An allocation that failed
    Failed,
    /// A mark of the recording tool
    Mark,
}

impl Kind {
    /// None for what is not chosen by itself: frees, starts and ends of threads.
    fn of(operation: &Operation) -> Option<Self> {
        Some(match operation {
            Operation::Malloc { .. } => Self::Malloc,
            Operation::Calloc { .. } => Self::Calloc,
            Operation::Realloc { .. } => Self::Realloc,
            Operation::Aligned { .. } => Self::Aligned,
            Operation::FreeNull => Self::FreeNull,
            Operation::FreeUnseen => Self::FreeUnseen,
            Operation::FailedAllocation => Self::Failed,
            Operation::Mark => Self::Mark,
            Operation::Free { .. } | Operation::ThreadStart | Operation::ThreadEnd => return None,
        })
    }
}

/// What to keep: calls for which every condition holds. No condition, no restriction.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// One of these threads.
    pub threads: Option<FxHashSet<u32>>,
    /// At least so many bytes.
    pub bytes_min: Option<u64>,
    /// At most so many bytes.
    pub bytes_max: Option<u64>,
    /// A call site whose name holds this text, or whose number it is.
    pub site: Option<SiteChoice>,
    /// One of these kinds.
    pub kinds: Option<FxHashSet<Kind>>,
    /// Keep what the conditions do not choose, instead.
    pub invert: bool,
}

/// Which call sites to keep.
#[derive(Clone, Debug)]
pub struct SiteChoice {
    /// As the user wrote it.
    pub text: String,
    /// The numbers that it means.
    pub sites: FxHashSet<u32>,
}

impl SiteChoice {
    /// The call sites whose name holds `text`, and the one whose number it is.
    ///
    /// # Errors
    /// There is none.
    pub fn of(text: &str, names: &[String]) -> Result<Self> {
        let named = (0_u32..).zip(names).filter(|(_, name)| name.contains(text));
        let mut sites: FxHashSet<u32> = named.map(|(number, _)| number).collect();
        sites.extend(text.parse::<u32>());
        if sites.is_empty() {
            let many = plural(names.len() as u64, "call site");
            return Err(Error::usage(format!(
                "no call site has a name with \"{text}\" in it, of {many}; `trace stat` lists them"
            )));
        }
        Ok(Self {
            text: text.to_owned(),
            sites,
        })
    }
}

impl Choice {
    /// Whether there is no condition.
    pub fn is_empty(&self) -> bool {
        self.threads.is_none()
            && self.bytes_min.is_none()
            && self.bytes_max.is_none()
            && self.site.is_none()
            && self.kinds.is_none()
    }

    /// Whether a call that allocates, or one without a block, is kept.
    fn keeps(&self, kind: Kind, event: &Event, site: SiteId) -> bool {
        let is_sized = event.operation.allocates().is_some();
        let bytes = event.operation.requested_bytes();
        let sizes = (self.bytes_min, self.bytes_max);
        let size = match sizes {
            (None, None) => true,
            (min, max) => {
                is_sized && min.is_none_or(|min| bytes >= min) && max.is_none_or(|max| bytes <= max)
            }
        };
        if sizes != (None, None) && !is_sized {
            // Neither inside nor outside of any sizes.
            return false;
        }
        let thread = self
            .threads
            .as_ref()
            .is_none_or(|threads| threads.contains(&event.thread.0));
        let at = self
            .site
            .as_ref()
            .is_none_or(|choice| choice.sites.contains(&site.0));
        let of_kind = self
            .kinds
            .as_ref()
            .is_none_or(|kinds| kinds.contains(&kind));
        (size && thread && at && of_kind) != self.invert
    }

    /// The conditions in words.
    fn words(&self) -> String {
        let mut words = Vec::new();
        if let Some(threads) = &self.threads {
            let mut threads: Vec<u32> = threads.iter().copied().collect();
            threads.sort_unstable();
            let numbers: Vec<String> = threads.iter().map(u32::to_string).collect();
            words.push(format!("thread {}", numbers.join(", ")));
        }
        if let Some(bytes) = self.bytes_min {
            words.push(format!("at least {bytes} bytes"));
        }
        if let Some(bytes) = self.bytes_max {
            words.push(format!("at most {bytes} bytes"));
        }
        if let Some(site) = &self.site {
            words.push(format!("call sites with \"{}\"", site.text));
        }
        if let Some(kinds) = &self.kinds {
            let mut kinds: Vec<String> = kinds.iter().map(|k| format!("{k:?}")).collect();
            kinds.sort_unstable();
            words.push(format!("calls of {}", kinds.join(", ").to_lowercase()));
        }
        let not = if self.invert { "all but " } else { "" };
        format!("{not}{}", words.join("; "))
    }
}

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
    use crate::trace::{BlockId, Trace, testing};

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
