//! What one process shares: the lock of the slow way, the status, the list of states. It lies in
//! memory that a forked child finds zeroed, so that no lock word is stuck in the child and its status
//! is "not set up".
//!
//! What stays valid in a child (the real functions, the options, the slabs' addresses) stands in plain
//! statics.

use core::cell::UnsafeCell;
use core::mem::size_of;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use super::file::WireFile;
use super::state::State;
use super::system;
use super::windows::Windows;

/// Nobody has called yet, or the process was forked since.
pub(crate) const NOT_SET_UP: u32 = 0;
/// Events are written.
pub(crate) const RECORDING: u32 = 1;
/// Switched off for now: calls are counted.
pub(crate) const SWITCHED_OFF: u32 = 2;
/// No more events will be written: calls are counted.
pub(crate) const STOPPED: u32 = 3;
/// This process is not to be recorded.
pub(crate) const QUIET: u32 = 4;

/// The process's shared words. All zero is its state before it is set up.
#[repr(C)]
pub(crate) struct Process {
    lock: AtomicU32,
    /// One of the constants above.
    pub(crate) status: AtomicU32,
    /// [`SWITCH_REQUESTS`] that `status` stands for.
    pub(crate) requests_seen: AtomicU32,
    /// The file's header; null if there is none.
    pub(crate) header: AtomicPtr<u8>,
    /// Executable mappings noted, and copies taken (see `sites`).
    pub(crate) mappings: AtomicU32,
    /// Copies of the mappings taken.
    pub(crate) copies: AtomicU32,
    inner: UnsafeCell<Inner>,
}

// SAFETY: `inner` is touched under the lock only.
unsafe impl Sync for Process {}

/// What only the holder of the lock touches.
#[repr(C)]
pub(crate) struct Inner {
    /// The file that is written.
    pub(crate) file: WireFile,
    /// Its windows.
    pub(crate) windows: Windows,
    /// States of ended threads.
    free: *mut State,
    /// States of the slabs that were handed out at least once.
    handed_out: usize,
    /// The state in which ended threads write.
    pub(crate) late: *mut State,
    /// Threads met.
    pub(crate) threads: u32,
    /// Blocks from before the C library could be asked still have to be told.
    pub(crate) tell_bootstrap: bool,
}

const SLAB_BYTES: usize = 64 * 1024;
/// The first slab begins with the process's words.
const PROCESS_BYTES: usize = 2048;
const STATES_PER_SLAB: usize = (SLAB_BYTES - PROCESS_BYTES) / size_of::<State>();
const SLABS: usize = 1024;
const _: () = assert!(size_of::<Process>() <= PROCESS_BYTES);
const _: () = assert!(PROCESS_BYTES.is_multiple_of(align_of::<State>()));

static SLAB: [AtomicPtr<u8>; SLABS] = [const { AtomicPtr::new(ptr::null_mut()) }; SLABS];
static SLAB_COUNT: AtomicUsize = AtomicUsize::new(0);

/// Whether a forked child finds the slabs zeroed by the system. If not, `life` does it.
pub(crate) static IS_WIPED: AtomicBool = AtomicBool::new(true);

/// Events numbered so far: the next event's number.
pub(crate) static NUMBERED: AtomicU64 = AtomicU64::new(0);

/// Switching signals received by this process and, before it was forked, by its parent.
pub(crate) static SWITCH_REQUESTS: AtomicU32 = AtomicU32::new(0);

/// Makes the shared words. False: the system has no memory.
pub(crate) fn make() -> bool {
    new_slab()
}

/// The shared words; None before they were made.
#[inline]
pub(crate) fn process() -> Option<&'static Process> {
    let slab = SLAB[0].load(Ordering::Acquire);
    if slab.is_null() {
        return None;
    }
    // SAFETY: a slab is zeroed memory or what this module wrote there, aligned to an OS page, and
    // never unmapped; all zero is valid.
    Some(unsafe { &*slab.cast::<Process>() })
}

