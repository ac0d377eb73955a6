//! `compare` as a command: exit codes, formats, and which files it refuses, with the reason.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use mymalloc::measure::compare::{Selection, compare};
use mymalloc::measure::results::*;
use mymalloc::report;

use crate::compare::{again, noisy, noisy_on, refusal};
use crate::whole;

#[test]
fn what_cannot_be_compared_is_refused_with_the_reason() {
    let old = noisy(1, 1.0);
    let changed = |change: fn(&mut Results)| {
        let mut new = again(&old);
        change(&mut new);
        refusal(&old, &new)
    };
    for (change, words) in [
        (
            (|new| new.settings.baseline = "jemalloc".into()) as fn(&mut Results),
            vec!["different baselines", "system", "--baseline"],
        ),
        (
            |new| {
                new.runs[0].environment.cpu = Some("Other CPU".into());
                new.runs[0].environment.libc = Some("glibc 2.41".into());
            },
            vec![
                "different machines",
                "Other CPU now",
                "glibc 2.36 before",
                "--across-machines",
            ],
        ),
        (
            |new| new.settings.touch = Touch::All,
            vec!["different settings", "touch (page and all)"],
        ),
        (
            |new| new.settings.passes_per_sample = 5,
            vec!["replays per sample (3 and 5)"],
        ),
        (
            |new| new.workloads[0].order = Some(Order::Threads),
            vec!["vim: ", "order serial before and threads now"],
        ),
        (
            |new| new.workloads[0].origin.as_mut().unwrap().sha256 = "0123456789abcdef".into(),
            vec!["vim: the traces differ", "0123456789ab now"],
        ),
        (
            |new| new.workloads[0].profile.as_mut().unwrap().counts.malloc += 1,
            vec!["different operations"],
        ),
        (
            |new| new.workloads[0].name = "emacs".into(),
            vec!["no workload in common", "vim", "emacs"],
        ),
        (
            |new| {
                for subject in &mut new.subjects {
                    if subject.name != "system" {
                        subject.name = format!("{}-2", subject.name);
                    }
                }
            },
            vec!["no subject in common", "mimalloc-2"],
        ),
        (
            |new| {
                let profile = new.workloads[0].profile.as_mut().unwrap();
                profile.sizes[3].high_bytes += 8;
            },
            vec!["vim: the traces hold other sizes or lifetimes"],
        ),
        (
            |new| new.subjects[0].build = Some("0123456789abcdef".into()),
            vec![
                "the baseline system is another one",
                "build unknown before, 0123456789ab now",
                "--other-baseline",
            ],
        ),
        (
            |new| {
                new.subjects[0].environment =
                    [("GLIBC_TUNABLES".to_owned(), "x".to_owned())].into();
            },
            vec!["environment none before, GLIBC_TUNABLES=x now"],
        ),
    ] {
        let message = changed(change);
        for word in words {
            assert!(message.contains(word), "{word:?} is not in {message:?}");
        }
        assert!(!message.contains('\n'));
    }
    // A program's input, and a generator's parameters, are no change of an allocator.
    let whole = whole::whole();
    let mut other = again(&whole);
    let program = other
        .workloads
        .iter_mut()
        .find_map(|one| one.program.as_mut());
    program.unwrap().files_sha256 = "1".repeat(64);
    let message = refusal(&whole, &other);
    assert!(message.contains("gcc: the program's command or its input differs"));
    let mut other = again(&whole);
    let program = other
        .workloads
        .iter_mut()
        .find_map(|one| one.program.as_mut());
    let builds = &mut program.unwrap().executables;
    builds.insert("cc1".into(), "0123".into());
    let message = refusal(&whole, &other);
    assert!(message.contains("gcc: the program, or one that it calls, is another build"));
    let mut other = again(&whole);
    let threads = other
        .workloads
        .iter_mut()
        .find_map(|one| one.threaded.as_mut());
    threads.unwrap().edges += 1;
    let message = refusal(&whole, &other);
    assert!(message.contains("systemui: its threads were held together"));
    let generated = |seed: u32| {
        let mut results = again(&old);
        let origin = results.workloads[0].origin.as_mut().unwrap();
        origin.format = mymalloc::trace::Format::Generated;
        origin.sha256 = String::new();
        origin.notes = vec![format!("generated from seed {seed}")];
        results.runs[0].elapsed_ns += u64::from(seed);
        results
    };
    let message = refusal(&generated(1), &generated(2));
    assert!(
        message.contains("seed 1 before, generated from seed 2 now"),
        "{message}"
    );
    // A merged file beside one of its parts holds a run twice.
    let mut merged = again(&old);
    merged.runs.push(old.runs[0].clone());
    assert!(refusal(&old, &merged).contains("both files hold the run of"));

    // Shards of one workload on two machines are no one set of blocks.
    let mut mixed = again(&old);
    mixed.runs.push(mixed.runs[0].clone());
    mixed.runs[1].environment.cpu = Some("Other CPU".into());
    let half = |sample: &&mut Sample| sample.block % 2 == 1;
    mixed
        .samples
        .iter_mut()
        .filter(half)
        .for_each(|one| one.run = 1);
    let message = refusal(&old, &mixed);
    assert!(
        message.contains("the new file holds vim from several machines"),
        "{message}"
    );
    mixed.runs[1].environment.cpu = mixed.runs[0].environment.cpu.clone();
    mixed.runs[1].elapsed_ns += 1;
    let pooled = compare(&old, &mixed, &Selection::default()).unwrap();
    let notes = pooled.notes.join("\n");
    assert!(
        notes.contains("The blocks of 1 old and 2 new runs"),
        "{notes}"
    );

    let mut elsewhere = old.clone();
    elsewhere.runs[0].environment.cpu = None;
    let selection = Selection {
        across_machines: true,
        ..Selection::default()
    };
    assert!(compare(&old, &elsewhere, &selection).is_ok());
    let selection = Selection {
        old_subject: Some("hoard".into()),
        ..Selection::default()
    };
    let message = compare(&old, &old, &selection).unwrap_err().to_string();
    assert!(message.contains("no subject hoard"), "{message}");
}

