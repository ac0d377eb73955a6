//! What happens from time to time, without a thread of its own: threads that leave their magazines
//! look at the clock, and one of them does the work that is due. A part of it is also due whenever more of
//! the store is in use, or held, than was lately: memory that nobody needs is to be used before more is.

use core::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::super::os;
use super::{chunk, large, options, shelf, thread};

/// Time between two rounds of work.
const ROUND_MS: u32 = 100;
/// A thread gives away what it did not need for so long.
pub(super) const THREAD_MS: u32 = 500;

/// When the last round was. 0: nobody has looked at the clock yet, as in programs that allocate little, and
/// need not touch its code.
static LAST_MS: AtomicU32 = AtomicU32::new(0);

/// How often the store has grown by a part of what was in use. Programs that do in a few milliseconds what
/// others do in seconds are not told from them by the clock.
static GROWTHS: AtomicU32 = AtomicU32::new(0);
/// The count when batches last went back for it.
static ANSWERED: AtomicU32 = AtomicU32::new(0);

/// Says that the store has grown.
pub(super) fn count_growth() {
    GROWTHS.fetch_add(1, Relaxed);
}

/// How often it has.
pub(super) fn growths() -> u32 {
    GROWTHS.load(Relaxed)
}

/// Has all batches on offer go back, so that the slices they pin serve others: one thread per growth.
pub(super) fn answer_growth() {
    let (answered, growths) = (ANSWERED.load(Relaxed), growths());
    let is_due = answered != growths;
    if is_due
        && ANSWERED
            .compare_exchange(answered, growths, Relaxed, Relaxed)
            .is_ok()
    {
        shelf::settle(true);
    }
}

/// The time when somebody last looked at the clock and found work due, or looked for the first time. 0: nobody
/// has.
pub(super) fn last_ms() -> u32 {
    LAST_MS.load(Relaxed)
}

/// The same for the age of what is idle from now on: if nobody has looked yet, this does.
pub(super) fn recent_ms() -> u32 {
    match last_ms() {
        0 => os::now_ms(),
        last_ms => last_ms,
    }
}

/// The time, if a round of work is due: to one thread per round. The first is due a while after the first look.
pub(super) fn now_if_due() -> Option<u32> {
    let (last_ms, now_ms) = (last_ms(), os::now_ms());
    if last_ms == 0 {
        // Whoever comes second has the later time, which must not go back.
        let _ = LAST_MS.compare_exchange(0, now_ms, Relaxed, Relaxed);
        return None;
    }
    if now_ms.wrapping_sub(last_ms) < ROUND_MS {
        return None;
    }
    LAST_MS
        .compare_exchange(last_ms, now_ms, Relaxed, Relaxed)
        .is_ok()
        .then_some(now_ms)
}

/// Gives everything back to the store that lies in the calling thread's magazines, or on offer, because there is no
/// memory.
///
/// Not while a part of the thread's heap is borrowed.
#[cold]
pub(super) fn give_all_idle() {
    thread::give_all();
    shelf::settle(true);
    // The addresses of idle memory may be what records lack.
    large::trim();
}

/// Gives all that is idle back to the system now, but for what lies in the magazines of other threads.
/// Bytes that went back.
pub(super) fn trim() -> usize {
    thread::give_all();
    // Trays that were taken since the last time are idle the second time.
    shelf::settle(false);
    shelf::settle(false);
    let before = idle_bytes();
    chunk::purge(os::now_ms(), 0);
    large::trim();
    before.saturating_sub(idle_bytes())
}

/// Free memory that has not gone back to the system yet.
fn idle_bytes() -> usize {
    large::bytes().2 + chunk::count().1
}

/// A round of work, if one is due: for those who do not turn to a heap's slow paths, as large blocks and threads without a
/// heap.
pub(super) fn work_if_due() {
    if let Some(now_ms) = now_if_due() {
        work(now_ms);
    }
}

/// A round: batches that nobody needed go back to their slices, and memory that has been idle for long
/// enough to the system.
pub(super) fn work(now_ms: u32) {
    shelf::settle(false);
    if let Some(delay_ms) = options::purge_delay_ms() {
        chunk::purge(now_ms, delay_ms);
        large::purge(now_ms, delay_ms);
    }
}
