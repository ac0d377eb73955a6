//! A pipe, a terminal or another file that keeps its reader waiting.
//!
//! Signals do not end such a wait: the system call is begun anew after the handler. A thread
//! waits in our place, so that the reader can look up now and then and give up. It is left behind
//! then, asleep, until the process ends, which is soon.

#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

/// How long an interrupt may go unnoticed.
const LOOK_UP: Duration = Duration::from_millis(50);

/// Read at a time: what a pipe holds.
const PIECE_BYTES: usize = 64 * 1024;

/// Pieces read ahead.
const PIECES: usize = 4;

/// The receiving end. A piece without bytes is the end of the file.
pub(super) struct Pipe {
    pieces: Receiver<io::Result<Vec<u8>>>,
    interrupted: Option<fn() -> bool>,
    piece: io::Cursor<Vec<u8>>,
    ended: bool,
}

impl Pipe {
    /// Opens `path`, which may itself wait for a writer.
    pub(super) fn open(path: &Path, interrupted: Option<fn() -> bool>) -> io::Result<Self> {
        let (sender, pieces) = sync_channel(PIECES);
        let path = path.to_owned();
        std::thread::Builder::new()
            .name("trace pipe".to_owned())
            .spawn(move || forward(path, &sender))?;
        Ok(Self {
            pieces,
            interrupted,
            piece: io::Cursor::default(),
            ended: false,
        })
    }

    /// The next piece, or an error if the user gave up.
    fn receive(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if self.interrupted.is_some_and(|asked| asked()) {
                return Err(io::Error::other("interrupted"));
            }
            match self.pieces.recv_timeout(LOOK_UP) {
                Ok(piece) => return piece,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(io::Error::other("the reading thread ended early"));
                }
            }
        }
    }
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.piece.read(buffer)?;
            if count > 0 || self.ended || buffer.is_empty() {
                return Ok(count);
            }
            let piece = self.receive()?;
            self.ended = piece.is_empty();
            self.piece = io::Cursor::new(piece);
        }
    }
}

/// Sends the file piece by piece, until its end, an error, or nobody listens any more.
fn forward(path: PathBuf, sender: &SyncSender<io::Result<Vec<u8>>>) {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) => {
            let _ = sender.send(Err(error));
            return;
        }
    };
    loop {
        let mut piece = vec![0; PIECE_BYTES];
        let read = match file.read(&mut piece) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read,
        };
        let last = !matches!(read, Ok(1..));
        let sent = sender.send(read.map(|count| {
            piece.truncate(count);
            piece
        }));
        if last || sent.is_err() {
            return;
        }
    }
}
