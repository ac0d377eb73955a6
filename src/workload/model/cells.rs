//! Makes the cells of a model few: rare sizes are joined to classes, and light cells to means of those
//! that are alike.

#![forbid(unsafe_code)]

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, HashMap};

use super::{Call, End, lifetime_class};

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

/// What is known of the blocks of one fate together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Met {
    /// How many.
    pub(super) count: u64,
    /// Sum over the blocks of bytes times operations of life.
    pub(super) occupancy: f64,
    /// Sum of their operations of life.
    pub(super) life: f64,
}

/// Makes cells few: at most `limit`, if the kinds are not more. They begin as one group for each kind, and
/// the group that blurs the most is cut in two, again and again: so what is asked for often, or takes
/// up much memory for a long time, stays as it is, and a long tail is joined. Each group becomes a cell
/// with its mean size, and its mean end by memory, so that the requested bytes stay, and the live bytes
/// over time. The number of calls of each kind, of frees and of blocks that never end stays in each
/// phase.
pub(super) fn fold(met: HashMap<Fate, Met>, limit: usize) -> Vec<(Fate, u64)> {
    // In order: a sum of floats hangs on it.
    let mut met: Vec<(Fate, Met)> = met.into_iter().collect();
    met.sort_unstable_by_key(|one| one.0);
    if met.len() > limit {
        met = group(&met, limit);
    }
    let mut counts: BTreeMap<Fate, u64> = BTreeMap::new();
    for (fate, one) in met {
        *counts.entry(fate).or_default() += one.count;
    }
    counts.into_iter().collect()
}

/// In what respect fates of a kind differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Respect {
    Size,
    Old,
    End,
    Role,
    Ender,
}

const RESPECTS: [Respect; 5] = [
    Respect::Size,
    Respect::Old,
    Respect::End,
    Respect::Role,
    Respect::Ender,
];

impl Respect {
    /// A fate's place in it, in units that weigh alike: an octave of size, two octaves of a lifetime,
    /// eight windows, another thread.
    fn of(self, fate: &Fate) -> f64 {
        let octaves = |bytes: u64| (bytes.saturating_add(1) as f64).log2();
        match self {
            Self::Size => octaves(fate.size_bytes),
            Self::Old => 0.5 * octaves(fate.old_bytes),
            Self::End => match fate.end {
                End::Never => 0.0,
                End::After(class) => f64::from(class) / 8.0,
                End::In(window) => f64::from(window) / 8.0,
            },
            Self::Role => fate.role as f64,
            Self::Ender => fate.ender.map_or(-1.0, |role| role as f64),
        }
    }

    /// Whether places are only equal or not.
    fn is_name(self) -> bool {
        matches!(self, Self::Role | Self::Ender)
    }
}

/// Cells that become one, unless they are cut.
struct Group<'c> {
    cells: Vec<&'c Weighed>,
    /// Where it blurs most, and how much.
    respect: Respect,
    loss: f64,
}

struct Weighed {
    fate: Fate,
    met: Met,
    /// Its share of all blocks, and of all memory over time.
    weight: f64,
}

impl<'c> Group<'c> {
    fn new(cells: Vec<&'c Weighed>) -> Self {
        let losses = RESPECTS.map(|respect| {
            let middle = middle(&cells, respect);
            let off = |cell: &&Weighed| match respect.is_name() {
                true => f64::from(u8::from(respect.of(&cell.fate) != middle)),
                false => (respect.of(&cell.fate) - middle).abs(),
            };
            cells
                .iter()
                .map(|cell| cell.weight * off(cell))
                .sum::<f64>()
        });
        let worst = RESPECTS.into_iter().zip(losses);
        let worst = worst.max_by(|one, other| one.1.total_cmp(&other.1));
        let (respect, loss) = worst.expect("there are some");
        Self {
            cells,
            respect,
            loss,
        }
    }

    /// Cuts it in two where it blurs most. None: all of it is alike.
    fn cut(self) -> Option<[Self; 2]> {
        let middle = middle(&self.cells, self.respect);
        let is_left = |cell: &&Weighed| match self.respect.is_name() {
            true => self.respect.of(&cell.fate) == middle,
            false => self.respect.of(&cell.fate) <= middle,
        };
        let (left, right): (Vec<_>, Vec<_>) = self.cells.into_iter().partition(is_left);
        (!left.is_empty() && !right.is_empty()).then(|| [Self::new(left), Self::new(right)])
    }
}

