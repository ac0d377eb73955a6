//! Copies one after another: what if the program runs for longer?

#![forbid(unsafe_code)]

use super::{EVENTS_MAX, LIVE_BYTES_MAX, refuse_beyond};
use crate::error::{Error, Result};
use crate::trace::stream::{BATCH_EVENTS, Batch, Ending, EventSink};
use crate::trace::tools::output::renamed;
use crate::trace::tools::survey::Survey;
use crate::trace::{BlockId, Event, Operation};

/// Passes a trace on that comes several times in a row. Its threads stay: they start in the first copy
/// and end in the last. Blocks that it never frees pile up. Times go on where the copy before ended. No
/// memory of its own.
pub struct Repeat<'s> {
    sink: &'s mut dyn EventSink,
    copies: u32,
    /// The copy that comes, from 0.
    copy: u32,
    /// Blocks of a copy.
    blocks: u32,
    /// From the begin of a copy to that of the next.
    period_ns: u64,
    batch: Batch,
}

impl<'s> Repeat<'s> {
    /// In front of `sink`, for copies of a trace of which a survey was made.
    ///
    /// # Errors
    /// The copies would have too many events or live bytes, or there are none.
    pub fn new(sink: &'s mut dyn EventSink, copies: u32, survey: &Survey) -> Result<Self> {
        if copies == 0 {
            return Err(Error::usage("0 copies are no trace"));
        }
        let profile = &survey.profile;
        let (counts, factor) = (profile.counts, u64::from(copies));
        let left = profile.live_bytes_end;
        refuse_beyond(
            copies,
            &[
                ("events", counts.total(), factor, EVENTS_MAX),
                ("live bytes at once", left, factor, LIVE_BYTES_MAX),
            ],
        )?;
        let blocks = counts.malloc + counts.calloc + counts.realloc + counts.aligned;
        let period_ns = survey
            .times_ns
            .map_or(0, |(first, last)| (last - first).saturating_add(1));
        Ok(Self {
            sink,
            copies,
            copy: 0,
            blocks: u32::try_from(blocks).map_err(|_| too_many())?,
            period_ns,
            batch: Batch::default(),
        })
    }

    /// The trace has come once more.
    pub fn next_copy(&mut self) {
        self.copy += 1;
    }

    fn is_kept(&self, operation: &Operation) -> bool {
        match operation {
            Operation::ThreadStart => self.copy == 0,
            Operation::ThreadEnd => self.copy + 1 == self.copies,
            _ => true,
        }
    }

    fn copied(&self, event: &Event) -> Result<Event> {
        let block = |block: BlockId| {
            let before = self.copy.checked_mul(self.blocks);
            let number = before.and_then(|before| before.checked_add(block.0));
            number.map(BlockId).ok_or_else(too_many)
        };
        let released = event.operation.releases().map(block).transpose()?;
        let allocated = event.operation.allocates().map(block).transpose()?;
        Ok(Event {
            operation: renamed(event.operation, released, allocated),
            ..*event
        })
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
        ending.origin.notes.push(format!(
            "repeated: {} copies of a trace in a row, on the same threads; what it never frees piles up",
            self.copies
        ));
        Ok(ending)
    }
}

fn too_many() -> Error {
    Error::Failed(format!(
        "the copies would have too many blocks: a trace holds at most {EVENTS_MAX} events"
    ))
}

impl EventSink for Repeat<'_> {
    fn take(&mut self, batch: &Batch) -> Result<()> {
        let shift_ns = u64::from(self.copy).saturating_mul(self.period_ns);
        for (at, event) in batch.events.iter().enumerate() {
            if !self.is_kept(&event.operation) {
                continue;
            }
            let event = self.copied(event)?;
            self.batch.events.push(event);
            let time_ns = batch.times_ns.get(at);
            let time_ns = time_ns.map(|time_ns| time_ns.saturating_add(shift_ns));
            self.batch.times_ns.extend(time_ns);
            self.batch.sites.extend(batch.sites.get(at));
            if self.batch.events.len() >= BATCH_EVENTS {
                self.flush()?;
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
    use crate::trace::profile::Profile;
    use crate::trace::stream::feed;
    use crate::trace::{Trace, testing};

    fn survey(trace: &Trace) -> Survey {
        let times = trace.times_ns().filter(|times| !times.is_empty());
        let ends = |times: &[u64]| (*times.iter().min().unwrap(), *times.iter().max().unwrap());
        Survey {
            profile: Profile::of(trace),
            ending: trace.ending(),
            times_ns: times.map(ends),
            has_sites: trace.sites().is_some(),
        }
    }

    fn repeated(trace: &Trace, copies: u32) -> Result<Trace> {
        // The builder refuses whatever is no trace: wrong numbers, frees of dead blocks.
        let mut builder = TraceBuilder::new(testing::origin());
        let mut repeat = Repeat::new(&mut builder, copies, &survey(trace))?;
        for _ in 0..copies {
            feed(trace, &mut repeat)?;
            repeat.next_copy();
        }
        let ending = repeat.finish(trace.ending())?;
        Ok(builder.finish_as(ending))
    }

    proptest! {
        #[test]
        fn copies_follow_each_other(trace in testing::rich_traces(60), copies in 1_u32..5) {
            let result = repeated(&trace, copies).expect("it is small");
            let is_frame = |event: &&Event| {
                matches!(event.operation, Operation::ThreadStart | Operation::ThreadEnd)
            };
            let frames = trace.events().iter().filter(is_frame).count();
            let events = trace.events().len() - frames;
            prop_assert_eq!(result.events().len(), events * copies as usize + frames);
            let sizes = |trace: &Trace| -> Vec<u64> {
                let operations = trace.events().iter().map(|event| event.operation);
                let made = operations.filter(|operation| operation.allocates().is_some());
                made.map(|operation| operation.requested_bytes()).collect()
            };
            prop_assert_eq!(sizes(&result), sizes(&trace).repeat(copies as usize));
            let (one, all) = (Profile::of(&trace), Profile::of(&result));
            let factor = u64::from(copies);
            prop_assert_eq!(all.live_bytes_end, one.live_bytes_end * factor);
            prop_assert_eq!(
                all.live_bytes_peak,
                one.live_bytes_end * (factor - 1) + one.live_bytes_peak.max(one.live_bytes_end)
            );
            prop_assert_eq!(all.cross_thread_frees, one.cross_thread_frees * factor);
            prop_assert_eq!(all.threads, one.threads);
            prop_assert_eq!(result.sites().is_some(), trace.sites().is_some());
            if let Some(times) = result.times_ns() {
                prop_assert!(times.is_sorted());
                let ends = |times: &[u64]| times.last().map_or(0, |last| last - times[0]);
                let one = ends(trace.times_ns().unwrap());
                prop_assert!(ends(times) <= (one + 1) * factor);
            }
        }
    }

    #[test]
    fn limits_are_told_before_anything_is_written() {
        let trace = testing::sawtooth(1000, 100);
        let told = |copies| repeated(&trace, copies).expect_err("too many").to_string();
        assert!(told(0).contains("no trace"));
        assert!(
            told(u32::MAX).contains("at most 4294967 copies"),
            "{}",
            told(u32::MAX)
        );
    }
}
