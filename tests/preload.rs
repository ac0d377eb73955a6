//! Real programs under `LD_PRELOAD` of the page list's shim and of MyMalloc's: the same output as
//! without them, and a receipt that the shim served them.
#![cfg(feature = "suite")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use object::{Object, ObjectSymbol};
use tempfile::TempDir;

const PAGELIST: &str = env!("MYMALLOC_SHIM_PAGELIST");
const MYMALLOC: &str = env!("MYMALLOC_SHIM_MYMALLOC");
const SHIMS: [&str; 2] = [PAGELIST, MYMALLOC];

/// What the page list's and MyMalloc's export beyond C's and POSIX's functions.
const C_API_MORE: [&str; 3] = ["cfree", "free_sized", "free_aligned_sized"];

/// What MyMalloc's exports beyond those: what glibc has, and C++.
const MYMALLOC_API: [&str; 20] = [
    "malloc_trim",
    "malloc_stats",
    "malloc_info",
    "mallinfo",
    "mallinfo2",
    "mallopt",
    "__libc_malloc",
    "__libc_free",
    "__libc_calloc",
    "__libc_realloc",
    "__libc_memalign",
    "__libc_valloc",
    "__libc_pvalloc",
    "__posix_memalign",
    "_Znwm",
    "_Znam",
    "_ZdlPv",
    "_ZdaPv",
    "_ZdlPvm",
    "_ZdaPvm",
];

const C_API: [&str; 11] = [
    "malloc",
    "free",
    "calloc",
    "realloc",
    "reallocarray",
    "posix_memalign",
    "aligned_alloc",
    "memalign",
    "valloc",
    "pvalloc",
    "malloc_usable_size",
];

fn temporary() -> TempDir {
    tempfile::tempdir().expect("a folder for temporary files")
}

fn is_installed(program: &str) -> bool {
    let mut command = Command::new(program);
    command
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

fn succeed(command: &mut Command) -> Output {
    let output = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{command:?}: {}\n{errors}",
        output.status
    );
    output
}

/// A program, and how it is run twice in the same way.
struct Run<'a> {
    program: &'a str,
    arguments: Vec<String>,
    folder: &'a Path,
}

impl<'a> Run<'a> {
    fn new(program: &'a str, arguments: &[&str], folder: &'a Path) -> Self {
        let arguments = arguments.iter().map(ToString::to_string).collect();
        Self {
            program,
            arguments,
            folder,
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.program);
        command
            .args(&self.arguments)
            .current_dir(self.folder)
            .env("LC_ALL", "C")
            .env("HOME", self.folder)
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .env("PYTHONHASHSEED", "0");
        command
    }

    /// Output without a shim, after checking that it is the same under each, byte for byte, and that
    /// the dynamic linker really bound some process of it to the shim's malloc.
    fn is_the_same_under_the_shims(&self) -> Output {
        let plain = succeed(&mut self.command());
        for shim in SHIMS {
            let bindings = temporary();
            let mut preloaded = self.command();
            preloaded
                .env("LD_PRELOAD", shim)
                .env("LD_DEBUG", "bindings")
                .env("LD_DEBUG_OUTPUT", bindings.path().join("of"));
            let preloaded = succeed(&mut preloaded);
            let text = String::from_utf8_lossy;
            assert_eq!(
                text(&preloaded.stderr),
                text(&plain.stderr),
                "{} under {shim}",
                self.program
            );
            // Not assert_eq: nobody wants to see megabytes.
            assert!(
                preloaded.stdout == plain.stdout,
                "{} under {shim}: the output differs",
                self.program
            );
            assert!(
                was_bound_to(shim, bindings.path()),
                "{}: not served by {shim}",
                self.program
            );
        }
        plain
    }
}

fn was_bound_to(shim: &str, bindings: &Path) -> bool {
    let files = fs::read_dir(bindings).expect("the linker's notes");
    files
        .map(|file| fs::read(file.expect("a file").path()).expect("readable"))
        .any(|notes| {
            String::from_utf8_lossy(&notes).lines().any(|line| {
                line.contains(&format!("to {shim} ")) && line.contains("symbol `malloc'")
            })
        })
}

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/programs")
        .join(name)
}

