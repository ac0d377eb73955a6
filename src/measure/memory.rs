//! Figures of a memory curve. Pure.

#![forbid(unsafe_code)]

use super::results::MemoryPoint;

/// How far two ways of measuring so much memory may be apart: 1 %, or 64 KiB if that is more.
pub fn allowed_difference_bytes(bytes: u64) -> u64 {
    (bytes / 100).max(64 << 10)
}

/// Mean RSS in bytes, weighted by time: each point counts for the time until the next one. Of a curve
/// without any time, the first point's; 0 without any point.
pub fn mean_rss_bytes(curve: &[MemoryPoint]) -> u64 {
    let (mut sum, mut time) = (0u128, 0u128);
    for pair in curve.windows(2) {
        let weight = u128::from(pair[1].elapsed_ns.saturating_sub(pair[0].elapsed_ns));
        sum += u128::from(pair[0].rss_bytes) * weight;
        time += weight;
    }
    match sum.checked_div(time) {
        Some(mean) => u64::try_from(mean).unwrap_or(u64::MAX),
        None => curve.first().map_or(0, |point| point.rss_bytes),
    }
}

/// Classes of live bytes that are compared, from nothing to the peak. The lowest is left out: there,
/// what an allocator holds at the least outweighs the blocks.
const CLASSES: usize = 32;
/// Live bytes turn from rising to falling, or back, when they have gone back by this part of the peak.
const TURN_PART: u64 = 16;
/// Live bytes are steady in a class if they stay there for this part of the operations.
const STEADY_PART: f64 = 1.0 / 8.0;

/// One half of a replay at about the same live bytes, all rising or all falling.
#[derive(Clone, Copy, Debug, Default)]
struct Stay {
    operations: f64,
    rss: f64,
    live: f64,
    /// The first and the last stretch of rising or falling in which it was there.
    first_phase: usize,
    last_phase: usize,
}

impl Stay {
    fn rss_per_live_byte(&self) -> f64 {
        self.rss / self.live
    }

    fn add(&mut self, point: &MemoryPoint, operations: f64, phase: usize) {
        if operations <= 0.0 {
            return;
        }
        if self.operations == 0.0 {
            self.first_phase = phase;
        }
        self.last_phase = phase;
        self.operations += operations;
        self.rss += point.rss_bytes as f64 * operations;
        self.live += point.live_bytes as f64 * operations;
    }
}

/// How RSS at equal live bytes changed from the first half of the operations to the second.
///
/// Only like is compared with like: rising live bytes with rising ones, and falling ones with falling
/// ones, since an allocator that keeps memory after a peak holds more on the way down, which is
/// retention and no drift. A rise to where live bytes never were before is like no other, since the
/// heap is fresh. So one rise and one fall have no drift; live bytes that come back to where they
/// were in the same manner have one, and so have steady ones.
///
/// Live bytes are cut into 32 classes of equal width up to their peak. In each class that occurs in
/// both halves in one direction, RSS per live byte (both weighted by operations) of the second half is
/// divided by that of the first. The result is the geometric mean over classes and directions, each
/// weighted by the smaller of the two halves' operations in it. A class that occurs only once, across
/// the middle, counts if it takes an eighth of all operations: then live bytes were steady. `None` if
/// nothing is left to compare.
pub fn drift(curve: &[MemoryPoint]) -> Option<f64> {
    let (first, last) = (curve.first()?.operation, curve.last()?.operation);
    let middle = first + (last - first) / 2;
    let peak = curve.iter().map(|point| point.live_bytes).max()?;
    // By half, manner and class: rising, falling, or for the first time.
    let mut stays = [[[Stay::default(); CLASSES]; 3]; 2];
    let mut reached = [None; CLASSES];
    for (pair, phase) in curve.windows(2).zip(phases(curve, peak / TURN_PART)) {
        let point = &pair[0];
        let (from, to) = (point.operation, pair[1].operation);
        let class = u128::from(point.live_bytes) * CLASSES as u128 / (u128::from(peak) + 1);
        let class = class as usize;
        let is_first = *reached[class].get_or_insert(phase) == phase;
        let manner = if is_first { 2 } else { phase % 2 };
        // A stretch across the middle counts in both halves.
        for (half, start, end) in [(0, from, to.min(middle)), (1, from.max(middle), to)] {
            let operations = end.saturating_sub(start) as f64;
            stays[half][manner][class].add(point, operations, phase);
        }
    }
    let (mut logarithms, mut weights) = (0.0, 0.0);
    let [early, late] = &stays;
    for (early, late) in early.iter().zip(late) {
        for (early, late) in early.iter().zip(late).skip(1) {
            let all = early.operations + late.operations;
            let is_steady = all >= (last - first) as f64 * STEADY_PART;
            if early.first_phase == late.last_phase && !is_steady {
                continue;
            }
            let weight = early.operations.min(late.operations);
            let ratio = late.rss_per_live_byte() / early.rss_per_live_byte();
            if weight > 0.0 && ratio.is_finite() && ratio > 0.0 {
                logarithms += weight * ratio.ln();
                weights += weight;
            }
        }
    }
    (weights > 0.0).then(|| (logarithms / weights).exp())
}

