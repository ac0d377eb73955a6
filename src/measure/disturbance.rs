//! What happened on the machine while a run was measured, from counters read before and after. Each
//! counter is of the whole machine or of the control group, and only their differences mean anything.

#![forbid(unsafe_code)]

use std::fs;
use std::path::Path;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::machine;

/// The differences over a run. What the kernel does not show is `None`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Disturbance {
    /// Wall time between the two readings.
    pub elapsed_ns: u64,
    /// Processors of the machine, whether this process may use them or not.
    pub machine_cpus: Option<u32>,
    /// CPU time that other processes took, over all processors: the machine's busy time without that of
    /// this program and all it started.
    pub others_cpu_ns: Option<u64>,
    /// Time that the machine's host took from its processors, over all of them.
    pub steal_ns: Option<u64>,
    /// Time in which the control group was not let run, over all of its processors.
    pub cgroup_throttled_ns: Option<u64>,
    /// Times that a processor slowed itself down for its heat.
    pub thermal_throttles: Option<u64>,
    /// The lowest frequency limit that was set at the end, as a share of what its processor can do.
    pub frequency_limit: Option<f64>,
    /// OS pages read from swap and written to it.
    pub swapped_pages: Option<u64>,
    /// Time in which some process waited for memory.
    pub memory_stall_ns: Option<u64>,
}

/// The counters before a run.
#[derive(Debug)]
pub struct Watch {
    start: Instant,
    counters: Counters,
}

#[derive(Debug, Default)]
struct Counters {
    busy_ns: Option<u64>,
    own_cpu_ns: Option<u64>,
    steal_ns: Option<u64>,
    throttled_ns: Option<u64>,
    thermal: Option<u64>,
    swapped_pages: Option<u64>,
    stall_ns: Option<u64>,
}

impl Watch {
    /// Reads the counters.
    pub fn start() -> Self {
        Self {
            start: Instant::now(),
            counters: Counters::read(),
        }
    }

    /// What happened since.
    pub fn disturbance(&self) -> Disturbance {
        let (before, after) = (&self.counters, Counters::read());
        let since = |of: fn(&Counters) -> Option<u64>| {
            of(before)
                .zip(of(&after))
                .map(|(before, after)| after.saturating_sub(before))
        };
        let busy_and_own_ns = since(|one| one.busy_ns).zip(since(|one| one.own_cpu_ns));
        Disturbance {
            elapsed_ns: u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX),
            machine_cpus: machine::cpus(),
            others_cpu_ns: busy_and_own_ns.map(|(busy, own)| busy.saturating_sub(own)),
            steal_ns: since(|one| one.steal_ns),
            cgroup_throttled_ns: since(|one| one.throttled_ns),
            thermal_throttles: since(|one| one.thermal),
            frequency_limit: frequency_limit(Path::new(CPUS)),
            swapped_pages: since(|one| one.swapped_pages),
            memory_stall_ns: since(|one| one.stall_ns),
        }
    }
}

impl Counters {
    fn read() -> Self {
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        Self {
            busy_ns: machine::busy_ns(),
            own_cpu_ns: machine::own_cpu_ns(),
            steal_ns: machine::stolen_ns(),
            throttled_ns: throttled_ns(&text("/sys/fs/cgroup/cpu.stat"))
                .or_else(|| throttled_ns(&text("/sys/fs/cgroup/cpu/cpu.stat"))),
            thermal: thermal_throttles(Path::new(CPUS)),
            swapped_pages: swapped_pages(&text("/proc/vmstat")),
            stall_ns: stall_ns(&text("/proc/pressure/memory")),
        }
    }
}

const CPUS: &str = "/sys/devices/system/cpu";

/// The number after a name, a line each.
fn named(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        let (key, value) = line.split_once(' ')?;
        (key == name).then(|| value.trim().parse().ok())?
    })
}

/// Of `cpu.stat`: microseconds in version 2, nanoseconds in version 1.
fn throttled_ns(stat: &str) -> Option<u64> {
    let microseconds = named(stat, "throttled_usec").map(|us| us.saturating_mul(1000));
    microseconds.or_else(|| named(stat, "throttled_time"))
}

fn swapped_pages(vmstat: &str) -> Option<u64> {
    Some(named(vmstat, "pswpin")? + named(vmstat, "pswpout")?)
}

