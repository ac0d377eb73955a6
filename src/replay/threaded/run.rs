//! The replay: each thread performs its words, and waits where they say so.
//!
//! The timed part of a thread has no lock, no allocation and no system call of ours, but for the
//! futexes of waiting and waking, and the making and joining of threads, which belong to the
//! workload. Threads are made by the C library's `pthread_create`, on stacks that it maps and keeps for
//! the next ones, as in any program: a stack that is used for the first time costs a small table from
//! the *process's* malloc, which is the subject if that is preloaded. While memory is looked at the
//! stacks are the harness's own ([`Crew::use_own_stacks`]): then each thread costs that table.
//! Allocators do what they do when a thread begins or ends.

use core::ffi::c_void;
use core::ptr;
use core::sync::atomic::{AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::ops::Range;
use std::time::Duration;

use super::accounts::{Account, Life, Timed, Totals, monotonic_ns, process_cpu_ns};
use super::hand_over::{Futex, GivenUp, Progress, SPINS};
use super::mapped::{Mapped, Stacks, stack_bytes};
use super::program::{Control, ThreadedView};
use crate::replay::serial::{Failure, Fault, Observer, Replayer};
use crate::replay::slots::SlotTable;
use crate::subject::floor;
use crate::subject::functions::Functions;

/// Gives each thread its observer.
pub trait Watcher: Sync {
    /// Whether observers want to be told the number of each operation.
    const NUMBERED: bool;
    /// What is done around a thread's calls. Numbers of operations are those of the recorded total
    /// order.
    type Observer<'w>: Observer
    where
        Self: 'w;
    /// The observer of one thread, made on it. The thread that the process began with is given one
    /// twice: for its operations, and for what comes after them, which is none.
    fn observer(&self, thread: u32) -> Self::Observer<'_>;
}

/// How a replay ended early.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ended {
    /// The allocator did wrong.
    Wrong(Failure),
    /// The system made no more threads; the error's number.
    NoThread(i32),
}

/// What one thread shares with the others. Zeroes are a valid one.
#[derive(Debug, Default)]
struct Member {
    progress: Progress<Futex>,
    /// The [`Shared`] of the replay.
    shared: AtomicPtr<c_void>,
    thread: AtomicU32,
    /// Its `pthread_t`.
    handle: AtomicU64,
    started: AtomicBool,
    joined: AtomicBool,
}

/// The threads of a program, and their memory.
#[derive(Debug)]
pub struct Crew<'a> {
    view: ThreadedView<'a>,
    table: SlotTable<'a, *mut c_void>,
    functions: Functions,
    members: Mapped<Member>,
    stacks: Option<Stacks>,
    stack_bytes: usize,
}

impl<'a> Crew<'a> {
    /// `table` must be all null and as long as the program has slots.
    ///
    /// # Safety
    /// As for [`Replayer::new`]; the program was compiled by `ThreadedProgram::compile`.
    pub unsafe fn new(
        view: ThreadedView<'a>,
        table: &'a mut [*mut c_void],
        functions: Functions,
    ) -> std::io::Result<Self> {
        assert_eq!(
            table.len(),
            view.program().slots as usize,
            "one pointer per slot"
        );
        assert!(
            table.iter().all(|pointer| pointer.is_null()),
            "an unused table"
        );
        // SAFETY: a member consists of atomic numbers and a pointer; none has a destructor.
        let members = unsafe { Mapped::zeroed(view.thread_count() as usize)? };
        Ok(Self {
            view,
            table: SlotTable::new(table),
            functions,
            members,
            stacks: None,
            stack_bytes: stack_bytes(),
        })
    }

    /// From now on threads have stacks of the harness's own, mapped and resident here, and not the C
    /// library's.
    pub fn use_own_stacks(&mut self) -> std::io::Result<()> {
        self.stacks = Some(Stacks::map(self.view.threads_alive_peak())?);
        Ok(())
    }

