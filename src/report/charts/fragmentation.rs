//! Peak RSS over peak live bytes, split into what lies inside blocks and the rest.

#![forbid(unsafe_code)]

use super::axis::decimal_ticks;
use super::bars::{Bar, BarChart, Content, Part};
use super::canvas::Heading;
use super::palette::{self, NEUTRAL};
use super::{Chart, Drawn, NARROW, WIDE};
use crate::error::Result;
use crate::report::model::{Row, Workload};
use crate::report::{bounds, format};

pub(super) fn draw(workload: &Workload<'_>) -> Result<Chart> {
    let rows: Vec<(&Row<'_>, f64)> = workload
        .rows
        .iter()
        .filter(|row| row.is_candidate())
        .filter_map(|row| Some((row, row.fragmentation()?)))
        .filter(|(_, fragmentation)| fragmentation.is_finite() && *fragmentation >= 0.0)
        .collect();
    if rows.is_empty() {
        return Ok(Chart::Absent(
            "No fragmentation chart: no allocator's memory was measured.".to_owned(),
        ));
    }
    let high = rows
        .iter()
        .map(|&(_, fragmentation)| fragmentation)
        .fold(1.0, f64::max)
        * 1.02;
    let bars = workload
        .rows
        .iter()
        .filter(|row| !row.is_floor)
        .map(bar)
        .collect();
    let mut marks = vec![(1.0, bounds::LIVE_BOUND)];
    if let Some((pages, live)) = bounds::page_run_bytes(workload).zip(bounds::live_bytes(workload))
    {
        marks.push((pages as f64 / live as f64, bounds::PAGES_REFERENCE));
    }
    let high = marks.iter().map(|mark| mark.0 * 1.02).fold(high, f64::max);
    let chart = BarChart {
        heading: Heading {
            title: format!("Fragmentation on {}", workload.name),
            subtitle: "Peak RSS ÷ peak live bytes: shorter is better. Grey: live bytes. Full colour: lost inside \
                       blocks, by rounding sizes up. Pale: everything else (free blocks, page ends, headers, the rest of huge pages that the allocator asked for)."
                .to_owned(),
        },
        bars,
        high,
        ticks: decimal_ticks(high, 5),
        tick_label: format::axis_number,
        marks,
    };
    let marks_count = chart.marks.len();
    let words: Vec<String> = rows
        .iter()
        .map(|(row, fragmentation)| {
            format!("{} {}", row.name(), format::fragmentation(*fragmentation))
        })
        .collect();
    Ok(Chart::Drawn(Drawn {
        file: "fragmentation".to_owned(),
        label: format!(
            "Bar chart of fragmentation at the peak on {}: {}",
            workload.name,
            words.join("; ")
        ),
        caption: match marks_count {
            1 => String::new(),
            _ => format!("Page runs: {}.", bounds::PAGES_WORDS),
        },
        wide: chart.draw(WIDE)?,
        narrow: Some(chart.draw(NARROW)?),
    }))
}

fn bar(row: &Row<'_>) -> Bar {
    let content = match (row.failure(), row.fragmentation()) {
        (Some(failure), _) => Content::Reason(failure),
        (None, Some(total)) if total.is_finite() => {
            let ink = palette::series(row.color).0;
            let internal = row
                .summary
                .internal_fragmentation
                .filter(|internal| internal.is_finite());
            let mut parts = vec![Part {
                end: total.min(1.0),
                ink: NEUTRAL,
                is_pale: false,
            }];
            if let Some(internal) = internal {
                parts.push(Part {
                    end: internal.min(total),
                    ink,
                    is_pale: false,
                });
            }
            parts.push(Part {
                end: total,
                ink,
                is_pale: true,
            });
            let words = match internal {
                Some(internal) => format!(
                    "{} · {} inside blocks",
                    format::fragmentation(total),
                    format::ratio(internal)
                ),
                None => format::fragmentation(total),
            };
            Content::Value {
                parts,
                interval: None,
                words,
            }
        }
        (None, _) => Content::Reason(match row.summary.fragmentation_at_peak {
            Some(_) => "less than one page of memory: no quotient".to_owned(),
            None => row.memory_gap("its memory was not measured"),
        }),
    };
    Bar {
        name: row.name().to_owned(),
        content,
    }
}
