//! What the RSS of each allocator consisted of at its peak, as stacked bars.

#![forbid(unsafe_code)]

use super::axis::byte_ticks;
use super::bars::{Bar, BarChart, Content, Part};
use super::canvas::Heading;
use super::palette::{self, NEUTRAL};
use super::{Chart, Drawn, NARROW, WIDE};
use crate::error::Result;
use crate::measure::memory::allowed_difference_bytes;
use crate::measure::results::MemoryParts;
use crate::report::model::{Row, Workload};
use crate::report::{bounds, format};

/// Absent unless some allocator's memory was taken apart.
pub(super) fn draw(workload: &Workload<'_>) -> Result<Option<Chart>> {
    let rows: Vec<(&Row<'_>, MemoryParts)> = workload
        .rows
        .iter()
        .filter(|row| row.is_candidate())
        .filter_map(|row| Some((row, row.memory?.parts?)))
        .collect();
    if rows.is_empty() {
        return Ok(None);
    }
    let marks = bounds::of_memory(workload);
    let highest = rows.iter().map(|(_, parts)| parts.rss_bytes as f64);
    let high = highest
        .chain(marks.iter().map(|mark| mark.0))
        .fold(0.0, f64::max)
        * 1.02;
    let chart = BarChart {
        heading: Heading {
            title: format!("What memory consisted of on {}", workload.name),
            subtitle: "RSS at its peak between calls: shorter is better. Grey: live bytes. Full colour: internal, lost \
                       inside blocks by rounding sizes up. Pale: external, free memory and headers between blocks. \
                       Dark: metadata and pages never used: no block ever lay there."
                .to_owned(),
        },
        bars: workload
            .rows
            .iter()
            .filter(|row| !row.is_floor)
            .map(bar)
            .collect(),
        high,
        ticks: byte_ticks(high, 5),
        tick_label: format::axis_bytes,
        marks,
    };
    let words: Vec<String> = rows
        .iter()
        .map(|(row, parts)| format!("{}: {}", row.name(), words(parts)))
        .collect();
    Ok(Some(Chart::Drawn(Drawn {
        file: "memory-parts".to_owned(),
        label: format!(
            "Stacked bars of RSS at its peak on {}: {}",
            workload.name,
            words.join("; ")
        ),
        caption: caption(&rows),
        wide: chart.draw(WIDE)?,
        narrow: Some(chart.draw(NARROW)?),
    })))
}

fn caption(rows: &[(&Row<'_>, MemoryParts)]) -> String {
    let mut sentences = vec![format!("Page runs: {}.", bounds::PAGES_WORDS)];
    let apart: Vec<String> = rows
        .iter()
        .filter_map(|(row, parts)| Some((row, parts, row.memory?.rss_peak_between_calls_bytes)))
        .filter(|(_, parts, peak)| {
            parts.rss_bytes.abs_diff(*peak) > allowed_difference_bytes(*peak)
        })
        .map(|(row, _, peak)| format!("{} {}", row.name(), format::bytes(peak as f64)))
        .collect();
    if !apart.is_empty() {
        sentences.push(format!(
            "The parts are those of a second replay, whose peak was another; in the first it was: {}.",
            format::list(&apart)
        ));
    }
    sentences.join(" ")
}

fn words(parts: &MemoryParts) -> String {
    let bytes = |value: u64| format::bytes(value as f64);
    format!(
        "{}: {} live, {} internal, {} external, {} metadata and never used",
        bytes(parts.rss_bytes),
        bytes(parts.live_bytes),
        bytes(parts.internal_bytes),
        bytes(parts.external_bytes),
        bytes(parts.metadata_bytes)
    )
}

fn bar(row: &Row<'_>) -> Bar {
    let parts = row.memory.and_then(|memory| memory.parts);
    let content = match (row.failure(), parts) {
        (Some(failure), _) => Content::Reason(failure),
        (None, None) => Content::Reason(row.memory_gap("its memory was not taken apart")),
        (None, Some(parts)) => {
            let ink = palette::series(row.color).0;
            let mut end = 0.0;
            let mut part = |bytes: u64, ink, is_pale| {
                end += bytes as f64;
                Part { end, ink, is_pale }
            };
            Content::Value {
                parts: vec![
                    part(parts.live_bytes, NEUTRAL, false),
                    part(parts.internal_bytes, ink, false),
                    part(parts.external_bytes, ink, true),
                    part(parts.metadata_bytes, palette::TEXT, false),
                ],
                interval: None,
                words: format!(
                    "{} · {} over live",
                    format::bytes(parts.rss_bytes as f64),
                    format::bytes(parts.rss_bytes.saturating_sub(parts.live_bytes) as f64)
                ),
            }
        }
    };
    Bar {
        name: row.name().to_owned(),
        content,
    }
}
