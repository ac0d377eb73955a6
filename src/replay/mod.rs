//! A trace compiled to a dense program, and the loops that replay it against one allocator.
//!
//! Everything that can be decided beforehand is decided when compiling: the loop loads one 8-byte
//! word per operation, one pointer, and calls the allocator through a table of function pointers,
//! the same for every subject. No allocation, lock, clock or system call of ours stands inside.
//!
//! Threads are replayed in recorded order on one thread.

pub mod kernels;
pub mod memory;
pub mod program;
pub mod resident;
pub mod serial;
pub mod shadow;
pub mod speed;
pub mod verify;
