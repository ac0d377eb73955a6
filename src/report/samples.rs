//! Single samples: their times beside the others' of the same subject and run, and what happened
//! meanwhile.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use super::model::Row;
use crate::measure::pairs::{BlockKey, Heap, of_run, outliers, runs, time_ns};
use crate::measure::results::{ReplayUsage, Sample};
use crate::statistics::median;

/// A sample with a time.
pub(crate) struct Timed<'a> {
    pub(crate) sample: &'a Sample,
    /// Place among the blocks, from 0: of one run its number, of several one after the other.
    pub(crate) place: usize,
    pub(crate) time_ns: f64,
    /// Time over the median of the subject's times in the same run.
    pub(crate) relative: f64,
    /// Whether its time is far from the others' of the same run.
    pub(crate) is_outlier: bool,
}

/// The samples of a subject that have a time on a heap, block by block.
pub(crate) fn timed<'a>(row: &Row<'a>, heap: Heap) -> Vec<Timed<'a>> {
    let mut own: Vec<(BlockKey, &'a Sample, f64)> = row
        .samples
        .iter()
        .filter_map(|sample| Some(((sample.run, sample.block), *sample, time_ns(sample, heap)?)))
        .collect();
    own.sort_by_key(|(block, ..)| *block);
    let times: BTreeMap<BlockKey, f64> = own.iter().map(|(block, _, ns)| (*block, *ns)).collect();
    let far = outliers(&times);
    let middle = |run: u32| {
        let own: Vec<f64> = of_run(&times, run).map(|(_, ns)| ns).collect();
        Some((run, median(&own).filter(|ns| *ns > 0.0)?))
    };
    let middles: BTreeMap<u32, f64> = runs(&times).into_iter().filter_map(middle).collect();
    own.into_iter()
        .enumerate()
        .map(|(place, (block, sample, time_ns))| Timed {
            sample,
            place,
            time_ns,
            relative: middles.get(&block.0).map_or(1.0, |middle| time_ns / middle),
            is_outlier: far.contains(&block),
        })
        .collect()
}

/// What the system did during the replays that a time is of: the first, or all later ones. Of a real
/// program, and of files that do not tell it by replay, during the whole sample.
pub(crate) fn usage(sample: &Sample, heap: Heap) -> ReplayUsage {
    let replays = sample.speed.as_ref().map_or(&[][..], |speed| &speed.usage);
    let (first, later) = replays.split_at(replays.len().min(1));
    match (replays.is_empty(), heap) {
        (true, _) => ReplayUsage {
            minor_faults: sample.minor_faults,
            major_faults: sample.major_faults,
            involuntary_switches: sample.involuntary_switches,
            voluntary_switches: sample.voluntary_switches,
        },
        (false, Heap::Fresh) => sum(first),
        (false, Heap::Used) => sum(later),
    }
}

fn sum(replays: &[ReplayUsage]) -> ReplayUsage {
    let of = |value: fn(&ReplayUsage) -> u64| replays.iter().map(value).sum();
    ReplayUsage {
        minor_faults: of(|one| one.minor_faults),
        major_faults: of(|one| one.major_faults),
        involuntary_switches: of(|one| one.involuntary_switches),
        voluntary_switches: of(|one| one.voluntary_switches),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::results::{Pass, SpeedSample};

    #[test]
    fn what_happened_is_that_of_the_replays_concerned() {
        let mut sample = Sample::untaken("w", "s", Pass::Speed, 0);
        sample.minor_faults = 1000;
        assert_eq!(usage(&sample, Heap::Used).minor_faults, 1000);
        let replay = |minor_faults| ReplayUsage {
            minor_faults,
            ..ReplayUsage::default()
        };
        sample.speed = Some(SpeedSample {
            usage: vec![replay(7), replay(20), replay(3)],
            ..SpeedSample::default()
        });
        assert_eq!(usage(&sample, Heap::Fresh).minor_faults, 7);
        assert_eq!(usage(&sample, Heap::Used).minor_faults, 23);
    }
}
