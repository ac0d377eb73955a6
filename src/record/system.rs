//! What recording asks of the system that the standard library does not offer.

use std::mem::MaybeUninit;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

/// Effective user and group.
pub(super) fn effective_ids() -> (u32, u32) {
    // SAFETY: no arguments; they cannot fail.
    unsafe { (libc::geteuid(), libc::getegid()) }
}

/// Whether a file gives capabilities to whoever runs it.
pub(super) fn has_capabilities(path: &Path) -> bool {
    let Ok(path) = std::ffi::CString::new(path.as_os_str().as_bytes()) else {
        return false;
    };
    let name = c"security.capability";
    // SAFETY: two terminated strings; a size of 0 asks for the length alone.
    unsafe { libc::getxattr(path.as_ptr(), name.as_ptr(), std::ptr::null_mut(), 0) > 0 }
}

/// What a file system says of itself.
pub(super) struct FileSystem {
    /// Programs and libraries on it are not run.
    pub(super) refuses_code: bool,
    /// Bytes that this user can still write.
    pub(super) free_bytes: u64,
}

/// The file system of a path; none if it does not say.
pub(super) fn file_system(path: &Path) -> Option<FileSystem> {
    let path = std::ffi::CString::new(path.as_os_str().as_bytes()).ok()?;
    let mut answer = MaybeUninit::<libc::statvfs>::uninit();
    // SAFETY: a terminated string, and room for the answer.
    if unsafe { libc::statvfs(path.as_ptr(), answer.as_mut_ptr()) } != 0 {
        return None;
    }
    // SAFETY: filled in, as the call succeeded.
    let answer = unsafe { answer.assume_init() };
    Some(FileSystem {
        refuses_code: answer.f_flag & libc::ST_NOEXEC != 0,
        free_bytes: answer.f_bavail.saturating_mul(answer.f_frsize),
    })
}

/// Reserves bytes on the disk. False: there are not so many, or the file system cannot.
pub(super) fn reserve(file: &std::fs::File, bytes: u64) -> bool {
    use std::os::fd::AsRawFd as _;
    let Ok(bytes) = libc::off_t::try_from(bytes) else {
        return false;
    };
    // SAFETY: an open file.
    unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, bytes) == 0 }
}

/// Signals that are handed on to the program, or end the waiting.
const FORWARDED: [i32; 6] = [
    libc::SIGINT,
    libc::SIGQUIT,
    libc::SIGTERM,
    libc::SIGHUP,
    libc::SIGUSR1,
    libc::SIGUSR2,
];
/// Those of them that ask `record` itself to come to an end.
const ENDING: [i32; 4] = [libc::SIGINT, libc::SIGQUIT, libc::SIGTERM, libc::SIGHUP];

/// A signal that was sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Signal {
    pub(super) number: i32,
    /// Sent to this process alone, by another: not by the terminal to all of its group.
    pub(super) is_sent: bool,
}

impl Signal {
    /// Whether it asks for an end.
    pub(super) fn ends(self) -> bool {
        ENDING.contains(&self.number)
    }
}

/// Signals, blocked from here on: they wait until they are asked for, so that none ends this process
/// with a recording half written. What the user had ignored (`nohup`) stays ignored.
#[derive(Clone, Copy)]
pub(super) struct Signals {
    /// As whoever started this process left it.
    before: libc::sigset_t,
    blocked: libc::sigset_t,
}

impl Signals {
    pub(super) fn block() -> Self {
        let blocked = set(FORWARDED
            .into_iter()
            .filter(|&signal| !is_ignored(signal))
            .chain([libc::SIGCHLD]));
        let mut before = set([]);
        // SAFETY: two sets of this function's own.
        unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const blocked, &raw mut before) };
        Self { before, blocked }
    }

    /// Waits for a signal, at most this long. SIGCHLD ends the waiting too.
    pub(super) fn next(&self, within: Duration) -> Option<Signal> {
        let timeout = libc::timespec {
            tv_sec: libc::time_t::try_from(within.as_secs()).unwrap_or(libc::time_t::MAX),
            tv_nsec: libc::c_long::from(within.subsec_nanos().cast_signed()),
        };
        let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
        // SAFETY: a set, room for the answer, and a time.
        let number = unsafe {
            libc::sigtimedwait(
                &raw const self.blocked,
                info.as_mut_ptr(),
                &raw const timeout,
            )
        };
        if number < 0 {
            return None;
        }
        // SAFETY: zeroed before, for which all zero is valid, and filled in by the call.
        let info = unsafe { info.assume_init() };
        Some(Signal {
            number,
            is_sent: info.si_code <= 0,
        })
    }

    /// Gives the mask back that this process was started with. For a child, before it becomes another
    /// program.
    pub(super) fn restore(&self) -> std::io::Result<()> {
        let before = &raw const self.before;
        // SAFETY: a set that was filled in by the same call.
        match unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before, std::ptr::null_mut()) } {
            0 => Ok(()),
            error => Err(std::io::Error::from_raw_os_error(error)),
        }
    }
}

