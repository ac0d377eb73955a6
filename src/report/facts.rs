//! Facts beside the numbers, each a name and a plain sentence or value: the trace, the method, the
//! machine, the subjects.

#![forbid(unsafe_code)]

use serde::Serialize;

use super::{format, threads};
use crate::measure::environment::Environment;
use crate::measure::results::{ProgramRecord, Results, SubjectKind, Touch, WorkloadRecord};
use crate::trace::profile::Profile;
use crate::trace::{EventCounts, Format, Origin};

/// A name and what there is to say about it.
#[derive(Serialize)]
pub(crate) struct Fact {
    pub(crate) name: String,
    pub(crate) value: String,
}

impl Fact {
    pub(crate) fn new(name: impl Into<String>, value: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            value: value.into(),
        }
    }
}

/// How many events of one kind, and whether replay performs them.
#[derive(Serialize)]
pub(crate) struct EventLine {
    pub(crate) name: &'static str,
    pub(crate) count: String,
    #[serde(skip)]
    pub(crate) number: u64,
    /// "yes", or why not.
    replayed: &'static str,
}

const FAILED_ALLOCATION: &str = "allocation that had failed while recording";

const FREE_UNSEEN: &str = "free of a block from before the recording";

/// Events by kind: those that are there, operations first.
pub(crate) fn events(counts: &EventCounts) -> Vec<EventLine> {
    let kinds = [
        ("malloc", counts.malloc, true),
        ("calloc", counts.calloc, true),
        ("realloc", counts.realloc, true),
        (
            "aligned allocation (memalign and its relatives)",
            counts.aligned,
            true,
        ),
        ("free", counts.free, true),
        ("free(NULL)", counts.free_null, true),
        (FREE_UNSEEN, counts.free_unseen, false),
        ("thread start", counts.thread_start, false),
        ("thread end", counts.thread_end, false),
        ("mark of the recording tool", counts.mark, false),
        (FAILED_ALLOCATION, counts.failed_allocation, false),
    ];
    kinds
        .into_iter()
        .filter(|&(_, count, _)| count > 0)
        .map(|(name, count, is_operation)| EventLine {
            name,
            count: format::count(count),
            number: count,
            replayed: match (is_operation, name) {
                (true, _) => "yes",
                (false, FREE_UNSEEN) => "no: no allocator can be given a block that it never gave",
                (false, FAILED_ALLOCATION) => "no: it had failed while recording",
                (false, _) => "no: not an allocator operation",
            },
        })
        .collect()
}

/// What the trace is like, in numbers.
pub(crate) fn trace(record: &WorkloadRecord) -> Vec<Fact> {
    match (&record.origin, &record.profile) {
        (Some(origin), Some(profile)) => trace_of(origin, profile),
        _ => Vec::new(),
    }
}

/// The same of a trace that was not replayed.
pub(crate) fn trace_of(origin: &Origin, profile: &Profile) -> Vec<Fact> {
    let bytes = |value: u64| format::bytes(value as f64);
    let threads = if profile.threads > profile.threads_alive_peak && profile.threads_alive_peak > 0
    {
        format!(
            "{}, at most {} between their first and last event at once",
            format::count(profile.threads.into()),
            profile.threads_alive_peak
        )
    } else {
        format::count(profile.threads.into())
    };
    let mut source = origin.source.clone();
    if !origin.compression.is_empty() {
        source.push_str(&format!(" ({})", origin.compression.join(", ")));
    }
    let mut facts = vec![
        Fact::new("Source", source),
        Fact::new("Format", format_words(origin.format)),
        Fact::new("Threads", threads),
        Fact::new(
            "Blocks handed to another thread",
            format::count(profile.cross_thread_frees),
        ),
        Fact::new("Bytes asked for, in all", bytes(profile.requested_bytes)),
        Fact::new(
            "Live at the peak",
            format!(
                "{} in {}",
                bytes(profile.live_bytes_peak),
                format::plural(profile.live_blocks_peak, "block", "blocks")
            ),
        ),
        Fact::new(
            "Never freed",
            format!(
                "{} in {}",
                bytes(profile.live_bytes_end),
                format::plural(profile.live_blocks_end, "block", "blocks")
            ),
        ),
        Fact::new("Largest request", bytes(profile.largest_bytes)),
    ];
    if !origin.sha256.is_empty() {
        facts.push(Fact::new("SHA-256", origin.sha256.clone()));
    }
    facts
}

/// What the reader of the trace could not know, and what it dropped.
pub(crate) fn trace_notes(record: &WorkloadRecord) -> Vec<String> {
    record.origin.as_ref().map_or(Vec::new(), origin_notes)
}

