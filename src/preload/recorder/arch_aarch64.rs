//! 64-bit ARM.

use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicU64, Ordering};

use super::super::state::{self, ThreadWords};

/// No single instruction adds to memory on every processor of this architecture, so numbers are taken
/// atomically from the first one on.
pub(crate) const PLAIN_NUMBERS: bool = false;

// See the other architecture's.
global_asm!(
    ".pushsection .tdata,\"awT\",@progbits",
    ".balign 16",
    ".globl mymalloc_recorder_thread",
    ".hidden mymalloc_recorder_thread",
    ".type mymalloc_recorder_thread,@object",
    ".size mymalloc_recorder_thread,16",
    "mymalloc_recorder_thread:",
    ".quad {first}",
    ".quad 0",
    ".popsection",
    ".pushsection .text",
    ".balign 4",
    ".globl rust_eh_personality",
    ".hidden rust_eh_personality",
    "rust_eh_personality: brk #1",
    ".popsection",
    first = sym state::NEW_THREAD,
);

/// The calling thread's words.
#[inline(always)]
pub(crate) fn thread_words() -> &'static ThreadWords {
    let address: *const ThreadWords;
    // SAFETY: reads the thread pointer and the variable's offset from it, which the linker left in the
    // GOT.
    unsafe {
        asm!(
            "adrp {address}, :gottprel:mymalloc_recorder_thread",
            "ldr {address}, [{address}, #:gottprel_lo12:mymalloc_recorder_thread]",
            "mrs {base}, tpidr_el0",
            "add {address}, {address}, {base}",
            address = out(reg) address,
            base = out(reg) _,
            options(pure, readonly, nostack),
        );
        &*address
    }
}

/// Adds 1 to a counter; the value before.
///
/// # Safety
/// The counter is there.
#[inline(always)]
pub(crate) unsafe fn take(counter: *mut u64) -> u64 {
    // SAFETY: the caller's counter.
    unsafe { AtomicU64::from_ptr(counter) }.fetch_add(1, Ordering::SeqCst)
}

/// A system call.
///
/// # Safety
/// As the call's documentation has it.
pub(crate) unsafe fn system_call(number: usize, arguments: [usize; 6]) -> isize {
    let result;
    // SAFETY: the kernel's convention; memory is the caller's business.
    unsafe {
        asm!(
            "svc #0",
            in("x8") number,
            inlateout("x0") arguments[0] => result,
            in("x1") arguments[1],
            in("x2") arguments[2],
            in("x3") arguments[3],
            in("x4") arguments[4],
            in("x5") arguments[5],
            options(nostack),
        );
    }
    result
}

/// Numbers of the system calls.
pub(crate) mod number {
    pub(crate) const FCNTL: usize = 25;
    pub(crate) const FACCESSAT: usize = 48;
    pub(crate) const OPENAT: usize = 56;
    pub(crate) const CLOSE: usize = 57;
    pub(crate) const READ: usize = 63;
    pub(crate) const WRITE: usize = 64;
    pub(crate) const PWRITE64: usize = 68;
    pub(crate) const READLINKAT: usize = 78;
    pub(crate) const EXIT_GROUP: usize = 94;
    pub(crate) const FUTEX: usize = 98;
    pub(crate) const SCHED_YIELD: usize = 124;
    pub(crate) const RT_SIGPROCMASK: usize = 135;
    pub(crate) const GETPID: usize = 172;
    pub(crate) const GETPPID: usize = 173;
    pub(crate) const GETTID: usize = 178;
    pub(crate) const MUNMAP: usize = 215;
    pub(crate) const MMAP: usize = 222;
    pub(crate) const MINCORE: usize = 232;
    pub(crate) const MADVISE: usize = 233;
    pub(crate) const PRLIMIT64: usize = 261;
    pub(crate) const STATX: usize = 291;
}

/// See the other architecture's. The return address is in the link register.
macro_rules! entry {
    (@register 1) => { "x1" };
    (@register 2) => { "x2" };
    (@register 3) => { "x3" };
    ($($name:ident / $arguments:tt => $fast:path, $slow:path;)*) => {$(
        /// The C function of this name.
        ///
        /// # Safety
        /// As that function. Declared without its arguments, which pass through.
        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        pub unsafe extern "C" fn $name() {
            core::arch::naked_asm!(
                "adrp x9, :gottprel:mymalloc_recorder_thread",
                "ldr x9, [x9, #:gottprel_lo12:mymalloc_recorder_thread]",
                "mrs x10, tpidr_el0",
                concat!("ldr ", entry!(@register $arguments), ", [x10, x9]"),
                concat!("ldrb w9, [", entry!(@register $arguments), ", #{busy}]"),
                "cbnz w9, 2f",
                "mov w9, #1",
                concat!("strb w9, [", entry!(@register $arguments), ", #{busy}]"),
                "b {fast}",
                "2:",
                concat!("mov ", entry!(@register $arguments), ", x30"),
                "b {slow}",
                busy = const core::mem::offset_of!($crate::state::State, busy),
                fast = sym $fast,
                slow = sym $slow,
            )
        }
    )*};
}
pub(crate) use entry;

/// Exports `malloc` and `free` as any other function: the compiler's code is good enough here.
macro_rules! malloc_and_free {
    ($malloc_other:path, $malloc_slow:path, $free_other:path, $free_slow:path) => {
        entry! {
            malloc / 1 => malloc_fast, $malloc_slow;
            free / 1 => free_fast, $free_slow;
        }
    };
}
pub(crate) use malloc_and_free;
