//! Counts the system calls made inside the allocator's functions, by number.
//!
//! Linux can send a thread's system calls back to it as signals (`PR_SET_SYSCALL_USER_DISPATCH`),
//! while a byte says so. The byte is set around the allocator's calls only; the signal's handler
//! counts the call and performs it. This costs a microsecond for each call, so it is done in a replay
//! of its own, in which nothing is timed.
//!
//! Calls that a handler cannot perform for its thread (new threads, signal masks) are counted and
//! then made again by the thread itself, with the byte cleared; what else the allocator calls until
//! it returns is not counted then. Threads of the allocator's own are not counted at all.
//!
//! Each thread that shall be counted begins by itself; the counts are of all of them. On x86-64;
//! elsewhere [`Counting::begin`] refuses.

/// System calls by number; higher numbers are not counted.
pub const NUMBER_LIMIT: usize = 512;

/// Counts by number.
pub type Counts = [u64; NUMBER_LIMIT];

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
pub use dispatch::Counting;
#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
pub use refused::Counting;

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod dispatch {
    use core::arch::{asm, global_asm};
    use core::ffi::{c_int, c_void};
    use core::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed, compiler_fence};

    use super::{Counts, NUMBER_LIMIT};

    const PR_SET_SYSCALL_USER_DISPATCH: c_int = 59;
    const PR_SYS_DISPATCH_OFF: usize = 0;
    const PR_SYS_DISPATCH_ON: usize = 1;
    const ALLOW: u8 = 0;
    const BLOCK: u8 = 1;
    const SA_RESTORER: u64 = 0x0400_0000;
    /// Length of the instruction `syscall`.
    const SYSCALL_BYTES: i64 = 2;

    thread_local! {
        /// What the kernel reads before each system call of the thread. Without a destructor, and
        /// in the executable's own thread-local memory: the handler may use it.
        static SELECTOR: AtomicU8 = const { AtomicU8::new(ALLOW) };
    }
    static COUNTS: [AtomicU64; NUMBER_LIMIT] = [const { AtomicU64::new(0) }; NUMBER_LIMIT];

    // The end of the handler: its own `rt_sigreturn`, in a range of addresses from which the kernel
    // always lets calls pass, since the byte is set again by then.
    global_asm!(
        ".text",
        ".balign 16",
        "mymalloc_dispatch_return:",
        "mov eax, 15",
        "syscall",
        "mymalloc_dispatch_return_end:",
        "ud2",
    );

    unsafe extern "C" {
        fn mymalloc_dispatch_return();
        fn mymalloc_dispatch_return_end();
    }

    /// `struct sigaction` as the kernel wants it.
    #[repr(C)]
    struct KernelAction {
        handler: usize,
        flags: u64,
        restorer: usize,
        mask: u64,
    }

    fn select(byte: u8) {
        SELECTOR.with(|selector| selector.store(byte, Relaxed));
    }

    /// While it lives, the thread's system calls between [`Counting::enter`] and [`Counting::leave`]
    /// are counted. It stays on its thread.
    #[derive(Debug)]
    pub struct Counting(core::marker::PhantomData<*mut ()>);

    impl Counting {
        /// Begins on this thread, with all counts zero; `None` if the kernel does not allow it. No
        /// other may be counting.
        pub fn begin() -> Option<Self> {
            for count in &COUNTS {
                count.store(0, Relaxed);
            }
            Self::join()
        }

        /// Begins on this thread, the counts going on; `None` if the kernel does not allow it.
        pub fn join() -> Option<Self> {
            select(ALLOW);
            let action = KernelAction {
                handler: on_system_call as *const () as usize,
                flags: libc::SA_SIGINFO as u64 | SA_RESTORER,
                restorer: mymalloc_dispatch_return as *const () as usize,
                mask: 0,
            };
            // SAFETY: a valid action, as long as the kernel expects; the handler has the signature
            // that SA_SIGINFO asks for.
            let set = unsafe {
                libc::syscall(
                    libc::SYS_rt_sigaction,
                    libc::SIGSYS,
                    &raw const action,
                    core::ptr::null_mut::<c_void>(),
                    size_of::<u64>(),
                )
            };
            let start = mymalloc_dispatch_return as *const () as usize;
            // The address behind the instruction is what the kernel compares, so one byte more.
            let length = mymalloc_dispatch_return_end as *const () as usize - start + 1;
            let selector = SELECTOR.with(AtomicU8::as_ptr);
            if set != 0 {
                return None;
            }
            // SAFETY: the range is code of ours, and the selector lives as long as its thread, which
            // this value does not leave; dropping it ends the dispatch.
            let set = unsafe {
                libc::prctl(
                    PR_SET_SYSCALL_USER_DISPATCH,
                    PR_SYS_DISPATCH_ON,
                    start,
                    length,
                    selector,
                )
            };
            (set == 0).then_some(Self(core::marker::PhantomData))
        }

        /// The thread is about to call the allocator.
        #[inline(always)]
        pub fn enter(&self) {
            select(BLOCK);
            compiler_fence(core::sync::atomic::Ordering::SeqCst);
        }

        /// The allocator has returned.
        #[inline(always)]
        pub fn leave(&self) {
            compiler_fence(core::sync::atomic::Ordering::SeqCst);
            select(ALLOW);
        }

        /// System calls counted so far, by all threads.
        pub fn counts(&self) -> Counts {
            Self::total()
        }

        /// The same, for who counts no longer.
        pub fn total() -> Counts {
            core::array::from_fn(|number| COUNTS[number].load(Relaxed))
        }
    }

    impl Drop for Counting {
        fn drop(&mut self) {
            // SAFETY: takes numbers.
            unsafe {
                libc::prctl(
                    PR_SET_SYSCALL_USER_DISPATCH,
                    PR_SYS_DISPATCH_OFF,
                    0usize,
                    0usize,
                    0usize,
                );
            }
        }
    }

    /// Whether a handler cannot do it in its thread's place: what makes threads or processes, or
    /// changes the signal mask or stack that the return from the handler sets again.
    fn is_the_threads_own(number: i64) -> bool {
        matches!(
            number,
            libc::SYS_clone
                | libc::SYS_clone3
                | libc::SYS_fork
                | libc::SYS_vfork
                | libc::SYS_execve
                | libc::SYS_execveat
                | libc::SYS_rt_sigprocmask
                | libc::SYS_rt_sigreturn
                | libc::SYS_sigaltstack
        )
    }

    /// SIGSYS: the thread was about to make a system call.
    unsafe extern "C" fn on_system_call(
        _signal: c_int,
        _information: *mut libc::siginfo_t,
        context: *mut c_void,
    ) {
        select(ALLOW);
        // SAFETY: the kernel gives a handler of SA_SIGINFO the interrupted thread's registers.
        let registers = unsafe { &mut (*context.cast::<libc::ucontext_t>()).uc_mcontext.gregs };
        let number = registers[libc::REG_RAX as usize];
        if let Some(count) = usize::try_from(number)
            .ok()
            .and_then(|index| COUNTS.get(index))
        {
            count.fetch_add(1, Relaxed);
        }
        if is_the_threads_own(number) {
            registers[libc::REG_RIP as usize] -= SYSCALL_BYTES;
            return;
        }
        let argument = |register: c_int| registers[register as usize];
        let result: i64;
        // SAFETY: the very call that the thread was about to make, with its arguments.
        unsafe {
            asm!(
                "syscall",
                inlateout("rax") number => result,
                in("rdi") argument(libc::REG_RDI),
                in("rsi") argument(libc::REG_RSI),
                in("rdx") argument(libc::REG_RDX),
                in("r10") argument(libc::REG_R10),
                in("r8") argument(libc::REG_R8),
                in("r9") argument(libc::REG_R9),
                lateout("rcx") _,
                lateout("r11") _,
            );
        }
        registers[libc::REG_RAX as usize] = result;
        select(BLOCK);
    }
}

