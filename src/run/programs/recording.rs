//! Records a program of a definition, as it is run when it is measured: in a fresh folder, with the same
//! environment, its output checked. The recorder is this executable's own `record`.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use super::Limits;
use super::judge::{last_line, sha256_of};
use super::launch;
use super::order::Run;
use crate::error::{Error, Result};
use crate::measure::results::Pass;
use crate::run::interrupt;
use crate::run::scratch::Scratch;
use crate::subject::Subject;
use crate::workload::program::RealProgram;

/// A recorder may need so many times as long as the program is given.
const PATIENCE: u32 = 10;
/// Time that a recorder gets to write what it has when it is told to end.
const ENDING: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_millis(20);

/// Records the program `name` under the allocator that it comes with, and puts the traces of its
/// processes into `folder`, which is made. Returns their files, sorted by name.
///
/// # Errors
/// It is not installed, could not be recorded, took too long, or its output under the recorder is wrong.
pub fn record(
    name: &str,
    program: &RealProgram,
    subject: &Subject,
    limits: &Limits,
    folder: &Path,
) -> Result<Vec<PathBuf>> {
    if let Some(reason) = program.missing() {
        return Err(Error::Failed(format!("{name}: {reason}")));
    }
    std::fs::create_dir_all(folder).map_err(|source| Error::io(folder, "create", source))?;
    let folder =
        std::fs::canonicalize(folder).map_err(|source| Error::io(folder, "find", source))?;
    let scratch = Scratch::new()?;
    let run = Run {
        program,
        subject,
        pass: Pass::Program,
        limits,
        environment_bytes: 0,
        // It is recorded with the allocator that it uses by itself.
        object: None,
    };
    let order = run.order(scratch.path())?;
    let failed = |what: String| Error::Failed(format!("{name} cannot be recorded: {what}"));
    let io = |source: std::io::Error| failed(source.to_string());
    let mut command = Command::new("/proc/self/exe");
    command
        .args(["record", "--follow-children", "--touched", "-o"])
        .arg(folder.join(format!("{name}.trace")))
        .arg("--")
        .arg(&order.executable)
        .args(order.command.iter().skip(1))
        .env_clear()
        .envs(&order.environment)
        .current_dir(&order.work)
        .stdin(match &order.input {
            Some(path) => Stdio::from(File::open(path).map_err(io)?),
            None => Stdio::null(),
        })
        .stdout(File::create(&order.output).map_err(io)?)
        .stderr(File::create(&order.errors).map_err(io)?)
        .process_group(0);
    let child = command.spawn().map_err(io)?;
    let status = wait(child, order.timeout * PATIENCE).map_err(io)?;
    let said = last_line(&order.errors).map_or(String::new(), |line| format!(": {line}"));
    let output = match &program.table.output {
        Some(name) => order.work.join(name),
        None => order.output.clone(),
    };
    let sha256 = sha256_of(&output)?;
    launch::remove(scratch);
    match status {
        None if interrupt::requested() => return Err(Error::Interrupted),
        None => return Err(failed(format!("it took too long{said}"))),
        Some(status) if !status.success() => return Err(failed(format!("{status}{said}"))),
        Some(_) => {}
    }
    if sha256.as_ref() != Some(&order.expected_sha256) {
        return Err(failed("its output under the recorder is wrong".to_owned()));
    }
    let traces = traces_in(&folder)?;
    match traces.is_empty() {
        true => Err(failed(format!("the recorder wrote no trace{said}"))),
        false => Ok(traces),
    }
}

/// The traces in a folder that [`record`] filled.
///
/// # Errors
/// The folder cannot be read.
pub fn traces_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed = |source| Error::io(folder, "read", source);
    let mut traces = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let is_trace = path.extension().is_some_and(|ending| ending == "trace");
        if is_trace && path.is_file() {
            traces.push(path);
        }
    }
    traces.sort();
    Ok(traces)
}

/// Waits for the end, or makes one: `None` at the limit and when the user interrupts.
fn wait(mut child: Child, limit: Duration) -> std::io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + limit;
    while Instant::now() < deadline && !interrupt::requested() {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        std::thread::sleep(TICK);
    }
    // All that was started stands in one group, unless it left it.
    signal_group(&child, libc::SIGTERM);
    let deadline = Instant::now() + ENDING;
    while Instant::now() < deadline && child.try_wait()?.is_none() {
        std::thread::sleep(TICK);
    }
    signal_group(&child, libc::SIGKILL);
    child.wait()?;
    Ok(None)
}

fn signal_group(child: &Child, signal: i32) {
    if let Ok(group) = i32::try_from(child.id()) {
        // SAFETY: takes numbers. The child has not been waited for, or was found to have ended just
        // before: its number is not given to another process group while one of its group lives.
        unsafe { libc::kill(-group, signal) };
    }
}
