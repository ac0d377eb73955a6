//! The only file that calls the C library. Its few functions are declared here and not imported
//! from a crate, so that the allocators depend on nothing; a test holds every declaration and
//! constant against the libc crate.
//!
//! The wrappers keep `errno`: what the C API tells its caller is decided in `c_abi`, once.

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
compile_error!("the allocators are written for 64-bit Linux");

use core::ffi::{CStr, c_char, c_int, c_long, c_uint, c_void};
use core::fmt::{self, Write};
use core::ptr::{self, NonNull};
use core::sync::atomic::AtomicU32;

mod threads;

pub(super) use threads::{
    is_single_threaded, lock_streams, sleep_ms, start_thread, unlock_streams,
};

/// Bytes of one page of the system's.
pub(super) const OS_PAGE_BYTES: usize = 4096;
/// Bytes of one of its huge pages.
pub(super) const HUGE_PAGE_BYTES: usize = 2 << 20;

/// `errno` for "out of memory".
pub(super) const ENOMEM: c_int = 12;
/// `errno` for "invalid argument".
pub(super) const EINVAL: c_int = 22;

const PROT_NONE: c_int = 0;
const PROT_READ: c_int = 1;
const PROT_WRITE: c_int = 2;
const MAP_PRIVATE: c_int = 2;
const MAP_ANONYMOUS: c_int = 0x20;
const MREMAP_MAYMOVE: c_int = 1;
const MREMAP_FIXED: c_int = 2;
const MREMAP_DONTUNMAP: c_int = 4;
const MAP_NORESERVE: c_int = 0x4000;
const MADV_DONTNEED: c_int = 4;
const MADV_COLLAPSE: c_int = 25;
const CLOCK_MONOTONIC: c_int = 1;
const CLOCK_MONOTONIC_COARSE: c_int = 6;
const STDERR_FILENO: c_int = 2;
const GRND_NONBLOCK: c_uint = 1;
/// `dlsym`: the definition that follows that of the caller.
const RTLD_NEXT: *mut c_void = ptr::without_provenance_mut(usize::MAX);
const FUTEX_WAIT_PRIVATE: c_int = 128;
const FUTEX_WAKE_PRIVATE: c_int = 129;
#[cfg(target_arch = "x86_64")]
const SYS_FUTEX: c_long = 202;
#[cfg(target_arch = "x86_64")]
const SYS_WRITE: c_long = 1;
#[cfg(not(target_arch = "x86_64"))]
const SYS_FUTEX: c_long = 98;
#[cfg(not(target_arch = "x86_64"))]
const SYS_WRITE: c_long = 64;

type ForkHandler = Option<unsafe extern "C" fn()>;
type KeyDestructor = Option<unsafe extern "C" fn(*mut c_void)>;

/// C's `struct timespec` of 64-bit Linux.
#[repr(C)]
struct Timespec {
    seconds: i64,
    nanoseconds: i64,
}

// Without std, nobody else names the C library.
#[link(name = "c")]
unsafe extern "C" {
    fn mmap(
        address: *mut c_void,
        bytes: usize,
        protection: c_int,
        flags: c_int,
        file: c_int,
        offset: i64,
    ) -> *mut c_void;
    fn munmap(address: *mut c_void, bytes: usize) -> c_int;
    fn mremap(
        address: *mut c_void,
        bytes_old: usize,
        bytes_new: usize,
        flags: c_int,
        ...
    ) -> *mut c_void;
    fn mprotect(address: *mut c_void, bytes: usize, protection: c_int) -> c_int;
    fn madvise(address: *mut c_void, bytes: usize, advice: c_int) -> c_int;
    fn clock_gettime(clock: c_int, time: *mut Timespec) -> c_int;
    fn atexit(function: unsafe extern "C" fn()) -> c_int;
    fn getenv(name: *const c_char) -> *const c_char;
    fn getrandom(bytes: *mut c_void, count: usize, flags: c_uint) -> isize;
    fn dlsym(object: *mut c_void, name: *const c_char) -> *mut c_void;
    fn fwrite(bytes: *const c_void, size: usize, count: usize, stream: *mut c_void) -> usize;
    fn pthread_key_create(key: *mut c_uint, destructor: KeyDestructor) -> c_int;
    fn pthread_setspecific(key: c_uint, value: *const c_void) -> c_int;
    fn syscall(number: c_long, ...) -> c_long;
    fn pthread_atfork(prepare: ForkHandler, parent: ForkHandler, child: ForkHandler) -> c_int;
    #[link_name = "abort"]
    fn c_abort() -> !;
    fn __errno_location() -> *mut c_int;
}

