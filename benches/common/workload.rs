//! The definitions that a bench runs, and their preparation.

use std::path::Path;

use mymalloc::error::Result;
use mymalloc::measure::results::{Order, WorkloadKind, WorkloadRecord};
use mymalloc::replay::program::Program;
use mymalloc::run::execute::Prepared;
use mymalloc::run::request::Work;
use mymalloc::run::session::Session;
use mymalloc::trace::profile::Profile;
use mymalloc::workload::definition::{self, Definition, Kind};
use mymalloc::workload::source::Source;

/// Which of the benches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(dead_code, reason = "each bench names its own suite only")]
pub(crate) enum Suite {
    /// Generated workloads and kernels.
    Synthetic,
    /// Recorded traces.
    Replay,
}

/// A definition, understood.
#[derive(Debug)]
pub(crate) struct Workload {
    pub(crate) name: String,
    definition: Definition,
    source: Source,
}

/// All bundled definitions of a suite, by name.
pub(crate) fn load(suite: Suite) -> Result<Vec<Workload>> {
    let mut workloads = load_all()?;
    workloads
        .retain(|workload| (suite == Suite::Replay) == (workload.definition.kind == Kind::Trace));
    Ok(workloads)
}

/// All bundled definitions but the real programs, which `mymalloc suite` runs, by name.
pub(crate) fn load_all() -> Result<Vec<Workload>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("workloads/definitions");
    let understood = |definition: Definition| {
        let source = Source::of(&definition)?;
        Ok(Workload {
            name: definition.name.clone(),
            definition,
            source,
        })
    };
    definition::load_all(&folder)?
        .into_iter()
        .filter(|definition| definition.kind != Kind::Program)
        .map(understood)
        .collect()
}

impl Workload {
    /// Makes what children perform, and what the report says of it.
    pub(crate) fn prepare(&self, session: &Session) -> Result<(Prepared, WorkloadRecord)> {
        let trace = self.source.trace(&self.name)?;
        let (work, operations) = match &self.source {
            Source::Threads(kernel) => (Work::Kernel(*kernel), kernel.operations()),
            _ => {
                let program = Program::compile(&trace)?;
                let operations = program.operations();
                (session.save(program)?, operations)
            }
        };
        let record = WorkloadRecord {
            name: self.name.clone(),
            description: self.definition.description.clone(),
            bias: self.definition.bias.clone(),
            kind: match self.definition.kind {
                Kind::Trace => WorkloadKind::Trace,
                Kind::Synthetic => WorkloadKind::Synthetic,
                Kind::Fleet => WorkloadKind::Fleet,
                Kind::Model => WorkloadKind::Model,
                Kind::Threads => WorkloadKind::Threads,
                Kind::Program => WorkloadKind::Program,
            },
            tags: self.definition.tags.clone(),
            origin: Some(trace.origin().clone()),
            profile: Some(Profile::of(&trace)),
            order: (self.definition.kind != Kind::Threads).then_some(Order::Serial),
            threaded: None,
            program: None,
        };
        Ok((
            Prepared {
                name: self.name.clone(),
                work,
                order: Order::Serial,
                operations,
            },
            record,
        ))
    }
}
