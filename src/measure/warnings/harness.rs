//! How much of the times may be the harness's own. Of replays on several threads that is CPU time at
//! the operations, as everything that is compared: the threads' waiting for one another is not in it.

#![forbid(unsafe_code)]

use super::super::results::{Results, WorkloadRecord};
use super::{is_floor, listed};

/// Above this share of a row's time, the harness blurs what is measured.
const SHARE: f64 = 0.3;

/// One warning for each workload on which the share is high for some allocator.
pub(super) fn of(results: &Results) -> Vec<String> {
    let of_workload = |workload: &WorkloadRecord| {
        let rows = results
            .summary
            .iter()
            .filter(|row| row.workload == workload.name && !is_floor(row, results));
        let mut shares: Vec<(f64, &str)> = rows
            .filter_map(|row| Some((row.harness_share?, row.subject.as_str())))
            .filter(|(share, _)| *share > SHARE)
            .collect();
        shares.sort_by(|one, other| other.0.total_cmp(&one.0));
        (!shares.is_empty()).then(|| told(&workload.name, &shares))
    };
    results.workloads.iter().filter_map(of_workload).collect()
}

fn told(workload: &str, shares: &[(f64, &str)]) -> String {
    let each: Vec<String> = shares
        .iter()
        .map(|(share, subject)| format!("{subject} {:.0} %", 100.0 * share))
        .collect();
    let each: Vec<&str> = each.iter().map(String::as_str).collect();
    let each = listed(&each);
    let lost: Vec<&str> = shares
        .iter()
        .filter(|(share, _)| *share >= 1.0)
        .map(|(_, subject)| *subject)
        .collect();
    let lost = match lost.as_slice() {
        [] => String::new(),
        names => format!(
            " Nothing can be said of {} here: choose a workload in which the allocator has more to do.",
            listed(names)
        ),
    };
    format!(
        "{workload}: a large part of the time may be the harness's own (null's time as a share: {each}), so \
         differences look smaller than they are. A longer trace does not change that. Trust which is \
         faster, not by how much.{lost}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_do_hangs_on_the_share() {
        let text = told("w", &[(0.4, "a"), (0.35, "b")]);
        assert!(text.contains("a 40 % and b 35 %"), "{text}");
        assert!(
            text.contains("A longer trace does not change that"),
            "{text}"
        );
        assert!(!text.contains("Nothing can be said"), "{text}");
        let text = told("w", &[(1.2, "a"), (0.35, "b")]);
        assert!(text.contains("Nothing can be said of a here"), "{text}");
    }
}
