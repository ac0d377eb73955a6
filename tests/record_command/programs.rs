//! Programs of all kinds run as they always do.

use std::process::Stdio;
use std::time::Duration;

use mymalloc::trace::Operation;

use super::{
    KNOWN, compiled, ends_with, errors, files, no_session_is_left, record, send, trace, wait_until,
};

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
        errors(&output).contains("became another program"),
        "{}",
        errors(&output)
    );
    let misused = |options: &[&str], word: &str| {
        let output = ends_with(2, record(folder, options, &["ls"]));
        assert!(errors(&output).contains(word), "{}", errors(&output));
    };
    misused(&["--max-size", "10"], "at least 1M");
    // Before it runs: a recording of hours must not end with "is a directory".
    misused(&["-o", "."], "a folder");
    misused(&["-o", "/dev/null"], "not a plain file");
    no_session_is_left(folder);
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
