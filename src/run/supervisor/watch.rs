//! The watch thread of a supervisor: looks at the tree from `/proc`, and kills it when it must go.
//!
//! A look at the resident pages of a process (`statm`) takes microseconds whatever its size and stops
//! nobody. One at its share of them (PSS) walks its page tables, the longer the more it holds, and
//! makes it wait where it maps memory: it is for the memory pass, and for the moment at which the tree
//! may be above its limit.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Acquire};
use std::time::{Duration, Instant};

use memmap2::Mmap;

use super::{Found, Looks, Order, ProgramEnding, Seen};
use crate::run::family::ignores_children;
use crate::run::process::look_again_milliseconds;
use crate::run::process_tree::{self as tree, Usage};
use crate::subject::functions::function_names;
use crate::subject::object_file::own_allocator;

/// In a timed run looks take at most this part of one processor.
const TIMED_QUIET_FACTOR: u32 = 19;
/// Time between two looks when nothing is timed, at least.
const UNTIMED_INTERVAL: Duration = Duration::from_millis(1);
/// Looks at the share of a tree that may be above its limit, at most: one sixth of a processor.
const SHARE_QUIET_FACTOR: u32 = 5;

/// See the module text.
pub(super) struct Watch<'a> {
    order: &'a Order,
    start: Instant,
    sum_peak_bytes: u64,
    processes_peak: u32,
    looks: u64,
    /// Why the tree is being killed.
    pub(super) killed: Option<ProgramEnding>,
    /// CPU time of each process when it was last seen, by its number and start.
    times: HashMap<(u32, u64), Duration>,
    forgetful: Option<String>,
    executables: HashMap<u32, Vec<Seen>>,
    /// When the share of a tree that may be above its limit is looked at next.
    next_share: Instant,
}

impl<'a> Watch<'a> {
    pub(super) fn new(order: &'a Order, start: Instant) -> Self {
        Self {
            order,
            start,
            sum_peak_bytes: 0,
            processes_peak: 0,
            looks: 0,
            killed: None,
            times: HashMap::new(),
            forgetful: None,
            executables: HashMap::new(),
            next_share: start,
        }
    }

    /// Until all processes have ended.
    pub(super) fn run(&mut self, done: &AtomicBool) {
        // Acquire: pairs with the Release store of the thread that reaps.
        while !done.load(Acquire) {
            let before = thread_cpu_time();
            let processes = tree::descendants();
            let mut resident_bytes = 0;
            if self.killed.is_none() {
                resident_bytes = self.look(&processes);
                self.judge(&processes);
            }
            if self.killed.is_some() {
                // Again at each turn: a process may have been starting another.
                kill_all(&processes);
            }
            let cost = thread_cpu_time().saturating_sub(before);
            std::thread::park_timeout(self.pause(resident_bytes, cost));
        }
    }

    pub(super) fn into_found(self, ending: ProgramEnding) -> Found {
        let seen_cpu: Duration = self.times.values().sum();
        Found {
            rss_sum_peak_bytes: self.sum_peak_bytes,
            processes_peak: self.processes_peak,
            looks: self.looks,
            seen_cpu_ns: u64::try_from(seen_cpu.as_nanos()).unwrap_or(u64::MAX),
            forgetful: self.forgetful,
            executables: self.executables.into_values().flatten().collect(),
            ..Found::nothing(ending)
        }
    }

    /// Time until the next look.
    fn pause(&self, resident_bytes: u64, cost: Duration) -> Duration {
        if self.killed.is_some() {
            return UNTIMED_INTERVAL;
        }
        match self.order.looks {
            Looks::Limits => timed_pause(self.order.memory_limit_bytes, resident_bytes, cost),
            Looks::Memory | Looks::Objects => UNTIMED_INTERVAL,
        }
    }

    /// Looks at all processes, and returns what they hold together: what they share counted for each,
    /// unless it had to be known better.
    fn look(&mut self, processes: &[u32]) -> u64 {
        let living: Vec<(u32, Usage)> = processes
            .iter()
            .filter_map(|process| Some((*process, tree::usage(*process)?)))
            .collect();
        for (process, usage) in &living {
            let used = self.times.entry((*process, usage.start)).or_default();
            *used = (*used).max(usage.cpu);
            if self.order.looks == Looks::Objects {
                self.look_at_executable(*process);
            }
        }
        self.look_for_the_forgetful(&living);
        self.looks += 1;
        let holding = living.iter().filter(|(_, usage)| usage.resident_bytes > 0);
        let count = u32::try_from(holding.count()).unwrap_or(u32::MAX);
        self.processes_peak = self.processes_peak.max(count);
        self.weigh(&living)
    }

    fn weigh(&mut self, living: &[(u32, Usage)]) -> u64 {
        let plain_bytes: u64 = living.iter().map(|(_, usage)| usage.resident_bytes).sum();
        let shares = || -> u64 {
            let share = |(process, _): &(u32, Usage)| tree::pss_bytes(*process);
            living.iter().filter_map(share).sum()
        };
        if self.order.looks == Looks::Memory {
            let bytes = shares();
            self.sum_peak_bytes = self.sum_peak_bytes.max(bytes);
            self.limit(bytes);
            return bytes;
        }
        let Some(limit_bytes) = self.order.memory_limit_bytes else {
            return plain_bytes;
        };
        if plain_bytes <= limit_bytes {
            return plain_bytes;
        }
        // Of memory without a file a process shares some with its relatives only, all of them here: the
        // tree holds at least what any one of them has.
        let largest = living.iter().map(|(_, usage)| usage.private_bytes).max();
        if self.processes_peak <= 1 || largest.unwrap_or(0) > limit_bytes {
            self.limit(plain_bytes);
        } else if Instant::now() >= self.next_share {
            let begin = Instant::now();
            self.limit(shares());
            self.next_share = Instant::now() + begin.elapsed() * SHARE_QUIET_FACTOR;
        }
        plain_bytes
    }

