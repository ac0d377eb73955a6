//! The bytes of a file at any place, for formats that are not read front to back.

#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{self, Read};

/// Bytes that can be read at any place: a plain file, or one in memory.
pub(crate) trait ReadAt {
    /// Fills `out` from `offset` on, or as much of it as the system hands out at once. Returns the
    /// bytes filled; 0 behind the end.
    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize>;

    /// How many bytes there are now.
    fn size_bytes(&self) -> io::Result<u64>;

    /// Fills `out` from `offset` on, or as much of it as there is. Returns the bytes filled.
    fn fill_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut filled = 0;
        while filled < out.len() {
            match self.read_at(&mut out[filled..], offset.saturating_add(filled as u64)) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }
}

impl ReadAt for File {
    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(self, out, offset)
    }

    fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }
}

impl ReadAt for &[u8] {
    fn read_at(&self, out: &mut [u8], offset: u64) -> io::Result<usize> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let rest = self.get(start..).unwrap_or_default();
        let count = out.len().min(rest.len());
        out[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }
}

/// The bytes from a place on, front to back.
pub(crate) struct ReadFrom<'f> {
    pub(crate) file: &'f dyn ReadAt,
    /// Of the next byte.
    pub(crate) at: u64,
}

impl Read for ReadFrom<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read_at(out, self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_in_memory_are_read_like_a_file() {
        let mut file = tempfile::tempfile().unwrap();
        let bytes: Vec<u8> = (0..100).collect();
        io::Write::write_all(&mut file, &bytes).unwrap();
        let memory = bytes.as_slice();
        assert_eq!(ReadAt::size_bytes(&file).unwrap(), 100);
        assert_eq!(memory.size_bytes().unwrap(), 100);
        for (offset, length) in [(0, 100), (0, 101), (99, 1), (100, 1), (1 << 40, 4)] {
            let both: [&dyn ReadAt; 2] = [&file, &memory];
            let [one, other] = both.map(|source| {
                let mut out = vec![0xff; length];
                let filled = source.fill_at(&mut out, offset).unwrap();
                (filled, out)
            });
            assert_eq!(one, other, "{length} bytes at {offset}");
        }
        assert_eq!(memory.fill_at(&mut [0; 4], u64::MAX).unwrap(), 0);
        let mut rest = Vec::new();
        let mut from = ReadFrom {
            file: &memory,
            at: 97,
        };
        from.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, [97, 98, 99]);
    }
}
