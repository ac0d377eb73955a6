//! The C functions over the process's MyMalloc, as plain function values: nothing here is exported
//! under an unprefixed name, so a program can hold this allocator beside its own.
//!
//! Beyond the standard ones there are those by which programs of the GNU C library ask what its malloc
//! holds and have it give memory back. They answer for MyMalloc, in glibc's terms as far as it has them.

use core::ffi::{c_int, c_void};
use core::fmt::{self, Write};

use super::super::{c_abi, os};
use super::size_class::SIZES;
use super::stats::stats;
use super::{check, shelf, tick};

c_abi::c_malloc_functions!(crate::allocator::mymalloc::Process);

/// Prints statistics on standard error.
///
/// # Safety
/// None; C functions are unsafe to call.
pub unsafe extern "C" fn mymalloc_stats_print() {
    super::stats::print();
}

/// GNU's `malloc_stats`: the same.
///
/// # Safety
/// None; C functions are unsafe to call.
pub unsafe extern "C" fn malloc_stats() {
    super::stats::print();
}

/// GNU's `malloc_trim`: gives idle memory back to the system now. 1: some went back. `_pad` bytes of it might stay;
/// none do. What lies in the magazines of other threads stays: twice 16 KiB of each class that they use much, and of
/// a class that has more than 256 KiB an eighth of that among them all; of those beyond 16 KiB half a MiB each among
/// them all, a MiB if they are three at most, or 64 KiB in each if they are many, and a block.
///
/// # Safety
/// None; C functions are unsafe to call.
pub unsafe extern "C" fn malloc_trim(_pad: usize) -> c_int {
    c_int::from(tick::trim() > 0)
}

/// GNU's `mallopt`: its settings are of glibc's own design and change nothing here; options of this
/// allocator are environment variables. 1, as from glibc: no program fails for it.
///
/// # Safety
/// None; C functions are unsafe to call.
pub unsafe extern "C" fn mallopt(_parameter: c_int, _value: c_int) -> c_int {
    1
}

/// GNU's `struct mallinfo2`, in bytes where it does not count.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Mallinfo2 {
    /// Memory that small blocks are carved from, free or not.
    pub arena: usize,
    /// Free small blocks.
    pub ordblks: usize,
    /// 0.
    pub smblks: usize,
    /// Medium and large blocks in use.
    pub hblks: usize,
    /// Bytes of those.
    pub hblkhd: usize,
    /// 0.
    pub usmblks: usize,
    /// 0.
    pub fsmblks: usize,
    /// Bytes of small blocks in use.
    pub uordblks: usize,
    /// Bytes of free small blocks, carved or not.
    pub fordblks: usize,
    /// What `malloc_trim` could give back at most.
    pub keepcost: usize,
}

/// GNU's old `struct mallinfo`, the same in 32 bits; what is more does not fit and wraps, as in glibc.
#[derive(Clone, Copy, Debug, Default)]
#[repr(C)]
pub struct Mallinfo {
    /// The fields of [`Mallinfo2`], in its order.
    pub fields: [c_int; 10],
}

/// GNU's `mallinfo2`. Looks at every block, so it takes a while: some 10 ms per GiB of small ones.
///
/// # Safety
/// None; C functions are unsafe to call.
pub unsafe extern "C" fn mallinfo2() -> Mallinfo2 {
    let (census, stats) = (check::census(), stats());
    Mallinfo2 {
        arena: census.chunks_bytes,
        ordblks: census.small_free,
        hblks: census.large,
        hblkhd: census.large_bytes,
        uordblks: census.small_bytes,
        fordblks: census.chunks_bytes - census.small_bytes,
        keepcost: stats.idle_bytes,
        ..Mallinfo2::default()
    }
}

/// GNU's old `mallinfo`: [`mallinfo2`] in 32 bits.
///
/// # Safety
/// None; C functions are unsafe to call.
pub unsafe extern "C" fn mallinfo() -> Mallinfo {
    // SAFETY: no rules to keep.
    let wide = unsafe { mallinfo2() };
    let fields = [
        wide.arena,
        wide.ordblks,
        wide.smblks,
        wide.hblks,
        wide.hblkhd,
        wide.usmblks,
        wide.fsmblks,
        wide.uordblks,
        wide.fordblks,
        wide.keepcost,
    ];
    Mallinfo {
        fields: fields.map(|field| field as c_int),
    }
}

/// GNU's `malloc_info`: what the allocator holds, as XML. `options` is 0. The result is 0, or -1 with
/// `errno` if it is not, or the stream takes no more.
///
/// # Safety
/// `stream` is an open `FILE`.
pub unsafe extern "C" fn malloc_info(options: c_int, stream: *mut c_void) -> c_int {
    if options != 0 {
        os::set_errno(os::EINVAL);
        return -1;
    }
    match write_info(&mut Stream(stream)) {
        Ok(()) => 0,
        // `errno` is the stream's.
        Err(fmt::Error) => -1,
    }
}

/// A `FILE` of the caller's of [`malloc_info`].
struct Stream(*mut c_void);

impl Write for Stream {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // SAFETY: `malloc_info`'s caller gave an open stream.
        if unsafe { os::write_stream(self.0, text) } {
            Ok(())
        } else {
            Err(fmt::Error)
        }
    }
}

fn write_info(out: &mut impl Write) -> fmt::Result {
    let (census, stats) = (check::census(), stats());
    writeln!(out, "<malloc version=\"mymalloc-1\">\n<sizes>")?;
    for (class, size) in SIZES.iter().enumerate().skip(1) {
        let (slices, _) = shelf::slices(class);
        if slices > 0 {
            writeln!(out, "  <size bytes=\"{size}\" slices=\"{slices}\"/>")?;
        }
    }
    writeln!(out, "</sizes>")?;
    for (name, count, bytes) in [
        ("small", census.small, census.small_bytes),
        ("large", census.large, census.large_bytes),
    ] {
        writeln!(
            out,
            "<used type=\"{name}\" count=\"{count}\" size=\"{bytes}\"/>"
        )?;
    }
    for (name, bytes) in [
        ("idle", stats.idle_bytes),
        ("records", stats.metadata_bytes),
        ("mmap", stats.mapped_bytes),
    ] {
        writeln!(out, "<system type=\"{name}\" size=\"{bytes}\"/>")?;
    }
    writeln!(out, "</malloc>")
}
