//! Replays of threaded programs in which nothing but the hand-over orders the threads: no lock of the
//! test hides a wait that is missing. What each block holds, what is live, and which slots are used.

use core::ffi::c_void;
use core::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use super::program::Control;
use super::run::Watcher;
use super::tests::{ORDERS, Saved, c_library, crowd, systemui, verified};
use super::*;
use crate::measure::results::Order;
use crate::replay::pattern::{fill, holds};
use crate::replay::program::Program;
use crate::replay::serial::{Failure, Fault, Observer, Returned};
use crate::replay::slots::SlotTable;
use crate::subject::functions::Functions;
use crate::trace::builder::TraceBuilder;
use crate::trace::profile::Profile;
use crate::trace::{ThreadIndex, Trace, testing};

/// Size and stamp of the block in a slot.
#[derive(Clone, Copy, Default)]
struct Stamp {
    size: usize,
    serial: u64,
}

/// Whoever allocates a block stamps all of it; whoever frees it looks whether the stamp is there.
/// Neither the table of stamps nor the blocks have a lock or an atomic: a wait that is missing lets a
/// consumer find the wrong stamp in the table, or another content than that.
struct Stamping<'a> {
    stamps: SlotTable<'a, Stamp>,
}

struct Stamper<'w> {
    stamps: SlotTable<'w, Stamp>,
    operation: u64,
    before: Stamp,
}

impl<'a> Watcher for Stamping<'a> {
    const NUMBERED: bool = true;
    type Observer<'w>
        = Stamper<'w>
    where
        Self: 'w;

    fn observer(&self, _thread: u32) -> Stamper<'_> {
        Stamper {
            stamps: self.stamps,
            operation: 0,
            before: Stamp::default(),
        }
    }
}

impl Observer for Stamper<'_> {
    fn step(&mut self, operation: usize) {
        self.operation = operation as u64;
    }

    unsafe fn allocated(&mut self, returned: &Returned) -> Result<(), Fault> {
        let stamp = Stamp {
            size: returned.size,
            serial: self.operation + 1,
        };
        // SAFETY: the block is valid for its size; slots are the program's.
        unsafe {
            fill(returned.block, stamp.size, stamp.serial);
            self.stamps.set(returned.slot, stamp);
        }
        Ok(())
    }

    unsafe fn releasing(&mut self, slot: usize, block: *mut c_void) -> Result<(), Fault> {
        if block.is_null() {
            return Ok(());
        }
        // SAFETY: slots are the program's; if the stamp is that of another block, its size may be too
        // large, but the test fails then in any case.
        unsafe {
            self.before = self.stamps.get(slot);
            let Stamp { size, serial } = self.before;
            // So that a stamp is not found twice.
            self.stamps.set(slot, Stamp::default());
            match serial != 0 && holds(block, size, serial, size) {
                true => Ok(()),
                false => Err(Fault::ContentLost),
            }
        }
    }

    unsafe fn reallocating(&mut self, slot: usize, block: *mut c_void) -> Result<(), Fault> {
        self.before = Stamp::default();
        // SAFETY: the caller's promise is the same.
        unsafe { self.releasing(slot, block) }
    }

    unsafe fn reallocated(
        &mut self,
        _old_slot: usize,
        _old: *mut c_void,
        returned: &Returned,
    ) -> Result<(), Fault> {
        let Stamp { size, serial } = self.before;
        // SAFETY: the new block is valid for its size.
        unsafe {
            if !holds(returned.block, size, serial, size.min(returned.size)) {
                return Err(Fault::ReallocLost);
            }
            self.allocated(returned)
        }
    }
}

fn stamped(view: ThreadedView<'_>, functions: Functions, runs: u32) -> Result<(), Ended> {
    let slots = view.program().slots as usize;
    let mut table = vec![core::ptr::null_mut(); slots];
    let mut stamps = vec![Stamp::default(); slots];
    let stamping = Stamping {
        stamps: SlotTable::new(&mut stamps),
    };
    // SAFETY: the functions are an allocator's; `?` leaves after a failure.
    let mut crew = unsafe { Crew::new(view, &mut table, functions) }.expect("memory");
    for _ in 0..runs {
        crew.replay(&stamping)?;
        crew.drain(&mut stamping.observer(0))
            .map_err(Ended::Wrong)?;
    }
    Ok(())
}

#[test]
fn each_consumer_finds_what_the_producer_wrote() {
    for seed in 100..140 {
        let trace = crowd(seed, 3_000, 3 + seed as usize % 10);
        for order in ORDERS {
            let program = ThreadedProgram::compile(&trace, order).expect("it is small");
            let saved = Saved::new(&program);
            let done = stamped(saved.view(), c_library(), 3);
            assert_eq!(done, Ok(()), "{order:?}, seed {seed}");
        }
    }
}

