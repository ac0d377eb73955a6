//! The page: the model turned into strings, filled into the template. The template escapes every
//! string; only the charts, whose text the chart code escapes itself, go in as they are.

#![forbid(unsafe_code)]

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Serde;
use minijinja::{AutoEscape, Environment as Templates, Value, context};
use serde::Serialize;

use super::charts::{self, Chart, WorkloadCharts};
use super::facts::{self, Fact};
use super::format;
use super::model::{Report, Row, Standing, Workload, reason_words, status_word};
use super::verdict;
use crate::error::{Error, Result};
use crate::measure::results::{Estimate, Results, Status};

/// A page and the charts that also become files.
pub(crate) struct Rendered {
    pub(crate) html: String,
    /// Name without ending, and the drawing.
    pub(crate) charts: Vec<(String, String)>,
}

/// A chart in the page: a drawing, or a sentence in its place.
#[derive(Serialize)]
struct ChartView {
    svg: Option<Value>,
    caption: String,
}

/// A cell of numbers: emphasised if it is the best of its column.
#[derive(Serialize, Default)]
struct Cell {
    text: String,
    detail: String,
    best: bool,
}

#[derive(Serialize)]
struct RowView {
    name: String,
    tags: Vec<&'static str>,
    ok: bool,
    status: &'static str,
    reason: String,
    standing: &'static str,
    cells: Vec<Cell>,
}

#[derive(Serialize)]
struct Ranked {
    place: usize,
    name: String,
    own: bool,
    ratio: String,
    memory: String,
}

#[derive(Serialize)]
struct WorkloadView {
    name: String,
    slug: String,
    description: String,
    bias: String,
    sentence: String,
    notes: Vec<String>,
    confidence: &'static str,
    rows: Vec<RowView>,
    ranking: Vec<Ranked>,
    ranking_without_own: Vec<Ranked>,
    has_own: bool,
    headings: Vec<&'static str>,
    footnotes: Vec<String>,
    throughput: ChartView,
    memory: ChartView,
    fragmentation: ChartView,
    tradeoff: ChartView,
    trace: Vec<ChartView>,
    trace_facts: Vec<Fact>,
    events: Vec<facts::EventLine>,
    events_total: String,
    operations_total: String,
    trace_notes: Vec<String>,
    receipts: Vec<Fact>,
}

#[derive(Serialize)]
struct OverviewCell {
    text: String,
    detail: String,
    class: &'static str,
}

#[derive(Serialize)]
struct OverviewRow {
    name: String,
    slug: String,
    cells: Vec<OverviewCell>,
}

#[derive(Serialize)]
struct Overview {
    subjects: Vec<String>,
    rows: Vec<OverviewRow>,
    tallies: Vec<Fact>,
    chart: ChartView,
}

const HARNESS_SHARE: &str = "Harness share";

/// Headings of the numeric columns, with the short explanation under the table's own words.
const HEADINGS: [&str; 8] = [
    "Time per operation",
    "Ratio to baseline",
    "Ratio, used heap",
    HARNESS_SHARE,
    "Peak RSS",
    "Fragmentation",
    "Inside blocks",
    "Retained",
];

/// Where "null" was not among the subjects, its column would be empty.
fn is_shown(heading: &str, workload: &Workload<'_>) -> bool {
    heading != HARNESS_SHARE || workload.has_harness_share()
}

