//! A trace from a model: decks of births, shuffled; deaths by the clock of operations.
//!
//! Every cell is dealt out to its count, every block that ends does end, and a `realloc` finds a block
//! to take: so the number of calls of each kind is exact, whatever the draws.

#![forbid(unsafe_code)]

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use super::deal::{self, Run};
use super::{Call, Cell, End, Parameters, Phase, lifetime_range};
use crate::error::{Error, Result};
use crate::trace::builder::TraceBuilder;
use crate::trace::{BlockId, Origin, ThreadIndex, Trace};
use crate::workload::random::Random;

/// Makes the trace of `name`'s definition. The same parameters and seed give the same trace.
///
/// # Errors
/// The parameters do not fit together.
pub fn generate(name: &str, parameters: &Parameters, seed: u64) -> Result<Trace> {
    parameters
        .check()
        .map_err(|wrong| Error::usage(format!("workload {name}: {wrong}")))?;
    let notes = vec![format!(
        "generated from seed {seed} by a model of {} cells in {} phases",
        parameters.cell_count(),
        parameters.phases.len()
    )];
    let builder = TraceBuilder::new(Origin::generated(name, notes));
    let mut generator = Generator::new(parameters, builder, seed);
    generator.run();
    Ok(generator.builder.finish())
}

/// A block that will end.
#[derive(Clone, Copy)]
struct Mortal {
    size: usize,
    member: usize,
    by_realloc: bool,
    ender: Option<usize>,
}

/// Blocks that end, by when: the number of the operation, then the order in which that was drawn.
type Deaths = BinaryHeap<Reverse<(u64, u64, u32)>>;

struct Generator<'p> {
    parameters: &'p Parameters,
    builder: TraceBuilder,
    random: Random,
    crew: Crew<'p>,
    window: usize,
    /// By block; `None` for those that never end.
    blocks: Vec<Option<Mortal>>,
    deaths: Deaths,
    drawn: u64,
    /// Blocks that are to end in each window, in the order of their births.
    ending: Vec<Vec<u32>>,
    /// For each phase, cells of blocks that begin by `realloc`, by the size that is given to it, with
    /// what is left of their counts.
    chains: Vec<BTreeMap<usize, Vec<(usize, u64)>>>,
    /// Blocks yet to begin by `realloc` that end by it as well.
    links_left: u64,
    /// Blocks that will end by `realloc` and have begun, or will begin otherwise.
    open: u64,
}

impl<'p> Generator<'p> {
    fn new(parameters: &'p Parameters, builder: TraceBuilder, seed: u64) -> Self {
        let is_chained = |cell: &Cell| parameters.calls[cell.call] == Call::Realloc;
        let links = |cell: &Cell| cell.by_realloc && cell.end != End::Never;
        let sum = |wanted: &dyn Fn(&Cell) -> bool| -> u64 {
            let all = parameters.phases.iter().flat_map(|phase| &phase.cells);
            all.filter(|cell| wanted(cell)).map(|cell| cell.count).sum()
        };
        let chains = parameters.phases.iter().map(|phase| {
            let mut by_size: BTreeMap<usize, Vec<(usize, u64)>> = BTreeMap::new();
            for (index, cell) in phase.cells.iter().enumerate() {
                if is_chained(cell) && cell.count > 0 {
                    by_size
                        .entry(cell.old)
                        .or_default()
                        .push((index, cell.count));
                }
            }
            by_size
        });
        Self {
            chains: chains.collect(),
            links_left: sum(&|cell| links(cell) && is_chained(cell)),
            open: sum(&|cell| links(cell) && !is_chained(cell)),
            crew: Crew::new(&parameters.threads),
            parameters,
            builder,
            random: Random::new(seed),
            window: 0,
            blocks: Vec::new(),
            deaths: BinaryHeap::new(),
            drawn: 0,
            ending: vec![Vec::new(); parameters.windows()],
        }
    }

    fn run(&mut self) {
        let parameters = self.parameters;
        let windows = parameters.windows() as u64;
        let operations = parameters.operations();
        for (phase_number, phase) in parameters.phases.iter().enumerate() {
            let decks = self.deck(phase).into_iter();
            for (births, order_percent) in decks.zip(&phase.order_percent) {
                let end = |window: u64| window * operations / windows;
                let window = self.window as u64;
                self.crew.enter(self.window);
                self.place_ending(end(window), end(window + 1), *order_percent);
                self.window(phase_number, births.into_iter(), end(window + 1));
                self.window += 1;
            }
        }
        self.window -= 1;
        while let Some(Reverse((_, _, block))) = self.deaths.pop() {
            self.die(parameters.phases.len() - 1, block);
        }
    }

