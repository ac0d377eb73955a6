//! The loop over a file's lines: hands each to the grammar's parser, keeps one process, and decides
//! what a bad line means: the end (strict) or one more on the count (lenient).

use std::path::Path;

use super::detect::detect;
use super::dropped::Dropped;
use super::fault::{Fault, show};
use super::grammar::{Closing, LineGrammar, LineParser};
use super::held::{Held, Judge};
use super::intake::{Intake, Rules};
use super::processes::Processes;
use super::refusal::{ADVICE, refuse};
use super::{ReadOptions, Record, bytes};
use crate::error::{Error, Result};
use crate::trace::input::{self, Line, Lines, Opening};
use crate::trace::stream::{Ending, EventSink};
use crate::trace::{Origin, plural};

/// Reads a trace into `sink`; see [`super::read_into`] and, if there are `bytes`,
/// [`super::read_bytes`].
pub(super) fn read_into(
    path: &Path,
    bytes: Option<&[u8]>,
    options: &ReadOptions,
    sink: &mut dyn EventSink,
) -> Result<Ending> {
    let opening = Opening {
        path,
        bytes,
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
        Reader::new(options, grammar, dropped, sink)?.run(lines)
    })?;
    ending.origin.compression = stored.compression;
    ending.origin.sha256 = stored.sha256;
    Ok(ending)
}

/// The text of a line as the grammars see it: without trailing blanks, carriage return, and the
/// byte order mark that some editors write first.
#[inline]
pub(super) fn trimmed(text: &[u8], number: u64) -> &[u8] {
    let text = if number == 1 {
        text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text)
    } else {
        text
    };
    text.trim_ascii_end()
}

struct Reader<'o> {
    options: &'o ReadOptions,
    grammar: &'static LineGrammar,
    parser: Box<dyn LineParser>,
    /// Of one line; kept for its memory.
    records: Vec<Record>,
    intake: Intake<'o>,
    /// Puts the records in order, where the grammar has them out of it.
    held: Option<Held<u64>>,
    processes: Processes,
    /// Records of the process kept.
    taken: u64,
    dropped: Dropped,
    warnings: Vec<String>,
}

impl<'o> Reader<'o> {
    fn new(
        options: &'o ReadOptions,
        grammar: &'static LineGrammar,
        dropped: Dropped,
        sink: &'o mut dyn EventSink,
    ) -> Result<Self> {
        if options.process.is_some() && !grammar.processes {
            let name = grammar.name;
            let message = format!("--process: {name} traces have no process numbers");
            return Err(Error::usage(message));
        }
        let parser = (grammar.parser)(options);
        let rules = rules(options, &*parser);
        Ok(Self {
            options,
            grammar,
            parser,
            records: Vec::new(),
            intake: Intake::new(sink, rules),
            held: grammar.late_frees.then(Held::new),
            processes: Processes::new(options.process),
            taken: 0,
            dropped,
            warnings: Vec::new(),
        })
    }

    fn run(mut self, lines: &mut Lines) -> Result<Ending> {
        loop {
            let line = match lines.next() {
                Ok(Some(line)) => line,
                Ok(None) => break,
                // A recording that was cut off is worth what it holds.
                Err(error @ (Error::File { .. } | Error::Line { .. }))
                    if self.options.lenient && self.intake.events.counts().total() > 0 =>
                {
                    self.warnings.push(without_path(error));
                    break;
                }
                Err(error) => return Err(error),
            };
            let text = trimmed(line.text, line.number);
            if text.is_empty() {
                continue;
            }
            let Err(Refused { fault, number }) = self.take(text, line) else {
                self.intake.events.flush_full()?;
                continue;
            };
            let parser = &mut *self.parser;
            // A record that was held back is of an earlier line, whose text is gone.
            let shown = || match number == line.number {
                true => show(text, line.overlong),
                false => String::new(),
            };
            let explain = || fault.explain(&shown(), |pointer| parser.name(pointer));
            if self.options.lenient && fault != Fault::Full {
                self.dropped.add(number, explain);
                continue;
            }
            let explanation = explain();
            let processes = &mut self.processes;
            return Err(refuse(fault, explanation, number, lines, parser, processes));
        }
        self.finish(lines)
    }

    /// Takes one line, or says why not.
    #[inline]
    fn take(&mut self, text: &[u8], line: Line) -> std::result::Result<(), Refused> {
        let number = line.number;
        let refused = |fault| Refused { fault, number };
        self.records.clear();
        let parsed = if line.overlong {
            self.parser.overlong(text, number, &mut self.records)
        } else {
            let parsed = self.parser.line(text, number, &mut self.records);
            parsed.map_err(Fault::Syntax)
        };
        parsed.map_err(refused)?;
        for record in &self.records {
            if !self.processes.keeps(record.process).map_err(refused)? {
                continue;
            }
            self.taken += 1;
            if let Some(held) = &mut self.held {
                let mut in_order = InOrder {
                    intake: &mut self.intake,
                    lenient: self
                        .options
                        .lenient
                        .then_some((&mut self.dropped, &*self.parser)),
                };
                held.take(&mut in_order, record, number)?;
                continue;
            }
            let taken = self.intake.take(record, number);
            if let Err(Fault::NotLive { .. } | Fault::StillLive { .. }) = taken {
                // What was read in the meantime may allow it.
                let rules = rules(self.options, &*self.parser);
                if rules != self.intake.rules {
                    self.intake.rules = rules;
                    self.intake.take(record, number).map_err(refused)?;
                    continue;
                }
            }
            taken.map_err(refused)?;
        }
        Ok(())
    }

