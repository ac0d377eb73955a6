//! `mymalloc record --follow-children --timestamps`: what a forked process calls has moments of its own.
#![cfg(feature = "suite")]
#![forbid(unsafe_code)]

use std::process::Command;

use mymalloc::trace::{Operation, ReadOptions, read};

/// The child makes a block each time that the clock has moved on.
const FORKS: &str = r#"
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
static long now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000000000L + time.tv_nsec;
}
int main(void) {
    free(malloc(24));
    pid_t child = fork();
    if (child == 0) {
        for (int i = 0; i < 2000; i++) {
            if (!malloc(48)) return 1;
            for (long begin = now(); now() == begin;) {}
        }
        return 0;
    }
    int status;
    return child < 0 || waitpid(child, &status, 0) != child || status != 0;
}
"#;

#[test]
fn every_call_of_a_forked_process_has_its_moment() {
    let folder = tempfile::tempdir().expect("a folder");
    let source = folder.path().join("forks.c");
    std::fs::write(&source, FORKS).expect("ours");
    let built = Command::new("cc")
        .args(["-O1", "-fno-builtin", "-o", "forks", "forks.c"])
        .current_dir(folder.path())
        .status()
        .expect("a C compiler is needed to build mimalloc, so it is there");
    assert!(built.success());
    let recorded = Command::new(env!("CARGO_BIN_EXE_mymalloc"))
        .args([
            "record",
            "--follow-children",
            "--timestamps",
            "-o",
            "a.trace",
            "--",
            "./forks",
        ])
        .current_dir(folder.path())
        .env_remove("LD_PRELOAD")
        .output()
        .expect("ours");
    assert!(recorded.status.success(), "{recorded:?}");
    let traces: Vec<_> = std::fs::read_dir(folder.path())
        .expect("there")
        .map(|entry| entry.expect("there").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "trace"))
        .map(|path| read(&path, &ReadOptions::default()).expect("a sound trace"))
        .collect();
    assert_eq!(traces.len(), 2);
    let moments = traces.iter().map(|trace| {
        let times = trace.times_ns().expect("asked for");
        let mut moments: Vec<u64> = trace
            .events()
            .iter()
            .zip(times)
            .filter(|(event, _)| matches!(event.operation, Operation::Malloc { size: 48, .. }))
            .map(|(_, &time_ns)| time_ns)
            .collect();
        moments.dedup();
        moments.len()
    });
    let moments: Vec<usize> = moments.collect();
    assert_eq!(moments.iter().max(), Some(&2000), "{moments:?}");
}
