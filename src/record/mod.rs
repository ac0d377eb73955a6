//! Records a program: runs it with our recorder preloaded, and makes traces of what that wrote.
//!
//! ```text
//! program     found, and checked to be one that can be recorded
//! session     a private folder beside the trace, with the recorder in it
//! calibrate   what recording an operation costs here
//! launch      the program, as if nobody stood between it and the user
//! drain       copies what the program's threads have written to the ends of their files meanwhile
//! wires       the recorder's files as they appear (preload/recorder writes them)
//! convert     file -> trace (trace/import/wire reads them)
//! ```
//! Whatever happens, what was recorded is kept: if the trace cannot be written, or this process is
//! killed, the recorder's files stay in the session's folder, and every command that reads traces reads
//! them.

pub mod calibrate;
mod convert;
pub mod cost;
mod drain;
mod launch;
mod program;
mod session;
mod system;
mod window_file;
mod wires;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::Duration;

pub use self::convert::Recorded;

use self::convert::{convert, name_of_other};
use self::drain::Drain;
use self::launch::Finished;
use self::session::{Session, can_be_preloaded, preload};
use self::system::Signals;
use self::wires::{Wire, Wires};
use crate::error::{Error, Result};
use crate::subject::object_file;
use crate::trace::import::wire::read_header;
use crate::trace::{Recording, plural};

/// What is to be recorded, and how.
#[derive(Clone, Debug)]
pub struct Order {
    /// The program, as for a shell.
    pub program: OsString,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// The trace's file; none: a new one in the current folder, named after the program.
    pub file: Option<PathBuf>,
    /// Recording a process stops when its file has this size; the trace is far smaller.
    pub max_bytes: u64,
    /// Record the processes that it starts, too, and the programs that it was before `exec`.
    pub follow_children: bool,
    /// Begin switched off; SIGUSR2 switches on and off.
    pub signal: bool,
    /// Every event carries its moment.
    pub times: bool,
    /// Every event carries its call site.
    pub sites: bool,
    /// How much of large blocks is touched is told.
    pub touched: bool,
    /// An allocator to preload behind the recorder, instead of the program's own.
    pub allocator: Option<PathBuf>,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// The traces: the program's own first.
    pub recorded: Vec<Recorded>,
    /// What else is to be said, in sentences.
    pub remarks: Vec<String>,
    /// Why the recording is not what was asked for, in sentences. None: it is.
    pub failures: Vec<String>,
    /// Exit status of the program, as a shell tells it: 128 and the number of the signal that ended it.
    pub exit_code: u8,
    /// CPU time of the program and of the processes that it waited for.
    pub cpu: Duration,
    /// CPU time of this process, beside the program's, in which it copied what the program wrote.
    pub copying_cpu: Duration,
}

/// Calls of a running recording to whoever shows what happens.
pub trait Observer {
    /// A line for the user, who waits.
    fn tell(&mut self, line: &str);
}

/// How long a process that outlives the program goes unmentioned.
const PATIENCE: u32 = 5;
const TICK: Duration = Duration::from_millis(100);

/// Records a program from its start to its end.
///
/// # Errors
/// It cannot be recorded, or nothing of it could. What could is no error: see [`Outcome::failures`].
pub fn run(order: &Order, observer: &mut dyn Observer) -> Result<Outcome> {
    let signals = Signals::block();
    let program = program::find(&order.program)?;
    let allocator = order.allocator.as_deref().map(allocator_path).transpose()?;
    let file = match &order.file {
        Some(file) => file.clone(),
        None => unused_name(&program),
    };
    check_place(&file)?;
    let mut session = Session::new(&file)?;
    let mut options = String::new();
    for (name, is_on) in [
        ("times", order.times),
        ("sites", order.sites),
        ("touched", order.touched),
    ] {
        if is_on {
            options.push_str(if options.is_empty() { "" } else { "," });
            options.push_str(name);
        }
    }
    let before = std::env::var_os("LD_PRELOAD").unwrap_or_default();
    let allocator = allocator.as_deref().map_or(OsStr::new(""), Path::as_os_str);
    let with = preload(&[session.shim().as_os_str(), allocator, &before]);
    let without = preload(&[allocator, &before]);
    let overhead_ps = calibrate::overhead_ps(session.path(), &with, &without, &options)?;
    if system::is_end_pending() {
        return Err(Error::Interrupted);
    }
    let mut command = Command::new(&program);
    command
        .arg0(&order.program)
        .args(&order.arguments)
        .env("LD_PRELOAD", with)
        .env("MYMALLOC_RECORD", session.path())
        .env("MYMALLOC_RECORD_OPTIONS", recorder_options(order, &options));
    let drain = Drain::begin(session.path())?;
    session.keep();
    if order.follow_children {
        system::adopt_orphans();
    }
    let mut wires: Option<Wires> = None;
    let folder = session.path().to_owned();
    let finished = launch::run(command, signals, |process| {
        if wires.is_none() && order.signal {
            observer.tell(&format!(
                "recording is off; kill -USR2 {process} switches it on, and off again"
            ));
        }
        wires
            .get_or_insert_with(|| Wires::new(&folder, process))
            .look();
    });
    let finished = match finished {
        Ok(finished) => finished,
        Err(source) => {
            drain.end();
            session.discard();
            return Err(Error::io(program, "run", source));
        }
    };
    let mut wires = wires.expect("looked at once at least");
    wires.look();
    if order.follow_children && wait_for_others(&mut wires, signals, observer) {
        session.leave_recorder();
    }
    let copying_cpu = drain.end();
    let facts = Facts {
        order,
        file: &file,
        overhead_ps,
        finished,
        copying_cpu,
    };
    let concluded = facts.conclude(&wires, &session, observer);
    if !matches!(&concluded, Ok(concluded) if concluded.is_kept) {
        session.discard();
    }
    concluded.map(|concluded| concluded.outcome)
}

