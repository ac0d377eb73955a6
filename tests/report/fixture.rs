//! Made-up results, through the types, shaped like real ones: curves, intervals, failures.

use mymalloc::measure::disturbance::Disturbance;
use mymalloc::measure::environment::Environment;
use mymalloc::measure::results::*;
use mymalloc::trace::profile::{LifetimeBucket, LivePoint, Profile, SizeBucket};
use mymalloc::trace::{EventCounts, Format, Origin};

const MIB: f64 = 1048576.0;

/// What one subject does on one workload.
#[derive(Clone, Copy)]
pub(crate) struct Behaviour {
    pub(crate) name: &'static str,
    pub(crate) kind: SubjectKind,
    pub(crate) ns: f64,
    /// Half the width of its interval, as a share.
    pub(crate) spread: f64,
    /// Peak RSS over peak live bytes.
    pub(crate) fragmentation: f64,
    pub(crate) status: Status,
    pub(crate) reason: Option<&'static str>,
}

const fn behaviour(
    name: &'static str,
    kind: SubjectKind,
    ns: f64,
    spread: f64,
    fragmentation: f64,
) -> Behaviour {
    Behaviour {
        name,
        kind,
        ns,
        spread,
        fragmentation,
        status: Status::Ok,
        reason: None,
    }
}

/// Seven subjects; the page list runs into the time limit, a preloaded one crashes.
pub(crate) fn cast() -> Vec<Behaviour> {
    let mut cast = vec![
        behaviour("pagelist", SubjectKind::Linked, 900.0, 0.04, 1.35),
        behaviour("system", SubjectKind::System, 24.1, 0.02, 1.19),
        behaviour("mimalloc", SubjectKind::Linked, 16.4, 0.015, 1.31),
        behaviour("jemalloc", SubjectKind::Linked, 19.8, 0.02, 1.12),
        behaviour("tcmalloc", SubjectKind::Preloaded, 17.0, 0.03, 1.4),
        behaviour("null", SubjectKind::Floor, 3.4, 0.01, 0.0),
        behaviour("bump", SubjectKind::Floor, 6.2, 0.02, 9.0),
    ];
    fail(
        &mut cast,
        "pagelist",
        Status::TimedOut,
        "no answer within 60 s; the process group was killed",
    );
    fail(
        &mut cast,
        "tcmalloc",
        Status::Crashed,
        "signal 11 (SIGSEGV) in operation 1,000 of the verify pass",
    );
    cast
}

/// Makes one of the cast fail.
pub(crate) fn fail(cast: &mut [Behaviour], name: &str, status: Status, reason: &'static str) {
    let member = cast
        .iter_mut()
        .find(|member| member.name == name)
        .expect("a member of the cast");
    (member.status, member.reason) = (status, Some(reason));
}

/// Sets time and spread of one of the cast.
pub(crate) fn time(cast: &mut [Behaviour], name: &str, ns: f64, spread: f64) {
    let member = cast
        .iter_mut()
        .find(|member| member.name == name)
        .expect("a member of the cast");
    (member.ns, member.spread, member.status, member.reason) = (ns, spread, Status::Ok, None);
}

/// One workload, seven subjects, ten blocks.
pub(crate) fn results() -> Results {
    assemble(&[("vim", cast())], 10, 3)
}

/// Many workloads, as `cargo bench` makes them; every second one without memory samples.
pub(crate) fn many() -> Results {
    let names = [
        "churn-16",
        "churn-64",
        "churn-1024",
        "mixed-sizes",
        "lifo",
        "fifo",
        "growing-vectors",
        "batch",
        "producer-consumer",
        "random-cross-thread-free",
        "thread-creation",
        "fleet-profile",
        "systemui",
        "surfaceflinger",
        "vim",
    ];
    let workloads: Vec<(&str, Vec<Behaviour>)> = names
        .iter()
        .enumerate()
        .map(|(n, &name)| {
            let mut cast = cast();
            let wave = |phase: f64| 1.0 + 0.3 * (n as f64 * 1.7 + phase).sin();
            time(&mut cast, "mimalloc", 18.0 * wave(0.0), 0.03);
            time(&mut cast, "jemalloc", 22.0 * wave(2.0), 0.05);
            if n % 5 != 0 {
                time(&mut cast, "tcmalloc", 20.0 * wave(4.0), 0.02);
            }
            if n % 3 == 1 {
                time(&mut cast, "pagelist", 40.0 * (1.0 + n as f64), 0.1);
            }
            (name, cast)
        })
        .collect();
    let mut results = assemble(&workloads, 10, 3);
    for name in names.iter().skip(1).step_by(2) {
        results
            .samples
            .retain(|sample| sample.workload != *name || sample.pass != Pass::Memory);
        for row in results
            .summary
            .iter_mut()
            .filter(|row| row.workload == *name)
        {
            (
                row.rss_peak_bytes,
                row.rss_peak_ratio_to_baseline,
                row.live_bytes_peak,
            ) = (None, None, None);
            (row.fragmentation_at_peak, row.fragmentation_time_weighted) = (None, None);
            (row.internal_fragmentation, row.rss_retained_bytes) = (None, None);
        }
    }
    results
}

