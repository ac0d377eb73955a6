//! Builds the preload shims, so that any plain `cargo build`, `run`, `test`, `clippy` or `install`
//! finds them up to date: cargo itself does not build a cdylib for a sibling binary, and one that is
//! a dependency would link its malloc into every program.
//!
//! Each shim is one rustc call without crates. Their paths, and what the program's own build was
//! like, reach the code as environment variables:
//!
//! | variable | what |
//! |---|---|
//! | `MYMALLOC_SHIM_MYMALLOC` | path of MyMalloc's shim, to be embedded |
//! | `MYMALLOC_SHIM_PAGELIST` | path of the page list's shim, to be embedded |
//! | `MYMALLOC_SHIM_RECORDER` | path of the recorder's shim, to be embedded |
//! | `MYMALLOC_OPT_LEVEL` | optimisation level of this build |
//! | `MYMALLOC_RUSTC` | `rustc --version` |

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

/// Root source of a shim, file name of its library, variable that tells its path, how it is optimised.
const SHIMS: [(&str, &str, &str, &[&str]); 3] = [
    (
        "src/preload/mymalloc.rs",
        "mylibmalloc.so",
        "MYMALLOC_SHIM_MYMALLOC",
        // Its code is memory of every process that it is preloaded into: with the parts of `core` that it
        // needs and no more, and with less inlined, 80 KB in place of 99 KB at level 2 (104 KB at 3). The short
        // paths are alike, and what takes the slow ones longer is at most 1 % (callgrind). They begin at cache lines,
        // so that they lie in two each and not in three: 0 to 3 % less time in replays, 4 KB more.
        &[
            "-Copt-level=2",
            "-Clto=fat",
            "-Cllvm-args=-inline-threshold=100 -align-all-functions=6",
        ],
    ),
    (
        "src/preload/pagelist.rs",
        "mylibmalloc-pagelist.so",
        "MYMALLOC_SHIM_PAGELIST",
        &["-Copt-level=3"],
    ),
    (
        "src/preload/recorder.rs",
        "librecorder.so",
        "MYMALLOC_SHIM_RECORDER",
        &["-Copt-level=3"],
    ),
];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // A folder stands for every file under it.
    println!("cargo:rerun-if-changed=src/allocator");
    println!("cargo:rerun-if-changed=src/preload");
    println!("cargo:rerun-if-changed=src/trace/wire.rs");
    if env::var_os("CARGO_FEATURE_SUITE").is_none() {
        // The library alone: no program that would use a shim.
        return;
    }
    println!(
        "cargo:rustc-env=MYMALLOC_OPT_LEVEL={}",
        variable("OPT_LEVEL")
    );
    println!("cargo:rustc-env=MYMALLOC_RUSTC={}", rustc_version());
    let out_dir = PathBuf::from(variable("OUT_DIR"));
    for (source, library, name, optimised) in SHIMS {
        let library = out_dir.join(library);
        build_shim(Path::new(source), &library, optimised);
        println!("cargo:rustc-env={name}={}", library.display());
    }
}

fn build_shim(source: &Path, library: &Path, optimised: &[&str]) {
    let mut command = Command::new(variable("RUSTC"));
    command
        .args(["--crate-type=cdylib", "--edition=2024"])
        // Always optimised, whatever the profile: it is measured. A panic must not cross into C.
        .args(optimised)
        .args(["-Cpanic=abort", "-Ccodegen-units=1", "-Cstrip=symbols"])
        // Thread-specific keys, exit and fork handlers point into it for as long as the process lives.
        .arg("-Clink-arg=-Wl,-z,nodelete")
        // The sources are linted as part of the library; here half of its API is unused.
        .arg("--cap-lints=allow")
        .arg("-o")
        .arg(library)
        .arg(source);
    for feature in ["unchecked", "portable"] {
        if env::var_os(format!("CARGO_FEATURE_{}", feature.to_uppercase())).is_some() {
            command.args(["--cfg", &format!("feature=\"{feature}\"")]);
        }
    }
    let target = variable("TARGET");
    if target != variable("HOST") {
        command.arg("--target").arg(target);
    }
    if let Some(linker) = env::var_os("RUSTC_LINKER") {
        let mut option = std::ffi::OsString::from("-Clinker=");
        option.push(linker);
        command.arg(option);
    }
    if let Ok(flags) = env::var("CARGO_ENCODED_RUSTFLAGS") {
        command.args(flags.split('\x1f').filter(|flag| !flag.is_empty()));
    }
    match command.output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => fail(&format!(
            "the preload shim {} does not compile ({}):\n{}",
            source.display(),
            output.status,
            String::from_utf8_lossy(&output.stderr)
        )),
        Err(error) => fail(&format!("cannot run {:?}: {error}", command.get_program())),
    }
}

fn rustc_version() -> String {
    match Command::new(variable("RUSTC")).arg("--version").output() {
        Ok(output) => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        Err(error) => fail(&format!("cannot run rustc --version: {error}")),
    }
}

/// A variable that cargo sets for every build script.
fn variable(name: &str) -> String {
    env::var(name).unwrap_or_else(|error| fail(&format!("{name}: {error}; run this by cargo")))
}

fn fail(message: &str) -> ! {
    eprintln!("mymalloc's build.rs: {message}");
    exit(1)
}
