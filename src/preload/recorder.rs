//! `LD_PRELOAD=librecorder.so program`: writes down what the program asks of its allocator, whichever
//! that is, and passes every call on to it. Built by build.rs, without cargo and without crates, not
//! even `std`; `mymalloc record` sets it to work (`recorder/options.rs` has the agreement) and reads
//! what it wrote (`trace/wire.rs`).
//!
//! One event, the fast way (`arch`, `calls`, `event`): the entry finds the thread's [`state::State`] by
//! one load and marks it busy; the real function is called; one word is stored in the thread's chunk of
//! the file, which is mapped and shared, so that it survives a SIGKILL; the mark is taken away. No lock,
//! no system call, no allocation. The chunk of a busy thread is a window (`windows`): used again and
//! again, and copied by the command, so that the program does not pay for fresh pages.
//!
//! Everything else is the slow way (`gate`), under one lock with all signals blocked: a thread's first
//! event, a full chunk, a forked child's first event, switching by signal, and the end of recording
//! where the file cannot grow.
//!
//! Invariant: nothing here calls a wrapped function, except through the C library outside the lock.
//! Invariant: `errno` is as the real function left it.
//! Not recorded, as they do not come by here: what a program allocates whose own executable defines
//! malloc or is linked statically; allocators' own functions beside the C ones (`mallocx`); children
//! that are started with a cleaned environment.

#![no_std]
#![allow(unreachable_pub, reason = "what is exported is found by its C name")]

#[path = "recorder/arch.rs"]
mod arch;
#[path = "recorder/bell.rs"]
mod bell;
#[path = "recorder/bootstrap.rs"]
mod bootstrap;
#[path = "recorder/calls.rs"]
mod calls;
#[path = "recorder/environment.rs"]
mod environment;
#[path = "recorder/event.rs"]
mod event;
#[path = "recorder/file.rs"]
mod file;
#[path = "recorder/folder.rs"]
mod folder;
#[path = "recorder/gate.rs"]
mod gate;
#[path = "recorder/life.rs"]
mod life;
#[path = "recorder/operators.rs"]
#[allow(non_snake_case, reason = "the names that C++ compilers give")]
mod operators;
#[path = "recorder/options.rs"]
mod options;
#[path = "recorder/process.rs"]
mod process;
#[path = "recorder/real.rs"]
mod real;
#[path = "recorder/setup.rs"]
mod setup;
#[path = "recorder/sites.rs"]
mod sites;
#[path = "recorder/state.rs"]
mod state;
#[path = "recorder/switch.rs"]
mod switch;
#[path = "recorder/system.rs"]
mod system;
#[path = "recorder/text.rs"]
mod text;
#[path = "recorder/touched.rs"]
mod touched;
#[path = "recorder/windows.rs"]
mod windows;
#[path = "../trace/wire.rs"]
#[allow(dead_code, reason = "its reader uses the rest")]
mod wire;

/// A panic is a bug of the recorder's. It must not cross into the program, nor be passed over.
#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    unsafe extern "C" {
        fn abort() -> !;
    }
    let (file, line) = info
        .location()
        .map_or(("", 0), |location| (location.file(), location.line()));
    let line = text::Text::new().push_number(u64::from(line));
    system::error_line(&[
        b"mymalloc record: bug in the recorder, ",
        file.as_bytes(),
        b":",
        line.as_bytes(),
    ]);
    // SAFETY: ends the program.
    unsafe { abort() }
}
