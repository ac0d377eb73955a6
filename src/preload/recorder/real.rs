//! The functions that are wrapped: those of the next object that defines them, which is the allocator
//! that the program uses without the recorder.

use core::ffi::{CStr, c_char, c_int, c_void};
use core::ptr;
use core::sync::atomic::{AtomicPtr, AtomicU8, AtomicU32, AtomicUsize, Ordering};

use super::{bootstrap, life, process, system};

type Size = usize;
type Block = *mut c_void;

/// The real functions.
#[derive(Clone, Copy)]
pub(crate) struct Real {
    pub(crate) malloc: unsafe extern "C" fn(Size) -> Block,
    pub(crate) free: unsafe extern "C" fn(Block),
    pub(crate) calloc: unsafe extern "C" fn(Size, Size) -> Block,
    pub(crate) realloc: unsafe extern "C" fn(Block, Size) -> Block,
    pub(crate) posix_memalign: unsafe extern "C" fn(*mut Block, Size, Size) -> c_int,
    pub(crate) memalign: unsafe extern "C" fn(Size, Size) -> Block,
    pub(crate) aligned_alloc: unsafe extern "C" fn(Size, Size) -> Block,
    pub(crate) valloc: unsafe extern "C" fn(Size) -> Block,
    pub(crate) pvalloc: unsafe extern "C" fn(Size) -> Block,
    pub(crate) malloc_usable_size: unsafe extern "C" fn(Block) -> Size,
}

unsafe extern "C" fn no_block(_: Size) -> Block {
    set_errno(system::ENOMEM);
    ptr::null_mut()
}

unsafe extern "C" fn no_block_of_two(_: Size, _: Size) -> Block {
    set_errno(system::ENOMEM);
    ptr::null_mut()
}

unsafe extern "C" fn no_realloc(_: Block, _: Size) -> Block {
    set_errno(system::ENOMEM);
    ptr::null_mut()
}

unsafe extern "C" fn no_posix_memalign(_: *mut Block, _: Size, _: Size) -> c_int {
    system::ENOMEM
}

unsafe extern "C" fn no_free(_: Block) {}

unsafe extern "C" fn no_usable_size(_: Block) -> Size {
    0
}

const NONE: Real = Real {
    malloc: no_block,
    free: no_free,
    calloc: no_block_of_two,
    realloc: no_realloc,
    posix_memalign: no_posix_memalign,
    memalign: no_block_of_two,
    aligned_alloc: no_block_of_two,
    valloc: no_block,
    pvalloc: no_block,
    malloc_usable_size: no_usable_size,
};

// Written once, by `look_up`, before `STAGE` says so; read afterwards. A plain static, so that the fast
// way calls through one memory operand.
pub(crate) static mut REAL: Real = NONE;
/// The same before [`guard_bootstrap`] put its own in their place.
static mut UNGUARDED: Real = NONE;

/// The real functions.
#[inline(always)]
#[allow(
    clippy::deref_addrof,
    reason = "a reference to a `static mut` is denied"
)]
pub(crate) fn real() -> &'static Real {
    // SAFETY: whoever calls has passed `is_ready`, or has a state, which is made after that: nobody
    // writes any more.
    unsafe { &*(&raw const REAL) }
}

const UNKNOWN: u8 = 0;
const BEING_LOOKED_UP: u8 = 1;
const KNOWN: u8 = 2;
static STAGE: AtomicU8 = AtomicU8::new(UNKNOWN);
static LOOKING_UP: AtomicU32 = AtomicU32::new(0);

/// Code of the allocator, if it is another object than the C library: calls of wrapped functions that
/// come from there are its own business. Where a function of the C library is interrupted by a signal,
/// a call from the C library is the handler's.
static CODE_BEGIN: AtomicUsize = AtomicUsize::new(0);
static CODE_END: AtomicUsize = AtomicUsize::new(0);
/// Path of the object that serves malloc.
static PATH: AtomicPtr<c_char> = AtomicPtr::new(ptr::null_mut());

/// Looks the functions up if nobody has yet. False: this very thread is doing so, further up, and must
/// be served by `bootstrap`.
#[inline]
pub(crate) fn is_ready() -> bool {
    STAGE.load(Ordering::Acquire) == KNOWN || make_ready()
}

