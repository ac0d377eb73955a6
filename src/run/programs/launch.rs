//! Starts a supervisor and waits for its answer, whatever the program does to it.

use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::measure::results::Status;
use crate::run::family::{Family, Mark};
use crate::run::process::{self, End, Ending};
use crate::run::scratch::Scratch;
use crate::run::supervisor::{self, Found, Order};

/// No file that a program writes may be larger: a faulty one shall not fill the disk.
const FILE_LIMIT_BYTES: u64 = 1 << 30;
/// A supervisor keeps the time limit itself; after so much more it is taken to hang.
const GRACE: Duration = Duration::from_secs(60);
/// Time that a supervisor gets to kill its tree.
const KILLING: Duration = Duration::from_secs(10);
/// Tries to remove a folder, a tenth of a second each.
const REMOVALS: u32 = 20;

/// What came of a supervisor.
#[derive(Debug)]
pub(super) enum Supervised {
    /// It told what it found.
    Ended(Box<Found>),
    /// The program stopped or killed it: what is to be said of that.
    Lost(Status, String),
}

/// Runs an order. However it ends, none of its processes is left.
pub(super) fn supervise(order: &Order) -> Result<Supervised> {
    let order_path = order.folder.join("order");
    let text = serde_json::to_vec(order)
        .map_err(|error| Error::file(&order.folder, format!("a path is not text: {error}")))?;
    std::fs::write(&order_path, text).map_err(|source| Error::io(&order_path, "write", source))?;
    let mark = Mark::new(FILE_LIMIT_BYTES);
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
    // SAFETY: between fork and exec only a function is called that is async-signal-safe.
    unsafe { command.pre_exec(move || mark.set()) };
    let mut child = command.spawn().map_err(|source| failed("start", source))?;
    let pid = i32::try_from(child.id()).expect("a process id fits its own type");
    let mut family = Family::new(pid, mark);
    let deadline = Instant::now() + order.timeout + GRACE;
    let watched = process::wait_for_supervisor(pid, deadline, &family);
    // One that ended has killed its tree; one that was stopped cannot.
    let is_deaf = matches!(watched, Ok(Some(Ending::Stopped)));
    let ended = end(&mut child, pid, is_deaf).map_err(|source| failed("wait", source));
    // What a supervisor leaves that did not end by itself.
    family.kill_others();
    match watched.map_err(|source| failed("wait", source))? {
        Some(Ending::Interrupted) => Err(Error::Interrupted),
        Some(Ending::Stopped) => Ok(Supervised::Lost(
            Status::Crashed,
            "it stopped the process that supervises it (SIGSTOP to its parent)".to_owned(),
        )),
        Some(_) => Ok(Supervised::Lost(
            Status::TimedOut,
            format!(
                "killed after {} s: the process that supervises it did not answer",
                (order.timeout + GRACE).as_secs_f64()
            ),
        )),
        None => answer(order, ended?),
    }
}

fn failed(what: &str, source: std::io::Error) -> Error {
    Error::Failed(format!(
        "the supervisor of a program: cannot {what}: {source}"
    ))
}

/// Ends a supervisor: its pipe is closed, upon which it kills its tree; one that does not is killed.
fn end(child: &mut Child, pid: i32, is_deaf: bool) -> std::io::Result<ExitStatus> {
    drop(child.stdin.take());
    let deadline = Instant::now() + KILLING;
    let ends = End::of(pid)?;
    let mut has_ended = ends.comes_within(Duration::ZERO)?;
    while !has_ended && !is_deaf && Instant::now() < deadline {
        has_ended = ends.comes_within(Duration::from_millis(100))?;
    }
    if !has_ended {
        child.kill()?;
    }
    child.wait()
}

fn answer(order: &Order, status: ExitStatus) -> Result<Supervised> {
    if let Some(signal) = status.signal() {
        let signal = process::signal_name(signal);
        return Ok(Supervised::Lost(
            Status::Crashed,
            format!("the process that supervises it was killed: {signal}"),
        ));
    }
    std::fs::read(&order.answer)
        .ok()
        .and_then(|text| serde_json::from_slice(&text).ok())
        .map(Supervised::Ended)
        .ok_or_else(|| {
            Error::Failed(format!(
                "the supervisor of a program could not use the temporary folder {}",
                order.folder.display()
            ))
        })
}

/// Removes a program's folder, also when what is left in it is still being written.
pub(super) fn remove(folder: Scratch) {
    let path = folder.path().to_owned();
    drop(folder);
    for _ in 0..REMOVALS {
        if !path.exists() || std::fs::remove_dir_all(&path).is_ok() {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
