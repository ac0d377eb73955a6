//! x86-64.

use core::arch::{asm, global_asm};

use super::super::state::{self, ThreadWords};

/// Whether one thread alone numbers its events without an atomic operation: one instruction on this
/// architecture, so that a signal handler cannot come between reading and writing.
pub const PLAIN_NUMBERS: bool = true;

// The thread's own words: found by one load (initial-exec), without a call, allocated with the thread.
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
    // `core` is compiled to unwind and names it; nothing here unwinds. Hidden, as a program's own
    // must not meet this one.
    ".pushsection .text",
    ".globl rust_eh_personality",
    ".hidden rust_eh_personality",
    "rust_eh_personality: ud2",
    ".popsection",
    first = sym state::NEW_THREAD,
);

/// The calling thread's words.
#[inline(always)]
pub fn thread_words() -> &'static ThreadWords {
    let address: *const ThreadWords;
    // SAFETY: reads the thread pointer (the first word of the thread's control block, x86-64's ABI)
    // and the variable's offset from it, which the linker left in the GOT.
    unsafe {
        asm!(
            "mov {address}, qword ptr [rip + mymalloc_recorder_thread@GOTTPOFF]",
            "add {address}, qword ptr fs:[0]",
            address = out(reg) address,
            options(pure, readonly, nostack),
        );
        &*address
    }
}

/// Adds 1 to a counter, in one instruction, not atomic for other threads.
///
/// # Safety
/// No other thread writes it.
#[inline(always)]
pub unsafe fn increment(counter: *mut u64) {
    // SAFETY: the caller's counter.
    unsafe { asm!("inc qword ptr [{}]", in(reg) counter, options(nostack)) };
}

/// A system call.
///
/// # Safety
/// As the call's documentation has it.
pub unsafe fn system_call(number: usize, arguments: [usize; 6]) -> isize {
    let result;
    // SAFETY: the kernel's convention; memory is the caller's business.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") arguments[0],
            in("rsi") arguments[1],
            in("rdx") arguments[2],
            in("r10") arguments[3],
            in("r8") arguments[4],
            in("r9") arguments[5],
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// Numbers of the system calls.
pub mod number {
    pub const READ: usize = 0;
    pub const WRITE: usize = 1;
    pub const CLOSE: usize = 3;
    pub const MMAP: usize = 9;
    pub const MUNMAP: usize = 11;
    pub const RT_SIGPROCMASK: usize = 14;
    pub const PWRITE64: usize = 18;
    pub const SCHED_YIELD: usize = 24;
    pub const MADVISE: usize = 28;
    pub const GETPID: usize = 39;
    pub const FCNTL: usize = 72;
    pub const GETPPID: usize = 110;
    pub const GETTID: usize = 186;
    pub const FUTEX: usize = 202;
    pub const EXIT_GROUP: usize = 231;
    pub const OPENAT: usize = 257;
    pub const READLINKAT: usize = 267;
    pub const FACCESSAT: usize = 269;
    pub const FALLOCATE: usize = 285;
    pub const PRLIMIT64: usize = 302;
    pub const STATX: usize = 332;
}

/// Exports a function under a C name. It finds the thread's state; if that is free, it marks it as in
/// use and goes on at `$fast`, otherwise at `$slow`. Both take the function's arguments and one more:
/// the state, or the return address of the call.
macro_rules! entry {
    (@register 1) => { "rsi" };
    (@register 2) => { "rdx" };
    (@register 3) => { "rcx" };
    ($($name:ident / $arguments:tt => $fast:path, $slow:path;)*) => {$(
        /// The C function of this name.
        ///
        /// # Safety
        /// As that function. Declared without its arguments, which pass through.
        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        pub unsafe extern "C" fn $name() {
            core::arch::naked_asm!(
                concat!("mov ", entry!(@register $arguments),
                    ", qword ptr [rip + mymalloc_recorder_thread@GOTTPOFF]"),
                concat!("mov ", entry!(@register $arguments),
                    ", qword ptr fs:[", entry!(@register $arguments), "]"),
                concat!("cmp byte ptr [", entry!(@register $arguments), " + {busy}], 0"),
                "jne 2f",
                concat!("mov byte ptr [", entry!(@register $arguments), " + {busy}], 1"),
                "jmp {fast}",
                "2:",
                concat!("mov ", entry!(@register $arguments), ", qword ptr [rsp]"),
                "jmp {slow}",
                busy = const core::mem::offset_of!($crate::state::State, busy),
                fast = sym $fast,
                slow = sym $slow,
            )
        }
    )*};
}
pub(crate) use entry;
