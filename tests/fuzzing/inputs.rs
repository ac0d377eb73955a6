//! The other files that a stranger may hand over: definitions of workloads, tables of fleets,
//! catalogues of subjects, results. They are read or refused, with their place.

use std::path::Path;

use mymalloc::error::{Error, Result};
use mymalloc::report::read_results;
use mymalloc::subject::catalogue::Catalogue;
use mymalloc::workload::definition;
use mymalloc::workload::fleet::Table;
use mymalloc::workload::source::Source;

use super::memory::peak_of;

/// They are text of some kilobytes.
const HEAP_BYTES_MAX: u64 = 64 << 20;

thread_local! {
    /// Of this thread; thousands of files are read one after the other.
    static FOLDER: tempfile::TempDir = tempfile::tempdir().expect("a folder for temporary files");
}

/// The file as each of them.
pub(crate) fn check(bytes: &[u8]) {
    FOLDER.with(|folder| {
        let path = folder.path().join("t.toml");
        std::fs::write(&path, bytes).expect("a temporary file can be written");
        judge(&path, || {
            let definition = definition::load(&path)?;
            Source::of(&definition).map(|_| ())
        });
        judge(&path, || Catalogue::load_with(Some(&path)).map(|_| ()));
        judge(&path, || read_results(&path).map(|_| ()));
    });
    if let Ok(text) = std::str::from_utf8(bytes) {
        let path = Path::new("t.csv");
        judge(path, || Table::parse(path, text).map(|_| ()));
    }
}

fn judge(path: &Path, read: impl FnOnce() -> Result<()>) {
    let (outcome, peak) = peak_of(read);
    assert!(peak <= HEAP_BYTES_MAX, "{} MiB of the heap", peak >> 20);
    let Err(error) = outcome else { return };
    let message = error.to_string();
    assert!(
        message.starts_with(&path.display().to_string()),
        "{message:?}"
    );
    assert!(!message.chars().any(char::is_control), "{message:?}");
    assert!(message.len() < 1000, "{message:?}");
    // Text that is none has no lines.
    let whole = matches!(error, Error::File { .. } | Error::Io { .. });
    assert!(
        whole || matches!(error, Error::Line { line, .. } if line > 0),
        "{message:?}"
    );
}
