//! Turns records into events: pointers become blocks, thread numbers become indices, and whatever
//! cannot have happened is refused. A refused record changes nothing.

use rustc_hash::FxHashMap;

use super::fault::Fault;
use super::sizes::{alignment_log2, calloc_sizes, sane};
use super::{Record, Request};
use crate::trace::stream::{Emitter, EventSink};
use crate::trace::{BlockId, Operation, ThreadIndex, plural};

/// What a pointer named last. Freed pointers stay, to tell a double free from an unknown pointer;
/// allocators hand the same addresses out again, so there are far fewer of them than events.
#[derive(Clone, Copy)]
struct Name {
    /// The block, or [`FREED`].
    block: u32,
    /// The line that allocated or freed it.
    line: u32,
}

/// Most events that a record makes: a realloc may show that two blocks went unseen.
const EVENTS_PER_RECORD: u64 = 3;

/// What a pointer names that is freed or reallocated.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Named {
    Null,
    /// A live block.
    Block(BlockId),
    /// A block whose allocation was not recorded.
    Unseen,
}

/// No block has this number: a trace holds fewer events.
const FREED: u32 = u32::MAX;

/// How lenient to be, and what the grammar means by an id it has not used before.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Rules {
    /// A slot never assigned means null (Mozilla's munger reserves no slot for it).
    pub(super) unknown_slot_is_null: bool,
    /// A realloc of an id never used allocates it (`.rep`).
    pub(super) unknown_realloc_allocates: bool,
    /// Lines with and without time stamps may be mixed. Events were handed on by then, so the first
    /// line decides: either the others get the stamp of the line before, or none is kept.
    pub(super) mixed_times: bool,
    /// The recording may have begun in mid-life: a pointer that was never allocated and is freed
    /// names a block from before ([`Operation::FreeUnseen`]).
    pub(super) unseen_frees: bool,
    /// The tool misses calls at any time. What `unseen_frees` says holds for pointers that were freed
    /// before, too; and an allocation that returns the address of a live block shows that this block
    /// was freed, which is made up for.
    pub(super) unseen_calls: bool,
    /// Every event has a call site.
    pub(super) sited: bool,
}

impl Rules {
    /// Those of a tool whose recordings may begin in mid-life, and are strict otherwise.
    pub(super) fn in_mid_life() -> Self {
        Self {
            unseen_frees: true,
            ..Self::default()
        }
    }
}

/// Collects the events of one file.
pub(super) struct Intake<'s> {
    pub(super) events: Emitter<'s>,
    pub(super) rules: Rules,
    /// Pointers taken as null because they were never assigned.
    unknown_slots: u64,
    /// Lines with and without time stamps were met.
    times_mixed: bool,
    /// Frees that nobody saw, made up because the address was allocated again.
    implied_frees: u64,
    names: FxHashMap<u64, Name>,
    threads: FxHashMap<u64, ThreadIndex>,
    threads_seen: u32,
    /// The thread of the last record: most records stay on it.
    last_thread: Option<(u64, ThreadIndex)>,
    /// Whether the first record had a time stamp.
    timed: Option<bool>,
    /// The last one.
    time_ns: u64,
    /// What each thread's begun `realloc` calls were given: a signal handler may begin one within one.
    reallocs: FxHashMap<u64, Vec<Begun>>,
    /// Times that recording paused so far.
    pauses: u32,
}

/// A `realloc` that has begun: the pointer, what it named, and the pauses before.
#[derive(Clone, Copy)]
struct Begun {
    pointer: u64,
    named: Named,
    pauses: u32,
}

/// Signal handlers within signal handlers: more than that are calls whose end was not seen.
const REALLOCS_NESTED: usize = 16;

impl<'s> Intake<'s> {
    pub(super) fn new(sink: &'s mut dyn EventSink, rules: Rules) -> Self {
        Self {
            events: Emitter::new(sink),
            rules,
            unknown_slots: 0,
            times_mixed: false,
            implied_frees: 0,
            names: FxHashMap::default(),
            threads: FxHashMap::default(),
            threads_seen: 0,
            last_thread: None,
            timed: None,
            time_ns: 0,
            reallocs: FxHashMap::default(),
            pauses: 0,
        }
    }

