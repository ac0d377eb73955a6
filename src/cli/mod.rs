//! The command line: one file per subcommand; each parses, makes one call into the library, and
//! turns the result into an exit code.

#![forbid(unsafe_code)]

mod amounts;
mod compare;
mod completions;
mod effort;
mod fidelity;

mod lib_file;
mod output_folder;
mod rank;
mod record;
mod replay;
mod report;
mod selftest;
mod subjects;
mod suite;
mod terminal;
mod trace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::error::Result;

/// Replay what a real program asked of its allocator against every allocator, and see which one to
/// use.
#[derive(Debug, Parser)]
#[command(name = "mymalloc", version, max_term_width = 100)]
#[command(after_help = "\
Examples:
  mymalloc record -o app.trace -- app    record what a program asks of its allocator
  mymalloc replay trace.log              compare the default allocators on a trace
  mymalloc suite --quick                 the bundled workloads, in under three minutes
  mymalloc report reports/trace/results.json
                                         draw the report again, without measuring
  mymalloc lib --out mylibmalloc.so      MyMalloc as a shared object, then:
  LD_PRELOAD=./mylibmalloc.so ls")]
struct Mymalloc {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Record(record::Arguments),
    Replay(replay::Arguments),
    Suite(suite::Arguments),
    Report(report::Arguments),
    Compare(compare::Arguments),
    Rank(rank::Arguments),
    Fidelity(fidelity::Arguments),
    Trace(trace::Arguments),

    Lib(lib_file::Arguments),
    Selftest(selftest::Arguments),
    Completions(completions::Arguments),
}

/// The same as `mymalloc replay`, under the name that people type.
#[derive(Debug, Parser)]
#[command(name = "replay", version, max_term_width = 100)]
struct Replay {
    #[command(flatten)]
    arguments: replay::Arguments,
}

/// `main` of the `mymalloc` program.
pub fn mymalloc() -> ExitCode {
    let parsed = Mymalloc::parse();
    finish(match &parsed.command {
        Command::Record(arguments) => return status(record::run(arguments)),
        Command::Replay(arguments) => replay::run(arguments),
        Command::Suite(arguments) => suite::run(arguments),
        Command::Report(arguments) => report::run(arguments),
        Command::Compare(arguments) => return gate(compare::run(arguments)),
        Command::Rank(arguments) => rank::run(arguments),
        Command::Fidelity(arguments) => fidelity::run(arguments),
        Command::Trace(arguments) => return gate(trace::run(arguments)),

        Command::Lib(arguments) => lib_file::run(arguments),
        Command::Selftest(arguments) => selftest::run(arguments),
        Command::Completions(arguments) => completions::run(arguments),
    })
}

/// `main` of the `replay` program.
pub fn replay() -> ExitCode {
    finish(replay::run(&Replay::parse().arguments))
}

/// A gate that closes is no error: it ends with 1, and what it printed says why.
fn gate(result: Result<bool>) -> ExitCode {
    match result {
        Ok(false) => ExitCode::FAILURE,
        Ok(true) => finish(Ok(())),
        Err(error) => finish(Err(error)),
    }
}

/// The exit code of a command that hands on another program's.
fn status(result: Result<ExitCode>) -> ExitCode {
    match result {
        Ok(code) => code,
        Err(error) => finish(Err(error)),
    }
}

fn finish(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            terminal::complain(&format!("error: {error}"));
            ExitCode::from(error.exit_code())
        }
    }
}
