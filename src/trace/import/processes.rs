//! Keeps one process of a log that may hold several.

use std::collections::BTreeMap;

use super::fault::Fault;

/// Processes named in a message.
const NAMED: usize = 8;

/// Which process is kept, and which others were met.
pub(super) struct Processes {
    /// Asked for by the user.
    chosen: bool,
    /// The process whose lines are kept.
    kept: Option<u64>,
    /// Others, and how many records they have.
    others: BTreeMap<u64, u64>,
}

impl Processes {
    /// Keeps the process that was asked for, or the first one met.
    pub(super) fn new(chosen: Option<u64>) -> Self {
        Self {
            chosen: chosen.is_some(),
            kept: chosen,
            others: BTreeMap::new(),
        }
    }

    /// Whether a record of this process is kept.
    #[inline]
    pub(super) fn keeps(&mut self, process: Option<u64>) -> Result<bool, Fault> {
        if self.kept == process {
            return Ok(true);
        }
        if self.kept.is_none() {
            self.kept = process;
            return Ok(true);
        }
        let process = process.unwrap_or(0);
        self.count(process);
        if self.chosen {
            Ok(false)
        } else {
            Err(Fault::OtherProcess(process))
        }
    }

    /// Whether a record would be kept, without counting it.
    pub(super) fn would_keep(&self, process: Option<u64>) -> bool {
        self.kept == process
    }

    /// Remembers another process. Returns whether as many are known as are ever named.
    pub(super) fn count(&mut self, process: u64) -> bool {
        if self.others.len() < NAMED || self.others.contains_key(&process) {
            *self.others.entry(process).or_default() += 1;
        }
        self.others.len() == NAMED
    }

    /// What was left out because another process was asked for.
    pub(super) fn left_out(&self) -> Option<String> {
        (self.chosen && !self.others.is_empty()).then(|| self.named(false))
    }

    /// The processes met, with the one that is kept or without it.
    pub(super) fn named(&self, with_kept: bool) -> String {
        let kept = self.kept.filter(|_| with_kept);
        let mut names: Vec<String> = kept
            .iter()
            .chain(self.others.keys())
            .map(u64::to_string)
            .collect();
        if self.others.len() == NAMED {
            names.push("...".to_owned());
        }
        names.join(", ")
    }
}
