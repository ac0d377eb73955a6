//! Threads that come and go. They are made by `pthread_create` directly: `std::thread` would itself
//! allocate, from the C library, for each of them.

use core::ffi::c_void;
use core::ptr;
use std::time::Instant;

use super::watch::Watch;
use super::{Timed, nanoseconds};
use crate::replay::serial::{Failure, Fault};
use crate::subject::functions::Functions;

/// What a thread needs; it is the thread's alone while that runs.
struct Task<'a, W> {
    functions: &'a Functions,
    watch: &'a W,
    size: usize,
    /// Room for the thread's blocks, made beforehand.
    blocks: Vec<*mut c_void>,
    operations: u64,
    failed: bool,
}

/// Makes `threads` threads, one after the other; each allocates, frees, and ends.
pub(super) fn creation<W: Watch>(
    functions: &Functions,
    watch: &W,
    threads: u64,
    blocks: usize,
    size: usize,
) -> Result<Timed, Failure> {
    let blocks = vec![ptr::null_mut(); blocks];
    let mut task = Task {
        functions,
        watch,
        size,
        blocks,
        operations: 0,
        failed: false,
    };
    let start = Instant::now();
    for _ in 0..threads {
        // A thread that cannot be made counts as memory that was not given: its stack is memory.
        if !run_thread(&mut task) || task.failed {
            return Err(Failure {
                operation: task.operations as usize,
                fault: Fault::Null,
            });
        }
    }
    let elapsed_ns = nanoseconds(start.elapsed());
    Ok(Timed {
        elapsed_ns,
        operations: task.operations,
    })
}

/// Makes a thread for the task and waits for its end. `false` if the system refuses.
fn run_thread<W: Watch>(task: &mut Task<'_, W>) -> bool {
    let mut thread = core::mem::MaybeUninit::<libc::pthread_t>::uninit();
    // SAFETY: `body` takes what it is given here; the task outlives the thread, which is joined
    // below, and nobody else touches it until then. `W: Watch` may be shared between threads.
    let refused = unsafe {
        libc::pthread_create(
            thread.as_mut_ptr(),
            ptr::null(),
            body::<W>,
            ptr::from_mut(task).cast::<c_void>(),
        )
    };
    if refused != 0 {
        return false;
    }
    // SAFETY: `pthread_create` succeeded, so it wrote the handle; the thread is joined once. Its
    // end orders what it did before what follows here.
    unsafe { libc::pthread_join(thread.assume_init(), ptr::null_mut()) == 0 }
}

extern "C" fn body<W: Watch>(argument: *mut c_void) -> *mut c_void {
    // SAFETY: `run_thread` gave its exclusive reference and waits for this thread's end.
    let task = unsafe { &mut *argument.cast::<Task<'_, W>>() };
    for slot in &mut task.blocks {
        // SAFETY: malloc may be called with any size.
        let block = unsafe { (task.functions.malloc)(task.size) };
        if block.is_null() {
            task.failed = true;
            return ptr::null_mut();
        }
        // SAFETY: just allocated with this size; nobody else has it.
        unsafe { task.watch.allocated(block, task.size) };
        *slot = block;
    }
    for slot in &task.blocks {
        // SAFETY: allocated above, freed once: each slot was written in this call.
        unsafe {
            task.watch.releasing(*slot);
            (task.functions.free)(*slot);
        }
    }
    task.operations += 2 * task.blocks.len() as u64;
    ptr::null_mut()
}
