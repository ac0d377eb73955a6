//! Fleet profiles: traces whose sizes, birth rates and live counts follow a table measured on a
//! fleet of servers, made beforehand from a seed.
//!
//! A table has a row per size: how many blocks of it are allocated per unit of time, and how many
//! are live at any moment. Births of all sizes are a Poisson process at the tabled rates; a block
//! lives for an exponential time whose mean is, by Little's law, live count / rate. The trace starts
//! with the live blocks of one moment (a Poisson number of each size, in random order), so that the
//! live counts hover about the table's from the first operation after this fill to the last.
//!
//! To fit, live counts are multiplied by `scale` and rates are kept: lifetimes shrink with it.

#![forbid(unsafe_code)]

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::random::Random;
use super::synthetic::OPERATION_LIMIT;
use crate::error::{Error, Result};
use crate::trace::builder::TraceBuilder;
use crate::trace::{BlockId, Origin, ThreadIndex, Trace};

const THREAD: ThreadIndex = ThreadIndex(0);
/// A table this long is none; the measured ones have about a thousand rows.
const ROW_LIMIT: usize = 100_000;

/// The `[fleet]` table of a definition.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameters {
    /// The profile's file: a relative path starts at the definition's folder.
    pub table: PathBuf,
    /// Factor of the live counts.
    pub scale: f64,
    /// Rows of larger blocks are left out: at a small scale one such block, live by chance, would
    /// outweigh all others.
    pub largest_bytes: u64,
    /// Operations after the fill.
    pub operations: u64,
}

/// One size of a profile.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Row {
    /// Requested bytes.
    pub size_bytes: u64,
    /// Allocations per unit of time; only ratios between rows matter.
    pub alloc_rate: f64,
    /// Blocks live at any moment, on average.
    pub num_live: f64,
}

/// A profile: rows of distinct sizes.
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    rows: Vec<Row>,
}

impl Table {
    /// Reads a file of lines `size,alloc_rate,num_live`, with or without a heading.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|source| match source.kind() {
            std::io::ErrorKind::InvalidData => Error::file(path, "not a table: not UTF-8 text"),
            _ => Error::io(path, "read", source),
        })?;
        Self::parse(path, &text)
    }

    /// Parses a table's text; `path` is for messages.
    pub fn parse(path: &Path, text: &str) -> Result<Self> {
        let mut rows = Vec::new();
        let mut sizes = BTreeSet::new();
        for (number, line) in (1u64..).zip(text.lines()) {
            let heading = number == 1 && line.trim().starts_with("size");
            if heading || line.trim().is_empty() {
                continue;
            }
            let row = Row::parse(line).map_err(|message| Error::line(path, number, message))?;
            if !sizes.insert(row.size_bytes) {
                let message = format!("size {} appears a second time", row.size_bytes);
                return Err(Error::line(path, number, message));
            }
            if rows.len() == ROW_LIMIT {
                return Err(Error::line(
                    path,
                    number,
                    format!("more than {ROW_LIMIT} sizes"),
                ));
            }
            rows.push(row);
        }
        let any = |value: fn(&Row) -> f64| rows.iter().any(|row| value(row) > 0.0);
        if !any(|row| row.alloc_rate) || !any(|row| row.num_live) {
            return Err(Error::file(
                path,
                "no size is ever allocated and live: an empty profile",
            ));
        }
        Ok(Self { rows })
    }

    /// The rows, in the file's order.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Rows of at most that size, and the shares of allocations and of live bytes that they are.
    fn restricted(&self, largest_bytes: u64) -> (Vec<Row>, f64, f64) {
        let kept: Vec<Row> = self
            .rows
            .iter()
            .copied()
            .filter(|row| row.size_bytes <= largest_bytes)
            .collect();
        let rate = |rows: &[Row]| rows.iter().map(|row| row.alloc_rate).sum::<f64>();
        let bytes = |rows: &[Row]| rows.iter().map(|row| row.live_bytes()).sum::<f64>();
        let rate_share = rate(&kept) / rate(&self.rows);
        let bytes_share = bytes(&kept) / bytes(&self.rows);
        (kept, rate_share, bytes_share)
    }
}

impl Row {
    fn parse(line: &str) -> std::result::Result<Self, String> {
        let expected = || {
            format!(
                "expected `size,alloc_rate,num_live`, found `{}`",
                excerpt(line)
            )
        };
        let fields: Vec<&str> = line.split(',').map(str::trim).collect();
        let [size, rate, live] = fields[..] else {
            return Err(expected());
        };
        let size_bytes: u64 = size.parse().map_err(|_| expected())?;
        let (alloc_rate, num_live): (f64, f64) = (
            rate.parse().map_err(|_| expected())?,
            live.parse().map_err(|_| expected())?,
        );
        if size_bytes > i64::MAX as u64 {
            return Err(format!(
                "size {size_bytes} is above what any allocator serves"
            ));
        }
        let sound = |value: f64| value.is_finite() && value >= 0.0;
        if !sound(alloc_rate) || !sound(num_live) {
            return Err(format!(
                "rate and live count must be 0 or more: `{}`",
                excerpt(line)
            ));
        }
        Ok(Self {
            size_bytes,
            alloc_rate,
            num_live,
        })
    }

