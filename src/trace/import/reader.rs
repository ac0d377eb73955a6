//! The loop over a file's lines: tells the grammar, keeps one process, and decides what a bad line
//! means: the end (strict) or one more on the count (lenient).

use std::collections::BTreeMap;
use std::path::Path;

use super::fault::{Fault, show};
use super::intake::{Intake, Rules};
use super::scan::Parse;
use super::{Pointers, ReadOptions, Record, android, bytes, logalloc, rep};
use crate::error::{Error, Result};
use crate::trace::input::{self, Lines, Opening};
use crate::trace::stream::{Ending, EventSink};
use crate::trace::{Format, Origin, plural};

/// Strict reading looks this far for the first line of a known grammar.
const DETECTION_LINES: u64 = 1000;

/// How far on an error looks for the line that allocates the pointer it is about.
const LOOKAHEAD_LINES: u64 = 4_000_000;

/// The same for a pointer that was live before: a later line may well use the address afresh.
const LOOKAHEAD_LINES_FREED: u64 = 1000;

/// Dropped lines that are shown.
const EXAMPLES: usize = 5;

/// Processes named in a message.
const PROCESSES_NAMED: usize = 8;

/// The same for a slot that no line has assigned.
const ADVICE_SLOT: &str = "(--lenient takes such slots as null)";

/// Behind every error that `--lenient` would turn into a dropped line.
const ADVICE: &str = "(--lenient drops such lines)";

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Grammar {
    Logalloc,
    Android,
    Rep,
}

impl Grammar {
    /// The grammar a line belongs to, right or wrong. A lone number can only begin a file.
    fn of(text: &[u8], first: bool) -> Option<Self> {
        if android::recognises(text) {
            return Some(Self::Android);
        }
        if logalloc::recognises(text) {
            return Some(Self::Logalloc);
        }
        let rep = rep::recognises(text) && (first || !text[0].is_ascii_digit());
        rep.then_some(Self::Rep)
    }

    fn name_and_example(self) -> (&'static str, &'static str) {
        match self {
            Self::Logalloc => ("logalloc", logalloc::EXAMPLE),
            Self::Android => ("Android memory_replay", android::EXAMPLE),
            Self::Rep => (".rep", rep::EXAMPLE),
        }
    }

    #[inline]
    fn parse(self, text: &[u8]) -> Parse<Record> {
        match self {
            Self::Logalloc => logalloc::parse(text),
            Self::Android => android::parse(text),
            Self::Rep => rep::parse(text),
        }
    }

    fn format(self, pointers: Pointers) -> Format {
        match self {
            Self::Logalloc if pointers.addresses => Format::LogallocRaw,
            Self::Logalloc => Format::LogallocMunged,
            Self::Android => Format::Android,
            Self::Rep => Format::Rep,
        }
    }

    fn note(self) -> Option<&'static str> {
        match self {
            Self::Logalloc => None,
            Self::Android => Some(
                "this grammar writes memalign for every function that allocates with an alignment",
            ),
            Self::Rep => Some("this grammar has no threads, no alignments and no calloc"),
        }
    }
}

/// Reads a trace into `sink`; see [`super::read_into`].
pub(super) fn read_into(
    path: &Path,
    options: &ReadOptions,
    sink: &mut dyn EventSink,
) -> Result<Ending> {
    let opening = Opening {
        path,
        progress: options.progress,
        interrupted: options.interrupted,
    };
    let (mut ending, stored) = input::with_lines(opening, |lines| {
        if let Some(format) = bytes::of(lines.peek(bytes::HEAD_BYTES)?) {
            if options.process.is_some() {
                let message = "--process: this format has no process numbers";
                return Err(Error::usage(message));
            }
            return (format.read)(lines, options, sink);
        }
        let mut dropped = Dropped::default();
        let grammar = detect(lines, options, &mut dropped)?;
        let origin = Reader::new(path, options, grammar, dropped, sink).run(lines)?;
        Ok(Ending {
            origin,
            site_names: Vec::new(),
        })
    })?;
    ending.origin.compression = stored.compression;
    ending.origin.sha256 = stored.sha256;
    Ok(ending)
}

/// Lines that were not used.
#[derive(Default)]
struct Dropped {
    lines: u64,
    examples: Vec<String>,
}

impl Dropped {
    fn add(&mut self, line: u64, explain: impl FnOnce() -> String) {
        self.lines += 1;
        if self.examples.len() < EXAMPLES {
            self.examples.push(format!("line {line}: {}", explain()));
        }
    }
}

