//! Reads files and tells their events in words that can be written by hand.

use std::path::{Path, PathBuf};

use mymalloc::trace::{AlignedFunction, Event, Operation, ReadOptions, Trace, read};

pub(crate) const STRICT: ReadOptions = ReadOptions {
    lenient: false,
    process: None,
    progress: false,
    interrupted: None,
};
pub(crate) const LENIENT: ReadOptions = ReadOptions {
    lenient: true,
    ..STRICT
};

pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/data/traces")
        .join(name)
}

/// A fixture, which must be read without a complaint.
pub(crate) fn strict(name: &str) -> Trace {
    read(&fixture(name), &STRICT).unwrap_or_else(|error| panic!("{error}"))
}

/// Reads a file `t` of this content. A message comes back without the folder's name.
pub(crate) fn outcome(content: &[u8], options: &ReadOptions) -> Result<Trace, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("t");
    std::fs::write(&path, content).unwrap();
    read(&path, options).map_err(|error| {
        let prefix = format!("{}/", folder.path().display());
        error.to_string().replace(&prefix, "")
    })
}

/// How the message begins; and that lenient reading drops just this line, and tells the same of it.
pub(crate) fn assert_refused(content: &str, expected: &str) {
    let message = outcome(content.as_bytes(), &STRICT).expect_err("the file should be refused");
    assert!(
        message.starts_with(expected),
        "{message:?} should start with {expected:?}"
    );
    // A message about the whole file has no line.
    let place = expected
        .strip_prefix("t:")
        .filter(|rest| !rest.starts_with(' '));
    let Some((line, what)) = place.and_then(|rest| rest.split_once(": ")) else {
        return;
    };
    let trace = outcome(content.as_bytes(), &LENIENT).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(trace.origin().dropped_lines, 1, "{content}");
    let example = &trace.origin().dropped_examples[0];
    assert!(
        example.starts_with(&format!("line {line}: {what}")),
        "{example:?} should tell {expected:?}"
    );
}

/// One event: `THREAD CALL=BLOCK`, blocks and threads numbered as in the trace.
fn tell(event: &Event) -> String {
    let call = match event.operation {
        Operation::Malloc { block, size } => format!("malloc({size})=b{}", block.0),
        Operation::Calloc { block, count, size } => format!("calloc({count},{size})=b{}", block.0),
        Operation::Aligned {
            block,
            alignment_log2,
            function,
            size,
        } => {
            let name = match function {
                AlignedFunction::Memalign => "memalign",
                AlignedFunction::PosixMemalign => "posix_memalign",
                AlignedFunction::AlignedAlloc => "aligned_alloc",
                AlignedFunction::Valloc => "valloc",
                AlignedFunction::Pvalloc => "pvalloc",
            };
            let alignment = 1_u64 << alignment_log2;
            format!("{name}({alignment},{size})=b{}", block.0)
        }
        Operation::Realloc { old, block, size } => {
            let old = old.map_or("null".to_owned(), |old| format!("b{}", old.0));
            format!("realloc({old},{size})=b{}", block.0)
        }
        Operation::Free { block, sized } => {
            let sized = if sized { ",sized" } else { "" };
            format!("free(b{}{sized})", block.0)
        }
        Operation::FreeNull => "free(null)".to_owned(),
        Operation::FreeUnseen => "free(unseen)".to_owned(),
        Operation::ThreadStart => "starts".to_owned(),
        Operation::ThreadEnd => "ends".to_owned(),
        Operation::Mark => "mark".to_owned(),
        Operation::FailedAllocation => "fails".to_owned(),
    };
    format!("{} {call}", event.thread.0)
}

/// All events in words.
pub(crate) fn told(trace: &Trace) -> Vec<String> {
    trace.events().iter().map(tell).collect()
}

/// Expected events, one a line; blanks around them do not count.
pub(crate) fn lines(text: &str) -> Vec<String> {
    text.lines()
        .map(|line| line.trim().to_owned())
        .filter(|line| !line.is_empty())
        .collect()
}

/// The events of a fixture, line by line.
pub(crate) fn assert_told(trace: &Trace, expected: &str) {
    assert_eq!(told(trace), lines(expected));
}

/// Some note or warning says this.
pub(crate) fn assert_says(sentences: &[String], part: &str) {
    assert!(
        sentences.iter().any(|sentence| sentence.contains(part)),
        "{sentences:?} should say {part:?}"
    );
}