    /// The program replayed.
    pub fn view(&self) -> &ThreadedView<'a> {
        &self.view
    }

    /// Addresses of the table of pointers.
    pub fn table_range(&self) -> Range<usize> {
        self.table.range()
    }

    /// The functions replayed against.
    pub fn functions(&self) -> &Functions {
        &self.functions
    }

    /// Performs every operation of the trace once. All threads but the calling one have ended when
    /// it returns, however it ends. A replay that failed must not be followed by another call.
    pub fn replay<W: Watcher>(&mut self, watcher: &W) -> Result<Timed, Ended> {
        if self.view.thread_count() == 0 {
            return Ok(Timed::default());
        }
        let shared = Shared {
            view: self.view,
            table: self.table,
            functions: self.functions,
            members: self.members.as_slice(),
            stacks: self.stacks.as_ref(),
            stack_bytes: self.stack_bytes,
            watcher,
            start_ns: monotonic_ns(),
            failure: AtomicU64::new(0),
            alive: AtomicU32::new(1),
            alive_peak: AtomicU32::new(1),
            running: AtomicU32::new(0),
            threads: AtomicU32::new(1),
            totals: Totals::default(),
        };
        for (member, thread) in shared.members.iter().zip(0..) {
            member.progress.reset();
            let address = ptr::from_ref(&shared).cast_mut().cast::<c_void>();
            member.shared.store(address, Ordering::Relaxed);
            member.thread.store(thread, Ordering::Relaxed);
            member.started.store(false, Ordering::Relaxed);
            member.joined.store(false, Ordering::Relaxed);
        }
        shared.lead()
    }

    /// Frees what the trace leaves live, on the calling thread.
    pub fn drain<O: Observer>(&mut self, observer: &mut O) -> Result<(), Failure> {
        // The words are more than the operations.
        let operations = self.view.operations() as usize;
        let mut replayer =
            // SAFETY: the caller of `new` vouched for functions and program; every thread of a replay
            // has ended when that returns, so the table is ours.
            unsafe { Replayer::sharing(*self.view.program(), self.table, self.functions) };
        replayer.drain_numbered(operations, observer)
    }
}

/// One replay, seen by all its threads.
struct Shared<'a, W> {
    view: ThreadedView<'a>,
    table: SlotTable<'a, *mut c_void>,
    functions: Functions,
    members: &'a [Member],
    stacks: Option<&'a Stacks>,
    stack_bytes: usize,
    watcher: &'a W,
    /// On the monotonic clock.
    start_ns: u64,
    /// The first failure: its fault in bits 40 to 47, the operation below; 0 for none.
    failure: AtomicU64,
    /// Threads made and not joined; the first until its last operation.
    alive: AtomicU32,
    alive_peak: AtomicU32,
    /// Threads other than the first that have not come to their last instruction.
    running: AtomicU32,
    threads: AtomicU32,
    totals: Totals,
}

/// Why a thread stops before its last word.
enum Stop {
    Failed(Failure),
    NoThread(i32),
    GivenUp,
}

impl From<GivenUp> for Stop {
    fn from(_: GivenUp) -> Self {
        Self::GivenUp
    }
}

const FAULT_SHIFT: u32 = 40;
const FAULT_MASK: u64 = 0xFF << FAULT_SHIFT;
/// Instead of a fault, with the error's number instead of an operation.
const FAULT_NO_THREAD: u64 = FAULT_MASK;

impl<'a, W: Watcher> Shared<'a, W> {
    /// The part of the thread that the process began with.
    fn lead(&self) -> Result<Timed, Ended> {
        let cpu_start_ns = process_cpu_ns();
        let start_ns = monotonic_ns();
        let first = self.view.first_thread;
        self.live(first);
        let mut player = Player::new(self, first);
        if let Err(stop) = player.perform(self.view.tail.range()) {
            self.stop(stop);
        }
        let elapsed_ns = monotonic_ns() - start_ns;
        let process_cpu_ns = process_cpu_ns().saturating_sub(cpu_start_ns);
        let failure = self.failure.load(Ordering::Acquire);
        if failure != 0 {
            self.wind_up();
        }
        match failure {
            0 => Ok(Timed {
                elapsed_ns,
                process_cpu_ns,
                threads_alive_peak: self.alive_peak.load(Ordering::Relaxed),
                threads: self.threads.load(Ordering::Relaxed),
                ..self.totals.timed()
            }),
            refused if refused & FAULT_MASK == FAULT_NO_THREAD => {
                Err(Ended::NoThread((refused & !FAULT_MASK) as i32))
            }
            wrong => Err(Ended::Wrong(Failure {
                operation: (wrong & !FAULT_MASK) as usize,
                fault: Fault::from_number((wrong >> FAULT_SHIFT) as u32)
                    .expect("put together from a fault"),
            })),
        }
    }

