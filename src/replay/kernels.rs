//! Kernels: what a trace replayed on one thread cannot express. Real threads that hand blocks to each
//! other, and threads that come and go.
//!
//! The work is fixed beforehand. Threads are made outside the time, except where making them is
//! what is measured; within the time there is nothing but the allocator, the touch policy and the
//! hand-over. Where a thread must wait it yields: these machines may have fewer processors than
//! threads.

use core::ffi::c_void;
use std::fmt;
use std::hint;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

use serde::Deserialize;

use super::memory::{CurvePoint, MemoryOutcome, Retained, page_faults};
use super::resident::Gauge;
use super::serial::{Failure, Fault, warm_up};
use super::shadow::Shadow;
use crate::measure::results::Touch;
use crate::subject::functions::Functions;
use crate::trace::Trace;
use check::Check;
use hand_over::Plan;
use watch::{Account, Touching, Watch};

mod check;
mod hand_over;
mod order;
mod threads;
mod watch;

/// Blocks hold their size while memory is measured.
const SMALLEST_BYTES: u64 = 8;
/// Largest block of a kernel: sizes travel as 32 bits.
const LARGEST_BYTES: u64 = 1 << 30;
/// Most operations of one run.
const OPERATION_LIMIT: u64 = 1 << 32;
/// Most blocks in flight.
const SLOT_LIMIT: u64 = 1 << 24;

/// The `[threads]` table of a definition, and the word on a child's command line. Sizes are in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Kernel {
    /// One thread allocates, the other frees, through a bounded ring.
    ProducerConsumer {
        /// Blocks handed over.
        blocks: u64,
        /// Size of each.
        size: u64,
        /// Blocks that fit into the ring.
        ring: u64,
    },
    /// Two threads exchange blocks through shared slots: each puts in one of its own and frees what
    /// it found there, which the other had allocated about half of the time.
    CrossFree {
        /// Exchanges of each thread.
        exchanges: u64,
        /// Shared slots; all full from the start.
        slots: u64,
        /// Smallest size; each size from here to `largest` equally often.
        smallest: u64,
        /// Largest size.
        largest: u64,
        /// Of the slots and sizes.
        seed: u64,
    },
    /// One thread after the other is made, allocates some blocks, frees them, and ends.
    ThreadCreation {
        /// Threads in all.
        threads: u64,
        /// Blocks of each.
        blocks: u64,
        /// Size of each block.
        size: u64,
    },
}

/// A run that performed every operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timed {
    /// From the moment all threads were ready until the last had done its work.
    pub elapsed_ns: u64,
    /// Operations counted by the threads themselves; equals [`Kernel::operations`].
    pub operations: u64,
}

impl Kernel {
    /// Operations of one run.
    pub fn operations(&self) -> u64 {
        match *self {
            Self::ProducerConsumer { blocks, .. } => blocks.saturating_mul(2),
            Self::CrossFree { exchanges, .. } => exchanges.saturating_mul(4),
            Self::ThreadCreation {
                threads, blocks, ..
            } => threads.saturating_mul(blocks).saturating_mul(2),
        }
    }

    /// Threads that allocate or free, over the whole run.
    pub fn threads(&self) -> u64 {
        match *self {
            Self::ThreadCreation { threads, .. } => threads,
            _ => 2,
        }
    }

