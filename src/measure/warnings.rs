//! What a reader must know before believing the numbers of a results file, each with what to do.

#![forbid(unsafe_code)]

use super::results::{Results, Status, SubjectKind, SummaryRow};

/// Below so many blocks no interval of a median holds in 95 of 100 cases.
const FEW_BLOCKS: u32 = 6;
/// Above this share of a row's time, the harness blurs what is measured.
const HARNESS_SHARE: f64 = 0.3;

/// All warnings that these results call for.
pub fn of(results: &Results) -> Vec<String> {
    let mut warnings: Vec<String> = unoptimised_warning().into_iter().collect();
    for run in &results.runs {
        warnings.extend(run.environment.warnings());
    }
    warnings.extend(few_blocks(results.settings.speed_blocks_max));
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
    for row in &results.summary {
        warnings.extend(failure(row, &results.settings.baseline));
        if !is_floor(row, results) {
            warnings.extend(harness(row));
        }
    }
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

fn few_blocks(blocks: u32) -> Option<String> {
    (blocks < FEW_BLOCKS).then(|| {
        format!(
            "Only {} run: too few for an interval. Use --blocks 20 or more for a decision.",
            counted(u64::from(blocks), "block was", "blocks were")
        )
    })
}

fn failure(row: &SummaryRow, baseline: &str) -> Option<String> {
    let reason = row.reason.as_ref().filter(|_| row.status != Status::Ok)?;
    let effect = if row.subject == baseline {
        " As it is the baseline, there are no ratios for this workload."
    } else {
        ""
    };
    let (subject, workload) = (&row.subject, &row.workload);
    Some(format!("{subject} on {workload}: {reason}.{effect}"))
}

fn harness(row: &SummaryRow) -> Option<String> {
    let share = row.harness_share.filter(|share| *share > HARNESS_SHARE)?;
    let (subject, workload) = (&row.subject, &row.workload);
    Some(if share < 1.0 {
        format!(
            "{subject} on {workload}: up to {:.0} % of the time is the harness's own, so \
             differences between subjects look smaller than they are.",
            100.0 * share
        )
    } else {
        format!(
            "{subject} on {workload}: its time cannot be told from the harness's own. Replay a \
             longer trace."
        )
    })
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
        assert_eq!(dev["package"]["*"]["opt-level"].as_integer(), Some(3));
        assert!(
            manifest["profile"]["test"]["debug-assertions"]
                .as_bool()
                .expect("set")
        );
    }

    #[test]
    fn few_blocks_are_counted_in_words() {
        assert!(few_blocks(1).expect("a warning").contains("1 block was"));
        assert!(few_blocks(5).expect("a warning").contains("5 blocks were"));
        assert_eq!(few_blocks(6), None);
    }
}
