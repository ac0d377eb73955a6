//! Threaded programs: checked word by word under random schedules by a model that knows nothing of
//! the compiler, and replayed on real threads, many times, against the verify pass's shadow map.

use core::ffi::{c_int, c_void};
use core::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::path::Path;

use proptest::prelude::*;
use rand::SeedableRng as _;
use rand_pcg::Pcg64Mcg;

use super::checker::{Ground, SlotPattern, SlotPlace};
use super::lives::Lives;
use super::program::Control;
use super::*;
use crate::measure::results::{Order, Touch};
use crate::replay::memory::{CurvePoint, page_faults};
use crate::replay::program::Program;
use crate::replay::resident::Gauge;
use crate::replay::serial::{Failure, Fault};
use crate::replay::shadow::Shadow;
use crate::subject::functions::Functions;
use crate::trace::builder::TraceBuilder;
use crate::trace::profile::Profile;
use crate::trace::{ReadOptions, ThreadIndex, Trace, testing};

pub(super) const ORDERS: [Order; 3] = [Order::Threads, Order::Strict, Order::Paced];

/// Threads that come and go, and blocks that any thread frees or reallocates. Sizes stay small, so
/// that many runs are quick. Time stamps are a microsecond apart on the average.
pub(super) fn crowd(seed: u64, events: usize, alive_limit: usize) -> Trace {
    let mut random = Pcg64Mcg::seed_from_u64(seed);
    let mut builder = TraceBuilder::new(testing::origin());
    let mut alive = vec![ThreadIndex(0)];
    let mut threads = 1;
    let mut live = Vec::new();
    let mut time_ns = 500;
    while builder.len() < events {
        let before = builder.len();
        if alive.is_empty() || (alive.len() < alive_limit && random.random_ratio(1, 30)) {
            alive.push(ThreadIndex(threads));
            threads += 1;
        }
        let place = random.random_range(0..alive.len());
        let thread = alive[place];
        match random.random_range(0..20) {
            0..8 => live.push(builder.malloc(thread, random.random_range(0..300))),
            8 => live.push(builder.calloc(thread, 3, random.random_range(0..100))),
            9 => live.push(builder.realloc(thread, None, 40)),
            10..12 if !live.is_empty() => {
                let at = random.random_range(0..live.len());
                live[at] = builder.realloc(thread, Some(live[at]), random.random_range(1..500));
            }
            12..18 if !live.is_empty() => {
                let at = random.random_range(0..live.len());
                builder.free(thread, live.swap_remove(at), false);
            }
            18 => builder.free_null(thread),
            _ if random.random_ratio(1, 3) => {
                builder.thread_end(thread);
                alive.swap_remove(place);
            }
            _ => builder.mark(thread),
        }
        assert_eq!(builder.len(), before + 1, "one event, one time stamp");
        time_ns += random.random_range(0..2_000);
        builder.stamp(time_ns);
    }
    builder.finish()
}

pub(super) fn systemui() -> Trace {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("workloads/traces/systemui.txt.zst");
    crate::trace::read(&path, &ReadOptions::default()).expect("the trace is part of the repository")
}

/// A program as a child maps it.
pub(super) struct Saved(Vec<u8>);

impl Saved {
    pub(super) fn new(program: &ThreadedProgram) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("program");
        program.save(&path).expect("there is room");
        Self(std::fs::read(&path).expect("just written"))
    }

    pub(super) fn view(&self) -> ThreadedView<'_> {
        ThreadedView::new(&self.0).expect("just written")
    }
}

pub(super) fn c_library() -> Functions {
    Functions::resolved().expect("the C library has them all")
}

/// Replays with the verify pass.
pub(super) fn verified(view: ThreadedView<'_>, functions: Functions) -> Result<Timed, Ended> {
    let slots = view.program().slots as usize;
    let mut table = vec![core::ptr::null_mut(); slots];
    let mut patterns = vec![SlotPattern::default(); slots];
    let mut places = vec![SlotPlace::default(); slots];
    let ground = Ground::new(Shadow::new().expect("addresses"), &mut places);
    // SAFETY: the functions are an allocator's, or stay inside their own memory; each program is
    // replayed once.
    let mut crew = unsafe { Crew::new(view, &mut table, functions) }.expect("memory");
    verify(&mut crew, &mut patterns, ground, &AtomicU64::new(0))
}

/// A vector clock: how many words of each thread are known to be done.
type Clock = Vec<u64>;

