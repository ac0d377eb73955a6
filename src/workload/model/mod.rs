//! A model of a recorded trace: the joint distribution of what a program asked for and how it ended,
//! phase by phase, small enough to be shared where the trace cannot be.
//!
//! ```text
//! Trace -fit-> Parameters -write-> definition (TOML) -> Parameters -generate-> Trace
//! ```
//! The recording is cut into up to 128 windows with the same number of operations each, and into
//! phases of several windows where sizes and lifetimes hang together alike (`phases`). In each phase a
//! block is one of a bounded number of *cells*: the call, its size, the thread that asks, and its end:
//! when, by which thread, by `free` or by `realloc`. Cells hold counts, and the generator deals them
//! out like a shuffled deck: it performs exactly as many calls of each kind as the recording.
//!
//! What it keeps besides: births per window and the bytes of those that last, in which order the blocks of a window die, how often a
//! size follows itself, which threads there are from when to when. What it does not keep: the order of
//! calls within a phase, `calloc`'s split into count and size, names, addresses, call sites, times.

#![forbid(unsafe_code)]

mod cells;
mod deal;
pub mod distance;
mod fit;
mod generate;
mod phases;
#[cfg(test)]
#[path = "tests.rs"]
mod properties;
mod write;

use serde::Deserialize;

pub use fit::fit;
pub use generate::generate;
pub use write::{Told, definition};

use super::synthetic::OPERATION_LIMIT;
use crate::trace::AlignedFunction;

/// Most windows of a recording.
pub const WINDOW_LIMIT: u32 = 128;
/// Most cells that a model is fitted with: what keeps its file to some tens of KiB.
pub const CELL_LIMIT: usize = 2000;
/// Most phases that a model is fitted with.
const PHASE_LIMIT: usize = 16;
/// Cells of a file: more than a fit makes, so that a file may be made by hand.
const FILE_CELL_LIMIT: usize = 100_000;
/// Threads of a model.
const THREAD_LIMIT: usize = 4096;
/// A number in the column `end` from here on is a window.
const END_WINDOWS: u64 = 1000;
/// Lifetime classes are numbered from 1 to this: 2^32 operations.
const LIFETIME_CLASS_LIMIT: u64 = 127;

/// The `[model]` table of a definition.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// Of a hundred frees, how many told the size.
    pub sized_percent: u8,
    /// The calls that cells are numbered by.
    pub calls: Vec<Call>,
    /// Requested bytes that cells are numbered by.
    pub sizes: Vec<u64>,
    /// Threads by role: `[first window, last window, operations]` each. Threads of one role are alike;
    /// which of them acts is drawn by the operations, from those of the window.
    pub threads: Vec<Vec<[u64; 3]>>,
    /// The phases, in order.
    pub phases: Vec<Phase>,
}

/// A stretch of windows with one distribution.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// Calls in each of its windows that do not end a block: allocations, and frees of null.
    pub births: Vec<u64>,
    /// Requested bytes of those births in each of its windows that live for longer than a window:
    /// what makes the heap grow there. Empty if they are spread evenly.
    #[serde(default)]
    pub lasting_bytes: Vec<u64>,
    /// For each window, whether the blocks that live through windows and die in it do so in the order of
    /// their birth (100), in the reverse order (-100), or in none (0).
    pub order_percent: Vec<i8>,
    /// Of a hundred births, how many are like the one before beyond chance.
    pub repeat_percent: u8,
    /// The deck.
    pub cells: Vec<Cell>,
}

/// So many blocks with one fate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "[u64; 8]")]
pub struct Cell {
    /// How many.
    pub count: u64,
    /// The call, as an index.
    pub call: usize,
    /// Size of the block that a `realloc` was given, as an index; 0 for other calls.
    pub old: usize,
    /// Requested bytes, as an index.
    pub size: usize,
    /// Role of the thread.
    pub role: usize,
    /// When the block ends.
    pub end: End,
    /// By `realloc`, not by `free`.
    pub by_realloc: bool,
    /// Role of the thread that ends it; `None`: the thread that made it.
    pub ender: Option<usize>,
}

/// When a block ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum End {
    /// Not before the trace does.
    Never,
    /// After a number of operations within this class, see [`lifetime_range`].
    After(u8),
    /// In this window.
    In(u32),
}

