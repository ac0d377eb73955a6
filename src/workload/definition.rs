//! Definitions of workloads: one TOML file each under `workloads/definitions/`, so that a new
//! workload is a file and no code.
//!
//! ```toml
//! name = "systemui"            # the file's name without .toml
//! kind = "trace"               # or "synthetic", "fleet", "model", "threads", "program"
//! description = "what it is"
//! stands_for = "the programs whose behaviour it predicts"
//! origin = "who recorded it, where, when"
//! licence = "Apache-2.0"
//! bias = "why its result may mislead"
//! tags = ["threads"]           # may be left out
//!
//! [trace]                      # the table named by the kind
//! file = "../traces/systemui.txt.zst"
//! ```
//!
//! The bundled definitions lie in the project's checkout. A program installed elsewhere has none,
//! which is no error: it replays the traces it is given.

#![forbid(unsafe_code)]

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::program::ProgramTable;
use crate::error::{Error, Result};
use crate::toml_text;

/// A workload: what it is, what it stands for, and where its trace comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// Short name, as on the command line: lower-case letters, digits, `-`, `_`. The file's name.
    pub name: String,
    /// Where the trace comes from.
    pub kind: Kind,
    /// What it is.
    pub description: String,
    /// The programs whose behaviour it is meant to predict.
    pub stands_for: String,
    /// Who made or recorded it, when and how.
    pub origin: String,
    /// Licence of the data.
    pub licence: String,
    /// Why its result may mislead.
    pub bias: String,
    /// Words to select by.
    #[serde(default)]
    pub tags: Vec<String>,
    /// For [`Kind::Trace`].
    pub trace: Option<TraceTable>,
    /// Parameters for [`Kind::Synthetic`].
    pub synthetic: Option<toml::Table>,
    /// Parameters for [`Kind::Fleet`].
    pub fleet: Option<toml::Table>,
    /// Parameters for [`Kind::Model`].
    pub model: Option<toml::Table>,
    /// Parameters for [`Kind::Threads`].
    pub threads: Option<toml::Table>,
    /// For [`Kind::Program`].
    pub program: Option<ProgramTable>,
    /// The file this was read from.
    #[serde(skip)]
    pub path: PathBuf,
    /// What stands in that file: a mistake in a table is told with its line.
    #[serde(skip)]
    pub text: String,
}

/// Where a workload's trace comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A recorded file.
    Trace,
    /// A generator with a pattern of its own.
    Synthetic,
    /// A generator that follows the measured profile of a fleet of servers.
    Fleet,
    /// A generator that follows a model fitted to a recording.
    Model,
    /// A generator for several threads.
    Threads,
    /// A real program.
    Program,
}

impl Kind {
    /// As in the file; the name of its table too.
    pub fn name(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Synthetic => "synthetic",
            Self::Fleet => "fleet",
            Self::Model => "model",
            Self::Threads => "threads",
            Self::Program => "program",
        }
    }
}

/// `[trace]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TraceTable {
    /// The file, relative to the definition.
    pub file: PathBuf,
}

impl Definition {
    /// The recorded file, if this is a workload of that kind.
    pub fn trace_file(&self) -> Option<PathBuf> {
        let table = self.trace.as_ref()?;
        Some(
            self.path
                .parent()
                .unwrap_or(Path::new(""))
                .join(&table.file),
        )
    }

    /// The problem with the definition's values, and the key it stands at.
    fn problem(&self) -> Option<(&'static str, String)> {
        let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        if self.name.is_empty() || !self.name.chars().all(legal) {
            let message = format!(
                "name {:?}: expected lower-case letters, digits, '-' and '_'",
                self.name
            );
            return Some(("name", message));
        }
        if self
            .path
            .file_stem()
            .is_none_or(|stem| stem != self.name.as_str())
        {
            let message = format!(
                "name {:?}: expected the file's name without .toml",
                self.name
            );
            return Some(("name", message));
        }
        let tables = [
            (Kind::Trace, self.trace.is_some()),
            (Kind::Synthetic, self.synthetic.is_some()),
            (Kind::Fleet, self.fleet.is_some()),
            (Kind::Model, self.model.is_some()),
            (Kind::Threads, self.threads.is_some()),
            (Kind::Program, self.program.is_some()),
        ];
        tables
            .into_iter()
            .find_map(|(kind, present)| match (kind == self.kind, present) {
                (true, false) => {
                    let kind = kind.name();
                    Some((
                        "kind",
                        format!("kind \"{kind}\": expected a table [{kind}] below"),
                    ))
                }
                (false, true) => Some((
                    "kind",
                    format!(
                        "kind \"{}\": there is a table [{}] too",
                        self.kind.name(),
                        kind.name()
                    ),
                )),
                _ => None,
            })
    }
}

/// Reads one definition.
///
/// # Errors
/// The file cannot be read, or a line of it is wrong.
pub fn load(path: &Path) -> Result<Definition> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::io(path, "read", source))?;
    parse(path, &text)
}

fn parse(path: &Path, text: &str) -> Result<Definition> {
    let mut definition: Definition = toml_text::parse(path, text)?;
    definition.path = path.to_owned();
    text.clone_into(&mut definition.text);
    match definition.problem() {
        None => Ok(definition),
        Some((key, message)) => Err(Error::line(path, toml_text::line_of(text, &[key]), message)),
    }
}

