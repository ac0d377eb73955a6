//! A suite that is killed, and goes on: nothing finished is lost, and nothing is mixed that was not
//! measured side by side.

mod suite;

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use mymalloc::measure::results::{Pass, Results, Sample, Status};
use serde_json::Value;
use suite::small::{
    RIGHT, cell, cells, killed, output, samples, small_suite, small_workloads, succeeds, suite,
    write_definition, write_generated,
};
use suite::{
    assert_one_line_error, folder, mymalloc, processes_of, results, row, shared_object, stderr,
};

/// The journal of a small suite that was killed, cut inside of a block of `workload`: the block's first
/// samples are there and the others are not.
fn cut_inside(journal: &Path, text: &str, workload: &str) -> (String, Vec<Sample>) {
    let block = |sample: &Sample| (sample.workload.clone(), sample.pass, sample.block);
    let lines: Vec<&str> = text.split_inclusive('\n').collect();
    let read = |line: &&str| serde_json::from_str::<Sample>(line).ok();
    let inside = (1..lines.len() - 1).rev().find(|at| {
        let pair = (read(&lines[*at]), read(&lines[*at + 1]));
        matches!(pair, (Some(one), Some(next))
            if one.workload == workload && block(&one) == block(&next))
    });
    let kept: String = lines[..=inside.expect("a block of several samples")].concat();
    std::fs::write(journal, &kept).expect("ours");
    let all = samples(&kept);
    let last = block(all.last().expect("some"));
    let cut = all.into_iter().filter(|one| block(one) == last).collect();
    (kept, cut)
}

#[test]
fn a_killed_suite_resumes_and_loses_only_the_block_that_was_cut_short() {
    let folder = folder();
    let definitions = small_workloads(folder.path());
    let whole = folder.path().join("whole");
    succeeds(&mut small_suite(&definitions, &whole));
    assert!(
        !whole.join("journal.jsonl").exists(),
        "all is in the results"
    );
    let out = folder.path().join("killed");
    let journal = out.join("journal.jsonl");
    let text = killed(&mut small_suite(&definitions, &out), &journal, 22);
    let all = cells(&results(&whole));
    assert!(samples(&text).len() < all.len(), "killed in the middle");

    // Without a word about it, nothing is thrown away.
    let again = output(&mut small_suite(&definitions, &out));
    assert_one_line_error(&again, 1, &["journal.jsonl", "--resume", "--fresh"]);
    // Another plan is refused, and what differs is named.
    let other = output(small_suite(&definitions, &out).args(["--resume", "--seed", "7"]));
    assert_one_line_error(&other, 1, &["another plan", "settings.seed was 1, now 7"]);
    let other = output(small_suite(&definitions, &out).args(["--resume", "--name", "w1,w2"]));
    assert_one_line_error(&other, 1, &["another plan", "workloads.w3"]);

    let (kept, cut) = cut_inside(&journal, &text, "w2");
    // And a line that was cut short.
    std::fs::write(&journal, format!("{kept}{{\"run\":0,\"workload\":\"w")).expect("ours");
    succeeds(small_suite(&definitions, &out).arg("--resume"));
    assert!(!journal.exists());
    let resumed = results(&out);
    assert_eq!(cells(&resumed), all);
    assert_eq!(resumed.runs.len(), 1);
    assert_eq!(resumed.runs[0].resumed.len(), 1);
    for sample in samples(&kept) {
        // What was finished is kept, not taken again; what was not is taken again, not kept.
        let is_cut = cut.contains(&sample);
        assert_eq!(resumed.samples.contains(&sample), !is_cut, "{sample:?}");
    }
}

/// Kills a small suite inside of w2 and returns its journal.
fn interrupted(definitions: &Path, out: &Path) -> (PathBuf, Value, String) {
    let journal = out.join("journal.jsonl");
    let text = killed(&mut small_suite(definitions, out), &journal, 22);
    let (kept, _) = cut_inside(&journal, &text, "w2");
    let (header, rest) = kept.split_once('\n').expect("a header");
    let header = serde_json::from_str(header).expect("JSON");
    (journal, header, rest.to_owned())
}

