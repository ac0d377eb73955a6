//! The journal of a suite: each sample is appended when it was taken, so that nothing is lost when the
//! suite is interrupted, killed, or the machine goes down.
//!
//! ```text
//! {"journal":2,"started":"…","environment":{…},"plan":{…}}     what was to be measured, and where
//! {"run":0,"workload":"…",…}                                   a sample
//! {"resumed":"…","run":0,"environment":{…},"plan":{…}}         the suite was started again
//! ```
//! One line each, in JSON. A line without its end was cut short by a kill, and is dropped. So is a
//! block that was: its subjects are compared, and must be measured side by side. A journal is continued
//! only under the plan that it was begun with. On another machine, or on this one after its kernel
//! changed, that begins a new run: ratios are taken inside a run.

#![forbid(unsafe_code)]

use std::collections::{BTreeSet, HashMap};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::engine::{BlockKey, Keeper};
use crate::error::{Error, Result};
use crate::measure::environment::Environment;
use crate::measure::results::{Pass, Run, Sample, Status};

mod plan;

pub use plan::{Plan, PlannedWorkload};

/// Version of the journal's layout.
const VERSION: u32 = 2;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Header {
    journal: u32,
    started: String,
    environment: Environment,
    plan: Plan,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Resumed {
    resumed: String,
    /// Index of the run that goes on, or begins.
    run: u32,
    environment: Environment,
    plan: Plan,
}

/// One run as the journal tells it.
#[derive(Debug)]
struct Begun {
    started: String,
    resumed: Vec<String>,
    environment: Environment,
}

type Key = (String, Pass, u32);

/// The samples of a block by subject, all taken since the suite was last started.
#[derive(Debug, Default)]
struct Block {
    /// How often the suite had been resumed then.
    start: usize,
    samples: HashMap<String, Sample>,
}

/// An open journal.
#[derive(Debug)]
pub struct Journal {
    file: File,
    path: PathBuf,
    kept: HashMap<Key, Block>,
    /// The last one is under way.
    runs: Vec<Begun>,
}

impl Journal {
    /// Begins a journal.
    ///
    /// # Errors
    /// There is one already, or it cannot be written.
    pub fn create(path: &Path, plan: &Plan, environment: &Environment) -> Result<Self> {
        let opened = OpenOptions::new().append(true).create_new(true).open(path);
        let file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                // Not interrupted, if it is under way.
                let file = File::open(path).map_err(|source| Error::io(path, "read", source))?;
                lock(path, &file)?;
                return Err(Error::file(
                    path,
                    "an interrupted suite left this journal: continue it with --resume, or throw \
                     it away with --fresh",
                ));
            }
            Err(source) => return Err(Error::io(path, "create", source)),
        };
        lock(path, &file)?;
        Self::begin(path, file, plan, environment)
    }

    fn begin(path: &Path, file: File, plan: &Plan, environment: &Environment) -> Result<Self> {
        let begun = Begun {
            started: now(),
            resumed: Vec::new(),
            environment: environment.clone(),
        };
        let header = Header {
            journal: VERSION,
            started: begun.started.clone(),
            environment: environment.clone(),
            plan: plan.clone(),
        };
        let mut journal = Self {
            file,
            path: path.to_owned(),
            kept: HashMap::new(),
            runs: vec![begun],
        };
        journal.append(&header)?;
        Ok(journal)
    }

    /// Continues a journal. What was cut short at its end is dropped, and the samples of workloads of
    /// which none could be measured: what was missing may be there now.
    ///
    /// # Errors
    /// There is none, it was begun under another plan, a line other than the last is damaged, or
    /// another suite is writing to it.
    pub fn resume(path: &Path, plan: &Plan, environment: &Environment) -> Result<Self> {
        let opened = OpenOptions::new().read(true).write(true).open(path);
        let mut file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                return Err(Error::file(
                    path,
                    "no such journal: there is nothing to resume; leave out --resume",
                ));
            }
            Err(source) => return Err(Error::io(path, "read", source)),
        };
        lock(path, &file)?;
        let mut text = Vec::new();
        file.read_to_end(&mut text)
            .map_err(|source| Error::io(path, "read", source))?;
        // What stands after the last end of a line was cut short.
        let whole = text
            .iter()
            .rposition(|byte| *byte == b'\n')
            .map_or(0, |at| at + 1);
        const HEAD: &[u8] = b"{\"journal\":";
        let head = &text[..text.len().min(HEAD.len())];
        if whole == 0 && HEAD.starts_with(head) {
            // It was killed before it had measured anything.
            rewind(path, &mut file, 0)?;
            return Self::begin(path, file, plan, environment);
        }
        let mut past = Past::read(path, &text[..whole.max(head.len())])?;
        past.forget_refused();
        past.check(path, plan)?;
        rewind(path, &mut file, whole as u64)?;
        let started_again = now();
        match past.runs.last_mut() {
            Some(last) if last.environment.is_same_machine(environment) => {
                last.resumed.push(started_again.clone());
            }
            _ => past.runs.push(Begun {
                started: started_again.clone(),
                resumed: Vec::new(),
                environment: environment.clone(),
            }),
        }
        let mut journal = Self {
            file,
            path: path.to_owned(),
            kept: past.kept,
            runs: past.runs,
        };
        journal.append(&Resumed {
            resumed: started_again,
            run: journal.run(),
            environment: environment.clone(),
            plan: plan.clone(),
        })?;
        Ok(journal)
    }

    /// Throws a journal away, if there is one.
    ///
    /// # Errors
    /// Another suite is writing to it, or it cannot be removed.
    pub fn discard(path: &Path) -> Result<()> {
        match File::open(path) {
            Ok(file) => {
                lock(path, &file)?;
                std::fs::remove_file(path).map_err(|source| Error::io(path, "remove", source))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            Err(source) => Err(Error::io(path, "read", source)),
        }
    }

    /// Removes the journal: all is in the results file.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove(self) -> Result<()> {
        std::fs::remove_file(&self.path).map_err(|source| Error::io(&self.path, "remove", source))
    }

    /// Wall time that the kept samples of a run took, in nanoseconds.
    fn kept_ns(&self, run: usize) -> u64 {
        let samples = self.kept.values().flat_map(|block| block.samples.values());
        samples
            .filter(|sample| sample.run as usize == run)
            .filter_map(|sample| sample.elapsed_ns)
            .fold(0, u64::saturating_add)
    }

    fn append(&mut self, line: &impl Serialize) -> Result<()> {
        let mut text = serde_json::to_vec(line)
            .map_err(|error| Error::file(&self.path, format!("cannot write JSON: {error}")))?;
        text.push(b'\n');
        // One write, so that a kill leaves at most one line cut short; on disk before the next sample
        // is taken, so that a power failure does not lose more.
        self.file
            .write_all(&text)
            .and_then(|()| self.file.sync_data())
            .map_err(|source| Error::io(&self.path, "write", source))
    }
}

