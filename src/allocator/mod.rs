//! The allocators.
