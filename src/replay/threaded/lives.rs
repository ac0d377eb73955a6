//! When which thread of a trace is made, by whom, and when it ends. The rule stands in `compile`.

#![forbid(unsafe_code)]

use std::collections::VecDeque;

use rustc_hash::FxHashMap;

use crate::trace::{Event, Trace};

/// The making of a thread.
#[derive(Clone, Copy, Debug)]
pub(super) struct Birth {
    pub(super) thread: u32,
    pub(super) maker: u32,
    /// Maker's last event before.
    pub(super) maker_event: u32,
    pub(super) place: u32,
    /// The thread that had the place.
    pub(super) predecessor: Option<u32>,
}

/// When which thread is made and ends.
pub(super) struct Lives {
    pub(super) first_thread: u32,
    /// Last event of each thread.
    pub(super) last: Vec<Option<u32>>,
    /// In order, by the new thread's first event.
    pub(super) births: Vec<(u32, Birth)>,
    pub(super) places: u32,
}

impl Lives {
    pub(super) fn of(trace: &Trace) -> Self {
        let threads = trace.thread_count() as usize;
        let mut last = vec![None; threads];
        for (index, event) in trace.events().iter().enumerate() {
            last[event.thread.0 as usize] = Some(index as u32);
        }
        let places = alive_peak(trace.events(), &last);
        let first_thread = trace.events().first().map_or(0, |event| event.thread.0);
        let mut lives = Self {
            first_thread,
            last,
            births: Vec::new(),
            places,
        };
        lives.find_births(trace.events());
        lives
    }

    /// The event at which a thread ends.
    pub(super) fn end_of(&self, thread: u32) -> u32 {
        self.last[thread as usize].expect("threads that are made have events")
    }

    fn find_births(&mut self, events: &[Event]) {
        // Vacant places and who had them, the longest vacant first.
        let mut vacant: VecDeque<(u32, Option<u32>)> =
            (0..self.places).map(|place| (place, None)).collect();
        // Alive threads: place and latest event.
        let mut alive: FxHashMap<u32, (u32, u32)> = FxHashMap::default();
        let mut latest_of_first = 0;
        for (index, event) in (0_u32..).zip(events) {
            let thread = event.thread.0;
            if let Some(life) = alive.get_mut(&thread) {
                life.1 = index;
            } else {
                let (place, predecessor) = vacant
                    .pop_front()
                    .expect("as many places as threads alive at once");
                if index > 0 {
                    let maker = alive
                        .iter()
                        .map(|(thread, (_, latest))| (*latest, *thread))
                        .max()
                        .unwrap_or((latest_of_first, self.first_thread));
                    let birth = Birth {
                        thread,
                        maker: maker.1,
                        maker_event: maker.0,
                        place,
                        predecessor,
                    };
                    self.births.push((index, birth));
                }
                alive.insert(thread, (place, index));
            }
            if thread == self.first_thread {
                latest_of_first = index;
            }
            if self.last[thread as usize] == Some(index)
                && let Some((place, _)) = alive.remove(&thread)
            {
                vacant.push_back((place, Some(thread)));
            }
        }
    }
}

/// Most threads between their first and last event at once.
fn alive_peak(events: &[Event], last: &[Option<u32>]) -> u32 {
    let mut seen = vec![false; last.len()];
    let (mut alive, mut peak) = (0, 0);
    for (index, event) in (0_u32..).zip(events) {
        let thread = event.thread.0 as usize;
        if !std::mem::replace(&mut seen[thread], true) {
            alive += 1;
            peak = peak.max(alive);
        }
        if last[thread] == Some(index) {
            alive -= 1;
        }
    }
    peak
}