impl Keeper for Journal {
    fn recall(&mut self, key: &BlockKey<'_>, subjects: &[&str]) -> Option<Vec<Sample>> {
        let key = (key.workload.to_owned(), key.pass, key.block);
        let block = self.kept.get(&key)?;
        let of = |name: &&str| block.samples.get(*name).cloned();
        let found: Option<Vec<Sample>> = subjects.iter().map(of).collect();
        if found.is_none() {
            // Its time is not part of the results either.
            self.kept.remove(&key);
        }
        found
    }

    fn keep(&mut self, sample: &Sample) -> Result<()> {
        self.append(sample)
    }

    fn run(&self) -> u32 {
        u32::try_from(self.runs.len().saturating_sub(1)).unwrap_or(u32::MAX)
    }

    fn runs(&self, own: Run) -> Vec<Run> {
        let last = self.runs.len().saturating_sub(1);
        let run = |(index, begun): (usize, &Begun)| {
            let mut environment = begun.environment.clone();
            let mut elapsed_ns = self.kept_ns(index);
            if index == last {
                // As it was then, but for what its own work has changed since.
                environment.clone_from(&own.environment);
                environment.load_average_start = begun.environment.load_average_start;
                elapsed_ns = elapsed_ns.saturating_add(own.elapsed_ns);
            }
            Run {
                started: begun.started.clone(),
                resumed: begun.resumed.clone(),
                elapsed_ns,
                environment,
                ..own.clone()
            }
        };
        self.runs.iter().enumerate().map(run).collect()
    }
}

/// What a journal holds.
struct Past {
    plan: Plan,
    runs: Vec<Begun>,
    kept: HashMap<Key, Block>,
}

