//! Real programs: run under each subject that can be preloaded, in a fresh working folder, their
//! output checked, by a [`supervisor`](super::supervisor).
//!
//! ```text
//! verify    once: the dynamic linker tells what it binds -> receipt; output checked
//! program   timed; nothing is looked at but what the limits need
//! memory    the whole tree's memory, as often as it can be looked at
//! ```
//! The C library's malloc is preloaded too, as the others are: a program may be linked with another
//! allocator's library (Debian's redis is, with jemalloc), which would serve it otherwise.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::engine::{Cell, Sampler};
use super::scratch::Scratch;
use super::session::Session;
use super::supervisor::Found;
use crate::error::Result;
use crate::measure::results::{Pass, ProgramSample, Receipt, Sample, Status, SubjectKind};
use crate::subject::functions::function_names;
use crate::subject::{Subject, object_file};
use crate::workload::program::RealProgram;

mod bindings;
mod judge;
mod launch;
mod order;
mod record;
pub mod recording;

use bindings::Served;
use launch::Supervised;
use order::{Run, object_of};
pub(super) use record::executables;
pub use record::{files_sha256, record};

/// What stays the same over the samples of a run.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Time limit of one run, unless the program's definition gives it more.
    pub timeout: Duration,
    /// Memory of the whole tree at which it is killed.
    pub memory_limit_bytes: Option<u64>,
}

/// Whether a program can be run under a subject at all.
pub fn can_run(subject: &Subject) -> bool {
    matches!(subject.kind(), SubjectKind::System | SubjectKind::Preloaded)
}

/// One run, before it is placed in a plan.
#[derive(Clone, Debug)]
struct ProgramOutcome {
    status: Status,
    /// Why, if not `ok`.
    reason: Option<String>,
    /// The object that served it.
    receipt: Option<Receipt>,
    /// Time or memory, if `ok` and asked for.
    program: Option<ProgramSample>,
    /// What the supervisor found; `None` if there was none or it did not live to tell.
    found: Option<Found>,
}

impl ProgramOutcome {
    fn failed(status: Status, reason: String) -> Self {
        Self {
            status,
            reason: Some(reason),
            receipt: None,
            program: None,
            found: None,
        }
    }
}

/// Takes the samples of a real program.
#[derive(Debug)]
pub struct Programs<'a> {
    session: &'a Session,
    name: String,
    program: RealProgram,
    /// The installed files that it consists of.
    executables: Vec<PathBuf>,
    limits: Limits,
    /// Receipts of the subjects that were verified; a twin has that of what it is the twin of.
    receipts: Vec<(Subject, Option<Receipt>)>,
}

impl<'a> Programs<'a> {
    /// The runs of a program, under a name.
    pub fn new(session: &'a Session, name: &str, program: RealProgram, limits: Limits) -> Self {
        Self {
            session,
            name: name.to_owned(),
            executables: executables(&program).into_values().collect(),
            program,
            limits,
            receipts: Vec::new(),
        }
    }

    /// One sample. A program that fails is an outcome; an error is the harness's own failure, or the
    /// user's interruption.
    fn outcome(&mut self, cell: &Cell<'_>) -> Result<ProgramOutcome> {
        let subject = cell.subject;
        let refused = |reason| Ok(ProgramOutcome::failed(Status::Refused, reason));
        if let Some(reason) = self.replaced(subject) {
            return refused(reason);
        }
        // A resumed suite has the sample of the verify pass, but not what follows from it.
        if cell.pass == Pass::Verify || self.verified(subject).is_none() {
            let verified = self.run(subject, Pass::Verify, cell.environment_bytes)?;
            if cell.pass == Pass::Verify || verified.status != Status::Ok {
                return Ok(verified);
            }
        }
        let mut outcome = self.run(subject, cell.pass, cell.environment_bytes)?;
        if outcome.status != Status::Refused {
            outcome.receipt = self.verified(subject).flatten();
        }
        Ok(outcome)
    }

