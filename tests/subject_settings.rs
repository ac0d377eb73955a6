//! Rows of one allocator under several settings: each takes effect, and nothing set outside does.

mod suite;

use std::fmt::Write as _;
use std::path::Path;

use mymalloc::measure::results::Results;
use mymalloc::subject::catalogue::Catalogue;
use suite::{assert_complete, folder, replay, results, row, stderr};

/// Replays `count` blocks of `bytes` that are all live at once, then freed.
fn at_once(count: u32, bytes: u32, subjects: &str, variable: Option<(&str, &str)>) -> Results {
    let folder = folder();
    let mut text = String::new();
    for number in 1..=count {
        writeln!(text, "1 1 malloc({bytes})=#{number}").expect("strings grow");
    }
    for number in 1..=count {
        writeln!(text, "1 1 free(#{number})").expect("strings grow");
    }
    let trace = folder.path().join("trace.log");
    std::fs::write(&trace, text).expect("the folder is ours");
    let out = folder.path().join("report");
    let output = replay()
        .args(["--quick", "--blocks", "1", "--subjects", subjects, "--out"])
        .args([&out, &trace])
        .envs(variable)
        .output()
        .expect("the program starts");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    results(&out)
}

fn peak(results: &Results, subject: &str) -> u64 {
    assert_complete(row(results, subject));
    row(results, subject).rss_peak_bytes.expect("measured")
}

fn retained(results: &Results, subject: &str) -> u64 {
    assert_complete(row(results, subject));
    row(results, subject).rss_retained_bytes.expect("measured")
}

/// Blocks a little above an OS page: two pages each when mapped one by one.
const PAGE_AND_A_BIT: u32 = 4200;

#[test]
fn the_c_librarys_mapping_threshold_shows_in_its_memory() {
    let results = at_once(3000, PAGE_AND_A_BIT, "system,system-mmap-all", None);
    let (plain, mapped) = (peak(&results, "system"), peak(&results, "system-mmap-all"));
    assert!(2 * mapped > 3 * plain, "{mapped} against {plain}");
    let subject = |name: &str| {
        let found = results.subjects.iter().find(|subject| subject.name == name);
        found.expect("recorded").clone()
    };
    let variables = subject("system-mmap-all").environment;
    assert!(variables.contains_key("GLIBC_TUNABLES"), "{variables:?}");
    let receipt = |sample: &mymalloc::measure::results::Sample| sample.receipt.clone();
    let receipt = results.samples.iter().find_map(receipt).expect("one");
    assert!(receipt.build.is_some(), "{receipt:?}");
    assert_eq!(receipt.build, subject("system").build);
    let version = subject("system-mmap-all").version.expect("it tells");
    assert_eq!(Some(&version), subject("system").version.as_ref());
}

#[test]
fn a_setting_from_outside_reaches_no_subject() {
    let tunables = "glibc.malloc.mmap_threshold=4096:glibc.malloc.mmap_max=1000000";
    let outside = Some(("GLIBC_TUNABLES", tunables));
    let results = at_once(3000, PAGE_AND_A_BIT, "system,system-mmap-all", outside);
    let (plain, mapped) = (peak(&results, "system"), peak(&results, "system-mmap-all"));
    assert!(2 * mapped > 3 * plain, "{mapped} against {plain}");
    let told = |words: &str| {
        results
            .warnings
            .iter()
            .any(|warning| warning.contains(words))
    };
    assert!(
        told("GLIBC_TUNABLES was set, and is removed"),
        "{:?}",
        results.warnings
    );
}

#[test]
fn what_is_given_back_follows_the_settings() {
    for (prompt, never) in [
        ("jemalloc-decay0", "jemalloc-never"),
        ("mimalloc-purge0", "mimalloc-never"),
    ] {
        let results = at_once(2000, 16_000, &format!("{prompt},{never}"), None);
        let (less, more) = (retained(&results, prompt), retained(&results, never));
        assert!(
            more > 2 * less + (8 << 20),
            "{never} {more}, {prompt} {less}"
        );
    }
}

