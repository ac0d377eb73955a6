//! Times of samples, and their ratios, block by block. Pure.
//!
//! Times are compared only inside a block of one run: elsewhere the machine may have been another, or
//! in another mood.
//!
//! What is compared is wall time where one thread replays, and CPU time where several do or a real
//! program runs: their wall time is mostly the waiting for one another, which the harness's hand-over
//! takes part in. It is told beside.

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};

use super::results::{Pass, Sample, Status};
use crate::statistics::{median, outlier_limits};

/// Which of the times of a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Heap {
    /// The first replay in the process; of a real program, CPU time of the whole run.
    Fresh,
    /// The median of the later replays.
    Used,
}

impl Heap {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Fresh, Self::Used];
}

/// A block: the index of its run, and its number in the run.
pub type BlockKey = (u32, u32);

/// The time that a sample shows: of replays on several threads the CPU time at the operations, see
/// [`SpeedSample::compared_ns`](super::results::SpeedSample::compared_ns). `None` if it was not taken for a time, or not ended well.
pub fn time_ns(sample: &Sample, heap: Heap) -> Option<f64> {
    if sample.status != Status::Ok {
        return None;
    }
    match (sample.pass, heap) {
        (Pass::Speed, Heap::Fresh) => Some(*sample.speed.as_ref()?.compared_ns().first()? as f64),
        (Pass::Speed, Heap::Used) => {
            let passes = sample.speed.as_ref()?.compared_ns().iter().skip(1);
            median(&passes.map(|ns| *ns as f64).collect::<Vec<f64>>())
        }
        (Pass::Program, Heap::Fresh) => {
            let program = sample.program.as_ref()?;
            Some((program.user_ns + program.system_ns) as f64)
        }
        _ => None,
    }
}

/// Times of one subject on one workload, by block.
pub fn times<'a>(
    samples: impl IntoIterator<Item = &'a Sample>,
    workload: &str,
    subject: &str,
    heap: Heap,
) -> BTreeMap<BlockKey, f64> {
    samples
        .into_iter()
        .filter(|sample| sample.subject == subject && sample.workload == workload)
        .filter_map(|sample| Some(((sample.run, sample.block), time_ns(sample, heap)?)))
        .collect()
}

/// Wall times of one subject's first replays on several threads, by block.
pub fn wall_times(samples: &[Sample], workload: &str, subject: &str) -> BTreeMap<BlockKey, f64> {
    samples
        .iter()
        .filter(|sample| sample.subject == subject && sample.workload == workload)
        .filter(|sample| sample.status == Status::Ok)
        .filter_map(|sample| {
            let wall_ns = sample.speed.as_ref()?.threaded_wall_ns()?;
            Some(((sample.run, sample.block), wall_ns as f64))
        })
        .collect()
}

/// The same, each run's by themselves, in the order of the runs; runs without any are left out.
pub fn ratios_by_run(
    own: &BTreeMap<BlockKey, f64>,
    other: &BTreeMap<BlockKey, f64>,
) -> BTreeMap<u32, Vec<f64>> {
    let mut runs: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
    for ((run, _), ratio) in paired(own, other) {
        runs.entry(run).or_default().push(ratio);
    }
    runs
}

/// Own times divided by the other's, for the blocks that have both, in their order.
pub fn ratios(own: &BTreeMap<BlockKey, f64>, other: &BTreeMap<BlockKey, f64>) -> Vec<f64> {
    paired(own, other).map(|(_, ratio)| ratio).collect()
}

fn paired(
    own: &BTreeMap<BlockKey, f64>,
    other: &BTreeMap<BlockKey, f64>,
) -> impl Iterator<Item = (BlockKey, f64)> {
    own.iter()
        .filter(|(_, ns)| **ns > 0.0)
        .filter_map(|(block, ns)| {
            let other = other.get(block).filter(|ns| **ns > 0.0)?;
            Some((*block, ns / other))
        })
}

/// Blocks whose time is far from those of the same run: elsewhere the machine may be another.
pub fn outliers(times: &BTreeMap<BlockKey, f64>) -> BTreeSet<BlockKey> {
    let mut far = BTreeSet::new();
    for one in runs(times) {
        let own: Vec<f64> = of_run(times, one).map(|(_, ns)| ns).collect();
        let Some((low, high)) = outlier_limits(&own) else {
            continue;
        };
        let is_far = |(_, ns): &(BlockKey, f64)| *ns < low || *ns > high;
        far.extend(of_run(times, one).filter(is_far).map(|(block, _)| block));
    }
    far
}

/// The runs that have times.
pub fn runs(times: &BTreeMap<BlockKey, f64>) -> BTreeSet<u32> {
    times.keys().map(|(run, _)| *run).collect()
}

/// The times of one run.
pub fn of_run(times: &BTreeMap<BlockKey, f64>, run: u32) -> impl Iterator<Item = (BlockKey, f64)> {
    let own = times.range((run, 0)..=(run, u32::MAX));
    own.map(|(block, ns)| (*block, *ns))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_machine_is_no_outlier() {
        let mut times: BTreeMap<BlockKey, f64> = BTreeMap::new();
        for block in 0..20 {
            times.insert((0, block), 100.0 + f64::from(block % 3));
            times.insert((1, block), 900.0 + f64::from(block % 3));
        }
        assert!(outliers(&times).is_empty());
        times.insert((1, 7), 1300.0);
        assert!(outliers(&times).into_iter().eq([(1, 7)]));
    }
}
