//! One thread's part of a chunk: what is left of its columns, and its next events.

use super::layout::*;
use super::numbers::{Cursor, take_leb, unzigzag};
use crate::trace::live_blocks::LiveBlocks;
use crate::trace::{AlignedFunction, BlockId, Event, Operation, SIZE_BYTES_MAX, ThreadIndex};

/// What is wrong with a chunk.
pub(super) type Fault = &'static str;

pub(super) const ENDS_EARLY: Fault = "one of its columns ends early";

/// What a reader knows when it comes to a chunk.
pub(super) struct Known {
    /// Blocks below this were allocated before reading began: whether they live is not known.
    pub(super) unseen_below: u32,
    pub(super) live: LiveBlocks,
    /// Threads that have had an event. None where reading began in the middle of a trace.
    pub(super) threads: Option<u32>,
}

impl Known {
    /// A thread has events in a chunk, as its table tells in the order of their first ones. Threads
    /// are numbered in that order.
    pub(super) fn meets(&mut self, thread: ThreadIndex) -> Result<(), Fault> {
        match &mut self.threads {
            Some(before) if thread.0 > *before => {
                Err("its threads are not numbered in the order of their first events")
            }
            Some(before) => {
                *before = (*before).max(thread.0.saturating_add(1));
                Ok(())
            }
            None => Ok(()),
        }
    }
}

/// Where one thread stands.
pub(super) struct Lane<'c> {
    pub(super) thread: ThreadIndex,
    /// Of the events to come.
    kinds: &'c [u8],
    hot: Hot<'c>,
    /// The blocks that it allocates in this chunk, so far as it has.
    own: &'c mut [u32],
    counts: Cursor<'c>,
    alignments: std::slice::Iter<'c, u8>,
    pub(super) sites: Cursor<'c>,
}

/// What nearly every event needs and moves: a run of events keeps it in registers.
#[derive(Clone)]
struct Hot<'c> {
    sizes: Cursor<'c>,
    victims: Cursor<'c>,
    /// Blocks of its own so far.
    own_count: usize,
    last_victim: u32,
}

/// The columns of a chunk whose parts belong to one thread each.
pub(super) struct Parts<'c> {
    pub(super) kinds: &'c [u8],
    pub(super) sizes: [&'c [u8]; 2],
    pub(super) victims: [&'c [u8]; 2],
    pub(super) counts: [&'c [u8]; 2],
    pub(super) alignments: &'c [u8],
    pub(super) sites: [&'c [u8]; 2],
    /// A place for the number of each block allocated.
    pub(super) own: &'c mut [u32],
}

/// Cuts the columns by the table of threads. Thread numbers must be below `threads`.
pub(super) fn cut<'c>(
    mut table: &[u8],
    mut parts: Parts<'c>,
    threads: u64,
    first_block: u32,
    lanes: &mut Vec<Lane<'c>>,
) -> Result<(), Fault> {
    let sited = !parts.sites[0].is_empty();
    while !table.is_empty() {
        let mut entry = [0; 10];
        for number in &mut entry[..9 + usize::from(sited)] {
            let taken = take_leb(&mut table).and_then(|number| u32::try_from(number).ok());
            *number = taken.ok_or("its table of threads is not whole")? as usize;
        }
        let [
            thread,
            events,
            blocks,
            sizes,
            victims,
            victims_extra,
            counts,
            counts_extra,
            aligned,
            sites,
        ] = entry;
        if thread as u64 >= threads || events == 0 {
            return Err("its table of threads holds one that cannot be");
        }
        let rest = std::mem::take(&mut parts.own);
        let (own, rest) = rest.split_at_mut_checked(blocks).ok_or(OTHER_NUMBERS)?;
        parts.own = rest;
        lanes.push(Lane {
            thread: ThreadIndex(thread as u32),
            kinds: take(&mut parts.kinds, events)?,
            hot: Hot {
                sizes: numbers(&mut parts.sizes, blocks, sizes)?,
                victims: numbers(&mut parts.victims, victims, victims_extra)?,
                own_count: 0,
                last_victim: first_block,
            },
            own,
            counts: numbers(&mut parts.counts, counts, counts_extra)?,
            alignments: take(&mut parts.alignments, aligned)?.iter(),
            sites: match sited {
                true => numbers(&mut parts.sites, events, sites)?,
                false => Cursor::default(),
            },
        });
    }
    let pairs = [parts.sizes, parts.victims, parts.counts, parts.sites];
    let left = [parts.kinds, parts.alignments];
    match pairs
        .iter()
        .flatten()
        .chain(&left)
        .all(|left| left.is_empty())
    {
        true => Ok(()),
        false => Err(OTHER_NUMBERS),
    }
}

const OTHER_NUMBERS: Fault = "its table of threads has other numbers than its columns";

fn take<'c>(column: &mut &'c [u8], bytes: usize) -> Result<&'c [u8], Fault> {
    let (part, rest) = column.split_at_checked(bytes).ok_or(OTHER_NUMBERS)?;
    *column = rest;
    Ok(part)
}

