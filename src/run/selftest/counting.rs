//! Counts the instructions of a round, one by one.

use super::rounds::{CLASSES, trace};
use crate::error::{Error, Result};
use crate::measure::results::Touch;
use crate::replay::program::{Program, ProgramView};
use crate::replay::serial::Replayer;
use crate::replay::speed;
use crate::run::steps;
use crate::subject::functions::Functions;

/// Replays before the one whose instructions are counted.
const SETTLING_PASSES: usize = 8;

/// Counts the instructions of a round of the replay, as samples perform it, by difference.
pub(super) fn instructions_per_round(functions: Functions) -> Result<u64> {
    let unable = || {
        Error::Failed(
            "instructions cannot be counted here: that is written for x86-64 only".to_owned(),
        )
    };
    let mut counts = Vec::new();
    for rounds in [1, 2] {
        let count = with_replayer(rounds, functions, |replayer| {
            let _held = hold_free_blocks();
            // Until every block lies where the rounds will find it again: after two or three passes.
            for _ in 0..SETTLING_PASSES {
                speed::timed_pass(replayer, Touch::Page).ok()?;
            }
            // No clock inside: reading it takes more instructions when it is being set meanwhile.
            let mut failed = false;
            let count = steps::count(|| {
                failed = speed::untimed_replay(replayer, Touch::Page).is_err();
            });
            let drained = replayer.drain(&mut speed::TouchNone).is_ok();
            count.filter(|_| !failed && drained)
        })?;
        counts.push(count.ok_or_else(unable)?);
    }
    Ok(counts[1] - counts[0])
}

/// Takes every free block of the round's sizes, and keeps them until it is dropped. What this process
/// freed before would else fill the thread's free lists, and a round that overflows them takes other
/// paths than its neighbours.
fn hold_free_blocks() -> Vec<Vec<u8>> {
    /// More than there ever are.
    const EACH: usize = 1024;
    // From the largest down: what is left over from splitting a larger block is taken later.
    let sizes = (0..=CLASSES).rev().map(|class| 24 + 16 * class);
    sizes
        .flat_map(|bytes| (0..EACH).map(move |_| Vec::with_capacity(bytes)))
        .collect()
}

/// Makes a replayer of so many rounds and lends it.
fn with_replayer<R>(
    rounds: usize,
    functions: Functions,
    work: impl FnOnce(&mut Replayer<'_>) -> R,
) -> Result<R> {
    let program = Program::compile(&trace(rounds))?;
    let folder = tempfile::tempdir()
        .map_err(|source| Error::io(std::env::temp_dir(), "make a folder in", source))?;
    let path = folder.path().join("program");
    program.save(&path)?;
    let bytes = std::fs::read(&path).map_err(|source| Error::io(&path, "read", source))?;
    // Views want the alignment that mapped files have.
    let mut aligned = vec![0_u64; bytes.len().div_ceil(8)];
    aligned
        .iter_mut()
        .zip(bytes.chunks(8))
        .for_each(|(word, chunk)| {
            let mut eight = [0; 8];
            eight[..chunk.len()].copy_from_slice(chunk);
            *word = u64::from_ne_bytes(eight);
        });
    // SAFETY: the words are initialised and at least as many bytes as the file.
    let bytes = unsafe { std::slice::from_raw_parts(aligned.as_ptr().cast(), bytes.len()) };
    let view = ProgramView::new(bytes)
        .ok_or_else(|| Error::Failed("the compiled trace is damaged".to_owned()))?;
    let mut table = vec![core::ptr::null_mut(); view.slots as usize];
    // SAFETY: the functions are the C library's, realloc slowed at most; the program was compiled from
    // a trace, whose builder lets each block be released once.
    let mut replayer = unsafe { Replayer::new(view, &mut table, functions) };
    Ok(work(&mut replayer))
}

#[cfg(all(test, target_arch = "x86_64"))]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::subject::slowed::{self, Iterations};

    /// Under callgrind, this test is the work: so many rounds, so slowed.
    const WORK: &str = "MYMALLOC_TEST_ROUNDS";
    /// Instead of a number of rounds: count them here.
    const STEPS: &str = "steps";
    const TEST: &str = "run::selftest::counting::tests::counts_agree_with_callgrind";

    /// In a process of its own, as other tests' threads share this one's free blocks.
    fn rounds_by_steps(iterations: Iterations) -> u64 {
        let output = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", TEST, "--nocapture"])
            .env(WORK, STEPS)
            .env(slowed::VARIABLE, iterations.to_text())
            .output()
            .expect("this test starts");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let count = text.lines().find_map(|line| line.split_once(STEPS));
        let count = count.and_then(|(_, count)| count.trim().parse().ok());
        count.unwrap_or_else(|| panic!("the count is told: {output:?}"))
    }

    /// Callgrind counts between the start and the end of this function.
    #[inline(never)]
    #[unsafe(no_mangle)]
    extern "C" fn mymalloc_selftest_collected(replayer: &mut Replayer<'_>) {
        speed::untimed_replay(replayer, Touch::Page).expect("the C library's malloc works");
    }

    fn rounds_under_callgrind(rounds: usize, iterations: Iterations) -> u64 {
        let folder = tempfile::tempdir().expect("a folder");
        let output = Command::new("valgrind")
            .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
            .arg("--toggle-collect=mymalloc_selftest_collected")
            .arg(std::env::current_exe().expect("this test"))
            .args(["--exact", TEST])
            .env(WORK, rounds.to_string())
            .env(slowed::VARIABLE, iterations.to_text())
            .current_dir(folder.path())
            .output()
            .expect("valgrind starts");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{text}");
        let collected = text.lines().find_map(|line| line.split_once("Collected :"));
        let count = collected.and_then(|(_, count)| count.trim().parse().ok());
        count.unwrap_or_else(|| panic!("callgrind tells what it collected: {text}"))
    }

    #[test]
    fn counts_agree_with_callgrind() {
        if let Ok(rounds) = std::env::var(WORK) {
            if rounds == STEPS {
                let count = instructions_per_round(slowed::functions()).expect("counted");
                println!("{STEPS} {count}");
                return;
            }
            let rounds = rounds.parse().expect("a number");
            with_replayer(rounds, slowed::functions(), |replayer| {
                let _held = hold_free_blocks();
                for _ in 0..SETTLING_PASSES {
                    speed::timed_pass(replayer, Touch::Page).expect("the C library's malloc works");
                }
                mymalloc_selftest_collected(replayer);
            })
            .expect("prepared");
            return;
        }
        if Command::new("valgrind").arg("--version").output().is_err() {
            eprintln!("skipped: there is no valgrind");
            return;
        }
        let per_round = |iterations| {
            let collected = [1, 2].map(|rounds| rounds_under_callgrind(rounds, iterations));
            collected[1] - collected[0]
        };
        let slower = Iterations {
            fast: 500,
            slow: 50,
        };
        let none = Iterations { fast: 0, slow: 0 };
        let by_callgrind = [none, slower].map(per_round);
        let by_steps = [none, slower].map(rounds_by_steps);
        assert_eq!(by_steps[1] - by_steps[0], by_callgrind[1] - by_callgrind[0]);
        // Valgrind offers another processor's functions for memset and the like.
        let quotient = by_steps[0] as f64 / by_callgrind[0] as f64;
        assert!(
            (quotient - 1.0).abs() < 0.01,
            "{by_steps:?}, callgrind {by_callgrind:?}"
        );
    }
}
