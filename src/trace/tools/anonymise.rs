//! `anonymise`: the same trace without anything that names its origin, so that it can be shared.
//!
//! What remains: the calls in their order, block by block, with their threads and call sites as bare
//! numbers in the order of their first appearance, as reading numbers them; so there is no order of
//! threads left to shuffle. Addresses never get this far. What goes: the program, its arguments, paths,
//! process numbers, dates, versions, names of call sites, the file's name and checksum, and every
//! sentence about it, since a sentence may name anything. Sizes are rounded if asked: they can tell
//! what was allocated. Times are left out, or coarsened.

#![forbid(unsafe_code)]

use rustc_hash::FxHashMap;

use super::output::{Extras, Numbers, Output, events};
use super::size_classes;
use crate::error::Result;
use crate::trace::stream::{Batch, Ending, EventSink};
use crate::trace::{Event, EventCounts, Operation, Origin, Recording, SiteId, plural};

/// How sizes leave.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Sizes {
    /// As they are.
    #[default]
    Exact,
    /// Up to the next multiple; positive.
    Multiple(u64),
    /// Up to the largest size of their class in [`size_classes`].
    Classes,
}

impl Sizes {
    /// A size rounded up; 0 stays 0, and the largest classes stay within the address space.
    fn round(self, bytes: u64) -> u64 {
        /// Readers refuse what is larger.
        const SIZE_BYTES_MAX: u64 = 1 << 47;
        let rounded = match self {
            _ if bytes == 0 => 0,
            Self::Exact => bytes,
            Self::Multiple(step) => bytes.checked_next_multiple_of(step.max(1)).unwrap_or(bytes),
            Self::Classes => size_classes::bounds(size_classes::of(bytes)).1,
        };
        if rounded > SIZE_BYTES_MAX {
            bytes
        } else {
            rounded
        }
    }
}

/// How times leave.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Times {
    /// Not at all.
    #[default]
    Drop,
    /// Since the first event, down to the next multiple; positive.
    Coarsen {
        /// The multiple, in nanoseconds.
        step_ns: u64,
    },
}

/// Passes a trace on without its names. Memory: as numbering blocks anew takes, and an entry per
/// call site.
pub struct Anonymise<'s> {
    output: Output<'s>,
    numbers: Numbers,
    sizes: Sizes,
    times: Times,
    begin_ns: Option<u64>,
    /// New number of each call site; 0, which means unknown, stays.
    sites: FxHashMap<u32, u32>,
    has_sites: bool,
}

impl<'s> Anonymise<'s> {
    /// In front of `sink`.
    pub fn new(sink: &'s mut dyn EventSink, sizes: Sizes, times: Times) -> Self {
        Self {
            output: Output::new(sink),
            numbers: Numbers::default(),
            sizes,
            times,
            begin_ns: None,
            sites: FxHashMap::default(),
            has_sites: false,
        }
    }

    /// Events handed on so far, by kind.
    pub fn counts(&self) -> &EventCounts {
        self.output.counts()
    }

    fn step(&mut self, event: Event, extras: Extras) -> Result<()> {
        let extras = Extras {
            time_ns: extras.time_ns.and_then(|time_ns| self.time(time_ns)),
            site: extras.site.map(|site| self.site(site)),
        };
        let operation = self.rounded(event.operation);
        let event = Event { operation, ..event };
        self.output.pass(&mut self.numbers, event, extras)?;
        Ok(())
    }

    fn time(&mut self, time_ns: u64) -> Option<u64> {
        let begin_ns = *self.begin_ns.get_or_insert(time_ns);
        match self.times {
            Times::Drop => None,
            Times::Coarsen { step_ns } => {
                let since_ns = time_ns.saturating_sub(begin_ns);
                Some(since_ns - since_ns % step_ns.max(1))
            }
        }
    }

    fn site(&mut self, site: SiteId) -> SiteId {
        self.has_sites = true;
        if site == SiteId::default() {
            return site;
        }
        let next = self.sites_seen() + 1;
        SiteId(*self.sites.entry(site.0).or_insert(next))
    }