/// One thread of the model.
#[derive(Clone, Default)]
struct Modelled {
    words: Vec<usize>,
    next: usize,
    clock: Clock,
    /// The clock at each counting up.
    published: Vec<Clock>,
    alive: bool,
}

/// Runs the words in a random order that the waiting allows. Every use of a slot must be known to the
/// next one's thread; operations must be all there, in each thread in recorded order; and no more
/// threads may be alive than recorded. A deadlock is a state in which nobody can go on.
fn obeys_the_model(program: &ThreadedProgram, seed: u64) {
    let mut random = Pcg64Mcg::seed_from_u64(seed);
    let count = program.threads.len();
    let first = program.first_thread as usize;
    let mut threads: Vec<Modelled> = program
        .threads
        .iter()
        .map(|part| Modelled {
            words: part.range().collect(),
            clock: vec![0; count],
            ..Modelled::default()
        })
        .collect();
    threads[first].words.extend(program.tail.range());
    let first_words = program.threads[first].words as usize;
    threads[first].alive = true;
    let mut last_use: Vec<Option<(usize, u64)>> = vec![None; program.program.slots as usize];
    let mut done = vec![false; program.operations as usize];
    loop {
        let ready: Vec<usize> = (0..count)
            .filter(|t| can_go_on(&threads, *t, program))
            .collect();
        if ready.is_empty() {
            break;
        }
        let thread = ready[random.random_range(0..ready.len())];
        let index = threads[thread].words[threads[thread].next];
        threads[thread].next += 1;
        threads[thread].clock[thread] += 1;
        let word = program.program.words[index];
        match Control::of(word) {
            Some(Control::Wait {
                thread: other,
                count,
            }) => {
                let known = threads[other as usize].published[count as usize - 1].clone();
                merge(&mut threads[thread].clock, &known);
            }
            Some(Control::Advance) => {
                let clock = threads[thread].clock.clone();
                threads[thread].published.push(clock);
            }
            Some(Control::Start { thread: new }) => {
                assert!(!threads[new as usize].alive && threads[new as usize].next == 0);
                threads[new as usize].clock = threads[thread].clock.clone();
                threads[new as usize].alive = true;
            }
            Some(Control::Reap { thread: old }) => {
                let old = old as usize;
                assert_eq!(threads[old].next, threads[old].words.len(), "it has ended");
                threads[old].alive = false;
            }
            Some(Control::Pace { .. }) => {}
            None => {
                let number = program.numbers[index] as usize;
                assert!(
                    !std::mem::replace(&mut done[number], true),
                    "performed once"
                );
                for slot in slots_of(program, index) {
                    if let Some((user, at)) = last_use[slot] {
                        let known = threads[thread].clock[user];
                        assert!(
                            known >= at,
                            "slot {slot} is used before it is known to be free"
                        );
                    }
                    last_use[slot] = Some((thread, threads[thread].clock[thread]));
                }
            }
        }
        if thread == first && threads[first].next == first_words {
            // Its place is vacant; it goes on with the tail.
            threads[first].alive = false;
        }
        let alive = threads.iter().filter(|thread| thread.alive).count();
        assert!(alive <= program.record.threads_alive_peak as usize);
    }
    assert!(
        threads
            .iter()
            .all(|thread| thread.next == thread.words.len()),
        "nobody is left waiting"
    );
    assert!(threads.iter().all(|thread| !thread.alive), "all are joined");
    assert!(
        done.iter().all(|done| *done),
        "every operation is performed"
    );
}

fn can_go_on(threads: &[Modelled], thread: usize, program: &ThreadedProgram) -> bool {
    let own = &threads[thread];
    let begun = own.alive || thread == program.first_thread as usize;
    let Some(index) = own.words.get(own.next).filter(|_| begun) else {
        return false;
    };
    match Control::of(program.program.words[*index]) {
        Some(Control::Wait { thread, count }) => {
            threads[thread as usize].published.len() >= count as usize
        }
        _ => true,
    }
}

fn merge(clock: &mut Clock, other: &Clock) {
    for (own, other) in clock.iter_mut().zip(other) {
        *own = (*own).max(*other);
    }
}