    /// Number of different pointers (ids, slots) that named a block.
    pub(super) fn pointer_count(&self) -> u64 {
        self.names.len() as u64
    }

    /// Whether a pointer names a live block.
    #[inline]
    pub(super) fn is_live(&self, pointer: u64) -> bool {
        matches!(self.names.get(&pointer), Some(name) if name.block != FREED)
    }

    /// Takes a record, or refuses it and changes nothing.
    #[inline]
    pub(super) fn take(&mut self, record: &Record, line: u64) -> Result<(), Fault> {
        if !self.events.has_room_for(EVENTS_PER_RECORD) {
            return Err(Fault::Full);
        }
        let timed = record.time_ns.is_some();
        let differs = self.timed.is_some_and(|before| before != timed);
        if differs && !self.rules.mixed_times {
            return Err(Fault::MixedTimes);
        }
        let line = u32::try_from(line).unwrap_or(u32::MAX);
        let thread_key = record.thread.or(record.process).unwrap_or(0);
        self.request(record.request, thread_key, line)?;
        self.times_mixed |= differs;
        if *self.timed.get_or_insert(timed) {
            self.time_ns = record.time_ns.unwrap_or(self.time_ns);
            self.events.stamp(self.time_ns);
        }
        if self.rules.sited {
            self.events.site(record.site);
        }
        Ok(())
    }

    /// What was read otherwise than it stands, in sentences.
    pub(super) fn tell(&self, warnings: &mut Vec<String>) {
        if self.unknown_slots > 0 {
            let uses = plural(self.unknown_slots, "use");
            warnings.push(format!(
                "slots used before they were assigned were taken as null ({uses})"
            ));
        }
        if self.times_mixed {
            let what = match self.timed {
                Some(true) => "the others were given that of the line before",
                _ => "none was kept",
            };
            warnings.push(format!("only some lines have time stamps: {what}"));
        }
        let unseen = self.events.counts().free_unseen;
        if unseen > 0 {
            let frees = plural(unseen, "free");
            warnings.push(format!(
                "{frees} of blocks whose allocation was not recorded: not replayed"
            ));
        }
        if self.implied_frees > 0 {
            let frees = plural(self.implied_frees, "free");
            warnings.push(format!(
                "{frees} made up: the address was allocated again, and no free had been recorded"
            ));
        }
    }

    #[inline]
    fn request(&mut self, request: Request, thread: u64, line: u32) -> Result<(), Fault> {
        match request {
            Request::Free { pointer, sized } => {
                let named = self.live(pointer, "free")?;
                let thread = self.thread(thread);
                let operation = match named {
                    Named::Block(block) => Operation::Free { block, sized },
                    Named::Unseen => Operation::FreeUnseen,
                    Named::Null => {
                        self.events.push(thread, Operation::FreeNull);
                        return Ok(());
                    }
                };
                self.release(pointer, line);
                self.events.push(thread, operation);
            }
            Request::ReallocBegin { old } => self.begin_realloc(old, thread, line)?,
            Request::ReallocEnd { size, result } => {
                return self.end_realloc(size, result, thread, line);
            }
            Request::ThreadStart => {
                let thread = self.thread(thread);
                self.events.push(thread, Operation::ThreadStart);
            }
            Request::Realloc { old, size, result } => {
                return self.realloc(old, size, result, thread, line);
            }
            Request::ThreadEnd => {
                let index = self.thread(thread);
                self.events.push(index, Operation::ThreadEnd);
                // The system gives the number to a new thread later, which is another thread.
                self.threads.remove(&thread);
                self.last_thread = None;
            }
            Request::Mark => {
                let thread = self.thread(thread);
                self.events.push(thread, Operation::Mark);
            }
            Request::Malloc { result: 0, .. }
            | Request::Calloc { result: 0, .. }
            | Request::Aligned { result: 0, .. } => {
                let thread = self.thread(thread);
                self.events.push(thread, Operation::FailedAllocation);
            }
            Request::Malloc { size, result } => {
                sane(size)?;
                let thread = self.vacate(result, thread)?;
                let block = self.events.new_block();
                self.events.push(thread, Operation::Malloc { block, size });
                self.names.insert(
                    result,
                    Name {
                        block: block.0,
                        line,
                    },
                );
            }
            Request::Calloc {
                count,
                size,
                result,
            } => {
                let (count, size) = calloc_sizes(count, size)?;
                let thread = self.vacate(result, thread)?;
                let block = self.events.new_block();
                self.events
                    .push(thread, Operation::Calloc { block, count, size });
                self.names.insert(
                    result,
                    Name {
                        block: block.0,
                        line,
                    },
                );
            }
            Request::Aligned {
                function,
                alignment,
                size,
                result,
            } => {
                sane(size)?;
                let alignment_log2 = alignment_log2(function, alignment)?;
                let thread = self.vacate(result, thread)?;
                let block = self.events.new_block();
                self.events.push(
                    thread,
                    Operation::Aligned {
                        block,
                        alignment_log2,
                        function,
                        size,
                    },
                );
                self.names.insert(
                    result,
                    Name {
                        block: block.0,
                        line,
                    },
                );
            }
        }
        Ok(())
    }