#[cold]
fn make_ready() -> bool {
    let thread = system::thread_id();
    let first = STAGE.compare_exchange(
        UNKNOWN,
        BEING_LOOKED_UP,
        Ordering::Acquire,
        Ordering::Acquire,
    );
    if first.is_ok() {
        LOOKING_UP.store(thread, Ordering::Relaxed);
        keeping_errno(look_up);
        STAGE.store(KNOWN, Ordering::Release);
        return true;
    }
    if LOOKING_UP.load(Ordering::Relaxed) == thread {
        return STAGE.load(Ordering::Acquire) == KNOWN;
    }
    while STAGE.load(Ordering::Acquire) != KNOWN {
        system::yield_now();
    }
    true
}

#[allow(
    clippy::missing_transmute_annotations,
    reason = "the field has the type"
)]
fn look_up() {
    macro_rules! find {
        ($real:ident: $($name:ident),*) => {$(
            let function = next(match CStr::from_bytes_with_nul(
                concat!(stringify!($name), "\0").as_bytes()
            ) {
                Ok(name) => name,
                Err(_) => c"",
            });
            if !function.is_null() {
                // SAFETY: the object's function of this name has the C library's type.
                $real.$name = unsafe { core::mem::transmute(function) };
            }
        )*};
    }
    let mut found = NONE;
    find!(found: malloc, free, calloc, realloc, posix_memalign, memalign, aligned_alloc, valloc,
        pvalloc, malloc_usable_size);
    let malloc = found.malloc as *const c_void;
    let object = object_of(malloc);
    if let Some(object) = &object {
        PATH.store(object.dli_fname.cast_mut(), Ordering::Relaxed);
        let is_c_library = object_of(next(c"gnu_get_libc_version"))
            .is_none_or(|c_library| c_library.dli_fbase == object.dli_fbase);
        if !is_c_library {
            find_code(malloc as usize);
        }
    }
    process::make();
    life::prepare();
    // SAFETY: `STAGE` says that nobody else is here, and nobody reads before it says "known".
    unsafe {
        UNGUARDED = found;
        REAL = if bootstrap::is_used() {
            guard_bootstrap(found)
        } else {
            found
        };
    }
}

/// Whether a call from this address, in the middle of an event, is the allocator calling itself.
pub(crate) fn is_internal(site: usize) -> bool {
    let begin = CODE_BEGIN.load(Ordering::Relaxed);
    site.wrapping_sub(begin) < CODE_END.load(Ordering::Relaxed) - begin
}

/// Path of the object that serves malloc; empty if unknown.
pub(crate) fn allocator_path() -> &'static [u8] {
    let path = PATH.load(Ordering::Relaxed);
    if path.is_null() {
        return b"";
    }
    // SAFETY: the dynamic linker's own copy of the name; the object stays loaded, as it is bound to.
    unsafe { CStr::from_ptr(path) }.to_bytes()
}

/// Version of the C library.
pub(crate) fn c_library_version() -> &'static [u8] {
    unsafe extern "C" {
        fn gnu_get_libc_version() -> *const c_char;
    }
    // SAFETY: a static text.
    unsafe { CStr::from_ptr(gnu_get_libc_version()) }.to_bytes()
}

/// The same functions, but they know the blocks of `bootstrap`.
fn guard_bootstrap(real: Real) -> Real {
    unsafe extern "C" fn free(block: Block) {
        if !bootstrap::owns(block.cast()) {
            // SAFETY: the caller's block; `UNGUARDED` is not written any more.
            unsafe { (UNGUARDED.free)(block) }
        }
    }
    unsafe extern "C" fn realloc(block: Block, size: Size) -> Block {
        if !bootstrap::owns(block.cast()) {
            // SAFETY: as above.
            return unsafe { (UNGUARDED.realloc)(block, size) };
        }
        // SAFETY: as above.
        let new = unsafe { (UNGUARDED.malloc)(size) };
        if !new.is_null() {
            let bytes = bootstrap::size_of(block.cast()).min(size);
            // SAFETY: both blocks have so many bytes.
            unsafe { ptr::copy_nonoverlapping(block.cast::<u8>(), new.cast::<u8>(), bytes) };
        }
        new
    }
    unsafe extern "C" fn malloc_usable_size(block: Block) -> Size {
        if bootstrap::owns(block.cast()) {
            bootstrap::size_of(block.cast())
        } else {
            // SAFETY: as above.
            unsafe { (UNGUARDED.malloc_usable_size)(block) }
        }
    }
    Real {
        free,
        realloc,
        malloc_usable_size,
        ..real
    }
}

