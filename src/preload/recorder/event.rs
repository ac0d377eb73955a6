//! An event, and how it becomes words.

use core::sync::atomic::{AtomicPtr, AtomicU8, Ordering};

use super::arch;
use super::process::NUMBERED;
use super::real;
use super::setup;
use super::sites;
use super::state::State;
use super::wire::{self, Kind};

/// A call, or a mark.
#[derive(Clone, Copy)]
pub(crate) struct Event {
    kind: Kind,
    /// Not a call but this word.
    mark: u64,
    alignment_log2: u8,
    address: u64,
    size: u64,
    count: u64,
}

/// What an event is to the block that it names.
pub(crate) enum Occasion {
    /// It begins: allocated.
    Begin { address: usize, bytes: usize },
    /// It ends: freed.
    End { address: usize },
    /// Neither, or part of a reallocation.
    Other,
}

impl Event {
    const fn call(kind: Kind, address: usize, size: usize) -> Self {
        Self {
            kind,
            mark: 0,
            alignment_log2: 0,
            address: address as u64,
            size: size as u64,
            count: 0,
        }
    }

    pub(crate) const fn malloc(size: usize, address: usize) -> Self {
        Self::call(Kind::Malloc, address, size)
    }

    pub(crate) const fn calloc(count: usize, size: usize, address: usize) -> Self {
        let mut event = Self::call(Kind::Calloc, address, size);
        event.count = count as u64;
        event
    }

    pub(crate) const fn free(address: usize) -> Self {
        Self::call(Kind::Free, address, 0)
    }

    pub(crate) const fn free_sized(address: usize, size: usize) -> Self {
        let mut event = Self::call(Kind::Free, address, size);
        event.count = 1;
        event
    }

    pub(crate) const fn realloc_begin(address: usize) -> Self {
        Self::call(Kind::ReallocBegin, address, 0)
    }

    pub(crate) const fn realloc_end(size: usize, address: usize) -> Self {
        Self::call(Kind::ReallocEnd, address, size)
    }

    pub(crate) const fn aligned(kind: Kind, alignment: usize, size: usize, address: usize) -> Self {
        let mut event = Self::call(kind, address, size);
        // glibc's memalign rounds up what is no power of two.
        if let Some(alignment) = alignment.checked_next_power_of_two() {
            event.alignment_log2 = alignment.ilog2() as u8;
        }
        event
    }

    /// A mark: a word whose tag is none of a call.
    pub(crate) const fn mark(word: u64) -> Self {
        let mut event = Self::call(Kind::Malloc, 0, 0);
        event.mark = word;
        event
    }

    /// What it is to the block that it names.
    pub(crate) fn occasion(&self) -> Occasion {
        let address = self.address as usize;
        match self.kind {
            _ if self.mark != 0 => Occasion::Other,
            Kind::ReallocBegin | Kind::ReallocEnd => Occasion::Other,
            Kind::Free => Occasion::End { address },
            Kind::Calloc => Occasion::Begin {
                address,
                bytes: (self.count as usize).saturating_mul(self.size as usize),
            },
            _ => Occasion::Begin {
                address,
                bytes: self.size as usize,
            },
        }
    }

    /// The event's words, and how many.
    fn encode(&self) -> ([u64; 4], usize) {
        if self.mark != 0 {
            return ([self.mark, 0, 0, 0], 1);
        }
        let (address, size) = (self.address, self.size);
        let tag = match self.kind {
            Kind::Malloc => wire::TAG_MALLOC,
            Kind::Calloc => {
                if wire::is_small(self.count, address) {
                    let word = wire::small(wire::TAG_CALLOC, self.count, address);
                    return ([word, size, 0, 0], 2);
                }
                0
            }
            Kind::Free if self.count == 0 => wire::TAG_FREE,
            Kind::Free => wire::TAG_FREE_SIZED,
            Kind::ReallocBegin => wire::TAG_REALLOC_BEGIN,
            Kind::ReallocEnd => wire::TAG_REALLOC_END,
            _ => 0,
        };
        if tag != 0 && wire::is_small(size, address) {
            return ([wire::small(tag, size, address), 0, 0, 0], 1);
        }
        let first = wire::general(self.kind, self.alignment_log2);
        ([first, address, size, self.count], 4)
    }
}