fn file(folder: &Path, name: &str, results: &Results) -> PathBuf {
    let path = folder.join(name);
    report::write_results(results, &path).unwrap();
    path
}

fn command(arguments: &[&str]) -> (i32, String, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = Command::new(env!("CARGO_BIN_EXE_mymalloc"))
        .args(arguments)
        .output()
        .unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (status.code().unwrap(), text(stdout), text(stderr))
}

#[test]
fn the_command_is_a_gate() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str, results: &Results| {
        file(folder.path(), name, results)
            .to_str()
            .unwrap()
            .to_owned()
    };
    let old = path("old.json", &noisy(1, 1.0));
    let same = path("same.json", &noisy(7, 1.0));
    let slower = path("slower.json", &noisy(3, 1.05));

    let (code, text, errors) = command(&["compare", &old, &same]);
    assert_eq!((code, errors.as_str()), (0, ""), "{text}");
    assert!(text.contains("The comparison passes"), "{text}");
    assert!(text.contains("noise floor, fresh heap: "), "{text}");

    let (code, text, errors) = command(&["compare", &old, &slower]);
    assert_eq!((code, errors.as_str()), (1, ""), "{text}");
    assert!(text.contains("slower"), "{text}");
    assert!(
        text.lines().all(|line| line.chars().count() <= 80),
        "{text}"
    );

    assert_eq!(
        command(&["compare", &old, &slower, "--fail-above", "20%"]).0,
        0
    );
    assert_eq!(
        command(&["compare", &old, &slower, "--fail-above", "0.02"]).0,
        1
    );
    assert_eq!(
        command(&["compare", &old, &slower, "--subject", "jemalloc"]).0,
        0
    );

    let one = ["compare", &slower, &slower];
    let pair = ["--old-subject", "jemalloc", "--new-subject", "mimalloc"];
    let (code, text, _) = command(&[&one[..], &pair[..]].concat());
    assert_eq!(code, 0, "mimalloc is faster than jemalloc: {text}");
    assert!(text.contains("jemalloc → mimalloc"), "{text}");

    let (code, text, _) = command(&["compare", &old, &slower, "--format", "json"]);
    let json: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(code, 1);
    assert_eq!(json["fails"], true);
    assert_eq!(json["outcome"], "fails");
    assert_eq!(json["comparison"]["rows"].as_array().unwrap().len(), 4);
    let (code, text, _) = command(&["compare", &old, &slower, "--format", "markdown"]);
    assert_eq!(code, 1);
    assert!(text.contains("| mimalloc | fresh |"), "{text}");

    // Too few blocks for any verdict is neither a pass nor a regression.
    let few = path("few.json", &noisy_on(&["vim"], 4, 8, |_| 1.0));
    let (code, text, errors) = command(&["compare", &few, &same]);
    assert_eq!(code, 2, "{text}");
    assert!(text.contains("The comparison is not decided"), "{text}");
    assert!(
        errors.contains("4 of 4 rows have too few blocks"),
        "{errors}"
    );
    assert!(
        errors.contains("at least 6 blocks on each side (--blocks 6)"),
        "{errors}"
    );
}

#[test]
fn the_command_tells_broken_files_from_slow_ones() {
    let folder = tempfile::tempdir().unwrap();
    let good = file(folder.path(), "good.json", &noisy(1, 1.0));
    let good = good.to_str().unwrap();
    let text = std::fs::read_to_string(good).unwrap();
    let broken = folder.path().join("broken.json");
    for (content, words) in [
        (&text[..text.len() / 2], "cut short"),
        (
            &text.replacen("\"schema_version\": 2", "\"schema_version\": 1", 1),
            "schema version 1",
        ),
        ("", "empty"),
    ] {
        std::fs::write(&broken, content).unwrap();
        let (code, out, errors) = command(&["compare", good, broken.to_str().unwrap()]);
        assert_eq!((code, out.as_str()), (2, ""), "{errors}");
        assert!(errors.contains(words), "{errors}");
    }
    assert_eq!(command(&["compare", good]).0, 2);
    assert_eq!(
        command(&["compare", good, good, "--fail-above", "much"]).0,
        2
    );
    assert_eq!(command(&["compare", good, "/nonexistent.json"]).0, 2);
}
