//! Made-up results that hold every kind of data at once: two runs, a twin, threads that wait, a real
//! program, latencies, parts of memory, outliers, and each way to fail.

use std::collections::BTreeMap;

use mymalloc::measure::latency::ALL_SIZES;
use mymalloc::measure::results::*;

use crate::fixture::{assemble, cast, fail, time};

/// Name of the baseline's second run.
pub(crate) const TWIN: &str = "system-again";

/// Three workloads of three kinds, measured in two runs on two machines.
pub(crate) fn whole() -> Results {
    let mut desktop = cast();
    time(&mut desktop, "tcmalloc", 21.0, 0.02);
    time(&mut desktop, "pagelist", 300.0, 0.05);
    time(&mut desktop, "jemalloc", 24.3, 0.03);
    fail(
        &mut desktop,
        "mimalloc",
        Status::OutOfMemory,
        "killed at the memory limit of 2.00 GiB",
    );
    let mut results = assemble(&[("vim", cast()), ("systemui", desktop)], 12, 3);
    add_threads(&mut results, "systemui");
    for row in 0..results.summary.len() {
        add_details(&mut results, row);
    }
    add_twin(&mut results);
    add_outlier(&mut results, "vim", "jemalloc");
    add_program(&mut results);
    add_second_run(&mut results, "gcc");
    results.settings.precision = Some(0.015);
    results.settings.budget_seconds = Some(120.0);
    results.settings.latency_blocks = 1;
    results.settings.memory_limit_bytes = Some(2 << 30);
    results.settings.order = None;
    results.subjects.iter_mut().for_each(|subject| {
        subject.build = Some("4a8c0d2f91".into());
    });
    results
}

/// Small enough to be read by people: the file kept in tests/data. It holds every field.
pub(crate) fn small() -> Results {
    let mut results = crate::fixture::small();
    add_threads(&mut results, "tiny");
    for row in 0..results.summary.len() {
        add_details(&mut results, row);
    }
    add_twin(&mut results);
    add_program(&mut results);
    add_second_run(&mut results, "gcc");
    let kept = ["pagelist", "system", TWIN, "mimalloc", "null"];
    results
        .samples
        .retain(|sample| kept.contains(&sample.subject.as_str()) && sample.block == 0);
    results
        .summary
        .retain(|row| kept.contains(&row.subject.as_str()));
    let row = &mut results.summary[1];
    row.by_run = (0..2)
        .map(|run| RunRow {
            run,
            blocks: 1,
            ns_per_operation: row.ns_per_operation,
            ratio_to_baseline: row.ratio_to_baseline,
            ratio_to_baseline_used_heap: row.ratio_to_baseline_used_heap,
            rss_peak_bytes: row.rss_peak_bytes,
        })
        .collect();
    for row in &mut results.summary {
        row.latency.retain(|row| row.size_class_bytes == ALL_SIZES);
    }
    for latency in results
        .samples
        .iter_mut()
        .filter_map(|sample| sample.latency.as_mut())
    {
        latency.rows.truncate(2);
        latency.worst.truncate(1);
    }
    results
}

/// Runs the baseline a second time under another name.
pub(crate) fn add_twin(results: &mut Results) {
    results.settings.baseline_twin = Some(TWIN.into());
    let is_base = |name: &str| name == "system";
    let base = results
        .subjects
        .iter()
        .find(|subject| is_base(&subject.name));
    let mut twin = base.expect("a baseline").clone();
    twin.name = TWIN.into();
    twin.twin_of = Some("system".into());
    results.subjects.push(twin);
    let mut samples: Vec<Sample> = results
        .samples
        .iter()
        .filter(|sample| is_base(&sample.subject))
        .cloned()
        .collect();
    for sample in &mut samples {
        sample.subject = TWIN.into();
        if let Some(speed) = &mut sample.speed {
            let shift = 1.0 + 0.004 * (f64::from(sample.block) * 2.1).sin();
            for ns in &mut speed.passes_ns {
                *ns = (*ns as f64 * shift) as u64;
            }
        }
    }
    results.samples.extend(samples);
    let mut rows: Vec<SummaryRow> = results
        .summary
        .iter()
        .filter(|row| is_base(&row.subject))
        .cloned()
        .collect();
    for row in &mut rows {
        row.subject = TWIN.into();
        let noise = Estimate {
            median: 0.998,
            low: 0.991,
            high: 1.006,
        };
        row.ratio_to_baseline = Some(noise);
        row.ratio_to_baseline_used_heap = Some(noise);
    }
    results.summary.extend(rows);
    results.runs[0].stops = results
        .workloads
        .iter()
        .enumerate()
        .map(|(n, workload)| Stop {
            workload: workload.name.clone(),
            reason: if n == 0 {
                StopReason::Precision
            } else {
                StopReason::Budget
            },
            blocks: 12,
            widest_half_width: Some(if n == 0 { 0.0142 } else { 0.031 }),
        })
        .collect();
}

