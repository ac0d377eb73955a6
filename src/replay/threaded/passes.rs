//! The speed and verify passes of a replay on several threads. What is done around each call is the
//! same as in a serial replay.

use core::sync::atomic::AtomicU64;
use std::marker::PhantomData;
use std::sync::Mutex;

use super::accounts::Timed;
use super::checker::{Checker, Ground, SlotPattern};
use super::run::{Crew, Ended, Watcher};
use crate::measure::results::Touch;
use crate::replay::serial::Observer;
use crate::replay::slots::SlotTable;
use crate::replay::speed::{TouchAll, TouchLine, TouchNone, TouchPage};
use crate::replay::used::{self, TouchBusy, TouchUsed};
use crate::subject::floor;
use crate::subject::functions::Functions;

/// Each thread has an observer of its own that knows nothing.
struct Alike<O>(PhantomData<fn() -> O>);

impl<O: Observer + Default> Watcher for Alike<O> {
    const NUMBERED: bool = false;
    type Observer<'w>
        = O
    where
        O: 'w;

    fn observer(&self, _thread: u32) -> O {
        O::default()
    }
}

/// Replays the whole trace once and frees what it leaves, which is not in the time.
pub fn timed_pass(crew: &mut Crew<'_>, policy: Touch) -> Result<Timed, Ended> {
    let timed = match policy {
        Touch::None => crew.replay(&Alike::<TouchNone>(PhantomData)),
        Touch::Page => crew.replay(&Alike::<TouchPage>(PhantomData)),
        Touch::Line => crew.replay(&Alike::<TouchLine>(PhantomData)),
        Touch::Used => crew.replay(&Alike::<TouchUsed>(PhantomData)),
        Touch::Busy => {
            used::prepare();
            crew.replay(&Alike::<TouchBusy>(PhantomData))
        }
        Touch::All => crew.replay(&Alike::<TouchAll>(PhantomData)),
    }?;
    crew.drain(&mut TouchNone).map_err(Ended::Wrong)?;
    floor::reset();
    Ok(timed)
}

struct Verifier<'a> {
    functions: Functions,
    ground: Mutex<Ground<'a>>,
    slots: SlotTable<'a, SlotPattern>,
    progress: &'a AtomicU64,
}

impl<'a> Watcher for Verifier<'a> {
    const NUMBERED: bool = true;
    type Observer<'w>
        = Checker<'w, 'a>
    where
        Self: 'w;

    fn observer(&self, _thread: u32) -> Self::Observer<'_> {
        Checker {
            functions: self.functions,
            ground: &self.ground,
            slots: self.slots,
            operation: 0,
            progress: self.progress,
        }
    }
}

/// Replays once and drains, checking everything. `slots` has an entry per slot of the program.
/// `progress` is set to the number of each operation before that is performed, by whichever thread;
/// the operation of a failure is that thread's own.
pub fn verify(
    crew: &mut Crew<'_>,
    slots: &mut [SlotPattern],
    mut ground: Ground<'_>,
    progress: &AtomicU64,
) -> Result<Timed, Ended> {
    assert_eq!(
        slots.len(),
        crew.view().program().slots as usize,
        "one entry per slot"
    );
    let slots = SlotTable::new(slots);
    ground.ours[1..].clone_from_slice(&[slots.range(), crew.table_range()]);
    let verifier = Verifier {
        functions: *crew.functions(),
        ground: Mutex::new(ground),
        slots,
        progress,
    };
    let done = crew.replay(&verifier)?;
    crew.drain(&mut verifier.observer(0))
        .map_err(Ended::Wrong)?;
    Ok(done)
}
