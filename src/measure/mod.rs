//! What was measured: samples, the environment they were taken in, and the results file, which is
//! the contract between running and reporting.

pub mod compare;
pub mod disturbance;
pub mod environment;
pub mod fidelity;
pub mod latency;
pub mod machine;
pub mod memory;
pub mod merge;
pub mod noise;
pub mod pairs;
pub mod rank;
pub mod results;
pub mod summary;
pub mod warnings;
