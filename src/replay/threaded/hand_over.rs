//! How one thread waits for another: a counter per producing thread, on a cache line of its own.
//!
//! The producer counts up at those operations only that somebody waits for. A consumer that comes
//! late finds the count reached with one load; otherwise it looks a few more times, then parks.
//!
//! Count and smallest count waited for share one word of 64 bits, so that no wake-up can be lost:
//! a consumer enters what it waits for by a compare-and-exchange, which fails if the producer has
//! counted meanwhile, and parks only if the count is still the one it saw (the futex compares it
//! under the kernel's lock). The producer takes the entry out by the same exchange that counts up,
//! and wakes if what was waited for is reached. So a parked consumer is always entered: its entry
//! is taken out only by a count that reaches it, and that count wakes it. Consumers that wait for
//! more are woken with it, and enter themselves again.
//!
//! `loom` goes through the interleavings of this in the tests.

use core::sync::atomic::{AtomicU64, Ordering};

/// Entry of a word for which nobody waits.
const NOBODY: u32 = u32::MAX;
/// Count of a thread whose replay has been given up. Not reached by counting: a trace has fewer
/// operations.
const GIVEN_UP: u32 = u32::MAX;

/// Looks before a consumer parks. Two processors share a cache line within some hundred
/// nanoseconds; who is not served by then waits for a thread that works or is not running.
pub(super) const SPINS: u32 = 100;

/// The replay was given up by some thread: the operation waited for may never have been performed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct GivenUp;

/// A word that threads wait on: the real one, or `loom`'s.
pub(super) trait Word64 {
    fn load(&self, order: Ordering) -> u64;
    fn compare_exchange(
        &self,
        old: u64,
        new: u64,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u64, u64>;
    fn swap(&self, new: u64, order: Ordering) -> u64;
    /// Sleeps unless the count is another than `count`; may return for no reason.
    fn park(&self, count: u32);
    /// Wakes all that sleep.
    fn wake(&self);
}

fn join(count: u32, wanted: u32) -> u64 {
    u64::from(count) | u64::from(wanted) << 32
}

fn count_of(word: u64) -> u32 {
    word as u32
}

fn wanted_of(word: u64) -> u32 {
    (word >> 32) as u32
}

/// How far a thread has come. Alone on its cache lines, the neighbour that processors prefetch
/// included.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(super) struct Progress<W> {
    word: W,
}

impl<W: Word64> Progress<W> {
    #[cfg(test)]
    fn new(word: W) -> Self {
        Self { word }
    }

    /// Back to the beginning; no other thread may use it meanwhile.
    pub(super) fn reset(&self) {
        self.word.swap(join(0, NOBODY), Ordering::Relaxed);
    }

    /// Producer: counts up by one. What it did before is seen by whoever waited for the new count.
    /// Returns whether it must [`Progress::wake`] now.
    #[inline]
    pub(super) fn count_up(&self) -> Result<bool, GivenUp> {
        let mut old = self.word.load(Ordering::Relaxed);
        loop {
            if count_of(old) == GIVEN_UP {
                return Err(GivenUp);
            }
            let count = count_of(old) + 1;
            let reached = wanted_of(old) <= count;
            let wanted = if reached { NOBODY } else { wanted_of(old) };
            // Release: pairs with the acquire of the consumer that reads this count or a later one;
            // consumers' exchanges in between continue the release sequence.
            let exchanged = self.word.compare_exchange(
                old,
                join(count, wanted),
                Ordering::Release,
                Ordering::Relaxed,
            );
            match exchanged {
                Ok(_) => return Ok(reached),
                // A consumer has entered itself.
                Err(now) => old = now,
            }
        }
    }

    /// Wakes all that have parked.
    pub(super) fn wake(&self) {
        self.word.wake();
    }

    /// Counts up, and wakes if it must.
    #[cfg(test)]
    fn advance(&self) -> Result<(), GivenUp> {
        if self.count_up()? {
            self.wake();
        }
        Ok(())
    }