#[test]
fn each_consumer_of_systemui_finds_what_the_producer_wrote() {
    let program = ThreadedProgram::compile(&systemui(), Order::Threads).expect("not too large");
    let saved = Saved::new(&program);
    assert_eq!(stamped(saved.view(), c_library(), 2), Ok(()));
}

mod keeping {
    //! Never takes memory back; counts the nulls that are freed.
    use super::*;

    pub(super) static NULLS: AtomicU64 = AtomicU64::new(0);

    unsafe extern "C" fn free(block: *mut c_void) {
        NULLS.fetch_add(u64::from(block.is_null()), Relaxed);
    }

    pub(super) fn functions() -> Functions {
        Functions {
            free,
            ..c_library()
        }
    }
}

/// Consumers that do not wait come too early at least once: so the test above can fail.
#[test]
fn a_wait_that_is_missing_is_found() {
    let mut program = ThreadedProgram::compile(&one_way(2_000, 64), Order::Threads).expect("small");
    // Only what it waits for at its operations: the ends of threads must still be waited for.
    let consumer = program.threads[1].range();
    for word in &mut program.program.words[consumer] {
        if matches!(Control::of(*word), Some(Control::Wait { .. })) {
            *word = Control::Pace { time_ns: 0 }.word();
        }
    }
    let saved = Saved::new(&program);
    // They free null, or what was freed before: never with an allocator that takes memory back.
    let is_whole = |_: &u32| {
        let done = stamped(saved.view(), keeping::functions(), 1);
        done.is_ok() && keeping::NULLS.swap(0, Relaxed) == 0
    };
    let whole = (0..50).take_while(is_whole).count();
    assert!(whole < 50, "no consumer was ever too early");
}

/// Counts live bytes, in the order that the threads take.
#[derive(Default)]
struct Scales {
    live_bytes: AtomicI64,
    peak_bytes: AtomicI64,
}

impl Scales {
    fn add(&self, bytes: i64) {
        let live = self.live_bytes.fetch_add(bytes, Relaxed) + bytes;
        self.peak_bytes.fetch_max(live, Relaxed);
    }
}

struct Weighing<'a> {
    scales: Scales,
    sizes: SlotTable<'a, usize>,
}

/// One thread's view of it.
struct Weigher<'w, 'a>(&'w Weighing<'a>);

impl<'a> Watcher for Weighing<'a> {
    const NUMBERED: bool = false;
    type Observer<'w>
        = Weigher<'w, 'a>
    where
        Self: 'w;

    fn observer(&self, _thread: u32) -> Weigher<'_, 'a> {
        Weigher(self)
    }
}

impl Observer for Weigher<'_, '_> {
    unsafe fn allocated(&mut self, returned: &Returned) -> Result<(), Fault> {
        // SAFETY: slots are the program's.
        unsafe { self.0.sizes.set(returned.slot, returned.size) };
        self.0.scales.add(returned.size as i64);
        Ok(())
    }

    unsafe fn releasing(&mut self, slot: usize, block: *mut c_void) -> Result<(), Fault> {
        if !block.is_null() {
            // SAFETY: slots are the program's.
            let bytes = unsafe { self.0.sizes.get(slot) };
            self.0.scales.add(-(bytes as i64));
        }
        Ok(())
    }

    unsafe fn reallocating(&mut self, slot: usize, block: *mut c_void) -> Result<(), Fault> {
        // SAFETY: the caller's promise is the same.
        unsafe { self.releasing(slot, block) }
    }
}

/// The replayed peak of live bytes, and the numbers that draining has.
fn weighed(program: &ThreadedProgram) -> (u64, Vec<usize>) {
    #[derive(Default)]
    struct Numbers(Vec<usize>);
    impl Observer for Numbers {
        fn step(&mut self, operation: usize) {
            self.0.push(operation);
        }

        unsafe fn allocated(&mut self, _returned: &Returned) -> Result<(), Fault> {
            Ok(())
        }
    }
    let saved = Saved::new(program);
    let slots = program.slots() as usize;
    let mut table = vec![core::ptr::null_mut(); slots];
    let mut sizes = vec![0; slots];
    let weighing = Weighing {
        scales: Scales::default(),
        sizes: SlotTable::new(&mut sizes),
    };
    // SAFETY: the functions are an allocator's.
    let mut crew = unsafe { Crew::new(saved.view(), &mut table, c_library()) }.expect("memory");
    crew.replay(&weighing).expect("the C library is right");
    let mut numbers = Numbers::default();
    crew.drain(&mut numbers).expect("the C library is right");
    (weighing.scales.peak_bytes.into_inner() as u64, numbers.0)
}