#[test]
fn on_another_machine_a_new_run_begins() {
    let folder = folder();
    let definitions = small_workloads(folder.path());
    let out = folder.path().join("report");
    let (journal, mut header, rest) = interrupted(&definitions, &out);
    let machine = &mut header["environment"]["machine"];
    assert!(machine.is_string(), "{machine}");
    *machine = "0123456789abcdef".into();
    std::fs::write(&journal, format!("{header}\n{rest}")).expect("ours");
    succeeds(small_suite(&definitions, &out).arg("--resume"));
    let results = results(&out);
    let [first, second] = results.runs.as_slice() else {
        panic!("two runs: {:?}", results.runs);
    };
    assert_eq!(
        first.environment.machine.as_deref(),
        Some("0123456789abcdef")
    );
    assert_ne!(first.environment.machine, second.environment.machine);
    assert!(first.started <= second.started && first.elapsed_ns > 0);
    let mut runs: BTreeMap<(String, Pass, u32), BTreeSet<u32>> = BTreeMap::new();
    for sample in &results.samples {
        let block = (sample.workload.clone(), sample.pass, sample.block);
        runs.entry(block).or_default().insert(sample.run);
    }
    assert!(runs.values().all(|runs| runs.len() == 1), "{runs:?}");
    let of = |workload: &str| -> BTreeSet<u32> {
        let own = results
            .samples
            .iter()
            .filter(|one| one.workload == workload);
        own.map(|one| one.run).collect()
    };
    assert_eq!(
        (of("w1"), of("w5")),
        (BTreeSet::from([0]), BTreeSet::from([1]))
    );
    // The cells of one whole run, in both together; each workload ended in one of them.
    let whole = folder.path().join("whole");
    succeeds(&mut small_suite(&definitions, &whole));
    assert_eq!(cells(&results), cells(&suite::results(&whole)));
    let ended = |run: &mymalloc::measure::results::Run| -> Vec<String> {
        run.stops.iter().map(|stop| stop.workload.clone()).collect()
    };
    assert_eq!(ended(first), ["w1"]);
    assert_eq!(ended(second), ["w2", "w3", "w4", "w5"]);
    assert!(
        results
            .summary
            .iter()
            .all(|row| row.ratio_to_baseline.is_some())
    );
}

#[test]
fn another_build_of_the_harness_is_another_plan() {
    let folder = folder();
    let definitions = small_workloads(folder.path());
    let out = folder.path().join("report");
    let (journal, mut header, rest) = interrupted(&definitions, &out);
    let build = &mut header["plan"]["tool"]["build"];
    assert!(build.is_string(), "{build}");
    *build = "0123".into();
    std::fs::write(&journal, format!("{header}\n{rest}")).expect("ours");
    let refused = output(small_suite(&definitions, &out).arg("--resume"));
    assert_one_line_error(
        &refused,
        1,
        &["another plan", "tool.build was \"0123\", now"],
    );
}

#[test]
fn changed_data_is_another_plan_if_samples_of_it_are_kept() {
    let folder = folder();
    let definitions = small_workloads(folder.path());
    let out = folder.path().join("report");
    interrupted(&definitions, &out);
    write_generated(&definitions, "w5", 7);
    write_generated(&definitions, "w1", 7);
    let refused = output(small_suite(&definitions, &out).arg("--resume"));
    assert_one_line_error(&refused, 1, &["another plan", "workloads.w1.sha256 was"]);
    assert!(
        !stderr(&refused).contains("w5"),
        "nothing of it is measured"
    );
    write_generated(&definitions, "w1", 21);
    succeeds(small_suite(&definitions, &out).arg("--resume"));
    let operations = |workload: &str| {
        let results = results(&out);
        let sample = results.samples.iter().find(|one| one.workload == workload);
        sample.expect("measured").operations
    };
    assert_eq!((operations("w1"), operations("w5")), (4200, 1400));
}

#[test]
fn two_suites_do_not_write_into_one_journal() {
    let folder = folder();
    let definitions = small_workloads(folder.path());
    // Long enough to be met.
    let table =
        format!("command = ['sh', '-c', 'sleep 60']\nexpected_sha256 = '{RIGHT}'\nsetup = 's'");
    write_definition(&definitions, "w0", "program", &table);
    let out = folder.path().join("report");
    let mut first = small_suite(&definitions, &out);
    let mut first = first
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    let journal = out.join("journal.jsonl");
    wait_until(|| std::fs::read(&journal).is_ok_and(|text| text.contains(&b'\n')));
    let told = [
        out.to_str().expect("UTF-8"),
        "another run is writing",
        "--out",
    ];
    for extra in [&[][..], &["--resume"], &["--fresh"]] {
        let second = output(small_suite(&definitions, &out).args(extra));
        assert_one_line_error(&second, 1, &told);
    }
    // Nor does a report of another kind go into the folder.
    let trace = folder.path().join("t.log");
    std::fs::write(&trace, "a 1 64\nf 1\n").expect("ours");
    let mut replay = mymalloc();
    replay.args(["replay", "--subjects", "system"]).arg(&trace);
    let replay = output(replay.arg("--out").arg(&out));
    assert_one_line_error(&replay, 1, &told);
    assert!(journal.exists(), "the first one's journal is left alone");
    first.kill().expect("SIGKILL");
    first.wait().expect("it is dead");
    // The lock went with it, and its journal is still there to continue.
    let again = output(&mut small_suite(&definitions, &out));
    assert_one_line_error(&again, 1, &["journal.jsonl", "--resume"]);
    succeeds(small_suite(&definitions, &out).args(["--fresh", "--name", "w1"]));
}

