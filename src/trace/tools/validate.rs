//! `validate`: what of a trace holds, and what does not.

#![forbid(unsafe_code)]

use std::path::Path;

use crate::error::{Error, Result};
use crate::trace::binary::Chunks;
use crate::trace::profile::{Profile, Profiler};
use crate::trace::stream::{Batch, Ending, EventSink};
use crate::trace::{Format, ReadOptions, SiteId, plural, read_into};

use super::guarantees::Guarantees;

/// What was found.
#[derive(Debug)]
pub struct Validation {
    /// What the events that could be read are like: all of them, or those before the first fault.
    pub profile: Profile,
    /// Where it came from, if it could be read to its end.
    pub ending: Option<Ending>,
    /// Events with a time stamp.
    pub stamped: u64,
    /// Events stamped earlier than one before them. Not a fault: the calls of threads overlap.
    pub times_backwards: u64,
    /// Events with a call site.
    pub sited: u64,
    /// Chunks of a plain file in the binary format: each was found where the index says, its checksum
    /// matched, and all of it was decoded.
    pub chunks: Option<u64>,
    /// Why it is not whole and right, each a sentence; none if it is.
    pub faults: Vec<String>,
}

impl Validation {
    /// Whether everything holds.
    pub fn is_valid(&self) -> bool {
        self.faults.is_empty()
    }
}

/// Reads a trace to its end, or to its first fault, and checks it against what a trace guarantees.
///
/// # Errors
/// Only what is no fault of the trace: the file cannot be opened, a wrong option, an interrupt.
pub fn validate(path: &Path, options: &ReadOptions) -> Result<Validation> {
    let mut found = validate_read(|sink| read_into(path, options, sink))?;
    found.chunks = chunks(path, &mut found);
    Ok(found)
}

/// The same for whatever `read` hands on.
///
/// # Errors
/// As [`validate`].
pub fn validate_read(
    read: impl FnOnce(&mut dyn EventSink) -> Result<Ending>,
) -> Result<Validation> {
    let mut checker = Checker::default();
    let ending = match read(&mut checker) {
        Ok(ending) => Some(ending),
        Err(error @ (Error::Usage(_) | Error::Interrupted | Error::Io { .. })) => {
            return Err(error);
        }
        Err(error) => {
            // A fault found by the checker ended the reading, and is told already.
            if checker.faults.is_empty() {
                checker.faults.push(error.to_string());
            }
            None
        }
    };
    Ok(checker.finish(ending))
}

/// Enters the chunks of a binary file by its index, which reading from front to back has compared with
/// what it found.
fn chunks(path: &Path, found: &mut Validation) -> Option<u64> {
    let origin = &found.ending.as_ref()?.origin;
    if origin.format != Format::Binary || !origin.compression.is_empty() || !path.is_file() {
        return None;
    }
    match Chunks::open(path, &ReadOptions::default()) {
        Ok(chunks) => Some(chunks.places().len() as u64),
        Err(error) => {
            found.faults.push(error.to_string());
            None
        }
    }
}

/// Checks what readers guarantee, so that a fault of a reader is told instead of believed.
struct Checker {
    profiler: Profiler,
    guarantees: Guarantees,
    last_ns: u64,
    times_backwards: u64,
    faults: Vec<String>,
}

impl Default for Checker {
    fn default() -> Self {
        Self {
            profiler: Profiler::new(),
            guarantees: Guarantees::new(),
            last_ns: 0,
            times_backwards: 0,
            faults: Vec::new(),
        }
    }
}

