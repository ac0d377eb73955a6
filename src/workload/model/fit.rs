//! A model from a recording: see the module text of [`super`].

#![forbid(unsafe_code)]

use std::cmp::Reverse;
use std::collections::HashMap;

use super::cells::{self, Fate, Met, Sizes, index_of};
use super::phases::{self, Stretch};
use super::{CELL_LIMIT, Call, Cell, End, Parameters, Phase, WINDOW_LIMIT, lifetime_class};
use crate::error::{Error, Result};
use crate::trace::{Operation, Trace};
use crate::workload::synthetic::OPERATION_LIMIT;

/// Operations of a window, at least.
const WINDOW_OPERATIONS: u64 = 200;
/// Threads with a role of their own; the others share one.
const OWN_ROLES: usize = 15;
/// Threads that share a role, at most: more are joined, in the order in which they began.
const SHARING_THREADS: usize = 1024;

/// A block, or a `free` of null, as recorded. Moments are numbers of operations.
struct Born {
    at: u32,
    thread: u32,
    call: usize,
    old_bytes: u64,
    size_bytes: u64,
    death: Option<Death>,
}

#[derive(Clone, Copy)]
struct Death {
    at: u32,
    thread: u32,
    by_realloc: bool,
}

/// First and last operation of a thread, and how many it performs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Span {
    first: u32,
    last: u32,
    operations: u64,
}

struct Walk {
    calls: Vec<Call>,
    born: Vec<Born>,
    /// Where the blocks stand among `born`.
    blocks: Vec<u32>,
    threads: Vec<Option<Span>>,
    operations: u32,
    frees: u64,
    sized: u64,
}

/// Fits a model to a trace.
///
/// # Errors
/// The trace has no operation, or more than a generated trace may have.
pub fn fit(trace: &Trace) -> Result<Parameters> {
    let operations = trace.counts().operations();
    if operations == 0 {
        return Err(Error::Failed(
            "the trace has no allocator operation that a model could be fitted to".to_owned(),
        ));
    }
    if operations > OPERATION_LIMIT {
        return Err(Error::Failed(format!(
            "the trace has {operations} operations; a model holds at most {OPERATION_LIMIT}: \
             take a slice of the trace"
        )));
    }
    Ok(Walk::over(trace).parameters())
}

impl Walk {
    fn over(trace: &Trace) -> Self {
        let mut walk = Self {
            calls: Vec::new(),
            born: Vec::new(),
            blocks: Vec::with_capacity(trace.block_count() as usize),
            threads: vec![None; trace.thread_count() as usize],
            operations: 0,
            frees: 0,
            sized: 0,
        };
        for event in trace.events() {
            if event.operation.is_replayed() {
                walk.step(event.thread.0, &event.operation);
            }
        }
        walk
    }

    fn step(&mut self, thread: u32, operation: &Operation) {
        let at = self.operations;
        self.operations += 1;
        let span = self.threads[thread as usize].get_or_insert(Span {
            first: at,
            last: at,
            operations: 0,
        });
        span.last = at;
        span.operations += 1;
        let mut old_bytes = 0;
        if let Some(block) = operation.releases() {
            let born = &mut self.born[self.blocks[block.0 as usize] as usize];
            old_bytes = born.size_bytes;
            born.death = Some(Death {
                at,
                thread,
                by_realloc: operation.allocates().is_some(),
            });
        }
        let call = match *operation {
            Operation::Malloc { .. } => Call::Malloc,
            Operation::Calloc { .. } => Call::Calloc,
            Operation::Realloc { old: None, .. } => Call::ReallocNull,
            Operation::Realloc { .. } => Call::Realloc,
            Operation::Aligned {
                alignment_log2,
                function,
                ..
            } => Call::Aligned(function, alignment_log2),
            Operation::FreeNull => Call::FreeNull,
            Operation::Free { sized, .. } => {
                self.frees += 1;
                self.sized += u64::from(sized);
                return;
            }
            // Not replayed: see `over`.
            _ => return,
        };
        if operation.allocates().is_some() {
            // Blocks are numbered in the order in which they are allocated.
            self.blocks.push(self.born.len() as u32);
        }
        let call = index_of(&mut self.calls, call);
        self.born.push(Born {
            at,
            thread,
            call,
            old_bytes,
            size_bytes: operation.requested_bytes(),
            death: None,
        });
    }