/// The slots that an operation uses, without the one of null.
fn slots_of(program: &ThreadedProgram, index: usize) -> Vec<usize> {
    let word = program.program.words[index];
    let mut slots = if word.is_free() || word.is_malloc() {
        vec![word.slot()]
    } else {
        let cold = program.program.cold[word.operand()];
        vec![cold.old_slot as usize, cold.slot as usize]
    };
    slots.retain(|slot| *slot != 0);
    slots
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_schedule_keeps_to_the_recording(trace in testing::traces(300), seed in any::<u64>()) {
        for order in [Order::Threads, Order::Strict] {
            let program = ThreadedProgram::compile(&trace, order).expect("it is small");
            prop_assert_eq!(program.operations(), trace.counts().operations());
            if !trace.events().is_empty() {
                obeys_the_model(&program, seed);
            }
        }
    }
}

#[test]
fn crowds_keep_to_the_recording_under_any_schedule() {
    for seed in 0..60 {
        let trace = crowd(seed, 800, 2 + seed as usize % 9);
        let profile = Profile::of(&trace);
        for order in ORDERS {
            let program = ThreadedProgram::compile(&trace, order).expect("it is small");
            let record = program.record();
            assert_eq!(record.threads_alive_peak, profile.threads_alive_peak);
            assert_eq!(record.cross_thread_frees, profile.cross_thread_frees);
            obeys_the_model(&program, seed);
        }
    }
}

#[test]
fn strict_leaves_no_choice() {
    let trace = crowd(3, 500, 6);
    let program = ThreadedProgram::compile(&trace, Order::Strict).expect("it is small");
    // Every change of thread is an edge, and every making of a thread.
    let operations: Vec<_> = trace
        .events()
        .iter()
        .filter(|event| event.operation.is_replayed())
        .collect();
    let changes = operations
        .windows(2)
        .filter(|pair| pair[0].thread != pair[1].thread)
        .count() as u64;
    // Nothing is left to wait for where a new thread comes right after the operation of the one that
    // made it, or after the last one of the thread whose place it takes, which its maker has joined.
    let lives = Lives::of(&trace);
    let is_replayed = |event: &&crate::trace::Event| event.operation.is_replayed();
    let (mut joins, mut known) = (0, 0);
    for (index, birth) in &lives.births {
        joins += u64::from(
            birth
                .predecessor
                .is_some_and(|thread| thread != birth.maker),
        );
        let (before, after) = trace.events().split_at(*index as usize);
        let before = before
            .iter()
            .rev()
            .find(is_replayed)
            .map(|event| event.thread.0);
        let is_known = before == Some(birth.maker) || before == birth.predecessor;
        let next = after.iter().find(is_replayed).map(|event| event.thread.0);
        known += u64::from(is_known && next == Some(birth.thread));
    }
    let births = lives.births.len() as u64;
    assert!(births > 5 && joins > 0 && known > 0, "a crowd");
    assert_eq!(program.record().edges, changes - known + births + joins);
    assert_eq!(program.record().window, None);
    assert_eq!(program.record().window_edges, 0);
    let serial = Program::compile(&trace).expect("it is small");
    assert!(
        program.slots() < serial.slots + 16,
        "all is ordered, so slots are used again as on one thread"
    );
}

#[test]
fn a_shadow_map_finds_nothing_wrong_in_many_replays() {
    for seed in 0..40 {
        let trace = crowd(seed, 3_000, 3 + seed as usize % 10);
        for order in ORDERS {
            let program = ThreadedProgram::compile(&trace, order).expect("it is small");
            let saved = Saved::new(&program);
            for _ in 0..3 {
                let done = verified(saved.view(), c_library()).expect("the C library is right");
                assert_eq!(done.operations, trace.counts().operations());
                assert_eq!(done.threads, program.record().threads);
                assert_eq!(done.lateness_max_ns > 0, order == Order::Paced);
                assert!(done.threads_alive_peak <= program.record().threads_alive_peak);
            }
        }
    }
}

