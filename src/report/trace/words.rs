//! A trace in sentences, the same on the page and on the terminal.

#![forbid(unsafe_code)]

use std::path::Path;

use crate::report::facts::{self, Fact};
use crate::report::format;
use crate::report::table::text::{columns_of, wrap};
use crate::trace::Origin;
use crate::trace::tools::stat::{GrowthBucket, Statistics};

fn bytes(value: u64) -> String {
    format::bytes(value as f64)
}

/// The file's name without its folders.
pub(crate) fn short_name(statistics: &Statistics) -> String {
    let source = &statistics.origin.source;
    let name = Path::new(source).file_name();
    format::printable(&name.map_or(source.into(), |name| name.to_string_lossy()))
}

/// What was read.
pub(crate) fn subtitle(statistics: &Statistics) -> String {
    let profile = &statistics.profile;
    let mut words = format!(
        "{}, {}, {}",
        facts::format_words(statistics.origin.format),
        format::plural(profile.counts.total(), "event", "events"),
        format::plural(profile.threads.into(), "thread", "threads"),
    );
    if let Some(duration_ns) = statistics.duration_ns {
        words.push_str(&format!(", {}", format::time_ns(duration_ns as f64)));
    }
    words
}

/// The trace in a sentence.
pub(crate) fn sentence(statistics: &Statistics) -> String {
    let profile = &statistics.profile;
    let blocks: u64 = profile.sizes.iter().map(|bucket| bucket.count).sum();
    if blocks == 0 {
        return "No block was allocated.".to_owned();
    }
    format!(
        "{} with {} in all; at most {} live at once, in {}.",
        format::plural(blocks, "block", "blocks"),
        bytes(profile.requested_bytes),
        bytes(profile.live_bytes_peak),
        format::plural(profile.live_blocks_peak, "block", "blocks"),
    )
}

/// What stands out.
pub(crate) fn remarks(statistics: &Statistics) -> Vec<String> {
    let profile = &statistics.profile;
    let freed: u64 = profile.lifetimes.iter().map(|bucket| bucket.count).sum();
    let mut remarks = Vec::new();
    let total: u64 = profile.sizes.iter().map(|bucket| bucket.count).sum();
    let small = profile
        .sizes
        .iter()
        .filter(|bucket| bucket.high_bytes <= 256);
    let small: u64 = small.map(|bucket| bucket.count).sum();
    if total > 0 {
        remarks.push(format!(
            "{} of requests are for at most 256 B; the largest is {}.",
            format::percent(small as f64 / total as f64),
            bytes(profile.largest_bytes)
        ));
    }
    if freed > 0 {
        let young = profile
            .lifetimes
            .iter()
            .filter(|bucket| bucket.high_events <= 128);
        let young: u64 = young.map(|bucket| bucket.count).sum();
        remarks.push(format!(
            "{} of freed blocks lived for at most 128 events.",
            format::percent(young as f64 / freed as f64)
        ));
        if profile.threads > 1 {
            remarks.push(format!(
                "{} of frees are by another thread than the one that allocated.",
                format::percent(profile.cross_thread_frees as f64 / freed as f64)
            ));
        }
    }
    if profile.live_blocks_end > 0 {
        remarks.push(format!(
            "{} with {} were never freed.",
            format::plural(profile.live_blocks_end, "block", "blocks"),
            bytes(profile.live_bytes_end)
        ));
    }
    if profile.counts.free_unseen > 0 {
        remarks.push(format!(
            "{} of blocks that were allocated before the recording began.",
            format::plural(profile.counts.free_unseen, "free", "frees")
        ));
    }
    if statistics.times_backwards > 0 {
        remarks.push(format!(
            "{} stamped earlier than one before: calls of threads overlap.",
            format::plural(statistics.times_backwards, "event is", "events are")
        ));
    }
    remarks
}

/// Reallocations in numbers.
pub(crate) fn reallocs(statistics: &Statistics) -> Vec<Fact> {
    let reallocs = &statistics.reallocs;
    let mut facts = vec![
        Fact::new("Of a block", format::count(reallocs.of_blocks)),
        Fact::new("Of null", format::count(reallocs.of_null)),
        Fact::new(
            "Grown, shrunk, unchanged",
            format!(
                "{}, {}, {}",
                format::count(reallocs.grown),
                format::count(reallocs.shrunk),
                format::count(reallocs.unchanged)
            ),
        ),
        Fact::new("Copied, at most", bytes(reallocs.copied_bytes_most)),
        Fact::new(
            "Blocks that were reallocated",
            format!(
                "{}, at most {} each",
                format::count(reallocs.chains),
                format::plural(reallocs.chain_longest, "time", "times")
            ),
        ),
    ];
    if reallocs.cross_thread > 0 {
        facts.push(Fact::new(
            "By another thread",
            format::count(reallocs.cross_thread),
        ));
    }
    facts
}

