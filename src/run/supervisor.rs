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

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering::Acquire, Ordering::Release};
use std::time::{Duration, Instant};

use memmap2::Mmap;
use serde::{Deserialize, Serialize};

use super::process::restrain;
use super::process_tree as tree;
use crate::subject::object_file::own_allocator;

/// The hidden first argument that makes an executable a supervisor.
pub const FIRST_ARGUMENT: &str = "__program";

/// Time between two looks at the tree's memory, at least.
pub const INTERVAL: Duration = Duration::from_millis(5);
/// After a look that took long, so many times its CPU time passes without one: looking takes at most a
/// twentieth of one processor.
const QUIET_FACTOR: u32 = 19;
/// No file that a program writes may be larger: a faulty one shall not fill the disk.
const FILE_LIMIT_BYTES: u64 = 1 << 30;

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
    /// The object that must serve malloc, by its real path; `None`: not checked.
    pub object: Option<String>,
    /// The executables that it must serve.
    pub measured: Vec<Measured>,
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
    /// Highest sum of PSS at one look.
    pub rss_peak_bytes: u64,
    /// Most processes at one look.
    pub processes_peak: u32,
    /// Looks.
    pub looks: u64,
    /// Why the allocator did not serve the program, if so.
    pub refusal: Option<String>,
}

/// `main` of the supervisor: performs the order in a file and returns an exit code.
pub(super) fn main(order: &OsStr) -> i32 {
    let read =
        |path: &OsStr| -> Option<Order> { serde_json::from_slice(&std::fs::read(path).ok()?).ok() };
    let Some(order) = read(order) else {
        return super::child::EXIT_UNABLE;
    };
    let found = perform(&order);
    let written = serde_json::to_vec(&found)
        .ok()
        .and_then(|text| std::fs::write(&order.answer, text).ok());
    if written.is_some() {
        0
    } else {
        super::child::EXIT_UNABLE
    }
}

fn perform(order: &Order) -> Found {
    // SAFETY: takes numbers. A kernel without it (before 3.4) leaves daemons to init.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
    let command = match command(order) {
        Ok(command) => command,
        Err(error) => return not_started(&error),
    };
    let start = Instant::now();
    let root = match { command }.spawn() {
        Ok(child) => i32::try_from(child.id()).expect("a process id fits its own type"),
        Err(error) => return not_started(&error),
    };
    let done = AtomicBool::new(false);
    let (status, wall, watch) = std::thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut watch = Watch::new(order, start);
            watch.run(&done);
            watch
        });
        let (status, ended) = reap_all(root);
        done.store(true, Release); // read by the watch thread's Acquire
        watcher.thread().unpark();
        let wall = ended.duration_since(start);
        (
            status,
            wall,
            watcher.join().expect("the watch does not panic"),
        )
    });
    found(status, wall, watch)
}

fn found(status: Option<ExitStatus>, wall: Duration, watch: Watch<'_>) -> Found {
    let usage = usage_of_children();
    let count = |number: libc::c_long| u64::try_from(number).unwrap_or(0);
    let refusal = watch.receipt.refusal(watch.order);
    let ending = match (watch.killed, status) {
        (Some(killed), _) => killed,
        (None, Some(status)) => match (status.code(), status.signal()) {
            (Some(code), _) => ProgramEnding::Exited(code),
            (None, signal) => ProgramEnding::Signalled(signal.unwrap_or(0)),
        },
        (None, None) => ProgramEnding::NotStarted("it cannot be waited for".to_owned()),
    };
    Found {
        ending,
        wall_ns: u64::try_from(wall.as_nanos()).unwrap_or(u64::MAX),
        user_ns: time_ns(usage.ru_utime),
        system_ns: time_ns(usage.ru_stime),
        minor_faults: count(usage.ru_minflt),
        major_faults: count(usage.ru_majflt),
        involuntary_switches: count(usage.ru_nivcsw),
        voluntary_switches: count(usage.ru_nvcsw),
        rss_peak_bytes: watch.rss_peak_bytes,
        processes_peak: watch.processes_peak,
        looks: watch.looks,
        refusal,
    }
}

