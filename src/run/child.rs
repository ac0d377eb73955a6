//! The child: performs one request and answers. It allocates as little as it can before the replay,
//! because with a preloaded subject its own allocations are served by the subject too.

use core::ffi::{CStr, c_void};
use core::mem::ManuallyDrop;
use core::sync::atomic::AtomicU64;
use std::ffi::OsStr;
use std::fs::File;
use std::path::Path;

use memmap2::{Mmap, MmapMut, MmapOptions};
use procfs::Current as _;

use super::answer::{Answer, AnswerFile, PASS_LIMIT, STATE_DONE, STATE_REPLAYING, STATE_WRONG};
use super::interrupt;
use super::on_threads;
use super::request::{ChildArguments, FIRST_ARGUMENT, Task};
use super::supervisor;
use super::times::Times;
use super::usage::Usage;
use crate::measure::results::{Order, Pass};
use crate::replay::kernels::Kernel;
use crate::replay::latency;
use crate::replay::memory::{self, SlotBytes};
use crate::replay::parts::{self, Ground, SlotPlace};
use crate::replay::program::{COLD_ALIGNED, ProgramView};
use crate::replay::resident::Gauge;
use crate::replay::serial::{Failure, Replayer, warm_up};
use crate::replay::shadow::Shadow;
use crate::replay::speed;
use crate::replay::verify::{self, SlotPattern, Watch};
use crate::subject::floor::{self, Threads};
use crate::subject::functions::{FUNCTION_NAMES, Functions};
use crate::subject::linked::Linked;

/// Must be called first in every `main` that takes samples: in the parent it sees to it that children
/// can be waited for; in a child it performs the request and ends the process.
pub fn intercept() {
    interrupt::expect_children();
    let mut arguments = std::env::args_os();
    let first = arguments.nth(1);
    if first.as_deref() == Some(OsStr::new(supervisor::FIRST_ARGUMENT)) {
        std::process::exit(supervisor::main(&arguments.next().unwrap_or_default()));
    }
    if first.as_deref() != Some(OsStr::new(FIRST_ARGUMENT)) {
        return;
    }
    let code = match ChildArguments::parse(arguments) {
        Some(arguments) => perform(&arguments),
        None => EXIT_UNABLE,
    };
    // Without the destructors and exit handlers of a process whose heap may be damaged.
    // SAFETY: ends the process.
    unsafe { libc::_exit(code) };
}

/// Exit code of a child that could not even find its request or its answer file: the harness's own
/// failure. A number that programs do not end with by themselves.
pub(super) const EXIT_UNABLE: i32 = 113;

fn perform(arguments: &ChildArguments) -> i32 {
    let Ok(mut file) = AnswerFile::open(Path::new(&arguments.answer)) else {
        return EXIT_UNABLE;
    };
    file.prefault();
    let answer = file.get_mut();
    match prepare_and_replay(arguments, answer) {
        Ok(()) => answer.state = STATE_DONE,
        Err(Ended::Wrong(failure)) => {
            answer.fault = failure.fault as u32;
            answer.operation = failure.operation as u64;
            answer.state = STATE_WRONG;
        }
        Err(Ended::Refused(reason)) => answer.refuse(&reason),
    }
    0
}

/// How a replay can end early without a crash.
pub(super) enum Ended {
    Wrong(Failure),
    Refused(String),
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        Self::Wrong(failure)
    }
}

pub(super) fn refused(what: &str, error: &std::io::Error) -> Ended {
    Ended::Refused(format!("the child could not {what}: {error}"))
}

fn prepare_and_replay(arguments: &ChildArguments, answer: &mut Answer) -> Result<(), Ended> {
    let linked = Linked::from_name(&arguments.token);
    let functions = match linked {
        Some(linked) => linked.functions(),
        None => Functions::resolved().map_err(|name| {
            Ended::Refused(format!("no object defines {}", name.to_string_lossy()))
        })?,
    };
    write_receipt(&functions, answer);
    match &arguments.task {
        Task::Version(source) => {
            let version = match linked {
                Some(linked) => linked.version(),
                None => source.ask(&functions),
            };
            answer.set_version(&version.unwrap_or_default());
            Ok(())
        }
        Task::Program(path) => {
            let map = map_program(path, arguments.pass)?;
            match arguments.order {
                Order::Serial => replay_program(arguments, &map, linked, functions, answer),
                Order::Threads | Order::Strict | Order::Paced => {
                    on_threads::replay(arguments, &map, linked, functions, answer)
                }
            }
        }
        Task::Kernel(kernel) => run_kernel(arguments, kernel, linked, functions, answer),
    }
}

