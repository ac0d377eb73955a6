//! `mymalloc record` through the command line: real programs, counts that are known or that another
//! observer tells, and whatever can go wrong while a program runs.
#![cfg(feature = "suite")]

use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use mymalloc::trace::{Operation, ReadOptions, Trace, read};

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

#[test]
fn every_call_of_a_known_program_is_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let program = compiled(folder, "known", KNOWN);
    let program = program.to_str().expect("text");
    let output = ends_with(42, record(folder, &["-o", "a.trace"], &[program, "1000"]));
    let counts = *trace(folder.join("a.trace")).counts();
    assert_eq!(
        (counts.malloc, counts.calloc, counts.realloc, counts.aligned),
        (5000, 3000, 4000, 3000)
    );
    assert_eq!(
        (counts.free, counts.free_null, counts.failed_allocation),
        (12_000, 1000, 1000)
    );
    let said = errors(&output);
    assert!(
        said.starts_with("a.trace: 28,000 operations, 1 thread, "),
        "{said}"
    );
    assert!(said.contains("exit code 42, nothing lost"), "{said}");
    assert!(said.ends_with("next: mymalloc replay a.trace\n"), "{said}");
    assert!(
        said.lines().all(|line| line.chars().count() <= 80),
        "{said}"
    );
    no_session_is_left(folder);
}

#[test]
fn a_stress_of_threads_has_exactly_its_operations() {
    const ROUNDS: u64 = 2000;
    const THREADS: u64 = 24;
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let program = compiled(folder, "stress", STRESS);
    let program = program.to_str().expect("text");
    let counts = |rounds: u64| {
        let rounds = rounds.to_string();
        ends_with(0, record(folder, &["-o", "a.trace"], &[program, &rounds]));
        let trace = trace(folder.join("a.trace"));
        assert!(
            trace.origin().warnings.is_empty(),
            "{:?}",
            trace.origin().warnings
        );
        assert_eq!(trace.counts().free_unseen, 0);
        (*trace.counts(), trace.thread_count())
    };
    // What the C library does for threads is the same each time.
    let (idle, _) = counts(0);
    for _ in 0..5 {
        let (busy, threads) = counts(ROUNDS);
        assert_eq!(busy.malloc - idle.malloc, 2 * ROUNDS * THREADS);
        assert_eq!(busy.realloc - idle.realloc, ROUNDS * THREADS);
        assert_eq!(busy.free - idle.free, 2 * ROUNDS * THREADS);
        assert_eq!(u64::from(threads), THREADS + 1);
        assert_eq!(busy.thread_start, busy.thread_end);
    }
}

#[test]
fn the_program_is_as_without_and_its_status_is_handed_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    // Its own standard streams, in both directions.
    let mut child = record(
        folder,
        &["-o", "cat.trace"],
        &["sh", "-c", "cat; echo >&2 said"],
    )
    .stdin(Stdio::piped())
    .stdout(Stdio::piped())
    .stderr(Stdio::piped())
    .spawn()
    .expect("the program is there");
    std::io::Write::write_all(&mut child.stdin.take().expect("piped"), b"through").expect("open");
    let output = child.wait_with_output().expect("ours");
    assert_eq!(output.stdout, b"through");
    assert!(
        errors(&output).starts_with("said\ncat.trace: "),
        "{}",
        errors(&output)
    );

    ends_with(
        7,
        record(
            folder,
            &["-o", "a.trace"],
            &["sh", "-c", "x=$(echo); exit 7"],
        ),
    );
    // A signal's number as a shell tells it; what was recorded up to there is sound.
    let killed = ends_with(
        137,
        record(folder, &["-o", "a.trace"], &["sh", "-c", "kill -9 $$"]),
    );
    assert!(errors(&killed).contains("killed by signal 9 (SIGKILL)"));
    let origin = trace(folder.join("a.trace")).origin().clone();
    assert!(origin.warnings.is_empty(), "{:?}", origin.warnings);
    no_session_is_left(folder);
}

#[test]
fn exec_is_followed_and_forks_if_asked_for() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let program = compiled(folder, "known", KNOWN);
    let program = program.to_str().expect("text");
    let script = format!("exec {program} 3");
    let output = ends_with(
        42,
        record(folder, &["-o", "a.trace"], &["sh", "-c", &script]),
    );
    assert_eq!(trace(folder.join("a.trace")).counts().malloc, 15);
    assert!(
        errors(&output).contains("--follow-children"),
        "{}",
        errors(&output)
    );
    assert_eq!(files(folder, ".trace").len(), 1);

    let script = format!("{program} 3; {program} 5; exec {program} 7");
    let options = ["--follow-children", "-o", "b.trace"];
    ends_with(42, record(folder, &options, &["sh", "-c", &script]));
    assert_eq!(trace(folder.join("b.trace")).counts().malloc, 35);
    // One each of the children, and of what they and the shell were before.
    let others = files(folder, ".trace");
    let mallocs: Vec<u64> = others
        .iter()
        .map(|path| trace(path).counts().malloc)
        .collect();
    for expected in [15, 25, 35] {
        assert!(mallocs.contains(&expected), "{others:?}: {mallocs:?}");
    }
    no_session_is_left(folder);
}

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