    fn sites_seen(&self) -> u32 {
        u32::try_from(self.sites.len()).expect("sites have 32-bit numbers")
    }

    fn rounded(&self, operation: Operation) -> Operation {
        if self.sizes == Sizes::Exact {
            return operation;
        }
        let bytes = self.sizes.round(operation.requested_bytes());
        match operation {
            Operation::Malloc { block, .. } => Operation::Malloc { block, size: bytes },
            // The size of an element tells as much as the whole.
            Operation::Calloc { block, .. } => Operation::Calloc {
                block,
                count: 1,
                size: bytes,
            },
            Operation::Aligned {
                block,
                alignment_log2,
                function,
                ..
            } => Operation::Aligned {
                block,
                alignment_log2,
                function,
                size: bytes,
            },
            Operation::Realloc { old, block, .. } => Operation::Realloc {
                old,
                block,
                size: bytes,
            },
            other => other,
        }
    }

    /// Ends the trace.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn finish(mut self, ending: &Ending) -> Result<Ending> {
        self.output.flush()?;
        let site_names = if self.has_sites {
            let numbered = (1..=self.sites_seen()).map(|number| format!("site {number}"));
            std::iter::once("unknown".to_owned())
                .chain(numbered)
                .collect()
        } else {
            Vec::new()
        };
        Ok(Ending {
            origin: self.origin(&ending.origin),
            site_names,
        })
    }

    fn origin(&self, original: &Origin) -> Origin {
        let sizes = match self.sizes {
            Sizes::Exact => "sizes are exact".to_owned(),
            Sizes::Multiple(step) => format!("sizes were rounded up to multiples of {step} bytes"),
            Sizes::Classes => "sizes were rounded up to size classes".to_owned(),
        };
        let times = match self.times {
            Times::Drop => "times were left out".to_owned(),
            Times::Coarsen { step_ns } => format!("times are multiples of {step_ns} ns"),
        };
        let mut origin = Origin::generated("anonymised", Vec::new());
        origin.format = original.format;
        origin.dropped_lines = original.dropped_lines;
        origin
            .notes
            .push(format!("anonymised: names were left out, {sizes}, {times}"));
        // Their number is told, so that nobody takes a damaged recording for a whole one.
        let (notes, warnings) = (original.notes.len() as u64, original.warnings.len() as u64);
        if notes > 0 {
            let told = plural(notes, "note");
            origin
                .notes
                .push(format!("{told} of the original left out"));
        }
        if warnings > 0 {
            let told = plural(warnings, "warning");
            origin.warnings.push(format!(
                "{told} of the original left out: it was truncated, altered, or read otherwise than it stands"
            ));
        }
        origin.recording = original.recording.as_ref().map(anonymous);
        origin
    }
}

/// What of a recording is a bare count.
fn anonymous(recording: &Recording) -> Recording {
    Recording {
        page_bytes: recording.page_bytes,
        unrecorded_calls: recording.unrecorded_calls,
        lost_events: recording.lost_events,
        usable_size_calls: recording.usable_size_calls,
        stopped: recording
            .stopped
            .as_ref()
            .map(|_| "before the program ended".to_owned()),
        overhead_ps_per_operation: recording.overhead_ps_per_operation,
        touched: recording.touched.clone(),
        ..Recording::default()
    }
}

