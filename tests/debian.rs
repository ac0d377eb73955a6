//! Against allocators as Debian packages them, which `.ci/run` installs. Not part of a plain
//! `cargo test`: feature `debian-tests`.
#![cfg(feature = "debian-tests")]

mod suite;

use std::path::Path;

use suite::{assert_complete, folder, replay, results, row, stderr, stdout, write_trace};

const OBJECTS: [(&str, &str); 3] = [
    (
        "jemalloc-preloaded",
        "/usr/lib/x86_64-linux-gnu/libjemalloc.so.2",
    ),
    (
        "tcmalloc-preloaded",
        "/usr/lib/x86_64-linux-gnu/libtcmalloc_minimal.so.4",
    ),
    (
        "mimalloc-preloaded",
        "/usr/lib/x86_64-linux-gnu/libmimalloc.so.2",
    ),
];

#[test]
fn preloaded_allocators_serve_the_calls_themselves() {
    let folder = folder();
    let trace = write_trace(folder.path(), 3000);
    let out = folder.path().join("report");
    let mut command = replay();
    command.args(["--quick", "--subjects", "system"]);
    for (name, path) in OBJECTS {
        assert!(
            Path::new(path).exists(),
            "install Debian's package of {path}"
        );
        command.args(["--subject", &format!("{name}={path}")]);
    }
    let output = command
        .arg("--out")
        .args([&out, &trace])
        .output()
        .expect("the program starts");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let results = results(&out);
    for (name, path) in OBJECTS {
        assert_complete(row(&results, name));
        assert!(row(&results, name).rss_peak_bytes.is_some());
        for sample in results
            .samples
            .iter()
            .filter(|sample| sample.subject == name)
        {
            let receipt = sample.receipt.as_ref().expect("a receipt");
            assert_eq!(receipt.path, path);
            assert_eq!(receipt.functions.len(), 7, "{receipt:?}");
        }
        let record = results.subjects.iter().find(|subject| subject.name == name);
        assert!(
            record
                .expect("recorded")
                .version
                .as_ref()
                .expect("a build id")
                .contains("build id")
        );
    }
}

#[test]
fn catalogue_entries_of_debian_packages_work_by_name() {
    let folder = folder();
    let trace = write_trace(folder.path(), 500);
    let out = folder.path().join("report");
    let output = replay()
        .args([
            "--quick",
            "--subjects",
            "system,jemalloc-debian,tcmalloc-debian,mimalloc-debian",
        ])
        .arg("--out")
        .args([&out, &trace])
        .output()
        .expect("the program starts");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    for name in ["jemalloc-debian", "tcmalloc-debian", "mimalloc-debian"] {
        assert_complete(row(&results(&out), name));
        assert!(stdout(&output).contains(name));
    }
}
