//! What `filter` keeps: conditions on the call that allocates a block.

#![forbid(unsafe_code)]

use rustc_hash::FxHashSet;

use super::lifetimes::LifetimeChoice;
use crate::error::{Error, Result};
use crate::trace::{Event, Operation, SiteId, plural};

/// Kinds of calls to choose by.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// `malloc`
    Malloc,
    /// `calloc`
    Calloc,
    /// `realloc`
    Realloc,
    /// `memalign` and its relatives
    Aligned,
    /// `free(NULL)`
    FreeNull,
    /// `free` of a block from before the recording
    FreeUnseen,
    /// An allocation that failed
    Failed,
    /// A mark of the recording tool
    Mark,
}

impl Kind {
    /// None for what is not chosen by itself: frees, starts and ends of threads.
    pub(super) fn of(operation: &Operation) -> Option<Self> {
        Some(match operation {
            Operation::Malloc { .. } => Self::Malloc,
            Operation::Calloc { .. } => Self::Calloc,
            Operation::Realloc { .. } => Self::Realloc,
            Operation::Aligned { .. } => Self::Aligned,
            Operation::FreeNull => Self::FreeNull,
            Operation::FreeUnseen => Self::FreeUnseen,
            Operation::FailedAllocation => Self::Failed,
            Operation::Mark => Self::Mark,
            Operation::Free { .. } | Operation::ThreadStart | Operation::ThreadEnd => return None,
        })
    }
}

/// What to keep: calls for which every condition holds. No condition, no restriction.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// One of these threads.
    pub threads: Option<FxHashSet<u32>>,
    /// At least so many bytes.
    pub bytes_min: Option<u64>,
    /// At most so many bytes.
    pub bytes_max: Option<u64>,
    /// A call site whose name holds this text, or whose number it is.
    pub site: Option<SiteChoice>,
    /// One of these kinds.
    pub kinds: Option<FxHashSet<Kind>>,
    /// A block that lives so long.
    pub lifetimes: Option<LifetimeChoice>,
    /// Keep what the conditions do not choose, instead.
    pub invert: bool,
}

/// Which call sites to keep.
#[derive(Clone, Debug)]
pub struct SiteChoice {
    /// As the user wrote it.
    pub text: String,
    /// The numbers that it means.
    pub sites: FxHashSet<u32>,
}

impl SiteChoice {
    /// The call sites whose name holds `text`, and the one whose number it is.
    ///
    /// # Errors
    /// There is none.
    pub fn of(text: &str, names: &[String]) -> Result<Self> {
        let named = (0_u32..).zip(names).filter(|(_, name)| name.contains(text));
        let mut sites: FxHashSet<u32> = named.map(|(number, _)| number).collect();
        sites.extend(text.parse::<u32>());
        if sites.is_empty() {
            let many = plural(names.len() as u64, "call site");
            return Err(Error::usage(format!(
                "no call site has a name with \"{text}\" in it, of {many}; `trace stat` lists them"
            )));
        }
        Ok(Self {
            text: text.to_owned(),
            sites,
        })
    }
}

impl Choice {
    /// Whether there is no condition.
    pub fn is_empty(&self) -> bool {
        self.threads.is_none()
            && self.bytes_min.is_none()
            && self.bytes_max.is_none()
            && self.site.is_none()
            && self.kinds.is_none()
            && self.lifetimes.is_none()
    }

    /// Whether a call that allocates, or one without a block, is kept.
    pub(super) fn keeps(&self, kind: Kind, event: &Event, site: SiteId) -> bool {
        let block = event.operation.allocates();
        let bytes = event.operation.requested_bytes();
        let sizes = (self.bytes_min, self.bytes_max);
        if block.is_none() && (sizes != (None, None) || self.lifetimes.is_some()) {
            // Neither inside nor outside of any sizes and lifetimes.
            return false;
        }
        let size = sizes.0.is_none_or(|min| bytes >= min) && sizes.1.is_none_or(|max| bytes <= max);
        let lives = match (&self.lifetimes, block) {
            (Some(choice), Some(block)) => choice.holds(block),
            _ => true,
        };
        let thread = self
            .threads
            .as_ref()
            .is_none_or(|threads| threads.contains(&event.thread.0));
        let at = self
            .site
            .as_ref()
            .is_none_or(|choice| choice.sites.contains(&site.0));
        let of_kind = self
            .kinds
            .as_ref()
            .is_none_or(|kinds| kinds.contains(&kind));
        (size && lives && thread && at && of_kind) != self.invert
    }

    /// The conditions in words.
    pub(super) fn words(&self) -> String {
        let mut words = Vec::new();
        if let Some(threads) = &self.threads {
            let mut threads: Vec<u32> = threads.iter().copied().collect();
            threads.sort_unstable();
            let numbers: Vec<String> = threads.iter().map(u32::to_string).collect();
            words.push(format!("thread {}", numbers.join(", ")));
        }
        if let Some(bytes) = self.bytes_min {
            words.push(format!("at least {bytes} bytes"));
        }
        if let Some(bytes) = self.bytes_max {
            words.push(format!("at most {bytes} bytes"));
        }
        if let Some(site) = &self.site {
            words.push(format!("call sites with \"{}\"", site.text));
        }
        if let Some(kinds) = &self.kinds {
            let mut kinds: Vec<String> = kinds.iter().map(|k| format!("{k:?}")).collect();
            kinds.sort_unstable();
            words.push(format!("calls of {}", kinds.join(", ").to_lowercase()));
        }
        if let Some(lifetimes) = &self.lifetimes {
            words.push(lifetimes.lifetime.words());
        }
        let not = if self.invert { "all but " } else { "" };
        format!("{not}{}", words.join("; "))
    }
}
