//! A first look at a trace, for tools that must know something of the whole before they begin.

#![forbid(unsafe_code)]

use std::path::Path;

use crate::error::Result;
use crate::trace::profile::{Profile, Profiler};
use crate::trace::stream::{Batch, Ending, EventSink};
use crate::trace::{ReadOptions, read_into};

/// What one pass over a trace tells.
#[derive(Clone, Debug)]
pub struct Survey {
    /// What it is like.
    pub profile: Profile,
    /// Where it came from.
    pub ending: Ending,
    /// Earliest and latest time stamp, if all events have one.
    pub times_ns: Option<(u64, u64)>,
    /// Whether it has call sites.
    pub has_sites: bool,
}

/// Reads a trace once, without keeping it.
///
/// # Errors
/// As [`read_into`].
pub fn survey(path: &Path, options: &ReadOptions) -> Result<Survey> {
    let mut surveyor = Surveyor {
        profiler: Profiler::new(),
        times_ns: None,
        stamps: 0,
        has_sites: false,
    };
    let ending = read_into(path, options, &mut surveyor)?;
    let events = surveyor.profiler.counts().total();
    Ok(Survey {
        times_ns: surveyor.times_ns.filter(|_| surveyor.stamps == events),
        has_sites: surveyor.has_sites,
        profile: surveyor.profiler.finish(),
        ending,
    })
}

struct Surveyor {
    profiler: Profiler,
    times_ns: Option<(u64, u64)>,
    stamps: u64,
    has_sites: bool,
}

impl EventSink for Surveyor {
    fn take(&mut self, batch: &Batch) -> Result<()> {
        self.stamps += batch.times_ns.len() as u64;
        for &time_ns in &batch.times_ns {
            let (first, last) = self.times_ns.get_or_insert((time_ns, time_ns));
            *first = time_ns.min(*first);
            *last = time_ns.max(*last);
        }
        self.has_sites |= !batch.sites.is_empty();
        self.profiler.take(batch)
    }
}
