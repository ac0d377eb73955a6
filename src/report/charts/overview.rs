//! The ratio to the baseline for each workload and subject: one panel per subject with the
//! workloads as rows on a desk; on a telephone the panels stand below one another.

#![forbid(unsafe_code)]

use super::axis::{Scale, log_ticks};
use super::canvas::{Anchor, BOLD, Canvas, Heading, NORMAL, Picture, SMALL, shortened, text_width};
use super::{Chart, Drawn, NARROW, WIDE, palette};
use crate::error::Result;
use crate::report::model::{Report, Row, Workload, status_word};
use crate::report::{bounds, format};

const ROW: f64 = 24.0;
/// Ratios beyond these are drawn at the edge of the panel, with an arrow.
const EDGE: (f64, f64) = (1.0 / 4.0, 4.0);
const PANELS_PER_LINE: usize = 4;

pub(super) fn draw(report: &Report<'_>) -> Result<Chart> {
    let baseline = report.results.settings.baseline.as_str();
    let is_allocator = |name: &str| {
        report
            .workloads
            .iter()
            .flat_map(|workload| &workload.rows)
            .any(|row| row.name() == name && !row.is_floor)
    };
    let subjects: Vec<&str> = report
        .subject_names()
        .into_iter()
        .filter(|&name| name != baseline && is_allocator(name))
        .collect();
    let ratios: Vec<f64> = report
        .workloads
        .iter()
        .flat_map(|workload| &workload.rows)
        .filter(|row| row.is_candidate())
        .filter_map(|row| row.summary.ratio_to_baseline)
        .flat_map(|ratio| [ratio.low, ratio.median, ratio.high])
        .filter(|ratio| ratio.is_finite() && *ratio > 0.0)
        .collect();
    if report.workloads.len() < 2 || subjects.is_empty() || ratios.is_empty() {
        return Ok(Chart::Absent(
            "No chart over the workloads: there are no ratios to compare.".to_owned(),
        ));
    }
    let low = ratios.iter().copied().fold(0.8, f64::min).max(EDGE.0);
    let high = ratios.iter().copied().fold(1.25, f64::max).min(EDGE.1);
    let intervals = if report.workloads.iter().any(Workload::has_intervals) {
        "a 95 % interval that touches the grey band, the noise floor, is no difference"
    } else {
        "there were too few blocks for intervals"
    };
    let bounds = report.workloads.iter().filter_map(bounds::time_ratio);
    let has_bound = bounds.clone().any(|bound| bound >= low / 1.08);
    let bound = if has_bound {
        " Grey ticks: the lower bound, bump on a used heap."
    } else {
        ""
    };
    let heading = Heading {
        title: format!("Time relative to {baseline}, by workload"),
        subtitle: format!(
            "Dots left of the line at 1 took less time than {baseline}; {intervals}.{bound} Logarithmic scale."
        ),
    };
    let range = (low / 1.08, high * 1.08);
    Ok(Chart::Drawn(Drawn {
        file: "overview".to_owned(),
        label: format!(
            "Dot chart of the time ratio to {baseline} of {} on {} workloads; the table beside it has the numbers",
            format::list(&subjects),
            report.workloads.len()
        ),
        caption: match bounds.clone().next() {
            _ if has_bound => String::new(),
            Some(_) => "The lower bound, bump on a used heap, lies left of the scale; the table above has its ratios."
                .to_owned(),
            None => "No lower bound: bump was not measured on a used heap.".to_owned(),
        },
        wide: picture(report, &subjects, &heading, range, WIDE, PANELS_PER_LINE)?,
        narrow: Some(picture(report, &subjects, &heading, range, NARROW, 1)?),
    }))
}

fn picture(
    report: &Report<'_>,
    subjects: &[&str],
    heading: &Heading,
    range: (f64, f64),
    width: f64,
    per_line: usize,
) -> Result<Picture> {
    let per_line = per_line.min(subjects.len());
    let names = report
        .workloads
        .iter()
        .map(|workload| text_width(workload.name, SMALL) + 6.0)
        .fold(40.0, f64::max);
    let name_room = (names * 1.08).min(width * 0.3) + 14.0;
    let panel_width = (width - name_room) / per_line as f64;
    let panel_height = 26.0 + ROW * report.workloads.len() as f64 + 34.0;
    let top = heading.height(width) + 6.0;
    let height = top + panel_height * subjects.len().div_ceil(per_line) as f64;
    Canvas::draw(width, height, |canvas| {
        canvas.heading(heading, width);
        for (n, subject) in subjects.iter().enumerate() {
            let y = top + panel_height * (n / per_line) as f64;
            let x = name_room + panel_width * (n % per_line) as f64;
            if n.is_multiple_of(per_line) {
                for (row, workload) in report.workloads.iter().enumerate() {
                    let name = shortened(workload.name, SMALL, name_room - 14.0);
                    let middle = y + 26.0 + ROW * (row as f64 + 0.5);
                    canvas.text(
                        &name,
                        (name_room - 8.0, middle),
                        Anchor::Right,
                        SMALL,
                        palette::TEXT,
                    );
                }
            }
            let scale = Scale::log(range.0, range.1, x + 10.0, x + panel_width - 10.0);
            panel(canvas, report, subject, &scale, y);
        }
    })
}

