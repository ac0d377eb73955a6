//! `mymalloc suite`: selection, shards.

mod suite;

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Output;

use mymalloc::measure::results::{Pass, Results, Status};
use suite::small::{
    cells, output, small_suite, small_workloads, succeeds, write_definition, write_generated,
};
use suite::{assert_one_line_error, folder, mymalloc, results, shared_object, stderr, stdout};

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
        for subject in [
            "mymalloc",
            "pagelist",
            "system",
            "mimalloc",
            "jemalloc",
            "system-again",
        ] {
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
    for name in ["mymalloc", "pagelist", "system", "mimalloc", "jemalloc"] {
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
