//! What two files must have in common to be compared, and what a reader must know of what they have
//! not.
//!
//! Refused: another baseline (ratios to it would move with it), other settings, another machine,
//! another workload of the same name. Noted: another version, build or environment of a subject, or of
//! the program that measured, for that is what a comparison is for.

#![forbid(unsafe_code)]

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Error, Result};
use crate::measure::merge;
use crate::measure::results::{Results, Run, SubjectKind, SubjectRecord, WorkloadRecord};
use crate::trace::Format;

pub(super) fn settings(old: &Results, new: &Results) -> Result<()> {
    let (a, b) = (&old.settings, &new.settings);
    if a.baseline != b.baseline {
        return Err(Error::usage(format!(
            "the files have different baselines ({} and {}): ratios to them cannot be compared; \
             measure one again with --baseline {}",
            a.baseline, b.baseline, a.baseline
        )));
    }
    let mut differences = Vec::new();
    if a.touch != b.touch {
        differences.push(format!("touch ({:?} and {:?})", a.touch, b.touch).to_lowercase());
    }
    if a.passes_per_sample != b.passes_per_sample {
        differences.push(format!(
            "replays per sample ({} and {})",
            a.passes_per_sample, b.passes_per_sample
        ));
    }
    if differences.is_empty() {
        return Ok(());
    }
    Err(Error::usage(format!(
        "the files were measured with different settings: {}; measure one again with the other's",
        differences.join(", ")
    )))
}

/// Runs in both files would be compared with themselves. All the same runs are another matter: then
/// different subjects are compared.
pub(super) fn runs(old: &Results, new: &Results) -> Result<()> {
    let mut shared = old.runs.iter().filter(|run| new.runs.contains(run));
    shared.next().map_or(Ok(()), |run| {
        Err(Error::usage(format!(
            "both files hold the run of {}, beside others: what is in both is no change; compare the \
             files that they were merged from",
            run.started
        )))
    })
}

/// What a machine is, as far as times depend on it.
type Machine = Vec<(&'static str, String)>;

fn machine(run: &Run) -> Machine {
    let environment = &run.environment;
    vec![
        ("processor", shown(&environment.cpu)),
        ("processors", environment.cpus.to_string()),
        ("kernel", shown(&environment.kernel)),
        ("C library", shown(&environment.libc)),
        (
            "transparent huge pages",
            shown(&environment.transparent_huge_pages),
        ),
    ]
}

/// A workload that was measured on several machines: the blocks of all would be one set, whose median
/// depends on how many each of them gave.
fn mixed_workload(results: &Results) -> Option<&str> {
    let machines: Vec<Machine> = results.runs.iter().map(machine).collect();
    let mut first: BTreeMap<&str, &Machine> = BTreeMap::new();
    results.samples.iter().find_map(|sample| {
        let own = machines.get(sample.run as usize)?;
        let known = first.entry(&sample.workload).or_insert(own);
        (*known != own).then_some(sample.workload.as_str())
    })
}

pub(super) fn machines(old: &Results, new: &Results) -> Result<()> {
    for (results, which) in [(old, "old"), (new, "new")] {
        if let Some(workload) = mixed_workload(results) {
            return Err(Error::usage(format!(
                "the {which} file holds {workload} from several machines; compare the files that it was \
                 merged from, machine by machine, or add --across-machines and trust the ratios less"
            )));
        }
    }
    let machines = |results: &Results| results.runs.iter().map(machine).collect();
    let (before, after): (BTreeSet<Machine>, BTreeSet<Machine>) = (machines(old), machines(new));
    if before == after {
        return Ok(());
    }
    let told = |machines: &BTreeSet<Machine>, at: usize| -> String {
        let values: BTreeSet<&str> = machines.iter().map(|facts| facts[at].1.as_str()).collect();
        values.into_iter().collect::<Vec<_>>().join(" and ")
    };
    let names = before.iter().next().map_or(&[][..], Vec::as_slice);
    let differences: Vec<String> = names
        .iter()
        .enumerate()
        .map(|(at, (name, _))| (name, told(&before, at), told(&after, at)))
        .filter(|(_, before, after)| before != after)
        .map(|(name, before, after)| format!("{name}: {before} before, {after} now"))
        .collect();
    Err(Error::usage(format!(
        "the files are from different machines ({}); measure both on one, or add --across-machines and \
         trust the ratios less",
        differences.join("; ")
    )))
}

/// The baseline is the yardstick: another one moves every ratio.
pub(super) fn baseline(
    old: &Results,
    new: &Results,
    is_allowed: bool,
    notes: &mut Vec<String>,
) -> Result<()> {
    let name = &new.settings.baseline;
    let (Some(before), Some(after)) = (subject(old, name), subject(new, name)) else {
        return Ok(());
    };
    let Some(differences) = differences(before, after) else {
        return Ok(());
    };
    if !is_allowed {
        return Err(Error::usage(format!(
            "the baseline {name} is another one in each file ({differences}): every ratio moves with it; \
             measure one file again, or add --other-baseline and take any change for the baseline's, too"
        )));
    }
    notes.push(format!(
        "The baseline {name} is another one in each file ({differences}): a change in all rows may be its own."
    ));
    Ok(())
}

/// Subjects that are others than they were.
pub(super) fn subjects(
    old: &Results,
    new: &Results,
    pairs: &[(String, String)],
    notes: &mut Vec<String>,
) {
    for (before, after) in pairs.iter().filter(|(before, after)| before == after) {
        let records = subject(old, before).zip(subject(new, after));
        if let Some(differences) = records.and_then(|(before, after)| differences(before, after)) {
            notes.push(format!("{after}: {differences}."));
        }
    }
}

fn subject<'a>(results: &'a Results, name: &str) -> Option<&'a SubjectRecord> {
    results.subjects.iter().find(|record| record.name == name)
}

