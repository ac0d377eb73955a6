//! Real programs: run under each subject that can be preloaded, in a fresh working folder, their
//! output checked, their time and memory taken by the [`supervisor`].
//!
//! The C library's malloc is preloaded too, as the others are: a program may be linked with another
//! allocator's library (Debian's redis is, with jemalloc), which would serve it otherwise.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use super::family::{Family, Mark};
use super::process::{self, Ending};
use super::scratch::Scratch;
use super::supervisor::{self, Found, Measured, Order, ProgramEnding};
use crate::error::{Error, Result};
use crate::measure::results::{ProgramRecord, ProgramSample, Receipt, Status, SubjectKind};
use crate::subject::functions::FUNCTION_NAMES;
use crate::subject::{Access, Subject, object_file};
use crate::workload::program::{RealProgram, find_command, search_path};

/// What stays the same over the samples of a run.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Time limit of one run, unless the program's definition gives it more.
    pub timeout: Duration,
    /// Memory of the whole tree at which it is killed.
    pub memory_limit_bytes: Option<u64>,
}

/// One run, before it is placed in a plan.
#[derive(Clone, Debug)]
pub struct ProgramOutcome {
    /// How it ended.
    pub status: Status,
    /// Why, if not `ok`.
    pub reason: Option<String>,
    /// The object that served it.
    pub receipt: Option<Receipt>,
    /// Time and memory, if `ok`.
    pub program: Option<ProgramSample>,
    /// What the supervisor found; `None` if it was not run.
    pub found: Option<Found>,
}

/// Whether a program can be run under a subject at all.
pub fn can_run(subject: &Subject) -> bool {
    matches!(subject.kind(), SubjectKind::System | SubjectKind::Preloaded)
}

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
pub(super) fn executables(program: &RealProgram) -> BTreeMap<String, PathBuf> {
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

/// Runs it once. A program that fails is an outcome; an error is the harness's own failure, or the
/// user's interruption. `environment_bytes` moves the program's stack, against layout bias.
pub fn run(
    program: &RealProgram,
    subject: &Subject,
    limits: &Limits,
    environment_bytes: usize,
) -> Result<ProgramOutcome> {
    if let Some(reason) = program.missing() {
        return Ok(refused(reason, None));
    }
    let object = match object_of(subject) {
        Ok(object) => object,
        Err(reason) => return Ok(refused(reason, None)),
    };
    let receipt = object.as_deref().map(receipt_of);
    if let Some(receipt) = &receipt
        && let Some(reason) = incomplete(receipt)
    {
        return Ok(refused(reason, None));
    }
    let folder = Scratch::new()?;
    let order = order(
        program,
        subject,
        limits,
        folder.path(),
        object,
        environment_bytes,
    )?;
    for path in &program.files {
        let name = path.file_name().unwrap_or_default();
        std::fs::copy(path, order.work.join(name))
            .map_err(|source| Error::io(path, "copy", source))?;
    }
    let found = supervise(&order)?;
    judge(program, &order, found, receipt)
}

fn refused(reason: String, found: Option<Found>) -> ProgramOutcome {
    ProgramOutcome {
        status: Status::Refused,
        reason: Some(reason),
        receipt: None,
        program: None,
        found,
    }
}

/// Path of the object to preload, or why there is none. `None`: nothing is preloaded.
fn object_of(subject: &Subject) -> std::result::Result<Option<PathBuf>, String> {
    match &subject.access {
        Access::System => Ok(c_library()),
        Access::Preloaded(path) if path.is_file() => Ok(Some(path.clone())),
        Access::Preloaded(path) => Err(format!("{}: no such file", path.display())),
        Access::Linked(_) => {
            Err("it is linked into this program and cannot be preloaded into another".to_owned())
        }
    }
}

/// The file of the C library that serves this process.
fn c_library() -> Option<PathBuf> {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: a structure of pointers, for which zeroes are valid.
        let mut information: libc::Dl_info = unsafe { core::mem::zeroed() };
        let known = libc::gnu_get_libc_version as *const core::ffi::c_void;
        // SAFETY: `information` has room for the answer; any address may be asked for.
        let found = unsafe { libc::dladdr(known, &raw mut information) } != 0;
        if !found || information.dli_fname.is_null() {
            return None;
        }
        // SAFETY: dladdr gives the linker's own terminated string.
        let name = unsafe { core::ffi::CStr::from_ptr(information.dli_fname) };
        std::fs::canonicalize(name.to_str().ok()?).ok()
    }
    // musl is its own dynamic linker, and nothing comes before it.
    #[cfg(not(target_env = "gnu"))]
    None
}

