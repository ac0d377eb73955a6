//! The child: performs one request and answers. It allocates as little as it can before the replay,
//! because with a preloaded subject its own allocations are served by the subject too.

use core::ffi::{CStr, c_void};
use std::ffi::OsStr;
use std::fs::File;
use std::path::Path;

use memmap2::{Mmap, MmapMut};
use procfs::Current as _;

use super::answer::{Answer, AnswerFile, PASS_LIMIT, STATE_DONE, STATE_REPLAYING, STATE_WRONG};
use super::request::{ChildArguments, FIRST_ARGUMENT, Task};
use crate::measure::results::Pass;
use crate::replay::kernels::Kernel;
use crate::replay::memory::{self, SlotBytes};
use crate::replay::program::{COLD_ALIGNED, ProgramView};
use crate::replay::resident::ResidentReader;
use crate::replay::serial::{Failure, Replayer, warm_up};
use crate::replay::shadow::Shadow;
use crate::replay::speed;
use crate::replay::verify::{self, SlotPattern};
use crate::subject::floor;
use crate::subject::functions::Functions;
use crate::subject::linked::Linked;

/// Must be called first in every `main` that takes samples: does nothing in the parent; in a child
/// it performs the request and ends the process.
pub fn intercept() {
    let mut arguments = std::env::args_os();
    if arguments.nth(1).as_deref() != Some(OsStr::new(FIRST_ARGUMENT)) {
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
enum Ended {
    Wrong(Failure),
    Refused(String),
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        Self::Wrong(failure)
    }
}

fn refused(what: &str, error: &std::io::Error) -> Ended {
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
        Task::Program(path) => replay_program(arguments, path, linked, functions, answer),
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
        let reason = "a floor row serves one thread; kernels have several";
        return Err(Ended::Refused(reason.to_owned()));
    }
    match arguments.pass {
        Pass::Verify => {
            let reason = "kernels are not verified; verify their order on one thread";
            return Err(Ended::Refused(reason.to_owned()));
        }
        Pass::Speed => {
            answer.state = STATE_REPLAYING;
            warm_up(&functions);
            for pass in 0..arguments.passes.max(1) {
                let timed = kernel.run(&functions, arguments.touch)?;
                note_pass(answer, pass, timed.elapsed_ns);
                answer.operations = timed.operations;
            }
        }
        Pass::Memory => {
            let reader =
                ResidentReader::open().map_err(|error| refused("open /proc/self/statm", &error))?;
            answer.state = STATE_REPLAYING;
            answer.memory =
                kernel.record(&functions, arguments.touch, &mut answer.curve, &reader)?;
            answer.operations = answer.memory.operations;
        }
    }
    Ok(())
}

fn replay_program(
    arguments: &ChildArguments,
    path: &OsStr,
    linked: Option<Linked>,
    functions: Functions,
    answer: &mut Answer,
) -> Result<(), Ended> {
    let program_file = File::open(path).map_err(|error| refused("open its program", &error))?;
    // SAFETY: the parent wrote the file into its own temporary folder and changes it no more.
    let map =
        unsafe { Mmap::map(&program_file) }.map_err(|error| refused("map its program", &error))?;
    let program = ProgramView::new(&map)
        .ok_or_else(|| Ended::Refused("the compiled trace is damaged".to_owned()))?;
    if let Some(floor_row @ (Linked::Null | Linked::Bump)) = linked {
        prepare_floor(floor_row, &program, arguments.pass)?;
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
            let done = verify::verify(&mut replayer, slots.as_mut_slice(), shadow, &mut progress)?;
            answer.operations = done as u64;
        }
        Pass::Speed => {
            answer.state = STATE_REPLAYING;
            warm_up(&functions);
            for pass in 0..arguments.passes.max(1) {
                let timed = speed::timed_pass(&mut replayer, arguments.touch)?;
                note_pass(answer, pass, timed.elapsed_ns);
                answer.operations = timed.operations as u64;
            }
        }
        Pass::Memory => {
            let mut slots = harness_memory::<SlotBytes>(program.slots as usize)?;
            let reader =
                ResidentReader::open().map_err(|error| refused("open /proc/self/statm", &error))?;
            answer.state = STATE_REPLAYING;
            let start = reader.anonymous_bytes().unwrap_or(0);
            warm_up(&functions);
            answer.memory = memory::record(
                &mut replayer,
                arguments.touch,
                slots.as_mut_slice(),
                &mut answer.curve,
                &reader,
                start,
            )?;
            answer.operations = answer.memory.operations;
        }
    }
    Ok(())
}

