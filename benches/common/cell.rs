//! One workload under one subject: probe, memory pass, criterion.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::Duration;

use criterion::BenchmarkGroup;
use criterion::measurement::WallTime;
use mymalloc::error::{Error, Result};
use mymalloc::measure::environment::default_memory_limit_bytes;
use mymalloc::measure::results::{Pass, Sample, Status, Touch};
use mymalloc::run::engine::Cell;
use mymalloc::run::execute::{Prepared, place};
use mymalloc::run::request::Request;
use mymalloc::run::session::Session;
use mymalloc::subject::Subject;
use mymalloc::workload::random::Random;

use super::invocation::{Invocation, Mode};

/// What is written into new blocks.
pub(crate) const TOUCH: Touch = Touch::Page;
/// Bytes by which the environment may move a child's stack: more than an OS page.
const ENVIRONMENT_BYTES_LIMIT: usize = 8192;
/// Points kept of a memory curve: what a chart can show.
const CURVE_POINTS: usize = 256;

/// Takes samples and keeps them.
pub(crate) struct Bench {
    pub(crate) session: Session,
    pub(crate) invocation: Invocation,
    pub(crate) samples: Vec<Sample>,
    pub(crate) memory_limit_bytes: Option<u64>,
    random: Random,
}

/// A sample, and the sum of the times of its passes.
struct Taken {
    sample: Sample,
    total: Duration,
}

/// Unwinds through criterion when a sample has failed, since its closure must return a time and
/// there is none. Caught in [`Bench::measure`].
struct Stopped;

impl Bench {
    pub(crate) fn new(session: Session, invocation: Invocation) -> Self {
        Self {
            session,
            invocation,
            samples: Vec::new(),
            memory_limit_bytes: default_memory_limit_bytes(),
            random: Random::new(super::SEED),
        }
    }

    /// Tells the user something that is no result.
    pub(crate) fn note(&self, text: &str) {
        eprintln!("{text}");
    }

    /// Benches one cell. A subject that fails is kept as a failed sample; errors are the harness's.
    pub(crate) fn cell(
        &mut self,
        group: &mut BenchmarkGroup<'_, WallTime>,
        workload: &Prepared,
        subject: &Subject,
    ) -> Result<()> {
        let limit = self.invocation.probe_timeout();
        let probe = self.take(workload, subject, Pass::Speed, 1, limit)?;
        if probe.sample.status != Status::Ok {
            self.keep_failed(probe.sample);
            return Ok(());
        }
        if self.invocation.mode == Mode::Measure {
            let mut memory = self
                .take(workload, subject, Pass::Memory, 1, limit * 5)?
                .sample;
            if memory.status != Status::Ok {
                self.keep_failed(memory);
                return Ok(());
            }
            thin_curve(&mut memory);
            self.samples.push(memory);
        }
        self.measure(group, workload, subject, probe.total)
    }

    /// Lets criterion measure, and keeps the samples that it counted.
    fn measure(
        &mut self,
        group: &mut BenchmarkGroup<'_, WallTime>,
        workload: &Prepared,
        subject: &Subject,
        pass: Duration,
    ) -> Result<()> {
        let sample_size = self.invocation.sample_size(pass);
        group.sample_size(sample_size);
        let mut taken: Vec<Sample> = Vec::new();
        let mut error: Option<Error> = None;
        let benched = catch_unwind(AssertUnwindSafe(|| {
            group.bench_function(&subject.name, |bencher| {
                bencher.iter_custom(|passes| {
                    let passes = u32::try_from(passes).unwrap_or(u32::MAX);
                    // Generous: a crash is what must not hang; slowness was probed.
                    let limit = Duration::from_secs(10) + pass * 10 * passes;
                    match self.take(workload, subject, Pass::Speed, passes, limit) {
                        Ok(one) => {
                            let failed = one.sample.status != Status::Ok;
                            taken.push(one.sample);
                            if !failed {
                                return one.total;
                            }
                        }
                        Err(harness) => error = Some(harness),
                    }
                    // No panic message: what happened is told by the sample, or by the error.
                    resume_unwind(Box::new(Stopped))
                });
            });
        }));
        if let Err(payload) = benched
            && !payload.is::<Stopped>()
        {
            resume_unwind(payload);
        }
        if let Some(error) = error {
            return Err(error);
        }
        if taken.last().is_some_and(|last| last.status != Status::Ok) {
            self.keep_failed(taken.pop().expect("there is a last one"));
            return Ok(());
        }
        // What criterion warmed up with came first. Its quick mode has no warm-up.
        let counted = if self.invocation.quick {
            taken.len()
        } else {
            sample_size
        };
        let warm_up = taken.len().saturating_sub(counted);
        let counted = taken.into_iter().skip(warm_up);
        self.samples.extend(
            counted
                .zip(0..)
                .map(|(sample, block)| Sample { block, ..sample }),
        );
        Ok(())
    }

    fn keep_failed(&mut self, sample: Sample) {
        let reason = sample.reason.as_deref().unwrap_or("no reason is known");
        self.note(&format!(
            "{}/{}: not ranked: {reason}",
            sample.workload, sample.subject
        ));
        self.samples.push(sample);
    }

    fn take(
        &mut self,
        workload: &Prepared,
        subject: &Subject,
        pass: Pass,
        passes: u32,
        timeout: Duration,
    ) -> Result<Taken> {
        let request = Request {
            work: workload.work.clone(),
            subject,
            pass,
            touch: TOUCH,
            order: workload.order,
            passes,
            timeout,
            memory_limit_bytes: self.memory_limit_bytes,
            environment_bytes: self.random.index(ENVIRONMENT_BYTES_LIMIT),
            settle: false,
        };
        let outcome = self.session.take(&request)?;
        let total = Duration::from_nanos(outcome.total_ns);
        // Criterion has no blocks, and no positions.
        let cell = Cell {
            subject,
            pass,
            block: 0,
            position: 0,
            environment_bytes: request.environment_bytes,
        };
        Ok(Taken {
            sample: place(outcome, workload, &cell),
            total,
        })
    }
}

/// Thins the curve to what a chart can show; its first peak stays.
fn thin_curve(sample: &mut Sample) {
    let Some(memory) = &mut sample.memory else {
        return;
    };
    let curve = &memory.curve;
    let stride = curve.len().div_ceil(CURVE_POINTS).max(1);
    let last = curve.len().saturating_sub(1);
    let highest = curve.iter().map(|point| point.rss_bytes).max();
    let peak = curve
        .iter()
        .position(|point| Some(point.rss_bytes) == highest);
    let mut index = 0;
    memory.curve.retain(|_| {
        let keep = index % stride == 0 || index == last || Some(index) == peak;
        index += 1;
        keep
    });
}
