//! C++ `new` and `delete`, in all forms. The standard library's call `malloc` and `free`, so here they
//! are recorded as such, with what the form tells: the alignment, the size of a sized delete. When
//! there is no memory, `new` of the standard library is called, which asks the program's handler and
//! throws.
//!
//! Where the program has its own (a pool in a shared object of its own), they are passed on to it
//! without a record: what it asks of `malloc` is recorded then.

use core::ffi::{CStr, c_char, c_int, c_void};
use core::sync::atomic::{AtomicPtr, AtomicU8, Ordering};

use super::arch::entry;
use super::calls::{free_in, record, record_free_sized, record_malloc};
use super::event::Event;
use super::gate;
use super::real::{self, real};
use super::state::State;
use super::system;
use super::wire::Kind;

type Block = *mut c_void;
type Function = AtomicPtr<c_void>;

const UNKNOWN: u8 = 0;
const STANDARD: u8 = 1;
const PROGRAMS_OWN: u8 = 2;
static WHOSE: AtomicU8 = AtomicU8::new(UNKNOWN);

/// Whose operators the program uses without the recorder.
fn whose() -> u8 {
    match WHOSE.load(Ordering::Relaxed) {
        UNKNOWN => {
            let whose = real::keeping_errno(find_whose);
            WHOSE.store(whose, Ordering::Relaxed);
            whose
        }
        known => known,
    }
}

fn find_whose() -> u8 {
    let next = real::next(c"_Znwm");
    if next.is_null() {
        return STANDARD;
    }
    let Some(object) = real::object_of(next) else {
        return PROGRAMS_OWN;
    };
    // SAFETY: the dynamic linker's copy of the object's path.
    let path = unsafe { CStr::from_ptr(object.dli_fname) }.to_bytes();
    let name = path.rsplit(|&byte| byte == b'/').next().unwrap_or(path);
    let standard: [&[u8]; 3] = [b"libstdc++.so", b"libc++.so", b"libc++abi.so"];
    // An allocator's own operators serve from the same heap as its malloc.
    let is_standard = path == real::allocator_path()
        || standard.iter().any(|standard| name.starts_with(standard));
    if is_standard { STANDARD } else { PROGRAMS_OWN }
}

/// The next object's function of this name. A C++ library that was loaded later, for a plug-in alone, is
/// found by its name.
fn next(cache: &Function, name: &CStr) -> *mut c_void {
    let known = cache.load(Ordering::Relaxed);
    if !known.is_null() {
        return known;
    }
    unsafe extern "C" {
        fn dlopen(path: *const c_char, flags: c_int) -> *mut c_void;
        fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
    }
    const RTLD_LAZY_NOLOAD: c_int = 1 | 4;
    let mut function = real::next(name);
    for library in [c"libstdc++.so.6", c"libc++.so.1"] {
        if function.is_null() {
            // SAFETY: names ended by NUL; nothing is loaded that is not there already.
            unsafe {
                let handle = dlopen(library.as_ptr(), RTLD_LAZY_NOLOAD);
                if !handle.is_null() {
                    function = dlsym(handle, name.as_ptr());
                }
            }
        }
    }
    if function.is_null() {
        unsafe extern "C" {
            fn abort() -> !;
        }
        system::error_line(&[
            b"mymalloc record: out of memory, and no C++ library has ",
            name.to_bytes(),
            b" to say so",
        ]);
        // SAFETY: ends the program, as there is nothing that it can be given.
        unsafe { abort() };
    }
    cache.store(function, Ordering::Relaxed);
    function
}

