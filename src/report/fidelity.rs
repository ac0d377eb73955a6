//! Whether replay predicts reality, told for a terminal and as a page.

#![forbid(unsafe_code)]

use std::path::Path;

use minijinja::value::Serde;
use minijinja::{Value, context};
use serde::Serialize;

use super::charts::{self, Chart};
use super::format::{self, ABSENT};
use super::page::frame;
use super::table::text::{WIDTH_MIN, grid, wrap};
use super::{ReportPaths, facts, files};
use crate::error::{Error, Result};
use crate::files::write_atomically;
use crate::measure::fidelity::{Agreement, Fidelity, Policy, Prediction, ProgramFidelity};
use crate::measure::results::{Results, Status};

type Row = (String, Vec<String>);

/// A table, for either.
struct Grid {
    /// For those who hear it.
    title: String,
    corner: String,
    headings: Vec<String>,
    rows: Vec<Row>,
}

/// What the columns mean.
const METHOD: &str = "Times are CPU time, in user mode and in the kernel, of programs and of replays; each \
replay is the first on a fresh heap, in a fresh process. Predicted time: the program's under the baseline, \
plus the replay's under the allocator, less the replay's under the baseline, plus as often as the program \
starts a process what that costs more than under the baseline. Peak RSS likewise, of the largest process. \
Real and predicted are ratios to the baseline; off is the error of the predicted ratio. Spearman: rank \
correlation of all allocators' times, the baseline among them, also of those that the program does not \
tell apart. Pairs: of the pairs of allocators whose real times differ (the 95 % interval of the ratio over \
the blocks does not hold 1, and the ratio is further from 1 than that of the baseline to itself), how many \
the prediction puts in the right order, of how many. Columns such as by line: the ratio that replays with that other \
touch policy predict. Below it, the differences to the baseline: the \
program's CPU time in user mode and in the kernel and its page faults; those of the replays; and those of \
starting its processes, which together are what is predicted. Inside: time of the replay as a share of the \
program's, both under the baseline. Noise: how far the baseline is from itself when it runs twice.";

fn error_words(share: Option<f64>) -> String {
    share.map_or(ABSENT.to_owned(), format::percent)
}

fn ratio_words(ratio: Option<f64>) -> String {
    ratio.map_or(ABSENT.to_owned(), format::ratio)
}

/// Right of those told apart.
fn pairs_words(pairs: &Agreement) -> String {
    match pairs.told_apart {
        0 => format!("none of {}", pairs.pairs),
        apart => format!("{} of {apart}", pairs.ordered_right),
    }
}

fn short(name: &str) -> String {
    name.strip_prefix("program-").unwrap_or(name).to_owned()
}

/// How many of the pairs that can be told apart are predicted in their order, as a clause.
fn pairs_clause(pairs: &Agreement) -> String {
    match pairs.told_apart {
        0 => format!(
            "the programs tell none of the {} pairs of allocators apart",
            pairs.pairs
        ),
        apart => format!(
            "of {apart} pairs of allocators that the programs tell apart (of {}), {} are ordered right",
            pairs.pairs, pairs.ordered_right
        ),
    }
}

/// The sentence that says how well replay predicts.
pub fn headline(policy: &Policy) -> String {
    if policy.programs.is_empty() {
        return "No program could be compared with its replay.".to_owned();
    }
    format!(
        "Touch {}: the rank correlation of the allocators' times is at least 0.9 on {} of {} programs; \
         {}; the predicted time ratio is off by {} and that of peak RSS by {} (medians over programs and \
         allocators).",
        policy.touch.name(),
        policy.ranked_well,
        policy.ranked,
        pairs_clause(&policy.agreement),
        error_words(policy.time_error),
        error_words(policy.rss_error),
    )
}

fn summary(policy: &Policy) -> Grid {
    let row = |one: &ProgramFidelity| {
        let correlation = one.rank_correlation;
        let cells = vec![
            correlation.map_or(ABSENT.to_owned(), |value| format!("{value:.2}")),
            pairs_words(&one.agreement),
            error_words(one.time_error),
            error_words(one.rss_error),
            error_words(Some(one.replay_ns / one.program_ns)),
            error_words(one.noise),
            format::time_ns(one.program_ns),
        ];
        (short(&one.name), cells)
    };
    let headings = [
        "Spearman", "pairs", "time off", "RSS off", "inside", "noise", "run",
    ];
    Grid {
        title: format!("How well replays predict, touch {}", policy.touch.name()),
        corner: "program".to_owned(),
        headings: headings.map(str::to_owned).to_vec(),
        rows: policy.programs.iter().map(row).collect(),
    }
}

