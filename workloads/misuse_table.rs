//! What allocators make of mistakes with memory: the programs of `tests/programs/misuse` under each of
//! them, judged by one rule.
//!
//! ```text
//! cargo run --release --example misuse_table -- --subject mimalloc3=/path/libmimalloc.so --each
//! ```
//!
//! A mistake is *caught* when the allocator ends the program: by a signal that a program sends to itself
//! (abort, trap), with a line on standard error, or by a page that faults at the very write that is the
//! mistake. `at once` is before the mistake has returned, `later` while the program goes on. A size that
//! cannot be is caught by a null pointer. What is not caught is *told* (a line on standard error, and the
//! program goes on unharmed), a *crash*, *hung*, *harmless* (afterwards no two blocks overlap, none lies
//! where no block may, and no bystander has changed), or *corrupted*: the program went on, and one of
//! these does not hold.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus};
use std::time::{Duration, Instant};

use clap::Parser;
use mymalloc::error::{Error, Result};
use mymalloc::subject::catalogue::Catalogue;
use mymalloc::subject::{Access, Subject, object_file};

/// What allocators make of mistakes with memory, by one rule for all
#[derive(Debug, Parser)]
struct Arguments {
    /// Allocators, by name [default: system and the preloadable ones that are installed]
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    subjects: Option<Vec<String>>,

    /// One more allocator: a shared object, preloaded. May be given several times
    #[arg(long, value_name = "NAME=PATH.so")]
    subject: Vec<String>,

    /// More allocators, in a file like workloads/subjects.toml
    #[arg(long, value_name = "FILE")]
    subjects_file: Option<PathBuf>,

    /// Also what became of each mistake
    #[arg(long)]
    each: bool,

    /// Seconds after which a program counts as hung
    #[arg(long, default_value_t = 20)]
    timeout_s: u64,
}

/// What became of a mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    AtOnce,
    Later,
    Told,
    Crash,
    Hung,
    Harmless,
    Corrupted,
    /// The mistake cannot be made here: a function is missing.
    NotHere,
}

impl Outcome {
    const ALL: [Self; 8] = [
        Self::AtOnce,
        Self::Later,
        Self::Told,
        Self::Crash,
        Self::Hung,
        Self::Harmless,
        Self::Corrupted,
        Self::NotHere,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::AtOnce => "at once",
            Self::Later => "later",
            Self::Told => "told",
            Self::Crash => "crash",
            Self::Hung => "hung",
            Self::Harmless => "harmless",
            Self::Corrupted => "corrupted",
            Self::NotHere => "-",
        }
    }

    fn is_caught(self) -> bool {
        matches!(self, Self::AtOnce | Self::Later)
    }
}

/// A run of the program.
struct Run {
    /// None: it did not end.
    status: Option<ExitStatus>,
    said: String,
    told: String,
}

impl Run {
    /// What became of the mistake. `usual` is what the allocator tells a program without one.
    fn outcome(&self, usual: &str) -> Outcome {
        let Some(status) = self.status else {
            return Outcome::Hung;
        };
        let last = self.said.lines().next_back().unwrap_or("");
        let is_told = self.told.lines().count() > usual.lines().count();
        if status.success() {
            return match last.split(':').next().unwrap_or("") {
                "refused" => Outcome::AtOnce,
                "harmless" if is_told => Outcome::Told,
                "harmless" => Outcome::Harmless,
                "skipped" => Outcome::NotHere,
                _ => Outcome::Corrupted,
            };
        }
        let fault = [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE];
        let is_fault = status.signal().is_some_and(|one| fault.contains(&one));
        if is_fault && !is_told && last != "writing" {
            Outcome::Crash
        } else if self.said.lines().any(|line| line == "made") {
            Outcome::Later
        } else {
            Outcome::AtOnce
        }
    }
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::from(error.exit_code())
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    let work = tempfile::tempdir().map_err(|error| Error::Failed(error.to_string()))?;
    let program = compile(work.path())?;
    let timeout = Duration::from_secs(arguments.timeout_s);
    let alone = |words: &[&str], subject: Option<&Subject>| {
        perform(&program, words, subject, work.path(), timeout)
    };
    let listed = alone(&[], None)?.said;
    let mistakes: Vec<(&str, &str)> = listed
        .lines()
        .filter_map(|line| line.split_once(' '))
        .collect();
    let mut table: Vec<(Subject, Vec<Outcome>)> = Vec::new();
    for subject in subjects(arguments)? {
        let control = alone(&["nothing"], Some(&subject))?;
        if control.outcome(&control.told) != Outcome::Harmless {
            println!(
                "{}: left out, as a program without a mistake does not run: {}{}",
                subject.name, control.said, control.told
            );
            continue;
        }
        let mut outcomes = Vec::new();
        for (_, name) in &mistakes {
            outcomes.push(alone(&[name], Some(&subject))?.outcome(&control.told));
        }
        table.push((subject, outcomes));
    }
    table.sort_by_key(|(_, outcomes)| std::cmp::Reverse(caught(outcomes)));
    print_summary(&mistakes, &table);
    if arguments.each {
        print_each(&mistakes, &table);
    }
    Ok(())
}

/// How many are caught.
fn caught(outcomes: &[Outcome]) -> usize {
    outcomes.iter().filter(|one| one.is_caught()).count()
}