/// Facts as lines of a terminal: names, and values below one another.
pub(crate) fn aligned(facts: &[Fact], width: usize) -> Vec<String> {
    let names = facts
        .iter()
        .map(|fact| columns_of(&fact.name))
        .max()
        .unwrap_or(0);
    let room = width.saturating_sub(names + 5).max(20);
    let lines = facts.iter().flat_map(|Fact { name, value }| {
        let pad = " ".repeat(names - columns_of(name));
        let named = std::iter::once(format!("  {name}:{pad}  "))
            .chain(std::iter::repeat(" ".repeat(names + 5)));
        let values = wrap(value, room, "");
        named
            .zip(values)
            .map(|(name, value)| format!("{name}{value}"))
    });
    lines.collect()
}

/// `1.25 to 1.5`, `unchanged`, `over 8`.
pub(crate) fn growth(bucket: &GrowthBucket) -> String {
    match bucket.up_to {
        None => format!("over {}", bucket.above),
        Some(up_to) if up_to == bucket.above => "unchanged".to_owned(),
        Some(up_to) if bucket.above == 0.0 => format!("up to {up_to}"),
        Some(1.0) => format!("{} to below 1", bucket.above),
        Some(up_to) if bucket.above == 1.0 => format!("above 1 to {up_to}"),
        Some(up_to) => format!("{} to {up_to}", bucket.above),
    }
}

/// `5–8`, or `1` where both ends are the same.
pub(crate) fn range(low: u64, high: u64) -> String {
    if low == high {
        format::count(low)
    } else {
        format!("{}–{}", format::count(low), format::count(high))
    }
}

/// That a table holds the first `listed` of `total` things; none if it holds all.
pub(crate) fn not_listed(total: u64, listed: usize, one: &str, many: &str) -> Option<String> {
    let hidden = total
        .checked_sub(listed as u64)
        .filter(|&hidden| hidden > 0)?;
    let more = format::plural(hidden, &format!("more {one}"), &format!("more {many}"));
    Some(format!("And {more} with less."))
}

/// What the recorder told of itself.
pub(crate) fn recording(origin: &Origin) -> Vec<Fact> {
    let Some(recording) = &origin.recording else {
        return Vec::new();
    };
    let words: Vec<String> = std::iter::once(&recording.program)
        .chain(&recording.arguments)
        .filter(|word| !word.is_empty())
        .map(|word| format::shell_word(word))
        .collect();
    let mut facts = Vec::new();
    let mut told = |name: &str, value: String| {
        if !value.is_empty() {
            facts.push(Fact::new(name, value));
        }
    };
    told("Command", words.join(" "));
    told("Began", recording.began.clone());
    told("Ended", recording.ended.clone());
    if recording.wall_ns > 0 {
        told("Took", format::time_ns(recording.wall_ns as f64));
    }
    told("Allocator that served it", recording.allocator.clone());
    told("C library", recording.c_library.clone());
    told(
        "Calls not recorded",
        format::count(recording.unrecorded_calls),
    );
    told("Events lost", format::count(recording.lost_events));
    told(
        "Stopped early",
        recording.stopped.clone().unwrap_or_default(),
    );
    if let Some(cost_ps) = recording.overhead_ps_per_operation {
        let cost = format::time_ns(cost_ps as f64 / 1000.0);
        told(
            "Cost of recording",
            format!("{cost} of CPU time per operation"),
        );
    }
    told("Recorder", recording.recorder.clone());
    facts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_have_names() {
        let name = |above, up_to| {
            growth(&GrowthBucket {
                above,
                up_to,
                count: 1,
            })
        };
        assert_eq!(name(0.0, Some(0.5)), "up to 0.5");
        assert_eq!(name(0.5, Some(1.0)), "0.5 to below 1");
        assert_eq!(name(1.0, Some(1.0)), "unchanged");
        assert_eq!(name(1.0, Some(1.125)), "above 1 to 1.125");
        assert_eq!(name(2.0, Some(4.0)), "2 to 4");
        assert_eq!(name(8.0, None), "over 8");
        assert_eq!((range(1, 1).as_str(), range(5, 8).as_str()), ("1", "5–8"));
        assert_eq!(not_listed(30, 30, "thread", "threads"), None);
        assert_eq!(
            not_listed(32, 30, "thread", "threads").as_deref(),
            Some("And 2 more threads with less.")
        );
    }
}
