//! One child process: started in a group of its own, watched, killed together with all it started
//! when its time is up, its memory too large, or the user interrupts.

use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use super::family::{Family, Mark};
use super::interrupt;

/// When a child is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// After this time.
    pub timeout: Duration,
    /// When it and all it started have more than this resident.
    pub memory_bytes: Option<u64>,
}

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It ended by itself.
    Exited(i32),
    /// A signal ended it.
    Signalled(i32),
    /// It was killed at the time limit.
    TimedOut,
    /// It was killed at the memory limit.
    OutOfMemory {
        /// What it and all it started had resident when that was seen.
        resident_bytes: u64,
        /// The limit.
        limit_bytes: u64,
    },
    /// It was killed because the user interrupted.
    Interrupted,
    /// It was found stopped by a signal, where that is looked for.
    Stopped,
}

/// A child's end and what the kernel counted.
#[derive(Clone, Copy, Debug)]
pub struct Finished {
    /// How it ended.
    pub ending: Ending,
    /// Page faults without input or output.
    pub minor_faults: u64,
    /// Page faults with input or output.
    pub major_faults: u64,
    /// Forced context switches.
    pub involuntary_switches: u64,
    /// Context switches when it waited.
    pub voluntary_switches: u64,
    /// Processes that it started, as far as that is known.
    pub started_processes: u32,
    /// Whether it ignored the end of processes that it may have started, so that none of them is
    /// known.
    pub forgets_processes: bool,
}

/// How often the flag of `interrupt` is looked at.
const POLL_MILLISECONDS_MAX: u64 = 50;
/// How often memory is looked at when the limit is near.
const POLL_MILLISECONDS_MIN: u64 = 5;
/// No machine's processes take memory faster: bytes in a millisecond.
const FASTEST_BYTES: u64 = 16 << 20;
/// How often new processes of the child's are looked for.
const FAMILY_PERIOD: Duration = Duration::from_millis(100);
/// No file that a child writes may be larger: what a faulty one says shall not fill the disk. The
/// files that it answers in are made, in full size, by the parent.
const FILE_LIMIT_BYTES: u64 = 64 << 20;

/// Starts the command and waits for its end.
///
/// # Errors
/// The system does not let it be started or watched.
pub fn run(mut command: Command, limits: Limits) -> std::io::Result<Finished> {
    let mark = Mark::new(FILE_LIMIT_BYTES);
    command.process_group(0);
    // SAFETY: between fork and exec only functions are called that are async-signal-safe.
    unsafe {
        command.pre_exec(move || {
            mark.set()?;
            restrain()
        })
    };
    let deadline = Instant::now() + limits.timeout;
    let child = command.spawn()?;
    let pid = i32::try_from(child.id()).expect("a process id fits its own type");
    let mut family = Family::new(pid, mark);
    let watched = wait_until(pid, deadline, limits.memory_bytes, &mut family);
    family.look();
    let started_processes = u32::try_from(family.others_started()).unwrap_or(u32::MAX);
    let forgets_processes = family.forgets_children();
    // The child, if it is still there, and whatever it started and left behind in its group; the
    // child itself as well, since it may have left the group. An ended child's own status is not
    // changed by this.
    // SAFETY: the child is not reaped yet, so both numbers are still its own.
    unsafe {
        libc::kill(-pid, libc::SIGKILL);
        libc::kill(pid, libc::SIGKILL);
    }
    let (status, usage) = reap(pid)?;
    family.kill_others();
    let ending = match (watched?, status.code(), status.signal()) {
        (Some(killed), ..) => killed,
        (None, Some(code), _) => Ending::Exited(code),
        (None, None, signal) => Ending::Signalled(signal.unwrap_or(0)),
    };
    Ok(Finished {
        ending,
        minor_faults: u64::try_from(usage.ru_minflt).unwrap_or(0),
        major_faults: u64::try_from(usage.ru_majflt).unwrap_or(0),
        involuntary_switches: u64::try_from(usage.ru_nivcsw).unwrap_or(0),
        voluntary_switches: u64::try_from(usage.ru_nvcsw).unwrap_or(0),
        started_processes,
        forgets_processes,
    })
}