/// A file in which nothing finished.
pub(crate) fn all_failed() -> Results {
    let mut cast = cast();
    for member in &mut cast {
        (member.status, member.reason) = (
            Status::Refused,
            Some("it did not serve the calls: malloc came from libc.so.6"),
        );
    }
    assemble(&[("vim", cast)], 10, 3)
}

/// Small enough to be read by people: the file kept in tests/data.
pub(crate) fn small() -> Results {
    let mut cast = cast();
    cast.retain(|member| ["pagelist", "system", "mimalloc", "null"].contains(&member.name));
    let mut results = assemble(&[("tiny", cast)], 1, 1);
    for sample in &mut results.samples {
        if let Some(memory) = &mut sample.memory {
            memory.curve.truncate(2);
        }
    }
    let profile = results.workloads[0].profile.as_mut();
    profile.expect("it is a trace").live_curve.truncate(2);
    results
}

/// Results of these subjects on these workloads.
pub(crate) fn assemble(
    workloads: &[(&str, Vec<Behaviour>)],
    speed_blocks: u32,
    memory_blocks: u32,
) -> Results {
    let subjects = workloads[0].1.iter().map(subject).collect();
    let mut samples = Vec::new();
    let mut summary = Vec::new();
    for (name, cast) in workloads {
        for (position, member) in cast.iter().enumerate() {
            for block in 0..speed_blocks {
                samples.push(sample(name, member, Pass::Speed, block, position as u32));
            }
            for block in 0..memory_blocks {
                samples.push(sample(name, member, Pass::Memory, block, position as u32));
            }
            summary.push(summary_row(name, member, cast, speed_blocks));
        }
    }
    Results {
        schema_version: SCHEMA_VERSION,
        settings: Settings {
            speed_blocks_min: speed_blocks,
            speed_blocks_max: speed_blocks,
            memory_blocks,
            latency_blocks: 0,
            precision: None,
            budget_seconds: None,
            passes_per_sample: 3,
            touch: Touch::Page,
            order: Some(Order::Serial),
            timeout_seconds: 60.0,
            memory_limit_bytes: None,
            baseline: "system".into(),
            baseline_twin: None,
            seed: 42,
            bootstrap_resamples: 2000,
        },
        runs: vec![Run {
            tool: Tool {
                name: "mymalloc".into(),
                version: "0.1.0".into(),
                opt_level: "3".into(),
                rustc: "rustc 1.95.0".into(),
                build: None,
            },
            started: "2026-11-22T21:04:05Z".into(),
            resumed: vec![],
            elapsed_ns: 48_200_000_000,
            command: vec![
                "replay".into(),
                "vim trace.log".into(),
                "--blocks".into(),
                speed_blocks.to_string(),
            ],
            environment: environment(),
            stops: vec![],
        }],
        workloads: workloads.iter().map(|(name, _)| workload(name)).collect(),
        subjects,
        samples,
        summary,
        warnings: vec![
            "The load average was 1.9 on 2 processors: stop other programs and measure again."
                .into(),
        ],
    }
}

fn environment() -> Environment {
    Environment {
        machine: Some("0011223344556677".into()),
        cpu: Some("Example CPU @ 2.80GHz".into()),
        cpus: 2,
        kernel: Some("6.1.0".into()),
        libc: Some("glibc 2.36".into()),
        page_size_bytes: 4096,
        memory_total_bytes: Some(8 << 30),
        memory_available_bytes: Some(5 << 30),
        cgroup_memory_limit_bytes: None,
        transparent_huge_pages: Some("madvise".into()),
        governor: None,
        aslr: Some(2),
        clock_source: Some("tsc".into()),
        load_average_start: Some(1.9),
        load_average_end: Some(2.1),
        disturbance: Some(Disturbance {
            elapsed_ns: 48_200_000_000,
            machine_cpus: Some(2),
            others_cpu_ns: Some(310_000_000),
            steal_ns: Some(10_000_000),
            cgroup_throttled_ns: None,
            thermal_throttles: None,
            frequency_limit: Some(1.0),
            swapped_pages: Some(0),
            memory_stall_ns: Some(0),
        }),
        allocator_variables: vec![],
    }
}