#[test]
fn a_damaged_journal_is_told_with_its_line() {
    let folder = folder();
    let definitions = small_workloads(folder.path());
    let out = folder.path().join("report");
    std::fs::create_dir(&out).expect("ours");
    let journal = out.join("journal.jsonl");
    let resume = || output(small_suite(&definitions, &out).args(["--resume", "--name", "w1"]));
    assert_one_line_error(&resume(), 1, &["journal.jsonl", "nothing to resume"]);
    for (text, words) in [
        ("{\"journal\":99}\n", ["version 99", "--fresh"]),
        ("{}\n", ["jsonl:1", "not a journal"]),
        ("plain text\n", ["jsonl:1", "--fresh"]),
        ("plain text", ["jsonl:1", "--fresh"]),
    ] {
        std::fs::write(&journal, text).expect("ours");
        assert_one_line_error(&resume(), 1, &words);
        assert_eq!(std::fs::read_to_string(&journal).expect("left"), text);
    }
    // A sample of a run that never began.
    std::fs::remove_file(&journal).expect("ours");
    let text = killed(&mut small_suite(&definitions, &out), &journal, 3);
    let strange = text.replacen("{\"run\":0,", "{\"run\":7,", 1);
    std::fs::write(&journal, strange).expect("ours");
    let whole = output(small_suite(&definitions, &out).arg("--resume"));
    assert_one_line_error(&whole, 1, &["jsonl:2", "damaged"]);
    // Killed before it had measured anything.
    for text in ["", "{\"jour", "{\"journal\":2,\"started\":\"20"] {
        std::fs::write(&journal, text).expect("ours");
        assert_eq!(resume().status.code(), Some(0), "{text}");
    }
}

fn wait_until(condition: impl Fn() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(120), "no progress");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A folder with a tool that prints "right", its version, and definitions that need it: `a`, and `b`,
/// which takes longer.
struct Tool {
    folder: tempfile::TempDir,
    definitions: PathBuf,
    out: PathBuf,
    subject: String,
}

impl Tool {
    fn new() -> Self {
        let folder = folder();
        let definitions = folder.path().join("definitions");
        std::fs::create_dir(&definitions).expect("ours");
        std::fs::create_dir(folder.path().join("bin")).expect("ours");
        let ran = folder.path().join("ran");
        for (name, before) in [
            ("a", "sleep 0.1; ".to_owned()),
            ("b", format!("touch {}; sleep 0.3; ", ran.display())),
        ] {
            let table = format!(
                "command = ['sh', '-c', '{before}mytool']\nneeds = ['mytool']\nsetup = 'install it'\n\
                 version = ['mytool', '--version']\nexpected_sha256 = '{RIGHT}'"
            );
            write_definition(&definitions, name, "program", &table);
        }
        let object = shared_object(folder.path(), "faulty.c", "other", &[]);
        Self {
            definitions,
            out: folder.path().join("report"),
            subject: format!("other={}", object.display()),
            folder,
        }
    }

    fn install(&self, version: &str) {
        let path = self.folder.path().join("bin/mytool");
        let text = format!(
            "#!/bin/sh\nif [ \"$1\" = --version ]; then echo mytool {version}; else echo right; fi\n"
        );
        std::fs::write(&path, text).expect("ours");
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).expect("ours");
    }

    fn command(&self) -> Command {
        let own = self.folder.path().join("bin");
        let path = std::env::var("PATH").expect("there is one");
        let mut command = suite(&self.definitions, &self.out);
        command
            .args(["--quick", "--blocks", "3", "--subjects", "system"])
            .args(["--subject", &self.subject])
            .env("PATH", format!("{}:{path}", own.display()))
            .env("TMPDIR", self.folder.path().join("tmp"));
        command
    }

    fn resume(&self) -> Output {
        output(self.command().arg("--resume"))
    }

    /// Kills the suite while `b` runs, when the journal has so many lines.
    fn killed(&self, lines: usize) -> String {
        std::fs::create_dir_all(self.folder.path().join("tmp")).expect("ours");
        killed(&mut self.command(), &self.out.join("journal.jsonl"), lines)
    }

    fn leftovers(&self) -> usize {
        std::fs::read_dir(self.folder.path().join("tmp"))
            .expect("ours")
            .count()
    }
}

