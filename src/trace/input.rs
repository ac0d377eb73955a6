//! Opens a text file, compressed or not, and hands out its lines one by one.
//!
//! The file is read once, front to back: decompression, the SHA-256 of the stored bytes and the
//! progress bar all sit on the same stream, and only one buffer of text is in memory at a time. A
//! line longer than [`LINE_BYTES_MAX`] is skipped without being kept.

#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, BufReader, IsTerminal, Read, Seek};
use std::path::{Path, PathBuf};

use indicatif::{ProgressBar, ProgressStyle};
use sha2::{Digest, Sha256};
use zip::ZipArchive;

use crate::error::{Error, Result};

/// The longest line any grammar needs is far below this.
pub(super) const LINE_BYTES_MAX: usize = 4096;

/// Text in memory at a time.
const BUFFER_BYTES: usize = 256 * 1024;

/// How much of an overlong line is kept, to be shown.
const HEAD_BYTES: usize = 64;

/// Smaller files are read before a bar could be looked at.
const PROGRESS_BYTES_MIN: u64 = 1 << 20;

/// What became known of the file as stored.
pub(super) struct Stored {
    /// "gzip", "zstd" or "zip"; empty for plain text.
    pub(super) compression: Vec<String>,
    /// SHA-256 of the stored bytes, hexadecimal.
    pub(super) sha256: String,
}

/// Opens `path`, whatever its compression, gives its lines to `body`, and reports what was opened.
pub(super) fn with_lines<T>(
    path: &Path,
    progress: bool,
    body: impl FnOnce(&mut Lines) -> Result<T>,
) -> Result<(T, Stored)> {
    let mut tap = Tap::open(path, progress)?;
    let head = tap
        .head()
        .map_err(|source| Error::io(path, "read", source))?;
    let compression = Compression::of(&head);
    let value = match compression {
        Compression::Zip => {
            // A zip's directory stands at its end, so the stream cannot be taken as it comes.
            drop(head);
            let file = tap
                .rewound()
                .map_err(|source| Error::io(path, "read", source))?;
            with_zip(path, file, body)?
        }
        Compression::Gzip => {
            let decoder = flate2::read::MultiGzDecoder::new(head.as_slice().chain(&mut tap));
            body(&mut Lines::new(path, Some("gzip"), Box::new(decoder)))?
        }
        Compression::Zstd => {
            let decoder = zstd::stream::read::Decoder::new(head.as_slice().chain(&mut tap))
                .map_err(|source| Error::io(path, "read", source))?;
            body(&mut Lines::new(path, Some("zstd"), Box::new(decoder)))?
        }
        Compression::None => body(&mut Lines::new(
            path,
            None,
            Box::new(head.as_slice().chain(&mut tap)),
        ))?,
    };
    let sha256 = tap
        .sha256()
        .map_err(|source| Error::io(path, "read", source))?;
    let compression = compression.name().map(str::to_owned).into_iter().collect();
    Ok((
        value,
        Stored {
            compression,
            sha256,
        },
    ))
}

/// Opens the one file of a zip archive.
fn with_zip<T>(path: &Path, file: File, body: impl FnOnce(&mut Lines) -> Result<T>) -> Result<T> {
    let damaged = |error| {
        Error::file(
            path,
            format!("the zip archive is truncated, damaged or unsupported: {error}"),
        )
    };
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(damaged)?;
    let mut files = Vec::new();
    for index in 0..archive.len() {
        let entry = archive.by_index_raw(index).map_err(damaged)?;
        if !entry.is_dir() {
            files.push((
                index,
                String::from_utf8_lossy(entry.name_raw()).into_owned(),
            ));
        }
    }
    let [(index, _)] = files.as_slice() else {
        return Err(Error::file(path, not_one_file(&files)));
    };
    let entry = archive.by_index(*index).map_err(damaged)?;
    body(&mut Lines::new(path, Some("zip"), Box::new(entry)))
}

fn not_one_file(files: &[(usize, String)]) -> String {
    if files.is_empty() {
        return "the zip archive holds no file".to_owned();
    }
    let mut names: Vec<String> = files
        .iter()
        .take(5)
        .map(|(_, name)| name.escape_debug().to_string())
        .collect();
    if files.len() > names.len() {
        names.push("...".to_owned());
    }
    format!(
        "the zip archive holds {} files ({}), it must hold one: unpack the one you mean",
        files.len(),
        names.join(", ")
    )
}

#[derive(Clone, Copy, PartialEq)]
enum Compression {
    None,
    Gzip,
    Zstd,
    Zip,
}

impl Compression {
    /// Told by the first bytes, never by the name.
    fn of(head: &[u8]) -> Self {
        match head {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            [b'P', b'K', 3, 4] | [b'P', b'K', 5, 6] => Self::Zip,
            _ => Self::None,
        }
    }

