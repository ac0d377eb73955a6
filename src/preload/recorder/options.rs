//! What `mymalloc record` tells the recorder, in two environment variables:
//!
//! | variable | value |
//! |---|---|
//! | `MYMALLOC_RECORD` | the folder for the files, an absolute path of at most 3,900 bytes |
//! | `MYMALLOC_RECORD_OPTIONS` | words separated by commas; may be absent |
//!
//! | word | meaning |
//! |---|---|
//! | `limit=N` | no file grows above N bytes; absent: no limit |
//! | `times` | every event carries its moment |
//! | `sites` | every event carries its return address, and `<pid>.<image>.maps` is written |
//! | `touched` | how much of large blocks is touched is counted: see `touched` |
//! | `follow` | processes that the program starts or forks are recorded too |
//! | `signal=N` | begin switched off; signal N switches on and off again |
//!
//! Words that are not known, or not well formed, are passed over: the command that sets the variables
//! is of the same build. Without the first variable nothing is recorded. Files in the folder:
//!
//! | file | what |
//! |---|---|
//! | `main` | "PID TICKS\n" of the first process (see `header::PROCESS_START_TICKS`); without `follow` only that one is recorded, and what it execs |
//! | `bell` | made by the command, if it copies windows: see `wire::bell` |
//! | `<pid>.<image>.wire` | see `trace/wire.rs`; image counts up from 0 as the process execs |
//! | `<pid>.<image>.maps` | with `sites`: copies of /proc/self/maps. Each begins with a line `= N`: it was taken when N events had been numbered |
//!
//! Imports `core` alone; the tests of the recorder include this file.

/// Name of the variable with the folder.
pub(crate) const FOLDER_VARIABLE: &str = "MYMALLOC_RECORD";
/// Name of the variable with the options.
pub(crate) const OPTIONS_VARIABLE: &str = "MYMALLOC_RECORD_OPTIONS";

/// The options, as parsed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Options {
    /// Bytes that no file exceeds.
    pub(crate) limit_bytes: u64,
    /// Every event carries its moment.
    pub(crate) times: bool,
    /// Every event carries its return address.
    pub(crate) sites: bool,
    /// How much of large blocks is touched is counted.
    pub(crate) touched: bool,
    /// Children are recorded.
    pub(crate) follow: bool,
    /// Begin switched off; this signal switches. 0: none.
    pub(crate) signal: u32,
}

impl Options {
    /// Those of an absent variable.
    pub(crate) const DEFAULT: Self = Self {
        limit_bytes: u64::MAX,
        times: false,
        sites: false,
        touched: false,
        follow: false,
        signal: 0,
    };

    /// Reads the variable's value.
    pub(crate) fn parse(text: &[u8]) -> Self {
        let mut options = Self::DEFAULT;
        for word in text.split(|&byte| byte == b',') {
            match word {
                b"times" => options.times = true,
                b"sites" => options.sites = true,
                b"touched" => options.touched = true,
                b"follow" => options.follow = true,
                _ => {
                    if let Some(number) = word.strip_prefix(b"limit=").and_then(number) {
                        options.limit_bytes = number;
                    } else if let Some(number) = word.strip_prefix(b"signal=").and_then(number)
                        && (1..=64).contains(&number)
                    {
                        options.signal = number as u32;
                    }
                }
            }
        }
        options
    }

    /// Whether more is to be done for each event than the fast way does.
    pub(crate) const fn is_detailed(&self) -> bool {
        self.times || self.sites || self.touched
    }
}

/// A decimal number and nothing else.
pub(crate) fn number(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |number, &byte| {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        number.checked_mul(10)?.checked_add(u64::from(digit))
    })
}
