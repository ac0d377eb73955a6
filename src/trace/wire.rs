//! The file that the preloaded recorder writes while a program runs: the one agreement between the
//! shim (`preload/recorder`, which includes this file by path) and its reader (`import/wire`).
//! Imports `core` alone.
//!
//! The file is mapped, shared, by the recorded process, so that whatever was stored is there after a
//! SIGKILL. All numbers are little-endian.
//!
//! ```text
//! file   := header chunk...                      every chunk begins at a multiple of UNIT_BYTES
//! header := UNIT_BYTES bytes: the fields of `header`, zero where not set
//! chunk  := CHUNK_MAGIC u32, units u32, window u64, word...      units * UNIT_BYTES bytes in all
//! word   := u64; its low four bits are a tag. Zero: nothing further in this chunk
//! ```
//! A unit that does not begin with [`CHUNK_MAGIC`] was reserved and never used: skip one unit.
//!
//! A busy thread does not go on and on into fresh chunks, whose memory the system would have to make
//! while the program waits. It writes in a *window*: a chunk that is used again and again, and whose
//! content is copied to the end of the file each time it is full, by the command that records or, if
//! that has no time or is no more, by the thread itself. The header's table tells where the windows are
//! and in what state; `window` in a chunk, if not zero, is what [`window_mark`] makes of a window's index
//! and turn (how often it was copied before). So of a chunk with such a mark:
//!
//! | it is | read it |
//! |---|---|
//! | the window itself: it lies where the table says | unless its state is [`WINDOW_FREE`] |
//! | a copy | if the window's turn in the table is greater than the mark's |
//!
//! One word of the table decides for both, and is stored when the copy is whole: whenever the process,
//! or the command, is killed, each event is read once.
//!
//! A chunk is used by one thread at a time, and its events are in the order of their sequence numbers.
//! Its first two words are [`TAG_SEQUENCE`] and [`TAG_THREAD`]; so are the first two after it has
//! passed to another thread. Every event takes one sequence number: the one told by the last
//! [`TAG_SEQUENCE`] word since the event before it in the chunk, otherwise one more than that event's.
//! Over a whole process the numbers are dense from 0. A missing one is an event that was begun and
//! never written: the process was killed in it, or a signal handler that interrupted it jumped away.
//! A thread may use two chunks at a time: what a signal handler does in the middle of an event stands
//! in another chunk, so a thread's events too are put in order by their numbers.
//!
//! `free` takes its number before the call, an allocation after it, `realloc` one before
//! ([`TAG_REALLOC_BEGIN`]) and one after: if a block passes from one thread to another through the
//! allocator, its free has the smaller number. `realloc(block, 0)` that returns null has freed the
//! block where the C library does so; any other null has left it as it was.
//!
//! | word | bits 4..20 | bits 20..64 |
//! |---|---|---|
//! | malloc, realloc end, sized free | size | address / 8 |
//! | calloc | count | address / 8; the size in a second word, whole |
//! | free, realloc begin | 0 | address / 8 |
//! | sequence, thread, time, site | a number of 60 bits | |
//! | general | kind (4..12), log2 of the alignment (12..20) | 0; then address, size, count: three words |
//!
//! What does not fit (a size of 64 KiB, an address that is no multiple of 8) is written as `general`.
//! A general event's first word is stored last, so that it is never read half written; of two words
//! likewise. Times are nanoseconds since the header's `BEGAN_MONOTONIC_NS`; time and site belong to the
//! next event.

/// First eight bytes of the file.
pub const MAGIC: [u8; 8] = *b"MMWIRE\0\x01";
/// Version of what this file describes.
pub const VERSION: u32 = 2;
/// Chunks are made of these, and so is the header.
pub const UNIT_BYTES: usize = 16 * 1024;
/// Begins a chunk: "CHNK".
pub const CHUNK_MAGIC: u32 = u32::from_le_bytes(*b"CHNK");
/// Bytes before the first word of a chunk.
pub const CHUNK_HEADER_BYTES: usize = 16;

/// Windows that a file can have.
pub const WINDOWS_MAX: usize = 128;
/// State of a window: there is none of this index.
pub const WINDOW_NONE: u64 = 0;
/// A thread writes in it.
pub const WINDOW_OWNED: u64 = 1;
/// It is full, and waits for the command to copy it.
pub const WINDOW_FULL: u64 = 2;
/// It is being copied.
pub const WINDOW_COPYING: u64 = 3;
/// It was copied, and waits for a thread. Its words are void.
pub const WINDOW_FREE: u64 = 4;

/// A window's first word in the table: its turn, and one of the states above.
pub const fn window_state(turn: u64, state: u64) -> u64 {
    turn << 3 | state
}

/// Turn and state of [`window_state`].
pub const fn window_state_parts(word: u64) -> (u64, u64) {
    (word >> 3, word & 7)
}

