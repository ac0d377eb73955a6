//! From what the children of the memory pass found to a sample: the allocator's memory alone.

use super::answer::{Answer, CURVE_LIMIT, STATE_DONE};
use super::latency;
use super::process::Ending;
use super::request::{Request, Work};
use super::session::{Child, Outcome, Session};
use crate::error::{Error, Result};
use crate::measure::memory::{allowed_difference_bytes, drift, mean_rss_bytes};
use crate::measure::results::{MemoryParts, MemoryPoint, MemorySample, Status};
use crate::replay::memory::MemoryOutcome;
use crate::replay::parts::PartsOutcome;
use crate::subject::version::VersionSource;
use crate::subject::{Access, Subject};

impl Session {
    /// What the children measured, less what is not the allocator's.
    pub(super) fn add_memory(
        &self,
        request: &Request<'_>,
        child: &Child,
        outcome: &mut Outcome,
    ) -> Result<()> {
        let answer = child.answer.get();
        let found = &answer.memory;
        let mut second = None;
        // A kernel's threads are its own: nobody can look between their operations.
        if !matches!(request.work, Work::Kernel(_)) {
            let peak = &found.peak;
            let new_bytes = peak.highest.held_bytes() - found.start.held_bytes();
            let commission = |answer: &mut Answer| {
                answer.commission.look_at = peak.operation;
                answer.commission.look_for_bytes = new_bytes;
            };
            second = self.explain(request, commission, outcome)?;
            if second.is_none() {
                return Ok(());
            }
        }
        let parts = second.as_ref().map(|child| &child.answer.get().parts);
        let parts = parts.filter(|parts| parts.is_known != 0);
        let rss_start_bytes = match &request.subject.access {
            // A preloaded allocator began to serve when the process began; what it took until now
            // is its own, less what the process takes without it.
            Access::Preloaded(_) => found
                .exact_start_bytes
                .saturating_sub(self.unloaded(request)?),
            // So did the C library's, whose heap has pages that the harness's own start touched:
            // those of them that the replay's blocks came to lie on are its own.
            _ => parts.map_or(0, |parts| parts.start.total_bytes()),
        };
        let mut sample = sample(answer, rss_start_bytes);
        sample.unmeasurable = unmeasurable(request, found, &sample, parts.is_some());
        sample.parts = parts.map(|parts| split(parts, rss_start_bytes));
        sample.system_calls = second
            .as_ref()
            .map(|child| &child.answer.get().parts)
            .filter(|parts| parts.are_system_calls_known != 0)
            .map(|parts| {
                let counts: Vec<[u64; 2]> = (0..)
                    .zip(parts.system_calls)
                    .map(|(number, count)| [number, count])
                    .collect();
                latency::names(&counts)
            });
        outcome.memory = (outcome.status == Status::Ok).then_some(sample);
        Ok(())
    }

    /// Memory of a child before its first operation when nothing is preloaded.
    fn unloaded(&self, request: &Request<'_>) -> Result<u64> {
        // It hangs on the work: the program's pointers, a kernel's plan.
        let work = match &request.work {
            Work::Program { path, .. } | Work::Threaded { path, .. } => {
                path.clone().into_os_string()
            }
            Work::Kernel(kernel) => kernel.to_string().into(),
        };
        if let Some(bytes) = self.unloaded_bytes.borrow().get(&work) {
            return Ok(*bytes);
        }
        let system = Subject {
            name: "system".to_owned(),
            description: String::new(),
            access: Access::System,
            environment: Default::default(),
            version: VersionSource::Probe,
        };
        let unloaded = Request {
            subject: &system,
            ..request.clone()
        };
        let child = self.run_child(&unloaded, |_| {})?;
        let answer = child.answer.get();
        if (child.finished.ending, answer.state) != (Ending::Exited(0), STATE_DONE) {
            return Err(Error::Failed(
                "the memory of a process without a preloaded allocator could not be measured: the \
                 C library's malloc did not complete the workload"
                    .to_owned(),
            ));
        }
        let bytes = answer.memory.exact_start_bytes;
        self.unloaded_bytes.borrow_mut().insert(work, bytes);
        Ok(bytes)
    }
}

