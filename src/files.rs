//! Files are written beside their destination and renamed, so that a reader sees the old file or the
//! new one, never half of one.

#![forbid(unsafe_code)]

use std::fs::{File, Permissions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

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
    if std::fs::metadata(path).is_ok_and(|there| !there.is_file()) {
        let file = File::options().write(true).open(path).map_err(failed)?;
        let mut out = BufWriter::new(&file);
        return fill(&mut out).and_then(|()| out.flush()).map_err(failed);
    }
    let target = if path.is_symlink() {
        std::fs::canonicalize(path).map_err(failed)?
    } else {
        path.to_owned()
    };
    replace_file(&target, mode, fill).map_err(failed)
}

fn replace_file(
    path: &Path,
    mode: u32,
    fill: impl FnOnce(&mut BufWriter<&File>) -> std::io::Result<()>,
) -> std::io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let file = tempfile::Builder::new()
        .prefix(".partial-")
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(folder)?;
    let mut out = BufWriter::new(file.as_file());
    fill(&mut out)?;
    out.flush()?;
    drop(out);
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
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