/// One form: its C name, the letter of its assembly entry's number of arguments, and what it does.
macro_rules! form {
    ($name:ident / $count:tt ($($argument:ident: $type:ty),*) $kind:ident $allocates:tt, $fast:ident, $slow:ident) => {
        entry! { $name / $count => $fast, $slow; }

        unsafe extern "C" fn $fast($($argument: $type,)* state: &State) -> Block {
            if WHOSE.load(Ordering::Relaxed) != STANDARD {
                // Found out, or passed on, outside any event.
                state.leave_fast();
                // SAFETY: the program's own call.
                return unsafe { $slow($($argument,)* 0) };
            }
            // SAFETY: the program's own call; the state is what the entry gave.
            unsafe { form!(@fast $kind $allocates $name ($($argument: $type),*) state) }
        }

        unsafe extern "C" fn $slow($($argument: $type,)* site: usize) -> Block {
            real::is_ready();
            if whose() == PROGRAMS_OWN {
                // SAFETY: the program's own call, passed on.
                return unsafe { form!(@next $name ($($argument: $type),*)) };
            }
            // SAFETY: the program's own call.
            unsafe { form!(@slow $kind $allocates $name ($($argument: $type),*) site) }
        }
    };
    (@next $name:ident ($($argument:ident: $type:ty),*)) => {{
        static NEXT: Function = AtomicPtr::new(core::ptr::null_mut());
        const NAME: &CStr = match CStr::from_bytes_with_nul(
            concat!(stringify!($name), "\0").as_bytes()
        ) {
            Ok(name) => name,
            Err(_) => c"",
        };
        type Signature = unsafe extern "C" fn($($type),*) -> Block;
        // SAFETY: the function of this name has this type.
        let function: Signature = core::mem::transmute(next(&NEXT, NAME));
        function($($argument),*)
    }};
    (@fast new ($size:ident) $name:ident $arguments:tt $state:ident) => {{
        // The standard library asks for a byte at least.
        let bytes = $size.max(1);
        let block = (real().malloc)(bytes);
        if block.is_null() {
            $state.leave_fast();
            return form!(@next $name $arguments);
        }
        record_malloc($state, bytes, block)
    }};
    (@slow new ($size:ident) $name:ident $arguments:tt $site:ident) => {{
        let bytes = $size.max(1);
        let call = gate::enter($site);
        let block = (real().malloc)(bytes);
        if let Some(call) = call {
            if !block.is_null() {
                call.record(&Event::malloc(bytes, block as usize));
            }
            call.leave();
        }
        if block.is_null() {
            return form!(@next $name $arguments);
        }
        block
    }};
    (@fast aligned ($size:ident, $alignment:ident) $name:ident $arguments:tt $state:ident) => {{
        let (alignment, bytes) = rounded($size, $alignment);
        let block = (real().aligned_alloc)(alignment, bytes);
        if block.is_null() {
            $state.leave_fast();
            return form!(@next $name $arguments);
        }
        record($state, &Event::aligned(Kind::AlignedAlloc, alignment, bytes, block as usize));
        $state.leave_fast();
        block
    }};
    (@slow aligned ($size:ident, $alignment:ident) $name:ident $arguments:tt $site:ident) => {{
        let (alignment, bytes) = rounded($size, $alignment);
        let call = gate::enter($site);
        let block = (real().aligned_alloc)(alignment, bytes);
        if let Some(call) = call {
            if !block.is_null() {
                let event = Event::aligned(Kind::AlignedAlloc, alignment, bytes, block as usize);
                call.record(&event);
            }
            call.leave();
        }
        if block.is_null() {
            return form!(@next $name $arguments);
        }
        block
    }};
    (@fast delete ($block:ident) $name:ident $arguments:tt $state:ident) => {{
        free_in($state, $block);
        core::ptr::null_mut()
    }};
    (@slow delete ($block:ident) $name:ident $arguments:tt $site:ident) => {{
        if let Some(call) = gate::enter($site) {
            call.record(&Event::free($block as usize));
            call.leave();
        }
        (real().free)($block);
        core::ptr::null_mut()
    }};
    (@fast delete_sized ($block:ident, $size:ident) $name:ident $arguments:tt $state:ident) => {{
        record_free_sized($state, $block, $size);
        (real().free)($block);
        core::ptr::null_mut()
    }};
    (@slow delete_sized ($block:ident, $size:ident) $name:ident $arguments:tt $site:ident) => {{
        if let Some(call) = gate::enter($site) {
            call.record(&Event::free_sized($block as usize, $size));
            call.leave();
        }
        (real().free)($block);
        core::ptr::null_mut()
    }};
}

