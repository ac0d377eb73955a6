//! Reads a file in the binary format by the words of `workloads/formats.md` alone: slowly, without any
//! code of the product. Whatever does not stand there as the document says ends the test.

#![allow(dead_code, reason = "each test program uses a part of it")]

use mymalloc::trace::{AlignedFunction, BlockId, Event, Operation, SiteId, ThreadIndex};

/// All that a file holds.
#[derive(Default)]
pub(crate) struct TraceFile {
    pub(crate) events: Vec<Event>,
    pub(crate) times_ns: Vec<u64>,
    pub(crate) sites: Vec<SiteId>,
    /// The JSON object of META.
    pub(crate) about: String,
    pub(crate) chunks: usize,
    /// Everything that the file holds, decompressed, piece by piece.
    pub(crate) pieces: Vec<Vec<u8>>,
    blocks: u32,
    live: i64,
    index: Vec<u8>,
}

/// Decodes a whole file.
pub(crate) fn decode(bytes: &[u8]) -> TraceFile {
    let mut file = TraceFile::default();
    let head = [0x93, 0x4d, 0x4d, 0x54, 0x52, 0x0d, 0x0a, 0x1a];
    assert_eq!(bytes[..8], head);
    assert_eq!((u32_at(bytes, 8), u32_at(bytes, 12)), (1, 0));
    file.pieces.push(bytes[..16].to_vec());
    let mut at = 16;
    let mut index_at = 0;
    let mut tags = String::new();
    while at < bytes.len() {
        let tag = std::str::from_utf8(&bytes[at..at + 4]).unwrap();
        let length = u32_at(bytes, at + 4) as usize;
        let body = &bytes[at + 12..at + 12 + length];
        let mut check = crc32fast::Hasher::new();
        check.update(&bytes[at..at + 8]);
        check.update(body);
        assert_eq!(u32_at(bytes, at + 8), check.finalize(), "{tag} at {at}");
        assert!(length <= 1 << 26);
        match tag {
            "CHNK" => file.chunk(body, at as u64),
            "META" => {
                let about = zstd::decode_all(&body[4..]).unwrap();
                assert_eq!(u32_at(body, 0) as usize, about.len());
                file.pieces.push(about.clone());
                file.about = String::from_utf8(about).unwrap();
            }
            "INDX" => {
                assert_eq!(body, file.index);
                file.pieces.push(body.to_vec());
                index_at = at as u64;
            }
            "ENDS" => {
                assert_eq!(u64_at(body, 0), index_at);
                assert_eq!(u64_at(body, 8), file.events.len() as u64);
                assert_eq!((u32_at(body, 16), u32_at(body, 20)), (file.blocks, 0));
                assert_eq!((at + 36, length), (bytes.len(), 24));
                file.pieces.push(body.to_vec());
            }
            other => panic!("section {other}"),
        }
        if tag != "CHNK" {
            tags.push_str(tag);
        }
        at += 12 + length;
    }
    assert_eq!(tags, "METAINDXENDS");
    file
}

/// One thread of a chunk.
struct Thread {
    number: u32,
    kinds: Vec<u8>,
    sizes: Vec<u64>,
    victims: Vec<u64>,
    counts: Vec<u64>,
    alignments: Vec<u8>,
    sites: Vec<u64>,
    /// Blocks that it has allocated.
    own: Vec<u32>,
    last_victim: u32,
}

