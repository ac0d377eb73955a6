//! Makes the cells of a model few: rare sizes are joined to classes, light cells to the heavy ones that
//! are most like them.

#![forbid(unsafe_code)]

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};

use super::{Call, End};

/// Sizes that stay exact: the most frequent, and those with the most bytes.
const EXACT_BY_COUNT: usize = 384;
const EXACT_BY_BYTES: usize = 128;

/// What happened to some blocks, sizes in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Fate {
    pub(super) phase: usize,
    /// Index of the call.
    pub(super) call: usize,
    /// Size of the block given to `realloc`, or 0.
    pub(super) old_bytes: u64,
    pub(super) size_bytes: u64,
    pub(super) role: usize,
    pub(super) end: End,
    pub(super) by_realloc: bool,
    pub(super) ender: Option<usize>,
}

/// Which size stands for each.
pub(super) struct Sizes {
    known: HashMap<u64, u64>,
}

impl Sizes {
    /// Of sizes and how often each was asked for. A class is eight to the octave, and its mean stands
    /// for it, so that the requested bytes stay.
    pub(super) fn of(counts: &HashMap<u64, u64>) -> Self {
        let mut order: Vec<(u64, u64)> =
            counts.iter().map(|(size, count)| (*size, *count)).collect();
        // Of equal ones, which come first must not hang on the map's order.
        order.sort_unstable_by_key(|&(size, count)| (Reverse(count), size));
        let mut exact: Vec<u64> = order.iter().take(EXACT_BY_COUNT).map(|one| one.0).collect();
        order.sort_unstable_by_key(|&(size, count)| (Reverse(size.saturating_mul(count)), size));
        exact.extend(order.iter().take(EXACT_BY_BYTES).map(|one| one.0));
        exact.sort_unstable();
        let mut classes: BTreeMap<u64, (u128, u64)> = BTreeMap::new();
        let is_rare = |size: &u64| exact.binary_search(size).is_err();
        for (size, count) in order.iter().filter(|(size, _)| is_rare(size)) {
            let class = classes.entry(size_class(*size)).or_default();
            class.0 += u128::from(*size) * u128::from(*count);
            class.1 += count;
        }
        let stands_for = |size: u64| match classes.get(&size_class(size)) {
            Some((bytes, count)) if is_rare(&size) => {
                let count = u128::from(*count);
                u64::try_from((bytes + count / 2) / count).unwrap_or(size)
            }
            _ => size,
        };
        Self {
            known: counts
                .keys()
                .map(|&size| (size, stands_for(size)))
                .collect(),
        }
    }

    /// The size that stands for this one.
    pub(super) fn of_bytes(&self, bytes: u64) -> u64 {
        self.known.get(&bytes).copied().unwrap_or(bytes)
    }
}

/// Eight classes to the octave.
fn size_class(bytes: u64) -> u64 {
    if bytes < 16 {
        return bytes;
    }
    let octave = u64::from(bytes.ilog2());
    octave * 8 + ((bytes >> (octave - 3)) & 7)
}

/// How often a fate was met, and the sum over its blocks of bytes times operations of life.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Met {
    pub(super) count: u64,
    pub(super) occupancy: f64,
}

/// Joins cells until there are at most `limit`, or no two may be joined: the number of calls of each
/// kind, of frees and of blocks that never end stays in each phase. Those that stay apart have the most
/// blocks, or take up the most memory for the longest time: the curve of live bytes is theirs.
pub(super) fn fold(met: HashMap<Fate, Met>, limit: usize) -> Vec<(Fate, u64)> {
    let total: f64 = met.values().map(|one| one.count as f64).sum();
    // In order: a sum of floats hangs on it.
    let mut met: Vec<(Fate, Met)> = met.into_iter().collect();
    met.sort_unstable_by_key(|one| one.0);
    let occupied: f64 = met
        .iter()
        .map(|(_, one)| one.occupancy)
        .sum::<f64>()
        .max(1.0);
    let weight = |one: &Met| one.count as f64 / total + one.occupancy / occupied;
    if met.len() > limit {
        met.sort_by(|one, other| weight(&other.1).total_cmp(&weight(&one.1)));
    }
    let cells: Vec<(Fate, u64)> = met.iter().map(|(fate, one)| (*fate, one.count)).collect();
    if cells.len() <= limit {
        return cells;
    }
    let kind = |fate: &Fate| {
        (
            fate.phase,
            fate.call,
            fate.by_realloc,
            fate.end == End::Never,
        )
    };
    // The heaviest of each kind stays: the others of its kind need one to go to.
    let mut kept: BTreeMap<_, Vec<(Fate, u64)>> = BTreeMap::new();
    let mut light = Vec::new();
    let kinds: std::collections::BTreeSet<_> = cells.iter().map(|(fate, _)| kind(fate)).collect();
    let mut room = limit.saturating_sub(kinds.len());
    for cell in cells {
        let of_kind = kept.entry(kind(&cell.0)).or_default();
        if of_kind.is_empty() {
            of_kind.push(cell);
        } else if room > 0 {
            room -= 1;
            of_kind.push(cell);
        } else {
            light.push(cell);
        }
    }
    for (fate, count) in light {
        let of_kind = kept.get_mut(&kind(&fate)).expect("each kind keeps one");
        let nearest = of_kind
            .iter_mut()
            .min_by(|one, other| distance(&one.0, &fate).total_cmp(&distance(&other.0, &fate)));
        nearest.expect("each kind keeps one").1 += count;
    }
    let mut cells: Vec<_> = kept.into_values().flatten().collect();
    cells.sort_unstable();
    cells
}

