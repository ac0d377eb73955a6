//! `mymalloc fidelity` and `mymalloc trace model` on a program that is over at once.

mod suite;

use std::path::Path;
use std::process::{Command, Output};

use mymalloc::measure::fidelity::Fidelity;
use mymalloc::measure::results::{Results, WorkloadKind};
use suite::small::{RIGHT, output, write_definition};
use suite::{folder, mymalloc, results, shared_object, stderr, stdout, write_trace};

/// Folder of a definition `p` that runs a small C program.
fn definitions(folder: &Path) -> std::path::PathBuf {
    let definitions = folder.join("definitions");
    std::fs::create_dir_all(&definitions).expect("ours");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/grow.c");
    let done = Command::new("cc")
        .args(["-O1", "-fno-builtin", "-o"])
        .args([&definitions.join("grow"), &source])
        .output()
        .expect("a C compiler is needed to build mimalloc, so it is there");
    assert!(done.status.success(), "{}", stderr(&done));
    let table = format!(
        "setup = 'apt-get install -y it'\ncommand = ['./grow']\nfiles = ['grow']\n\
         expected_sha256 = '{RIGHT}'"
    );
    write_definition(&definitions, "p", "program", &table);
    definitions
}

fn fidelity(folder: &Path, extra: &[&str]) -> Output {
    let mut command = mymalloc();
    command
        .args([
            "fidelity",
            "--subjects",
            "system",
            "--blocks",
            "1",
            "--memory-blocks",
            "1",
        ])
        .arg("--definitions")
        .arg(definitions(folder))
        .arg("--out")
        .arg(folder.join("report"))
        .args(extra);
    output(&mut command)
}

#[test]
fn a_program_is_held_against_the_replay_of_a_given_trace() {
    let folder = folder();
    let trace = write_trace(folder.path(), 3000);
    let object = shared_object(folder.path(), "faulty.c", "right", &[]);
    let given = format!("p={}", trace.display());
    let other = format!("other={}", object.display());
    let done = fidelity(
        folder.path(),
        &[
            "--trace",
            &given,
            "--subject",
            &other,
            "--touch",
            "page,used,busy",
        ],
    );
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    let text = stdout(&done);
    assert!(
        text.lines().all(|line| line.chars().count() <= 80),
        "{text}"
    );
    assert!(
        ["page", "used", "busy"]
            .iter()
            .all(|touch| text.contains(&format!("Touch {touch}:"))),
        "{text}"
    );
    let report = folder.path().join("report");
    let json = std::fs::read_to_string(report.join("fidelity.json")).expect("written");
    let compared: Fidelity = serde_json::from_str(&json).expect("its own form");
    assert_eq!(compared.policies.len(), 3);
    for policy in &compared.policies {
        let program = &policy.programs[0];
        assert_eq!(program.name, "p");
        assert_eq!(program.operations[0], program.operations[1]);
        assert_eq!(program.subjects.len(), 1);
        let other = &program.subjects[0];
        assert_eq!(other.subject, "other");
        assert!(other.predicted_time.median > 0.0 && other.real_time.median > 0.0);
        assert!(other.predicted_rss.is_some() && other.real_rss.is_some());
        // Of one pair and another nothing can be ranked.
        assert_eq!(program.rank_correlation, None);
    }
    let results: Results = results(&report);
    let names: Vec<&str> = results
        .workloads
        .iter()
        .map(|one| one.name.as_str())
        .collect();
    assert_eq!(names, ["start-up", "p", "p/1/page", "p/1/used", "p/1/busy"]);
    let html = std::fs::read_to_string(report.join("index.html")).expect("written");
    assert!(html.contains("<svg") && html.contains("</html>"));
    assert!(report.join("charts/fidelity-time.svg").is_file());
}

#[test]
fn what_cannot_be_compared_is_told_in_a_line() {
    let folder = folder();
    for (extra, code, expected) in [
        (
            &["--programs", "q"][..],
            2,
            "--programs q: no such program; known: p",
        ),
        (&["--trace", "p"], 2, "expected NAME=FILE"),
        (&["--trace", "q=x"], 2, "q is not among the programs"),
        (&["--trace", "p=none"], 2, "no such file"),
        (&["--subject", "x=none.so"], 2, "none.so"),
    ] {
        let done = fidelity(folder.path(), extra);
        assert_eq!(done.status.code(), Some(code), "{}", stderr(&done));
        assert!(stderr(&done).contains(expected), "{}", stderr(&done));
    }
    let mut linked = mymalloc();
    linked.args(["fidelity", "--subjects", "system,mimalloc", "--definitions"]);
    linked.arg(definitions(folder.path()));
    let done = output(&mut linked);
    assert_eq!(done.status.code(), Some(2));
    assert!(stderr(&done).contains("mimalloc: it is linked into this program"));
}

#[test]
fn a_model_is_written_checked_and_replayed() {
    let folder = folder();
    let trace = write_trace(folder.path(), 3000);
    let path = folder.path().join("some-model.toml");
    let mut command = mymalloc();
    command
        .args(["trace", "model"])
        .arg(&trace)
        .arg("-o")
        .arg(&path);
    command.args(["--blocks", "1", "--subjects", "system"]);
    let done = output(&mut command);
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    let text = stdout(&done);
    assert!(
        text.lines().all(|line| line.chars().count() <= 100),
        "{text}"
    );
    for expected in ["operations", "sizes", "lifetimes", "peak RSS", "system"] {
        assert!(text.contains(expected), "{expected} is not in {text}");
    }
    let written = std::fs::read_to_string(&path).expect("written");
    assert!(written.contains("kind = \"model\"") && !written.contains("trace.log"));
    let out = folder.path().join("report");
    let mut suite = mymalloc();
    suite.args([
        "suite",
        "--kind",
        "model",
        "--subjects",
        "system",
        "--blocks",
        "1",
    ]);
    suite
        .args(["--latency-blocks", "0", "--definitions"])
        .arg(folder.path());
    let done = output(suite.arg("--out").arg(&out));
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    let results = results(&out);
    assert_eq!(results.workloads[0].kind, WorkloadKind::Model);
    let mut replayed = suite::replay();
    replayed
        .args(["--quick", "--blocks", "1", "--subjects", "system"])
        .arg(&path);
    let done = output(replayed.arg("--out").arg(folder.path().join("replayed")));
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    let mut misnamed = mymalloc();
    misnamed
        .args(["trace", "model"])
        .arg(&trace)
        .args(["-o", "Not Legal.toml"]);
    assert_eq!(output(&mut misnamed).status.code(), Some(2));
}
