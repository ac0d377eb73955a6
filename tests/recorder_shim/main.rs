//! The recorder's preload shim on real programs: what it writes is read by a decoder of the tests' own.
#![cfg(feature = "suite")]

mod calls;
mod decode;
mod files;
mod old_systems;
#[path = "../../src/preload/recorder/options.rs"]
#[allow(dead_code, reason = "the shim uses the rest")]
mod options;
mod processes;
mod signals;
mod threads;
mod touched;
mod windows;

use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::OnceLock;

use tempfile::TempDir;

use decode::Wire;

const SHIM: &str = env!("MYMALLOC_SHIM_RECORDER");

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder for temporary files")
}

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(name)
}

fn compile(compiler: &str, options: &[&str], source: &Path, program: &Path) {
    let output = Command::new(compiler)
        .args(["-O1", "-w", "-pthread", "-fno-builtin"])
        .args(options)
        .arg("-o")
        .arg(program)
        .arg(source)
        .output()
        .expect("a compiler is installed");
    assert!(output.status.success(), "{output:?}");
}

/// A program of the tests', compiled once.
fn built(name: &'static str, compiler: &str, options: &[&str], source: &Path) -> PathBuf {
    // Left for the other tests of this process; the folder goes when the process ends.
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    static LOCK: std::sync::Mutex<()> = std::sync::Mutex::new(());
    let folder = FOLDER.get_or_init(|| {
        Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("recorder-{}", std::process::id()))
    });
    let _one_at_a_time = LOCK
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    std::fs::create_dir_all(folder).expect("cargo's folder is ours");
    let program = folder.join(name);
    if !program.exists() {
        compile(compiler, options, source, &program);
    }
    program
}

fn scenes() -> PathBuf {
    built("recorded", "cc", &["-ldl"], &source("programs/recorded.c"))
}

/// A recording of a scene.
struct Recording {
    folder: TempDir,
    status: ExitStatus,
    output: String,
    errors: String,
}

/// How a program is recorded.
struct Recorder {
    options: String,
    allocator: Option<PathBuf>,
    folder: TempDir,
    prepare: Box<dyn Fn(&mut Command)>,
}

impl Recorder {
    fn new(options: &str) -> Self {
        Self {
            options: options.to_owned(),
            allocator: None,
            folder: folder(),
            prepare: Box::new(|_| ()),
        }
    }

    fn allocator(mut self, path: PathBuf) -> Self {
        self.allocator = Some(path);
        self
    }

    fn prepare(mut self, prepare: impl Fn(&mut Command) + 'static) -> Self {
        self.prepare = Box::new(prepare);
        self
    }

    /// Where the recorder writes.
    fn out(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    fn run(self, program: &Path, arguments: &[&str]) -> Recording {
        std::fs::create_dir_all(self.out()).expect("the folder is ours");
        let preload = match &self.allocator {
            Some(allocator) => format!("{SHIM} {}", allocator.display()),
            None => SHIM.to_owned(),
        };
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .env("LD_PRELOAD", preload)
            .env(options::FOLDER_VARIABLE, self.out())
            .env(options::OPTIONS_VARIABLE, &self.options);
        (self.prepare)(&mut command);
        let output = command.output().expect("the program starts");
        Recording {
            folder: self.folder,
            status: output.status,
            output: String::from_utf8_lossy(&output.stdout).into_owned(),
            errors: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    fn scene(self, arguments: &[&str]) -> Recording {
        self.run(&scenes(), arguments)
    }
}

impl Recording {
    fn succeeded(self) -> Self {
        assert!(self.status.success(), "{}\n{}", self.status, self.errors);
        assert_eq!(self.errors, "");
        self
    }

    fn killed_by(&self) -> Option<i32> {
        self.status.signal()
    }

    /// Every file, in the order of process and image.
    fn wires(&self) -> Vec<Wire> {
        let files = std::fs::read_dir(self.folder.path().join("out")).expect("the folder is there");
        let paths = files.map(|file| file.expect("a file").path());
        let mut wires: Vec<Wire> = paths
            .filter(|path| path.extension().is_some_and(|ending| ending == "wire"))
            .map(|path| Wire::read(&path))
            .collect();
        wires.sort_by_key(|wire| (wire.process(), wire.image()));
        wires
    }

    /// The only file.
    fn wire(&self) -> Wire {
        let mut wires = self.wires();
        assert_eq!(wires.len(), 1, "{wires:?}");
        wires.remove(0)
    }
}

#[test]
fn options_are_read_word_by_word() {
    use options::Options;
    let all = Options::parse(b"limit=4096,times,sites,touched,follow,signal=12");
    let expected = Options {
        limit_bytes: 4096,
        times: true,
        sites: true,
        touched: true,
        follow: true,
        signal: 12,
    };
    assert_eq!(all, expected);
    for nothing in [
        "",
        ",,",
        "limit=",
        "limit=-1",
        "limit=99999999999999999999",
        "signal=0",
        "time",
    ] {
        assert_eq!(
            Options::parse(nothing.as_bytes()),
            Options::DEFAULT,
            "{nothing}"
        );
    }
}