fn note_pass(answer: &mut Answer, pass: u32, elapsed_ns: u64) {
    if let Some(slot) = answer.passes_ns.get_mut(pass as usize) {
        *slot = elapsed_ns;
        answer.passes = pass.min(PASS_LIMIT as u32 - 1) + 1;
    }
    answer.total_ns += elapsed_ns;
}

/// Larger single blocks than this are seldom; their faults may then count.
const PREFAULT_LIMIT_BYTES: u64 = 1 << 30;

/// Maps the arena that the floor rows hand out.
fn prepare_floor(row: Linked, program: &ProgramView<'_>, pass: Pass) -> Result<(), Ended> {
    let slack: u64 = (0..program.cold_count)
        .map(|index| program.cold(index))
        .filter(|cold| cold.kind == COLD_ALIGNED)
        .map(|cold| cold.operand)
        .sum();
    let bytes = match row {
        Linked::Bump => {
            floor::bump_arena_bytes(program.requested_bytes, program.words().len() as u64, slack)
        }
        _ => program.largest_bytes,
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
    let mapped = usize::try_from(bytes).is_ok_and(floor::prepare);
    let timed = pass == Pass::Speed;
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
struct HarnessMemory<T> {
    map: MmapMut,
    length: usize,
    marker: std::marker::PhantomData<T>,
}

fn harness_memory<T>(length: usize) -> Result<HarnessMemory<T>, Ended> {
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
    fn as_mut_slice(&mut self) -> &mut [T] {
        // SAFETY: `harness_memory` mapped `length` elements of zeroes, aligned to an OS page; it is
        // used for plain numbers and pointers, for which zeroes are valid.
        unsafe { std::slice::from_raw_parts_mut(self.map.as_mut_ptr().cast(), self.length) }
    }
}

/// Which object serves `malloc`, and which of the other functions are in the same one.
fn write_receipt(functions: &Functions, answer: &mut Answer) {
    let mut malloc_base = core::ptr::null_mut();
    for (index, address) in functions.addresses().into_iter().enumerate() {
        // SAFETY: a structure of pointers, for which zeroes are valid.
        let mut information: libc::Dl_info = unsafe { core::mem::zeroed() };
        // SAFETY: `information` has room for the answer; any address may be asked for.
        if unsafe { libc::dladdr(address, &raw mut information) } == 0 {
            continue;
        }
        if index == 0 {
            malloc_base = information.dli_fbase;
            if !information.dli_fname.is_null() {
                // SAFETY: dladdr gives the linker's own terminated string.
                let name = unsafe { CStr::from_ptr(information.dli_fname) };
                answer.set_object_path(name.to_bytes());
            }
        }
        if index == 0 {
            answer.malloc_in_c_library = u32::from(malloc_base == c_library_base());
        }
        if information.dli_fbase == malloc_base {
            answer.functions_in_object |= 1 << index;
        }
    }
}

/// Where the C library is: it alone knows its version.
fn c_library_base() -> *mut c_void {
    #[cfg(target_env = "gnu")]
    let known = libc::gnu_get_libc_version as *const c_void;
    #[cfg(not(target_env = "gnu"))]
    let known = libc::getpid as *const c_void;
    // SAFETY: a structure of pointers, for which zeroes are valid.
    let mut information: libc::Dl_info = unsafe { core::mem::zeroed() };
    // SAFETY: `information` has room for the answer; any address may be asked for.
    unsafe { libc::dladdr(known, &raw mut information) };
    information.dli_fbase
}
