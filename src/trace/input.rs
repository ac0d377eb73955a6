//! Opens a text file, compressed or not, and hands out its lines one by one.
//!
//! The file is read once, front to back: decompression, the SHA-256 of the stored bytes and the
//! progress bar all sit on the same stream, and only one buffer of text is in memory at a time. A
//! line longer than [`LINE_BYTES_MAX`] is skipped without being kept.

#![forbid(unsafe_code)]

mod gzip;
mod pipe;
mod read_at;
mod tap;
mod zip;

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

use self::gzip::{Members, TrailingData};
pub(crate) use self::read_at::{ReadAt, ReadFrom};
use self::tap::Tap;
use crate::error::{Error, Result};

/// The longest line any grammar needs is far below this.
pub(super) const LINE_BYTES_MAX: usize = 4096;

/// Text in memory at a time.
const BUFFER_BYTES: usize = 256 * 1024;

/// How much of an overlong line is kept, to be shown.
const HEAD_BYTES: usize = 64;

/// What became known of the file as stored.
pub(super) struct Stored {
    /// "gzip", "zstd" or "zip"; empty for plain text.
    pub(super) compression: Vec<String>,
    /// SHA-256 of the stored bytes, hexadecimal.
    pub(super) sha256: String,
}

/// How to open a file.
#[derive(Clone, Copy)]
pub(super) struct Opening<'p> {
    /// The file as the user named it.
    pub(super) path: &'p Path,
    /// The file's bytes, if they are in memory already. `path` is a mere name then.
    pub(super) bytes: Option<&'p [u8]>,
    /// Show a progress bar for a long file.
    pub(super) progress: bool,
    /// Whether to give up.
    pub(super) interrupted: Option<fn() -> bool>,
}

impl Opening<'_> {
    fn is_interrupted(&self) -> bool {
        self.interrupted.is_some_and(|asked| asked())
    }
}

/// Opens a file, whatever its compression, gives its lines to `body`, and reports what was opened.
pub(super) fn with_lines<T>(
    opening: Opening,
    body: impl FnOnce(&mut Lines) -> Result<T>,
) -> Result<(T, Stored)> {
    let outcome = opened(opening, body);
    // Whatever else an interrupted read failed with is a consequence of the interrupt.
    if outcome.is_err() && opening.is_interrupted() {
        return Err(Error::Interrupted);
    }
    outcome
}

fn opened<T>(opening: Opening, body: impl FnOnce(&mut Lines) -> Result<T>) -> Result<(T, Stored)> {
    let path = opening.path;
    let unreadable = |source| Error::io(path, "read", source);
    let mut tap = Tap::open(opening)?;
    let head = tap.head().map_err(unreadable)?;
    let compression = Compression::of(&head);
    let lines =
        |source: Box<dyn Read + '_>| body(&mut Lines::new(opening, compression.name(), source));
    let value = match compression {
        Compression::Zip => {
            // A zip's directory stands at its end, so the stream cannot be taken as it comes.
            let file = tap
                .rewound()
                .map_err(unreadable)?
                .ok_or_else(|| Error::file(path, "a zip archive must be a file, not a pipe"))?;
            zip::with_entry(path, file, |entry| lines(Box::new(entry)))?
        }
        Compression::Gzip => {
            let stored = BufReader::new(head.as_slice().chain(&mut tap));
            lines(Box::new(Members::new(stored)))?
        }
        Compression::Zstd => {
            let decoder = zstd::stream::read::Decoder::new(head.as_slice().chain(&mut tap))
                .map_err(unreadable)?;
            lines(Box::new(decoder))?
        }
        Compression::None => lines(Box::new(head.as_slice().chain(&mut tap)))?,
    };
    let sha256 = tap.sha256().map_err(unreadable)?;
    let compression = compression.name().map(str::to_owned).into_iter().collect();
    Ok((
        value,
        Stored {
            compression,
            sha256,
        },
    ))
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
            // A frame to be skipped: parallel compressors put such a one first.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18] => Self::Zstd,
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
    opening: Opening<'s>,
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
    /// Something that does not belong to the text stands behind its end.
    trailing: Option<Error>,
}

impl<'s> Lines<'s> {
    fn new(
        opening: Opening<'s>,
        compression: Option<&'static str>,
        source: Box<dyn Read + 's>,
    ) -> Self {
        Self {
            opening,
            compression,
            source,
            buffer: vec![0; BUFFER_BYTES],
            start: 0,
            end: 0,
            number: 0,
            last: None,
            head: Vec::new(),
            trailing: None,
        }
    }

    /// The file as the user named it.
    pub(super) fn path(&self) -> &Path {
        self.opening.path
    }

