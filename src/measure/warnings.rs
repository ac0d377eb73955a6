//! What a reader must know before believing the numbers of a results file, each with what to do.

#![forbid(unsafe_code)]

mod harness;
mod latency;
mod machines;
mod noisy;

use super::results::{Results, Status, SubjectKind, SummaryRow};
use super::summary;

/// Below so many blocks no interval of a median holds in 95 of 100 cases.
const FEW_BLOCKS: u32 = 6;

/// All warnings that these results call for.
pub fn of(results: &Results) -> Vec<String> {
    let mut warnings: Vec<String> = unoptimised_warning().into_iter().collect();
    warnings.extend(machines::of_each(&results.runs));
    warnings.extend(machines::together(results));
    warnings.extend(few_blocks(results));
    warnings.extend(noisy::of(results));
    for workload in &results.workloads {
        let Some(origin) = &workload.origin else {
            continue;
        };
        if origin.dropped_lines > 0 {
            warnings.push(format!(
                "{}: {} of the trace dropped (--lenient): the replay is not what was recorded.",
                workload.name,
                counted(origin.dropped_lines, "line was", "lines were")
            ));
        }
        let altered = origin.warnings.iter();
        warnings.extend(altered.map(|warning| format!("{}: {warning}", workload.name)));
    }
    warnings.extend(failures(results));
    warnings.extend(latency::of(results));
    warnings.extend(harness::of(results));
    warnings
}

/// The warning that is due if this program was built without optimisation: the harness, and with it
/// the linked allocators, are then slow in a way no user's program is.
pub fn unoptimised_warning() -> Option<String> {
    unoptimised(env!("MYMALLOC_OPT_LEVEL"))
}

fn unoptimised(level: &str) -> Option<String> {
    matches!(level, "0" | "1").then(|| {
        format!(
            "This program was built at optimisation level {level}: the linked allocators are slow, \
             and no figure means anything. Build with the profiles of its own Cargo.toml."
        )
    })
}

/// Workloads with fewer blocks than a verdict or even an interval needs, by their number.
fn few_blocks(results: &Results) -> Vec<String> {
    let needed = summary::blocks_needed(results).max(FEW_BLOCKS);
    let mut few: Vec<(u32, Vec<&str>)> = Vec::new();
    for workload in &results.workloads {
        let timed = results.summary.iter().filter(|row| {
            row.workload == workload.name && row.status == Status::Ok && row.blocks > 0
        });
        let Some(blocks) = timed
            .map(|row| row.blocks)
            .min()
            .filter(|blocks| *blocks < needed)
        else {
            continue;
        };
        match few.iter_mut().find(|(known, _)| *known == blocks) {
            Some((_, names)) => names.push(&workload.name),
            None => few.push((blocks, vec![&workload.name])),
        }
    }
    let told = few.into_iter().map(|(blocks, names)| {
        let lacking = if blocks < FEW_BLOCKS {
            "for a verdict, or for an interval that holds"
        } else {
            "for a verdict"
        };
        format!(
            "{}: too few blocks {lacking}: {blocks} of {needed}. Run more: --blocks {needed}, or 20 and \
             more for a decision.",
            listed(&names)
        )
    });
    told.collect()
}

/// "a", "a and b", "a, b, c and 4 more".
fn listed(names: &[&str]) -> String {
    const NAMED: usize = 3;
    match names {
        [] => String::new(),
        [one] => (*one).to_owned(),
        [first @ .., last] if names.len() <= NAMED => format!("{} and {last}", first.join(", ")),
        all => format!("{} and {} more", all[..NAMED].join(", "), all.len() - NAMED),
    }
}

/// What failed on each workload: subjects that failed for the same reason are told together.
fn failures(results: &Results) -> Vec<String> {
    let mut groups: Vec<(&SummaryRow, Vec<&str>)> = Vec::new();
    for row in &results.summary {
        if row.reason.is_none() || row.status == Status::Ok {
            continue;
        }
        let same = |group: &&mut (&SummaryRow, _)| {
            group.0.workload == row.workload && group.0.reason == row.reason
        };
        match groups.iter_mut().find(same) {
            Some((_, subjects)) => subjects.push(&row.subject),
            None => groups.push((row, vec![&row.subject])),
        }
    }
    let baseline = results.settings.baseline.as_str();
    let told = groups.iter().map(|(row, subjects)| {
        let effect = if subjects.contains(&baseline) {
            format!(" As {baseline} is the baseline, there are no ratios for this workload.")
        } else {
            String::new()
        };
        let (who, workload) = (listed(subjects), &row.workload);
        let reason = row.reason.as_deref().unwrap_or_default();
        format!("{who} on {workload}: {reason}.{effect}")
    });
    told.collect()
}

fn is_floor(row: &SummaryRow, results: &Results) -> bool {
    results
        .subjects
        .iter()
        .any(|subject| subject.name == row.subject && subject.kind == SubjectKind::Floor)
}

fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unoptimised_build_is_told() {
        assert!(unoptimised("0").expect("a warning").contains("level 0"));
        assert_eq!(unoptimised("3"), None);
        // The plain profiles of Cargo.toml measure optimised code; this test runs in one of them.
        assert_eq!(unoptimised_warning(), None);
    }

    #[test]
    fn profiles_without_release_are_optimised() {
        let manifest: toml::Table = include_str!("../../Cargo.toml").parse().expect("TOML");
        let dev = &manifest["profile"]["dev"];
        assert_eq!(dev["opt-level"].as_integer(), Some(3));
        // A level for "*" would be that of derive macros and build scripts, too: dependencies have that of `dev`.
        let has_level = |package: &toml::Value| package.get("opt-level").is_some();
        assert!(!has_level(&dev["package"]["*"]));
        assert!(
            manifest["profile"]["test"]["debug-assertions"]
                .as_bool()
                .expect("set")
        );
    }

    #[test]
    fn names_are_listed_and_then_counted() {
        assert_eq!(listed(&["a"]), "a");
        assert_eq!(listed(&["a", "b", "c"]), "a, b and c");
        assert_eq!(listed(&["a", "b", "c", "d", "e"]), "a, b, c and 2 more");
    }
}
