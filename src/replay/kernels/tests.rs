use super::*;
use crate::subject::functions::Functions;

const KERNELS: [Kernel; 3] = [
    Kernel::ProducerConsumer {
        blocks: 10_000,
        size: 64,
        ring: 32,
    },
    Kernel::CrossFree {
        exchanges: 5_000,
        slots: 101,
        smallest: 16,
        largest: 512,
        seed: 1,
    },
    Kernel::ThreadCreation {
        threads: 50,
        blocks: 20,
        size: 256,
    },
];

mod counted {
    //! The C library's allocator, counting calls; one table per test, since tests share a process.
    use super::*;

    pub(super) static MALLOCS: AtomicU64 = AtomicU64::new(0);
    pub(super) static FREES: AtomicU64 = AtomicU64::new(0);

    unsafe extern "C" fn malloc(size: usize) -> *mut c_void {
        MALLOCS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: any size will do.
        unsafe { libc::malloc(size) }
    }

    unsafe extern "C" fn free(block: *mut c_void) {
        FREES.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the caller's promise.
        unsafe { libc::free(block) }
    }

    pub(super) fn functions() -> Functions {
        Functions {
            malloc,
            free,
            ..Functions::resolved().expect("the C library has them all")
        }
    }
}

mod failing {
    //! Fails from the hundredth call on.
    use super::*;

    static CALLS: AtomicU64 = AtomicU64::new(0);

    unsafe extern "C" fn malloc(size: usize) -> *mut c_void {
        if CALLS.fetch_add(1, Ordering::Relaxed) >= 100 {
            return core::ptr::null_mut();
        }
        // SAFETY: any size will do.
        unsafe { libc::malloc(size) }
    }

    pub(super) fn functions() -> Functions {
        CALLS.store(0, Ordering::Relaxed);
        Functions {
            malloc,
            ..Functions::resolved().expect("the C library has them all")
        }
    }
}

#[test]
fn every_operation_is_performed_exactly_once() {
    let functions = counted::functions();
    for kernel in KERNELS {
        counted::MALLOCS.store(0, Ordering::Relaxed);
        counted::FREES.store(0, Ordering::Relaxed);
        let timed = kernel
            .run(&functions, Touch::Page)
            .expect("the C library does not fail");
        assert_eq!(timed.operations, kernel.operations());
        // Exchanges leave the slots full: filling and emptying them is outside the time.
        let outside = match kernel {
            Kernel::CrossFree { slots, .. } => slots,
            _ => 0,
        };
        let mallocs = counted::MALLOCS.load(Ordering::Relaxed);
        assert_eq!(mallocs, kernel.operations() / 2 + outside, "{kernel}");
        assert_eq!(counted::FREES.load(Ordering::Relaxed), mallocs, "{kernel}");
    }
}

#[test]
fn an_allocator_that_returns_null_ends_the_kernel() {
    for kernel in KERNELS {
        let failure = kernel
            .run(&failing::functions(), Touch::Page)
            .expect_err("it fails");
        assert_eq!(failure.fault, Fault::Null);
        assert!(failure.operation < kernel.operations() as usize);
    }
}

