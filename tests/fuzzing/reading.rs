//! The properties of reading: whatever the bytes are, they are read or refused; no panic, memory within
//! a bound, every refusal names its place, and what is handed on is a trace.

use std::path::Path;

use mymalloc::error::{Error, Result};
use mymalloc::trace::builder::TraceBuilder;
use mymalloc::trace::stream::{BATCH_EVENTS, Batch, Ending, EventSink};
use mymalloc::trace::tools::guarantees::Guarantees;
use mymalloc::trace::{Origin, ReadOptions, Trace, read_bytes};

use super::memory::peak_of;

/// What the file is called in messages.
pub(crate) const NAME: &str = "t";

/// The heap that reading may take. The largest part of it are the columns of one chunk of the binary
/// format; beside that, live blocks and the tables of a heaptrack file.
pub(crate) const HEAP_BYTES_MAX: u64 = 512 << 20;

/// Events after which the sink has enough: a small packed file can hold billions.
const EVENTS_MAX: u64 = 1 << 20;

/// Events that are kept, to be compared and used.
const KEPT_MAX: u64 = 1 << 16;

pub(crate) const STRICT: ReadOptions = ReadOptions {
    lenient: false,
    process: None,
    progress: false,
    interrupted: None,
};

pub(crate) const LENIENT: ReadOptions = ReadOptions {
    lenient: true,
    ..STRICT
};

/// How reading ended.
pub(crate) enum Outcome {
    /// The whole trace, and how it was read.
    Whole(Box<Trace>),
    /// It has more events than are kept.
    Long,
    /// The message.
    Refused(String),
}

impl Outcome {
    pub(crate) fn whole(&self) -> Option<&Trace> {
        match self {
            Self::Whole(trace) => Some(trace),
            _ => None,
        }
    }
}

/// Reads the bytes strictly and leniently and checks what must hold of both.
pub(crate) fn check(bytes: &[u8]) -> (Outcome, Outcome) {
    let strict = read(bytes, &STRICT);
    let lenient = read(bytes, &LENIENT);
    match (&strict, &lenient) {
        (Outcome::Whole(strict), Outcome::Whole(lenient)) => {
            assert!(
                same_events(strict, lenient),
                "lenient reading of a good file is strict reading"
            );
            assert_eq!(
                lenient.origin().dropped_lines,
                strict.origin().dropped_lines
            );
        }
        (Outcome::Long, Outcome::Long) | (Outcome::Refused(_), _) => {}
        _ => panic!("lenient reading does not take what strict reading takes"),
    }
    (strict, lenient)
}

/// Events with all that belongs to them.
pub(crate) fn same_events(one: &Trace, other: &Trace) -> bool {
    one.events() == other.events()
        && one.times_ns() == other.times_ns()
        && one.sites() == other.sites()
        && one.site_names() == other.site_names()
}

/// Reads the bytes as the file [`NAME`] and checks what must hold.
pub(crate) fn read(bytes: &[u8], options: &ReadOptions) -> Outcome {
    let mut sink = Sink::new();
    let (ending, peak) = peak_of(|| read_bytes(Path::new(NAME), bytes, options, &mut sink));
    assert!(
        peak <= HEAP_BYTES_MAX,
        "{} MiB of the heap for {} bytes",
        peak >> 20,
        bytes.len()
    );
    match ending {
        Ok(ending) => sink.whole(ending),
        Err(_) if sink.has_enough => Outcome::Long,
        Err(error) => Outcome::Refused(told(&error)),
    }
}

/// Takes what a reader hands on and holds it to what readers guarantee.
struct Sink {
    guarantees: Guarantees,
    kept: Option<TraceBuilder>,
    has_enough: bool,
}

impl Sink {
    fn new() -> Self {
        Self {
            guarantees: Guarantees::new(),
            kept: Some(TraceBuilder::new(Origin::generated("", Vec::new()))),
            has_enough: false,
        }
    }

    fn whole(self, ending: Ending) -> Outcome {
        let broken = self.guarantees.incomplete();
        assert!(broken.is_empty(), "{broken:?}");
        let Some(builder) = self.kept else {
            return Outcome::Long;
        };
        let trace = builder.finish_as(ending);
        assert!(
            trace.counts().operations() > 0,
            "a trace that was read has an operation"
        );
        Outcome::Whole(Box::new(trace))
    }
}

impl EventSink for Sink {
    fn take(&mut self, batch: &Batch) -> Result<()> {
        let events = batch.events.len();
        assert!(
            (1..=BATCH_EVENTS).contains(&events),
            "a batch of {events} events"
        );
        for (what, count) in [
            ("times", batch.times_ns.len()),
            ("sites", batch.sites.len()),
        ] {
            assert!(count == 0 || count == events, "{count} {what} of {events}");
        }
        if let Err(broken) = self.guarantees.take(batch) {
            panic!("{broken}");
        }
        if self.guarantees.events() > KEPT_MAX {
            self.kept = None;
        }
        if let Some(kept) = &mut self.kept {
            kept.take(batch)?;
        }
        if self.guarantees.events() > EVENTS_MAX {
            self.has_enough = true;
            return Err(Error::Failed("enough".to_owned()));
        }
        Ok(())
    }
}

/// What may be said of a file as a whole: there is no one place where it is wrong.
const OF_THE_WHOLE: &[&str] = &[
    "the file is empty",
    "the file holds blank lines only",
    "the trace holds no allocator operation",
    "no allocator operation is left",
    "the file ends inside its opening block",
    "stream ends early: the file is truncated",
    "stream is damaged: ",
    "trailing data after the gzip stream",
    "the zip archive ",
    "in the zip archive",
    "the header announces ",
    "its last line announces ",
    "the line \"# end\" is missing behind ",
    "the file announces ",
    "a recorder's file that is cut off in its header",
    "a recorder's file of version ",
    "of the binary format, expected ",
    "is read as a plain file: unpack this ",
    "what the file says of its trace cannot be understood",
    "the \"# meta\" lines are damaged",
    "more than 2^32 - 2 events",
    "is larger than 1 GiB",
    "is missing, the first of them number ",
    "are missing, the first of them number ",
];

/// The message of an error, which must be one short line that names the file and the place in it.
fn told(error: &Error) -> String {
    let message = error.to_string();
    assert!(message.starts_with("t:"), "{message:?}");
    assert!(!message.chars().any(char::is_control), "{message:?}");
    assert!(message.len() < 600, "{message:?}");
    let placed = match error {
        Error::Line { line, .. } => *line > 0,
        Error::File { message, .. } => {
            names_a_place(message) || OF_THE_WHOLE.iter().any(|said| message.contains(said))
        }
        _ => false,
    };
    assert!(placed, "no place: {message:?}");
    assert_eq!(error.exit_code(), 1, "{message:?}");
    message
}

/// Whether a number of a byte, an event or a record stands in a message.
fn names_a_place(message: &str) -> bool {
    ["byte ", "event ", "record ", "line "].iter().any(|what| {
        message.match_indices(what).any(|(at, _)| {
            let behind = message[at + what.len()..].chars().next();
            behind.is_some_and(|digit| digit.is_ascii_digit())
        })
    })
}