impl TraceFile {
    fn chunk(&mut self, body: &[u8], offset: u64) {
        self.chunks += 1;
        let first_event = u64_at(body, 0);
        let [first_block, events, live, count] = [8, 12, 16, 20].map(|at| u32_at(body, at));
        assert_eq!(first_event, self.events.len() as u64);
        assert_eq!((first_block, i64::from(live)), (self.blocks, self.live));
        assert!((1..=1 << 20).contains(&events));
        let mut columns = vec![Vec::new(); 19];
        let (mut at, mut least) = (24, 0);
        for _ in 0..count {
            let [id, raw, stored] = [0, 4, 8].map(|part| u32_at(body, at + part) as usize);
            assert!((least..19).contains(&id), "column {id}");
            least = id + 1;
            let bytes = &body[at + 12..at + 12 + stored];
            columns[id] = match stored == raw {
                true => bytes.to_vec(),
                false => zstd::decode_all(bytes).unwrap(),
            };
            assert_eq!(columns[id].len(), raw);
            assert!(raw > 0, "an empty column is left out");
            at += 12 + stored;
        }
        assert_eq!(at, body.len());
        let times = times(&columns);
        self.runs(&columns, first_block, events);
        self.index.extend_from_slice(&offset.to_le_bytes());
        self.index.extend_from_slice(&first_event.to_le_bytes());
        self.index.extend_from_slice(&first_block.to_le_bytes());
        self.index.extend_from_slice(&live.to_le_bytes());
        let first_time = times.first().copied().unwrap_or(u64::MAX);
        self.index.extend_from_slice(&first_time.to_le_bytes());
        self.times_ns.extend(times);
        self.pieces.push(body[..24].to_vec());
        self.pieces.extend(columns);
    }

    fn runs(&mut self, columns: &[Vec<u8>], first_block: u32, events: u32) {
        let mut threads = threads(columns, first_block);
        let sizes = leb_all(&columns[6]);
        let sites = leb_all(&columns[16]);
        let run_threads = numbers(&columns[1], &columns[2]);
        let run_lengths = numbers(&columns[3], &columns[4]);
        assert_eq!(run_threads.len(), run_lengths.len());
        assert_eq!(run_lengths.iter().sum::<u64>(), u64::from(events));
        for (thread, length) in run_threads.into_iter().zip(run_lengths) {
            for _ in 0..length {
                let thread = &mut threads[thread as usize];
                let kind = take(&mut thread.kinds);
                let operation = self.operation(thread, kind, &sizes);
                self.events.push(Event {
                    thread: ThreadIndex(thread.number),
                    operation,
                });
                if !columns[17].is_empty() {
                    let site = sites[take(&mut thread.sites) as usize];
                    self.sites.push(SiteId(site as u32));
                }
            }
        }
        for thread in threads {
            let left = [thread.sizes, thread.victims, thread.counts, thread.sites];
            assert!(left.iter().all(Vec::is_empty) && thread.alignments.is_empty());
            assert!(thread.kinds.is_empty());
        }
    }

    fn operation(&mut self, thread: &mut Thread, kind: u8, sizes: &[u64]) -> Operation {
        let size = |thread: &mut Thread| sizes[take(&mut thread.sizes) as usize];
        match kind {
            0 => Operation::Malloc {
                size: size(thread),
                block: self.begin(thread),
            },
            1..=6 => Operation::Free {
                block: self.victim(thread, (kind - 1) % 3),
                sized: kind >= 4,
            },
            7 => Operation::Calloc {
                count: take(&mut thread.counts) as u32,
                size: size(thread),
                block: self.begin(thread),
            },
            8 => {
                let code = take(&mut thread.alignments);
                let functions = [
                    AlignedFunction::Memalign,
                    AlignedFunction::PosixMemalign,
                    AlignedFunction::AlignedAlloc,
                    AlignedFunction::Valloc,
                    AlignedFunction::Pvalloc,
                ];
                Operation::Aligned {
                    function: functions[usize::from(code / 48)],
                    alignment_log2: code % 48,
                    size: size(thread),
                    block: self.begin(thread),
                }
            }
            9 => Operation::Realloc {
                old: None,
                size: size(thread),
                block: self.begin(thread),
            },
            10..=12 => Operation::Realloc {
                old: Some(self.victim(thread, kind - 10)),
                size: size(thread),
                block: self.begin(thread),
            },
            13 => Operation::FreeNull,
            14 => Operation::FreeUnseen,
            15 => Operation::ThreadStart,
            16 => Operation::ThreadEnd,
            17 => Operation::Mark,
            18 => Operation::FailedAllocation,
            other => panic!("kind {other}"),
        }
    }

    fn begin(&mut self, thread: &mut Thread) -> BlockId {
        thread.own.push(self.blocks);
        self.live += 1;
        self.blocks += 1;
        BlockId(self.blocks - 1)
    }