/// The total of the line "some", in microseconds there.
fn stall_ns(pressure: &str) -> Option<u64> {
    let line = pressure.lines().find(|line| line.starts_with("some "))?;
    let total = line
        .split_ascii_whitespace()
        .find_map(|word| word.strip_prefix("total="))?;
    Some(total.parse::<u64>().ok()?.saturating_mul(1000))
}

/// Folders of the processors, `cpu0` and so on.
fn cpu_folders(root: &Path) -> impl Iterator<Item = std::path::PathBuf> {
    let entries = fs::read_dir(root).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let number = name.strip_prefix("cpu");
        number
            .is_some_and(|number| number.bytes().all(|b| b.is_ascii_digit()) && !number.is_empty())
    })
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

fn thermal_throttles(root: &Path) -> Option<u64> {
    let counts = cpu_folders(root).flat_map(|cpu| {
        ["core_throttle_count", "package_throttle_count"]
            .map(|name| number(&cpu.join("thermal_throttle").join(name)))
    });
    let counts: Vec<u64> = counts.flatten().collect();
    (!counts.is_empty()).then(|| counts.iter().sum())
}

fn frequency_limit(root: &Path) -> Option<f64> {
    let shares = cpu_folders(root).filter_map(|cpu| {
        let of = |name: &str| number(&cpu.join("cpufreq").join(name));
        let (limit, highest) = (of("scaling_max_freq")?, of("cpuinfo_max_freq")?);
        (highest > 0).then(|| limit as f64 / highest as f64)
    });
    shares.min_by(f64::total_cmp)
}

/// Shares of a run's time above which its times are doubtful: of the time of all processors,
const OTHERS_SHARE: f64 = 0.1;
const STEAL_SHARE: f64 = 0.01;
/// of the wall time.
const STALL_SHARE: f64 = 0.01;
const THROTTLED_SHARE: f64 = 0.01;
/// Swapping below this many OS pages, 1 MiB, comes from what was idle before.
const SWAPPED_PAGES: u64 = 256;
const FREQUENCY_LIMIT: f64 = 0.99;