fn not_started(error: &std::io::Error) -> Found {
    Found {
        ending: ProgramEnding::NotStarted(error.to_string()),
        wall_ns: 0,
        user_ns: 0,
        system_ns: 0,
        minor_faults: 0,
        major_faults: 0,
        involuntary_switches: 0,
        voluntary_switches: 0,
        rss_peak_bytes: 0,
        processes_peak: 0,
        looks: 0,
        refusal: None,
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
    unsafe {
        command.pre_exec(|| {
            let limit = libc::rlimit {
                rlim_cur: FILE_LIMIT_BYTES,
                rlim_max: FILE_LIMIT_BYTES,
            };
            libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit);
            restrain()
        });
    }
    Ok(command)
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

fn usage_of_children() -> libc::rusage {
    // SAFETY: a structure of numbers, for which zeroes are valid.
    let mut usage: libc::rusage = unsafe { core::mem::zeroed() };
    // SAFETY: the place has room for the result.
    unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage) };
    usage
}

/// CPU time of the calling thread.
fn thread_cpu_time() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the place has room for the result; the clock exists since Linux 2.6.12.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec.max(0) as u64, time.tv_nsec.max(0) as u32)
}

fn time_ns(time: libc::timeval) -> u64 {
    let (seconds, micros) = (time.tv_sec.max(0) as u64, time.tv_usec.max(0) as u64);
    seconds * 1_000_000_000 + micros * 1000
}

/// The watch thread's state.
struct Watch<'a> {
    order: &'a Order,
    start: Instant,
    rss_peak_bytes: u64,
    processes_peak: u32,
    looks: u64,
    killed: Option<ProgramEnding>,
    receipt: Observed,
}

impl<'a> Watch<'a> {
    fn new(order: &'a Order, start: Instant) -> Self {
        Self {
            order,
            start,
            rss_peak_bytes: 0,
            processes_peak: 0,
            looks: 0,
            killed: None,
            receipt: Observed::default(),
        }
    }

    fn run(&mut self, done: &AtomicBool) {
        // Acquire: pairs with the Release store of the thread that reaps.
        while !done.load(Acquire) {
            let before = thread_cpu_time();
            let processes = tree::descendants();
            if self.killed.is_none() {
                self.look(&processes);
                self.judge(&processes);
            }
            if self.killed.is_some() {
                // Again at each turn: a process may have been starting another.
                kill_all(&processes);
            }
            let cost = thread_cpu_time().saturating_sub(before);
            std::thread::park_timeout(INTERVAL.max(cost * QUIET_FACTOR));
        }
    }

    fn look(&mut self, processes: &[u32]) {
        let (mut bytes, mut count) = (0, 0);
        for process in processes {
            if let Some(own) = tree::pss_bytes(*process) {
                bytes += own;
                count += 1;
            }
            self.receipt.look(*process, self.order);
        }
        self.looks += 1;
        self.rss_peak_bytes = self.rss_peak_bytes.max(bytes);
        self.processes_peak = self.processes_peak.max(count);
        if let Some(limit) = self.order.memory_limit_bytes
            && bytes > limit
        {
            self.killed = Some(ProgramEnding::OutOfMemory(bytes));
        }
    }

    fn judge(&mut self, processes: &[u32]) {
        if suite_is_gone() {
            kill_all(processes);
            // Nobody else is left to remove it.
            let _ = std::fs::remove_dir_all(&self.order.folder);
            self.killed = Some(ProgramEnding::Signalled(libc::SIGKILL));
        }
        if self.killed.is_none() && self.start.elapsed() > self.order.timeout {
            let names = processes.iter().filter_map(|process| tree::name(*process));
            self.killed = Some(ProgramEnding::TimedOut(names.collect()));
        }
    }
}

