//! How many verdicts a measurement will give. Each is corrected for all of them together, over the
//! whole results file: a reader looks at the file, not at one row. The price is small, since the blocks
//! that a verdict needs grow with the logarithm of the number of verdicts: 8 for 6, 12 for 100.

#![forbid(unsafe_code)]

use crate::measure::pairs::Heap;
use crate::measure::results::SubjectKind;
use crate::run::programs;
use crate::subject::Subject;

/// Verdicts on these subjects over so many workloads that are replayed, on a fresh and on a used heap,
/// and so many real programs, which only some subjects can serve, once each.
pub(super) fn comparisons(
    subjects: &[Subject],
    baseline: &str,
    replays: usize,
    programs: usize,
) -> usize {
    let judged = || {
        let allocators = subjects
            .iter()
            .filter(|one| one.kind() != SubjectKind::Floor);
        allocators.filter(|one| one.name != baseline)
    };
    let serving = judged().filter(|one| programs::can_run(one)).count();
    replays * Heap::ALL.len() * judged().count() + programs * serving
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subject::catalogue::Catalogue;

    #[test]
    fn floor_rows_and_the_baseline_get_no_verdict() {
        let catalogue = Catalogue::load().expect("the bundled one");
        let names = ["system", "pagelist", "mimalloc", "null"].map(str::to_owned);
        let subjects = catalogue
            .select(Some(&names), &[], "system")
            .expect("bundled");
        assert_eq!(comparisons(&subjects, "system", 1, 0), 4);
        assert_eq!(comparisons(&subjects, "system", 3, 0), 12);
        // No program runs under an allocator that is linked in; with another baseline, system does.
        assert_eq!(comparisons(&subjects, "system", 0, 5), 0);
        assert_eq!(comparisons(&subjects, "mimalloc", 1, 5), 9);
    }
}
