//! System calls, made directly: they leave `errno` alone and work before the C library is ready and
//! after a fork. Errors are the system's numbers.

use core::ffi::{CStr, c_int};
use core::sync::atomic::{AtomicU32, AtomicU64};

use super::arch::{number, system_call};

pub(crate) const EINTR: i32 = 4;
pub(crate) const ENOMEM: i32 = 12;
pub(crate) const EEXIST: i32 = 17;
pub(crate) const EINVAL: i32 = 22;
pub(crate) const EFBIG: i32 = 27;
pub(crate) const ENOSPC: i32 = 28;
pub(crate) const EDQUOT: i32 = 122;
pub(crate) const ESTALE: i32 = 116;

pub(crate) const O_RDONLY: c_int = 0;
pub(crate) const O_WRONLY: c_int = 1;
pub(crate) const O_RDWR: c_int = 2;
pub(crate) const O_CREAT: c_int = 0o100;
pub(crate) const O_EXCL: c_int = 0o200;
pub(crate) const O_APPEND: c_int = 0o2000;
pub(crate) const O_CLOEXEC: c_int = 0o2_000_000;
#[cfg(target_arch = "x86_64")]
pub(crate) const O_DIRECTORY: c_int = 0o200_000;
#[cfg(target_arch = "aarch64")]
pub(crate) const O_DIRECTORY: c_int = 0o40_000;
const O_PATH: c_int = 0o10_000_000;
pub(crate) const CURRENT_FOLDER: c_int = -100;

const MAP_SHARED: usize = 1;
const MAP_PRIVATE: usize = 2;
const MAP_ANONYMOUS: usize = 0x20;
const PROT_READ_WRITE: usize = 3;
const MADV_DONTNEED: usize = 4;
const MADV_WIPEONFORK: usize = 18;
const MADV_POPULATE_WRITE: usize = 23;
const RLIMIT_FSIZE: usize = 1;
const RLIMIT_NOFILE: usize = 7;
const FUTEX_WAIT_PRIVATE: usize = 128;
const FUTEX_WAKE_PRIVATE: usize = 129;
const FUTEX_WAKE: usize = 1;
const SIG_SETMASK: usize = 2;
const SIGNAL_SET_BYTES: usize = 8;
const F_DUPFD_CLOEXEC: usize = 1030;

/// What a system call returned.
fn result(value: isize) -> Result<usize, i32> {
    if (-4095..0).contains(&value) {
        Err(-value as i32)
    } else {
        Ok(value as usize)
    }
}

fn call(number: usize, arguments: [usize; 6]) -> Result<usize, i32> {
    // SAFETY: every use in this file passes what the call is documented to take; memory that the
    // kernel writes is named by pointers made from exclusive references, or is the subject of an
    // unsafe function here.
    result(unsafe { system_call(number, arguments) })
}

pub(crate) fn open(folder: c_int, path: &CStr, flags: c_int) -> Result<c_int, i32> {
    let path = path.as_ptr() as usize;
    let arguments = [
        folder as usize,
        path,
        (flags | O_CLOEXEC) as usize,
        0o600,
        0,
        0,
    ];
    call(number::OPENAT, arguments).map(|file| file as c_int)
}

/// A handle on a folder that serves as the start of paths only.
pub(crate) fn open_folder(path: &CStr) -> Result<c_int, i32> {
    open(CURRENT_FOLDER, path, O_PATH | O_DIRECTORY)
}

pub(crate) fn close(file: c_int) {
    let _ = call(number::CLOSE, [file as usize, 0, 0, 0, 0, 0]);
}

pub(crate) fn read(file: c_int, buffer: &mut [u8]) -> Result<usize, i32> {
    let arguments = [
        file as usize,
        buffer.as_mut_ptr() as usize,
        buffer.len(),
        0,
        0,
        0,
    ];
    loop {
        match call(number::READ, arguments) {
            Err(EINTR) => {}
            other => return other,
        }
    }
}

/// Reads until the buffer is full or the file ends; the bytes read.
pub(crate) fn read_whole(file: c_int, buffer: &mut [u8]) -> usize {
    let mut filled = 0;
    while filled < buffer.len() {
        match read(file, &mut buffer[filled..]) {
            Ok(0) | Err(_) => break,
            Ok(bytes) => filled += bytes,
        }
    }
    filled
}

