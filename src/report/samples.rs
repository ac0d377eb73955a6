//! Single samples: their times beside the others' of the same subject, and what happened meanwhile.

#![forbid(unsafe_code)]

use super::model::Row;
use crate::measure::pairs::{Heap, time_ns};
use crate::measure::results::Sample;
use crate::statistics::{median, outlier_limits};

/// A sample with a time.
pub(crate) struct Timed<'a> {
    pub(crate) sample: &'a Sample,
    /// Place among the blocks, from 0: of one run its number, of several one after the other.
    pub(crate) place: usize,
    pub(crate) time_ns: f64,
    /// Time over the median of the subject's times.
    pub(crate) relative: f64,
    /// Whether its time is far from the others'.
    pub(crate) is_outlier: bool,
}

/// The samples of a subject that have a time, block by block.
pub(crate) fn timed<'a>(row: &Row<'a>) -> Vec<Timed<'a>> {
    let mut own: Vec<(&'a Sample, f64)> = row
        .samples
        .iter()
        .filter_map(|sample| Some((*sample, time_ns(sample, Heap::Fresh)?)))
        .collect();
    own.sort_by_key(|(sample, _)| (sample.run, sample.block));
    let times: Vec<f64> = own.iter().map(|(_, time)| *time).collect();
    let (Some(middle), Some((low, high))) = (median(&times), outlier_limits(&times)) else {
        return Vec::new();
    };
    own.into_iter()
        .enumerate()
        .map(|(place, (sample, time_ns))| Timed {
            sample,
            place,
            time_ns,
            relative: if middle > 0.0 { time_ns / middle } else { 1.0 },
            is_outlier: time_ns < low || time_ns > high,
        })
        .collect()
}