    /// Whether the file is in memory, and nothing lies beside it.
    pub(super) fn is_in_memory(&self) -> bool {
        self.opening.bytes.is_some()
    }

    /// The file itself, where a format is not read front to back; `what` names the format in messages.
    pub(super) fn plain_file(&self, what: &str) -> Result<Box<dyn ReadAt + 's>> {
        let path = self.opening.path;
        if let Some(compression) = self.compression {
            let message =
                format!("{what} is read as a plain file: unpack this {compression} first");
            return Err(Error::file(path, message));
        }
        if let Some(bytes) = self.opening.bytes {
            return Ok(Box::new(bytes));
        }
        let unreadable = |source| Error::io(path, "read", source);
        if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
            let message = format!("{what} must be a file, not a pipe");
            return Err(Error::file(path, message));
        }
        Ok(Box::new(File::open(path).map_err(unreadable)?))
    }

    /// The text to come, `bytes` of it or all there is, without taking it; before the first line.
    pub(super) fn peek(&mut self, bytes: usize) -> Result<&[u8]> {
        debug_assert!(bytes <= BUFFER_BYTES / 2);
        while self.end - self.start < bytes && self.fill()? > 0 {}
        Ok(&self.buffer[self.start..self.end.min(self.start + bytes)])
    }

    /// What is wrong with the stored bytes behind the text, known once the last line was handed out.
    pub(super) fn take_trailing(&mut self) -> Option<Error> {
        self.trailing.take()
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
        if self.opening.is_interrupted() {
            return Err(Error::Interrupted);
        }
        if self.trailing.is_some() {
            return Ok(0);
        }
        loop {
            match self.source.read(&mut self.buffer[self.end..]) {
                Ok(count) => {
                    self.end += count;
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) if self.opening.is_interrupted() => return Err(Error::Interrupted),
                // The text is whole; whether it may be used is for the caller to say.
                Err(error) if error.get_ref().is_some_and(|e| e.is::<TrailingData>()) => {
                    self.trailing = Some(Error::file(self.path(), error.to_string()));
                    return Ok(0);
                }
                Err(error) => return Err(self.explain(error)),
            }
        }
    }

    fn explain(&self, source: io::Error) -> Error {
        let Some(compression) = self.compression else {
            return Error::io(self.path(), "read", source);
        };
        let message = if source.kind() == io::ErrorKind::UnexpectedEof {
            format!("the {compression} stream ends early behind this line: the file is truncated")
        } else {
            format!("the {compression} stream is damaged behind this line: {source}")
        };
        if self.number == 0 {
            return Error::file(self.path(), message.replace(" behind this line", ""));
        }
        Error::line(self.path(), self.number, message)
    }
}

/// The bytes of a file that is no text. Whatever goes wrong is told by an [`Error`] inside the
/// `io::Error`.
impl Read for Lines<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.start == self.end && self.fill().map_err(io::Error::other)? == 0 {
            return match self.take_trailing() {
                Some(error) => Err(io::Error::other(error)),
                None => Ok(0),
            };
        }
        let count = out.len().min(self.end - self.start);
        out[..count].copy_from_slice(&self.buffer[self.start..self.start + count]);
        self.start += count;
        self.last = None;
        Ok(count)
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

    fn lines(text: &[u8]) -> Lines<'_> {
        let opening = Opening {
            path: Path::new("t"),
            bytes: None,
            progress: false,
            interrupted: None,
        };
        Lines::new(opening, None, Box::new(text))
    }

    fn lines_of(text: &[u8]) -> Vec<(u64, Vec<u8>, bool)> {
        let mut lines = lines(text);
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
    fn bytes_can_be_looked_at_and_then_read() {
        let text: Vec<u8> = (0..3 * BUFFER_BYTES).map(|n| (n % 251) as u8).collect();
        let mut lines = lines(&text);
        assert_eq!(lines.peek(1000).unwrap(), &text[..1000]);
        let mut read = Vec::new();
        lines.read_to_end(&mut read).unwrap();
        assert_eq!(read, text);
        assert!(lines.peek(10).unwrap().is_empty());
    }

    #[test]
    fn a_line_can_be_given_back() {
        let mut lines = lines(b"a\nb\n");
        assert_eq!(lines.next().unwrap().unwrap().text, b"a");
        lines.unread();
        let line = lines.next().unwrap().unwrap();
        assert_eq!((line.number, line.text), (1, &b"a"[..]));
        assert_eq!(lines.next().unwrap().unwrap().text, b"b");
        assert!(lines.next().unwrap().is_none());
    }
}
