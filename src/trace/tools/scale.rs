//! `scale`: several copies of a trace at once, to ask what happens if load grows.
//!
//! Interleaved, every thread of the program exists N times, each copy with threads and blocks of its
//! own: event by event, the copies take turns. Stretched, the threads stay and each does everything N
//! times in a row: N blocks where there was one. Both keep the order and the proportions of the
//! original; the copies are in the same phase at the same moment, which for peaks is the worst case.
//! Repeated, the copies come one after another ([`Repeat`]).

#![forbid(unsafe_code)]

mod repeat;

pub use repeat::Repeat;

use super::output::renamed;
use crate::error::{Error, Result};
use crate::trace::profile::Profile;
use crate::trace::stream::{BATCH_EVENTS, Batch, Ending, EventSink};
use crate::trace::{BlockId, Event, Operation, ThreadIndex};

/// How copies lie beside each other.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// On threads of their own.
    Interleave,
    /// On the same threads.
    Stretch,
}

/// Events of a trace, which has 32-bit numbers for blocks.
const EVENTS_MAX: u64 = u32::MAX as u64 - 2;

/// Threads at once: each is a real one during replay.
const THREADS_MAX: u64 = 10_000;

/// Live bytes at once: the addresses of a process.
const LIVE_BYTES_MAX: u64 = 1 << 46;

/// Whether so many copies can be made.
///
/// # Errors
/// The copies would have too many events, threads or live bytes, or there are none.
pub fn check(profile: &Profile, copies: u32, mode: Mode) -> Result<()> {
    if copies == 0 {
        return Err(Error::usage("0 copies are no trace"));
    }
    let threads = match mode {
        Mode::Interleave => u64::from(copies),
        Mode::Stretch => 1,
    };
    let factor = u64::from(copies);
    let (events, alive) = (profile.counts.total(), profile.threads_alive_peak);
    refuse_beyond(
        copies,
        &[
            ("events", events, factor, EVENTS_MAX),
            ("threads at once", alive.into(), threads, THREADS_MAX),
            (
                "live bytes at once",
                profile.live_bytes_peak,
                factor,
                LIVE_BYTES_MAX,
            ),
        ],
    )
}

/// Refuses a figure of one copy that, times a factor, would be beyond a limit.
fn refuse_beyond(copies: u32, figures: &[(&str, u64, u64, u64)]) -> Result<()> {
    for &(what, one, factor, limit) in figures {
        if one.saturating_mul(factor) > limit {
            return Err(Error::usage(format!(
                "{copies} copies would have {one} x {factor} {what}, and the limit is {limit}; at most \
                 {} copies are possible",
                (limit / one.max(1)).min(u64::from(u32::MAX))
            )));
        }
    }
    Ok(())
}

/// Multiplies a trace that passes, whose copies lie side by side. No memory of its own: blocks, threads and events get their numbers
/// by arithmetic.
pub struct Scale<'s> {
    sink: &'s mut dyn EventSink,
    copies: u32,
    mode: Mode,
    batch: Batch,
}

impl<'s> Scale<'s> {
    /// In front of `sink`. The trace must pass [`check`]. To repeat it, see [`Repeat`].
    pub fn new(sink: &'s mut dyn EventSink, copies: u32, mode: Mode) -> Self {
        Self {
            sink,
            copies,
            mode,
            batch: Batch::default(),
        }
    }

    /// Copies of this event.
    fn repeats(&self, operation: &Operation) -> u32 {
        let is_of_thread = matches!(
            operation,
            Operation::ThreadStart | Operation::ThreadEnd | Operation::Mark
        );
        match self.mode {
            Mode::Stretch if is_of_thread => 1,
            _ => self.copies,
        }
    }

    fn copy(&self, event: &Event, copy: u32) -> Result<Event> {
        let number = |n: u32| {
            n.checked_mul(self.copies)
                .and_then(|n| n.checked_add(copy))
                .ok_or_else(|| Error::Failed("the copies would have too many blocks".to_owned()))
        };
        let block = |block: BlockId| number(block.0).map(BlockId);
        let operation = renamed(
            event.operation,
            event.operation.releases().map(block).transpose()?,
            event.operation.allocates().map(block).transpose()?,
        );
        let thread = match self.mode {
            Mode::Interleave => ThreadIndex(number(event.thread.0)?),
            Mode::Stretch => event.thread,
        };
        Ok(Event { thread, operation })
    }

    fn flush(&mut self) -> Result<()> {
        if !self.batch.events.is_empty() {
            self.sink.take(&self.batch)?;
            self.batch.clear();
        }
        Ok(())
    }