/// Renders the page and its charts.
pub(crate) fn render(results: &Results) -> Result<Rendered> {
    let report = Report::of(results);
    let mut files = Vec::new();
    let is_single = report.workloads.len() == 1;
    let mut workloads = Vec::new();
    for workload in &report.workloads {
        let drawn = charts::of_workload(
            workload,
            results.environment.transparent_huge_pages.as_deref(),
        )?;
        let prefix = if is_single {
            String::new()
        } else {
            format!("{}-", workload.slug)
        };
        for chart in drawn.all() {
            if let Chart::Drawn(drawn) = chart {
                files.push((format!("{prefix}{}", drawn.file), drawn.standalone()));
            }
        }
        workloads.push(workload_view(workload, &drawn, results));
    }
    let overview = if report.workloads.len() > 1 {
        let chart = charts::overview(&report)?;
        if let Chart::Drawn(drawn) = &chart {
            files.push((drawn.file.to_owned(), drawn.standalone()));
        }
        Some(overview(&report, &chart))
    } else {
        None
    };
    let html = fill(results, &report, &workloads, overview)?;
    Ok(Rendered {
        html,
        charts: files,
    })
}

fn fill(
    results: &Results,
    report: &Report<'_>,
    workloads: &[WorkloadView],
    overview: Option<Overview>,
) -> Result<String> {
    let mut templates = Templates::new();
    templates.set_auto_escape_callback(|_| AutoEscape::Html);
    let failed = |error: minijinja::Error| {
        Error::Failed(format!("cannot fill the report's template: {error:#}"))
    };
    let syntax = SyntaxConfig::builder()
        .trim_blocks(true)
        .lstrip_blocks(true)
        .build()
        .map_err(failed)?;
    templates.set_syntax(syntax);
    templates
        .add_template("report", include_str!("template.html"))
        .map_err(failed)?;
    let title = match report.workloads.as_slice() {
        [one] => format!("Allocators compared on {}", one.name),
        _ => format!(
            "Allocators compared on {} workloads",
            report.workloads.len()
        ),
    };
    let nothing_ok = !results.summary.iter().any(|row| row.status == Status::Ok);
    let own: Vec<&str> = super::model::OWN_SUBJECTS
        .into_iter()
        .filter(|own| report.subject_names().contains(own))
        .collect();
    let page = context! {
        title,
        nothing_ok,
        own => format::list(&own),
        own_plural => own.len() > 1,
        workloads => Serde(workloads),
        overview => Serde(overview),
        baseline => results.settings.baseline.as_str(),
        subtitle => facts::subtitle(results),
        method => Serde(facts::method(results)),
        is_serial => results.settings.order == "serial",
        environment => Serde(facts::environment(&results.environment)),
        subjects => Serde(facts::subjects(results)),
        warnings => Serde(&results.warnings),
        command => results.command.iter().map(|word| format::shell_word(word)).collect::<Vec<_>>().join(" "),
        tool => format!("{} {}", results.tool.name, results.tool.version),
        style => Value::from_safe_string(include_str!("style.css").to_owned()),
        dark_rules => Value::from_safe_string(charts::dark_rules(".chart ")),
    };
    templates
        .get_template("report")
        .and_then(|template| template.render(page))
        .map_err(failed)
}

fn workload_view(
    workload: &Workload<'_>,
    drawn: &WorkloadCharts,
    results: &Results,
) -> WorkloadView {
    let verdict = verdict::of(workload, results);
    let counts = workload.record.map(|record| record.profile.counts);
    WorkloadView {
        name: workload.name.to_owned(),
        slug: workload.slug.clone(),
        description: workload
            .record
            .map_or(String::new(), |record| record.description.clone()),
        bias: workload
            .record
            .map_or(String::new(), |record| record.bias.clone()),
        sentence: glued(&verdict.sentence),
        notes: verdict.notes.iter().map(|note| glued(note)).collect(),
        confidence: verdict.confidence,
        rows: row_views(workload),
        ranking: ranking(workload, false),
        ranking_without_own: ranking(workload, true),
        has_own: workload.has_own(),
        headings: HEADINGS
            .into_iter()
            .filter(|heading| is_shown(heading, workload))
            .collect(),
        footnotes: footnotes(workload),
        throughput: chart_view(&drawn.throughput),
        memory: chart_view(&drawn.memory),
        fragmentation: chart_view(&drawn.fragmentation),
        tradeoff: chart_view(&drawn.tradeoff),
        trace: drawn.trace.iter().map(chart_view).collect(),
        trace_facts: workload.record.map_or(Vec::new(), facts::trace),
        events: counts.map_or(Vec::new(), |counts| facts::events(&counts)),
        events_total: counts.map_or(String::new(), |counts| format::count(counts.total())),
        operations_total: counts.map_or(String::new(), |counts| format::count(counts.operations())),
        trace_notes: workload.record.map_or(Vec::new(), facts::trace_notes),
        receipts: workload.rows.iter().map(receipt).collect(),
    }
}

