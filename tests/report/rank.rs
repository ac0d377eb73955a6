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
    assert!((mimalloc.time_to_baseline - 1.0).abs() < 0.02);
    let interval = mimalloc.time_interval.expect("ten blocks have one");
    assert!(interval.low < interval.high);
    // Best on "one" at 10 ns; on "two" the best is the page list at 15 ns: √(1 · 40/15).
    assert!((mimalloc.time_to_best - (40.0f64 / 15.0).sqrt()).abs() < 0.05);
    assert!((row("jemalloc").rss_to_baseline.unwrap() - 1.12 / 1.19).abs() < 1e-9);
    assert_eq!(row("jemalloc").rss_to_best.unwrap(), 1.0);
    let place = |name: &str| row(name).place.expect("enough blocks");
    assert_eq!((place("pagelist"), place("jemalloc")), (1, 2));
    assert_eq!((place("system"), place("mimalloc")), (3, 3), "tied");
    // The page list is the fastest and needs the most; jemalloc is faster than the rest and leaner.
    assert_eq!(row("pagelist").is_on_front, Some(true));
    assert_eq!(row("jemalloc").is_on_front, Some(true));
    assert_eq!(row("mimalloc").is_on_front, Some(false));
    assert_eq!(row("system").is_on_front, Some(false));
    let without = rank(&balanced(), true);
    assert_eq!((names(&without).len(), names(&without)[0]), (3, "jemalloc"));
    assert!((without.rows[0].time_to_best - (18.0f64 / 10.0).sqrt()).abs() < 0.05);
}

/// Results in which every ranked allocator is the same; times vary by some percent, skewed, from block
/// to block alike and from sample to sample apart.
fn identical(workloads: &[&str], blocks: u32, seed: u64) -> Results {
    let mut cast = fixture::cast();
    cast.retain(|member| ["system", "mimalloc", "jemalloc", "pagelist"].contains(&member.name));
    for name in ["system", "mimalloc", "jemalloc", "pagelist"] {
        fixture::time(&mut cast, name, 20.0, 0.0);
    }
    let cells: Vec<_> = workloads.iter().map(|name| (*name, cast.clone())).collect();
    let mut results = fixture::assemble(&cells, blocks, 1);
    whole::add_twin(&mut results);
    results.settings.bootstrap_resamples = 100;
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut skewed = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        -(1.0 - (state >> 11) as f64 / (1u64 << 53) as f64).ln()
    };
    let machine: Vec<f64> = (0..blocks).map(|_| 1.0 + 0.2 * skewed()).collect();
    for sample in &mut results.samples {
        let share = machine.get(sample.block as usize).copied().unwrap_or(1.0);
        if let Some(speed) = &mut sample.speed {
            let ns = 2e7 * share * (1.0 + 0.05 * skewed());
            speed.passes_ns.iter_mut().for_each(|own| *own = ns as u64);
        }
    }
    results
}

#[test]
fn identical_allocators_share_a_place_95_times_in_100() {
    for (workloads, blocks) in [(&["one"][..], 8), (&["one", "two", "three"], 6)] {
        let mut different = 0;
        for seed in 0..100 {
            let mut results = identical(workloads, blocks, seed);
            // Without a twin nothing but the test keeps them together.
            results.settings.baseline_twin = None;
            let ranking = rank(&results, false);
            assert_eq!((ranking.rows.len(), &ranking.unplaced), (4, &None));
            assert!(ranking.noise_floor.is_none());
            different += usize::from(ranking.rows.iter().any(|row| row.place != Some(1)));
        }
        // Five are allowed, and three standard deviations of that count are 6.5.
        assert!(different <= 11, "{different} of 100 on {workloads:?}");
    }
}

#[test]
fn too_few_blocks_have_no_interval_and_no_places() {
    for (blocks, has_interval, why) in [
        (1, false, "a workload has 1 block"),
        (5, false, "a workload has 5 blocks"),
        (
            7,
            true,
            "6 comparisons of two need 8 blocks in all, and there are 7",
        ),
    ] {
        let ranking = rank(&identical(&["one"], blocks, 1), false);
        for row in &ranking.rows {
            assert_eq!(row.time_interval.is_some(), has_interval);
            assert_eq!((row.place, row.is_on_front), (None, None));
        }
        let text = report::ranked::render(&[ranking], 80);
        let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(
            flat.contains(&format!("No places and no front: {why}")),
            "{text}"
        );
        assert_eq!(text.contains("95 %"), has_interval, "{text}");
        assert_eq!(text.contains('['), has_interval, "{text}");
        assert!(!text.contains("On the front"), "{text}");
    }
}