/// Whether the other end of the pipe on standard input is closed. Nothing is ever written to it.
fn suite_is_gone() -> bool {
    let mut poll = libc::pollfd {
        fd: 0,
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one valid pollfd.
    let ready = unsafe { libc::poll(&raw mut poll, 1, 0) };
    ready > 0 && poll.revents & (libc::POLLHUP | libc::POLLERR | libc::POLLNVAL) != 0
}

fn kill_all(processes: &[u32]) {
    for process in processes {
        if let Ok(process) = i32::try_from(*process) {
            // SAFETY: takes numbers. They are descendants of this process, of which those directly
            // below it are reaped by it alone; a number further down that was given to a new process
            // in the microseconds since would have to be of our own user.
            unsafe { libc::kill(process, libc::SIGKILL) };
        }
    }
}

/// What was seen of the executables that the allocator must serve.
#[derive(Debug, Default)]
struct Observed {
    executables: HashMap<PathBuf, Executable>,
    /// For each process: what it executes, whether the object was seen in it, and looks before that.
    processes: HashMap<u32, (PathBuf, bool, u32)>,
}

/// One executable file that was seen running.
#[derive(Debug)]
struct Executable {
    file: File,
    served: bool,
}

impl Observed {
    fn look(&mut self, process: u32, order: &Order) {
        let Some(object) = &order.object else {
            return;
        };
        let Some((path, file)) = tree::executable(process) else {
            return;
        };
        if !order.measured.iter().any(|measured| measured.is(&path)) {
            return;
        }
        let known = self.processes.entry(process);
        let (executes, seen, looks) = known.or_insert_with(|| (path.clone(), false, 0));
        if *executes != path {
            (*executes, *seen, *looks) = (path.clone(), false, 0);
        }
        if *seen {
            return;
        }
        *looks += 1;
        *seen = tree::has_mapped(process, object) == Some(true);
        let served = *seen;
        let executable = self.executables.entry(path);
        executable.or_insert(Executable { file, served }).served |= served;
    }

    /// Why the allocator did not serve the program, if so.
    fn refusal(&self, order: &Order) -> Option<String> {
        let object = order.object.as_ref()?;
        let mut paths: Vec<&PathBuf> = self.executables.keys().collect();
        paths.sort();
        for path in &paths {
            let executable = &self.executables[*path];
            // SAFETY: mapped for reading only; executables that run are not written to (ETXTBSY), and
            // one that is removed stays as long as it is open.
            let content = unsafe { Mmap::map(&executable.file) }.ok();
            let named = path.display();
            if let Some(reason) = content.as_deref().and_then(own_allocator) {
                return Some(format!("{named} {reason}"));
            }
        }
        // The dynamic linker maps it long before so many looks.
        const LOOKS: u32 = 4;
        let unserved = self
            .processes
            .values()
            .find(|(_, seen, looks)| !seen && *looks >= LOOKS);
        if let Some((path, ..)) = unserved {
            let named = path.display();
            return Some(format!(
                "the preload was ignored: {named} did not load {object}"
            ));
        }
        let served = |measured: &Measured| {
            let mut known = self.executables.iter();
            known.any(|(path, executable)| executable.served && measured.is(path))
        };
        let unseen = order.measured.iter().find(|measured| !served(measured))?;
        Some(format!(
            "no process of {} was seen for long enough to know which allocator served it",
            unseen.name
        ))
    }
}

impl Measured {
    /// Whether it is the executable at a path, as `/proc` tells it: " (deleted)" behind a removed one.
    fn is(&self, path: &Path) -> bool {
        let text = path.to_string_lossy();
        let text = text.strip_suffix(" (deleted)").unwrap_or(&text);
        let name = text.rsplit('/').next().unwrap_or(text);
        self.name == name || self.path.as_deref() == Some(text)
    }
}