fn numbers<'c>(pair: &mut [&'c [u8]; 2], main: usize, extra: usize) -> Result<Cursor<'c>, Fault> {
    let [all_main, all_extra] = pair;
    Ok(Cursor::new(take(all_main, main)?, take(all_extra, extra)?))
}

impl<'c> Lane<'c> {
    /// Takes the kinds of its next events.
    #[inline]
    pub(super) fn run(&mut self, events: usize) -> Result<&'c [u8], Fault> {
        match self.kinds.split_at_checked(events) {
            Some((run, rest)) if events > 0 => {
                self.kinds = rest;
                Ok(run)
            }
            _ => Err("a thread has more events than its table says"),
        }
    }

    /// Whether all that it has was used.
    pub(super) fn is_empty(&self) -> bool {
        let cursors = [
            &self.hot.sizes,
            &self.hot.victims,
            &self.counts,
            &self.sites,
        ];
        self.kinds.is_empty()
            && self.alignments.as_slice().is_empty()
            && cursors.iter().all(|cursor| cursor.is_empty())
    }

    /// Decodes events of these kinds into `out`, which is as long. A fault comes with the number of
    /// events that were decoded before.
    #[inline]
    pub(super) fn decode(
        &mut self,
        kinds: &[u8],
        sizes: &[u64],
        known: &mut Known,
        out: &mut [Event],
    ) -> Result<(), (usize, Fault)> {
        let mut call = Call {
            hot: self.hot.clone(),
            own: self.own,
            counts: &mut self.counts,
            alignments: &mut self.alignments,
            sizes,
            known,
        };
        let thread = self.thread;
        for (at, (slot, &kind)) in out.iter_mut().zip(kinds).enumerate() {
            match call.next(kind) {
                Ok(operation) => *slot = Event { thread, operation },
                Err(fault) => return Err((at, fault)),
            }
        }
        self.hot = call.hot;
        Ok(())
    }
}

/// Decodes one event of a thread.
struct Call<'d, 'c> {
    hot: Hot<'c>,
    own: &'d mut [u32],
    counts: &'d mut Cursor<'c>,
    alignments: &'d mut std::slice::Iter<'c, u8>,
    sizes: &'d [u64],
    known: &'d mut Known,
}

impl Call<'_, '_> {
    // The usual ones first, by tests that predict better than a table of jumps. All is inlined: what
    // is handed to a call by reference lives in memory.
    #[inline(always)]
    fn next(&mut self, kind: u8) -> Result<Operation, Fault> {
        if kind == MALLOC {
            let size = self.size()?;
            let block = self.allocate()?;
            return Ok(Operation::Malloc { block, size });
        }
        if kind < CALLOC {
            let sized = kind >= FREE_SIZED;
            let how = kind - if sized { FREE_SIZED } else { FREE };
            let block = self.victim(how)?;
            return Ok(Operation::Free { block, sized });
        }
        self.rare(kind)
    }

