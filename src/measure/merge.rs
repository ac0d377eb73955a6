//! Several results files as one: the shards of a suite, or the same comparison on several machines.
//! Pure.
//!
//! Runs stand side by side. Ratios are taken inside a block of one run, and so inside one machine;
//! only they meet across runs. What would make two runs incomparable is an error that names it; what
//! a reader should know is a warning.

#![forbid(unsafe_code)]

use std::collections::HashMap;

use super::results::{
    Pass, Results, Run, SCHEMA_VERSION, Sample, Settings, SubjectRecord, WorkloadRecord,
};
use super::{summary, warnings};

/// Merges results, each with the name of its file. The error is a sentence that names two files and
/// what differs.
///
/// # Errors
/// There are none; a run stands in two files; or the files differ in what was measured: the baseline,
/// how it was replayed, a subject's version or build, a workload's data.
pub fn merge(files: Vec<(String, Results)>) -> Result<Results, String> {
    let mut files = files.into_iter();
    let (first_name, mut merged) = files.next().ok_or("no results to merge")?;
    let rest: Vec<(String, Results)> = files.collect();
    if rest.is_empty() {
        return Ok(merged);
    }
    let mut kept = extra_warnings(&merged);
    // For each part of the merged results, the file that it came from.
    let mut sources = Sources {
        runs: vec![first_name.clone(); merged.runs.len()],
        subjects: vec![first_name.clone(); merged.subjects.len()],
        workloads: vec![first_name.clone(); merged.workloads.len()],
    };
    for (name, results) in rest {
        let pair = format!("{first_name} and {name}");
        kept.extend(extra_warnings(&results));
        kept.extend(check_settings(&pair, &merged.settings, &results.settings)?);
        add(&mut merged, &mut sources, &name, results, &mut kept)?;
    }
    merged.schema_version = SCHEMA_VERSION;
    merged.summary = summary::of(&merged);
    merged.warnings = warnings::of(&merged);
    for warning in kept {
        if !merged.warnings.contains(&warning) {
            merged.warnings.push(warning);
        }
    }
    Ok(merged)
}

struct Sources {
    runs: Vec<String>,
    subjects: Vec<String>,
    workloads: Vec<String>,
}

/// Warnings of the run itself, which do not follow from the results.
fn extra_warnings(results: &Results) -> Vec<String> {
    let computed = warnings::of(results);
    let own = results.warnings.iter();
    own.filter(|one| !computed.contains(one)).cloned().collect()
}

fn add(
    merged: &mut Results,
    sources: &mut Sources,
    name: &str,
    results: Results,
    kept: &mut Vec<String>,
) -> Result<(), String> {
    if let Some((known, again)) = same_run(merged, &results) {
        return Err(format!(
            "{} and {name} hold the same run, of {}: name each file once",
            sources.runs[known], results.runs[again].started
        ));
    }
    for run in &results.runs {
        if merged.runs.iter().all(|known| known.tool != run.tool) {
            kept.push(format!(
                "{name} was measured by another build of this program ({} {}, {}): its harness may \
                 cost more or less. Measure all with one build.",
                run.tool.name, run.tool.version, run.tool.rustc
            ));
        }
    }
    for subject in &results.subjects {
        let known = merged
            .subjects
            .iter()
            .position(|one| one.name == subject.name);
        match known {
            Some(index) => {
                let pair = format!("{} and {name}", sources.subjects[index]);
                check_subject(&pair, &merged.subjects[index], subject)?;
            }
            None => {
                merged.subjects.push(subject.clone());
                sources.subjects.push(name.to_owned());
            }
        }
    }
    for workload in results.workloads {
        let known = merged
            .workloads
            .iter()
            .position(|one| one.name == workload.name);
        match known {
            Some(index) => {
                let pair = format!("{} and {name}", sources.workloads[index]);
                kept.extend(check_workload(&pair, &merged.workloads[index], &workload)?);
            }
            None => {
                merged.workloads.push(workload);
                sources.workloads.push(name.to_owned());
            }
        }
    }
    let offset = u32::try_from(merged.runs.len()).map_err(|_| "too many runs".to_owned())?;
    sources
        .runs
        .extend(results.runs.iter().map(|_| name.to_owned()));
    merged.runs.extend(results.runs);
    merged
        .samples
        .extend(results.samples.into_iter().map(|mut sample| {
            sample.run += offset;
            sample
        }));
    Ok(())
}

/// The indices of a run that stands in both, whatever else of it was changed: it shares a measured
/// sample, or, where there is none to compare, the machine, the start and the command. Two machines
/// may well start the same command in the same second.
fn same_run(one: &Results, other: &Results) -> Option<(usize, usize)> {
    let known: HashMap<Measured<'_>, u32> = one
        .samples
        .iter()
        .filter_map(|sample| Some((measured(sample)?, sample.run)))
        .collect();
    let shared = other
        .samples
        .iter()
        .find_map(|sample| Some((*known.get(&measured(sample)?)?, sample.run)));
    if let Some((known, again)) = shared {
        return Some((known as usize, again as usize));
    }
    let has_none = |results: &Results, run: usize| {
        let mut own = results.samples.iter();
        !own.any(|sample| sample.run as usize == run && measured(sample).is_some())
    };
    let identity = |run: &Run| {
        let environment = &run.environment;
        (
            run.started.clone(),
            run.command.clone(),
            environment.cpu.clone(),
            environment.kernel.clone(),
            environment.memory_total_bytes,
        )
    };
    one.runs.iter().enumerate().find_map(|(known, run)| {
        let again = other
            .runs
            .iter()
            .position(|two| identity(two) == identity(run))?;
        (has_none(one, known) || has_none(other, again)).then_some((known, again))
    })
}

