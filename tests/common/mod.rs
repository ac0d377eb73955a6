//! What the tests of the allocators share.

#![allow(dead_code, reason = "each test program uses a part of it")]

use std::process::{Command, Output};
use std::ptr::NonNull;

/// Fills a block with bytes that depend on `seed` and on the place.
pub(crate) fn fill(block: NonNull<u8>, size: usize, seed: u8) {
    for at in 0..size {
        // SAFETY: the tests fill blocks that they hold, within the size they asked for.
        unsafe { block.add(at).write(seed ^ (at as u8)) };
    }
}

/// Whether a block still holds what [`fill`] wrote.
pub(crate) fn holds(block: NonNull<u8>, size: usize, seed: u8) -> bool {
    // SAFETY: as in `fill`.
    (0..size).all(|at| unsafe { block.add(at).read() } == seed ^ (at as u8))
}

const CHILD: &str = "MYMALLOC_TEST_CHILD";

/// Runs the calling test again, alone in a process of its own, where it may use up the address
/// space. True in that process; false in the first one, after the other has passed.
pub(crate) fn in_child(test: &str) -> bool {
    if std::env::var_os(CHILD).is_some() {
        return true;
    }
    let output = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(CHILD, "1")
        .output()
        .expect("this program can be run");
    let text = text_of(&output);
    assert!(output.status.success(), "{}\n{text}", output.status);
    assert!(
        text.contains("1 passed"),
        "the name given is that of a test:\n{text}"
    );
    false
}

/// Both outputs of a program as text.
pub(crate) fn text_of(output: &Output) -> String {
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    text
}

/// Limits the process's address space to what it has now and `bytes` more.
pub(crate) fn limit_address_space(bytes: u64) {
    let statm = std::fs::read_to_string("/proc/self/statm").expect("/proc is mounted");
    let pages: u64 = statm
        .split(' ')
        .next()
        .and_then(|n| n.parse().ok())
        .expect("a number");
    let limit = libc::rlimit {
        rlim_cur: pages * 4096 + bytes,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: sets a limit of this process.
    let result = unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) };
    assert_eq!(result, 0, "the limit can be set");
}

/// Lifts that limit.
pub(crate) fn unlimit_address_space() {
    let limit = libc::rlimit {
        rlim_cur: libc::RLIM_INFINITY,
        rlim_max: libc::RLIM_INFINITY,
    };
    // SAFETY: sets a limit of this process.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) }, 0);
}
