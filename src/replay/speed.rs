//! The speed pass: the loop, a touch policy, and the readings of the clocks around it.

use std::time::Instant;

use super::serial::{Failure, Fault, Observer, Replayer, Returned};
use super::threaded::process_cpu_ns;
use super::used::{self, TouchBusy, TouchUsed, touch_used};
use crate::measure::results::Touch;
use crate::subject::floor;

/// Bytes of an OS page, as far as touching is concerned: the smallest the supported machines have.
pub(super) const PAGE_BYTES: usize = 4096;
/// Bytes of a cache line, likewise.
const LINE_BYTES: usize = 64;

/// Writes nothing.
#[derive(Default)]
pub(crate) struct TouchNone;
/// Writes a byte in each OS page of a new block, its first and last bytes among them.
#[derive(Default)]
pub(super) struct TouchPage;
/// Writes a byte in each cache line of a new block of up to an OS page, in each OS page of a larger one.
#[derive(Default)]
pub(super) struct TouchLine;
/// Writes every byte of a new block.
#[derive(Default)]
pub(super) struct TouchAll;

impl Observer for TouchNone {
    #[inline(always)]
    unsafe fn allocated(&mut self, _returned: &Returned) -> Result<(), Fault> {
        Ok(())
    }
}

impl Observer for TouchPage {
    #[inline(always)]
    unsafe fn allocated(&mut self, returned: &Returned) -> Result<(), Fault> {
        // SAFETY: the caller's promise.
        unsafe { touch_pages(returned) };
        Ok(())
    }
}

impl Observer for TouchLine {
    #[inline(always)]
    unsafe fn allocated(&mut self, returned: &Returned) -> Result<(), Fault> {
        // SAFETY: the caller's promise.
        unsafe { touch_lines(returned) };
        Ok(())
    }
}

impl Observer for TouchAll {
    #[inline(always)]
    unsafe fn allocated(&mut self, returned: &Returned) -> Result<(), Fault> {
        // SAFETY: the caller's promise.
        unsafe { returned.block.cast::<u8>().write_bytes(0xA5, returned.size) };
        Ok(())
    }
}

/// A write in each OS page. Most blocks are smaller than a page, and cost a test and two writes.
///
/// # Safety
/// `returned.block` is valid for `returned.size` bytes.
#[inline(always)]
pub(super) unsafe fn touch_pages(returned: &Returned) {
    if returned.size == 0 {
        return;
    }
    let block = returned.block.cast::<u8>();
    // The last byte as well: a block need not begin where a page does, and then ends in one more.
    // SAFETY: the block has a first and a last byte. Volatile: the write is the purpose.
    unsafe {
        block.write_volatile(0xA5);
        block.add(returned.size - 1).write_volatile(0xA5);
    }
    if returned.size > PAGE_BYTES {
        // By value: a reference would force all of `returned` into memory, for each block.
        // SAFETY: the caller's promise.
        unsafe { touch_further_pages(block, returned.size) };
    }
}

/// The pages between the first and the last.
///
/// # Safety
/// `block` is valid for `size` bytes.
#[inline(never)]
unsafe fn touch_further_pages(block: *mut u8, size: usize) {
    for offset in (PAGE_BYTES..size).step_by(PAGE_BYTES) {
        // SAFETY: the offset is inside the block. Volatile: the write is the purpose.
        unsafe { block.add(offset).write_volatile(0xA5) };
    }
}

/// A write in each cache line of a small block: what a program does that fills its objects. A large one
/// is touched by pages: few programs fill a buffer as soon as they have it.
///
/// # Safety
/// `returned.block` is valid for `returned.size` bytes.
#[inline(always)]
pub(super) unsafe fn touch_lines(returned: &Returned) {
    // SAFETY: the caller's promise.
    unsafe { touch_pages(returned) };
    if returned.size <= PAGE_BYTES {
        let block = returned.block.cast::<u8>();
        for offset in (LINE_BYTES..returned.size).step_by(LINE_BYTES) {
            // SAFETY: the offset is inside the block. Volatile: the write is the purpose.
            unsafe { block.add(offset).write_volatile(0xA5) };
        }
    }
}

/// Writes into a block what the policy says.
///
/// # Safety
/// `returned.block` is valid for `returned.size` bytes.
pub(super) unsafe fn touch(policy: Touch, returned: &Returned) {
    // SAFETY: the caller's promise, in each arm.
    unsafe {
        match policy {
            Touch::None => {}
            Touch::Page => touch_pages(returned),
            Touch::Line => touch_lines(returned),
            Touch::Used | Touch::Busy => touch_used(returned),
            Touch::All => returned.block.cast::<u8>().write_bytes(0xA5, returned.size),
        }
    }
}

/// One replay of the whole trace.
#[derive(Clone, Copy, Debug)]
pub struct TimedPass {
    /// Its time; the freeing of what the trace leaves live is not in it.
    pub elapsed_ns: u64,
    /// CPU time of the whole process meanwhile: also of threads that the allocator has of its own.
    pub cpu_ns: u64,
    /// Operations performed.
    pub operations: usize,
}

/// Replays the whole trace once, with no clock around it, and leaves its blocks live. Returns the
/// operations performed.
pub fn untimed_replay(replayer: &mut Replayer<'_>, policy: Touch) -> Result<usize, Failure> {
    match policy {
        Touch::None => replayer.replay(&mut TouchNone),
        Touch::Page => replayer.replay(&mut TouchPage),
        Touch::Line => replayer.replay(&mut TouchLine),
        Touch::Used => replayer.replay(&mut TouchUsed),
        Touch::Busy => replayer.replay(&mut TouchBusy::default()),
        Touch::All => replayer.replay(&mut TouchAll),
    }
}

/// Replays the whole trace once and frees what it leaves.
pub fn timed_pass(replayer: &mut Replayer<'_>, policy: Touch) -> Result<TimedPass, Failure> {
    if policy == Touch::Busy {
        used::prepare();
    }
    // Reading the CPU clock is a system call, so it lies outside the wall time.
    let cpu_start_ns = process_cpu_ns();
    let start = Instant::now();
    let operations = untimed_replay(replayer, policy)?;
    let elapsed = start.elapsed();
    let cpu_ns = process_cpu_ns().saturating_sub(cpu_start_ns);
    replayer.drain(&mut TouchNone)?;
    floor::reset();
    let elapsed_ns = u64::try_from(elapsed.as_nanos()).unwrap_or(u64::MAX);
    Ok(TimedPass {
        elapsed_ns,
        cpu_ns,
        operations,
    })
}