/// A sample by what no second measurement repeats: its times in nanoseconds and its cell.
type Measured<'a> = (
    &'a str,
    &'a str,
    Pass,
    u32,
    Option<&'a [u64]>,
    Option<u64>,
    u64,
);

/// `None` without a time.
fn measured(sample: &Sample) -> Option<Measured<'_>> {
    let passes_ns = sample
        .speed
        .as_ref()
        .map(|speed| speed.passes_ns.as_slice());
    let wall_ns = sample.program.as_ref().map(|program| program.wall_ns);
    let elapsed_ns = sample.elapsed_ns?;
    (passes_ns.is_some() || wall_ns.is_some()).then_some((
        &sample.workload,
        &sample.subject,
        sample.pass,
        sample.block,
        passes_ns,
        wall_ns,
        elapsed_ns,
    ))
}

fn check_settings(pair: &str, one: &Settings, other: &Settings) -> Result<Vec<String>, String> {
    let text = |value: &dyn std::fmt::Debug| format!("{value:?}");
    for (what, one, other) in [
        ("baseline", text(&one.baseline), text(&other.baseline)),
        (
            "second baseline",
            text(&one.baseline_twin),
            text(&other.baseline_twin),
        ),
        ("touch policy", text(&one.touch), text(&other.touch)),
        ("order", text(&one.order), text(&other.order)),
        (
            "replays per sample",
            text(&one.passes_per_sample),
            text(&other.passes_per_sample),
        ),
    ] {
        if one != other {
            return Err(format!(
                "{pair} differ in the {what}: {one} and {other}; they do not measure the same"
            ));
        }
    }
    let effort = |settings: &Settings| {
        text(&(
            settings.speed_blocks_min,
            settings.speed_blocks_max,
            settings.memory_blocks,
            settings.latency_blocks,
            settings.precision,
            settings.budget_seconds,
        ))
    };
    let mut warnings = Vec::new();
    if effort(one) != effort(other) {
        warnings.push(format!(
            "{pair} were measured with different numbers of blocks, precision or budget: their \
             intervals differ in width. The settings shown are the first file's."
        ));
    }
    if one.seed != other.seed {
        warnings.push(format!(
            "{pair} have different seeds ({} and {}): orders and offsets were drawn differently in each. \
             The settings shown are the first file's.",
            one.seed, other.seed
        ));
    }
    for (what, one, other) in [
        (
            "time limit of a sample",
            format!("{} s", one.timeout_seconds),
            format!("{} s", other.timeout_seconds),
        ),
        (
            "memory limit of a sample",
            limit(one.memory_limit_bytes),
            limit(other.memory_limit_bytes),
        ),
    ] {
        if one != other {
            warnings.push(format!(
                "{pair} differ in the {what}: {one} and {other}. A sample that failed in one might not \
                 have in the other. The settings shown are the first file's."
            ));
        }
    }
    Ok(warnings)
}

fn limit(bytes: Option<u64>) -> String {
    bytes.map_or_else(|| "none".to_owned(), |bytes| format!("{} MiB", bytes >> 20))
}

fn check_subject(pair: &str, one: &SubjectRecord, other: &SubjectRecord) -> Result<(), String> {
    let text = |value: &dyn std::fmt::Debug| format!("{value:?}");
    let shown = |value: &Option<String>| value.clone().unwrap_or_else(|| "unknown".to_owned());
    let name = &one.name;
    for (what, one, other) in [
        ("kind", text(&one.kind), text(&other.kind)),
        ("version", shown(&one.version), shown(&other.version)),
        ("build", shown(&one.build), shown(&other.build)),
        (
            "environment",
            text(&one.environment),
            text(&other.environment),
        ),
        ("role", text(&one.twin_of), text(&other.twin_of)),
    ] {
        if one != other {
            return Err(format!(
                "{pair} differ in the {what} of {name}: {one} and {other}; measure the same \
                 allocator, or give one of them another name"
            ));
        }
    }
    Ok(())
}

/// Whether two files replayed the same under this name; what only should be known is returned.
pub(super) fn check_workload(
    pair: &str,
    one: &WorkloadRecord,
    other: &WorkloadRecord,
) -> Result<Vec<String>, String> {
    let name = &one.name;
    let data = |record: &WorkloadRecord| {
        let sha256 = record.origin.as_ref().map(|origin| origin.sha256.clone());
        let files = record.program.as_ref().map(|one| one.files_sha256.clone());
        (sha256, files, record.profile.clone())
    };
    if one.kind != other.kind || data(one) != data(other) {
        return Err(format!(
            "{pair} differ in the data of the workload {name}: what was replayed is not the same"
        ));
    }
    if one.order != other.order {
        return Err(format!(
            "{pair} replayed the workload {name} in different orders"
        ));
    }
    let version = |record: &WorkloadRecord| {
        let program = record.program.as_ref();
        program.and_then(|program| program.version.clone())
    };
    let (own, others) = (version(one), version(other));
    Ok(if own == others {
        Vec::new()
    } else {
        let shown = |version: Option<String>| version.unwrap_or_else(|| "unknown".to_owned());
        vec![format!(
            "{pair} ran different versions of the program of {name}: {} and {}. Ratios of both are \
             taken together.",
            shown(own),
            shown(others)
        )]
    })
}
