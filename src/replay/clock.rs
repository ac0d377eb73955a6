//! The clock of the latency pass, read right before and right after a call.
//!
//! On x86-64 it is the time-stamp counter, if the processor promises that it runs at one speed whatever
//! the frequency and the sleep states (CPUID calls it invariant). `rdtscp` waits for what came before
//! it, and a fence holds back what comes after it, so that the call lies between the readings; it also
//! tells on which processor it was read. Everywhere else it is CLOCK_MONOTONIC, which is slower to
//! read and tells no processor.

use std::time::{Duration, Instant};

use crate::measure::results::LatencyClock;

/// Pairs of empty readings whose median is the clock's cost.
const COST_PAIRS: usize = 10_001;
/// The clock is calibrated over at least this time.
const CALIBRATION: Duration = Duration::from_millis(20);
/// Writes to fresh memory, each a page fault, of which the shortest is kept.
const FAULTS: usize = 64;
const OS_PAGE_BYTES: usize = 4096;

/// One reading.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) ticks: u64,
    /// Where it was taken; always 0 if the clock does not tell.
    pub(super) processor: u32,
}

/// A clock for single calls.
pub(super) trait Clock {
    /// Which one it is.
    const KIND: LatencyClock;

    /// Reads it: everything before is done, and nothing after has begun.
    fn read() -> Reading;

    /// Ticks per second, if that is known without measuring.
    fn known_hertz() -> Option<f64> {
        None
    }
}

/// The time-stamp counter.
#[derive(Debug)]
pub(super) struct Tsc;

/// CLOCK_MONOTONIC, whose ticks are nanoseconds.
#[derive(Debug)]
pub(super) struct Monotonic;

impl Clock for Tsc {
    const KIND: LatencyClock = LatencyClock::TimeStampCounter;

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    fn read() -> Reading {
        let mut processor = 0;
        // SAFETY: `choose` names this clock only if CPUID shows that there is `rdtscp`.
        let ticks = unsafe {
            let ticks = core::arch::x86_64::__rdtscp(&raw mut processor);
            core::arch::x86_64::_mm_lfence();
            ticks
        };
        Reading { ticks, processor }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn read() -> Reading {
        unreachable!("`choose` names this clock on x86-64 only")
    }
}

impl Clock for Monotonic {
    const KIND: LatencyClock = LatencyClock::Monotonic;

    #[inline(always)]
    fn read() -> Reading {
        Reading {
            ticks: nanoseconds(libc::CLOCK_MONOTONIC),
            processor: 0,
        }
    }

    fn known_hertz() -> Option<f64> {
        Some(1e9)
    }
}

/// The clock that can be trusted on this machine.
pub(super) fn choose() -> LatencyClock {
    #[cfg(target_arch = "x86_64")]
    {
        use core::arch::x86_64::__cpuid;
        let edx = |leaf: u32| {
            let highest = __cpuid(0x8000_0000).eax;
            if leaf <= highest {
                __cpuid(leaf).edx
            } else {
                0
            }
        };
        choose_by(edx(0x8000_0001), edx(0x8000_0007))
    }
    #[cfg(not(target_arch = "x86_64"))]
    LatencyClock::Monotonic
}

/// The same by the EDX of the CPUID leaves 0x80000001 and 0x80000007 ("Processor Topology ..." and
/// "Advanced Power Management" in the manuals of AMD and Intel).
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "x86-64 only"))]
fn choose_by(features: u32, power: u32) -> LatencyClock {
    let has_rdtscp = features & 1 << 27 != 0;
    let is_invariant = power & 1 << 8 != 0;
    match has_rdtscp && is_invariant {
        true => LatencyClock::TimeStampCounter,
        false => LatencyClock::Monotonic,
    }
}

fn nanoseconds(clock: libc::clockid_t) -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: `time` has room for the result.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// The clock and the kernel's at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Calibration {
    ticks: u64,
    raw_ns: u64,
}

impl Calibration {
    /// Now; the reading of the two that was disturbed least of several.
    pub(super) fn now<C: Clock>() -> Self {
        let read = || {
            let before = C::read().ticks;
            let raw_ns = nanoseconds(libc::CLOCK_MONOTONIC_RAW);
            // A pair that went backwards is the widest of all, and not kept.
            let width = C::read().ticks.wrapping_sub(before);
            let ticks = before.wrapping_add(width / 2);
            (width, Self { ticks, raw_ns })
        };
        let mut best = read();
        for _ in 0..16 {
            let next = read();
            if next.0 < best.0 {
                best = next;
            }
        }
        best.1
    }

    /// Ticks per second from then until now, or a little later if that was too short a time.
    pub(super) fn hertz<C: Clock>(self) -> f64 {
        if let Some(hertz) = C::known_hertz() {
            return hertz;
        }
        let start = Instant::now();
        loop {
            let now = Self::now::<C>();
            let elapsed_ns = now.raw_ns.saturating_sub(self.raw_ns);
            if u128::from(elapsed_ns) >= CALIBRATION.as_nanos() || start.elapsed() > CALIBRATION * 4
            {
                let ticks = now.ticks.saturating_sub(self.ticks);
                return ticks as f64 * 1e9 / elapsed_ns.max(1) as f64;
            }
        }
    }
}

/// What two readings with nothing between them differ by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cost {
    /// The median.
    pub(super) ticks: u64,
    /// The counter advances by so much at once: some processors' counts by a slower clock than its
    /// rate. 1 if no such step shows.
    pub(super) step_ticks: u64,
}

/// Measures it.
pub(super) fn cost<C: Clock>() -> Cost {
    let mut costs = [0u64; COST_PAIRS];
    for cost in &mut costs {
        let before = C::read().ticks;
        *cost = C::read().ticks.saturating_sub(before);
    }
    costs.sort_unstable();
    cost_of(&costs)
}