    fn parameters(self) -> Parameters {
        let windows = (u64::from(self.operations) / WINDOW_OPERATIONS)
            .clamp(1, u64::from(WINDOW_LIMIT)) as u32;
        let window =
            |at: u32| (u64::from(at) * u64::from(windows) / u64::from(self.operations)) as u32;
        let stretches = self.phases(windows, &window);
        let mut phase_of = Vec::new();
        for (phase, stretch) in stretches.iter().enumerate() {
            phase_of.extend(stretch.windows.clone().map(|_| phase));
        }
        let (roles, threads) = roles(&self.threads, &window);
        let end = |born: &Born| match born.death {
            None => End::Never,
            Some(death) => {
                let dies = window(death.at);
                let is_later = phase_of[dies as usize] > phase_of[window(born.at) as usize];
                let lifetime = death.at - born.at;
                let is_long = lifetime > self.operations / windows;
                match is_later && is_long {
                    true => End::In(dies),
                    false => End::After(lifetime_class(u64::from(lifetime))),
                }
            }
        };
        let mut by_size: HashMap<u64, u64> = HashMap::new();
        for born in &self.born {
            *by_size.entry(born.size_bytes).or_default() += 1;
        }
        let sizes = Sizes::of(&by_size);
        let mut met: HashMap<Fate, Met> = HashMap::new();
        for born in &self.born {
            let ender = born.death.filter(|death| death.thread != born.thread);
            let is_realloc = self.calls[born.call] == Call::Realloc;
            let fate = Fate {
                phase: phase_of[window(born.at) as usize],
                call: born.call,
                old_bytes: if is_realloc {
                    sizes.of_bytes(born.old_bytes)
                } else {
                    0
                },
                size_bytes: sizes.of_bytes(born.size_bytes),
                role: roles[born.thread as usize],
                end: end(born),
                by_realloc: born.death.is_some_and(|death| death.by_realloc),
                ender: ender.map(|death| roles[death.thread as usize]),
            };
            let dies = born.death.map_or(self.operations, |death| death.at);
            let one = met.entry(fate).or_default();
            one.count += 1;
            one.life += f64::from(dies - born.at);
            one.occupancy += f64::from(dies - born.at) * born.size_bytes as f64;
        }
        let cells = cells::fold(met, CELL_LIMIT);
        let orders = self.orders(windows, &window, &end);
        let mut births = vec![0; windows as usize];
        let mut lasting_bytes = vec![0u64; windows as usize];
        let plain = |born: &&Born| self.calls[born.call] != Call::Realloc;
        for born in self.born.iter().filter(plain) {
            let place = window(born.at) as usize;
            births[place] += 1;
            let dies = born.death.map_or(u32::MAX, |death| death.at);
            if dies - born.at > self.operations / windows {
                let sum = lasting_bytes[place].saturating_add(born.size_bytes);
                // What TOML can hold.
                lasting_bytes[place] = sum.min(i64::MAX as u64);
            }
        }
        let repeats = self.repeats(stretches.len(), |at| phase_of[window(at) as usize]);
        let mut dictionary: Vec<u64> = cells
            .iter()
            .flat_map(|(fate, _)| [fate.old_bytes, fate.size_bytes])
            .collect();
        dictionary.sort_unstable();
        dictionary.dedup();
        let index = |bytes: u64| dictionary.binary_search(&bytes).unwrap_or(0);
        let mut phases: Vec<Phase> = stretches
            .iter()
            .zip(&repeats)
            .map(|(stretch, repeat_percent)| {
                let range = stretch.windows.start as usize..stretch.windows.end as usize;
                Phase {
                    births: births[range.clone()].to_vec(),
                    lasting_bytes: lasting_bytes[range.clone()].to_vec(),
                    order_percent: orders[range].to_vec(),
                    repeat_percent: *repeat_percent,
                    cells: Vec::new(),
                }
            })
            .collect();
        for (fate, count) in cells {
            let is_realloc = self.calls[fate.call] == Call::Realloc;
            phases[fate.phase].cells.push(Cell {
                count,
                call: fate.call,
                old: if is_realloc { index(fate.old_bytes) } else { 0 },
                size: index(fate.size_bytes),
                role: fate.role,
                end: fate.end,
                by_realloc: fate.by_realloc,
                ender: fate.ender,
            });
        }
        Parameters {
            sized_percent: percent(self.sized, self.frees),
            calls: self.calls,
            sizes: dictionary,
            threads,
            phases,
        }
    }

