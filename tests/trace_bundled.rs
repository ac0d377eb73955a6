//! The bundled traces hold exactly what their definitions say.

#![cfg(feature = "suite")]
#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use mymalloc::trace::profile::Profile;
use mymalloc::trace::tools::slice::{LiveSet, Window, slice};
use mymalloc::trace::{EventCounts, Format, Operation, ReadOptions, Recording, Trace, read};
use mymalloc::workload::definition::{Kind, find_for_trace, load_all};

fn workloads() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("workloads")
}

fn bundled(name: &str) -> Trace {
    let path = workloads().join("traces").join(name);
    read(&path, &ReadOptions::default()).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn systemui() {
    let trace = bundled("systemui.txt.zst");
    let counts = EventCounts {
        malloc: 383_154,
        calloc: 7_847,
        realloc: 29_167,
        aligned: 1_066,
        free: 349_045,
        free_null: 15_818,
        thread_end: 357,
        ..EventCounts::default()
    };
    assert_eq!(*trace.counts(), counts);
    assert_eq!(trace.counts().total(), 786_454);
    assert_eq!(trace.counts().operations(), 786_097);
    assert_eq!(trace.origin().format, Format::Android);
    let profile = Profile::of(&trace);
    assert_eq!((profile.threads, profile.threads_alive_peak), (393, 23));
    assert_eq!(profile.live_blocks_peak, 60_097);
    assert_eq!(profile.live_bytes_peak, 10_441_709);
    assert_eq!(profile.cross_thread_frees, 39_476);
    assert_eq!(profile.live_blocks_end, 53_645);
}

#[test]
fn surfaceflinger_and_the_piece_of_it() {
    let trace = bundled("surfaceflinger.txt.zst");
    let counts = EventCounts {
        malloc: 1_142_990,
        calloc: 44_229,
        realloc: 73_781,
        free: 1_191_725,
        free_null: 2_514,
        thread_end: 1,
        ..EventCounts::default()
    };
    assert_eq!(*trace.counts(), counts);
    assert_eq!(trace.counts().total(), 2_455_240);
    assert_eq!(trace.counts().operations(), 2_455_239);
    let profile = Profile::of(&trace);
    assert_eq!((profile.threads, profile.threads_alive_peak), (15, 13));
    assert_eq!(profile.live_blocks_peak, 3_833);
    assert_eq!(profile.live_bytes_peak, 2_063_697);
    assert_eq!(profile.cross_thread_frees, 22_209);
    assert_eq!(profile.live_blocks_end, 3_567);

    let quickstart = bundled("quickstart.log.zst");
    assert_eq!(quickstart.origin().format, Format::LogallocMunged);
    let window = Window::Events {
        first: 0,
        count: 60_000,
    };
    let piece = slice(&trace, window, LiveSet::Drop).unwrap();
    let mut expected = piece.events().to_vec();
    // The native text does not tell the end of a thread.
    expected.retain(|event| event.operation != Operation::ThreadEnd);
    assert_eq!(quickstart.events(), expected);
    assert_eq!(quickstart.counts().operations(), QUICKSTART_OPERATIONS);
    let profile = Profile::of(&quickstart);
    assert_eq!((profile.threads, profile.live_blocks_peak), (11, 3_120));
}

/// A program recorded here: what its trace holds.
struct Recorded {
    name: &'static str,
    events: u64,
    operations: u64,
    threads: u32,
    threads_at_once: u32,
    live_blocks_peak: u64,
    live_bytes_peak: u64,
}

const fn recorded(
    name: &'static str,
    [events, operations]: [u64; 2],
    [threads, threads_at_once]: [u32; 2],
    [live_blocks_peak, live_bytes_peak]: [u64; 2],
) -> Recorded {
    Recorded {
        name,
        events,
        operations,
        threads,
        threads_at_once,
        live_blocks_peak,
        live_bytes_peak,
    }
}

const RECORDED: [Recorded; 12] = [
    recorded(
        "python",
        [1_466_015, 1_466_015],
        [1, 1],
        [77_819, 6_625_494],
    ),
    recorded("cc1", [851_485, 851_485], [1, 1], [11_547, 9_456_570]),
    recorded(
        "cc1plus",
        [2_355_805, 2_355_805],
        [1, 1],
        [34_504, 8_227_515],
    ),
    recorded(
        "rustc",
        [7_050_850, 7_050_778],
        [37, 20],
        [140_634, 42_891_091],
    ),
    recorded("git", [337_000, 337_000], [1, 1], [3_323, 1_782_730]),
    recorded("sqlite", [731_104, 731_104], [1, 1], [40_919, 5_503_728]),
    recorded("perl", [172_485, 172_485], [1, 1], [32_566, 5_157_418]),
    recorded("redis", [1_708_154, 1_708_154], [1, 1], [93_453, 4_548_974]),
    recorded(
        "json-rust",
        [1_304_170, 1_304_170],
        [1, 1],
        [1_587, 1_384_458],
    ),
    recorded("node", [1_059_858, 1_059_848], [6, 6], [27_520, 9_426_011]),
    recorded("mariadb", [304_994, 304_904], [46, 46], [9_370, 64_997_279]),
    recorded(
        "postgres",
        [377_712, 253_044],
        [25, 21],
        [10_540, 35_648_874],
    ),
];

fn file_of(name: &str) -> PathBuf {
    workloads().join("traces").join(format!("{name}.trace"))
}

#[test]
fn programs_recorded_here() {
    let readme = std::fs::read_to_string(workloads().join("README.md")).unwrap();
    for one in &RECORDED {
        let name = one.name;
        let trace = read(&file_of(name), &ReadOptions::default()).unwrap();
        assert_eq!(trace.origin().format, Format::Binary);
        let profile = Profile::of(&trace);
        let (blocks, bytes) = (profile.live_blocks_peak, profile.live_bytes_peak);
        let found = recorded(
            name,
            [trace.counts().total(), trace.counts().operations()],
            [profile.threads, profile.threads_alive_peak],
            [blocks, bytes],
        );
        let facts = |one: &Recorded| {
            (
                [one.events, one.operations],
                [one.threads, one.threads_at_once],
                [one.live_blocks_peak, one.live_bytes_peak],
            )
        };
        assert_eq!(facts(&found), facts(one), "{name}");
        nothing_names_the_program(&trace, name);

        // What people read says the same.
        let definition = find_for_trace(&file_of(name));
        let definition = definition.unwrap_or_else(|| panic!("{name} is defined"));
        let (events, blocks) = (grouped(one.events), grouped(blocks));
        let megabytes = format!("{:.1} MB", bytes as f64 / 1e6);
        let mut figures = vec![
            format!("{events} events"),
            format!("up to {blocks} live blocks of {megabytes} together"),
        ];
        let mut threads = one.threads.to_string();
        if one.threads > 1 {
            figures.push(format!("{threads} threads"));
            let at_once = format!("{} at once", one.threads_at_once);
            threads.push_str(&format!(" ({at_once})"));
            figures.push(at_once);
        }
        for figure in figures {
            assert!(definition.description.contains(&figure), "{name}: {figure}");
        }
        let kib = std::fs::metadata(file_of(name)).unwrap().len() as f64 / 1024.0;
        let row = format!(
            "| `recorded-{name}` | {events} | {threads} | {blocks} ({megabytes}) | {kib:.0} KiB | "
        );
        assert!(readme.contains(&row), "{row}");
    }
    let bytes = |one: &Recorded| std::fs::metadata(file_of(one.name)).unwrap().len() as f64;
    let mut rates: Vec<f64> = RECORDED
        .iter()
        .map(|one| bytes(one) / one.events as f64)
        .collect();
    rates.sort_by(f64::total_cmp);
    let words = format!(
        "Together {:.1} MiB, {:.2} to {:.2} bytes an event, {:.2} in the median.",
        RECORDED.iter().map(bytes).sum::<f64>() / 1_048_576.0,
        rates[0],
        rates[rates.len() - 1],
        f64::midpoint(rates[rates.len() / 2 - 1], rates[rates.len() / 2]),
    );
    assert!(readme.replace('\n', " ").contains(&words), "{words}");
}

/// A bundled recording is a list of calls and counts: no program, argument, path, date or machine.
fn nothing_names_the_program(trace: &Trace, name: &str) {
    let origin = trace.origin();
    // One that was merged of several has none.
    let recording = origin.recording.clone().unwrap_or_default();
    let counts_alone = Recording {
        page_bytes: recording.page_bytes,
        unrecorded_calls: recording.unrecorded_calls,
        usable_size_calls: recording.usable_size_calls,
        overhead_ps_per_operation: recording.overhead_ps_per_operation,
        touched: recording.touched.clone(),
        ..Recording::default()
    };
    assert_eq!(recording, counts_alone, "{name}");
    assert_eq!(trace.times_ns(), None, "{name}");
    assert!(trace.site_names().is_empty(), "{name}");
    for text in origin.notes.iter().chain(&origin.warnings) {
        let is_known = [
            "anonymised: names were left out",
            " of the original left out",
        ]
        .iter()
        .any(|words| text.contains(words));
        assert!(is_known, "{name}: {text}");
    }
}

/// 1234567 as 1,234,567.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[test]
fn the_prose_gives_the_measured_figures() {
    let definitions = load_all(&workloads().join("definitions")).unwrap();
    let readme = std::fs::read_to_string(workloads().join("README.md")).unwrap();
    for definition in &definitions {
        let row = format!("| `{}` | ", definition.name);
        assert!(readme.contains(&row), "README.md lists {}", definition.name);
    }
    let description = |name: &str| {
        let found = definitions.iter().find(|d| d.name == name);
        found.unwrap().description.clone()
    };
    let profile = Profile::of(&bundled("systemui.txt.zst"));
    let alive = format!(
        "({} at once between first and last event)",
        profile.threads_alive_peak
    );
    assert!(description("systemui").contains(&alive), "{alive}");
    assert!(readme.contains(&alive), "{alive}");

    let table = workloads().join("fleet/fleetbench-tcmalloc-3.csv");
    let rows: Vec<[f64; 3]> = std::fs::read_to_string(table)
        .unwrap()
        .lines()
        .map(|line| {
            let mut numbers = line.split(',').map(|number| number.trim().parse().unwrap());
            std::array::from_fn(|_| numbers.next().unwrap())
        })
        .collect();
    let (kept, left_out): (Vec<_>, Vec<_>) =
        rows.iter().partition(|[bytes, ..]| *bytes <= 1_048_576.0);
    let live = |rows: &[&[f64; 3]]| rows.iter().map(|[bytes, _, n]| bytes * n).sum::<f64>();
    let share = live(&left_out) / (live(&kept) + live(&left_out));
    let text = description("fleet-fleetbench-3");
    for figure in [
        format!("{} sizes from 1 byte", kept.len()),
        format!("hold {:.1} MiB", live(&kept) * 0.02 / f64::from(1 << 20)),
        format!("{} sizes above", left_out.len()),
        format!("{:.1} % of the live bytes", share * 100.0),
    ] {
        assert!(text.contains(&figure), "{figure}");
    }
}

/// One of the first 60,000 events of surfaceflinger is the end of a thread.
const QUICKSTART_OPERATIONS: u64 = 59_999;

#[test]
fn definitions_and_traces_belong_together() {
    let definitions = load_all(&workloads().join("definitions")).unwrap();
    let recorded: Vec<_> = definitions
        .iter()
        .filter(|d| d.kind == Kind::Trace)
        .collect();
    let names: Vec<&str> = recorded
        .iter()
        .map(|definition| definition.name.as_str())
        .collect();
    assert!(
        ["quickstart", "surfaceflinger", "systemui"]
            .iter()
            .all(|name| names.contains(name))
    );
    let mut described = Vec::new();
    for definition in &recorded {
        let file = definition.trace_file().unwrap();
        assert_eq!(find_for_trace(&file).as_ref(), Some(*definition));
        described.push(file.canonicalize().unwrap());
    }
    for definition in &definitions {
        for text in [
            &definition.description,
            &definition.stands_for,
            &definition.origin,
            &definition.licence,
            &definition.bias,
        ] {
            assert!(
                text.trim().len() >= 3,
                "{} answers every question",
                definition.name
            );
        }
    }
    let mut stored_bytes = 0;
    for entry in std::fs::read_dir(workloads().join("traces")).unwrap() {
        let entry = entry.unwrap();
        stored_bytes += entry.metadata().unwrap().len();
        if entry.file_name() != "NOTICE" {
            assert!(
                described.contains(&entry.path().canonicalize().unwrap()),
                "{entry:?}"
            );
        }
    }
    assert!(
        stored_bytes < 25_000_000,
        "{stored_bytes} bytes in the repository"
    );
}