/// All of systemui's threads in both orders, as often as `MYMALLOC_TEST_RUNS` says.
#[test]
fn systemui_is_replayed_with_all_its_threads() {
    let runs = std::env::var("MYMALLOC_TEST_RUNS").map_or(3, |runs| {
        runs.parse().expect("MYMALLOC_TEST_RUNS is a number")
    });
    let trace = systemui();
    for order in [Order::Threads, Order::Strict] {
        let program = ThreadedProgram::compile(&trace, order).expect("it is not too large");
        let saved = Saved::new(&program);
        let mut table = vec![core::ptr::null_mut(); program.slots() as usize];
        // SAFETY: the functions are an allocator's.
        let mut crew = unsafe { Crew::new(saved.view(), &mut table, c_library()) }.expect("memory");
        let start = std::time::Instant::now();
        let mut peak = 0;
        for _ in 0..runs {
            let timed = timed_pass(&mut crew, Touch::Page).expect("the C library is right");
            assert_eq!(timed.operations, trace.counts().operations());
            assert_eq!(timed.threads, 393);
            assert!(timed.threads_alive_peak <= 23, "{timed:?}");
            assert!(timed.waiting_ns <= timed.alive_ns, "{timed:?}");
            let told_ns = timed.cpu_ns + timed.hand_over_cpu_ns;
            assert!(
                timed.cpu_ns > 0 && told_ns <= timed.process_cpu_ns,
                "{timed:?}"
            );
            peak = peak.max(timed.threads_alive_peak);
        }
        println!(
            "{order:?}: {runs} runs in {:?}, at most {peak} threads alive, {:?}, {} slots",
            start.elapsed(),
            program.record(),
            program.slots(),
        );
    }
}

mod overlapping {
    //! Never takes memory back, and gives out the block of the call before once in fifty calls.
    use super::*;

    static CALLS: AtomicU64 = AtomicU64::new(0);
    static BEFORE: AtomicU64 = AtomicU64::new(0);

    unsafe extern "C" fn malloc(size: usize) -> *mut c_void {
        if CALLS.fetch_add(1, Relaxed) % 50 == 49 {
            return BEFORE.load(Relaxed) as *mut c_void;
        }
        // SAFETY: any size will do; as large as the largest, so that the block can be given twice.
        let block = unsafe { libc::malloc(size.max(1024)) };
        BEFORE.store(block as u64, Relaxed);
        block
    }

    unsafe extern "C" fn free(_block: *mut c_void) {}

    unsafe extern "C" fn realloc(block: *mut c_void, size: usize) -> *mut c_void {
        // SAFETY: all blocks are at least 1024 bytes long, and sizes are smaller.
        unsafe {
            let new = libc::malloc(size.max(1024));
            if !block.is_null() {
                core::ptr::copy_nonoverlapping(block.cast::<u8>(), new.cast::<u8>(), size);
            }
            new
        }
    }

    unsafe extern "C" fn calloc(count: usize, size: usize) -> *mut c_void {
        // SAFETY: any size will do.
        unsafe { libc::calloc((count * size).max(1024), 1) }
    }

    pub(super) fn functions() -> Functions {
        Functions {
            malloc,
            free,
            realloc,
            calloc,
            ..c_library()
        }
    }
}

#[test]
fn memory_that_is_given_out_twice_is_found() {
    for seed in 0..20 {
        let trace = crowd(seed, 3_000, 8);
        for order in ORDERS {
            let program = ThreadedProgram::compile(&trace, order).expect("it is small");
            let saved = Saved::new(&program);
            let ended = verified(saved.view(), overlapping::functions());
            let Err(Ended::Wrong(Failure { operation, fault })) = ended else {
                panic!("{ended:?}");
            };
            // Where threads run freely, the block can be given out again while its holder is inside
            // realloc: the bytes that call brings along are then the first sign.
            let call = match fault {
                Fault::Overlap => "malloc(",
                Fault::ReallocLost if order != Order::Strict => "realloc to ",
                other => panic!("{other:?} in {order:?}"),
            };
            let text = program.describe(operation);
            assert!(
                text.contains(&format!("operation {} of the trace, {call}", operation + 1)),
                "{text}"
            );
            assert!(text.contains("on thread"), "{text}");
        }
    }
}

mod failing {
    //! Has no memory for anything after the hundredth call.
    use super::*;

    static CALLS: AtomicU64 = AtomicU64::new(0);

    unsafe extern "C" fn malloc(size: usize) -> *mut c_void {
        if CALLS.fetch_add(1, Relaxed) >= 100 {
            return core::ptr::null_mut();
        }
        // SAFETY: any size will do.
        unsafe { libc::malloc(size) }
    }

    unsafe extern "C" fn posix_memalign(
        _out: *mut *mut c_void,
        _alignment: usize,
        _size: usize,
    ) -> c_int {
        libc::ENOMEM
    }

    pub(super) fn functions() -> Functions {
        CALLS.store(0, Relaxed);
        Functions {
            malloc,
            posix_memalign,
            ..c_library()
        }
    }
}

