//! Totals by call site.

#![forbid(unsafe_code)]

use std::cmp::Reverse;

use rustc_hash::FxHashMap;
use serde::Serialize;

use crate::trace::profile::Step;

/// What a call site allocated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SiteTotals {
    /// Its number in the trace.
    pub site: u32,
    /// Its name, as the recording has it.
    pub name: String,
    /// Blocks allocated.
    pub allocations: u64,
    /// Bytes requested.
    pub requested_bytes: u64,
    /// Most bytes live at once.
    pub live_bytes_peak: u64,
    /// Bytes never freed.
    pub live_bytes_end: u64,
}

#[derive(Clone, Copy, Default)]
struct Totals {
    allocations: u64,
    requested_bytes: u64,
    live_bytes: u64,
    live_bytes_peak: u64,
}

/// Counts by call site.
#[derive(Default)]
pub(super) struct Sites {
    totals: FxHashMap<u32, Totals>,
}

impl Sites {
    #[inline]
    pub(super) fn add(&mut self, step: &Step) {
        // A reallocation's old bytes leave the site that allocated them.
        if let Some(old) = &step.ended
            && let Some(site) = self.totals.get_mut(&old.site.0)
        {
            site.live_bytes = site.live_bytes.saturating_sub(old.bytes);
        }
        if let Some(new) = &step.begun {
            let site = self.totals.entry(new.site.0).or_default();
            site.allocations += 1;
            site.requested_bytes = site.requested_bytes.saturating_add(new.bytes);
            site.live_bytes = site.live_bytes.saturating_add(new.bytes);
            site.live_bytes_peak = site.live_bytes_peak.max(site.live_bytes);
        }
    }

    /// Call sites that allocated.
    pub(super) fn total(&self) -> u64 {
        self.totals.len() as u64
    }

    /// The `most` with the most bytes and as many with the most allocations, by bytes.
    pub(super) fn largest(&self, names: &[String], most: usize) -> Vec<SiteTotals> {
        let mut by_bytes: Vec<u32> = self.totals.keys().copied().collect();
        let mut by_count = by_bytes.clone();
        by_bytes.sort_by_key(|&site| (Reverse(self.totals[&site].requested_bytes), site));
        by_count.sort_by_key(|&site| (Reverse(self.totals[&site].allocations), site));
        let frequent = &by_count[..by_count.len().min(most)];
        let listed = by_bytes
            .iter()
            .enumerate()
            .filter(|(place, site)| *place < most || frequent.contains(site));
        listed
            .map(|(_, &site)| {
                let totals = &self.totals[&site];
                SiteTotals {
                    site,
                    name: site_name(names, site),
                    allocations: totals.allocations,
                    requested_bytes: totals.requested_bytes,
                    live_bytes_peak: totals.live_bytes_peak,
                    live_bytes_end: totals.live_bytes,
                }
            })
            .collect()
    }
}

/// The name of a call site, or its number if it has none.
pub(crate) fn site_name(names: &[String], site: u32) -> String {
    match names.get(site as usize) {
        Some(name) if !name.is_empty() => name.clone(),
        _ => format!("site {site}"),
    }
}
