//! Choosing, comparing and building memory allocators.
//!
//! [`allocator`] is the library of allocators; it stands alone (`default-features = false`) and can
//! be used as `#[global_allocator]`. Everything else is the suite that compares allocators on what
//! a real program asked of its own:
//!
//! ```text
//! record     program + LD_PRELOAD=recorder -> wire file -> Trace -> file   (record, preload, trace)
//! workload   definition or trace file  -> Trace        (trace, workload)
//! plan       workloads x subjects x passes x blocks -> shuffled cells      (plan)
//! run        cell -> fresh child process -> Program -> replay -> Sample    (run, replay, subject)
//! measure    samples + environment -> results.json     (measure)   the contract between the halves
//! report     results.json -> statistics -> table, SVG charts, index.html   (statistics, report)
//! ```
//!
//! Invariant: `allocator` imports nothing of the suite.
//! Invariant: `report` never runs anything; `run` never formats anything; they meet in
//! `measure::results::Results` only. Nothing imports `cli`.

pub mod allocator;

#[cfg(feature = "suite")]
pub mod cli;
#[cfg(feature = "suite")]
pub mod error;
#[cfg(feature = "suite")]
pub mod files;
#[cfg(feature = "suite")]
pub mod measure;
#[cfg(feature = "suite")]
pub mod plan;
#[cfg(feature = "suite")]
pub mod record;
#[cfg(feature = "suite")]
pub mod replay;
#[cfg(feature = "suite")]
pub mod report;
#[cfg(feature = "suite")]
pub mod run;
#[cfg(feature = "suite")]
pub mod statistics;
#[cfg(feature = "suite")]
pub mod subject;
#[cfg(feature = "suite")]
mod toml_text;
#[cfg(feature = "suite")]
pub mod trace;
#[cfg(feature = "suite")]
pub mod workload;
