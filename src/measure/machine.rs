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
    fn this_machine_tells_it() {
        let before = stolen_ns().expect("Linux");
        assert!(stolen_ns().expect("Linux") >= before);
    }
}
