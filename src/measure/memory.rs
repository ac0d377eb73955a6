//! Figures of a memory curve. Pure.

#![forbid(unsafe_code)]

use super::results::MemoryPoint;

/// Mean RSS in bytes, weighted by operations: each point counts for the operations until the next
/// one. Of a curve with one point, that point's; 0 without any.
pub fn mean_rss_bytes(curve: &[MemoryPoint]) -> u64 {
    let (mut sum, mut operations) = (0u128, 0u128);
    for pair in curve.windows(2) {
        let weight = u128::from(pair[1].operation.saturating_sub(pair[0].operation));
        sum += u128::from(pair[0].rss_bytes) * weight;
        operations += weight;
    }
    match sum.checked_div(operations) {
        Some(mean) => u64::try_from(mean).unwrap_or(u64::MAX),
        None => curve.first().map_or(0, |point| point.rss_bytes),
    }
}

/// Classes of live bytes that are compared, from nothing to the peak. The lowest is left out: there,
/// what an allocator holds at the least outweighs the blocks.
const CLASSES: usize = 32;

/// One half of a replay at about the same live bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Stay {
    operations: f64,
    rss: f64,
    live: f64,
}

impl Stay {
    fn rss_per_live_byte(&self) -> f64 {
        self.rss / self.live
    }
}

/// How RSS at equal live bytes changed from the first half of the operations to the second.
///
/// Live bytes are cut into 32 classes of equal width up to their peak. In each class that occurs in
/// both halves, RSS per live byte (both weighted by operations) of the second half is divided by that
/// of the first. The result is the geometric mean over the classes, each weighted by the smaller of
/// the two halves' operations in it. `None` if no class but the lowest occurs in both.
pub fn drift(curve: &[MemoryPoint]) -> Option<f64> {
    let (first, last) = (curve.first()?.operation, curve.last()?.operation);
    let middle = first + (last - first) / 2;
    let peak = curve.iter().map(|point| point.live_bytes).max()?;
    let mut halves = [[Stay::default(); CLASSES]; 2];
    for pair in curve.windows(2) {
        let (from, to) = (pair[0].operation, pair[1].operation);
        let class =
            (pair[0].live_bytes as u128 * CLASSES as u128 / (u128::from(peak) + 1)) as usize;
        // A stretch across the middle counts in both halves.
        for (half, start, end) in [(0, from, to.min(middle)), (1, from.max(middle), to)] {
            let operations = end.saturating_sub(start) as f64;
            let stay = &mut halves[half][class];
            stay.operations += operations;
            stay.rss += pair[0].rss_bytes as f64 * operations;
            stay.live += pair[0].live_bytes as f64 * operations;
        }
    }
    let (mut logarithms, mut weights) = (0.0, 0.0);
    for (early, late) in halves[0].iter().zip(&halves[1]).skip(1) {
        let weight = early.operations.min(late.operations);
        let ratio = late.rss_per_live_byte() / early.rss_per_live_byte();
        if weight > 0.0 && ratio.is_finite() && ratio > 0.0 {
            logarithms += weight * ratio.ln();
            weights += weight;
        }
    }
    (weights > 0.0).then(|| (logarithms / weights).exp())
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
        let curve = [point(0, 0, 100), point(90, 0, 400), point(100, 0, 9999)];
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