    /// The cells that are no `realloc`, each as often as it counts, shuffled in runs: those of each
    /// window.
    fn deck(&mut self, phase: &Phase) -> Vec<Vec<u32>> {
        let repeat = f64::from(phase.repeat_percent) / 100.0;
        let mut runs: Vec<Run> = Vec::new();
        for (cell, index) in phase.cells.iter().zip(0..) {
            if self.parameters.calls[cell.call] == Call::Realloc {
                continue;
            }
            let lasting = self.parameters.is_lasting(cell.end);
            let bytes = self.parameters.sizes[cell.size];
            let mut left = cell.count;
            while left > 0 {
                let mut length = 1;
                while length < left && self.random.unit() < repeat {
                    length += 1;
                }
                left -= length;
                runs.push(Run {
                    cell: index,
                    length,
                    lasting_bytes: if lasting { bytes } else { 0 },
                });
            }
        }
        let size = |run: &Run| phase.cells[run.cell as usize].size;
        let runs = spread(runs, size, &mut self.random);
        let dealt = deal::deal(in_order(runs), &phase.births, &phase.lasting_bytes);
        let of_window = |runs: Vec<Run>| {
            // Those that last were dealt by their bytes, the others in their order.
            let (lasting, others): (Vec<Run>, Vec<Run>) =
                runs.into_iter().partition(|run| run.lasting_bytes > 0);
            let count = others.len() as f64;
            let mut keyed = spread(lasting, size, &mut self.random);
            let places = (0..).map(|number: u32| (f64::from(number) + 0.5) / count);
            keyed.extend(places.zip(others));
            let cards = in_order(keyed).into_iter();
            cards
                .flat_map(|run| std::iter::repeat_n(run.cell, run.length as usize))
                .collect()
        };
        dealt.into_iter().map(of_window).collect()
    }

    /// Times for the blocks that end in this window, spread over it.
    fn place_ending(&mut self, start: u64, end: u64, order_percent: i8) {
        let ending = std::mem::take(&mut self.ending[self.window]);
        let count = ending.len() as u64;
        let order = f64::from(order_percent) / 100.0;
        let mut keyed: Vec<(f64, u32)> = Vec::with_capacity(ending.len());
        for (rank, block) in ending.into_iter().enumerate() {
            let place = order * (rank as f64 / count as f64);
            keyed.push((place + (1.0 - order.abs()) * self.random.unit(), block));
        }
        keyed.sort_unstable_by(|one, other| one.0.total_cmp(&other.0).then(one.1.cmp(&other.1)));
        for (place, (_, block)) in (0..).zip(keyed) {
            self.schedule(start + (end - start) * place / count, block);
        }
    }

    fn schedule(&mut self, at: u64, block: u32) {
        self.deaths.push(Reverse((at, self.drawn, block)));
        self.drawn += 1;
    }

    fn clock(&self) -> u64 {
        self.builder.len() as u64
    }

    /// One window: what is due ends, else the next is born; what was to end in it does.
    fn window(&mut self, phase: usize, mut births: impl Iterator<Item = u32>, end: u64) {
        loop {
            let next = self
                .deaths
                .peek()
                .map(|Reverse((at, _, block))| (*at, *block));
            match next {
                Some((at, block)) if at <= self.clock() => {
                    self.deaths.pop();
                    self.die(phase, block);
                    continue;
                }
                _ => {}
            }
            if let Some(cell) = births.next() {
                self.be_born(phase, cell as usize);
                continue;
            }
            match next {
                Some((at, block)) if at < end => {
                    self.deaths.pop();
                    self.die(phase, block);
                }
                _ => return,
            }
        }
    }

