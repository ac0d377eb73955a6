//! The native text: logalloc with slot numbers, and lines of our own for what that cannot tell. It loses
//! nothing; converting a text to binary and back gives the same bytes.
//!
//! ```text
//! # mymalloc trace text 1                     the first line; 1 is the version
//! 1 THREAD CALL [ t=TIME_NS] [ s=SITE]        an event: CALL as in logalloc (pointers are #SLOT), or
//! 1 THREAD free_sized(#SLOT)                  free by a caller that told the size
//! 1 THREAD free_unseen()                      free of a block from before the recording
//! 1 THREAD thread_start()
//! 1 THREAD thread_end()
//! 1 THREAD valloc(ALIGNMENT,SIZE)=#SLOT       valloc, pvalloc where pages have other than 4096 bytes
//! # meta PIECE                                one JSON object, cut into pieces: notes, warnings, how it
//!                                             was recorded, the names of call sites
//! # end EVENTS                                the last line; a file without was cut off
//! ```
//! THREAD counts from 1 in the order of appearance and is never used for another thread. `#0` is null.
//! Other lines that begin with `#` are comments. Either all events have a time or none, and likewise
//! a call site.
//!
//! A replayer of plain logalloc does not know the lines of our own: for such a tool, convert to the
//! format `logalloc`.

mod line;

use rustc_hash::FxHashMap;

use self::line::{Call, Line, parse};
use super::ReadOptions;
use super::fault::show;
use super::scan::Scan;
use crate::error::{Error, Result};
use crate::trace::input::Lines;
use crate::trace::provenance::Provenance;
use crate::trace::stream::{Emitter, Ending, EventSink};
use crate::trace::{BlockId, Format, Operation, ThreadIndex, plural};

/// How the first line begins; the version follows.
pub(in crate::trace) const HEAD: &[u8] = b"# mymalloc trace text ";
/// Begins a piece of what is known of the trace.
pub(in crate::trace) const META: &[u8] = b"# meta ";
/// A piece is at most this long, so that its line is no longer than lines may be.
pub(in crate::trace) const META_PIECE_BYTES: usize = 2000;

/// More than a recording with a million named call sites has.
const META_BYTES_MAX: usize = 256 << 20;

/// Dropped lines that are shown.
const EXAMPLES: usize = 5;

const ADVICE: &str = "(--lenient drops such lines)";

/// Whether a file is of this format.
pub(super) fn recognises(head: &[u8]) -> bool {
    head.starts_with(HEAD)
}

/// Reads a file from its first line on.
pub(super) fn read(
    lines: &mut Lines,
    options: &ReadOptions,
    sink: &mut dyn EventSink,
) -> Result<Ending> {
    let path = lines.path().to_owned();
    let version = match lines.next()? {
        Some(line) if !line.overlong => line.text[HEAD.len()..].trim_ascii().to_owned(),
        _ => Vec::new(),
    };
    if version != b"1" {
        let message = format!(
            "version {} of the native text, expected 1",
            show(&version, false)
        );
        return Err(Error::line(path, 1, message));
    }
    let mut text = Text {
        events: Emitter::new(sink),
        slots: FxHashMap::default(),
        threads: FxHashMap::default(),
        timed: None,
        sited: None,
    };
    let mut about = About::default();
    let mut cut_off = None;
    loop {
        let line = match lines.next() {
            Ok(Some(line)) => line,
            Ok(None) => break,
            Err(error @ (Error::File { .. } | Error::Line { .. })) if options.lenient => {
                cut_off = Some(error);
                break;
            }
            Err(error) => return Err(error),
        };
        let number = line.number;
        let bytes = line.text.strip_suffix(b"\r").unwrap_or(line.text);
        if bytes.is_empty() || bytes.first() == Some(&b'#') && !line.overlong {
            about
                .comment(bytes)
                .map_err(|message| Error::line(&path, number, message))?;
            continue;
        }
        let taken = if line.overlong {
            Err("a line that ends".to_owned())
        } else {
            text.line(bytes)
        };
        let Err(message) = taken else {
            text.events.flush_full()?;
            continue;
        };
        let message = format!("{message}: {}", show(bytes, line.overlong));
        if text.events.is_full() || !options.lenient {
            return Err(Error::line(&path, number, format!("{message} {ADVICE}")));
        }
        about.drop_line(number, message);
    }
    if let Some(error) = lines.take_trailing() {
        if !options.lenient {
            return Err(error);
        }
        about.warnings.push(error.to_string());
    }
    if let Some(error) = cut_off {
        about.warnings.push(error.to_string());
    }
    about
        .judge(&text.events, options.lenient)
        .map_err(|message| Error::file(&path, message))?;
    text.events.flush()?;
    about.ending(lines, options)
}

