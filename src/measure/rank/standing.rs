//! Which allocators are told apart over several workloads, and what follows for their places.
//!
//! Every pair is compared: the first of a place is itself chosen by its time, so to compare the others
//! with it alone would find the luckiest of equal allocators faster than the unluckiest too often. Of
//! each pair the times of the same blocks are compared (see [`sign_flip`]), corrected for the number of
//! pairs (Holm); and the difference must be larger than the noise floor: what the baseline differs from
//! itself by, over the same workloads.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use crate::measure::noise::difference;
use crate::measure::pairs::{self, BlockKey};
use crate::statistics::median;
use crate::statistics::sign_flip::{SignFlip, sign_flip, smallest_p};
use crate::statistics::signed_rank::{ERROR_RATE, fewest_blocks, holm};

/// With fewer blocks on a workload there is no 95 % interval of its median.
pub(super) const BLOCKS_MIN: usize = 6;

/// Times of one allocator on one workload, by block.
pub(super) type Times = BTreeMap<BlockKey, f64>;

/// Ratios of two allocators' times: of each workload, of each of its runs, of each block.
type Ratios = Vec<Vec<Vec<f64>>>;

/// For each pair of allocators, who is told to be faster.
pub(super) struct Told {
    count: usize,
    faster: Vec<bool>,
}

impl Told {
    /// Whether the one is told to be faster than the other.
    pub(super) fn is_faster(&self, one: usize, other: usize) -> bool {
        self.faster[one * self.count + other]
    }

    /// Places of allocators, of which `order` says who comes first by time: one starts a new place if
    /// it is told apart from the first of the place before.
    pub(super) fn places(&self, order: &[usize]) -> Vec<usize> {
        let mut places: Vec<usize> = Vec::new();
        let mut leader = None;
        for (at, &own) in order.iter().enumerate() {
            let place = match (leader, places.last()) {
                (Some(first), Some(&place)) if !self.is_faster(first, own) => place,
                _ => {
                    leader = Some(own);
                    at + 1
                }
            };
            places.push(place);
        }
        places
    }
}

/// Compares all pairs. `workloads` holds the times of each allocator on each workload; `floor` is the
/// noise floor, a share. The error says why nothing can be told.
pub(super) fn tell(workloads: &[Vec<Times>], floor: f64, seed: u64) -> Result<Told, String> {
    let count = workloads.first().map_or(0, Vec::len);
    let pairs: Vec<(usize, usize)> = (0..count)
        .flat_map(|one| (one + 1..count).map(move |other| (one, other)))
        .collect();
    if pairs.is_empty() {
        return Err("there are no two to compare".to_owned());
    }
    let ratios: Vec<Ratios> = pairs
        .iter()
        .map(|&(one, other)| {
            let of = |times: &Vec<Times>| {
                let runs = pairs::ratios_by_run(&times[one], &times[other]);
                runs.into_values().collect()
            };
            workloads.iter().map(of).collect()
        })
        .collect();
    // Of so many choices of signs, the smallest p-value is a twentieth of what the correction asks for.
    let choices = (20.0 * pairs.len() as f64 / ERROR_RATE) as usize;
    check_blocks(&ratios, choices)?;
    let tests: Vec<SignFlip> = ratios
        .iter()
        .map(|workloads| {
            let logarithms = |runs: &Vec<Vec<f64>>| {
                let runs = runs.iter();
                runs.map(|ratios| ratios.iter().map(|ratio| ratio.ln()).collect())
                    .collect()
            };
            let workloads: Ratios = workloads.iter().map(logarithms).collect();
            sign_flip(&workloads, choices, seed)
        })
        .collect();
    let p_values: Vec<f64> = tests.iter().map(|test| test.p_value).collect();
    let differs = holm(&p_values, ERROR_RATE);
    let mut faster = vec![false; count * count];
    for (at, &(one, other)) in pairs.iter().enumerate() {
        let ratio = mean_of_medians(&ratios[at]);
        let agrees = (ratio > 0.0) == (tests[at].mean > 0.0);
        if differs[at] && agrees && difference(ratio.exp()) > floor {
            let (first, second) = if ratio < 0.0 {
                (one, other)
            } else {
                (other, one)
            };
            faster[first * count + second] = true;
        }
    }
    Ok(Told { count, faster })
}

/// The logarithm of the geometric mean, over workloads and the runs of each, of the median ratio.
fn mean_of_medians(workloads: &Ratios) -> f64 {
    let of = |runs: &Vec<Vec<f64>>| {
        let medians = runs.iter().filter_map(|ratios| median(ratios));
        medians.map(f64::ln).sum::<f64>() / runs.len() as f64
    };
    workloads.iter().map(of).sum::<f64>() / workloads.len() as f64
}