#[test]
fn signals_reach_the_program_and_the_trace_is_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let script = "trap 'exit 7' INT; : > ready; while :; do sleep 0.05; done";
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let child = record(folder, &["-o", "a.trace"], &["sh", "-c", script])
            .stderr(Stdio::piped())
            .spawn()
            .expect("the program is there");
        wait_until("the program runs", || folder.join("ready").exists());
        std::fs::remove_file(folder.join("ready")).expect("ours");
        send(&child, signal);
        let output = child.wait_with_output().expect("ours");
        let code = if signal == libc::SIGINT { 7 } else { 143 };
        assert_eq!(output.status.code(), Some(code), "{}", errors(&output));
        assert!(trace(folder.join("a.trace")).counts().operations() > 0);
    }
    no_session_is_left(folder);
}

#[test]
fn a_process_that_lives_on_is_waited_for_until_a_signal() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    // It calls its allocator (for a variable), so that the recorder knows of it, before it is ready.
    let script = "(trap '' INT; x=$(echo some text); y=$x$x; : > ready; while [ -e ready ] && [ ! -e end ]; do sleep 0.05; done; : > ended) &";
    let options = ["--follow-children", "-o", "a.trace"];
    // The child inherits the streams: a pipe would stay open as long as it lives.
    let said = folder.join("said");
    let started = || {
        let mut command = record(folder, &options, &["sh", "-c", script]);
        command.stderr(std::fs::File::create(&said).expect("ours"));
        command.spawn().expect("the program is there")
    };
    let heard = || std::fs::read_to_string(&said).expect("ours");
    // It ends by itself, after a while.
    let mut child = started();
    wait_until("the child runs", || folder.join("ready").exists());
    std::fs::write(folder.join("end"), "").expect("ours");
    let status = child.wait().expect("ours");
    assert_eq!(status.code(), Some(0), "{}", heard());
    assert!(
        folder.join("ended").exists(),
        "it was waited for: {}",
        heard()
    );
    for file in ["ready", "end", "ended"] {
        std::fs::remove_file(folder.join(file)).expect("they have run");
    }
    // It does not, and the user has seen enough.
    let mut child = started();
    wait_until("the child runs", || folder.join("ready").exists());
    // Until the shell has ended, a signal would be the shell's.
    wait_until("the user is told", || {
        heard().contains("Ctrl-C ends the recording")
    });
    send(&child, libc::SIGINT);
    let status = child.wait().expect("ours");
    assert!(!folder.join("ended").exists(), "nobody waited for its end");
    std::fs::write(folder.join("end"), "").expect("ours");
    wait_until("the child goes on unharmed", || {
        folder.join("ended").exists()
    });
    assert_eq!(status.code(), Some(0), "{}", heard());
    // Nor does the dynamic linker complain in what it starts from then on.
    assert!(!heard().contains("ld.so"), "{}", heard());
    assert!(files(folder, ".trace").len() >= 2);
    no_session_is_left(folder);
}

#[test]
fn a_recording_that_is_not_whole_is_kept_and_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let program = compiled(folder, "stress", STRESS);
    let program = program.to_str().expect("text");
    let small = ["--max-size", "1M", "-o", "a.trace"];
    let output = ends_with(1, record(folder, &small, &[program, "20000"]));
    let said = errors(&output);
    assert!(
        said.contains("error: a.trace: the size limit was reached (--max-size)"),
        "{said}"
    );
    let whole = trace(folder.join("a.trace"));
    let kept = whole.counts().operations();
    assert!((10_000..140_000).contains(&kept), "{kept}");

    // No file may grow above half a megabyte: as if the disk were full.
    let script = format!("ulimit -f 1024; exec {program} 20000");
    let output = ends_with(
        1,
        record(folder, &["-o", "b.trace"], &["sh", "-c", &script]),
    );
    assert!(errors(&output).contains("error: b.trace: its file could not be written"));
    assert!(trace(folder.join("b.trace")).counts().operations() > 10_000);

    // The folder goes while the program runs, which does not notice.
    std::fs::create_dir(folder.join("gone")).expect("ours");
    let script = "sleep 0.3; rm -rf gone; sleep 0.3; exit 3";
    let output = ends_with(
        3,
        record(folder, &["-o", "gone/c.trace"], &["sh", "-c", script]),
    );
    assert!(
        errors(&output).contains("its folder is gone; written to c.trace"),
        "{}",
        errors(&output)
    );
    assert!(trace(folder.join("c.trace")).counts().operations() > 0);
    no_session_is_left(folder);
}

