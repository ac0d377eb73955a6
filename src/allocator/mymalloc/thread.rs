//! The calling thread's heap: where it is found, made and given up.
//!
//! On x86-64 the thread-local words are written in assembly, for the model that stable Rust offers no
//! other way in a shared object: "initial exec", two loads and no call. Other targets take std's.

use core::ffi::{c_uint, c_void};
use core::ptr::{self, NonNull};
use core::sync::atomic::{
    AtomicBool, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};

use super::super::lock::Lock;
use super::super::os;
use super::heap::{Heap, NO_HEAP};
use super::{fork, metadata, options, pages, secure, tick};

#[cfg(all(target_arch = "x86_64", not(feature = "portable")))]
mod word {
    use super::{Heap, NO_HEAP};

    // Two words of static thread-local storage, which a library loaded late may have, too: the heap, and how many
    // blocks the thread has freed without one. The heap's first value is that of those who have none, so nobody need
    // test for null.
    core::arch::global_asm!(
        ".pushsection .tdata.mymalloc_heap,\"awT\",@progbits",
        ".p2align 3",
        ".globl mymalloc_thread_heap",
        ".hidden mymalloc_thread_heap",
        ".type mymalloc_thread_heap,@object",
        ".size mymalloc_thread_heap,16",
        "mymalloc_thread_heap:",
        ".quad {no_heap}",
        ".quad 0",
        ".popsection",
        no_heap = sym NO_HEAP,
    );

    #[inline(always)]
    pub(super) fn get() -> *mut Heap {
        let heap: *mut Heap;
        // SAFETY: reads the calling thread's own word.
        unsafe {
            core::arch::asm!(
                "mov {heap}, qword ptr [rip + mymalloc_thread_heap@GOTTPOFF]",
                "mov {heap}, qword ptr fs:[{heap}]",
                heap = out(reg) heap,
                options(pure, readonly, nostack, preserves_flags),
            );
        }
        heap
    }

    pub(super) fn set(heap: *mut Heap) {
        // SAFETY: writes the calling thread's own word.
        unsafe {
            core::arch::asm!(
                "mov {place}, qword ptr [rip + mymalloc_thread_heap@GOTTPOFF]",
                "mov qword ptr fs:[{place}], {heap}",
                place = out(reg) _,
                heap = in(reg) heap,
                options(nostack, preserves_flags),
            );
        }
    }

    pub(super) fn frees() -> usize {
        let frees: usize;
        // SAFETY: reads the calling thread's own second word.
        unsafe {
            core::arch::asm!(
                "mov {frees}, qword ptr [rip + mymalloc_thread_heap@GOTTPOFF]",
                "mov {frees}, qword ptr fs:[{frees} + 8]",
                frees = out(reg) frees,
                options(readonly, nostack, preserves_flags),
            );
        }
        frees
    }

    pub(super) fn set_frees(frees: usize) {
        // SAFETY: writes the calling thread's own second word.
        unsafe {
            core::arch::asm!(
                "mov {place}, qword ptr [rip + mymalloc_thread_heap@GOTTPOFF]",
                "mov qword ptr fs:[{place} + 8], {frees}",
                place = out(reg) _,
                frees = in(reg) frees,
                options(nostack, preserves_flags),
            );
        }
    }
}

#[cfg(any(not(target_arch = "x86_64"), feature = "portable"))]
mod word {
    use core::cell::Cell;

    use super::{Heap, NO_HEAP};

    std::thread_local! {
        // No destructor and a constant: std needs no memory for it.
        static HEAP: Cell<*mut Heap> = const { Cell::new((&raw const NO_HEAP).cast_mut().cast()) };
        static FREES: Cell<usize> = const { Cell::new(0) };
    }

    #[inline(always)]
    pub(super) fn get() -> *mut Heap {
        HEAP.get()
    }

    pub(super) fn set(heap: *mut Heap) {
        HEAP.set(heap);
    }

    pub(super) fn frees() -> usize {
        FREES.get()
    }