/// What a child is before it becomes a program: it does not outlive a parent that is killed, leaves
/// no core file in the user's folder, and is the first to go when memory runs out.
pub(super) fn restrain() -> std::io::Result<()> {
    let none = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: numbers, a valid rlimit, and terminated or counted bytes; all of them system calls.
    // None of them is needed for a right result, so failures are left alone.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        libc::setrlimit(libc::RLIMIT_CORE, &raw const none);
        let file = libc::open(c"/proc/self/oom_score_adj".as_ptr(), libc::O_WRONLY);
        if file >= 0 {
            libc::write(file, c"1000".as_ptr().cast(), 4);
            libc::close(file);
        }
    }
    Ok(())
}

/// Waits until the child ends (`None`) or must be killed.
pub(super) fn wait_until(
    pid: i32,
    deadline: Instant,
    limit_bytes: Option<u64>,
    family: &mut Family,
) -> std::io::Result<Option<Ending>> {
    let end = End::of(pid)?;
    let mut looked = Instant::now();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if interrupt::requested() {
            return Ok(Some(Ending::Interrupted));
        }
        if left.is_zero() {
            return Ok(Some(Ending::TimedOut));
        }
        let mut slice = POLL_MILLISECONDS_MAX;
        if let Some(limit_bytes) = limit_bytes {
            if looked.elapsed() >= FAMILY_PERIOD {
                family.look();
                looked = Instant::now();
            }
            let resident_bytes = family.resident_bytes(limit_bytes);
            if resident_bytes > limit_bytes {
                return Ok(Some(Ending::OutOfMemory {
                    resident_bytes,
                    limit_bytes,
                }));
            }
            slice = look_again_milliseconds(limit_bytes, resident_bytes);
        }
        if end.comes_within(left.min(Duration::from_millis(slice)))? {
            return Ok(None);
        }
    }
}

/// Waits for the supervisor of a program: as [`wait_until`], which looks at memory itself, and also
/// until it is stopped, by the program that it supervises for instance.
pub(super) fn wait_for_supervisor(
    pid: i32,
    deadline: Instant,
    family: &Family,
) -> std::io::Result<Option<Ending>> {
    let end = End::of(pid)?;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if interrupt::requested() {
            return Ok(Some(Ending::Interrupted));
        }
        if left.is_zero() {
            return Ok(Some(Ending::TimedOut));
        }
        if family.is_stopped() {
            return Ok(Some(Ending::Stopped));
        }
        if end.comes_within(left.min(Duration::from_millis(POLL_MILLISECONDS_MAX)))? {
            return Ok(None);
        }
    }
}

/// Time until memory must be looked at again. Far below the limit a look now and then is enough, and
/// disturbs less.
pub(super) fn look_again_milliseconds(limit_bytes: u64, resident_bytes: u64) -> u64 {
    (limit_bytes.saturating_sub(resident_bytes) / FASTEST_BYTES)
        .clamp(POLL_MILLISECONDS_MIN, POLL_MILLISECONDS_MAX)
}

/// The end of a child, to be waited for; the child is not reaped by that.
pub(super) struct End(OwnedFd);

impl End {
    pub(super) fn of(pid: i32) -> std::io::Result<Self> {
        // SAFETY: takes numbers and returns a new descriptor or -1.
        let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
        if descriptor < 0 {
            return Err(std::io::Error::last_os_error());
        }
        let descriptor = i32::try_from(descriptor).unwrap_or(-1);
        // SAFETY: the kernel has just given this descriptor to us alone.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(descriptor) }))
    }

