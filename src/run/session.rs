//! A session: the temporary folder that programs and answers live in, and the taking of samples.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use super::answer::{Answer, AnswerFile, Commission, PASS_LIMIT, STATE_DONE};
use super::child::EXIT_UNABLE;
use super::judge::judge;
use super::latency::{self, Replayed};
use super::process::{self, Ending, Finished, Limits};
use super::receipt::{Builds, Identity};
use super::request::{ChildArguments, FIRST_ARGUMENT, Request, Task, Work};
use super::scratch::Scratch;
use super::times::{self, Times};
use super::usage::Usage;
use crate::error::{Error, Result};
use crate::measure::environment::steers_an_allocator;
use crate::measure::results::{
    LatencySample, MemorySample, Order, Pass, Receipt, ReplayUsage, SpeedSample, Status,
    SubjectRecord, Touch,
};
use crate::replay::program::Program;
use crate::replay::threaded::{ThreadedProgram, Timed};
use crate::subject::version::VersionSource;
use crate::subject::{Access, Subject, libc_version};

/// Time limit of a child that only tells a version.
const VERSION_TIMEOUT: Duration = Duration::from_secs(10);

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
    /// Latencies, in the latency pass.
    pub latency: Option<LatencySample>,
    /// What the kernel counted of the child.
    pub finished: Finished,
}

/// A child that has ended, and what it left.
pub(super) struct Child {
    pub(super) finished: Finished,
    pub(super) answer: AnswerFile,
    /// The time of each operation, in the latency pass.
    times: Option<Times>,
    /// Its standard error.
    pub(super) said: File,
}

/// See the module text. Its folder goes with it.
#[derive(Debug)]
pub struct Session {
    directory: Scratch,
    files: Cell<u64>,
    /// For each program or kernel: memory of a child before its first operation when no allocator is
    /// preloaded.
    pub(super) unloaded_bytes: RefCell<HashMap<OsString, u64>>,
    /// For each program for several threads and each kernel: the same on one thread.
    pub(super) works_on_one_thread: RefCell<HashMap<OsString, Work>>,
    /// Preloaded objects as they were when first used.
    objects: RefCell<HashMap<PathBuf, Option<Identity>>>,
    builds: Builds,
    /// Versions of the subjects seen so far, by name.
    versions: RefCell<HashMap<String, Option<String>>>,
}

