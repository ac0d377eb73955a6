//! The allocator library is a library of its own: no dependency, no word of the suite, and a
//! program that knows only it can make it its global allocator.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const PACKAGE: &str = env!("CARGO_MANIFEST_DIR");

/// Runs cargo away from the network and from this build's folders; returns what it prints.
fn cargo(arguments: &[&str], folder: &Path) -> String {
    let mut command = Command::new(env!("CARGO"));
    command.args(arguments).arg("--offline").current_dir(folder);
    // Cargo sets these for the test; the other cargo is to find its own.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CARGO_PKG_") || name == "CARGO_TARGET_DIR" {
            command.env_remove(name);
        }
    }
    let output = command.output().expect("cargo can be run");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?}: {}\n{errors}",
        output.status
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn without_the_suite_there_is_no_dependency() {
    let tree = [
        "tree",
        "--no-default-features",
        "--edges",
        "normal,build",
        "--prefix",
        "none",
    ];
    let tree = cargo(&tree, Path::new(PACKAGE));
    assert_eq!(tree.lines().count(), 1, "{tree}");
    assert!(tree.starts_with("mymalloc v"), "{tree}");
}

#[test]
fn a_program_runs_on_the_library_alone() {
    let folder = tempdir();
    let manifest = format!(
        "[package]\nname = \"user\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\
         [dependencies]\nmymalloc = {{ path = {PACKAGE:?}, default-features = false }}\n\
         [workspace]\n"
    );
    let program = r#"
        use mymalloc::allocator::pagelist::{PageListGlobal, c};

        #[global_allocator]
        static GLOBAL: PageListGlobal = PageListGlobal;

        fn main() {
            let words: Vec<String> = (0..1000).map(|n| format!("word {n}")).collect();
            let joined = words.join(" ");
            // SAFETY: the start of a block of the global allocator's, which is asked only for its size.
            let of = |address: *const u8| unsafe { c::malloc_usable_size(address as *mut _) };
            assert!(of(words[5].as_ptr()) >= words[5].len());
            assert!(of(joined.as_ptr()) >= joined.len());
            let sum: usize = std::thread::spawn(move || words.iter().map(String::len).sum())
                .join()
                .unwrap();
            println!("{} {sum}", joined.len());
        }
    "#;
    fs::create_dir(folder.path().join("src")).expect("a folder");
    fs::write(folder.path().join("Cargo.toml"), manifest).expect("a file");
    fs::write(folder.path().join("src/main.rs"), program).expect("a file");
    fs::copy(
        Path::new(PACKAGE).join("Cargo.lock"),
        folder.path().join("Cargo.lock"),
    )
    .expect("versions that are already here");
    assert_eq!(cargo(&["run", "--quiet"], folder.path()), "8889 7890\n");
}

/// Removed when dropped. The `tempfile` crate is part of the suite, which this test does without.
struct Temporary(PathBuf);

impl Temporary {
    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // A folder of temporary files that stays behind harms nobody.
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn tempdir() -> Temporary {
    let path = std::env::temp_dir().join(format!("mymalloc-user-{}", std::process::id()));
    fs::create_dir(&path).expect("a folder for temporary files");
    Temporary(path)
}

/// Every source file of the library, without its unit tests.
fn sources(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
    for entry in fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("text");
            let code = text
                .split("#[cfg(test)]")
                .next()
                .unwrap_or_default()
                .to_owned();
            found.push((path, code));
        }
    }
}

#[test]
fn the_library_imports_core_and_itself_only() {
    let mut found = Vec::new();
    sources(&Path::new(PACKAGE).join("src/allocator"), &mut found);
    assert!(found.len() >= 10, "the sources are found");
    for (path, code) in found {
        for line in code
            .lines()
            .filter(|line| !line.trim_start().starts_with("//"))
        {
            // Where there is no assembly for it, the one thing that only std has.
            let of_the_crate = line
                .replace("crate::allocator::", "")
                .replace("std::thread_local!", "");
            for word in ["std::", "alloc::alloc", "extern crate", "libc::", "crate::"] {
                let found = of_the_crate.contains(word);
                assert!(!found, "{}: {word} in: {line}", path.display());
            }
            let is_os = path.ends_with("os.rs") || path.ends_with("os/threads.rs");
            assert!(
                is_os || !line.contains("unsafe extern \"C\" {"),
                "{}",
                path.display()
            );
        }
    }
}
