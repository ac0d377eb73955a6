//! A gzip file: one member or several behind each other, perhaps padded with zeros, as tapes and
//! some tools leave them.

#![forbid(unsafe_code)]

use std::io::{self, BufRead, Read};

use flate2::bufread::GzDecoder;

/// Behind the last member there is something that is no further member and no padding.
#[derive(Debug, thiserror::Error)]
#[error("trailing data after the gzip stream")]
pub(super) struct TrailingData;

/// The text of all members.
pub(super) struct Members<R: BufRead> {
    /// The member being read; none behind the last.
    decoder: Option<GzDecoder<R>>,
    /// Members that have been read to their end.
    ended: u64,
    /// Text of this member was handed out.
    begun: bool,
}

impl<R: BufRead> Members<R> {
    pub(super) fn new(stored: R) -> Self {
        Self {
            decoder: Some(GzDecoder::new(stored)),
            ended: 0,
            begun: false,
        }
    }

    /// Goes on to the next member, if there is one.
    fn next_member(&mut self, mut stored: R) -> io::Result<()> {
        self.ended += 1;
        self.begun = false;
        loop {
            let next = match stored.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                next => next?,
            };
            if next.is_empty() {
                return Ok(());
            }
            let zeros = next.iter().take_while(|&&byte| byte == 0).count();
            if let Some(&first) = next.get(zeros) {
                stored.consume(zeros);
                // The first byte of every member.
                if first != 0x1f {
                    return Err(io::Error::other(TrailingData));
                }
                self.decoder = Some(GzDecoder::new(stored));
                return Ok(());
            }
            stored.consume(zeros);
        }
    }
}

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        while let Some(decoder) = &mut self.decoder {
            match decoder.read(buffer) {
                Ok(0) => {
                    if let Some(decoder) = self.decoder.take() {
                        self.next_member(decoder.into_inner())?;
                    }
                }
                Ok(count) => {
                    self.begun = true;
                    return Ok(count);
                }
                // No header of a member: the first byte was one by chance.
                Err(error)
                    if error.kind() == io::ErrorKind::InvalidInput
                        && self.ended > 0
                        && !self.begun =>
                {
                    self.decoder = None;
                    return Err(io::Error::other(TrailingData));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(0)
    }
}
