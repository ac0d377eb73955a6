//! Counts the lines that were not used, and keeps the first few.

/// Dropped lines that are shown.
const EXAMPLES: usize = 5;

/// Lines that were not used.
#[derive(Default)]
pub(super) struct Dropped {
    /// How many.
    pub(super) lines: u64,
    /// The first few, each as an error would have told it.
    pub(super) examples: Vec<String>,
}

impl Dropped {
    /// One more. Its explanation is asked for only if it is shown.
    pub(super) fn add(&mut self, line: u64, explain: impl FnOnce() -> String) {
        self.lines += 1;
        if self.examples.len() < EXAMPLES {
            self.examples.push(format!("line {line}: {}", explain()));
        }
    }
}
