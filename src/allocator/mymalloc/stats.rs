//! What the allocator holds, counted when somebody asks: nothing is counted on the way.

use super::super::os;
use super::pages::CHUNK_BYTES;
use super::size_class::{CLASSES, SIZES};
use super::{chunk, large, metadata, shelf, thread};

/// What the process's MyMalloc holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Address space got from the system for blocks.
    pub mapped_bytes: usize,
    /// Large blocks in use.
    pub large_bytes: usize,
    /// Slices that belong to a size class, blocks in use and free ones.
    pub slices_bytes: usize,
    /// Free memory that has not gone back to the system yet.
    pub idle_bytes: usize,
    /// The allocator's own records.
    pub metadata_bytes: usize,
    /// Heaps of threads, living and to be used again.
    pub heaps: usize,
}

/// Counts what the process's MyMalloc holds.
pub fn stats() -> Stats {
    let (mapped_bytes, used_bytes, idle_bytes) = large::bytes();
    let slices_bytes = (1..CLASSES).map(|class| shelf::slices(class).1).sum();
    let (chunks, dirty) = chunk::count();
    Stats {
        mapped_bytes,
        // Threads may have taken a chunk between the two counts.
        large_bytes: used_bytes.saturating_sub(chunks * CHUNK_BYTES),
        slices_bytes,
        idle_bytes: idle_bytes + dirty,
        metadata_bytes: metadata::mapped_bytes(),
        heaps: thread::count_heaps(),
    }
}

/// Prints statistics on standard error.
pub(super) fn print() {
    let stats = stats();
    os::error_line(format_args!(
        "mymalloc: KiB mapped {}, large blocks {}, slices {}, idle {}, records {}; heaps {}",
        stats.mapped_bytes >> 10,
        stats.large_bytes >> 10,
        stats.slices_bytes >> 10,
        stats.idle_bytes >> 10,
        stats.metadata_bytes >> 10,
        stats.heaps,
    ));
    for (class, size) in SIZES.iter().enumerate().skip(1) {
        let (slices, offered) = (shelf::slices(class).0, shelf::count_offers(class));
        if slices > 0 {
            os::error_line(format_args!(
                "mymalloc:   blocks of {size:5} bytes: {slices:6} slices, {offered:6} trays offered",
            ));
        }
    }
}

pub(super) unsafe extern "C" fn print_at_exit() {
    print();
}
