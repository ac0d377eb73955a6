//! Several results files as one, at the command line: nothing is written over, and `rank` takes them
//! as `report` does.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use mymalloc::measure::results::Results;
use mymalloc::report;

use crate::fixture;

/// A shard in a folder of its own: one workload, one run.
fn shard(folder: &Path, number: u32) -> PathBuf {
    let mut cast = fixture::cast();
    cast.retain(|member| ["system", "mimalloc", "jemalloc"].contains(&member.name));
    let mut results = fixture::assemble(&[(&format!("workload-{number}"), cast)], 10, 1);
    results.runs[0].started = format!("2026-11-22T21:04:0{number}Z");
    let path = folder.join(format!("s{number}")).join("results.json");
    std::fs::create_dir(path.parent().unwrap()).unwrap();
    report::write_results(&results, &path).unwrap();
    path
}

fn mymalloc(command: &str, paths: &[&Path], out: Option<&Path>) -> (i32, String, String) {
    let mut process = Command::new(env!("CARGO_BIN_EXE_mymalloc"));
    process.arg(command).args(paths);
    if let Some(out) = out {
        process.arg("--out").arg(out);
    }
    let Output {
        status,
        stdout,
        stderr,
    } = process.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

fn runs(path: &Path) -> usize {
    let results: Results = report::read_results(path).unwrap();
    results.runs.len()
}

#[test]
fn merged_results_never_replace_others() {
    let folder = tempfile::tempdir().unwrap();
    let [one, two, three] = [1, 2, 3].map(|number| shard(folder.path(), number));
    let before = [&one, &two, &three].map(|path| std::fs::read(path).unwrap());
    // Neither one that was merged, under whatever name, nor another run's.
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(one.parent().unwrap(), &link).unwrap();
    for (out, words) in [
        (one.parent().unwrap(), "one of the files to merge"),
        (&*link, "one of the files to merge"),
        (three.parent().unwrap(), "would be lost"),
    ] {
        let (code, text, errors) = mymalloc("report", &[&one, &two], Some(out));
        assert_eq!((code, text.as_str()), (2, ""), "{errors}");
        let file = out.join("results.json").display().to_string();
        assert!(errors.contains(&file) && errors.contains(words), "{errors}");
        assert!(
            errors.contains("--out") && errors.lines().count() == 1,
            "{errors}"
        );
        assert!(!out.join("index.html").exists());
    }
    let after = [&one, &two, &three].map(|path| std::fs::read(path).unwrap());
    assert!(before == after, "every shard is as it was");
    // A report drawn again, and one of more shards, replace what they hold themselves.
    let merged = folder.path().join("merged");
    let file = merged.join("results.json");
    for (inputs, count) in [
        (&[&*one, &two][..], 2),
        (&[&*one, &two][..], 2),
        (&[&*one, &two, &three][..], 3),
    ] {
        let (code, _, errors) = mymalloc("report", inputs, Some(&merged));
        assert_eq!((code, errors.as_str()), (0, ""));
        assert_eq!(runs(&file), count);
    }
    let (code, ..) = mymalloc("report", &[&one, &two], Some(&merged));
    assert_eq!(
        (code, runs(&file)),
        (2, 3),
        "three's samples are still there"
    );
}

#[test]
fn rank_merges_what_it_is_given() {
    let folder = tempfile::tempdir().unwrap();
    let [one, two] = [1, 2].map(|number| shard(folder.path(), number));
    let (code, text, errors) = mymalloc("rank", &[&one, &two], None);
    assert_eq!((code, errors.as_str()), (0, ""));
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flat.contains("over the 2 of 2 workloads"), "{text}");
    let (code, _, errors) = mymalloc("rank", &[&one, &one], None);
    assert_eq!(code, 1);
    assert!(errors.contains("the same run"), "{errors}");
}
