//! Counters of the whole machine, read before and after: what others did meanwhile.

#![forbid(unsafe_code)]

use std::fs;

/// Time that the machine's host took from its processors since it started, over all of them; in steps
/// of the kernel's clock tick, 10 ms. `None` if unknown.
pub fn stolen_ns() -> Option<u64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    let ticks = stolen_ticks(&text)?;
    let nanoseconds_per_tick = 1_000_000_000 / procfs::ticks_per_second();
    Some(ticks * nanoseconds_per_tick)
}

/// Time that the machine's processors were busy since it started, over all of them, in the same steps.
/// `None` if unknown.
pub fn busy_ns() -> Option<u64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    let nanoseconds_per_tick = 1_000_000_000 / procfs::ticks_per_second();
    Some(busy_ticks(&text)? * nanoseconds_per_tick)
}

/// The first line's numbers but for idle (4), waiting for input (5), steal (8), and guests (9, 10),
/// which are among the first two already.
fn busy_ticks(stat: &str) -> Option<u64> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Option<Vec<u64>> = line
        .split_ascii_whitespace()
        .take(7)
        .map(|word| word.parse().ok())
        .collect();
    match ticks?.as_slice() {
        [user, nice, system, _, _, interrupts, soft] => {
            Some(user + nice + system + interrupts + soft)
        }
        _ => None,
    }
}

/// CPU time of this process and of all below it that have ended and were waited for, in the same
/// steps. `None` if unknown.
pub fn own_cpu_ns() -> Option<u64> {
    let stat = procfs::process::Process::myself().ok()?.stat().ok()?;
    let children = u64::try_from(stat.cutime + stat.cstime).ok()?;
    let nanoseconds_per_tick = 1_000_000_000 / procfs::ticks_per_second();
    Some((stat.utime + stat.stime + children) * nanoseconds_per_tick)
}

/// Processors of the machine.
pub fn cpus() -> Option<u32> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    let is_cpu = |line: &&str| {
        let number = line.strip_prefix("cpu");
        number.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()))
    };
    u32::try_from(text.lines().filter(is_cpu).count()).ok()
}

/// The eighth number of the first line.
fn stolen_ticks(stat: &str) -> Option<u64> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    line.split_ascii_whitespace().nth(7)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stolen_time_is_the_eighth_number() {
        let text = "cpu  1 2 3 4 5 6 7 89 10 11\ncpu0 1 2 3 4 5 6 7 8 9 10\n";
        assert_eq!(stolen_ticks(text), Some(89));
        assert_eq!(stolen_ticks("cpu  1 2 3\n"), None);
        assert_eq!(stolen_ticks(""), None);
    }

    #[test]
    fn busy_time_leaves_out_what_is_idle_or_stolen() {
        let text = "cpu  1 2 4 100 200 8 16 400 1 1\n";
        assert_eq!(busy_ticks(text), Some(31));
        assert_eq!(busy_ticks("cpu  1 2 3\n"), None);
        assert_eq!(busy_ticks(""), None);
    }

    #[test]
    fn own_time_grows_and_processors_are_counted() {
        let before = own_cpu_ns().expect("Linux");
        while own_cpu_ns().expect("Linux") == before {}
        assert!(cpus().expect("Linux") >= 1);
    }

    #[test]
    fn this_machine_tells_it() {
        let before = stolen_ns().expect("Linux");
        assert!(stolen_ns().expect("Linux") >= before);
    }
}