    /// Why what is run is not what the workload began with, if so: samples of two builds must not mix.
    /// The first time that it is asked about counts as the beginning.
    fn replaced(&self, subject: &Subject) -> Option<String> {
        let mut files = self.executables.iter();
        let replaced = files.find_map(|path| self.session.replaced_file(path));
        replaced.or_else(|| self.session.replaced_object(subject))
    }

    /// The receipt of a subject that was verified, if it was.
    fn verified(&self, subject: &Subject) -> Option<Option<Receipt>> {
        let same = |one: &&(Subject, Option<Receipt>)| {
            one.0.access == subject.access && one.0.environment == subject.environment
        };
        let known = self.receipts.iter().find(same)?;
        Some(known.1.clone())
    }

    /// Runs it once; the verify pass keeps its receipt.
    fn run(
        &mut self,
        subject: &Subject,
        pass: Pass,
        environment_bytes: usize,
    ) -> Result<ProgramOutcome> {
        let refused = |reason| Ok(ProgramOutcome::failed(Status::Refused, reason));
        if let Some(reason) = self.program.missing() {
            return refused(reason);
        }
        let object = match object_of(subject) {
            Ok(object) => object,
            Err(reason) => return refused(reason),
        };
        let folder = Scratch::new()?;
        let run = Run {
            program: &self.program,
            subject,
            pass,
            limits: &self.limits,
            environment_bytes,
            object,
        };
        let order = run.order(folder.path())?;
        let mut outcome = match launch::supervise(&order)? {
            Supervised::Ended(found) => {
                let served = match pass {
                    Pass::Verify => bindings::served(&order, &found.executables),
                    _ => Served::ByIt,
                };
                judge::judge(&self.program, &order, *found, &served)?
            }
            Supervised::Lost(status, reason) => ProgramOutcome::failed(status, reason),
        };
        launch::remove(folder);
        if matches!(outcome.status, Status::Ok | Status::Refused)
            && let Some(reason) = self.replaced(subject)
        {
            return refused(reason);
        }
        if pass == Pass::Verify && outcome.status == Status::Ok {
            let receipt = run.object.map(|object| self.receipt(subject, &object));
            if let Some(reason) = receipt.as_ref().and_then(incomplete) {
                return refused(reason);
            }
            outcome.receipt.clone_from(&receipt);
            self.receipts.push((subject.clone(), receipt));
        }
        Ok(outcome)
    }

    fn receipt(&self, subject: &Subject, object: &Path) -> Receipt {
        Receipt {
            path: object.display().to_string(),
            build: self.session.build(object),
            version: self.session.version(subject),
            functions: object_file::defined_functions(object, &function_names()),
        }
    }
}

/// Why this object cannot serve alone, if so.
fn incomplete(receipt: &Receipt) -> Option<String> {
    let missing: Vec<&str> = function_names()
        .into_iter()
        .filter(|name| !receipt.functions.iter().any(|function| function == name))
        .collect();
    (!missing.is_empty()).then(|| {
        format!(
            "{} does not serve {}: another object would mix with it",
            receipt.path,
            missing.join(", ")
        )
    })
}

impl Sampler for Programs<'_> {
    fn workload(&self) -> &str {
        &self.name
    }

    fn timed_pass(&self) -> Pass {
        Pass::Program
    }

    fn has(&self, pass: Pass, subject: &Subject) -> bool {
        can_run(subject) && matches!(pass, Pass::Verify | Pass::Program | Pass::Memory)
    }

    fn take(&mut self, cell: &Cell<'_>) -> Result<Sample> {
        let outcome = self.outcome(cell)?;
        let mut sample = Sample::untaken(&self.name, &cell.subject.name, cell.pass, cell.block);
        sample.position = cell.position;
        sample.status = outcome.status;
        sample.reason = outcome.reason;
        sample.receipt = outcome.receipt;
        sample.program = outcome.program;
        if let Some(found) = outcome.found {
            sample.minor_faults = found.minor_faults;
            sample.major_faults = found.major_faults;
            sample.involuntary_switches = found.involuntary_switches;
            sample.voluntary_switches = found.voluntary_switches;
        }
        debug_assert!(sample.status == Status::Ok || sample.reason.is_some());
        Ok(sample)
    }
}
