//! How many blocks, and in which order a block runs its subjects. Pure.
//!
//! A block runs every subject once, in random order, so that a drift of the machine's speed falls on
//! all of them alike and cancels in the ratios of that block. Order and environment offset are drawn
//! from a key of their own for each cell, not from one running generator: a run that was interrupted,
//! one of several shards, and a run with a subject more all draw the same for the same cell.

#![forbid(unsafe_code)]

use std::time::Duration;

use sha2::{Digest as _, Sha256};

use crate::measure::results::Pass;

/// How many blocks each pass has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Blocks {
    /// The timed pass: `speed`, or `program` for real programs.
    pub speed: Rule,
    /// Memory pass.
    pub memory: u32,
    /// Latency pass.
    pub latency: u32,
}

/// When no more blocks are added to the timed pass of a workload.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rule {
    /// Blocks that are always run, at least 1.
    pub blocks_min: u32,
    /// Blocks after which none are added.
    pub blocks_max: u32,
    /// Enough if half the width of every ratio's interval is at most this share of the ratio; `None`:
    /// the width is not looked at.
    pub precision: Option<f64>,
    /// Enough if the samples of the timed pass took this long together; `None` for no limit.
    pub budget: Option<Duration>,
    /// Verdicts that the results will give on all workloads together: each is corrected for so many,
    /// and blocks are added while one hangs on it.
    pub comparisons: usize,
}

impl Rule {
    /// So many blocks, whatever they show and however long they take.
    pub fn fixed(blocks: u32) -> Self {
        Self {
            blocks_min: blocks,
            blocks_max: blocks,
            precision: None,
            budget: None,
            comparisons: 1,
        }
    }
}

/// A subject's turn in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Index of the subject among the names given.
    pub subject: usize,
    /// Position in the block, from 0.
    pub position: u32,
    /// Bytes by which the environment moves the child's stack, against layout bias.
    pub environment_bytes: usize,
}

/// Bytes by which the environment may move a child's stack: more than an OS page.
const ENVIRONMENT_BYTES_LIMIT: u64 = 4096 * 2;

/// The subjects in the order in which a block runs them.
pub fn draw(seed: u64, workload: &str, pass: Pass, block: u32, subjects: &[&str]) -> Vec<Turn> {
    let mut drawn: Vec<(u64, usize, usize)> = subjects
        .iter()
        .enumerate()
        .map(|(index, name)| {
            let (rank, offset) = numbers(seed, workload, pass, block, name);
            (rank, index, (offset % ENVIRONMENT_BYTES_LIMIT) as usize)
        })
        .collect();
    // Sorting by random numbers is a random order; a subject's rank hangs on no other subject.
    drawn.sort_unstable();
    drawn
        .into_iter()
        .zip(0..)
        .map(|((_, subject, environment_bytes), position)| Turn {
            subject,
            position,
            environment_bytes,
        })
        .collect()
}

/// Two numbers that follow from the key alone and look random.
fn numbers(seed: u64, workload: &str, pass: Pass, block: u32, subject: &str) -> (u64, u64) {
    let mut hash = Sha256::new();
    hash.update(seed.to_le_bytes());
    hash.update(block.to_le_bytes());
    for text in [pass.name(), workload, subject] {
        // With its length, so that no two keys read the same.
        hash.update((text.len() as u64).to_le_bytes());
        hash.update(text);
    }
    let digest = hash.finalize();
    let number = |bytes: &[u8]| {
        bytes
            .iter()
            .fold(0, |high, byte| high << 8 | u64::from(*byte))
    };
    (number(&digest[..8]), number(&digest[8..16]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::{HashMap, HashSet};

    const SUBJECTS: [&str; 4] = ["system", "mimalloc", "jemalloc", "null"];

    fn order(seed: u64, block: u32, subjects: &[&'static str]) -> Vec<&'static str> {
        draw(seed, "w", Pass::Speed, block, subjects)
            .into_iter()
            .map(|turn| subjects[turn.subject])
            .collect()
    }

    #[test]
    fn each_block_holds_every_subject_once() {
        for block in 0..50 {
            let turns = draw(1, "w", Pass::Speed, block, &SUBJECTS);
            let mut subjects: Vec<usize> = turns.iter().map(|turn| turn.subject).collect();
            subjects.sort_unstable();
            assert_eq!(subjects, [0, 1, 2, 3]);
            assert!(turns.iter().map(|turn| turn.position).eq(0..4));
            assert!(turns.iter().all(|turn| turn.environment_bytes < 8192));
        }
    }

    #[test]
    fn every_order_and_many_offsets_occur() {
        let mut orders: HashMap<Vec<&str>, u32> = HashMap::new();
        let mut offsets = HashSet::new();
        for block in 0..2400 {
            *orders.entry(order(5, block, &SUBJECTS)).or_default() += 1;
            offsets.insert(draw(5, "w", Pass::Speed, block, &SUBJECTS)[0].environment_bytes);
        }
        assert_eq!(orders.len(), 24);
        // 100 each expected; five standard deviations are 49.
        assert!(
            orders.values().all(|count| (51..150).contains(count)),
            "{orders:?}"
        );
        assert!(offsets.len() > 1500);
    }

    #[test]
    fn what_is_drawn_hangs_on_the_cell_alone() {
        let with = order(1, 7, &SUBJECTS);
        assert_eq!(with, order(1, 7, &SUBJECTS));
        let without: Vec<_> = with
            .iter()
            .copied()
            .filter(|name| *name != "null")
            .collect();
        assert_eq!(without, order(1, 7, &SUBJECTS[..3]));
        let differs = |other: &dyn Fn(u32) -> Vec<Turn>| {
            (0..20).any(|block| other(block) != draw(1, "w", Pass::Speed, block, &SUBJECTS))
        };
        assert!(differs(&|block| draw(
            2,
            "w",
            Pass::Speed,
            block,
            &SUBJECTS
        )));
        assert!(differs(&|block| draw(
            1,
            "v",
            Pass::Speed,
            block,
            &SUBJECTS
        )));
        assert!(differs(&|block| draw(
            1,
            "w",
            Pass::Memory,
            block,
            &SUBJECTS
        )));
    }
}
