//! Hand-computed predictions.

use super::*;
use crate::measure::results::{
    MemorySample, Pass, ProgramMemory, ProgramSample, ReplayUsage, Sample, SpeedSample, Status,
};

const MS: u64 = 1_000_000;

fn results() -> Results {
    let text = include_str!("../../../tests/data/results-v2.json");
    serde_json::from_str(text).expect("a results file")
}

fn program_sample(subject: &str, block: u32, user_ms: u64, system_ms: u64, faults: u64) -> Sample {
    Sample {
        minor_faults: faults,
        program: Some(ProgramSample {
            wall_ns: (user_ms + system_ms) * MS,
            user_ns: user_ms * MS,
            system_ns: system_ms * MS,
            output_sha256: String::new(),
            memory: None,
        }),
        ..Sample::untaken("p", subject, Pass::Program, block)
    }
}

fn program_memory(subject: &str, bytes: u64) -> Sample {
    let memory = ProgramMemory {
        rss_peak_bytes: bytes,
        rss_sum_peak_bytes: bytes,
        rss_largest_bytes: bytes,
        processes_peak: 1,
        looks: 9,
    };
    let mut sample = program_sample(subject, 0, 1, 1, 0);
    sample.pass = Pass::Memory;
    sample.program.as_mut().expect("made so").memory = Some(memory);
    sample
}

fn replay_sample(workload: &str, subject: &str, block: u32, ms: u64, faults: u64) -> Sample {
    Sample {
        operations: 1000,
        speed: Some(SpeedSample {
            passes_ns: vec![ms * MS],
            usage: vec![ReplayUsage {
                minor_faults: faults,
                ..ReplayUsage::default()
            }],
            ..SpeedSample::default()
        }),
        ..Sample::untaken(workload, subject, Pass::Speed, block)
    }
}

fn replay_memory(workload: &str, subject: &str, bytes: u64) -> Sample {
    Sample {
        operations: 1000,
        memory: Some(MemorySample {
            rss_peak_bytes: bytes,
            live_bytes_peak: 10,
            ..MemorySample::default()
        }),
        ..Sample::untaken(workload, subject, Pass::Memory, 0)
    }
}

/// A program of 1000 ms under the baseline whose two replays take 200 ms and 50 ms.
fn measured() -> (Results, Link) {
    let mut results = results();
    let record = results.workloads[0].clone();
    let named = |name: &str| {
        let mut record = record.clone();
        record.name = name.to_owned();
        record
    };
    results.workloads = ["p", "p/1", "p/2"].map(named).to_vec();
    let subject = results.subjects[0].clone();
    let names = ["base", "fast", "slow", "slower", "base-again"];
    results.subjects = names
        .iter()
        .map(|name| {
            let mut subject = subject.clone();
            subject.name = (*name).to_owned();
            subject
        })
        .collect();
    results.settings.baseline = "base".to_owned();
    results.settings.baseline_twin = Some("base-again".to_owned());
    results.samples.clear();
    for block in 0..3 {
        for (subject, user, system, faults, first, second) in [
            ("base", 900, 100, 500, 200, 50),
            ("fast", 800, 100, 500, 100, 40),
            ("slow", 940, 150, 900, 300, 50),
            ("slower", 1100, 100, 500, 390, 60),
            ("base-again", 909, 101, 500, 200, 50),
        ] {
            results
                .samples
                .push(program_sample(subject, block, user, system, faults));
            results
                .samples
                .push(replay_sample("p/1", subject, block, first, 300));
            results
                .samples
                .push(replay_sample("p/2", subject, block, second, 10));
        }
    }
    for (subject, program, replay) in [("base", 1000, 600), ("fast", 1300, 800), ("slow", 900, 500)]
    {
        results.samples.push(program_memory(subject, program));
        results.samples.push(replay_memory("p/1", subject, replay));
        results.samples.push(replay_memory("p/2", subject, 100));
    }
    results.summary = crate::measure::summary::of(&results);
    let link = Link {
        program: "p".to_owned(),
        replays: vec!["p/1".to_owned(), "p/2".to_owned()],
        touch: Touch::Page,
        operations: 2100,
        processes: 3,
        started: 2,
    };
    (results, link)
}

/// The one program of one policy, compared.
fn compared(results: &mut Results, link: Link, start_up: Option<&StartUp>) -> ProgramFidelity {
    results.summary = crate::measure::summary::of(results);
    let mut policies = of(results, &[link], start_up).policies;
    policies.remove(0).programs.remove(0)
}

fn near(one: f64, other: f64) -> bool {
    (one - other).abs() < 1e-9
}

