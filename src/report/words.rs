//! Ratios in words: "23 % less time than", "9.0 times the time of", and the interval beside them.

#![forbid(unsafe_code)]

use super::format;
use super::model::Row;
use crate::measure::results::{Estimate, Verdict};

/// More memory than the baseline's, before the word "memory".
pub(crate) fn more_words(ratio: f64) -> String {
    if ratio < 2.0 {
        format!("{} more", format::percent(ratio - 1.0))
    } else {
        format!("{} times the", trimmed_ratio(ratio))
    }
}

/// A ratio of times in words that need no name after them: `3.0 times its time`.
pub(crate) fn own_time_words(ratio: f64) -> String {
    if ratio >= 2.0 && ratio.is_finite() {
        format!("{} times its time", trimmed_ratio(ratio))
    } else {
        format!("{} it", time_words(ratio))
    }
}

/// A ratio of times in words that need "than" or "of" and a name after them.
pub(crate) fn time_words(ratio: f64) -> String {
    if !ratio.is_finite() {
        return "an unknown share of the time of".to_owned();
    }
    if ratio < 0.9995 {
        format!("{} less time than", format::percent(1.0 - ratio))
    } else if ratio < 1.0005 {
        "the same time as".to_owned()
    } else if ratio < 2.0 {
        format!("{} more time than", format::percent(ratio - 1.0))
    } else {
        format!("{} times the time of", trimmed_ratio(ratio))
    }
}

fn trimmed_ratio(ratio: f64) -> String {
    if ratio < 99.5 {
        format!("{ratio:.1}")
    } else {
        format::ratio(ratio)
    }
}

/// The interval in the same words as its median.
pub(crate) fn interval_words(ratio: &Estimate) -> String {
    let (low, high) = (ratio.low, ratio.high);
    if high < 1.0 {
        let (from, to) = (format::percent(1.0 - high), format::percent(1.0 - low));
        format!("95 % interval: {from} to {to} less")
    } else if low > 1.0 && ratio.median < 2.0 {
        let (from, to) = (format::percent(low - 1.0), format::percent(high - 1.0));
        format!("95 % interval: {from} to {to} more")
    } else {
        format!(
            "95 % interval: {} to {} times",
            format::ratio(low),
            format::ratio(high)
        )
    }
}

/// Whether a ratio's median may be told as a difference: judged to be one or, without a verdict, if
/// its interval lies on one side of 1. Too few blocks for an interval leave a hint, told as one.
pub(crate) fn shows_difference(row: &Row<'_>, ratio: &Estimate, verdict: Verdict) -> bool {
    match verdict {
        Verdict::Faster | Verdict::Slower => true,
        Verdict::NotDistinguishable => false,
        Verdict::Unknown => !row.has_intervals || ratio.high < 1.0 || ratio.low > 1.0,
    }
}

/// What a row does beside the baseline: `takes 23 % less time than system`, or
/// `is not distinguishable from system` where no difference was shown.
pub(crate) fn takes_words(
    row: &Row<'_>,
    ratio: &Estimate,
    verdict: Verdict,
    baseline: &str,
) -> String {
    if shows_difference(row, ratio, verdict) {
        format!("takes {} {baseline}", time_words(ratio.median))
    } else {
        format!("is not distinguishable from {baseline}")
    }
}

/// How well the median is known: its interval or, with too few blocks for one, their number.
pub(crate) fn certainty_words(row: &Row<'_>, ratio: &Estimate) -> String {
    if row.has_intervals {
        interval_words(ratio)
    } else {
        too_few_words(row.speed_samples)
    }
}

/// Why there is no interval.
pub(crate) fn too_few_words(blocks: usize) -> String {
    let blocks = format::plural(blocks as u64, "block", "blocks");
    format!("{blocks}: too few for an interval")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_become_words() {
        assert_eq!(time_words(0.77), "23 % less time than");
        assert_eq!(time_words(1.05), "5.0 % more time than");
        assert_eq!(time_words(1.0001), "the same time as");
        assert_eq!(time_words(3.0), "3.0 times the time of");
        assert_eq!(time_words(f64::NAN), "an unknown share of the time of");
    }

    #[test]
    fn a_pronoun_takes_no_name_after_it() {
        assert_eq!(own_time_words(108.5), "108.5 times its time");
        assert_eq!(own_time_words(1.24), "24 % more time than it");
        assert_eq!(
            own_time_words(f64::NAN),
            "an unknown share of the time of it"
        );
    }

    #[test]
    fn intervals_keep_their_side() {
        let words = |low, median, high| interval_words(&Estimate { median, low, high });
        assert_eq!(words(0.75, 0.77, 0.8), "95 % interval: 20 % to 25 % less");
        assert_eq!(words(1.1, 1.2, 1.3), "95 % interval: 10 % to 30 % more");
        assert_eq!(words(0.9, 1.2, 1.3), "95 % interval: 0.900 to 1.300 times");
        assert_eq!(words(2.0, 3.0, 4.0), "95 % interval: 2.000 to 4.000 times");
    }
}
