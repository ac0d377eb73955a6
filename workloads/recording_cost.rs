//! What recording costs programs: user and system time under the recorder, as a ratio of that without,
//! against the project's bars, and in the same rounds the ratio of heaptrack.
//!
//! ```text
//! cargo run --release --example recording_cost              about 7 minutes, on a machine that is idle
//! cargo run --release --example recording_cost -- --rounds 3 loop sqlite
//! ```
//! A round runs a program bare, recorded, and (every fourth round, as it takes long) under heaptrack, in
//! an order that is drawn anew each time; a ratio is of two runs of one round. What is counted is the
//! program's own process: `mymalloc record` beside it copies what was recorded, in CPU time that is told
//! apart, and makes the trace when the program has ended, which is not counted at all. Likewise only
//! heaptrack's part in the program is counted, not its interpreter, which runs beside.
//!
//! Programs that are not installed are named and left out.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};

use clap::Parser;
use mymalloc::error::{Error, Result};
use mymalloc::record::cost::{Cost, Observer, Rig};
use mymalloc::statistics::{Interval, bootstrap_median};
use rand::SeedableRng as _;
use rand::seq::SliceRandom as _;
use rand_pcg::Pcg64Mcg;

/// First argument of this program as the bare loop.
const LOOP: &str = "--mymalloc-bare-loop";
/// Where Debian and others put what heaptrack preloads.
const HEAPTRACK: [&str; 3] = [
    "/usr/lib/heaptrack/libheaptrack_preload.so",
    "/usr/lib64/heaptrack/libheaptrack_preload.so",
    "/usr/local/lib/heaptrack/libheaptrack_preload.so",
];
/// heaptrack runs in the first of so many rounds.
const HEAPTRACK_ROUNDS: u32 = 4;
const RESAMPLES: u32 = 2000;
const SEED: u64 = 20_261_126;

/// What recording costs programs, in paired runs, against the project's bars
#[derive(Debug, Parser)]
struct Arguments {
    /// Rounds of each program
    #[arg(long, default_value_t = 21)]
    rounds: u32,

    /// Pairs of malloc and free in the bare loop
    #[arg(long, default_value_t = 30_000_000)]
    loop_pairs: u32,

    /// Leave heaptrack out
    #[arg(long)]
    no_heaptrack: bool,

    /// Only these: python, python-malloc, cc1, sqlite, loop
    names: Vec<String>,
}

