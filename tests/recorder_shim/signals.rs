//! Switching by signal, and handlers that allocate in the middle of an allocation.

use super::decode::Call;
use super::{Recorder, built, source};

#[test]
fn a_signal_switches_on_and_off() {
    for options in ["signal=12", "signal=12,times"] {
        let recording = Recorder::new(options).scene(&["switched"]).succeeded();
        let wire = recording.wire();
        let calls = wire.calls();
        assert_eq!(calls[0], Call::On);
        assert_eq!(wire.mallocs(401), 0);
        assert_eq!(wire.mallocs(402), 100);
        assert_eq!(wire.mallocs(403), 0);
        assert_eq!(wire.mallocs(404), 100);
        // On, 100 mallocs and 99 frees, off, on, 100 pairs.
        assert_eq!(calls.len(), 1 + 199 + 1 + 1 + 200);
        assert_eq!((calls[200], calls[201]), (Call::Off, Call::On));
        assert_eq!(wire.unrecorded(), 200 + 1 + 200);
        assert_eq!(wire.missing(), 0);
        assert_eq!(wire.flags() & 4, 4);
    }
}

#[test]
fn handlers_that_allocate_in_the_middle_of_an_event_lose_nothing() {
    let allocator = built(
        "reentrant.so",
        "cc",
        &["-shared", "-fPIC"],
        &source("objects/reentrant.c"),
    );
    for options in ["", "times", "sites"] {
        let recorder = Recorder::new(options).allocator(allocator.clone());
        let recording = recorder.scene(&["interrupted", "1500", "0"]).succeeded();
        let wire = recording.wire();
        let mut numbers = recording
            .output
            .lines()
            .map(|line| line.parse::<u64>().expect("a number"));
        let (done, handled) = (
            numbers.next().expect("pairs"),
            numbers.next().expect("handled"),
        );
        assert_eq!(wire.mallocs(40), done, "{options}");
        assert_eq!(wire.mallocs(24), handled);
        assert_eq!(wire.count(|call| *call == Call::Free), done + handled);
        assert_eq!((wire.missing(), wire.threads()), (0, 1));
        assert!(wire.check_blocks(0).is_empty());
    }
}

#[test]
fn handlers_that_jump_away_leave_what_can_be_read() {
    let allocator = built(
        "reentrant.so",
        "cc",
        &["-shared", "-fPIC"],
        &source("objects/reentrant.c"),
    );
    let recorder = Recorder::new("").allocator(allocator);
    let recording = recorder.scene(&["interrupted", "1500", "1"]).succeeded();
    let wire = recording.wire();
    let mut numbers = recording
        .output
        .lines()
        .map(|line| line.parse::<u64>().expect("a number"));
    let (done, handled) = (
        numbers.next().expect("pairs"),
        numbers.next().expect("handled"),
    );
    assert_eq!(wire.mallocs(24), handled);
    let jumps = handled / 7 + 1;
    let made = wire.mallocs(40);
    assert!(
        (done..=done + jumps).contains(&made),
        "{made} {done} {jumps}"
    );
    assert!(wire.missing() <= jumps, "{}", wire.missing());
}
