use std::cell::{Cell, RefCell};

use super::*;

/// A clock that shows what it is told to.
struct Scripted;

thread_local! {
    static READINGS: RefCell<Vec<Reading>> = const { RefCell::new(Vec::new()) };
    static READ: Cell<usize> = const { Cell::new(0) };
}

impl Clock for Scripted {
    const KIND: LatencyClock = LatencyClock::TimeStampCounter;

    fn read() -> Reading {
        READINGS.with_borrow(|readings| {
            let at = READ.replace(READ.get() + 1);
            *readings.get(at).expect("no more readings than expected")
        })
    }
}

/// Readings as (ticks, processor).
fn script(readings: &[(u64, u32)]) {
    let reading = |&(ticks, processor): &(u64, u32)| Reading { ticks, processor };
    READINGS.set(readings.iter().map(reading).collect());
    READ.set(0);
}

const SLOW: u64 = 500;

fn bench() -> Bench<Scripted> {
    Bench {
        calibration: Calibration::now::<Monotonic>(),
        cost_ticks: 0,
        step_ticks: 1,
        slow_ticks: SLOW,
        clock: PhantomData,
    }
}

/// Times so many operations by the script, and returns their times.
fn timed(operations: usize, tally: &mut Tally) -> Vec<Option<u64>> {
    let mut times = vec![0; operations];
    let bench = bench();
    let mut stopwatch =
        // SAFETY: a place for each operation.
        unsafe { Stopwatch::new(&bench, Touch::None, SlotTable::new(&mut times), 0, tally) };
    for operation in 0..operations {
        stopwatch.step(operation + 100);
        stopwatch.before_call();
        stopwatch.after_call();
    }
    READINGS.with_borrow(|readings| assert_eq!(READ.get(), readings.len(), "all were read"));
    times.into_iter().map(ticks_of).collect()
}

/// A list full of operations of that time, so that only slower ones are unusual.
fn full(ticks: u64) -> Tally {
    let mut tally = Tally::default();
    for _ in 0..WORST {
        tally.note(Worst {
            ticks,
            ..Worst::default()
        });
    }
    tally
}

#[test]
fn calls_are_timed_and_gaps_are_not() {
    let mut tally = full(100);
    // The last readings of each line: the call. Before the third one 400 ticks passed.
    script(&[
        (0, 1),
        (10, 1),
        (35, 1),
        (40, 1),
        (40, 1),
        (440, 1),
        (470, 1),
    ]);
    assert_eq!(timed(3, &mut tally), [Some(25), Some(0), Some(30)]);
    assert_eq!((tally.migrated, tally.backward), (0, 0));
    assert_eq!(tally, full(100));
}

/// After a long gap the clock is read again, since the kernel's counts were read in between.
#[test]
fn a_long_gap_is_no_operation() {
    let mut tally = full(100);
    script(&[(0, 1), (SLOW + 1, 1), (SLOW + 90, 1), (SLOW + 100, 1)]);
    assert_eq!(timed(1, &mut tally), [Some(10)]);
}

#[test]
fn other_processors_are_counted_and_backward_readings_have_no_time() {
    let mut tally = full(100);
    script(&[
        (0, 1),
        // Ends elsewhere.
        (10, 1),
        (30, 2),
        (31, 2),
        // There, undisturbed.
        (40, 2),
        (60, 2),
        // Ends elsewhere, where the counter is behind.
        (70, 2),
        (65, 0),
        (66, 0),
        // Backwards on one processor.
        (80, 0),
        (79, 0),
        (90, 0),
        // As usual.
        (100, 0),
        (107, 0),
    ]);
    assert_eq!(
        timed(5, &mut tally),
        [Some(20), Some(20), None, None, Some(7)]
    );
    assert_eq!((tally.migrated, tally.backward), (2, 2));
    // None of them came among the slowest.
    assert_eq!(tally.worst(), full(100).worst());
}

#[test]
fn a_slow_operation_is_named_with_its_full_time() {
    let mut tally = full(SLOW);
    let long = u64::from(u32::MAX) * 5;
    script(&[
        (0, 1),
        (10, 1),
        (20, 1),
        (30, 1),
        (30 + long, 1),
        (40 + long, 1),
    ]);
    assert_eq!(timed(2, &mut tally), [Some(10), Some(long)]);
    let slowest = tally.worst().iter().max_by_key(|worst| worst.ticks);
    let slowest = slowest.expect("there are some");
    assert_eq!((slowest.operation, slowest.ticks), (101, long));
}

/// Page faults between two calls are not the second one's, and those in a call are.
#[test]
fn faults_are_of_the_call_that_took_them() {
    let bench = Bench::<Monotonic>::set_up();
    let (mut times, mut tally) = (vec![0; 2 * WORST], Tally::default());
    let mut map = memmap2::MmapMut::map_anon(8 * WORST * 4096).expect("memory");
    map.advise(memmap2::Advice::NoHugePage).ok();
    let mut pages = map.chunks_mut(4096);
    let mut touch = |count: usize| {
        for page in pages.by_ref().take(count) {
            // SAFETY: a valid byte; volatile, so that the write is not left out.
            unsafe { core::ptr::write_volatile(&raw mut page[0], 1) };
        }
    };
    // SAFETY: a place for each operation.
    let mut stopwatch = unsafe {
        Stopwatch::new(
            &bench,
            Touch::None,
            SlotTable::new(&mut times),
            0,
            &mut tally,
        )
    };
    for operation in 0..WORST {
        stopwatch.step(operation);
        touch(1);
        stopwatch.before_call();
        touch(2);
        stopwatch.after_call();
        touch(3);
    }
    assert_eq!(tally.worst().len(), WORST);
    for worst in tally.worst() {
        assert_eq!(worst.usage.minor_faults, 2, "{worst:?}");
    }
}

#[test]
fn the_slowest_are_kept_of_all_threads() {
    let (mut tally, mut other) = (Tally::default(), Tally::default());
    for operation in 0..100 {
        let ticks = operation * 37 % 101;
        let own = if operation % 3 == 0 {
            &mut other
        } else {
            &mut tally
        };
        own.note(Worst {
            operation,
            ticks,
            ..Worst::default()
        });
    }
    (other.migrated, other.backward) = (2, 3);
    tally.add(&other);
    assert_eq!((tally.migrated, tally.backward), (2, 3));
    let mut kept: Vec<u64> = tally.worst().iter().map(|worst| worst.ticks).collect();
    kept.sort_unstable();
    let mut all: Vec<u64> = (0..100).map(|operation| operation * 37 % 101).collect();
    all.sort_unstable();
    assert_eq!(kept, all[90..]);
    assert_eq!(tally.least_ticks(), all[90]);
}
