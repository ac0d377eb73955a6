//! Replay on real threads: one OS thread for each recorded one.
//!
//! `compile` makes one run of words for each thread, with a word where it must wait for another;
//! `hand_over` is the waiting, `accounts` what it costs; `run` performs the words; `passes`, `memory`,
//! `parts` and `latency` are what is done around the calls. Why it cannot deadlock stands in `compile`.

mod accounts;
mod checker;
mod compile;
mod hand_over;
pub mod latency;
mod lives;
mod mapped;
pub mod memory;
pub mod parts;
mod passes;
pub mod program;
mod run;
#[cfg(test)]
mod stress;
#[cfg(test)]
mod tests;
mod vacancies;
mod waits;

pub use accounts::Timed;
pub(super) use accounts::process_cpu_ns;
pub use checker::{Ground, SlotPattern, SlotPlace};
pub use passes::{timed_pass, verify};
pub use program::{ThreadedProgram, ThreadedView};
pub use run::{Crew, Ended};
