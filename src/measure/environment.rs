//! The machine and the moment of a measurement, from `/proc` and `/sys`.

#![forbid(unsafe_code)]

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
