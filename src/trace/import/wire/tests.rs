//! Whatever schedule of threads is written comes back as the same events, and whatever bytes are read
//! do no harm.

use proptest::prelude::*;
use rustc_hash::FxHashMap;

use super::writer::{
    Writer, aligned, calloc, free, free_sized, malloc, realloc_begin, realloc_end,
};
use crate::error::Result;
use crate::trace::builder::TraceBuilder;
use crate::trace::testing::origin;
use crate::trace::wire::{
    CHUNK_MAGIC, Kind, TAG_GENERAL, TAG_SWITCH, TAG_THREAD_END, TAG_THREAD_START, UNIT_BYTES,
    header as at, number,
};
use crate::trace::{
    AlignedFunction, BlockId, Event, Operation, ReadOptions, ThreadIndex, Trace, read,
};

pub(super) fn read_bytes(bytes: &[u8], lenient: bool) -> Result<Trace> {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.wire");
    std::fs::write(&path, bytes).expect("ours");
    let options = ReadOptions {
        lenient,
        ..ReadOptions::default()
    };
    read(&path, &options)
}

/// The error, without the folder's name.
fn refusal(bytes: &[u8]) -> String {
    let error = read_bytes(bytes, false).expect_err("not sound").to_string();
    error[error.find("a.wire").expect("names the file")..].to_owned()
}

fn operations(trace: &Trace) -> Vec<Operation> {
    let events = trace.events().iter();
    events.map(|event| event.operation).collect()
}

#[derive(Clone, Copy, Debug)]
struct Step {
    thread: u64,
    kind: u8,
    pick: u16,
    size: u64,
    rotate: u8,
}

/// A process that allocates, and what is written and expected of it.
struct Process {
    writer: Writer,
    expected: TraceBuilder,
    numbers: FxHashMap<u64, ThreadIndex>,
    live: Vec<(u64, BlockId)>,
    /// Freed addresses: the last one is used first.
    vacant: Vec<u64>,
    next_address: u64,
    /// Of each thread that is in a realloc: the address and block given, and the size wanted.
    reallocs: FxHashMap<u64, (u64, Option<BlockId>, u64)>,
    ended: Vec<u64>,
    clock_ns: u64,
    timed: bool,
}

impl Process {
    fn new(timed: bool) -> Self {
        let mut writer = Writer::new();
        if timed {
            writer.narrow(at::FLAGS, at::FLAG_TIMES);
        }
        Self {
            writer,
            expected: TraceBuilder::new(origin()),
            numbers: FxHashMap::default(),
            live: Vec::new(),
            vacant: Vec::new(),
            next_address: 0x5000_0000,
            reallocs: FxHashMap::default(),
            ended: Vec::new(),
            clock_ns: 0,
            timed,
        }
    }

    fn write(&mut self, thread: u64, words: &[u64]) {
        self.clock_ns += 7;
        let time_ns = self.timed.then_some(self.clock_ns);
        self.writer.event(thread, words, time_ns, 0);
    }

    /// The trace's number of a thread that has an event now.
    fn number(&mut self, thread: u64) -> ThreadIndex {
        let next = ThreadIndex(self.numbers.len() as u32);
        *self.numbers.entry(thread).or_insert(next)
    }

    fn stamp(&mut self) {
        if self.timed {
            self.expected.stamp(self.clock_ns);
        }
    }

    fn address(&mut self, pick: u16) -> u64 {
        if pick.is_multiple_of(3)
            && let Some(address) = self.vacant.pop()
        {
            return address;
        }
        self.next_address += 16;
        // Some that do not fit a word.
        match pick % 17 {
            1 => self.next_address + 4,
            2 => self.next_address | 1 << 48,
            _ => self.next_address,
        }
    }