/// The first sample of each subject has what the file says of it, in `replay` and in `suite`.
#[test]
fn a_subjects_file_brings_one_allocator_under_two_settings() {
    let folder = folder();
    let object = suite::shared_object(folder.path(), "faulty.c", "mine", &[]);
    let file = folder.path().join("own.toml");
    let text = "[[subject]]\nname = 'mine-a'\ndescription = 'One setting'\npath = 'mine.so'\n\
                environment = { MINE = 'a' }\nversion = { text = '7.1' }\n\
                [[subject]]\nname = 'mine-b'\ndescription = 'The other'\npath = 'mine.so'\n\
                environment = { MINE = 'b' }\nversion = { text = '7.1' }\n";
    std::fs::write(&file, text).expect("ours");
    let trace = suite::write_trace(folder.path(), 500);
    let definitions = suite::small::small_workloads(folder.path());
    let out = |name: &str| folder.path().join(name);
    let mut replayed = replay();
    replayed.args(["--quick", "--blocks", "1", "--out"]);
    replayed.args([&out("replay"), &trace]);
    let mut suite = suite::small::suite(&definitions, &out("suite"));
    suite.args(["--quick", "--blocks", "1", "--name", "w1"]);
    for (command, name) in [(&mut replayed, "replay"), (&mut suite, "suite")] {
        let done = command.arg("--subjects-file").arg(&file).output();
        let done = done.expect("the program starts");
        assert_eq!(done.status.code(), Some(0), "{}", stderr(&done));
        let results = results(&out(name));
        for (subject, value) in [("mine-a", "a"), ("mine-b", "b")] {
            assert_complete(row(&results, subject));
            let found = results.subjects.iter().find(|one| one.name == subject);
            let found = found.expect("recorded");
            assert_eq!(found.environment["MINE"], value);
            assert_eq!(found.version.as_deref(), Some("7.1"));
            let path = found.path.as_deref().expect("an object");
            assert_eq!(Path::new(path), object);
            let sample = results.samples.iter().find(|one| one.subject == subject);
            let receipt = sample.expect("taken").receipt.clone().expect("served");
            assert_eq!(receipt.version.as_deref(), Some("7.1"));
        }
        // Beside the usual ones.
        assert_complete(row(&results, "mimalloc"));
    }
    std::fs::write(&file, text.replace("version", "vresion")).expect("ours");
    let wrong = replay()
        .arg("--subjects-file")
        .args([&file, &trace])
        .output();
    let wrong = wrong.expect("the program starts");
    let words = ["own.toml:6: unknown key `vresion`; did you mean `version`?"];
    suite::assert_one_line_error(&wrong, 1, &words);
    let missing = replay()
        .args(["--subjects-file", "none.toml"])
        .arg(&trace)
        .output();
    suite::assert_one_line_error(&missing.expect("it starts"), 1, &["none.toml: cannot read"]);
}

/// A misspelt tunable would be ignored without a word.
#[test]
#[cfg(all(target_arch = "x86_64", target_env = "gnu"))]
fn the_c_library_knows_all_tunables_of_the_catalogue() {
    let linker = Path::new("/lib64/ld-linux-x86-64.so.2");
    let output = std::process::Command::new(linker)
        .arg("--list-tunables")
        .output();
    let output = output.expect("the dynamic linker of this very program");
    let known = suite::stdout(&output);
    let catalogue = Catalogue::load().expect("valid");
    let mut seen = 0;
    for subject in catalogue.subjects() {
        let Some(tunables) = subject.environment.get("GLIBC_TUNABLES") else {
            continue;
        };
        for tunable in tunables.split(':') {
            let (name, value) = tunable.split_once('=').expect("name=value");
            assert!(
                known.contains(&format!("{name}:")),
                "{}: {name}",
                subject.name
            );
            value.parse::<u64>().expect("a number");
            seen += 1;
        }
    }
    assert!(seen >= 3, "{seen}");
}

/// With `--features peers`: each is right, and served by this program itself.
#[test]
#[cfg(all(
    feature = "snmalloc",
    feature = "rpmalloc",
    feature = "dlmalloc",
    feature = "talc"
))]
fn linked_peers_are_right() {
    let peers = ["snmalloc", "rpmalloc", "dlmalloc", "talc"];
    let folder = folder();
    let trace = suite::write_trace(folder.path(), 20_000);
    let out = folder.path().join("report");
    let output = replay()
        .args(["--quick", "--blocks", "1", "--touch", "all", "--subjects"])
        .arg(peers.join(","))
        .arg("--out")
        .args([&out, &trace])
        .output()
        .expect("the program starts");
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let results = results(&out);
    for name in peers {
        assert_complete(row(&results, name));
        let subject = results.subjects.iter().find(|subject| subject.name == name);
        let version = subject.expect("recorded").version.clone();
        assert!(version.expect("known").starts_with("crate "));
    }
}
