//! The preload shims, carried inside the program so that they are at hand wherever it is installed.

#![forbid(unsafe_code)]

use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::object_file;
use crate::error::{Error, Result};
use crate::files;

/// The page list as a shared object: built by `build.rs` together with this program.
pub const PAGELIST: &[u8] = include_bytes!(env!("MYMALLOC_SHIM_PAGELIST"));

/// The recorder, to be preloaded before whatever allocator a program uses: see `crate::record`.
pub const RECORDER: &[u8] = include_bytes!(env!("MYMALLOC_SHIM_RECORDER"));

/// MyMalloc as a shared object, of the same build.
pub const MYMALLOC: &[u8] = include_bytes!(env!("MYMALLOC_SHIM_MYMALLOC"));

/// One of the allocators that this program carries as shared objects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shim {
    /// MyMalloc.
    MyMalloc,
    /// The page list.
    PageList,
}

impl Shim {
    /// Under the name that `subjects.toml` uses.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "mymalloc" => Some(Self::MyMalloc),
            "pagelist" => Some(Self::PageList),
            _ => None,
        }
    }

    fn content(self) -> &'static [u8] {
        match self {
            Self::MyMalloc => MYMALLOC,
            Self::PageList => PAGELIST,
        }
    }

    /// A file with just this content, which programs can be run under: the one of this program's build
    /// if it is still there, else a copy that is kept in the user's cache folder. If that cannot be
    /// written, no file is at the path, and whoever wants to use it is told so.
    pub(super) fn file(self) -> PathBuf {
        let built = match self {
            Self::MyMalloc => env!("MYMALLOC_SHIM_MYMALLOC"),
            Self::PageList => env!("MYMALLOC_SHIM_PAGELIST"),
        };
        let built = PathBuf::from(built);
        if has_content(&built, self.content()) {
            return built;
        }
        match cache_folder() {
            Some(folder) => self.copy_in(&folder).unwrap_or(built),
            None => built,
        }
    }

    /// A copy in this folder, named by its content: builds do not disturb each other.
    fn copy_in(self, folder: &Path) -> Result<PathBuf> {
        let content = self.content();
        let hash = Sha256::digest(content);
        let name: String = hash[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        let path = folder.join(format!("libmymalloc-{name}.so"));
        if !has_content(&path, content) {
            std::fs::create_dir_all(folder).map_err(|source| Error::io(folder, "make", source))?;
            files::write_library(&path, content)?;
        }
        Ok(path)
    }
}

fn has_content(path: &Path, content: &[u8]) -> bool {
    std::fs::read(path).is_ok_and(|there| there == content)
}

/// Where programs of this user keep what they can make again (the XDG base directory specification).
fn cache_folder() -> Option<PathBuf> {
    let folder = |variable| std::env::var_os(variable).map(PathBuf::from);
    let is_usable = |path: &PathBuf| path.is_absolute();
    let cache = folder("XDG_CACHE_HOME").filter(is_usable);
    let cache = cache.or_else(|| Some(folder("HOME").filter(is_usable)?.join(".cache")));
    Some(cache?.join("mymalloc"))
}

/// Every shim of this project exports it beside the C names, in every build: a copy under another
/// name, or of another version, is told by it.
const MARK: &str = "mymalloc";

/// Whether a shared object is one of this project's, of whatever version. One that cannot be read is
/// not.
pub fn is_own(path: &Path) -> bool {
    !object_file::defined_functions(path, &[MARK]).is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subject::catalogue::Catalogue;

    #[test]
    fn a_shim_is_a_file_whose_content_is_right() {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = folder.path().join("cache/mymalloc");
        for shim in [Shim::MyMalloc, Shim::PageList] {
            assert!(has_content(&shim.file(), shim.content()));
            let copy = shim.copy_in(&cache).expect("written");
            assert!(has_content(&copy, shim.content()));
            // What was altered is put right, and nothing else is left there.
            std::fs::write(&copy, "altered").expect("ours");
            assert_eq!(shim.copy_in(&cache).expect("written"), copy);
            assert!(object_file::check_allocator(&copy).is_ok());
        }
        assert_eq!(std::fs::read_dir(&cache).expect("there").count(), 2);
        std::fs::write(folder.path().join("file"), "").expect("ours");
        let error = Shim::MyMalloc.copy_in(&folder.path().join("file"));
        assert!(error.is_err());
    }

    #[test]
    fn a_shim_is_known_by_its_code_and_not_by_its_name() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("tuned.so");
        std::fs::write(&path, PAGELIST).expect("ours");
        let extra = format!("tuned={}", path.display());
        let catalogue = Catalogue::load().expect("sound");
        let names = ["pagelist", "mimalloc"].map(str::to_owned);
        let subjects = catalogue.select(Some(&names), &[extra], "system");
        let own: Vec<(String, bool)> = subjects
            .expect("sound")
            .into_iter()
            .map(|subject| (subject.name.clone(), subject.record().is_own))
            .collect();
        for (name, is_own) in own {
            assert_eq!(
                is_own,
                ["pagelist", "tuned"].contains(&name.as_str()),
                "{name}"
            );
        }
        let foreign = crate::subject::libc_path().expect("a C library");
        assert!(!is_own(&foreign) && !is_own(Path::new("/nonexistent.so")));
    }
}
