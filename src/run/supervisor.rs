//! Runs one real program, in a process of its own between the suite and the program: so the kernel's
//! sum over its children is the sum over the program's tree, and no other child of the suite mixes in.
//!
//! ```text
//! suite --Order (file), open pipe--> supervisor --spawn--> program -> its children ...
//!       <--Found (file)------------  main thread: reaps; watch thread: looks at /proc, kills
//! ```
//! It is a subreaper: a process whose parent has ended becomes its child, is waited for and counted.
//! The run lasts until the last of them has ended. When the pipe closes, because the suite was
//! interrupted or killed, everything is killed and the folder removed.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering::Release};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::process::restrain;

mod watch;

use watch::Watch;
pub(super) use watch::refuses_preloads;

/// The hidden first argument that makes an executable a supervisor.
pub const FIRST_ARGUMENT: &str = "__program";

/// Tries to remove the folder of a suite that is gone, a tenth of a second each.
const REMOVALS: u32 = 50;

/// What is looked at besides time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Looks {
    /// Only what the limits need, seldom: the run is timed.
    Limits,
    /// The memory of the tree, as often as possible.
    Memory,
    /// Which executables run, and whether they have mapped the object.
    Objects,
}

/// What to run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Order {
    /// The folder that goes when the suite is gone: holds all others.
    pub folder: PathBuf,
    /// The working folder.
    pub work: PathBuf,
    /// The command's file.
    pub executable: PathBuf,
    /// The command, word by word.
    pub command: Vec<String>,
    /// The whole environment.
    pub environment: BTreeMap<String, String>,
    /// Standard input; none if it is `None`.
    pub input: Option<PathBuf>,
    /// Where standard output goes.
    pub output: PathBuf,
    /// Where standard error goes.
    pub errors: PathBuf,
    /// When to kill the tree.
    pub timeout: Duration,
    /// Memory of the tree at which to kill it.
    pub memory_limit_bytes: Option<u64>,
    /// What is looked at.
    pub looks: Looks,
    /// The object that must serve malloc, by its real path; `None`: not checked.
    pub object: Option<String>,
    /// The executables that it must serve.
    pub measured: Vec<Measured>,
    /// The folder in which the dynamic linker tells what it binds, if it is asked.
    pub bindings: Option<PathBuf>,
    /// SHA-256 of the right output, in hexadecimal.
    pub expected_sha256: String,
    /// Where the answer goes.
    pub answer: PathBuf,
}

/// An executable, by its name or by what the command of that name leads to: `python3` to
/// `python3.11`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Measured {
    /// Its name.
    pub name: String,
    /// The real path of the command of that name, if there is one.
    pub path: Option<String>,
}

/// How a program ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProgramEnding {
    /// Its first process ended by itself.
    Exited(i32),
    /// A signal ended its first process.
    Signalled(i32),
    /// Killed at the time limit; the names of processes that still ran.
    TimedOut(Vec<String>),
    /// Killed at the memory limit, with so many bytes.
    OutOfMemory(u64),
    /// It could not be started.
    NotStarted(String),
}

/// What was found.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Found {
    /// How it ended.
    pub ending: ProgramEnding,
    /// Until the last process ended.
    pub wall_ns: u64,
    /// CPU time in user mode, of all processes.
    pub user_ns: u64,
    /// CPU time in the kernel, of all processes.
    pub system_ns: u64,
    /// Page faults without input or output.
    pub minor_faults: u64,
    /// Page faults with input or output.
    pub major_faults: u64,
    /// Forced context switches.
    pub involuntary_switches: u64,
    /// Context switches when a process waited.
    pub voluntary_switches: u64,
    /// Highest sum of PSS at one look, if memory is looked at.
    pub rss_sum_peak_bytes: u64,
    /// Peak RSS of the largest process, as the kernel counted it; 0 if it is not known, because it is
    /// no larger than a copy of the supervisor, as which each process begins.
    pub rss_largest_bytes: u64,
    /// Most processes at one look.
    pub processes_peak: u32,
    /// Looks.
    pub looks: u64,
    /// CPU time that processes were seen to have used when they were last looked at.
    pub seen_cpu_ns: u64,
    /// A process that had children and ignored their end, by name: the kernel does not count them.
    pub forgetful: Option<String>,
    /// Executables that the allocator must serve, process by process, if they are looked at.
    pub executables: Vec<Seen>,
}

