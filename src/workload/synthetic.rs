//! Synthetic traces: one allocation pattern each, at a stated size distribution, from a seed.
//!
//! A generator isolates one behaviour (reuse of one size, a stack, a queue, growth, bursts) so that
//! a difference between allocators can be explained. It does not stand for a program: real programs
//! change phase, and their sizes and lifetimes hang together (Zorn and Grunwald, "Evaluating models
//! of memory allocation", 1994; Wilson et al., "Dynamic storage allocation: a survey and critical
//! review", 1995, section 2, on why random traces mislead). Traces of real programs decide.

#![forbid(unsafe_code)]

use std::collections::VecDeque;

use serde::Deserialize;

use super::random::{Random, exp2};
use crate::error::{Error, Result};
use crate::trace::builder::TraceBuilder;
use crate::trace::{BlockId, Origin, ThreadIndex, Trace};

/// Most operations of a generated trace: 24 bytes each, so that no definition exhausts memory.
pub const OPERATION_LIMIT: u64 = 50_000_000;

/// The only thread: threads need kernels of their own (`replay::kernels`).
const THREAD: ThreadIndex = ThreadIndex(0);

/// The `[synthetic]` table of a definition. Sizes are in bytes.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Parameters {
    /// A constant number of live blocks; each new block takes the place of a random old one.
    Churn {
        /// Sizes of the blocks.
        sizes: Sizes,
        /// Live blocks after the start.
        live: u64,
        /// Blocks allocated in all; each is freed.
        allocations: u64,
    },
    /// A stack: a random walk up and down, the youngest block dies first.
    Lifo {
        /// Sizes of the blocks.
        sizes: Sizes,
        /// Most live blocks.
        depth: u64,
        /// Blocks allocated in all; each is freed.
        allocations: u64,
    },
    /// A queue of constant length: the oldest block dies first.
    Fifo {
        /// Sizes of the blocks.
        sizes: Sizes,
        /// Live blocks after the start.
        live: u64,
        /// Blocks allocated in all; each is freed.
        allocations: u64,
    },
    /// Vectors that grow by `realloc`, several at once in random turns, each freed when full.
    Vectors {
        /// How a vector grows.
        growth: Growth,
        /// Size of a new vector.
        first_bytes: u64,
        /// A vector that has reached this size is freed.
        last_bytes: u64,
        /// Vectors that grow at once.
        live: u64,
        /// Vectors in all.
        vectors: u64,
    },
    /// Rounds: allocate many blocks, then free them all.
    Batch {
        /// Sizes of the blocks.
        sizes: Sizes,
        /// Blocks of a round.
        batch: u64,
        /// Number of rounds.
        rounds: u64,
        /// In which order the blocks of a round die.
        order: Order,
    },
}

/// A distribution of sizes.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Sizes {
    /// One size.
    Fixed {
        /// The size.
        bytes: u64,
    },
    /// Each size of a range equally often.
    Uniform {
        /// Smallest size.
        smallest_bytes: u64,
        /// Largest size.
        largest_bytes: u64,
    },
    /// The logarithm of the size is normal: mostly small, with a long tail.
    LogNormal {
        /// Half of the blocks are smaller.
        median_bytes: f64,
        /// Standard deviation of the natural logarithm of the size.
        sigma: f64,
        /// Larger draws are repeated.
        largest_bytes: u64,
    },
}

/// How a vector grows.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Growth {
    /// To twice its size.
    Doubling,
    /// By a constant.
    Constant {
        /// The constant.
        step_bytes: u64,
    },
}

/// In which order the blocks of a batch die.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// As allocated.
    Forward,
    /// Youngest first.
    Reverse,
    /// Shuffled anew in each round.
    Random,
}

impl Sizes {
    fn check(&self) -> std::result::Result<(), String> {
        let wrong = match *self {
            Self::Fixed { .. } => None,
            Self::Uniform {
                smallest_bytes,
                largest_bytes,
            } => (smallest_bytes > largest_bytes)
                .then(|| format!("smallest_bytes {smallest_bytes} is above {largest_bytes}")),
            Self::LogNormal {
                median_bytes,
                sigma,
                largest_bytes,
            } => {
                if !(median_bytes.is_finite() && median_bytes >= 1.0) {
                    Some(format!(
                        "median_bytes must be at least 1, not {median_bytes}"
                    ))
                } else if !(0.0..=5.0).contains(&sigma) {
                    Some(format!("sigma must be from 0 to 5, not {sigma}"))
                } else if (largest_bytes as f64) < median_bytes {
                    // Repeating a draw would take for ever.
                    Some(format!("largest_bytes {largest_bytes} is below the median"))
                } else {
                    None
                }
            }
        };
        wrong.map_or(Ok(()), Err)
    }