#[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
mod refused {
    use super::{Counts, NUMBER_LIMIT};

    /// Never made here.
    #[derive(Debug)]
    pub struct Counting(core::convert::Infallible);

    impl Counting {
        /// There is no such counting on this machine.
        pub fn begin() -> Option<Self> {
            None
        }

        /// Nor on another thread.
        pub fn join() -> Option<Self> {
            None
        }

        /// The thread is about to call the allocator.
        pub fn enter(&self) {}

        /// The allocator has returned.
        pub fn leave(&self) {}

        /// System calls counted so far.
        pub fn counts(&self) -> Counts {
            Self::total()
        }

        /// None.
        pub fn total() -> Counts {
            [0; NUMBER_LIMIT]
        }
    }
}

/// Whether this kernel must be able to count: an end to tests that pass because nothing was counted.
/// Linux has the dispatch since 5.11.
#[cfg(all(test, target_arch = "x86_64", target_os = "linux"))]
fn kernel_can_count() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("Linux has /proc");
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    let mut next = || numbers.next().and_then(Result::ok).unwrap_or(0u32);
    (next(), next()) >= (5, 11)
}

#[cfg(all(test, target_arch = "x86_64", target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn calls_inside_are_counted_and_done() {
        if !kernel_can_count() {
            return;
        }
        let counting = Counting::begin().expect("the kernel has the dispatch");
        let call = |number| {
            // SAFETY: calls that only tell numbers.
            unsafe { libc::syscall(number) }
        };
        let own = call(libc::SYS_getpid);
        counting.enter();
        let inside = (call(libc::SYS_getpid), call(libc::SYS_getpid), call(600));
        // SAFETY: a mapping of the kernel's choice, unmapped again.
        let mapped = unsafe {
            let map = libc::mmap(core::ptr::null_mut(), 4096, 3, 0x22, -1, 0);
            map.cast::<u8>().write(7);
            libc::munmap(map, 4096)
        };
        counting.leave();
        call(libc::SYS_getppid);
        assert_eq!((inside.0, inside.1, inside.2, mapped), (own, own, -1, 0));
        counting.enter();
        // Made again by the thread itself; what follows is not counted until the next time.
        // SAFETY: asks for the signal mask, which is not changed.
        let mask = unsafe {
            let mut mask: libc::sigset_t = core::mem::zeroed();
            libc::pthread_sigmask(libc::SIG_BLOCK, core::ptr::null(), &raw mut mask)
        };
        call(libc::SYS_getuid);
        counting.leave();
        assert_eq!(mask, 0);
        let counts = counting.counts();
        let count = |number: i64| counts[number as usize];
        assert_eq!(count(libc::SYS_getpid), 2);
        assert_eq!((count(libc::SYS_mmap), count(libc::SYS_munmap)), (1, 1));
        assert_eq!((count(libc::SYS_getppid), count(libc::SYS_getuid)), (0, 0));
        assert_eq!(count(libc::SYS_rt_sigprocmask), 1);
        threads_are_counted_together(&counting);
    }

    /// Part of the test above: the counts are the process's, so two tests would count each other's.
    fn threads_are_counted_together(first: &Counting) {
        let before = first.counts()[libc::SYS_getppid as usize];
        std::thread::scope(|scope| {
            for calls in [3, 4] {
                scope.spawn(move || {
                    let own = Counting::join().expect("as on the first thread");
                    for _ in 0..calls {
                        own.enter();
                        // SAFETY: tells a number.
                        unsafe { libc::syscall(libc::SYS_getppid) };
                        own.leave();
                        // SAFETY: as above; not counted.
                        unsafe { libc::syscall(libc::SYS_getppid) };
                    }
                });
            }
            // Not counted here: this thread is not inside.
            // SAFETY: as above.
            unsafe { libc::syscall(libc::SYS_getppid) };
        });
        assert_eq!(first.counts()[libc::SYS_getppid as usize] - before, 7);
    }
}
