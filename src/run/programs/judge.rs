//! How a run of a program ended, as a status and a sentence.

#![forbid(unsafe_code)]

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::ProgramOutcome;
use super::bindings::Served;
use crate::error::{Error, Result};
use crate::measure::results::{ProgramMemory, ProgramSample, Status};
use crate::run::process;
use crate::run::supervisor::{Found, Looks, Order, ProgramEnding};
use crate::workload::program::RealProgram;

/// CPU time that may be missing before it is told: what the kernel rounds.
const MISSING_CPU_NS: u64 = 30_000_000;
/// Exit code of a program that the dynamic linker could not start, among others.
const EXIT_NOT_LOADED: i32 = 127;

/// The status and the sentence, and what was measured. `served` is what is known of the allocator
/// that served it.
pub(super) fn judge(
    program: &RealProgram,
    order: &Order,
    found: Found,
    served: &Served,
) -> Result<ProgramOutcome> {
    let output = match &program.table.output {
        Some(name) => order.work.join(name),
        None => order.output.clone(),
    };
    let sha256 = sha256_of(&output)?;
    let (status, reason) = verdict(program, order, &found, served, sha256.as_deref());
    let is_ok = status == Status::Ok;
    let sample = ProgramSample {
        wall_ns: found.wall_ns,
        user_ns: found.user_ns,
        system_ns: found.system_ns,
        output_sha256: sha256.unwrap_or_default(),
        memory: (order.looks == Looks::Memory).then_some(ProgramMemory {
            rss_peak_bytes: found.rss_sum_peak_bytes.max(found.rss_largest_bytes),
            rss_sum_peak_bytes: found.rss_sum_peak_bytes,
            rss_largest_bytes: found.rss_largest_bytes,
            processes_peak: found.processes_peak,
            looks: found.looks,
        }),
    };
    let is_measured = is_ok && order.looks != Looks::Objects;
    Ok(ProgramOutcome {
        status,
        reason: (!is_ok).then_some(reason),
        receipt: None,
        program: is_measured.then_some(sample),
        found: Some(found),
    })
}

fn verdict(
    program: &RealProgram,
    order: &Order,
    found: &Found,
    served: &Served,
    sha256: Option<&str>,
) -> (Status, String) {
    let name = program.table.command.join(" ");
    let said =
        || last_line(&order.errors).map_or(String::new(), |line| format!("; it said: {line}"));
    match (&found.ending, served) {
        (ProgramEnding::TimedOut(names), _) => {
            let seconds = order.timeout.as_secs_f64();
            let left = match names.is_empty() {
                true => String::new(),
                false => format!("; still running: {}", names.join(", ")),
            };
            (Status::TimedOut, format!("killed after {seconds} s{left}"))
        }
        (ProgramEnding::OutOfMemory(bytes), _) => (
            Status::OutOfMemory,
            format!(
                "killed at {} MiB, above the memory limit of {} MiB",
                bytes >> 20,
                order.memory_limit_bytes.unwrap_or(0) >> 20
            ),
        ),
        (ProgramEnding::NotStarted(error), _) => (
            Status::Refused,
            format!("{name} cannot be started: {error}"),
        ),
        (_, Served::ByAnother(reason)) => (Status::Refused, reason.clone()),
        (ProgramEnding::Signalled(signal), _) => {
            let signal = process::signal_name(*signal);
            (Status::Crashed, format!("{name}: {signal}{}", said()))
        }
        (ProgramEnding::Exited(EXIT_NOT_LOADED), _) if not_loaded(&order.errors).is_some() => {
            let reason = not_loaded(&order.errors).unwrap_or_default();
            (Status::Refused, reason)
        }
        (ProgramEnding::Exited(code), _) if *code != 0 => {
            let reason = format!("{name} ended with exit code {code}{}", said());
            (Status::Crashed, reason)
        }
        (ProgramEnding::Exited(_), Served::Unknown(reason)) => (Status::Refused, reason.clone()),
        (ProgramEnding::Exited(_), Served::ByIt) => finished(order, found, sha256, &said()),
    }
}

/// Of a program that ended well.
fn finished(order: &Order, found: &Found, sha256: Option<&str>, said: &str) -> (Status, String) {
    let expected = &order.expected_sha256;
    if sha256 != Some(expected) {
        let found = match sha256 {
            Some(sha256) => format!("has SHA-256 {sha256}"),
            None => "was not written".to_owned(),
        };
        let reason = format!("wrong output: it {found}, expected was {expected}{said}");
        return (Status::Wrong, reason);
    }
    if let Some(reason) = missing_time(found) {
        return (Status::Refused, reason);
    }
    (Status::Ok, String::new())
}

/// Why the CPU time is too small, if so.
fn missing_time(found: &Found) -> Option<String> {
    if let Some(name) = &found.forgetful {
        return Some(format!(
            "{name} ignores the end of its children (SIGCHLD), so the kernel leaves them out of the \
             program's CPU time"
        ));
    }
    let counted_ns = found.user_ns + found.system_ns;
    let missing_ns = found.seen_cpu_ns.saturating_sub(counted_ns);
    (missing_ns > MISSING_CPU_NS).then(|| {
        format!(
            "at least {} ms of CPU time are missing: processes ended and nobody waited for them",
            missing_ns / 1_000_000
        )
    })
}

/// What the dynamic linker said of an object that it could not load, if it did.
fn not_loaded(errors: &Path) -> Option<String> {
    let line = last_line(errors)?;
    [
        "error while loading shared libraries: ",
        "symbol lookup error: ",
    ]
    .iter()
    .find_map(|words| line.find(words).map(|start| line[start..].to_owned()))
}

/// Of a file's content; `None` if there is no such file.
pub(super) fn sha256_of(path: &Path) -> Result<Option<String>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(Error::io(path, "read", source)),
    };
    let mut hash = Sha256::new();
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(Some(hexadecimal(&hash.finalize()))),
            Ok(length) => hash.update(&buffer[..length]),
            // A folder of that name is no output either.
            Err(error) if error.kind() == std::io::ErrorKind::IsADirectory => return Ok(None),
            Err(source) => return Err(Error::io(path, "read", source)),
        }
    }
}

pub(super) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The end of what a program wrote to standard error, on one line and not longer than needed.
pub(super) fn last_line(path: &Path) -> Option<String> {
    const TAIL_BYTES: u64 = 4096;
    let mut file = File::open(path).ok()?;
    let length = file.seek(SeekFrom::End(0)).ok()?;
    file.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES)))
        .ok()?;
    let mut bytes = Vec::new();
    file.take(TAIL_BYTES).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let line = text.lines().rev().find(|line| !line.trim().is_empty())?;
    let printable = line.trim().chars().filter(|c| !c.is_control());
    Some(printable.take(200).collect())
}
