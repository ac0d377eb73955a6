//! How far a fitted model is from its trace, for a terminal.

#![forbid(unsafe_code)]

use super::format::{self, ABSENT};
use super::table::text::{WIDTH_MIN, grid, wrap};
use crate::measure::results::{Results, Status, SummaryRow};
use crate::workload::model::distance::{Distance, Shape};

/// Name of the trace among the workloads of a check.
pub const TRACE: &str = "trace";
/// Name of the model's trace among them.
pub const MODEL: &str = "model";

/// The figures of both traces, and the distances of their distributions.
pub fn shapes(trace: &Shape, model: &Shape, width: usize) -> String {
    let distance = Distance::between(trace, model);
    let counted = |name: &str, one: u64, other: u64| {
        let apart = match one == other {
            true => "equal".to_owned(),
            false if one == 0 => ABSENT.to_owned(),
            false => format!("{}×", format::ratio(other as f64 / one as f64)),
        };
        let numbers = vec![format::count(one), format::count(other), apart];
        (name.to_owned(), numbers)
    };
    let bytes = |name: &str, one: u64, other: u64| {
        let mut row = counted(name, one, other);
        row.1[0] = format::bytes(one as f64);
        row.1[1] = format::bytes(other as f64);
        row
    };
    let far = |name: &str, apart: String| {
        let cells = vec![String::new(), String::new(), apart];
        (name.to_owned(), cells)
    };
    let distribution = |share: f64| format!("{share:.3}");
    let rows = [
        counted(
            "operations",
            trace.counts.operations(),
            model.counts.operations(),
        ),
        counted(
            "threads",
            u64::from(trace.threads),
            u64::from(model.threads),
        ),
        counted(
            "remote frees",
            trace.cross_thread_frees,
            model.cross_thread_frees,
        ),
        bytes(
            "requested bytes",
            trace.requested_bytes,
            model.requested_bytes,
        ),
        bytes(
            "peak live bytes",
            trace.live_bytes_peak,
            model.live_bytes_peak,
        ),
        counted(
            "peak live blocks",
            trace.live_blocks_peak,
            model.live_blocks_peak,
        ),
        far("sizes", distribution(distance.sizes)),
        far("lifetimes", distribution(distance.lifetimes)),
        far("live bytes", distribution(distance.live_bytes)),
    ];
    let headings = ["trace", "model", "apart"].map(str::to_owned);
    let mut lines = grid("", &headings, &rows, width.max(WIDTH_MIN));
    lines.extend(wrap(
        "Sizes and lifetimes: largest difference of the cumulative shares, 0 to 1 (Kolmogorov-\
         Smirnov). Live bytes: mean difference over the operations, as a share of the peak.",
        width,
        "",
    ));
    lines.join("\n") + "\n"
}

/// One subject on both.
#[derive(Clone, Debug, PartialEq)]
pub struct Apart {
    /// The subject.
    pub subject: String,
    /// Time per operation of the trace and of the model, in nanoseconds.
    pub time_ns: [f64; 2],
    /// The same to the baseline's.
    pub time_ratio: Option<[f64; 2]>,
    /// Peak RSS of both.
    pub rss_bytes: Option<[f64; 2]>,
    /// The same to the baseline's.
    pub rss_ratio: Option<[f64; 2]>,
}

impl Apart {
    /// The model's ratio to the baseline over the trace's: 1 if the model ranks this subject as the
    /// trace does.
    pub fn time(&self) -> Option<f64> {
        self.time_ratio.map(|[trace, model]| model / trace)
    }

    /// The same for peak RSS.
    pub fn rss(&self) -> Option<f64> {
        self.rss_ratio.map(|[trace, model]| model / trace)
    }
}

