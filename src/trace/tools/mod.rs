//! Tools on traces, one file each: they measure, check, cut, join and change what passes from a reader
//! ([`super::read_into`]) into a sink. Pure; memory stays within what live blocks, threads and call
//! sites need, however long the trace.
//!
//! | tool | takes | hands on |
//! |---|---|---|
//! | `stat` | a trace | what it is like, beyond [`super::profile`] |
//! | `validate` | a trace | what holds and what does not |
//! | `slice` | a trace | a piece, with the live set at its start |
//! | `filter` | a trace | chosen blocks |
//! | `anonymise` | a trace | the same without anything that names its origin |
//! | `scale` | a trace | several copies at once |
//! | `merge` | several | one |
//! | `diff` | two of `stat` | their ratios |

#![forbid(unsafe_code)]

pub mod anonymise;
pub mod diff;
pub mod filter;
pub mod guarantees;
pub mod merge;
mod output;
pub mod scale;
pub mod size_classes;
pub mod slice;
pub mod stat;
pub mod survey;
pub mod validate;