    fn name(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Gzip => Some("gzip"),
            Self::Zstd => Some("zstd"),
            Self::Zip => Some("zip"),
        }
    }
}

/// The stored bytes on their way: hashed, and counted by the progress bar.
struct Tap {
    file: File,
    hash: Sha256,
    bar: ProgressBar,
}

impl Tap {
    fn open(path: &Path, progress: bool) -> Result<Self> {
        let file = File::open(path).map_err(|source| Error::io(path, "read", source))?;
        let metadata = file
            .metadata()
            .map_err(|source| Error::io(path, "read", source))?;
        if metadata.is_dir() {
            return Err(Error::file(path, "is a directory; a trace is a file"));
        }
        let shown = progress && metadata.len() >= PROGRESS_BYTES_MIN && io::stderr().is_terminal();
        let bar = if shown {
            bar(path, metadata.len())
        } else {
            ProgressBar::hidden()
        };
        Ok(Self {
            file,
            hash: Sha256::new(),
            bar,
        })
    }

    /// The first four bytes, or as many as there are.
    fn head(&mut self) -> io::Result<Vec<u8>> {
        let mut head = Vec::new();
        self.take(4).read_to_end(&mut head)?;
        Ok(head)
    }

    /// Hashes the whole file, then gives a handle on its beginning.
    fn rewound(&mut self) -> io::Result<File> {
        io::copy(self, &mut io::sink())?;
        let mut file = self.file.try_clone()?;
        file.rewind()?;
        Ok(file)
    }

    /// Hash of the whole file: of what was read and of the rest.
    fn sha256(mut self) -> io::Result<String> {
        io::copy(&mut self, &mut io::sink())?;
        let digest = std::mem::take(&mut self.hash).finalize();
        Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

impl Read for Tap {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.hash.update(&buffer[..count]);
        self.bar.inc(count as u64);
        Ok(count)
    }
}

impl Drop for Tap {
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

/// One line of text, without its line end.
#[derive(Clone, Copy)]
pub(super) struct Line<'b> {
    /// From 1.
    pub(super) number: u64,
    /// Its bytes; of an overlong line the first few only.
    pub(super) text: &'b [u8],
    /// Whether the line was longer than [`LINE_BYTES_MAX`].
    pub(super) overlong: bool,
}

/// The lines of an opened file.
pub(super) struct Lines<'s> {
    path: PathBuf,
    compression: Option<&'static str>,
    source: Box<dyn Read + 's>,
    buffer: Vec<u8>,
    /// Unread text is `buffer[start..end]`.
    start: usize,
    end: usize,
    number: u64,
    /// Where the last line began, while it can still be given back.
    last: Option<usize>,
    head: Vec<u8>,
}

impl<'s> Lines<'s> {
    fn new(path: &Path, compression: Option<&'static str>, source: Box<dyn Read + 's>) -> Self {
        Self {
            path: path.to_owned(),
            compression,
            source,
            buffer: vec![0; BUFFER_BYTES],
            start: 0,
            end: 0,
            number: 0,
            last: None,
            head: Vec::new(),
        }
    }

    /// The file as the user named it.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Lines handed out so far.
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    /// The next line, or `None` at the end. A last line without a line end counts.
    #[inline]
    pub(super) fn next(&mut self) -> Result<Option<Line<'_>>> {
        if let Some(length) = find_newline(&self.buffer[self.start..self.end]) {
            return Ok(Some(self.take_line(length, 1)));
        }
        self.next_slow()
    }

    /// Hands out the last line once more; only directly after [`Lines::next`].
    pub(super) fn unread(&mut self) {
        if let Some(start) = self.last.take() {
            self.start = start;
            self.number -= 1;
        }
    }

    #[inline]
    fn take_line(&mut self, length: usize, newline: usize) -> Line<'_> {
        let start = self.start;
        self.start += length + newline;
        self.number += 1;
        self.last = Some(start);
        if length > LINE_BYTES_MAX {
            return Line {
                number: self.number,
                text: &self.buffer[start..start + HEAD_BYTES],
                overlong: true,
            };
        }
        Line {
            number: self.number,
            text: &self.buffer[start..start + length],
            overlong: false,
        }
    }

    /// The line does not end in the buffer: more text is needed.
    fn next_slow(&mut self) -> Result<Option<Line<'_>>> {
        loop {
            let searched = self.end - self.start;
            if searched > LINE_BYTES_MAX {
                return self.skip_overlong().map(Some);
            }
            if self.fill()? == 0 {
                if searched == 0 {
                    self.last = None;
                    return Ok(None);
                }
                return Ok(Some(self.take_line(searched, 0)));
            }
            if let Some(more) = find_newline(&self.buffer[self.start + searched..self.end]) {
                return Ok(Some(self.take_line(searched + more, 1)));
            }
        }
    }

    /// Drops text up to the next line end, keeping only the head of the line.
    fn skip_overlong(&mut self) -> Result<Line<'_>> {
        self.head.clear();
        self.head
            .extend_from_slice(&self.buffer[self.start..self.start + HEAD_BYTES]);
        self.last = None;
        self.number += 1;
        loop {
            if let Some(length) = find_newline(&self.buffer[self.start..self.end]) {
                self.start += length + 1;
                break;
            }
            self.start = self.end;
            if self.fill()? == 0 {
                break;
            }
        }
        Ok(Line {
            number: self.number,
            text: &self.head,
            overlong: true,
        })
    }

    /// Moves the unread text to the front and reads more behind it. Returns the bytes read.
    fn fill(&mut self) -> Result<usize> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        self.last = None;
        loop {
            match self.source.read(&mut self.buffer[self.end..]) {
                Ok(count) => {
                    self.end += count;
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.explain(error)),
            }
        }
    }

    fn explain(&self, source: io::Error) -> Error {
        let Some(compression) = self.compression else {
            return Error::io(&self.path, "read", source);
        };
        let after = format!("after line {}", self.number);
        if source.kind() == io::ErrorKind::UnexpectedEof {
            let message =
                format!("the {compression} stream ends early, {after}: the file is truncated");
            return Error::file(&self.path, message);
        }
        Error::file(
            &self.path,
            format!("the {compression} stream is damaged {after}: {source}"),
        )
    }
}

