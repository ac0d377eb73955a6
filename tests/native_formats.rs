//! The native formats are what `workloads/formats.md` says: files are read here by that text alone.

#![cfg(feature = "suite")]
#![forbid(unsafe_code)]

#[path = "common/trace_file.rs"]
mod trace_file;

use std::collections::HashMap;
use std::path::Path;

use mymalloc::trace::builder::TraceBuilder;
use mymalloc::trace::{
    AlignedFunction, BlockId, Event, Operation, Origin, OutputFormat, ReadOptions, SiteId,
    ThreadIndex, Trace, read, write_to,
};

const DOCUMENT: &str = include_str!("../workloads/formats.md");

/// Every kind of event, by two threads, each way to tell a victim, and numbers of all lengths.
fn everything(timed: bool, sited: bool) -> Trace {
    let mut builder = TraceBuilder::new(Origin::generated("everything", vec!["a note".to_owned()]));
    let mut now_ns = 1 << 60;
    let mut step = 1_u64;
    let mut moment = |builder: &mut TraceBuilder| {
        if timed {
            builder.stamp(now_ns);
        }
        if sited {
            builder.site(SiteId((step % 5) as u32 * 70_000));
        }
        // Back and forth, by little and by much.
        now_ns = now_ns
            .wrapping_add(step.wrapping_mul(step))
            .wrapping_sub(step % 3 * 5000);
        step = (step + 1 + step / 4) % 1_000_003;
    };
    let (first, second) = (ThreadIndex(0), ThreadIndex(1));
    builder.thread_start(first);
    moment(&mut builder);
    let mut blocks = Vec::new();
    for size in 0..600 {
        let thread = if size % 7 < 3 { second } else { first };
        blocks.push(builder.malloc(thread, size * size * 1000));
        moment(&mut builder);
    }
    let functions = [
        (AlignedFunction::Memalign, 0),
        (AlignedFunction::PosixMemalign, 3),
        (AlignedFunction::AlignedAlloc, 20),
        (AlignedFunction::Valloc, 12),
        (AlignedFunction::Pvalloc, 16),
    ];
    for (function, alignment_log2) in functions {
        blocks.push(builder.aligned(second, function, alignment_log2, 100));
        moment(&mut builder);
    }
    for count in [0, 1, 223, 224, 70_000, u32::MAX] {
        blocks.push(builder.calloc(first, count, 3));
        moment(&mut builder);
    }
    blocks.push(builder.realloc(second, None, 5));
    moment(&mut builder);
    for place in [0, 604, 300, 1, 2, 3, 10, 599] {
        blocks[place] = builder.realloc(second, Some(blocks[place]), 1 << 47);
        moment(&mut builder);
    }
    // From the young and from the old end, by turns, in steps of several sizes.
    let mut sized = false;
    while !blocks.is_empty() {
        let place = [blocks.len() - 1, 0, blocks.len() / 2][blocks.len() % 3];
        let thread = if blocks.len() % 5 < 2 { first } else { second };
        builder.free(thread, blocks.remove(place), sized);
        moment(&mut builder);
        sized = !sized;
    }
    builder.free_null(first);
    moment(&mut builder);
    builder.free_unseen(second);
    moment(&mut builder);
    builder.mark(first);
    moment(&mut builder);
    builder.failed_allocation(first);
    moment(&mut builder);
    builder.thread_end(second);
    moment(&mut builder);
    if sited {
        builder.name_sites(vec!["unknown".to_owned(), "main (a.c:1)".to_owned()]);
    }
    builder.finish()
}

fn written(trace: &Trace, format: OutputFormat) -> Vec<u8> {
    let mut bytes = Vec::new();
    let losses = write_to(trace, &mut bytes, format).unwrap();
    assert!(losses.is_empty(), "{losses:?}");
    bytes
}

/// The four traces with and without times and call sites.
fn traces() -> Vec<Trace> {
    let all = [(false, false), (true, false), (false, true), (true, true)];
    all.map(|(timed, sited)| everything(timed, sited)).into()
}

fn read_bytes(bytes: &[u8]) -> Trace {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    read(file.path(), &ReadOptions::default()).unwrap()
}

#[test]
fn binary() {
    for trace in traces() {
        let file = trace_file::decode(&written(&trace, OutputFormat::Binary));
        assert_eq!(file.events, trace.events());
        assert_eq!(file.times_ns, trace.times_ns().unwrap_or_default());
        assert_eq!(file.sites, trace.sites().unwrap_or_default());
        assert!(file.about.contains("\"a note\""), "{}", file.about);
        assert_eq!(
            file.about.contains("\"main (a.c:1)\""),
            trace.sites().is_some()
        );
        assert_eq!(file.chunks, 1);
    }
}