impl Checker {
    fn finish(mut self, ending: Option<Ending>) -> Validation {
        self.faults.extend(self.guarantees.incomplete());
        if let Some(ending) = &ending {
            self.faults.extend(ending.origin.warnings.iter().cloned());
            if ending.origin.dropped_lines > 0 {
                let lines = plural(ending.origin.dropped_lines, "line");
                self.faults.push(format!("{lines} cannot be used"));
                self.faults
                    .extend(ending.origin.dropped_examples.iter().cloned());
            }
            if let Some(recording) = &ending.origin.recording
                && recording.lost_events > 0
            {
                let lost = plural(recording.lost_events, "event");
                self.faults.push(format!("{lost} of the recording lost"));
            }
        }
        Validation {
            profile: self.profiler.finish(),
            ending,
            stamped: self.guarantees.stamped(),
            times_backwards: self.times_backwards,
            sited: self.guarantees.sited(),
            chunks: None,
            faults: self.faults,
        }
    }
}

impl EventSink for Checker {
    fn take(&mut self, batch: &Batch) -> Result<()> {
        let before = self.guarantees.events();
        let checked = self.guarantees.take(batch);
        // What stands before a fault is profiled all the same.
        let passed = usize::try_from(self.guarantees.events() - before);
        for event in &batch.events[..passed.expect("of a batch")] {
            self.profiler.step(event, SiteId::default());
        }
        if let Err(error) = checked {
            self.faults.push(error.to_string());
            return Err(error);
        }
        for &time_ns in &batch.times_ns {
            self.times_backwards += u64::from(time_ns < self.last_ns);
            self.last_ns = self.last_ns.max(time_ns);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::trace::{BlockId, Event, Operation, ThreadIndex, testing};

    fn batch(events: &[Event]) -> Batch {
        Batch {
            events: events.to_vec(),
            ..Batch::default()
        }
    }

    proptest! {
        #[test]
        fn every_trace_is_valid(trace in testing::rich_traces(100)) {
            let mut checker = Checker::default();
            testing::feed(&trace, 9, &mut checker);
            let found = checker.finish(Some(Ending {
                origin: testing::origin(),
                site_names: trace.site_names().to_vec(),
            }));
            prop_assert_eq!(&found.faults, &Vec::<String>::new());
            prop_assert_eq!(found.profile, Profile::of(&trace));
        }
    }

    #[test]
    fn what_a_reader_must_not_do_is_found() {
        let event = |thread, operation| Event {
            thread: ThreadIndex(thread),
            operation,
        };
        let malloc = |block| Operation::Malloc {
            block: BlockId(block),
            size: 1,
        };
        let free = |block| Operation::Free {
            block: BlockId(block),
            sized: false,
        };
        for (events, fault) in [
            (
                vec![event(1, malloc(0))],
                "event 0: thread 1 appears before thread 0",
            ),
            (
                vec![event(0, malloc(1))],
                "event 0: block 1 is out of order",
            ),
            (
                vec![event(0, free(0))],
                "event 0: block 0 is released and not live",
            ),
            (
                vec![event(0, malloc(0)), event(0, free(0)), event(0, free(0))],
                "event 2: block 0 is released and not live",
            ),
        ] {
            let mut checker = Checker::default();
            assert!(checker.take(&batch(&events)).is_err());
            assert_eq!(checker.finish(None).faults, [fault]);
        }
    }

    #[test]
    fn stamps_and_sites_must_be_complete() {
        let mut checker = Checker::default();
        let mark = Event {
            thread: ThreadIndex(0),
            operation: Operation::Mark,
        };
        let sited = Batch {
            events: vec![mark],
            times_ns: vec![7],
            sites: vec![crate::trace::SiteId(3)],
        };
        checker.take(&sited).expect("a mark breaks no rule");
        checker.take(&batch(&[mark])).expect("likewise");
        let mut origin = testing::origin();
        origin.warnings.push("it is truncated".to_owned());
        let faults = checker
            .finish(Some(Ending {
                origin,
                site_names: Vec::new(),
            }))
            .faults;
        assert_eq!(
            faults,
            [
                "1 of 2 events have a time stamp; all must, or none",
                "1 of 2 events have a call site; all must, or none",
                "it is truncated",
            ]
        );
    }
}
