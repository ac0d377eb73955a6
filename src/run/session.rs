//! A session: the temporary folder that programs and answers live in, and the taking of samples.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use tempfile::TempDir;

use super::answer::{
    Answer, AnswerFile, CURVE_LIMIT, PASS_LIMIT, STATE_DONE, STATE_REFUSED, STATE_REPLAYING,
    STATE_STARTED, STATE_WRONG,
};
use super::child::EXIT_UNABLE;
use super::process::{self, Ending, Finished};
use super::request::{ChildArguments, FIRST_ARGUMENT, Request, Task, Work};
use crate::error::{Error, Result};
use crate::measure::results::{MemoryPoint, MemorySample, Pass, Receipt, SpeedSample, Status};
use crate::replay::program::Program;
use crate::replay::serial::Fault;
use crate::subject::functions::FUNCTION_NAMES;
use crate::subject::{Access, Subject};

/// One sample, before it is placed in a plan.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// How it ended.
    pub status: Status,
    /// Why, if not `ok`.
    pub reason: Option<String>,
    /// Operations of one replay, all performed if `ok`.
    pub operations: u64,
    /// Which object served the calls.
    pub receipt: Option<Receipt>,
    /// Timings, in the speed pass.
    pub speed: Option<SpeedSample>,
    /// Sum of the time of all passes; those beyond `speed.passes_ns` too.
    pub total_ns: u64,
    /// Memory, in the memory pass.
    pub memory: Option<MemorySample>,
    /// What the kernel counted of the child.
    pub finished: Finished,
}

/// A child that has ended, and what it left.
struct Child {
    finished: Finished,
    answer: AnswerFile,
    /// Its standard error.
    said: File,
}

/// Tells one file from another that was put in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl Identity {
    fn of(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        })
    }
}

/// See the module text.
#[derive(Debug)]
pub struct Session {
    directory: TempDir,
    files: Cell<u64>,
    /// For each program or kernel: private memory of a child before its first operation when no
    /// allocator is preloaded.
    anonymous_unloaded_bytes: RefCell<HashMap<OsString, u64>>,
    /// Preloaded objects as they were when first used.
    objects: RefCell<HashMap<PathBuf, Option<Identity>>>,
}

