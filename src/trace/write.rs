//! Writes a trace as text, in each of the grammars that can be read.
//!
//! Blocks are named by slots, and the lowest free slot is taken first: names stay short, and the
//! text compresses far better than with the addresses of the recorded run. What a grammar cannot
//! tell is counted and handed back, so that the caller can say so.

#![forbid(unsafe_code)]

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, Write};
use std::path::Path;

use super::native;
use super::{AlignedFunction, BlockId, Event, Operation, Trace};
use crate::error::Result;
use crate::files::{PLAIN_MODE, replace};

/// A grammar to write.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum TextFormat {
    /// Logalloc, munged: the native one.
    Native,
    /// Android `memory_replay`.
    Android,
    /// CMU `.rep`.
    Rep,
}

/// What a grammar could not tell, in words, each with the number of events concerned.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Losses(Vec<(&'static str, u64)>);

impl Losses {
    /// Counts one more.
    pub(super) fn add(&mut self, what: &'static str) {
        match self.0.iter_mut().find(|(known, _)| *known == what) {
            Some((_, count)) => *count += 1,
            None => self.0.push((what, 1)),
        }
    }

    /// What was lost, and how often.
    pub fn counts(&self) -> &[(&'static str, u64)] {
        &self.0
    }

    /// Whether the text tells everything that the trace holds.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Writes a trace to a file, compressed if its name ends in `.zst` or `.gz`. The file is written
/// beside its destination and renamed, so that nobody sees half of it.
///
/// # Errors
/// The folder or the file cannot be written.
pub fn write(trace: &Trace, path: &Path, format: TextFormat) -> Result<Losses> {
    /// Traces are written once and read often; bundled ones lie in the repository for good.
    const ZSTD_LEVEL: i32 = 19;
    let extension = path.extension().and_then(|extension| extension.to_str());
    let mut losses = Losses::default();
    replace(path, PLAIN_MODE, |mut file| {
        losses = match extension {
            Some("zst") => {
                let mut encoder = zstd::Encoder::new(&mut file, ZSTD_LEVEL)?;
                let losses = write_to(trace, &mut encoder, format)?;
                encoder.finish()?;
                losses
            }
            Some("gz") => {
                let level = flate2::Compression::best();
                let mut encoder = flate2::write::GzEncoder::new(&mut file, level);
                let losses = write_to(trace, &mut encoder, format)?;
                encoder.finish()?;
                losses
            }
            _ => write_to(trace, &mut file, format)?,
        };
        Ok(())
    })?;
    Ok(losses)
}

/// Writes a trace as text.
///
/// # Errors
/// Those of `out`.
pub fn write_to(trace: &Trace, mut out: impl Write, format: TextFormat) -> io::Result<Losses> {
    match format {
        TextFormat::Native => native::write(trace, out),
        TextFormat::Android => android(trace, &mut out),
        TextFormat::Rep => rep(trace, &mut out),
    }
}

/// Names for live blocks: numbers from 1, the lowest free one first.
pub(super) struct Slots {
    of_block: Vec<u32>,
    free: BinaryHeap<Reverse<u32>>,
    used: u32,
}

impl Slots {
    pub(super) fn new(trace: &Trace) -> Self {
        let of_block = Vec::with_capacity(trace.block_count() as usize);
        Self {
            of_block,
            free: BinaryHeap::new(),
            used: 0,
        }
    }

    /// A slot for the next new block.
    pub(super) fn take(&mut self) -> u32 {
        let slot = self.free.pop().map_or_else(
            || {
                self.used += 1;
                self.used
            },
            |Reverse(slot)| slot,
        );
        self.of_block.push(slot);
        slot
    }

    /// The next new block takes over the slot of `old`, if there is an old one.
    pub(super) fn hand_on(&mut self, old: Option<BlockId>) -> (u32, u32) {
        match old {
            Some(old) => {
                let slot = self.of_block[old.0 as usize];
                self.of_block.push(slot);
                (slot, slot)
            }
            None => (0, self.take()),
        }
    }

    /// The slot of a block that ends.
    pub(super) fn give_back(&mut self, block: BlockId) -> u32 {
        let slot = self.of_block[block.0 as usize];
        self.free.push(Reverse(slot));
        slot
    }
}

/// Addresses are the slots times 16, as allocators align them.
fn address(slot: u32) -> u64 {
    u64::from(slot) * 16
}

fn android(trace: &Trace, out: &mut impl Write) -> io::Result<Losses> {
    let mut losses = Losses::default();
    let mut slots = Slots::new(trace);
    for (index, Event { thread, operation }) in trace.events().iter().enumerate() {
        if matches!(operation, Operation::ThreadStart | Operation::Mark) {
            losses.add(match operation {
                Operation::Mark => "marks",
                _ => "starts of threads",
            });
            continue;
        }
        write!(out, "{}: ", thread.0 + 1)?;
        android_call(operation, &mut slots, &mut losses, out)?;
        if let Some(times_ns) = trace.times_ns() {
            let time_ns = times_ns[index];
            match operation {
                Operation::ThreadEnd => write!(out, " {time_ns}")?,
                _ => write!(out, " {time_ns} {time_ns}")?,
            }
        }
        out.write_all(b"\n")?;
    }
    Ok(losses)
}

fn android_call(
    operation: &Operation,
    slots: &mut Slots,
    losses: &mut Losses,
    out: &mut impl Write,
) -> io::Result<()> {
    match *operation {
        Operation::Malloc { size, .. } => {
            write!(out, "malloc {:#x} {size}", address(slots.take()))
        }
        Operation::Calloc { count, size, .. } => {
            write!(out, "calloc {:#x} {count} {size}", address(slots.take()))
        }
        Operation::Aligned {
            alignment_log2,
            function,
            size,
            ..
        } => {
            if function != AlignedFunction::Memalign {
                losses.add("names of functions that allocate with an alignment");
            }
            let alignment = 1_u64 << alignment_log2;
            write!(
                out,
                "memalign {:#x} {alignment} {size}",
                address(slots.take())
            )
        }
        Operation::Realloc { old, size, .. } => {
            let (old, new) = slots.hand_on(old);
            write!(
                out,
                "realloc {:#x} {:#x} {size}",
                address(new),
                address(old)
            )
        }
        Operation::Free { block, sized } => {
            if sized {
                losses.add("sizes given to free");
            }
            write!(out, "free {:#x}", address(slots.give_back(block)))
        }
        Operation::FreeNull => out.write_all(b"free 0x0"),
        Operation::ThreadEnd => out.write_all(b"thread_done 0x0"),
        // Its size is not known; any will do beside a null pointer.
        Operation::FailedAllocation => out.write_all(b"malloc 0x0 0"),
        Operation::ThreadStart | Operation::Mark => Ok(()),
    }
}

fn rep(trace: &Trace, out: &mut impl Write) -> io::Result<Losses> {
    let mut losses = Losses::default();
    let counts = trace.counts();
    // Every allocation makes a new id except a realloc, which keeps its old one.
    let kept = trace
        .events()
        .iter()
        .filter(|event| is_realloc_of_block(event))
        .count() as u64;
    let blocks = u64::from(trace.block_count()) - kept;
    writeln!(out, "{blocks}\n{}", counts.operations())?;
    if trace.times_ns().is_some() {
        losses.add("time stamps");
    }
    let mut ids: Vec<u32> = Vec::with_capacity(trace.block_count() as usize);
    let mut next = 0;
    let mut fresh = |ids: &mut Vec<u32>| {
        ids.push(next);
        next += 1;
        next - 1
    };
    for Event { thread, operation } in trace.events() {
        if thread.0 > 0 {
            losses.add("events on further threads");
        }
        match *operation {
            Operation::Malloc { size, .. } => writeln!(out, "a {} {size}", fresh(&mut ids))?,
            Operation::Calloc { .. } => {
                losses.add("calls of calloc, written as malloc");
                writeln!(out, "a {} {}", fresh(&mut ids), operation.requested_bytes())?;
            }
            Operation::Aligned { size, .. } => {
                losses.add("alignments");
                writeln!(out, "a {} {size}", fresh(&mut ids))?;
            }
            Operation::Realloc {
                old: None, size, ..
            } => {
                writeln!(out, "r {} {size}", fresh(&mut ids))?;
            }
            Operation::Realloc {
                old: Some(old),
                size,
                ..
            } => {
                // `r ID 0` would be read as a free.
                if size == 0 {
                    losses.add("reallocations to no bytes, written as one byte");
                }
                let id = ids[old.0 as usize];
                ids.push(id);
                writeln!(out, "r {id} {}", size.max(1))?;
            }
            Operation::Free { block, sized } => {
                if sized {
                    losses.add("sizes given to free");
                }
                writeln!(out, "f {}", ids[block.0 as usize])?;
            }
            Operation::FreeNull => writeln!(out, "f -1")?,
            Operation::ThreadStart => losses.add("starts of threads"),
            Operation::ThreadEnd => losses.add("ends of threads"),
            Operation::Mark => losses.add("marks"),
            Operation::FailedAllocation => losses.add("allocations that failed"),
        }
    }
    Ok(losses)
}

fn is_realloc_of_block(event: &Event) -> bool {
    matches!(event.operation, Operation::Realloc { old: Some(_), .. })
}
