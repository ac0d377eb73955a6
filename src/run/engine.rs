//! The engine: takes the samples of one workload, block after block, until there are enough.
//!
//! ```text
//! verify block -> timed blocks until the rule says enough -> memory blocks -> latency blocks
//! ```
//! How a sample is taken is the [`Sampler`]'s: a replay in a child ([`super::execute::Replays`]), or a
//! real program. What an interrupted run has taken already is the [`Keeper`]'s.

#![forbid(unsafe_code)]

use std::time::{Duration, Instant};

use super::stopping::{self, Question};
use crate::error::Result;
use crate::measure::machine;
use crate::measure::results::{Pass, Run, Sample, Status, Stop, SubjectKind};
use crate::plan::{Blocks, Turn, draw};
use crate::subject::Subject;

/// One sample to take.
#[derive(Clone, Copy, Debug)]
pub struct Cell<'a> {
    /// Under which subject.
    pub subject: &'a Subject,
    /// What for.
    pub pass: Pass,
    /// Block of the pass, from 0.
    pub block: u32,
    /// Position in the block, from 0.
    pub position: u32,
    /// Bytes of an environment variable that moves the child's stack.
    pub environment_bytes: usize,
}

/// Takes samples of one workload.
pub trait Sampler {
    /// Name of the workload.
    fn workload(&self) -> &str;

    /// The pass whose blocks are added until there are enough: [`Pass::Speed`], or
    /// [`Pass::Program`] for a real program.
    fn timed_pass(&self) -> Pass {
        Pass::Speed
    }

    /// Whether there is such a pass over this subject. What is answered must not change.
    fn has(&self, pass: Pass, subject: &Subject) -> bool;

    /// Takes one sample in fresh processes. A subject that fails is a sample; an error is the
    /// harness's own failure or the user's interruption. `elapsed_ns` and `steal_ns` may be left
    /// `None`: the engine fills them.
    fn take(&mut self, cell: &Cell<'_>) -> Result<Sample>;
}

/// Names one block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct BlockKey<'a> {
    /// The workload.
    pub workload: &'a str,
    /// What its samples are for.
    pub pass: Pass,
    /// Block of the pass, from 0.
    pub block: u32,
}

/// Keeps samples as they are taken, and gives back those of an interrupted run.
pub trait Keeper {
    /// The samples of a block that was kept earlier, in the order of `subjects`: they are not taken
    /// again. A block that has not got them all, taken side by side, is no block: `None`.
    fn recall(&mut self, _key: &BlockKey<'_>, _subjects: &[&str]) -> Option<Vec<Sample>> {
        None
    }

    /// Told of each sample that was taken, at once; not of recalled ones.
    fn keep(&mut self, _sample: &Sample) -> Result<()> {
        Ok(())
    }

    /// Index of the run that samples are taken in now; recalled ones may be of earlier runs.
    fn run(&self) -> u32 {
        0
    }

    /// All runs, earlier ones first; `own` is what is known of the last one.
    fn runs(&self, own: Run) -> Vec<Run> {
        vec![own]
    }
}

/// Keeps nothing.
impl Keeper for () {}

/// Where the work on a workload stands, before a sample.
#[derive(Clone, Copy, Debug)]
pub struct Moment<'a> {
    /// The workload.
    pub workload: &'a str,
    /// The subject whose sample comes next.
    pub subject: &'a str,
    /// What for.
    pub pass: Pass,
    /// Block of the pass, from 0.
    pub block: u32,
    /// Time that the samples of this workload took so far, recalled ones included.
    pub spent: Duration,
    /// Estimate of the time that the rest of this workload takes: its budget before the first timed
    /// block, if it has one.
    pub left: Option<Duration>,
}

/// What is the same for all workloads of a run.
#[derive(Clone, Copy, Debug)]
pub struct Engine<'a> {
    /// All subjects, the baseline and its twin among them; names are unique.
    pub subjects: &'a [Subject],
    /// Name of the baseline.
    pub baseline: &'a str,
    /// Name of the baseline's twin, which is only timed; `None` if there is none.
    pub twin: Option<&'a str>,
    /// How many blocks.
    pub blocks: Blocks,
    /// Seed of orders, offsets and intervals.
    pub seed: u64,
    /// Resamples of the intervals.
    pub resamples: u32,
}