/// What the lines say that are no events.
#[derive(Default)]
struct About {
    json: Vec<u8>,
    announced: Option<u64>,
    dropped_lines: u64,
    dropped_examples: Vec<String>,
    warnings: Vec<String>,
}

impl About {
    fn comment(&mut self, line: &[u8]) -> std::result::Result<(), String> {
        if let Some(piece) = line.strip_prefix(META) {
            if self.json.len() + piece.len() > META_BYTES_MAX {
                return Err(format!(
                    "more than {META_BYTES_MAX} bytes of \"# meta\" lines"
                ));
            }
            self.json.extend_from_slice(piece);
        } else if let Some(number) = line.strip_prefix(b"# end ") {
            let number = Scan::new(number).decimal("a number of events");
            self.announced = Some(number.map_err(|expected| format!("expected {expected}"))?);
        }
        Ok(())
    }

    fn drop_line(&mut self, number: u64, message: String) {
        self.dropped_lines += 1;
        if self.dropped_examples.len() < EXAMPLES {
            self.dropped_examples
                .push(format!("line {number}: {message}"));
        }
    }

    /// Whether the file is whole.
    fn judge(&mut self, events: &Emitter, lenient: bool) -> std::result::Result<(), String> {
        let found = events.counts().total() + self.dropped_lines;
        let message = match self.announced {
            Some(announced) if announced == found => None,
            Some(announced) => Some(format!(
                "its last line announces {}, it holds {found}: it was altered",
                plural(announced, "event")
            )),
            None => Some(format!(
                "the line \"# end\" is missing behind {}: the file was cut off",
                plural(found, "event")
            )),
        };
        if let Some(message) = message {
            if !lenient {
                return Err(format!("{message} (--lenient reads it all the same)"));
            }
            self.warnings.push(message);
        }
        if events.counts().operations() == 0 {
            return Err("the trace holds no allocator operation".to_owned());
        }
        Ok(())
    }

    fn ending(self, lines: &Lines, options: &ReadOptions) -> Result<Ending> {
        let path = lines.path();
        let mut warnings = self.warnings;
        let provenance = if self.json.is_empty() {
            Provenance::default()
        } else {
            match Provenance::parse(&self.json) {
                Ok(provenance) => provenance,
                Err(error) => {
                    let message = format!("the \"# meta\" lines are damaged: {error}");
                    if !options.lenient {
                        return Err(Error::file(path, message));
                    }
                    warnings.push(message);
                    Provenance::default()
                }
            }
        };
        let mut ending = provenance.into_ending(path, Format::Text);
        let origin = &mut ending.origin;
        // The file itself says how many it lost before, whatever number that is.
        origin.dropped_lines = origin.dropped_lines.saturating_add(self.dropped_lines);
        origin.dropped_examples.extend(self.dropped_examples);
        origin.dropped_examples.truncate(EXAMPLES);
        origin.warnings.extend(warnings);
        Ok(ending)
    }
}