    fn be_born(&mut self, phase: usize, index: usize) {
        let cell = self.parameters.phases[phase].cells[index];
        let member = self.crew.pick(cell.role, &mut self.random);
        let thread = self.crew.thread(member);
        let bytes = self.parameters.sizes[cell.size];
        let block = match self.parameters.calls[cell.call] {
            Call::Malloc => self.builder.malloc(thread, bytes),
            Call::Calloc => self.builder.calloc(thread, 1, bytes),
            Call::ReallocNull => self.builder.realloc(thread, None, bytes),
            Call::Aligned(function, log2) => self.builder.aligned(thread, function, log2, bytes),
            Call::FreeNull => {
                self.builder.free_null(thread);
                return;
            }
            // Not in the deck.
            Call::Realloc => return,
        };
        self.keep(block, &cell, member);
    }

    /// Notes when a new block ends.
    fn keep(&mut self, block: BlockId, cell: &Cell, member: usize) {
        debug_assert_eq!(block.0 as usize, self.blocks.len());
        self.blocks.push((cell.end != End::Never).then_some(Mortal {
            size: cell.size,
            member,
            by_realloc: cell.by_realloc,
            ender: cell.ender,
        }));
        match cell.end {
            End::Never => {}
            End::After(class) => {
                let (low, high) = lifetime_range(class);
                let lifetime = low + self.random.below(high - low + 1);
                // The clock has passed the birth already.
                self.schedule(self.clock() - 1 + lifetime, block.0);
            }
            // A chain may come to a cell of an earlier phase when the window is over.
            End::In(window) if window as usize <= self.window => {
                self.schedule(self.clock(), block.0);
            }
            End::In(window) => self.ending[window as usize].push(block.0),
        }
    }

    fn die(&mut self, phase: usize, block: u32) {
        let mortal = self.blocks[block as usize].take();
        let mortal = mortal.expect("only what ends is scheduled, once");
        let member = match mortal.ender {
            Some(role) => self.crew.pick(role, &mut self.random),
            None => self.crew.still(mortal.member, &mut self.random),
        };
        let thread = self.crew.thread(member);
        if !mortal.by_realloc {
            let sized_percent = u64::from(self.parameters.sized_percent);
            let sized = match sized_percent {
                0 => false,
                100 => true,
                _ => self.random.below(100) < sized_percent,
            };
            self.builder.free(thread, BlockId(block), sized);
            return;
        }
        let cell = self.next_link(phase, mortal.size);
        let bytes = self.parameters.sizes[cell.size];
        let new = self.builder.realloc(thread, Some(BlockId(block)), bytes);
        self.keep(new, &cell, member);
    }

    /// The cell of the block that a `realloc` makes of one of this size: from this phase, or the next
    /// ones, or those before; of the nearest size that there is. If this is the only open chain, one
    /// that goes on, as long as there are any: they could not begin otherwise.
    fn next_link(&mut self, phase: usize, size: usize) -> Cell {
        let must_link = self.open == 1 && self.links_left > 0;
        let order = (phase..self.chains.len()).chain((0..phase).rev());
        let mut found = None;
        for phase in order {
            let cells = &self.parameters.phases[phase].cells;
            let fits = |index: usize| {
                !must_link || (cells[index].by_realloc && cells[index].end != End::Never)
            };
            let chains = &self.chains[phase];
            let below = chains.range(..=size).rev();
            let above = chains.range(size + 1..);
            let usable = |(old, links): (&usize, &Vec<(usize, u64)>)| {
                links.iter().any(|link| fits(link.0)).then_some(*old)
            };
            let old = match (
                below.filter_map(&usable).next(),
                above.filter_map(&usable).next(),
            ) {
                (Some(below), Some(above)) if above - size < size - below => above,
                (Some(below), _) => below,
                (None, Some(above)) => above,
                (None, None) => continue,
            };
            let links = &chains[&old];
            let total: u64 = links
                .iter()
                .filter(|link| fits(link.0))
                .map(|link| link.1)
                .sum();
            let mut point = self.random.below(total);
            let place = links.iter().position(|link| {
                if !fits(link.0) {
                    return false;
                }
                if point < link.1 {
                    return true;
                }
                point -= link.1;
                false
            });
            found = place.map(|place| (phase, old, place));
            break;
        }
        let (phase, old, place) =
            found.expect("as many blocks begin by realloc as end by it: see Parameters::check");
        let links = self.chains[phase].get_mut(&old).expect("found there");
        links[place].1 -= 1;
        let cell = self.parameters.phases[phase].cells[links[place].0];
        if links[place].1 == 0 {
            links.swap_remove(place);
            if links.is_empty() {
                self.chains[phase].remove(&old);
            }
        }
        match cell.by_realloc && cell.end != End::Never {
            true => self.links_left -= 1,
            false => self.open -= 1,
        }
        cell
    }
}

