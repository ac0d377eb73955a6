//! One program: what its replays predict under each subject, beside what it shows.

#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use super::ranking::{Placed, agreement};
use super::{Agreement, Link, Prediction, ProgramFidelity, StartUp, Unpredicted, median_of};
use crate::measure::pairs::{BlockKey, Heap, times};
use crate::measure::results::{Estimate, Pass, Results, Sample, Status, SummaryRow};
use crate::statistics::rank_correlation::spearman;
use crate::statistics::{bootstrap_median, median};

/// The predicted ratio of a program's amount to the baseline's, from the program's under the baseline
/// and the replay's under both; `None` where that is no ratio.
pub fn predicted_ratio(program: f64, replay: f64, replay_baseline: f64) -> Option<f64> {
    let ratio = (program + replay - replay_baseline) / program;
    (program > 0.0 && ratio.is_finite() && ratio > 0.0).then_some(ratio)
}

/// `None` if the program or one of its replays has no time under the baseline.
pub(super) fn program(
    results: &Results,
    link: &Link,
    start_up: Option<&StartUp>,
) -> Option<ProgramFidelity> {
    let baseline = results.settings.baseline.as_str();
    let twin = results.settings.baseline_twin.as_deref();
    row(results, &link.program, baseline)?;
    let own = times(&results.samples, &link.program, baseline, Heap::Fresh);
    let program_ns = middle(&own)?;
    let frame = Frame {
        results,
        link,
        start_up,
        program_ns,
        baseline,
        replay_times: replay_times(results, &link.replays, baseline)?,
        largest: largest(results, link),
    };
    let names = results.subjects.iter().map(|subject| subject.name.as_str());
    let (mut subjects, mut unpredicted) = (Vec::new(), Vec::new());
    for name in names.filter(|name| *name != baseline && Some(*name) != twin) {
        match frame.prediction(name) {
            Ok(found) => subjects.push(found),
            Err(reason) => unpredicted.push(Unpredicted {
                subject: name.to_owned(),
                reason,
            }),
        }
    }
    let mut pairs: Vec<(f64, f64)> = subjects
        .iter()
        .map(|one| (one.real_time.median, one.predicted_time.median))
        .collect();
    pairs.push((1.0, 1.0));
    let replayed = link.replays.iter();
    let replayed = replayed.filter_map(|replay| row(results, replay, baseline));
    Some(ProgramFidelity {
        name: link.program.clone(),
        program_ns,
        replay_ns: middle(&frame.replay_times)?,
        other_rss_bytes: frame.other_bytes(),
        operations: [replayed.map(|row| row.operations).sum(), link.operations],
        processes: link.processes,
        started: link.started,
        noise: twin
            .and_then(|twin| row(results, &link.program, twin)?.ratio_to_baseline)
            .map(|ratio| (ratio.high - 1.0).abs().max((ratio.low - 1.0).abs())),
        replay_noise: twin.and_then(|twin| {
            let delta = frame.replay_difference(twin).ok()?;
            Some(delta.low.abs().max(delta.high.abs()) / program_ns)
        }),
        rank_correlation: spearman(&pairs),
        agreement: frame.agreement(&subjects, twin),
        time_error: median_of(subjects.iter().map(|one| Some(one.time_error()))),
        rss_error: median_of(subjects.iter().map(Prediction::rss_error)),
        subjects,
        unpredicted,
        explanations: Vec::new(),
    })
}

fn row<'r>(results: &'r Results, workload: &str, subject: &str) -> Option<&'r SummaryRow> {
    any_row(results, workload, subject).filter(|row| row.status == Status::Ok)
}

fn any_row<'r>(results: &'r Results, workload: &str, subject: &str) -> Option<&'r SummaryRow> {
    let mut rows = results.summary.iter();
    rows.find(|row| row.workload == workload && row.subject == subject)
}

fn middle(times: &BTreeMap<BlockKey, f64>) -> Option<f64> {
    median(&times.values().copied().collect::<Vec<f64>>())
}

/// CPU time of a replay on a fresh heap: on several threads that at their operations, as the hand-over
/// is the harness's. Files that were written before it was taken have wall time only.
fn replay_time_ns(sample: &Sample) -> Option<f64> {
    let speed = sample.speed.as_ref()?;
    let times = [&speed.cpu_ns, &speed.process_cpu_ns, &speed.passes_ns];
    let first = times.into_iter().find_map(|times| times.first());
    first
        .filter(|_| sample.status == Status::Ok)
        .map(|ns| *ns as f64)
}