    /// What is wrong with the numbers, as the end of a sentence that names the definition.
    pub fn check(&self) -> Result<(), String> {
        let (counts, sizes) = match *self {
            Self::ProducerConsumer { blocks, size, ring } => {
                (vec![("blocks", blocks), ("ring", ring)], (size, size))
            }
            Self::CrossFree {
                exchanges,
                slots,
                smallest,
                largest,
                ..
            } => (
                vec![("exchanges", exchanges), ("slots", slots)],
                (smallest, largest),
            ),
            Self::ThreadCreation {
                threads,
                blocks,
                size,
            } => (vec![("threads", threads), ("blocks", blocks)], (size, size)),
        };
        if let Some((name, _)) = counts.iter().find(|(_, count)| *count == 0) {
            return Err(format!("{name} must be at least 1"));
        }
        let held = match *self {
            Self::ProducerConsumer { ring, .. } => ring,
            Self::CrossFree { slots, .. } => slots,
            Self::ThreadCreation { blocks, .. } => blocks,
        };
        if held > SLOT_LIMIT {
            return Err(format!(
                "{held} blocks at once are above the limit of {SLOT_LIMIT}"
            ));
        }
        if sizes.0 < SMALLEST_BYTES || sizes.1 > LARGEST_BYTES || sizes.0 > sizes.1 {
            return Err(format!(
                "sizes must ascend and be from {SMALLEST_BYTES} to {LARGEST_BYTES} bytes"
            ));
        }
        if self.operations() > OPERATION_LIMIT {
            let operations = self.operations();
            return Err(format!(
                "{operations} operations are above the limit of {OPERATION_LIMIT}"
            ));
        }
        Ok(())
    }

    /// Runs once and takes the time. The kernel must have passed [`Kernel::check`].
    pub fn run(&self, functions: &Functions, touch: Touch) -> Result<Timed, Failure> {
        self.perform(functions, &Touching::new(touch), &self.plans())
    }

    /// Runs once and follows live bytes and RSS; nothing is timed. `curve` is the harness's own
    /// memory, resident already; `settle` as in [`Retained::measure`].
    pub fn record(
        &self,
        functions: &Functions,
        touch: Touch,
        curve: &mut [CurvePoint],
        gauge: &mut Gauge,
        settle: bool,
    ) -> Result<MemoryOutcome, Failure> {
        // Before the start is read: the plans are the harness's own memory.
        let plans = self.plans();
        gauge.begin();
        let before = page_faults();
        warm_up(functions);
        let account = Account::new(
            *functions,
            Touching::new(touch),
            self.operations(),
            curve,
            gauge,
        );
        let timed = self.perform(functions, &account, &plans)?;
        let mut found = account.finish();
        found.operations = timed.operations;
        found.finish(gauge, before);
        found.retained = Retained::measure(functions, gauge, settle);
        Ok(found)
    }

    /// Runs once and checks each block: alignment, overlap, usable size, and its content when it is
    /// freed, by whichever thread. `progress` is set to the number of each operation. Returns how many
    /// operations were performed.
    pub fn verify(&self, functions: &Functions, progress: &AtomicU64) -> Result<u64, Failure> {
        let shadow = Shadow::new().map_err(|_| Failure {
            operation: 0,
            fault: Fault::Null,
        })?;
        let check = Check::new(*functions, shadow, progress);
        let done = self.perform(functions, &check, &self.plans());
        // What it found comes first: that memory ends may follow from it.
        check.verdict()?;
        Ok(done?.operations)
    }

    /// The kernel's operations in one order that the threads might take, on one thread after the
    /// other: for a profile of the workload, and to verify it. The blocks that `cross-free` makes
    /// before the time are missing: where it frees one of them, the trace frees null.
    pub fn one_order(&self, name: &str) -> Trace {
        order::one_order(self, name)
    }

    /// What the two threads of `cross-free` will do.
    fn plans(&self) -> [Plan; 2] {
        let Self::CrossFree {
            exchanges,
            slots,
            smallest,
            largest,
            seed,
        } = *self
        else {
            return [0, 1].map(|thread| Plan::new(0, thread, 0, 0, 0..=0));
        };
        [0, 1].map(|thread| Plan::new(seed, thread, exchanges, slots, smallest..=largest))
    }