/// A process that ran one of the measured executables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// The process.
    pub process: u32,
    /// The executable, as `/proc` tells it: " (deleted)" behind a removed one.
    pub path: PathBuf,
    /// Whether the object was seen in it.
    pub has_object: bool,
    /// Looks until then, or all.
    pub looks: u32,
    /// Why no preloaded object can serve this executable, if so.
    pub own_allocator: Option<String>,
}

impl Found {
    /// Before anything was run.
    fn nothing(ending: ProgramEnding) -> Self {
        Self {
            ending,
            wall_ns: 0,
            user_ns: 0,
            system_ns: 0,
            minor_faults: 0,
            major_faults: 0,
            involuntary_switches: 0,
            voluntary_switches: 0,
            rss_sum_peak_bytes: 0,
            rss_largest_bytes: 0,
            processes_peak: 0,
            looks: 0,
            seen_cpu_ns: 0,
            forgetful: None,
            executables: Vec::new(),
        }
    }
}

/// `main` of the supervisor: performs the order in a file and returns an exit code.
pub(super) fn main(order: &OsStr) -> i32 {
    let read =
        |path: &OsStr| -> Option<Order> { serde_json::from_slice(&std::fs::read(path).ok()?).ok() };
    let Some(order) = read(order) else {
        return super::child::EXIT_UNABLE;
    };
    let found = perform(&order);
    if watch::suite_is_gone() {
        remove(&order.folder);
        return 0;
    }
    let written = serde_json::to_vec(&found)
        .ok()
        .and_then(|text| std::fs::write(&order.answer, text).ok());
    if written.is_some() {
        0
    } else {
        super::child::EXIT_UNABLE
    }
}

/// Removes the folder of a suite that is gone: nobody else is left to do it. What wrote into it is
/// dead by now, except for what escaped, and another try may find it finished.
fn remove(folder: &Path) {
    for _ in 0..REMOVALS {
        match std::fs::remove_dir_all(folder) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {}
            _ => return,
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn perform(order: &Order) -> Found {
    // SAFETY: takes numbers. A kernel without it (before 3.4) leaves daemons to init.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
    let command = match command(order) {
        Ok(command) => command,
        Err(error) => return Found::nothing(ProgramEnding::NotStarted(error.to_string())),
    };
    let copy_kib = match order.looks {
        Looks::Memory => copy_kib(),
        _ => 0,
    };
    let start = Instant::now();
    let root = match { command }.spawn() {
        Ok(child) => i32::try_from(child.id()).expect("a process id fits its own type"),
        Err(error) => return Found::nothing(ProgramEnding::NotStarted(error.to_string())),
    };
    let done = AtomicBool::new(false);
    let (status, wall, watch) = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut watch = Watch::new(order, start);
            watch.run(&done);
            watch
        });
        let (status, ended) = reap_all(root);
        done.store(true, Release); // pairs with the Acquire of the watch thread
        watcher.thread().unpark();
        let wall = ended.duration_since(start);
        (
            status,
            wall,
            watcher.join().expect("the watch does not panic"),
        )
    });
    found(status, wall, watch, copy_kib)
}