/// Whether a signal that asks for an end waits to be taken.
pub(super) fn is_end_pending() -> bool {
    let mut pending = set([]);
    // SAFETY: room for the answer.
    unsafe { libc::sigpending(&raw mut pending) };
    ENDING.iter().any(|&signal| {
        // SAFETY: a set that was filled in, and a valid number.
        unsafe { libc::sigismember(&raw const pending, signal) == 1 }
    })
}

/// The name of a signal that ends programs.
pub(super) fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        libc::SIGHUP => "SIGHUP",
        libc::SIGINT => "SIGINT",
        libc::SIGQUIT => "SIGQUIT",
        libc::SIGILL => "SIGILL",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGFPE => "SIGFPE",
        libc::SIGKILL => "SIGKILL",
        libc::SIGUSR1 => "SIGUSR1",
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGUSR2 => "SIGUSR2",
        libc::SIGPIPE => "SIGPIPE",
        libc::SIGALRM => "SIGALRM",
        libc::SIGTERM => "SIGTERM",
        libc::SIGXCPU => "SIGXCPU",
        libc::SIGXFSZ => "SIGXFSZ",
        libc::SIGSYS => "SIGSYS",
        _ => return None,
    })
}

fn set(signals: impl IntoIterator<Item = i32>) -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: room for the set, which this call fills in.
    unsafe { libc::sigemptyset(set.as_mut_ptr()) };
    for signal in signals {
        // SAFETY: a set that was filled in, and a valid number.
        unsafe { libc::sigaddset(set.as_mut_ptr(), signal) };
    }
    // SAFETY: filled in above.
    unsafe { set.assume_init() }
}

fn is_ignored(signal: i32) -> bool {
    // SAFETY: a structure of numbers, for which zeroes are valid.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: asks only; the place has room for the answer.
    let known = unsafe { libc::sigaction(signal, std::ptr::null(), &raw mut action) } == 0;
    known && action.sa_sigaction == libc::SIG_IGN
}

/// Sends a signal to a child that was not waited for yet.
pub(super) fn send(process: u32, signal: i32) {
    if let Ok(process) = i32::try_from(process) {
        // SAFETY: the number is still the child's.
        unsafe { libc::kill(process, signal) };
    }
}

/// A child's end.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    /// As `wait` tells it.
    pub(super) status: i32,
    /// CPU time of it and of the children that it waited for.
    pub(super) cpu: Duration,
}

/// Whether a child has ended; it is then no more.
///
/// # Errors
/// It is no child of this process.
pub(super) fn reap(process: u32) -> std::io::Result<Option<End>> {
    wait_for(process, libc::WNOHANG)
}

/// Waits for a child's end.
///
/// # Errors
/// It is no child of this process.
pub(super) fn wait(process: u32) -> std::io::Result<End> {
    loop {
        if let Some(end) = wait_for(process, 0)? {
            return Ok(end);
        }
    }
}

