//! Every call is there, once.

use std::path::Path;
use std::process::Command;

use super::{KNOWN, STRESS, compiled, ends_with, errors, no_session_is_left, record, trace};

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
    // A few in CI; the hundred in a row are asked for by the environment.
    let runs =
        std::env::var("MYMALLOC_STRESS_RUNS").map_or(4, |runs| runs.parse().expect("a number"));
    for run in 0..runs {
        // In the longer ones windows are copied, by whoever comes to it first.
        let rounds = ROUNDS * if run % 4 == 3 { 10 } else { 1 };
        let (busy, threads) = counts(rounds);
        println!("run {run}: {} operations", busy.operations());
        assert_eq!(busy.malloc - idle.malloc, 2 * rounds * THREADS);
        assert_eq!(busy.realloc - idle.realloc, rounds * THREADS);
        assert_eq!(busy.free - idle.free, 2 * rounds * THREADS);
        assert_eq!(u64::from(threads), THREADS + 1);
        assert_eq!(busy.thread_start, busy.thread_end);
    }
}

#[test]
fn a_long_recording_is_whole_though_its_windows_are_used_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let folder = folder.path();
    let program = compiled(folder, "known", KNOWN);
    let program = program.to_str().expect("text");
    // 10 MB of events.
    ends_with(42, record(folder, &["-o", "a.trace"], &[program, "30000"]));
    let trace = trace(folder.join("a.trace"));
    assert_eq!(trace.counts().operations(), 28 * 30_000);
    assert_eq!(trace.counts().free_unseen, 0);
    assert!(trace.origin().warnings.is_empty());
    no_session_is_left(folder);
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
