//! Memory of the harness's own for the threads: their counters and their stacks. Mapped and resident
//! before the replay, so that it is no part of what an allocator is charged.

use core::ffi::c_void;
use core::ptr;

use memmap2::{MmapMut, MmapOptions};

const OS_PAGE_BYTES: usize = 4096;

/// An array of values for which zeroes are valid.
#[derive(Debug)]
pub(super) struct Mapped<T> {
    map: MmapMut,
    length: usize,
    marker: core::marker::PhantomData<T>,
}

impl<T> Mapped<T> {
    /// Maps `length` values, all zero and resident.
    ///
    /// # Safety
    /// Zeroes are a valid `T`, which needs no destructor and is aligned to an OS page at most.
    pub(super) unsafe fn zeroed(length: usize) -> std::io::Result<Self> {
        let mut map = MmapMut::map_anon((length * size_of::<T>()).max(1))?;
        make_resident(&mut map);
        Ok(Self {
            map,
            length,
            marker: core::marker::PhantomData,
        })
    }

    pub(super) fn as_slice(&self) -> &[T] {
        // SAFETY: `zeroed` mapped so many values, for which its caller vouches that zeroes are valid.
        unsafe { core::slice::from_raw_parts(self.map.as_ptr().cast(), self.length) }
    }
}

fn make_resident(bytes: &mut [u8]) {
    bytes.iter_mut().step_by(OS_PAGE_BYTES).for_each(|byte| {
        // SAFETY: a valid byte; volatile, so that the write is not left out.
        unsafe { ptr::write_volatile(byte, 0) }
    });
}

/// Room for a thread's calls. Stacks of programs are larger, since programs recurse; allocators hardly
/// do.
const CALLS_BYTES: usize = 256 << 10;
/// So much of a stack of ours is resident from the beginning.
const RESIDENT_BYTES: usize = 32 << 10;

/// Bytes of a thread's stack: the C library puts thread-local variables there too, of which allocators
/// may have many.
pub(super) fn stack_bytes() -> usize {
    let bytes = least_stack_bytes() + CALLS_BYTES;
    bytes.next_multiple_of(OS_PAGE_BYTES)
}

/// What the C library needs of a stack for itself.
fn least_stack_bytes() -> usize {
    type Least = unsafe extern "C" fn(*const libc::pthread_attr_t) -> libc::size_t;
    // SAFETY: any name may be asked for.
    let found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, c"__pthread_get_minstack".as_ptr()) };
    if found.is_null() {
        return libc::PTHREAD_STACK_MIN;
    }
    let mut attributes = core::mem::MaybeUninit::<libc::pthread_attr_t>::uninit();
    // SAFETY: the C library's function of this name has this type; it reads initialised attributes.
    unsafe {
        libc::pthread_attr_init(attributes.as_mut_ptr());
        let least = core::mem::transmute::<*mut c_void, Least>(found);
        let bytes = least(attributes.as_ptr());
        libc::pthread_attr_destroy(attributes.as_mut_ptr());
        bytes
    }
}

/// Stacks of the harness's own, resident beforehand: one for each place, used again when its thread has
/// been joined. While memory is looked at: what the C library maps for stacks would be taken for the
/// allocator's.
#[derive(Debug)]
pub(super) struct Stacks {
    map: MmapMut,
    each_bytes: usize,
}

impl Stacks {
    pub(super) fn map(places: u32) -> std::io::Result<Self> {
        let each_bytes = stack_bytes() + OS_PAGE_BYTES;
        let bytes = (places as usize).max(1) * each_bytes;
        let mut map = MmapOptions::new().len(bytes).no_reserve_swap().map_anon()?;
        for stack in map.chunks_mut(each_bytes) {
            let (guard, rest) = stack.split_at_mut(OS_PAGE_BYTES);
            // SAFETY: an OS page of our own mapping, which nobody uses: running over the end of a
            // stack then is a crash and no silent damage.
            unsafe {
                libc::mprotect(
                    guard.as_mut_ptr().cast::<c_void>(),
                    OS_PAGE_BYTES,
                    libc::PROT_NONE,
                );
            }
            // Stacks grow downwards.
            let top = rest.len() - RESIDENT_BYTES;
            make_resident(&mut rest[top..]);
        }
        Ok(Self { map, each_bytes })
    }

    /// Lowest address and bytes of a place's stack.
    pub(super) fn of(&self, place: u32) -> (*mut c_void, usize) {
        let start = place as usize * self.each_bytes + OS_PAGE_BYTES;
        let bytes = self.each_bytes - OS_PAGE_BYTES;
        debug_assert!(start + bytes <= self.map.len());
        // As mutable as it was mapped: threads write to it.
        let start = self.map.as_ptr().cast_mut().wrapping_add(start);
        (start.cast(), bytes)
    }
}