fn wait_for(process: u32, options: i32) -> std::io::Result<Option<End>> {
    let process = i32::try_from(process).map_err(std::io::Error::other)?;
    let mut status = 0;
    let mut usage = MaybeUninit::<libc::rusage>::zeroed();
    loop {
        // SAFETY: a number, and room for both answers.
        match unsafe { libc::wait4(process, &raw mut status, options, usage.as_mut_ptr()) } {
            0 => return Ok(None),
            -1 => {
                let error = std::io::Error::last_os_error();
                if error.kind() != std::io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
            _ => break,
        }
    }
    // SAFETY: zeroed before, for which all zero is valid, and filled in by the call.
    let usage = unsafe { usage.assume_init() };
    let time = |time: libc::timeval| {
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        Duration::from_secs(seconds)
            + Duration::from_micros(u64::try_from(time.tv_usec).unwrap_or(0))
    };
    Ok(Some(End {
        status,
        cpu: time(usage.ru_utime) + time(usage.ru_stime),
    }))
}

/// From now on processes whose parent ends before them become this one's children, if they descend from
/// it: so that it knows of all that live, also of those that have not called their allocator yet.
pub(super) fn adopt_orphans() {
    // SAFETY: a flag of this process. Where it is refused, only recorded processes are waited for.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
}

/// Whether a child lives. Those that have ended are no more.
pub(super) fn has_children() -> bool {
    loop {
        // SAFETY: no room for answers is given.
        match unsafe { libc::waitpid(-1, core::ptr::null_mut(), libc::WNOHANG) } {
            0 => return true,
            -1 => {
                let error = std::io::Error::last_os_error();
                if error.kind() != std::io::ErrorKind::Interrupted {
                    return false;
                }
            }
            _ => {}
        }
    }
}

/// CPU time of this process so far.
pub(super) fn cpu_time() -> Duration {
    time_of(libc::CLOCK_PROCESS_CPUTIME_ID)
}

fn time_of(clock: libc::clockid_t) -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: room for the answer.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or(0))
        + Duration::from_nanos(u64::try_from(time.tv_nsec).unwrap_or(0))
}

/// CPU time of the calling thread so far.
pub(super) fn thread_cpu_time() -> Duration {
    time_of(libc::CLOCK_THREAD_CPUTIME_ID)
}

/// Writes memory that another process may write too, or take away, at a place in a file.
///
/// # Errors
/// The system refuses, be it the memory or the place.
pub(super) fn write_shared_at(
    file: &std::fs::File,
    bytes: *const [u8],
    offset: u64,
) -> std::io::Result<()> {
    use std::os::fd::AsRawFd as _;
    let mut written = 0;
    while written < bytes.len() {
        let at = libc::off_t::try_from(offset + written as u64).map_err(std::io::Error::other)?;
        let from = bytes.cast::<u8>().wrapping_add(written).cast();
        // SAFETY: an open file; the kernel alone reads the memory, and refuses what is not there.
        match unsafe { libc::pwrite(file.as_raw_fd(), from, bytes.len() - written, at) } {
            0 => return Err(std::io::ErrorKind::WriteZero.into()),
            -1 => {
                let error = std::io::Error::last_os_error();
                if error.kind() != std::io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
            count => written += count.unsigned_abs(),
        }
    }
    Ok(())
}

/// Sleeps while a word that other processes have mapped too holds this value, at most so long; may
/// return at any time.
pub(super) fn futex_wait(word: &AtomicU32, value: u32, within: Duration) {
    let timeout = libc::timespec {
        tv_sec: libc::time_t::try_from(within.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(within.subsec_nanos().cast_signed()),
    };
    // SAFETY: the word and the time live as long as the call.
    unsafe {
        libc::syscall(
            libc::SYS_futex,
            word.as_ptr(),
            libc::FUTEX_WAIT,
            value,
            &raw const timeout,
        );
    }
}

/// Wakes one that sleeps on the word.
pub(super) fn futex_wake(word: &AtomicU32) {
    // SAFETY: the word lives as long as the call.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), libc::FUTEX_WAKE, 1) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocked_signal_waits_and_tells_its_sender() {
        // In a thread of its own, whose mask ends with it.
        let told = std::thread::spawn(|| {
            let signals = Signals::block();
            // SAFETY: this thread, and a signal that it has blocked.
            unsafe { libc::pthread_kill(libc::pthread_self(), libc::SIGUSR1) };
            let told = signals.next(Duration::from_secs(10));
            assert!(!is_end_pending());
            signals.restore().expect("the mask is sound");
            told
        });
        let expected = Signal {
            number: libc::SIGUSR1,
            is_sent: true,
        };
        assert_eq!(told.join().expect("no panic"), Some(expected));
        assert!(!expected.ends());
    }
}