/// Numbers go on from chunk to chunk, and blocks are freed in later ones.
#[test]
fn binary_of_several_chunks() {
    let mut builder = TraceBuilder::new(Origin::generated("long", Vec::new()));
    let mut blocks = std::collections::VecDeque::new();
    while builder.len() < (1 << 20) * 2 + 1000 {
        let thread = ThreadIndex((builder.len() / 1000 % 2) as u32);
        blocks.push_back(builder.malloc(thread, builder.len() as u64 % 777));
        if blocks.len() > 50_000 {
            let place = blocks.len() * (builder.len() % 2) / 3;
            let block = blocks.remove(place).unwrap();
            builder.free(thread, block, false);
        }
    }
    let trace = builder.finish();
    let file = trace_file::decode(&written(&trace, OutputFormat::Binary));
    assert_eq!(file.chunks, 3);
    assert!(file.events == trace.events());
}

#[test]
fn the_bundled_ones() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("workloads/traces");
    for name in ["cc1", "git", "node", "perl"] {
        let path = folder.join(format!("{name}.trace"));
        let file = trace_file::decode(&std::fs::read(&path).unwrap());
        let trace = read(&path, &ReadOptions::default()).unwrap();
        assert!(file.events == trace.events(), "{name}");
        assert_eq!(file.times_ns, trace.times_ns().unwrap_or_default());
    }
}

/// The block of a kind between three back quotes, and the text before it.
fn example(kind: &str, behind: &str) -> &'static str {
    let at = DOCUMENT.find(behind).expect("the words before it");
    let fence = format!("```{kind}\n");
    let start = at + DOCUMENT[at..].find(&fence).expect("its first line") + fence.len();
    let length = DOCUMENT[start..].find("```").expect("its last line");
    &DOCUMENT[start..start + length]
}

#[test]
fn the_example_of_the_document() {
    let text = example("text", "### Example");
    let hex = example("hex", "### Example");
    let digits: String = hex.chars().filter(char::is_ascii_hexdigit).collect();
    let pairs = digits.as_bytes().chunks_exact(2);
    let bytes: Vec<u8> = pairs
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect();
    let from_text = read_bytes(text.as_bytes());
    let from_bytes = read_bytes(&bytes);
    let by_hand = trace_file::decode(&bytes);
    assert_eq!(from_text.events().len(), 4);
    assert_eq!(from_bytes.events(), from_text.events());
    assert_eq!(by_hand.events, from_text.events());
    assert_eq!(by_hand.about, "{}");
    assert_eq!(
        written(&from_bytes, OutputFormat::Text),
        written(&from_text, OutputFormat::Text)
    );
}

/// The text, line by line, as the document says.
#[test]
fn text() {
    for trace in traces() {
        let bytes = written(&trace, OutputFormat::Text);
        let text = String::from_utf8(bytes).unwrap();
        let mut lines = text.lines();
        assert_eq!(lines.next(), Some("# mymalloc trace text 1"));
        assert!(text.ends_with(&format!("\n# end {}\n", trace.events().len())));
        let mut reader = Slots::default();
        let mut about = String::new();
        let mut found = (Vec::new(), Vec::new(), Vec::new());
        for line in lines {
            if let Some(piece) = line.strip_prefix("# meta ") {
                about.push_str(piece);
            } else if !line.starts_with('#') {
                let mut words = line.split(' ');
                let (process, thread) = (words.next().unwrap(), words.next().unwrap());
                assert!(process.parse::<u64>().is_ok());
                let thread = ThreadIndex(thread.parse::<u32>().unwrap() - 1);
                let operation = reader.call(words.next().unwrap());
                found.0.push(Event { thread, operation });
                let mut rest: Vec<&str> = words.rev().collect();
                if trace.times_ns().is_some() {
                    let time = rest.pop().unwrap().strip_prefix("t=").unwrap();
                    found.1.push(time.parse::<u64>().unwrap());
                }
                if trace.sites().is_some() {
                    let site = rest.pop().unwrap().strip_prefix("s=").unwrap();
                    found.2.push(SiteId(site.parse().unwrap()));
                }
                assert!(rest.is_empty(), "{line}");
            }
        }
        assert_eq!(found.0, trace.events());
        assert_eq!(found.1, trace.times_ns().unwrap_or_default());
        assert_eq!(found.2, trace.sites().unwrap_or_default());
        assert_about(&about, &trace);
    }
}

/// `about` has the keys of the document's table and no other.
fn assert_about(about: &str, trace: &Trace) {
    let about: serde_json::Value = serde_json::from_str(about).unwrap();
    for key in about.as_object().unwrap().keys() {
        assert!(DOCUMENT.contains(&format!("`{key}`")), "{key}");
    }
    assert_eq!(about["notes"][0], "a note");
    assert_eq!(about.get("sites").is_some(), trace.sites().is_some());
}

/// Which block each slot holds.
#[derive(Default)]
struct Slots {
    blocks: HashMap<u32, BlockId>,
    next: u32,
}

