//! The checks around the calls of a kernel, while it is verified: each block is entered into a shadow
//! map and filled with a pattern that hangs on its address, up to its usable size; whoever frees it
//! compares that. A lock orders what touches the map; contents are written and compared outside it, so
//! that the hand-over alone orders them, as in a program.

use core::ffi::c_void;
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::watch::Watch;
use crate::replay::pattern::{fill, holds};
use crate::replay::serial::{Failure, Fault};
use crate::replay::shadow::{Refusal, Shadow};
use crate::subject::functions::Functions;

/// See the module text.
pub(super) struct Check<'a> {
    functions: Functions,
    state: Mutex<State>,
    /// Operations begun so far.
    progress: &'a AtomicU64,
}

struct State {
    shadow: Shadow,
    /// The first failure.
    failure: Option<Failure>,
}

impl<'a> Check<'a> {
    pub(super) fn new(functions: Functions, shadow: Shadow, progress: &'a AtomicU64) -> Self {
        Self {
            functions,
            state: Mutex::new(State {
                shadow,
                failure: None,
            }),
            progress,
        }
    }

    /// The first failure, if there was one.
    pub(super) fn verdict(self) -> Result<(), Failure> {
        let state = self.state.into_inner();
        let failure = state.unwrap_or_else(PoisonError::into_inner).failure;
        failure.map_or(Ok(()), Err)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the first failure.
    fn note(&self, operation: u64, found: Result<(), Fault>) {
        if let Err(fault) = found {
            self.state().failure.get_or_insert(Failure {
                operation: operation as usize,
                fault,
            });
        }
    }

    /// # Safety
    /// As for [`Watch::allocated`].
    unsafe fn enter(&self, block: *mut c_void, size: usize) -> Result<(), Fault> {
        let address = block.addr();
        // Malloc promises what any type of the block's size needs: 16 from 16 bytes on, 8 below.
        let promised = if size >= 16 { 16 } else { 8 };
        if !address.is_multiple_of(promised) {
            return Err(Fault::Misaligned);
        }
        if address >= 1 << 48 {
            return Err(Fault::Overlap);
        }
        // SAFETY: the allocator has just returned the block.
        let usable = unsafe { (self.functions.malloc_usable_size)(block) };
        if usable < size {
            return Err(Fault::UsableTooSmall);
        }
        if usable >= 1 << 48 {
            return Err(Fault::UsableOverlap);
        }
        // More blocks than the map covers: the contents are still compared.
        if self.state().shadow.insert(address, usable) == Err(Refusal::Overlap) {
            return Err(Fault::Overlap);
        }
        // SAFETY: nobody else's as far as known, and usable to that length.
        unsafe { fill(block, usable, address as u64) };
        Ok(())
    }

    /// # Safety
    /// As for [`Watch::releasing`].
    unsafe fn leave(&self, block: *mut c_void) -> Result<(), Fault> {
        let address = block.addr();
        // SAFETY: a live block of these functions.
        let usable = unsafe { (self.functions.malloc_usable_size)(block) };
        if usable >= 1 << 48 {
            return Err(Fault::UsableOverlap);
        }
        // SAFETY: usable to that length, and filled by `enter`, after which it was handed over.
        if !unsafe { holds(block, usable, address as u64, usable) } {
            return Err(Fault::ContentLost);
        }
        self.state().shadow.remove(address, usable);
        Ok(())
    }

    /// The number of an operation that begins; after a failure nothing is looked at any more.
    fn begin(&self) -> Option<u64> {
        let operation = self.progress.fetch_add(1, Relaxed);
        self.state().failure.is_none().then_some(operation)
    }
}

impl Watch for Check<'_> {
    unsafe fn allocated(&self, block: *mut c_void, size: usize) {
        if let Some(operation) = self.begin() {
            // SAFETY: the caller's promise.
            self.note(operation, unsafe { self.enter(block, size) });
        }
    }

    unsafe fn releasing(&self, block: *mut c_void) {
        if let Some(operation) = self.begin() {
            // SAFETY: the caller's promise.
            self.note(operation, unsafe { self.leave(block) });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Kernel;
    use super::*;

    const KERNELS: [Kernel; 3] = [
        Kernel::ProducerConsumer {
            blocks: 3_000,
            size: 64,
            ring: 16,
        },
        Kernel::CrossFree {
            exchanges: 2_000,
            slots: 31,
            smallest: 8,
            largest: 300,
            seed: 3,
        },
        Kernel::ThreadCreation {
            threads: 20,
            blocks: 30,
            size: 100,
        },
    ];

    fn c_library() -> Functions {
        Functions::resolved().expect("the C library has them all")
    }

    fn faulty(malloc: unsafe extern "C" fn(usize) -> *mut c_void) -> Functions {
        // Nothing is given back: blocks are given twice on purpose, or are not the C library's.
        unsafe extern "C" fn free(_block: *mut c_void) {}
        unsafe extern "C" fn usable(_block: *mut c_void) -> usize {
            512
        }
        Functions {
            malloc,
            free,
            malloc_usable_size: usable,
            ..c_library()
        }
    }

    unsafe extern "C" fn right(_size: usize) -> *mut c_void {
        // SAFETY: any size will do.
        unsafe { libc::malloc(512) }
    }

    unsafe extern "C" fn misaligning(_size: usize) -> *mut c_void {
        // SAFETY: any size will do; eight bytes in is still inside.
        unsafe { libc::malloc(1024).byte_add(4) }
    }

    /// One of two blocks overlaps the one of the call before.
    unsafe extern "C" fn overlapping(_size: usize) -> *mut c_void {
        static BEFORE: AtomicU64 = AtomicU64::new(0);
        let before = BEFORE.swap(0, Relaxed);
        if before != 0 {
            return (before as usize + 256) as *mut c_void;
        }
        // SAFETY: any size will do.
        let block = unsafe { libc::malloc(1024) };
        BEFORE.store(block as u64, Relaxed);
        block
    }

    /// Writes into the block of the call before, which may be another thread's by now.
    unsafe extern "C" fn scribbling(_size: usize) -> *mut c_void {
        static BEFORE: AtomicU64 = AtomicU64::new(0);
        // SAFETY: any size will do; blocks are never given back, so the one before is there still.
        unsafe {
            let block = libc::malloc(512);
            let before = BEFORE.swap(block as u64, Relaxed) as *mut u8;
            if !before.is_null() {
                before.add(3).write_volatile(0x5A);
            }
            block
        }
    }

    #[test]
    fn right_allocators_pass() {
        for kernel in KERNELS {
            for functions in [c_library(), faulty(right)] {
                let progress = AtomicU64::new(0);
                let done = kernel.verify(&functions, &progress);
                assert_eq!(done, Ok(kernel.operations()), "{kernel}");
                assert!(progress.into_inner() >= kernel.operations());
            }
        }
    }

    #[test]
    fn faults_are_found_with_their_kind() {
        for kernel in KERNELS {
            for (malloc, fault) in [
                (
                    misaligning as unsafe extern "C" fn(usize) -> _,
                    Fault::Misaligned,
                ),
                (overlapping, Fault::Overlap),
                (scribbling, Fault::ContentLost),
            ] {
                let found = kernel.verify(&faulty(malloc), &AtomicU64::new(0));
                assert_eq!(
                    found.map_err(|failure| failure.fault),
                    Err(fault),
                    "{kernel}"
                );
            }
        }
    }
}