/// A call of the allocator that begins a block, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(try_from = "String")]
pub enum Call {
    /// `malloc`
    Malloc,
    /// `calloc` of one element
    Calloc,
    /// `realloc` of null
    ReallocNull,
    /// `realloc` of a block
    Realloc,
    /// `free` of null: no block
    FreeNull,
    /// An aligned allocation, and the binary logarithm of its alignment
    Aligned(AlignedFunction, u8),
}

const FUNCTIONS: [(AlignedFunction, &str); 5] = [
    (AlignedFunction::Memalign, "memalign"),
    (AlignedFunction::PosixMemalign, "posix_memalign"),
    (AlignedFunction::AlignedAlloc, "aligned_alloc"),
    (AlignedFunction::Valloc, "valloc"),
    (AlignedFunction::Pvalloc, "pvalloc"),
];

impl Call {
    /// As in the file.
    fn name(self) -> String {
        match self {
            Self::Malloc => "malloc".to_owned(),
            Self::Calloc => "calloc".to_owned(),
            Self::ReallocNull => "realloc-null".to_owned(),
            Self::Realloc => "realloc".to_owned(),
            Self::FreeNull => "free-null".to_owned(),
            Self::Aligned(function, alignment_log2) => {
                let known = FUNCTIONS.iter().find(|(own, _)| *own == function);
                let name = known.map_or("memalign", |(_, name)| name);
                format!("{name} {}", 1u64 << alignment_log2)
            }
        }
    }
}

impl TryFrom<String> for Call {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let plain = [
            Self::Malloc,
            Self::Calloc,
            Self::ReallocNull,
            Self::Realloc,
            Self::FreeNull,
        ];
        if let Some(call) = plain.into_iter().find(|call| call.name() == text) {
            return Ok(call);
        }
        let aligned = || {
            let (name, alignment) = text.split_once(' ')?;
            let (function, _) = FUNCTIONS.iter().find(|(_, own)| *own == name)?;
            let alignment: u64 = alignment.parse().ok()?;
            let log2 = alignment
                .is_power_of_two()
                .then(|| alignment.trailing_zeros())?;
            Some(Self::Aligned(*function, u8::try_from(log2).ok()?))
        };
        aligned().ok_or_else(|| {
            format!(
                "calls: `{}` is none: expected malloc, calloc, realloc-null, realloc, free-null, or \
                 a function and its alignment such as `posix_memalign 64`",
                text.chars().take(40).collect::<String>()
            )
        })
    }
}

impl TryFrom<[u64; 8]> for Cell {
    type Error = String;

    fn try_from(row: [u64; 8]) -> Result<Self, String> {
        let [count, call, old, size, role, end, how, ender] = row;
        let index = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        Ok(Self {
            count,
            call: index(call),
            old: index(old),
            size: index(size),
            role: index(role),
            end: End::from_number(end)?,
            by_realloc: match how {
                0 => false,
                1 => true,
                _ => return Err(format!("cells: how a block ends is 0 or 1, not {how}")),
            },
            ender: index(ender).checked_sub(1),
        })
    }
}

impl Cell {
    /// As in the file.
    fn row(&self) -> [u64; 8] {
        [
            self.count,
            self.call as u64,
            self.old as u64,
            self.size as u64,
            self.role as u64,
            self.end.number(),
            u64::from(self.by_realloc),
            self.ender.map_or(0, |role| role as u64 + 1),
        ]
    }
}

impl End {
    fn number(self) -> u64 {
        match self {
            Self::Never => 0,
            Self::After(class) => u64::from(class),
            Self::In(window) => END_WINDOWS + u64::from(window),
        }
    }

    fn from_number(number: u64) -> Result<Self, String> {
        match number {
            0 => Ok(Self::Never),
            1..=LIFETIME_CLASS_LIMIT => Ok(Self::After(number as u8)),
            END_WINDOWS.. if number < END_WINDOWS + u64::from(WINDOW_LIMIT) => {
                Ok(Self::In((number - END_WINDOWS) as u32))
            }
            _ => Err(format!(
                "cells: an end is 0, a lifetime class from 1 to {LIFETIME_CLASS_LIMIT}, or \
                 {END_WINDOWS} and a window, not {number}"
            )),
        }
    }
}