impl Past {
    fn read(path: &Path, text: &[u8]) -> Result<Self> {
        let mut lines = text.split(|byte| *byte == b'\n');
        let header = read_header(path, lines.next().unwrap_or_default())?;
        let mut past = Self {
            plan: header.plan,
            runs: vec![Begun {
                started: header.started,
                resumed: Vec::new(),
                environment: header.environment,
            }],
            kept: HashMap::new(),
        };
        let mut start = 0;
        for (line, number) in lines.zip(2..).filter(|(line, _)| !line.is_empty()) {
            let sample = serde_json::from_slice::<Sample>(line).ok();
            if let Some(sample) = sample.filter(|one| (one.run as usize) < past.runs.len()) {
                past.add(sample, start);
            } else if let Ok(resumed) = serde_json::from_slice::<Resumed>(line) {
                start += 1;
                past.go_on(resumed);
            } else {
                return Err(Error::line(
                    path,
                    number,
                    "not a sample: the journal is damaged; start again with --fresh",
                ));
            }
        }
        Ok(past)
    }

    /// A block that was begun again after an interruption is that of its second beginning.
    fn add(&mut self, sample: Sample, start: usize) {
        let key = (sample.workload.clone(), sample.pass, sample.block);
        let block = self.kept.entry(key).or_default();
        if block.start != start {
            *block = Block {
                start,
                samples: HashMap::new(),
            };
        }
        block.samples.insert(sample.subject.clone(), sample);
    }

    fn go_on(&mut self, resumed: Resumed) {
        self.plan = resumed.plan;
        match self.runs.get_mut(resumed.run as usize) {
            Some(run) => run.resumed.push(resumed.resumed),
            None => self.runs.push(Begun {
                started: resumed.resumed,
                resumed: Vec::new(),
                environment: resumed.environment,
            }),
        }
    }

    /// Forgets workloads of which no subject could be measured: a program was not installed, for
    /// instance.
    fn forget_refused(&mut self) {
        let samples = self.kept.values().flat_map(|block| block.samples.values());
        let measured: BTreeSet<String> = samples
            .filter(|sample| sample.status != Status::Refused)
            .map(|sample| sample.workload.clone())
            .collect();
        self.kept
            .retain(|(workload, ..), _| measured.contains(workload));
    }

    /// Refuses another plan, and says what differs.
    fn check(&self, path: &Path, plan: &Plan) -> Result<()> {
        let with_samples = self.kept.keys().map(|(workload, ..)| workload.as_str());
        let difference = self
            .plan
            .difference(plan, &with_samples.collect())
            .map_err(|error| Error::file(path, format!("cannot write JSON: {error}")))?;
        difference.map_or(Ok(()), |difference| {
            Err(Error::file(
                path,
                format!(
                    "this journal is of another plan: {difference}; repeat the command that began \
                     it with --resume, or start again with --fresh"
                ),
            ))
        })
    }
}

/// Cuts what stands after so many bytes, and writes on from there.
fn rewind(path: &Path, file: &mut File, bytes: u64) -> Result<()> {
    file.set_len(bytes)
        .and_then(|()| file.seek(SeekFrom::End(0)))
        .map(|_| ())
        .map_err(|source| Error::io(path, "write", source))
}

/// Two suites must not write into one journal. The kernel lifts the lock when its holder ends, however
/// it ends.
fn lock(path: &Path, file: &File) -> Result<()> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(Error::file(
            path,
            "another suite is writing to this journal; wait for it, or choose another --out",
        )),
        // A file system without locks: nothing is known of others.
        Err(TryLockError::Error(_)) => Ok(()),
    }
}

fn now() -> String {
    jiff::Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string()
}

fn read_header(path: &Path, line: &[u8]) -> Result<Header> {
    let damaged = |error: serde_json::Error| {
        Error::line(
            path,
            1,
            format!("not a journal of this version ({error}); start again with --fresh"),
        )
    };
    let value: Value = serde_json::from_slice(line).map_err(damaged)?;
    match value.get("journal").and_then(Value::as_u64) {
        Some(version) if version == u64::from(VERSION) => {
            serde_json::from_value(value).map_err(damaged)
        }
        Some(version) => Err(Error::line(
            path,
            1,
            format!("a journal of version {version}, not {VERSION}; start again with --fresh"),
        )),
        None => Err(Error::line(path, 1, "not a journal; choose another --out")),
    }
}
