//! `mymalloc suite` on real programs: what is measured of them, and how they cannot harm it.

mod suite;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use mymalloc::measure::results::{Pass, ProgramMemory, Results, Status};
use suite::small::{RIGHT, output, write_definition};
use suite::{folder, mymalloc, processes_of, results, row, shared_object, stderr, stdout};

/// Runs one program under the C library and one preloaded object.
fn program(
    folder: &Path,
    table: &str,
    subject: Option<&Path>,
    extra: &[&str],
) -> (Output, Results) {
    let definitions = folder.join("definitions");
    std::fs::create_dir_all(&definitions).expect("ours");
    let common = "setup = 'apt-get install -y it'";
    write_definition(&definitions, "p", "program", &format!("{common}\n{table}"));
    let out = folder.join("report");
    let mut command = mymalloc();
    command
        .args(["suite", "--subjects", "system", "--blocks", "1", "--fresh"])
        .args(extra)
        .arg("--definitions")
        .arg(&definitions)
        .arg("--out")
        .arg(&out);
    if let Some(path) = subject {
        command.args(["--subject", &format!("other={}", path.display())]);
    }
    let output = output(&mut command);
    let results = results(&out);
    (output, results)
}

/// A C program of `tests/programs`, built into the folder, and a table that runs it.
fn compiled(folder: &Path, source: &str, flags: &[&str]) -> String {
    let definitions = folder.join("definitions");
    std::fs::create_dir_all(&definitions).expect("ours");
    let source = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/programs")
        .join(source);
    let done = Command::new("cc")
        .args(["-O1", "-fno-builtin", "-o"])
        .args([&definitions.join("grow"), &source])
        .args(flags)
        .output()
        .expect("a C compiler is needed to build mimalloc, so it is there");
    assert!(done.status.success(), "{}", stderr(&done));
    format!("command = ['./grow']\nfiles = ['grow']\nexpected_sha256 = '{RIGHT}'")
}

#[test]
fn a_program_is_measured_as_a_tree() {
    let folder = folder();
    let table = compiled(folder.path(), "grow.c", &[]);
    let object = shared_object(folder.path(), "faulty.c", "right", &[]);
    let (done, results) = program(folder.path(), &table, Some(&object), &[]);
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    for subject in ["system", "other", "system-again"] {
        assert_eq!(row(&results, subject).status, Status::Ok, "{results:?}");
        let of = |pass: Pass| {
            let mut samples = results.samples.iter();
            samples.find(|one| one.subject == subject && one.pass == pass)
        };
        let sample = of(Pass::Program).expect("a timed run");
        let timed = sample.program.as_ref().expect("measured");
        assert_eq!(timed.output_sha256, RIGHT);
        assert!(
            timed.wall_ns >= 300_000_000 && timed.user_ns + timed.system_ns > 0,
            "{timed:?}"
        );
        assert_eq!(timed.memory, None, "passes do not mix");
        let receipt = sample.receipt.as_ref().expect("a receipt");
        assert_eq!(receipt.path.ends_with("right.so"), subject == "other");
        assert_eq!(receipt.functions.len(), 7);
        assert!(receipt.build.is_some());
        assert_eq!(receipt.version.is_some(), subject != "other", "{receipt:?}");
        if subject == "system-again" {
            assert_eq!(of(Pass::Memory), None, "a twin is timed only");
            continue;
        }
        assert!(of(Pass::Verify).is_some_and(|verified| verified.program.is_none()));
        let looked = of(Pass::Memory).expect("a memory run");
        let memory = looked.program.as_ref().and_then(|program| program.memory);
        let memory = memory.expect("measured");
        // Two processes of 40 MB each at once, one of which outlives its parent.
        assert!(memory.processes_peak >= 2, "{memory:?}");
        let peak = memory.rss_sum_peak_bytes;
        assert!((80_000_000..400_000_000).contains(&peak), "{memory:?}");
        assert!(
            (40_000_000..peak).contains(&memory.rss_largest_bytes),
            "{memory:?}"
        );
        assert_eq!(memory.rss_peak_bytes, peak);
        let own = results.samples.iter().filter(|one| one.subject == subject);
        let mut peaks: Vec<u64> = own
            .filter_map(|one| Some(one.program.as_ref()?.memory?.rss_peak_bytes))
            .collect();
        peaks.sort_unstable();
        assert_eq!(peaks.len(), 3);
        assert_eq!(row(&results, subject).rss_peak_bytes, Some(peaks[1]));
    }
    let record = results.workloads[0].program.as_ref().expect("a program");
    assert_eq!(record.command, ["./grow"]);
}