/// The C program that exercises the whole API, compiled.
fn api_program(folder: &Path) -> String {
    let program = folder.join("api");
    succeed(
        Command::new("cc")
            .args(["-O1", "-w", "-pthread", "-o"])
            .arg(&program)
            .arg(source("api.c"))
            .arg("-ldl"),
    );
    program.to_str().expect("a plain path").to_owned()
}

fn names_defined<'a>(symbols: impl Iterator<Item = object::Symbol<'a, 'a>>) -> BTreeSet<String> {
    symbols
        .filter(|symbol| symbol.is_definition() && symbol.is_global())
        .filter_map(|symbol| symbol.name().ok().map(str::to_owned))
        .collect()
}

#[test]
fn the_shims_export_the_c_api_and_their_own_names_only() {
    let own: [&[&str]; 2] = [
        &["mymalloc", "myfree"],
        &["mymalloc", "myfree", "mymalloc_stats_print"],
    ];
    for ((shim, own), more) in SHIMS.into_iter().zip(own).zip([&[][..], &MYMALLOC_API]) {
        let bytes = fs::read(shim).expect("build.rs has built it");
        let file = object::File::parse(&*bytes).expect("an ELF file");
        let exported = names_defined(file.dynamic_symbols());
        let expected = C_API
            .iter()
            .chain(&C_API_MORE)
            .chain(own)
            .chain(more)
            .map(ToString::to_string)
            .collect();
        assert_eq!(exported, expected, "{shim}");
    }
}

#[test]
fn the_programs_of_this_package_define_none_of_these_names() {
    for program in [env!("CARGO_BIN_EXE_mymalloc"), env!("CARGO_BIN_EXE_replay")] {
        let bytes = fs::read(program).expect("built for this test");
        let file = object::File::parse(&*bytes).expect("an ELF file");
        let defined: BTreeSet<_> = names_defined(file.symbols())
            .into_iter()
            .chain(names_defined(file.dynamic_symbols()))
            .collect();
        assert!(defined.contains("main"), "{program}: the names can be read");
        for name in C_API.into_iter().chain(["mymalloc", "myfree"]) {
            assert!(!defined.contains(name), "{program} defines {name}");
        }
    }
}

#[test]
fn a_c_program_is_served_in_every_function_from_every_place() {
    let folder = temporary();
    let program = api_program(folder.path());
    let output = Run::new(&program, &[], folder.path()).is_the_same_under_the_shims();
    let expected = "allocated before main\nfunctions\nthreads, forks beside them, signals\n\
                    10000 threads, no growth\ndlopen, dlsym, dlerror\n\
                    allocated in an exit handler\n";
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
}

#[test]
fn every_function_comes_from_the_shim() {
    let folder = temporary();
    let program = api_program(folder.path());
    for shim in SHIMS {
        let mut command = Command::new(&program);
        let receipt = succeed(command.arg("receipt").env("LD_PRELOAD", shim));
        let expected: String = C_API
            .iter()
            .map(|name| format!("{name} {shim}\n"))
            .collect();
        assert_eq!(String::from_utf8_lossy(&receipt.stdout), expected);
    }
    let plain = succeed(Command::new(&program).arg("receipt"));
    assert!(
        SHIMS
            .iter()
            .all(|shim| !String::from_utf8_lossy(&plain.stdout).contains(shim)),
        "the receipt tells apart"
    );
}

#[test]
fn the_page_list_tells_bad_pointers_in_one_line_each_and_does_nothing() {
    let folder = temporary();
    let program = api_program(folder.path());
    let output = succeed(
        Command::new(&program)
            .arg("bad")
            .env("LD_PRELOAD", PAGELIST),
    );
    assert_eq!(String::from_utf8_lossy(&output.stdout), "survived\n");
    let errors = String::from_utf8_lossy(&output.stderr);
    let reasons: Vec<&str> = errors
        .lines()
        .map(|line| line.split("): ").nth(1).unwrap_or(line))
        .collect();
    let expected = [
        "the pointer lies inside a block, not at its start; ignored",
        "the pointer is not aligned to 16 bytes; ignored",
        "the pointer is not of this allocator, or its page was given back; ignored",
        "the pointer lies inside a block, not at its start; ignored",
        "the block was freed already; ignored",
    ];
    assert_eq!(reasons, expected, "{errors}");
    assert!(
        errors
            .lines()
            .all(|line| line.starts_with("mymalloc: pagelist: free(0x")),
        "{errors}"
    );
}

