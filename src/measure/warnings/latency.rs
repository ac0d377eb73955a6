//! What a reader must know before believing latencies.

#![forbid(unsafe_code)]

use super::counted;
use crate::measure::latency::ALL_SIZES;
use crate::measure::results::{LatencyClock, LatencySample, Results};

/// Clock sources that are the time-stamp counter, by itself or as a hypervisor lends it.
const COUNTER_SOURCES: [&str; 4] = ["tsc", "kvm-clock", "hyperv_clocksource_tsc_page", "xen"];

/// One warning for each thing that is wrong with the clock.
pub(super) fn of(results: &Results) -> Vec<String> {
    let samples: Vec<&LatencySample> = results
        .samples
        .iter()
        .filter_map(|sample| sample.latency.as_ref())
        .collect();
    [
        no_counter(&samples),
        distrusted(results, &samples),
        backward(&samples),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn no_counter(samples: &[&LatencySample]) -> Option<String> {
    let slow = samples
        .iter()
        .filter(|sample| sample.clock == LatencyClock::Monotonic)
        .map(|sample| sample.clock_cost_ns)
        .filter(|cost| cost.is_finite())
        .max_by(f64::total_cmp)?;
    Some(format!(
        "Latencies were taken with CLOCK_MONOTONIC, since this processor does not promise a \
         time-stamp counter of one speed (CPUID: invariant TSC): a reading costs up to {slow:.0} ns, \
         and shorter differences mean nothing. Measure latencies on a machine that has one, or have \
         the virtual machine show it."
    ))
}

fn distrusted(results: &Results, samples: &[&LatencySample]) -> Option<String> {
    let uses_counter = |sample: &&LatencySample| sample.clock == LatencyClock::TimeStampCounter;
    if !samples.iter().any(uses_counter) {
        return None;
    }
    let mut sources = results
        .runs
        .iter()
        .filter_map(|run| run.environment.clock_source.as_deref());
    let other = sources.find(|source| !COUNTER_SOURCES.contains(source))?;
    Some(format!(
        "The kernel keeps time by {other}, not by the time-stamp counter that latencies were taken \
         with: it may have found the counters of the processors to disagree (see `dmesg`). Pin the \
         run to one processor (`taskset -c 1`), or doubt the latencies."
    ))
}

fn backward(samples: &[&LatencySample]) -> Option<String> {
    let backward: u64 = samples.iter().map(|sample| sample.backward).sum();
    if backward == 0 {
        return None;
    }
    let timed: u64 = samples
        .iter()
        .flat_map(|sample| &sample.rows)
        .filter(|row| row.size_class_bytes == ALL_SIZES)
        .map(|row| row.count)
        .sum();
    Some(format!(
        "{} of {} no latency, since the clock went backwards in them: the counters of two processors \
         disagree. Pin the run to one processor (`taskset -c 1`), or doubt the latencies.",
        backward,
        counted(timed + backward, "call has", "calls have")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(clock: LatencyClock, backward: u64) -> LatencySample {
        LatencySample {
            clock,
            clock_hertz: 1e9,
            clock_cost_ns: 321.4,
            clock_step_ns: 1.0,
            migrated: None,
            backward,
            rows: Vec::new(),
            worst: Vec::new(),
        }
    }

    #[test]
    fn a_clock_without_promise_is_told() {
        let (good, poor) = (
            sample(LatencyClock::TimeStampCounter, 0),
            sample(LatencyClock::Monotonic, 0),
        );
        assert_eq!(no_counter(&[&good]), None);
        let warning = no_counter(&[&good, &poor]).expect("a warning");
        assert!(warning.contains("CLOCK_MONOTONIC") && warning.contains("321 ns"));
    }

    #[test]
    fn backward_readings_are_told() {
        let (good, odd) = (
            sample(LatencyClock::TimeStampCounter, 0),
            sample(LatencyClock::TimeStampCounter, 7),
        );
        assert_eq!(backward(&[&good]), None);
        assert!(
            backward(&[&good, &odd])
                .expect("a warning")
                .starts_with("7 of 7 calls")
        );
    }
}
