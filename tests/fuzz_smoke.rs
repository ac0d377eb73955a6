//! A short run of what `fuzz/` does for hours: altered copies of every fixture, for every family of
//! parsers. The alterations follow from a seed, which is printed with what they find.
//!
//! ```sh
//! FUZZ_MUTATIONS=100000 FUZZ_SEED=7 cargo test --test fuzz_smoke
//! ```

#![cfg(feature = "suite")]

mod fuzzing;

use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use fuzzing::families::{FAMILIES, Family};
use fuzzing::memory::{Counting, peak_of};
use fuzzing::mutate::{Numbers, mutate};
use fuzzing::reading::{LENIENT, Outcome, STRICT, read};
use fuzzing::{seeds, tools};
use mymalloc::trace::tools::guarantees::Guarantees;
use mymalloc::trace::{ReadOptions, read_bytes};

#[global_allocator]
static HEAP: Counting = Counting;

/// Resident memory that all of this may take beyond what it began with: several inputs are read at a
/// time, each within its own bound, and zstd keeps a window of up to 128 MiB.
const RESIDENT_BYTES_MAX: u64 = 1 << 30;

fn asked(variable: &str, otherwise: u64) -> u64 {
    let asked = std::env::var(variable).ok();
    asked.map_or(otherwise, |number| {
        number
            .parse()
            .unwrap_or_else(|_| panic!("{variable} is a number"))
    })
}

/// The most resident memory that there was.
fn resident_peak_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    let kib: u64 = line
        .unwrap()
        .split_whitespace()
        .nth(1)
        .unwrap()
        .parse()
        .unwrap();
    kib * 1024
}

/// Runs one input; what fails is kept, and said how to get it again.
fn run(family: &Family, what: &str, bytes: &[u8]) {
    let Err(panic) = catch_unwind(AssertUnwindSafe(|| (family.check)(bytes))) else {
        return;
    };
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("fuzz-{}", family.name));
    let kept = std::fs::write(&path, bytes);
    eprintln!(
        "{}: {what} fails; the {} bytes are in {} ({kept:?})",
        family.name,
        bytes.len(),
        path.display()
    );
    std::panic::resume_unwind(panic);
}

/// The seeds of a family as they are, what fuzzing has found, and alterations of the seeds.
fn family(name: &str, alterations: u64) {
    let family = FAMILIES.iter().find(|family| family.name == name).unwrap();
    let (seed, count) = (asked("FUZZ_SEED", 1), asked("FUZZ_MUTATIONS", alterations));
    let seeds = (family.seeds)();
    assert!(!seeds.is_empty());
    for (name, bytes) in seeds.iter().chain(&seeds::found(name)) {
        run(family, name, bytes);
    }
    let files: Vec<Vec<u8>> = seeds.into_iter().map(|(_, bytes)| bytes).collect();
    let mut numbers = Numbers::new(seed);
    let before = resident_peak_bytes();
    for number in 0..count {
        let file = &files[number as usize % files.len()];
        let altered = mutate(file, &files, &mut numbers);
        run(
            family,
            &format!("FUZZ_SEED={seed} alteration {number}"),
            &altered,
        );
    }
    let grown = resident_peak_bytes().saturating_sub(before);
    assert!(grown <= RESIDENT_BYTES_MAX, "{} MiB more", grown >> 20);
}

#[test]
fn altered_native_files() {
    family("native", 6000);
}

#[test]
fn altered_heaptrack_files() {
    family("heaptrack", 8000);
}

#[test]
fn altered_lines() {
    family("lines", 12_000);
}

#[test]
fn altered_bytes() {
    family("bytes", 12_000);
}

#[test]
fn altered_files_through_the_tools() {
    family("tools", 1500);
}

#[test]
fn altered_inputs() {
    family("inputs", 3000);
}

/// The seeds that are good files are read as such: otherwise the alterations begin with nothing.
#[test]
fn seeds_are_read() {
    for name in ["heaptrack", "lines", "bytes"] {
        let family = FAMILIES.iter().find(|family| family.name == name).unwrap();
        for (file, bytes) in (family.seeds)() {
            if let Outcome::Refused(message) = read(&bytes, &LENIENT) {
                panic!("{name}/{file}: {message}");
            }
        }
    }
}

/// Heap that a small file may take, whatever it claims.
const SMALL_BYTES_MAX: u64 = 16 << 20;