fn names(program: &ProgramFidelity) -> Vec<&str> {
    let subjects = program.subjects.iter();
    subjects.map(|one| one.subject.as_str()).collect()
}

#[test]
fn the_formula_of_the_prediction() {
    // 1000 + 140 - 250 = 890 of 1000.
    assert_eq!(predicted_ratio(1000.0, 140.0, 250.0), Some(0.89));
    assert_eq!(predicted_ratio(1000.0, 250.0, 250.0), Some(1.0));
    assert_eq!(predicted_ratio(0.0, 1.0, 1.0), None);
    assert_eq!(predicted_ratio(100.0, 50.0, 200.0), None);
}

#[test]
fn programs_and_replays_are_compared() {
    let (results, link) = measured();
    let fidelity = of(&results, &[link], None);
    let policy = &fidelity.policies[0];
    let program = &policy.programs[0];
    assert_eq!((program.program_ns, program.replay_ns), (1000e6, 250e6));
    assert_eq!(program.operations, [2000, 2100]);
    assert_eq!(program.other_rss_bytes, Some(400.0));
    let noise = program.noise.expect("a twin");
    assert!((noise - 0.01).abs() < 1e-9, "{noise}");
    assert_eq!(names(program), ["fast", "slow", "slower"]);
    let [fast, slow, slower] = &program.subjects[..] else {
        panic!("three")
    };
    // Real 0.9, predicted (1000 - 110) / 1000.
    assert!(near(fast.real_time.median, 0.9) && near(fast.predicted_time.median, 0.89));
    assert!(near(slow.real_time.median, 1.09) && near(slow.predicted_time.median, 1.1));
    assert!(near(slower.real_time.median, 1.2) && near(slower.predicted_time.median, 1.2));
    assert_eq!(program.rank_correlation, Some(1.0));
    // Errors 0.01/0.9, 0.01/1.09, 0.
    assert!(near(program.time_error.expect("some"), 0.01 / 1.09));
    // Peak RSS of the first replay: (1000 + 200) / 1000 for real 1.3; (1000 - 100) / 1000 for 0.9.
    assert!(near(fast.predicted_rss.expect("known"), 1.2));
    assert!(near(fast.rss_error().expect("known"), 0.1 / 1.3));
    assert!(near(slow.rss_error().expect("known"), 0.0));
    // Without the 400 bytes that are not the allocator's: 900 / 600 and 800 / 600.
    assert!(near(fast.real_allocator_rss.expect("known"), 1.5));
    assert!(near(
        fast.predicted_allocator_rss.expect("known"),
        800.0 / 600.0
    ));
    assert_eq!(slower.predicted_rss, None);
    assert_eq!((slow.user_ns, slow.system_ns), (40e6, 50e6));
    assert_eq!(slow.page_faults, [400.0, 0.0]);
    assert_eq!((policy.ranked_well, policy.ranked), (1, 1));
}

#[test]
fn times_of_replays_are_cpu_time() {
    let (mut results, link) = measured();
    // Waiting for a busy machine is in the wall time only.
    for sample in results
        .samples
        .iter_mut()
        .filter(|one| one.pass == Pass::Speed)
    {
        let speed = sample.speed.as_mut().expect("made so");
        speed.process_cpu_ns = speed.passes_ns.clone();
        if sample.subject == "fast" {
            speed.passes_ns[0] *= 3;
        }
    }
    let program = compared(&mut results, link, None);
    assert!(near(program.subjects[0].predicted_time.median, 0.89));
}

#[test]
fn starting_processes_is_part_of_the_prediction() {
    let (mut results, mut link) = measured();
    link.started = 3;
    let mut record = results.workloads[0].clone();
    record.name = "start".to_owned();
    results.workloads.push(record);
    for block in 0..3 {
        for (subject, ms) in [("base", 50), ("fast", 70), ("slow", 50), ("slower", 50)] {
            let mut sample = program_sample(subject, block, ms, 0, ms);
            sample.workload = "start".to_owned();
            results.samples.push(sample);
        }
    }
    let start_up = StartUp {
        workload: "start".to_owned(),
        started: 10,
    };
    let program = compared(&mut results, link, Some(&start_up));
    let fast = &program.subjects[0];
    // 20 ms over ten starts; the program has three: 890 + 6.
    assert_eq!((fast.start_up_ns, fast.start_up_faults), (6e6, 6.0));
    assert!(near(fast.predicted_time.median, 0.896));
}

