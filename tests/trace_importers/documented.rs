//! The table of formats in `workloads/formats.md` names each one's fixtures and their lines: so many
//! there are.

use std::path::Path;

const DOCUMENT: &str = include_str!("../../workloads/formats.md");

/// Files of `tests/data` that a pattern names: one folder, one `*`.
fn named(pattern: &str) -> Vec<std::path::PathBuf> {
    let pattern = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data")
        .join(pattern);
    let name = pattern.file_name().expect("a file").to_str().expect("text");
    let (begin, end) = name.split_once('*').unwrap_or((name, ""));
    let folder = pattern.parent().expect("a folder").read_dir();
    let entries = folder
        .expect("the folder is there")
        .map(|entry| entry.expect("readable"));
    let fits = |name: &str| match name.strip_prefix(begin) {
        Some(rest) if pattern.to_string_lossy().contains('*') => rest.ends_with(end),
        Some(rest) => rest.is_empty(),
        None => false,
    };
    entries
        .filter(|entry| fits(entry.file_name().to_str().expect("text")))
        .map(|entry| entry.path())
        .collect()
}

/// `| ... | `pattern`, 43 lines, ... |`
fn claim(row: &str) -> Option<(&str, usize)> {
    let cell = row.trim_end_matches(['|', ' ']).rsplit('|').next()?;
    let (pattern, rest) = cell.trim().strip_prefix('`')?.split_once("`, ")?;
    let number = rest.split_once(" lines")?.0;
    Some((pattern, number.parse().ok()?))
}

#[test]
fn the_table_of_formats_counts_the_lines_of_the_fixtures() {
    let claims: Vec<(&str, usize)> = DOCUMENT.lines().filter_map(claim).collect();
    assert_eq!(claims.len(), 13, "formats of lines: {claims:?}");
    for (pattern, claimed) in claims {
        let files = named(pattern);
        assert!(!files.is_empty(), "{pattern} names no fixture");
        let lines = files.iter().map(|file| {
            let bytes = std::fs::read(file).expect("readable");
            bytes.split_inclusive(|&byte| byte == b'\n').count()
        });
        assert_eq!(lines.sum::<usize>(), claimed, "{pattern}");
    }
}
