//! Sets a process up for recording: the program's first image, what it execs, and each child that it
//! forks. Under the process's lock.

use core::cell::UnsafeCell;
use core::ffi::{c_int, c_long};
use core::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, AtomicU32, AtomicU64, Ordering};

use super::bell;
use super::environment;
use super::event;
use super::file::{Header, WireFile};
use super::folder;
use super::options::{FOLDER_VARIABLE, OPTIONS_VARIABLE, Options, number};
use super::process::{Inner, NUMBERED, Process, QUIET, RECORDING, SWITCH_REQUESTS, SWITCHED_OFF};
use super::real;
use super::switch;
use super::system::{self, EEXIST, Identity};
use super::text::Text;
use super::wire::{self, header as at};

/// What a forked child needs to know of its parent: statics, which the child keeps.
struct Inherited {
    options: Options,
    /// The parent's file, and its identity.
    file: c_int,
    identity: Option<Identity>,
}

struct Shared(UnsafeCell<Inherited>);

// SAFETY: written under the process's lock; read by others only after `STARTED` or in a state, both of
// which come later.
unsafe impl Sync for Shared {}

static INHERITED: Shared = Shared(UnsafeCell::new(Inherited {
    options: Options::DEFAULT,
    file: -1,
    identity: None,
}));

/// Whether this image was set up, in this process or in the one that forked it.
static STARTED: AtomicBool = AtomicBool::new(false);
/// The process that was set up last, in this memory; 0 if it was not recorded.
static RECORDED_PROCESS: AtomicU32 = AtomicU32::new(0);
/// Its file's header, mapped.
static RECORDED_HEADER: AtomicPtr<u8> = AtomicPtr::new(core::ptr::null_mut());
static BEGAN_MONOTONIC_NS: AtomicU64 = AtomicU64::new(0);
/// Signal that switches, as installed; 0: none.
pub(crate) static SIGNAL: AtomicI32 = AtomicI32::new(0);

/// The options.
#[inline]
pub(crate) fn options() -> &'static Options {
    // SAFETY: written once, before any state is made; whoever asks has a state or the lock.
    unsafe { &(*INHERITED.0.get()).options }
}

#[repr(C)]
struct TimeSpec {
    seconds: i64,
    nanoseconds: c_long,
}

fn clock_ns(clock: c_int) -> u64 {
    unsafe extern "C" {
        fn clock_gettime(clock: c_int, time: *mut TimeSpec) -> c_int;
    }
    let mut time = TimeSpec {
        seconds: 0,
        nanoseconds: 0,
    };
    // SAFETY: writes the struct. The C library's way needs no system call.
    unsafe { clock_gettime(clock, &raw mut time) };
    time.seconds as u64 * 1_000_000_000 + time.nanoseconds as u64
}

/// `CLOCK_MONOTONIC`.
pub(crate) fn monotonic_ns() -> u64 {
    clock_ns(1)
}

/// Nanoseconds since this process's recording began.
pub(crate) fn now_ns() -> u64 {
    monotonic_ns().saturating_sub(BEGAN_MONOTONIC_NS.load(Ordering::Relaxed))
}

/// Number of the process that is recorded in this memory; 0 if none is.
pub(crate) fn recorded_process() -> u32 {
    RECORDED_PROCESS.load(Ordering::Relaxed)
}

/// Sets this process up: its status is another than `NOT_SET_UP` afterwards.
pub(crate) fn set_up(process: &Process, inner: &mut Inner) {
    let is_forked = STARTED.swap(true, Ordering::Relaxed);
    let status = begin(process, inner, is_forked);
    process.status.store(status, Ordering::Release);
}

fn begin(process: &Process, inner: &mut Inner, is_forked: bool) -> u32 {
    // SAFETY: under the lock; the options are read by others only later.
    let inherited = unsafe { &mut *INHERITED.0.get() };
    if !is_forked {
        let mut path = [0_u8; folder::PATH_BYTES];
        let Some(length) = environment::variable(FOLDER_VARIABLE.as_bytes(), &mut path) else {
            return QUIET;
        };
        let mut text = [0_u8; 256];
        let options = environment::variable(OPTIONS_VARIABLE.as_bytes(), &mut text);
        inherited.options = Options::parse(&text[..options.unwrap_or(0)]);
        if let Err(error) = folder::set(&path[..length]) {
            complain(b"cannot open the folder", error);
            return QUIET;
        }
    }
    let parent = if is_forked { recorded_process() } else { 0 };
    let process_id = system::process_id();
    let start_ticks = start_ticks();
    let is_main = !is_forked && is_first_process(process_id, start_ticks);
    if is_forked && parent == 0 || !is_main && !inherited.options.follow {
        forget_parent(inherited);
        return QUIET;
    }
    let (file, header) = match WireFile::create(process_id, inherited.options.limit_bytes) {
        Ok(made) => made,
        Err(error) => {
            match Header::of(RECORDED_HEADER.load(Ordering::Relaxed)) {
                Some(parents) => parents.add_lost_child(error),
                None => complain(b"cannot make a file", error),
            }
            forget_parent(inherited);
            return QUIET;
        }
    };
    if !is_forked {
        bell::find();
    }
    let parent_sequence = NUMBERED.swap(0, Ordering::Relaxed);
    let parent = if is_forked {
        header.set(at::PARENT_SEQUENCE, parent_sequence);
        parent
    } else {
        recorded_parent()
    };
    forget_parent(inherited);
    event::ask_for_single_thread();
    fill(&header, parent, is_forked, start_ticks, &inherited.options);
    (inherited.file, inherited.identity) = file.handle();
    RECORDED_HEADER.store(header.mapping(), Ordering::Relaxed);
    RECORDED_PROCESS.store(process_id, Ordering::Relaxed);
    process.header.store(header.mapping(), Ordering::Release);
    inner.file = file;
    inner.tell_bootstrap = !is_forked;

    let signal = inherited.options.signal;
    if signal != 0 && !is_forked {
        switch::install(signal as c_int);
        SIGNAL.store(signal as c_int, Ordering::Relaxed);
    }
    let requests = SWITCH_REQUESTS.load(Ordering::SeqCst);
    process.requests_seen.store(requests, Ordering::Relaxed);
    if switch::is_on(requests) {
        RECORDING
    } else {
        SWITCHED_OFF
    }
}

