//! Small suites: generated workloads that take milliseconds, and programs.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use mymalloc::measure::results::{Pass, Results, Sample};

use super::{mymalloc, stderr};

/// Writes a definition with the tags `small` and `quick`.
pub(crate) fn write_definition(folder: &Path, name: &str, kind: &str, table: &str) {
    let text = format!(
        "name = '{name}'\nkind = '{kind}'\ndescription = 'd'\nstands_for = 's'\norigin = 'o'\n\
         licence = 'l'\nbias = 'b'\ntags = ['small', 'quick']\n[{kind}]\n{table}\n"
    );
    std::fs::write(folder.join(format!("{name}.toml")), text).expect("ours");
}

/// Writes a generated workload; another `rounds` is another workload.
pub(crate) fn write_generated(definitions: &Path, name: &str, rounds: u32) {
    let table = format!(
        "seed = 1\npattern = 'batch'\nbatch = 100\nrounds = {rounds}\norder = 'reverse'\n\
         sizes = {{ distribution = 'fixed', bytes = 64 }}"
    );
    write_definition(definitions, name, "synthetic", &table);
}

/// Definitions of five small generated workloads, w1 to w5.
pub(crate) fn small_workloads(folder: &Path) -> PathBuf {
    let definitions = folder.join("definitions");
    std::fs::create_dir(&definitions).expect("ours");
    for number in 1..=5 {
        write_generated(&definitions, &format!("w{number}"), 20 + number);
    }
    definitions
}

/// The suite over a folder of definitions.
pub(crate) fn suite(definitions: &Path, out: &Path) -> Command {
    let mut command = mymalloc();
    command
        .args(["suite", "--definitions"])
        .arg(definitions)
        .arg("--out")
        .arg(out)
        .stdin(Stdio::null());
    command
}

/// The same: two blocks of two subjects.
pub(crate) fn small_suite(definitions: &Path, out: &Path) -> Command {
    let mut command = suite(definitions, out);
    command.args(["--quick", "--blocks", "2", "--subjects", "system,mimalloc"]);
    command
}

pub(crate) fn output(command: &mut Command) -> Output {
    command.output().expect("the program starts")
}

pub(crate) fn succeeds(command: &mut Command) {
    let output = output(command);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

/// Workload, subject, pass and block.
pub(crate) type CellName = (String, String, Pass, u32);

pub(crate) fn cell(sample: &Sample) -> CellName {
    let (workload, subject) = (sample.workload.clone(), sample.subject.clone());
    (workload, subject, sample.pass, sample.block)
}

pub(crate) fn cells(results: &Results) -> BTreeSet<CellName> {
    let cells: BTreeSet<CellName> = results.samples.iter().map(cell).collect();
    assert_eq!(cells.len(), results.samples.len(), "each cell once");
    cells
}

/// Starts a suite, and kills it with SIGKILL when its journal has so many whole lines. What it left in
/// the journal.
pub(crate) fn killed(command: &mut Command, journal: &Path, lines: usize) -> String {
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    let start = Instant::now();
    let written = || std::fs::read_to_string(journal).unwrap_or_default();
    while written().matches('\n').count() < lines {
        assert!(start.elapsed() < Duration::from_secs(300), "no progress");
        let ended = child.try_wait().expect("ours");
        assert!(ended.is_none(), "it ended before it could be killed");
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().expect("SIGKILL");
    child.wait().expect("it is dead");
    written()
}

/// The whole lines of a journal that are samples.
pub(crate) fn samples(journal: &str) -> Vec<Sample> {
    let lines = journal
        .split_inclusive('\n')
        .filter(|line| line.ends_with('\n'));
    lines
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

/// SHA-256 of "right\n".
pub(crate) const RIGHT: &str = "55c97802b397ef4da0d8e2ecf4a8fa33c1f4755da0eacec54c62cacbbcfd9713";
