//! Where altering begins: the fixtures of all tests, and pieces of the bundled traces.

use std::path::{Path, PathBuf};

use mymalloc::trace::tools::slice::{LiveSet, Window, slice};
use mymalloc::trace::wire::{
    Kind, TAG_CALLOC, TAG_FREE, TAG_FREE_SIZED, TAG_MALLOC, TAG_REALLOC_BEGIN, TAG_REALLOC_END,
    TAG_SEQUENCE, TAG_SITE, TAG_SWITCH, TAG_THREAD, TAG_THREAD_END, TAG_THREAD_START, TAG_TIME,
    general, number, small,
};
use mymalloc::trace::{OutputFormat, ReadOptions, Trace, write_to};

use super::disguise::{compact, unpacked};
use super::families::{AS_IT_IS, RECORDED, SEALED};
use super::tools::{gzip, zip};

#[path = "../importers/fixtures.rs"]
mod fixtures;

/// Longer files are cut behind a line: short ones are altered where it matters more often.
const SEED_BYTES_MAX: usize = 12 * 1024;

/// A file by name.
pub(crate) type Seed = (String, Vec<u8>);

/// The project's folder.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let is_root = |folder: &&Path| folder.join("tests/data").is_dir();
    let root = here.ancestors().find(is_root);
    root.expect("the fixtures lie in this project").to_owned()
}

/// The files of a folder, by name.
fn folder(folder: &str) -> Vec<Seed> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(root().join(folder)).expect("a folder of fixtures") {
        let path = entry.expect("a fixture").path();
        let name = path
            .file_name()
            .expect("a file")
            .to_string_lossy()
            .into_owned();
        if path.is_file() {
            files.push((name, std::fs::read(path).expect("a fixture can be read")));
        }
    }
    files.sort();
    files
}

/// At most [`SEED_BYTES_MAX`] of a text, in whole lines.
fn shortened(mut text: Vec<u8>) -> Vec<u8> {
    if text.len() > SEED_BYTES_MAX {
        let end = text[..SEED_BYTES_MAX]
            .iter()
            .rposition(|&byte| byte == b'\n');
        text.truncate(end.map_or(SEED_BYTES_MAX, |end| end + 1));
    }
    text
}

/// Pieces of the bundled traces, by name.
fn pieces() -> Vec<(String, Trace)> {
    const COUNT: u64 = 120;
    // Together they have threads, call sites, times and every kind of call.
    [
        "python.trace",
        "redis.trace",
        "node.trace",
        "quickstart.log.zst",
    ]
    .into_iter()
    .map(|name| {
        let path = root().join("workloads/traces").join(name);
        let trace = mymalloc::trace::read(&path, &ReadOptions::default());
        let trace = trace.unwrap_or_else(|error| panic!("{error}"));
        let first = trace.events().len() as u64 / 2;
        let window = Window::Events {
            first,
            count: COUNT,
        };
        let piece = slice(&trace, window, LiveSet::Drop);
        (
            name.to_owned(),
            piece.unwrap_or_else(|error| panic!("{error}")),
        )
    })
    .collect()
}

fn written(trace: &Trace, format: OutputFormat) -> Vec<u8> {
    let mut bytes = Vec::new();
    write_to(trace, &mut bytes, format).expect("a piece can be written");
    bytes
}

/// The same file packed by each packer.
fn packed(name: &str, bytes: &[u8]) -> Vec<Seed> {
    let zstd = zstd::encode_all(bytes, 1).expect("into memory");
    vec![
        (format!("{name}.gz"), gzip(bytes)),
        (format!("{name}.zst"), zstd),
        (format!("{name}.zip"), zip(bytes)),
    ]
}

/// Text, binary, and what the recorder writes; the first byte says how the rest is to be taken.
pub(crate) fn native() -> Vec<Seed> {
    let mut seeds = Vec::new();
    let mut add = |name: String, kind: u8, bytes: &[u8]| {
        seeds.push((name, [&[kind], bytes].concat()));
    };
    for (name, piece) in pieces() {
        let binary = written(&piece, OutputFormat::Binary);
        let text = written(&piece, OutputFormat::Text);
        add(format!("{name}-binary"), AS_IT_IS, &binary);
        add(format!("{name}-unpacked"), SEALED, &unpacked(&binary));
        add(format!("{name}-text"), AS_IT_IS, &text);
        if name.starts_with("redis") {
            for (name, packed) in packed(&name, &text) {
                add(name, AS_IT_IS, &packed);
            }
        }
    }
    add("recorded".to_owned(), RECORDED, &compact(0, &words(false)));
    // Times and call sites.
    add(
        "recorded-all".to_owned(),
        RECORDED,
        &compact(3, &words(true)),
    );
    // Begun in mid-life.
    let switched = vec![
        number(TAG_SEQUENCE, 0),
        number(TAG_THREAD, 0),
        number(TAG_SWITCH, 1),
        number(TAG_SWITCH, 0),
        small(TAG_FREE, 0, 0x5000),
        small(TAG_MALLOC, 24, 0x5000),
    ];
    add("switched".to_owned(), RECORDED, &compact(4, &[switched]));
    seeds
}

