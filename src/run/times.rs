//! The file through which the child of a latency pass tells the time of each operation: 64 bits each
//! (see [`crate::replay::latency::ticks_of`]), mapped by both, beside the answer file.

use std::fs::{File, OpenOptions};
use std::os::fd::AsRawFd as _;
use std::path::{Path, PathBuf};

use memmap2::MmapMut;

/// See the module text.
#[derive(Debug)]
pub(super) struct Times {
    map: MmapMut,
    places: usize,
}

/// Where it is.
pub(super) fn path_beside(answer: &Path) -> PathBuf {
    answer.with_extension("times")
}

fn bytes(places: usize) -> usize {
    places.max(1) * size_of::<u64>()
}

impl Times {
    /// Makes the file beside the answer file.
    pub(super) fn create(answer: &Path, places: usize) -> std::io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path_beside(answer))?;
        // Not set_len: writing into a hole of a full file system would kill the process that writes.
        // SAFETY: a descriptor of ours and numbers.
        let error = unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, bytes(places) as i64) };
        if error != 0 {
            return Err(std::io::Error::from_raw_os_error(error));
        }
        Self::map(&file, places)
    }

    /// Opens the file that `create` made and makes it resident.
    pub(super) fn open(answer: &Path, places: usize) -> std::io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path_beside(answer))?;
        if file.metadata()?.len() != bytes(places) as u64 {
            return Err(std::io::Error::other("it is as long as another trace"));
        }
        let mut times = Self::map(&file, places)?;
        times.map.iter_mut().step_by(4096).for_each(|byte| {
            // SAFETY: a valid byte; volatile, so that the write is not left out.
            unsafe { std::ptr::write_volatile(byte, 0) }
        });
        Ok(times)
    }

    fn map(file: &File, places: usize) -> std::io::Result<Self> {
        // SAFETY: the file lies in the parent's own temporary folder; only parent and child map it,
        // and the parent reads when the child has ended.
        let map = unsafe { MmapMut::map_mut(file)? };
        Ok(Self { map, places })
    }

    /// The time at each place, to fill.
    pub(super) fn as_mut_slice(&mut self) -> &mut [u64] {
        // SAFETY: a mapping of `places` numbers, aligned to an OS page; any bits are a number.
        unsafe { std::slice::from_raw_parts_mut(self.map.as_mut_ptr().cast(), self.places) }
    }

    /// The time at each place.
    pub(super) fn as_slice(&self) -> &[u64] {
        // SAFETY: as in `as_mut_slice`.
        unsafe { std::slice::from_raw_parts(self.map.as_ptr().cast(), self.places) }
    }
}
