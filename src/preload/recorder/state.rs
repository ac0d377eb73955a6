//! What a thread needs to write an event: where its next word goes, and up to where it may.
//!
//! States lie in memory that a forked child finds zeroed, so a child's first event meets a closed
//! state and takes the slow way (`gate`), which sees that the process is a new one. They are never
//! given back to the system: a state of an ended thread, with what is left of its chunk, serves the
//! next one.

use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use super::arch;

/// Bit of `busy`: the thread is in an event: between the entry of a wrapped function and the end of
/// its record. What then comes in on the same thread is a signal handler, or the allocator calling
/// itself.
pub(crate) const IN_EVENT: u8 = 1;
/// Bit of `busy`: this state never takes the fast way.
pub(crate) const SLOW_ONLY: u8 = 0x80;

/// One thread's place in the file.
///
/// Invariant: words are written at `cursor` only while `cursor < limit` and only by the thread whose
/// words point here, with [`IN_EVENT`] set; at least [`ROOM_WORDS`] fit then.
/// Invariant: `limit` is 0 (closed) or `end` less that room. Any thread may close it at any time, its
/// owner alone opens it, in `gate`.
#[repr(C, align(128))]
pub(crate) struct State {
    /// Where the next word goes.
    pub(crate) cursor: AtomicUsize,
    /// Words may be written below this; 0 while closed.
    pub(crate) limit: AtomicUsize,
    /// The number that the next event has if it is one more than the last one's in this chunk.
    pub(crate) next: AtomicU64,
    /// [`IN_EVENT`], [`SLOW_ONLY`].
    pub(crate) busy: AtomicU8,
    /// Handed out, and not wiped by a fork since.
    pub(crate) is_used: AtomicU8,
    /// Chunks taken, at most 2: each is larger than the one before.
    pub(crate) growth: AtomicU8,
    /// Which of the windows the chunk is, counted from 1; 0: none.
    pub(crate) window: AtomicU8,
    /// Number of the thread in the file.
    pub(crate) thread: AtomicU32,
    /// The chunk's mapping; null while there is none.
    pub(crate) chunk: AtomicPtr<u8>,
    /// Bytes of it.
    pub(crate) chunk_bytes: AtomicUsize,
    /// The next free state; or the state that this one stands in for (see `gate::interrupted`).
    pub(crate) link: AtomicPtr<State>,
    /// The mapping of code that the last call came from, with call sites.
    pub(crate) code_begin: AtomicUsize,
    /// Its end.
    pub(crate) code_end: AtomicUsize,
}

/// Words that fit at any cursor below the limit: the most that one event takes is seven.
pub(crate) const ROOM_WORDS: usize = 8;

impl State {
    const fn closed() -> Self {
        Self {
            cursor: AtomicUsize::new(0),
            limit: AtomicUsize::new(0),
            next: AtomicU64::new(0),
            busy: AtomicU8::new(SLOW_ONLY),
            is_used: AtomicU8::new(0),
            growth: AtomicU8::new(0),
            window: AtomicU8::new(0),
            thread: AtomicU32::new(0),
            chunk: AtomicPtr::new(ptr::null_mut()),
            chunk_bytes: AtomicUsize::new(0),
            link: AtomicPtr::new(ptr::null_mut()),
            code_begin: AtomicUsize::new(0),
            code_end: AtomicUsize::new(0),
        }
    }

    /// End of the words that may begin an event.
    pub(crate) fn chunk_limit(&self) -> usize {
        let chunk = self.chunk.load(Ordering::Relaxed) as usize;
        if chunk == 0 {
            return 0;
        }
        chunk + self.chunk_bytes.load(Ordering::Relaxed) - ROOM_WORDS * 8 + 8
    }

    /// Whether an event may be written.
    #[inline(always)]
    pub(crate) fn is_open(&self) -> bool {
        self.cursor.load(Ordering::Relaxed) < self.limit.load(Ordering::Relaxed)
    }

    /// Marks the event as over.
    #[inline(always)]
    pub(crate) fn leave(&self) {
        let busy = self.busy.load(Ordering::Relaxed) & SLOW_ONLY;
        // Release: after the event's words, for a signal handler of this thread.
        self.busy.store(busy, Ordering::Release);
    }

    /// [`leave`](Self::leave) where the fast way was taken. [`SLOW_ONLY`] is kept here, too: in a forked
    /// child the first event meets the parent's state, wiped, which may be opened anew meanwhile.
    #[inline(always)]
    pub(crate) fn leave_fast(&self) {
        self.leave();
    }

    /// Marks that an event begins.
    pub(crate) fn begin(&self) {
        let busy = self.busy.load(Ordering::Relaxed) | IN_EVENT;
        self.busy.store(busy, Ordering::Relaxed);
        core::sync::atomic::compiler_fence(Ordering::SeqCst);
    }
}

/// Where the words of a thread that has called nothing yet point. Never written.
pub(crate) static NEW_THREAD: State = State::closed();
/// Where they point after the thread's end was marked. Always closed, never busy.
pub(crate) static ENDED_THREAD: State = State::closed();

/// What each thread has of its own.
#[repr(C)]
pub(crate) struct ThreadWords {
    /// Its state.
    pub(crate) state: AtomicPtr<State>,
    /// Its number, for after its end.
    pub(crate) thread: AtomicU32,
    /// Calls of the destructor so far.
    pub(crate) endings: AtomicU32,
}

/// The calling thread's state.
pub(crate) fn current() -> &'static State {
    // SAFETY: the word points at one of the two statics or at a state of a slab, which is never
    // unmapped.
    unsafe { &*arch::thread_words().state.load(Ordering::Relaxed) }
}

/// Makes a state the calling thread's.
pub(crate) fn set_current(state: &'static State) {
    let state = ptr::from_ref(state).cast_mut();
    arch::thread_words().state.store(state, Ordering::Relaxed);
}

/// Whether the thread has a state of its own in this process.
pub(crate) fn is_own(state: &State) -> bool {
    state.is_used.load(Ordering::Relaxed) != 0
}

/// Whether the thread's end was marked.
pub(crate) fn is_ended(state: &State) -> bool {
    ptr::eq(state, &ENDED_THREAD)
}
