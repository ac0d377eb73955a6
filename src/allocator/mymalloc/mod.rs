//! MyMalloc: built to win, and to be trusted. Magazines of free blocks per thread, whole trays of them
//! passed between threads, and a byte per block, apart from the blocks, by which every pointer is judged.
//!
//! # The walk of a block
//! 1. `malloc(40)`: the thread's heap, the class (48 bytes; 64 as long as little was needed), the last entry of
//!    its magazine, of which the heap has a copy. The entry below is the next copy. Mark the block allocated in
//!    its state byte. 17 instructions; the block itself is not touched.
//! 2. The magazine is empty: the thread's second magazine takes its place; else a tray that another thread
//!    has offered (one swap); else blocks come from the class's slices, under the class's lock: free ones,
//!    or newly carved ones, a magazine full of them, the lowest address first.
//! 3. No slice has any: a new one (8 to 128 KiB) from a chunk (256 KiB), a chunk from the large store, and
//!    that from the system. A thread without a heap gets one; the first one reserves the maps.
//! 4. `free(p)`: the slice map's word for `p`, by one load: the class, and where its state bytes are. If the
//!    class's magazine has room, the byte of `p` must say that exactly here an allocated block starts; it is
//!    marked free. Then `p` goes on top of the magazine, whoever allocated it. 29 instructions; the processor is
//!    asked to fetch the block, which is likely to be handed out next, and nothing waits for it. (The first 32 that a
//!    thread without a heap frees go home to their slices one by one.)
//! 5. The magazine is full: it may grow (from 8 blocks to 16 KiB of them, by use; further where the
//!    class has much); while it is small, half
//!    of it goes home; later it becomes the second one; the one that was the second is offered to other
//!    threads in a free slot of the class (one compare-and-exchange). No slot is free, or this one of
//!    several threads needs such blocks as well: they go home to their slices. A slice without a block in
//!    use goes to the other classes.
//! 6. Ten times a second at most, whoever is on a slow path looks at the clock: offers that nobody took
//!    go home, threads give away what they did not need, and what has been idle for a second goes back
//!    to the system.
//!
//! Blocks beyond 16 KiB are runs of OS pages, cut best fit from dirty memory first; up to 256 KiB they
//! lie in magazines as small ones do. `realloc` grows them in place, or moves their pages.
//!
//! # Instructions
//! Of a pair of `malloc(64)` and `free` inside the shared object, counted by callgrind, alternating, and
//! 100 of the one before 100 of the other (`tests/mymalloc_instructions.rs`):
//!
//! | | alternating | 100, then 100 |
//! |---|---|---|
//! | with all checks | 46 | 46 |
//! | feature `unchecked` | 32 | 32 |
//!
//! What was measured, and what was tried and given up: `src/allocator/README.md`, "Speed and memory".
//!
//! # Invariants
//! * A pointer is an allocated small or medium block if and only if its state byte is its own lowest byte.
//! * A state byte belongs to whoever has the block; those of blocks at home, to the lock of the class, or of the store.
//! * Blocks in a magazine, in an offered tray, at home and in the program's hands are all that were carved.
//! * What the allocator knows lies apart from blocks: no write into a block can reach it.
//! * Nothing waits for another thread on a path that a steady state takes.
//! * Before a thread has a heap it has `heap::NO_HEAP`, whose magazines are empty and full at once; and so is a heap's of a
//!   class that it has not used yet.
//!
//! | file | one idea |
//! |---|---|
//! | `paths` | what nearly every call takes, and what it turns to |
//! | `heap` | a thread's magazines |
//! | `magazine` | how magazines grow, are filled, and are emptied |
//! | `size_class` | which block sizes exist, and which serves a request |
//! | `cold` | classes that others serve until much is needed |
//! | `tray` | arrays of free blocks |
//! | `exchange` | slots through which threads hand trays to each other without a lock |
//! | `shelf` | a class's store: offers, and the slices behind them |
//! | `slice` | 8 to 128 KiB of blocks of one class |
//! | `state_byte` | what the byte says by which a pointer is judged |
//! | `chunk` | 256 KiB of places that slices are put in |
//! | `pages` | what is at an address: the maps |
//! | `large` | blocks beyond 16 KiB |
//! | `store`, `extent` | all memory got from the system, as runs of OS pages |
//! | `purge` | what goes back to the system, and when |
//! | `huge` | fresh memory in huge pages, if wanted |
//! | `joint` | blocks made of a dirty extent and clean ones beside it |
//! | `cpu` | single instructions that the compiler does not find |
//! | `metadata` | memory for records |
//! | `thread`, `fork` | the heap of the calling thread; locks around `fork` |
//! | `tick`, `background` | what happens from time to time; a thread that sees to it, if wanted |
//! | `secure` | guard pages and random order, if wanted |
//! | [`options`], [`stats`](stats()) | environment variables; what the allocator holds |
//! | [`check`](check()) | the heap checker |
//! | `process`, [`c`] | the Rust allocator, the C functions |
//! | `allocator_api` | for collections that take an allocator: feature `allocator-api2` |
//!
//! ```
//! use mymalloc::allocator::mymalloc::MyMalloc;
//!
//! #[global_allocator]
//! static GLOBAL: MyMalloc = MyMalloc;
//!
//! let squares: Vec<u64> = (0..1000).map(|n| n * n).collect();
//! assert_eq!(squares[999], 998_001);
//! ```

#[cfg(feature = "allocator-api2")]
mod allocator_api;
mod background;
pub mod c;
mod check;
mod chunk;
mod cold;
mod cpu;
mod exchange;
mod extent;
mod fork;
mod heap;
mod huge;
mod joint;
mod large;
mod magazine;
mod metadata;
pub mod options;
mod pages;
mod paths;
mod process;
mod purge;
mod secure;
mod shelf;
mod size_class;
mod slice;
mod state_byte;
mod stats;
mod store;
mod thread;
mod tick;
mod tray;

pub use check::{Census, Fault, check};
pub use process::{MyMalloc, Process};
pub use stats::{Stats, stats};