/// Samples of a program: it is verified and its memory looked at once under each of two subjects, and
/// timed in three blocks, in which the baseline's twin takes part.
const SAMPLES_OF_EACH: usize = 2 + 3 * 3 + 2;
/// The header, and all of `a`.
const LINES_OF_A: usize = 1 + SAMPLES_OF_EACH;

#[test]
fn a_suite_killed_in_a_program_leaves_nothing_and_resumes() {
    let tool = Tool::new();
    tool.install("1.0");
    let text = tool.killed(LINES_OF_A + 4);
    assert!(tool.folder.path().join("ran").exists(), "in b");
    // Its whole tree dies with it.
    wait_until(|| processes_of(tool.folder.path()).is_empty());
    assert!(tool.leftovers() > 0, "nothing could be removed");
    let done = tool.resume();
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    assert_eq!(tool.leftovers(), 0, "the next start removes it");
    let results = results(&tool.out);
    assert_eq!(
        cells(&results).len(),
        2 * SAMPLES_OF_EACH,
        "as if nothing had been"
    );
    assert!(results.samples.iter().all(|one| one.status == Status::Ok));
    for sample in samples(&text).iter().filter(|one| one.workload == "a") {
        assert!(results.samples.contains(sample), "kept");
    }
    let program = results.workloads[0].program.as_ref().expect("a program");
    assert_eq!(program.version.as_deref(), Some("mytool 1.0"));
    assert!(program.executables["mytool"].starts_with("sha256:"));
    assert!(program.executables.contains_key("sh"));
}

#[test]
fn another_program_or_object_is_another_plan() {
    let tool = Tool::new();
    tool.install("1.0");
    tool.killed(LINES_OF_A + 1);
    tool.install("2.0");
    let expected = ["another plan", "mytool 1.0", "mytool 2.0"];
    assert_one_line_error(&tool.resume(), 1, &expected);
    tool.install("1.0");
    let path = tool.folder.path().join("other.so");
    let sound = std::fs::read(&path).expect("built");
    shared_object(
        tool.folder.path(),
        "faulty.c",
        "other",
        &["FAULT_LOSSY_REALLOC"],
    );
    assert_one_line_error(&tool.resume(), 1, &["another plan", "subjects.other.build"]);
    std::fs::write(&path, sound).expect("ours");
    let done = tool.resume();
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    assert_eq!(cells(&results(&tool.out)).len(), 2 * SAMPLES_OF_EACH);
}

#[test]
fn what_was_not_installed_is_tried_again() {
    let tool = Tool::new();
    // Both need it; a third workload does not, and takes its time.
    let slow = format!(
        "command = ['sh', '-c', 'sleep 0.3; echo right']\nsetup = 's'\nexpected_sha256 = '{RIGHT}'"
    );
    write_definition(&tool.definitions, "c", "program", &slow);
    let text = tool.killed(1 + 2 * 3 + 1);
    let refused = |one: &Sample| one.workload != "c" && one.status == Status::Refused;
    assert_eq!(
        samples(&text).iter().filter(|one| refused(one)).count(),
        2 * 3
    );
    tool.install("1.0");
    let done = tool.resume();
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    let results: Results = results(&tool.out);
    assert_eq!(cells(&results).len(), 3 * SAMPLES_OF_EACH);
    for sample in &results.samples {
        assert_eq!(sample.status, Status::Ok, "{:?}: {sample:?}", cell(sample));
    }
    assert_eq!(row(&results, "other").status, Status::Ok);
}

#[test]
fn a_program_replaced_while_it_is_measured_is_refused() {
    let tool = Tool::new();
    tool.install("1.0");
    std::fs::create_dir(tool.folder.path().join("tmp")).expect("ours");
    let mut child = tool
        .command()
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    let journal = tool.out.join("journal.jsonl");
    let lines = || std::fs::read_to_string(&journal).map_or(0, |text| text.matches('\n').count());
    wait_until(|| lines() > LINES_OF_A);
    tool.install("2.0");
    child.wait().expect("it ends");
    let results = results(&tool.out);
    let refused = results
        .samples
        .iter()
        .find(|one| one.status == Status::Refused);
    let refused = refused.expect("the mixture is told");
    assert_eq!(refused.workload, "b");
    let reason = refused.reason.as_deref().expect("a reason");
    assert!(
        reason.contains("mytool was replaced or removed"),
        "{reason}"
    );
}