fn receipt_of(object: &Path) -> Receipt {
    let names = FUNCTION_NAMES.map(|name| name.to_str().expect("ASCII"));
    Receipt {
        path: object.display().to_string(),
        build: object_file::build(object),
        version: None,
        functions: object_file::defined_functions(object, &names),
    }
}

/// Why this object cannot serve alone, if so.
fn incomplete(receipt: &Receipt) -> Option<String> {
    let missing: Vec<&str> = FUNCTION_NAMES
        .iter()
        .filter_map(|name| name.to_str().ok())
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

fn order(
    program: &RealProgram,
    subject: &Subject,
    limits: &Limits,
    folder: &Path,
    object: Option<PathBuf>,
    environment_bytes: usize,
) -> Result<Order> {
    let work = folder.join("work");
    std::fs::create_dir(&work).map_err(|source| Error::io(&work, "create", source))?;
    let table = &program.table;
    let name = table.command.first().map_or("", String::as_str);
    let executable = find_command(name).unwrap_or_else(|| PathBuf::from(name));
    let measured = table.measured_names().into_iter().map(|name| Measured {
        path: find_command(&name).and_then(|path| real_path(&path)),
        name: name.rsplit('/').next().unwrap_or(&name).to_owned(),
    });
    let own_timeout = table.timeout_seconds.map(Duration::from_secs_f64);
    let absolute = |path: &PathBuf| {
        std::path::absolute(path).map_err(|source| Error::io(path, "find", source))
    };
    Ok(Order {
        folder: folder.to_owned(),
        executable,
        command: table.command.clone(),
        environment: environment(
            program,
            subject,
            &work,
            object.as_deref(),
            environment_bytes,
        ),
        input: program.input.as_ref().map(absolute).transpose()?,
        output: folder.join("output"),
        errors: folder.join("errors"),
        timeout: own_timeout.map_or(limits.timeout, |own| own.max(limits.timeout)),
        memory_limit_bytes: limits.memory_limit_bytes,
        object: object.as_deref().and_then(real_path),
        measured: measured.collect(),
        answer: folder.join("answer"),
        work,
    })
}

fn real_path(path: &Path) -> Option<String> {
    std::fs::canonicalize(path)
        .ok()?
        .to_str()
        .map(str::to_owned)
}

/// The whole environment: nothing of the user's but where his home and his toolchains are.
fn environment(
    program: &RealProgram,
    subject: &Subject,
    work: &Path,
    object: Option<&Path>,
    environment_bytes: usize,
) -> BTreeMap<String, String> {
    let mut all = BTreeMap::from([
        (
            "PATH".to_owned(),
            search_path().to_string_lossy().into_owned(),
        ),
        ("TMPDIR".to_owned(), work.display().to_string()),
        ("LC_ALL".to_owned(), "C.UTF-8".to_owned()),
        ("TZ".to_owned(), "UTC".to_owned()),
        ("MYMALLOC_PADDING".to_owned(), "x".repeat(environment_bytes)),
    ]);
    for name in ["HOME", "CARGO_HOME", "RUSTUP_HOME"] {
        if let Ok(value) = std::env::var(name) {
            all.insert(name.to_owned(), value);
        }
    }
    if let Some(object) = object {
        all.insert("LD_PRELOAD".to_owned(), object.display().to_string());
    }
    all.extend(program.table.environment.clone());
    all.extend(subject.environment.clone());
    all
}

/// Starts the supervisor and waits for its answer.
fn supervise(order: &Order) -> Result<Found> {
    let failed = |what: &str, source: std::io::Error| {
        Error::Failed(format!(
            "the supervisor of a program: cannot {what}: {source}"
        ))
    };
    let order_path = order.folder.join("order");
    let text = serde_json::to_vec(order)
        .map_err(|error| Error::file(&order.folder, format!("a path is not text: {error}")))?;
    std::fs::write(&order_path, text).map_err(|source| Error::io(&order_path, "write", source))?;
    let mut command = Command::new("/proc/self/exe");
    command
        .arg(supervisor::FIRST_ARGUMENT)
        .arg(&order_path)
        // Out of the terminal's group: a Ctrl-C reaches it by the pipe, and ends the whole tree.
        .process_group(0)
        .env_remove("LD_PRELOAD")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    let mut child = command.spawn().map_err(|source| failed("start", source))?;
    let pipe = child.stdin.take();
    let pid = i32::try_from(child.id()).expect("a process id fits its own type");
    // It keeps the time limit itself; this is for a supervisor that hangs.
    let deadline = Instant::now() + order.timeout + Duration::from_secs(60);
    // The supervisor watches the tree and its memory.
    let mut family = Family::new(pid, Mark::new());
    let watched = process::wait_until(pid, deadline, None, &mut family)
        .map_err(|source| failed("wait", source));
    // Closed, it kills the tree and ends.
    drop(pipe);
    child.wait().map_err(|source| failed("wait", source))?;
    match watched? {
        Some(Ending::Interrupted) => Err(Error::Interrupted),
        Some(_) => Err(Error::Failed("the supervisor of a program hung".to_owned())),
        None => std::fs::read(&order.answer)
            .ok()
            .and_then(|text| serde_json::from_slice(&text).ok())
            .ok_or_else(|| {
                Error::Failed(format!(
                    "the supervisor of a program could not use the temporary folder {}",
                    order.folder.display()
                ))
            }),
    }
}

fn judge(
    program: &RealProgram,
    order: &Order,
    found: Found,
    receipt: Option<Receipt>,
) -> Result<ProgramOutcome> {
    let output = match &program.table.output {
        Some(name) => order.work.join(name),
        None => order.output.clone(),
    };
    let sha256 = sha256_of(&output)?;
    let expected = &program.table.expected_sha256;
    let name = program.table.command.join(" ");
    let said =
        || last_line(&order.errors).map_or(String::new(), |line| format!("; it said: {line}"));
    let (status, reason) = match (&found.ending, &found.refusal) {
        (ProgramEnding::TimedOut(names), _) => {
            let seconds = order.timeout.as_secs_f64();
            let left = match names.is_empty() {
                true => String::new(),
                false => format!("; still running: {}", names.join(", ")),
            };
            (Status::TimedOut, format!("killed after {seconds} s{left}"))
        }
        (ProgramEnding::OutOfMemory(bytes), _) => (
            Status::OutOfMemory,
            format!(
                "killed at {} MiB, above the memory limit of {} MiB",
                bytes >> 20,
                order.memory_limit_bytes.unwrap_or(0) >> 20
            ),
        ),
        (ProgramEnding::NotStarted(error), _) => (
            Status::Refused,
            format!("{name} cannot be started: {error}"),
        ),
        (_, Some(refusal)) => (Status::Refused, refusal.clone()),
        (ProgramEnding::Signalled(signal), _) => {
            let signal = process::signal_name(*signal);
            (Status::Crashed, format!("{name}: {signal}{}", said()))
        }
        (ProgramEnding::Exited(code), _) if *code != 0 => {
            let reason = format!("{name} ended with exit code {code}{}", said());
            (Status::Crashed, reason)
        }
        (ProgramEnding::Exited(_), None) if sha256.as_ref() != Some(expected) => {
            let found = match &sha256 {
                Some(sha256) => format!("has SHA-256 {sha256}"),
                None => "was not written".to_owned(),
            };
            let reason = format!(
                "wrong output: it {found}, expected was {expected}{}",
                said()
            );
            (Status::Wrong, reason)
        }
        (ProgramEnding::Exited(_), None) => (Status::Ok, String::new()),
    };
    let is_ok = status == Status::Ok;
    let sample = ProgramSample {
        wall_ns: found.wall_ns,
        user_ns: found.user_ns,
        system_ns: found.system_ns,
        rss_peak_bytes: found.rss_peak_bytes,
        processes_peak: found.processes_peak,
        memory_samples: found.looks,
        output_sha256: sha256.unwrap_or_default(),
    };
    Ok(ProgramOutcome {
        status,
        reason: (!is_ok).then_some(reason),
        // A program that was refused was not served by it.
        receipt: receipt.filter(|_| status != Status::Refused),
        program: matches!(status, Status::Ok | Status::Wrong).then_some(sample),
        found: Some(found),
    })
}

/// Of a file's content; `None` if there is no such file.
fn sha256_of(path: &Path) -> Result<Option<String>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::io(path, "read", source)),
    };
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(Some(hexadecimal(&hash.finalize()))),
            Ok(length) => hash.update(&buffer[..length]),
            // A folder of that name is no output either.
            Err(error) if error.kind() == std::io::ErrorKind::IsADirectory => return Ok(None),
            Err(source) => return Err(Error::io(path, "read", source)),
        }
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The end of what a program wrote to standard error, on one line and not longer than needed.
fn last_line(path: &Path) -> Option<String> {
    const TAIL_BYTES: u64 = 4096;
    let mut file = File::open(path).ok()?;
    let length = file.seek(SeekFrom::End(0)).ok()?;
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))
        .ok()?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let line = text.lines().rev().find(|line| !line.trim().is_empty())?;
    let printable = line.trim().chars().filter(|c| !c.is_control());
    Some(printable.take(200).collect())
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
