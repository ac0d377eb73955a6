//! x86-64.

use core::arch::{asm, global_asm};

use super::super::state::{self, ThreadWords};

/// Whether one thread alone numbers its events without an atomic operation: one instruction on this
/// architecture, so that a signal handler cannot come between reading and writing.
pub(crate) const PLAIN_NUMBERS: bool = true;

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
pub(crate) fn thread_words() -> &'static ThreadWords {
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

/// Adds 1 to a counter, in one instruction, which is not atomic for other threads; the value before.
///
/// # Safety
/// No other thread writes it.
#[inline(always)]
pub(crate) unsafe fn take(counter: *mut u64) -> u64 {
    let mut value = 1;
    // SAFETY: the caller's counter.
    unsafe {
        asm!("xadd qword ptr [{counter}], {value}", counter = in(reg) counter,
            value = inout(reg) value, options(nostack));
    }
    value
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
pub(crate) mod number {
    pub(crate) const READ: usize = 0;
    pub(crate) const WRITE: usize = 1;
    pub(crate) const CLOSE: usize = 3;
    pub(crate) const MMAP: usize = 9;
    pub(crate) const MUNMAP: usize = 11;
    pub(crate) const RT_SIGPROCMASK: usize = 14;
    pub(crate) const PWRITE64: usize = 18;
    pub(crate) const SCHED_YIELD: usize = 24;
    pub(crate) const MINCORE: usize = 27;
    pub(crate) const MADVISE: usize = 28;
    pub(crate) const GETPID: usize = 39;
    pub(crate) const FCNTL: usize = 72;
    pub(crate) const GETPPID: usize = 110;
    pub(crate) const GETTID: usize = 186;
    pub(crate) const FUTEX: usize = 202;
    pub(crate) const EXIT_GROUP: usize = 231;
    pub(crate) const OPENAT: usize = 257;
    pub(crate) const READLINKAT: usize = 267;
    pub(crate) const FACCESSAT: usize = 269;
    pub(crate) const PRLIMIT64: usize = 302;
    pub(crate) const STATX: usize = 332;
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

/// A C function in assembly, with the names of what such functions deal in and those of its own.
macro_rules! in_assembly {
    ($name:ident: $($line:expr,)* => $($operand:tt)*) => {
        /// The C function of this name.
        ///
        /// # Safety
        /// As that function. Declared without its argument, which passes through.
        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        pub unsafe extern "C" fn $name() {
            core::arch::naked_asm!(
                $($line,)*
                real = sym $crate::real::REAL,
                sequence = const $crate::wire::TAG_SEQUENCE,
                busy = const core::mem::offset_of!($crate::state::State, busy),
                cursor = const core::mem::offset_of!($crate::state::State, cursor),
                limit = const core::mem::offset_of!($crate::state::State, limit),
                next = const core::mem::offset_of!($crate::state::State, next),
                single = sym $crate::event::SINGLE_THREADED,
                numbered = sym $crate::process::NUMBERED,
                $($operand)*
            )
        }
    };
}
pub(crate) use in_assembly;

/// Exports `malloc` and `free`, the two that are called most: what `calls::malloc_fast` and `free_fast`
/// do, in 40 and 29 instructions, as a compiler would need 92 for both. Whatever is not a call of one
/// word in an open state goes to `$other`. Keeps to the order of `event::write_word`: number, word,
/// cursor, mark.
macro_rules! malloc_and_free {
    ($malloc_other:path, $malloc_slow:path, $free_other:path, $free_slow:path) => {
        $crate::arch::in_assembly! { malloc:
            ".cfi_startproc",
            $crate::arch::state_marked_busy!(),
            "push rdi",
            ".cfi_adjust_cfa_offset 8",
            "push rsi",
            ".cfi_adjust_cfa_offset 8",
            "sub rsp, 8",
            ".cfi_adjust_cfa_offset 8",
            "call qword ptr [rip + {real} + {malloc}]",
            "add rsp, 8",
            ".cfi_adjust_cfa_offset -8",
            "pop rsi",
            ".cfi_adjust_cfa_offset -8",
            "pop rdi",
            ".cfi_adjust_cfa_offset -8",
            // rax: block, rcx: block / 8, with what must be zero at the top.
            "mov rcx, rax",
            "ror rcx, 3",
            "mov r9, rcx",
            "shr r9, 44",
            "mov rdx, rdi",
            "shr rdx, 16",
            "or rdx, r9",
            "jne 30f",
            $crate::arch::place_and_number!(),
            "shl rcx, 20",
            "shl rdi, 4",
            "lea rcx, [rcx + rdi + {tag}]",
            $crate::arch::word_written!(),
            "ret",
            $crate::arch::other_numbers!(),
            "20:",
            "mov rsi, qword ptr [rsp]",
            "jmp {slow}",
            "30:",
            "mov rdx, rax",
            "jmp {other}",
            ".cfi_endproc",
            =>
            malloc = const core::mem::offset_of!($crate::real::Real, malloc),
            tag = const $crate::wire::TAG_MALLOC,
            slow = sym $malloc_slow,
            other = sym $malloc_other,
        }
        $crate::arch::in_assembly! { free:
            $crate::arch::state_marked_busy!(),
            "mov rcx, rdi",
            "ror rcx, 3",
            "mov rdx, rcx",
            "shr rdx, 44",
            "jne 30f",
            $crate::arch::place_and_number!(),
            "shl rcx, 20",
            "or rcx, {tag}",
            $crate::arch::word_written!(),
            "jmp qword ptr [rip + {real} + {free}]",
            $crate::arch::other_numbers!(),
            "20:",
            "mov rsi, qword ptr [rsp]",
            "jmp {slow}",
            "30:",
            "jmp {other}",
            =>
            free = const core::mem::offset_of!($crate::real::Real, free),
            tag = const $crate::wire::TAG_FREE,
            slow = sym $free_slow,
            other = sym $free_other,
        }
    };
}
pub(crate) use malloc_and_free;

/// rsi: the thread's state, marked busy. To 20 if it is so already.
macro_rules! state_marked_busy {
    () => {
        concat!(
            "mov rsi, qword ptr [rip + mymalloc_recorder_thread@GOTTPOFF]\n",
            "mov rsi, qword ptr fs:[rsi]\n",
            "cmp byte ptr [rsi + {busy}], 0\n",
            "jne 20f\n",
            "mov byte ptr [rsi + {busy}], 1",
        )
    };
}
pub(crate) use state_marked_busy;

/// Writes the word in rcx at r8, and ends the event.
macro_rules! word_written {
    () => {
        concat!(
            "mov qword ptr [r8], rcx\n",
            "add r8, 8\n",
            "mov qword ptr [rsi + {cursor}], r8\n",
            "mov byte ptr [rsi + {busy}], 0",
        )
    };
}
pub(crate) use word_written;

/// r8: where the word goes, in the state at rsi; rdx: the event's number, told if it is not the next.
/// To 30 if the state is closed.
macro_rules! place_and_number {
    () => {
        concat!(
            "mov r8, qword ptr [rsi + {cursor}]\n",
            "cmp r8, qword ptr [rsi + {limit}]\n",
            "jae 30f\n",
            "mov r9, qword ptr [rip + {single}]\n",
            "cmp byte ptr [r9], 0\n",
            "mov edx, 1\n",
            "je 40f\n",
            "xadd qword ptr [rip + {numbered}], rdx\n",
            "50:\n",
            "cmp rdx, qword ptr [rsi + {next}]\n",
            "jne 60f\n",
            "70:\n",
            "inc rdx\n",
            "mov qword ptr [rsi + {next}], rdx",
        )
    };
}
pub(crate) use place_and_number;

/// The seldom parts of [`place_and_number`]: several threads, and a number that must be told.
macro_rules! other_numbers {
    () => {
        concat!(
            "40:\n",
            "lock xadd qword ptr [rip + {numbered}], rdx\n",
            "jmp 50b\n",
            "60:\n",
            "mov r9, rdx\n",
            "shl r9, 4\n",
            "or r9, {sequence}\n",
            "mov qword ptr [r8], r9\n",
            "add r8, 8\n",
            "jmp 70b",
        )
    };
}
pub(crate) use other_numbers;