    /// Whether it has come, or comes in this time. A signal may cut the time short.
    pub(super) fn comes_within(&self, time: Duration) -> std::io::Result<bool> {
        let mut poll = libc::pollfd {
            fd: self.0.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        let milliseconds = time.as_micros().div_ceil(1000);
        let milliseconds = i32::try_from(milliseconds).unwrap_or(i32::MAX);
        // SAFETY: one valid pollfd.
        let ready = unsafe { libc::poll(&raw mut poll, 1, milliseconds) };
        if ready >= 0 {
            return Ok(ready > 0);
        }
        let error = std::io::Error::last_os_error();
        match error.kind() {
            std::io::ErrorKind::Interrupted => Ok(false),
            _ => Err(error),
        }
    }
}

fn reap(pid: i32) -> std::io::Result<(ExitStatus, libc::rusage)> {
    let mut status = 0;
    // SAFETY: a structure of numbers, for which zeroes are valid.
    let mut usage: libc::rusage = unsafe { core::mem::zeroed() };
    loop {
        // SAFETY: both places have room for the results.
        let reaped = unsafe { libc::wait4(pid, &raw mut status, 0, &raw mut usage) };
        if reaped == pid {
            return Ok((ExitStatus::from_raw(status), usage));
        }
        let error = std::io::Error::last_os_error();
        if error.kind() != std::io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// "SIGSEGV" and the like.
pub fn signal_name(signal: i32) -> String {
    let known = match signal {
        libc::SIGSEGV => "SIGSEGV",
        libc::SIGABRT => "SIGABRT",
        libc::SIGBUS => "SIGBUS",
        libc::SIGILL => "SIGILL",
        libc::SIGFPE => "SIGFPE",
        libc::SIGKILL => "SIGKILL (out of memory?)",
        libc::SIGTERM => "SIGTERM",
        libc::SIGTRAP => "SIGTRAP",
        libc::SIGSYS => "SIGSYS",
        libc::SIGXFSZ => "SIGXFSZ (it wrote a larger file than it may)",
        _ => return format!("signal {signal}"),
    };
    known.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endings_are_told_apart() {
        let shell = |script: &str| {
            let mut command = Command::new("sh");
            command.args(["-c", script]);
            command
        };
        let limits = |timeout| Limits {
            timeout,
            memory_bytes: None,
        };
        let minute = limits(Duration::from_secs(60));
        assert_eq!(
            run(shell("exit 3"), minute).expect("sh").ending,
            Ending::Exited(3)
        );
        assert_eq!(
            run(shell("kill -SEGV $$"), minute).expect("sh").ending,
            Ending::Signalled(libc::SIGSEGV)
        );
        // The grandchild keeps no one waiting: the whole group dies.
        let start = Instant::now();
        let soon = limits(Duration::from_millis(100));
        let finished = run(shell("sleep 1000 & sleep 1000"), soon);
        assert_eq!(finished.expect("sh").ending, Ending::TimedOut);
        assert!(start.elapsed() < minute.timeout);
    }

    #[test]
    fn what_leaves_its_group_and_its_parent_is_found_and_killed() {
        let folder = tempfile::tempdir().expect("a folder");
        let told = folder.path().join("pid");
        // Written by a process in a session of its own whose parent has ended.
        let script = format!(
            "setsid sh -c 'echo $$ > {0}.new; mv {0}.new {0}; exec sleep 1000' & \
             while ! [ -e {0} ]; do sleep 0.01; done",
            told.display()
        );
        let mut command = Command::new("sh");
        command.args(["-c", &script]);
        let limits = Limits {
            timeout: Duration::from_secs(60),
            memory_bytes: Some(u64::MAX),
        };
        let finished = run(command, limits).expect("sh");
        assert_eq!(finished.ending, Ending::Exited(0));
        assert!(finished.started_processes >= 1);
        let pid = std::fs::read_to_string(&told).expect("written");
        let place = format!("/proc/{}", pid.trim());
        assert!(!std::path::Path::new(&place).exists(), "{place}");
    }

    #[test]
    fn memory_of_all_processes_together_is_limited() {
        // Each below the limit; what they share is counted once, so they must make their own. Of a last
        // command a shell may become the process, which has none of it.
        let eat = "x=$(head -c 20000000 /dev/zero | tr '\\0' x); sleep 1000; true";
        let script = format!("({eat}) & ({eat}) & ({eat}) & wait");
        let mut command = Command::new("sh");
        command.args(["-c", &script]);
        let limit_bytes = 48_000_000;
        let limits = Limits {
            timeout: Duration::from_secs(60),
            memory_bytes: Some(limit_bytes),
        };
        match run(command, limits).expect("sh").ending {
            Ending::OutOfMemory { resident_bytes, .. } => assert!(resident_bytes > limit_bytes),
            other => panic!("{other:?}"),
        }
    }
}