    fn step(&mut self, step: &Step) {
        let Step {
            thread,
            kind,
            pick,
            size,
            rotate,
        } = *step;
        if self.ended.contains(&thread) {
            return;
        }
        match rotate {
            0 => self.writer.new_chunk(thread, 1 + u32::from(pick % 2)),
            1 => self.writer.unused_unit(),
            _ => {}
        }
        if let Some((old, block, size)) = self.reallocs.remove(&thread) {
            self.end_realloc(thread, old, block, size, pick);
            return;
        }
        let picked = (!self.live.is_empty()).then(|| usize::from(pick) % self.live.len());
        match (kind, picked) {
            (0..=4, _) => {
                let address = self.address(pick);
                self.write(thread, &malloc(size, address));
                let number = self.number(thread);
                let block = self.expected.malloc(number, size);
                self.live.push((address, block));
            }
            (5, _) => {
                let address = self.address(pick);
                self.write(thread, &calloc(u64::from(pick) * 3, size % 4096, address));
                let number = self.number(thread);
                let block = self
                    .expected
                    .calloc(number, u32::from(pick) * 3, size % 4096);
                self.live.push((address, block));
            }
            (6, _) => {
                let address = self.address(pick);
                let log2 = (pick % 20) as u8;
                self.write(thread, &aligned(Kind::AlignedAlloc, log2, size, address));
                let number = self.number(thread);
                let function = AlignedFunction::AlignedAlloc;
                let block = self.expected.aligned(number, function, log2, size);
                self.live.push((address, block));
            }
            (7, _) => {
                self.write(thread, &malloc(size, 0));
                let number = self.number(thread);
                self.expected.failed_allocation(number);
            }
            (8, _) => {
                self.write(thread, &free(0));
                let number = self.number(thread);
                self.expected.free_null(number);
            }
            (9, _) => {
                self.write(thread, &free(0x1000 + u64::from(pick) * 8));
                let number = self.number(thread);
                self.expected.free_unseen(number);
            }
            (10, _) => {
                self.write(thread, &realloc_begin(0));
                self.reallocs.insert(thread, (0, None, size + 1));
                return;
            }
            (11..=13, Some(at)) => {
                let (old, block) = self.live.swap_remove(at);
                self.write(thread, &realloc_begin(old));
                // The allocator may hand the address to others from now on.
                self.reallocs.insert(thread, (old, Some(block), size));
                if pick.is_multiple_of(2) {
                    self.vacant.push(old);
                }
                return;
            }
            (14..=20, Some(at)) => {
                let (address, block) = self.live.swap_remove(at);
                let sized = pick.is_multiple_of(5);
                let words = if sized {
                    free_sized(size, address)
                } else {
                    free(address)
                };
                self.write(thread, &words);
                self.vacant.push(address);
                let number = self.number(thread);
                self.expected.free(number, block, sized);
            }
            (21, _) => {
                self.write(thread, &[number(TAG_THREAD_START, 0)]);
                let number = self.number(thread);
                self.expected.thread_start(number);
            }
            (22, _) if thread > 0 => {
                self.write(thread, &[number(TAG_THREAD_END, 0)]);
                let index = self.number(thread);
                self.ended.push(thread);
                // A destructor that runs later, and behind it the end.
                if pick.is_multiple_of(2) {
                    self.write(thread, &free(0));
                    self.expected.free_null(index);
                    self.stamp();
                }
                self.expected.thread_end(index);
                self.writer.hand_over(thread, thread + 8);
            }
            _ => {
                self.write(thread, &[number(TAG_SWITCH, u64::from(pick % 2))]);
                let number = self.number(thread);
                self.expected.mark(number);
            }
        }
        self.stamp();
    }