/// In what two records of a subject differ, in words. The build of one that is linked in is the
/// build of the program that measured: see [`tools`].
fn differences(before: &SubjectRecord, after: &SubjectRecord) -> Option<String> {
    let build = |record: &SubjectRecord| match record.kind {
        SubjectKind::Linked | SubjectKind::Floor => "part of this program".to_owned(),
        SubjectKind::System | SubjectKind::Preloaded => shortened(&shown(&record.build)),
    };
    let text = |value: &dyn std::fmt::Debug| format!("{value:?}").to_lowercase();
    let environment = |record: &SubjectRecord| {
        let pairs = record.environment.iter();
        let pairs: Vec<String> = pairs
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        if pairs.is_empty() {
            "none".to_owned()
        } else {
            pairs.join(" ")
        }
    };
    let differences: Vec<String> = [
        ("kind", text(&before.kind), text(&after.kind)),
        ("version", shown(&before.version), shown(&after.version)),
        ("build", build(before), build(after)),
        ("environment", environment(before), environment(after)),
    ]
    .into_iter()
    .filter(|(_, before, after)| before != after)
    .map(|(what, before, after)| format!("{what} {before} before, {after} now"))
    .collect();
    (!differences.is_empty()).then(|| differences.join("; "))
}

/// Another build of the program that measured: its loop, and the allocators linked into it.
pub(super) fn tools(old: &Results, new: &Results, notes: &mut Vec<String>) {
    let tools = |results: &Results| -> String {
        let tools = results.runs.iter().map(|run| {
            let tool = &run.tool;
            format!(
                "{} {}, {}, optimisation level {}, build {}",
                tool.name,
                tool.version,
                tool.rustc,
                tool.opt_level,
                shortened(&shown(&tool.build))
            )
        });
        let all: BTreeSet<String> = tools.collect();
        all.into_iter().collect::<Vec<_>>().join(" and ")
    };
    let (before, after) = (tools(old), tools(new));
    if before != after {
        notes.push(format!(
            "The program that measured is another build ({before} before; {after} now): its own cost, and \
             the allocators linked into it, may differ."
        ));
    }
}