    fn draw(&self, random: &mut Random) -> u64 {
        match *self {
            Self::Fixed { bytes } => bytes,
            Self::Uniform {
                smallest_bytes,
                largest_bytes,
            } => smallest_bytes + random.below((largest_bytes - smallest_bytes).saturating_add(1)),
            Self::LogNormal {
                median_bytes,
                sigma,
                largest_bytes,
            } => loop {
                let power = random.normal() * sigma * std::f64::consts::LOG2_E;
                let bytes = (median_bytes * exp2(power)).round().max(1.0) as u64;
                if bytes <= largest_bytes {
                    return bytes;
                }
            },
        }
    }
}

impl Growth {
    fn next(self, bytes: u64) -> u64 {
        match self {
            Self::Doubling => bytes.saturating_mul(2),
            Self::Constant { step_bytes } => bytes.saturating_add(step_bytes),
        }
    }

    /// Reallocations from the first size until the last is reached.
    fn steps(self, first_bytes: u64, last_bytes: u64) -> u64 {
        match self {
            Self::Constant { step_bytes } => {
                last_bytes.saturating_sub(first_bytes).div_ceil(step_bytes)
            }
            Self::Doubling => std::iter::successors(Some(first_bytes), |b| Some(self.next(*b)))
                .take_while(|bytes| *bytes < last_bytes)
                .count() as u64,
        }
    }
}

impl Parameters {
    /// Operations of the generated trace, exactly; saturating.
    pub fn operations(&self) -> u64 {
        match *self {
            Self::Churn { allocations, .. }
            | Self::Lifo { allocations, .. }
            | Self::Fifo { allocations, .. } => allocations.saturating_mul(2),
            Self::Vectors {
                growth,
                first_bytes,
                last_bytes,
                vectors,
                ..
            } => vectors.saturating_mul(growth.steps(first_bytes, last_bytes).saturating_add(2)),
            Self::Batch { batch, rounds, .. } => batch.saturating_mul(rounds).saturating_mul(2),
        }
    }

    /// What is wrong with the parameters, as the end of a sentence that names the definition.
    pub(super) fn check(&self) -> std::result::Result<(), String> {
        match *self {
            Self::Churn {
                sizes,
                live,
                allocations,
            }
            | Self::Fifo {
                sizes,
                live,
                allocations,
            } => {
                sizes.check()?;
                if live == 0 || live > allocations {
                    return Err(format!("live must be from 1 to allocations, not {live}"));
                }
            }
            Self::Lifo {
                sizes,
                depth,
                allocations,
            } => {
                sizes.check()?;
                if depth == 0 || allocations == 0 {
                    return Err("depth and allocations must be at least 1".to_owned());
                }
            }
            Self::Vectors {
                growth,
                first_bytes,
                live,
                vectors,
                ..
            } => {
                // `realloc(block, 0)` frees in some allocators and not in others.
                if first_bytes == 0 || growth == (Growth::Constant { step_bytes: 0 }) {
                    return Err("first_bytes and step_bytes must be at least 1".to_owned());
                }
                if live == 0 || live > vectors {
                    return Err(format!("live must be from 1 to vectors, not {live}"));
                }
            }
            Self::Batch {
                sizes,
                batch,
                rounds,
                ..
            } => {
                sizes.check()?;
                if batch == 0 || rounds == 0 {
                    return Err("batch and rounds must be at least 1".to_owned());
                }
            }
        }
        let operations = self.operations();
        if operations > OPERATION_LIMIT {
            return Err(format!(
                "{operations} operations are above the limit of {OPERATION_LIMIT}"
            ));
        }
        Ok(())
    }
}

