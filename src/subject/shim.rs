//! The preload shims, carried inside the program so that they are at hand wherever it is installed.

#![forbid(unsafe_code)]

use std::path::Path;

use super::object_file;

/// The page list as a shared object: built by `build.rs` together with this program.
pub const PAGELIST: &[u8] = include_bytes!(env!("MYMALLOC_SHIM_PAGELIST"));

/// The recorder, to be preloaded before whatever allocator a program uses: see `crate::record`.
pub const RECORDER: &[u8] = include_bytes!(env!("MYMALLOC_SHIM_RECORDER"));

/// MyMalloc as a shared object, of the same build.
pub const MYMALLOC: &[u8] = include_bytes!(env!("MYMALLOC_SHIM_MYMALLOC"));

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
