//! The machine and the moment of a measurement, from `/proc` and `/sys`.

#![forbid(unsafe_code)]

use std::fs;

use procfs::Current as _;
use serde::{Deserialize, Serialize};

/// Facts that a reader needs in order to judge, or repeat, a measurement. What could not be read is
/// `None`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Environment {
    /// Processor model.
    pub cpu: Option<String>,
    /// Processors this process may use.
    pub cpus: u32,
    /// Kernel release.
    pub kernel: Option<String>,
    /// C library and its version.
    pub libc: Option<String>,
    /// Bytes of an OS page.
    pub page_size_bytes: u64,
    /// Physical memory.
    pub memory_total_bytes: Option<u64>,
    /// Physical memory available at the start.
    pub memory_available_bytes: Option<u64>,
    /// Memory limit of the control group.
    pub cgroup_memory_limit_bytes: Option<u64>,
    /// Transparent huge pages: "always", "madvise", "never".
    pub transparent_huge_pages: Option<String>,
    /// Frequency governor of processor 0.
    pub governor: Option<String>,
    /// Address-space layout randomisation: 0, 1, 2.
    pub aslr: Option<u32>,
    /// Load average over one minute before the run.
    pub load_average_start: Option<f64>,
    /// Load average over one minute after the run.
    pub load_average_end: Option<f64>,
    /// Environment variables that steer an allocator and were set.
    pub allocator_variables: Vec<String>,
}

/// Prefixes of environment variables that allocators read.
const ALLOCATOR_PREFIXES: [&str; 7] = [
    "MALLOC_",
    "_RJEM_MALLOC_CONF",
    "MIMALLOC_",
    "GLIBC_TUNABLES",
    "TCMALLOC_",
    "SNMALLOC_",
    "LD_PRELOAD",
];

impl Environment {
    /// Looks at the machine as it is now. `libc` is the C library's own word for its version.
    pub fn capture(libc: Option<String>, page_size_bytes: u64) -> Self {
        let memory = procfs::Meminfo::current().ok();
        Self {
            cpu: cpu_model(),
            cpus: std::thread::available_parallelism().map_or(1, |n| n.get() as u32),
            kernel: read_line("/proc/sys/kernel/osrelease"),
            libc,
            page_size_bytes,
            memory_total_bytes: memory.as_ref().map(|memory| memory.mem_total),
            memory_available_bytes: memory.as_ref().and_then(|memory| memory.mem_available),
            cgroup_memory_limit_bytes: cgroup_limit_bytes(),
            transparent_huge_pages: selected("/sys/kernel/mm/transparent_hugepage/enabled"),
            governor: read_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            aslr: read_line("/proc/sys/kernel/randomize_va_space")
                .and_then(|text| text.parse().ok()),
            load_average_start: load_average(),
            load_average_end: None,
            allocator_variables: allocator_variables(),
        }
    }

    /// Adds what can be known only after the run.
    pub fn finish(&mut self) {
        self.load_average_end = load_average();
    }

    /// What a reader must know before believing times taken here, each with what to do about it.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        let busy = self
            .load_average_start
            .is_some_and(|load| load > 0.5 * f64::from(self.cpus));
        if busy {
            warnings.push(format!(
                "The machine was busy before the run (load average {:.1} on {} processors): times \
                 are noisy. Stop other work and repeat.",
                self.load_average_start.unwrap_or_default(),
                self.cpus
            ));
        }
        if let Some(governor) = &self.governor
            && governor != "performance"
        {
            warnings.push(format!(
                "The frequency governor is {governor:?}: the processor's speed changes during the \
                 run. Set it to performance (cpupower frequency-set -g performance)."
            ));
        }
        for variable in &self.allocator_variables {
            let name = variable.split('=').next().unwrap_or(variable);
            let effect = if name == "LD_PRELOAD" {
                "is removed for the replays"
            } else {
                "may change how a subject behaves"
            };
            warnings.push(format!(
                "{name} was set, and {effect}. Unset it if that was not meant."
            ));
        }
        warnings
    }
}

fn read_line(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().next()?.trim().to_owned();
    (!line.is_empty()).then_some(line)
}

/// The word in brackets: "always [madvise] never".
fn selected(path: &str) -> Option<String> {
    let line = read_line(path)?;
    let start = line.find('[')? + 1;
    let end = line[start..].find(']')? + start;
    Some(line[start..end].to_owned())
}

fn cpu_model() -> Option<String> {
    let information = procfs::CpuInfo::current().ok()?;
    information.model_name(0).map(str::to_owned)
}

fn load_average() -> Option<f64> {
    procfs::LoadAverage::current()
        .ok()
        .map(|load| f64::from(load.one))
}

/// The smallest limit of the process's control group and those above it (version 2).
fn cgroup_limit_bytes() -> Option<u64> {
    let text = fs::read_to_string("/proc/self/cgroup").ok()?;
    let group = text.lines().find_map(|line| line.strip_prefix("0::"))?;
    let root = std::path::Path::new("/sys/fs/cgroup");
    root.join(group.trim_start_matches('/'))
        .ancestors()
        .take_while(|directory| directory.starts_with(root))
        .filter_map(|directory| fs::read_to_string(directory.join("memory.max")).ok())
        .filter_map(|text| text.trim().parse().ok())
        .min()
}

fn allocator_variables() -> Vec<String> {
    let mut variables: Vec<String> = std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value))
        .filter(|(name, _)| {
            ALLOCATOR_PREFIXES
                .iter()
                .any(|prefix| name.starts_with(prefix))
        })
        .map(|(name, value)| format!("{name}={}", value.to_string_lossy()))
        .collect();
    variables.sort();
    variables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_described() {
        let environment = Environment::capture(None, 4096);
        assert!(environment.cpus >= 1);
        assert!(environment.kernel.is_some());
        let total = environment
            .memory_total_bytes
            .expect("Linux tells its memory");
        assert!(
            environment
                .memory_available_bytes
                .expect("and what is left")
                <= total
        );
    }

    #[test]
    fn a_busy_machine_is_warned_of() {
        let mut environment = Environment::capture(None, 4096);
        environment.cpus = 2;
        environment.load_average_start = Some(3.0);
        environment.governor = Some("powersave".to_owned());
        environment.allocator_variables = vec!["LD_PRELOAD=./a.so".to_owned()];
        let warnings = environment.warnings().join("\n");
        for word in ["busy", "powersave", "LD_PRELOAD"] {
            assert!(warnings.contains(word), "{warnings}");
        }
    }
}