fn subject(member: &Behaviour) -> SubjectRecord {
    SubjectRecord {
        name: member.name.into(),
        description: format!("The {} of this made-up file.", member.name),
        kind: member.kind,
        path: (member.kind == SubjectKind::Preloaded)
            .then(|| format!("/usr/lib/lib{}.so.4", member.name)),
        version: (member.kind != SubjectKind::Floor).then(|| "1.2.3".into()),
        build: None,
        environment: Default::default(),
        twin_of: None,
        is_own: member.name == "pagelist",
    }
}

/// Live bytes after a share of the trace: grows, dips, peaks, drains to a rest.
fn live_at(share: f64) -> f64 {
    let hump = (share * 3.1).sin().max(0.0) * 9.0;
    let teeth = ((share * 40.0).fract() * 1.4 + (share * 171.0).sin().abs() * 0.5) * (1.0 - share);
    (0.6 + hump + teeth) * MIB
}

fn live_peak() -> f64 {
    (0..=200)
        .map(|n| live_at(f64::from(n) / 200.0))
        .fold(0.0, f64::max)
}

const OPERATIONS: u64 = 786_454 - 786;

fn workload(name: &str) -> WorkloadRecord {
    let sizes = [
        120, 80, 900, 5_200, 41_000, 120_431, 98_000, 61_000, 22_000, 9_100, 2_500, 800, 0, 31, 4,
    ];
    let sizes = sizes.iter().enumerate().map(|(n, &count)| {
        let high = if n == 0 { 0 } else { 1u64 << (n - 1) };
        SizeBucket {
            low_bytes: if n < 2 { high } else { (high >> 1) + 1 },
            high_bytes: high,
            count,
        }
    });
    let lifetimes = (0..18u32).map(|n| LifetimeBucket {
        low_events: if n == 0 { 1 } else { (1 << (n - 1)) + 1 },
        high_events: 1 << n,
        count: u64::from((18 - n) * (18 - n) * 200 + if n == 9 { 40_000 } else { 0 }),
    });
    WorkloadRecord {
        name: name.into(),
        description: "An editor opens a file, searches, and quits: many short-lived small blocks."
            .into(),
        bias: "One person's habits; no plugins.".into(),
        kind: WorkloadKind::Trace,
        tags: vec![],
        order: Some(Order::Serial),
        threaded: None,
        program: None,
        origin: Some(Origin {
            source: format!("{name}.log.zst"),
            format: Format::LogallocMunged,
            compression: vec!["zstd".into()],
            sha256: "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08".into(),
            dropped_lines: 0,
            dropped_examples: vec![],
            notes: vec!["The format has no alignments for calloc.".into()],
            warnings: vec![],
            recording: None,
        }),
        profile: Some(Profile {
            counts: EventCounts {
                malloc: 300_000,
                calloc: 41_000,
                realloc: 20_166,
                aligned: 12,
                free: 420_000,
                free_null: 4_490,
                free_unseen: 0,
                thread_start: 393,
                thread_end: 393,
                mark: 0,
                failed_allocation: 0,
            },
            threads: 393,
            threads_alive_peak: 23,
            cross_thread_frees: 39_114,
            requested_bytes: 912_345_678,
            live_bytes_peak: live_peak() as u64,
            live_blocks_peak: 51_234,
            live_blocks_end: 1_234,
            live_bytes_end: 654_321,
            largest_bytes: 3_000_000,
            sizes: sizes.collect(),
            lifetimes: lifetimes.collect(),
            live_curve: (0..=200u64)
                .map(|n| LivePoint {
                    event: n * (OPERATIONS + 786) / 200,
                    live_bytes: live_at(n as f64 / 200.0) as u64,
                    live_blocks: n,
                })
                .collect(),
        }),
    }
}