/// What a workload's samples are, and why there are no more.
#[derive(Clone, Debug)]
pub struct Measured {
    /// In the order in which they were taken.
    pub samples: Vec<Sample>,
    /// Why the timed pass ended.
    pub stop: Stop,
}

impl Engine<'_> {
    /// Takes all samples of a workload. A subject that fails is not tried again.
    pub fn measure(
        &self,
        sampler: &mut dyn Sampler,
        keeper: &mut dyn Keeper,
        progress: &mut dyn FnMut(&Moment<'_>),
    ) -> Result<Measured> {
        let workload = sampler.workload().to_owned();
        let mut course = Course {
            engine: self,
            workload: &workload,
            timed: sampler.timed_pass(),
            sampler,
            keeper,
            progress,
            failed: vec![false; self.subjects.len()],
            samples: Vec::new(),
            spent: Duration::ZERO,
            timed_spent: Duration::ZERO,
            timed_blocks: 0,
            half_width: None,
        };
        course.block(Pass::Verify, 0)?;
        let stop = course.timed_pass()?;
        for (pass, blocks) in [
            (Pass::Memory, self.blocks.memory),
            (Pass::Latency, self.blocks.latency),
        ] {
            for block in 0..blocks {
                course.block(pass, block)?;
            }
        }
        Ok(Measured {
            samples: course.samples,
            stop,
        })
    }
}

/// A workload under way.
struct Course<'a> {
    engine: &'a Engine<'a>,
    workload: &'a str,
    timed: Pass,
    sampler: &'a mut dyn Sampler,
    keeper: &'a mut dyn Keeper,
    progress: &'a mut dyn FnMut(&Moment<'_>),
    failed: Vec<bool>,
    samples: Vec<Sample>,
    /// Time of all samples.
    spent: Duration,
    /// Blocks of the timed pass that are done, and the time of their samples.
    timed_blocks: u32,
    timed_spent: Duration,
    /// Of the widest interval so far; see [`stopping::widest_half_width_quick`].
    half_width: Option<f64>,
}

impl<'a> Course<'a> {
    /// Adds blocks to the timed pass until there are enough.
    fn timed_pass(&mut self) -> Result<Stop> {
        loop {
            let before = self.spent;
            self.block(self.timed, self.timed_blocks)?;
            self.timed_blocks += 1;
            self.timed_spent += self.spent - before;
            let compared = self.compared();
            let question = self.question(&compared);
            let half_width = stopping::widest_half_width_quick(&question, &self.samples);
            let spent = self.timed_spent;
            let reason = stopping::decide(&question, &self.samples, self.timed_blocks, spent);
            if let Some(reason) = reason {
                return Ok(Stop {
                    workload: self.workload.to_owned(),
                    reason,
                    blocks: self.timed_blocks,
                    widest_half_width: stopping::widest_half_width(&question, &self.samples),
                });
            }
            self.half_width = half_width;
        }
    }

    /// Runs one block: each subject once.
    fn block(&mut self, pass: Pass, block: u32) -> Result<()> {
        let subjects = self.engine.subjects;
        let names: Vec<&str> = subjects.iter().map(|one| one.name.as_str()).collect();
        let mut turns = draw(self.engine.seed, self.workload, pass, block, &names);
        turns.retain(|turn| !self.failed[turn.subject] && self.has(pass, &subjects[turn.subject]));
        let key = BlockKey {
            workload: self.workload,
            pass,
            block,
        };
        let takes_part: Vec<&str> = turns.iter().map(|turn| names[turn.subject]).collect();
        let mut recalled = self.keeper.recall(&key, &takes_part).map(Vec::into_iter);
        for turn in turns {
            let sample = match recalled.as_mut().and_then(Iterator::next) {
                Some(sample) => sample,
                None => self.cell(&subjects[turn.subject], &key, &turn)?,
            };
            self.failed[turn.subject] = sample.status != Status::Ok;
            self.spent += Duration::from_nanos(sample.elapsed_ns.unwrap_or(0));
            self.samples.push(sample);
        }
        Ok(())
    }

    /// The twin is timed only: checked and looked at is what it is the twin of.
    fn has(&self, pass: Pass, subject: &Subject) -> bool {
        let twin = self.engine.twin == Some(subject.name.as_str());
        (pass == self.timed || !twin) && self.sampler.has(pass, subject)
    }

