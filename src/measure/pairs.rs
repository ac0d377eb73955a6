//! Times of samples, and their ratios, block by block. Pure.
//!
//! Times are compared only inside a block of one run: elsewhere the machine may have been another, or
//! in another mood.
//!
//! What is compared is wall time where one thread replays, and CPU time where several do or a real
//! program runs: their wall time is mostly the waiting for one another, which the harness's hand-over
//! takes part in. It is told beside.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use super::results::{Pass, Sample, Status};
use crate::statistics::median;

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

/// Own times divided by the other's, for the blocks that have both, in their order.
pub fn ratios(own: &BTreeMap<BlockKey, f64>, other: &BTreeMap<BlockKey, f64>) -> Vec<f64> {
    own.iter()
        .filter(|(_, ns)| **ns > 0.0)
        .filter_map(|(block, ns)| Some(ns / other.get(block).filter(|ns| **ns > 0.0)?))
        .collect()
}
