//! The simplest lock that is correct here: a word that threads sleep on by futex. Unlike
//! `std::sync::Mutex` it needs no std, and it can be taken before a `fork` and released after it.
//!
//! No spinning, no fairness, no poisoning: what one lock around an allocator costs is part of what
//! the page list is there to show.

use core::cell::UnsafeCell;
use core::ops::{Deref, DerefMut};
use core::sync::atomic::{
    AtomicU32,
    Ordering::{Acquire, Relaxed, Release},
};

use super::os;

const OPEN: u32 = 0;
const TAKEN: u32 = 1;
/// Taken, and somebody may be asleep: whoever opens it must wake one.
const TAKEN_WITH_SLEEPERS: u32 = 2;

/// Looks of [`Lock::lock_spinning`] before it sleeps: about a microsecond.
const SPINS: u32 = 60;

/// A value that one thread at a time may use.
pub(super) struct Lock<T> {
    state: AtomicU32,
    value: UnsafeCell<T>,
}

// SAFETY: the value is reached through a `Guard` only, and `state` lets one exist at a time.
unsafe impl<T: Send> Sync for Lock<T> {}

impl<T> Lock<T> {
    /// An open lock around `value`.
    pub(super) const fn new(value: T) -> Self {
        Self {
            state: AtomicU32::new(OPEN),
            value: UnsafeCell::new(value),
        }
    }

    /// Waits until the lock is open and takes it. Not reentrant.
    #[inline]
    pub(super) fn lock(&self) -> Guard<'_, T> {
        self.acquire();
        Guard { lock: self }
    }

    /// Like [`lock`](Self::lock), but looks for a while whether the lock opens before it sleeps: for
    /// what is held for less than a system call takes.
    #[inline]
    pub(super) fn lock_spinning(&self) -> Guard<'_, T> {
        for _ in 0..SPINS {
            if self.state.load(Relaxed) == OPEN
                // Acquire pairs with the Release in `release`.
                && self
                    .state
                    .compare_exchange_weak(OPEN, TAKEN, Acquire, Relaxed)
                    .is_ok()
            {
                return Guard { lock: self };
            }
            core::hint::spin_loop();
        }
        self.lock()
    }

    /// The value without locking: nobody else can have it.
    pub(super) fn get_mut(&mut self) -> &mut T {
        self.value.get_mut()
    }

    /// Takes the lock without a guard, for the time of a `fork`.
    #[inline]
    pub(super) fn acquire(&self) {
        // Acquire pairs with the Release in `release`.
        if self
            .state
            .compare_exchange(OPEN, TAKEN, Acquire, Relaxed)
            .is_err()
        {
            self.acquire_slowly();
        }
    }

    #[cold]
    fn acquire_slowly(&self) {
        // Taking it marks it as slept on even if nobody sleeps: one needless wake-up at most, and
        // no sleeper is ever forgotten. Acquire pairs with the Release in `release`.
        while self.state.swap(TAKEN_WITH_SLEEPERS, Acquire) != OPEN {
            os::futex_wait(&self.state, TAKEN_WITH_SLEEPERS);
        }
    }

    /// The value of a lock that is held without a guard.
    ///
    /// # Safety
    /// The calling thread has [`acquire`](Self::acquire)d the lock and keeps it as long as it uses the
    /// value.
    pub(super) unsafe fn held(&self) -> &T {
        // SAFETY: the caller says so.
        unsafe { &*self.value.get() }
    }

    /// Opens the lock.
    ///
    /// # Safety
    /// The calling thread took it (in a forked child: the thread that called `fork` took it), and
    /// uses the value no more.
    #[inline]
    pub(super) unsafe fn release(&self) {
        // Release pairs with the Acquire of whoever takes it next.
        if self.state.swap(OPEN, Release) == TAKEN_WITH_SLEEPERS {
            os::futex_wake_one(&self.state);
        }
    }
}

/// The right to use the value, until dropped.
pub(super) struct Guard<'a, T> {
    lock: &'a Lock<T>,
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        // SAFETY: this guard's thread holds the lock.
        unsafe { &*self.lock.value.get() }
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this guard's thread holds the lock, and the guard is borrowed exclusively.
        unsafe { &mut *self.lock.value.get() }
    }
}

impl<T> Drop for Guard<'_, T> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: `lock` took it when it made this guard, and the guard is going.
        unsafe { self.lock.release() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn increments_of_several_threads_are_all_counted() {
        static COUNT: Lock<u64> = Lock::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50_000 {
                        *COUNT.lock() += 1;
                    }
                });
            }
        });
        assert_eq!(*COUNT.lock(), 200_000);
    }

    #[test]
    fn a_sleeper_is_woken() {
        static LOCK: Lock<()> = Lock::new(());
        let guard = LOCK.lock();
        let waiter = std::thread::spawn(|| drop(LOCK.lock()));
        // The waiter marks the word before it sleeps; from then on only a wake-up ends its wait.
        while LOCK.state.load(Relaxed) != TAKEN_WITH_SLEEPERS {
            assert!(!waiter.is_finished(), "the lock is held");
            std::thread::yield_now();
        }
        drop(guard);
        waiter.join().expect("the waiter gets the lock");
        assert_eq!(LOCK.state.load(Relaxed), OPEN);
    }
}
