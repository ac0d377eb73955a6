//! The header of a recorder's file, checked and in plain types.

#![forbid(unsafe_code)]

use crate::trace::wire::{
    MAGIC, TOUCHED_CLASSES, UNIT_BYTES, VERSION, WINDOW_COPYING, WINDOW_FREE, WINDOW_NONE,
    WINDOWS_MAX, header as at, touched_class_bytes, window_mark_parts, window_place_parts,
    window_state_parts,
};
use crate::trace::{Recording, TouchedBlocks};

/// Bytes of [`MAGIC`] that every version shares; the last tells the layout's.
const FAMILY_BYTES: usize = 7;

/// Whether a file is a recorder's, of whatever version.
pub(super) fn recognises(head: &[u8]) -> bool {
    head.starts_with(&MAGIC[..FAMILY_BYTES])
}

/// What a file says of itself and of the process that wrote it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) flags: u32,
    pub(crate) process: u32,
    pub(crate) parent: u32,
    pub(crate) image: u64,
    pub(crate) start_ticks: u64,
    pub(crate) began_realtime_ns: u64,
    pub(crate) began_monotonic_ns: u64,
    pub(crate) ended_monotonic_ns: u64,
    pub(crate) file_bytes: u64,
    pub(crate) unrecorded_calls: u64,
    pub(crate) usable_size_calls: u64,
    pub(crate) threads: u64,
    pub(crate) stopped: u32,
    pub(crate) stopped_errno: u32,
    pub(crate) page_bytes: u64,
    /// Forked processes that should have been recorded and had no file made.
    pub(crate) lost_children: u32,
    /// The system's error number of the last of them.
    pub(crate) lost_children_errno: u32,
    pub(crate) program: String,
    pub(crate) allocator: String,
    pub(crate) c_library: String,
    pub(crate) command_line: Vec<String>,
    windows: Vec<Window>,
    touched: Vec<TouchedBlocks>,
}

/// A chunk that is used again and again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Window {
    offset: u64,
    /// How often it was copied.
    turn: u64,
    state: u64,
}

impl Window {
    fn parse(bytes: &[u8]) -> Self {
        let (turn, state) = window_state_parts(wide(bytes, 0));
        Self {
            offset: window_place_parts(wide(bytes, 8)).0,
            turn,
            state,
        }
    }
}