/// The text of a line as the grammars see it: without trailing blanks, carriage return, and the
/// byte order mark that some editors write first.
#[inline]
fn trimmed(text: &[u8], number: u64) -> &[u8] {
    let text = if number == 1 {
        text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text)
    } else {
        text
    };
    text.trim_ascii_end()
}

/// Finds the grammar by the first line that belongs to one, and leaves that line to be read.
fn detect(lines: &mut Lines, options: &ReadOptions, dropped: &mut Dropped) -> Result<Grammar> {
    let mut first_bad = None;
    let mut found = None;
    while let Some(line) = lines.next()? {
        let text = trimmed(line.text, line.number);
        if text.is_empty() {
            continue;
        }
        if !line.overlong
            && let Some(grammar) = Grammar::of(text, first_bad.is_none())
        {
            found = Some(grammar);
            break;
        }
        let fault = if line.overlong {
            Fault::Overlong
        } else {
            Fault::Unknown
        };
        let explain = || fault.explain(&show(text, line.overlong), |_| String::new());
        first_bad.get_or_insert_with(|| (line.number, explain()));
        if options.lenient {
            dropped.add(line.number, explain);
        } else if line.number >= DETECTION_LINES {
            break;
        }
    }
    let path = lines.path();
    match (found, first_bad) {
        (Some(grammar), Some((number, explanation))) if !options.lenient => {
            let (name, example) = grammar.name_and_example();
            let message = format!("{explanation}, expected {name}, such as \"{example}\" {ADVICE}");
            Err(Error::line(path, number, message))
        }
        (Some(grammar), _) => {
            lines.unread();
            Ok(grammar)
        }
        (None, Some((number, explanation))) => {
            let known = [Grammar::Logalloc, Grammar::Android, Grammar::Rep]
                .map(|grammar| grammar.name_and_example())
                .map(|(name, example)| format!("{name} (\"{example}\")"))
                .join(", ");
            let message = format!("not a trace: {explanation}; known are {known} under its header");
            Err(Error::line(path, number, message))
        }
        (None, None) if lines.number() == 0 => Err(Error::file(path, "the file is empty")),
        (None, None) => Err(Error::file(path, "the file holds blank lines only")),
    }
}

struct Reader<'o> {
    options: &'o ReadOptions,
    grammar: Grammar,
    origin: Origin,
    intake: Intake<'o>,
    header: rep::Header,
    operations: u64,
    pointers: Pointers,
    /// The process whose lines are kept.
    process: Option<u64>,
    /// Other processes, and how many lines they have.
    others: BTreeMap<u64, u64>,
    threadless: bool,
    dropped: Dropped,
}

impl<'o> Reader<'o> {
    fn new(
        path: &Path,
        options: &'o ReadOptions,
        grammar: Grammar,
        dropped: Dropped,
        sink: &'o mut dyn EventSink,
    ) -> Self {
        let origin = Origin {
            source: path.display().to_string(),
            format: grammar.format(Pointers::default()),
            compression: Vec::new(),
            sha256: String::new(),
            dropped_lines: 0,
            dropped_examples: Vec::new(),
            notes: Vec::new(),
            warnings: Vec::new(),
            recording: None,
        };
        let rules = Rules {
            unknown_slot_is_null: false,
            unknown_realloc_allocates: grammar == Grammar::Rep,
            mixed_times: options.lenient,
        };
        Self {
            options,
            grammar,
            origin,
            intake: Intake::new(sink, rules),
            header: rep::Header::default(),
            operations: 0,
            pointers: Pointers::default(),
            process: options.process,
            others: BTreeMap::new(),
            threadless: false,
            dropped,
        }
    }

    fn run(mut self, lines: &mut Lines) -> Result<Origin> {
        if self.options.process.is_some() && self.grammar != Grammar::Logalloc {
            let (name, _) = self.grammar.name_and_example();
            let message = format!("--process: {name} traces have no process numbers");
            return Err(Error::usage(message));
        }
        loop {
            let line = match lines.next() {
                Ok(Some(line)) => line,
                Ok(None) => break,
                // A recording that was cut off is worth what it holds.
                Err(error @ (Error::File { .. } | Error::Line { .. }))
                    if self.options.lenient && self.intake.events.counts().total() > 0 =>
                {
                    self.warn(without_path(error));
                    break;
                }
                Err(error) => return Err(error),
            };
            let number = line.number;
            let text = trimmed(line.text, number);
            if text.is_empty() {
                continue;
            }
            let taken = if line.overlong {
                Err(Fault::Overlong)
            } else {
                self.take(text, number)
            };
            let Err(fault) = taken else {
                self.intake.events.flush_full()?;
                continue;
            };
            if self.options.lenient && fault != Fault::Full {
                self.drop_line(fault, number, text, line.overlong);
                continue;
            }
            let explanation =
                fault.explain(&show(text, line.overlong), |pointer| self.name(pointer));
            return Err(self.refusal(fault, explanation, number, lines));
        }
        self.finish(lines)
    }

