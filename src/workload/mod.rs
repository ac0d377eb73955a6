//! What is replayed: definitions say what a workload is and what it stands for, and lead to its
//! trace, recorded or generated.

pub mod definition;
pub mod digest;
pub mod fleet;
pub mod model;
pub mod program;
pub mod random;
pub mod source;
pub mod synthetic;
