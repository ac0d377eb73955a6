//! Whole runs with made-up times: the rule decides how many blocks there are, the summary judges
//! them, and both are held against the truth, which is known here. Seeded, so the counts repeat.

use std::time::Duration;

use rand::{RngExt as _, SeedableRng as _};
use rand_pcg::Pcg64Mcg;

use super::{Question, decide};
use crate::measure::pairs::Heap;
use crate::measure::results::{Pass, Sample, SpeedSample, StopReason, SummaryRow, Verdict};
use crate::measure::summary::{Frame, summarise};
use crate::plan::Rule;
use crate::statistics::signed_rank::{ERROR_RATE, fewest_blocks};

/// What moves a time about its true value, as a factor.
#[derive(Clone, Copy, Debug)]
enum Noise {
    /// 1 % to either side.
    Normal,
    /// Never below, and 2.8 % above on average.
    Skewed,
    /// 1 % to either side, and every tenth sample hit by a spike of 20 % on average.
    Spiked,
}

impl Noise {
    fn draw(self, random: &mut Pcg64Mcg) -> f64 {
        let mut uniform = || 1.0 - random.random::<f64>();
        let exponential = -uniform().ln();
        // Box and Muller, A Note on the Generation of Random Normal Deviates (1958).
        let normal = (-2.0 * uniform().ln()).sqrt() * (std::f64::consts::TAU * uniform()).cos();
        match self {
            Self::Normal => (0.01 * normal).exp(),
            Self::Skewed => 1.0 + 0.028 * exponential,
            Self::Spiked if uniform() < 0.1 => (0.01 * normal).exp() * (1.0 + 0.2 * exponential),
            Self::Spiked => (0.01 * normal).exp(),
        }
    }
}

const NAMES: [&str; 5] = ["base", "again", "first", "second", "third"];
const RESAMPLES: u32 = 100;

/// What many runs called the first of the others, which takes `share` of the baseline's time, and the
/// rest, which differ in nothing from it.
#[derive(Debug, Default)]
struct Calls {
    runs: u32,
    blocks: u32,
    /// Runs that called the first slower on a fresh heap.
    slower: u32,
    /// Runs with any verdict that is wrong.
    wrong: u32,
    /// Intervals, and those that held the truth.
    intervals: u32,
    holding: u32,
}

fn simulate(noise: Noise, others: usize, share: f64, runs: u32) -> Calls {
    let names = &NAMES[..2 + others];
    let comparisons = Heap::ALL.len() * others;
    let rule = Rule {
        blocks_min: fewest_blocks(comparisons, ERROR_RATE).max(10),
        blocks_max: 80,
        precision: Some(0.015),
        budget: None,
        comparisons,
    };
    let mut random = Pcg64Mcg::seed_from_u64(3);
    let mut calls = Calls::default();
    for seed in 0..runs {
        let samples = run(&rule, names, share, seed.into(), &mut || {
            noise.draw(&mut random)
        });
        let subjects: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let rows = summarise(
            &samples,
            &Frame {
                workloads: &[("w".to_owned(), 1)],
                subjects: &subjects,
                baseline: "base",
                harness: None,
                floors: &[],
                twin: Some("again"),
                resamples: RESAMPLES,
                seed: seed.into(),
            },
        );
        calls.note(&rows, share);
    }
    calls
}

/// The samples of one run.
fn run(
    rule: &Rule,
    names: &[&str],
    share: f64,
    seed: u64,
    noise: &mut dyn FnMut() -> f64,
) -> Vec<Sample> {
    let question = Question {
        rule,
        workload: "w",
        baseline: Some("base"),
        compared: &names[1..],
        twin: Some("again"),
        resamples: RESAMPLES,
        seed,
    };
    let mut samples = Vec::new();
    for block in 0.. {
        for name in names {
            let true_ns = if *name == "first" { 1e6 * share } else { 1e6 };
            let mut sample = Sample::untaken("w", name, Pass::Speed, block);
            let mut pass = || (true_ns * noise()) as u64;
            sample.speed = Some(SpeedSample {
                passes_ns: vec![pass(), pass(), pass()],
                ..SpeedSample::default()
            });
            samples.push(sample);
        }
        if let Some(reason) = decide(&question, &samples, block + 1, Duration::ZERO) {
            assert_ne!(reason, StopReason::Budget);
            break;
        }
    }
    samples
}

impl Calls {
    fn note(&mut self, rows: &[SummaryRow], share: f64) {
        self.runs += 1;
        self.blocks += rows[0].blocks;
        let mut is_wrong = false;
        for row in rows.iter().filter(|row| row.subject != "base") {
            let truth = if row.subject == "first" { share } else { 1.0 };
            for (ratio, verdict) in [
                (row.ratio_to_baseline, row.verdict),
                (row.ratio_to_baseline_used_heap, row.verdict_used_heap),
            ] {
                let ratio = ratio.expect("all ended well");
                self.intervals += 1;
                self.holding += u32::from(ratio.low <= truth && truth <= ratio.high);
                is_wrong |= match verdict {
                    Verdict::Slower => truth <= 1.0,
                    Verdict::Faster => truth >= 1.0,
                    Verdict::NotDistinguishable | Verdict::Unknown => false,
                };
            }
            self.slower += u32::from(row.subject == "first" && row.verdict == Verdict::Slower);
        }
        self.wrong += u32::from(is_wrong);
    }
}

#[test]
fn five_percent_are_called_slower_in_at_least_nine_of_ten_runs_whatever_the_noise() {
    for (noise, others) in [
        (Noise::Spiked, 1),
        (Noise::Spiked, 3),
        (Noise::Normal, 3),
        (Noise::Skewed, 1),
    ] {
        let calls = simulate(noise, others, 1.05, 60);
        // Without waiting for the test, 83 % with three others under spikes: 50 of 60.
        assert!(calls.slower >= 57, "{noise:?}, {others}: {calls:?}");
        assert!(
            20 * calls.wrong <= calls.runs,
            "{noise:?}, {others}: {calls:?}"
        );
        // The minimum does not do it, and no run goes on for ever.
        assert!(
            calls.blocks < 45 * calls.runs,
            "{noise:?}, {others}: {calls:?}"
        );
    }
}

#[test]
fn without_a_difference_at_most_one_run_in_twenty_claims_one_and_intervals_hold() {
    for noise in [Noise::Normal, Noise::Skewed, Noise::Spiked] {
        let calls = simulate(noise, 3, 1.0, 80);
        assert!(20 * calls.wrong <= calls.runs, "{noise:?}: {calls:?}");
        assert!(
            100 * calls.holding >= 93 * calls.intervals,
            "{noise:?}: {calls:?}"
        );
    }
}
