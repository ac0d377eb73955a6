//! Files are written beside their destination and renamed, so that a reader sees the old file or the
//! new one, never half of one.

#![forbid(unsafe_code)]

use std::fs::{File, Permissions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::error::{Error, Result};

/// Mode of a plain file; the umask still applies.
pub const PLAIN_MODE: u32 = 0o666;
/// Mode of a library, as linkers make it.
const LIBRARY_MODE: u32 = 0o777;

/// Replaces a file as a whole.
///
/// # Errors
///
/// The folder is missing or cannot be written, or the disk is full; the old file is then left.
pub fn write_atomically(path: &Path, content: &[u8]) -> Result<()> {
    replace(path, PLAIN_MODE, |file| file.write_all(content))
}

/// The same for a shared object, which is made executable.
///
/// # Errors
///
/// As [`write_atomically`].
pub fn write_library(path: &Path, content: &[u8]) -> Result<()> {
    replace(path, LIBRARY_MODE, |file| file.write_all(content))
}

/// The same for content that is written piece by piece. A symbolic link is followed; what is no plain
/// file (a pipe, a device) is written into, since it cannot be replaced by one.
///
/// # Errors
///
/// As [`write_atomically`], and whatever `fill` fails with.
pub fn replace(
    path: &Path,
    mode: u32,
    fill: impl FnOnce(&mut BufWriter<&File>) -> std::io::Result<()>,
) -> Result<()> {
    let failed = |source| Error::io(path, "write", source);
    let replacement = Replacement::create(path, mode)?;
    let mut out = BufWriter::new(replacement.file());
    fill(&mut out).and_then(|()| out.flush()).map_err(failed)?;
    drop(out);
    replacement.commit()
}

/// A file on its way: written beside its destination, which [`Replacement::commit`] replaces. Dropped
/// before, it leaves nothing behind.
#[derive(Debug)]
pub struct Replacement {
    path: PathBuf,
    place: Place,
}

#[derive(Debug)]
enum Place {
    /// Beside the plain file that it will become.
    Beside(NamedTempFile, PathBuf),
    /// Into what cannot be replaced: a pipe, a device.
    Into(File),
}

impl Replacement {
    /// Begins a file that will stand at `path`.
    ///
    /// # Errors
    ///
    /// The folder is missing or cannot be written.
    pub fn create(path: &Path, mode: u32) -> Result<Self> {
        let failed = |source| Error::io(path, "write", source);
        let place = if std::fs::metadata(path).is_ok_and(|there| !there.is_file()) {
            let file = File::options().write(true).open(path).map_err(failed)?;
            Place::Into(file)
        } else {
            let target = if path.is_symlink() {
                std::fs::canonicalize(path).map_err(failed)?
            } else {
                path.to_owned()
            };
            let file = tempfile::Builder::new()
                .prefix(".partial-")
                .permissions(Permissions::from_mode(mode))
                .tempfile_in(folder(&target))
                .map_err(failed)?;
            Place::Beside(file, target)
        };
        Ok(Self {
            path: path.to_owned(),
            place,
        })
    }

    /// The file as the user named it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What to write into.
    pub fn file(&self) -> &File {
        match &self.place {
            Place::Beside(file, _) => file.as_file(),
            Place::Into(file) => file,
        }
    }

    /// The content is whole: it takes its place.
    ///
    /// # Errors
    ///
    /// The disk is full, or the folder cannot be written.
    pub fn commit(self) -> Result<()> {
        let failed = |source| Error::io(&self.path, "write", source);
        match self.place {
            Place::Beside(file, target) => {
                file.as_file().sync_all().map_err(failed)?;
                let persisted = file.persist(target);
                persisted.map_err(|error| failed(error.error))?;
            }
            Place::Into(_) => {}
        }
        Ok(())
    }
}

impl Write for Replacement {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.file().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// The folder that holds a file.
pub fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read as _;
    use std::os::unix::fs::FileTypeExt as _;

    #[test]
    fn links_stay_links_and_pipes_stay_pipes() {
        let folder = tempfile::tempdir().expect("a folder");
        let (file, link) = (folder.path().join("file"), folder.path().join("link"));
        std::fs::write(&file, "old").expect("ours");
        std::os::unix::fs::symlink("file", &link).expect("ours");
        write_atomically(&link, b"new").expect("written");
        assert!(link.is_symlink());
        assert_eq!(std::fs::read(&file).expect("there"), b"new");

        let pipe = folder.path().join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&pipe).status();
        assert!(made.expect("mkfifo is everywhere").success());
        let reader = std::thread::spawn({
            let pipe = pipe.clone();
            move || {
                let mut text = String::new();
                File::open(pipe)
                    .and_then(|mut pipe| pipe.read_to_string(&mut text))
                    .map(|_| text)
            }
        });
        write_atomically(&pipe, b"through").expect("written");
        assert_eq!(reader.join().expect("no panic").expect("read"), "through");
        let kind = std::fs::metadata(&pipe).expect("there").file_type();
        assert!(kind.is_fifo());
    }

    #[test]
    fn a_failure_leaves_the_old_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file");
        std::fs::write(&path, "old").expect("ours");
        let full = || std::io::Error::from(std::io::ErrorKind::StorageFull);
        let error = replace(&path, PLAIN_MODE, |out| {
            out.write_all(b"half")?;
            Err(full())
        });
        assert!(error.is_err());
        assert_eq!(std::fs::read(&path).expect("there"), b"old");
        assert_eq!(std::fs::read_dir(folder.path()).expect("there").count(), 1);
    }
}