/// For each point, in the how-manieth stretch of rising (even) or falling (odd) live bytes it stands.
/// A stretch ends at its highest or lowest point once live bytes have gone back from it by more than
/// `turn`.
fn phases(curve: &[MemoryPoint], turn: u64) -> Vec<usize> {
    let mut phases = vec![0; curve.len()];
    let (mut phase, mut extreme) = (0, 0);
    for (now, point) in curve.iter().enumerate() {
        let (live, end) = (point.live_bytes, curve[extreme].live_bytes);
        let (goes_on, back) = match phase % 2 {
            0 => (live >= end, end.saturating_sub(live)),
            _ => (live <= end, live.saturating_sub(end)),
        };
        if goes_on {
            extreme = now;
        } else if back > turn {
            phase += 1;
            // What came after the extreme was the beginning of this one.
            phases[extreme + 1..now].fill(phase);
            extreme = now;
        }
        phases[now] = phase;
    }
    phases
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn point(operation: u64, live_bytes: u64, rss_bytes: u64) -> MemoryPoint {
        MemoryPoint {
            operation,
            elapsed_ns: operation,
            live_bytes,
            usable_bytes: live_bytes,
            rss_bytes,
        }
    }

    #[test]
    fn each_point_counts_until_the_next() {
        let at = |operation, elapsed_ns, rss_bytes| MemoryPoint {
            elapsed_ns,
            ..point(operation, 0, rss_bytes)
        };
        // Ten operations in most of the time: time weighs, not operations.
        let curve = [at(0, 0, 100), at(10, 90, 400), at(1000, 100, 9999)];
        assert_eq!(mean_rss_bytes(&curve), 130);
        assert_eq!(mean_rss_bytes(&curve[..1]), 100);
        assert_eq!(mean_rss_bytes(&[]), 0);
    }

    #[test]
    fn drift_compares_equal_live_bytes() {
        // Up and down twice; the second time RSS is half as much again.
        let wave = |operation: u64| {
            let step = operation % 200;
            1000 + 10 * if step < 100 { step } else { 200 - step }
        };
        let curve: Vec<MemoryPoint> = (0..=400)
            .map(|operation| {
                let live = wave(operation);
                let rss = if operation < 200 { live * 2 } else { live * 3 };
                point(operation, live, rss)
            })
            .collect();
        let drift = drift(&curve).expect("the same live bytes occur twice");
        assert!((drift - 1.5).abs() < 1e-9, "{drift}");
    }

    /// Points one operation apart.
    fn curve_of(moments: impl IntoIterator<Item = (u64, u64)>) -> Vec<MemoryPoint> {
        let numbered = moments.into_iter().zip(0..);
        numbered
            .map(|((live, rss), operation)| point(operation, live, rss))
            .collect()
    }

    #[test]
    fn what_is_kept_after_a_peak_is_no_drift() {
        // Up and down once, with a ripple; all is kept at the end of the rise.
        let ripple = |n: u64| 7919 * n % 300;
        let up = (0..1000).map(|n| 1000 + n * 100 + ripple(n));
        let down = (0..1000).rev().map(|n| 1000 + n * 100 + ripple(n));
        let keeping = |lives: &mut dyn Iterator<Item = u64>| {
            let mut rss = 0;
            curve_of(lives.map(|live| {
                rss = rss.max(live);
                (live, rss)
            }))
        };
        let hump = keeping(&mut up.clone().chain(down.clone()));
        assert_eq!(drift(&hump), None);
        // The peak away from the middle: the middle lies within the fall.
        let slow = (0..3000).rev().map(|n| 1000 + n * 33 + ripple(n));
        assert_eq!(drift(&keeping(&mut up.clone().chain(slow))), None);
        // A second time just the same: no drift either.
        let twice = up.clone().chain(down.clone()).chain(up).chain(down);
        let same = drift(&keeping(&mut twice.into_iter())).expect("it comes back");
        assert!((same - 1.0).abs() < 0.01, "{same}");
    }

    #[test]
    fn steady_live_bytes_have_a_drift() {
        let rise = (0..100).map(|n| (n * 1000, n * 1000));
        // RSS grows from one to two times the live bytes.
        let steady = (0..1000u64).map(|n| (99_000 - n % 3, 99_000 + n * 99));
        let found = drift(&curve_of(rise.chain(steady))).expect("it stays");
        assert!(found > 1.3 && found < 1.5, "{found}");
    }

    #[test]
    fn there_is_no_drift_without_equal_live_bytes() {
        let apart: Vec<MemoryPoint> = (0..=100)
            .map(|operation| {
                let live = if operation < 50 { 50_000 } else { 100_000 } + operation * 100;
                point(operation, live, live * 2)
            })
            .collect();
        assert_eq!(drift(&apart), None);
        assert_eq!(drift(&[]), None);
        assert_eq!(drift(&[point(0, 0, 0)]), None);
    }

    proptest! {
        #[test]
        fn drift_and_mean_lie_between_the_extremes(
            steps in prop::collection::vec((1u64..50, 0u64..1 << 40, 100u64..300), 2..200),
        ) {
            let mut operation = 0;
            let curve: Vec<MemoryPoint> = steps
                .iter()
                .map(|(stretch, live, percent)| {
                    operation += stretch;
                    point(operation, *live, live / 100 * percent)
                })
                .collect();
            let rss = || curve.iter().map(|point| point.rss_bytes);
            let mean = mean_rss_bytes(&curve);
            prop_assert!(rss().min().expect("points") <= mean);
            prop_assert!(mean <= rss().max().expect("points"));
            if let Some(drift) = drift(&curve) {
                // RSS per live byte is between 1 and 3 at every point.
                prop_assert!(drift > 0.33 && drift < 3.01, "{}", drift);
            }
        }

        #[test]
        fn a_scaled_second_half_drifts_by_the_scale(
            lives in prop::collection::vec(1u64 << 20..1 << 30, 2..100),
            scale in 1u64..8,
        ) {
            let count = lives.len() as u64;
            let curve: Vec<MemoryPoint> = lives
                .iter()
                .chain(&lives)
                .zip(0..)
                .map(|(live, operation)| {
                    let factor = if operation < count { 1 } else { scale };
                    point(operation, *live, live * factor)
                })
                .chain([point(2 * count, 0, 0)])
                .collect();
            let drift = drift(&curve);
            let expected = scale as f64;
            prop_assert!(
                drift.is_none_or(|drift| (drift / expected - 1.0).abs() < 1e-6),
                "{:?} instead of {}", drift, expected
            );
        }
    }
}
