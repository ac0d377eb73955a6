//! Replays as samples: a program or a kernel, in a fresh child each.

use std::time::{Duration, Instant};

use super::engine::{Cell, Sampler};
use super::request::{Request, Work};
use super::session::{Outcome, Session};
use crate::error::Result;
use crate::measure::results::{Order, Pass, Sample, Status, SubjectKind, Touch};
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
    /// Memory limit of one child and all it starts.
    pub memory_limit_bytes: Option<u64>,
    /// Whether each memory sample waits a second to see what is retained then.
    pub settle: bool,
}

/// A workload ready to be replayed.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// Its name.
    pub name: String,
    /// The saved program.
    pub work: Work,
    /// In which order it is replayed.
    pub order: Order,
    /// Operations that one replay must perform.
    pub operations: u64,
}

/// Takes the samples of a workload that is replayed.
#[derive(Debug)]
pub struct Replays<'a> {
    session: &'a Session,
    workload: Prepared,
    conditions: Conditions,
}

impl<'a> Replays<'a> {
    /// The replays of this workload.
    pub fn new(session: &'a Session, workload: Prepared, conditions: Conditions) -> Self {
        Self {
            session,
            workload,
            conditions,
        }
    }
}

impl Sampler for Replays<'_> {
    fn workload(&self) -> &str {
        &self.workload.name
    }

    fn has(&self, pass: Pass, subject: &Subject) -> bool {
        match (&self.workload.work, pass) {
            (_, Pass::Program) => false,
            // `null` can be timed, not looked at.
            (Work::Program { .. } | Work::Threaded { .. }, pass) => {
                matches!(pass, Pass::Speed | Pass::Latency) || !subject.is_null()
            }
            // Its threads run loops of their own, which are not timed call by call.
            (Work::Kernel(_), Pass::Latency) => false,
            // A floor row serves one thread.
            (Work::Kernel(_), _) => subject.kind() != SubjectKind::Floor,
        }
    }

    fn take(&mut self, cell: &Cell<'_>) -> Result<Sample> {
        let request = Request {
            work: self.workload.work.clone(),
            subject: cell.subject,
            pass: cell.pass,
            touch: self.conditions.touch,
            order: self.workload.order,
            passes: self.conditions.passes,
            timeout: self.conditions.timeout,
            memory_limit_bytes: self.conditions.memory_limit_bytes,
            settle: self.conditions.settle,
            environment_bytes: cell.environment_bytes,
        };
        let on_one_thread = match cell.pass {
            Pass::Verify => self.session.on_one_thread(&request.work)?,
            _ => None,
        };
        // What is wrong on one thread is told by the checker that sees all blocks at each operation.
        if let Some(work) = on_one_thread {
            let mut outcome = self.session.take(&Request {
                work,
                order: Order::Serial,
                ..request.clone()
            })?;
            if outcome.status != Status::Ok {
                let reason = outcome.reason.take().unwrap_or_default();
                outcome.reason = Some(format!("{reason} (replayed on one thread)"));
                return Ok(place(outcome, &self.workload, cell));
            }
        }
        let outcome = self.session.take(&request)?;
        Ok(place(outcome, &self.workload, cell))
    }
}

/// An outcome as the sample of its cell, refused if not every operation was performed.
pub fn place(outcome: Outcome, workload: &Prepared, cell: &Cell<'_>) -> Sample {
    let (mut status, mut reason) = (outcome.status, outcome.reason);
    if status == Status::Ok && outcome.operations != workload.operations {
        status = Status::Wrong;
        reason = Some(format!(
            "{} operations were performed, the trace has {}",
            outcome.operations, workload.operations
        ));
    }
    Sample {
        run: 0,
        workload: workload.name.clone(),
        subject: cell.subject.name.clone(),
        pass: cell.pass,
        block: cell.block,
        position: cell.position,
        status,
        reason: reason.map(|text| format!("{} pass: {text}", cell.pass.name())),
        operations: outcome.operations,
        receipt: outcome.receipt,
        speed: outcome.speed,
        memory: outcome.memory,
        latency: outcome.latency,
        program: None,
        minor_faults: outcome.finished.minor_faults,
        major_faults: outcome.finished.major_faults,
        involuntary_switches: outcome.finished.involuntary_switches,
        voluntary_switches: outcome.finished.voluntary_switches,
        steal_ns: None,
        elapsed_ns: None,
    }
}

/// Wall time since the start of a run, in nanoseconds.
pub fn elapsed_ns(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
