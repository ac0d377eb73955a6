//! The loop: one thread, recorded order, every call through the table of function pointers.
//!
//! What happens around the calls (touching, checking, counting) is the [`Observer`]'s; with an empty
//! one nothing but the calls is left. The dispatch is `if free … else if malloc … else cold`: two
//! well-predicted branches, where a jump table would mispredict.

use core::ffi::c_void;
use core::ptr;

use super::program::{COLD_ALIGNED, COLD_CALLOC, COLD_REALLOC, ColdOperation, ProgramView, Word};
use super::slots::SlotTable;
use super::touched::ALL_PAGES;
use crate::subject::functions::Functions;

/// What an allocator did wrong.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Fault {
    /// Returned null for a request of at least one byte.
    Null = 1,
    /// Returned an address that does not have the alignment promised or asked for.
    Misaligned = 2,
    /// Returned memory that overlaps a live block.
    Overlap = 3,
    /// The content of a live block changed.
    ContentLost = 4,
    /// `calloc` returned memory that is not zero.
    NotZeroed = 5,
    /// `realloc` did not keep the content.
    ReallocLost = 6,
    /// `malloc_usable_size` told less than was asked for.
    UsableTooSmall = 7,
    /// `malloc_usable_size` told more than the block really has: the bytes are a live block's too.
    UsableOverlap = 8,
    /// The content of a live block changed in this operation.
    ContentChanged = 9,
    /// The content of a live block was found changed when all of them were compared after it.
    ContentFoundChanged = 10,
}

impl Fault {
    /// The fault of that number.
    pub fn from_number(number: u32) -> Option<Self> {
        Some(match number {
            1 => Self::Null,
            2 => Self::Misaligned,
            3 => Self::Overlap,
            4 => Self::ContentLost,
            5 => Self::NotZeroed,
            6 => Self::ReallocLost,
            7 => Self::UsableTooSmall,
            8 => Self::UsableOverlap,
            9 => Self::ContentChanged,
            10 => Self::ContentFoundChanged,
            _ => return None,
        })
    }

    /// What happened, as the end of a sentence that begins with the operation.
    pub fn text(self) -> &'static str {
        match self {
            Self::Null => "returned null",
            Self::Misaligned => "returned a misaligned address",
            Self::Overlap => "returned memory that overlaps a live block",
            Self::ContentLost => "was given a block whose content had changed since it was written",
            Self::NotZeroed => "returned memory that is not zero",
            Self::ReallocLost => "did not keep the content of the block",
            Self::UsableTooSmall => "returned a block whose usable size is less than asked for",
            Self::UsableOverlap => {
                "showed a usable size that is not true: bytes promised to one live block belong to \
                 another"
            }
            Self::ContentChanged => "changed the content of a live block that it was not given",
            Self::ContentFoundChanged => {
                "or one shortly before it changed the content of a live block"
            }
        }
    }
}

/// A block as the allocator returned it.
#[derive(Clone, Copy, Debug)]
pub struct Returned {
    /// Its address; not null unless `size` is 0.
    pub block: *mut c_void,
    /// Its slot.
    pub slot: usize,
    /// Requested bytes.
    pub size: usize,
    /// Alignment asked for, in bytes; 0 for the functions that promise the default.
    pub alignment: usize,
    /// Whether it must be zero.
    pub zeroed: bool,
    /// Pages of it that the recorded program touched; `u32::MAX`: all.
    pub touched_pages: u32,
}

/// What is done around the allocator's calls.
pub trait Observer {
    /// Before each operation, with its number.
    fn step(&mut self, _operation: usize) {}

    /// Right before the allocator's function is called, after `releasing` and `reallocating`.
    #[inline(always)]
    fn before_call(&mut self) {}

    /// Right after it has returned, before anything is done with the result.
    #[inline(always)]
    fn after_call(&mut self) {}

    /// Before a block is freed that has at least one byte, after `releasing`.
    ///
    /// # Safety
    /// `block` is null, or was returned for at least one byte and not given back.
    #[inline(always)]
    unsafe fn last_use(&mut self, _block: *mut c_void) {}

    /// After a successful allocation.
    ///
    /// # Safety
    /// `returned.block` is valid for `returned.size` bytes.
    unsafe fn allocated(&mut self, returned: &Returned) -> Result<(), Fault>;

    /// Before a block is freed; `block` may be null.
    ///
    /// # Safety
    /// `block` is what the last allocation into `slot` returned.
    unsafe fn releasing(&mut self, _slot: usize, _block: *mut c_void) -> Result<(), Fault> {
        Ok(())
    }

    /// After a successful reallocation of what was in `old_slot`; `old` may be null and must not be
    /// accessed.
    ///
    /// # Safety
    /// As for `allocated`.
    unsafe fn reallocated(
        &mut self,
        _old_slot: usize,
        _old: *mut c_void,
        returned: &Returned,
    ) -> Result<(), Fault> {
        // SAFETY: the caller's promise is the same.
        unsafe { self.allocated(returned) }
    }

