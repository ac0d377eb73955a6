//! Workload definitions.

pub mod fleet;
pub mod random;
pub mod synthetic;
