//! `mymalloc suite`: journal, shards, real programs.

mod suite;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use mymalloc::measure::results::{Pass, Results, Status};
use suite::{assert_one_line_error, folder, mymalloc, results, row, shared_object, stderr, stdout};

/// SHA-256 of "right\n".
const RIGHT: &str = "55c97802b397ef4da0d8e2ecf4a8fa33c1f4755da0eacec54c62cacbbcfd9713";

fn write(folder: &Path, name: &str, kind: &str, table: &str) {
    let text = format!(
        "name = '{name}'\nkind = '{kind}'\ndescription = 'd'\nstands_for = 's'\norigin = 'o'\n\
         licence = 'l'\nbias = 'b'\ntags = ['small']\n[{kind}]\n{table}\n"
    );
    std::fs::write(folder.join(format!("{name}.toml")), text).expect("ours");
}

/// Definitions of five small generated workloads.
fn small_workloads(folder: &Path) -> PathBuf {
    let definitions = folder.join("definitions");
    std::fs::create_dir(&definitions).expect("ours");
    for number in 1..=5 {
        let table = format!(
            "seed = {number}\npattern = 'batch'\nbatch = 100\nrounds = 20\norder = 'reverse'\n\
             sizes = {{ distribution = 'fixed', bytes = 64 }}"
        );
        write(&definitions, &format!("w{number}"), "synthetic", &table);
    }
    definitions
}

/// The suite over a folder of definitions, two blocks of two subjects.
fn small_suite(definitions: &Path, out: &Path) -> Command {
    let mut command = mymalloc();
    command
        .args(["suite", "--subjects", "system,mimalloc", "--blocks", "2"])
        .arg("--definitions")
        .arg(definitions)
        .arg("--out")
        .arg(out);
    command
}

fn output(command: &mut Command) -> Output {
    command.output().expect("the program starts")
}