#[test]
fn what_cannot_be_recorded_is_refused_before_it_runs() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let refused = |program: &[&str], word: &str| {
        let output = ends_with(1, record(folder, &["-o", "a.trace"], program));
        let said = errors(&output);
        assert!(said.starts_with("error: ") && said.contains(word), "{said}");
        assert_eq!(said.lines().count(), 1, "{said}");
        assert!(!folder.join("a.trace").exists());
    };
    refused(&["no-such-program"], "no such program in PATH");
    refused(&["true"], "not once");
    let own = "#include <stddef.h>\nvoid *malloc(size_t n) { return n ? NULL : (void *)16; }\n\
               int main(void) { return malloc(0) == NULL; }\n";
    let own = compiled(folder, "own", own);
    refused(&[own.to_str().expect("text")], "an allocator of its own");
    // It was recorded until it became a program without the environment.
    let cleaned = ["env", "-i", "/bin/ls", "/"];
    let output = ends_with(0, record(folder, &["-o", "env.trace"], &cleaned));
    assert!(
        errors(&output).contains("become another program"),
        "{}",
        errors(&output)
    );
    let output = ends_with(2, record(folder, &["--max-size", "10"], &["ls"]));
    assert!(errors(&output).contains("at least 1M"));
    no_session_is_left(folder);
}

#[test]
fn a_recording_is_readable_after_everybody_was_killed() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let script = "x=$(echo a); : > ready; while [ -e ready ]; do sleep 0.05; done & wait";
    let mut child = record(folder, &["-o", "a.trace"], &["sh", "-c", script])
        .stderr(Stdio::null())
        .spawn()
        .expect("the program is there");
    wait_until("the program runs", || folder.join("ready").exists());
    let session = std::fs::read_dir(folder).expect("there").flatten();
    let mut session = session.map(|entry| entry.path());
    let session = session
        .find(|path| path.to_string_lossy().contains(".recording-"))
        .expect("the recorder writes there");
    child.kill().expect("ours");
    let status = child.wait().expect("ours");
    assert_eq!(status.signal(), Some(libc::SIGKILL));
    // The program goes on; it is ended by its number.
    let main = std::fs::read_to_string(session.join("main")).expect("the first process wrote it");
    let process: i32 = main
        .split_ascii_whitespace()
        .next()
        .and_then(|word| word.parse().ok())
        .expect("a number");
    // SAFETY: the program that this test has started, which waits for good.
    unsafe { libc::kill(process, libc::SIGKILL) };
    let wires = files(&session, ".wire");
    assert_eq!(wires.len(), 1);
    let counts = *trace(&wires[0]).counts();
    assert!(counts.operations() > 0);
    let output = Command::new(env!("CARGO_BIN_EXE_mymalloc"))
        .args([
            "trace",
            "convert",
            wires[0].to_str().expect("text"),
            "out.log",
        ])
        .current_dir(folder)
        .output()
        .expect("the program is there");
    assert!(output.status.success(), "{}", errors(&output));
}

#[test]
fn switched_on_and_off_by_a_signal() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let text = r#"
        #include <stdio.h>
        #include <stdlib.h>
        #include <unistd.h>
        int main(void) {
            void *early = malloc(100);
            fclose(fopen("ready", "w"));
            while (access("on", F_OK)) usleep(1000);
            free(early);
            for (int i = 0; i < 1000; i++) free(malloc(3000));
            fclose(fopen("done", "w"));
            while (access("off", F_OK)) usleep(1000);
            for (int i = 0; i < 1000; i++) free(malloc(5000));
            return 0;
        }"#;
    let program = compiled(folder, "server", text);
    let child = record(
        folder,
        &["--signal", "-o", "a.trace"],
        &[program.to_str().expect("text")],
    )
    .stderr(Stdio::piped())
    .spawn()
    .expect("the program is there");
    wait_until("the program runs", || folder.join("ready").exists());
    send(&child, libc::SIGUSR2);
    // It has been handed on when record looks for signals again.
    std::thread::sleep(Duration::from_millis(500));
    std::fs::write(folder.join("on"), "").expect("ours");
    wait_until("the program goes on", || folder.join("done").exists());
    send(&child, libc::SIGUSR2);
    std::thread::sleep(Duration::from_millis(500));
    std::fs::write(folder.join("off"), "").expect("ours");
    let output = child.wait_with_output().expect("ours");
    let said = errors(&output);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(
        said.starts_with("record: recording is off; kill -USR2 "),
        "{said}"
    );
    let trace = trace(folder.join("a.trace"));
    let made = |wanted| {
        let events = trace.events().iter();
        let made = events.filter(
            |event| matches!(event.operation, Operation::Malloc { size, .. } if size == wanted),
        );
        made.count()
    };
    assert_eq!((made(100), made(3000), made(5000)), (0, 1000, 0));
}

