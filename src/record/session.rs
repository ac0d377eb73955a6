//! The private folder in which the recorder writes, beside the file that is to be: on the same file
//! system, so that what fits while recording fits afterwards.

#![forbid(unsafe_code)]

use std::ffi::{OsStr, OsString};
use std::fs::{File, Permissions};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::system;
use crate::error::{Error, Result};
use crate::subject::shim;

/// The recorder takes no longer path.
const PATH_BYTES_MAX: usize = 3900;
/// Kept free while recording, for the trace: it takes less than a tenth of what was recorded.
const RESERVE_BYTES: u64 = 64 << 20;
/// Of the free space at most such a part.
const RESERVE_PART: u64 = 8;

/// The folder. It goes with its owner, unless something in it is worth keeping.
pub(super) struct Session {
    path: PathBuf,
    is_worth_keeping: bool,
    /// The recorder, ready to be preloaded.
    shim: PathBuf,
    /// Where that is, if not in the folder.
    elsewhere: Option<TempDir>,
}

impl Session {
    /// Makes it beside `file`, whose folder must exist.
    ///
    /// # Errors
    /// The folder is missing or cannot be written.
    pub(super) fn new(file: &Path) -> Result<Self> {
        let parent = match file.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let failed = |source| Error::io(parent, "make a folder there", source);
        // The program may change its folder.
        let parent = std::fs::canonicalize(parent).map_err(failed)?;
        // Hidden, so that a program which looks around in this folder finds what it always does.
        let mut prefix = OsString::from(".");
        prefix.push(file.file_name().unwrap_or_default());
        prefix.push(".recording-");
        let path = tempfile::Builder::new()
            .prefix(&prefix)
            .permissions(Permissions::from_mode(mode()))
            .tempdir_in(&parent)
            .map_err(failed)?
            .keep();
        // The umask is not asked.
        std::fs::set_permissions(&path, Permissions::from_mode(mode())).map_err(failed)?;
        let mut session = Self {
            path,
            is_worth_keeping: false,
            shim: PathBuf::new(),
            elsewhere: None,
        };
        if session.path.as_os_str().len() > PATH_BYTES_MAX {
            return Err(Error::file(&parent, "a path too long to record in"));
        }
        session.place_shim()?;
        session.reserve();
        Ok(session)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The recorder's file.
    pub(super) fn shim(&self) -> &Path {
        &self.shim
    }

    /// Leaves the recorder's own file where it is: of processes that live on, the dynamic linker would
    /// complain in each program that they start. Without its folder it records nothing.
    pub(super) fn leave_recorder(&mut self) {
        if let Some(folder) = self.elsewhere.take() {
            let _ = folder.keep();
        }
    }

    /// From here on the folder stays if this process ends, however that comes.
    pub(super) fn keep(&mut self) {
        self.is_worth_keeping = true;
    }

    /// Nothing in it is needed any more.
    pub(super) fn discard(&mut self) {
        self.is_worth_keeping = false;
    }

    /// Writes the recorder where the dynamic linker can load it from: not under a name that
    /// `LD_PRELOAD` cannot hold, and not where no code may be run. Rather not in the session's folder: if
    /// that goes while the program runs, what the program starts shall not be disturbed.
    fn place_shim(&mut self) -> Result<()> {
        let name = "mymalloc-recorder.so";
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
        let elsewhere = [Some(std::env::temp_dir()), runtime, Some("/var/tmp".into())]
            .into_iter()
            .flatten()
            .filter(|folder| is_loadable(folder))
            .find_map(|folder| {
                tempfile::Builder::new()
                    .prefix("mymalloc-recorder-")
                    .permissions(Permissions::from_mode(0o755))
                    .tempdir_in(folder)
                    .ok()
            });
        self.shim = match &elsewhere {
            Some(folder) => folder.path().join(name),
            None if is_loadable(&self.path) => self.path.join(name),
            None => {
                return Err(Error::Failed(
                    "there is no folder from which a library can be preloaded: set TMPDIR to one \
                     without blanks or colons in its name, that is not mounted noexec"
                        .to_owned(),
                ));
            }
        };
        self.elsewhere = elsewhere;
        let failed = |source| Error::io(&self.shim, "write", source);
        std::fs::write(&self.shim, shim::RECORDER).map_err(failed)?;
        // The program may change its user before it starts another.
        std::fs::set_permissions(&self.shim, Permissions::from_mode(0o755)).map_err(failed)
    }

    fn reserve(&self) {
        let Some(file_system) = system::file_system(&self.path) else {
            return;
        };
        let bytes = RESERVE_BYTES.min(file_system.free_bytes / RESERVE_PART);
        // Without a reserve a full disk may leave no room for the trace, which is then told.
        if let Ok(file) = File::create_new(self.reserve_path())
            && !system::reserve(&file, bytes)
        {
            self.release_reserve();
        }
    }

    /// Lets the trace have the space that was kept for it.
    pub(super) fn release_reserve(&self) {
        let _ = std::fs::remove_file(self.reserve_path());
    }

    fn reserve_path(&self) -> PathBuf {
        self.path.join("reserve")
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if !self.is_worth_keeping {
            let _ = std::fs::remove_dir_all(&self.path);
        }
    }
}

/// Private; but a program that root starts may go on as another user, who must be able to add files
/// to it, under a name that he cannot list.
fn mode() -> u32 {
    match system::effective_ids() {
        (0, _) => 0o1733,
        _ => 0o700,
    }
}

fn is_loadable(folder: &Path) -> bool {
    can_be_preloaded(folder.as_os_str())
        && folder.is_absolute()
        && system::file_system(folder).is_some_and(|file_system| !file_system.refuses_code)
}

/// Whether `LD_PRELOAD` can name it: blanks and colons separate names there, and `$` begins words that
/// the linker replaces.
pub(super) fn can_be_preloaded(path: &OsStr) -> bool {
    !path
        .as_bytes()
        .iter()
        .any(|byte| byte.is_ascii_whitespace() || b":$".contains(byte))
}

/// Several objects to be preloaded, the first of them first.
pub(super) fn preload(objects: &[&OsStr]) -> OsString {
    let used = objects.iter().filter(|object| !object.is_empty());
    let used: Vec<&OsStr> = used.copied().collect();
    used.join(OsStr::new(":"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_goes_unless_it_is_worth_keeping() {
        let parent = tempfile::tempdir().expect("a folder");
        let file = parent.path().join("a b.trace");
        let mut session = Session::new(&file).expect("ours");
        let path = session.path().to_owned();
        assert!(
            path.file_name()
                .expect("named")
                .to_string_lossy()
                .starts_with(".a b.trace.rec")
        );
        // Not in the folder, whose name LD_PRELOAD cannot hold.
        assert!(can_be_preloaded(session.shim().as_os_str()));
        assert!(session.shim().exists() && !session.shim().starts_with(&path));
        session.keep();
        drop(session);
        assert!(path.exists());
        let mut session = Session::new(&parent.path().join("b.trace")).expect("ours");
        session.keep();
        session.discard();
        let path = session.path().to_owned();
        drop(session);
        assert!(!path.exists());
        assert!(Session::new(Path::new("/no/such/folder/a.trace")).is_err());
    }

    #[test]
    fn preloaded_objects_stand_in_their_order() {
        let names = ["/a.so", "", "/b.so /c.so"].map(OsStr::new);
        assert_eq!(preload(&names), "/a.so:/b.so /c.so");
        for (path, fits) in [
            ("/a/b", true),
            ("/a b", false),
            ("/a:b", false),
            ("/$LIB", false),
        ] {
            assert_eq!(can_be_preloaded(OsStr::new(path)), fits, "{path}");
        }
    }
}
