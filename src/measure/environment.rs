//! The machine and the moment of a measurement, from `/proc` and `/sys`.

#![forbid(unsafe_code)]

use std::fs;
use std::path::{Path, PathBuf};

use procfs::Current as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::disturbance::{Disturbance, Watch};

/// Facts that a reader needs in order to judge, or repeat, a measurement. What could not be read is
/// `None`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Environment {
    /// Tells two machines apart and nothing else: a hash of what names this one.
    pub machine: Option<String>,
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
    /// The clock that the kernel chose for itself, such as "tsc" or "hpet".
    pub clock_source: Option<String>,
    /// Load average over one minute before the run.
    pub load_average_start: Option<f64>,
    /// Load average over one minute after the run, which is a part of it.
    pub load_average_end: Option<f64>,
    /// What others did to the machine during the run.
    pub disturbance: Option<Disturbance>,
    /// Environment variables that steer an allocator and were set.
    pub allocator_variables: Vec<String>,
}

/// Prefixes of environment variables that allocators read.
const ALLOCATOR_PREFIXES: [&str; 14] = [
    "MALLOC_",
    "MIMALLOC_",
    "MYMALLOC_PURGE_DELAY",
    "MYMALLOC_LIMIT",
    "MYMALLOC_SECURE",
    "MYMALLOC_BACKGROUND",
    "MYMALLOC_VERBOSE",
    "GLIBC_TUNABLES",
    "TCMALLOC_",
    "SNMALLOC_",
    "RPMALLOC_",
    "HEAPPROFILE",
    "LD_PRELOAD",
    "LD_AUDIT",
];
/// The end of the name under which jemalloc reads its settings, whatever prefix it was built with.
const JEMALLOC_SUFFIX: &str = "MALLOC_CONF";

/// Whether an environment variable steers an allocator, or puts one in the place of another.
pub fn steers_an_allocator(name: &str) -> bool {
    name.ends_with(JEMALLOC_SUFFIX)
        || ALLOCATOR_PREFIXES
            .iter()
            .any(|prefix| name.starts_with(prefix))
}

impl Environment {
    /// Looks at the machine as it is now. `libc` is the C library's own word for its version.
    pub fn capture(libc: Option<String>, page_size_bytes: u64) -> Self {
        let memory = procfs::Meminfo::current().ok();
        Self {
            machine: machine(),
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
            clock_source: read_line(
                "/sys/devices/system/clocksource/clocksource0/current_clocksource",
            ),
            load_average_start: load_average(),
            load_average_end: None,
            disturbance: None,
            allocator_variables: allocator_variables(),
        }
    }

    /// Whether times taken in both are times of one machine in one state: then they may be compared.
    pub fn is_same_machine(&self, other: &Self) -> bool {
        let facts = |one: &Self| {
            let (machine, cpu) = (one.machine.clone(), one.cpu.clone());
            (machine, cpu, one.kernel.clone(), one.libc.clone())
        };
        facts(self) == facts(other)
    }

