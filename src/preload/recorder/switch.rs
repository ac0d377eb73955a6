//! Switching by signal. The handler notes the request and closes every state; the next event of any
//! thread then takes the slow way, where the request is settled under the lock (`gate`).

use core::ffi::c_int;
use core::mem;
use core::ptr;
use core::sync::atomic::Ordering;

use super::process::{SWITCH_REQUESTS, close_gates};
use super::setup;

/// The C library's `struct sigaction`.
#[repr(C)]
struct SigAction {
    handler: usize,
    mask: [u64; 16],
    flags: c_int,
    restorer: usize,
}

unsafe extern "C" {
    fn sigaction(signal: c_int, action: *const SigAction, old: *mut SigAction) -> c_int;
}

extern "C" fn on_signal(_: c_int) {
    SWITCH_REQUESTS.fetch_add(1, Ordering::SeqCst);
    close_gates();
}

/// Has the signal switch. Calls that it interrupts go on. A program that installs a handler of its own
/// for the same signal cannot be switched any more.
pub(crate) fn install(signal: c_int) {
    const SA_RESTART: c_int = 0x1000_0000;
    const SA_ONSTACK: c_int = 0x0800_0000;
    let handler: extern "C" fn(c_int) = on_signal;
    let action = SigAction {
        handler: handler as usize,
        mask: [0; 16],
        flags: SA_RESTART | SA_ONSTACK,
        restorer: 0,
    };
    // SAFETY: a whole struct; the handler does what is allowed in one.
    unsafe { sigaction(signal, &raw const action, ptr::null_mut()) };
}

/// Whether so many requests leave recording switched on.
pub(crate) fn is_on(requests: u32) -> bool {
    setup::options().signal == 0 || requests % 2 == 1
}

const _: () = assert!(mem::offset_of!(SigAction, flags) == 136);
