//! What replays on several threads show besides the time that is compared, which is CPU time at the
//! operations: wall time with a verdict of its own, and how much of it is the harness's.
//!
//! Why CPU time is compared: who waits for whom is the recording's, how long a hand-over takes is the
//! harness's and the scheduler's, and both are the same for all allocators. Only CPU time at the
//! operations is the allocator's alone; spinning for a lock inside it is in that. Sleeping for one is
//! not, and neither is what hangs on the number of processors: that shows in the wall time, so both
//! are told, and judged apart. The verdicts on wall time are corrected for their own number.

use super::super::noise;
use super::super::pairs::{of_run, ratios, ratios_by_run, wall_times};
use super::super::results::{Estimate, Sample, SpeedSample, SummaryRow, Verdict};
use super::{Frame, combined, estimate, has_failed, verdict};
use crate::statistics::median;
use crate::statistics::signed_rank::{ERROR_RATE, fewest_blocks, holm, ratios_differ_p};

/// Above this share of a wall time that `null` needs as well, the wall time is no measure of an
/// allocator.
const HARNESS_LIMIT: f64 = 0.5;

/// Adds the figures of one row; `own` are its samples in the first run, of which the amounts are.
pub(super) fn add(
    row: &mut SummaryRow,
    samples: &[Sample],
    own: &[&Sample],
    operations: u64,
    frame: &Frame<'_>,
) {
    let speeds: Vec<&SpeedSample> = own
        .iter()
        .filter_map(|sample| sample.speed.as_ref())
        .filter(|speed| !speed.cpu_ns.is_empty())
        .collect();
    if speeds.is_empty() {
        return;
    }
    let of_first = |value: fn(&SpeedSample) -> Option<f64>| {
        median(
            &speeds
                .iter()
                .filter_map(|speed| value(speed))
                .collect::<Vec<f64>>(),
        )
    };
    row.waiting_share = of_first(waiting_share);
    if speeds.iter().any(|speed| is_paced(speed)) {
        row.lateness_mean_ns = of_first(|speed| Some(*speed.lateness_mean_ns.first()? as f64));
    }
    let walls = wall_times(samples, &row.workload, &row.subject);
    let first = own.first().map_or(0, |sample| sample.run);
    let per_operation: Vec<f64> = of_run(&walls, first)
        .map(|(_, ns)| ns / operations.max(1) as f64)
        .collect();
    row.wall_ns_per_operation = estimate(&per_operation, frame);
    let ratio = |other: &str| {
        if has_failed(samples, &row.workload, other) {
            return None;
        }
        let others = wall_times(samples, &row.workload, other);
        combined(&ratios_by_run(&walls, &others), frame)
    };
    row.wall_harness_share = frame
        .harness
        .and_then(ratio)
        .map(|ratio| ratio.median.recip())
        .filter(|share| share.is_finite());
    row.wall_ratio_to_baseline = ratio(frame.baseline);
}

/// Of the time that the threads were alive in the first replay.
fn waiting_share(speed: &SpeedSample) -> Option<f64> {
    let (waiting_ns, alive_ns) = (*speed.waiting_ns.first()?, *speed.alive_ns.first()?);
    (alive_ns > 0).then(|| waiting_ns as f64 / alive_ns as f64)
}

fn is_paced(speed: &SpeedSample) -> bool {
    speed.pacing_ns.iter().any(|ns| *ns > 0)
}

/// Gives the verdicts on wall time.
pub(super) fn judge(rows: &mut [SummaryRow], samples: &[Sample], frame: &Frame<'_>) {
    let judged: Vec<(usize, Estimate, Vec<f64>)> = rows
        .iter()
        .enumerate()
        .filter(|(_, row)| is_judged(row, frame))
        .filter_map(|(index, row)| {
            let of = |subject: &str| wall_times(samples, &row.workload, subject);
            let ratio = row.wall_ratio_to_baseline?;
            Some((index, ratio, ratios(&of(&row.subject), &of(frame.baseline))))
        })
        .collect();
    let p_value = |(.., ratios): &(usize, Estimate, Vec<f64>)| ratios_differ_p(ratios);
    let p_values: Vec<f64> = judged.iter().map(p_value).collect();
    let differs = holm(&p_values, ERROR_RATE);
    let fewest = fewest_blocks(judged.len(), ERROR_RATE) as usize;
    for ((index, ratio, ratios), differs) in judged.into_iter().zip(differs) {
        let floor = noise::wall_floor(rows, frame.twin, &rows[index].workload);
        rows[index].wall_verdict = match floor {
            Some(floor) if ratios.len() >= fewest && ratio.low.is_finite() => {
                verdict(ratio, differs, floor)
            }
            _ => Verdict::Unknown,
        };
    }
}

fn is_judged(row: &SummaryRow, frame: &Frame<'_>) -> bool {
    let is_exempt = row.subject == frame.baseline
        || frame.twin == Some(row.subject.as_str())
        || frame.floors.contains(&row.subject);
    // In the order `paced` the wall time is the recording's.
    let is_measure = row.lateness_mean_ns.is_none()
        && row
            .wall_harness_share
            .is_none_or(|share| share <= HARNESS_LIMIT);
    !is_exempt && is_measure
}