/// Writes all of it.
pub(crate) fn write(file: c_int, mut bytes: &[u8]) -> Result<(), i32> {
    while !bytes.is_empty() {
        let arguments = [file as usize, bytes.as_ptr() as usize, bytes.len(), 0, 0, 0];
        match call(number::WRITE, arguments) {
            Ok(written) => bytes = &bytes[written..],
            Err(EINTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Bytes that a link names.
pub(crate) fn read_link(path: &CStr, buffer: &mut [u8]) -> Result<usize, i32> {
    let arguments = [
        CURRENT_FOLDER as usize,
        path.as_ptr() as usize,
        buffer.as_mut_ptr() as usize,
        buffer.len(),
        0,
        0,
    ];
    call(number::READLINKAT, arguments)
}

pub(crate) fn exists(folder: c_int, path: &CStr) -> bool {
    let arguments = [folder as usize, path.as_ptr() as usize, 0, 0, 0, 0];
    call(number::FACCESSAT, arguments).is_ok()
}

/// Makes the same file known by a number near the end of what the process may use, where a program
/// that counts on small numbers, or closes the first few, does not meet it.
pub(crate) fn move_out_of_the_way(file: c_int) -> c_int {
    let limit = soft_limit(RLIMIT_NOFILE).min(1024);
    let least = limit.saturating_sub(24) as usize;
    match call(
        number::FCNTL,
        [file as usize, F_DUPFD_CLOEXEC, least, 0, 0, 0],
    ) {
        Ok(moved) => {
            close(file);
            moved as c_int
        }
        Err(_) => file,
    }
}

/// Device (major, minor) and inode of an open file.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Identity {
    major: u32,
    minor: u32,
    inode: u64,
}

pub(crate) fn identity(file: c_int) -> Result<Identity, i32> {
    let statx = statx(file)?;
    // struct statx: stx_ino at byte 32, stx_dev_major and stx_dev_minor at 136 and 140.
    Ok(Identity {
        major: statx[17] as u32,
        minor: (statx[17] >> 32) as u32,
        inode: statx[4],
    })
}

/// The kernel's `struct statx` of an open file, in words.
fn statx(file: c_int) -> Result<[u64; 32], i32> {
    const AT_EMPTY_PATH: usize = 0x1000;
    const STATX_INO: usize = 0x100;
    const STATX_SIZE: usize = 0x200;
    let mut statx = [0_u64; 32];
    let arguments = [
        file as usize,
        c"".as_ptr() as usize,
        AT_EMPTY_PATH,
        STATX_INO | STATX_SIZE,
        statx.as_mut_ptr() as usize,
        0,
    ];
    call(number::STATX, arguments).map(|_| statx)
}

fn soft_limit(resource: usize) -> u64 {
    let mut limits = [u64::MAX; 2];
    let _ = call(
        number::PRLIMIT64,
        [0, resource, 0, limits.as_mut_ptr() as usize, 0, 0],
    );
    limits[0]
}

/// Bytes of an open file.
pub(crate) fn file_bytes(file: c_int) -> Result<u64, i32> {
    // struct statx: stx_size at byte 40.
    statx(file).map(|statx| statx[5])
}

/// Makes a file longer, by zeros that are written, so that room for them is taken: a full disk is told
/// here, and storing to a mapping of that part cannot fail. Never raises SIGXFSZ. What was written before
/// an error stays, as others may have gone on behind it.
///
/// Written and not reserved (`fallocate`): the system then keeps the part in large pieces, which makes
/// mapping it cheap. Of 256 MiB on ext4, system time with the stores: 0.25 to 0.55 s reserved, 0.07 to
/// 0.09 s written in pieces of 64 KiB, 0.05 to 0.5 s in one piece of 1 MiB, as such pieces run short.
pub(crate) fn grow(file: c_int, offset: u64, bytes: u64) -> Result<(), i32> {
    const PIECE_BYTES: usize = 64 * 1024;
    // Atomic, and so writable, that it takes no space in the shim's own file.
    static ZEROS: [AtomicU64; PIECE_BYTES / 8] = [const { AtomicU64::new(0) }; PIECE_BYTES / 8];
    // SAFETY: atomic words that nobody ever writes.
    let zeros = unsafe { core::slice::from_raw_parts(ZEROS.as_ptr().cast::<u8>(), PIECE_BYTES) };
    let mut at = offset;
    while at < offset + bytes {
        let piece = (offset + bytes - at).min(PIECE_BYTES as u64);
        write_at(file, &zeros[..piece as usize], at)?;
        at += piece;
    }
    Ok(())
}

/// Writes all of it at a place in a file. Never raises SIGXFSZ.
pub(crate) fn write_at(file: c_int, mut bytes: &[u8], mut offset: u64) -> Result<(), i32> {
    if offset + bytes.len() as u64 > soft_limit(RLIMIT_FSIZE) {
        return Err(EFBIG);
    }
    while !bytes.is_empty() {
        let arguments = [
            file as usize,
            bytes.as_ptr() as usize,
            bytes.len(),
            offset as usize,
            0,
            0,
        ];
        match call(number::PWRITE64, arguments) {
            Ok(0) => return Err(ENOSPC),
            Ok(written) => {
                bytes = &bytes[written..];
                offset += written as u64;
            }
            Err(EINTR) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn map(bytes: usize, flags: usize, file: c_int, offset: u64) -> Result<*mut u8, i32> {
    let arguments = [
        0,
        bytes,
        PROT_READ_WRITE,
        flags,
        file as usize,
        offset as usize,
    ];
    call(number::MMAP, arguments).map(|address| address as *mut u8)
}

/// Maps a part of a file, shared, its pages ready to be written.
pub(crate) fn map_file(file: c_int, offset: u64, bytes: usize) -> Result<*mut u8, i32> {
    let address = map(bytes, MAP_SHARED, file, offset)?;
    // Older systems refuse: then each page costs a fault of its own.
    let _ = call(
        number::MADVISE,
        [address as usize, bytes, MADV_POPULATE_WRITE, 0, 0, 0],
    );
    Ok(address)
}

/// Fresh memory; and whether a forked child finds zeros in it.
pub(crate) fn map_wiped_on_fork(bytes: usize) -> Result<(*mut u8, bool), i32> {
    let address = map(bytes, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)?;
    let arguments = [address as usize, bytes, MADV_WIPEONFORK, 0, 0, 0];
    Ok((address, call(number::MADVISE, arguments).is_ok()))
}

/// Gives pages back to the system: they are zero when they are used again.
///
/// # Safety
/// Nothing in them is wanted any more.
pub(crate) unsafe fn give_back(address: usize, bytes: usize) -> Result<(), i32> {
    call(number::MADVISE, [address, bytes, MADV_DONTNEED, 0, 0, 0]).map(|_| ())
}

/// How many of the pages from `first` to before `last`, both multiples of a page, are in memory.
pub(crate) fn resident_pages(first: usize, last: usize, page_bytes: usize) -> Result<usize, i32> {
    let mut resident = 0;
    let mut states = [0_u8; 1024];
    let mut at = first;
    while at < last {
        let bytes = (last - at).min(states.len() * page_bytes);
        let arguments = [at, bytes, states.as_mut_ptr() as usize, 0, 0, 0];
        call(number::MINCORE, arguments)?;
        let pages = &states[..bytes / page_bytes];
        resident += pages.iter().filter(|&&state| state & 1 != 0).count();
        at += bytes;
    }
    Ok(resident)
}

/// Ends a mapping.
///
/// # Safety
/// Nobody uses it any more.
pub(crate) unsafe fn unmap(address: *mut u8, bytes: usize) {
    let _ = call(number::MUNMAP, [address as usize, bytes, 0, 0, 0, 0]);
}

/// The calling thread's blocked signals.
pub(crate) struct SignalMask(u64);

/// Blocks every signal for the calling thread; what was blocked before.
pub(crate) fn block_signals() -> SignalMask {
    let all = u64::MAX;
    let mut before = 0_u64;
    let arguments = [
        SIG_SETMASK,
        &raw const all as usize,
        &raw mut before as usize,
        SIGNAL_SET_BYTES,
        0,
        0,
    ];
    let _ = call(number::RT_SIGPROCMASK, arguments);
    SignalMask(before)
}

pub(crate) fn restore_signals(mask: SignalMask) {
    let arguments = [
        SIG_SETMASK,
        &raw const mask.0 as usize,
        0,
        SIGNAL_SET_BYTES,
        0,
        0,
    ];
    let _ = call(number::RT_SIGPROCMASK, arguments);
}

/// Sleeps while the word has this value, or until woken; may return at any time.
pub(crate) fn futex_wait(word: &AtomicU32, value: u32) {
    let arguments = [
        word.as_ptr() as usize,
        FUTEX_WAIT_PRIVATE,
        value as usize,
        0,
        0,
        0,
    ];
    let _ = call(number::FUTEX, arguments);
}

pub(crate) fn futex_wake_one(word: &AtomicU32) {
    let _ = call(
        number::FUTEX,
        [word.as_ptr() as usize, FUTEX_WAKE_PRIVATE, 1, 0, 0, 0],
    );
}

/// Wakes one that sleeps in another process, on a word that both have mapped.
pub(crate) fn futex_wake_other_process(word: &AtomicU32) {
    let _ = call(
        number::FUTEX,
        [word.as_ptr() as usize, FUTEX_WAKE, 1, 0, 0, 0],
    );
}

fn id(number: usize) -> u32 {
    call(number, [0; 6]).map_or(0, |id| id as u32)
}

pub(crate) fn process_id() -> u32 {
    id(number::GETPID)
}

pub(crate) fn parent_id() -> u32 {
    id(number::GETPPID)
}

pub(crate) fn thread_id() -> u32 {
    id(number::GETTID)
}

pub(crate) fn yield_now() {
    let _ = call(number::SCHED_YIELD, [0; 6]);
}

/// Ends the process, all threads.
pub(crate) fn exit_group(status: c_int) -> ! {
    loop {
        let _ = call(number::EXIT_GROUP, [status as usize, 0, 0, 0, 0, 0]);
    }
}

/// One line on standard error.
pub(crate) fn error_line(parts: &[&[u8]]) {
    let mut line = [0_u8; 512];
    let mut end = 0;
    for part in parts.iter().chain([&b"\n".as_slice()]) {
        let bytes = part.len().min(line.len() - end);
        line[end..end + bytes].copy_from_slice(&part[..bytes]);
        end += bytes;
    }
    let _ = write(2, &line[..end]);
}