/// The class of a lifetime of at least 1 operation: exact below 8, then four to the octave.
fn lifetime_class(operations: u64) -> u8 {
    if operations < 8 {
        return operations.max(1) as u8;
    }
    let octave = operations.ilog2().min(31);
    let quarter = (operations >> (octave - 2)).min(7) & 3;
    (8 + (octave - 3) * 4) as u8 + quarter as u8
}

/// Shortest and longest lifetime of a class, in operations.
pub fn lifetime_range(class: u8) -> (u64, u64) {
    if class < 8 {
        return (u64::from(class.max(1)), u64::from(class.max(1)));
    }
    let (octave, quarter) = ((class - 8) / 4 + 3, u64::from((class - 8) % 4));
    let width = 1u64 << (octave - 2);
    let low = (4 + quarter) * width;
    (low, low + width - 1)
}

impl Parameters {
    /// Whether a block with this end lives for longer than a window.
    fn is_lasting(&self, end: End) -> bool {
        match end {
            End::Never | End::In(_) => true,
            End::After(class) => {
                let window = self.operations() / self.windows().max(1) as u64;
                lifetime_range(class).0 > window
            }
        }
    }

    /// Windows of all phases.
    pub fn windows(&self) -> usize {
        self.phases.iter().map(|phase| phase.births.len()).sum()
    }

    /// Operations of the generated trace, exactly; saturating.
    pub fn operations(&self) -> u64 {
        let all = self.phases.iter().flat_map(|phase| &phase.cells);
        all.fold(0u64, |sum, cell| {
            // A reallocation ends one block and begins another at once.
            let frees = cell.end != End::Never && !cell.by_realloc;
            let operations = cell.count.saturating_mul(1 + u64::from(frees));
            sum.saturating_add(operations)
        })
    }

    /// Cells of all phases.
    pub fn cell_count(&self) -> usize {
        self.phases.iter().map(|phase| phase.cells.len()).sum()
    }

