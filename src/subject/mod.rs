//! A subject: an allocator under test. Linked in under names of its own, the C library's, or any
//! shared object; all of them are called through one table of function pointers ([`functions`]), in
//! a fresh process.

pub mod catalogue;
pub mod floor;
pub mod functions;
pub mod linked;
pub mod object_file;
pub mod shim;

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::measure::results::{SubjectKind, SubjectRecord};
use linked::Linked;

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

    /// What results files say of it. Reads the shared object for its build id.
    pub fn record(&self) -> SubjectRecord {
        let (path, version) = match &self.access {
            Access::Linked(linked) => (None, linked.version()),
            Access::System => (None, libc_version()),
            Access::Preloaded(path) => (
                Some(path.display().to_string()),
                object_file::inspect(path)
                    .ok()
                    .and_then(|object| object.version()),
            ),
        };
        SubjectRecord {
            name: self.name.clone(),
            description: self.description.clone(),
            kind: self.kind(),
            path,
            version,
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