/// One thread allocates, the other frees; one block is live at the recorded peak.
fn one_way(blocks: u32, size: u64) -> Trace {
    let mut builder = TraceBuilder::new(testing::origin());
    for _ in 0..blocks {
        let block = builder.malloc(ThreadIndex(0), size);
        builder.free(ThreadIndex(1), block, false);
    }
    builder.finish()
}

#[test]
fn live_bytes_stay_within_the_window_of_the_recorded_ones() {
    for (trace, is_large) in [
        (systemui(), true),
        (one_way(100_000, 48), false),
        (one_way(3_000, 40_000), false),
        (crowd(7, 20_000, 9), false),
    ] {
        let recorded = Profile::of(&trace).live_bytes_peak;
        let program = ThreadedProgram::compile(&trace, Order::Threads).expect("not too large");
        let window = program.record().window.expect("threads may run ahead");
        let (replayed, _) = weighed(&program);
        assert!(
            replayed.abs_diff(recorded) <= window.bytes,
            "{replayed} for {recorded}, {window:?}"
        );
        assert!(window.operations <= 2 * 1024, "{window:?}");
        if is_large {
            assert!(window.bytes <= recorded / 10, "{window:?} of {recorded}");
        }
        let strict = ThreadedProgram::compile(&trace, Order::Strict).expect("not too large");
        assert_eq!(weighed(&strict).0, recorded);
    }
}

#[test]
fn slots_are_used_again_where_blocks_go_one_way() {
    let trace = one_way(500_000, 16);
    let program = ThreadedProgram::compile(&trace, Order::Threads).expect("not too large");
    let window = program.record().window.expect("threads may run ahead");
    let slots = program.slots();
    assert!(slots <= window.operations + 64, "{slots} slots, {window:?}");
    let systemui = systemui();
    let serial = Program::compile(&systemui).expect("not too large").slots;
    let program = ThreadedProgram::compile(&systemui, Order::Threads).expect("not too large");
    let slots = program.slots();
    assert!(
        slots <= serial + serial / 10 + 2 * 1024,
        "{slots}, {serial} on one thread"
    );
}

#[test]
fn draining_is_numbered_on_from_the_operations() {
    let mut builder = TraceBuilder::new(testing::origin());
    for index in 0..200 {
        builder.malloc(ThreadIndex(index % 2), 8);
    }
    let program = ThreadedProgram::compile(&builder.finish(), Order::Threads).expect("small");
    assert_eq!(weighed(&program).1, (200..400).collect::<Vec<_>>());
    let text = program.describe(200);
    assert!(text.contains("leftover block 1 "), "{text}");
}

#[test]
fn the_recorded_order_is_kept_on_one_thread() {
    let trace = crowd(11, 2_000, 7);
    let whole = Program::compile(&trace).expect("it is small");
    for order in ORDERS {
        let program = ThreadedProgram::compile(&trace, order).expect("it is small");
        let serial = program.on_one_thread();
        assert_eq!(serial.operations(), whole.operations());
        for operation in 0..serial.words.len() {
            assert_eq!(serial.call_text(operation), whole.call_text(operation));
        }
    }
}

mod boasting {
    //! Blocks of 64 bytes side by side, each of which claims to have 128.
    use std::sync::OnceLock;

    use super::*;

    static NEXT: AtomicU64 = AtomicU64::new(0);
    static ARENA: OnceLock<usize> = OnceLock::new();
    const ARENA_BYTES: usize = 1 << 20;

    unsafe extern "C" fn malloc(_size: usize) -> *mut c_void {
        // SAFETY: any size will do.
        let arena = *ARENA.get_or_init(|| unsafe { libc::malloc(2 * ARENA_BYTES) } as usize);
        let index = NEXT.fetch_add(1, Relaxed) as usize;
        (arena + index * 64 % ARENA_BYTES) as *mut c_void
    }

    unsafe extern "C" fn free(_block: *mut c_void) {}

    unsafe extern "C" fn usable(_block: *mut c_void) -> usize {
        128
    }

    pub(super) fn functions() -> Functions {
        Functions {
            malloc,
            free,
            malloc_usable_size: usable,
            ..c_library()
        }
    }
}

#[test]
fn a_boast_is_told_from_an_overlap() {
    let mut builder = TraceBuilder::new(testing::origin());
    for index in 0..100 {
        builder.malloc(ThreadIndex(index % 3), 60);
    }
    let trace = builder.finish();
    for order in [Order::Threads, Order::Strict] {
        let program = ThreadedProgram::compile(&trace, order).expect("it is small");
        let ended = verified(Saved::new(&program).view(), boasting::functions());
        assert!(
            matches!(
                ended,
                Err(Ended::Wrong(Failure {
                    fault: Fault::UsableOverlap,
                    ..
                }))
            ),
            "{ended:?}"
        );
    }
}