/// Gives each run a place from 0 to 1, those of one size at even distances from a random beginning. In a
/// random order, large blocks that a program holds one after the other would now and then be held at
/// once, and the peak of live bytes would be theirs.
fn spread(
    mut runs: Vec<Run>,
    size: impl Fn(&Run) -> usize,
    random: &mut Random,
) -> Vec<(f64, Run)> {
    random.shuffle(&mut runs);
    let mut by_size: BTreeMap<usize, Vec<Run>> = BTreeMap::new();
    for run in runs {
        by_size.entry(size(&run)).or_default().push(run);
    }
    let mut placed = Vec::new();
    for runs in by_size.into_values() {
        let (count, begin) = (runs.len() as f64, random.unit());
        let places = (0..).map(|number: u32| (f64::from(number) + begin) / count);
        placed.extend(places.zip(runs));
    }
    placed
}

/// Runs in the order of their places; those that meet in one stay in their order.
fn in_order(mut placed: Vec<(f64, Run)>) -> Vec<Run> {
    placed.sort_by(|one, other| one.0.total_cmp(&other.0));
    placed.into_iter().map(|(_, run)| run).collect()
}

/// The threads: which there are in a window, and their numbers in the order in which they first act.
struct Crew<'p> {
    roles: &'p [Vec<[u64; 3]>],
    /// Number of the first member of each role.
    starts: Vec<usize>,
    numbers: Vec<Option<ThreadIndex>>,
    named: u32,
    window: u64,
    /// For each role, the members of the window with the sums of their weights.
    present: Vec<Vec<(u64, usize)>>,
}

impl<'p> Crew<'p> {
    fn new(roles: &'p [Vec<[u64; 3]>]) -> Self {
        let starts = roles.iter().scan(0, |next, members| {
            let start = *next;
            *next += members.len();
            Some(start)
        });
        let count = roles.iter().map(Vec::len).sum();
        Self {
            roles,
            starts: starts.collect(),
            numbers: vec![None; count],
            named: 0,
            window: 0,
            present: Vec::new(),
        }
    }

    /// Finds who is there.
    fn enter(&mut self, window: usize) {
        self.window = window as u64;
        let present = |(start, members): (&usize, &Vec<[u64; 3]>)| {
            let is_there =
                |member: &&[u64; 3]| member[0] <= self.window && self.window <= member[1];
            // Where nobody is, as a death came later than recorded: whoever is nearest in time.
            let distance = |member: &[u64; 3]| {
                (member[0].saturating_sub(self.window)).max(self.window.saturating_sub(member[1]))
            };
            let nearest = members.iter().map(distance).min().unwrap_or(0);
            let anyone = members.iter().any(|member| is_there(&member));
            let mut sum = 0u64;
            let mut found = Vec::new();
            for (index, member) in members.iter().enumerate() {
                let is_chosen = match anyone {
                    true => is_there(&member),
                    false => distance(member) == nearest,
                };
                if is_chosen {
                    sum = sum.saturating_add(member[2].max(1));
                    found.push((sum, start + index));
                }
            }
            found
        };
        self.present = self.starts.iter().zip(self.roles).map(present).collect();
    }

    /// A member of a role that is there.
    fn pick(&self, role: usize, random: &mut Random) -> usize {
        let members = &self.present[role];
        match members.as_slice() {
            [(_, only)] => *only,
            several => {
                let total = several.last().map_or(0, |last| last.0);
                let point = random.below(total);
                several[several.partition_point(|(sum, _)| *sum <= point)].1
            }
        }
    }

    /// This member, or another of its role if it is gone.
    fn still(&self, member: usize, random: &mut Random) -> usize {
        let role = self.starts.partition_point(|start| *start <= member) - 1;
        let is_there = self.present[role].iter().any(|(_, own)| *own == member);
        match is_there {
            true => member,
            false => self.pick(role, random),
        }
    }

    fn thread(&mut self, member: usize) -> ThreadIndex {
        *self.numbers[member].get_or_insert_with(|| {
            self.named += 1;
            ThreadIndex(self.named - 1)
        })
    }
}