/// The calling thread's `errno`.
pub(super) fn errno() -> c_int {
    // SAFETY: the C library returns the address of the calling thread's own errno, always valid.
    unsafe { *__errno_location() }
}

/// Sets the calling thread's `errno`.
pub(super) fn set_errno(value: c_int) {
    // SAFETY: as in `errno`; nobody else writes this thread's variable.
    unsafe { *__errno_location() = value }
}

/// Runs `action` and puts `errno` back as it was.
pub(super) fn keeping_errno<T>(action: impl FnOnce() -> T) -> T {
    let before = errno();
    let result = action();
    set_errno(before);
    result
}

/// Fresh zeroed memory of `bytes` bytes, aligned to an OS page. None: the system refused.
pub(super) fn map(bytes: usize) -> Option<NonNull<u8>> {
    keeping_errno(|| {
        // SAFETY: a new anonymous private mapping at an address of the kernel's choice touches no
        // memory that exists.
        let address = unsafe {
            mmap(
                ptr::null_mut(),
                bytes,
                PROT_READ | PROT_WRITE,
                MAP_PRIVATE | MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if address.addr() == usize::MAX {
            None
        } else {
            NonNull::new(address.cast())
        }
    })
}

/// Gives memory back. False: the system refused (it would have to split a mapping and the process
/// has as many as it may), and the memory is still there.
///
/// # Safety
/// `address` and `bytes` are OS pages got from [`map`] or [`remap`]; no reference into them is left.
pub(super) unsafe fn unmap(address: NonNull<u8>, bytes: usize) -> bool {
    // SAFETY: the caller gives up exactly this range.
    keeping_errno(|| unsafe { munmap(address.as_ptr().cast(), bytes) == 0 })
}

/// Makes a mapping longer or shorter; it may move. None: the system refused, nothing has changed.
///
/// # Safety
/// `address` and `bytes_old` are one whole mapping got from [`map`] or [`remap`]; no reference into
/// it is left.
pub(super) unsafe fn remap(
    address: NonNull<u8>,
    bytes_old: usize,
    bytes_new: usize,
) -> Option<NonNull<u8>> {
    keeping_errno(|| {
        // SAFETY: the caller owns the mapping and uses only the address returned afterwards.
        let moved = unsafe {
            mremap(
                address.as_ptr().cast(),
                bytes_old,
                bytes_new,
                MREMAP_MAYMOVE,
            )
        };
        if moved.addr() == usize::MAX {
            None
        } else {
            NonNull::new(moved.cast())
        }
    })
}

/// Addresses without memory: reading gives zeroes if `readable`, else it faults; writing faults until
/// [`make_writable`]. Not writable, so it counts against no commit limit. None: the system refused.
pub(super) fn reserve(bytes: usize, readable: bool) -> Option<NonNull<u8>> {
    keeping_errno(|| {
        let protection = if readable { PROT_READ } else { PROT_NONE };
        let flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
        // SAFETY: a new mapping at an address of the kernel's choice touches no memory that exists.
        let address = unsafe { mmap(ptr::null_mut(), bytes, protection, flags, -1, 0) };
        if address.addr() == usize::MAX {
            None
        } else {
            NonNull::new(address.cast())
        }
    })
}

/// Turns addresses got from [`reserve`] into memory. False: the system refused.
///
/// # Safety
/// Whole OS pages of such a reservation.
pub(super) unsafe fn make_writable(address: NonNull<u8>, bytes: usize) -> bool {
    let protection = PROT_READ | PROT_WRITE;
    // SAFETY: the caller's own pages; more is allowed on them than before.
    keeping_errno(|| unsafe { mprotect(address.as_ptr().cast(), bytes, protection) == 0 })
}

/// Makes whole OS pages fault when they are touched; their content stays. False: the system refused.
///
/// # Safety
/// The pages are the caller's, and nobody uses them until [`make_writable`].
pub(super) unsafe fn make_inaccessible(address: NonNull<u8>, bytes: usize) -> bool {
    // SAFETY: the caller says so.
    keeping_errno(|| unsafe { mprotect(address.as_ptr().cast(), bytes, PROT_NONE) == 0 })
}

/// Gives the memory of whole OS pages back and keeps the addresses: they read as zeroes afterwards.
/// False: the system refused and the content is unknown.
///
/// # Safety
/// The pages are the caller's and hold nothing that is needed.
pub(super) unsafe fn discard(address: NonNull<u8>, bytes: usize) -> bool {
    // SAFETY: the caller needs nothing of the content.
    keeping_errno(|| unsafe { madvise(address.as_ptr().cast(), bytes, MADV_DONTNEED) == 0 })
}

/// Makes a huge page of memory that holds nothing, at a multiple of 2 MiB and as long. It reads as zeroes. False:
/// the system has none, or knows no such request (it needs Linux 6.1).
///
/// # Safety
/// The memory is mapped, and the caller's.
pub(super) unsafe fn make_huge(address: NonNull<u8>) -> bool {
    // SAFETY: the caller's memory. Where no page is there yet, there would be nothing to make it of.
    unsafe { address.write_volatile(0) };
    // SAFETY: the caller's memory, whose content stays.
    let is_huge = keeping_errno(|| unsafe {
        madvise(address.as_ptr().cast(), HUGE_PAGE_BYTES, MADV_COLLAPSE) == 0
    });
    if !is_huge {
        // SAFETY: the page touched above; if it stays all the same, it reads as zeroes, too.
        unsafe { discard(address, OS_PAGE_BYTES) };
    }
    is_huge
}

/// Moves the content of whole OS pages without copying: `from` stays mapped and reads as zeroes, what
/// was at `to` is lost. False: the system cannot (it needs Linux 5.7), nothing has changed.
///
/// # Safety
/// Both ranges are mapped, the caller's, apart, and of `bytes`.
pub(super) unsafe fn move_pages(from: NonNull<u8>, to: NonNull<u8>, bytes: usize) -> bool {
    keeping_errno(|| {
        let flags = MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP;
        // SAFETY: both ranges are the caller's.
        let moved = unsafe {
            mremap(
                from.as_ptr().cast(),
                bytes,
                bytes,
                flags,
                to.as_ptr().cast::<c_void>(),
            )
        };
        moved.addr() == to.addr().get()
    })
}

/// Milliseconds of a clock that never goes back, to a few milliseconds; wraps after 49 days.
pub(super) fn now_ms() -> u32 {
    let time = now(CLOCK_MONOTONIC_COARSE);
    (time.seconds as u64 * 1000 + time.nanoseconds as u64 / 1_000_000) as u32
}

/// Microseconds of a clock that never goes back.
pub(super) fn now_us() -> u64 {
    let time = now(CLOCK_MONOTONIC);
    time.seconds as u64 * 1_000_000 + time.nanoseconds as u64 / 1000
}

fn now(clock: c_int) -> Timespec {
    let mut time = Timespec {
        seconds: 0,
        nanoseconds: 0,
    };
    // Cannot fail for clocks that exist since Linux 2.6.32; if it did, time would stand still.
    // SAFETY: the answer goes to a local variable.
    unsafe { clock_gettime(clock, &raw mut time) };
    time
}

/// An environment variable's text, if it is set.
pub(super) fn environment(name: &CStr) -> Option<&'static [u8]> {
    // SAFETY: a terminated name; the text is used at once, by a process that is just starting.
    unsafe {
        let text = getenv(name.as_ptr());
        (!text.is_null()).then(|| CStr::from_ptr(text).to_bytes())
    }
}

/// Eight bytes that nobody can foretell, or, where the system has none yet, that are hard to foretell.
pub(super) fn random() -> u64 {
    let mut bytes = 0_u64;
    // SAFETY: the answer goes to a local variable of that size.
    let count = keeping_errno(|| unsafe { getrandom((&raw mut bytes).cast(), 8, GRND_NONBLOCK) });
    if count == 8 {
        return bytes;
    }
    // Addresses of stack and code differ from run to run.
    let place: *const u64 = &raw const bytes;
    (place.addr() as u64).rotate_left(32) ^ (random as *const ()).addr() as u64
}

/// The definition of a function behind this one's object, in the order of the dynamic linker.
pub(super) fn next_definition(name: &CStr) -> Option<NonNull<c_void>> {
    // SAFETY: a terminated name.
    keeping_errno(|| NonNull::new(unsafe { dlsym(RTLD_NEXT, name.as_ptr()) }))
}

/// Writes to a stream of C's.
///
/// # Safety
/// An open `FILE`.
pub(super) unsafe fn write_stream(stream: *mut c_void, text: &str) -> bool {
    // SAFETY: the caller's stream; the text has so many bytes.
    unsafe { fwrite(text.as_ptr().cast(), 1, text.len(), stream) == text.len() }
}

/// A thread-local word whose value, if not null, is given to `destructor` when its thread ends. None:
/// the process has as many as it may.
pub(super) fn thread_key(destructor: unsafe extern "C" fn(*mut c_void)) -> Option<c_uint> {
    let mut key = 0;
    // SAFETY: the key goes to a local variable; the destructor is code that stays.
    (unsafe { pthread_key_create(&raw mut key, Some(destructor)) } == 0).then_some(key)
}

/// Sets the calling thread's word. May itself allocate. False: no memory for it.
pub(super) fn set_thread_key(key: c_uint, value: *const c_void) -> bool {
    // SAFETY: a key of `thread_key`; the value is only handed to its destructor.
    unsafe { pthread_setspecific(key, value) == 0 }
}

/// Has a function called when the process ends by `exit`. May itself allocate.
pub(super) fn at_exit(function: unsafe extern "C" fn()) {
    // A refusal (out of memory) is not reported: what is lost is a report.
    // SAFETY: code that stays as long as the object it is part of; glibc calls it before it unloads
    // that.
    unsafe { atexit(function) };
}

/// Sleeps until woken, provided that `word` still holds `expected`; may return without cause.
pub(super) fn futex_wait(word: &AtomicU32, expected: u32) {
    // SAFETY: the kernel reads an aligned word that outlives the call; no time limit is given.
    keeping_errno(|| unsafe {
        syscall(
            SYS_FUTEX,
            word.as_ptr(),
            FUTEX_WAIT_PRIVATE,
            expected,
            ptr::null::<c_void>(),
        )
    });
}

/// Wakes one thread that sleeps on `word`.
pub(super) fn futex_wake_one(word: &AtomicU32) {
    // SAFETY: the kernel uses the address as a key only.
    keeping_errno(|| unsafe { syscall(SYS_FUTEX, word.as_ptr(), FUTEX_WAKE_PRIVATE, 1u32) });
}

/// Has the three functions called around every `fork`: before it, after it in the parent, after it
/// in the child. May itself allocate, so the caller holds no lock. A refusal (out of memory) is not
/// reported: the process then merely may not allocate in a child forked beside running threads.
pub(super) fn at_fork(
    prepare: unsafe extern "C" fn(),
    parent: unsafe extern "C" fn(),
    child: unsafe extern "C" fn(),
) {
    // SAFETY: plain function pointers that stay valid as long as the object they are part of; glibc
    // forgets them when that object is unloaded.
    unsafe { pthread_atfork(Some(prepare), Some(parent), Some(child)) };
}

/// Writes one line on standard error, without allocating; cut at 240 bytes.
pub(super) fn error_line(message: fmt::Arguments<'_>) {
    let mut line = Line {
        bytes: [0; 240],
        length: 0,
    };
    // A line that is too long is cut; there is nobody to tell.
    let _ = line.write_fmt(message);
    line.bytes[line.length] = b'\n';
    let (text, count) = (line.bytes.as_ptr(), line.length + 1);
    // One call, so that lines of several threads do not mix. Not C's `write`, which would end a thread
    // here that another one has cancelled.
    // SAFETY: the buffer holds so many initialised bytes.
    keeping_errno(|| unsafe { syscall(SYS_WRITE, c_long::from(STDERR_FILENO), text, count) });
}

/// Ends the process at once, after one line on standard error.
#[cold]
pub(super) fn abort(message: fmt::Arguments<'_>) -> ! {
    error_line(message);
    // SAFETY: ends the process; nothing follows.
    unsafe { c_abort() }
}

/// A line being put together on the stack; the last byte is left for the newline.
struct Line {
    bytes: [u8; 240],
    length: usize,
}

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.bytes.len() - 1 - self.length;
        let taken = text.len().min(room);
        self.bytes[self.length..self.length + taken].copy_from_slice(&text.as_bytes()[..taken]);
        self.length += taken;
        if taken == text.len() {
            Ok(())
        } else {
            Err(fmt::Error)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn constants_are_those_of_the_libc_crate() {
        assert_eq!(ENOMEM, libc::ENOMEM);
        assert_eq!(EINVAL, libc::EINVAL);
        assert_eq!(MADV_COLLAPSE, libc::MADV_COLLAPSE);
        assert_eq!(CLOCK_MONOTONIC, libc::CLOCK_MONOTONIC);
        assert_eq!(PROT_READ, libc::PROT_READ);
        assert_eq!(PROT_WRITE, libc::PROT_WRITE);
        assert_eq!(MAP_PRIVATE, libc::MAP_PRIVATE);
        assert_eq!(MAP_ANONYMOUS, libc::MAP_ANONYMOUS);
        assert_eq!(MREMAP_MAYMOVE, libc::MREMAP_MAYMOVE);
        assert_eq!(STDERR_FILENO, libc::STDERR_FILENO);
        assert_eq!(
            FUTEX_WAIT_PRIVATE,
            libc::FUTEX_WAIT | libc::FUTEX_PRIVATE_FLAG
        );
        assert_eq!(
            FUTEX_WAKE_PRIVATE,
            libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG
        );
        assert_eq!(SYS_FUTEX, libc::SYS_futex);
        assert_eq!(SYS_WRITE, libc::SYS_write);
        assert_eq!(libc::MAP_FAILED.addr(), usize::MAX);
        // SAFETY: asks for a number.
        let os_page_bytes = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        assert_eq!(usize::try_from(os_page_bytes), Ok(OS_PAGE_BYTES));
    }

    /// Compiles only if each declaration has the type of the libc crate's.
    #[test]
    fn functions_have_the_types_of_the_libc_crate() {
        type Mmap =
            unsafe extern "C" fn(*mut c_void, usize, c_int, c_int, c_int, i64) -> *mut c_void;
        type Mremap = unsafe extern "C" fn(*mut c_void, usize, usize, c_int, ...) -> *mut c_void;
        type Atfork = unsafe extern "C" fn(ForkHandler, ForkHandler, ForkHandler) -> c_int;
        let pairs = [
            (mmap as Mmap as usize, libc::mmap as Mmap as usize),
            (
                munmap as unsafe extern "C" fn(*mut c_void, usize) -> c_int as usize,
                libc::munmap as unsafe extern "C" fn(*mut c_void, usize) -> c_int as usize,
            ),
            (mremap as Mremap as usize, libc::mremap as Mremap as usize),
            (
                syscall as unsafe extern "C" fn(c_long, ...) -> c_long as usize,
                libc::syscall as unsafe extern "C" fn(c_long, ...) -> c_long as usize,
            ),
            (
                pthread_atfork as Atfork as usize,
                libc::pthread_atfork as Atfork as usize,
            ),
            (
                c_abort as unsafe extern "C" fn() -> ! as usize,
                libc::abort as unsafe extern "C" fn() -> ! as usize,
            ),
            (
                __errno_location as unsafe extern "C" fn() -> *mut c_int as usize,
                libc::__errno_location as unsafe extern "C" fn() -> *mut c_int as usize,
            ),
        ];
        for (ours, theirs) in pairs {
            assert_eq!(ours, theirs, "the same function under both declarations");
        }
    }

    #[test]
    fn refusals_keep_errno() {
        set_errno(77);
        assert_eq!(map(usize::MAX - OS_PAGE_BYTES), None);
        assert_eq!(errno(), 77);
    }

    #[test]
    fn a_long_line_is_cut_and_leaves_room_for_the_newline() {
        let mut line = Line {
            bytes: [0; 240],
            length: 0,
        };
        assert!(line.write_str(&"x".repeat(500)).is_err());
        assert_eq!(line.length, 239);
    }
}
