//! Every figure against a naive computation.

use proptest::prelude::*;

use super::curve::CURVE_POINTS;
use super::*;
use crate::trace::testing;

/// Live blocks after the first `count` events: births and sizes.
fn live_after(trace: &Trace, count: usize) -> Vec<(BlockId, u64)> {
    let mut live: Vec<(BlockId, u64)> = Vec::new();
    for event in &trace.events()[..count] {
        live.retain(|&(block, _)| Some(block) != event.operation.releases());
        if let Some(block) = event.operation.allocates() {
            live.push((block, event.operation.requested_bytes()));
        }
    }
    live
}

fn bytes(live: &[(BlockId, u64)]) -> u64 {
    live.iter().map(|&(_, bytes)| bytes).sum()
}

proptest! {
    #[test]
    fn equals_the_naive_computation(trace in testing::traces(120)) {
        let profile = Profile::of(&trace);
        let mut streaming = Profiler::new();
        testing::feed(&trace, 7, &mut streaming);
        prop_assert_eq!(&profile, &streaming.finish());
        let events = trace.events();
        let curve: Vec<_> = (0..=events.len()).map(|n| live_after(&trace, n)).collect();
        prop_assert_eq!(profile.live_bytes_peak, curve.iter().map(|l| bytes(l)).max().unwrap());
        prop_assert_eq!(
            profile.live_blocks_peak,
            curve.iter().map(|l| l.len() as u64).max().unwrap()
        );
        prop_assert_eq!(profile.live_blocks_end, curve[events.len()].len() as u64);
        prop_assert_eq!(profile.live_bytes_end, bytes(&curve[events.len()]));
        for point in &profile.live_curve {
            let live = &curve[point.event as usize];
            prop_assert_eq!(point.live_bytes, bytes(live));
            prop_assert_eq!(point.live_blocks, live.len() as u64);
        }
        // Fewer events than points: every event has its point.
        let points: Vec<_> = profile.live_curve.iter().map(|p| p.event as usize).collect();
        prop_assert_eq!(points, (1..=events.len()).collect::<Vec<_>>());

        let sizes: Vec<u64> = events
            .iter()
            .filter(|e| e.operation.allocates().is_some())
            .map(|e| e.operation.requested_bytes())
            .collect();
        prop_assert_eq!(profile.requested_bytes, sizes.iter().sum::<u64>());
        prop_assert_eq!(profile.largest_bytes, sizes.iter().copied().max().unwrap_or(0));
        for bucket in &profile.sizes {
            let inside = |s: &&u64| (bucket.low_bytes..=bucket.high_bytes).contains(*s);
            prop_assert_eq!(bucket.count, sizes.iter().filter(inside).count() as u64);
        }
        prop_assert_eq!(profile.sizes.iter().map(|b| b.count).sum::<u64>(), sizes.len() as u64);

        let mut lifetimes = Vec::new();
        let mut cross = 0;
        for (end, event) in events.iter().enumerate() {
            let Some(block) = event.operation.releases() else { continue };
            let birth =
                events.iter().position(|e| e.operation.allocates() == Some(block)).unwrap();
            lifetimes.push((end - birth) as u64);
            cross += u64::from(events[birth].thread != event.thread);
        }
        prop_assert_eq!(profile.cross_thread_frees, cross);
        for bucket in &profile.lifetimes {
            let inside = |l: &&u64| (bucket.low_events..=bucket.high_events).contains(*l);
            prop_assert_eq!(bucket.count, lifetimes.iter().filter(inside).count() as u64);
        }

        let alive = (0..events.len()).map(|n| {
            (0..trace.thread_count())
                .filter(|&t| events[..=n].iter().any(|e| e.thread.0 == t))
                .filter(|&t| events[n..].iter().any(|e| e.thread.0 == t))
                .count()
        });
        prop_assert_eq!(profile.threads_alive_peak as usize, alive.max().unwrap_or(0));
    }
}

#[test]
fn the_curve_keeps_its_peak_and_its_end() {
    let trace = testing::sawtooth(5000, 1777);
    let profile = Profile::of(&trace);
    assert!(profile.live_curve.len() <= CURVE_POINTS);
    assert!(profile.live_curve.len() > CURVE_POINTS / 2);
    assert!(profile.live_curve.is_sorted_by(|a, b| a.event < b.event));
    let highest = profile
        .live_curve
        .iter()
        .map(|point| point.live_bytes)
        .max();
    assert_eq!(highest, Some(profile.live_bytes_peak));
    assert_eq!(
        profile.live_curve.last().unwrap().event,
        trace.events().len() as u64
    );
}

#[test]
fn a_curve_of_unknown_length_has_as_many_points_as_fit() {
    for events in [1, 509, 510, 511, 1021, 5000, 123_456] {
        let trace = testing::sawtooth(events, 77);
        let mut streaming = Profiler::new();
        testing::feed(&trace, 4096, &mut streaming);
        let (profile, whole) = (streaming.finish(), Profile::of(&trace));
        let points = profile.live_curve.len();
        assert!(points <= CURVE_POINTS, "{events}: {points}");
        assert!(
            points >= events.min(CURVE_POINTS / 2 - 1),
            "{events}: {points}"
        );
        assert!(profile.live_curve.is_sorted_by(|a, b| a.event < b.event));
        let peak = profile
            .live_curve
            .iter()
            .map(|point| point.live_bytes)
            .max();
        assert_eq!(peak, Some(profile.live_bytes_peak));
        assert_eq!(profile.live_bytes_peak, whole.live_bytes_peak);
        assert_eq!(
            profile.live_curve.last().map(|point| point.event),
            Some(events as u64)
        );
    }
}