#[test]
fn what_is_within_the_noise_floor_shares_a_place() {
    let slower = |results: &mut Results, subject: &str, factor: f64| {
        let own = results
            .samples
            .iter_mut()
            .filter(|one| one.subject == subject);
        for speed in own.filter_map(|sample| sample.speed.as_mut()) {
            for ns in &mut speed.passes_ns {
                *ns = (*ns as f64 * factor) as u64;
            }
        }
    };
    let mut results = identical(&["one", "two"], 40, 3);
    slower(&mut results, "jemalloc", 1.1);
    let place = |results: &Results| {
        let ranking = rank(results, false);
        let row = ranking.rows.iter().find(|row| row.subject == "jemalloc");
        (row.unwrap().place, ranking.noise_floor.expect("a twin"))
    };
    let (alone, floor) = place(&results);
    assert!(alone == Some(4) && floor < 0.05, "{alone:?} {floor}");
    slower(&mut results, whole::TWIN, 1.15);
    let (shared, floor) = place(&results);
    assert!(shared == Some(1) && floor > 0.1, "{shared:?} {floor}");
}

#[test]
fn the_front_takes_a_verdict_and_two_percent() {
    let mut results = identical(&["one", "two"], 20, 5);
    let memory = |results: &mut Results, subject: &str, ratio: f64| {
        let rows = results
            .summary
            .iter_mut()
            .filter(|row| row.subject == subject);
        rows.for_each(|row| row.rss_peak_ratio_to_baseline = Some(ratio));
    };
    // Nobody is faster: memory alone beats nobody.
    for (subject, ratio) in [("mimalloc", 0.5), ("jemalloc", 0.7), ("pagelist", 1.4)] {
        memory(&mut results, subject, ratio);
    }
    let front = |results: &Results| -> Vec<String> {
        let rows = rank(results, false).rows.into_iter();
        let mut names: Vec<String> = rows
            .filter(|row| row.is_on_front == Some(true))
            .map(|row| row.subject)
            .collect();
        names.sort();
        names
    };
    assert_eq!(
        front(&results),
        ["jemalloc", "mimalloc", "pagelist", "system"]
    );
    // mimalloc is faster by a fifth: it beats whom it needs no more memory than, give or take 2 %.
    let own = results
        .samples
        .iter_mut()
        .filter(|one| one.subject == "mimalloc");
    for speed in own.filter_map(|sample| sample.speed.as_mut()) {
        speed.passes_ns.iter_mut().for_each(|ns| *ns = *ns * 8 / 10);
    }
    for (mimalloc, others) in [
        (0.5, &["mimalloc"][..]),
        (0.713, &["mimalloc"]),
        (0.72, &["jemalloc", "mimalloc"]),
        (1.1, &["jemalloc", "mimalloc", "system"]),
    ] {
        memory(&mut results, "mimalloc", mimalloc);
        assert_eq!(front(&results), others, "{mimalloc}");
    }
}

#[test]
fn ours_under_another_name_is_left_out_too() {
    let mut results = identical(&["one"], 10, 1);
    let renamed = |name: &mut String| {
        if name == "pagelist" {
            *name = "tuned".into();
        }
    };
    results
        .subjects
        .iter_mut()
        .for_each(|one| renamed(&mut one.name));
    results
        .samples
        .iter_mut()
        .for_each(|one| renamed(&mut one.subject));
    results
        .summary
        .iter_mut()
        .for_each(|one| renamed(&mut one.subject));
    assert!(names(&rank(&results, false)).contains(&"tuned"));
    assert!(!names(&rank(&results, true)).contains(&"tuned"));
    assert_eq!(rank(&results, true).rows.len(), 3);
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
fn one_that_fails_often_takes_no_workloads_from_the_others() {
    let mut results = fixture::many();
    let fail = |results: &mut Results, workloads: usize| {
        let names: Vec<String> = results
            .workloads
            .iter()
            .map(|one| one.name.clone())
            .collect();
        for row in &mut results.summary {
            if row.subject == "mimalloc" && names[..workloads].contains(&row.workload) {
                row.status = Status::TimedOut;
                row.ratio_to_baseline = None;
            }
        }
    };
    fail(&mut results, 3);
    assert!(names(&rank(&results, false)).contains(&"mimalloc"));
    fail(&mut results, 5);
    let ranking = rank(&results, false);
    assert!(!names(&ranking).contains(&"mimalloc"));
    assert_eq!(ranking.workloads_time.len(), 12);
    assert!(
        ranking
            .unranked
            .iter()
            .any(|row| row.subject == "mimalloc" && row.finished == 10)
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
    assert!(table.contains("On the front, where no other is told to be faster"));
    assert!(run("markdown").contains("| jemalloc |"));
    let json: serde_json::Value = serde_json::from_str(&run("json")).unwrap();
    assert_eq!(json[0]["rows"].as_array().unwrap().len(), 4);
    assert_eq!(json[1]["without_own"], true);
}
