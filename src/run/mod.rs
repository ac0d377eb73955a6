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
pub mod execute;
pub mod experiment;
pub mod interrupt;
pub mod process;
pub mod request;
pub mod session;
