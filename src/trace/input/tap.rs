//! The stored bytes of a file on their way to the decoder: hashed, counted by the progress bar, and
//! given up when the user asks for it.

#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, Cursor, IsTerminal, Read, Seek};
use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};

use super::Opening;
use super::pipe::Pipe;
use crate::error::{Error, Result};

/// Smaller files are read before a bar could be looked at.
const PROGRESS_BYTES_MIN: u64 = 1 << 20;

/// Where the bytes come from.
enum Source<'p> {
    /// A file on a disk, which never keeps a reader waiting for long.
    File(File),
    /// Anything else.
    Pipe(Pipe),
    /// What is left of a file in memory.
    Memory(&'p [u8]),
}

/// A file that is not read front to back.
pub(super) trait ReadSeek: Read + Seek {}

impl<T: Read + Seek> ReadSeek for T {}

/// The bytes of a file as stored.
pub(super) struct Tap<'p> {
    opening: Opening<'p>,
    source: Source<'p>,
    hash: Sha256,
    bar: ProgressBar,
}

impl<'p> Tap<'p> {
    pub(super) fn open(opening: Opening<'p>) -> Result<Self> {
        if let Some(bytes) = opening.bytes {
            return Ok(Self::new(
                opening,
                Source::Memory(bytes),
                ProgressBar::hidden(),
            ));
        }
        let path = opening.path;
        let unreadable = |source| Error::io(path, "read", source);
        let metadata = std::fs::metadata(path).map_err(unreadable)?;
        if metadata.is_dir() {
            return Err(Error::file(path, "is a directory; a trace is a file"));
        }
        let source = if metadata.is_file() {
            Source::File(File::open(path).map_err(unreadable)?)
        } else {
            Source::Pipe(Pipe::open(path, opening.interrupted).map_err(unreadable)?)
        };
        let long = metadata.len() >= PROGRESS_BYTES_MIN;
        let bar = if opening.progress && long && io::stderr().is_terminal() {
            bar(path, metadata.len())
        } else {
            ProgressBar::hidden()
        };
        Ok(Self::new(opening, source, bar))
    }

    fn new(opening: Opening<'p>, source: Source<'p>, bar: ProgressBar) -> Self {
        Self {
            opening,
            source,
            hash: Sha256::new(),
            bar,
        }
    }

    /// The first four bytes, or as many as there are.
    pub(super) fn head(&mut self) -> io::Result<Vec<u8>> {
        let mut head = Vec::new();
        self.take(4).read_to_end(&mut head)?;
        Ok(head)
    }

    /// Hashes the whole file, then gives a handle on its beginning; none for a pipe.
    pub(super) fn rewound(&mut self) -> io::Result<Option<Box<dyn ReadSeek + 'p>>> {
        if matches!(self.source, Source::Pipe(_)) {
            return Ok(None);
        }
        io::copy(self, &mut io::sink())?;
        Ok(match (&self.source, self.opening.bytes) {
            (Source::File(file), _) => {
                let mut file = file.try_clone()?;
                file.rewind()?;
                Some(Box::new(file))
            }
            (_, bytes) => bytes.map(|bytes| Box::new(Cursor::new(bytes)) as Box<dyn ReadSeek>),
        })
    }

    /// Hash of the whole file: of what was read and of the rest.
    pub(super) fn sha256(mut self) -> io::Result<String> {
        io::copy(&mut self, &mut io::sink())?;
        let digest = std::mem::take(&mut self.hash).finalize();
        Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

impl Read for Tap<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.opening.is_interrupted() {
            // Not of the kind "interrupted", which asks the caller to try again.
            return Err(io::Error::other("interrupted"));
        }
        let count = match &mut self.source {
            Source::File(file) => file.read(buffer)?,
            Source::Pipe(pipe) => pipe.read(buffer)?,
            Source::Memory(bytes) => bytes.read(buffer)?,
        };
        self.hash.update(&buffer[..count]);
        self.bar.inc(count as u64);
        Ok(count)
    }
}

impl Drop for Tap<'_> {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

fn bar(path: &Path, bytes: u64) -> ProgressBar {
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let style = ProgressStyle::with_template("reading {msg} {wide_bar} {percent}% {eta}")
        .expect("the template is well-formed");
    ProgressBar::new(bytes).with_style(style).with_message(name)
}
