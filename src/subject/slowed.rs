//! The C library's malloc, made slower by a known amount: the subject of the self-test.
//!
//! Only `realloc` is wrapped: it runs a busy loop of counted iterations first. `malloc` and `free` are
//! the C library's own, at their own addresses. A workload that calls `realloc` seldom is then slower by
//! the loop and nothing else. (glibc's `realloc` to the size that a block has takes the same few
//! instructions each time; its `calloc` does not use the thread's free lists, so that what it takes
//! depends on what lies free elsewhere.)
//!
//! Two loops of equally many instructions per iteration: one of instructions that do nothing, as many
//! in a cycle as the processor decodes, one of multiplications that wait for one another. Mixing them
//! gives a loop that takes as long per instruction as the workload itself does.

use core::ffi::c_void;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use super::functions::Functions;

/// Environment variable of the child: iterations of the fast and of the slow loop before each
/// `realloc`, as "FAST,SLOW". Unset or malformed: none.
pub const VARIABLE: &str = "MYMALLOC_SLOWED";

/// Instructions of one iteration of either loop.
pub const INSTRUCTIONS_PER_ITERATION: u64 = 8;

/// Iterations before each `realloc`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Iterations {
    /// Of the fast loop.
    pub fast: u64,
    /// Of the slow loop.
    pub slow: u64,
}

impl Iterations {
    /// As [`VARIABLE`] holds them.
    pub fn to_text(self) -> String {
        format!("{},{}", self.fast, self.slow)
    }

    /// The inverse of [`Iterations::to_text`].
    pub fn parse(text: &str) -> Option<Self> {
        let (fast, slow) = text.split_once(',')?;
        Some(Self {
            fast: fast.parse().ok()?,
            slow: slow.parse().ok()?,
        })
    }
}

static FAST: AtomicU64 = AtomicU64::new(0);
static SLOW: AtomicU64 = AtomicU64::new(0);
/// The C library's `realloc`, as an address.
static REALLOC: AtomicUsize = AtomicUsize::new(0);

/// The functions, slowed as [`VARIABLE`] says.
///
/// # Panics
/// If the C library lacks one of them.
pub fn functions() -> Functions {
    let text = std::env::var(VARIABLE).unwrap_or_default();
    let none = Iterations { fast: 0, slow: 0 };
    slowed(Iterations::parse(&text).unwrap_or(none))
}

/// The functions, slowed by so many iterations. One set at a time: the iterations are global.
///
/// # Panics
/// If the C library lacks one of them.
pub fn slowed(iterations: Iterations) -> Functions {
    let system = Functions::resolved().expect("the C library has them all");
    REALLOC.store(system.realloc as usize, Relaxed);
    FAST.store(iterations.fast, Relaxed);
    SLOW.store(iterations.slow, Relaxed);
    Functions {
        realloc: slowed_realloc,
        ..system
    }
}

unsafe extern "C" fn slowed_realloc(block: *mut c_void, size: usize) -> *mut c_void {
    fast_loop(FAST.load(Relaxed));
    slow_loop(SLOW.load(Relaxed));
    let realloc: unsafe extern "C" fn(*mut c_void, usize) -> *mut c_void =
        // SAFETY: `slowed` stored the address of the C library's `realloc` before it gave this function to
        // anyone.
        unsafe { std::mem::transmute(REALLOC.load(Relaxed)) };
    // SAFETY: the caller's promise is realloc's.
    unsafe { realloc(block, size) }
}

/// Six instructions that do nothing, a count and a jump, so many times. Additions instead are slower
/// per instruction than glibc's fast paths where a core has four units for them.
#[cfg(target_arch = "x86_64")]
#[inline(never)]
pub fn fast_loop(iterations: u64) {
    if iterations == 0 {
        return;
    }
    // SAFETY: counts in a register of its own.
    unsafe {
        core::arch::asm!(
            ".p2align 5",
            "2:",
            "nop",
            "nop",
            "nop",
            "nop",
            "nop",
            "nop",
            "dec {n}",
            "jnz 2b",
            n = inout(reg) iterations => _,
            options(nomem, nostack),
        );
    }
}

/// Six multiplications of which each waits for the one before, a count and a jump, so many times.
#[cfg(target_arch = "x86_64")]
#[inline(never)]
pub fn slow_loop(iterations: u64) {
    if iterations == 0 {
        return;
    }
    // SAFETY: arithmetic on registers of its own.
    unsafe {
        core::arch::asm!(
            ".p2align 5",
            "2:",
            "imul {a}, {a}",
            "imul {a}, {a}",
            "imul {a}, {a}",
            "imul {a}, {a}",
            "imul {a}, {a}",
            "imul {a}, {a}",
            "dec {n}",
            "jnz 2b",
            n = inout(reg) iterations => _,
            a = inout(reg) 3_u64 => _,
            options(nomem, nostack),
        );
    }
}

/// Elsewhere the loops are counted, their instructions are not.
#[cfg(not(target_arch = "x86_64"))]
pub fn fast_loop(iterations: u64) {
    (0..iterations).for_each(|number| {
        core::hint::black_box(number);
    });
}

/// See [`fast_loop`].
#[cfg(not(target_arch = "x86_64"))]
pub fn slow_loop(iterations: u64) {
    let multiply = |product: u64, _| core::hint::black_box(product.wrapping_mul(product));
    core::hint::black_box((0..6 * iterations).fold(3, multiply));
}

#[cfg(test)]
mod tests {
    use super::super::functions::REALLOC_INDEX;
    use super::*;

    #[test]
    fn iterations_travel_as_text() {
        let iterations = Iterations { fast: 12, slow: 3 };
        assert_eq!(Iterations::parse(&iterations.to_text()), Some(iterations));
        for text in ["", "1", "1,", "x,2", "1,2,3"] {
            assert_eq!(Iterations::parse(text), None, "{text}");
        }
    }

    #[test]
    fn only_realloc_is_not_the_c_librarys() {
        let system = Functions::resolved().expect("the C library").addresses();
        let own = slowed(Iterations { fast: 5, slow: 5 });
        let differs = (0..7).filter(|index| own.addresses()[*index] != system[*index]);
        assert_eq!(differs.collect::<Vec<_>>(), [REALLOC_INDEX]);
        // SAFETY: plain uses of malloc, realloc and free.
        unsafe {
            let block = (own.malloc)(8).cast::<u64>();
            *block = 7;
            let block = (own.realloc)(block.cast(), 80_000).cast::<u64>();
            assert_eq!(*block, 7);
            (own.free)(block.cast());
        }
    }
}
