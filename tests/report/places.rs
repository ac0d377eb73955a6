//! Where reports are written: what stands there already, and places that cannot be used.

use std::path::Path;

use mymalloc::report;

use super::{fixture, folder};

#[test]
fn an_existing_report_is_replaced_and_strangers_are_left_alone() {
    let folder = folder();
    std::fs::write(folder.path().join("notes.txt"), "mine").unwrap();
    std::fs::write(folder.path().join("index.html"), "old").unwrap();
    let first = report::write(&fixture::results(), folder.path()).unwrap();
    let second = report::write(&fixture::results(), folder.path()).unwrap();
    assert_eq!(first, second);
    assert_eq!(first.charts.len(), 8);
    assert_eq!(
        std::fs::read_to_string(folder.path().join("notes.txt")).unwrap(),
        "mine"
    );
    assert!(
        std::fs::read_to_string(first.index)
            .unwrap()
            .ends_with("</html>")
    );
    let hidden = |path: &Path| {
        let entries = std::fs::read_dir(path).unwrap();
        entries
            .filter(|entry| {
                entry
                    .as_ref()
                    .unwrap()
                    .file_name()
                    .to_string_lossy()
                    .starts_with('.')
            })
            .count()
    };
    assert_eq!(
        hidden(folder.path()) + hidden(&folder.path().join("charts")),
        0
    );
}

#[test]
fn an_unwritable_place_is_told_with_its_path() {
    let folder = folder();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let message = report::write(&fixture::results(), &file.join("report"))
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("file/report") && message.contains("cannot create"),
        "{message}"
    );
    let message =
        report::write_results(&fixture::small(), &folder.path().join("none/results.json"))
            .unwrap_err();
    assert!(message.to_string().contains("cannot write"), "{message}");
}

#[test]
fn charts_of_an_older_report_are_removed_and_nothing_else() {
    let folder = folder();
    report::write(&fixture::many(), folder.path()).unwrap();
    let charts = folder.path().join("charts");
    std::fs::write(charts.join("notes.txt"), "mine").unwrap();
    std::fs::create_dir(charts.join("kept.svg")).unwrap();
    std::fs::write(folder.path().join("logo.svg"), "mine").unwrap();
    let paths = report::write(&fixture::results(), folder.path()).unwrap();
    let left = std::fs::read_dir(&charts).unwrap().count();
    assert_eq!(left, paths.charts.len() + 2);
    assert!(charts.join("notes.txt").is_file() && charts.join("kept.svg").is_dir());
    assert!(folder.path().join("logo.svg").is_file());
}

#[test]
fn a_file_in_the_place_of_the_charts_is_told_before_measuring() {
    let folder = folder();
    std::fs::write(folder.path().join("charts"), "").unwrap();
    let message = report::prepare_directory(folder.path())
        .unwrap_err()
        .to_string();
    assert!(
        message.contains("charts") && message.contains("not a folder"),
        "{message}"
    );
    std::fs::remove_file(folder.path().join("charts")).unwrap();
    report::prepare_directory(folder.path()).unwrap();
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
}
