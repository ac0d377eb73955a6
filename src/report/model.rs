//! What a report is about: the results grouped by workload and subject, ready to be told as
//! sentences, tables and charts. Pure; it borrows the results and computes nothing that is not in
//! them.

#![forbid(unsafe_code)]

use std::collections::HashSet;

use crate::measure::noise;
use crate::measure::pairs::{self, Heap};
use crate::measure::rank::is_own;
use crate::measure::results::{
    Estimate, MemorySample, Pass, ProgramRecord, Receipt, Results, Run, Sample, Status, Stop,
    SubjectKind, SubjectRecord, SummaryRow, Verdict, WorkloadRecord,
};
use crate::measure::summary;
use crate::statistics::median;
use crate::statistics::signed_rank::{ERROR_RATE, ratios_differ_p};

/// Below this number of blocks a 95 % interval of a median does not exist: the range of n values
/// misses the median with probability 2^(1-n), which is above 5 % up to n = 5.
pub(crate) const BLOCKS_FOR_INTERVAL: usize = 6;

/// One results file, grouped.
pub(crate) struct Report<'a> {
    pub(crate) results: &'a Results,
    pub(crate) workloads: Vec<Workload<'a>>,
}

/// One workload with all its rows.
pub(crate) struct Workload<'a> {
    /// Name in the file.
    pub(crate) name: &'a str,
    /// Its name in file names and anchors: unique, lower-case letters, digits and hyphens.
    pub(crate) slug: String,
    /// What the file tells about it; a summary may name a workload that has no record.
    pub(crate) record: Option<&'a WorkloadRecord>,
    /// Its rows, in the order of the subjects, without the twin.
    pub(crate) rows: Vec<Row<'a>>,
    /// The baseline a second time: its ratio is the noise floor. It is no subject of its own.
    pub(crate) twin: Option<Row<'a>>,
    /// Why no more blocks were added, in each run that measured it.
    pub(crate) stops: Vec<(&'a Run, &'a Stop)>,
    /// Name of the subject that ratios refer to.
    pub(crate) baseline: &'a str,
    /// All runs of the file.
    pub(crate) runs: &'a [Run],
    /// Blocks that a verdict needs at least, for the number of comparisons in the file.
    pub(crate) blocks_needed: usize,
}

/// One subject on one workload.
pub(crate) struct Row<'a> {
    pub(crate) summary: &'a SummaryRow,
    /// Its fixed place in the palette, the same in every chart of the file.
    pub(crate) color: usize,
    /// No allocator, but a bound (`null`, `bump`): shown, never recommended.
    pub(crate) is_floor: bool,
    pub(crate) is_own: bool,
    pub(crate) is_baseline: bool,
    /// The memory sample whose peak is the median one; none if its memory is not known.
    pub(crate) memory: Option<&'a MemorySample>,
    /// Why its memory is not known although it was looked at.
    pub(crate) unmeasurable: Option<&'a str>,
    /// All its samples, in the file's order.
    pub(crate) samples: Vec<&'a Sample>,
    /// Samples that ended `ok` and hold a time.
    pub(crate) speed_samples: usize,
    /// Whether there were enough blocks for its intervals to be what they say.
    pub(crate) has_intervals: bool,
    /// RSS is counted in these: less than one is no measurement of it.
    page_bytes: u64,
    /// Whether the baseline's RSS is known to a page or better.
    has_baseline_rss: bool,
    /// The objects that served its calls, as the children told.
    pub(crate) served_by: Vec<&'a Receipt>,
}