    /// Whether the producer has come so far.
    #[inline(always)]
    pub(super) fn has_reached(&self, count: u32) -> Result<bool, GivenUp> {
        // Acquire: pairs with the producer's release.
        let now = count_of(self.word.load(Ordering::Acquire));
        if now == GIVEN_UP {
            return Err(GivenUp);
        }
        Ok(now >= count)
    }

    /// Consumer: returns when the producer has come so far, after `spins` looks in the cache of
    /// others by parking.
    pub(super) fn wait(&self, count: u32, spins: u32) -> Result<(), GivenUp> {
        for _ in 0..spins {
            if self.has_reached(count)? {
                return Ok(());
            }
            core::hint::spin_loop();
        }
        let mut seen = self.word.load(Ordering::Acquire);
        loop {
            if count_of(seen) == GIVEN_UP {
                return Err(GivenUp);
            }
            if count_of(seen) >= count {
                return Ok(());
            }
            if wanted_of(seen) > count {
                let entered = self.word.compare_exchange(
                    seen,
                    join(count_of(seen), count),
                    // Nothing is published by it; the read must not be weaker than the load.
                    Ordering::Acquire,
                    Ordering::Acquire,
                );
                if let Err(now) = entered {
                    seen = now;
                    continue;
                }
            }
            self.word.park(count_of(seen));
            seen = self.word.load(Ordering::Acquire);
        }
    }

    /// Ends all waiting for this thread, now and later.
    pub(super) fn give_up(&self) {
        self.word.swap(join(GIVEN_UP, NOBODY), Ordering::Release);
        self.word.wake();
    }
}

/// The real word: threads sleep in the kernel, on the half that holds the count.
#[derive(Debug, Default)]
pub(super) struct Futex(AtomicU64);

impl Futex {
    fn count_address(&self) -> *mut u32 {
        let offset = if cfg!(target_endian = "little") { 0 } else { 1 };
        self.0.as_ptr().cast::<u32>().wrapping_add(offset)
    }
}

impl Word64 for Futex {
    #[inline(always)]
    fn load(&self, order: Ordering) -> u64 {
        self.0.load(order)
    }

    fn compare_exchange(
        &self,
        old: u64,
        new: u64,
        success: Ordering,
        failure: Ordering,
    ) -> Result<u64, u64> {
        self.0.compare_exchange(old, new, success, failure)
    }

    fn swap(&self, new: u64, order: Ordering) -> u64 {
        self.0.swap(new, order)
    }

