//! What other tools recorded is read as they recorded it, and what they could not tell is told.
//!
//! The expected events were written out by hand from the traced programs (`tests/data/traces/`).

#![cfg(feature = "suite")]
#![forbid(unsafe_code)]

#[path = "trace_importers/told.rs"]
mod told;

#[path = "trace_importers/chattymalloc.rs"]
mod chattymalloc;
#[path = "trace_importers/dj_dump.rs"]
mod dj_dump;
#[path = "trace_importers/documented.rs"]
mod documented;
#[path = "trace_importers/ltrace.rs"]
mod ltrace;
#[path = "trace_importers/memleak.rs"]
mod memleak;
#[path = "trace_importers/mtrace.rs"]
mod mtrace;
#[path = "trace_importers/tags.rs"]
mod tags;
#[path = "trace_importers/tralloc.rs"]
mod tralloc;
#[path = "trace_importers/valgrind.rs"]
mod valgrind;

#[path = "trace_importers/all.rs"]
mod all;