/// The same of a trace that was not replayed.
pub(crate) fn origin_notes(origin: &Origin) -> Vec<String> {
    let mut notes = origin.notes.clone();
    let dropped = origin.dropped_lines;
    if dropped > 0 {
        let lines = format::plural(dropped, "line was", "lines were");
        notes.push(format!(
            "{lines} dropped while reading; the first: {}",
            origin.dropped_examples.join("; ")
        ));
    }
    notes
}

/// A program's command as one would type it.
pub(crate) fn command(program: &ProgramRecord) -> String {
    let words: Vec<String> = program
        .command
        .iter()
        .map(|word| format::shell_word(word))
        .collect();
    words.join(" ")
}

/// A real program.
pub(crate) fn program(program: &ProgramRecord) -> Vec<Fact> {
    let mut facts = vec![Fact::new("Command", command(program))];
    if let Some(version) = &program.version {
        facts.push(Fact::new("Version", version.clone()));
    }
    if !program.setup.is_empty() {
        facts.push(Fact::new("To install it", program.setup.clone()));
    }
    facts
}

pub(crate) fn format_words(format: Format) -> &'static str {
    match format {
        Format::LogallocRaw => "logalloc log with addresses",
        Format::LogallocMunged => "logalloc log with slot numbers",
        Format::Text => "native text format",
        Format::Android => "Android memory_replay",
        Format::Rep => "malloc lab .rep",
        Format::Binary => "native binary format",
        Format::Mtrace => "glibc mtrace",
        Format::Valgrind => "valgrind --trace-malloc",
        Format::Ltrace => "ltrace",
        Format::HeaptrackRaw => "heaptrack, as recorded",
        Format::HeaptrackInterpreted => "heaptrack, interpreted",
        Format::Bytehound => "bytehound replay",
        Format::DjTrace => "DJ Delorie's malloc trace",
        Format::DjDump => "DJ Delorie's malloc trace, dumped as text",
        Format::DjWorkload => "DJ Delorie's malloc workload",
        Format::Protobuf => "protocol buffers of a malloc laboratory",
        Format::Alk => "alk, processed",
        Format::Chattymalloc => "chattymalloc",
        Format::ChattymallocText => "chattymalloc, as text",
        Format::Tralloc => "tracing-allocator log",
        Format::Memleak => "bcc memleak",
        Format::Tags => "Allocate and Free of tags",
        Format::Wire => "as our recorder wrote it",
        Format::Generated => "made by a generator of this project",
    }
}

/// The line under the title: when, with what, how long.
pub(crate) fn subtitle(results: &Results) -> String {
    let seconds = results.first_run().elapsed_ns as f64 / 1e9;
    let elapsed = if seconds < 120.0 {
        format!("{seconds:.1} s")
    } else {
        format!("{:.0} min", seconds / 60.0)
    };
    format!(
        "Measured {} in {elapsed} by {} {}",
        results.first_run().started,
        results.first_run().tool.name,
        results.first_run().tool.version
    )
}

/// How it was measured.
pub(crate) fn method(results: &Results) -> Vec<Fact> {
    let settings = &results.settings;
    let order = settings.order.map_or(
        "threads for traces of several threads, otherwise serial",
        threads::order_words,
    );
    let touch = match settings.touch {
        Touch::None => "nothing is written into new blocks",
        Touch::Page => "one byte in each OS page of a new block is written",
        Touch::Line => {
            "one byte in each cache line of a new block is written, in each OS page of one above 4 KiB"
        }
        Touch::Used => {
            "a new block is touched as the recorded program did, as far as the trace tells: one byte in each \
             cache line up to 4 KiB, of larger ones in as many OS pages as it touched; the first byte is read \
             before a block is freed"
        }
        Touch::Busy => {
            "a new block is touched as the recorded program did, as far as the trace tells: one byte in each \
             cache line up to 4 KiB, of larger ones in as many OS pages as it touched; the first byte is read \
             before a block is freed; in the speed pass, 8 cache lines of other memory are touched between \
             the calls"
        }
        Touch::All => "every byte of a new block is written",
    };
    vec![
        Fact::new("Order", order),
        Fact::new(
            "Speed pass",
            format!(
                "{}; in each, every subject runs once, in random order, in a fresh process; {} of the trace per process",
                format::plural(settings.speed_blocks_max.into(), "block", "blocks"),
                format::plural(settings.passes_per_sample.into(), "replay", "replays")
            ),
        ),
        Fact::new(
            "Memory pass",
            format!(
                "{}, in processes of their own; nothing is timed there",
                format::plural(settings.memory_blocks.into(), "block", "blocks")
            ),
        ),
        Fact::new(
            "Latency pass",
            match settings.latency_blocks {
                0 => "none".to_owned(),
                blocks => format!(
                    "{}, in processes of their own; every call is timed by itself",
                    format::plural(blocks.into(), "block", "blocks")
                ),
            },
        ),
        Fact::new("Touch", touch),
        Fact::new("Baseline", settings.baseline.clone()),
        Fact::new(
            "Interval",
            format!(
                "bootstrap of the median, 95 %, {} resamples; ratios are taken inside a block",
                format::count(settings.bootstrap_resamples.into())
            ),
        ),
        Fact::new(
            "Time limit",
            format!("{} s per process", settings.timeout_seconds),
        ),
        Fact::new("Seed", settings.seed.to_string()),
        Fact::new(
            "Built",
            format!(
                "optimisation level {}, {}",
                results.first_run().tool.opt_level,
                results.first_run().tool.rustc
            ),
        ),
    ]
}

