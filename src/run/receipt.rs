//! Receipts: which object served a sample's calls, which build and version of it, and whether it is
//! the one that was asked for.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::answer::Answer;
use crate::measure::results::Receipt;
use crate::subject::functions::{FUNCTION_NAMES, REALLOC_INDEX};
use crate::subject::linked::Linked;
use crate::subject::{Access, Subject, libc_path, object_file};

/// Where this program's own file is, even after it was replaced by a new build.
pub(super) const OWN_FILE: &str = "/proc/self/exe";

/// Tells one file from another that was put in its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl Identity {
    pub(super) fn of(path: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(path).ok()?;
        Some(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        })
    }
}

/// Builds of the objects seen so far: each file is read once, and again only when it has changed.
#[derive(Debug, Default)]
pub(super) struct Builds(RefCell<HashMap<PathBuf, (Identity, Option<String>)>>);

impl Builds {
    pub(super) fn of(&self, path: &Path) -> Option<String> {
        let identity = Identity::of(path)?;
        let mut known = self.0.borrow_mut();
        match known.get(path) {
            Some((seen, build)) if *seen == identity => build.clone(),
            _ => {
                let build = object_file::build(path);
                known.insert(path.to_owned(), (identity, build.clone()));
                build
            }
        }
    }

    /// Build of the object that is to serve a subject.
    pub(super) fn of_subject(&self, subject: &Subject) -> Option<String> {
        match &subject.access {
            Access::Linked(_) => self.of(Path::new(OWN_FILE)),
            Access::Preloaded(path) => self.of(path),
            Access::System => self.of(&libc_path()?),
        }
    }

    /// The receipt that a child wrote, if it came so far.
    pub(super) fn receipt(
        &self,
        subject: &Subject,
        version: Option<String>,
        answer: &Answer,
    ) -> Option<Receipt> {
        let path = answer.object_path();
        if path.is_empty() {
            return None;
        }
        let build = if answer.malloc_in_executable == 1 {
            self.of(Path::new(OWN_FILE))
        } else {
            self.of(Path::new(&path))
        };
        // The version is that of the subject, not of what served in its place.
        let version = version.filter(|_| foreign_object(subject, answer, None).is_none());
        Some(Receipt {
            path,
            build,
            version,
            functions: FUNCTION_NAMES
                .iter()
                .enumerate()
                .filter(|(index, _)| answer.functions_in_object & 1 << index != 0)
                .map(|(_, name)| name.to_string_lossy().into_owned())
                .collect(),
        })
    }
}

/// Why the object that served the calls is not the one asked for, if so. `said` is the child's
/// standard error, where the dynamic linker may have told.
pub(super) fn foreign_object(
    subject: &Subject,
    answer: &Answer,
    said: Option<&mut File>,
) -> Option<String> {
    let served = answer.object_path();
    match &subject.access {
        // Made from the C library's functions and one of its own, as the self-test says.
        Access::Linked(Linked::Slowed) => {
            let all_but_realloc = ((1 << FUNCTION_NAMES.len()) - 1) & !(1 << REALLOC_INDEX);
            let as_made =
                answer.malloc_in_c_library == 1 && answer.functions_in_object == all_but_realloc;
            return (!as_made).then(|| {
                format!(
                    "malloc was served by {served}, not by the C library with a realloc of ours"
                )
            });
        }
        Access::Preloaded(path) => {
            let real = |path: &Path| std::fs::canonicalize(path).ok();
            let asked = real(path);
            if asked.is_none() || asked != real(Path::new(&served)) {
                let told = said.and_then(|said| linker_message(said, "cannot be preloaded"));
                let told = told.map_or(String::new(), |line| format!("; the linker said: {line}"));
                return Some(format!(
                    "the preload was ignored: malloc was served by {served} instead of {}{told}",
                    path.display()
                ));
            }
        }
        Access::System if answer.malloc_in_c_library == 0 => {
            return Some(format!(
                "malloc was served by {served}, not by the C library: see /etc/ld.so.preload"
            ));
        }
        Access::Linked(linked) if answer.malloc_in_executable == 0 => {
            return Some(format!(
                "malloc was served by {served}, not by the {} that is linked in",
                linked.name()
            ));
        }
        Access::System | Access::Linked(_) => {}
    }
    let others = answer.other_objects();
    (!others.is_empty())
        .then(|| format!("{served} serves malloc, but not all of its family: {others}"))
}

/// What the dynamic linker said of an object that it could not load, if it did.
pub(super) fn load_failure(said: &mut File) -> Option<String> {
    linker_message(said, "error while loading shared libraries: ")
        .or_else(|| linker_message(said, "symbol lookup error: "))
}

/// The line of a child's standard error that has these words, without the name of the program.
fn linker_message(said: &mut File, words: &str) -> Option<String> {
    const HEAD_BYTES: u64 = 4096;
    said.seek(SeekFrom::Start(0)).ok()?;
    let mut bytes = Vec::new();
    said.take(HEAD_BYTES).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let line = text.lines().find(|line| line.contains(words))?;
    let line = line.trim_start_matches("ERROR: ld.so: ");
    let start = if words.ends_with(": ") {
        line.find(words)?
    } else {
        0
    };
    let message: String = line[start..].chars().filter(|c| !c.is_control()).collect();
    Some(message.trim_end_matches('.').chars().take(300).collect())
}