    pub(super) fn set_frees(frees: usize) {
        FREES.set(frees);
    }
}

/// The calling thread's heap, or [`NO_HEAP`].
#[inline(always)]
pub(super) fn heap() -> *mut Heap {
    word::get()
}

/// What the process knows once it has started to allocate.
struct Process {
    /// Runs [`leave`] when a thread ends.
    key: Option<c_uint>,
    /// Heaps whose threads have ended, without a block.
    idle: *mut Heap,
    /// The same, each with the few blocks that its thread had, and how many those heaps are. The last to be left is the
    /// first.
    left: *mut Heap,
    left_count: usize,
    heaps: usize,
}

/// Heaps that may keep blocks. Threads that come and go do so one or a few at a time.
const LEFT_MAX: usize = 4;

// SAFETY: heaps without a thread belong to whoever has the lock.
unsafe impl Send for Process {}

static PROCESS: Lock<Process> = Lock::new(Process {
    key: None,
    idle: ptr::null_mut(),
    left: ptr::null_mut(),
    left_count: 0,
    heaps: 0,
});

impl Process {
    /// A heap with the blocks that its last thread left in it.
    fn take_left(&mut self) -> Option<NonNull<Heap>> {
        let heap = NonNull::new(self.left)?;
        // SAFETY: an idle heap, which the lock guards.
        self.left = unsafe { heap.as_ref().next };
        self.left_count -= 1;
        Some(heap)
    }

    /// Takes a heap with the blocks that are in it. False: there are enough of these.
    ///
    /// # Safety
    /// The caller's heap, which has no thread.
    unsafe fn keep_left(&mut self, heap: *mut Heap) -> bool {
        if self.left_count == LEFT_MAX {
            return false;
        }
        // SAFETY: the caller hands it over.
        unsafe { (*heap).next = self.left };
        self.left = heap;
        self.left_count += 1;
        true
    }
}

/// Has the blocks go home that ended threads left in their heaps.
pub(super) fn settle() {
    // More may be left meanwhile.
    for _ in 0..LEFT_MAX {
        let Some(heap) = PROCESS.lock().take_left() else {
            return;
        };
        // SAFETY: ours since it was taken.
        unsafe { retire(heap.as_ptr()) };
    }
}

/// Gives all blocks of a heap away, and keeps it for a thread to come.
///
/// # Safety
/// The caller's heap, which has no thread.
unsafe fn retire(heap: *mut Heap) {
    // SAFETY: the caller says so; the lock guards idle heaps.
    unsafe {
        (*heap).give_all();
        let mut process = PROCESS.lock();
        (*heap).next = process.idle;
        process.idle = heap;
    }
}

/// Whether there ever were two heaps.
static HAS_THREADS: AtomicBool = AtomicBool::new(false);

/// Whether there ever were two threads with a heap.
pub(super) fn has_threads() -> bool {
    HAS_THREADS.load(Relaxed)
}

/// Heaps that threads have now.
static IN_USE: AtomicUsize = AtomicUsize::new(0);

/// How many threads have a heap.
pub(super) fn count_in_use() -> usize {
    IN_USE.load(Relaxed)
}

/// Whether [`make_process_ready`] has nothing to do.
static IS_READY: AtomicBool = AtomicBool::new(false);

/// Makes everything ready that the process needs once. Large blocks may come first, before any thread has
/// a heap.
#[inline]
pub(super) fn make_process_ready() {
    // Acquire pairs with the Release in `prepare`.
    if !IS_READY.load(Acquire) {
        prepare();
    }
}

#[cold]
fn prepare() {
    let mut process = PROCESS.lock();
    if IS_READY.load(Relaxed) {
        return;
    }
    options::read();
    if options::is_secure() {
        secure::seed();
    }
    pages::reserve_window();
    process.key = os::thread_key(leave);
    // Release pairs with the Acquire in `make_process_ready`.
    IS_READY.store(true, Release);
    drop(process);
    // These may allocate.
    fork::watch();
    options::at_start();
}