#[test]
fn python_is_recorded_and_replayed() {
    if !Path::new("/usr/bin/python3").exists() {
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    std::fs::write(
        folder.join("script.py"),
        "print(len(str({i: [i] for i in range(9999)})))\n",
    )
    .expect("ours");
    let command = ["/usr/bin/python3", "script.py"];
    let output = ends_with(0, record(folder, &["-o", "py.trace"], &command));
    let plain = Command::new(command[0])
        .arg(command[1])
        .current_dir(folder)
        .output();
    assert_eq!(output.stdout, plain.expect("python is there").stdout);
    let replayed = Command::new(env!("CARGO_BIN_EXE_replay"))
        .args(["py.trace", "--quick", "--out", "report"])
        .current_dir(folder)
        .output()
        .expect("the program is there");
    assert!(replayed.status.success(), "{}", errors(&replayed));
}

/// Another observer: valgrind prints every call that its own replacement serves.
#[cfg(feature = "debian-tests")]
mod observed {
    use super::*;

    /// malloc, calloc, realloc, free: what valgrind sees of a program.
    fn seen_by_valgrind(folder: &Path, program: &[&str]) -> [u64; 4] {
        let output = Command::new("valgrind")
            .args([
                "--trace-malloc=yes",
                "--run-libc-freeres=no",
                "--run-cxx-freeres=no",
            ])
            .args(["--tool=memcheck", "--log-file=valgrind.log"])
            .args(program)
            .current_dir(folder)
            .output()
            .expect("`.ci/run` installs valgrind");
        assert!(output.status.code().is_some(), "{}", errors(&output));
        let log = std::fs::read_to_string(folder.join("valgrind.log")).expect("it writes one");
        let mut seen = [0; 4];
        for line in log.lines().filter(|line| line.starts_with("--")) {
            let Some(call) = line.split_once("-- ").map(|parts| parts.1) else {
                continue;
            };
            // What a realloc does inside stands behind it on the same line.
            let names = ["malloc(", "calloc(", "realloc(", "free("];
            if let Some(index) = names.iter().position(|name| call.starts_with(name)) {
                seen[index] += 1;
            }
        }
        seen
    }

    fn seen_by_us(folder: &Path, program: &[&str]) -> [u64; 4] {
        let status = record(folder, &["-o", "a.trace"], program).output();
        assert!(status.expect("there").status.code().is_some());
        let counts = *trace(folder.join("a.trace")).counts();
        assert_eq!((counts.free_unseen, counts.aligned), (0, 0));
        [
            counts.malloc,
            counts.calloc,
            counts.realloc,
            counts.free + counts.free_null,
        ]
    }

    #[test]
    fn counts_equal_those_of_valgrind() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path();
        let text = r#"
            #include <stdio.h>
            #include <stdlib.h>
            #include <string.h>
            int main(void) {
                char *line = NULL;
                size_t size = 0;
                for (int i = 1; i < 300; i++) {
                    char *copy = strdup("some text");
                    line = realloc(line, i * 40);
                    char **table = calloc(i, 8);
                    if (i % 3) free(table);
                    free(copy);
                    FILE *file = fopen("/dev/null", "r");
                    (void)!getline(&line, &size, file);
                    fclose(file);
                }
                free(line);
                puts("done");
                return 0;
            }"#;
        let program = compiled(folder, "plain", text);
        let program = program.to_str().expect("text");
        let script = "create table t(a, b); \
                      insert into t with recursive n(i) as \
                      (select 1 union all select i + 1 from n where i < 500) \
                      select i, hex(i * i) from n; select count(*) from t where b like '%3%'";
        let commands = [
            &[program][..],
            &["/bin/ls", "-l", "/usr"],
            &["/usr/bin/sqlite3", ":memory:", script],
        ];
        for command in commands
            .into_iter()
            .filter(|command| Path::new(command[0]).exists())
        {
            let (ours, theirs) = (
                seen_by_us(folder, command),
                seen_by_valgrind(folder, command),
            );
            assert_eq!(ours, theirs, "{command:?}: malloc, calloc, realloc, free");
            assert!(ours[0] > 10);
        }
    }
}
