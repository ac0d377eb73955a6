//! Call sites: the innermost frame of a call stack whose name is known and says something.

use rustc_hash::FxHashMap;

use crate::trace::SiteId;

/// Different names. Frames behind them are of unknown site.
const SITES_MAX: usize = 1 << 20;

/// Bytes of all names, likewise.
const NAME_BYTES_MAX: usize = 1 << 28;

/// Names of the sites, by number; number 0 is unknown.
#[derive(Default)]
pub(super) struct Sites {
    numbers: FxHashMap<Box<str>, u32>,
    name_bytes: usize,
}

/// Where a frame stands: its site, and whether its caller, if known, says more.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Place(u32);

/// The bit of "its caller says more".
const PASSED: u32 = 1 << 31;

impl Place {
    /// Nothing is known of it.
    pub(super) const UNKNOWN: Self = Self(PASSED);

    /// The call site.
    pub(super) fn site(self) -> SiteId {
        SiteId(self.0 & !PASSED)
    }

    /// The place of a call stack that has this frame inside and `outer` around it.
    pub(super) fn within(self, outer: Self) -> Self {
        let passed = self.0 & PASSED != 0 && outer.0 & !PASSED != 0;
        if passed { outer } else { self }
    }
}

impl Sites {
    /// The place of a frame, by its name.
    pub(super) fn place(&mut self, name: &str, passed: bool) -> Place {
        let number = match self.numbers.get(name) {
            Some(&number) => number,
            None if self.is_full() => return Place::UNKNOWN,
            None => {
                let number = self.numbers.len() as u32 + 1;
                self.name_bytes += name.len();
                self.numbers.insert(name.into(), number);
                number
            }
        };
        Place(number | if passed { PASSED } else { 0 })
    }

    pub(super) fn is_full(&self) -> bool {
        self.numbers.len() == SITES_MAX || self.name_bytes > NAME_BYTES_MAX
    }

    /// The names, by number.
    pub(super) fn take_names(&mut self) -> Vec<String> {
        let mut names = vec!["unknown".to_owned(); self.numbers.len() + 1];
        for (name, number) in self.numbers.drain() {
            names[number as usize] = name.into_string();
        }
        names
    }
}

/// Whether a function is C++'s `operator new`, as demangled or not. Its caller is the site.
pub(super) fn is_operator_new(function: &str) -> bool {
    ["operator new", "_Znw", "_Zna"]
        .iter()
        .any(|prefix| function.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_innermost_frame_that_says_something() {
        let mut sites = Sites::default();
        let main = sites.place("main", false);
        let new = sites.place("operator new(unsigned long)", true);
        assert_eq!(main.within(new), main);
        assert_eq!(new.within(main), main);
        assert_eq!(Place::UNKNOWN.within(main), main);
        // Better the operator than nothing.
        assert_eq!(new.within(Place::UNKNOWN), new);
        assert_eq!(Place::UNKNOWN.site(), SiteId(0));
        assert_eq!(sites.place("main", false), main);
        let names = sites.take_names();
        assert_eq!(names, ["unknown", "main", "operator new(unsigned long)"]);
        assert!(is_operator_new("_Znwm") && !is_operator_new("operator delete"));
    }
}