fn sample(workload: &str, member: &Behaviour, pass: Pass, block: u32, position: u32) -> Sample {
    let ok = member.status == Status::Ok;
    let jitter = 1.0 + member.spread * (f64::from(block * 7 + position) * 1.3).sin();
    let first = member.ns * OPERATIONS as f64 * jitter;
    Sample {
        run: 0,
        workload: workload.into(),
        subject: member.name.into(),
        pass,
        block,
        position,
        status: member.status,
        reason: member.reason.map(Into::into),
        operations: OPERATIONS,
        receipt: ok.then(|| Receipt {
            path: format!("/usr/lib/lib{}.so", member.name),
            build: None,
            version: None,
            functions: vec!["malloc".into(), "free".into()],
        }),
        speed: (ok && pass == Pass::Speed).then(|| SpeedSample {
            passes_ns: vec![first as u64, (first * 0.9) as u64, (first * 0.89) as u64],
            usage: [1_900, 12, 10]
                .map(|minor_faults| ReplayUsage {
                    minor_faults,
                    involuntary_switches: 1,
                    ..ReplayUsage::default()
                })
                .to_vec(),
            ..SpeedSample::default()
        }),
        memory: (ok && pass == Pass::Memory && member.name != "null")
            .then(|| memory(member, jitter)),
        latency: None,
        program: None,
        minor_faults: 2_345,
        major_faults: 0,
        involuntary_switches: 3,
        voluntary_switches: 1,
        steal_ns: None,
        elapsed_ns: None,
    }
}

fn memory(member: &Behaviour, jitter: f64) -> MemorySample {
    let mut held = 0.0f64;
    let mut curve = Vec::new();
    for n in 0..=200u64 {
        let live = live_at(n as f64 / 200.0);
        held = (held * 0.985).max(live * member.fragmentation * jitter);
        curve.push(MemoryPoint {
            operation: n * OPERATIONS / 200,
            elapsed_ns: n * 1_000_000,
            live_bytes: live as u64,
            usable_bytes: (live * 1.07) as u64,
            rss_bytes: held as u64,
        });
    }
    MemorySample {
        rss_start_bytes: 0,
        rss_peak_bytes: curve.iter().map(|point| point.rss_bytes).max().unwrap_or(0),
        rss_retained_bytes: (member.fragmentation * 0.4 * MIB) as u64,
        live_bytes_peak: live_peak() as u64,
        usable_bytes_peak: (live_peak() * 1.07) as u64,
        curve,
        ..MemorySample::default()
    }
}

fn summary_row(workload: &str, member: &Behaviour, cast: &[Behaviour], blocks: u32) -> SummaryRow {
    let system = cast
        .iter()
        .find(|other| other.name == "system")
        .expect("the cast has a baseline");
    let ok = member.status == Status::Ok;
    let with_base = ok && system.status == Status::Ok;
    let estimate = |value: f64, spread: f64| Estimate {
        median: value,
        low: value * (1.0 - spread),
        high: value * (1.0 + spread),
    };
    let is_base = member.name == system.name;
    let ratio_spread = if is_base { 0.0 } else { member.spread };
    let has_memory = ok && member.name != "null";
    let peak = live_peak() * member.fragmentation;
    let ratio = with_base.then(|| estimate(member.ns / system.ns, ratio_spread));
    let used = with_base.then(|| estimate(member.ns / system.ns * 1.02, ratio_spread));
    SummaryRow {
        status: member.status,
        reason: member.reason.map(Into::into),
        blocks: if ok { blocks } else { 0 },
        verdict: verdict(ratio, blocks),
        verdict_used_heap: verdict(used, blocks),
        ns_per_operation: ok.then(|| estimate(member.ns, member.spread)),
        ns_per_operation_used_heap: ok.then(|| estimate(member.ns * 0.9, member.spread)),
        ratio_to_baseline: ratio,
        ratio_to_baseline_used_heap: used,
        harness_share: ok.then(|| 3.4 / member.ns),
        rss_peak_bytes: has_memory.then_some(peak as u64),
        rss_peak_ratio_to_baseline: (has_memory && with_base)
            .then(|| member.fragmentation / system.fragmentation),
        live_bytes_peak: has_memory.then(|| live_peak() as u64),
        fragmentation_at_peak: has_memory.then_some(member.fragmentation),
        fragmentation_time_weighted: has_memory.then_some(member.fragmentation * 1.2),
        internal_fragmentation: has_memory.then_some(1.07),
        rss_retained_bytes: has_memory.then_some((member.fragmentation * 0.4 * MIB) as u64),
        ..SummaryRow::unmeasured(workload, member.name, OPERATIONS)
    }
}

/// As a summary judges an interval, but for the corrections, which need samples.
fn verdict(ratio: Option<Estimate>, blocks: u32) -> Verdict {
    match ratio {
        Some(ratio) if blocks >= 6 && ratio.high < 1.0 => Verdict::Faster,
        Some(ratio) if blocks >= 6 && ratio.low > 1.0 => Verdict::Slower,
        Some(_) if blocks >= 6 => Verdict::NotDistinguishable,
        _ => Verdict::Unknown,
    }
}