    /// Before a reallocation.
    ///
    /// # Safety
    /// As for `releasing`.
    unsafe fn reallocating(&mut self, _slot: usize, _block: *mut c_void) -> Result<(), Fault> {
        Ok(())
    }
}

/// Where and how a replay ended early.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Failure {
    /// Number of the operation, from 0.
    pub operation: usize,
    /// What was wrong.
    pub fault: Fault,
}

/// Calls each function once, so that what an allocator does only at its first call is in nobody's
/// time: the C library and a preloaded object have been called by the program's start already, a
/// linked one has not.
pub fn warm_up(functions: &Functions) {
    let mut aligned = ptr::null_mut();
    // SAFETY: each block comes from these functions, is not accessed, and is released once.
    unsafe {
        let block = (functions.malloc)(64);
        let block = (functions.realloc)(block, 128);
        (functions.free)(block);
        (functions.free)((functions.calloc)(1, 64));
        if (functions.posix_memalign)(&raw mut aligned, 64, 64) == 0 {
            (functions.free)(aligned);
        }
    }
}

/// One replay's machinery.
#[derive(Debug)]
pub struct Replayer<'a> {
    program: ProgramView<'a>,
    /// One pointer per slot; slot 0 is null for ever.
    table: SlotTable<'a, *mut c_void>,
    functions: Functions,
}

impl<'a> Replayer<'a> {
    /// `table` must be all null and as long as the program has slots.
    ///
    /// # Safety
    /// `functions` are those of an allocator. The program was compiled from a trace, so that it
    /// releases each block once, after it was allocated. A replay that has failed is not followed by
    /// another call.
    pub unsafe fn new(
        program: ProgramView<'a>,
        table: &'a mut [*mut c_void],
        functions: Functions,
    ) -> Self {
        assert_eq!(table.len(), program.slots as usize, "one pointer per slot");
        assert!(
            table.iter().all(|pointer| pointer.is_null()),
            "an unused table"
        );
        Self {
            program,
            table: SlotTable::new(table),
            functions,
        }
    }

    /// One of several replayers that share a table: each performs the operations of one thread.
    ///
    /// # Safety
    /// As for [`Replayer::new`]; the table has as many entries as the program slots, and no two
    /// threads use the same slot at the same time.
    pub(super) unsafe fn sharing(
        program: ProgramView<'a>,
        table: SlotTable<'a, *mut c_void>,
        functions: Functions,
    ) -> Self {
        Self {
            program,
            table,
            functions,
        }
    }

