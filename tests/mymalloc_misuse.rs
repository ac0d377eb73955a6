//! Every mistake that `tests/programs/misuse.c` can make with a pointer ends the program under MyMalloc,
//! with one line that says which pointer and what is wrong.
#![cfg(feature = "suite")]

mod common;

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Command;

use common::text_of;

const SHIM: &str = env!("MYMALLOC_SHIM_MYMALLOC");

#[test]
fn every_mistake_ends_the_program_with_one_line() {
    let folder = tempfile::tempdir().expect("a folder");
    let program = folder.path().join("misuse");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs/misuse.c");
    let compiled = Command::new("cc")
        .args(["-O1", "-w", "-pthread", "-o"])
        .arg(&program)
        .arg(source)
        .status();
    assert!(compiled.expect("a C compiler").success());
    let names = Command::new(&program).output().expect("it runs");
    let names = String::from_utf8(names.stdout).expect("text");
    assert!(names.lines().count() >= 36, "{names}");
    for name in names.lines() {
        let output = Command::new(&program)
            .arg(name)
            .env("LD_PRELOAD", SHIM)
            .output()
            .expect("it runs");
        let text = text_of(&output);
        assert_eq!(
            output.status.signal(),
            Some(libc::SIGABRT),
            "{name}: {text}"
        );
        assert_eq!(text.lines().count(), 1, "{name}: {text}");
        let reason = match name {
            // All blocks of the slice had been freed, and it had gone to other classes.
            "twice_after_thousands" => "page was given back",
            // Far from the start of a large block nothing is known of it.
            "inside_large" | "inside_huge" => "not of this allocator",
            "misaligned_large" => "lies inside a block",
            _ if name.starts_with("twice") || name == "size_of_freed" => "was freed already",
            _ if name.starts_with("inside") => "lies inside a block",
            _ if name.starts_with("misaligned") => "not aligned to 16 bytes",
            _ => "",
        };
        assert!(
            text.starts_with("mymalloc: ") && text.contains("(0x") && text.contains(reason),
            "{name}: {text}"
        );
    }
}
