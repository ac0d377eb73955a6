//! Threads: counts that are known, the order where blocks change threads, starts and ends, many of them.

use super::Recorder;
use super::decode::{Call, Event, Wire};

/// What `stress_thread` of the C program calls.
pub(crate) fn assert_stress(wire: &Wire, threads: u64, rounds: u64) {
    let quarter = threads * rounds / 4;
    assert_eq!(rounds % 8, 0, "the count below");
    let of_rounds = |call: &Call| match *call {
        Call::Malloc(size) => size == 8 || (16..516).contains(&size),
        _ => false,
    };
    // glibc's own: the thread's control block by calloc, other sizes.
    let posix = wire.count(|call| matches!(call, Call::Aligned(6, 6, size) if *size < 164));
    let callocs = wire.count(|call| matches!(call, Call::Calloc(_, 24)));
    let ends = wire.count(|call| matches!(call, Call::ReallocEnd(_)));
    let begins = wire.count(|call| *call == Call::ReallocBegin);
    assert_eq!(
        (posix, callocs, ends, begins),
        (quarter, quarter, quarter, quarter)
    );
    assert_eq!(wire.count(of_rounds), 2 * quarter, "{wire:?}");
    // Every round frees what its slot held, at first nothing; at the end eight.
    let mine = wire.events.iter().filter(|event| event.thread > 0);
    let frees = mine.filter(|event| event.call == Call::Free).count() as u64;
    let expected = threads * (rounds + 8);
    assert!(
        (expected..expected + 8 * threads).contains(&frees),
        "{frees} {expected}"
    );
    assert_eq!(wire.missing(), 0);
    assert_eq!(wire.unrecorded(), 0);
    assert_eq!(wire.threads(), threads + 1);
    for mark in [Call::ThreadStart, Call::ThreadEnd] {
        assert_eq!(wire.count(|call| *call == mark), threads, "{mark:?}");
    }
    wire.check_blocks(0);
}

#[test]
fn a_known_number_of_operations_is_that_number() {
    // A run in CI; the hundred in a row are started by the environment.
    let runs =
        std::env::var("MYMALLOC_STRESS_RUNS").map_or(3, |runs| runs.parse().expect("a number"));
    for run in 0..runs {
        let recording = Recorder::new("")
            .scene(&["stress", "7", "10000"])
            .succeeded();
        assert_stress(&recording.wire(), 8, 10_000);
        if runs > 3 {
            println!("run {run}: exact");
        }
    }
    for options in ["times", "sites"] {
        let recording = Recorder::new(options)
            .scene(&["stress", "3", "2000"])
            .succeeded();
        assert_stress(&recording.wire(), 4, 2000);
    }
}

#[test]
fn blocks_that_change_threads_are_freed_before_they_are_handed_out_again() {
    let recording = Recorder::new("").scene(&["pipeline", "500000"]).succeeded();
    let wire = recording.wire();
    let made = [32, 48, 64]
        .map(|size| wire.mallocs(size))
        .iter()
        .sum::<u64>();
    assert_eq!(made, 500_000);
    let handed_over = wire.events.iter().filter(|event| event.thread == 1);
    // glibc frees null at a thread's end.
    let freed = handed_over.filter(|event| event.call == Call::Free && event.address != 0);
    assert_eq!(freed.count(), 500_000);
    assert_eq!(wire.missing(), 0);
    wire.check_blocks(0);
}

#[test]
fn short_threads_use_up_what_others_left() {
    let recording = Recorder::new("")
        .scene(&["short_threads", "2000", "8"])
        .succeeded();
    let wire = recording.wire();
    assert_eq!(wire.mallocs(40), 3 * 2000);
    // From a destructor, and after it.
    assert_eq!(wire.mallocs(56), 2000);
    assert_eq!(wire.mallocs(48), 2000);
    assert_eq!(wire.count(|call| *call == Call::ThreadStart), 2000);
    assert_eq!(wire.count(|call| *call == Call::ThreadEnd), 2000);
    assert_eq!(wire.threads(), 2001);
    assert_eq!(wire.missing(), 0);
    assert!(wire.file_bytes() < 4 << 20, "{}", wire.file_bytes());
    wire.check_blocks(0);
    // A thread's start is its first event; nothing of the program's follows its end (glibc frees null).
    for thread in 1..=2000 {
        let mut own = wire.events.iter().filter(|event| event.thread == thread);
        assert_eq!(own.next().map(|event| event.call), Some(Call::ThreadStart));
        let is_glibcs = |event: &&Event| event.call == Call::Free && event.address == 0;
        let last = own.rfind(|event| !is_glibcs(event)).map(|event| event.call);
        assert_eq!(last, Some(Call::ThreadEnd), "thread {thread}");
    }
}

#[test]
fn many_threads_at_once_with_the_smallest_stacks() {
    let recording = Recorder::new("").scene(&["all_at_once", "400"]).succeeded();
    let wire = recording.wire();
    assert_eq!(wire.mallocs(72), 800);
    assert_eq!(wire.threads(), 401);
    assert_eq!(wire.missing(), 0);
    wire.check_blocks(0);
}

#[test]
fn a_thread_that_the_c_library_makes_is_recorded() {
    let recording = Recorder::new("").scene(&["timer_thread"]).succeeded();
    let wire = recording.wire();
    assert_eq!(wire.mallocs(1088), 100);
    assert!(wire.threads() >= 2);
    assert_eq!(wire.missing(), 0);
    wire.check_blocks(0);
}