/// Times of all these replays together, for the blocks that have each of them. `None` if one has failed.
fn replay_times(
    results: &Results,
    replays: &[String],
    subject: &str,
) -> Option<BTreeMap<BlockKey, f64>> {
    let mut sums: Option<BTreeMap<BlockKey, f64>> = None;
    for replay in replays {
        row(results, replay, subject)?;
        let own: BTreeMap<BlockKey, f64> = samples(results, replay, subject)
            .filter(|sample| sample.pass == Pass::Speed)
            .filter_map(|sample| Some(((sample.run, sample.block), replay_time_ns(sample)?)))
            .collect();
        sums = Some(match sums {
            None => own,
            Some(sums) => sums
                .into_iter()
                .filter_map(|(block, sum)| Some((block, sum + own.get(&block)?)))
                .collect(),
        });
    }
    sums.filter(|sums| !sums.is_empty())
}

fn samples<'r>(
    results: &'r Results,
    workload: &'r str,
    subject: &'r str,
) -> impl Iterator<Item = &'r Sample> {
    let all = results.samples.iter();
    all.filter(move |sample| sample.workload == workload && sample.subject == subject)
}

/// The replay that stands for the memory of the program's largest process, and its peak under the
/// baseline.
fn largest<'r>(results: &Results, link: &'r Link) -> Option<(&'r String, f64)> {
    let baseline = &results.settings.baseline;
    let peaks = link.replays.iter().filter_map(|replay| {
        let bytes = row(results, replay, baseline)?.rss_peak_bytes?;
        Some((replay, bytes as f64))
    });
    peaks.max_by(|one, other| one.1.total_cmp(&other.1))
}

/// What all subjects of a program are predicted from.
struct Frame<'r> {
    results: &'r Results,
    link: &'r Link,
    start_up: Option<&'r StartUp>,
    program_ns: f64,
    baseline: &'r str,
    replay_times: BTreeMap<BlockKey, f64>,
    largest: Option<(&'r String, f64)>,
}