    fn phases(&self, windows: u32, window: &impl Fn(u32) -> u32) -> Vec<Stretch> {
        let mut stretches: Vec<Stretch> = (0..windows).map(Stretch::new).collect();
        for born in &self.born {
            if self.calls[born.call] == Call::FreeNull {
                continue;
            }
            let lifetime = born.death.map(|death| u64::from(death.at - born.at));
            stretches[window(born.at) as usize].add(born.size_bytes, lifetime);
            if let Some(death) = born.death {
                stretches[window(death.at) as usize].add_end();
            }
        }
        phases::cut(stretches)
    }

    /// For each window, how the blocks that die in it by window are ordered: the correlation of their
    /// births with the order of their deaths.
    fn orders(
        &self,
        windows: u32,
        window: &impl Fn(u32) -> u32,
        end: &impl Fn(&Born) -> End,
    ) -> Vec<i8> {
        let mut dying: Vec<Vec<(u32, u32)>> = vec![Vec::new(); windows as usize];
        for born in &self.born {
            if let (End::In(dies), Some(death)) = (end(born), born.death) {
                debug_assert_eq!(dies, window(death.at));
                dying[dies as usize].push((death.at, born.at));
            }
        }
        let order = |mut deaths: Vec<(u32, u32)>| {
            deaths.sort_unstable();
            let births: Vec<f64> = deaths.iter().map(|death| f64::from(death.1)).collect();
            (100.0 * correlation_with_place(&births)).round() as i8
        };
        dying.into_iter().map(order).collect()
    }

    /// For each phase, of a hundred births how many are like the one before beyond chance: with shares
    /// p of the sizes, one in sum p² is by chance.
    fn repeats(&self, phases: usize, phase_of: impl Fn(u32) -> usize) -> Vec<u8> {
        let mut counts: Vec<HashMap<u64, u64>> = vec![HashMap::new(); phases];
        let mut same = vec![0u64; phases];
        let mut last: Vec<Option<u64>> = vec![None; phases];
        let plain = |born: &&Born| self.calls[born.call] != Call::Realloc;
        for born in self.born.iter().filter(plain) {
            let phase = phase_of(born.at);
            *counts[phase].entry(born.size_bytes).or_default() += 1;
            same[phase] += u64::from(last[phase] == Some(born.size_bytes));
            last[phase] = Some(born.size_bytes);
        }
        let of = |(counts, same): (&HashMap<u64, u64>, &u64)| {
            let total = counts.values().sum::<u64>() as f64;
            if total < 2.0 {
                return 0;
            }
            let square = |count: &u64| (*count as f64 / total) * (*count as f64 / total);
            // In order: a sum of floats hangs on it.
            let mut shares: Vec<f64> = counts.values().map(square).collect();
            shares.sort_unstable_by(f64::total_cmp);
            let chance: f64 = shares.iter().sum();
            let seen = *same as f64 / (total - 1.0);
            if chance > 0.999 {
                return 0;
            }
            (100.0 * (seen - chance) / (1.0 - chance))
                .round()
                .clamp(0.0, 99.0) as u8
        };
        counts.iter().zip(&same).map(of).collect()
    }
}