fn run_kernel(
    arguments: &ChildArguments,
    kernel: &Kernel,
    linked: Option<Linked>,
    functions: Functions,
    answer: &mut Answer,
) -> Result<(), Ended> {
    if matches!(linked, Some(Linked::Null | Linked::Bump)) {
        let reason = "the floor rows are for traces; kernels have threads of their own";
        return Err(Ended::Refused(reason.to_owned()));
    }
    match arguments.pass {
        Pass::Verify => {
            answer.state = STATE_REPLAYING;
            // SAFETY: a valid number, which nothing else uses during the pass; atomic, since all
            // threads write it, and the parent reads it if this process dies.
            let progress = unsafe { AtomicU64::from_ptr(&raw mut answer.operation) };
            let done = kernel.verify(&functions, progress);
            answer.operations = done?;
        }
        Pass::Speed => {
            answer.state = STATE_REPLAYING;
            warm_up(&functions);
            for pass in 0..arguments.passes.max(1) {
                let before = Usage::now();
                let timed = kernel.run(&functions, arguments.touch)?;
                note_pass(answer, pass, timed.elapsed_ns, before);
                answer.operations = timed.operations;
            }
        }
        Pass::Memory => {
            let mut gauge = open_gauge()?;
            let settle = answer.commission.settle != 0;
            answer.state = STATE_REPLAYING;
            answer.memory = kernel.record(
                &functions,
                arguments.touch,
                &mut answer.curve,
                &mut gauge,
                settle,
            )?;
            check_readable(&gauge)?;
            answer.operations = answer.memory.operations;
        }
        Pass::Latency | Pass::Program => {
            let reason = "there is no such pass over this work";
            return Err(Ended::Refused(reason.to_owned()));
        }
    }
    Ok(())
}

fn map_program(path: &OsStr, pass: Pass) -> Result<Mmap, Ended> {
    let program_file = File::open(path).map_err(|error| refused("open its program", &error))?;
    // The file is closed here and not at the end: the allocator may close descriptors that it did
    // not open.
    let mut options = MmapOptions::new();
    if pass == Pass::Memory {
        // The temporary folder may be memory itself, which the kernel would count as it is read.
        options.populate();
    }
    // SAFETY: the parent wrote the file into its own temporary folder and changes it no more.
    unsafe { options.map(&program_file) }.map_err(|error| refused("map its program", &error))
}

pub(super) fn damaged() -> Ended {
    Ended::Refused("the compiled trace is damaged".to_owned())
}

fn replay_program(
    arguments: &ChildArguments,
    bytes: &[u8],
    linked: Option<Linked>,
    mut functions: Functions,
    answer: &mut Answer,
) -> Result<(), Ended> {
    let program = ProgramView::new(bytes).ok_or_else(damaged)?;
    if let Some(floor_row @ (Linked::Null | Linked::Bump)) = linked {
        prepare_floor(floor_row, &program, arguments.pass, Threads::ONE)?;
        if floor_row == Linked::Null {
            functions = floor::NULL_ALONE;
        }
    }
    let mut table = harness_memory::<*mut c_void>(program.slots as usize)?;
    // SAFETY: the functions are an allocator's, as far as the user says; one that is not is what this
    // process of its own is for. The parent compiled the program from a trace, whose builder lets
    // each block be released once, and `?` below leaves after a failure.
    let mut replayer = unsafe { Replayer::new(program, table.as_mut_slice(), functions) };
    match arguments.pass {
        Pass::Verify => {
            let mut slots = harness_memory::<SlotPattern>(program.slots as usize)?;
            let shadow = Shadow::new().map_err(|error| refused("map its shadow", &error))?;
            answer.state = STATE_REPLAYING;
            let operation = &mut answer.operation;
            let mut progress = |number: usize| {
                // SAFETY: a valid number. Volatile, since the parent reads it if this process dies.
                unsafe { std::ptr::write_volatile(operation, number as u64) }
            };
            let watch = Watch {
                block: answer.commission.watch,
                changed: &mut answer.changed,
                progress: &mut progress,
            };
            let done = verify::verify(&mut replayer, slots.as_mut_slice(), shadow, watch)?;
            answer.operations = done as u64;
        }
        Pass::Speed => {
            answer.state = STATE_REPLAYING;
            warm_up(&functions);
            for pass in 0..arguments.passes.max(1) {
                let before = Usage::now();
                let timed = speed::timed_pass(&mut replayer, arguments.touch)?;
                note_pass(answer, pass, timed.elapsed_ns, before);
                if let Some(slot) = answer.threaded.get_mut(pass as usize) {
                    slot.process_cpu_ns = timed.cpu_ns;
                }
                answer.operations = timed.operations as u64;
            }
        }
        Pass::Memory => {
            let mut gauge = open_gauge()?;
            let slots = program.slots as usize;
            answer.operations = if answer.commission.is_second == 0 {
                let mut slots = harness_memory::<SlotBytes>(slots)?;
                answer.state = STATE_REPLAYING;
                gauge.begin();
                answer.memory = memory::record(
                    &mut replayer,
                    arguments.touch,
                    slots.as_mut_slice(),
                    &mut answer.curve,
                    &mut gauge,
                    answer.commission.settle != 0,
                )?;
                answer.memory.operations
            } else {
                let mut slots = harness_memory::<SlotPlace>(slots)?;
                let ground = open_ground(&mut gauge)?;
                answer.state = STATE_REPLAYING;
                gauge.begin();
                parts::record(
                    &mut replayer,
                    arguments.touch,
                    slots.as_mut_slice(),
                    ground,
                    &mut gauge,
                    answer.commission.look_at as usize,
                    &mut answer.parts,
                )? as u64
            };
            check_readable(&gauge)?;
        }
        Pass::Latency => {
            let times = open_times(arguments, answer, program.words().len())?;
            answer.state = STATE_REPLAYING;
            warm_up(&functions);
            let touch = arguments.touch;
            if linked == Some(Linked::Bump) {
                // A bound has no page faults of its own: its memory is resident from here on.
                speed::timed_pass(&mut replayer, touch)?;
            }
            let outcome = &mut answer.latency;
            answer.operations = match times {
                Some(mut times) => {
                    latency::record(&mut replayer, touch, times.as_mut_slice(), outcome)?
                }
                None => latency::explain(&mut replayer, touch, outcome.tally.worst_mut())?,
            } as u64;
        }
        Pass::Program => {
            let reason = "there is no such pass over this work";
            return Err(Ended::Refused(reason.to_owned()));
        }
    }
    Ok(())
}