    fn park(&self, count: u32) {
        // SAFETY: the address is that of a half of a live word, aligned to four bytes; the kernel
        // reads it. No time limit. An error means that the count has changed, or a signal came: the
        // caller looks again in any case.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                self.count_address(),
                libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG,
                count,
                core::ptr::null::<libc::timespec>(),
            );
        }
    }

    fn wake(&self) {
        // SAFETY: the kernel takes the address as a key only.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                self.count_address(),
                libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
                i32::MAX,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use loom::cell::UnsafeCell;
    use loom::sync::atomic::AtomicU64 as ModelledU64;
    use loom::sync::{Arc, Condvar, Mutex};

    use super::*;

    /// A futex as the kernel promises it: comparing and going to sleep are one step with regard to
    /// waking.
    struct Modelled {
        word: ModelledU64,
        kernel: Mutex<()>,
        sleepers: Condvar,
    }

    impl Modelled {
        fn progress() -> Progress<Self> {
            Progress::new(Self {
                word: ModelledU64::new(join(0, NOBODY)),
                kernel: Mutex::new(()),
                sleepers: Condvar::new(),
            })
        }
    }

    impl Word64 for Modelled {
        fn load(&self, order: Ordering) -> u64 {
            self.word.load(order)
        }

        fn compare_exchange(
            &self,
            old: u64,
            new: u64,
            success: Ordering,
            failure: Ordering,
        ) -> Result<u64, u64> {
            self.word.compare_exchange(old, new, success, failure)
        }

        fn swap(&self, new: u64, order: Ordering) -> u64 {
            self.word.swap(new, order)
        }

        fn park(&self, count: u32) {
            let lock = self.kernel.lock().expect("nobody panics");
            if count_of(self.word.load(Ordering::Relaxed)) == count {
                drop(self.sleepers.wait(lock).expect("nobody panics"));
            }
        }

        fn wake(&self) {
            let _lock = self.kernel.lock().expect("nobody panics");
            self.sleepers.notify_all();
        }
    }

    /// What is handed over, one cell per count. `loom` fails if a read is not ordered after the write.
    struct Shared {
        progress: Progress<Modelled>,
        blocks: [UnsafeCell<u32>; 2],
    }

    // SAFETY: `loom` itself checks the accesses to the cells.
    unsafe impl Sync for Shared {}
    // SAFETY: as above.
    unsafe impl Send for Shared {}

    fn shared() -> Arc<Shared> {
        Arc::new(Shared {
            progress: Modelled::progress(),
            blocks: [UnsafeCell::new(0), UnsafeCell::new(0)],
        })
    }

    fn produce(shared: &Shared) {
        for (index, block) in shared.blocks.iter().enumerate() {
            // SAFETY: nobody reads before the count says so: that is what `loom` checks.
            block.with_mut(|block| unsafe { *block = index as u32 + 1 });
            shared.progress.advance().expect("nobody gives up");
        }
    }

    fn consume(shared: &Shared, count: u32) {
        shared.progress.wait(count, 0).expect("nobody gives up");
        // SAFETY: written before the count that was waited for.
        let block = shared.blocks[count as usize - 1].with(|block| unsafe { *block });
        assert_eq!(block, count);
    }

    /// All interleavings with up to so many preemptions of a running thread, and all values that the
    /// memory model lets a load return. What `loom`'s authors found: errors need two or three.
    fn check(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
        let mut builder = loom::model::Builder::new();
        builder.preemption_bound = Some(preemptions);
        builder.check(model);
    }

    #[test]
    fn no_interleaving_loses_a_wake_up_or_a_write() {
        check(2, || {
            let shared = shared();
            let consumers: Vec<_> = [2, 1]
                .into_iter()
                .map(|count| {
                    let shared = Arc::clone(&shared);
                    loom::thread::spawn(move || consume(&shared, count))
                })
                .collect();
            produce(&shared);
            for consumer in consumers {
                consumer.join().expect("it found its block");
            }
        });
    }

    #[test]
    fn a_consumer_may_wait_for_one_count_after_the_other() {
        check(3, || {
            let shared = shared();
            let consumer = {
                let shared = Arc::clone(&shared);
                loom::thread::spawn(move || {
                    consume(&shared, 1);
                    consume(&shared, 2);
                })
            };
            produce(&shared);
            consumer.join().expect("it found its blocks");
        });
    }

    #[test]
    fn giving_up_ends_all_waiting() {
        check(2, || {
            let shared = shared();
            let consumer = {
                let shared = Arc::clone(&shared);
                loom::thread::spawn(move || shared.progress.wait(2, 0))
            };
            let producer = {
                let shared = Arc::clone(&shared);
                loom::thread::spawn(move || shared.progress.advance())
            };
            shared.progress.give_up();
            assert_eq!(consumer.join().expect("it ends"), Err(GivenUp));
            // Before or after; the count of a thread that was given up stays what it is.
            let _ = producer.join().expect("it ends");
            assert_eq!(shared.progress.advance(), Err(GivenUp));
        });
    }

    #[test]
    fn real_threads_hand_over_many_times() {
        let progress: [Progress<Futex>; 2] = Default::default();
        progress.iter().for_each(Progress::reset);
        std::thread::scope(|scope| {
            for side in 0..2 {
                let progress = &progress;
                scope.spawn(move || {
                    for count in 1..=20_000 {
                        if side == 0 {
                            progress[0].advance().expect("nobody gives up");
                            progress[1].wait(count, SPINS).expect("nobody gives up");
                        } else {
                            progress[0].wait(count, SPINS).expect("nobody gives up");
                            progress[1].advance().expect("nobody gives up");
                        }
                    }
                });
            }
        });
        assert_eq!(progress[1].has_reached(20_000), Ok(true));
        assert_eq!(progress[1].has_reached(20_001), Ok(false));
    }
}