/// Gives the calling thread a heap. None: no memory.
pub(super) fn enter() -> Option<NonNull<Heap>> {
    make_process_ready();
    // `make_process_ready` may have allocated, by way of the C library.
    if !ptr::addr_eq(heap(), &raw const NO_HEAP) {
        return NonNull::new(heap());
    }
    let mut process = PROCESS.lock();
    let is_first = process.heaps == 0;
    let heap = if let Some(mut heap) = process.take_left() {
        // SAFETY: nobody else has this heap.
        unsafe { heap.as_mut() }.begin();
        heap
    } else {
        let heap = match NonNull::new(process.idle) {
            Some(heap) => {
                // SAFETY: an idle heap, which the lock guards.
                process.idle = unsafe { heap.as_ref().next };
                heap
            }
            None => {
                let heap = metadata::allocate::<Heap>()?;
                process.heaps += 1;
                if process.heaps > 1 {
                    HAS_THREADS.store(true, Relaxed);
                }
                heap
            }
        };
        // SAFETY: nobody else has this memory.
        unsafe { Heap::initialize(heap, is_first) };
        heap
    };
    IN_USE.fetch_add(1, Relaxed);
    let key = process.key;
    drop(process);
    // The word first: what follows may allocate.
    word::set(heap.as_ptr());
    if let Some(key) = key {
        // Without memory for it the thread's blocks, and those that were left to it, stay with its heap when it ends: a
        // leak, no fault.
        os::set_thread_key(key, heap.as_ptr().cast());
    }
    Some(heap)
}

/// Blocks that a thread may free before it gets a heap for that: to send as many home takes about as long as to make one,
/// and many threads free a few blocks of others' and end.
const FREES_WITHOUT_HEAP: usize = 32;
/// A thread without a heap looks at the clock as often.
const FREES_BETWEEN_LOOKS: usize = 8;

/// The heap of a thread that has none and frees a block. None: the block goes home, since few were freed so far or
/// there is no memory.
pub(super) fn enter_to_free() -> Option<NonNull<Heap>> {
    let frees = word::frees();
    if frees == FREES_WITHOUT_HEAP {
        return enter();
    }
    word::set_frees(frees + 1);
    // What many such threads free one after the other goes back to the system, too.
    if frees.is_multiple_of(FREES_BETWEEN_LOOKS) {
        tick::work_if_due();
    }
    None
}

/// Gives the blocks away that lie in the calling thread's magazines.
pub(super) fn give_all() {
    if !ptr::addr_eq(heap(), &raw const NO_HEAP) {
        // SAFETY: the calling thread's heap, which nobody else uses, and no path that does is on the way.
        unsafe { (*heap()).give_all() };
    }
}

/// Runs when a thread with a heap ends. Destructors that run later may allocate and get a heap again.
unsafe extern "C" fn leave(heap: *mut c_void) {
    let heap = heap.cast::<Heap>();
    word::set((&raw const NO_HEAP).cast_mut().cast());
    // For destructors that run later: a few blocks are no reason for another heap.
    word::set_frees(0);
    // SAFETY: the heap of the thread that is ending, which nobody else uses.
    unsafe {
        (*heap).give_most();
        (*heap).leave();
        IN_USE.fetch_sub(1, Relaxed);
        // (Guarded blocks come in random order, and those of a thread in the order in which it freed them.)
        let is_kept = !options::is_secure() && PROCESS.lock().keep_left(heap);
        if !is_kept {
            retire(heap);
        }
    }
    // Short threads that find what they need in such a heap turn to no slow path.
    tick::work_if_due();
}

/// Heaps made so far, with or without a thread.
pub(super) fn count_heaps() -> usize {
    PROCESS.lock().heaps
}

/// Around `fork`.
pub(super) fn acquire() {
    PROCESS.acquire();
}

/// # Safety
/// After [`acquire`], as for `Lock::release`.
pub(super) unsafe fn release() {
    // SAFETY: the caller says so.
    unsafe { PROCESS.release() }
}