/// The file for the times of the latency pass; its second child takes none.
pub(super) fn open_times(
    arguments: &ChildArguments,
    answer: &Answer,
    places: usize,
) -> Result<Option<Times>, Ended> {
    if answer.commission.is_second != 0 {
        return Ok(None);
    }
    Times::open(Path::new(&arguments.answer), places)
        .map(Some)
        .map_err(|error| refused("map the file for its times", &error))
}

/// Never closed: the allocator may have done so, and the process ends soon.
pub(super) fn open_gauge() -> Result<ManuallyDrop<Gauge>, Ended> {
    let gauge = Gauge::open().map_err(|error| refused("open /proc/self/status", &error))?;
    Ok(ManuallyDrop::new(gauge))
}

/// The harness's own memory for the look at the pages.
pub(super) fn open_ground(gauge: &mut Gauge) -> Result<Option<Ground>, Ended> {
    Ground::new(gauge).map_err(|error| refused("map its sets of pages", &error))
}

/// Refuses figures of which some could not be read.
pub(super) fn check_readable(gauge: &Gauge) -> Result<(), Ended> {
    match gauge.read().held_bytes() {
        0 => Err(Ended::Refused(
            "its memory could not be read: the allocator closed a file that is not its own"
                .to_owned(),
        )),
        _ => Ok(()),
    }
}

/// Notes a timed pass; `before` was read at its beginning.
pub(super) fn note_pass(answer: &mut Answer, pass: u32, elapsed_ns: u64, before: Usage) {
    if let Some(slot) = answer.usage.get_mut(pass as usize) {
        *slot = Usage::now().since(before);
    }
    if let Some(slot) = answer.passes_ns.get_mut(pass as usize) {
        *slot = elapsed_ns;
        answer.passes = pass.min(PASS_LIMIT as u32 - 1) + 1;
    }
    answer.total_ns += elapsed_ns;
}

/// Larger single blocks than this are seldom; their faults may then count.
const PREFAULT_LIMIT_BYTES: u64 = 1 << 30;

