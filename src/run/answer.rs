//! What a child tells its parent: a file mapped by both. Plain numbers and bytes only, so that the
//! child answers without allocating and any bytes are a valid answer.

use std::fs::OpenOptions;
use std::os::fd::AsRawFd as _;
use std::path::Path;

use memmap2::MmapMut;

use super::usage::Usage;
use crate::replay::latency::LatencyOutcome;
use crate::replay::memory::{CurvePoint, MemoryOutcome};
use crate::replay::parts::PartsOutcome;
use crate::replay::threaded::Timed;

/// Timed passes that are told one by one; `total_ns` covers the others too.
pub const PASS_LIMIT: usize = 256;
/// Points of a memory curve.
pub const CURVE_LIMIT: usize = 4096;

/// The child has not come so far as to know its work.
pub const STATE_STARTED: u32 = 0;
/// The replay is under way.
pub const STATE_REPLAYING: u32 = 1;
/// Everything was done.
pub const STATE_DONE: u32 = 2;
/// The allocator did wrong: see `fault`.
pub const STATE_WRONG: u32 = 3;
/// The work could not be begun: see `text`.
pub const STATE_REFUSED: u32 = 4;

/// What the parent writes into the file before the child starts. All zero: the first child of a sample.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Commission {
    /// 1 for the second child of a sample, which explains what the first one found: in the memory
    /// pass by looking at each page, in the latency pass by watching the slowest operations (given in
    /// `latency`), in the verify pass by comparing one block after each operation.
    pub is_second: u32,
    /// 1 if what is retained shall be looked at after waiting as well.
    pub settle: u32,
    /// Operations after which the second child of the memory pass looks; on several threads, unless
    /// it finds a better moment.
    pub look_at: u64,
    /// Memory that was found then.
    pub look_for_bytes: u64,
    /// The block that the second child of the verify pass watches: the how-manieth that it filled,
    /// from 1.
    pub watch: u64,
}

/// See the module text.
#[derive(Debug)]
#[repr(C)]
pub struct Answer {
    /// Written by the parent.
    pub commission: Commission,
    /// One of the `STATE_` numbers.
    pub state: u32,
    /// A [`crate::replay::serial::Fault`] by number.
    pub fault: u32,
    /// Operation under way (verify), or at fault.
    pub operation: u64,
    /// The block whose content changed, as in [`Commission::watch`]; 0 if that was not the fault.
    pub changed: u64,
    /// Operations of one replay, all performed.
    pub operations: u64,
    /// Which functions are in the object that serves `malloc`: bit n for the n-th name.
    pub functions_in_object: u32,
    /// 1 if `malloc` is served by the C library.
    pub malloc_in_c_library: u32,
    /// Bytes used of `object`.
    pub object_length: u32,
    /// Bytes used of `text`.
    pub text_length: u32,
    /// Timed passes.
    pub passes: u32,
    /// 1 if `malloc` is served by this program's own executable.
    pub malloc_in_executable: u32,
    /// Most threads alive at once, of replays on several threads; 0 of others.
    pub threads_alive_peak: u32,
    /// Their times.
    pub passes_ns: [u64; PASS_LIMIT],
    /// What the system did in each, the freeing of the blocks left at its end among it.
    pub usage: [Usage; PASS_LIMIT],
    /// What replays on several threads tell besides; of serial ones only the CPU time.
    pub threaded: [Timed; PASS_LIMIT],
    /// Sum over all of them.
    pub total_ns: u64,
    /// Memory.
    pub memory: MemoryOutcome,
    /// What the second child of the memory pass found.
    pub parts: PartsOutcome,
    /// Latency.
    pub latency: LatencyOutcome,
    /// The curve of the memory pass.
    pub curve: [CurvePoint; CURVE_LIMIT],
    /// Path of the object that serves `malloc`.
    pub object: [u8; 1024],
    /// Why it was refused; or the version that was asked for.
    pub text: [u8; 512],
    /// Which functions come from other objects, and from which, as text.
    pub others: [u8; 1024],
    /// Bytes used of `others`.
    pub others_length: u32,
    /// Keeps the length a multiple of the alignment, whatever the compiler.
    pub unused: u32,
}