#[cfg(test)]
mod tests {
    use super::super::super::results::Pass;
    use super::super::summarise;
    use super::*;

    /// Blocks of one replay each on several threads: wall and CPU time of each subject.
    fn samples(blocks: u32, times: &[(&str, f64, f64)], pacing_ns: u64) -> Vec<Sample> {
        let mut samples = Vec::new();
        for block in 0..blocks {
            // What the machine does to all of a block.
            let mood = 1.0 + f64::from(block % 7) / 10.0;
            for (subject, wall_ns, cpu_ns) in times {
                // The twin's wobble is the noise floor.
                let wobble = match *subject {
                    "again" => 1.0 + 0.01 * (f64::from(block % 5) - 2.0),
                    _ => 1.0,
                };
                let of = |ns: f64| vec![(ns * mood * wobble) as u64];
                samples.push(Sample {
                    operations: 100,
                    speed: Some(SpeedSample {
                        passes_ns: of(*wall_ns),
                        cpu_ns: of(*cpu_ns),
                        hand_over_cpu_ns: of(100.0),
                        process_cpu_ns: of(cpu_ns + 100.0),
                        waiting_ns: of(3.0 * wall_ns),
                        alive_ns: of(4.0 * wall_ns),
                        pacing_ns: vec![pacing_ns],
                        lateness_mean_ns: vec![pacing_ns / 10],
                        lateness_max_ns: vec![pacing_ns],
                        usage: Vec::new(),
                    }),
                    ..Sample::untaken("w", subject, Pass::Speed, block)
                });
            }
        }
        samples
    }

    fn rows(samples: &[Sample]) -> Vec<SummaryRow> {
        let subjects = ["base", "mine", "null", "again"].map(str::to_owned);
        summarise(
            samples,
            &Frame {
                workloads: &[("w".to_owned(), 100)],
                subjects: &subjects,
                baseline: "base",
                harness: Some("null"),
                floors: &["null".to_owned()],
                twin: Some("again"),
                resamples: 200,
                seed: 1,
            },
        )
    }

    fn mine(rows: &[SummaryRow]) -> &SummaryRow {
        rows.iter()
            .find(|row| row.subject == "mine")
            .expect("a row")
    }

    /// Null's wall time is this.
    fn times(null_wall_ns: f64) -> [(&'static str, f64, f64); 4] {
        [
            ("base", 1e6, 2e5),
            ("mine", 1.2e6, 1e5),
            ("again", 1e6, 2e5),
            ("null", null_wall_ns, 1e4),
        ]
    }

    #[test]
    fn cpu_time_is_compared_and_wall_time_told_beside() {
        let rows = rows(&samples(20, &times(3e5), 0));
        let mine = mine(&rows);
        assert_eq!(mine.ratio_to_baseline.expect("a ratio").median, 0.5);
        assert_eq!(mine.verdict, Verdict::Faster);
        let wall = mine.wall_ratio_to_baseline.expect("a ratio");
        assert!((wall.median - 1.2).abs() < 1e-3, "{wall:?}");
        assert_eq!(mine.wall_verdict, Verdict::Slower);
        assert!((mine.waiting_share.expect("they wait") - 0.75).abs() < 1e-3);
        assert!((mine.harness_share.expect("a floor") - 0.1).abs() < 1e-3);
        assert!((mine.wall_harness_share.expect("a floor") - 0.25).abs() < 1e-3);
        assert!(mine.wall_ns_per_operation.is_some());
        assert_eq!(mine.lateness_mean_ns, None);
    }

    #[test]
    fn wall_time_that_is_the_harness_s_gets_no_verdict() {
        let rows = rows(&samples(20, &times(9e5), 0));
        let mine = mine(&rows);
        assert_eq!(mine.wall_verdict, Verdict::Unknown);
        assert_eq!(mine.verdict, Verdict::Faster);
        assert!(mine.wall_harness_share.expect("a floor") > 0.5);
    }

    #[test]
    fn the_wall_time_of_the_recording_gets_no_verdict() {
        let rows = rows(&samples(20, &times(3e5), 5_000));
        let mine = mine(&rows);
        assert_eq!(mine.wall_verdict, Verdict::Unknown);
        assert_eq!(mine.lateness_mean_ns, Some(500.0));
    }

    #[test]
    fn a_difference_within_the_noise_of_wall_time_is_none() {
        let mut times = times(3e5);
        times[1].1 = 1.004e6;
        let rows = rows(&samples(20, &times, 0));
        assert_eq!(mine(&rows).wall_verdict, Verdict::NotDistinguishable);
    }

    #[test]
    fn one_thread_has_none_of_this() {
        let mut samples = samples(8, &times(3e5), 0);
        for sample in &mut samples {
            let speed = sample.speed.take().expect("set");
            sample.speed = Some(SpeedSample {
                passes_ns: speed.passes_ns,
                ..SpeedSample::default()
            });
        }
        let rows = rows(&samples);
        let mine = mine(&rows);
        assert_eq!(mine.waiting_share, None);
        assert_eq!(mine.wall_ratio_to_baseline, None);
        assert!((mine.ratio_to_baseline.expect("a ratio").median - 1.2).abs() < 1e-3);
    }
}
