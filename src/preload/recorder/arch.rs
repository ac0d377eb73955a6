//! What only assembly can say: the entries of the wrapped functions, the thread's own words, system
//! calls. One module per architecture, with the same names.

#[cfg(target_arch = "aarch64")]
#[path = "arch_aarch64.rs"]
mod chosen;
#[cfg(target_arch = "x86_64")]
#[path = "arch_x86_64.rs"]
mod chosen;

#[cfg(not(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
)))]
compile_error!("the recorder is written for 64-bit Linux on x86-64 and aarch64");

pub(crate) use chosen::*;
