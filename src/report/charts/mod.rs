//! Charts, one file each, drawn with plotters' SVG backend in a wide and a narrow form. A chart
//! without data is a sentence that says so, never an empty frame.

#![forbid(unsafe_code)]

mod axis;
mod bars;
mod canvas;
mod fidelity;
mod fragmentation;
mod latency;
mod lines;
mod memory;
mod overview;
mod palette;
mod parts;
mod plane;
mod samples;
pub(crate) mod statistics;
mod throughput;
mod trace;
mod tradeoff;

use canvas::Picture;
pub(crate) use palette::dark_rules;

use super::model::{Report, Workload};
use crate::error::Result;
use crate::measure::fidelity::Policy;
use crate::measure::rank::Ranking;

/// Width of charts on a desk, in CSS pixels.
const WIDE: f64 = 960.0;
/// Width of charts on a telephone 390 pixels wide, without its margins.
const NARROW: f64 = 358.0;
/// Width of two charts that stand side by side.
const HALF: f64 = 466.0;
/// Width of the three charts that stand side by side.
const THIRD: f64 = 320.0;

/// One chart, or why there is none.
pub(crate) enum Chart {
    Drawn(Drawn),
    /// A sentence in its place.
    Absent(String),
}

/// A chart in its forms.
pub(crate) struct Drawn {
    /// Name of its file, without folder and ending.
    pub(crate) file: String,
    /// What it shows, for those who cannot see it.
    label: String,
    /// What it leaves out, if anything.
    pub(crate) caption: String,
    wide: Picture,
    /// Absent where one form serves both.
    narrow: Option<Picture>,
}

impl Drawn {
    /// Both forms for a page whose style sheet shows one of them.
    pub(crate) fn inline(&self) -> String {
        match &self.narrow {
            Some(narrow) => {
                format!(
                    "{}{}",
                    self.wide.inline(&self.label, "wide"),
                    narrow.inline(&self.label, "narrow")
                )
            }
            None => self.wide.inline(&self.label, "any"),
        }
    }

    /// The wide form as a file.
    pub(crate) fn standalone(&self) -> String {
        self.wide.standalone(&self.label)
    }
}

/// The charts of one workload.
pub(crate) struct WorkloadCharts {
    pub(crate) throughput: Chart,
    /// Over the trace; a real program has none.
    pub(crate) memory: Option<Chart>,
    /// Where memory was not taken apart; otherwise the parts say the same and more.
    pub(crate) fragmentation: Option<Chart>,
    pub(crate) parts: Option<Chart>,
    pub(crate) tradeoff: Chart,
    /// One for each kind of operation.
    pub(crate) latency: Vec<Chart>,
    pub(crate) samples: Option<Chart>,
    /// Sizes, lifetimes, live bytes.
    pub(crate) trace: Vec<Chart>,
}

impl WorkloadCharts {
    /// All of them, in the order of the page.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Chart> {
        [&self.throughput, &self.tradeoff]
            .into_iter()
            .chain(&self.memory)
            .chain(&self.parts)
            .chain(&self.fragmentation)
            .chain(&self.latency)
            .chain(&self.samples)
            .chain(&self.trace)
    }
}

/// Draws the charts of one workload.
/// `huge_pages` is the kernel's setting of transparent huge pages.
pub(crate) fn of_workload(
    workload: &Workload<'_>,
    huge_pages: Option<&str>,
) -> Result<WorkloadCharts> {
    let parts = parts::draw(workload)?;
    let is_trace = workload.program().is_none();
    let needs_fragmentation = parts.is_none() && is_trace;
    Ok(WorkloadCharts {
        throughput: throughput::draw(workload)?,
        memory: is_trace
            .then(|| memory::draw(workload, huge_pages))
            .transpose()?,
        fragmentation: needs_fragmentation
            .then(|| fragmentation::draw(workload))
            .transpose()?,
        parts,
        latency: latency::draw(workload)?,
        samples: samples::draw(workload)?,
        tradeoff: tradeoff::draw(workload)?,
        trace: match workload.record.and_then(|record| record.profile.as_ref()) {
            Some(profile) => trace::draw(workload.name, profile)?,
            None => Vec::new(),
        },
    })
}

/// Draws predicted against real time and peak RSS.
pub(crate) fn fidelity(policy: &Policy, baseline: &str) -> Result<[Chart; 2]> {
    fidelity::draw(policy, baseline)
}

/// Draws the chart over all workloads; it needs at least two.
pub(crate) fn overview(report: &Report<'_>) -> Result<Chart> {
    overview::draw(report)
}

/// Draws time against memory over all workloads; absent without two allocators that have both.
pub(crate) fn front(report: &Report<'_>, ranking: &Ranking) -> Result<Option<Chart>> {
    tradeoff::pareto(report, ranking)
}