    /// Ends the trace.
    ///
    /// # Errors
    /// Those of the sink.
    pub fn finish(mut self, mut ending: Ending) -> Result<Ending> {
        self.flush()?;
        let copies = self.copies;
        ending.origin.notes.push(match self.mode {
            Mode::Interleave => format!(
                "scaled: {copies} copies of a trace at once, on threads of their own, event by event in turn"
            ),
            Mode::Stretch => format!(
                "scaled: every call of a trace {copies} times in a row, on its thread, with a block each"
            ),
        });
        Ok(ending)
    }
}

impl EventSink for Scale<'_> {
    fn take(&mut self, batch: &Batch) -> Result<()> {
        for (at, event) in batch.events.iter().enumerate() {
            for copy in 0..self.repeats(&event.operation) {
                let event = self.copy(event, copy)?;
                self.batch.events.push(event);
                self.batch.times_ns.extend(batch.times_ns.get(at));
                self.batch.sites.extend(batch.sites.get(at));
                if self.batch.events.len() >= BATCH_EVENTS {
                    self.flush()?;
                }
            }
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
    use crate::trace::{Trace, testing};

    fn scaled(trace: &Trace, copies: u32, mode: Mode) -> Trace {
        // The builder refuses whatever is no trace: wrong numbers, frees of dead blocks.
        let mut builder = TraceBuilder::new(testing::origin());
        let mut scale = Scale::new(&mut builder, copies, mode);
        feed(trace, &mut scale).expect("memory takes all");
        let ending = scale.finish(Ending {
            origin: testing::origin(),
            site_names: trace.site_names().to_vec(),
        });
        builder.finish_as(ending.expect("memory takes all"))
    }

    /// What each copy did, with its own numbers.
    fn copy_of(trace: &Trace, copies: u32, copy: u32, mode: Mode) -> Vec<Event> {
        let own = |number: u32| number / copies;
        let mut turn = 0;
        let mut events = Vec::new();
        for event in trace.events() {
            let is_single = mode == Mode::Stretch
                && matches!(
                    event.operation,
                    Operation::ThreadStart | Operation::ThreadEnd | Operation::Mark
                );
            let of = if is_single { copy } else { turn };
            if !is_single {
                turn = (turn + 1) % copies;
            }
            if of == copy {
                let block = |block: BlockId| BlockId(own(block.0));
                events.push(Event {
                    thread: match mode {
                        Mode::Interleave => ThreadIndex(own(event.thread.0)),
                        Mode::Stretch => event.thread,
                    },
                    operation: renamed(
                        event.operation,
                        event.operation.releases().map(block),
                        event.operation.allocates().map(block),
                    ),
                });
            }
        }
        events
    }

    proptest! {
        #[test]
        fn every_copy_is_the_original(trace in testing::rich_traces(60), copies in 1_u32..5, stretch in any::<bool>()) {
            let mode = if stretch { Mode::Stretch } else { Mode::Interleave };
            let result = scaled(&trace, copies, mode);
            for copy in 0..copies {
                prop_assert_eq!(&copy_of(&result, copies, copy, mode)[..], trace.events());
            }
            let (one, all) = (Profile::of(&trace), Profile::of(&result));
            let factor = u64::from(copies);
            prop_assert_eq!(all.live_bytes_end, one.live_bytes_end * factor);
            prop_assert_eq!(all.requested_bytes, one.requested_bytes * factor);
            prop_assert_eq!(all.cross_thread_frees, one.cross_thread_frees * factor);
            let threads = if stretch { 1 } else { copies };
            prop_assert_eq!(all.threads, one.threads * threads);
            prop_assert_eq!(result.times_ns().is_some(), trace.times_ns().is_some());
            prop_assert_eq!(result.sites().is_some(), trace.sites().is_some());
        }
    }

    #[test]
    fn limits_are_told_before_anything_is_written() {
        let profile = Profile::of(&testing::sawtooth(1000, 100));
        assert!(check(&profile, 8, Mode::Interleave).is_ok());
        let told = |copies, mode| {
            check(&profile, copies, mode)
                .expect_err("too many")
                .to_string()
        };
        assert!(told(0, Mode::Stretch).contains("no trace"));
        assert!(told(10_001, Mode::Interleave).contains("at most 10000 copies"));
        assert!(check(&profile, 10_001, Mode::Stretch).is_ok());
        assert!(told(u32::MAX, Mode::Stretch).contains("events"));
        let large = Profile {
            live_bytes_peak: 1 << 44,
            ..profile
        };
        assert!(check(&large, 4, Mode::Stretch).is_ok());
        let error = check(&large, 5, Mode::Stretch).expect_err("too large");
        assert!(error.to_string().contains("at most 4 copies"), "{error}");
    }
}