impl EventSink for Anonymise<'_> {
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
    use crate::trace::{Format, TouchedBlocks, Trace, testing};

    const TOUCHED: TouchedBlocks = TouchedBlocks {
        from_bytes: 16_384,
        pages: 9,
        touched_pages: 2,
    };

    fn anonymised(trace: &Trace, origin: Origin, sizes: Sizes, times: Times) -> Trace {
        let mut builder = TraceBuilder::new(testing::origin());
        let mut anonymise = Anonymise::new(&mut builder, sizes, times);
        feed(trace, &mut anonymise).expect("memory takes all");
        let ending = Ending {
            origin,
            site_names: trace.site_names().to_vec(),
        };
        let ending = anonymise.finish(&ending).expect("memory takes all");
        builder.finish_as(ending)
    }

    /// An origin in which every text says "secret".
    fn telling() -> Origin {
        let secret = || "secret".to_owned();
        Origin {
            source: secret(),
            format: Format::Binary,
            compression: vec![secret()],
            sha256: secret(),
            dropped_lines: 3,
            dropped_examples: vec![secret()],
            notes: vec![secret(), secret()],
            warnings: vec![secret()],
            recording: Some(Recording {
                recorder: secret(),
                program: secret(),
                arguments: vec![secret()],
                process: 77_777,
                parent: 77_777,
                began: secret(),
                wall_ns: 77_777,
                ended: secret(),
                allocator: secret(),
                c_library: secret(),
                page_bytes: 4096,
                unrecorded_calls: 5,
                lost_events: 6,
                usable_size_calls: 7,
                stopped: Some(secret()),
                overhead_ps_per_operation: Some(8),
                cpu_ns: Some(77_777),
                touched: vec![TOUCHED],
            }),
        }
    }

    proptest! {
        #[test]
        fn nothing_of_the_origin_is_left_and_the_calls_are(trace in testing::rich_traces(80)) {
            let result = anonymised(&trace, telling(), Sizes::Exact, Times::Drop);
            prop_assert_eq!(result.events(), trace.events());
            prop_assert_eq!(result.times_ns(), None);
            let text = format!("{:?} {:?}", result.origin(), result.site_names());
            prop_assert!(!text.contains("secret") && !text.contains("77777"), "{text}");
            let recording = result.origin().recording.as_ref().expect("there was one");
            prop_assert_eq!(recording.lost_events, 6);
            prop_assert_eq!(recording.unrecorded_calls, 5);
            prop_assert!(recording.stopped.is_some());
            prop_assert_eq!(&recording.touched, &[TOUCHED]);
            prop_assert_eq!(result.origin().dropped_lines, 3);
            prop_assert_eq!(result.origin().warnings.len(), 1);
            // The same call sites are the same still, and different ones different.
            let (Some(old), Some(new)) = (trace.sites(), result.sites()) else {
                prop_assert!(trace.sites().is_none() && result.sites().is_none());
                return Ok(());
            };
            for (a, b) in (0..old.len()).flat_map(|a| (0..a).map(move |b| (a, b))) {
                prop_assert_eq!(old[a] == old[b], new[a] == new[b]);
            }
            for site in new {
                prop_assert!((site.0 as usize) < result.site_names().len());
            }
        }

        #[test]
        fn sizes_and_times_are_rounded(
            trace in testing::rich_traces(80),
            step in 1_u64..100,
            in_classes in any::<bool>(),
        ) {
            let sizes = if in_classes { Sizes::Classes } else { Sizes::Multiple(step) };
            let times = Times::Coarsen { step_ns: step };
            let result = anonymised(&trace, testing::origin(), sizes, times);
            for (new, old) in result.events().iter().zip(trace.events()) {
                let (new, old) = (new.operation, old.operation);
                let (bytes, exact) = (new.requested_bytes(), old.requested_bytes());
                prop_assert!(bytes >= exact);
                match sizes {
                    _ if exact == 0 => prop_assert_eq!(bytes, 0),
                    Sizes::Multiple(step) => {
                        prop_assert!(bytes.is_multiple_of(step) && bytes - exact < step);
                    }
                    _ => prop_assert_eq!(size_classes::of(bytes), size_classes::of(exact)),
                }
                prop_assert_eq!(std::mem::discriminant(&new), std::mem::discriminant(&old));
                prop_assert_eq!(new.releases(), old.releases());
            }
            if let (Some(new), Some(old)) = (result.times_ns(), trace.times_ns()) {
                for (new, old) in new.iter().zip(old) {
                    prop_assert_eq!(*new, (old - trace.times_ns().unwrap()[0]) / step * step);
                }
            }
        }
    }
}