#[test]
fn wrong_output_is_wrong_with_both_hashes() {
    let folder = folder();
    let table = compiled(folder.path(), "grow.c", &[]);
    let object = shared_object(folder.path(), "faulty.c", "lossy", &["FAULT_LOSSY_REALLOC"]);
    let (done, results) = program(folder.path(), &table, Some(&object), &[]);
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    assert_eq!(row(&results, "system").status, Status::Ok);
    let wrong = row(&results, "other");
    assert_eq!(wrong.status, Status::Wrong, "{wrong:?}");
    let reason = wrong.reason.as_ref().expect("a reason");
    assert!(
        reason.contains("wrong output") && reason.contains(RIGHT),
        "{reason}"
    );
    assert!(wrong.ns_per_operation.is_none(), "not ranked");
    assert!(
        stdout(&done).contains("warning: other on p"),
        "{}",
        stdout(&done)
    );
}

#[test]
fn a_program_that_cannot_be_measured_is_refused_with_its_reason() {
    for (flags, words) in [
        (vec!["-static"], ["linked statically", "grow"]),
        (
            vec!["-DOWN_MALLOC", "-rdynamic"],
            ["allocator of its own (malloc", "grow"],
        ),
        // malloc is not among them.
        (
            vec!["-DOWN_REALLOC", "-rdynamic"],
            ["allocator of its own (realloc)", "grow"],
        ),
    ] {
        let folder = folder();
        let table = compiled(folder.path(), "grow.c", &flags);
        let (_, results) = program(folder.path(), &table, None, &[]);
        let row = row(&results, "system");
        assert_eq!(row.status, Status::Refused, "{row:?}");
        let reason = row.reason.as_ref().expect("a reason");
        assert!(words.iter().all(|word| reason.contains(word)), "{reason}");
    }
    let folder = folder();
    let table = format!("command = ['no-such-program']\nexpected_sha256 = '{RIGHT}'");
    let (done, results) = program(folder.path(), &table, None, &[]);
    assert_eq!(row(&results, "system").status, Status::Refused);
    assert!(
        stdout(&done).contains("no-such-program is not"),
        "{}",
        stdout(&done)
    );
    let reason = row(&results, "system").reason.clone().expect("a reason");
    assert!(reason.contains("run `apt-get install -y it`"), "{reason}");
}

#[test]
fn programs_that_hang_or_eat_memory_are_ended_with_their_trees() {
    for (script, extra, status, word) in [
        (
            "sleep 1000 & sleep 1000",
            ["--timeout", "1"],
            Status::TimedOut,
            "sleep",
        ),
        // Left behind in a session of its own, it is found all the same.
        (
            "setsid sleep 1000 & exit 0",
            ["--timeout", "1"],
            Status::TimedOut,
            "sleep",
        ),
        (
            "x=0123456789; while true; do x=$x$x; done",
            ["--memory-limit", "100M"],
            Status::OutOfMemory,
            "memory limit of 100 MiB",
        ),
        // However soon it ends.
        (
            "exit 3",
            ["--timeout", "20"],
            Status::Crashed,
            "exit code 3",
        ),
        (
            "no-such-command-here",
            ["--timeout", "20"],
            Status::Crashed,
            "exit code 127; it said: ",
        ),
        (
            "kill -SEGV $$",
            ["--timeout", "20"],
            Status::Crashed,
            "SIGSEGV",
        ),
    ] {
        let folder = folder();
        let table = format!("command = ['sh', '-c', '{script}']\nexpected_sha256 = '{RIGHT}'");
        let (_, results) = program(folder.path(), &table, None, &extra);
        let row = row(&results, "system");
        assert_eq!(row.status, status, "{script}: {row:?}");
        let reason = row.reason.as_ref().expect("a reason");
        assert!(reason.contains(word), "{script}: {reason}");
    }
}