    /// A whole thread.
    fn live(&self, thread: u32) {
        let life = Life::begin();
        let part = self.view.part(thread);
        floor::begin_thread(part.place);
        let words = part.range();
        // The last word tells of the end.
        let (operations, end) = (words.start..words.end - 1, words.end - 1..words.end);
        let mut player = Player::new(self, thread);
        let mut outcome = player.perform(operations);
        self.totals.add(&player.account, &life, player.operations);
        if thread == self.view.first_thread {
            // Nobody joins it: its place is vacant from now on.
            self.alive.fetch_sub(1, Ordering::Relaxed);
        }
        if outcome.is_ok() {
            outcome = player.perform(end);
        }
        if let Err(stop) = outcome {
            self.stop(stop);
        }
    }

    /// Makes all threads stop, if this one did not stop because others do.
    fn stop(&self, stop: Stop) {
        let failure = match stop {
            Stop::GivenUp => return,
            Stop::NoThread(error) => FAULT_NO_THREAD | u64::from(error.unsigned_abs()),
            Stop::Failed(failure) => {
                u64::from(failure.fault as u32) << FAULT_SHIFT | failure.operation as u64
            }
        };
        // The first one counts; others may follow from it.
        let _ = self
            .failure
            .compare_exchange(0, failure, Ordering::AcqRel, Ordering::Relaxed);
        for member in self.members {
            member.progress.give_up();
        }
    }

    /// After a failure: waits for the ends of all threads that were made.
    fn wind_up(&self) {
        // Who makes a thread is running itself, so once none is, none will be made. Acquire: pairs
        // with the release at each thread's end.
        while self.running.load(Ordering::Acquire) > 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        for member in self.members {
            if member.started.load(Ordering::Relaxed) && !member.joined.load(Ordering::Relaxed) {
                self.join(member);
            }
        }
    }

    fn make(&self, thread: u32) -> Result<(), Stop> {
        let member = &self.members[thread as usize];
        let alive = self.alive.fetch_add(1, Ordering::Relaxed) + 1;
        self.alive_peak.fetch_max(alive, Ordering::Relaxed);
        self.threads.fetch_add(1, Ordering::Relaxed);
        self.running.fetch_add(1, Ordering::Relaxed);
        member.started.store(true, Ordering::Relaxed);
        let argument = ptr::from_ref(member).cast_mut().cast::<c_void>();
        let mut handle = core::mem::MaybeUninit::<libc::pthread_t>::uninit();
        let mut attributes = core::mem::MaybeUninit::<libc::pthread_attr_t>::uninit();
        // SAFETY: the attributes are initialised before they are used and destroyed after; that cannot
        // fail, since the C library only sets fields. A stack of ours is mapped, and nobody else's: who
        // had the place before has been joined. `body` takes a member of this replay, whose `Shared`
        // outlives all its threads, since `lead` joins them.
        let error = unsafe {
            libc::pthread_attr_init(attributes.as_mut_ptr());
            let sized = match self.stacks {
                Some(stacks) => {
                    let (stack, bytes) = stacks.of(self.view.part(thread).place);
                    libc::pthread_attr_setstack(attributes.as_mut_ptr(), stack, bytes)
                }
                None => libc::pthread_attr_setstacksize(attributes.as_mut_ptr(), self.stack_bytes),
            };
            let error = match sized {
                0 => libc::pthread_create(
                    handle.as_mut_ptr(),
                    attributes.as_ptr(),
                    body::<W>,
                    argument,
                ),
                error => error,
            };
            libc::pthread_attr_destroy(attributes.as_mut_ptr());
            error
        };
        if error != 0 {
            member.started.store(false, Ordering::Relaxed);
            self.running.fetch_sub(1, Ordering::Relaxed);
            return Err(Stop::NoThread(error));
        }
        Ok(())
    }

    /// Joins a thread that has said that it ends.
    fn join(&self, member: &Member) {
        let handle = member.handle.load(Ordering::Relaxed) as libc::pthread_t;
        // SAFETY: the thread wrote its handle before it said that it ends; it is joined once, by
        // whom the program tells, or after a failure by the first thread, if it has not been yet.
        unsafe { libc::pthread_join(handle, ptr::null_mut()) };
        member.joined.store(true, Ordering::Relaxed);
        self.alive.fetch_sub(1, Ordering::Relaxed);
    }
}

