//! The child's work on several threads.

use core::ffi::c_void;
use core::sync::atomic::AtomicU64;

use super::answer::{Answer, STATE_REPLAYING};
use super::child::{
    Ended, check_readable, damaged, harness_memory, note_pass, open_gauge, open_ground, open_times,
    prepare_floor, refused,
};
use super::request::ChildArguments;
use super::usage::Usage;
use crate::measure::results::{Order, Pass};
use crate::replay::latency::Tally;
use crate::replay::parts::SlotPlace;
use crate::replay::serial::warm_up;
use crate::replay::shadow::Shadow;
use crate::replay::threaded::{self, Crew, SlotPattern, ThreadedView};
use crate::subject::floor::{self, Threads};
use crate::subject::functions::Functions;
use crate::subject::linked::Linked;

impl From<threaded::Ended> for Ended {
    fn from(ended: threaded::Ended) -> Self {
        match ended {
            threaded::Ended::Wrong(failure) => Self::Wrong(failure),
            threaded::Ended::NoThread(number) => {
                let error = std::io::Error::from_raw_os_error(number);
                let advice = match number {
                    libc::EAGAIN => {
                        ": see `ulimit -u`, and the limit of processes of the container"
                    }
                    _ => "",
                };
                Self::Refused(format!(
                    "the system did not make a thread ({error}){advice}"
                ))
            }
        }
    }
}

/// Performs one pass of a program for several threads.
pub(super) fn replay(
    arguments: &ChildArguments,
    bytes: &[u8],
    linked: Option<Linked>,
    functions: Functions,
    answer: &mut Answer,
) -> Result<(), Ended> {
    let view = ThreadedView::new(bytes).ok_or_else(damaged)?;
    let threads = Threads {
        all: view.thread_count(),
        alive: view.threads_alive_peak(),
    };
    if let Some(floor_row @ (Linked::Null | Linked::Bump)) = linked {
        prepare_floor(floor_row, view.program(), arguments.pass, threads)?;
    }
    let slots = view.program().slots as usize;
    let mut table = harness_memory::<*mut c_void>(slots)?;
    // SAFETY: as in `replay_program`.
    let mut crew = unsafe { Crew::new(view, table.as_mut_slice(), functions) }
        .map_err(|error| refused("map memory of its own", &error))?;
    answer.threads_alive_peak = view.threads_alive_peak();
    if arguments.order == Order::Paced {
        // Sleeps end within microseconds of their time, and not of 50 more, as the kernel likes to
        // gather them; threads inherit it. Where it is refused the lateness shows it.
        // SAFETY: takes a number.
        unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1) };
    }
    match arguments.pass {
        Pass::Verify => {
            let mut patterns = harness_memory::<SlotPattern>(slots)?;
            let mut places = harness_memory::<threaded::SlotPlace>(slots)?;
            let shadow = Shadow::new().map_err(|error| refused("map its shadow", &error))?;
            answer.state = STATE_REPLAYING;
            // SAFETY: a valid number, which nothing else uses during the pass; atomic, since all
            // threads write it, and the parent reads it if this process dies.
            let progress = unsafe { AtomicU64::from_ptr(&raw mut answer.operation) };
            let ground = threaded::Ground::new(shadow, places.as_mut_slice());
            let done = threaded::verify(&mut crew, patterns.as_mut_slice(), ground, progress)?;
            answer.operations = done.operations;
        }
        Pass::Speed => {
            answer.state = STATE_REPLAYING;
            warm_up(&functions);
            for pass in 0..arguments.passes.max(1) {
                let before = Usage::now();
                let timed = threaded::timed_pass(&mut crew, arguments.touch)?;
                note_pass(answer, pass, timed.elapsed_ns, before);
                if let Some(slot) = answer.threaded.get_mut(pass as usize) {
                    *slot = timed;
                }
                answer.operations = timed.operations;
            }
        }
        Pass::Memory => {
            crew.use_own_stacks()
                .map_err(|error| refused("map stacks for its threads", &error))?;
            let mut gauge = open_gauge()?;
            answer.operations = if answer.commission.is_second == 0 {
                let mut amounts = harness_memory::<threaded::memory::Amounts>(slots)?;
                let settle = answer.commission.settle != 0;
                answer.state = STATE_REPLAYING;
                answer.memory = threaded::memory::record(
                    &mut crew,
                    arguments.touch,
                    amounts.as_mut_slice(),
                    &mut answer.curve,
                    &mut gauge,
                    settle,
                )?;
                answer.memory.operations
            } else {
                let mut places = harness_memory::<SlotPlace>(slots)?;
                let ground = open_ground(&mut gauge)?;
                let highest = threaded::parts::Highest {
                    operation: answer.commission.look_at,
                    held_bytes: answer.commission.look_for_bytes,
                };
                answer.state = STATE_REPLAYING;
                threaded::parts::record(
                    &mut crew,
                    arguments.touch,
                    places.as_mut_slice(),
                    ground,
                    &mut gauge,
                    highest,
                    &mut answer.parts,
                )?
            };
            check_readable(&gauge)?;
        }
        Pass::Latency => {
            let times = open_times(arguments, answer, view.program().words().len())?;
            let mut tallies = harness_memory::<Tally>(view.thread_count() as usize)?;
            answer.state = STATE_REPLAYING;
            warm_up(&functions);
            let touch = arguments.touch;
            if linked == Some(Linked::Bump) {
                // As in `replay_program`.
                threaded::timed_pass(&mut crew, touch)?;
                floor::prefault_used(threads);
            }
            let outcome = &mut answer.latency;
            answer.operations = match times {
                Some(mut times) => threaded::latency::record(
                    &mut crew,
                    touch,
                    times.as_mut_slice(),
                    tallies.as_mut_slice(),
                    outcome,
                )?,
                None => threaded::latency::explain(&mut crew, touch, outcome.tally.worst_mut())?,
            };
        }
        Pass::Program => {
            let reason = "there is no such pass over this work";
            return Err(Ended::Refused(reason.to_owned()));
        }
    }
    Ok(())
}