impl Frame<'_> {
    /// Or why there is none.
    fn prediction(&self, subject: &str) -> Result<Prediction, String> {
        self.check(subject)?;
        let real_time = row(self.results, &self.link.program, subject)
            .and_then(|row| row.ratio_to_baseline)
            .ok_or("no block has its time and the baseline's")?;
        let replay = self.replay_difference(subject)?;
        let start_up = self.start_up_difference(subject)?;
        let predicted_time = self.predicted_time(replay, start_up)?;
        let of_program = |of: &dyn Fn(&Sample) -> Option<f64>| {
            let program = &self.link.program;
            self.difference(of, program, Pass::Program, subject)
                .unwrap_or(0.0)
        };
        let first_faults = |sample: &Sample| {
            let usage = sample.speed.as_ref()?.usage.first()?;
            Some(usage.minor_faults as f64)
        };
        let replay_faults = self.link.replays.iter();
        let replay_faults = replay_faults
            .filter_map(|one| self.difference(&first_faults, one, Pass::Speed, subject));
        let faults = |sample: &Sample| Some(sample.minor_faults as f64);
        let start_up_faults = self.start_up.and_then(|start| {
            let all = self.difference(&faults, &start.workload, Pass::Program, subject)?;
            Some(all / start.started as f64 * self.link.started as f64)
        });
        let rss = self.rss(subject);
        Ok(Prediction {
            subject: subject.to_owned(),
            real_time,
            predicted_time,
            replay_ns: replay.median,
            start_up_ns: start_up.median,
            real_rss: rss.real,
            predicted_rss: rss.predicted,
            real_allocator_rss: rss.real_allocator,
            predicted_allocator_rss: rss.predicted_allocator,
            user_ns: of_program(&|sample| Some(sample.program.as_ref()?.user_ns as f64)),
            system_ns: of_program(&|sample| Some(sample.program.as_ref()?.system_ns as f64)),
            page_faults: [of_program(&faults), replay_faults.sum()],
            start_up_faults: start_up_faults.unwrap_or(0.0),
        })
    }

    /// Whether all of it ended well.
    fn check(&self, subject: &str) -> Result<(), String> {
        let start_up = self.start_up.map(|start| &start.workload);
        let all = [&self.link.program].into_iter().chain(&self.link.replays);
        for workload in all.chain(start_up) {
            let Some(row) = any_row(self.results, workload, subject) else {
                return Err(format!("{workload} was not run under it"));
            };
            if row.status != Status::Ok {
                let reason = row.reason.as_deref().unwrap_or("it failed");
                return Err(format!("{workload}: {reason}"));
            }
        }
        Ok(())
    }

    fn predicted_time(&self, replay: Estimate, start_up: Estimate) -> Result<Estimate, String> {
        let ratio = |of: fn(&Estimate) -> f64| {
            let delta_ns = of(&replay) + of(&start_up);
            predicted_ratio(self.program_ns, delta_ns, 0.0).ok_or_else(|| {
                format!(
                    "the replay predicts {:.0} ms less than under {}, and the program takes {:.0} ms",
                    -delta_ns / 1e6,
                    self.baseline,
                    self.program_ns / 1e6
                )
            })
        };
        let median = ratio(|one| one.median)?;
        Ok(Estimate {
            median,
            // An interval that reaches below 0 is one that knows nothing of the lower end.
            low: ratio(|one| one.low).unwrap_or(0.0),
            high: ratio(|one| one.high)?,
        })
    }

    /// Time of the replays less that under the baseline, block by block.
    fn replay_difference(&self, subject: &str) -> Result<Estimate, String> {
        let own = replay_times(self.results, &self.link.replays, subject);
        let own = own.ok_or("no block has all of its replays")?;
        self.paired_difference(&own, &self.replay_times, 1.0)
            .ok_or_else(|| "no block has its replays and the baseline's".to_owned())
    }

    /// The same of starting the program's processes.
    fn start_up_difference(&self, subject: &str) -> Result<Estimate, String> {
        let Some(start) = self.start_up else {
            return Ok(Estimate {
                median: 0.0,
                low: 0.0,
                high: 0.0,
            });
        };
        let of = |subject| times(&self.results.samples, &start.workload, subject, Heap::Fresh);
        let factor = self.link.started as f64 / start.started as f64;
        self.paired_difference(&of(subject), &of(self.baseline), factor)
            .ok_or_else(|| format!("no block has {} and the baseline's", start.workload))
    }

    fn paired_difference(
        &self,
        own: &BTreeMap<BlockKey, f64>,
        base: &BTreeMap<BlockKey, f64>,
        factor: f64,
    ) -> Option<Estimate> {
        let differences: Vec<f64> = own
            .iter()
            .filter_map(|(block, ns)| Some((ns - base.get(block)?) * factor))
            .collect();
        let settings = &self.results.settings;
        bootstrap_median(&differences, settings.bootstrap_resamples, settings.seed)
            .map(Estimate::from)
    }

    /// Median less the baseline's.
    fn difference(
        &self,
        of: &dyn Fn(&Sample) -> Option<f64>,
        workload: &str,
        pass: Pass,
        subject: &str,
    ) -> Option<f64> {
        let of_pass = |name| {
            let taken = samples(self.results, workload, name);
            median_of(taken.filter(|sample| sample.pass == pass).map(of))
        };
        Some(of_pass(subject)? - of_pass(self.baseline)?)
    }

    fn agreement(&self, subjects: &[Prediction], twin: Option<&str>) -> Agreement {
        let of = |subject| {
            times(
                &self.results.samples,
                &self.link.program,
                subject,
                Heap::Fresh,
            )
        };
        let mut placed: Vec<Placed> = subjects
            .iter()
            .map(|one| Placed {
                times: of(&one.subject),
                predicted: one.predicted_time.median,
            })
            .collect();
        placed.push(Placed {
            times: of(self.baseline),
            predicted: 1.0,
        });
        let noise = twin
            .and_then(|twin| row(self.results, &self.link.program, twin)?.ratio_to_baseline)
            .map_or(0.0, |ratio| (ratio.median - 1.0).abs());
        agreement(&placed, noise)
    }

    /// Peak RSS of the program's largest process, as the kernel counts it, where that is known of all
    /// that is compared; else that of the tree.
    fn program_peak(&self, subject: &str) -> Option<f64> {
        let peak = |subject: &str, is_largest: bool| {
            let taken = samples(self.results, &self.link.program, subject);
            let taken = taken.filter(|sample| sample.status == Status::Ok);
            median_of(taken.map(|sample| {
                let memory = sample.program.as_ref()?.memory?;
                Some(match is_largest {
                    true => memory.rss_largest_bytes as f64,
                    false => memory.rss_peak_bytes as f64,
                })
            }))
        };
        let is_known = [subject, self.baseline]
            .iter()
            .all(|name| peak(name, true).is_some_and(|bytes| bytes > 0.0));
        peak(subject, is_known)
    }

    fn other_bytes(&self) -> Option<f64> {
        let program = self.program_peak(self.baseline)?;
        Some((program - self.largest?.1).max(0.0))
    }

    fn rss(&self, subject: &str) -> Rss {
        let replayed = self.largest.and_then(|(replay, base)| {
            let bytes = row(self.results, replay, subject)?.rss_peak_bytes?;
            Some((bytes as f64, base))
        });
        let program = self.program_peak(self.baseline);
        let own = self.program_peak(subject);
        let other = self.other_bytes();
        Rss {
            real: own.zip(program).map(|(own, base)| own / base),
            predicted: program
                .zip(replayed)
                .and_then(|(program, (own, base))| predicted_ratio(program, own, base)),
            real_allocator: own
                .zip(program)
                .zip(other)
                .map(|((own, program), other)| (own - other) / (program - other)),
            predicted_allocator: replayed.map(|(own, base)| own / base),
        }
    }
}

/// Ratios of peak RSS.
struct Rss {
    real: Option<f64>,
    predicted: Option<f64>,
    real_allocator: Option<f64>,
    predicted_allocator: Option<f64>,
}