/// The allocator's absolute path.
fn allocator_path(path: &Path) -> Result<PathBuf> {
    object_file::check_allocator(path).map_err(Error::Failed)?;
    let path = std::fs::canonicalize(path).map_err(|source| Error::io(path, "find", source))?;
    if !can_be_preloaded(path.as_os_str()) {
        let message = "LD_PRELOAD cannot name it (a blank, a colon or $); copy it elsewhere";
        return Err(Error::file(path, message));
    }
    Ok(path)
}

/// Refuses what no trace can be written to, before the program runs and not after it.
fn check_place(file: &Path) -> Result<()> {
    match std::fs::metadata(file) {
        Ok(found) if found.is_dir() => Err(Error::usage(format!(
            "{}: a folder; the trace needs the name of a file",
            file.display()
        ))),
        Ok(found) if !found.is_file() => Err(Error::usage(format!(
            "{}: not a plain file, and a recording stands in a folder beside its trace",
            file.display()
        ))),
        // That it cannot be made is told by whoever makes it.
        _ => Ok(()),
    }
}

/// `python3.trace`, or `python3.2.trace` if there is one already: a file that nobody named is not
/// overwritten.
fn unused_name(program: &Path) -> PathBuf {
    let name = program.file_name().unwrap_or(OsStr::new("program"));
    let numbered = |number: u32| {
        let mut file = name.to_owned();
        if number > 1 {
            file.push(format!(".{number}"));
        }
        file.push(".trace");
        PathBuf::from(file)
    };
    let mut names = (1..).map(numbered);
    let unused = names.find(|file| std::fs::symlink_metadata(file).is_err());
    unused.unwrap_or_else(|| numbered(1))
}

fn recorder_options(order: &Order, events: &str) -> String {
    let mut options = format!("limit={}", order.max_bytes);
    if !events.is_empty() {
        options.push(',');
        options.push_str(events);
    }
    if order.follow_children {
        options.push_str(",follow");
    }
    if order.signal {
        options.push_str(&format!(",signal={}", libc::SIGUSR2));
    }
    options
}

/// Waits for processes that outlive the program, until a signal asks for an end. Returns whether any
/// lives on.
fn wait_for_others(wires: &mut Wires, signals: Signals, observer: &mut dyn Observer) -> bool {
    for tick in 0_u32.. {
        // In this order: what it ended as is in its file before a process is gone.
        let has_children = system::has_children();
        wires.look();
        let living = wires.living();
        if living.is_empty() && !has_children {
            return false;
        }
        if tick == PATIENCE && living.is_empty() {
            observer.tell(
                "the program has ended; waiting for processes that it started. Ctrl-C ends the \
                 recording",
            );
        } else if tick == PATIENCE {
            let numbers: Vec<String> = living
                .iter()
                .take(8)
                .map(|wire| wire.key.process.to_string())
                .collect();
            observer.tell(&format!(
                "the program has ended; waiting for {} that it started ({}). Ctrl-C ends the \
                 recording",
                plural(living.len() as u64, "process").replace("processs", "processes"),
                numbers.join(", ")
            ));
        }
        if signals.next(TICK).is_some_and(system::Signal::ends) {
            return true;
        }
    }
    true
}