    /// Takes one line, or says why not.
    #[inline]
    fn take(&mut self, text: &[u8], number: u64) -> std::result::Result<(), Fault> {
        if self.grammar == Grammar::Rep && self.header.takes(text).map_err(Fault::Syntax)? {
            return Ok(());
        }
        let record = self.grammar.parse(text).map_err(Fault::Syntax)?;
        if self.process != record.process {
            match self.process {
                None => self.process = record.process,
                Some(_) => return self.other_process(record.process.unwrap_or(0)),
            }
        }
        let pointers = self.pointers.with(record.pointers);
        if pointers != self.pointers {
            if pointers.addresses && pointers.slots {
                return Err(Fault::Syntax(
                    "pointers to be all addresses (0x…) or all slots (#…)",
                ));
            }
            self.pointers = pointers;
            self.intake.rules.unknown_slot_is_null = self.options.lenient && pointers.slots;
        }
        self.operations += 1;
        self.threadless |= record.thread.is_none();
        self.intake.take(&record, number)
    }

    /// A line of a process that is not kept.
    fn other_process(&mut self, process: u64) -> std::result::Result<(), Fault> {
        if self.others.len() < PROCESSES_NAMED || self.others.contains_key(&process) {
            *self.others.entry(process).or_default() += 1;
        }
        if self.options.process.is_some() {
            Ok(())
        } else {
            Err(Fault::OtherProcess(process))
        }
    }

    fn drop_line(&mut self, fault: Fault, number: u64, text: &[u8], overlong: bool) {
        let (pointers, grammar) = (self.pointers, self.grammar);
        self.dropped.add(number, || {
            fault.explain(&show(text, overlong), |pointer| {
                name(pointer, pointers, grammar)
            })
        });
    }

    /// A pointer as the file writes it.
    fn name(&self, pointer: u64) -> String {
        name(pointer, self.pointers, self.grammar)
    }

    /// The error for a bad line. Looks on in the file for what helps to understand it.
    fn refusal(
        &mut self,
        fault: Fault,
        explanation: String,
        number: u64,
        lines: &mut Lines,
    ) -> Error {
        let message = match fault {
            Fault::NotLive {
                pointer,
                freed_line,
                ..
            } => {
                let unassigned = self.pointers.slots && freed_line.is_none();
                let advice = if unassigned { ADVICE_SLOT } else { ADVICE };
                let explanation = if unassigned {
                    explanation.replace("not allocated before", "not assigned before this line")
                } else {
                    explanation
                };
                let within = match freed_line {
                    Some(_) => LOOKAHEAD_LINES_FREED,
                    None => LOOKAHEAD_LINES,
                };
                match self.allocation_after(lines, pointer, within) {
                    Some((later, Some(thread))) => format!(
                        "{explanation}; thread {thread} allocates it later, on line {later}: the \
                         lines are out of order {advice}"
                    ),
                    Some((later, None)) => format!(
                        "{explanation}; it is allocated later, on line {later}: the lines are out \
                         of order {advice}"
                    ),
                    None => format!("{explanation} {advice}"),
                }
            }
            Fault::OtherProcess(_) => {
                self.count_processes(lines);
                let named = self.processes_named(self.process);
                format!("the log holds several processes ({named}): choose one with --process PID")
            }
            Fault::Full => explanation,
            _ => format!("{explanation} {ADVICE}"),
        };
        Error::line(lines.path(), number, message)
    }

    /// The line and thread of the next allocation that returns `pointer`.
    fn allocation_after(
        &self,
        lines: &mut Lines,
        pointer: u64,
        within: u64,
    ) -> Option<(u64, Option<u64>)> {
        let last = lines.number().saturating_add(within);
        while let Ok(Some(line)) = lines.next() {
            if line.number > last {
                break;
            }
            let text = trimmed(line.text, line.number);
            let Ok(record) = self.grammar.parse(text) else {
                continue;
            };
            if record.process == self.process && record.request.result() == Some(pointer) {
                return Some((line.number, record.thread));
            }
        }
        None
    }

