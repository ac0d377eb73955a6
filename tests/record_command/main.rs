//! `mymalloc record` through the command line: real programs, counts that are known or that another
//! observer tells, and whatever can go wrong while a program runs.
#![cfg(feature = "suite")]

mod counts;
mod failures;
mod programs;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};
use std::time::{Duration, Instant};

use mymalloc::trace::{ReadOptions, Trace, read};

fn record(folder: &Path, options: &[&str], program: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mymalloc"));
    command
        .arg("record")
        .args(options)
        .arg("--")
        .args(program)
        .current_dir(folder)
        .env_remove("LD_PRELOAD");
    command
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs it, and expects this exit code.
fn ends_with(code: i32, mut command: Command) -> Output {
    let output = command.output().expect("the program is there");
    assert_eq!(output.status.code(), Some(code), "{}", errors(&output));
    output
}

fn trace(path: impl AsRef<Path>) -> Trace {
    read(path.as_ref(), &ReadOptions::default()).expect("a sound trace")
}

/// Files in a folder whose name has this end.
fn files(folder: &Path, end: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("there");
    let paths = entries.map(|entry| entry.expect("there").path());
    let mut paths: Vec<PathBuf> = paths
        .filter(|path| path.to_string_lossy().ends_with(end))
        .collect();
    paths.sort();
    paths
}

/// Nothing but these traces is left in the folder.
fn no_session_is_left(folder: &Path) {
    let left = std::fs::read_dir(folder).expect("there").flatten();
    let left: Vec<_> = left
        .map(|entry| entry.file_name())
        .filter(|name| name.to_string_lossy().contains(".recording-"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

fn compiled(folder: &Path, name: &str, text: &str) -> PathBuf {
    let source = folder.join(format!("{name}.c"));
    std::fs::write(&source, text).expect("ours");
    let program = folder.join(name);
    let built = Command::new("cc")
        .args(["-O1", "-fno-builtin", "-pthread", "-o"])
        .args([&program, &source])
        .output()
        .expect("a C compiler is needed to build mimalloc, so it is there");
    assert!(built.status.success(), "{}", errors(&built));
    program
}

/// Every function once or several times, in numbers that tell them apart.
const KNOWN: &str = r#"
#define _GNU_SOURCE
#include <malloc.h>
#include <stdlib.h>
int main(int count, char **arguments) {
    int rounds = count > 1 ? atoi(arguments[1]) : 1;
    for (int round = 0; round < rounds; round++) {
        void *blocks[11];
        for (int i = 0; i < 5; i++) blocks[i] = malloc(i * 50000);
        for (int i = 5; i < 8; i++) blocks[i] = calloc(i, 24);
        if (posix_memalign(&blocks[8], 64, 100)) return 1;
        blocks[9] = aligned_alloc(4096, 8192);
        blocks[10] = memalign(32, 1);
        blocks[0] = realloc(blocks[0], 77);
        blocks[1] = realloc(blocks[1], 700000);
        blocks[2] = reallocarray(blocks[2], 9, 9);
        void *more = realloc(NULL, 9);
        for (int i = 0; i < 11; i++) free(blocks[i]);
        free(more);
        free(NULL);
        if (malloc(1ul << 62)) return 1;
    }
    return 42;
}
"#;

/// Threads pass blocks around: each makes `rounds` of them and frees as many, its own or others'.
const STRESS: &str = r#"
#include <pthread.h>
#include <stdlib.h>
#define THREADS 24
#define PLACES 64
static void *places[PLACES];
static int rounds;
static void *work(void *seed) {
    unsigned state = (unsigned)(size_t)seed * 2654435761u + 1;
    for (int i = 0; i < rounds; i++) {
        state = state * 1664525u + 1013904223u;
        void *block = malloc(state >> 22);
        block = __atomic_exchange_n(&places[(state >> 8) % PLACES], block, __ATOMIC_ACQ_REL);
        if (!block) { block = malloc(1); }
        free(block);
        block = realloc(malloc(8), 1 + (state >> 20));
        free(block);
    }
    return NULL;
}
int main(int count, char **arguments) {
    rounds = count > 1 ? atoi(arguments[1]) : 0;
    for (int i = 0; i < PLACES; i++) places[i] = malloc(16);
    pthread_t threads[THREADS];
    for (size_t i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, work, (void *)i)) return 1;
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], NULL);
    for (int i = 0; i < PLACES; i++) free(places[i]);
    return 0;
}
"#;

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < deadline, "{what} within a minute");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn send(child: &Child, signal: i32) {
    let pid = i32::try_from(child.id()).expect("a process id");
    // SAFETY: a child of this test that was not waited for.
    assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
}
