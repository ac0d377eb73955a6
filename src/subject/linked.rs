//! The allocators that are part of this program, under names of their own: none is called `malloc`.

use core::ffi::{CStr, c_void};

use super::floor;
use super::functions::Functions;

/// An allocator that is part of this program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Linked {
    /// The page list of this project.
    PageList,
    /// mimalloc, from its crate.
    Mimalloc,
    /// jemalloc, from its crate.
    Jemalloc,
    /// Fixed addresses: the harness's own cost.
    Null,
    /// Addresses counted upwards, nothing used again.
    Bump,
}

impl Linked {
    /// Under the name that `subjects.toml` uses.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "pagelist" => Self::PageList,
            "mimalloc" => Self::Mimalloc,
            "jemalloc" => Self::Jemalloc,
            "null" => Self::Null,
            "bump" => Self::Bump,
            _ => return None,
        })
    }

    /// The name that [`Linked::from_name`] takes.
    pub fn name(self) -> &'static str {
        match self {
            Self::PageList => "pagelist",
            Self::Mimalloc => "mimalloc",
            Self::Jemalloc => "jemalloc",
            Self::Null => "null",
            Self::Bump => "bump",
        }
    }

    /// The functions, under names of their own: none of them is called `malloc`.
    pub fn functions(self) -> Functions {
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
            Self::Null => floor::NULL,
            Self::Bump => floor::BUMP,
        }
    }

    /// Version, as the allocator's own code or crate tells it.
    pub fn version(self) -> Option<String> {
        match self {
            Self::PageList => Some(env!("CARGO_PKG_VERSION").to_owned()),
            Self::Mimalloc => {
                // SAFETY: takes nothing, returns a number.
                let number = unsafe { libmimalloc_sys::mi_version() };
                Some(mimalloc_version(number))
            }
            Self::Jemalloc => jemalloc_version(),
            Self::Null | Self::Bump => None,
        }
    }
}

/// mimalloc 2 numbers 2.1.7 as 217; mimalloc 3.1 and later as 30105.
fn mimalloc_version(number: i32) -> String {
    if number >= 10_000 {
        format!(
            "{}.{}.{}",
            number / 10_000,
            number / 100 % 100,
            number % 100
        )
    } else {
        format!("{}.{}.{}", number / 100, number / 10 % 10, number % 10)
    }
}

fn jemalloc_version() -> Option<String> {
    let mut text: *const libc::c_char = core::ptr::null();
    let mut length = size_of_val(&text);
    // SAFETY: "version" is a read-only `const char *`; `text` has room for it and `length` says so.
    let failed = unsafe {
        tikv_jemalloc_sys::mallctl(
            c"version".as_ptr(),
            (&raw mut text).cast(),
            &raw mut length,
            core::ptr::null_mut(),
            0,
        )
    };
    if failed != 0 || text.is_null() {
        return None;
    }
    // SAFETY: jemalloc returned its static, terminated version string.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    // "5.3.0-0-g54eaed1d8b56b1aa528be3bdd1877e59c56fa90c"
    Some(text.split('-').next().unwrap_or(&text).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn linked_versions_are_told() {
        let mimalloc = Linked::Mimalloc
            .version()
            .expect("mimalloc tells its version");
        assert!(mimalloc.starts_with(['2', '3']), "{mimalloc}");
        let jemalloc = Linked::Jemalloc
            .version()
            .expect("jemalloc tells its version");
        assert!(jemalloc.starts_with("5."), "{jemalloc}");
        assert_eq!(mimalloc_version(217), "2.1.7");
        assert_eq!(mimalloc_version(30_105), "3.1.5");
    }

    #[test]
    fn linked_allocators_do_not_replace_malloc() {
        let system = Functions::resolved().expect("the C library has them all");
        for linked in [Linked::PageList, Linked::Mimalloc, Linked::Jemalloc] {
            assert!(
                !system
                    .addresses()
                    .contains(&(linked.functions().malloc as *const c_void))
            );
        }
    }
}
