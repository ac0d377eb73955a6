//! The processes below this one, and what they hold, from `/proc`.

#![forbid(unsafe_code)]

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

/// All processes below this one. A process that another of them left behind is below this one too, if
/// this one is a subreaper (`prctl(2)`, PR_SET_CHILD_SUBREAPER).
///
/// Processes that start or end meanwhile may be missing or gone.
pub(super) fn descendants() -> Vec<u32> {
    let own = std::process::id();
    let mut found = Vec::new();
    if children(own, &mut found).is_none() {
        return descendants_by_parents(own);
    }
    let mut next = 0;
    while let Some(process) = found.get(next).copied() {
        // `None`: it has ended.
        let _ = children(process, &mut found);
        next += 1;
    }
    found
}

/// Adds the children of a process, thread by thread: the kernel notes them with the thread that made
/// them. `None` if the process has ended or the kernel keeps no such list (CONFIG_PROC_CHILDREN).
fn children(process: u32, found: &mut Vec<u32>) -> Option<()> {
    let mut listed = None;
    for thread in fs::read_dir(format!("/proc/{process}/task"))
        .ok()?
        .flatten()
    {
        if let Ok(text) = fs::read_to_string(thread.path().join("children")) {
            let numbers = text
                .split_whitespace()
                .filter_map(|word| word.parse::<u32>().ok());
            found.extend(numbers);
            listed = Some(());
        }
    }
    listed
}

/// The same from each process's own word for its parent.
fn descendants_by_parents(own: u32) -> Vec<u32> {
    let parents: Vec<(u32, u32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|process: u32| Some((process, parent(process)?)))
        .collect();
    let mut found = vec![own];
    let mut next = 0;
    while let Some(above) = found.get(next).copied() {
        let below = parents.iter().filter(|(_, parent)| *parent == above);
        found.extend(below.map(|(process, _)| *process));
        next += 1;
    }
    found.split_off(1)
}

fn parent(process: u32) -> Option<u32> {
    stat_fields(&stat(process)?).nth(1)?.parse().ok()
}

fn stat(process: u32) -> Option<String> {
    fs::read_to_string(format!("/proc/{process}/stat")).ok()
}

/// The fields of `/proc/PID/stat` from the third, the state, on: the name before them stands in
/// parentheses and may hold anything.
fn stat_fields(text: &str) -> impl Iterator<Item = &str> {
    text.rsplit_once(')')
        .map_or("", |(_, rest)| rest)
        .split_whitespace()
}

/// What a process is and has used, cheaply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Usage {
    /// Its parent.
    pub(super) parent: u32,
    /// When it started, in ticks since the machine did: tells it from an older one of its number.
    pub(super) start: u64,
    /// CPU time, without its children's; rounded down to ticks.
    pub(super) cpu: Duration,
    /// Resident memory, shared or not.
    pub(super) resident_bytes: u64,
    /// Of that, what no file is behind.
    pub(super) private_bytes: u64,
}

/// `None` if the process has ended.
pub(super) fn usage(process: u32) -> Option<Usage> {
    let stat = stat(process)?;
    let fields: Vec<&str> = stat_fields(&stat).collect();
    // By their numbers in proc(5).
    let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
    let statm = fs::read_to_string(format!("/proc/{process}/statm")).ok()?;
    let mut pages = statm.split_whitespace().skip(1).map(str::parse::<u64>);
    let (resident, shared) = (pages.next()?.ok()?, pages.next()?.ok()?);
    let page_bytes = super::experiment::page_size_bytes();
    let ticks = (field(14)? + field(15)?) as f64;
    Some(Usage {
        parent: u32::try_from(field(4)?).ok()?,
        start: field(22)?,
        cpu: Duration::from_secs_f64(ticks / procfs::ticks_per_second() as f64),
        resident_bytes: resident * page_bytes,
        private_bytes: resident.saturating_sub(shared) * page_bytes,
    })
}

/// Resident memory: private, and shared in proportion (PSS), in bytes. `None` if the process has
/// ended.
pub(super) fn pss_bytes(process: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kib: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kib * 1024)
}

/// The file that a process executes, by name and open; open, it can be read even when it is removed.
pub(super) fn executable(process: u32) -> Option<(PathBuf, fs::File)> {
    let link = format!("/proc/{process}/exe");
    Some((fs::read_link(&link).ok()?, fs::File::open(link).ok()?))
}

/// Whether a process has mapped a file, named by its real path.
pub(super) fn has_mapped(process: u32, object: &str) -> Option<bool> {
    let text = fs::read_to_string(format!("/proc/{process}/maps")).ok()?;
    Some(text.lines().any(|line| line.ends_with(object)))
}

/// A process's name, as the kernel shows it.
pub(super) fn name(process: u32) -> Option<String> {
    let text = fs::read_to_string(format!("/proc/{process}/comm")).ok()?;
    Some(text.trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_child_and_its_child_are_found_both_ways() {
        // The inner shell is a child of the outer one, which goes on after it.
        let mut child = Command::new("sh")
            .args(["-c", "sh -c 'echo $$; read line'; true"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("sh");
        let mut line = String::new();
        let mut output = std::io::BufReader::new(child.stdout.take().expect("a pipe"));
        std::io::BufRead::read_line(&mut output, &mut line).expect("a line");
        let inner: u32 = line.trim().parse().expect("a number");
        let found = descendants();
        let by_parents = descendants_by_parents(std::process::id());
        for list in [found, by_parents] {
            assert!(list.contains(&child.id()) && list.contains(&inner));
        }
        assert!(pss_bytes(inner).expect("it lives") > 4096);
        let used = usage(inner).expect("it lives");
        assert_eq!(used.parent, child.id());
        assert!(
            (4096..used.resident_bytes).contains(&used.private_bytes),
            "{used:?}"
        );
        let (path, _) = executable(inner).expect("it lives");
        let mapped = has_mapped(inner, path.to_str().expect("text"));
        assert_eq!(mapped, Some(true));
        assert_eq!(has_mapped(inner, "/no/such/object"), Some(false));
        drop(child.stdin.take());
        child.wait().expect("it ends");
        assert_eq!(pss_bytes(inner), None);
        assert_eq!(usage(inner), None);
    }
}