    /// `realloc(old, size) = result`. C leaves `realloc(p, 0)` open; what counts is what came back:
    ///
    /// | call | means |
    /// |---|---|
    /// | `realloc(p, 0) = NULL` | `free(p)` |
    /// | `realloc(p, n) = NULL`, n > 0 | it failed, `p` lives on |
    /// | `realloc(NULL, n) = NULL`, any n | it failed |
    /// | `realloc(p, n) = q`, any n | `p` is gone, `q` is new, be it the same address or not |
    fn realloc(
        &mut self,
        old: u64,
        size: u64,
        result: u64,
        thread: u64,
        line: u32,
    ) -> Result<(), Fault> {
        if self.rules.unknown_realloc_allocates && old != 0 && !self.names.contains_key(&old) {
            // An id is the block's name before and after, be its size 0.
            return self.realloc(0, size, old, thread, line);
        }
        let named = self.live(old, "realloc")?;
        if result != 0 {
            sane(size)?;
        }
        self.reallocated(named, Some(old), size, result, thread, line)
    }

    /// A `realloc` is about to be called: from here on its block's address may be given to others. The
    /// event stands where the call ends.
    fn begin_realloc(&mut self, pointer: u64, thread: u64, line: u32) -> Result<(), Fault> {
        let named = self.live(pointer, "realloc")?;
        if named != Named::Null {
            self.release(pointer, line);
        }
        let pauses = self.pauses;
        let begun = self.reallocs.entry(thread).or_default();
        let is_stale = |before: &Begun| before.pauses != pauses;
        let stale = match begun.last() {
            Some(before) if is_stale(before) || begun.len() == REALLOCS_NESTED => begun.pop(),
            _ => None,
        };
        begun.push(Begun {
            pointer,
            named,
            pauses,
        });
        if let Some(Begun {
            named: Named::Block(block),
            ..
        }) = stale
        {
            // The end of that one was not seen, and its block is gone.
            let thread = self.thread(thread);
            self.imply_free(block, thread);
        }
        Ok(())
    }

    /// Recording paused: the ends of calls that had begun may be missing.
    pub(super) fn pause(&mut self) {
        self.pauses = self.pauses.saturating_add(1);
    }

    /// The call returns: it belongs to the thread's last beginning.
    fn end_realloc(&mut self, size: u64, result: u64, thread: u64, line: u32) -> Result<(), Fault> {
        if result != 0 {
            sane(size)?;
        }
        let begun = self.reallocs.get_mut(&thread).and_then(Vec::pop);
        let begun = begun.unwrap_or(Begun {
            // Not seen: no allocator gives this address.
            pointer: u64::MAX,
            named: Named::Unseen,
            pauses: 0,
        });
        let is_failure = result == 0 && size != 0;
        if let Named::Block(BlockId(block)) = begun.named
            && is_failure
        {
            self.names.insert(begun.pointer, Name { block, line });
        }
        // Others may have the address by now.
        self.reallocated(begun.named, None, size, result, thread, line)
    }

