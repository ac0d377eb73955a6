//! The wire file: made, mapped and grown. What stands in it is described in `wire`.
//!
//! Used under the process's lock, but for the header's counters.

use core::ffi::c_int;
use core::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::folder;
use super::system::{self, EEXIST, EINVAL, ESTALE, Identity};
use super::text;
use super::wire::{self, CHUNK_HEADER_BYTES, CHUNK_MAGIC, UNIT_BYTES, header as at};

/// The mapped header.
#[derive(Clone, Copy)]
pub(crate) struct Header(*mut u8);

impl Header {
    /// Of a mapping made by [`WireFile::create`]; None of null.
    pub(crate) fn of(mapping: *mut u8) -> Option<Self> {
        (!mapping.is_null()).then_some(Self(mapping))
    }

    /// The mapping.
    pub(crate) fn mapping(&self) -> *mut u8 {
        self.0
    }

    fn u64(&self, offset: usize) -> &AtomicU64 {
        // SAFETY: the offsets are those of `wire::header`: aligned, within the mapping, which lives as
        // long as the process is the one that it belongs to.
        unsafe { AtomicU64::from_ptr(self.0.add(offset).cast()) }
    }

    fn u32(&self, offset: usize) -> &AtomicU32 {
        // SAFETY: as above.
        unsafe { AtomicU32::from_ptr(self.0.add(offset).cast()) }
    }

    pub(crate) fn set(&self, offset: usize, value: u64) {
        self.u64(offset).store(value, Ordering::Relaxed);
    }

    pub(crate) fn set_u32(&self, offset: usize, value: u32) {
        self.u32(offset).store(value, Ordering::Relaxed);
    }

    pub(crate) fn get_u32(&self, offset: usize) -> u32 {
        self.u32(offset).load(Ordering::Relaxed)
    }

    /// A window's state in the table.
    pub(crate) fn window(&self, index: usize) -> &AtomicU64 {
        self.u64(at::WINDOWS + index * at::WINDOW_BYTES)
    }

    pub(crate) fn add_unrecorded(&self) {
        self.u64(at::UNRECORDED_CALLS)
            .fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn add_usable_size_call(&self) {
        self.u64(at::USABLE_SIZE_CALLS)
            .fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a large block that has ended: its pages, and those that were touched.
    pub(crate) fn add_touched(&self, class: usize, pages: u64, touched: u64) {
        let place = at::TOUCHED + class * at::TOUCHED_BYTES;
        self.u64(place).fetch_add(pages, Ordering::Relaxed);
        self.u64(place + 8).fetch_add(touched, Ordering::Relaxed);
    }

    pub(crate) fn add_lost_child(&self, error: i32) {
        self.u32(at::LOST_CHILDREN).fetch_add(1, Ordering::Relaxed);
        self.set_u32(at::LOST_CHILDREN_ERRNO, error as u32);
    }

    /// The first reason stays.
    pub(crate) fn set_stopped(&self, reason: u32, error: i32) {
        if self.get_u32(at::STOPPED) == 0 {
            self.set_u32(at::STOPPED_ERRNO, error as u32);
            self.set_u32(at::STOPPED, reason);
        }
    }

    /// A text field, while nobody else has the header.
    #[allow(
        clippy::mut_from_ref,
        reason = "the header is a mapping, not this value"
    )]
    pub(crate) fn bytes(&self, offset: usize, bytes: usize) -> &mut [u8] {
        // SAFETY: the fields of `wire::header` lie within the mapping; the caller is setting up the
        // process, under its lock.
        unsafe { core::slice::from_raw_parts_mut(self.0.add(offset), bytes) }
    }
}

/// Why no chunk could be had.
pub(crate) struct Refusal {
    /// `STOPPED_...` of the header.
    pub(crate) reason: u32,
    /// The system's number.
    pub(crate) error: i32,
}

impl Refusal {
    fn of(error: i32) -> Self {
        let reason = match error {
            system::ENOSPC | system::EDQUOT => at::STOPPED_DISK_FULL,
            _ => at::STOPPED_IO,
        };
        Self { reason, error }
    }
}

/// The open file. All zero: none.
pub(crate) struct WireFile {
    file: c_int,
    identity: Option<Identity>,
    process: u32,
    image: u32,
    limit_bytes: u64,
}

impl WireFile {
    /// Makes the file of this process and image, with its header mapped: the first number that no file
    /// has is the image's.
    pub(crate) fn create(process: u32, limit_bytes: u64) -> Result<(Self, Header), i32> {
        let flags = system::O_RDWR | system::O_CREAT | system::O_EXCL;
        let mut image = 0;
        let file = loop {
            match folder::open(text::file_name(process, image, b"wire").as_c(), flags) {
                Ok(file) => break system::move_out_of_the_way(file),
                Err(EEXIST) => image += 1,
                Err(error) => return Err(error),
            }
        };
        let mapped = system::identity(file).and_then(|identity| {
            if limit_bytes < UNIT_BYTES as u64 {
                return Err(EINVAL);
            }
            system::grow(file, 0, UNIT_BYTES as u64)?;
            Ok((identity, system::map_file(file, 0, UNIT_BYTES)?))
        });
        let (identity, mapping) = match mapped {
            Ok(mapped) => mapped,
            Err(error) => {
                system::close(file);
                return Err(error);
            }
        };
        let header = Header(mapping);
        header.set(at::FILE_BYTES, UNIT_BYTES as u64);
        header.set(at::LIMIT_BYTES, limit_bytes);
        header.set_u32(at::PROCESS, process);
        header.set(at::IMAGE, u64::from(image));
        let file = Self {
            file,
            identity: Some(identity),
            process,
            image,
            limit_bytes,
        };
        Ok((file, header))
    }

