//! Properties of fit and generator together.

use proptest::prelude::*;

use super::distance::{Distance, Shape};
use super::*;
use crate::trace::builder::TraceBuilder;
use crate::trace::{BlockId, EventCounts, Origin, ThreadIndex, Trace, testing};
use crate::workload::definition as definitions;
use crate::workload::random::Random;
use crate::workload::source::Source;

/// The counts of what a model keeps: all that an allocator serves.
fn served(trace: &Trace) -> EventCounts {
    EventCounts {
        free_unseen: 0,
        thread_start: 0,
        thread_end: 0,
        mark: 0,
        failed_allocation: 0,
        ..*trace.counts()
    }
}

fn told() -> Told {
    Told {
        name: "m".to_owned(),
        description: "d \"quoted\"".to_owned(),
        stands_for: "s".to_owned(),
        origin: "o".to_owned(),
        bias: "b".to_owned(),
    }
}

/// Through the file and back.
fn reread(parameters: &Parameters, seed: u64) -> Source {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("m.toml");
    std::fs::write(&path, definition(&told(), parameters, seed)).expect("written");
    Source::of(&definitions::load(&path).expect("sound")).expect("sound")
}

proptest! {
    #[test]
    fn calls_of_each_kind_are_exactly_as_many(trace in testing::traces(400), seed in 0u64..1000) {
        prop_assume!(trace.counts().operations() > 0);
        let parameters = fit(&trace).expect("has operations");
        prop_assert_eq!(parameters.check(), Ok(()));
        prop_assert_eq!(parameters.operations(), trace.counts().operations());
        let generated = generate("m", &parameters, seed).expect("sound");
        prop_assert_eq!(served(&generated), served(&trace));
        prop_assert!(generated.thread_count() <= trace.thread_count());
        prop_assert_eq!(&generate("m", &parameters, seed).expect("sound"), &generated);
        let Source::Model(read, read_seed) = reread(&parameters, seed) else {
            panic!("a model");
        };
        prop_assert_eq!((*read, read_seed), (parameters, seed));
    }
}

/// A program with phases: the heap grows, then small blocks come and go and vectors grow by `realloc`,
/// then all is torn down in the reverse order.
fn phased() -> Trace {
    let mut builder = TraceBuilder::new(Origin::generated("phased", Vec::new()));
    let mut random = Random::new(3);
    let thread = |number| ThreadIndex(number);
    let mut base: Vec<BlockId> = (0..20_000)
        .map(|n| builder.malloc(thread(0), 40 + 8 * (n % 5)))
        .collect();
    let mut vector = (builder.malloc(thread(1), 64), 64);
    let mut young: std::collections::VecDeque<BlockId> = std::collections::VecDeque::new();
    for turn in 0..30_000 {
        young.push_back(builder.calloc(thread(1), 1, 500 + random.below(4000)));
        // Lifetimes from a few operations to some hundred.
        while young.len() as u64 > random.below(60) + random.below(60) {
            let block = young.pop_front().expect("longer than 20");
            builder.free(thread(u32::from(turn % 10 == 0) + 1), block, true);
        }
        if turn % 50 == 0 {
            let (block, size) = vector;
            vector = match size < 100_000 {
                true => (builder.realloc(thread(1), Some(block), size * 2), size * 2),
                false => {
                    builder.free(thread(1), block, true);
                    (builder.malloc(thread(1), 64), 64)
                }
            };
        }
    }
    while let Some(block) = base.pop() {
        builder.free(thread(0), block, true);
    }
    builder.finish()
}

#[test]
fn a_model_is_like_its_trace_and_small() {
    let trace = phased();
    let parameters = fit(&trace).expect("has operations");
    assert!(
        (3..=12).contains(&parameters.phases.len()),
        "{}",
        parameters.phases.len()
    );
    assert_eq!(parameters.sized_percent, 100);
    // The tear-down frees the youngest first.
    let last = parameters.phases.last().expect("some");
    assert!(
        last.order_percent.iter().all(|order| *order < -90),
        "{last:?}"
    );
    let text = definition(&told(), &parameters, 1);
    assert!(text.len() < 100 << 10, "{} bytes", text.len());
    let generated = generate("m", &parameters, 1).expect("sound");
    let shapes = [Shape::of(&trace), Shape::of(&generated)];
    let distance = Distance::between(&shapes[0], &shapes[1]);
    assert!(distance.sizes < 0.04, "{distance:?}");
    assert!(distance.lifetimes < 0.06, "{distance:?}");
    assert!(distance.live_bytes < 0.05, "{distance:?}");
    let within =
        |one: u64, other: u64, share: f64| (one as f64 - other as f64).abs() <= share * one as f64;
    let [one, other] = &shapes;
    assert!(within(one.requested_bytes, other.requested_bytes, 0.001));
    assert!(within(one.live_bytes_peak, other.live_bytes_peak, 0.1));
    assert_eq!(one.cross_thread_frees, other.cross_thread_frees);
    assert_eq!(one.threads, other.threads);
}

