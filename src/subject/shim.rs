//! The preload shims, carried inside the program so that they are at hand wherever it is installed.

#![forbid(unsafe_code)]

/// The page list as a shared object: built by `build.rs` together with this program.
pub const PAGELIST: &[u8] = include_bytes!(env!("MYMALLOC_SHIM_PAGELIST"));