    #[inline(always)]
    fn rare(&mut self, kind: u8) -> Result<Operation, Fault> {
        Ok(match kind {
            CALLOC => {
                let count = self.counts.next().ok_or(ENDS_EARLY)?;
                let size = self.size()?;
                let Ok(count) = u32::try_from(count) else {
                    return Err("a count of calloc is above 2^32");
                };
                if u64::from(count).saturating_mul(size) > SIZE_BYTES_MAX {
                    return Err("a calloc asks for more than 2^47 bytes");
                }
                let block = self.allocate()?;
                Operation::Calloc { block, count, size }
            }
            ALIGNED => {
                let code = *self.alignments.next().ok_or(ENDS_EARLY)?;
                let Some(function) = function(code / ALIGNMENTS_PER_FUNCTION) else {
                    return Err("an aligned allocation is of no known function");
                };
                let size = self.size()?;
                Operation::Aligned {
                    block: self.allocate()?,
                    alignment_log2: code % ALIGNMENTS_PER_FUNCTION,
                    function,
                    size,
                }
            }
            REALLOC_NULL => {
                let size = self.size()?;
                let (old, block) = (None, self.allocate()?);
                Operation::Realloc { old, block, size }
            }
            REALLOC..FREE_NULL => {
                let old = Some(self.victim(kind - REALLOC)?);
                let size = self.size()?;
                let block = self.allocate()?;
                Operation::Realloc { old, block, size }
            }
            FREE_NULL => Operation::FreeNull,
            FREE_UNSEEN => Operation::FreeUnseen,
            THREAD_START => Operation::ThreadStart,
            THREAD_END => Operation::ThreadEnd,
            MARK => Operation::Mark,
            FAILED => Operation::FailedAllocation,
            _ => return Err("an event is of no known kind"),
        })
    }

    #[inline(always)]
    fn size(&mut self) -> Result<u64, Fault> {
        let rank = self.hot.sizes.next().ok_or(ENDS_EARLY)?;
        match self.sizes.get(rank as usize) {
            Some(&size) => Ok(size),
            None => Err("a size is not in its table"),
        }
    }

    #[inline(always)]
    fn allocate(&mut self) -> Result<BlockId, Fault> {
        let Some(place) = self.own.get_mut(self.hot.own_count) else {
            return Err("a thread allocates more blocks than its table says");
        };
        self.hot.own_count += 1;
        let block = self.known.live.allocate();
        *place = block.0;
        Ok(block)
    }

    #[inline(always)]
    fn victim(&mut self, how: u8) -> Result<BlockId, Fault> {
        const NEVER: Fault = "it frees a block that was never allocated";
        let number = self.hot.victims.next().ok_or(ENDS_EARLY)?;
        let block = if how == OWN {
            let count = self.hot.own_count;
            if number >= count as u64 {
                return Err(NEVER);
            }
            *self.own.get(count - 1 - number as usize).ok_or(NEVER)?
        } else {
            // Neither sum can come around to a block: the one below 2^32 and the other below 2^63.
            let (from, by) = match how {
                NEAR => (i64::from(self.hot.last_victim), unzigzag(number)),
                _ => {
                    let youngest = i64::from(self.known.live.allocated()) - 1;
                    (youngest, (number as i64).wrapping_neg())
                }
            };
            u32::try_from(from.wrapping_add(by)).map_err(|_| NEVER)?
        };
        self.hot.last_victim = block;
        let block = BlockId(block);
        if !self.known.live.release(block) && block.0 >= self.known.unseen_below {
            return Err("it frees a block that is not live");
        }
        Ok(block)
    }
}

fn function(code: u8) -> Option<AlignedFunction> {
    Some(match code {
        0 => AlignedFunction::Memalign,
        1 => AlignedFunction::PosixMemalign,
        2 => AlignedFunction::AlignedAlloc,
        3 => AlignedFunction::Valloc,
        4 => AlignedFunction::Pvalloc,
        _ => return None,
    })
}