#[test]
fn what_cannot_be_predicted_is_named_with_its_reason() {
    let (mut results, link) = measured();
    // A replay under the baseline that takes longer than the program, and one that takes none.
    for sample in results
        .samples
        .iter_mut()
        .filter(|one| one.workload == "p/1")
    {
        let Some(speed) = sample.speed.as_mut() else {
            continue;
        };
        speed.passes_ns[0] = match sample.subject.as_str() {
            "base" | "base-again" => 2000 * MS,
            "fast" => 10 * MS,
            _ => 1950 * MS,
        };
    }
    let failed = |sample: &&mut Sample| sample.workload == "p" && sample.subject == "slower";
    for sample in results.samples.iter_mut().filter(failed) {
        sample.status = Status::Crashed;
        sample.reason = Some("it fell over".to_owned());
    }
    let program = compared(&mut results, link, None);
    assert_eq!(names(&program), ["slow"]);
    let [fast, slower] = &program.unpredicted[..] else {
        panic!("{:?}", program.unpredicted)
    };
    assert_eq!(
        (fast.subject.as_str(), slower.subject.as_str()),
        ("fast", "slower")
    );
    let expected =
        "the replay predicts 2000 ms less than under base, and the program takes 1000 ms";
    assert_eq!(fast.reason, expected);
    assert!(slower.reason.contains("it fell over"), "{}", slower.reason);
    let told = program.explanations.join("\n");
    assert!(
        told.contains("fast is not compared: the replay predicts"),
        "{told}"
    );
}

#[test]
fn the_largest_process_is_compared_with_the_largest_trace() {
    let (mut results, link) = measured();
    let programs = results.samples.iter_mut().filter(|one| one.workload == "p");
    for memory in programs.filter_map(|one| one.program.as_mut()?.memory.as_mut()) {
        // A second process of the same size beside it.
        memory.rss_peak_bytes *= 2;
        memory.rss_sum_peak_bytes *= 2;
    }
    let program = compared(&mut results, link, None);
    assert_eq!(program.other_rss_bytes, Some(400.0));
    assert!(near(program.subjects[0].real_rss.expect("known"), 1.3));
    assert!(near(program.subjects[0].predicted_rss.expect("known"), 1.2));
}

#[test]
fn misses_are_explained_by_where_the_time_went() {
    let (mut results, link) = measured();
    let program = compared(&mut results, link, None);
    // All are within two in a hundred; of three blocks nothing is told apart.
    let [apart] = &program.explanations[..] else {
        panic!("{program:?}")
    };
    assert!(
        apart.contains("tell none of the 6 pairs of allocators apart"),
        "{apart}"
    );
    let mut missed = program.clone();
    let about = |median: f64, width: f64| Estimate {
        median,
        low: median - width,
        high: median + width,
    };
    missed.subjects[0].predicted_time = about(0.8, 0.2);
    missed.subjects[1].predicted_time = about(1.0, 0.01);
    missed.subjects[2].predicted_time = about(1.5, 0.01);
    let told = |missed: &ProgramFidelity| explain::explain(missed);
    let [_, slow, slower, within] = &told(&missed)[..] else {
        panic!("{:?}", told(&missed))
    };
    // 400 faults are too few for 90 ms.
    let expected = "Than predicted: slow 90 ms more. Likely: what is left is in the kernel, but not in \
                    page faults";
    assert!(slow.starts_with(expected), "{slow}");
    let expected = "Than predicted: slower 300 ms less. The replay overstates the difference";
    assert!(slower.starts_with(expected), "{slower}");
    assert!(within.starts_with("fast: what was predicted"), "{within}");
    // Of one cause in one sentence.
    missed.subjects[0].predicted_time = about(1.1, 0.01);
    missed.subjects[1].predicted_time = about(1.3, 0.01);
    (missed.subjects[1].user_ns, missed.subjects[1].replay_ns) = (90e6, 300e6);
    let all = told(&missed);
    assert!(
        all.iter()
            .any(|one| one.contains("slow 210 ms less, slower 300 ms less. The replay overstates")),
        "{all:?}"
    );
    missed.replay_ns = 10e6;
    assert!(told(&missed)[0].starts_with("Of its time 1.0 %"));
}

#[test]
fn what_was_not_measured_is_left_out() {
    let (mut results, link) = measured();
    results
        .samples
        .retain(|sample| sample.workload != "p/2" || sample.subject != "base");
    results.summary = crate::measure::summary::of(&results);
    let fidelity = of(&results, &[link], None);
    assert_eq!(fidelity.policies.len(), 1);
    assert_eq!(fidelity.policies[0].programs, []);
    assert_eq!(fidelity.policies[0].time_error, None);
}
