//! Totals by thread, and threads over time.

#![forbid(unsafe_code)]

use std::cmp::Reverse;

use serde::Serialize;

use crate::trace::Event;
use crate::trace::profile::{LivePoint, Step, spans_at};

/// What a thread did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ThreadTotals {
    /// Its number, from 0, in the order of first appearance.
    pub thread: u32,
    /// Number of its first event.
    pub first_event: u64,
    /// Number of its last event.
    pub last_event: u64,
    /// Its events.
    pub events: u64,
    /// Blocks it allocated.
    pub allocations: u64,
    /// Bytes it requested.
    pub requested_bytes: u64,
    /// Blocks it freed or reallocated.
    pub frees: u64,
    /// Of those, blocks that another thread had allocated.
    pub frees_of_others: u64,
    /// Blocks it allocated that another thread freed or reallocated.
    pub freed_by_others: u64,
}

/// Threads between their first and last event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ThreadsPoint {
    /// Number of events so far.
    pub event: u64,
    /// Threads.
    pub threads: u32,
}

/// Counts by thread.
#[derive(Default)]
pub(super) struct Threads {
    totals: Vec<ThreadTotals>,
}

impl Threads {
    #[inline]
    pub(super) fn add(&mut self, event: &Event, step: &Step) {
        let place = event.thread.0 as usize;
        if place >= self.totals.len() {
            self.totals.resize(place + 1, ThreadTotals::default());
        }
        let thread = &mut self.totals[place];
        thread.events += 1;
        if let Some(new) = &step.begun {
            thread.allocations += 1;
            thread.requested_bytes = thread.requested_bytes.saturating_add(new.bytes);
        }
        if let Some(old) = &step.ended {
            thread.frees += 1;
            if old.thread != event.thread {
                thread.frees_of_others += 1;
                self.totals[old.thread.0 as usize].freed_by_others += 1;
            }
        }
    }

    /// The threads with the most events, those first.
    pub(super) fn most_active(
        self,
        spans: &[Option<(u64, u64)>],
        most: usize,
    ) -> Vec<ThreadTotals> {
        let mut totals = self.totals;
        for ((number, thread), span) in (0_u32..).zip(&mut totals).zip(spans) {
            thread.thread = number;
            (thread.first_event, thread.last_event) = span.unwrap_or_default();
        }
        totals.sort_by_key(|thread| (Reverse(thread.events), thread.thread));
        totals.truncate(most);
        totals
    }
}

/// Threads at the points of the live bytes' curve.
pub(super) fn curve(spans: &[Option<(u64, u64)>], points: &[LivePoint]) -> Vec<ThreadsPoint> {
    // A point stands after its event, whose number is one less.
    let threads = spans_at(spans, points.iter().map(|point| point.event - 1));
    let points = points.iter().zip(threads);
    points
        .map(|(point, threads)| ThreadsPoint {
            event: point.event,
            threads,
        })
        .collect()
}