/// Numbers that no file of this size can mean: each claims what would fill the memory, were it believed.
#[test]
fn claims_are_not_believed() {
    let huge = 1_u64 << 60;
    let lines = |lines: &[String]| lines.concat().into_bytes();
    let rep = |ids: u64| lines(&[format!("1\n{ids}\n{huge}\n1\na 0 8\nf 0\n")]);
    let cases = [
        ("2^60 operations in a .rep", rep(1)),
        ("2^60 ids in a .rep", rep(huge)),
        (
            "an id of 2^60",
            lines(&["1\n2\n".to_owned(), format!("a {huge} 8\nf {huge}\n")]),
        ),
        (
            "an id that does not fit 64 bits",
            lines(&["1\n2\na 99999999999999999999 8\nf 0\n".to_owned()]),
        ),
        (
            "2^60 events in a native text",
            lines(&[
                "# mymalloc trace text 1\n1 1 malloc(8)=#1\n".to_owned(),
                format!("# end {huge}\n"),
            ]),
        ),
        (
            "a slot and a thread of 2^64 - 1",
            lines(&[
                "# mymalloc trace text 1\n".to_owned(),
                format!("1 {} malloc(8)=#{}\n# end 1\n", u64::MAX, u64::MAX),
            ]),
        ),
        (
            "a size above the address space",
            lines(&[format!("1 1 malloc({huge})=#1\n")]),
        ),
        (
            "a calloc whose product overflows",
            lines(&[format!("1: calloc 0x10 {huge} {huge}\n")]),
        ),
        (
            "a string of 2^60 bytes in a heaptrack file",
            lines(&[
                "v 10400 3\n".to_owned(),
                format!("s {huge:x} main\na 8 0\n+ 0\n"),
            ]),
        ),
        (
            "the 2^60th call stack in a heaptrack file",
            lines(&[
                "v 10400 3\n".to_owned(),
                format!("t 10 {huge:x}\n+ 8 {huge:x} 10\n"),
            ]),
        ),
        ("an empty gzip stream", tools::gzip(b"")),
    ];
    for (what, bytes) in cases {
        for options in [&STRICT, &LENIENT] {
            let ((), peak) = peak_of(|| drop(read(&bytes, options)));
            assert!(peak <= SMALL_BYTES_MAX, "{what}: {peak} bytes");
        }
    }
    let Outcome::Refused(message) = read(&rep(1), &STRICT) else {
        panic!("a file of two operations does not hold 2^60");
    };
    assert!(
        message.contains("announces 1 block and 1152921504606846976 operations"),
        "{message}"
    );
}

/// A binary trace that claims 2^60 events, 2^32 - 1 blocks, or more chunks than there are, under right
/// checksums.
#[test]
fn a_binary_trace_that_claims_too_much() {
    let native = (FAMILIES[0].seeds)();
    let (_, seed) = native
        .iter()
        .find(|(name, _)| name.ends_with("-unpacked"))
        .unwrap();
    let binary = &seed[1..];
    // Of the first chunk, behind the head of the file and that of the section: first event, first
    // block, events, live blocks, columns.
    for (place, claimed) in [
        (0, &(1_u64 << 60).to_le_bytes()[..]),
        (8, &[0xff; 4]),
        (12, &[0xff; 4]),
        (12, &[0, 0, 16, 0]),
        (16, &[0xff; 4]),
        (20, &[0xff; 4]),
    ] {
        let mut altered = binary.to_vec();
        altered[28 + place..][..claimed.len()].copy_from_slice(claimed);
        let altered = fuzzing::disguise::sealed(&altered);
        let (outcome, peak) = peak_of(|| read(&altered, &STRICT));
        assert!(peak <= SMALL_BYTES_MAX, "{peak} bytes");
        match outcome {
            Outcome::Refused(message) => {
                assert!(message.starts_with("t: chunk 0 at byte 16: "), "{message}");
            }
            // How many blocks live before a chunk is for those who enter there.
            _ => assert_eq!(place, 16),
        }
    }
}

/// Some kilobytes that unpack to a quarter of a gigabyte: read to the end, in the memory that the text
/// itself takes.
#[test]
fn packed_bombs() {
    const BOMB_BYTES: usize = 256 << 20;
    let piece = b"1 1 malloc(8)=#1\n1 1 free(#1)\n".repeat(1 << 15);
    let pieces = || std::iter::repeat_n(&piece, BOMB_BYTES / piece.len());
    let gzip = {
        let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        pieces().for_each(|piece| out.write_all(piece).unwrap());
        out.finish().unwrap()
    };
    let zstd = {
        let mut out = zstd::Encoder::new(Vec::new(), 1).unwrap();
        pieces().for_each(|piece| out.write_all(piece).unwrap());
        out.finish().unwrap()
    };
    let zip = {
        let mut out = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        out.start_file("t", zip::write::SimpleFileOptions::default())
            .unwrap();
        pieces().for_each(|piece| out.write_all(piece).unwrap());
        out.finish().unwrap().into_inner()
    };
    for (name, bomb) in [("gzip", gzip), ("zstd", zstd), ("zip", zip)] {
        assert!(bomb.len() < 4 << 20, "{name}: {} bytes", bomb.len());
        let mut sink = Guarantees::new();
        let options = ReadOptions::default();
        let (read, peak) = peak_of(|| read_bytes(Path::new("t"), &bomb, &options, &mut sink));
        read.unwrap_or_else(|error| panic!("{name}: {error}"));
        let lines = (BOMB_BYTES / piece.len()) << 16;
        assert_eq!(sink.events(), lines as u64, "{name}");
        assert!(peak <= SMALL_BYTES_MAX, "{name}: {peak} bytes");
    }
}