/// What is known when the program has ended.
struct Facts<'r> {
    order: &'r Order,
    file: &'r Path,
    overhead_ps: u64,
    finished: Finished,
    copying_cpu: Duration,
}

/// The outcome, and whether the recorder's files are still needed.
struct Concluded {
    outcome: Outcome,
    is_kept: bool,
}

impl Facts<'_> {
    fn conclude(
        &self,
        wires: &Wires,
        session: &Session,
        observer: &mut dyn Observer,
    ) -> Result<Concluded> {
        let status = ExitStatus::from_raw(self.finished.end.status);
        let mut outcome = Outcome {
            recorded: Vec::new(),
            remarks: Vec::new(),
            failures: Vec::new(),
            exit_code: exit_code(status),
            cpu: self.finished.end.cpu,
            copying_cpu: self.copying_cpu,
        };
        let all = wires.all();
        let living: Vec<_> = wires.living().iter().map(|wire| wire.key).collect();
        let Some(main) = wires.main_key(&all) else {
            let ended = ended_words(status);
            return Err(Error::Failed(self.why_nothing(&ended, wires.has_folder())));
        };
        session.release_reserve();
        let bytes: u64 = all.iter().map(|wire| wire.header.file_bytes).sum();
        if bytes > LONG_BYTES {
            observer.tell(&format!("writing {}", self.file.display()));
        }
        let mut is_kept = false;
        let others = all.iter().filter(|wire| wire.key != main);
        let this = all.iter().filter(|wire| wire.key == main);
        for wire in this.chain(others) {
            let is_live = living.contains(&wire.key);
            let is_main = wire.key == main;
            if !is_main && !self.order.follow_children {
                continue;
            }
            let is_last = wires.is_last_image(wire.key);
            let path = match is_main {
                true => self.file.to_owned(),
                false => name_of_other(self.file, wire.key, is_last),
            };
            if is_live {
                stop_recording(wire);
            }
            let complete = |recording: &mut Recording| {
                self.complete(recording, is_main, is_live, is_last, status);
            };
            match self.write(wire, &path, is_live, complete) {
                Ok(Some(recorded)) => outcome.recorded.push(recorded),
                Ok(None) if is_main => outcome.failures.push(self.why_empty(wire)),
                Ok(None) => {}
                Err(error) => {
                    let what = match error {
                        Error::Interrupted => format!("{}: interrupted", path.display()),
                        other => other.to_string(),
                    };
                    let there = wire.path.exists();
                    is_kept |= there;
                    outcome.failures.push(match there {
                        true => format!(
                            "{what}; the recording itself is kept, and can be replayed: {}",
                            wire.path.display()
                        ),
                        false => what,
                    });
                    if system::is_end_pending() {
                        break;
                    }
                }
            }
        }
        self.remark(&all, main, &mut outcome);
        Ok(Concluded { outcome, is_kept })
    }

    /// Writes a trace: at its place, or, if the folder has gone, where this process stands or in the
    /// folder for temporary files.
    fn write(
        &self,
        wire: &Wire,
        path: &Path,
        is_live: bool,
        complete: impl Fn(&mut Recording),
    ) -> Result<Option<Recorded>> {
        let first = convert(wire, path, is_live, &complete);
        let parent = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        if first.is_ok() || parent.is_dir() {
            return first;
        }
        let name = path.file_name().unwrap_or_default();
        let elsewhere = [PathBuf::from(name), std::env::temp_dir().join(name)];
        let unused = elsewhere.iter().filter(|path| !path.exists());
        let mut written = unused.filter_map(|path| convert(wire, path, is_live, &complete).ok());
        written.next().map_or(first, Ok)
    }

    /// Adds what the recorder cannot know.
    fn complete(
        &self,
        recording: &mut Recording,
        is_main: bool,
        is_live: bool,
        is_last: bool,
        status: ExitStatus,
    ) {
        recording.overhead_ps_per_operation = Some(self.overhead_ps);
        if is_main {
            recording.ended = ended_words(status);
            recording.cpu_ns = Some(nanoseconds(self.finished.end.cpu));
            recording.wall_ns = nanoseconds(self.finished.wall);
        } else if !is_last {
            recording.ended = "became another program (exec)".to_owned();
        } else if is_live {
            recording.ended = "still running".to_owned();
        } else if recording.ended.starts_with("killed") {
            recording.ended = "killed".to_owned();
        }
    }

    fn remark(&self, all: &[Wire], main: wires::Key, outcome: &mut Outcome) {
        for recorded in &outcome.recorded {
            let shown = recorded.path.display();
            if let Some(why) = &recorded.recording.stopped {
                outcome.failures.push(format!(
                    "{shown}: {why}; it holds the first {}, {} not recorded",
                    plural(recorded.counts.operations(), "operation"),
                    match recorded.recording.unrecorded_calls {
                        1 => "1 call was".to_owned(),
                        calls => format!("{calls} calls were"),
                    }
                ));
            }
            if recorded.path.parent() != self.file.parent() {
                let asked = self.file.display();
                outcome
                    .failures
                    .push(format!("{asked}: its folder is gone; written to {shown}"));
            }
            if recorded.lost_children > 0 {
                outcome.failures.push(format!(
                    "{} started by it could not be recorded",
                    match recorded.lost_children {
                        1 => "1 process".to_owned(),
                        count => format!("{count} processes"),
                    }
                ));
            }
        }
        let own = all.iter().find(|wire| wire.key == main);
        if own.is_some_and(|wire| !wire.header.has_ended()) && outcome.exit_code < 128 {
            outcome.remarks.push(
                "it did not end by exit(): it ended without it (daemons do), or became another program \
                 that cannot be recorded (static, set-uid, env -i)"
                    .to_owned(),
            );
        }
        if self.order.follow_children {
            return;
        }
        let earlier = all.iter().filter(|wire| wire.key.process == main.process);
        let earlier = earlier.filter(|wire| wire.key != main);
        let earlier = each_once(earlier.map(|wire| short_name(&wire.header.program)));
        if !earlier.is_empty() {
            outcome.remarks.push(format!(
                "what ran before it in the same process ({}) is kept with --follow-children",
                earlier.join(", ")
            ));
        }
    }

    /// Why no file was made by the program.
    fn why_nothing(&self, ended: &str, has_folder: bool) -> String {
        let shown = self.order.program.to_string_lossy();
        if !has_folder {
            return format!(
                "{shown} ({ended}): the folder of the recording was removed before anything was \
                 written"
            );
        }
        format!(
            "{shown} ({ended}): nothing was recorded. Its dynamic linker did not load the recorder: it \
             ran another program that is linked statically or has more rights (set-uid), or it started \
             without the environment (env -i, sudo)"
        )
    }

    /// Why a recording holds nothing.
    fn why_empty(&self, wire: &Wire) -> String {
        let shown = short_name(&wire.header.program);
        if self.order.signal {
            return format!(
                "{shown}: recording was never switched on (kill -USR2), so there is no trace"
            );
        }
        format!("{shown} called its allocator not once: there is nothing to replay, and no trace")
    }
}

