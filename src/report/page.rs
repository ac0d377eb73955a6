//! The page: the model turned into strings, filled into the template. The template escapes every
//! string; only the charts, whose text the chart code escapes itself, go in as they are.

#![forbid(unsafe_code)]

mod details;
pub(super) mod frame;
mod latency;
mod overview;
mod results;
mod table;
pub(crate) mod trace;

use minijinja::value::Serde;
use minijinja::{Value, context};
use serde::Serialize;

use super::charts::{self, Chart, WorkloadCharts};
use super::facts::{self, Fact};
use super::format;
use super::model::{Report, Row, Workload};
use super::{sure, verdict};
use crate::error::Result;
use crate::measure::rank::{self, Ranking};
use crate::measure::results::{Order, Results, Status};
use latency::LatencyView;
use overview::Overview;
use results::{Ranked, RowView};
use table::Table;

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
    /// Memory over time, in parts, or fragmentation: those that there are.
    memory_charts: Vec<ChartView>,
    memory_table: Option<Table>,
    /// What must be known beside it.
    memory_notes: Vec<String>,
    tradeoff: ChartView,
    latency: Option<LatencyView>,
    /// Why there is none, where there is something to explain.
    latency_absent: Option<&'static str>,
    threads: Vec<Fact>,
    threads_table: Option<Table>,
    program: Vec<Fact>,
    program_table: Option<Table>,
    noise: String,
    stop: String,
    sure: Vec<Fact>,
    samples: Option<ChartView>,
    outliers: Option<Table>,
    trace: Vec<ChartView>,
    trace_facts: Vec<Fact>,
    events: Vec<facts::EventLine>,
    events_total: String,
    operations_total: String,
    trace_notes: Vec<String>,
    receipts: Vec<Fact>,
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
            results
                .first_run()
                .environment
                .transparent_huge_pages
                .as_deref(),
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
            files.push((drawn.file.clone(), drawn.standalone()));
        }
        let rankings = rankings(results);
        let front = charts::front(&report, &rankings[0])?;
        if let Some(Chart::Drawn(drawn)) = &front {
            files.push((drawn.file.clone(), drawn.standalone()));
        }
        Some(overview::overview(
            &report,
            &chart,
            &rankings,
            front.as_ref(),
        ))
    } else {
        None
    };
    let html = fill(results, &report, &workloads, overview)?;
    Ok(Rendered {
        html,
        charts: files,
    })
}

/// With and, if there are any, without this project's own.
fn rankings(results: &Results) -> Vec<Ranking> {
    let mut rankings = vec![rank::rank(results, false)];
    if rankings[0].rows.iter().any(|row| row.is_own) {
        rankings.push(rank::rank(results, true));
    }
    rankings
}

fn fill(
    results: &Results,
    report: &Report<'_>,
    workloads: &[WorkloadView],
    overview: Option<Overview>,
) -> Result<String> {
    let title = match report.workloads.as_slice() {
        [one] => format!("Allocators compared on {}", one.name),
        _ => format!(
            "Allocators compared on {} workloads",
            report.workloads.len()
        ),
    };
    let nothing_ok = !results.summary.iter().any(|row| row.status == Status::Ok);
    let own: Vec<&str> = report
        .subject_names()
        .into_iter()
        .filter(|name| rank::is_own(results, name))
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
        is_serial => results.settings.order == Some(Order::Serial),
        runs => Serde(facts::runs(results)),
        correction => sure::correction_words(report),
        subjects => Serde(facts::subjects(results)),
        warnings => Serde(&results.warnings),
        tool => format!("{} {}", results.first_run().tool.name, results.first_run().tool.version),
    };
    frame::fill(include_str!("template.html"), page)
}

fn workload_view(
    workload: &Workload<'_>,
    drawn: &WorkloadCharts,
    results: &Results,
) -> WorkloadView {
    let verdict = verdict::of(workload, results);
    let counts = workload
        .record
        .and_then(|record| Some(record.profile.as_ref()?.counts));
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
        rows: results::row_views(workload),
        ranking: results::ranking(workload, false),
        ranking_without_own: results::ranking(workload, true),
        has_own: workload.has_own(),
        headings: results::headings(workload),
        footnotes: results::footnotes(workload),
        throughput: chart_view(&drawn.throughput),
        memory_charts: drawn
            .memory
            .iter()
            .chain(&drawn.parts)
            .chain(&drawn.fragmentation)
            .map(chart_view)
            .collect(),
        memory_table: details::memory(workload),
        memory_notes: details::memory_notes(workload),
        tradeoff: chart_view(&drawn.tradeoff),
        latency: latency::latency(workload, &drawn.latency),
        latency_absent: super::latency::absent(workload, results),
        threads: super::threads::facts(workload),
        threads_table: details::threads(workload),
        program: workload.program().map_or(Vec::new(), facts::program),
        program_table: details::program(workload),
        noise: sure::noise_words(workload),
        stop: workload
            .stops
            .iter()
            .map(|(_, stop)| sure::stop_words(stop))
            .collect::<Vec<_>>()
            .join("; "),
        sure: sure::facts(workload),
        samples: drawn.samples.as_ref().map(chart_view),
        outliers: details::outliers(workload),
        trace: drawn.trace.iter().map(chart_view).collect(),
        trace_facts: workload.record.map_or(Vec::new(), facts::trace),
        events: counts.map_or(Vec::new(), |counts| facts::events(&counts)),
        events_total: counts.map_or(String::new(), |counts| format::count(counts.total())),
        operations_total: counts.map_or(String::new(), |counts| format::count(counts.operations())),
        trace_notes: workload.record.map_or(Vec::new(), facts::trace_notes),
        receipts: workload.rows.iter().map(receipt).collect(),
    }
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

/// Path, build and version of what served the calls.
fn receipt(row: &Row<'_>) -> Fact {
    let served: Vec<String> = row
        .served_by
        .iter()
        .map(|receipt| {
            let mut words = receipt.path.clone();
            if let Some(version) = &receipt.version {
                words.push_str(&format!(", version {version}"));
            }
            if let Some(build) = &receipt.build {
                words.push_str(&format!(", build {build}"));
            }
            words
        })
        .collect();
    let served = if served.is_empty() {
        "no receipt".to_owned()
    } else {
        served.join("; ")
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
