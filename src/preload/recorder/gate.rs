//! The slow way into an event: taken where a thread's state is closed or does not exist yet, where
//! events carry more than the fast way writes, and where a call comes in the middle of another.

use core::ptr;
use core::sync::atomic::{Ordering, fence};

use super::bootstrap;
use super::event::{self, Event};
use super::file::Header;
use super::life;
use super::process::{
    self, Inner, NOT_SET_UP, NUMBERED, Process, QUIET, RECORDING, STOPPED, SWITCH_REQUESTS,
    SWITCHED_OFF, close_gates,
};
use super::real;
use super::setup;
use super::sites;
use super::state::{self, ENDED_THREAD, IN_EVENT, SLOW_ONLY, State};
use super::switch;
use super::touched;
use super::wire::{self, CHUNK_HEADER_BYTES, UNIT_BYTES, header as at};

/// A call that is being recorded.
pub(crate) struct Call {
    state: &'static State,
    site: usize,
}

/// Begins to record a call that took the slow way; `site` is its return address. None: it is only
/// passed on.
///
/// The real functions must be known.
#[inline(never)]
pub(crate) fn enter(site: usize) -> Option<Call> {
    let process = process::process()?;
    if refuses(process) {
        return None;
    }
    let state = state::current();
    if state::is_ended(state) {
        return Some(Call { state, site });
    }
    let is_nested = state.busy.load(Ordering::Relaxed) & IN_EVENT != 0;
    if is_nested && real::is_internal(site) {
        return None;
    }
    let state = if is_nested || !state.is_open() {
        open(process, is_nested)?
    } else {
        state
    };
    state.begin();
    Some(Call { state, site })
}

/// Whether events are not written now, as far as can be told without the lock; the call is counted.
fn refuses(process: &Process) -> bool {
    let requests = SWITCH_REQUESTS.load(Ordering::SeqCst);
    match process.status.load(Ordering::Acquire) {
        QUIET => true,
        STOPPED => {
            process.count_unrecorded();
            true
        }
        SWITCHED_OFF if process.requests_seen.load(Ordering::SeqCst) == requests => {
            process.count_unrecorded();
            true
        }
        _ => false,
    }
}

impl Call {
    /// Writes an event of the call. False: it was not kept, and counted.
    pub(crate) fn record(&self, event: &Event) -> bool {
        if setup::options().touched {
            touched::see(event);
        }
        // SAFETY: `enter` marked the state as busy; an ended thread's is always closed.
        let is_written = unsafe { event::write(self.state, event, self.site) };
        is_written || record_closed(event, self.site)
    }

    /// The call is over.
    pub(crate) fn leave(self) {
        if !state::is_ended(self.state) {
            self.state.leave();
        }
    }
}

/// Writes an event for which the calling thread's state is closed. False: it was not kept, and counted.
#[cold]
#[inline(never)]
pub(crate) fn record_closed(event: &Event, site: usize) -> bool {
    let Some(process) = process::process() else {
        return false;
    };
    if refuses(process) {
        return false;
    }
    if state::is_ended(state::current()) {
        return record_late(process, event, site);
    }
    let Some(state) = open(process, false) else {
        return false;
    };
    // It may be another state than the caller's: that of a forked child.
    state.begin();
    // SAFETY: the state is this thread's and busy.
    let is_written = unsafe { event::write(state, event, site) };
    state.leave();
    // Closed again between the two: a signal that switches came in. It is as if it had come before.
    if !is_written {
        process.count_unrecorded();
    }
    is_written
}