static ZERO: u8 = 0;
/// Points at a byte that is not 0 while the process has one thread: the C library's own, which it
/// clears before it makes a second one, also those that it makes for itself. At a zero if numbers must
/// be taken atomically.
pub(crate) static SINGLE_THREADED: AtomicPtr<u8> = AtomicPtr::new((&raw const ZERO).cast_mut());

/// Whether no other thread numbers events.
#[inline(always)]
pub(crate) fn is_single_threaded() -> bool {
    if !arch::PLAIN_NUMBERS {
        return false;
    }
    let byte = SINGLE_THREADED.load(Ordering::Relaxed);
    // SAFETY: points at `ZERO` or at the C library's variable; both are always there.
    unsafe { AtomicU8::from_ptr(byte) }.load(Ordering::Relaxed) != 0
}

/// The process has one thread, as far as the recorder knows: the C library is asked from now on.
pub(crate) fn ask_for_single_thread() {
    let byte = real::default(c"__libc_single_threaded").cast::<u8>();
    if !byte.is_null() {
        SINGLE_THREADED.store(byte, Ordering::Relaxed);
    }
}

/// A second thread was met: numbers are taken atomically from now on, even if it ends.
pub(crate) fn expect_threads() {
    SINGLE_THREADED.store((&raw const ZERO).cast_mut(), Ordering::Relaxed);
}

/// The next event's number. A signal handler that comes in before or after it takes another one, and
/// the words of the two events tell which: nothing is assumed of the order in which they are written.
#[inline(always)]
fn take_number() -> u64 {
    if is_single_threaded() {
        // SAFETY: no other thread.
        unsafe { arch::take(NUMBERED.as_ptr()) }
    } else {
        NUMBERED.fetch_add(1, Ordering::SeqCst)
    }
}

/// Writes a call of one word. False: not written, as the state is closed.
///
/// # Safety
/// The state is the caller's and marked busy; the word is not zero.
#[inline(always)]
pub(crate) unsafe fn write_word(state: &State, word: u64) -> bool {
    let cursor = state.cursor.load(Ordering::Relaxed);
    if cursor >= state.limit.load(Ordering::Relaxed) {
        return false;
    }
    let place = cursor as *mut u64;
    let number = take_number();
    let is_next = number == state.next.load(Ordering::Relaxed);
    state.next.store(number + 1, Ordering::Relaxed);
    // SAFETY: the limit leaves room for more than these two.
    unsafe {
        if is_next {
            place.write(word);
            state.cursor.store(cursor + 8, Ordering::Relaxed);
        } else {
            place.write(wire::number(wire::TAG_SEQUENCE, number));
            place.add(1).write(word);
            state.cursor.store(cursor + 16, Ordering::Relaxed);
        }
    }
    true
}

/// Writes any event. False: not written, as the state is closed.
///
/// # Safety
/// As for [`write_word`].
pub(crate) unsafe fn write(state: &State, event: &Event, site: usize) -> bool {
    if !state.is_open() {
        return false;
    }
    let mut place = state.cursor.load(Ordering::Relaxed) as *mut u64;
    // SAFETY: at most seven words are written, and an open state has room for eight.
    let mut put = |word: u64| unsafe {
        place.write(word);
        place = place.add(1);
    };
    let number = take_number();
    if number != state.next.load(Ordering::Relaxed) {
        put(wire::number(wire::TAG_SEQUENCE, number));
    }
    state.next.store(number + 1, Ordering::Relaxed);
    let options = setup::options();
    if options.times {
        put(wire::number(wire::TAG_TIME, setup::now_ns()));
    }
    if options.sites && site != 0 {
        sites::meet(state, site);
        put(wire::number(wire::TAG_SITE, site as u64));
    }
    let (words, count) = event.encode();
    for (index, &word) in words[..count].iter().enumerate().skip(1) {
        // SAFETY: as above.
        unsafe { place.add(index).write(word) };
    }
    // The first word last, so that it is never read without the others. Release: after them.
    // SAFETY: as above; words are aligned.
    unsafe { core::sync::atomic::AtomicU64::from_ptr(place) }.store(words[0], Ordering::Release);
    // SAFETY: as above.
    let end = unsafe { place.add(count) };
    state.cursor.store(end as usize, Ordering::Relaxed);
    true
}
