//! The numbers that writer and reader agree on; their meaning stands in the module text.

/// First bytes of a file. The first is no text, the line ends show what a transfer as text does.
pub(super) const MAGIC: [u8; 8] = *b"\x93MMTR\r\n\x1a";
pub(super) const VERSION: u32 = 1;
pub(super) const FILE_HEADER_BYTES: usize = 16;

pub(super) const TAG_CHUNK: [u8; 4] = *b"CHNK";
pub(super) const TAG_META: [u8; 4] = *b"META";
pub(super) const TAG_INDEX: [u8; 4] = *b"INDX";
pub(super) const TAG_END: [u8; 4] = *b"ENDS";

/// Regular traces lose up to half of what they compress to when chunks are much smaller.
pub(super) const CHUNK_EVENTS: usize = 1 << 20;
pub(super) const CHUNK_HEADER_BYTES: usize = 24;
pub(super) const COLUMN_HEADER_BYTES: usize = 12;
pub(super) const INDEX_ENTRY_BYTES: usize = 32;
pub(super) const END_BYTES: usize = 24;

/// No section that a writer makes is longer: an event takes at most 50 bytes.
pub(super) const BODY_BYTES_MAX: usize = 64 << 20;
/// Likewise for what is known of a trace, uncompressed.
pub(super) const META_BYTES_MAX: usize = 256 << 20;
/// Thread numbers stay below the number of events so far and this.
pub(super) const THREADS_SLACK: u64 = 1 << 16;

/// Stands in the index for no time.
pub(super) const NO_TIME: u64 = u64::MAX;

pub(super) const COLUMNS: usize = 19;
pub(super) const THREADS: usize = 0;
/// First of two, as for all columns of numbers.
pub(super) const RUN_THREADS: usize = 1;
pub(super) const RUN_LENGTHS: usize = 3;
pub(super) const KINDS: usize = 5;
pub(super) const SIZE_TABLE: usize = 6;
pub(super) const SIZES: usize = 7;
pub(super) const VICTIMS: usize = 9;
pub(super) const COUNTS: usize = 11;
pub(super) const ALIGNMENTS: usize = 13;
pub(super) const TIMES: usize = 14;
pub(super) const SITE_TABLE: usize = 16;
pub(super) const SITES: usize = 17;

/// Most bytes that a column can have for each event of its chunk.
pub(super) fn bytes_per_event_max(column: usize) -> usize {
    match column {
        // Ten LEB128 numbers below 2^32 for each thread, a thread for each event.
        THREADS => 50,
        SIZE_TABLE | SITE_TABLE => 10,
        KINDS | ALIGNMENTS => 1,
        // Of a pair, the first.
        RUN_THREADS | RUN_LENGTHS | SIZES | VICTIMS | COUNTS | TIMES | SITES => 1,
        _ => 8,
    }
}

pub(super) const MALLOC: u8 = 0;
/// The first of three: own, near, old.
pub(super) const FREE: u8 = 1;
pub(super) const FREE_SIZED: u8 = 4;
pub(super) const CALLOC: u8 = 7;
pub(super) const ALIGNED: u8 = 8;
pub(super) const REALLOC_NULL: u8 = 9;
pub(super) const REALLOC: u8 = 10;
pub(super) const FREE_NULL: u8 = 13;
pub(super) const FREE_UNSEEN: u8 = 14;
pub(super) const THREAD_START: u8 = 15;
pub(super) const THREAD_END: u8 = 16;
pub(super) const MARK: u8 = 17;
pub(super) const FAILED: u8 = 18;

/// How a victim is told, added to the kind.
pub(super) const OWN: u8 = 0;
pub(super) const NEAR: u8 = 1;
pub(super) const OLD: u8 = 2;

/// Alignments are at most 2^47.
pub(super) const ALIGNMENTS_PER_FUNCTION: u8 = 48;