    /// Takes a sample.
    fn cell(&mut self, subject: &Subject, key: &BlockKey<'_>, turn: &Turn) -> Result<Sample> {
        let (pass, block) = (key.pass, key.block);
        let left = self.left(pass, block);
        (self.progress)(&Moment {
            workload: self.workload,
            subject: &subject.name,
            pass,
            block,
            spent: self.spent,
            left,
        });
        let (start, stolen_ns) = (Instant::now(), machine::stolen_ns());
        let mut sample = self.sampler.take(&Cell {
            subject,
            pass,
            block,
            position: turn.position,
            environment_bytes: turn.environment_bytes,
        })?;
        let elapsed_ns = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        sample.run = self.keeper.run();
        sample.elapsed_ns.get_or_insert(elapsed_ns);
        if sample.steal_ns.is_none() {
            sample.steal_ns = stolen_ns
                .zip(machine::stolen_ns())
                .map(|(before, after)| after.saturating_sub(before));
        }
        self.keeper.keep(&sample)?;
        Ok(sample)
    }

    /// Subjects that did not fail and whose ratio to the baseline matters: the twin's too, floor
    /// rows' not, since nobody chooses one.
    fn compared(&self) -> Vec<&'a str> {
        let subjects = self.engine.subjects.iter().zip(&self.failed);
        subjects
            .filter(|(subject, failed)| !**failed && self.has(self.timed, subject))
            .filter(|(subject, _)| subject.kind() != SubjectKind::Floor)
            .map(|(subject, _)| subject.name.as_str())
            .filter(|name| *name != self.engine.baseline)
            .collect()
    }

    fn question<'q>(&self, compared: &'q [&'a str]) -> Question<'q>
    where
        'a: 'q,
    {
        let engine = self.engine;
        let at = |name: &str| engine.subjects.iter().position(|one| one.name == name);
        let works =
            |index: usize| !self.failed[index] && self.has(self.timed, &engine.subjects[index]);
        Question {
            rule: &engine.blocks.speed,
            workload: self.workload,
            baseline: at(engine.baseline)
                .filter(|index| works(*index))
                .map(|_| engine.baseline),
            compared,
            twin: engine.twin,
            resamples: engine.resamples,
            seed: engine.seed,
        }
    }

    /// Estimate of the time that this block and all later ones take.
    fn left(&self, pass: Pass, block: u32) -> Option<Duration> {
        let blocks = &self.engine.blocks;
        let Some(mean) = self.timed_spent.checked_div(self.timed_blocks) else {
            // Nothing to go by yet but what it may take at most.
            return blocks.speed.budget;
        };
        let timed = match pass {
            Pass::Memory | Pass::Latency => Duration::ZERO,
            _ => stopping::left(
                &blocks.speed,
                self.timed_blocks,
                self.timed_spent,
                self.half_width,
            ),
        };
        // A block of another pass takes about as long as a timed one.
        let others = match pass {
            Pass::Memory => blocks.memory - block + blocks.latency,
            Pass::Latency => blocks.latency - block,
            _ => blocks.memory + blocks.latency,
        };
        Some(timed + mean * others)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::measure::results::{SpeedSample, StopReason};
    use crate::plan::Rule;
    use crate::subject::Access;
    use crate::subject::linked::Linked;
    use std::collections::HashMap;

    /// Gives each subject the time that `time` says, as if a child had taken it.
    struct Mock<F> {
        time: F,
        fails: Option<(&'static str, Pass)>,
        taken: usize,
        /// Samples after which the user interrupts.
        limit: usize,
    }

    impl<F: FnMut(&Cell<'_>) -> u64> Sampler for Mock<F> {
        fn workload(&self) -> &str {
            "w"
        }

        fn has(&self, pass: Pass, subject: &Subject) -> bool {
            pass == Pass::Speed || (pass != Pass::Program && !subject.is_null())
        }

        fn take(&mut self, cell: &Cell<'_>) -> Result<Sample> {
            if self.taken == self.limit {
                return Err(Error::Interrupted);
            }
            self.taken += 1;
            let mut sample = Sample::untaken("w", &cell.subject.name, cell.pass, cell.block);
            sample.position = cell.position;
            let ns = (self.time)(cell);
            sample.elapsed_ns = Some(ns);
            if self.fails == Some((&cell.subject.name, cell.pass)) {
                sample.status = Status::Crashed;
            } else if cell.pass == Pass::Speed {
                sample.speed = Some(SpeedSample {
                    passes_ns: vec![ns, ns, ns],
                    ..SpeedSample::default()
                });
            }
            Ok(sample)
        }
    }

    fn mock<F: FnMut(&Cell<'_>) -> u64>(time: F) -> Mock<F> {
        Mock {
            time,
            fails: None,
            taken: 0,
            limit: usize::MAX,
        }
    }

    /// A journal in memory.
    #[derive(Default)]
    struct Journal(HashMap<(String, Pass, u32), Sample>);

    impl Keeper for Journal {
        fn recall(&mut self, key: &BlockKey<'_>, subjects: &[&str]) -> Option<Vec<Sample>> {
            let of = |name: &&str| self.0.get(&((*name).to_owned(), key.pass, key.block));
            let found: Option<Vec<Sample>> =
                subjects.iter().map(|name| of(name).cloned()).collect();
            if found.is_none() {
                // What was cut short is taken again.
                self.0
                    .retain(|(_, pass, block), _| (*pass, *block) != (key.pass, key.block));
            }
            found
        }

        fn keep(&mut self, sample: &Sample) -> Result<()> {
            let key = (sample.subject.clone(), sample.pass, sample.block);
            assert!(self.0.insert(key, sample.clone()).is_none(), "taken once");
            Ok(())
        }
    }

    fn subjects() -> Vec<Subject> {
        let subject = |name: &str, access: Access| Subject {
            name: name.to_owned(),
            description: String::new(),
            access,
            environment: Default::default(),
            version: crate::subject::version::VersionSource::Probe,
        };
        vec![
            subject("base", Access::System),
            subject("mine", Access::Linked(Linked::Mimalloc)),
            subject("null", Access::Linked(Linked::Null)),
            subject("base-again", Access::System),
        ]
    }

    fn engine(subjects: &[Subject], speed: Rule) -> Engine<'_> {
        Engine {
            subjects,
            baseline: "base",
            twin: Some("base-again"),
            blocks: Blocks {
                speed,
                memory: 2,
                latency: 1,
            },
            seed: 1,
            resamples: 200,
        }
    }

    const SEQUENTIAL: Rule = Rule {
        blocks_min: 8,
        blocks_max: 100,
        precision: Some(0.01),
        budget: Some(Duration::from_millis(1)),
        comparisons: 2,
    };

    fn count(samples: &[Sample], subject: &str, pass: Pass) -> usize {
        let of = |sample: &&Sample| sample.subject == subject && sample.pass == pass;
        samples.iter().filter(of).count()
    }

    fn timed_ns(samples: &[Sample]) -> impl Iterator<Item = u64> {
        let speed = samples.iter().filter(|sample| sample.speed.is_some());
        speed.filter_map(|sample| sample.elapsed_ns)
    }

    #[test]
    fn precise_times_stop_at_the_minimum() {
        let subjects = subjects();
        let measured = engine(&subjects, SEQUENTIAL)
            .measure(&mut mock(|_| 1000), &mut (), &mut |_| {})
            .expect("no error");
        assert_eq!(measured.stop.reason, StopReason::Precision);
        assert_eq!(measured.stop.blocks, 8);
        assert_eq!(measured.stop.widest_half_width, Some(0.0));
        let of = |subject, pass| count(&measured.samples, subject, pass);
        for (subject, verify, memory, latency) in [
            ("base", 1, 2, 1),
            ("mine", 1, 2, 1),
            ("null", 0, 0, 0),
            ("base-again", 0, 0, 0),
        ] {
            assert_eq!(of(subject, Pass::Verify), verify, "{subject}");
            assert_eq!(of(subject, Pass::Speed), 8, "{subject}");
            assert_eq!(of(subject, Pass::Memory), memory, "{subject}");
            assert_eq!(of(subject, Pass::Latency), latency, "{subject}");
        }
        assert!(
            measured
                .samples
                .is_sorted_by_key(|sample| (sample.pass, sample.block))
        );
    }

    #[test]
    fn noisy_times_use_the_budget_or_the_blocks() {
        let subjects = subjects();
        // Each block takes 4 times 1000 to 2000 ns at random; the budget is 1 ms.
        let noisy = |cell: &Cell<'_>| 1000 + cell.environment_bytes as u64 % 1000;
        let budget = engine(&subjects, SEQUENTIAL);
        let measured = budget
            .measure(&mut mock(noisy), &mut (), &mut |_| {})
            .expect("no error");
        assert_eq!(measured.stop.reason, StopReason::Blocks);
        assert_eq!(measured.stop.blocks, 100);
        assert!(measured.stop.widest_half_width.expect("blocks") > 0.01);
        let long = |cell: &Cell<'_>| 10 * noisy(cell);
        let measured = budget
            .measure(&mut mock(long), &mut (), &mut |_| {})
            .expect("no error");
        assert_eq!(measured.stop.reason, StopReason::Budget);
        // 60 µs a block.
        assert!((15..=20).contains(&measured.stop.blocks));
        let spent: u64 = timed_ns(&measured.samples).sum();
        assert!((1_000_000..1_080_000).contains(&spent));
    }

    #[test]
    fn a_subject_that_fails_is_not_tried_again_and_not_waited_for() {
        let subjects = subjects();
        let mut sampler = mock(|_| 1000);
        sampler.fails = Some(("mine", Pass::Verify));
        let measured = engine(&subjects, SEQUENTIAL)
            .measure(&mut sampler, &mut (), &mut |_| {})
            .expect("no error");
        assert_eq!(measured.stop.reason, StopReason::NothingToCompare);
        assert_eq!(measured.stop.blocks, 8);
        let own = measured.samples.iter().filter(|one| one.subject == "mine");
        assert_eq!(own.count(), 1);
        let mut sampler = mock(|_| 1000);
        sampler.fails = Some(("base", Pass::Speed));
        let measured = engine(&subjects, SEQUENTIAL)
            .measure(&mut sampler, &mut (), &mut |_| {})
            .expect("no error");
        assert_eq!(measured.stop.reason, StopReason::NothingToCompare);
        assert_eq!(measured.stop.widest_half_width, None);
    }

    #[test]
    fn an_interrupted_run_resumes_to_the_same_samples() {
        let subjects = subjects();
        let engine = engine(&subjects, SEQUENTIAL);
        // Times that follow from the cell alone, as noisy as to need some blocks.
        let time = |cell: &Cell<'_>| 5000 + 37 * u64::from(cell.block * cell.position % 11);
        let whole = engine
            .measure(&mut mock(time), &mut (), &mut |_| {})
            .expect("no error");
        for limit in [0, 1, 7, 20, 45] {
            let mut journal = Journal::default();
            let mut first = mock(time);
            first.limit = limit;
            let error = engine.measure(&mut first, &mut journal, &mut |_| {});
            assert!(matches!(error, Err(Error::Interrupted)));
            assert_eq!(journal.0.len(), limit);
            let mut second = mock(time);
            let resumed = engine
                .measure(&mut second, &mut journal, &mut |_| {})
                .expect("no error");
            // All but the block that was cut short, if the interruption came inside of one.
            let block = |sample: &Sample| (sample.pass, sample.block);
            let next = block(&whole.samples[limit]);
            let before = whole.samples[..limit].iter().rev();
            let cut = before.take_while(|sample| block(sample) == next).count();
            assert_eq!(second.taken, whole.samples.len() - limit + cut);
            assert_eq!(resumed.stop, whole.stop);
            let unstolen = |samples: &[Sample]| -> Vec<Sample> {
                let plain = |sample: &Sample| Sample {
                    steal_ns: None,
                    ..sample.clone()
                };
                samples.iter().map(plain).collect()
            };
            assert_eq!(unstolen(&resumed.samples), unstolen(&whole.samples));
        }
    }

    #[test]
    fn the_time_left_shrinks_to_nothing() {
        let subjects = subjects();
        let mut left = Vec::new();
        engine(&subjects, Rule::fixed(30))
            .measure(&mut mock(|_| 1000), &mut (), &mut |moment| {
                left.extend(moment.left);
            })
            .expect("no error");
        // 29 blocks of 4 µs, and 3 of other passes.
        assert_eq!(left[0], Duration::from_micros(32 * 4));
        assert!(left.is_sorted_by(|one, next| one >= next), "{left:?}");
        assert_eq!(*left.last().expect("some"), Duration::from_micros(4));
    }
}