/// What `dladdr` tells.
#[repr(C)]
pub(crate) struct DlInfo {
    pub(crate) dli_fname: *const c_char,
    pub(crate) dli_fbase: *mut c_void,
    dli_sname: *const c_char,
    dli_saddr: *mut c_void,
}

#[link(name = "dl")]
#[link(name = "c")]
unsafe extern "C" {
    fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
    fn dladdr(address: *const c_void, info: *mut DlInfo) -> c_int;
    fn dl_iterate_phdr(
        callback: unsafe extern "C" fn(*mut PhdrInfo, usize, *mut c_void) -> c_int,
        data: *mut c_void,
    ) -> c_int;
    fn __errno_location() -> *mut c_int;
}

/// The function of this name in the objects after this one; null if there is none.
pub(crate) fn next(name: &CStr) -> *mut c_void {
    let rtld_next = -1_isize as *mut c_void;
    // SAFETY: a name ended by NUL.
    unsafe { dlsym(rtld_next, name.as_ptr()) }
}

/// A symbol that any object of the program defines; null if none does.
pub(crate) fn default(name: &CStr) -> *mut c_void {
    // SAFETY: as above; null is RTLD_DEFAULT.
    unsafe { dlsym(ptr::null_mut(), name.as_ptr()) }
}

/// The object that an address lies in.
pub(crate) fn object_of(address: *const c_void) -> Option<DlInfo> {
    let mut info = DlInfo {
        dli_fname: ptr::null(),
        dli_fbase: ptr::null_mut(),
        dli_sname: ptr::null(),
        dli_saddr: ptr::null_mut(),
    };
    // SAFETY: writes the struct.
    let found = unsafe { dladdr(address, &raw mut info) } != 0;
    (found && !info.dli_fname.is_null()).then_some(info)
}

#[repr(C)]
struct PhdrInfo {
    address: usize,
    name: *const c_char,
    headers: *const ProgramHeader,
    count: u16,
}

#[repr(C)]
struct ProgramHeader {
    kind: u32,
    flags: u32,
    offset: u64,
    address: u64,
    physical: u64,
    file_bytes: u64,
    memory_bytes: u64,
    alignment: u64,
}

/// Finds the segment of the object that the function lies in.
fn find_code(function: usize) {
    unsafe extern "C" fn look(info: *mut PhdrInfo, _: usize, data: *mut c_void) -> c_int {
        const LOADED: u32 = 1;
        // SAFETY: the dynamic linker's struct and its headers; `data` is the caller's variable.
        let (info, function) = unsafe { (&*info, *data.cast::<usize>()) };
        for index in 0..usize::from(info.count) {
            // SAFETY: as above.
            let header = unsafe { &*info.headers.add(index) };
            let begin = info.address.wrapping_add(header.address as usize);
            let bytes = header.memory_bytes as usize;
            if header.kind == LOADED && function.wrapping_sub(begin) < bytes {
                CODE_BEGIN.store(begin, Ordering::Relaxed);
                CODE_END.store(begin + bytes, Ordering::Relaxed);
                return 1;
            }
        }
        0
    }
    let mut function = function;
    // SAFETY: the callback gets the variable back.
    unsafe { dl_iterate_phdr(look, (&raw mut function).cast()) };
}

/// The thread's `errno`.
pub(crate) fn errno() -> c_int {
    // SAFETY: the C library returns the address of the calling thread's own.
    unsafe { *__errno_location() }
}

pub(crate) fn set_errno(value: c_int) {
    // SAFETY: as above.
    unsafe { *__errno_location() = value }
}

/// Puts `errno` back as it was before the action.
pub(crate) fn keeping_errno<T>(action: impl FnOnce() -> T) -> T {
    let before = errno();
    let result = action();
    set_errno(before);
    result
}
