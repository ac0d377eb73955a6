//! The page of `trace stat`: one trace in charts, tables and sentences, without any measurement.

#![forbid(unsafe_code)]

use minijinja::context;
use minijinja::value::Serde;
use serde::Serialize;

use super::table::{Table, TableRow, written};
use super::{ChartView, chart_view, frame, glued};
use crate::error::Result;
use crate::report::charts::statistics;
use crate::report::facts::{self, EventLine, Fact};
use crate::report::format;
use crate::report::trace::words;
use crate::trace::tools::stat::Statistics;

/// Threads and call sites in the page's tables.
const ROWS_MAX: usize = 30;

#[derive(Serialize)]
struct View {
    subtitle: String,
    sentence: String,
    remarks: Vec<String>,
    warnings: Vec<String>,
    live: ChartView,
    threads_chart: Option<ChartView>,
    sizes: ChartView,
    lifetimes: ChartView,
    heat: ChartView,
    churn: ChartView,
    classes: Option<Table>,
    reallocs: Vec<Fact>,
    growth: Table,
    chains: Table,
    threads: Table,
    threads_note: Option<String>,
    sites: Option<Table>,
    sites_note: String,
    facts: Vec<Fact>,
    notes: Vec<String>,
    recording: Vec<Fact>,
    events: Vec<EventLine>,
}

/// Renders the page.
pub(crate) fn render(statistics: &Statistics, tool: &str) -> Result<String> {
    let name = words::short_name(statistics);
    let charts = statistics::draw(&name, statistics)?;
    let profile = &statistics.profile;
    let origin = &statistics.origin;
    let view = View {
        subtitle: words::subtitle(statistics),
        sentence: glued(&words::sentence(statistics)),
        remarks: words::remarks(statistics)
            .iter()
            .map(|r| glued(r))
            .collect(),
        warnings: origin.warnings.clone(),
        live: chart_view(&charts.live),
        threads_chart: charts.threads.as_ref().map(chart_view),
        sizes: chart_view(&charts.sizes),
        lifetimes: chart_view(&charts.lifetimes),
        heat: chart_view(&charts.heat),
        churn: chart_view(&charts.churn),
        classes: (!statistics.classes.is_empty()).then(|| classes(statistics)),
        reallocs: match profile.counts.realloc {
            0 => Vec::new(),
            _ => words::reallocs(statistics),
        },
        growth: growth(statistics),
        chains: chains(statistics),
        threads: threads(statistics),
        threads_note: words::not_listed(profile.threads.into(), ROWS_MAX, "thread", "threads"),
        sites: (!statistics.sites.is_empty()).then(|| sites(statistics)),
        sites_note: words::not_listed(statistics.sites_total, ROWS_MAX, "call site", "call sites")
            .unwrap_or_default(),
        facts: facts::trace_of(origin, profile),
        notes: facts::origin_notes(origin),
        recording: words::recording(origin),
        events: facts::events(&profile.counts),
    };
    let page = context! {
        title => format!("What {name} is like"),
        subtitle => view.subtitle.as_str(),
        view => Serde(&view),
        tool,
    };
    frame::fill(include_str!("trace.html"), page)
}

fn bytes(value: u64) -> String {
    format::bytes(value as f64)
}

fn row(name: impl Into<String>, cells: Vec<String>) -> TableRow {
    TableRow {
        name: name.into(),
        cells: cells.into_iter().map(written).collect(),
    }
}

fn table(title: &str, corner: &'static str, headings: &[&str], rows: Vec<TableRow>) -> Table {
    Table {
        title: title.to_owned(),
        corner,
        headings: headings
            .iter()
            .map(|heading| (*heading).to_owned())
            .collect(),
        rows,
    }
}

fn classes(statistics: &Statistics) -> Table {
    let rows = statistics.classes.iter().map(|class| {
        row(
            statistics::class_words(class),
            vec![
                format::count(class.allocations),
                format::count(class.frees),
                bytes(class.requested_bytes),
                format::count(class.live_blocks_peak),
                bytes(class.live_bytes_peak),
            ],
        )
    });
    table(
        "Size classes",
        "Size",
        &[
            "Allocations",
            "Frees",
            "Turned over",
            "Live blocks, most",
            "Live bytes, most",
        ],
        rows.collect(),
    )
}

fn growth(statistics: &Statistics) -> Table {
    let total = statistics.reallocs.of_blocks.max(1) as f64;
    let rows = statistics.reallocs.growth.iter().map(|bucket| {
        let share = format::percent(bucket.count as f64 / total);
        row(
            words::growth(bucket),
            vec![format::count(bucket.count), share],
        )
    });
    table(
        "Reallocations by growth",
        "New over old",
        &["Reallocations", "Share"],
        rows.collect(),
    )
}

fn chains(statistics: &Statistics) -> Table {
    let total = statistics.reallocs.chains.max(1) as f64;
    let rows = statistics.reallocs.chain_lengths.iter().map(|bucket| {
        let share = format::percent(bucket.count as f64 / total);
        let length = words::range(bucket.low, bucket.high);
        row(length, vec![format::count(bucket.count), share])
    });
    table(
        "Chains by length",
        "Reallocations",
        &["Chains", "Share"],
        rows.collect(),
    )
}

fn threads(statistics: &Statistics) -> Table {
    let rows = statistics.threads.iter().take(ROWS_MAX).map(|thread| {
        row(
            format!("thread {}", thread.thread),
            vec![
                format::count(thread.events),
                format::count(thread.allocations),
                bytes(thread.requested_bytes),
                format::count(thread.frees),
                format::count(thread.frees_of_others),
                format::count(thread.freed_by_others),
                format!(
                    "{}–{}",
                    format::axis_rounded(thread.first_event as f64),
                    format::axis_rounded(thread.last_event as f64)
                ),
            ],
        )
    });
    table(
        "Threads",
        "Thread",
        &[
            "Events",
            "Allocations",
            "Bytes asked for",
            "Frees",
            "of others’ blocks",
            "Own blocks freed by others",
            "From event to event",
        ],
        rows.collect(),
    )
}

fn sites(statistics: &Statistics) -> Table {
    let rows = statistics.sites.iter().take(ROWS_MAX).map(|site| {
        row(
            format::printable(&site.name),
            vec![
                format::count(site.allocations),
                bytes(site.requested_bytes),
                bytes(site.live_bytes_peak),
                bytes(site.live_bytes_end),
            ],
        )
    });
    table(
        "Call sites",
        "Call site",
        &[
            "Allocations",
            "Bytes asked for",
            "Live, most",
            "Never freed",
        ],
        rows.collect(),
    )
}
