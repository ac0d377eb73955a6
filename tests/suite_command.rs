//! `mymalloc suite`: selection, shards, real programs.

mod suite;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Command, Output};

use mymalloc::measure::results::{Pass, Results, Status};
use suite::small::{
    RIGHT, cells, output, small_suite, small_workloads, succeeds, write_definition, write_generated,
};
use suite::{assert_one_line_error, folder, mymalloc, results, row, shared_object, stderr, stdout};

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

#[test]
fn results_that_do_not_measure_the_same_are_not_merged() {
    let folder = folder();
    let definitions = small_workloads(folder.path());
    let object = folder.path().join("other.so");
    let build = |define: &[&str]| {
        let built = shared_object(folder.path(), "faulty.c", "built", define);
        std::fs::rename(built, &object).expect("ours");
    };
    let run = |name: &str, extra: &[&str]| {
        let out = folder.path().join(name);
        let mut command = small_suite(&definitions, &out);
        let other = format!("other={}", object.display());
        succeeds(
            command
                .args(["--name", "w1", "--subject", &other])
                .args(extra),
        );
        out.join("results.json")
    };
    build(&[]);
    let first = run("first", &[]);
    let again = run("again", &[]);
    let touch = run("touch", &["--touch", "none"]);
    let baseline = run("baseline", &["--baseline", "mimalloc"]);
    build(&["FAULT_LOSSY_REALLOC"]);
    let object = run("object", &[]);
    build(&[]);
    write_generated(&definitions, "w1", 7);
    let data = run("data", &[]);
    let merged = |other: &Path| {
        let out = folder.path().join("merged");
        let mut report = mymalloc();
        output(
            report
                .arg("report")
                .arg("--out")
                .arg(out)
                .args([&*first, other]),
        )
    };
    assert_eq!(merged(&again).status.code(), Some(0));
    for (other, words) in [
        (&touch, ["touch/results.json", "differ in the touch policy"]),
        (
            &baseline,
            ["baseline/results.json", "differ in the baseline"],
        ),
        (&object, ["object/results.json", "the build of other"]),
        (
            &data,
            ["data/results.json", "differ in the data of the workload w1"],
        ),
    ] {
        assert_one_line_error(&merged(other), 1, &words);
    }
}

#[test]
fn a_quick_suite_gives_a_ranking() {
    let folder = folder();
    let definitions = small_workloads(folder.path());
    let table = "kernel = 'thread-creation'\nthreads = 20\nblocks = 10\nsize = 64";
    write_definition(&definitions, "t", "threads", table);
    let slow = std::fs::read_to_string(definitions.join("w5.toml")).expect("ours");
    std::fs::write(definitions.join("w5.toml"), slow.replace(", 'quick'", "")).expect("ours");
    let out = folder.path().join("report");
    let done = output(suite::small::suite(&definitions, &out).arg("--quick"));
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    let results = results(&out);
    let names: Vec<&str> = results
        .workloads
        .iter()
        .map(|one| one.name.as_str())
        .collect();
    assert_eq!(names, ["t", "w1", "w2", "w3", "w4"], "those with the tag");
    for stop in &results.runs[0].stops {
        assert!((6..=20).contains(&stop.blocks), "{stop:?}");
    }
    for workload in names {
        for subject in ["pagelist", "system", "mimalloc", "jemalloc", "system-again"] {
            let row = results
                .summary
                .iter()
                .find(|row| row.workload == workload && row.subject == subject);
            let row = row.expect("a row");
            assert_eq!(row.status, Status::Ok, "{row:?}");
            assert!(
                row.blocks >= 6 && row.ratio_to_baseline.is_some(),
                "{row:?}"
            );
            let looks = |sample: &&mymalloc::measure::results::Sample| {
                sample.workload == workload
                    && sample.subject == subject
                    && sample.pass == Pass::Memory
            };
            let expected = usize::from(subject != "system-again");
            assert_eq!(results.samples.iter().filter(looks).count(), expected);
        }
    }
    let text = stdout(&done);
    assert!(
        text.contains("mimalloc") && text.contains("index.html"),
        "{text}"
    );
    let ranked = output(mymalloc().arg("rank").arg(out.join("results.json")));
    assert_eq!(ranked.status.code(), Some(0), "{}", stderr(&ranked));
    for name in ["pagelist", "system", "mimalloc", "jemalloc"] {
        assert!(stdout(&ranked).contains(name), "{}", stdout(&ranked));
    }
}

#[test]
fn filters_that_fit_nothing_are_refused() {
    let folder = folder();
    let definitions = small_workloads(folder.path());
    let list = |extra: &[&str]| {
        let mut command = suite::small::suite(&definitions, folder.path());
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
    write_definition(&definitions, "p", "program", &format!("{common}\n{table}"));
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
            found.wall_ns >= 300_000_000 && found.user_ns + found.system_ns > 0,
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