#[test]
fn memory_is_accounted_to_the_byte() {
    let functions = Functions::resolved().expect("the C library has them all");
    for kernel in KERNELS {
        let mut gauge = Gauge::open().expect("Linux has /proc");
        let mut curve = vec![CurvePoint::default(); 2000];
        let found = kernel
            .record(&functions, Touch::Page, &mut curve, &mut gauge, false)
            .expect("it works");
        let points = &curve[..found.points as usize];
        assert!(points.len() >= 500, "{} points for {kernel}", points.len());
        // Each operation has at most one point, and the end has one more: what the last call did is
        // seen only after it. Time passes between any two.
        let (_, before_end) = points.split_last().expect("checked above");
        assert!(before_end.is_sorted_by(|one, next| one.operation < next.operation));
        assert!(points.is_sorted_by(|one, next| one.operation <= next.operation));
        assert!(points.is_sorted_by(|one, next| one.elapsed_ns < next.elapsed_ns));
        assert!(
            points
                .iter()
                .all(|point| point.usable_bytes >= point.live_bytes)
        );
        let peak = points
            .iter()
            .map(|point| point.live_bytes)
            .max()
            .unwrap_or(0);
        assert!(peak <= found.live_bytes_peak);
        let (low, high) = match kernel {
            // The ring is full at most, and one block is in each thread's hands.
            Kernel::ProducerConsumer { size, ring, .. } => (size, (ring + 2) * size),
            Kernel::CrossFree {
                slots,
                smallest,
                largest,
                ..
            } => (slots * smallest, (slots + 2) * largest),
            Kernel::ThreadCreation { blocks, size, .. } => (blocks * size, blocks * size),
        };
        assert!(
            (low..=high).contains(&found.live_bytes_peak),
            "{kernel}: {found:?}"
        );
        if !matches!(kernel, Kernel::CrossFree { .. }) {
            assert_eq!(
                points.last().map(|point| point.live_bytes),
                Some(0),
                "{kernel}"
            );
        }
    }
}

#[test]
fn text_form_round_trips() {
    for kernel in KERNELS {
        assert_eq!(kernel.to_string().parse(), Ok(kernel));
    }
    assert_eq!(
        KERNELS[0].to_string(),
        "producer-consumer blocks=10000 size=64 ring=32"
    );
}

#[test]
fn wrong_texts_are_refused_with_the_reason() {
    for (text, reason) in [
        ("", "empty"),
        ("philosophers forks=5", "philosophers"),
        ("producer-consumer blocks=1 size=64", "ring"),
        ("producer-consumer blocks=1 size=64 ring=4 rings=4", "rings"),
        (
            "producer-consumer blocks=many size=64 ring=4",
            "blocks=many",
        ),
        (
            "producer-consumer blocks=0 size=64 ring=4",
            "blocks must be at least 1",
        ),
        ("thread-creation threads=1 blocks=1 size=1", "from 8"),
        (
            "cross-free exchanges=1 slots=1 smallest=64 largest=16 seed=0",
            "ascend",
        ),
        (
            "producer-consumer blocks=9000000000 size=64 ring=4",
            "limit",
        ),
    ] {
        let error = text.parse::<Kernel>().expect_err(text);
        assert!(error.contains(reason), "`{text}`: {error}");
    }
}

#[test]
fn both_threads_visit_all_slots_in_orders_of_their_own() {
    // Otherwise neither would find what the other left, or both would at the same moment.
    let slots = KERNELS[1].plans().map(|plan| {
        let visited: Vec<u32> = plan.steps.iter().map(|step| step.slot).collect();
        visited
    });
    assert_ne!(slots[0], slots[1]);
    for mut visited in slots {
        visited.sort_unstable();
        visited.dedup();
        assert_eq!(visited, (0..101).collect::<Vec<u32>>());
    }
}

#[test]
fn one_order_has_the_kernels_operations() {
    for kernel in KERNELS {
        let trace = kernel.one_order("name");
        assert_eq!(trace.counts().operations(), kernel.operations(), "{kernel}");
        assert_eq!(
            u64::from(trace.thread_count()),
            kernel.threads(),
            "{kernel}"
        );
        let mut allocated_by = Vec::new();
        let mut crossing = 0;
        for event in trace.events() {
            if event.operation.allocates().is_some() {
                allocated_by.push(event.thread);
            }
            if let Some(block) = event.operation.releases() {
                crossing += u64::from(allocated_by[block.0 as usize] != event.thread);
            }
        }
        let frees = trace.counts().free;
        match kernel {
            Kernel::ProducerConsumer { .. } => assert_eq!(crossing, frees),
            // A fair coin, 9,899 frees or more: within five standard deviations of a half.
            Kernel::CrossFree { .. } => assert!(crossing.abs_diff(frees / 2) < 250, "{crossing}"),
            Kernel::ThreadCreation { .. } => assert_eq!(crossing, 0),
        }
    }
}
