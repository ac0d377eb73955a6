//! `stat`: what a trace is like, beyond its [`Profile`]: reallocations, churn by size class, sizes
//! against lifetimes, threads, call sites. One pass; memory: an entry per live block, thread and call
//! site.

#![forbid(unsafe_code)]

mod churn;
mod reallocs;
mod sites;
mod threads;

use serde::Serialize;

pub use churn::ClassChurn;
pub use reallocs::{ChainBucket, GrowthBucket, Reallocs};
pub use sites::SiteTotals;
pub(crate) use sites::site_name;
pub use threads::{ThreadTotals, ThreadsPoint};

use crate::error::Result;
use crate::trace::profile::{CLASSES, Profile, Profiler, class_bounds, class_of};
use crate::trace::stream::{Batch, Ending, EventSink};
use crate::trace::{Event, Origin, SiteId};

/// Threads that are listed: those with the most events.
pub const THREADS_LISTED: usize = 100;

/// Call sites that are listed: so many by bytes, and as many by number of allocations.
pub const SITES_LISTED: usize = 50;

/// What a trace is like.
#[derive(Clone, Debug, Serialize)]
pub struct Statistics {
    /// Where it came from.
    pub origin: Origin,
    /// Counts, sizes, lifetimes, live bytes.
    pub profile: Profile,
    /// From the first event's time stamp to the last one's, if there are any.
    pub duration_ns: Option<u64>,
    /// Events stamped earlier than one before them: clocks of threads, or calls that overlapped.
    pub times_backwards: u64,
    /// Threads between their first and last event, at the points of the profile's curve.
    pub threads_curve: Vec<ThreadsPoint>,
    /// The threads with the most events, those first; at most [`THREADS_LISTED`].
    pub threads: Vec<ThreadTotals>,
    /// Reallocations.
    pub reallocs: Reallocs,
    /// By size class, ascending; those without a request left out.
    pub classes: Vec<ClassChurn>,
    /// Freed blocks by size and lifetime; cells without a block left out.
    pub size_lifetimes: Vec<SizeLifetime>,
    /// Number of call sites that allocate; 0 if the recording has none.
    pub sites_total: u64,
    /// The call sites with the most bytes and those with the most allocations, by bytes.
    pub sites: Vec<SiteTotals>,
}

/// Blocks of `size_low_bytes ..= size_high_bytes` that were freed after
/// `lifetime_low_events ..= lifetime_high_events` further events: powers of two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct SizeLifetime {
    /// Smallest size.
    pub size_low_bytes: u64,
    /// Largest size.
    pub size_high_bytes: u64,
    /// Shortest lifetime.
    pub lifetime_low_events: u64,
    /// Longest lifetime.
    pub lifetime_high_events: u64,
    /// Blocks.
    pub blocks: u64,
    /// Requested bytes of those.
    pub bytes: u64,
}

/// Measures a trace while it passes.
pub struct Statistician {
    profiler: Profiler,
    times_ns: Option<(u64, u64)>,
    times_backwards: u64,
    stamps: u64,
    threads: threads::Threads,
    reallocs: reallocs::Counter,
    churn: churn::Churn,
    sites: Option<sites::Sites>,
    /// Blocks and bytes by class of size, then of lifetime.
    cells: Vec<(u64, u64)>,
}

impl Default for Statistician {
    fn default() -> Self {
        Self {
            profiler: Profiler::new(),
            times_ns: None,
            times_backwards: 0,
            stamps: 0,
            threads: threads::Threads::default(),
            reallocs: reallocs::Counter::default(),
            churn: churn::Churn::default(),
            sites: None,
            cells: vec![(0, 0); CLASSES * CLASSES],
        }
    }
}

impl Statistician {
    fn step(&mut self, event: &Event, site: SiteId) {
        let step = self.profiler.step(event, site);
        self.threads.add(event, &step);
        if let Some(old) = &step.ended {
            let cell = class_of(old.bytes) * CLASSES + class_of(step.event - old.event);
            self.cells[cell].0 += 1;
            self.cells[cell].1 = self.cells[cell].1.saturating_add(old.bytes);
            self.churn.end(old.bytes);
        }
        if let Some(new) = &step.begun {
            self.churn.begin(new.bytes);
        }
        self.reallocs.add(event, &step);
        if let Some(sites) = &mut self.sites {
            sites.add(&step);
        }
    }

    fn stamp(&mut self, time_ns: u64) {
        self.stamps += 1;
        let (first, last) = self.times_ns.get_or_insert((time_ns, time_ns));
        *first = time_ns.min(*first);
        self.times_backwards += u64::from(time_ns < *last);
        *last = time_ns.max(*last);
    }

    /// What was measured, of a trace that ended so.
    pub fn finish(self, ending: Ending) -> Statistics {
        let events = self.profiler.counts().total();
        let spans = self.profiler.spans().to_vec();
        let timed = self.stamps == events;
        let sites_total = self.sites.as_ref().map_or(0, sites::Sites::total);
        let profile = self.profiler.finish();
        Statistics {
            duration_ns: self
                .times_ns
                .filter(|_| timed)
                .map(|(first, last)| last - first),
            times_backwards: self.times_backwards,
            threads_curve: threads::curve(&spans, &profile.live_curve),
            threads: self.threads.most_active(&spans, THREADS_LISTED),
            reallocs: self.reallocs.finish(),
            classes: self.churn.finish(),
            size_lifetimes: cells(&self.cells),
            sites_total,
            sites: self.sites.map_or(Vec::new(), |sites| {
                sites.largest(&ending.site_names, SITES_LISTED)
            }),
            origin: ending.origin,
            profile,
        }
    }
}

fn cells(cells: &[(u64, u64)]) -> Vec<SizeLifetime> {
    let used = cells.iter().enumerate().filter(|(_, cell)| cell.0 > 0);
    used.map(|(place, &(blocks, bytes))| {
        let (size_low_bytes, size_high_bytes) = class_bounds(place / CLASSES);
        let (lifetime_low_events, lifetime_high_events) = class_bounds(place % CLASSES);
        SizeLifetime {
            size_low_bytes,
            size_high_bytes,
            lifetime_low_events,
            lifetime_high_events,
            blocks,
            bytes,
        }
    })
    .collect()
}

impl EventSink for Statistician {
    fn take(&mut self, batch: &Batch) -> Result<()> {
        if !batch.sites.is_empty() {
            self.sites.get_or_insert_default();
        }
        for (at, event) in batch.events.iter().enumerate() {
            self.step(event, batch.sites.get(at).copied().unwrap_or_default());
        }
        for &time_ns in &batch.times_ns {
            self.stamp(time_ns);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
