//! What was replayed, and in which order.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::trace::Origin;
use crate::trace::profile::Profile;

/// In which order the operations of several threads are replayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// The recorded total order, on one thread.
    Serial,
    /// The recorded threads, each in its own order; one waits for another only where a block changes
    /// hands, where a thread starts or ends, and so as not to run further ahead of the recorded order
    /// than [`ThreadedRecord::window`].
    Threads,
    /// The recorded total order, on the recorded threads.
    Strict,
    /// As [`Order::Threads`], and no operation before its recorded time.
    Paced,
}

impl Order {
    /// As on the command line and in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Serial => "serial",
            Self::Threads => "threads",
            Self::Strict => "strict",
            Self::Paced => "paced",
        }
    }

    /// The inverse of [`Order::name`].
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Serial, Self::Threads, Self::Strict, Self::Paced]
            .into_iter()
            .find(|order| order.name() == name)
    }
}

/// What a workload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkloadKind {
    /// A recorded trace.
    Trace,
    /// A generated trace.
    Synthetic,
    /// A trace generated from the profile of a fleet.
    Fleet,
    /// A kernel with threads of its own.
    Threads,
    /// A real program.
    Program,
}

/// How a trace was made into a program for several threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ThreadedRecord {
    /// Threads replayed.
    pub threads: u32,
    /// Most of them alive at once.
    pub threads_alive_peak: u32,
    /// Places where a thread must wait for another's operation: a block that changes hands, or a
    /// thread's start or end.
    pub edges: u64,
    /// Blocks freed or reallocated by another thread than allocated them.
    pub cross_thread_frees: u64,
    /// How far threads may run ahead of each other; `None` in the order `strict`, in which they do
    /// not.
    pub window: Option<Window>,
    /// Places where a thread must wait for that reason alone; not among `edges`.
    pub window_edges: u64,
}

/// How far one thread of a replay may run ahead of another: the lead is within both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Window {
    /// Operations of the recorded total order.
    pub operations: u32,
    /// Bytes allocated or freed by them. By no more do the live bytes of the replay differ from
    /// recorded ones.
    pub bytes: u64,
}

/// A real program that was run under each subject.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProgramRecord {
    /// The command, word by word.
    pub command: Vec<String>,
    /// How to install what it needs.
    pub setup: String,
    /// The program's own word for its version.
    pub version: Option<String>,
    /// Builds of the commands that it consists of, by name, where they are installed: build ids, or
    /// SHA-256 of files that have none.
    #[serde(default)]
    pub executables: BTreeMap<String, String>,
    /// SHA-256 over its command and the files that it is given.
    pub files_sha256: String,
}

/// One workload, and what it is like.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WorkloadRecord {
    /// Short name, unique in the file.
    pub name: String,
    /// What it is.
    pub kind: WorkloadKind,
    /// Words to select by, from its definition.
    pub tags: Vec<String>,
    /// One or two sentences: what it is and what it stands for; from its definition, or empty.
    pub description: String,
    /// Known bias, from its definition, or empty.
    pub bias: String,
    /// The file it was read from, or the generator; `None` for a real program.
    pub origin: Option<Origin>,
    /// Counts, sizes, lifetimes, live bytes over time; `None` for a real program.
    pub profile: Option<Profile>,
    /// Order in which it was replayed; `None` for kernels and programs, which have their own.
    pub order: Option<Order>,
    /// The threads of the replay, unless it was [`Order::Serial`].
    pub threaded: Option<ThreadedRecord>,
    /// The real program, if it is one.
    pub program: Option<ProgramRecord>,
}