    /// Takes what is still held back when the file has ended.
    fn take_held(&mut self, path: &Path) -> Result<()> {
        let Some(mut held) = self.held.take() else {
            return Ok(());
        };
        let mut in_order = InOrder {
            intake: &mut self.intake,
            lenient: self
                .options
                .lenient
                .then_some((&mut self.dropped, &*self.parser)),
        };
        match held.finish(&mut in_order) {
            Ok(told) => {
                self.warnings.extend(told);
                Ok(())
            }
            Err(Refused { fault, number }) => {
                let explanation = fault.explain("", |pointer| self.parser.name(pointer));
                Err(Error::line(path, number, format!("{explanation} {ADVICE}")))
            }
        }
    }

    /// What can be judged only at the end.
    fn finish(mut self, lines: &mut Lines) -> Result<Ending> {
        match lines.take_trailing() {
            Some(error) if !self.options.lenient => return Err(error),
            Some(error) => self.warnings.push(without_path(error)),
            None => {}
        }
        let path = lines.path();
        self.take_held(path)?;
        if self.intake.events.counts().operations() == 0 {
            return Err(Error::file(path, self.nothing_left()));
        }
        let mut closing = Closing {
            pointers: self.intake.pointer_count(),
            records: self.taken,
            ..Closing::default()
        };
        self.parser.finish(&mut closing);
        if let Some(message) = closing.broken {
            if !self.options.lenient {
                return Err(Error::file(
                    path,
                    format!("{message} (--lenient reads it all the same)"),
                ));
            }
            self.warnings.push(message);
        }
        self.warnings.append(&mut closing.warnings);
        self.intake.tell(&mut self.warnings);
        self.intake.events.flush()?;
        let mut notes: Vec<String> = self.grammar.notes.iter().map(|&n| n.to_owned()).collect();
        notes.append(&mut closing.notes);
        if let Some(named) = self.processes.left_out() {
            notes.push(format!("lines of other processes were left out: {named}"));
        }
        Ok(Ending {
            origin: Origin {
                source: path.display().to_string(),
                format: self.parser.format(),
                compression: Vec::new(),
                sha256: String::new(),
                dropped_lines: self.dropped.lines,
                dropped_examples: self.dropped.examples,
                notes,
                warnings: self.warnings,
                recording: None,
            },
            site_names: closing.site_names,
        })
    }

    fn nothing_left(&self) -> String {
        if let (0, Some(named)) = (self.taken, self.processes.left_out()) {
            let process = self.options.process.unwrap_or_default();
            return format!("no line of process {process}; the log holds {named}");
        }
        let made_with = self.grammar.made_with;
        match self.dropped.examples.first() {
            Some(example) => format!(
                "no allocator operation is left: {}; {example}",
                plural(self.dropped.lines, "bad line")
            ),
            None if made_with.is_empty() => "the trace holds no allocator operation".to_owned(),
            None => format!(
                "the trace holds no allocator operation; {} traces are made with `{made_with}`",
                self.grammar.name
            ),
        }
    }
}

/// A line that cannot be taken.
struct Refused {
    fault: Fault,
    number: u64,
}

/// Takes records that were put in order. They may be of earlier lines.
struct InOrder<'r, 'o> {
    intake: &'r mut Intake<'o>,
    /// What a lenient reader needs to drop a line.
    lenient: Option<(&'r mut Dropped, &'r dyn LineParser)>,
}

impl Judge for InOrder<'_, '_> {
    /// Number of the line.
    type At = u64;
    type Error = Refused;

    fn is_live(&self, pointer: u64) -> bool {
        self.intake.is_live(pointer)
    }

    fn take(&mut self, record: &Record, number: u64) -> std::result::Result<bool, Refused> {
        match (self.intake.take(record, number), &mut self.lenient) {
            (Ok(()), _) => Ok(true),
            (Err(fault), Some((dropped, parser))) if fault != Fault::Full => {
                dropped.add(number, || fault.explain("", |pointer| parser.name(pointer)));
                Ok(false)
            }
            (Err(fault), _) => Err(Refused { fault, number }),
        }
    }
}

/// What holds for the file, as far as it was read.
fn rules(options: &ReadOptions, parser: &dyn LineParser) -> Rules {
    Rules {
        mixed_times: options.lenient,
        ..parser.rules()
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