fn succeeds(command: &mut Command) {
    let output = output(command);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

type CellName = (String, String, Pass, u32);

fn cells(results: &Results) -> BTreeSet<CellName> {
    let name = |sample: &mymalloc::measure::results::Sample| {
        let (workload, subject) = (sample.workload.clone(), sample.subject.clone());
        (workload, subject, sample.pass, sample.block)
    };
    let cells: BTreeSet<CellName> = results.samples.iter().map(name).collect();
    assert_eq!(cells.len(), results.samples.len(), "each cell once");
    cells
}

#[test]
fn four_shards_merged_are_one_whole_run() {
    let folder = folder();
    let definitions = small_workloads(folder.path());
    let whole = folder.path().join("whole");
    succeeds(&mut small_suite(&definitions, &whole));
    assert!(
        !whole.join("journal.jsonl").exists(),
        "all is in the results"
    );
    let shard = |number: u32| folder.path().join(format!("shard-{number}"));
    for number in 1..=4 {
        let part = format!("{number}/4");
        succeeds(small_suite(&definitions, &shard(number)).args(["--shard", &part]));
    }
    let merged = folder.path().join("merged");
    let mut report = mymalloc();
    report.arg("report").arg("--out").arg(&merged);
    succeeds(report.args((1..=4).map(|number| shard(number).join("results.json"))));
    let (whole, merged) = (results(&whole), results(&merged));
    assert_eq!(cells(&whole), cells(&merged));
    assert_eq!((whole.runs.len(), merged.runs.len()), (1, 4));
    let runs: BTreeSet<u32> = merged.samples.iter().map(|sample| sample.run).collect();
    assert_eq!(runs, BTreeSet::from([0, 1, 2, 3]));
    let rows = |results: &Results| -> BTreeSet<(String, String, bool, u32)> {
        let rows = results.summary.iter();
        rows.map(|row| {
            (
                row.workload.clone(),
                row.subject.clone(),
                row.status == Status::Ok,
                row.blocks,
            )
        })
        .collect()
    };
    assert_eq!(rows(&whole), rows(&merged));
    assert!(
        merged
            .summary
            .iter()
            .all(|row| row.ratio_to_baseline.is_some())
    );

    // The same file twice is no second machine.
    let file = shard(1).join("results.json");
    let twice = output(mymalloc().arg("report").args([&file, &file]));
    assert_one_line_error(&twice, 1, &["shard-1/results.json", "the same run"]);
}

/// Waits until the journal has so many whole lines.
fn wait_for_lines(journal: &Path, count: usize) {
    let start = Instant::now();
    let lines =
        || std::fs::read(journal).map_or(0, |text| text.iter().filter(|b| **b == b'\n').count());
    while lines() < count {
        assert!(start.elapsed() < Duration::from_secs(120), "no progress");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_killed_suite_resumes_and_loses_nothing() {
    let folder = folder();
    let definitions = small_workloads(folder.path());
    let whole = folder.path().join("whole");
    succeeds(&mut small_suite(&definitions, &whole));
    let out = folder.path().join("killed");
    let journal = out.join("journal.jsonl");
    let mut command = small_suite(&definitions, &out);
    let mut child = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    wait_for_lines(&journal, 12);
    child.kill().expect("SIGKILL");
    child.wait().expect("it is dead");
    let text = std::fs::read(&journal).expect("it was left");
    let kept = text.iter().filter(|byte| **byte == b'\n').count() - 1;
    assert!(kept < cells(&results(&whole)).len(), "killed in the middle");

    // Without a word about it, nothing is thrown away.
    let again = output(&mut small_suite(&definitions, &out));
    assert_one_line_error(&again, 1, &["journal.jsonl", "--resume", "--fresh"]);
    // Another plan is refused, and what differs is named.
    let other = output(small_suite(&definitions, &out).args(["--resume", "--seed", "7"]));
    assert_one_line_error(&other, 1, &["another plan", "settings.seed was 1, now 7"]);
    let other = output(small_suite(&definitions, &out).args(["--resume", "--name", "w1,w2"]));
    assert_one_line_error(&other, 1, &["another plan", "workloads.w3"]);

    // A line that was cut short is dropped.
    let mut torn = text.clone();
    torn.extend(b"{\"run\":0,\"workload\":\"w");
    std::fs::write(&journal, torn).expect("ours");
    succeeds(small_suite(&definitions, &out).arg("--resume"));
    assert!(!journal.exists());
    let (whole, resumed) = (results(&whole), results(&out));
    assert_eq!(cells(&whole), cells(&resumed));
    assert!(
        resumed
            .warnings
            .iter()
            .any(|one| one.contains("resumed (once)"))
    );
    let first: mymalloc::measure::results::Sample =
        serde_json::from_slice(text.split(|b| *b == b'\n').nth(1).expect("a line"))
            .expect("a sample");
    assert!(resumed.samples.contains(&first), "kept, not taken again");
}

#[test]
fn a_damaged_journal_is_told_with_its_line() {
    let folder = folder();
    let definitions = small_workloads(folder.path());
    let out = folder.path().join("report");
    std::fs::create_dir(&out).expect("ours");
    let journal = out.join("journal.jsonl");
    let resume = || output(small_suite(&definitions, &out).arg("--resume"));
    assert_one_line_error(&resume(), 1, &["journal.jsonl", "nothing to resume"]);
    for (text, words) in [
        ("{\"jour", ["cut short", "--fresh"]),
        ("{\"journal\":99}\n", ["version 99", "--fresh"]),
        ("{}\n", ["jsonl:1", "not a journal"]),
        ("plain text\n", ["jsonl:1", "--fresh"]),
    ] {
        std::fs::write(&journal, text).expect("ours");
        assert_one_line_error(&resume(), 1, &words);
    }
    succeeds(small_suite(&definitions, &out).args(["--fresh", "--name", "w1"]));
}

#[test]
fn filters_that_fit_nothing_are_refused() {
    let folder = folder();
    let definitions = small_workloads(folder.path());
    let list = |extra: &[&str]| {
        let mut command = small_suite(&definitions, folder.path());
        output(command.arg("--list").args(extra))
    };
    let names = |output: &Output| -> Vec<String> {
        let text = stdout(output);
        let first = |line: &str| line.split(' ').next().expect("a word").to_owned();
        text.lines().map(first).collect()
    };
    assert_eq!(names(&list(&["--name", "*4,w5"])), ["w4", "w5"]);
    assert_eq!(
        names(&list(&["--tag", "sm*", "--shard", "2/3"])),
        ["w2", "w5"]
    );
    assert_one_line_error(&list(&["--name", "x*"]), 2, &["--name \"x*\"", "w1, w2"]);
    assert_one_line_error(&list(&["--kind", "fleet"]), 2, &["no workload fits"]);
    assert_one_line_error(&list(&["--shard", "6/6"]), 2, &["only 5 workloads"]);
}

/// Runs one program under the C library and one preloaded object.
fn program(
    folder: &Path,
    table: &str,
    subject: Option<&Path>,
    extra: &[&str],
) -> (Output, Results) {
    let definitions = folder.join("definitions");
    std::fs::create_dir_all(&definitions).expect("ours");
    let common = "setup = 'apt-get install -y it'";
    write(&definitions, "p", "program", &format!("{common}\n{table}"));
    let out = folder.join("report");
    let mut command = mymalloc();
    command
        .args(["suite", "--subjects", "system", "--blocks", "1", "--fresh"])
        .args(extra)
        .arg("--definitions")
        .arg(&definitions)
        .arg("--out")
        .arg(&out);
    if let Some(path) = subject {
        command.args(["--subject", &format!("other={}", path.display())]);
    }
    let output = output(&mut command);
    let results = results(&out);
    (output, results)
}

/// A C program of `tests/programs`, built into the folder, and a table that runs it.
fn compiled(folder: &Path, flags: &[&str]) -> String {
    let definitions = folder.join("definitions");
    std::fs::create_dir_all(&definitions).expect("ours");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/grow.c");
    let done = Command::new("cc")
        .args(["-O1", "-fno-builtin", "-o"])
        .args([&definitions.join("grow"), &source])
        .args(flags)
        .output()
        .expect("a C compiler is needed to build mimalloc, so it is there");
    assert!(done.status.success(), "{}", stderr(&done));
    format!("command = ['./grow']\nfiles = ['grow']\nexpected_sha256 = '{RIGHT}'")
}

#[test]
fn a_program_is_measured_as_a_tree() {
    let folder = folder();
    let table = compiled(folder.path(), &[]);
    let object = shared_object(folder.path(), "faulty.c", "right", &[]);
    let (done, results) = program(folder.path(), &table, Some(&object), &[]);
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    for subject in ["system", "other", "system-again"] {
        assert_eq!(row(&results, subject).status, Status::Ok, "{results:?}");
        let of = |one: &&mymalloc::measure::results::Sample| one.subject == subject;
        let sample = results.samples.iter().find(of).expect("a sample");
        let found = sample.program.as_ref().expect("measured");
        assert_eq!(found.output_sha256, RIGHT);
        // Two processes of 40 MB each at once, one of which outlives its parent.
        assert!(found.processes_peak >= 2, "{found:?}");
        assert!(
            (80_000_000..400_000_000).contains(&found.rss_peak_bytes),
            "{found:?}"
        );
        assert!(
            found.wall_ns >= 300_000_000 && found.user_ns > 0,
            "{found:?}"
        );
        let receipt = sample.receipt.as_ref().expect("a receipt");
        assert_eq!(receipt.path.ends_with("right.so"), subject == "other");
        assert_eq!(receipt.functions.len(), 7);
    }
    let record = results.workloads[0].program.as_ref().expect("a program");
    assert_eq!(record.command, ["./grow"]);
}

#[test]
fn wrong_output_is_wrong_with_both_hashes() {
    let folder = folder();
    let table = compiled(folder.path(), &[]);
    let object = shared_object(folder.path(), "faulty.c", "lossy", &["FAULT_LOSSY_REALLOC"]);
    let (done, results) = program(folder.path(), &table, Some(&object), &[]);
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    assert_eq!(row(&results, "system").status, Status::Ok);
    let wrong = row(&results, "other");
    assert_eq!(wrong.status, Status::Wrong, "{wrong:?}");
    let reason = wrong.reason.as_ref().expect("a reason");
    assert!(
        reason.contains("wrong output") && reason.contains(RIGHT),
        "{reason}"
    );
    assert!(wrong.ns_per_operation.is_none(), "not ranked");
    assert!(
        stdout(&done).contains("warning: other on p"),
        "{}",
        stdout(&done)
    );
}

#[test]
fn a_program_that_cannot_be_measured_is_refused_with_its_reason() {
    for (flags, words) in [
        (vec!["-static"], ["linked statically", "grow"]),
        (
            vec!["-DOWN_MALLOC", "-rdynamic"],
            ["allocator of its own", "grow"],
        ),
    ] {
        let folder = folder();
        let table = compiled(folder.path(), &flags);
        let (_, results) = program(folder.path(), &table, None, &[]);
        let row = row(&results, "system");
        assert_eq!(row.status, Status::Refused, "{row:?}");
        let reason = row.reason.as_ref().expect("a reason");
        assert!(words.iter().all(|word| reason.contains(word)), "{reason}");
    }
    let folder = folder();
    let table = format!("command = ['no-such-program']\nexpected_sha256 = '{RIGHT}'");
    let (done, results) = program(folder.path(), &table, None, &[]);
    assert_eq!(row(&results, "system").status, Status::Refused);
    assert!(
        stdout(&done).contains("no-such-program is not"),
        "{}",
        stdout(&done)
    );
    let reason = row(&results, "system").reason.clone().expect("a reason");
    assert!(reason.contains("run `apt-get install -y it`"), "{reason}");
}

#[test]
fn programs_that_hang_or_eat_memory_are_ended_with_their_trees() {
    for (script, extra, status, word) in [
        (
            "sleep 1000 & sleep 1000",
            ["--timeout", "1"],
            Status::TimedOut,
            "sleep",
        ),
        // Left behind in a session of its own, it is found all the same.
        (
            "setsid sleep 1000 & exit 0",
            ["--timeout", "1"],
            Status::TimedOut,
            "sleep",
        ),
        (
            "x=0123456789; while true; do x=$x$x; done",
            ["--memory-limit", "100M"],
            Status::OutOfMemory,
            "memory limit of 100 MiB",
        ),
        (
            "exit 3",
            ["--timeout", "20"],
            Status::Crashed,
            "exit code 3",
        ),
        (
            "kill -SEGV $$",
            ["--timeout", "20"],
            Status::Crashed,
            "SIGSEGV",
        ),
    ] {
        let folder = folder();
        let table =
            format!("command = ['sh', '-c', 'sleep 0.1; {script}']\nexpected_sha256 = '{RIGHT}'");
        let (_, results) = program(folder.path(), &table, None, &extra);
        let row = row(&results, "system");
        assert_eq!(row.status, status, "{script}: {row:?}");
        let reason = row.reason.as_ref().expect("a reason");
        assert!(reason.contains(word), "{script}: {reason}");
    }
}