/// The calling thread's state, made if need be and open. `is_nested`: its own is in the middle of an
/// event, and another one takes its place. None: events are not written now; the call was counted.
fn open(process: &'static Process, is_nested: bool) -> Option<&'static State> {
    let mut is_new = false;
    let state = process.locked(|inner| {
        if process.status.load(Ordering::Relaxed) == NOT_SET_UP {
            setup::set_up(process, inner);
        }
        let state = loop {
            let requests = SWITCH_REQUESTS.load(Ordering::SeqCst);
            let is_on = switch::is_on(requests);
            match process.status.load(Ordering::Relaxed) {
                RECORDING => {}
                SWITCHED_OFF if is_on => {}
                status => {
                    if status == SWITCHED_OFF {
                        process.requests_seen.store(requests, Ordering::SeqCst);
                    }
                    if status != QUIET {
                        process.count_unrecorded();
                    }
                    break None;
                }
            }
            let Some(state) = own_state(process, inner, is_nested, &mut is_new) else {
                process.count_unrecorded();
                break None;
            };
            if settle(process, state, requests, is_on) {
                // Other threads do not number events yet: this mark comes first.
                process.requests_seen.store(requests, Ordering::SeqCst);
                continue;
            }
            state.limit.store(state.chunk_limit(), Ordering::SeqCst);
            fence(Ordering::SeqCst);
            // A request that came before the state was open has closed only the others.
            if SWITCH_REQUESTS.load(Ordering::SeqCst) == requests {
                break Some(state);
            }
            state.limit.store(0, Ordering::SeqCst);
        };
        if let Some(state) = state
            && core::mem::take(&mut inner.tell_bootstrap)
        {
            for (address, size) in bootstrap::blocks() {
                if !mark_with(state, &Event::malloc(size, address)) {
                    process.count_unrecorded();
                }
            }
        }
        state
    })?;
    if is_new {
        // Outside the lock: the C library may allocate here, which is then an event like any other.
        life::expect_end_of_thread(state);
    }
    Some(state)
}

/// Brings the status to what the requests say, with a mark. True: something was done, and the state may
/// need room again.
fn settle(process: &Process, state: &State, requests: u32, is_on: bool) -> bool {
    let was_on = process.status.load(Ordering::Relaxed) == RECORDING;
    if was_on == is_on {
        process.requests_seen.store(requests, Ordering::SeqCst);
        return false;
    }
    // When switching off, nobody goes on once anybody's call was not recorded: a block that is freed
    // without a record must not be met anew.
    close_gates();
    mark_with(
        state,
        &Event::mark(wire::number(wire::TAG_SWITCH, u64::from(!is_on))),
    );
    let status = if is_on { RECORDING } else { SWITCHED_OFF };
    process.requests_seen.store(requests, Ordering::SeqCst);
    process.status.store(status, Ordering::SeqCst);
    true
}

/// Writes a mark, under the lock, if the state has room, though it be closed. False: it has none.
fn mark_with(state: &State, event: &Event) -> bool {
    let limit = state.limit.swap(state.chunk_limit(), Ordering::SeqCst);
    // SAFETY: the state is this thread's, whose signals are blocked; the caller's event has not begun to
    // write.
    let is_written = unsafe { event::write(state, event, 0) };
    state.limit.store(limit, Ordering::SeqCst);
    is_written
}

/// The calling thread's state with room in its chunk, under the lock. None: there is no memory, or no
/// room in the file; recording has stopped.
fn own_state(
    process: &Process,
    inner: &mut Inner,
    is_nested: bool,
    is_new: &mut bool,
) -> Option<&'static State> {
    let header = process.header()?;
    let current = state::current();
    let words = super::arch::thread_words();
    let has_own = state::is_own(current);
    // A second turn of the caller's loop finds the nested call's state in place.
    if has_own && !(is_nested && current.busy.load(Ordering::Relaxed) & IN_EVENT != 0) {
        reclaim_interrupted(inner, current);
        let cursor = current.cursor.load(Ordering::Relaxed);
        if cursor >= current.chunk_limit() && !next_chunk(process, inner, header, current) {
            return None;
        }
        return Some(current);
    }
    let Some(state) = inner.take_state() else {
        stop(process, header, at::STOPPED_IO, super::system::ENOMEM);
        return None;
    };
    let thread = if has_own {
        current.thread.load(Ordering::Relaxed)
    } else {
        inner.threads += 1;
        header.set(at::THREADS, u64::from(inner.threads));
        if inner.threads > 1 {
            event::expect_threads();
        }
        words.endings.store(0, Ordering::Relaxed);
        words.thread.store(inner.threads - 1, Ordering::Relaxed);
        *is_new = true;
        inner.threads - 1
    };
    let interrupted = if has_own {
        ptr::from_ref(current).cast_mut()
    } else {
        ptr::null_mut()
    };
    state.link.store(interrupted, Ordering::Relaxed);
    state.limit.store(0, Ordering::Relaxed);
    state.thread.store(thread, Ordering::Relaxed);
    state.is_used.store(1, Ordering::Relaxed);
    let busy = if setup::options().is_detailed() {
        SLOW_ONLY
    } else {
        0
    };
    state.busy.store(busy, Ordering::Relaxed);
    // Room for the first words and an event; otherwise the rest is left.
    let cursor = state.cursor.load(Ordering::Relaxed);
    if cursor == 0 || cursor + 16 >= state.chunk_limit() {
        if !next_chunk(process, inner, header, state) {
            state.is_used.store(0, Ordering::Relaxed);
            inner.give_back(state);
            return None;
        }
    } else {
        begin_chunk(state, cursor);
    }
    state::set_current(state);
    if !has_own && thread > 0 {
        mark_with(
            state,
            &Event::mark(wire::number(wire::TAG_THREAD_START, u64::from(thread))),
        );
    }
    Some(state)
}

/// A state that stood in for one in the middle of an event: once that event is over, its state is free
/// for others.
fn reclaim_interrupted(inner: &mut Inner, state: &State) {
    let interrupted = state.link.load(Ordering::Relaxed);
    if interrupted.is_null() {
        return;
    }
    // SAFETY: links lead to states of slabs.
    let interrupted: &'static State = unsafe { &*interrupted };
    if interrupted.busy.load(Ordering::Acquire) & IN_EVENT == 0 {
        state
            .link
            .store(interrupted.link.load(Ordering::Relaxed), Ordering::Relaxed);
        interrupted.is_used.store(0, Ordering::Relaxed);
        inner.give_back(interrupted);
    }
}

/// Chunks that a state has before it writes in windows: 16 and 64 KiB. Small threads take little, busy
/// ones seldom come here.
const GROWTH_MAX: u8 = 2;

