//! The generators make what their parameters say: exactly where the parameters are exact, within
//! statistical bounds where they are not. Seeds are fixed, so no test fails by chance.

use std::collections::HashMap;
use std::path::Path;

use mymalloc::trace::{Operation, Trace};
use mymalloc::workload::fleet::{self, Table};
use mymalloc::workload::synthetic::{self, Growth, Order, Parameters, Sizes};
use proptest::prelude::*;

fn synthetic(parameters: &Parameters, seed: u64) -> Trace {
    synthetic::generate("test", parameters, seed).expect("sound parameters")
}

/// Live blocks after each event, and the sizes allocated.
fn live_and_sizes(trace: &Trace) -> (Vec<u64>, Vec<u64>) {
    let mut live = 0u64;
    let mut sizes = Vec::new();
    let counts = trace
        .events()
        .iter()
        .map(|event| {
            let operation = event.operation;
            if operation.allocates().is_some() {
                sizes.push(operation.requested_bytes());
                live += 1;
            }
            if operation.releases().is_some() {
                live -= 1;
            }
            live
        })
        .collect();
    (counts, sizes)
}

const LOG_NORMAL: Sizes = Sizes::LogNormal {
    median_bytes: 55.0,
    sigma: 1.3,
    largest_bytes: 1 << 16,
};

fn examples() -> [Parameters; 6] {
    let sizes = LOG_NORMAL;
    let (live, allocations, depth) = (100, 5_000, 50);
    let (first_bytes, last_bytes, vectors) = (16, 4096, 40);
    [
        Parameters::Churn {
            sizes,
            live,
            allocations,
        },
        Parameters::Lifo {
            sizes,
            depth,
            allocations,
        },
        Parameters::Fifo {
            sizes,
            live,
            allocations,
        },
        Parameters::Vectors {
            growth: Growth::Doubling,
            first_bytes,
            last_bytes,
            live: 8,
            vectors,
        },
        Parameters::Vectors {
            growth: Growth::Constant { step_bytes: 100 },
            first_bytes,
            last_bytes,
            live: 8,
            vectors,
        },
        Parameters::Batch {
            sizes,
            batch: 500,
            rounds: 10,
            order: Order::Random,
        },
    ]
}

#[test]
fn the_same_seed_gives_the_same_trace_and_another_seed_another() {
    for parameters in examples() {
        let trace = synthetic(&parameters, 1);
        assert_eq!(trace, synthetic(&parameters, 1));
        assert_ne!(trace.events(), synthetic(&parameters, 2).events());
    }
    let table = parse("16,10,100\n64,5,50\n").expect("sound");
    let parameters = fleet_parameters(1.0, 1000);
    let make = |seed| fleet::generate("test", &parameters, &table, seed).expect("sound");
    assert_eq!(make(1), make(1));
    assert_ne!(make(1).events(), make(2).events());
}

#[test]
fn operations_are_as_many_as_foretold_and_every_block_is_freed() {
    for parameters in examples() {
        let trace = synthetic(&parameters, 3);
        assert_eq!(trace.counts().operations(), parameters.operations());
        let (live, _) = live_and_sizes(&trace);
        assert_eq!(live.last(), Some(&0), "{parameters:?}");
    }
}

#[test]
fn live_counts_are_those_of_the_pattern() {
    let [churn, lifo, fifo, doubling, _, batch] = examples();
    let peak = |parameters| {
        live_and_sizes(&synthetic(parameters, 5))
            .0
            .into_iter()
            .max()
    };
    assert_eq!(peak(&churn), Some(100));
    // The new block comes before the oldest goes.
    assert_eq!(peak(&fifo), Some(101));
    assert_eq!(peak(&doubling), Some(8));
    assert_eq!(peak(&batch), Some(500));
    assert!(peak(&lifo).is_some_and(|blocks| (2..=50).contains(&blocks)));
}

