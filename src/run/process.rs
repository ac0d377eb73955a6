//! One child process: started in a group of its own, watched, killed together with that group when
//! its time is up or the user interrupts.

use std::os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use super::interrupt;

/// How a child ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It ended by itself.
    Exited(i32),
    /// A signal ended it.
    Signalled(i32),
    /// It was killed at the time limit.
    TimedOut,
    /// It was killed because the user interrupted.
    Interrupted,
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
}

/// How often the flag of `interrupt` is looked at.
const POLL_MILLISECONDS: u128 = 50;

/// Starts the command and waits for its end.
pub fn run(mut command: Command, timeout: Duration) -> std::io::Result<Finished> {
    command.process_group(0);
    // SAFETY: between fork and exec only functions are called that are async-signal-safe.
    unsafe { command.pre_exec(restrain) };
    let deadline = Instant::now() + timeout;
    let child = command.spawn()?;
    let pid = i32::try_from(child.id()).expect("a process id fits its own type");
    let watched = wait_until(pid, deadline);
    // The child, if it is still there, and whatever it started and left behind in its group; the
    // child itself as well, since it may have left the group. An ended child's own status is not
    // changed by this.
    // SAFETY: the child is not reaped yet, so both numbers are still its own.
    unsafe {
        libc::kill(-pid, libc::SIGKILL);
        libc::kill(pid, libc::SIGKILL);
    }
    let (status, usage) = reap(pid)?;
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
    })
}

/// What a child is before it becomes a program: it does not outlive a parent that is killed, leaves
/// no core file in the user's folder, and is the first to go when memory runs out.
fn restrain() -> std::io::Result<()> {
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
fn wait_until(pid: i32, deadline: Instant) -> std::io::Result<Option<Ending>> {
    // SAFETY: takes numbers and returns a new descriptor or -1.
    let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if descriptor < 0 {
        return Err(std::io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given this descriptor to us alone.
    let descriptor = unsafe { OwnedFd::from_raw_fd(i32::try_from(descriptor).unwrap_or(-1)) };
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if interrupt::requested() {
            return Ok(Some(Ending::Interrupted));
        }
        if left.is_zero() {
            return Ok(Some(Ending::TimedOut));
        }
        let slice = (left.as_millis() + 1).min(POLL_MILLISECONDS) as i32;
        let mut poll = libc::pollfd {
            fd: descriptor.as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one valid pollfd.
        let ready = unsafe { libc::poll(&raw mut poll, 1, slice) };
        if ready > 0 {
            return Ok(None);
        }
        if ready < 0 {
            let error = std::io::Error::last_os_error();
            if error.kind() != std::io::ErrorKind::Interrupted {
                return Err(error);
            }
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
        let minute = Duration::from_secs(60);
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
        let finished = run(shell("sleep 1000 & sleep 1000"), Duration::from_millis(100));
        assert_eq!(finished.expect("sh").ending, Ending::TimedOut);
        assert!(start.elapsed() < minute);
    }
}