    fn perform(
        &self,
        functions: &Functions,
        watch: &impl Watch,
        plans: &[Plan; 2],
    ) -> Result<Timed, Failure> {
        let timed = match *self {
            Self::ProducerConsumer { blocks, size, ring } => {
                hand_over::producer_consumer(functions, watch, blocks, size as usize, ring as usize)
            }
            Self::CrossFree { slots, .. } => {
                hand_over::cross_free(functions, watch, plans, slots as usize)
            }
            Self::ThreadCreation {
                threads,
                blocks,
                size,
            } => threads::creation(functions, watch, threads, blocks as usize, size as usize),
        }?;
        assert_eq!(
            timed.operations,
            self.operations(),
            "every operation of {self} is performed"
        );
        Ok(timed)
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ProducerConsumer { blocks, size, ring } => {
                write!(
                    f,
                    "producer-consumer blocks={blocks} size={size} ring={ring}"
                )
            }
            Self::CrossFree {
                exchanges,
                slots,
                smallest,
                largest,
                seed,
            } => write!(
                f,
                "cross-free exchanges={exchanges} slots={slots} smallest={smallest} \
                 largest={largest} seed={seed}"
            ),
            Self::ThreadCreation {
                threads,
                blocks,
                size,
            } => {
                write!(
                    f,
                    "thread-creation threads={threads} blocks={blocks} size={size}"
                )
            }
        }
    }
}

impl FromStr for Kernel {
    type Err = String;

    /// The inverse of `Display`, which is the table of a definition on one line.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut words = text.split_whitespace();
        let name = words.next().ok_or("an empty kernel")?;
        let mut table = toml::Table::new();
        for word in words {
            let number = word
                .split_once('=')
                .and_then(|(key, digits)| Some((key, digits.parse::<i64>().ok()?)));
            let (key, number) =
                number.ok_or_else(|| format!("expected `name=number`, found `{word}`"))?;
            table.insert(key.to_owned(), number.into());
        }
        let kernel: Self = toml::Table::from_iter([(name.to_owned(), table.into())])
            .try_into()
            .map_err(|error: toml::de::Error| format!("kernel `{text}`: {}", error.message()))?;
        kernel.check()?;
        Ok(kernel)
    }
}

/// How two threads begin together, and how one tells the other that it gave up.
#[derive(Default)]
struct Meeting {
    ready: AtomicU32,
    failed: AtomicBool,
    performed: AtomicU64,
}

impl Meeting {
    /// Returns when both threads have called.
    fn begin(&self) -> Instant {
        // Pairs with itself: what either thread did before is seen by the other afterwards.
        self.ready.fetch_add(1, Ordering::AcqRel);
        let mut patience = Patience::default();
        while self.ready.load(Ordering::Acquire) < 2 {
            patience.wait();
        }
        Instant::now()
    }

    /// Adds to the operations performed and returns the moment.
    fn end(&self, operations: u64) -> Instant {
        let now = Instant::now();
        // Read after the threads were joined, which orders it.
        self.performed.fetch_add(operations, Ordering::Relaxed);
        now
    }

    fn give_up(&self) {
        // Only the flag itself is communicated.
        self.failed.store(true, Ordering::Relaxed);
    }

    fn is_given_up(&self) -> bool {
        self.failed.load(Ordering::Relaxed)
    }

    /// The outcome, after the threads were joined.
    fn outcome(&self, start: Instant, ends: [Instant; 2]) -> Result<Timed, Failure> {
        let operations = self.performed.load(Ordering::Relaxed);
        if self.is_given_up() {
            return Err(Failure {
                operation: operations as usize,
                fault: Fault::Null,
            });
        }
        let elapsed = ends
            .into_iter()
            .max()
            .unwrap_or(start)
            .duration_since(start);
        Ok(Timed {
            elapsed_ns: nanoseconds(elapsed),
            operations,
        })
    }
}

fn nanoseconds(elapsed: std::time::Duration) -> u64 {
    u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX)
}

/// Waiting: a short spin, then the processor is left to the thread waited for.
#[derive(Default)]
struct Patience {
    spins: u32,
}

impl Patience {
    fn wait(&mut self) {
        if self.spins < 100 {
            self.spins += 1;
            hint::spin_loop();
        } else {
            std::thread::yield_now();
        }
    }
}

/// A block on its way between threads.
#[derive(Clone, Copy)]
struct Block(*mut c_void);

// SAFETY: a block of malloc may be used and freed by any thread; the hand-over orders the accesses.
unsafe impl Send for Block {}

#[cfg(test)]
mod tests;