/// The subjects that finished both, without the baseline's twin.
pub fn subjects(results: &Results) -> Vec<Apart> {
    let row = |workload: &str, subject: &str| -> Option<&SummaryRow> {
        let mut rows = results.summary.iter();
        rows.find(|row| {
            row.workload == workload && row.subject == subject && row.status == Status::Ok
        })
    };
    let twin = results.settings.baseline_twin.as_deref();
    let all = results.subjects.iter().map(|subject| subject.name.as_str());
    all.filter(|name| Some(*name) != twin)
        .filter_map(|name| {
            let rows = [row(TRACE, name)?, row(MODEL, name)?];
            let both = |value: &dyn Fn(&SummaryRow) -> Option<f64>| {
                Some([value(rows[0])?, value(rows[1])?])
            };
            Some(Apart {
                subject: name.to_owned(),
                time_ns: both(&|row| Some(row.ns_per_operation?.median))?,
                time_ratio: both(&|row| Some(row.ratio_to_baseline?.median)),
                rss_bytes: both(&|row| Some(row.rss_peak_bytes? as f64)),
                rss_ratio: both(&|row| row.rss_peak_ratio_to_baseline),
            })
        })
        .collect()
}

/// Time and memory of each subject on both, for a terminal.
pub fn render(results: &Results, width: usize) -> String {
    let width = width.max(WIDTH_MIN);
    let apart = subjects(results);
    let baseline = &results.settings.baseline;
    let words = |value: Option<f64>| value.map_or(ABSENT.to_owned(), format::ratio);
    let row = |one: &Apart,
               amount: Option<[f64; 2]>,
               unit: fn(f64) -> String,
               ratio: Option<[f64; 2]>| {
        let amounts = amount.map_or([f64::NAN; 2], |both| both);
        let over = amount.map(|[trace, model]| model / trace);
        let cells = vec![
            unit(amounts[0]),
            unit(amounts[1]),
            words(over),
            words(ratio.map(|both| both[0])),
            words(ratio.map(|both| both[1])),
            words(ratio.map(|[trace, model]| model / trace)),
        ];
        (one.subject.clone(), cells)
    };
    let times: Vec<_> = apart
        .iter()
        .map(|one| row(one, Some(one.time_ns), format::time_ns, one.time_ratio))
        .collect();
    let memory: Vec<_> = apart
        .iter()
        .map(|one| row(one, one.rss_bytes, format::bytes, one.rss_ratio))
        .collect();
    let headings = ["trace", "model", "apart", "trace÷", "model÷", "apart"].map(str::to_owned);
    let mut lines = grid("time", &headings, &times, width);
    lines.push(String::new());
    lines.extend(grid("peak RSS", &headings, &memory, width));
    lines.extend(wrap(
        &format!(
            "÷: to {baseline}'s. The last column is the model's ratio over the trace's: 1 where the \
             model tells of an allocator what the trace tells."
        ),
        width,
        "",
    ));
    lines.extend(failures(results, width));
    lines.join("\n") + "\n"
}

fn failures(results: &Results, width: usize) -> Vec<String> {
    let failed = results
        .summary
        .iter()
        .filter(|row| row.status != Status::Ok);
    failed
        .flat_map(|row| {
            let reason = row.reason.as_deref().unwrap_or("it failed");
            let words = format!("{} on the {}: {reason}", row.subject, row.workload);
            wrap(&words, width, "  ")
        })
        .collect()
}

/// The distances as the bias of a definition.
pub fn bias(trace: &Shape, model: &Shape, results: Option<&Results>) -> String {
    let distance = Distance::between(trace, model);
    let mut text = format!(
        "The order of calls within a phase is drawn at random. Against the trace: sizes differ by \
         {:.3}, lifetimes by {:.3} (Kolmogorov-Smirnov), live bytes by {:.1} % of the peak on \
         average, their peak is {:.2} times the trace's.",
        distance.sizes,
        distance.lifetimes,
        100.0 * distance.live_bytes,
        model.live_bytes_peak as f64 / trace.live_bytes_peak.max(1) as f64,
    );
    let apart = results.map(subjects).unwrap_or_default();
    let baseline = results.map(|results| results.settings.baseline.as_str());
    let compared = apart
        .iter()
        .filter(|one| Some(one.subject.as_str()) != baseline);
    let words: Vec<String> = compared
        .filter_map(|one| {
            let rss = one
                .rss()
                .map_or(String::new(), |rss| format!(" and {rss:.2}"));
            Some(format!("{} {:.2}{rss}", one.subject, one.time()?))
        })
        .collect();
    if let (Some(baseline), false) = (baseline, words.is_empty()) {
        text += &format!(
            " Ratios of time and of peak RSS to {baseline}, the model's over the trace's: {}.",
            words.join(", ")
        );
    }
    text
}
