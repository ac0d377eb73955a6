//! The journal of a suite: each sample is appended when it was taken, so that nothing is lost when the
//! suite is interrupted, killed, or the machine goes down.
//!
//! ```text
//! {"journal":1,"started":"…","environment":{…},"plan":{…}}   what was to be measured, and where
//! {"run":0,"workload":"…",…}                                 a sample
//! {"resumed":"2026-01-02T03:04:05Z"}                         the suite was started again
//! ```
//! One line each, in JSON. A line without its end was cut short by a kill, and is dropped. A journal
//! is continued only under the plan that it was begun with, on the machine where it was begun.

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, HashMap};
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::engine::{CellKey, Keeper};
use crate::error::{Error, Result};
use crate::measure::environment::Environment;
use crate::measure::results::{Pass, Sample, Settings, SubjectRecord, Tool};

/// Version of the journal's layout.
const VERSION: u32 = 1;

/// What was to be measured. Samples taken under another plan must not mix with these.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The program that measures.
    pub tool: Tool,
    /// How.
    pub settings: Settings,
    /// Which part of the workloads, if not all: "2/4".
    pub shard: Option<String>,
    /// Each workload with the [`crate::workload::digest`] of its definition and data.
    pub workloads: BTreeMap<String, String>,
    /// The subjects with their builds.
    pub subjects: Vec<SubjectRecord>,
}

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
}

type Key = (String, String, Pass, u32);

/// An open journal.
#[derive(Debug)]
pub struct Journal {
    file: File,
    path: PathBuf,
    kept: HashMap<Key, Sample>,
    /// When it was begun, RFC 3339 in UTC.
    pub started: String,
    /// The machine as it was then.
    pub environment: Environment,
    /// How often it was continued.
    pub resumptions: u32,
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
                return Err(Error::file(
                    path,
                    "an interrupted suite left this journal: continue it with --resume, or throw \
                     it away with --fresh",
                ));
            }
            Err(source) => return Err(Error::io(path, "create", source)),
        };
        lock(path, &file)?;
        let mut journal = Self {
            file,
            path: path.to_owned(),
            kept: HashMap::new(),
            started: now(),
            environment: environment.clone(),
            resumptions: 0,
        };
        journal.append(&Header {
            journal: VERSION,
            started: journal.started.clone(),
            environment: environment.clone(),
            plan: plan.clone(),
        })?;
        Ok(journal)
    }

    /// Continues a journal. A last line that was cut short is dropped.
    ///
    /// # Errors
    /// There is none, it was begun under another plan or on another machine, a line other than the
    /// last is damaged, or another suite is writing to it.
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
        let mut lines = text[..whole].split(|byte| *byte == b'\n');
        let header = lines.next().filter(|line| !line.is_empty());
        let header = read_header(path, header)?;
        check_plan(path, &header, plan, environment)?;
        let (mut kept, mut resumptions) = (HashMap::new(), 1);
        for (line, number) in lines.zip(2..).filter(|(line, _)| !line.is_empty()) {
            if let Ok(sample) = serde_json::from_slice::<Sample>(line) {
                kept.insert(key_of(&sample), sample);
            } else if serde_json::from_slice::<Resumed>(line).is_ok() {
                resumptions += 1;
            } else {
                return Err(Error::line(
                    path,
                    number,
                    "not a sample: the journal is damaged; start again with --fresh",
                ));
            }
        }
        let cut = file.set_len(whole as u64);
        cut.and_then(|()| file.seek(SeekFrom::End(0)))
            .map_err(|source| Error::io(path, "write", source))?;
        let mut journal = Self {
            file,
            path: path.to_owned(),
            kept,
            started: header.started,
            environment: header.environment,
            resumptions,
        };
        journal.append(&Resumed { resumed: now() })?;
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

    /// Wall time that they took, in nanoseconds.
    pub fn recalled_ns(&self) -> u64 {
        let times = self.kept.values().filter_map(|sample| sample.elapsed_ns);
        times.fold(0, u64::saturating_add)
    }

    /// Removes the journal: all is in the results file.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove(self) -> Result<()> {
        std::fs::remove_file(&self.path).map_err(|source| Error::io(&self.path, "remove", source))
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
    fn recall(&mut self, key: &CellKey<'_>) -> Option<Sample> {
        let (workload, subject) = (key.workload.to_owned(), key.subject.to_owned());
        self.kept
            .get(&(workload, subject, key.pass, key.block))
            .cloned()
    }

    fn keep(&mut self, sample: &Sample) -> Result<()> {
        self.append(sample)
    }
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