impl Disturbance {
    /// What a reader must know before believing times taken meanwhile, each with what to do.
    pub fn warnings(&self) -> Vec<String> {
        let wall_ns = (self.elapsed_ns as f64).max(1.0);
        let share = |ns: Option<u64>, processors: f64, limit: f64| {
            let share = ns? as f64 / (wall_ns * processors);
            (share > limit).then_some(100.0 * share)
        };
        let processors = f64::from(self.machine_cpus.unwrap_or(1).max(1));
        let mut warnings = Vec::new();
        if let Some(percent) = share(self.others_cpu_ns, processors, OTHERS_SHARE) {
            warnings.push(format!(
                "Other programs used {percent:.0} % of the machine's processors during the run: \
                 times are noisy. Stop them and repeat."
            ));
        }
        if let Some(percent) = share(self.steal_ns, processors, STEAL_SHARE) {
            warnings.push(format!(
                "The machine's host took {percent:.1} % of its processor time during the run (steal): \
                 times are noisy. Repeat on a machine that is not shared, or with more blocks."
            ));
        }
        if let Some(percent) = share(self.cgroup_throttled_ns, 1.0, THROTTLED_SHARE) {
            warnings.push(format!(
                "The control group's processor limit stopped it for {percent:.1} % of the run: times \
                 are noisy. Raise the limit (cpu.max) and repeat."
            ));
        }
        if let Some(times) = self.thermal_throttles.filter(|times| *times > 0) {
            warnings.push(format!(
                "A processor slowed down for its heat during the run (throttling, {times} times): \
                 times are noisy. Cool it, or set a lower fixed frequency, and repeat."
            ));
        }
        if let Some(limit) = self
            .frequency_limit
            .filter(|limit| *limit < FREQUENCY_LIMIT)
        {
            warnings.push(format!(
                "A processor's frequency was limited to {:.0} % of its highest at the end of the run: \
                 absolute times are longer than they need be. See scaling_max_freq, and the power \
                 profile.",
                100.0 * limit
            ));
        }
        if let Some(pages) = self.swapped_pages.filter(|pages| *pages >= SWAPPED_PAGES) {
            warnings.push(format!(
                "{pages} OS pages went to swap or came back during the run: memory was short, and times \
                 are noisy. Stop other programs, or set a lower --memory-limit, and repeat."
            ));
        }
        if let Some(percent) = share(self.memory_stall_ns, 1.0, STALL_SHARE) {
            warnings.push(format!(
                "Processes waited for memory for {percent:.1} % of the run (memory pressure): times are \
                 noisy. Stop other programs, or set a lower --memory-limit, and repeat."
            ));
        }
        warnings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_as_the_kernel_writes_them() {
        let vmstat = "nr_free_pages 12\npswpin 3\npswpout 40\npswpin_x 9\n";
        assert_eq!(swapped_pages(vmstat), Some(43));
        assert_eq!(swapped_pages("pswpin 3\n"), None);
        let pressure = "some avg10=0.00 avg60=0.00 avg300=0.00 total=591636\n\
                        full avg10=0.00 avg60=0.00 avg300=0.00 total=358790\n";
        assert_eq!(stall_ns(pressure), Some(591_636_000));
        assert_eq!(stall_ns(""), None);
        assert_eq!(
            throttled_ns("nr_throttled 2\nthrottled_usec 5\n"),
            Some(5000)
        );
        assert_eq!(throttled_ns("throttled_time 5\n"), Some(5));
        assert_eq!(throttled_ns("usage_usec 5\n"), None);
    }

    #[test]
    fn throttling_and_limits_are_summed_over_processors() {
        let root = tempfile::tempdir().expect("a folder");
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("one")).expect("made");
            fs::write(path, text).expect("written");
        };
        assert_eq!(thermal_throttles(root.path()), None);
        assert_eq!(frequency_limit(root.path()), None);
        write("cpu0/thermal_throttle/core_throttle_count", "2\n");
        write("cpu0/thermal_throttle/package_throttle_count", "3\n");
        write("cpu11/thermal_throttle/core_throttle_count", "4\n");
        write("cpuidle/thermal_throttle/core_throttle_count", "99\n");
        write("cpu0/cpufreq/scaling_max_freq", "3000000\n");
        write("cpu0/cpufreq/cpuinfo_max_freq", "3000000\n");
        write("cpu11/cpufreq/scaling_max_freq", "1500000\n");
        write("cpu11/cpufreq/cpuinfo_max_freq", "3000000\n");
        assert_eq!(thermal_throttles(root.path()), Some(9));
        assert_eq!(frequency_limit(root.path()), Some(0.5));
    }

    #[test]
    fn each_disturbance_is_told_and_none_is_invented() {
        let quiet = Disturbance {
            elapsed_ns: 10_000_000_000,
            machine_cpus: Some(2),
            others_cpu_ns: Some(1_000_000_000),
            steal_ns: Some(100_000_000),
            cgroup_throttled_ns: Some(0),
            thermal_throttles: Some(0),
            frequency_limit: Some(1.0),
            swapped_pages: Some(3),
            memory_stall_ns: Some(50_000_000),
        };
        assert_eq!(quiet.warnings(), [""; 0]);
        assert_eq!(Disturbance::default().warnings(), [""; 0]);
        type Change = fn(&mut Disturbance);
        let changes: [(Change, &str); 7] = [
            (
                |one| one.others_cpu_ns = Some(5_000_000_000),
                "Other programs used 25 %",
            ),
            (
                |one| one.steal_ns = Some(400_000_000),
                "2.0 % of its processor time",
            ),
            (|one| one.cgroup_throttled_ns = Some(200_000_000), "cpu.max"),
            (|one| one.thermal_throttles = Some(7), "throttling, 7 times"),
            (|one| one.frequency_limit = Some(0.6), "limited to 60 %"),
            (|one| one.swapped_pages = Some(5000), "5000 OS pages"),
            (
                |one| one.memory_stall_ns = Some(300_000_000),
                "3.0 % of the run",
            ),
        ];
        for (change, words) in changes {
            let mut disturbed = quiet.clone();
            change(&mut disturbed);
            let warnings = disturbed.warnings();
            assert_eq!(warnings.len(), 1, "{warnings:?}");
            assert!(warnings[0].contains(words), "{warnings:?}");
        }
    }

    #[test]
    fn this_machine_is_watched() {
        let watch = Watch::start();
        let end = Instant::now() + std::time::Duration::from_millis(30);
        while Instant::now() < end {
            std::hint::black_box(machine::own_cpu_ns());
        }
        let found = watch.disturbance();
        assert!(found.elapsed_ns >= 30_000_000);
        let processors = u64::from(found.machine_cpus.expect("Linux tells"));
        // Counted in ticks of 10 ms on each processor.
        let limit = (found.elapsed_ns + 50_000_000) * processors;
        assert!(found.others_cpu_ns.expect("Linux tells") <= limit);
    }
}
