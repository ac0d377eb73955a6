//! `rank`: means over the common workloads, failures named, with and without our own.

use std::process::Command;

use mymalloc::measure::rank::{Ranking, rank};
use mymalloc::measure::results::*;
use mymalloc::report;

use crate::fixture;
use crate::whole;

/// Two workloads; mimalloc takes half the time on one and the double on the other.
fn balanced() -> Results {
    let cast = |mimalloc: f64, jemalloc: f64| {
        let mut cast = fixture::cast();
        cast.retain(|member| member.name != "tcmalloc");
        fixture::time(&mut cast, "system", 20.0, 0.01);
        fixture::time(&mut cast, "mimalloc", mimalloc, 0.01);
        fixture::time(&mut cast, "jemalloc", jemalloc, 0.01);
        fixture::time(&mut cast, "pagelist", 15.0, 0.01);
        cast
    };
    fixture::assemble(
        &[("one", cast(10.0, 18.0)), ("two", cast(40.0, 18.0))],
        10,
        3,
    )
}

fn names(ranking: &Ranking) -> Vec<&str> {
    ranking
        .rows
        .iter()
        .map(|row| row.subject.as_str())
        .collect()
}

#[test]
fn each_workload_counts_the_same() {
    let ranking = rank(&balanced(), false);
    assert_eq!(names(&ranking)[..2], ["pagelist", "jemalloc"]);
    let row = |name: &str| ranking.rows.iter().find(|row| row.subject == name).unwrap();
    let mimalloc = row("mimalloc");
    assert!((mimalloc.time_to_baseline.median - 1.0).abs() < 0.02);
    assert!(mimalloc.time_to_baseline.low < mimalloc.time_to_baseline.high);
    // Best on "one" at 10 ns; on "two" the best is the page list at 15 ns: √(1 · 40/15).
    assert!((mimalloc.time_to_best - (40.0f64 / 15.0).sqrt()).abs() < 0.05);
    assert!((row("jemalloc").rss_to_baseline.unwrap() - 1.12 / 1.19).abs() < 1e-9);
    assert_eq!(row("jemalloc").rss_to_best.unwrap(), 1.0);
    assert_eq!((row("system").place, row("mimalloc").place), (3, 3), "tied");
    assert_eq!(row("pagelist").is_on_front, Some(true));
    assert_eq!(row("jemalloc").is_on_front, Some(true));
    assert_eq!(row("mimalloc").is_on_front, Some(false));
    let without = rank(&balanced(), true);
    assert_eq!((names(&without).len(), names(&without)[0]), (3, "jemalloc"));
    assert!((without.rows[0].time_to_best - (18.0f64 / 10.0).sqrt()).abs() < 0.05);
}

#[test]
fn failures_are_named_and_shrink_the_common_set_for_all() {
    let ranking = rank(&fixture::many(), false);
    // tcmalloc fails on every fifth workload; the page list finishes a third of them.
    assert!(names(&ranking).contains(&"tcmalloc") && !names(&ranking).contains(&"pagelist"));
    assert_eq!((ranking.workloads, ranking.workloads_time.len()), (15, 12));
    assert!(ranking.workloads_memory.len() < 12 && !ranking.workloads_memory.is_empty());
    let tcmalloc = ranking
        .rows
        .iter()
        .find(|row| row.subject == "tcmalloc")
        .unwrap();
    assert_eq!(tcmalloc.failures.len(), 3);
    assert_eq!(ranking.unranked[0].subject, "pagelist");
    assert_eq!(ranking.unranked[0].finished, 5);
    let text = report::ranked::render(&[ranking], 80);
    for words in [
        "* tcmalloc: crashed on churn-16",
        "Not ranked: pagelist, with a time on 5 of 15",
        "over the 12 of 15 workloads",
    ] {
        let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(flat.contains(words), "{words} is not in {text}");
    }
    assert!(
        text.lines().all(|line| line.chars().count() <= 80),
        "{text}"
    );
}

#[test]
fn twins_and_floors_are_not_ranked() {
    let ranking = rank(&whole::whole(), false);
    for name in [whole::TWIN, "null", "bump"] {
        assert!(!names(&ranking).contains(&name));
        assert!(ranking.unranked.iter().all(|row| row.subject != name));
    }
    let nothing = rank(&fixture::all_failed(), false);
    assert!(nothing.rows.is_empty());
    assert!(report::ranked::markdown(&[nothing]).contains("nothing to rank"));
}

#[test]
fn the_command_writes_tables_and_json() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("results.json");
    report::write_results(&balanced(), &path).unwrap();
    let run = |format: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_mymalloc"))
            .args(["rank", path.to_str().unwrap(), "--format", format])
            .output()
            .unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    let table = run("table");
    assert!(
        table.lines().all(|line| line.chars().count() <= 80),
        "{table}"
    );
    assert!(
        table.contains("Without this project's own allocators"),
        "{table}"
    );
    assert!(table.contains("On the front, where none is both faster and leaner"));
    assert!(run("markdown").contains("| jemalloc |"));
    let json: serde_json::Value = serde_json::from_str(&run("json")).unwrap();
    assert_eq!(json[0]["rows"].as_array().unwrap().len(), 4);
    assert_eq!(json[1]["without_own"], true);
}