impl Session {
    /// Makes the temporary folder; it is removed when the session ends.
    pub fn new() -> Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("mymalloc-")
            .tempdir()
            .map_err(|source| Error::io(std::env::temp_dir(), "make a folder in", source))?;
        Ok(Self {
            directory,
            files: Cell::new(0),
            anonymous_unloaded_bytes: RefCell::default(),
            objects: RefCell::default(),
        })
    }

    fn new_path(&self, kind: &str) -> PathBuf {
        let number = self.files.replace(self.files.get() + 1);
        self.directory.path().join(format!("{kind}-{number}"))
    }

    /// Saves a program where children can map it.
    pub fn save(&self, program: Program) -> Result<Work> {
        let path = self.new_path("program");
        program.save(&path)?;
        Ok(Work::Program {
            path,
            program: Arc::new(program),
        })
    }

    /// Takes one sample in a fresh process. An allocator that fails is an outcome; an error is the
    /// harness's own failure, or the user's interruption.
    pub fn take(&self, request: &Request<'_>) -> Result<Outcome> {
        // Notes the object as it is before its first sample.
        let _ = self.replaced_object(request.subject);
        let mut child = self.run_child(request)?;
        let mut outcome = self.judge(request, &mut child)?;
        if matches!(outcome.status, Status::Ok | Status::Refused)
            && let Some(reason) = self.replaced_object(request.subject)
        {
            outcome.status = Status::Refused;
            outcome.reason = Some(reason);
        }
        Ok(outcome)
    }

    /// Runs one child to its end.
    fn run_child(&self, request: &Request<'_>) -> Result<Child> {
        let path = self.new_path("answer");
        let answer =
            AnswerFile::create(&path).map_err(|source| Error::io(&path, "make", source))?;
        let said = tempfile::tempfile_in(self.directory.path())
            .map_err(|source| Error::io(self.directory.path(), "make a file in", source))?;
        let finished = process::run(command(request, &path, &said)?, request.timeout)
            .map_err(|source| Error::Failed(format!("cannot start a child process: {source}")))?;
        // The mapping stays; the name is no longer needed.
        let _ = std::fs::remove_file(&path);
        match finished.ending {
            Ending::Interrupted => Err(Error::Interrupted),
            Ending::Exited(EXIT_UNABLE) => Err(Error::Failed(format!(
                "a child process could not use the temporary folder {}",
                self.directory.path().display()
            ))),
            _ => Ok(Child {
                finished,
                answer,
                said,
            }),
        }
    }

    /// Why a preloaded object is not the one that the session began with, if so: it was replaced or
    /// removed meanwhile, by a new build for instance, and samples of two builds must not mix.
    fn replaced_object(&self, subject: &Subject) -> Option<String> {
        let Access::Preloaded(path) = &subject.access else {
            return None;
        };
        let now = Identity::of(path);
        let mut known = self.objects.borrow_mut();
        let first = known.entry(path.clone()).or_insert(now);
        (*first != now || now.is_none()).then(|| {
            format!(
                "{} was replaced or removed during the run; repeat it",
                path.display()
            )
        })
    }

    fn judge(&self, request: &Request<'_>, child: &mut Child) -> Result<Outcome> {
        let (finished, answer, said) = (child.finished, child.answer.get(), &mut child.said);
        let mut outcome = Outcome {
            status: Status::Ok,
            reason: None,
            operations: answer.operations,
            receipt: receipt(answer),
            speed: None,
            total_ns: answer.total_ns,
            memory: None,
            finished,
        };
        let mut fail = |status, reason: String| {
            outcome.status = status;
            outcome.reason = Some(reason);
        };
        match (finished.ending, answer.state) {
            (Ending::TimedOut, _) => fail(Status::TimedOut, timed_out_text(request, answer)),
            (Ending::Exited(0), STATE_DONE) => {}
            (Ending::Exited(0), STATE_WRONG) => fail(Status::Wrong, wrong_text(request, answer)),
            (Ending::Exited(0), STATE_REFUSED) => fail(Status::Refused, answer.refusal()),
            (ending, _) => fail(Status::Crashed, crash_text(request, answer, ending, said)),
        }
        if outcome.status == Status::Ok
            && let Some(reason) = foreign_receipt(request.subject, answer)
        {
            outcome.status = Status::Refused;
            outcome.reason = Some(reason);
        }
        if outcome.status == Status::Ok {
            match request.pass {
                Pass::Speed => outcome.speed = Some(speed(answer)),
                Pass::Memory => outcome.memory = Some(self.memory(request, answer)?),
                Pass::Verify => {}
            }
        }
        Ok(outcome)
    }

    /// What the child measured, less what is not the allocator's.
    fn memory(&self, request: &Request<'_>, answer: &Answer) -> Result<MemorySample> {
        let found = &answer.memory;
        let rss_start_bytes = match &request.subject.access {
            // A preloaded allocator began to serve when the process began; what it took until now
            // is its own, less what the process takes without it.
            Access::Preloaded(_) => found
                .anonymous_start_bytes
                .saturating_sub(self.anonymous_unloaded(request)?),
            _ => 0,
        };
        let own = |bytes: u64| bytes.saturating_sub(found.anonymous_start_bytes) + rss_start_bytes;
        let curve = answer.curve[..(found.points as usize).min(CURVE_LIMIT)]
            .iter()
            .map(|point| MemoryPoint {
                operation: point.operation,
                live_bytes: point.live_bytes,
                usable_bytes: point.usable_bytes,
                rss_bytes: own(point.anonymous_bytes),
            })
            .collect();
        Ok(MemorySample {
            rss_start_bytes,
            rss_peak_bytes: own(found.anonymous_peak_bytes),
            rss_retained_bytes: own(found.anonymous_drained_bytes),
            live_bytes_peak: found.live_bytes_peak,
            usable_bytes_peak: found.usable_bytes_at_live_peak,
            curve,
        })
    }

    /// Private memory of a child before its first operation when nothing is preloaded.
    fn anonymous_unloaded(&self, request: &Request<'_>) -> Result<u64> {
        // It hangs on the work: the program's pointers, a kernel's plan.
        let work = match &request.work {
            Work::Program { path, .. } => path.clone().into_os_string(),
            Work::Kernel(kernel) => kernel.to_string().into(),
        };
        if let Some(bytes) = self.anonymous_unloaded_bytes.borrow().get(&work) {
            return Ok(*bytes);
        }
        let system = Subject {
            name: "system".to_owned(),
            description: String::new(),
            access: Access::System,
            environment: Default::default(),
        };
        let child = self.run_child(&Request {
            subject: &system,
            ..request.clone()
        })?;
        let answer = child.answer.get();
        if (child.finished.ending, answer.state) != (Ending::Exited(0), STATE_DONE) {
            return Err(Error::Failed(
                "the memory of a process without a preloaded allocator could not be measured: the \
                 C library's malloc did not complete the workload"
                    .to_owned(),
            ));
        }
        let bytes = answer.memory.anonymous_start_bytes;
        self.anonymous_unloaded_bytes
            .borrow_mut()
            .insert(work, bytes);
        Ok(bytes)
    }
}

