//! The table of function pointers through which every subject is called, ours included.

use core::ffi::{CStr, c_int, c_void};

/// `malloc` and its family, as one subject serves them.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Functions {
    /// `malloc`
    pub malloc: unsafe extern "C" fn(usize) -> *mut c_void,
    /// `free`
    pub free: unsafe extern "C" fn(*mut c_void),
    /// `calloc`
    pub calloc: unsafe extern "C" fn(usize, usize) -> *mut c_void,
    /// `realloc`
    pub realloc: unsafe extern "C" fn(*mut c_void, usize) -> *mut c_void,
    /// `posix_memalign`; every aligned allocation of a trace is replayed through it
    pub posix_memalign: unsafe extern "C" fn(*mut *mut c_void, usize, usize) -> c_int,
    /// `aligned_alloc`
    pub aligned_alloc: unsafe extern "C" fn(usize, usize) -> *mut c_void,
    /// `malloc_usable_size`
    pub malloc_usable_size: unsafe extern "C" fn(*mut c_void) -> usize,
}

/// Names of the functions in a [`Functions`], in its order.
pub const FUNCTION_NAMES: [&CStr; 7] = [
    c"malloc",
    c"free",
    c"calloc",
    c"realloc",
    c"posix_memalign",
    c"aligned_alloc",
    c"malloc_usable_size",
];

/// Index of `realloc` among them.
pub const REALLOC_INDEX: usize = 3;

/// [`FUNCTION_NAMES`] as text.
pub fn function_names() -> [&'static str; 7] {
    FUNCTION_NAMES.map(|name| name.to_str().unwrap_or_default())
}

impl Functions {
    /// The addresses, in the order of [`FUNCTION_NAMES`].
    pub fn addresses(&self) -> [*const c_void; 7] {
        [
            self.malloc as *const c_void,
            self.free as *const c_void,
            self.calloc as *const c_void,
            self.realloc as *const c_void,
            self.posix_memalign as *const c_void,
            self.aligned_alloc as *const c_void,
            self.malloc_usable_size as *const c_void,
        ]
    }

    /// What the dynamic linker finds under the usual names: the C library's functions, or those of
    /// a preloaded object. The name of the first function that is missing is the error.
    pub fn resolved() -> Result<Self, &'static CStr> {
        let find = |name: &'static CStr| {
            // SAFETY: the name is a C string; RTLD_DEFAULT needs no handle.
            let address = unsafe { libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()) };
            if address.is_null() {
                Err(name)
            } else {
                Ok(address)
            }
        };
        // SAFETY: a symbol of one of these names is, by the C standard and POSIX, a function of the
        // signature transmuted to; an object that lies about it is caught as a crash of the child.
        unsafe {
            Ok(Self {
                malloc: std::mem::transmute::<
                    *mut c_void,
                    unsafe extern "C" fn(usize) -> *mut c_void,
                >(find(c"malloc")?),
                free: std::mem::transmute::<*mut c_void, unsafe extern "C" fn(*mut c_void)>(find(
                    c"free",
                )?),
                calloc: std::mem::transmute::<
                    *mut c_void,
                    unsafe extern "C" fn(usize, usize) -> *mut c_void,
                >(find(c"calloc")?),
                realloc: std::mem::transmute::<
                    *mut c_void,
                    unsafe extern "C" fn(*mut c_void, usize) -> *mut c_void,
                >(find(c"realloc")?),
                posix_memalign: std::mem::transmute::<
                    *mut c_void,
                    unsafe extern "C" fn(*mut *mut c_void, usize, usize) -> c_int,
                >(find(c"posix_memalign")?),
                aligned_alloc: std::mem::transmute::<
                    *mut c_void,
                    unsafe extern "C" fn(usize, usize) -> *mut c_void,
                >(find(c"aligned_alloc")?),
                malloc_usable_size: std::mem::transmute::<
                    *mut c_void,
                    unsafe extern "C" fn(*mut c_void) -> usize,
                >(find(c"malloc_usable_size")?),
            })
        }
    }
}
