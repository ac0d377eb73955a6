//! All processes of one sample: the child and whatever it started, also what left its process group
//! or session, or whose own parent is gone.
//!
//! A process that loses its parent becomes a child of this one (a "subreaper"). Among the children
//! of this process a sample's are known by a mark that each process inherits, whatever it executes
//! and whatever its environment: its own limit of the size of files.

use std::collections::BTreeMap;
use std::fs;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// So many marks are told apart; far fewer samples run at once.
const MARKS: u64 = 1 << 14;
/// Rounds of killing after which whatever forks faster than it is killed is left.
const ROUNDS: u32 = 200;

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A limit of the size of files (RLIMIT_FSIZE) that no other sample of this process has. It also
/// keeps a sample from filling the disk, with what it writes to standard error for instance.
#[derive(Clone, Copy, Debug)]
pub(super) struct Mark {
    bytes: u64,
}

impl Mark {
    /// A new one, slightly below `file_bytes`; from here on, orphans of this process's children are
    /// its own children.
    pub(super) fn new(file_bytes: u64) -> Self {
        // SAFETY: numbers only. Where it fails, orphans that left their group go undetected.
        unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) };
        let mut own = libc::rlimit {
            rlim_cur: 0,
            rlim_max: 0,
        };
        // SAFETY: the place has room for the result.
        let known = unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &raw mut own) } == 0;
        // A process cannot raise what it inherited.
        let largest = if known { own.rlim_max } else { u64::MAX };
        let number = u64::from(NUMBER.fetch_add(1, Relaxed)) % MARKS;
        Self {
            bytes: file_bytes.min(largest).saturating_sub(number),
        }
    }

    /// Marks the calling process, and whatever it starts. Async-signal-safe.
    pub(super) fn set(self) -> std::io::Result<()> {
        let limit = libc::rlimit {
            rlim_cur: self.bytes,
            rlim_max: self.bytes,
        };
        // SAFETY: a valid limit.
        match unsafe { libc::setrlimit(libc::RLIMIT_FSIZE, &raw const limit) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    }

    /// Whether a process bears it; one that has ended and was not waited for still does.
    fn is_on(self, pid: i32) -> bool {
        let text = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap_or_default();
        let limits = text
            .lines()
            .find_map(|line| line.strip_prefix("Max file size"));
        let soft = limits.and_then(|words| words.split_whitespace().next());
        soft.is_some_and(|soft| soft.parse() == Ok(self.bytes))
    }
}

/// See the module text.
#[derive(Debug)]
pub(super) struct Family {
    root: i32,
    mark: Mark,
    /// The others, with their start times: a number that was given to another process is not theirs.
    others: BTreeMap<i32, u64>,
}

impl Family {
    /// Of a child that has just been started.
    pub(super) fn new(root: i32, mark: Mark) -> Self {
        Self {
            root,
            mark,
            others: BTreeMap::new(),
        }
    }

    /// Looks for members that were not known.
    pub(super) fn look(&mut self) {
        let own = i32::try_from(std::process::id()).unwrap_or(0);
        let mut parents: Vec<i32> = self.others.keys().copied().collect();
        parents.push(self.root);
        for orphan in children(own) {
            let known = orphan == self.root || self.others.contains_key(&orphan);
            if !known && self.mark.is_on(orphan) && self.join(orphan) {
                parents.push(orphan);
            }
        }
        while let Some(parent) = parents.pop() {
            for child in children(parent) {
                if !self.others.contains_key(&child) && self.join(child) {
                    parents.push(child);
                }
            }
        }
    }

    fn join(&mut self, pid: i32) -> bool {
        let start = Stat::of(pid).map(|stat| stat.start);
        start.is_some_and(|start| self.others.insert(pid, start).is_none())
    }

    /// Processes besides the child that were seen, living or not; at least one if the child waited
    /// for some that were not.
    pub(super) fn others_started(&self) -> usize {
        let waited = Stat::of(self.root).is_some_and(|stat| stat.has_waited);
        self.others.len().max(usize::from(waited))
    }