    /// The program replayed.
    pub fn program(&self) -> &ProgramView<'a> {
        &self.program
    }

    /// Addresses of the table of pointers.
    pub fn table_range(&self) -> core::ops::Range<usize> {
        self.table.range()
    }

    /// The functions replayed against.
    pub fn functions(&self) -> &Functions {
        &self.functions
    }

    /// Performs every operation of the trace once and returns how many those were.
    #[inline(never)]
    pub fn replay<O: Observer>(&mut self, observer: &mut O) -> Result<usize, Failure> {
        // The number of an operation is counted back from what is left: the loop keeps one counter.
        let mut words = self.program.words();
        let operations = words.len();
        while let Some(word) = words.next() {
            observer.step(operations - words.len() - 1);
            // Each kind leaves by its own door: with one for all, the common ones would carry a
            // result that only the rare one has.
            let failed = if word.is_free() {
                match self.release(word, observer) {
                    Ok(()) => continue,
                    Err(fault) => fault,
                }
            } else if word.is_malloc() {
                match self.malloc(word, observer) {
                    Ok(()) => continue,
                    Err(fault) => fault,
                }
            } else {
                match self.perform_cold(word.operand(), observer) {
                    Ok(()) => continue,
                    Err(fault) => fault,
                }
            };
            let operation = operations - words.len() - 1;
            return Err(Failure {
                operation,
                fault: failed,
            });
        }
        Ok(operations - words.len())
    }

    /// Frees what the trace leaves live. Numbers go on from those of the operations.
    pub fn drain<O: Observer>(&mut self, observer: &mut O) -> Result<(), Failure> {
        self.drain_numbered(self.program.words().len(), observer)
    }

    /// The same with numbers from `start`.
    #[inline(never)]
    pub(super) fn drain_numbered<O: Observer>(
        &mut self,
        start: usize,
        observer: &mut O,
    ) -> Result<(), Failure> {
        for (operation, word) in self.program.drain().enumerate() {
            observer.step(start + operation);
            self.release(word, observer).map_err(|fault| Failure {
                operation: start + operation,
                fault,
            })?;
            // Draining twice then frees null.
            // SAFETY: slots are below the table's length (`ProgramView::new`).
            unsafe { self.table.set(word.slot(), ptr::null_mut()) };
        }
        Ok(())
    }

    #[inline(always)]
    pub(super) fn release<O: Observer>(
        &mut self,
        word: Word,
        observer: &mut O,
    ) -> Result<(), Fault> {
        let slot = word.slot();
        // SAFETY: `ProgramView::new` checked that every slot is below `slots`, the table's length.
        // The pointer is what the allocator returned for the block now freed, or null: whoever made
        // the replayer vouched that each block is released once.
        unsafe {
            let block = self.table.get(slot);
            observer.releasing(slot, block)?;
            if word.has_bytes() {
                observer.last_use(block);
            }
            observer.before_call();
            (self.functions.free)(block);
            observer.after_call();
        }
        Ok(())
    }

    #[inline(always)]
    pub(super) fn malloc<O: Observer>(
        &mut self,
        word: Word,
        observer: &mut O,
    ) -> Result<(), Fault> {
        let (slot, size) = (word.slot(), word.operand());
        // So that neither the test for null nor the touching asks again.
        // SAFETY: `ProgramView::new` checked that these words ask for at least one byte.
        unsafe { std::hint::assert_unchecked(size != 0) };
        observer.before_call();
        // SAFETY: malloc may be called with any size.
        let block = unsafe { (self.functions.malloc)(size) };
        observer.after_call();
        let returned = Returned {
            block,
            slot,
            size,
            alignment: 0,
            zeroed: false,
            touched_pages: ALL_PAGES,
        };
        self.keep(&returned, observer)
    }

    /// Stores a returned block, after the test for null.
    #[inline(always)]
    fn keep<O: Observer>(&mut self, returned: &Returned, observer: &mut O) -> Result<(), Fault> {
        if returned.block.is_null() {
            // Two tests, the common one first: a null pointer for no bytes is legal.
            std::hint::cold_path();
            if returned.size != 0 {
                return Err(Fault::Null);
            }
        }
        // SAFETY: slots are below the table's length (`ProgramView::new`). The allocator has just
        // returned the block for `size` bytes.
        unsafe {
            self.table.set(returned.slot, returned.block);
            observer.allocated(returned)
        }
    }

    /// `calloc` and `realloc` are common enough in some programs to be part of the loop; the others
    /// are not, and would cost it registers.
    #[inline(always)]
    pub(super) fn perform_cold<O: Observer>(
        &mut self,
        index: usize,
        observer: &mut O,
    ) -> Result<(), Fault> {
        let cold = self.program.cold(index);
        match cold.kind {
            COLD_CALLOC => {
                let (count, size) = (cold.operand as usize, cold.size as usize);
                observer.before_call();
                // SAFETY: calloc may be called with any numbers.
                let block = unsafe { (self.functions.calloc)(count, size) };
                observer.after_call();
                let returned = Returned {
                    block,
                    slot: cold.slot as usize,
                    size: count.saturating_mul(size),
                    alignment: 0,
                    zeroed: true,
                    touched_pages: cold.touched_pages,
                };
                self.keep(&returned, observer)
            }
            COLD_REALLOC => self.reallocate(&cold, observer),
            // By number: a reference would force all of `cold` into memory, for each operation.
            _ => self.perform_rare(index, observer),
        }
    }

    #[inline(never)]
    fn perform_rare<O: Observer>(&mut self, index: usize, observer: &mut O) -> Result<(), Fault> {
        let cold = self.program.cold(index);
        let (size, alignment) = (cold.size as usize, cold.operand as usize);
        let mut block = ptr::null_mut();
        observer.before_call();
        if cold.kind == COLD_ALIGNED {
            // SAFETY: `block` has room for the result; compiling made the alignment a power of two
            // of at least the size of a pointer.
            let error = unsafe { (self.functions.posix_memalign)(&raw mut block, alignment, size) };
            observer.after_call();
            if error != 0 {
                return Err(Fault::Null);
            }
        } else {
            // SAFETY: malloc may be called with any size.
            block = unsafe { (self.functions.malloc)(size) };
            observer.after_call();
        }
        let returned = Returned {
            block,
            slot: cold.slot as usize,
            size,
            // 0 for malloc.
            alignment,
            zeroed: false,
            touched_pages: cold.touched_pages,
        };
        self.keep(&returned, observer)
    }

    #[inline(always)]
    fn reallocate<O: Observer>(
        &mut self,
        cold: &ColdOperation,
        observer: &mut O,
    ) -> Result<(), Fault> {
        let (old_slot, slot, size) = (
            cold.old_slot as usize,
            cold.slot as usize,
            cold.size as usize,
        );
        // SAFETY: slots are below the table's length (`ProgramView::new`). `old` is the block now
        // reallocated, or null, as for free.
        let (old, block) = unsafe {
            let old = self.table.get(old_slot);
            observer.reallocating(old_slot, old)?;
            observer.before_call();
            (old, (self.functions.realloc)(old, size))
        };
        observer.after_call();
        if block.is_null() && size != 0 {
            return Err(Fault::Null);
        }
        let returned = Returned {
            block,
            slot,
            size,
            alignment: 0,
            zeroed: false,
            touched_pages: cold.touched_pages,
        };
        // SAFETY: as above for the table; the allocator has just returned the block for `size` bytes.
        unsafe {
            self.table.set(slot, block);
            observer.reallocated(old_slot, old, &returned)
        }
    }
}