    fn live_bytes(&self) -> f64 {
        self.size_bytes as f64 * self.num_live
    }
}

/// The start of a line, short enough for a message, and nothing in it that a terminal obeys.
fn excerpt(line: &str) -> String {
    line.escape_debug().take(60).collect()
}

impl Parameters {
    pub(super) fn check(&self) -> std::result::Result<(), String> {
        if !(self.scale.is_finite() && self.scale > 0.0) {
            return Err(format!("scale must be above 0, not {}", self.scale));
        }
        if self.operations == 0 {
            return Err("operations must be at least 1".to_owned());
        }
        Ok(())
    }
}

/// Makes the trace of `name`'s definition; `table` is the one that the parameters name.
pub fn generate(name: &str, parameters: &Parameters, table: &Table, seed: u64) -> Result<Trace> {
    let usage = |wrong: String| Error::usage(format!("workload {name}: {wrong}"));
    parameters.check().map_err(usage)?;
    let (rows, rate_share, bytes_share) = table.restricted(parameters.largest_bytes);
    let live_blocks: f64 = rows.iter().map(|row| row.num_live * parameters.scale).sum();
    let live_bytes: f64 = rows
        .iter()
        .map(|row| row.live_bytes() * parameters.scale)
        .sum();
    let total = parameters.operations as f64 + live_blocks;
    if total > OPERATION_LIMIT as f64 {
        return Err(usage(format!(
            "about {total:.0} operations are above the limit of {OPERATION_LIMIT}; \
             choose a smaller scale"
        )));
    }
    if rows.iter().all(|row| row.alloc_rate == 0.0) {
        return Err(usage(
            "no size up to largest_bytes is ever allocated".to_owned(),
        ));
    }
    let notes = vec![format!(
        "generated from seed {seed}; {:.1} MiB and {live_blocks:.0} blocks live on average \
         ({} times the measured live counts); sizes up to {} bytes: {:.3} % of the allocations \
         and {:.1} % of the live bytes of the table",
        live_bytes / f64::from(1 << 20),
        parameters.scale,
        parameters.largest_bytes,
        rate_share * 100.0,
        bytes_share * 100.0,
    )];
    let builder = TraceBuilder::new(Origin::generated(name, notes));
    let mut process = Process::new(builder, rows, parameters.scale, seed);
    process.fill();
    process.run(parameters.operations);
    Ok(process.builder.finish())
}

/// The birth and death process. Time is in the table's unit.
struct Process {
    builder: TraceBuilder,
    random: Random,
    rows: Vec<Row>,
    /// Sums of the rates up to and with each row.
    rate_sums: Vec<f64>,
    scale: f64,
    /// Earliest death first. Times are not negative, so their bits are in the order of the times.
    deaths: BinaryHeap<Reverse<(u64, u32)>>,
}

impl Process {
    fn new(builder: TraceBuilder, rows: Vec<Row>, scale: f64, seed: u64) -> Self {
        let rate_sums = rows
            .iter()
            .scan(0.0, |sum, row| {
                *sum += row.alloc_rate;
                Some(*sum)
            })
            .collect();
        let random = Random::new(seed);
        Self {
            builder,
            random,
            rows,
            rate_sums,
            scale,
            deaths: BinaryHeap::new(),
        }
    }

    /// The live blocks of one moment. The exponential distribution has no memory: what is left of
    /// the life of such a block is distributed as a whole life.
    fn fill(&mut self) {
        let mut order = Vec::new();
        for row in 0..self.rows.len() {
            let count = self.random.poisson(self.rows[row].num_live * self.scale);
            order.extend(std::iter::repeat_n(row, count as usize));
        }
        self.random.shuffle(&mut order);
        for row in order {
            self.birth(row, 0.0);
        }
    }

    fn birth(&mut self, row: usize, now: f64) {
        let Row {
            size_bytes,
            alloc_rate,
            num_live,
        } = self.rows[row];
        let block = self.builder.malloc(THREAD, size_bytes);
        // What is never allocated again is never freed either.
        if alloc_rate > 0.0 {
            let death = now + self.random.exponential() * num_live * self.scale / alloc_rate;
            self.deaths.push(Reverse((death.to_bits(), block.0)));
        }
    }

    fn run(&mut self, operations: u64) {
        let rate = *self.rate_sums.last().expect("at least one row");
        let mut next_birth = self.random.exponential() / rate;
        for _ in 0..operations {
            match self.deaths.peek() {
                Some(&Reverse((death, block))) if f64::from_bits(death) <= next_birth => {
                    self.deaths.pop();
                    self.builder.free(THREAD, BlockId(block), false);
                }
                _ => {
                    let row = self.random_row(rate);
                    self.birth(row, next_birth);
                    next_birth += self.random.exponential() / rate;
                }
            }
        }
    }

    /// A row, as often as its rate says.
    fn random_row(&mut self, rate: f64) -> usize {
        let point = self.random.unit() * rate;
        // Rows of rate 0 end where the row before them ends and are never the first above a point.
        self.rate_sums
            .partition_point(|sum| *sum <= point)
            .min(self.rate_sums.len() - 1)
    }
}