    fn end_realloc(&mut self, thread: u64, old: u64, block: Option<BlockId>, size: u64, pick: u16) {
        // An address that others may have by now is not revived.
        let is_failure = pick.is_multiple_of(7) && (old == 0 || !self.vacant.contains(&old));
        let may_fail = !self.live.iter().any(|&(address, _)| address == old);
        if is_failure && may_fail {
            self.write(thread, &realloc_end(size, 0));
            let number = self.number(thread);
            match block {
                Some(block) if size == 0 => self.expected.free(number, block, false),
                Some(block) => {
                    self.expected.failed_allocation(number);
                    self.live.push((old, block));
                }
                None => self.expected.failed_allocation(number),
            }
        } else {
            let address = self.address(pick);
            self.write(thread, &realloc_end(size, address));
            let number = self.number(thread);
            let block = self.expected.realloc(number, block, size);
            self.live.push((address, block));
        }
        self.stamp();
    }
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let size = prop_oneof![0_u64..64, 0_u64..200_000, Just(1 << 30), Just(1 << 40)];
    let step = (0_u64..16, 0_u8..24, any::<u16>(), size, any::<u8>()).prop_map(
        |(thread, kind, pick, size, rotate)| Step {
            thread,
            kind,
            pick,
            size,
            rotate: rotate % 40,
        },
    );
    proptest::collection::vec(step, 1..300)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn every_schedule_comes_back(steps in steps(), timed in any::<bool>()) {
        let mut process = Process::new(timed);
        for step in &steps {
            process.step(step);
        }
        prop_assume!(process.expected.counts().operations() > 0);
        let expected = process.expected.finish();
        let trace = read_bytes(&process.writer.bytes(), false).expect("sound");
        prop_assert_eq!(trace.events(), expected.events());
        prop_assert_eq!(trace.times_ns(), expected.times_ns());
        let unseen = usize::from(trace.counts().free_unseen > 0);
        prop_assert_eq!(trace.origin().warnings.len(), unseen);
    }

    #[test]
    fn damaged_files_do_no_harm(
        steps in steps(),
        changes in proptest::collection::vec((any::<u32>(), any::<u8>()), 1..20),
        cut in any::<u32>(),
    ) {
        let mut process = Process::new(false);
        for step in &steps {
            process.step(step);
        }
        let mut bytes = process.writer.bytes();
        for (place, value) in changes {
            // Near a chunk's beginning or anywhere.
            let place = match place % 2 {
                0 => place as usize % bytes.len() / UNIT_BYTES * UNIT_BYTES + value as usize / 4,
                _ => place as usize % bytes.len(),
            };
            bytes[place] = value;
        }
        if cut.is_multiple_of(2) {
            bytes.truncate(cut as usize % bytes.len());
        }
        for lenient in [false, true] {
            if let Err(error) = read_bytes(&bytes, lenient) {
                prop_assert!(!error.to_string().contains('\n'));
            }
        }
    }

    #[test]
    fn any_words_do_no_harm(
        words in proptest::collection::vec((0_u64..16, any::<u64>(), any::<bool>()), 0..200),
    ) {
        let mut writer = Writer::new();
        writer.narrow(at::FLAGS, at::FLAG_TIMES | at::FLAG_SITES);
        writer.event(0, &malloc(1, 0x10), Some(1), 5);
        for (tag, rest, is_small) in words {
            let rest = if is_small { rest % 4096 } else { rest };
            let word = if tag == TAG_GENERAL { tag | (rest & 0xfffff) << 4 } else { tag | rest << 4 };
            writer.event(0, &[word], None, 0);
        }
        for lenient in [false, true] {
            let _ = read_bytes(&writer.bytes(), lenient);
        }
    }
}