#[test]
fn blocks_die_in_the_order_of_the_pattern() {
    let freed = |parameters: &Parameters| -> Vec<u32> {
        let trace = synthetic(parameters, 7);
        trace
            .events()
            .iter()
            .filter_map(|event| event.operation.releases())
            .map(|block| block.0)
            .collect()
    };
    let [_, lifo, fifo, ..] = examples();
    assert!(freed(&fifo).is_sorted());
    // A stack: whatever is freed is the youngest live block.
    let mut stack = Vec::new();
    for event in synthetic(&lifo, 7).events() {
        stack.extend(event.operation.allocates());
        if let Some(block) = event.operation.releases() {
            assert_eq!(stack.pop(), Some(block));
        }
    }
    let (batch, rounds, sizes) = (4, 2, Sizes::Fixed { bytes: 8 });
    let order = |order| {
        freed(&Parameters::Batch {
            sizes,
            batch,
            rounds,
            order,
        })
    };
    assert_eq!(order(Order::Forward), [0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(order(Order::Reverse), [3, 2, 1, 0, 7, 6, 5, 4]);
}

#[test]
fn vectors_grow_as_told() {
    let vector = |growth| Parameters::Vectors {
        growth,
        first_bytes: 16,
        last_bytes: 100,
        live: 1,
        vectors: 1,
    };
    let sizes = |growth| live_and_sizes(&synthetic(&vector(growth), 1)).1;
    assert_eq!(sizes(Growth::Doubling), [16, 32, 64, 128]);
    assert_eq!(
        sizes(Growth::Constant { step_bytes: 40 }),
        [16, 56, 96, 136]
    );
}

#[test]
fn log_normal_sizes_have_the_stated_median_and_spread() {
    let parameters = Parameters::Churn {
        sizes: LOG_NORMAL,
        live: 1,
        allocations: 100_000,
    };
    let (_, mut sizes) = live_and_sizes(&synthetic(&parameters, 11));
    sizes.sort_unstable();
    // Quantiles of the normal distribution; 100,000 draws put each within 2 % with ease.
    for (quantile, z) in [(0.1587, -1.0), (0.5, 0.0), (0.8413, 1.0), (0.9772, 2.0)] {
        let found = sizes[(quantile * sizes.len() as f64) as usize] as f64;
        let expected = 55.0 * f64::exp(1.3 * z);
        assert!(
            (found / expected - 1.0).abs() < 0.04,
            "{found} for {expected}"
        );
    }
    assert!(sizes.last().is_some_and(|bytes| *bytes <= 1 << 16));
}

#[test]
fn unsound_parameters_are_refused_with_the_reason() {
    let sizes = Sizes::Fixed { bytes: 16 };
    let churn = |live, allocations| Parameters::Churn {
        sizes,
        live,
        allocations,
    };
    let batch = |sizes| Parameters::Batch {
        sizes,
        batch: 1,
        rounds: 1,
        order: Order::Forward,
    };
    let backwards = Sizes::Uniform {
        smallest_bytes: 2,
        largest_bytes: 1,
    };
    let endless = Sizes::LogNormal {
        median_bytes: 100.0,
        sigma: 0.1,
        largest_bytes: 1,
    };
    for (parameters, reason) in [
        (churn(0, 10), "live must be from 1"),
        (churn(11, 10), "live must be from 1"),
        (churn(1, u64::MAX), "limit"),
        (batch(backwards), "smallest_bytes 2"),
        (batch(endless), "below the median"),
    ] {
        let error = synthetic::generate("name", &parameters, 1).expect_err("unsound");
        let text = error.to_string();
        assert!(
            text.starts_with("workload name: ") && text.contains(reason),
            "{text}"
        );
    }
    let table: toml::Table = "[churn]\nlive = 1\nallocations = 1\nsize = 3\n\
                              sizes = { fixed = { bytes = 3 } }"
        .parse()
        .expect("TOML");
    let error = table
        .try_into::<Parameters>()
        .expect_err("no field is called size");
    assert!(error.to_string().contains("size"), "{error}");
}

fn parse(text: &str) -> mymalloc::error::Result<Table> {
    Table::parse(Path::new("dir/table.csv"), text)
}

fn fleet_parameters(scale: f64, operations: u64) -> fleet::Parameters {
    fleet::Parameters {
        table: "table.csv".into(),
        scale,
        largest_bytes: 1 << 20,
        operations,
    }
}

#[test]
fn tables_are_read_with_and_without_a_heading() {
    let plain = parse("1, 2.5, 3\n\n8,0,1e3\n").expect("sound");
    let headed = parse("size,alloc_rate,num_live\n1,2.5,3\n8,0,1000\n").expect("sound");
    assert_eq!(plain, headed);
    assert_eq!(plain.rows().len(), 2);
    assert_eq!(plain.rows()[0].alloc_rate, 2.5);
}

#[test]
fn bad_tables_are_refused_with_the_line() {
    for (text, message) in [
        (
            "1,2,3\n4,5\n",
            "dir/table.csv:2: expected `size,alloc_rate,num_live`",
        ),
        ("1,2,3\n4,5,6,7\n", "dir/table.csv:2: expected"),
        ("1,2,3\nsize,5,6\n", "dir/table.csv:2: expected"),
        ("-1,2,3\n", "dir/table.csv:1: expected"),
        ("1,-2,3\n", "dir/table.csv:1: rate and live count"),
        ("1,nan,3\n", "dir/table.csv:1: rate and live count"),
        ("1,2,inf\n", "dir/table.csv:1: rate and live count"),
        ("1,2,3\n1,2,3\n", "dir/table.csv:2: size 1 appears a second"),
        ("99999999999999999999,1,1\n", "dir/table.csv:1: expected"),
        ("", "dir/table.csv: no size"),
        (
            "size,alloc_rate,num_live\n1,0,5\n",
            "dir/table.csv: no size",
        ),
    ] {
        let error = parse(text).expect_err(text).to_string();
        assert!(error.starts_with(message), "`{text}`: {error}");
    }
    let error = Table::read(Path::new("no/such/table.csv")).expect_err("missing");
    assert!(
        error
            .to_string()
            .starts_with("no/such/table.csv: cannot read")
    );
}

#[test]
fn unsound_fleet_parameters_are_refused() {
    let table = parse("16,10,100\n").expect("sound");
    let mut small = fleet_parameters(1.0, 10);
    small.largest_bytes = 8;
    for (parameters, reason) in [
        (fleet_parameters(0.0, 10), "scale must be above 0"),
        (fleet_parameters(f64::NAN, 10), "scale must be above 0"),
        (fleet_parameters(1e12, 10), "choose a smaller scale"),
        (fleet_parameters(1.0, u64::MAX), "limit"),
        (fleet_parameters(1.0, 0), "operations must be"),
        (small, "no size up to largest_bytes"),
    ] {
        let error = fleet::generate("name", &parameters, &table, 1).expect_err(reason);
        assert!(error.to_string().contains(reason), "{error}");
    }
}

/// What a fleet trace did: blocks live when the fill ended and at the end, and births in between.
#[derive(Default)]
struct Census {
    filled: HashMap<u64, u64>,
    left: HashMap<u64, u64>,
    births: HashMap<u64, u64>,
    total_births: u64,
    fill_length: usize,
}

fn census(trace: &Trace, operations: u64) -> Census {
    let fill_length = trace.events().len() - operations as usize;
    let mut census = Census {
        fill_length,
        ..Census::default()
    };
    let mut sizes = Vec::new();
    for (index, event) in trace.events().iter().enumerate() {
        match event.operation {
            Operation::Malloc { size, .. } => {
                sizes.push(size);
                *census.left.entry(size).or_default() += 1;
                if index >= fill_length {
                    *census.births.entry(size).or_default() += 1;
                    census.total_births += 1;
                } else {
                    *census.filled.entry(size).or_default() += 1;
                }
            }
            Operation::Free { block, .. } => {
                let count = census.left.get_mut(&sizes[block.0 as usize]);
                *count.expect("allocated before") -= 1;
            }
            other => panic!("a fleet trace only allocates and frees: {other:?}"),
        }
    }
    census
}

/// Pearson's statistic of counts against their expectations, in standard deviations from its mean.
fn pearson(found: &HashMap<u64, u64>, expected: impl Iterator<Item = (u64, f64)>) -> f64 {
    let (mut sum, mut degrees) = (0.0, 0.0);
    for (size, mean) in expected.filter(|(_, mean)| *mean >= 5.0) {
        let count = found.get(&size).copied().unwrap_or(0) as f64;
        sum += (count - mean) * (count - mean) / mean;
        degrees += 1.0;
    }
    assert!(degrees > 50.0, "enough sizes to compare: {degrees}");
    (sum - degrees) / f64::sqrt(2.0 * degrees)
}

#[test]
fn fleet_traces_follow_the_bundled_tables() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("workloads/fleet");
    for (file, scale) in [
        ("fleetbench-tcmalloc-3.csv", 0.02),
        ("empirical-beta.csv", 0.25),
    ] {
        let table = Table::read(&folder.join(file)).expect("a sound table");
        let parameters = fleet_parameters(scale, 400_000);
        let trace = fleet::generate("test", &parameters, &table, 1).expect("sound");
        let census = census(&trace, parameters.operations);
        let kept = || table.rows().iter().filter(|row| row.size_bytes <= 1 << 20);
        let live = || kept().map(|row| (row.size_bytes, row.num_live * scale));
        let expected_live: f64 = live().map(|(_, mean)| mean).sum();
        // The number of live blocks is Poisson at any moment.
        for blocks in [&census.filled, &census.left] {
            let total = blocks.values().sum::<u64>() as f64;
            assert!(
                (total - expected_live).abs() < 5.0 * expected_live.sqrt(),
                "{file}: {total}"
            );
            let deviation = pearson(blocks, live());
            assert!(
                deviation.abs() < 5.0,
                "{file}: live counts are {deviation} deviations off"
            );
        }
        let rate: f64 = kept().map(|row| row.alloc_rate).sum();
        let births = census.total_births as f64;
        let expected = kept().map(|row| (row.size_bytes, row.alloc_rate / rate * births));
        let deviation = pearson(&census.births, expected);
        assert!(
            deviation.abs() < 5.0,
            "{file}: births are {deviation} deviations off"
        );
        // As many die as are born, within what the live count may vary.
        let deaths = parameters.operations as f64 - births;
        assert!(
            (births - deaths).abs() < 10.0 * expected_live.sqrt(),
            "{file}"
        );
        assert_eq!(
            census.fill_length as u64,
            census.filled.values().sum::<u64>()
        );
    }
}

fn any_sizes() -> impl Strategy<Value = Sizes> {
    prop_oneof![
        (0u64..10_000).prop_map(|bytes| Sizes::Fixed { bytes }),
        (0u64..1000, 0u64..1000).prop_map(|(smallest_bytes, more)| Sizes::Uniform {
            smallest_bytes,
            largest_bytes: smallest_bytes + more,
        }),
        (1.0f64..1000.0, 0.0f64..3.0).prop_map(|(median_bytes, sigma)| Sizes::LogNormal {
            median_bytes,
            sigma,
            largest_bytes: 1 << 20,
        }),
    ]
}

fn any_parameters() -> impl Strategy<Value = Parameters> {
    let order = prop_oneof![
        Just(Order::Forward),
        Just(Order::Reverse),
        Just(Order::Random)
    ];
    let growth = prop_oneof![
        Just(Growth::Doubling),
        (1u64..500).prop_map(|step_bytes| Growth::Constant { step_bytes }),
    ];
    prop_oneof![
        (any_sizes(), 1u64..50, 0u64..200).prop_map(|(sizes, live, more)| Parameters::Churn {
            sizes,
            live,
            allocations: live + more,
        }),
        (any_sizes(), 1u64..50, 0u64..200).prop_map(|(sizes, live, more)| Parameters::Fifo {
            sizes,
            live,
            allocations: live + more,
        }),
        (any_sizes(), 1u64..50, 1u64..200).prop_map(|(sizes, depth, allocations)| {
            Parameters::Lifo {
                sizes,
                depth,
                allocations,
            }
        }),
        (growth, 1u64..100, 0u64..5000, 1u64..8, 0u64..20).prop_map(
            |(growth, first_bytes, last_bytes, live, more)| Parameters::Vectors {
                growth,
                first_bytes,
                last_bytes,
                live,
                vectors: live + more,
            }
        ),
        (any_sizes(), 1u64..50, 1u64..5, order).prop_map(|(sizes, batch, rounds, order)| {
            Parameters::Batch {
                sizes,
                batch,
                rounds,
                order,
            }
        }),
    ]
}

proptest! {
    #[test]
    fn any_sound_parameters_give_the_foretold_operations(
        parameters in any_parameters(),
        seed in any::<u64>(),
    ) {
        let trace = synthetic(&parameters, seed);
        prop_assert_eq!(trace.counts().operations(), parameters.operations());
        let (live, _) = live_and_sizes(&trace);
        prop_assert_eq!(live.last().copied(), Some(0));
    }

    #[test]
    fn any_text_is_a_table_or_an_error_that_names_the_file(text in "[0-9a-z,. \n-]{0,80}") {
        if let Err(error) = parse(&text) {
            prop_assert!(error.to_string().starts_with("dir/table.csv:"));
        }
    }
}