#[test]
fn a_failure_ends_all_threads() {
    for seed in 0..30 {
        let program = ThreadedProgram::compile(&crowd(seed, 2_000, 10), Order::Threads);
        let saved = Saved::new(&program.expect("it is small"));
        let ended = verified(saved.view(), failing::functions());
        assert!(
            matches!(
                ended,
                Err(Ended::Wrong(Failure {
                    fault: Fault::Null,
                    ..
                }))
            ),
            "{ended:?}"
        );
    }
}

#[test]
fn memory_is_accounted_to_the_byte() {
    let trace = crowd(5, 4_000, 8);
    let peak = Profile::of(&trace).live_bytes_peak;
    for order in ORDERS {
        let program = ThreadedProgram::compile(&trace, order).expect("it is small");
        let saved = Saved::new(&program);
        let mut table = vec![core::ptr::null_mut(); program.slots() as usize];
        let mut amounts = vec![memory::Amounts::default(); program.slots() as usize];
        let mut curve = vec![CurvePoint::default(); 4096];
        // SAFETY: the functions are an allocator's.
        let mut crew = unsafe { Crew::new(saved.view(), &mut table, c_library()) }.expect("memory");
        let mut gauge = Gauge::open().expect("Linux has /proc");
        let faults_before = page_faults()[0];
        let found = memory::record(
            &mut crew,
            Touch::Page,
            &mut amounts,
            &mut curve,
            &mut gauge,
            false,
        )
        .expect("the C library is right");
        let faults = page_faults()[0] - faults_before;
        assert_eq!(found.operations, trace.counts().operations());
        let points = &curve[..found.points as usize];
        assert!(points.len() >= 500, "{} points", points.len());
        // Samples by time may find the same number of operations.
        assert!(points.is_sorted_by_key(|p| p.operation));
        assert!(points.is_sorted_by_key(|p| p.elapsed_ns));
        // Beside other tests the C library may have all the memory already.
        assert!(found.minor_faults <= faults);
        assert!(found.live_page_bytes_at_live_peak >= found.live_bytes_peak);
        assert!(points.iter().all(|p| p.live_bytes <= found.live_bytes_peak));
        let last = points.last().expect("500 points").live_bytes;
        assert_eq!(last, Profile::of(&trace).live_bytes_end);
        if order == Order::Strict {
            // A reallocation's old block is gone before the new one comes, here as in the profile.
            assert_eq!(found.live_bytes_peak, peak);
        } else {
            assert!(found.live_bytes_peak >= last);
        }
        assert!(found.usable_bytes_at_live_peak >= found.live_bytes_peak);
    }
}

#[test]
fn paced_waits_for_the_recorded_times() {
    let mut builder = TraceBuilder::new(testing::origin());
    let step_ns = 1_000_000;
    for event in 0..30 {
        let thread = ThreadIndex(event % 3);
        let block = builder.malloc(thread, 10);
        builder.stamp(77 + u64::from(event) * step_ns);
        builder.free(ThreadIndex((event + 1) % 3), block, false);
        builder.stamp(77 + u64::from(event) * step_ns);
    }
    let program =
        ThreadedProgram::compile(&builder.finish(), Order::Paced).expect("it has time stamps");
    assert_eq!(program.paced_time().as_nanos(), 29 * u128::from(step_ns));
    let done = verified(Saved::new(&program).view(), c_library()).expect("nothing is wrong");
    assert_eq!(done.operations, 60);
    assert!(done.elapsed_ns >= 29 * step_ns, "{done:?}");
    assert!(done.pacing_ns > 0 && done.lateness_max_ns > 0, "{done:?}");
    assert!(done.lateness_mean_ns <= done.lateness_max_ns, "{done:?}");

    let mut builder = TraceBuilder::new(testing::origin());
    builder.malloc(ThreadIndex(0), 1);
    let error = ThreadedProgram::compile(&builder.finish(), Order::Paced)
        .expect_err("there are no time stamps");
    assert!(error.to_string().contains("no time stamps"), "{error}");
    assert_eq!(error.exit_code(), 2);
}

#[test]
fn damaged_files_are_refused() {
    let program = ThreadedProgram::compile(&crowd(2, 300, 4), Order::Threads).expect("small");
    let whole = Saved::new(&program).0;
    assert!(ThreadedView::new(&whole).is_some());
    for cut in [0, 8, 71, 72, 200, whole.len() - 1] {
        assert!(ThreadedView::new(&whole[..cut]).is_none(), "{cut}");
    }
    let mut other = whole;
    other[0] ^= 1;
    assert!(ThreadedView::new(&other).is_none(), "another version");
}