fn add_threads(results: &mut Results, name: &str) {
    let workload = results
        .workloads
        .iter_mut()
        .find(|workload| workload.name == name)
        .expect("it is there");
    workload.order = Some(Order::Threads);
    workload.threaded = Some(ThreadedRecord {
        threads: 393,
        threads_alive_peak: 23,
        edges: 39_900,
        cross_thread_frees: 39_114,
        window: None,
        window_edges: 0,
    });
    for sample in &mut results.samples {
        if let Some(speed) = sample.speed.as_mut().filter(|_| sample.workload == name) {
            speed.cpu_ns = speed.passes_ns.clone();
            speed.passes_ns.iter_mut().for_each(|ns| *ns *= 3);
            speed.waiting_ns = speed.passes_ns.iter().map(|ns| ns * 4).collect();
            speed.alive_ns = speed.passes_ns.iter().map(|ns| ns * 9).collect();
        }
    }
    for row in results
        .summary
        .iter_mut()
        .filter(|row| row.workload == name)
    {
        if let Some(time) = row.ns_per_operation {
            row.wall_ns_per_operation = Some(Estimate {
                median: time.median * 3.0,
                low: time.low * 3.0,
                high: time.high * 3.0,
            });
            row.waiting_share = Some(0.4 + time.median / 1000.0);
        }
    }
}

/// Memory in parts, retained memory at three times, system calls, latencies.
fn add_details(results: &mut Results, at: usize) {
    let row = &mut results.summary[at];
    if row.status != Status::Ok {
        return;
    }
    let (workload, subject) = (row.workload.clone(), row.subject.clone());
    let time = row.ns_per_operation.map_or(10.0, |time| time.median);
    row.rss_mean_bytes = row.rss_peak_bytes.map(|peak| peak * 7 / 10);
    row.rss_retained_1s_bytes = row.rss_retained_bytes.map(|bytes| bytes / 3);
    row.drift = row.rss_peak_bytes.map(|_| 1.0 + time / 1000.0);
    row.latency = latency_rows(time, &workload);
    let own = |sample: &&mut Sample| sample.workload == workload && sample.subject == subject;
    let mut latency_sample = None;
    for sample in results.samples.iter_mut().filter(own) {
        if sample.pass == Pass::Speed && sample.block == 0 {
            latency_sample = Some(sample.clone());
        }
        if let Some(memory) = &mut sample.memory {
            add_memory_details(memory, time);
        }
    }
    let mut sample = latency_sample.expect("a speed sample");
    sample.pass = Pass::Latency;
    sample.speed = None;
    sample.latency = Some(LatencySample {
        clock: LatencyClock::TimeStampCounter,
        clock_hertz: 2.8e9,
        clock_cost_ns: 9.3,
        clock_step_ns: 1.0,
        migrated: Some(3),
        backward: 0,
        rows: latency_rows(time, &workload),
        worst: worst(time),
    });
    results.samples.push(sample);
}

