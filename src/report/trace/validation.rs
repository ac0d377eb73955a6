//! What of a trace holds and what does not, as text for a terminal.

#![forbid(unsafe_code)]

use super::words;
use crate::report::facts::{self, Fact};
use crate::report::format;
use crate::report::table::text::wrap;
use crate::trace::tools::validate::Validation;
use crate::trace::{Format, Origin};

/// Renders a validation within `width` columns.
pub fn text(name: &str, validation: &Validation, width: usize) -> String {
    let profile = &validation.profile;
    let events = profile.counts.total();
    let mut lines = Vec::new();
    let verdict = match (validation.is_valid(), validation.ending.is_some()) {
        (true, _) => "valid".to_owned(),
        (false, true) => "not valid".to_owned(),
        (false, false) => format!(
            "not valid; what follows is of the {} before the fault",
            format::plural(events, "event", "events")
        ),
    };
    lines.extend(wrap(
        &format!("{}: {verdict}", format::printable(name)),
        width,
        "  ",
    ));
    for fault in &validation.faults {
        lines.extend(wrap(&format!("fault: {fault}"), width, "  "));
    }
    lines.extend(words::aligned(&facts(validation), width));
    let ending = validation.ending.iter();
    for note in ending.flat_map(|ending| &ending.origin.notes) {
        lines.extend(wrap(&format!("note: {note}"), width, "  "));
    }
    let mut text = lines.join("\n");
    text.push('\n');
    text
}

/// What of the file was held against itself.
fn checked(origin: &Origin, chunks: Option<u64>) -> String {
    let mut words = match (origin.format, chunks) {
        (Format::Binary, Some(chunks)) => format!(
            "to its end; the CRC-32 of {} and of the three sections behind matches, and the index \
             leads to every chunk",
            format::plural(chunks, "chunk", "chunks")
        ),
        (Format::Binary, None) => {
            "to its end; the CRC-32 of every section matches, and the index is that of the chunks"
                .to_owned()
        }
        (Format::Text, _) => "to its last line, which tells as many events as there are".to_owned(),
        (Format::Wire, _) => "to its end, or to where the program was killed".to_owned(),
        _ => "to its end; the format has no checksums".to_owned(),
    };
    for compression in &origin.compression {
        words.push_str(match compression.as_str() {
            "zstd" => "; zstd’s checksums match, where it has any",
            "gzip" | "zip" => "; the CRC-32 of what was compressed matches",
            _ => "",
        });
    }
    words
}

fn facts(validation: &Validation) -> Vec<Fact> {
    let profile = &validation.profile;
    let counts = &profile.counts;
    let events = counts.total();
    let kinds: Vec<String> = facts::events(counts)
        .into_iter()
        .map(|event| format!("{} {}", event.name, event.count))
        .collect();
    let of_events = |number: u64| match number {
        0 => "none".to_owned(),
        all if all == events => "all events".to_owned(),
        some => format!("{} of the events", format::count(some)),
    };
    let mut times = of_events(validation.stamped);
    if validation.times_backwards > 0 {
        times.push_str(&format!(
            ", {} earlier than one before",
            format::count(validation.times_backwards)
        ));
    }
    let mut told = vec![
        Fact::new("events", format::count(events)),
        Fact::new("of these", format::list(&kinds)),
        Fact::new("threads", format::count(profile.threads.into())),
        Fact::new(
            "never freed",
            format!(
                "{} in {}",
                format::bytes(profile.live_bytes_end as f64),
                format::plural(profile.live_blocks_end, "block", "blocks")
            ),
        ),
        Fact::new("time stamps", times),
        Fact::new("call sites", of_events(validation.sited)),
    ];
    if let Some(ending) = &validation.ending {
        let origin = &ending.origin;
        let mut format = facts::format_words(origin.format).to_owned();
        if !origin.compression.is_empty() {
            format.push_str(&format!(", {}", origin.compression.join(", ")));
        }
        told.insert(0, Fact::new("format", format));
        told.push(Fact::new("read", checked(origin, validation.chunks)));
        told.push(Fact::new("SHA-256", origin.sha256.clone()));
        if let Some(recording) = &origin.recording {
            told.push(Fact::new(
                "recording",
                format!(
                    "{} lost, {} not recorded",
                    format::plural(recording.lost_events, "event", "events"),
                    format::plural(recording.unrecorded_calls, "call", "calls")
                ),
            ));
        }
    }
    told.retain(|fact| !fact.value.is_empty());
    told
}
