//! `compare`: equal files pass, a slower allocator is called slower, what is lost fails, and nothing is
//! left out without a word.

use mymalloc::measure::compare::{Comparison, Loss, Outcome, Selection, compare};
use mymalloc::measure::results::*;
use mymalloc::report;

use crate::fixture;
use crate::whole;

/// Results whose times vary by some 1.5 %, with a twin; mimalloc takes `factor` times as long. Each
/// seed and factor is another run.
pub(crate) fn noisy(seed: u64, factor: f64) -> Results {
    noisy_on(&["vim"], 20, seed, |subject| {
        if subject == "mimalloc" { factor } else { 1.0 }
    })
}

/// The same on some workloads, in so many blocks; each subject takes its factor times as long.
pub(crate) fn noisy_on(
    workloads: &[&str],
    blocks: u32,
    seed: u64,
    factor: impl Fn(&str) -> f64,
) -> Results {
    let mut cast = fixture::cast();
    cast.retain(|member| {
        ["system", "mimalloc", "jemalloc", "tcmalloc", "null"].contains(&member.name)
    });
    fixture::time(&mut cast, "tcmalloc", 17.0, 0.0);
    if workloads.len() == 1 {
        cast.retain(|member| member.name != "tcmalloc");
    }
    let cells: Vec<_> = workloads.iter().map(|name| (*name, cast.clone())).collect();
    let mut results = fixture::assemble(&cells, blocks, 3);
    whole::add_twin(&mut results);
    results.settings.bootstrap_resamples = 400;
    results.runs[0].started = format!("2026-11-22T21:04:05.{seed}Z");
    results.runs[0].elapsed_ns += (1e6 * factor("mimalloc")) as u64;
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 53) as f64
    };
    for sample in &mut results.samples {
        let own = factor(&sample.subject)
            * match sample.subject.as_str() {
                "system" | whole::TWIN => 24.1,
                "mimalloc" => 16.4,
                "jemalloc" => 19.8,
                "tcmalloc" => 17.0,
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

pub(crate) fn compared(old: &Results, new: &Results) -> Comparison {
    compare(old, new, &Selection::default()).expect("they can be compared")
}

/// The same results, as if measured once more.
pub(crate) fn again(results: &Results) -> Results {
    let mut again = results.clone();
    for run in &mut again.runs {
        run.started = "2026-11-24T08:00:00Z".into();
    }
    again
}

pub(crate) fn refusal(old: &Results, new: &Results) -> String {
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
    let mut new = again(&old);
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
        assert!((row.change.expect("times") - 1.0).abs() < 1e-9);
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

fn fail(results: &mut Results, workload: &str, subject: &str) {
    let mut rows = results.summary.iter_mut();
    let row = rows.find(|row| row.workload == workload && row.subject == subject);
    let row = row.expect("a row");
    (row.status, row.reason) = (Status::Crashed, Some("signal 11".into()));
}

fn forget(results: &mut Results, workload: &str, subject: &str) {
    results
        .summary
        .retain(|row| row.workload != workload || row.subject != subject);
    results
        .samples
        .retain(|sample| sample.workload != workload || sample.subject != subject);
}

#[test]
fn what_has_no_result_any_more_fails_at_any_limit_and_is_named() {
    let pair = |seed| noisy_on(&["vim", "emacs"], 20, seed, |_| 1.0);
    let old = pair(1);
    let lost = |change: &dyn Fn(&mut Results), allow_missing: bool| {
        let mut new = pair(2);
        change(&mut new);
        let selection = Selection {
            allow_missing,
            ..Selection::default()
        };
        compare(&old, &new, &selection).expect("they can be compared")
    };
    let text = |comparison: &Comparison| {
        let text = report::compared::render(comparison, 9.0, 80);
        assert!(
            text.lines().all(|line| line.chars().count() <= 80),
            "{text}"
        );
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let crashed = "had a result and is now crashed: signal 11";
    let missing = "had a result and is now not measured in the new file";
    for allow_missing in [false, true] {
        // A subject fails.
        let one = lost(&|new| fail(new, "vim", "jemalloc"), allow_missing);
        assert_eq!((one.outcome(9.0), one.rows.len()), (Outcome::Fails, 11));
        assert!(text(&one).contains(&format!("jemalloc: {crashed}")));
        // The baseline fails: its workload cannot be compared, and that is no reason to pass.
        let one = lost(&|new| fail(new, "vim", "system"), allow_missing);
        assert_eq!((one.outcome(9.0), one.rows.len()), (Outcome::Fails, 7));
        assert!(text(&one).contains(&format!("system: {crashed}")));
        assert!(text(&one).contains("not compared: mimalloc, jemalloc, tcmalloc"));
        // So it is if it fails under its second name.
        let one = lost(&|new| fail(new, "vim", whole::TWIN), allow_missing);
        assert_eq!(one.outcome(9.0), Outcome::Fails);
        // A row, a subject, a workload is not there.
        let row = lost(&|new| forget(new, "vim", "jemalloc"), allow_missing);
        let subject = lost(
            &|new| {
                new.subjects.retain(|subject| subject.name != "jemalloc");
                forget(new, "vim", "jemalloc");
                forget(new, "emacs", "jemalloc");
            },
            allow_missing,
        );
        let workload = lost(
            &|new| {
                new.workloads.retain(|workload| workload.name != "vim");
                new.summary.retain(|row| row.workload != "vim");
                new.samples.retain(|sample| sample.workload != "vim");
            },
            allow_missing,
        );
        for one in [row, subject, workload] {
            let text = text(&one);
            if allow_missing {
                assert_eq!(one.outcome(9.0), Outcome::Passes, "{text}");
                assert!(
                    text.contains("vim, jemalloc: is only in the old file"),
                    "{text}"
                );
            } else {
                assert_eq!(one.outcome(9.0), Outcome::Fails, "{text}");
                assert!(
                    text.contains("jemalloc") && text.contains(missing),
                    "{text}"
                );
            }
        }
        // A row without times is no row.
        let one = lost(
            &|new| {
                new.samples
                    .retain(|sample| sample.subject != "jemalloc" || sample.pass != Pass::Speed);
            },
            allow_missing,
        );
        assert_eq!(one.outcome(9.0), Outcome::Fails);
        let losses = one
            .rows
            .iter()
            .filter(|row| row.loss == Some(Loss::NotMeasured));
        assert_eq!(losses.count(), 2);
    }
    // What had no result before, or is new, is no loss; it is said.
    for (change, words) in [
        (
            fail as fn(&mut Results, &str, &str),
            "vim, jemalloc: failed in the old file",
        ),
        (forget, "vim, jemalloc: has a time only in the new file"),
    ] {
        let mut old = pair(1);
        change(&mut old, "vim", "jemalloc");
        let one = compared(&old, &pair(2));
        assert_eq!(one.outcome(0.0), Outcome::Passes);
        assert!(text(&one).contains(words), "{}", text(&one));
    }
    // The baseline's failure in the old file leaves nothing to compare with.
    let mut old = pair(1);
    fail(&mut old, "vim", "system");
    assert!(text(&compared(&old, &pair(2))).contains("vim: there is no time of system"));
}

const EIGHT: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

#[test]
fn a_doubled_time_never_passes_for_want_of_blocks() {
    let doubled = |subject: &str| match subject {
        "mimalloc" | "jemalloc" | "tcmalloc" => 2.0,
        _ => 1.0,
    };
    for blocks in [2, 6, 7] {
        let old = noisy_on(&EIGHT, blocks, 1, |_| 1.0);
        let slower = compared(&old, &noisy_on(&EIGHT, blocks, 2, doubled));
        let text = report::compared::render(&slower, 0.02, 80);
        let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert_eq!(slower.rows.len(), 48);
        assert_eq!(slower.outcome(0.02), Outcome::Fails, "{text}");
        assert!(slower.rows.iter().all(|row| row.fails(0.02)), "{text}");
        // Without a change, it is said that so few blocks show nothing, and how many would.
        let same = compared(&old, &noisy_on(&EIGHT, blocks, 3, |_| 1.0));
        if blocks < 7 {
            // The smallest p-value of 6 and 6 blocks is 2/924, and 0.05/48 is less.
            assert_eq!((slower.comparisons, slower.blocks_needed), (0, 7));
            assert!(
                slower
                    .rows
                    .iter()
                    .all(|row| row.verdict == Verdict::Unknown)
            );
            assert!(flat.contains("48 of 48 rows have too few blocks for any verdict"));
            assert!(flat.contains("48 rows lie above the limit with all that each shows"));
            assert_ne!(same.outcome(0.02), Outcome::Passes);
            assert!(blocks < 6 || same.outcome(0.02) == Outcome::Undecided);
        } else {
            assert_eq!(slower.comparisons, 48);
            assert!(slower.rows.iter().all(|row| row.verdict == Verdict::Slower));
            assert_eq!(same.outcome(0.02), Outcome::Passes);
        }
        let has_interval = slower.rows.iter().all(|row| row.interval.is_some());
        assert_eq!(has_interval, blocks >= 6, "six blocks have an interval");
    }
    // One block each is no ground for anything.
    let old = noisy_on(&EIGHT, 1, 1, |_| 1.0);
    let one = compared(&old, &noisy_on(&EIGHT, 1, 2, doubled));
    assert_eq!(one.outcome(0.0), Outcome::Undecided);
}

#[test]
fn a_row_of_few_blocks_does_not_hide_among_many() {
    let old = noisy_on(&EIGHT, 20, 1, |_| 1.0);
    let mut new = noisy_on(&EIGHT, 20, 2, |_| 1.0);
    for sample in &mut new.samples {
        let is_it = sample.workload == "c" && sample.subject == "mimalloc";
        if let Some(speed) = sample.speed.as_mut().filter(|_| is_it) {
            speed.passes_ns.iter_mut().for_each(|ns| *ns *= 2);
        }
    }
    new.samples.retain(|sample| {
        sample.workload != "c" || sample.subject != "mimalloc" || sample.block < 4
    });
    let comparison = compared(&old, &new);
    assert_eq!(
        comparison.comparisons, 46,
        "the others are judged among themselves"
    );
    assert_eq!(comparison.outcome(0.02), Outcome::Fails);
    let failing = comparison.rows.iter().filter(|row| row.fails(0.02));
    assert!(failing.clone().all(|row| row.workload == "c"));
    assert_eq!(failing.count(), 2);
}

#[test]
fn inside_one_run_blocks_are_compared_with_themselves() {
    // The machine's speed wanders by tens of percent from block to block, alike for all.
    let mut results = noisy(1, 1.0);
    for sample in &mut results.samples {
        let speed = sample.speed.as_mut();
        for ns in speed.into_iter().flat_map(|speed| &mut speed.passes_ns) {
            let own = if sample.subject == "jemalloc" {
                16.9
            } else {
                16.4
            };
            // Two subjects that share what happens to a block beyond the baseline's share of it.
            if ["mimalloc", "jemalloc"].contains(&sample.subject.as_str()) {
                let block = f64::from(sample.block);
                *ns = (1e6 * own * (1.0 + 0.3 * (block * 1.7).sin() + 0.002 * block.cos())) as u64;
            }
        }
    }
    let selection = |one: &str, other: &str| Selection {
        old_subject: Some(one.into()),
        new_subject: Some(other.into()),
        ..Selection::default()
    };
    let comparison = compare(&results, &results, &selection("mimalloc", "jemalloc")).unwrap();
    assert!(comparison.same_run);
    for row in &comparison.rows {
        assert_eq!(row.verdict, Verdict::Slower);
        assert!((row.change.unwrap() - 16.9 / 16.4).abs() < 1e-4, "{row:?}");
        assert!(row.interval.unwrap().high < 1.04);
        assert!((row.rss_peak_change.unwrap() - 1.12 / 1.31).abs() < 0.01);
    }
    // As two independent sets the same blocks show nothing.
    let text = report::compared::conclusion(&comparison, 0.0);
    assert!(!text.contains("may still differ"), "{text}");
    let apart = compare(
        &results,
        &again(&results),
        &selection("mimalloc", "jemalloc"),
    )
    .unwrap();
    assert!(
        apart
            .rows
            .iter()
            .all(|row| row.verdict == Verdict::NotDistinguishable)
    );
    let text = report::compared::conclusion(&apart, 0.0);
    assert!(
        text.contains("may still differ: its intervals reach up to 1."),
        "{text}"
    );
    assert!(
        apart
            .notes
            .iter()
            .any(|note| note.contains("Each side is one run"))
    );
    assert!(
        comparison
            .notes
            .iter()
            .all(|note| !note.contains("one run"))
    );
    // The baseline's own row is worth as much as any.
    let with_base = compare(&results, &results, &selection("system", "mimalloc")).unwrap();
    assert_eq!(with_base.rows.len(), 2);
    // A file beside itself holds no difference.
    let same = compared(&results, &results);
    assert!(
        same.rows
            .iter()
            .all(|row| row.verdict == Verdict::NotDistinguishable)
    );
    assert_eq!(same.outcome(0.0), Outcome::Passes);
}

#[test]
fn other_versions_and_builds_are_said() {
    let old = noisy(1, 1.0);
    let mut new = noisy(2, 1.0);
    for subject in &mut new.subjects {
        if subject.name == "jemalloc" {
            subject.version = Some("5.3.1".into());
        }
    }
    new.runs[0].tool.build = Some("feedbeef0123456".into());
    let comparison = compared(&old, &new);
    let notes = comparison.notes.join("\n");
    assert!(
        notes.contains("jemalloc: version 1.2.3 before, 5.3.1 now"),
        "{notes}"
    );
    assert!(
        notes.contains("another build") && notes.contains("build feedbeef0123 now"),
        "{notes}"
    );
    assert!(!notes.contains("mimalloc:"), "{notes}");
    // Another baseline only on demand, and then with a word.
    let base = new
        .subjects
        .iter_mut()
        .find(|subject| subject.name == "system");
    base.unwrap().version = Some("glibc 2.41".into());
    assert!(refusal(&old, &new).contains("version 1.2.3 before, glibc 2.41 now"));
    let selection = Selection {
        other_baseline: true,
        ..Selection::default()
    };
    let comparison = compare(&old, &new, &selection).unwrap();
    assert!(
        comparison
            .notes
            .join("\n")
            .contains("a change in all rows may be its own")
    );
}