/// Makes the trace of `name`'s definition. The same parameters and seed give the same trace.
pub fn generate(name: &str, parameters: &Parameters, seed: u64) -> Result<Trace> {
    parameters
        .check()
        .map_err(|wrong| Error::usage(format!("workload {name}: {wrong}")))?;
    let mut generator = Generator {
        trace: TraceBuilder::new(Origin::generated(
            name,
            vec![format!("generated from seed {seed}")],
        )),
        random: Random::new(seed),
    };
    match *parameters {
        Parameters::Churn {
            sizes,
            live,
            allocations,
        } => generator.churn(sizes, live, allocations),
        Parameters::Lifo {
            sizes,
            depth,
            allocations,
        } => generator.lifo(sizes, depth, allocations),
        Parameters::Fifo {
            sizes,
            live,
            allocations,
        } => generator.fifo(sizes, live, allocations),
        Parameters::Vectors {
            growth,
            first_bytes,
            last_bytes,
            live,
            vectors,
        } => {
            generator.vectors(growth, first_bytes..last_bytes, live, vectors);
        }
        Parameters::Batch {
            sizes,
            batch,
            rounds,
            order,
        } => {
            generator.batch(sizes, batch, rounds, order);
        }
    }
    Ok(generator.trace.finish())
}

struct Generator {
    trace: TraceBuilder,
    random: Random,
}

impl Generator {
    fn malloc(&mut self, sizes: Sizes) -> BlockId {
        let size = sizes.draw(&mut self.random);
        self.trace.malloc(THREAD, size)
    }

    fn free(&mut self, block: BlockId) {
        self.trace.free(THREAD, block, false);
    }

    fn churn(&mut self, sizes: Sizes, live: u64, allocations: u64) {
        let mut blocks: Vec<BlockId> = (0..live).map(|_| self.malloc(sizes)).collect();
        for _ in live..allocations {
            let victim = self.random.index(blocks.len());
            self.free(blocks[victim]);
            blocks[victim] = self.malloc(sizes);
        }
        for block in blocks {
            self.free(block);
        }
    }

    fn lifo(&mut self, sizes: Sizes, depth: u64, allocations: u64) {
        let mut stack = Vec::new();
        let mut allocated = 0;
        while allocated < allocations {
            let grows = match stack.len() as u64 {
                0 => true,
                height if height == depth => false,
                _ => self.random.below(2) == 0,
            };
            if grows {
                let block = self.malloc(sizes);
                stack.push(block);
                allocated += 1;
            } else if let Some(block) = stack.pop() {
                self.free(block);
            }
        }
        while let Some(block) = stack.pop() {
            self.free(block);
        }
    }

    fn fifo(&mut self, sizes: Sizes, live: u64, allocations: u64) {
        let mut queue: VecDeque<BlockId> = (0..live).map(|_| self.malloc(sizes)).collect();
        for _ in live..allocations {
            // The new one first, as in a program that builds a message before it drops the oldest.
            let block = self.malloc(sizes);
            queue.push_back(block);
            let oldest = queue.pop_front().expect("just pushed");
            self.free(oldest);
        }
        for block in queue {
            self.free(block);
        }
    }

    fn vectors(&mut self, growth: Growth, bytes: std::ops::Range<u64>, live: u64, vectors: u64) {
        let mut growing: Vec<(BlockId, u64)> = (0..live)
            .map(|_| (self.trace.malloc(THREAD, bytes.start), bytes.start))
            .collect();
        let mut started = live;
        while !growing.is_empty() {
            let turn = self.random.index(growing.len());
            let (block, size) = growing[turn];
            if size < bytes.end {
                let size = growth.next(size);
                growing[turn] = (self.trace.realloc(THREAD, Some(block), size), size);
                continue;
            }
            self.free(block);
            if started < vectors {
                growing[turn] = (self.trace.malloc(THREAD, bytes.start), bytes.start);
                started += 1;
            } else {
                growing.swap_remove(turn);
            }
        }
    }

    fn batch(&mut self, sizes: Sizes, batch: u64, rounds: u64, order: Order) {
        for _ in 0..rounds {
            let mut blocks: Vec<BlockId> = (0..batch).map(|_| self.malloc(sizes)).collect();
            match order {
                Order::Forward => {}
                Order::Reverse => blocks.reverse(),
                Order::Random => self.random.shuffle(&mut blocks),
            }
            for block in blocks {
                self.free(block);
            }
        }
    }
}