/// Pearson's correlation of values with their places; 0 where there is none.
fn correlation_with_place(values: &[f64]) -> f64 {
    let count = values.len() as f64;
    if values.len() < 3 {
        return 0.0;
    }
    let mean = values.iter().sum::<f64>() / count;
    let middle = (count - 1.0) / 2.0;
    let (mut both, mut square, mut places) = (0.0, 0.0, 0.0);
    for (place, value) in values.iter().enumerate() {
        let (value, place) = (value - mean, place as f64 - middle);
        both += value * place;
        square += value * value;
        places += place * place;
    }
    match square > 0.0 {
        true => both / (square * places).sqrt(),
        false => 0.0,
    }
}

fn percent(part: u64, whole: u64) -> u8 {
    match whole {
        0 => 0,
        _ => ((part * 100 + whole / 2) / whole).min(100) as u8,
    }
}

/// The role of each thread, and the threads of each role as the model names them.
fn roles(spans: &[Option<Span>], window: &impl Fn(u32) -> u32) -> (Vec<usize>, Vec<Vec<[u64; 3]>>) {
    let mut order: Vec<(usize, Span)> = spans
        .iter()
        .enumerate()
        .filter_map(|(thread, span)| Some((thread, (*span)?)))
        .collect();
    order.sort_by_key(|(thread, span)| (Reverse(span.operations), *thread));
    let own = match order.len() <= OWN_ROLES + 1 {
        true => order.len(),
        false => OWN_ROLES,
    };
    let row = |span: Span| {
        [
            u64::from(window(span.first)),
            u64::from(window(span.last)),
            span.operations,
        ]
    };
    let mut of = vec![0; spans.len()];
    let mut threads = Vec::new();
    for (role, (thread, span)) in order[..own].iter().enumerate() {
        of[*thread] = role;
        threads.push(vec![row(*span)]);
    }
    let mut sharing = order.split_off(own);
    if !sharing.is_empty() {
        sharing.sort_by_key(|(thread, span)| (span.first, *thread));
        let joined = sharing.len().div_ceil(SHARING_THREADS);
        let join = |chunk: &[(usize, Span)]| {
            let whole = chunk.iter().map(|one| one.1).reduce(|one, other| Span {
                first: one.first.min(other.first),
                last: one.last.max(other.last),
                operations: one.operations + other.operations,
            });
            row(whole.expect("chunks are not empty"))
        };
        threads.push(sharing.chunks(joined).map(join).collect());
        sharing.iter().for_each(|(thread, _)| of[*thread] = own);
    }
    (of, threads)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_of_known_deaths() {
        assert_eq!(correlation_with_place(&[1.0, 2.0, 3.0]), 1.0);
        assert_eq!(correlation_with_place(&[9.0, 5.0, 1.0]), -1.0);
        // Places -1.5, -0.5, 0.5, 1.5 and values -1.5, 0.5, -0.5, 1.5: 4 / 5.
        assert!((correlation_with_place(&[1.0, 3.0, 2.0, 4.0]) - 0.8).abs() < 1e-12);
        assert_eq!(correlation_with_place(&[4.0, 4.0, 4.0]), 0.0);
        assert_eq!(correlation_with_place(&[1.0, 2.0]), 0.0);
        assert_eq!((percent(1, 3), percent(0, 0), percent(7, 7)), (33, 0, 100));
    }

    #[test]
    fn many_threads_share_a_role() {
        let span = |number: u32| {
            (number != 3).then_some(Span {
                first: number,
                last: number + 10,
                operations: if number == 40 {
                    99
                } else {
                    1 + u64::from(number == 7)
                },
            })
        };
        let spans: Vec<_> = (0..50).map(span).collect();
        let (of, threads) = roles(&spans, &|at| at / 10);
        assert_eq!(threads.len(), OWN_ROLES + 1);
        assert_eq!((of[40], of[7], of[49]), (0, 1, OWN_ROLES));
        assert_eq!(threads[0], [[4, 5, 99]]);
        assert_eq!(threads[OWN_ROLES].len(), 49 - OWN_ROLES);
        let many: Vec<_> = (0..3000).map(span).collect();
        let (_, threads) = roles(&many, &|at| at / 100);
        assert!(threads[OWN_ROLES].len() <= SHARING_THREADS);
        let operations: u64 = threads.iter().flatten().map(|thread| thread[2]).sum();
        assert_eq!(operations, 2999 + 1 + 98);
    }
}