/// A window's second word in the table: where it lies (in bytes, whole units), and how many units it has,
/// fewer than [`UNIT_BYTES`].
pub const fn window_place(offset: u64, units: u64) -> u64 {
    offset | units
}

/// Offset and units of [`window_place`].
pub const fn window_place_parts(word: u64) -> (u64, u64) {
    let unit = UNIT_BYTES as u64;
    (word / unit * unit, word % unit)
}

/// What the second word of a chunk's header is in a window, and in its copy.
pub const fn window_mark(index: usize, turn: u64) -> u64 {
    turn << 8 | (index as u64 + 1)
}

/// Index and turn of [`window_mark`]. None: the chunk is neither a window nor a copy.
pub const fn window_mark_parts(mark: u64) -> Option<(usize, u64)> {
    match mark & 0xff {
        0 => None,
        number => Some((number as usize - 1, mark >> 8)),
    }
}

/// `malloc(size) = address`
pub const TAG_MALLOC: u64 = 1;
/// `calloc(count, size) = address`
pub const TAG_CALLOC: u64 = 2;
/// `free(address)`, null included
pub const TAG_FREE: u64 = 3;
/// `free` of a block whose size the caller told (C++ sized delete)
pub const TAG_FREE_SIZED: u64 = 4;
/// `realloc(address, ...)` is about to be called; null included
pub const TAG_REALLOC_BEGIN: u64 = 5;
/// `realloc(..., size) = address`: belongs to the thread's last [`TAG_REALLOC_BEGIN`] that has no end
/// yet (a signal handler can reallocate within a reallocation). `reallocarray` is told as `realloc`;
/// if its product overflows, the size is `u64::MAX` and the address 0.
pub const TAG_REALLOC_END: u64 = 6;
/// The sequence number of the next event.
pub const TAG_SEQUENCE: u64 = 7;
/// The thread to which the following events belong: from 0, in the order in which the recorder met
/// them. 0 is the one that ran first, also in a forked process.
pub const TAG_THREAD: u64 = 8;
/// The moment of the next event.
pub const TAG_TIME: u64 = 9;
/// The return address of the next event's call.
pub const TAG_SITE: u64 = 10;
/// The thread began: an event, the thread's first. Thread 0 has none. A thread that never calls the
/// allocator is not told.
pub const TAG_THREAD_START: u64 = 11;
/// The thread ends: an event. Some of its own may follow, as other destructors run.
pub const TAG_THREAD_END: u64 = 12;
/// Recording was switched off (1) or on (0, in bits 4..64): an event. What happened meanwhile is
/// unknown: blocks may have been freed and their addresses used anew. A recording that starts switched
/// off begins with one. Between "off" and "on" a few events of other threads may stand that were under
/// way.
pub const TAG_SWITCH: u64 = 13;
/// Any other event: see [`Kind`].
pub const TAG_GENERAL: u64 = 15;

/// What a general event is. The address is 0 where the call failed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Kind {
    /// `malloc(size)`
    Malloc = 0,
    /// `calloc(count, size)`
    Calloc = 1,
    /// `free(address)`; `count` is 1 if the caller told the size
    Free = 2,
    /// `realloc(address, ...)` is about to be called
    ReallocBegin = 3,
    /// `realloc(..., size) = address`
    ReallocEnd = 4,
    /// `memalign(alignment, size)`
    Memalign = 5,
    /// `posix_memalign(..., alignment, size)`
    PosixMemalign = 6,
    /// `aligned_alloc(alignment, size)`
    AlignedAlloc = 7,
    /// `valloc(size)`
    Valloc = 8,
    /// `pvalloc(size)`
    Pvalloc = 9,
}

impl Kind {
    /// The kind of a number in the file.
    pub const fn of(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Malloc,
            1 => Self::Calloc,
            2 => Self::Free,
            3 => Self::ReallocBegin,
            4 => Self::ReallocEnd,
            5 => Self::Memalign,
            6 => Self::PosixMemalign,
            7 => Self::AlignedAlloc,
            8 => Self::Valloc,
            9 => Self::Pvalloc,
            _ => return None,
        })
    }
}

/// Sizes and counts below this fit an event's only word.
pub const SMALL_END: u64 = 1 << 16;
/// Addresses below this do.
pub const ADDRESS_END: u64 = 1 << 47;

/// Whether an event with this size (or count) and address takes one word.
#[inline(always)]
pub const fn is_small(size: u64, address: u64) -> bool {
    // One test for all three: the low bits that must be zero are turned round to the top.
    address.rotate_right(3) >> 44 | size >> 16 == 0
}

/// An event of one word; [`is_small`] must hold.
#[inline(always)]
pub const fn small(tag: u64, size: u64, address: u64) -> u64 {
    tag | size << 4 | address << 17
}