/// The memory of a subject's first memory sample.
fn memory(results: &Results, subject: &str) -> ProgramMemory {
    let mut samples = results.samples.iter().filter(|one| one.subject == subject);
    samples
        .find_map(|sample| sample.program.as_ref()?.memory)
        .expect("a memory run")
}

#[test]
fn a_peak_between_two_looks_is_not_missed() {
    let folder = folder();
    let table = compiled(folder.path(), "touch.c", &["-DMIB=300"]);
    let (done, results) = program(folder.path(), &table, None, &[]);
    assert_eq!(
        row(&results, "system").status,
        Status::Ok,
        "{}",
        stderr(&done)
    );
    let memory = memory(&results, "system");
    assert!(memory.rss_peak_bytes >= 300 << 20, "{memory:?}");
    assert!(memory.rss_peak_bytes < 330 << 20, "{memory:?}");
    assert!(
        memory.rss_sum_peak_bytes <= memory.rss_peak_bytes,
        "{memory:?}"
    );
}

#[test]
fn the_memory_limit_holds_for_a_process_of_any_size() {
    let folder = folder();
    // 2 MiB every 5 ms: however busy the machine, the looks keep up.
    let table = compiled(
        folder.path(),
        "touch.c",
        &["-DMIB=4000", "-DSTEP_MIB=2", "-DPAUSE_MS=5"],
    );
    let (_, results) = program(folder.path(), &table, None, &["--memory-limit", "200M"]);
    let row = row(&results, "system");
    assert_eq!(row.status, Status::OutOfMemory, "{row:?}");
    let reason = row.reason.as_ref().expect("a reason");
    let seen = reason
        .split_whitespace()
        .find_map(|word| word.parse::<u64>().ok());
    assert!(
        (200..300).contains(&seen.expect("a number of MiB")),
        "{reason}"
    );
}

#[test]
fn a_program_that_ends_at_once_is_known_too() {
    let folder = folder();
    let object = shared_object(folder.path(), "faulty.c", "right", &[]);
    let table = compiled(folder.path(), "touch.c", &["-DMIB=1"]);
    let (_, results) = program(folder.path(), &table, Some(&object), &[]);
    for subject in ["system", "other"] {
        assert_eq!(
            row(&results, subject).status,
            Status::Ok,
            "{:?}",
            row(&results, subject)
        );
    }
}

#[test]
fn a_library_with_an_allocator_of_its_own_is_refused() {
    let folder = folder();
    let object = shared_object(folder.path(), "faulty.c", "right", &[]);
    for flag in ["-Bsymbolic", "-Bsymbolic-functions"] {
        let library = folder.path().join("libowner.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/owner.c");
        let built = output(
            Command::new("cc")
                .args(["-shared", "-fPIC", "-O0", "-fno-builtin", "-o"])
                .args([&library, &source])
                .arg(format!("-Wl,{flag}")),
        );
        assert!(built.status.success(), "{}", stderr(&built));
        let place = folder.path().display().to_string();
        let flags = [
            "-DMIB=1",
            "-DOWNER",
            &format!("-L{place}"),
            "-lowner",
            &format!("-Wl,-rpath,{place}"),
        ];
        let table = compiled(folder.path(), "touch.c", &flags);
        let (_, results) = program(folder.path(), &table, Some(&object), &[]);
        for subject in ["system", "other"] {
            let row = row(&results, subject);
            assert_eq!(row.status, Status::Refused, "{flag}: {row:?}");
            let reason = row.reason.as_ref().expect("a reason");
            assert!(
                reason.contains("libowner.so") && reason.contains("of its own"),
                "{reason}"
            );
        }
    }
}

