//! Workloads x subjects x passes x blocks -> cells in the order in which they are run. Pure.
//!
//! A block runs every subject once, in random order, so that a drift of the machine's speed falls on
//! all of them alike and cancels in the ratios of that block.

#![forbid(unsafe_code)]

use rand::SeedableRng as _;
use rand::seq::SliceRandom as _;
use rand_pcg::Pcg64Mcg;

use crate::measure::results::{Pass, SubjectKind};

/// One child process to come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// Index of the workload.
    pub workload: usize,
    /// Index of the subject.
    pub subject: usize,
    /// What the sample is for.
    pub pass: Pass,
    /// Block of the pass, from 0.
    pub block: u32,
    /// Position in the block, from 0.
    pub position: u32,
}

/// What a plan needs to know of a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlannedSubject {
    /// Linked, system, preloaded or floor.
    pub kind: SubjectKind,
    /// Whether it returns the same address always: it can be timed, not checked.
    pub is_null: bool,
}

/// How many blocks each pass has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blocks {
    /// Speed pass.
    pub speed: u32,
    /// Memory pass.
    pub memory: u32,
}

/// Plans a run: for each workload one verify block first, then the speed and the memory blocks.
pub fn plan(workloads: usize, subjects: &[PlannedSubject], blocks: Blocks, seed: u64) -> Vec<Cell> {
    let mut random = Pcg64Mcg::seed_from_u64(seed);
    let mut cells = Vec::new();
    for workload in 0..workloads {
        let passes = [
            (Pass::Verify, 1),
            (Pass::Speed, blocks.speed),
            (Pass::Memory, blocks.memory),
        ];
        for (pass, count) in passes {
            for block in 0..count {
                let mut order: Vec<usize> = (0..subjects.len())
                    .filter(|index| pass == Pass::Speed || !subjects[*index].is_null)
                    .collect();
                order.shuffle(&mut random);
                cells.extend(order.into_iter().zip(0..).map(|(subject, position)| Cell {
                    workload,
                    subject,
                    pass,
                    block,
                    position,
                }));
            }
        }
    }
    cells
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    const SUBJECTS: [PlannedSubject; 4] = [
        PlannedSubject {
            kind: SubjectKind::System,
            is_null: false,
        },
        PlannedSubject {
            kind: SubjectKind::Linked,
            is_null: false,
        },
        PlannedSubject {
            kind: SubjectKind::Preloaded,
            is_null: false,
        },
        PlannedSubject {
            kind: SubjectKind::Floor,
            is_null: true,
        },
    ];

    #[test]
    fn each_block_holds_every_subject_once() {
        let cells = plan(
            2,
            &SUBJECTS,
            Blocks {
                speed: 20,
                memory: 3,
            },
            1,
        );
        for workload in 0..2 {
            for block in 0..20 {
                let mut subjects: Vec<usize> = cells
                    .iter()
                    .filter(|c| (c.workload, c.pass, c.block) == (workload, Pass::Speed, block))
                    .map(|c| c.subject)
                    .collect();
                subjects.sort_unstable();
                assert_eq!(subjects, [0, 1, 2, 3]);
            }
        }
        assert!(
            !cells
                .iter()
                .any(|c| c.subject == 3 && c.pass != Pass::Speed)
        );
        assert_eq!(cells.len(), 2 * (3 + 20 * 4 + 3 * 3));
    }

    #[test]
    fn the_order_is_shuffled_and_follows_the_seed() {
        let blocks = Blocks {
            speed: 30,
            memory: 0,
        };
        let cells = plan(1, &SUBJECTS, blocks, 5);
        assert_eq!(cells, plan(1, &SUBJECTS, blocks, 5));
        assert_ne!(cells, plan(1, &SUBJECTS, blocks, 6));
        let first: HashSet<usize> = cells
            .iter()
            .filter(|cell| cell.pass == Pass::Speed && cell.position == 0)
            .map(|cell| cell.subject)
            .collect();
        assert_eq!(first.len(), 4, "every subject comes first in some block");
    }

    #[test]
    fn checks_come_before_times() {
        let cells = plan(
            1,
            &SUBJECTS,
            Blocks {
                speed: 2,
                memory: 1,
            },
            0,
        );
        assert!(cells.is_sorted_by_key(|cell| cell.pass));
    }
}