/// The workloads to compare, in the order of the new file; those that only the old one has stand last,
/// for their results are lost.
pub(super) fn workloads(
    old: &Results,
    new: &Results,
    notes: &mut Vec<String>,
) -> Result<Vec<String>> {
    let record = |results: &'_ Results, name: &str| -> Option<WorkloadRecord> {
        let mut records = results.workloads.iter();
        records.find(|record| record.name == name).cloned()
    };
    let (mut all, mut lost) = (Vec::new(), Vec::new());
    for after in &new.workloads {
        match record(old, &after.name) {
            Some(before) => {
                workload(&before, after)?;
                all.push(after.name.clone());
            }
            None => notes.push(format!("{}: only in the new file.", after.name)),
        }
    }
    for before in &old.workloads {
        if record(new, &before.name).is_none() {
            lost.push(before.name.clone());
        }
    }
    if all.is_empty() {
        let names = |results: &Results| {
            let names = results.workloads.iter().map(|record| record.name.as_str());
            names.collect::<Vec<_>>().join(", ")
        };
        return Err(Error::usage(format!(
            "the files have no workload in common: {} in the old one, {} in the new one",
            names(old),
            names(new)
        )));
    }
    all.extend(lost);
    Ok(all)
}

/// Whether both files replayed the same thing in the same way. What can be told in particular is;
/// [`merge::check_workload`] has the last word, for files that may not be merged may not be compared.
fn workload(before: &WorkloadRecord, after: &WorkloadRecord) -> Result<()> {
    let differs = |what: &str| {
        Err(Error::usage(format!(
            "{}: {what}; measure one of them again",
            after.name
        )))
    };
    if before.kind != after.kind {
        return differs("the same name stands for another kind of workload in each file");
    }
    if before.order != after.order {
        let name = |record: &WorkloadRecord| record.order.map_or("none", |order| order.name());
        return differs(&format!(
            "replayed in order {} before and {} now",
            name(before),
            name(after)
        ));
    }
    if let (Some(a), Some(b)) = (&before.origin, &after.origin) {
        if a.sha256 != b.sha256 {
            return differs(&format!(
                "the traces differ (SHA-256 {:.12} before and {:.12} now)",
                a.sha256, b.sha256
            ));
        }
        // A generated trace is no file: what the generator says of it tells the seed and the sizes.
        let is_generated = a.format == Format::Generated;
        if a.format != b.format || (is_generated && (&a.source, &a.notes) != (&b.source, &b.notes))
        {
            return differs(&format!(
                "the traces were made in different ways ({} before, {} now)",
                a.notes.join("; "),
                b.notes.join("; ")
            ));
        }
        if a.dropped_lines != b.dropped_lines {
            return differs("not as many lines of the trace were dropped");
        }
    }
    if before.threaded != after.threaded {
        return differs("its threads were held together in different ways");
    }
    let counts = |record: &WorkloadRecord| record.profile.as_ref().map(|profile| profile.counts);
    if counts(before) != counts(after) {
        return differs("the traces hold different operations");
    }
    if before.profile != after.profile {
        return differs("the traces hold other sizes or lifetimes");
    }
    if let (Some(a), Some(b)) = (&before.program, &after.program) {
        if (&a.command, &a.version) != (&b.command, &b.version) {
            return differs("the program's command or version differs");
        }
        if a.executables != b.executables {
            return differs("the program, or one that it calls, is another build");
        }
        if a.files_sha256 != b.files_sha256 {
            return differs(&format!(
                "the program's command or its input differs (SHA-256 {:.12} before and {:.12} now)",
                a.files_sha256, b.files_sha256
            ));
        }
    }
    match merge::check_workload("the two files", before, after) {
        Ok(warnings) if warnings.is_empty() => Ok(()),
        Ok(warnings) => Err(Error::usage(warnings.join(" "))),
        Err(message) => Err(Error::usage(message)),
    }
}

fn shown(value: &Option<String>) -> String {
    value.clone().unwrap_or_else(|| "unknown".to_owned())
}

/// As much of a build id or hash as a reader compares.
fn shortened(build: &str) -> String {
    let digits = build.strip_prefix("sha256:").unwrap_or(build);
    digits.chars().take(12).collect()
}