fn found(
    status: Option<ExitStatus>,
    wall: Duration,
    watch: Watch<'_>,
    copy_kib: libc::c_long,
) -> Found {
    let usage = self::usage(libc::RUSAGE_CHILDREN);
    let count = |number: libc::c_long| u64::try_from(number).unwrap_or(0);
    let ending = match (&watch.killed, status) {
        (Some(killed), _) => killed.clone(),
        (None, Some(status)) => match (status.code(), status.signal()) {
            (Some(code), _) => ProgramEnding::Exited(code),
            (None, signal) => ProgramEnding::Signalled(signal.unwrap_or(0)),
        },
        (None, None) => ProgramEnding::NotStarted("it cannot be waited for".to_owned()),
    };
    let largest_kib = match usage.ru_maxrss > copy_kib {
        true => count(usage.ru_maxrss),
        false => 0,
    };
    Found {
        wall_ns: u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX),
        user_ns: time_ns(usage.ru_utime),
        system_ns: time_ns(usage.ru_stime),
        minor_faults: count(usage.ru_minflt),
        major_faults: count(usage.ru_majflt),
        involuntary_switches: count(usage.ru_nivcsw),
        voluntary_switches: count(usage.ru_nvcsw),
        rss_largest_bytes: largest_kib * 1024,
        ..watch.into_found(ending)
    }
}

fn command(order: &Order) -> std::io::Result<Command> {
    let mut command = Command::new(&order.executable);
    match &order.input {
        Some(path) => command.stdin(File::open(path)?),
        None => command.stdin(std::process::Stdio::null()),
    };
    if let Some(name) = order.command.first() {
        command.arg0(name);
    }
    command
        .args(order.command.iter().skip(1))
        .env_clear()
        .envs(&order.environment)
        .current_dir(&order.work)
        .stdout(File::create(&order.output)?)
        .stderr(File::create(&order.errors)?);
    // SAFETY: between fork and exec only functions are called that are async-signal-safe.
    unsafe { command.pre_exec(restrain) };
    Ok(command)
}

/// Peak RSS of a child before it executes anything, in KiB: it begins as a copy of this process, which
/// the kernel counts as its own. Not in timed runs, whose children it would be counted with.
fn copy_kib() -> libc::c_long {
    // SAFETY: this process has one thread yet, and the copy does nothing but end.
    let copy = unsafe { libc::fork() };
    if copy == 0 {
        // SAFETY: ends the process.
        unsafe { libc::_exit(0) };
    }
    // SAFETY: no place for the status is asked for.
    unsafe { libc::waitpid(copy, core::ptr::null_mut(), 0) };
    usage(libc::RUSAGE_CHILDREN).ru_maxrss
}

/// Waits until no child is left, and tells how the first ended and when the last did.
fn reap_all(root: i32) -> (Option<ExitStatus>, Instant) {
    let mut root_status = None;
    loop {
        let mut status = 0;
        // SAFETY: the place has room for the result.
        let reaped = unsafe { libc::waitpid(-1, &raw mut status, libc::__WALL) };
        if reaped == root {
            root_status = Some(ExitStatus::from_raw(status));
        } else if reaped < 0 {
            let error = std::io::Error::last_os_error();
            if error.kind() != std::io::ErrorKind::Interrupted {
                return (root_status, Instant::now());
            }
        }
    }
}

fn usage(of: i32) -> libc::rusage {
    // SAFETY: a structure of numbers, for which zeroes are valid.
    let mut usage: libc::rusage = unsafe { core::mem::zeroed() };
    // SAFETY: the place has room for the result.
    unsafe { libc::getrusage(of, &raw mut usage) };
    usage
}

fn time_ns(time: libc::timeval) -> u64 {
    let (seconds, micros) = (time.tv_sec.max(0) as u64, time.tv_usec.max(0) as u64);
    seconds * 1_000_000_000 + micros * 1000
}

impl Measured {
    /// Whether it is the executable at a path, as `/proc` tells it: " (deleted)" behind a removed one.
    pub fn is(&self, path: &Path) -> bool {
        let text = path.to_string_lossy();
        let text = text.strip_suffix(" (deleted)").unwrap_or(&text);
        let name = text.rsplit('/').next().unwrap_or(text);
        self.name == name || self.path.as_deref() == Some(text)
    }
}
