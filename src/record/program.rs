//! Whether a program can be recorded at all, told before it runs.

#![forbid(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::io::Read as _;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use object::read::elf::{ElfFile64, FileHeader as _, ProgramHeader as _};
use object::{Endianness, elf};

use super::system;
use crate::error::{Error, Result};
use crate::subject::object_file;

/// Scripts that are run by scripts are followed so far, as the kernel does.
const SCRIPTS_MAX: u32 = 5;
/// What the kernel reads of a script's first line.
const FIRST_LINE_BYTES: usize = 256;
/// Where the C library looks if `PATH` is not set.
const PATH_DEFAULT: &str = "/bin:/usr/bin";

/// Finds a program and refuses what cannot be recorded, in one line.
///
/// # Errors
/// There is no such program, or a preloaded object cannot serve it.
pub(super) fn find(name: &OsStr) -> Result<PathBuf> {
    let path = located(name)?;
    check(&path, 0).map_err(Error::Failed)?;
    Ok(path)
}

/// The file that `execvp` would run.
fn located(name: &OsStr) -> Result<PathBuf> {
    let shown = name.to_string_lossy();
    if name.as_bytes().contains(&b'/') {
        let path = PathBuf::from(name);
        return match std::fs::metadata(&path) {
            Ok(found) if found.is_dir() => Err(Error::Failed(format!("{shown}: a folder"))),
            Ok(found) if !is_executable(&found) => {
                Err(Error::Failed(format!("{shown}: not executable (chmod +x)")))
            }
            Ok(_) => Ok(path),
            Err(source) => Err(Error::io(path, "run", source)),
        };
    }
    let folders = std::env::var_os("PATH").unwrap_or_else(|| OsString::from(PATH_DEFAULT));
    let found = std::env::split_paths(&folders)
        .map(|folder| match folder.as_os_str().is_empty() {
            true => Path::new(".").join(name),
            false => folder.join(name),
        })
        .find(|path| {
            std::fs::metadata(path).is_ok_and(|found| found.is_file() && is_executable(&found))
        });
    found.ok_or_else(|| {
        let here = Path::new(".").join(name);
        let hint = match here.is_file() {
            true => format!("; the one in this folder is ./{shown}"),
            false => String::new(),
        };
        Error::Failed(format!("{shown}: no such program in PATH{hint}"))
    })
}

fn is_executable(found: &Metadata) -> bool {
    found.mode() & 0o111 != 0
}

/// Why a program cannot be recorded, if so.
fn check(path: &Path, depth: u32) -> std::result::Result<(), String> {
    let shown = path.display();
    let Ok(mut file) = File::open(path) else {
        // It may be executable and not readable: then only a run can tell.
        return Ok(());
    };
    let mut head = [0; FIRST_LINE_BYTES];
    let mut read = 0;
    while let Ok(count) = file.read(&mut head[read..])
        && count > 0
    {
        read += count;
    }
    let head = &head[..read];
    if let Some(line) = head.strip_prefix(b"#!") {
        return check_script(path, line, depth);
    }
    if !head.starts_with(b"\x7fELF") {
        // The C library runs it by the shell.
        return match depth {
            0 => check(Path::new("/bin/sh"), 1),
            _ => Err(format!("{shown}: neither an ELF program nor a script")),
        };
    }
    if gains_rights(path, &file) {
        return Err(format!(
            "{shown}: runs with more rights than its user (set-uid, set-gid or capabilities), so \
             that the system lets nothing be preloaded; record a copy without them (cp), or as root"
        ));
    }
    if head.get(4) == Some(&1) {
        return Err(format!(
            "{shown}: a 32-bit program; only 64-bit ones can be recorded"
        ));
    }
    let bytes = std::fs::read(path).map_err(|error| format!("{shown}: cannot read it: {error}"))?;
    check_elf(&bytes).map_err(|why| format!("{shown}: {why}"))
}

fn check_script(path: &Path, line: &[u8], depth: u32) -> std::result::Result<(), String> {
    let shown = path.display();
    if depth == SCRIPTS_MAX {
        return Err(format!(
            "{shown}: scripts that run scripts, too many of them"
        ));
    }
    let end = line.iter().position(|&byte| byte == b'\n');
    let line = line[..end.unwrap_or(line.len())].trim_ascii();
    let word = line
        .split(|byte| byte.is_ascii_whitespace())
        .next()
        .unwrap_or_default();
    let interpreter = PathBuf::from(OsString::from_vec(word.to_vec()));
    if !interpreter.is_file() {
        let named = interpreter.display();
        return Err(format!("{shown}: its interpreter {named} does not exist"));
    }
    check(&interpreter, depth + 1)
}