#[test]
fn the_header_passes_into_the_trace() {
    let mut writer = Writer::new();
    writer.narrow(at::FLAGS, at::FLAG_FORKED | at::FLAG_SITES);
    writer.narrow(at::PROCESS, 77);
    writer.narrow(at::PARENT, 76);
    writer.wide(at::BEGAN_REALTIME_NS, 1_000_000_000_000_000_000);
    writer.wide(at::BEGAN_MONOTONIC_NS, 1000);
    writer.wide(at::ENDED_MONOTONIC_NS, 5000);
    writer.wide(at::USABLE_SIZE_CALLS, 3);
    writer.wide(at::UNRECORDED_CALLS, 12);
    writer.narrow(at::STOPPED, at::STOPPED_LIMIT);
    writer.text(at::PROGRAM, b"/usr/bin/app");
    writer.text(at::COMMAND_LINE, b"app\0-x\0\0y z\0");
    writer.text(at::C_LIBRARY, b"2.36");
    writer.event(0, &malloc(24, 0x5010), None, 0x7000_0010);
    writer.event(0, &free(0x5010), None, 0);
    writer.event(0, &free(0x6010), None, 0x7000_0010);
    let trace = read_bytes(&writer.bytes(), false).expect("sound");
    let recording = trace.origin().recording.as_ref().expect("ours");
    assert_eq!(recording.program, "/usr/bin/app");
    assert_eq!(recording.arguments, ["-x", "", "y z"]);
    assert_eq!((recording.process, recording.parent), (77, 76));
    assert_eq!(recording.began, "2001-09-09T01:46:40.000Z");
    assert_eq!(recording.wall_ns, 4000);
    assert_eq!(recording.c_library, "glibc 2.36");
    assert_eq!(
        (recording.unrecorded_calls, recording.usable_size_calls),
        (12, 3)
    );
    assert!(
        recording
            .stopped
            .as_ref()
            .expect("it was")
            .contains("--max-size")
    );
    let sites: Vec<u32> = trace
        .sites()
        .expect("flagged")
        .iter()
        .map(|site| site.0)
        .collect();
    assert_eq!(sites, [1, 0, 1]);
    assert_eq!(trace.site_names(), ["unknown", "0x70000010"]);
    let told = trace.origin().warnings.join("\n");
    assert!(
        told.contains("first 2 operations, 12 calls were not recorded"),
        "{told}"
    );
    let noted = trace.origin().notes.join("\n");
    assert!(noted.contains("parent's blocks"), "{noted}");
}

#[test]
fn a_killed_process_lacks_at_most_an_event_per_thread() {
    let mut writer = Writer::new();
    for _ in 0..3 {
        for thread in 0..3 {
            writer.event(thread, &free(0), None, 0);
        }
    }
    // Thread 1 was killed behind its number; 0 and 2 went on for a while.
    writer.lose_number();
    writer.event(0, &free(0), None, 0);
    writer.event(2, &free(0), None, 0);
    let trace = read_bytes(&writer.bytes(), false).expect("sound");
    assert_eq!(trace.counts().free_null, 11);
    assert!(trace.origin().warnings[0].contains("1 event was begun"));
    // All three wrote later than this.
    writer.lose_number();
    for thread in 0..3 {
        writer.event(thread, &free(0), None, 0);
    }
    let bytes = writer.bytes();
    assert_eq!(
        refusal(&bytes),
        "a.wire: 2 events are missing, the first of them number 9: the file is damaged (--lenient \
         reads the rest)"
    );
    let trace = read_bytes(&bytes, true).expect("lenient");
    assert_eq!(
        trace.origin().recording.as_ref().expect("ours").lost_events,
        2
    );
    assert_eq!(trace.counts().free_null, 14);
}

#[test]
fn a_missed_free_stands_where_its_address_comes_again() {
    let mut writer = Writer::new();
    writer.event(0, &malloc(1, 0x10), None, 0);
    writer.event(0, &realloc_begin(0x10), None, 0);
    writer.event(0, &[number(TAG_SWITCH, 1)], None, 0);
    writer.event(0, &[number(TAG_SWITCH, 0)], None, 0);
    writer.event(0, &realloc_begin(0), None, 0);
    writer.event(0, &realloc_end(2, 0x20), None, 0);
    writer.event(1, &malloc(3, 0x20), None, 0);
    // Begun while nobody looked.
    writer.event(1, &realloc_end(4, 0x30), None, 0);
    let trace = read_bytes(&writer.bytes(), false).expect("sound");
    use Operation::*;
    let free = |block| Free {
        block: BlockId(block),
        sized: false,
    };
    let made = |block, size| Malloc {
        block: BlockId(block),
        size,
    };
    let moved = Realloc {
        old: None,
        block: BlockId(1),
        size: 2,
    };
    assert_eq!(
        operations(&trace),
        [
            made(0, 1),
            Mark,
            Mark,
            free(0),
            moved,
            free(1),
            made(2, 3),
            FreeUnseen,
            made(3, 4)
        ]
    );
    let told = trace.origin().warnings.join("\n");
    assert!(told.contains("2 frees made up"), "{told}");
}