#[test]
fn two_builds_of_an_object_do_not_mix() {
    let folder = folder();
    let object = shared_object(folder.path(), "faulty.c", "right", &[]);
    // As a build would that ends meanwhile: the file of that path is another one.
    let change = format!("touch {}; echo right", object.display());
    let table = format!("command = ['sh', '-c', '{change}']\nexpected_sha256 = '{RIGHT}'");
    let (_, results) = program(folder.path(), &table, Some(&object), &[]);
    assert_eq!(row(&results, "system").status, Status::Ok);
    let other = row(&results, "other");
    assert_eq!(other.status, Status::Refused, "{other:?}");
    let reason = other.reason.as_ref().expect("a reason");
    assert!(reason.contains("replaced or removed"), "{reason}");
}

#[test]
fn a_program_that_stops_or_kills_its_supervisor_is_a_row_and_leaves_nothing() {
    for (signal, word) in [
        ("STOP", "it stopped the process"),
        ("KILL", "was killed: SIGKILL"),
    ] {
        let folder = folder();
        let place = folder.path().join("left");
        // In a session of its own, with an environment of its own.
        let script = format!(
            "setsid env -i sh -c \"while :; do sleep 1; done\" {} & sleep 0.1; kill -{signal} $PPID; \
             sleep 1000",
            place.display()
        );
        let table = format!("command = [\"sh\", \"-c\", '{script}']\nexpected_sha256 = '{RIGHT}'");
        let definitions = folder.path().join("definitions");
        std::fs::create_dir_all(&definitions).expect("ours");
        let other = format!(
            "setup = 's'\ncommand = ['sh', '-c', 'echo right']\nexpected_sha256 = '{RIGHT}'"
        );
        write_definition(&definitions, "q", "program", &other);
        let start = Instant::now();
        let (done, results) = program(folder.path(), &table, None, &["--timeout", "500"]);
        assert!(
            start.elapsed() < Duration::from_secs(300),
            "it is not waited for"
        );
        assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
        let status = |name: &str| {
            let rows = results.summary.iter();
            let mut of = rows.filter(|row| row.workload == name && row.subject == "system");
            let row = of.next().expect("a row");
            (row.status, row.reason.clone().unwrap_or_default())
        };
        let (crashed, reason) = status("p");
        assert_eq!(crashed, Status::Crashed, "{reason}");
        assert!(reason.contains(word), "{reason}");
        assert_eq!(status("q").0, Status::Ok, "the others go on");
        assert_eq!(processes_of(folder.path()), [""; 0]);
    }
}

#[test]
fn cpu_time_that_the_kernel_drops_is_missed() {
    for (flag, word) in [
        ("-DIGNORE", "ignores the end of its children"),
        ("-DNO_WAIT", "missing"),
    ] {
        let folder = folder();
        let table = compiled(folder.path(), "forget.c", &[flag]);
        let (_, results) = program(folder.path(), &table, None, &[]);
        let row = row(&results, "system");
        assert_eq!(row.status, Status::Refused, "{row:?}");
        let reason = row.reason.as_ref().expect("a reason");
        assert!(reason.contains(word), "{reason}");
    }
}

#[test]
fn whoever_starts_the_suite_may_ignore_its_children() {
    let folder = folder();
    let definitions = folder.path().join("definitions");
    std::fs::create_dir_all(&definitions).expect("ours");
    let table =
        format!("setup = 's'\ncommand = ['sh', '-c', 'echo right']\nexpected_sha256 = '{RIGHT}'");
    write_definition(&definitions, "p", "program", &table);
    let out = folder.path().join("report");
    let script = "trap '' CHLD; exec \"$0\" suite --subjects system --blocks 1 --definitions \"$1\" --out \"$2\"";
    let program = env!("CARGO_BIN_EXE_mymalloc");
    let done = output(
        Command::new("sh")
            .args(["-c", script, program])
            .args([&definitions, &out]),
    );
    assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
    assert_eq!(row(&results(&out), "system").status, Status::Ok);
}

