//! Churn by size class: how much passes through each, and how much is live in it at most.

#![forbid(unsafe_code)]

use serde::Serialize;

use crate::trace::tools::size_classes;

/// What passed through a class of [`size_classes`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ClassChurn {
    /// Smallest request of the class.
    pub low_bytes: u64,
    /// Largest request of the class.
    pub high_bytes: u64,
    /// Blocks allocated.
    pub allocations: u64,
    /// Blocks freed, by `realloc` too.
    pub frees: u64,
    /// Bytes requested by those allocations: what the class turned over.
    pub requested_bytes: u64,
    /// Most blocks live at once.
    pub live_blocks_peak: u64,
    /// Most bytes live at once.
    pub live_bytes_peak: u64,
    /// Bytes never freed.
    pub live_bytes_end: u64,
}

/// Counts by class.
pub(super) struct Churn {
    classes: Vec<ClassChurn>,
}

impl Default for Churn {
    fn default() -> Self {
        let class = |class| {
            let (low_bytes, high_bytes) = size_classes::bounds(class);
            ClassChurn {
                low_bytes,
                high_bytes,
                ..ClassChurn::default()
            }
        };
        Self {
            classes: (0..size_classes::CLASSES).map(class).collect(),
        }
    }
}

impl Churn {
    #[inline]
    pub(super) fn begin(&mut self, bytes: u64) {
        let class = &mut self.classes[size_classes::of(bytes)];
        class.allocations += 1;
        class.requested_bytes = class.requested_bytes.saturating_add(bytes);
        class.live_bytes_end = class.live_bytes_end.saturating_add(bytes);
        class.live_bytes_peak = class.live_bytes_peak.max(class.live_bytes_end);
        let live_blocks = class.allocations - class.frees;
        class.live_blocks_peak = class.live_blocks_peak.max(live_blocks);
    }

    #[inline]
    pub(super) fn end(&mut self, bytes: u64) {
        let class = &mut self.classes[size_classes::of(bytes)];
        class.frees += 1;
        class.live_bytes_end = class.live_bytes_end.saturating_sub(bytes);
    }

    pub(super) fn finish(self) -> Vec<ClassChurn> {
        let mut classes = self.classes;
        classes.retain(|class| class.allocations > 0);
        classes
    }
}