extern "C" fn body<W: Watcher>(argument: *mut c_void) -> *mut c_void {
    // SAFETY: `make` gave a member of a replay whose `Shared` has this type and lives until all its
    // threads have been joined.
    let (member, shared) = unsafe {
        let member = &*argument.cast::<Member>();
        let shared = member.shared.load(Ordering::Relaxed);
        (member, &*shared.cast::<Shared<'_, W>>())
    };
    // SAFETY: takes nothing.
    let own = unsafe { libc::pthread_self() };
    member.handle.store(own as u64, Ordering::Relaxed);
    shared.live(member.thread.load(Ordering::Relaxed));
    // Release: pairs with the acquire in `wind_up`.
    shared.running.fetch_sub(1, Ordering::Release);
    ptr::null_mut()
}

/// One thread at its words.
struct Player<'s, 'a, W: Watcher> {
    shared: &'s Shared<'a, W>,
    thread: u32,
    replayer: Replayer<'a>,
    observer: W::Observer<'s>,
    account: Account,
    operations: u64,
}

impl<'s, 'a, W: Watcher> Player<'s, 'a, W> {
    fn new(shared: &'s Shared<'a, W>, thread: u32) -> Self {
        let replayer =
            // SAFETY: the caller of `Crew::new` vouched for functions and program. Compiling gave each
            // slot to one thread at a time (see `compile`), and the waiting in `control` keeps to it.
            unsafe { Replayer::sharing(*shared.view.program(), shared.table, shared.functions) };
        Self {
            shared,
            thread,
            replayer,
            observer: shared.watcher.observer(thread),
            account: Account::default(),
            operations: 0,
        }
    }

    #[inline(never)]
    fn perform(&mut self, range: Range<usize>) -> Result<(), Stop> {
        let view = self.shared.view;
        let end = range.end;
        let mut controls = 0;
        let (all, mut words) = (range.len(), view.program().words_in(range));
        // As in the serial loop.
        while let Some(word) = words.next() {
            if W::NUMBERED {
                self.observer.step(view.number(end - words.len() - 1));
            }
            let failed = if word.is_free() {
                match self.replayer.release(word, &mut self.observer) {
                    Ok(()) => continue,
                    Err(fault) => fault,
                }
            } else if word.is_malloc() {
                match self.replayer.malloc(word, &mut self.observer) {
                    Ok(()) => continue,
                    Err(fault) => fault,
                }
            } else if let Some(control) = Control::of(word) {
                controls += 1;
                match self.control(control) {
                    Ok(()) => continue,
                    Err(stop) => return Err(stop),
                }
            } else {
                match self
                    .replayer
                    .perform_cold(word.operand(), &mut self.observer)
                {
                    Ok(()) => continue,
                    Err(fault) => fault,
                }
            };
            return Err(Stop::Failed(Failure {
                operation: view.number(end - words.len() - 1),
                fault: failed,
            }));
        }
        self.operations += (all - controls) as u64;
        Ok(())
    }

    #[inline(always)]
    fn control(&mut self, control: Control) -> Result<(), Stop> {
        let members = self.shared.members;
        match control {
            Control::Wait { thread, count } => {
                let progress = &members[thread as usize].progress;
                // One look, without a clock: most of what is waited for is done by then.
                if !progress.has_reached(count)? {
                    self.account.waiting(|| progress.wait(count, SPINS))?;
                }
                Ok(())
            }
            Control::Advance => {
                let progress = &members[self.thread as usize].progress;
                if progress.count_up()? {
                    self.account.apart(|| progress.wake());
                }
                Ok(())
            }
            Control::Start { thread } => self.account.apart(|| self.shared.make(thread)),
            Control::Reap { thread } => {
                let member = &members[thread as usize];
                self.account.waiting(|| self.shared.join(member));
                Ok(())
            }
            Control::Pace { time_ns } => {
                let Shared {
                    start_ns, failure, ..
                } = self.shared;
                let go_on = || failure.load(Ordering::Relaxed) == 0;
                match self.account.pace(start_ns + time_ns, go_on) {
                    true => Ok(()),
                    false => Err(Stop::GivenUp),
                }
            }
        }
    }
}