/// The allocators that another program can be run under.
fn subjects(arguments: &Arguments) -> Result<Vec<Subject>> {
    let catalogue = Catalogue::load_with(arguments.subjects_file.as_deref())?;
    let can_serve = |subject: &Subject| match &subject.access {
        Access::System => true,
        Access::Preloaded(path) => object_file::check_allocator(path).is_ok(),
        Access::Linked(_) => false,
    };
    let as_they_come: Vec<String> = catalogue
        .subjects()
        .iter()
        .filter(|subject| subject.environment.is_empty() && can_serve(subject))
        .map(|subject| subject.name.clone())
        .collect();
    let names = arguments.subjects.as_deref().unwrap_or(&as_they_come);
    let subjects = catalogue.select(Some(names), &arguments.subject, "system")?;
    match subjects.iter().find(|subject| !can_serve(subject)) {
        Some(linked) => Err(Error::usage(format!(
            "{}: it is linked into this program and cannot serve another; choose preloadable ones, or \
             system",
            linked.name
        ))),
        None => Ok(subjects),
    }
}

fn compile(folder: &Path) -> Result<PathBuf> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/misuse");
    let failed = |source| Error::io(&sources, "read", source);
    let mut files = Vec::new();
    for file in std::fs::read_dir(&sources).map_err(failed)? {
        let path = file.map_err(failed)?.path();
        if path.extension().is_some_and(|end| end == "c") {
            files.push(path);
        }
    }
    let program = folder.join("misuse");
    let compiled = Command::new("cc")
        .args(["-O1", "-w", "-pthread", "-o"])
        .arg(&program)
        .args(files)
        .status()
        .map_err(|error| Error::Failed(format!("cc: {error}; install a C compiler")))?;
    if compiled.success() {
        Ok(program)
    } else {
        Err(Error::Failed(format!(
            "{} does not compile",
            sources.display()
        )))
    }
}

/// Runs the program in a folder (where what it may leave behind, such as a core file, is removed).
fn perform(
    program: &Path,
    words: &[&str],
    subject: Option<&Subject>,
    folder: &Path,
    timeout: Duration,
) -> Result<Run> {
    let failed = |source| Error::io(program, "run", source);
    let (said, told) = (folder.join("said"), folder.join("told"));
    let mut command = Command::new(program);
    command.args(words).current_dir(folder);
    command.env_remove("LD_PRELOAD");
    if let Some(subject) = subject {
        command.envs(&subject.environment);
        if let Access::Preloaded(path) = &subject.access {
            command.env("LD_PRELOAD", path);
        }
    }
    command.stdout(File::create(&said).map_err(failed)?);
    command.stderr(File::create(&told).map_err(failed)?);
    let mut child = command.spawn().map_err(failed)?;
    let end = Instant::now() + timeout;
    let mut status = child.try_wait().map_err(failed)?;
    while status.is_none() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(2));
        status = child.try_wait().map_err(failed)?;
    }
    if status.is_none() {
        child
            .kill()
            .and_then(|()| child.wait().map(drop))
            .map_err(failed)?;
    }
    let text = |path: &Path| -> Result<String> {
        let bytes = std::fs::read(path).map_err(|source| Error::io(path, "read", source))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    Ok(Run {
        status,
        said: text(&said)?,
        told: text(&told)?,
    })
}

/// A row for each allocator: how many of each group are caught, and what became of all.
fn print_summary(mistakes: &[(&str, &str)], table: &[(Subject, Vec<Outcome>)]) {
    let mut groups: Vec<&str> = mistakes.iter().map(|(group, _)| *group).collect();
    groups.dedup();
    let heads = groups.iter().map(|group| {
        let count = mistakes.iter().filter(|(other, _)| other == group).count();
        format!("{group} ({count})")
    });
    let outcomes = Outcome::ALL.map(|one| one.name().to_owned());
    let heads: Vec<String> = heads.chain(outcomes).collect();
    let all = format!("caught of {}", mistakes.len());
    println!("| allocator | {all} | {} |", heads.join(" | "));
    println!("|---|{}", "---:|".repeat(heads.len() + 1));
    for (subject, outcomes) in table {
        let of_group = |wanted: &&str| {
            let with_group = mistakes.iter().zip(outcomes);
            let of_group = with_group.filter(|((group, _), _)| group == wanted);
            of_group.filter(|(_, outcome)| outcome.is_caught()).count()
        };
        let mut counts: BTreeMap<Outcome, usize> = BTreeMap::new();
        for outcome in outcomes {
            *counts.entry(*outcome).or_default() += 1;
        }
        let of_outcome = |one: &Outcome| counts.get(one).copied().unwrap_or(0);
        let cells: Vec<String> = groups
            .iter()
            .map(of_group)
            .chain(Outcome::ALL.iter().map(of_outcome))
            .map(|count| count.to_string())
            .collect();
        let all = caught(outcomes);
        println!("| {} | {all} | {} |", subject.name, cells.join(" | "));
    }
}

/// A row for each mistake.
fn print_each(mistakes: &[(&str, &str)], table: &[(Subject, Vec<Outcome>)]) {
    let names: Vec<&str> = table.iter().map(|(one, _)| one.name.as_str()).collect();
    println!("\n| mistake | {} |", names.join(" | "));
    println!("|---|{}", "---|".repeat(names.len()));
    for (index, (_, name)) in mistakes.iter().enumerate() {
        let outcomes = table.iter().map(|(_, outcomes)| outcomes[index].name());
        println!("| {name} | {} |", outcomes.collect::<Vec<_>>().join(" | "));
    }
}