#[test]
fn ls_lists_the_same() {
    let folder = temporary();
    for number in 0..300 {
        let inner = folder.path().join(format!("inner {}", number % 7));
        fs::create_dir_all(&inner).expect("a folder");
        fs::write(inner.join(format!("file {number}")), vec![b'x'; number]).expect("a file");
    }
    let here = Run::new("ls", &["-lR", "."], folder.path()).is_the_same_under_the_shims();
    assert_eq!(
        String::from_utf8_lossy(&here.stdout)
            .matches("file ")
            .count(),
        300
    );
    if Path::new("/usr/share").is_dir() {
        Run::new("ls", &["-lR", "/usr/share"], folder.path()).is_the_same_under_the_shims();
    } else {
        println!("no /usr/share here: its listing is left out");
    }
}

#[test]
fn git_logs_the_same() {
    if !is_installed("git") {
        println!("skipped: git is not installed");
        return;
    }
    let folder = temporary();
    let git = |arguments: &[&str]| {
        let mut command = Run::new("git", arguments, folder.path()).command();
        for (name, value) in [("NAME", "Somebody"), ("EMAIL", "somebody@example.org")] {
            command.env(format!("GIT_AUTHOR_{name}"), value);
            command.env(format!("GIT_COMMITTER_{name}"), value);
        }
        succeed(&mut command);
    };
    git(&["init", "--quiet"]);
    let mut text = String::new();
    for number in 0..20 {
        text.push_str(&format!("line {number}\n").repeat(30));
        fs::write(folder.path().join("file.txt"), &text).expect("a file");
        git(&["add", "file.txt"]);
        git(&[
            "commit",
            "--quiet",
            "-m",
            &format!("Change number {number}"),
        ]);
    }
    let log = Run::new(
        "git",
        &["--no-pager", "log", "--patch", "--stat"],
        folder.path(),
    );
    let output = log.is_the_same_under_the_shims();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout)
            .matches("Change number")
            .count(),
        20
    );
}

#[test]
fn a_c_compiler_makes_the_same_object() {
    let folder = temporary();
    let source = source("api.c");
    let compile = [
        "-O2",
        "-pthread",
        "-c",
        source.to_str().expect("a plain path"),
        "-o",
        "api.o",
    ];
    let object = folder.path().join("api.o");
    let run = Run::new("cc", &compile, folder.path());
    succeed(&mut run.command());
    let plain = fs::read(&object).expect("the object");
    run.is_the_same_under_the_shims();
    assert!(
        fs::read(&object).expect("the object") == plain,
        "the object differs"
    );
    Run::new(
        "cc",
        &["-pthread", "-o", "api", "api.o", "-ldl"],
        folder.path(),
    )
    .is_the_same_under_the_shims();
    succeed(&mut Command::new(folder.path().join("api")));
}

#[test]
fn cxx_operators_and_containers_work() {
    if !is_installed("c++") {
        println!("skipped: c++ is not installed");
        return;
    }
    let folder = temporary();
    let program = folder.path().join("operators");
    let mut compile = Command::new("c++");
    compile
        .args(["-std=c++17", "-O1", "-o"])
        .arg(&program)
        .arg(source("operators.cpp"));
    succeed(&mut compile);
    let run = Run::new(program.to_str().expect("a plain path"), &[], folder.path());
    let output = run.is_the_same_under_the_shims();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "bad_alloc\n300 5000 0\n"
    );
}

#[test]
fn python_makes_and_drops_a_million_objects() {
    if !is_installed("python3") {
        println!("skipped: python3 is not installed");
        return;
    }
    let folder = temporary();
    let script = "\
class Thing:
    def __init__(self, number):
        self.number = number
        self.name = 'thing %d' % number
things = [Thing(number) for number in range(1000000)]
print(len(things), sum(thing.number for thing in things))
del things
print(len(set('%x' % number for number in range(100000))))
";
    let run = Run::new("python3", &["-c", script], folder.path());
    let output = run.is_the_same_under_the_shims();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "1000000 499999500000\n100000\n"
    );
}