/// Gives a state the next chunk. False: recording has stopped.
fn next_chunk(process: &Process, inner: &mut Inner, header: Header, state: &State) -> bool {
    let growth = state.growth.load(Ordering::Relaxed);
    let window = state.window.load(Ordering::Relaxed);
    let next = if growth < GROWTH_MAX {
        inner.file.chunk(header, UNIT_BYTES << (2 * growth))
    } else {
        inner
            .windows
            .next(&mut inner.file, header, window, inner.threads)
    };
    let next = match next {
        Ok(next) => next,
        Err(refusal) => {
            stop(process, header, refusal.reason, refusal.error);
            return false;
        }
    };
    let old = state.chunk.swap(next.chunk, Ordering::Relaxed);
    let old_bytes = state.chunk_bytes.swap(next.bytes, Ordering::Relaxed);
    state.window.store(next.window, Ordering::Relaxed);
    // Windows stay mapped: they come again.
    if !old.is_null() && window == 0 {
        // SAFETY: nobody else writes in it, and this thread's event has not begun to: one in the middle
        // of writing keeps its state to itself (`is_nested`).
        unsafe { super::system::unmap(old, old_bytes) };
    }
    state
        .growth
        .store(GROWTH_MAX.min(growth + 1), Ordering::Relaxed);
    begin_chunk(state, next.chunk as usize + CHUNK_HEADER_BYTES);
    true
}

/// The first words of a thread in a chunk.
fn begin_chunk(state: &State, cursor: usize) {
    let words = cursor as *mut u64;
    let number = NUMBERED.load(Ordering::SeqCst);
    let thread = u64::from(state.thread.load(Ordering::Relaxed));
    // SAFETY: the caller has seen to the room.
    unsafe {
        words.write(wire::number(wire::TAG_SEQUENCE, number));
        words.add(1).write(wire::number(wire::TAG_THREAD, thread));
    }
    state.cursor.store(cursor + 16, Ordering::Relaxed);
    // With several threads, the event's own number may be another: then it is told again.
    state.next.store(number, Ordering::Relaxed);
}

/// Ends recording, under the lock; the program goes on.
fn stop(process: &Process, header: Header, reason: u32, error: i32) {
    header.set_stopped(reason, error);
    process.status.store(STOPPED, Ordering::SeqCst);
    close_gates();
}

/// Writes an event of a thread whose end was marked, as other destructors still run: all such threads
/// share one state, under the lock.
fn record_late(process: &'static Process, event: &Event, site: usize) -> bool {
    if setup::options().sites && site != 0 {
        // It may take the lock, so not below.
        sites::meet(&ENDED_THREAD, site);
    }
    process.locked(|inner| {
        let is_recording = process.status.load(Ordering::Relaxed) == RECORDING
            && switch::is_on(SWITCH_REQUESTS.load(Ordering::SeqCst));
        let header = process.header();
        let (true, Some(header)) = (is_recording, header) else {
            process.count_unrecorded();
            return false;
        };
        if inner.late.is_null() {
            let Some(state) = inner.take_state() else {
                stop(process, header, at::STOPPED_IO, super::system::ENOMEM);
                process.count_unrecorded();
                return false;
            };
            state.is_used.store(1, Ordering::Relaxed);
            state.code_end.store(usize::MAX, Ordering::Relaxed);
            state.code_begin.store(0, Ordering::Relaxed);
            inner.late = ptr::from_ref(state).cast_mut();
        }
        // SAFETY: a state of a slab.
        let state: &'static State = unsafe { &*inner.late };
        let thread = super::arch::thread_words().thread.load(Ordering::Relaxed);
        state.thread.store(thread, Ordering::Relaxed);
        let cursor = state.cursor.load(Ordering::Relaxed);
        if cursor == 0 || cursor + 16 >= state.chunk_limit() {
            if !next_chunk(process, inner, header, state) {
                process.count_unrecorded();
                return false;
            }
        } else {
            begin_chunk(state, cursor);
        }
        state.limit.store(state.chunk_limit(), Ordering::Relaxed);
        // SAFETY: under the lock, with signals blocked, nobody else writes in this state.
        let is_written = unsafe { event::write(state, event, site) };
        state.limit.store(0, Ordering::Relaxed);
        is_written
    })
}

/// Marks the end of the calling thread; what it still calls goes to `record_late`.
pub(crate) fn end_thread() {
    let Some(process) = process::process() else {
        return;
    };
    let state = state::current();
    if !state::is_own(state) {
        return;
    }
    let thread = u64::from(state.thread.load(Ordering::Relaxed));
    if process.status.load(Ordering::Relaxed) == RECORDING {
        // Not a call: if it cannot be written, nothing is lost.
        if let Some(call) = enter(0) {
            call.record(&Event::mark(wire::number(wire::TAG_THREAD_END, thread)));
            call.leave();
        }
    }
    let state = state::current();
    process.locked(|inner| {
        state::set_current(&ENDED_THREAD);
        reclaim_interrupted(inner, state);
        state.is_used.store(0, Ordering::Relaxed);
        inner.give_back(state);
    });
}
