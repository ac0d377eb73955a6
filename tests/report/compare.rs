//! `compare`: equal files pass, a slower allocator is called slower, and what cannot be compared is
//! refused with the reason.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use mymalloc::measure::compare::{Comparison, Selection, compare};
use mymalloc::measure::results::*;
use mymalloc::report;

use crate::fixture;
use crate::whole;

/// Results whose times vary by some 1.5 %, with a twin; mimalloc takes `factor` times as long.
fn noisy(seed: u64, factor: f64) -> Results {
    let mut cast = fixture::cast();
    cast.retain(|member| ["system", "mimalloc", "jemalloc", "null"].contains(&member.name));
    let mut results = fixture::assemble(&[("vim", cast)], 20, 3);
    whole::add_twin(&mut results);
    results.settings.bootstrap_resamples = 400;
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    for sample in &mut results.samples {
        let own = match sample.subject.as_str() {
            "system" | whole::TWIN => 24.1,
            "mimalloc" => 16.4 * factor,
            "jemalloc" => 19.8,
            _ => 3.4,
        };
        if let Some(speed) = &mut sample.speed {
            for ns in &mut speed.passes_ns {
                let noise = 1.0 + 0.03 * (random() + random() + random() - 1.5);
                *ns = (own * 1e6 * noise) as u64;
            }
        }
    }
    results
}

fn compared(old: &Results, new: &Results) -> Comparison {
    compare(old, new, &Selection::default()).expect("they can be compared")
}

fn refusal(old: &Results, new: &Results) -> String {
    let error = compare(old, new, &Selection::default()).expect_err("they cannot be compared");
    assert_eq!(error.exit_code(), 2);
    error.to_string()
}

#[test]
fn equal_files_hold_no_difference_and_five_percent_is_one() {
    let (mut false_alarms, mut found) = (0, 0);
    for seed in 0..40 {
        let old = noisy(seed, 1.0);
        let same = compared(&old, &noisy(seed + 1000, 1.0));
        assert_eq!(same.comparisons, 4, "two subjects, two heaps");
        let differs = |row: &&mymalloc::measure::compare::Change| {
            row.verdict == Verdict::Slower || row.verdict == Verdict::Faster
        };
        false_alarms += same.rows.iter().filter(differs).count();
        let slower = compared(&old, &noisy(seed + 2000, 1.05));
        found += slower
            .rows
            .iter()
            .filter(|row| row.new_subject == "mimalloc" && row.fails(0.0))
            .count();
        assert!(
            slower.rows.iter().all(|row| !row.fails(0.2)),
            "5 % is below a limit of 20 %"
        );
    }
    assert!(false_alarms <= 2, "{false_alarms} of 160 comparisons");
    assert!(found >= 76, "{found} of 80 comparisons");
}

#[test]
fn a_slower_day_cancels() {
    let old = noisy(1, 1.0);
    let mut new = old.clone();
    for speed in new
        .samples
        .iter_mut()
        .filter_map(|sample| sample.speed.as_mut())
    {
        for ns in &mut speed.passes_ns {
            *ns *= 2;
        }
    }
    for row in compared(&old, &new).rows {
        assert_eq!(row.verdict, Verdict::NotDistinguishable);
        assert!((row.change.expect("an interval").median - 1.0).abs() < 1e-9);
    }
}

#[test]
fn a_difference_within_the_noise_floor_is_not_called_one() {
    let old = noisy(1, 1.0);
    let mut new = noisy(2, 1.05);
    let called = compared(&old, &new);
    assert!(called.rows.iter().any(|row| row.verdict == Verdict::Slower));
    // The twin differs by as much: so that much means nothing here.
    for sample in &mut new.samples {
        if let Some(speed) = sample
            .speed
            .as_mut()
            .filter(|_| sample.subject == whole::TWIN)
        {
            for ns in &mut speed.passes_ns {
                *ns = *ns * 107 / 100;
            }
        }
    }
    let quiet = compared(&old, &new);
    assert!(quiet.rows.iter().all(|row| row.verdict != Verdict::Slower));
}

#[test]
fn an_allocator_that_no_longer_finishes_fails_at_any_limit() {
    let old = noisy(1, 1.0);
    let mut new = noisy(2, 1.0);
    let row = new
        .summary
        .iter_mut()
        .find(|row| row.subject == "jemalloc")
        .unwrap();
    (row.status, row.reason) = (Status::Crashed, Some("signal 11".into()));
    let comparison = compared(&old, &new);
    assert!(comparison.rows.iter().any(|row| row.fails(9.0)));
    let text = report::compared::render(&comparison, 9.0, 80);
    assert!(
        text.contains("jemalloc: had a result and is now crashed: signal 11"),
        "{text}"
    );
    // The other way round nothing is compared, and that is said.
    let back = compared(&new, &old);
    assert!(!back.rows.iter().any(|row| row.fails(0.0)));
    assert!(back.notes.iter().any(|note| note.contains("jemalloc")));
}