/// Values that are this near are one: a step need not be a whole number of ticks.
const NEAR_TICKS: u64 = 2;
/// Rarer values than one in so many are disturbances.
const RARE: usize = 100;

/// The same of given differences, ascending.
fn cost_of(sorted: &[u64]) -> Cost {
    let mut step_ticks = u64::MAX;
    let mut last = None;
    for group in sorted.chunk_by(|one, next| next - one <= NEAR_TICKS) {
        if group.len() < sorted.len() / RARE {
            continue;
        }
        let middle = group[group.len() / 2];
        if let Some(last) = last.replace(middle) {
            step_ticks = step_ticks.min(middle - last);
        }
        // A counter of single ticks takes many neighbouring values.
        if group[group.len() - 1] - group[0] > 2 * NEAR_TICKS {
            step_ticks = 1;
        }
    }
    Cost {
        ticks: sorted[sorted.len() / 2],
        step_ticks: if step_ticks == u64::MAX {
            1
        } else {
            step_ticks
        },
    }
}

/// The shortest of several page faults, in ticks, the clock's cost included. `None` if the system
/// gives no memory to try it on.
pub(super) fn shortest_fault_ticks<C: Clock>() -> Option<u64> {
    let bytes = FAULTS * OS_PAGE_BYTES;
    let mut map = memmap2::MmapMut::map_anon(bytes).ok()?;
    // One fault for each page; a kernel without huge pages knows no such advice, and needs none.
    let _ = map.advise(memmap2::Advice::NoHugePage);
    map.iter_mut()
        .step_by(OS_PAGE_BYTES)
        .map(|byte| {
            let before = C::read().ticks;
            // SAFETY: a valid byte; volatile, so that the write is not left out.
            unsafe { core::ptr::write_volatile(byte, 1) };
            C::read().ticks.wrapping_sub(before)
        })
        .min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_invariant_counter_is_trusted() {
        let (rdtscp, invariant) = (1 << 27, 1 << 8);
        assert_eq!(choose_by(rdtscp, invariant), LatencyClock::TimeStampCounter);
        for (features, power) in [
            (rdtscp, 0),
            (0, invariant),
            (!rdtscp, !0),
            (!0, !invariant),
            (0, 0),
        ] {
            assert_eq!(choose_by(features, power), LatencyClock::Monotonic);
        }
    }

    /// Against the kernel's own reading of the processor's flags.
    #[test]
    #[cfg(target_arch = "x86_64")]
    fn the_kernel_sees_the_same_counter() {
        let text = std::fs::read_to_string("/proc/cpuinfo").expect("Linux tells it");
        let flags = text.lines().find(|line| line.starts_with("flags"));
        let flags: Vec<&str> = flags.expect("flags").split_whitespace().collect();
        let has = |flag| flags.contains(&flag);
        let trusted = choose() == LatencyClock::TimeStampCounter;
        assert_eq!(trusted, has("rdtscp") && has("nonstop_tsc"));
    }

    #[test]
    fn a_counter_that_advances_in_steps_is_seen() {
        let sorted = |parts: &[(u64, usize)]| -> Vec<u64> {
            let parts = parts.iter();
            parts
                .flat_map(|(value, count)| vec![*value; *count])
                .collect()
        };
        // As seen on a processor that counts by 100 MHz at a rate of 2.6 GHz, with disturbances.
        let coarse = sorted(&[(26, 3000), (52, 6900), (78, 40), (79, 1), (9000, 2)]);
        let expected = |ticks, step_ticks| Cost { ticks, step_ticks };
        assert_eq!(cost_of(&coarse), expected(52, 26));
        // A step of 29.5 ticks.
        let uneven = sorted(&[(29, 2000), (30, 2000), (59, 3000), (88, 900), (89, 900)]);
        assert_eq!(cost_of(&uneven).step_ticks, 29);
        let fine = sorted(&[
            (40, 100),
            (41, 500),
            (42, 900),
            (43, 700),
            (44, 300),
            (45, 90),
        ]);
        assert_eq!(cost_of(&fine), expected(42, 1));
        assert_eq!(cost_of(&sorted(&[(36, 10_000)])), expected(36, 1));
        assert_eq!(cost_of(&[0]), expected(0, 1));
    }

    #[test]
    fn the_clocks_keep_pace_with_the_kernels() {
        keeps_pace::<Monotonic>();
        if choose() == LatencyClock::TimeStampCounter {
            keeps_pace::<Tsc>();
        }
    }

    fn keeps_pace<C: Clock>() {
        let calibration = Calibration::now::<C>();
        let hertz = calibration.hertz::<C>();
        let (before, start) = (C::read(), Instant::now());
        while start.elapsed() < Duration::from_millis(50) {
            std::hint::spin_loop();
        }
        let (elapsed, ticks) = (start.elapsed(), C::read().ticks - before.ticks);
        let seconds = ticks as f64 / hertz;
        // Two readings of different clocks with other load present: a tenth is enough to tell a wrong
        // unit.
        let ratio = seconds / elapsed.as_secs_f64();
        assert!((ratio - 1.0).abs() < 0.1, "{hertz} Hz");
        let Cost {
            ticks: cost,
            step_ticks,
        } = cost::<C>();
        assert!((cost as f64) < hertz / 1e5, "less than 10 µs");
        assert!((1..hertz as u64 / 100_000).contains(&step_ticks));
        let fault = shortest_fault_ticks::<C>().expect("memory");
        assert!(fault > cost, "a fault of {fault} ticks, readings of {cost}");
    }
}
