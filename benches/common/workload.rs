//! The definitions that a bench runs, and their preparation.

use std::path::Path;

use mymalloc::error::{Error, Result};
use mymalloc::measure::results::WorkloadRecord;
use mymalloc::replay::kernels::Kernel;
use mymalloc::replay::program::Program;
use mymalloc::run::execute::Prepared;
use mymalloc::run::request::Work;
use mymalloc::run::session::Session;
use mymalloc::trace::Trace;
use mymalloc::trace::profile::Profile;
use mymalloc::workload::{fleet, synthetic};

/// Which of the benches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Suite {
    /// Generated workloads and kernels.
    Synthetic,
    /// Recorded traces.
    #[allow(dead_code, reason = "each bench knows its own suite only")]
    Replay,
}

/// A definition.
#[derive(Debug)]
pub(crate) struct Workload {
    pub(crate) name: String,
    description: String,
    bias: String,
    seed: u64,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Synthetic(synthetic::Parameters),
    Fleet(fleet::Parameters),
    Kernel(Kernel),
}

#[derive(serde::Deserialize)]
#[allow(dead_code)]
struct Stub {
    kind: String,
    description: String,
    stands_for: String,
    origin: String,
    licence: String,
    bias: String,
    tags: Vec<String>,
    #[serde(default)]
    seed: u64,
    synthetic: Option<synthetic::Parameters>,
    fleet: Option<fleet::Parameters>,
    threads: Option<Kernel>,
}

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("workloads/definitions")
}

pub(crate) fn load(suite: Suite) -> Result<Vec<Workload>> {
    if suite == Suite::Replay {
        Ok(Vec::new())
    } else {
        load_all()
    }
}

pub(crate) fn load_all() -> Result<Vec<Workload>> {
    let folder = folder();
    let mut paths: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|e| e.unwrap().path())
        .collect();
    paths.sort();
    paths
        .iter()
        .map(|path| {
            let stub: Stub = toml::from_str(&std::fs::read_to_string(path).unwrap())
                .map_err(|e| Error::file(path, e.to_string()))?;
            let source = if let Some(s) = stub.synthetic {
                Source::Synthetic(s)
            } else if let Some(f) = stub.fleet {
                Source::Fleet(f)
            } else {
                Source::Kernel(stub.threads.unwrap())
            };
            Ok(Workload {
                name: path.file_stem().unwrap().to_string_lossy().into_owned(),
                description: stub.description,
                bias: stub.bias,
                seed: stub.seed,
                source,
            })
        })
        .collect()
}

impl Workload {
    /// Makes what children perform, and what the report says of it.
    pub(crate) fn prepare(&self, session: &Session) -> Result<(Prepared, WorkloadRecord)> {
        let (trace, kernel) = self.trace()?;
        let (work, operations) = match kernel {
            Some(kernel) => (Work::Kernel(kernel), kernel.operations()),
            None => {
                let program = Program::compile(&trace)?;
                let operations = program.operations();
                (session.save(program)?, operations)
            }
        };
        let record = WorkloadRecord {
            name: self.name.clone(),
            description: self.description.clone(),
            bias: self.bias.clone(),
            origin: trace.origin().clone(),
            profile: Profile::of(&trace),
        };
        Ok((
            Prepared {
                name: self.name.clone(),
                work,
                operations,
            },
            record,
        ))
    }

    fn trace(&self) -> Result<(Trace, Option<Kernel>)> {
        let trace = match &self.source {
            Source::Synthetic(parameters) => {
                synthetic::generate(&self.name, parameters, self.seed)?
            }
            Source::Fleet(parameters) => {
                let table = fleet::Table::read(&folder().join(&parameters.table))?;
                fleet::generate(&self.name, parameters, &table, self.seed)?
            }
            Source::Kernel(kernel) => {
                kernel
                    .check()
                    .map_err(|wrong| Error::usage(format!("workload {}: {wrong}", self.name)))?;
                return Ok((kernel.one_order(&self.name), Some(*kernel)));
            }
        };
        Ok((trace, None))
    }
}