/// One run: when, where, how to repeat it.
#[derive(Serialize)]
pub(crate) struct RunFacts {
    title: String,
    environment: Vec<Fact>,
    command: String,
    workloads: String,
}

/// All runs of the file.
pub(crate) fn runs(results: &Results) -> Vec<RunFacts> {
    results
        .runs
        .iter()
        .enumerate()
        .map(|(index, run)| {
            let mut workloads: Vec<&str> = Vec::new();
            let own = results
                .samples
                .iter()
                .filter(|sample| sample.run as usize == index);
            for sample in own {
                if !workloads.contains(&sample.workload.as_str()) {
                    workloads.push(&sample.workload);
                }
            }
            let words: Vec<String> = run
                .command
                .iter()
                .map(|word| format::shell_word(word))
                .collect();
            let mut environment = environment(&run.environment);
            if !run.resumed.is_empty() {
                let times = run.resumed.join(", ");
                environment.insert(0, Fact::new("Went on after an interruption", times));
            }
            RunFacts {
                title: format!("Run {}, {}", index + 1, run.started),
                environment,
                command: words.join(" "),
                workloads: format::list(&workloads),
            }
        })
        .collect()
}

/// The machine and the moment.
fn environment(environment: &Environment) -> Vec<Fact> {
    let bytes = |value: u64| format::bytes(value as f64);
    let mut facts = Vec::new();
    let mut add = |name: &str, value: Option<String>| {
        facts.push(Fact::new(
            name,
            value.unwrap_or_else(|| "not known".to_owned()),
        ));
    };
    add("Processor", environment.cpu.clone());
    add("Processors usable", Some(environment.cpus.to_string()));
    add("Kernel", environment.kernel.clone());
    add("C library", environment.libc.clone());
    add("OS page", Some(bytes(environment.page_size_bytes)));
    let memory =
        environment
            .memory_total_bytes
            .map(|total| match environment.memory_available_bytes {
                Some(available) => format!(
                    "{}, {} of it available at the start",
                    bytes(total),
                    bytes(available)
                ),
                None => bytes(total),
            });
    add("Memory", memory);
    add(
        "Memory limit of the control group",
        Some(
            environment
                .cgroup_memory_limit_bytes
                .map_or("none".to_owned(), bytes),
        ),
    );
    add(
        "Transparent huge pages",
        environment.transparent_huge_pages.clone(),
    );
    add("Frequency governor", environment.governor.clone());
    add(
        "Address randomisation",
        environment.aslr.map(|level| level.to_string()),
    );
    add("The kernel’s clock", environment.clock_source.clone());
    let load = environment
        .load_average_start
        .map(|start| match environment.load_average_end {
            Some(end) => format!("{start:.2} before, {end:.2} after"),
            None => format!("{start:.2} before"),
        });
    add("Load average, 1 min", load);
    if !environment.allocator_variables.is_empty() {
        add(
            "Variables that steer an allocator",
            Some(environment.allocator_variables.join(" ")),
        );
    }
    facts
}

/// What each subject is.
pub(crate) fn subjects(results: &Results) -> Vec<Fact> {
    let subjects = results.subjects.iter().map(|subject| {
        let mut words = subject.description.trim_end_matches('.').to_owned();
        let kind = match subject.kind {
            SubjectKind::Linked => "linked in",
            SubjectKind::System => "the C library's own",
            SubjectKind::Preloaded => "preloaded",
            SubjectKind::Floor => "a bound, no allocator",
        };
        words.push_str(if words.is_empty() { "" } else { "; " });
        words.push_str(kind);
        if let Some(path) = &subject.path {
            words.push_str(&format!(" from {path}"));
        }
        if let Some(version) = &subject.version {
            words.push_str(&format!("; version {version}"));
        }
        if let Some(build) = &subject.build {
            words.push_str(&format!("; build {build}"));
        }
        for (name, value) in &subject.environment {
            words.push_str(&format!("; {name}={value}"));
        }
        if let Some(baseline) = &subject.twin_of {
            words.push_str(&format!("; {baseline} a second time, for the noise floor"));
        }
        Fact::new(subject.name.clone(), words)
    });
    subjects.collect()
}
