//! Beginning and end: of the process, of its threads.

use core::ffi::{c_int, c_uint, c_void};
use core::ptr;
use core::sync::atomic::{AtomicU32, Ordering};

use super::arch;
use super::gate;
use super::process::{self, IS_WIPED};
use super::real;
use super::setup;
use super::sites;
use super::state::State;
use super::system;
use super::touched;
use super::wire::header as at;

type Destructor = Option<unsafe extern "C" fn(*mut c_void)>;
type ForkHandler = Option<unsafe extern "C" fn()>;

#[link(name = "pthread")]
unsafe extern "C" {
    fn pthread_key_create(key: *mut c_uint, destructor: Destructor) -> c_int;
    fn pthread_setspecific(key: c_uint, value: *const c_void) -> c_int;
    fn __register_atfork(
        prepare: ForkHandler,
        parent: ForkHandler,
        child: ForkHandler,
        object: *mut c_void,
    ) -> c_int;
}

const NO_KEY: u32 = u32::MAX;
static KEY: AtomicU32 = AtomicU32::new(NO_KEY);
/// Rounds of destructors that the C library makes (PTHREAD_DESTRUCTOR_ITERATIONS).
const ROUNDS: u32 = 4;

/// Once per image, before the first event.
pub(crate) fn prepare() {
    let mut key = 0;
    // SAFETY: writes the key.
    if unsafe { pthread_key_create(&raw mut key, Some(on_thread_end)) } == 0 {
        KEY.store(key, Ordering::Relaxed);
    }
}

/// Has the end of the calling thread marked.
pub(crate) fn expect_end_of_thread(state: &'static State) {
    let key = KEY.load(Ordering::Relaxed);
    if key != NO_KEY {
        // SAFETY: a key that was made; the value is only compared with null.
        real::keeping_errno(|| unsafe { pthread_setspecific(key, ptr::from_ref(state).cast()) });
    }
}

/// The destructor of the thread's value. It asks to be called again until the last round, as the
/// destructors of other values still free and allocate.
unsafe extern "C" fn on_thread_end(value: *mut c_void) {
    let endings = arch::thread_words().endings.fetch_add(1, Ordering::Relaxed) + 1;
    if endings < ROUNDS {
        let key = KEY.load(Ordering::Relaxed);
        // SAFETY: as in `expect_end_of_thread`.
        unsafe { pthread_setspecific(key, value) };
    } else {
        gate::end_thread();
    }
}

extern "C" fn on_load() {
    real::is_ready();
    real::keeping_errno(|| {
        let Some(process) = process::process() else {
            system::error_line(&[b"mymalloc record: no memory; this process is not recorded"]);
            return;
        };
        // A program that never allocates has a file too.
        process.locked(|inner| {
            if process.status.load(Ordering::Relaxed) == process::NOT_SET_UP {
                setup::set_up(process, inner);
            }
        });
        if !IS_WIPED.load(Ordering::Relaxed) {
            // SAFETY: the handler is there as long as the program. This allocates.
            unsafe { __register_atfork(None, None, Some(on_fork_in_child), ptr::null_mut()) };
        }
    });
}

unsafe extern "C" fn on_fork_in_child() {
    process::wipe();
}

/// The process ends in order.
extern "C" fn on_exit() {
    let Some(process) = process::process() else {
        return;
    };
    // A child that shares its parent's memory (vfork) does not end the parent's recording.
    if process.header().is_none() || system::process_id() != setup::recorded_process() {
        return;
    }
    if setup::options().touched {
        touched::end_all();
    }
    process.locked(|inner| {
        if setup::options().sites {
            let (process_id, image) = inner.file.name();
            sites::copy(process, process_id, image);
        }
        if let Some(header) = process.header() {
            header.set(at::ENDED_MONOTONIC_NS, setup::monotonic_ns());
        }
    });
}

#[used]
#[unsafe(link_section = ".init_array")]
static ON_LOAD: extern "C" fn() = on_load;
#[used]
#[unsafe(link_section = ".fini_array")]
static ON_EXIT: extern "C" fn() = on_exit;

/// C's `_exit`: no destructors run, so the end is marked here.
#[unsafe(no_mangle)]
pub extern "C" fn _exit(status: c_int) -> ! {
    on_exit();
    system::exit_group(status)
}

/// C's `_Exit`.
#[unsafe(no_mangle)]
pub extern "C" fn _Exit(status: c_int) -> ! {
    on_exit();
    system::exit_group(status)
}