fn panel(canvas: &mut Canvas<'_>, report: &Report<'_>, subject: &str, scale: &Scale, y: f64) {
    let top = y + 26.0;
    let bottom = top + ROW * report.workloads.len() as f64;
    let room = scale.end - scale.start;
    let title = shortened(subject, NORMAL * BOLD, room);
    canvas.bold_text(
        &title,
        (scale.start, y + 12.0),
        Anchor::Left,
        NORMAL,
        palette::TEXT,
    );
    for (row, _) in report
        .workloads
        .iter()
        .enumerate()
        .filter(|(row, _)| row % 2 == 0)
    {
        let from = top + ROW * row as f64;
        canvas.rectangle(
            (scale.start - 6.0, from),
            (scale.end + 6.0, from + ROW),
            palette::SHADE,
        );
    }
    let mut free_from = f64::MIN;
    for tick in log_ticks(scale.low, scale.high, 4) {
        let x = scale.at(tick);
        let label = format!("{}×", format::axis_number(tick));
        let half = text_width(&label, SMALL) / 2.0;
        canvas.line(&[(x, top), (x, bottom)], palette::GRID, 1.0);
        if x - half > free_from {
            canvas.text(
                &label,
                (x, bottom + 13.0),
                Anchor::Middle,
                SMALL,
                palette::MUTED,
            );
            free_from = x + half + 6.0;
        }
    }
    canvas.line(
        &[(scale.at(1.0), top), (scale.at(1.0), bottom)],
        palette::AXIS,
        1.5,
    );
    for (n, workload) in report.workloads.iter().enumerate() {
        let y = top + ROW * n as f64;
        if let Some(noise) = workload.noise() {
            let (from, to) = (scale.at(noise.low), scale.at(noise.high));
            canvas.pale_rectangle((from, y + 1.0), (to, y + ROW - 1.0), palette::NEUTRAL);
        }
        if let Some(bound) = bounds::time_ratio(workload).filter(|&bound| bound >= scale.low) {
            let x = scale.at(bound);
            canvas.line(&[(x, y + 5.0), (x, y + ROW - 5.0)], palette::NEUTRAL, 2.0);
        }
        if let Some(row) = workload.rows.iter().find(|row| row.name() == subject) {
            mark(canvas, row, scale, top + ROW * (n as f64 + 0.5), n % 2 == 0);
        }
    }
}

fn mark(canvas: &mut Canvas<'_>, row: &Row<'_>, scale: &Scale, y: f64, is_shaded: bool) {
    let ink = palette::series(row.color).0;
    match (row.is_ok(), row.summary.ratio_to_baseline) {
        (true, Some(ratio)) if ratio.median > scale.high || ratio.median < scale.low => {
            off_scale(canvas, row, scale, y, ratio.median);
        }
        (true, Some(ratio)) => {
            if row.has_intervals {
                canvas.line(
                    &[(scale.at(ratio.low), y), (scale.at(ratio.high), y)],
                    ink,
                    2.0,
                );
            }
            canvas.dot((scale.at(ratio.median), y), 4.0, ink);
        }
        (true, None) => {}
        (false, _) => {
            let word = shortened(
                status_word(row.summary.status),
                SMALL,
                scale.end - scale.start,
            );
            // The row's own ground, so that the line at 1 does not run through the word.
            let ground = if is_shaded {
                palette::SHADE
            } else {
                palette::BACKGROUND
            };
            let end = scale.start + text_width(&word, SMALL) + 4.0;
            canvas.rectangle((scale.start - 2.0, y - 9.0), (end, y + 9.0), ground);
            canvas.text(
                &word,
                (scale.start, y),
                Anchor::Left,
                SMALL,
                palette::FAILED,
            );
        }
    }
}

/// A ratio beyond the panel: an arrow at its edge, with the number.
fn off_scale(canvas: &mut Canvas<'_>, row: &Row<'_>, scale: &Scale, y: f64, ratio: f64) {
    let ink = palette::series(row.color).0;
    let label = format!("{}×", format::ratio(ratio));
    let (tip, back, anchor, text) = if ratio > scale.high {
        (scale.end, scale.end - 9.0, Anchor::Right, scale.end - 14.0)
    } else {
        (
            scale.start,
            scale.start + 9.0,
            Anchor::Left,
            scale.start + 14.0,
        )
    };
    canvas.area(&[(tip, y), (back, y - 5.0), (back, y + 5.0)], ink);
    canvas.text(&label, (text, y), anchor, SMALL, palette::TEXT);
}
