//! The charts of a trace that was looked at for itself (`trace stat`), each in a wide and a narrow
//! form.

#![forbid(unsafe_code)]

mod curves;
mod heat;

use super::axis::byte_ticks;
use super::bars::{Bar, BarChart, Content, Part};
use super::canvas::Heading;
use super::{Chart, Drawn, HALF, NARROW, WIDE, palette, trace};
use crate::error::Result;
use crate::report::format;
use crate::trace::tools::stat::{ClassChurn, Statistics};

/// Classes in the chart of churn: those that turn over most.
const CLASSES_SHOWN: usize = 12;

/// The charts, in the order of the page.
pub(crate) struct StatisticsCharts {
    pub(crate) live: Chart,
    /// Absent of a trace of one thread.
    pub(crate) threads: Option<Chart>,
    pub(crate) sizes: Chart,
    pub(crate) lifetimes: Chart,
    pub(crate) heat: Chart,
    pub(crate) churn: Chart,
}

/// Draws the charts of a trace.
pub(crate) fn draw(name: &str, statistics: &Statistics) -> Result<StatisticsCharts> {
    let profile = &statistics.profile;
    Ok(StatisticsCharts {
        live: curves::live_bytes(name, profile)?,
        threads: (profile.threads > 1)
            .then(|| curves::threads(name, &statistics.threads_curve))
            .transpose()?,
        sizes: trace::sizes(name, profile, &[HALF, NARROW])?,
        lifetimes: trace::lifetimes(name, profile, &[HALF, NARROW])?,
        heat: heat::draw(name, &statistics.size_lifetimes)?,
        churn: churn(name, &statistics.classes)?,
    })
}

/// `64–80 B`: above the one, up to the other.
pub(crate) fn class_words(class: &ClassChurn) -> String {
    let low = format::axis_bytes(class.low_bytes.saturating_sub(1) as f64);
    let high = format::axis_bytes(class.high_bytes as f64);
    match (low.rsplit_once(' '), high.rsplit_once(' ')) {
        (Some((number, unit)), Some((_, same))) if unit == same => format!("{number}–{high}"),
        _ => format!("{low}–{high}"),
    }
}

fn churn(name: &str, classes: &[ClassChurn]) -> Result<Chart> {
    let mut largest: Vec<&ClassChurn> = classes.iter().collect();
    largest.sort_by_key(|class| std::cmp::Reverse(class.requested_bytes));
    let hidden = largest.len().saturating_sub(CLASSES_SHOWN);
    largest.truncate(CLASSES_SHOWN);
    largest.sort_by_key(|class| class.low_bytes);
    let high = largest
        .iter()
        .map(|class| class.requested_bytes as f64)
        .fold(0.0, f64::max)
        * 1.02;
    if high == 0.0 {
        return Ok(Chart::Absent("Churn: no bytes were asked for.".to_owned()));
    }
    let ink = palette::series(0).0;
    let bar = |class: &&ClassChurn| {
        let bytes = |value: u64| format::bytes(value as f64);
        let peak = class.live_bytes_peak as f64;
        let part = |end, ink| Part {
            end,
            ink,
            is_pale: false,
        };
        Bar {
            name: class_words(class),
            content: Content::Value {
                parts: vec![
                    part(peak, palette::NEUTRAL),
                    part(class.requested_bytes as f64, ink),
                ],
                interval: None,
                words: format!(
                    "{} · live at most {}",
                    bytes(class.requested_bytes),
                    bytes(class.live_bytes_peak)
                ),
            },
        }
    };
    let chart = BarChart {
        heading: Heading {
            title: "Churn by size class".to_owned(),
            subtitle: "Bytes asked for in each class over the whole trace; grey: the most that was live at once. A long \
                       bar with little grey is memory that is used again and again."
                .to_owned(),
        },
        bars: largest.iter().map(bar).collect(),
        high,
        ticks: byte_ticks(high, 5),
        tick_label: format::axis_bytes,
        marks: Vec::new(),
    };
    let caption = match hidden {
        0 => String::new(),
        1 => "One class with fewer bytes is not shown.".to_owned(),
        many => format!("{many} classes with fewer bytes are not shown."),
    };
    Ok(Chart::Drawn(Drawn {
        file: "churn".to_owned(),
        label: format!(
            "Bars of bytes asked for by size class in {name}, the {} largest",
            largest.len()
        ),
        caption,
        wide: chart.draw(WIDE)?,
        narrow: Some(chart.draw(NARROW)?),
    }))
}