#[test]
fn a_signal_handler_may_reallocate_within_a_reallocation() {
    let mut writer = Writer::new();
    writer.event(0, &malloc(1, 0x10), None, 0);
    writer.event(0, &malloc(2, 0x20), None, 0);
    writer.event(0, &realloc_begin(0x10), None, 0);
    writer.new_chunk(0, 1);
    writer.event(0, &realloc_begin(0x20), None, 0);
    writer.event(0, &realloc_end(4, 0x40), None, 0);
    writer.event(0, &realloc_end(3, 0x30), None, 0);
    let trace = read_bytes(&writer.bytes(), false).expect("sound");
    let moved = |old, block, size| Operation::Realloc {
        old: Some(BlockId(old)),
        block: BlockId(block),
        size,
    };
    assert_eq!(operations(&trace)[2..], [moved(1, 2, 4), moved(0, 3, 3)]);
}

#[test]
fn a_file_that_is_still_written_is_read_as_it_stands() {
    let mut writer = Writer::new();
    writer.event(0, &malloc(1, 0x10), None, 0);
    // One is under way while the other goes on.
    writer.lose_number();
    writer.event(1, &free(0), None, 0);
    writer.event(0, &free(0), None, 0);
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.wire");
    std::fs::write(&path, writer.bytes()).expect("ours");
    let file = std::fs::File::open(&path).expect("ours");
    let mut builder = TraceBuilder::new(origin());
    let options = ReadOptions::default();
    let ending = super::read_file(&file, &path, &options, true, &mut builder).expect("sound");
    assert_eq!(builder.finish_as(ending).counts().free_null, 2);
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let mut writer = Writer::new();
    writer.event(0, &malloc(1, 0x10), None, 0);
    writer.event(0, &[14], None, 0);
    writer.event(0, &malloc(1, 0x20), None, 0);
    let bytes = writer.bytes();
    assert_eq!(
        refusal(&bytes),
        "a.wire: damaged at byte 16424: a word of no known kind (--lenient reads all the rest)"
    );
    let trace = read_bytes(&bytes, true).expect("one event is sound");
    assert_eq!(trace.events().len(), 1);

    let mut writer = Writer::new();
    writer.event(0, &malloc(1 << 60, 0x10), None, 0);
    assert_eq!(
        refusal(&writer.bytes()),
        "a.wire: event 0: a request of 1152921504606846976 bytes, expected at most 2^47 (--lenient \
         drops such events)"
    );
    assert_eq!(
        refusal(&bytes[..99]),
        "a.wire: a recorder's file that is cut off in its header: 99 bytes of 16384"
    );
    let empty = Writer::new().bytes();
    assert_eq!(
        refusal(&empty),
        "a.wire: the trace holds no allocator operation"
    );

    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("a.zst");
    std::fs::write(
        &path,
        zstd::encode_all(bytes.as_slice(), 1).expect("memory"),
    )
    .expect("ours");
    let error = read(&path, &ReadOptions::default())
        .expect_err("packed")
        .to_string();
    assert!(error.ends_with("unpack this zstd first"), "{error}");
}

#[test]
fn a_claim_beyond_the_file_is_cut() {
    let mut writer = Writer::new();
    writer.event(0, &malloc(1, 0x10), None, 0);
    let mut bytes = writer.bytes();
    let units = UNIT_BYTES + 4;
    bytes[units..units + 4].copy_from_slice(&u32::MAX.to_le_bytes());
    bytes[at::FILE_BYTES..][..8].copy_from_slice(&u64::MAX.to_le_bytes());
    assert_eq!(read_bytes(&bytes, false).expect("sound").events().len(), 1);
    assert_eq!(bytes[UNIT_BYTES..UNIT_BYTES + 4], CHUNK_MAGIC.to_le_bytes());
    let event = Event {
        thread: ThreadIndex(0),
        operation: Operation::Malloc {
            block: BlockId(0),
            size: 1,
        },
    };
    assert_eq!(read_bytes(&bytes, true).expect("sound").events(), [event]);
}