/// The weighted mean of a group's places, or the heaviest name.
fn middle(cells: &[&Weighed], respect: Respect) -> f64 {
    if respect.is_name() {
        let mut weights: BTreeMap<i64, f64> = BTreeMap::new();
        for cell in cells {
            *weights.entry(respect.of(&cell.fate) as i64).or_default() += cell.weight;
        }
        let heaviest = weights
            .into_iter()
            .max_by(|one, other| one.1.total_cmp(&other.1));
        return heaviest.map_or(0.0, |(name, _)| name as f64);
    }
    let sum: f64 = cells.iter().map(|cell| cell.weight).sum();
    let places = cells
        .iter()
        .map(|cell| cell.weight * respect.of(&cell.fate));
    places.sum::<f64>() / sum
}

fn group(met: &[(Fate, Met)], limit: usize) -> Vec<(Fate, Met)> {
    let total: f64 = met.iter().map(|(_, one)| one.count as f64).sum();
    let occupied: f64 = met.iter().map(|(_, one)| one.occupancy).sum();
    let weigh = |&(fate, met): &(Fate, Met)| Weighed {
        fate,
        met,
        weight: met.count as f64 / total + met.occupancy / occupied.max(1.0),
    };
    let cells: Vec<Weighed> = met.iter().map(weigh).collect();
    let mut kinds: BTreeMap<_, Vec<&Weighed>> = BTreeMap::new();
    for cell in &cells {
        let fate = &cell.fate;
        let how = match fate.end {
            End::Never => 0,
            End::After(_) => 1,
            End::In(_) => 2,
        };
        let kind = (fate.phase, fate.call, fate.by_realloc, how);
        kinds.entry(kind).or_default().push(cell);
    }
    let mut groups: Vec<Group<'_>> = kinds.into_values().map(Group::new).collect();
    let mut order: BinaryHeap<(Loss, Reverse<usize>)> = groups
        .iter()
        .enumerate()
        .map(|(index, group)| (Loss(group.loss), Reverse(index)))
        .collect();
    while groups.len() < limit
        && let Some((loss, Reverse(index))) = order.pop()
        && loss.0 > 0.0
    {
        let blurred = std::mem::take(&mut groups[index].cells);
        let respect = groups[index].respect;
        let whole = Group {
            cells: blurred.clone(),
            respect,
            loss: loss.0,
        };
        let Some([left, right]) = whole.cut() else {
            groups[index].cells = blurred;
            continue;
        };
        order.push((Loss(left.loss), Reverse(index)));
        order.push((Loss(right.loss), Reverse(groups.len())));
        groups[index] = left;
        groups.push(right);
    }
    groups.iter().map(|group| join(&group.cells)).collect()
}

/// A finite number, in order.
#[derive(PartialEq)]
struct Loss(f64);

impl Eq for Loss {}

