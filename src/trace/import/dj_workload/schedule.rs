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
        parkings: 0,
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
    /// The others that have not ended: what each waits for, and the number of its parking.
    parked: BTreeMap<usize, (Obstacle, u64)>,
    /// Times that a thread was parked.
    parkings: u64,
    /// The parked threads by what they wait for, in the order of their parking.
    waiting: FxHashMap<Obstacle, BTreeMap<u64, usize>>,
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
            if let Some(request) = request(step) {
                // It may have been woken for what it cannot use yet.
                self.pass_on(request, records);
            }
            let parking = self.parkings;
            self.parkings += 1;
            self.parked.insert(thread, (obstacle, parking));
            let waiting = self.waiting.entry(obstacle).or_default();
            waiting.insert(parking, thread);
            return Ok(());
        }
        self.next[thread] = behind;
        match step {
            Step::Done => return Ok(()),
            Step::Set { mark } => {
                self.marks.insert(mark);
                self.wake_all(Obstacle::Mark(mark));
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
        records.take(&by(thread as u64, request), at)?;
        self.pass_on(request, records);
        Ok(())
    }

    /// The blocks of a call are there, or gone: whoever waits for that is woken.
    fn pass_on(&mut self, request: Request, records: &Records) {
        for block in [given(request), request.result().unwrap_or(0)] {
            if block != 0 {
                self.wake_next(match records.intake.is_live(block) {
                    true => Obstacle::Absent(block),
                    false => Obstacle::Occupied(block),
                });
            }
        }
    }

    /// What keeps an operation from being done now.
    fn obstacle(&self, step: Step, records: &Records) -> Option<Obstacle> {
        if let Step::Wait { mark } = step {
            return (!self.marks.contains(&mark)).then_some(Obstacle::Mark(mark));
        }
        let request = request(step)?;
        let old = given(request);
        if old != 0 && !records.intake.is_live(old) {
            return Some(Obstacle::Absent(old));
        }
        let new = request.result().filter(|&new| new != old)?;
        records
            .intake
            .is_live(new)
            .then_some(Obstacle::Occupied(new))
    }

    /// A mark is set, once and for all: those who wait for it look again, in their next turn.
    fn wake_all(&mut self, obstacle: Obstacle) {
        let waiting = self.waiting.remove(&obstacle).unwrap_or_default();
        for thread in waiting.into_values() {
            self.parked.remove(&thread);
            self.ready.push_back(thread);
        }
    }

    /// A block is there, or gone: whoever has waited longest for that looks again. Its call will wake
    /// the next one, so that a block wanted by thousands wakes no thousands each time.
    fn wake_next(&mut self, obstacle: Obstacle) {
        let Some(waiting) = self.waiting.get_mut(&obstacle) else {
            return;
        };
        if let Some((_, thread)) = waiting.pop_first() {
            self.parked.remove(&thread);
            self.ready.push_back(thread);
        }
        if waiting.is_empty() {
            self.waiting.remove(&obstacle);
        }
    }

    /// Nobody can go on: the operation of the first parked thread is judged as it stands.
    fn break_deadlock(&mut self, records: &mut Records) -> Result<()> {
        let Some((thread, (obstacle, parking))) = self.parked.pop_first() else {
            return Ok(());
        };
        if let Some(waiting) = self.waiting.get_mut(&obstacle) {
            waiting.remove(&parking);
            if waiting.is_empty() {
                self.waiting.remove(&obstacle);
            }
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

/// The block that a call is given; 0 if none.
fn given(request: Request) -> u64 {
    match request {
        Request::Free { pointer, .. } => pointer,
        Request::Realloc { old, .. } => old,
        _ => 0,
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
