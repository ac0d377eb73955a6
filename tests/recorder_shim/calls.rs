//! Every wrapped function, once, as it was called.

use super::decode::Call::{self, *};
use super::{Recorder, built, scenes, source};

const MEMALIGN: u8 = 5;
const POSIX_MEMALIGN: u8 = 6;
const ALIGNED_ALLOC: u8 = 7;
const VALLOC: u8 = 8;
const PVALLOC: u8 = 9;

const API: [Call; 17] = [
    Malloc(101),
    Malloc(0),
    Malloc(100_000),
    Calloc(7, 15),
    Calloc(70_000, 2),
    ReallocBegin,
    ReallocEnd(107),
    ReallocBegin,
    ReallocEnd(300_000),
    ReallocBegin,
    ReallocEnd(108),
    Aligned(POSIX_MEMALIGN, 6, 109),
    Aligned(MEMALIGN, 7, 110),
    Aligned(ALIGNED_ALLOC, 8, 512),
    Aligned(VALLOC, 12, 112),
    Aligned(PVALLOC, 12, 113),
    Free,
];

/// [`API`] with all of its frees.
fn api() -> Vec<Call> {
    let mut calls = API.to_vec();
    calls.extend([Free; 12]);
    calls
}

#[test]
fn every_function_is_there_once_with_its_sizes() {
    for options in ["", "times", "sites", "times,sites"] {
        let recording = Recorder::new(options).scene(&["api"]).succeeded();
        let wire = recording.wire();
        assert_eq!(wire.calls(), api(), "{options}");
        assert_eq!(wire.missing(), 0);
        assert_eq!(wire.usable_size_calls(), 2);
        assert!(wire.check_blocks(0).is_empty());
        assert_eq!(
            wire.events.last().map(|event| event.address),
            Some(0),
            "free(NULL)"
        );
        let has_times = options.contains("times");
        let has_sites = options.contains("sites");
        assert!(
            wire.events
                .iter()
                .all(|event| event.time_ns.is_some() == has_times)
        );
        assert!(
            wire.events
                .iter()
                .all(|event| event.site.is_some() == has_sites)
        );
        let times = wire.events.windows(2);
        assert!(
            times
                .into_iter()
                .all(|pair| pair[0].time_ns <= pair[1].time_ns)
        );
    }
}

#[test]
fn the_header_says_what_was_recorded() {
    let recording = Recorder::new("times").scene(&["api"]).succeeded();
    let wire = recording.wire();
    let program = scenes();
    assert_eq!(wire.program(), program.display().to_string());
    assert_eq!(
        wire.command_line(),
        [program.display().to_string(), "api".to_owned()]
    );
    assert!(wire.allocator().contains("libc.so"), "{}", wire.allocator());
    assert!(wire.c_library().starts_with("2."), "{}", wire.c_library());
    assert_eq!(wire.flags(), 1);
    assert_eq!((wire.image(), wire.parent(), wire.threads()), (0, 0, 1));
    assert_eq!(
        (wire.unrecorded(), wire.stopped(), wire.lost_children()),
        (0, (0, 0), 0)
    );
    assert!(wire.ended_ns() > 0);
    let main = std::fs::read_to_string(recording.folder.path().join("out/main")).expect("written");
    assert!(main.starts_with(&format!("{} ", wire.process())), "{main}");
}

#[test]
fn sites_lie_in_mappings_that_are_told() {
    let recording = Recorder::new("sites").scene(&["api"]).succeeded();
    let wire = recording.wire();
    let maps = wire.path.with_extension("maps");
    let maps = std::fs::read_to_string(maps).expect("written beside");
    let program = scenes();
    let code: Vec<(u64, u64)> = maps
        .lines()
        .filter(|line| line.contains(" r-xp ") && line.ends_with(program.to_str().expect("plain")))
        .map(|line| {
            let (begin, rest) = line.split_once('-').expect("a range");
            let end = rest.split(' ').next().expect("its end");
            let number = |text| u64::from_str_radix(text, 16).expect("hexadecimal");
            (number(begin), number(end))
        })
        .collect();
    assert!(!code.is_empty(), "{maps}");
    for event in &wire.events {
        let site = event.site.expect("asked for");
        assert!(
            code.iter()
                .any(|&(begin, end)| (begin..end).contains(&site)),
            "{event:?}"
        );
    }
    // Calls from different lines.
    let sites: std::collections::HashSet<_> = wire.events.iter().map(|event| event.site).collect();
    assert!(sites.len() >= 14, "{sites:?}");
}

