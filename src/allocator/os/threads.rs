//! A thread of the allocator's own, for whoever asks for one.

use core::ffi::{c_int, c_void};
use core::mem::MaybeUninit;
use core::ptr;

use super::{Timespec, keeping_errno};

type Run = unsafe extern "C" fn(*mut c_void) -> *mut c_void;

/// Room for C's `pthread_attr_t` and `sigset_t`, whose sizes differ between targets.
#[repr(C, align(16))]
struct Opaque([MaybeUninit<u8>; 128]);

impl Opaque {
    const fn new() -> Self {
        Self([MaybeUninit::uninit(); 128])
    }
}

const PTHREAD_CREATE_DETACHED: c_int = 1;
const SIG_SETMASK: c_int = 2;
/// What the smallest thread needs, and some room.
const STACK_BYTES: usize = 128 << 10;

// The C library, as in `os`.
unsafe extern "C" {
    fn pthread_attr_init(attributes: *mut Opaque) -> c_int;
    fn pthread_attr_setdetachstate(attributes: *mut Opaque, state: c_int) -> c_int;
    fn pthread_attr_setstacksize(attributes: *mut Opaque, bytes: usize) -> c_int;
    fn pthread_attr_destroy(attributes: *mut Opaque) -> c_int;
    fn pthread_create(
        thread: *mut usize,
        attributes: *const Opaque,
        run: Run,
        argument: *mut c_void,
    ) -> c_int;
    fn sigfillset(signals: *mut Opaque) -> c_int;
    fn pthread_sigmask(how: c_int, signals: *const Opaque, before: *mut Opaque) -> c_int;
    fn nanosleep(time: *const Timespec, left: *mut Timespec) -> c_int;
}

/// Starts a thread that nobody waits for and that no signal goes to. May itself allocate. False: the
/// system refused.
pub(in super::super) fn start_thread(run: Run) -> bool {
    let mut attributes = Opaque::new();
    let (mut all, mut before) = (Opaque::new(), Opaque::new());
    let mut thread = 0;
    // SAFETY: each structure has room and is initialised before it is read; the function stays as long
    // as this object, which the linker is told never to unload. A new thread takes over the mask of the
    // one that starts it, so all signals are blocked for that time.
    keeping_errno(|| unsafe {
        if pthread_attr_init(&raw mut attributes) != 0 {
            return false;
        }
        pthread_attr_setdetachstate(&raw mut attributes, PTHREAD_CREATE_DETACHED);
        pthread_attr_setstacksize(&raw mut attributes, STACK_BYTES);
        sigfillset(&raw mut all);
        pthread_sigmask(SIG_SETMASK, &raw const all, &raw mut before);
        let result = pthread_create(&raw mut thread, &raw const attributes, run, ptr::null_mut());
        pthread_sigmask(SIG_SETMASK, &raw const before, ptr::null_mut());
        pthread_attr_destroy(&raw mut attributes);
        result == 0
    })
}

/// Calls a function without arguments, if the C library has it.
#[cfg(all(target_arch = "x86_64", not(feature = "portable")))]
macro_rules! call_weak {
    ($name:literal) => {{
        let function: *const ();
        core::arch::asm!(
            concat!(".weak ", $name),
            concat!("mov {}, qword ptr [rip + ", $name, "@GOTPCREL]"),
            out(reg) function,
            options(pure, readonly, nostack, preserves_flags),
        );
        if !function.is_null() {
            core::mem::transmute::<*const (), unsafe extern "C" fn()>(function)();
        }
    }};
}

/// Whether the process certainly has no other thread than the calling one, as glibc tells it from version
/// 2.32 on. False: nobody knows.
#[cfg(all(target_arch = "x86_64", not(feature = "portable")))]
pub(in super::super) fn is_single_threaded() -> bool {
    let flag: *const u8;
    // SAFETY: reads the address, null where the C library has no such variable, then the variable.
    unsafe {
        core::arch::asm!(
            // Weak: other C libraries do without.
            ".weak __libc_single_threaded",
            "mov {flag}, qword ptr [rip + __libc_single_threaded@GOTPCREL]",
            flag = out(reg) flag,
            options(pure, readonly, nostack, preserves_flags),
        );
        !flag.is_null() && flag.read_volatile() != 0
    }
}

/// Elsewhere nobody knows.
#[cfg(any(not(target_arch = "x86_64"), feature = "portable"))]
pub(in super::super) fn is_single_threaded() -> bool {
    false
}

/// Takes glibc's lock of all its streams, as its `fork` will; a thread may take it twice.
#[cfg(all(target_arch = "x86_64", not(feature = "portable")))]
pub(in super::super) fn lock_streams() {
    // SAFETY: the function takes nothing and gives nothing back; null where the C library has none.
    unsafe { call_weak!("_IO_list_lock") }
}

/// Opens it again.
#[cfg(all(target_arch = "x86_64", not(feature = "portable")))]
pub(in super::super) fn unlock_streams() {
    // SAFETY: as in `lock_streams`.
    unsafe { call_weak!("_IO_list_unlock") }
}

#[cfg(any(not(target_arch = "x86_64"), feature = "portable"))]
pub(in super::super) fn lock_streams() {}
#[cfg(any(not(target_arch = "x86_64"), feature = "portable"))]
pub(in super::super) fn unlock_streams() {}

/// Sleeps for about so long.
pub(in super::super) fn sleep_ms(time_ms: u32) {
    let time = Timespec {
        seconds: i64::from(time_ms / 1000),
        nanoseconds: i64::from(time_ms % 1000) * 1_000_000,
    };
    // Woken early is as good.
    // SAFETY: reads a local variable.
    unsafe { nanosleep(&raw const time, ptr::null_mut()) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opaque_structures_have_room() {
        assert!(size_of::<libc::pthread_attr_t>() <= size_of::<Opaque>());
        assert!(size_of::<libc::sigset_t>() <= size_of::<Opaque>());
        assert_eq!(size_of::<libc::pthread_t>(), size_of::<usize>());
        assert_eq!(PTHREAD_CREATE_DETACHED, libc::PTHREAD_CREATE_DETACHED);
        assert_eq!(SIG_SETMASK, libc::SIG_SETMASK);
        const { assert!(STACK_BYTES >= libc::PTHREAD_STACK_MIN) }
    }

    #[test]
    #[cfg(all(target_arch = "x86_64", target_env = "gnu", not(feature = "portable")))]
    fn a_test_beside_its_harness_is_not_alone() {
        assert!(!is_single_threaded());
    }

    #[test]
    fn a_thread_runs_with_all_signals_blocked() {
        use std::sync::atomic::{AtomicU32, Ordering};

        static SEEN: AtomicU32 = AtomicU32::new(0);

        unsafe extern "C" fn run(_: *mut c_void) -> *mut c_void {
            let mut mask = MaybeUninit::<libc::sigset_t>::uninit();
            // SAFETY: asks for this thread's mask.
            let is_blocked = unsafe {
                libc::pthread_sigmask(libc::SIG_SETMASK, ptr::null(), mask.as_mut_ptr());
                libc::sigismember(mask.as_ptr(), libc::SIGTERM) == 1
            };
            SEEN.store(if is_blocked { 1 } else { 2 }, Ordering::Release);
            ptr::null_mut()
        }

        assert!(start_thread(run));
        while SEEN.load(Ordering::Acquire) == 0 {
            sleep_ms(1);
        }
        assert_eq!(SEEN.load(Ordering::Acquire), 1);
    }
}
