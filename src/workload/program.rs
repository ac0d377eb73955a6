//! `[program]`: a real program that is run under each allocator that can be preloaded.
//!
//! ```toml
//! [program]
//! command = ["sh", "redis.sh"]         # run in a fresh, empty folder
//! files = ["../programs/redis.sh"]     # put into that folder before
//! input = "../programs/input.txt"      # standard input; without it there is none
//! needs = ["redis-server"]             # commands that it starts itself
//! measured = ["redis-server"]          # executables that the allocator must serve
//! setup = "apt-get install -y redis-server"   # how to get them; never run by the suite
//! output = "out.txt"                   # the file that is checked; without it, standard output
//! expected_sha256 = "…"                # of that
//! version = ["redis-server", "--version"]
//! environment = { NAME = "value" }
//! timeout_seconds = 60                 # if it needs more than other samples
//! ```
//! Only `command`, `setup` and `expected_sha256` are required; `measured` is the command's first word
//! if it is left out. Files are named relative to the definition.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::definition::Definition;
use crate::error::{Error, Result};
use crate::toml_text;

/// See the module text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProgramTable {
    /// The command, word by word.
    pub command: Vec<String>,
    /// File given as standard input, relative to the definition.
    pub input: Option<PathBuf>,
    /// Files copied into the working folder, relative to the definition.
    #[serde(default)]
    pub files: Vec<PathBuf>,
    /// Further commands that must be there.
    #[serde(default)]
    pub needs: Vec<String>,
    /// Names of the executables that the allocator must serve; the command's own if empty.
    #[serde(default)]
    pub measured: Vec<String>,
    /// A command that installs what is missing.
    pub setup: String,
    /// SHA-256 of the right output, in hexadecimal.
    pub expected_sha256: String,
    /// The output, a file in the working folder; standard output if there is none.
    pub output: Option<PathBuf>,
    /// A command that prints the version on its first line.
    #[serde(default)]
    pub version: Vec<String>,
    /// Environment variables, besides those that every program gets.
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// Time limit, if it needs more than the others.
    pub timeout_seconds: Option<f64>,
}

/// A program whose definition was understood, ready to be run.
#[derive(Clone, Debug, PartialEq)]
pub struct RealProgram {
    /// The table.
    pub table: ProgramTable,
    /// Standard input.
    pub input: Option<PathBuf>,
    /// Files for the working folder.
    pub files: Vec<PathBuf>,
}

impl RealProgram {
    /// Understands `[program]`.
    ///
    /// # Errors
    /// The table is missing, a value is senseless, or a file that it names is not there.
    pub fn of(definition: &Definition) -> Result<Self> {
        let wrong = |what: String| {
            // Each sentence begins with the key that it is about.
            let key = what.split(':').next().unwrap_or_default();
            let line = toml_text::line_of(&definition.text, &["program", key]);
            Error::line(&definition.path, line, format!("[program]: {what}"))
        };
        let table = definition
            .program
            .clone()
            .ok_or_else(|| wrong("the table is missing".to_owned()))?;
        if let Some(what) = table.problem() {
            return Err(wrong(what));
        }
        let folder = definition.path.parent().unwrap_or(Path::new(""));
        let there = |key: &'static str| {
            move |file: &PathBuf| {
                let path = folder.join(file);
                match path.is_file() {
                    true => Ok(path),
                    false => Err(wrong(format!("{key}: {}: no such file", path.display()))),
                }
            }
        };
        let files = table.files.iter().map(there("files"));
        Ok(Self {
            input: table.input.as_ref().map(there("input")).transpose()?,
            files: files.collect::<Result<_>>()?,
            table,
        })
    }

    /// Why it cannot be run here, if so, and what to do: a command is not installed.
    pub fn missing(&self) -> Option<String> {
        let commands = self.table.command.first().into_iter();
        let missing: Vec<&str> = commands
            .chain(&self.table.needs)
            .filter(|name| find_command(name).is_none())
            .map(String::as_str)
            .collect();
        (!missing.is_empty()).then(|| {
            format!(
                "{} {} not installed: run `{}`",
                missing.join(", "),
                if missing.len() == 1 { "is" } else { "are" },
                self.table.setup
            )
        })
    }
}