/// What the first child alone tells.
fn sample(answer: &Answer, rss_start_bytes: u64) -> MemorySample {
    let found = &answer.memory;
    let start = &found.start;
    let own = |bytes: u64| bytes.saturating_sub(start.held_bytes()) + rss_start_bytes;
    let curve: Vec<MemoryPoint> = answer.curve[..(found.points as usize).min(CURVE_LIMIT)]
        .iter()
        .map(|point| MemoryPoint {
            operation: point.operation,
            elapsed_ns: point.elapsed_ns,
            live_bytes: point.live_bytes,
            usable_bytes: point.usable_bytes,
            rss_bytes: own(point.held_bytes),
        })
        .collect();
    let retained = |index: usize| {
        ((index as u64) < found.retained.count)
            .then(|| found.retained.bytes[index] + rss_start_bytes)
    };
    let highest = &found.peak.highest;
    let between_calls = own(highest.held_bytes());
    MemorySample {
        rss_start_bytes,
        rss_peak_bytes: between_calls.max(own(found.peak.at_most_bytes)),
        rss_peak_between_calls_bytes: between_calls,
        is_peak_of_every_moment: found.peak.sees_every_moment != 0,
        shared_bytes_at_peak: highest.shared_bytes.saturating_sub(start.shared_bytes),
        huge_bytes_at_peak: highest.huge_bytes.saturating_sub(start.huge_bytes),
        swapped_bytes_at_peak: highest.swapped_bytes.saturating_sub(start.swapped_bytes),
        counter_difference_bytes: found.check.difference_bytes(),
        rss_mean_bytes: mean_rss_bytes(&curve),
        rss_retained_bytes: retained(0).unwrap_or(rss_start_bytes),
        rss_retained_100ms_bytes: retained(1),
        rss_retained_1s_bytes: retained(2),
        live_bytes_peak: found.live_bytes_peak,
        usable_bytes_peak: found.usable_bytes_at_live_peak,
        live_page_bytes_peak: found.live_page_bytes_at_live_peak,
        drift: drift(&curve),
        replay_minor_faults: found.minor_faults,
        replay_major_faults: found.major_faults,
        curve,
        ..MemorySample::default()
    }
}

/// Why the allocator's memory is not known, if so: the replay wrote to every page of its blocks, and
/// less memory than that was found. It must lie where nobody looks: in a file, for instance. Nothing is
/// known of replays that leave pages alone as the program did.
fn unmeasurable(
    request: &Request<'_>,
    found: &MemoryOutcome,
    sample: &MemorySample,
    is_start_known: bool,
) -> Option<String> {
    if !request.touch.reaches_every_page() {
        return None;
    }
    let live_bytes = found.live_bytes_peak;
    let allowed = allowed_difference_bytes(live_bytes);
    // Blocks may lie on pages that were there before the start, or the peak between two samples.
    let start = if is_start_known {
        0
    } else {
        found.exact_start_bytes
    };
    let between = if sample.is_peak_of_every_moment {
        0
    } else {
        allowed
    };
    (live_bytes > sample.rss_peak_bytes + allowed + start + between).then(|| {
        format!(
            "its blocks took up {live_bytes} bytes that were written to, but only {} bytes of memory \
             were found: it keeps them in memory that is not counted, such as a file",
            sample.rss_peak_bytes
        )
    })
}

/// What RSS consists of, with what the allocator held at the start: of that, the pages on which blocks
/// of the replay lay are known, and the rest is taken for metadata.
fn split(found: &PartsOutcome, rss_start_bytes: u64) -> MemoryParts {
    let start = &found.start;
    MemoryParts {
        operation: found.operation,
        rss_bytes: found.held.total_bytes() + rss_start_bytes,
        counted_bytes: found.counted_bytes + rss_start_bytes,
        live_bytes: found.new.live_bytes + start.live_bytes,
        internal_bytes: found.new.internal_bytes + start.internal_bytes,
        external_bytes: found.new.external_bytes + start.external_bytes,
        metadata_bytes: found.new.metadata_bytes
            + rss_start_bytes.saturating_sub(start.total_bytes()),
    }
}
