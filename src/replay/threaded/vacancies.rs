//! Slots that are vacant while a program for several threads is compiled, and who may use which.
//!
//! Each place of a thread has a store of its own, from which its threads take what they vacated last.
//! When that is empty they take what any thread vacated before the operation that they know everything
//! to be done before. Each store is ascending by event, so that the oldest vacancy of all is found by
//! looking at the fronts only, in the order in which they came.

#![forbid(unsafe_code)]

use std::collections::VecDeque;

/// Slots by which the table is enlarged: two cache lines of pointers, as processors fetch them.
pub(super) const SLOTS_AT_ONCE: u32 = 16;

/// One place's slots.
#[derive(Clone, Debug, Default)]
struct Store {
    /// The event that vacated each, and the slot; ascending.
    vacated: VecDeque<(u32, u32)>,
    /// Never used so far.
    fresh: Vec<u32>,
}

/// See the module text.
#[derive(Debug)]
pub(super) struct Vacancies {
    stores: Vec<Store>,
    /// Event and place of each vacancy, ascending; also of some that are taken already.
    oldest: VecDeque<(u32, u32)>,
    /// Vacancies in all stores.
    count: usize,
}

impl Vacancies {
    pub(super) fn new(places: u32) -> Self {
        Self {
            stores: vec![Store::default(); places.max(1) as usize],
            oldest: VecDeque::new(),
            count: 0,
        }
    }

    /// A thread on the place has vacated the slot with that event.
    pub(super) fn vacate(&mut self, place: u32, event: u32, slot: u32) {
        self.stores[place as usize].vacated.push_back((event, slot));
        self.oldest.push_back((event, place));
        self.count += 1;
        // Entries of what is taken by now must not pile up.
        if self.oldest.len() > 2 * self.count + 1024 {
            let stores = &self.stores;
            self.oldest.retain(|(event, place)| {
                let vacated = &stores[*place as usize].vacated;
                vacated.binary_search_by_key(event, |entry| entry.0).is_ok()
            });
        }
    }

    /// A slot for a thread on the place that knows everything before `horizon` to be done.
    pub(super) fn take(&mut self, place: u32, horizon: u32) -> Option<u32> {
        let own = &mut self.stores[place as usize];
        if let Some((_, slot)) = own.vacated.pop_back() {
            self.count -= 1;
            return Some(slot);
        }
        if let Some(slot) = own.fresh.pop() {
            return Some(slot);
        }
        while let Some((event, place)) = self.oldest.front().copied() {
            let vacated = &mut self.stores[place as usize].vacated;
            match vacated.front() {
                Some((oldest, slot)) if *oldest == event => {
                    if event >= horizon {
                        return None;
                    }
                    let slot = *slot;
                    vacated.pop_front();
                    self.oldest.pop_front();
                    self.count -= 1;
                    return Some(slot);
                }
                // Taken by its own place's threads.
                _ => self.oldest.pop_front(),
            };
        }
        None
    }

    /// The place gets new slots, from `first` on; the first of them is used at once.
    pub(super) fn enlarge(&mut self, place: u32, first: u32) {
        let rest = (first + 1..first + SLOTS_AT_ONCE).rev();
        self.stores[place as usize].fresh.extend(rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_vacated_is_taken_once_it_is_known_to_be_done() {
        let mut vacancies = Vacancies::new(3);
        for (place, event) in [(1, 10), (2, 11), (1, 12)] {
            vacancies.vacate(place, event, 100 + event);
        }
        assert_eq!(vacancies.take(0, 10), None, "not known to be done");
        assert_eq!(vacancies.take(1, 0), Some(112), "its own, the last first");
        assert_eq!(vacancies.take(0, 11), Some(110));
        assert_eq!(vacancies.take(0, 11), None);
        assert_eq!(vacancies.take(0, 12), Some(111));
        assert_eq!(vacancies.take(0, u32::MAX), None, "all are taken");
        vacancies.enlarge(0, 1);
        assert_eq!(vacancies.take(0, 0), Some(2));
    }

    #[test]
    fn entries_of_what_is_taken_do_not_pile_up() {
        let mut vacancies = Vacancies::new(2);
        vacancies.vacate(0, 0, 7);
        for event in 1..100_000 {
            vacancies.vacate(1, event, event);
            assert_eq!(vacancies.take(1, 0), Some(event));
        }
        assert!(vacancies.oldest.len() < 2_000, "{}", vacancies.oldest.len());
        assert_eq!(vacancies.take(1, 1), Some(7));
    }
}