    /// What a `realloc` has done. `old` is the pointer given, if that still names its block.
    fn reallocated(
        &mut self,
        named: Named,
        old: Option<u64>,
        size: u64,
        result: u64,
        thread: u64,
        line: u32,
    ) -> Result<(), Fault> {
        if result == 0 {
            let operation = match named {
                Named::Block(block) if size == 0 => Operation::Free {
                    block,
                    sized: false,
                },
                Named::Unseen if size == 0 => Operation::FreeUnseen,
                _ => Operation::FailedAllocation,
            };
            if size == 0
                && named != Named::Null
                && let Some(old) = old
            {
                self.release(old, line);
            }
            let thread = self.thread(thread);
            self.events.push(thread, operation);
            return Ok(());
        }
        let in_place = Some(result) == old && matches!(named, Named::Block(_));
        let thread = if in_place {
            self.thread(thread)
        } else {
            self.vacate(result, thread)?
        };
        if named != Named::Null
            && let Some(old) = old
        {
            self.release(old, line);
        }
        let old_block = match named {
            Named::Block(block) => Some(block),
            Named::Null => None,
            Named::Unseen => {
                self.events.push(thread, Operation::FreeUnseen);
                None
            }
        };
        let block = self.events.new_block();
        let operation = match named {
            Named::Unseen => Operation::Malloc { block, size },
            _ => Operation::Realloc {
                old: old_block,
                block,
                size,
            },
        };
        self.events.push(thread, operation);
        self.names.insert(
            result,
            Name {
                block: block.0,
                line,
            },
        );
        Ok(())
    }

    /// What a pointer that is freed or reallocated names.
    #[inline]
    fn live(&mut self, pointer: u64, call: &'static str) -> Result<Named, Fault> {
        if pointer == 0 {
            return Ok(Named::Null);
        }
        match self.names.get(&pointer) {
            Some(name) if name.block != FREED => Ok(Named::Block(BlockId(name.block))),
            Some(_) if self.rules.unseen_calls => Ok(Named::Unseen),
            Some(name) => Err(Fault::NotLive {
                call,
                pointer,
                freed_line: Some(name.line),
            }),
            None if self.rules.unseen_frees || self.rules.unseen_calls => Ok(Named::Unseen),
            None if self.rules.unknown_slot_is_null => {
                self.unknown_slots += 1;
                Ok(Named::Null)
            }
            None => Err(Fault::NotLive {
                call,
                pointer,
                freed_line: None,
            }),
        }
    }

    /// Sees to it that a pointer names no live block, and gives the index of the thread that got it.
    #[inline]
    fn vacate(&mut self, pointer: u64, thread: u64) -> Result<ThreadIndex, Fault> {
        match self.names.get(&pointer) {
            Some(&Name { block, line }) if block != FREED => {
                if !self.rules.unseen_calls {
                    return Err(Fault::StillLive {
                        pointer,
                        since_line: line,
                    });
                }
                let thread = self.thread(thread);
                self.imply_free(BlockId(block), thread);
                Ok(thread)
            }
            _ => Ok(self.thread(thread)),
        }
    }

    /// Frees a block whose free was not seen.
    fn imply_free(&mut self, block: BlockId, thread: ThreadIndex) {
        let sized = false;
        self.events.push(thread, Operation::Free { block, sized });
        self.implied_frees += 1;
    }

    /// The pointer names no live block from here on.
    #[inline]
    fn release(&mut self, pointer: u64, line: u32) {
        if self.rules.unseen_calls {
            // Nobody asks what it named before.
            self.names.remove(&pointer);
        } else {
            self.names.insert(pointer, Name { block: FREED, line });
        }
    }

    /// The index of a thread, in order of first appearance.
    #[inline]
    fn thread(&mut self, key: u64) -> ThreadIndex {
        if let Some((last, index)) = self.last_thread
            && last == key
        {
            return index;
        }
        let index = *self.threads.entry(key).or_insert_with(|| {
            self.threads_seen += 1;
            ThreadIndex(self.threads_seen - 1)
        });
        self.last_thread = Some((key, index));
        index
    }
}
