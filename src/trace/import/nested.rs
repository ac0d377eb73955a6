//! The calls that a `realloc` of DJ Delorie's glibc makes itself, with records of their own: they are
//! not the program's.

use rustc_hash::FxHashMap;

use super::Request;

/// The reallocs that may still have records to come.
#[derive(Default)]
pub(super) struct Nested {
    /// By thread: the blocks of its realloc, and how many records may still belong to it.
    reallocs: FxHashMap<u64, (u64, u64, u8)>,
}

impl Nested {
    /// Whether a call is part of the realloc before it. `divided` tells of a realloc that it became a
    /// malloc and a free.
    pub(super) fn takes(&mut self, thread: u64, divided: bool, request: Request) -> bool {
        if let Request::Realloc { old, result, .. } = request {
            if divided {
                self.reallocs.insert(thread, (old, result, 2));
            } else {
                self.reallocs.remove(&thread);
            }
            return false;
        }
        if self.reallocs.is_empty() {
            return false;
        }
        let Some((old, new, left)) = self.reallocs.get_mut(&thread) else {
            return false;
        };
        let belongs = match request {
            Request::Malloc { result, .. } => result == *new,
            Request::Free { pointer, .. } => pointer == *old,
            _ => false,
        };
        *left -= 1;
        if !belongs || *left == 0 {
            self.reallocs.remove(&thread);
        }
        belongs
    }
}