/// What the table under it cannot say in its cells.
fn footnotes(workload: &Workload<'_>) -> Vec<String> {
    let mut notes = Vec::new();
    let finished = || workload.rows.iter().filter(|row| row.is_ok());
    if finished().next().is_some() && !workload.has_intervals() {
        let blocks = workload.blocks().unwrap_or(0);
        notes.push(format!(
            "Medians of {}.",
            super::words::too_few_words(blocks)
        ));
    }
    if finished().next().is_some() && !workload.has_harness_share() {
        notes.push(
            "No harness share: “null”, which tells what the harness itself costs, was not measured."
                .to_owned(),
        );
    }
    let has_all = |row: &Row<'_>| {
        row.summary
            .harness_share
            .is_some_and(|share| share >= 1.0 && share.is_finite())
    };
    if finished().filter(|row| row.name() != "null").any(has_all) {
        notes.push(
            "Harness share “all of it”: the row took no longer than “null” did, so its time tells nothing \
             about the allocator."
                .to_owned(),
        );
    }
    notes
}

/// Numbers that are not torn from their units at the end of a line.
fn glued(sentence: &str) -> String {
    let mut text = sentence.to_owned();
    for unit in ["%", "KiB", "MiB", "GiB", "B", "ns", "µs"] {
        for end in [" ", ",", ".", ")", ";", ":"] {
            text = text.replace(&format!(" {unit}{end}"), &format!("\u{a0}{unit}{end}"));
        }
    }
    text
}

fn receipt(row: &Row<'_>) -> Fact {
    let served = if row.served_by.is_empty() {
        "no receipt".to_owned()
    } else {
        row.served_by.join(", ")
    };
    Fact::new(row.name(), served)
}

fn chart_view(chart: &Chart) -> ChartView {
    match chart {
        Chart::Drawn(drawn) => ChartView {
            svg: Some(Value::from_safe_string(drawn.inline())),
            caption: drawn.caption.clone(),
        },
        Chart::Absent(sentence) => ChartView {
            svg: None,
            caption: sentence.clone(),
        },
    }
}

fn row_views(workload: &Workload<'_>) -> Vec<RowView> {
    let best = |value: fn(&Row<'_>) -> Option<f64>| -> Option<f64> {
        let rows = workload.rows.iter().filter(|row| row.is_candidate());
        let values: Vec<f64> = rows
            .filter_map(value)
            .filter(|value| value.is_finite())
            .collect();
        let least = values.iter().copied().fold(f64::INFINITY, f64::min);
        // One value alone, or the same everywhere, is not the best of anything.
        values.iter().any(|&value| value > least).then_some(least)
    };
    let bests: Vec<Option<f64>> = COLUMNS.iter().map(|column| best(column.value)).collect();
    let rows = workload.rows.iter().map(|row| {
        let columns = COLUMNS
            .iter()
            .zip(&bests)
            .zip(HEADINGS)
            .filter(|(_, heading)| is_shown(heading, workload));
        let cells = columns.map(|((column, &best), _)| {
            let mut cell = (column.cell)(row);
            cell.best = cell.text != format::ABSENT
                && column.has_best
                && !row.is_floor
                && best.is_some()
                && (column.value)(row) == best;
            cell
        });
        RowView {
            name: row.name().to_owned(),
            tags: tags(row),
            ok: row.is_ok(),
            status: status_word(row.summary.status),
            reason: row
                .summary
                .reason
                .as_deref()
                .map_or(String::new(), reason_words),
            standing: standing_word(row),
            cells: cells.collect(),
        }
    });
    rows.collect()
}

