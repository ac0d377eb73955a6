//! A trace compiled to a dense program, and the loops that replay it against one allocator.
//!
//! Everything that can be decided beforehand is decided when compiling: the loop loads one 8-byte
//! word per operation, one pointer, and calls the allocator through a table of function pointers,
//! the same for every subject. No allocation, lock, clock or system call of ours stands inside.
//!
//! `serial` replays all threads in recorded order on one; `threaded` on as many as were recorded.

pub mod anonymous;
mod clock;
pub mod kernels;
pub mod latency;
pub mod live_pages;
pub mod memory;
pub mod page_set;
pub mod parts;
mod pattern;
pub mod peak;
pub mod program;
pub mod resident;
pub mod serial;
pub mod shadow;
pub mod slots;
pub mod speed;
pub mod system_calls;
pub mod threaded;
mod touched;
mod used;
pub mod verify;
