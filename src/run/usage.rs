//! What the system did for this process during one replay: read before and after it, outside the time.

use std::mem;
use std::time::Duration;

/// Counts since an earlier reading; of all threads, those that have ended among them. Plain numbers,
/// since a child tells them in its answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Usage {
    /// Page faults without input or output.
    pub minor_faults: u64,
    /// Page faults with input or output.
    pub major_faults: u64,
    /// Context switches forced on it.
    pub involuntary_switches: u64,
    /// Context switches when it waited.
    pub voluntary_switches: u64,
}

/// Time that the process had a processor since it began, its threads together, the system's work for
/// it included; to the microsecond.
pub fn cpu_time() -> Duration {
    let usage = of_this_process();
    let time = |time: libc::timeval| {
        let whole = Duration::from_secs(u64::try_from(time.tv_sec).unwrap_or(0));
        whole + Duration::from_micros(u64::try_from(time.tv_usec).unwrap_or(0))
    };
    time(usage.ru_utime) + time(usage.ru_stime)
}

fn of_this_process() -> libc::rusage {
    // SAFETY: plain numbers, for which zeroes are valid.
    let mut usage: libc::rusage = unsafe { mem::zeroed() };
    // SAFETY: `usage` has room for the answer. It cannot fail for the calling process; if it did, all
    // would be zero.
    unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) };
    usage
}

impl Usage {
    /// Counts since the process began.
    pub fn now() -> Self {
        let usage = of_this_process();
        let count = |value: libc::c_long| u64::try_from(value).unwrap_or(0);
        Self {
            minor_faults: count(usage.ru_minflt),
            major_faults: count(usage.ru_majflt),
            involuntary_switches: count(usage.ru_nivcsw),
            voluntary_switches: count(usage.ru_nvcsw),
        }
    }

    /// Counts since `earlier`.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            minor_faults: self.minor_faults.saturating_sub(earlier.minor_faults),
            major_faults: self.major_faults.saturating_sub(earlier.major_faults),
            involuntary_switches: self
                .involuntary_switches
                .saturating_sub(earlier.involuntary_switches),
            voluntary_switches: self
                .voluntary_switches
                .saturating_sub(earlier.voluntary_switches),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_takes_processor_time() {
        let before = cpu_time();
        let mut sum = 0_u64;
        while cpu_time() == before {
            sum = std::hint::black_box(sum.wrapping_add(1));
        }
        assert!(cpu_time() > before);
    }

    #[test]
    fn faults_of_fresh_memory_are_counted() {
        const PAGES: usize = 256;
        let before = Usage::now();
        let mut map = memmap2::MmapMut::map_anon(PAGES * 4096).expect("a megabyte");
        map.advise(memmap2::Advice::NoHugePage).expect("advice");
        map.iter_mut().step_by(4096).for_each(|byte| *byte = 1);
        let used = Usage::now().since(before);
        assert!(used.minor_faults >= PAGES as u64, "{used:?}");
        assert!(
            std::hint::black_box(&map)
                .iter()
                .step_by(4096)
                .all(|byte| *byte == 1)
        );
    }
}