impl Slots {
    fn call(&mut self, call: &str) -> Operation {
        let (function, rest) = call.split_once('(').unwrap();
        let (arguments, result) = rest.split_once(')').unwrap();
        let slot = |text: &str| text.strip_prefix('#').unwrap().parse::<u32>().unwrap();
        let result = result.strip_prefix('=').map(slot);
        let arguments: Vec<&str> = arguments.split(',').collect();
        let size = |text: &str| text.parse::<u64>().unwrap();
        let last = *arguments.last().unwrap();
        match (function, result) {
            ("malloc", Some(0)) => Operation::FailedAllocation,
            ("malloc", Some(result)) => Operation::Malloc {
                size: size(last),
                block: self.begin(result),
            },
            ("calloc", Some(result)) => Operation::Calloc {
                count: size(arguments[0]) as u32,
                size: size(last),
                block: self.begin(result),
            },
            ("realloc", Some(result)) => Operation::Realloc {
                old: self.blocks.remove(&slot(arguments[0])),
                size: size(last),
                block: self.begin(result),
            },
            ("free" | "free_sized", None) => match slot(last) {
                0 => Operation::FreeNull,
                slot => Operation::Free {
                    block: self.blocks.remove(&slot).unwrap(),
                    sized: function == "free_sized",
                },
            },
            ("free_unseen", None) => Operation::FreeUnseen,
            ("thread_start", None) => Operation::ThreadStart,
            ("thread_end", None) => Operation::ThreadEnd,
            ("jemalloc_stats", None) => Operation::Mark,
            (function, Some(result)) => {
                let alignment = match arguments.len() {
                    1 => 4096,
                    _ => size(arguments[0]),
                };
                Operation::Aligned {
                    function: aligned(function),
                    alignment_log2: alignment.ilog2() as u8,
                    size: size(last),
                    block: self.begin(result),
                }
            }
            other => panic!("{other:?}"),
        }
    }

    fn begin(&mut self, slot: u32) -> BlockId {
        let block = BlockId(self.next);
        self.next += 1;
        assert_eq!(self.blocks.insert(slot, block), None, "the slot was free");
        block
    }
}

fn aligned(function: &str) -> AlignedFunction {
    match function {
        "memalign" => AlignedFunction::Memalign,
        "posix_memalign" => AlignedFunction::PosixMemalign,
        "aligned_alloc" => AlignedFunction::AlignedAlloc,
        "valloc" => AlignedFunction::Valloc,
        "pvalloc" => AlignedFunction::Pvalloc,
        other => panic!("{other}"),
    }
}

/// JSON lines, object by object, as the document says.
#[test]
fn json_lines() {
    for trace in traces() {
        let bytes = written(&trace, OutputFormat::JsonLines);
        let lines = serde_json::Deserializer::from_slice(&bytes).into_iter();
        let lines: Vec<serde_json::Value> = lines.map(Result::unwrap).collect();
        assert_eq!(
            bytes.iter().filter(|&&byte| byte == b'\n').count(),
            lines.len()
        );
        let example = example("text", "## JSON lines");
        let head = example.lines().next().unwrap();
        assert_eq!(
            lines[0],
            serde_json::from_str::<serde_json::Value>(head).unwrap()
        );
        let (last, events) = lines[1..].split_last().unwrap();
        assert_eq!(last["call"], "end");
        assert_eq!(last["events"], trace.events().len());
        assert_about(&last["about"].to_string(), &trace);
        assert_eq!(events.len(), trace.events().len());
        for (at, (line, event)) in events.iter().zip(trace.events()).enumerate() {
            let found = json_event(line);
            assert_eq!(found, *event, "{line}");
            let number = |key: &str| line.get(key).map(|value| value.as_u64().unwrap());
            assert_eq!(number("time"), trace.times_ns().map(|times| times[at]));
            let site = trace.sites().map(|sites| u64::from(sites[at].0));
            assert_eq!(number("site"), site);
        }
    }
}

fn json_event(line: &serde_json::Value) -> Event {
    let object = line.as_object().unwrap();
    for key in object.keys() {
        assert!(DOCUMENT.contains(&format!("`{key}`")), "{key}");
    }
    let number = |key: &str| line[key].as_u64();
    let block = || BlockId(number("block").unwrap() as u32);
    let size = || number("size").unwrap();
    let operation = match line["call"].as_str().unwrap() {
        "malloc" => Operation::Malloc {
            block: block(),
            size: size(),
        },
        "calloc" => Operation::Calloc {
            block: block(),
            count: number("count").unwrap() as u32,
            size: size(),
        },
        "realloc" => Operation::Realloc {
            old: match &line["old"] {
                serde_json::Value::Null => None,
                old => Some(BlockId(old.as_u64().unwrap() as u32)),
            },
            block: block(),
            size: size(),
        },
        "free" if line["block"].is_null() => Operation::FreeNull,
        "free" => Operation::Free {
            block: block(),
            sized: line.get("sized").is_some_and(|sized| sized == true),
        },
        "free_unseen" => Operation::FreeUnseen,
        "failed_allocation" => Operation::FailedAllocation,
        "thread_start" => Operation::ThreadStart,
        "thread_end" => Operation::ThreadEnd,
        "mark" => Operation::Mark,
        function => Operation::Aligned {
            block: block(),
            alignment_log2: number("alignment").unwrap().ilog2() as u8,
            function: aligned(function),
            size: size(),
        },
    };
    Event {
        thread: ThreadIndex(number("thread").unwrap() as u32),
        operation,
    }
}
