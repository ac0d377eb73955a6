//! Results of several machines as one, and what a reader is warned of.

use mymalloc::measure::merge::merge;
use mymalloc::measure::results::*;
use mymalloc::measure::{summary, warnings};
use mymalloc::report;

use crate::fixture::{assemble, cast, time};
use crate::whole::{TWIN, add_twin};

/// Results of a machine on which mimalloc takes `ratio` of system's time, a nanosecond about it.
fn machine(cpu: &str, ratio: f64, blocks: u32) -> Results {
    let mut cast = cast();
    cast.retain(|member| ["system", "mimalloc", "null"].contains(&member.name));
    time(&mut cast, "mimalloc", 24.1 * ratio, 0.02);
    let mut results = assemble(&[("vim", cast)], blocks, 1);
    add_twin(&mut results);
    let environment = &mut results.runs[0].environment;
    (environment.cpu, environment.load_average_start) = (Some(cpu.into()), Some(0.1));
    let speed = if cpu == "Slow" { 3 } else { 1 };
    for (sample, number) in results.samples.iter_mut().zip(1..) {
        sample.elapsed_ns = Some(1_000_000 + number * 1009 * speed);
        let Some(times) = sample.speed.as_mut() else {
            continue;
        };
        // A wobble of half a percent of the block, another for each subject.
        let wobble = f64::from((sample.block * 7 + sample.subject.len() as u32 * 3) % 11) - 5.0;
        let base = if sample.subject == "mimalloc" {
            ratio
        } else {
            1.0
        };
        let floor = if sample.subject == "null" { 0.1 } else { 1.0 };
        let ns = 1e7 * speed as f64 * base * floor * (1.0 + wobble / 1000.0);
        times.passes_ns = vec![ns as u64; 3];
    }
    results.summary = summary::of(&results);
    results.warnings = warnings::of(&results);
    results
}

fn merged(files: Vec<Results>) -> Results {
    let names = ["a.json", "b.json", "c.json"].map(str::to_owned);
    merge(names.into_iter().zip(files).collect()).expect("they fit")
}

fn row<'a>(results: &'a Results, subject: &str) -> &'a SummaryRow {
    let mut rows = results.summary.iter();
    rows.find(|row| row.subject == subject).expect("measured")
}

fn told(results: &Results, words: &str) -> bool {
    results
        .warnings
        .iter()
        .any(|warning| warning.contains(words))
}

#[test]
fn machines_that_contradict_one_another_get_no_verdict_and_no_outliers() {
    let (fast, slow) = (machine("Fast", 0.8, 30), machine("Slow", 1.3, 20));
    assert_eq!(row(&fast, "mimalloc").verdict, Verdict::Faster);
    assert_eq!(row(&slow, "mimalloc").verdict, Verdict::Slower);
    let both = merged(vec![fast.clone(), slow.clone()]);
    let own = row(&both, "mimalloc");
    let ratio = own.ratio_to_baseline.expect("a ratio");
    // Not nearer to the machine with more blocks.
    assert!(
        (ratio.median - (0.8f64 * 1.3).sqrt()).abs() < 0.01,
        "{ratio:?}"
    );
    assert!(ratio.high - ratio.low < 0.05, "{ratio:?}");
    assert_eq!(own.verdict, Verdict::Unknown);
    assert_eq!(own.outliers, 0);
    let shown = |index: usize| own.by_run[index].ratio_to_baseline.expect("each run's");
    assert!((shown(0).median - 0.8).abs() < 0.01 && (shown(1).median - 1.3).abs() < 0.01);
    // Amounts are the first's, not a mixture.
    let (first, all) = (row(&fast, "mimalloc"), own);
    assert_eq!(first.ns_per_operation, all.ns_per_operation);
    assert_eq!(first.rss_peak_bytes, all.rss_peak_bytes);
    assert_eq!(both.summary.len(), fast.summary.len());
    assert!(
        told(&both, "of different machines: Fast (run of"),
        "{:?}",
        both.warnings
    );
    let words = "mimalloc on vim: the runs disagree: 0.79";
    assert!(told(&both, words), "{:?}", both.warnings);
    assert!(told(&both, "on Slow (run of") && told(&both, "no verdict for both"));
    let text = report::table::render(&both, 10_000);
    assert!(
        text.contains("times and memory are those of the first run alone (Fast,"),
        "{text}"
    );
    assert!(crate::page(&both).contains("Run by run, mimalloc"));
}

#[test]
fn machines_that_agree_strengthen_one_another() {
    let both = merged(vec![machine("Fast", 0.9, 12), machine("Slow", 0.9, 12)]);
    let own = row(&both, "mimalloc");
    assert_eq!(own.verdict, Verdict::Faster);
    assert_eq!((own.blocks, own.by_run.len()), (24, 2));
    assert!(!told(&both, "disagree"), "{:?}", both.warnings);
    assert!(told(&both, "of different machines"));
    // One run keeps its rows as they were.
    assert!(row(&machine("Fast", 0.9, 12), "mimalloc").by_run.is_empty());
}