/// Reads all definitions of a folder, by name. A folder that does not exist has none.
///
/// # Errors
/// The first definition that cannot be used.
pub fn load_all(folder: &Path) -> Result<Vec<Definition>> {
    let failed = |source| Error::io(folder, "read", source);
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry.map_err(failed)?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "toml")
        {
            paths.push(path);
        }
    }
    paths.sort();
    paths.iter().map(|path| load(path)).collect()
}

/// The bundled definitions: the nearest `workloads/definitions` at or above the working folder, or
/// above the program (a checkout's `target/…/mymalloc`). `None` outside of a checkout.
pub fn bundled_folder() -> Option<PathBuf> {
    let nearest = |start: PathBuf| {
        start
            .ancestors()
            .map(|folder| folder.join("workloads").join("definitions"))
            .find(|folder| folder.is_dir())
    };
    let near_work = std::env::current_dir().ok().and_then(nearest);
    near_work.or_else(|| std::env::current_exe().ok().and_then(nearest))
}

/// The definition that describes a trace file, if it is one that lies beside its definitions
/// (`…/traces/x`, described in `…/definitions/*.toml`). A definition that cannot be read describes
/// nothing: who replays a trace is not told of a mistake elsewhere.
pub fn find_for_trace(path: &Path) -> Option<Definition> {
    let wanted = path.canonicalize().ok()?;
    let folder = wanted.parent()?.parent()?.join("definitions");
    let entries = std::fs::read_dir(folder).ok()?;
    entries
        .filter_map(|entry| load(&entry.ok()?.path()).ok())
        .find(|definition| {
            let file = definition
                .trace_file()
                .and_then(|file| file.canonicalize().ok());
            file.as_ref() == Some(&wanted)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
name = "w"
kind = "trace"
description = "d"
stands_for = "s"
origin = "o"
licence = "l"
bias = "b"

[trace]
file = "../traces/w.log"
"#;

    fn parsed(text: &str) -> std::result::Result<Definition, String> {
        parse(Path::new("d/w.toml"), text).map_err(|error| error.to_string())
    }

    #[test]
    fn a_file_is_found_from_its_definition() {
        let definition = parsed(GOOD).unwrap();
        assert_eq!(definition.kind, Kind::Trace);
        assert_eq!(
            definition.trace_file(),
            Some(PathBuf::from("d/../traces/w.log"))
        );
        assert!(definition.tags.is_empty());
    }

    #[test]
    fn mistakes_are_told_with_their_line() {
        for (from, to, expected) in [
            (
                "bias = \"b\"",
                "byas = \"b\"",
                "d/w.toml:8: unknown key `byas`; did you mean `bias`?",
            ),
            ("bias = \"b\"\n", "", "d/w.toml:1: missing key `bias`"),
            (
                "\"trace\"",
                "\"tracer\"",
                "d/w.toml:3: unknown word `tracer`; did you mean `trace`?",
            ),
            (
                "\"trace\"",
                "\"fleet\"",
                "d/w.toml:3: kind \"fleet\": there is a table [trace] too",
            ),
            (
                "[trace]\nfile = \"../traces/w.log\"",
                "",
                "d/w.toml:3: kind \"trace\": expected a table",
            ),
            (
                "name = \"w\"",
                "name = \"x\"",
                "d/w.toml:2: name \"x\": expected the file's name",
            ),
            (
                "name = \"w\"",
                "name = \"W w\"",
                "d/w.toml:2: name \"W w\": expected lower-case",
            ),
            ("file = ", "file: ", "d/w.toml:11: "),
            (
                "file = \"../traces/w.log\"",
                "file = 7",
                "d/w.toml:11: invalid type",
            ),
        ] {
            assert!(GOOD.contains(from));
            let message = parsed(&GOOD.replace(from, to)).unwrap_err();
            assert!(message.starts_with(expected), "{message:?} for {to:?}");
            assert_eq!(message.lines().count(), 1);
        }
    }

    #[test]
    fn a_folder_that_does_not_exist_has_no_definitions() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(load_all(&folder.path().join("none")).unwrap(), []);
        assert_eq!(find_for_trace(&folder.path().join("none/none.log")), None);
    }

    #[test]
    fn a_trace_finds_its_definition_by_any_path() {
        let root = tempfile::tempdir().unwrap();
        let (definitions, traces) = (root.path().join("definitions"), root.path().join("traces"));
        std::fs::create_dir(&definitions).unwrap();
        std::fs::create_dir(&traces).unwrap();
        std::fs::write(definitions.join("w.toml"), GOOD).unwrap();
        std::fs::write(definitions.join("broken.toml"), "name =").unwrap();
        std::fs::write(traces.join("w.log"), "1 1 malloc(1)=#1\n").unwrap();
        std::fs::write(traces.join("other.log"), "1 1 malloc(1)=#1\n").unwrap();
        let found = find_for_trace(&traces.join("../traces/w.log")).unwrap();
        assert_eq!(found.name, "w");
        assert_eq!(find_for_trace(&traces.join("other.log")), None);
        let error = load_all(&definitions).unwrap_err().to_string();
        assert!(error.contains("broken.toml:1: "), "{error}");
    }
}