/// Tag, size and address of a word made by [`small`].
#[inline(always)]
pub const fn small_parts(word: u64) -> (u64, u64, u64) {
    (word & 15, word >> 4 & (SMALL_END - 1), word >> 20 << 3)
}

/// A word that holds one number below 2^60.
#[inline(always)]
pub const fn number(tag: u64, number: u64) -> u64 {
    tag | number << 4
}

/// The first word of a general event.
#[inline(always)]
pub const fn general(kind: Kind, alignment_log2: u8) -> u64 {
    TAG_GENERAL | (kind as u64) << 4 | (alignment_log2 as u64) << 12
}

/// Blocks of this size and more are looked at where [`header::FLAG_TOUCHED`] is set.
pub const TOUCHED_MIN_BYTES: u64 = 16 * 1024;
/// Classes of such blocks: four to each doubling of the size. The last one has no upper end.
pub const TOUCHED_CLASSES: usize = 104;

/// The class of a block of at least [`TOUCHED_MIN_BYTES`].
pub const fn touched_class(bytes: u64) -> usize {
    let log2 = bytes.ilog2();
    let quarter = bytes >> (log2 - 2) & 3;
    let class = ((log2 - TOUCHED_MIN_BYTES.ilog2()) as u64 * 4 + quarter) as usize;
    if class < TOUCHED_CLASSES {
        class
    } else {
        TOUCHED_CLASSES - 1
    }
}

/// The smallest size of a class.
pub const fn touched_class_bytes(class: usize) -> u64 {
    (4 + class as u64 % 4) << (TOUCHED_MIN_BYTES.ilog2() as usize - 2 + class / 4)
}

/// Offsets into the header, in bytes. Each field is a u64 unless it says otherwise.
pub mod header {
    /// [`super::MAGIC`].
    pub const MAGIC: usize = 0;
    /// u32: [`super::VERSION`].
    pub const VERSION: usize = 8;
    /// u32: bits of `FLAG_...`.
    pub const FLAGS: usize = 12;
    /// u32: process.
    pub const PROCESS: usize = 16;
    /// u32: its parent if that is recorded too, else 0. With [`FLAG_FORKED`] it shares the parent's
    /// past; otherwise it was started afresh.
    pub const PARENT: usize = 20;
    /// Nanoseconds since 1970 when recording began.
    pub const BEGAN_REALTIME_NS: usize = 24;
    /// `CLOCK_MONOTONIC` at the same moment.
    pub const BEGAN_MONOTONIC_NS: usize = 32;
    /// `CLOCK_MONOTONIC` when the process ended in order (`exit` or `_exit`); 0 if it was killed, still
    /// runs, or was replaced by `exec` (then there is a file of the next image). A few events may be
    /// later.
    pub const ENDED_MONOTONIC_NS: usize = 40;
    /// Bytes of the file handed out: where the next chunk goes. Added to atomically, by the process and
    /// by the command, and never beyond `LIMIT_BYTES`.
    pub const FILE_BYTES: usize = 48;
    /// The file may not grow above this.
    pub const LIMIT_BYTES: usize = 56;
    /// Calls that were seen and not kept. Added to atomically.
    pub const UNRECORDED_CALLS: usize = 64;
    /// Calls of malloc_usable_size. Added to atomically.
    pub const USABLE_SIZE_CALLS: usize = 72;
    /// Threads so far. Added to atomically.
    pub const THREADS: usize = 80;
    /// u32: why recording ended before the program did: `STOPPED_...`; the first reason stays.
    pub const STOPPED: usize = 88;
    /// u32: the system's error number that belongs to it.
    pub const STOPPED_ERRNO: usize = 92;
    /// Number of the program image in this process: 0, then 1 more after each exec.
    pub const IMAGE: usize = 96;
    /// Start time of the process as in field 22 of /proc/PID/stat: tells it from a later process of
    /// the same number.
    pub const PROCESS_START_TICKS: usize = 104;
    /// Bytes of an OS page.
    pub const PAGE_BYTES: usize = 112;
    /// Where [`FLAG_FORKED`] is set: the sequence number that the parent's next event had when it
    /// forked. Its events before that made the blocks that this process began with.
    pub const PARENT_SEQUENCE: usize = 120;
    /// u32: forked processes that should have been recorded and had no file made. Added to atomically.
    pub const LOST_CHILDREN: usize = 128;
    /// u32: the system's error number of the last of them.
    pub const LOST_CHILDREN_ERRNO: usize = 132;
    /// u32: not 0 once the command could not copy a window (the disk is full, the limit is reached): it
    /// does not try again, and the recorder sees for itself.
    pub const COPIES_REFUSED: usize = 136;

