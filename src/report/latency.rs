//! Latencies of the latency pass, by kind of operation: what tables and charts of them show.

#![forbid(unsafe_code)]

use super::model::{Row, Workload};
use crate::measure::results::{LatencyRow, LatencySample, Status};

/// A kind of operation, of blocks of its own thread or another's.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Operation {
    /// "malloc", "free", "calloc", "realloc", "aligned"
    pub(crate) name: String,
    pub(crate) other_thread: bool,
}

impl Operation {
    fn of(row: &LatencyRow) -> Self {
        Self {
            name: row.operation.clone(),
            other_thread: row.other_thread,
        }
    }

    /// `free`, or `free of another thread's blocks`.
    pub(crate) fn words(&self) -> String {
        let name = match self.name.as_str() {
            "aligned" => "aligned allocation",
            name => name,
        };
        if self.other_thread {
            format!("{name} of another thread's blocks")
        } else {
            name.to_owned()
        }
    }
}

/// Names of the percentiles, in order.
pub(crate) const PERCENTILES: [&str; 6] = ["p50", "p90", "p99", "p99.9", "p99.99", "max"];

/// The percentiles of a row with their names, in nanoseconds.
pub(crate) fn percentiles(row: &LatencyRow) -> [(&'static str, u64); 6] {
    let values = [
        row.p50_ns,
        row.p90_ns,
        row.p99_ns,
        row.p99_9_ns,
        row.p99_99_ns,
        row.max_ns,
    ];
    std::array::from_fn(|at| (PERCENTILES[at], values[at]))
}

/// The kinds of operation that any subject has latencies of, in the order in which they occur.
pub(crate) fn operations(workload: &Workload<'_>) -> Vec<Operation> {
    let mut operations: Vec<Operation> = Vec::new();
    for row in workload.rows.iter().flat_map(|row| &row.summary.latency) {
        let operation = Operation::of(row);
        if !operations.contains(&operation) {
            operations.push(operation);
        }
    }
    operations
}

/// A subject's latencies of a kind of operation, over all sizes.
pub(crate) fn row<'a>(row: &Row<'a>, operation: &Operation) -> Option<&'a LatencyRow> {
    row.summary
        .latency
        .iter()
        .find(|latency| Operation::of(latency) == *operation)
}

/// A subject's samples of the latency pass.
pub(crate) fn samples<'a>(row: &Row<'a>) -> impl Iterator<Item = &'a LatencySample> {
    row.samples
        .iter()
        .filter(|sample| sample.status == Status::Ok)
        .filter_map(|sample| sample.latency.as_ref())
}