/// Position of the first line end. Eight bytes at a time: lines are short, so the set-up cost of a
/// vectorised search would dominate.
#[inline]
fn find_newline(text: &[u8]) -> Option<usize> {
    const ONES: u64 = u64::from_ne_bytes([1; 8]);
    const HIGHS: u64 = u64::from_ne_bytes([0x80; 8]);
    const NEWLINES: u64 = u64::from_ne_bytes([b'\n'; 8]);
    let mut chunks = text.chunks_exact(8);
    let mut at = 0;
    for chunk in &mut chunks {
        // A byte of `folded` is zero where the text has a line end; the lowest such byte is exact.
        let folded = u64::from_le_bytes(chunk.try_into().expect("a chunk has 8 bytes")) ^ NEWLINES;
        let zeros = folded.wrapping_sub(ONES) & !folded & HIGHS;
        if zeros != 0 {
            return Some(at + zeros.trailing_zeros() as usize / 8);
        }
        at += 8;
    }
    chunks
        .remainder()
        .iter()
        .position(|&byte| byte == b'\n')
        .map(|rest| at + rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines_of(text: &[u8]) -> Vec<(u64, Vec<u8>, bool)> {
        let mut lines = Lines::new(Path::new("t"), None, Box::new(text));
        let mut all = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            all.push((line.number, line.text.to_vec(), line.overlong));
        }
        all
    }

    #[test]
    fn line_ends_are_found_wherever_they_stand() {
        for length in 0..40 {
            let mut text = vec![b'x'; 40];
            assert_eq!(find_newline(&text), None);
            text[length] = b'\n';
            text[39] = b'\n';
            assert_eq!(find_newline(&text), Some(length));
        }
    }

    #[test]
    fn lines_cross_the_buffer_and_the_last_needs_no_end() {
        let count = BUFFER_BYTES / 5;
        let text = (0..count)
            .map(|n| format!("line {n}"))
            .collect::<Vec<_>>()
            .join("\n");
        let lines = lines_of(text.as_bytes());
        assert_eq!(lines.len(), count);
        for (n, (number, text, overlong)) in lines.iter().enumerate() {
            assert_eq!(*number, n as u64 + 1);
            assert_eq!(text, format!("line {n}").as_bytes());
            assert!(!overlong);
        }
    }

    #[test]
    fn an_overlong_line_is_skipped_and_the_next_is_whole() {
        for length in [LINE_BYTES_MAX + 1, 3 * BUFFER_BYTES] {
            let mut text = b"first\n".to_vec();
            text.extend(std::iter::repeat_n(b'y', length));
            text.extend_from_slice(b"\nlast");
            let lines = lines_of(&text);
            assert_eq!(lines.len(), 3);
            assert_eq!(lines[1], (2, vec![b'y'; HEAD_BYTES], true));
            assert_eq!(lines[2], (3, b"last".to_vec(), false));
        }
        assert!(
            !lines_of(&[b'y'; LINE_BYTES_MAX])[0].2,
            "the limit itself is allowed"
        );
    }

    #[test]
    fn a_line_can_be_given_back() {
        let mut lines = Lines::new(Path::new("t"), None, Box::new(&b"a\nb\n"[..]));
        assert_eq!(lines.next().unwrap().unwrap().text, b"a");
        lines.unread();
        let line = lines.next().unwrap().unwrap();
        assert_eq!((line.number, line.text), (1, &b"a"[..]));
        assert_eq!(lines.next().unwrap().unwrap().text, b"b");
        assert!(lines.next().unwrap().is_none());
    }
}
