//! The allocators that are part of this program, under names of their own: none is called `malloc`.

#[cfg(feature = "dlmalloc")]
mod dlmalloc;
#[cfg(feature = "rpmalloc")]
mod rpmalloc;
#[cfg(feature = "snmalloc")]
mod snmalloc;
#[cfg(feature = "talc")]
mod talc;

use core::ffi::c_void;

use super::functions::Functions;
use super::{floor, slowed, version};

/// An allocator that is part of this program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Linked {
    /// MyMalloc, of this project.
    MyMalloc,
    /// The page list of this project.
    PageList,
    /// mimalloc, from its crate.
    Mimalloc,
    /// jemalloc, from its crate.
    Jemalloc,
    /// snmalloc, from its crate.
    #[cfg(feature = "snmalloc")]
    Snmalloc,
    /// rpmalloc, from its crate.
    #[cfg(feature = "rpmalloc")]
    Rpmalloc,
    /// The Rust port of dlmalloc, behind a lock.
    #[cfg(feature = "dlmalloc")]
    Dlmalloc,
    /// talc, behind a lock.
    #[cfg(feature = "talc")]
    Talc,
    /// Fixed addresses: the harness's own cost.
    Null,
    /// Addresses counted upwards, nothing used again.
    Bump,
    /// The C library's, slower by a known amount: see [`slowed`].
    Slowed,
}

