//! Temporary folders: removed when their owner is done, when signals end it, and, if it was killed in
//! a way that nothing survives, when the next run starts.
//!
//! In each folder lies a file that its owner holds locked. The kernel lifts the lock when the owner ends,
//! however it ends, and not before: a folder whose lock can be had is nobody's. One without a lock, whose owner was
//! killed while it made it, is told by the process number in its name.

#![forbid(unsafe_code)]

use std::fs::{File, OpenOptions};
use std::io::Result as IoResult;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Once;

use tempfile::TempDir;

use super::interrupt;
use crate::error::{Error, Result};

/// What the names of all such folders begin with. The number of the owner's process follows.
const PREFIX: &str = "mymalloc-";
/// Name of the file that the owner holds locked.
const LOCK: &str = "lock";

/// A temporary folder with its lock.
#[derive(Debug)]
pub(super) struct Scratch {
    // Dropped before the lock: until it is gone, it is owned.
    directory: TempDir,
    _lock: Option<File>,
}

impl Scratch {
    /// Makes one. The first of a process removes those of dead owners before.
    ///
    /// # Errors
    /// Nothing can be made in the temporary folder.
    pub(super) fn new() -> Result<Self> {
        static SWEPT: Once = Once::new();
        let parent = std::env::temp_dir();
        SWEPT.call_once(|| sweep(&parent));
        let failed = |source| Error::io(&parent, "make a folder in", source);
        let directory = tempfile::Builder::new()
            .prefix(&format!("{PREFIX}{}-", std::process::id()))
            .tempdir_in(&parent)
            .map_err(failed)?;
        let lock = claim(directory.path()).map_err(failed)?;
        interrupt::guard_folder(directory.path());
        Ok(Self {
            directory,
            _lock: lock,
        })
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        interrupt::release_folder(self.directory.path());
    }
}

/// Puts the locked file into a folder. `None` on a file system without locks: such a folder is never
/// taken for a dead owner's, since it has no such file.
fn claim(folder: &Path) -> IoResult<Option<File>> {
    // Under its name it is locked from the first moment on.
    let early = folder.join("lock.new");
    let file = File::create_new(&early)?;
    if file.try_lock().is_err() {
        std::fs::remove_file(&early)?;
        return Ok(None);
    }
    std::fs::rename(&early, folder.join(LOCK))?;
    Ok(Some(file))
}

/// Removes the folders of dead owners. What cannot be looked at or removed stays: it may be another
/// user's.
fn sweep(parent: &Path) {
    let Ok(entries) = std::fs::read_dir(parent) else {
        return;
    };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            let _ = remove_if_dead(&entry.path());
        }
    }
}

fn remove_if_dead(folder: &Path) -> IoResult<()> {
    let is_own = |path: &Path| -> IoResult<bool> {
        // Not what a link points to.
        let found = std::fs::symlink_metadata(path)?;
        let own = std::fs::metadata("/proc/self")?.uid();
        Ok(!found.is_symlink() && found.uid() == own)
    };
    let lock = folder.join(LOCK);
    if !is_own(folder)? {
        return Ok(());
    }
    if std::fs::symlink_metadata(&lock).is_err() && is_ownerless(folder) {
        return std::fs::remove_dir_all(folder);
    }
    if !is_own(&lock)? {
        return Ok(());
    }
    let file = OpenOptions::new().read(true).write(true).open(&lock)?;
    if file.try_lock().is_err() {
        return Ok(());
    }
    std::fs::remove_dir_all(folder)
}

/// Whether the process that made the folder is no more. False if the name does not say which.
fn is_ownerless(folder: &Path) -> bool {
    let name = folder.file_name().unwrap_or_default().to_string_lossy();
    let number = name
        .strip_prefix(PREFIX)
        .and_then(|rest| rest.split_once('-'));
    let number: Option<u32> = number.and_then(|(number, _)| number.parse().ok());
    number.is_some_and(|number| !Path::new(&format!("/proc/{number}")).exists())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_folders_of_dead_owners_are_removed() {
        let parent = tempfile::tempdir().expect("a folder");
        let make = |name: &str| {
            let folder = parent.path().join(name);
            std::fs::create_dir(&folder).expect("ours");
            std::fs::write(folder.join("program-0"), "data").expect("ours");
            folder
        };
        let alive = make("mymalloc-alive");
        let held = claim(&alive).expect("ours").expect("locks");
        let dead = make("mymalloc-dead");
        drop(claim(&dead).expect("ours").expect("locks"));
        // By a version that had no locks; being made at this moment; and by who was killed over it.
        let unclaimed = make("mymalloc-unclaimed");
        let young = make(&format!("mymalloc-{}-young", std::process::id()));
        // No process has this number.
        let orphan = make(&format!("mymalloc-{}-orphan", u32::MAX));
        let other = make("other");
        drop(claim(&other).expect("ours").expect("locks"));
        let link = parent.path().join("mymalloc-link");
        std::os::unix::fs::symlink(&other, &link).expect("ours");
        sweep(parent.path());
        assert!(alive.exists() && unclaimed.exists() && other.join("program-0").exists());
        assert!(young.exists() && !dead.exists() && !orphan.exists());
        drop(held);
        sweep(parent.path());
        assert!(!alive.exists());
    }

    #[test]
    fn a_folder_goes_with_its_owner() {
        let scratch = Scratch::new().expect("a folder");
        let path = scratch.path().to_owned();
        assert!(path.join(LOCK).exists());
        drop(scratch);
        assert!(!path.exists());
    }
}
