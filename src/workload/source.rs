//! From a definition to what children perform: a trace, read or generated, or a kernel.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

use super::definition::{Definition, Kind};
use super::{fleet, synthetic};
use crate::error::{Error, Result};
use crate::replay::kernels::Kernel;
use crate::toml_text;
use crate::trace::{self, ReadOptions, Trace};

/// The checked table of a definition.
#[derive(Clone, Debug, PartialEq)]
pub enum Source {
    /// A recorded file.
    Recorded(PathBuf),
    /// A pattern and its seed.
    Synthetic(synthetic::Parameters, u64),
    /// A fleet profile, the path of its table from here, and its seed.
    Fleet(fleet::Parameters, PathBuf, u64),
    /// Real threads.
    Threads(Kernel),
}

impl Source {
    /// Understands the table of the definition's kind.
    ///
    /// # Errors
    /// The table does not say what its kind needs. The file is named, with the table.
    pub fn of(definition: &Definition) -> Result<Self> {
        let folder = definition.path.parent().unwrap_or(Path::new(""));
        match definition.kind {
            Kind::Trace => {
                let file = definition.trace_file();
                let file = file.ok_or_else(|| wrong(definition, "the table is missing"))?;
                Ok(Self::Recorded(file))
            }
            Kind::Synthetic => {
                let (parameters, seed) = seeded(definition, definition.synthetic.as_ref())?;
                Ok(Self::Synthetic(parameters, seed))
            }
            Kind::Fleet => {
                let (parameters, seed): (fleet::Parameters, u64) =
                    seeded(definition, definition.fleet.as_ref())?;
                let table = folder.join(&parameters.table);
                Ok(Self::Fleet(parameters, table, seed))
            }
            Kind::Threads => {
                let kernel: Kernel = parsed(definition, definition.threads.clone())?;
                kernel.check().map_err(|what| wrong(definition, &what))?;
                Ok(Self::Threads(kernel))
            }
            Kind::Program => Err(wrong(
                definition,
                "a real program has no trace; run it with `mymalloc suite`",
            )),
        }
    }

    /// Reads or generates the trace. For a kernel it is one possible order of its operations.
    ///
    /// # Errors
    /// A file cannot be read, or the parameters do not fit together.
    pub fn trace(&self, name: &str) -> Result<Trace> {
        match self {
            Self::Recorded(path) => trace::read(path, &ReadOptions::default()),
            Self::Synthetic(parameters, seed) => synthetic::generate(name, parameters, *seed),
            Self::Fleet(parameters, table, seed) => {
                fleet::generate(name, parameters, &fleet::Table::read(table)?, *seed)
            }
            Self::Threads(kernel) => Ok(kernel.one_order(name)),
        }
    }
}

fn wrong(definition: &Definition, what: &str) -> Error {
    Error::file(
        &definition.path,
        format!("[{}]: {what}", definition.kind.name()),
    )
}

fn parsed<T: DeserializeOwned>(definition: &Definition, table: Option<toml::Table>) -> Result<T> {
    let table = table.ok_or_else(|| wrong(definition, "the table is missing"))?;
    toml_text::understand(&definition.path, definition.kind.name(), table)
}

/// The parameters and the `seed` beside them.
fn seeded<T: DeserializeOwned>(
    definition: &Definition,
    table: Option<&toml::Table>,
) -> Result<(T, u64)> {
    let mut table = table.cloned();
    let seed = table.as_mut().and_then(|table| table.remove("seed"));
    let seed = seed
        .and_then(|value| u64::try_from(value.as_integer()?).ok())
        .ok_or_else(|| wrong(definition, "seed: expected a number, 0 or more"))?;
    Ok((parsed(definition, table)?, seed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::definition;

    fn source(kind: &str, table: &str) -> Result<Source> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("w.toml");
        let text = format!(
            "name = 'w'\nkind = '{kind}'\ndescription = 'd'\nstands_for = 's'\norigin = 'o'\n\
             licence = 'l'\nbias = 'b'\n[{kind}]\n{table}\n"
        );
        std::fs::write(&path, text).expect("written");
        Source::of(&definition::load(&path).expect("a sound definition"))
    }

    #[test]
    fn each_kind_is_understood() {
        let batch = "seed = 7\npattern = 'batch'\nbatch = 2\nrounds = 3\norder = 'reverse'\n\
                     sizes = { distribution = 'fixed', bytes = 8 }";
        let synthetic = source("synthetic", batch).expect("sound");
        assert!(matches!(synthetic, Source::Synthetic(_, 7)));
        let trace = synthetic.trace("w").expect("sound");
        assert_eq!(trace.counts().operations(), 12);
        let fleet = "seed = 7\ntable = 't.csv'\nscale = 1.0\nlargest_bytes = 9\noperations = 5";
        let fleet = source("fleet", fleet).expect("sound");
        assert!(matches!(&fleet, Source::Fleet(_, table, 7) if table.ends_with("t.csv")));
        let error = fleet.trace("w").expect_err("there is no such table");
        assert!(error.to_string().contains("t.csv: cannot read"), "{error}");
        let threads = "kernel = 'thread-creation'\nthreads = 2\nblocks = 3\nsize = 8";
        let threads = source("threads", threads).expect("sound");
        let trace = threads.trace("w").expect("sound");
        assert_eq!(trace.counts().operations(), 12);
        let recorded = source("trace", "file = 'x.log'").expect("sound");
        assert!(matches!(recorded, Source::Recorded(path) if path.ends_with("x.log")));
    }

    #[test]
    fn mistakes_are_told_with_file_and_table() {
        for (kind, table, reason) in [
            (
                "synthetic",
                "pattern = 'batch'",
                "[synthetic]: seed: expected",
            ),
            ("synthetic", "seed = -1", "[synthetic]: seed: expected"),
            (
                "synthetic",
                "seed = 1\npattern = 'chrun'",
                "w.toml:10: [synthetic]: unknown word `chrun`; did you mean `churn`?",
            ),
            (
                "fleet",
                "seed = 1\ntable = 't.csv'\nscael = 1.0",
                "w.toml:11: [fleet]: unknown key `scael`; did you mean `scale`?",
            ),
            (
                "fleet",
                "seed = 1\ntable = 't.csv'",
                "[fleet]: missing field",
            ),
            (
                "threads",
                "kernel = 'thread-creation'\nthreads = 2",
                "[threads]: missing field",
            ),
            (
                "threads",
                "kernel = 'thread-creation'\nthreads = 0\nblocks = 1\nsize = 8",
                "[threads]: threads must be at least 1",
            ),
        ] {
            let text = source(kind, table).expect_err(reason).to_string();
            assert!(text.contains("w.toml:") && text.contains(reason), "{text}");
            assert_eq!(text.lines().count(), 1, "{text}");
        }
    }
}