fn key_of(sample: &Sample) -> Key {
    let (workload, subject) = (sample.workload.clone(), sample.subject.clone());
    (workload, subject, sample.pass, sample.block)
}

fn now() -> String {
    jiff::Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string()
}

fn read_header(path: &Path, line: Option<&[u8]>) -> Result<Header> {
    let line = line.ok_or_else(|| {
        Error::file(
            path,
            "the journal was cut short in its first line, before any sample; start again with \
             --fresh",
        )
    })?;
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

/// Refuses a journal of another plan or machine, and says what differs.
fn check_plan(path: &Path, header: &Header, plan: &Plan, here: &Environment) -> Result<()> {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let then = &header.environment;
    for (what, then, now) in [
        ("processor", &then.cpu, &here.cpu),
        ("kernel", &then.kernel, &here.kernel),
        ("C library", &then.libc, &here.libc),
    ] {
        if then != now {
            let (then, now) = (text(then), text(now));
            let message = format!(
                "begun on another machine: {what} {then:?}, here {now:?}; resume it there, or start \
                 again with --fresh"
            );
            return Err(Error::file(path, message));
        }
    }
    let (then, now) = (as_value(path, &header.plan)?, as_value(path, plan)?);
    let mut differences = Vec::new();
    compare("", &then, &now, &mut differences);
    if differences.is_empty() {
        return Ok(());
    }
    const SHOWN: usize = 3;
    let more = match differences.len().saturating_sub(SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    differences.truncate(SHOWN);
    Err(Error::file(
        path,
        format!(
            "this journal is of another plan: {}{more}; repeat the command that began it with \
             --resume, or start again with --fresh",
            differences.join("; ")
        ),
    ))
}

fn as_value(path: &Path, plan: &Plan) -> Result<Value> {
    serde_json::to_value(plan)
        .map_err(|error| Error::file(path, format!("cannot write JSON: {error}")))
}

/// Adds a sentence for each place where two plans differ.
fn compare(place: &str, then: &Value, now: &Value, differences: &mut Vec<String>) {
    let null = Value::Null;
    let below = |key: &str| match place {
        "" => key.to_owned(),
        _ => format!("{place}.{key}"),
    };
    match (then, now) {
        (Value::Object(one), Value::Object(other)) => {
            let mut keys: Vec<&String> = one.keys().chain(other.keys()).collect();
            keys.sort();
            keys.dedup();
            for key in keys {
                let value = |map: &serde_json::Map<String, Value>| map.get(key).cloned();
                let (then, now) = (
                    value(one).unwrap_or(Value::Null),
                    value(other).unwrap_or(Value::Null),
                );
                compare(&below(key), &then, &now, differences);
            }
        }
        (Value::Array(one), Value::Array(other)) => {
            // Subjects go by their names.
            let keyed = |values: &[Value]| -> Value {
                let name = |(index, value): (usize, &Value)| {
                    let name = value.get("name").and_then(Value::as_str);
                    let key = name.map_or_else(|| index.to_string(), str::to_owned);
                    (key, value.clone())
                };
                Value::Object(values.iter().enumerate().map(name).collect())
            };
            compare(place, &keyed(one), &keyed(other), differences);
        }
        _ if then == now => {}
        _ => differences.push(match (then == &null, now == &null) {
            (true, _) => format!("{place} was not there, now {}", brief(now)),
            (_, true) => format!("{place} was {}, now is not there", brief(then)),
            _ => format!("{place} was {}, now {}", brief(then), brief(now)),
        }),
    }
}

/// A value in a sentence: of an object only that there is one.
fn brief(value: &Value) -> String {
    match value {
        Value::Object(_) | Value::Array(_) => "given".to_owned(),
        other => {
            let text = other.to_string();
            let cut: String = text.chars().take(40).collect();
            if cut.len() < text.len() {
                cut + "…"
            } else {
                cut
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_differs_between_plans_is_named() {
        let then = json!({"settings": {"seed": 1, "touch": "page"},
            "subjects": [{"name": "a", "build": "12"}, {"name": "b", "build": null}]});
        let now = json!({"settings": {"seed": 1, "touch": "all"},
            "subjects": [{"name": "a", "build": "13"}, {"name": "c", "build": null}]});
        let mut differences = Vec::new();
        compare("", &then, &then, &mut differences);
        assert_eq!(differences, Vec::<String>::new());
        compare("", &then, &now, &mut differences);
        assert_eq!(
            differences,
            [
                "settings.touch was \"page\", now \"all\"",
                "subjects.a.build was \"12\", now \"13\"",
                "subjects.b was given, now is not there",
                "subjects.c was not there, now given",
            ]
        );
    }
}
