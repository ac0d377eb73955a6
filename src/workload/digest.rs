//! One number for a workload's definition and all data it names: two runs whose numbers agree replayed
//! the same.

#![forbid(unsafe_code)]

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::definition::Definition;
use super::program::RealProgram;
use crate::error::{Error, Result};

/// SHA-256, in hexadecimal, over a definition and the files that it names. Of a definition's own text
/// too: parameters of generators stand in it.
///
/// # Errors
/// A file cannot be read.
pub fn digest(definition: &Definition) -> Result<String> {
    let mut hash = Sha256::new();
    for path in files(definition)? {
        let mut file = File::open(&path).map_err(|source| Error::io(&path, "read", source))?;
        let mut buffer = vec![0; 1 << 16];
        let mut length = 0;
        loop {
            let read = file
                .read(&mut buffer)
                .map_err(|source| Error::io(&path, "read", source))?;
            if read == 0 {
                break;
            }
            hash.update(&buffer[..read]);
            length += read as u64;
        }
        // So that no two lists of files read the same.
        hash.update(length.to_le_bytes());
    }
    let digest = hash.finalize();
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn files(definition: &Definition) -> Result<Vec<PathBuf>> {
    let mut files = vec![definition.path.clone()];
    files.extend(definition.trace_file());
    let folder = definition.path.parent().unwrap_or(Path::new(""));
    let table = definition
        .fleet
        .as_ref()
        .and_then(|fleet| fleet.get("table"));
    if let Some(table) = table.and_then(|table| table.as_str()) {
        files.push(folder.join(table));
    }
    if definition.program.is_some() {
        let program = RealProgram::of(definition)?;
        files.extend(program.files.into_iter().chain(program.input));
    }
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::definition;

    #[test]
    fn the_data_counts_as_much_as_the_definition() {
        let folder = tempfile::tempdir().expect("a folder");
        let at = |name: &str| folder.path().join(name);
        let text = "name = 'w'\nkind = 'trace'\ndescription = 'd'\nstands_for = 's'\norigin = 'o'\n\
                    licence = 'l'\nbias = 'b'\n[trace]\nfile = 'w.log'\n";
        let digest_of = |definition: &str, trace: &str| {
            std::fs::write(at("w.toml"), definition).expect("ours");
            std::fs::write(at("w.log"), trace).expect("ours");
            digest(&definition::load(&at("w.toml")).expect("sound")).expect("readable")
        };
        let first = digest_of(text, "1 1 malloc(1)=#1\n");
        assert_eq!(first, digest_of(text, "1 1 malloc(1)=#1\n"));
        assert_ne!(first, digest_of(text, "1 1 malloc(2)=#1\n"));
        let other = text.replace("'d'", "'another'");
        assert_ne!(first, digest_of(&other, "1 1 malloc(1)=#1\n"));
    }
}
