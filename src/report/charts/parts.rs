//! What the RSS of each allocator consisted of at its peak, as stacked bars.

#![forbid(unsafe_code)]

use super::axis::byte_ticks;
use super::bars::{Bar, BarChart, Content, Part};
use super::canvas::Heading;
use super::palette::{self, NEUTRAL};
use super::{Chart, Drawn, NARROW, WIDE};
use crate::error::Result;
use crate::measure::results::MemoryParts;
use crate::report::format;
use crate::report::model::{Row, Workload};

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
    let bound = rows
        .iter()
        .filter_map(|(row, _)| row.memory)
        .map(|memory| memory.live_page_bytes_peak)
        .find(|&bytes| bytes > 0);
    let highest = rows.iter().map(|(_, parts)| parts.rss_bytes).max();
    let high = highest.max(bound).unwrap_or(0) as f64 * 1.02;
    let chart = BarChart {
        heading: Heading {
            title: format!("What memory consisted of on {}", workload.name),
            subtitle: "RSS at its peak: shorter is better. Grey: live bytes. Full colour: internal, lost inside blocks \
                       by rounding sizes up. Pale: external, free memory between blocks. Dark: metadata, OS pages \
                       on which no block ever lay."
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
        mark: bound.map(|bytes| (bytes as f64, "lower bound: live bytes in OS pages")),
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
        caption: String::new(),
        wide: chart.draw(WIDE)?,
        narrow: Some(chart.draw(NARROW)?),
    })))
}

fn words(parts: &MemoryParts) -> String {
    let bytes = |value: u64| format::bytes(value as f64);
    format!(
        "{}: {} live, {} internal, {} external, {} metadata",
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
        (None, None) => Content::Reason("its memory was not taken apart".to_owned()),
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