    /// Whether the child lets the kernel forget its children without waiting for them (SIGCHLD is
    /// ignored), so that those it started may have gone unseen.
    pub(super) fn forgets_children(&self) -> bool {
        ignores_children(self.root)
    }

    /// Whether a signal has stopped the child.
    pub(super) fn is_stopped(&self) -> bool {
        Stat::of(self.root).is_some_and(|stat| stat.state == b'T')
    }

    fn others_alive(&self) -> usize {
        let living = |(pid, start): (&i32, &u64)| is_alive(*pid, *start);
        self.others.iter().filter(|other| living(*other)).count()
    }

    /// Resident memory of all members. What several of them share is counted once, but only looked at
    /// that closely when the plain sum is above `limit_bytes`.
    pub(super) fn resident_bytes(&self, limit_bytes: u64) -> u64 {
        let page_bytes = super::experiment::page_size_bytes();
        let members = || self.others.keys().copied().chain([self.root]);
        let plain: u64 = members().map(|pid| resident_pages(pid) * page_bytes).sum();
        if plain <= limit_bytes || self.others.is_empty() {
            return plain;
        }
        members()
            .map(|pid| proportional_bytes(pid).unwrap_or(resident_pages(pid) * page_bytes))
            .sum()
    }

    /// Kills every member but the child itself, which must have been reaped, until there are none.
    pub(super) fn kill_others(&mut self) {
        for _ in 0..ROUNDS {
            // One that ends while it is looked for hands its children on, to where they may just have
            // been looked for: only a look that began when all had ended shows that none is left.
            let had_ended = self.others_alive() == 0;
            for pid in self.others.keys() {
                // SAFETY: numbers; only a child of this process, as orphans become, is waited for.
                unsafe { libc::waitpid(*pid, std::ptr::null_mut(), libc::WNOHANG) };
            }
            let known = self.others.len();
            self.look();
            if had_ended && self.others.len() == known {
                return;
            }
            for (pid, start) in &self.others {
                if is_alive(*pid, *start) {
                    // SAFETY: numbers. It is the process meant, or one that took its number in the
                    // last microseconds, after the kernel went once through all the others.
                    unsafe { libc::kill(*pid, libc::SIGKILL) };
                }
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
}

/// What `/proc/PID/stat` says.
struct Stat {
    state: u8,
    start: u64,
    /// Whether it has waited for a child: each has page faults.
    has_waited: bool,
}

impl Stat {
    fn of(pid: i32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name stands in parentheses and may hold anything.
        let (_, after) = text.rsplit_once(") ")?;
        // Fields by their numbers in proc(5).
        let field = |number: usize| after.split(' ').nth(number - 3);
        let count = |number: usize| field(number)?.parse::<u64>().ok();
        Some(Self {
            state: *field(3)?.as_bytes().first()?,
            start: count(22)?,
            has_waited: count(11)? + count(13)? > 0,
        })
    }
}

/// Whether a process ignores SIGCHLD; the kernel then neither keeps its children for it to wait for
/// nor adds their time to its own.
pub(super) fn ignores_children(pid: i32) -> bool {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    mask.is_some_and(|mask| mask & 1 << (libc::SIGCHLD - 1) != 0)
}

fn is_alive(pid: i32, start: u64) -> bool {
    Stat::of(pid).is_some_and(|stat| stat.start == start && !matches!(stat.state, b'Z' | b'X'))
}

/// Children of all threads of a process; none if the kernel does not tell.
fn children(pid: i32) -> Vec<i32> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return Vec::new();
    };
    let mut children = Vec::new();
    for task in tasks.flatten() {
        if let Ok(text) = fs::read_to_string(task.path().join("children")) {
            children.extend(text.split_whitespace().flat_map(str::parse::<i32>));
        }
    }
    children
}

fn resident_pages(pid: i32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let pages = text.split(' ').nth(1).and_then(|pages| pages.parse().ok());
    pages.unwrap_or(0)
}

/// Its share of what it has resident.
fn proportional_bytes(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kibibytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kibibytes * 1024)
}