/// A numeric column: what it shows, and the value whose smallest is best.
struct Column {
    value: fn(&Row<'_>) -> Option<f64>,
    cell: fn(&Row<'_>) -> Cell,
    has_best: bool,
}

const COLUMNS: [Column; HEADINGS.len()] = [
    Column {
        value: |row| row.summary.ns_per_operation.map(|time| time.median),
        cell: |row| estimated(row, row.summary.ns_per_operation, format::time_ns),
        has_best: true,
    },
    Column {
        value: |row| row.summary.ratio_to_baseline.map(|ratio| ratio.median),
        cell: |row| {
            estimated(
                row,
                row.summary.ratio_to_baseline.filter(|_| !row.is_baseline),
                format::ratio,
            )
        },
        has_best: true,
    },
    Column {
        value: |row| {
            row.summary
                .ratio_to_baseline_used_heap
                .map(|ratio| ratio.median)
        },
        cell: |row| {
            estimated(
                row,
                row.summary
                    .ratio_to_baseline_used_heap
                    .filter(|_| !row.is_baseline),
                format::ratio,
            )
        },
        has_best: true,
    },
    Column {
        value: |row| row.summary.harness_share,
        cell: |row| plain(row.summary.harness_share, format::share),
        has_best: false,
    },
    Column {
        value: |row| row.summary.rss_peak_bytes.map(|bytes| bytes as f64),
        cell: |row| {
            let mut cell = written(row.rss_words(row.summary.rss_peak_bytes));
            if let Some(ratio) = row.rss_ratio().filter(|_| !row.is_baseline) {
                cell.detail = format!("{}× baseline", format::ratio(ratio));
            }
            cell
        },
        has_best: true,
    },
    Column {
        value: |row| row.fragmentation(),
        cell: |row| {
            let mut cell = plain(row.fragmentation(), format::fragmentation);
            let mean = row.summary.fragmentation_time_weighted;
            if let Some(mean) = mean.filter(|_| row.fragmentation().is_some()) {
                cell.detail = format!("{} on average", format::fragmentation(mean));
            }
            cell
        },
        has_best: true,
    },
    Column {
        value: |row| row.summary.internal_fragmentation,
        cell: |row| plain(row.summary.internal_fragmentation, format::ratio),
        has_best: true,
    },
    Column {
        value: |row| row.summary.rss_retained_bytes.map(|bytes| bytes as f64),
        cell: |row| written(row.rss_words(row.summary.rss_retained_bytes)),
        has_best: true,
    },
];

fn written(text: String) -> Cell {
    Cell {
        text,
        ..Cell::default()
    }
}

fn plain(value: Option<f64>, show: fn(f64) -> String) -> Cell {
    Cell {
        text: value.map_or(format::ABSENT.to_owned(), show),
        ..Cell::default()
    }
}

fn estimated(row: &Row<'_>, value: Option<Estimate>, show: fn(f64) -> String) -> Cell {
    match value {
        Some(value) => Cell {
            text: show(value.median),
            detail: if row.has_intervals {
                interval(&show(value.low), &show(value.high))
            } else {
                String::new()
            },
            best: false,
        },
        None => plain(None, show),
    }
}

/// Both ends, the unit once if it is the same: `16.2 to 16.6 ns`.
fn interval(low: &str, high: &str) -> String {
    match (low.split_once(' '), high.split_once(' ')) {
        (Some((number, unit)), Some((_, other))) if unit == other => format!("{number} to {high}"),
        _ => format!("{low} to {high}"),
    }
}

fn tags(row: &Row<'_>) -> Vec<&'static str> {
    let mut tags = Vec::new();
    if row.is_baseline {
        tags.push("baseline");
    }
    if row.is_floor {
        tags.push("floor");
    }
    if row.is_own {
        tags.push("ours");
    }
    tags
}

fn standing_word(row: &Row<'_>) -> &'static str {
    match row.standing() {
        _ if !row.is_ok() || row.is_baseline || row.is_floor => "",
        Standing::Faster => "faster",
        Standing::Slower => "slower",
        Standing::NotDistinguishable => "not distinguishable",
        Standing::Unknown => "",
    }
}

/// Places by median ratio; rows whose interval overlaps the one placed before share its place.
fn ranking(workload: &Workload<'_>, without_own: bool) -> Vec<Ranked> {
    let mut ranked: Vec<Ranked> = Vec::new();
    let mut leader: Option<Estimate> = None;
    for (index, row) in workload.ranking(without_own).into_iter().enumerate() {
        let estimate = row
            .summary
            .ratio_to_baseline
            .or(row.summary.ns_per_operation);
        let is_tied = row.has_intervals
            && matches!((&leader, &estimate), (Some(a), Some(b)) if super::model::overlap(a, b));
        let place = match ranked.last() {
            Some(last) if is_tied => last.place,
            _ => {
                leader = estimate;
                index + 1
            }
        };
        ranked.push(Ranked {
            place,
            name: row.name().to_owned(),
            own: row.is_own,
            ratio: match (
                row.is_baseline,
                row.summary.ratio_to_baseline,
                row.summary.ns_per_operation,
            ) {
                (true, ..) => "1".to_owned(),
                (_, Some(ratio), _) => format::ratio(ratio.median),
                (_, None, Some(time)) => format::time_ns(time.median),
                _ => format::ABSENT.to_owned(),
            },
            memory: row.rss_words(row.summary.rss_peak_bytes),
        });
    }
    ranked
}

fn overview(report: &Report<'_>, chart: &Chart) -> Overview {
    let subjects = report.subject_names();
    let rows = report.workloads.iter().map(|workload| OverviewRow {
        name: workload.name.to_owned(),
        slug: workload.slug.clone(),
        cells: subjects
            .iter()
            .map(|&subject| overview_cell(workload, subject))
            .collect(),
    });
    let tallies = subjects.iter().filter_map(|&subject| {
        Some(Fact::new(
            subject,
            verdict::tally(&report.workloads, subject)?,
        ))
    });
    Overview {
        rows: rows.collect(),
        tallies: tallies.collect(),
        subjects: subjects.iter().map(|&subject| subject.to_owned()).collect(),
        chart: chart_view(chart),
    }
}

fn overview_cell(workload: &Workload<'_>, subject: &str) -> OverviewCell {
    let Some(row) = workload.rows.iter().find(|row| row.name() == subject) else {
        return OverviewCell {
            text: format::ABSENT.to_owned(),
            detail: String::new(),
            class: "absent",
        };
    };
    if !row.is_ok() {
        let text = status_word(row.summary.status).to_owned();
        return OverviewCell {
            text,
            detail: String::new(),
            class: "failed",
        };
    }
    if row.is_baseline {
        let time = row
            .summary
            .ns_per_operation
            .map_or(String::new(), |time| format::time_ns(time.median));
        return OverviewCell {
            text: "1".to_owned(),
            detail: time,
            class: "baseline",
        };
    }
    let class = match row.standing() {
        _ if row.is_floor => "floor",
        Standing::Faster => "faster",
        Standing::Slower => "slower",
        _ => "same",
    };
    match row.summary.ratio_to_baseline {
        Some(ratio) => OverviewCell {
            text: format::ratio(ratio.median),
            detail: if row.has_intervals {
                interval(&format::ratio(ratio.low), &format::ratio(ratio.high))
            } else {
                String::new()
            },
            class,
        },
        None => OverviewCell {
            text: format::ABSENT.to_owned(),
            detail: String::new(),
            class: "absent",
        },
    }
}