/// How unlike two fates of one kind are: a size off by an octave counts as much as another thread.
fn distance(one: &Fate, other: &Fate) -> f64 {
    let log = |bytes: u64| (bytes.saturating_add(1) as f64).log2();
    let sizes = (log(one.size_bytes) - log(other.size_bytes)).abs();
    let olds = (log(one.old_bytes) - log(other.old_bytes)).abs();
    let ends = match (one.end, other.end) {
        (End::After(one), End::After(other)) => f64::from(one.abs_diff(other)) / 4.0,
        (End::In(one), End::In(other)) => f64::from(one.abs_diff(other)) / 4.0,
        (one, other) if one == other => 0.0,
        _ => 8.0,
    };
    let threads = u32::from(one.role != other.role) + u32::from(one.ender != other.ender);
    4.0 * (sizes + olds) + ends + 4.0 * f64::from(threads)
}

/// The index of a call, which is added if it is new.
pub(super) fn index_of(calls: &mut Vec<Call>, call: Call) -> usize {
    calls
        .iter()
        .position(|own| *own == call)
        .unwrap_or_else(|| {
            calls.push(call);
            calls.len() - 1
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fate(size_bytes: u64, end: End) -> Fate {
        Fate {
            phase: 0,
            call: 0,
            old_bytes: 0,
            size_bytes,
            role: 0,
            end,
            by_realloc: false,
            ender: None,
        }
    }

    fn met(count: u64) -> Met {
        Met {
            count,
            occupancy: 0.0,
        }
    }

    #[test]
    fn what_takes_up_memory_stays_apart() {
        let long = Met {
            count: 1,
            occupancy: 1e9,
        };
        let counts = HashMap::from([
            (fate(16, End::After(4)), met(100)),
            (fate(24, End::After(4)), met(50)),
            (fate(1 << 20, End::After(100)), long),
        ]);
        let cells = fold(counts, 2);
        assert!(
            cells.contains(&(fate(1 << 20, End::After(100)), 1)),
            "{cells:?}"
        );
    }

    #[test]
    fn folding_keeps_the_number_of_each_kind() {
        let mut counts = HashMap::new();
        for size in 1..=300 {
            counts.insert(fate(size, End::Never), met(2));
            counts.insert(fate(size, End::After((size % 90) as u8 + 1)), met(3));
        }
        counts.insert(fate(16, End::After(3)), met(10_000));
        let cells = fold(counts, 50);
        assert!(cells.len() <= 50);
        let sum = |never: bool| -> u64 {
            let of = cells
                .iter()
                .filter(|(fate, _)| (fate.end == End::Never) == never);
            of.map(|(_, count)| count).sum()
        };
        assert_eq!((sum(true), sum(false)), (600, 900 + 10_000));
    }

    #[test]
    fn light_cells_go_to_the_most_alike() {
        let counts = HashMap::from([
            (fate(16, End::After(4)), met(100)),
            (fate(4096, End::After(4)), met(100)),
            (fate(4000, End::After(5)), met(1)),
        ]);
        let cells = fold(counts, 2);
        assert_eq!(
            cells,
            [
                (fate(16, End::After(4)), 100),
                (fate(4096, End::After(4)), 101)
            ]
        );
    }

    #[test]
    fn rare_sizes_keep_their_bytes() {
        let mut counts: HashMap<u64, u64> = (1..=EXACT_BY_COUNT as u64)
            .map(|size| (size, 1000))
            .collect();
        counts.extend((0..600).map(|n| (5000 + n, 1)));
        let sizes = Sizes::of(&counts);
        let rare: Vec<u64> = (0..600).map(|n| sizes.of_bytes(5000 + n)).collect();
        let bytes: u64 = rare.iter().sum();
        let true_bytes: u64 = (0..600).map(|n| 5000 + n).sum();
        assert!(
            bytes.abs_diff(true_bytes) <= 600,
            "{bytes} for {true_bytes}"
        );
        let mut different = rare;
        different.dedup();
        assert!(different.len() <= EXACT_BY_BYTES + 3, "{}", different.len());
        assert_eq!(sizes.of_bytes(7), 7);
    }
}
