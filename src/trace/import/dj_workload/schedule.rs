//! Puts the threads of a workload into one order, in which every mark is set before it is waited
//! for, and every block allocated before it is used.
//!
//! All threads begin at once and take turns, one operation each, as the format's own player starts
//! them. A thread that cannot go on is parked until the mark, or the block, is there. If all that
//! have not ended are parked, the file contradicts itself: an error that names where the first of
//! them stands, or, if lenient, its operation is dropped.

use std::collections::{BTreeMap, VecDeque};

use rustc_hash::{FxHashMap, FxHashSet};

use super::streams::{Step, Workload};
use crate::error::{Error, Result};
use crate::trace::AlignedFunction;
use crate::trace::import::fault::Fault;
use crate::trace::import::records::{At, Records, by, free};
use crate::trace::import::{ReadOptions, Request};

/// valloc and pvalloc align to an OS page, whose size the file does not tell.
const OS_PAGE_BYTES: u64 = 4096;

/// Turns between two questions whether to give up.
const TURNS_UNASKED: u64 = 1 << 16;

/// What a parked thread waits for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
enum Obstacle {
    /// The mark is not set.
    Mark(u64),
    /// The block is not allocated.
    Absent(u64),
    /// The block is still live, and would be allocated again.
    Occupied(u64),
}

/// Hands all operations of a workload to `records`.
pub(super) fn run(workload: &Workload, options: &ReadOptions, records: &mut Records) -> Result<()> {
    let mut schedule = Schedule {
        workload,
        next: workload.starts().collect(),
        ready: (0..workload.starts().count()).collect(),
        parked: BTreeMap::new(),
        waiting: FxHashMap::default(),
        marks: FxHashSet::default(),
    };
    for turn in 0_u64.. {
        if turn % TURNS_UNASKED == 0 && options.interrupted.is_some_and(|asked| asked()) {
            return Err(Error::Interrupted);
        }
        let Some(thread) = schedule.ready.pop_front() else {
            if schedule.parked.is_empty() {
                break;
            }
            schedule.break_deadlock(records)?;
            continue;
        };
        schedule.turn(thread, records)?;
    }
    Ok(())
}

struct Schedule<'w, 'f> {
    workload: &'w Workload<'f>,
    /// Where each thread's next operation stands.
    next: Vec<usize>,
    /// The threads that may go on, in turn.
    ready: VecDeque<usize>,
    /// The others that have not ended.
    parked: BTreeMap<usize, Obstacle>,
    /// The same, by what they wait for.
    waiting: FxHashMap<Obstacle, Vec<usize>>,
    /// The marks that are set.
    marks: FxHashSet<u64>,
}

impl Schedule<'_, '_> {
    /// Lets a thread do its next operation, or parks it.
    fn turn(&mut self, thread: usize, records: &mut Records) -> Result<()> {
        let offset = self.next[thread];
        let at = place(offset);
        let (step, behind) = match self.workload.step(thread, offset) {
            Ok(parsed) => parsed,
            Err(fault) => {
                // Where the next operation begins is not known: the thread ends here.
                return records.refuse(fault, at, self.workload.bytes(offset));
            }
        };
        if let Some(obstacle) = self.obstacle(step, records) {
            self.parked.insert(thread, obstacle);
            self.waiting.entry(obstacle).or_default().push(thread);
            return Ok(());
        }
        self.next[thread] = behind;
        match step {
            Step::Done => return Ok(()),
            Step::Set { mark } => {
                self.marks.insert(mark);
                self.wake(Obstacle::Mark(mark));
            }
            _ => self.call(thread, step, at, records)?,
        }
        self.ready.push_back(thread);
        Ok(())
    }

    /// Hands a call on.
    fn call(&mut self, thread: usize, step: Step, at: At, records: &mut Records) -> Result<()> {
        let Some(request) = request(step) else {
            return Ok(());
        };
        if records.take(&by(thread as u64, request), at)? {
            let released = match request {
                Request::Free { pointer, .. } => pointer,
                Request::Realloc { old, .. } => old,
                _ => 0,
            };
            if released != 0 {
                self.wake(Obstacle::Occupied(released));
            }
            if let Some(block) = request.result() {
                self.wake(Obstacle::Absent(block));
            }
        }
        Ok(())
    }

    /// What keeps an operation from being done now.
    fn obstacle(&self, step: Step, records: &Records) -> Option<Obstacle> {
        if let Step::Wait { mark } = step {
            return (!self.marks.contains(&mark)).then_some(Obstacle::Mark(mark));
        }
        let request = request(step)?;
        let old = match request {
            Request::Free { pointer, .. } => pointer,
            Request::Realloc { old, .. } => old,
            _ => 0,
        };
        if old != 0 && !records.intake.is_live(old) {
            return Some(Obstacle::Absent(old));
        }
        let new = request.result().filter(|&new| new != old)?;
        records
            .intake
            .is_live(new)
            .then_some(Obstacle::Occupied(new))
    }

    /// Something is there now: those who wait for it look again, in their next turn.
    fn wake(&mut self, obstacle: Obstacle) {
        for thread in self.waiting.remove(&obstacle).into_iter().flatten() {
            if self.parked.remove(&thread).is_some() {
                self.ready.push_back(thread);
            }
        }
    }

    /// Nobody can go on: the operation of the first parked thread is judged as it stands.
    fn break_deadlock(&mut self, records: &mut Records) -> Result<()> {
        let Some((thread, obstacle)) = self.parked.pop_first() else {
            return Ok(());
        };
        if let Some(threads) = self.waiting.get_mut(&obstacle) {
            threads.retain(|&waiting| waiting != thread);
        }
        let offset = self.next[thread];
        let at = place(offset);
        let (step, behind) = self
            .workload
            .step(thread, offset)
            .expect("it was parsed before it was parked");
        self.next[thread] = behind;
        if let Obstacle::Mark(_) = obstacle {
            let fault = Fault::Syntax("a mark that a thread sets which does not wait itself");
            records.refuse(fault, at, &self.workload.bytes(offset)[..behind - offset])?;
        } else {
            self.call(thread, step, at, records)?;
        }
        self.ready.push_back(thread);
        Ok(())
    }
}

fn place(offset: usize) -> At {
    At {
        number: 0,
        offset: offset as u64,
    }
}

/// The call of an operation, if it is one. A block's key is its number, since 0 is null here too.
fn request(step: Step) -> Option<Request> {
    let aligned = |function, alignment, size, result| Request::Aligned {
        function,
        alignment,
        size,
        result,
    };
    Some(match step {
        Step::Malloc { block, size } => Request::Malloc {
            size,
            result: block,
        },
        Step::Calloc { block, size } => Request::Calloc {
            count: 1,
            size,
            result: block,
        },
        Step::Realloc { new, old, size } => Request::Realloc {
            old,
            size,
            result: new,
        },
        Step::Free { block } => free(block),
        Step::Memalign {
            block,
            alignment,
            size,
        } => aligned(AlignedFunction::Memalign, alignment, size, block),
        Step::Valloc { block, size } => {
            aligned(AlignedFunction::Valloc, OS_PAGE_BYTES, size, block)
        }
        Step::Pvalloc { block, size } => {
            aligned(AlignedFunction::Pvalloc, OS_PAGE_BYTES, size, block)
        }
        Step::Set { .. } | Step::Wait { .. } | Step::Nothing | Step::Done => return None,
    })
}