#[test]
fn what_cannot_be_compared_is_refused_with_the_reason() {
    let old = noisy(1, 1.0);
    let changed = |change: fn(&mut Results)| {
        let mut new = old.clone();
        change(&mut new);
        refusal(&old, &new)
    };
    for (change, words) in [
        (
            (|new| new.settings.baseline = "jemalloc".into()) as fn(&mut Results),
            vec!["different baselines", "system", "--baseline"],
        ),
        (
            |new| {
                new.runs[0].environment.cpu = Some("Other CPU".into());
                new.runs[0].environment.libc = Some("glibc 2.41".into());
            },
            vec![
                "different machines",
                "Other CPU now",
                "glibc 2.36 before",
                "--across-machines",
            ],
        ),
        (
            |new| new.settings.touch = Touch::All,
            vec!["different settings", "touch (page and all)"],
        ),
        (
            |new| new.settings.passes_per_sample = 5,
            vec!["replays per sample (3 and 5)"],
        ),
        (
            |new| new.workloads[0].order = Some(Order::Threads),
            vec!["vim: ", "order serial before and threads now"],
        ),
        (
            |new| new.workloads[0].origin.as_mut().unwrap().sha256 = "0123456789abcdef".into(),
            vec!["vim: the traces differ", "0123456789ab now"],
        ),
        (
            |new| new.workloads[0].profile.as_mut().unwrap().counts.malloc += 1,
            vec!["different operations"],
        ),
        (
            |new| new.workloads[0].name = "emacs".into(),
            vec!["no workload in common", "vim", "emacs"],
        ),
        (
            |new| {
                for subject in &mut new.subjects {
                    if subject.name != "system" {
                        subject.name = format!("{}-2", subject.name);
                    }
                }
            },
            vec!["no subject in common", "mimalloc-2"],
        ),
        (
            |new| new.samples.retain(|sample| sample.block < 5),
            vec!["too few blocks", "at least 6"],
        ),
        (|new| new.samples.clear(), vec!["nothing to compare"]),
    ] {
        let message = changed(change);
        for word in words {
            assert!(message.contains(word), "{word:?} is not in {message:?}");
        }
        assert!(!message.contains('\n'));
    }
    let mut elsewhere = old.clone();
    elsewhere.runs[0].environment.cpu = None;
    let selection = Selection {
        across_machines: true,
        ..Selection::default()
    };
    assert!(compare(&old, &elsewhere, &selection).is_ok());
    let selection = Selection {
        old_subject: Some("hoard".into()),
        ..Selection::default()
    };
    let message = compare(&old, &old, &selection).unwrap_err().to_string();
    assert!(message.contains("no subject hoard"), "{message}");
}

fn file(folder: &Path, name: &str, results: &Results) -> PathBuf {
    let path = folder.join(name);
    report::write_results(results, &path).unwrap();
    path
}

fn command(arguments: &[&str]) -> (i32, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(env!("CARGO_BIN_EXE_mymalloc"))
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

#[test]
fn the_command_is_a_gate() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str, results: &Results| {
        file(folder.path(), name, results)
            .to_str()
            .unwrap()
            .to_owned()
    };
    let old = path("old.json", &noisy(1, 1.0));
    let same = path("same.json", &noisy(7, 1.0));
    let slower = path("slower.json", &noisy(3, 1.05));

    let (code, text, errors) = command(&["compare", &old, &same]);
    assert_eq!((code, errors.as_str()), (0, ""), "{text}");
    assert!(text.contains("The comparison passes"), "{text}");
    assert!(text.contains("noise floor, fresh heap: "), "{text}");

    let (code, text, errors) = command(&["compare", &old, &slower]);
    assert_eq!((code, errors.as_str()), (1, ""), "{text}");
    assert!(text.contains("slower"), "{text}");
    assert!(
        text.lines().all(|line| line.chars().count() <= 80),
        "{text}"
    );

    assert_eq!(
        command(&["compare", &old, &slower, "--fail-above", "20%"]).0,
        0
    );
    assert_eq!(
        command(&["compare", &old, &slower, "--fail-above", "0.02"]).0,
        1
    );
    assert_eq!(
        command(&["compare", &old, &slower, "--subject", "jemalloc"]).0,
        0
    );

    let one = ["compare", &slower, &slower];
    let pair = ["--old-subject", "jemalloc", "--new-subject", "mimalloc"];
    let (code, text, _) = command(&[&one[..], &pair[..]].concat());
    assert_eq!(code, 0, "mimalloc is faster than jemalloc: {text}");
    assert!(text.contains("jemalloc → mimalloc"), "{text}");

    let (code, text, _) = command(&["compare", &old, &slower, "--format", "json"]);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(code, 1);
    assert_eq!(json["fails"], true);
    assert_eq!(json["comparison"]["rows"].as_array().unwrap().len(), 4);
    let (code, text, _) = command(&["compare", &old, &slower, "--format", "markdown"]);
    assert_eq!(code, 1);
    assert!(text.contains("| mimalloc | fresh |"), "{text}");
}

#[test]
fn the_command_tells_broken_files_from_slow_ones() {
    let folder = tempfile::tempdir().unwrap();
    let good = file(folder.path(), "good.json", &noisy(1, 1.0));
    let good = good.to_str().unwrap();
    let text = std::fs::read_to_string(good).unwrap();
    let broken = folder.path().join("broken.json");
    for (content, words) in [
        (&text[..text.len() / 2], "cut short"),
        (
            &text.replacen("\"schema_version\": 2", "\"schema_version\": 1", 1),
            "schema version 1",
        ),
        ("", "empty"),
    ] {
        std::fs::write(&broken, content).unwrap();
        let (code, out, errors) = command(&["compare", good, broken.to_str().unwrap()]);
        assert_eq!((code, out.as_str()), (2, ""), "{errors}");
        assert!(errors.contains(words), "{errors}");
    }
    assert_eq!(command(&["compare", good]).0, 2);
    assert_eq!(
        command(&["compare", good, good, "--fail-above", "much"]).0,
        2
    );
    assert_eq!(command(&["compare", good, "/nonexistent.json"]).0, 2);
}