/// The child's command: this executable, a clean environment as far as allocators are concerned.
fn command(request: &Request<'_>, answer: &Path, said: &File) -> Result<Command> {
    let task = match &request.work {
        Work::Program { path, .. } => Task::Program(path.clone().into_os_string()),
        Work::Kernel(kernel) => Task::Kernel(*kernel),
    };
    let arguments = ChildArguments {
        pass: request.pass,
        touch: request.touch,
        passes: request.passes,
        token: request.subject.token().to_owned(),
        answer: answer.as_os_str().to_owned(),
        task,
    };
    let stderr = said
        .try_clone()
        .map_err(|source| Error::Failed(format!("cannot copy a descriptor: {source}")))?;
    // The link, not what it points to: it stays right when the file is replaced by a new build.
    let mut command = Command::new("/proc/self/exe");
    if let Ok(executable) = std::env::current_exe() {
        // What the dynamic linker tells as the path of what is linked in.
        command.arg0(executable);
    }
    command
        .arg(FIRST_ARGUMENT)
        .args(arguments.to_words())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(stderr)
        .env("MYMALLOC_PADDING", "x".repeat(request.environment_bytes))
        .env_remove("LD_PRELOAD")
        .envs(&request.subject.environment);
    if let Access::Preloaded(path) = &request.subject.access {
        command.env("LD_PRELOAD", path);
    }
    Ok(command)
}

fn receipt(answer: &Answer) -> Option<Receipt> {
    let path = answer.object_path();
    (!path.is_empty()).then(|| Receipt {
        path,
        functions: FUNCTION_NAMES
            .iter()
            .enumerate()
            .filter(|(index, _)| answer.functions_in_object & 1 << index != 0)
            .map(|(_, name)| name.to_string_lossy().into_owned())
            .collect(),
    })
}

/// Why the object that served the calls is not the one asked for, if so.
fn foreign_receipt(subject: &Subject, answer: &Answer) -> Option<String> {
    let served = answer.object_path();
    if let Access::Preloaded(path) = &subject.access {
        let real = |path: &Path| std::fs::canonicalize(path).ok();
        let asked = real(path);
        if asked.is_none() || asked != real(Path::new(&served)) {
            return Some(format!(
                "the preload was ignored: malloc was served by {served} instead of {}",
                path.display()
            ));
        }
    }
    if subject.access == Access::System && answer.malloc_in_c_library == 0 {
        return Some(format!(
            "malloc was served by {served}, not by the C library: see /etc/ld.so.preload"
        ));
    }
    // The floor rows and linked subjects have their functions from several objects by design.
    if !matches!(subject.access, Access::Preloaded(_) | Access::System) {
        return None;
    }
    let missing: Vec<_> = FUNCTION_NAMES
        .iter()
        .enumerate()
        .filter(|(index, _)| answer.functions_in_object & 1 << index == 0)
        .map(|(_, name)| name.to_string_lossy())
        .collect();
    (!missing.is_empty()).then(|| {
        format!(
            "{served} does not serve {}: another object would mix with it",
            missing.join(", ")
        )
    })
}

fn speed(answer: &Answer) -> SpeedSample {
    SpeedSample {
        passes_ns: answer.passes_ns[..(answer.passes as usize).min(PASS_LIMIT)].to_vec(),
    }
}

fn wrong_text(request: &Request<'_>, answer: &Answer) -> String {
    let what = Fault::from_number(answer.fault).map_or("did wrong", Fault::text);
    format!("{} {what}", operation_text(request, answer.operation))
}

fn timed_out_text(request: &Request<'_>, answer: &Answer) -> String {
    let seconds = request.timeout.as_secs_f64();
    let place = match (answer.state, request.pass) {
        (STATE_REPLAYING, Pass::Verify) => {
            format!(" in {}", operation_text(request, answer.operation))
        }
        (STATE_STARTED, _) => " before the replay began".to_owned(),
        _ => String::new(),
    };
    format!("killed after {seconds} s{place}")
}

fn crash_text(request: &Request<'_>, answer: &Answer, ending: Ending, said: &mut File) -> String {
    let how = match ending {
        Ending::Signalled(signal) => process::signal_name(signal),
        Ending::Exited(code) => format!("ended early with exit code {code}"),
        Ending::TimedOut | Ending::Interrupted => unreachable!("handled by the caller"),
    };
    let place = if answer.state == STATE_REPLAYING && request.pass == Pass::Verify {
        format!(" in {}", operation_text(request, answer.operation))
    } else if answer.state == STATE_REPLAYING {
        " during the replay".to_owned()
    } else {
        " before the replay began".to_owned()
    };
    let message = last_line(said).map_or(String::new(), |line| format!("; it said: {line}"));
    format!("{how}{place}{message}")
}

/// "operation 1000 of the trace, malloc(64)", or how far a kernel was.
fn operation_text(request: &Request<'_>, operation: u64) -> String {
    match &request.work {
        Work::Program { program, .. } => {
            program.describe(usize::try_from(operation).unwrap_or(usize::MAX))
        }
        Work::Kernel(_) => format!("malloc, after {operation} operations of the kernel,"),
    }
}

/// The end of what the child wrote to standard error, on one line and not longer than needed.
fn last_line(said: &mut File) -> Option<String> {
    const TAIL_BYTES: u64 = 4096;
    let length = said.seek(SeekFrom::End(0)).ok()?;
    said.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))
        .ok()?;
    let mut bytes = Vec::new();
    said.take(TAIL_BYTES).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let line = text
        .lines()
        .rev()
        .find(|line| !line.trim().is_empty())?
        .trim();
    let printable: String = line.chars().filter(|c| !c.is_control()).take(200).collect();
    Some(printable)
}
