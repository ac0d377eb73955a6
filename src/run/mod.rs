//! Taking samples: a fresh child process each, started, watched and killed by the parent.
//!
//! ```text
//! parent   Request -> spawn -> wait, time-out, Ctrl-C -> Answer -> Sample
//! child    arguments -> functions, receipt -> prepare -> replay -> Answer
//! ```
//! The child is this same executable with a hidden first argument; the answer is a mapped file that
//! both see, so that it survives whatever the allocator does to the child's heap and descriptors.

pub mod answer;
pub mod child;
pub mod engine;
pub mod execute;
pub mod experiment;
mod family;
pub mod fidelity;
pub mod interrupt;
pub mod journal;
mod judge;
mod latency;
mod memory;
mod on_threads;
mod one_thread;
pub mod process;
mod process_tree;
pub mod programs;
mod receipt;
pub mod request;
mod scratch;
pub mod selftest;
pub mod session;
pub mod steps;
pub mod stopping;
pub mod suite;
pub mod supervisor;
mod times;
pub mod usage;
