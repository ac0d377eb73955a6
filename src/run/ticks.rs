//! The file through which the child of a latency pass tells the time of each operation: 32 bits each,
//! mapped by both, beside the answer file. Longer times than 2^32 - 1 ticks, a second or so, are cut
//! to it; the slowest ten are told in full in the answer.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use memmap2::MmapMut;

/// See the module text.
#[derive(Debug)]
pub(super) struct Ticks {
    map: MmapMut,
    operations: usize,
}

/// Where it is.
pub(super) fn path_beside(answer: &Path) -> PathBuf {
    answer.with_extension("ticks")
}

fn bytes(operations: usize) -> usize {
    operations.max(1) * size_of::<u32>()
}

impl Ticks {
    /// Makes the file beside the answer file.
    pub(super) fn create(answer: &Path, operations: usize) -> std::io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path_beside(answer))?;
        // Not set_len: writing into a hole of a full file system would kill the process that writes.
        // SAFETY: a descriptor of ours and numbers.
        let error = unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, bytes(operations) as i64) };
        if error != 0 {
            return Err(std::io::Error::from_raw_os_error(error));
        }
        Self::map(&file, operations)
    }

    /// Opens the file that `create` made and makes it resident.
    pub(super) fn open(answer: &Path, operations: usize) -> std::io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path_beside(answer))?;
        if file.metadata()?.len() != bytes(operations) as u64 {
            return Err(std::io::Error::other("it is as long as another trace"));
        }
        let mut ticks = Self::map(&file, operations)?;
        ticks.map.iter_mut().step_by(4096).for_each(|byte| {
            // SAFETY: a valid byte; volatile, so that the write is not left out.
            unsafe { std::ptr::write_volatile(byte, 0) }
        });
        Ok(ticks)
    }

    fn map(file: &File, operations: usize) -> std::io::Result<Self> {
        // SAFETY: the file lies in the parent's own temporary folder; only parent and child map it,
        // and the parent reads when the child has ended.
        let map = unsafe { MmapMut::map_mut(file)? };
        Ok(Self { map, operations })
    }

    /// The ticks of each operation, to fill.
    pub(super) fn as_mut_slice(&mut self) -> &mut [u32] {
        // SAFETY: a mapping of `operations` numbers, aligned to an OS page; any bits are a number.
        unsafe { std::slice::from_raw_parts_mut(self.map.as_mut_ptr().cast(), self.operations) }
    }

    /// The ticks of each operation.
    pub(super) fn as_slice(&self) -> &[u32] {
        // SAFETY: as in `as_mut_slice`.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().cast(), self.operations) }
    }
}