#[test]
fn an_ignored_hang_up_stays_ignored() {
    for (trap, survives) in [("trap '' HUP;", true), ("", false)] {
        let folder = folder();
        let definitions = folder.path().join("definitions");
        std::fs::create_dir_all(&definitions).expect("ours");
        let running = folder.path().join("running");
        let script = format!(
            "touch {0}; while [ -e {0} ]; do sleep 0.01; done; echo right",
            running.display()
        );
        let table =
            format!("setup = 's'\ncommand = ['sh', '-c', '{script}']\nexpected_sha256 = '{RIGHT}'");
        write_definition(&definitions, "p", "program", &table);
        let out = folder.path().join("report");
        let script = format!(
            "{trap} exec \"$0\" suite --subjects system --blocks 1 --definitions \"$1\" --out \"$2\""
        );
        let mut suite = Command::new("sh")
            .args(["-c", &script, env!("CARGO_BIN_EXE_mymalloc")])
            .args([&definitions, &out])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the program starts");
        wait_until("it runs", || running.exists());
        kill("HUP", suite.id());
        if survives {
            // The first run ends after the signal; those after it as well.
            let release = || std::fs::remove_file(&running).ok();
            while suite.try_wait().expect("a child").is_none() {
                release();
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        let status = suite.wait().expect("a child");
        assert_eq!(status.success(), survives, "{status}");
        assert_eq!(processes_of(folder.path()), [""; 0]);
    }
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(120), "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn kill(signal: &str, process: u32) {
    let script = format!("kill -{signal} {process}");
    assert!(
        Command::new("sh")
            .args(["-c", &script])
            .status()
            .is_ok_and(|s| s.success())
    );
}

#[test]
fn a_killed_suite_leaves_neither_processes_nor_folders_of_its_program() {
    let folder = folder();
    let definitions = folder.path().join("definitions");
    let temporary = folder.path().join("tmp");
    for path in [&definitions, &temporary] {
        std::fs::create_dir_all(path).expect("ours");
    }
    // Several at once write files as fast as they can, so that the folder is not empty for long.
    let writer = "n=0; while :; do n=$((n+1)); mkdir d$$.$n; : > d$$.$n/f; done";
    let script = format!(
        "({writer}) & ({writer}) & ({writer}) & setsid sh -c \"{writer}\" & touch started; wait"
    )
    .replace(
        "\"n=0; while :; do n=$((n+1)); mkdir d$$.$n; : > d$$.$n/f; done\"",
        "\"while :; do : > x; rm x; done\"",
    );
    let table =
        format!("setup = 's'\ncommand = [\"sh\", \"-c\", '{script}']\nexpected_sha256 = '{RIGHT}'");
    write_definition(&definitions, "p", "program", &table);
    let mut suite = mymalloc()
        .args([
            "suite",
            "--subjects",
            "system",
            "--blocks",
            "1",
            "--definitions",
        ])
        .arg(&definitions)
        .arg("--out")
        .arg(folder.path().join("report"))
        .env("TMPDIR", &temporary)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program starts");
    let folders = || -> Vec<PathBuf> {
        let entries = std::fs::read_dir(&temporary).expect("ours").flatten();
        // That of the suite itself has neither; the next suite removes it.
        let is_ours = |path: &PathBuf| path.join("work").exists() || path.join("order").exists();
        entries.map(|entry| entry.path()).filter(is_ours).collect()
    };
    wait_until("it runs", || {
        folders()
            .iter()
            .any(|one| one.join("work/started").exists())
    });
    suite.kill().expect("a child");
    suite.wait().expect("a child");
    wait_until("the folder goes", || folders().is_empty());
    wait_until("all processes end", || {
        processes_of(folder.path()).is_empty()
    });
}