/// The mapped file.
#[derive(Debug)]
pub struct AnswerFile {
    map: MmapMut,
}

impl AnswerFile {
    /// Makes the file, all zero.
    pub fn create(path: &Path) -> std::io::Result<Self> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)?;
        // Not set_len: writing into a hole of a full file system would kill the process that writes.
        let error =
            // SAFETY: a descriptor of ours and numbers.
            unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, size_of::<Answer>() as i64) };
        if error != 0 {
            return Err(std::io::Error::from_raw_os_error(error));
        }
        Self::map(&file)
    }

    /// Opens a file that `create` made.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        if file.metadata()?.len() != size_of::<Answer>() as u64 {
            return Err(std::io::Error::other("not an answer file of this version"));
        }
        Self::map(&file)
    }

    fn map(file: &std::fs::File) -> std::io::Result<Self> {
        // SAFETY: the file has the size of an Answer and lies in the parent's own temporary
        // folder; only parent and child map it, and the parent reads when the child has ended.
        let map = unsafe { MmapMut::map_mut(file)? };
        Ok(Self { map })
    }

    /// The answer.
    pub fn get(&self) -> &Answer {
        // SAFETY: the mapping is as long as an Answer, aligned to an OS page, and every bit pattern
        // is a valid Answer.
        unsafe { &*self.map.as_ptr().cast() }
    }

    /// The answer, to fill.
    pub fn get_mut(&mut self) -> &mut Answer {
        // SAFETY: as in `get`; the mutable borrow of the mapping is unique in this process.
        unsafe { &mut *self.map.as_mut_ptr().cast() }
    }

    /// Makes every page of it resident, so that filling it takes no page fault.
    pub fn prefault(&mut self) {
        // A process that the allocator forks and that returns into the replay must not answer in the
        // place of the one that is measured: it has no such page. Failure leaves it as it was.
        let _ = self.map.advise(memmap2::Advice::DontFork);
        self.map.iter_mut().step_by(4096).for_each(|byte| {
            // SAFETY: a valid byte; volatile keeps the write that changes nothing.
            unsafe { std::ptr::write_volatile(byte, *byte) }
        });
    }
}

impl Answer {
    /// Path of the object that served `malloc`; empty if unknown.
    pub fn object_path(&self) -> String {
        text_of(&self.object, self.object_length)
    }

    /// Why the work was refused.
    pub fn refusal(&self) -> String {
        text_of(&self.text, self.text_length)
    }

    /// Sets the object's path, cut to the room there is.
    pub fn set_object_path(&mut self, bytes: &[u8]) {
        self.object_length = copy_cut(bytes, &mut self.object);
    }

    /// Functions from other objects than `malloc`, each with the object's path; empty if there are
    /// none.
    pub fn other_objects(&self) -> String {
        text_of(&self.others, self.others_length)
    }

    /// Notes such a function.
    pub fn add_other_object(&mut self, function: &[u8], path: &[u8]) {
        let separator: &[u8] = if self.others_length == 0 { b"" } else { b", " };
        for part in [separator, function, b" from ", path] {
            let used = (self.others_length as usize).min(self.others.len());
            self.others_length += copy_cut(part, &mut self.others[used..]);
        }
    }

    /// The version that was asked for; empty if the allocator does not tell.
    pub fn version(&self) -> String {
        text_of(&self.text, self.text_length)
    }

    /// Sets the version.
    pub fn set_version(&mut self, version: &str) {
        self.text_length = copy_cut(version.as_bytes(), &mut self.text);
    }

    /// Refuses the work.
    pub fn refuse(&mut self, reason: &str) {
        self.text_length = copy_cut(reason.as_bytes(), &mut self.text);
        self.state = STATE_REFUSED;
    }
}

fn copy_cut(from: &[u8], to: &mut [u8]) -> u32 {
    let length = from.len().min(to.len());
    to[..length].copy_from_slice(&from[..length]);
    length as u32
}

fn text_of(bytes: &[u8], length: u32) -> String {
    String::from_utf8_lossy(&bytes[..(length as usize).min(bytes.len())]).into_owned()
}
