//! Formats that are lines of text: what each is called, how it is told, and who parses it.
//!
//! A grammar is one file: a [`LineGrammar`] that says what can be said without reading, and a
//! [`LineParser`] that turns lines into records. To add one, write the file and name it in
//! [`GRAMMARS`].

use super::fault::Fault;
use super::intake::Rules;
use super::scan::Parse;
use super::{
    ReadOptions, Record, android, chattymalloc, dj_dump, heaptrack, logalloc, ltrace, memleak,
    mtrace, rep, tags, tralloc, valgrind,
};
use crate::trace::Format;

/// All of them, in the order in which they are asked for a line; the first that recognises it reads
/// the file.
static GRAMMARS: &[&LineGrammar] = &[
    &heaptrack::GRAMMAR,
    &mtrace::GRAMMAR,
    &valgrind::GRAMMAR,
    &ltrace::GRAMMAR,
    &dj_dump::GRAMMAR,
    &chattymalloc::GRAMMAR,
    &tralloc::GRAMMAR,
    &memleak::GRAMMAR,
    &tags::GRAMMAR,
    &android::GRAMMAR,
    &logalloc::GRAMMAR,
    &rep::GRAMMAR,
];

/// What is known of a grammar before a line of it is parsed.
pub(super) struct LineGrammar {
    /// What people call it.
    pub(super) name: &'static str,
    /// A line of it, for messages.
    pub(super) example: &'static str,
    /// Short enough to be written by hand: the example is shown to whoever has a file of no grammar.
    pub(super) by_hand: bool,
    /// How such a file is made, said to whoever has one without a single call of an allocator; empty
    /// if that cannot be the reason.
    pub(super) made_with: &'static str,
    /// Whether a line looks like one of this grammar, right or wrong. The line has no trailing
    /// blanks and is not empty; the flag tells whether it is the first of the file.
    pub(super) recognises: fn(&[u8], bool) -> bool,
    /// Whether its lines name processes, of which one is kept.
    pub(super) processes: bool,
    /// Whether other lines stand between its own, such as the program's output: the parser skips
    /// them, and so does whoever looks for the first line.
    pub(super) foreign_lines: bool,
    /// Whether the tool writes an allocation before the release that made room for it, if the two
    /// calls ran at the same time.
    pub(super) late_frees: bool,
    /// What such a file cannot tell, in sentences.
    pub(super) notes: &'static [&'static str],
    /// Parses one file.
    pub(super) parser: fn(&ReadOptions) -> Box<dyn LineParser>,
}

/// Parses the lines of one file, in order.
pub(super) trait LineParser {
    /// Parses a line without trailing blanks, which is not empty, and appends what it records to
    /// `out`: nothing (a header, a line of somebody else, half of a call), one record or several.
    /// A failure says what was expected; it must leave the parser fit for the next line.
    fn line(&mut self, text: &[u8], number: u64, out: &mut Vec<Record>) -> Parse<()>;

    /// The same for a line that is longer than any call, of which only the head is kept.
    fn overlong(&mut self, head: &[u8], number: u64, out: &mut Vec<Record>) -> Result<(), Fault> {
        let _ = (head, number, out);
        Err(Fault::Overlong)
    }

    /// What the grammar means by pointers that name no block, or one that is live. Asked for at the
    /// start, and again whenever such a pointer comes: it may hang on the lines read so far.
    fn rules(&self) -> Rules {
        Rules::default()
    }

    /// Whether a pointer that no line has assigned would mean null, were one lenient.
    fn unassigned_is_null(&self) -> bool {
        false
    }

    /// A pointer as the file writes it.
    fn name(&self, pointer: u64) -> String {
        format!("{pointer:#x}")
    }

    /// The format, once all lines were parsed.
    fn format(&self) -> Format;

    /// Tells what is known only at the end.
    fn finish(&mut self, closing: &mut Closing) {
        let _ = closing;
    }
}

/// What a parser adds at the end of a file.
#[derive(Default)]
pub(super) struct Closing {
    /// For the parser: different pointers that named a block.
    pub(super) pointers: u64,
    /// For the parser: records that were of the process kept.
    pub(super) records: u64,
    /// The file does not hold what it should; refused, unless one is lenient.
    pub(super) broken: Option<String>,
    /// What was read otherwise than it stands, in sentences.
    pub(super) warnings: Vec<String>,
    /// What this file cannot tell, in sentences, beside the grammar's own.
    pub(super) notes: Vec<String>,
    /// Names of the call sites, by number; empty if the grammar has none.
    pub(super) site_names: Vec<String>,
}

/// The grammar of a line, right or wrong.
pub(super) fn of(text: &[u8], first: bool) -> Option<&'static LineGrammar> {
    let mut grammars = GRAMMARS.iter().copied();
    grammars.find(|grammar| (grammar.recognises)(text, first))
}

/// The names of all grammars: first those that people write by hand, with an example.
pub(super) fn known() -> Vec<String> {
    let (by_hand, recorded): (Vec<_>, Vec<_>) =
        GRAMMARS.iter().partition(|grammar| grammar.by_hand);
    let shown = |grammar: &&LineGrammar| format!("{} (\"{}\")", grammar.name, grammar.example);
    let mut names: Vec<String> = by_hand.into_iter().map(shown).collect();
    names.extend(recorded.iter().map(|grammar| grammar.name.to_owned()));
    names
}
