//! The summary as comma-separated values.

#![forbid(unsafe_code)]

use crate::measure::results::{Estimate, Results, Verdict};
use crate::report::model::{Report, status_word};

/// The summary as CSV (RFC 4180), one line per workload and subject; absent values are empty, and so are
/// the ends of intervals that too few blocks stand behind.
pub fn csv(results: &Results) -> String {
    let mut text = String::from(
        "workload,subject,status,reason,operations,ns_per_operation,ns_per_operation_low,ns_per_operation_high,\
         ratio_to_baseline,ratio_to_baseline_low,ratio_to_baseline_high,\
         ratio_to_baseline_used_heap,ratio_to_baseline_used_heap_low,ratio_to_baseline_used_heap_high,\
         verdict,verdict_used_heap,outliers,blocks,wall_ns_per_operation,wall_ratio_to_baseline,wall_verdict,wall_harness_share,wall_ns,waiting_share,harness_share,\
         rss_peak_bytes,rss_mean_bytes,live_bytes_peak,fragmentation_at_peak,fragmentation_time_weighted,\
         internal_fragmentation,rss_retained_bytes,rss_retained_1s_bytes,drift\r\n",
    );
    let report = Report::of(results);
    for row in report
        .workloads
        .iter()
        .flat_map(|workload| workload.rows.iter().chain(&workload.twin))
    {
        let has_intervals = row.has_intervals;
        let row = row.summary;
        let mut cells = vec![
            csv_cell(&row.workload),
            csv_cell(&row.subject),
            status_word(row.status).replace(' ', "_"),
            csv_cell(row.reason.as_deref().unwrap_or("")),
            row.operations.to_string(),
        ];
        for estimate in [
            row.ns_per_operation,
            row.ratio_to_baseline,
            row.ratio_to_baseline_used_heap,
        ] {
            match estimate {
                Some(e) if !has_intervals => {
                    cells.extend([e.median.to_string(), String::new(), String::new()]);
                }
                Some(e) => {
                    cells.extend([e.median.to_string(), e.low.to_string(), e.high.to_string()])
                }
                None => cells.extend([const { String::new() }; 3]),
            }
        }
        let number = |value: Option<f64>| value.map_or(String::new(), |value| value.to_string());
        let bytes = |value: Option<u64>| value.map_or(String::new(), |value| value.to_string());
        let median = |value: Option<Estimate>| number(value.map(|value| value.median));
        cells.extend([
            verdict_name(row.verdict).to_owned(),
            verdict_name(row.verdict_used_heap).to_owned(),
            row.outliers.to_string(),
            row.blocks.to_string(),
            median(row.wall_ns_per_operation),
            median(row.wall_ratio_to_baseline),
            verdict_name(row.wall_verdict).to_owned(),
            number(row.wall_harness_share),
            median(row.wall_ns),
            number(row.waiting_share),
            number(row.harness_share),
            bytes(row.rss_peak_bytes),
            bytes(row.rss_mean_bytes),
            bytes(row.live_bytes_peak),
            number(row.fragmentation_at_peak),
            number(row.fragmentation_time_weighted),
            number(row.internal_fragmentation),
            bytes(row.rss_retained_bytes),
            bytes(row.rss_retained_1s_bytes),
            number(row.drift),
        ]);
        text.push_str(&cells.join(","));
        text.push_str("\r\n");
    }
    text
}

fn csv_cell(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", text.replace('"', "\"\""))
    } else {
        text.to_owned()
    }
}

fn verdict_name(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Faster => "faster",
        Verdict::Slower => "slower",
        Verdict::NotDistinguishable => "not_distinguishable",
        Verdict::Unknown => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_stay_cells() {
        assert_eq!(csv_cell("a,\"b\""), "\"a,\"\"b\"\"\"");
    }
}