fn add_memory_details(memory: &mut MemorySample, time: f64) {
    let rss = memory.rss_peak_bytes;
    let live = memory.live_bytes_peak.min(rss * 9 / 10);
    let internal = (live / 14).min((rss - live) / 2);
    let metadata = (rss - live - internal) / 5;
    memory.rss_mean_bytes = rss * 7 / 10;
    memory.rss_retained_100ms_bytes = Some(memory.rss_retained_bytes / 2);
    memory.rss_retained_1s_bytes = Some(memory.rss_retained_bytes / 3);
    memory.live_page_bytes_peak = memory.live_bytes_peak + 18 * 2048;
    memory.drift = Some(1.0 + time / 1000.0);
    memory.parts = Some(MemoryParts {
        operation: 400_000,
        rss_bytes: rss,
        counted_bytes: rss,
        live_bytes: live,
        internal_bytes: internal,
        external_bytes: rss - live - internal - metadata,
        metadata_bytes: metadata,
    });
    memory.replay_minor_faults = rss / 4096 + 311;
    memory.replay_major_faults = 0;
    memory.system_calls = Some(BTreeMap::from([
        ("mmap".into(), 41),
        ("munmap".into(), 12),
        ("madvise".into(), (time * 10.0) as u64),
    ]));
}

fn latency_rows(time: f64, workload: &str) -> Vec<LatencyRow> {
    let scale = |factor: f64| (time * factor) as u64;
    let row = |operation: &str, size_class_bytes: u64, other_thread: bool, factor: f64| {
        let factor = factor * (1.0 + (size_class_bytes as f64).log2() / 20.0);
        let count = match size_class_bytes {
            ALL_SIZES => 250_000,
            class => 90_000 / class.max(1) + 7,
        };
        let beyond = |least: u64, factor| (count >= least).then(|| scale(factor));
        LatencyRow {
            operation: operation.into(),
            size_class_bytes,
            other_thread,
            count,
            p50_ns: scale(0.8 * factor),
            p90_ns: beyond(100, 1.5 * factor),
            p99_ns: beyond(1000, 6.0 * factor),
            p99_9_ns: beyond(10_000, 40.0 * factor),
            p99_99_ns: beyond(100_000, 400.0 * factor),
            max_ns: scale(20_000.0 * factor),
        }
    };
    let mut rows = Vec::new();
    for class in [16, 64, 256, 1024, 4096, 16_384, ALL_SIZES] {
        rows.push(row("malloc", class, false, 1.0));
        rows.push(row("free", class, false, 0.7));
        if workload == "systemui" {
            rows.push(row("free", class, true, 1.9));
        }
        if class > 200 {
            rows.push(row("realloc", class, false, 1.6));
        }
    }
    rows
}

fn worst(time: f64) -> Vec<WorstOperation> {
    (0..10u64)
        .map(|n| WorstOperation {
            operation: 1_000 + n * 53_111,
            call: format!("malloc({})", 64 << n),
            latency_ns: (time * 20_000.0) as u64 / (n + 1),
            minor_faults: 10 - n,
            major_faults: 0,
            involuntary_switches: u64::from(n == 0),
            voluntary_switches: u64::from(n == 5),
            second_latency_ns: (n != 3)
                .then_some((time * if n == 2 { 2.0 } else { 2_000.0 }) as u64),
            second_system_calls: Some(if n < 4 {
                BTreeMap::from([("mmap".into(), 1)])
            } else {
                BTreeMap::new()
            }),
        })
        .collect()
}

/// Makes one sample three times as slow, with what happened meanwhile.
pub(crate) fn add_outlier(results: &mut Results, workload: &str, subject: &str) {
    let sample = results
        .samples
        .iter_mut()
        .find(|sample| {
            sample.workload == workload
                && sample.subject == subject
                && sample.pass == Pass::Speed
                && sample.block == 5
        })
        .expect("a sample");
    for ns in &mut sample.speed.as_mut().expect("of speed").passes_ns {
        *ns *= 3;
    }
    (sample.involuntary_switches, sample.steal_ns) = (911, Some(240_000_000));
    sample.speed.as_mut().expect("of speed").usage[0].involuntary_switches = 905;
    let row = results
        .summary
        .iter_mut()
        .find(|row| row.workload == workload && row.subject == subject)
        .expect("a row");
    row.outliers = 1;
}