/// Whether the system runs it in a mode in which nothing is preloaded.
fn gains_rights(path: &Path, file: &File) -> bool {
    const SET_UID: u32 = 0o4000;
    const SET_GID: u32 = 0o2010;
    let Ok(found) = file.metadata() else {
        return false;
    };
    let (user, group) = system::effective_ids();
    let sets_user = found.mode() & SET_UID != 0 && found.uid() != user;
    let sets_group = found.mode() & SET_GID == SET_GID && found.gid() != group;
    // Root has them all already.
    sets_user || sets_group || (user != 0 && system::has_capabilities(path))
}

fn check_elf(bytes: &[u8]) -> std::result::Result<(), String> {
    let damaged = || "a damaged ELF file".to_owned();
    let file = ElfFile64::<Endianness>::parse(bytes).map_err(|_| damaged())?;
    let (header, endian) = (file.elf_header(), file.endian());
    let native = match cfg!(target_arch = "aarch64") {
        true => elf::EM_AARCH64,
        false => elf::EM_X86_64,
    };
    if header.e_machine(endian) != native {
        return Err("a program for another kind of processor".to_owned());
    }
    let programs = file.elf_program_headers();
    let interpreter = programs
        .iter()
        .find_map(|program| program.interpreter(endian, file.data()).ok().flatten());
    let Some(interpreter) = interpreter else {
        return Err(
            "linked statically, so that nothing can be preloaded: link it dynamically to record it"
                .to_owned(),
        );
    };
    let is_musl = |interpreter: &[u8]| interpreter.windows(7).any(|name| name == b"ld-musl");
    if is_musl(interpreter) != cfg!(target_env = "musl") {
        return Err("made for another C library than this program (glibc, musl)".to_owned());
    }
    match object_file::own_allocator(bytes, &["malloc", "free", "calloc", "realloc"]) {
        Some(why) => Err(why),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::process::Command;

    use super::*;

    fn told(name: impl AsRef<OsStr>) -> String {
        match find(name.as_ref()) {
            Ok(path) => format!("fine: {}", path.display()),
            Err(error) => error.to_string(),
        }
    }

    fn file(folder: &Path, name: &str, content: &[u8], mode: u32) -> PathBuf {
        let path = folder.join(name);
        std::fs::write(&path, content).expect("ours");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).expect("ours");
        path
    }

    #[test]
    fn what_cannot_be_recorded_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let folder = folder.path();
        assert!(told("sh").starts_with("fine: /"));
        assert!(told("no-such-program-here").ends_with("no such program in PATH"));
        assert!(told(folder).ends_with("a folder"));
        assert!(told(folder.join("none")).contains("cannot run"));
        assert!(told(file(folder, "plain", b"x", 0o644)).contains("not executable"));

        let shell = std::fs::read("/bin/sh").expect("a shell");
        let mut narrow = shell.clone();
        narrow[4] = 1;
        assert!(told(file(folder, "narrow", &narrow, 0o755)).contains("32-bit"));
        let mut foreign = shell.clone();
        foreign[18] = 0xf3;
        assert!(told(file(folder, "foreign", &foreign, 0o755)).contains("processor"));
        assert!(told(file(folder, "piece", &shell[..40], 0o755)).contains("damaged"));

        // By the shell, as execvp does.
        assert!(told(file(folder, "bare", b"echo\n", 0o755)).starts_with("fine"));
        assert!(told(file(folder, "script", b"#! /bin/sh -e\n", 0o755)).starts_with("fine"));
        assert!(told(file(folder, "lost", b"#!/no/such\n", 0o755)).contains("/no/such does not"));
        let itself = format!("#!{}\n", folder.join("loop").display());
        assert!(told(file(folder, "loop", itself.as_bytes(), 0o755)).contains("too many"));
    }

    #[test]
    fn a_static_program_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let source = file(
            folder.path(),
            "a.c",
            b"int main(void) { return 0; }\n",
            0o644,
        );
        let program = folder.path().join("a");
        let built = Command::new("cc")
            .args(["-static", "-o"])
            .args([&program, &source])
            .output()
            .expect("a C compiler is needed to build mimalloc, so it is there");
        assert!(built.status.success(), "{built:?}");
        assert!(told(&program).contains("linked statically"));
        // And what it is run by.
        let script = format!("#!{}\n", program.display());
        let script = file(folder.path(), "by", script.as_bytes(), 0o755);
        assert!(told(script).contains("linked statically"));
    }
}