    /// Adds what can be known only after the run, which began with `watch`.
    pub fn finish(&mut self, watch: &Watch) {
        self.load_average_end = load_average();
        self.disturbance = Some(watch.disturbance());
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
        let others_are_known = self
            .disturbance
            .as_ref()
            .is_some_and(|found| found.others_cpu_ns.is_some());
        // The run is a part of its load: more than all processors can serve is more than its own.
        let still_busy = self
            .load_average_end
            .filter(|load| !others_are_known && *load > f64::from(self.cpus));
        if let Some(load) = still_busy {
            warnings.push(format!(
                "The machine was busy at the end of the run (load average {load:.1} on {} \
                 processors): times may be noisy. Stop other work and repeat.",
                self.cpus
            ));
        }
        warnings.extend(self.disturbance.iter().flat_map(Disturbance::warnings));
        if self.transparent_huge_pages.as_deref() == Some("always") {
            warnings.push(
                "Transparent huge pages are set to always: times and memory hang on which regions the \
                 kernel happened to back with them. Set madvise, or compare both settings (echo \
                 madvise > /sys/kernel/mm/transparent_hugepage/enabled)."
                    .to_owned(),
            );
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
            warnings.push(format!(
                "{name} was set, and is removed for every subject that does not set it itself. \
                 Settings of an allocator are a subject of their own: see workloads/subjects.toml."
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

/// Of the name that was made up for this installation; in a container, which may have none, of this
/// boot of the kernel. And of the host's name, since nodes of a cluster may all be copies of one
/// installation. Hashed, since the made-up name shall not be published.
fn machine() -> Option<String> {
    let id = read_line("/etc/machine-id").or_else(|| read_line("/proc/sys/kernel/random/boot_id"));
    let host = read_line("/proc/sys/kernel/hostname");
    let text = format!("mymalloc\n{}\n{}", id?, host.unwrap_or_default());
    let digest = Sha256::digest(text);
    Some(
        digest[..8]
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect(),
    )
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

/// The smallest limit of the process's control group and those above it.
fn cgroup_limit_bytes() -> Option<u64> {
    let limit = |folder: &PathBuf| number_in(&folder.join(group_files(folder)?.limit));
    control_groups().iter().filter_map(limit).min()
}

/// Memory that can be taken without swapping: what the machine has available, or less if a control
/// group's limit is nearer.
pub fn memory_available_bytes() -> Option<u64> {
    let machine = procfs::Meminfo::current().ok()?.mem_available;
    least_available_bytes(&control_groups(), machine)
}

/// Memory limit of a sample when none is asked for: half of what is available, so that it is the sample
/// that ends, and not this program or another.
pub fn default_memory_limit_bytes() -> Option<u64> {
    memory_available_bytes().map(|available| available / 2)
}

fn least_available_bytes(groups: &[PathBuf], machine: Option<u64>) -> Option<u64> {
    let left = |folder: &PathBuf| {
        let files = group_files(folder)?;
        let limit = number_in(&folder.join(files.limit))?;
        let used = number_in(&folder.join(files.used))?;
        // Files that were read count as used, but give way.
        let statistics = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
        let gives_way = statistics
            .lines()
            .find_map(|line| line.strip_prefix(files.inactive)?.trim().parse().ok())
            .unwrap_or(0);
        Some(limit.saturating_sub(used.saturating_sub(gives_way)))
    };
    groups.iter().filter_map(left).chain(machine).min()
}

/// Names of a control group's files.
struct GroupFiles {
    limit: &'static str,
    used: &'static str,
    inactive: &'static str,
}

/// Those of version 2 or 1, whichever the folder has.
fn group_files(folder: &Path) -> Option<GroupFiles> {
    let two = GroupFiles {
        limit: "memory.max",
        used: "memory.current",
        inactive: "inactive_file ",
    };
    let one = GroupFiles {
        limit: "memory.limit_in_bytes",
        used: "memory.usage_in_bytes",
        inactive: "total_inactive_file ",
    };
    [two, one]
        .into_iter()
        .find(|files| folder.join(files.limit).is_file())
}

/// Folders of the control group that limits this process's memory and of those above it. In a
/// container the group's own path may not be visible; the root of what is, is.
fn control_groups() -> Vec<PathBuf> {
    let text = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mut folders = Vec::new();
    for line in text.lines() {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (parts.next(), parts.next()) else {
            continue;
        };
        let root = match controllers {
            "" => Path::new("/sys/fs/cgroup"),
            _ if controllers.split(',').any(|name| name == "memory") => {
                Path::new("/sys/fs/cgroup/memory")
            }
            _ => continue,
        };
        let folder = root.join(group.trim_start_matches('/'));
        let above = folder.ancestors().take_while(|path| path.starts_with(root));
        folders.extend(above.map(Path::to_owned));
    }
    folders
}

/// The number in a file; version 1 writes "no limit" as a very large one.
fn number_in(file: &Path) -> Option<u64> {
    let number = fs::read_to_string(file).ok()?.trim().parse().ok()?;
    (number < 1 << 60).then_some(number)
}

fn allocator_variables() -> Vec<String> {
    let mut variables: Vec<String> = std::env::vars_os()
        .map(|(name, value)| (name.to_string_lossy().into_owned(), value))
        .filter(|(name, _)| steers_an_allocator(name))
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
        assert!(environment.machine.is_some());
        let again = Environment::capture(None, 4096);
        assert!(environment.is_same_machine(&again));
        let elsewhere = Environment {
            machine: Some("0123456789abcdef".to_owned()),
            ..again
        };
        assert!(!environment.is_same_machine(&elsewhere));
        let available = memory_available_bytes().expect("as above");
        assert!(available > 0 && available <= total);
    }

    #[test]
    fn a_control_groups_limit_counts_if_it_is_nearer() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| {
            std::fs::write(folder.path().join(name), text).expect("ours");
        };
        let groups = [folder.path().to_owned(), folder.path().join("none")];
        let available = |machine| least_available_bytes(&groups, machine);
        assert_eq!(available(Some(1000)), Some(1000));
        write("memory.max", "max\n");
        write("memory.current", "300\n");
        assert_eq!(available(Some(1000)), Some(1000));
        write("memory.max", "700\n");
        assert_eq!(available(Some(1000)), Some(400));
        // Files that were read give way.
        write("memory.stat", "anon 200\ninactive_file 100\n");
        assert_eq!(available(Some(1000)), Some(500));
        assert_eq!(available(Some(50)), Some(50));
        assert_eq!(available(None), Some(500));
    }

    #[test]
    fn variables_that_steer_allocators_are_known() {
        for name in [
            "MALLOC_ARENA_MAX",
            "MALLOC_CONF",
            "_RJEM_MALLOC_CONF",
            "GLIBC_TUNABLES",
            "MYMALLOC_SECURE",
        ] {
            assert!(steers_an_allocator(name), "{name}");
        }
        for name in ["PATH", "HOME", "MYMALLOC_PADDING", "LD_LIBRARY_PATH"] {
            assert!(!steers_an_allocator(name), "{name}");
        }
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

    #[test]
    fn huge_pages_and_the_load_at_the_end_are_judged() {
        let mut environment = Environment::capture(None, 4096);
        environment.transparent_huge_pages = Some("madvise".to_owned());
        (environment.cpus, environment.load_average_start) = (2, Some(0.1));
        (environment.governor, environment.allocator_variables) = (None, Vec::new());
        environment.load_average_end = Some(1.9);
        assert_eq!(environment.warnings(), [""; 0]);
        environment.transparent_huge_pages = Some("always".to_owned());
        environment.load_average_end = Some(2.6);
        let warnings = environment.warnings();
        assert!(warnings[0].contains("busy at the end"), "{warnings:?}");
        assert!(warnings[1].contains("Set madvise"), "{warnings:?}");
        // What others did is known better from their CPU time.
        environment.disturbance = Some(Disturbance {
            elapsed_ns: 1_000_000_000,
            others_cpu_ns: Some(0),
            ..Disturbance::default()
        });
        assert_eq!(environment.warnings().len(), 1);
    }
}