    fn victim(&mut self, thread: &mut Thread, how: u8) -> BlockId {
        let number = take(&mut thread.victims);
        let block = match how {
            0 => thread.own[thread.own.len() - 1 - number as usize],
            1 => (i64::from(thread.last_victim) + unzigzag(number)) as u32,
            _ => self.blocks - 1 - number as u32,
        };
        thread.last_victim = block;
        self.live -= 1;
        BlockId(block)
    }
}

/// Columns 0, 5, 7 to 13, 17 and 18, taken apart; the entries of each thread in order.
fn threads(columns: &[Vec<u8>], first_block: u32) -> Vec<Thread> {
    let sited = !columns[17].is_empty();
    let table = leb_all(&columns[0]);
    let mut at = [0; 19];
    let mut part = |id: usize, entries: u64| {
        let from = at[id];
        at[id] += entries as usize;
        columns[id][from..at[id]].to_vec()
    };
    let mut pair =
        |id: usize, main: u64, extra: u64| numbers(&part(id, main), &part(id + 1, extra));
    let mut threads = Vec::new();
    for entry in table.chunks_exact(if sited { 10 } else { 9 }) {
        threads.push(Thread {
            number: entry[0] as u32,
            sizes: pair(7, entry[2], entry[3]),
            victims: pair(9, entry[4], entry[5]),
            counts: pair(11, entry[6], entry[7]),
            sites: match sited {
                true => pair(17, entry[1], entry[9]),
                false => Vec::new(),
            },
            kinds: Vec::new(),
            alignments: Vec::new(),
            own: Vec::new(),
            last_victim: first_block,
        });
    }
    let (mut kinds, mut alignments) = (columns[5].as_slice(), columns[13].as_slice());
    for (thread, entry) in threads
        .iter_mut()
        .zip(table.chunks_exact(if sited { 10 } else { 9 }))
    {
        let (own, rest) = kinds.split_at(entry[1] as usize);
        (thread.kinds, kinds) = (reversed(own), rest);
        let (own, rest) = alignments.split_at(entry[8] as usize);
        (thread.alignments, alignments) = (reversed(own), rest);
        for numbers in [
            &mut thread.sizes,
            &mut thread.victims,
            &mut thread.counts,
            &mut thread.sites,
        ] {
            numbers.reverse();
        }
    }
    threads
}

/// The next entry of a thread stands last.
fn take<T>(left: &mut Vec<T>) -> T {
    left.pop().expect("there is one more")
}

fn reversed(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().rev().copied().collect()
}

fn times(columns: &[Vec<u8>]) -> Vec<u64> {
    let mut now = 0_u64;
    let differences = numbers(&columns[14], &columns[15]).into_iter();
    let times = differences.map(|difference| {
        now = now.wrapping_add(unzigzag(difference) as u64);
        now
    });
    times.collect()
}

/// A pair of columns.
fn numbers(main: &[u8], extra: &[u8]) -> Vec<u64> {
    let mut extra = extra.iter();
    let mut next = || u64::from(*extra.next().expect("an extra byte"));
    let numbers = main.iter().map(|&m| match m {
        0..=223 => u64::from(m),
        224..=247 => 224 + (u64::from(m) - 224) * 256 + next(),
        248..=254 => (0..m - 246).map(|byte| next() << (8 * byte)).sum(),
        255 => panic!("no number begins with 255"),
    });
    let numbers: Vec<u64> = numbers.collect();
    assert_eq!(extra.len(), 0, "extra bytes are left");
    numbers
}

fn leb_all(bytes: &[u8]) -> Vec<u64> {
    let mut numbers = Vec::new();
    let (mut number, mut shift) = (0, 0);
    for byte in bytes {
        number |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            numbers.push(number);
            (number, shift) = (0, 0);
        }
    }
    assert_eq!(shift, 0, "the last number ends");
    numbers
}

fn unzigzag(number: u64) -> i64 {
    match number % 2 {
        0 => (number / 2) as i64,
        _ => -((number / 2) as i64) - 1,
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}