    /// Process and image that the file is named after.
    pub(crate) fn name(&self) -> (u32, u32) {
        (self.process, self.image)
    }

    /// Gives up the handle that a parent left, if it is still that file's.
    pub(crate) fn close_inherited(file: c_int, identity: Option<Identity>) {
        if identity.is_some() && system::identity(file).ok() == identity {
            system::close(file);
        }
    }

    /// What a child needs for [`close_inherited`](Self::close_inherited).
    pub(crate) fn handle(&self) -> (c_int, Option<Identity>) {
        (self.file, self.identity)
    }

    /// The handle, opened anew if the program has closed it.
    fn reach(&mut self) -> Result<c_int, i32> {
        if system::identity(self.file).ok() == self.identity {
            return Ok(self.file);
        }
        let name = text::file_name(self.process, self.image, b"wire");
        let file = folder::open(name.as_c(), system::O_RDWR)?;
        if system::identity(file).ok() != self.identity {
            system::close(file);
            return Err(ESTALE);
        }
        self.file = system::move_out_of_the_way(file);
        Ok(self.file)
    }

    /// Hands out the next bytes of the file: so many, or if the limit is near fewer, but `least`. Returns
    /// where they are, and their number. The command hands out, too.
    fn reserve(&self, header: Header, bytes: usize, least: usize) -> Result<(u64, usize), Refusal> {
        let end = header.u64(at::FILE_BYTES);
        let mut offset = end.load(Ordering::Relaxed);
        loop {
            let left = self.limit_bytes.saturating_sub(offset);
            let left = usize::try_from(left).unwrap_or(usize::MAX);
            let bytes = bytes.min(left) / UNIT_BYTES * UNIT_BYTES;
            if bytes < least {
                return Err(Refusal {
                    reason: at::STOPPED_LIMIT,
                    error: 0,
                });
            }
            let new_end = offset + bytes as u64;
            match end.compare_exchange(offset, new_end, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok((offset, bytes)),
                Err(now) => offset = now,
            }
        }
    }

    /// A new chunk of about so many bytes, mapped; it begins with the chunk's header.
    pub(crate) fn chunk(&mut self, header: Header, bytes: usize) -> Result<Place, Refusal> {
        let (chunk, _, bytes) = self.chunk_of(header, bytes, UNIT_BYTES)?;
        Ok(Place {
            chunk,
            bytes,
            window: 0,
        })
    }

    /// A new chunk of just so many bytes, mapped, and where it lies in the file.
    pub(crate) fn whole_chunk(
        &mut self,
        header: Header,
        bytes: usize,
    ) -> Result<(*mut u8, u64), Refusal> {
        let (chunk, offset, _) = self.chunk_of(header, bytes, bytes)?;
        Ok((chunk, offset))
    }

    fn chunk_of(
        &mut self,
        header: Header,
        bytes: usize,
        least: usize,
    ) -> Result<(*mut u8, u64, usize), Refusal> {
        let file = self.reach().map_err(Refusal::of)?;
        let (offset, bytes) = self.reserve(header, bytes, least)?;
        system::grow(file, offset, bytes as u64).map_err(Refusal::of)?;
        let chunk = system::map_file(file, offset, bytes).map_err(Refusal::of)?;
        let units = (bytes / UNIT_BYTES) as u64;
        // SAFETY: the chunk was just mapped, and nobody else has it.
        unsafe {
            let words = chunk.cast::<u64>();
            words.write(u64::from(CHUNK_MAGIC) | units << 32);
            words.add(1).write(0);
        }
        Ok((chunk, offset, bytes))
    }

    /// Writes a whole chunk at the end of the file.
    pub(crate) fn append(&mut self, header: Header, chunk: &[u8]) -> Result<(), Refusal> {
        let file = self.reach().map_err(Refusal::of)?;
        let (offset, _) = self.reserve(header, chunk.len(), chunk.len())?;
        system::write_at(file, chunk, offset).map_err(Refusal::of)
    }
}

/// A chunk to write in.
#[derive(Clone, Copy)]
pub(crate) struct Place {
    /// Its mapping; it begins with the chunk's header.
    pub(crate) chunk: *mut u8,
    /// Bytes of it.
    pub(crate) bytes: usize,
    /// Its number among the windows, counted from 1; 0: it is none.
    pub(crate) window: u8,
}

const _: () = assert!(CHUNK_HEADER_BYTES == 16);
const _: () = assert!(wire::VERSION == 2);