    fn limit(&mut self, bytes: u64) {
        if self
            .order
            .memory_limit_bytes
            .is_some_and(|limit| bytes > limit)
        {
            self.killed = Some(ProgramEnding::OutOfMemory(bytes));
        }
    }

    /// A process with children that lets the kernel forget them: their time would be missing.
    fn look_for_the_forgetful(&mut self, living: &[(u32, Usage)]) {
        if self.forgetful.is_some() {
            return;
        }
        let is_parent = |process: u32| living.iter().any(|(_, usage)| usage.parent == process);
        let forgets = |process: u32| i32::try_from(process).is_ok_and(ignores_children);
        let found = living
            .iter()
            .find(|(process, _)| is_parent(*process) && forgets(*process));
        self.forgetful = found.and_then(|(process, _)| tree::name(*process));
    }

    fn look_at_executable(&mut self, process: u32) {
        let Some((path, file)) = tree::executable(process) else {
            return;
        };
        if !self
            .order
            .measured
            .iter()
            .any(|measured| measured.is(&path))
        {
            return;
        }
        let known = self.executables.entry(process).or_default();
        if known.last().is_none_or(|last| last.path != path) {
            known.push(Seen {
                process,
                own_allocator: refuses_preloads(&path, &file),
                path,
                has_object: false,
                looks: 0,
            });
        }
        if let (Some(last), Some(object)) = (known.last_mut(), &self.order.object)
            && !last.has_object
        {
            last.looks += 1;
            last.has_object = tree::has_mapped(process, object) == Some(true);
        }
    }

    fn judge(&mut self, processes: &[u32]) {
        if suite_is_gone() {
            self.killed = Some(ProgramEnding::Signalled(libc::SIGKILL));
        }
        if self.killed.is_none() && self.start.elapsed() > self.order.timeout {
            let names = processes.iter().filter_map(|process| tree::name(*process));
            self.killed = Some(ProgramEnding::TimedOut(names.collect()));
        }
    }
}

/// Time between two looks of a timed run: short near the limit, whatever the size of the processes.
fn timed_pause(limit_bytes: Option<u64>, resident_bytes: u64, cost: Duration) -> Duration {
    let limit_bytes = limit_bytes.unwrap_or(u64::MAX);
    let milliseconds = look_again_milliseconds(limit_bytes, resident_bytes);
    Duration::from_millis(milliseconds).max(cost * TIMED_QUIET_FACTOR)
}

/// Why no preloaded object can serve an executable, if so.
pub(in crate::run) fn refuses_preloads(path: &Path, file: &File) -> Option<String> {
    let mode = file.metadata().ok()?.permissions().mode();
    if mode & (libc::S_ISUID | libc::S_ISGID) != 0 {
        let reason = "is setuid or setgid, for which the dynamic linker ignores preloads";
        return Some(format!("{} {reason}", path.display()));
    }
    // SAFETY: mapped for reading only; executables that run are not written to (ETXTBSY), and one that
    // is removed stays as long as it is open.
    let content = unsafe { Mmap::map(file) }.ok()?;
    let reason = own_allocator(&content, &function_names())?;
    Some(format!("{} {reason}", path.display()))
}

/// Whether the other end of the pipe on standard input is closed. Nothing is ever written to it.
pub(super) fn suite_is_gone() -> bool {
    let mut poll = libc::pollfd {
        fd: 0,
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one valid pollfd.
    let ready = unsafe { libc::poll(&raw mut poll, 1, 0) };
    ready > 0 && poll.revents & (libc::POLLHUP | libc::POLLERR | libc::POLLNVAL) != 0
}

fn kill_all(processes: &[u32]) {
    for process in processes {
        if let Ok(process) = i32::try_from(*process) {
            // SAFETY: takes numbers. They are descendants of this process, of which those directly
            // below it are reaped by it alone; a number further down that was given to a new process
            // in the microseconds since would have to be of our own user.
            unsafe { libc::kill(process, libc::SIGKILL) };
        }
    }
}

/// CPU time of the calling thread.
fn thread_cpu_time() -> Duration {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the place has room for the result; the clock exists since Linux 2.6.12.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec.max(0) as u64, time.tv_nsec.max(0) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_come_sooner_near_the_limit_whatever_the_size() {
        let cost = Duration::from_micros(100);
        let pause = |limit, resident| timed_pause(Some(limit), resident, cost);
        let gib = 1 << 30;
        assert_eq!(pause(8 * gib, 0), Duration::from_millis(50));
        assert_eq!(pause(64 * gib, 63 * gib), Duration::from_millis(50));
        assert_eq!(pause(gib, gib - (16 << 20)), Duration::from_millis(5));
        assert_eq!(pause(64 * gib, 64 * gib), Duration::from_millis(5));
        assert_eq!(timed_pause(None, gib, cost), Duration::from_millis(50));
        // Thousands of processes: looking takes a twentieth of a processor all the same.
        let long = Duration::from_millis(10);
        assert_eq!(timed_pause(Some(gib), gib, long), long * 19);
    }
}