/// Turns lines into events.
struct Text<'s> {
    events: Emitter<'s>,
    /// The live block that a slot names.
    slots: FxHashMap<u64, BlockId>,
    threads: FxHashMap<u64, ThreadIndex>,
    timed: Option<bool>,
    sited: Option<bool>,
}

impl Text<'_> {
    /// Takes one event, or says why not and changes nothing.
    fn line(&mut self, text: &[u8]) -> std::result::Result<(), String> {
        if self.events.is_full() {
            return Err("more events than a trace can hold (2^32 - 2)".to_owned());
        }
        let line =
            parse(text.trim_ascii_end()).map_err(|expected| format!("expected {expected}"))?;
        let (timed, sited) = (line.time_ns.is_some(), line.site.is_some());
        if self.timed.is_some_and(|before| before != timed) {
            return Err("expected a time on every line or on none".to_owned());
        }
        if self.sited.is_some_and(|before| before != sited) {
            return Err("expected a call site on every line or on none".to_owned());
        }
        self.request(&line)?;
        (self.timed, self.sited) = (Some(timed), Some(sited));
        if let Some(time_ns) = line.time_ns {
            self.events.stamp(time_ns);
        }
        if let Some(site) = line.site {
            self.events.site(site);
        }
        Ok(())
    }

    fn request(&mut self, line: &Line) -> std::result::Result<(), String> {
        let operation = match line.call {
            Call::Malloc { slot: 0, .. }
            | Call::Calloc { slot: 0, .. }
            | Call::Aligned { slot: 0, .. }
            | Call::Realloc { slot: 0, .. } => Operation::FailedAllocation,
            Call::Malloc { size, slot } => Operation::Malloc {
                block: self.allocate(slot)?,
                size,
            },
            Call::Calloc { count, size, slot } => Operation::Calloc {
                block: self.allocate(slot)?,
                count,
                size,
            },
            Call::Aligned {
                function,
                alignment_log2,
                size,
                slot,
            } => Operation::Aligned {
                block: self.allocate(slot)?,
                alignment_log2,
                function,
                size,
            },
            Call::Realloc { old: 0, size, slot } => Operation::Realloc {
                old: None,
                block: self.allocate(slot)?,
                size,
            },
            Call::Realloc { old, size, slot } => {
                let block = self.live(old)?;
                if slot != old {
                    self.vacant(slot)?;
                }
                self.slots.remove(&old);
                Operation::Realloc {
                    old: Some(block),
                    block: self.allocate(slot)?,
                    size,
                }
            }
            Call::Free { slot: 0, .. } => Operation::FreeNull,
            Call::Free { slot, sized } => {
                let block = self.live(slot)?;
                self.slots.remove(&slot);
                Operation::Free { block, sized }
            }
            Call::FreeUnseen => Operation::FreeUnseen,
            Call::ThreadStart => Operation::ThreadStart,
            Call::ThreadEnd => Operation::ThreadEnd,
            Call::Mark => Operation::Mark,
        };
        self.push(line, operation);
        Ok(())
    }

    fn push(&mut self, line: &Line, operation: Operation) {
        let next = ThreadIndex(u32::try_from(self.threads.len()).expect("fewer than events"));
        let thread = *self.threads.entry(line.thread).or_insert(next);
        self.events.push(thread, operation);
    }

    fn live(&self, slot: u64) -> std::result::Result<BlockId, String> {
        let block = self.slots.get(&slot).copied();
        block.ok_or_else(|| format!("#{slot} names no live block"))
    }

    fn vacant(&self, slot: u64) -> std::result::Result<(), String> {
        match self.slots.contains_key(&slot) {
            true => Err(format!("#{slot} is still live")),
            false => Ok(()),
        }
    }

    /// A new block, which the caller pushes.
    fn allocate(&mut self, slot: u64) -> std::result::Result<BlockId, String> {
        self.vacant(slot)?;
        let block = self.events.new_block();
        self.slots.insert(slot, block);
        Ok(block)
    }
}
