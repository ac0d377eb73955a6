//! What must hold whatever a file contains, for the fuzz targets (`fuzz/`) and for the short run of
//! altered fixtures among the tests (`fuzz_smoke.rs`): both include this folder.
//!
//! | file | what |
//! |---|---|
//! | `families` | the groups of parsers, each with its check and its seeds |
//! | `reading` | the properties of reading a trace |
//! | `tools` | the properties of writing it again and of the tools |
//! | `inputs` | the other files that people write or pass on: definitions, tables, results |
//! | `disguise` | files made whole again after they were altered: checksums, units |
//! | `seeds` | where altering begins: the fixtures of all tests, pieces of the bundled traces |
//! | `mutate` | alterations, the same for the same seed |
//! | `memory` | the heap that a piece of work takes |

#![allow(dead_code, reason = "targets and tests use a part each")]

pub(crate) mod disguise;
pub(crate) mod families;
pub(crate) mod inputs;
pub(crate) mod memory;
pub(crate) mod mutate;
pub(crate) mod reading;
pub(crate) mod seeds;
pub(crate) mod tools;