impl Row<'_> {
    pub(crate) fn name(&self) -> &str {
        &self.summary.subject
    }

    pub(crate) fn is_ok(&self) -> bool {
        self.summary.status == Status::Ok
    }

    /// Whether it may be recommended: an allocator that finished.
    pub(crate) fn is_candidate(&self) -> bool {
        self.is_ok() && !self.is_floor
    }

    /// How it compares with the baseline, as the summary judged it.
    pub(crate) fn standing(&self) -> Verdict {
        self.summary.verdict
    }

    /// Whether it is faster than the baseline: judged so or, with too few blocks for that, by its
    /// median alone, which is a hint and has to be told as one.
    pub(crate) fn seems_faster(&self) -> bool {
        match self.summary.ratio_to_baseline {
            Some(ratio) if !self.has_intervals => ratio.median < 1.0,
            _ => self.standing() == Verdict::Faster,
        }
    }

    fn has_rss(&self) -> bool {
        self.summary
            .rss_peak_bytes
            .is_none_or(|peak| peak >= self.page_bytes.max(1))
    }

    /// An amount of RSS in words; below one OS page the exact number means nothing.
    pub(crate) fn rss_words(&self, bytes: Option<u64>) -> String {
        match bytes {
            None => super::format::ABSENT.to_owned(),
            Some(bytes) if bytes < self.page_bytes.max(1) => "< 1 page".to_owned(),
            Some(bytes) => super::format::bytes(bytes as f64),
        }
    }

    /// Why there is no figure of its memory, for a chart in whose place this stands.
    pub(crate) fn memory_gap(&self, otherwise: &str) -> String {
        match self.unmeasurable {
            Some(reason) => format!("not measurable: {reason}"),
            None => otherwise.to_owned(),
        }
    }

    /// Peak RSS over the baseline's, if both are more than nothing.
    pub(crate) fn rss_ratio(&self) -> Option<f64> {
        let ratio = self.summary.rss_peak_ratio_to_baseline;
        ratio.filter(|ratio| ratio.is_finite() && self.has_rss() && self.has_baseline_rss)
    }

    /// Peak RSS over peak live bytes, if the RSS is more than nothing.
    pub(crate) fn fragmentation(&self) -> Option<f64> {
        self.summary
            .fragmentation_at_peak
            .filter(|_| self.has_rss())
    }

    /// Why it has no numbers, in words; empty if it has.
    pub(crate) fn failure(&self) -> Option<String> {
        if self.is_ok() {
            return None;
        }
        Some(match &self.summary.reason {
            Some(reason) => format!(
                "{}: {}",
                status_word(self.summary.status),
                reason_words(reason)
            ),
            None => status_word(self.summary.status).to_owned(),
        })
    }
}

impl<'a> Workload<'a> {
    /// Rows that may be recommended, fastest first; without this project's own if `without_own`.
    pub(crate) fn ranking(&self, without_own: bool) -> Vec<&Row<'a>> {
        let mut rows: Vec<&Row<'a>> = self
            .rows
            .iter()
            .filter(|row| row.is_candidate() && !(without_own && row.is_own))
            .collect();
        let time = |row: &Row<'_>| {
            let estimate = row
                .summary
                .ratio_to_baseline
                .or(row.summary.ns_per_operation);
            estimate.map_or(f64::INFINITY, |estimate| estimate.median)
        };
        rows.sort_by(|a, b| time(a).total_cmp(&time(b)));
        rows
    }

    /// Whether two of its candidates are told apart on a fresh heap: by the test that verdicts come
    /// from, over the blocks that both ran in, corrected for all pairs of candidates, and by more than
    /// the noise floor.
    pub(crate) fn is_told_apart(&self, one: &Row<'_>, other: &Row<'_>) -> bool {
        let times = |row: &Row<'_>| {
            pairs::times(
                row.samples.iter().copied(),
                self.name,
                row.name(),
                Heap::Fresh,
            )
        };
        let ratios = pairs::ratios(&times(one), &times(other));
        let candidates = self.rows.iter().filter(|row| row.is_candidate()).count();
        let comparisons = candidates * candidates.saturating_sub(1) / 2;
        let floor = self.noise().map_or(0.0, noise::reach);
        ratios.len() >= BLOCKS_FOR_INTERVAL
            && ratios_differ_p(&ratios) * comparisons as f64 <= ERROR_RATE
            && median(&ratios).is_some_and(|ratio| noise::difference(ratio) > floor)
    }

    /// The row that ratios refer to, if it is there and finished.
    pub(crate) fn baseline_row(&self) -> Option<&Row<'a>> {
        self.rows.iter().find(|row| row.is_baseline && row.is_ok())
    }

    /// Smallest number of speed samples behind any ratio; `None` if the file holds none.
    pub(crate) fn blocks(&self) -> Option<usize> {
        let with_ratio = self
            .rows
            .iter()
            .filter(|row| row.is_ok() && row.summary.ratio_to_baseline.is_some());
        with_ratio
            .map(|row| row.speed_samples)
            .filter(|&samples| samples > 0)
            .min()
    }

    /// Whether any row tells how much of its time is the harness's own.
    pub(crate) fn has_harness_share(&self) -> bool {
        let mut shares = self.rows.iter().filter(|row| row.is_ok());
        shares.any(|row| row.summary.harness_share.is_some())
    }

    /// Whether any row's intervals hold.
    pub(crate) fn has_intervals(&self) -> bool {
        self.rows.iter().any(|row| row.is_ok() && row.has_intervals)
    }

    /// What two names of the same allocator differed by: the noise floor.
    pub(crate) fn noise(&self) -> Option<Estimate> {
        let twin = self.twin.as_ref().filter(|twin| twin.has_intervals)?;
        let ratio = twin.summary.ratio_to_baseline?;
        (ratio.low.is_finite() && ratio.high.is_finite()).then_some(ratio)
    }

    /// A run by its processor and start.
    pub(crate) fn run_name(&self, index: u32) -> String {
        match self.runs.get(index as usize) {
            Some(run) => {
                let cpu = run.environment.cpu.as_deref();
                format!("{}, {}", cpu.unwrap_or("unknown processor"), run.started)
            }
            None => format!("run {}", u64::from(index) + 1),
        }
    }

    /// The real program, if it is one.
    pub(crate) fn program(&self) -> Option<&'a ProgramRecord> {
        self.record?.program.as_ref()
    }

    pub(crate) fn has_own(&self) -> bool {
        self.rows.iter().any(|row| row.is_own)
    }
}