/// A compiler run under each subject that can be preloaded.
fn add_program(results: &mut Results) {
    let mut record = results.workloads[0].clone();
    record.name = "gcc".into();
    record.kind = WorkloadKind::Program;
    record.description = "A C compiler translates one large file.".into();
    record.bias = "One file, one optimisation level.".into();
    (record.origin, record.profile, record.order) = (None, None, None);
    record.program = Some(ProgramRecord {
        files_sha256: "0".repeat(64),
        executables: Default::default(),
        command: vec![
            "gcc".into(),
            "-O2".into(),
            "-c".into(),
            "large file.c".into(),
        ],
        setup: "apt-get install gcc".into(),
        version: Some("gcc (Debian 12.2.0-14) 12.2.0".into()),
    });
    results.workloads.push(record);
    let template = results.samples[0].clone();
    for (position, (subject, seconds, mib)) in [
        ("system", 4.1, 210u64),
        (TWIN, 4.11, 210),
        ("jemalloc", 3.9, 232),
        ("tcmalloc", 3.8, 251),
        ("mimalloc", 3.6, 244),
    ]
    .into_iter()
    .enumerate()
    {
        let is_wrong = subject == "tcmalloc";
        let reason = "its output differs: SHA-256 9f86d0 instead of 60303a";
        let blocks = (0..8u32).map(|block| (Pass::Program, block));
        let looked = (!is_wrong && subject != TWIN).then_some((Pass::Memory, 0));
        for (pass, block) in blocks.chain(looked) {
            let wall_ns = (seconds * 1e9 * (1.0 + 0.01 * f64::from(block).sin())) as u64;
            results.samples.push(Sample {
                workload: "gcc".into(),
                subject: subject.into(),
                pass,
                block,
                position: position as u32,
                status: if is_wrong { Status::Wrong } else { Status::Ok },
                reason: is_wrong.then(|| reason.into()),
                operations: 0,
                speed: None,
                memory: None,
                program: (!is_wrong).then(|| ProgramSample {
                    wall_ns,
                    user_ns: wall_ns * 8 / 10,
                    system_ns: wall_ns / 10,
                    output_sha256:
                        "60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752".into(),
                    memory: (pass == Pass::Memory).then_some(ProgramMemory {
                        rss_peak_bytes: mib << 20,
                        rss_sum_peak_bytes: mib << 20,
                        rss_largest_bytes: (mib - 20) << 20,
                        processes_peak: 3,
                        looks: 400,
                    }),
                }),
                ..template.clone()
            });
        }
        let estimate = |value: f64| Estimate {
            median: value,
            low: value * 0.994,
            high: value * 1.006,
        };
        let mut row = SummaryRow::unmeasured("gcc", subject, 1);
        if is_wrong {
            (row.status, row.reason) = (Status::Wrong, Some(reason.into()));
        } else {
            row.blocks = 8;
            row.ns_per_operation = Some(estimate(seconds * 0.9e9));
            row.wall_ns = Some(estimate(seconds * 1e9));
            row.ratio_to_baseline = Some(estimate(seconds / 4.1));
            row.verdict = if seconds < 4.0 {
                Verdict::Faster
            } else {
                Verdict::NotDistinguishable
            };
            row.rss_peak_bytes = Some(mib << 20);
            row.rss_peak_ratio_to_baseline = Some(mib as f64 / 210.0);
        }
        results.summary.push(row);
    }
}

/// Says that one workload was measured elsewhere.
fn add_second_run(results: &mut Results, workload: &str) {
    let mut run = results.runs[0].clone();
    run.started = "2026-11-23T08:00:00Z".into();
    run.environment.cpu = Some("Other CPU @ 3.10GHz".into());
    run.environment.cpus = 8;
    run.stops = vec![Stop {
        workload: workload.into(),
        reason: StopReason::Blocks,
        blocks: 8,
        widest_half_width: Some(0.006),
    }];
    results.runs.push(run);
    for sample in results
        .samples
        .iter_mut()
        .filter(|sample| sample.workload == workload)
    {
        sample.run = 1;
    }
}