impl Header {
    /// The header of a file that begins with `bytes`.
    ///
    /// # Errors
    /// It is cut off, or of another version.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        if !recognises(bytes) {
            return Err("not a recorder's file".to_owned());
        }
        if bytes.len() < UNIT_BYTES {
            return Err(format!(
                "a recorder's file that is cut off in its header: {} bytes of {UNIT_BYTES}",
                bytes.len()
            ));
        }
        let version = narrow(bytes, at::VERSION);
        if !bytes.starts_with(&MAGIC) || version != VERSION {
            return Err(format!(
                "a recorder's file of version {version}, and this program reads version {VERSION}: \
                 use the mymalloc that recorded it"
            ));
        }
        let command_line = &bytes[at::COMMAND_LINE..][..at::COMMAND_LINE_BYTES];
        Ok(Self {
            flags: narrow(bytes, at::FLAGS),
            process: narrow(bytes, at::PROCESS),
            parent: narrow(bytes, at::PARENT),
            image: wide(bytes, at::IMAGE),
            start_ticks: wide(bytes, at::PROCESS_START_TICKS),
            began_realtime_ns: wide(bytes, at::BEGAN_REALTIME_NS),
            began_monotonic_ns: wide(bytes, at::BEGAN_MONOTONIC_NS),
            ended_monotonic_ns: wide(bytes, at::ENDED_MONOTONIC_NS),
            file_bytes: wide(bytes, at::FILE_BYTES),
            unrecorded_calls: wide(bytes, at::UNRECORDED_CALLS),
            usable_size_calls: wide(bytes, at::USABLE_SIZE_CALLS),
            threads: wide(bytes, at::THREADS),
            stopped: narrow(bytes, at::STOPPED),
            stopped_errno: narrow(bytes, at::STOPPED_ERRNO),
            page_bytes: wide(bytes, at::PAGE_BYTES),
            lost_children: narrow(bytes, at::LOST_CHILDREN),
            lost_children_errno: narrow(bytes, at::LOST_CHILDREN_ERRNO),
            program: text(&bytes[at::PROGRAM..][..at::PROGRAM_BYTES]),
            allocator: text(&bytes[at::ALLOCATOR..][..at::ALLOCATOR_BYTES]),
            c_library: text(&bytes[at::C_LIBRARY..][..at::C_LIBRARY_BYTES]),
            command_line: words(command_line),
            windows: bytes[at::WINDOWS..][..WINDOWS_MAX * at::WINDOW_BYTES]
                .chunks_exact(at::WINDOW_BYTES)
                .map(Window::parse)
                .take_while(|window| window.state != WINDOW_NONE)
                .collect(),
            touched: touched(&bytes[at::TOUCHED..]),
        })
    }

    /// Whether the words of a chunk do not count: it is a window whose content was copied, or a copy that
    /// did not come to its end. `mark` is the second word of its header.
    pub(super) fn is_void(&self, offset: u64, mark: u64) -> bool {
        let Some((index, turn)) = window_mark_parts(mark) else {
            return false;
        };
        match self.windows.get(index) {
            Some(window) if window.offset == offset => window.state == WINDOW_FREE,
            Some(window) => window.turn <= turn,
            // Made, and not entered yet.
            None => true,
        }
    }

    /// Whether a window is being copied.
    pub(crate) fn is_copying(&self) -> bool {
        let mut windows = self.windows.iter();
        windows.any(|window| window.state == WINDOW_COPYING)
    }

    pub(crate) fn has(&self, flag: u32) -> bool {
        self.flags & flag != 0
    }

    /// Whether the process ended in order.
    pub(crate) fn has_ended(&self) -> bool {
        self.ended_monotonic_ns != 0
    }

    /// Whether the process that writes the file has not ended yet, as far as this system knows: a
    /// process of this number that began when the file says.
    pub(crate) fn is_process_alive(&self) -> bool {
        if self.has_ended() {
            return false;
        }
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{}/stat", self.process)) else {
            return false;
        };
        // The second field is a name in parentheses, with any characters in it.
        let Some((_, fields)) = stat.rsplit_once(") ") else {
            return false;
        };
        let mut fields = fields.split(' ');
        let state = fields.next().unwrap_or_default();
        // Fields count from 1, and this one is the third.
        let start_ticks = fields.nth(22 - 4).and_then(|field| field.parse().ok());
        !["Z", "X"].contains(&state) && start_ticks == Some(self.start_ticks)
    }

    /// Binary logarithm of an OS page, as far as it is believable.
    pub(super) fn page_log2(&self) -> u8 {
        match self.page_bytes {
            bytes if bytes.is_power_of_two() && (4096..=1 << 30).contains(&bytes) => {
                u8::try_from(bytes.trailing_zeros()).expect("at most 30")
            }
            _ => 12,
        }
    }

    /// Why recording ended before the program did.
    pub(crate) fn stopped(&self) -> Option<String> {
        let system = || std::io::Error::from_raw_os_error(self.stopped_errno.cast_signed());
        Some(match self.stopped {
            0 => return None,
            at::STOPPED_LIMIT => "the size limit was reached (--max-size)".to_owned(),
            at::STOPPED_DISK_FULL => "the disk was full".to_owned(),
            at::STOPPED_IO if self.stopped_errno != 0 => {
                format!("its file could not be written: {}", system())
            }
            at::STOPPED_IO => "its file could not be written".to_owned(),
            other => format!("reason {other}, which this version does not know"),
        })
    }

    /// What of it passes into the trace. `lost_events` is known when the file was read.
    pub(super) fn recording(&self) -> Recording {
        Recording {
            recorder: concat!("mymalloc ", env!("CARGO_PKG_VERSION")).to_owned(),
            program: self.program.clone(),
            arguments: self.command_line.iter().skip(1).cloned().collect(),
            process: self.process,
            parent: self.parent,
            began: moment(self.began_realtime_ns),
            wall_ns: match self.has_ended() {
                true => self
                    .ended_monotonic_ns
                    .saturating_sub(self.began_monotonic_ns),
                false => 0,
            },
            ended: if self.has_ended() {
                "ended by itself".to_owned()
            } else {
                "killed, or still running when this was read".to_owned()
            },
            allocator: self.allocator.clone(),
            c_library: match self.c_library.as_str() {
                "" => String::new(),
                version => format!("glibc {version}"),
            },
            page_bytes: self.page_bytes,
            unrecorded_calls: self.unrecorded_calls,
            lost_events: 0,
            usable_size_calls: self.usable_size_calls,
            stopped: self.stopped(),
            overhead_ps_per_operation: None,
            cpu_ns: None,
            touched: self.touched.clone(),
        }
    }
}

