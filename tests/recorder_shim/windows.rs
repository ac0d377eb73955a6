//! Windows that are used again and again: nothing is lost or told twice, whoever copies them, or is dead.

use super::decode::{Call, FULL, Wire};
use super::{Recorder, Recording};

/// A bell, as the command makes it; but nobody hears it.
fn with_dead_command(recorder: Recorder) -> Recorder {
    std::fs::create_dir_all(recorder.out()).expect("the folder is ours");
    std::fs::write(recorder.out().join("bell"), [0; 4096]).expect("the folder is ours");
    recorder
}

/// How often it was rung, and files told by it.
fn rung(recording: &Recording) -> (u32, u32) {
    let bell = std::fs::read(recording.folder.path().join("out/bell")).expect("there");
    let word = |at: usize| u32::from_le_bytes(bell[at..at + 4].try_into().expect("4 bytes"));
    (word(0), word(8))
}

fn assert_pairs(wire: &Wire, pairs: u64) {
    assert_eq!(wire.mallocs(64), pairs);
    assert_eq!(wire.count(|call| *call == Call::Free), pairs);
    assert_eq!((wire.missing(), wire.unrecorded()), (0, 0));
    assert!(wire.check_blocks(0).is_empty());
}

#[test]
fn without_a_command_a_thread_has_one_window_and_copies_it() {
    let recording = Recorder::new("").scene(&["pairs", "200000", "64"]);
    let wire = recording.succeeded().wire();
    assert_pairs(&wire, 200_000);
    let [(turn, _)] = wire.windows()[..] else {
        panic!("{:?}", wire.windows());
    };
    // 3.2 MB of events in a window of a quarter, but for the first 80 KiB.
    assert!((10..=13).contains(&turn), "{turn}");
    // Nothing of the file is left unused.
    assert!(wire.file_bytes() < 3_800_000, "{}", wire.file_bytes());
}

#[test]
fn where_the_command_is_dead_a_program_goes_on_by_itself() {
    for scene in ["pairs", "killed"] {
        let recorder = with_dead_command(Recorder::new(""));
        let recording = recorder.scene(&[scene, "200000", "64"]);
        let wire = recording.wire();
        assert_pairs(&wire, 200_000);
        let windows = wire.windows();
        assert_eq!(windows.len(), 4, "{windows:?}");
        let full = windows.iter().filter(|window| **window == (0, FULL));
        assert_eq!(full.count(), 3, "{windows:?}");
        assert!(windows.iter().any(|(turn, _)| *turn >= 7), "{windows:?}");
        // The first window, and each that is full.
        assert_eq!(rung(&recording), (4, 1));
    }
}

#[test]
fn threads_and_children_have_windows_of_their_own() {
    for is_command_dead in [false, true] {
        let mut recorder = Recorder::new("");
        if is_command_dead {
            recorder = with_dead_command(recorder);
        }
        let recording = recorder.scene(&["stress", "7", "40000"]).succeeded();
        let wire = recording.wire();
        super::threads::assert_stress(&wire, 8, 40_000);
        // 8 MB of events in all, however many threads were at it at a time.
        let windows = wire.windows();
        let used: u64 = windows.iter().map(|(turn, _)| turn + 1).sum();
        assert!(used >= 20, "{windows:?}");
    }
    let recording = with_dead_command(Recorder::new("follow"));
    let recording = recording.scene(&["forks_beside_threads", "3"]).succeeded();
    for wire in recording.wires() {
        assert_eq!(wire.missing(), 0);
    }
}

#[test]
fn a_bell_that_is_too_short_is_none() {
    let recorder = with_dead_command(Recorder::new(""));
    std::fs::write(recorder.out().join("bell"), "").expect("the folder is ours");
    let recording = recorder.scene(&["pairs", "100000", "64"]).succeeded();
    let wire = recording.wire();
    assert_pairs(&wire, 100_000);
    assert_eq!(wire.windows().len(), 1);
}
