//! Forks, execs, and a process that is killed.

use super::decode::{Call, Wire};
use super::{Recorder, Recording};

const FLAG_FORKED: u32 = 8;

/// The first process's file, and the others.
fn family(recording: &Recording) -> (Wire, Vec<Wire>) {
    let main = std::fs::read_to_string(recording.folder.path().join("out/main")).expect("written");
    let main: u32 = main
        .split(' ')
        .next()
        .and_then(|id| id.parse().ok())
        .expect("a number");
    let (first, others): (Vec<Wire>, Vec<Wire>) = recording
        .wires()
        .into_iter()
        .partition(|wire| wire.process() == main);
    (
        first.into_iter().next().expect("the first process's"),
        others,
    )
}

#[test]
fn a_child_has_a_file_of_its_own_if_it_is_followed() {
    let recording = Recorder::new("follow").scene(&["forks"]).succeeded();
    let (parent, children) = family(&recording);
    assert_eq!(
        (
            parent.mallocs(201),
            parent.mallocs(202),
            parent.mallocs(203)
        ),
        (1, 0, 50)
    );
    let [child] = &children[..] else {
        panic!("{children:?}");
    };
    assert_eq!(
        (child.mallocs(202), child.parent()),
        (3000, parent.process())
    );
    assert_eq!(child.flags() & FLAG_FORKED, FLAG_FORKED);
    // Its first event frees a block of its parent's.
    let before = &parent.events[0];
    assert_eq!((before.call, before.number), (Call::Malloc(201), 0));
    assert_eq!(child.parent_sequence(), 1);
    assert_eq!(
        (child.events[0].call, child.events[0].address),
        (Call::Free, before.address)
    );
    for wire in [&parent, child] {
        assert_eq!(wire.missing(), 0);
        assert!(wire.ended_ns() > 0);
    }
    parent.check_blocks(0);
    child.check_blocks(1);
}

#[test]
fn a_child_is_quiet_if_it_is_not_followed() {
    for scene in ["forks", "raw_clone"] {
        let recording = Recorder::new("").scene(&[scene]).succeeded();
        let wire = recording.wire();
        assert_eq!(wire.mallocs(202) + wire.mallocs(212), 0);
        assert_eq!(wire.mallocs(203) + wire.mallocs(213), 50);
        assert_eq!((wire.missing(), wire.unrecorded()), (0, 0));
        wire.check_blocks(0);
    }
}

#[test]
fn a_raw_clone_is_a_child_too() {
    let recording = Recorder::new("follow").scene(&["raw_clone"]).succeeded();
    let (parent, children) = family(&recording);
    assert_eq!(
        (
            parent.mallocs(211),
            parent.mallocs(213),
            parent.mallocs(212)
        ),
        (5, 50, 0)
    );
    let [child] = &children[..] else {
        panic!("{children:?}");
    };
    assert_eq!((child.mallocs(212), child.parent_sequence()), (3000, 10));
    assert!(child.ended_ns() > 0, "_exit is an orderly end");
    parent.check_blocks(0);
    child.check_blocks(0);
}

#[test]
fn children_of_a_program_with_threads_run_and_are_recorded() {
    for (options, expected) in [("follow", 20), ("", 0)] {
        let recording = Recorder::new(options)
            .scene(&["forks_beside_threads", "20"])
            .succeeded();
        let (parent, children) = family(&recording);
        assert_eq!(children.len(), expected);
        assert_eq!(parent.threads(), 5);
        assert_eq!(parent.missing(), 0);
        assert_eq!(parent.mallocs(301), 0);
        parent.check_blocks(0);
        for child in &children {
            assert_eq!(
                (child.mallocs(301), child.mallocs(304), child.threads()),
                (1000, 100, 2)
            );
            assert_eq!(child.missing(), 0);
            // Whatever the parent's other threads held.
            child.check_blocks(10);
        }
    }
}

#[test]
fn what_is_execed_has_the_next_file() {
    let recording = Recorder::new("").scene(&["executes"]).succeeded();
    let [first, second] = &recording.wires()[..] else {
        panic!("{:?}", recording.wires());
    };
    assert_eq!(first.process(), second.process());
    assert_eq!((first.image(), second.image()), (0, 1));
    assert_eq!(
        (first.mallocs(221), first.mallocs(223), first.mallocs(222)),
        (10, 10, 0)
    );
    assert_eq!((second.mallocs(222), second.calls().len()), (20, 40));
    assert_eq!(second.command_line()[1..], ["pairs", "20", "222"]);
    assert_eq!(first.ended_ns(), 0, "it was replaced");
    assert!(second.ended_ns() > 0);
    assert_eq!(second.flags() & FLAG_FORKED, 0);

    let recording = Recorder::new("follow").scene(&["executes"]).succeeded();
    let (parent, others) = family(&recording);
    let child = others
        .iter()
        .find(|wire| wire.process() != parent.process());
    let child = child.expect("the program that it started");
    assert_eq!((child.mallocs(222), child.image()), (20, 0));
    assert_eq!(child.parent(), parent.process());
    assert_eq!(child.flags() & FLAG_FORKED, 0);
}

#[test]
fn a_killed_process_leaves_all_that_it_did() {
    for (pairs, options) in [("10", ""), ("100000", ""), ("1000", "times")] {
        let recording = Recorder::new(options).scene(&["killed", pairs]);
        assert_eq!(recording.killed_by(), Some(libc::SIGKILL));
        let wire = recording.wire();
        let pairs: u64 = pairs.parse().expect("a number");
        assert_eq!(wire.mallocs(64), pairs);
        assert_eq!(wire.count(|call| *call == Call::Free), pairs);
        assert_eq!((wire.ended_ns(), wire.missing()), (0, 0));
        assert!(wire.check_blocks(0).is_empty());
    }
}

#[test]
fn what_is_killed_at_any_moment_is_readable() {
    // A child that never ends by itself, killed from outside.
    for _ in 0..10 {
        let recording = Recorder::new("").prepare(|command| {
            use std::os::unix::process::CommandExt;
            // SAFETY: setitimer may be called between fork and exec. The signal kills by default.
            unsafe {
                command.pre_exec(|| {
                    let soon = libc::timeval {
                        tv_sec: 0,
                        tv_usec: 30_000,
                    };
                    let never = libc::timeval {
                        tv_sec: 0,
                        tv_usec: 0,
                    };
                    let timer = libc::itimerval {
                        it_interval: never,
                        it_value: soon,
                    };
                    libc::syscall(libc::SYS_setitimer, 0, &timer, 0);
                    Ok(())
                });
            }
        });
        let recording = recording.scene(&["stress", "4", "100000000"]);
        assert_eq!(recording.killed_by(), Some(libc::SIGALRM));
        for wire in recording.wires() {
            // Each thread may be in the middle of one.
            assert!(wire.missing() <= 6, "{} of {wire:?}", wire.missing());
        }
    }
}