impl ProgramTable {
    /// Executables that the allocator must serve.
    pub fn measured_names(&self) -> Vec<String> {
        match self.measured.is_empty() {
            true => self.command.iter().take(1).cloned().collect(),
            false => self.measured.clone(),
        }
    }

    fn problem(&self) -> Option<String> {
        if self.command.first().is_none_or(String::is_empty) {
            return Some("command: expected at least one word".to_owned());
        }
        let hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
        if self.expected_sha256.len() != 64 || !self.expected_sha256.chars().all(hex) {
            return Some("expected_sha256: expected 64 digits 0-9 a-f".to_owned());
        }
        if self.setup.trim().is_empty() {
            return Some("setup: expected a command that installs the program".to_owned());
        }
        if let Some(output) = &self.output
            && (output.is_absolute() || output.components().count() != 1)
        {
            return Some("output: expected the name of a file in the working folder".to_owned());
        }
        if self
            .timeout_seconds
            .is_some_and(|seconds| !(0.001..=1e6).contains(&seconds))
        {
            return Some("timeout_seconds: expected 0.001 to 1000000".to_owned());
        }
        None
    }
}

/// `PATH` for programs: Debian's own before the user's, so that what the set-up line installs is what
/// runs.
pub fn search_path() -> OsString {
    let mut path = OsString::from("/usr/bin:/bin:/usr/sbin");
    if let Some(own) = std::env::var_os("PATH") {
        path.push(":");
        path.push(own);
    }
    path
}

/// The file of a command, by [`search_path`] unless it has a slash.
pub fn find_command(name: &str) -> Option<PathBuf> {
    let executable = |path: &Path| {
        std::fs::metadata(path)
            .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    };
    if name.contains('/') {
        // Within the working folder, which does not exist yet; absolute ones can be looked at.
        let path = Path::new(name);
        return (!path.is_absolute() || executable(path)).then(|| path.to_owned());
    }
    std::env::split_paths(&search_path())
        .map(|folder| folder.join(name))
        .find(|path| executable(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::definition;

    fn program(table: &str) -> Result<RealProgram> {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("w.toml");
        let text = format!(
            "name = 'w'\nkind = 'program'\ndescription = 'd'\nstands_for = 's'\norigin = 'o'\n\
             licence = 'l'\nbias = 'b'\n[program]\n{table}\n"
        );
        std::fs::write(&path, text).expect("written");
        std::fs::write(folder.path().join("script.sh"), "true\n").expect("written");
        RealProgram::of(&definition::load(&path)?)
    }

    const HASH: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn a_command_that_is_not_installed_names_the_setup_line() {
        let table = format!(
            "command = ['sh', 'script.sh']\nneeds = ['no-such-command-here']\n\
             files = ['script.sh']\nsetup = 'apt-get install -y it'\nexpected_sha256 = '{HASH}'"
        );
        let missing = program(&table).expect("sound").missing();
        let expected = "no-such-command-here is not installed: run `apt-get install -y it`";
        assert_eq!(missing.as_deref(), Some(expected));
        let there = program(&table.replace("no-such-command-here", "sh")).expect("sound");
        assert_eq!(there.missing(), None);
        assert_eq!(there.table.measured_names(), ["sh"]);
    }

    #[test]
    fn senseless_values_are_told_with_their_key() {
        let good = format!("command = ['sh']\nsetup = 's'\nexpected_sha256 = '{HASH}'");
        program(&good).expect("sound");
        for (table, word) in [
            (good.replace("'sh'", ""), "9: [program]: command: expected"),
            (
                good.replace(HASH, "abc"),
                "11: [program]: expected_sha256: expected",
            ),
            (good.replace("'s'", "' '"), "10: [program]: setup: expected"),
            (
                format!("{good}\noutput = '../x'"),
                "12: [program]: output: expected",
            ),
            (
                format!("{good}\ntimeout_seconds = 0"),
                "12: [program]: timeout_seconds",
            ),
            (
                format!("{good}\nfiles = ['none']"),
                "12: [program]: files: ",
            ),
            (
                format!("{good}\ncomand = 1"),
                "12: unknown key `comand`; did you mean `command`?",
            ),
        ] {
            let text = program(&table).expect_err(word).to_string();
            assert!(text.contains(&format!("w.toml:{word}")), "{text}");
            assert_eq!(text.lines().count(), 1, "{text}");
        }
    }
}