/// A program under each allocator; beside what the first policy predicts, what the others do.
fn details(program: &ProgramFidelity, others: &[Policy]) -> Grid {
    let elsewhere: Vec<(&str, &ProgramFidelity)> = others
        .iter()
        .filter_map(|policy| {
            let mut programs = policy.programs.iter();
            let same = programs.find(|other| other.name == program.name)?;
            Some((policy.touch.name(), same))
        })
        .collect();
    let row = |one: &Prediction| {
        let mut cells = vec![
            format::ratio(one.real_time.median),
            format::ratio(one.predicted_time.median),
            error_words(Some(one.time_error())),
        ];
        cells.extend(elsewhere.iter().map(|(_, other)| {
            let same = other
                .subjects
                .iter()
                .find(|other| other.subject == one.subject);
            ratio_words(same.map(|same| same.predicted_time.median))
        }));
        cells.extend([
            ratio_words(one.real_rss),
            ratio_words(one.predicted_rss),
            error_words(one.rss_error()),
        ]);
        (one.subject.clone(), cells)
    };
    let mut rows: Vec<Row> = program.subjects.iter().map(row).collect();
    // Not left out: what could not be predicted is a result.
    rows.extend(program.unpredicted.iter().map(|one| {
        let cells = vec![ABSENT.to_owned(); 6 + elsewhere.len()];
        (one.subject.clone(), cells)
    }));
    let mut headings = vec![
        "time real".to_owned(),
        "predicted".to_owned(),
        "off".to_owned(),
    ];
    headings.extend(elsewhere.iter().map(|(touch, _)| format!("by {touch}")));
    headings.extend(["RSS real", "predicted", "off"].map(str::to_owned));
    let name = short(&program.name);
    Grid {
        title: format!("Predicted and real, {name}"),
        corner: name,
        headings,
        rows,
    }
}

/// Where a program's difference to the baseline lies, and what the replay and the start of its processes
/// predict of it.
fn differences(program: &ProgramFidelity, baseline: &str) -> Grid {
    // Small differences round to a zero without a sign.
    let signed = |value: f64| match value.round() {
        0.0 => "0".to_owned(),
        whole => format!("{whole:+}"),
    };
    let ms = |ns: f64| signed(ns / 1e6);
    let row = |one: &Prediction| {
        let [own, replayed] = one.page_faults;
        let cells = vec![
            ms(one.user_ns),
            ms(one.system_ns),
            signed(own),
            ms(one.replay_ns),
            signed(replayed),
            ms(one.start_up_ns),
            signed(one.start_up_faults),
        ];
        (one.subject.clone(), cells)
    };
    let headings = [
        "user ms",
        "kernel ms",
        "faults",
        "replay ms",
        "faults",
        "start ms",
        "faults",
    ];
    Grid {
        title: format!("Differences to {baseline}, {}", short(&program.name)),
        corner: format!("less {baseline}"),
        headings: headings.map(str::to_owned).to_vec(),
        rows: program.subjects.iter().map(row).collect(),
    }
}

/// Tables of at most `width` columns.
pub fn render(fidelity: &Fidelity, results: &Results, width: usize) -> String {
    let width = width.max(WIDTH_MIN);
    let mut lines = Vec::new();
    let lay = |table: &Grid| grid(&table.corner, &table.headings, &table.rows, width);
    for policy in &fidelity.policies {
        lines.extend(wrap(&headline(policy), width, ""));
        lines.push(String::new());
        lines.extend(lay(&summary(policy)));
        lines.push(String::new());
    }
    let (first, others) = split(fidelity);
    for program in first.into_iter().flat_map(|policy| &policy.programs) {
        lines.extend(lay(&details(program, others)));
        lines.push(String::new());
        lines.extend(lay(&differences(program, &fidelity.baseline)));
        for sentence in &program.explanations {
            lines.extend(wrap(sentence, width, "  "));
        }
        lines.push(String::new());
    }
    for reason in failures(results) {
        lines.extend(wrap(&reason, width, "  "));
    }
    lines.extend(wrap(METHOD, width, ""));
    lines.join("\n") + "\n"
}

/// The policy that is asked about, and those that are told beside it.
fn split(fidelity: &Fidelity) -> (Option<&Policy>, &[Policy]) {
    match fidelity.policies.split_first() {
        Some((first, others)) => (Some(first), others),
        None => (None, &[]),
    }
}

/// What could not be measured, once each.
fn failures(results: &Results) -> Vec<String> {
    let failed = results
        .summary
        .iter()
        .filter(|row| row.status != Status::Ok);
    failed
        .map(|row| {
            let reason = row.reason.as_deref().unwrap_or("it failed");
            format!("{} under {}: {reason}", row.workload, row.subject)
        })
        .collect()
}

#[derive(Serialize)]
struct TableView {
    title: String,
    corner: String,
    headings: Vec<String>,
    rows: Vec<RowView>,
}