/// Maps the arena that the floor rows hand out.
pub(super) fn prepare_floor(
    row: Linked,
    program: &ProgramView<'_>,
    pass: Pass,
    threads: Threads,
) -> Result<(), Ended> {
    let slack: u64 = (0..program.cold_count)
        .map(|index| program.cold(index))
        .filter(|cold| cold.kind == COLD_ALIGNED)
        .map(|cold| cold.operand)
        .sum();
    let bytes = match row {
        Linked::Bump => {
            let operations = program.words().len() as u64;
            floor::bump_arena_bytes(program.requested_bytes, operations, slack, threads)
        }
        _ => floor::null_arena_bytes(program.largest_bytes, threads),
    };
    // Written to, the arena becomes memory in use, and these rows must not take the machine down.
    let available = procfs::Meminfo::current()
        .ok()
        .and_then(|memory| memory.mem_available);
    if available.is_some_and(|available| bytes > available / 2) {
        let gib = bytes >> 30;
        return Err(Ended::Refused(format!(
            "it would need {gib} GiB, more than half of the memory available"
        )));
    }
    let largest = usize::try_from(program.largest_bytes).unwrap_or(usize::MAX);
    let mapped = usize::try_from(bytes).is_ok_and(|bytes| floor::prepare(bytes, largest, threads));
    let timed = matches!(pass, Pass::Speed | Pass::Latency);
    if mapped && timed && row == Linked::Null && bytes <= PREFAULT_LIMIT_BYTES {
        floor::prefault();
    }
    let reason = || {
        let gib = bytes >> 30;
        Ended::Refused(format!("the system has no room for an arena of {gib} GiB"))
    };
    if mapped { Ok(()) } else { Err(reason()) }
}

/// Memory of the harness's own: mapped, resident, all zero.
pub(super) struct HarnessMemory<T> {
    map: MmapMut,
    length: usize,
    marker: std::marker::PhantomData<T>,
}

pub(super) fn harness_memory<T>(length: usize) -> Result<HarnessMemory<T>, Ended> {
    let bytes = length.max(1) * size_of::<T>();
    let mut map =
        MmapMut::map_anon(bytes).map_err(|error| refused("map memory of its own", &error))?;
    // Written, so that it is resident before the replay and no part of what the subject is charged.
    map.iter_mut().step_by(4096).for_each(|byte| {
        // SAFETY: a valid byte; volatile, so that the write is not left out.
        unsafe { std::ptr::write_volatile(byte, 0) }
    });
    Ok(HarnessMemory {
        map,
        length,
        marker: std::marker::PhantomData,
    })
}

impl<T> HarnessMemory<T> {
    pub(super) fn as_mut_slice(&mut self) -> &mut [T] {
        // SAFETY: `harness_memory` mapped `length` elements of zeroes, aligned to an OS page; it is
        // used for plain numbers and pointers, for which zeroes are valid.
        unsafe { std::slice::from_raw_parts_mut(self.map.as_mut_ptr().cast(), self.length) }
    }
}

/// Which object serves `malloc`, which of the other functions are in the same one, and where those
/// are that are not.
fn write_receipt(functions: &Functions, answer: &mut Answer) {
    let Some(malloc) = object_of(functions.malloc as *const c_void) else {
        return;
    };
    answer.set_object_path(path_of(&malloc));
    answer.malloc_in_c_library = u32::from(malloc.dli_fbase == c_library_base());
    let own = object_of(write_receipt as *const c_void);
    answer.malloc_in_executable =
        u32::from(own.is_some_and(|own| own.dli_fbase == malloc.dli_fbase));
    for (index, address) in functions.addresses().into_iter().enumerate() {
        match object_of(address) {
            Some(object) if object.dli_fbase == malloc.dli_fbase => {
                answer.functions_in_object |= 1 << index;
            }
            Some(object) => {
                answer.add_other_object(FUNCTION_NAMES[index].to_bytes(), path_of(&object));
            }
            None => answer.add_other_object(FUNCTION_NAMES[index].to_bytes(), b"no object"),
        }
    }
}

/// The object that an address lies in.
fn object_of(address: *const c_void) -> Option<libc::Dl_info> {
    // SAFETY: a structure of pointers, for which zeroes are valid.
    let mut information: libc::Dl_info = unsafe { core::mem::zeroed() };
    // SAFETY: `information` has room for the answer; any address may be asked for.
    (unsafe { libc::dladdr(address, &raw mut information) } != 0).then_some(information)
}

fn path_of(object: &libc::Dl_info) -> &[u8] {
    if object.dli_fname.is_null() {
        return b"an object without a name";
    }
    // SAFETY: dladdr gives the linker's own terminated string, which lives as long as the object,
    // and no object is unloaded here.
    unsafe { CStr::from_ptr(object.dli_fname) }.to_bytes()
}

/// Where the C library is: it alone knows its version.
fn c_library_base() -> *mut c_void {
    #[cfg(target_env = "gnu")]
    let known = libc::gnu_get_libc_version as *const c_void;
    #[cfg(not(target_env = "gnu"))]
    let known = libc::getpid as *const c_void;
    object_of(known).map_or(core::ptr::null_mut(), |object| object.dli_fbase)
}
