//! Why a line cannot be taken. Small and without text of its own until somebody asks, so that
//! dropping a million lines is quick.

pub(super) use crate::trace::SIZE_BYTES_MAX;

/// Why a line cannot be taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Fault {
    /// It does not follow the grammar; what was expected.
    Syntax(&'static str),
    /// It has no end within reach.
    Overlong,
    /// It looks like none of the grammars.
    Unknown,
    /// A pointer that names no live block is freed or reallocated.
    NotLive {
        /// "free" or "realloc".
        call: &'static str,
        /// The pointer, as in the file.
        pointer: u64,
        /// The line that freed it before, if it was ever allocated.
        freed_line: Option<u32>,
    },
    /// A pointer is allocated although it still names a live block.
    StillLive {
        /// The pointer, as in the file.
        pointer: u64,
        /// The line that allocated it.
        since_line: u32,
    },
    /// A size, a count or their product is absurd.
    TooLarge(u64),
    /// An alignment is no power of two, or absurd.
    Alignment(u64),
    /// A line of a process other than the first.
    OtherProcess(u64),
    /// Some lines have time stamps and this one differs.
    MixedTimes,
    /// The trace holds as many events as it can.
    Full,
}

impl Fault {
    /// The fault in words; `found` is the line, shown safely, `name` writes a pointer as the file
    /// does.
    pub(super) fn explain(&self, found: &str, name: impl Fn(u64) -> String) -> String {
        self.explain_by("line", found, name)
    }

    /// The same, where what stands earlier in the file is no `"line"`.
    pub(super) fn explain_by(
        &self,
        earlier: &str,
        found: &str,
        name: impl Fn(u64) -> String,
    ) -> String {
        match *self {
            Self::Syntax(expected) if found.is_empty() => format!("expected {expected}"),
            Self::Syntax(expected) => format!("found {found}, expected {expected}"),
            Self::Overlong => format!(
                "found a line of more than {} bytes, {found}",
                crate::trace::input::LINE_BYTES_MAX
            ),
            Self::Unknown => format!("found {found}, which no known grammar has"),
            Self::NotLive {
                call,
                pointer,
                freed_line: None,
            } => {
                format!(
                    "{call} of {}, which was not allocated before",
                    name(pointer)
                )
            }
            Self::NotLive {
                call,
                pointer,
                freed_line: Some(line),
            } => {
                format!(
                    "{call} of {}, which {earlier} {line} freed already",
                    name(pointer)
                )
            }
            Self::StillLive {
                pointer,
                since_line,
            } => format!(
                "{} is allocated again while it is live: {earlier} {since_line} allocated it",
                name(pointer)
            ),
            Self::TooLarge(bytes) => format!(
                "a request of {} bytes, expected at most 2^47",
                if bytes == u64::MAX {
                    "2^64 or more".to_owned()
                } else {
                    bytes.to_string()
                }
            ),
            Self::Alignment(bytes) => {
                format!("alignment {bytes}, expected a power of two, at most 2^47")
            }
            Self::OtherProcess(process) => format!("a line of another process, {process}"),
            Self::MixedTimes => {
                format!("found {found}, expected time stamps on every line or on none")
            }
            Self::Full => "more events than a trace can hold (2^32 - 2)".to_owned(),
        }
    }
}

/// A line as it can be shown in one: escaped, shortened, in quotes.
pub(super) fn show(text: &[u8], shortened: bool) -> String {
    const SHOWN_BYTES: usize = 40;
    let mut shown = String::new();
    let mut push = |piece: &str| {
        let fits = shown.len() + piece.len() <= SHOWN_BYTES;
        if fits {
            shown.push_str(piece);
        }
        fits
    };
    // Text in other scripts stays readable; what is no UTF-8 or no character on paper is escaped.
    let whole = text.utf8_chunks().all(|chunk| {
        let escaped = |c: char| match c {
            '"' | '\'' => c.to_string(),
            _ => c.escape_debug().to_string(),
        };
        chunk.valid().chars().all(|c| push(&escaped(c)))
            && chunk
                .invalid()
                .iter()
                .all(|byte| push(&format!("\\x{byte:02x}")))
    });
    let dots = if shortened || !whole { "..." } else { "" };
    format!("\"{shown}{dots}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn garbage_is_shown_in_one_safe_line() {
        assert_eq!(show(b"1 1 free(#1)", false), "\"1 1 free(#1)\"");
        assert_eq!(
            show(b"\x7fELF\x02\xff\x1b[31m", false),
            "\"\\u{7f}ELF\\u{2}\\xff\\u{1b}[31m\""
        );
        let long = show(&[b'x'; 100], false);
        assert_eq!(long, format!("\"{}...\"", "x".repeat(40)));
        // What is shown is short however much escaping it takes.
        let escaped = show(&[0xff; 100], false);
        assert_eq!(escaped, format!("\"{}...\"", "\\xff".repeat(10)));
    }
}