/// A program to be measured.
struct Program {
    name: &'static str,
    /// Ratio of its times that recording must not exceed.
    bar: f64,
    command: Box<dyn Fn() -> Command>,
}

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    if words.next().as_deref() == Some(LOOP) {
        bare_loop(words.next().and_then(|pairs| pairs.parse().ok()));
        return ExitCode::SUCCESS;
    }
    match run(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Nothing but malloc and free of 64 bytes.
fn bare_loop(pairs: Option<u64>) {
    for _ in 0..pairs.unwrap_or(0) {
        // SAFETY: the block is freed right away and never used.
        unsafe { libc::free(std::hint::black_box(libc::malloc(std::hint::black_box(64)))) };
    }
}

/// Whether every bar holds.
fn run(arguments: &Arguments) -> Result<bool> {
    let work = tempfile::tempdir().map_err(|error| Error::Failed(error.to_string()))?;
    let rig = Rig::new(work.path())?;
    let heaptrack = HEAPTRACK.iter().map(Path::new).find(|path| path.exists());
    let heaptrack = heaptrack.filter(|_| !arguments.no_heaptrack);
    if heaptrack.is_none() {
        println!("heaptrack: left out, or not installed");
    }
    println!(
        "{:<14} {:>5} {:>8}  {:<24} {:<24} {:>9} {:>7} {:>9}",
        "program",
        "bar",
        "bare",
        "recorded, CPU",
        "recorded, wall",
        "beside it",
        "written",
        "heaptrack"
    );
    let mut holds = true;
    for program in programs(work.path(), arguments)? {
        let asked = &arguments.names;
        if asked.is_empty() || asked.iter().any(|name| name == program.name) {
            holds &= measure(&program, &rig, heaptrack, arguments.rounds)?;
        }
    }
    Ok(holds)
}

/// Runs of one program; whether its bar holds.
fn measure(program: &Program, rig: &Rig, heaptrack: Option<&Path>, rounds: u32) -> Result<bool> {
    let mut random = Pcg64Mcg::seed_from_u64(SEED);
    let heaptrack = heaptrack.map(|preload| Observer::Other {
        preload: preload.to_owned(),
        variable: "DUMP_HEAPTRACK_OUTPUT".to_owned(),
    });
    let (mut cpu, mut wall, mut beside, mut bare, mut other) =
        (vec![], vec![], vec![], vec![], vec![]);
    let mut written_bytes = 0;
    // Files are read from the disk, once.
    rig.run(&mut (program.command)(), &Observer::Nobody)?;
    for round in 0..rounds {
        let mut observers = vec![Observer::Nobody, Observer::Recorder];
        if round % HEAPTRACK_ROUNDS == 0 {
            observers.extend(heaptrack.clone());
        }
        observers.shuffle(&mut random);
        let mut costs: Vec<(Observer, Cost)> = Vec::new();
        for observer in observers {
            let cost = rig.run(&mut (program.command)(), &observer)?;
            costs.push((observer, cost));
        }
        let of = |wanted: &Observer| {
            costs
                .iter()
                .find(|cost| cost.0 == *wanted)
                .map(|cost| cost.1)
        };
        let (Some(without), Some(with)) = (of(&Observer::Nobody), of(&Observer::Recorder)) else {
            continue;
        };
        let base = without.cpu.as_secs_f64();
        bare.push(base);
        cpu.push(with.cpu.as_secs_f64() / base);
        wall.push(with.wall.as_secs_f64() / without.wall.as_secs_f64());
        beside.push(with.copying_cpu.as_secs_f64() / base);
        written_bytes = with.written_bytes;
        if let Some(cost) = heaptrack.as_ref().and_then(of) {
            other.push(cost.cpu.as_secs_f64() / base);
        }
    }
    let Some(ratio) = bootstrap_median(&cpu, RESAMPLES, SEED) else {
        return Err(Error::Failed("no rounds".to_owned()));
    };
    let median = |values: &[f64]| bootstrap_median(values, 1, SEED).map_or(0.0, |all| all.median);
    let holds = ratio.median <= program.bar;
    println!(
        "{:<14} {:>5.2} {:>6.0}ms  {:<24} {:<24} {:>9} {:>5.0}MB {:>9}",
        program.name,
        program.bar,
        median(&bare) * 1e3,
        format!(
            "{}{}",
            interval(Some(ratio)),
            if holds { "" } else { " OVER" }
        ),
        interval(bootstrap_median(&wall, RESAMPLES, SEED)),
        format!("+{:.3}", median(&beside)),
        written_bytes as f64 / 1e6,
        match other.is_empty() {
            true => "-".to_owned(),
            false => format!("{:.2}", median(&other)),
        },
    );
    Ok(holds)
}

/// "1.023 (1.020 to 1.031)"
fn interval(found: Option<Interval>) -> String {
    found.map_or_else(String::new, |found| {
        format!(
            "{:.3} ({:.3} to {:.3})",
            found.median, found.low, found.high
        )
    })
}

/// What is installed, prepared in a folder.
fn programs(work: &Path, arguments: &Arguments) -> Result<Vec<Program>> {
    let mut found = Vec::new();
    let mut add = |name, bar, command: Option<Box<dyn Fn() -> Command>>| match command {
        Some(command) => found.push(Program { name, bar, command }),
        None => println!("{name}: left out, as what it needs is not installed"),
    };
    let python = python(work)?;
    let plain = python.clone().map(|words| command(words, &[]));
    add("python", 1.05, plain);
    let malloc = python.map(|words| command(words, &[("PYTHONMALLOC", "malloc")]));
    add("python-malloc", 1.25, malloc);
    add(
        "cc1",
        1.10,
        compiler(work)?.map(|words| command(words, &[])),
    );
    add(
        "sqlite",
        1.15,
        sqlite(work)?.map(|words| command(words, &[])),
    );
    let own = std::env::current_exe().map_err(|error| Error::Failed(error.to_string()))?;
    let pairs = arguments.loop_pairs.to_string();
    let words = vec![own, LOOP.into(), pairs.into()];
    add("loop", 2.0, Some(command(words, &[])));
    Ok(found)
}

/// A command of these words, in an environment with these variables.
fn command(words: Vec<PathBuf>, variables: &'static [(&str, &str)]) -> Box<dyn Fn() -> Command> {
    Box::new(move || {
        let mut command = Command::new(&words[0]);
        command.args(&words[1..]).envs(variables.iter().copied());
        command
    })
}

/// A program's absolute path. Scripts that stand before it in the path are passed over: of what they
/// start, heaptrack would see nothing.
fn installed(name: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    let mut paths = std::env::split_paths(&folders).map(|folder| folder.join(name));
    paths.find(|path| {
        let mut head = [0; 4];
        let file = std::fs::File::open(path);
        let read = file.and_then(|mut file| file.read_exact(&mut head));
        read.is_ok() && head == *b"\x7fELF"
    })
}

fn write(path: &Path, text: &str) -> Result<()> {
    std::fs::write(path, text).map_err(|source| Error::io(path, "write", source))
}

/// CPython on a script that makes, writes, reads, sorts and joins records.
fn python(work: &Path) -> Result<Option<Vec<PathBuf>>> {
    let Some(python) = installed("python3") else {
        return Ok(None);
    };
    let script = work.join("records.py");
    write(&script, include_str!("programs/records.py"))?;
    Ok(Some(vec![python, "-S".into(), script]))
}

/// The C compiler proper on a program of 150 functions.
fn compiler(work: &Path) -> Result<Option<Vec<PathBuf>>> {
    let Some(gcc) = installed("gcc") else {
        return Ok(None);
    };
    let script = include_str!("programs/compile.sh");
    let making = script.split("\ngcc ").next().unwrap_or_default();
    let told = |command: &mut Command| -> Option<String> {
        let output = command
            .current_dir(work)
            .stdin(Stdio::null())
            .output()
            .ok()?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        output.status.success().then_some(text)
    };
    let preprocess = ["-E", "program.c", "-o", "program.i"];
    let cc1 = told(Command::new("sh").args(["-c", making]))
        .and_then(|_| told(Command::new(&gcc).args(preprocess)))
        .and_then(|_| told(Command::new(&gcc).arg("-print-prog-name=cc1")));
    let Some(cc1) = cc1.map(PathBuf::from).filter(|path| path.is_absolute()) else {
        return Ok(None);
    };
    let mut words = vec![cc1];
    words.extend(["-fpreprocessed", "-O2", "-quiet"].map(PathBuf::from));
    words.extend([work.join("program.i"), "-o".into(), work.join("program.s")]);
    Ok(Some(words))
}

/// sqlite that fills two tables in memory and asks of them.
fn sqlite(work: &Path) -> Result<Option<Vec<PathBuf>>> {
    let Some(sqlite) = installed("sqlite3") else {
        return Ok(None);
    };
    let script = work.join("load.sql");
    write(&script, include_str!("programs/sqlite.sql"))?;
    let mut read = std::ffi::OsString::from(".read ");
    read.push(&script);
    let words = ["-batch", "-init", "/dev/null", ":memory:"].map(PathBuf::from);
    let words = std::iter::once(sqlite).chain(words);
    Ok(Some(words.chain([read.into()]).collect()))
}
