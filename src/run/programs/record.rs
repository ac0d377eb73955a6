//! What results files say of a program, and which exact files it was given.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::judge::hexadecimal;
use crate::error::{Error, Result};
use crate::measure::results::ProgramRecord;
use crate::run::process::{self, Ending};
use crate::subject::object_file;
use crate::workload::program::{RealProgram, find_command, search_path};

/// What results files say of a program. Runs its version command, if it is there.
pub fn record(program: &RealProgram) -> Result<ProgramRecord> {
    Ok(ProgramRecord {
        command: program.table.command.clone(),
        setup: program.table.setup.clone(),
        version: version(&program.table.version),
        executables: executables(program)
            .into_iter()
            .filter_map(|(name, path)| Some((name, object_file::build(&path)?)))
            .collect(),
        files_sha256: files_sha256(program)?,
    })
}

/// The files of the commands that a program consists of, by name: those that are installed, not those
/// that it is given.
pub(in crate::run) fn executables(program: &RealProgram) -> BTreeMap<String, PathBuf> {
    let table = &program.table;
    let command = table.command.iter().take(1);
    let names = command.chain(&table.needs).chain(&table.measured);
    let installed = names.filter(|name| Path::new(name).components().count() == 1);
    installed
        .filter_map(|name| Some((name.clone(), find_command(name)?)))
        .collect()
}

/// SHA-256 over all that a program is given: its command and its files.
pub fn files_sha256(program: &RealProgram) -> Result<String> {
    let mut hash = Sha256::new();
    for word in &program.table.command {
        hash.update((word.len() as u64).to_le_bytes());
        hash.update(word);
    }
    for path in program.files.iter().chain(&program.input) {
        let content = std::fs::read(path).map_err(|source| Error::io(path, "read", source))?;
        hash.update((content.len() as u64).to_le_bytes());
        hash.update(content);
    }
    Ok(hexadecimal(&hash.finalize()))
}

/// The first line that a version command prints, if it can be run.
fn version(command: &[String]) -> Option<String> {
    const PATIENCE: Duration = Duration::from_secs(10);
    let (name, arguments) = command.split_first()?;
    let mut output = tempfile::tempfile().ok()?;
    let mut command = Command::new(find_command(name)?);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(output.try_clone().ok()?)
        .stderr(output.try_clone().ok()?)
        .env("LC_ALL", "C.UTF-8")
        .env("PATH", search_path())
        .env_remove("LD_PRELOAD");
    let finished = process::run(
        command,
        process::Limits {
            timeout: PATIENCE,
            memory_bytes: None,
        },
    )
    .ok()?;
    if finished.ending != Ending::Exited(0) {
        return None;
    }
    let mut text = String::new();
    output.seek(SeekFrom::Start(0)).ok()?;
    output.take(4096).read_to_string(&mut text).ok()?;
    let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
    Some(line.chars().take(200).collect())
}
