//! When threads were at work: from their first event to their last.

#![forbid(unsafe_code)]

/// Most spans that cover one event.
pub(super) fn alive_peak(spans: &[Option<(u64, u64)>]) -> u32 {
    let (firsts, lasts) = sorted_ends(spans);
    let mut peak = 0;
    let mut ended = 0;
    for (begun, &first) in firsts.iter().enumerate() {
        while lasts[ended] < first {
            ended += 1;
        }
        peak = peak.max(begun + 1 - ended);
    }
    u32::try_from(peak).expect("at most as many as there are threads")
}

/// How many spans cover each event of `at`.
pub(in crate::trace) fn spans_at(
    spans: &[Option<(u64, u64)>],
    at: impl IntoIterator<Item = u64>,
) -> Vec<u32> {
    let (firsts, lasts) = sorted_ends(spans);
    at.into_iter()
        .map(|event| {
            let begun = firsts.partition_point(|&first| first <= event);
            let ended = lasts.partition_point(|&last| last < event);
            u32::try_from(begun - ended).expect("at most as many as there are threads")
        })
        .collect()
}

/// The first and the last events, each ascending.
fn sorted_ends(spans: &[Option<(u64, u64)>]) -> (Vec<u64>, Vec<u64>) {
    let mut firsts: Vec<u64> = spans.iter().flatten().map(|span| span.0).collect();
    let mut lasts: Vec<u64> = spans.iter().flatten().map(|span| span.1).collect();
    firsts.sort_unstable();
    lasts.sort_unstable();
    (firsts, lasts)
}
