//! Runs a whole plan: cells in order, a subject that failed on a workload is not tried again there.

use std::time::{Duration, Instant};

use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64Mcg;

use super::request::{Request, Work};
use super::session::{Outcome, Session};
use crate::error::Result;
use crate::measure::results::{Pass, Sample, Status, Touch};
use crate::plan::Cell;
use crate::subject::Subject;

/// What stays the same over a run.
#[derive(Clone, Copy, Debug)]
pub struct Conditions {
    /// What is written into new blocks.
    pub touch: Touch,
    /// Replays inside one speed sample.
    pub passes: u32,
    /// Time limit of one child.
    pub timeout: Duration,
    /// Seed of the environment offsets.
    pub seed: u64,
}

/// A workload ready to be replayed.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// Its name.
    pub name: String,
    /// The saved program.
    pub work: Work,
    /// Operations that one replay must perform.
    pub operations: u64,
}

/// Told before each cell: how many are done, how many there are, and which one comes.
pub type Progress<'a> = dyn FnMut(usize, usize, &Cell) + 'a;

/// Bytes by which the environment may move a child's stack: more than an OS page.
const ENVIRONMENT_BYTES_LIMIT: usize = 4096 * 2;

/// Runs all cells and returns the samples in order.
pub fn execute(
    session: &Session,
    cells: &[Cell],
    workloads: &[Prepared],
    subjects: &[Subject],
    conditions: &Conditions,
    progress: &mut Progress<'_>,
) -> Result<Vec<Sample>> {
    let mut random = Pcg64Mcg::seed_from_u64(conditions.seed);
    let mut failed = vec![false; workloads.len() * subjects.len()];
    let mut samples = Vec::with_capacity(cells.len());
    for (done, cell) in cells.iter().enumerate() {
        let environment_bytes = random.random_range(0..ENVIRONMENT_BYTES_LIMIT);
        let failed = &mut failed[cell.workload * subjects.len() + cell.subject];
        if *failed {
            continue;
        }
        progress(done, cells.len(), cell);
        let workload = &workloads[cell.workload];
        let request = Request {
            work: workload.work.clone(),
            subject: &subjects[cell.subject],
            pass: cell.pass,
            touch: conditions.touch,
            passes: conditions.passes,
            timeout: conditions.timeout,
            environment_bytes,
        };
        let sample = take(session, &request, workload, cell)?;
        *failed = sample.status != Status::Ok;
        samples.push(sample);
    }
    Ok(samples)
}

fn take(
    session: &Session,
    request: &Request<'_>,
    workload: &Prepared,
    cell: &Cell,
) -> Result<Sample> {
    let outcome = session.take(request)?;
    Ok(place(outcome, &request.subject.name, workload, cell))
}

/// An outcome as the sample of its cell, refused if not every operation was performed.
pub fn place(outcome: Outcome, subject: &str, workload: &Prepared, cell: &Cell) -> Sample {
    let (mut status, mut reason) = (outcome.status, outcome.reason);
    if status == Status::Ok && outcome.operations != workload.operations {
        status = Status::Wrong;
        reason = Some(format!(
            "{} operations were performed, the trace has {}",
            outcome.operations, workload.operations
        ));
    }
    Sample {
        workload: workload.name.clone(),
        subject: subject.to_owned(),
        pass: cell.pass,
        block: cell.block,
        position: cell.position,
        status,
        reason: reason.map(|text| format!("{} pass: {text}", pass_name(cell.pass))),
        operations: outcome.operations,
        receipt: outcome.receipt,
        speed: outcome.speed,
        memory: outcome.memory,
        minor_faults: outcome.finished.minor_faults,
        major_faults: outcome.finished.major_faults,
        involuntary_switches: outcome.finished.involuntary_switches,
    }
}

fn pass_name(pass: Pass) -> &'static str {
    match pass {
        Pass::Verify => "verify",
        Pass::Speed => "speed",
        Pass::Memory => "memory",
    }
}

/// Wall time since the start of a run, in nanoseconds.
pub fn elapsed_ns(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
