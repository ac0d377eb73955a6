//! A reader of the recorder's files, written from the description in `trace/wire.rs` and sharing no code
//! with the recorder or the importer: what one of them gets wrong, this one does not.

use std::collections::HashMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// A call or a mark; sizes in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Call {
    Malloc(u64),
    Calloc(u64, u64),
    Free,
    FreeSized(u64),
    ReallocBegin,
    ReallocEnd(u64),
    /// memalign, posix_memalign, aligned_alloc, valloc, pvalloc: 5 to 9; log2 of the alignment; size.
    Aligned(u8, u8, u64),
    ThreadStart,
    ThreadEnd,
    Off,
    On,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Event {
    pub(crate) number: u64,
    pub(crate) thread: u64,
    pub(crate) call: Call,
    pub(crate) address: u64,
    pub(crate) time_ns: Option<u64>,
    pub(crate) site: Option<u64>,
}

/// A file of the recorder's.
pub(crate) struct Wire {
    pub(crate) path: PathBuf,
    bytes: Vec<u8>,
    /// In the order of their numbers.
    pub(crate) events: Vec<Event>,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} events", self.path.display(), self.events.len())
    }
}

const UNIT: usize = 16 * 1024;
/// State of a window that waits for the command.
pub(crate) const FULL: u64 = 2;
/// State of a window whose words were copied.
const FREE: u64 = 4;