impl PartialOrd for Loss {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Loss {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

/// The mean, unless more than half of the blocks have one size near it: allocators may serve that one
/// quite differently from its neighbours.
fn usual_size(cells: &[&Weighed], mean: u64) -> u64 {
    let mut counts: BTreeMap<u64, u64> = BTreeMap::new();
    for cell in cells {
        *counts.entry(cell.fate.size_bytes).or_default() += cell.met.count;
    }
    let all: u64 = counts.values().sum();
    let usual = counts
        .into_iter()
        .find(|&(size, count)| count > all / 2 && size.abs_diff(mean) <= mean / NEAR_PART);
    usual.map_or(mean, |(size, _)| size)
}

/// A size is near another if they differ by less than such a part.
const NEAR_PART: u64 = 32;

/// One cell for several of one kind.
fn join(cells: &[&Weighed]) -> (Fate, Met) {
    let mut fate = cells.first().expect("groups are not empty").fate;
    let name = |respect: Respect| middle(cells, respect) as i64;
    fate.role = usize::try_from(name(Respect::Role)).unwrap_or(0);
    fate.ender = usize::try_from(name(Respect::Ender)).ok();
    let mut met = Met::default();
    let (mut bytes, mut old_bytes) = (0u128, 0u128);
    let (mut windows, mut in_bytes) = (0.0, 0.0);
    for Weighed {
        fate: one,
        met: own,
        ..
    } in cells
    {
        met.count += own.count;
        met.occupancy += own.occupancy;
        met.life += own.life;
        bytes += u128::from(one.size_bytes) * u128::from(own.count);
        old_bytes += u128::from(one.old_bytes) * u128::from(own.count);
        if let End::In(window) = one.end {
            // One more each, so that blocks of no bytes count too.
            let own_bytes = (one.size_bytes as f64 + 1.0) * own.count as f64;
            windows += f64::from(window) * own_bytes;
            in_bytes += own_bytes;
        }
    }
    let count = u128::from(met.count.max(1));
    let mean = |sum: u128| u64::try_from((sum + count / 2) / count).unwrap_or(u64::MAX);
    fate.size_bytes = usual_size(cells, mean(bytes));
    fate.old_bytes = mean(old_bytes);
    fate.end = match fate.end {
        End::Never => End::Never,
        // Means lie between what is joined, and so behind the phase, as each of those does.
        End::In(_) => End::In((windows / in_bytes).round() as u32),
        End::After(class) if cells.len() == 1 => End::After(class),
        End::After(_) => {
            let life = match bytes {
                0 => met.life / met.count.max(1) as f64,
                bytes => met.occupancy / bytes as f64,
            };
            End::After(lifetime_class(life.round() as u64))
        }
    };
    (fate, met)
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
    use crate::workload::model::lifetime_range;

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

    /// So many blocks of one fate, which is not `In`.
    fn seen(size_bytes: u64, end: End, count: u64) -> (Fate, Met) {
        let life = match end {
            End::After(class) => lifetime_range(class).0 as f64,
            _ => 1e6,
        };
        let met = Met {
            count,
            occupancy: life * size_bytes as f64 * count as f64,
            life: life * count as f64,
        };
        (fate(size_bytes, end), met)
    }

    #[test]
    fn what_takes_up_memory_stays_apart() {
        let counts = HashMap::from([
            seen(16, End::After(4), 100),
            seen(24, End::After(4), 50),
            seen(1 << 20, End::After(100), 1),
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
            counts.extend([seen(size, End::Never, 2)]);
            counts.extend([seen(size, End::After((size % 90) as u8 + 1), 3)]);
        }
        counts.extend([seen(16, End::After(3), 10_000)]);
        let cells = fold(counts, 50);
        assert_eq!(cells.len(), 50);
        let sum = |never: bool| -> u64 {
            let of = cells
                .iter()
                .filter(|(fate, _)| (fate.end == End::Never) == never);
            of.map(|(_, count)| count).sum()
        };
        assert_eq!((sum(true), sum(false)), (600, 900 + 10_000));
        assert!(
            cells
                .iter()
                .any(|(one, count)| { *one == fate(16, End::After(3)) && *count >= 10_000 })
        );
    }

    #[test]
    fn folding_keeps_the_bytes_and_how_long_they_live() {
        let mut counts = HashMap::new();
        for number in 0..4000_u64 {
            let size = 16 + number * number % 9973;
            let end = End::After((number % 97) as u8 + 1);
            counts.extend([seen(size, end, 1 + number % 7)]);
        }
        let sums = |cells: &mut dyn Iterator<Item = (Fate, u64)>| {
            cells.fold((0.0, 0.0), |(bytes, memory), (fate, count)| {
                let own = fate.size_bytes as f64 * count as f64;
                let End::After(class) = fate.end else {
                    unreachable!("all of them end");
                };
                (bytes + own, memory + own * lifetime_range(class).0 as f64)
            })
        };
        let whole = sums(&mut counts.iter().map(|(fate, met)| (*fate, met.count)));
        let cells = fold(counts, 60);
        assert_eq!(cells.len(), 60);
        let folded = sums(&mut cells.into_iter());
        assert!(
            (folded.0 / whole.0 - 1.0).abs() < 0.01,
            "{folded:?} {whole:?}"
        );
        // A class of lifetimes is a quarter of an octave.
        assert!(
            (folded.1 / whole.1 - 1.0).abs() < 0.2,
            "{folded:?} {whole:?}"
        );
    }

    #[test]
    fn what_is_alike_is_joined_under_its_usual_size() {
        let counts = HashMap::from([
            seen(16, End::After(4), 100),
            seen(4096, End::After(4), 100),
            seen(4000, End::After(5), 1),
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