/// From here on the user is told that it takes a while.
const LONG_BYTES: u64 = 256 << 20;

/// Each name once, in the order in which they came first.
fn each_once(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut seen = std::collections::BTreeSet::new();
    names.filter(|name| seen.insert(name.clone())).collect()
}

fn short_name(program: &str) -> String {
    let name = Path::new(program).file_name().unwrap_or_default();
    name.to_string_lossy().into_owned()
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| Some(128 + status.signal()?));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

fn ended_words(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => match system::signal_name(signal) {
            Some(name) => format!("killed by signal {signal} ({name})"),
            None => format!("killed by signal {signal}"),
        },
        (None, None) => "ended".to_owned(),
    }
}

/// Lets the recorder of a process that lives on find its file full: its folder is about to go, and what
/// it would write from here on nobody reads. It takes note when it needs the next chunk.
fn stop_recording(wire: &Wire) {
    use std::os::unix::fs::FileExt as _;

    let field = crate::trace::wire::header::FILE_BYTES as u64;
    // More than any limit, and less than what overflows.
    let full = (u64::MAX / 4).to_le_bytes();
    if let Ok(file) = File::options().write(true).open(&wire.path) {
        let _ = file.write_all_at(&full, field);
    }
    // A thread of it may be copying its window into what it was given just before.
    for _ in 0..COPYING_MAX_MS {
        match read_header(&wire.file) {
            Ok(Ok(header)) if header.is_copying() => std::thread::sleep(Duration::from_millis(1)),
            _ => return,
        }
    }
}

/// How long that may take, in milliseconds. A process that was stopped in it is read as it stands.
const COPYING_MAX_MS: u32 = 1000;

#[cfg(test)]
mod tests {
    use super::each_once;

    #[test]
    fn programs_that_ran_before_are_named_once() {
        let names = ["env", "bash", "env", "bash", "bash", "sh"];
        assert_eq!(
            each_once(names.map(str::to_owned).into_iter()),
            ["env", "bash", "sh"]
        );
    }
}