/// What the standard library asks `aligned_alloc` for: a size that is a multiple of the alignment.
fn rounded(size: usize, alignment: usize) -> (usize, usize) {
    let alignment = alignment.max(size_of::<usize>());
    let bytes = size.max(1);
    if alignment.is_power_of_two() {
        // A size that cannot be rounded cannot be served either.
        (
            alignment,
            bytes.checked_next_multiple_of(alignment).unwrap_or(bytes),
        )
    } else {
        (alignment, bytes)
    }
}

type Any = *const c_void;

form!(_Znwm / 1 (size: usize) new (size), new_fast, new_slow);
form!(_Znam / 1 (size: usize) new (size), new_array_fast, new_array_slow);
form!(_ZnwmRKSt9nothrow_t / 2 (size: usize, tag: Any) new (size), new_nothrow_fast, new_nothrow_slow);
form!(_ZnamRKSt9nothrow_t / 2 (size: usize, tag: Any) new (size),
    new_array_nothrow_fast, new_array_nothrow_slow);
form!(_ZnwmSt11align_val_t / 2 (size: usize, alignment: usize) aligned (size, alignment),
    new_aligned_fast, new_aligned_slow);
form!(_ZnamSt11align_val_t / 2 (size: usize, alignment: usize) aligned (size, alignment),
    new_array_aligned_fast, new_array_aligned_slow);
form!(_ZnwmSt11align_val_tRKSt9nothrow_t / 3 (size: usize, alignment: usize, tag: Any)
    aligned (size, alignment), new_aligned_nothrow_fast, new_aligned_nothrow_slow);
form!(_ZnamSt11align_val_tRKSt9nothrow_t / 3 (size: usize, alignment: usize, tag: Any)
    aligned (size, alignment), new_array_aligned_nothrow_fast, new_array_aligned_nothrow_slow);

form!(_ZdlPv / 1 (block: Block) delete (block), delete_fast, delete_slow);
form!(_ZdaPv / 1 (block: Block) delete (block), delete_array_fast, delete_array_slow);
form!(_ZdlPvRKSt9nothrow_t / 2 (block: Block, tag: Any) delete (block),
    delete_nothrow_fast, delete_nothrow_slow);
form!(_ZdaPvRKSt9nothrow_t / 2 (block: Block, tag: Any) delete (block),
    delete_array_nothrow_fast, delete_array_nothrow_slow);
form!(_ZdlPvSt11align_val_t / 2 (block: Block, alignment: usize) delete (block),
    delete_aligned_fast, delete_aligned_slow);
form!(_ZdaPvSt11align_val_t / 2 (block: Block, alignment: usize) delete (block),
    delete_array_aligned_fast, delete_array_aligned_slow);
form!(_ZdlPvSt11align_val_tRKSt9nothrow_t / 3 (block: Block, alignment: usize, tag: Any)
    delete (block), delete_aligned_nothrow_fast, delete_aligned_nothrow_slow);
form!(_ZdaPvSt11align_val_tRKSt9nothrow_t / 3 (block: Block, alignment: usize, tag: Any)
    delete (block), delete_array_aligned_nothrow_fast, delete_array_aligned_nothrow_slow);
form!(_ZdlPvm / 2 (block: Block, size: usize) delete_sized (block, size),
    delete_sized_fast, delete_sized_slow);
form!(_ZdaPvm / 2 (block: Block, size: usize) delete_sized (block, size),
    delete_array_sized_fast, delete_array_sized_slow);
form!(_ZdlPvmSt11align_val_t / 3 (block: Block, size: usize, alignment: usize)
    delete_sized (block, size), delete_sized_aligned_fast, delete_sized_aligned_slow);
form!(_ZdaPvmSt11align_val_t / 3 (block: Block, size: usize, alignment: usize)
    delete_sized (block, size), delete_array_sized_aligned_fast, delete_array_sized_aligned_slow);