#[test]
fn failed_calls_are_told_and_errno_is_kept() {
    let recording = Recorder::new("").scene(&["failures"]).succeeded();
    let wire = recording.wire();
    let expected = [
        Malloc(1 << 63),
        Calloc(u64::MAX / 4, 8),
        Malloc(40),
        ReallocBegin,
        ReallocEnd(1 << 63),
        ReallocBegin,
        ReallocEnd(u64::MAX),
        Aligned(POSIX_MEMALIGN, 2, 8),
        Free,
    ];
    assert_eq!(wire.calls()[..9], expected);
    for at in [0, 1, 4, 6, 7] {
        assert_eq!(wire.events[at].address, 0, "{:?}", wire.events[at]);
    }
    assert_eq!(wire.mallocs(24), 100_000);
    assert!(wire.check_blocks(0).is_empty());
}

#[test]
fn every_form_of_new_and_delete_is_there_once() {
    let program = built(
        "operators",
        "c++",
        &["-std=c++17"],
        &source("programs/recorded_operators.cpp"),
    );
    for options in ["", "sites"] {
        let recording = Recorder::new(options).run(&program, &[]).succeeded();
        let wire = recording.wire();
        let calls = wire.calls();
        // The C++ library's own pool comes first; exceptions come last.
        let first = calls
            .iter()
            .position(|call| *call == Malloc(601))
            .expect("there");
        // `aligned_alloc` is asked for a multiple of the alignment.
        let wide = Aligned(ALIGNED_ALLOC, 6, 640);
        let expected = [
            Malloc(601),
            Free,
            Malloc(602),
            Free,
            Malloc(603),
            Free,
            Malloc(604),
            Free,
            wide,
            Free,
            wide,
            Free,
            wide,
            Free,
            wide,
            Free,
            Malloc(609),
            FreeSized(609),
            Malloc(610),
            FreeSized(610),
            wide,
            FreeSized(611),
            wide,
            FreeSized(612),
            Malloc(1),
            Free,
        ];
        assert_eq!(calls[first..first + expected.len()], expected, "{options}");
        // Three times asked, then thrown; once more without throwing.
        let failed = wire.mallocs(u64::MAX / 4);
        assert_eq!(failed, 4, "{calls:?}");
        assert_eq!(wire.missing(), 0);
    }
}

/// An allocator whose calloc and realloc call its malloc and free by name.
fn reentrant() -> std::path::PathBuf {
    built(
        "reentrant.so",
        "cc",
        &["-shared", "-fPIC"],
        &source("objects/reentrant.c"),
    )
}

#[test]
fn an_allocator_that_calls_itself_is_recorded_once() {
    let recorder = Recorder::new("").allocator(reentrant());
    let recording = recorder.scene(&["stress", "3", "1000"]).succeeded();
    let wire = recording.wire();
    assert!(
        wire.allocator().ends_with("/reentrant.so"),
        "{}",
        wire.allocator()
    );
    super::threads::assert_stress(&wire, 4, 1000);
}

#[test]
fn beginning_and_end_are_recorded() {
    let recording = Recorder::new("").scene(&["life"]).succeeded();
    let wire = recording.wire();
    for size in [501, 502, 503, 504] {
        assert_eq!(wire.mallocs(size), 1, "{size}");
    }
    assert!(wire.ended_ns() > 0);
    wire.check_blocks(0);
}

#[test]
fn without_the_variable_nothing_is_written() {
    let recorder = Recorder::new("").prepare(|command| {
        command.env_remove(super::options::FOLDER_VARIABLE);
    });
    let recording = recorder.scene(&["api"]).succeeded();
    let out = recording.folder.path().join("out");
    assert_eq!(std::fs::read_dir(out).expect("there").count(), 0);
}

#[test]
fn a_folder_that_is_not_there_is_told_in_one_line() {
    let recorder = Recorder::new("").prepare(|command| {
        command.env(super::options::FOLDER_VARIABLE, "/nonexistent/folder");
    });
    let recording = recorder.scene(&["api"]);
    assert!(recording.status.success());
    let expected = "mymalloc record: cannot open the folder in : system error 2; \
                    this process is not recorded\n";
    assert_eq!(
        recording.errors.replace("/nonexistent/folder", ""),
        expected
    );
}