/// Whether every pair has the blocks that a verdict needs.
fn check_blocks(pairs: &[Ratios], choices: usize) -> Result<(), String> {
    let of_workload = |runs: &Vec<Vec<f64>>| runs.iter().map(Vec::len).min().unwrap_or(0);
    let fewest = pairs.iter().flatten().map(of_workload).min().unwrap_or(0);
    if fewest < BLOCKS_MIN {
        return Err(format!(
            "a workload has {fewest} {} of two of them, and an interval needs {BLOCKS_MIN}",
            if fewest == 1 { "block" } else { "blocks" }
        ));
    }
    let all = |workloads: &Ratios| workloads.iter().flatten().map(Vec::len).sum::<usize>();
    let blocks = pairs.iter().map(all).min().unwrap_or(0);
    if smallest_p(blocks, choices) > ERROR_RATE / pairs.len() as f64 {
        return Err(format!(
            "{} comparisons of two need {} blocks in all, and there are {blocks}",
            pairs.len(),
            fewest_blocks(pairs.len(), ERROR_RATE)
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::RngExt as _;
    use rand::SeedableRng as _;
    use rand_pcg::Pcg64Mcg;

    /// Times of allocators that take these shares of one time, in blocks that share what the machine
    /// does, with skewed noise of some percent of their own.
    fn measured(
        workloads: usize,
        blocks: u32,
        shares: &[f64],
        random: &mut Pcg64Mcg,
    ) -> Vec<Vec<Times>> {
        let exponential = |random: &mut Pcg64Mcg| -(1.0 - random.random::<f64>()).ln();
        (0..workloads)
            .map(|_| {
                let mut times = vec![Times::new(); shares.len()];
                for block in 0..blocks {
                    let machine = 1.0 + 0.2 * exponential(random);
                    for (own, share) in times.iter_mut().zip(shares) {
                        let noise = 1.0 + 0.03 * exponential(random);
                        own.insert((0, block), 1e6 * share * machine * noise);
                    }
                }
                times
            })
            .collect()
    }

    fn by_time(workloads: &[Vec<Times>]) -> Vec<usize> {
        let mut order: Vec<usize> = (0..workloads[0].len()).collect();
        let mean = |own: &usize| {
            let ratios = workloads
                .iter()
                .map(|times| vec![pairs::ratios(&times[*own], &times[0])]);
            mean_of_medians(&ratios.collect())
        };
        order.sort_by(|a, b| mean(a).total_cmp(&mean(b)));
        order
    }

    #[test]
    fn equal_allocators_have_different_places_at_most_5_times_in_100() {
        let mut random = Pcg64Mcg::seed_from_u64(3);
        // A baseline and three rivals, and more of them; one workload and several.
        for (workloads, blocks, allocators) in [(1, 8, 4), (1, 20, 4), (5, 6, 4), (3, 10, 8)] {
            let different = (0..200)
                .filter(|trial| {
                    let shares = vec![1.0; allocators];
                    let times = measured(workloads, blocks, &shares, &mut random);
                    let told = tell(&times, 0.0, *trial).expect("enough blocks");
                    told.places(&by_time(&times)).iter().any(|place| *place > 1)
                })
                .count();
            // 10 of 200 are allowed, and three standard deviations of that count are 9.
            assert!(
                different <= 19,
                "{workloads} x {blocks}, {allocators}: {different} of 200"
            );
        }
    }

    #[test]
    fn a_slower_one_has_a_place_of_its_own() {
        let mut random = Pcg64Mcg::seed_from_u64(4);
        let found = (0..100)
            .filter(|trial| {
                let times = measured(4, 12, &[1.0, 1.05, 1.0, 0.9], &mut random);
                let told = tell(&times, 0.0, *trial).expect("enough blocks");
                told.places(&by_time(&times)) == [1, 2, 2, 4]
                    && told.is_faster(3, 1)
                    && !told.is_faster(1, 3)
            })
            .count();
        assert!(found >= 90, "{found} of 100");
        // But not within the noise floor.
        let times = measured(4, 40, &[1.0, 1.05], &mut random);
        assert!(tell(&times, 0.0, 1).expect("blocks").is_faster(0, 1));
        assert!(!tell(&times, 0.08, 1).expect("blocks").is_faster(0, 1));
    }

    #[test]
    fn too_few_blocks_give_no_places() {
        let mut random = Pcg64Mcg::seed_from_u64(5);
        let mut why = |workloads, blocks, allocators| {
            let times = measured(workloads, blocks, &vec![1.0; allocators], &mut random);
            tell(&times, 0.0, 1).err().unwrap_or_default()
        };
        assert_eq!(
            why(1, 1, 4),
            "a workload has 1 block of two of them, and an interval needs 6"
        );
        assert!(why(9, 5, 2).contains("5 blocks"));
        assert_eq!(
            why(1, 7, 4),
            "6 comparisons of two need 8 blocks in all, and there are 7"
        );
        assert_eq!(why(1, 8, 4), "");
        assert_eq!(why(2, 6, 4), "");
        assert!(why(1, 20, 1).contains("no two"));
        assert!(why(0, 20, 4).contains("no two"));
    }

    #[test]
    fn a_place_begins_where_one_is_told_from_the_first_of_the_last() {
        let mut told = Told {
            count: 4,
            faster: vec![false; 16],
        };
        told.faster[2] = true;
        // 0 is told from 2 alone; 3, though behind 2, is not told from it.
        assert_eq!(told.places(&[0, 1, 2, 3]), [1, 1, 3, 3]);
    }
}