/// A child lets go of its parent's file and header.
fn forget_parent(inherited: &mut Inherited) {
    WireFile::close_inherited(inherited.file, inherited.identity.take());
    RECORDED_PROCESS.store(0, Ordering::Relaxed);
    let header = RECORDED_HEADER.swap(core::ptr::null_mut(), Ordering::Relaxed);
    if !header.is_null() {
        // SAFETY: this process has no thread that uses it: its only one is here.
        unsafe { system::unmap(header, wire::UNIT_BYTES) };
    }
}

fn fill(header: &Header, parent: u32, is_forked: bool, start_ticks: u64, options: &Options) {
    let flags = [
        (options.times, at::FLAG_TIMES),
        (options.sites, at::FLAG_SITES),
        (options.touched, at::FLAG_TOUCHED),
        (options.signal != 0, at::FLAG_ATTACHED),
        (is_forked, at::FLAG_FORKED),
    ];
    let flags = flags
        .iter()
        .filter(|(is_set, _)| *is_set)
        .map(|(_, flag)| flag)
        .sum();
    header.set_u32(at::FLAGS, flags);
    header.set_u32(at::PARENT, parent);
    let began = monotonic_ns();
    BEGAN_MONOTONIC_NS.store(began, Ordering::Relaxed);
    header.set(at::BEGAN_MONOTONIC_NS, began);
    header.set(at::BEGAN_REALTIME_NS, clock_ns(0));
    header.set(at::PROCESS_START_TICKS, start_ticks);
    header.set(at::PAGE_BYTES, environment::page_bytes());
    // Each field keeps a NUL at its end.
    let _ = system::read_link(
        c"/proc/self/exe",
        header.bytes(at::PROGRAM, at::PROGRAM_BYTES - 1),
    );
    copy(
        real::allocator_path(),
        header.bytes(at::ALLOCATOR, at::ALLOCATOR_BYTES - 1),
    );
    copy(
        real::c_library_version(),
        header.bytes(at::C_LIBRARY, at::C_LIBRARY_BYTES - 1),
    );
    let command_line = header.bytes(at::COMMAND_LINE, at::COMMAND_LINE_BYTES - 1);
    environment::read_file(c"/proc/self/cmdline", command_line);
    header.set_u32(at::VERSION, wire::VERSION);
    // Last: a header without it is not whole.
    header.set(at::MAGIC, u64::from_le_bytes(wire::MAGIC));
}

fn copy(text: &[u8], field: &mut [u8]) {
    let bytes = text.len().min(field.len());
    field[..bytes].copy_from_slice(&text[..bytes]);
}

/// Whether this is the process that the command started: the first that writes its name down, or what
/// that process has execed.
fn is_first_process(process_id: u32, start_ticks: u64) -> bool {
    let name = Text::new()
        .push_number(u64::from(process_id))
        .push(b" ")
        .push_number(start_ticks)
        .push(b"\n");
    let flags = system::O_WRONLY | system::O_CREAT | system::O_EXCL;
    match folder::open(c"main", flags) {
        Ok(file) => {
            let _ = system::write(file, name.as_bytes());
            system::close(file);
            true
        }
        Err(EEXIST) => {
            let mut text = [0_u8; 64];
            let bytes = match folder::open(c"main", system::O_RDONLY) {
                Ok(file) => {
                    let bytes = system::read_whole(file, &mut text);
                    system::close(file);
                    bytes
                }
                Err(_) => 0,
            };
            &text[..bytes] == name.as_bytes()
        }
        Err(_) => false,
    }
}

/// The process that started this one, if it is recorded.
fn recorded_parent() -> u32 {
    let parent = system::parent_id();
    let file = super::text::file_name(parent, 0, b"wire");
    if folder::has(file.as_c()) { parent } else { 0 }
}

/// When the process started, in the kernel's ticks; 0 if unknown.
fn start_ticks() -> u64 {
    let mut text = [0_u8; 1024];
    let bytes = environment::read_file(c"/proc/self/stat", &mut text);
    // The second field, the program's name, is in parentheses and may hold anything.
    let after_name = text[..bytes].iter().rposition(|&byte| byte == b')');
    let rest = &text[after_name.map_or(bytes, |at| at + 1)..bytes];
    // The third field is the first here; the wanted one is the 22nd.
    let mut fields = rest
        .split(|&byte| byte == b' ')
        .filter(|field| !field.is_empty());
    fields.nth(19).and_then(number).unwrap_or(0)
}

fn complain(what: &[u8], error: i32) {
    let error = Text::new().push_number(error as u64);
    system::error_line(&[
        b"mymalloc record: ",
        what,
        b" in ",
        folder::path(),
        b": system error ",
        error.as_bytes(),
        b"; this process is not recorded",
    ]);
}