impl Session {
    /// Makes the temporary folder; it is removed when the session ends.
    pub fn new() -> Result<Self> {
        Ok(Self {
            directory: Scratch::new()?,
            files: Cell::new(0),
            unloaded_bytes: RefCell::default(),
            works_on_one_thread: RefCell::default(),
            objects: RefCell::default(),
            builds: Builds::default(),
            versions: RefCell::default(),
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

    /// Saves a program for several threads.
    pub fn save_threaded(&self, program: ThreadedProgram) -> Result<Work> {
        let path = self.new_path("program");
        program.save(&path)?;
        Ok(Work::Threaded {
            path,
            program: Arc::new(program),
        })
    }

    /// Takes one sample in a fresh process. An allocator that fails is an outcome; an error is the
    /// harness's own failure, or the user's interruption.
    pub fn take(&self, request: &Request<'_>) -> Result<Outcome> {
        // Notes the object as it is before its first sample.
        let _ = self.replaced_object(request.subject);
        let first = Commission {
            settle: u32::from(request.settle),
            ..Commission::default()
        };
        let mut child = self.run_child(request, |answer| answer.commission = first)?;
        let mut outcome = self.judge(request, &mut child);
        match (outcome.status, request.pass) {
            (Status::Ok, Pass::Speed) => outcome.speed = Some(speed(child.answer.get())),
            (Status::Ok, Pass::Memory) => self.add_memory(request, &child, &mut outcome)?,
            (Status::Ok, Pass::Latency) => self.add_latency(request, &child, &mut outcome)?,
            (Status::Wrong, Pass::Verify) => self.place_change(request, &child, &mut outcome)?,
            _ => {}
        }
        if matches!(outcome.status, Status::Ok | Status::Refused)
            && let Some(reason) = self.replaced_object(request.subject)
        {
            outcome.status = Status::Refused;
            outcome.reason = Some(reason);
        }
        Ok(outcome)
    }

    /// What results files say of a subject. Its version is asked for in a child, once.
    pub fn record(&self, subject: &Subject) -> SubjectRecord {
        SubjectRecord {
            version: self.version(subject),
            build: self.builds.of_subject(subject),
            ..subject.record()
        }
    }

    /// A subject's version, where it tells one.
    pub(super) fn version(&self, subject: &Subject) -> Option<String> {
        if let Some(known) = self.versions.borrow().get(&subject.name) {
            return known.clone();
        }
        let version = self.learn_version(subject);
        let mut versions = self.versions.borrow_mut();
        versions.insert(subject.name.clone(), version.clone());
        version
    }

    /// Build of an object.
    pub(super) fn build(&self, object: &Path) -> Option<String> {
        self.builds.of(object)
    }

    fn learn_version(&self, subject: &Subject) -> Option<String> {
        if let Some(known) = subject.version.without_the_allocator() {
            return known;
        }
        if subject.access == Access::System && subject.version == VersionSource::Probe {
            return libc_version();
        }
        let limits = Limits {
            timeout: VERSION_TIMEOUT,
            memory_bytes: None,
        };
        let arguments = |answer: &Path| ChildArguments {
            pass: Pass::Verify,
            touch: Touch::None,
            order: Order::Serial,
            passes: 0,
            token: subject.token().to_owned(),
            answer: answer.as_os_str().to_owned(),
            task: Task::Version(subject.version.clone()),
        };
        // A subject that cannot even tell its version has none; its samples say why.
        let child = self.start(subject, arguments, |_| None, 0, limits).ok()?;
        let answer = child.answer.get();
        let told = (child.finished.ending, answer.state) == (Ending::Exited(0), STATE_DONE);
        Some(answer.version()).filter(|version| told && !version.is_empty())
    }

    /// Runs one child of a request to its end. `commission` says more than the command line does.
    pub(super) fn run_child(
        &self,
        request: &Request<'_>,
        commission: impl FnOnce(&mut Answer),
    ) -> Result<Child> {
        let task = match &request.work {
            Work::Program { path, .. } | Work::Threaded { path, .. } => {
                Task::Program(path.clone().into_os_string())
            }
            Work::Kernel(kernel) => Task::Kernel(*kernel),
        };
        let arguments = |answer: &Path| ChildArguments {
            pass: request.pass,
            touch: request.touch,
            order: request.order,
            passes: request.passes,
            token: request.subject.token().to_owned(),
            answer: answer.as_os_str().to_owned(),
            task,
        };
        let prepare = |answer: &mut Answer| {
            commission(answer);
            if request.pass != Pass::Latency || answer.commission.is_second != 0 {
                return None;
            }
            match &request.work {
                Work::Program { program, .. } => Some(program.words.len()),
                Work::Threaded { program, .. } => Some(program.words()),
                Work::Kernel(_) => None,
            }
        };
        // Waiting for recorded times is no fault of the allocator.
        let recorded = match &request.work {
            Work::Threaded { program, .. } => program.paced_time() * request.passes.max(1),
            _ => Duration::ZERO,
        };
        let limits = Limits {
            timeout: request.timeout + recorded,
            memory_bytes: request.memory_limit_bytes,
        };
        let bytes = request.environment_bytes;
        self.start(request.subject, arguments, prepare, bytes, limits)
    }

    /// Starts a child and waits for its end. `prepare` fills the answer file's commission, and tells
    /// how many places for times of single operations there shall be, if any.
    fn start(
        &self,
        subject: &Subject,
        arguments: impl FnOnce(&Path) -> ChildArguments,
        prepare: impl FnOnce(&mut Answer) -> Option<usize>,
        environment_bytes: usize,
        limits: Limits,
    ) -> Result<Child> {
        let path = self.new_path("answer");
        let mut answer =
            AnswerFile::create(&path).map_err(|source| Error::io(&path, "make", source))?;
        let times = match prepare(answer.get_mut()) {
            Some(places) => {
                let made = Times::create(&path, places);
                let path = times::path_beside(&path);
                Some(made.map_err(|source| Error::io(path, "make", source))?)
            }
            None => None,
        };
        let said = tempfile::tempfile_in(self.directory.path())
            .map_err(|source| Error::io(self.directory.path(), "make a file in", source))?;
        let command = command(subject, &arguments(&path), environment_bytes, &said)?;
        let finished = process::run(command, limits)
            .map_err(|source| Error::Failed(format!("cannot start a child process: {source}")))?;
        // The mappings stay; the names are no longer needed.
        let _ = std::fs::remove_file(&path);
        if times.is_some() {
            let _ = std::fs::remove_file(times::path_beside(&path));
        }
        match finished.ending {
            Ending::Interrupted => Err(Error::Interrupted),
            Ending::Exited(EXIT_UNABLE) => Err(Error::Failed(format!(
                "a child process could not use the temporary folder {}",
                self.directory.path().display()
            ))),
            _ => Ok(Child {
                finished,
                answer,
                times,
                said,
            }),
        }
    }

    /// Why a preloaded object is not the one that the session began with, if so: it was replaced or
    /// removed meanwhile, by a new build for instance, and samples of two builds must not mix.
    pub(super) fn replaced_object(&self, subject: &Subject) -> Option<String> {
        match &subject.access {
            Access::Preloaded(path) => self.replaced_file(path),
            _ => None,
        }
    }

    /// The same for any file; the first time that it is asked about counts as the beginning.
    pub(super) fn replaced_file(&self, path: &Path) -> Option<String> {
        let now = Identity::of(path);
        let mut known = self.objects.borrow_mut();
        let first = known.entry(path.to_owned()).or_insert(now);
        (*first != now || now.is_none()).then(|| {
            format!(
                "{} was replaced or removed during the run; repeat it",
                path.display()
            )
        })
    }

    /// How a child ended, with its receipt.
    fn judge(&self, request: &Request<'_>, child: &mut Child) -> Outcome {
        let version = self.version(request.subject);
        let receipt = self
            .builds
            .receipt(request.subject, version, child.answer.get());
        judge(request, child, receipt)
    }

    /// Runs the second child of a sample, which explains what the first one found. `None` if it failed
    /// where the first did not; `outcome` then tells.
    pub(super) fn explain(
        &self,
        request: &Request<'_>,
        commission: impl FnOnce(&mut Answer),
        outcome: &mut Outcome,
    ) -> Result<Option<Child>> {
        let mut child = self.run_child(request, |answer| {
            commission(answer);
            answer.commission.is_second = 1;
        })?;
        let second = self.judge(request, &mut child);
        if second.status == Status::Ok {
            return Ok(Some(child));
        }
        outcome.status = second.status;
        outcome.reason = second.reason;
        Ok(None)
    }

    /// The latencies that one child measured, and what a second one found to have happened then.
    fn add_latency(
        &self,
        request: &Request<'_>,
        child: &Child,
        outcome: &mut Outcome,
    ) -> Result<()> {
        let (Some(times), Some(replayed)) = (&child.times, Replayed::of(&request.work)) else {
            return Ok(());
        };
        let found = &child.answer.get().latency;
        let second = |answer: &mut Answer| answer.latency = *found;
        if let Some(explained) = self.explain(request, second, outcome)? {
            let worst = explained.answer.get().latency.tally.worst();
            outcome.latency = Some(latency::sample(&replayed, times.as_slice(), found, worst));
        }
        Ok(())
    }

    /// If a block's content was found changed, in which operation that happened: a second child
    /// compares this block after each. An allocator that does not do the same wrong again leaves the
    /// first finding as it is.
    fn place_change(
        &self,
        request: &Request<'_>,
        child: &Child,
        outcome: &mut Outcome,
    ) -> Result<()> {
        let watch = child.answer.get().changed;
        if watch == 0 {
            return Ok(());
        }
        let mut again = self.run_child(request, |answer| {
            answer.commission.is_second = 1;
            answer.commission.watch = watch;
        })?;
        let second = self.judge(request, &mut again);
        if second.status == Status::Wrong {
            outcome.reason = second.reason;
        }
        Ok(())
    }
}

/// The child's command: this executable, a clean environment as far as allocators are concerned.
fn command(
    subject: &Subject,
    arguments: &ChildArguments,
    environment_bytes: usize,
    said: &File,
) -> Result<Command> {
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
        .env("MYMALLOC_PADDING", "x".repeat(environment_bytes));
    // A row means the settings that it names and no others.
    for (name, _) in std::env::vars_os() {
        if steers_an_allocator(&name.to_string_lossy()) {
            command.env_remove(name);
        }
    }
    command.envs(&subject.environment);
    if let Access::Preloaded(path) = &subject.access {
        command.env("LD_PRELOAD", path);
    }
    Ok(command)
}

fn speed(answer: &Answer) -> SpeedSample {
    let passes = (answer.passes as usize).min(PASS_LIMIT);
    let replays = match answer.threads_alive_peak {
        0 => &[],
        _ => &answer.threaded[..passes],
    };
    let threaded = |of: fn(&Timed) -> u64| replays.iter().map(of).collect();
    // A serial replay tells its CPU time too; a kernel does not, and nothing takes no time.
    let process_cpu_ns: Vec<u64> = answer.threaded[..passes]
        .iter()
        .map(|timed| timed.process_cpu_ns)
        .collect();
    let is_told = process_cpu_ns.iter().all(|ns| *ns > 0);
    SpeedSample {
        passes_ns: answer.passes_ns[..passes].to_vec(),
        usage: answer.usage[..passes].iter().map(usage).collect(),
        cpu_ns: threaded(|timed| timed.cpu_ns),
        hand_over_cpu_ns: threaded(|timed| timed.hand_over_cpu_ns),
        process_cpu_ns: if is_told { process_cpu_ns } else { Vec::new() },
        waiting_ns: threaded(|timed| timed.waiting_ns),
        pacing_ns: threaded(|timed| timed.pacing_ns),
        lateness_mean_ns: threaded(|timed| timed.lateness_mean_ns),
        lateness_max_ns: threaded(|timed| timed.lateness_max_ns),
        alive_ns: threaded(|timed| timed.alive_ns),
    }
}

fn usage(found: &Usage) -> ReplayUsage {
    ReplayUsage {
        minor_faults: found.minor_faults,
        major_faults: found.major_faults,
        involuntary_switches: found.involuntary_switches,
        voluntary_switches: found.voluntary_switches,
    }
}