impl Linked {
    /// Under the name that `subjects.toml` uses.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "mymalloc" => Self::MyMalloc,
            "pagelist" => Self::PageList,
            "mimalloc" => Self::Mimalloc,
            "jemalloc" => Self::Jemalloc,
            #[cfg(feature = "snmalloc")]
            "snmalloc" => Self::Snmalloc,
            #[cfg(feature = "rpmalloc")]
            "rpmalloc" => Self::Rpmalloc,
            #[cfg(feature = "dlmalloc")]
            "dlmalloc" => Self::Dlmalloc,
            #[cfg(feature = "talc")]
            "talc" => Self::Talc,
            "null" => Self::Null,
            "bump" => Self::Bump,
            "slowed" => Self::Slowed,
            _ => return None,
        })
    }

    /// The name that [`Linked::from_name`] takes.
    pub fn name(self) -> &'static str {
        match self {
            Self::MyMalloc => "mymalloc",
            Self::PageList => "pagelist",
            Self::Mimalloc => "mimalloc",
            Self::Jemalloc => "jemalloc",
            #[cfg(feature = "snmalloc")]
            Self::Snmalloc => "snmalloc",
            #[cfg(feature = "rpmalloc")]
            Self::Rpmalloc => "rpmalloc",
            #[cfg(feature = "dlmalloc")]
            Self::Dlmalloc => "dlmalloc",
            #[cfg(feature = "talc")]
            Self::Talc => "talc",
            Self::Null => "null",
            Self::Bump => "bump",
            Self::Slowed => "slowed",
        }
    }

    /// The functions, under names of their own: none of them is called `malloc`.
    pub fn functions(self) -> Functions {
        use crate::allocator::mymalloc::c as mymalloc;
        use crate::allocator::pagelist::c as pagelist;
        use libmimalloc_sys as mimalloc;
        use tikv_jemalloc_sys as jemalloc;

        unsafe extern "C" fn mimalloc_usable_size(block: *mut c_void) -> usize {
            // SAFETY: the caller gives a block of mimalloc, as malloc_usable_size demands.
            unsafe { mimalloc::mi_usable_size(block) }
        }
        unsafe extern "C" fn jemalloc_usable_size(block: *mut c_void) -> usize {
            // SAFETY: the caller gives a block of jemalloc, as malloc_usable_size demands.
            unsafe { jemalloc::malloc_usable_size(block) }
        }
        match self {
            Self::MyMalloc => Functions {
                malloc: mymalloc::malloc,
                free: mymalloc::free,
                calloc: mymalloc::calloc,
                realloc: mymalloc::realloc,
                posix_memalign: mymalloc::posix_memalign,
                aligned_alloc: mymalloc::aligned_alloc,
                malloc_usable_size: mymalloc::malloc_usable_size,
            },
            Self::PageList => Functions {
                malloc: pagelist::malloc,
                free: pagelist::free,
                calloc: pagelist::calloc,
                realloc: pagelist::realloc,
                posix_memalign: pagelist::posix_memalign,
                aligned_alloc: pagelist::aligned_alloc,
                malloc_usable_size: pagelist::malloc_usable_size,
            },
            Self::Mimalloc => Functions {
                malloc: mimalloc::mi_malloc,
                free: mimalloc::mi_free,
                calloc: mimalloc::mi_calloc,
                realloc: mimalloc::mi_realloc,
                posix_memalign: mimalloc::mi_posix_memalign,
                aligned_alloc: mimalloc::mi_aligned_alloc,
                malloc_usable_size: mimalloc_usable_size,
            },
            Self::Jemalloc => Functions {
                malloc: jemalloc::malloc,
                free: jemalloc::free,
                calloc: jemalloc::calloc,
                realloc: jemalloc::realloc,
                posix_memalign: jemalloc::posix_memalign,
                aligned_alloc: jemalloc::aligned_alloc,
                malloc_usable_size: jemalloc_usable_size,
            },
            #[cfg(feature = "snmalloc")]
            Self::Snmalloc => snmalloc::FUNCTIONS,
            #[cfg(feature = "rpmalloc")]
            Self::Rpmalloc => rpmalloc::FUNCTIONS,
            #[cfg(feature = "dlmalloc")]
            Self::Dlmalloc => dlmalloc::FUNCTIONS,
            #[cfg(feature = "talc")]
            Self::Talc => talc::FUNCTIONS,
            Self::Null => floor::NULL,
            Self::Bump => floor::BUMP,
            Self::Slowed => slowed::functions(),
        }
    }

    /// Version, as the allocator's own code or crate tells it.
    pub fn version(self) -> Option<String> {
        match self {
            Self::MyMalloc | Self::PageList => Some(env!("CARGO_PKG_VERSION").to_owned()),
            Self::Mimalloc => {
                // SAFETY: takes nothing, returns a number.
                let number = unsafe { libmimalloc_sys::mi_version() };
                Some(version::mimalloc_version(number))
            }
            Self::Jemalloc => version::mallctl_text(tikv_jemalloc_sys::mallctl, "version"),
            #[cfg(feature = "snmalloc")]
            Self::Snmalloc => Some(snmalloc::VERSION.to_owned()),
            #[cfg(feature = "rpmalloc")]
            Self::Rpmalloc => Some(rpmalloc::VERSION.to_owned()),
            #[cfg(feature = "dlmalloc")]
            Self::Dlmalloc => Some(dlmalloc::VERSION.to_owned()),
            #[cfg(feature = "talc")]
            Self::Talc => Some(talc::VERSION.to_owned()),
            Self::Null | Self::Bump => None,
            Self::Slowed => super::libc_version(),
        }
    }
}

/// The cargo features that link further allocators in, and whether this build has each.
pub const FEATURES: [(&str, bool); 4] = [
    ("snmalloc", cfg!(feature = "snmalloc")),
    ("rpmalloc", cfg!(feature = "rpmalloc")),
    ("dlmalloc", cfg!(feature = "dlmalloc")),
    ("talc", cfg!(feature = "talc")),
];

/// The cargo feature that this build would need to have the allocator of that name.
pub(super) fn absent_feature(name: &str) -> Option<&'static str> {
    FEATURES
        .iter()
        .find(|(feature, built)| *feature == name && !built)
        .map(|(feature, _)| *feature)
}

/// The end of a `posix_memalign`: stores the block, or says that there is none.
///
/// # Safety
/// `out` is a valid place for a pointer.
#[cfg(any(
    feature = "snmalloc",
    feature = "rpmalloc",
    feature = "dlmalloc",
    feature = "talc"
))]
unsafe fn store(out: *mut *mut c_void, block: *mut c_void) -> core::ffi::c_int {
    if block.is_null() {
        return libc::ENOMEM;
    }
    // SAFETY: valid, as the caller says.
    unsafe { out.write(block) };
    0
}
