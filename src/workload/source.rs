//! From a definition to what children perform: a trace, read or generated, or a kernel.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use super::definition::{Definition, Kind};
use super::{fleet, model, synthetic};
use crate::error::{Error, Result};
use crate::replay::kernels::Kernel;
use crate::toml_text::{self, Section};
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
    /// A fitted model and its seed.
    Model(Box<model::Parameters>, u64),
    /// Real threads.
    Threads(Kernel),
}

impl Source {
    /// Understands the table of the definition's kind.
    ///
    /// # Errors
    /// The table does not say what its kind needs, or names a file that is not there. The line is told.
    pub fn of(definition: &Definition) -> Result<Self> {
        let folder = definition.path.parent().unwrap_or(Path::new(""));
        match definition.kind {
            Kind::Trace => {
                let file = definition.trace_file();
                let file = file.ok_or_else(|| wrong(definition, "the table is missing"))?;
                if !file.is_file() {
                    let what = format!("file: {}: no such file", file.display());
                    return Err(section(definition)?.mistake(&what));
                }
                Ok(Self::Recorded(file))
            }
            Kind::Synthetic => {
                let mut section = section(definition)?;
                let seed = section.take_number("seed")?;
                section.inner_tagged("sizes", "distribution")?;
                section.inner_tagged("growth", "by")?;
                section.tagged("pattern")?;
                let parameters: synthetic::Parameters = section.read()?;
                let checked = parameters.check();
                checked.map_err(|what| section.mistake(&what))?;
                Ok(Self::Synthetic(parameters, seed))
            }
            Kind::Fleet => {
                let mut section = section(definition)?;
                let seed = section.take_number("seed")?;
                let parameters: fleet::Parameters = section.read()?;
                let checked = parameters.check();
                checked.map_err(|what| section.mistake(&what))?;
                let table = folder.join(&parameters.table);
                if !table.is_file() {
                    let what = format!("table: {}: no such file", table.display());
                    return Err(section.mistake(&what));
                }
                Ok(Self::Fleet(parameters, table, seed))
            }
            Kind::Model => {
                let mut section = section(definition)?;
                let seed = section.take_number("seed")?;
                let parameters: model::Parameters = section.read()?;
                let checked = parameters.check();
                checked.map_err(|what| section.mistake(&what))?;
                Ok(Self::Model(Box::new(parameters), seed))
            }
            Kind::Threads => {
                let mut section = section(definition)?;
                section.tagged("kernel")?;
                let kernel: Kernel = section.read()?;
                kernel.check().map_err(|what| section.mistake(&what))?;
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
            Self::Model(parameters, seed) => model::generate(name, parameters, *seed),
            Self::Threads(kernel) => Ok(kernel.one_order(name)),
        }
    }
}

fn wrong(definition: &Definition, what: &str) -> Error {
    let name = definition.kind.name();
    let line = toml_text::line_of(&definition.text, &[name]);
    Error::line(&definition.path, line, format!("[{name}]: {what}"))
}

/// The table of the definition's kind.
fn section(definition: &Definition) -> Result<Section<'_>> {
    Section::of(&definition.path, &definition.text, definition.kind.name())
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
             licence = 'l'\nbias = 'b'\n[{kind}] # note\n{table}\n"
        );
        std::fs::write(&path, text).expect("written");
        std::fs::write(folder.path().join("there.log"), "").expect("written");
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
        let fleet = "seed = 7\ntable = 'there.log'\nscale = 1.0\nlargest_bytes = 9\noperations = 5";
        let fleet = source("fleet", fleet).expect("sound");
        assert!(matches!(&fleet, Source::Fleet(_, table, 7) if table.ends_with("there.log")));
        let threads = "kernel = 'thread-creation'\nthreads = 2\nblocks = 3\nsize = 8";
        let threads = source("threads", threads).expect("sound");
        let trace = threads.trace("w").expect("sound");
        assert_eq!(trace.counts().operations(), 12);
        let recorded = source("trace", "file = 'there.log'").expect("sound");
        assert!(matches!(recorded, Source::Recorded(path) if path.ends_with("there.log")));
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        const BATCH: &str = "seed = 7\npattern = 'batch'\nbatch = 2\nrounds = 3\norder = 'reverse'\n\
                             sizes = { distribution = 'uniform', smallest_bytes = 8, largest_bytes = 9 }";
        const FLEET: &str =
            "seed = 1\ntable = 'there.log'\nscale = 1.0\nlargest_bytes = 9\noperations = 5";
        const THREADS: &str = "kernel = 'thread-creation'\nthreads = 2\nblocks = 1\nsize = 8";
        source("synthetic", BATCH).expect("sound");
        source("fleet", FLEET).expect("sound");
        source("threads", THREADS).expect("sound");
        for (kind, table, from, to, expected) in [
            (
                "trace",
                "file = 'there.log'",
                "there",
                "none",
                "9: [trace]: file: ",
            ),
            (
                "synthetic",
                BATCH,
                "seed",
                "sede",
                "9: [synthetic]: unknown key `sede`; did you mean `seed`?",
            ),
            (
                "synthetic",
                BATCH,
                "seed = 7",
                "",
                "8: [synthetic]: missing key `seed`",
            ),
            (
                "synthetic",
                BATCH,
                "7",
                "-1",
                "9: [synthetic]: seed: expected a number",
            ),
            (
                "synthetic",
                BATCH,
                "\nbatch",
                "\nbtach",
                "11: [synthetic]: unknown key `btach`; did you mean `batch`?",
            ),
            (
                "synthetic",
                BATCH,
                "'batch'",
                "'bacth'",
                "10: [synthetic]: unknown word `bacth`; did you mean `batch`?",
            ),
            (
                "synthetic",
                BATCH,
                "rounds = 3",
                "rounds = 'x'",
                "12: [synthetic]: invalid type",
            ),
            (
                "synthetic",
                BATCH,
                "rounds = 3",
                "rounds = 0",
                "11: [synthetic]: batch and rounds must",
            ),
            (
                "synthetic",
                BATCH,
                "smallest_bytes = 8",
                "smallest_bytes = 10",
                "14: [synthetic]: smallest_bytes 10",
            ),
            (
                "synthetic",
                BATCH,
                "smallest",
                "samllest",
                "14: [synthetic]: unknown key `samllest_bytes`; did you mean `smallest_bytes`?",
            ),
            (
                "fleet",
                FLEET,
                "scale",
                "scael",
                "11: [fleet]: unknown key `scael`; did you mean `scale`?",
            ),
            (
                "fleet",
                FLEET,
                "scale = 1.0",
                "scale = 0.0",
                "11: [fleet]: scale must be above 0",
            ),
            (
                "fleet",
                FLEET,
                "scale = 1.0\n",
                "",
                "8: [fleet]: missing key `scale`",
            ),
            ("fleet", FLEET, "there", "none", "10: [fleet]: table: "),
            (
                "threads",
                THREADS,
                "blocks = 1",
                "",
                "8: [threads]: missing key `blocks`",
            ),
            (
                "threads",
                THREADS,
                "threads = 2",
                "threads = 0",
                "10: [threads]: threads must be at least 1",
            ),
            (
                "threads",
                THREADS,
                "thread-creation",
                "thread-creating",
                "9: [threads]: unknown word `thread-creating`; did you mean `thread-creation`?",
            ),
        ] {
            assert!(table.contains(from), "{from}");
            let text = source(kind, &table.replacen(from, to, 1))
                .expect_err(expected)
                .to_string();
            let (_, place) = text.split_once("w.toml:").expect("the file");
            assert!(place.starts_with(expected), "{place} is not {expected}");
            assert_eq!(text.lines().count(), 1, "{text}");
        }
    }
}