    /// What is wrong with the parameters, as a sentence that begins with a key.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.sized_percent > 100 {
            let percent = self.sized_percent;
            return Err(format!(
                "sized_percent must be from 0 to 100, not {percent}"
            ));
        }
        let windows = self.windows();
        if windows == 0 || windows > WINDOW_LIMIT as usize {
            return Err(format!(
                "phases must have 1 to {WINDOW_LIMIT} windows together, not {windows}"
            ));
        }
        if self.cell_count() > FILE_CELL_LIMIT {
            return Err(format!("phases have more than {FILE_CELL_LIMIT} cells"));
        }
        if let Some(&bytes) = self.sizes.iter().find(|&&bytes| bytes > i64::MAX as u64) {
            return Err(format!("sizes: {bytes} is above what any allocator serves"));
        }
        self.check_threads(windows as u64)?;
        let operations = self.operations();
        if operations > OPERATION_LIMIT {
            return Err(format!(
                "phases: {operations} operations are above the limit of {OPERATION_LIMIT}"
            ));
        }
        let mut end = 0;
        for phase in &self.phases {
            end += phase.births.len();
            self.check_phase(phase, end, windows)?;
        }
        self.check_chains()
    }

    fn check_threads(&self, windows: u64) -> Result<(), String> {
        let count: usize = self.threads.iter().map(Vec::len).sum();
        if self.threads.iter().any(Vec::is_empty) || count == 0 || count > THREAD_LIMIT {
            return Err(format!(
                "threads: expected at least one in each role, and at most {THREAD_LIMIT} together"
            ));
        }
        let wrong = |[first, last, _]: &&[u64; 3]| first > last || *last >= windows;
        match self.threads.iter().flatten().find(wrong) {
            Some([first, last, _]) => Err(format!(
                "threads: from window {first} to {last} is no stretch of the {windows} windows"
            )),
            None => Ok(()),
        }
    }

    /// `end` is the first window after the phase.
    fn check_phase(&self, phase: &Phase, end: usize, windows: usize) -> Result<(), String> {
        if phase.births.is_empty() || phase.order_percent.len() != phase.births.len() {
            return Err("births and order_percent: expected one number for each window".to_owned());
        }
        let lasting = phase.lasting_bytes.len();
        if lasting != 0 && lasting != phase.births.len() {
            return Err("lasting_bytes: expected one number for each window, or none".to_owned());
        }
        let bad_order = |order: &i8| !(-100..=100).contains(order);
        if phase.order_percent.iter().any(bad_order) || phase.repeat_percent > 99 {
            return Err(
                "order_percent must be from -100 to 100, and repeat_percent from 0 to 99"
                    .to_owned(),
            );
        }
        for cell in &phase.cells {
            let outside = [
                (cell.call, self.calls.len(), "call"),
                (cell.old, self.sizes.len(), "size"),
                (cell.size, self.sizes.len(), "size"),
                (cell.role, self.threads.len(), "role"),
                (cell.ender.unwrap_or(0), self.threads.len(), "role"),
            ];
            if let Some((index, _, what)) = outside.into_iter().find(|(at, len, _)| at >= len) {
                return Err(format!("cells: there is no {what} {index}"));
            }
            let window = match cell.end {
                End::In(window) => window as usize,
                _ => continue,
            };
            if window < end || window >= windows {
                return Err(format!(
                    "cells: window {window} does not come after the phase, which ends before {end}"
                ));
            }
        }
        let add = |sum: u64, births: &u64| sum.saturating_add(*births);
        let dealt = phase.births.iter().fold(0, add);
        let plain = phase
            .cells
            .iter()
            .filter(|cell| self.calls[cell.call] != Call::Realloc);
        let cells: u64 = plain.map(|cell| cell.count).sum();
        if dealt != cells {
            return Err(format!(
                "births: the windows have {dealt} together, the phase's cells {cells}"
            ));
        }
        Ok(())
    }

    /// Blocks that end by `realloc` are as many as those that begin by it, and some of them begin
    /// otherwise: else no order of the calls exists.
    fn check_chains(&self) -> Result<(), String> {
        let all = || self.phases.iter().flat_map(|phase| &phase.cells);
        let sum = |wanted: &dyn Fn(&Cell) -> bool| -> u64 {
            all()
                .filter(|cell| wanted(cell))
                .map(|cell| cell.count)
                .sum()
        };
        let begins = |cell: &Cell| self.calls[cell.call] == Call::Realloc;
        let ends = |cell: &Cell| cell.by_realloc && cell.end != End::Never;
        if let Some(cell) = all().find(|cell| {
            self.calls[cell.call] == Call::FreeNull && (cell.end != End::Never || cell.by_realloc)
        }) {
            return Err(format!(
                "cells: free-null makes no block that could end ({:?})",
                cell.row()
            ));
        }
        let (begun, ended) = (sum(&begins), sum(&ends));
        if begun != ended {
            return Err(format!(
                "cells: {begun} blocks begin by realloc and {ended} end by it"
            ));
        }
        if begun > 0 && sum(&|cell| ends(cell) && !begins(cell)) == 0 {
            return Err("cells: no block that ends by realloc begins otherwise".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetime_classes_cover_every_number_once() {
        let mut next = 1;
        for class in 1..=LIFETIME_CLASS_LIMIT as u8 {
            if class > lifetime_class(u64::from(u32::MAX)) {
                break;
            }
            let (low, high) = lifetime_range(class);
            assert_eq!(low, next, "{class}");
            assert_eq!((lifetime_class(low), lifetime_class(high)), (class, class));
            next = high + 1;
        }
        assert_eq!(next, 1 << 32);
        assert!(u64::from(lifetime_class(u64::MAX)) <= LIFETIME_CLASS_LIMIT);
    }

    #[test]
    fn calls_and_rows_keep_their_meaning() {
        for call in [
            Call::Malloc,
            Call::FreeNull,
            Call::Realloc,
            Call::Aligned(AlignedFunction::PosixMemalign, 12),
        ] {
            assert_eq!(Call::try_from(call.name()), Ok(call));
        }
        for text in ["", "memalign", "memalign 3", "memalign x", "free 8"] {
            assert!(Call::try_from(text.to_owned()).is_err(), "{text}");
        }
        for row in [[7, 1, 0, 3, 2, 0, 0, 0], [1, 3, 4, 5, 0, 1127, 1, 3]] {
            assert_eq!(Cell::try_from(row).expect("sound").row(), row);
        }
        for row in [
            [1, 0, 0, 0, 0, 128, 0, 0],
            [1, 0, 0, 0, 0, 1128, 0, 0],
            [1, 0, 0, 0, 0, 1, 2, 0],
        ] {
            assert!(Cell::try_from(row).is_err(), "{row:?}");
        }
    }
}