impl<'a> Report<'a> {
    /// Groups a results file. Workloads and subjects keep the file's order; rows that name unknown
    /// ones come last.
    pub(crate) fn of(results: &'a Results) -> Self {
        let mut names: Vec<&str> = results
            .workloads
            .iter()
            .map(|workload| workload.name.as_str())
            .collect();
        for row in &results.summary {
            if !names.contains(&row.workload.as_str()) {
                names.push(&row.workload);
            }
        }
        let mut slugs = HashSet::new();
        let blocks_needed = summary::blocks_needed(results) as usize;
        let workloads = names
            .into_iter()
            .map(|name| {
                let (twins, rows) = rows_of(results, name)
                    .into_iter()
                    .partition(|row| is_twin(results, row.name()));
                Workload {
                    name,
                    slug: unique_slug(name, &mut slugs),
                    record: results.workloads.iter().find(|record| record.name == name),
                    rows,
                    twin: Vec::<Row<'a>>::into_iter(twins).next(),
                    stops: stops_of(results, name),
                    baseline: &results.settings.baseline,
                    runs: &results.runs,
                    blocks_needed,
                }
            })
            .collect();
        Self { results, workloads }
    }

    /// Subjects in the file's order, those that only the summary names last; without the twin.
    pub(crate) fn subject_names(&self) -> Vec<&'a str> {
        let mut names = subject_names(self.results);
        names.retain(|name| !is_twin(self.results, name));
        names
    }
}

/// Whether a subject is the baseline a second time.
fn is_twin(results: &Results, name: &str) -> bool {
    results.settings.baseline_twin.as_deref() == Some(name)
        || results
            .subjects
            .iter()
            .any(|subject| subject.name == name && subject.twin_of.is_some())
}

fn stops_of<'a>(results: &'a Results, workload: &str) -> Vec<(&'a Run, &'a Stop)> {
    let of_run = |run: &'a Run| run.stops.iter().map(move |stop| (run, stop));
    let stops = results.runs.iter().flat_map(of_run);
    stops
        .filter(|(_, stop)| stop.workload == workload)
        .collect()
}

fn subject_names(results: &Results) -> Vec<&str> {
    let mut names: Vec<&str> = results
        .subjects
        .iter()
        .map(|subject| subject.name.as_str())
        .collect();
    for row in &results.summary {
        if !names.contains(&row.subject.as_str()) {
            names.push(&row.subject);
        }
    }
    names
}

