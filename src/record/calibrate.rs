//! What recording an operation costs on this machine: a loop of nothing but malloc and free, in a child
//! with the recorder and in one without, before the program runs. It also shows whether the recorder
//! can be preloaded here at all.

use std::ffi::{OsStr, OsString};
use std::hint::black_box;
use std::path::Path;
use std::process::{Command, Stdio};

use super::drain::Drain;
use super::system;
use crate::error::{Error, Result};

/// First argument of the child.
const FIRST_ARGUMENT: &str = "mymalloc-calibrate-recorder";
/// Enough that the recorder takes several chunks of its file, which is part of the cost.
const PAIRS: u32 = 200_000;
/// Children of each kind, taking turns; the quickest counts, as nothing makes a loop quicker than it is.
const CHILDREN: u32 = 3;
/// Bytes of a block, as in the project's cost bars.
const BLOCK_BYTES: usize = 64;
/// Bytes that the recorder may write for a child: twice what it needs, with times and sites.
const LIMIT_BYTES: u64 = 2 * 32 * 2 * PAIRS as u64;

/// Must be called first in every `main` that records: in a child it runs the loop and ends the process.
pub fn intercept() {
    let first = std::env::args_os().nth(1);
    if first.as_deref() == Some(OsStr::new(FIRST_ARGUMENT)) {
        println!("{}", operation_ps());
        std::process::exit(0);
    }
}

/// CPU time of an operation, in picoseconds.
fn operation_ps() -> u128 {
    let before = system::cpu_time();
    for _ in 0..PAIRS {
        // SAFETY: the block is freed right away and never used.
        unsafe { libc::free(black_box(libc::malloc(black_box(BLOCK_BYTES)))) };
    }
    let spent = system::cpu_time().saturating_sub(before);
    spent.as_nanos() * 1000 / u128::from(2 * PAIRS)
}

/// What the recorder adds to an operation, in picoseconds of CPU time.
///
/// # Errors
/// The recorder cannot be preloaded here; the message says what the system says.
pub(super) fn overhead_ps(
    folder: &Path,
    preload: &OsStr,
    preload_without: &OsStr,
    options: &str,
) -> Result<u64> {
    let failed = |source| Error::io(folder, "make a folder there", source);
    let records = folder.join("calibration");
    std::fs::create_dir(&records).map_err(failed)?;
    let drain = Drain::begin(&records)?;
    let with = || child(preload, Some((&records, options)));
    let without = || child(preload_without, None);
    let (mut least_with, mut least_without) = (u64::MAX, u64::MAX);
    let mut said = String::new();
    for _ in 0..CHILDREN {
        let (time, message) = with()?;
        (least_with, said) = (least_with.min(time), message);
        least_without = least_without.min(without()?.0);
    }
    drain.end();
    let is_loaded = std::fs::read_dir(&records)
        .map_err(failed)?
        .flatten()
        .any(|entry| entry.path().extension() == Some(OsStr::new("wire")));
    let _ = std::fs::remove_dir_all(&records);
    if !is_loaded {
        let said = said.lines().next().unwrap_or("nothing is said why");
        return Err(Error::Failed(format!(
            "the recorder cannot be preloaded on this system: {said}"
        )));
    }
    Ok(least_with.saturating_sub(least_without))
}

/// Time of an operation in a child, and what it wrote to standard error.
fn child(preload: &OsStr, record: Option<(&Path, &str)>) -> Result<(u64, String)> {
    let mut command = Command::new("/proc/self/exe");
    command
        .arg(FIRST_ARGUMENT)
        .env_remove("LD_PRELOAD")
        .stdin(Stdio::null());
    if !preload.is_empty() {
        command.env("LD_PRELOAD", preload);
    }
    if let Some((folder, options)) = record {
        let options = match options {
            "" => format!("limit={LIMIT_BYTES}"),
            _ => format!("limit={LIMIT_BYTES},{options}"),
        };
        command
            .env("MYMALLOC_RECORD", OsString::from(folder))
            .env("MYMALLOC_RECORD_OPTIONS", options);
    }
    let output = command
        .output()
        .map_err(|error| Error::Failed(format!("cannot run this program again: {error}")))?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let time = String::from_utf8_lossy(&output.stdout).trim().parse().ok();
    match time.filter(|_| output.status.success()) {
        Some(time) => Ok((time, said)),
        None => Err(Error::Failed(format!(
            "a loop of malloc and free under the recorder did not end as it should ({}): {}",
            output.status,
            said.lines().next().unwrap_or("it said nothing")
        ))),
    }
}
