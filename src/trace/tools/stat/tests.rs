//! Statistics against their definitions, computed the slow way.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::trace::{BlockId, Operation, Trace, testing};

fn statistics(trace: &Trace) -> Statistics {
    let mut statistician = Statistician::default();
    testing::feed(trace, 13, &mut statistician);
    statistician.finish(Ending {
        origin: testing::origin(),
        site_names: trace.site_names().to_vec(),
    })
}

/// The event that allocated a block.
fn birth(trace: &Trace, block: BlockId) -> (usize, &Event) {
    let mut events = trace.events().iter().enumerate();
    let found = events.find(|(_, event)| event.operation.allocates() == Some(block));
    found.expect("a released block was allocated")
}

/// Reallocations that led to this block.
fn links(trace: &Trace, block: BlockId) -> u64 {
    match birth(trace, block).1.operation {
        Operation::Realloc { old: Some(old), .. } => 1 + links(trace, old),
        _ => 0,
    }
}

proptest! {
    #[test]
    fn classes_equal_their_definition(trace in testing::rich_traces(100)) {
        let found = statistics(&trace);
        prop_assert_eq!(&found.profile, &Profile::of(&trace));
        for class in &found.classes {
            let inside = |bytes: u64| (class.low_bytes..=class.high_bytes).contains(&bytes);
            let (mut live, mut expected) = ((0_u64, 0_u64), ClassChurn {
                low_bytes: class.low_bytes,
                high_bytes: class.high_bytes,
                ..ClassChurn::default()
            });
            for event in trace.events() {
                if let Some(block) = event.operation.releases() {
                    let bytes = birth(&trace, block).1.operation.requested_bytes();
                    if inside(bytes) {
                        expected.frees += 1;
                        live = (live.0 - 1, live.1 - bytes);
                    }
                }
                let bytes = event.operation.requested_bytes();
                if event.operation.allocates().is_some() && inside(bytes) {
                    expected.allocations += 1;
                    expected.requested_bytes += bytes;
                    live = (live.0 + 1, live.1 + bytes);
                }
                expected.live_blocks_peak = expected.live_blocks_peak.max(live.0);
                expected.live_bytes_peak = expected.live_bytes_peak.max(live.1);
            }
            expected.live_bytes_end = live.1;
            prop_assert_eq!(*class, expected);
        }
        let allocations: u64 = found.classes.iter().map(|class| class.allocations).sum();
        prop_assert_eq!(allocations, u64::from(trace.block_count()));
    }

    #[test]
    fn cells_hold_every_freed_block_once(trace in testing::rich_traces(100)) {
        let found = statistics(&trace);
        let mut freed = Vec::new();
        for (end, event) in trace.events().iter().enumerate() {
            if let Some(block) = event.operation.releases() {
                let (begin, birth) = birth(&trace, block);
                freed.push((birth.operation.requested_bytes(), (end - begin) as u64));
            }
        }
        for cell in &found.size_lifetimes {
            let inside: Vec<u64> = freed
                .iter()
                .filter(|(bytes, events)| {
                    (cell.size_low_bytes..=cell.size_high_bytes).contains(bytes)
                        && (cell.lifetime_low_events..=cell.lifetime_high_events).contains(events)
                })
                .map(|(bytes, _)| *bytes)
                .collect();
            prop_assert_eq!(cell.blocks, inside.len() as u64);
            prop_assert_eq!(cell.bytes, inside.iter().sum::<u64>());
        }
        let blocks: u64 = found.size_lifetimes.iter().map(|cell| cell.blocks).sum();
        prop_assert_eq!(blocks, freed.len() as u64);
    }

    #[test]
    fn reallocations_equal_their_definition(trace in testing::rich_traces(100)) {
        let found = statistics(&trace).reallocs;
        let mut ends: BTreeMap<u32, u64> = BTreeMap::new();
        let (mut of_blocks, mut of_null, mut copied) = (0, 0, 0);
        for event in trace.events() {
            match event.operation {
                Operation::Realloc { old: Some(old), block, size } => {
                    of_blocks += 1;
                    copied += size.min(birth(&trace, old).1.operation.requested_bytes());
                    ends.remove(&old.0);
                    ends.insert(block.0, links(&trace, block));
                }
                Operation::Realloc { old: None, .. } => of_null += 1,
                _ => {}
            }
        }
        prop_assert_eq!((found.of_blocks, found.of_null), (of_blocks, of_null));
        prop_assert_eq!(found.copied_bytes_most, copied);
        prop_assert_eq!(found.grown + found.shrunk + found.unchanged, of_blocks);
        prop_assert_eq!(found.growth.iter().map(|bucket| bucket.count).sum::<u64>(), of_blocks);
        prop_assert_eq!(found.chains, ends.len() as u64);
        prop_assert_eq!(found.chain_longest, ends.values().copied().max().unwrap_or(0));
        for bucket in &found.chain_lengths {
            let inside = ends.values().filter(|links| (bucket.low..=bucket.high).contains(*links));
            prop_assert_eq!(bucket.count, inside.count() as u64);
        }
    }

    #[test]
    fn threads_and_sites_equal_their_definition(trace in testing::rich_traces(100)) {
        let found = statistics(&trace);
        prop_assert_eq!(found.threads.len(), trace.thread_count() as usize);
        prop_assert!(found.threads.is_sorted_by(|a, b| a.events >= b.events));
        for thread in &found.threads {
            let own = trace.events().iter().enumerate();
            let own: Vec<_> = own.filter(|(_, event)| event.thread.0 == thread.thread).collect();
            prop_assert_eq!(thread.events, own.len() as u64);
            prop_assert_eq!(thread.first_event, own[0].0 as u64);
            prop_assert_eq!(thread.last_event, own[own.len() - 1].0 as u64);
            let bytes = own.iter().map(|(_, event)| event.operation.requested_bytes());
            prop_assert_eq!(thread.requested_bytes, bytes.sum::<u64>());
            let released = own.iter().filter_map(|(_, event)| event.operation.releases());
            let others = released.clone().filter(|&b| birth(&trace, b).1.thread.0 != thread.thread);
            prop_assert_eq!(thread.frees, released.count() as u64);
            prop_assert_eq!(thread.frees_of_others, others.count() as u64);
        }
        let given: u64 = found.threads.iter().map(|thread| thread.freed_by_others).sum();
        prop_assert_eq!(given, found.profile.cross_thread_frees);
        let most = found.threads_curve.iter().map(|point| point.threads).max();
        // Fewer events than points: the curve holds every event.
        prop_assert_eq!(most.unwrap_or(0), found.profile.threads_alive_peak);

        let Some(sites) = trace.sites() else {
            prop_assert_eq!((found.sites_total, found.sites.len()), (0, 0));
            return Ok(());
        };
        for site in &found.sites {
            let own: Vec<&Event> = trace
                .events()
                .iter()
                .zip(sites)
                .filter(|(event, at)| at.0 == site.site && event.operation.allocates().is_some())
                .map(|(event, _)| event)
                .collect();
            prop_assert_eq!(site.allocations, own.len() as u64);
            let bytes: u64 = own.iter().map(|event| event.operation.requested_bytes()).sum();
            prop_assert_eq!(site.requested_bytes, bytes);
            prop_assert_eq!(&site.name, &trace.site_names()[site.site as usize]);
        }
        prop_assert_eq!(found.sites.len() as u64, found.sites_total);
        let bytes: u64 = found.sites.iter().map(|site| site.live_bytes_end).sum();
        prop_assert_eq!(bytes, found.profile.live_bytes_end);
    }

    #[test]
    fn times_are_those_of_the_stamps(trace in testing::rich_traces(100)) {
        let found = statistics(&trace);
        let times = trace.times_ns();
        let expected = times.map(|times| times[times.len() - 1] - times[0]);
        prop_assert_eq!(found.duration_ns, expected);
        prop_assert_eq!(found.times_backwards, 0);
    }
}