#[test]
fn a_model_is_bounded_whatever_the_trace() {
    let mut builder = TraceBuilder::new(Origin::generated("wild", Vec::new()));
    let mut random = Random::new(5);
    let mut live = Vec::new();
    for _ in 0..60_000 {
        let thread = ThreadIndex(random.below(300) as u32);
        if random.below(3) == 0 && !live.is_empty() {
            let block = live.swap_remove(random.index(live.len()));
            if random.below(3) == 0 {
                live.push(builder.realloc(thread, Some(block), random.below(1 << 20)));
            } else {
                builder.free(thread, block, false);
            }
        } else {
            let limit = 1 << random.below(24);
            live.push(builder.malloc(thread, random.below(limit)));
        }
    }
    let trace = builder.finish();
    let parameters = fit(&trace).expect("has operations");
    assert!(parameters.cell_count() <= CELL_LIMIT);
    let text = definition(&told(), &parameters, 1);
    assert!(text.len() < 100 << 10, "{} bytes", text.len());
    let generated = generate("m", &parameters, 9).expect("sound");
    assert_eq!(served(&generated), served(&trace));
}

#[test]
fn an_empty_trace_has_no_model() {
    let empty = TraceBuilder::new(Origin::generated("empty", Vec::new())).finish();
    let error = fit(&empty).expect_err("nothing to fit").to_string();
    assert!(error.contains("no allocator operation"), "{error}");
}

#[test]
fn senseless_models_are_told_with_their_line() {
    let mut builder = TraceBuilder::new(Origin::generated("tiny", Vec::new()));
    let block = builder.malloc(ThreadIndex(0), 64);
    let block = builder.realloc(ThreadIndex(0), Some(block), 128);
    builder.free(ThreadIndex(0), block, false);
    builder.free_null(ThreadIndex(0));
    let good = definition(&told(), &fit(&builder.finish()).expect("sound"), 1);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("m.toml");
    let tried = |text: &str| {
        std::fs::write(&path, text).expect("written");
        Source::of(&definitions::load(&path)?)
    };
    tried(&good).expect("sound");
    for (from, to, expected) in [
        (
            "sized_percent = 0",
            "sized_percent = 101",
            "sized_percent must be from 0 to 100",
        ),
        ("[[0,0,4]],", "[[0,1,4]],", "threads: from window 0 to 1"),
        (
            "births = [\n2,",
            "births = [\n3,",
            "births: the windows have 3 together",
        ),
        (
            "[1,0,0,1,0,1,1,0],",
            "[1,0,0,1,0,1,0,0],",
            "cells: 1 blocks begin by realloc",
        ),
        (
            "[1,0,0,1,0,1,1,0],",
            "[1,9,0,1,0,1,1,0],",
            "cells: there is no call 9",
        ),
        (
            "[1,0,0,1,0,1,1,0],",
            "[1,0,0,1,0,128,1,0],",
            "cells: an end is 0",
        ),
        (
            "[1,0,0,1,0,1,1,0],",
            "[1,0,0,1,0,1000,1,0],",
            "cells: window 0 does not come",
        ),
        ("[1,0,0,1,0,1,1,0],", "[1,0,0,1],", "invalid length 4"),
        ("\"malloc\"", "\"maloc\"", "calls: `maloc` is none"),
        (
            "repeat_percent",
            "repeat_precent",
            "unknown key `repeat_precent`",
        ),
        ("seed = 1", "", "missing key `seed`"),
    ] {
        assert!(good.contains(from), "{from} is not in\n{good}");
        let text = tried(&good.replacen(from, to, 1))
            .expect_err(to)
            .to_string();
        assert!(text.contains(expected), "{text} is not {expected}");
        assert!(text.contains("m.toml:"), "{text}");
    }
}