fn rows_of<'a>(results: &'a Results, workload: &str) -> Vec<Row<'a>> {
    let is_floor = |record: Option<&SubjectRecord>| {
        record.is_some_and(|record| record.kind == SubjectKind::Floor)
    };
    let page_bytes = results.first_run().environment.page_size_bytes;
    let baseline_rss = results
        .summary
        .iter()
        .find(|row| row.workload == workload && row.subject == results.settings.baseline)
        .and_then(|row| row.rss_peak_bytes);
    let mut rows = Vec::new();
    let mut next_color = 0;
    for name in subject_names(results) {
        let floor = is_floor(results.subjects.iter().find(|subject| subject.name == name));
        let color = next_color;
        if !floor && !is_twin(results, name) {
            next_color += 1;
        }
        let summaries = results
            .summary
            .iter()
            .filter(|row| row.workload == workload && row.subject == name);
        for summary in summaries {
            let samples: Vec<&Sample> = results
                .samples
                .iter()
                .filter(|sample| sample.workload == workload && sample.subject == name)
                .collect();
            let speed_samples = samples
                .iter()
                .filter(|sample| matches!(sample.pass, Pass::Speed | Pass::Program))
                .filter(|sample| sample.status == Status::Ok)
                .count();
            let blocks = match speed_samples {
                0 => results.settings.speed_blocks_max as usize,
                some => some,
            };
            rows.push(Row {
                summary,
                color,
                is_floor: floor,
                is_own: is_own(results, name),
                is_baseline: name == results.settings.baseline,
                memory: median_memory(&samples),
                unmeasurable: unmeasurable(&samples),
                speed_samples,
                has_intervals: blocks >= BLOCKS_FOR_INTERVAL,
                page_bytes,
                has_baseline_rss: baseline_rss.is_none_or(|rss| rss >= page_bytes.max(1)),
                served_by: receipts(&samples),
                samples,
            });
        }
    }
    rows
}

/// The sample in the middle by peak: its curve belongs to the peak that the table shows.
fn median_memory<'a>(samples: &[&'a Sample]) -> Option<&'a MemorySample> {
    let finished = samples.iter().filter(|sample| sample.status == Status::Ok);
    let mut memories: Vec<&MemorySample> = finished
        .filter_map(|sample| sample.memory.as_ref())
        .collect();
    if unmeasurable(samples).is_some() {
        return None;
    }
    memories.sort_by_key(|memory| memory.rss_peak_bytes);
    memories.get(memories.len().saturating_sub(1) / 2).copied()
}

/// Of any of them: the summary leaves the whole row out then.
fn unmeasurable<'a>(samples: &[&'a Sample]) -> Option<&'a str> {
    let memories = samples.iter().filter_map(|sample| sample.memory.as_ref());
    memories
        .filter_map(|memory| memory.unmeasurable.as_deref())
        .next()
}

fn receipts<'a>(samples: &[&'a Sample]) -> Vec<&'a Receipt> {
    let mut receipts: Vec<&'a Receipt> = Vec::new();
    for receipt in samples.iter().filter_map(|sample| sample.receipt.as_ref()) {
        let same =
            |other: &&Receipt| (&other.path, &other.build) == (&receipt.path, &receipt.build);
        if !receipts.iter().any(same) {
            receipts.push(receipt);
        }
    }
    receipts
}

/// A name that is safe as file name and anchor, whatever the user called the workload.
fn unique_slug(name: &str, taken: &mut HashSet<String>) -> String {
    let mut slug = String::new();
    for c in name.chars() {
        if c.is_ascii_alphanumeric() {
            slug.push(c.to_ascii_lowercase());
        } else if !slug.ends_with('-') && !slug.is_empty() {
            slug.push('-');
        }
        if slug.len() >= 60 {
            break;
        }
    }
    let slug = match slug.trim_end_matches('-') {
        "" => "workload".to_owned(),
        slug => slug.to_owned(),
    };
    let mut candidate = slug.clone();
    let mut number = 2;
    while !taken.insert(candidate.clone()) {
        candidate = format!("{slug}-{number}");
        number += 1;
    }
    candidate
}

/// A reason ready to stand at the end of a sentence: on one line, without a full stop of its own.
pub(crate) fn reason_words(reason: &str) -> String {
    let text = super::format::printable(reason);
    text.trim_end_matches([' ', ',', ';', '.']).to_owned()
}

/// A status in words.
pub(crate) fn status_word(status: Status) -> &'static str {
    match status {
        Status::Ok => "ok",
        Status::Crashed => "crashed",
        Status::TimedOut => "timed out",
        Status::OutOfMemory => "out of memory",
        Status::Wrong => "wrong",
        Status::Refused => "refused",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slugs_are_unique_and_harmless() {
        let mut taken = HashSet::new();
        assert_eq!(unique_slug("traces/vim.log", &mut taken), "traces-vim-log");
        assert_eq!(
            unique_slug("traces vim log", &mut taken),
            "traces-vim-log-2"
        );
        assert_eq!(unique_slug("../../etc/passwd", &mut taken), "etc-passwd");
        assert_eq!(unique_slug("<script>", &mut taken), "script");
        assert_eq!(unique_slug("日本", &mut taken), "workload");
        assert_eq!(unique_slug("///", &mut taken), "workload-2");
    }
}