    /// The program's file, ended by NUL.
    pub const PROGRAM: usize = 1024;
    /// Bytes of it.
    pub const PROGRAM_BYTES: usize = 2048;
    /// The object that serves malloc, ended by NUL.
    pub const ALLOCATOR: usize = 3072;
    /// Bytes of it.
    pub const ALLOCATOR_BYTES: usize = 1024;
    /// `gnu_get_libc_version()`, ended by NUL.
    pub const C_LIBRARY: usize = 4096;
    /// Bytes of it.
    pub const C_LIBRARY_BYTES: usize = 64;
    /// The command line as in /proc/PID/cmdline: words ended by NUL, cut off if it is long.
    pub const COMMAND_LINE: usize = 4160;
    /// Bytes of it.
    pub const COMMAND_LINE_BYTES: usize = 8192;
    /// The table of windows: of each, two words, see [`super::window_state`] and
    /// [`super::window_place`].
    pub const WINDOWS: usize = 12_416;
    /// Bytes of a window in the table.
    pub const WINDOW_BYTES: usize = 16;
    /// Large blocks that have ended, by [`super::touched_class`]: of each class the OS pages that lay in
    /// its blocks, and how many of them were touched. Added to atomically. Zero without
    /// [`FLAG_TOUCHED`].
    pub const TOUCHED: usize = 14_464;
    /// Bytes of a class in the table.
    pub const TOUCHED_BYTES: usize = 16;

    /// Events carry times.
    pub const FLAG_TIMES: u32 = 1;
    /// Events carry call sites.
    pub const FLAG_SITES: u32 = 2;
    /// Recording began in mid-life: blocks from before are met, unmarked. Starts switched off.
    pub const FLAG_ATTACHED: u32 = 4;
    /// The process was forked by a recorded one and holds its blocks.
    pub const FLAG_FORKED: u32 = 8;
    /// How much of large blocks was touched is told.
    pub const FLAG_TOUCHED: u32 = 16;

    /// `LIMIT_BYTES` was reached.
    pub const STOPPED_LIMIT: u32 = 1;
    /// The file system is full.
    pub const STOPPED_DISK_FULL: u32 = 2;
    /// The file cannot be reached or grown any more.
    pub const STOPPED_IO: u32 = 3;
}

const _: () = assert!(header::COMMAND_LINE + header::COMMAND_LINE_BYTES <= header::WINDOWS);
const _: () = assert!(header::WINDOWS + WINDOWS_MAX * header::WINDOW_BYTES <= header::TOUCHED);
const _: () = assert!(header::TOUCHED + TOUCHED_CLASSES * header::TOUCHED_BYTES <= UNIT_BYTES);
const _: () = assert!(WINDOWS_MAX < 0xff);

/// The file that the command makes in the folder for all processes: by it they tell that there is
/// something to be copied. All words are u32 and mapped, shared. Without the file nobody copies but the
/// processes themselves.
pub mod bell {
    /// Its name.
    pub const NAME: &core::ffi::CStr = c"bell";
    /// Bytes of it.
    pub const BYTES: usize = 4096;
    /// Added to when a window is full or a file has its first window. The command waits for a change by
    /// futex.
    pub const RINGS: usize = 0;
    /// 1 while the command waits: whoever rings then wakes it.
    pub const SLEEPS: usize = 4;
    /// Files with windows so far.
    pub const FILES: usize = 8;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_keep_their_parts() {
        for (size, address) in [(0, 0), (65_535, ADDRESS_END - 8), (64, 0x7f12_3456_7898)] {
            assert!(is_small(size, address));
            let word = small(TAG_MALLOC, size, address);
            assert_eq!(small_parts(word), (TAG_MALLOC, size, address));
        }
        for (size, address) in [(65_536, 0), (0, 4), (0, ADDRESS_END)] {
            assert!(!is_small(size, address));
        }
        let state = window_state(1 << 50, WINDOW_FREE);
        assert_eq!(window_state_parts(state), (1 << 50, WINDOW_FREE));
        let place = window_place(3 << 40, 64);
        assert_eq!(window_place_parts(place), (3 << 40, 64));
        let mark = window_mark(WINDOWS_MAX - 1, 1 << 50);
        assert_eq!(window_mark_parts(mark), Some((WINDOWS_MAX - 1, 1 << 50)));
        assert_eq!(window_mark_parts(0), None);
    }

    #[test]
    fn classes_of_large_blocks_meet() {
        for class in 0..TOUCHED_CLASSES - 1 {
            let (first, next) = (touched_class_bytes(class), touched_class_bytes(class + 1));
            assert!(first < next);
            assert_eq!(touched_class(first), class);
            assert_eq!(touched_class(next - 1), class);
        }
        assert_eq!(touched_class_bytes(0), TOUCHED_MIN_BYTES);
        assert_eq!(touched_class(u64::MAX), TOUCHED_CLASSES - 1);
    }
}
