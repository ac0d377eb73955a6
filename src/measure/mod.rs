//! What was measured: samples, the environment they were taken in, and the results file, which is
//! the contract between running and reporting.

pub mod environment;
pub mod results;
pub mod summary;
pub mod warnings;