#[test]
fn the_same_run_is_found_whatever_was_changed_beside_its_samples() {
    let original = machine("Fast", 0.9, 12);
    type Change = fn(&mut Results);
    let changes: [Change; 4] = [
        |_| {},
        |copy| copy.runs[0].elapsed_ns += 1,
        |copy| copy.runs[0].started = "2020-01-01T00:00:00Z".into(),
        |copy| {
            copy.samples
                .iter_mut()
                .for_each(|sample| sample.elapsed_ns = None)
        },
    ];
    for change in changes {
        let mut copy = original.clone();
        change(&mut copy);
        let files = vec![("a".to_owned(), original.clone()), ("b".to_owned(), copy)];
        let error = merge(files).expect_err("the same run");
        assert!(error.contains("a and b hold the same run"), "{error}");
    }
    // Two machines of a kind that began in the same second are two runs.
    let mut other = original.clone();
    for (sample, number) in other.samples.iter_mut().zip(1..) {
        sample.elapsed_ns = Some(2_000_000 + number * 77);
    }
    assert_eq!(merged(vec![original, other]).runs.len(), 2);
}

#[test]
fn differing_settings_are_told() {
    let one = machine("Fast", 0.9, 12);
    let mut other = machine("Slow", 0.9, 12);
    other.settings.seed = 7;
    other.settings.timeout_seconds = 5.0;
    other.settings.memory_limit_bytes = Some(1 << 30);
    let both = merged(vec![one, other]);
    for words in [
        "different seeds (42 and 7)",
        "time limit of a sample: 60 s and 5 s",
        "memory limit of a sample: none and 1024 MiB",
    ] {
        assert!(told(&both, words), "{words}: {:?}", both.warnings);
    }
}

#[test]
fn too_few_blocks_for_a_verdict_are_counted_and_said() {
    // Two comparisons need seven blocks.
    let results = machine("Fast", 0.8, 6);
    assert_eq!(row(&results, "mimalloc").verdict, Verdict::Unknown);
    assert_eq!(summary::blocks_needed(&results), 7);
    assert!(
        told(&results, "vim: too few blocks for a verdict: 6 of 7."),
        "{:?}",
        results.warnings
    );
    let sentence = report::sentences(&results).remove(0);
    assert!(
        sentence
            .starts_with("On vim, too few blocks for a verdict: 6 of 7; unjudged, mimalloc takes"),
        "{sentence}"
    );
    let text = report::table::render(&results, 10_000);
    assert!(
        !text.contains("not compared") && !text.contains("was shown"),
        "{text}"
    );
    let enough = machine("Fast", 0.8, 7);
    assert_eq!(row(&enough, "mimalloc").verdict, Verdict::Faster);
    assert!(!told(&enough, "too few"), "{:?}", enough.warnings);
}

#[test]
fn without_a_noise_floor_there_is_no_verdict() {
    let mut results = machine("Fast", 0.8, 12);
    results.samples.retain(|sample| sample.subject != TWIN);
    results.summary = summary::of(&results);
    results.warnings = warnings::of(&results);
    assert_eq!(row(&results, "mimalloc").verdict, Verdict::Unknown);
    assert!(
        told(&results, "vim: no noise floor"),
        "{:?}",
        results.warnings
    );
    let sentence = report::sentences(&results).remove(0);
    assert!(
        sentence.contains("no verdict, since there is no noise floor"),
        "{sentence}"
    );
}

#[test]
fn a_baseline_that_differs_from_itself_is_a_noisy_machine() {
    let quiet = machine("Fast", 0.8, 12);
    assert!(!told(&quiet, "noisy"), "{:?}", quiet.warnings);
    for (shift, words) in [(1.05, "does not even hold 1"), (1.0, "up to 4")] {
        let mut results = quiet.clone();
        for sample in results.samples.iter_mut().filter(|one| one.subject == TWIN) {
            let wave = if shift > 1.0 {
                1.0
            } else {
                1.0 + 0.04 * (f64::from(sample.block % 2) * 2.0 - 1.0)
            };
            if let Some(speed) = &mut sample.speed {
                let times = speed.passes_ns.iter_mut();
                times.for_each(|ns| *ns = (*ns as f64 * shift * wave) as u64);
            }
        }
        results.summary = summary::of(&results);
        results.warnings = warnings::of(&results);
        let found = results.warnings.iter().find(|one| one.contains("noisy"));
        let found = found.expect("a warning");
        assert!(found.contains(words) && found.contains("repeat"), "{found}");
    }
}

#[test]
fn a_baseline_measured_once_asks_for_no_more_blocks() {
    let mut results = machine("Fast", 0.8, 6);
    results.samples.retain(|sample| sample.subject != TWIN);
    results.subjects.retain(|subject| subject.name != TWIN);
    results.settings.baseline_twin = None;
    results.summary = summary::of(&results);
    // The benches have warnings of their own.
    results.warnings.clear();
    let text = report::table::render(&results, 10_000);
    assert!(text.contains("the baseline was measured once"), "{text}");
    assert!(text.contains("so there are no verdicts"), "{text}");
    assert!(
        !text.contains("too few blocks for a verdict") && !text.contains("side by side"),
        "{text}"
    );
}