impl Wire {
    pub(crate) fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).expect("a file of the recorder's");
        assert_eq!(&bytes[..8], b"MMWIRE\0\x01", "{}", path.display());
        let mut wire = Self {
            path: path.to_owned(),
            bytes,
            events: Vec::new(),
        };
        let mut at = UNIT;
        while at + UNIT <= wire.bytes.len() {
            if &wire.bytes[at..at + 4] != b"CHNK" {
                at += UNIT;
                continue;
            }
            let units = wire.u32(at + 4) as usize;
            if wire.counts(at) {
                assert!(units > 0 && at + units * UNIT <= wire.bytes.len());
                wire.read_chunk(at + 16, at + units * UNIT);
            }
            at += units * UNIT;
        }
        wire.events.sort_by_key(|event| event.number);
        for pair in wire.events.windows(2) {
            assert!(pair[0].number < pair[1].number, "{wire:?}: {pair:?}");
        }
        wire
    }

    /// Whether a chunk's words count: not those of a window that was copied, nor of a copy that was not
    /// finished.
    fn counts(&self, at: usize) -> bool {
        let mark = self.u64(at + 8);
        let Some(index) = (mark & 0xff).checked_sub(1) else {
            return true;
        };
        let (turn, state, place) = self.window(index as usize);
        if place == at as u64 {
            state != FREE
        } else {
            turn > mark >> 8
        }
    }

    /// Turn, state and place of a window.
    fn window(&self, index: usize) -> (u64, u64, u64) {
        let entry = 12_416 + 16 * index;
        let (state, place) = (self.u64(entry), self.u64(entry + 8));
        (state >> 3, state & 7, place / UNIT as u64 * UNIT as u64)
    }

    /// Of each window how often it was copied, and its state.
    pub(crate) fn windows(&self) -> Vec<(u64, u64)> {
        let windows = (0..128).map(|index| self.window(index));
        let made = windows.take_while(|window| window.1 != 0);
        made.map(|(turn, state, _)| (turn, state)).collect()
    }

    fn read_chunk(&mut self, from: usize, to: usize) {
        let words: Vec<u64> = (from..to).step_by(8).map(|at| self.u64(at)).collect();
        let mut words = words.into_iter();
        let (mut number, mut thread, mut time_ns, mut site) = (None, None, None, None);
        let mut before = None;
        while let Some(word) = words.next().filter(|&word| word != 0) {
            let (value, size, mut address) = (word >> 4, word >> 4 & 0xffff, word >> 20 << 3);
            let mut next = || words.next().expect("within the chunk");
            let call = match word & 15 {
                1 => Call::Malloc(size),
                2 => Call::Calloc(size, next()),
                3 => Call::Free,
                4 => Call::FreeSized(size),
                5 => Call::ReallocBegin,
                6 => Call::ReallocEnd(size),
                7 => {
                    number = Some(value);
                    continue;
                }
                8 => {
                    thread = Some(value);
                    continue;
                }
                9 => {
                    time_ns = Some(value);
                    continue;
                }
                10 => {
                    site = Some(value);
                    continue;
                }
                11 => Call::ThreadStart,
                12 => Call::ThreadEnd,
                13 if value == 1 => Call::Off,
                13 => Call::On,
                15 => {
                    address = next();
                    let (size, count) = (next(), next());
                    match (word >> 4 & 0xff) as u8 {
                        0 => Call::Malloc(size),
                        1 => Call::Calloc(count, size),
                        2 if count == 1 => Call::FreeSized(size),
                        2 => Call::Free,
                        3 => Call::ReallocBegin,
                        4 => Call::ReallocEnd(size),
                        kind @ 5..=9 => Call::Aligned(kind, (word >> 12) as u8, size),
                        other => panic!("kind {other}"),
                    }
                }
                other => panic!("tag {other}"),
            };
            if matches!(
                call,
                Call::ThreadStart | Call::ThreadEnd | Call::Off | Call::On
            ) {
                address = 0;
            }
            let number_now = number.expect("a chunk begins with a number");
            assert!(before.is_none_or(|before| before < number_now), "{self:?}");
            before = Some(number_now);
            self.events.push(Event {
                number: number_now,
                thread: thread.expect("a chunk begins with a thread"),
                call,
                address,
                time_ns: time_ns.take(),
                site: site.take(),
            });
            number = Some(number_now + 1);
        }
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.bytes[at..at + 8].try_into().expect("8 bytes"))
    }

    fn u32(&self, at: usize) -> u32 {
        u32::from_le_bytes(self.bytes[at..at + 4].try_into().expect("4 bytes"))
    }

    fn text(&self, at: usize) -> String {
        let text = self.bytes[at..].split(|&byte| byte == 0).next();
        String::from_utf8_lossy(text.unwrap_or_default()).into_owned()
    }

    pub(crate) fn flags(&self) -> u32 {
        self.u32(12)
    }
    pub(crate) fn process(&self) -> u32 {
        self.u32(16)
    }
    pub(crate) fn parent(&self) -> u32 {
        self.u32(20)
    }
    pub(crate) fn ended_ns(&self) -> u64 {
        self.u64(40)
    }
    pub(crate) fn file_bytes(&self) -> u64 {
        self.u64(48)
    }
    pub(crate) fn unrecorded(&self) -> u64 {
        self.u64(64)
    }
    pub(crate) fn usable_size_calls(&self) -> u64 {
        self.u64(72)
    }
    pub(crate) fn page_bytes(&self) -> u64 {
        self.u64(112)
    }
    /// Pages in the large blocks of a class, and those that were touched.
    pub(crate) fn touched(&self, class: usize) -> (u64, u64) {
        (self.u64(14_464 + class * 16), self.u64(14_472 + class * 16))
    }
    pub(crate) fn threads(&self) -> u64 {
        self.u64(80)
    }
    /// 1: limit, 2: disk full, 3: the file cannot be reached or grown.
    pub(crate) fn stopped(&self) -> (u32, u32) {
        (self.u32(88), self.u32(92))
    }
    pub(crate) fn image(&self) -> u64 {
        self.u64(96)
    }
    pub(crate) fn parent_sequence(&self) -> u64 {
        self.u64(120)
    }
    pub(crate) fn lost_children(&self) -> u32 {
        self.u32(128)
    }
    pub(crate) fn program(&self) -> String {
        self.text(1024)
    }
    pub(crate) fn allocator(&self) -> String {
        self.text(3072)
    }
    pub(crate) fn c_library(&self) -> String {
        self.text(4096)
    }
    pub(crate) fn command_line(&self) -> Vec<String> {
        let words = self.bytes[4160..4160 + 8192].split(|&byte| byte == 0);
        let words = words.take_while(|word| !word.is_empty());
        words
            .map(|word| String::from_utf8_lossy(word).into_owned())
            .collect()
    }

    /// Numbers that no event has.
    pub(crate) fn missing(&self) -> u64 {
        let numbered = self.events.last().map_or(0, |event| event.number + 1);
        numbered - self.events.len() as u64
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.events.iter().map(|event| event.call).collect()
    }

    pub(crate) fn count(&self, wanted: impl Fn(&Call) -> bool) -> u64 {
        self.events
            .iter()
            .filter(|event| wanted(&event.call))
            .count() as u64
    }

    /// `malloc`s and frees of so many bytes.
    pub(crate) fn mallocs(&self, size: u64) -> u64 {
        self.count(|call| *call == Call::Malloc(size))
    }

    /// Goes through the events in their order and asserts that no block is handed out twice and none is
    /// freed that is not live: the order is right wherever blocks change threads. Returns the blocks live
    /// at the end, and how many frees were of blocks unknown, which must be `unseen` at most.
    pub(crate) fn check_blocks(&self, unseen: u64) -> HashMap<u64, Event> {
        let mut live: HashMap<u64, Event> = HashMap::new();
        let mut begun: HashMap<u64, Vec<u64>> = HashMap::new();
        let mut unknown = 0;
        for event in &self.events {
            let mut released = 0;
            match event.call {
                Call::Free | Call::FreeSized(_) => released = event.address,
                Call::ReallocBegin => {
                    begun.entry(event.thread).or_default().push(event.address);
                    released = event.address;
                }
                Call::ReallocEnd(_) => {
                    let old = begun.get_mut(&event.thread).and_then(Vec::pop);
                    let old = old.unwrap_or_else(|| panic!("{self:?}: no beginning: {event:?}"));
                    // It failed: the block is still there.
                    if event.address == 0 && old != 0 {
                        live.insert(old, *event);
                    }
                }
                _ => {}
            }
            if released != 0 && live.remove(&released).is_none() {
                unknown += 1;
                assert!(
                    unknown <= unseen,
                    "{self:?}: frees what is not live: {event:?}"
                );
            }
            let allocates = matches!(
                event.call,
                Call::Malloc(_) | Call::Calloc(..) | Call::ReallocEnd(_) | Call::Aligned(..)
            );
            if allocates
                && event.address != 0
                && let Some(before) = live.insert(event.address, *event)
            {
                panic!("{self:?}: handed out twice: {before:?}, {event:?}");
            }
        }
        live
    }
}
