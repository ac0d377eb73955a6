//! Requests that no page of the list holds: each gets a mapping of its own. The seed stops at 4096
//! bytes and an alignment of 16; real programs under the preload shim do not.
//!
//! ```text
//!  start                     start + payload_offset                    start + bytes
//! +------------------------+-+-----------------------------------------+
//! | next bytes offset      | | payload                                 |
//! +------------------------+-+-----------------------------------------+
//! ```
//!
//! The mappings are a second singly linked list, newest first, and a pointer is validated as in the
//! first one: by walking, never by following it.

use core::ptr::{self, NonNull};

use super::super::{FreeError, os};
use super::page::ALIGNMENT;

/// The mappings, newest first.
pub(super) struct Mappings {
    first: *mut Mapping,
}

/// The head of a mapping.
#[repr(C, align(16))]
struct Mapping {
    next: *mut Mapping,
    bytes: usize,
    /// From the mapping's start to what the user got.
    payload_offset: usize,
}

const HEADER_BYTES: usize = size_of::<Mapping>();

// SAFETY: the mappings belong to this list alone and to no thread.
unsafe impl Send for Mappings {}

impl Mappings {
    /// No mapping.
    pub(super) const fn new() -> Self {
        Self {
            first: ptr::null_mut(),
        }
    }

    /// Zeroed memory of `size` bytes at a multiple of `alignment`, a power of two. None: the system
    /// has no memory left.
    pub(super) fn allocate(&mut self, size: usize, alignment: usize) -> Option<NonNull<u8>> {
        let (start, head) = if alignment <= os::OS_PAGE_BYTES {
            // The header is of 32 bytes: the payload starts at the first multiple behind it.
            let payload_offset = HEADER_BYTES.next_multiple_of(alignment.max(ALIGNMENT));
            let bytes = mapping_bytes(payload_offset, size)?;
            (
                os::map(bytes)?,
                Mapping {
                    next: self.first,
                    bytes,
                    payload_offset,
                },
            )
        } else {
            let (start, bytes, payload_offset) = map_aligned(size, alignment)?;
            (
                start,
                Mapping {
                    next: self.first,
                    bytes,
                    payload_offset,
                },
            )
        };
        // SAFETY: `payload_offset` lies inside the mapping.
        let payload = unsafe { start.add(head.payload_offset) };
        let mapping = start.cast::<Mapping>();
        // SAFETY: fresh memory of ours, page-aligned, and the header ends before the payload.
        unsafe { mapping.write(head) };
        self.first = mapping.as_ptr();
        Some(payload)
    }

    /// Gives a mapping back. If the system refuses (see [`os::unmap`]), it stays in the list.
    pub(super) fn free(&mut self, payload: NonNull<u8>) -> Result<(), FreeError> {
        let link = self.find(payload.addr().get())?;
        // SAFETY: `find` returned the link to a mapping in the list; the lock is held.
        unsafe {
            let mapping = *link;
            let next = (*mapping).next;
            if os::unmap(NonNull::new_unchecked(mapping).cast(), (*mapping).bytes) {
                *link = next;
            }
        }
        Ok(())
    }

    /// Changes the length of a mapping, which may move; content is kept. None: the system has no
    /// memory left, nothing has changed.
    pub(super) fn resize(
        &mut self,
        payload: NonNull<u8>,
        size: usize,
    ) -> Result<Option<NonNull<u8>>, FreeError> {
        let link = self.find(payload.addr().get())?;
        // SAFETY: `find` returned the link to a mapping in the list; the lock is held, so nobody
        // follows the link while it is changed.
        unsafe {
            let (bytes, payload_offset) = ((**link).bytes, (**link).payload_offset);
            let Some(bytes_new) = mapping_bytes(payload_offset, size) else {
                return Ok(None);
            };
            if bytes_new == bytes {
                return Ok(Some(payload));
            }
            let start = NonNull::new_unchecked(*link).cast();
            let Some(moved) = os::remap(start, bytes, bytes_new) else {
                return Ok(None);
            };
            let mapping = moved.cast::<Mapping>().as_ptr();
            (*mapping).bytes = bytes_new;
            *link = mapping;
            Ok(Some(moved.add(payload_offset)))
        }
    }

    /// Bytes usable from the payload's start.
    pub(super) fn usable_bytes(&mut self, payload: NonNull<u8>) -> Result<usize, FreeError> {
        let link = self.find(payload.addr().get())?;
        // SAFETY: `find` returned the link to a mapping in the list.
        unsafe { Ok((**link).bytes - (**link).payload_offset) }
    }

    /// The place where the pointer to the mapping stands whose payload starts at `address`.
    fn find(&mut self, address: usize) -> Result<*mut *mut Mapping, FreeError> {
        let mut link: *mut *mut Mapping = &mut self.first;
        // SAFETY: `link` points to `first` or to the `next` of a mapping in the list; those are
        // mapped until they are unlinked, and the lock is held.
        unsafe {
            while !(*link).is_null() {
                let mapping = *link;
                let distance = address.wrapping_sub(mapping.addr());
                if distance < (*mapping).bytes {
                    let is_start = distance == (*mapping).payload_offset;
                    return if is_start {
                        Ok(link)
                    } else {
                        Err(FreeError::Interior)
                    };
                }
                link = &raw mut (*mapping).next;
            }
        }
        Err(FreeError::Foreign)
    }
}

/// Length of a mapping that holds `size` bytes, at least one, from `payload_offset` on: the payload's
/// start must lie inside to be found again. None: no such length.
fn mapping_bytes(payload_offset: usize, size: usize) -> Option<usize> {
    payload_offset
        .checked_add(size.max(1))?
        .checked_next_multiple_of(os::OS_PAGE_BYTES)
}

/// A mapping whose payload is aligned beyond an OS page: maps more than is needed and gives both
/// ends back. Returns its start, length and payload offset.
fn map_aligned(size: usize, alignment: usize) -> Option<(NonNull<u8>, usize, usize)> {
    let payload_bytes = size.max(1).checked_next_multiple_of(os::OS_PAGE_BYTES)?;
    let bytes = payload_bytes.checked_add(alignment)?;
    let mapped = os::map(bytes)?;
    let first = mapped.addr().get();
    // At least one OS page in front for the header; both ends stay inside, since all are multiples
    // of an OS page.
    let payload = (first + os::OS_PAGE_BYTES).next_multiple_of(alignment);
    let (mut start, mut end) = (mapped, first + bytes);
    let before = payload - os::OS_PAGE_BYTES - first;
    let after = end - (payload + payload_bytes);
    // An end that the system does not take back (see `os::unmap`) stays part of the mapping; it was
    // never touched and costs no memory.
    // SAFETY: both ranges are whole OS pages of the fresh mapping, outside header and payload.
    unsafe {
        if before > 0 && os::unmap(mapped, before) {
            start = mapped.add(before);
        }
        if after > 0 && os::unmap(mapped.add(bytes - after), after) {
            end -= after;
        }
    }
    let start_address = start.addr().get();
    Some((start, end - start_address, payload - start_address))
}