/// The classes of large blocks that occur.
fn touched(table: &[u8]) -> Vec<TouchedBlocks> {
    let classes = (0..TOUCHED_CLASSES).map(|class| TouchedBlocks {
        from_bytes: touched_class_bytes(class),
        pages: wide(table, class * at::TOUCHED_BYTES),
        touched_pages: wide(table, class * at::TOUCHED_BYTES + 8),
    });
    classes.filter(|class| class.pages > 0).collect()
}

/// RFC 3339, or nothing if that is beyond what a calendar knows.
fn moment(since_1970_ns: u64) -> String {
    jiff::Timestamp::from_nanosecond(i128::from(since_1970_ns))
        .map(|moment| format!("{moment:.3}"))
        .unwrap_or_default()
}

fn narrow(bytes: &[u8], offset: usize) -> u32 {
    let bytes = bytes[offset..offset + 4].try_into();
    u32::from_le_bytes(bytes.expect("four bytes"))
}

fn wide(bytes: &[u8], offset: usize) -> u64 {
    let bytes = bytes[offset..offset + 8].try_into();
    u64::from_le_bytes(bytes.expect("eight bytes"))
}

/// Text ended by NUL. What is no UTF-8 is shown as such.
fn text(field: &[u8]) -> String {
    let end = field.iter().position(|&byte| byte == 0);
    String::from_utf8_lossy(&field[..end.unwrap_or(field.len())]).into_owned()
}

/// Words ended by NUL each. Empty ones count, but for those that fill the field.
fn words(field: &[u8]) -> Vec<String> {
    let used = field
        .iter()
        .rposition(|&byte| byte != 0)
        .map_or(0, |at| at + 1);
    if used == 0 {
        return Vec::new();
    }
    field[..used]
        .split(|&byte| byte == 0)
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_text_end_at_nul() {
        assert_eq!(text(b"abc\0def\0"), "abc");
        assert_eq!(text(b"abc"), "abc");
        assert_eq!(words(b"sh\0-c\0\0x y\0\0\0\0"), ["sh", "-c", "", "x y"]);
        assert!(words(&[0; 16]).is_empty());
    }

    #[test]
    fn other_versions_and_pieces_are_told() {
        let mut bytes = vec![0; UNIT_BYTES];
        assert!(
            Header::parse(&bytes)
                .unwrap_err()
                .contains("not a recorder")
        );
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[at::VERSION] = 7;
        assert!(Header::parse(&bytes).unwrap_err().contains("version 7"));
        bytes[at::VERSION] = 2;
        assert!(Header::parse(&bytes).is_ok());
        assert!(
            Header::parse(&bytes[..100])
                .unwrap_err()
                .contains("100 bytes of")
        );
        // No moment is beyond the formatter.
        bytes[at::BEGAN_REALTIME_NS..][..8].copy_from_slice(&u64::MAX.to_le_bytes());
        let _ = Header::parse(&bytes).expect("sound").recording();
    }
}
