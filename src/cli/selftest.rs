//! `selftest`: does the measuring tell differences that are there, and none where there is none.

use clap::{Args, ValueEnum};

use super::terminal::{complain, print, progress_bar, show};
use crate::error::{Error, Result};
use crate::measure::results::Verdict;
use crate::run::interrupt;
use crate::run::selftest::{Called, Case, Selftest};
use crate::subject::slowed::Iterations;

/// Check that measuring tells known differences, and none where there is none
///
/// Compares the C library's malloc with itself, and with itself made 5 % and 2 % slower by a busy loop
/// whose instructions are counted. Takes minutes, up to an hour on a noisy machine. Fails if fewer
/// than nine in ten runs call a difference that is there, if the intervals miss the true ratio more
/// often than intervals of 95 % do, or if any run calls a difference that is not there.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Only this part
    #[arg(long, value_enum)]
    only: Option<Part>,

    /// Runs of each part
    #[arg(long, value_name = "N", default_value_t = 10,
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Nothing differs: quick runs
    Aa,
    /// 5 % slower: default runs
    Five,
    /// 2 % slower, known to ±0.5 %: as long as it takes
    Two,
}

impl Part {
    fn case(self) -> Case {
        match self {
            Self::Aa => Case::Same,
            Self::Five => Case::Five,
            Self::Two => Case::Two,
        }
    }
}

pub(super) fn run(arguments: &Arguments) -> Result<()> {
    let bar = progress_bar();
    // Before the process has a second thread.
    let selftest = Selftest::new(&mut |turn| {
        bar.set_message(format!("calibrating, {turn}"));
        bar.tick();
    })?;
    interrupt::install();
    let cases = match arguments.only {
        Some(part) => vec![part.case()],
        None => Case::ALL.to_vec(),
    };
    let mut missed = Vec::new();
    for case in cases {
        let iterations = selftest.iterations(case.share())?;
        let truth = match case {
            Case::Same => 1.0,
            Case::Five | Case::Two => selftest.truth(iterations)?,
        };
        print(&heading(&selftest, case, iterations, truth))?;
        let (mut right, mut held) = (0, 0);
        for number in 0..arguments.runs {
            let called = selftest.run(case, truth, number, &mut |progress| show(&bar, progress))?;
            right += u32::from(called.right);
            held += u32::from(called.holds);
            bar.suspend(|| print(&line(number, &called)))?;
        }
        let runs = arguments.runs;
        let (verdicts, intervals) = (case.bar(runs), case.bar_for_intervals(runs));
        print(&format!(
            "{right} of {runs} runs call it right; {verdicts} must.\n"
        ))?;
        if intervals > 0 {
            print(&format!(
                "{held} of {runs} intervals of 95 % hold the true ratio; {intervals} must.\n"
            ))?;
        }
        if right < verdicts || held < intervals {
            missed.push(name(case));
        }
    }
    bar.finish_and_clear();
    if missed.is_empty() {
        return Ok(());
    }
    complain("Other work on the machine, or too few runs, may be why: see the noise floors.");
    Err(Error::Failed(format!(
        "the self-test missed its bar: {}",
        missed.join(", ")
    )))
}

fn name(case: Case) -> &'static str {
    match case {
        Case::Same => "nothing differs",
        Case::Five => "5 % slower",
        Case::Two => "2 % slower",
    }
}

fn heading(selftest: &Selftest, case: Case, iterations: Iterations, truth: f64) -> String {
    let mut text = format!("\n{}: ", name(case));
    text += &match case {
        Case::Same => "the C library's malloc under five names\n".to_owned(),
        Case::Five | Case::Two => format!(
            "{} fast and {} slow iterations in a round of {} instructions; true ratio {truth:.4}\n\
             by instructions, {:.4} by the calibrated times\n",
            iterations.fast,
            iterations.slow,
            selftest.instructions(),
            1.0 + selftest.time_share(iterations)
        ),
    };
    text + "run  called               ratio, 95 % interval    holds blocks noise floor\n"
}

fn line(number: u32, called: &Called) -> String {
    let verdict = match called.verdict {
        Verdict::Faster => "faster",
        Verdict::Slower => "slower",
        Verdict::NotDistinguishable => "not distinguishable",
        Verdict::Unknown => "unknown",
    };
    let ratio = called.ratio;
    let floor = called
        .noise_floor
        .map_or("–".to_owned(), |floor| format!("{:.1} %", 100.0 * floor));
    format!(
        "{:>3}  {verdict:<19}  {:.4} [{:.4}, {:.4}] {:>5} {:>6} {floor:>11}{}\n",
        number + 1,
        ratio.median,
        ratio.low,
        ratio.high,
        if called.holds { "yes" } else { "no" },
        called.blocks,
        if called.right { "" } else { "  WRONG" }
    )
}
