//! Counts the instructions of a piece of work, by letting the processor trap after each of them. Needs
//! no hardware counter, no other program and no privilege; costs about a microsecond per instruction.

use std::cell::UnsafeCell;
use std::sync::Mutex;

/// Instructions so far; touched by the signal handler and by the thread that it interrupts only.
struct Counter(UnsafeCell<u64>);

// SAFETY: `count` holds the lock while the counter is in use, and only its thread traps.
unsafe impl Sync for Counter {}

static COUNTER: Counter = Counter(UnsafeCell::new(0));
static IN_USE: Mutex<()> = Mutex::new(());

extern "C" fn trapped(_signal: libc::c_int) {
    // SAFETY: this handler runs on the thread that `count` runs on, between two of its instructions;
    // that thread reads the counter only when it no longer traps.
    unsafe { *COUNTER.0.get() += 1 };
}

/// Instructions in user mode that `work` performs on this thread, the call of it included. `None` on
/// processors for which this is not written, and where the handler cannot be installed.
pub fn count(work: impl FnOnce()) -> Option<u64> {
    if !cfg!(target_arch = "x86_64") {
        return None;
    }
    let _lock = IN_USE
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    // SAFETY: a zeroed sigaction is valid, and its handler is async-signal-safe: it adds to a number.
    let old = unsafe {
        let mut action: libc::sigaction = core::mem::zeroed();
        action.sa_sigaction = trapped as *const () as usize;
        action.sa_flags = libc::SA_RESTART;
        let mut old: libc::sigaction = core::mem::zeroed();
        if libc::sigaction(libc::SIGTRAP, &raw const action, &raw mut old) != 0 {
            return None;
        }
        old
    };
    // SAFETY: nobody else uses the counter: the lock is held, and no instruction traps yet.
    unsafe { *COUNTER.0.get() = 0 };
    trap_after_each_instruction(true);
    work();
    trap_after_each_instruction(false);
    // SAFETY: as above; `old` is what was installed before.
    unsafe {
        libc::sigaction(libc::SIGTRAP, &raw const old, core::ptr::null_mut());
        Some(COUNTER.0.get().read_volatile())
    }
}

/// Sets or clears the trap flag of this thread.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn trap_after_each_instruction(yes: bool) {
    // SAFETY: changes one flag, which traps into the handler that `count` installed, or stops that;
    // the stack is as before.
    unsafe {
        if yes {
            core::arch::asm!("pushfq", "or qword ptr [rsp], 0x100", "popfq");
        } else {
            core::arch::asm!("pushfq", "and qword ptr [rsp], 0xfffffffffffffeff", "popfq");
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
fn trap_after_each_instruction(_yes: bool) {}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use super::*;
    use crate::subject::slowed::{INSTRUCTIONS_PER_ITERATION, fast_loop, slow_loop};

    #[test]
    fn loops_have_the_instructions_they_say() {
        for work in [fast_loop, slow_loop] {
            let of = |iterations| count(|| work(iterations)).expect("x86-64");
            assert_eq!(of(1100) - of(100), 1000 * INSTRUCTIONS_PER_ITERATION);
        }
    }
}