fn new_slab() -> bool {
    let count = SLAB_COUNT.load(Ordering::Relaxed);
    if count == SLABS {
        return false;
    }
    let Ok((slab, is_wiped)) = system::map_wiped_on_fork(SLAB_BYTES) else {
        return false;
    };
    if !is_wiped {
        IS_WIPED.store(false, Ordering::Relaxed);
    }
    SLAB[count].store(slab, Ordering::Release);
    SLAB_COUNT.store(count + 1, Ordering::Release);
    true
}

/// Every state of every slab.
fn states() -> impl Iterator<Item = &'static State> {
    let slabs = SLAB_COUNT.load(Ordering::Acquire);
    (0..slabs * STATES_PER_SLAB).map(state_at)
}

fn state_at(index: usize) -> &'static State {
    let slab = SLAB[index / STATES_PER_SLAB].load(Ordering::Acquire);
    let offset = PROCESS_BYTES + index % STATES_PER_SLAB * size_of::<State>();
    // SAFETY: the callers' indices lie within the slabs that were made; zeroed memory is a valid
    // state, all of whose fields are atomic.
    unsafe { &*slab.add(offset).cast::<State>() }
}

/// Closes every state: whoever wants to write an event next takes the slow way. Safe in a signal
/// handler.
pub(crate) fn close_gates() {
    for state in states() {
        state.limit.store(0, Ordering::SeqCst);
    }
    core::sync::atomic::fence(Ordering::SeqCst);
}

/// Zeroes all shared memory, in the child of a fork, where the system does not.
pub(crate) fn wipe() {
    for slab in &SLAB[..SLAB_COUNT.load(Ordering::Relaxed)] {
        // SAFETY: the child's only thread is in its fork handler and holds no reference; all zero is
        // valid for everything in a slab.
        unsafe { ptr::write_bytes(slab.load(Ordering::Relaxed), 0, SLAB_BYTES) };
    }
}

impl Process {
    /// Runs `action` with the lock held and all signals blocked.
    pub(crate) fn locked<T>(&self, action: impl FnOnce(&mut Inner) -> T) -> T {
        let signals = system::block_signals();
        self.acquire();
        // SAFETY: the lock is held, and no signal handler can come in on this thread.
        let result = action(unsafe { &mut *self.inner.get() });
        self.release();
        system::restore_signals(signals);
        result
    }

    fn acquire(&self) {
        const FREE: u32 = 0;
        const HELD: u32 = 1;
        const WAITED_FOR: u32 = 2;
        let taken = self
            .lock
            .compare_exchange(FREE, HELD, Ordering::Acquire, Ordering::Relaxed);
        if taken.is_err() {
            while self.lock.swap(WAITED_FOR, Ordering::Acquire) != FREE {
                system::futex_wait(&self.lock, WAITED_FOR);
            }
        }
    }

    fn release(&self) {
        if self.lock.swap(0, Ordering::Release) == 2 {
            system::futex_wake_one(&self.lock);
        }
    }

    /// Counts a call that is not recorded.
    pub(crate) fn count_unrecorded(&self) {
        if let Some(header) = self.header() {
            header.add_unrecorded();
        }
    }

    /// The header of the file, if there is one.
    pub(crate) fn header(&self) -> Option<super::file::Header> {
        super::file::Header::of(self.header.load(Ordering::Acquire))
    }
}

impl Inner {
    /// A state that nobody uses: an ended thread's with what is left of its chunk, or a new one.
    pub(crate) fn take_state(&mut self) -> Option<&'static State> {
        if !self.free.is_null() {
            // SAFETY: the list holds states of slabs.
            let state = unsafe { &*self.free };
            self.free = state.link.swap(ptr::null_mut(), Ordering::Relaxed);
            return Some(state);
        }
        if self.handed_out == SLAB_COUNT.load(Ordering::Relaxed) * STATES_PER_SLAB && !new_slab() {
            return None;
        }
        let state = state_at(self.handed_out);
        self.handed_out += 1;
        Some(state)
    }

    /// Takes a state back, with its chunk.
    pub(crate) fn give_back(&mut self, state: &'static State) {
        state.limit.store(0, Ordering::Relaxed);
        state.busy.store(0, Ordering::Relaxed);
        state.link.store(self.free, Ordering::Relaxed);
        self.free = ptr::from_ref(state).cast_mut();
    }
}
