//! A file that takes events: the format's writer, compression by the file's name, and the new file
//! beside the old one until it is whole.

use std::fs::File;
use std::io::{self, BufWriter, Read as _, Seek as _, Write};
use std::path::{Path, PathBuf};

use super::{Losses, OutputFormat, Writer};
use crate::error::{Error, Result};
use crate::files::{PLAIN_MODE, Replacement, folder};
use crate::trace::Trace;
use crate::trace::stream::{Batch, Ending, EventSink, feed};

/// Text is for reading and for other tools; what is kept for long is binary. A higher level takes
/// minutes where this takes seconds.
const ZSTD_LEVEL: i32 = 9;

/// The level of a spool that lives for minutes.
const SPOOL_ZSTD_LEVEL: i32 = 1;

/// What became of a trace that was written.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Written {
    /// Events that stand in the file.
    pub events: u64,
    /// What the format could not tell.
    pub losses: Losses,
}

/// A file that takes the events of a trace. Dropped before [`FileSink::finish`], it leaves nothing
/// behind.
pub struct FileSink {
    path: PathBuf,
    format: OutputFormat,
    writer: Box<dyn Writer>,
    out: Out<Replacement>,
    /// The events of a format that begins with what is known at the end only.
    spool: Option<zstd::Encoder<'static, File>>,
    text: Vec<u8>,
    events: u64,
}

/// Begins a file in `format`, compressed if its name ends in `.zst` or `.gz`.
///
/// # Errors
/// The folder is missing or cannot be written.
pub fn create(path: &Path, format: OutputFormat) -> Result<FileSink> {
    let failed = |source| Error::io(path, "write", source);
    let writer = format.writer()?;
    let out = Out::new(Replacement::create(path, PLAIN_MODE)?, path).map_err(failed)?;
    // Beside the file: the folder for temporary files is often small.
    let spool = writer
        .has_header()
        .then(|| {
            tempfile::tempfile_in(folder(path))
                .or_else(|_| tempfile::tempfile())
                .and_then(|file| zstd::Encoder::new(file, SPOOL_ZSTD_LEVEL))
        })
        .transpose()
        .map_err(failed)?;
    Ok(FileSink {
        path: path.to_owned(),
        format,
        writer,
        out,
        spool,
        text: Vec::new(),
        events: 0,
    })
}

impl FileSink {
    /// Ends the file and puts it in its place.
    ///
    /// # Errors
    /// The disk is full, or the folder cannot be written.
    pub fn finish(mut self, ending: &Ending) -> Result<Written> {
        let path = &self.path;
        let failed = |source| Error::io(path, "write", source);
        self.writer.end(ending, &mut self.text)?;
        if let Some(mut spool) = self.spool.take() {
            spool.write_all(&self.text).map_err(failed)?;
            self.out.write_all(&self.writer.header()).map_err(failed)?;
            copy_spool(spool, &mut self.out).map_err(failed)?;
        } else {
            self.out.write_all(&self.text).map_err(failed)?;
        }
        self.out.finish().map_err(failed)?.commit()?;
        Ok(Written {
            events: self.events,
            losses: self.writer.losses().clone(),
        })
    }
}

impl EventSink for FileSink {
    fn take(&mut self, batch: &Batch) -> Result<()> {
        let events = batch.events.iter();
        let told = events.filter(|event| self.format.tells(&event.operation));
        self.events += told.count() as u64;
        self.writer.take(batch, &mut self.text)?;
        let written = match &mut self.spool {
            Some(spool) => spool.write_all(&self.text),
            None => self.out.write_all(&self.text),
        };
        self.text.clear();
        written.map_err(|source| Error::io(&self.path, "write", source))
    }
}

fn copy_spool(spool: zstd::Encoder<File>, out: &mut impl Write) -> io::Result<()> {
    let mut file = spool.finish()?;
    file.rewind()?;
    let mut text = zstd::Decoder::new(file)?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        let count = text.read(&mut buffer)?;
        if count == 0 {
            return Ok(());
        }
        out.write_all(&buffer[..count])?;
    }
}

/// Writes a trace, uncompressed.
pub(super) fn write_to(
    trace: &Trace,
    out: impl Write + Send,
    format: OutputFormat,
) -> Result<Losses> {
    /// Events as they come; the header, if the format has one, is known once they were all seen.
    struct Sink<W> {
        writer: Box<dyn Writer>,
        out: W,
        text: Vec<u8>,
    }

    impl<W: Write + Send> EventSink for Sink<W> {
        fn take(&mut self, batch: &Batch) -> Result<()> {
            self.writer.take(batch, &mut self.text)?;
            if self.writer.has_header() {
                return Ok(());
            }
            self.out.write_all(&self.text).map_err(unwritten)?;
            self.text.clear();
            Ok(())
        }
    }

    fn unwritten(source: io::Error) -> Error {
        Error::Failed(format!("cannot write a trace: {source}"))
    }

    let mut sink = Sink {
        writer: format.writer()?,
        out,
        text: Vec::new(),
    };
    feed(trace, &mut sink)?;
    sink.writer.end(&trace.ending(), &mut sink.text)?;
    sink.out
        .write_all(&sink.writer.header())
        .and_then(|()| sink.out.write_all(&sink.text))
        .and_then(|()| sink.out.flush())
        .map_err(unwritten)?;
    Ok(sink.writer.losses().clone())
}

/// Where the bytes go, through the compression that the file's name asks for.
enum Out<W: Write> {
    Plain(BufWriter<W>),
    Zstd(zstd::Encoder<'static, W>),
    Gzip(Box<flate2::write::GzEncoder<W>>),
}

impl<W: Write> Out<W> {
    fn new(inner: W, path: &Path) -> io::Result<Self> {
        let extension = path.extension().and_then(|extension| extension.to_str());
        Ok(match extension {
            Some("zst") => Self::Zstd(zstd::Encoder::new(inner, ZSTD_LEVEL)?),
            Some("gz") => {
                let level = flate2::Compression::best();
                Self::Gzip(Box::new(flate2::write::GzEncoder::new(inner, level)))
            }
            _ => Self::Plain(BufWriter::new(inner)),
        })
    }

    fn finish(self) -> io::Result<W> {
        match self {
            Self::Plain(out) => out.into_inner().map_err(io::IntoInnerError::into_error),
            Self::Zstd(encoder) => encoder.finish(),
            Self::Gzip(encoder) => encoder.finish(),
        }
    }
}

impl<W: Write> Write for Out<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(out) => out.write(bytes),
            Self::Zstd(out) => out.write(bytes),
            Self::Gzip(out) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(out) => out.flush(),
            Self::Zstd(out) => out.flush(),
            Self::Gzip(out) => out.flush(),
        }
    }
}