#[derive(Serialize)]
struct RowView {
    name: String,
    cells: Vec<String>,
}

impl From<Grid> for TableView {
    fn from(grid: Grid) -> Self {
        let row = |(name, cells): Row| RowView { name, cells };
        Self {
            title: grid.title,
            corner: grid.corner,
            headings: grid.headings,
            rows: grid.rows.into_iter().map(row).collect(),
        }
    }
}

#[derive(Serialize)]
struct PolicyView {
    headline: String,
    table: TableView,
}

#[derive(Serialize)]
struct ProgramView {
    name: String,
    facts: Vec<facts::Fact>,
    table: TableView,
    differences: TableView,
    explanations: Vec<String>,
}

fn program_view(one: &ProgramFidelity, others: &[Policy], baseline: &str) -> ProgramView {
    let [replayed, recorded] = one.operations;
    let other = one.other_rss_bytes;
    ProgramView {
        name: short(&one.name),
        facts: vec![
            facts::Fact::new("CPU time of a run", format::time_ns(one.program_ns)),
            facts::Fact::new("CPU time of its replays", format::time_ns(one.replay_ns)),
            facts::Fact::new(
                "Operations replayed",
                format!("{} of {}", format::count(replayed), format::count(recorded)),
            ),
            facts::Fact::new("Processes recorded", format::count(one.processes as u64)),
            facts::Fact::new("Programs started", format::count(one.started as u64)),
            facts::Fact::new("Noise of its replays", error_words(one.replay_noise)),
            facts::Fact::new(
                "RSS that is not the allocator's",
                other.map_or(ABSENT.to_owned(), format::bytes),
            ),
        ],
        table: details(one, others).into(),
        differences: differences(one, baseline).into(),
        explanations: one.explanations.clone(),
    }
}

/// Writes `fidelity.json`, `index.html` and the charts into a folder that is there.
///
/// # Errors
/// The folder cannot be written, or a chart cannot be drawn.
pub fn write(fidelity: &Fidelity, results: &Results, directory: &Path) -> Result<ReportPaths> {
    let (html, drawn) = page(fidelity, results)?;
    let json = serde_json::to_string_pretty(fidelity)
        .map_err(|error| Error::Failed(format!("cannot write the comparison as JSON: {error}")))?;
    write_atomically(&directory.join("fidelity.json"), (json + "\n").as_bytes())?;
    let folder = directory.join(files::CHARTS);
    files::create_folder(&folder)?;
    let mut kept = Vec::new();
    for (name, svg) in drawn {
        let path = folder.join(format!("{name}.svg"));
        write_atomically(&path, svg.as_bytes())?;
        kept.push(path);
    }
    let index = directory.join("index.html");
    write_atomically(&index, html.as_bytes())?;
    files::remove_other_charts(&folder, &kept)?;
    Ok(ReportPaths {
        index,
        charts: kept,
    })
}

/// The page, and the charts that also become files.
fn page(fidelity: &Fidelity, results: &Results) -> Result<(String, Vec<(String, String)>)> {
    let (mut drawings, mut absent, mut drawn) = (Vec::new(), Vec::new(), Vec::new());
    // The first policy is the one that is asked about; the others are beside it.
    if let Some(policy) = fidelity.policies.first() {
        for chart in charts::fidelity(policy, &fidelity.baseline)? {
            match chart {
                Chart::Drawn(chart) => {
                    drawings.push(Value::from_safe_string(chart.inline()));
                    drawn.push((chart.file.clone(), chart.standalone()));
                }
                Chart::Absent(sentence) => absent.push(sentence),
            }
        }
    }
    let policy_view = |policy: &Policy| PolicyView {
        headline: headline(policy),
        table: summary(policy).into(),
    };
    let policies: Vec<PolicyView> = fidelity.policies.iter().map(policy_view).collect();
    let (first, others) = split(fidelity);
    let programs = first.into_iter().flat_map(|policy| &policy.programs);
    let programs: Vec<ProgramView> = programs
        .map(|one| program_view(one, others, &fidelity.baseline))
        .collect();
    let run = results.first_run();
    let mut warnings = results.warnings.clone();
    warnings.extend(failures(results));
    let page = context! {
        title => "Does replay predict reality?",
        subtitle => facts::subtitle(results),
        policies => Serde(&policies),
        drawings,
        absent,
        programs => Serde(&programs),
        method => METHOD,
        warnings,
        tool => format!("{} {}", run.tool.name, run.tool.version),
    };
    let html = frame::fill(include_str!("fidelity.html"), page)?;
    Ok((html, drawn))
}

#[cfg(test)]
#[path = "fidelity/tests.rs"]
mod tests;
