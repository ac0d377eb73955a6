//! All processes of one sample: the child and whatever it started, also what left its process group
//! or session, or whose own parent is gone.
//!
//! A process that loses its parent becomes a child of this one (a "subreaper"). Among the children
//! of this process a sample's are known by a mark in their environment, which a fork copies.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// Environment variable that carries the mark.
const MARK_NAME: &str = "MYMALLOC_SAMPLE";
/// Rounds of killing after which whatever forks faster than it is killed is left.
const ROUNDS: u32 = 200;

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A mark that no other sample on this machine bears; always of the same length, so that it does not
/// move the child's stack.
#[derive(Clone, Debug)]
pub(super) struct Mark(String);

impl Mark {
    /// A new one; from here on, orphans of this process's children are its own children.
    pub(super) fn new() -> Self {
        // SAFETY: numbers only. Where it fails, orphans that left their group go undetected.
        unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) };
        let number = NUMBER.fetch_add(1, Relaxed);
        Self(format!("{:010}-{number:010}", std::process::id()))
    }

    /// Name and value for the child's environment.
    pub(super) fn variable(&self) -> (&'static str, OsString) {
        (MARK_NAME, self.0.clone().into())
    }

    fn is_on(&self, pid: i32) -> bool {
        let wanted = format!("{MARK_NAME}={}", self.0);
        fs::read(format!("/proc/{pid}/environ")).is_ok_and(|environment| {
            environment
                .split(|byte| *byte == 0)
                .any(|variable| variable == wanted.as_bytes())
        })
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

    /// Processes besides the child that live.
    pub(super) fn others_alive(&self) -> usize {
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
            self.look();
            for (pid, start) in &self.others {
                if is_alive(*pid, *start) {
                    // SAFETY: numbers. It is the process meant, or one that took its number in the
                    // last microseconds, after the kernel went once through all the others.
                    unsafe { libc::kill(*pid, libc::SIGKILL) };
                }
                // SAFETY: as above; only a child of this process, as orphans become, is waited for.
                unsafe { libc::waitpid(*pid, std::ptr::null_mut(), libc::WNOHANG) };
            }
            if self.others_alive() == 0 {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
}

/// What `/proc/PID/stat` says.
struct Stat {
    state: u8,
    start: u64,
}

impl Stat {
    fn of(pid: i32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name stands in parentheses and may hold anything.
        let (_, after) = text.rsplit_once(") ")?;
        let mut fields = after.split(' ');
        let state = *fields.next()?.as_bytes().first()?;
        // Field 22 of proc(5), the state being field 3.
        let start = fields.nth(18)?.parse().ok()?;
        Some(Self { state, start })
    }
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
