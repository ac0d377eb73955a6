//! A subject: an allocator under test. Linked in under names of its own, the C library's, or any
//! shared object; all of them are called through one table of function pointers ([`functions`]), in
//! a fresh process.

pub mod catalogue;
pub mod floor;
pub mod functions;
pub mod linked;
pub mod object_file;
pub mod shim;
pub mod slowed;
pub mod version;

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::measure::results::{SubjectKind, SubjectRecord};
use linked::Linked;
use version::VersionSource;

/// How a subject is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// Part of this program.
    Linked(Linked),
    /// The C library's malloc.
    System,
    /// A shared object, preloaded into the child; the path is absolute.
    Preloaded(PathBuf),
}

/// An allocator under test.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Short name, unique in a run.
    pub name: String,
    /// One sentence.
    pub description: String,
    /// How it is reached.
    pub access: Access,
    /// Environment variables for the child.
    pub environment: BTreeMap<String, String>,
    /// How its version is learnt.
    pub version: VersionSource,
}

impl Subject {
    /// Linked, system, preloaded or floor.
    pub fn kind(&self) -> SubjectKind {
        match &self.access {
            Access::Linked(Linked::Null | Linked::Bump) => SubjectKind::Floor,
            Access::Linked(_) => SubjectKind::Linked,
            Access::System => SubjectKind::System,
            Access::Preloaded(_) => SubjectKind::Preloaded,
        }
    }

    /// Whether it is an allocator whose blocks can be checked and whose memory means something.
    pub fn is_null(&self) -> bool {
        self.access == Access::Linked(Linked::Null)
    }

    /// The word by which a child finds the functions again.
    pub fn token(&self) -> &'static str {
        match &self.access {
            Access::Linked(linked) => linked.name(),
            Access::System | Access::Preloaded(_) => "resolved",
        }
    }

    /// What results files say of it, but for its version and build, which a session learns.
    pub fn record(&self) -> SubjectRecord {
        let path = match &self.access {
            Access::Preloaded(path) => Some(path.display().to_string()),
            Access::Linked(_) | Access::System => None,
        };
        SubjectRecord {
            name: self.name.clone(),
            description: self.description.clone(),
            kind: self.kind(),
            path,
            version: None,
            build: None,
            environment: self.environment.clone(),
            twin_of: None,
            is_own: self.is_own(),
        }
    }

    /// Whether this project wrote it, whatever name it was given: its author has a stake in its rank.
    pub fn is_own(&self) -> bool {
        match &self.access {
            Access::Linked(linked) => {
                matches!(linked, Linked::MyMalloc | Linked::PageList)
            }
            Access::System => false,
            Access::Preloaded(path) => shim::is_own(path),
        }
    }
}

/// "glibc 2.36", as the library itself tells it.
pub fn libc_version() -> Option<String> {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: returns a static, terminated string.
        let text = unsafe { core::ffi::CStr::from_ptr(libc::gnu_get_libc_version()) };
        Some(format!("glibc {}", text.to_string_lossy()))
    }
    #[cfg(not(target_env = "gnu"))]
    None
}

/// Where the C library's file is, as the dynamic linker tells it.
pub fn libc_path() -> Option<PathBuf> {
    use std::os::unix::ffi::OsStrExt as _;

    let inside = libc::getpid as *const core::ffi::c_void;
    // SAFETY: a structure of pointers, for which zeroes are valid.
    let mut object: libc::Dl_info = unsafe { core::mem::zeroed() };
    // SAFETY: `object` has room for the answer; any address may be asked for.
    let found = unsafe { libc::dladdr(inside, &raw mut object) } != 0;
    if !found || object.dli_fname.is_null() {
        return None;
    }
    // SAFETY: dladdr gives the linker's own terminated string, and the C library stays loaded.
    let name = unsafe { core::ffi::CStr::from_ptr(object.dli_fname) };
    Some(PathBuf::from(std::ffi::OsStr::from_bytes(name.to_bytes())))
}