/// The words of a recording with every kind of event, by two threads.
fn words(extras: bool) -> Vec<Vec<u64>> {
    let stamped = |event: u64, words: &[u64]| {
        let mut all = Vec::new();
        if extras {
            all.push(number(TAG_TIME, 1000 * event));
            all.push(number(TAG_SITE, 0x40_0000 + event % 3));
        }
        all.extend_from_slice(words);
        all
    };
    let mut first = vec![number(TAG_SEQUENCE, 0), number(TAG_THREAD, 0)];
    for (at, event) in (0_u64..).zip([
        vec![small(TAG_MALLOC, 100, 0x1000)],
        vec![small(TAG_CALLOC, 3, 0x2000), 64],
        vec![general(Kind::PosixMemalign, 6), 0x3000, 200, 0],
        vec![small(TAG_REALLOC_BEGIN, 0, 0x1000)],
        vec![small(TAG_REALLOC_END, 150, 0x1000)],
        vec![general(Kind::Malloc, 0), 0x7f00_0000_1000, 1 << 20, 0],
        vec![small(TAG_FREE, 0, 0)],
        vec![small(TAG_MALLOC, 0, 0)],
        vec![general(Kind::Valloc, 0), 0x8000, 10, 0],
    ]) {
        first.extend(stamped(at, &event));
    }
    let mut second = vec![number(TAG_SEQUENCE, 9), number(TAG_THREAD, 1)];
    for (at, event) in (9_u64..).zip([
        vec![small(TAG_THREAD_START, 0, 0)],
        vec![small(TAG_FREE_SIZED, 64, 0x2000)],
        vec![general(Kind::Free, 0), 0x3000, 200, 1],
        vec![small(TAG_FREE, 0, 0x9000)],
        vec![small(TAG_THREAD_END, 0, 0)],
    ]) {
        second.extend(stamped(at, &event));
    }
    vec![first, second]
}

/// heaptrack's files, as recorded and interpreted, packed or not.
pub(crate) fn heaptrack() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for (name, bytes) in folder("tests/data/heaptrack") {
        if name.ends_with(".txt") {
            let bytes = shortened(bytes);
            seeds.extend(packed(&name, &bytes));
            seeds.push((name, bytes));
        }
    }
    for (name, text) in [
        ("v0", "v 10000\n+ 1 0 10\n- 10\n"),
        (
            "v1",
            "v 10200\ns main\ns a.c\ni 10 1 2 1 4\nt 1 0\na 20 1\n+ 0\n+ 0\n- 0\n",
        ),
        (
            "v2",
            "v 10300 2\nx /bin/a\nm x 400000 0 1000\nm 1 -\nt 400010 0\n+ 8 1 20\n",
        ),
        (
            "v3",
            "v 10400 3\nx 6 /bin/a\nX a b\nI 1000 10\nA\nm 1 x 0 0 ffffffff\nt 1 0\n+ 0 1 1\nc 1\nR 2\n",
        ),
    ] {
        seeds.push((name.to_owned(), text.as_bytes().to_vec()));
    }
    seeds
}

/// Formats of lines.
pub(crate) fn lines() -> Vec<Seed> {
    let mut seeds = folder("tests/data");
    seeds.extend(folder("tests/data/traces"));
    seeds.retain(|(name, _)| {
        [".txt", ".log", ".rep"]
            .iter()
            .any(|end| name.ends_with(end))
    });
    for (_, bytes) in &mut seeds {
        *bytes = shortened(std::mem::take(bytes));
    }
    for name in ["android-times.txt", "valgrind.txt"] {
        let seed = seeds.iter().find(|(other, _)| other == name);
        let (_, bytes) = seed.expect("a fixture").clone();
        seeds.extend(packed(name, &bytes));
    }
    let (name, piece) = pieces().swap_remove(1);
    for format in [
        OutputFormat::Logalloc,
        OutputFormat::Android,
        OutputFormat::Rep,
    ] {
        seeds.push((format!("{name}-{format:?}"), written(&piece, format)));
    }
    seeds
}

/// Formats of bytes.
pub(crate) fn bytes() -> Vec<Seed> {
    let mut seeds: Vec<Seed> = fixtures::all()
        .into_iter()
        .map(|fixture| (fixture.name.replace(' ', "-"), fixture.bytes))
        .collect();
    let protobuf = seeds.iter().find(|(name, _)| name == "protobuf");
    let (name, bytes) = protobuf.expect("a fixture").clone();
    seeds.extend(packed(&name, &bytes));
    seeds
}

/// Files of all families that are text, or binary as it is, behind eight bytes that choose what the
/// tools do.
pub(crate) fn tools() -> Vec<Seed> {
    let mut seeds = Vec::new();
    for (name, bytes) in native() {
        if bytes[0] == AS_IT_IS {
            seeds.push((name, bytes[1..].to_vec()));
        }
    }
    seeds.extend(lines());
    for ((_, bytes), choice) in seeds.iter_mut().zip(1_u64..) {
        // Any numbers, as long as they differ.
        let choice = choice.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        bytes.splice(..0, choice.to_le_bytes());
    }
    seeds
}

/// Definitions, tables, catalogues, results.
pub(crate) fn inputs() -> Vec<Seed> {
    let mut seeds = folder("workloads/definitions");
    for (name, bytes) in folder("workloads/fleet") {
        if name.ends_with(".csv") {
            seeds.push((name, bytes[..bytes.len().min(2000)].to_vec()));
        }
    }
    seeds.extend(
        folder("workloads")
            .into_iter()
            .filter(|(name, _)| name.ends_with(".toml")),
    );
    seeds.extend(
        folder("tests/data")
            .into_iter()
            .filter(|(name, _)| name.ends_with(".json")),
    );
    seeds
}

/// What fuzzing found, by family: each was mended, and is checked ever since.
pub(crate) fn found(family: &str) -> Vec<Seed> {
    match root().join("tests/fuzzing/found").join(family) {
        path if path.is_dir() => folder(&format!("tests/fuzzing/found/{family}")),
        _ => Vec::new(),
    }
}