    fn count_processes(&mut self, lines: &mut Lines) {
        let last = lines.number().saturating_add(LOOKAHEAD_LINES);
        while let Ok(Some(line)) = lines.next() {
            if line.number > last || self.others.len() == PROCESSES_NAMED {
                break;
            }
            let record = self.grammar.parse(trimmed(line.text, line.number)).ok();
            let process = record.and_then(|record| record.process);
            if let Some(process) = process.filter(|_| process != self.process) {
                *self.others.entry(process).or_default() += 1;
            }
        }
    }

    fn processes_named(&self, first: Option<u64>) -> String {
        let mut names: Vec<String> = first
            .iter()
            .chain(self.others.keys())
            .map(u64::to_string)
            .collect();
        if self.others.len() == PROCESSES_NAMED {
            names.push("...".to_owned());
        }
        names.join(", ")
    }

    /// What can be judged only at the end.
    fn finish(mut self, lines: &mut Lines) -> Result<Origin> {
        match lines.take_trailing() {
            Some(error) if !self.options.lenient => return Err(error),
            Some(error) => self.warn(without_path(error)),
            None => {}
        }
        let path = lines.path();
        if self.intake.events.counts().operations() == 0 {
            return Err(Error::file(path, self.nothing_left()));
        }
        if let Some(message) = self.broken_promise() {
            if !self.options.lenient {
                return Err(Error::file(
                    path,
                    format!("{message} (--lenient reads it all the same)"),
                ));
            }
            self.warn(message);
        }
        if self.intake.unknown_slots > 0 {
            let uses = plural(self.intake.unknown_slots, "use");
            self.warn(format!(
                "slots used before they were assigned were taken as null ({uses})"
            ));
        }
        if self.intake.times_mixed {
            self.warn("only some lines have time stamps: none was kept".to_owned());
        }
        self.intake.events.flush()?;
        let notes = self.notes();
        let mut origin = self.origin;
        origin.format = self.grammar.format(self.pointers);
        origin.notes.extend(notes);
        origin.dropped_lines = self.dropped.lines;
        origin.dropped_examples = self.dropped.examples;
        Ok(origin)
    }

    /// Tells of an input that is not as it should be.
    fn warn(&mut self, message: String) {
        self.origin.warnings.push(message);
    }

    fn nothing_left(&self) -> String {
        if let (Some(process), true) = (self.options.process, self.operations == 0)
            && !self.others.is_empty()
        {
            let named = self.processes_named(None);
            return format!("no line of process {process}; the log holds {named}");
        }
        match self.dropped.examples.first() {
            Some(example) => format!(
                "no allocator operation is left: {}; {example}",
                plural(self.dropped.lines, "bad line")
            ),
            None => "the trace holds no allocator operation".to_owned(),
        }
    }

    /// Whether the file holds what the header of a `.rep` announces.
    fn broken_promise(&self) -> Option<String> {
        if self.grammar != Grammar::Rep {
            return None;
        }
        let found = rep::Promise {
            blocks: self.intake.pointer_count(),
            operations: self.operations,
        };
        let promise = self.header.promise()?;
        (promise != found).then(|| {
            format!(
                "the header announces {} and {}, the file has {} and {}: it is truncated or \
                 altered",
                plural(promise.blocks, "block"),
                plural(promise.operations, "operation"),
                found.blocks,
                found.operations
            )
        })
    }

    fn notes(&self) -> Vec<String> {
        let mut notes: Vec<String> = self.grammar.note().map(str::to_owned).into_iter().collect();
        if self.grammar == Grammar::Logalloc && self.threadless {
            notes.push("lines without a thread number count as the process's first thread".into());
        }
        if self.options.process.is_some() && !self.others.is_empty() {
            let named = self.processes_named(None);
            notes.push(format!("lines of other processes were left out: {named}"));
        }
        notes
    }
}

/// An error as a warning about a file that is named elsewhere.
fn without_path(error: Error) -> String {
    match error {
        Error::Line { line, message, .. } => format!("line {line}: {message}"),
        Error::File { message, .. } => message,
        other => other.to_string(),
    }
}

fn name(pointer: u64, pointers: Pointers, grammar: Grammar) -> String {
    match grammar {
        Grammar::Rep => format!("block {}", pointer - 1),
        _ if pointers.slots => format!("#{pointer}"),
        _ => format!("{pointer:#x}"),
    }
}
