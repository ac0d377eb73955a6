//! The loop over a file's lines: hands each to the grammar's parser, keeps one process, and decides
//! what a bad line means: the end (strict) or one more on the count (lenient).

use std::path::Path;

use super::detect::detect;
use super::dropped::Dropped;
use super::fault::{Fault, show};
use super::grammar::{Closing, LineGrammar, LineParser};
use super::intake::{Intake, Rules};
use super::processes::Processes;
use super::refusal::refuse;
use super::{ReadOptions, Record, bytes};
use crate::error::{Error, Result};
use crate::trace::input::{self, Line, Lines, Opening};
use crate::trace::stream::{Ending, EventSink};
use crate::trace::{Origin, plural};

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
        let rules = Rules {
            mixed_times: options.lenient,
            ..parser.rules()
        };
        Ok(Self {
            options,
            grammar,
            parser,
            records: Vec::new(),
            intake: Intake::new(sink, rules),
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
            let Err(fault) = self.take(text, line) else {
                self.intake.events.flush_full()?;
                continue;
            };
            let (number, parser) = (line.number, &mut *self.parser);
            let explain =
                || fault.explain(&show(text, line.overlong), |pointer| parser.name(pointer));
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
    fn take(&mut self, text: &[u8], line: Line) -> std::result::Result<(), Fault> {
        let number = line.number;
        self.records.clear();
        if line.overlong {
            self.parser.overlong(text, number, &mut self.records)?;
        } else {
            let parsed = self.parser.line(text, number, &mut self.records);
            parsed.map_err(Fault::Syntax)?;
        }
        for record in &self.records {
            if !self.processes.keeps(record.process)? {
                continue;
            }
            self.taken += 1;
            match self.intake.take(record, number) {
                Err(Fault::NotLive {
                    freed_line: None, ..
                }) if self.options.lenient && self.parser.unassigned_is_null() => {
                    self.intake.rules.unknown_slot_is_null = true;
                    self.intake.take(record, number)?;
                }
                taken => taken?,
            }
        }
        Ok(())
    }

    /// What can be judged only at the end.
    fn finish(mut self, lines: &mut Lines) -> Result<Ending> {
        match lines.take_trailing() {
            Some(error) if !self.options.lenient => return Err(error),
            Some(error) => self.warnings.push(without_path(error)),
            None => {}
        }
        let path = lines.path();
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

/// An error as a warning about a file that is named elsewhere.
fn without_path(error: Error) -> String {
    match error {
        Error::Line { line, message, .. } => format!("line {line}: {message}"),
        Error::File { message, .. } => message,
        other => other.to_string(),
    }
}
